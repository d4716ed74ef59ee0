"""Launch files read as scenarios: what export writes comes back as the same plan, and what people write is understood."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_gguf import LLAMA_3_8B, gguf

import planner
from planner.common.errors import PlannerError
from planner.export import STACKS, export_plan
from planner.export.common import options
from planner.export.megatron import model_arguments
from planner.export.servers import OF_REQUESTS, SERVERS, export_deployment
from planner.export.tuners import TUNERS, export_tuning
from planner.hardware.cluster import Cluster
from planner.launchfiles import Launch, read_launch
from planner.launchfiles.formats import Format, formats, load_format, plain_name
from planner.launchfiles.shell import read_script
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.model.parameters import parameters_active, parameters_total
from planner.scenarios.shipped import scenario_path
from planner.serving import serve
from planner.serving.spec import Serving
from planner.training.plan import Plan
from planner.workload.framework import Framework, framework_names, load_framework
from planner.workload.job import Job
from planner.workload.layout import Layout


def written(folder: Path, files: dict[str, str]) -> list[Path]:
    for name, text in files.items():
        (folder / name).write_text(text)
    return [folder / name for name in files]


def read(folder: Path, files: dict[str, str], **said: Any) -> Launch:
    return read_launch(written(folder, files), **said)


H100 = {"accelerator": "h100-sxm5-80gb"}

# --- the law: export and read back ------------------------------------------------------------------------------------

FULL = {"tp": 2, "sequence_parallel": True, "pp": 4, "vpp": 2, "cp": 2, "zero": 1, "micro_batch_size": 2, "recompute": "full"}
TRAINED: list[tuple[str, str, dict[str, Any]]] = [
    ("megatron", "megatron-core", {"layout": FULL}),
    ("megatron", "megatron-core", {"layout": {"tp": 2, "zero": 1, "shard_group_size": 4}}),
    ("megatron", "megatron-core", {"layout": {"zero": 1, "offload_optimizer": True, "offload_activations": True},
                                   "job": {"precision": "fp16"}}),
    ("megatron", "megatron-core", {"layout": {"zero": 1, "pp": 5, "vpp": 1}, "nodes": 5, "job": {"global_batch_size": 80}}),
    ("megatron", "megatron-core", {"layout": {"tp": 8, "zero": 1, "sequence_parallel": True}, "job": {"precision": "nvfp4"},
                                   "node": "dgx-b200"}),
    ("megatron", "megatron-core", {"model": "mixtral-8x7b", "nodes": 8, "layout": {"tp": 4, "sequence_parallel": True, "ep": 8,
                                   "zero": 1, "recompute": "selective"}}),
    ("megatron", "megatron-core", {"model": "deepseek-v3", "nodes": 128, "layout": {"tp": 4, "sequence_parallel": True, "pp": 16,
                                   "ep": 32, "etp": 1, "zero": 1, "recompute": "full"},
                                   "job": {"precision": "fp8", "global_batch_size": 4096, "gradient_dtype": "same"}}),
    ("megatron", "megatron-2022", {"layout": {"tp": 2, "zero": 0}, "model": "llama-3.2-1b"}),
    ("nemo", "megatron-bridge", {"layout": FULL}),
    ("nemo", "megatron-core", {"model": "mixtral-8x7b", "layout": {"tp": 2, "sequence_parallel": True, "pp": 2, "vpp": 4, "ep": 4,
                                                                   "zero": 1, "recompute": "selective"}}),
    ("deepspeed", "deepspeed-zero", {"model": "llama-3.2-1b", "layout": {"zero": 0, "micro_batch_size": 2}}),
    ("deepspeed", "deepspeed-zero", {"model": "llama-3.2-1b", "job": {"kind": "finetune"},
                                     "layout": {"zero": 3, "offload_optimizer": True, "recompute": "full"}}),
    ("torchtitan", "fsdp", {"layout": {"tp": 2, "sequence_parallel": True, "pp": 2, "vpp": 2, "cp": 2, "zero": 3,
                                       "shard_group_size": 4, "recompute": "full"}}),
    ("torchtitan", "torchtitan", {"layout": {"zero": 2}}),
    ("torchtitan", "torchtitan", {"layout": {"zero": 3, "pp": 4}, "framework": {"compile": True}}),
    ("accelerate-fsdp", "fsdp", {"layout": {"zero": 2, "cp": 2, "micro_batch_size": 2, "recompute": "full"}}),
    ("accelerate-fsdp", "torchtitan", {"nodes": 1, "layout": {"zero": 3, "tp": 2, "micro_batch_size": 2}}),
]  # fmt: skip


def trained(framework: str, question: dict[str, Any]) -> Plan:
    return planner.plan(
        model=question.get("model", "llama-3-8b"),
        cluster={"node": question.get("node", "dgx-h100"), "num_nodes": question.get("nodes", 4)},
        framework={"name": framework, **question.get("framework", {})},
        job={"seq_len": 4096, "global_batch_size": 128, "num_steps": 500, **question.get("job", {})},
        layout=question["layout"],
    )


def assert_same(before: Plan, launch: Launch) -> None:
    assert not launch.not_understood
    assert not launch.unmodelled
    after = planner.plan(**launch.tables)
    assert after.layout == before.layout
    assert after.step_parts_s == before.step_parts_s
    assert after.memory_bytes == before.memory_bytes
    assert (after.num_steps, after.num_gpus, after.job.seq_len) == (before.num_steps, before.num_gpus, before.job.seq_len)
    assert (after.job.kind, after.job.optimizer, after.job.precision) == (
        before.job.kind,
        before.job.optimizer,
        before.job.precision,
    )
    assert after.model == before.model


@pytest.mark.parametrize(("stack", "framework", "question"), TRAINED)
def test_what_export_writes_reads_back_to_the_same_plan(
    stack: str, framework: str, question: dict[str, Any], tmp_path: Path
) -> None:
    before = trained(framework, question)
    assert_same(before, read(tmp_path, export_plan(before, stack)))


def commands(files: dict[str, str]) -> str:
    return "\n".join(line for text in files.values() for line in text.splitlines() if not line.startswith("#"))


SWITCHES = [
    (stack, framework, field)
    for stack, framework in {stack: framework for stack, framework, _ in reversed(TRAINED)}.items()
    for field in sorted(
        {
            o.field.split(".")[1]
            for o in load_format(stack.removesuffix("-fsdp")).options.values()
            if o.field.startswith("framework.")
        }
    )
    if isinstance(getattr(load_framework(framework), field), bool | float)
]


@pytest.mark.parametrize(("stack", "framework", "field"), SWITCHES)
def test_what_a_launch_table_reads_of_a_framework_is_written_to_the_run_or_refused(
    stack: str, framework: str, field: str
) -> None:
    """A comment alone would leave the run without it."""
    layout: dict[str, Any] = {"zero": 1, "ep": 4} if stack in ("megatron", "nemo") else {"zero": 3, "recompute": "full"}
    name = "mixtral-8x7b" if "ep" in layout else "llama-3.2-1b"
    before = trained(
        framework, {"model": name, "layout": layout, "nodes": 8, "job": {"precision": "fp8"} if "ep" in layout else {}}
    )
    texts = set()
    for value in (False, True) if isinstance(getattr(before.framework, field), bool) else (0.0, 0.5):
        try:
            texts.add(commands(export_plan(replace(before, framework=before.framework.replaced(**{field: value})), stack)))
        except PlannerError:
            texts.add(f"refused with {value}")
    assert len(texts) == 2


def test_every_stack_is_read_back() -> None:
    assert {stack for stack, _, _ in TRAINED} == set(STACKS)


ADAPTER = {"rank": 16, "target_modules": ["q_proj", "v_proj"]}
TUNED: list[dict[str, Any]] = [
    {"kind": "finetune"},
    {"kind": "finetune", "precision": "bf16-pure", "optimizer": "adamw-8bit"},
    {"kind": "lora", "adapter": ADAPTER, "precision": "fp16"},
    {"kind": "lora", "adapter": {"rank": 8, "last_layers": 4, "modules_to_save": ["lm_head"]}},
    {"kind": "qlora", "adapter": ADAPTER},
    {"kind": "qlora", "adapter": {"rank": 8}, "quantization": {"format": "int8"}},
]


@pytest.mark.parametrize("tool", list(TUNERS))
@pytest.mark.parametrize("gpus", [1, 4])
@pytest.mark.parametrize("compiled", [False, True])
def test_what_export_writes_of_tuning_reads_back(tool: str, gpus: int, compiled: bool, tmp_path: Path) -> None:
    exported = 0
    for job in TUNED:
        before = planner.plan(
            model="qwen2.5-0.5b",
            cluster={"node": "dgx-h100", "num_gpus": gpus},
            framework={"name": "peft", "compile": compiled},
            job={"seq_len": 1024, "global_batch_size": 16, "num_steps": 100, **job},
            layout={"micro_batch_size": 2, "recompute": "full", "zero": 3 if gpus > 1 else 0},
        )
        try:
            files = export_tuning(before, tool)
        except PlannerError:  # what the tool cannot express
            continue
        exported += 1
        launch = read(tmp_path, files)
        assert launch.tables["framework"].get("compile", False) == compiled
        assert_same(before, launch)
    assert exported >= 2


SERVED: list[tuple[str, int, str, dict[str, Any]]] = [
    ("sglang", 8, "deepseek-v2-lite", {"ep": 8, "dispatcher": "gather"}),
    ("vllm", 8, "deepseek-v2-lite", {"ep": 8, "dispatcher": "deepep"}),
    ("tensorrt-llm", 8, "deepseek-v2-lite", {"ep": 8, "streamed": False}),
    ("tensorrt-llm", 8, "llama-4-maverick", {"ep": 8, "weights": "fp8", "dispatcher": "gather"}),
    ("vllm", 1, "llama-3.1-8b", {"memory_fraction": 0.8, "weights": "fp16"}),
    ("vllm", 4, "llama-3.1-8b", {"tp": 2, "dp": 2, "weights": "fp8", "kv_dtype": "fp8", "chunked_prefill_tokens": 2048,
                                 "speculative": {"draft": "llama-3.2-1b", "tokens": 4, "acceptance": 0.7}}),
    ("vllm", 8, "mixtral-8x7b", {"tp": 2, "ep": 8}),
    ("vllm", 1, "llama-3.1-8b", {"clients": 8, "num_requests": 200, "weights": "int4-awq",
                                 "prompt": {"kind": "lognormal", "mean": 800, "standard_deviation": 300, "maximum": 4000}}),
    ("sglang", 8, "deepseek-v2-lite", {"tp": 2, "ep": 8, "dp": 1}),
    ("sglang", 4, "llama-3.1-8b", {"tp": 2, "dp": 2, "weights": "fp8"}),
    ("tensorrt-llm", 8, "deepseek-v2-lite", {"ep": 8, "dp": 1}),
    ("tensorrt-llm", 2, "llama-3.1-8b", {"tp": 2, "weights": "fp8", "kv_dtype": "fp8"}),
    ("llama.cpp", 1, "llama-3.1-8b", {"weights": "q8_0"}),
    ("llama.cpp", 2, "llama-3.1-8b", {"pp": 2, "weights": "q4_k_m"}),
]  # fmt: skip


@pytest.mark.parametrize(("server", "gpus", "model", "fields"), SERVED)
def test_what_export_writes_of_a_server_reads_back(
    server: str, gpus: int, model: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    plain = {"engine": server, "prompt": 1000, "output": 200, "batch": 8}
    before = serve(model=model, cluster={"node": "dgx-h100", "num_gpus": gpus}, serving={**plain, **fields})
    launch = read(tmp_path, export_deployment(before, server))
    assert launch.serves
    assert not launch.not_understood + launch.unmodelled
    after = serve(**launch.tables)
    for name in ("total_bytes", "limit_bytes", "ttft_s", "tpot_s", "num_gpus", "serving"):
        if name != "serving":
            assert getattr(after, name) == getattr(before, name), name
    assert (after.load is None) == (before.load is None)
    if after.load is not None and before.load is not None:
        assert after.load.to_dict() == before.load.to_dict()


def test_every_field_of_serving_is_an_option_or_carried_in_comments() -> None:
    of_options = {
        option.field.split(".")[1] for form in formats() for option in form.options.values() if "serving." in option.field
    }
    told = {"provenance", "engine", "prompt", "output", "max_context", "speculative"} | {
        "dp",
        "chunked_prefill_tokens",
        "compute_dtype",
        "dispatcher",
    }
    refused = {"prefill_pool"}
    assert set(Serving.model_fields) - of_options - set(OF_REQUESTS) - told - refused == set()


def test_every_server_is_read_back() -> None:
    assert {server for server, *_ in SERVED} == set(SERVERS)


def test_what_megatron_exports_of_any_model_is_that_model_or_it_is_refused(tmp_path: Path) -> None:
    """Sizes alone, without a name: the parameters that they describe are the catalog's, for every model of it."""
    before = trained("megatron-core", {"layout": {"zero": 1}})
    written_out = 0
    for name in planner.model_names():
        model = planner.load_model(name)
        try:
            arguments = model_arguments(replace(before, model=model))
        except PlannerError:  # what pretrain_gpt.py has no option for
            continue
        written_out += 1
        words = " ".join(["torchrun --nproc-per-node 8 pretrain_gpt.py --bf16 --seq-length 512", *options(arguments)])
        sizes = {"model.vocab_size": model.vocab_size, "job.global_batch_size": 8}
        table = read(tmp_path, {"launch.sh": words}, cluster=H100, over=sizes).tables["model"]
        again = planner.load_model(table["name"]) if set(table) == {"name"} else Model.build(table, "model")
        assert parameters_total(again) == parameters_total(model), name
        assert parameters_active(again) == parameters_active(model), name
    assert written_out > 50


