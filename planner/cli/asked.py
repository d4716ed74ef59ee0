"""The question of a command: a scenario, or a model with ``--on``, and what is changed in it. Options shared by reference."""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from planner.cli.choices import as_choice, set_fields
from planner.cli.guesses import of_field
from planner.cli.options import RISK, Allow, Price, Provider, Risk, allowed_names
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.common.quantities import COUNTS, RUN_LENGTHS, SECONDS, share

if TYPE_CHECKING:
    from planner.scenarios.quick import Method
    from planner.scenarios.scenario import Scenario

Target = Annotated[str, typer.Argument(metavar="SCENARIO|MODEL", help="A scenario (file or shipped name), or a model with --on.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="TABLE.FIELD=VALUE", help="Change a field of the scenario; may be repeated.")
]


def nothing_asked(remedy: str) -> PlannerError:
    """The error of a command that was given neither a scenario nor a model, and what to give it."""
    return PlannerError("Missing argument 'SCENARIO|MODEL'; {0}.", remedy, code="usage", field="SCENARIO|MODEL", remedy=remedy)


COUNTED = {
    f"{one}{more}"
    for one in ("token", "sequence", "sample", "step", "epoch", "request", "client", "gpu", "card", "dollar")
    for more in ("", "s")
}
"""What people write behind a number of them."""


def one_question(words: list[str], on: str | None, command: str, several: str, adapters: str = "") -> PlannerError:
    """The error of further words where one question is answered: GPUs without --on, a blank within GPUs, a number or a
    name, a rank after --lora, another question.

    ``words``: all that stand without an option; ``command`` is the one asked, such as "planner plan"; ``adapters``: --lora or
    --qlora where it is given.
    """
    from planner.model.names import is_model

    said: dict[str, Any] = {"code": "usage", "value": words[1]}
    whole = " ".join(words)
    if is_model(whole):
        return PlannerError("{0}: a name with a blank stands in quotes: '{1}'.", words[1], whole, **said)
    number = re.fullmatch(r"(\d+)\s*[x×*]?", on or "", re.IGNORECASE)
    if number is not None and _are_gpus(f"{number[1]}x{words[1]}"):
        return PlannerError("--on {0} {1}: number and GPU stand in one word: --on {2}x{1}.", on, words[1], number[1], **said)
    if adapters and words[-1].isdecimal():
        return PlannerError("{0} {1}: takes no value; the rank is --set job.adapter.rank={1}.", adapters, words[-1], **said)
    if words[1].lower() in {*COUNTS, *SECONDS}:
        return PlannerError("{0}: a number and its unit stand in one word, such as 100B or 14d, or in quotes.", words[1], **said)
    if words[1].lower() in COUNTED:
        return PlannerError("{0}: a number stands without the name of what it counts, such as 512 or 100B.", words[1], **said)
    return _gpus_or_field(words, on, command) or PlannerError(
        "{0}: one question is answered at a time; {1}.", words[1], several, **said
    )


def _gpus_or_field(words: list[str], on: str | None, command: str) -> PlannerError | None:
    """The error of GPUs, or of a field, among words without an option; None where there are none."""
    from planner.hardware.asked import several_gpus
    from planner.model.names import is_model

    fields = {word: option for word in words[1:] if (option := of_field(word, ("--set",)))}
    plain = [word for word in words if word not in fields and word.lower() != "on"]
    for at in range(1, len(plain)) if on is None else ():
        first, last = " ".join(plain[:at]), " ".join(plain[at:])
        for model, gpus in ((first, last), (last, first)):
            if (is_model(model) or is_scenario(model)) and _are_gpus(gpus):
                right = " ".join([command, shlex.quote(model), "--on", shlex.quote(gpus), *fields.values()])
                return PlannerError("{0}: GPUs stand after --on: {1}.", gpus, right, code="usage", value=gpus)
    for word, option in fields.items():
        return PlannerError("{0}: a field stands after an option: {1}.", word, option, code="usage", value=word)
    if on is not None and len(places := several_gpus(",".join([on, *words[1:]]))) > 1:
        return one_place(words[0], places, command)
    return None


def one_place(target: str, places: list[str], command: str = "planner plan") -> PlannerError:
    """The error of several GPUs where a question is of one, with the command that answers it of several."""
    from planner.hardware.asked import accelerators_of
    from planner.model.names import is_model

    on = ",".join(places)
    if not command.endswith("serve"):
        right = f"planner compare {shlex.quote(target)} --on {shlex.quote(on)}"
    elif is_model(target):
        right = f"planner size {shlex.quote(target)} --for serve --on {','.join(accelerators_of(places))}"
    else:
        each = ", --on ".join(map(shlex.quote, places))
        return PlannerError(
            "--on {0}: one type of GPU is asked about at a time; ask about each: --on {1}.", on, each, code="usage"
        )
    return PlannerError(
        "--on {0}: one type of GPU is asked about at a time; `{1}` answers several side by side.",
        on,
        right,
        code="usage",
        field="--on",
        value=on,
    )


def refuse_turned(target: str, on: str) -> None:
    """PlannerError where GPUs stand in the model's place and the model after --on."""
    from planner.model.names import is_model

    if not is_model(target) and is_model(on) and _are_gpus(target):
        raise PlannerError(
            "--on {0}: is a model, and {1} are GPUs; the other way round: {0} --on {1}.", on, target, field="--on", value=on
        )


def refuse_several(target: str) -> None:
    """PlannerError for models with commas between, where one is asked about."""
    from planner.model.names import is_model

    parts = [part.strip() for part in target.split(",")]
    if len(parts) > 1 and all(map(is_model, parts)):
        raise PlannerError(
            "{0}: are {1} models, and one is asked about at a time; `planner compare {2}` answers them side by side.",
            target,
            len(parts),
            " ".join(parts),
            code="usage",
            field="SCENARIO|MODEL",
            value=target,
        )


def _are_gpus(text: str) -> bool:
    from planner.hardware.asked import cluster_table

    try:
        return bool(cluster_table(text))
    except PlannerError:
        return False


def no_gpus(model: str) -> PlannerError:
    """The error of a command that was given a model and no GPUs."""
    return PlannerError(
        "{0}: is a model; say on which GPUs, such as --on 8xh100, or give a scenario.", model, code="usage", field="--on"
    )


@dataclass(frozen=True, kw_only=True)
class OfStep:
    """What the command line says of a question about one step: no length of a run and no price, which would change nothing."""

    target: Target
    on: Annotated[str | None, typer.Option("--on", metavar="GPUS", help="32xh100, rtx-4090, 2xdgx-h100 ...")] = None
    lora: Annotated[bool, typer.Option("--lora", help="Tune with LoRA.")] = False
    qlora: Annotated[bool, typer.Option("--qlora", help="Tune with QLoRA.")] = False
    finetune: Annotated[bool, typer.Option("--finetune", help="Tune all weights.")] = False
    seq_len: Annotated[str | None, typer.Option("--seq-len", metavar="N", help="Tokens per sequence: 4096, 4k.")] = None
    batch: Annotated[str | None, typer.Option("--batch", metavar="N", help="Sequences per step, all GPUs together.")] = None
    precision: Annotated[str | None, typer.Option("--precision", help="bf16, fp16, fp8, nvfp4, tf32, fp32.")] = None
    framework: Annotated[str | None, typer.Option("--framework", help="See planner frameworks list.")] = None
    change: Set = None
    risk: Risk = RISK
    allow: Allow = None

    def choice(self) -> dict[str, Any]:
        """How a layout is chosen: ``risk`` and ``allow`` of ``planner.plan``."""
        return {"risk": share(self.risk, "--risk"), "allow": allowed_names(self.allow)}

    def of_training(self) -> list[str]:
        """The options given that only training has."""
        names = (
            "lora",
            "qlora",
            "finetune",
            "tokens",
            "samples",
            "epochs",
            "seq_len",
            "batch",
            "precision",
            "framework",
            "price",
            "provider",
            "layout",
        )
        found = [f"--{name.replace('_', '-')}" for name in (*names, "allow") if getattr(self, name, None)]
        return [*found, *(["--risk"] if self.risk != RISK else [])]

    def job(self) -> dict[str, Any]:
        """The fields of the job that are given."""
        from planner.common.quantities import count, length

        found = {
            "seq_len": None if self.seq_len is None else length(self.seq_len, "--seq-len"),
            "global_batch_size": None if self.batch is None else count(self.batch, "--batch"),
            "precision": None if self.precision is None else as_choice("job.precision", self.precision),
        }
        return {name: value for name, value in found.items() if value is not None}

    def scenario(
        self, usually: str = "pretrain", unread: tuple[str, ...] = (), looked_for: str = ""
    ) -> tuple[Scenario, tuple[str, ...]]:
        """(the question, what was taken as usual in it); ``usually``: what a model is asked for where no option says it.

        ``unread``: tables and fields that the command does not read, in which --set changes nothing; ``looked_for``: the field
        whose value is the answer, of which nothing is taken.
        """
        from planner.hardware.asked import cluster_table
        from planner.model.names import is_model
        from planner.scenarios.quick import changed_scenario, part_of_layout, usual_notes, with_tables
        from planner.scenarios.scenario import TABLES, read_scenario

        refuse_several(self.target)
        changes = set_fields(self.change, tuple(table for table in TABLES if table not in unread), unread)
        self.refuse_twice(changes)
        own = self.fields()
        named = [f"--{name}" for name in ("lora", "qlora", "finetune") if getattr(self, name)]
        if len(named) > 1:
            raise PlannerError("{0} and {1} exclude each other; give one.", named[0], named[1], code="usage", field=named[0])
        if self.is_quick:
            refuse_turned(self.target, str(self.on))
            refuse_other_model(self.target, changes)
            method: Any = named[0].lstrip("-") if named else usually
            found = self.quick(method)
            given = self.job() | _names_of_job({**changes, looked_for: None})
            return changed_scenario(found, changes), (*usual_notes(found, given), *more_of_layout(part_of_layout(found, changes)))
        if not is_scenario(self.target) and is_model(self.target):
            raise no_gpus(self.target)
        refuse_launch_file(self.target)
        scenario = read_scenario(self.target)
        if named:
            raise PlannerError("{0}: goes with a model and --on; a scenario has its own job.kind.", named[0], code="usage")
        if (place := self.place()) is not None:
            scenario = with_tables(scenario, {"cluster": cluster_table(place)})
            scenario = replace(scenario, title=Message("{0}; here on {1}", scenario.title, self.on))
        scenario = with_tables(scenario, self.whole())
        return changed_scenario(scenario, own | changes), more_of_layout(part_of_layout(scenario, changes))

    @property
    def is_quick(self) -> bool:
        """Whether it is of a model and GPUs, not of a scenario."""
        from planner.model.names import model_files

        return self.on is not None and (self.target.lower() in model_files() or not is_scenario(self.target))

    def fields(self) -> dict[str, Any]:
        """The fields that options give, each after its table."""
        return with_table_names({"job": self.job(), **self.others()})

    def refuse_twice(self, changes: Mapping[str, Any]) -> None:
        """PlannerError for a field that an option and --set give, also where the option gives its table as a whole."""
        refuse_twice(self.fields() | with_table_names(self.whole()), changes)
        refuse_other_gpus(self.places(), changes)

    def places(self) -> list[str]:
        """The GPUs that are asked about."""
        return [] if self.on is None else [self.on]

    def place(self) -> str | None:
        """The first of those."""
        return next(iter(self.places()), None)

    def quick(self, method: Method) -> Scenario:
        """The question of a model on GPUs, with what is usual for ``method``."""
        from planner.scenarios.quick import quick_scenario

        return quick_scenario(self.target, self.place() or "", method, self.job(), self.others() | self.whole())

    def whole(self) -> dict[str, dict[str, Any]]:
        """The tables that options give as a whole: none here."""
        return {}

    def others(self) -> dict[str, dict[str, Any]]:
        """The tables beside the job that options give fields of: the framework."""
        return {} if self.framework is None else {"framework": {"name": self.framework}}


def with_table_names(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Fields, each after its table.

    >>> with_table_names({"job": {"seq_len": 4096}, "layout": {"tp": 2}})
    {'job.seq_len': 4096, 'layout.tp': 2}
    """
    return {f"{table}.{name}": value for table, values in tables.items() for name, value in values.items()}


ALTERNATIVES = (frozenset(f"job.{name}" for name in RUN_LENGTHS), frozenset(("cluster.num_gpus", "cluster.num_nodes")))
"""Fields of which one takes the place of another."""


def refuse_twice(own: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """PlannerError for a field, or one that takes its place, that both an option and --set give: one would change nothing."""
    for name, value in changes.items():
        for other, given in own.items():
            if (name == other and value != given) or (name != other and any({name, other} <= same for same in ALTERNATIVES)):
                raise PlannerError(
                    "--set {0}={1}: an option gives {2} = {3}; leave one of the two out.",
                    name,
                    value,
                    other,
                    given,
                    code="usage",
                    field="--set",
                    value=f"{name}={value}",
                )


def refuse_other_gpus(places: Iterable[str], changes: Mapping[str, Any]) -> None:
    """PlannerError for GPUs that --set changes and ``--on`` gives."""
    if any(name.startswith("cluster.") for name in changes):
        for place in places:
            refuse_twice(with_table_names({"cluster": given_cluster(place)}), changes)


WHICH_MODEL = ("model.name", "model.base", "model.config")
"""Fields that say which model is meant."""


def refuse_other_model(model: str, changes: Mapping[str, Any]) -> None:
    """PlannerError for a model that --set gives beside the one that the question names."""
    for name in WHICH_MODEL:
        if name in changes and changes[name] != model:
            raise PlannerError(
                "--set {0}={1}: the question names {2}; name one model, {1} in its place.",
                name,
                changes[name],
                model,
                code="usage",
                field="--set",
                value=f"{name}={changes[name]}",
            )


ONE = re.compile(r"^\s*1\s*([x×*]|[^\d\s.]|\s)|[x×*:]\s*1\s*$", re.IGNORECASE)
"""One GPU or node, by its number: 1xh100, 1 H100, h100:1."""


def given_cluster(text: str) -> dict[str, Any]:
    """The fields of [cluster] that ``--on`` gives: how many only where it is written.

    >>> given_cluster("h100"), given_cluster("1xh100"), given_cluster("gb200-nvl72")
    ({'accelerator': 'h100-sxm5-80gb'}, {'accelerator': 'h100-sxm5-80gb', 'num_gpus': 1}, {'node': 'gb200-nvl72'})
    """
    from planner.hardware.asked import cluster_table

    found = cluster_table(text)
    usual = cluster_table(found["node"]) if "node" in found else {**found, "num_gpus": 1}
    if found == usual and ONE.search(text) is None:
        return {name: value for name, value in found.items() if name not in ("num_gpus", "num_nodes")}
    return found


def more_of_layout(notes: Iterable[str]) -> tuple[str, ...]:
    """Notes that only a part of a layout is given, with the option that gives more."""
    return tuple(Message("{0}; --layout 'pp8 zero1' gives more of it", note) for note in notes)


def price_table(text: str | None, provider: str | None = None) -> dict[str, Any] | None:
    """The table that ``--price`` and ``--provider`` mean; None where neither is given."""
    table = None if text is None else _priced(text)
    if provider is None:
        return table
    if table is not None and "term" not in table:
        raise PlannerError(
            "--provider {0}: --price {1} is a price of your own, whoever sells it; leave one of the two out.",
            provider,
            text,
            code="usage",
            field="--provider",
            value=provider,
        )
    return {**(table or {}), "provider": provider}


def _priced(text: str) -> dict[str, Any]:
    """Dollars, or an amount of another currency, per GPU-hour, or a term."""
    foreign = FOREIGN.fullmatch(text.strip())
    if foreign is not None and foreign[2].upper() != "USD":
        return {"price_per_gpu_hour": float(foreign[1]), "currency": foreign[2].upper()}
    dollars = DOLLARS.fullmatch(text.strip())
    try:
        if dollars is not None:
            return {"usd_per_gpu_hour": float(dollars[1])}
    except ValueError:  # 1.2.3
        pass
    return {"term": as_choice("price.term", text)}


FOREIGN = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]{3})")
"""An amount in a currency by its code, as people write it: "2 EUR", "12cny"."""
DOLLARS = re.compile(
    r"\$?\s*([+-]?[0-9.]+(?:e[+-]?[0-9]+)?|[+-]?nan|[+-]?inf)(?:\s*(?:\$|usd))?"
    r"(?:\s*(?:/|per )\s*(?:gpu[- ]?)?(?:h|hr|hour))?",
    re.I,
)
"""2.5, $2.50, 2.5 USD, 2.5$/h, $2/GPU-hour."""


@dataclass(frozen=True, kw_only=True)
class Given(OfStep):
    """What the command line says of the question."""

    tokens: Annotated[str | None, typer.Option("--tokens", metavar="N", help="Tokens to train on: 100B, 1e9.")] = None
    samples: Annotated[str | None, typer.Option("--samples", metavar="N", help="Samples to train on: 300k.")] = None
    epochs: Annotated[str | None, typer.Option("--epochs", metavar="N", help="Passes over the tokens or samples: 3.")] = None
    price: Price = None
    provider: Provider = None

    def job(self) -> dict[str, Any]:
        """As of a step, and how long the run is."""
        from planner.common.quantities import count, times

        lengths = {"num_tokens": (self.tokens, "--tokens"), "num_samples": (self.samples, "--samples")}
        found: dict[str, Any] = {name: count(text, option) for name, (text, option) in lengths.items() if text is not None}
        return found | ({} if self.epochs is None else {"num_epochs": times(self.epochs, "--epochs")}) | super().job()

    def others(self) -> dict[str, dict[str, Any]]:
        """As of a step, and the price."""
        price = price_table(self.price, self.provider)
        return super().others() | ({} if price is None else {"price": price})


@dataclass(frozen=True, kw_only=True)
class OfLayout(OfStep):
    """A step whose layout may be given."""

    layout: Annotated[
        str | None, typer.Option("--layout", help="A layout as tables print it: 'tp2 pp8 sp mbs1'; chosen when left out.")
    ] = None

    def whole(self) -> dict[str, dict[str, Any]]:
        """The table of the layout, in the place of a scenario's own."""
        from planner.workload.layout_text import layout_fields

        return {} if self.layout is None else {"layout": layout_fields(self.layout)}


@dataclass(frozen=True, kw_only=True)
class Laid(OfLayout, Given):
    """A question whose layout may be given."""


def is_scenario(target: str) -> bool:
    """Whether a text names a scenario: a file that is no model's config.json, or a shipped name."""
    from planner.scenarios.shipped import scenario_names

    return target in scenario_names() or target.endswith(".toml") or (os.path.isfile(target) and not _is_config(target))


def _is_config(target: str) -> bool:
    """Whether a file describes a model as Hugging Face or llama.cpp do."""
    from planner.common.spec import read_table
    from planner.model.gguf import is_gguf

    if is_gguf(target):
        return True
    try:
        return target.endswith(".json") and not {"model_type", "architectures"}.isdisjoint(read_table(Path(target)))
    except PlannerError:
        return False


def refuse_launch_file(target: str, command: str = "plan") -> None:
    """PlannerError for a launch script or the configuration of another tool in a scenario's place, which ``--from`` reads."""
    path = Path(target)
    if path.suffix in (".toml", "") or not os.path.isfile(path):
        return
    known = path.suffix != ".json"
    if not known:
        from planner.launchfiles.reading import collect

        try:
            known = bool(collect([path]).given)
        except PlannerError:
            return
    if known:
        remedy = Message("`planner {0} --from {1}` reads it", command, path)
        raise PlannerError("{0}: is a launch file, not a scenario; {1}.", path, remedy, code="file", field=target, remedy=remedy)


def _names_of_job(changes: dict[str, Any]) -> dict[str, Any]:
    return {name.partition(".")[2].partition(".")[0]: value for name, value in changes.items() if name.startswith("job.")}


def grouped(*groups: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose first parameters are dataclasses: their fields become its arguments and options."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        mine = [parameter for group in groups for parameter in _parameters(group)]
        others = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in list(own.parameters.values())[len(groups) :]]

        def called(**values: Any) -> None:
            given = [group(**{f.name: values.pop(f.name) for f in fields(group)}) for group in groups]
            command(*given, **values)

        called.__doc__, called.__name__, called.__module__ = command.__doc__, command.__name__, command.__module__
        vars(called)["__signature__"] = own.replace(parameters=[*mine, *others])
        called.__annotations__ = {p.name: p.annotation for p in (*mine, *others)}
        return called

    return decorate


def _parameters(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            f.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if f.default is MISSING else f.default,
            annotation=hints[f.name],
        )
        for f in fields(group)
    ]


stepping = grouped(OfLayout)
"""A command whose first parameter is an ``OfLayout``."""
asking = grouped(Given)
"""A command whose first parameter is a ``Given``."""
laying = grouped(Laid)
"""A command whose first parameter is a ``Laid``."""


def other_cases(question: Scenario) -> tuple[str, ...]:
    """That a scenario of several cases is answered for its first."""
    others = [case.label for case in question.cases[1:]]
    if not others:
        return ()
    return (Message("this is {0!r}; planner compare answers the others, too: {1}", question.cases[0].label, "; ".join(others)),)
