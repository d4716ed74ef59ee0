"""Predicted loss of dense models and mixtures, by two published laws; assumed wherever it is used.

Dense models follow Hoffmann et al. 2022 or its refit by Besiroglu et al. 2024. A mixture is first turned into the dense model
that the joint law of Ludziejewski et al. 2025 gives the same loss at the same tokens, so that both stand on one scale: the laws
were fitted on different texts and their losses must not be compared directly.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from scipy.optimize import brentq, minimize_scalar

from planner.common import data
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.common.spec import read_table
from planner.common.units import GB
from planner.model.architecture import Model
from planner.model.parameters import layer_parameters, parameters_active, parameters_total

CATALOG = data.CATALOG / "scaling_laws.toml"
LEAST, MOST = 1e6, 1e16
DENSE = ("hoffmann-2022", "besiroglu-2024")
"""Laws of dense models; a mixture enters them as the dense model that the joint law holds for as good."""
JOINT = "ludziejewski-2025"
FEW, MANY = 1.0, 600.0
"""Tokens per parameter of the runs behind the laws: 5 B tokens on 5 B parameters to 40 B on 70 M (Hoffmann et al. 2022)."""
NAMES = (*DENSE, JOINT)
"""All that a comparison at equal loss is made with."""


@cache
def laws() -> dict[str, dict[str, Any]]:
    """Constants, sources and fitted ranges of the laws."""
    return read_table(CATALOG)


def dense_loss(parameters: float, tokens: float, name: str = DENSE[0]) -> float:
    """Loss of a dense model: E + A / N^alpha + B / D^beta."""
    law = laws()[name]
    return float(law["E"] + law["A"] / parameters ** law["alpha"] + law["B"] / tokens ** law["beta"])


def effective_experts(experts: float) -> float:
    """Ê: 1 / Ê = 1 / (E - 1 + 1 / (1 / E_start - 1 / E_max)) + 1 / E_max (Clark et al. 2022)."""
    law = laws()["ludziejewski-2025"]
    start = 1.0 / (1.0 / law["E_start"] - 1.0 / law["E_max"])
    return float(1.0 / (1.0 / (experts - 1.0 + start) + 1.0 / law["E_max"]))


def joint_coefficients(experts: float) -> tuple[float, float, float, float, float]:
    """(m, mu, n, nu, c) of L = m N^mu + n D^nu + c for E experts."""
    law, hat = laws()["ludziejewski-2025"], effective_experts(experts)
    return (
        law["a"] * hat ** law["delta"],
        law["alpha"] + law["gamma"] * math.log(hat),
        law["b"] * hat ** law["omega"],
        law["beta"] + law["zeta"] * math.log(hat),
        law["c"],
    )


def joint_loss(active: float, tokens: float, experts: float) -> float:
    """Loss of a mixture (or with one expert of a dense model) by the joint law."""
    m, mu, n, nu, c = joint_coefficients(experts)
    return float(m * active**mu + n * tokens**nu + c)


def expert_ratio(model: Model) -> float:
    """E: feed-forward parameters of an MoE layer over those a token passes, shared experts among them; 1 for dense models."""
    for kind in model.layer_kinds:
        if kind.moe:
            routed = sum(t.elements for t in layer_parameters(model, kind) if t.shard.startswith("expert"))
            shared = sum(t.elements for t in layer_parameters(model, kind) if t.name.startswith("shared"))
            return (routed + shared) / (routed * model.top_k / model.num_experts + shared)
    return 1.0


def dense_equivalent(model: Model, tokens: float) -> float:
    """Parameters of the dense model with the same loss at the same tokens, by the joint law."""
    experts = expert_ratio(model)
    if experts == 1.0:
        return float(parameters_total(model))
    m, mu, n, nu, c = joint_coefficients(1.0)
    left = joint_loss(float(parameters_active(model)), tokens, experts) - n * tokens**nu - c
    if left <= 0:
        raise PlannerError(
            "scaling law: {0} at {1:.3g} tokens lies beyond every dense model; use fewer tokens.", model.name, tokens
        )
    return float((left / m) ** (1.0 / mu))


def predicted_loss(model: Model, tokens: float, law: str = DENSE[0]) -> float:
    """Loss by one of ``NAMES``, nats per token: of the joint law alone, or of a dense law for the equivalent dense model."""
    if law == JOINT:
        return joint_loss(float(parameters_active(model)), tokens, expert_ratio(model))
    return dense_loss(dense_equivalent(model, tokens), tokens, law)


def tokens_for_loss(model: Model, loss: float, law: str = DENSE[0]) -> float | None:
    """Tokens after which the predicted loss is reached; None when no number of tokens reaches it."""

    def above(log_tokens: float) -> float:
        return predicted_loss(model, math.exp(log_tokens), law) - loss

    low, high = math.log(LEAST), math.log(MOST)
    try:
        if above(low) < 0 or above(high) > 0:
            return None
    except PlannerError:
        return None
    return math.exp(brentq(above, low, high, xtol=1e-10))


def optimal(flops: float, law: str = DENSE[0], served_tokens: float = 0.0) -> tuple[float, float]:
    """(parameters, tokens) of the dense model with the least loss for training flops, C = 6 N D.

    With ``served_tokens`` T the budget pays for them, too: C = 6 N D + 2 N T (Sardana et al. 2024, arXiv 2401.00448): the more
    is served, the smaller and the longer trained. Closed form without them: Hoffmann et al. 2022, equation 4.
    """
    if not (math.isfinite(flops) and flops > 0 and math.isfinite(served_tokens) and served_tokens >= 0):
        raise PlannerError("flops = {0}, served_tokens = {1}: must be positive numbers.", flops, served_tokens)

    def tokens(log_parameters: float) -> float:
        size = math.exp(log_parameters)
        return (flops - 2.0 * size * served_tokens) / (6.0 * size)

    most = math.log(flops / (6.0 * LEAST + 2.0 * served_tokens))
    found = minimize_scalar(
        lambda x: dense_loss(math.exp(x), tokens(x), law),
        bounds=(math.log(1e3), most),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return math.exp(found.x), tokens(found.x)


def tokens_per_parameter_note(model: Model, tokens: float) -> tuple[str, ...]:
    """A warning where a model sees far fewer or more tokens than what the laws were fitted on."""
    ratio = tokens / parameters_active(model)
    if FEW <= ratio <= MANY:
        return ()
    why = (
        Message("continued training is no training from scratch: no law here says its loss")
        if ratio < FEW
        else Message("losses fall more slowly there than the laws say")
    )
    text = "{0}: {1:,.2g} tokens per active parameter, the laws were fitted on {2:g} to {3:g}; {4}"
    return (Message(text, model.name, ratio, FEW, MANY, why),)


def beyond_fit(model: Model, tokens: float) -> tuple[str, ...]:
    """What lies outside the ranges the laws were fitted on, in words."""
    name = "hoffmann-2022" if expert_ratio(model) == 1.0 else "ludziejewski-2025"
    law = laws()[name]
    size = float(parameters_active(model))
    values = {
        "parameters": (size, "{0}: {1:.3g} B active parameters lie outside the {2:.3g} to {3:.3g} B of {4}"),
        "tokens": (tokens, "{0}: {1:.3g} B tokens lie outside the {2:.3g} to {3:.3g} B of {4}"),
    }
    found = [
        Message(text, model.name, value / GB, law[key][0] / GB, law[key][1] / GB, name)
        for key, (value, text) in values.items()
        if not law[key][0] <= value <= law[key][1]
    ]
    experts = expert_ratio(model)
    if name == "ludziejewski-2025" and experts > law["experts"][1]:
        text = "{0}: {1:.1f} times as many expert parameters as active ones; fitted up to 32"
        found.append(Message(text, model.name, experts))
    if name == "ludziejewski-2025" and model.top_k > 1:
        text = "{0}: the law was fitted on one expert per token; top-{1} enters as E = {2:.2f}"
        found.append(Message(text, model.name, model.top_k, experts))
    return tuple(found)