@pytest.mark.parametrize(("old", "new", "field", "value"), [
    ("--tensor-model-parallel-size 2", "--tensor-model-parallel-size 4", "layout.tp", 4),
    ("--micro-batch-size 2", "--micro-batch-size 1", "layout.micro_batch_size", 1),
    ("--recompute-granularity full", "--recompute-granularity selective", "layout.recompute", "selective"),
    ("--seq-length 4096", "--seq-length 2048", "job.seq_len", 2048),
    ("--train-iters 500", "--train-iters 7", "job.num_steps", 7),
    ("--nnodes 4", "--nnodes 8", "cluster.num_gpus", 64),
    ("--num-layers 32", "--num-layers 48", "model.num_layers", 48),
    ("  --bf16 ", "  --cross-entropy-loss-fusion --bf16 ", "framework.fused_cross_entropy", True),
    ("  --overlap-grad-reduce \\\n", "", "framework.overlap_gradient_reduction", 0.0),
    ("  --use-distributed-optimizer \\\n", "", "layout.zero", None),
])  # fmt: skip
def test_the_options_themselves_are_read_not_the_comments(old: str, new: str, field: str, value: Any, tmp_path: Path) -> None:
    text = export_plan(trained("megatron-core", {"layout": FULL}), "megatron")["launch.sh"]
    assert old in text
    table, _, name = field.partition(".")
    assert read(tmp_path, {"launch.sh": text.replace(old, new)}).tables[table].get(name) == value


def test_comments_hold_no_field_that_the_layout_has(tmp_path: Path) -> None:
    for stack, framework, question in TRAINED:
        for text in export_plan(trained(framework, question), stack).values():
            assert not re.search(r"planner: layout\.", text)
            assert f"written for {'' if stack != 'torchtitan' else 'torchtitan'}" in text or text.startswith("{")


