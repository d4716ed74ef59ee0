"""What torch can do on this device, found by trying, once: fused norms, shared key-value heads, grouped and fp8 products.

A probe may hang or leave the device unusable (an illegal access is remembered by the whole process), so on a GPU all of
them run in a process of their own, with a time limit, before anything is measured. They must not run inside a region that
is recomputed: a first call there would save tensors that a second one does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels import apart
from kernels.faults import first_line

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
TIMEOUT_S = 180.0
"""For importing torch, starting the device and trying everything."""
Found = dict[str, Any]
_found: dict[tuple[str, str], Found] = {}


def found(device_type: str, dtype: torch.dtype) -> Found:
    """``grouped_mm`` (why not; empty when it works), ``grouped_kernel``, ``shared_kv_heads``, ``fused_norm`` and ``fp8``."""
    name = next(name for name, kind in DTYPES.items() if kind == dtype)
    if (device_type, name) not in _found:
        if device_type == "cuda":
            _apart(name)
        else:
            _found[device_type, name] = _try_all(device_type, dtype)
    return _found[device_type, name]


def forget() -> None:
    """Try again at the next question."""
    _found.clear()


def _apart(name: str) -> None:
    """In a process of its own, with fp32, which every run asks for, in the same one: starting it costs most of the time.

    A type whose process fails is tried once more alone; then nothing of it that may spoil the device is used here.
    """
    others = [other for other in ("fp32",) if other != name and ("cuda", other) not in _found]
    problem = ""
    for names in ([name, *others], [name]) if others else ([name],):
        try:
            answers = apart.run_apart("probe", {"device": _current(), "dtypes": names}, TIMEOUT_S)
        except apart.Failed as error:
            problem = f"the probe {error}"
            continue
        _found.update({("cuda", one): answers[one] for one in names})
        return
    nothing = {"grouped_mm": problem, "grouped_kernel": "", "shared_kv_heads": False, "fp8": problem}
    _found["cuda", name] = {**nothing, "fused_norm": _norm("cuda")}


def _current() -> str:
    return f"cuda:{torch.cuda.current_device()}"


def probe_task(device: str, dtypes: list[str]) -> dict[str, Found]:
    """What ``kernels.apart`` runs: the findings by type."""
    torch.cuda.set_device(torch.device(device))
    return {name: _try_all("cuda", DTYPES[name]) for name in dtypes}


def _try_all(device_type: str, dtype: torch.dtype) -> Found:
    """One after the other, the dangerous ones last; their tensors are nobody else's to save."""
    with saved_tensors_hooks(lambda x: x, lambda x: x), torch.enable_grad():
        answer = {"fused_norm": _norm(device_type), "shared_kv_heads": _shared(device_type, dtype)}
        problem = _tried(lambda: _grouped_problem(device_type, dtype))
        answer |= {"grouped_mm": problem, "grouped_kernel": "" if problem else _grouped_kernel(device_type, dtype)}
        return {**answer, "fp8": _tried(lambda: _fp8_problem(device_type))}


def _tried(probe: Callable[[], str]) -> str:
    try:
        return probe()
    except (RuntimeError, AttributeError, NotImplementedError, TypeError, ValueError) as error:
        return first_line(error)


def _values(*shape: int, device: str, dtype: torch.dtype, grad: bool = False) -> Tensor:
    """Numbers between -1 and 1 that use no random state."""
    n = torch.Size(shape).numel()
    return torch.sin(torch.arange(n, dtype=torch.float32)).view(shape).to(device, dtype).requires_grad_(grad)


def _norm(device_type: str) -> bool:
    """Whether torch runs an RMS norm as one kernel here (CUDA since 2.9); seen from what autograd records."""
    x = torch.ones(1, 8, device=device_type, requires_grad=True)
    result = F.rms_norm(x, (8,), torch.ones(8, device=device_type, requires_grad=True), 1e-5)
    return "rmsnorm" in type(result.grad_fn).__name__.lower()


@contextmanager
def fused_attention() -> Iterator[None]:
    """Only fused kernels: no silent fall to the one that keeps the score matrix. Wraps forward and backward."""
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
        yield


