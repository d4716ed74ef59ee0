"""A deployment under a request rate: steady-state throughput, percentiles, goodput; unstable instead of a number."""

from __future__ import annotations

import pickle
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from planner.common.arrays import Array
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.serving.batching import USUAL_PASSES, Outcome, Server, along, simulate
from planner.serving.engine import Engine
from planner.serving.memory import largest_batch, limit_bytes, memory
from planner.serving.pass_time import Times
from planner.serving.requests import Requests, longest_tokens, mean_tokens, poisson, sample
from planner.serving.setting import Setting
from planner.serving.spec import LEAST_REQUESTS, Serving

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
WARM_UP, TAIL = 0.1, 0.05
"""Parts of the requests, first and last by arrival, that no statistic counts: the queue fills, and empties."""
CROWDED = 0.9
"""Utilisation above which a wait is about (1 / (1 - utilisation))^2 services long to settle, thousands of requests. Assumed."""
GRID = 24
"""Prompt lengths at which prefill is evaluated; between them it is interpolated."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What happens at a request rate, over all replicas. Latencies by "mean", "p50", "p95", "p99"; None when unstable.

    ``capacity_requests_per_s``: what the replicas can do at most; ``utilisation``: the rate over it. ``goodput_requests_per_s``:
    requests that meet every target, None without targets. ``mean_batch`` per replica. ``clients``: of a closed loop, whose rate
    is a result; ``preemptions_per_request``: how often a request lost its place because the cache was full. ``prefill_share``:
    part of the busy time.
    """

    requests_per_s: float
    capacity_requests_per_s: float
    utilisation: float
    stable: bool
    output_tokens_per_s: float | None = None
    ttft_s: Mapping[str, float] | None = None
    tpot_s: Mapping[str, float] | None = None
    e2e_s: Mapping[str, float] | None = None
    goodput_requests_per_s: float | None = None
    within_targets: float | None = None
    mean_batch: float | None = None
    busy: float | None = None
    num_requests: int = 0
    clients: int | None = None
    preemptions_per_request: float = 0.0
    prefill_share: float | None = None
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One replica ready to be simulated."""

    times: Times
    server: Server
    lengths: Array  # grid of prompt lengths
    own: Array  # prefill seconds of one prompt of that length on its attention group, beside reading the weights
    shared: Array  # seconds that it adds on all groups: its tokens at the experts

    def work_s(self, prompts: Array) -> Array:
        """Each prompt's prefill time on its own attention group beside reading the weights."""
        return np.asarray(np.interp(prompts, self.lengths, self.own))

    def shared_s(self, prompts: Array) -> Array:
        """Each prompt's prefill time on all groups together; zero with one group."""
        return np.asarray(np.interp(prompts, self.lengths, self.shared))


@dataclass(frozen=True, kw_only=True)
class Room:
    """What memory and limits leave to one replica: places in the batch, and tokens of the cache. No constant of time counts."""

    slots: int
    cache_tokens: float


def slots_of(times: Times) -> int:
    """Sequences that one replica decodes together at most: by the scenario or the engine, and by memory."""
    setting, s = times.setting, times.setting.serving
    prompt, output = mean_tokens(s.prompt), mean_tokens(s.output)
    return min(setting.places, largest_batch(setting, prompt, prompt + output, times.draft, most=setting.places))


def room_of(times: Times, most: int | None = None) -> Room:
    """Places and cache of one replica; ``most``: places that are needed at most (clients of a closed loop).

    An engine that reserves less than the whole output admits more than fit to the end: its cache alone bounds the batch.
    """
    engine = times.setting.engine
    slots = max(slots_of(times), 1)
    if engine.reserved_output < 1.0:
        slots = _widest(times, slots, max(slots, times.setting.places))
    slots = slots if most is None else min(slots, max(most, 1))
    return Room(slots=slots, cache_tokens=cache_tokens(times, slots))


ROOM = 0.97
"""Part of the cache that the workspace of the widest batch leaves at least: else a server would be started with fewer places.
Assumed."""


def _widest(times: Times, slots: int, widest: int) -> int:
    """``widest`` where its workspace leaves room (``ROOM``, and for the longest request); else the most places for which the
    cache beside their workspace holds as many requests, each with its prompt and on average half of its output."""
    s = times.setting.serving
    longest = (longest_tokens(s.prompt) + longest_tokens(s.output)) * s.attention_groups
    if cache_tokens(times, widest) >= max(ROOM * cache_tokens(times, slots), longest):
        return widest
    each = mean_tokens(s.prompt) + max(times.setting.engine.reserved_output, 0.5) * mean_tokens(s.output)
    places = range(slots, widest + 1)
    return max(slots - 1 + bisect_left(places, True, key=lambda n: cache_tokens(times, n) < max(n * each, longest)), slots)


