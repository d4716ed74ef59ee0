"""What interruptions cost a long run: rates, the checkpoint interval, the closed form, and a simulation of many runs.

A run is work cut into intervals, each followed by a checkpoint. An interruption loses the interval's work so far, then
costs detection (or waiting for a node), then a restart, which may itself be interrupted and begins again. Times to the
next interruption are exponential.
"""

import math
from dataclasses import replace
from functools import cache
from statistics import NormalDist
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from planner.common import data
from planner.common.arrays import Array
from planner.common.errors import PlannerError, near
from planner.common.message import Message
from planner.common.spec import Spec, read_table
from planner.performance.interruptions import (
    MOST_ATTEMPTS_LOG,
    Interruptions,
    Losses,
    intervals,
    never_ends,
    only_writes,
    truncated_moments,
)

CATALOG = data.CATALOG / "failures.toml"
MOST_DRAWS = 4_000_000
MOST_INTERRUPTIONS_LOG = math.log(1e12)
"""Logarithm of the attempts of a whole run beyond which it is said never to end: one a second for 30,000 years."""
PER_NODE = 8
"""GPUs of a node, where rates of whole nodes are shared out."""
STRATA = 8
"""Equal parts of the simulated runs, each at one rate of failures of those that clusters have."""

Seconds = Annotated[float, Field(gt=0)]


CAUSES_OF_FAILURES = ("gpu", "network", "software", "node")
"""What stops a job: GPUs, their network ports and switches, and software grow with the GPUs; hosts with the nodes."""


class FailureRates(Spec):
    """Mean seconds between failures by cause, from a published run: of one GPU, of its share of the network and of the
    software that runs on it, and of one node (host, power, its maintenance). A table of nodes alone counts all causes there."""

    name: str
    description: str = ""
    gpu_mtbf_s: Seconds | None = None
    network_mtbf_s: Seconds | None = None
    software_mtbf_s: Seconds | None = None
    node_mtbf_s: Seconds | None = None
    counts: Literal["jobs", "nodes"] = "jobs"  # what was counted: interruptions of jobs, or failed nodes alone
    log_spread: Annotated[float, Field(ge=0)] = 0.0  # of clusters around these rates, natural logarithm

    def rate_per_s(self, num_gpus: float, num_nodes: float) -> float:
        """Failures per second of a cluster: GPUs over their mean times + nodes over theirs."""
        return sum(self.by_cause(num_gpus, num_nodes).values())

    def by_cause(self, num_gpus: float, num_nodes: float) -> dict[str, float]:
        """Failures per second by cause: the same GPUs in smaller nodes meet more failures of hosts, and no more of GPUs."""
        counts = {cause: num_nodes if cause == "node" else num_gpus for cause in CAUSES_OF_FAILURES}
        times = {cause: getattr(self, f"{cause}_mtbf_s") for cause in CAUSES_OF_FAILURES}
        return {cause: counts[cause] / mean if mean else 0.0 for cause, mean in times.items()}


@cache
def failure_rates() -> dict[str, FailureRates]:
    """All published rates by name."""
    table = read_table(CATALOG)
    return {
        name: FailureRates.build({"name": name, **fields}, Message("{0}: {1}", CATALOG, name)) for name, fields in table.items()
    }


def _papers(rates: FailureRates) -> str:
    """The sources of a table, each once."""
    return "; ".join(dict.fromkeys(found.source for found in rates.provenance.values()))


@cache
def typical_rates() -> FailureRates:
    """The geometric mean of the published rates of interruptions of jobs, per node of eight GPUs, and their spread.

    They are shared among causes as in the one table that counts each.
    """
    tables = [rates for rates in failure_rates().values() if rates.counts == "jobs"]
    logs = np.log([rates.rate_per_s(PER_NODE, 1) for rates in tables])
    source = "geometric mean of " + "; ".join(f"{rates.name} ({_papers(rates)})" for rates in tables)
    return FailureRates.build(
        {
            "name": "published",
            "description": "interruptions of jobs on published clusters",
            **_shared_out(float(np.exp(logs.mean())), source),
            "log_spread": {"value": float(logs.std(ddof=1)), "kind": "published", "source": source},
        },
        "run.failures",
    )


