"""What a family hands over: a case, the work it builds, and the small tools that building and checking need."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from kernels.timing import Timing

if TYPE_CHECKING:
    from kernels.session import Session

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}


@dataclass(kw_only=True)
class Work:
    """What a case measures: ``run`` is timed; ``check`` returns its relative error, at most ``tolerance``, before that.

    ``prepare`` runs untimed before each repeat; ``finish`` after all of them and returns more fields for the record.
    ``graph``: the work may be captured as a CUDA graph, and is where the host is slower than the device.
    """

    run: Callable[[], Any] | None  # None: building it was the measurement, and ``extra`` is the result
    flops: float = 0.0
    bytes: float = 0.0
    check: Callable[[], float] | None = None
    tolerance: float = 1e-2
    prepare: Callable[[], Any] | None = None
    finish: Callable[[Timing], dict[str, Any]] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    cold: bool = True
    warm_up: int = 2
    least: int = 5
    inner: int = 1
    graph: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """One sample to be: its name and shape, and ``build`` that allocates and returns the work."""

    family: str
    name: str
    shape: dict[str, Any]
    dtype: str
    build: Callable[[Session], Work]
    weight: float = 1.0  # of the family's time, relative to its other cases
    extra: dict[str, Any] = field(default_factory=dict)  # recorded even when the case is skipped
    smaller: Case | None = None  # what to measure instead when memory runs out

    def identity(self) -> dict[str, Any]:
        """What tells it from other cases, as a record holds it."""
        return {"family": self.family, "name": self.name, "shape": self.shape, "dtype": self.dtype}

    @property
    def key(self) -> str:
        """The same for the same case in another run."""
        return sample_key(self.identity())


def sample_key(sample: dict[str, Any]) -> str:
    """``Case.key`` of what a record holds."""
    return json.dumps([sample[name] for name in ("family", "name", "shape", "dtype")], sort_keys=True)


class matmul_precision:
    """TF32 on for dtype tf32, off for all others, for the time of a with block."""

    def __init__(self, dtype: str) -> None:
        self.wanted = "high" if dtype == "tf32" else "highest"

    def __enter__(self) -> None:
        self.before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.wanted)

    def __exit__(self, *error: object) -> None:
        torch.set_float32_matmul_precision(self.before)


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over norm of the expected, in float64."""
    a, b = result.detach().double(), expected.detach().double()
    return float((a - b).norm() / b.norm().clamp_min(1e-30))
