"""Search: every layout on every cluster, stack and price asked for; the best, the front, and why the others lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from planner.checks import check_job, check_sizes
from planner.cost import Price, cost_usd, gpu_hours
from planner.errors import PlannerError, one_of
from planner.exploration import Block, explore
from planner.hardware import Accelerator, Cluster, Node, load_accelerator
from planner.hardware import cluster as build_cluster
from planner.job import Job
from planner.layout import Array
from planner.layout_grid import LayoutGrid
from planner.memory import host_usable_bytes, usable_bytes
from planner.nodes import reference_node
from planner.planning import (
    ClusterLike,
    FrameworkLike,
    JobLike,
    ModelLike,
    PriceLike,
    as_cluster,
    as_framework,
    as_model,
    as_price,
)
from planner.search_rows import Rows, joined, no_rows, pruned

if TYPE_CHECKING:
    import pandas as pd

Objective = Literal["cost", "time", "memory", "energy"]
Progress = Callable[[int, int], None]

MAX_LAYOUTS = 1_000_000_000
NO_MEMORY, NO_HOST_MEMORY = "does not fit in the GPU's memory", "offloaded bytes do not fit in the host's memory"
TOO_LATE, TOO_DEAR = "misses the deadline", "costs more than the budget"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One cluster, stack and price to search layouts on."""

    grid: LayoutGrid
    price: Price | None

    @property
    def label(self) -> str:
        """For people."""
        price = "no price" if self.price is None else f"${self.price.usd_per_gpu_hour:.2f} {self.price.describe()}"
        return f"{self.grid.cluster.name}, {self.grid.framework.name}, {price}"

    @property
    def power_w(self) -> float:
        """Rated power of all GPUs; hosts and cooling are not counted."""
        return self.grid.cluster.num_gpus * self.grid.cluster.accelerator.tdp_w


@dataclass(frozen=True, kw_only=True)
class SearchQuestion:
    """What is searched, what is best, and what is ruled out."""

    setups: tuple[Setup, ...]
    objective: Objective
    deadline_s: float | None
    budget_usd: float | None
    top: int
    refused: tuple[str, ...] = ()  # clusters and stacks that cannot run the job at all, and why

    @property
    def job(self) -> Job:
        """The job, the same everywhere."""
        return self.setups[0].grid.job

    @property
    def num_steps(self) -> float | None:
        """Optimizer steps of the run; None when the job has no length."""
        steps = self.job.steps_per_epoch
        return None if steps is None else steps * self.job.num_epochs

    @property
    def units(self) -> list[tuple[int, int]]:
        """(setup, tp): pieces of the space that are searched one at a time, or by different workers."""
        return [(i, tp) for i, setup in enumerate(self.setups) for tp in setup.grid.tps]

    @property
    def num_layouts(self) -> int:
        """Size of the space."""
        return sum(self.setups[i].grid.size(tp) for i, tp in self.units)


