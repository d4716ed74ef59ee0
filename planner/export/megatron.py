"""Launch arguments of Megatron-LM's pretrain_gpt.py.

Option names: NVIDIA/Megatron-LM, megatron/training/arguments.py at commit 000c4ac24f61 (2025, Megatron-Core 0.15).
"""

from __future__ import annotations

from typing import Any

from planner.common.message import Message
from planner.export.common import chunk_sizes, degrees, num_steps, options, refuse, script, torchrun
from planner.model.architecture import Model
from planner.training.plan import Plan
from planner.workload.framework import modules_of

CHECKED = "Megatron-LM with Megatron-Core 0.15"
OPTIMIZERS = {"adamw": "adam", "sgd": "sgd", "sgd-momentum": "sgd", "muon": "muon"}
SGD_MOMENTUM = {"sgd": 0.0, "sgd-momentum": 0.9}
"""0.9 is its own default (megatron/training/arguments.py)."""


def megatron_files(plan: Plan) -> dict[str, str]:
    """``launch.sh``: model, batch, precision, parallel degrees, sharding and recomputation; data and tokenizer are the user's."""
    arguments = {**model_arguments(plan), **training_arguments(plan), **parallel_arguments(plan), **memory_arguments(plan)}
    return {"launch.sh": script(plan, CHECKED, [*torchrun(plan), "pretrain_gpt.py", *options(arguments)])}


def model_arguments(plan: Plan) -> dict[str, Any]:
    """The architecture; PlannerError for what pretrain_gpt.py has no option for."""
    m = plan.model
    _check_model(plan)
    grouped = m.attention in ("gqa", "mqa") or m.num_kv_heads < m.num_heads
    attention: dict[str, Any] = (
        {
            "multi-latent-attention": True,
            "q-lora-rank": m.q_lora_rank,
            "kv-lora-rank": m.kv_lora_rank,
            "qk-head-dim": m.qk_nope_head_dim,
            "qk-pos-emb-head-dim": m.qk_rope_head_dim,
            "v-head-dim": m.v_head_dim,
        }
        if m.attention == "mla"
        else {
            "kv-channels": m.head_dim,
            "group-query-attention": grouped,
            "num-query-groups": m.num_kv_heads if grouped else None,
        }
    )
    return {
        "num-layers": m.num_layers,
        "hidden-size": m.hidden_size,
        "ffn-hidden-size": m.ffn_hidden_size,
        "num-attention-heads": m.num_heads,
        **attention,
        "swiglu": m.gated_ffn,
        **_expert_arguments(plan),
        "normalization": "RMSNorm" if m.norm == "rmsnorm" else "LayerNorm",
        "position-embedding-type": {"rotary": "rope", "learned": "learned_absolute", "none": "none"}[m.position_embedding],
        "max-position-embeddings": m.max_positions or plan.job.seq_len,
        "disable-bias-linear": not m.ffn_bias,
        "add-qkv-bias": m.qkv_bias and not m.ffn_bias,
        "qk-layernorm": m.qk_norm == "head",
        "untie-embeddings-and-output-weights": not m.tied_embeddings,
        "hidden-dropout": m.hidden_dropout,
        "attention-dropout": m.attention_dropout,
        "transformer-impl": "transformer_engine",
    }


PLAIN = (
    "mixer",
    "attention_beside_mixer",
    "relative_attention",
    "disentangled_positions",
    "memory_length",
    "attention_gate",
    "attention_output_norm",
    "qk_norm_bias",
    "keys_are_values",
    "shared_kv",
    "index_top_k",
    "feed_forward",
    "expert_latent_size",
    "num_zero_experts",
    "norm_weight",
    "final_norm",
    "per_layer_embedding_size",
    "altup_streams",
    "laurel_rank",
    "layer_vectors",
    "model_vectors",
    "type_vocab_size",
    "head_bias",
    "num_labels",
    "pooler",
)
"""Fields of a model that pretrain_gpt.py has no option for: only their defaults are written."""


