"""What a search is asked: setups, objective, limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Required, TypedDict, get_args

import numpy as np

from planner.common.arguments import as_amount, as_counts
from planner.common.arrays import Array
from planner.common.errors import PlannerError, as_text, as_texts, one_of
from planner.common.message import Message, join_messages, shown_value
from planner.common.spec import whole_number
from planner.hardware.asked import accelerator_of_field
from planner.hardware.cluster import Accelerator, Cluster, load_accelerator
from planner.hardware.cluster import cluster as build_cluster
from planner.hardware.custom_nodes import described_cluster
from planner.layout_search.space import EVERYTHING, LayoutGrid, allowed
from planner.model.architecture import Model
from planner.performance.feasibility import check_job, check_sizes, job_notes
from planner.performance.interruptions import USUAL_RECOVERY, Recovery, spot_stretch
from planner.performance.risk import RISK, FitRule, check_risk, fit_rule
from planner.prices.market import as_price, price_note
from planner.prices.price import Price, PriceLike
from planner.workload.default_framework import default_framework, leaner_frameworks
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.question import Question
from planner.workload.resolve import (
    ClusterLike,
    FrameworkLike,
    JobLike,
    ModelLike,
    as_cluster,
    as_framework,
    as_job,
    as_model,
    read_as,
)

Objective = Literal["cost", "time", "memory", "energy"]


MAX_LAYOUTS = 1_000_000_000
OFFLOAD = frozenset(("offload",))
HOST_GAIN = 0.10
"""How much faster what moves to the host must be than recomputing everything: what its copies contend for is not modelled.
Assumed."""
NOTHING_FITS = Message("no usual layout fits at this risk, so unusual ones were looked at too")
RECOMPUTES = Message(
    "the best usual layout recomputes everything and is beaten by more than {0:.0%} by one that moves states or activations to "
    "the host, so those were looked at too",
    HOST_GAIN,
)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One cluster, framework and price to search layouts on."""

    grid: LayoutGrid
    price: Price | None
    risk: float = RISK
    headroom: float = 0.0
    recovery: Recovery = USUAL_RECOVERY
    """How often a node is taken away, and how the job comes back."""

    @property
    def question(self) -> Question:
        """What is asked here, but the layout."""
        return self.grid.question

    @cached_property
    def fit(self) -> FitRule:
        """Which layouts fit."""
        return fit_rule(self.question, self.risk, self.headroom)

    def stretch(self, step_time_s: Array, num_steps: float | None) -> Array:
        """Wall-clock over undisturbed time of each step time, with the preemptions of nodes that may be taken away."""
        return spot_stretch(self.question, self.price, self.recovery, step_time_s, num_steps)

    @property
    def label(self) -> str:
        """For people."""
        price = Message("no price")
        if self.price is not None:
            price = Message("${0:.2f} {1}", self.price.usd_per_gpu_hour, self.price.describe())
        return Message("{0}, {1}, {2}", self.question.cluster.name, self.question.framework.name, price)

    @property
    def where(self) -> str:
        """Cluster and framework, for people."""
        return Message("{0}, {1}", self.question.cluster.name, self.question.framework.name)

    def takes_place_of(self, other: Setup) -> bool:
        """Whether it is on the other's cluster, at its price."""
        return self.question.cluster == other.question.cluster and self.price == other.price

    @property
    def power_w(self) -> float:
        """Rated power of all GPUs; hosts and cooling are not counted."""
        return self.question.cluster.num_gpus * self.question.cluster.accelerator.tdp_w


