"""The MoE layer against a loop over tokens in float64, written here from its formula."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.moe_layer import MoEConfig, MoELayer, SwiGLU, load_variation, switch_balance_loss

HIDDEN, INNER, TOKENS = 32, 24, 32


def config(**changes: Any) -> MoEConfig:
    fields = {"hidden_size": HIDDEN, "num_experts": 8, "top_k": 2, "expert_hidden_size": INNER, **changes}
    return MoEConfig(**fields)


def layer(seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> MoELayer:
    """Weights large enough that routing has margins: a near tie may fall differently in another precision."""
    torch.manual_seed(seed)
    made = MoELayer(config(**changes))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    return made.to(dtype)


def reference(made: MoELayer, x: Tensor, chosen: Tensor) -> Tensor:
    """Token by token: sum over its experts of weight x (silu(x G) * (x U)) D. ``chosen`` (t, k) fixes which experts."""
    c = made.config
    probabilities = torch.softmax(x @ made.router.weight.t(), dim=-1)
    used = [0] * c.num_experts
    rows = []
    for t in range(x.shape[0]):
        p = probabilities[t, chosen[t]]
        p = p / p.sum() if c.top_k > 1 else p
        y = torch.zeros_like(x[t])
        for j, e in enumerate(chosen[t].tolist()):
            used[e] += 1
            if c.capacity_factor is not None and used[e] > math.ceil(c.capacity_factor * c.top_k * x.shape[0] / c.num_experts):
                continue
            gate, up = (made.experts.gate_up[e] @ x[t]).chunk(2)
            y = y + p[j] * (made.experts.down[e] @ (F.silu(gate) * up))
        if made.shared is not None:
            y = y + made.shared(x[t])
        rows.append(y)
    return torch.stack(rows)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.detach().double() - expected.detach()).norm() / expected.detach().norm())


def compare(made: MoELayer, x: Tensor, tolerance: float) -> None:
    """Output, input gradient and every weight's gradient."""
    exact, x64 = copy.deepcopy(made).double(), x.detach().double().requires_grad_()
    x = x.detach().requires_grad_()
    chosen = made.router(x.reshape(-1, HIDDEN)).experts
    y, _ = made(x)
    expected = reference(exact, x64, chosen)
    direction = torch.randn_like(expected)
    found = torch.autograd.grad(y, (x, *made.parameters()), direction.to(y.dtype), allow_unused=True)
    wanted = torch.autograd.grad(expected, (x64, *exact.parameters()), direction, allow_unused=True)
    assert relative(y, expected) <= tolerance
    for a, b in zip(found, wanted, strict=True):
        assert (a is None) == (b is None) or a is None or not a.any()
        if a is not None and b is not None and b.norm() > 0:
            assert relative(a, b) <= tolerance


@pytest.mark.parametrize("implementation", ["loop", "grouped"])
@pytest.mark.parametrize("top_k", [1, 2, 8])
@pytest.mark.parametrize("experts", [8, 16, 64])
@pytest.mark.parametrize("shared", [0, 2])
def test_layer_equals_the_float64_loop(implementation: str, top_k: int, experts: int, shared: int) -> None:
    made = layer(num_experts=experts, top_k=top_k, num_shared_experts=shared, implementation=implementation)
    compare(made, torch.randn(TOKENS, HIDDEN), 1e-5)


@pytest.mark.parametrize("implementation", ["loop", "grouped"])
@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_four_experts(implementation: str, top_k: int) -> None:
    compare(layer(num_experts=4, top_k=top_k, implementation=implementation), torch.randn(TOKENS, HIDDEN), 1e-5)


@pytest.mark.parametrize("implementation", ["loop", "grouped"])
def test_bf16(implementation: str) -> None:
    compare(layer(dtype=torch.bfloat16, implementation=implementation), torch.randn(TOKENS, HIDDEN).bfloat16(), 2e-2)