# --- what people write ------------------------------------------------------------------------------------------------

MEGATRON = """#!/bin/bash
#SBATCH --nodes=4
export CUDA_DEVICE_MAX_CONNECTIONS=1
GPUS_PER_NODE=8
DISTRIBUTED_ARGS=(
    --nproc_per_node $GPUS_PER_NODE
    --nnodes ${NUM_NODES:-4}   # as many as Slurm gives
)
MODEL_ARGS=(
    --num-layers 32 --hidden-size 4096 --num-attention-heads 32 --ffn-hidden-size 14336
    --group-query-attention --num-query-groups 8 --swiglu --normalization RMSNorm
    --position-embedding-type rope --disable-bias-linear --untie-embeddings-and-output-weights
    --hidden-dropout 0 --attention-dropout 0 --seq-length 8192 --max-position-embeddings 8192
)
TRAINING_ARGS="--micro-batch-size 1 --global-batch-size $((GPUS_PER_NODE * 16)) --bf16 --fp8-format hybrid \\
    --overlap-grad-reduce --overlap-param-gather --use-distributed-optimizer --cross-entropy-loss-fusion \\
    --delay-wgrad-compute --frobnicate 3"
torchrun ${DISTRIBUTED_ARGS[@]} pretrain_gpt.py "${MODEL_ARGS[@]}" $TRAINING_ARGS \\
    --tensor-model-parallel-size 4 --sequence-parallel --pipeline-model-parallel-size 2 --data-path ${DATA} 2>&1 | tee log
"""


def test_a_megatron_script_with_arrays_and_arithmetic(tmp_path: Path) -> None:
    launch = read(tmp_path, {"run.sh": MEGATRON}, cluster=H100)
    assert launch.tables["model"] == {"name": "llama-3-8b"}
    assert launch.tables["cluster"] == {**H100, "num_gpus": 32}
    assert launch.tables["job"] == {
        "kind": "pretrain",
        "seq_len": 8192,
        "global_batch_size": 128,
        "precision": "fp8",
        "fp8_recipe": "delayed",  # Megatron-LM's --fp8-recipe where none is given
    }
    assert (launch.tables["layout"]["tp"], launch.tables["layout"]["pp"], launch.tables["layout"]["zero"]) == (4, 2, 1)
    assert launch.tables["framework"] == {"name": "megatron-core", "fused_cross_entropy": True}
    assert [line.partition(":")[0] for line in launch.unmodelled] == ["--delay-wgrad-compute"]
    assert launch.not_understood == ("--frobnicate = 3 (run.sh)",)
    assert any("llama-3-8b" in note for note in launch.notes)


TITAN = """
[model]
name = "llama3"
flavor = "70B"
converters = ["float8"]
[training]
local_batch_size = 8
seq_len = 8192
steps = 1000
[parallelism]
data_parallel_shard_degree = -1
tensor_parallel_degree = 8
enable_async_tensor_parallel = true
[activation_checkpoint]
mode = "full"
[compile]
enable = true
"""


def test_a_torchtitan_configuration(tmp_path: Path) -> None:
    launch = read(tmp_path, {"llama3_70b.toml": TITAN}, cluster={**H100, "num_gpus": 256})
    assert launch.tables["model"] == {"name": "llama-3-70b"}
    assert launch.tables["job"] == {
        "kind": "pretrain",
        "seq_len": 8192,
        "num_steps": 1000,
        "precision": "fp8",
        "global_batch_size": 8 * 32,
    }
    assert launch.tables["framework"] == {"name": "torchtitan", "compile": True}
    assert (launch.tables["layout"]["zero"], launch.tables["layout"]["recompute"]) == (3, "full")
    assert "enable_async_tensor_parallel" in launch.unmodelled[0]


@pytest.mark.parametrize(
    ("parts", "means"),
    [
        ('["model", "loss"]', {"compile": True}),
        ('["loss"]', {"compiled_loss": "always"}),
        ('["model"]', {"compile": True, "compiled_loss": "never"}),
        ("[]", {}),
    ],
)
def test_torchtitan_compiles_its_layers_or_its_loss_alone(tmp_path: Path, parts: str, means: dict[str, Any]) -> None:
    """CompileConfig.components; its DeepSeek-V3 of October 2025 compiled the loss alone (pytorch/torchtitan#1789)."""
    text = TITAN.replace("enable = true\n", f"enable = true\ncomponents = {parts}\n")
    launch = read(tmp_path, {"llama3_70b.toml": text}, cluster={**H100, "num_gpus": 256})
    assert launch.tables["framework"] == {"name": "torchtitan", **means}
    assert not any("components" in line for line in (*launch.unmodelled, *launch.not_understood))


def test_a_part_that_torchtitan_does_not_compile_is_told(tmp_path: Path) -> None:
    text = TITAN.replace("enable = true\n", 'enable = true\ncomponents = ["loss", "optimizer"]\n')
    launch = read(tmp_path, {"llama3_70b.toml": text}, cluster={**H100, "num_gpus": 256})
    assert launch.tables["framework"] == {"name": "torchtitan", "compiled_loss": "always"}
    assert "compile.components = optimizer: known are model, loss" in launch.not_understood


AXOLOTL = """
base_model: NousResearch/Meta-Llama-3-8B
load_in_4bit: true
adapter: qlora
lora_r: 32
lora_alpha: 16
lora_target_modules: [q_proj, v_proj]
sequence_len: 4096
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 4
optimizer: paged_adamw_8bit
bf16: auto
gradient_checkpointing: true
flash_attention: true
deepspeed: zero2.json
datasets:
  - path: mine
    type: alpaca
"""
ZERO2 = """{"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2},
"bf16": {"enabled": "auto"}}"""


def test_axolotl_with_the_deepspeed_file_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "zero2.json").write_text(ZERO2)
    launch = read(tmp_path, {"qlora.yml": AXOLOTL}, cluster={"accelerator": "rtx-4090-24gb", "num_gpus": 4})
    assert launch.tables["job"] == {
        "kind": "qlora",
        "seq_len": 4096,
        "global_batch_size": 32,
        "precision": "bf16",
        "optimizer": "paged-adamw-8bit",
        "adapter": {"rank": 32, "alpha": 16, "target_modules": ["q_proj", "v_proj"]},
    }
    assert launch.tables["layout"] == {"zero": 2, "micro_batch_size": 2, "recompute": "full"}
    assert launch.tables["model"] == {"name": "llama-3-8b"}
    (tmp_path / "zero2.json").unlink()
    again = read(tmp_path, {"qlora.yml": AXOLOTL}, cluster={"accelerator": "rtx-4090-24gb", "num_gpus": 4})
    assert any("zero2.json was not found" in note for note in again.notes)
    assert again.tables == launch.tables  # axolotl ships a file of that name
    own = AXOLOTL.replace("zero2.json", "our_stage_two.json")
    unknown = read(tmp_path, {"qlora.yml": own}, cluster={"accelerator": "rtx-4090-24gb", "num_gpus": 4})
    assert "zero" not in unknown.tables["layout"]


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("ds_z0_config.json", {"zero": 0}),
        ("ds_z2_offload_config.json", {"zero": 2, "offload_optimizer": True}),
        ("ds_z3_config.json", {"zero": 3}),
        ("ds_z3_offload_config.json", {"zero": 3, "offload_optimizer": True, "offload_parameters": True}),
        ("zero3_bf16_cpuoffload_params.json", {"zero": 3, "offload_parameters": True}),
    ],
)
def test_a_deepspeed_file_that_tools_ship_is_known_by_its_name(name: str, layout: dict[str, Any], tmp_path: Path) -> None:
    """LLaMA-Factory, examples/deepspeed; axolotl, deepspeed_configs."""
    text = f"""
model_name_or_path: Qwen/Qwen2.5-7B-Instruct
stage: sft
finetuning_type: full
deepspeed: examples/deepspeed/{name}
cutoff_len: 2048
per_device_train_batch_size: 1
bf16: true
"""
    found = read(tmp_path, {"full.yaml": text}, cluster={**H100, "num_gpus": 8}).tables
    assert found["layout"] == {"micro_batch_size": 1, "recompute": "full", **layout}
    assert found["framework"]["name"] == "deepspeed-zero"


