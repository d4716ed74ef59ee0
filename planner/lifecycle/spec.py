"""What happens to a run beside its steps: failures, checkpoints, evaluation, stragglers, uneven experts."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from planner.common.message import Message
from planner.common.spec import Spec
from planner.common.units import HOUR_S
from planner.lifecycle.failures import CAUSES_OF_FAILURES, FailureRates, load_failure_rates, waiting_s
from planner.performance.interruptions import Interruptions, Recovery

Seconds = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0, strict=True)]
MEAN_TIMES = tuple(f"{cause}_mtbf_s" for cause in CAUSES_OF_FAILURES)
"""Fields that replace a published mean time between failures."""

ASSUMED = {
    "failures": Message(
        "this cluster fails as often as published ones do; they are apart by a factor of six, which the interval holds"
    ),
    "detection_s": Message("health checks every five minutes, as Kokolis et al. 2024 describe"),
    "slowest_recovery_s": Message(
        "where people must act and no node waits, detection and restart take up to three hours, which the interval holds"
    ),
    "restart_s": Message("five minutes to start, load and compile: the restart overhead in Kokolis et al. 2024's estimates"),
    "node_storage_bytes_per_s": Message("2 GB/s to and from storage for each node"),
    "blocking_fraction": Message("the job waits for the whole write"),
    "preemption_wait_s": Message("ten minutes until another spot node is there"),
}
"""Defaults that nobody measured on this cluster; those a user leaves alone are listed in every answer."""


class Run(Spec):
    """The ``[run]`` table of a scenario. Times in seconds, bandwidths in bytes per second."""

    failures: str = "published"  # the mean of catalog/failures.toml, one of its tables, or "none"
    gpu_mtbf_s: Positive | None = None  # of one GPU, instead of the published one
    network_mtbf_s: Positive | None = None  # of one GPU's share: its port, cable and part of the switches
    software_mtbf_s: Positive | None = None  # of one GPU's share
    node_mtbf_s: Positive | None = None
    spare_nodes: Annotated[int, Field(ge=0, strict=True)] = 0  # rented for the whole run, in a failed node's place at once
    repair_s: Positive | None = None  # until a failed node is back; None = another one is at hand at no charge
    detection_s: Seconds = 300.0
    restart_s: Seconds = Recovery.restart_s  # without reading the checkpoint, which is added
    slowest_recovery_s: Positive = 3.0 * HOUR_S  # detection and restart where people must act: the interval's slow end
    preemption_mtbf_s: Positive | None = None  # of one spot node
    preemption_wait_s: Seconds = Recovery.preemption_wait_s
    outage_mtbf_s: Positive | None = None  # of all nodes at once: power, cooling, storage
    outage_s: Positive | None = None
    rollback_mtbf_s: Positive | None = None  # between loss spikes or silent corruption that send the run back
    rollback_s: Positive | None = None  # work that it goes back, beside that since the last checkpoint
    maintenance_every_s: Positive | None = None  # planned stops, at a checkpoint
    maintenance_s: Positive | None = None
    ramp_up_s: Seconds = 0.0  # nodes come in one after the other, paid from then on, until the run may begin

    checkpoint: Literal["daly", "young", "none"] = "daly"
    checkpoint_interval_s: Positive | None = None  # given instead of computed
    checkpoint_every_steps: Count | None = None
    checkpoint_bytes: Positive | None = None  # given instead of computed
    node_storage_bytes_per_s: Positive = Recovery.node_storage_bytes_per_s
    storage_bytes_per_s: Positive | None = None  # of all nodes together
    # of a write that the job waits for; the rest is not yet safe
    blocking_fraction: Annotated[float, Field(ge=0, le=1)] = Recovery.blocking_fraction
    power_cap_w: Positive | None = None  # of one GPU, its own watts

    evaluation_every_steps: Count | None = None
    evaluation_tokens: Count | None = None
    warmup_steps: Annotated[int, Field(ge=0, strict=True)] = 0  # slow first steps: compiling, tuning, filling caches
    warmup_slowdown: Annotated[float, Field(ge=1)] = 1.0

    straggler_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0  # standard deviation / mean of one GPU's step time
    slow_node_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    slow_node_slowdown: Annotated[float, Field(ge=1)] = 1.0

    expert_shares: tuple[float, ...] | None = None  # of the tokens, one per expert
    expert_zipf: Annotated[float, Field(ge=0)] | None = None  # exponent; 0 = balanced
    expert_histogram: str | None = None  # file of measured counts
    expert_placement: Literal["random", "given", "sorted", "rebalanced"] | None = None
    # of experts on ranks: given = in their order, sorted = the fullest together, rebalanced = by load. None = by kind

    field: Literal["none", "published"] = "none"  # multiply by what published runs took over what was modelled for them

    num_simulations: Annotated[int, Field(ge=100, le=100_000, strict=True)] = 2000
    seed: Annotated[int, Field(ge=0, strict=True)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._only_one(("checkpoint_interval_s", "checkpoint_every_steps"))
        self._only_one(("expert_shares", "expert_zipf", "expert_histogram"))
        if (self.evaluation_every_steps is None) != (self.evaluation_tokens is None):
            raise ValueError("evaluation needs both evaluation_every_steps and evaluation_tokens; give both or neither")
        for one, other in (
            ("outage_mtbf_s", "outage_s"),
            ("rollback_mtbf_s", "rollback_s"),
            ("maintenance_every_s", "maintenance_s"),
        ):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ValueError(Message("{0} and {1} work together; give both or neither", one, other))
        if self.expert_placement is not None and not self._uneven():
            raise ValueError(
                Message(
                    "expert_placement = {0!r} needs expert_shares, expert_zipf or expert_histogram: without them experts are "
                    "placed at random",
                    self.expert_placement,
                )
            )
        given = self.checkpoint_interval_s is not None or self.checkpoint_every_steps is not None
        if given and "checkpoint" in self.model_fields_set:
            raise ValueError(
                Message(
                    "checkpoint = {0!r} with a given interval; give a rule (daly, young, none) or an interval", self.checkpoint
                )
            )
        usual_s = self.detection_s + self.restart_s
        if "slowest_recovery_s" in self.model_fields_set and self.slowest_recovery_s < usual_s:
            raise ValueError(
                Message(
                    "slowest_recovery_s = {0:g}: shorter than detection_s + restart_s = {1:g}; give at least that",
                    self.slowest_recovery_s,
                    usual_s,
                )
            )
        if self.warmup_slowdown > 1 and not self.warmup_steps:
            raise ValueError(Message("warmup_slowdown = {0} needs warmup_steps", self.warmup_slowdown))
        if (self.slow_node_slowdown > 1) != (self.slow_node_probability > 0):
            raise ValueError("slow_node_probability and slow_node_slowdown work together; give both or neither")
        return self

    def _uneven(self) -> bool:
        return self.expert_shares is not None or self.expert_zipf is not None or self.expert_histogram is not None

    def _only_one(self, names: tuple[str, ...]) -> None:
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(Message("{0} exclude each other; give one of {1}", " and ".join(given), ", ".join(names)))

    def rates(self) -> FailureRates:
        """Published rates with the given ones in their place."""
        start = load_failure_rates(self.failures)
        own = {n: getattr(self, n) for n in MEAN_TIMES if getattr(self, n) is not None}
        if not own:
            return start
        if "failures" not in self.model_fields_set:  # a given rate alone stands for all failures
            return FailureRates.build({"name": "given", **own}, "run")
        return start.replaced(**own)

    def interruptions(self, num_gpus: int, num_nodes: int, write_s: float) -> Interruptions:
        """Rates of a cluster, and what an interruption costs when a checkpoint takes ``write_s`` to write, and to read again."""
        causes = self.rates().by_cause(num_gpus, num_nodes)
        failures = sum(causes.values())
        wait = waiting_s(failures - causes["software"], self.repair_s, self.spare_nodes) if self.repair_s else 0.0
        return replace(
            self.recovery().stops(num_nodes, write_s),
            failure_rate_per_s=failures,
            outage_rate_per_s=1.0 / self.outage_mtbf_s if self.outage_mtbf_s else 0.0,
            rollback_rate_per_s=1.0 / self.rollback_mtbf_s if self.rollback_mtbf_s else 0.0,
            detection_s=self.detection_s,
            outage_s=self.outage_s or 0.0,
            rollback_s=self.rollback_s or 0.0,
            replacement_s=wait * (1.0 - causes["software"] / failures) if failures else 0.0,
        )

    def recovery(self) -> Recovery:
        """What it says of preemptions and checkpoints."""
        return Recovery(**{field.name: getattr(self, field.name) for field in fields(Recovery)})

    def assumptions(self) -> dict[str, str]:
        """Defaults in use that nobody measured: field -> what they suppose."""
        unused = set(self.model_fields_set)
        if self.preemption_mtbf_s is None:
            unused.add("preemption_wait_s")
        if self.measured_rates():
            unused.add("failures")
        if self.knows_recovery:
            unused.add("slowest_recovery_s")
        if self.checkpoint == "none":
            unused |= {"node_storage_bytes_per_s", "blocking_fraction"}
        return {name: why for name, why in ASSUMED.items() if name not in unused}

    def measured_rates(self) -> bool:
        """Does the user give the rates of this cluster?"""
        return any(getattr(self, name) is not None for name in MEAN_TIMES)

    @property
    def knows_recovery(self) -> bool:
        """Is it certain how long a recovery takes: said by detection_s alone, or already the slowest?"""
        said = "detection_s" in self.model_fields_set and "slowest_recovery_s" not in self.model_fields_set
        return said or self.detection_s + self.restart_s >= self.slowest_recovery_s

    def histogram_path(self) -> Path | None:
        """The file of measured expert counts."""
        return None if self.expert_histogram is None else Path(self.expert_histogram)