@pytest.mark.parametrize("implementation", ["loop", "grouped", "batched"])
@pytest.mark.parametrize("favourites", [(3,), (0, 5)])
def test_all_tokens_to_one_expert_and_empty_experts(implementation: str, favourites: tuple[int, ...]) -> None:
    capacity = float(8 * len(favourites)) if implementation == "batched" else None
    made = layer(top_k=len(favourites), implementation=implementation, capacity_factor=capacity)
    x = torch.rand(TOKENS, HIDDEN) + 0.5  # positive inputs: a row of large weights wins for every token
    with torch.no_grad():
        made.router.weight.normal_(std=0.01)
        for rank, expert in enumerate(favourites):
            made.router.weight[expert] = 0.1 - 0.01 * rank  # no certainty: its gradient would be rounding
    assert set(made.router(x).experts.unique().tolist()) == set(favourites)
    compare(made, x, 1e-5)


@pytest.mark.parametrize("implementation", ["loop", "batched"])
@pytest.mark.parametrize("capacity", [0.5, 1.0, 1.25])
@pytest.mark.parametrize("top_k", [1, 2])
def test_capacity_drops_the_later_tokens(implementation: str, capacity: float, top_k: int) -> None:
    made = layer(top_k=top_k, capacity_factor=capacity, implementation=implementation)
    x = torch.randn(TOKENS, HIDDEN)
    counts = torch.bincount(made.router(x).experts.flatten(), minlength=8)
    assert int(counts.max()) > made.config.capacity(TOKENS), "nothing would be dropped: the test would be empty"
    compare(made, x, 1e-5)


def test_a_large_capacity_drops_nothing() -> None:
    made = layer(capacity_factor=8.0)
    dropless = layer(implementation="grouped")
    x = torch.randn(TOKENS, HIDDEN)
    assert made.implementation(x) == "batched"
    torch.testing.assert_close(made(x)[0], dropless(x)[0])


@pytest.mark.parametrize("implementation", ["loop", "grouped"])
def test_one_expert_is_a_dense_feed_forward(implementation: str) -> None:
    made = layer(num_experts=1, top_k=1, implementation=implementation)
    dense = SwiGLU(HIDDEN, INNER)
    gate, up = made.experts.gate_up[0].chunk(2)
    dense.load_state_dict({"gate.weight": gate, "up.weight": up, "down.weight": made.experts.down[0]})
    x = torch.randn(3, 16, HIDDEN)
    torch.testing.assert_close(made(x)[0], dense(x))


def test_balance_loss_is_one_when_balanced_and_the_number_of_experts_when_one_has_all() -> None:
    # Switch Transformers (Fedus et al. 2021), section 2.2: minimal, and 1 without its coefficient, under uniform routing
    uniform = torch.full((8, 4), 0.25)
    turns = torch.arange(8)[:, None] % 4
    assert float(switch_balance_loss(uniform, turns)) == pytest.approx(1.0)
    certain = F.one_hot(torch.zeros(8, dtype=torch.int64), 4).float()
    assert float(switch_balance_loss(certain, torch.zeros(8, 1, dtype=torch.int64))) == pytest.approx(4.0)
    assert float(load_variation(uniform)) == pytest.approx(0.0, abs=1e-6)
    assert float(load_variation(certain)) == pytest.approx(math.sqrt(3.0))  # loads 8 0 0 0: deviation 2 sqrt(3), mean 2


@pytest.mark.parametrize("kind", ["switch", "variation"])
def test_balance_loss_pushes_the_favourite_down(kind: str) -> None:
    made = layer(balance_loss=kind)
    x = torch.rand(TOKENS, HIDDEN)
    with torch.no_grad():
        made.router.weight.normal_(std=0.01)
        made.router.weight[3] += 0.1
    _, loss = made(x)
    (gradient,) = torch.autograd.grad(loss, made.router.weight)
    # a step against the gradient lowers the favourite's logits on these positive inputs
    assert float((-gradient[3] * x.mean(0)).sum()) < 0


def test_noise_changes_routing_in_training_only() -> None:
    made = layer(router_noise=5.0)
    x = torch.randn(TOKENS, HIDDEN)
    assert not torch.equal(made.router(x).experts, made.router(x).experts)
    made.eval()
    assert torch.equal(made.router(x).experts, made.router(x).experts)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"top_k": 9}, "top_k"), ({"top_k": 0}, "top_k"), ({"capacity_factor": 0.0}, "capacity_factor"),
        ({"capacity_factor": 1.0, "implementation": "grouped"}, "dropless"), ({"implementation": "batched"}, "capacity_factor"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        config(**fields)