@dataclass(frozen=True, kw_only=True)
class SearchQuestion:
    """What is searched, what is best, and what is ruled out."""

    setups: tuple[Setup, ...]
    objective: Objective
    deadline_s: float | None
    budget_usd: float | None
    top: int
    refused: tuple[str, ...] = ()  # clusters and stacks that cannot run the job at all, and why
    notes: tuple[str, ...] = ()  # why a framework was taken where none was named
    # (setups, why, why for being faster) that are looked at, one after the other, where no layout of these fits at the accepted
    # risk, and where those may be faster
    others: tuple[tuple[tuple[Setup, ...], tuple[str, ...], tuple[str, ...]], ...] = ()
    wide: str = ""  # why unusual layouts were admitted that nobody named

    def widened(self) -> Iterator[SearchQuestion]:
        """The same question with what moves to the host admitted, which people do take, then with every unusual layout."""
        for more in (OFFLOAD, EVERYTHING):
            if any(not more <= s.grid.allow for s in self.setups):
                yield self._admitting(more, NOTHING_FITS)

    def hosted(self) -> SearchQuestion | None:
        """The same question with what moves to the host admitted for being faster; None where it is admitted already."""
        return None if all(s.grid.allow >= OFFLOAD for s in self.setups) else self._admitting(OFFLOAD, RECOMPUTES)

    def _admitting(self, more: frozenset[str], why: str) -> SearchQuestion:
        setups = tuple(replace(s, grid=replace(s.grid, allow=s.grid.allow | more)) for s in self.setups)
        return replace(self, wide=why, setups=setups)

    def elsewhere(self) -> Iterator[SearchQuestion]:
        """The same question on the other setups, each with those after it, which may be faster."""
        for i, (setups, notes, _) in enumerate(self.others):
            rest = tuple((later, why, why) for later, why, _ in self.others[i + 1 :])
            yield replace(self, setups=setups, notes=notes, others=rest, wide="")

    def quicker(self) -> Iterator[SearchQuestion]:
        """The same question on the other setups, which are taken for being faster."""
        quicker = (other for other in self.others if all(other[2]))
        return (replace(self, setups=setups, notes=faster, others=(), wide="") for setups, _, faster in quicker)

    def alone(self, setup: int) -> SearchQuestion:
        """The same question on one of its setups, and on the others of its cluster and price."""
        asked = self.setups[setup]
        others = tuple((tuple(s for s in setups if s.takes_place_of(asked)), notes, fast) for setups, notes, fast in self.others)
        return replace(self, setups=(asked,), notes=(), others=tuple(other for other in others if other[0]))

    @property
    def preempted(self) -> tuple[Setup, ...]:
        """Those of a spot term, which need a rate of preemptions."""
        return tuple(setup for setup in self.setups if setup.price is not None and setup.price.preempted)

    @property
    def said(self) -> tuple[str, ...]:
        """What a reader of the answer should know: of the job, why a framework was taken, and how spot is ranked."""
        paid = [price_note(setup.price, setup.question.cluster.accelerator.name) for setup in self.setups]
        prices = dict.fromkeys(note for notes in paid for note in notes)
        return (*job_notes(self.setups[0].question.model, self.job), *prices, *self.notes, *self.said_of_preemptions)

    @property
    def said_of_preemptions(self) -> tuple[str, ...]:
        """How terms are ranked whose nodes may be taken away, and of which terms the rate of preemptions does not count."""
        recovery = self.setups[0].recovery
        if recovery.preemption_mtbf_s is None:
            return ()
        taken = [setup for setup in self.setups if recovery.counts(setup.price)]
        held = dict.fromkeys(s.price.term for s in self.setups if s.price is not None and not recovery.counts(s.price))
        said = [Message("preemptions do not count at a price of {0}: such nodes are not taken away", term) for term in held]
        if not taken:
            return tuple(said)
        # without whole steps, which differ from layout to layout
        times = [float(setup.stretch(np.full(1, 1e-3), None)[0]) for setup in taken]
        low, high = f"{min(times):.2f}", f"{max(times):.2f}"
        span = low if low == high else Message("{0} to {1}", low, high)
        terms = join_messages(", ", dict.fromkeys(Message(setup.price.term if setup.price else "no price") for setup in taken))
        how = Message(
            "{0:g} s until another node is there, {1:g} s and a checkpoint to restart",
            recovery.preemption_wait_s,
            recovery.restart_s,
        )
        return (
            *said,
            Message("{0} is ranked at {1} times its undisturbed time and cost, for preemptions: {2}", terms, span, how),
        )

    @property
    def job(self) -> Job:
        """The job, the same everywhere."""
        return self.setups[0].question.job

    @property
    def num_steps(self) -> float | None:
        """Optimizer steps of the run; None when the job has no length."""
        steps = self.job.steps_per_epoch
        return None if steps is None else steps * self.job.num_epochs

    @property
    def units(self) -> list[tuple[int, int]]:
        """(setup, tp): pieces of the space that are searched one at a time, or by different workers."""
        return [(i, tp) for i, setup in enumerate(self.setups) for tp in setup.grid.tps]

    @cached_property
    def num_layouts(self) -> int:
        """Size of the space."""
        return sum(self.setups[i].grid.size(tp) for i, tp in self.units)


class SearchTerms(TypedDict, total=False):
    """What ``planner.search`` takes, by name; what is left out is as ``as_question`` says."""

    model: Required[ModelLike]
    cluster: Required[ClusterLike | Sequence[ClusterLike]]
    framework: FrameworkLike | Sequence[FrameworkLike] | None
    job: Required[JobLike]
    price: PriceLike | Sequence[PriceLike] | None
    objective: str
    gpus: Iterable[int] | None
    accelerators: Iterable[str] | None
    deadline_s: float | None
    budget_usd: float | None
    top: int
    risk: float
    allow: Iterable[str]


