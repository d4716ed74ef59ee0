"""How much of its peaks an accelerator reaches, by the shape of the work; read from ``hardware_profiles/measured``."""

from functools import lru_cache
from typing import Annotated

from pydantic import Field

from planner.common.data import PROFILES
from planner.common.files import State
from planner.common.message import Message
from planner.common.references import Catalog
from planner.common.spec import Spec
from planner.hardware.cluster import Accelerator

CURVES = Catalog(PROFILES / "measured", "hardware_profiles/measured", borrowed_is_assumed=True)
"""Files of constants; one GPU's may refer to another's."""

Fraction = Annotated[float, Field(gt=0, le=1.3)]
Seconds = Annotated[float, Field(ge=0)]
Size = Annotated[float, Field(ge=0)]


class Curves(Spec):
    """Constants of the kernels of one GPU family; each says whether it was measured, fitted or assumed.

    Matrix multiply, with W the memory bandwidth and P the peak:
    ``t = latency + [(2 k (b m n + output)(1 + depth / k) / (fraction P))^p + (bytes / (bandwidth_fraction W))^p]^(1/p)``:
    ``output`` elements are what it takes to fill the GPU, ``depth`` what the pipeline of a tile costs.
    """

    name: str
    matmul_latency_s: Seconds
    matmul_peak_fraction: Fraction
    matmul_bandwidth_fraction: Fraction
    matmul_exponent: Annotated[float, Field(ge=1, le=8)]
    matmul_output: Size
    matmul_depth: Size
    cuda_core_fraction: Fraction | None = None  # of the fp32 peak, without matrix units; None = matmul_peak_fraction
    fp8_latency_s: Seconds = 1.25e-5
    fp8_peak_fraction: Fraction = 0.76
    fp8_depth: Size = 300.0
    fp8_block_fraction: Fraction | None = None  # where scales of blocks are applied on CUDA cores; None = fp8_peak_fraction
    fp8_block_depth: Size | None = None  # likewise; None = fp8_depth
    fp8_cast_passes: Size = 2.7  # passes over the activations (read, write, scale) to quantize them
    grouped_tokens: Size = 32.0  # rows lost to ragged tiles, per expert
    grouped_fraction: Fraction = 1.0  # of the plain matrix multiply's fraction
    expert_layer_latency_s: Seconds = 4e-5  # of sorting tokens to experts and two grouped multiplies in a serving engine
    attention_latency_s: Seconds = 1e-5
    attention_forward_fraction: Fraction  # of the newest kernels
    attention_backward_fraction: Fraction
    flash1_rate: Fraction = 0.6  # FlashAttention of 2022 over the newest kernels on this chip (Dao 2023, arXiv 2307.08691)
    flash2_rate: Fraction = 1.0  # FlashAttention-2 over the newest kernels on this chip
    warp_product_rate: Fraction = 1.0  # products by instructions of one warp (mma.sync) over the library's on this chip
    attention_keys: Size = 128.0
    attention_head_dim: Size = 20.0
    # seconds that computation loses to a second of data-parallel exchange beside it: NCCL's kernels hold processors of the chip
    exchange_contention: Annotated[float, Field(ge=0, le=1)] = 0.3
    memory_fraction: Fraction
    memory_latency_s: Seconds  # shortest kernel
    # clocks of minutes of training over those of a short burst, of matrix multiplies: they draw the most power
    fp8_sustained_fraction: Fraction = 1.0
    sustained_fraction: Fraction = 1.0
    notes: str = ""


def curves_of(accelerator: Accelerator) -> Curves:
    """The accelerator's own curves where its profile holds them, else those of the file that it names."""
    if accelerator.kernel_curves is None:
        return load_curves(accelerator.curves)
    return Curves.build(
        {"name": accelerator.name, **accelerator.kernel_curves}, Message("kernel_curves of {0}", accelerator.name)
    )


def load_curves(name: str) -> Curves:
    """The curves of that name, their references followed; PlannerError lists the near ones."""
    return _curves(name, CURVES.state(name))


def forget_curves() -> None:
    """Read each file of curves again when it is next asked for: its file has changed."""
    _curves.cache_clear()


@lru_cache(maxsize=1024)
def _curves(name: str, state: tuple[State, ...]) -> Curves:
    return Curves.build(CURVES.table(name), str(CURVES.path(name, "curves")))
