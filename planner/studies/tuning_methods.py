"""Full tuning, LoRA and QLoRA of one scenario side by side: what trains, what it needs, how long and how much."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from planner.common.errors import PlannerError, as_texts, one_of
from planner.common.message import Message
from planner.common.progress import Progress
from planner.common.spec import fields_of
from planner.hardware.cluster import Cluster, usable_bytes
from planner.layout_search.ranking import NOISE
from planner.layout_search.space import allowed
from planner.performance.feasibility import check_sizes
from planner.performance.risk import RISK, check_risk
from planner.training.plan import Plan
from planner.training.planning import chosen_stack, framework_of, plan
from planner.training.trainable import frozen_parameters, stored_bytes
from planner.workload.adapters import check_targets
from planner.workload.job import Kind
from planner.workload.question import Question
from planner.workload.resolve import as_cluster, as_job, as_layout, as_model
from planner.workload.tuning import USUAL_RANK, Adapter

METHODS = ("full", "lora", "qlora")


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """One way to tune the scenario's model, and the plan of it."""

    method: str
    plan: Plan
    parameters_frozen: int
    stored_bytes: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, SI units."""
        return {
            "method": self.method,
            "parameters_trainable": self.plan.parameters_trainable,
            "parameters_frozen": self.parameters_frozen,
            "stored_bytes": self.stored_bytes,
            "plan": self.plan.to_dict(),
        }


def tuning_choices(
    tables: Mapping[str, Any],
    rank: int | None = None,
    targets: str | None = None,
    methods: tuple[str, ...] = METHODS,
    *,
    risk: float = RISK,
    allow: Iterable[str] = (),
) -> list[Tuning]:
    """Plans of the scenario's tables with ``job.kind`` finetune, lora and qlora.

    The adapter is the scenario's, with ``rank`` and ``targets`` instead of its own where given. A scenario without [framework]
    takes the usual one of each method, as ``plan`` does. Raises PlannerError for a bad rank, target or method.
    """
    methods, tables = as_texts(methods, "methods"), _tables(tables)
    jobs = _jobs(tables, rank, targets, methods)
    framework = tables.get("framework")
    rest = {k: v for k, v in tables.items() if k in ("model", "cluster", "layout", "price")}
    rest |= {"risk": risk, "allow": as_texts(allow, "allow")}
    found = []
    for method in methods:
        try:
            found.append(_answered(method, {**rest, "framework": framework, "job": jobs[method]}))
        except PlannerError as error:
            others = ",".join(other for other in methods if other != method)
            if not others or error.field.startswith("price"):  # which no other method changes
                raise PlannerError("{0}: {1}", method, error) from None
            raise PlannerError("{0}: {1} Or leave {0} out: --methods {2}.", method, error, others) from None
    full = next((one.plan for one in found if one.method == "full"), None)
    return [one if full is None else replace(one, plan=_slower(one.plan, full)) for one in found]


def _slower(answer: Plan, full: Plan) -> Plan:
    """The plan, with a note where adapters fit beside full tuning and take longer. It says why where full tuning on
    the adapters' own framework and layout is no slower than ``full``: then all that is added are the passes of A and B, and of
    weights in few bits their unpacking."""
    longer = answer.step_time_s / full.step_time_s - 1.0
    if longer <= NOISE or not (answer.fits and full.fits):
        return answer
    try:
        same: dict[str, Any] = {name: getattr(answer, name) for name in ("model", "cluster", "framework", "layout")}
        beside = plan(**same, job=full.job, explain=False).step_time_s
    except PlannerError:  # which trains no weights
        beside = answer.step_time_s
    if beside > (1.0 + NOISE) * full.step_time_s:
        why = Message("{0:.0%} slower than full tuning here, on another framework or layout", longer)
    elif answer.job.kind == "qlora":
        why = Message(
            "{0:.0%} slower than full tuning here: each pass unpacks the frozen weights, and A and B read and write each layer's "
            "tokens again, which takes longer than the weight gradients that are spared",
            longer,
        )
    else:
        why = Message(
            "{0:.0%} slower than full tuning here: A and B read and write each layer's tokens again, which in a narrow model "
            "takes longer than the weight gradients that are spared",
            longer,
        )
    return replace(answer, notes=(*answer.notes, why))


def _jobs(
    tables: Mapping[str, Any], rank: int | None, targets: str | None, methods: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """The scenario's job by each method."""
    unknown = [m for m in methods if m not in METHODS]
    if unknown:
        raise PlannerError("--methods {0}: {1}.", unknown[0], one_of(unknown[0], METHODS), field="methods", value=unknown[0])
    job = fields_of(tables["job"], "job")
    if job.get("kind", "lora") not in get_args(Kind):
        raise PlannerError("job.kind = {0!r}: {1}.", job["kind"], one_of(str(job["kind"]), get_args(Kind)), field="job.kind")
    adapter = {**({"rank": USUAL_RANK} if "adapter" not in job else _table(job["adapter"]))}
    adapter |= {"rank": rank} if rank is not None else {}
    adapter |= {"target_modules": targets} if targets is not None else {}
    check_targets(as_model(tables["model"]), Adapter.build(adapter, "job.adapter"))
    common = {k: v for k, v in job.items() if k not in ("kind", "adapter", "quantization", "teacher")}
    quantization = job.get("quantization") if str(job.get("kind")) == "qlora" else None
    return {
        "full": {**common, "kind": "finetune"},
        "lora": {**common, "kind": "lora", "adapter": adapter},
        "qlora": {**common, "kind": "qlora", "adapter": adapter, **({"quantization": quantization} if quantization else {})},
    }


