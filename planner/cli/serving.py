"""The commands of serving: ``serve`` and ``size``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.asked import (
    Set,
    grouped,
    is_scenario,
    no_gpus,
    nothing_asked,
    one_place,
    one_question,
    price_table,
    refuse_launch_file,
    refuse_other_gpus,
    refuse_other_model,
    refuse_turned,
    refuse_twice,
)
from planner.cli.choices import set_fields
from planner.cli.options import RISK, Price, Provider, Risk
from planner.cli.output import check_plot, print_json, show, show_deployment, tell
from planner.cli.progress import answers_to, progress_bar
from planner.common.errors import PlannerError
from planner.common.message import Message, join_messages

if TYPE_CHECKING:
    from planner.launchfiles import Launch
    from planner.scenarios.serving import ServingScenario

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (SI units) and nothing else.")]


@dataclass(frozen=True, kw_only=True)
class Served:
    """What the command line says of the question."""

    target: Annotated[
        str, typer.Argument(metavar="[SCENARIO|MODEL]", help="A serving scenario (file or shipped name), or a model with --on.")
    ] = ""
    more: Annotated[list[str] | None, typer.Argument(metavar="", hidden=True)] = None
    launch_files: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="FILE...",
            help="The command that starts vLLM, SGLang, TensorRT-LLM or llama.cpp, also in a Compose or Kubernetes file.",
        ),
    ] = None
    on: Annotated[str | None, typer.Option("--on", metavar="GPUS", help="h100, 2xrtx-4090, dgx-h100 ...")] = None
    clients: Annotated[
        str | None, typer.Option("--clients", metavar="N", help="Clients who each wait for their answer, then ask again.")
    ] = None
    rate: Annotated[str | None, typer.Option("--rate", metavar="N", help="Requests that arrive per second: 5, 300/min.")] = None
    batch: Annotated[
        str | None, typer.Option("--batch", metavar="N", help="Sequences decoded together, when no load is given.")
    ] = None
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="N", help="Tokens of a prompt: 512, 2k.")] = None
    output: Annotated[str | None, typer.Option("--output", metavar="N", help="Tokens of an answer.")] = None
    weights: Annotated[str | None, typer.Option("--weights", help="bf16, fp8, int4-awq ...")] = None
    engine: Annotated[str | None, typer.Option("--engine", help="See planner engines list.")] = None
    ttft: Annotated[
        str | None, typer.Option("--ttft", metavar="N", help="Target for the first token, with --clients or --rate: 500ms, 2s.")
    ] = None
    tpot: Annotated[
        str | None, typer.Option("--tpot", metavar="N", help="Target for each further token, with --clients or --rate: 50ms.")
    ] = None
    price: Price = None
    provider: Provider = None
    change: Set = None

    def serving(self) -> dict[str, Any]:
        """The fields of [serving] that are given."""
        from planner.common.quantities import count, length, rate_per_s, seconds

        found = {
            "clients": None if self.clients is None else count(self.clients, "--clients"),
            "requests_per_s": None if self.rate is None else rate_per_s(self.rate, "--rate"),
            "batch": None if self.batch is None else count(self.batch, "--batch"),
            "prompt": None if self.prompt is None else length(self.prompt, "--prompt"),
            "output": None if self.output is None else length(self.output, "--output"),
            "weights": self.weights,
            "engine": self.engine,
            "ttft_target_s": None if self.ttft is None else seconds(self.ttft, "--ttft"),
            "tpot_target_s": None if self.tpot is None else seconds(self.tpot, "--tpot"),
        }
        return {name: value for name, value in found.items() if value is not None}

    def changes(self) -> dict[str, Any]:
        """What --price and --set change."""
        from planner.scenarios.serving import TABLES

        price = {f"price.{name}": value for name, value in (price_table(self.price, self.provider) or {}).items()}
        changes = set_fields(self.change, TABLES)
        refuse_twice(price | {f"serving.{name}": value for name, value in self.serving().items()}, changes)
        refuse_other_gpus([] if self.on is None else [self.on], changes)
        return price | changes

    def require_load(self, changes: dict[str, Any]) -> None:
        """PlannerError for a target of a model that nobody is said to ask."""
        loads = {f"{table}.{name}" for table in ("serving", "load") for name in ("clients", "requests_per_s")}
        for option, text in (("--ttft", self.ttft), ("--tpot", self.tpot)):
            if text is not None and loads.isdisjoint(changes):
                raise PlannerError(
                    "{0} {1}: goes with --clients or --rate; give one, too.", option, text, field=option, value=text
                )

    def refuse_several(self) -> None:
        """PlannerError for several types of GPU, which ``size`` compares."""
        from planner.hardware.asked import several_gpus

        if places := several_gpus(self.on or ""):
            raise one_place(self.target, places, "planner serve")

    def refuse_batch(self, scenario: ServingScenario) -> None:
        """PlannerError for --batch beside a load, from which follows how many sequences are at work."""
        for case in scenario.cases if self.batch is not None else ():
            for name, value in {**case.tables.get("serving", {}), **case.tables.get("load", {})}.items():
                if name in ("clients", "requests_per_s"):
                    raise PlannerError(
                        "--batch {0}: {1} = {2} says how many sequences are at work; leave one of the two out, or set a bound: "
                        "--set serving.max_batch={0}.",
                        self.batch,
                        name,
                        value,
                        field="--batch",
                        value=self.batch,
                    )

    def launch(self) -> Launch | None:
        """The launch files' question, where some are given."""
        from planner.cli.launch import launch_of

        self.refuse_several()
        if not self.launch_files:
            return None
        over = {f"serving.{name}": value for name, value in self.serving().items()} | set_fields(self.change)
        found = launch_of([self.target, *(self.more or ())], self.launch_files, self.on, over)
        if not found.serves:
            raise PlannerError(
                "--from {0}: trains; ask `planner plan --from`.", self.launch_files[0], code="usage", field="--from"
            )
        return found

    def scenario(self, launch: Launch | None = None) -> tuple[ServingScenario, tuple[str, ...]]:
        """(the question, what was taken as usual in it)."""
        if launch is not None:
            return _of_launch(launch, self.launch_files, self.changes()), ()
        if not self.target:
            raise nothing_asked(
                "give a serving scenario, a model with --on, or --from serve.sh; `planner serve --help` lists what it takes"
            )
        if self.more:
            raise one_question([self.target, *self.more], self.on, "planner serve", "--compare gives several")
        from planner.hardware.asked import cluster_table
        from planner.model.names import is_model
        from planner.scenarios.quick_serving import changed_deployment, quick_serving
        from planner.scenarios.serving import ServingCase, ServingScenario, read_serving_scenario

        changes = {f"serving.{name}": value for name, value in self.serving().items()} | self.changes()
        named_model = not is_scenario(self.target) and (self.on is not None or is_model(self.target))
        if named_model and self.on is None:
            raise no_gpus(self.target)
        if named_model and self.on is not None:
            refuse_turned(self.target, self.on)
            refuse_other_model(self.target, changes)
            self.require_load(changes)
            given = {key.partition(".")[2]: value for key, value in changes.items() if key.startswith(("serving.", "load."))}
            plain = {name: value for name, value in given.items() if f"serving.{name}" in changes and "." not in name}
            found, notes = quick_serving(self.target, self.on, plain, told={name.partition(".")[0] for name in given})
        else:
            refuse_launch_file(self.target, "serve")
            found, notes = read_serving_scenario(self.target), ()
        cluster = None if self.on is None else cluster_table(self.on)
        cases = [
            ServingCase(
                label=case.label,
                tables=changed_deployment(case.tables if cluster is None else {**case.tables, "cluster": cluster}, changes),
                where=case.where,
            )
            for case in found.cases
        ]
        return ServingScenario(title=found.title, cases=tuple(cases)), notes


