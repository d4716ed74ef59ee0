"""The command line's searches: best layouts and clusters, grids over scenario fields, limits, launch files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from planner.cli.asked import Given, Laid, grouped, is_scenario, laying, more_of_layout, other_cases, refuse_twice
from planner.cli.choices import as_choice, set_fields
from planner.cli.options import UNREAD, allowed_names, names
from planner.cli.output import tell
from planner.cli.progress import progress_bar
from planner.common.errors import PlannerError, meant
from planner.common.message import Message

if TYPE_CHECKING:
    from planner.layout_search.question import SearchQuestion
    from planner.scenarios.quick import Method
    from planner.scenarios.scenario import Case, Scenario
    from planner.studies.sweep import SweepQuestion, Variation

DISTRIBUTIONS = ("expert_shares", "expert_zipf", "expert_histogram")
"""Fields of [run] that say how full the experts are."""
STOPPED = 130
"""Exit code after Ctrl-C, with the rows found so far printed all the same."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (SI units) and nothing else.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Also write the rows: .parquet, .csv or .json.")]
Engine = Annotated[str, typer.Option("--engine", help="local (the cores of this machine) or ray.")]
Address = Annotated[str | None, typer.Option("--address", help="Address of a running Ray cluster; auto finds one.")]


def whole_numbers(text: str | None, option: str) -> list[int] | None:
    """Numbers of a list with commas.

    >>> whole_numbers("8, 16", "--gpus")
    [8, 16]
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdigit() and int(part) > 0 for part in parts):
        if any(part[:1].isalpha() for part in parts) and option == "--gpus":
            raise PlannerError(
                "{0} {1}: give whole numbers with commas between, such as 8,16,32; types of GPU stand after --accelerator.",
                option,
                text,
            )
        raise PlannerError("{0} {1}: give whole numbers with commas between, such as 8,16,32.", option, text)
    return [int(part) for part in parts]


@dataclass(frozen=True, kw_only=True)
class Sought(Given):
    """What is searched, what is best and what is ruled out."""

    on: Annotated[
        str | None,
        typer.Option("--on", metavar="GPUS,...", help="32xh100, rtx-4090 ...; of several the best: 8xh100,16xa100-80gb."),
    ] = None
    objective: Annotated[str, typer.Option("--objective", "--by", help="cost, time, memory or energy.")] = "time"
    gpus: Annotated[
        str | None, typer.Option("--gpus", metavar="N,...", help="GPU counts, separated by commas; the scenario's when left out.")
    ] = None
    accelerator: Annotated[
        str | None, typer.Option("--accelerator", metavar="GPU,...", help="Accelerators, separated by commas.")
    ] = None
    framework: Annotated[str | None, typer.Option("--framework", metavar="NAME,...", help="Frameworks, separated by commas.")] = (
        None
    )
    price: Annotated[str | None, typer.Option("--price", help="Dollars per GPU-hour, or a term: spot ...")] = None
    term: Annotated[
        str | None, typer.Option("--term", metavar="TERM,...", help="Price terms, separated by commas: on-demand, spot ...")
    ] = None
    deadline: Annotated[str | None, typer.Option("--deadline", help="The longest that the run may take, such as 14d.")] = None
    budget_usd: Annotated[
        str | None, typer.Option("--budget-usd", "--budget", metavar="N", help="The most dollars that the run may cost.")
    ] = None
    top: Annotated[int, typer.Option("--top", help="How many of the best to print.")] = 20

    def others(self) -> dict[str, dict[str, Any]]:
        """As of one question, but frameworks are a list that is searched; what --set changes needs the name of one."""
        found = {name: table for name, table in super().others().items() if name != "framework"}
        first = next(iter(names(self.framework) or ()), "")
        changed = any(text.startswith("framework.") for text in self.change or ())
        return found | ({"framework": {"name": first}} if first and changed else {})

    def places(self) -> list[str]:
        """The GPUs that --on lists; those after the first are searched besides."""
        return names(self.on) or super().places()

    def refuse_twice(self, changes: Mapping[str, Any]) -> None:
        """As of one question; and what a list of frameworks, terms, accelerators or numbers of GPUs gives."""
        super().refuse_twice(changes)
        lists = {
            "framework.name": self.framework,
            "price.term": self.term,
            "cluster.accelerator": self.accelerator,
            "cluster.num_gpus": self.gpus,
        }
        refuse_twice({name: text for name, text in lists.items() if text is not None}, changes)

    def changed(self, table: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A table of the question with what --set changes in it."""
        from planner.scenarios.quick import changed_tables

        changes = {name: value for name, value in set_fields(self.change).items() if name.startswith(f"{table}.")}
        return dict(changed_tables({table: dict(fields)}, changes)[table])

    def clusters(self) -> list[dict[str, Any]]:
        """[cluster] of each of the places."""
        from planner.hardware.asked import cluster_table

        return [self.changed("cluster", cluster_table(place)) for place in self.places()]

    def quick(self, method: Method) -> Scenario:
        """As of one question, but each of several types of GPU has its own usual precision where those differ."""
        from planner.hardware.cluster import load_accelerator
        from planner.workload.resolve import as_cluster, usual_precision

        found = super().quick(method)
        cards = [as_cluster(cluster).accelerator for cluster in self.clusters()]
        cards += map(load_accelerator, self.accelerators() or ())
        if "precision" not in self.job() and len(set(map(usual_precision, cards))) > 1:
            del found.cases[0].tables["job"]["precision"]
        return found

    def scenario(
        self, usually: str = "pretrain", unread: tuple[str, ...] = (), looked_for: str = ""
    ) -> tuple[Scenario, tuple[str, ...]]:
        """As of one question; --accelerator and --gpus together say on what, too."""
        from planner.model.names import is_model

        counts, kinds = whole_numbers(self.gpus, "--gpus"), self.accelerators()
        if self.on is None and not is_scenario(self.target):
            if counts and kinds:
                return replace(self, on=f"{counts[0]}x{kinds[0]}").scenario(usually, unread, looked_for)
            if (counts or kinds) and is_model(self.target):
                given, other = (
                    (f"--gpus {self.gpus}", "--accelerator h100") if counts else (f"--accelerator {self.accelerator}", "--gpus 8")
                )
                raise PlannerError(
                    "{0}: is a model; with {1} give {2}, too, or --on 8xh100.",
                    self.target,
                    given,
                    other,
                    code="usage",
                    field="--on",
                )
        return super().scenario(usually, unread, looked_for)

    def accelerators(self) -> list[str] | None:
        """Those that --accelerator names, as --on reads a name."""
        from planner.hardware.asked import accelerator_named

        given = names(self.accelerator)
        return None if given is None else [accelerator_named(name, "--accelerator") for name in given]

    def question(self, scenario: Scenario) -> SearchQuestion:
        """The checked question."""
        from planner.common.quantities import dollars, duration_s, share
        from planner.layout_search.question import Objective, as_question

        run = scenario.cases[0].require_sound_run()
        named = names(self.framework)
        frameworks = None if named is None else [self.changed("framework", {"name": name}) for name in named]
        tables = search_tables(scenario.cases[0], frameworks, names(self.term))
        tables["cluster"] = [tables["cluster"], *self.clusters()[1:]]
        return as_question(
            **tables,
            objective=meant(self.objective, get_args(Objective)),
            gpus=whole_numbers(self.gpus, "--gpus"),
            accelerators=self.accelerators(),
            deadline_s=None if self.deadline is None else duration_s(self.deadline, "--deadline"),
            budget_usd=None if self.budget_usd is None else dollars(self.budget_usd, "--budget-usd"),
            top=self.top,
            risk=share(self.risk, "--risk"),
            allow=allowed_names(self.allow),
            recovery=run.recovery(),
        )