def as_question(  # noqa: PLR0913  (keyword arguments, those of planner.search)
    *,
    model: ModelLike,
    cluster: ClusterLike | Sequence[ClusterLike],
    framework: FrameworkLike | Sequence[FrameworkLike] | None = None,
    job: JobLike,
    price: PriceLike | Sequence[PriceLike] | None = None,
    objective: str = "time",
    gpus: Iterable[int] | None = None,
    accelerators: Iterable[str] | None = None,
    deadline_s: float | None = None,
    budget_usd: float | None = None,
    top: int = 20,
    risk: float = RISK,
    allow: Iterable[str] = (),
    recovery: Recovery = USUAL_RECOVERY,
) -> SearchQuestion:
    """Check and resolve what ``search`` takes; ``recovery``: what [run] says of preemptions and checkpoints."""
    if as_text(objective, "objective") not in get_args(Objective):
        raise PlannerError("objective = {0!r}: {1}.", objective, one_of(objective, get_args(Objective)))
    top = whole_number(top)
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise PlannerError("top = {0!r}: must be a whole number of at least 1.", top)
    if isinstance(model, list | tuple):
        raise PlannerError(
            "model = {0}: a search is of one model; search each, or plan several: planner.plan_many, `planner compare`.",
            shown_value(model, 60),
            code="type",
            field="model",
            value=model,
        )
    the_model = as_model(model)
    clusters = _all_clusters(cluster, gpus, accelerators)
    jobs = {c: as_job(job, c) for c in clusters}
    check_sizes(the_model, jobs[clusters[0]])
    stacks, notes = _frameworks(framework, the_model, jobs)
    notes = (*notes, *_precisions(jobs))
    admitted, accepted = allowed(allow), check_risk(risk)

    def setups(stacks: Mapping[Cluster, Sequence[Framework]]) -> tuple[Setup, ...]:
        return tuple(
            Setup(
                grid=LayoutGrid(question=Question(the_model, c, f, jobs[c]), allow=admitted),
                price=as_price(p, c.accelerator.name, c.node),
                risk=accepted,
                recovery=recovery,
            )
            for c in clusters
            for p in _prices(price, {c.accelerator.name for c in clusters})
            for f in stacks.get(c, ())
        )

    able, refused = _able(setups(stacks))
    leaner = {c: list(leaner_frameworks(stacks[c][0], c, jobs[c], accepted)) for c in clusters} if framework is None else {}
    names = dict.fromkeys(found.framework.name for rest in leaner.values() for found in rest)
    others = [{c: found for c, rest in leaner.items() for found in rest if found.framework.name == name} for name in names]
    question = SearchQuestion(
        setups=able,
        objective=objective,  # type: ignore[arg-type]
        deadline_s=as_amount(deadline_s, "deadline_s"),
        budget_usd=as_amount(budget_usd, "budget_usd"),
        top=top,
        refused=refused,
        notes=notes,
        others=tuple(
            (
                setups({c: [found.framework] for c, found in some.items()}),
                tuple(dict.fromkeys(found.why for found in some.values())),
                tuple(dict.fromkeys(found.faster for found in some.values())),
            )
            for some in others
        ),
    )
    _check(question)
    return question


def _able(setups: tuple[Setup, ...]) -> tuple[tuple[Setup, ...], tuple[str, ...]]:
    """(setups that can run the job, why the others cannot); PlannerError when none can."""
    able, refused = [], []
    for setup in setups:
        try:
            check_job(setup.question)
        except PlannerError as error:
            refused.append(Message("{0}: {1}", setup.label, error))
            if len(setups) == 1:
                raise
        else:
            able.append(setup)
    if not able:
        raise PlannerError(join_messages("; ", dict.fromkeys(refused)))
    return tuple(able), tuple(refused)


def _frameworks(
    given: FrameworkLike | Sequence[FrameworkLike] | None, model: Model, jobs: Mapping[Cluster, Job]
) -> tuple[dict[Cluster, list[Framework]], tuple[str, ...]]:
    """(the frameworks of each cluster, why those that nobody named)."""
    if given is not None:
        several, job = _several(given), next(iter(jobs.values()))
        named = [as_framework(f, job.kind) for f in several]
        told = (read_as(f, found, job.kind) for f, found in zip(several, named, strict=True))
        return dict.fromkeys(jobs, named), tuple(why for whys in told for why in whys)
    usual = {cluster: default_framework(model, cluster, job) for cluster, job in jobs.items()}
    whys = tuple(dict.fromkeys(Message("{0}: {1}", cluster.name, found.why) for cluster, found in usual.items()))
    return {cluster: [found.framework] for cluster, found in usual.items()}, whys


