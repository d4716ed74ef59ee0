"""Adapters on a frozen model: a layer's rows without gradients of its weights, and the rows of A and B beside them.

Frozen weights have no gradient: the weight-gradient rows go, and an input stays in memory only where something else needs it.
A gradient flows down to the lowest adapter and no further, unless checkpointing redoes the layers: then transformers makes the
embeddings' output require a gradient, and the backward pass runs through all of them. Oracle: autograd's saved tensors under
peft (tests/operators/test_adapter_rows.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner.common.arrays import Number
from planner.common.message import Message
from planner.common.units import DTYPE_BYTES
from planner.model.architecture import LayerKind
from planner.model.linears import Linear
from planner.model.mixers import MIXER_INPUTS
from planner.operators.row import Matmul, Phase, Role, Row, ShardGroup, changed
from planner.operators.setting import Setting
from planner.workload.adapters import adapted, adapted_head, saved_module
from planner.workload.precision import adapter_dtype, frozen_width, upcasts
from planner.workload.tuning import Adapter

ADAPTED, FIRST, STILL = 1, 2, 4
UNQUANTIZED = ("router", "logits", "transform", "hyper weights")
"""Linear layers that a quantized model leaves as they are: router, output layer, and weights that no module holds."""
UNCACHED = ("router", "logits")
"""Linear layers of whose weights the framework keeps no second copy."""
INT8_KERNELS = 6.0
"""Beside an LLM.int8 multiplication: row maxima, cast, outliers' columns, their product, scaling, sum. Assumed."""
GPTQ_KERNELS = 13.0
"""AutoGPTQ unpacks for training with torch: zeros and weights are each shifted, cast and masked, zeros raised by one, groups cast
and gathered for scales and zeros, the difference and its product (auto_gptq/nn_modules/qlinear/qlinear_cuda.py, forward)."""
COMMON_INPUT = {
    ("attention", "query"): "entrance", ("attention", "query down"): "entrance", ("attention", "key value down"): "entrance",
    ("moe", "router"): "tokens", ("shared_expert", "in projection"): "tokens", ("moe", "latent in"): "tokens",
    ("attention", "attention gate projection"): "entrance", ("attention", "index key"): "entrance",
    ("attention", "index weights"): "entrance", **{("mixer", part): "mixer entrance" for part in MIXER_INPUTS},
}  # fmt: skip
"""Linear layers that read the same tensor, which is kept once."""


