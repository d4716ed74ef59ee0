"""Grouped matrix multiply of experts: tokens per expert, number of experts, balanced and skewed groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kernels import probes
from kernels.case import DTYPES, Case, Work, relative_error
from kernels.faults import Skip
from kernels.moe_layer import grouped_mm, grouped_mm_problem
from kernels.session import Session

FAMILY = "grouped_gemm"


def cases(session: Session) -> Iterator[Case]:
    """(experts, tokens per expert, out, in); balanced, then all kinds of imbalance, then the weight gradient."""
    for dtype, layout, groups, m, n, k in session.products:
        if groups and layout == "nt":
            yield _case(groups, m, n, k, "balanced", dtype)
    if session.cuda:
        sizes = [(e, t, n, k) for e in (8, 64) for t in (16, 64, 256, 1024) for n, k in ((4096, 2048), (2048, 2048))]
        sizes += [(8, t, 14336, 4096) for t in (128, 1024, 4096)] + [(128, t, 1536, 2048) for t in (32, 256)]
    else:
        sizes = [(e, t, n, k) for e in (4, 16) for t in (8, 32, 128) for n, k in ((512, 256), (256, 256))]
    for size in sizes:
        yield _case(*size, "balanced", session.half)
    e, t, n, k = sizes[len(sizes) // 2]
    for spread in ("zipf", "one", "empty"):
        yield _case(e, t, n, k, spread, session.half)
    for size in sizes[: 4 if session.cuda else 2]:
        yield _case(*size, "weight_gradient", session.half)


def group_sizes(experts: int, rows: int, spread: str) -> list[int]:
    """Rows per expert that add up to ``rows``: equal, Zipf with exponent 1, all to one, or half of the experts empty."""
    weights = {
        "zipf": [1.0 / (i + 1) for i in range(experts)],
        "one": [1.0] + [0.0] * (experts - 1),
        "empty": [float(i % 2) for i in range(experts)],
    }.get(spread, [1.0] * experts)
    sizes = [int(rows * w / sum(weights)) for w in weights]
    sizes[weights.index(max(weights))] += rows - sum(sizes)
    return sizes


def _case(experts: int, tokens: int, n: int, k: int, spread: str, dtype: str) -> Case:
    rows = experts * tokens

    def build(session: Session) -> Work:
        problem = grouped_mm_problem(session.device.type, DTYPES[dtype])
        if problem:
            raise Skip(f"grouped_mm: {problem}")
        kernel = str(probes.found(session.device.type, DTYPES[dtype])["grouped_kernel"])
        sizes, kind_of = group_sizes(experts, rows, spread), {"kernel": kernel, "groups": experts}
        once = kernel == "grouped"
        ends = torch.tensor(sizes).cumsum(0).to(torch.int32).to(session.device)
        kind: dict[str, Any] = {"device": session.device, "dtype": DTYPES[dtype]}
        x = torch.randn(rows, k, **kind)
        width = x.element_size()
        moved = float(width * (rows * k + sum(1 for s in sizes if s) * k * n + rows * n))
        if spread == "weight_gradient":
            dy = torch.randn(rows, n, **kind)
            return Work(run=lambda: grouped_mm(dy.t(), x, ends), flops=2.0 * rows * n * k, bytes=moved, extra=kind_of, graph=once)
        weights = torch.randn(experts, n, k, **kind)
        return Work(
            run=lambda: grouped_mm(x, weights.transpose(-2, -1), ends),
            flops=2.0 * rows * n * k,
            bytes=moved,
            check=lambda: _check(x, weights, sizes, ends),
            tolerance=2e-2,
            extra=kind_of,
            graph=once,
        )

    shape = {"experts": experts, "tokens_per_expert": tokens, "n": n, "k": k, "spread": spread}
    return Case(family=FAMILY, name="grouped_mm", shape=shape, dtype=dtype, build=build)


def _check(x: Tensor, weights: Tensor, sizes: list[int], ends: Tensor) -> float:
    """First and last row of each group that has rows, against float64."""
    result, bounds = grouped_mm(x, weights.transpose(-2, -1), ends), ends.tolist()
    rows = [r for size, end in zip(sizes, bounds, strict=True) if size for r in (end - size, end - 1)]
    owners = [i for i, size in enumerate(sizes) if size for _ in (0, 1)]
    expected = torch.stack([x[r].double() @ weights[i].double().t() for r, i in zip(rows[:32], owners[:32], strict=True)])
    return relative_error(result[rows[:32]], expected)
