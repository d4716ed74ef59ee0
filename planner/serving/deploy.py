"""``planner.serve``: composes memory, times, load and money of a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from planner.common.answerable import require_answerable
from planner.common.assumption import Assumption
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.common.units import GIB
from planner.hardware.cluster import Cluster
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.model.parameters import parameters_active, parameters_total
from planner.performance.feasibility import image_layer_notes
from planner.prices.market import as_price, price_note
from planner.prices.price import Price, PriceLike
from planner.serving.batch_figures import batch_figures
from planner.serving.closed_loop import closed_loop
from planner.serving.cuts import with_cut
from planner.serving.deployment import Deployment
from planner.serving.disaggregated import Pools, clients_apart, load_apart, matched, misfit, prefill_setting
from planner.serving.engine import (
    Engine,
    canonical_name,
    engine_family,
    engine_for,
    expands_fp4,
    older_releases,
    usual_engine,
    weights_of_tags,
)
from planner.serving.expense import Expense, expense
from planner.serving.feasibility import bound_context, require_possible, warnings_of
from planner.serving.kv_cache import replica_sequence_bytes
from planner.serving.load import CROWDED, Load, server_s, under_load
from planner.serving.memory import KINDS, card_bytes, fits, largest_batch, largest_context, limit_bytes, memory
from planner.serving.pass_time import Times
from planner.serving.requests import longest_tokens, mean_tokens
from planner.serving.setting import Setting
from planner.serving.spec import Serving
from planner.serving.weights import host_bytes, total_bytes
from planner.workload.resolve import ClusterLike, ModelLike, as_cluster, as_model

UNUSED = ("attention_backward_fraction", "fp8_cast_passes", "fp8_latency_s", "cuda_core_fraction")
"""Constants of kernels that serving does not run, or (the last) only in fp32."""


ServingLike = Serving | Mapping[str, Any]


def serve(*, model: ModelLike, cluster: ClusterLike, serving: ServingLike, price: PriceLike | None = None) -> Deployment:
    """What the deployment needs and does. Takes names, mappings of fields or objects, as ``planner.plan``.

    ``serving.dp`` left out = as many replicas as the cluster's GPUs hold; tp, pp, ep and dp all left out = the best cut that
    fits (``with_cut``); ``batch`` left out with ``clients`` = the clients of a replica. Raises PlannerError for unknown names,
    bad fields and impossible cuts; one that does not fit in memory is an answer with ``reasons`` and the ``nearest`` change.
    """
    the_model, the_cluster = as_model(model), as_cluster(cluster)
    spec = _spec(serving, the_model)
    the_model, headless = _headless(the_model, spec)
    require_answerable("serving", spec)
    spec, stored = _as_stored(spec, the_model, the_cluster)
    if "engine" not in spec.model_fields_set:
        spec = spec.replaced(engine=usual_engine(the_cluster.accelerator, the_model, spec.weights))
    engine = engine_for(spec, the_cluster.accelerator)
    spec, newest = _released(spec, engine)

    def times(tried: Serving) -> Times:
        here = engine_for(tried, the_cluster.accelerator)
        setting = Setting(model=the_model, cluster=the_cluster, engine=here, serving=tried)
        draft = draft_setting(setting)
        require_possible(setting, draft)
        if tried.prefill_pool is not None:
            pool = prefill_setting(setting)
            require_possible(replace(pool, cluster=the_cluster.replaced(num_gpus=pool.serving.num_gpus)))
        return Times(setting=setting, draft=draft)

    spec, chosen = with_cut(spec, the_model, the_cluster, engine, times)
    spec, notes = _replicas(spec, the_cluster)
    the_price = as_price(price, the_cluster.accelerator.name, the_cluster.node)
    found = times(spec)
    notes = (*notes, *price_note(the_price, the_cluster.accelerator.name))
    return answer(
        found,
        the_price,
        (*the_model.reading_notes, *headless, *_tower_notes(the_model, spec), *stored, *chosen, *notes, *newest),
    )


def _spec(serving: ServingLike, model: Model) -> Serving:
    """The deployment, checked; a model that makes vectors alone is served for them where nobody says so."""
    _require_no_output(model, serving)
    if isinstance(serving, Serving):
        spec = serving.checked("serving")
        return spec.replaced(embeds=True) if model.embeds and "embeds" not in spec.model_fields_set else spec
    return Serving.build({"embeds": True, **serving} if model.embeds and isinstance(serving, Mapping) else serving, "serving")


def _require_no_output(model: Model, serving: Any) -> None:
    """PlannerError for an answer's length asked of a model that makes vectors alone, which the user need not know."""
    given = serving.get("output") if isinstance(serving, Mapping) else None
    if model.embeds and given is not None and given != 1 and serving.get("embeds", True) is True:
        raise PlannerError(
            "serving.output = {0!r}: {1} makes vectors, no text; leave serving.output (--output) out.", given, model.name
        )


