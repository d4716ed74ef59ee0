"""A plan of fine-tuning as the configuration of a tuning tool, LoRA and QLoRA included, with the prediction as a comment.

Keys: axolotl docs/config-reference (0.12); LLaMA-Factory examples/train_lora (0.9); torchtune recipes/configs (0.6);
trl 0.24 SFTConfig and ModelConfig; peft 0.17 LoraConfig.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from planner.common.errors import PlannerError, one_of
from planner.common.message import Message, join_messages
from planner.export.common import (
    comment,
    degrees,
    forbid,
    num_steps,
    refuse,
    require_decoder,
    require_usual_update,
    script,
    tool_of,
    torchrun,
)
from planner.export.deepspeed import sharded
from planner.training.plan import Plan

CHECKED = {
    "axolotl": "axolotl 0.12",
    "llama-factory": "LLaMA-Factory 0.9",
    "trl": "TRL 0.24 with peft 0.17",
    "torchtune": "torchtune 0.6",
    "peft": "peft 0.21 and transformers 5.24",
}
ELSEWHERE = ("job.precision", "job.gradient_dtype")
"""Of a job, what no option of these tools says exactly."""
KINDS = ("finetune", "lora", "qlora")


def export_tuning(plan: Plan, tool: str) -> dict[str, str]:
    """File names and texts that run a plan of kind finetune, lora or qlora with ``tool``.

    Raises PlannerError for an unknown tool, another kind of job, a plan that does not fit, and what the tool cannot express.
    """
    tool = tool_of(tool, dict.fromkeys(TUNERS, ()))
    if tool not in TUNERS:
        raise PlannerError("export to {0!r}: {1}.", tool, one_of(tool, TUNERS))
    if plan.job.kind not in KINDS:
        raise refuse(
            tool, Message("job.kind = {0!r} is not exported", plan.job.kind), Message("plan with kind = {0}", ", ".join(KINDS))
        )
    if not plan.fits:
        raise refuse(
            tool,
            Message("the plan does not fit ({0})", join_messages("; ", plan.reasons)),
            "plan a layout that fits, or leave it out",
        )
    if tool != "peft":
        require_decoder(plan, tool)
    forbid(plan, tool, tp=1, pp=1, vpp=1, ep=1, etp=1, cp=1)
    _check_sharding(plan, tool)
    if plan.layout.recompute == "selective":
        raise refuse(tool, "layout.recompute = 'selective' cannot be expressed", "use none or full")
    if plan.job.precision not in ("bf16", "bf16-pure", "fp16", "fp32", "tf32"):
        raise refuse(tool, Message("job.precision = {0!r} is not exported", plan.job.precision), "use bf16, fp16 or fp32")
    if tool != "torchtune":
        require_usual_update(plan, tool)
    return TUNERS[tool](plan)


def _check_sharding(plan: Plan, tool: str) -> None:
    """Refuse what the tools do not say: groups of shards; under FSDP optimizer states or gradients sharded alone, offloading."""
    x = plan.layout
    forbid(plan, tool, shard_group_size=0)
    if plan.framework.sharder == "deepspeed":
        if tool == "torchtune":
            raise refuse(
                tool,
                Message("the plan was made for {0}, which shards by DeepSpeed; its recipes shard by FSDP", plan.framework.name),
                "plan with framework.name = torchtune, or export to another tool",
            )
        forbid(plan, tool, offload_activations=False)
        return
    if degrees(plan)["dp"] > 1 and x.zero in (1, 2):
        raise refuse(
            tool,
            Message("layout.zero = {0} cannot be expressed by FSDP", x.zero),
            "use zero = 0 or 3, or plan with framework.name = peft-deepspeed",
        )
    forbid(plan, tool, offload_optimizer=False, offload_parameters=False)
    if tool != "torchtune":
        forbid(plan, tool, offload_activations=False)
        return
    if degrees(plan)["dp"] > 1 and x.zero != 3:
        raise refuse(
            tool, Message("layout.zero = {0} cannot be expressed: its recipes for several GPUs shard all", x.zero), "use zero = 3"
        )
    if plan.job.adapter is not None and plan.job.adapter.modules_to_save:
        saved = list(plan.job.adapter.modules_to_save)
        raise refuse(
            tool, Message("job.adapter.modules_to_save = {0} cannot be expressed", saved), "leave it out, or export to peft"
        )


def _optimizer(plan: Plan, tool: str, names: Mapping[str, str]) -> str:
    found = names.get(plan.job.optimizer)
    if found is None:
        raise refuse(
            tool, Message("job.optimizer = {0!r} is not exported", plan.job.optimizer), Message("use {0}", ", ".join(names))
        )
    return found


HUGGING_FACE = {
    "adamw": "adamw_torch_fused",
    "adamw-8bit": "adamw_bnb_8bit",
    "paged-adamw": "paged_adamw_32bit",
    "paged-adamw-8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
}
"""transformers.training_args.OptimizerNames."""


def _yaml(plan: Plan, tool: str, values: Mapping[str, Any]) -> str:
    """YAML whose values are JSON; None is left out."""
    return comment(plan, CHECKED[tool], (*ELSEWHERE, "cluster.num_gpus")) + "".join(
        f"{name}: {json.dumps(value)}\n" for name, value in values.items() if value is not None
    )


def _script(plan: Plan, tool: str, words: list[str], extra: tuple[str, ...] = ()) -> str:
    return script(plan, CHECKED[tool], words, (*ELSEWHERE, "cluster.num_gpus", *extra))


def _accumulation(plan: Plan) -> int:
    return max(plan.job.global_batch_size // (plan.layout.micro_batch_size * degrees(plan)["dp"]), 1)


def _targets(plan: Plan) -> list[str] | str:
    adapter = plan.job.adapter
    assert adapter is not None
    return adapter.target_modules if isinstance(adapter.target_modules, str) else list(adapter.target_modules)


def _alpha(plan: Plan) -> float:
    adapter = plan.job.adapter
    assert adapter is not None
    return adapter.alpha if adapter.alpha is not None else 2.0 * adapter.rank


def _four_bit(plan: Plan, tool: str) -> bool:
    """Whether frozen weights are stored in 4 bit as bitsandbytes does; PlannerError for other formats."""
    q = plan.job.quantization
    if q is not None and q.format not in ("nf4", "fp4", "int8"):
        raise refuse(tool, Message("job.quantization.format = {0!r} is the checkpoint's own", q.format), "use nf4, fp4 or int8")
    return plan.job.kind == "qlora" and (q is None or q.format != "int8")


def _usual(plan: Plan) -> dict[str, Any]:
    """Fields that TrainingArguments and axolotl call alike."""
    return {
        "gradient_accumulation_steps": _accumulation(plan),
        "gradient_checkpointing": plan.layout.recompute == "full",
        "bf16": plan.job.precision in ("bf16", "bf16-pure"),
        "fp16": plan.job.precision == "fp16",
        "torch_compile": plan.framework.compile or None,
    }


def _training(plan: Plan, tool: str) -> dict[str, Any]:
    """Fields of transformers' TrainingArguments."""
    job = plan.job
    return {
        "per_device_train_batch_size": plan.layout.micro_batch_size,
        **_usual(plan),
        "optim": _optimizer(plan, tool, HUGGING_FACE),
        "tf32": job.precision == "tf32" or None,
        "max_steps": num_steps(plan) or -1,
    }


