"""What no layout can hold, known without a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.hardware.cluster import host_usable_bytes, usable_bytes
from planner.model.architecture import Model
from planner.model.parameters import parameters_total
from planner.performance.risk import RISK
from planner.training.planning import framework_of
from planner.workload.default_framework import leaner_frameworks
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.precision import precisions
from planner.workload.resolve import as_cluster, as_job, as_model


def states_bytes(model: Model, job: Job, framework: Framework) -> float:
    """The least bytes of all model states on all GPUs and their hosts: w = parameter + gradient + master + optimizer state for
    each of P parameters, wherever they are sharded or moved to; of frozen ones under adapters their weights alone.

    Of what need not be there none counts: vision towers, the gradients of an optimizer in backward, adapters; 0 where images
    have layers of their own.

    >>> from planner.model.catalog import load_model
    >>> from planner.workload.framework import load_framework
    >>> job = Job(kind="pretrain", seq_len=2048, global_batch_size=8, precision="bf16")
    >>> round(states_bytes(load_model("llama-3-8b"), job, load_framework("megatron-core")) / 1e9)  # 18 bytes each
    145
    """
    if model.reads_images:
        return 0.0
    if job.adapter is not None:
        each = 2.0 if job.quantization is None else job.quantization.bytes_per_weight(float("inf"))
    else:
        precision = precisions(job, framework)
        each = precision.model_states - (precision.gradient if job.optimizer_in_backward else 0.0)
    return each * (parameters_total(model) - sum(tower.parameters for tower in model.towers))


def is_hopeless(arguments: Mapping[str, Any]) -> bool:
    """Whether the model states of a question of ``plan`` without a layout exceed what all GPUs hold, with their hosts where
    states may move there, on every framework that ``plan`` would take. PlannerError as ``plan`` for what is wrong with it."""
    model, cluster = as_model(arguments["model"]), as_cluster(arguments["cluster"])
    job, given = as_job(arguments["job"], cluster), arguments.get("framework")
    usual, _ = framework_of(given, model, cluster, job, None)
    others = (other.framework for other in leaner_frameworks(usual, cluster, job, RISK)) if given is None else ()

    def room(framework: Framework) -> float:
        moves = job.paged or {"offload_optimizer", "offload_parameters"} & set(framework.features)
        return cluster.num_gpus * (usable_bytes(cluster) + (host_usable_bytes(cluster) if moves else 0.0))

    return all(states_bytes(model, job, framework) > room(framework) for framework in (usual, *others))