@grouped(Sought)
def search_command(
    sought: Sought, as_json: AsJson = False, out: Out = None, engine: Engine = "local", address: Address = None
) -> None:
    """Evaluate every layout on every cluster you name: the best, the front in time, dollars and memory, what was rejected."""
    from planner.common.tables import check_output, write_table
    from planner.layout_search.api import run
    from planner.studies.budgets import budgeted, outlook_of_row

    if out is not None:
        check_output(out)
    scenario, usual = sought.scenario(unread=UNREAD["search"])
    question = sought.question(scenario)
    with progress_bar("layouts", quiet=as_json) as progress:
        result = run(question, engine=engine, address=address, progress=progress)
    outlook_of = cache(partial(outlook_of_row, scenario.cases[0], result))
    table = budgeted(result, outlook_of) if as_json or out is not None else result.to_frame()
    if out is not None:
        write_table(out, table)
    if as_json:
        budget = outlook_of(0).to_dict() if len(result.found.rows) else None
        print_json({**table.attrs, "outlook": budget, "rows": table.to_dict(orient="records")})
    else:
        from planner.reports.search import search_report

        show(
            search_report(sought.target, result, table, outlook_of),
            *(note for note in table.attrs["notes"] if note not in question.said),
            *usual,
            *other_cases(scenario),
            *_routing(scenario.cases[0]),
        )
    if not (result.complete and table.attrs["complete"]):
        raise typer.Exit(STOPPED)


