"""A pretended CUDA device: its tensors are meta tensors, its time and its memory are counted. It finds crashes, not speeds.

``with Pretended(CARDS["rtx-3070-8gb"]) as device: ...``: inside, torch sees one GPU with that card's name, memory and compute
capability. Each operator takes what a plain roofline says on a clock that only it moves; every storage is counted while it
lives, and what does not fit raises torch's own out-of-memory error. ``fault`` makes the device fail in one of the ways of
``FAULTS``. Values are not there: checks run, and are believed.
"""

from __future__ import annotations

import contextlib
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from kernels.faults import OutOfMemory

GIB, MIB = 2**30, 2**20


@dataclass(frozen=True, kw_only=True)
class Card:
    """What torch and a roofline need to know of a card; ``profile`` is the planner's name for it."""

    profile: str
    name: str
    capability: tuple[int, int]
    memory_bytes: int
    num_sms: int
    bandwidth: float
    half_flops: float
    fp32_flops: float


CARDS = {
    card.profile: card
    for card in (
        Card(
            profile="v100-sxm2-32gb",
            name="Tesla V100-SXM2-32GB",
            capability=(7, 0),
            memory_bytes=32 * GIB - 300 * MIB,
            num_sms=80,
            bandwidth=900e9,
            half_flops=112e12,
            fp32_flops=15.7e12,
        ),
        Card(
            profile="v100-sxm2-16gb",
            name="Tesla V100-SXM2-16GB",
            capability=(7, 0),
            memory_bytes=16 * GIB - 200 * MIB,
            num_sms=80,
            bandwidth=900e9,
            half_flops=112e12,
            fp32_flops=15.7e12,
        ),
        Card(
            profile="rtx-3070-8gb",
            name="NVIDIA GeForce RTX 3070",
            capability=(8, 6),
            memory_bytes=int(7.78 * GIB),
            num_sms=46,
            bandwidth=448e9,
            half_flops=40e12,
            fp32_flops=20e12,
        ),
        Card(
            profile="rtx-3090-24gb",
            name="NVIDIA GeForce RTX 3090",
            capability=(8, 6),
            memory_bytes=int(23.7 * GIB),
            num_sms=82,
            bandwidth=936e9,
            half_flops=71e12,
            fp32_flops=35e12,
        ),
        Card(
            profile="a100-sxm4-40gb",
            name="NVIDIA A100-SXM4-40GB",
            capability=(8, 0),
            memory_bytes=int(39.4 * GIB),
            num_sms=108,
            bandwidth=1555e9,
            half_flops=312e12,
            fp32_flops=19.5e12,
        ),
        Card(
            profile="h100-sxm5-80gb",
            name="NVIDIA H100 80GB HBM3",
            capability=(9, 0),
            memory_bytes=int(79.1 * GIB),
            num_sms=132,
            bandwidth=3350e9,
            half_flops=989e12,
            fp32_flops=67e12,
        ),
        Card(
            profile="h200-sxm-141gb",
            name="NVIDIA H200",
            capability=(9, 0),
            memory_bytes=int(139.8 * GIB),
            num_sms=132,
            bandwidth=4800e9,
            half_flops=989e12,
            fp32_flops=67e12,
        ),
    )
}
CONTEXT_BYTES = 500 * MIB
LAUNCH_S, GAP_S = 5e-6, 2e-6
FAULTS = {
    "no kernel image": "CUDA error: no kernel image is available for execution on the device",
    "illegal access": "CUDA error: an illegal memory access was encountered",
    "cublas memory": "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
}
MATMULS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
VIEWS = {
    "aten::view", "aten::t", "aten::transpose.int", "aten::detach", "aten::expand", "aten::slice.Tensor", "aten::select.int",
    "aten::unsqueeze", "aten::squeeze", "aten::split.Tensor", "aten::split_with_sizes", "aten::_unsafe_view", "aten::permute",
    "aten::as_strided", "aten::alias", "aten::empty.memory_format", "aten::empty_like", "aten::new_empty",
    "aten::empty_strided", "aten::lift_fresh", "aten::view.dtype", "aten::_reshape_alias", "aten::unbind.int",
    "aten::squeeze.dim",
}  # fmt: skip


