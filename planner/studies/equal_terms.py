"""Mixtures against dense models on equal terms: total or active parameters, training flops, dollars, days, or predicted loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

from planner.common.arguments import as_a, as_amount, as_list
from planner.common.errors import PlannerError, as_text, one_of
from planner.common.message import Message, join_messages
from planner.common.units import DAY_S, HOUR_S
from planner.lifecycle.bill import Costs, bill_of, charged_run
from planner.lifecycle.spec import Run
from planner.model.architecture import Model
from planner.model.parameters import parameters_active, parameters_total
from planner.prices.price import Price
from planner.studies.scaling_law import (
    DENSE,
    NAMES,
    beyond_fit,
    laws,
    optimal,
    predicted_loss,
    tokens_for_loss,
    tokens_per_parameter_note,
)
from planner.training.difference import ratios
from planner.training.plan import Plan, step_time_interval
from planner.training.planning import plan
from planner.uncertainty.dollars import held_usd
from planner.uncertainty.interval import Interval
from planner.uncertainty.ratio import Ratio

Terms = Literal["loss", "flops", "dollars", "active", "total", "days"]
TERMS: tuple[str, ...] = get_args(Terms)
LLAMA_FFN = 2.6875
"""Feed-forward over hidden size of a dense model made from a mixture: Llama-7B's 11008 / 4096, kind: assumed."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One case on the common terms. ``loss`` is predicted (nats per token, assumed); None where the law cannot say.

    ``days`` and ``cost_usd`` are undisturbed; ``budget_days`` and ``budget_usd`` what ``planner run`` says of so many tokens:
    with interruptions, as published runs went. None where it does not fit, without a price, and of spot nodes whose preemption
    rate is not given.

    ``tokens_by_law``: at equal loss, the tokens that each law asks for (None: never); empty on other terms. ``reachable`` is
    False when no number of tokens brings the case to the reference's loss.
    """

    label: str
    plan: Plan
    parameters_total: int
    parameters_active: int
    tokens: float
    training_flops: float
    days: Interval
    gpu_hours: Interval
    cost_usd: Interval | None
    budget_days: Interval | None
    budget_usd: Interval | None
    price: Price | None
    loss: float | None
    tokens_by_law: Mapping[str, float | None]
    reachable: bool
    over_first: Mapping[str, Ratio]  # this case over the first: time and dollars at its tokens, and memory
    notes: tuple[str, ...]
    served_tokens: float = 0.0

    @cached_property
    def best_dense(self) -> dict[str, tuple[float, float]]:
        """By each dense law (parameters, tokens) of the dense model with the least loss for the flops of this case: of its
        training, and of serving ``served_tokens``, 2 per active parameter and token (Sardana et al. 2024)."""
        flops = self.training_flops + 2.0 * self.parameters_active * self.served_tokens
        return {law: optimal(flops, law, self.served_tokens) for law in DENSE}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        data = {n: getattr(self, n) for n in self.__dataclass_fields__ if n not in ("plan", "price", "over_first")}
        for name in ("days", "gpu_hours", "cost_usd", "budget_days", "budget_usd"):
            data[name] = None if data[name] is None else asdict(data[name])
        own = self.plan
        return {
            **data,
            "model": own.model.name,
            "family": own.model.family,
            "layout": own.layout.label,
            "fits": own.fits,
            "over_first": {name: found.to_dict() for name, found in self.over_first.items()},
            "best_dense": {law: {"parameters": n, "tokens": d} for law, (n, d) in self.best_dense.items()},
            "price": None if self.price is None else self.price.to_dict(),
        }


def on_equal_terms(
    labels: Sequence[str],
    plans: Sequence[Plan],
    at: str,
    *,
    runs: Sequence[Run | Mapping[str, Any]] | None = None,
    costs: Sequence[Costs | Mapping[str, Any]] | None = None,
    served_tokens: float = 0.0,
) -> tuple[Side, ...]:
    """The first case as it is, every other one brought to the same total, active, flops, dollars, days or loss.

    ``total`` and ``active`` resize dense models at the same tokens; the others change the tokens. A single mixture is met by a
    dense model of its own attention shape. ``runs`` and ``costs``: the tables [run] and [cost] of each plan, behind its budget.
    ``served_tokens``: what the model will serve in its life; the best dense model of each case pays for that, too.
    Raises PlannerError for unknown terms, missing lengths or prices.
    """
    labels = [as_text(label, "labels") for label in as_list(labels, "labels", Message("names"))]
    plans = [as_a(one, Plan, "plans", "planner.plan") for one in as_list(plans, "plans", Message("plans"))]
    if not plans or len(labels) != len(plans):
        raise PlannerError("labels = {0!r}: {1} names for {2} plans; give a name for each plan.", labels, len(labels), len(plans))
    served = as_amount(served_tokens, "served_tokens", "zero") or 0.0
    if as_text(at, "at") not in TERMS:
        raise PlannerError("--at {0}: {1}.", at, one_of(at, TERMS))
    if plans[0].num_steps is None:
        raise PlannerError("{0}: job has no length; give num_tokens, num_samples or num_steps.", labels[0])
    reference = _side(labels[0], plans[0], plans[0].tokens_per_step * plans[0].num_steps)
    others = list(zip(labels[1:], plans[1:], strict=True))
    if not others and not plans[0].model.num_experts:
        raise PlannerError("{0}: a single dense case has nothing to be compared with; add a [[compare]] table.", labels[0])
    if not others:
        others = [("dense", _replan(plans[0], dense_of_size(plans[0].model, reference.parameters_active)))]
    sides = (reference, *(_over(_matched(label, other, reference, at), reference) for label, other in others))
    spec, charged = _tables(runs, "runs", len(plans)), _tables(costs, "costs", len(plans))
    last = len(plans) - 1  # a mixture's dense counterpart has its tables
    sides = tuple(replace(side, served_tokens=served) for side in sides)
    return tuple(_budgeted(side, spec[min(i, last)], charged[min(i, last)]) for i, side in enumerate(sides))


def _tables(given: Sequence[Any] | None, name: str, count: int) -> Sequence[Any]:
    """One table for each plan; empty ones where none are given."""
    if given is None:
        return [{}] * count
    found = as_list(given, name, Message("tables"))
    if len(found) != count:
        raise PlannerError(
            "{0}: {1} tables for {2} plans; give one for each, an empty one for the defaults.", name, len(found), count
        )
    return found


def _budgeted(side: Side, run: Run | Mapping[str, Any], costs: Costs | Mapping[str, Any]) -> Side:
    """The side with what ``planner run`` says of its tokens; as far apart as the laws where they say how many there are."""
    spec = run.checked("run") if isinstance(run, Run) else Run.build(run, "run")
    spot = side.price is not None and side.price.preempted
    if not side.plan.fits or (spot and spec.preemption_mtbf_s is None):
        return side
    whole = charged_run(replace(side.plan, num_steps=side.tokens / side.plan.tokens_per_step), spec, costs)
    budget = None if side.price is None else bill_of(whole, costs).budget_usd
    spread = _law_spread(side)
    return replace(
        side,
        budget_days=_within(whole.budget_s.scaled(1.0 / DAY_S), spread),
        budget_usd=None if budget is None else _within(budget, spread),
    )


def _law_spread(side: Side) -> tuple[float, float]:
    """The fewest and the most tokens that a law asks for, over the side's; (1, 1) where no law says how many."""
    known = [tokens / side.tokens for tokens in side.tokens_by_law.values() if tokens is not None]
    return min(known, default=1.0), max(known, default=1.0)