def _of_launch(launch: Launch, files: list[str] | None, changes: dict[str, Any]) -> ServingScenario:
    from planner.cli.launch import launch_title
    from planner.scenarios.quick_serving import changed_deployment
    from planner.scenarios.serving import ServingCase, ServingScenario
    from planner.scenarios.tables import model_label

    tables, title = changed_deployment(launch.tables, changes), launch_title(launch, files)
    return ServingScenario(title=title, cases=(ServingCase(label=model_label(tables), tables=tables, where=title),))


@grouped(Served)
def serve_command(
    given: Served,
    as_json: AsJson = False,
    details: Annotated[
        bool, typer.Option("--details", help="Print the whole table: memory by kind, percentiles, dollars.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Also draw latency against throughput and request rate.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", metavar="OTHER", help="Another scenario, side by side; may be repeated."),
    ] = None,
) -> None:
    """Memory, latency, throughput, queueing and cost of a model that answers requests; several deployments side by side.

    \b
    planner serve gpt-oss-120b --on h100 --clients 64
    planner serve --from serve.sh --on h100 --rate 4
    """
    from planner.scenarios.serving import read_serving_scenario

    check_plot(plot)
    launch = given.launch()
    first, usual = given.scenario(launch)
    given.refuse_batch(first)
    questions = [first, *(read_serving_scenario(path) for path in compare or ())]
    cases = [case for question in questions for case in question.cases]
    title = join_messages(" | ", [question.title for question in questions])
    answers, labels = answers_to(cases, lambda case: case.serve(), quiet=as_json), [case.label for case in cases]
    if plot is not None:
        from planner.reports.serving_plots import save_serving

        save_serving(plot, title, labels, answers)
        if not as_json:
            tell(Message("wrote {0}", plot), error=True)
        for label, d in zip(labels, answers, strict=True):
            if not d.fits:
                tell(Message("not drawn: {0} does not fit: {1}", label, d.reasons[0]), error=True)
    if as_json:
        named = [{"label": label, **d.to_dict()} for label, d in zip(labels, answers, strict=True)]
        print_json({"title": title, **({} if launch is None else {"launch": launch.to_dict()}), "cases": named})
        return
    if launch is not None:
        from planner.cli.launch import show_understood

        show_understood(launch, first.cases[0].tables)
    if len(answers) == 1 and not details:
        show_deployment(title, answers[0], usual)
        return
    from planner.reports.serving import deployments_table

    show(deployments_table(title, labels, answers), *usual)


