"""Gates that are limited in front of a fused activation: what PyTorch moves, launches and keeps for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from examples import MIXTRAL, framework, job, model, number
from saved_tensors import saved_bytes
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from planner.operators.moe import expert_tokens
from planner.operators.row import Row
from planner.operators.setting import Setting, distinct_axes
from planner.operators.table import build_table
from planner.workload.layout import Layout, as_columns

ROWS, INNER, LIMIT = 48, 40, 7.0
VIEWS = ("aten.split.Tensor", "aten.slice.Tensor", "aten.detach.default", "aten.scalar_tensor.default", "aten.view.default")


class Moved(TorchDispatchMode):
    """Bytes that kernels read and write, and the kernels: views move none, and a number beside a tensor is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.kernels = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if str(func) not in VIEWS:
            tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor) and x.dim()]
            self.bytes += sum(x.numel() * x.element_size() for x in tensors)
            self.kernels += 1
        return result


def limited(both: torch.Tensor) -> torch.Tensor:
    gate, value = both.chunk(2, -1)
    return torch.cat((gate.clamp(max=LIMIT), value.clamp(min=-LIMIT, max=LIMIT)), -1)


def axes(layout: Layout | None = None, **changes: object) -> Setting:
    fields = {**MIXTRAL, "activation": "clamped_quick_gelu"}
    found, _ = distinct_axes(
        as_columns(layout or Layout(), 8), model(fields), framework("megatron-core").replaced(**changes), job()
    )
    return found


def rows_of(setting: Setting) -> list[Row]:
    return [row for row in next(iter(build_table(setting).layers.values())) if row.operator == "clamp"]


@pytest.mark.parametrize("backward", [False, True])
def test_limits_move_and_launch_what_pytorchs_kernels_do(backward: bool) -> None:
    both = torch.randn(ROWS, 2 * INNER, dtype=torch.bfloat16, requires_grad=True)
    joined = limited(both)
    gradient = torch.randn_like(joined.detach())
    with Moved() as moved:
        if backward:
            torch.autograd.grad(joined, both, gradient)
        else:
            limited(both.detach())
    setting = axes()
    row = rows_of(setting)[int(backward)]
    elements = number(expert_tokens(setting)) * float(setting.model.expert_ffn_hidden_size or 0)
    assert number(row.bytes_moved) / elements == pytest.approx(moved.bytes / (ROWS * INNER))
    assert number(row.kernels) == moved.kernels


def test_limits_keep_what_autograd_keeps() -> None:
    both = torch.randn(ROWS, 2 * INNER, dtype=torch.bfloat16).requires_grad_()
    kept = saved_bytes(lambda: limited(both * 1.0), [both])
    setting = axes()
    elements = number(expert_tokens(setting)) * float(setting.model.expert_ffn_hidden_size or 0)
    assert number(rows_of(setting)[0].saved_bytes) / elements == kept / (ROWS * INNER)


def test_one_compiled_kernel_limits_and_activates() -> None:
    assert rows_of(axes())
    assert not rows_of(axes(compile=True))


def test_recomputed_activations_limit_again_and_keep_no_copy() -> None:
    layout = Layout(recompute="selective")
    rows = rows_of(axes(layout, recompute_modules=frozenset({"moe_act"})))
    kept = sum(number(row.saved_bytes) for row in rows if row.phase == "forward")
    assert kept == 0.0
    assert [row.phase for row in rows].count("recompute") == 1
    assert sum(number(row.saved_bytes) for row in rows_of(axes(Layout()))) > 0.0
