"""A plan's step as a timeline: what each pipeline stage computes and sends when, and its memory by kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from planner.common.errors import PlannerError
from planner.performance.evaluation import Staged, stage_memory
from planner.performance.memory import KINDS, StageMemory
from planner.training.plan import Plan
from planner.training.schedule import Pass, passes
from planner.workload.layout import as_columns

COMPUTE = ("forward", "recompute", "backward", "optimizer")
SENT = ("tensor_parallel", "expert_parallel", "context_parallel", "pipeline", "data_parallel", "offload")
MOST_PASSES = 200_000
"""Passes of a step that a timeline holds: its file is some 100 bytes for each part of each."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A stretch of one stage's time. ``part`` as in ``Plan.step_parts_s``; ``hidden``: communication beside computation, which
    adds nothing to the step."""

    stage: int
    part: str
    start_s: float
    seconds: float
    microbatch: int | None = None
    chunk: int = 0
    hidden: bool = False


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Bytes by kind on a GPU of a stage from ``time_s`` on."""

    stage: int
    time_s: float
    kinds_bytes: Mapping[str, float]

    @property
    def total_bytes(self) -> float:
        """All that the GPU holds then."""
        return sum(self.kinds_bytes.values())


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """One step: ``slices`` of all stages and ``samples`` of their memory, in the order of time; ``slowest`` sets the pace."""

    plan: Plan
    slices: tuple[Slice, ...]
    samples: tuple[Sample, ...]
    slowest: int

    def parts_s(self, stage: int) -> dict[str, float]:
        """Seconds of a stage by part, what is hidden left out; ``bubble`` is what it waits."""
        found = dict.fromkeys((*COMPUTE, *SENT), 0.0)
        for one in self.slices:
            if one.stage == stage and not one.hidden:
                found[one.part] += one.seconds
        return {**found, "bubble": self.plan.step_time_s - sum(found.values())}


@dataclass(frozen=True, kw_only=True)
class _StageSeconds:
    """A micro-batch on one stage: exposed seconds by part for each direction, and hidden communication beside it."""

    forward: Mapping[str, float]
    backward: Mapping[str, float]
    hidden: Mapping[str, float]


def timeline(plan: Plan) -> Timeline:
    """The plan's step, simulated on its schedule.

    Communication that a micro-batch exposes is drawn half after its forward and half after its backward pass; what is hidden
    (the cost of the same step without overlap, less the exposed) beside the backward pass. Raises PlannerError for a step of
    more passes than a file should hold.
    """
    columns = as_columns(plan.layout, plan.cluster.num_gpus)
    pp, vpp, m = plan.layout.pp, plan.layout.vpp, plan.num_microbatches
    if 2 * pp * vpp * m > MOST_PASSES:
        raise PlannerError(
            "the step has {0:,} passes; a trace holds at most {1:,}. A smaller job.global_batch_size shows the same schedule.",
            2 * pp * vpp * m,
            MOST_PASSES,
            code="size",
            field="job.global_batch_size",
        )
    staged = _by_stage(stage_memory(plan.question, columns), pp)
    parts = {name: 0.0 for name in type(plan.framework).model_fields if name.startswith("overlap_")}
    bare = plan.framework.replaced(**parts, overlaps_experts=False)
    whole = _by_stage(stage_memory(replace(plan.question, framework=bare), columns), pp)
    seconds = [_seconds(here, there) for here, there in zip(staged, whole, strict=True)]
    once = {part: max(_number(getattr(one.time, f"once_{part}_s")) for one in staged) for part in ("data_parallel", "optimizer")}
    together = plan.step_time_s - sum(once.values())
    found = passes(
        [sum(one.forward.values()) for one in seconds], [sum(one.backward.values()) for one in seconds], vpp, m, together
    )
    slices = [slice_ for one in found for slice_ in _slices(one, seconds[one.stage], vpp)]
    for stage in range(pp):
        start = together
        for part in ("data_parallel", "optimizer"):
            slices.append(Slice(stage=stage, part=part, start_s=start, seconds=once[part]))
            start += once[part]
    samples = [sample for stage in range(pp) for sample in _memory(plan, stage, staged[stage], found, together, once)]
    pace = [_number(one.time.microbatch_s) for one in staged]
    return Timeline(
        plan=plan,
        slices=tuple(sorted((one for one in slices if one.seconds > 0.0), key=lambda one: (one.start_s, one.stage))),
        samples=tuple(sorted(samples, key=lambda one: (one.time_s, one.stage))),
        slowest=pace.index(max(pace)),
    )


def _number(value: object) -> float:
    return float(np.ravel(np.asarray(value))[0])


def _by_stage(staged: list[Staged], pp: int) -> list[Staged]:
    """The evaluation of every stage, those of equal content alike."""
    of = {member: one for one in staged for member in one.stage.members}
    return [of[stage] for stage in range(pp)]


