"""``planner plan --from`` and ``planner serve --from``: launch files of other tools as questions."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.asked import Laid, given_cluster, nothing_asked, one_question
from planner.cli.choices import set_fields
from planner.cli.output import print_json, show, show_deployment, tell, width
from planner.common import clock
from planner.common.errors import PlannerError
from planner.common.message import Message

if TYPE_CHECKING:
    from planner.launchfiles import Launch
    from planner.scenarios.scenario import Case, Outlook
    from planner.training.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Launched(Laid):
    """What the command line says of the question, launch files among it."""

    target: Annotated[
        str, typer.Argument(metavar="[SCENARIO|MODEL]", help="A scenario (file or shipped name), or a model with --on.")
    ] = ""
    more: Annotated[list[str] | None, typer.Argument(metavar="", hidden=True)] = None
    launch_files: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="FILE...", help="Launch scripts and configuration files to read the question from."),
    ] = None

    def scenario(
        self, usually: str = "pretrain", unread: tuple[str, ...] = (), looked_for: str = ""
    ) -> tuple[Any, tuple[str, ...]]:
        """As ``Given.scenario``; one question at a time."""
        if not self.target:
            raise nothing_asked(
                "give a scenario, a model with --on, or --from launch.sh; `planner plan --help` lists what it takes"
            )
        if self.more:
            adapters = "--lora" if self.lora else "--qlora" if self.qlora else ""
            words = [self.target, *self.more]
            raise one_question(words, self.on, "planner plan", "planner compare answers several", adapters)
        return super().scenario(usually, unread, looked_for)

    def launch(self) -> Launch:
        """The launch files' question."""
        named = [f"--{name}" for name in ("lora", "qlora", "finetune") if getattr(self, name)]
        if named:
            raise PlannerError(
                "{0}: goes with a model and --on; a launch file says it itself.", named[0], code="usage", field=named[0]
            )
        if self.layout is not None:
            raise PlannerError(
                "--layout {0}: goes with a scenario or a model; a launch file says it itself.", self.layout, field="--layout"
            )
        changes = set_fields(self.change)
        self.refuse_twice(changes)
        over = {name: value for name, value in self.fields().items() if not name.startswith("price.")} | changes
        return launch_of([self.target, *(self.more or ())], self.launch_files, self.on, over)


def launch_of(words: list[str], launch_files: list[str] | None, on: str | None, over: dict[str, Any]) -> Launch:
    """The question of launch files; ``words`` are further files and a model, ``over`` fields that options give."""
    from planner.hardware.asked import cluster_table
    from planner.launchfiles import read_launch

    files = [Path(name) for name in launch_files or ()]
    models: list[Path] = []
    for word in filter(None, words):
        (files if _is_launch_file(word) else models).append(Path(word))
    if len(models) > 1:
        raise PlannerError(
            "{0}: is no file, and the model is {1}; give one model.", models[1], models[0], code="usage", value=str(models[1])
        )
    cluster = None if on is None else cluster_table(on)
    if cluster is not None and "num_gpus" not in given_cluster(str(on)):
        cluster.pop("num_gpus", None)  # a GPU without a number: the file says how many
    return read_launch(files, model=str(models[0]) if models else None, cluster=cluster, over=over)


def _is_launch_file(word: str) -> bool:
    path = Path(word)
    if path.name == "config.json" or path.suffix.lower() in ("", ".gguf"):
        return False
    return os.path.isfile(path) or path.suffix.lower() in (".sh", ".json", ".yaml", ".yml")


