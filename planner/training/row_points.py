"""Where each operator of a plan lies under its GPU's roofline: intensity, rate, time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.hardware.curves import curves_of
from planner.performance.block_cost import compute_s
from planner.performance.evaluation import operator_table
from planner.training.plan import Plan
from planner.workload.layout import as_columns


@dataclass(frozen=True, kw_only=True)
class RowPoint:
    """One operator of one layer for one micro-batch on one GPU. ``share``: of the time that all operators take together.

    ``intensity`` = flops / bytes moved, ``rate_flops_per_s`` = flops / seconds. ``bound``: "compute" or "memory", by which side
    of the ridge (peak over bandwidth) it lies.
    """

    block: str
    name: str
    phase: str
    repeats: float
    flops: float
    bytes_moved: float
    seconds: float
    share: float
    bound: str

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.bytes_moved

    @property
    def rate_flops_per_s(self) -> float:
        """What it reaches."""
        return self.flops / self.seconds


@dataclass(frozen=True, kw_only=True)
class Roof:
    """The GPU's two limits: dense peak of the job's type, and the memory's bandwidth."""

    peak_flops_per_s: float
    bytes_per_s: float

    @property
    def ridge(self) -> float:
        """Intensity at which the limits meet."""
        return self.peak_flops_per_s / self.bytes_per_s


def row_points(plan: Plan) -> tuple[Roof, list[RowPoint]]:
    """(the roof, every operator that computes, the longest first); operators that only move bytes or wait are left out."""
    columns = as_columns(plan.layout, plan.cluster.num_gpus)
    table = operator_table(plan.question, columns)
    curves, setting = curves_of(plan.cluster.accelerator), table.setting
    roof = Roof(
        peak_flops_per_s=plan.cluster.accelerator.peak(setting.precision.matmul),
        bytes_per_s=plan.cluster.accelerator.memory_bandwidth_bytes_per_s,
    )
    found = []
    for row in table.rows():
        if row.collective is not None:
            continue
        flops, moved, repeats = (float(np.ravel(np.asarray(v))[0]) for v in (row.flops, row.bytes_moved, row.repeats))
        seconds = float(np.ravel(compute_s(row, setting, plan.cluster, curves))[0])
        found.append((row, flops, moved, repeats, seconds))
    total = sum(repeats * seconds for *_, repeats, seconds in found)
    points = [
        RowPoint(
            block=row.block,
            name=row.name,
            phase=row.phase,
            repeats=repeats,
            flops=flops,
            bytes_moved=moved,
            seconds=seconds,
            share=repeats * seconds / total,
            bound="compute" if flops / moved > roof.ridge else "memory",
        )
        for row, flops, moved, repeats, seconds in found
        if flops > 0 and moved > 0 and seconds > 0
    ]
    return roof, sorted(points, key=lambda p: -p.share)
