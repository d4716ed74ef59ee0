"""What mixes tokens where it is not attention: sizes, weights, state and linear layers of each kind, described once.

One tuple of linear layers holds for parameters, adapters, rows of training and rows of serving. Keys are a state space's B and
C, values its heads: a state is ``value heads x key width x value width`` for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Literal

from planner.model.architecture import Model

STATE_BYTES = 4.0
"""State and convolution window are kept in fp32 (Hugging Face: mamba_ssm_dtype, mamba_ssm_cache_dtype = float32)."""
CHUNK = {"gated_delta_net": 64, "kimi_delta": 64, "lightning": 256, "mamba2": 256}
"""Tokens of a chunk of the fused training kernels (flash-linear-attention: 64; state-spaces/mamba: 256; MiniMax-01: 256)."""


MIXER_INPUTS = (
    "mixer_qkv", "mixer_gate", "mixer_beta", "mixer_decay", "mixer_query", "mixer_key", "mixer_value", "mixer_decay_down",
    "mixer_gate_down", "mixer_in", "mixer_channel",
)  # fmt: skip
"""Names of the projections that read the layer's input."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MixerLinear:
    """One projection of a mixer. ``step``: "in" reads the layer's input, "inner" what another gave, "out" leaves the block.

    ``cut``: over tp, by its outputs ("out": by its inputs); a narrow one is whole on every rank. ``also``: its path in other
    releases or families.
    """

    path: str
    part: str
    step: Literal["in", "inner", "out"]
    inputs: int
    outputs: int
    cut: bool = True
    bias: bool = False
    also: str = ""


@dataclass(frozen=True, kw_only=True)
class MixerShape:
    """Widths of a mixer: elements per token of keys (one of q, k, or of B, C), values, channels; elements of its state."""

    keys: int
    values: int
    channels: int
    state: int
    heads: int


@lru_cache(maxsize=256)
def mixer_shape(m: Model) -> MixerShape:
    """Widths of the model's mixer."""
    if m.mixer == "short_conv":
        return MixerShape(keys=m.hidden_size, values=m.hidden_size, channels=m.hidden_size, state=0, heads=m.num_heads)
    values = m.recurrent_value_heads * m.recurrent_value_head_dim
    state = m.recurrent_value_heads * m.recurrent_key_head_dim * m.recurrent_value_head_dim
    state *= 3 if m.mixer == "rwkv4" else 1  # numerator, denominator and the largest exponent so far
    if m.mixer == "mamba":
        return MixerShape(
            keys=m.recurrent_key_head_dim, values=values, channels=values, state=state, heads=m.recurrent_value_heads
        )
    keys = (m.recurrent_key_heads or m.recurrent_value_heads) * m.recurrent_key_head_dim
    channels = 2 * keys + values if m.conv_kernel else 0
    return MixerShape(keys=keys, values=values, channels=channels, state=state, heads=m.recurrent_value_heads)


def state_heads(m: Model) -> int:
    """Heads that tp must divide where layers keep a state: those of its values and those of its keys; 0 where none does.

    A single group of keys is whole on every rank (vLLM, mamba_mixer2.py; Megatron-Core, ssm/mamba_mixer.py: tp divides heads
    and groups).
    """
    keys = m.recurrent_key_heads if m.recurrent_key_heads > 1 else 0
    return gcd(m.recurrent_value_heads, keys)


def state_bytes(m: Model) -> float:
    """Bytes that one sequence keeps in one layer, whatever its length: the state and the convolution's last tokens.

    4 (value heads x key width x value width + (kernel - 1) x channels). RWKV: 4 for each element of its state (of RWKV-4 three a
    channel), and in 16 bit the last inputs of its time mixing and of its feed-forward (RwkvModel.forward).
    """
    if not m.recurs:
        return 0.0
    shape = mixer_shape(m)
    if m.mixes_time:
        return STATE_BYTES * shape.state + 2.0 * 2.0 * m.hidden_size
    return STATE_BYTES * (shape.state + max(m.conv_kernel - 1, 0) * shape.channels)


