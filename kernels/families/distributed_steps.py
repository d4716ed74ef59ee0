"""One training step on several ranks: DistributedDataParallel, FSDP2, tensor parallelism and expert parallelism."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kernels.case import DTYPES, Case, Work
from kernels.families.training import Trainer, apart, choices, make_trainer, training_work
from kernels.faults import Skip
from kernels.footprint import fitting
from kernels.models import Step, decoder, experts
from kernels.moe_layer import grouped_mm_problem
from kernels.optimizers import adamw
from kernels.session import Session
from kernels.tensor_parallel import TensorParallel, clip, share
from kernels.transformer import build, fused_norm

FAMILY = "distributed_steps"
BUCKETS = 0.8
"""Of the free memory for what one GPU alone would need: the rest is for gradient buckets and NCCL's buffers."""


def cases(session: Session) -> Iterator[Case]:
    """A dense model under DDP, FSDP2 and tensor parallelism, a mixture of experts with its experts spread over all ranks."""
    ranks = session.ranks
    if session.cuda:
        dense = Step(label="dense 1B", model=decoder(16, 2048, 32, 8, 8192, 32000), seq_len=4096, micro_batch_size=2)
        mixture = decoder(12, 1024, 16, 16, 2816, 32000, **experts(evenly(8, ranks), 2, 2816))
        sparse = Step(label=f"MoE {mixture.num_experts} x top 2", model=mixture, seq_len=2048, micro_batch_size=8)
    else:
        dense = Step(label="dense 256 wide", model=decoder(4, 256, 4, 4, 704, 2048), seq_len=128, micro_batch_size=4)
        small = decoder(4, 256, 4, 2, 384, 2048, **experts(evenly(8, ranks), 2, 384))
        sparse = Step(label=f"MoE {small.num_experts} x top 2", model=small, seq_len=128, micro_batch_size=4)
    for name, step in (("ddp", dense), ("fsdp2", dense), ("tensor parallel", dense), ("expert parallel", sparse)):
        yield _case(name, step, session)


