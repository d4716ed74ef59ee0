"""A search's answer as a table, and in words why the runner-up lost."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.common.arrays import Array, distinct_values
from planner.common.message import Message, join_messages
from planner.common.units import GIB
from planner.layout_search.differences import difference_columns
from planner.layout_search.found import Found
from planner.layout_search.question import SearchQuestion, Setup
from planner.layout_search.ranking import Rows, best_of_setups, front, groups_of, ranked, simplest_first
from planner.performance.evaluation import Evaluation, evaluate
from planner.performance.memory import KINDS
from planner.performance.step_time import PARTS
from planner.prices.price import cost_usd, gpu_hours
from planner.uncertainty.dollars import held_usd
from planner.uncertainty.effects import standing
from planner.uncertainty.interval import Interval, Subject, bounding_factors
from planner.uncertainty.subject import movable_part
from planner.workload.layout import Layouts

if TYPE_CHECKING:
    import pandas as pd


def frame(q: SearchQuestion, rows: Rows, about: dict[str, Any]) -> pd.DataFrame:
    """Rows as ``SearchResult.rows`` orders them: cluster, framework, layout, step time and its parts, memory by kind, dollars.

    ``rank`` counts from 1, the recommended row; ``group`` from 1, the best; ``simplest`` marks the simplest of each group,
    ``best`` the ``top`` first, ``front`` the front in time, dollars and headroom, ``best_of_cluster`` the recommended one of each
    cluster, framework and price. ``time_over_first`` and its 90 % bounds compare each row with the first, of whose error it
    shares most; ``order_decidable`` tells whether one of the two is the faster with 95 %. SI units; run columns are empty without
    a job length. ``attrs`` is ``about``.
    """
    import pandas as pd

    parts = []
    for setup in distinct_values(rows.setup):
        at = np.flatnonzero(rows.setup == setup)
        parts.append(pd.DataFrame(_columns(q, rows.take(at), int(setup)), index=at))
    table = pd.concat(parts).sort_index() if parts else pd.DataFrame(columns=["rank", "group", "front", "layout"])
    if parts:
        table.insert(0, "rank", np.arange(1, len(rows) + 1))
        for i, (name, column) in enumerate(_marks(q, rows).items(), start=1):
            table.insert(i, name, column)
        table = table.assign(**difference_columns(q, rows))
    table.attrs.update(about)
    return table


def _marks(q: SearchQuestion, rows: Rows) -> dict[str, Any]:
    """What a row stands for."""
    order = ranked(rows)
    own, place = rows.take(order), np.arange(len(rows))
    groups = groups_of(own.value)
    by_group = simplest_first(own)
    first = by_group[np.unique(groups[by_group], return_index=True)[1]]

    def back(mask: Any) -> Any:
        found = np.empty(len(rows), dtype=np.asarray(mask).dtype)
        found[order] = mask
        return found

    return {
        "group": back(groups.astype(int) + 1),
        "simplest": back(np.isin(place, first)),
        "best": place < q.top,
        "front": back(front(own)),
        "best_of_cluster": back(np.isin(place, best_of_setups(own))),
    }


def summary(q: SearchQuestion, found: Found, size: int, complete: bool) -> dict[str, Any]:
    """What was searched: sizes and rejections, plain values for JSON."""
    return {
        "objective": q.objective,
        "complete": complete,
        "num_layouts": size,
        "num_searched": found.num_layouts,
        "num_possible": found.num_possible,
        "num_fitting": found.num_fitting,
        "widened": bool(q.wide),
        "fits_at_risk": q.setups[0].risk,
        "rejected": dict(found.rejected.most_common()),
        "clusters": [setup.label for setup in q.setups],
        "refused": list(q.refused),
        "notes": list(q.said),
    }


def _columns(q: SearchQuestion, rows: Rows, setup: int) -> dict[str, Any]:
    where = q.setups[setup]
    asked, price = where.question, where.price
    answer, layouts = evaluate(asked, rows.layouts), [rows.layouts.row(i) for i in range(len(rows))]
    gpus = asked.cluster.num_gpus
    has_length = q.num_steps is not None
    stretch = where.stretch(rows.step_time_s, q.num_steps)
    return {
        "model": asked.model.name,
        "accelerator": asked.cluster.accelerator.name,
        "node": asked.cluster.node.name,
        "num_gpus": gpus,
        "framework": asked.framework.name,
        "framework_changes": json.dumps(asked.framework.changes()),
        "usd_per_gpu_hour": price.usd_per_gpu_hour if price else np.nan,
        "price": price.describe() if price else "",
        "layout": [layout.label for layout in layouts],
        **{f.name: [getattr(layout, f.name) for layout in layouts] for f in fields(Layouts)},
        "num_microbatches": answer.num_microbatches.astype(int),
        "step_time_s": rows.step_time_s,
        "tokens_per_s": answer.tokens_per_step / rows.step_time_s,
        "tokens_per_s_per_gpu": answer.tokens_per_s_per_gpu,
        "mfu": answer.mfu,
        "peak_total_bytes": rows.peak_bytes,
        "usable_bytes": answer.usable_bytes,
        "headroom_bytes": rows.headroom_bytes,
        "fit_probability": rows.fit_probability,
        "host_bytes_per_gpu": answer.memory.host_bytes,
        "run_s": rows.time_s / stretch if has_length else np.nan,
        "cost_usd": rows.usd / stretch if has_length and price else np.nan,
        "cost_usd_per_step": cost_usd(gpu_hours(rows.step_time_s, gpus), price) if price else np.nan,
        "energy_j": rows.time_s / stretch * where.power_w if where.power_w else np.nan,
        **_parts(answer),
        **_intervals(where, rows, answer, rows.time_s / stretch, has_length),
    }


def _intervals(where: Setup, rows: Rows, answer: Evaluation, time_s: Array, has_length: bool) -> dict[str, Any]:
    """90 % bounds of step time, memory and dollars as ``Plan.intervals`` has them, a column as layouts differ in kernels."""
    subject, gpus = Subject.of(where.question, rows.layouts), where.question.cluster.num_gpus
    step = standing("step_time", subject)
    lower, upper = bounding_factors(step)
    lower = np.maximum(lower, np.minimum(np.maximum(answer.hfu, answer.mfu), 1.0))
    ends = np.broadcast_arrays(time_s * lower, time_s, time_s * upper)
    times = [Interval(lower=low, expected=t, upper=high) for low, t, high in np.stack(ends, axis=1).tolist()]
    held = [] if where.price is None or not has_length else [held_usd(time, gpus, where.price) for time in times]
    part = movable_part(answer.states_bytes, rows.peak_bytes)
    least, most = bounding_factors(standing("memory", replace(subject, figure="reserved", movable=part)))
    bounds = {
        "step_time_lower_s": rows.step_time_s * lower,
        "step_time_upper_s": rows.step_time_s * upper,
        "peak_total_lower_bytes": rows.peak_bytes * least,
        "peak_total_upper_bytes": rows.peak_bytes * most,
        "cost_lower_usd": [usd.lower for usd in held] or np.nan,
        "cost_upper_usd": [usd.upper for usd in held] or np.nan,
    }
    return {**bounds, "provenance": step.provenance, "how_sure": step.why}


def step_basis(q: SearchQuestion, rows: Rows) -> str:
    """What the interval of the first row's step time comes from, as a message; the frame has its English."""
    asked = q.setups[int(rows.setup[0])].question
    subject = Subject.of(asked, rows.take(np.array([0])).layouts)
    return standing("step_time", subject).why


