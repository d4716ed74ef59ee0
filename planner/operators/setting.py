"""The few axes that operator rows depend on, and the sizes that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from planner.common.arrays import Array, Number, Positions, distinct_values
from planner.model.architecture import LayerKind, Model
from planner.operators.routing import kept_load
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.layout import Layouts, Recompute
from planner.workload.precision import Precisions, precisions, upcasts

AXES = ("tp", "sequence_parallel", "cp", "ep", "etp", "micro_batch_size", "recompute")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything an operator needs to know; every array has shape ``(n_axes,)``, one entry per distinct combination."""

    model: Model
    framework: Framework
    job: Job
    tp: Array
    sequence_parallel: Array
    cp: Array
    ep: Array
    etp: Array
    micro_batch_size: Array
    recompute: Array
    source_len: Number = 0.0  # tokens that the encoder has read, where the job's are the decoder's
    key_len: Number = 0.0  # keys of a sequence where they are not its own tokens

    @cached_property
    def precision(self) -> Precisions:
        """Bytes per element."""
        return precisions(self.job, self.framework)

    @property
    def width(self) -> float:
        """Bytes of one activation element."""
        return self.precision.activation

    @property
    def autocast(self) -> bool:
        """Modules of fp32 weights whose matrix multiplies alone run in 16 bit (torch.autocast)."""
        return self.framework.mixed_precision == "autocast" and self.precision.cast > 0

    @property
    def residual_width(self) -> float:
        """Bytes of one element of the residual stream: autocast adds 16-bit results to fp32 embeddings and norms in fp32.

        So it does where embeddings and norms of a quantized model were upcast (peft's prepare_model_for_kbit_training).
        """
        return 4.0 if self.autocast or upcasts(self.job, self.framework) else self.width

    @property
    def input_width(self) -> float:
        """Bytes of one element of a linear layer's kept input."""
        return self.precision.linear_input

    @cached_property
    def queries(self) -> Array:
        """Tokens of one sequence on this rank: s / cp."""
        return np.asarray(self.job.seq_len / self.cp)

    @cached_property
    def tokens(self) -> Array:
        """Tokens of a micro-batch on this rank: b s / cp."""
        return self.micro_batch_size * self.queries

    @cached_property
    def sequence_tokens(self) -> Array:
        """Tokens on this rank outside the tensor-parallel regions: divided by tp under sequence parallelism."""
        return self.tokens / np.where(self.sequence_parallel > 0, self.tp, 1.0)

    @cached_property
    def tensor_parallel(self) -> Array:
        """1 where tp > 1."""
        return np.where(self.tp > 1, 1.0, 0.0)

    @cached_property
    def full_recompute(self) -> Array:
        """1 where whole layers are recomputed."""
        return np.asarray((self.recompute == Recompute.FULL).astype(float))

    @cached_property
    def core_recompute(self) -> Array:
        """1 where at least the attention core is recomputed."""
        return (self.recompute >= Recompute.SELECTIVE).astype(float)

    @cached_property
    def kept_load(self) -> Array:
        """Tokens of the fullest rank of the expert-parallel group over the mean, less what its experts drop."""
        return kept_load(self.model, self.job, self.ep)

    @property
    def unquantized_dtype(self) -> str:
        """The type of what FP8 training leaves in 16 bit: attention, router, output layer (Transformer Engine)."""
        return "bf16" if self.precision.matmul in ("fp8", "fp4") else self.precision.matmul

    @property
    def causal(self) -> bool:
        """Decoders mask the future."""
        return self.model.architecture == "decoder"

    @property
    def keys_in_all(self) -> Number:
        """Keys of one sequence, cached ones of an earlier segment aside; a column where sequences of several lengths are."""
        length: Number = self.key_len or self.job.seq_len
        return length if isinstance(length, np.ndarray) else float(length)

    def keys(self, kind: LayerKind) -> tuple[Number, Number]:
        """Keys that a query attends to on average: (executed by a fused kernel, by the MFU convention)."""
        s, m = self.keys_in_all, self.model
        window = float(m.sliding_window) if kind.sliding and m.sliding_window else s
        picked = float(m.index_top_k) if m.index_top_k and not m.compress_ratio else s  # an indexer picks that many keys
        window = np.minimum(np.minimum(window, s), picked) if isinstance(s, np.ndarray) else min(window, s, picked)
        if kind.sliding and m.attention_chunked:  # of its own chunk, a query sees what is in front of it
            return (window + 1.0) / 2.0 if self.causal else window, window
        # the first `window` queries see 1 .. window keys, the others see `window`
        seen = (window * (window + 1.0) / 2.0 + (s - window) * window) / s if self.causal else window
        if m.compress_ratio:
            mean, made = compressed_keys(float(s), m.compress_ratio, m.index_top_k)
            return seen + mean, window + made
        return seen, window

    def of(self, kind: LayerKind) -> Setting:
        """The same axes with the fields that hold in a layer of that kind."""
        model = self.model.of(kind)
        seen = self if model is self.model else replace(self, model=model)
        return seen.decoder

    @cached_property
    def decoder(self) -> Setting:
        """The same axes over the decoder's tokens, where layers attend to an encoder's output; it knows the length of that.

        Of a vision encoder's: the tokens of all images of a sequence.
        """
        if self.model.image_attention:
            return replace(self, source_len=max(self.job.images * self.model.tokens_per_image, 1.0))
        if not self.model.cross_attention:
            return self
        job = self.job.model_copy(update={"seq_len": self.job.target_len or self.job.seq_len})
        return replace(self, job=job, source_len=self.source_len or float(self.job.seq_len))

    @cached_property
    def across(self) -> Setting:
        """A decoder's queries over the keys of the encoder's output: all of them are seen."""
        plain = {"architecture": "encoder", "sliding_window": None, "memory_length": 0, "relative_attention": False}
        model = self.model.model_copy(update={**plain, "position_bias": False})
        return replace(self, model=model, key_len=self.source_len)

    @cached_property
    def source(self) -> Setting:
        """The same axes over the tokens of the encoder's output."""
        return replace(self, job=self.job.model_copy(update={"seq_len": int(self.source_len or self.job.seq_len)}))

    def local_kv_heads(self) -> Array:
        """Key-value heads on one rank: k / tp, but at least one (they are copied when tp exceeds them)."""
        return np.maximum(self.model.num_kv_heads / self.tp, 1.0)