def cache_tokens(times: Times, slots: int) -> float:
    """Tokens that one replica's cache holds, beside weights and the workspace of the largest pass."""
    setting, s = times.setting, times.setting.serving
    context = longest_tokens(s.prompt) + longest_tokens(s.output)
    one = memory(setting, 1.0, longest_tokens(s.prompt), context, times.draft)
    full = memory(setting, float(max(slots, 1)), mean_tokens(s.prompt), context, times.draft)
    wide = replace(one, workspace_bytes=np.maximum(one.workspace_bytes, full.workspace_bytes))
    room = limit_bytes(setting, wide) - float(wide.weights_bytes + wide.overhead_bytes + wide.workspace_bytes)
    each = float(one.kv_cache_bytes) / context  # whole on one group
    if not each:  # an encoder keeps nothing
        return np.inf
    return max(room, 0.0) * s.attention_groups / each


def replica(times: Times, room: Room | None = None) -> Replica:
    """Tables of one replica: decode steps at every batch, prefill at a grid of lengths."""
    setting, s = times.setting, times.setting.serving
    room = room or room_of(times)
    slots = room.slots
    batches = np.unique(np.concatenate([2.0 ** np.arange(0, np.log2(slots) + 1e-9), [float(slots)]]))
    context = longest_tokens(s.prompt) + longest_tokens(s.output)
    low, high = 1.0, max(context, 2.0)
    if s.captured_batches and times.draft is not None:  # which is launched at some batches alone
        batches = np.arange(1.0, slots + 1.0)
    captured = times.on_device
    near, far = captured.decode_s(batches, low), captured.decode_s(batches, high)
    slope = np.maximum(far - near, 0.0) / (batches * (high - low))
    every = np.arange(0.0, slots + 1.0)
    base = near - slope * batches * low
    hit, engine = s.prefix_cache_hit_rate, setting.engine
    beside = s.chunked_prefill_tokens or (setting.pass_tokens if engine.prefill_beside else 0)
    chunk = float(beside) / (1.0 - hit)
    prefill = _prefill_tables(captured, chunk)
    paged = "paged_cache" in setting.engine.features
    cache = room.cache_tokens if paged else context * slots
    server = Server(
        step_s=np.interp(every, batches, base),
        token_s=np.interp(every, batches, slope),
        pass_s=prefill.pass_s,
        tokens=prefill.tokens,
        own_s=prefill.own_s,
        shared_s=prefill.shared_s,
        slots=slots,
        cache_tokens=cache,
        request_tokens=cache / s.attention_groups if paged else cache,
        prefill_tokens=float(setting.pass_tokens),
        chunk_tokens=chunk,
        split=setting.splits_prompts,
        reserved_output=setting.engine.reserved_output,
        spare_tokens=float(setting.block_size) if paged and setting.engine.reserved_output < 1.0 else 0.0,
        ahead=setting.engine.schedules_ahead,
        wait_steps=s.prefill_wait_steps,
        wait_tokens=s.prefill_wait_share * float(beside or setting.pass_tokens),
        stages=_at_once(setting),
        groups=s.attention_groups,
        launch_s=times.prompt_launch_s,
        least_s=times.least_s(every, mean_tokens(s.prompt) + mean_tokens(s.output) / 2.0),
    )
    return Replica(times=times, server=server, lengths=prefill.lengths, own=prefill.own, shared=prefill.shared)


def _at_once(setting: Setting) -> int:
    """Stages that work on unlike passes at the same time, so that each holds the replica for its part."""
    return setting.serving.pp if setting.engine.pipelined else 1


@dataclass(frozen=True, kw_only=True)
class _Prefill:
    """Seconds of passes with prompts: ``pass_s`` of one with a single token, what tokens together and single prompts add to it.

    ``tokens``, ``own_s``, ``shared_s``: the tables of ``Server``. ``lengths``, ``own``, ``shared``: those of ``Replica``.
    """

    pass_s: float
    tokens: Array
    own_s: Array
    shared_s: Array
    lengths: Array
    own: Array
    shared: Array


