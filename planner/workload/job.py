"""Doing what: how many tokens, in which precision, with which optimizer."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from planner.common.message import Message
from planner.common.spec import Spec
from planner.workload.fp8_recipe import SCALINGS, Fp8Recipe, Scaling
from planner.workload.tuning import Adapter, Quantization, Teacher

ADAPTERS = ("lora", "qlora", "gptq-lora")
"""Kinds of job that train adapters."""
Precision = Literal["fp32", "tf32", "fp16", "bf16", "bf16-pure", "fp8", "nvfp4"]
Optimizer = Literal[
    "adamw",
    "adamw-8bit",
    "adafactor",
    "sgd",
    "sgd-momentum",
    "muon",
    "paged-adamw",
    "paged-adamw-8bit",
    "galore-adamw",
    "galore-adamw-8bit",
]
Kind = Literal["pretrain", "finetune", "lora", "qlora", "gptq-lora", "distil"]
Positive = Annotated[int, Field(gt=0, strict=True)]

ADAM_BLOCK = 256
"""Elements per fp32 scale of 8-bit Adam's states (Dettmers et al. 2022, section 2; bitsandbytes' default block)."""


ROUTING_SKEW = 0.3
"""Deviation of a trained router's preferences, over that of a token's scores: geometric mean over four sources (published).