def _headless(model: Model, spec: Serving) -> tuple[Model, tuple[str, ...]]:
    """The model without the head over its vocabulary where vectors are made: servers leave it away (vLLM, ``--convert embed``;
    transformers' AutoModel); a tied one stays as the embedding."""
    if not spec.embeds or model.head == "none":
        return model, ()
    found = model.replaced(head="none", tied_embeddings=False)
    return found, (Message("{0} without its head over the vocabulary: what is served are vectors", model.name),)


def _tower_notes(model: Model, spec: Serving) -> tuple[str, ...]:
    """What of a vision encoder and of layers that attend to images is counted where requests have no images."""
    if spec.images:
        return ()
    return image_layer_notes(model) + tuple(
        Message(
            "{0}: its {1} encoder of {2:.3g}B parameters is held, and does not run on text alone: serving.images gives a "
            "request's images",
            model.name,
            tower.name,
            tower.parameters / 1e9,
        )
        for tower in model.towers
    )


DISPATCHERS = {"deepep": "DeepEP"}
"""Dispatchers that a server takes on request alone, as a reader knows them."""


def _exchange_notes(times: Times) -> tuple[str, ...]:
    """What the exchange that a server takes on request alone would take, where nobody said which one it is."""
    setting, s, engine = times.setting, times.setting.serving, times.setting.engine
    way = engine.dispatcher
    if (
        s.dispatcher is not None
        or s.embeds
        or s.attention_groups == 1
        or not engine.dispatcher_option
        or setting.dispatcher == way
    ):
        return ()
    if way not in setting.dispatchers:
        return ()
    other = replace(times, setting=replace(setting, serving=s.replaced(dispatcher=way)))
    figures = {name: float(values[0]) for name, values in batch_figures(other, np.array([float(s.batch)])).items()}
    return (
        Message(
            "experts' tokens are gathered, as {0} does unless told otherwise; by {1} ({2}; serving.dispatcher = {3}) {4:.3g} ms "
            "to the first token and {5:.3g} ms per token",
            engine.name,
            DISPATCHERS[way],
            engine.dispatcher_option,
            way,
            1e3 * figures["ttft_s"],
            1e3 * figures["tpot_s"],
        ),
    )


def _released(spec: Serving, engine: Engine) -> tuple[Serving, tuple[str, ...]]:
    """The deployment under its engine's own name; a note when a name without a version meant the newest of several."""
    if spec.engine.endswith(".toml") or spec.engine == engine.name:
        return spec, ()
    others = older_releases(engine.name)
    named = spec.replaced(engine=canonical_name(spec.engine))
    if not others or spec.engine.lower() != engine_family(engine.name):
        return named, ()
    return named, (
        Message(
            "serving.engine = {0!r} is {1}, the newest release known; older ones: {2}",
            spec.engine,
            engine.name,
            ", ".join(others),
        ),
    )


