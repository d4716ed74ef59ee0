"""Two ranks against one process: outputs, losses and gradients of experts and tensors in parts; every layout is measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from made_records import Ticks
from test_moe_layer import HIDDEN, TOKENS, config, layer, relative
from torch import nn

from kernels import clock
from kernels.distributed import Agreement
from kernels.families import distributed_steps
from kernels.families.distributed_steps import evenly
from kernels.models import decoder
from kernels.moe_layer import MoELayer
from kernels.session import Session
from kernels.tensor_parallel import TensorParallel, clip, share
from kernels.transformer import Choices, build

MODEL = decoder(2, 32, 4, 2, 48, 64)
ROWS = ("query", "key", "value", "gate", "up", "words", "head")
"""Weights whose output is split; of the others the input is, but for norms."""


def part(name: str, weight: torch.Tensor, rank: int) -> torch.Tensor:
    if "norm" in name:
        return weight
    return weight.chunk(2, dim=0 if any(f"{word}.weight" in name for word in ROWS) else 1)[rank]


def plain(name: str) -> str:
    """As the model that is not split calls it."""
    return name.replace(".inner.", ".")


def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(3)
    ids, labels = (torch.randint(0, 64, (2, 8), generator=made) for _ in (0, 1))
    return ids, labels


def whole_model() -> nn.Module:
    torch.manual_seed(0)
    return build(MODEL, Choices(), "cpu", torch.float32)


def expert_parallel(rank: int, box: Any) -> None:
    """A layer with an expert in two on either rank, which have unequal parts of the tokens."""
    for implementation in ("auto", "loop"):
        whole = layer(num_shared_experts=1, implementation=implementation)
        made = MoELayer(config(num_shared_experts=1, implementation=implementation), dist.group.WORLD)
        state = whole.state_dict()
        for name in ("experts.gate_up", "experts.down"):
            state[name] = state[name].chunk(2)[rank]
        made.load_state_dict(state)
        torch.manual_seed(7)
        x = torch.randn(TOKENS, HIDDEN)
        mine = (x[:20] if rank == 0 else x[20:]).clone().requires_grad_()  # unequal parts
        y, _ = made(mine)
        y.square().sum().backward()
        box[f"{implementation} {rank}"] = {
            "y": y.detach(),
            "x": mine.grad,
            "gate_up": made.experts.gate_up.grad,
            "router": made.router.weight.grad,
        }


def one_rank(rank: int, meeting: str, box: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    expert_parallel(rank, box)
    weights = dict(whole_model().named_parameters())
    made = TensorParallel(MODEL, Choices(), dist.group.WORLD)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            weight.copy_(part(name, weights[plain(name)], rank))
    loss = made(*tokens())
    loss.backward()
    gradients = {plain(name): p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    norm = clip(*made.split(), dist.group.WORLD, most=1e-3)
    clipped = sum(float(p.grad.square().sum()) for p in made.split()[0] if p.grad is not None)
    box[rank] = {"loss": loss.detach(), "gradients": gradients, "norm": norm, "clipped": clipped}
    small = decoder(2, 32, 4, 2, 48, 64)
    clock.now = Ticks(1e-3)  # the budget of a busy machine, too, holds every layout
    distributed_steps.decoder = lambda *sizes, **more: replace(small, **more)  # type: ignore[assignment]
    session = Session(torch.device("cpu"), 30.0, None, ["test"], rank=rank, ranks=2, agree=Agreement(torch.device("cpu")))
    session.watch.most = 1
    session.family("distributed_steps", distributed_steps.cases(session), 20.0)
    box[f"steps {rank}"] = [(s["name"], s["status"], s["reason"]) for s in session.record["samples"]]
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two ranks did, started once; they meet in a file, since a port that is free now may be taken when they start."""
    meeting = str(tmp_path_factory.mktemp("ranks") / "meeting")
    with mp.Manager() as manager:
        shared = manager.dict()
        mp.start_processes(one_rank, args=(meeting, shared), nprocs=2, start_method="spawn")
        return dict(shared)


def test_two_ranks_are_one_model_and_every_layout_runs(found: dict[str, Any]) -> None:
    whole = whole_model()
    loss = whole(*tokens())
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(whole.parameters(), 1e9)
    for rank in (0, 1):
        assert float(found[rank]["loss"]) == pytest.approx(loss.item(), rel=1e-5)
        assert float(found[rank]["norm"]) == pytest.approx(float(norm), rel=1e-5)
        for name, weight in whole.named_parameters():
            assert weight.grad is not None
            torch.testing.assert_close(found[rank]["gradients"][name], part(name, weight.grad, rank), rtol=1e-4, atol=1e-6)
    assert sum(found[rank]["clipped"] for rank in (0, 1)) <= 1e-6 * 1.01
    kinds = ["ddp", "fsdp2", "tensor parallel", "expert parallel"]
    assert found["steps 0"] == [(kind, "measured", "") for kind in kinds]
    assert found["steps 1"] == found["steps 0"]


def test_expert_parallel_on_two_ranks_equals_one_process(found: dict[str, Any]) -> None:
    whole = layer(num_shared_experts=1, implementation="loop")
    torch.manual_seed(7)
    x = torch.randn(TOKENS, HIDDEN).requires_grad_()
    y, _ = whole(x)
    y.square().sum().backward()
    assert x.grad is not None
    for implementation in ("auto", "loop"):
        a, b = found[f"{implementation} 0"], found[f"{implementation} 1"]
        for one, other, expected in (
            (torch.cat([a["y"], b["y"]]), y, "outputs"),
            (torch.cat([a["x"], b["x"]]), x.grad, "input gradients"),
            (torch.cat([a["gate_up"], b["gate_up"]]), whole.experts.gate_up.grad, "expert gradients"),
            (a["router"] + b["router"], whole.router.weight.grad, "router gradients"),
        ):
            assert other is not None
            assert relative(one, other) <= 1e-5, expected


@pytest.mark.parametrize(
    ("changes", "word"), [({"vocab_size": 63}, "vocab_size"), ({"num_heads": 3, "num_kv_heads": 3}, "num_heads")]
)
def test_what_does_not_divide_is_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        share(replace(MODEL, **changes), 2)


def test_three_ranks_share_nine_experts() -> None:
    """Three RTX 3070, as the project's first machine had: eight experts cannot be shared by three ranks."""
    assert evenly(8, 3) == 9
    session = Session(torch.device("cpu"), 1.0, None, ["test"])
    session.ranks = 3
    cases = {case.name: case for case in distributed_steps.cases(session)}
    assert cases["expert parallel"].shape["model"]["num_experts"] == 9
    assert cases["expert parallel"].shape["ep"] == 3
