"""Continuous batching, request by request: an exact event simulation between arrivals, prefills and completions.

Between two events the batch stays the same, and the seconds of a decode step are affine in the cached tokens, so any number
of steps is advanced at once (their sum is a quadratic). Two events a request: a million of them take seconds.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import pickle
from bisect import bisect, insort
from dataclasses import dataclass
from threading import Lock

import numpy as np

from planner.common.arrays import Array
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.serving.requests import Requests


@dataclass(frozen=True, kw_only=True)
class Server:
    """What one replica does, in seconds.

    A decode step of b sequences that hold K tokens takes ``step_s[b] + token_s[b] K``. Prompts prefill together as long as
    they have at most ``prefill_tokens`` on each of ``groups`` attention groups: ``pass_s`` for reading the weights, the own
    work of the fullest group's prompts, and the work that all groups share. Prompts of one pass share its reading of weights:
    ``tokens`` of prompts on the fullest group take ``own_s`` there, ``tokens`` a group in the mean ``shared_s`` on all, tables
    that are straight in between; what a prompt takes beyond its tokens' part is its own. Without tables all of it is its own.
    ``chunk_tokens``: prefill runs beside decoding, and a pass takes so many tokens on each group, those of decoding counted;
    0 = prefill goes first, decoding waits. ``split``: the last prompt of such a pass may go on in the next one.
    ``slots`` sequences and ``cache_tokens`` bound the batch, ``request_tokens`` one request: it lives on one attention group.
    ``reserved_output``: part of its output that a request reserves in the cache on admission, beside its prompt. Below 1 the
    cache may run full: the request admitted last is preempted, and computes its tokens again later. ``spare_tokens`` of each
    running sequence stay free when one is admitted: its last block is not full.
    ``wait_steps``: decode steps that prompts beside a running batch wait for others, until all of them have ``wait_tokens``
    together with the tokens of decoding (TensorRT-LLM's batch_wait_timeout_iters and batch_wait_max_tokens_ratio); 0 = none.
    ``ahead``: a pass is put together while the one before it runs, so a request joins the second pass after it has come.
    ``launch_s``: what launching a pass with prompts takes, beside the device: it lasts no less, decoding beside them or not.
    ``least_s[b]``: what a decode step of b sequences takes at least, where no graph holds its kernels.
    ``stages`` that work at the same time: a prefill, alone or beside a decode step, holds the replica for its part only, though
    it takes all of them to be done: the tokens of its requests come later by the rest.
    """

    step_s: Array
    token_s: Array
    pass_s: float
    slots: int
    cache_tokens: float
    request_tokens: float = math.inf
    prefill_tokens: float = math.inf
    chunk_tokens: float = 0.0
    split: bool = True
    reserved_output: float = 1.0
    spare_tokens: float = 0.0
    wait_steps: int = 0
    wait_tokens: float = 0.0
    ahead: bool = False
    stages: int = 1
    groups: int = 1
    launch_s: float = 0.0
    least_s: Array | None = None
    tokens: Array | None = None
    own_s: Array | None = None
    shared_s: Array | None = None

    def passes(self, prompts: Array) -> Array:
        """Passes that each prompt takes part in: one, or its tokens over those of a chunk."""
        return np.ceil(prompts / self.chunk_tokens) if self.chunk_tokens and self.split else np.ones_like(prompts)

    def beyond_s(self, prompts: Array, work_s: Array, shared_s: Array) -> tuple[Array, Array]:
        """What prompts take beyond their tokens' part of a pass, on their group and on all, when each is alone: in one pass, or
        in full chunks and a last one. On its own group that may be less than nothing, where small chunks take longer than the
        prompt in one pass; not on all: each group's prompts add to it, and a pass would give back what it never took."""
        if self.tokens is None or self.own_s is None or self.shared_s is None:
            return work_s, shared_s
        chunk = self.chunk_tokens if self.chunk_tokens and self.split else float(np.max(prompts, initial=1.0))
        whole, rest = np.divmod(prompts, chunk)
        own, shared = (
            whole * along(self.tokens, seconds, np.asarray(chunk / of)) + along(self.tokens, seconds, rest / of)
            for seconds, of in ((self.own_s, 1), (self.shared_s, self.groups))
        )
        return work_s - own, np.maximum(shared_s - shared, 0.0)


def along(tokens: Array, seconds: Array, at: Array) -> Array:
    """A table of ``Server`` at any tokens: straight on beyond its end."""
    slope = (seconds[-1] - seconds[-2]) / (tokens[-1] - tokens[-2])
    return np.asarray(np.interp(at, tokens, seconds) + np.maximum(at - tokens[-1], 0.0) * slope)


def _between(tokens: list[float], seconds: list[float], at: float) -> float:
    """``along`` of one number, without arrays: a simulation asks once a pass."""
    k = bisect(tokens, at, 1, len(tokens) - 1)
    low = seconds[k - 1]
    return low + (seconds[k] - low) * (at - tokens[k - 1]) / (tokens[k] - tokens[k - 1])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """When each request arrived, was admitted, had its first token, and was done; seconds, shape ``(n,)``.

    ``made``: tokens that decode steps had made by when each was done, of all requests, shape ``(n,)``.
    ``batch_seconds``: integral of the batch over time. ``busy_s``: time with work. ``end_s``: when the last one was done.
    ``preemptions``: how often a request lost its place because the cache was full. ``steps`` and ``step_tokens``: decode steps by
    batch, and the cached tokens that they read, shape ``(slots + 1,)``; ``passes``: prefill passes that no decode step shared;
    ``prefill_s``: time that prefill took, without the decode steps beside it.
    """

    arrived_s: Array
    admitted_s: Array
    first_s: Array
    done_s: Array
    made: Array
    batch_seconds: float
    busy_s: float
    end_s: float
    preemptions: int
    steps: Array
    step_tokens: Array
    passes: int
    prefill_s: float


def simulate(
    server: Server,
    requests: Requests,
    work_s: Array,
    shared_s: Array | None = None,
    clients: int | None = None,
    between_s: float = 0.0,
    asked_by: str = "",
) -> Outcome:
    """Serve ``requests`` in order of arrival; ``work_s`` is each prompt's own prefill time beside ``pass_s`` when it is alone.

    ``shared_s``: further time of each prompt that all attention groups work on together (experts); none when left out.
    ``clients``: a closed loop. So many requests arrive as ``requests.arrivals_s`` says, the last of them before the first can
    come back, and each of the others ``between_s`` after one is done.
    ``asked_by``: the field of [serving] that asks for so many requests; "" where none does.

    First come, first served: a request that does not fit holds back those behind it. A request larger than the cache that
    it can use raises ValueError: whoever calls has checked that one sequence fits. PlannerError where prompts take more than
    ``MOST_PASSES`` passes.
    """
    need = requests.prompts + requests.outputs
    most = min(server.cache_tokens, server.request_tokens)
    if len(need) and float(need.max()) > most:
        raise ValueError(Message("a request of {0:,.0f} tokens exceeds the cache of {1:,.0f}", need.max(), most))
    passes = float(np.sum(server.passes(requests.prompts)))
    if passes > MOST_PASSES:
        raise _too_many(len(need), server.chunk_tokens, passes, asked_by)
    shared_s = np.zeros(len(need)) if shared_s is None else shared_s
    given = (server, requests, work_s, shared_s, clients, between_s)
    if len(need) > KEPT_REQUESTS:
        return _Loop(*given).run()
    asked = hashlib.sha256(pickle.dumps(given)).digest()
    with _KEEPING:
        found = _KEPT.get(asked)
    return found or _keep(asked, _Loop(*given).run())


def _too_many(prompts: int, chunk_tokens: float, passes: float, asked_by: str) -> PlannerError:
    """The error of too many passes: fewer requests are a remedy only where a field asks for them."""
    field, figures = "serving.chunked_prefill_tokens", (prompts, chunk_tokens, passes, MOST_PASSES)
    if not asked_by:
        return PlannerError(
            "serving: {0:,} prompts in chunks of {1:,.0f} tokens take {2:,.0f} passes; at most {3:,} are simulated, and the "
            "capacity is that of so many prompts; give larger chunks (chunked_prefill_tokens, pass_tokens).",
            *figures,
            code="size",
            field=field,
        )
    return PlannerError(
        "serving: {0:,} prompts in chunks of {1:,.0f} tokens take {2:,.0f} passes; at most {3:,} are simulated; give larger "
        "chunks (chunked_prefill_tokens, pass_tokens) or fewer requests ({4}).",
        *figures,
        asked_by,
        code="size",
        field=field,
    )


USUAL_PASSES = 200_000
"""Passes with parts of prompts that a simulation takes where nobody asks for more: some seconds."""
MOST_PASSES = 5 * USUAL_PASSES
"""Passes with parts of prompts that are simulated at most."""
KEPT, KEPT_REQUESTS = 64, 20_000
"""Simulations that are kept, and the most requests of one that is: 40 MB. Bounds, tables and texts of one deployment ask for the
same ones again, a deployment that is answered twice for all of its own."""
_KEPT: dict[bytes, Outcome] = {}
_KEEPING = Lock()


def _keep(asked: bytes, found: Outcome) -> Outcome:
    """Keep an outcome under all that it depends on, in place of the oldest; nobody may change its arrays."""
    for value in vars(found).values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    with _KEEPING:
        while len(_KEPT) >= KEPT:
            del _KEPT[next(iter(_KEPT))]
        _KEPT[asked] = found
    return found


class _Loop:
    """State of the simulation; plain lists and local names, because the loop runs millions of times."""

    def __init__(
        self, server: Server, requests: Requests, work_s: Array, shared_s: Array, clients: int | None, between_s: float
    ) -> None:
        self.server = server
        self.prompts: list[float] = requests.prompts.tolist()
        self.outputs: list[float] = requests.outputs.tolist()
        work_s, shared_s = server.beyond_s(requests.prompts, work_s, shared_s)
        self.work: list[float] = work_s.tolist()
        self.shared: list[float] = shared_s.tolist()
        tables = (server.tokens, server.own_s, server.shared_s if server.groups > 1 else None)
        lists: list[list[float]] = [[] if table is None else table.tolist() for table in tables]
        self.tokens, self.of_own, self.of_shared = lists
        self.total = n = len(self.prompts)
        self.closed, self.between_s = clients is not None, between_s
        self.arrivals: list[float] = requests.arrivals_s[:clients].tolist()
        self.admitted, self.first, self.done = [-1.0] * n, [-1.0] * n, [0.0] * n
        self.late = [0.0] * n  # by what its tokens leave the last stage after the replica takes its next pass
        self.made_by = [0.0] * n  # decode tokens of all requests, by when each is done
        self.now = self.step = self.cached = self.reserved = self.batch_seconds = self.busy = self.prefill_s = self.made = 0.0
        self.batch = self.preemptions = self.passes = self.waited = 0
        self.steps, self.step_tokens = [0.0] * len(server.step_s), [0.0] * len(server.step_s)
        self.seen = 0.0  # requests that came until then may join the next pass
        self.keeps, self.slots, self.spare = server.reserved_output, server.slots, server.spare_tokens
        self.lazy = server.reserved_output < 1.0  # so that preemption is possible
        self.room, self.ahead = server.cache_tokens, server.ahead
        self.chunk, self.split, self.num_groups = server.chunk_tokens, server.split, server.groups
        self.stages, self.launch_s, self.pass_s = server.stages, server.launch_s, server.pass_s
        self.base: list[float] = server.step_s.tolist()
        self.slope: list[float] = server.token_s.tolist()
        self.least: list[float] = [0.0] * len(self.base) if server.least_s is None else server.least_s.tolist()
        self.running: list[tuple[float, int]] = []  # a heap of (step of completion, request); its first one runs
        self.ends: dict[int, float] = {}  # request -> step of completion, where preemption is possible; others run no longer
        self.chunked: list[tuple[int, float, int]] = []  # (request, tokens left to prefill, group)
        self.again: list[int] = []  # preempted, the next one last
        self.order: list[int] = []  # admitted, where preemption is possible

    def run(self) -> Outcome:
        arrivals, chunk, patient, lazy, room = self.arrivals, self.chunk, self.server.wait_steps, self.lazy, self.room
        ends, again = self.ends, self.again
        i = 0
        while True:
            if lazy and self.cached + len(ends) > room and ends and self.batch > 1:
                self._preempt()
                continue
            here = i < len(arrivals)
            if self.chunked:  # a chunk goes on, whoever waits
                join, fits = True, False
            elif here or again:
                fits = self._fits(again[-1] if again else i)
                join = fits and (bool(again) or arrivals[i] <= self.seen)
            elif self.running:
                join = fits = False
            else:
                break
            if join:
                if patient and self._waits(i):
                    self.waited += 1
                    self._decode(0.0)
                    continue
                self.waited = 0
                i = self._prefill_beside(i) if chunk else self._prefill(i)
            elif self.batch:
                self._decode(arrivals[i] - self.now if fits else math.inf)
            else:
                self.now = self.seen = max(arrivals[i], self.now)
        return Outcome(
            arrived_s=np.array(arrivals),
            admitted_s=np.array(self.admitted),
            first_s=np.array(self.first),
            done_s=np.array(self.done),
            made=np.array(self.made_by),
            batch_seconds=self.batch_seconds,
            busy_s=self.busy,
            end_s=max(self.now, max(self.done, default=0.0)),
            preemptions=self.preemptions,
            steps=np.array(self.steps),
            step_tokens=np.array(self.step_tokens),
            passes=self.passes,
            prefill_s=self.prefill_s,
        )

    def _tokens_s(self, fullest: float, total: float) -> float:
        """Seconds of the tokens of a pass's prompts, beside ``pass_s``: of the fullest group's and of all."""
        tokens, own, shared = self.tokens, self.of_own, self.of_shared
        if not tokens or not total:
            return 0.0
        seconds = _between(tokens, own, fullest)
        if shared:
            seconds += _between(tokens, shared, total / self.num_groups)
        return seconds

    def _waits(self, i: int) -> bool:
        """Whether the prompts that have come hold back for others while the batch decodes."""
        server = self.server
        if self.chunked or not self.batch or self.waited >= server.wait_steps:
            return False
        tokens, j = self.batch + sum(self.prompts[k] for k in self.again), i
        while tokens < server.wait_tokens and j < len(self.arrivals) and self.arrivals[j] <= self.seen:
            tokens += self.prompts[j]
            j += 1
        return tokens < server.wait_tokens

    def _fits(self, j: int) -> bool:
        if self.batch >= self.slots:
            return False
        held = self.reserved if self.reserved > self.cached else self.cached
        need = self.prompts[j] + self.keeps * self.outputs[j] + self.spare * self.batch
        return held + need <= self.room

    def _prefill(self, i: int) -> int:
        """Admit all that have arrived and fit into one pass, each on the emptiest group; returns the next request."""
        server, seen = self.server, self.seen
        arrivals, prompts = self.arrivals, self.prompts
        budget, own, shared, again = server.prefill_tokens, self.work, self.shared, self.again
        groups = [(0.0, 0.0)] * server.groups  # (tokens, own work) of each, a heap
        together, fullest, most, total = server.pass_s, 0.0, 0.0, 0.0
        taken: list[int] = []
        while again or (i < len(arrivals) and arrivals[i] <= seen):
            j = again[-1] if again else i
            tokens, work = groups[0]
            if (tokens and tokens + prompts[j] > budget) or not self._fits(j):
                break
            work += own[j]
            tokens += prompts[j]
            heapq.heapreplace(groups, (tokens, work))
            fullest = work if work > fullest or not taken else fullest
            most = tokens if tokens > most else most
            total += prompts[j]
            together += shared[j]
            i = self._admit(j, i)
            taken.append(j)
        seconds = max(together + fullest + self._tokens_s(most, total), server.launch_s)
        self.passes += 1
        held = seconds / server.stages
        self._pass_time(held)
        self.prefill_s += held
        for j in taken:
            self.late[j] += seconds - held
            self._first_token(j)
        return i

    def _prefill_beside(self, i: int) -> int:
        """A pass of prefill beside a decode step of the running batch, as far as its tokens go; returns the next request."""
        prompts, arrivals, seen = self.prompts, self.arrivals, self.seen
        work, shared, waiting, again, split = self.work, self.shared, self.chunked, self.again, self.split
        others, held, num_groups = self.batch - len(waiting), self.cached, self.num_groups
        each = max(self.chunk - others / num_groups, 1.0)
        alone, room, own, together, total = num_groups == 1, [each] * num_groups, [0.0] * num_groups, 0.0, 0.0
        going: list[tuple[int, float, int]] = []
        complete: list[int] = []
        for j, _, _ in waiting:
            held -= prompts[j]
        self.chunked = going
        joining = iter(waiting)
        while True:
            one = next(joining, None)
            if one is not None:
                j, left, group = one
                free = room[group]
            else:
                if not again and (i >= len(arrivals) or arrivals[i] > seen):
                    break
                j = again[-1] if again else i
                left, group = prompts[j], 0 if alone else room.index(max(room))
                free = room[group]
                if free <= 0.0 or (not split and left > free < each) or not self._fits(j):
                    break
                i = self._admit(j, i)
            take = left if left <= free or not split else free if free > 0.0 else 0.0
            share = take / prompts[j]
            room[group] = free - take
            own[group] += share * work[j]
            together += share * shared[j]
            total += take
            if take < left:
                going.append((j, left - take, group))
            else:
                complete.append(j)
        fullest, least = (own[0], room[0]) if alone else (max(own), min(room))
        part = fullest + together + self._tokens_s(each - least, total)
        full = alone and len(going) == 1 and not complete
        late, passes = self._mixed(part, others, held, int(going[0][1] // each) if full else 1)
        if passes > 1:
            going[0] = (going[0][0], going[0][1] - (passes - 1) * each, 0)
        for j in [*complete, *(j for j, _, _ in going)] if late else ():
            self.late[j] += late
        for j in complete:
            self._first_token(j)
        return i

    def _mixed(self, part: float, others: int, held: float, most: int) -> tuple[float, int]:
        """A pass of prompts, ``part`` seconds of all stages, and of a decode step of ``others`` that hold ``held`` tokens; then
        ``most`` of them in all, one after another, where a prompt fills each alone: fewer, if a sequence ends or the cache fills.

        Returns by how many seconds the prompts pass all stages after the replica takes its next pass, and the passes.
        """
        stages, launch_s = self.stages, self.launch_s
        if not others:
            seconds, passes = max(part + self.pass_s, launch_s), max(most, 1)
            late = seconds * (1.0 - 1.0 / stages)
            self._pass_time(passes * (seconds - late), seconds - late)
            self.prefill_s += passes * (seconds - late)
            self.passes += passes
            return passes * late, passes
        slope, end = self.slope[others], self.running[0][0]
        decode_s = self.base[others] + slope * held
        seconds, growth, passes = part + decode_s, slope * others, 1
        if most > 1 and seconds >= launch_s:
            left = end - self.step
            left = min(left, (self.room - self.cached) // others) if self.lazy else left
            passes = max(min(most, int(left)), 1)
        elif seconds < launch_s:
            seconds = launch_s
        late = (seconds - decode_s) * (1.0 - 1.0 / stages)
        grown, last = growth * passes * (passes - 1) / 2.0, seconds - late + growth * (passes - 1)
        self._pass_time(passes * (seconds - late) + grown, last)
        self.prefill_s += passes * (part / stages)
        self.step += passes
        self.cached += passes * others
        self.made += passes * others
        self.steps[others] += passes
        self.step_tokens[others] += passes * (held + others * (passes - 1) / 2.0)
        if end <= self.step:
            self._finish()
        return passes * late, passes

    def _admit(self, j: int, i: int) -> int:
        """Give request j its place; returns the next one that was never admitted."""
        if self.admitted[j] < 0.0:
            self.admitted[j] = self.now
        prompt = self.prompts[j]
        self.reserved += prompt + self.keeps * self.outputs[j]
        self.batch += 1
        self.cached += prompt
        if self.lazy:
            self.order.append(j)
        if self.again:
            self.again.pop()
            return i
        return i + 1

    def _first_token(self, j: int) -> None:
        if self.first[j] < 0.0:
            self.first[j] = self.now + self.late[j]
        end = self.step + self.outputs[j] - 1.0
        heapq.heappush(self.running, (end, j))
        if self.lazy:
            self.ends[j] = end
        self.cached += 1.0
        if self.outputs[j] <= 1.0:
            self._finish()

    def _preempt(self) -> None:
        """Take the cache from the running request that was admitted last; it waits first in line, its tokens a longer prompt."""
        filling = [j for j, _, _ in self.chunked]
        place = len(self.order) - 1
        while self.order[place] not in self.ends:  # it still fills, or it is done and forgotten
            if self.order[place] not in filling:
                del self.order[place]
            place -= 1
        j = self.order.pop(place)
        left = self.ends.pop(j) - self.step
        self._forget()
        made = self.outputs[j] - left
        self.batch -= 1
        self.reserved -= self.prompts[j] + self.keeps * self.outputs[j]
        self.cached -= self.prompts[j] + made
        longer = (self.prompts[j] + made) / self.prompts[j]
        self.prompts[j], self.outputs[j] = self.prompts[j] + made, left
        self.work[j], self.shared[j] = self.work[j] * longer, self.shared[j] * longer
        self.again.append(j)
        self.preemptions += 1

    def _forget(self) -> None:
        """Drop requests that were preempted from the head of those that run."""
        running, ends = self.running, self.ends
        while running and ends.get(running[0][1]) != running[0][0]:
            heapq.heappop(running)

    def _decode(self, until: float) -> None:
        """Advance to the next completion, to a full cache, or to the first step that ends ``until`` seconds from now or later."""
        b, cached = self.batch, self.cached
        slope = self.slope[b]
        a, growth = self.base[b] + slope * cached, slope * b
        steps = self.running[0][0] - self.step
        if a < self.least[b]:
            steps = min(steps, math.ceil((self.least[b] - a) / growth)) if growth > 0.0 else steps
            a, growth = self.least[b], 0.0
        if self.lazy:
            steps = max(min(steps, math.floor((self.room - cached) / b)), 1.0)
        seconds = steps * a + growth * steps * (steps - 1.0) / 2.0
        if seconds > until:
            until = until if until > 0.0 else 0.0
            linear = a - growth / 2.0
            root = until / a if growth <= 0.0 else (math.sqrt(linear * linear + 2.0 * growth * until) - linear) / growth
            whole = max(math.ceil(root) + self.ahead, 1)
            if whole < steps:
                steps = whole
                seconds = steps * a + growth * steps * (steps - 1.0) / 2.0
        self._pass_time(seconds, a + growth * (steps - 1.0))
        self.step += steps
        self.made += steps * b
        self.steps[b] += steps
        self.step_tokens[b] += steps * (cached + b * (steps - 1.0) / 2.0)
        self.cached = cached + steps * b
        if self.running[0][0] <= self.step:
            self._finish()

    def _pass_time(self, seconds: float, last: float | None = None) -> None:
        """Go on by ``seconds`` of passes of which the last one took ``last``: all of them where there is one."""
        now = self.now + seconds
        self.now, self.seen = now, now - (seconds if last is None else last) if self.ahead else now
        self.busy += seconds
        self.batch_seconds += seconds * self.batch

    def _finish(self) -> None:
        running, step, prompts, outputs, keeps = self.running, self.step, self.prompts, self.outputs, self.keeps
        while running and running[0][0] <= step:
            _, j = heapq.heappop(running)
            if self.lazy:
                del self.ends[j]
                self._forget()
            self.done[j] = self.now + self.late[j]
            self.made_by[j] = self.made
            self.batch -= 1
            self.cached -= prompts[j] + outputs[j]
            self.reserved -= prompts[j] + keeps * outputs[j]
            if self.closed and len(self.arrivals) < self.total:
                insort(self.arrivals, self.done[j] + self.between_s)
