"""What cannot be is an error that names the field; what is doubtful is a warning."""

from __future__ import annotations

from planner.common.errors import PlannerError
from planner.hardware.cluster import require_vendor
from planner.model.architecture import Model
from planner.model.parameters import embedding_parameters, head_parameters, layer_parameters
from planner.serving.engine import engine_names, load_engine
from planner.serving.requests import longest_tokens
from planner.serving.setting import Setting
from planner.serving.weight_formats import part_of, require_hardware


def require_possible(setting: Setting, draft: Setting | None = None) -> None:
    """Raise PlannerError for a deployment that no memory would make possible."""
    require_vendor(setting.cluster.accelerator, setting.engine, "serving.engine", load_engine, engine_names())
    _require_model(setting, draft)
    _require_features(setting)
    _require_cut(setting)
    require_hardware(setting.format, setting.cluster.accelerator)
    card = setting.cluster.accelerator
    if setting.compute_dtype not in card.peak_flops_per_s:
        have = ", ".join(card.peak_flops_per_s)
        field = "weights" if setting.serving.weights == setting.compute_dtype else "compute_dtype"
        raise PlannerError(
            f"serving.{field} = {setting.compute_dtype!r}: {card.name} has no {setting.compute_dtype} arithmetic "
            f"({card.architecture}); it has {have}."
        )


def _require_model(setting: Setting, draft: Setting | None) -> None:
    m, s = setting.model, setting.serving
    if m.architecture == "encoder":
        raise PlannerError(f"model.name = {m.name!r}: an encoder generates no tokens; serve a decoder.")
    if m.memory_length or m.relative_attention:
        raise PlannerError(f"model.name = {m.name!r}: segment memory (Transformer-XL) cannot be served here.")
    if not m.num_experts:
        for field, least in (("ep", 1), ("expert_offload", 0), ("expert_load", 1), ("expert_zipf", 0)):
            if getattr(s, field) > least:
                raise PlannerError(
                    f"serving.{field} = {getattr(s, field):g}: {m.name} is dense, it has no experts; leave it out."
                )
    _require_parts(setting)
    if draft is not None and draft.model.vocab_size != m.vocab_size:
        raise PlannerError(
            f"serving.speculative.draft = {draft.model.name!r}: its vocabulary has {draft.model.vocab_size} words, that of "
            f"{m.name} {m.vocab_size}; a draft model must share the vocabulary."
        )


def _require_parts(setting: Setting) -> None:
    """``keep_16_bit`` names parts that the model has."""
    m = setting.model
    layers = [t for kind in set(m.layer_kinds) for t in layer_parameters(m, kind)]
    have = {part_of(t.name) for t in (*layers, *embedding_parameters(m), *head_parameters(m))} - {None}
    for part in setting.serving.keep_16_bit or ():
        if part not in have:
            why = "its output layer is the embedding" if part == "head" and m.tied_embeddings else f"{m.name} has no such part"
            raise PlannerError(f"serving.keep_16_bit = {part!r}: {why}; it has {', '.join(sorted(map(str, have)))}.")


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
        "prefill_wait": s.prefill_wait_steps > 0,
        "disaggregated": s.prefill_pool is not None,
        "pass_tokens": s.pass_tokens is not None,
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
    }
    for feature, want in wanted.items():
        needs = "continuous_batching" if feature == "pass_tokens" else feature
        if want and needs not in engine.features:
            field = fields.get(feature, feature)
            others = [name for name in engine_names() if needs in load_engine(name).features]
            raise PlannerError(
                f"serving.{field} = {getattr(s, field)!r}: {engine.name} has no {needs.replace('_', ' ')}; "
                f"engines that have: {', '.join(others)}."
            )
    if (s.max_batch is not None and s.max_batch > 1 and engine.max_batch == 1) or (s.batch > 1 and engine.max_batch == 1):
        raise PlannerError(f"serving.batch = {s.batch}: {engine.name} decodes one sequence at a time; use another engine.")


def _require_cut(setting: Setting) -> None:
    m, s, cluster = setting.model, setting.serving, setting.cluster
    if m.num_heads % s.tp:
        right = [d for d in (1, 2, 4, 8, 16, 32) if m.num_heads % d == 0]
        raise PlannerError(f"serving.tp = {s.tp}: does not divide {m.name}'s {m.num_heads} heads; use one of {right}.")
    if s.pp > m.num_layers:
        raise PlannerError(f"serving.pp = {s.pp}: {m.name} has only {m.num_layers} layers; use at most that many stages.")
    if s.ep > 1 and m.num_experts % s.ep:
        raise PlannerError(f"serving.ep = {s.ep}: does not divide {m.name}'s {m.num_experts} experts; use a divisor of it.")
    if s.num_gpus != cluster.num_gpus:
        raise PlannerError(
            f"serving: tp x pp x dp (with ep) takes {s.num_gpus} GPUs, cluster.num_gpus is {cluster.num_gpus}; set "
            f"cluster.num_gpus = {s.num_gpus}, or change tp, pp, ep or dp."
        )


def context_limit(m: Model) -> tuple[str, int | None]:
    """(field, tokens) of the model's own longest context: the fewer of its positions and what it was trained on, or None."""
    known = [(name, int(getattr(m, name))) for name in ("max_positions", "context_length") if getattr(m, name)]
    return min(known, key=lambda pair: pair[1], default=("context_length", None))


def bound_context(setting: Setting, fits: int) -> tuple[int, str]:
    """(largest context in tokens, what bounds it): what ``fits`` in memory, or the model's own limit."""
    field, limit = context_limit(setting.model)
    return (fits, "memory") if limit is None or fits < limit else (limit, f"model.{field}")


def warnings_of(setting: Setting) -> tuple[str, ...]:
    """Doubts worth saying, each naming its field."""
    m, s = setting.model, setting.serving
    found = []
    context = longest_tokens(s.prompt) + longest_tokens(s.output)
    field, limit = context_limit(m)
    if limit and context > limit:
        found.append(
            f"serving.prompt + serving.output reach {context:.0f} tokens, beyond model.{field} = {limit} of {m.name}: "
            "quality is not to be expected there without longer positions"
        )
    if not limit:
        found.append(f"model.context_length of {m.name} is not known: whether {context:.0f} tokens are allowed was not checked")
    if s.tp > m.num_kv_heads and m.attention != "mla":
        found.append(
            f"serving.tp = {s.tp} exceeds the {m.num_kv_heads} key-value heads of {m.name}: each is kept "
            f"{s.tp // m.num_kv_heads} times"
        )
    if s.batch > (s.max_batch or setting.engine.max_batch) * s.attention_groups:
        found.append(f"serving.batch = {s.batch} exceeds {setting.engine.name}'s max_batch = {setting.engine.max_batch}")
    return tuple(found)
