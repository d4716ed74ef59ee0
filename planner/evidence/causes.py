"""What errors depend on beside source and GPU type: groups of runs that ``validate --by`` and ``fit --report`` tell apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from planner.evidence.measured_runs import Run

Key = Callable[[Run], str]
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
"""Tokens at which a group ends."""


def grouped_number(value: float, edges: Sequence[float]) -> str:
    """The range between two edges that a value lies in.

    >>> grouped_number(300, LENGTHS), grouped_number(512, LENGTHS), grouped_number(20000, LENGTHS)
    ('below 512', '512 to 1,024', '16,384 and more')
    """
    at = int(np.searchsorted(edges, value, side="right"))
    if at == 0:
        return f"below {edges[0]:,.0f}"
    return f"{edges[at - 1]:,.0f} and more" if at == len(edges) else f"{edges[at - 1]:,.0f} to {edges[at]:,.0f}"


def _experts(run: Run) -> str:
    layout = run.layouts[-1]
    if run.model.family != "moe":
        return "no experts"
    if layout.ep == 1:
        return "experts not parallel"
    across = layout.ep * layout.tp > run.cluster.node.num_gpus
    return "experts across nodes" if across else "experts inside a node"


def _release(run: Run) -> str:
    told = run.columns.get("release") or next(iter(re.findall(r"release (\S+?)[;,. ]", run.columns.get("notes", "") + " ")), "")
    return f"{run.framework.name} {told or 'of a release not told'}"


def _tokens(run: Run) -> str:
    layout = run.layouts[-1]
    return grouped_number(layout.micro_batch_size * run.job.seq_len / layout.cp, LENGTHS)


CAUSES: dict[str, tuple[str, Key]] = {
    "tensor_parallel": ("tensor parallel degree", lambda run: f"tp {run.layouts[-1].tp}"),
    "experts": ("experts and nodes", _experts),
    "micro_batch_tokens": ("tokens of a micro-batch on a GPU", _tokens),
    "number_format": ("precision", lambda run: run.columns.get("precision", "") or run.job.precision),
    "length": ("sequence length", lambda run: grouped_number(run.job.seq_len, (*LENGTHS, 32768))),
    "framework_release": ("framework and release", _release),
}
"""Title and group by name; a column of a table that bears the name goes before it."""


def group_of(run: Run, by: Sequence[str]) -> str:
    """The run's group by columns of its table and by CAUSES."""
    parts = []
    for name in by:
        own = name in CAUSES and name not in run.columns
        parts.append(CAUSES[name][1](run) if own else run.columns.get(name, "") or f"no {name}")
    return ", ".join(parts) or "all"
