"""What fine-tuning changes of a job: adapters on a frozen model, how the frozen weights are stored, a teacher to learn from."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from planner.common.message import Message
from planner.common.spec import Spec

Positive = Annotated[int, Field(gt=0, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]

DOUBLE_BLOCK = 256
"""Block constants of one block of double quantization (Dettmers et al. 2023, QLoRA, section 3)."""

USUAL_RANK = 16
"""Rank of adapters where none is given: peft's examples."""


class Adapter(Spec):
    """Low-rank adapters (Hu et al. 2021): y = x W + (alpha / rank) x A B with W frozen, A of inputs x rank, B of rank x outputs.

    ``target_modules``: names of linear layers as Hugging Face's (q_proj, c_attn, experts.down_proj, lm_head), or
    "all-linear": all of a layer but routers and experts stored as one tensor (peft's meaning).
    """

    rank: Positive
    alpha: Annotated[float, Field(gt=0)] | None = None  # scales the result; it costs nothing
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    layers: tuple[Count, ...] | None = None  # by index; all when left out
    last_layers: Positive | None = None  # or only the last so many
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the adapters' inputs
    dtype: Literal["fp32", "same"] | None = (
        None  # of A and B: fp32, or the type that the model computes in; None = the framework's
    )
    modules_to_save: tuple[str, ...] = ()  # trained in full beside the adapters, as copies: embed_tokens, lm_head

    @field_validator("target_modules", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, str) and value != "all-linear":
            return tuple(name.strip() for name in value.split(","))
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.target_modules:
            raise ValueError("target_modules = []: name at least one linear layer, or all-linear")
        if self.layers is not None and self.last_layers is not None:
            raise ValueError(Message("layers and last_layers = {0} are both given; give one of them", self.last_layers))
        if self.layers is not None and (not self.layers or len(set(self.layers)) < len(self.layers)):
            raise ValueError(Message("layers = {0}: name each layer once, and at least one", list(self.layers)))
        return self

    def tuned(self, num_layers: int) -> tuple[int, ...]:
        """Indices of the layers that carry adapters; ValueError for one that the model lacks."""
        if self.last_layers is not None:
            if self.last_layers > num_layers:
                raise ValueError(
                    Message("job.adapter.last_layers = {0}: the model has only {1} layers", self.last_layers, num_layers)
                )
            return tuple(range(num_layers - self.last_layers, num_layers))
        if self.layers is None:
            return tuple(range(num_layers))
        if max(self.layers) >= num_layers:
            raise ValueError(Message("job.adapter.layers names layer {0}: the last one is {1}", max(self.layers), num_layers - 1))
        return tuple(sorted(self.layers))


class Quantization(Spec):
    """How the frozen linear layers are stored; embeddings, norms and the output layer stay in 16 bit.

    nf4, fp4: 4 bit and an fp32 constant per ``block_size`` weights, itself in 8 bit with double quantization (QLoRA). gptq-int4,
    gptq-int8: integers with a 16-bit scale and a packed zero per ``group_size`` rows of each column. int8: one fp32 scale a row.
    """

    format: Literal["nf4", "fp4", "int8", "gptq-int4", "gptq-int8"] = "nf4"
    double_quantization: bool | None = None  # nf4 and fp4: yes unless it says no
    block_size: Literal[32, 64, 128, 256, 512, 1024, 2048, 4096] | None = None  # nf4 and fp4; 64
    group_size: Literal[32, 64, 128, 256] | None = None  # gptq; 128
    compute_dtype: Literal["fp16", "bf16", "fp32"] | None = None  # of multiplications with these weights; None = the job's

    @model_validator(mode="after")
    def _check(self) -> Self:
        blocks = self.format in ("nf4", "fp4")
        for field, fits in (("double_quantization", blocks), ("block_size", blocks), ("group_size", self.format[:4] == "gptq")):
            if getattr(self, field) is not None and not fits:
                raise ValueError(
                    Message("{0} = {1} does not belong to format = {2!r}; leave it out", field, getattr(self, field), self.format)
                )
        return self

    def bytes_per_weight(self, inputs: float) -> float:
        """Stored bytes per weight of a matrix with ``inputs`` rows, constants included.

        >>> Quantization(format="nf4").bytes_per_weight(4096.0)
        0.515869140625
        """
        if self.format in ("nf4", "fp4"):
            block = float(self.block_size or 64)
            double = self.double_quantization is not False
            return 0.5 + ((1.0 + 4.0 / DOUBLE_BLOCK) if double else 4.0) / block
        if self.format == "int8":
            return 1.0 + 4.0 / inputs
        bits = 4.0 if self.format == "gptq-int4" else 8.0
        return bits / 8.0 + (2.0 + bits / 8.0) / float(self.group_size or 128)


class Teacher(Spec):
    """The model whose outputs a student learns (Hinton et al. 2015): it runs forward beside the student, on the same layout.

    With ``cached_top_k`` its best logits of each token were stored before and are read instead.
    """

    model: str  # a catalog name or a path
    precision: Literal["fp32", "fp16", "bf16", "fp8", "nf4"] = "bf16"  # of its stored weights
    cached_top_k: Positive | None = None

    def cache_bytes(self, num_tokens: float) -> float:
        """Bytes on disk of the cached logits: a 16-bit value and a 32-bit index each."""
        return 0.0 if self.cached_top_k is None else num_tokens * self.cached_top_k * 6.0
