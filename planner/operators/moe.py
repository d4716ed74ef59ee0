"""Mixture of experts: router, dispatch, grouped expert feed-forwards, combine, shared experts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.common.arrays import Number
from planner.model.architecture import LayerKind
from planner.operators.attention import dropout_and_residual, tensor_parallel_entrance, tensor_parallel_exit
from planner.operators.feed_forward import gated_or_plain
from planner.operators.routing import distinct_places, kept_pairs
from planner.operators.row import Collective, Matmul, Phase, Row, changed, communication, pointwise, streamed
from planner.operators.setting import Setting
from planner.operators.weights import projected
from planner.workload.framework import Framework

BLOCK = "moe"
PAIRS = ("alltoall", "auto")
"""Dispatchers that send each pair of token and expert; "auto" where no fabric is known."""
LOOP_KERNELS = 3.0
"""Of an expert in a loop, before and after it: its tokens are found (nonzero) and gathered; weighed and added. Counted."""
GATHER_RATE, ADD_RATE = 0.45, 0.1
"""Of PyTorch's indexing over a kernel that streams whole tokens: gathered, and added one element after the other (atomic adds of
index_add_, scatter_add_ and of indexing's gradient). 65,536 rows of 4,096 in 16 bit: 0.44 and 2.30 ms against 0.20 (DeepLink-org/
DLBlas#66); 196,608 rows of 2,048 on B200: 0.59 and 1.85 ms (pytorch/ao#4623), 0.11 of its bandwidth. scatter_add_ beside a fused
sum: a tenth (tile-ai/TileOPs#608)."""


def mixture_of_experts(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Rows of one MoE block. A rank routes its own tokens (s b / cp, / tp under sequence parallelism)."""
    inner = replace(setting, model=setting.model.inside_experts)
    return (
        *_router(setting, kind),
        *_latent(setting, kind, "in"),
        *_dispatch(inner),
        *_experts(inner, kind),
        *_expert_biases(inner),
        *_combine(inner),
        *_latent(setting, kind, "out"),
        *_shared_experts(setting, kind),
        *dropout_and_residual(setting, BLOCK),
    )


def _latent(setting: Setting, kind: LayerKind, way: str) -> tuple[Row, ...]:
    """Experts of narrow vectors: every token goes down before it is sent, and up once it is summed (Nemotron 3, latent MoE)."""
    t, narrow = setting.sequence_tokens, setting.model.expert_latent_size
    if narrow is None:
        return ()
    kept = 0.0 if way == "in" else setting.input_width * t * float(narrow)  # the router keeps what goes down
    return projected(setting, kind, BLOCK, f"latent {way}", t, saved_bytes=kept)


def expert_tokens(setting: Setting) -> Number:
    """Token-expert pairs that the fullest rank computes: top_k t etp x load, or x capacity factor where tokens drop.

    Every rank of the expert group sends top_k t pairs and, on average, receives as many; the ranks of an expert's
    tensor-parallel group all see them. A capacity factor c pads or drops to a fixed number (Switch, Fedus et al. 2021), or drops
    without padding (Megatron-Core unless --moe-pad-expert-input-to-capacity is given): what the fullest rank's experts keep.
    """
    m = setting.model
    return float(m.top_k) * setting.sequence_tokens * setting.etp * _surplus(setting)


def _surplus(setting: Setting) -> Number:
    """Pairs on the fullest rank over the mean: a rank with all experts has the mean, one of ep at most ep times it."""
    m = setting.model
    if m.capacity_factor is not None and setting.framework.pads_to_capacity:
        return m.capacity_factor
    return setting.kept_load


def _counts(setting: Setting) -> bool:
    """Whether how many pairs an expert gets is known only once the router has chosen: unless all are padded to a capacity."""
    return setting.model.capacity_factor is None or not setting.framework.pads_to_capacity


def _imbalance(setting: Setting) -> Number:
    """As the surplus, over what a rank has of its own tokens; without padding to a capacity, which every rank computes."""
    return _surplus(setting) / kept_pairs(setting.model, setting.job, setting.ep) if _counts(setting) else 1.0


def _own_pairs(setting: Setting) -> Number:
    """Token-expert pairs that come back to a rank: those of its own tokens, however unevenly the experts got them."""
    return expert_tokens(setting) / setting.etp / _imbalance(setting)


def _in_turn(setting: Setting) -> float:
    """Experts of which each token takes neighbours: all, under a forced router that gives them out in turn; else 0."""
    turns = setting.job.routing == "forced" and setting.framework.forced_routing == "in_turn"
    return float(setting.model.num_experts) if turns else 0.0


def _router(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Scores of all experts (kept in fp32), softmax, top-k, load-balance loss. The input is kept for its gradient."""
    m, w, t = setting.model, setting.width, setting.sequence_tokens
    h, experts = float(m.hidden_size), float(m.num_experts + m.num_zero_experts)
    kernels = 6.0 if setting.framework.fused_router else 20.0
    return (
        *projected(setting, kind, BLOCK, "router", t, saved_bytes=w * t * h, dtype=setting.unquantized_dtype),
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
    """Logits and probabilities in fp32; the load-balance loss and a dense routing map in frameworks that build them."""
    return 12.0 if setting.framework.activation_accounting == "megatron" else 4.0


def _routing_bytes_per_pair(setting: Setting) -> float:
    """Per token and chosen expert: probability (4), index (8); sorting by expert keeps three more indices and a copy (28)."""
    return 12.0 if setting.framework.activation_accounting == "megatron" else 40.0


def _dispatch(setting: Setting) -> tuple[Row, ...]:
    """Sort tokens by expert, send them to the experts' ranks. The received tokens are the experts' kept input.

    Dispatch, permutation and grouped multiplications are many small calls, which take as long as the host where that is longer
    than the device's work. Unless all are padded to a capacity, the host reads how many tokens each expert got before it can
    launch them: it waits for the router, and nothing is queued ahead. The backward pass knows the counts: the host runs ahead
    there, as it does under such a capacity.
    """
    m = setting.model
    launches = m.num_experts > 1 and setting.framework.cuda_graphs != "full"
    asks = launches and _counts(setting)
    host = setting.framework.expert_host_s if launches else 0.0
    return (
        Row(name="token counts to the host", block=BLOCK, phase="forward", host_s=host, host_waits=asks),
        Row(name="token counts to the host gradient", block=BLOCK, phase="backward", host_s=host),
        *_permute("permute", setting),
        *_exchange("dispatch", setting, "all_gather", "reduce_scatter", arriving=1.0),
        *_sort_received("sort by expert", setting),
        *_pad("pad for fp8", setting),
    )


def _combine(setting: Setting) -> tuple[Row, ...]:
    """Send results back, weigh them by the router's probabilities and sum the top-k of each token."""
    m, f = setting.model, setting.framework
    width = 4.0 if _weighs_in_fp32(f) else setting.width
    kept = width * _weighed(setting) * float(m.hidden_size) if f.weighs_expert_outputs else 0.0
    return (
        *_pad("unpad", setting),
        *_sort_received("sort by rank", setting),
        *_exchange("combine", setting, "reduce_scatter", "all_gather", arriving=1.0 / _imbalance(setting)),
        *_weigh(setting),
        *_permute("unpermute", setting, kept),
    )


def _weighed(setting: Setting) -> Number:
    """Pairs whose output meets its probability: back on the tokens' own rank where each pair travels and PyTorch's operators
    weigh it (torchtitan, models/moe.py), else on the experts'."""
    f = setting.framework
    return _own_pairs(setting) if f.dispatcher in PAIRS and not f.fused_permutation else expert_tokens(setting)


def _weighs_in_fp32(framework: Framework) -> bool:
    """Whether outputs are weighed as fp32 tensors; compiled, they are read in 16 bit by a kernel that casts on the way."""
    return framework.weighs_in_fp32 and not framework.compile


def _weigh(setting: Setting) -> tuple[Row, ...]:
    """A product of outputs and probabilities that no kernel takes along: read and written, backward for both gradients.
    torch.compile puts it into the kernel that adds.

    In fp32 (torchtitan, models/moe.py, top_scores_experts_sorted) outputs are cast there and back, w + 4 each, beside the
    product, 8. Backward its gradient is cast, w + 4, multiplied by the probability, 8, and by the output, whose products are
    summed, 16, and cast back, 4 + w; the cast gradient and both products are alive together.
    """
    f, w = setting.framework, setting.width
    if f.fused_permutation or f.compile or not (f.weighs_expert_outputs and f.grouped_experts):
        return ()
    elements = _weighed(setting) * float(setting.model.hidden_size)
    if _weighs_in_fp32(f):
        return pointwise(
            "weigh outputs",
            BLOCK,
            forward_bytes=(2.0 * w + 16.0) * elements,
            backward_bytes=(2.0 * w + 32.0) * elements,
            kernels=3.0,
            backward_kernels=5.0,
            workspace_bytes=12.0 * elements,
        )
    held = w * elements
    return pointwise("weigh outputs", BLOCK, forward_bytes=2.0 * held, backward_bytes=4.0 * held, backward_kernels=2.0)


def _permute(name: str, setting: Setting, kept: Number = 0.0) -> tuple[Row, ...]:
    """Each token is read once and written top_k times, or the other way round: (1 + 1 / top_k) w an element moved.

    DeepEP delivers a token once to each rank of its experts, where it is read for its copies: (1 + ranks / top_k) w. HybridEP
    does this inside its exchange (dispatch_with_permute, combine_with_unpermute: deepseek-ai/DeepEP, hybrid-ep). A loop over
    experts finds, gathers, weighs and adds each one's tokens (transformers, MixtralSparseMoeBlock). Without fused kernels
    (Megatron-LM, --moe-permute-fusion) PyTorch's indexing gathers, and adds one element after the other on the way back;
    torch.compile gathers in kernels that stream, and adds likewise.

    What exceeds a capacity is dropped before it, and padding is written (Megatron-Core, moe_utils.py, ``num_out_tokens`` and
    ``drop_and_pad`` of permute). Pairs that travel are permuted where their tokens are, others on their experts' rank.
    """
    m, w, f = setting.model, setting.width, setting.framework
    elements = (_own_pairs(setting) if f.dispatcher in PAIRS else expert_tokens(setting)) * float(m.hidden_size)
    across = (setting.ep > 1).astype(float)
    arriving: Number = 1.0
    if f.dispatcher == "deepep":
        arriving = np.where(across > 0, distinct_places(setting.ep, m.chosen_groups, float(m.top_k), _in_turn(setting)), 1.0)
    moved = (1.0 + arriving / float(m.top_k)) * w * elements
    if f.dispatcher == "hybridep":
        moved = moved * (1.0 - across)
    kernels = 2.0 if setting.framework.grouped_experts else LOOP_KERNELS * m.num_experts / setting.ep
    rows = pointwise(name, BLOCK, forward_bytes=moved, backward_bytes=moved, kernels=kernels, saved_bytes=kept)
    if not f.grouped_experts:
        return rows
    if f.fused_permutation:
        return streamed(rows)
    gathers: Phase = "forward" if name == "permute" else "backward"
    gather = None if f.compile else GATHER_RATE
    rates = [gather if row.phase == gathers else ADD_RATE for row in rows]
    return tuple(changed(row, own_rate=rate) for row, rate in zip(rows, rates, strict=True))


def _sort_received(name: str, setting: Setting) -> tuple[Row, ...]:
    """Received pairs lie by sending rank; a rank with several experts sorts them once more, and back after the experts.

    Where a token travels once to a rank, its copies are made in expert order on arrival: that is the permutation itself.
    """
    m, f = setting.model, setting.framework
    if f.dispatcher not in PAIRS:
        return ()
    several = ((setting.ep > 1) & (setting.ep < m.num_experts)).astype(float)
    moved = np.asarray(2.0 * setting.width * expert_tokens(setting) * float(m.hidden_size) * several)
    return streamed(pointwise(name, BLOCK, forward_bytes=moved, backward_bytes=moved, kernels=2.0 * several))


def _pad(name: str, setting: Setting) -> tuple[Row, ...]:
    """FP8 products want each expert's tokens in multiples of 16 or 32: a copy pads what arrived, another drops the padding.

    Of experts that are not padded to a capacity, unless the router fills up (Megatron-Core, moe_router_padding_for_fp8) or
    HybridEP does as it permutes.
    """
    m, f = setting.model, setting.framework
    pads = f.pads_expert_tokens and setting.precision.matmul in ("fp8", "fp4") and _counts(setting)
    if not pads or f.dispatcher == "hybridep":
        return ()
    held = setting.width * expert_tokens(setting) * float(m.hidden_size)
    rows = pointwise(name, BLOCK, forward_bytes=2.0 * held, backward_bytes=2.0 * held, workspace_bytes=held)
    return streamed(rows)


def _exchange(name: str, setting: Setting, forward: Collective, backward: Collective, *, arriving: Number) -> tuple[Row, ...]:
    """Tokens to their experts' ranks or back; gather or scatter over an expert's tensor-parallel group.

    The fullest rank receives its surplus, and sends it back: ``arriving`` is what a rank is left with of the forward message.

    ``alltoall`` sends each token-expert pair (Megatron-Core, AllToAllDispatcher). ``deepep`` and ``hybridep`` send a token once
    to each node of its experts, over the network, and there once to each of their ranks (DeepSeek-V3 report, section
    3.2.2). ``allgather`` gives every rank all tokens and sums the results over all ranks.
    """
    m, w, f = setting.model, setting.width, setting.framework
    pairs = expert_tokens(setting)
    gathered = w * pairs * float(m.hidden_size)
    ep, etp = (setting.ep > 1).astype(float), (setting.etp > 1).astype(float)
    if f.dispatcher == "allgather":
        everything = w * setting.sequence_tokens * setting.ep * float(m.hidden_size)
        sent: tuple[Row, ...] = (
            communication(f"{name} tokens", BLOCK, "forward", forward, "ep", everything, ep),
            communication(f"{name} gradients", BLOCK, "backward", backward, "ep", everything, ep),
        )
    else:
        message = gathered / setting.etp
        once = f.dispatcher not in PAIRS
        copies = float(m.top_k) if once else None
        message = message / float(m.top_k) if once else message
        phases: tuple[tuple[str, Phase], ...] = (("tokens", "forward"), ("gradients", "backward"))
        sent = tuple(
            changed(
                communication(f"{name} {what}", BLOCK, phase, "all_to_all", "ep", message, ep),
                copies=copies,
                groups=m.chosen_groups,
                in_turn=_in_turn(setting),
                arriving=arriving if phase == "forward" else 1.0,
            )
            for what, phase in phases
        )
    return (
        *sent,
        communication(f"{name} over etp", BLOCK, "forward", forward, "etp", gathered, etp),
        communication(f"{name} gradients over etp", BLOCK, "backward", backward, "etp", gathered, etp),
    )


def _experts(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """The rank's experts: E / ep groups with equal shares of its tokens, inner width f / etp."""
    m = setting.model
    pairs = expert_tokens(setting)
    local = m.num_experts / setting.ep
    grouped = setting.framework.grouped_experts and setting.framework.grouped_kernel == "one"
    rows = gated_or_plain(
        BLOCK,
        setting,
        kind,
        tokens=pairs / local,
        input_bytes=setting.input_width * pairs * float(m.hidden_size),
        kernels=1.0 if grouped else local,
        useful=1.0 / _surplus(setting),
        imbalance=_imbalance(setting),
    )
    return _group_after_group(rows, setting, local)


def _group_after_group(rows: tuple[Row, ...], setting: Setting, groups: Number) -> tuple[Row, ...]:
    """A grouped product that the library runs as a loop: each group costs the host ``framework.host_s_per_group``.

    That is more than a kernel's launch: three tensors are sliced each time. What stands between the products is one kernel
    over all groups' tokens, as beside a product in one kernel.
    """
    f = setting.framework
    if not f.grouped_experts or f.grouped_kernel == "one":
        return rows
    more = 0.0 if f.host_s_per_group is None else f.host_s_per_group - f.host_s_per_kernel
    return tuple(
        changed(row, host_s=row.host_s + row.kernels * more)
        if isinstance(row.work, Matmul)
        else changed(row, kernels=row.kernels / groups)
        for row in rows
    )


def _expert_biases(setting: Setting) -> tuple[Row, ...]:
    """Biases of grouped experts' outputs: a grouped multiplication adds none, so tokens are split by expert, each part gets its
    bias times the router's probability in fp32, and the parts are put together and cast back (NVIDIA-NeMo/Automodel#3387).

    Bytes an element, forward: product 4, sum 2 + 4 + 4, joining 8, cast 4 + 2. Backward: cast 6; of the bias and of the
    probability, a product read, written and summed, 12 each; cast 6. Counted.
    """
    m = setting.model
    if not (m.ffn_bias and setting.framework.grouped_experts):
        return ()
    elements = expert_tokens(setting) * float(m.hidden_size)
    local = m.num_experts / setting.ep
    return pointwise(
        "expert biases",
        BLOCK,
        forward_bytes=28.0 * elements,
        backward_bytes=36.0 * elements,
        kernels=2.0 * local + 2.0,
        backward_kernels=4.0 * local + 2.0,
    )


def _shared_experts(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Experts that every token passes; they read the router's kept input and split over tp like a dense block."""
    m = setting.model
    if not m.num_shared_experts:
        return ()
    block = "shared_expert"
    rows = gated_or_plain(block, setting, kind, tokens=setting.tokens, input_bytes=0.0)
    entered = tensor_parallel_entrance(setting, block, rows, "in projection", m.hidden_size)
    return (*entered, *tensor_parallel_exit(setting, block))