def test_fsdp_of_axolotl_with_and_without_the_prefix(tmp_path: Path) -> None:
    """A table fsdp_config shards, whether its keys begin with fsdp_ (transformers drops it) or not."""
    keys = {"offload_params": "true", "reshard_after_forward": "true", "activation_checkpointing": "true", "version": "2"}
    text = "base_model: Qwen/Qwen2.5-7B\nsequence_len: 2048\nmicro_batch_size: 2\nbf16: true\nfsdp_config:\n"
    for prefix in ("", "fsdp_"):
        mine = text + "".join(f"  {prefix}{key}: {value}\n" for key, value in keys.items())
        found = read(tmp_path, {"fft.yaml": mine}, cluster={**H100, "num_gpus": 8})
        assert found.tables["layout"] == {"zero": 3, "offload_optimizer": True, "recompute": "full", "micro_batch_size": 2}
        assert found.tables["framework"]["name"] == "transformers-fsdp"
        assert not found.not_understood
        two = read(tmp_path, {"fft.yaml": mine.replace("forward: true", "forward: false")}, cluster={**H100, "num_gpus": 8})
        assert two.tables["layout"]["zero"] == 2


def test_liger_of_axolotl_is_its_loss(tmp_path: Path) -> None:
    text = "base_model: Qwen/Qwen2.5-7B\nsequence_len: 2048\nmicro_batch_size: 2\nbf16: true\nliger_rms_norm: true\n"
    norms = read(tmp_path, {"fft.yaml": text}, cluster={**H100, "num_gpus": 8})
    assert "liger" not in norms.tables["framework"]
    assert any("liger kernels" in line for line in norms.unmodelled)
    loss = read(tmp_path, {"fft.yaml": f"{text}liger_fused_linear_cross_entropy: true\n"}, cluster={**H100, "num_gpus": 8})
    assert loss.tables["framework"]["liger"] is True
    assert not loss.unmodelled


def test_muon_of_llama_factory(tmp_path: Path) -> None:
    text = "model_name_or_path: Qwen/Qwen2-1.5B\nfinetuning_type: full\ncutoff_len: 2048\nuse_muon: true\nbf16: true\n"
    found = read(tmp_path, {"full.yaml": text}, cluster={**H100, "num_gpus": 8})
    assert found.tables["job"]["optimizer"] == "muon"
    assert not found.not_understood


def test_a_recipe_of_torchtune_as_it_is_shipped(tmp_path: Path) -> None:
    """output_dir and gradient_accumulation_steps stand in TrainingArguments, too; what has components is torchtune's."""
    text = """
output_dir: /tmp/out
tokenizer: {_component_: torchtune.models.llama3.llama3_tokenizer, path: /tmp/tokenizer.model, max_seq_len: null}
model: {_component_: torchtune.models.llama3_1.llama3_1_8b}
optimizer: {_component_: bitsandbytes.optim.PagedAdamW8bit, lr: 2e-5}
optimizer_in_bwd: True
batch_size: 2
gradient_accumulation_steps: 1
dtype: bf16
enable_activation_checkpointing: True
tensor_parallel_dim: 1
"""
    with pytest.raises(PlannerError, match=r"job\.seq_len is missing"):
        read(tmp_path, {"8B.yaml": text}, cluster={**H100, "num_gpus": 1})
    found = read(tmp_path, {"8B.yaml": text}, cluster={**H100, "num_gpus": 1}, over={"job.seq_len": 4096})
    assert found.tools == ("torchtune",)
    assert found.tables["job"]["optimizer_in_backward"] is True
    assert not found.unmodelled
    assert not found.not_understood
    offloaded = text.replace("optimizer_in_bwd", "fsdp_cpu_offload")
    sharded = read(tmp_path, {"8B.yaml": offloaded}, cluster={**H100, "num_gpus": 8}, over={"job.seq_len": 4096})
    assert sharded.tables["layout"]["offload_optimizer"] is True


def test_fsdp_moves_frozen_weights_to_the_host_too(tmp_path: Path) -> None:
    """Accelerate's fsdp_offload_params moves every shard: of a QLoRA, mostly the weights that do not train."""
    text = (
        "base_model: meta-llama/Llama-2-70b-hf\nsequence_len: 2048\nmicro_batch_size: 1\nbf16: true\nadapter: qlora\n"
        "load_in_4bit: true\nlora_r: 8\nlora_target_linear: true\nfsdp_config:\n  offload_params: {0}\n"
        "  reshard_after_forward: true\n"
    )
    here, away = (
        planner.plan(**read(tmp_path, {"q.yaml": text.format(flag)}, cluster={**H100, "num_gpus": 2}).tables, explain=False)
        for flag in ("false", "true")
    )
    assert away.layout.offload_parameters
    assert here.memory_bytes["parameters"] - away.memory_bytes["parameters"] > 35e9 / 2  # 70e9 halves of a byte over 2 GPUs


@pytest.mark.parametrize(
    ("text", "expected", "unmodelled"),
    [
        ("sequence_parallel_degree: 4\n", {"layout": {"cp": 4}, "job": {"global_batch_size": 2}}, ()),
        (
            "plugins: [axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin]\n",
            {"job": {"global_batch_size": 8}},
            ("plugins = CutCrossEntropyPlugin: a loss without logits in memory",),
        ),
    ],
)
def test_what_axolotl_says_by_another_name(
    text: str, expected: dict[str, dict[str, Any]], unmodelled: tuple[str, ...], tmp_path: Path
) -> None:
    """Ranks that share a sequence take no batch of their own; a plugin's name is what it does."""
    base = "base_model: Qwen/Qwen2.5-7B\nsequence_len: 2048\nmicro_batch_size: 1\nbf16: true\nfsdp: full_shard\n"
    found = read(tmp_path, {"a.yaml": base + text}, cluster={**H100, "num_gpus": 8})
    for table, fields in expected.items():
        assert {name: found.tables[table][name] for name in fields} == fields
    assert found.unmodelled == unmodelled


def test_galore_of_llama_factory(tmp_path: Path) -> None:
    text = (
        "model_name_or_path: Qwen/Qwen2.5-7B\nstage: sft\nfinetuning_type: full\ncutoff_len: 1024\npure_bf16: true\n"
        "per_device_train_batch_size: 1\nuse_galore: true\ngalore_layerwise: true\n"
    )
    for rank, meant in (("", 16), ("galore_rank: 128\n", 128)):
        found = read(tmp_path, {"a.yaml": text + rank}, cluster={**H100, "num_gpus": 1})
        said = {"optimizer": "galore-adamw", "optimizer_rank": meant, "optimizer_in_backward": True}
        assert {name: found.tables["job"][name] for name in said} == said
        assert found.not_understood == ()
        planner.plan(**found.tables, explain=False)


def test_what_changes_nothing_is_named(tmp_path: Path) -> None:
    text = "base_model: Qwen/Qwen2.5-7B\nsequence_len: 2048\nmicro_batch_size: 1\nlearning_rate: 1e-5\nwandb_project: a\n"
    found = read(tmp_path, {"a.yaml": text}, cluster={**H100, "num_gpus": 1})
    assert found.ignored == ("learning_rate", "wandb_project")
    assert found.to_dict()["ignored"] == ["learning_rate", "wandb_project"]


