"""One question on every GPU of the catalog: for each accelerator the fewest GPUs that do it in time and for the money.

Each answer is ``planner.plan`` (or ``serve``) of the question with other GPUs; nothing is scaled from one GPU to another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from planner.common.errors import PlannerError
from planner.common.message import join_messages
from planner.hardware.cluster import Accelerator, load_accelerator
from planner.layout_search.ranking import NOISE
from planner.lifecycle.spec import Run
from planner.model.architecture import Model
from planner.model.parameters import parameters_active
from planner.performance.interruptions import Recovery, spot_stretch
from planner.performance.risk import RISK
from planner.scenarios.scenario import asked
from planner.serving.deploy import serve
from planner.serving.deployment import Deployment, capacity_of
from planner.serving.engine import load_engine, usual_engine
from planner.serving.load import Load
from planner.training.hopeless import is_hopeless
from planner.training.plan import Plan
from planner.training.planning import plan
from planner.workload.job import Job
from planner.workload.resolve import as_model, usual_precision

MOST_GPUS = 16
"""Powers of two up to this many are tried where nothing limits the time; with a deadline up to MOST_IN_TIME."""
MOST_IN_TIME = 16_384
PER_NODE = 8
NO_ROOM, UNSURE, LATE, DEAR, TOO_MUCH = (
    "does not fit",
    "does not fit surely enough",
    "takes too long",
    "costs too much",
    "the rate is more than it can carry",
)
"""What a way may fail in, beside the reasons of its plan."""
SATURATED = 0.95
"""Of a deployment's capacity: above it latencies grow without a bound that a short simulation could tell."""
LEAST_FLOPS = 3.0
"""Per parameter that a token passes and token of any training: the forward pass takes 2, gradients more; a bound, so that no
plan is made of what cannot be in time."""
Question = dict[str, dict[str, Any]]
"""The tables of a scenario that a way asks."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What an answer must keep to: exactly so many GPUs, seconds of the run, dollars of the run. None: not asked for."""

    num_gpus: int | None = None
    deadline_s: float | None = None
    budget_usd: float | None = None

    def counts(self) -> tuple[int, ...]:
        """GPU counts to try, fewest first."""
        if self.num_gpus is not None:
            return (self.num_gpus,)
        most = MOST_GPUS if self.deadline_s is None else MOST_IN_TIME
        return tuple(2**i for i in range(most.bit_length()))


@dataclass(frozen=True, kw_only=True)
class Way:
    """What one accelerator does: the question on ``num_gpus`` of it with its answer, or why there is none.

    ``enough``: it fits at the accepted risk, in time and for the money. ``why``: what it fails in.
    """

    accelerator: str
    num_gpus: int
    tables: Mapping[str, Mapping[str, Any]]
    plan: Plan | None = None
    deployment: Deployment | None = None
    enough: bool = False
    why: str = ""

    @property
    def usd(self) -> float | None:
        """Dollars of the run; an hour of all GPUs where the run has no length; None without a quote."""
        if self.deployment is not None:
            rate = self.deployment.price
            return None if rate is None else rate.usd_per_gpu_hour * self.num_gpus
        if self.plan is None or self.plan.price is None:
            return None
        return self.plan.cost_usd if self.plan.run_s is not None else self.plan.price.usd_per_gpu_hour * self.num_gpus

    @property
    def need_bytes(self) -> float | None:
        """Memory of the fullest GPU; of a deployment, with the requests that its load keeps at work at once."""
        if self.deployment is not None:
            return self.deployment.loaded_total_bytes
        return None if self.plan is None else self.plan.peak_total_bytes

    @property
    def room_bytes(self) -> float | None:
        """Memory of a GPU that is there for it."""
        if self.deployment is not None:
            return self.deployment.limit_bytes
        return None if self.plan is None else self.plan.usable_bytes