def _shared_out(rate_per_s: float, source: str) -> dict[str, Any]:
    """Mean times by cause of what a node of eight GPUs meets at this rate, in the shares of the table that counts causes."""
    counted = next(rates for rates in failure_rates().values() if rates.gpu_mtbf_s and rates.node_mtbf_s)
    parts, whole = counted.by_cause(PER_NODE, 1), counted.rate_per_s(PER_NODE, 1)
    counts = {cause: 1 if cause == "node" else PER_NODE for cause in parts}
    return {
        f"{cause}_mtbf_s": {"value": counts[cause] * whole / (rate_per_s * part), "kind": "published", "source": source}
        for cause, part in parts.items()
    }


def load_failure_rates(name: str) -> FailureRates:
    """The rates of that name: ``published`` is their mean, ``none`` never fails. PlannerError lists the names."""
    if name == "none":
        return FailureRates(name="none", description="no failures")
    if name == "published":
        return typical_rates()
    known = failure_rates()
    if name not in known:
        raise PlannerError(
            "run.failures = {0!r}: not a published set of rates; {1}.", name, near(name, {*known, "none", "published"})
        )
    found = known[name]
    if found.gpu_mtbf_s is not None or found.node_mtbf_s is None:
        return found
    shares = _shared_out(1.0 / found.node_mtbf_s, _papers(found))
    return FailureRates.build({"name": name, "description": found.description, "counts": found.counts, **shares}, "run.failures")


def waiting_s(rate_per_s: float, repair_s: float, spare_nodes: int) -> float:
    """Mean seconds until a node stands in the place of one that failed: 0 while a spare is there, else until one is repaired.

    Nodes in repair are Poisson with mean a = rate x repair (an infinite-server queue). With s spares a failure finds none
    where s or more are in repair, and of those s and itself the first returns after repair / (s + 1): P(N >= s) repair / (s + 1).
    """
    mean = rate_per_s * repair_s
    if mean <= 0.0:
        return 0.0
    fewer = sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(spare_nodes))
    return max(1.0 - fewer, 0.0) * repair_s / (spare_nodes + 1)


def simulate_clusters(
    work_s: Array, interval_s: float, write_s: float, stops: Interruptions, log_spread: float, rng: np.random.Generator
) -> Losses:
    """``simulate_losses`` on clusters that fail more or less often than ``stops``: log-normal, the middles of equal parts.

    A rate at which an interval would hardly ever be finished is lowered to one at which it is: nobody goes on like that.
    """
    if not log_spread or not stops.failure_rate_per_s:
        return simulate_losses(work_s, interval_s, write_s, stops, rng)
    middles = (np.arange(STRATA) + 0.5) / STRATA
    factors = [math.exp(log_spread * NormalDist().inv_cdf(float(middle))) for middle in middles]
    longest = max(min(interval_s, float(work_s.max())) + write_s, stops.restart_s)
    most = max(0.5 * MOST_ATTEMPTS_LOG / longest - stops.other_rate_per_s, stops.failure_rate_per_s)
    part = np.arange(len(work_s)) % STRATA
    found = {name: np.zeros(len(work_s)) for name in Losses.__dataclass_fields__}
    for i, factor in enumerate(factors):
        rate = min(stops.failure_rate_per_s * factor, most)
        losses = simulate_losses(work_s[part == i], interval_s, write_s, replace(stops, failure_rate_per_s=rate), rng)
        for name, values in found.items():
            values[part == i] = getattr(losses, name)
    return Losses(**found)


