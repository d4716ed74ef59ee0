"""Layer norm and RMS norm."""

from __future__ import annotations

from planner.common.arrays import Number
from planner.operators.row import Row, pointwise
from planner.operators.setting import Setting


def norm(
    name: str,
    block: str,
    setting: Setting,
    elements: Number,
    *,
    parameters: Number = 0.0,
    rows_of: float = 1.0,
    residual: bool = True,
) -> tuple[Row, ...]:
    """Normalize ``elements`` numbers in rows of ``rows_of``.

    Layer norm (native or fused) and fused RMS norm keep their input: w bytes an element (Korthikanti et al. 2022, 4.1:
    2 s b h each). Eager RMS norm in 16 bit keeps an fp32 copy of the input and the normalized 16-bit tensor that the
    weight multiplies, 4 + w; in fp32 (also of the residual stream under autocast) the input and the normalized tensor, 8;
    and fp32 1/rms per row. Oracle: autograd's saved tensors of transformers' RMSNorm.
    """
    w = setting.residual_width if residual else setting.width
    if setting.model.norm == "layernorm" or setting.framework.fused_norm:
        return pointwise(
            name,
            block,
            forward_bytes=2.0 * w * elements,
            backward_bytes=4.0 * w * elements,
            kernels=1.0,
            backward_kernels=2.0,
            saved_bytes=norm_saved_bytes(setting, elements, rows_of, w),
            parameters=parameters,
        )
    upcast = 2.0 * (w + 4.0) if w < 4 else 0.0
    return pointwise(
        name,
        block,
        forward_bytes=(16.0 + upcast + 2.0 * w) * elements,
        backward_bytes=2.0 * (16.0 + upcast + 2.0 * w) * elements,
        kernels=7.0 if w < 4 else 5.0,
        backward_kernels=12.0,
        saved_bytes=norm_saved_bytes(setting, elements, rows_of, w),
        parameters=parameters,
    )


def norm_saved_bytes(setting: Setting, elements: Number, rows_of: float, w: float) -> Number:
    """Bytes kept of an input of width ``w`` for the backward pass; the result is the next operator's input."""
    rows = elements / rows_of
    autograd = setting.framework.activation_accounting == "autograd"
    if setting.model.norm == "layernorm":
        return w * elements + (2.0 * 4.0 * rows if autograd else 0.0)
    if setting.framework.fused_norm:
        return w * elements + (4.0 * rows if autograd else 0.0)
    if setting.job.frozen:  # a frozen weight needs no normalized tensor: only the fp32 input stays
        return 4.0 * elements + 4.0 * rows
    return (4.0 + w) * elements + 4.0 * rows
