"""What cannot be is an error that names the field; what is doubtful is a warning."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.hardware.cluster import Accelerator, require_vendor, runs_on
from planner.model.architecture import Model
from planner.model.mixers import state_heads
from planner.model.parameters import embedding_parameters, head_parameters, layer_parameters
from planner.performance.feasibility import check_images
from planner.serving.engine import Engine, engine_names, expands_fp4, load_engine, names_with, runs_model
from planner.serving.pass_time import expanding_rate
from planner.serving.requests import longest_tokens, mean_tokens
from planner.serving.setting import Setting
from planner.serving.spec import PASSAGE, Lengths, Serving
from planner.serving.weight_formats import part_of, require_hardware


def require_possible(setting: Setting, draft: Setting | None = None) -> None:
    """Raise PlannerError for a deployment that no memory would make possible."""
    require_engine_there(setting.cluster.accelerator, setting.engine, setting.model)
    _require_model(setting, draft)
    _require_features(setting)
    _require_context(setting.serving)
    _require_cut(setting)
    _require_dispatcher(setting)
    card = setting.cluster.accelerator
    expands = expands_fp4(setting.engine, card)
    require_hardware(setting.format, card, expands)
    if setting.format.name == "nvfp4-weight-only" and not expands:
        _refuse_expanded_fp4(setting)
    if setting.compute_dtype not in card.peak_flops_per_s:
        have = ", ".join(card.peak_flops_per_s)
        field = "weights" if setting.serving.weights == setting.compute_dtype else "compute_dtype"
        raise PlannerError(
            "serving.{0} = {1!r}: {2} has no {3} arithmetic ({4}); it has {5}.",
            field,
            setting.compute_dtype,
            card.name,
            setting.compute_dtype,
            card.architecture,
            have,
        )


def _refuse_expanded_fp4(setting: Setting) -> None:
    """PlannerError that names the engines with kernels for fp4 weights on the GPU, or that none has."""
    card = setting.cluster.accelerator
    others = [
        name for name in engine_names() if expands_fp4(load_engine(name), card) and runs_model(load_engine(name), setting.model)
    ]
    if others:
        raise PlannerError(
            "serving.weights = {0!r}: {1} has no kernels that expand fp4 weights on {2}; use serving.engine = {3}, or int4-awq.",
            setting.format.name,
            setting.engine.name,
            card.name,
            ", ".join(others),
        )
    raise PlannerError(
        "serving.weights = {0!r}: no engine of the catalog expands fp4 weights on {1}; use int4-awq.",
        setting.format.name,
        card.name,
    )


def require_engine_there(card: Accelerator, engine: Engine, model: Model) -> None:
    """Raise PlannerError where ``engine`` does not run on the accelerator; it names those that do, and run such a model."""

    def able() -> Iterator[str]:
        return (name for name in engine_names() if runs_model(load_engine(name), model))

    if model.cross_attention and not any(runs_on(card, load_engine(name)) for name in able()):
        raise PlannerError(
            "{0} is an encoder-decoder, which no engine of the catalog runs on {1}'s {2}; choose another GPU.",
            model.name,
            card.vendor,
            card.name,
        )
    if model.reads_images and not any(runs_on(card, load_engine(name)) for name in able()):
        raise PlannerError(
            "{0} attends to images in layers of their own, which no engine of the catalog runs on {1}'s {2}; choose another GPU.",
            model.name,
            card.vendor,
            card.name,
        )
    require_vendor(card, engine, "serving.engine", load_engine, able())


def _require_model(setting: Setting, draft: Setting | None) -> None:
    m, s = setting.model, setting.serving
    if m.embeds and not s.embeds:
        raise PlannerError("serving.embeds = false: {0} makes vectors, no text; leave it out.", m.name)
    if m.architecture == "encoder":
        _require_vectors(setting)
    check_images(m, "serving", s.images, s.image_patches, "prompt", mean_tokens(s.prompt))
    require_runs_model(m, setting.engine)
    if m.cross_attention:
        _require_encoder(setting)
    if m.memory_length or m.relative_attention:
        raise PlannerError("model.name = {0!r}: segment memory (Transformer-XL) cannot be served here.", m.name)
    if not m.num_experts:
        for field, least in (("ep", 1), ("expert_offload", 0), ("expert_load", 1), ("expert_zipf", 0), ("redundant_experts", 0)):
            if (getattr(s, field) or 0) > least:
                raise PlannerError(
                    "serving.{0} = {1:g}: {2} is dense, it has no experts; leave it out.", field, getattr(s, field), m.name
                )
    _require_parts(setting)
    if draft is not None and draft.model.vocab_size != m.vocab_size:
        raise PlannerError(
            "serving.speculative.draft = {0!r}: its vocabulary has {1:,} words, that of {2} {3:,}; a draft model must "
            "share the vocabulary.",
            draft.model.name,
            draft.model.vocab_size,
            m.name,
            m.vocab_size,
        )


def _require_vectors(setting: Setting) -> None:
    """What an encoder is served with: prompts that its positions hold, each read at once, on one stage, without a cache."""
    m, s = setting.model, setting.serving
    if s.pp > 1:
        raise PlannerError(
            "serving.pp = {0}: {1} is an encoder, which is served on one stage; use pp = 1, and dp for more GPUs.", s.pp, m.name
        )
    given = {
        "chunked_prefill_tokens": s.chunked_prefill_tokens is not None,
        "prefix_cache_hit_rate": s.prefix_cache_hit_rate > 0,
        "kv_dtype": s.kv_dtype != "auto",
        "block_size": s.block_size is not None,
    }
    for field, is_so in given.items():
        if is_so:
            raise PlannerError(
                "serving.{0} = {1!r}: {2} is an encoder, which reads a prompt at once and keeps no cache; leave it out.",
                field,
                getattr(s, field),
                m.name,
            )
    require_positions(m, longest_tokens(s.prompt))


def require_positions(m: Model, longest: float) -> None:
    """PlannerError for a text longer than the learned positions of an encoder."""
    if m.position_embedding == "learned" and longest > m.positions:
        raise PlannerError(
            "serving.{0} reaches {1:,.0f} tokens: {2} has positions for {3:,}; use at most that.",
            "prompt",
            longest,
            m.name,
            m.positions,
        )


def require_runs_model(model: Model, engine: Engine) -> None:
    """Raise PlannerError where ``engine`` does not run what ``model`` has: cross-attention, vectors, images."""
    if runs_model(engine, model):
        return
    if model.embeds and "embeddings" in engine.features:
        why = Message("has layers of its own kind (DeBERTa, ALBERT), which it does not run")
    elif model.embeds:
        why = Message("makes vectors, which it does not")
    elif any(model.of(kind).mixes_time for kind in model.layer_kinds):
        why = Message("has layers of its own kind (RWKV), which it does not run")
    elif model.reads_images:
        why = Message("has layers that attend to images, which {0} does not run", engine.name)
    else:
        why = Message("is an encoder-decoder, which it does not run")
    others = ", ".join(name for name in engine_names() if runs_model(load_engine(name), model))
    raise PlannerError("serving.engine = {0!r}: {1} {2}; engines that do: {3}.", engine.name, model.name, why, others)


def _require_encoder(setting: Setting) -> None:
    """What an encoder-decoder is served with: an engine that runs its encoder, over each prompt as a whole, on one stage."""
    m, s = setting.model, setting.serving
    given = {
        "pp": s.pp > 1,
        "chunked_prefill_tokens": s.chunked_prefill_tokens is not None,
        "prefix_cache_hit_rate": s.prefix_cache_hit_rate > 0,
        "speculative": s.speculative is not None,
        "prefill_pool": s.prefill_pool is not None,
    }
    for field, is_so in given.items():
        if is_so:
            raise PlannerError(
                "serving.{0}: {1} is an encoder-decoder, whose encoder reads the whole prompt at once; leave it out.",
                field,
                m.name,
            )
    for field, rows in (("prompt", m.source_positions or m.positions), ("output", m.positions)):
        longest = longest_tokens(getattr(s, field))
        if m.position_embedding == "learned" and longest > rows:
            raise PlannerError(
                "serving.{0} reaches {1:,.0f} tokens: {2} has positions for {3:,}; use at most that.",
                field,
                longest,
                m.name,
                rows,
            )


def _require_parts(setting: Setting) -> None:
    """``keep_16_bit`` names parts that the model has."""
    m = setting.model
    layers = [t for kind in sorted(set(m.layer_kinds)) for t in layer_parameters(m, kind)]
    have = {part_of(t.name) for t in (*layers, *embedding_parameters(m), *head_parameters(m))} - {None}
    for part in setting.serving.keep_16_bit or ():
        if part not in have:
            why = (
                "its output layer is the embedding"
                if part == "head" and m.tied_embeddings
                else Message("{0} has no such part", m.name)
            )
            raise PlannerError("serving.keep_16_bit = {0!r}: {1}; it has {2}.", part, why, ", ".join(sorted(map(str, have))))


def _require_features(setting: Setting) -> None:
    s, engine = setting.serving, setting.engine
    wanted = {
        "tp": s.tp > 1,
        "pp": s.pp > 1,
        "ep": s.ep > 1,
        "continuous_batching": s.requests_per_s is not None or s.clients is not None,
        "chunked_prefill": s.chunked_prefill_tokens is not None,
        "prefix_cache": s.prefix_cache_hit_rate > 0,
        "speculative": s.speculative is not None,
        "kv_fp8": s.kv_dtype == "fp8",
        "kv_int8": s.kv_dtype == "int8",
        "paged_cache": s.block_size is not None,
        "expert_offload": s.expert_offload > 0,
        "redundant_experts": s.redundant_experts > 0,
        "prefill_wait": s.prefill_wait_steps > 0,
        "disaggregated": s.prefill_pool is not None,
        "pass_tokens": s.pass_tokens is not None,
        "embeddings": s.embeds,
    }
    fields = {
        "continuous_batching": "requests_per_s" if s.clients is None else "clients",
        "chunked_prefill": "chunked_prefill_tokens",
        "prefix_cache": "prefix_cache_hit_rate",
        "kv_fp8": "kv_dtype",
        "kv_int8": "kv_dtype",
        "paged_cache": "block_size",
        "prefill_wait": "prefill_wait_steps",
        "disaggregated": "prefill_pool",
        "embeddings": "embeds",
    }
    for feature, want in wanted.items():
        needs = "continuous_batching" if feature == "pass_tokens" else feature
        if want and needs not in engine.features:
            field = fields.get(feature, feature)
            others = [name for name in names_with(needs) if runs_model(load_engine(name), setting.model)]
            if not others:
                raise PlannerError(
                    "serving.{0} = {1!r}: {2} has no {3}, nor has any engine of the catalog that runs {4}; leave it out.",
                    field,
                    getattr(s, field),
                    s.engine,
                    needs.replace("_", " "),
                    setting.model.name,
                )
            raise PlannerError(
                "serving.{0} = {1!r}: {2} has no {3}; engines that have: {4}.",
                field,
                getattr(s, field),
                s.engine,
                needs.replace("_", " "),
                ", ".join(others),
            )
    if s.captured_batches and not engine.launch_s_per_layer:
        able_to = ", ".join(name for name in engine_names() if load_engine(name).launch_s_per_layer)
        raise PlannerError(
            "serving.captured_batches = {0}: what {1} takes to launch other batches is not known; leave it out, or use {2}.",
            list(s.captured_batches),
            engine.name,
            able_to,
        )
    if not s.streamed and not engine.answers_on_one_rank:
        raise PlannerError(
            "serving.streamed = false: {0} takes the same time either way; leave it out. It counts for {1}.",
            engine.name,
            ", ".join(name for name in engine_names() if load_engine(name).answers_on_one_rank),
        )
    if (s.max_batch is not None and s.max_batch > 1 and engine.max_batch == 1) or (s.batch > 1 and engine.max_batch == 1):
        raise PlannerError("serving.batch = {0}: {1} decodes one sequence at a time; use another engine.", s.batch, engine.name)


def request_tokens(s: Serving, of: Callable[[Lengths], float]) -> float:
    """Tokens of a request, prompt and answer: ``of`` the lengths of either, mean or longest. A vector takes none."""
    return of(s.prompt) + (0.0 if s.embeds else of(s.output))


def _require_context(s: Serving) -> None:
    """Raise PlannerError where the server refuses the mean request; that it refuses the longest alone is a warning."""
    mean = request_tokens(s, mean_tokens)
    if s.max_context is not None and mean > s.max_context:
        raise PlannerError(
            "serving.max_context = {0}: prompt and output have {1:,.0f} tokens, which the server refuses; raise it, or ask about "
            "shorter ones.",
            s.max_context,
            mean,
        )


NEEDS = {
    "deepep": Message("Hopper or Blackwell with NVLink in a server and RDMA between servers"),
    "one-sided": Message("Hopper or Blackwell with NVLink between all of them"),
}
"""What the fabric must have for a dispatcher (``Setting.dispatchers``)."""


def _require_dispatcher(setting: Setting) -> None:
    """Raise PlannerError for a way of tokens to their experts that nothing takes."""
    s, engine = setting.serving, setting.engine
    if s.dispatcher is None:
        return
    pool = s.prefill_pool
    if s.attention_groups == 1 and (pool is None or pool.ep <= pool.tp):
        raise PlannerError(
            "serving.dispatcher = {0!r}: with ep = {1} and tp = {2} all GPUs have all tokens, and none is sent; leave it out, or "
            "use ep above tp.",
            s.dispatcher,
            s.ep,
            s.tp,
        )
    if s.dispatcher not in ("gather", engine.dispatcher):
        raise PlannerError(
            "serving.dispatcher = {0!r}: {1} has no such exchange; use {2}.",
            s.dispatcher,
            engine.name,
            ", ".join(dict.fromkeys(("gather", engine.dispatcher))),
        )
    if s.attention_groups > 1 and s.dispatcher not in setting.dispatchers:  # the prefill pool is asked by itself
        raise PlannerError(
            "serving.dispatcher = {0!r}: needs {1}, which {2} GPUs of {3} have not; use gather.",
            s.dispatcher,
            NEEDS[s.dispatcher],
            s.ep,
            setting.cluster.name,
        )


def _require_cut(setting: Setting) -> None:
    m, s, cluster = setting.model, setting.serving, setting.cluster
    if m.num_heads % s.tp:
        right = [d for d in (1, 2, 4, 8, 16, 32) if m.num_heads % d == 0]
        raise PlannerError("serving.tp = {0}: does not divide {1}'s {2} heads; use one of {3}.", s.tp, m.name, m.num_heads, right)
    if state_heads(m) % s.tp:
        right = [d for d in (1, 2, 4, 8, 16, 32) if state_heads(m) % d == 0]
        raise PlannerError(
            "serving.tp = {0}: does not divide the heads of {1}'s state, {2} of values and {3} of keys; use one of {4}.",
            s.tp,
            m.name,
            m.recurrent_value_heads,
            m.recurrent_key_heads,
            right,
        )
    if s.pp > m.num_layers:
        raise PlannerError("serving.pp = {0}: {1} has only {2} layers; use at most that many stages.", s.pp, m.name, m.num_layers)
    if s.redundant_experts and setting.stored_experts % s.ep:
        first = -m.num_experts % s.ep or s.ep
        raise PlannerError(
            "serving.redundant_experts = {0}: {1}'s {2} experts and these copies do not fill {3} ranks evenly; use {4}, {5} and "
            "so on.",
            s.redundant_experts,
            m.name,
            m.num_experts,
            s.ep,
            first,
            first + s.ep,
        )
    if s.ep > 1 and setting.stored_experts % s.ep:
        if "redundant_experts" in setting.engine.features:
            raise PlannerError(
                "serving.ep = {0}: does not divide {1}'s {2} experts; use a divisor of it, or redundant_experts = {3}.",
                s.ep,
                m.name,
                m.num_experts,
                -m.num_experts % s.ep,
            )
        raise PlannerError(
            "serving.ep = {0}: does not divide {1}'s {2} experts; use a divisor of it.", s.ep, m.name, m.num_experts
        )
    if s.num_gpus != cluster.num_gpus:
        raise PlannerError(
            "serving: tp x pp x dp (with ep) takes {0} GPUs, cluster.num_gpus is {1}; set cluster.num_gpus = {2}, "
            "or change tp, pp, ep or dp.",
            s.num_gpus,
            cluster.num_gpus,
            s.num_gpus,
        )


SLOW_EXPANSION = 0.9
"""Rate of expanded over 16-bit products below which an answer says so."""


def context_limit(m: Model) -> tuple[str, int | None]:
    """(field, tokens) of the model's own longest context: the fewer of its positions and what it was trained on, or None."""
    known = [(name, most) for name, most in (("max_positions", m.positions), ("context_length", m.context_length)) if most]
    return min(known, key=lambda pair: pair[1], default=("context_length", None))


