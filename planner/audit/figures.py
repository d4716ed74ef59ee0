"""Our own figures behind a verdict, each with its 90 % interval."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.audit.claims import SCENARIO_TABLES, ClaimFile, Figure
from planner.common import clock
from planner.common.errors import PlannerError, near
from planner.common.message import Message, join_messages
from planner.hardware.cluster import Cluster, Node, load_accelerator, usable_bytes
from planner.hardware.cluster import cluster as build_cluster
from planner.layout_search.explore import leanest
from planner.layout_search.space import LayoutGrid, select
from planner.lifecycle.bill import charged_run
from planner.model.parameters import embedding_parameters, head_parameters, layer_parameters, parameters_active, parameters_total
from planner.operators.expert_load import expert_load, mixed_shares
from planner.prices.market import find_price, market
from planner.prices.ownership import constants, power_w_per_gpu
from planner.scenarios.scenario import read_scenario
from planner.scenarios.serving import read_serving_scenario
from planner.serving.deploy import serve
from planner.serving.deployment import Deployment, capacity_of
from planner.training.plan import Plan, memory_interval
from planner.training.planning import candidates, evaluate, framework_of, plan
from planner.uncertainty.interval import Interval
from planner.uncertainty.subject import Metric, Subject
from planner.workload.layout import Layouts
from planner.workload.question import Question
from planner.workload.resolve import as_cluster, as_job, as_model

STALE = "stale: older than 90 days"
MEMORY = ("peak_total_bytes", "peak_allocated_bytes", "peak_reserved_bytes", "total_memory_bytes", "needed_over_usable")
EVEN = 0.5
"""Risk with which the audit chooses layouts: a claim is judged by the fastest layout that fits as expected, for its author ran
one and knew that it fitted."""


UNPRICED = {"usd_per_gpu_hour": 1.0}
"""The price of a plan that is asked for bytes only: one is neither looked up nor, for a GPU that nobody rents, estimated."""


def exact(value: float) -> Interval:
    """A figure that arithmetic settles."""
    return Interval(expected=float(value), lower=float(value), upper=float(value), why="exact")


@dataclass(frozen=True, kw_only=True)
class Figured:
    """A figure with its interval; of a plan's time or memory also what its errors depend on, so that ratios know what cancels."""

    interval: Interval
    metric: Metric | None = None
    subject: Subject | None = None


def figure_of(figure: Figure, claims: ClaimFile, folder: Path) -> Figured:
    """The figure with its interval; PlannerError when its scenario cannot be computed."""
    tables = _tables(figure, claims, folder)
    found = QUANTITIES[figure.quantity](figure, tables)
    if figure.quantity != "plan" or found.lower == found.upper:
        return Figured(interval=found)
    answer = _plan(tables)
    if figure.field in MEMORY:
        return Figured(interval=found, metric="memory", subject=replace(answer.subject, figure="reserved"))
    return Figured(interval=found, metric="step_time", subject=answer.subject)


def _tables(figure: Figure, claims: ClaimFile, folder: Path) -> dict[str, Any]:
    """The scenario's tables, completed or replaced by the figure's own."""
    tables: dict[str, Any] = {}
    if figure.scenario in claims.scenarios:
        tables = {name: dict(values) for name, values in claims.scenarios[figure.scenario].items()}
    elif figure.scenario.endswith(".toml"):
        path = folder / figure.scenario
        found = read_serving_scenario(path).cases[0] if figure.quantity == "serve" else read_scenario(path).cases[0]
        tables = {name: dict(values) for name, values in found.tables.items() if name in SCENARIO_TABLES}
    elif figure.scenario:
        raise PlannerError("scenario = {0!r}: not in [scenarios]; {1}", figure.scenario, near(figure.scenario, claims.scenarios))
    for name in SCENARIO_TABLES:
        own = getattr(figure, name)
        if own and name == "model":
            tables[name] = dict(own)
        elif own is not None and (own or name == "layout"):
            tables[name] = {**tables.get(name, {}), **own}
    return tables


def _plan(tables: dict[str, Any]) -> Plan:
    return _cached_plan(json.dumps({k: v for k, v in tables.items() if k not in ("run", "serving")}, sort_keys=True))


