"""The framework that is taken where none is named: by job, model, accelerator and number of GPUs, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.common.message import Message
from planner.hardware.cluster import Cluster, runs_on
from planner.model.architecture import Model
from planner.workload.attention import AMPERE, compute_capability
from planner.workload.framework import Framework, load_framework, mixes_time
from planner.workload.job import ADAPTERS, Job
from planner.workload.layout import Layout


@dataclass(frozen=True, kw_only=True)
class DefaultFramework:
    """A framework and in words why it is taken; ``faster``: why, where the usual one fits but this one takes less time."""

    framework: Framework
    why: str
    faster: str = ""


def default_framework(model: Model, cluster: Cluster, job: Job, layout: Layout | None = None) -> DefaultFramework:
    """The framework that such a job is usually run with; a ``layout`` must be one that it offers.

    peft for adapters; transformers' Trainer for one GPU and for encoders; FSDP for a dense model on one node; Megatron-Core for
    several nodes and mixtures of experts, its 2022 ancestor before Ampere, which Transformer Engine's fused kernels need.
    """
    usual = list(_usual(model, cluster, job))
    for name, why in usual:
        framework = load_framework(name)
        layers = not mixes_time(model) or "time_mixing" in framework.features
        if layers and _able(framework, cluster, job) and (layout is None or _offers(framework, layout)):
            return DefaultFramework(
                framework=framework, why=Message("framework chosen: {0}, {1}; name another in [framework]", name, why)
            )
    name, why = "megatron-core", "which offers what the layout asks for"
    return DefaultFramework(
        framework=load_framework(name), why=Message("framework chosen: {0}, {1}; name another in [framework]", name, why)
    )


def leaner_frameworks(usual: Framework, cluster: Cluster, job: Job, risk: float) -> Iterator[DefaultFramework]:
    """What is taken where no layout of ``usual`` fits at the accepted ``risk``, in turn: for adapters peft with Liger's kernels,
    whose loss holds no logits; FSDP, which shards all states and moves them to the host; where FSDP is ``usual``, Megatron-Core,
    which takes more learning and is therefore no answer where FSDP fits.

    Where ``usual`` fits, what takes less time: of adapters always, so that a GPU with more memory is not the slower one for
    holding what a smaller one cannot; else where ``usual`` moves states to the host.
    """
    for name, sense in _leaner(usual, cluster, job):
        framework = load_framework(name)
        if usual.name != name and _able(framework, cluster, job):
            why = Message(
                "framework chosen: {0}, {1}; no layout of {2}, the usual one, fits with a probability of {3}; name another in "
                "[framework]",
                name,
                sense,
                usual.name,
                f"{1.0 - risk:.0%}",
            )
            faster = Message(
                "framework chosen: {0}, {1}; it takes less time than {2}, the usual one, which is short of memory here; name "
                "another in [framework]",
                name,
                sense,
                usual.name,
            )
            if job.frozen:
                faster = Message(
                    "framework chosen: {0}, {1}; it takes less time than {2}, the usual one; name another in [framework]",
                    name,
                    sense,
                    usual.name,
                )
            yield DefaultFramework(framework=framework, why=why, faster="" if usual.name == "fsdp" else faster)


def _leaner(usual: Framework, cluster: Cluster, job: Job) -> Iterator[tuple[str, str]]:
    """(name, what it spares)."""
    if job.kind in ADAPTERS:
        yield "liger", "whose fused loss holds no logits"
    if not (cluster.num_gpus == 1 and job.frozen):  # nothing to shard, and the states of adapters are too small to move
        yield "fsdp", "which shards all states and can move them to the host"
    if usual.name == "fsdp" and cluster.num_gpus > 1:
        yield _megatron(cluster), "which cuts layers over GPUs and can move the optimizer alone"


def quicker_frameworks(usual: Framework, cluster: Cluster, job: Job) -> Iterator[Framework]:
    """What people change to for time alone, which takes learning: Megatron-Core from FSDP, Liger's kernels for adapters."""
    names = {"fsdp": (_megatron(cluster),) if cluster.num_gpus > 1 else (), "peft": ("liger",)}
    yield from (found for name in names.get(usual.name, ()) if _able(found := load_framework(name), cluster, job))


def _megatron(cluster: Cluster) -> str:
    """Megatron-Core; before Ampere its ancestor of 2022."""
    return "megatron-2022" if (compute_capability(cluster.accelerator) or AMPERE) < AMPERE else "megatron-core"


def _usual(model: Model, cluster: Cluster, job: Job) -> Iterator[tuple[str, str]]:
    """(name, reason), the most usual first; the later ones for layouts or precisions that the first does not offer."""
    megatron = _megatron(cluster)
    single = model.memory_length > 0 or model.relative_attention or model.disentangled_positions > 0
    if job.kind in ADAPTERS:
        yield "peft", "the usual one for adapters"
    if cluster.num_gpus == 1:
        yield "huggingface", "the usual one for a single GPU"
    if model.cross_attention:
        yield "fsdp", "the usual one for encoder-decoders on several GPUs"
    if model.reads_images:
        yield "fsdp", "the usual one for layers that attend to images on several GPUs"
    if model.architecture == "encoder" or single:
        yield "huggingface", "the usual one for encoders and relative positions"
    if model.num_experts:
        yield "megatron-core", "which spreads experts over GPUs and multiplies them in groups"
    if cluster.num_nodes == 1:
        yield "fsdp", "the usual one for a model on a single node"
    yield megatron, "the usual one for several nodes" if cluster.num_nodes > 1 else "which offers what the layout asks for"
    yield "fsdp", "which runs on these accelerators"
    yield "jax-xla", "which runs on these accelerators"


def _able(framework: Framework, cluster: Cluster, job: Job) -> bool:
    """Whether the framework runs on the accelerators and trains in the job's precision."""
    if not runs_on(cluster.accelerator, framework):
        return False
    return job.precision not in ("fp8", "nvfp4") or "fp8" in framework.features


def _offers(framework: Framework, layout: Layout) -> bool:
    """Whether the framework has every feature that the layout takes."""
    wanted = {
        "tp": layout.tp > 1,
        "sequence_parallel": layout.sequence_parallel and layout.tp > 1,
        "pp": layout.pp > 1,
        "vpp": layout.vpp > 1,
        "zero_bubble": layout.schedule == "zero-bubble",
        "cp": layout.cp > 1,
        "ep": layout.ep > 1,
        "etp": layout.etp > 1,
        f"zero{layout.zero}": layout.zero > 0,
        "hybrid_shard": layout.shard_group_size > 0,
        "offload_optimizer": layout.offload_optimizer,
        "offload_parameters": layout.offload_parameters,
        "offload_activations": layout.offload_activations,
        "offload_checkpoints": layout.offload_activations and layout.recompute != "none",
        "selective_recompute": layout.recompute == "selective",
    }
    shards = framework.mixed_precision != "sharded_fp32" or layout.zero >= 2
    return shards and all(feature in framework.features for feature, asked in wanted.items() if asked)