def _as_stored(spec: Serving, model: Model, cluster: Cluster) -> tuple[Serving, tuple[str, ...]]:
    """Weights as the checkpoint stores them (quantization_config), where nobody says and the GPU can; else in 16 bit."""
    stored, peaks = model.stored_weights, cluster.accelerator.peak_flops_per_s
    if "weights" in spec.model_fields_set:
        return spec, ()
    if not stored:
        tagged = weights_of_tags(spec.engine)
        if tagged is None:
            return _in_16_bit(spec, cluster)
        note = Message(
            "weights in {0}, as the tags of {1} that name no format; serving.weights names another", tagged, spec.engine
        )
        return spec.replaced(weights=tagged), (note,)
    if stored in ("fp8", "fp8-block") and "fp8" not in peaks:
        stored = "fp8-weight-only"
    if stored == "nvfp4" and "fp4" not in peaks and _expands_fp4(spec, model, cluster):
        note = Message(
            "the checkpoint is in {0}, which {1} has no units for: expanded to 16 bit on the way, as vLLM's and SGLang's Marlin "
            "kernels do",
            stored,
            cluster.accelerator.name,
        )
        return spec.replaced(weights="nvfp4-weight-only"), (note,)
    if stored == "nvfp4" and "fp4" not in peaks:
        wide, notes = _in_16_bit(spec, cluster)
        return wide, (
            Message("the checkpoint is in {0}, which {1} has no units for: counted in 16 bit", stored, cluster.accelerator.name),
            *notes,
        )
    return spec.replaced(weights=stored), (Message("weights in {0}, as the checkpoint stores them", stored),)


def _expands_fp4(spec: Serving, model: Model, cluster: Cluster) -> bool:
    """``expands_fp4`` of the engine that is named, or else of the usual one."""
    if "engine" not in spec.model_fields_set:
        spec = spec.replaced(engine=usual_engine(cluster.accelerator, model, "nvfp4-weight-only"))
    return expands_fp4(engine_for(spec, cluster.accelerator), cluster.accelerator)


def _in_16_bit(spec: Serving, cluster: Cluster) -> tuple[Serving, tuple[str, ...]]:
    """The 16-bit type of the GPU: fp16 before Ampere."""
    card = cluster.accelerator
    if "bf16" in card.peak_flops_per_s or "fp16" not in card.peak_flops_per_s:
        return spec, ()
    return spec.replaced(weights="fp16"), (Message("weights in fp16: {0} has no bf16 arithmetic", card.name),)


def draft_setting(setting: Setting) -> Setting | None:
    """The draft model on the same GPUs: unquantized weights, same cut over tp, whole on every stage."""
    spec = setting.serving.speculative
    if spec is None or spec.draft is None:
        return None
    own = setting.serving.replaced(
        weights=setting.compute_dtype,
        compute_dtype="auto",
        speculative=None,
        ep=1,
        pp=1,
        expert_offload=0.0,
        expert_load=None,
        expert_zipf=0.0,
        expert_placement=None,
        redundant_experts=0,
        group_size=None,
        bits_per_weight=None,
        keep_16_bit=None,
    )
    return replace(setting, model=load_model(spec.draft), serving=own)


def _replicas(spec: Serving, cluster: Cluster) -> tuple[Serving, tuple[str, ...]]:
    left = cluster.num_gpus - (spec.prefill_pool.num_gpus if spec.prefill_pool else 0)
    if "dp" in spec.model_fields_set or left <= spec.gpus_per_replica or left % spec.gpus_per_replica:
        return spec, ()
    dp = left // spec.gpus_per_replica
    return spec.replaced(dp=dp), (Message("dp chosen: {0} replicas of {1} GPU(s) fill the cluster", dp, spec.gpus_per_replica),)