@lru_cache(maxsize=256)
def mixer_linears(m: Model) -> tuple[MixerLinear, ...]:
    """The linear layers of the model's mixer, in order; paths as transformers 5 names them."""
    if not m.recurs:
        return ()
    h, s = m.hidden_size, mixer_shape(m)
    bias, heads, rank = m.recurrent_bias, s.heads, m.recurrent_gate_rank
    if m.mixer == "gated_delta_net":
        name = "linear_attn"
        found = [
            ("in_proj_qkv", "mixer_qkv", "in", h, 2 * s.keys + s.values),
            ("in_proj_z", "mixer_gate", "in", h, s.values),
            ("in_proj_b", "mixer_beta", "in", h, heads),
            ("in_proj_a", "mixer_decay", "in", h, heads),
            ("out_proj", "mixer_out", "out", s.values, h),
        ]
    elif m.mixer == "kimi_delta":
        name = "self_attn"
        gates = (
            [
                ("forget_gate.f_a_proj", "mixer_decay_down", "in", h, rank),
                ("forget_gate.f_b_proj", "mixer_decay_up", "inner", rank, s.keys),
                ("g_a_proj", "mixer_gate_down", "in", h, rank),
                ("g_b_proj", "mixer_gate_up", "inner", rank, s.values),
            ]
            if rank
            else [("forget_gate.f_proj", "mixer_decay", "in", h, s.keys), ("g_proj", "mixer_gate", "in", h, s.values)]
        )
        found = [
            ("q_proj", "mixer_query", "in", h, s.keys),
            ("k_proj", "mixer_key", "in", h, s.keys),
            ("v_proj", "mixer_value", "in", h, s.values),
            ("b_proj", "mixer_beta", "in", h, heads),
            *gates,
            ("o_proj", "mixer_out", "out", s.values, h),
        ]
    elif m.mixer == "lightning":
        name = "self_attn"
        found = [
            ("qkv_proj", "mixer_qkv", "in", h, 2 * s.keys + s.values),
            ("output_gate", "mixer_gate", "in", h, s.values),
            ("out_proj", "mixer_out", "out", s.values, h),
        ]
    elif m.mixer == "mamba2":
        name = "mamba"
        found = [
            ("in_proj", "mixer_in", "in", h, 2 * s.values + 2 * s.keys + heads),
            ("out_proj", "mixer_out", "out", s.values, h),
        ]
    elif m.mixer == "mamba":
        name = "mamba"
        found = [
            ("in_proj", "mixer_in", "in", h, 2 * s.values),
            ("x_proj", "mixer_select", "inner", s.values, m.time_step_rank + 2 * s.keys),
            ("dt_proj", "mixer_time_step", "inner", m.time_step_rank, s.values),
            ("out_proj", "mixer_out", "out", s.values, h),
        ]
    elif m.mixes_time:
        name = "attention"
        gate = [("gate", "mixer_gate", "in", h, s.values)] if m.mixer == "rwkv5" else []
        found = [
            ("receptance", "mixer_query", "in", h, s.keys),
            ("key", "mixer_key", "in", h, s.keys),
            ("value", "mixer_value", "in", h, s.values),
            *gate,
            ("receptance", "mixer_channel", "in", h, h),  # of its feed-forward, whose output it gates
            ("output", "mixer_out", "out", s.values, h),
        ]
    else:
        name = "conv"
        found = [("in_proj", "mixer_in", "in", h, 3 * h), ("out_proj", "mixer_out", "out", h, h)]
    return tuple(
        MixerLinear(
            path=f"{'feed_forward' if part == 'mixer_channel' else name}.{path}",
            part=part,
            step=step,  # type: ignore[arg-type]
            inputs=inputs,
            outputs=outputs,
            cut=part not in ("mixer_decay_down", "mixer_gate_down"),
            bias=part == "mixer_time_step" or (bias and part in ("mixer_in", "mixer_out")),
            also=f"mixer.{path}",
        )
        for path, part, step, inputs, outputs in found
    )


@lru_cache(maxsize=256)
def mixer_vectors(m: Model) -> tuple[tuple[str, int, bool], ...]:
    """Name, elements and whether tp cuts them, of the weights that are no linear layers."""
    if not m.recurs:
        return ()
    s = mixer_shape(m)
    norm = {"none": 0, "head": m.recurrent_value_head_dim, "full": s.values}[m.recurrent_norm]
    found = [
        ("conv", s.channels * m.conv_kernel, True),
        ("conv_bias", s.channels * m.conv_bias, True),
        ("norm", norm, m.recurrent_norm == "full"),
    ]
    if m.mixer == "gated_delta_net":
        found += [("decay", s.heads, True), ("time_step_bias", s.heads, True)]
    elif m.mixer == "kimi_delta":
        found += [("decay", s.heads, True), ("time_step_bias", s.keys, True)]
    elif m.mixer == "mamba2":
        found += [("decay", s.heads, True), ("time_step_bias", s.heads, True), ("skip", s.heads, True)]
    elif m.mixer == "mamba":
        found += [("decay", s.state, True), ("skip", s.values, True)]
    elif m.mixes_time:
        mixed = sum(x.step == "in" for x in mixer_linears(m)) + 1  # the feed-forward's key, too
        found += [("decay", s.keys, True), ("first", s.keys, True), ("mixtures", mixed * m.hidden_size, False)]
        found += [("norm_bias", norm, True)]
    return tuple((name, elements, cut) for name, elements, cut in found if elements)