def _routing(case: Case) -> tuple[str, ...]:
    """That rows of a search have experts as routers leave them, where [run] says otherwise."""
    if not any((case.tables.get("run") or {}).get(name) is not None for name in DISTRIBUTIONS):
        return ()
    return ("rows have experts as routers usually leave them; those of [run] count in the budgets",)


@laying
def sweep_command(
    given: Laid,
    *,
    vary: Annotated[
        list[str], typer.Option("--vary", metavar="KEY=start:stop:steps", help="A field and its values; may be repeated.")
    ],
    as_json: AsJson = False,
    out: Out = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw step time, memory and cost.")] = None,
    engine: Engine = "local",
    address: Address = None,
) -> None:
    """Answer all cases of a scenario over a grid of values, as a table, a file or a picture.

    KEY: a field of the scenario (job.seq_len), of its accelerator (accelerator.memory_bytes) or of a link, by kind or by name
    (link.nvlink.bytes_per_s). Values: start:stop:steps, start:stop:steps:log, or a,b,c.
    """
    from planner.cli.output import check_plot
    from planner.common.tables import check_output, write_table
    from planner.reports.sweep import save_sweep, sweep_table
    from planner.studies.sweep import crossovers, parse_variation
    from planner.studies.sweep_api import run_sweep

    def as_meant(variation: Variation) -> Variation:
        return replace(variation, values=tuple(as_choice(variation.key, value) for value in variation.values))

    check_plot(plot)
    if out is not None:
        check_output(out)
    question, usual = _swept(given, [as_meant(parse_variation(text)) for text in vary])
    if plot is not None and len(question.variations) > 2:
        raise PlannerError("--plot {0}: draws one or two varied fields, not {1}; use --out.", plot, len(question.variations))
    with progress_bar("points", quiet=as_json) as progress:
        table = run_sweep(question, engine=engine, address=address, progress=progress)
    if out is not None:
        write_table(out, table)
    if plot is not None:
        save_sweep(plot, Path(given.target).stem, table, question.keys)
    turns = crossovers(table, question.keys[0]) if len(question.keys) == 1 else []
    if as_json:
        print_json({**table.attrs, "crossovers": turns, "rows": table.to_dict(orient="records")})
    else:
        show(sweep_table(given.target, table, question.keys), *turns, *more_of_layout(table.attrs["notes"]), *usual)
    if not table.attrs["complete"]:
        raise typer.Exit(STOPPED)


