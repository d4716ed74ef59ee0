"""What can go wrong on a device, told apart: out of memory in its many forms, a lost device, everything else."""

from __future__ import annotations

import os
import re

import torch

OutOfMemory: type[Exception] = getattr(torch, "OutOfMemoryError", None) or torch.cuda.OutOfMemoryError
MEMORY_WORDS = (
    "out of memory",  # the allocator, cudaMalloc, AcceleratorError of torch 2.8 and newer, HIP
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # what a cuBLAS handle says when its workspace finds no memory
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "Failed to CUDA calloc",  # NCCL's buffers
    "Failed to cuda host alloc",
    "can't allocate memory",  # the CPU allocator
)


class Skip(Exception):
    """Raised by a case that cannot be measured here; the text goes into the record."""


class DeviceLost(RuntimeError):
    """The device answers no call any more: what is left must be measured by another process."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, whatever library says so.

    >>> out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    True
    """
    if isinstance(error, OutOfMemory | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in MEMORY_WORDS)


def check_alive(device: torch.device) -> None:
    """One tiny kernel: raises DeviceLost when an earlier fault has left the device's context unusable."""
    if device.type != "cuda":
        return
    try:
        torch.ones(1, device=device).add_(1.0)
        torch.cuda.synchronize(device)
    except Exception as error:
        if not out_of_memory(error):
            raise DeviceLost(first_line(error)) from None


def first_line(error: BaseException) -> str:
    """The first line of a message, without the paths of this machine."""
    return scrubbed((str(error).strip().splitlines() or [type(error).__name__])[0])[:300]


def scrubbed(text: str) -> str:
    """``text`` with each absolute path reduced to its last part: a record names no home directory.

    >>> scrubbed("cannot open /home/ann/lib.so: no such file")
    'cannot open lib.so: no such file'
    """
    home = os.path.expanduser("~")
    text = text.replace(home, "~") if len(home) > 1 else text
    return re.sub(r"(?<![\w.:/])(?:~|[A-Za-z]:)?[/\\](?:[\w.+@-]+[/\\])+([\w.+@-]*)", r"\1", text)
