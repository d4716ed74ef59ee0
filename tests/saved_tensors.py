"""What autograd keeps: the storages that a forward pass of real modules saves for its backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from unittest import mock

import torch
from torch.autograd.graph import saved_tensors_hooks


def saved_bytes(forward: Callable[[], Any], not_counted: Iterable[torch.Tensor]) -> int:
    """Bytes of all storages saved while ``forward`` runs, each once, without those of ``not_counted`` (weights, angles).

    A view keeps its whole storage alive, so the storage counts. Dropout runs as on a GPU, where its mask takes one byte
    (on the CPU torch multiplies by a mask of the tensor's own type).
    """
    excluded = {t.untyped_storage().data_ptr() for t in not_counted}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in excluded:
            kept.setdefault(storage.data_ptr(), storage)
        return tensor

    with mock.patch("torch.nn.functional.dropout", _gpu_dropout), saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    total = sum(storage.nbytes() for storage in kept.values())
    del result
    return total


def _gpu_dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.native_dropout(x, p, training)[0] if p > 0 and training else x