0.14: fullest of 64 experts 1.52 to 1.94 times the mean under an auxiliary loss, 1.04 with learned biases (Wang et al. 2024, arXiv
2408.15664, tables 2 and 6). 0.16: Gini 0.105 and 0.150 of two released models on wikitext, 0.24 and more of two others (Ma et
al. 2026, arXiv 2605.20982). 0.26: reports of steps with eight experts on eight ranks, whose fullest has 1.5 times the mean. 1.4:
Qwen3-235B with real and with forced routing, 4 lengths (yanring/Megatron-MoE-ModelZoo, best_practice/qwen3), 1.9 times the mean
of 8 ranks: steps of a router that has hardly trained, on made-up tokens, whose Gini is up to 2.35 times that of text (arXiv
2605.20982). Without the last one 0.18. One standard deviation of
the logarithm over the sources is a factor of 3."""


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
    fp8_recipe: Fp8Recipe | None = None  # how precision = "fp8" scales; None = one scale a tensor, found as it is quantized
    optimizer: Optimizer = "adamw"
    optimizer_rank: Positive | None = None  # of GaLore's projections; None = 128
    optimizer_in_backward: bool = False  # each weight is updated as soon as its gradient is there, which is freed then
    gradient_dtype: Literal["fp32", "same"] | None = None  # None = the framework's
    # tokens on the fullest expert rank / mean; None = 1 where the benchmark forces the router to be even, else by its skew
    expert_load: Annotated[float, Field(ge=1)] | None = None
    routing: Literal["unforced", "forced"] = "unforced"
    routing_skew: Annotated[float, Field(ge=0, le=3)] = ROUTING_SKEW
    multi_token_prediction: Annotated[int, Field(ge=0, le=8, strict=True)] = 0  # modules behind the last layer that train, too
    # tokens of a sequence that the decoder of an encoder-decoder reads; seq_len are the encoder's; 0 = as many
    target_len: Annotated[int, Field(ge=0, strict=True)] = 0
    images: Annotated[float, Field(ge=0, le=10_000)] = 0.0  # of a sequence, in the mean; their tokens are part of seq_len
    image_patches: Annotated[int, Field(ge=0, le=1_000_000, strict=True)] = 0  # that the encoder sees; 0 = as the model fixes it
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

    @model_validator(mode="before")
    @classmethod
    def _named_recipe(cls, data: Any) -> Any:
        named = str(data.get("precision", "")).lower() if isinstance(data, dict) else ""
        if named in SCALINGS:
            raise ValueError(
                Message(
                    "precision = {0!r}: {1} is a recipe of FP8; give precision = 'fp8' with fp8_recipe = {1!r}",
                    data["precision"],
                    named,
                )
            )
        return data

    @model_validator(mode="after")
    def _recipe(self) -> Self:
        if self.fp8_recipe is not None and self.precision != "fp8":
            raise ValueError(
                Message(
                    "fp8_recipe = {0!r} with precision = {1!r}: recipes scale FP8; leave it out, or use precision = 'fp8'",
                    self.fp8_recipe,
                    self.precision,
                )
            )
        return self

    @model_validator(mode="after")
    def _rank(self) -> Self:
        if self.optimizer_rank is not None and not self.low_rank:
            raise ValueError(
                Message(
                    "optimizer_rank = {0} with optimizer = {1!r}: only GaLore projects gradients; "
                    "use optimizer = 'galore-adamw', or leave it out",
                    self.optimizer_rank,
                    self.optimizer,
                )
            )
        return self

    @model_validator(mode="after")
    def _tables(self) -> Self:
        tunes = self.kind in ADAPTERS
        if tunes and self.adapter is None:
            raise ValueError(Message("kind = {0!r} needs the table [job.adapter] with a rank", self.kind))
        if self.adapter is not None and not tunes:
            raise ValueError(Message("adapter with kind = {0!r}: adapters belong to lora, qlora and gptq-lora", self.kind))
        if self.quantization is not None and self.kind not in ("qlora", "gptq-lora"):
            raise ValueError(Message("quantization with kind = {0!r}: use kind = 'qlora' or 'gptq-lora'", self.kind))
        if self.quantization is not None and (self.kind == "gptq-lora") != (self.quantization.format[:4] == "gptq"):
            right = "gptq-int4 or gptq-int8" if self.kind == "gptq-lora" else "nf4, fp4 or int8"
            raise ValueError(
                Message("quantization.format = {0!r} with kind = {1!r}: use {2}", self.quantization.format, self.kind, right)
            )
        if (self.teacher is not None) != (self.kind == "distil"):
            raise ValueError(Message("kind = {0!r}: distil needs the table [job.teacher], and only distil has one", self.kind))
        if tunes and (self.optimizer in ("muon", "adafactor") or self.low_rank):
            raise ValueError(
                Message("optimizer = {0!r} with kind = {1!r}: use adamw, sgd or a kin of them", self.optimizer, self.kind)
            )
        if self.multi_token_prediction and (tunes or self.teacher is not None):
            raise ValueError(
                Message(
                    "multi_token_prediction = {0} with kind = {1!r}: its modules train with all weights; use kind = 'pretrain' "
                    "or 'finetune', or leave it out",
                    self.multi_token_prediction,
                    self.kind,
                )
            )
        if tunes and self.optimizer_in_backward:
            raise ValueError(
                Message(
                    "optimizer_in_backward with kind = {0!r}: adapters' gradients are small; leave it out, or train all weights",
                    self.kind,
                )
            )
        if self.quantization is not None and self.precision in ("fp8", "nvfp4"):
            raise ValueError(
                Message(
                    "precision = {0!r} with kind = {1!r}: quantized weights multiply in 16 bit; use precision = 'bf16' "
                    "('fp16' on a GPU without it), or kind = 'lora' for 8-bit multiplications",
                    self.precision,
                    self.kind,
                )
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

    @property
    def low_rank(self) -> bool:
        """Whether Adam's moments are those of gradients projected to a low rank (GaLore)."""
        return self.optimizer.startswith("galore-")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        given = [n for n in ("num_samples", "num_tokens", "num_steps") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(
                Message("{0} exclude each other; give one of num_samples, num_tokens, num_steps", " and ".join(given))
            )
        return self

    @property
    def scaling(self) -> Scaling:
        """How FP8 is scaled: the recipe's, or one scale a tensor."""
        return SCALINGS[self.fp8_recipe or "tensorwise"]

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
