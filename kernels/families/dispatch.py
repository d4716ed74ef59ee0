"""What the host does per kernel: eager, autograd, CUDA graph, torch.compile. Kernels so small that the device waits."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from kernels import apart, clock
from kernels.case import Case, Work
from kernels.faults import Skip
from kernels.session import Session
from kernels.timing import Stopwatch, Timing

FAMILY = "dispatch"
COMPILED = "compile"
CHAIN = 200
AUTOGRAD = 6
"""Kernels of one linear layer and one product with autograd: 2 forward; product, input, weight gradient and its sum backward."""


def cases(session: Session) -> Iterator[Case]:
    """Chains of tiny kernels; host seconds per kernel = time / kernels."""
    for name in ("eager add", "eager linear", "autograd linear", "CUDA graph add", "launch and wait"):
        yield _case(name)


def compiled(session: Session) -> Iterator[Case]:
    """torch.compile where it works, in a process of its own: a compiler starts others, and ends when the time is over."""

    def build(session: Session) -> Work:
        given = {"device": str(session.device), "num_threads": torch.get_num_threads()}
        try:
            found = apart.run_apart("compile", given, max(session.case_budget_s, 1.0))
        except apart.Failed as error:
            raise Skip(f"torch.compile {error}") from None
        return Work(run=None, extra=found)

    yield Case(family=COMPILED, name="compiled chain", shape={"elements": 64}, dtype="fp32", build=build)


def compile_task(device: str, num_threads: int) -> dict[str, Any]:
    """What ``kernels.apart`` runs: seconds to compile a chain of 24 pointwise kernels, and of one call eager and compiled."""
    torch.set_num_threads(num_threads)
    place = torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    x, watch = torch.randn(4, 16, device=place), Stopwatch(place)
    start = clock.now()
    function = _compiled(x)
    watch.synchronize()
    took = clock.now() - start
    compiled_s, eager_s = (watch.time(run, 0.5, cold=False).median_s for run in (function, lambda: _pointwise(x)))
    return {"compile_s": took, "s_per_call": compiled_s, "eager_s_per_call": eager_s, "kernels": 1, "eager_kernels": 24}


def _case(name: str) -> Case:
    def build(session: Session) -> Work:
        x = torch.randn(4, 16, device=session.device)
        weight = torch.randn(16, 16, device=session.device, requires_grad=name == "autograd linear")
        makers: dict[str, Callable[[], tuple[Callable[[], Any], int]]] = {
            "eager add": lambda: (lambda: _adds(x), CHAIN),
            "eager linear": lambda: (lambda: _linears(x, weight), CHAIN),
            "autograd linear": lambda: (lambda: _linears(x, weight).sum().backward(), AUTOGRAD * CHAIN),
            "CUDA graph add": lambda: (_graph(session, x), CHAIN),
            "launch and wait": lambda: (lambda: _wait(session, x), 1),
        }
        run, kernels = makers[name]()

        def finish(timing: Timing) -> dict[str, Any]:
            return {
                "kernels": kernels,
                "host_s_per_kernel": _host_s(session, run) / kernels,
                "s_per_kernel": timing.median_s / kernels,
            }

        return Work(run=run, cold=False, finish=finish, warm_up=4)

    return Case(family=FAMILY, name=name, shape={"elements": 64}, dtype="fp32", build=build)


def _host_s(session: Session, run: Callable[[], Any]) -> float:
    """Median seconds until the host has launched everything, the device not waited for."""
    seconds = []
    for _ in range(15):
        session.watch.synchronize()
        start = clock.now()
        run()
        seconds.append(clock.now() - start)
    session.watch.synchronize()
    return sorted(seconds)[len(seconds) // 2]


def _adds(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        for _ in range(CHAIN):
            x = x + 1.0
    return x


def _linears(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    for _ in range(CHAIN):
        x = F.linear(x, weight) if not weight.requires_grad else F.linear(x, weight) * 0.1
    return x


def _wait(session: Session, x: torch.Tensor) -> None:
    x.add_(1.0)
    session.watch.synchronize()


def _graph(session: Session, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    if not session.cuda:
        raise Skip("CUDA graphs need a GPU")
    stream = torch.cuda.Stream(session.device)
    stream.wait_stream(torch.cuda.current_stream(session.device))
    with torch.cuda.stream(stream):  # warm up beside the graph's pool, as torch's notes on CUDA graphs ask
        _adds(x)
    torch.cuda.current_stream(session.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _adds(x)

    def replay() -> torch.Tensor:
        graph.replay()
        return x  # the graph reads it by address: it must live as long

    return replay


def _compiled(x: torch.Tensor) -> Callable[[], Any]:
    config = importlib.import_module("torch._inductor.config")
    config.compile_threads = 1  # no pool of processes that compile beside later measurements
    function = torch.compile(_pointwise)
    function(x)
    return lambda: function(x)


def _pointwise(x: torch.Tensor) -> torch.Tensor:
    for _ in range(8):
        x = torch.sin(x) * 1.5 + 0.1
    return x