def _check_model(plan: Plan) -> None:
    m = plan.model
    wrong = {
        "architecture = 'encoder' (pretrain_gpt.py trains decoders)": m.architecture != "decoder",
        "position_embedding = 'alibi'": m.position_embedding == "alibi",
        "q_lora_rank without attention = 'mla'": bool(m.q_lora_rank) and m.attention != "mla",
        "parallel_attention": m.parallel_attention,
        "sliding_window": m.sliding_window is not None,
        "attention_sinks": m.attention_sinks,
        "qk_norm = 'full'": m.qk_norm == "full",
        Message("norms_per_layer = {0}", m.norms_per_layer): m.norms_per_layer != 2,
        "norm_placement = 'after'": m.norm_placement == "after",
        "embedding_norm": m.embedding_norm,
        "embedding_projection_size": m.embedding_projection_size is not None,
        "router_bias": m.router_bias,
        "shared_expert_gate": m.shared_expert_gate,
        Message("head = {0!r}", m.head): m.head != "language_model",
        Message("gated_ffn with activation = {0!r}", m.activation): m.gated_ffn and m.activation != "silu",
        Message("activation = {0!r}", m.activation): not m.gated_ffn and m.activation not in ("gelu", "gelu_tanh"),
        "layers of several kinds": bool(m.variants),
        "encoders of images or sound": bool(m.towers),
        "biases on some linear layers only": m.attention_output_bias != m.ffn_bias,
    }
    for name in PLAIN:
        value = getattr(m, name)
        plain = value == Model.model_fields[name].default
        wrong[f"{name} = {value!r}"] = not plain
    for what, is_so in wrong.items():
        if is_so:
            raise refuse(
                "megatron",
                Message("{0} has {1}, which the command line of Megatron-LM does not set", m.name, what),
                "the recipe of --to nemo holds the model itself, or write the spec",
            )


def _expert_arguments(plan: Plan) -> dict[str, Any]:
    m = plan.model
    if not m.num_experts:
        return {}
    pattern = "".join("1" if kind.moe else "0" for kind in m.layer_kinds)
    dense = pattern.find("1")
    mixed = f"'([0]*{dense}+[1]*{len(pattern) - dense})'" if pattern == "0" * dense + "1" * (len(pattern) - dense) else None
    if "0" in pattern and mixed is None:
        mixed = f"'([{','.join(pattern)}])'"
    shared = m.num_shared_experts * int(m.shared_expert_ffn_hidden_size or 0)
    return {
        "num-experts": m.num_experts,
        "moe-router-topk": m.top_k,
        "moe-ffn-hidden-size": m.expert_ffn_hidden_size,
        "moe-shared-expert-intermediate-size": shared or None,
        "moe-layer-freq": mixed if "0" in pattern else None,
        "moe-grouped-gemm": plan.framework.grouped_experts,
        **dispatcher_arguments(plan.framework.dispatcher),
        "moe-router-fusion": plan.framework.fused_router or None,
        "moe-permute-fusion": plan.framework.fused_permutation or None,
        "overlap-moe-expert-parallel-comm": plan.framework.overlaps_experts or None,
        "moe-expert-capacity-factor": m.capacity_factor,
        "moe-pad-expert-input-to-capacity": m.capacity_factor is not None and plan.framework.pads_to_capacity,
    }


def dispatcher_arguments(name: str) -> dict[str, str]:
    """How tokens travel; DeepEP and HybridEP take the router's probabilities in fp32 (token_dispatcher.py)."""
    if name in ("deepep", "hybridep"):
        return {"moe-token-dispatcher-type": "flex", "moe-flex-dispatcher-backend": name, "moe-router-dtype": "fp32"}
    return {"moe-token-dispatcher-type": name}