def _within(interval: Interval, spread: tuple[float, float]) -> Interval:
    return replace(interval, lower=interval.lower * spread[0], upper=interval.upper * spread[1])


def _over(side: Side, reference: Side) -> Side:
    """The side with its time, dollars and memory over the reference's: of step times and memory, at its own tokens.

    At equal loss the tokens are no better known than the laws agree, and the first note says what each of them comes to.
    """
    steps = ratios(side.plan, reference.plan)
    spread = _law_spread(side)
    found = {"peak_total_bytes": steps["peak_total_bytes"]}
    figures = {"days": (side.days, reference.days), "cost_usd": (side.cost_usd, reference.cost_usd)}
    for name, (ours, theirs) in figures.items():
        if ours is not None and theirs is not None and ours.expected > 0 and theirs.expected > 0:
            step = steps["step_time_s"]
            found[name] = step.scaled(ours.expected / theirs.expected / step.expected).widened(*spread)
    notes = (*_law_note(side, reference), *side.notes) if side.tokens_by_law else side.notes
    return replace(side, over_first=found, notes=notes)


def _law_note(side: Side, reference: Side) -> tuple[str, ...]:
    """What equal loss rests on: dollars (days without prices) and tokens by each law, beside dollars at equal tokens."""
    priced = side.cost_usd is not None and reference.cost_usd is not None and reference.cost_usd.expected > 0.0

    def over(tokens: float) -> float:
        other = _side(side.label, side.plan, tokens)
        if priced and other.cost_usd is not None and reference.cost_usd is not None:
            return other.cost_usd.expected / reference.cost_usd.expected
        return other.days.expected / reference.days.expected

    known = {law: tokens for law, tokens in side.tokens_by_law.items() if tokens is not None}
    words = (Message("{0:.2f} by {1} ({2:,.3g} B tokens)", over(tokens), law, tokens / 1e9) for law, tokens in known.items())
    never = ", ".join(law for law in side.tokens_by_law if law not in known)
    of_dollars = "dollars of {0} over {1}: {2:.2f} at equal tokens; at equal loss {3}{4}"
    of_days = "days of {0} over {1}: {2:.2f} at equal tokens; at equal loss {3}{4}"
    said = join_messages(", ", words), Message("; never by {0}", never) if never else ""
    return (Message(of_dollars if priced else of_days, side.label, reference.label, over(reference.tokens), *said),)


