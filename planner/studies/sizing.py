"""Which GPUs for a model: the smallest and the cheapest of the catalog that serve or tune it with room to spare."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from planner.common import clock
from planner.common.arguments import as_progress
from planner.common.errors import PlannerError, as_text
from planner.common.message import Message, join_messages
from planner.common.progress import Progress
from planner.common.spec import fields_of, whole_number
from planner.hardware.asked import accelerator_named, accelerators_of, no_gpus_named, several_gpus
from planner.hardware.cluster import Accelerator, Cluster, accelerator_names, load_accelerator, require_vendor
from planner.hardware.custom_nodes import described_cluster
from planner.model.architecture import Model
from planner.performance.risk import RISK, chance, check_risk
from planner.prices.market import as_price, rented_accelerators
from planner.prices.price import Price, PriceLike, price_text
from planner.serving.batch_figures import batch_figures
from planner.serving.cuts import cuts
from planner.serving.deploy import serve
from planner.serving.deployment import Deployment, capacity_of, most_of
from planner.serving.engine import load_engine, usual_engine, weights_of_tags
from planner.serving.feasibility import require_engine_there, require_positions, require_runs_model, usual_passage
from planner.serving.load import slots_of
from planner.serving.memory import card_bytes
from planner.serving.requests import mean_tokens
from planner.serving.spec import Serving
from planner.serving.weight_formats import format_named
from planner.training.planning import chosen_stack, framework_of, plan
from planner.workload.framework import framework_names, load_framework
from planner.workload.job import Job
from planner.workload.question import Question
from planner.workload.resolve import ModelLike, as_model, usual_precision
from planner.workload.tuning import USUAL_RANK

Purpose = Literal["serve", "lora", "qlora", "full"]
PURPOSES: tuple[str, ...] = get_args(Purpose)
MAX_GPUS = 16
MOST_GPUS = 4096
"""More than any deployment or tuning run of one model is asked about here."""
USUAL_LENGTH = 2048
TPOT_S = 0.1
TTFT_S = 2.0
"""Latency limits of a price at capacity where none is given: ten tokens a second, faster than people read, and an answer that
begins within two seconds (MLPerf Inference's first token of Llama 2 70B in the server scenario). Assumed for one's own users."""
DEARER, UNSURE = "costs no less per token", "does not fit surely enough"
"""Why more GPUs are not taken for the price of a token."""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """As many sequences at once as memory and engine hold with at most ``tpot_s`` a token and ``ttft_s`` until the first.

    ``value``: also look for the number of GPUs with the fewest dollars per token.
    """

    tpot_s: float = TPOT_S
    ttft_s: float = TTFT_S
    value: bool = False

    def __post_init__(self) -> None:
        for option, limit in (("--tpot", self.tpot_s), ("--ttft", self.ttft_s)):
            if not 0.0 < limit < math.inf:
                raise PlannerError("{0} {1:g}: must be seconds above 0.", option, limit)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """At which risk a layout fits, which part of a GPU it must leave free, and at which latencies serving is priced (None: as
    it is at the batch given)."""

    risk: float
    headroom: float
    capacity: Capacity | None = None
    price: PriceLike | None = None


@dataclass(frozen=True, kw_only=True)
class Size:
    """One way to do it. Bytes of the fullest GPU; dollars per hour of all GPUs, None without a quote.

    ``tokens_per_s``: of output at ``batch`` sequences when serving, of input where vectors are made, of training otherwise.
    ``in_time``: within the latency limits; what is not has no price per token.
    """

    accelerator: str
    num_gpus: int
    software: str  # the engine when serving, else the framework
    cut: str
    total_bytes: float
    card_bytes: float
    headroom: float
    fit_probability: float
    enough: bool  # fits at the accepted risk and leaves the headroom asked for
    tokens_per_s: float
    batch: int
    in_time: bool
    usd_per_hour: float | None
    usd_per_million_tokens: float | None
    quote: str  # rate, provider, term, region and date of the price; empty without one
    rented: bool  # somebody quotes a price of it; else the dollars are an estimate
    value: Size | None = None  # of serving: the number of these GPUs with the fewest dollars per token; None = this one

    @property
    def memory_bytes(self) -> float:
        """Memory of all GPUs: what "smallest" means."""
        return self.card_bytes * self.num_gpus

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """All accelerators on which it fits, each with its fewest GPUs, by price; and why the others are left out."""

    model: Model
    purpose: Purpose
    max_gpus: int
    rows: tuple[Size, ...]
    left_out: Mapping[str, str]
    weights: str | None = None
    """Of serving; None is 16 bit."""
    not_tried: tuple[str, ...] = ()
    """Accelerators that nobody rents out, where none was named: what they cost is an estimate."""

    @property
    def smallest(self) -> Size | None:
        """The least memory in all; of equals the fewer GPUs."""
        return min(self.rows, key=lambda s: (s.memory_bytes, s.num_gpus), default=None)

    @property
    def cheapest(self) -> Size | None:
        """The fewest dollars per hour, among those that somebody rents out where there are any."""
        priced = [s for s in self.rows if s.usd_per_hour is not None]
        return min(priced, key=lambda s: (not s.rented, s.usd_per_hour or 0.0, s.memory_bytes), default=None)

    @property
    def best_value(self) -> Size | None:
        """The fewest dollars per token, within the latency limits when serving; of those that are rented out where any is."""
        priced = [s for s in (row.value or row for row in self.rows) if s.usd_per_million_tokens is not None]
        return min(priced, key=lambda s: (not s.rented, s.usd_per_million_tokens or 0.0, s.memory_bytes), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = {"smallest": self.smallest, "cheapest": self.cheapest, "best_value": self.best_value}
        best = {name: None if s is None else s.to_dict() for name, s in found.items()}
        return {
            "model": self.model.name,
            "purpose": self.purpose,
            "max_gpus": self.max_gpus,
            "weights": self.weights,
            **best,
            "rows": [s.to_dict() for s in self.rows],
            "not_tried": list(self.not_tried),
            "left_out": dict(self.left_out),
        }


EVERY = "all"
"""In place of names of accelerators: every one of the catalog."""


def sizes(  # noqa: PLR0913  (keyword arguments, those of planner size)
    model: ModelLike,
    purpose: Purpose,
    *,
    seq_len: int | None = None,
    prompt: int | None = None,
    output: int | None = None,
    batch: int | Capacity | None = None,
    weights: str | None = None,
    engine: str | None = None,
    framework: str | None = None,
    headroom: float = 0.0,
    risk: float = RISK,
    max_gpus: int = MAX_GPUS,
    job: Mapping[str, Any] | None = None,
    accelerator: str | None = None,
    gpus: int | None = None,
    price: PriceLike | None = None,
    progress: Progress | None = None,
) -> Sizes:
    """The fewest GPUs (powers of two up to ``max_gpus``) of each accelerator on which it fits at ``risk``: tuning in the
    layout that ``plan`` recommends, serving in the fastest cut. ``headroom``: part of the GPU to leave free besides;
    ``accelerator``: only this one, or those named ("rtx-3090,l40s"), or "all" of the catalog; left out, those that somebody
    rents out. ``gpus``: exactly so many, for what fits on one's own GPUs. ``weights``, ``engine``: of serving; as the
    checkpoint stores them, else 16 bit, and the usual one when left out.

    ``seq_len``: tokens of a request with its answer, or of a training sequence, 2,048 when left out; of serving ``prompt`` and
    ``output`` may be given in its place (else the answer is a quarter of it, at most 1,024). ``batch``: sequences at once on a
    replica, or per GPU in training. Left out it is 1 in training; serving is sized for one sequence and priced at ``Capacity``.
    ``job``: further fields of the job of tuning (rank, target modules). ``price``: as ``plan`` takes it, for nodes that stay; a
    term that binds counts by its hour. ``progress`` is told (types, of how many). Raises
    PlannerError for a bad model or job, and for what does not go with the purpose.
    """
    the_model, progress = as_model(model), as_progress(progress)
    seq_len, prompt, output = (whole_number(value) for value in (seq_len, prompt, output))
    batch, max_gpus, gpus = (whole_number(value) for value in (batch, max_gpus, gpus))
    for option, name in (("--weights", weights), ("--engine", engine), ("--framework", framework), ("--on", accelerator)):
        if name is not None:
            as_text(name, option)
    weights = None if weights is None else format_named(weights)
    job = None if job is None else fields_of(job, "job")
    most = batch if isinstance(batch, Capacity) else Capacity()
    together = 1 if batch is None or isinstance(batch, Capacity) else batch
    _require(purpose, USUAL_LENGTH if seq_len is None else seq_len, together, headroom, max_gpus)
    texts = purpose == "serve" and the_model.embeds
    seq_len, lengths = _texts(the_model, seq_len, prompt, output) if texts else _lengths(purpose, seq_len, prompt, output)
    _require_of_purpose(purpose, weights, engine, framework, job)
    if gpus is not None and not (_is_count(gpus) and 1 <= gpus <= MOST_GPUS):
        raise PlannerError("--gpus {0}: must be a whole number from 1 to {1}.", gpus, MOST_GPUS, field="--gpus", value=gpus)
    rented = rented_accelerators()
    names, gpus = (rented, gpus) if accelerator is None else _named(accelerator, gpus)
    ask = Ask(risk=check_risk(risk), headroom=headroom, capacity=None if isinstance(batch, int) else most, price=price)
    _require_price(price, names)
    weights = weights or (None if the_model.stored_weights else weights_of_tags(engine))
    stored = weights or the_model.stored_weights
    _check_question(the_model, purpose, lengths, together, weights, engine, framework, job)
    rows, left_out = [], {}
    for done, name in enumerate(names):
        if progress is not None:
            progress(done, len(names))
        card = load_accelerator(name)
        if card.vendor.lower() == "cpu" or name == "cpu":
            continue

        def one(num_gpus: int, below: float | None = None, card: Accelerator = card) -> Size | str:
            software = usual_engine(card, the_model, stored) if engine is None else engine
            _require_runs_on(card, the_model, purpose, software, framework)
            if purpose == "serve":
                return _served(the_model, card, num_gpus, lengths, together, weights, software, ask, below)
            return _trained(the_model, card, num_gpus, purpose, seq_len, together, framework, ask, job)

        found = _fewest(one, max_gpus) if gpus is None else _exactly(one, gpus)
        if isinstance(found, Size) and found.enough:
            more = most.value and purpose == "serve" and gpus is None
            rows.append(replace(found, value=_best_value(found, one, max_gpus)) if more else found)
        else:
            left_out[name] = found if isinstance(found, str) else _short_of(found)
    rows.sort(key=_by_token if purpose == "serve" else _by_hour)
    return Sizes(
        model=the_model,
        purpose=purpose,
        max_gpus=max_gpus if gpus is None else gpus,
        rows=tuple(rows),
        left_out=left_out,
        not_tried=() if accelerator is not None else tuple(n for n in accelerator_names() if n not in rented and n != "cpu"),
        weights=(weights or the_model.stored_weights or None) if purpose == "serve" else None,
    )


def _require_price(price: PriceLike | None, names: Sequence[str]) -> None:
    """PlannerError for a price that is none, one number for several accelerators, and nodes that are taken away."""
    if price is None:
        return
    if isinstance(price, Price) and price.accelerator and {price.accelerator} != set(names):
        raise PlannerError(
            "price.accelerator = {0!r}: the price of this type of GPU is no price of {1}; name {0} alone with --on, or give a "
            "term, so that each has its own quote.",
            price.accelerator,
            next(name for name in names if name != price.accelerator),
        )
    found = _first_price(price, names)
    if found is not None and not found.accelerator and len(names) > 1:
        raise PlannerError(
            "price.usd_per_gpu_hour: one price for {0} types of GPU; name one with --on, or give a term, so that each has its "
            "own quote.",
            len(names),
        )
    if found is not None and found.preempted:
        raise PlannerError(
            "price.term = {0!r}: such nodes are taken away, and no price per token holds what that costs; give a term that "
            "stays, such as on-demand, or ask planner run with run.preemption_mtbf_s.",
            found.term,
        )


def _first_price(price: PriceLike, names: Sequence[str]) -> Price | None:
    """Of the first accelerator that has it; PlannerError where none does."""
    for name in names[:-1]:
        try:
            return as_price(price, name)
        except PlannerError:
            continue
    return as_price(price, names[-1])


def _lengths(purpose: str, seq_len: int | None, prompt: int | None, output: int | None) -> tuple[int, dict[str, int]]:
    """(tokens of a request with its answer, those of each); of training a sequence has no answer."""
    given = {"--prompt": prompt, "--output": output}
    named = next((name for name, value in given.items() if value is not None), None)
    if named is None:
        total = USUAL_LENGTH if seq_len is None else seq_len
        answer = max(min(total // 4, 1024), 1)
        return total, {"prompt": total - answer, "output": answer} if purpose == "serve" else {"prompt": total}
    if purpose != "serve":
        raise PlannerError("{0} {1}: goes with --for serve; tuning takes --seq-len.", named, given[named], field=named)
    if seq_len is not None or prompt is None or output is None:
        raise PlannerError(
            "{0} {1}: give --prompt and --output, or --seq-len for both together.", named, given[named], field=named
        )
    for name, value in (("--prompt", prompt), ("--output", output)):
        if not _is_count(value) or value < 1:
            raise PlannerError("{0} {1}: must be a whole number of at least {2}.", name, value, 1, field=name, value=value)
    return prompt + output, {"prompt": prompt, "output": output}


def _texts(model: Model, seq_len: int | None, prompt: int | None, output: int | None) -> tuple[int, dict[str, int]]:
    """(tokens of a text, the same as what ``serve`` is asked): of a model that makes vectors there is no answer."""
    if output is not None:
        raise PlannerError(
            "--output {0}: {1} makes vectors, no text; leave it out.", output, model.name, field="--output", value=output
        )
    if seq_len is not None and prompt is not None:
        raise PlannerError("--prompt {0}: the text is --seq-len {1} already; give one.", prompt, seq_len, field="--prompt")
    length = next((value for value in (prompt, seq_len) if value is not None), usual_passage(model))
    if not _is_count(length) or length < 1:
        raise PlannerError(
            "{0} {1}: must be a whole number of at least {2}.", "--prompt", length, 1, field="--prompt", value=length
        )
    require_positions(model, length)
    return length, {"prompt": length}


def _require_of_purpose(
    purpose: str, weights: str | None, engine: str | None, framework: str | None, job: Mapping[str, Any] | None
) -> None:
    """PlannerError for what goes with another purpose: nothing is ignored."""
    if purpose != "serve" and weights is not None:
        raise PlannerError("--weights {0}: goes with --for serve; --for qlora stores frozen weights in 4 bit.", weights)
    if purpose != "serve" and engine is not None:
        raise PlannerError("--engine {0}: goes with --for serve; --for {1} takes --framework.", engine, purpose)
    if purpose == "serve" and framework is not None:
        raise PlannerError("--framework {0}: goes with tuning; --for serve takes --engine.", framework)
    if purpose == "serve" and job:
        raise PlannerError("job = {0}: goes with tuning; leave it out with --for serve.", dict(job), field="job")


def _check_question(
    model: Model,
    purpose: str,
    lengths: Mapping[str, int],
    batch: int,
    weights: str | None,
    engine: str | None,
    framework: str | None,
    job: Mapping[str, Any] | None,
) -> None:
    """Say what is wrong with the question once, not for every accelerator."""
    if purpose == "serve":
        _check_serving(model, lengths, batch, weights, engine)
        return
    _check_job(_job(purpose, sum(lengths.values()), batch, 1, "bf16", job))
    if framework is not None:
        load_framework(framework, kind=_kind(purpose))


def _by_hour(s: Size) -> tuple[bool, bool, float, float]:
    """Those that somebody rents out first, cheapest first: an estimate is no offer."""
    return s.usd_per_hour is None, not s.rented, s.usd_per_hour or 0.0, s.memory_bytes


def _by_token(s: Size) -> tuple[bool, bool, float, bool, bool, float, float]:
    """Those with a price per token first, of them those that are rented out, cheapest first; then by the hour."""
    best = (s.value or s).usd_per_million_tokens
    return best is None, not s.rented, best or 0.0, *_by_hour(s)


def _best_value(fewest: Size, one: Callable[[int, float], Size | str], max_gpus: int) -> Size | None:
    """More GPUs hold more sequences beside the weights: the power of two with the fewest dollars per token, if not the fewest.

    ``one`` is asked for so many GPUs below the dollars per token of the best so far.
    """
    best, num_gpus = fewest, 2 * fewest.num_gpus
    while num_gpus <= max_gpus:
        try:
            tried = one(num_gpus, _per_million(best))
        except PlannerError:
            break
        best = tried if isinstance(tried, Size) and _per_million(tried) < _per_million(best) else best
        num_gpus *= 2
    return None if best is fewest else best


def _per_million(s: Size) -> float:
    """Dollars per million tokens; infinite without a price."""
    return math.inf if s.usd_per_million_tokens is None else s.usd_per_million_tokens


def _named(accelerators: str, gpus: int | None) -> tuple[list[str], int | None]:
    """(the accelerators of "rtx-3090,l40s", each by its name or a part that means one, or all; how many GPUs: ``gpus``, or the
    number before every type: 8xh100)."""
    if accelerators == EVERY:
        return accelerator_names(), gpus
    asked = [name.strip() for name in accelerators.split(",") if name.strip()]
    counted = [re.fullmatch(r"0*([1-9]\d*)\s*[x×*]\s*(\S.*)", name, re.IGNORECASE) for name in asked]
    numbers = {gpus if one is None else int(one[1]) for one in counted}
    if not accelerators.strip():
        raise no_gpus_named("--on", accelerators)
    if asked and len(numbers) > 1 and several_gpus(accelerators):
        kinds = ",".join(accelerators_of(asked))
        raise PlannerError(
            "--on {0}: name GPU types, and one number for all: --on {1} --gpus {2}; ask about other numbers one by one.",
            accelerators,
            kinds,
            max(number or 1 for number in numbers),
            field="--on",
            value=accelerators,
        )
    if not asked or len(numbers) > 1 or (gpus is not None and numbers != {gpus}):
        raise PlannerError(
            "--on {0}: name GPU types, such as rtx-3090,l40s; how many is --gpus, one number for all.", accelerators, field="--on"
        )
    names = [name if one is None else one[2] for name, one in zip(asked, counted, strict=True)]
    return list(dict.fromkeys(accelerator_named(name) for name in names)), numbers.pop()


def _exactly(one: Callable[[int], Size | str], gpus: int) -> Size | str:
    """What runs on so many, or why nothing does."""
    try:
        return one(gpus)
    except PlannerError as error:
        return str(error)


def _short_of(found: Size) -> str:
    """Why what fits is not enough."""
    return Message(
        "{0} leave {1:.0%} free and fit with a probability of {2}", found.num_gpus, found.headroom, chance(found.fit_probability)
    )


def _require_runs_on(card: Accelerator, model: Model, purpose: str, engine: str, framework: str | None) -> None:
    """PlannerError where the software that was named does not run on the GPU."""
    if purpose == "serve":
        require_engine_there(card, load_engine(engine), model)
    elif framework is not None:
        require_vendor(card, load_framework(framework, kind=_kind(purpose)), "framework.name", load_framework, framework_names())


def _fewest(one: Callable[[int], Size | str], max_gpus: int) -> Size | str:
    """The first power of two that leaves enough free, or why the last did not."""
    found: Size | str = "does not fit"
    for num_gpus in (2**i for i in range(max_gpus.bit_length())):
        try:
            found = one(num_gpus)
        except PlannerError as error:
            found = found if isinstance(found, Size) else str(error)
        if isinstance(found, Size) and found.enough:
            break
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(purpose: str, seq_len: int, batch: int, headroom: float, max_gpus: int) -> None:
    if not isinstance(purpose, str) or purpose not in PURPOSES:
        raise PlannerError("--for {0}: must be one of {1}.", purpose, ", ".join(PURPOSES), field="--for", value=purpose)
    for option, value, least in (("--seq-len", seq_len, 2), ("--batch", batch, 1)):
        if not _is_count(value) or value < least:
            raise PlannerError(
                "{0} {1}: must be a whole number of at least {2}.", option, value, least, field=option, value=value
            )
    if not _is_count(max_gpus) or not 1 <= max_gpus <= MOST_GPUS:
        raise PlannerError(
            "--max-gpus {0}: must be a whole number from 1 to {1}.", max_gpus, MOST_GPUS, field="--max-gpus", value=max_gpus
        )
    if isinstance(headroom, bool) or not isinstance(headroom, int | float) or not 0.0 <= headroom < 1.0:
        raise PlannerError("--headroom {0}: must be from 0 to less than 1.", headroom, field="--headroom", value=headroom)


def _cluster(card: Accelerator, num_gpus: int) -> Cluster:
    """So many of these GPUs, as every command takes them where nobody names a node."""
    return described_cluster(card.name, None, None, num_gpus, None, None)


def _is_offer(cluster: Cluster, ask: Ask) -> bool:
    """Whether the price is somebody's: one's own, or that of an accelerator that is rented out."""
    price = as_price(ask.price, cluster.accelerator.name, cluster.node)
    return price is not None and (not price.accelerator or cluster.accelerator.name in rented_accelerators())


def _quote(cluster: Cluster, ask: Ask) -> str:
    """The quote behind the dollars, marked where it is or may be stale."""
    price = as_price(ask.price, cluster.accelerator.name, cluster.node)
    return "" if price is None else price_text(price, clock.today())


def _price(cluster: Cluster, ask: Ask) -> float | None:
    """Dollars an hour of all GPUs, at the price that ``plan`` takes."""
    price = as_price(ask.price, cluster.accelerator.name, cluster.node)
    return None if price is None else price.usd_per_gpu_hour * cluster.num_gpus


def _served(
    model: Model,
    card: Accelerator,
    num_gpus: int,
    lengths: Mapping[str, int],
    batch: int,
    weights: str | None,
    engine: str,
    ask: Ask,
    below: float | None,
) -> Size | str:
    """The fastest cut that fits at the accepted risk; where none does, the one that needs least, or why nothing runs.
    ``below``: the first that does, widest replica first, which holds the most sequences, or why it costs no less than so many
    dollars per million tokens."""
    if weights is None and not model.stored_weights:
        weights = "bf16"
    if weights == "bf16" and "bf16" not in card.peak_flops_per_s:
        weights = "fp16"
    fields = {
        "engine": engine,
        **({} if weights is None else {"weights": weights}),
        **lengths,
        "batch": batch,
    }
    cluster, why, found = _cluster(card, num_gpus), "no cut over tp and pp divides its heads", []
    for cut in reversed(list(cuts(model, cluster, load_engine(engine)))):
        try:
            d = serve(model=model, cluster=cluster, serving={**fields, **cut})
        except PlannerError as error:
            why = str(error)
            continue
        if d.fits and d.requests_per_s is not None:
            if below is None:
                found.append((d, cut))
            elif _is_enough(d, ask):
                return DEARER if _least_per_million(d, ask) >= below else _size_of(d, cut, card, ask)
            else:
                why = UNSURE
        else:
            why = d.reasons[0] if d.reasons else "does not fit"
    if not found:
        return why
    enough = [one for one in found if _is_enough(one[0], ask)]
    if not enough:
        return _size_of(*max(found, key=lambda one: _headroom(one[0])), card, ask)
    return _fastest(enough, card, ask)


def _fastest(found: Sequence[tuple[Deployment, dict[str, int]]], card: Accelerator, ask: Ask) -> Size:
    """The cut with the most tokens per second, one within the latency limits where there is one. The one that may be fastest
    is simulated first, and none that cannot be faster."""
    if len(found) == 1:
        return _size_of(*found[0], card, ask)
    most = [_most_per_s(d, ask) for d, _ in found]
    sizes: dict[int, Size] = {}
    for i in sorted(range(len(found)), key=lambda i: most[i], reverse=True):
        if all(most[i] >= (s.in_time, s.tokens_per_s) for s in sizes.values()):
            sizes[i] = _size_of(*found[i], card, ask)
    return max((sizes[i] for i in sorted(sizes)), key=lambda s: (s.in_time, s.tokens_per_s))


def _is_enough(d: Deployment, ask: Ask) -> bool:
    """Whether it fits at the accepted risk and leaves the headroom asked for."""
    return d.fit_probability >= 1.0 - ask.risk and _headroom(d) >= ask.headroom


def _headroom(d: Deployment) -> float:
    """The part of the fullest GPU that stays free."""
    return 1.0 - d.total_bytes / d.card_bytes


def _most_per_s(d: Deployment, ask: Ask) -> tuple[bool, float]:
    """A bound of (within the limits, tokens per second) as a ``Size`` has them, which needs no simulation."""
    places = (0, None) if ask.capacity is None else _places(d, ask.capacity)
    if ask.capacity is None or places is None:
        return places is not None, (d.requests_per_s or 0.0) * _sold(d)
    return True, most_of(d, places[1]) * _sold(d)


def _least_per_million(d: Deployment, ask: Ask) -> float:
    """A bound of the dollars per million tokens at capacity, which needs no simulation; infinite where there is no such price."""
    usd, (in_time, rate) = _price(d.cluster, ask), _most_per_s(d, ask)
    return math.inf if usd is None or not in_time else usd / 3600.0 / rate * 1e6


def _sold(d: Deployment) -> float:
    """Tokens of a request that are counted and paid: those written, or of vectors those read."""
    return mean_tokens(d.serving.prompt if d.serving.embeds else d.serving.output)


def _places(d: Deployment, limits: Capacity) -> tuple[int, int | None] | None:
    """(sequences that a replica decodes together in time with the most tokens per second, these as places to set: None where they
    are all that it has); None where no number is in time."""
    most = max(min(slots_of(d.times), d.max_batch), 1)
    batches = np.unique(np.append(2.0 ** np.arange(int(np.log2(most)) + 1), float(most)))
    figures = batch_figures(d.times, batches)
    late, most_s = ("ttft_s", limits.ttft_s) if d.serving.embeds else ("tpot_s", limits.tpot_s)  # a vector comes first and last
    good = np.flatnonzero(np.asarray(figures[late]) <= most_s)
    if not len(good) or (d.ttft_s or 0.0) > limits.ttft_s:
        return None
    places = int(batches[good[int(np.argmax(figures["requests_per_s"][good]))]])
    return places, None if places == most else places


def _at_capacity(d: Deployment, limits: Capacity | None) -> tuple[int, float, bool]:
    """(sequences, tokens per second, within the limits) of the most that a replica takes together in time.

    The capacity that ``serve`` says of so many places. A given batch is priced as it is, whatever its latencies.
    """
    if limits is None:
        return d.serving.batch, (d.requests_per_s or 0.0) * _sold(d), True
    found = _places(d, limits)
    if found is None:
        return 1, (d.requests_per_s or 0.0) * _sold(d), False
    return found[0], capacity_of(d, found[1]) * _sold(d), True


def _size_of(d: Deployment, cut: Mapping[str, int], card: Accelerator, ask: Ask) -> Size:
    """A deployment that fits as a row."""
    usd, (batch, rate, in_time) = _price(d.cluster, ask), _at_capacity(d, ask.capacity)
    return Size(
        accelerator=card.name,
        num_gpus=d.num_gpus,
        software=d.engine.name,
        cut=_text(cut),
        total_bytes=d.total_bytes,
        card_bytes=d.card_bytes,
        headroom=_headroom(d),
        fit_probability=d.fit_probability,  # of the card, as ``serve`` says it
        enough=_is_enough(d, ask),
        tokens_per_s=rate,
        batch=batch,
        in_time=in_time,
        usd_per_hour=usd,
        usd_per_million_tokens=None if usd is None or not in_time else usd / 3600.0 / rate * 1e6,
        quote=_quote(d.cluster, ask),
        rented=_is_offer(d.cluster, ask),
    )


def _check_serving(model: Model, lengths: Mapping[str, int], batch: int, weights: str | None, engine: str | None) -> None:
    """Say what is wrong with a question once, not for every accelerator: what an engine that was named does not run."""
    if engine is not None:
        require_runs_model(model, load_engine(engine))
    software = {} if engine is None else {"engine": engine}
    vectors = {"embeds": True} if model.embeds else {}
    Serving.build({**software, "weights": weights or "bf16", **lengths, "batch": batch, **vectors}, "size")


def _text(cut: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in cut.items() if value > 1) or "one GPU"


def _kind(purpose: str) -> str:
    return "finetune" if purpose == "full" else purpose


def _job(purpose: str, seq_len: int, batch: int, num_gpus: int, precision: str, more: Mapping[str, Any] | None) -> dict[str, Any]:
    if purpose in ("lora", "qlora"):
        more = {"adapter": {"rank": USUAL_RANK}, **(more or {})}
    kind = _kind(purpose)
    return {"kind": kind, "seq_len": seq_len, "global_batch_size": batch * num_gpus, "precision": precision, **(more or {})}


def _check_job(job: Mapping[str, Any]) -> None:
    """Say what is wrong with a job once, not for every accelerator."""
    Job.build(dict(job), "job")


def _trained(
    model: Model,
    card: Accelerator,
    num_gpus: int,
    purpose: str,
    seq_len: int,
    batch: int,
    framework: str | None,
    ask: Ask,
    more: Mapping[str, Any] | None,
) -> Size | str:
    """The framework and layout that ``plan`` recommends where the headroom is kept free, or why nothing runs."""
    cluster = _cluster(card, num_gpus)
    build = Job.build(_job(purpose, seq_len, batch, num_gpus, usual_precision(card), more), "job")
    named, notes = framework_of(framework, model, cluster, build, None)
    usual = Question(model, cluster, named, build)
    chosen, choice, _ = chosen_stack(usual, notes, framework is None, ask.risk, (), headroom=ask.headroom)
    answer = plan(model=model, cluster=cluster, framework=chosen, job=build, layout=choice.layout, explain=False, risk=ask.risk)
    if not answer.fits:
        return join_messages("; ", answer.reasons)
    room = card_bytes(cluster)
    usd = _price(cluster, ask)
    rate = answer.tokens_per_s
    return Size(
        accelerator=card.name,
        num_gpus=num_gpus,
        software=answer.framework.name,
        cut=answer.layout.label,
        total_bytes=answer.peak_total_bytes,
        card_bytes=room,
        headroom=1.0 - answer.peak_total_bytes / room,
        fit_probability=answer.fit_probability,
        enough=choice.sure,
        tokens_per_s=rate,
        batch=build.global_batch_size,
        in_time=True,
        usd_per_hour=usd,
        usd_per_million_tokens=None if usd is None else usd / 3600.0 / rate * 1e6,
        quote=_quote(cluster, ask),
        rented=_is_offer(cluster, ask),
    )