def answer(times: Times, price: Price | None, notes: tuple[str, ...] = ()) -> Deployment:
    """Memory first; times, load and money where it fits."""
    setting, s = times.setting, times.setting.serving
    prompt, output = mean_tokens(s.prompt), mean_tokens(s.output)
    context = prompt + output
    used = memory(setting, float(s.batch), longest_tokens(s.prompt), context, times.draft)
    limit, need = limit_bytes(setting, used), float(used.total_bytes)
    m = setting.model
    whole = (
        -(-context // setting.block_size) * setting.block_size
    )  # full blocks of the request's own length: windows keep no more
    longest, bound = bound_context(setting, largest_context(setting, s.batch, output, times.draft))
    empty = Deployment(
        model=m,
        cluster=setting.cluster,
        engine=setting.engine,
        serving=s,
        price=price,
        times=times,
        num_gpus=s.num_gpus,
        parameters_total=parameters_total(m),
        parameters_active=parameters_active(m),
        weights_bytes=total_bytes(setting),
        host_weights_bytes=host_bytes(setting),
        kv_bytes_per_token=float(replica_sequence_bytes(setting, whole)) / whole,
        kv_bytes_per_sequence=float(replica_sequence_bytes(setting, context)),
        memory_bytes={k: float(getattr(used, f"{k}_bytes")) for k in KINDS},
        total_bytes=need,
        limit_bytes=limit,
        card_bytes=card_bytes(setting.cluster),
        max_batch=largest_batch(setting, prompt, context, times.draft, **_most(setting)),
        max_context=longest,
        max_context_bound=bound,
        fits=need <= limit,
        reasons=(),
        ttft_s=None,
        tpot_s=None,
        e2e_s=None,
        prefill_tokens_per_s=None,
        decode_tokens_per_s=None,
        output_tokens_per_s=None,
        requests_per_s=None,
        load=None,
        expense=None,
        warnings=warnings_of(setting),
        notes=notes,
        assumptions=assumptions_of(setting),
    )
    reasons = _reasons(empty, longest_tokens(s.prompt) + longest_tokens(s.output))
    if reasons:
        return replace(empty, fits=False, reasons=reasons)
    return _timed(empty)


def _most(setting: Setting) -> dict[str, int]:
    """Of an encoder, which keeps no cache, the engine's places alone bound how many prompts are at work."""
    return {} if setting.model.architecture == "decoder" else {"most": setting.places}


def _reasons(d: Deployment, longest: float) -> tuple[str, ...]:
    """Why it does not fit; empty when it does."""
    setting, s = d.times.setting, d.serving
    if d.host_weights_bytes and d.cluster.node.host_memory_bytes:
        here = d.host_weights_bytes * s.dp / d.cluster.num_nodes
        if here > d.cluster.node.host_memory_bytes:
            return (
                Message(
                    "experts take {0:.1f} GiB of host memory, a node has {1:.1f}",
                    here / GIB,
                    d.cluster.node.host_memory_bytes / GIB,
                ),
            )
    fixed = d.memory_bytes["weights"] + d.memory_bytes["overhead"]
    if fixed > d.limit_bytes:
        return (Message("weights and overhead need {0:.1f} GiB on a GPU, {1:.1f} usable", fixed / GIB, d.limit_bytes / GIB),)
    one = memory(setting, 1.0, longest_tokens(s.prompt), longest, d.times.draft)
    if not fits(setting, one) and float(one.kv_cache_bytes):
        room = limit_bytes(setting, one) - fixed - float(one.workspace_bytes)
        return (
            Message(
                "the cache of one sequence of {0:,.0f} tokens needs {1:.1f} GiB on a GPU, {2:.1f} are left beside "
                "weights and workspace",
                longest,
                float(one.kv_cache_bytes) / GIB,
                max(room, 0.0) / GIB,
            ),
        )
    if not d.fits:
        return (
            Message(
                "serving.batch = {0} needs {1:.1f} GiB on a GPU, {2:.1f} usable; the largest batch that fits is {3}",
                s.batch,
                d.total_bytes / GIB,
                d.limit_bytes / GIB,
                d.max_batch,
            ),
        )
    pool = misfit(setting) if s.prefill_pool is not None else None
    return () if pool is None else (pool,)


def _timed(d: Deployment) -> Deployment:
    times, s = d.times, d.serving
    prompt = mean_tokens(s.prompt)
    figures = {name: float(values[0]) for name, values in batch_figures(times, np.array([float(s.batch)])).items()}
    pools = Pools(times) if s.prefill_pool is not None else None
    load = _load(times, pools)
    front = float(server_s(times.setting.engine, np.array(prompt)))
    return replace(
        d,
        ttft_s=figures["ttft_s"],
        tpot_s=None if s.embeds else figures["tpot_s"],
        e2e_s=figures["e2e_s"],
        prefill_tokens_per_s=s.batch * prompt / (figures["ttft_s"] - front) * s.dp,
        decode_tokens_per_s=None if s.embeds else s.batch / figures["tpot_s"] * s.dp,
        output_tokens_per_s=None if s.embeds else figures["output_tokens_per_s"],
        requests_per_s=figures["requests_per_s"],
        load=load,
        expense=_expense(d, figures, load),
        warnings=(*d.warnings, *_crowded(load)),
        notes=(
            *d.notes,
            *_exchange_notes(times),
            *(() if pools is None else (matched(pools),)),
            *((load.why,) if load and load.why else ()),
        ),
    )


def _load(times: Times, pools: Pools | None = None) -> Load | None:
    s = times.setting.serving
    if pools is not None and s.clients is not None:
        return clients_apart(times, s.clients, pools)
    if pools is not None:
        return None if s.requests_per_s is None else load_apart(times, s.requests_per_s, pools)
    if s.clients is not None:
        return closed_loop(times, s.clients)
    return None if s.requests_per_s is None else under_load(times, s.requests_per_s)


def _expense(d: Deployment, figures: Mapping[str, float], load: Load | None) -> Expense | None:
    """At the batch or the load; None of a queue that grows without end."""
    prompt, share = mean_tokens(d.serving.prompt), figures["prefill_share"]
    if load is None:
        rate = figures["requests_per_s"]
        output = 0.0 if d.serving.embeds else mean_tokens(d.serving.output)
        return expense(d.cluster, d.price, rate * output, rate, prompt, share)
    if load.output_tokens_per_s is None:
        return None
    share = share if load.prefill_share is None else load.prefill_share
    return expense(d.cluster, d.price, load.output_tokens_per_s, load.requests_per_s, prompt, share, load.busy or 1.0)


def _crowded(load: Load | None) -> tuple[str, ...]:
    """A warning that queues near the capacity have no length of their own: they grow with the time that the load lasts."""
    if load is None or load.clients or not load.stable or load.utilisation <= CROWDED:
        return ()
    lasts = load.num_requests / load.requests_per_s
    return (
        Message(
            "serving.requests_per_s = {0:g} takes {1:.0%} of the capacity: so near it waits grow with the time that the load "
            "lasts; percentiles are those of num_requests = {2}, {3:.0f} s of it",
            load.requests_per_s,
            load.utilisation,
            load.num_requests,
            lasts,
        ),
    )


def assumptions_of(setting: Setting) -> tuple[Assumption, ...]:
    """Constants behind the answer that nobody measured."""
    specs = (
        (Message("model {0}", setting.model.name), setting.model),
        (Message("engine {0}", setting.engine.name), setting.engine),
        (Message("accelerator {0}", setting.cluster.accelerator.name), setting.cluster.accelerator),
        (Message("curves {0}", setting.curves.name), setting.curves),
    )
    return tuple(
        Assumption(where=where, field=field, value=value, source=spec.provenance[field].source)
        for where, spec in specs
        for field, value in spec.assumed().items()
        if field not in UNUSED
    )
