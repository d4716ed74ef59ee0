"""A search's answer as a table, and in words why the runner-up lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.cost import Price, cost_usd, gpu_hours
from planner.errors import PlannerError
from planner.evaluation import Evaluation, evaluate
from planner.layout import Array, Layouts
from planner.layout_grid import LayoutGrid
from planner.memory import KINDS
from planner.parameters import parameters_total
from planner.search_rows import best_of_setups, front
from planner.step_time import PARTS
from planner.uncertainty import Subject, interval
from planner.units import GIB

if TYPE_CHECKING:
    import pandas as pd

    from planner.searching import SearchResult


def frame(result: SearchResult) -> pd.DataFrame:
    """Rows ranked by the objective: cluster, stack, layout, step time and its parts, memory and its kinds, run, dollars.

    ``rank`` counts from 1; ``best`` marks the ``top`` best, ``front`` the front in time, dollars and headroom,
    ``best_of_cluster`` the best of each cluster, stack and price. SI units; run columns are empty without a job length.
    ``attrs`` holds what was searched and how many were rejected for which reason.
    """
    import pandas as pd

    q, rows = result.question, result.found.rows
    parts = []
    for setup in np.unique(rows.setup):
        at = np.flatnonzero(rows.setup == setup)
        parts.append(pd.DataFrame(_columns(result, int(setup), at), index=at))
    table = pd.concat(parts).sort_index() if parts else pd.DataFrame(columns=["rank", "front", "layout"])
    if parts:
        table.insert(0, "rank", np.arange(1, len(rows) + 1))
        table.insert(1, "best", np.arange(len(rows)) < q.top)
        table.insert(2, "front", front(rows))
        table.insert(3, "best_of_cluster", np.isin(np.arange(len(rows)), best_of_setups(rows)))
    table.attrs.update(summary(result))
    return table


def summary(result: SearchResult) -> dict[str, Any]:
    """What was searched: sizes and rejections, plain values for JSON."""
    q, found = result.question, result.found
    return {
        "objective": q.objective, "complete": result.complete, "num_layouts": result.size, "num_searched": found.num_layouts,
        "num_possible": found.num_possible, "num_fitting": found.num_fitting, "rejected": dict(found.rejected.most_common()),
        "clusters": [setup.label for setup in q.setups], "refused": list(q.refused),
    }  # fmt: skip


def _columns(result: SearchResult, setup: int, at: np.ndarray[tuple[int], np.dtype[np.intp]]) -> dict[str, Any]:
    q = result.question
    rows, where = result.found.rows.take(at), q.setups[setup]
    grid, price = where.grid, where.price
    answer = evaluate(grid.model, grid.cluster, grid.framework, grid.job, rows.layouts)
    gpus = grid.cluster.num_gpus
    has_length = q.num_steps is not None
    return {
        "model": grid.model.name, "accelerator": grid.cluster.accelerator.name, "node": grid.cluster.node.name, "num_gpus": gpus,
        "framework": grid.framework.name, "usd_per_gpu_hour": price.usd_per_gpu_hour if price else np.nan,
        "price": price.describe() if price else "", "layout": [rows.layouts.row(i).label for i in range(len(rows))],
        **{f.name: _named(rows.layouts, f.name) for f in fields(Layouts)},
        "num_microbatches": answer.num_microbatches.astype(int), "step_time_s": rows.step_time_s,
        "tokens_per_s": answer.tokens_per_step / rows.step_time_s, "tokens_per_s_per_gpu": answer.tokens_per_s_per_gpu,
        "mfu": answer.mfu, "peak_total_bytes": rows.peak_bytes, "usable_bytes": answer.usable_bytes,
        "headroom_bytes": rows.headroom_bytes, "host_bytes_per_gpu": answer.memory.host,
        "run_s": rows.time_s if has_length else np.nan, "cost_usd": rows.usd if has_length and price else np.nan,
        "cost_usd_per_step": cost_usd(gpu_hours(rows.step_time_s, gpus), price) if price else np.nan,
        "energy_j": rows.time_s * where.power_w if where.power_w else np.nan,
        **_parts(answer), **_intervals(grid, rows.step_time_s, rows.peak_bytes, price if has_length else None, rows.usd),
    }  # fmt: skip


def _intervals(grid: LayoutGrid, step_time_s: Array, peak_bytes: Array, price: Price | None, usd: Array) -> dict[str, Any]:
    """90 % bounds of step time, memory and dollars: one class for a stack on a cluster, so factors of the expected values."""
    subject = Subject(
        framework=grid.framework.name, curves=grid.cluster.accelerator.curves, family=grid.model.family,
        num_nodes=grid.cluster.num_nodes, num_gpus=grid.cluster.num_gpus, parameters=float(parameters_total(grid.model)),
    )  # fmt: skip
    step, memory = interval(1.0, "step_time", subject), interval(1.0, "memory", subject)
    bounds = {
        "step_time_lower_s": step_time_s * step.lower, "step_time_upper_s": step_time_s * step.upper,
        "peak_total_lower_bytes": peak_bytes * memory.lower, "peak_total_upper_bytes": peak_bytes * memory.upper,
        "cost_lower_usd": usd * step.lower if price else np.nan, "cost_upper_usd": usd * step.upper if price else np.nan,
    }  # fmt: skip
    return {**bounds, "provenance": step.provenance, "how_sure": step.why}


def _parts(answer: Evaluation) -> dict[str, Any]:
    seconds = {f"{part}_s": getattr(answer.step, part) for part in PARTS}
    return {**seconds, **{f"{kind}_bytes": getattr(answer.memory, kind) for kind in KINDS}}


def _named(layouts: Layouts, name: str) -> Any:
    values = [layouts.row(i) for i in range(len(layouts))]
    return [getattr(v, name) for v in values]


def why_second(table: pd.DataFrame) -> str:
    """One sentence on what the second of the ranking does worse than the first."""
    best, second = (table.iloc[i] for i in (0, 1))
    changed = [
        f"{name} {best[name]} -> {second[name]}"
        for name in ("accelerator", "num_gpus", "framework", *(f.name for f in fields(Layouts)))
        if best[name] != second[name]
    ]
    slower = second["step_time_s"] / best["step_time_s"] - 1.0
    parts = sorted(((second[f"{p}_s"] - best[f"{p}_s"], p) for p in PARTS), reverse=True)
    worse = [f"{name.replace('_', ' ')} +{gain:.3g} s" for gain, name in parts if gain > 1e-3 * best["step_time_s"]][:3]
    better = [f"{name.replace('_', ' ')} {gain:.3g} s" for gain, name in parts[::-1] if -gain > 1e-3 * best["step_time_s"]][:2]
    memory = (second["peak_total_bytes"] - best["peak_total_bytes"]) / GIB
    parted = f" ({', '.join(worse + better)})" if worse or better else ""
    priced = np.isfinite(best["cost_usd_per_step"]) and best["cost_usd_per_step"] > 0
    dollars = f", dollars {second['cost_usd_per_step'] / best['cost_usd_per_step'] - 1.0:+.2%}" if priced else ""
    layouts = ", ".join(changed) or "the same layout"
    return f"runner-up ({layouts}): step {100.0 * slower:+.2f}%{parted}, memory {memory:+.2f} GiB{dollars}"


def _rows_of(path: Path) -> pd.DataFrame:
    """A table that ``search --out`` wrote; PlannerError when it cannot be read or is something else."""
    import pandas as pd

    kind = path.suffix.lower()
    if kind not in (".parquet", ".csv", ".json"):
        raise PlannerError(f"--rows {path}: must end in .parquet, .csv or .json, as planner search --out writes them.")
    try:
        if kind == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_json(path, lines=True) if kind == ".json" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else f"not a {kind[1:]} table of rows"
        raise PlannerError(f"--rows {path}: cannot be read ({why}); give a file that planner search --out wrote.") from None
    needed = ("rank", "framework", "node", "num_gpus", *(f.name for f in fields(Layouts)))
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise PlannerError(f"--rows {path}: has no column {missing[0]!r}; give a file that planner search --out wrote.")
    if not len(table):
        raise PlannerError(f"--rows {path}: holds no rows; the search that wrote it found nothing that fits.")
    return table


def chosen_row(tables: Mapping[str, Any], path: Path, rank: int) -> dict[str, Any]:
    """The tables of a case with cluster, stack and layout of one row of a search's table (``search --out``)."""
    table = _rows_of(path)
    found = table[table["rank"] == rank]
    if not len(found):
        raise PlannerError(
            f"--rank {rank}: {path} has no such row; its ranks are {table['rank'].min()} to {table['rank'].max()}."
        )
    row = found.iloc[0].to_dict()
    fields_of = {f.name: row[f.name] for f in fields(Layouts)}
    if "framework" in tables and tables["framework"].get("name") == row["framework"]:
        framework = dict(tables["framework"])
    else:
        framework = {"name": row["framework"]}
    layout = {name: value.item() if hasattr(value, "item") else value for name, value in fields_of.items()}
    cluster = {"node": row["node"], "num_gpus": int(row["num_gpus"])}
    return {**tables, "framework": framework, "cluster": cluster, "layout": layout}
