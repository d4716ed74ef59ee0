"""Overrides for NVIDIA NeMo's Megatron-Bridge recipes.

Fields are those of Megatron-Core's ModelParallelConfig, TransformerConfig, DistributedDataParallelConfig and OptimizerConfig
(0.16), in the groups of Megatron-Bridge's ConfigContainer: docs.nvidia.com/nemo/megatron-bridge/latest, "Using Recipes" and
"Megatron-LM to Megatron Bridge Guide".
"""

from __future__ import annotations

import json
from typing import Any

from planner.common.message import Message
from planner.export.common import chunk_sizes, comment, degrees, num_steps, refuse
from planner.export.megatron import (
    OPTIMIZERS,
    SGD_MOMENTUM,
    dispatcher_arguments,
    memory_arguments,
    parallel_arguments,
    pipeline_layout,
    training_arguments,
)
from planner.training.plan import Plan
from planner.workload.framework import modules_of

CHECKED = "Megatron-Bridge 0.2 with Megatron-Core 0.16"
PRECISIONS = {
    "bf16": "bf16_mixed",
    "fp16": "fp16_mixed",
    "fp8": "bf16_with_fp8_current_scaling_mixed",
    "delayed": "bf16_with_fp8_delayed_scaling_mixed",
    "tensorwise": "bf16_with_fp8_current_scaling_mixed",
    "blockwise": "bf16_with_fp8_subchannel_scaling_mixed",
    "mxfp8": "bf16_with_mxfp8_mixed",
    "nvfp4": "bf16_with_nvfp4_mixed",
}
"""Recipes by the job's precision, FP8's by how it scales."""


def nemo_files(plan: Plan) -> dict[str, str]:
    """``overrides.yaml`` for a recipe of the same model: YAML whose values are JSON."""
    for check in (training_arguments, parallel_arguments, memory_arguments):  # what Megatron-LM cannot do, NeMo cannot either
        check(plan)
    if plan.job.precision not in PRECISIONS:
        raise refuse("nemo", Message("job.precision = {0!r} has no recipe", plan.job.precision), "use bf16, fp16, fp8 or nvfp4")
    text = comment(plan, CHECKED, ("cluster.num_gpus",)) + "# the model itself comes from the recipe that these fields override\n"
    for group, fields in config(plan).items():
        if not isinstance(fields, dict):
            text += f"{group}: {json.dumps(fields)}\n"
            continue
        text += f"{group}:\n" + "".join(f"  {name}: {json.dumps(value)}\n" for name, value in fields.items() if value is not None)
    return {"overrides.yaml": text}


def config(plan: Plan) -> dict[str, Any]:
    """Groups and fields; None = the recipe's own."""
    x, job, f, n = plan.layout, plan.job, plan.framework, degrees(plan)
    sizes = chunk_sizes(plan)
    even, expert = len(set(sizes)) == 1, plan.model.num_experts > 0
    full = x.recompute == "full"
    offload = plan.model.num_layers - 1 if x.offload_activations else None
    return {
        "model": {
            "tensor_model_parallel_size": x.tp,
            "sequence_parallel": x.sequence_parallel,
            "pipeline_model_parallel_size": x.pp,
            "virtual_pipeline_model_parallel_size": x.vpp if even and x.vpp > 1 else None,
            "pipeline_model_parallel_layout": None if even else pipeline_layout(sizes),
            "context_parallel_size": x.cp,
            "expert_model_parallel_size": x.ep if expert else None,
            "expert_tensor_parallel_size": x.etp if expert else None,
            **({name.replace("-", "_"): said for name, said in dispatcher_arguments(f.dispatcher).items()} if expert else {}),
            "seq_length": job.seq_len,
            "recompute_granularity": {"none": None, "selective": "selective", "full": "full"}[x.recompute],
            "recompute_modules": sorted(modules_of(f)) if x.recompute == "selective" else None,
            "recompute_method": "uniform" if full else None,
            "recompute_num_layers": 1 if full else None,
            "cpu_offloading": True if offload else None,
            "cpu_offloading_num_layers": offload,
        },
        "train": {
            "micro_batch_size": x.micro_batch_size,
            "global_batch_size": job.global_batch_size,
            "train_iters": num_steps(plan),
        },
        "dataset": {"sequence_length": job.seq_len},
        "ddp": {
            "use_distributed_optimizer": x.zero == 1,
            "overlap_grad_reduce": f.overlap_gradient_reduction > 0,
            "overlap_param_gather": f.overlap_parameter_gather > 0 and x.zero == 1,
            "num_distributed_optimizer_instances": n["replicate"] if x.zero == 1 else 1,
            "grad_reduce_in_fp32": (job.gradient_dtype or f.gradient_dtype) == "fp32",
        },
        "optimizer": {
            "optimizer": OPTIMIZERS[job.optimizer],
            "sgd_momentum": SGD_MOMENTUM.get(job.optimizer),
            "use_distributed_optimizer": x.zero == 1,
            "optimizer_cpu_offload": x.offload_optimizer or None,
            "optimizer_offload_fraction": 1.0 if x.offload_optimizer else None,
            "use_precision_aware_optimizer": x.offload_optimizer or None,
        },
        "comm_overlap": {
            "tp_comm_overlap": f.overlap_tensor_parallel > 0 and x.tp > 1,
            "overlap_moe_expert_parallel_comm": f.overlaps_experts if expert else None,
        },
        "mixed_precision": PRECISIONS[job.fp8_recipe or job.precision],
    }
