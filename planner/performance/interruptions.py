"""What interruptions cost work that is cut by checkpoints, in closed form; and what preemptions leave of spot nodes.

Work is cut into intervals, each followed by a checkpoint. An interruption loses the interval's work so far, then costs
detection (or waiting for a node), then a restart, which may itself be interrupted and begins again. Times to the next
interruption are exponential.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.common.arrays import Array
from planner.common.errors import PlannerError
from planner.common.units import DAY_S
from planner.hardware.cluster import Cluster
from planner.model.architecture import Model
from planner.prices.price import Price
from planner.workload.adapters import parameters_trainable
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.precision import precisions
from planner.workload.question import Question

MOST_ATTEMPTS_LOG = 12.0
"""An interval that needs more than exp(12) attempts is refused: such a run never ends."""
SPOT_WRITE_S = 30.0
"""To write a checkpoint where no job says how large it is. Assumed."""
LONG_S = 30.0 * DAY_S
"""Work of a run whose job has no length: many intervals."""


@dataclass(frozen=True, kw_only=True)
class Interruptions:
    """What may stop the job, and what it costs: rates per second, and seconds down before each restart.

    ``outage``: all nodes at once (power, cooling, storage); ``rollback``: a loss spike or silent corruption, which also loses
    ``rollback_s`` of work. ``replacement_s``: mean wait of a failure for a node in the failed one's place. ``unwritten_s``:
    how long a checkpoint that does not block the job is not yet on storage; an interruption meanwhile falls back on the one
    before, which costs that much work on average.
    """

    failure_rate_per_s: float = 0.0
    preemption_rate_per_s: float = 0.0
    outage_rate_per_s: float = 0.0
    rollback_rate_per_s: float = 0.0
    detection_s: float = 0.0
    preemption_wait_s: float = 0.0
    outage_s: float = 0.0
    rollback_s: float = 0.0
    replacement_s: float = 0.0
    restart_s: float = 0.0
    unwritten_s: float = 0.0

    @property
    def other_rate_per_s(self) -> float:
        """Interruptions that are no failures, per second of running."""
        return self.preemption_rate_per_s + self.outage_rate_per_s + self.rollback_rate_per_s

    @property
    def rate_per_s(self) -> float:
        """All interruptions per second of running."""
        return self.failure_rate_per_s + self.other_rate_per_s

    @property
    def failure_share(self) -> float:
        """Part of the interruptions that are failures."""
        return self.failure_rate_per_s / self.rate_per_s if self.rate_per_s else 1.0

    def downtime(self, failures: Array, preemptions: Array, outages: Array, rollbacks: Array) -> dict[str, Array]:
        """Seconds by cause of so many interruptions of each kind, without lost work and restarts."""
        return {
            "detection": failures * self.detection_s,
            "replacement": failures * self.replacement_s,
            "preemption": preemptions * self.preemption_wait_s,
            "outage": outages * self.outage_s,
            "rollback": rollbacks * self.rollback_s,
        }


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Seconds by cause of each simulated run, arrays of shape ``(n,)``; ``interruptions`` counts them."""

    checkpoint: Array
    lost_work: Array
    detection: Array
    replacement: Array
    preemption: Array
    outage: Array
    rollback: Array
    restart: Array
    interruptions: Array

    @property
    def total(self) -> Array:
        """All seconds beside the work itself."""
        down = self.detection + self.replacement + self.preemption + self.outage + self.rollback
        return self.checkpoint + self.lost_work + down + self.restart


def only_writes(writes: Array) -> Losses:
    """The losses of runs that nothing interrupts."""
    zeros = {name: np.zeros(writes.shape) for name in Losses.__dataclass_fields__}
    return Losses(**{**zeros, "checkpoint": writes})