def _prefill_tables(times: Times, chunk: float) -> _Prefill:
    """What prompts of t tokens on each of n groups take in one pass, T(t, n): p tokens a prompt where it holds several, the mean.

    One prompt takes T(t, 1) = pass + own(t) + shared(t), one on each of G groups T(t, G) = pass + own(t) + shared(G t). So
    shared(G t) = shared(t) + T(t, G) - T(t, 1), and own is what is left of T(t, G). A pass of many short prompts reads weights
    and experts once, and multiplies by them longer. A prompt that ``chunk`` cuts is read in passes that are counted where they
    run: alone, or with a decode step.
    """
    s, groups = times.setting.serving, times.setting.serving.attention_groups
    kept = s.prefix_cache_hit_rate
    longest = max(longest_tokens(s.prompt), 2.0)
    lengths = np.unique(np.rint(np.geomspace(1.0, longest, GRID)))

    def seconds(tokens: Array, each: Array, on: float) -> Array:
        new = np.maximum(each * (1.0 - kept), 1.0)
        return np.maximum.accumulate(times.together_s(new, on * tokens / each, each - new))

    alone = seconds(lengths, lengths, 1.0)
    pass_s = float(alone[0])
    mean = min(float(np.rint(mean_tokens(s.prompt))), longest)
    most = max((chunk or times.setting.pass_tokens) / mean, longest / mean, 2.0)
    short = np.unique(np.append(lengths, mean / float(groups) ** np.arange(1.0, np.log(mean) / np.log(max(groups, 2)))))
    tokens = np.concatenate([short[short < mean], mean * np.unique(np.floor(np.geomspace(1.0, most, GRID)))])
    each = np.minimum(tokens, mean)
    full = seconds(tokens, each, float(groups)) - pass_s
    apart = np.maximum(seconds(tokens, tokens, float(groups)) - seconds(tokens, tokens, 1.0), 0.0) if groups > 1 else full
    tokens, full, apart = (np.insert(x, 0, 0.0) for x in (tokens, full, apart))

    shared_s, part = np.zeros_like(tokens), tokens  # of ``tokens`` on each group; below one token a straight line
    while groups > 1 and part[-1] > 1.0:
        shared_s, part = shared_s + along(tokens, apart, part), part / groups
    shared_s = shared_s + along(tokens, apart, part) * groups / (groups - 1.0) if groups > 1 else shared_s
    passes = times.chunks(np.ones_like(lengths), lengths * (1.0 - kept)) if s.chunked_prefill_tokens else 1.0
    shared = np.asarray(passes * along(tokens, shared_s, lengths / passes / groups))
    own = alone - passes * pass_s - shared + float(times.images_s(1.0 - kept))
    return _Prefill(
        pass_s=pass_s, tokens=tokens, own_s=full - shared_s, shared_s=shared_s, lengths=lengths, own=own, shared=shared
    )


@dataclass(frozen=True, kw_only=True)
class Saturated:
    """A replica whose capacity is asked for. ``known_by``: all that the answer depends on, so that it is simulated once for all
    rates that a deployment is asked about."""

    known_by: bytes
    one: Replica = field(compare=False)
    seed: int


def capacity_per_s(one: Replica, seed: int = 0) -> float:
    """Requests per second that one replica completes while its queue is never empty."""
    s = one.times.setting.serving
    known_by = pickle.dumps((one.server, one.lengths, one.own, one.shared, s.prompt, s.output))
    return _capacity_per_s(Saturated(known_by=known_by, one=one, seed=seed))


DONE_AGAIN = 150
"""Requests that are simulated over those that an overflowing cache holds until they are done."""
COMMON = 33
"""Parts of a step of one sequence, evenly from none to all, that ``most_per_s`` tries as what its sequences have in common."""
DRAWN = 1000
"""Prompts whose passes are counted before it is known how many are simulated."""


def _affordable(one: Replica) -> int:
    """Requests that take part in ``USUAL_PASSES`` passes: prompts of unlike lengths take more than one of the mean length."""
    s = one.times.setting.serving
    prompts = sample(s.prompt, DRAWN, np.random.default_rng(s.seed))
    return int(USUAL_PASSES / float(np.mean(one.server.passes(prompts))))


def num_simulated(one: Replica) -> int:
    """Requests that are simulated: ``serving.num_requests``; where it is not given, fewer of prompts of many passes each."""
    s = one.times.setting.serving
    if "num_requests" in s.model_fields_set:
        return s.num_requests
    return min(s.num_requests, max(_affordable(one), LEAST_REQUESTS))


