"""Seconds of a piece of work: warm-up, CUDA events (a counter on a CPU), cold caches, repeats in a budget, quantiles."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from kernels import clock

NOISY = 0.25
"""A sample is marked noisy when its 10 and 90 % quantiles lie further apart than this part of the median."""
FLUSH_BYTES = 256 * 2**20
"""Written between repeats: long enough on the device to hide the launch of what follows; FLUSH_CACHES L2s where that is more."""
FLUSH_CACHES = 4
WARM_UP_S = 0.2
"""Warm-up of a GPU sample, at most a tenth of its budget: clocks rise within some tens of milliseconds of work, however short
one kernel is."""
HOST_BOUND = 0.9
"""A sample is host-bound when launching it takes more than this part of what the device takes."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Quantiles of the repeats, seconds."""

    median_s: float
    p10_s: float
    p90_s: float
    minimum_s: float
    repeats: int
    noisy: bool

    def to_dict(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


def summarize(seconds: list[float]) -> Timing:
    """Median and quantiles; few repeats that scatter, or a single one, are noisy."""
    p10, median, p90 = (float(x) for x in np.quantile(seconds, [0.1, 0.5, 0.9]))
    noisy = len(seconds) < 3 or (p90 - p10) > NOISY * median
    return Timing(median_s=median, p10_s=p10, p90_s=p90, minimum_s=min(seconds), repeats=len(seconds), noisy=noisy)


Run = Callable[[], Any]


def flush_bytes(device: torch.device) -> int:
    """What must be written so that nothing of the last repeat is left in the L2 (B200: 126 MB, MI300X: 256 MB behind it)."""
    if device.type != "cuda":
        return FLUSH_BYTES
    l2 = int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0) or 0)
    return max(FLUSH_BYTES, FLUSH_CACHES * l2)


class Stopwatch:
    """Times callables on one device. ``agree`` makes all ranks of a distributed run repeat equally often.

    ``cpu_clock`` counts this process's CPU time instead of the wall's: for a CPU that other processes use too. ``host_s`` is
    what launching the last piece of work took on the host, median seconds; 0 on a CPU.
    """

    def __init__(self, device: torch.device, agree: Callable[[int], int] | None = None, cpu_clock: bool = False) -> None:
        self.device, self.agree, self.alone = device, agree or (lambda n: n), agree is None
        self.now = time.process_time if cpu_clock else clock.now
        self.cuda = device.type == "cuda"
        self.host_s = 0.0
        self.most = 200
        self.during: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.seen: Any = None  # what ``during`` gave for the repeats that were counted last, without the warm-up
        self._flush: torch.Tensor | None = None

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def flush(self) -> None:
        """Push everything out of the L2."""
        if self._flush is None:
            self._flush = torch.empty(flush_bytes(self.device) // 4, dtype=torch.float32, device=self.device)
        self._flush.fill_(1.0)

    def release(self) -> None:
        """Give the flush buffer back, before memory is measured."""
        self._flush = None

    def time(
        self,
        run: Run,
        budget_s: float,
        *,
        prepare: Run | None = None,
        cold: bool = True,
        warm_up: int = 2,
        least: int = 5,
        inner: int = 1,
    ) -> Timing:
        """Warm up, then repeat within the budget (``least`` to ``most`` times). ``prepare`` runs before each repeat, untimed.

        ``inner`` runs follow each other in one repeat, which counts their mean: how nccl-tests time collectives.
        """
        if inner > 1:
            once_run = run

            def run() -> None:
                for _ in range(inner):
                    once_run()

        once = self._warm(run, prepare, max(warm_up, 1), min(WARM_UP_S, 0.1 * budget_s) if self.cuda else 0.0)
        once += 2e-4 if cold and self.cuda else 0.0  # the flush
        repeats = self.agree(int(min(max(budget_s / max(once, 1e-6), least), max(self.most, least))))
        with self.during() as self.seen:
            if self.cuda:
                taken = self._events(run, prepare, repeats, cold)
            else:
                taken = self._counter(run, prepare, repeats, least if self.alone else repeats, 2.0 * budget_s)
        self.host_s /= inner
        return summarize([seconds / inner for seconds in taken])

    def _warm(self, run: Run, prepare: Run | None, least: int, seconds: float) -> float:
        """Run at least ``least`` times and, on one rank, for ``seconds``; what the last run took."""
        begin, done, once = clock.now(), 0, 0.0
        while done < least or (self.alone and clock.now() - begin < seconds):
            if prepare is not None:
                prepare()
            start = clock.now()
            run()
            self.synchronize()
            once, done = clock.now() - start, done + 1
        return once

    def _counter(self, run: Run, prepare: Run | None, repeats: int, least: int, limit_s: float) -> list[float]:
        """On a CPU caches are left warm: in a training step, too, an operator finds there what the one before it wrote.

        A machine that others slow down after the warm-up stops after ``limit_s``, with ``least`` repeats.
        """
        seconds: list[float] = []
        limit = clock.now() + limit_s
        for _ in range(repeats):
            if len(seconds) >= least and clock.now() > limit:
                break
            if prepare is not None:
                prepare()
            start = self.now()
            run()
            seconds.append(max(self.now() - start, 1e-9))
        self.host_s = 0.0
        return seconds

    def _events(self, run: Run, prepare: Run | None, repeats: int, cold: bool) -> list[float]:
        """Events on the stream; the host waits after every few repeats so that the queue stays short."""
        pairs, host = [], []
        for i in range(repeats):
            if prepare is not None:
                prepare()
            if cold:
                self.flush()
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            start = clock.now()
            run()
            host.append(clock.now() - start)
            end.record()
            pairs.append((begin, end))
            if i % 8 == 7:
                end.synchronize()
        self.synchronize()
        self.host_s = float(np.median(host))
        return [max(begin.elapsed_time(end) * 1e-3, 1e-9) for begin, end in pairs]

    def captured(self, run: Run) -> Run:
        """``run`` as a CUDA graph: its replay costs the host one launch. Raises where the work cannot be captured."""
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(self.device)
        with torch.cuda.graph(graph, stream=stream):
            run()

        def replay(work: Run = run) -> None:  # the graph reads what ``work`` holds by address: it must live as long
            graph.replay()

        return replay
