"""Matrix multiplies that were measured on an accelerator at exactly their shape: kept beside the law, and asked first.

A kernel is a line of the accelerator's table ``measured_kernels``: ``"bf16 nt 8192 x 4096 x 4096" = 3.1e-4``, seconds of
(m, k) x (k, n) as m x n x k; ``"bf16 grouped nt 64 x 256 x 2048 x 4096"`` of 64 groups in one kernel. The layouts are those of
BLAS: ``nt`` a linear layer, ``nn`` the gradient of its input, ``tn`` that of its weight.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from planner.common.arrays import Array
from planner.common.errors import PlannerError

LAYOUTS = ("nt", "nn", "tn")
LINE = re.compile(r"([a-z0-9]+) (grouped )?(nt|nn|tn) (\d+(?: x \d+){2,3})")


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One product of a type and a layout; ``groups`` of m rows each in one kernel, 0 = a plain one."""

    dtype: str
    layout: str
    m: int
    n: int
    k: int
    groups: int = 0

    @property
    def name(self) -> str:
        """The line that stands for it in a profile.

        >>> Kernel(dtype="bf16", layout="nt", m=8, n=16, k=32).name
        'bf16 nt 8 x 16 x 32'
        """
        sizes = " x ".join(str(size) for size in (*([self.groups] if self.groups else []), self.m, self.n, self.k))
        return f"{self.dtype} {'grouped ' if self.groups else ''}{self.layout} {sizes}"


def kernel(name: str) -> Kernel:
    """The kernel that a line of a profile names. PlannerError shows what a line looks like.

    >>> kernel("bf16 grouped nt 64 x 256 x 2048 x 4096").groups
    64
    """
    found = LINE.fullmatch(name)
    sizes = [int(size) for size in found[4].split(" x ")] if found is not None else []
    grouped = found is not None and found[2] is not None
    if found is None or len(sizes) != 3 + grouped or min(sizes) < 1:
        raise PlannerError(
            "measured_kernels.{0!r}: must be like 'bf16 nt 8192 x 4096 x 4096' (type, layout nt, nn or tn, m x n x k), "
            "or 'bf16 grouped nt 64 x 256 x 2048 x 4096' with the groups first.",
            name,
        )
    return Kernel(dtype=found[1], layout=found[3], groups=sizes[0] if grouped else 0, m=sizes[-3], n=sizes[-2], k=sizes[-1])


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """All kept kernels of one type and layout: sizes (kernels, 4) as m, n, k, groups, and seconds of each."""

    sizes: Array
    seconds: Array

    def find(self, m: Array, n: Array, k: Array, groups: Array) -> Array:
        """Seconds of the products of these sizes, arrays of one shape; NaN where none of that size was measured."""
        found = np.full(np.shape(m), np.nan)
        near = np.isin(self.sizes[:, 1], n) & np.isin(self.sizes[:, 2], k)  # few of them: the loop is short
        for sizes, seconds in zip(self.sizes[near], self.seconds[near], strict=True):
            same = (m == sizes[0]) & (n == sizes[1]) & (k == sizes[2]) & (groups == sizes[3])
            found = np.where(same, seconds, found)
        return found


@lru_cache(maxsize=64)
def shelves(kept: tuple[tuple[str, float], ...]) -> dict[tuple[str, str], Shelf]:
    """The table of a profile by type and layout. Weight gradients have the larger of m and n first: they are their transpose."""
    found: dict[tuple[str, str], list[tuple[Kernel, float]]] = {}
    for name, seconds in kept:
        one = kernel(name)
        found.setdefault((one.dtype, one.layout), []).append((one, seconds))
    return {key: _shelf(kernels) for key, kernels in found.items()}


def _shelf(kernels: Iterable[tuple[Kernel, float]]) -> Shelf:
    rows, seconds = [], []
    for one, took in kernels:
        m, n = (max(one.m, one.n), min(one.m, one.n)) if one.layout == "tn" else (one.m, one.n)
        rows.append((m, n, one.k, one.groups))
        seconds.append(took)
    return Shelf(sizes=np.array(rows, dtype=float), seconds=np.array(seconds))