def _held(one: Replica) -> tuple[int, int]:
    """(requests that a replica takes at first, those that its cache holds until they are done); one at least.

    An engine that reserves less than the whole output takes more of long outputs than it can finish: its cache overflows.
    """
    server, s = one.server, one.times.setting.serving
    prompt, output = mean_tokens(s.prompt), mean_tokens(s.output)
    places = (server.cache_tokens / (prompt + part * output) for part in (server.reserved_output, 1.0))
    first, done = (int(min(server.slots, max(held, 1.0))) for held in places)
    return first, done


def _overflows(one: Replica) -> bool:
    """Whether most of the requests that are taken at first lose their places before they are done, again and again."""
    first, done = _held(one)
    return first > 2 * done


def _saturating(one: Replica) -> int:
    """Requests of which a capacity is counted: six full batches, and more where that is soon done. Where the cache overflows with
    outputs of one length, four times as many as are taken at first, or ``DONE_AGAIN`` times those that are held until they are
    done: the beginning shifts what is counted behind it by about one part in so many."""
    first, done = _held(one)
    s = one.times.setting.serving
    if _overflows(one) and s.output.kind == "fixed":
        return min(max(min(4 * first, DONE_AGAIN * done), 500), 20_000)
    return min(max(2000, 6 * one.server.slots), 20_000, max(_affordable(one), 6 * done))


def most_per_s(one: Replica) -> float:
    """What ``capacity_per_s`` cannot exceed, without a simulation; infinite where it is not known.

    A request of P and O tokens holds the replica for at least (O - 1) (step + min_b(token_s[b]) (P + O / 2)) + prefill seconds
    (over its groups and stages, in passes of the length that takes least a token), b = 1 .. slots sequences; and no less than its
    part of a pass full of prompts, which no longer hides behind reading the weights as a short one does. Its part of a step is
    step = max_c(c / B + min_b((step_s[b] - c) / b)): of c seconds that a step's sequences have in common none can take less than
    1 / B, as many as the cache holds in the mean, since a sequence holds P + O / 2 tokens in the mean of its steps.
    """
    server, s = one.server, one.times.setting.serving
    if (s.prompt.kind, s.output.kind) != ("fixed", "fixed"):
        return np.inf
    prompt, output = mean_tokens(s.prompt), mean_tokens(s.output)
    each, held = np.arange(1.0, len(server.step_s)), prompt + output / 2.0
    together = max(min(float(server.slots), server.cache_tokens / held), 1.0)
    common = np.linspace(0.0, server.step_s[1], COMMON)[:, None]
    step = float(np.max(common[:, 0] / together + np.min((server.step_s[1:] - common) / each, axis=1)))
    step += float(np.min(server.token_s[1:])) * held
    at = np.asarray(prompt)
    own, shared = (float(x) for x in server.beyond_s(at, one.work_s(at), one.shared_s(at)))
    if server.tokens is not None and server.own_s is not None and server.shared_s is not None:
        own += prompt * float(np.min(server.own_s[1:] / server.tokens[1:]))
        shared += prompt / server.groups * float(np.min(server.shared_s[1:] / server.tokens[1:]))
    prefill = (own / server.groups + shared) / server.stages
    full = part_of_a_full_pass_s(one.times, prompt, server.slots) if server.pass_s else 0.0  # none where others prefill
    held = max((output - 1.0) * step + prefill, full)
    return 1.0 / held if held else np.inf