def _matched(label: str, other: Plan, reference: Side, at: str) -> Side:
    if at in ("total", "active"):
        if other.model.num_experts:
            raise PlannerError(
                "--at {0}: resizes dense models, but {1} is a mixture; compare it at flops, loss or dollars.", at, label
            )
        wanted = reference.parameters_total if at == "total" else reference.parameters_active
        resized = dense_of_size(other.model, wanted)
        return _side(Message("{0}, resized", label), _replan(other, resized), reference.tokens)
    tokens = _tokens(other, label, reference, at)
    if tokens is None:
        side = _side(label, other, reference.tokens)
        note = Message(
            "{0}: no number of tokens brings it to the loss {1:.3f}; shown at the reference's tokens", label, reference.loss
        )
        return replace(side, reachable=False, notes=(*side.notes, note))
    side = _side(label, other, tokens)
    return side if at != "loss" else _by_laws(side, reference)


def _by_laws(side: Side, reference: Side) -> Side:
    """The side with what every law says, and how far they are apart: no law is better known than that."""
    found: dict[str, float | None] = {}
    for law in NAMES:
        try:
            found[law] = tokens_for_loss(side.plan.model, predicted_loss(reference.plan.model, reference.tokens, law), law)
        except PlannerError:
            found[law] = None
    side = replace(side, tokens_by_law=found)
    spread = _law_spread(side)
    return replace(
        side,
        days=_within(side.days, spread),
        gpu_hours=_within(side.gpu_hours, spread),
        cost_usd=None if side.cost_usd is None else _within(side.cost_usd, spread),
    )


def _tokens(other: Plan, label_of_other: str, reference: Side, at: str) -> float | None:
    """Tokens at which the other case meets the reference; None when it never does."""
    if at == "flops":
        return reference.training_flops / (other.model_flops_per_step / other.tokens_per_step)
    if at == "days":
        return reference.days.expected * DAY_S * other.tokens_per_s
    if at == "loss":
        return None if reference.loss is None else tokens_for_loss(other.model, reference.loss)
    for label, answer in ((reference.label, reference.plan), (label_of_other, other)):
        if not answer.fits:
            raise PlannerError(
                "--at dollars: {0} does not fit and costs nothing; give it a layout or a cluster that does.", label
            )
    if reference.cost_usd is None or other.cost_usd_per_step is None:
        raise PlannerError("--at dollars: a case has no price; give price.usd_per_gpu_hour.")
    if other.cost_usd_per_step == 0:
        raise PlannerError("--at dollars: the price is zero; any number of tokens costs as much.")
    return reference.cost_usd.expected / other.cost_usd_per_step * other.tokens_per_step


