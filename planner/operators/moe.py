"""Mixture of experts: router, dispatch, grouped expert feed-forwards, combine, shared experts."""

from __future__ import annotations

import numpy as np

from planner.common.arrays import Number
from planner.model.architecture import LayerKind
from planner.operators.attention import dropout_and_residual, tensor_parallel_entrance, tensor_parallel_exit
from planner.operators.feed_forward import gated_or_plain
from planner.operators.row import Collective, Matmul, Row, communication, linear, pointwise
from planner.operators.setting import Setting
from planner.operators.weights import local_parameters

BLOCK = "moe"


def mixture_of_experts(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Rows of one MoE block. A rank routes its own tokens (s b / cp, / tp under sequence parallelism)."""
    return (
        *_router(setting, kind),
        *_dispatch(setting),
        *_experts(setting, kind),
        *_combine(setting),
        *_shared_experts(setting, kind),
        *dropout_and_residual(setting, BLOCK),
    )


def expert_tokens(setting: Setting) -> Number:
    """Token-expert pairs that the fullest rank computes: top_k t etp x load, or x capacity factor where tokens drop.

    Every rank of the expert group sends top_k t pairs and, on average, receives as many; the ranks of an expert's
    tensor-parallel group all see them. A capacity factor pads or drops to a fixed number (Switch, Fedus et al. 2021).
    """
    m = setting.model
    return float(m.top_k) * setting.sequence_tokens * setting.etp * _surplus(setting)


def _surplus(setting: Setting) -> Number:
    """Pairs on the fullest rank over the mean: a rank with all experts has the mean, one of ep at most ep times it."""
    m = setting.model
    return m.capacity_factor if m.capacity_factor is not None else np.minimum(setting.job.expert_load, setting.ep)


def _imbalance(setting: Setting) -> Number:
    """As the surplus, without padding to a capacity, which every rank computes."""
    return 1.0 if setting.model.capacity_factor is not None else _surplus(setting)


def _router(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Scores of all experts (kept in fp32), softmax, top-k, load-balance loss. The input is kept for its gradient."""
    m, w, t = setting.model, setting.width, setting.sequence_tokens
    h, experts = float(m.hidden_size), float(m.num_experts)
    kernels = 6.0 if setting.framework.fused_router else 20.0
    return (
        *linear(
            "router",
            BLOCK,
            Matmul(m=t, k=h, n=experts, dtype=setting.unquantized_dtype),
            width=w,
            saved_bytes=w * t * h,
            parameters=local_parameters(setting, kind, "router"),
        ),
        *pointwise(
            "top-k",
            BLOCK,
            forward_bytes=24.0 * t * experts,
            backward_bytes=24.0 * t * experts,
            kernels=kernels,
            saved_bytes=t * (_router_bytes_per_expert(setting) * experts + _routing_bytes_per_pair(setting) * m.top_k),
        ),
    )


def _router_bytes_per_expert(setting: Setting) -> float:
    """Logits and probabilities in fp32; the load-balance loss and a dense routing map in stacks that build them."""
    return 12.0 if setting.framework.activation_accounting == "megatron" else 4.0


def _routing_bytes_per_pair(setting: Setting) -> float:
    """Per token and chosen expert: probability (4), index (8); sorting by expert keeps three more indices and a copy (28)."""
    return 12.0 if setting.framework.activation_accounting == "megatron" else 40.0


def _dispatch(setting: Setting) -> tuple[Row, ...]:
    """Sort tokens by expert, send them to the experts' ranks. The received tokens are the experts' kept input."""
    m = setting.model
    counts = Row(
        name="token counts to the host",
        block=BLOCK,
        phase="forward",
        idle_s=setting.framework.expert_sync_s if m.capacity_factor is None and m.num_experts > 1 else 0.0,
    )
    return (
        counts,
        *_permute("permute", setting),
        *_exchange("dispatch", setting, "all_gather", "reduce_scatter"),
        *_sort_received("sort by expert", setting),
    )


def _combine(setting: Setting) -> tuple[Row, ...]:
    """Send results back, weigh them by the router's probabilities and sum the top-k of each token."""
    m, w = setting.model, setting.width
    kept = w * expert_tokens(setting) * float(m.hidden_size) if setting.framework.weighs_expert_outputs else 0.0
    return (
        *_sort_received("sort by rank", setting),
        *_exchange("combine", setting, "reduce_scatter", "all_gather"),
        *_permute("unpermute", setting, kept),
    )


def _permute(name: str, setting: Setting, kept: Number = 0.0) -> tuple[Row, ...]:
    m, w = setting.model, setting.width
    elements = float(m.top_k) * setting.sequence_tokens * float(m.hidden_size)
    kernels = 2.0 if setting.framework.grouped_experts else 6.0
    return pointwise(
        name,
        BLOCK,
        forward_bytes=2.0 * w * elements,
        backward_bytes=2.0 * w * elements,
        kernels=kernels,
        saved_bytes=kept,
    )


def _sort_received(name: str, setting: Setting) -> tuple[Row, ...]:
    """Received pairs lie by sending rank; a rank with several experts sorts them once more, and back after the experts.

    Where a token travels once per rank, its copies are made in expert order on arrival: that is the permutation itself.
    """
    m, f = setting.model, setting.framework
    if f.expert_dispatch == "tokens":
        return ()
    several = ((setting.ep > 1) & (setting.ep < m.num_experts)).astype(float)
    moved = np.asarray(2.0 * setting.width * expert_tokens(setting) * float(m.hidden_size) * several)
    return pointwise(name, BLOCK, forward_bytes=moved, backward_bytes=moved, kernels=2.0 * several)


def _exchange(name: str, setting: Setting, forward: Collective, backward: Collective) -> tuple[Row, ...]:
    """All-to-all over the expert-parallel group, gather or scatter over an expert's tensor-parallel group."""
    m, w = setting.model, setting.width
    pairs = expert_tokens(setting)
    message = w * pairs / setting.etp * float(m.hidden_size) * _distinct_ranks(setting)
    gathered = w * pairs * float(m.hidden_size)
    ep, etp = (setting.ep > 1).astype(float), (setting.etp > 1).astype(float)
    return (
        communication(f"{name} tokens", BLOCK, "forward", "all_to_all", "ep", message, ep),
        communication(f"{name} gradients", BLOCK, "backward", "all_to_all", "ep", message, ep),
        communication(f"{name} over etp", BLOCK, "forward", forward, "etp", gathered, etp),
        communication(f"{name} gradients over etp", BLOCK, "backward", backward, "etp", gathered, etp),
    )


def _distinct_ranks(setting: Setting) -> Number:
    """Ranks that a token's experts lie on over its experts: n (1 - (1 - 1/n)^k) / k, where copies for one rank travel once.

    Uniform routing of k experts over n ranks; DeepEP and HybridEP send so (DeepSeek-V3 report, section 3.2.2).
    """
    if setting.framework.expert_dispatch == "pairs":
        return 1.0
    k = float(setting.model.top_k)
    return np.asarray(setting.ep * (1.0 - np.power(1.0 - 1.0 / setting.ep, k)) / k)


def _experts(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """The rank's experts: E / ep groups with equal shares of its tokens, inner width f / etp."""
    m = setting.model
    pairs = expert_tokens(setting)
    local = m.num_experts / setting.ep
    grouped = setting.framework.grouped_experts
    return gated_or_plain(
        BLOCK,
        setting,
        tokens=pairs / local,
        width=float(m.expert_ffn_hidden_size or 0) / setting.etp,
        batch=local,
        input_bytes=setting.input_width * pairs * float(m.hidden_size),
        grouped=True,
        kernels=1.0 if grouped else local,
        useful=1.0 / _surplus(setting),
        imbalance=_imbalance(setting),
        parameters_in=local_parameters(setting, kind, "experts.in"),
        parameters_out=local_parameters(setting, kind, "experts.out"),
    )


def _shared_experts(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Experts that every token passes; they read the router's kept input and split over tp like a dense block."""
    m = setting.model
    if not m.num_shared_experts:
        return ()
    width = float(m.num_shared_experts * (m.shared_expert_ffn_hidden_size or 0)) / setting.tp
    block = "shared_expert"
    rows = gated_or_plain(
        block,
        setting,
        tokens=setting.tokens,
        width=width,
        batch=1.0,
        input_bytes=0.0,
        parameters_in=local_parameters(setting, kind, "shared.in") + local_parameters(setting, kind, "shared.gate"),
        parameters_out=local_parameters(setting, kind, "shared.out"),
    )
    entered = tensor_parallel_entrance(setting, block, rows, "in projection", m.hidden_size)
    return (*entered, *tensor_parallel_exit(setting, block))
