"""Rows of the catalog's models and of small ones, and the numbers in them."""

from __future__ import annotations

from examples import number, setting

from planner.operators.row import Row
from planner.operators.setting import Setting, distinct_axes
from planner.workload.layout import Layout, as_columns
from planner.workload.resolve import as_framework, as_job, as_model

B, S = 2, 256
T = B * S
"""Tokens of a micro-batch."""


def of_model(name: str, stack: str = "megatron-core", layout: Layout | None = None, **job: object) -> Setting:
    """The axes of one layout of a catalog's model in bf16."""
    chosen = layout or Layout(dp=1, micro_batch_size=B)
    columns = as_columns(chosen, chosen.tp * chosen.cp * (chosen.dp or 1))
    job = {"seq_len": S, "global_batch_size": 64, "precision": "bf16", **job}
    found, _ = distinct_axes(columns, as_model(name), as_framework(stack), as_job(job))
    return found


def one(rows: tuple[Row, ...], name: str) -> Row:
    """The row of that name; all of one name are alike."""
    found = [row for row in rows if row.name == name]
    assert found, [row.name for row in rows]
    return found[0]


def amount(row: Row, field: str = "bytes_moved") -> float:
    """The one number of a field."""
    return number(getattr(row, field))


def both(rows: tuple[Row, ...], name: str) -> tuple[float, float]:
    """Bytes moved forward and backward."""
    return amount(one(rows, name)), amount(one(rows, f"{name} gradient"))


def small(fields: dict[str, object], stack: str = "megatron-core", layout: Layout | None = None, **changes: object) -> Setting:
    """The axes of a small model of tests."""
    return setting(fields, stack, layout or Layout(micro_batch_size=B), dict(changes) or None, seq_len=S)