class Device:
    """Clocks of host and GPU, live and highest bytes, and the fault that is to come."""

    def __init__(self, card: Card, fault: str = "", after: int = 0) -> None:
        self.card, self.fault, self.after = card, fault, after
        self.host = self.gpu = 0.0
        self.live: dict[int, int] = {}
        self.now = self.peak = self.reserved = self.reserved_peak = 0
        self.launches = self.refused = 0
        self.armed_at: int | None = 0 if after == 0 else None  # a later fault counts launches from the first timing on
        self.dead = False

    def launch(self, seconds: float) -> None:
        """One kernel: the host takes its time, the GPU begins when both are ready. Raises the fault when its time has come."""
        self.launches += 1
        due = self.armed_at is not None and self.launches > self.armed_at + self.after
        if self.fault and (due or self.dead):
            self.dead = self.fault != "cublas memory"
            raise RuntimeError(f"{FAULTS[self.fault]}\nCUDA kernel errors might be asynchronously reported")
        self.host += LAUNCH_S
        self.gpu = max(self.gpu + GAP_S, self.host) + seconds

    def wait(self) -> None:
        if self.dead:
            raise RuntimeError(FAULTS[self.fault])
        self.host = max(self.host, self.gpu) + 5e-6

    def memory_s(self, moved: float) -> float:
        return moved / (0.85 * self.card.bandwidth) + 1e-6

    def matmul_s(self, flops: float, moved: float, dtype: torch.dtype) -> float:
        peak = self.card.half_flops if dtype in (torch.float16, torch.bfloat16) else self.card.fp32_flops
        return max(flops / (0.75 * peak), moved / (0.85 * self.card.bandwidth)) + 2e-6

    def allocate(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.live:
            return
        size = -(-storage.nbytes() // 512) * 512
        if self.now + size > self.card.memory_bytes - CONTEXT_BYTES:
            self.refused += 1
            raise OutOfMemory(f"CUDA out of memory. Tried to allocate {size / GIB:.2f} GiB.")
        self.live[key] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        self.reserved = max(self.reserved, -(-int(self.now * 1.02) // (2 * MIB)) * 2 * MIB)
        self.reserved_peak = max(self.reserved_peak, self.reserved)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self.live.pop(key, 0)


def tensors(*held: Any) -> list[torch.Tensor]:
    """All tensors in lists, tuples and tables of each other: torch's own walk takes ten times as long, at every operator."""
    found: list[torch.Tensor] = []
    for x in held:
        if isinstance(x, torch.Tensor):
            found.append(x)
        elif isinstance(x, (list, tuple)):
            found += tensors(*x)
        elif isinstance(x, dict):
            found += tensors(*x.values())
    return found


def shape_of(x: Any) -> Any:
    """What an operator's output on the meta device depends on, to be looked up by. TypeError where it cannot be."""
    if isinstance(x, torch.Tensor):
        return tuple(x.shape), x.stride(), x.dtype, x.is_meta
    if isinstance(x, (list, tuple)):
        return tuple(map(shape_of, x))
    if isinstance(x, dict):
        return tuple((key, shape_of(value)) for key, value in x.items())
    hash(x)
    return type(x), x


class Remembered:
    """Outputs of operators on meta tensors, made again by their shapes: torch finds those in Python, anew for each call."""

    def __init__(self) -> None:
        self.known: dict[Any, Callable[..., Any] | None] = {}

    def __call__(self, func: Any, args: Any, kwargs: Any) -> Any:
        try:
            key = func, shape_of(args), shape_of(kwargs), torch.get_default_dtype()
        except TypeError:
            return func(*args, **kwargs)
        if key in self.known:
            again = self.known[key]
            return func(*args, **kwargs) if again is None else again(args)
        out = func(*args, **kwargs)
        self.known[key] = self._again(func, args, kwargs, out, key[1])
        return out

    @staticmethod
    def _again(func: Any, args: Any, kwargs: Any, out: Any, before: Any) -> Callable[..., Any] | None:
        """How the output is made without the operator; None where it shares memory with what was given or gave that another
        shape than ``before``, and where something is not on meta."""
        given = tensors(args, kwargs)
        if not all(t.is_meta for t in given):
            return None
        if func._schema.is_mutable:
            if out is None:
                return lambda args: None
            return (lambda args: args[0]) if out is args[0] and shape_of(args) == before else None
        many = isinstance(out, (list, tuple))
        made = list(out) if many else [out]
        if not all(type(t) is torch.Tensor and t.is_meta for t in made):
            return None
        storages = {t.untyped_storage()._cdata for t in made}
        whole = all(t.untyped_storage().nbytes() == t.nbytes for t in made)
        if not whole or len(storages) < len(made) or storages & {t.untyped_storage()._cdata for t in given}:
            return None
        shapes = [(t.shape, t.stride(), t.dtype) for t in made]
        kind = type(out) if many else None  # the output itself must not live on

        def again(args: Any) -> Any:
            fresh = [torch.empty_strided(size, stride, dtype=dtype, device="meta") for size, stride, dtype in shapes]
            return fresh[0] if kind is None else kind(fresh)

        return again


REMEMBERED = Remembered()


class Account(TorchDispatchMode):
    """Each operator on meta tensors takes time and memory of the device."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name()
        given = tensors(args, kwargs)
        here = any(t.device.type == "meta" for t in given)
        if name.startswith("aten::_fused_adamw_"):
            self.device.launch(self.device.memory_s(1.6 * sum(t.nbytes for t in given)))
            return None
        out = REMEMBERED(func, args, kwargs)
        made = [t for t in tensors(out) if t.device.type == "meta"]
        for tensor in made:
            self.device.allocate(tensor.untyped_storage())
        if (here or made) and name not in VIEWS:
            self.device.launch(self._seconds(name.split(".")[0], given, made))
        return out

    def _seconds(self, name: str, given: list[torch.Tensor], made: list[torch.Tensor]) -> float:
        moved = float(sum(t.nbytes for t in (*given, *made)))
        if name in MATMULS:
            a, b = [t for t in given if t.dim() >= 2][-2:]
            return self.device.matmul_s(2.0 * a.numel() * b.shape[-1], moved, a.dtype)
        return self.device.memory_s(moved)


class Flash(torch.autograd.Function):
    """Fused attention as memory sees it: output and one number per row are kept, no scores."""

    device: Device

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, causal: bool) -> Any:
        out = torch.empty_like(q.transpose(1, 2)).transpose(1, 2)
        ctx.save_for_backward(q, k, v, out, torch.empty(q.shape[:-1], device="meta", dtype=torch.float32))
        ctx.causal = causal
        Flash.device.launch(Flash.device.matmul_s(4.0 * q.numel() * k.shape[2] * (0.5 if causal else 1.0), 0.0, q.dtype))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        q, k, v, _, _ = ctx.saved_tensors
        Flash.device.launch(Flash.device.matmul_s(10.0 * q.numel() * k.shape[2] * (0.5 if ctx.causal else 1.0), 0.0, q.dtype))
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), None


class Grouped(torch.autograd.Function):
    """The grouped product: one kernel where the card has it, else torch's loop, which waits for the group sizes."""

    device: Device

    @staticmethod
    def cost(a: Any, b: Any, out: Any, flops: float, groups: int) -> None:
        device, moved = Grouped.device, float(a.nbytes + b.nbytes + out.nbytes)
        if one_kernel(device.card, a.dtype):
            device.launch(device.matmul_s(flops, moved, a.dtype))
            return
        device.wait()
        for _ in range(groups):
            device.launch(device.matmul_s(flops / groups, moved / groups, a.dtype))

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        out = torch.empty(x.shape[0], w.shape[-1], device="meta", dtype=x.dtype)
        ctx.save_for_backward(x, w)
        Grouped.cost(x, w, out, 2.0 * x.shape[0] * x.shape[1] * w.shape[-1], w.shape[0])
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, w = ctx.saved_tensors
        flops = 2.0 * x.shape[0] * x.shape[1] * w.shape[-1]
        dx, dw = torch.empty_like(x), torch.empty_strided(w.shape, w.stride(), dtype=w.dtype, device="meta")
        Grouped.cost(gradients[0], w, dx, flops, w.shape[0])
        Grouped.cost(x, gradients[0], dw, flops, w.shape[0])
        return dx, dw


def one_kernel(card: Card, dtype: torch.dtype) -> bool:
    """Where torch's grouped product is one kernel: bf16 on compute capability 9.0 and 10.0."""
    return card.capability[0] in (9, 10) and dtype == torch.bfloat16


def _on_meta(x: Any) -> Any:
    """``x``, or what it holds, with the meta device where it names a GPU."""
    if isinstance(x, torch.Tensor):
        return x
    if type(x) in (list, tuple):
        return type(x)(map(_on_meta, x))
    if isinstance(x, torch.device) and x.type == "cuda":
        return torch.device("meta")
    return torch.device("meta") if isinstance(x, str) and (x == "cuda" or x.startswith("cuda:")) else x


DEVICE, IS_CUDA, IS_META = torch.Tensor.device.__get__, torch.Tensor.is_cuda.__get__, torch.Tensor.is_meta.__get__
VALUES = {"__float__": 0.0, "item": 1.0, "__int__": 1, "__index__": 1, "__bool__": True}
"""What asks for a tensor's values gets these."""


class Names(TorchFunctionMode):
    """Tensors say that they are on cuda:0, and what asks for their values gets some."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device, self.experts, self.pairs = device, 8, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", None) or str(func)
        if name == "__get__":
            if func == DEVICE:
                return torch.device("cuda", 0) if func(*args).type == "meta" else func(*args)
            if func == IS_META:
                return False
        meta = bool(args) and isinstance(args[0], torch.Tensor) and args[0].is_meta
        if func == IS_CUDA:
            return meta
        if func is torch.Tensor.backward and meta:
            with self:
                return torch.autograd.backward(
                    args[0], kwargs.get("gradient"), kwargs.get("retain_graph"), kwargs.get("create_graph", False)
                )
        special = self._special(func, name, meta, args, kwargs)
        if special is not NotImplemented or func is torch.device:
            return func(*args, **kwargs) if func is torch.device else special
        return func(*map(_on_meta, args), **{key: _on_meta(value) for key, value in kwargs.items()})

    def _special(self, func: Any, name: str, meta: bool, args: Any, kwargs: Any) -> Any:
        if func in (torch.equal, torch.allclose):
            return True
        if meta and name in VALUES:
            self.device.wait()
            return VALUES[name]
        if meta and name == "tolist":
            groups = args[0].numel()
            if args[0].dim() == 2:  # rows that travel to each rank, and that come from it
                ranks = args[0].shape[1]
                return [[max(self.pairs // ranks, 1)] * ranks for _ in range(args[0].shape[0])]
            return [(self.pairs or groups) * (i + 1) // groups for i in range(groups)]
        if meta and name == "cpu":
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        if name == "pin_memory":
            return args[0]
        if meta and name in ("scaled_dot_product_attention", "grouped_mm", "_grouped_mm", "_scaled_mm"):
            with torch._C.DisableTorchFunction():
                return getattr(self, f"_{name.strip('_')}")(args, kwargs)
        if func is torch.where and len(args) == 1:
            return self._where(args[0])
        if name == "copy_" and isinstance(args[1], torch.Tensor) and args[0].is_meta != args[1].is_meta:
            self.device.launch(args[1].nbytes / 20e9)
            return args[0]
        return NotImplemented

    def _scaled_dot_product_attention(self, args: Any, kwargs: Any) -> Any:
        q, k, v = args[:3]
        fused = self.device.card.capability >= (8, 0) and q.dtype in (torch.float16, torch.bfloat16)
        if kwargs.get("enable_gqa") and not fused:
            raise RuntimeError("No available kernel. Aborting execution.")
        return Flash.apply(q, k, v, kwargs.get("is_causal", False))

    def _grouped_mm(self, args: Any, kwargs: Any) -> Any:
        a, b = args[:2]
        if b.dim() == 3:
            return Grouped.apply(a, b)
        out = torch.empty(kwargs["offs"].shape[0], a.shape[0], b.shape[1], device="meta", dtype=a.dtype)
        Grouped.cost(a, b, out, 2.0 * a.shape[0] * a.shape[1] * b.shape[1], out.shape[0])
        return out

    def _scaled_mm(self, args: Any, kwargs: Any) -> Any:
        a, b = args[:2]
        out = torch.empty(a.shape[0], b.shape[1], device="meta", dtype=kwargs["out_dtype"])
        self.device.launch(self.device.matmul_s(1.0 * a.numel() * b.shape[1], float(out.nbytes), torch.bfloat16))
        return out

    def _where(self, chosen: Any) -> Any:
        self.device.wait()
        tokens, k = chosen.shape
        with torch._C.DisableTorchFunction():
            rows = torch.zeros(max(tokens * k // self.experts, 1), dtype=torch.int64, device="meta")
        return rows, torch.zeros_like(rows)


class Pretended(contextlib.AbstractContextManager["Device"]):
    """One pretended GPU for the time of a with block."""

    def __init__(self, card: Card, fault: str = "", after: int = 0, most: int = 1) -> None:
        self.device, self.most = Device(card, fault, after), most
        self.names = Names(self.device)

    def __enter__(self) -> Device:
        # torch's optimizers load it in their first step, and it wants the real events
        import torch._dynamo.device_interface  # noqa: F401

        from kernels import probes

        self.stack = contextlib.ExitStack()
        probes.forget()
        Flash.device = Grouped.device = self.device
        for target, name, value in (*self._cuda(), *self._kernels()):
            self.stack.enter_context(mock.patch.object(target, name, value, create=True))
        before = sys.modules.get("pynvml")
        sys.modules["pynvml"] = self._nvml()
        self.stack.callback(self._forget_nvml, before)
        self.stack.enter_context(Account(self.device))
        self.stack.enter_context(self.names)
        return self.device

    def __exit__(self, *error: object) -> None:
        from kernels import probes

        self.stack.close()
        probes.forget()

    @staticmethod
    def _forget_nvml(before: Any) -> None:
        del sys.modules["pynvml"]
        if before is not None:
            sys.modules["pynvml"] = before

    def _cuda(self) -> Iterator[tuple[Any, str, Any]]:
        """What torch.cuda answers."""
        device, card, cuda = self.device, self.device.card, torch.cuda
        properties = types.SimpleNamespace(
            name=card.name,
            total_memory=card.memory_bytes,
            multi_processor_count=card.num_sms,
            major=card.capability[0],
            minor=card.capability[1],
            L2_cache_size=40 * MIB,
            uuid="11111111-2222-3333-4444-555555555555",
            warp_size=32,
        )

        def reset(_: Any = None) -> None:
            device.peak, device.reserved_peak = device.now, device.reserved

        def empty() -> None:
            if device.dead:
                raise RuntimeError(FAULTS[device.fault])
            device.reserved = -(-device.now // (2 * MIB)) * 2 * MIB

        answers: dict[str, Callable[..., Any]] = {
            "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0, "set_device": lambda d: None,
            "get_device_properties": lambda d=None: properties, "get_device_capability": lambda d=None: card.capability,
            "get_device_name": lambda d=None: card.name, "reset_peak_memory_stats": reset, "empty_cache": empty,
            "mem_get_info": lambda d=None: (card.memory_bytes - CONTEXT_BYTES - device.reserved, card.memory_bytes),
            "memory_allocated": lambda d=None: device.now, "max_memory_allocated": lambda d=None: device.peak,
            "memory_reserved": lambda d=None: device.reserved, "max_memory_reserved": lambda d=None: device.reserved_peak,
            "synchronize": lambda d=None: device.wait(), "current_stream": lambda d=None: Stream(),
            "stream": lambda s: contextlib.nullcontext(), "graph": lambda g, **k: g.captured(device),
            "get_arch_list": lambda: ["sm_75", "sm_80", "sm_86", "sm_90"],
            "set_per_process_memory_fraction": lambda f, d=None: None,
        }  # fmt: skip
        for name, answer in answers.items():
            yield cuda, name, answer
        yield cuda, "Event", lambda enable_timing=False: Event(device)
        yield cuda, "Stream", Stream
        yield cuda, "CUDAGraph", CUDAGraph
        yield torch.Tensor, "record_stream", lambda tensor, stream: None  # torch would ask for a real stream
        # a CUDA build asks the driver whether the step is captured, by another function in each release
        yield torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda optimizer: None
        yield torch.optim.Optimizer, "_cuda_graph_capture_health_check", lambda optimizer: None
        yield cuda.nccl, "version", lambda: (2, 27, 3)

    def _kernels(self) -> Iterator[tuple[Any, str, Any]]:
        """Where the harness must be told that nothing is real: clock, checks, probes apart, regions that are recomputed."""
        import kernels.transformer
        from kernels import apart, clock, moe_layer, probes, session, timing

        names, device, most = self.names, self.device, self.most

        def checked(work: Any) -> float | None:
            return None if work.check is None else float(0.0 * (work.check() or 0.0))

        def inline(task: str, given: dict[str, Any], timeout_s: float) -> dict[str, Any]:
            if task == "probe":
                return probes.probe_task(**given)
            raise apart.Failed("is not pretended")

        def forward(layer: Any, x: Any) -> Any:
            names.experts, names.pairs = layer.config.num_experts, x.numel() // x.shape[-1] * layer.config.top_k
            return real_forward(layer, x)

        def recomputed(block: Any, *inputs: Any, **options: Any) -> Any:
            def inside(*given: Any) -> Any:
                with names:
                    return block(*given)

            return real_checkpoint(inside, *inputs, **options, determinism_check="none")

        def timed(watch: Any, *arguments: Any, **options: Any) -> Any:
            watch.most = most
            if device.armed_at is None:
                device.armed_at = device.launches
            options |= {"least": 1, "warm_up": 1}
            return real_time(watch, *arguments, **options)

        real_forward, real_checkpoint = moe_layer.MoELayer.forward, kernels.transformer.checkpoint
        real_time = timing.Stopwatch.time
        kind = lambda _, dtype: "grouped" if one_kernel(device.card, dtype) else "loop"  # noqa: E731
        yield clock, "now", lambda: device.host
        yield session.Session, "_checked", staticmethod(checked)
        yield apart, "run_apart", inline
        yield probes, "_grouped_kernel", kind
        yield moe_layer.MoELayer, "forward", forward
        yield kernels.transformer, "checkpoint", recomputed
        yield timing.Stopwatch, "time", timed
        yield timing, "WARM_UP_S", 0.0
        yield torch.profiler, "profile", Profile

    def _nvml(self) -> Any:
        module = types.ModuleType("pynvml")
        answers = {
            "nvmlInit": lambda: None, "nvmlDeviceGetHandleByUUID": lambda u: u, "nvmlDeviceGetHandleByIndex": lambda i: i,
            "nvmlDeviceGetPowerUsage": lambda h: 350000, "nvmlDeviceGetEnforcedPowerLimit": lambda h: 700000,
            "nvmlDeviceGetClockInfo": lambda h, k: 1755, "nvmlSystemGetDriverVersion": lambda: b"580.65",
            "nvmlDeviceGetUtilizationRates": lambda h: types.SimpleNamespace(gpu=0),
            "nvmlDeviceGetTemperature": lambda h, k: 55, "nvmlDeviceGetCurrentClocksEventReasons": lambda h: 0x24,
            "nvmlDeviceGetTotalEnergyConsumption": lambda h: int(350e3 * self.device.host),
            "nvmlDeviceGetMaxClockInfo": lambda h, k: 1980, "nvmlDeviceGetEccMode": lambda h: [1, 1],
            "nvmlDeviceGetComputeRunningProcesses": lambda h: ["this one"],
        }  # fmt: skip
        for name, answer in answers.items():
            setattr(module, name, answer)
        return module


class Profile(contextlib.AbstractContextManager["Profile"]):
    """A profiler that saw one kernel of the device and one operator of the host."""

    def __init__(self, **options: Any) -> None: ...

    def __exit__(self, *error: object) -> None: ...

    def key_averages(self) -> list[Any]:
        event = {"count": 2, "self_device_time_total": 30.0, "self_cpu_time_total": 50.0}
        kinds = (("sm90_xmma_gemm_bf16bf16_bf16f32", "DeviceType.CUDA"), ("aten::mm", "DeviceType.CPU"))
        return [types.SimpleNamespace(key=key, device_type=kind, **event) for key, kind in kinds]


class Event:
    """Its time is when everything launched before it is done."""

    def __init__(self, device: Device) -> None:
        self.device, self.time = device, 0.0

    def record(self, stream: Any = None) -> None:
        self.device.host += 1e-6
        self.time = max(self.device.gpu, self.device.host)

    def synchronize(self) -> None:
        self.device.host = max(self.device.host, self.time)

    def elapsed_time(self, other: Event) -> float:
        return (other.time - self.time) * 1e3


class Stream:
    """All streams are one here."""

    def __init__(self, *arguments: Any, **options: Any) -> None: ...

    def wait_stream(self, other: Any) -> None: ...


class CUDAGraph:
    """Takes again the GPU time of what was launched while it was captured, with one launch."""

    def __init__(self) -> None:
        self.seconds, self.device = 0.0, None

    @contextlib.contextmanager
    def captured(self, device: Device) -> Iterator[None]:
        self.device, host, gpu = device, device.host, device.gpu
        launches = device.launches
        device.host = device.gpu = 0.0
        yield
        self.seconds = max(device.gpu - device.launches * 0.0 - LAUNCH_S * (device.launches - launches), 1e-6)
        device.host, device.gpu = host, gpu

    def replay(self) -> None:
        assert self.device is not None
        self.device.launch(self.seconds)
