"""When each pipeline stage works on which micro-batch: the schedule of one step, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass of one micro-batch through one chunk of a stage; ``start_s`` from the beginning of the step."""

    stage: int
    microbatch: int
    chunk: int
    backward: bool
    start_s: float
    seconds: float

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.start_s + self.seconds


Order = list[tuple[bool, int, int]]
"""(backward, micro-batch, chunk) one after the other on a stage."""


def order_of(pp: int, vpp: int, stage: int, num_microbatches: int) -> Order:
    """What a stage does one after the other: 1F1B, interleaved where ``vpp`` > 1 (Narayanan et al. 2021, section 2.2).

    Micro-batches go through in groups of ``pp``; the warm-up runs pp - stage - 1 forward passes ahead, with chunks
    2 (pp - stage - 1) + (vpp - 1) pp.

    >>> [("B" if back else "F") + str(m) for back, m, _ in order_of(2, 1, 0, 3)]
    ['F0', 'F1', 'B0', 'F2', 'B1', 'B2']
    """
    groups = [range(first, min(first + pp, num_microbatches)) for first in range(0, num_microbatches, pp)]
    forward = [(m, c) for group in groups for c in range(vpp) for m in group]
    backward = [(m, c) for group in groups for c in reversed(range(vpp)) for m in group]
    ahead = pp - stage - 1 if vpp == 1 else 2 * (pp - stage - 1) + (vpp - 1) * pp
    ahead = min(ahead, len(forward))
    found: Order = [(False, m, c) for m, c in forward[:ahead]]
    for (m, c), (bm, bc) in zip(forward[ahead:], backward, strict=False):
        found += [(False, m, c), (True, bm, bc)]
    return found + [(True, m, c) for m, c in backward[len(forward) - ahead :]]


def passes(
    forward_s: Sequence[float], backward_s: Sequence[float], vpp: int, num_microbatches: int, total_s: float
) -> list[Pass]:
    """All passes of a step whose pipeline takes ``total_s``; seconds of a whole micro-batch on each stage are given.

    Each pass starts once its own stage is free and the neighbour's result is there. The planner's closed form (m micro-batches
    of the slowest stage, and a bubble) is not exactly what unequal stages make of that: the gaps between passes are widened or
    narrowed alike, so that the last pass ends at ``total_s``. No pass changes its length.
    """
    pp = len(forward_s)
    starts = _earliest(forward_s, backward_s, vpp, num_microbatches)
    scale = _gap_scale(starts, total_s)
    found = []
    for stage in range(pp):
        worked = 0.0
        for backward, m, c, start, seconds in starts[stage]:
            gaps = start - worked
            found.append(
                Pass(stage=stage, microbatch=m, chunk=c, backward=backward, start_s=worked + scale * gaps, seconds=seconds)
            )
            worked += seconds
    return found


Started = list[tuple[bool, int, int, float, float]]


def _earliest(forward_s: Sequence[float], backward_s: Sequence[float], vpp: int, num_microbatches: int) -> list[Started]:
    """Each stage's passes with the earliest start that its neighbours allow."""
    pp = len(forward_s)
    last = pp * vpp - 1
    orders = [order_of(pp, vpp, stage, num_microbatches) for stage in range(pp)]
    done: dict[tuple[bool, int, int], float] = {}
    at, free = [0] * pp, [0.0] * pp
    found: list[Started] = [[] for _ in range(pp)]
    waiting = list(range(pp))
    while waiting:
        moved = False
        for stage in waiting:
            while at[stage] < len(orders[stage]):
                backward, m, c = orders[stage][at[stage]]
                place = c * pp + stage
                needs = (False, m, place) if backward and place == last else (backward, m, place + (1 if backward else -1))
                ready = 0.0 if not backward and place == 0 else done.get(needs)
                if ready is None:
                    break
                seconds = (backward_s if backward else forward_s)[stage] / vpp
                start = max(free[stage], ready)
                found[stage].append((backward, m, c, start, seconds))
                free[stage] = done[(backward, m, place)] = start + seconds
                at[stage] += 1
                moved = True
        waiting = [stage for stage in waiting if at[stage] < len(orders[stage])]
        if waiting and not moved:
            raise ValueError("the schedule waits for itself")
    return found


def _gap_scale(starts: Sequence[Started], total_s: float) -> float:
    """The factor on all gaps by which the last stage to end does so at ``total_s``."""
    scales = []
    for passes_of in starts:
        worked = sum(seconds for *_, seconds in passes_of)
        end = passes_of[-1][3] + passes_of[-1][4]
        if end - worked > 1e-9 * end:
            scales.append(max(total_s - worked, 0.0) / (end - worked))
    return min(scales, default=1.0)