def plan_of_launch(
    given: Launched, *, details: bool, explain: bool, write: Path | None, plot: Path | None, as_json: bool
) -> None:
    """Answer launch files: what was understood as a scenario, what was not, and the plan or the deployment."""
    from planner.scenarios import scenario, serving
    from planner.scenarios.quick import changed_tables, tables_toml
    from planner.scenarios.quick_serving import changed_deployment

    launch = given.launch()
    change = changed_deployment if launch.serves else changed_tables
    tables = change(launch.tables, set_fields(given.change, (serving if launch.serves else scenario).TABLES))
    tables |= {name: table for name, table in given.others().items() if name == "price"}
    title = launch_title(launch, given.launch_files)
    if write is not None:
        from planner.common.files import write_text

        write_text(write, tables_toml({"title": title}, tables))
        tell(Message("wrote {0}", write), error=True)
    if launch.serves:
        _deployment(given, launch, tables, title, details or explain or plot is not None, as_json=as_json)
        return
    from planner.scenarios.scenario import Case
    from planner.scenarios.tables import model_label

    case = Case(label=model_label(tables), tables=tables, where=title)
    answer = case.plan(**given.choice())
    if plot is not None:
        from planner.reports.plots import save_comparison

        save_comparison(plot, title, [case.label], [answer])
        if not as_json:
            tell(Message("wrote {0}", plot), error=True)
    if as_json:
        print_json(
            {
                "label": case.label,
                "launch": launch.to_dict(),
                "usual": list(launch.of_layout()),
                **answer.to_dict(),
                **instead_json(case, answer, given.choice()["allow"]),
            }
        )
        return
    show_understood(launch, tables)
    allow = given.choice()["allow"]
    show_answer(title, case, answer, launch.of_layout(), case.outlook(answer), details=details, explain=explain, allow=allow)


def launch_title(launch: Launch, files: list[str] | None) -> str:
    """ "serve.sh (vLLM)" """
    return f"{Path((files or ['launch'])[0]).name} ({', '.join(launch.tools)})"


def _deployment(given: Launched, launch: Launch, tables: dict[str, Any], title: str, asked: bool, *, as_json: bool) -> None:
    from planner.scenarios.serving import ServingCase
    from planner.scenarios.tables import model_label

    options = [
        f"--{name.replace('_', '-')}" for name in ("tokens", "samples", "seq_len", "batch", "precision") if getattr(given, name)
    ]
    if asked or options:
        what = options[0] if options else "--details, --explain and --plot"
        raise PlannerError(
            "{0}: of training; this launch file serves; ask `planner serve --from`.", what, code="usage", field="--from"
        )
    deployment = ServingCase(label=model_label(tables), tables=tables, where=title).serve()
    if as_json:
        print_json({"label": model_label(tables), "launch": launch.to_dict(), **deployment.to_dict()})
        return
    show_understood(launch, tables)
    show_deployment(title, deployment)


def show_understood(launch: Launch, tables: dict[str, Any]) -> None:
    """The launch file as a scenario, and what was not understood."""
    from planner.reports.launch import launch_text
    from planner.scenarios.quick import tables_toml

    print(launch_text(launch, tables_toml({}, tables), width()))


def instead_json(case: Case, answer: Plan, allow: Iterable[str] = ()) -> dict[str, Any]:
    """For JSON: what to change where no layout fits, nothing where one does; the framework that takes decidably less time."""
    ways, other = case.ways_out(answer, allow=allow), case.elsewhere(answer, allow=allow)
    instead = {"instead": [asdict(way) for way in ways]} if ways else {}
    return {**instead, "elsewhere": None if other is None else other.to_dict()}


def show_answer(
    title: str,
    case: Case,
    answer: Plan,
    usual: tuple[str, ...],
    outlook: Outlook,
    *,
    details: bool,
    explain: bool,
    allow: Iterable[str] = (),
) -> None:
    """A plan for people: the answer first, then what it rests on."""
    from planner.reports.answer import answer_notes, answer_text, elsewhere_words, notes_text

    other = case.elsewhere(answer, allow=allow)
    if details:
        from planner.reports.plans import plans_table  # and with it all of rich's tables

        show(plans_table(title, [case.label], [answer], [outlook]))
        usual = (*usual, *([] if other is None else [Message("faster: {0}", elsewhere_words(other))]))
    else:
        print(answer_text(title, answer, width(), outlook, case.ways_out(answer, allow=allow), other))
    notes = [*answer_notes(answer, clock.today()), *usual]
    if not explain:
        notes.append(Message("{0} constants are assumed, not measured: --explain lists them", len(answer.assumptions)))
    if notes:
        print(notes_text(notes, width()))
    if explain:
        from planner.reports.plans import plan_notes

        show(plan_notes([case.label], [answer]))
