"""The model's exit: final norm, logits over the vocabulary, cross-entropy."""

from __future__ import annotations

import numpy as np

from planner.common.arrays import Number
from planner.model.parameters import head_parameters
from planner.operators.attention import tensor_parallel_entrance
from planner.operators.norm import norm
from planner.operators.row import Matmul, Row, alignment, changed, communication, linear, pointwise, streamed
from planner.operators.setting import Setting
from planner.operators.weights import on_one_rank

BLOCK = "head"
VOCABULARY_STEP = 128
"""Words of a rank that padding reaches a multiple of: Megatron-LM's default of --make-vocab-size-divisible-by."""


def head(setting: Setting) -> tuple[Row, ...]:
    """Rows of final norm, output layer and loss. A tied output layer has no parameters of its own.

    Backward, the gradient of the logits and that of the output layer are alive together: w (t + h) V / tp bytes. Of a loss in n
    chunks, the output layer is n products of t / n tokens, each of which reads the weight and writes a gradient of its own; the
    gradients are summed. That they are launched n times is counted for the host; the device's few microseconds each are left out.
    Of a loss cut by size (Liger), the products are counted as one of all tokens.
    """
    m, w, t = setting.model, setting.width, setting.tokens
    h, vocabulary = float(m.hidden_size), m.vocab_size / setting.tp
    elements = setting.sequence_tokens * h
    parameters = on_one_rank(setting, head_parameters(m))
    rows: tuple[Row, ...] = ()
    if m.final_norm:
        rows += norm("final norm", BLOCK, setting, elements, rows_of=h)
    if m.head == "none":
        return (*rows, Row(name="pooler", block=BLOCK, phase="forward", parameters=parameters, shard_group="dense"))
    if m.head == "masked_language_model":
        rows += linear("transform", BLOCK, Matmul(m=t, k=h, n=h), width=w, saved_bytes=w * elements, useful=1.0 / setting.tp)
        rows += pointwise(
            "transform activation",
            BLOCK,
            forward_bytes=2.0 * w * t * h,
            backward_bytes=3.0 * w * t * h,
            saved_bytes=w * t * h,
        )
        rows += norm("transform norm", BLOCK, setting, elements, rows_of=h)
    chunks = loss_chunks(setting)
    together = 0.0 if setting.framework.chunked_loss is True else t / chunks  # tokens whose logits have a gradient by then
    logits = linear(
        "logits",
        BLOCK,
        Matmul(m=t / chunks, k=h, n=vocabulary, batch=chunks, dtype=setting.unquantized_dtype),
        width=w,
        saved_bytes=w * elements,
        parameters=parameters,
        kernels=chunks,
        backward_workspace_bytes=w * vocabulary * (together + h),
    )
    if setting.framework.pads_vocabulary:
        logits = tuple(_padded(row, h, vocabulary) for row in logits)
    logits = tensor_parallel_entrance(setting, BLOCK, logits, "logits", h)
    return (*rows, *logits, *_sum_of_chunks(setting, h * vocabulary), *cross_entropy(setting))


def loss_chunks(setting: Setting) -> Number:
    """Products that the output layer is cut into along the sequence, of a loss in a number of chunks; else 1."""
    chunks = setting.framework.loss_chunks
    return 1.0 if chunks is None else np.minimum(float(chunks), setting.queries)


def _sum_of_chunks(setting: Setting, weights: Number) -> tuple[Row, ...]:
    """The chunks' gradients of the output layer are summed: the first is cast from w to g bytes, w + g, where they differ
    (PyTorch, fsdp/_fully_shard/_fsdp_param.py, to_accumulated_grad_if_needed), each later one is added, w + 2 g
    (accumulate_unsharded_grad_if_needed). The sum's own bytes: ``performance.memory``."""
    if setting.framework.loss_chunks is None:
        return ()
    w, g, added = setting.width, setting.precision.gradient, loss_chunks(setting) - 1.0
    cast = 1.0 if g != w else 0.0
    row = Row(
        name="sum of the chunks' weight gradients",
        block=BLOCK,
        phase="backward",
        operator="logits",
        role="weight gradient",
        has_weight=True,
        bytes_moved=(cast * (w + g) + added * (w + 2.0 * g)) * weights,
        kernels=cast + added,
    )
    return (row,)


def _padded(row: Row, hidden: float, vocabulary: Number) -> Row:
    """The row with the boundaries of padded words; the flops and bytes that padding adds, at most 127 words, are left out."""
    words = np.ceil(vocabulary / VOCABULARY_STEP) * VOCABULARY_STEP
    assert isinstance(row.work, Matmul)
    return changed(row, work=changed(row.work, aligned=alignment(words, hidden)))


