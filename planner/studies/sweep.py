"""Sweeps: a scenario's cases over a grid of changed fields, one row a point."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.common.arguments import as_a, as_list
from planner.common.errors import PlannerError, as_text, near, one_of
from planner.common.message import Message, shown_value
from planner.common.quantities import value_of
from planner.common.spec import fields_of, python_value
from planner.common.spellings import places
from planner.layout_search.space import allowed
from planner.performance.risk import RISK, check_risk
from planner.scenarios.edited import Value, question_with
from planner.scenarios.quick import part_of_layout
from planner.scenarios.scenario import PLAN_TABLES, TABLES, Case, Scenario, read_scenario
from planner.training.many import ENDS, answers_to, bound

if TYPE_CHECKING:
    import pandas as pd


MAX_POINTS = 1_000_000
MEASURES = (
    "fits", "step_time_s", "tokens_per_s", "tokens_per_s_per_gpu", "mfu", "peak_total_bytes", "usable_bytes", "headroom_bytes",
    "num_gpus", "parameters_total", "parameters_active", "run_s", "gpu_hours", "cost_usd", "cost_usd_per_step",
)  # fmt: skip
PREFIXES = (*PLAN_TABLES, "accelerator", "link")


@dataclass(frozen=True, kw_only=True)
class Variation:
    """One field and the values it takes."""

    key: str
    values: tuple[Value, ...]


@dataclass(frozen=True, kw_only=True)
class SweepQuestion:
    """The cases of a scenario and what is varied, the last field fastest.

    ``usual_batch``: sequences of a step by ``job.seq_len``, where nobody gave them and they follow it as in ``planner plan``.
    """

    cases: tuple[Case, ...]
    variations: tuple[Variation, ...]
    risk: float = RISK
    allow: frozenset[str] = frozenset()
    usual_batch: Mapping[Value, int] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """The varied fields."""
        return [v.key for v in self.variations]

    @property
    def num_points(self) -> int:
        """Cases times the sizes of all variations."""
        return len(self.cases) * int(np.prod([float(len(v.values)) for v in self.variations]))

    @property
    def has_layouts(self) -> bool:
        """Whether every point has its layout, so that none is searched for."""
        return all("layout" in case.tables for case in self.cases) or any(key.startswith("layout.") for key in self.keys)

    @property
    def notes(self) -> tuple[str, ...]:
        """That the varied fields are all that is given of a layout."""
        return part_of_layout(Scenario(title="", cases=self.cases), self.keys)

    def points(self) -> list[tuple[int, tuple[Value, ...]]]:
        """(case, values) of every point in order."""
        grid = itertools.product(*(v.values for v in self.variations))
        return [(case, values) for case, values in itertools.product(range(len(self.cases)), list(grid))]


def parse_variation(text: str) -> Variation:
    """``KEY=start:stop:steps`` (even steps, both ends in), ``KEY=start:stop:steps:log`` (even ratios) or ``KEY=a,b,c``.

    >>> parse_variation("job.seq_len=1024:4096:3:log").values
    (1024, 2048, 4096)
    >>> parse_variation("job.seq_len=2k,4k").values, parse_variation("job.seq_len=2k:4k:2").values
    ((2048, 4096), (2048, 4096))
    """
    key, equals, right = text.partition("=")
    key, right = key.strip(), right.strip()
    meant = ", ".join(f"--vary {place}={right}" for place in places(key)) if equals and right and "." not in key else ""
    if meant:
        raise PlannerError("--vary {0}: the table is missing; did you mean {1}?", text, meant, field="--vary", value=text)
    if not equals or not right or key.partition(".")[0] not in PREFIXES or "." not in key:
        raise PlannerError(
            "--vary {0}: give KEY=start:stop:steps or KEY=a,b,c, with a KEY like job.seq_len; tables: {1}.",
            text,
            ", ".join(PREFIXES),
        )
    if ":" not in right:
        listed = Variation(key=key, values=tuple(_value(key, part.strip()) for part in right.split(",")))
        _require_numbers(listed)
        return listed
    parts = right.split(":")
    logarithmic = len(parts) == 4 and parts[3].strip() == "log"
    try:
        ends, steps = [_value(key, part.strip()) for part in parts[:2]], int(parts[2])
        start, stop = (float("nan") if isinstance(end, bool) else float(end) for end in ends)
    except (ValueError, IndexError):
        steps = 0
    if steps < 1 or len(parts) not in (3, 4) or (len(parts) == 4 and not logarithmic) or not np.isfinite([start, stop]).all():
        raise PlannerError("--vary {0}: a range is start:stop:steps or start:stop:steps:log, with at least one step.", text)
    if logarithmic and (start <= 0 or stop <= 0):
        raise PlannerError("--vary {0}: a logarithmic range needs positive ends.", text)
    if steps > MAX_POINTS:
        raise PlannerError(
            "--vary {0}: {1:,} steps; a sweep holds at most {2:,} points. Take fewer steps.", text, steps, MAX_POINTS
        )
    numbers = np.geomspace(start, stop, steps) if logarithmic else np.linspace(start, stop, steps)
    return Variation(key=key, values=tuple(_whole(float(n)) for n in numbers))


def _whole(number: float) -> int | float:
    """A whole number where it is one but for rounding."""
    nearest = round(number)
    return nearest if abs(number - nearest) <= 1e-9 * max(abs(number), 1.0) else number


def _value(key: str, text: str) -> Value:
    """A value as ``--set`` reads it, 4k of a length; numbers below 0 and words of numbers, too."""
    try:
        return _whole(float(text))
    except (ValueError, OverflowError):
        return value_of(key, text)


def _require_numbers(one: Variation) -> None:
    """PlannerError for a word among numbers, whose point would only be a row that says why not."""
    word = next((value for value in one.values if isinstance(value, str)), None)
    if word is not None and any(isinstance(value, int | float) and not isinstance(value, bool) for value in one.values):
        raise PlannerError(
            "--vary {0}: {1!r} is no number, the other values are; give numbers, such as --vary {0}=1,2,4.",
            one.key,
            word,
            field=one.key,
            value=word,
        )


def as_sweep(
    scenario: str | Path | Scenario | Mapping[str, Any],
    vary: Mapping[str, Sequence[Value]] | Sequence[Variation],
    *,
    risk: float = RISK,
    allow: Iterable[str] = (),
) -> SweepQuestion:
    """Check what is swept. ``scenario`` is a file or the tables of one case; ``vary`` maps keys to values; ``risk`` and ``allow``
    say how the layout of a point without one is chosen."""
    if isinstance(scenario, Scenario):
        cases = scenario.cases
    elif isinstance(scenario, str | Path):
        cases = read_scenario(scenario).cases
    else:
        tables = {name: dict(t) if isinstance(t, Mapping) else {"name": t} for name, t in fields_of(scenario, "scenario").items()}
        unknown = sorted(set(tables) - set(TABLES))
        if unknown:
            raise PlannerError("scenario: unknown table {0}; {1}.", unknown[0], near(unknown[0], TABLES))
        cases = (Case(label="case", tables=tables, where="scenario"),)
    variations = _variations(vary)
    if not variations or not all(v.values for v in variations):
        raise PlannerError("--vary: nothing to vary; give at least one KEY=start:stop:steps.")
    keys = [v.key for v in variations]
    for key in keys:
        if key.partition(".")[0] not in PREFIXES or "." not in key:
            raise PlannerError(
                "--vary {0}: no such table; use table.field, whose table {1}.", key, one_of(key.partition(".")[0], PREFIXES)
            )
        if keys.count(key) > 1:
            raise PlannerError("--vary {0}: given twice; put all its values into one.", key)
    question = SweepQuestion(cases=cases, variations=tuple(variations), risk=check_risk(risk), allow=frozenset(allowed(allow)))
    if question.num_points > MAX_POINTS:
        sizes = " x ".join(str(n) for n in (len(cases), *(len(v.values) for v in variations)))
        raise PlannerError(
            "the grid holds {0:,} points ({1}), more than {2:,}; take fewer steps, or vary fewer fields at a time.",
            question.num_points,
            sizes,
            MAX_POINTS,
        )
    return question


def _variations(vary: Mapping[str, Sequence[Value]] | Sequence[Variation]) -> list[Variation]:
    """What is varied, each field with a list of numbers, truth values or names."""
    if not isinstance(vary, Mapping):
        return [
            as_a(one, Variation, "vary", "parse_variation") for one in as_list(vary, "vary", Message("fields with their values"))
        ]
    found = []
    for key, values in vary.items():
        where = f"vary[{shown_value(key)}]"
        listed = [python_value(value) for value in as_list(values, where, Message("values"))]
        for value in listed:
            if not isinstance(value, bool | int | float | str):
                raise PlannerError("{0} = {1!r}: must be a number, a truth value or a name.", where, value, code="type")
        found.append(Variation(key=as_text(key, "vary"), values=tuple(listed)))
    return found


def evaluate_points(q: SweepQuestion, points: Sequence[tuple[int, tuple[Value, ...]]]) -> list[dict[str, Any]]:
    """Rows of some points; one that cannot be is a row with ``error``."""
    rows: list[dict[str, Any]] = []
    asked: list[tuple[int, dict[str, Any]]] = []
    for case, values in points:
        changes = {v.key: value for v, value in zip(q.variations, values, strict=True)}
        rows.append({"case": q.cases[case].label, **changes})
        if (batch := q.usual_batch.get(changes.get("job.seq_len", 0))) is not None:
            changes = {"job.global_batch_size": batch, **changes}
        try:
            asked.append((len(rows) - 1, question_with(q.cases[case].asked(), changes)))
        except PlannerError as error:
            rows[-1] |= {"framework": "", "layout": "", "error": str(error)}
    answers = answers_to([question for _, question in asked], risk=q.risk, allow=q.allow)
    for (i, _), answer in zip(asked, answers, strict=True):
        rows[i] |= _measures(answer)
    return rows


def _measures(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What a sweep's row says of an answer."""
    if answer["error"]:
        return {"framework": "", "layout": "", "error": str(answer["error"])}
    bounds = (bound(name, end) for name in ("step_time_s", "peak_total_bytes", "cost_usd") for end in ENDS)
    measures = {name: answer[name] for name in (*MEASURES, *bounds, "provenance")}
    usd = answer["cost_usd_per_step"]
    measures["tokens_per_usd"] = answer["tokens_per_step"] / usd if usd else None
    return {**measures, "framework": answer["framework"], "layout": answer["layout"], "error": answer["reasons"]}


def frameworks_differ(table: pd.DataFrame) -> bool:
    """Whether a sweep's points are of several frameworks: the usual one changes with the number of GPUs, and no such points
    are compared unsaid."""
    return len({name for name in table["framework"] if name}) > 1


def crossovers(table: pd.DataFrame, key: str, measure: str = "step_time_s") -> list[str]:
    """Where the best case changes along one numeric field: one sentence for each change."""
    leaders: list[tuple[Any, str]] = []
    for value, rows in table[table["fits"]].groupby(key, sort=True):
        leaders.append((value, list(rows["case"])[int(np.argmin(rows[measure].to_numpy(dtype=float)))]))
    text: list[str] = []
    for (before, left), (after, right) in itertools.pairwise(leaders):
        if left != right:
            text.append(Message("{0}: {1} leads at {2:g}, {3} at {4:g}", key, left, before, right, after))
    return text
