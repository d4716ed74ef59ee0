"""From steps to days: expected wall-clock of a whole run with its 90 % interval, and what each cause costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.common.answerable import require_answerable
from planner.common.arguments import as_a, as_amount
from planner.common.arrays import Array, Number, percentiles
from planner.common.errors import PlannerError
from planner.common.message import Message, join_messages
from planner.common.units import HOUR_S
from planner.lifecycle.failures import describe, simulate_clusters
from planner.lifecycle.field_factor import field_factor
from planner.lifecycle.spec import Run
from planner.operators.expert_load import PLACEMENTS, dropped_share, given_shares, read_histogram, zipf_shares
from planner.operators.routing import job_load, kept_pairs
from planner.performance import interruptions
from planner.performance.interruptions import Interruptions, Losses, expected_losses
from planner.prices.ownership import constants
from planner.prices.ownership import power_w_per_gpu as catalog_power_w
from planner.prices.price import gpu_hours
from planner.training.plan import Plan, step_time_interval
from planner.training.planning import plan
from planner.uncertainty.interval import Interval

CAUSES = (
    "compute", "expert_imbalance", "stragglers", "power_cap", "warmup", "evaluation", "startup", "ramp_up", "maintenance",
    "checkpoint", "lost_work", "detection", "replacement", "preemption", "outage", "rollback", "restart", "field",
)  # fmt: skip
"""Seconds of wall-clock, by cause; ``compute`` is steps times the step time with balanced experts,
``field`` what published runs took beyond what is modelled (only with ``run.field = "published"``)."""
KERNELS = ("forward", "backward", "recompute", "bubble", "optimizer")
"""Parts of a step that last longer when the clock of the GPUs is lower; messages and transfers to the host do not."""
Z_90 = NormalDist().inv_cdf(0.95)
LEAST_CAP_SHARE = 0.25
"""Of the rated power: below it no cap is answered. Assumed, under what drivers take: 200 W of a GPU rated at 700 (NVIDIA DGX B200
guide, chapter 7; stackhpc/ansible-slurm-appliance pull request 975), 150 W of one rated at 450 (1Panel-dev/1Panel issue 11910).
"""


@dataclass(frozen=True, kw_only=True)
class WholeRun:
    """A whole run. ``expected`` figures are those of the plan's own step time with interruptions in expectation, in closed
    form; their bounds are the 5th and 95th percentile of the simulated runs, in which the step time varies too.

    ``budget_s`` and ``budget_gpu_hours`` are what published runs of such a configuration took: the same times the field factor,
    for what no plan names (experiments, restarts of the whole run, slower software at first, evaluation).

    ``causes_s`` add up to ``wall_s.expected``; ``goodput`` is the time of the balanced, undisturbed steps over wall-clock.
    ``mean_wall_s`` is the mean of the simulated runs: above ``wall_s.expected`` where steps may turn out slower by more
    than they may turn out faster.
    """

    plan: Plan
    run: Run
    num_steps: float
    step_time_s: Interval
    wall_s: Interval
    gpu_hours: Interval
    budget_s: Interval
    budget_gpu_hours: Interval
    goodput: Interval
    causes_s: Mapping[str, float]
    mean_wall_s: float
    interruptions: Interval
    mtbf_s: float | None
    failures_by_cause: Mapping[str, float]
    checkpoint_bytes: float
    checkpoint_write_s: float
    checkpoint_interval_s: float | None
    expert_load: float
    dropped_share: float
    assumptions: Mapping[str, str]
    notes: tuple[str, ...]
    power_w_per_gpu: float | None = None  # without a cap, with the server's share; None = the catalog's, which is uncertain

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the plan under ``plan``."""
        intervals = {
            n: asdict(getattr(self, n))
            for n in (
                "step_time_s",
                "wall_s",
                "gpu_hours",
                "budget_s",
                "budget_gpu_hours",
                "goodput",
                "interruptions",
            )
        }
        plain = (
            "num_steps",
            "mean_wall_s",
            "mtbf_s",
            "checkpoint_bytes",
            "checkpoint_write_s",
            "checkpoint_interval_s",
            "expert_load",
            "dropped_share",
            "power_w_per_gpu",
            "notes",
        )
        return {
            **intervals,
            **{n: getattr(self, n) for n in plain},
            "causes_s": dict(self.causes_s),
            "failures_by_cause": dict(self.failures_by_cause),
            "assumptions": dict(self.assumptions),
            "failure_rates": describe(self.run.rates()),
            "run": self.run.model_dump(exclude={"provenance"}),
            "plan": self.plan.to_dict(),
        }


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Seconds that every run needs, before anything is interrupted; arrays over the simulated runs."""

    compute: Array
    expert_imbalance: Array
    stragglers: Array
    power_cap: Array
    warmup: Array
    evaluation: Array
    maintenance: Array
    field: Array

    @property
    def total(self) -> Array:
        return sum((getattr(self, name) for name in _Work.__dataclass_fields__), np.zeros(self.compute.shape))


def expected_run(answer: Plan, run: Run | Mapping[str, Any] | None = None, *, power_w_per_gpu: float | None = None) -> WholeRun:
    """Simulate the plan's whole run ``run.num_simulations`` times and say what it takes and why.

    A step's time varies by the plan's own 90 % interval (log-normal), interruptions as ``failures`` describes, recovery from them
    up to ``run.slowest_recovery_s`` where ``run.detection_s`` alone is not given. ``power_w_per_gpu``: that of ``[cost]``, watts
    of a GPU with its share of the server, without a cap; it is certain, and what ``run.power_cap_w`` holds back follows from it.
    Raises PlannerError when the job gives no length, the histogram is bad, or the run would never end.
    """
    answer = as_a(answer, Plan, "answer", "planner.plan")
    spec = run.checked("run") if isinstance(run, Run) else Run.build({} if run is None else run, "run")
    require_answerable("run", spec)
    power_w_per_gpu = as_amount(power_w_per_gpu, "power_w_per_gpu")
    if answer.price is not None and answer.price.held and spec.preemption_mtbf_s is not None:
        told = Message("run.preemption_mtbf_s does not count: nodes at a price of {0} are not taken away", answer.price.term)
        spec = spec.replaced(preemption_mtbf_s=None)
        answer = replace(answer, notes=(*answer.notes, told))
    if answer.num_steps is None:
        raise PlannerError("job: a whole run needs a length; give one of num_samples, num_tokens, num_steps (--tokens 100B).")
    if answer.price is not None and answer.price.preempted and spec.preemption_mtbf_s is None:
        raise PlannerError(
            "run.preemption_mtbf_s is missing: spot nodes get preempted; give the mean seconds between preemptions of one node, "
            "86400 for once a day."
        )
    shares = _shares(answer, spec)
    balanced, loaded = _with_load(answer, 1.0), _with_load(answer, _load(answer, spec, shares))
    num_nodes = answer.cluster.num_nodes
    size = spec.checkpoint_bytes or checkpoint_bytes(answer)
    recovery = spec.recovery()
    write_s = size / recovery.bandwidth_bytes_per_s(num_nodes)
    stops = spec.interruptions(answer.num_gpus, num_nodes, write_s)
    rng = np.random.default_rng(spec.seed)
    work = _work(answer.num_steps, balanced, loaded, spec, _draws(answer, spec, rng, power_w_per_gpu), rng)
    every = recovery.interval_s(np.array([loaded.step_time_s]), write_s, stops)
    interval_s = None if every is None else float(every[0])
    blocked_s = 0.0 if interval_s is None else write_s * spec.blocking_fraction
    length = interval_s or float(work.total.max()) * (1.0 + 1e-9)
    losses = simulate_clusters(work.total, length, blocked_s, replace(stops, detection_s=1.0), _spread_of_rates(spec), rng)
    failures = losses.detection  # a second of each
    usual = replace(losses, detection=failures * spec.detection_s)  # the field factor's runs hold their own recoveries
    losses = replace(losses, detection=failures * _detections_s(spec, rng))
    field = np.full(1, field_factor().factor if spec.field == "published" else 1.0)
    power = np.full(1, _given_power(answer, power_w_per_gpu))
    centre = _work(answer.num_steps, balanced, loaded, spec, _Factors(np.ones(1), field, power), None)
    likely = expected_losses(float(centre.total[0]), length, blocked_s, stops)
    found = _result(answer, spec, shares, loaded, (work, losses, usual), (centre, likely), stops, size, write_s, interval_s)
    return replace(found, power_w_per_gpu=power_w_per_gpu)


def _spread_of_rates(spec: Run) -> float:
    """How far clusters are apart; 0 where the user gives the rates of this one."""
    return 0.0 if spec.measured_rates() else spec.rates().log_spread


def _detections_s(spec: Run, rng: np.random.Generator) -> Array:
    """Seconds from a failure to its restart, one per simulation; all ``run.detection_s`` where the user says how long it takes.

    Half of the clusters recover as [run] supposes, with automation; the others take up to ``run.slowest_recovery_s``, which is
    their 95th percentile, log-normal between: nobody waits longer.
    """
    if spec.knows_recovery:
        return np.full(spec.num_simulations, spec.detection_s)
    recovery_s = max(spec.detection_s + spec.restart_s, 1.0)
    z = np.clip(rng.standard_normal(spec.num_simulations) / Z_90, 0.0, 1.0)
    return np.asarray(recovery_s * np.exp(z * math.log(spec.slowest_recovery_s / recovery_s)) - spec.restart_s)


def checkpoint_bytes(answer: Plan) -> float:
    """Of a plan's job; see ``performance.interruptions``."""
    return interruptions.checkpoint_bytes(answer.model, answer.job, answer.framework)


