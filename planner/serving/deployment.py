"""One answer: what a deployment needs, how fast it answers, how much it carries, and what a token costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.common.assumption import Assumption
from planner.common.errors import PlannerError
from planner.common.tables import one_row
from planner.hardware.cluster import Cluster
from planner.model.architecture import Model
from planner.prices.price import Price
from planner.serving import intervals as sure
from planner.serving.batch_figures import batch_figures, full_per_s, most_full_per_s
from planner.serving.engine import Engine
from planner.serving.expense import Expense, expense
from planner.serving.load import Load, slots_of
from planner.serving.memory import KINDS, memory
from planner.serving.nearest import nearest_change
from planner.serving.pass_time import Times
from planner.serving.requests import longest_tokens, mean_tokens
from planner.serving.spec import Serving
from planner.uncertainty.dollars import at_price
from planner.uncertainty.interval import Interval

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What one deployment does. SI units. Memory is that of the fullest GPU; rates are those of all replicas together.

    Latencies (``ttft_s`` time to first token, ``tpot_s`` per output token, ``e2e_s`` whole request) are those of a batch of
    ``serving.batch`` started together at mean lengths, throughput that of such batches one after the other (with continuous
    batching: requests take each other's place). ``load`` is the simulation of ``serving.requests_per_s`` or of
    ``serving.clients``; ``expense`` is at that load (else at the batch), ``at_capacity`` at the highest rate
    (``capacity_requests_per_s``, simulated when it is first asked for). Times, rates and
    money are None when it does not fit. ``kv_bytes_per_token`` and ``kv_bytes_per_sequence`` are of a whole replica,
    ``max_batch`` per replica at mean lengths, ``max_context`` with ``serving.batch`` sequences; ``max_context_bound`` says what
    keeps it from being longer: "memory", "model.max_positions" or "model.context_length".
    """

    model: Model
    cluster: Cluster
    engine: Engine
    serving: Serving
    price: Price | None
    times: Times
    num_gpus: int
    parameters_total: int
    parameters_active: int
    weights_bytes: float
    host_weights_bytes: float
    kv_bytes_per_token: float
    kv_bytes_per_sequence: float
    memory_bytes: Mapping[str, float]
    total_bytes: float
    limit_bytes: float
    card_bytes: float
    max_batch: int
    max_context: int
    max_context_bound: str
    fits: bool
    reasons: tuple[str, ...]
    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float | None
    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None
    output_tokens_per_s: float | None
    requests_per_s: float | None
    load: Load | None
    expense: Expense | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    assumptions: tuple[Assumption, ...]

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """90 % intervals by the name of the figure (``load.e2e_s.p95`` and so on); absent where the figure is None.

        Dollars hold the price's own interval too.
        ``upper`` of a latency under load is that of ``num_requests`` where the capacity may be too small; ``why`` says so.
        """
        figures = {name: getattr(self, name) for name in sure.METRICS if getattr(self, name, None) is not None}
        found = self._priced(sure.intervals(figures, self.times, self.load, self.expense))
        return found if self.load is None or self.load.clients is not None else {**found, **self.capacity_intervals}

    def _priced(self, found: dict[str, Interval]) -> dict[str, Interval]:
        """With the price's own interval in dollars."""
        if self.price is None:
            return found
        return {name: at_price(one, self.price) if "usd_" in name else one for name, one in found.items()}

    @cached_property
    def capacity_requests_per_s(self) -> float | None:
        """Requests per second of all replicas whose queues are never empty; None when it does not fit, or where lengths are drawn
        that the cache does not hold. Simulated when it is first asked for, by the load or here. No less than what its clients are
        served, which another simulation counts."""
        if self.requests_per_s is None:
            return None
        if self.load is not None and self.load.clients is None:
            return self.load.capacity_requests_per_s
        try:
            return max(full_per_s(self.times), 0.0 if self.load is None else self.load.requests_per_s)
        except PlannerError:
            return None

    @cached_property
    def at_capacity(self) -> Expense | None:
        """Dollars and joules at ``capacity_requests_per_s``. A request's prefill takes the same time at any rate."""
        s, load, most = self.serving, self.load, self.capacity_requests_per_s
        if most is None:
            return None
        asked = load is not None and load.clients is None
        batch = float(s.batch if asked else max(slots_of(self.times), 1))
        share = float(batch_figures(self.times, np.array([batch]))["prefill_share"][0])
        if asked and load is not None and load.prefill_share is not None:
            share = load.prefill_share
        if asked and load is not None and load.busy is not None:
            share = min(share * load.busy * most / load.requests_per_s, 1.0)
        output = 0.0 if s.embeds else mean_tokens(s.output)
        return expense(self.cluster, self.price, most * output, most, mean_tokens(s.prompt), share)

    @cached_property
    def capacity_intervals(self) -> dict[str, Interval]:
        """Those of ``capacity_requests_per_s`` and ``at_capacity`` (``at_capacity.usd_per_million_tokens`` and so on)."""
        if self.capacity_requests_per_s is None:
            return {}
        return self._priced(sure.of_capacity(self.times.setting, self.capacity_requests_per_s, self.at_capacity))

    @cached_property
    def _memory_interval(self) -> Interval:
        """That of ``total_bytes`` alone: no load is simulated for it."""
        return sure.interval_of(self.times.setting, "total_bytes", self.total_bytes)

    @cached_property
    def nearest(self) -> Mapping[str, Any] | None:
        """Fields to change so that it fits; None when it does, or when no single change is enough."""
        return nearest_change(self.times) if self.reasons else None

    @property
    def certainty(self) -> str:
        """ "fits", "probably fits", "probably does not fit" or "does not fit"."""
        return sure.certainty(self._memory_interval, self.card_bytes, self.fits)

    @property
    def fit_probability(self) -> float:
        """Probability that the fullest GPU's memory is enough: what the engine leaves free of a GPU is there for surprises."""
        return float(self._memory_interval.probability_below(self.card_bytes))

    @property
    def stability(self) -> str | None:
        """ "stable", "probably stable", "probably unstable" or "unstable"; None without a request rate."""
        return None if self.load is None else sure.stability(self.intervals["load.capacity_requests_per_s"], self.load)

    @property
    def loaded_batch(self) -> int:
        """Sequences that a replica has at once under the load, on average, rounded up; ``serving.batch`` where that is more.

        A queue that grows without end keeps every place taken.
        """
        if self.load is None:
            return self.serving.batch
        mean = self.load.mean_batch if self.load.stable else slots_of(self.times)
        return self.serving.batch if mean is None else max(math.ceil(mean), self.serving.batch)

    @cached_property
    def loaded_bytes(self) -> Mapping[str, float]:
        """Bytes of the fullest GPU by kind with ``loaded_batch`` sequences, as ``memory_bytes`` with ``serving.batch``.

        A cache holds no more than the engine has: of more sequences not all are at their end at once, or some are preempted.
        """
        s, setting = self.serving, self.times.setting
        context = mean_tokens(s.prompt) + mean_tokens(s.output)
        used = memory(setting, float(self.loaded_batch), longest_tokens(s.prompt), context, self.times.draft)
        found = {kind: float(getattr(used, f"{kind}_bytes")) for kind in KINDS}
        over = sum(found.values()) - self.limit_bytes
        if self.fits and self.load is not None and over > 0.0:
            found["kv_cache"] = max(found["kv_cache"] - over, self.memory_bytes["kv_cache"])
        return found

    @property
    def loaded_total_bytes(self) -> float:
        """Bytes of the fullest GPU with ``loaded_batch`` sequences: ``total_bytes`` where no load is asked for."""
        return sum(self.loaded_bytes.values())

    def to_frame(self) -> pd.DataFrame:
        """The figures of ``to_dict`` as a table of one row, SI units: ``pd.concat`` puts deployments under each other."""
        return one_row({name: value for name, value in self.to_dict().items() if name != "assumptions"})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, SI units, stable names."""
        skipped = {"model", "cluster", "engine", "serving", "price", "times", "load", "expense", "assumptions"}
        numbers = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in skipped}
        return {
            "model": {"name": self.model.name, "family": self.model.family},
            "cluster": self.cluster.summary(),
            "engine": self.engine.name,
            "serving": self.serving.model_dump(exclude={"provenance"}),
            "price": None if self.price is None else self.price.to_dict(),
            **numbers,
            "memory_bytes": dict(self.memory_bytes),
            "nearest": None if self.nearest is None else dict(self.nearest),
            "certainty": self.certainty,
            "stability": self.stability,
            "load": None if self.load is None else self.load.to_dict(),
            "expense": None if self.expense is None else self.expense.to_dict(),
            "capacity_requests_per_s": self.capacity_requests_per_s,
            "at_capacity": None if self.at_capacity is None else self.at_capacity.to_dict(),
            "intervals": {name: found.to_dict() for name, found in {**self.intervals, **self.capacity_intervals}.items()},
            "assumptions": [vars(a) for a in self.assumptions],
        }


def capacity_of(d: Deployment, places: int | None = None) -> float:
    """Requests per second that all replicas can serve; ``places``: of at most so many sequences at once on each."""
    if not d.fits or slots_of(d.times) < 1:
        raise PlannerError("this deployment does not fit: it has no capacity.")
    return full_per_s(d.times, places)


def most_of(d: Deployment, places: int | None = None) -> float:
    """What ``capacity_of`` cannot exceed, in no time; infinite where it is not known."""
    return most_full_per_s(d.times, places)