def _swept(given: Laid, variations: list[Variation]) -> tuple[SweepQuestion, tuple[str, ...]]:
    """(what is swept, what was taken as usual in it): a batch that nobody gave follows the length, as in ``planner plan``."""
    from planner.studies.sweep import as_sweep

    by_length = next((v.values for v in variations if v.key == "job.seq_len"), ())
    if by_length and given.seq_len is not None:
        raise PlannerError(
            "{0} with --vary {1}: its values are varied; leave {0} out.",
            "--seq-len",
            "job.seq_len",
            code="usage",
            field="--seq-len",
        )
    scenario, usual = given.scenario(unread=UNREAD["sweep"], looked_for="job.seq_len" if by_length else "")
    question = as_sweep(scenario, variations, **given.choice())
    if not given.is_quick or "job.global_batch_size" in question.keys:
        return question, usual
    batches = {length: batch for length in by_length if (batch := _usual_batch(given, length)) is not None}
    if {*batches.values()} <= {scenario.cases[0].tables["job"]["global_batch_size"]}:
        return question, usual
    told = ", ".join(f"{batch:,} ({length:,})" for length, batch in batches.items())
    with_batch: Laid = replace(given, batch=str(next(iter(batches.values()))))
    _, rest = with_batch.scenario(unread=UNREAD["sweep"], looked_for="job.seq_len")
    usual = (Message("global_batch_size as usual for each seq_len, not given: {0}", told), *rest)
    return replace(question, usual_batch=batches), usual


def _usual_batch(given: Laid, length: Any) -> int | None:
    """Sequences of a step at a length, as ``planner plan`` takes them; None where it takes no such length: its row says why."""
    asked: Laid = replace(given, seq_len=str(length))
    try:
        scenario, _ = asked.scenario(unread=UNREAD["sweep"], looked_for="job.seq_len")
    except PlannerError:
        return None
    return int(scenario.cases[0].tables["job"]["global_batch_size"])