def straggler_factor(jitter: float, num_gpus: int) -> float:
    """Slowest of n GPUs over their mean, with step times normal around it: 1 + jitter x E(max of n).

    Blom 1958: E(max of n) = the normal quantile at (n - 0.375) / (n + 0.25), within 1 % for n >= 2.
    """
    return 1.0 + jitter * max(NormalDist().inv_cdf((num_gpus - 0.375) / (num_gpus + 0.25)), 0.0)


def _shares(answer: Plan, spec: Run) -> Array | None:
    given = spec.expert_shares is not None or spec.expert_zipf is not None or spec.expert_histogram is not None
    if not given:
        return None
    experts = answer.model.num_experts
    if not experts:
        raise PlannerError("run: an expert distribution is given, but {0} is dense; leave it out.", answer.model.name)
    if spec.expert_shares is not None:
        return given_shares(spec.expert_shares, experts)
    path = spec.histogram_path()
    return zipf_shares(spec.expert_zipf or 0.0, experts) if path is None else read_histogram(path, experts)


def _load(answer: Plan, spec: Run, shares: Array | None) -> float:
    if shares is None:
        return job_load(answer.model, answer.job, answer.layout.ep)
    placement = spec.expert_placement or ("given" if spec.expert_zipf is None else "random")
    return PLACEMENTS[placement](shares, answer.layout.ep)