def _precisions(jobs: Mapping[Cluster, Job]) -> tuple[str, ...]:
    """A note where the job's precision is the usual one of each type of GPU, and those differ."""
    found = {cluster.accelerator.name: job.precision for cluster, job in jobs.items()}
    if len(set(found.values())) < 2:
        return ()
    return (Message("precision, as usual: {0}", join_messages(", ", [Message("{0} on {1}", p, a) for a, p in found.items()])),)


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _prices(price: Any, accelerators: set[str]) -> list[Any]:
    prices = [None] if price is None else _several(price)
    for p in prices:
        own = isinstance(p, int | float | Price) or (isinstance(p, Mapping) and "usd_per_gpu_hour" in p)
        if own and len(accelerators) > 1:
            raise PlannerError(
                "price.usd_per_gpu_hour: one price for {0}; leave it out or give price.term, so that each has its "
                "own quote, or search one accelerator at a time.",
                ", ".join(sorted(accelerators)),
            )
    return prices


def _all_clusters(
    given: ClusterLike | Sequence[ClusterLike], gpus: Iterable[int] | None, accelerators: Iterable[str] | None
) -> list[Cluster]:
    """The clusters of a search: of each that is given, in every size and with every other accelerator."""
    several: list[ClusterLike] = _several(given)
    if not several:
        raise PlannerError(
            "cluster = {0!r}: the list is empty; give at least one cluster, such as 8xh100.", given, field="cluster"
        )
    counts = None if gpus is None else as_counts(gpus, "gpus")
    names = None if accelerators is None else as_texts(accelerators, "accelerators")
    return list(dict.fromkeys(c for one in several for c in _clusters(as_cluster(one), counts, names)))


def _clusters(given: Cluster, gpus: Iterable[int] | None, accelerators: Iterable[str] | None) -> list[Cluster]:
    """The given cluster's node type in every size, and every other accelerator as [cluster] describes it without a node."""
    others = (
        None if accelerators is None else [accelerator_of_field(n, "accelerator") for n in as_texts(accelerators, "accelerators")]
    )
    sizes = [given.num_gpus] if gpus is None else as_counts(gpus, "gpus")
    names = [given.accelerator.name] if others is None else others
    if not sizes or not names:
        raise PlannerError("gpus and accelerators must each name at least one; leave them out for the cluster's own.")
    cards = [given.accelerator if name == given.accelerator.name else load_accelerator(name, "accelerator") for name in names]
    return [_cluster(given, card, size) for card in cards for size in sizes]


def _cluster(given: Cluster, card: Accelerator, num_gpus: int) -> Cluster:
    if card.name != given.accelerator.name:
        return described_cluster(card.name, None, None, num_gpus, None, None)
    if num_gpus == given.num_gpus:
        return given
    return build_cluster(given.node, num_gpus=num_gpus, accelerator=card)


def _check(q: SearchQuestion) -> None:
    for name, value in (("deadline_s", q.deadline_s), ("budget_usd", q.budget_usd)):
        if value is not None and q.num_steps is None:
            raise PlannerError("{0}: the job has no length; give job.num_tokens, num_samples or num_steps.", name)
    if q.objective == "cost" and 0 < len(q.preempted) < len(q.setups) and q.preempted[0].recovery.preemption_mtbf_s is None:
        raise PlannerError(
            "run.preemption_mtbf_s is missing: spot nodes get preempted; to rank their dollars beside other terms give the "
            "mean seconds between preemptions of one node, such as --set run.preemption_mtbf_s=86400 (in Python "
            "run=dict(preemption_mtbf_s=86400)) for once a day, or leave spot out."
        )
    _ = q.said_of_preemptions  # refuses runs that would never end
    for setup in q.setups:
        if setup.price is None and (q.objective == "cost" or q.budget_usd is not None):
            raise PlannerError(
                "price: no quote for {0}; give price.usd_per_gpu_hour, or search by time.",
                setup.question.cluster.accelerator.name,
            )
        if setup.power_w == 0 and q.objective == "energy":
            raise PlannerError(
                "objective = 'energy': the power of {0} (tdp_w) is not known.", setup.question.cluster.accelerator.name
            )
    size = q.num_layouts
    if size > MAX_LAYOUTS:
        raise PlannerError(
            "the space holds {0:,} layouts, more than {1:,}; name fewer GPU counts, accelerators or frameworks.",
            size,
            MAX_LAYOUTS,
        )
