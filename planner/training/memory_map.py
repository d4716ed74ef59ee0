"""Where a plan's memory goes: by pipeline stage and moment of a step, and over micro-batch and sequence length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.common.errors import PlannerError
from planner.performance.evaluation import evaluate, stage_memory
from planner.performance.memory import KINDS, PHASES
from planner.training.plan import Plan
from planner.workload.layout import as_columns


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Bytes by kind on a GPU of some pipeline stages at one moment of a step; ``first`` and ``last`` stage counted from 0."""

    first: int
    count: int
    phase: str
    kinds_bytes: Mapping[str, float]

    @property
    def total_bytes(self) -> float:
        """All that the GPU holds then."""
        return sum(self.kinds_bytes.values())


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of a fit map. ``headroom_bytes`` is None where the combination is impossible; ``reason`` says why."""

    micro_batch_size: int
    seq_len: int
    headroom_bytes: float | None
    step_time_s: float | None
    reason: str


def moments(plan: Plan) -> list[Moment]:
    """Memory of every distinct stage at every moment of memory.PHASES, stages in order; the largest is the plan's peak."""
    columns = as_columns(plan.layout, plan.cluster.num_gpus)
    staged = stage_memory(plan.question, columns)
    return [
        Moment(
            first=here.stage.first,
            count=here.stage.count,
            phase=phase,
            kinds_bytes={kind: float(np.ravel(getattr(now, f"{kind}_bytes"))[0]) for kind in KINDS},
        )
        for here in sorted(staged, key=lambda s: s.stage.first)
        for phase, now in zip(PHASES, here.moments, strict=True)
    ]


def fit_map(plan: Plan, micro_batch_sizes: Sequence[int], seq_lens: Sequence[int]) -> list[Cell]:
    """Headroom of the plan's layout with every micro-batch size and sequence length, all else equal."""
    layouts = [plan.layout.replaced(micro_batch_size=size) for size in micro_batch_sizes]
    columns = as_columns(layouts, plan.cluster.num_gpus)
    columns = replace(columns, dp=np.full(len(layouts), float(as_columns(plan.layout, plan.cluster.num_gpus).dp[0])))
    cells = []
    for seq_len in seq_lens:
        try:
            found = evaluate(replace(plan.question, job=plan.job.replaced(seq_len=seq_len)), columns)
        except PlannerError as error:
            cells += [
                Cell(micro_batch_size=size, seq_len=seq_len, headroom_bytes=None, step_time_s=None, reason=str(error))
                for size in micro_batch_sizes
            ]
            continue
        for i, size in enumerate(micro_batch_sizes):
            possible = bool(found.possible[i])
            cells.append(
                Cell(
                    micro_batch_size=size,
                    seq_len=seq_len,
                    headroom_bytes=float(found.headroom_bytes[i]) if possible else None,
                    step_time_s=float(found.step_time_s[i]) if possible else None,
                    reason="" if possible else found.reasons[int(found.reason[i])],
                )
            )
    return cells


def map_axes(plan: Plan) -> tuple[list[int], list[int]]:
    """(micro-batch sizes, sequence lengths) worth showing around a plan: powers of two, and the plan's own values."""
    sizes = {2**i for i in range(7)} | {plan.layout.micro_batch_size}
    near = plan.job.seq_len
    lengths = {near, *(max(128, near * 2**i // 8) for i in range(7))}
    return sorted(sizes), sorted(lengths)