@dataclass
class Found:
    """What a search has found so far; ``least`` holds the leanest, fastest and cheapest it met, whatever the limits."""

    rows: Rows = field(default_factory=no_rows)
    num_layouts: int = 0
    num_possible: int = 0
    num_fitting: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    least: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, values: Array) -> None:
        """Remember the least value met."""
        if values.size:
            self.least[name] = min(self.least.get(name, np.inf), float(values.min()))

    def merge(self, other: Found, top: int) -> None:
        """Take in what another part of the search found; the order of the parts does not matter."""
        self.rows = pruned(joined([self.rows, other.rows]), top)
        self.num_layouts += other.num_layouts
        self.num_possible += other.num_possible
        self.num_fitting += other.num_fitting
        self.rejected.update(other.rejected)
        for name, value in other.least.items():
            self.least[name] = min(self.least.get(name, np.inf), value)


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The answer of a search. ``complete`` is False when it was stopped: then ``found`` holds what it had met."""

    question: SearchQuestion
    found: Found
    size: int
    complete: bool

    def frame(self) -> pd.DataFrame:
        """The best layouts, the front and the best of every cluster as a table, SI units, best first."""
        from planner.search_frame import frame

        return frame(self)


def search(
    *, engine: str = "local", address: str | None = None, progress: Progress | None = None, **question: Any
) -> pd.DataFrame:
    """Evaluate every layout and return the best, the front and the best of each cluster as a DataFrame, best first.

    Takes what ``plan`` takes (``model, cluster, framework, job, price``; framework and price may be lists) and ``objective``
    (cost, time, memory, energy), ``gpus`` and ``accelerators`` (lists; the cluster's own when left out), ``deadline_s``,
    ``budget_usd``, ``top``. ``engine`` is "local" or "ray" (with ``address``). ``progress(done, size)`` is called as it
    goes on; Ctrl-C ends the search with what it has found (``attrs["complete"]`` is False). Columns: ``search_frame.frame``.

    Raises PlannerError for bad input, a space of more than a billion layouts, and when nothing is left, with the reasons.
    """
    return run(as_question(**question), engine=engine, address=address, progress=progress).frame()


def run(
    q: SearchQuestion, *, engine: str = "local", address: str | None = None, progress: Progress | None = None
) -> SearchResult:
    """Search with an engine: "local" in this process, "ray" on a Ray cluster; both give the same answer."""
    if engine == "local":
        if address is not None:
            raise PlannerError(f"address = {address!r}: belongs to engine = 'ray'.")
        return run_search(q, progress)
    if engine != "ray":
        raise PlannerError(f"engine = {engine!r}: must be local or ray.")
    from planner.ray_engine import run_on_ray

    return run_on_ray(q, address, progress)


def as_question(
    *, model: ModelLike, cluster: ClusterLike, framework: FrameworkLike | Sequence[FrameworkLike] = "megatron-core",
    job: JobLike, price: PriceLike | Sequence[PriceLike] | None = None, objective: str = "time",
    gpus: Iterable[int] | None = None, accelerators: Iterable[str] | None = None, deadline_s: float | None = None,
    budget_usd: float | None = None, top: int = 20,
) -> SearchQuestion:  # fmt: skip
    """Check and resolve what ``search`` takes."""
    if objective not in get_args(Objective):
        raise PlannerError(f"objective = {objective!r}: {one_of(objective, get_args(Objective))}.")
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise PlannerError(f"top = {top!r}: must be a whole number of at least 1.")
    the_model = as_model(model)
    the_job = job if isinstance(job, Job) else Job.build(dict(job), "job")
    check_sizes(the_model, the_job)
    stacks = [as_framework(f) for f in _several(framework)]
    clusters = _clusters(as_cluster(cluster), gpus, accelerators)
    setups = tuple(
        Setup(grid=LayoutGrid(model=the_model, cluster=c, framework=f, job=the_job), price=as_price(p, c.accelerator.name))
        for c in clusters
        for p in _prices(price, {c.accelerator.name for c in clusters})
        for f in stacks
    )
    able, refused = _able(setups)
    question = SearchQuestion(
        setups=able, objective=objective, deadline_s=deadline_s, budget_usd=budget_usd, top=top,  # type: ignore[arg-type]
        refused=refused,
    )  # fmt: skip
    _check(question)
    return question


def _able(setups: tuple[Setup, ...]) -> tuple[tuple[Setup, ...], tuple[str, ...]]:
    """(setups that can run the job, why the others cannot); PlannerError when none can."""
    able, refused = [], []
    for setup in setups:
        grid = setup.grid
        try:
            check_job(grid.model, grid.cluster, grid.framework, grid.job)
        except PlannerError as error:
            refused.append(f"{setup.label}: {error}")
            if len(setups) == 1:
                raise
        else:
            able.append(setup)
    if not able:
        raise PlannerError("; ".join(dict.fromkeys(refused)))
    return tuple(able), tuple(refused)


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _prices(price: Any, accelerators: set[str]) -> list[Any]:
    prices = [None] if price is None else _several(price)
    for p in prices:
        own = isinstance(p, int | float | Price) or (isinstance(p, Mapping) and "usd_per_gpu_hour" in p)
        if own and len(accelerators) > 1:
            raise PlannerError(
                f"price.usd_per_gpu_hour: one price for {', '.join(sorted(accelerators))}; leave it out or give price.term, so "
                "that each has its own quote, or search one accelerator at a time."
            )
    return prices


def _clusters(given: Cluster, gpus: Iterable[int] | None, accelerators: Iterable[str] | None) -> list[Cluster]:
    """The given cluster's node type in every size, and the reference node of every other accelerator."""
    kinds: list[tuple[Node, Accelerator]] = []
    for name in [given.accelerator.name] if accelerators is None else accelerators:
        card = given.accelerator if name == given.accelerator.name else load_accelerator(name, "accelerator")
        node = given.node if card.name == given.accelerator.name else reference_node(card.name)
        if node is None:
            raise PlannerError(f"accelerator = {name!r}: no node type has it; give cluster.node and search it alone.")
        kinds.append((node, card))
    sizes = [given.num_gpus] if gpus is None else list(gpus)
    if not sizes or not kinds:
        raise PlannerError("gpus and accelerators must each name at least one; leave them out for the cluster's own.")
    return [
        given if node is given.node and size == given.num_gpus else build_cluster(node, num_gpus=size, accelerator=card)
        for node, card in kinds
        for size in sizes
    ]


def _check(q: SearchQuestion) -> None:
    for name, value in (("deadline", q.deadline_s), ("budget-usd", q.budget_usd)):
        if value is not None and (not np.isfinite(value) or value <= 0):
            raise PlannerError(f"{name} = {value}: must be a positive number.")
        if value is not None and q.num_steps is None:
            raise PlannerError(f"{name}: the job has no length; give job.num_tokens, num_samples or num_steps.")
    for setup in q.setups:
        if setup.price is None and (q.objective == "cost" or q.budget_usd is not None):
            raise PlannerError(
                f"price: no quote for {setup.grid.cluster.accelerator.name}; give price.usd_per_gpu_hour, or search by time."
            )
        if setup.power_w == 0 and q.objective == "energy":
            raise PlannerError(f"objective = 'energy': the power of {setup.grid.cluster.accelerator.name} (tdp_w) is not known.")
    size = q.num_layouts
    if size > MAX_LAYOUTS:
        raise PlannerError(
            f"the space holds {size:,} layouts, more than {MAX_LAYOUTS:,}; name fewer GPU counts, accelerators or stacks."
        )


def search_unit(q: SearchQuestion, unit: tuple[int, int], found: Found, progress: Callable[[int], None] | None = None) -> Found:
    """Search the layouts of one setup and tp into the empty ``found``; ``progress`` is told how many were looked at."""
    setup, tp = unit
    for explored in explore(q.setups[setup].grid, tp):
        found.num_layouts += explored.num_layouts
        found.num_possible += explored.num_layouts - sum(explored.rejected.values())
        found.rejected.update(explored.rejected)
        for block in explored.blocks:
            _keep(q, setup, block, found)
        if progress is not None:
            progress(found.num_layouts)
    return found


def run_search(q: SearchQuestion, progress: Progress | None = None) -> SearchResult:
    """Search in this process. Stopped by Ctrl-C it answers with what it has found."""
    found, size, complete = Found(), q.num_layouts, True
    for unit in q.units:
        part = Found()
        try:
            search_unit(q, unit, part, progress and (lambda done: progress(found.num_layouts + done, size)))
        except KeyboardInterrupt:
            complete = False
        found.merge(part, q.top)
        if not complete:
            break
    return answered(SearchResult(question=q, found=found, size=size, complete=complete))


def answered(result: SearchResult) -> SearchResult:
    """The result, or PlannerError saying why nothing is left."""
    found, q = result.found, result.question
    if len(found.rows) or not result.complete:
        return result
    parts = [f"{count:,} {reason}" for reason, count in found.rejected.most_common()]
    least = found.least
    hints = []
    if "peak_bytes" in least and not found.num_fitting:
        usable = max(usable_bytes(s.grid.cluster) for s in q.setups)
        hints.append(f"the leanest needs {least['peak_bytes'] / 2**30:.1f} GiB per GPU of {usable / 2**30:.1f} usable")
    if "time_s" in least and q.deadline_s is not None:
        hints.append(f"the fastest that fits takes {least['time_s'] / 86400:.2f} days")
    if "usd" in least and q.budget_usd is not None:
        hints.append(f"the cheapest that fits costs ${least['usd']:,.0f}")
    raise PlannerError(f"no layout is left of {found.num_layouts:,}: {'; '.join([*parts, *hints]) or 'the space is empty'}.")


def _keep(q: SearchQuestion, setup: int, block: Block, found: Found) -> None:
    """Count a block's layouts and keep those that may be best."""
    shape = block.layouts.shape
    cluster = q.setups[setup].grid.cluster
    headroom = usable_bytes(cluster) - block.summary.peak_bytes
    found.note("peak_bytes", np.where(block.possible, block.summary.peak_bytes, np.inf))
    ok = _narrowed(found, block.possible, headroom >= 0, NO_MEMORY, shape)
    host = block.summary.host_bytes
    ok = _narrowed(found, ok, (host == 0) | (host <= host_usable_bytes(cluster)), NO_HOST_MEMORY, shape)
    where = np.flatnonzero(np.broadcast_to(ok, shape))
    found.num_fitting += len(where)
    if not len(where):
        return
    at = np.unravel_index(where, shape)
    step, peak, free = (np.broadcast_to(x, shape)[at] for x in (block.summary.step_time_s, block.summary.peak_bytes, headroom))
    time, usd = _run(q, setup, step)
    found.note("time_s", time)
    found.note("usd", usd)
    value = {"time": time, "cost": usd, "memory": peak, "energy": time * q.setups[setup].power_w}[q.objective]
    kept = _within(q, found, time, usd) & _promising(found.rows, setup, q.top, value, time, free)
    if kept.any():
        index = np.flatnonzero(kept)
        new = Rows(
            setup=np.full(len(index), float(setup)), layouts=block.layouts.at(where[index]), step_time_s=step[index],
            peak_bytes=peak[index], headroom_bytes=free[index], time_s=time[index], usd=usd[index], value=value[index],
        )  # fmt: skip
        found.rows = pruned(joined([found.rows, new]), q.top)


def _narrowed(
    found: Found, ok: NDArray[np.bool_], rule: NDArray[np.bool_], reason: str, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """``ok`` where ``rule`` holds; what falls away is counted. Masks broadcast to ``shape``."""
    lost = ok & ~rule
    number = int(np.count_nonzero(lost)) * (int(np.prod(shape)) // lost.size)
    if number:
        found.rejected[reason] += number
        return ok & rule
    return ok


def _run(q: SearchQuestion, setup: int, step_s: Array) -> tuple[Array, Array]:
    """(seconds, dollars) of the run, of one step where the job has no length."""
    price, gpus = q.setups[setup].price, q.setups[setup].grid.cluster.num_gpus
    time = step_s if q.num_steps is None else q.num_steps * step_s
    usd = np.full(len(time), np.inf) if price is None else np.asarray(cost_usd(gpu_hours(time, gpus), price))
    return time, usd


def _within(q: SearchQuestion, found: Found, time: Array, usd: Array) -> NDArray[np.bool_]:
    """Mask of what keeps deadline and budget; the rest is counted."""
    ok = np.ones(len(time), dtype=bool)
    for limit, values, reason in ((q.deadline_s, time, TOO_LATE), (q.budget_usd, usd, TOO_DEAR)):
        if limit is not None:
            found.rejected[reason] += int(np.count_nonzero(ok & (values > limit)))
            ok &= values <= limit
    return ok


def _promising(rows: Rows, setup: int, top: int, value: Array, time: Array, headroom: Array) -> NDArray[np.bool_]:
    """Mask of what may enter the best or the front: never false for what belongs there."""
    if len(rows) < top:
        return np.ones(len(value), dtype=bool)
    best = value <= rows.value[top - 1]
    own = np.flatnonzero(rows.setup == setup)
    if not len(own):
        return np.ones(len(value), dtype=bool)
    order = own[np.argsort(rows.time_s[own], kind="stable")]
    most = np.concatenate(([-np.inf], np.maximum.accumulate(rows.headroom_bytes[order])))
    # equals stay: which of them is kept is for the ranking to say
    return np.asarray(best | (headroom >= most[np.searchsorted(rows.time_s[order], time, side="right")]))
