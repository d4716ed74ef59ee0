"""Which cut over the GPUs a deployment takes when none is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.hardware.cluster import Cluster
from planner.model.architecture import Model
from planner.model.mixers import state_heads
from planner.serving.batch_figures import batch_figures, full_per_s, most_full_per_s
from planner.serving.closed_loop import closed_loop
from planner.serving.engine import Engine
from planner.serving.intervals import interval_of
from planner.serving.load import CROWDED, slots_of
from planner.serving.memory import card_bytes, fits, memory
from planner.serving.pass_time import Times
from planner.serving.requests import longest_tokens, mean_tokens
from planner.serving.spec import Serving

CLOSE = 0.9
"""Part of the best closed loop's requests per second below which the static batch of a cut rules it out. Over 306 cuts (Llama 3
8B, Qwen3 30B-A3B and DeepSeek-V3 on 8 GPUs, three engines, 8 to 512 clients) the loop's rate is 0.55 to 1.044 times that of the
batch: a cut with less than 0.95 of the best cannot win, and 0.9 leaves as much again."""
CUT = ("tp", "pp", "ep", "dp")
"""Fields of ``Serving`` that cut a deployment; where one is given, nothing is chosen."""


def cuts(model: Model, cluster: Cluster, engine: Engine) -> Iterator[dict[str, int]]:
    """Cuts that fill the cluster with equal replicas: tp as wide as the node and the heads allow, pp for the rest of a replica,
    with every expert cut over tp (ep = 1), with whole experts spread over it (ep = tp), and with whole experts spread over a
    replica whose GPUs each attend to sequences of their own (tp = 1). An engine that splits layers alone over GPUs, as llama.cpp
    does, has tp = 1."""
    most = min(cluster.node.num_gpus, cluster.num_gpus) if "tp" in engine.features else 1
    for replica_gpus in (n for n in range(1, cluster.num_gpus + 1) if cluster.num_gpus % n == 0):
        tp = max(
            n
            for n in range(1, min(most, replica_gpus) + 1)
            if replica_gpus % n == 0 and model.num_heads % n == 0 and state_heads(model) % n == 0
        )
        pp = replica_gpus // tp
        if pp > model.num_layers:
            continue
        cut = {"tp": tp, "pp": pp, "dp": cluster.num_gpus // replica_gpus}
        yield {**cut, "ep": 1}
        if tp > 1 and model.num_experts and model.num_experts % tp == 0:
            yield {**cut, "ep": tp}
        if tp > 1 and "ep" in engine.features and model.num_experts and model.num_experts % replica_gpus == 0:
            yield {"tp": 1, "pp": 1, "dp": cluster.num_gpus // replica_gpus, "ep": replica_gpus}


def with_cut(
    spec: Serving, model: Model, cluster: Cluster, engine: Engine, times: Callable[[Serving], Times]
) -> tuple[Serving, tuple[str, ...]]:
    """(the deployment with a cut that fills the cluster, a note on it), where the question names none.

    Of those that surely fit (else of those that may, else of all: the widest replica), the one that does best what is asked
    (``best_cut``). ``times``: how a deployment's passes are timed. Raises PlannerError where no cut is possible.
    """
    if cluster.num_gpus == 1 or spec.prefill_pool is not None or set(CUT) & spec.model_fields_set:
        return _shared(spec, times), ()
    found: list[Times] = []
    refused: list[PlannerError] = []
    for cut in cuts(model, cluster, engine):
        try:
            found.append(times(_shared(spec.replaced(**cut), times)))
        except PlannerError as error:
            refused.append(error)
    if not found:
        raise refused[0]  # of replicas of one GPU: nothing of it is the cut's
    sure = [certainty(one) for one in found]
    chosen = found[best_cut(found, sure)].setting.serving
    words = ", ".join(f"{name} = {getattr(chosen, name)}" for name in CUT if getattr(chosen, name) > 1)
    fit = sum(one > 0 for one in sure)
    if not fit:
        return chosen, (Message("cut chosen: {0}, the widest replica; no cut of {1} fits", words, len(found)),)
    if fit == 1:
        return chosen, (Message("cut chosen: {0}, the only one that fits; serving.tp, pp, ep and dp name another", words),)
    if _asked(spec) == "requests_per_s":
        return chosen, (
            Message(
                "cut chosen: {0}, the quickest that carries the rate, or the most capacity, of the {1} cuts that fit; "
                "serving.tp, pp, ep and dp name another",
                words,
                fit,
            ),
        )
    aim = {
        "clients": Message("output with these clients"),
        "batch": Message("output at this batch"),
        "": Message("capacity"),
    }[_asked(spec)]
    return chosen, (
        Message(
            "cut chosen: {0}, the most {1} of the {2} cuts that fit; serving.tp, pp, ep and dp name another", words, aim, fit
        ),
    )


def _asked(spec: Serving) -> str:
    """The field that says how much is asked of the deployment: "clients", "requests_per_s", "batch"; "" where none is given."""
    if spec.clients is not None:
        return "clients"
    if spec.requests_per_s is not None:
        return "requests_per_s"
    return "batch" if "batch" in spec.model_fields_set else ""


def _shared(spec: Serving, times: Callable[[Serving], Times]) -> Serving:
    """With clients and no batch: the clients of a replica are its batch, as far as they find room."""
    if spec.clients is None or "batch" in spec.model_fields_set:
        return spec
    return spec.replaced(batch=min(-(-spec.clients // spec.dp), max(slots_of(times(spec)), 1)))


def best_cut(found: Sequence[Times], sure: Sequence[int] = ()) -> int:
    """The index of the deployment of ``found`` that does best what is asked, among the surest (``sure``: their ``certainty``).

    clients: the most simulated output at their number; a rate: the lowest latency of those whose capacity carries it with room,
    else the most capacity; a batch: the most output at it; nothing: the most output at as many sequences as a replica holds.
    """
    sure = sure or [certainty(one) for one in found]
    surest = [i for i, one in enumerate(sure) if one == max(sure)]
    if not max(sure):
        return min(surest, key=lambda i: _least_bytes(found[i]))
    s = found[0].setting.serving
    if len(surest) > 1 and _asked(s) == "requests_per_s":
        return _carrying(found, surest, float(s.requests_per_s or 0.0))
    if len(surest) > 1 and s.clients is not None:
        return _busiest(found, surest, s.clients)
    return max(surest, key=lambda i: _output(found[i]))


def certainty(times: Times) -> int:
    """2 surely fits, 1 may fit, 0 does not fit."""
    setting, s = times.setting, times.setting.serving
    context = mean_tokens(s.prompt) + mean_tokens(s.output)
    used = memory(setting, float(s.batch), longest_tokens(s.prompt), context, times.draft)
    need = float(used.total_bytes)
    if not fits(setting, used) or slots_of(times) < 1:
        return 0
    if s.clients is not None and "paged_cache" in setting.engine.features:  # its cache is what is free, however many ask
        need = float(memory(setting, 1.0, longest_tokens(s.prompt), context, times.draft).total_bytes)
    return 2 if interval_of(setting, "total_bytes", need).upper <= card_bytes(setting.cluster) else 1


def _least_bytes(times: Times) -> float:
    """Bytes of the fullest GPU: of what does not fit the least is nearest."""
    s = times.setting.serving
    context = mean_tokens(s.prompt) + mean_tokens(s.output)
    return float(memory(times.setting, float(s.batch), longest_tokens(s.prompt), context, times.draft).total_bytes)


def _output(times: Times) -> float:
    """Requests per second of all replicas: of the clients, each as those of the fullest replica, at the batch, or full."""
    s, slots = times.setting.serving, max(slots_of(times), 1)
    together = s.batch if _asked(s) == "batch" else slots
    each = together if s.clients is None else -(-s.clients // s.dp)
    rate = float(batch_figures(times, np.array([float(min(each, together))]))["requests_per_s"][0])
    return rate if s.clients is None else rate * s.clients / (each * s.dp)


def _carrying(found: Sequence[Times], among: Sequence[int], rate: float) -> int:
    """The quickest at ``rate`` of those whose simulated capacity it takes no more than ``CROWDED`` of; where none is, that of the
    most capacity. Simulated from the quickest on, until one carries it, and only where the bound of its capacity (``most_per_s``)
    leaves a doubt."""
    quickest = sorted(among, key=lambda i: _latency_s(found[i], rate))
    bounds, capacities = {}, {}
    for i in quickest:
        bounds[i] = most_full_per_s(found[i])
        if rate <= CROWDED * bounds[i]:
            capacities[i] = full_per_s(found[i])
            if rate <= CROWDED * capacities[i]:
                return i
    for i in sorted(set(quickest) - set(capacities), key=bounds.__getitem__, reverse=True):
        if bounds[i] >= max(capacities.values(), default=0.0):
            capacities[i] = full_per_s(found[i])
    return max((i for i in quickest if i in capacities), key=capacities.__getitem__)


def _busiest(found: Sequence[Times], among: Sequence[int], clients: int) -> int:
    """The one that answers the most requests per second of ``clients`` in a closed loop. Simulated from the most output of a
    static batch on, while that is no less than ``CLOSE`` of the best: prompts that come one by one cost several attention
    groups more than those of a batch that are read together."""
    static = {i: _output(found[i]) for i in among}
    rates: dict[int, float] = {}
    for i in sorted(among, key=static.__getitem__, reverse=True):
        if rates and static[i] < CLOSE * max(rates.values()):
            break
        rates[i] = closed_loop(found[i], clients).requests_per_s
    return max(rates, key=rates.__getitem__)


def _latency_s(times: Times, rate: float) -> float:
    """Seconds of a request at ``rate``, with as many sequences at once as then are at work (Little's law); without its waits.

    The fewest of 1, 2, 4 ... slots whose throughput is the rate; where full ones do less, a time that grows with what is missing.
    """
    slots = float(max(slots_of(times), 1))
    batches = np.unique(np.append(2.0 ** np.arange(int(np.log2(slots)) + 1), slots))
    figures = batch_figures(times, batches)
    rates = np.maximum.accumulate(figures["requests_per_s"])
    missing = max(rate / float(rates[-1]), 1.0)
    return float(np.interp(rate, rates, figures["e2e_s"])) * missing
