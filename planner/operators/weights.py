"""A block's linear layers on one rank: their parameters and their multiplication, from the one list that describes them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from planner.common.arrays import Array, Number
from planner.model.architecture import LayerKind
from planner.model.parameters import ParameterTensor, layer_parameters
from planner.model.projections import Projection, Shard, of_operator
from planner.operators.row import Matmul, Row, linear
from planner.operators.setting import Setting


def on_one_rank(setting: Setting, tensors: Iterable[ParameterTensor]) -> Array:
    """Elements that one rank holds before data-parallel sharding, shape ``(n,)``.

    Column- and row-parallel matrices divide by tp (keys and values by at most their heads), the vocabulary's rows by
    tp, experts by ep x etp.
    """
    total = np.zeros_like(setting.tp)
    for tensor in tensors:
        total = total + tensor.elements / _ranks(setting, tensor.shard)
    return total


def _ranks(setting: Setting, shard: Shard) -> Array:
    """Ranks that share a tensor."""
    return {
        "tensor": setting.tp,
        "kv_heads": np.minimum(setting.tp, float(setting.model.num_kv_heads)),
        "vocabulary": setting.tp,
        "replicated": np.ones_like(setting.tp),
        "expert": setting.ep * setting.etp,
        "expert_replicated": setting.ep,
    }[shard]


def local_parameters(setting: Setting, kind: LayerKind, prefix: str) -> Array:
    """Elements on one rank of the layer's tensors whose name begins with ``prefix``."""
    tensors = [t for t in layer_parameters(setting.model, kind) if t.name.startswith(prefix)]
    return on_one_rank(setting, tensors)


def product(setting: Setting, kind: LayerKind, block: str, operator: str, tokens: Number, dtype: str | None = None) -> Matmul:
    """The multiplication of ``tokens`` by an operator's linear layers as one rank holds them: (tokens, k) x (k, n).

    Outputs or inputs are divided by tp (those of keys and values by at most their heads), an expert's by etp, experts by ep.
    """
    some = of_operator(setting.model, kind, block, operator)
    first = some[0]
    k: Number = float(first.inputs)
    n: Number = sum((_cut(setting, p) for p in some if p.own_row), 0.0)
    batch: Number = 1.0
    if first.by_inputs:
        k, n = k / (setting.etp if first.shard == "expert" else setting.tp), float(first.outputs)
    if first.shard == "expert":
        batch = first.copies / setting.ep
    elif first.groups > 1:
        batch, n = first.groups / setting.tp, float(first.outputs // first.groups)
    return Matmul(m=tokens, k=k, n=n, batch=batch, grouped=first.shard == "expert", dtype=dtype)


def _cut(setting: Setting, p: Projection) -> Number:
    """Outputs on one rank."""
    if p.shard == "replicated":
        return float(p.outputs)
    return p.outputs / (setting.etp if p.shard == "expert" else _ranks(setting, p.shard))


def projected(
    setting: Setting,
    kind: LayerKind,
    block: str,
    operator: str,
    tokens: Number,
    *,
    saved_bytes: Number = 0.0,
    kernels: Number = 1.0,
    dtype: str | None = None,
    more: Number = 0.0,
) -> tuple[Row, ...]:
    """Rows of one operator's linear layers. Of keys and values copied to more ranks than they have heads, only one is useful; of
    layers that are whole on every rank, what all ranks compute of the same tokens once (``once``).

    ``more``: parameters beside its own."""
    some, work = of_operator(setting.model, kind, block, operator), product(setting, kind, block, operator, tokens, dtype)
    useful: Number = 1.0
    if any(p.shard == "kv_heads" for p in some):
        useful = sum(p.outputs for p in some) / setting.tp / work.n
    elif all(p.shard == "replicated" for p in some):
        useful = once(setting, tokens)
    return linear(
        operator,
        block,
        work,
        width=setting.width,
        saved_bytes=saved_bytes,
        kernels=kernels,
        useful=useful,
        parameters=operator_parameters(setting, kind, block, operator) + more,
    )


def once(setting: Setting, tokens: Number) -> Number:
    """The part that the model needs of what each tensor-parallel rank computes of ``tokens`` with weights that are whole on every
    rank: all where ranks have tokens of their own (sequence parallelism), else one of tp."""
    return setting.tokens / tokens / setting.tp


def operator_parameters(setting: Setting, kind: LayerKind, block: str, operator: str) -> Array:
    """Elements on one rank of an operator's weights, biases, and of vectors that are named after them."""
    tensors = dict.fromkeys(p.tensor for p in of_operator(setting.model, kind, block, operator))
    return sum((local_parameters(setting, kind, f"{tensor}.") for tensor in tensors), np.zeros_like(setting.tp))