def under_experts(answer: Plan, run: Run | Mapping[str, Any] | None) -> Plan:
    """The same layout with the experts' shares that ``run`` gives, in memory and in time; the plan itself where it gives none."""
    spec = run.checked("run") if isinstance(run, Run) else Run.build({} if run is None else run, "run")
    shares = _shares(answer, spec)
    if shares is None:
        return answer
    load = _load(answer, spec, shares)
    told = Message("experts as [run] gives them: the fullest rank has {0:.2f} times the mean", load)
    return replace(_with_load(answer, load), notes=(*answer.notes, told))


def _with_load(answer: Plan, load: float) -> Plan:
    if load == job_load(answer.model, answer.job, answer.layout.ep):
        return answer
    return plan(
        model=answer.model,
        cluster=answer.cluster,
        framework=answer.framework,
        job=answer.job.replaced(expert_load=load),
        layout=answer.layout,
        price=answer.price,
        risk=answer.risk,
    )


class _Factors(NamedTuple):
    """Log-normal factors, one per simulation: on the step time, with its own 5th and 95th percentile; the field's, as published
    runs took more than modelled (1 unless asked for); and on the catalog's power of a GPU (the same for all without a cap, and
    where the power is given)."""

    step: Array
    field: Array
    power: Array


def _draws(answer: Plan, spec: Run, rng: np.random.Generator, power_w_per_gpu: float | None) -> _Factors:
    z = rng.standard_normal(spec.num_simulations)
    step = step_time_interval(answer)
    low, high = np.log(step.lower / step.expected), np.log(step.upper / step.expected)
    own = np.asarray(np.exp(z / Z_90 * np.where(z < 0, -low, high)))
    field = np.ones(own.shape)
    power = np.full(own.shape, _given_power(answer, power_w_per_gpu))
    if spec.field == "published":
        fit = field_factor()
        field = np.asarray(np.exp(rng.standard_normal(spec.num_simulations) * fit.predictive_spread) * fit.factor)
    if spec.power_cap_w is not None and power_w_per_gpu is None:
        power = np.asarray(np.exp(rng.standard_normal(spec.num_simulations) * constants().power_share_spread))
    return _Factors(own, field, power)


