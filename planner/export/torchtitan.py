"""Launch arguments of torchtitan.

Names: torchtitan 0.3.0, torchtitan/config/configs.py, config/manager.py and distributed/activation_checkpoint.py.
"""

from __future__ import annotations

from typing import Any

from planner.common.message import Message
from planner.export.common import degrees, num_steps, options, refuse, script, torchrun
from planner.training.plan import Plan

CHECKED = "torchtitan 0.3"
MODELS = {
    "llama-3-8b": ("llama3", "llama3_8b"), "llama-3.1-8b": ("llama3", "llama3_8b"), "llama-3-70b": ("llama3", "llama3_70b"),
    "llama-3.1-70b": ("llama3", "llama3_70b"), "llama-3.1-405b": ("llama3", "llama3_405b"),
    "qwen3-30b-a3b": ("qwen3", "qwen3_30b_a3b"), "deepseek-v3": ("deepseek_v3", "deepseek_v3_671b"),
    "gpt-oss-20b": ("gpt_oss", "gpt_oss_20b"), "gpt-oss-120b": ("gpt_oss", "gpt_oss_120b"),
}  # fmt: skip
"""Catalog models to torchtitan's --module and --config (functions of torchtitan/models/*/config_registry.py)."""


def torchtitan_files(plan: Plan) -> dict[str, str]:
    """``launch.sh``: a registered configuration with batch, degrees, sharding and checkpointing overridden."""
    if plan.model.name not in MODELS:
        raise refuse(
            "torchtitan", Message("{0} has no registered configuration", plan.model.name), Message("use {0}", ", ".join(MODELS))
        )
    module, config = MODELS[plan.model.name]
    policy = {"full": "activation_checkpoint:full", "none": "activation_checkpoint:none"}[_recompute(plan)]
    words = [
        *torchrun(plan),
        "-m torchtitan.train",
        f"--module {module}",
        f"--config {config}",
        *options(overrides(plan)),
        policy,
    ]
    return {"launch.sh": script(plan, CHECKED, words).replace(f'{policy} \\\n  "$@"', f'"$@" \\\n  {policy}')}


def _recompute(plan: Plan) -> str:
    if plan.layout.recompute == "selective":
        raise refuse(
            "torchtitan",
            "layout.recompute = 'selective' is the attention core; torchtitan's selective policy keeps others",
            "use none or full",
        )
    return plan.layout.recompute


def overrides(plan: Plan) -> dict[str, Any]:
    """Options and values; PlannerError for what torchtitan's configuration does not hold."""
    x, job, n = plan.layout, plan.job, degrees(plan)
    for field, only in (("etp", 1), ("offload_activations", False)):
        if getattr(x, field) != only:
            raise refuse(
                "torchtitan",
                Message("layout.{0} = {1!r} cannot be expressed", field, getattr(x, field)),
                Message("use {0!r}", only),
            )
    if job.precision not in ("bf16", "fp32", "bf16-pure"):
        raise refuse(
            "torchtitan",
            Message("job.precision = {0!r} is a model converter there", job.precision),
            "use bf16, bf16-pure or fp32",
        )
    if job.gradient_dtype == "same":
        raise refuse("torchtitan", "job.gradient_dtype = 'same' cannot be expressed: it reduces in fp32", "leave it out")
    if job.optimizer != "adamw":
        raise refuse("torchtitan", Message("job.optimizer = {0!r} is not exported", job.optimizer), "use adamw")
    shard = n["shard"] // x.cp  # context-parallel ranks shard with the data-parallel ones
    if n["shard"] % x.cp:
        raise refuse(
            "torchtitan",
            Message("layout.shard_group_size = {0} must hold all cp = {1} ranks", n["shard"], x.cp),
            "use a multiple",
        )
    local = job.global_batch_size // n["dp"] if x.pp > 1 else x.micro_batch_size
    return {
        "training.seq_len": job.seq_len,
        "training.local_batch_size": local,
        "training.global_batch_size": job.global_batch_size,
        "training.steps": num_steps(plan),
        "training.dtype": "bfloat16" if job.precision == "bf16-pure" else "float32",
        "training.mixed_precision_param": "float32" if job.precision == "fp32" else "bfloat16",
        "training.enable_cpu_offload": x.offload_optimizer,
        "compile.enable": plan.framework.compile,
        "parallelism.data_parallel_replicate_degree": n["replicate"],
        "parallelism.data_parallel_shard_degree": shard,
        "parallelism.fsdp_reshard_after_forward": "always" if x.zero == 3 else "never",
        "parallelism.tensor_parallel_degree": x.tp,
        "parallelism.enable_sequence_parallel": x.sequence_parallel and x.tp > 1,
        "parallelism.no_enable_sequence_parallel": not x.sequence_parallel and x.tp > 1,
        "parallelism.context_parallel_degree": x.cp,
        "parallelism.expert_parallel_degree": x.ep if plan.model.num_experts else None,
        **_pipeline(plan),
    }


def _pipeline(plan: Plan) -> dict[str, Any]:
    x = plan.layout
    if x.pp == 1:
        return {"parallelism.pipeline_parallel_degree": 1}
    chunks, layers = x.pp * x.vpp, plan.model.num_layers
    light = next((n for n in (0, 1, 2) if (layers + n) % chunks == 0), None)
    if light is None:
        raise refuse(
            "torchtitan", Message("{0} layers do not fill {1} chunks", layers, chunks), "use pp and vpp that divide them"
        )
    return {
        "parallelism.pipeline_parallel_degree": x.pp,
        "parallelism.pipeline_parallel_schedule": "Interleaved1F1B" if x.vpp > 1 else "1F1B",
        "parallelism.pipeline_parallel_microbatch_size": x.micro_batch_size,
        "parallelism.pipeline_parallel_layers_per_stage": (layers + light) // chunks,
        "parallelism.pipeline_parallel_first_stage_less_layers": min(light, 1),
        "parallelism.pipeline_parallel_last_stage_less_layers": max(light - 1, 0),
    }
