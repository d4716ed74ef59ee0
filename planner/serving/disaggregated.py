"""Prompts and answers on GPUs of their own ("xPyD"): x replicas prefill, the cache crosses a link, y replicas decode.

As in vLLM's and SGLang's disaggregated prefilling and Mooncake (Qin et al. 2024, arXiv 2407.00079); DistServe (Zhong et al. 2024,
arXiv 2401.09670) gives the queueing view: two queues in a row, neither delays the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from planner.common.arrays import Array, Number
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.performance.collectives import collective_s
from planner.serving.batching import Outcome, simulate
from planner.serving.closed_loop import met, throughput
from planner.serving.engine import memory_fraction
from planner.serving.kv_cache import replica_sequence_bytes
from planner.serving.load import (
    Load,
    Replica,
    asked_by,
    capacity_per_s,
    counted,
    measured,
    num_simulated,
    replica,
    require_room,
    server_s,
)
from planner.serving.memory import limit_bytes, memory
from planner.serving.pass_time import Times
from planner.serving.requests import Requests, longest_tokens, mean_tokens, poisson
from planner.serving.setting import Setting
from planner.serving.spec import Lengths


def prefill_setting(setting: Setting) -> Setting:
    """One replica of the prefill pool as a deployment: it makes one token of each request."""
    s, pool = setting.serving, setting.serving.prefill_pool
    if pool is None:
        raise PlannerError("serving.prefill_pool is missing: prompts have no GPUs of their own.")
    cut = {"tp": pool.tp, "pp": pool.pp, "ep": pool.ep, "dp": pool.replicas}
    way = s.dispatcher if pool.ep > pool.tp else None
    # where every GPU has a part of all experts none is placed, and no rank is fuller than another
    placed = {} if pool.ep > 1 else {"redundant_experts": 0, "expert_placement": None}
    load = None if s.expert_load is None else min(s.expert_load, float(pool.ep))
    own = s.replaced(
        **cut, **placed, expert_load=load, dispatcher=way, prefill_pool=None, output=Lengths(mean=1), batch=1, max_batch=None
    )
    fraction = memory_fraction(setting.engine, own, setting.cluster.accelerator)
    return replace(setting, serving=own, engine=setting.engine.model_copy(update={"memory_fraction": fraction}))


def prefill_times(times: Times) -> Times:
    """Seconds of a prefill replica."""
    return Times(setting=prefill_setting(times.setting))


def transfer_s(setting: Setting, prompt: Number) -> Array:
    """Seconds that the cache of prompts of so many tokens takes from one prefill replica to one that decodes.

    Each GPU of the smaller replica moves its share through its own port: t = latency + bytes / GPUs / rate (collectives.py,
    point to point), over the network where there are several nodes. Nothing of it hides behind prefill: an upper bound for
    engines that send layer by layer.
    """
    ours = prefill_setting(setting).serving.gpus_per_replica
    ports = float(min(ours, setting.serving.gpus_per_replica))
    apart = float(setting.cluster.num_gpus / setting.cluster.num_nodes if setting.cluster.num_nodes > 1 else 1)
    share = np.asarray(replica_sequence_bytes(setting, prompt)) / ports
    return np.asarray(collective_s(setting.cluster, "p2p", share, 2.0, apart))


@dataclass(frozen=True)
class Pools:
    """Both kinds of replica ready to be simulated."""

    times: Times

    @cached_property
    def prefill(self) -> Replica:
        """A replica that makes first tokens only."""
        return replica(prefill_times(self.times))

    @cached_property
    def decode(self) -> Replica:
        """A replica that is given finished prompts: their cache comes over the link, prefill takes no time there."""
        one = replica(self.times)
        server = replace(one.server, pass_s=0.0, chunk_tokens=0.0, prefill_tokens=np.inf, wait_steps=0, tokens=None)
        return replace(one, server=server, own=np.zeros_like(one.own), shared=np.zeros_like(one.shared))

    @cached_property
    def capacities_per_s(self) -> dict[str, float]:
        """Requests per second that all replicas and links of a kind carry: "prefill", "transfer", "decode"."""
        setting, s = self.times.setting, self.times.setting.serving
        replicas = prefill_setting(setting).serving.dp
        link = float(transfer_s(setting, mean_tokens(s.prompt)))
        return {
            "prefill": replicas * capacity_per_s(self.prefill, s.seed),
            "transfer": replicas / link if link else np.inf,
            "decode": s.dp * capacity_per_s(self.decode, s.seed),
        }

    @property
    def capacity_per_s(self) -> float:
        """Requests per second of the whole: the least of the three."""
        return min(self.capacities_per_s.values())

    @property
    def balance(self) -> float:
        """Prefill replicas to one of decoding that carry the same rate."""
        s, each = self.times.setting.serving, self.capacities_per_s
        return (each["decode"] / s.dp) / (each["prefill"] / prefill_setting(self.times.setting).serving.dp)

    def serve(self, requests: Requests) -> Outcome:
        """Every request through a prefill replica, its link and a decoding replica, each taken in turn; first come, first served.

        The first token counts when the request has its place in a decoding replica, as behind a router that streams from there.
        """
        setting, s = self.times.setting, self.times.setting.serving
        before, behind = self.prefill, self.decode
        require_room(behind, requests)
        firsts = Requests(arrivals_s=requests.arrivals_s, prompts=requests.prompts, outputs=np.ones_like(requests.outputs))
        require_room(before, firsts)
        n, x, y = len(requests.prompts), prefill_setting(setting).serving.dp, s.dp
        ready, admitted, busy = np.zeros(n), np.zeros(n), 0.0
        sending = transfer_s(setting, requests.prompts)
        for k in range(x):
            own = slice(k, None, x)
            part = _part(firsts, own)
            found = simulate(
                before.server, part, before.work_s(part.prompts), before.shared_s(part.prompts), asked_by=asked_by(s)
            )
            admitted[own], ready[own] = found.admitted_s, _sent(found.first_s, sending[own])
            busy += found.busy_s
        order = np.argsort(ready, kind="stable")
        come = Requests(arrivals_s=ready[order], prompts=requests.prompts[order], outputs=requests.outputs[order])
        first, done, decoding, batch, preempted, end = np.zeros(n), np.zeros(n), 0.0, 0.0, 0, 0.0
        for k in range(y):
            own = slice(k, None, y)
            part = _part(come, own)
            found = simulate(behind.server, part, np.zeros(len(part.prompts)))
            first[order[own]], done[order[own]] = found.first_s, found.done_s
            decoding, batch = decoding + found.busy_s, batch + found.batch_seconds
            preempted, end = preempted + found.preemptions, max(end, found.end_s)
        gpus_before, gpus_behind = prefill_setting(setting).serving.gpus_per_replica, s.gpus_per_replica
        return Outcome(
            arrived_s=requests.arrivals_s,
            admitted_s=admitted,
            first_s=first,
            done_s=done,
            made=np.zeros(n),
            batch_seconds=batch / y,
            busy_s=(busy * gpus_before + decoding * gpus_behind) / s.num_gpus,
            end_s=end,
            preemptions=preempted,
            steps=np.zeros(1),
            step_tokens=np.zeros(1),
            passes=0,
            prefill_s=busy * gpus_before / s.num_gpus,
        )


def _part(requests: Requests, own: slice) -> Requests:
    return Requests(arrivals_s=requests.arrivals_s[own], prompts=requests.prompts[own], outputs=requests.outputs[own])


def _sent(ready: Array, seconds: Array) -> Array:
    """When each cache has crossed a link that carries one after the other, in the order in which they are ready."""
    order = np.argsort(ready, kind="stable")
    done, free = np.empty(len(ready)), 0.0
    for i in order:
        free = max(free, float(ready[i])) + float(seconds[i])
        done[i] = free
    return done


def load_apart(times: Times, rate: float, pools: Pools | None = None) -> Load:
    """``under_load`` of a deployment whose prompts have GPUs of their own."""
    s, pools = times.setting.serving, pools or Pools(times)
    total = pools.capacity_per_s / (1.0 - s.response_cache_hit_rate)
    load = Load(requests_per_s=rate, capacity_requests_per_s=total, utilisation=rate / total, stable=rate < total)
    if not load.stable:
        bound = min(pools.capacities_per_s, key=lambda name: pools.capacities_per_s[name])
        why = Message(
            "{0:,g} requests per second arrive and {1} carries at most {2:.3g}: the queue grows without end", rate, bound, total
        )
        return replace(load, why=why)
    return _measured(times, load, rate, pools)


def clients_apart(times: Times, clients: int, pools: Pools | None = None) -> Load:
    """``closed_loop`` of a deployment whose prompts have GPUs of their own, over all of its replicas.

    A client asks again when it has been answered: requests are served as they come by the answers found so far, until these make
    them come no other way. What happens at a time follows from what came before it, so that each repetition settles one more
    request at least, and most often a round of all clients.
    """
    s, pools = times.setting.serving, pools or Pools(times)
    requests = met(s, clients)
    n = len(requests.prompts)
    front = float(np.mean(server_s(times.setting.engine, requests.prompts)))
    asked, settled = np.zeros(n), False
    while not settled:
        order = np.argsort(asked, kind="stable")
        come = Requests(arrivals_s=asked[order], prompts=requests.prompts[order], outputs=requests.outputs[order])
        found = pools.serve(come)
        done = np.empty(n)
        done[order] = found.done_s
        again = np.concatenate([np.zeros(clients), done[:-clients] + front])
        settled, asked = bool(np.array_equal(again, asked)), again
    rate = throughput(found, clients, front)
    load = Load(requests_per_s=rate, capacity_requests_per_s=rate, utilisation=1.0, stable=True, clients=clients)
    return measured(load, times.setting, come, found, slice(clients, n - clients))


def _measured(times: Times, load: Load, rate: float, pools: Pools) -> Load:
    s = times.setting.serving
    n = num_simulated(pools.prefill)
    requests = poisson(rate * (1.0 - s.response_cache_hit_rate), n, s.prompt, s.output, s.seed)
    return measured(load, times.setting, requests, pools.serve(requests), counted(n))


def slowed_apart(times: Times, rate: float, factor: float, pools: Pools) -> Load:
    """The latencies if all took ``factor`` times as long: the same requests on a clock that runs ``factor`` times as fast."""
    fast = factor * rate
    return _measured(times, Load(requests_per_s=fast, capacity_requests_per_s=0.0, utilisation=0.0, stable=True), fast, pools)


def misfit(setting: Setting) -> str | None:
    """Why a prefill replica does not fit in memory; None when it does."""
    own = prefill_setting(setting)
    longest = longest_tokens(own.serving.prompt)
    used = memory(own, 1.0, longest, longest + 1.0)
    need, limit = float(used.total_bytes), limit_bytes(own, used)
    if need <= limit:
        return None
    return Message("a prefill replica needs {0:.1f} GiB on a GPU for one prompt, {1:.1f} usable", need / 2**30, limit / 2**30)


def matched(pools: Pools) -> str:
    """What each pool carries, and how many prefill replicas one of decoding would take."""
    each = pools.capacities_per_s
    return Message(
        "prefill carries {0:.3g} requests per second, its links {1:.3g}, decoding {2:.3g}: {3:.2g} prefill "
        "replicas to one of decoding would carry the same",
        each["prefill"],
        each["transfer"],
        each["decode"],
        pools.balance,
    )