DEEPSPEED = "ds_config.json"


def _sharding(plan: Plan) -> dict[str, Any]:
    """How TrainingArguments and axolotl name what shards: ``deepspeed``, the file of ``_sharding_files``, of a framework that
    runs under DeepSpeed's engine at whatever stage; ``fsdp`` where another one shards; nothing for plain data parallelism."""
    if plan.framework.sharder == "deepspeed":
        return {"deepspeed": DEEPSPEED}
    if plan.layout.zero < 3 or degrees(plan)["dp"] == 1:
        return {}
    return {"fsdp": "full_shard auto_wrap", "fsdp_config": {"fsdp_version": 2, "reshard_after_forward": True}}


def _sharding_files(plan: Plan, tool: str) -> dict[str, str]:
    """DeepSpeed's configuration, whose optimizer takes its rates from the Trainer (transformers, docs/source/en/deepspeed.md:
    "auto"). Others than AdamW are the Trainer's own, which DeepSpeed does not run on the host."""
    if plan.framework.sharder != "deepspeed":
        return {}
    config = sharded(plan, tool)
    if plan.job.optimizer == "adamw":
        config["optimizer"] = {"type": "AdamW", "params": dict.fromkeys(("lr", "betas", "eps", "weight_decay"), "auto")}
    elif plan.layout.offload_optimizer:
        raise refuse(
            tool,
            Message("job.optimizer = {0!r} with layout.offload_optimizer is not run by DeepSpeed", plan.job.optimizer),
            "use adamw",
        )
    else:
        config["zero_allow_untested_optimizer"] = True
    return {DEEPSPEED: json.dumps(config, indent=2) + "\n"}


