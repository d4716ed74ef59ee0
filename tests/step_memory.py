"""Peak bytes of a training step: counted as its tensors are born and die, and as the planner predicts them."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from pretended_cuda import tensors
from torch.utils._python_dispatch import TorchDispatchMode

from kernels.families.training import make_trainer, stack
from kernels.models import Step
from planner.calibration.records import model_from_fields, single_node
from planner.hardware.cluster import cluster, load_accelerator
from planner.performance.evaluation import evaluate
from planner.workload.framework import load_framework
from planner.workload.job import Job
from planner.workload.layout import Layout, as_columns
from planner.workload.question import Question


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operators return while they live; what a kernel allocates and frees inside is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tensors(out):
            self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.live:
            return
        self.live[key] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self.live.pop(key, 0)


def measured(step: Step, precision: str) -> int:
    with LiveBytes() as bytes_:
        trainer = make_trainer(step, precision, torch.device("cpu"))
        trainer.run()
        bytes_.peak = 0
        trainer.run()
    return bytes_.peak


def predicted(step: Step, precision: str, **known: Any) -> float:
    """The planner's peak; what is fused where is found on this CPU unless it is ``known``."""
    found = {k: v for k, v in {**stack(step, precision, torch.device("cpu")), **known}.items() if k != "framework"}
    card = load_accelerator("h200-sxm-141gb")
    fields = {"seq_len": step.seq_len, "global_batch_size": step.micro_batch_size * step.num_microbatches, "precision": precision}
    fields["optimizer"] = step.optimizer
    if step.lora_rank:
        fields |= {"kind": "lora", "adapter": {"rank": step.lora_rank, "dtype": "same"}}
    layout = Layout(micro_batch_size=step.micro_batch_size, recompute=step.recompute, dp=1)
    answer = evaluate(
        Question(
            model_from_fields(step.model.fields(), "test"),
            cluster(single_node(card), num_gpus=1, accelerator=card),
            load_framework("kernels").replaced(**found),
            Job.build(fields, "test"),
        ),
        as_columns(layout, 1),
    )
    return float(answer.memory.allocated_bytes[0])
