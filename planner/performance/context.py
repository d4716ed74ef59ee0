"""A question and what is looked up for it once: widths of numbers, measured curves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from planner.common.arrays import Positions
from planner.hardware.curves import Curves, curves_of
from planner.workload.precision import Precisions, precisions
from planner.workload.question import Question


@dataclass(frozen=True)
class Context(Question):
    """The question, bytes of each kind of number, curves of the accelerator's GPU family.

    Where each layout has a sequence, a batch and a number of GPUs of its own, these are columns of the job and the cluster.
    """

    precision: Precisions
    curves: Curves

    @classmethod
    def of(cls, q: Question, curves: Curves | None = None) -> Context:
        """The context of a question; ``curves`` replaces those of the accelerator."""
        found = curves or curves_of(q.cluster.accelerator)
        return cls(q.model, q.cluster, q.framework, q.job, precision=precisions(q.job, q.framework), curves=found)

    @property
    def varies(self) -> bool:
        """Whether each layout has a sequence, a batch and a number of GPUs of its own (``evaluate_each``)."""
        return isinstance(self.job.global_batch_size, np.ndarray)

    def take(self, index: Positions) -> Context:
        """The context of the layouts that ``index`` selects."""
        if not self.varies:
            return self
        job, cluster = self.job, self.cluster
        columns = {name: getattr(job, name) for name in ("seq_len", "global_batch_size")}
        chosen = {name: column[index] for name, column in columns.items() if isinstance(column, np.ndarray)}
        gpus: Any = cluster.num_gpus
        return replace(self, job=job.model_copy(update=chosen), cluster=cluster.model_copy(update={"num_gpus": gpus[index]}))