def simulate_losses(work_s: Array, interval_s: float, write_s: float, stops: Interruptions, rng: np.random.Generator) -> Losses:
    """Simulate one run per entry of ``work_s`` (seconds of work, shape ``(n,)``).

    Attempts per interval are geometric, so a run's interruptions are negative binomial and the seconds lost by each are
    truncated exponentials: exact, with no loop over time. Above four million draws sums are taken from the normal law
    with the exact mean and variance. Raises PlannerError when an interval can hardly ever be finished.
    """
    whole, rest = intervals(work_s, interval_s)
    rate = stops.rate_per_s
    writes = write_s * (whole + (rest > 0))
    if rate == 0:
        return only_writes(writes)
    longest = rate * (interval_s if whole.any() else float(rest.max())) + rate * write_s
    logs = np.log1p(whole.max()) + longest + rate * stops.restart_s
    if max(longest, rate * stops.restart_s) > MOST_ATTEMPTS_LOG or logs > MOST_INTERRUPTIONS_LOG:
        raise never_ends(interval_s, write_s, stops)
    lost, count = _failed_attempts(rng, whole, np.full(work_s.shape, interval_s + write_s), rate)
    lost_rest, count_rest = _failed_attempts(rng, (rest > 0).astype(float), rest + write_s, rate)
    count = count + count_rest
    kinds = _split(rng, count, stops)
    broken, again = _failed_attempts(rng, count, np.full(work_s.shape, stops.restart_s), rate)
    return Losses(
        checkpoint=writes,
        lost_work=lost + lost_rest + count * stops.unwritten_s,
        **stops.downtime(*kinds),
        restart=count * stops.restart_s + broken,
        interruptions=count + again,
    )


def _split(rng: np.random.Generator, count: Array, stops: Interruptions) -> tuple[Array, Array, Array, Array]:
    """How many of each run's interruptions are failures, preemptions, outages and rollbacks."""
    left = count.astype(np.int64)
    rest, found = stops.rate_per_s, []
    for kind in (stops.failure_rate_per_s, stops.preemption_rate_per_s, stops.outage_rate_per_s):
        drawn = rng.binomial(left, min(kind / rest, 1.0)) if rest > 0 else np.zeros_like(left)
        left, rest = left - drawn, rest - kind
        found.append(drawn.astype(float))
    return found[0], found[1], found[2], left.astype(float)


def _failed_attempts(rng: np.random.Generator, successes: Array, length_s: Array, rate: float) -> tuple[Array, Array]:
    """(seconds lost, failed attempts) until each run has had its successes of that length."""
    needed, length_s = np.maximum(successes, 1.0), np.where(successes > 0, length_s, 0.0)
    count = np.where(successes > 0, rng.negative_binomial(needed, np.exp(-rate * length_s)), 0).astype(float)
    return _sum_of_truncated(rng, count, length_s, rate), count


def _sum_of_truncated(rng: np.random.Generator, count: Array, length_s: Array, rate: float) -> Array:
    """Sums of ``count`` exponential times, each known to be shorter than ``length_s``; shape ``(n,)``."""
    if count.sum() <= MOST_DRAWS:
        owner = np.repeat(np.arange(len(count)), count.astype(np.int64))
        reach = -np.expm1(-rate * length_s)[owner]
        times = -np.log1p(-rng.random(len(owner)) * reach) / rate
        return np.bincount(owner, weights=times, minlength=len(count)).astype(np.float64)
    mean, variance = truncated_moments(length_s, rate)
    drawn = rng.normal(count * mean, np.sqrt(count * variance))
    return np.asarray(np.clip(drawn, 0.0, count * length_s))


def describe(rates: FailureRates) -> dict[str, Any]:
    """Name, values and sources, for reports."""
    return {
        "name": rates.name,
        "description": rates.description,
        **{field: {"value": getattr(rates, field), **source.model_dump()} for field, source in rates.provenance.items()},
    }