def compressed_keys(tokens: float, ratio: int, most: int = 0) -> tuple[float, float]:
    """Compressed keys that a query sees, on average and at most: token t sees t / ratio of them, or the ``most`` best."""
    made = tokens / ratio
    kept = min(made, float(most)) if most else made
    return kept * (1.0 - kept / (2.0 * made)), kept


def distinct_axes(layouts: Layouts, model: Model, framework: Framework, job: Job) -> tuple[Setting, Positions]:
    """The distinct combinations of AXES among ``layouts``, and for each layout the position of its own."""
    first, inverse = distinct([getattr(layouts, name) for name in AXES])
    values = {name: getattr(layouts, name)[first] for name in AXES}
    return Setting(model=model, framework=framework, job=job, **values), inverse


def distinct(columns: Sequence[Array]) -> tuple[Positions, Positions]:
    """(position of one row of each distinct combination, for each row the number of its combination).

    Columns become one whole number a row, a digit per column, so that nothing but single columns is sorted.
    """
    key = np.zeros(len(columns[0]), dtype=np.intp)
    size = 1
    for column in columns:
        values = distinct_values(column)
        key = key * len(values) + np.searchsorted(values, column)
        size *= len(values)
        if size > 4 * len(key) + 1_000_000:  # too sparse for a table: only the numbers that occur
            occurring, key = np.unique(key, return_inverse=True)
            size = len(occurring)
    member = np.full(size, -1, dtype=np.intp)
    member[key] = np.arange(len(key))
    present = member >= 0
    number = np.cumsum(present) - 1
    return member[present], number[key]