def _side(label: str, answer: Plan, tokens: float) -> Side:
    step = step_time_interval(answer)
    seconds = step.scaled(tokens / answer.tokens_per_step)
    hours = seconds.scaled(answer.num_gpus / HOUR_S)
    try:
        loss = predicted_loss(answer.model, tokens)
        notes = (*tokens_per_parameter_note(answer.model, tokens), *beyond_fit(answer.model, tokens))
    except PlannerError as error:
        loss, notes = math.nan, (str(error),)
    return Side(
        label=label,
        plan=answer,
        parameters_total=parameters_total(answer.model),
        parameters_active=parameters_active(answer.model),
        tokens=tokens,
        training_flops=answer.model_flops_per_step / answer.tokens_per_step * tokens,
        days=seconds.scaled(1.0 / DAY_S),
        gpu_hours=hours,
        cost_usd=None if answer.price is None or not answer.fits else held_usd(seconds, answer.num_gpus, answer.price),
        budget_days=None,
        budget_usd=None,
        price=answer.price,
        loss=None if math.isnan(loss) else loss,
        tokens_by_law={},
        reachable=True,
        over_first={},
        notes=notes if answer.fits else (*notes, Message("{0}: does not fit ({1})", label, join_messages("; ", answer.reasons))),
    )


def _replan(like: Plan, model: Model) -> Plan:
    """The same question of another model; the layout is chosen anew."""
    return plan(model=model, cluster=like.cluster, framework=like.framework, job=like.job, price=like.price, risk=like.risk)


def dense_of_size(like: Model, parameters: float) -> Model:
    """A dense model in the shape of ``like`` with about that many parameters (layers and width grow together).

    Heads keep their width and come in eights; of the pairs of layers and heads near the shape's proportion the closest wins.
    Raises PlannerError when the vocabulary alone is larger.
    """
    ratio = LLAMA_FFN if like.num_experts else like.ffn_hidden_size / like.hidden_size
    head = like.qk_head_dim if like.attention == "mla" else like.head_dim

    def natural(heads: int) -> int:
        return max(round(like.num_layers * heads * head / like.hidden_size), 1)

    def off(heads: int, layers: int) -> float:
        return parameters_total(_shaped(like, heads * head, heads, head, layers, ratio)) / parameters - 1.0

    step = 8 if like.num_heads >= 16 else 2  # tensor parallelism must divide the heads
    low, high = 1, 64
    while low < high:  # the smallest width whose own depth is large enough
        middle = (low + high) // 2
        low, high = (low, middle) if off(step * middle, natural(step * middle)) >= 0 else (middle + 1, high)
    tried = {
        (heads, layers): abs(off(heads, layers))
        for heads in (step * n for n in range(max(low - 1, 1), low + 1))
        for layers in range(max(round(natural(heads) * 0.7), 1), round(natural(heads) * 1.3) + 2)
    }
    (heads, layers), error = min(tried.items(), key=lambda item: item[1])
    if error > 0.1:
        raise PlannerError(
            "no dense model like {0} has about {1:.3g} parameters; the closest is {2:.0%} off.", like.name, parameters, error
        )
    return _shaped(like, heads * head, heads, head, layers, ratio)


def _shaped(like: Model, hidden: int, heads: int, head: int, layers: int, ratio: float) -> Model:
    share = like.num_heads // like.num_kv_heads
    kept = {
        name: getattr(like, name)
        for name in (
            "vocab_size",
            "architecture",
            "gated_ffn",
            "activation",
            "norm",
            "norm_bias",
            "position_embedding",
            "max_positions",
            "qkv_bias",
            "attention_output_bias",
            "ffn_bias",
            "head_bias",
            "tied_embeddings",
            "head",
        )
    }
    fields = {
        **kept,
        "name": f"dense like {like.name}",
        "source": f"scaled from {like.name}, kind: assumed",
        "num_layers": layers,
        "hidden_size": hidden,
        "num_heads": heads,
        "num_kv_heads": heads // share if heads % share == 0 else heads,
        "head_dim": head,
        "ffn_hidden_size": max(round(ratio * hidden / 64), 1) * 64,
    }
    return Model.build(fields, "model")


def law_notes() -> tuple[str, ...]:
    """The laws behind the predicted losses, with their sources and ranges."""
    words = []
    for name, law in laws().items():
        p, t = law["parameters"], law["tokens"]
        words.append(
            Message(
                "assumed: loss by {0}: {1}; fitted on {2:.3g} to {3:.3g} B parameters and {4:.3g} to {5:.3g} B tokens",
                name,
                law["source"],
                *(end / 1e9 for end in (*p, *t)),
            )
        )
    return tuple(words)