def _parts(answer: Evaluation) -> dict[str, Any]:
    seconds = {f"{part}_s": getattr(answer.step, f"{part}_s") for part in PARTS}
    return {**seconds, **{f"{kind}_bytes": getattr(answer.memory, f"{kind}_bytes") for kind in KINDS}}


def runner_up(table: pd.DataFrame) -> int:
    """Position of the next answer: the simplest of the second group, or where there is only one group the second row."""
    others = np.flatnonzero(np.asarray((table["group"] > 1) & table["simplest"]))
    return int(others[np.argmin(table["group"].to_numpy()[others])]) if len(others) else 1


def _more(sign: str, part: str, gain_s: float) -> Message:
    return Message("{0} {1}{2:.3g} s", part.replace("_", " "), sign, gain_s)


def why_second(table: pd.DataFrame) -> str:
    """One sentence on what the next answer does worse than the recommended one."""
    best, second = (table.iloc[i] for i in (0, runner_up(table)))
    names = ("accelerator", "num_gpus", "framework", *(f.name for f in fields(Layouts)))
    changed = [Message("{0} {1} -> {2}", name, best[name], second[name]) for name in names if best[name] != second[name]]
    mine, other = (json.loads(row["framework_changes"]) for row in (best, second))
    for name in sorted({*mine, *other} if best["framework"] == second["framework"] else ()):
        one, two = (told.get(name, Message("as the catalog has it")) for told in (mine, other))
        changed += [Message("{0} {1} -> {2}", f"framework.{name}", one, two)] if one != two else []
    slower = second["step_time_s"] / best["step_time_s"] - 1.0
    parts = sorted(((second[f"{p}_s"] - best[f"{p}_s"], p) for p in PARTS), reverse=True)
    worse = [_more("+", name, gain) for gain, name in parts if gain > 1e-3 * best["step_time_s"]][:3]
    better = [_more("", name, gain) for gain, name in parts[::-1] if -gain > 1e-3 * best["step_time_s"]][:2]
    memory = (second["peak_total_bytes"] - best["peak_total_bytes"]) / GIB
    parted = Message(" ({0})", join_messages(", ", worse + better)) if worse or better else ""
    priced = np.isfinite(best["cost_usd_per_step"]) and best["cost_usd_per_step"] > 0
    dollars = Message(", dollars {0:+.2%}", second["cost_usd_per_step"] / best["cost_usd_per_step"] - 1.0) if priced else ""
    layouts = join_messages(", ", changed) or "the same layout"
    return Message("runner-up ({0}): step {1:+.2f}%{2}, memory {3:+.2f} GiB{4}", layouts, 100.0 * slower, parted, memory, dollars)
