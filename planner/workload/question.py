"""What is asked: a model, trained by a job, on a cluster, with a framework."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from planner.hardware.cluster import Cluster
from planner.model.architecture import Model
from planner.workload.adapters import tuned_model
from planner.workload.dispatch import stack_on
from planner.workload.framework import Framework
from planner.workload.job import Job


@dataclass(frozen=True)
class Question:
    """All of a training question but the layout: layouts are what it is answered with."""

    model: Model
    cluster: Cluster
    framework: Framework
    job: Job

    def on_stack(self) -> Self:
        """The same, with the attention kernel and the expert dispatcher that the framework takes for this model and cluster."""
        return replace(self, framework=stack_on(self.framework, self.cluster, self.model))

    def tuned(self) -> Self:
        """The same, the model with the adapters that the job trains."""
        return replace(self, model=tuned_model(self.model, self.job))