def _given_power(answer: Plan, power_w_per_gpu: float | None) -> float:
    """A given power over the catalog's; 1 where none is given. GPUs have the same part of either."""
    if power_w_per_gpu is None or not answer.cluster.accelerator.tdp_w:
        return 1.0
    return power_w_per_gpu / catalog_power_w(answer.cluster)


def _work(steps: float, balanced: Plan, loaded: Plan, spec: Run, factors: _Factors, rng: np.random.Generator | None) -> _Work:
    """Seconds of work; without ``rng`` slow nodes count by their probability."""
    own, field, power = factors
    compute = steps * balanced.step_time_s * own
    uneven = steps * (loaded.step_time_s - balanced.step_time_s) * own
    slow = np.full(own.shape, 1.0 - (1.0 - spec.slow_node_probability) ** loaded.cluster.num_nodes)
    if rng is not None and spec.slow_node_probability:
        slow = (rng.random(len(own)) < slow).astype(float)
    stretch = straggler_factor(spec.straggler_jitter, loaded.num_gpus) * (1.0 + slow * (spec.slow_node_slowdown - 1.0))
    capped = capped_slowdown(loaded, spec.power_cap_w, power) - 1.0
    warm = min(float(spec.warmup_steps), steps) * loaded.step_time_s * (spec.warmup_slowdown - 1.0)
    evaluations = np.floor(steps / spec.evaluation_every_steps) if spec.evaluation_every_steps else 0.0
    warmup = warm * own * stretch
    evaluation = evaluations * (spec.evaluation_tokens or 0) * _forward_s_per_token(loaded) * own * stretch
    slower = (compute + uneven) * stretch * capped
    busy = (compute + uneven) * stretch + slower + warmup + evaluation
    stops = np.floor(busy * field / spec.maintenance_every_s) if spec.maintenance_every_s else np.zeros(own.shape)
    return _Work(
        compute=compute,
        expert_imbalance=uneven,
        stragglers=(compute + uneven) * (stretch - 1.0),
        power_cap=slower,
        warmup=warmup,
        evaluation=evaluation,
        maintenance=stops * ((spec.maintenance_s or 0.0) + spec.restart_s),
        field=busy * (field - 1.0),
    )