def expected_losses(work_s: float | Array, interval_s: float | Array, write_s: float, stops: Interruptions) -> Losses:
    """Expected seconds by cause beside the work, in closed form; arrays of the shape of ``work_s``, at least ``(1,)``.

    An interval of length x = interval + write at rate r takes (e^(r x) - 1) / r in all, x of it useful or writing, and each
    of its e^(r x) - 1 interruptions costs d + (e^(r R) - 1) / r with d down and R to restart: the sum with d = 0 is Daly
    2006, equation 20.
    """
    whole, rest = intervals(np.atleast_1d(np.asarray(work_s, dtype=float)), interval_s)
    rate, zero = stops.rate_per_s, np.zeros(whole.shape)
    writes = write_s * (whole + (rest > 0))
    if rate == 0:
        return only_writes(writes)
    count, lost = zero, zero
    for successes, length in ((whole, np.asarray(interval_s + write_s)), ((rest > 0).astype(float), rest + write_s)):
        length = np.where(successes > 0, length, 0.0)
        again = successes * np.expm1(rate * length)
        count, lost = count + again, lost + again * truncated_moments(length, rate)[0]
    kinds = (stops.failure_rate_per_s, stops.preemption_rate_per_s, stops.outage_rate_per_s, stops.rollback_rate_per_s)
    restart = stops.restart_s
    return Losses(
        checkpoint=writes,
        lost_work=lost + count * stops.unwritten_s,
        **stops.downtime(*(count * (kind / rate) for kind in kinds)),
        restart=count * np.expm1(rate * restart) / rate,
        interruptions=count * np.exp(rate * restart),
    )


def intervals(work_s: Array, interval_s: float | Array) -> tuple[Array, Array]:
    """(whole intervals, seconds of the last, shorter one) of each run."""
    whole = np.floor(work_s / interval_s * (1.0 + 1e-12))
    rest = work_s - whole * interval_s
    return whole, np.where(rest > 1e-9 * work_s, rest, 0.0)


def truncated_moments(length_s: Array, rate: float) -> tuple[Array, Array]:
    """Mean and variance of an exponential time known to be shorter than ``length_s``."""
    x = np.maximum(rate * length_s, 1e-9)
    small = x < 1e-3
    safe = np.where(small, 1.0, x)
    mean = np.where(small, x / 2.0 - x * x / 12.0, 1.0 - safe / np.expm1(safe)) / rate
    variance = np.where(small, x * x / 12.0, 1.0 - safe**2 * np.exp(safe) / np.expm1(safe) ** 2) / rate**2
    return mean, variance


def young_interval_s(write_s: float, mtbf_s: float) -> float:
    """Seconds of work between checkpoints: sqrt(2 delta M) (Young 1974)."""
    return float(np.sqrt(2.0 * write_s * mtbf_s))


def daly_interval_s(write_s: float, mtbf_s: float) -> float:
    """Seconds of work between checkpoints: Daly 2006, equation 37, the higher-order optimum; M when delta >= 2 M."""
    if write_s >= 2.0 * mtbf_s:
        return mtbf_s
    x = np.sqrt(write_s / (2.0 * mtbf_s))
    return float(np.sqrt(2.0 * write_s * mtbf_s) * (1.0 + x / 3.0 + x * x / 9.0) - write_s)