def usual_passage(model: Model, context: int | None = None) -> int:
    """Tokens of a prompt of which a vector is made where nothing says them: a passage that positions and context hold."""
    return min([PASSAGE, *(limit for limit in (context, context_limit(model)[1]) if limit)])


def bound_context(setting: Setting, fits: int) -> tuple[int, str]:
    """(largest context in tokens, what bounds it): what ``fits`` in memory, the model's own limit, or the server's."""
    field, limit = context_limit(setting.model)
    if limit is not None and setting.model.cross_attention:  # the source's positions beside the decoder's
        limit += (setting.model.source_positions or limit) if field == "max_positions" else limit
    bounds = [(fits, "memory")]
    bounds += [] if limit is None else [(limit, f"model.{field}")]
    bounds += [] if setting.serving.max_context is None else [(setting.serving.max_context, "serving.max_context")]
    least = min(tokens for tokens, _ in bounds)
    return next(bound for bound in reversed(bounds) if bound[0] == least)


def warnings_of(setting: Setting) -> tuple[str, ...]:
    """Doubts worth saying, each naming its field."""
    m, s = setting.model, setting.serving
    found = []
    context = request_tokens(s, longest_tokens)
    if s.max_context is not None and context > s.max_context:
        found.append(
            Message(
                "serving.max_context = {0}: the longest requests have {1:,.0f} tokens; the server refuses those, and all are "
                "counted",
                s.max_context,
                context,
            )
        )
    if m.cross_attention:
        found.append(
            Message(
                "{0} is an encoder-decoder: its encoder reads the prompt, its decoder makes the output; no measured run of one "
                "stands behind the times",
                m.name,
            )
        )
        return tuple(found)
    if m.architecture == "encoder":
        found.append(Message("{0} is an encoder: no measured run of one stands behind the times", m.name))
    field, limit = context_limit(m)
    if limit and context > limit:
        found.append(
            Message(
                "serving.prompt + serving.output reach {0:,.0f} tokens, beyond model.{1} = {2} of {3}: quality is not "
                "to be expected there without longer positions",
                context,
                field,
                limit,
                m.name,
            )
        )
    if not limit:
        found.append(
            Message(
                "model.context_length of {0} is not known: whether {1:,.0f} tokens are allowed was not checked", m.name, context
            )
        )
    if s.tp > m.num_kv_heads and m.attention != "mla":
        found.append(
            Message(
                "serving.tp = {0} exceeds the {1} key-value heads of {2}: each is kept {3} times",
                s.tp,
                m.num_kv_heads,
                m.name,
                s.tp // m.num_kv_heads,
            )
        )
    fmt, card = setting.format, setting.cluster.accelerator
    expanded = fmt.quantized and fmt.compute is None and not setting.engine.expands_first
    if expanded and fmt.name != "mxfp4" and "fp8" in card.peak_flops_per_s and expanding_rate(setting) < SLOW_EXPANSION:
        found.append(
            Message(
                "serving.weights = {0!r} is expanded to 16 bit on the way and multiplied at {1:.0%} of the 16-bit rate on {2}: "
                "prompts and large batches take longer than in 16 bit; fp8 is multiplied as it is",
                fmt.name,
                expanding_rate(setting),
                card.name,
            )
        )
    if s.batch > setting.places:
        found.append(
            Message("serving.batch = {0} exceeds {1}'s max_batch = {2}", s.batch, setting.engine.name, setting.engine.max_batch)
        )
    return tuple(found)
