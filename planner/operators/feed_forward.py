"""Dense feed-forward: two linear layers around a plain or gated activation."""

from __future__ import annotations

from planner.common.arrays import Number
from planner.model.architecture import LayerKind, Model
from planner.operators.attention import dropout_and_residual, tensor_parallel_entrance, tensor_parallel_exit
from planner.operators.row import Row, ShardGroup, linear, pointwise
from planner.operators.setting import Setting
from planner.operators.weights import operator_parameters, product
from planner.workload.framework import Framework

BLOCK = "feed_forward"


def feed_forward(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Rows of a dense feed-forward block, from the normalized input to the residual sum."""
    m, t = setting.model, setting.tokens
    # in a parallel block, attention has already gathered and kept the common input
    shared_input = m.parallel_attention and m.norms_per_layer == 1
    kept = 0.0 if shared_input else setting.input_width * setting.sequence_tokens * float(m.hidden_size)
    rows = gated_or_plain(BLOCK, setting, kind, tokens=t, input_bytes=kept)
    if not m.parallel_attention:
        rows = (
            *tensor_parallel_entrance(setting, BLOCK, rows, "in projection", m.hidden_size),
            *tensor_parallel_exit(setting, BLOCK),
        )
    return (*rows, *dropout_and_residual(setting, BLOCK))


def gated_or_plain(
    block: str,
    setting: Setting,
    kind: LayerKind,
    *,
    tokens: Number,
    input_bytes: Number,
    kernels: Number = 1.0,
    useful: Number = 1.0,
    imbalance: Number = 1.0,
) -> tuple[Row, ...]:
    """in -> activation -> out; of experts on each of the rank's groups, of ``tokens`` tokens."""
    m, w = setting.model, setting.width
    lanes = 2.0 if m.gated_ffn else 1.0
    into, out = (product(setting, kind, block, f"{way} projection", tokens) for way in ("in", "out"))
    elements = tokens * out.batch * out.k
    separate = setting.framework.layer_linears == "separate" and m.gated_ffn and not out.grouped
    shard: ShardGroup = "expert" if out.grouped else "dense"
    forward, backward, launches, launches_back = _activation_cost(setting.framework, m, w)
    return (
        *linear(
            "in projection",
            block,
            into,
            width=w,
            saved_bytes=input_bytes,
            parameters=operator_parameters(setting, kind, block, "in projection"),
            shard_group=shard,
            kernels=(2.0 if separate else 1.0) * kernels,
            useful=useful,
            imbalance=imbalance,
        ),
        *_clamped(setting, block, elements, kernels),
        *pointwise(
            "activation",
            block,
            forward_bytes=forward * elements,
            backward_bytes=backward * elements,
            kernels=launches * kernels,
            backward_kernels=launches_back * kernels,
            saved_bytes=activation_saved_bytes(setting.framework, m, w) * elements,
            workspace_bytes=w * elements * (1.0 + lanes),  # gradients of its output and of its inputs
        ),
        *linear(
            "out projection",
            block,
            out,
            width=w,
            saved_bytes=setting.input_width * elements,
            parameters=operator_parameters(setting, kind, block, "out projection"),
            shard_group=shard,
            kernels=kernels,
            useful=useful,
            imbalance=imbalance,
            backward_workspace_bytes=w * elements,
        ),
    )


def _clamped(setting: Setting, block: str, elements: Number, kernels: Number) -> tuple[Row, ...]:
    """Gate and values are clamped by kernels of their own in front of the activation, which keep what they clamp; none with
    torch.compile.

    A fused activation wants both halves in one tensor: they are joined again (Megatron-LM, core/fusions/fused_bias_geglu.py,
    weighted_bias_quick_geglu_impl). Bytes an inner element, width w: limits read and write both halves, 4 w; the join 4 w more.
    Backward (PyTorch, clamp_backward): a gate is compared, w + 1, and its gradient chosen, 1 + 2 w; a value is compared twice,
    both answers joined, 3, and chosen; the halves are put together again, 4 w. Unfused, gate and values are every other
    element of one tensor (transformers, modeling_gpt_oss.py): the gradient of each is copied into zeros of both halves, 4 w,
    and the two are added, 6 w.
    """
    w, framework = setting.width, setting.framework
    if setting.model.activation != "clamped_quick_gelu" or framework.compile:
        return ()
    fused = framework.fused_activation
    return pointwise(
        "clamp",
        block,
        forward_bytes=(8.0 if fused else 4.0) * w * elements,
        backward_bytes=((11.0 if fused else 21.0) * w + 8.0) * elements,
        kernels=(3.0 if fused else 2.0) * kernels,
        backward_kernels=(7.0 if fused else 11.0) * kernels,
        saved_bytes=2.0 * w * elements,
    )


def activation_saved_bytes(framework: Framework, model: Model, width: float) -> float:
    """Bytes kept per inner element besides the output, which the out projection keeps.

    Plain: the activation's input (ReLU keeps its output only, which is the next input). Gated and fused: gate and up.
    Gated, eager: gate, up and the activated gate; gpt-oss's, gate sigmoid(1.702 gate) (up + 1) in PyTorch's operators, keeps
    the gate, its sigmoid, their product and up + 1 (transformers, modeling_gpt_oss.py). GPT-2's tanh formula written in Python
    keeps several intermediates.
    """
    if model.gated_ffn:
        eager = 4.0 if model.activation == "clamped_quick_gelu" else 3.0
        return 2.0 * width if framework.fused_activation else eager * width
    if model.activation == "relu":
        return 0.0
    if model.activation == "gelu_tanh" and not framework.fused_activation:
        return 4.0 * width
    return width


def _activation_cost(framework: Framework, model: Model, width: float) -> tuple[float, float, float, float]:
    """Bytes moved forward and backward per inner element, and kernels of either pass.

    gpt-oss's in PyTorch's operators: forward, a product with a number, a sigmoid and a sum with a number, 2 w each, and two
    products, 3 w each. Backward, two gradients of each product, the sigmoid's, and the sum of the gate's two, 3 w each, and a
    product with a number, 2 w.
    """
    if model.gated_ffn:
        if framework.fused_activation:
            return (3.0 * width, 5.0 * width, 1.0, 1.0)
        if model.activation == "clamped_quick_gelu":
            return (12.0 * width, 20.0 * width, 5.0, 7.0)
        return (5.0 * width, 8.0 * width, 2.0, 2.0)
    if model.activation == "gelu_tanh" and not framework.fused_activation:
        return (16.0 * width, 20.0 * width, 8.0, 8.0)
    return (2.0 * width, 3.0 * width, 1.0, 1.0)
