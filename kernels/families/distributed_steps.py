"""One training step on several ranks: DistributedDataParallel, FSDP2, and expert parallelism."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kernels.case import DTYPES, Case
from kernels.families.training import Trainer, choices, make_trainer, training_work
from kernels.faults import Skip
from kernels.models import Step, decoder, experts
from kernels.optimizers import adamw
from kernels.session import Session
from kernels.transformer import build

FAMILY = "distributed_steps"


def cases(session: Session) -> Iterator[Case]:
    """A dense model under DDP and FSDP2, a mixture of experts with its experts spread over all ranks."""
    if session.cuda:
        dense = Step(label="dense 1B", model=decoder(16, 2048, 32, 8, 8192, 32000), seq_len=4096, micro_batch_size=2)
        moe = decoder(12, 1024, 16, 16, 2816, 32000, **experts(8, 2, 2816))
        sparse = Step(label="MoE 8 x top 2", model=moe, seq_len=2048, micro_batch_size=8)
    else:
        dense = Step(label="dense 256 wide", model=decoder(4, 256, 4, 4, 704, 2048), seq_len=128, micro_batch_size=4)
        small = decoder(4, 256, 4, 2, 384, 2048, **experts(8, 2, 384))
        sparse = Step(label="MoE 8 x top 2", model=small, seq_len=128, micro_batch_size=4)
    for name, step in (("ddp", dense), ("fsdp2", dense), ("expert parallel", sparse)):
        yield _case(name, step, session)


def _case(name: str, step: Step, session: Session) -> Case:
    precision = session.half
    ranks = session.ranks
    layout = {"ddp": {"zero": 0, "ep": 1}, "fsdp2": {"zero": 3, "ep": 1}, "expert parallel": {"zero": 0, "ep": ranks}}[name]
    make = {"ddp": _ddp, "fsdp2": _fsdp2, "expert parallel": _expert_parallel}[name]
    more: dict[str, Any] = {"mixed_precision": "sharded_fp32"} if name == "fsdp2" else {}

    def build_work(session: Session) -> Any:
        if ranks < 2:
            raise Skip("one rank: start with torchrun --nproc-per-node N -m kernels run ...")
        return training_work(step, precision, session, make, sharded=name == "fsdp2", **more)

    shape = {**step.fields(precision), "ranks": ranks, "dp": ranks, **layout}
    return Case(family=FAMILY, name=name, shape=shape, dtype=precision, build=build_work)


def _ddp(step: Step, precision: str, device: torch.device) -> Trainer:
    """Whole weights everywhere; gradients averaged in buckets during the backward pass."""
    trainer = make_trainer(step, precision, device)
    wrapped = DistributedDataParallel(trainer.model, device_ids=[device.index] if device.type == "cuda" else None)
    trainer.model = wrapped
    trainer.around = lambda last: nullcontext() if last else wrapped.no_sync()
    return trainer


def _fsdp2(step: Step, precision: str, device: torch.device) -> Trainer:
    """fp32 shards, layers gathered in the compute type, gradients reduced and scattered in fp32."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    model = build(step.model, choices(step), device, torch.float32)
    policy = MixedPrecisionPolicy(param_dtype=DTYPES[precision], reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    return Trainer(step=step, model=model, optimizer=adamw(model.parameters(), "fp32"), device=device)


def _expert_parallel(step: Step, precision: str, device: torch.device) -> Trainer:
    """Each rank owns E / n experts, whose gradients are whole already; all other gradients are averaged at the end."""
    model = build(step.model, choices(step, dist.group.WORLD), device, DTYPES[precision])
    optimizer = adamw(model.parameters(), precision)
    shared = [p for name, p in model.named_parameters() if ".experts." not in name]
    own = [p for name, p in model.named_parameters() if ".experts." in name]
    trainer = Trainer(step=step, model=model, optimizer=optimizer, device=device)
    trainer.after_backward = lambda: _average(shared, own)
    return trainer


def _average(shared: list[nn.Parameter], own: list[nn.Parameter]) -> None:
    """Mean over ranks of the dense gradients in one flat message; experts hold the sum of all ranks' tokens already."""
    ranks = dist.get_world_size()
    gradients = [p.grad for p in shared if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= ranks
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
    for p in own:
        if p.grad is not None:
            p.grad /= ranks
