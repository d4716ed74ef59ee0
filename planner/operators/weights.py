"""Parameters of one rank, from the one list that counts them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from planner.common.arrays import Array
from planner.model.architecture import LayerKind
from planner.model.parameters import ParameterTensor, layer_parameters
from planner.operators.setting import Setting


def on_one_rank(setting: Setting, tensors: Iterable[ParameterTensor]) -> Array:
    """Elements that one rank holds before data-parallel sharding, shape ``(n,)``.

    Column- and row-parallel matrices divide by tp (keys and values by at most their heads), the vocabulary's rows by
    tp, experts by ep x etp.
    """
    total = np.zeros_like(setting.tp)
    for tensor in tensors:
        divisor = {
            "tensor": setting.tp,
            "kv_heads": np.minimum(setting.tp, float(setting.model.num_kv_heads)),
            "vocabulary": setting.tp,
            "replicated": np.ones_like(setting.tp),
            "expert": setting.ep * setting.etp,
            "expert_replicated": setting.ep,
        }[tensor.shard]
        total = total + tensor.elements / divisor
    return total


def local_parameters(setting: Setting, kind: LayerKind, prefix: str) -> Array:
    """Elements on one rank of the layer's tensors whose name begins with ``prefix``."""
    tensors = [t for t in layer_parameters(setting.model, kind) if t.name.startswith(prefix)]
    return on_one_rank(setting, tensors)
