"""Measured against predicted, run by run: the table behind docs/accuracy.md that the Evidence page draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from planner.common import data
from planner.evidence.measured_runs import Run
from planner.evidence.predictions import GroupError, Prediction, group_errors

if TYPE_CHECKING:
    import pandas as pd

TABLE = data.CATALOG / "validated_runs.parquet"
"""Written by ``planner validate RUNS.csv MORE.csv --out planner/catalog/validated_runs.parquet``."""
COLUMNS = (
    "id", "source", "source_ref", "model", "accelerator", "family", "num_gpus", "metric", "measured", "predicted", "lower",
    "upper", "provenance",
)  # fmt: skip


def pairs(runs: Iterable[Run], predictions: Iterable[Prediction]) -> pd.DataFrame:
    """One row a measured figure, SI units, with where it was published and the 90 % interval of the prediction."""
    import pandas as pd

    known = {run.id: run for run in runs}
    rows = []
    for p in predictions:
        run = known[p.id]
        rows.append(
            {
                "id": p.id,
                "source": run.columns.get("source", ""),
                "source_ref": run.columns.get("source_ref", ""),
                "model": run.columns.get("model", ""),
                "accelerator": run.cluster.accelerator.name,
                "family": run.columns.get("family") or run.model.family,
                "num_gpus": run.cluster.num_gpus,
                "metric": p.metric,
                "measured": p.measured,
                "predicted": p.predicted,
                "lower": p.lower,
                "upper": p.upper,
                "provenance": p.provenance,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def load_pairs(path: Path = TABLE) -> pd.DataFrame:
    """The shipped table."""
    import pandas as pd

    return pd.read_parquet(path)


def errors_by(table: pd.DataFrame, columns: Sequence[str]) -> list[GroupError]:
    """Errors of a table of pairs by group and metric, as ``planner validate --by`` counts them."""
    return group_errors(
        Prediction(
            id=row["id"],
            metric=row["metric"],
            measured=row["measured"],
            predicted=row["predicted"],
            lower=row["lower"],
            upper=row["upper"],
            provenance=row["provenance"],
            why="",
            fits=True,
            recompute="",
            group=", ".join(str(row[column]) for column in columns),
        )
        for row in table.to_dict(orient="records")
    )
