"""Doing what: how many tokens, in which precision, with which optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import Field, model_validator

from planner.framework import Framework
from planner.spec import Spec
from planner.tuning import Adapter, Quantization, Teacher
from planner.units import DTYPE_BYTES

Precision = Literal["fp32", "tf32", "fp16", "bf16", "bf16-pure", "fp8", "nvfp4"]
Optimizer = Literal["adamw", "adamw-8bit", "adafactor", "sgd", "muon", "paged-adamw", "paged-adamw-8bit"]
Kind = Literal["pretrain", "finetune", "lora", "qlora", "gptq-lora", "distil"]
Positive = Annotated[int, Field(gt=0, strict=True)]

ADAM_BLOCK = 256
"""Elements per fp32 scale of 8-bit Adam's states (Dettmers et al. 2022, section 2; bitsandbytes' default block)."""


class Job(Spec):
    """One training run; ``finetune`` is full fine-tuning, which costs what pre-training costs per token.

    ``lora``, ``qlora`` and ``gptq-lora`` train adapters on a frozen model, stored in 16 bit, NF4 or GPTQ integers; ``distil``
    trains the model on a teacher's outputs.

    Exactly one of ``num_samples``, ``num_tokens`` and ``num_steps`` says how long an epoch is."""

    kind: Kind = "pretrain"
    seq_len: Positive
    global_batch_size: Positive  # sequences per optimizer step
    num_samples: Positive | None = None
    num_tokens: Positive | None = None
    num_steps: Positive | None = None
    num_epochs: Annotated[float, Field(gt=0)] = 1.0
    precision: Precision = "bf16"
    optimizer: Optimizer = "adamw"
    gradient_dtype: Literal["fp32", "same"] | None = None  # None = the framework's
    # tokens on the fullest expert rank / mean; None = 1 where the benchmark forces the router to be even, else by its skew
    expert_load: Annotated[float, Field(ge=1)] | None = None
    routing: Literal["unforced", "forced"] = "unforced"
    routing_skew: Annotated[float, Field(ge=0, le=3)] = 0.4
    adapter: Adapter | None = None
    quantization: Quantization | None = None  # of the frozen weights; filled for qlora and gptq-lora
    teacher: Teacher | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("quantization") is not None:
            return data
        usual = {"qlora": {"format": "nf4"}, "gptq-lora": {"format": "gptq-int4"}}.get(str(data.get("kind")))
        return {**data, "quantization": usual} if usual else data

    @model_validator(mode="after")
    def _tables(self) -> Job:
        tunes = self.kind in ("lora", "qlora", "gptq-lora")
        if tunes and self.adapter is None:
            raise ValueError(f"kind = {self.kind!r} needs the table [job.adapter] with a rank")
        if self.adapter is not None and not tunes:
            raise ValueError(f"adapter with kind = {self.kind!r}: adapters belong to lora, qlora and gptq-lora")
        if self.quantization is not None and self.kind not in ("qlora", "gptq-lora"):
            raise ValueError(f"quantization with kind = {self.kind!r}: use kind = 'qlora' or 'gptq-lora'")
        if self.quantization is not None and (self.kind == "gptq-lora") != (self.quantization.format[:4] == "gptq"):
            right = "gptq-int4 or gptq-int8" if self.kind == "gptq-lora" else "nf4, fp4 or int8"
            raise ValueError(f"quantization.format = {self.quantization.format!r} with kind = {self.kind!r}: use {right}")
        if (self.teacher is not None) != (self.kind == "distil"):
            raise ValueError(f"kind = {self.kind!r}: distil needs the table [job.teacher], and only distil has one")
        if tunes and self.optimizer in ("muon", "adafactor"):
            raise ValueError(f"optimizer = {self.optimizer!r} with kind = {self.kind!r}: use adamw, sgd or a kin of them")
        if self.quantization is not None and self.precision in ("fp8", "nvfp4"):
            raise ValueError(
                f"precision = {self.precision!r} with kind = {self.kind!r}: quantized weights multiply in 16 bit; use "
                "precision = 'bf16' ('fp16' on a chip without it), or kind = 'lora' for 8-bit multiplications"
            )
        return self

    @property
    def frozen(self) -> bool:
        """Whether the model's own weights stay as they are."""
        return self.adapter is not None

    @property
    def paged(self) -> bool:
        """Whether optimizer states may move to the host when memory is short (bitsandbytes' paged optimizers)."""
        return self.optimizer.startswith("paged-")

    @model_validator(mode="after")
    def _one_length(self) -> Job:
        given = [n for n in ("num_samples", "num_tokens", "num_steps") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are all given; give one of num_samples, num_tokens, num_steps")
        return self

    @property
    def tokens_per_step(self) -> float:
        """Tokens of one optimizer step."""
        return float(self.global_batch_size) * float(self.seq_len)

    @property
    def steps_per_epoch(self) -> float | None:
        """Optimizer steps of one epoch, the last one filled up; None when no length was given."""
        if self.num_steps is not None:
            return float(self.num_steps)
        if self.num_samples is not None:
            return float(-(-self.num_samples // self.global_batch_size))
        if self.num_tokens is not None:
            return float(-(-self.num_tokens // (self.global_batch_size * self.seq_len)))
        return None


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


def optimizer_state_bytes(optimizer: Optimizer, width: float) -> float:
    """Bytes of optimizer state per parameter with states of ``width`` bytes.

    AdamW: two moments. 8-bit Adam: two bytes and two fp32 scales per block of 256 (Dettmers et al. 2022). SGD with
    momentum and Muon: one. Adafactor: row and column sums only, so 0 here: they are counted per matrix.
    """
    optimizer = cast(Optimizer, optimizer.removeprefix("paged-"))
    if optimizer == "adamw-8bit":
        return 2.0 + 2.0 * 4.0 / ADAM_BLOCK
    return {"adamw": 2.0, "sgd": 1.0, "muon": 1.0, "adafactor": 0.0}[optimizer] * width


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
    # Muon updates matrices; embeddings and the output layer stay with AdamW and its second moment (Jordan 2024)
    vector = (width if job.precision in ("fp32", "tf32", "bf16-pure") else 4.0) if job.optimizer == "muon" else 0.0
    if job.precision in ("fp32", "tf32", "bf16-pure"):
        state = optimizer_state_bytes(job.optimizer, width)
        return Precisions(
            matmul=dtype, activation=width, linear_input=width, parameter=width, cast=0.0, gradient=width, master=0.0,
            state=state, vector_state=vector, factored=factored,
        )  # fmt: skip
    state = optimizer_state_bytes(job.optimizer, 4.0)
    narrow = {"fp8": 1.0, "nvfp4": DTYPE_BYTES["fp4"] + 1.0 / 16.0}.get(job.precision)
    kept, fp8_caches = (narrow, 2.0 * narrow) if narrow else (2.0, 0.0)
    if job.precision == "fp8" and framework.fp8_parameters:  # of matrices, both copies are all that is held
        fp8_caches -= 2.0
    if framework.mixed_precision == "master_weights":
        return Precisions(
            matmul=dtype, activation=2.0, linear_input=kept, parameter=2.0, cast=fp8_caches,
            gradient=4.0 if gradient == "fp32" else 2.0, master=4.0, state=state, vector_state=vector, factored=factored,
        )  # fmt: skip
    if framework.mixed_precision == "sharded_fp32":  # torchao casts when it multiplies and keeps 16-bit inputs and weights
        kept, fp8_caches = 2.0, 0.0
    return Precisions(
        matmul=dtype, activation=2.0, linear_input=kept, parameter=4.0, cast=2.0 + fp8_caches, gradient=4.0, master=0.0,
        state=state, vector_state=vector, factored=factored,
    )  # fmt: skip


def adapter_dtype(job: Job, framework: Framework) -> Literal["fp32", "same"]:
    """The type of adapters: the job's, else the framework's."""
    return (job.adapter.dtype if job.adapter is not None else None) or framework.adapter_dtype


def _adapter_precisions(job: Job, framework: Framework) -> Precisions:
    """Of what trains: adapters and their gradients in fp32, or in the compute type with or without fp32 master copies.

    Frozen weights count apart, in 16 bit or as they are quantized (``frozen_width``). Activations are in the compute type:
    the frozen model is loaded in it, so that autocast has nothing left to cast. FP8 caches each frozen matrix twice, as
    in pre-training.
    """
    dtype = matmul_dtype(job.precision)
    narrow = {"fp8": 1.0, "nvfp4": DTYPE_BYTES["fp4"] + 1.0 / 16.0}.get(job.precision)
    activation = 2.0 if narrow else DTYPE_BYTES[dtype]
    kept = narrow if narrow and framework.mixed_precision == "master_weights" else activation
    wide = adapter_dtype(job, framework) == "fp32"
    parameter = max(4.0 if wide else activation, activation)
    master = 4.0 if not wide and framework.mixed_precision == "master_weights" and activation < 4 else 0.0
    state = optimizer_state_bytes(job.optimizer, 4.0 if wide or master else activation)
    gradient = 4.0 if master and (job.gradient_dtype or framework.gradient_dtype) == "fp32" else parameter
    return Precisions(
        matmul=dtype, activation=activation, linear_input=kept, parameter=parameter, cast=0.0, gradient=gradient, master=master,
        state=state, vector_state=0.0, factored=False,
    )  # fmt: skip


def frozen_width(job: Job, framework: Framework) -> tuple[float, float]:
    """Bytes of a frozen weight that is not quantized, and of FP8 copies of a frozen matrix beside it."""
    base = 4.0 if job.precision in ("fp32", "tf32") else 2.0
    narrow = {"fp8": 1.0, "nvfp4": DTYPE_BYTES["fp4"] + 1.0 / 16.0}.get(job.precision, 0.0)
    caches = 2.0 * narrow if framework.mixed_precision == "master_weights" else 0.0
    return (4.0 if upcasts(job, framework) else base), caches


def upcasts(job: Job, framework: Framework) -> bool:
    """Whether weights that are not quantized stand in fp32; peft leaves GPTQ models alone."""
    return framework.upcasts_unquantized and job.kind == "qlora"