def capped_slowdown(answer: Plan, cap_w: float | None, power: Number = 1.0) -> Number:
    """How many times as long a step takes when each GPU is held to ``cap_w`` watts; 1 without a cap, or above what it draws.

    Power grows with the cube of the clock (dynamic power ~ f V^2, V ~ f), so kernels run (draw / cap)^(1/3) times as long;
    messages and the host do not. The draw is the catalog's average share of the rated power, times ``power``; broadcasts.
    PlannerError without a rated power, and below ``LEAST_CAP_SHARE`` of it.
    """
    if cap_w is None:
        return 1.0
    rated = answer.cluster.accelerator.tdp_w
    if not rated:
        raise PlannerError(
            "run.power_cap_w = {0:g}: the rated power of {1} is not known.", cap_w, answer.cluster.accelerator.name
        )
    if cap_w < LEAST_CAP_SHARE * rated:
        raise PlannerError(
            "run.power_cap_w = {0:g}: less than {1:.0%} of the {2:g} W that {3} is rated at, which drivers do not set and clocks "
            "do not follow; give {4:g} or more.",
            cap_w,
            LEAST_CAP_SHARE,
            rated,
            answer.cluster.accelerator.name,
            math.ceil(LEAST_CAP_SHARE * rated),
        )
    drawn_w = constants().power_share * rated
    slower = np.maximum(drawn_w * np.asarray(power) / cap_w, 1.0) ** (1.0 / 3.0)
    parts = answer.step_parts_s
    kernels = sum(parts[name] for name in KERNELS) / answer.step_time_s
    found = 1.0 + kernels * (slower - 1.0)
    return float(found) if np.ndim(found) == 0 else found


def _forward_s_per_token(answer: Plan) -> float:
    """Seconds per evaluated token: the forward pass's part of a step's passes, with bubble and exposed messages in scale."""
    parts = answer.step_parts_s
    passes = parts["forward"] + parts["backward"] + parts["recompute"]
    once = parts["optimizer"] + parts["data_parallel"]
    return parts["forward"] / passes * (answer.step_time_s - once) / answer.tokens_per_step


def _interval(expected: float, values: NDArray[np.float64], why: str = "") -> Interval:
    """``expected`` with the 5th and 95th percentile of simulations; it widens the interval where rare losses pull it out."""
    low, high = (float(v) for v in percentiles(values, (5.0, 95.0)))
    return Interval(expected=expected, lower=min(low, expected), upper=max(high, expected), why=why)


def _dropped(answer: Plan, shares: Array | None) -> float:
    """Part of the token-expert pairs beyond the capacity: of the shares that ``run`` gives, else what the step drops."""
    factor = answer.model.capacity_factor
    if factor is None:
        return 0.0
    if shares is not None:
        return dropped_share(shares, factor)
    return 1.0 - float(kept_pairs(answer.model, answer.job, np.array([float(answer.layout.ep)]))[0])


