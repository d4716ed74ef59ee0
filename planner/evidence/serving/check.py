"""Predicted against measured for serving: seconds of requests, steps and prompts, and bytes."""

from __future__ import annotations

from dataclasses import replace

from planner.common.errors import PlannerError
from planner.evidence.serving.runs import ServingRun
from planner.serving.batching import Outcome
from planner.serving.closed_loop import ROUNDS, drawn, loop_figures, near_figures, run_loop
from planner.serving.kv_cache import sequence_bytes
from planner.serving.load import Replica, part_of_a_full_pass_s, replica, room_of, slots_of
from planner.serving.memory import largest_batch, memory
from planner.serving.pass_time import Times
from planner.serving.weights import total_bytes


def table_key(run: ServingRun) -> str:
    """What the tables of a closed loop depend on: all but the number of clients."""
    setting = run.times.setting
    cut = setting.serving.replaced(batch=1, clients=1).model_dump_json(exclude={"provenance"})
    return f"{setting.model.name} {setting.cluster.accelerator.name} {setting.cluster.num_gpus} {cut}"


class Loop:
    """A measured closed loop: its requests, what memory leaves to them, and the schedule that was simulated last."""

    def __init__(self, run: ServingRun) -> None:
        s = run.times.setting.serving
        self.run, self.clients = run, run.batch
        self.requests = drawn(s.prompt, s.output, ROUNDS * run.batch, s.seed)
        self.room = room_of(run.times, run.batch)
        self.key = table_key(run)
        self.last: tuple[Replica, Outcome] | None = None

    def _own(self, one: Replica) -> Replica:
        server = replace(one.server, slots=self.room.slots, cache_tokens=self.room.cache_tokens)
        return replace(one, server=replace(server, request_tokens=self.room.cache_tokens))

    def simulated(self, one: Replica) -> tuple[float, float]:
        """(median seconds per token, mean seconds to the first token)."""
        if self.last is None or self.last[0].times is not one.times:
            own = self._own(one)
            self.last = (own, run_loop(own, self.requests, self.clients))
        return loop_figures(self.last[0], self.requests, self.last[1])

    def near(self, one: Replica) -> tuple[float, float]:
        """The same with the schedule of the last simulation."""
        if self.last is None:
            return self.simulated(one)
        return near_figures(self.last[0], one, self.requests, self.last[1])


def predicted(run: ServingRun, times: Times | None = None, slots: int | None = None) -> float:
    """What the planner says of a run: seconds or bytes, in the run's own terms.

    Raises PlannerError where the batch cannot have fitted: then it was not what the table says.
    """
    times = times or run.times
    if run.quantity == "memory":
        return _bytes(run, times)
    if run.quantity in ("loop_token", "loop_first"):
        loop = Loop(run)
        return loop.simulated(replica(times, loop.room))[run.quantity == "loop_first"]
    if run.quantity == "saturated":
        return saturated_s(run, times, slots_of(times) if slots is None else slots)
    prefill = 0.0 if run.quantity == "decode" else float(times.prefill_s(max(run.prompt, 1.0), float(run.batch)))
    if run.quantity == "prefill":
        return prefill
    step = float(times.decode_s(float(run.batch), run.prompt + run.output / 2.0))
    return step if run.quantity == "decode" else prefill + (run.output - 1.0) * step


def saturated_s(run: ServingRun, times: Times, slots: int) -> float:
    """Seconds per request of a replica that is never idle, at the batch that memory and engine allow.

    Each request takes its own share of full prefill passes and holds one of the batch's places while it decodes.
    Where so many requests of one length were sent at once, they leave together too: batch after batch, the last one smaller.
    """
    if slots < 1:
        raise PlannerError("not even one sequence fits")
    slots = min(slots, run.batch) if run.batch else slots
    prefill = part_of_a_full_pass_s(times, run.prompt, float(slots))
    context = run.prompt + run.output / 2.0
    step = float(times.decode_s(float(slots), context))
    if not run.requests:
        return prefill + (run.output - 1.0) * step / slots
    whole, rest = divmod(run.requests, slots)
    last = float(times.decode_s(float(rest), context)) if rest else 0.0
    return prefill + (run.output - 1.0) * (whole * step + last) / run.requests


def _bytes(run: ServingRun, times: Times) -> float:
    """Bytes over all GPUs: of weights alone, of tensors (weights, cache, workspace), or with the context of each GPU."""
    setting = times.setting
    weights = total_bytes(setting)
    if run.unit == "bytes of weights":
        return weights
    context = run.prompt + run.output
    used = memory(setting, float(run.batch), max(run.prompt, 1.0), context)
    stages = range(len(setting.stages))
    cache = setting.serving.tp * run.batch * sum(float(sequence_bytes(setting, context, i)) for i in stages)
    workspace = float(used.workspace_bytes) * setting.serving.gpus_per_replica
    found = weights + cache + workspace
    return found if run.unit == "bytes of tensors" else found + float(used.overhead_bytes) * setting.serving.gpus_per_replica


def check(run: ServingRun) -> None:
    """Raise PlannerError when the run's batch does not fit: somewhere else than on these GPUs, or not all at once."""
    setting = run.times.setting
    loose = replace(
        setting,
        engine=setting.engine.model_copy(
            update={"memory_fraction": 1.0, "workspace_hidden": 0.0, "workspace_ffn": 0.0, "logits_bytes": 0.0}
        ),
    )
    if run.quantity in ("loop_token", "loop_first"):
        if largest_batch(loose, run.prompt, run.prompt + run.output, most=1) < 1:
            raise PlannerError("not even one sequence fits")
    elif run.quantity not in ("memory", "saturated") and run.batch > 1:
        fits = largest_batch(loose, max(run.prompt, 1.0), run.prompt + run.output)
        if fits < run.batch:
            raise PlannerError("batch = {0}: only {1:,} sequences fit; the others waited", run.batch, fits)