def part_of_a_full_pass_s(times: Times, prompt: float, slots: float) -> float:
    """Seconds of a stage, of those that work at the same time, on a pass full of prompts of so many tokens, over their number,
    which is at most ``slots``.

    An engine that splits prompts fills its T tokens for each attention group: with n = T / new prompts, as m = ceil(n) parts of
    T / m tokens, each behind half of the others of its prompt on average. Else a pass takes whole prompts, one at least.
    """
    setting = times.setting
    s, groups = setting.serving, setting.serving.attention_groups
    new = max(prompt * (1.0 - s.prefix_cache_hit_rate), 1.0)
    tokens = float(s.chunked_prefill_tokens or setting.pass_tokens)
    prompts = tokens / new if setting.splits_prompts else max(tokens // new, 1.0)
    together = min(prompts * groups, slots)
    if not setting.splits_prompts or together < prompts * groups:
        whole = times.together_s(new, together, prompt - new) + times.images_s(together * new / prompt)
        return float(whole) / together / _at_once(setting)
    parts = np.ceil(prompts)
    part = tokens / parts * (1.0 - 1e-12)  # as many of them are no more than a pass, whatever is rounded
    before = prompt - new + (new - part) / 2.0
    whole = times.together_s(part, parts * groups, before) + times.images_s(together * new / prompt)
    return float(whole) / together / _at_once(setting)


@lru_cache(maxsize=256)
def _capacity_per_s(asked: Saturated) -> float:
    return min(simulated_per_s(asked.one, asked.seed), most_per_s(asked.one))


def simulated_per_s(one: Replica, seed: int = 0) -> float:
    """Requests per second of one replica whose queue is never empty: sum_j(overlap_j / time_j) / (last - start), seconds from
    when a quarter is done (start) until the last one is admitted (last).

    Requests of equal lengths end in groups, and the time that is counted may hold one group more or less: each request counts
    by the part of its time, from its place until it is done, that lies within. Where the cache overflows a request spends most
    of its time without a place, and its part of the time says little of its part of the work: there the tokens of decode steps
    count, over the O - 1 of a request (``_made_per_s``).
    """
    s = one.times.setting.serving
    n = _saturating(one)
    rng = np.random.default_rng(seed + 1)
    prompts, outputs = sample(s.prompt, n, rng), sample(s.output, n, rng)
    found = _simulated(one, Requests(arrivals_s=np.zeros(n), prompts=prompts, outputs=outputs))
    if _overflows(one):
        return _made_per_s(found, _held(one)[1]) / (float(outputs.mean()) - 1.0)
    start, last = float(np.sort(found.done_s)[n // 4]), float(found.admitted_s.max())
    within = np.maximum(np.minimum(found.done_s, last) - np.maximum(found.admitted_s, start), 0.0)
    served = float(np.sum(within / (found.done_s - found.admitted_s)))
    if served < n / 8:  # all were admitted at once: a whole batch after the other
        return n / found.end_s
    return served / (last - start)


def _made_per_s(found: Outcome, held: int) -> float:
    """Tokens per second that decode steps make, from when a quarter is done until all but the last ``held`` are, which have the
    cache to themselves."""
    order = np.argsort(found.done_s, kind="stable")
    start, last = order[len(order) // 4], order[len(order) - 1 - held]
    return float((found.made[last] - found.made[start]) / (found.done_s[last] - found.done_s[start]))


def under_load(times: Times, rate: float, one: Replica | None = None, capacity: float | None = None) -> Load:
    """Simulate ``serving.num_requests`` requests at ``rate`` per second over all replicas.

    A share answered by the response cache never reaches them; what does is split evenly: each sees a Poisson stream.
    """
    s = times.setting.serving
    one = one or replica(times)
    each = rate * (1.0 - s.response_cache_hit_rate) / s.dp
    most = capacity_per_s(one, s.seed) if capacity is None else capacity
    total = most * s.dp / (1.0 - s.response_cache_hit_rate)
    load = Load(requests_per_s=rate, capacity_requests_per_s=total, utilisation=each / most, stable=each < most)
    if not load.stable:
        why = Message(
            "{0:,g} requests per second arrive and at most {1:.3g} can be served: the queue grows without end", rate, total
        )
        return replace(load, why=why)
    n = num_simulated(one)
    requests = poisson(each, n, s.prompt, s.output, s.seed)
    return measured(load, times.setting, requests, _simulated(one, requests, asked_by(s)), counted(n))


def slowed(times: Times, rate: float, factor: float, one: Replica) -> dict[str, Mapping[str, float]]:
    """Latencies under load if all that the replicas do took ``factor`` times as long, stable or not: those of ``num_requests``.

    The same requests on a clock that runs ``factor`` times as fast: ``factor`` times the latencies at ``factor`` times the rate.
    """
    s = times.setting.serving
    each = factor * rate * (1.0 - s.response_cache_hit_rate) / s.dp
    n = num_simulated(one)
    requests = poisson(each, n, s.prompt, s.output, s.seed)
    empty = Load(requests_per_s=factor * rate, capacity_requests_per_s=0.0, utilisation=0.0, stable=True)
    load = measured(empty, times.setting, requests, _simulated(one, requests, asked_by(s)), counted(n))
    found = {"ttft_s": load.ttft_s, "tpot_s": load.tpot_s, "e2e_s": load.e2e_s}
    return {name: {k: factor * v for k, v in (values or {}).items()} for name, values in found.items()}


def require_room(one: Replica, requests: Requests) -> None:
    """PlannerError when one of the requests is longer than the cache that it can use."""
    longest = float((requests.prompts + requests.outputs).max())
    most = min(one.server.request_tokens, one.server.cache_tokens)
    if longest > most:
        where = "a replica" if one.times.setting.serving.attention_groups == 1 else "its attention group"
        raise PlannerError(
            "serving.prompt and serving.output: a request of {0:,.0f} tokens is drawn and the cache of {1} holds "
            "{2:,.0f}; give them a maximum, or the cache more room (kv_dtype, tp, weights).",
            longest,
            where,
            most,
        )


def counted(n: int) -> slice:
    """The requests that statistics count: those between warm-up and tail."""
    return slice(int(n * WARM_UP), max(int(n * (1.0 - TAIL)), 1))


def asked_by(s: Serving) -> str:
    """The field that says how many requests are simulated; "" where nobody does."""
    return "clients" if s.clients is not None else "num_requests" if "num_requests" in s.model_fields_set else ""


def _simulated(one: Replica, requests: Requests, asked_by: str = "") -> Outcome:
    """Simulate; PlannerError when one of the requests is longer than the cache that it can use."""
    require_room(one, requests)
    return simulate(one.server, requests, one.work_s(requests.prompts), one.shared_s(requests.prompts), asked_by=asked_by)


def server_s(engine: Engine, prompts: Array) -> Array:
    """Seconds of a request outside the model: HTTP, tokenizer, the way to the scheduler and of the first token back."""
    return np.asarray(engine.request_s + engine.request_s_per_token * prompts)


def measured(load: Load, setting: Setting, requests: Requests, found: Outcome, kept: slice) -> Load:
    """``load`` with the latencies of the requests ``kept``; those of the server's front included."""
    s, n = setting.serving, len(requests.arrivals_s)
    front = server_s(setting.engine, requests.prompts)
    ttft, e2e = found.first_s - found.arrived_s + front, found.done_s - found.arrived_s + front
    several = requests.outputs > 1
    tpot = np.where(several, (found.done_s - found.first_s) / np.maximum(requests.outputs - 1.0, 1.0), 0.0)
    good = np.ones(n, dtype=bool)
    for values, target in ((ttft, s.ttft_target_s), (tpot, s.tpot_target_s), (e2e, s.e2e_target_s)):
        good &= values <= (np.inf if target is None else target)
    targets = any(t is not None for t in (s.ttft_target_s, s.tpot_target_s, s.e2e_target_s))
    hit = s.response_cache_hit_rate
    quick = all(t is None or s.response_cache_s <= t for t in (s.ttft_target_s, s.e2e_target_s))
    within = float(good[kept].mean()) * (1.0 - hit) + (hit if quick else 0.0)
    tokens = 0.0 if s.embeds else float(requests.outputs[kept].mean())
    return replace(
        load,
        output_tokens_per_s=load.requests_per_s * tokens,
        ttft_s=_summary(ttft[kept], hit, s.response_cache_s),
        tpot_s=_summary(tpot[kept][several[kept]], 0.0, 0.0),
        e2e_s=_summary(e2e[kept], hit, s.response_cache_s),
        goodput_requests_per_s=load.requests_per_s * within if targets else None,
        within_targets=within if targets else None,
        mean_batch=found.batch_seconds / found.end_s,
        busy=found.busy_s / found.end_s,
        num_requests=n,
        preemptions_per_request=found.preemptions / n,
        prefill_share=found.prefill_s / found.busy_s,
    )


def _summary(values: Array, hit: float, hit_s: float) -> dict[str, float]:
    """Mean and quantiles of a mixture: a share ``hit`` takes ``hit_s``, the rest ``values``."""
    if not len(values):
        return dict.fromkeys(("mean", *QUANTILES), 0.0)
    if hit == 0.0:
        return {"mean": float(values.mean()), **{k: float(np.quantile(values, q)) for k, q in QUANTILES.items()}}
    weights = np.append(np.full(len(values), (1.0 - hit) / len(values)), hit)
    both = np.append(values, hit_s)
    order = np.argsort(both, kind="stable")
    share = np.cumsum(weights[order])
    last = len(both) - 1
    quantiles = {k: float(both[order][min(int(np.searchsorted(share, q)), last)]) for k, q in QUANTILES.items()}
    return {"mean": float(np.dot(both, weights)), **quantiles}
