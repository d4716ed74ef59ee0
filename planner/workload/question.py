"""One question: model, cluster, framework, job and layouts."""

from __future__ import annotations

from dataclasses import dataclass

from planner.hardware.cluster import Cluster
from planner.model.architecture import Model
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.layout import Layouts


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the layouts are checked against."""

    model: Model
    cluster: Cluster
    framework: Framework
    job: Job
    layouts: Layouts
