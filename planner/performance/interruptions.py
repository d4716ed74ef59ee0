"""What interruptions cost work that is cut by checkpoints, in closed form; and what preemptions leave of spot nodes.

Work is cut into intervals, each followed by a checkpoint. An interruption loses the interval's work so far, then costs
detection (or waiting for a node), then a restart, which may itself be interrupted and begins again. Times to the next
interruption are exponential.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.common.arrays import Array
from planner.common.units import DAY_S
from planner.hardware.cluster import Cluster
from planner.prices.price import Price

SPOT_RECOVERY_S = 900.0
"""Lost with each preemption: work since the last checkpoint, a new node, a restart. Assumed."""


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


def expected_losses(work_s: float, interval_s: float, write_s: float, stops: Interruptions) -> Losses:
    """Expected seconds by cause beside the work, in closed form; arrays of shape ``(1,)``.

    An interval of length x = interval + write at rate r takes (e^(r x) - 1) / r in all, x of it useful or writing, and each
    of its e^(r x) - 1 interruptions costs d + (e^(r R) - 1) / r with d down and R to restart: the sum with d = 0 is Daly
    2006, equation 20.
    """
    whole, rest = intervals(np.array([work_s]), interval_s)
    rate, zero = stops.rate_per_s, np.zeros(1)
    writes = write_s * (whole + (rest > 0))
    if rate == 0:
        return only_writes(writes)
    count, lost = zero, zero
    for successes, length in ((whole, np.full(1, interval_s + write_s)), ((rest > 0).astype(float), rest + write_s)):
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


def intervals(work_s: Array, interval_s: float) -> tuple[Array, Array]:
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


def spot_goodput(cluster: Cluster, preemption_mtbf_s: float) -> float:
    """The part of spot hours that is useful work, where a node is preempted so often."""
    stops = Interruptions(
        preemption_rate_per_s=cluster.num_nodes / preemption_mtbf_s,
        preemption_wait_s=SPOT_RECOVERY_S / 2,
        restart_s=SPOT_RECOVERY_S / 2,
    )
    work = 30.0 * DAY_S
    lost = float(expected_losses(work, 1800.0, 30.0, stops).total[0])
    return work / (work + lost)


def spot_stretch(cluster: Cluster, price: Price | None, preemption_mtbf_s: float | None) -> float:
    """Wall-clock over undisturbed time: 1 where no node of the price's term is taken away, or nobody says how often."""
    if price is None or not price.preempted or preemption_mtbf_s is None:
        return 1.0
    return 1.0 / spot_goodput(cluster, preemption_mtbf_s)
