"""A scenario's case on a row of a search's table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.common.errors import PlannerError
from planner.common.files import require_regular
from planner.workload.layout import Layouts
from planner.workload.resolve import as_cluster, as_framework

if TYPE_CHECKING:
    import pandas as pd


def _rows_of(path: Path) -> pd.DataFrame:
    """A table that ``search --out`` wrote; PlannerError when it cannot be read or is something else."""
    import pandas as pd

    kind = path.suffix.lower()
    if kind not in (".parquet", ".csv", ".json"):
        raise PlannerError("--rows {0}: must end in .parquet, .csv or .json, as planner search --out writes them.", path)
    if os.path.exists(path):
        require_regular(path, "a file that planner search --out wrote")
    try:
        if kind == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_json(path, lines=True) if kind == ".json" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else f"not a {kind[1:]} table of rows"
        raise PlannerError("--rows {0}: cannot be read ({1}); give a file that planner search --out wrote.", path, why) from None
    needed = ("rank", "framework", "node", "num_gpus", *(f.name for f in fields(Layouts)))
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise PlannerError("--rows {0}: has no column {1!r}; give a file that planner search --out wrote.", path, missing[0])
    if not len(table):
        raise PlannerError("--rows {0}: holds no rows; the search that wrote it found nothing that fits.", path)
    return table


def chosen_row(tables: Mapping[str, Any], path: Path, rank: int) -> dict[str, Any]:
    """The tables of a case with cluster, framework and layout of one row of a search's table (``search --out``)."""
    table = _rows_of(path)
    found = table[table["rank"] == rank]
    if not len(found):
        raise PlannerError(
            "--rank {0}: {1} has no such row; its ranks are {2} to {3}.", rank, path, table["rank"].min(), table["rank"].max()
        )
    row: dict[str, Any] = {str(name): value for name, value in found.iloc[0].items()}
    fields_of = {f.name: row[f.name] for f in fields(Layouts)}
    framework = {"name": row["framework"], **_changes(row.get("framework_changes"))}
    if "framework" in tables:
        own = as_framework(tables["framework"], _kind(tables))
        if own.name == row["framework"] and own.changes() == _changes(row.get("framework_changes", own.changes())):
            framework = dict(tables["framework"])
    layout = {name: value.item() if hasattr(value, "item") else value for name, value in fields_of.items()}
    return {**tables, "framework": framework, "cluster": _cluster(tables["cluster"], row), "layout": layout}


def _changes(told: Any) -> dict[str, Any]:
    """The fields that a row's software changes of its framework; pandas reads them from JSON as a table."""
    return dict(json.loads(told)) if isinstance(told, str) else dict(told) if isinstance(told, Mapping) else {}


def _kind(tables: Mapping[str, Any]) -> str:
    job = tables.get("job", {})
    return str(job.get("kind", "pretrain")) if isinstance(job, Mapping) else str(job.kind)


def _cluster(given: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The row's cluster; where it is of the scenario's own node type, that table with the row's GPUs: its node may be a file."""
    own, num_gpus = as_cluster(given), int(row["num_gpus"])
    accelerator = row.get("accelerator", own.accelerator.name)
    if num_gpus == own.num_gpus and (row["node"], accelerator) == (own.node.name, own.accelerator.name):
        return dict(given)
    table = {name: value for name, value in given.items() if name not in ("num_nodes", "num_gpus")}
    if (row["node"], accelerator) != (as_cluster(table).node.name, own.accelerator.name):
        table = {"node": row["node"], "accelerator": accelerator}
    return {**table, "num_gpus": num_gpus}