def _shared(device_type: str, dtype: torch.dtype) -> bool:
    """Whether the fused attention kernel reads grouped keys and values without copies."""
    q = _values(1, 4, 8, 32, device=device_type, dtype=dtype, grad=True)
    k = _values(1, 2, 8, 32, device=device_type, dtype=dtype)
    try:
        with fused_attention():
            F.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True).sum().backward()
    except (RuntimeError, TypeError):
        return False
    return True


def grouped_mm(x: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """Rows of ``x`` times the weight of their group; torch's public function where it has one (2.10), else the private one."""
    public = getattr(F, "grouped_mm", None)
    return public(x, weights, offs=ends) if public is not None else torch._grouped_mm(x, weights, offs=ends)


def _grouped_problem(device_type: str, dtype: torch.dtype) -> str:
    """Why grouped multiplication does not serve here, forward and backward with one empty group; empty when it does.

    Before torch 2.9 its backward pass on CUDA hangs where an expert has no tokens (pytorch/pytorch issue 152668, mended by
    CUTLASS 4.0, pull request 157903). On some chips an empty group's weight gradient is left as the memory was (issue
    172439): memory is filled with NaN before, so that it shows.
    """
    if device_type == "cuda" and torch_version() < (2, 9):
        return "its backward pass hangs on empty experts before torch 2.9"
    x, weights, ends = _groups(device_type, dtype)
    result = grouped_mm(x, weights.transpose(-2, -1), ends)
    expected = torch.cat([x[:5] @ weights[0].t(), x[5:] @ weights[2].t()])
    direction = _values(*result.shape, device=device_type, dtype=dtype)
    torch.full_like(weights, float("nan"))
    found = (result, *torch.autograd.grad(result, (x, weights), direction))
    wanted = (expected, *torch.autograd.grad(expected, (x, weights), direction))
    if not all(torch.allclose(a.float(), b.float(), rtol=5e-2, atol=0.5) for a, b in zip(found, wanted, strict=True)):
        return "torch's grouped_mm gives wrong results for this type"
    return ""


def _groups(device_type: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    x = _values(16, 32, device=device_type, dtype=dtype, grad=True)
    weights = _values(3, 64, 32, device=device_type, dtype=dtype, grad=True)
    return x, weights, torch.tensor([5, 5, 16], dtype=torch.int32, device=device_type)  # ragged, one group empty


def _grouped_kernel(device_type: str, dtype: torch.dtype) -> str:
    """ "grouped" where one kernel does all groups; "loop" where torch multiplies group after group from the host.

    Seen from the operators that one call runs: the fall-back (outside bf16 on compute capability 9.0 and 10.0) copies the
    group sizes to the host and calls one product per group.
    """
    if device_type != "cuda":
        return "loop"
    x, weights, ends = _groups(device_type, dtype)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen, torch.no_grad():
        grouped_mm(x, weights.transpose(-2, -1), ends)
    names = [event.name for event in seen.events()]
    return "loop" if sum(name in ("aten::mm", "aten::mm_out", "aten::bmm", "aten::addmm") for name in names) >= 2 else "grouped"


def _fp8_problem(device_type: str) -> str:
    """Why torch._scaled_mm does not multiply fp8 matrices here; empty when it does."""
    if device_type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability() < (8, 9):
        return "fp8 needs compute capability 8.9"
    a, b = (_values(32, 32, device=device_type, dtype=torch.float32).to(torch.float8_e4m3fn) for _ in (0, 1))
    one = torch.ones((), device=device_type)
    result = scaled_mm(a, b.t(), one)
    expected = a.float() @ b.float().t()
    return "" if torch.allclose(result.float(), expected, rtol=5e-2, atol=0.1) else "torch._scaled_mm gives wrong results"


def scaled_mm(a: Tensor, b: Tensor, one: Tensor) -> Tensor:
    """The fp8 product of torch, bf16 result; ``a`` row-major, ``b`` column-major, per-tensor scales."""
    result = torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
    return result[0] if isinstance(result, tuple) else result


def torch_version() -> tuple[int, int]:
    """Major and minor."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)
