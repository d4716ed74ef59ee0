"""How FP8 training scales its tensors: what each way of scaling holds, moves and multiplies by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fp8Recipe = Literal["delayed", "tensorwise", "rowwise", "blockwise", "mxfp8"]


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """One recipe. Elements of 1 byte; bytes are per element.

    ``scale_bytes`` of scales beside an element; ``passes`` to quantize a tensor, over those of one scale a tensor that is
    looked for first (what the kernel tables measured); ``both_ways``: the products of a layer read a tensor scaled along
    different sides, so that it is quantized once for each; ``inputs`` of dense layers take a pass of their own, for what is in
    front of them writes 16 bit; ``weights`` are quantized in every pass, where no copy is kept; ``blocks``: partial sums are
    scaled every 128 products, which tensor cores without block scales leave to the CUDA cores.
    """

    scale_bytes: float = 0.0
    passes: float = 1.0
    both_ways: bool = False
    inputs: bool = False
    weights: bool = False
    blocks: bool = False

    @property
    def casts(self) -> float:
        """Passes to quantize an activation for all products that read it, over those of ``tensorwise``."""
        return self.passes * (2.0 if self.both_ways else 1.0)


SCALINGS: dict[Fp8Recipe, Scaling] = {
    # the scale is known from earlier steps: of reading for it (2 bytes), reading again (2) and writing (1), the first falls away
    "delayed": Scaling(passes=3.0 / 5.0),
    "tensorwise": Scaling(),
    # torchao: a scale for each row, of either side; the compiler's kernels make them one by one, weights in each pass
    "rowwise": Scaling(both_ways=True, inputs=True, weights=True),
    # Transformer Engine, Float8BlockScaling: 1 x 128 of activations, 128 x 128 of weights, an fp32 scale each
    "blockwise": Scaling(scale_bytes=4.0 / 128.0, inputs=True, blocks=True),
    # a byte of exponent for 32 elements (OCP Microscaling 1.0); Blackwell's tensor cores apply them
    "mxfp8": Scaling(scale_bytes=1.0 / 32.0),
}
"""Counted from Transformer Engine's and torchao's documentation of their recipes."""