def _chunked_loss(plan: Plan, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """``values``, a tool's switches of Liger's kernels, where the plan holds no logits; nothing where it holds them."""
    return values if plan.framework.chunked_loss else {}


AXOLOTL_LIGER = {
    "plugins": ["axolotl.integrations.liger.LigerPlugin"],
    "liger_rope": True,
    "liger_rms_norm": True,
    "liger_glu_activation": True,
    "liger_fused_linear_cross_entropy": True,
}
"""axolotl docs/custom_integrations, Liger Kernels."""


def axolotl_files(plan: Plan) -> dict[str, str]:
    """``axolotl.yaml`` and ``launch.sh``."""
    job, tool = plan.job, "axolotl"
    four = _four_bit(plan, tool)
    adapter: dict[str, Any] = {}
    if job.adapter is not None:
        every = _targets(plan) == "all-linear"
        adapter = {
            "adapter": job.kind,
            "lora_r": job.adapter.rank,
            "lora_alpha": _alpha(plan),
            "lora_dropout": job.adapter.dropout,
            "lora_target_linear": True if every else None,
            "lora_target_modules": None if every else _targets(plan),
            "lora_modules_to_save": list(job.adapter.modules_to_save) or None,
        }
    values = {
        "base_model": "${MODEL}",
        "load_in_4bit": four,
        "load_in_8bit": job.kind == "qlora" and not four,
        **adapter,
        "sequence_len": job.seq_len,
        "micro_batch_size": plan.layout.micro_batch_size,
        **_usual(plan),
        "optimizer": _optimizer(plan, tool, HUGGING_FACE),
        "flash_attention": True,
        **_chunked_loss(plan, AXOLOTL_LIGER),
        "max_steps": num_steps(plan),
        "datasets": [{"path": "data.jsonl", "type": "completion"}],
        "output_dir": "out",
        **_sharding(plan),
    }
    words = ["axolotl train axolotl.yaml", '--base-model "${MODEL:?}"']
    return {"axolotl.yaml": _yaml(plan, tool, values), "launch.sh": _script(plan, tool, words), **_sharding_files(plan, tool)}


def llama_factory_files(plan: Plan) -> dict[str, str]:
    """``train.yaml`` and ``launch.sh``."""
    job, tool = plan.job, "llama-factory"
    four = _four_bit(plan, tool)
    adapter: dict[str, Any] = {"finetuning_type": "full"}
    if job.adapter is not None:
        targets = _targets(plan)
        adapter = {
            "finetuning_type": "lora",
            "lora_rank": job.adapter.rank,
            "lora_alpha": int(_alpha(plan)),
            "lora_dropout": job.adapter.dropout,
            "additional_target": ",".join(job.adapter.modules_to_save) or None,
            "lora_target": "all" if targets == "all-linear" else ",".join(targets),
            "quantization_bit": None if job.kind == "lora" else 4 if four else 8,
            "quantization_method": "bnb" if job.kind == "qlora" else None,
        }
    values = {
        "stage": "sft",
        "do_train": True,
        **adapter,
        "dataset": "mine",
        "template": "default",
        "cutoff_len": job.seq_len,
        "output_dir": "out",
        "pure_bf16": job.precision == "bf16-pure" or None,
        **_chunked_loss(plan, {"enable_liger_kernel": True}),
        **{k: v for k, v in _training(plan, tool).items() if k != "gradient_checkpointing"},
        "disable_gradient_checkpointing": plan.layout.recompute != "full",
        **_sharding(plan),
    }
    words = ["llamafactory-cli train train.yaml", 'model_name_or_path="${MODEL:?}"']
    return {"train.yaml": _yaml(plan, tool, values), "launch.sh": _script(plan, tool, words), **_sharding_files(plan, tool)}


def _loaded(plan: Plan) -> str:
    """The type that TRL loads weights in: 16 bit where they are frozen, fp32 beside autocast where they train."""
    if plan.job.precision == "bf16-pure":
        return "bfloat16"
    if plan.job.adapter is None:
        return "float32"
    return {"fp16": "float16", "fp32": "float32", "tf32": "float32"}.get(plan.job.precision, "bfloat16")


def trl_files(plan: Plan) -> dict[str, str]:
    """``sft.yaml`` and ``launch.sh`` for ``trl sft``."""
    job, tool = plan.job, "trl"
    four = _four_bit(plan, tool)
    adapter: dict[str, Any] = {}
    if job.adapter is not None:
        targets = _targets(plan)
        adapter = {
            "use_peft": True,
            "lora_r": job.adapter.rank,
            "lora_alpha": int(_alpha(plan)),
            "lora_dropout": job.adapter.dropout,
            "lora_target_modules": [targets] if isinstance(targets, str) else targets,
            "lora_modules_to_save": list(job.adapter.modules_to_save) or None,
            "load_in_4bit": four or None,
            "load_in_8bit": (job.kind == "qlora" and not four) or None,
        }
    values = {
        "dataset_name": "data",
        **adapter,
        "dtype": _loaded(plan),
        "max_length": job.seq_len,
        "packing": True,
        **_training(plan, tool),
        **_chunked_loss(plan, {"use_liger_kernel": True}),
        "output_dir": "out",
        **_sharding(plan),
    }
    words = ["accelerate launch", f"--num_processes {plan.num_gpus}", "--module trl.scripts.sft", "--config sft.yaml"]
    words.append('--model_name_or_path "${MODEL:?}"')
    return {"sft.yaml": _yaml(plan, tool, values), "launch.sh": _script(plan, tool, words), **_sharding_files(plan, tool)}


def torchtune_files(plan: Plan) -> dict[str, str]:
    """``overrides.sh``: a recipe of torchtune with batch, adapter and checkpointing overridden."""
    job, tool = plan.job, "torchtune"
    recipe = {"finetune": "full_finetune", "lora": "lora_finetune", "qlora": "lora_finetune"}[job.kind]
    if job.kind == "qlora" and job.quantization is not None and job.quantization.format != "nf4":
        raise refuse(tool, Message("job.quantization.format = {0!r} is not stored there", job.quantization.format), "use nf4")
    recipe += "_distributed" if plan.num_gpus > 1 else "_single_device"
    names = {"q_proj", "k_proj", "v_proj", "output_proj"}
    values: dict[str, Any] = {
        "batch_size": plan.layout.micro_batch_size,
        "gradient_accumulation_steps": _accumulation(plan),
        "tokenizer.max_seq_len": job.seq_len,
        "dtype": "fp32" if job.precision in ("fp32", "tf32") else "bf16",
        "enable_activation_checkpointing": plan.layout.recompute == "full",
        "enable_activation_offloading": plan.layout.offload_activations,
        "compile": plan.framework.compile,
        "optimizer": _optimizer(
            plan,
            tool,
            {
                "adamw": "torch.optim.AdamW",
                "adamw-8bit": "bitsandbytes.optim.AdamW8bit",
                "paged-adamw-8bit": "bitsandbytes.optim.PagedAdamW8bit",
            },
        ),
        "max_steps_per_epoch": num_steps(plan),
        "optimizer_in_bwd": True if job.optimizer_in_backward else None,
    }
    if job.adapter is not None:
        targets = _targets(plan)
        every = targets == "all-linear"
        theirs = [{"o_proj": "output_proj"}.get(name, name) for name in ([] if every else targets)]
        values |= {
            "model.lora_rank": job.adapter.rank,
            "model.lora_alpha": _alpha(plan),
            "model.lora_dropout": job.adapter.dropout,
            "model.lora_attn_modules": json.dumps(sorted(names) if every else [n for n in theirs if n in names]).replace(" ", ""),
            "model.apply_lora_to_mlp": every or bool({"gate_proj", "up_proj", "down_proj"} & set(theirs)),
            "model.apply_lora_to_output": "lm_head" in theirs,
            "model.quantize_base": True if job.kind == "qlora" else None,
        }
    words = ["tune run"]
    words += [f"--nproc_per_node {plan.num_gpus // plan.cluster.num_nodes}"] if plan.num_gpus > 1 else []
    words += [recipe, '--config "${CONFIG:?}"']
    pairs = (f"{name}={json.dumps(v) if isinstance(v, bool) else v}" for name, v in values.items() if v is not None)
    words += [f"'{pair}'" if "[" in pair else pair for pair in pairs]
    return {"launch.sh": _script(plan, tool, words)}


def peft_files(plan: Plan) -> dict[str, str]:
    """``adapter_config.json`` for ``LoraConfig.from_pretrained``, ``training_args.json`` for Trainer, ``launch.sh``."""
    job, tool = plan.job, "peft"
    if job.adapter is None:
        raise refuse(tool, "job.kind = 'finetune' trains all weights", "plan with kind = 'lora' or 'qlora', or export to trl")
    config = {
        "peft_type": "LORA",
        "task_type": "SEQ_2_SEQ_LM" if plan.model.cross_attention else "CAUSAL_LM",
        "r": job.adapter.rank,
        "lora_alpha": _alpha(plan),
        "lora_dropout": job.adapter.dropout,
        "target_modules": _targets(plan),
        "layers_to_transform": None if job.adapter.layers is None else list(job.adapter.layers),
        "modules_to_save": list(job.adapter.modules_to_save) or None,
    }
    arguments = {name: value for name, value in _training(plan, tool).items() if value is not None}
    arguments |= {"output_dir": "out", **_chunked_loss(plan, {"use_liger_kernel": True}), **_sharding(plan)}
    files = {
        "adapter_config.json": json.dumps(config, indent=2) + "\n",
        "training_args.json": json.dumps(arguments, indent=2) + "\n",
        **_sharding_files(plan, tool),
    }
    if job.kind == "qlora":
        four = _four_bit(plan, tool)
        q = job.quantization
        bits: dict[str, Any] = {"load_in_4bit": four, "load_in_8bit": not four}
        if four:
            double = q is None or q.double_quantization is not False
            bits |= {
                "bnb_4bit_quant_type": "nf4" if q is None else q.format,
                "bnb_4bit_use_double_quant": double,
                "bnb_4bit_compute_dtype": "float16" if job.precision == "fp16" else "bfloat16",
            }
        files["quantization_config.json"] = json.dumps(bits, indent=2) + "\n"
    words = [*torchrun(plan), "train.py training_args.json"]
    files["launch.sh"] = _script(plan, tool, words, ("job.seq_len",))
    return files


TUNERS: Mapping[str, Callable[[Plan], dict[str, str]]] = {
    "axolotl": axolotl_files,
    "llama-factory": llama_factory_files,
    "trl": trl_files,
    "torchtune": torchtune_files,
    "peft": peft_files,
}
