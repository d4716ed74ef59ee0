"""``planner.serve``: composes memory, times, load and money of a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.common.assumption import Assumption
from planner.common.units import GIB
from planner.hardware.cluster import Cluster
from planner.model.catalog import load_model
from planner.model.parameters import parameters_active, parameters_total
from planner.prices.price import Price, PriceLike, as_price
from planner.serving.batch_figures import batch_figures
from planner.serving.deployment import Deployment
from planner.serving.engine import load_engine
from planner.serving.expense import expense
from planner.serving.feasibility import bound_context, require_possible, warnings_of
from planner.serving.kv_cache import replica_sequence_bytes
from planner.serving.load import Load, under_load
from planner.serving.memory import KINDS, card_bytes, largest_batch, largest_context, limit_bytes, memory
from planner.serving.pass_time import Times
from planner.serving.requests import longest_tokens, mean_tokens
from planner.serving.setting import Setting
from planner.serving.spec import Serving
from planner.serving.weights import host_bytes, total_bytes
from planner.workload.resolve import ClusterLike, ModelLike, as_cluster, as_model

if TYPE_CHECKING:
    pass


UNUSED = ("attention_backward_fraction", "fp8_cast_passes", "fp8_latency_s", "cuda_core_fraction")
"""Constants of kernels that serving does not run, or (the last) only in fp32."""


CROWDED = 0.9
"""Utilisation above which a wait is about (1 / (1 - utilisation))^2 services long to settle, thousands of requests. Assumed."""


ServingLike = Serving | Mapping[str, Any]


def serve(*, model: ModelLike, cluster: ClusterLike, serving: ServingLike, price: PriceLike | None = None) -> Deployment:
    """What the deployment needs and does. Takes names, mappings of fields or objects, as ``planner.plan``.

    ``serving.dp`` left out = as many replicas as the cluster's GPUs hold. Raises PlannerError for unknown names, bad fields
    and impossible cuts; one that does not fit in memory is an answer with ``reasons`` and the ``nearest`` change.
    """
    the_model, the_cluster = as_model(model), as_cluster(cluster)
    spec = serving if isinstance(serving, Serving) else Serving.build(dict(serving), "serving")
    spec, notes = _replicas(spec, the_cluster)
    setting = Setting(model=the_model, cluster=the_cluster, engine=load_engine(spec.engine), serving=spec)
    draft = draft_setting(setting)
    require_possible(setting, draft)
    the_price = as_price(price, the_cluster.accelerator.name)
    return answer(Times(setting=setting, draft=draft), the_price, notes)


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
        expert_load=1.0,
        expert_zipf=0.0,
        group_size=None,
        bits_per_weight=None,
        keep_16_bit=None,
    )
    return replace(setting, model=load_model(spec.draft), serving=own)


def _replicas(spec: Serving, cluster: Cluster) -> tuple[Serving, tuple[str, ...]]:
    if "dp" in spec.model_fields_set or cluster.num_gpus == spec.gpus_per_replica or cluster.num_gpus % spec.gpus_per_replica:
        return spec, ()
    dp = cluster.num_gpus // spec.gpus_per_replica
    return spec.replaced(dp=dp), (f"dp chosen: {dp} replicas of {spec.gpus_per_replica} GPU(s) fill the cluster",)


def answer(times: Times, price: Price | None, notes: tuple[str, ...] = ()) -> Deployment:
    """Memory first; times, load and money where it fits."""
    setting, s = times.setting, times.setting.serving
    prompt, output = mean_tokens(s.prompt), mean_tokens(s.output)
    context = prompt + output
    used = memory(setting, float(s.batch), longest_tokens(s.prompt), context, times.draft)
    limit, need = limit_bytes(setting), float(used.total)
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
        memory_bytes={k: float(getattr(used, k)) for k in KINDS},
        total_bytes=need,
        limit_bytes=limit,
        card_bytes=card_bytes(setting.cluster),
        max_batch=largest_batch(setting, prompt, context, times.draft),
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


def _reasons(d: Deployment, longest: float) -> tuple[str, ...]:
    """Why it does not fit; empty when it does."""
    setting, s = d.times.setting, d.serving
    if d.host_weights_bytes and d.cluster.node.host_memory_bytes:
        here = d.host_weights_bytes * s.dp / d.cluster.num_nodes
        if here > d.cluster.node.host_memory_bytes:
            return (f"experts take {here / GIB:.1f} GiB of host memory, a node has {d.cluster.node.host_memory_bytes / GIB:.1f}",)
    fixed = d.memory_bytes["weights"] + d.memory_bytes["overhead"]
    if fixed > d.limit_bytes:
        return (f"weights and overhead need {fixed / GIB:.1f} GiB on a GPU, {d.limit_bytes / GIB:.1f} usable",)
    one = memory(setting, 1.0, longest_tokens(s.prompt), longest, d.times.draft)
    if float(one.total) > d.limit_bytes:
        room = d.limit_bytes - fixed - float(one.workspace)
        return (
            f"the cache of one sequence of {longest:.0f} tokens needs {float(one.kv_cache) / GIB:.1f} GiB on a GPU, "
            f"{max(room, 0.0) / GIB:.1f} are left beside weights and workspace",
        )
    if not d.fits:
        return (
            f"serving.batch = {s.batch} needs {d.total_bytes / GIB:.1f} GiB on a GPU, {d.limit_bytes / GIB:.1f} usable; the "
            f"largest batch that fits is {d.max_batch}",
        )
    return ()


def _timed(d: Deployment) -> Deployment:
    times, s = d.times, d.serving
    prompt = mean_tokens(s.prompt)
    figures = batch_figures(times, np.array([float(s.batch)]))
    rate, tokens = float(figures["requests_per_s"][0]), float(figures["output_tokens_per_s"][0])
    load = None
    if s.requests_per_s is not None:
        load = under_load(times, s.requests_per_s)
        if load.output_tokens_per_s is not None:
            rate, tokens = load.requests_per_s, load.output_tokens_per_s
    unstable = load is not None and not load.stable
    ttft = float(figures["ttft_s"][0])
    return replace(
        d,
        ttft_s=ttft,
        tpot_s=float(figures["tpot_s"][0]),
        e2e_s=float(figures["e2e_s"][0]),
        prefill_tokens_per_s=s.batch * prompt / ttft * s.dp,
        decode_tokens_per_s=s.batch / float(figures["tpot_s"][0]) * s.dp,
        output_tokens_per_s=float(figures["output_tokens_per_s"][0]),
        requests_per_s=float(figures["requests_per_s"][0]),
        load=load,
        expense=None if unstable else expense(d.cluster, d.price, tokens, rate, prompt),
        warnings=(*d.warnings, *_crowded(load)),
        notes=(*d.notes, *((load.why,) if load is not None and load.why else ())),
    )


def _crowded(load: Load | None) -> tuple[str, ...]:
    """A warning that queues near the capacity have no length of their own: they grow with the time that the load lasts."""
    if load is None or not load.stable or load.utilisation <= CROWDED:
        return ()
    lasts = load.num_requests / load.requests_per_s
    return (
        f"serving.requests_per_s = {load.requests_per_s:g} takes {load.utilisation:.0%} of the capacity: so near it waits grow "
        f"with the time that the load lasts; percentiles are those of num_requests = {load.num_requests}, {lasts:.0f} s of it",
    )


def assumptions_of(setting: Setting) -> tuple[Assumption, ...]:
    """Constants behind the answer that nobody measured."""
    specs = (
        ("engine " + setting.engine.name, setting.engine),
        ("accelerator " + setting.cluster.accelerator.name, setting.cluster.accelerator),
        ("curves " + setting.curves.name, setting.curves),
    )
    return tuple(
        Assumption(where=where, field=field, value=value, source=spec.provenance[field].source)
        for where, spec in specs
        for field, value in spec.assumed().items()
        if field not in UNUSED
    )
