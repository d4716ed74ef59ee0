"""Modules on the meta device, of which only the sizes are read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch

FILLING = [name for name in vars(torch.nn.init) if name.endswith("_") and not name.startswith("_")]


@contextmanager
def on_meta() -> Iterator[None]:
    """Modules are made there, without memory and without the values that they would begin with: on the meta device each of
    these is computed in Python for nothing."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in FILLING:
            stack.enter_context(mock.patch.object(torch.nn.init, name, lambda tensor, *_, **__: tensor))
        stack.enter_context(torch.device("meta"))
        yield
