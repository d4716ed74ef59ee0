"""Continuous batching, request by request: an exact event simulation between arrivals, prefills and completions.

Between two events the batch stays the same, and the seconds of a decode step are affine in the cached tokens, so any number
of steps is advanced at once (their sum is a quadratic). Two events a request: a million of them take seconds.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np

from planner.common.arrays import Array
from planner.serving.requests import Requests


@dataclass(frozen=True, kw_only=True)
class Server:
    """What one replica does, in seconds.

    A decode step of b sequences that hold K tokens takes ``step_s[b] + token_s[b] K``. Prompts prefill together as long as
    they have at most ``prefill_tokens`` on each of ``groups`` attention groups: ``pass_s`` for reading the weights, the own
    work of the fullest group's prompts, and the work that all groups share.
    ``chunk_tokens``: prefill runs beside decoding, so many tokens a step and group; 0 = prefill goes first, decoding waits.
    ``slots`` sequences and ``cache_tokens`` (prompt and output, reserved on admission) bound the batch, ``request_tokens`` one
    request: it lives on one attention group. ``stages`` that work
    at the same time: a prefill holds the replica for its part only, though it takes all of them to be done.
    """

    step_s: Array
    token_s: Array
    pass_s: float
    slots: int
    cache_tokens: float
    request_tokens: float = math.inf
    prefill_tokens: float = math.inf
    chunk_tokens: float = 0.0
    stages: int = 1
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """When each request was admitted, had its first token, and was done; seconds, shape ``(n,)``.

    ``batch_seconds``: integral of the batch over time. ``busy_s``: time with work. ``end_s``: when the last one was done.
    """

    admitted_s: Array
    first_s: Array
    done_s: Array
    batch_seconds: float
    busy_s: float
    end_s: float


def simulate(server: Server, requests: Requests, work_s: Array, shared_s: Array | None = None) -> Outcome:
    """Serve ``requests`` in order of arrival; ``work_s`` is each prompt's own prefill time beside ``pass_s``.

    ``shared_s``: further time of each prompt that all attention groups work on together (experts); none when left out.

    First come, first served: a request that does not fit holds back those behind it. A request larger than the cache that
    it can use raises ValueError: whoever calls has checked that one sequence fits.
    """
    need = requests.prompts + requests.outputs
    most = min(server.cache_tokens, server.request_tokens)
    if len(need) and float(need.max()) > most:
        raise ValueError(f"a request of {need.max():.0f} tokens exceeds the cache of {most:.0f}")
    loop = _Loop(server, requests, work_s, np.zeros(len(need)) if shared_s is None else shared_s)
    return loop.run()


class _Loop:
    """State of the simulation; plain lists and local names, because the loop runs millions of times."""

    def __init__(self, server: Server, requests: Requests, work_s: Array, shared_s: Array) -> None:
        self.server = server
        self.arrivals: list[float] = requests.arrivals_s.tolist()
        self.prompts: list[float] = requests.prompts.tolist()
        self.outputs: list[float] = requests.outputs.tolist()
        self.work: list[float] = work_s.tolist()
        self.shared: list[float] = shared_s.tolist()
        n = len(self.arrivals)
        self.admitted, self.first, self.done = [0.0] * n, [0.0] * n, [0.0] * n
        self.now = self.step = self.cached = self.reserved = self.batch_seconds = self.busy = 0.0
        self.batch = 0
        self.base: list[float] = server.step_s.tolist()
        self.slope: list[float] = server.token_s.tolist()
        self.running: list[tuple[float, int]] = []  # (step of completion, request)
        self.chunked: list[tuple[int, int, int]] = []  # (request, chunks, chunks left)

    def run(self) -> Outcome:
        arrivals, n = self.arrivals, len(self.arrivals)
        prompts, outputs = self.prompts, self.outputs
        slots, capacity, chunk = self.server.slots, self.server.cache_tokens, self.server.chunk_tokens
        i = 0
        while i < n or self.running or self.chunked:
            room = i < n and self.batch < slots and self.reserved + prompts[i] + outputs[i] <= capacity
            if self.chunked or (room and arrivals[i] <= self.now):
                i = self._prefill_beside(i) if chunk else self._prefill(i)
            elif self.batch:
                self._decode(arrivals[i] - self.now if room else math.inf)
            else:
                self.now = arrivals[i]
        return Outcome(
            admitted_s=np.array(self.admitted),
            first_s=np.array(self.first),
            done_s=np.array(self.done),
            batch_seconds=self.batch_seconds,
            busy_s=self.busy,
            end_s=self.now,
        )

    def _prefill(self, i: int) -> int:
        """Admit all that have arrived and fit into one pass, each on the emptiest group; returns the next request."""
        server, start, now = self.server, i, self.now
        arrivals, prompts, outputs = self.arrivals, self.prompts, self.outputs
        slots, capacity, budget, own, shared = server.slots, server.cache_tokens, server.prefill_tokens, self.work, self.shared
        groups = [(0.0, 0.0)] * server.groups  # (tokens, own work) of each, a heap
        together, fullest = server.pass_s, 0.0
        while i < len(arrivals) and arrivals[i] <= now:
            need = prompts[i] + outputs[i]
            tokens, work = groups[0]
            full = self.batch >= slots or self.reserved + need > capacity
            if full or (tokens and tokens + prompts[i] > budget):
                break
            work += own[i]
            heapq.heapreplace(groups, (tokens + prompts[i], work))
            fullest = work if work > fullest else fullest
            together += shared[i]
            self._admit(i, need)
            i += 1
        seconds = together + fullest
        held = seconds / server.stages
        self._pass_time(held)
        for j in range(start, i):
            self._first_token(j, self.now + seconds - held)
        return i

    def _prefill_beside(self, i: int) -> int:
        """A chunk of one prompt on each group, beside a decode step of the running batch; returns the next request."""
        server = self.server
        while i < len(self.arrivals) and len(self.chunked) < server.groups and self.arrivals[i] <= self.now:
            need = self.prompts[i] + self.outputs[i]
            if self.batch >= server.slots or self.reserved + need > server.cache_tokens:
                break
            chunks = max(math.ceil(self.prompts[i] / server.chunk_tokens), 1)
            self.chunked.append((i, chunks, chunks))
            self._admit(i, need)
            i += 1
        others = self.batch - len(self.chunked)
        part = max(self.work[j] / n for j, n, _ in self.chunked) + sum(self.shared[j] / n for j, n, _ in self.chunked)
        if others:
            held = self.cached - sum(self.prompts[j] for j, _, _ in self.chunked)
            self._pass_time(part + self.base[others] + self.slope[others] * held)
            self.step += 1
            self.cached += others
        else:
            self._pass_time((part + server.pass_s) / server.stages)
        self._finish()
        done = [j for j, _, left in self.chunked if left == 1]
        self.chunked = [(j, n, left - 1) for j, n, left in self.chunked if left > 1]
        for j in done:
            self._first_token(j, self.now)
        return i

    def _admit(self, i: int, need: float) -> None:
        self.admitted[i] = self.now
        self.reserved += need
        self.batch += 1
        self.cached += self.prompts[i]

    def _first_token(self, i: int, when: float) -> None:
        self.first[i] = when
        heapq.heappush(self.running, (self.step + self.outputs[i] - 1.0, i))
        self.cached += 1.0
        if self.outputs[i] <= 1.0:
            self._finish()
            self.done[i] = when

    def _decode(self, until: float) -> None:
        """Advance to the next completion, or to the first step that ends ``until`` seconds from now or later."""
        b = self.batch
        slope = self.slope[b]
        a, growth = self.base[b] + slope * self.cached, slope * b
        steps = self.running[0][0] - self.step
        seconds = steps * a + growth * steps * (steps - 1.0) / 2.0
        if seconds > until:
            linear = a - growth / 2.0
            root = until / a if growth <= 0.0 else (math.sqrt(linear * linear + 2.0 * growth * until) - linear) / growth
            steps = min(max(math.ceil(root), 1.0), steps)
            seconds = steps * a + growth * steps * (steps - 1.0) / 2.0
        self._pass_time(seconds)
        self.step += steps
        self.cached += steps * b
        self._finish()

    def _pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.busy += seconds
        self.batch_seconds += seconds * self.batch

    def _finish(self) -> None:
        running = self.running
        while running and running[0][0] <= self.step:
            _, i = heapq.heappop(running)
            tokens = self.prompts[i] + self.outputs[i]
            self.done[i] = self.now
            self.batch -= 1
            self.cached -= tokens
            self.reserved -= tokens