CONTEXTS = (1024, 2048, 4096, 8192, 16384, 32768)
BATCHES = (1, 2, 4, 8)
"""Of ``memory_cells``: tokens of a sequence, and sequences on each GPU at a time."""


@dataclass(frozen=True, kw_only=True)
class MemoryCell:
    """Memory of the fullest GPU of one method at one context and batch; None where nothing runs, and ``why``. ``taken``: why this
    framework, where the scenario names none."""

    method: str
    seq_len: int
    batch: int
    total_bytes: float | None
    card_bytes: float
    fits: bool
    framework: str
    taken: str
    layout: str
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, SI units."""
        return asdict(self)


def memory_cells(
    tables: Mapping[str, Any],
    rank: int | None = None,
    targets: str | None = None,
    methods: tuple[str, ...] = METHODS,
    contexts: tuple[int, ...] = CONTEXTS,
    batches: tuple[int, ...] = BATCHES,
    risk: float = RISK,
    allow: Iterable[str] = (),
    progress: Progress | None = None,
) -> list[MemoryCell]:
    """Memory over context, batch and method on the scenario's GPUs: of the scenario's layout, or of the framework and layout that
    ``plan`` takes of those with such a micro-batch.

    ``batches`` are sequences on each data-parallel rank at a time. ``risk`` and ``allow`` as in ``plan``. ``progress`` is told
    (cells done, cells).
    """
    methods, tables, allow, risk = as_texts(methods, "methods"), _tables(tables), allowed(allow), check_risk(risk)
    jobs = _jobs(tables, rank, targets, methods)
    cluster = as_cluster(tables["cluster"])
    places, found = list(itertools.product(methods, contexts, batches)), []
    for done, (method, seq_len, batch) in enumerate(places):
        if progress is not None:
            progress(done, len(places))
        job = {**jobs[method], "seq_len": seq_len}
        found.append(_cell(method, job, batch, tables, cluster, risk, allow))
    return found


def _tables(given: Any) -> dict[str, Any]:
    """The tables of a scenario; PlannerError where one is missing that no question does without."""
    tables = fields_of(given, "tables")
    for name in ("model", "cluster", "job"):
        if tables.get(name) is None:
            raise PlannerError("{0} is missing; a question needs model, cluster and job.", name, code="missing", field=name)
    return tables


def _cell(
    method: str,
    job: dict[str, Any],
    batch: int,
    tables: Mapping[str, Any],
    cluster: Cluster,
    risk: float,
    allow: Iterable[str],
) -> MemoryCell:
    fields: dict[str, Any] = {"method": method, "seq_len": job["seq_len"], "batch": batch, "card_bytes": usable_bytes(cluster)}
    job = {**job, "global_batch_size": batch * cluster.num_gpus}
    try:
        own = tables.get("layout") is not None
        found = _alone(job, batch, tables, cluster, risk) if own else _chosen(job, batch, tables, cluster, risk, allow)
    except PlannerError as error:
        nothing: dict[str, Any] = {"total_bytes": None, "fits": False, "layout": "", "framework": "", "taken": ""}
        return MemoryCell(**fields, **nothing, why=str(error))
    return MemoryCell(**fields, **found, why="")


def _chosen(
    job: dict[str, Any], batch: int, tables: Mapping[str, Any], cluster: Cluster, risk: float, allow: Iterable[str]
) -> dict[str, Any]:
    """Framework and layout as ``plan`` chooses them, of those with ``batch`` sequences in a micro-batch."""
    model, work, named = as_model(tables["model"]), as_job(job, cluster), tables.get("framework")
    check_sizes(model, work)
    usual, why = framework_of(named, model, cluster, work, None)
    question = Question(model, cluster, usual, work)
    stack, choice, why = chosen_stack(question, why, named is None, risk, allow, batch)
    found = {"framework": stack.name, "taken": _taken(why, named), "layout": choice.layout.label}
    return {**found, "total_bytes": choice.peak_bytes, "fits": choice.sure}


def _alone(job: dict[str, Any], batch: int, tables: Mapping[str, Any], cluster: Cluster, risk: float) -> dict[str, Any]:
    """The scenario's own layout with ``batch`` sequences in a micro-batch."""
    model, work, named = as_model(tables["model"]), as_job(job, cluster), tables.get("framework")
    layout = as_layout({**fields_of(tables["layout"], "layout"), "micro_batch_size": batch})
    framework, why = framework_of(named, model, cluster, work, layout)
    answer = plan(model=model, cluster=cluster, framework=framework, job=work, layout=layout, explain=False, risk=risk)
    found = {"framework": answer.framework.name, "taken": _taken(why, named), "layout": answer.layout.label}
    return {**found, "total_bytes": answer.peak_total_bytes, "fits": answer.recommended}


def _taken(why: tuple[str, ...], named: Any) -> str:
    """The one reason why this framework was taken; none is given where the scenario names it."""
    (reason,) = why if named is None else ("",)
    return reason


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PlannerError("job.adapter = {0!r}: must be a table, [job.adapter].", value)
    return value


def _answered(method: str, arguments: dict[str, Any]) -> Tuning:
    answer = plan(**arguments)
    return Tuning(
        method=method,
        plan=answer,
        parameters_frozen=frozen_parameters(answer.model, answer.job),
        stored_bytes=stored_bytes(answer.model, answer.job, answer.framework),
    )