def evenly(num_experts: int, ranks: int) -> int:
    """The smallest number of experts from ``num_experts`` on that all ranks can share.

    >>> evenly(8, 3), evenly(8, 4)
    (9, 8)
    """
    return -(-num_experts // ranks) * ranks


def _case(name: str, step: Step, session: Session) -> Case:
    """The step in the form that should fit, with smaller ones behind it."""
    case: Case | None = None
    for form in reversed(_forms(name, step, session)):
        case = _form_case(name, form, session, case)
    assert case is not None
    return case


def _forms(name: str, step: Step, session: Session) -> list[Step]:
    """All ranks choose by the memory of the first one: the ranks of a case must do the same."""
    if not session.cuda:
        return [step]
    free = float(session.agree(int(torch.cuda.mem_get_info(session.device)[0])))
    model = step.model
    if name == "tensor parallel":
        try:
            model = share(step.model, session.ranks)  # the memory of one rank
        except ValueError:
            return [step]
    elif name == "expert parallel":
        model = replace(step.model, num_experts=step.model.num_experts // session.ranks)
    grouped = not grouped_mm_problem("cuda", DTYPES[session.half])
    counted = replace(step, model=model)
    fit = fitting(counted, session.half, BUCKETS * free, grouped=grouped, fused_norm=fused_norm("cuda"))
    return [_whole(form, step) for form in apart(fit, session.half)]


def _whole(form: Step, step: Step) -> Step:
    """The form of one rank's share as a form of the whole step: the same layers, width, sequences and length."""
    w = step.model.hidden_size // form.model.hidden_size
    m = step.model
    model = replace(
        m,
        num_layers=form.model.num_layers,
        hidden_size=m.hidden_size // w,
        num_heads=m.num_heads // w,
        num_kv_heads=m.num_kv_heads // w,
        ffn_hidden_size=m.ffn_hidden_size // w,
        expert_ffn_hidden_size=m.expert_ffn_hidden_size // w if m.expert_ffn_hidden_size else None,
    )
    return replace(form, model=model)


def _form_case(name: str, step: Step, session: Session, smaller: Case | None) -> Case:
    precision, ranks = session.half, session.ranks
    layout = {
        "ddp": {"dp": ranks, "zero": 0, "ep": 1, "tp": 1},
        "fsdp2": {"dp": ranks, "zero": 3, "ep": 1, "tp": 1},
        "tensor parallel": {"dp": 1, "zero": 0, "ep": 1, "tp": ranks},
        "expert parallel": {"dp": ranks, "zero": 0, "ep": ranks, "tp": 1},
    }[name]
    more: dict[str, Any] = {"mixed_precision": "sharded_fp32"} if name == "fsdp2" else {}

    def build_work(session: Session) -> Work:
        if ranks < 2:
            raise Skip("one rank: start with torchrun --nproc-per-node N -m kernels run ...")
        return training_work(step, precision, session, MAKERS[name], sharded=name == "fsdp2", **more)

    shape = {**step.fields(precision), "ranks": ranks, **layout}
    return Case(family=FAMILY, name=name, shape=shape, dtype=precision, build=build_work, smaller=smaller)


def _ddp(step: Step, precision: str, device: torch.device) -> Trainer:
    """Whole weights everywhere; gradients averaged in buckets during the backward pass."""
    trainer = make_trainer(step, precision, device)
    wrapped = DistributedDataParallel(trainer.model, device_ids=[device.index] if device.type == "cuda" else None)
    trainer.model = wrapped
    trainer.around = lambda last: nullcontext() if last else wrapped.no_sync()
    return trainer


def _fsdp2(step: Step, precision: str, device: torch.device) -> Trainer:
    """fp32 shards, layers gathered in the compute type, gradients reduced and scattered in fp32."""
    fsdp = _fsdp_module()
    model = build(step.model, choices(step), device, torch.float32)
    policy = fsdp.MixedPrecisionPolicy(param_dtype=DTYPES[precision], reduce_dtype=torch.float32)
    for block in model.blocks:
        fsdp.fully_shard(block, mp_policy=policy)
    fsdp.fully_shard(model, mp_policy=policy)
    return Trainer(step=step, model=model, optimizer=adamw(model.parameters(), "fp32"), device=device)


def _fsdp_module() -> Any:
    """Where this torch has FSDP2: public since 2.6."""
    for name in ("torch.distributed.fsdp", "torch.distributed._composable.fsdp"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if hasattr(module, "fully_shard") and hasattr(module, "MixedPrecisionPolicy"):
            return module
    raise Skip(f"torch {torch.__version__} has no FSDP2")


def _tensor_parallel(step: Step, precision: str, device: torch.device) -> Trainer:
    """A share of every layer on each rank, the same tokens on all: drawn alike, from rank 0's."""
    group = dist.group.WORLD
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[precision])
    try:
        with torch.device(device):
            model = TensorParallel(step.model, choices(step), group).train()
    except ValueError as error:
        raise Skip(str(error)) from None
    finally:
        torch.set_default_dtype(before)
    trainer = SameTokens(step=step, model=model, optimizer=adamw(model.parameters(), precision), device=device)
    trainer.clip = lambda _: clip(*model.split(), group)
    return trainer


class SameTokens(Trainer):
    """All ranks train on rank 0's tokens."""

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Random tokens and labels, (b, s) each, sent to all ranks."""
        both = torch.stack(super().batch())
        dist.broadcast(both, src=0)
        return both[0], both[1]


def _expert_parallel(step: Step, precision: str, device: torch.device) -> Trainer:
    """Each rank owns E / n experts, whose gradients are whole already; all other gradients are averaged at the end."""
    model = build(step.model, choices(step, dist.group.WORLD), device, DTYPES[precision])
    optimizer = adamw(model.parameters(), precision)
    shared = [p for name, p in model.named_parameters() if ".experts." not in name]
    own = [p for name, p in model.named_parameters() if ".experts." in name]
    trainer = Trainer(step=step, model=model, optimizer=optimizer, device=device)
    trainer.after_backward = lambda: _average(shared, own)
    trainer.clip = lambda _: clip(own, shared, dist.group.WORLD)  # one factor on all ranks, or equal weights drift apart
    return trainer


MAKERS: dict[str, Callable[[Step, str, torch.device], Trainer]] = {
    "ddp": _ddp,
    "fsdp2": _fsdp2,
    "tensor parallel": _tensor_parallel,
    "expert parallel": _expert_parallel,
}


def _average(shared: Iterable[nn.Parameter], own: Iterable[nn.Parameter]) -> None:
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