def _result(
    answer: Plan,
    spec: Run,
    shares: Array | None,
    loaded: Plan,
    simulated: tuple[_Work, Losses, Losses],
    expected: tuple[_Work, Losses],
    stops: Interruptions,
    size: float,
    write_s: float,
    interval_s: float | None,
) -> WholeRun:
    walls = simulated[0].total + simulated[1].total + spec.restart_s + spec.ramp_up_s
    field = simulated[0].total + simulated[2].total + spec.restart_s + spec.ramp_up_s
    once = {"startup": np.full(1, spec.restart_s), "ramp_up": np.full(1, spec.ramp_up_s)}
    found = {**vars(expected[0]), **vars(expected[1]), **once}
    causes = {name: float(found[name][0]) for name in CAUSES}
    wall = sum(causes.values())
    dropped = _dropped(answer, shares)
    step = step_time_interval(loaded)
    paid = spec.ramp_up_s / 2.0  # nodes come in evenly: on average they are paid for half of that time
    hours = gpu_hours(walls - paid, float(answer.num_gpus))
    modelled = _interval(wall, walls, Message("{0} simulated runs; {1}", spec.num_simulations, _spread(spec, step)))
    modelled_hours = _interval(float(gpu_hours(wall - paid, float(answer.num_gpus))), np.asarray(hours))
    budget_hours = _budget(spec, wall - paid, field - paid).scaled(answer.num_gpus / HOUR_S)
    return WholeRun(
        plan=answer,
        run=spec,
        num_steps=float(answer.num_steps or 0),
        step_time_s=step,
        wall_s=modelled,
        gpu_hours=modelled_hours,
        budget_s=_no_surer(_budget(spec, wall, field), modelled),
        budget_gpu_hours=_no_surer(budget_hours, modelled_hours),
        goodput=_interval(causes["compute"] / wall, np.minimum(simulated[0].compute / walls, 1.0)),
        causes_s=causes,
        mean_wall_s=float(walls.mean()),
        interruptions=_interval(float(expected[1].interruptions[0]), simulated[1].interruptions),
        mtbf_s=1.0 / stops.rate_per_s if stops.rate_per_s else None,
        failures_by_cause=_by_cause(answer, spec, float(expected[1].interruptions[0]), stops),
        checkpoint_bytes=size,
        checkpoint_write_s=write_s,
        checkpoint_interval_s=interval_s,
        expert_load=job_load(loaded.model, loaded.job, loaded.layout.ep),
        dropped_share=dropped,
        assumptions=spec.assumptions(),
        notes=_notes(answer, loaded, dropped),
    )


def _by_cause(answer: Plan, spec: Run, interruptions: float, stops: Interruptions) -> dict[str, float]:
    """Expected interruptions by what fails: GPUs, network, software, nodes; without preemptions, outages and rollbacks."""
    rates = spec.rates().by_cause(answer.num_gpus, answer.cluster.num_nodes)
    return {cause: interruptions * rate / stops.rate_per_s if stops.rate_per_s else 0.0 for cause, rate in rates.items()}


def _budget(spec: Run, wall: float, walls: NDArray[np.float64]) -> Interval:
    """The wall-clock as published runs went, whose spread holds how long theirs took to recover; the wall-clock
    itself where ``run.field`` has put the factor into it."""
    fit = field_factor()
    why = Message("{0} published runs took {1:.2f} times what is modelled for them", fit.num_runs, fit.factor)
    if spec.field == "published":
        return _interval(wall, walls, why)
    rng = np.random.default_rng(spec.seed + 1)
    factors = np.exp(rng.standard_normal(len(walls)) * fit.predictive_spread) * fit.factor
    return _interval(wall * fit.factor, np.asarray(walls * factors), why)


def _no_surer(budget: Interval, modelled: Interval) -> Interval:
    """The budget, reaching as high as what is modelled does: published runs say how long theirs took to recover, not whether
    a larger cluster does as well."""
    return replace(budget, upper=max(budget.upper, modelled.upper))


def _spread(spec: Run, step: Interval) -> str:
    if spec.field == "none":
        return step.why
    fit = field_factor()
    return Message(
        "published runs took {0:.2f} times the modelled hours (+- {1:.0%} at one sigma); {2}",
        fit.factor,
        fit.predictive_spread,
        step.why,
    )


def _notes(answer: Plan, loaded: Plan, dropped: float) -> tuple[str, ...]:
    notes = list(answer.notes)
    if answer.fits and not loaded.fits:
        notes.append(
            Message("with experts this uneven the fullest GPU runs out of memory: {0}", join_messages("; ", loaded.reasons))
        )
    if not answer.fits:
        notes.append(Message("the plan does not fit: {0}", join_messages("; ", answer.reasons)))
    if dropped:
        notes.append(Message("{0:.1%} of the token-expert pairs overflow the capacity factor and are dropped", dropped))
    return tuple(notes)
