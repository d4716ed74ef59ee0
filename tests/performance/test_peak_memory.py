"""Peak bytes of real training steps, as every tensor's birth and death tells them, against the planner's peak."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernels.families.training import make_trainer, stack
from kernels.models import Step, decoder, encoder, experts
from planner.calibration.records import model_from_fields, single_node
from planner.hardware.cluster import cluster, load_accelerator
from planner.performance.evaluation import evaluate
from planner.workload.framework import load_framework
from planner.workload.job import Job
from planner.workload.layout import Layout, as_columns


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operators return while they live; what a kernel allocates and frees inside is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
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


def predicted(step: Step, precision: str) -> float:
    found = {k: v for k, v in stack(step, precision, torch.device("cpu")).items() if k != "framework"}
    card = load_accelerator("h200-sxm-141gb")
    fields = {"seq_len": step.seq_len, "global_batch_size": step.micro_batch_size * step.num_microbatches, "precision": precision}
    layout = Layout(micro_batch_size=step.micro_batch_size, recompute=step.recompute, dp=1)
    answer = evaluate(
        model_from_fields(step.model.fields(), "test"), cluster(single_node(card), num_gpus=1, accelerator=card),
        load_framework("kernels").replaced(**found), Job.build(fields, "test"), as_columns(layout, 1),
    )  # fmt: skip
    return float(answer.memory.allocated[0])


DENSE = decoder(4, 128, 4, 4, 352, 800)
MOE = decoder(3, 128, 4, 2, 192, 800, **experts(8, 2, 192))
TIED = decoder(3, 128, 4, 2, 352, 800, tied_embeddings=True)
SHARED = decoder(3, 128, 4, 2, 192, 800, **experts(16, 4, 128, 2, num_dense_layers=1))
STEPS = [
    Step(label="dense", model=DENSE, seq_len=256, micro_batch_size=4),
    Step(label="MoE", model=MOE, seq_len=256, micro_batch_size=4),
    Step(label="large vocabulary", model=decoder(2, 128, 4, 4, 352, 6000), seq_len=128, micro_batch_size=2),
    Step(label="grouped heads, tied", model=TIED, seq_len=256, micro_batch_size=4),
    Step(label="MoE, shared", model=SHARED, seq_len=256, micro_batch_size=4),
    Step(label="encoder", model=encoder(3, 128, 4, 800), seq_len=256, micro_batch_size=4),
    Step(label="two micro-batches", model=DENSE, seq_len=256, micro_batch_size=2, num_microbatches=2),
    Step(label="eager attention", model=DENSE, seq_len=256, micro_batch_size=2, attention="eager"),
    Step(label="MoE, recompute", model=MOE, seq_len=256, micro_batch_size=4, recompute="full"),
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.label)
def test_peak_of_a_step_is_predicted_within_three_percent(step: Step) -> None:
    assert predicted(step, "fp32") == pytest.approx(measured(step, "fp32"), rel=0.03)


@pytest.mark.parametrize(("precision", "step"), [("bf16", STEPS[0]), ("bf16-pure", STEPS[1])])
def test_peak_in_16_bit(step: Step, precision: str) -> None:
    short = replace(step, micro_batch_size=2)  # 16 bit is slow on most CPUs
    assert predicted(short, precision) == pytest.approx(measured(short, precision), rel=0.03)
