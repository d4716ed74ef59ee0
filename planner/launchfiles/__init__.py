"""Launch files of training frameworks and servers read as scenarios: what was understood, what was not, what is not modelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.launchfiles.reading import collect
from planner.launchfiles.serving import serving_tables
from planner.launchfiles.training import OF_LAYOUT, Tables, training_tables
from planner.launchfiles.understanding import Line, Said, understand


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A launch file as a question: ``serves`` or trains, with the tables of its scenario.

    ``lines``: each option that was understood; ``not_understood``: options that are in no table; ``unmodelled``: options that
    change memory or time and are not modelled, with what they change; ``ignored``: names of options that change neither;
    ``notes``: what was assumed where the files are silent; ``comments``: fields that ``# planner:`` comments give.
    """

    tools: tuple[str, ...]
    serves: bool
    tables: Tables
    lines: tuple[Line, ...]
    not_understood: tuple[str, ...]
    unmodelled: tuple[str, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    comments: tuple[str, ...] = ()

    def of_layout(self) -> tuple[str, ...]:
        """A note which part of the layout the files give; nothing of a server."""
        if self.serves or "layout" not in self.tables:  # which is chosen
            return ()
        given = [name for name in self.tables["layout"] if self._gives(name)]
        choose = Message("--write mine.toml, then `planner search mine.toml` chooses")
        if not given:
            return (Message("the layout is as the tool has it where nothing is said, not chosen: {0}", choose),)
        told = "of the layout the launch files give {0}; the rest is as the tool has it where nothing is said, not chosen: {1}"
        return (Message(told, ", ".join(given), choose),)

    def _gives(self, name: str) -> bool:
        """Whether an option or a comment decides a field of the layout; the tool's own defaults give nothing."""
        said = {*self.comments, *(line.field for line in self.lines)}
        counted = name == "micro_batch_size" and {"job.global_batch_size", "said.accumulation"} <= said
        return counted or bool(said & {f"layout.{name}", *OF_LAYOUT.get(name, ())})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "tools": list(self.tools),
            "serves": self.serves,
            "scenario": self.tables,
            "understood": [vars(line) for line in self.lines if not line.field.startswith("said.")],
            "not_understood": list(self.not_understood),
            "not_modelled": list(self.unmodelled),
            "ignored": list(self.ignored),
            "notes": list(self.notes),
        }


def read_launch(
    paths: Sequence[Path],
    *,
    model: str | None = None,
    cluster: Mapping[str, Any] | None = None,
    over: Mapping[str, Any] | None = None,
) -> Launch:
    """The question that launch files ask: scripts, JSON, TOML and YAML of the tools in ``planner/catalog/launch``.

    ``model`` (a catalog name, a config.json), ``cluster`` (a [cluster] table, without ``num_gpus`` where the file says it) and
    ``over`` (field -> value) override what the files say. Comments ``# planner: FIELD = VALUE`` give what a tool's own
    options cannot express; ``planner export`` writes them. Raises PlannerError for files that cannot be read, in which no tool is
    known, and for what no option says.
    """
    if not paths:
        raise PlannerError("--from: name at least one file.", code="usage", field="--from")
    found = collect(paths)
    said = understand(found)
    said.fields = {**{name: value for name, value in found.carried.items() if name not in said.fields}, **said.fields}
    serves = any(form.kind == "serve" for form in said.formats)
    if serves and any(form.kind == "train" for form in said.formats):
        raise PlannerError("--from: these files train and serve; read them one after the other.", code="usage", field="--from")
    asked = (said, model, cluster or {}, over or {})
    tables = serving_tables(*asked) if serves else training_tables(*asked, found.carried)
    if not {"node", "accelerator"} & set(tables["cluster"]):
        raise PlannerError(
            "on which GPUs? The launch file does not name them; give --on, such as --on h100 or --on 32xh100.",
            code="missing",
            field="--on",
        )
    return Launch(
        tools=tuple(form.title for form in said.formats),
        serves=serves,
        tables=_plain(tables),
        lines=tuple(said.lines),
        not_understood=tuple(dict.fromkeys(said.not_understood)),
        unmodelled=tuple(dict.fromkeys(said.unmodelled)),
        ignored=tuple(dict.fromkeys(said.ignored)),
        notes=tuple(dict.fromkeys(said.notes)),
        comments=tuple(found.carried),
    )


def _plain(tables: Tables) -> Tables:
    """Tables as a file holds them: sets as sorted lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, frozenset | set):
            return sorted(value)
        return {k: plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value

    return {name: plain(table) for name, table in tables.items()}


__all__ = ["Launch", "Line", "Said", "read_launch"]
