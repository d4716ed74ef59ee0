"""A teacher beside the student: its forward rows, weights that only lie there, and the loss that compares the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from planner.common.message import Message
from planner.model.architecture import LayerKind, Model
from planner.model.catalog import load_model
from planner.operators.row import Matmul, Row, changed, pointwise
from planner.operators.setting import Setting
from planner.workload.job import Job
from planner.workload.tuning import Quantization, Teacher

WIDTH = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0}


@lru_cache(maxsize=64)
def teacher_model(teacher: Teacher) -> Model:
    """The teacher's architecture; PlannerError for an unknown one."""
    return load_model(teacher.model)


Blocks = tuple[tuple[Row, ...], dict[LayerKind, tuple[Row, ...]], tuple[Row, ...]]
"""Embedding, a layer of each kind, head."""


def teacher_rows(setting: Setting, build: Callable[[Setting], Blocks]) -> tuple[tuple[float, tuple[Row, ...]], ...]:
    """How often each block of the teacher occurs, and its forward rows. Nothing is saved; logits that were cached cost nothing.

    The teacher runs on the student's layout: the same degrees, micro-batch and framework. ``build`` makes a model's rows.
    """
    teacher = setting.job.teacher
    if teacher is None or teacher.cached_top_k is not None:
        return ()
    model = teacher_model(teacher)
    job = setting.job.model_copy(update={"kind": "pretrain", "teacher": None})
    there = replace(setting, model=model, job=job)
    embedding, layers, head = build(there)
    counts = Counter(model.layer_kinds)
    blocks = [(1.0, embedding), *((float(counts[kind]), rows) for kind, rows in layers.items()), (1.0, head)]
    return tuple((count, _forward_only(there, teacher, rows)) for count, rows in blocks)


def _forward_only(setting: Setting, teacher: Teacher, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    width = WIDTH.get(teacher.precision)
    packed = Quantization(format="nf4").bytes_per_weight(float(setting.model.hidden_size)) if width is None else width
    result = []
    for row in rows:
        if row.phase != "forward" or row.operator in ("cross-entropy", "maximum and sums"):
            continue
        linear = isinstance(row.work, Matmul) and row.operator != "logits"
        stored = row.parameters * (packed if linear else width or 2.0)
        useful = row.model_flops
        result.append(changed(row, saved_bytes=0.0, workspace_bytes=0.0, parameters=0.0, frozen_bytes=stored, model_flops=useful))
        if linear and width is None:
            moved = (packed + setting.width) * row.parameters
            result.append(
                Row(
                    name=Message("{0} unpacked", row.name),
                    block=row.block,
                    phase="forward",
                    bytes_moved=moved,
                    kernels=2.0,
                    rate=setting.framework.dequantize_rate,
                )
            )
    return tuple(result)


def distillation_loss(setting: Setting, job: Job) -> tuple[Row, ...]:
    """Kullback-Leibler divergence to the teacher: its probabilities in fp32 stay until the backward pass; or of the cached ones.

    Beside the student's own loss, which stays: Hinton et al. 2015 add the two.
    """
    teacher = job.teacher
    if teacher is None:
        return ()
    w, tokens = setting.width, setting.tokens
    if teacher.cached_top_k is not None:
        chosen = tokens * float(teacher.cached_top_k)
        return pointwise(
            "distillation loss",
            "head",
            forward_bytes=30.0 * chosen,
            backward_bytes=16.0 * chosen,
            kernels=4.0,
            saved_bytes=12.0 * chosen,
        )
    logits = tokens * setting.model.vocab_size / setting.tp
    return pointwise(
        "distillation loss",
        "head",
        forward_bytes=(w + 16.0) * logits,
        backward_bytes=12.0 * logits,
        kernels=5.0,
        saved_bytes=4.0 * logits,
        workspace_bytes=w * logits,
    )
