"""DeepSpeed's configuration file and its launcher.

Keys: deepspeed.ai/docs/config-json; deepspeed 0.19, deepspeed/runtime/constants.py, runtime/zero/config.py and
runtime/zero/offload_config.py.
"""

from __future__ import annotations

import json
from typing import Any

from planner.common.message import Message
from planner.export.common import degrees, forbid, gpus_per_node, refuse, script
from planner.training.plan import Plan

CHECKED = "DeepSpeed 0.19"
ELSEWHERE = ("job.kind", "job.seq_len", "job.num_steps")
"""What the training script holds."""


def deepspeed_files(plan: Plan) -> dict[str, str]:
    """``ds_config.json`` and ``launch.sh``; JSON has no comments, so the prediction stands in the script.

    The optimizer (AdamW) is train.py's: its learning rate is not planned.
    """
    words = [
        "deepspeed",
        f"--num_nodes {plan.cluster.num_nodes}",
        f"--num_gpus {gpus_per_node(plan)}",
        "train.py",
        "--deepspeed ds_config.json",
    ]
    return {"ds_config.json": json.dumps(config(plan), indent=2) + "\n", "launch.sh": script(plan, CHECKED, words, ELSEWHERE)}


def config(plan: Plan) -> dict[str, Any]:
    """The configuration; PlannerError for what DeepSpeed's does not hold."""
    x, job = plan.layout, plan.job
    forbid(plan, "deepspeed", tp=1, pp=1, vpp=1, cp=1, etp=1, shard_group_size=0, offload_activations=False)
    if x.ep > 1:
        raise refuse(
            "deepspeed",
            Message("layout.ep = {0} is an argument of deepspeed.moe.layer.MoE in the model's code", x.ep),
            "use 1, or set ep_size there and export the rest",
        )
    if x.recompute == "selective":
        raise refuse("deepspeed", "layout.recompute = 'selective' is not configured here", "use none or full")
    if job.optimizer != "adamw":
        raise refuse("deepspeed", Message("job.optimizer = {0!r} is not exported", job.optimizer), "use adamw")
    found = sharded(plan, "deepspeed")
    if plan.framework.compile:
        found["compile"] = {"enabled": True}
    if x.recompute == "full":  # the model calls deepspeed.checkpointing.checkpoint for each layer
        found["activation_checkpointing"] = {"partition_activations": False, "cpu_checkpointing": False}
    return found


def sharded(plan: Plan, stack: str) -> dict[str, Any]:
    """Batch, precision, stage and offloading: what every tool that hands a configuration to DeepSpeed's engine writes."""
    x, job = plan.layout, plan.job
    if job.precision not in ("bf16", "fp16", "fp32"):
        raise refuse(stack, Message("job.precision = {0!r} has no key of DeepSpeed", job.precision), "use bf16, fp16 or fp32")
    zero: dict[str, Any] = {"stage": x.zero, "overlap_comm": plan.framework.overlap_gradient_reduction > 0}
    if x.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if x.offload_parameters:
        zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    accumulation = job.global_batch_size // (x.micro_batch_size * degrees(plan)["dp"])
    found: dict[str, Any] = {
        "train_batch_size": job.global_batch_size,
        "train_micro_batch_size_per_gpu": x.micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        "zero_optimization": zero,
        "bf16": {"enabled": job.precision == "bf16"},
        "fp16": {"enabled": job.precision == "fp16"},
    }
    if (job.gradient_dtype or plan.framework.gradient_dtype) == "fp32" and job.precision != "fp32":
        found["data_types"] = {"grad_accum_dtype": "fp32"}
    return found
