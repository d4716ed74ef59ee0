"""Exported files: every option is one that the stack documents, and the stacks' own parsers take them where they install."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from places import DATA, PATIENCE_S

import planner
from planner.common.errors import PlannerError
from planner.export import STACKS, export_plan
from planner.export.common import tool_of
from planner.training.plan import Plan
from planner.workload.framework import load_framework

OPTIONS = DATA / "megatron_options.txt"


def plan(model: Any = "llama-3-8b", framework: Any = "megatron-core", nodes: int = 4, job: Any = None, **layout: Any) -> Plan:
    return planner.plan(
        model=model,
        cluster={"node": "dgx-h100", "num_nodes": nodes},
        framework=framework,
        job={"seq_len": 4096, "global_batch_size": 128, "num_steps": 500, **(job or {})},
        layout=layout,
    )


def megatron(answer: Plan) -> argparse.Namespace:
    """Parse the exported arguments as Megatron-LM declares them."""
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    for line in OPTIONS.read_text().splitlines():
        if line.startswith("--"):
            name, kind = line.split()
            if kind == "flag":
                parser.add_argument(name, action="store_true")
            elif "|" in kind:
                parser.add_argument(name, choices=kind.split("|"))
            else:
                parser.add_argument(name, type={"int": int, "float": float, "text": str}[kind])
    words = shlex.split(export_plan(answer, "megatron")["launch.sh"].replace("\\\n", " "), comments=True)
    return parser.parse_args(words[words.index("pretrain_gpt.py") + 1 : words.index("$@")])


def parsed_by(code: str, folder: Path, files: dict[str, str]) -> Any:
    """What a stack's own parser, in a process of its own, prints as JSON on the last line."""
    for name, text in files.items():
        (folder / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


# --- Megatron-LM ------------------------------------------------------------------------------------------------------


def test_megatron_takes_every_option_and_reads_the_layout_back() -> None:
    found = megatron(plan(tp=2, sequence_parallel=True, pp=4, vpp=2, cp=2, zero=1, micro_batch_size=2, recompute="full"))
    assert (found.tensor_model_parallel_size, found.pipeline_model_parallel_size, found.context_parallel_size) == (2, 4, 2)
    assert (found.num_virtual_stages_per_pipeline_rank, found.micro_batch_size, found.global_batch_size) == (2, 2, 128)
    assert found.sequence_parallel
    assert found.use_distributed_optimizer
    assert (found.recompute_granularity, found.recompute_method, found.recompute_num_layers) == ("full", "uniform", 1)
    assert (found.num_layers, found.num_query_groups, found.train_iters) == (32, 8, 500)
    assert found.bf16
    assert not found.fp16


def test_megatron_takes_experts_latent_attention_fp8_and_partial_sharding() -> None:
    found = megatron(
        plan(
            "deepseek-v3",
            nodes=128,
            tp=4,
            sequence_parallel=True,
            pp=16,
            ep=32,
            etp=1,
            zero=1,
            recompute="full",
            job={"precision": "fp8", "global_batch_size": 4096},
        )
    )
    assert (found.expert_model_parallel_size, found.expert_tensor_parallel_size, found.num_experts) == (32, 1, 256)
    assert (found.moe_router_topk, found.moe_ffn_hidden_size, found.moe_shared_expert_intermediate_size) == (8, 2048, 2048)
    assert found.moe_layer_freq == "([0]*3+[1]*58)"
    assert (found.kv_lora_rank, found.qk_head_dim, found.qk_pos_emb_head_dim, found.v_head_dim) == (512, 128, 64, 128)
    assert (found.fp8_format, found.fp8_recipe) == ("hybrid", "tensorwise")
    # 61 layers in 16 chunks: the first and the last lighter, as planned
    sizes = [int(part.strip("EL").removeprefix("t*")) for part in found.pipeline_model_parallel_layout.split("|")]
    assert sum(sizes) == 61
    assert sizes[0] <= min(sizes[1:-1])
    split = megatron(plan(tp=2, zero=1, shard_group_size=4))
    assert split.num_distributed_optimizer_instances == 4


def test_megatron_says_offload_selective_recompute_and_fp16() -> None:
    found = megatron(plan(zero=1, offload_optimizer=True, offload_activations=True, job={"precision": "fp16"}))
    assert found.optimizer_cpu_offload
    assert found.use_precision_aware_optimizer
    assert found.cpu_offloading_num_layers == 31
    assert found.fp16
    selective = megatron(plan(tp=2, zero=1, recompute="selective"))
    assert (selective.recompute_granularity, selective.recompute_modules) == ("selective", "core_attn")


def test_every_script_carries_the_prediction() -> None:
    answer = plan(tp=2, zero=1)
    text = export_plan(answer, "megatron")["launch.sh"]
    assert f"{answer.step_time_s:.4g} s a step" in text
    assert answer.layout.label in text
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- NeMo -------------------------------------------------------------------------------------------------------------


def test_nemo_overrides_are_fields_of_megatron_core(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    answer = plan("mixtral-8x7b", tp=2, sequence_parallel=True, pp=2, vpp=4, ep=4, zero=1, recompute="selective")
    files = export_plan(answer, "nemo")
    config = yaml.safe_load(files["overrides.yaml"])
    assert config["model"]["expert_model_parallel_size"] == 4
    assert config["train"] == {"micro_batch_size": 1, "global_batch_size": 128, "train_iters": 500}
    pytest.importorskip("megatron.core", reason="Megatron-Core is not installed: pip install megatron-core")
    code = """
import dataclasses, json, yaml
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.distributed import DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig
config = yaml.safe_load(open("overrides.yaml"))
model = {k: v for k, v in config["model"].items() if k != "seq_length"}  # of Megatron-Bridge's model provider
made = TransformerConfig(num_layers=32, hidden_size=4096, num_attention_heads=32, num_moe_experts=8, bf16=True,
                         add_bias_linear=False, pipeline_dtype="bf16", **model)
DistributedDataParallelConfig(**config["ddp"])
OptimizerConfig(**config["optimizer"])
print(json.dumps([made.tensor_model_parallel_size, made.recompute_modules]))
"""
    assert parsed_by(code, tmp_path, files) == [2, ["core_attn"]]


# --- DeepSpeed --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_deepspeed_reads_its_configuration(zero: int, tmp_path: Path) -> None:
    answer = plan("llama-3.2-1b", "deepspeed-zero", zero=zero, micro_batch_size=2, offload_optimizer=zero > 0, recompute="full")
    files = export_plan(answer, "deepspeed")
    config = json.loads(files["ds_config.json"])
    assert config["train_batch_size"] == 128 == 2 * 32 * config["gradient_accumulation_steps"]
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: DS_BUILD_OPS=0 pip install deepspeed")
    code = """
import json
import deepspeed.runtime.config as module
module.dist.get_world_size = lambda *_: 32
module.dist.get_rank = lambda *_: 0
c = module.DeepSpeedConfig(json.load(open("ds_config.json")))
away = c.zero_config.offload_optimizer
print(json.dumps([int(c.zero_optimization_stage), c.train_micro_batch_size_per_gpu, bool(away and away.device == "cpu")]))
"""
    assert parsed_by(code, tmp_path, files) == [zero, 2, zero > 0]


# --- torchtitan -------------------------------------------------------------------------------------------------------


def test_torchtitan_reads_its_arguments(tmp_path: Path) -> None:
    answer = plan(framework="fsdp", tp=2, sequence_parallel=True, pp=2, vpp=2, cp=2, zero=3, shard_group_size=4, recompute="full")
    files = export_plan(answer, "torchtitan")
    assert "--module llama3" in files["launch.sh"]
    pytest.importorskip("torchtitan", reason="torchtitan is not installed: pip install torchtitan")
    code = """
import dataclasses, json, shlex, tyro
from torchtitan.config.configs import ParallelismConfig, TrainingConfig
from torchtitan.distributed.activation_checkpoint import ActivationCheckpointingConfig, FullAC, SelectiveAC
@dataclasses.dataclass
class Config:  # the parts of Trainer.Config that are set; the whole imports triton, which needs a GPU build
    training: TrainingConfig
    parallelism: ParallelismConfig
    activation_checkpoint: ActivationCheckpointingConfig
words = shlex.split(open("launch.sh").read().replace("\\\\\\n", " "), comments=True)
words = [w for w in words[words.index("--config") + 2:] if w != "$@"]
c = tyro.cli(Config, args=words, default=Config(TrainingConfig(), ParallelismConfig(), SelectiveAC.Config()))
p = c.parallelism
world = (p.data_parallel_replicate_degree * p.data_parallel_shard_degree * p.tensor_parallel_degree
         * p.pipeline_parallel_degree * p.context_parallel_degree)
print(json.dumps([world, p.data_parallel_replicate_degree, p.enable_sequence_parallel, p.fsdp_reshard_after_forward,
                  p.pipeline_parallel_schedule, c.training.global_batch_size,
                  isinstance(c.activation_checkpoint, FullAC.Config)]))
"""
    assert parsed_by(code, tmp_path, files) == [32, 2, True, "always", "Interleaved1F1B", 128, True]


# --- Accelerate -------------------------------------------------------------------------------------------------------


def test_accelerate_reads_its_configuration(tmp_path: Path) -> None:
    answer = plan(framework="fsdp", zero=2, cp=2, micro_batch_size=2, recompute="full")
    files = export_plan(answer, "accelerate-fsdp")
    assert "--gradient_accumulation_steps 4" in files["launch.sh"]
    pytest.importorskip("accelerate", reason="Accelerate is not installed: pip install accelerate")
    code = """
import json
from accelerate.commands.config.config_args import load_config_from_file
c = load_config_from_file("accelerate.yaml")
print(json.dumps([c.num_processes, c.num_machines, c.mixed_precision, c.fsdp_config["fsdp_reshard_after_forward"],
                  c.parallelism_config["parallelism_config_dp_shard_size"], c.parallelism_config["parallelism_config_cp_size"]]))
"""
    assert parsed_by(code, tmp_path, files) == [32, 4, "bf16", False, 16, 2]


def test_a_tool_is_named_in_any_case_and_marks_or_by_its_software() -> None:
    frameworks = {name: frameworks for name, (_, frameworks) in STACKS.items()}
    for written, tool in (
        ("Megatron-LM", "megatron"),
        ("FSDP", "accelerate-fsdp"),
        ("Torch_Titan", "torchtitan"),
        ("NeMo", "nemo"),
    ):
        assert tool_of(written, frameworks) == tool
    assert {tool_of(name.upper().replace("-", "_"), frameworks) for name in STACKS} == set(STACKS)
    assert tool_of("colossal", frameworks) == "colossal"
    assert tool_of("megatronlm2", frameworks) == "megatronlm2"  # no release that files are written for


# --- refusals ---------------------------------------------------------------------------------------------------------

M, Z, F, D = "megatron-core", "megatron-zero-bubble", "fsdp", "deepspeed-zero"


@pytest.mark.parametrize(
    ("stack", "framework", "changes", "message"),
    [
        ("colossal", M, {}, "export to 'colossal': must be one of "), ("megatron", F, {"zero": 3}, "the plan was made for fsdp"),
        ("torchtitan", M, {}, "the plan was made for megatron-core"),
        ("megatron", M, {"model": "gpt3-175b", "nodes": 1, "zero": 1, "job": {"seq_len": 2048}}, "the plan does not fit"),
        ("megatron", Z, {"pp": 4, "schedule": "zero-bubble", "zero": 1}, "zero-bubble"),
        ("megatron", M, {"zero": 1, "job": {"optimizer": "adamw-8bit"}}, "job.optimizer = 'adamw-8bit'"),
        ("megatron", M, {"zero": 1, "job": {"precision": "bf16-pure"}}, "has no option"),
        ("megatron", M, {"zero": 1, "model": "mistral-7b"}, "sliding_window"),
        ("megatron", M, {"zero": 1, "model": "bert-large", "job": {"seq_len": 512}}, "trains decoders"),
        ("nemo", M, {"model": "llama-3.2-1b", "zero": 1, "job": {"precision": "fp32"}}, "has no recipe"),
        ("nemo", Z, {"pp": 4, "schedule": "zero-bubble", "zero": 1}, "zero-bubble"),
        ("deepspeed", D, {"model": "llama-3.2-1b", "zero": 1, "shard_group_size": 8}, "shard_group_size = 8 cannot"),
        ("deepspeed", D, {"model": "llama-3.2-1b", "zero": 1, "job": {"optimizer": "sgd"}}, "use adamw"),
        ("torchtitan", F, {"model": "llama-2-7b", "zero": 3}, "no registered configuration"),
        ("torchtitan", F, {"zero": 3, "recompute": "selective"}, "attention core"),
        ("torchtitan", F, {"zero": 3, "offload_activations": True}, "offload_activations = True cannot"),
        ("torchtitan", F, {"zero": 3, "job": {"precision": "fp16"}}, "model converter"),
        ("torchtitan", F, {"zero": 3, "tp": 8, "cp": 4, "shard_group_size": 2}, "must hold all cp = 4"),
        ("accelerate-fsdp", F, {"zero": 3, "pp": 2}, "layout.pp = 2 cannot be expressed"),
        ("accelerate-fsdp", F, {"zero": 3, "tp": 2, "sequence_parallel": True}, "sequence_parallel = True cannot"),
        ("accelerate-fsdp", F, {"zero": 3, "offload_activations": True}, "offload_activations cannot"),
    ],
)  # fmt: skip
def test_what_a_stack_cannot_do_is_an_error(stack: str, framework: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlannerError, match=message):
        export_plan(plan(**{"framework": framework, **changes}), stack)


def test_every_stack_is_covered() -> None:
    assert set(STACKS) == {"megatron", "deepspeed", "torchtitan", "accelerate-fsdp", "nemo"}


# --- command line -----------------------------------------------------------------------------------------------------


def test_export_command_prints_or_writes(run: Run, scenario: Any, tmp_path: Path) -> None:
    code, text, _ = run("export", scenario(), "--to", "megatron")
    assert code == 0
    assert "--tensor-model-parallel-size 2" in text
    code, out, err = run("export", scenario(), "--to", "nemo", "--out", tmp_path)
    assert (code, out) == (0, "")
    assert "wrote" in err
    assert "tensor_model_parallel_size: 2" in (tmp_path / "overrides.yaml").read_text()
    assert run("export", scenario(), "--to", "megatron", "--out", tmp_path / "made")[0] == 0
    assert list((tmp_path / "made").iterdir())
    code, _, err = run("export", scenario(), "--to", "megatron", "--out", tmp_path / "no" / "such")
    assert code == 2
    assert "does not exist" in err
    code, _, err = run("export", scenario(), "--to", "megatron", "--out", tmp_path / "overrides.yaml")
    assert (code, "is a file" in err) == (2, True)


def test_a_row_of_a_search_can_be_exported(run: Run, scenario: Any, tmp_path: Path) -> None:
    for suffix in ("parquet", "csv", "json"):
        rows = tmp_path / f"rows.{suffix}"
        code, text, _ = run("search", scenario(), "--gpus", "16", "--top", "3", "--out", rows, "--json")
        assert code == 0
        third = json.loads(text)["rows"][2]
        code, text, err = run("export", scenario(), "--to", "megatron", "--rows", rows, "--rank", "3")
        assert code == 0, err
        assert f"--tensor-model-parallel-size {third['tp']}" in text
        assert f"--micro-batch-size {third['micro_batch_size']}" in text
        assert f"{third['step_time_s']:.4g} s a step" in text
    code, _, err = run("export", scenario(), "--to", "megatron", "--rows", rows, "--rank", "9999")
    assert code == 2
    assert "--rank 9999" in err
    assert "its ranks are 1 to" in err
    code, _, err = run("export", scenario(), "--to", "megatron", "--rank", "2")
    assert (code, "belongs to --rows" in err) == (2, True)


@pytest.mark.parametrize("framework", ["torchtitan", "automodel"])
def test_what_a_launcher_cannot_write_is_no_feature_of_its_framework(framework: str) -> None:
    """torchtitan's configuration moves no activations, so no plan of it is recommended that does."""
    stack = load_framework(framework)
    assert not {"offload_activations", "offload_checkpoints"} & stack.features
    assert {"offload_activations", "offload_checkpoints"} <= stack.by_hand  # answered where a layout names it
