"""Many questions at once: the answers of ``planner.plan`` as columns of one table, the same bits in far less time.

Questions that share model, framework, kind of node and all of the job but sequence, batch and length are one evaluation, whose
layouts, clusters and jobs are columns. A question without a layout is a search, and asked by itself, as is one that cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.common.arguments import as_progress
from planner.common.arrays import Array
from planner.common.errors import PlannerError, near
from planner.common.message import join_messages, shown_value
from planner.common.progress import Progress
from planner.hardware.cluster import Cluster
from planner.layout_search.space import allowed
from planner.model.architecture import Model
from planner.model.parameters import parameters_active, parameters_total
from planner.performance.evaluation import Evaluation, evaluate_each
from planner.performance.feasibility import check_job, check_sizes, require_possible
from planner.performance.risk import RISK, FitRule, check_risk, fit_rule
from planner.prices.market import as_price, commitment_note, price_note, run_usd
from planner.prices.price import Price, cost_usd, gpu_hours
from planner.training.plan import Plan
from planner.training.planning import as_sharded, batch_notes, crossing_notes, framework_of, plan, question_notes, reasons_of
from planner.uncertainty.dollars import held_usd
from planner.uncertainty.effects import Standing, effects_of, standing
from planner.uncertainty.interval import Interval, bounding_factors
from planner.uncertainty.subject import Subject, movable_part, smallness
from planner.workload.dispatch import stack_on
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.layout import Layout, Layouts, as_columns
from planner.workload.question import Question
from planner.workload.resolve import as_cluster, as_job, as_layout, as_model, usual_precision

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("model", "cluster", "framework", "job", "layout", "price")
FIGURES = (
    "num_gpus", "parameters_total", "parameters_active", "num_microbatches", "tokens_per_step", "step_time_s", "tokens_per_s",
    "tokens_per_s_per_gpu", "mfu", "mfu_causal", "hfu", "peak_allocated_bytes", "peak_reserved_bytes", "peak_total_bytes",
    "usable_bytes", "headroom_bytes", "num_steps", "run_s", "gpu_hours", "cost_usd_per_step", "cost_usd",
)  # fmt: skip
"""Fields of a Plan that are columns."""
SURE = ("step_time_s", "peak_total_bytes", "run_s", "cost_usd")
"""Figures with their 90 % bounds beside them: step_time_lower_s, step_time_upper_s."""
VERDICTS = ("fits", "certainty", "fit_probability")
ENDS = ("lower", "upper")


def bound(figure: str, end: str) -> str:
    """The column of a figure's bound.

    >>> bound("step_time_s", "lower")
    'step_time_lower_s'
    """
    stem, _, unit = figure.rpartition("_")
    return f"{stem}_{end}_{unit}"


COLUMNS = (
    *VERDICTS,
    *FIGURES,
    *(bound(name, end) for name in SURE for end in ENDS),
    *("provenance", "framework", "layout", "reasons", "notes", "error", "error_field"),
)
"""Of the answer: ``error`` and ``error_field`` say why a question has no figures."""
BLOCK = 4096
"""Questions worked out between two reports of progress."""


def plan_many(
    questions: pd.DataFrame | Iterable[Mapping[str, Any]],
    *,
    risk: float = RISK,
    allow: Iterable[str] = (),
    progress: Progress | None = None,
) -> pd.DataFrame:
    """``plan`` of every question: one row each in the same order, SI units, the figures of ``Plan`` by their names.

    ``questions``: what ``plan`` takes by name, as mappings; or a frame with a column for each table or field ("model",
    "cluster.num_gpus", "job.seq_len", "layout.tp", "job.adapter.rank"), whose index the answer keeps. An empty cell is left out.
    Bounds such as ``step_time_lower_s`` are those of the 90 % interval. ``reasons`` say why it does not fit; no nearest layout is
    looked for.
    A question that cannot be has the text of its PlannerError in ``error``, the wrong field in ``error_field``, and no figures.
    ``risk`` and ``allow`` as in ``plan``. Raises PlannerError for columns that are no field of a question.
    """
    import pandas as pd

    check_risk(risk)
    admitted, progress = allowed(allow), as_progress(progress)
    asked, index = _asked(questions)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(asked), BLOCK):
        rows += answers_to(asked[start : start + BLOCK], risk=risk, allow=admitted)
        if progress is not None:
            progress(len(rows), len(asked))
    return pd.DataFrame(rows, columns=list(COLUMNS), index=index)


def answers_to(questions: Sequence[Mapping[str, Any]], *, risk: float = RISK, allow: Iterable[str] = ()) -> list[dict[str, Any]]:
    """A row of COLUMNS for each question."""
    resolved = _Resolved()
    found: list[dict[str, Any] | None] = [None] * len(questions)
    groups: dict[Hashable, list[tuple[int, _Asked]]] = {}
    for i, tables in enumerate(questions):
        try:
            question = resolved.question(tables)
        except PlannerError:
            continue  # asked by itself, so that its error is that of ``plan``
        if question is not None:
            groups.setdefault(question.group, []).append((i, question))
    for members in groups.values():
        for (i, _), row in zip(members, _together([question for _, question in members], risk), strict=True):
            found[i] = row
    return [_alone(tables, risk, allow) if row is None else row for tables, row in zip(questions, found, strict=True)]


def answer_row(answer: Plan) -> dict[str, Any]:
    """The row of COLUMNS of one plan."""
    sure = answer.intervals
    row: dict[str, Any] = {name: getattr(answer, name) for name in (*VERDICTS, *FIGURES)}
    row |= {bound(name, end): getattr(sure[name], end) if name in sure else None for name in SURE for end in ENDS}
    return {
        **row,
        "provenance": sure["step_time_s"].provenance,
        "framework": answer.framework.name,
        "layout": answer.layout.label,
        "reasons": join_messages("; ", answer.reasons),
        "notes": join_messages("; ", answer.notes),
        "error": "",
        "error_field": "",
    }


def _alone(tables: Mapping[str, Any], risk: float, allow: Iterable[str]) -> dict[str, Any]:
    """The row of a question by ``plan`` itself."""
    unknown = [str(name) for name in tables if name not in TABLES]
    try:
        if unknown:
            raise PlannerError("{0}: no table of a question; {1}.", unknown[0], near(str(unknown[0]), TABLES))
        missing = [name for name in ("model", "cluster", "job") if tables.get(name) is None]
        if missing:
            raise PlannerError("{0} is missing; a question needs model, cluster and job.", missing[0], field=missing[0])
        return answer_row(plan(**tables, explain=False, risk=risk, allow=allow))
    except PlannerError as error:
        return _error_row(error)


def _require_many(questions: Any) -> None:
    if isinstance(questions, str | Mapping) or not isinstance(questions, Iterable):
        raise PlannerError(
            "questions = {0!r}: must be a list of mappings or a frame.",
            questions,
            code="type",
            field="questions",
            value=questions,
        )


def _asked(questions: pd.DataFrame | Iterable[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], Any]:
    """(questions as mappings, the frame's index)."""
    if not hasattr(questions, "to_dict"):
        _require_many(questions)
        rows = list(questions)
        for i, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise PlannerError(
                    "questions[{0}] = {1}: must be a mapping of what plan takes: model, cluster, job and so on.",
                    i,
                    shown_value(row, 60),
                    code="type",
                    field=f"questions[{i}]",
                    value=row,
                )
        return rows, None
    frame: Any = questions
    if not frame.columns.is_unique:
        raise PlannerError(
            "questions: column {0!r} occurs twice; name each field once.", frame.columns[frame.columns.duplicated()][0]
        )
    parts = [str(column).split(".") for column in frame.columns]
    for path in parts:
        if path[0] not in TABLES:
            raise PlannerError(
                "questions: column {0!r} is no field of a question; {1} Set what only labels a row as the index.",
                ".".join(path),
                near(path[0], TABLES),
            )
    columns = [frame[column].tolist() for column in frame.columns]
    asked: list[Mapping[str, Any]] = []
    for cells in zip(*columns, strict=True) if columns else [() for _ in range(len(frame))]:
        tables: dict[str, Any] = {}
        for path, cell in zip(parts, cells, strict=True):
            if not _is_empty(cell):
                _put(tables, path, cell)
        asked.append(tables)
    return asked, frame.index


def _is_empty(cell: Any) -> bool:
    """None, NaN and pandas' NA."""
    return cell is None or (isinstance(cell, float) and cell != cell) or type(cell).__name__ in ("NAType", "NaTType")


def _put(tables: dict[str, Any], path: Sequence[str], cell: Any) -> None:
    """Set a field of a table of tables; a name that stands alone beside fields is the table's ``base`` or ``name``."""
    here = tables
    for name in path[:-1]:
        within = here.get(name)
        if not isinstance(within, dict):
            within = here[name] = (
                {} if within is None else {"base" if name == "model" else "node" if name == "cluster" else "name": within}
            )
        here = within
    here[path[-1]] = cell


def _key(value: Any) -> Hashable:
    """What tells a table from others; True, 1 and 1.0 are three values, and a job has a precision of its own or the usual one."""
    if isinstance(value, Job):
        return value, "precision" in value.model_fields_set
    if isinstance(value, Mapping):
        return tuple((name, _key(value[name])) for name in value)
    if isinstance(value, list | tuple):
        return tuple(_key(one) for one in value)
    return type(value), value


@dataclass(frozen=True, kw_only=True)
class _Asked(Question):
    """A question whose tables are read, and what it has to share to be evaluated with others."""

    named: Framework
    layout: Layout
    price: Price | None
    notes: tuple[str, ...]
    group: Hashable


class _Resolved:
    """Tables read once however many questions hold them."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def _once(self, key: Hashable, read: Callable[[], Any]) -> Any:
        if key not in self._kept:
            try:
                self._kept[key] = read()
            except PlannerError as error:
                self._kept[key] = error
        found = self._kept[key]
        if isinstance(found, PlannerError):
            raise found
        return found

    def question(self, tables: Mapping[str, Any]) -> _Asked | None:
        """The question; None for one that is asked by itself. PlannerError as ``plan`` raises them."""
        if tables.get("layout") is None or any(name not in TABLES for name in tables):
            return None
        try:
            keys = {name: _key(tables.get(name)) for name in TABLES}
            hash(tuple(keys.values()))
        except TypeError:
            return None
        if any(tables.get(name) is None for name in ("model", "cluster", "job")):
            return None
        found: _Asked = self._once(tuple(keys.values()), lambda: self._read(tables, keys))
        return found

    def _read(self, tables: Mapping[str, Any], keys: Mapping[str, Hashable]) -> _Asked:
        model: Model = self._once(("model", keys["model"]), lambda: as_model(tables["model"]))
        cluster: Cluster = self._once(("cluster", keys["cluster"]), lambda: as_cluster(tables["cluster"]))
        usual = usual_precision(cluster.accelerator)
        job: Job = self._once(("job", keys["job"], usual), lambda: as_job(tables["job"], cluster))
        layout: Layout = self._once(("layout", keys["layout"]), lambda: as_layout(tables["layout"]))
        self._once(("sizes", keys["model"], keys["job"]), lambda: check_sizes(model, job))
        card, node = cluster.accelerator, cluster.node
        price = self._once(("price", keys["price"], card.name, node), lambda: as_price(tables.get("price"), card.name, node))
        given = tables.get("framework")
        where = ("framework", keys["framework"])
        named, notes = self._once(
            where if given is not None else (*where, keys["model"], keys["cluster"], keys["job"], keys["layout"]),
            lambda: framework_of(given, model, cluster, job, layout),
        )
        layout, why = as_sharded(layout, named)
        notes = (*notes, *why)
        framework = stack_on(named, cluster, model)
        self._once(
            ("able", keys["model"], node, card, framework, keys["job"]),
            lambda: check_job(Question(model, cluster, framework, job)),
        )
        kind = self._once(("kind", keys["job"], keys["model"]), lambda: _kind(job, model))
        return _Asked(
            model=model,
            cluster=cluster,
            named=named,
            framework=framework,
            job=job,
            layout=layout,
            price=price,
            notes=notes,
            group=(model, node, card, framework, named, kind),
        )


def _kind(job: Job, model: Model) -> Job:
    """The job without what may be a column: its length, its batch and, where all of the model's work follows it, its sequence."""
    free: dict[str, Any] = {"global_batch_size": 1, "num_samples": None, "num_tokens": None, "num_steps": None, "num_epochs": 1.0}
    whole = model.cross_attention or job.images or job.teacher is not None
    kinds = [model, *(model.of(kind) for kind in sorted(set(model.layer_kinds)))]
    if not (whole or any(one.compress_ratio or one.index_num_heads or one.index_top_k for one in kinds)):
        free["seq_len"] = 1
    return job.model_copy(update=free)


def _together(questions: Sequence[_Asked], risk: float) -> list[dict[str, Any] | None]:
    """Rows of questions of one group; None for those that cannot be."""
    first = questions[0]
    clusters, jobs = [q.cluster for q in questions], [q.job for q in questions]
    layouts = as_columns([q.layout for q in questions], np.array([float(c.num_gpus) for c in clusters]))
    try:
        evaluation = evaluate_each(first.model, clusters, first.framework, jobs, layouts)
    except PlannerError:
        return [None] * len(questions)
    figures = _figures(evaluation, questions)
    figures |= _bounds(evaluation, questions, figures)
    figures |= _verdicts(evaluation, questions, risk)
    columns = {name: _cells(values) for name, values in figures.items()}
    labels: dict[tuple[Layout, float], str] = {}
    rows: list[dict[str, Any] | None] = []
    for i, question in enumerate(questions):
        if not evaluation.possible[i]:
            rows.append(_refused(question, layouts.take(np.array([i]))))
            continue
        which = question.layout, float(layouts.dp[i])
        if which not in labels:
            labels[which] = layouts.row(i).label
        rows.append(_row(i, question, {name: values[i] for name, values in columns.items()}, evaluation, labels[which]))
    return rows


def _refused(q: _Asked, columns: Layouts) -> dict[str, Any] | None:
    """The row of a layout that cannot be; ``columns``: it alone."""
    whole = columns.dp[0] == np.floor(columns.dp[0]) and columns.dp[0] >= 1
    try:
        require_possible(q, columns, columns.row(0) if whole else q.layout)
    except PlannerError as error:
        return _error_row(error)
    return None


def _error_row(error: PlannerError) -> dict[str, Any]:
    said = {"framework": "", "layout": "", "error": error.args[0], "error_field": error.field}
    return {**dict.fromkeys(COLUMNS), "fits": False, **said}


def _cells(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _figures(evaluation: Evaluation, questions: Sequence[_Asked]) -> dict[str, Any]:
    """Columns of FIGURES but those of the run and of money; as ``planning`` works them out for one layout."""
    model, memory, step_s = questions[0].model, evaluation.memory, evaluation.step_time_s
    tokens = np.asarray(evaluation.tokens_per_step, dtype=float)
    n = len(questions)
    with np.errstate(invalid="ignore"):
        hfu = evaluation.hfu
    return {
        "num_gpus": [q.cluster.num_gpus for q in questions],
        "parameters_total": [parameters_total(model)] * n,
        "parameters_active": [parameters_active(model)] * n,
        "num_microbatches": [0 if m != m else int(m) for m in evaluation.num_microbatches.tolist()],
        "tokens_per_step": tokens,
        "step_time_s": step_s,
        "tokens_per_s": tokens / step_s,
        "tokens_per_s_per_gpu": evaluation.tokens_per_s_per_gpu,
        "mfu": evaluation.mfu,
        "mfu_causal": evaluation.mfu_causal,
        "hfu": hfu,
        "peak_allocated_bytes": memory.allocated_bytes,
        "peak_reserved_bytes": memory.reserved_bytes,
        "peak_total_bytes": memory.total_bytes,
        "usable_bytes": np.full(n, evaluation.usable_bytes),
        "headroom_bytes": evaluation.headroom_bytes,
    }


def _subjects(questions: Sequence[_Asked]) -> dict[Subject, list[int]]:
    """Questions by what their intervals depend on beside their layout and sequence."""
    first = questions[0]
    found: dict[tuple[int, int], list[int]] = {}
    for i, q in enumerate(questions):
        found.setdefault((q.cluster.num_gpus, q.cluster.num_nodes), []).append(i)
    return {
        replace(Subject.of(replace(first, cluster=questions[at[0]].cluster), Layout()), coordinates=()): at
        for at in found.values()
    }


def _factors(found: Standing, size: int) -> tuple[Array, Array]:
    lower, upper = bounding_factors(found)
    return np.broadcast_to(np.asarray(lower), size), np.broadcast_to(np.asarray(upper), size)


def _bounds(evaluation: Evaluation, questions: Sequence[_Asked], figures: Mapping[str, Any]) -> dict[str, Any]:
    """Bounds of the step and of the peak; as ``Plan.intervals``."""
    n = len(questions)
    bounds = {bound(name, end): np.full(n, np.nan) for name in ("step_time_s", "peak_total_bytes") for end in ENDS}
    provenance = [""] * n
    lengths = np.array([float(q.job.seq_len) for q in questions])
    kernel = np.broadcast_to(smallness(questions[0].model, lengths, evaluation.layouts), n)
    step_s, peak = figures["step_time_s"], figures["peak_total_bytes"]
    used = np.minimum(np.maximum(figures["hfu"], figures["mfu"]), 1.0)
    for subject, members in _subjects(questions).items():
        at = np.array(members)
        found = standing("step_time", replace(subject, kernel=kernel[at]))
        lower, upper = _factors(found, len(at))
        bounds["step_time_lower_s"][at] = np.maximum(step_s[at] * lower, step_s[at] * used[at])
        bounds["step_time_upper_s"][at] = step_s[at] * upper
        movable = movable_part(evaluation.states_bytes[at], peak[at])
        memory = standing("memory", replace(subject, kernel=kernel[at], figure="reserved", movable=movable))
        lower, upper = _factors(memory, len(at))
        bounds["peak_total_lower_bytes"][at] = peak[at] * lower
        bounds["peak_total_upper_bytes"][at] = peak[at] * upper
        for i in members:
            provenance[i] = found.provenance
    return {**bounds, "provenance": provenance}


def _verdicts(evaluation: Evaluation, questions: Sequence[_Asked], risk: float) -> dict[str, Any]:
    """Whether each fits and how sure that is; as ``Plan.certainty``."""
    n = len(questions)
    fits = evaluation.fits
    probability, holds = np.zeros(n), np.zeros(n, dtype=bool)
    by_length = "kernel" in effects_of("memory").terms
    rules: dict[tuple[int, int, int], tuple[FitRule, list[int]]] = {}
    for i, q in enumerate(questions):
        key = (q.cluster.num_gpus, q.cluster.num_nodes, q.job.seq_len if by_length else 0)
        if key not in rules:
            rules[key] = (fit_rule(q, risk), [])
        rules[key][1].append(i)
    for rule, members in rules.values():
        at = np.array(members)
        firm, states = evaluation.firm_bytes[at], evaluation.states_bytes[at]
        probability[at], holds[at] = rule.probability(firm, states), rule.holds(firm, states)
    crowded = evaluation.memory.host_bytes > evaluation.host_usable_bytes
    probability = np.where(crowded, 0.0, probability)
    sure = np.where(fits, fits & holds, probability <= risk)
    words = [
        ("" if certain else "probably ") + ("fits" if fit else "does not fit")
        for certain, fit in zip(sure.tolist(), fits.tolist(), strict=True)
    ]
    return {"fits": fits, "certainty": words, "fit_probability": probability}


def _row(i: int, q: _Asked, cells: dict[str, Any], evaluation: Evaluation, label: str) -> dict[str, Any]:
    """The row of one question: its columns, and what a run and money come to."""
    step_s, gpus, fits = cells["step_time_s"], q.cluster.num_gpus, cells["fits"]
    per_epoch = q.job.steps_per_epoch
    steps = None if per_epoch is None else per_epoch * q.job.num_epochs
    run_s = None if steps is None else steps * step_s
    paid = q.price if fits else None
    hours = None if run_s is None else float(gpu_hours(run_s, gpus))
    run = {
        "run_s": run_s,
        "gpu_hours": hours,
        "cost_usd_per_step": None if paid is None else float(cost_usd(gpu_hours(step_s, gpus), paid)),
        "cost_usd": None if run_s is None or paid is None else float(run_usd(run_s, gpus, paid)),
    }
    bounds: dict[str, float | None] = {bound(name, end): None for name in ("run_s", "cost_usd") for end in ENDS}
    if run_s is not None:
        step = Interval(lower=cells["step_time_lower_s"], expected=step_s, upper=cells["step_time_upper_s"])
        sure = {"run_s": step.scaled(run_s / step_s)}
        if paid is not None:
            sure["cost_usd"] = held_usd(sure["run_s"], gpus, paid)
        bounds |= {bound(name, end): getattr(found, end) for name, found in sure.items() for end in ENDS}
    notes = (
        *q.notes,
        *question_notes(replace(q, framework=q.named), q.layout),
        *price_note(paid, q.cluster.accelerator.name),
        *batch_notes(evaluation, q.job, i),
        *crossing_notes(evaluation, q.cluster, q.layout, i),
    )
    if run_s is not None and paid is not None:
        notes = (*notes, *commitment_note(run_s, gpus, paid))
    return {
        **cells,
        **run,
        **bounds,
        "num_steps": steps,
        "framework": q.framework.name,
        "layout": label,
        "reasons": join_messages("; ", () if fits else reasons_of(evaluation, i)),
        "notes": join_messages("; ", notes),
        "error": "",
        "error_field": "",
    }