def test_torchtitan_steps_in_the_backward_pass(tmp_path: Path) -> None:
    text = """
[model]
name = "llama3"
flavor = "8B"
[training]
local_batch_size = 1
seq_len = 4096
[optimizer]
early_step_in_backward = true
"""
    found = read(tmp_path, {"8b.toml": text}, cluster={**H100, "num_gpus": 8})
    assert found.tables["job"]["optimizer_in_backward"] is True
    assert not found.unmodelled
    assert planner.plan(**found.tables, explain=False).job.optimizer_in_backward


@pytest.mark.parametrize(("command", "expected"), [
    ("vllm serve meta-llama/Llama-3.1-70B-Instruct --tensor-parallel-size 4 --max-model-len 1000 --gpu-memory-utilization 0.95 "
     "--max-num-seqs=128 --enforce-eager -q fp8",
     {"tp": 4, "memory_fraction": 0.95, "max_batch": 128, "weights": "fp8", "engine": "vllm", "prompt": 800, "output": 200,
      "max_context": 1000}),
    ("python3 -m vllm.entrypoints.openai.api_server --model Qwen/Qwen2.5-7B-Instruct -tp 2 --dtype half",
     {"tp": 2, "weights": "fp16", "engine": "vllm", "prompt": 1024, "output": 256}),
    ("python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp 8 --trust-remote-code --enable-dp-attention "
     "--dp 8",
     {"tp": 1, "ep": 8, "engine": "sglang", "prompt": 1024, "output": 256, "dispatcher": "gather"}),
    ("python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp 8 --trust-remote-code --enable-dp-attention "
     "--dp 8 --moe-a2a-backend deepep",
     {"tp": 1, "ep": 8, "engine": "sglang", "prompt": 1024, "output": 256, "dispatcher": "deepep"}),
    ("vllm serve deepseek-ai/DeepSeek-V3 -dp 8 --enable-expert-parallel --all2all-backend deepep_low_latency",
     {"ep": 8, "engine": "vllm", "prompt": 1024, "output": 256, "dispatcher": "deepep"}),
])  # fmt: skip
def test_commands_of_servers(command: str, expected: dict[str, Any], tmp_path: Path) -> None:
    launch = read(tmp_path, {"serve.sh": command}, cluster=H100)
    assert launch.tables["serving"] == expected
    assert launch.serves
    assert not launch.not_understood
    assert any("--enforce-eager" in line for line in launch.unmodelled) == ("enforce-eager" in command)
    serve(**launch.tables)


def test_trainer_arguments_on_a_command_line_with_deepspeed(tmp_path: Path) -> None:
    script = (
        "deepspeed --num_gpus 8 train.py --deepspeed ds.json --model_name_or_path meta-llama/Llama-2-7b-hf --bf16 True "
        "--per_device_train_batch_size 4 --gradient_accumulation_steps 2 --model_max_length 2048 --num_train_epochs 3 "
        "--gradient_checkpointing True --output_dir out --learning_rate 2e-5"
    )
    zero3 = '{"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}}}'
    launch = read(tmp_path, {"train.sh": script, "ds.json": zero3}, cluster=H100)
    assert launch.tables["framework"] == {"name": "deepspeed-zero"}
    assert launch.tables["job"] == {"kind": "finetune", "seq_len": 2048, "global_batch_size": 64, "precision": "bf16"}
    away = {"offload_optimizer": True, "offload_parameters": True}
    assert launch.tables["layout"] == {"zero": 3, **away, "micro_batch_size": 4, "recompute": "full"}
    assert not launch.unmodelled


# --- data -------------------------------------------------------------------------------------------------------------


def test_options_lead_to_fields_that_exist_and_every_file_has_its_source() -> None:
    known = {
        "model": set(Model.model_fields),
        "job": set(Job.model_fields) | {"adapter", "quantization"},
        "layout": set(Layout.model_fields),
        "framework": set(Framework.model_fields),
        "serving": set(Serving.model_fields),
        "cluster": set(Cluster.model_fields),
    }
    said: set[str] = set()
    for form in formats():
        assert form.title
        assert re.search(r"\d", form.release)
        assert re.search(r"https://|/", form.source)
        assert form.programs or form.marks or form.told_by
        for option in form.options.values():
            table, _, name = option.field.partition(".")
            if table == "said":
                said.add(option.field)
            else:
                assert name.partition(".")[0] in known[table], (form.name, option.field)
        assert not set(form.absent) - set(form.options)
    code = "".join(path.read_text() for path in Path(planner.launchfiles.__file__).parent.glob("*.py"))
    unread = {name for name in said if f'"{name}"' not in code}
    assert not unread


@pytest.mark.parametrize("form", [form for form in formats() if form.framework in framework_names()], ids=lambda form: form.name)
def test_what_a_launch_file_moves_to_the_host_its_framework_moves(form: Format) -> None:
    """Else a file that the tool takes is refused."""
    moved = {option.field.partition(".")[2] for option in form.options.values() if option.field.startswith("layout.offload_")}
    have = load_framework(form.framework).features
    either = {"offload_activations"} if "offload_checkpoints" in have else set()
    assert moved <= have | either


def test_torchtune_moves_what_recomputation_keeps(tmp_path: Path) -> None:
    """torchtune's recipes demand enable_activation_checkpointing beside enable_activation_offloading."""
    text = """
tokenizer: {max_seq_len: 4096}
batch_size: 2
gradient_accumulation_steps: 4
optimizer: {_component_: torch.optim.AdamW}
dtype: bf16
enable_activation_checkpointing: True
enable_activation_offloading: True
max_steps_per_epoch: 100
"""
    said: dict[str, Any] = {"model": "llama-3.1-8b", "cluster": {**H100, "num_gpus": 8}}
    found = planner.plan(**read(tmp_path, {"8B_full.yaml": text}, **said).tables, explain=False)
    assert found.layout.offload_activations
    assert found.layout.recompute == "full"
    split = read(tmp_path, {"8B_full.yaml": text + "tensor_parallel_dim: 2\n"}, **said)  # no tensor parallelism is offered
    assert [line.partition(":")[0] for line in split.unmodelled] == ["tensor_parallel_dim = 2"]
    assert planner.plan(**split.tables, explain=False).step_time_s == found.step_time_s
    alone = read(tmp_path, {"8B_full.yaml": text.replace("checkpointing: True", "checkpointing: False")}, **said)
    with pytest.raises(PlannerError, match="moves only what recomputation keeps"):
        planner.plan(**alone.tables, explain=False)


@pytest.mark.parametrize(
    ("builder", "model", "kind"),
    [
        ("llama3_1.llama3_1_8b", "llama-3.1-8b", "finetune"),
        ("llama3.lora_llama3_8b", "llama-3-8b", "lora"),
        ("llama2.qlora_llama2_7b", "llama-2-7b", "qlora"),
        ("qwen2_5.lora_qwen2_5_7b_instruct", "qwen2.5-7b", "lora"),
        ("qwen2.qwen2_1_5b", "qwen2-1.5b", "finetune"),
        ("gemma2.gemma2_9b", "gemma-2-9b", "finetune"),
        ("phi3.lora_phi3_mini", "phi-3-mini", "lora"),
        ("mistral.mistral_7b", "mistral-7b", "finetune"),
    ],
)
def test_a_builder_of_torchtune_says_model_and_method(builder: str, model: str, kind: str, tmp_path: Path) -> None:
    text = f"""
model: {{_component_: torchtune.models.{builder}, lora_rank: 64}}
tokenizer: {{max_seq_len: 2048}}
batch_size: 2
enable_activation_checkpointing: True
"""
    found = read(tmp_path, {"mine.yaml": text}, cluster={**H100, "num_gpus": 1}).tables
    assert (found["model"], found["job"]["kind"]) == ({"name": model}, kind)
    assert found["job"].get("adapter", {}).get("rank") == (None if kind == "finetune" else 64)


