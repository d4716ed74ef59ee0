"""Which library carries tokens to their experts, where the framework leaves it to the fabric."""

from __future__ import annotations

from functools import lru_cache

from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.hardware.cluster import Cluster
from planner.model.architecture import Model
from planner.workload.attention import attention_notes, attention_on, compute_capability
from planner.workload.framework import Framework, Module, framework_names, load_framework, modules_of
from planner.workload.layout import Layout

NODE_GPUS = 8
"""GPUs that NVLink joins in one server at most; a larger domain is a rack (NVL72)."""
SOURCE = "NVIDIA-NeMo/Megatron-Bridge, docs/training/moe-optimization.md"
"""Hardware affinity: H100 and B200 of eight to a node DeepEP, GB200 and GB300 NVL72 HybridEP; alltoall runs everywhere."""
LIBRARIES = {"deepep": "DeepEP", "hybridep": "HybridEP"}
CAPABILITIES = (9, 10)
"""Major compute capabilities of Hopper and of Blackwell for data centers."""


def dispatcher_on(framework: Framework, cluster: Cluster, model: Model) -> Framework:
    """The framework with the dispatcher that "auto" stands for on this fabric, and that runs under a capacity.

    DeepEP on Hopper and Blackwell whose GPUs NVLink joins inside a server, HybridEP where it joins a rack, NCCL's all-to-all
    on everything else (SOURCE). Under a capacity NCCL's too, where nobody names another one than the framework's own: recipes
    that drop tokens refuse all others (Megatron-Bridge, apply_moe_token_drop). One that is named is taken, unless experts are
    padded to the capacity: DeepEP and HybridEP cannot (Megatron-Core, token_dispatcher.py, MoEFlexTokenDispatcher).
    """
    named = framework.dispatcher
    if not model.num_experts:
        return framework
    if model.capacity_factor is None:
        return _by_fabric(framework, cluster) if named == "auto" else framework
    if named == "auto" or (named in LIBRARIES and named == _usual_dispatcher(framework.name)):
        return framework.replaced(dispatcher="alltoall")
    if named in LIBRARIES and framework.pads_to_capacity:
        raise PlannerError(
            "framework.dispatcher = {0!r}: does not pad experts to a capacity; give framework.dispatcher = alltoall, or "
            "framework.pads_to_capacity = false.",
            named,
        )
    return framework


@lru_cache(maxsize=256)
def _usual_dispatcher(name: str) -> str:
    """The dispatcher of the catalog's framework of this name; none of a framework that the catalog does not have."""
    return load_framework(name).dispatcher if name in framework_names() else ""


@lru_cache(maxsize=256)
def _by_fabric(framework: Framework, cluster: Cluster) -> Framework:
    span = nvlink_gpus(cluster)
    return framework.replaced(dispatcher="hybridep" if span > NODE_GPUS else "deepep" if span else "alltoall")


def nvlink_gpus(cluster: Cluster) -> int:
    """GPUs that NVLink joins, of Hopper and of Blackwell for data centers; 0 on everything else."""
    capability = compute_capability(cluster.accelerator)
    spans = [link.span or cluster.num_gpus for link in cluster.node.links if link.kind == "nvlink"]
    return max(spans, default=0) if capability is not None and capability[0] in CAPABILITIES else 0


@lru_cache(maxsize=1024)
def runs_deepep(cluster: Cluster, ranks: int) -> bool:
    """Whether DeepEP carries tokens between ``ranks`` neighbouring GPUs: Hopper or Blackwell, joined by NVLink in a server and by
    RDMA between servers (deepseek-ai/DeepEP, README: requirements)."""
    span = nvlink_gpus(cluster)
    return span > 0 and (ranks <= span or any(link.rdma for link in cluster.node.links))


@lru_cache(maxsize=256)
def _redoing(framework: Framework, modules: frozenset[Module]) -> Framework:
    return framework.replaced(recompute_modules=modules)


def modules_on(framework: Framework, model: Model) -> Framework:
    """The framework with what selective recomputation redoes of a mixture of experts where nobody says it.

    Fused attention keeps nothing that a second run would spare. What mixtures of experts spare instead, norms, activations of
    experts and up-projections of latent attention, costs little (DeepSeek-V3, arXiv:2412.19437, section 3.2.3;
    NVIDIA-NeMo/Megatron-Bridge, docs/training/moe-optimization.md).
    """
    usual = framework.usual_recompute_modules
    if not usual or framework.recompute_modules is not None or not model.num_experts or framework.attention_kernel != "flash":
        return framework
    latent = any(model.of(kind).attention == "mla" for kind in model.layer_kinds)
    return _redoing(framework, frozenset(m for m in usual if m != "mla_up_proj" or latent))


def stack_on(framework: Framework, cluster: Cluster, model: Model) -> Framework:
    """The framework with the attention kernel, the recomputed modules and the dispatcher that it runs on the cluster."""
    apart = model.disentangled_positions > 0
    fused = attention_on(framework, cluster.accelerator, model.attention_sinks, model.position_bias, apart)
    return dispatcher_on(modules_on(fused, model), cluster, model)


def stack_notes(framework: Framework, cluster: Cluster, model: Model, layout: Layout) -> tuple[str, ...]:
    """What a reader should know of what ``stack_on`` chose."""
    apart = model.disentangled_positions > 0
    notes = attention_notes(framework, cluster.accelerator, model.attention_sinks, model.position_bias, apart)
    stack = stack_on(framework, cluster, model)
    if layout.recompute == "selective" and stack.recompute_modules not in (None, framework.recompute_modules):
        modules = ", ".join(sorted(modules_of(stack)))
        redone = Message("recomputed: {0}, as usual for mixtures of experts; framework.recompute_modules says otherwise", modules)
        notes = (*notes, redone)
    if model.num_experts and not framework.fused_permutation and framework.permutation_option:
        notes = (*notes, Message("tokens are permuted without fused kernels; {0} fuses them", framework.permutation_option))
    runs = stack.dispatcher
    if framework.dispatcher in LIBRARIES and runs != framework.dispatcher:
        said = Message("experts' tokens travel by alltoall, not {0}: experts have a capacity", LIBRARIES[framework.dispatcher])
        return (*notes, said)
    if framework.dispatcher != "auto" or layout.ep == 1 or runs not in LIBRARIES:
        return notes
    said = Message(
        "experts' tokens travel by {0}, the usual choice on {1}; where it is not installed: framework.dispatcher = alltoall",
        LIBRARIES[runs],
        cluster.node.name,
    )
    return (*notes, said)