def training_arguments(plan: Plan) -> dict[str, Any]:
    """Batch, length and precision."""
    job = plan.job
    if job.optimizer not in OPTIMIZERS:
        raise refuse(
            "megatron", Message("job.optimizer = {0!r} is not offered", job.optimizer), Message("use {0}", ", ".join(OPTIMIZERS))
        )
    if job.precision in ("tf32", "bf16-pure"):
        raise refuse("megatron", Message("job.precision = {0!r} has no option", job.precision), "use fp32, fp16, bf16 or fp8")
    half = job.precision in ("bf16", "fp8", "nvfp4")
    gradient = job.gradient_dtype or plan.framework.gradient_dtype
    return {
        "seq-length": job.seq_len,
        "micro-batch-size": plan.layout.micro_batch_size,
        "global-batch-size": job.global_batch_size,
        "mtp-num-layers": job.multi_token_prediction or None,
        "train-iters": num_steps(plan),
        "optimizer": OPTIMIZERS[job.optimizer],
        "sgd-momentum": SGD_MOMENTUM.get(job.optimizer),
        "bf16": half,
        "fp16": job.precision == "fp16",
        "fp8-format": "hybrid" if job.precision == "fp8" else None,
        "fp8-recipe": (job.fp8_recipe or "tensorwise") if job.precision == "fp8" else None,
        "fp8-param-gather": job.precision == "fp8" and plan.framework.fp8_parameters,
        "fp4-format": "e2m1" if job.precision == "nvfp4" else None,
        "accumulate-allreduce-grads-in-fp32": gradient == "fp32" and job.precision != "fp32",
        "grad-reduce-in-bf16": gradient == "same" and half,
        "cross-entropy-loss-fusion": plan.framework.fused_cross_entropy,
        "use-flash-attn": plan.framework.attention_kernel == "flash",
    }


def parallel_arguments(plan: Plan) -> dict[str, Any]:
    """Degrees, sharding and overlap."""
    x, f, n = plan.layout, plan.framework, degrees(plan)
    if x.schedule == "zero-bubble":
        raise refuse("megatron", "layout.schedule = 'zero-bubble' is not in Megatron-LM's schedules", "use 1f1b or interleaved")
    if x.zero > 1:
        raise refuse(
            "megatron", Message("layout.zero = {0} is not exported", x.zero), "use zero = 0 or 1, or export FSDP to torchtitan"
        )
    sizes = chunk_sizes(plan)
    even = len(set(sizes)) == 1
    expert = plan.model.num_experts > 0
    return {
        "tensor-model-parallel-size": x.tp,
        "sequence-parallel": x.sequence_parallel,
        "pipeline-model-parallel-size": x.pp,
        "num-virtual-stages-per-pipeline-rank": x.vpp if even and x.vpp > 1 else None,
        "pipeline-model-parallel-layout": None if even else f"'{pipeline_layout(sizes)}'",
        "context-parallel-size": x.cp,
        "expert-model-parallel-size": x.ep if expert else None,
        "expert-tensor-parallel-size": x.etp if expert else None,
        "use-distributed-optimizer": x.zero == 1,
        "num-distributed-optimizer-instances": n["replicate"] if x.zero == 1 and n["replicate"] > 1 else None,
        "overlap-grad-reduce": f.overlap_gradient_reduction > 0 and n["ranks"] > 1,
        "overlap-param-gather": f.overlap_parameter_gather > 0 and x.zero == 1,
        "tp-comm-overlap": f.overlap_tensor_parallel > 0 and x.tp > 1,
        "no-overlap-p2p-communication": f.overlap_pipeline == 0 and x.pp > 1,
    }


def pipeline_layout(sizes: list[int]) -> str:
    """Chunks of layers as --pipeline-model-parallel-layout writes them: E embedding, t layer, L loss, | between stages.

    >>> pipeline_layout([3, 4, 4, 3])
    'Et*3|t*4|t*4|t*3L'
    """
    return "E" + "|".join(f"t*{size}" for size in sizes) + "L"


def memory_arguments(plan: Plan) -> dict[str, Any]:
    """Recomputation and offload."""
    x = plan.layout
    full = x.recompute == "full"
    return {
        "recompute-granularity": None if x.recompute == "none" else x.recompute,
        "recompute-modules": " ".join(sorted(modules_of(plan.framework))) if x.recompute == "selective" else None,
        "recompute-method": "uniform" if full else None,
        "recompute-num-layers": 1 if full else None,
        "optimizer-cpu-offload": x.offload_optimizer,
        "use-precision-aware-optimizer": x.offload_optimizer,
        "cpu-offloading-num-layers": plan.model.num_layers - 1 if x.offload_activations else None,
    }
