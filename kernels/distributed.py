"""Several ranks under torchrun: start, agree on how often to repeat and on what failed, end."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

TIMEOUT = timedelta(minutes=3)
"""A rank that waits longer for the others gives up."""


def ranks() -> tuple[int, int, int]:
    """(rank, number of ranks, local rank) as torchrun sets them; (0, 1, 0) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))


def ranks_per_node() -> int:
    """Ranks on each machine, as torchrun sets it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", str(ranks()[1])))


def available() -> bool:
    """Whether this torch was built with torch.distributed (on Windows and Jetson it may not be)."""
    return bool(dist.is_available())


def running() -> bool:
    """Whether a process group has been joined."""
    return available() and bool(dist.is_initialized())


def start(device_type: str) -> torch.device:
    """Join the process group: NCCL on GPUs, gloo on CPUs; the device of this rank. ``device_type`` may be cuda:N on one rank."""
    _, size, local = ranks()
    device = torch.device(device_type)
    if device.type == "cuda":
        device = torch.device("cuda", local if size > 1 else device.index or 0)
        torch.cuda.set_device(device)
    if size > 1:
        backend = "nccl" if device.type == "cuda" else "gloo"
        more = {"device_id": device} if device.type == "cuda" else {}
        dist.init_process_group(backend, timeout=TIMEOUT, **more)
    return device


class Agreement:
    """All ranks do the same: rank 0's numbers count, and a part of a case that failed on one rank has failed on all.

    Problems travel over gloo where there is one, beside NCCL: they are told even when a GPU answers no more.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.group = device, None
        if running() and device.type == "cuda" and dist.is_gloo_available():
            self.group, self.device = dist.new_group(backend="gloo", timeout=TIMEOUT), torch.device("cpu")

    def number(self, value: int) -> int:
        """Rank 0's."""
        if not running():
            return value
        box = torch.tensor([value], dtype=torch.int64, device=self.device)
        dist.broadcast(box, src=0, group=self.group)
        return int(box.item())

    def shared(self, value: Any) -> Any:
        """Rank 0's value, of any kind that can be pickled."""
        if not running():
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def problem(self, problem: str) -> str:
        """The first rank's problem, with its rank; empty when no rank has one."""
        if not running():
            return problem
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, problem, group=self.group)
        return next((f"rank {rank}: {text}" for rank, text in enumerate(everyone) if text), "")


def stop() -> None:
    """Leave the process group."""
    if running():
        dist.destroy_process_group()