def moved(tables: Mapping[str, Mapping[str, Any]], accelerator: str, num_gpus: int) -> dict[str, dict[str, Any]]:
    """The same question on other GPUs: layout, framework and own price are left to be found anew; 16-bit floats as the GPU has
    them; a batch that the GPUs divide evenly, as large or larger."""
    found = {name: dict(table) for name, table in tables.items() if name not in ("layout", "framework")}
    found["cluster"] = {"accelerator": accelerator, "num_gpus": num_gpus}
    if "usd_per_gpu_hour" in found.get("price", {}):
        found.pop("price")
    if "job" in found:
        job, card = found["job"], load_accelerator(accelerator)
        if job.get("precision", "bf16") == "bf16" and "bf16" not in card.peak_flops_per_s:
            job["precision"] = usual_precision(card)
        batch = job.get("global_batch_size")
        if isinstance(batch, int) and batch % num_gpus:
            job["global_batch_size"] = -(-batch // num_gpus) * num_gpus
    return found


def way(tables: Mapping[str, Mapping[str, Any]], accelerator: str, wish: Wish) -> Way:
    """Train on the GPUs of an accelerator that keep to the wish: the fewest, or more as long as the run gets cheaper by more than
    the noise between layouts (few GPUs may have to offload or recompute). Of those that do not, the last that was tried."""
    card, model = load_accelerator(accelerator), as_model(tables["model"])
    recovery = Run.build(dict(tables.get("run") or {}), "run").recovery()
    found = Way(accelerator=card.name, num_gpus=0, tables={}, why=NO_ROOM)
    passed: list[int] = []  # counts that surely take too long, since the last that was answered
    for num_gpus in wish.counts():
        if _surely_late(found.plan, num_gpus, wish):
            passed.append(num_gpus)
            continue
        tried = _tried(tables, card, model, num_gpus, wish, recovery)
        if tried.plan is None:
            if found.enough:
                break
            found = found if found.plan is not None else tried
            continue
        passed.clear()
        if found.enough and not _cheaper(tried, found):
            break
        found = tried
        dear = wish.budget_usd is not None and tried.plan.fits and (tried.plan.cost_usd or 0.0) > 4.0 * wish.budget_usd
        if dear or (found.enough and tried.plan.cost_usd is None):
            break
    late = (_tried(tables, card, model, num_gpus, wish, recovery) for num_gpus in reversed(passed))
    return found if found.enough else next((one for one in late if one.plan is not None), found)


def _tried(
    tables: Mapping[str, Mapping[str, Any]], card: Accelerator, model: Model, num_gpus: int, wish: Wish, recovery: Recovery
) -> Way:
    """The way on so many GPUs; without a plan where there is none."""
    question = moved(tables, card.name, num_gpus)
    try:
        why = _hopeless(card, model, question, wish)
        if why:
            return Way(accelerator=card.name, num_gpus=num_gpus, tables={}, why=why)
        answer = plan(**asked(question), explain=False)
        step_s = np.full(1, answer.step_time_s)
        stretch = float(spot_stretch(answer.question, answer.price, recovery, step_s, answer.num_steps)[0])
    except PlannerError as error:
        return Way(accelerator=card.name, num_gpus=num_gpus, tables=question, why=str(error))
    why = _short_of(answer, wish, stretch)
    return Way(accelerator=card.name, num_gpus=num_gpus, tables=question, plan=answer, enough=not why, why=why)


def _surely_late(known: Plan | None, num_gpus: int, wish: Wish) -> bool:
    """Whether no layout of so many GPUs keeps the deadline, from the plan of fewer: what it executes of the model's own
    operations, on all of them at the peak, with one step less, as a larger batch may leave.

    Not where tokens are dropped, of which frameworks execute less; nor under a budget, which ends the counts by their dollars.
    """
    if known is None or known.run_s is None or wish.deadline_s is None or wish.budget_usd is not None or known.model.num_experts:
        return False
    steps = (known.num_steps or 1.0) - 1.0
    return steps * known.step_time_s * known.mfu_causal * known.num_gpus / num_gpus > wish.deadline_s


def _cheaper(tried: Way, found: Way) -> bool:
    """Whether a run on more GPUs costs less by more than the noise between layouts, and keeps to the wish, too."""
    return tried.enough and tried.usd is not None and found.usd is not None and tried.usd < (1.0 - NOISE) * found.usd


def _short_of(answer: Plan, wish: Wish, stretch: float) -> str:
    """Why a plan is not enough; ``stretch``: wall-clock over undisturbed time where spot nodes are taken away."""
    if not answer.recommended:
        return join_messages("; ", answer.reasons) or UNSURE
    if wish.deadline_s is not None and answer.run_s is not None and answer.run_s * stretch > wish.deadline_s:
        return LATE
    if wish.budget_usd is not None and answer.run_s is not None and (answer.cost_usd or 0.0) * stretch > wish.budget_usd:
        return DEAR
    return ""


def _hopeless(card: Accelerator, model: Model, question: Question, wish: Wish) -> str:
    """Why no layout can do it, from bounds that need no plan; empty where one may."""
    if is_hopeless(asked(question)):
        return NO_ROOM
    job, num_gpus = Job.build(dict(question["job"]), "job"), question["cluster"]["num_gpus"]
    if wish.deadline_s is None or job.steps_per_epoch is None:
        return ""
    tokens = job.steps_per_epoch * job.num_epochs * job.tokens_per_step
    peak = max(card.peak_flops_per_s.values())
    fastest_s = LEAST_FLOPS * parameters_active(model) * tokens / (num_gpus * peak)
    return LATE if fastest_s > wish.deadline_s else ""


def serving_way(tables: Mapping[str, Mapping[str, Any]], accelerator: str, wish: Wish) -> Way:
    """Serve on the fewest GPUs of an accelerator that hold the model and carry the rate with room to spare, cut as narrowly as
    does: a narrow cut that holds the model may leave its cache too little room for the rate.

    Capacities are compared; requests are simulated on what is answered alone.
    """
    card, model = load_accelerator(accelerator), as_model(tables["model"])
    found = Way(accelerator=card.name, num_gpus=0, tables={}, why=NO_ROOM)
    rate, most = tables["serving"].get("requests_per_s"), 0.0
    too_small: set[tuple[int, int]] = set()  # cuts whose GPUs do not hold the weights: more replicas of one do not either
    unseen: list[tuple[int, Question]] = []  # passed over for that, since the last that was answered
    for num_gpus in wish.counts():
        for question in _cuts(tables, card, model, num_gpus):
            cut = question["serving"]["tp"], question["serving"]["pp"]
            if cut in too_small:
                unseen.append((num_gpus, question))
                continue
            try:
                answer, why, carried = _answered(question, rate, most)
            except PlannerError as error:
                if found.deployment is None:
                    found = Way(accelerator=card.name, num_gpus=num_gpus, tables=question, why=str(error))
                continue
            if answer.memory_bytes["weights"] + answer.memory_bytes["overhead"] > answer.limit_bytes:
                too_small.add(cut)
            if carried < most:
                continue
            most = carried
            unseen.clear()
            found = Way(accelerator=card.name, num_gpus=num_gpus, tables=question, deployment=answer, enough=not why, why=why)
            if found.enough:
                return found
    return _with_reason(found if most else _last_of(unseen, found))


def _answered(question: Mapping[str, Mapping[str, Any]], rate: float | None, most: float) -> tuple[Deployment, str, float]:
    """(the deployment, why it is not enough, the requests a second that it carries); under the load where it carries ``most``."""
    answer = _served(question, loaded=False)
    why = _unsure(answer)
    carried = 0.0 if why else capacity_of(answer)
    if carried >= most and not why and rate is not None:
        answer = _served(question) if rate <= SATURATED * carried else answer
        why = TOO_MUCH if answer.load is None or _overloaded(answer.load) else ""
    return answer, why, carried


def _last_of(unseen: Sequence[tuple[int, Question]], found: Way) -> Way:
    """The last of those that are known not to hold the model, with its own reason; ``found`` where there is none."""
    for num_gpus, question in reversed(unseen):
        try:
            answer = _served(question, loaded=False)
        except PlannerError:
            continue
        return replace(found, num_gpus=num_gpus, tables=question, deployment=answer, why=_unsure(answer))
    return found


def _with_reason(found: Way) -> Way:
    """What fails, under its load where that is why."""
    if found.why != TOO_MUCH:
        return found
    try:
        return replace(found, deployment=_served(found.tables))
    except PlannerError as error:
        return replace(found, why=str(error))


def _served(question: Mapping[str, Mapping[str, Any]], loaded: bool = True) -> Deployment:
    """The deployment, with or without the requests that arrive."""
    given = {name: question[name] for name in ("model", "cluster", "serving", "price") if name in question}
    dropped = set() if loaded else {"requests_per_s"}
    return serve(**{**given, "serving": {name: value for name, value in given["serving"].items() if name not in dropped}})


def _unsure(answer: Deployment) -> str:
    """Why it is not sure to fit; empty where it is."""
    sure = answer.fits and answer.fit_probability >= 1.0 - RISK
    return "" if sure else join_messages("; ", answer.reasons) or UNSURE


def _overloaded(load: Load) -> bool:
    return not load.stable or load.utilisation > SATURATED


def _cuts(
    tables: Mapping[str, Mapping[str, Any]], card: Accelerator, model: Model, num_gpus: int
) -> Iterator[dict[str, dict[str, Any]]]:
    """The narrowest cut first, over matrices, or over layers where the engine cuts none; the GPUs that it leaves hold further
    replicas."""
    weights = tables["serving"].get("weights", "bf16")
    own = {"weights": "fp16"} if weights == "bf16" and "bf16" not in card.peak_flops_per_s else {}
    whole = "tp" not in load_engine(tables["serving"].get("engine") or usual_engine(card, model, weights)).features
    for n in (2**i for i in range(PER_NODE.bit_length())):
        tp, pp = (1, n) if whole else (n, 1)
        if num_gpus % n == 0 and model.num_heads % tp == 0 and pp <= model.num_layers:
            question = moved(tables, card.name, num_gpus)
            yield {**question, "serving": {**question["serving"], **own, "tp": tp, "pp": pp, "dp": num_gpus // n}}
