"""Clients in a closed loop: each sends its next request when the last one is answered, as load generators do."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from planner.serving.batching import Outcome, simulate
from planner.serving.load import Load, Replica, measured, replica, require_room, room_of, server_s
from planner.serving.pass_time import Times
from planner.serving.requests import Requests, sample
from planner.serving.spec import Lengths, Serving

ROUNDS = 10
"""Requests of each client: load generators send ten times the concurrency (InferenceMAX benchmark_serving, aiperf)."""


def drawn(prompt: Lengths, output: Lengths, n: int, seed: int) -> Requests:
    """``n`` requests of random lengths; the same seed gives the same ones."""
    rng = np.random.default_rng(seed)
    return Requests(arrivals_s=np.zeros(n), prompts=sample(prompt, n, rng), outputs=sample(output, n, rng))


def met(s: Serving, clients: int) -> Requests:
    """ROUNDS requests of each client, the first of all before the second of any; the first answer of each is cut to a part of its
    length that is drawn evenly from 0 to 1."""
    requests = drawn(s.prompt, s.output, ROUNDS * clients, s.seed)
    parts = 1.0 - np.random.default_rng([s.seed, 1]).random(clients)
    requests.outputs[:clients] = np.ceil(requests.outputs[:clients] * parts)
    return requests


def run_loop(one: Replica, requests: Requests, clients: int) -> Outcome:
    """Serve ``requests`` from ``clients``; an answer and the next request pass the server's front."""
    work, shared = one.work_s(requests.prompts), one.shared_s(requests.prompts)
    between = _front_s(one, requests)
    return simulate(one.server, requests, work, shared, clients=clients, between_s=between, asked_by="clients")


def _front_s(one: Replica, requests: Requests) -> float:
    """Seconds from a pass to the next request of a client whom it answered."""
    return float(np.mean(server_s(one.times.setting.engine, requests.prompts)))


def loop_figures(one: Replica, requests: Requests, found: Outcome) -> tuple[float, float]:
    """(median seconds per output token after the first, mean seconds to the first token), over all requests."""
    several = requests.outputs > 1.0
    each = (found.done_s - found.first_s)[several] / (requests.outputs[several] - 1.0)
    waited = found.first_s - found.arrived_s + server_s(one.times.setting.engine, requests.prompts)
    return float(np.median(each)) if len(each) else math.nan, float(np.mean(waited))


def near_figures(one: Replica, other: Replica, requests: Requests, found: Outcome) -> tuple[float, float]:
    """``loop_figures`` of ``other`` with the schedule that ``found`` for ``one``: for derivatives, without a simulation.

    Time per token changes as the time of all passes does, the wait for the first token as that of prefill does.
    """
    token_s, first_s = loop_figures(one, requests, found)
    before, after = _seconds(one, requests, found), _seconds(other, requests, found)
    front, behind = (float(np.mean(server_s(r.times.setting.engine, requests.prompts))) for r in (one, other))
    return token_s * after[0] / before[0], (first_s - front) * after[1] / before[1] + behind


def _seconds(one: Replica, requests: Requests, found: Outcome) -> tuple[float, float]:
    """(seconds of all passes of a schedule, of prefill alone with a pass for each prompt)."""
    n, server = len(found.steps), one.server
    work = float(np.sum(one.work_s(requests.prompts)) + np.sum(one.shared_s(requests.prompts)))
    decoding = float(found.steps @ server.step_s[:n] + found.step_tokens @ server.token_s[:n])
    return decoding + found.passes * server.pass_s + work, work + len(requests.prompts) * server.pass_s


def closed_loop(times: Times, clients: int, one: Replica | None = None) -> Load:
    """Latencies and throughput of ``clients`` over all replicas: percentiles of ROUNDS requests of each.

    Clients are met at random points of their work: the first answer of each is cut to a part of its length that is drawn evenly
    from 0 to 1; vectors, which have none, are first asked for within the time of one request, evenly spread. Clients who start
    together and ask for equal lengths would stay together for ever; evenly spread ones would never meet, and a pass that
    several attention groups share would always hold the prompt of one group alone. That first request is served, and not counted;
    the last ones, which have fewer companions, are not counted either. Each client is answered as those of the fullest replica.
    """
    s = times.setting.serving
    each = -(-clients // s.dp)
    one = one or replica(times, room_of(times, each))
    requests = met(s, each)
    if s.embeds:
        alone = (one.server.pass_s + float(np.min(one.work_s(requests.prompts)))) / one.server.stages
        requests.arrivals_s[:each] = np.arange(each) / each * (_front_s(one, requests) + alone)
    require_room(one, requests)
    found = run_loop(one, requests, each)
    kept = slice(each, len(requests.prompts) - each)
    at_work = clients / each  # replicas: with fewer clients than replicas some are idle
    rate = throughput(found, each, _front_s(one, requests)) * at_work
    load = Load(requests_per_s=rate, capacity_requests_per_s=rate, utilisation=1.0, stable=True, clients=clients)
    load = measured(load, times.setting, requests, found, kept)
    return replace(load, busy=(load.busy or 0.0) * at_work / s.dp)


def throughput(found: Outcome, clients: int, front_s: float) -> float:
    """Requests per second between the end of the first round and the answer before the last arrival: while all are served."""
    done, start = np.sort(found.done_s), float(np.sort(found.done_s)[clients - 1])
    last = (float(found.arrived_s.max()) - front_s) * (1.0 + 1e-12)  # that answer counts, whatever the sum was rounded to
    between = int(((done > start) & (done <= last)).sum())
    return between / (last - start) if between >= clients and last > start else len(done) / found.end_s
