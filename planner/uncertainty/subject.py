"""What the interval of a prediction depends on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.common.arrays import Array, Number
from planner.model.architecture import Model
from planner.model.parameters import parameters_total
from planner.workload.framework import lineage
from planner.workload.layout import Layout, Layouts
from planner.workload.question import Question

Metric = Literal["step_time", "memory", "prefill", "decode", "throughput", "serving_memory"]
Kind = Literal["measured", "fitted", "extrapolated"]

TYPICAL_KERNEL_FLOPS = 2.0 * 4096.0**3
"""Multiplication of 4,096 tokens with a square matrix of width 4,096: where ``kernel`` is 0."""
SMALLEST_KERNEL = 10.0
TYPICAL_MOVABLE = 0.5
"""Part of a peak of memory that is no model states: where ``movable`` is not told, and where a spread counts as it is."""
FIRM = 0.3
"""How unsure model states are, in parts of what activations and buffers are: of 0.1, 0.2, 0.3, 0.5 and infinity, that of the
best mean score over runs left out with their source."""
SAME_PRECISION = {"bf16-pure": "bf16", "tf32": "fp32"}
SAME_JOB = {"pretrain": "full", "finetune": "full", "distil": "full"}
"""Words whose runs stand for each other in held-out residuals."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What the interval of a prediction depends on: the columns of a held-out run, or of a question.

    ``root``: the framework that ``framework`` is based on at last; ``die``: as ``die`` names it; ``model``: its sizes, to count
    runs of the same; ``figure``: which peak of memory; ``kernel``: doublings by which its multiplications are smaller than the
    typical one, a column where layouts differ; ``movable``: part of a peak of memory that is no model states, a column likewise;
    ``incomplete``: 1 for a measured run of which a setting is not known, 0 for a question: the planner says what it assumes;
    ``coordinates``: log2 of degrees and sizes, for how alike two questions are.
    """

    framework: str
    curves: str
    family: str
    num_nodes: int
    num_gpus: int
    parameters: float
    root: str = ""
    generation: str = ""
    die: str = ""
    precision: str = ""
    job: str = ""
    model: str = ""
    figure: str = "step"
    kernel: Number = 0.0
    movable: Number = TYPICAL_MOVABLE
    incomplete: float = 0.0
    coordinates: tuple[float, ...] = ()

    @classmethod
    def of(cls, q: Question, layout: Layout | Layouts) -> Subject:
        """The subject of a training question; with several layouts ``kernel`` is a column and coordinates are the first one's."""
        model, cluster, framework, job = q.model, q.cluster, q.framework, q.job
        kernel = smallness(model, job.seq_len, layout)
        degrees = [float(np.ravel(getattr(layout, name))[0]) for name in ("tp", "pp", "cp", "ep", "micro_batch_size")]
        parameters = float(parameters_total(model))
        experts = f"x{model.num_experts}" if model.family == "moe" else ""
        return cls(
            framework=framework.name,
            curves=cluster.accelerator.curves,
            family=model.family,
            num_nodes=cluster.num_nodes,
            num_gpus=cluster.num_gpus,
            parameters=parameters,
            root=lineage(framework.name)[-1],
            generation=cluster.accelerator.architecture.split()[0],
            die=die(cluster.accelerator.architecture),
            precision=SAME_PRECISION.get(job.precision, job.precision),
            job=SAME_JOB.get(job.kind, job.kind),
            model=f"{model.num_layers}x{model.hidden_size}x{model.num_heads}x{model.vocab_size}" + experts,
            kernel=float(kernel.ravel()[0]) if kernel.size == 1 else kernel,
            coordinates=tuple(np.log2([*degrees, job.seq_len, cluster.num_gpus, parameters]).tolist()),
        )


def smallness(model: Model, seq_len: Number, layout: Layout | Layouts) -> Array:
    """``Subject.kernel``: doublings by which a layout's multiplications are smaller than the typical one, within bounds."""
    tokens = np.asarray(layout.micro_batch_size, dtype=float) * seq_len / np.asarray(layout.cp, dtype=float)
    work = 2.0 * tokens * model.hidden_size**2 / np.asarray(layout.tp, dtype=float)
    return np.asarray(np.clip(np.log2(TYPICAL_KERNEL_FLOPS / work), -SMALLEST_KERNEL, SMALLEST_KERNEL))


def die(architecture: str) -> str:
    """Whether a GPU is one for computing, or one for graphics, by NVIDIA's names of dies.

    >>> die("Hopper GH100"), die("Blackwell Ultra GB110"), die("Ampere GA102"), die("TPU")
    ('compute', 'compute', 'graphics', 'other')
    """
    name = architecture.split()[-1]
    if not re.fullmatch(r"[A-Z]{2}[0-9]{2,3}", name):
        return "other"
    return "compute" if name[2:] in ("100", "110") else "graphics"


def movable_part(states_bytes: Number, need_bytes: Number) -> Array:
    """1 - model states over the peak, 0 to 1: the part of a peak of memory that activations and buffers take."""
    return np.asarray(np.clip(1.0 - np.asarray(states_bytes, dtype=float) / need_bytes, 0.0, 1.0))


def lever(movable: Number) -> Number:
    """How far off a peak of memory is likely to be, over one of which the half is model states; no unit.

    Model states are counted, activations and buffers are modelled: the relative error is that of the latter by their part m,
    hypot(FIRM, m) / hypot(FIRM, 1/2).
    """
    found: Number = np.hypot(FIRM, movable) / np.hypot(FIRM, TYPICAL_MOVABLE)
    return found
