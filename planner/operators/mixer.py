"""What mixes tokens where it is not attention: gated delta rule, linear attention, state spaces, short convolutions.

Rows are those of the fused chunked kernels (flash-linear-attention, mamba-ssm, causal-conv1d), not of transformers' plain
PyTorch code, which keeps about ten times as much for the backward pass. How fast they run nobody has published as a curve: their
products are counted as the matrix multiplies of their chunks, at the speed that such small ones reach. Of Mamba-2 there are steps
of a whole model, and its kernels count by what they move (``Framework.scan_rate``), never above the peak.
"""

from __future__ import annotations

import numpy as np

from planner.common.arrays import Number
from planner.model.architecture import LayerKind, Model
from planner.model.mixers import CHUNK, MixerLinear, mixer_linears, mixer_shape
from planner.operators.attention import dropout_and_residual, tensor_parallel_entrance, tensor_parallel_exit
from planner.operators.row import Matmul, Row, communication, pointwise
from planner.operators.setting import Setting
from planner.operators.weights import local_parameters, projected

BLOCK = "mixer"
SSD_CHUNK = 128.0
"""Tokens of a chunk of Mamba-2 in training (megatron/core/ssm/mamba_mixer.py, chunk_size)."""


def mixer(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Rows of one block, forward and backward, from the normalized input to the residual sum."""
    m = setting.model
    linears = mixer_linears(m)
    inside = [x for x in linears if x.step == "in"]
    rows = tuple(
        row
        for i, x in enumerate(inside)
        for row in _projection(setting, kind, x, m.mixes_time or (i == 0 and not m.attention_beside_mixer))
    )
    return (
        *tensor_parallel_entrance(setting, BLOCK, rows, inside[0].part, m.hidden_size),
        *_convolution(setting, kind),
        *(row for x in linears if x.step == "inner" for row in _projection(setting, kind, x, True)),
        *_core(setting),
        *_output_gate(setting),
        *_projection(setting, kind, linears[-1], True),
        *tensor_parallel_exit(setting, BLOCK),
        *dropout_and_residual(setting, BLOCK),
    )


def _projection(setting: Setting, kind: LayerKind, x: MixerLinear, keeps: bool) -> tuple[Row, ...]:
    """One linear layer; of those that read the layer's input the first keeps it for all, but of RWKV's each its own mixture."""
    kept: Number = 0.0
    if keeps:
        tokens = setting.sequence_tokens if x.step == "in" else setting.tokens
        kept = setting.input_width * tokens * (float(x.inputs) / (1.0 if x.step == "in" else setting.tp))
    return projected(setting, kind, BLOCK, x.part, setting.tokens, saved_bytes=kept)


def _convolution(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Depthwise causal convolution with its activation, one kernel; it keeps its input unless the scan's kernel contains it.

    The vectors of the block (decay, time step, skip, norm) are counted here.
    """
    m, w = setting.model, setting.width
    elements = setting.tokens * float(mixer_shape(m).channels) / setting.tp
    kept = 0.0 if m.mixer in ("mamba", "mamba2") else w * elements
    if m.mixes_time:
        return _mixtures(setting, kind)
    return pointwise(
        "convolution",
        BLOCK,
        forward_bytes=2.0 * w * elements,
        backward_bytes=4.0 * w * elements,
        saved_bytes=kept,
        parameters=local_parameters(setting, kind, "mixer.vectors"),
        kernels=1.0 if m.conv_kernel else 0.0,
    )


def _mixtures(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Each projection's own mixture of a token and the one in front: x mu + x' (1 - mu) (RwkvSelfAttention.extract_key_value).

    Eager: two products and a sum for each, of which backward needs both inputs, which all share.
    """
    w = setting.width
    mixed = sum(x.step == "in" for x in mixer_linears(setting.model)) + 1.0
    elements = setting.sequence_tokens * float(setting.model.hidden_size)
    return pointwise(
        "token shift",
        BLOCK,
        forward_bytes=7.0 * w * mixed * elements,
        backward_bytes=10.0 * w * mixed * elements,
        saved_bytes=2.0 * w * elements,
        parameters=local_parameters(setting, kind, "mixer.vectors"),
        kernels=3.0 * mixed,
    )


def kept_elements(m: Model) -> tuple[float, float]:
    """Elements per token that the scan's kernel keeps: (in the activations' type, in fp32). The output is the next one's input.

    Delta rules: q and k repeated to the value heads, v, beta and the chunk's triangular matrices; decays in fp32
    (fla.ops.gated_delta_rule.chunk, fla.ops.kda.chunk). Lightning: q, k, v before and behind their activation. Mamba-2: the whole
    in-projection (mamba_split_conv1d_scan_combined). Mamba: x and z, time step, B and C (mamba_inner_fn, which redoes the
    convolution). Short convolution: its two gates and the product. RWKV: keys, values, and the receptance that reads the state
    (its wkv kernels, which go backward through the sequence once more).
    """
    s = mixer_shape(m)
    wide = float(s.heads * m.recurrent_key_head_dim)
    if m.mixer == "gated_delta_net":
        return 2.0 * wide + s.values + s.heads * (1.0 + CHUNK[m.mixer]), 2.0 * s.heads
    if m.mixer == "kimi_delta":
        return 2.0 * wide + s.values + s.heads * (1.0 + 2.0 * CHUNK[m.mixer]), wide
    if m.mixer == "lightning":
        return 2.0 * (2.0 * s.keys + s.values), 0.0
    if m.mixer == "mamba2":
        return 2.0 * s.values + 2.0 * s.keys + s.heads, 0.0
    if m.mixer == "mamba":
        return 2.0 * s.values + m.time_step_rank + 2.0 * s.keys, 0.0
    if m.mixer == "rwkv4":
        return 2.0 * s.values, 0.0
    return 3.0 * s.values, 0.0


def scan_flops(m: Model, chunk: float | None = None) -> tuple[float, float]:
    """Flops per token of the scan: (as kernels execute it in chunks of ``chunk``, else CHUNK; as the recurrence needs it).

    A state of dk x dv for each head is multiplied by k, updated, read by q: 6 dk dv for the delta rule, 4 dk dv otherwise
    (arXiv 2412.06464, equation 10; arXiv 2405.21060, section 7). In chunks of C the same goes through products within the
    chunk, 2 C (3 dk + 2 dv) more for the delta rule (its triangular inverse included), 2 C dk for each group of keys and
    2 C dv for each head otherwise. Mamba's scan is no product: 9 flops an element of the state (arXiv 2312.00752, appendix). Nor
    is RWKV's: of RWKV-4 four exponentials and 18 sums, products and maxima a channel (rwkv_linear_attention_cpu), of RWKV-5 seven
    an element of the state, of which the recurrence needs four.
    """
    s, dk, dv = mixer_shape(m), float(m.recurrent_key_head_dim), float(m.recurrent_value_head_dim)
    if m.mixer in ("gated_delta_net", "kimi_delta"):
        chunk = float(CHUNK[m.mixer])
        return s.heads * (6.0 * dk * dv + 2.0 * chunk * (3.0 * dk + 2.0 * dv)), 6.0 * s.state
    if m.mixer == "rwkv4":
        return 22.0 * s.values, 22.0 * s.values
    if m.mixer == "rwkv5":
        return 7.0 * s.state, 4.0 * s.state
    if m.mixer in ("mamba2", "lightning"):
        chunk, groups = chunk or float(CHUNK[m.mixer]), float(m.recurrent_key_heads or s.heads)
        return 4.0 * s.state + 2.0 * chunk * (s.heads * dv + groups * dk), 4.0 * s.state
    return (9.0 * s.state, 9.0 * s.state) if m.mixer == "mamba" else (2.0 * s.values * m.conv_kernel,) * 2


def ssd_bytes(m: Model, tokens: Number, tp: Number, w: float) -> tuple[Number, Number]:
    """Bytes that the kernels of Mamba-2's scan move: (forward, backward) (state-spaces/mamba, ops/triton/ssd_combined.py).

    With X elements of values, S of states at the ends of chunks, in fp32 where they are summed, and Q of C B' within chunks,
    in fp32. Forward: chunk_state reads X and writes S, state_passing reads S and writes it narrow, bmm_chunk writes Q,
    chunk_scan reads Q, X, the gate and S and writes the output with and without its gate: 5 w X + (8 + 2 w) S + 8 Q.
    Backward redoes states and C B' in fp32 (w X + 12 S + 4 Q); the gate's (5 w X); dstates (w X + 4 S) and their passing
    (8 S + 2 w S); dx (3 w X + w S + 4 Q), dB and dC (w X + w S each), dCB (2 w X + 4 Q), its two products (8 Q), the decays'
    (2 w X + 4 Q): 16 w X + (24 + 5 w) S + 24 Q.
    """
    sizes = mixer_shape(m)
    x = tokens * float(sizes.values) / tp
    s = tokens / SSD_CHUNK * float(sizes.state) / tp
    q = tokens * SSD_CHUNK * _groups(m, tp)
    return 5.0 * w * x + (8.0 + 2.0 * w) * s + 8.0 * q, 16.0 * w * x + (24.0 + 5.0 * w) * s + 24.0 * q


def _groups(m: Model, tp: Number) -> Number:
    """Groups of keys on a rank: a single one is whole on each (``model.mixers.state_heads``)."""
    return np.maximum(float(m.recurrent_key_heads or m.recurrent_value_heads) / tp, 1.0)


def _ssd_flops(m: Model, tp: Number) -> Number:
    """Flops per token of Mamba-2's scan on a rank, ``scan_flops`` with the groups of keys that it has."""
    s, dk, dv = mixer_shape(m), float(m.recurrent_key_head_dim), float(m.recurrent_value_head_dim)
    return (4.0 * s.state + 2.0 * SSD_CHUNK * s.heads * dv) / tp + 2.0 * SSD_CHUNK * _groups(m, tp) * dk


def _core(setting: Setting) -> tuple[Row, ...]:
    """The scan, forward and backward: 2.5 times the flops backward, as for attention, since it redoes the states.

    Backward, the states at the ends of all chunks are alive, and their gradients.
    """
    m, w, tp = setting.model, setting.width, setting.tp
    s, t = mixer_shape(m), setting.tokens
    narrow, wide = kept_elements(m)
    executed, needed = scan_flops(m)
    kept = t / tp * (w * narrow + 4.0 * wide)
    work = back = None
    rate: float | None = None
    kernels = 4.0, 8.0
    if m.mixer == "mamba2":
        flops: Number = t * _ssd_flops(m, tp)
        states: Number = 4.0 * t / SSD_CHUNK * s.state / tp
        moved, back_moved = ssd_bytes(m, t, tp, w)
        rate = setting.framework.scan_rate
        kernels = 4.0, 13.0  # those that ``ssd_bytes`` lists
    else:
        chunk = float(CHUNK.get(m.mixer, 64))
        flops = t * executed / tp
        states = w * t / chunk * s.state / tp if m.mixer in CHUNK else 0.0 * t
        moved = kept + w * t * s.values / tp + states
        back_moved = 3.0 * moved
        work = products(m, t, flops, tp, chunk, setting.unquantized_dtype)
        back = products(m, t, 2.5 * flops, tp, chunk, setting.unquantized_dtype)
    message = 4.0 * setting.micro_batch_size * s.state / tp
    present = (setting.cp > 1).astype(float)
    return (
        Row(
            name="scan",
            block=BLOCK,
            phase="forward",
            flops=flops,
            model_flops=t * needed / tp,
            bytes_moved=moved,
            saved_bytes=kept,
            kernels=kernels[0],
            work=work,
            own_rate=rate,
            in_chunks=m.mixer == "mamba2",
        ),
        Row(
            name="scan gradient",
            block=BLOCK,
            phase="backward",
            flops=2.5 * flops,
            model_flops=2.0 * t * needed / tp,
            bytes_moved=back_moved,
            kernels=kernels[1],
            work=back,
            workspace_bytes=2.0 * states,
            own_rate=rate,
            in_chunks=m.mixer == "mamba2",
        ),
        communication("state to the next rank", BLOCK, "forward", "p2p", "cp", message, present),
        communication("state gradient to the rank before", BLOCK, "backward", "p2p", "cp", message, present),
    )


def products(m: Model, tokens: Number, flops: Number, tp: Number, chunk: float, dtype: str | None = None) -> Matmul | None:
    """The scan as its chunks' matrix multiplies; None where it is no product. Training quantizes none of it."""
    if m.mixer not in CHUNK:
        return None
    k = float(m.recurrent_key_head_dim)
    batch = tokens / chunk * mixer_shape(m).heads / tp
    return Matmul(m=chunk, k=k, n=flops / (2.0 * chunk * k * batch), batch=batch, dtype=dtype)


def _output_gate(setting: Setting) -> tuple[Row, ...]:
    """Norm of the output and its gate, one kernel (gated RMS norm): it keeps both of its inputs."""
    m, w = setting.model, setting.width
    if m.mixer in ("mamba", "short_conv"):
        return ()
    elements = setting.tokens * float(mixer_shape(m).values) / setting.tp
    kept = elements if m.mixer == "mamba2" else 2.0 * elements  # Mamba-2's gate is part of its in-projection
    return pointwise(
        "gated norm", BLOCK, forward_bytes=3.0 * w * elements, backward_bytes=6.0 * w * elements, saved_bytes=w * kept
    )
