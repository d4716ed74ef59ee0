"""What the measurements ran on: name, memory, driver, versions, settings that change results; whether it is free to measure."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import Any

import numpy
import torch

from kernels.faults import scrubbed
from kernels.power import PowerMeter

SETTINGS = (
    "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT", "CUDA_LAUNCH_BLOCKING", "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_MODULE_LOADING",
    "CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "OMP_NUM_THREADS",
    "MKL_NUM_THREADS", "TORCH_CUDNN_SDPA_ENABLED", "TORCH_NCCL_ASYNC_ERROR_HANDLING", "PYTORCH_NO_CUDA_MEMORY_CACHING",
)  # fmt: skip
"""Variables of the environment that change what is measured; those that begin with NCCL_ are recorded too."""
UNSAFE = ("NCCL_DEBUG_FILE", "NCCL_TOPO_FILE", "NCCL_TOPO_DUMP_FILE", "NCCL_GRAPH_FILE", "NCCL_HOSTID", "NCCL_COMM_ID")
"""They name files and hosts: only that they are set is recorded."""


def environment() -> dict[str, str]:
    """The settings that are set, without paths, host names and serial numbers."""
    found = {k: v for k, v in os.environ.items() if k in SETTINGS or k.startswith("NCCL_")}
    private = {k for k, v in found.items() if k in UNSAFE or "GPU-" in v or "MIG-" in v}
    return {k: "set" if k in private else scrubbed(v) for k, v in sorted(found.items())}


def spills() -> bool:
    """Whether the driver moves GPU memory to the host instead of refusing it: on Windows and in its Linux subsystem."""
    return platform.system() == "Windows" or "microsoft" in platform.release().lower()


def forbid_spilling(device: torch.device) -> None:
    """Where the driver would spill, let torch's allocator refuse at 95 % of what is free: a spilled step measures PCIe."""
    if device.type == "cuda" and spills():
        free, total = torch.cuda.mem_get_info(device)
        torch.cuda.set_per_process_memory_fraction(0.95 * free / total, device)


def describe(device: torch.device, meter: PowerMeter) -> dict[str, Any]:
    """Identity of the device, without serial numbers or bus ids."""
    common = {
        "kind": device.type, "num_threads": torch.get_num_threads(), "before": meter.state(), "after": {},
        "nvml": meter.problem, "environment": environment(), "num_cpus": os.cpu_count() or 1,
    }  # fmt: skip
    if device.type != "cuda":
        memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) if hasattr(os, "sysconf") else 1.0
        return {**common, "name": cpu_name(), "memory_bytes": memory, "capability": torch.backends.cpu.get_cpu_capability()}
    p = torch.cuda.get_device_properties(device)
    free, _ = torch.cuda.mem_get_info(device)
    return {
        **common,
        "name": p.name,
        "memory_bytes": float(p.total_memory),
        "free_bytes": float(free),
        "num_sms": p.multi_processor_count,
        "capability": f"{p.major}.{p.minor}",
        "cpu": cpu_name(),
        "spills": spills(),
        "l2_bytes": float(getattr(p, "L2_cache_size", 0)),
        "driver": meter.driver(),
        "num_devices": torch.cuda.device_count(),
        "mig": meter.mig or "MIG" in p.name,
        "architectures": list(torch.cuda.get_arch_list()),
    }


def cpu_name() -> str:
    """The processor's model."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of everything that can change a measurement."""
    found = {
        "python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}", "cuda": str(torch.version.cuda or ""),
        "hip": str(torch.version.hip or ""),
    }  # fmt: skip
    if torch.cuda.is_available():
        # cuDNN from 9.11 on refuses cards before Turing as soon as it is asked for its version; a build without NCCL has none
        found["cudnn"] = _version_of(torch.backends.cudnn.version)
        found["nccl"] = _version_of(torch.cuda.nccl.version)
    return found


def _version_of(library: Callable[[], Any]) -> str:
    """Its version in words; empty where the library does not answer on this card."""
    try:
        answer = library()
    except Exception:
        return ""
    return ".".join(str(x) for x in answer) if isinstance(answer, tuple) else str(answer)


def busy(device: torch.device, meter: PowerMeter) -> str:
    """Why the device is not free for measuring, in words; empty when it is."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        used = (total - free) / total
        if used > 0.1:
            return f"{used:.0%} of the GPU's memory is already in use by others"
        state = meter.state()
        if state.get("processes", 0) > 1:  # this one is counted
            return f"{state['processes'] - 1} other process(es) compute on the GPU"
        if state.get("utilization_percent", 0) > 20:
            return f"the GPU is already {state['utilization_percent']} % busy"
        return ""
    if not hasattr(os, "getloadavg"):
        return ""
    load = os.getloadavg()[0]
    return f"load average {load:.1f} on {os.cpu_count()} CPUs before the start" if load > 0.5 * (os.cpu_count() or 1) else ""


def smoke_problem(device: torch.device, half: torch.dtype) -> str:
    """Why this torch cannot compute on this device, and what would help; empty when one product per type works."""
    try:
        for dtype in (torch.float32, half):
            x = torch.ones(64, 64, device=device, dtype=dtype)
            correct = torch.equal((x @ x).float(), torch.full((64, 64), 64.0, device=device))
            if not correct:
                return f"a product of 64 x 64 ones in {dtype} is not 64 everywhere: the device computes wrongly"
    except Exception as error:
        return _advice(device, error)
    return ""


def _advice(device: torch.device, error: Exception) -> str:
    text = scrubbed((str(error).strip().splitlines() or [type(error).__name__])[0])
    if device.type != "cuda":
        return text
    p = torch.cuda.get_device_properties(device)
    here = f"{p.major}.{p.minor}"
    built = ", ".join(torch.cuda.get_arch_list()) or "no GPU"
    if "no kernel image" not in text and "not compatible" not in text:
        return f"torch {torch.__version__} cannot multiply on the {p.name}: {text}"
    if (p.major, p.minor) < (7, 5):  # pytorch/pytorch issues 172352 and 190385: the support matrices of 2.11 and 2.15
        wheel = "a build for CUDA 12.6 (+cu126, torch 2.14 or older): newer builds leave out cards before Turing"
    elif p.major >= 10:
        wheel = "a build for CUDA 12.8 or newer (+cu128, +cu129, +cu130), torch 2.7 or newer"
    else:
        wheel = "the standard build for your CUDA driver"
    return (
        f"torch {torch.__version__} has no kernels for the {p.name} (compute capability {here}; built for {built}): "
        f"install {wheel}, as pytorch.org's start page lists it."
    )