def _seconds(here: Staged, bare: Staged) -> _StageSeconds:
    time, whole = here.time, bare.time
    sent = {part: _number(getattr(time, "gather_s" if part == "data_parallel" else f"{part}_s")) for part in SENT}
    every = {part: _number(getattr(whole, "gather_s" if part == "data_parallel" else f"{part}_s")) for part in SENT}
    every["data_parallel"] = max(every["data_parallel"], sent["data_parallel"])
    half = {part: seconds / 2.0 for part, seconds in sent.items()}
    return _StageSeconds(
        forward={"forward": _number(time.forward_s), **half},
        backward={"recompute": _number(time.recompute_s), "backward": _number(time.backward_s), **half},
        hidden={part: max(every[part] - sent[part], 0.0) for part in SENT},
    )


def _slices(one: Pass, seconds: _StageSeconds, vpp: int) -> Iterator[Slice]:
    """The parts of a pass, one after the other, and hidden communication beside its computation."""
    start = one.start_s
    for part, whole in (seconds.backward if one.backward else seconds.forward).items():
        yield Slice(stage=one.stage, part=part, start_s=start, seconds=whole / vpp, microbatch=one.microbatch, chunk=one.chunk)
        start += whole / vpp
    if not one.backward:
        return
    beside = one.start_s
    for part, whole in seconds.hidden.items():
        fits = max(min(whole / vpp, one.end_s - beside), 0.0)
        yield Slice(
            stage=one.stage, part=part, start_s=beside, seconds=fits, microbatch=one.microbatch, chunk=one.chunk, hidden=True
        )
        beside += fits


# --- memory -----------------------------------------------------------------------------------------------------------


def _memory(
    plan: Plan, stage: int, staged: Staged, found: list[Pass], together: float, once: Mapping[str, float]
) -> Iterator[Sample]:
    """A stage's memory: activations come and go with its passes; the moments of the step are those of ``memory.PHASES``.

    The most micro-batches that the stage has in flight hold the activations that its first moment counts; a stage after the
    first of its kind has fewer in flight, and its share of them.
    """
    loss, backward, update = (_kinds(moment) for moment in staged.moments)
    mine = [one for one in found if one.stage == stage]
    most = _most_in_flight(mine)
    first = _most_in_flight([one for one in found if one.stage == staged.stage.first])
    full = loss["activations"] * most / max(first, 1)
    flying = 0
    yield Sample(stage=stage, time_s=0.0, kinds_bytes=_with(loss, 0.0, workspace=0.0))
    last, follows = mine[-1], [*(one.start_s for one in mine[1:]), together]
    for one, next_s in zip(mine, follows, strict=True):
        end_s = min(one.end_s, next_s)  # back to back they may differ by a rounding, which would turn their order round
        if not one.backward:
            flying += 1
            yield Sample(stage=stage, time_s=one.start_s, kinds_bytes=_with(loss, full * flying / most))
            continue
        if one is last:
            yield Sample(stage=stage, time_s=one.start_s, kinds_bytes=backward)
        flying -= 1
        if one is not last:
            yield Sample(stage=stage, time_s=end_s, kinds_bytes=_with(loss, full * flying / most, workspace=0.0))
    yield Sample(stage=stage, time_s=end_s, kinds_bytes=_with(backward, 0.0, workspace=0.0))
    yield Sample(stage=stage, time_s=together + once["data_parallel"], kinds_bytes=update)
    gradients = update["gradients"] if plan.framework.persistent_gradients else 0.0
    yield Sample(stage=stage, time_s=plan.step_time_s, kinds_bytes=_with({**update, "gradients": gradients}, 0.0, workspace=0.0))


def _most_in_flight(mine: list[Pass]) -> int:
    flying = most = 0
    for one in mine:
        flying += -1 if one.backward else 1
        most = max(most, flying)
    return most


def _kinds(moment: StageMemory) -> dict[str, float]:
    return {kind: _number(getattr(moment, f"{kind}_bytes")) for kind in KINDS}


ALLOCATED = ("parameters", "gradients", "optimizer", "activations", "workspace", "buffers")


def _with(kinds: Mapping[str, float], activations: float, workspace: float | None = None) -> dict[str, float]:
    """Kinds with other activations and workspace; fragmentation is a share of what is allocated."""
    if activations == kinds["activations"] and workspace is None:
        return dict(kinds)
    held = sum(kinds[kind] for kind in ALLOCATED)
    share = kinds["fragmentation"] / held if held else 0.0
    found = {**kinds, "activations": activations, "workspace": kinds["workspace"] if workspace is None else workspace}
    return {**found, "fragmentation": share * sum(found[kind] for kind in ALLOCATED)}