def cross_entropy(setting: Setting) -> tuple[Row, ...]:
    """Loss over the vocabulary, kept and temporary bytes per logit.

    Megatron's vocabulary-parallel loss, fused or not, keeps the softmax in fp32, 4 bytes (Korthikanti et al. 2022, section
    4.3), beside the 16-bit logits or their gradient. Unfused, kernel by kernel (Megatron-LM, tensor_parallel/cross_entropy.py):
    logits are cast, w + 4, the maximum is found, 4, subtracted, 8, exponents are taken, 8, summed, 4, and divided, 8, all in the
    fp32 copy; backward this is scaled, 8, and cast back, 4 + w. Each passes over long rows in order, as a copy does.
    Elsewhere, fused: the logits are overwritten by their gradient, w bytes. PyTorch's own keeps the log-softmax, fp32 where the
    logits are cast to it (and the logits where the script does); beside it live, backward, the gradients of the log-likelihood
    and of the log-softmax.
    It moves 4 v bytes forward, v the log-softmax's width (SoftMax.cu: maximum, sum, difference, which is written), 5 v backward
    (the likelihood's gradient is written; it is summed, it and the log-softmax are read, a third is written), and v + w for a
    cast each way. Compiled, it keeps the 16-bit logits, and beside them lives their gradient (pytorch/torchtitan#1033: more is
    saved than by a loss in chunks).
    """
    w, framework = setting.width, setting.framework
    logits = setting.tokens * setting.model.vocab_size / setting.tp
    if framework.chunked_loss is True:
        return _as_large_as_the_input(setting, logits)
    kernels: Number
    backward = 4.0 + 2.0 * w  # the fp32 softmax is read, the logits' gradient written and read
    if framework.activation_accounting == "megatron":
        kept, alive = 4.0, w
        moved, kernels = (2.0 * w + 8.0, 3.0) if framework.fused_cross_entropy else (w + 36.0, 9.0)
        backward = backward if framework.fused_cross_entropy else w + 12.0
    elif framework.fused_cross_entropy:
        kept, alive, moved, kernels, backward = w, 0.0, 2.0 * w, 2.0, 2.0 * w  # their gradient takes the logits' place
    else:
        wide = 4.0 if framework.loss_in_fp32 else w
        held = w if framework.logits_kept else 0.0
        cast = w + wide if wide != w else 0.0  # the logits are widened, their gradient narrowed
        kept, alive, moved, kernels = wide + held, 2.0 * wide, cast + 4.0 * wide, 6.0
        backward = cast + 5.0 * wide
        if framework.loss_is_compiled:  # forward reads the 16-bit logits, backward writes their gradient: fp32 stays in registers
            kept, alive, moved, kernels, backward = w, w, 2.0 * w, 2.0, 2.0 * w
        elif framework.compile:  # logits are read twice, the log-softmax is written once
            moved, kernels, backward = 2.0 * w + wide, 3.0, 4.0 + 2.0 * w
    labels = 8.0 * setting.tokens if framework.activation_accounting == "autograd" else 0.0
    tp_messages = setting.tensor_parallel * 4.0 * setting.tokens
    saved: Number = kept * logits
    workspace: Number = (alive + framework.extra_logit_bytes) * logits
    if framework.loss_chunks is not None:
        saved, workspace, kernels = _of_one_chunk(setting, saved + workspace, kernels)
    rows = pointwise(
        "cross-entropy",
        BLOCK,
        forward_bytes=moved * logits,
        backward_bytes=backward * logits,
        kernels=kernels,
        saved_bytes=saved + labels,
        workspace_bytes=workspace,
    )
    if framework.activation_accounting == "megatron" and not framework.fused_cross_entropy:
        rows = streamed(rows)
    return (
        *rows,
        communication("maximum and sums", BLOCK, "forward", "all_reduce", "tp", 3.0 * tp_messages, setting.tensor_parallel),
    )


def _of_one_chunk(setting: Setting, whole: Number, kernels: Number) -> tuple[Number, Number, Number]:
    """(saved bytes, workspace bytes, kernels) of a loss that goes through the output layer in chunks, each forward and
    backward before the next (torchtitan, components/loss.py, ChunkedCELoss): the input's gradient stays, w h bytes a token; the
    logits of one chunk live beside the chunks' own copies of the input and the gradients' fp32 sum, (w + 4) h bytes a token."""
    w, elements, chunks = setting.width, setting.tokens * float(setting.model.hidden_size), loss_chunks(setting)
    return w * elements, (w + 4.0) * elements + whole / chunks, kernels * chunks


def _as_large_as_the_input(setting: Setting, logits: Number) -> tuple[Row, ...]:
    """Output layer and loss in chunks (Hsu et al. 2024, Liger kernel): forward computes the input's gradient and keeps only it.

    A chunk's logits are about as large as the input: its tokens times the vocabulary over the hidden size.
    """
    w, h = setting.width, float(setting.model.hidden_size)
    held = w * setting.tokens * h
    return pointwise(
        "cross-entropy",
        BLOCK,
        forward_bytes=4.0 * w * logits,
        backward_bytes=2.0 * held,
        kernels=8.0,
        saved_bytes=held,
        workspace_bytes=3.0 * held,
    )