@laying
def limit_command(
    given: Laid,
    field: Annotated[
        str | None, typer.Option("--field", help="model, model.num_layers, job.seq_len or layout.micro_batch_size.")
    ] = None,
    step: Annotated[int | None, typer.Option("--step", help="Distance between the numbers of layers or tokens tried.")] = None,
    budget_usd: Annotated[
        str | None,
        typer.Option("--budget-usd", "--budget", metavar="N", help="Find the most tokens that this budget pays for instead."),
    ] = None,
    deadline: Annotated[
        str | None, typer.Option("--deadline", help="Find the most tokens that fit into this time instead, such as 14d.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the largest value of a field that fits in memory, on the scenario's layout or, where it gives none, on any.

    With --budget or --deadline: the most tokens that the money or the time allows, with interruptions and as published runs
    went.
    """
    from planner.scenarios.tables import placed
    from planner.studies.limit import FIELDS, largest

    if budget_usd is not None or deadline is not None:
        if field not in (None, "tokens", "num_tokens", "job.num_tokens") or step is not None:
            raise PlannerError("--budget-usd and --deadline limit job.num_tokens; leave --field and --step out.")
        _most_tokens(given, budget_usd, deadline, as_json)
        return
    field = field or "job.seq_len"
    plain = {name.rpartition(".")[2]: name for name in FIELDS}
    field = plain.get(meant(field, plain), field)
    if field == "job.seq_len" and given.seq_len is not None:
        raise PlannerError(
            "{0} with --field {1}: the length is what is looked for; leave {0} out, or give another field.",
            "--seq-len",
            field,
            code="usage",
            field="--seq-len",
        )
    unread = ("run", "cost")
    scenario, _ = given.scenario(unread=unread, looked_for=field)
    case = scenario.cases[0]

    def question(value: Any) -> tuple[Scenario, tuple[str, ...]]:
        """The question with a value, as ``planner plan`` takes it: what is usual follows it."""
        option = {"job.seq_len": "seq_len", "model": "target"}.get(field)
        anew = option is not None and given.is_quick and field not in set_fields(given.change)
        asked: Laid = replace(given, **{option: str(value)}) if anew else given  # type: ignore[arg-type]
        return asked.scenario(unread=unread, looked_for=field)

    with placed(case.where), progress_bar("values", quiet=as_json) as progress:
        found = largest(
            case.asked(),
            field,
            step,
            **given.choice(),
            progress=progress,
            asked=lambda value: question(value)[0].cases[0].asked(),
        )
    if as_json:
        limit = {"field": found.field, "value": found.value, "next_value": found.next_value, "reason": found.reason}
        print_json({**limit, "plan": found.plan.to_dict()})
        return
    from planner.reports.plans import plans_table

    value, following = (f"{n:,}" if isinstance(n, int) else n for n in (found.value, found.next_value))
    above = "" if following is None else Message("{0}: ", following)
    title = Message("largest {0} that fits: {1}; {2}{3}", field, value, above, found.reason)
    show(plans_table(title, [str(value)], [found.plan]), *found.plan.notes, *question(found.value)[1])


def _most_tokens(given: Laid, budget_usd: str | None, deadline: str | None, as_json: bool) -> None:
    """The most tokens of a budget or a time, with the plan of them."""
    from planner.cli.output import width
    from planner.common import clock
    from planner.common.quantities import dollars, duration_s
    from planner.reports.answer import answer_notes, answer_text, notes_text
    from planner.reports.text import count
    from planner.scenarios.tables import placed
    from planner.studies.affordable import Means, affordable

    means = Means(
        usd=None if budget_usd is None else dollars(budget_usd, "--budget-usd"),
        seconds=None if deadline is None else duration_s(deadline, "--deadline"),
    )
    scenario, usual = given.scenario()
    case = scenario.cases[0]
    with placed(case.where), progress_bar("values", quiet=as_json) as progress:
        found = affordable(case, means, **given.choice(), progress=progress)
    if as_json:
        told = {"field": "job.num_tokens", "value": found.num_tokens, "plan": found.plan.to_dict()}
        print_json({**told, "outlook": found.outlook.to_dict()})
        return
    title = Message("{0}: {1} tokens {2}", scenario.title, count(found.num_tokens), means.words())
    print(answer_text(title, found.plan, width(), found.outlook))
    print(notes_text([*answer_notes(found.plan, clock.today()), *usual], width()))


TO = (
    "megatron, deepspeed, torchtitan, accelerate-fsdp or nemo; for tuning: axolotl, llama-factory, trl, torchtune or peft; "
    "for serving: vllm, sglang, tensorrt-llm or llama.cpp."
)


@laying
def export_command(
    given: Laid,
    *,
    stack: Annotated[str, typer.Option("--to", help=TO)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Write the files to this folder instead of printing them."),
    ] = None,
    rows: Annotated[Path | None, typer.Option("--rows", metavar="FILE", help="Rows that search --out wrote.")] = None,
    rank: Annotated[int, typer.Option("--rank", help="Which row of --rows to export.")] = 1,
) -> None:
    """Write a plan or a deployment as launch arguments or configuration files, with the prediction as a comment.

    The plan is that of the question, or of the scenario's main case. Cluster, framework and layout come from a row of a
    search where --rows names its file.

    \b
    planner export llama-3-8b --on 8xh100 --to megatron
    """
    from planner.export import write_files

    if rows is None and rank != 1:
        raise PlannerError("--rank {0}: belongs to --rows.", rank)
    files = _exported(given, stack, rows, rank)
    if out is not None:
        for path in write_files(out, files):
            tell(Message("wrote {0}", path), error=True)
        return
    for name, text in files.items():
        print(f"# --- {name}\n{text}" if len(files) > 1 else text, end="")


def _exported(given: Laid, stack: str, rows: Path | None, rank: int) -> dict[str, str]:
    from planner.common.errors import one_of
    from planner.export import STACKS, export_plan
    from planner.export.common import tool_of
    from planner.export.servers import SERVERS, export_deployment
    from planner.export.tuners import TUNERS, export_tuning

    frameworks = {name: frameworks for name, (_, frameworks) in STACKS.items()}
    stack = tool_of(stack, {**frameworks, **dict.fromkeys((*TUNERS, *SERVERS), ())})
    if stack in SERVERS:
        from planner.cli.serving import Served
        from planner.scenarios.exported import exported_deployment

        if rows is not None:
            raise PlannerError("--rows {0}: rows of a search are of training; --to {1} takes a serving scenario.", rows, stack)
        training = given.of_training()
        if training:
            raise PlannerError("{0}: of training; --to {1} serves: --set serving.FIELD=VALUE changes it.", training[0], stack)
        named = stack if given.on is not None and not is_scenario(given.target) else None  # of a model, the server asked for
        served = Served(target=given.target, on=given.on, engine=named, change=given.change)
        files, cut, usual = exported_deployment(served.scenario()[0].cases[0], lambda d: export_deployment(d, stack))
        _tell_other(stack, usual, cut)
        return files
    if stack not in STACKS and stack not in TUNERS:
        raise PlannerError("export to {0!r}: {1}.", stack, one_of(stack, (*STACKS, *TUNERS, *SERVERS)))
    from planner.scenarios.exported import exported
    from planner.scenarios.picked import chosen_row
    from planner.scenarios.tables import placed

    if rows is not None and given.layout is not None:
        raise PlannerError("--layout {0} and --rows {1}: either gives the layout; give one.", given.layout, rows)
    if given.framework is None and given.on is not None and stack in STACKS and not is_scenario(given.target):
        given = replace(given, framework=STACKS[stack][1][0])  # of a model, that of the files asked for
    case = given.scenario(unread=UNREAD["export"])[0].cases[0]
    with placed(case.where):
        asked = case.asked()
        tables: Mapping[str, Any] = asked if rows is None else chosen_row(asked, rows, rank)
        write = export_tuning if stack in TUNERS else export_plan
        files, plan, best = exported(tables, lambda plan: write(plan, stack), **given.choice())
    _tell_other(stack, best.layout.label, plan.layout.label)
    return files


def _tell_other(stack: str, best: str, taken: str) -> None:
    """A line where a tool cannot express what is recommended, and is written what it can."""
    if taken != best:
        tell(Message("{0} cannot express the recommended layout {1}; this is {2}", stack, best, taken), error=True)


def search_tables(case: Case, frameworks: list[dict[str, Any]] | None, terms: list[str] | None) -> dict[str, Any]:
    """A case as arguments of ``planner.search``: without the layout, with other frameworks and price terms.

    What the file itself gives is checked here, so that an error names the file; options are checked by the search.
    """
    from planner.scenarios.tables import placed
    from planner.workload.resolve import as_cluster, as_job, as_model

    tables: dict[str, Any] = {name: table for name, table in case.asked().items() if name != "layout"}
    with placed(case.where):
        cluster = as_cluster(tables["cluster"])
        tables |= {"model": as_model(tables["model"]), "cluster": cluster}
        as_job(tables["job"], cluster)  # the search takes the table: its usual precision is each cluster's own
    if frameworks is not None:
        tables["framework"] = frameworks
    if terms is not None:
        tables["price"] = [{**tables.get("price", {}), "term": term} for term in terms]
    return tables


def print_json(value: Any) -> None:
    """JSON with null for what is not finite."""
    from planner.cli.output import print_json

    print_json(value)


def show(*renderables: Any) -> None:
    """Tables on standard output."""
    from planner.cli.output import show

    show(*renderables)
