"""AdamW with states of 8 bits: its numbers, its memory, and how far it strays from AdamW."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch
from torch import nn

from kernels.footprint import peak_bytes
from kernels.models import Step, decoder
from kernels.optimizers import BLOCK, BlockwiseAdamW, BlockwiseState, adam_8bit, dynamic_map
from planner.workload.precision import optimizer_state_bytes


def moments(elements: int, signed: bool) -> BlockwiseState:
    """A moment of one weight, all zero."""
    values = dynamic_map(signed)
    return BlockwiseState(elements, values, int(torch.nonzero(values == 0.0)))


@pytest.mark.parametrize("signed", [True, False])
def test_a_byte_has_256_values_over_seven_decades(signed: bool) -> None:
    """Dettmers et al. 2022, section 1.3: zero and one are exact; the smallest decade is 10^-7 to 10^-6."""
    values = dynamic_map(signed)
    assert len(values.unique()) == 256
    assert {0.0, 1.0} <= set(values.tolist())
    assert float(values.min()) == pytest.approx(-0.993, abs=1e-3) if signed else float(values.min()) == 0.0
    positive = values[values > 0]
    assert 1e-7 < float(positive.min()) < 1e-6
    # rounding: within a decade of n steps of 0.9 / n, at most half a step of the decade's lower end, 0.1
    largest = positive[positive >= 0.1]
    assert float((largest[1:] - largest[:-1]).max()) <= 0.9 / (64 if signed else 128) * 1.01


def test_a_state_gives_back_what_was_written() -> None:
    torch.manual_seed(0)
    state, moment = moments(1000, True), torch.randn(4, BLOCK)
    state.write(slice(0, 4), moment)
    error = (state.read(slice(0, 4)) - moment).abs().amax(dim=1)
    assert float((error / moment.abs().amax(dim=1)).max()) <= 0.9 / 64 / 2 * 1.01


def test_a_state_takes_the_planners_bytes() -> None:
    first, second = (moments(2**16, signed) for signed in (True, False))
    held = sum(t.nbytes for state in (first, second) for t in (state.codes, state.scales))
    assert held / 2**16 == pytest.approx(optimizer_state_bytes("adamw-8bit", 2.0))


def test_weights_move_as_with_adamw() -> None:
    """Twenty steps on noisy gradients, a weight that is no multiple of a block among them: 2 % of the way apart."""
    torch.manual_seed(0)
    ours, theirs = (
        [nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(1))) for shape in ((33, 77), (5,))]
        for _ in (0, 1)
    )
    begin = torch.cat([w.detach().flatten() for w in ours])
    one, other = BlockwiseAdamW(ours, 1e-2), torch.optim.AdamW(theirs, lr=1e-2)
    for _ in range(20):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a) + 0.3
            b.grad = a.grad.clone()
        one.step()
        other.step()
        one.zero_grad()
    far = torch.cat([w.detach().flatten() for w in theirs])
    near = torch.cat([w.detach().flatten() for w in ours])
    assert float((near - far).norm() / (far - begin).norm()) < 0.02
    assert all(w.grad is None for w in ours)


def test_a_long_weight_is_updated_in_parts(monkeypatch: Any) -> None:
    whole, parts = (nn.Parameter(torch.ones(5 * BLOCK)) for _ in (0, 1))
    gradient = torch.linspace(-1.0, 1.0, 5 * BLOCK)
    for weight, chunk in ((whole, 2**22), (parts, 2 * BLOCK)):
        monkeypatch.setattr("kernels.optimizers.CHUNK_ELEMENTS", chunk)
        weight.grad = gradient.clone()
        BlockwiseAdamW([weight], 1e-2).step()
    torch.testing.assert_close(whole, parts)


def test_the_library_updates_weights_on_a_gpu_that_has_it(monkeypatch: Any) -> None:
    made: list[float] = []
    library = types.ModuleType("bitsandbytes")
    library.optim = types.SimpleNamespace(AdamW8bit=lambda weights, lr: made.append(lr))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", library)
    assert isinstance(adam_8bit([nn.Parameter(torch.ones(3))], "fp32"), BlockwiseAdamW), "not on a CPU"
    adam_8bit([types.SimpleNamespace(is_cuda=True)], "bf16-pure", 0.5)  # type: ignore[list-item]
    assert made == [0.5]
    with pytest.raises(ValueError, match="bf16-pure"):
        adam_8bit([], "bf16")


def test_the_footprint_counts_smaller_states() -> None:
    model = decoder(4, 512, 8, 8, 1408, 1024)
    steps = [Step(label="x", model=model, seq_len=16, micro_batch_size=1, optimizer=o) for o in ("adamw", "adamw-8bit")]
    whole, small = (peak_bytes(step, "fp32") for step in steps)
    parameters = sum(p.numel() for p in torch.nn.ModuleList().parameters())  # none: the difference is of states alone
    assert parameters == 0
    assert whole - small == pytest.approx((8.0 - 2.0 - 8.0 / 256.0) / 16.0 * whole, rel=0.05)
