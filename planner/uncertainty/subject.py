"""What the interval of a prediction depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.common.arrays import Number
from planner.hardware.cluster import Cluster
from planner.model.architecture import Model
from planner.model.parameters import parameters_total
from planner.workload.framework import Framework, lineage
from planner.workload.job import Job
from planner.workload.layout import Layout, Layouts

Metric = Literal["step_time", "memory", "prefill", "decode", "throughput", "serving_memory"]
Kind = Literal["measured", "fitted", "extrapolated"]

TYPICAL_KERNEL_FLOPS = 2.0 * 4096.0**3
"""Multiplication of 4,096 tokens with a square matrix of width 4,096: where ``kernel`` is 0."""
SMALLEST_KERNEL = 10.0
SAME_PRECISION = {"bf16-pure": "bf16", "tf32": "fp32"}
SAME_JOB = {"pretrain": "full", "finetune": "full", "distil": "full"}
"""Words whose runs stand for each other in held-out residuals."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What the interval of a prediction depends on: the columns of a held-out run, or of a question.

    ``root``: the framework that ``framework`` is based on at last; ``model``: the model's sizes, for counting runs of the same;
    ``figure``: which peak of memory; ``kernel``: doublings by which its multiplications are smaller than the typical one, a
    column where layouts differ; ``coordinates``: log2 of degrees and sizes, for how alike two questions are.
    """

    framework: str
    curves: str
    family: str
    num_nodes: int
    num_gpus: int
    parameters: float
    root: str = ""
    generation: str = ""
    precision: str = ""
    job: str = ""
    model: str = ""
    figure: str = "step"
    kernel: Number = 0.0
    coordinates: tuple[float, ...] = ()

    @classmethod
    def of(cls, model: Model, cluster: Cluster, framework: Framework, job: Job, layout: Layout | Layouts) -> Subject:
        """The subject of a training question; with several layouts ``kernel`` is a column and coordinates are the first one's."""
        tokens = np.asarray(layout.micro_batch_size, dtype=float) * job.seq_len / np.asarray(layout.cp, dtype=float)
        work = 2.0 * tokens * model.hidden_size**2 / np.asarray(layout.tp, dtype=float)
        kernel = np.clip(np.log2(TYPICAL_KERNEL_FLOPS / work), -SMALLEST_KERNEL, SMALLEST_KERNEL)
        degrees = [float(np.ravel(getattr(layout, name))[0]) for name in ("tp", "pp", "cp", "ep", "micro_batch_size")]
        parameters = float(parameters_total(model))
        return cls(
            framework=framework.name,
            curves=cluster.accelerator.curves,
            family=model.family,
            num_nodes=cluster.num_nodes,
            num_gpus=cluster.num_gpus,
            parameters=parameters,
            root=lineage(framework.name)[-1],
            generation=cluster.accelerator.architecture.split()[0],
            precision=SAME_PRECISION.get(job.precision, job.precision),
            job=SAME_JOB.get(job.kind, job.kind),
            model=f"{model.num_layers}x{model.hidden_size}x{model.num_heads}x{model.vocab_size}",
            kernel=float(kernel.ravel()[0]) if kernel.size == 1 else kernel,
            coordinates=tuple(np.log2([*degrees, job.seq_len, cluster.num_gpus, parameters]).tolist()),
        )