def tuned_layer(setting: Setting, kind: LayerKind, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows of a layer whose weights are frozen, with the adapters that its kind carries."""
    job = setting.job
    if job.adapter is None:
        return rows
    carries = kind.role in (ADAPTED, FIRST)
    linears = adapted(setting.model, kind._replace(role=0), job.adapter) if carries else ()
    below: Number = setting.full_recompute if kind.role in (FIRST, STILL) else 1.0
    tuned = tuple(_walk(setting, job.adapter, rows, linears, below))
    if setting.model.of(kind).shared_weights:  # its adapters, too, are those of the layer in front
        return tuple(changed(row, parameters=0.0) for row in tuned)
    return tuned


def tuned_embedding(setting: Setting, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The embedding, frozen; where it is trained in full, beside a frozen copy, as peft's modules_to_save keep it."""
    if setting.job.adapter is None:
        return rows
    width, _ = frozen_width(setting.job, setting.framework)
    trained = _saved(setting, "words")
    result: list[Row] = []
    for row in rows:
        if row.phase == "forward":
            result.append(_still(row, width, 1.0 if trained else 0.0))
        elif trained:
            result.append(row)
    return (*result, _copy(setting)) if trained else tuple(result)


def tuned_head(setting: Setting, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Final norm and output layer, frozen, adapted, or trained in full beside a frozen copy."""
    adapter = setting.job.adapter
    if adapter is None:
        return rows
    width, _ = frozen_width(setting.job, setting.framework)
    trained, linear = _saved(setting, "head"), adapted_head(setting.model, adapter)
    result: list[Row] = []
    for row in rows:
        if row.operator == "logits" and trained:
            result.append(_still(row, width, 1.0) if row.phase == "forward" else row)
        elif row.operator == "logits" and not isinstance(row.work, Matmul):
            continue  # the sum of a loss's chunks: what is frozen has no weight gradient
        elif row.operator == "logits":
            result += _walk(setting, adapter, (row,), (linear,) if linear else (), 1.0, quantized=False)
        elif row.operator != "transform" or row.role != "weight gradient":
            result.append(_still(row, width, 0.0 if (row.operator, row.role) == ("transform", "product") else 1.0))
    return (*result, _copy(setting)) if trained else tuple(result)


def _saved(setting: Setting, what: str) -> bool:
    adapter = setting.job.adapter
    return adapter is not None and any(saved_module(setting.model, name) == what for name in adapter.modules_to_save)


def _copy(setting: Setting) -> Row:
    """A module trained in full: peft leaves it in the model's type, so in parameters of the adapters' type it counts less."""
    m, base = setting.model, frozen_width(setting.job, setting.framework)[0]
    words = m.vocab_size * float(m.embedding_projection_size or m.hidden_size) / setting.tp
    share = min(base / setting.precision.parameter, 1.0)
    return Row(name="trained copy", block="adapter", phase="forward", parameters=share * words, shard_group="dense")


def _still(row: Row, width: float, kept: Number) -> Row:
    """A row whose weights do not train; of what it saves, the part ``kept`` stays."""
    return changed(row, parameters=0.0, frozen_bytes=width * row.parameters, saved_bytes=row.saved_bytes * kept)


def _scaled(row: Row, part: Number) -> Row:
    """A row of the backward pass where it runs at all."""
    if isinstance(part, float) and part == 1.0:
        return row
    return changed(
        row,
        flops=row.flops * part,
        model_flops=row.model_flops * part,
        masked_flops=row.masked_flops * part,
        bytes_moved=row.bytes_moved * part,
        kernels=row.kernels * part,
        host_s=row.host_s * part,
        communication_bytes=row.communication_bytes * part,
        workspace_bytes=row.workspace_bytes * part,
    )


def _walk(
    setting: Setting, adapter: Adapter, rows: tuple[Row, ...], linears: tuple[Linear, ...], below: Number, quantized: bool = True
) -> Iterator[Row]:
    """Rows in forward order, each followed by its gradients; ``below``: 1 where a gradient leaves the layer at its entrance."""
    width, caches = frozen_width(setting.job, setting.framework)
    flow: Number = below
    kept: set[str] = set()
    for row in rows:
        name = row.operator
        if not row.has_weight:
            row = _in_fp32(setting, row)
            if row.beside is not None:
                yield from _exchange(row, linears, flow)
            else:
                yield _still(row, width, flow) if row.phase == "forward" else _scaled(row, flow)
            continue
        parts = tuple(linear for linear in linears if (linear.block, linear.operator) == (row.block, name))
        weights = _Weights.of(setting, row, quantized and name not in UNQUANTIZED)
        if row.phase == "forward":
            held = _needed_elsewhere(setting, name)
            stays = row.saved_bytes * flow if held else row.saved_bytes * 0.0
            if weights.packed is not None and setting.framework.quantized_keeps_input and not held:
                stays = setting.input_width * weights.work.m * weights.work.k * weights.work.batch * flow
            if weights.in_int8(setting):
                shared = held or (bool(parts) and not _Casts.of(setting, weights).copies(adapter))
                stays = (stays if shared else weights.int8_input(setting) * flow) + weights.int8_cast(setting) * flow
            stored = weights.stored(width, caches)
            row = weights.multiplied_in_int8(setting, row)
            yield changed(row, saved_bytes=stays, parameters=0.0, frozen_bytes=stored)
            yield from weights.int8_casts(setting) if weights.in_int8(setting) else weights.unpacked(setting, "forward", 1.0)
            yield from weights.casts_around(setting, "forward", 1.0)
            yield from _adapters_forward(setting, adapter, row, parts, kept, held, _Casts.of(setting, weights))
        elif row.role == "input gradient":
            yield _scaled(_without_weight_gradient(setting, row, name), flow)
            yield from weights.unpacked(setting, "backward", flow)
            yield from weights.casts_around(setting, "backward", flow)
            yield from _adapters_backward(setting, adapter, row, parts, flow, _Casts.of(setting, weights))
        elif parts:  # the weight gradient comes last, and goes
            flow = 1.0


def _exchange(row: Row, linears: tuple[Linear, ...], flow: Number) -> Iterator[Row]:
    """A tensor-parallel exchange beside gradient multiplications: a frozen weight's gradient neither hides it nor asks for it."""
    beside = row.beside
    if beside is not None and beside.role == "weight gradient":
        yield _scaled(changed(row, beside=None), flow)
    elif beside is not None and any((linear.block, linear.operator) == (row.block, beside.operator) for linear in linears):
        yield _scaled(row, flow)


def _without_weight_gradient(setting: Setting, row: Row, name: str) -> Row:
    """The output layer's gradient has no weight gradient beside it."""
    if name != "logits" or not isinstance(row.work, Matmul):
        return row
    by_size = setting.framework.chunked_loss is True
    return changed(row, workspace_bytes=0.0 if by_size else setting.width * row.work.m * row.work.k)


def _needed_elsewhere(setting: Setting, name: str) -> bool:
    """Inputs of linear layers that another operator's gradient reads: fused attention's output, ReLU's."""
    m = setting.model
    if name == "cross key value":  # the encoder's output is kept once for all layers
        return True
    if name in ("output projection", "cross output"):
        return setting.framework.attention_kernel == "flash"
    return name == "out projection" and m.activation == "relu" and not m.gated_ffn


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """The weights of one linear row on one rank."""

    row: Row
    work: Matmul
    elements: Number  # of the matrices
    others: Number  # biases and kin
    packed: float | None  # stored bytes per element; None where it is not quantized

    @classmethod
    def of(cls, setting: Setting, row: Row, quantized: bool) -> _Weights:
        work = row.work
        if not isinstance(work, Matmul):
            raise ValueError(Message("row {0!r} is no matrix multiply", row.name))
        quantization = setting.job.quantization if quantized else None
        forward = row.phase == "forward"
        inputs, outputs = (work.k, work.n) if forward else (work.n, work.k)
        matrices = inputs * outputs * work.batch
        elements = np.minimum(matrices, row.parameters) if forward else matrices
        packed = None if quantization is None else quantization.bytes_per_weight(float(np.max(inputs)))
        if quantization is not None and quantization.compute_dtype is not None:
            work = changed(work, dtype=quantization.compute_dtype)
        return cls(row=row, work=work, elements=elements, others=row.parameters - elements, packed=packed)

    def stored(self, width: float, caches: float) -> Number:
        """Bytes kept on the rank."""
        if self.packed is not None:
            return self.packed * self.elements + width * self.others
        return (width + (caches if self.row.operator not in UNCACHED else 0.0)) * self.elements + width * self.others

    def in_int8(self, setting: Setting) -> bool:
        """LLM.int8 (Dettmers et al. 2022, arXiv 2208.07339) multiplies forward in int8; its backward pass unpacks the weights."""
        quantization = setting.job.quantization
        return self.packed is not None and quantization is not None and quantization.format == "int8"

    def multiplied_in_int8(self, setting: Setting, row: Row) -> Row:
        """The forward row as the layer runs it: int8 reads one byte a weight and a token, and writes int32."""
        if not self.in_int8(setting):
            return changed(row, work=self.work)
        m, n, k, b = self.work.m, self.work.n, self.work.k, self.work.batch
        return changed(row, work=changed(self.work, dtype="int8"), bytes_moved=b * (m * k + k * n + 4.0 * m * n))

    def int8_input(self, setting: Setting) -> Number:
        """Bytes of the input that an int8 layer keeps, frozen or not (bitsandbytes, MatMul8bitLt: A of ctx.tensors)."""
        known = np.asarray(self.row.saved_bytes)
        inputs = self.row.saved_bytes if np.all(known > 0) else setting.input_width * self.work.m * self.work.k * self.work.batch
        return inputs * 4.0 / setting.input_width if self.in_fp32(setting) else inputs

    def int8_cast(self, setting: Setting) -> Number:
        """Bytes of that input in int8, one copy for each layer, where the release keeps it (the same function: CAt)."""
        separate = np.maximum(self.row.kernels, self.work.batch)
        return self.work.m * self.work.k * separate * float(setting.framework.int8_keeps_cast)

    def int8_casts(self, setting: Setting) -> Iterator[Row]:
        """Tokens are scaled, cast and searched for outliers; int32 results are scaled back (bitsandbytes, MatMul8bitLt)."""
        m, n, k, b = self.work.m, self.work.n, self.work.k, self.work.batch
        w, separate = setting.width, np.maximum(self.row.kernels, self.work.batch)
        yield Row(
            name=Message("{0} int8 casts", self.row.name),
            block=self.row.block,
            phase="forward",
            bytes_moved=b * ((2.0 * w + 1.0) * m * k + (4.0 + w) * m * n),
            kernels=INT8_KERNELS * separate,
        )

    def unpacked(self, setting: Setting, phase: str, part: Number) -> Iterator[Row]:
        """A copy in the compute type, made before each multiplication and dropped after it."""
        quantization = setting.job.quantization
        if self.packed is None or quantization is None:
            return
        width = DTYPE_BYTES[quantization.compute_dtype] if quantization.compute_dtype else setting.width
        separate = np.maximum(self.row.kernels, self.work.batch)
        double = quantization.format in ("nf4", "fp4") and quantization.double_quantization is not False
        torch_operations = quantization.format.startswith("gptq") and not setting.framework.fused_adapters  # those have a kernel
        row = Row(
            name=Message("{0} unpacked", self.row.operator),
            block=self.row.block,
            phase="forward" if phase == "forward" else "backward",
            bytes_moved=(self.packed + width) * self.elements,
            workspace_bytes=width * self.elements / separate,
            kernels=(GPTQ_KERNELS if torch_operations else 2.0 if double else 1.0) * separate,
            rate=setting.framework.dequantize_rate,
        )
        yield _scaled(row, part)

    def in_fp32(self, setting: Setting) -> bool:
        """Whether an fp32 norm's result comes in; attention's kernel writes 16 bit."""
        return self.packed is not None and self.row.operator not in CORE_OUTPUT and upcasts(setting.job, setting.framework)

    def casts_around(self, setting: Setting, phase: Phase, part: Number) -> Iterator[Row]:
        """A 4-bit layer casts what comes in to its compute type and its result back to what came in (bitsandbytes, nn/modules.py,
        Linear4bit.forward)."""
        w = setting.width
        if not self.in_fp32(setting) or w >= 4:
            return
        m, n, k, b = self.work.m, self.work.n, self.work.k, self.work.batch
        separate = np.maximum(self.row.kernels, self.work.batch)
        row = Row(
            name=Message("{0} casts", self.row.operator),
            block=self.row.block,
            phase=phase,
            bytes_moved=(4.0 + w) * b * (m * n + m * k * separate if phase == "forward" else m * k + m * n * separate),
            kernels=2.0 * separate,
        )
        yield _scaled(row, part)


CORE_OUTPUT = ("output projection", "cross output")
"""Linear layers that read fused attention's result."""
BETWEEN = ("activation", "rotary")
"""Pointwise work on a linear layer's results, in the type that they have."""


def _in_fp32(setting: Setting, row: Row) -> Row:
    """Pointwise work between 4-bit layers that fp32 norms feed: they give back the type that came in."""
    w = setting.width
    quantized = setting.job.quantization is not None and upcasts(setting.job, setting.framework)
    if row.operator not in BETWEEN or not quantized or w >= 4:
        return row
    return changed(row, bytes_moved=row.bytes_moved * 4.0 / w, saved_bytes=row.saved_bytes * 4.0 / w)


def _share(row: Row, linear: Linear, forward: bool) -> tuple[Number, Number, Number, Number]:
    """(tokens, inputs, outputs, groups) of one adapter beside a base row."""
    work = row.work
    if not isinstance(work, Matmul):
        raise ValueError(Message("row {0!r} is no matrix multiply", row.name))
    inputs, outputs = (work.k, work.n) if forward else (work.n, work.k)
    return work.m, inputs, outputs * linear.share, work.batch


@dataclass(frozen=True, kw_only=True)
class _Casts:
    """How adapters take their layer's input: ``up`` to the fp32 that they are kept in, ``back`` to 16 bit for their products.

    Only what changes its type is cast: an fp32 norm's result is what fp32 products read, one tensor for all adapters beside it.

    peft casts to the adapters' type (tuners/lora/layer.py, _cast_input_dtype), autocast back; beside a bitsandbytes layer it
    leaves casting to autocast (tuners/lora/bnb.py, requires_conversion). Without autocast the products are in fp32, but where
    master copies are: then what is multiplied is in 16 bit.
    """

    up: bool
    back: bool
    beside_quantized: bool  # by bitsandbytes
    result: float  # bytes of an element of what the layer itself takes and gives
    in_fp32: bool  # the products

    @classmethod
    def of(cls, setting: Setting, weights: _Weights) -> _Casts:
        """Those of the adapters beside a linear layer."""
        quantization = setting.job.quantization
        bnb = weights.packed is not None and quantization is not None and not quantization.format.startswith("gptq")
        f = setting.framework
        halved = f.halves_adapters or f.mixed_precision == "master_weights"
        fp32 = adapter_dtype(setting.job, f) == "fp32" and setting.width < 4 and not halved
        autocast = setting.job.precision != "bf16-pure"
        wide = weights.in_fp32(setting) and setting.width < 4
        up = fp32 and not wide and not f.fused_adapters and not (bnb and autocast)
        in_fp32 = fp32 and not autocast and not f.fused_adapters
        back = (up or wide) and not in_fp32
        return cls(up=up, back=back, beside_quantized=bnb, result=4.0 if wide else setting.width, in_fp32=in_fp32)

    def copies(self, adapter: Adapter) -> bool:
        """Whether each adapter keeps an input of its own: cast, or dropped out."""
        return adapter.dropout > 0 or self.up or self.back

    def width(self, setting: Setting) -> float:
        """Bytes of an element of what is multiplied."""
        return 4.0 if self.in_fp32 else setting.width

    def input_passes(self, setting: Setting, adapter: Adapter) -> tuple[float, float]:
        """(bytes moved per element, kernels) that make an adapter's own input: casts, and dropout with its mask of a byte.

        Eager kernels read and write the input each, dropout in the type that it has by then; torch.compile makes one of them.
        """
        w, drops = setting.width, adapter.dropout > 0
        if setting.framework.compile:
            return (self.result + self.width(setting) + drops, 1.0) if self.copies(adapter) else (0.0, 0.0)
        dropped = 2.0 * (4.0 if self.up else self.result) + 1.0
        return (w + 4.0) * (self.up + self.back) + dropped * drops, float(self.up + self.back + drops)


SUMMED_OUTPUTS = frozenset(("output projection", "out projection"))
"""Layers cut by rows: under tensor parallelism their outputs are partial sums, of the others their inputs' gradients."""


def _in_pointwise(setting: Setting, row: Row, linear: Linear, forward: bool = True) -> Number:
    """1 where torch.compile puts what is added to a layer's output into the pointwise kernel that reads it: an activation, a
    residual sum, a rotation; in the backward pass into the one that wrote it. Attention's kernel takes nothing in, and no kernel
    reaches across a collective: the sum of partial outputs, the gather of their gradients under sequence parallelism."""
    if not setting.framework.compile or setting.framework.fused_adapters:
        return 0.0
    rotated = setting.model.position_embedding == "rotary" and linear.part in ("query", "key")
    if row.operator in SUMMED_OUTPUTS:
        return 1.0 - setting.tensor_parallel * (1.0 if forward else setting.sequence_parallel > 0)
    return float(row.block in ("feed_forward", "shared_expert") or rotated)


def _sum_passes(setting: Setting, row: Row, linear: Linear, casts: _Casts) -> tuple[Number, Number]:
    """(bytes moved per element of the output, kernels) that scale what B gives and add it to the base layer's output: two
    kernels, one, or one more tensor that a kernel reads which is there anyway.

    fp32 products are cast to 16 bit after the sum, beside a bitsandbytes layer before it, and not at all where that layer gives
    fp32; peft first copies what a 4-bit layer gives (``clones_quantized_output``).
    """
    w, f = setting.width, setting.framework
    if f.fused_adapters or f.compile:
        inside = _in_pointwise(setting, row, linear)
        return (3.0 - 2.0 * inside) * w, 1.0 - inside
    copied = casts.beside_quantized and f.clones_quantized_output and not _in_8_bit(setting)
    own, launched = 2.0 * casts.result * copied, 2.0 + copied
    if not casts.in_fp32:
        return 3.0 * w + 2.0 * casts.result + own, launched
    if casts.result >= 4:
        return 8.0 + 12.0 + own, launched
    added = (4.0 + w) + 3.0 * w if casts.beside_quantized else (8.0 + w) + (4.0 + w)
    return 8.0 + added + own, launched + 1.0


def _in_8_bit(setting: Setting) -> bool:
    quantization = setting.job.quantization
    return quantization is not None and quantization.format == "int8"


def _sum_gradient_bytes(setting: Setting, casts: _Casts) -> tuple[float, float]:
    """(bytes moved per element of the output, kernels) of the gradient of scale and sum, eager: the scaled one; of fp32
    products it is cast up first, and what goes to the base layer back."""
    w = setting.width
    if not casts.in_fp32:
        return 2.0 * w, 1.0
    if casts.result >= 4:
        return 8.0, 1.0
    return (w + 4.0) * (1.0 if casts.beside_quantized else 2.0) + 8.0, 2.0 if casts.beside_quantized else 3.0


def _adapters_forward(
    setting: Setting, adapter: Adapter, row: Row, parts: tuple[Linear, ...], kept: set[str], base_kept: bool, casts: _Casts
) -> Iterator[Row]:
    w, rank, copied = casts.width(setting), float(adapter.rank), casts.copies(adapter)
    fused, dtype = setting.framework.fused_adapters, "fp32" if casts.in_fp32 else None
    for linear in parts:
        m, k, n, b = _share(row, linear, True)
        inputs, outputs = m * k * b, m * n * b
        tensor = COMMON_INPUT.get((row.block, row.operator), f"{row.block} {row.operator}")
        shared = 0.0 if base_kept or tensor in kept else 1.0
        kept.add(tensor)
        # the layer's input once, or each adapter's own copy of it; with dropout a mask, too
        saved = (
            (w + (1.0 if adapter.dropout > 0 else 0.0)) * inputs if copied else shared * _input_bytes(setting, row, inputs, casts)
        )
        group: ShardGroup = "expert" if row.shard_group == "expert" else "dense"
        own = b if group == "expert" else 1.0  # each expert has its A; the groups of one projection (DeepSeek-V4) share theirs
        name = Message("{0} adapter", linear.part)
        narrow, wide = Message("{0} A", name), Message("{0} B", name)
        if copied and not fused:
            passes, kernels = casts.input_passes(setting, adapter)
            yield Row(
                name=Message("{0} input", name),
                block=row.block,
                phase="forward",
                bytes_moved=passes * inputs,
                kernels=kernels,
                workspace_bytes=4.0 * inputs if casts.up else 0.0,
            )
        down = Matmul(m=m, n=rank, k=k, batch=b, grouped=_grouped(row), dtype=dtype)
        up = Matmul(m=m, n=n, k=rank, batch=b, grouped=_grouped(row), dtype=dtype)
        yield _multiply(narrow, row, down, w, saved_bytes=saved, parameters=rank * k * own, shard_group=group)
        yield from _partial_sums(setting, name, row, w * m * rank * b)
        yield _multiply(wide, row, up, w, saved_bytes=w * m * rank * b, parameters=rank * n * b, shard_group=group)
        over, launched = _sum_passes(setting, row, linear, casts)
        summed = Message("{0} sum", name)
        yield Row(name=summed, block=row.block, phase="forward", bytes_moved=over * outputs, kernels=launched)


def _input_bytes(setting: Setting, row: Row, elements: Number, casts: _Casts) -> Number:
    """What keeping an input takes: as the row says, or where another row holds it, counted here; what is in fp32 as such."""
    if casts.in_fp32:
        return 4.0 * elements
    known = np.asarray(row.saved_bytes)
    return row.saved_bytes if np.all(known > 0) else setting.input_width * elements


def _grouped(row: Row) -> bool:
    return isinstance(row.work, Matmul) and row.work.grouped


def _multiply(
    name: str,
    row: Row,
    work: Matmul,
    width: float,
    phase: str = "forward",
    part: Number = 1.0,
    role: Role | None = None,
    **more: Number | ShardGroup,
) -> Row:
    moved = width * work.batch * (work.m * work.k + work.k * work.n + work.m * work.n)
    found = Row(
        name=name,
        block=row.block,
        phase="forward" if phase == "forward" else "backward",
        role=role,
        flops=work.flops,
        model_flops=work.flops,
        bytes_moved=moved,
        kernels=1.0,
        work=work,
        imbalance=row.imbalance,
        **more,  # type: ignore[arg-type]
    )
    return _scaled(found, part)


def _partial_sums(setting: Setting, name: str, row: Row, message: Number) -> Iterator[Row]:
    """Behind a layer that tp cuts along its inputs, the ranks' parts of A x are summed."""
    if row.operator in ("output projection", "out projection", "cross output") and row.shard_group != "expert":
        yield Row(
            name=Message("{0} partial sums", name),
            block=row.block,
            phase="forward",
            collective="all_reduce",
            group="tp",
            communication_bytes=message * setting.tensor_parallel,
            kernels=setting.tensor_parallel,
        )


def _adapters_backward(
    setting: Setting, adapter: Adapter, row: Row, parts: tuple[Linear, ...], flow: Number, casts: _Casts
) -> Iterator[Row]:
    """Gradients of B, of A, and of the input where it is wanted; the sum with the base layer's input gradient."""
    w, rank = casts.width(setting), float(adapter.rank)
    fused, dtype = setting.framework.fused_adapters, "fp32" if casts.in_fp32 else None
    for linear in parts:
        m, k, n, b = _share(row, linear, False)
        name = Message("{0} adapter", linear.part)
        narrow, wide = Message("{0} A", name), Message("{0} B", name)
        inputs, outputs = m * k * b, m * n * b
        if not fused:
            summed = Message("{0} gradient", Message("{0} sum", name))
            inside = _in_pointwise(setting, row, linear, forward=False)
            over, launched = _sum_gradient_bytes(setting, casts)
            moved = (over - setting.width * inside) * outputs
            yield Row(name=summed, block=row.block, phase="backward", bytes_moved=moved, kernels=launched - inside)
        grouped = _grouped(row)
        yield _multiply(
            Message("{0} gradient", wide), row, Matmul(m=rank, n=n, k=m, batch=b, grouped=grouped, dtype=dtype), w, "backward"
        )
        inner = Matmul(m=m, n=rank, k=n, batch=b, grouped=grouped, dtype=dtype)
        yield _multiply(Message("{0} input gradient", wide), row, inner, w, "backward", role="input gradient")
        yield _multiply(
            Message("{0} gradient", narrow), row, Matmul(m=k, n=rank, k=m, batch=b, grouped=grouped, dtype=dtype), w, "backward"
        )
        outer = Matmul(m=m, n=k, k=rank, batch=b, grouped=grouped, dtype=dtype)
        yield _multiply(Message("{0} input gradient", narrow), row, outer, w, "backward", flow, role="input gradient")
        moved, kernels = casts.input_passes(setting, adapter) if not fused else (0.0, 0.0)
        # torch.compile: the norm's gradient reads it (but of partial sums), or the activation's; attention's kernel only the sum
        taken: Number = float(setting.framework.compile and not fused and row.operator != "output projection")
        taken = taken if row.operator in SUMMED_OUTPUTS else taken * (1.0 - setting.tensor_parallel)
        passes, own = 3.0 - 2.0 * taken, 1.0 - taken
        back = Row(
            name=Message("{0} input gradient sum", name),
            block=row.block,
            phase="backward",
            bytes_moved=(passes * casts.result + moved) * inputs,
            kernels=own + kernels,
        )
        yield _scaled(back, flow)
