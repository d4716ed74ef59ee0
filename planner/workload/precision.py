"""Bytes and types of weights, gradients and optimizer states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from planner.common.units import DTYPE_BYTES
from planner.workload.framework import Framework
from planner.workload.job import ADAM_BLOCK, Job, Optimizer, Precision


@dataclass(frozen=True, kw_only=True)
class Precisions:
    """Bytes per element of what is kept, by this job on this framework.

    ``activation`` tensors between operators; ``linear_input`` what linear layers keep of their input; ``parameter`` the
    weights that are kept; ``cast`` a second copy of each weight matrix in the compute type (autocast, FP8 caches);
    ``gradient`` accumulated; ``master`` fp32 weights; ``state`` per parameter, optimizer only;
    ``vector_state`` more of it on embeddings and the output layer. ``matmul`` names the type
    whose peak bounds matrix multiplies.
    """

    matmul: str
    activation: float
    linear_input: float
    parameter: float
    cast: float
    gradient: float
    master: float
    state: float
    vector_state: float
    factored: bool

    @property
    def model_states(self) -> float:
        """Bytes per parameter, unsharded, without the compute-type copies."""
        return self.parameter + self.gradient + self.master + self.state


def matmul_dtype(precision: Precision) -> str:
    """The type whose matrix units do the work."""
    return {"bf16-pure": "bf16", "nvfp4": "fp4"}.get(precision, precision)


def _narrow(job: Job) -> float | None:
    """Bytes of a quantized element with its scale; None where nothing is quantized."""
    return {"fp8": 1.0 + job.scaling.scale_bytes, "nvfp4": DTYPE_BYTES["fp4"] + 1.0 / 16.0}.get(job.precision)


def optimizer_state_bytes(optimizer: Optimizer, width: float) -> float:
    """Bytes of optimizer state per parameter with states of ``width`` bytes.

    AdamW: two moments. 8-bit Adam: two bytes and two fp32 scales per block of 256 (Dettmers et al. 2022). SGD: none, as torch's
    own default (torch/optim/sgd.py: momentum = 0 keeps no buffer); with momentum, and Muon: one. Adafactor: row and column sums
    only, so 0 here: they are counted per matrix, as GaLore's moments are.
    """
    if optimizer.startswith("galore-"):
        return 0.0
    optimizer = cast(Optimizer, optimizer.removeprefix("paged-"))
    if optimizer == "adamw-8bit":
        return 2.0 + 2.0 * 4.0 / ADAM_BLOCK
    return {"adamw": 2.0, "sgd": 0.0, "sgd-momentum": 1.0, "muon": 1.0, "adafactor": 0.0}[optimizer] * width


def plain_optimizer(optimizer: Optimizer) -> Optimizer:
    """What a low-rank optimizer updates everything but its projected matrices with."""
    return cast(Optimizer, optimizer.removeprefix("galore-"))


def _vector_state_bytes(job: Job, width: float) -> float:
    """Bytes per parameter that embeddings and output layer keep beyond other weights, with states of ``width`` bytes.

    Muon updates matrices and leaves them to AdamW with its second moment (Jordan 2024), GaLore to plain Adam.
    """
    if job.low_rank:
        return optimizer_state_bytes(plain_optimizer(job.optimizer), width)
    return width if job.optimizer == "muon" else 0.0


def precisions(job: Job, framework: Framework) -> Precisions:
    """What ``job.precision`` means on ``framework``.

    fp32 and tf32: everything in fp32. fp16, bf16, fp8 with master weights (Micikevicius et al. 2018): 2-byte weights,
    gradients of 2 or 4 bytes, fp32 master: with AdamW 16 or 18 bytes per parameter (ZeRO paper, section 3.1). Autocast
    keeps fp32 weights and gradients and a 2-byte copy of each weight matrix while it is in use. FSDP's mixed precision
    keeps fp32 shards and gathers 2-byte layers. bf16-pure: weights, gradients and states all in bf16. fp8: as bf16 with
    the matrix multiplies in fp8; Transformer Engine keeps linear layers' inputs in fp8
    and caches each weight and its transpose in fp8. nvfp4 likewise in 4 bit with one scale byte per 16 elements.
    """
    if job.adapter is not None:
        return _adapter_precisions(job, framework)
    dtype = matmul_dtype(job.precision)
    width = DTYPE_BYTES[dtype]
    gradient = job.gradient_dtype or framework.gradient_dtype
    factored = job.optimizer == "adafactor"
    vector = _vector_state_bytes(job, width if job.precision in ("fp32", "tf32", "bf16-pure") else 4.0)
    if job.precision in ("fp32", "tf32", "bf16-pure"):
        state = optimizer_state_bytes(job.optimizer, width)
        return Precisions(
            matmul=dtype,
            activation=width,
            linear_input=width,
            parameter=width,
            cast=0.0,
            gradient=width,
            master=0.0,
            state=state,
            vector_state=vector,
            factored=factored,
        )
    state = optimizer_state_bytes(job.optimizer, 4.0)
    narrow = _narrow(job)
    kept, fp8_caches = (narrow, 2.0 * narrow) if narrow else (2.0, 0.0)
    if job.precision == "fp8" and framework.fp8_parameters:  # of matrices, both copies are all that is held
        fp8_caches -= 2.0
    if framework.mixed_precision == "master_weights":
        return Precisions(
            matmul=dtype,
            activation=2.0,
            linear_input=kept,
            parameter=2.0,
            cast=fp8_caches,
            gradient=4.0 if gradient == "fp32" else 2.0,
            master=4.0,
            state=state,
            vector_state=vector,
            factored=factored,
        )
    if framework.mixed_precision == "sharded_fp32":  # torchao casts when it multiplies and keeps 16-bit inputs and weights
        kept, fp8_caches = 2.0, 0.0
    return Precisions(
        matmul=dtype,
        activation=2.0,
        linear_input=kept,
        parameter=4.0,
        cast=2.0 + fp8_caches,
        gradient=4.0,
        master=0.0,
        state=state,
        vector_state=vector,
        factored=factored,
    )


def adapter_dtype(job: Job, framework: Framework) -> Literal["fp32", "same"]:
    """The type of adapters: the job's, else the framework's, which may follow the weights beside them."""
    said = (job.adapter.dtype if job.adapter is not None else None) or framework.adapter_dtype
    if said == "weights":
        return "same" if job.quantization is None else "fp32"
    return said


def _adapter_precisions(job: Job, framework: Framework) -> Precisions:
    """Of what trains: adapters and their gradients in fp32, or in the compute type with or without fp32 master copies.

    Frozen weights count apart, in 16 bit or as they are quantized (``frozen_width``). Activations are in the compute type:
    the frozen model is loaded in it, so that autocast has nothing left to cast. FP8 caches each frozen matrix twice, as
    in pre-training.
    """
    dtype = matmul_dtype(job.precision)
    narrow = _narrow(job)
    activation = 2.0 if narrow else DTYPE_BYTES[dtype]
    kept = narrow if narrow and framework.mixed_precision == "master_weights" else activation
    wide = adapter_dtype(job, framework) == "fp32"
    parameter = max(4.0 if wide else activation, activation)
    master = 4.0 if not wide and framework.mixed_precision == "master_weights" and activation < 4 else 0.0
    state = optimizer_state_bytes(job.optimizer, 4.0 if wide or master else activation)
    gradient = 4.0 if master and (job.gradient_dtype or framework.gradient_dtype) == "fp32" else parameter
    return Precisions(
        matmul=dtype,
        activation=activation,
        linear_input=kept,
        parameter=parameter,
        cast=0.0,
        gradient=gradient,
        master=master,
        state=state,
        vector_state=0.0,
        factored=False,
    )


def frozen_width(job: Job, framework: Framework) -> tuple[float, float]:
    """Bytes of a frozen weight that is not quantized, and of FP8 copies of a frozen matrix beside it."""
    base = 4.0 if job.precision in ("fp32", "tf32") else 2.0
    narrow = _narrow(job) or 0.0
    caches = 2.0 * narrow if framework.mixed_precision == "master_weights" else 0.0
    if job.precision == "fp8" and framework.fp8_parameters:  # held once, transposed when the gradient needs it
        caches = narrow - base
    return (4.0 if upcasts(job, framework) else base), caches


def upcasts(job: Job, framework: Framework) -> bool:
    """Whether weights that are not quantized stand in fp32; peft leaves GPTQ models alone."""
    return framework.upcasts_unquantized and job.kind == "qlora"
