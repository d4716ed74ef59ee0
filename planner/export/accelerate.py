"""Accelerate's configuration file for FSDP 2, and its launcher.

Keys: accelerate 1.15, accelerate/commands/config/cluster.py and config_args.py (ClusterConfig), parallelism_config.py.
"""

from __future__ import annotations

import json
from typing import Any

from planner.common.message import Message
from planner.export.common import comment, degrees, forbid, refuse, script
from planner.training.plan import Plan

CHECKED = "Accelerate 1.15 and transformers 5.24"
ELSEWHERE = ("job.kind", "job.seq_len", "job.num_steps", "job.optimizer", "job.precision", "job.gradient_dtype")
"""What the training script holds."""


def accelerate_files(plan: Plan) -> dict[str, str]:
    """``accelerate.yaml`` (YAML whose values are JSON) and ``launch.sh`` with the batch as transformers' Trainer takes it."""
    text = comment(plan, CHECKED, ELSEWHERE)
    for name, value in config(plan).items():
        if isinstance(value, dict):
            text += f"{name}:\n" + "".join(f"  {key}: {json.dumps(v)}\n" for key, v in value.items())
        else:
            text += f"{name}: {json.dumps(value)}\n"
    x, n = plan.layout, degrees(plan)
    accumulation = plan.job.global_batch_size // (x.micro_batch_size * n["dp"])
    words = [
        "accelerate launch",
        "--config_file accelerate.yaml",
        '--machine_rank "${NODE_RANK:-0}"',
        '--main_process_ip "${MASTER_ADDR:-localhost}"',
        '--main_process_port "${MASTER_PORT:-29500}"',
        "train.py",
        f"--per_device_train_batch_size {x.micro_batch_size}",
        f"--gradient_accumulation_steps {accumulation}",
    ]
    return {"accelerate.yaml": text, "launch.sh": script(plan, CHECKED, words, ELSEWHERE)}


def config(plan: Plan) -> dict[str, Any]:
    """The configuration; PlannerError for what Accelerate's does not hold."""
    x, job, n = plan.layout, plan.job, degrees(plan)
    stack = "accelerate-fsdp"
    forbid(plan, stack, pp=1, vpp=1, ep=1, etp=1, sequence_parallel=False)
    if x.recompute == "selective":
        raise refuse(stack, "layout.recompute = 'selective' cannot be expressed", "use none or full")
    if x.offload_activations:
        raise refuse(stack, "layout.offload_activations cannot be expressed", "use false, or export to torchtitan without it")
    if job.precision not in ("bf16", "fp16", "fp32", "tf32"):
        raise refuse(stack, Message("job.precision = {0!r} is not exported", job.precision), "use bf16, fp16 or fp32")
    if n["shard"] % x.cp:
        raise refuse(
            stack, Message("layout.shard_group_size = {0} must hold all cp = {1} ranks", n["shard"], x.cp), "use a multiple"
        )
    parallel = {
        "parallelism_config_dp_replicate_size": n["replicate"],
        "parallelism_config_dp_shard_size": n["shard"] // x.cp,
        "parallelism_config_tp_size": x.tp,
        "parallelism_config_cp_size": x.cp,
    }
    several = n["replicate"] > 1 or x.tp > 1 or x.cp > 1
    return {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "FSDP",
        "num_machines": plan.cluster.num_nodes,
        "num_processes": plan.num_gpus,
        "mixed_precision": job.precision if job.precision in ("bf16", "fp16") else "no",
        "fsdp_config": {
            "fsdp_version": 2,
            "fsdp_reshard_after_forward": x.zero == 3,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_activation_checkpointing": x.recompute == "full",
            "fsdp_offload_params": x.offload_optimizer,
            "fsdp_state_dict_type": "SHARDED_STATE_DICT",
            "fsdp_cpu_ram_efficient_loading": True,
        },
        **({"dynamo_config": {"dynamo_backend": "INDUCTOR"}} if plan.framework.compile else {}),
        **({"parallelism_config": parallel} if several else {}),
    }