def never_ends(interval_s: float, write_s: float, stops: Interruptions) -> PlannerError:
    """What is said of a run of which an interval or a restart is hardly ever finished."""
    return PlannerError(
        "run: an interruption every {0:,.0f} s against checkpoints every {1:,.0f} s that take {2:,.0f} s and "
        "restarts of {3:,.0f} s: the run would never end; checkpoint more often, write faster, or use fewer "
        "GPUs.",
        1 / stops.rate_per_s,
        interval_s,
        write_s,
        stops.restart_s,
    )


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How often a node is taken away and how the job comes back: the fields of the table [run] that have these names."""

    preemption_mtbf_s: float | None = None
    preemption_wait_s: float = 600.0
    restart_s: float = 300.0
    checkpoint: Literal["daly", "young", "none"] = "daly"
    checkpoint_interval_s: float | None = None
    checkpoint_every_steps: int | None = None
    checkpoint_bytes: float | None = None
    node_storage_bytes_per_s: float = 2e9
    storage_bytes_per_s: float | None = None
    blocking_fraction: float = 1.0

    def counts(self, price: Price | None) -> bool:
        """Whether preemptions are told and nodes at such a price may be taken away."""
        return self.preemption_mtbf_s is not None and not (price is not None and price.held)

    def bandwidth_bytes_per_s(self, num_nodes: int) -> float:
        """Checkpoint bytes per second: what the nodes send together, at most what the storage takes."""
        nodes = self.node_storage_bytes_per_s * num_nodes
        return min(nodes, self.storage_bytes_per_s) if self.storage_bytes_per_s is not None else nodes

    def stops(self, num_nodes: int, write_s: float) -> Interruptions:
        """The preemptions of so many nodes, when a checkpoint takes ``write_s`` to write, and to read again."""
        return Interruptions(
            preemption_rate_per_s=num_nodes / self.preemption_mtbf_s if self.preemption_mtbf_s else 0.0,
            preemption_wait_s=self.preemption_wait_s,
            restart_s=self.restart_s + write_s,
            unwritten_s=0.0 if self.checkpoint == "none" else write_s * (1.0 - self.blocking_fraction),
        )

    def wanted_interval_s(self, write_s: float, stops: Interruptions) -> float | None:
        """Seconds of work between checkpoints, before whole steps are taken; None where a number of steps says it, or none is
        written."""
        if self.checkpoint_every_steps is not None:
            return None
        if self.checkpoint_interval_s is not None:
            return self.checkpoint_interval_s
        if self.checkpoint == "none" or stops.rate_per_s == 0:
            return None
        rule = young_interval_s if self.checkpoint == "young" else daly_interval_s
        return max(rule(write_s * self.blocking_fraction, 1.0 / stops.rate_per_s), write_s)  # one write at a time

    def interval_s(self, step_time_s: Array, write_s: float, stops: Interruptions) -> Array | None:
        """Seconds of work between checkpoints, a whole number of steps; None when the job writes none."""
        if self.checkpoint_every_steps is not None:
            return self.checkpoint_every_steps * step_time_s
        wanted = self.wanted_interval_s(write_s, stops)
        return None if wanted is None else np.maximum(np.round(wanted / step_time_s), 1.0) * step_time_s

    def stretch(self, num_nodes: int, written_bytes: float, step_time_s: Array, num_steps: float | None) -> Array:
        """Wall-clock over undisturbed time, by ``expected_losses``; shape of ``step_time_s``. ``written_bytes``: of a checkpoint.

        Raises PlannerError where the run would never end; where that hangs on the step, its attempts are cut at exp(12).
        """
        write_s = (self.checkpoint_bytes or written_bytes) / self.bandwidth_bytes_per_s(num_nodes)
        stops = self.stops(num_nodes, write_s)
        blocked_s, wanted = write_s * self.blocking_fraction, self.wanted_interval_s(write_s, stops)
        longest_s = MOST_ATTEMPTS_LOG / stops.rate_per_s
        work = np.full(step_time_s.shape, LONG_S) if num_steps is None else num_steps * step_time_s
        if max(stops.restart_s, (wanted or 0.0) + blocked_s) > longest_s:
            raise never_ends(wanted or 0.0, blocked_s, stops)
        given = self.interval_s(step_time_s, write_s, stops)
        blocked_s = 0.0 if given is None else blocked_s
        interval = np.minimum(work * (1.0 + 1e-9) if given is None else given, longest_s - blocked_s)
        return np.asarray(1.0 + expected_losses(work, interval, blocked_s, stops).total / work)


USUAL_RECOVERY = Recovery()
"""Where nobody says more."""


def checkpoint_bytes(model: Model, job: Job, framework: Framework) -> float:
    """Weights, master weights and optimizer states of what trains; gradients and frozen weights are not written."""
    width = precisions(job, framework)
    return parameters_trainable(model, job) * (width.parameter + width.master + width.state)


def spot_goodput(cluster: Cluster, preemption_mtbf_s: float) -> float:
    """The part of spot hours that is useful work, where a node is preempted so often and no job says what it writes."""
    spot = Recovery(preemption_mtbf_s=preemption_mtbf_s)
    written = SPOT_WRITE_S * spot.bandwidth_bytes_per_s(cluster.num_nodes)
    return float(1.0 / spot.stretch(cluster.num_nodes, written, np.ones(1), None)[0])


def spot_stretch(q: Question, price: Price | None, recovery: Recovery, step_time_s: Array, num_steps: float | None) -> Array:
    """Wall-clock over undisturbed time of each step time: 1 where nodes at the price stay, or nobody says how often they do not.

    By the formula of ``planner run``. Failures are not in it: they strike nodes at every price.
    """
    if not recovery.counts(price):
        return np.ones(np.shape(step_time_s))
    written = checkpoint_bytes(q.model, q.job, q.framework)
    return recovery.stretch(q.cluster.num_nodes, written, np.asarray(step_time_s), num_steps)