def declared(package: str, path: str, *classes: str) -> list[str]:
    """Fields of an installed package's dataclasses, from its source: importing it takes eight seconds."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    body = ast.parse((Path(found.origin).parent / path).read_text(encoding="utf-8")).body
    named = {one.name: one for one in body if isinstance(one, ast.ClassDef)}
    return [str(ast.unparse(x.target)) for name in classes for x in named[name].body if isinstance(x, ast.AnnAssign)]


def test_every_field_of_the_installed_tools_is_in_their_tables() -> None:
    training = declared("transformers", "training_args.py", "TrainingArguments")
    lora = declared("peft", "config.py", "PeftConfigMixin", "PeftConfig") + declared(
        "peft", "tuners/lora/config.py", "LoraConfig"
    )
    assert {"learning_rate", "per_device_train_batch_size"} <= {*training}
    assert {"r", "target_modules", "base_model_name_or_path"} <= {*lora}
    for name, fields in (("transformers", training), ("peft", lora)):
        form = load_format(name)
        known = {*form.options, *form.unmodelled, *form.files}
        assert [one for one in map(plain_name, fields) if one not in known and not form.is_neutral(one)] == []


SFT = "--model Qwen/Qwen2.5-0.5B --per_device_train_batch_size 8 --max_length 1024"


@pytest.mark.parametrize(
    ("command", "stage"),
    [
        (f"trl sft {SFT}", ""),
        (f"accelerate launch --num_processes 1 trl/scripts/sft.py {SFT} --packing --eos_token x", ""),
        (f"trl dpo {SFT}", "stage = dpo"),
        (f"trl grpo {SFT} --num_generations 8", "stage = grpo"),
        (f"python examples/scripts/dpo.py {SFT} --beta 0.1", "stage = dpo"),
        (f"accelerate launch --num_processes 1 -m trl.scripts.reward {SFT}", "stage = rm"),
        (f"python trl/scripts/kto.py {SFT}", "stage = kto"),
        (f"python -m trl.scripts.rloo {SFT} --num_generations 4", "stage = rloo"),
        (f"trl orpo {SFT}", "stage = orpo"),
    ],
)
def test_a_program_of_trl_says_what_it_trains(command: str, stage: str, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text(command)
    launch = read_launch([tmp_path / "run.sh"], cluster={"accelerator": "rtx-4090-24gb", "num_gpus": 1})
    assert "TRL" in launch.tools
    assert launch.tables["job"]["kind"] == "finetune"
    assert not launch.not_understood
    said = " ".join(map(str, launch.unmodelled))
    assert (stage in said) if stage else not said


@pytest.mark.parametrize(
    ("file", "weights", "unknown"),
    [("Meta-Llama-3.1-8B-Instruct-Q4_K_M", "q4_k_m", False), ("llama-3.1-8b-Q8_0", "q8_0", False), ("llama-3.1-8b", None, True)],
)
def test_a_gguf_file_is_read_by_its_name(file: str, weights: str | None, unknown: bool, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text(f"./llama-server -m models/{file}.gguf -c 8192 -ngl 99")
    launch = read_launch([tmp_path / "run.sh"], cluster={"accelerator": "rtx-4090-24gb", "num_gpus": 1})
    assert launch.tables["model"] == {"name": "llama-3.1-8b"}
    assert launch.tables["serving"].get("weights") == weights
    assert ("give serving.weights" in " ".join(map(str, launch.unmodelled))) == unknown


@pytest.mark.parametrize(("keys", "stage"), [
    ("beta: 0.1\nmax_length: 1024", "dpo"), ("beta: 0.1\nmax_length: 1024\ndesirable_weight: 1.0", "kto"),
    ("num_generations: 8\nbeta: 0.0", "grpo"), ("dataset_name: x\nmax_length: 1024", ""),
])  # fmt: skip
def test_a_configuration_of_trl_says_what_it_trains(keys: str, stage: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"model_name_or_path: Qwen/Qwen2.5-0.5B\nper_device_train_batch_size: 2\n{keys}\n")
    launch = read_launch(
        [tmp_path / "x.yaml"], cluster={"accelerator": "rtx-4090-24gb", "num_gpus": 1}, over={"job.seq_len": 1024}
    )
    assert [f"stage = {stage}" in text for text in map(str, launch.unmodelled) if text.startswith("stage")] == [True] * bool(
        stage
    )


@pytest.mark.parametrize(("command", "served", "words"), [
    ("python -m swift.cli.rlhf --rlhf_type dpo --model Qwen/Qwen2.5-7B", False, "--framework ms-swift"),
    ("swift rlhf --rlhf_type dpo --model Qwen/Qwen2.5-7B", False, "--framework ms-swift"),
    ("swift rlhf --rlhf_type grpo --model Qwen/Qwen2.5-7B", True, "--framework ms-swift"),
    ("deepspeed --module openrlhf.cli.train_sft --max_len 4096", False, "OpenRLHF"),
    ("deepspeed --module openrlhf.cli.train_ppo --max_len 4096", True, "OpenRLHF"),
    ("python3 -m verl.trainer.main_ppo data.train_batch_size=1024", True, "verl"),
    ("torchrun -m verl.trainer.fsdp_sft_trainer", False, "verl"),
])  # fmt: skip
def test_answers_are_asked_for_where_a_tool_generates_them(command: str, served: bool, words: str, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text(command)
    with pytest.raises(PlannerError) as raised:
        read_launch([tmp_path / "run.sh"], cluster={"accelerator": "h100-sxm5-80gb", "num_gpus": 8})
    assert words in str(raised.value)
    assert ("planner serve" in str(raised.value)) == served
    assert "planner plan MODEL --finetune" in str(raised.value)


@pytest.mark.parametrize("name", ["q5.gguf", "Q5.GGUF"])
def test_a_gguf_file_beside_the_script_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(gguf({**LLAMA_3_8B, "general.file_type": 17}, ["token_embd.weight", "output.weight"]))
    (tmp_path / "run.sh").write_text(f"llama-server -m ./{name} -c 4096 -ngl 99")
    launch = read_launch([tmp_path / "run.sh"], cluster={"accelerator": "rtx-4090-24gb", "num_gpus": 1})
    assert launch.tables["model"] == {"config": str(tmp_path / name)}
    assert load_model(launch.tables["model"]["config"]).stored_weights == "q5_k_m"
    assert not launch.unmodelled


def test_the_image_of_vllm_starts_it(tmp_path: Path) -> None:
    image = "docker run --gpus all -p 8000:8000 vllm/vllm-openai:v0.11.0 --model Qwen/Qwen2.5-32B -tp 2"
    (tmp_path / "run.sh").write_text(image)
    launch = read_launch([tmp_path / "run.sh"], cluster={"accelerator": "a100-sxm4-80gb", "num_gpus": 2})
    assert (launch.tables["model"], launch.tables["serving"]["tp"]) == ({"name": "qwen2.5-32b"}, 2)


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("files", "said", "words"), [
    ({"run.sh": "echo hello\n"}, {}, "no supported tool is started in it"),
    ({"run.sh": "python3 -m verl.trainer.main_ppo data.train_batch_size=1024"}, {"cluster": H100}, "starts verl"),
    ({"run.sh": "deepspeed --module openrlhf.cli.train_sft --max_len 4096"}, {"cluster": H100}, "starts OpenRLHF"),
    ({"x.json": "{"}, {}, "not valid JSON"),
    ({"x.yaml": "a: [1"}, {}, "not valid YAML"),
    ({"x.yaml": "- 1\n- 2"}, {}, "holds no table"),
    ({"x.json": '{"a": 1}'}, {}, "no supported tool has these keys"),
    ({"run.sh": MEGATRON}, {}, "on which GPUs"),
    ({"run.sh": MEGATRON}, {"cluster": {**H100, "num_gpus": 12}}, "does not divide 12 GPUs"),
    ({"run.sh": "vllm serve nobody/knows-this --port 1"}, {"cluster": H100}, "is not in the catalog"),
    ({"run.sh": "vllm serve $MODEL --port 1"}, {"cluster": H100}, "which model"),
    ({"t.toml": TITAN.replace("seq_len = 8192", "")}, {"cluster": {**H100, "num_gpus": 256}}, "job.seq_len is missing"),
    ({"t.toml": TITAN.replace("= 8\ns", "= 'x'\ns")}, {"cluster": {**H100, "num_gpus": 256}}, "local batch = 'x'"),
    ({"run.sh": "# planner: job.seq_len = four\nvllm serve x"}, {"cluster": H100}, "the value must be as in TOML"),
])  # fmt: skip
def test_what_is_missing_or_wrong_is_said(files: dict[str, str], said: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match=re.escape(words)):
        read(tmp_path, files, **said)


GOOD = {
    "run.sh": MEGATRON,
    "t.toml": TITAN,
    "q.yml": AXOLOTL,
    "z.json": ZERO2,
    "v.sh": "vllm serve Qwen/Qwen2.5-7B -tp 2 --dtype half",
}
PIECES = st.sampled_from(
    [
        "$(",
        "${",
        "$((1/0))",
        '"',
        "'",
        "[",
        "{",
        "]]",
        "\n",
        "\\",
        "&a *a",
        "!!python/object:x",
        "-1",
        "1e999",
        "9" * 30,
        "null",
        "\x00",
        "é",
        "auto",
        "- -",
        ": ",
        "<<EOF\n",
        "#",
        "true",
        "--",
        "=",
        "A=$A$A",
        "0",
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_spoiled_files_are_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    name = data.draw(st.sampled_from(sorted(GOOD)))
    text = GOOD[name]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(PIECES) + text[at + cut :]
    try:
        launch = read(tmp_path, {name: text}, cluster={**H100, "num_gpus": 64})
        json.dumps(launch.to_dict())
        if not launch.serves:
            planner.plan(**launch.tables, explain=False)
    except PlannerError:
        pass


def test_expansion_has_an_end() -> None:
    bomb = "A=xxxxxxxxxx\n" + 'A="$A$A$A$A$A$A$A$A"\n' * 30
    with pytest.raises(PlannerError, match="is not read"):
        read_script(bomb)


# --- command line -----------------------------------------------------------------------------------------------------


def test_plan_from_files_shows_what_it_understood_and_writes_a_scenario(run: Run, tmp_path: Path) -> None:
    (script,) = written(tmp_path, {"run.sh": MEGATRON})
    code, out, _ = run("plan", "--from", script, "--on", "h100", "--write", tmp_path / "mine.toml")
    assert code == 0
    assert 'name = "llama-3-8b"' in out
    assert "--delay-wgrad-compute" in out
    assert "--frobnicate" in out
    assert max(map(len, out.splitlines())) <= 80
    code, first, _ = run("plan", "--from", script, "--on", "h100", "--json")
    assert code == 0
    code, second, _ = run("plan", tmp_path / "mine.toml", "--json")
    assert code == 0
    assert json.loads(first)["step_time_s"] == json.loads(second)["step_time_s"]
    assert json.loads(first)["launch"]["not_understood"] == ["--frobnicate = 3 (run.sh)"]
    code, third, _ = run("plan", "--from", script, "--on", "h100", "--json", "--set", "job.precision=bf16", "--seq-len", "4k")
    assert json.loads(third)["job"]["precision"] == "bf16"
    assert json.loads(third)["job"]["seq_len"] == 4096


def test_plan_from_a_server_answers_as_serve_does(run: Run, tmp_path: Path) -> None:
    (script,) = written(tmp_path, {"v.sh": GOOD["v.sh"]})
    code, out, _ = run("plan", "--from", script, "--on", "h100", "--write", tmp_path / "mine.toml", "--json")
    assert code == 0
    code, again, _ = run("serve", tmp_path / "mine.toml", "--json")
    assert code == 0
    assert json.loads(again)["cases"][0]["tpot_s"] == json.loads(out)["tpot_s"]
    code, _, err = run("plan", "--from", script, "--on", "h100", "--details")
    assert (code, "of training" in err) == (2, True)


@pytest.mark.parametrize(("name", "command"), [("bert-3x-rtx-3070", "plan"), ("serving/chatlaw2-moe", "serve")])
def test_a_scenario_is_no_launch_file(run: Run, name: str, command: str) -> None:
    path = scenario_path(name)
    assert f"{path}: is a scenario, not a launch file; `planner {command} {path}` answers it." in run("plan", "--from", path)[2]


def test_several_files_and_a_model_beside_them(run: Run, tmp_path: Path) -> None:
    (ds,) = written(
        tmp_path,
        {"ds.json": '{"train_micro_batch_size_per_gpu": 2, "zero_optimization": {"stage": 3}, "bf16": {"enabled": true}}'},
    )
    code, out, _ = run("plan", "llama-3.2-1b", "--from", ds, "--on", "8xh100", "--seq-len", "2048", "--json")
    assert code == 0
    assert json.loads(out)["layout"]["zero"] == 3
    code, _, err = run("plan", "llama-3.2-1b", "gpt2", "--from", ds, "--on", "8xh100")
    assert (code, "give one model" in err) == (2, True)
    code, _, err = run("plan", "--from", ds, "--on", "8xh100", "--lora")
    assert (code, "a launch file says it itself" in err) == (2, True)
    code, _, err = run("plan")
    assert (code, "Missing argument" in err) == (2, True)


@pytest.mark.parametrize(("length", "tokens"), [("1k", 1000), ("1K", 1024), ("1.1k", 1100), ("1200", 1200)])
def test_lengths_as_vllm_writes_them(length: str, tokens: int, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "serve.sh"
    file.write_text(f"vllm serve meta-llama/Llama-3.1-8B --max-model-len {length}")
    code, text, _ = run("serve", "--from", str(file), "--on", "rtx-4090")
    assert code == 0
    assert f"prompt = {tokens * 4 // 5}\n" in text
    for wrong in ("abc", "1.5K", "-1k"):
        file.write_text(f"vllm serve meta-llama/Llama-3.1-8B --max-model-len {wrong}")
        code, _, error = run("serve", "--from", str(file), "--on", "rtx-4090")
        assert code == 2
        assert f"--max-model-len = '{wrong}'" in error


CONTEXTS = {
    "vllm serve meta-llama/Llama-3.1-8B --max-model-len 16384": "--max-model-len = 16384",
    "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B --context-length 16384": "--context-length = 16384",
    "trtllm-serve meta-llama/Llama-3.1-8B --max_seq_len 16384": "--max_seq_len = 16384",
    "llama-server -hf ggml-org/Meta-Llama-3.1-8B-Instruct-GGUF -c 65536 --parallel 4": "-c = 65536",
}


@pytest.mark.parametrize("command", CONTEXTS)
@pytest.mark.parametrize("table", ["serving", "load"])
def test_a_request_beyond_the_servers_context_is_refused(command: str, table: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "serve.sh"
    file.write_text(command)
    asked = ("serve", "--from", str(file), "--on", "4xh100", "--set")
    code, text, error = run(*asked, f"{table}.prompt=16384")
    assert (code, text) == (2, "")
    assert f"{CONTEXTS[command]}: lets a request have 16,384 tokens, and prompt and output have at least 16,385" in error
    code, _, error = run(*asked, f"{table}.prompt=16000", "--set", f"{table}.output=385")
    assert (code, "at least 16,385" in error) == (2, True)
    for prompt, said, output in ((16000, 384, 384), (16000, None, 256), (16383, None, 1), (1000, None, 256)):
        more = () if said is None else ("--set", f"{table}.output={said}")
        code, text, _ = run(*asked, f"{table}.prompt={prompt}", *more)
        assert code == 0
        assert re.search(rf"^  prompt = {prompt}$", text, re.MULTILINE)
        assert re.search(rf"^  output = {output}$", text, re.MULTILINE)


def test_the_longest_requests_beyond_the_servers_context_are_told_of(tmp_path: Path) -> None:
    files = {"serve.sh": "vllm serve meta-llama/Llama-3.1-8B --max-model-len 8192"}
    for high, told in ((9000, True), (8092, False)):
        long = {"serving.prompt": {"kind": "uniform", "low": 100, "high": high}, "serving.output": 100}
        tables = read(tmp_path, files, cluster=H100, over=long).tables
        warnings = serve(**tables).warnings
        assert told == any("serving.max_context = 8192: the longest requests have 9,100 tokens" in line for line in warnings)


@pytest.mark.parametrize("command", CONTEXTS)
def test_a_scenario_of_a_server_refuses_what_the_server_refuses(command: str, run: Run, tmp_path: Path) -> None:
    """The limit is written with the scenario, bounds what the answer says fits, and stands in what is exported again."""
    (tmp_path / "serve.sh").write_text(command)
    scenario = tmp_path / "asked.toml"
    assert run("plan", "--from", str(tmp_path / "serve.sh"), "--on", "4xh100", "--write", str(scenario))[0] == 0
    code, text, _ = run("serve", str(scenario), "--json")
    case = json.loads(text)["cases"][0]
    assert (code, case["max_context"], case["max_context_bound"]) == (0, 16384, "serving.max_context")
    code, _, error = run("serve", str(scenario), "--set", "serving.prompt=16384")
    assert (code, "serving.max_context = 16384: prompt and output have 16,640 tokens" in error) == (2, True)


def test_a_context_bounds_the_prompt_alone_where_vectors_are_made(tmp_path: Path) -> None:
    files = {"serve.sh": "vllm serve BAAI/bge-m3 --max-model-len 4096"}
    assert read(tmp_path, files, cluster=H100, over={"serving.prompt": 4096}).tables["serving"]["prompt"] == 4096
    with pytest.raises(PlannerError, match="have at least 4,097"):
        read(tmp_path, files, cluster=H100, over={"serving.prompt": 4097})


@pytest.mark.parametrize("option", ["-hf", "-hfr", "--hf-repo"])
@pytest.mark.parametrize(("quant", "weights"), [(":Q8_0", "q8_0"), (":Q4_K_M", "q4_k_m"), ("", "q4_k_m")])
def test_a_repository_of_llama_server_is_its_model(option: str, quant: str, weights: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "serve.sh"
    file.write_text(f"llama-server {option} bartowski/Meta-Llama-3.1-8B-Instruct-GGUF{quant}")
    code, text, error = run("serve", "--from", str(file), "--on", "rtx-4090")
    assert code == 0, error
    assert 'name = "llama-3.1-8b"' in text
    assert f'weights = "{weights}"' in text


@pytest.mark.parametrize("words", [
    "torchrun --nproc_per_node $N run_clm.py --model_name_or_path gpt2 --per_device_train_batch_size 4",
    "srun python run_clm.py --model_name_or_path gpt2 --per_device_train_batch_size 4",
    "deepspeed run_clm.py --model_name_or_path gpt2 --per_device_train_batch_size 4",
    "python pretrain_gpt.py --num-layers 4 --hidden-size 512 --num-attention-heads 8 --seq-length 512 --num-experts 8 "
    "--expert-model-parallel-size 4 --micro-batch-size 1",
])  # fmt: skip
def test_a_file_that_starts_several_ranks_is_not_of_one_gpu(tmp_path: Path, words: str) -> None:
    with pytest.raises(PlannerError, match="on how many GPUs"):
        read(tmp_path, {"launch.sh": words}, cluster={"accelerator": "h100-sxm5-80gb"}, over={"model.vocab_size": 50304})


def test_no_option_of_a_table_that_is_not_modelled_is_said_to_change_nothing() -> None:
    """A pattern of several tables may hold such a key, which is then told of all the same."""
    for form in formats():
        below = [one for one in form.neutral if any(one.startswith(f"{key}.") for key in form.unmodelled)]
        assert below == [], form.name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "megatron",
            "cpu-offloading context-parallel-algo extra-vocab-size pad-vocab-size-to-multiple no-position-embedding "
            "no-async-tensor-model-parallel-allreduce ddp-impl use-rotary-position-embeddings",
        ),
        ("llama-factory", "freeze-trainable-layers image-max-pixels video-maxlen galore-update-interval"),
        ("axolotl", "s2-attention xformers-attention pad-to-sequence-len"),
        ("llm-foundry", "compile-config.mode"),
    ],
)
def test_what_changes_memory_or_time_is_not_said_to_change_neither(name: str, options: str) -> None:
    form = load_format(name)
    assert [one for one in options.split() if form.is_neutral(one)] == []


def test_rotary_positions_by_megatrons_older_options(tmp_path: Path) -> None:
    """Its arguments.py: --use-rotary-position-embeddings is --position-embedding-type rope."""
    text = (
        "torchrun --nproc-per-node 8 pretrain_gpt.py --num-layers 4 --hidden-size 512 --num-attention-heads 8 --seq-length 512 "
        "--max-position-embeddings 512 --micro-batch-size 1 --global-batch-size 8 --vocab-size 1024 {0}\n"
    )
    found = {}
    for said in ("", "--no-position-embedding", "--no-position-embedding --use-rotary-position-embeddings"):
        (tmp_path / "run.sh").write_text(text.format(said))
        found[said] = read_launch([tmp_path / "run.sh"], cluster={"accelerator": "h100-sxm5-80gb"}).tables["model"]
    assert [one["position_embedding"] for one in found.values()] == ["learned", "none", "rotary"]


def test_a_table_that_is_not_modelled_is_told_of_once(tmp_path: Path) -> None:
    text = (
        "max_seq_len: 512\nglobal_train_batch_size: 8\ndevice_train_microbatch_size: 1\nmodel: {n_layers: 4, d_model: 512, "
        "n_heads: 8}\ncompile_config: {mode: max-autotune, dynamic: false}\n"
    )
    (tmp_path / "a.yaml").write_text(text)
    found = read_launch([tmp_path / "a.yaml"], cluster={"accelerator": "h100-sxm5-80gb", "num_gpus": 8})
    assert len([line for line in found.unmodelled if "torch.compile" in line]) == 1
    assert not any("compile_config" in line for line in found.not_understood)
    assert found.tables["model"]["vocab_size"] == 50368  # configuration_mpt.py


@pytest.mark.parametrize(("precision", "framework"), [("bf16", "transformers-fsdp"), ("fp8", "fsdp")])
def test_fsdp_of_the_trainer_is_that_which_has_the_precision(precision: str, framework: str, tmp_path: Path) -> None:
    text = f"accelerate launch --use_fsdp --mixed_precision {precision} --num_processes 8 train.py --model_name_or_path "
    (tmp_path / "run.sh").write_text(f"{text}gpt2 --per_device_train_batch_size 1 --max_length 512\n")
    found = read_launch([tmp_path / "run.sh"], cluster={"accelerator": "h100-sxm5-80gb"}, over={"job.seq_len": 512})
    assert found.tables["framework"]["name"] == framework
    assert precision != "fp8" or "fp8" in load_framework(framework).features


def test_galore_without_a_rank_has_llama_factorys(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model_name_or_path: gpt2\nfinetuning_type: full\nuse_galore: true\ncutoff_len: 512\n")
    cluster = {"accelerator": "h100-sxm5-80gb", "num_gpus": 1}
    assert read_launch([tmp_path / "a.yaml"], cluster=cluster, over={"job.seq_len": 512}).tables["job"]["optimizer_rank"] == 16