@lru_cache(maxsize=4096)
def _cached_plan(text: str) -> Plan:
    tables = json.loads(text)
    if "model" not in tables or "cluster" not in tables or "job" not in tables:
        raise PlannerError("a plan needs model, cluster and job; name a scenario or give the tables")
    return plan(**tables, explain=False, risk=EVEN)


def _plan_figure(figure: Figure, tables: dict[str, Any]) -> Interval:
    answer, field = _plan(tables), figure.field
    if field == "total_memory_bytes":
        return memory_interval(answer).scaled(answer.num_gpus)
    if field == "fits":
        return exact(answer.fits)
    if field == "needed_over_usable":
        return memory_interval(answer).scaled(1.0 / answer.usable_bytes)
    if field == "state_bytes":
        return exact(sum(answer.memory_bytes[k] for k in ("parameters", "gradients", "optimizer")) * answer.num_gpus)
    if field.startswith("step_part."):
        return exact(answer.step_parts_s[field.removeprefix("step_part.")])
    value = getattr(answer, field, None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        numbers = [n for n in Plan.__dataclass_fields__ if isinstance(getattr(answer, n), int | float)]
        raise PlannerError(
            "field = {0!r}: not a number of a plan; {1}", field, near(field, [*numbers, "total_memory_bytes", "fits"])
        )
    return answer.intervals.get(field) or exact(float(value))


def _run_figure(figure: Figure, tables: dict[str, Any]) -> Interval:
    result = charged_run(_plan(tables), tables.get("run"), tables.get("cost"))
    if figure.field.startswith("cause."):
        name = figure.field.removeprefix("cause.")
        if name not in result.causes_s:
            raise PlannerError("field = {0!r}: {1}", figure.field, near(name, result.causes_s))
        return exact(result.causes_s[name])
    value = getattr(result, figure.field, None)
    if isinstance(value, Interval):
        return value
    if not isinstance(value, int | float):
        raise PlannerError(
            "field = {0!r}: not a number of a whole run; {1}", figure.field, near(figure.field, result.__dataclass_fields__)
        )
    return exact(float(value))


SERVED = ("model", "cluster", "serving", "price")


@lru_cache(maxsize=4096)
def _cached_serve(text: str) -> Deployment:
    tables = json.loads(text)
    if missing := [name for name in SERVED[:3] if name not in tables]:
        raise PlannerError("serving needs model, cluster and serving; {0} is missing", missing[0])
    return serve(**tables)


def _asked(tables: dict[str, Any], serving: dict[str, Any]) -> str:
    asked = {k: v for k, v in tables.items() if k in SERVED}
    return json.dumps({**asked, "serving": {**asked.get("serving", {}), **serving}}, sort_keys=True)


def _serve_figure(figure: Figure, tables: dict[str, Any]) -> Interval:
    """A figure of a deployment: one with an interval (load.ttft_s.p95 and so on), another number of it, or load.NAME."""
    if figure.share_of_capacity is not None:
        rate = figure.share_of_capacity * capacity_of(_cached_serve(_asked(tables, {})))
        tables = {**tables, "serving": {**tables["serving"], "requests_per_s": rate}}
    answer, field = _cached_serve(_asked(tables, {})), figure.field
    if field in answer.intervals:
        return answer.intervals[field]
    owner, name = (answer.load, field.removeprefix("load.")) if field.startswith("load.") else (answer, field)
    value = getattr(owner, name, None)
    if isinstance(value, int | float):
        return exact(float(value))
    if answer.reasons:
        raise PlannerError("field = {0!r}: {1} does not fit: {2}", field, answer.model.name, join_messages("; ", answer.reasons))
    if answer.load is not None and not answer.load.stable:
        raise PlannerError("field = {0!r}: {1}", field, answer.load.why)
    numbers = [n for n in Deployment.__dataclass_fields__ if isinstance(getattr(answer, n), int | float)]
    raise PlannerError("field = {0!r}: not a number of a deployment; {1}", field, near(field, [*numbers, *answer.intervals]))


def _leanest(figure: Figure, tables: dict[str, Any]) -> Interval:
    """All GPUs' memory under the layout that needs least, among those without offloading."""
    asked = {k: tables[k] for k in ("model", "cluster", "framework", "job") if k in tables}
    return _cached_leanest(json.dumps(asked, sort_keys=True))


@lru_cache(maxsize=256)
def _cached_leanest(text: str) -> Interval:
    asked = json.loads(text)
    model, cluster = as_model(asked["model"]), as_cluster(asked["cluster"])
    job = as_job(asked["job"], cluster)
    question = Question(model, cluster, framework_of(asked.get("framework"), model, cluster, job, None)[0], job)
    least = leanest(LayoutGrid(question=question.on_stack(), allow=frozenset()))
    if least is None:
        raise PlannerError("no layout is possible")
    best = _plan({**asked, "price": UNPRICED, "layout": least.model_dump(exclude={"provenance"}, exclude_none=True)})
    return memory_interval(best).scaled(best.num_gpus)


def _block(figure: Figure, tables: dict[str, Any]) -> Interval:
    """Parameters whose tensor begins with ``field``: embedding, attention, ffn, experts, shared, router, head, layers."""
    model = as_model(tables["model"])
    layers = [t for kind in model.layer_kinds for t in layer_parameters(model, kind)]
    if figure.field == "layers":
        return exact(sum(t.elements for t in layers))
    every = (*embedding_parameters(model), *layers, *head_parameters(model))
    found = [t.elements for t in every if t.name.startswith(figure.field)]
    if not found:
        known = {"layers", *(t.name.split(".")[0] for t in every)}
        raise PlannerError("field = {0!r}: {1} has no such block; {2}", figure.field, model.name, near(figure.field, known))
    return exact(sum(found))


def _model_field(figure: Figure, tables: dict[str, Any]) -> Interval:
    model = as_model(tables["model"])
    value = getattr(model, figure.field, None)
    if not isinstance(value, int | float):
        raise PlannerError(
            "field = {0!r}: not a number of a model; {1}", figure.field, near(figure.field, type(model).model_fields)
        )
    return exact(value)


def _forward_flops(figure: Figure, tables: dict[str, Any]) -> Interval:
    """Flops of one forward pass over the job's batch: a third of a step's (the backward pass takes twice as many)."""
    return exact(_plan(tables).model_flops_per_step / 3.0)


def _load(figure: Figure, tables: dict[str, Any]) -> Interval:
    if not figure.shares_by_type or len(figure.shares_by_type) != len(figure.parts):
        raise PlannerError("expert_load needs shares_by_type and one entry of parts for each of its rows")
    shares = mixed_shares(figure.shares_by_type, figure.parts)
    return exact(expert_load(shares, int(figure.field or len(shares))))


def _usable(figure: Figure, tables: dict[str, Any]) -> Interval:
    cluster = as_cluster(tables["cluster"])
    return exact(usable_bytes(cluster) * cluster.num_gpus)


def _price(figure: Figure, tables: dict[str, Any]) -> Interval:
    """Dollars per GPU-hour: the median of comparable providers with the 90 % interval of what one would pay."""
    quotes = market(figure.accelerator, figure.term)
    chosen = find_price(figure.accelerator, term=figure.term)
    low, high = chosen.interval_usd_per_gpu_hour
    dates = sorted({quotes[0].date, chosen.date, quotes[-1].date})
    stale = f", {STALE}" if chosen.is_stale(clock.today()) else ""
    count = "1 provider" if len(quotes) == 1 else f"{len(quotes)} providers"
    return Interval(
        expected=chosen.usd_per_gpu_hour,
        lower=low,
        upper=high,
        why=Message("{0}, quotes of {1}{2}", count, " to ".join(dates), stale),
    )


BANDWIDTHS = np.geomspace(5e9, 2e11, 7)
"""Where both frameworks are timed, bytes/s each way of one GPU; between them the logarithm of their ratio is interpolated."""


def _crossover(figure: Figure, tables: dict[str, Any]) -> Interval:
    """Link bandwidth per GPU (bytes/s, one direction) below which ZeRO-3 beats tensor parallelism on one node.

    Both frameworks pick their fastest layout that fits: FSDP with zero = 3 and data parallelism alone, Megatron-Core with tp > 1.
    The interval is where one of them could be 10 % faster or slower than computed. The ends of ``BANDWIDTHS`` stand for
    crossings beyond them.
    """
    base = as_cluster(tables["cluster"])
    kept = {framework: _contenders(tables, base, framework) for framework in ("fsdp", "megatron-core")}
    within, behind = float(np.log(1.1)), []
    for bandwidth in BANDWIDTHS:  # those beyond the last crossing are not asked for
        behind.append(float(np.log(_zero3_over_tensor(tables, base, kept, float(bandwidth)))))
        if behind[-1] > within:
            break
    low, middle, high = (_falls_below(np.array(behind), -d) for d in (within, 0.0, -within))
    return Interval(expected=middle, lower=min(low, high), upper=max(low, high), why="either framework may be 10 % off")


def _falls_below(behind: NDArray[np.float64], level: float) -> float:
    """The bandwidth above which ZeRO-3's time over the other's is more than ``level`` (of logarithms)."""
    above = np.flatnonzero(behind > level)
    if not len(above):
        return float(BANDWIDTHS[-1])
    i = int(above[0])
    if i == 0:
        return float(BANDWIDTHS[0])
    share = (level - behind[i - 1]) / (behind[i] - behind[i - 1])
    return float(np.exp(np.interp(share, [0.0, 1.0], np.log(BANDWIDTHS[i - 1 : i + 1]))))


def _contenders(tables: dict[str, Any], base: Cluster, framework: str) -> Layouts:
    """The layouts that fit of those that one side may choose from; which links join the GPUs changes none of them."""
    asked = {"model": tables["model"], "cluster": base, "framework": framework, "job": tables["job"]}
    found = candidates(**asked)
    alone = (found.zero == 3) & (found.tp == 1) & (found.pp == 1)
    found = select(found, (found.offload_optimizer == 0) & (alone if framework == "fsdp" else found.tp > 1))
    return select(found, evaluate(**asked, layouts=found).fits)


def _zero3_over_tensor(tables: dict[str, Any], base: Cluster, kept: dict[str, Layouts], bytes_per_s: float) -> float:
    link = {"name": "link", "kind": "pcie", "span": base.num_gpus, "bytes_per_s": bytes_per_s}
    known = {"name": "crossover", "accelerator": base.accelerator.name, "num_gpus": base.num_gpus, "links": [link]}
    cluster, times = build_cluster(Node.build(known, "crossover")), []
    for framework, layouts in kept.items():
        answer = evaluate(model=tables["model"], cluster=cluster, framework=framework, job=tables["job"], layouts=layouts)
        times.append(float(np.where(answer.fits, answer.step_time_s, np.inf).min()))
    return times[0] / times[1]


QUANTITIES: dict[str, Callable[[Figure, dict[str, Any]], Interval]] = {
    "plan": _plan_figure, "run": _run_figure, "serve": _serve_figure, "leanest_memory_bytes": _leanest,
    "forward_flops": _forward_flops,
    "parameters_of_block": _block, "model_field": _model_field, "expert_load": _load, "usable_memory_bytes": _usable,
    "price": _price, "zero3_crossover_bytes_per_s": _crossover,
    "parameters_total": lambda f, t: exact(parameters_total(as_model(t["model"]))),
    "parameters_active": lambda f, t: exact(parameters_active(as_model(t["model"]))),
    "memory_bytes": lambda f, t: exact(as_cluster(t["cluster"]).num_gpus * as_cluster(t["cluster"]).accelerator.memory_bytes),
    "peak_flops_per_s": lambda f, t: exact(load_accelerator(f.accelerator, "accelerator").peak(f.field)),
    "power_w_per_gpu": lambda f, t: exact(power_w_per_gpu(as_cluster(t["cluster"]))),
    "electricity_usd_per_kwh": lambda f, t: exact(constants().electricity_usd_per_kwh),
    "given": lambda f, t: exact(f.value or 0.0),
}  # fmt: skip