def size_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A catalog name, a .toml file, a Hugging Face config.json, or a GGUF file.")
    ],
    purpose: Annotated[str, typer.Option("--for", help="serve, lora, qlora or full (fine-tuning of all weights).")],
    as_json: AsJson = False,
    seq_len: Annotated[
        str | None,
        typer.Option(
            "--seq-len", metavar="N", help="Tokens of a request with its answer, or of a training sequence; 2048 when left out."
        ),
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="N", help="For serving: tokens of a prompt: 512, 2k.")] = None,
    output: Annotated[str | None, typer.Option("--output", metavar="N", help="For serving: tokens of an answer.")] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            help="Sequences at once: per replica (as many as the latencies allow when left out), or per GPU in training (1).",
        ),
    ] = None,
    tpot: Annotated[
        str | None, typer.Option("--tpot", metavar="N", help="For serving: most seconds per output token; 0.1 when left out.")
    ] = None,
    ttft: Annotated[
        str | None, typer.Option("--ttft", metavar="N", help="For serving: most seconds until the first token; 2 when left out.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="For serving: bf16, fp8, int4-awq ...; as stored when left out.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="For serving: sglang, llama.cpp ...; the GPU's usual one when left out.")
    ] = None,
    framework: Annotated[
        str | None, typer.Option("--framework", help="For tuning: fsdp, peft ...; the usual one when left out.")
    ] = None,
    rank: Annotated[int | None, typer.Option("--rank", help="Rank of the adapters of lora and qlora; 16 when left out.")] = None,
    headroom: Annotated[str, typer.Option("--headroom", metavar="N", help="Share of a GPU's memory to keep free besides.")] = "0",
    risk: Risk = RISK,
    max_gpus: Annotated[int, typer.Option("--max-gpus", help="Try powers of two up to this many GPUs.")] = 16,
    accelerator: Annotated[
        str | None,
        typer.Option(
            "--on", "--accelerator", metavar="GPU,...", help="Types of GPU: rtx-3090,l40s; all; those for rent when left out."
        ),
    ] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", help="Try exactly this many GPUs, such as those you have.")] = None,
    top: Annotated[
        int | None, typer.Option("--top", help="How many types of GPU to print; 30, or all that --on names. --json has all.")
    ] = None,
    price: Annotated[
        str | None,
        typer.Option("--price", help="A price term: reserved-1-year ...; for one type of GPU also dollars per GPU-hour."),
    ] = None,
    provider: Provider = None,
) -> None:
    """Find the GPUs that a model needs: the fewest of each type with room to spare, the least memory in all, the cheapest."""
    from typing import cast, get_args

    from planner.common.errors import meant
    from planner.common.quantities import length, seconds, share
    from planner.model.catalog import load_model
    from planner.reports.sizing import SHOWN, sizes_table
    from planner.studies.sizing import TPOT_S, TTFT_S, Capacity, Purpose, sizes

    purpose = meant(purpose, get_args(Purpose))
    if top is not None and top < 1:
        raise PlannerError("{0} = {1!r}: must be a whole number of at least 1.", "--top", top, field="--top", value=top)
    if rank is not None and purpose not in ("lora", "qlora"):
        raise PlannerError("--rank {0}: only --for lora and --for qlora have adapters.", rank)
    for option, value in (("--tpot", tpot), ("--ttft", ttft)):
        if value is not None and (purpose != "serve" or batch is not None):
            raise PlannerError(
                "{0} {1}: goes with --for serve, and bounds how many are served at once without --batch.", option, value
            )
    with progress_bar("GPU types", quiet=as_json) as progress:
        found = sizes(
            load_model(model),
            cast(Purpose, purpose),
            seq_len=None if seq_len is None else length(seq_len, "--seq-len"),
            prompt=None if prompt is None else length(prompt, "--prompt"),
            output=None if output is None else length(output, "--output"),
            batch=Capacity(
                tpot_s=TPOT_S if tpot is None else seconds(tpot, "--tpot"),
                ttft_s=TTFT_S if ttft is None else seconds(ttft, "--ttft"),
                value=True,
            )
            if batch is None
            else batch,
            weights=weights,
            engine=engine,
            framework=framework,
            headroom=share(headroom, "--headroom"),
            risk=share(risk, "--risk"),
            max_gpus=max_gpus,
            job=None if rank is None else {"adapter": {"rank": rank}},
            accelerator=accelerator,
            gpus=gpus,
            price=price_table(price, provider),
            progress=progress,
        )
    if as_json:
        print_json(found.to_dict())
        return
    show(sizes_table(found, SHOWN if top is None and accelerator is None else top))
