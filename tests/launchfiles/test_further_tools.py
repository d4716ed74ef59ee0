"""ms-swift's commands, Megatron-Bridge's recipes, torchtitan's later configurations, tags of containers, experts of GPT-NeoX."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from command_line import Run

import planner
from planner.common.errors import PlannerError
from planner.common.spec import read_table
from planner.hardware.asked import accelerator_named
from planner.launchfiles import Launch, read_launch
from planner.launchfiles.formats import CATALOG, formats, load_format
from planner.launchfiles.training import OF_LAYOUT
from planner.workload.layout import Layout

H100 = {"accelerator": "h100-sxm5-80gb"}


def read(folder: Path, text: str, name: str = "run.sh", **cluster: Any) -> Launch:
    (folder / name).write_text(text)
    return read_launch([folder / name], cluster={**H100, **cluster})


# --- ms-swift ---------------------------------------------------------------------------------------------------------


def test_a_whole_model_under_a_stage_that_ms_swift_ships(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "NPROC_PER_NODE=8 swift sft --model Qwen/Qwen2.5-32B --train_type full --torch_dtype bfloat16 --max_length 8192 "
        "--packing true --gradient_accumulation_steps 2 --deepspeed zero3_offload --use_liger_kernel true --max_steps 10",
    )
    assert (found.tools, found.not_understood, found.unmodelled) == (("ms-swift",), (), ())
    assert found.tables["model"] == {"name": "qwen2.5-32b"}
    assert found.tables["framework"] == {"name": "deepspeed-zero", "liger": True}
    assert found.tables["cluster"]["num_gpus"] == 8
    layout = {"micro_batch_size": 1, "zero": 3, "offload_optimizer": True, "offload_parameters": True, "recompute": "full"}
    assert found.tables["layout"] == layout
    job = found.tables["job"]
    assert (job["precision"], job["global_batch_size"], job["seq_len"], job["kind"]) == ("bf16", 16, 8192, "finetune")


def test_without_deepspeed_a_whole_model_trains_in_the_type_that_it_is_loaded_in(tmp_path: Path) -> None:
    command = "swift sft --model Qwen/Qwen2.5-7B --train_type full --max_length 2048"
    assert read(tmp_path, command).tables["job"]["precision"] == "bf16-pure"
    assert read(tmp_path, f"{command} --deepspeed zero2").tables["job"]["precision"] == "bf16"
    assert read(tmp_path, f"{command} --torch_dtype float16").tables["job"]["precision"] == "fp16"


def test_what_a_command_of_ms_swift_leaves_out_is_its_default(tmp_path: Path) -> None:
    found = read(tmp_path, "swift sft --model Qwen/Qwen2.5-7B-Instruct --dataset 'a/b#1000' 'c#500' --max_length 2048")
    job = found.tables["job"]
    assert (job["kind"], job["adapter"]["rank"], job["adapter"]["target_modules"]) == ("lora", 8, "all-linear")
    assert (job["num_samples"], job["num_epochs"]) == (1500, 3)
    assert (found.tables["layout"]["recompute"], found.tables["cluster"]["num_gpus"]) == ("full", 1)
    assert job["global_batch_size"] == 16  # gradients are accumulated to 16 sequences
    four = read(tmp_path, "NPROC_PER_NODE=4 swift sft --model Qwen/Qwen2.5-7B --per_device_train_batch_size 8 --max_length 2048")
    assert four.tables["job"]["global_batch_size"] == 32


def test_four_bits_and_pre_training(tmp_path: Path) -> None:
    four = read(tmp_path, "swift sft --model Qwen/Qwen2.5-7B --quant_bits 4 --quant_method bnb --max_length 2048")
    assert four.tables["job"]["kind"] == "qlora"
    assert four.tables["job"]["quantization"] == {"format": "nf4", "double_quantization": True}
    whole = read(tmp_path, "swift pt --model Qwen/Qwen2.5-7B --train_type full --packing true --max_length 2048")
    assert whole.tables["job"]["kind"] == "pretrain"


def test_a_yaml_of_ms_swift_and_what_it_does_not_model(tmp_path: Path) -> None:
    text = "model: Qwen/Qwen2.5-7B\ntrain_type: lora\nmax_length: 4096\nsequence_parallel_size: 4\nlisa_activated_layers: 2\n"
    found = read(tmp_path, text, "sft.yaml", num_gpus=8)
    assert found.tables["job"]["seq_len"] == 4096
    assert [text.partition(" ")[0] for text in map(str, found.unmodelled)] == ["sequence_parallel_size", "lisa_activated_layers"]
    other = read(tmp_path, text.replace("lora", "llamapro"), "sft.yaml", num_gpus=8)
    assert any("train_type = llamapro" in text for text in map(str, other.not_understood))


def test_another_quantizer_is_told(tmp_path: Path) -> None:
    found = read(
        tmp_path, "swift sft --model Qwen/Qwen2.5-7B --quant_bits 4 --quant_method hqq --tuner_backend unsloth --max_length 512"
    )
    assert [text.partition(" ")[0] for text in map(str, found.unmodelled)] == ["quant_method", "tuner_backend"]


def test_an_empty_configuration_is_called_empty(tmp_path: Path) -> None:
    with pytest.raises(planner.PlannerError, match="is empty"):
        read(tmp_path, "", "a.yaml")


@pytest.mark.parametrize("command", ["megatron sft --model Qwen/Qwen3-30B-A3B", "megatron pt --model Qwen/Qwen3-30B-A3B"])
def test_megatron_swift_is_refused_with_what_to_type(command: str, tmp_path: Path) -> None:
    with pytest.raises(planner.PlannerError, match="planner plan MODEL --finetune --framework megatron-core"):
        read(tmp_path, command)


# --- Megatron-Bridge, torchtitan, NeMo's launcher ---------------------------------------------------------------------


def test_a_recipe_names_its_model_its_method_and_its_precision(tmp_path: Path) -> None:
    recipe = (
        "torchrun --nproc_per_node=8 scripts/training/run_recipe.py --recipe {} model.seq_length=4096 train.global_batch_size=64 "
        "model.tensor_model_parallel_size=1"
    )
    whole = read(tmp_path, recipe.format("llama3_8b_pretrain_config"))
    assert whole.tables["model"] == {"name": "llama-3-8b"}
    assert (whole.tables["layout"]["zero"], whole.tables["job"]["kind"]) == (1, "pretrain")
    assert any("that it sets are not read" in note for note in map(str, whole.notes))
    tuned = read(tmp_path, recipe.format("qwen25_7b_peft_config --peft_scheme lora"))
    assert tuned.tables["model"] == {"name": "qwen2.5-7b"}
    assert (tuned.tables["job"]["kind"], tuned.tables["job"]["adapter"]["rank"]) == ("lora", 32)
    narrow = read(tmp_path, recipe.format("gpt_oss_20b_sft_fp8_current_scaling_config --mode finetune --peft_scheme none"))
    assert narrow.tables["model"] == {"name": "gpt-oss-20b"}
    job = narrow.tables["job"]
    assert (job["kind"], job["precision"], job["fp8_recipe"]) == ("finetune", "fp8", "tensorwise")


@pytest.mark.parametrize(
    ("recipe", "zero", "fused", "gradients", "rank"),
    [
        ("llama3_8b_pretrain_config", 1, True, "fp32", None),
        ("llama31_8b_sft_config", 1, True, "fp32", None),
        ("llama31_405b_sft_config", 1, True, "same", None),
        ("llama3_8b_peft_config", 0, False, "fp32", 8),
        ("llama31_70b_peft_config", 0, False, "fp32", 16),
        ("llama31_405b_peft_config", 0, False, "same", 16),
        ("llama32_1b_peft_config", 0, False, "fp32", 32),
    ],
)
def test_a_recipe_sets_what_its_file_sets(
    tmp_path: Path, recipe: str, zero: int, fused: bool, gradients: str, rank: int | None
) -> None:
    """src/megatron/bridge/recipes/llama/llama3.py, 0d5f5558c16f, read by hand: use_distributed_optimizer of DDP or optimizer,
    cross_entropy_loss_fusion, grad_reduce_in_fp32 of mixed_precision, peft.dim."""
    command = (
        f"torchrun --nproc_per_node=8 run_recipe.py --recipe {recipe} model.seq_length=2048 train.global_batch_size=8 "
        "model.tensor_model_parallel_size=1"
    )
    tables = read(tmp_path, command).tables
    job = tables["job"]
    found = (tables["layout"]["zero"], tables["framework"].get("fused_cross_entropy", True), job.get("gradient_dtype", "same"))
    assert found == (zero, fused, gradients)
    assert (job.get("adapter") or {}).get("rank") == rank
    named = read(tmp_path, f"{command} peft.dim=4 ddp.use_distributed_optimizer=true").tables
    assert named["layout"]["zero"] == 1
    assert rank is None or named["job"]["adapter"]["rank"] == 4


@pytest.mark.parametrize(
    ("recipe", "model"),
    [
        ("qwen2_1p5b_sft_config", "qwen2-1.5b"),
        ("qwen3_600m_sft_yarn_128k_config", "qwen3-0.6b"),
        ("qwen3_235b_a22b_pretrain_256gpu_h100_fp8cs_large_scale_config", "qwen3-235b-a22b"),
        ("qwen35_text_35b_a3b_sft_long_context_16gpu_gb200_fp8mx_config", "qwen3.5-35b-a3b"),
        ("deepseek_v3_pretrain_config_32nodes", "deepseek-v3"),
        ("deepseek_v4_flash_no_mtp_sft_config", "deepseek-v4-flash"),
        ("gemma3_1b_peft_config", "gemma-3-1b"),
        ("gemma3_vl_4b_sft_config", "gemma-3-4b"),
        ("nemotronh_56b_pretrain_config", "nemotron-h-56b"),
        ("nemotron_3_nano_gb200_pretrain_config", "nemotron-3-nano-30b-a3b"),
        ("gpt_oss_120b_pretrain_v2_64gpu_b200_bf16_config", "gpt-oss-120b"),
        ("glm45_355b_pretrain_config", "glm-4.5"),
        ("glm52_sft_192gpu_gb200_bf16_config", "glm-5.2"),
        ("ernie45_21b_a3b_sft_config", "ernie-4.5-21b-a3b"),
        ("megatron.bridge.recipes.llama.llama32_1b_pretrain_config", "llama-3.2-1b"),
        ("nemotron_3_nano_4b_pretrain_config", None),  # sizes that the catalog lacks are no other size of the family
        ("nemotronh_47b_sft_config", None),
        ("qwen2_audio_7b_sft_config", None),
        ("vanilla_gpt_pretrain_config", None),
    ],
)
def test_recipes_of_every_family_name_their_model_or_what_to_give(tmp_path: Path, recipe: str, model: str | None) -> None:
    """Names as src/megatron/bridge/recipes/*/__init__.py exports them."""
    command = f"torchrun --nproc_per_node=8 run_recipe.py --recipe {recipe} model.seq_length=2048 train.global_batch_size=512"
    if model is None:
        with pytest.raises(planner.PlannerError, match=r"names no model of the catalog; name one before\s+--from"):
            read(tmp_path, command)
    else:
        assert read(tmp_path, command).tables["model"] == {"name": model}


def test_a_recipe_for_one_cluster_says_its_gpus_and_its_precision(tmp_path: Path) -> None:
    command = "python run_recipe.py --recipe llama3_70b_pretrain_64gpu_gb200_fp8mx_config model.seq_length=8192"
    (tmp_path / "a.sh").write_text(command)
    tables = read_launch([tmp_path / "a.sh"]).tables
    assert tables["cluster"] == {"accelerator": "gb200-186gb", "num_gpus": 64}
    assert (tables["job"]["precision"], tables["job"]["fp8_recipe"]) == ("fp8", "mxfp8")
    launched = read(tmp_path, f"torchrun --nproc_per_node=8 {command.removeprefix('python ')}").tables
    assert launched["cluster"]["num_gpus"] == 8


@pytest.mark.parametrize(
    ("command", "model", "kind", "num_gpus"),
    [
        ('nemo llm pretrain --factory "llama3_8b(num_nodes=2)" data.seq_length=8192', "llama-3-8b", "pretrain", 16),
        ("nemo llm finetune --factory gemma2_9b data.seq_length=2048", "gemma-2-9b", "lora", 8),
        ("nemo llm finetune --factory gemma2_9b data.seq_length=2048 peft=none", "gemma-2-9b", "finetune", 8),
        (
            "python scripts/performance/setup_experiment.py --model_family_name deepseek --model_recipe_name deepseek_v3 "
            "--num_gpus 256 --gpus_per_node 4 --gpu gb200 --compute_dtype fp8_mx --task pretrain --seq_length 4096",
            "deepseek-v3", "pretrain", 256,
        ),
        (
            "run_script.py -mr llama3_70b -ng 64 -g h100 --task lora --seq_length 4096 --global_batch_size 32",
            "llama-3-70b", "lora", 64,
        ),
        ("torchrun --nproc_per_node=4 recipes/qwen/pretrain_qwen3_4b.py model.seq_length=4096", "qwen3-4b", "pretrain", 4),
    ],
)  # fmt: skip
def test_a_recipe_is_named_by_whatever_starts_it(tmp_path: Path, command: str, model: str, kind: str, num_gpus: int) -> None:
    found = read(tmp_path, command)
    tables = found.tables
    assert (tables["model"], tables["job"]["kind"], tables["cluster"]["num_gpus"]) == ({"name": model}, kind, num_gpus)
    assert not found.not_understood


def test_the_layout_of_a_recipe_that_is_not_read_is_chosen_and_what_is_given_of_it_holds(tmp_path: Path) -> None:
    command = "torchrun --nproc_per_node=8 run_recipe.py --recipe llama3_70b_pretrain_config model.seq_length=4096"
    bare = read(tmp_path, command)
    assert "layout" not in bare.tables
    assert any("global_batch_size" in str(note) for note in bare.notes)
    assert read(tmp_path, f"{command} model.tensor_model_parallel_size=4").tables["layout"]["tp"] == 4
    assert read(tmp_path, f"{command} ddp.data_parallel_sharding_strategy=optim").tables["layout"]["zero"] == 1


def test_what_concerns_experts_is_read_where_only_the_models_name_says_that_it_has_some(tmp_path: Path) -> None:
    command = "python run_recipe.py --recipe {} model.seq_length=4096 model.moe_token_dispatcher_type=allgather"
    of = {
        recipe: read(tmp_path, command.format(recipe), num_gpus=8).tables["framework"].get("dispatcher")
        for recipe in ("qwen3_30b_a3b_pretrain_config", "qwen3_8b_pretrain_config")
    }
    assert of == {"qwen3_30b_a3b_pretrain_config": "allgather", "qwen3_8b_pretrain_config": None}


def test_a_rank_that_no_recipe_says_is_told(tmp_path: Path) -> None:
    command = "torchrun --nproc_per_node=8 run_recipe.py --recipe {} model.seq_length=2048 train.global_batch_size=8"
    for recipe, guessed in [("qwen25_7b_peft_config", True), ("llama3_8b_peft_config", False), ("llama3_8b_sft_config", False)]:
        assert any("peft.dim" in str(note) for note in read(tmp_path, command.format(recipe)).notes) == guessed


def test_a_configuration_of_torchtitan_with_more_words_is_of_the_same_model(tmp_path: Path) -> None:
    command = (
        "torchrun --nproc_per_node=8 -m torchtitan.train --module graph_trainer.deepseek_v3 --config "
        "graph_trainer_deepseek_v3_16b_minimal_async_ep --training.seq_len 4096 --training.local_batch_size 1"
    )
    assert read(tmp_path, command).tables["model"] == {"name": "deepseek-v2-lite"}


@pytest.mark.parametrize(
    ("said", "file"),
    [
        ("training=gpt3/20b stages=[training] training.trainer.num_nodes=1", "training/gpt3/20b"),
        ("training=none fine_tuning=llama/squad", "fine_tuning/llama/squad"),
        ("peft=gpt3/squad", "peft/gpt3/squad"),
        ("stages=[training]", "training/MODEL/SIZE"),
    ],
)
def test_overrides_of_nemos_launcher_are_refused_with_the_file_to_give(tmp_path: Path, said: str, file: str) -> None:
    command = f"python3 /opt/NeMo/launcher_scripts/main.py {said}"
    with pytest.raises(planner.PlannerError, match=rf"--from\s+conf/{file}\.yaml"):
        read(tmp_path, command)


@pytest.mark.parametrize(
    "command",
    [
        "run_script.py --peft_scheme dora --recipe llama3_8b_pretrain_config model.seq_length=4096 train.micro_batch_size=1",
        "python run_recipe.py --recipe llama3_8b_dora_config model.seq_length=4096 train.global_batch_size=8",
        "tune run lora_finetune_distributed model._component_=torchtune.models.llama3.dora_llama3_8b batch_size=1 "
        "tokenizer.max_seq_len=4096",
    ],
)
def test_dora_is_more_than_lora_and_says_so(tmp_path: Path, command: str) -> None:
    found = read(tmp_path, command, num_gpus=8)
    assert found.tables["job"]["kind"] == "lora"
    assert any("DoRA" in str(one) for one in found.unmodelled)


def test_the_tool_that_says_no_model_is_not_its_launcher(tmp_path: Path) -> None:
    with pytest.raises(planner.PlannerError, match="The options of torchtitan name none"):
        read(tmp_path, "torchrun --nproc_per_node=8 -m torchtitan.train --module a --config b --training.seq_len 4096")


# --- tags of containers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "engine", "taken"),
    [
        ("docker run --gpus all vllm/vllm-openai:v0.7.2 --model Qwen/Qwen2.5-7B", "vllm-0.7.2", "vllm-v0"),
        ("docker run --gpus all vllm/vllm-openai:v0.11.0 --model Qwen/Qwen2.5-7B", "vllm-0.11.0", "vllm-0.13"),
        ("docker run --gpus all docker.io/vllm/vllm-openai:v0.6.6.post1 --model Qwen/Qwen2.5-7B", "vllm-0.6.6", "vllm-v0"),
        ("docker run --gpus all vllm/vllm-openai:latest --model Qwen/Qwen2.5-7B", "vllm", "vllm-v1"),
        ("docker run nvcr.io/nvidia/vllm:25.09-py3 vllm serve Qwen/Qwen2.5-7B", "vllm", "vllm-v1"),
        ("VLLM_USE_V1=0 vllm serve Qwen/Qwen2.5-7B", "vllm-v0", "vllm-v0"),
        ("export VLLM_USE_V1=0\nvllm serve Qwen/Qwen2.5-7B", "vllm-v0", "vllm-v0"),
        ("VLLM_USE_V1=1 vllm serve Qwen/Qwen2.5-7B", "vllm", "vllm-v1"),
        ("docker run -e VLLM_USE_V1=0 vllm/vllm-openai:v0.8.5 --model Qwen/Qwen2.5-7B", "vllm-v0", "vllm-v0"),
        ("docker run -e VLLM_USE_V1=1 vllm/vllm-openai:v0.8.5 --model Qwen/Qwen2.5-7B", "vllm-0.8.5", "vllm-0.13"),
        ("docker run -e VLLM_USE_V1=1 vllm/vllm-openai:v0.7.3 --model Qwen/Qwen2.5-7B", "vllm-0.8", "vllm-0.13"),
        ("docker run -e VLLM_USE_V1=0 vllm/vllm-openai:v0.7.3 --model Qwen/Qwen2.5-7B", "vllm-0.7.3", "vllm-v0"),
        (
            "docker run lmsysorg/sglang:v0.4.6-cu124 python3 -m sglang.launch_server --model-path Qwen/Qwen2.5-7B",
            "sglang-0.4.6",
            "sglang-0.4",
        ),
    ],
)
def test_the_tag_of_a_publishers_image_is_the_release(command: str, engine: str, taken: str, tmp_path: Path) -> None:
    found = read(tmp_path, command)
    assert found.tables["serving"]["engine"] == engine
    assert planner.serve(**found.tables).engine.name == taken


@pytest.mark.parametrize(
    ("given", "engine"),
    [
        ("export VLLM_USE_V1=1\ndocker run -e VLLM_USE_V1=0 {image} {options}", "vllm-v0"),
        ("export VLLM_USE_V1=0\ndocker run {image} {options}", "vllm-0.8.5"),
        ("export VLLM_USE_V1=0\ndocker run -e VLLM_USE_V1 {image} {options}", "vllm-v0"),
        ("docker run -eVLLM_USE_V1=0 {image} {options}", "vllm-v0"),
        ("docker run --env=VLLM_USE_V1=0 {image} {options}", "vllm-v0"),
        ("export VLLM_USE_V1=1\ndocker run -e VLLM_USE_V1=0 {image} bash -c 'vllm serve {options}'", "vllm-v0"),
        ("docker run -e VLLM_USE_V1=0 {image} bash -c 'VLLM_USE_V1=1 vllm serve {options}'", "vllm-0.8.5"),
        ("sudo docker run -d --name a -e VLLM_USE_V1=0 {image} sleep inf\ndocker exec a vllm serve {options}", "vllm-v0"),
        ("docker run -e VLLM_USE_V1=0 another/image:v1 run\ndocker run {image} {options}", "vllm-0.8.5"),
    ],
)
def test_a_container_has_the_variables_that_it_is_given(given: str, engine: str, tmp_path: Path) -> None:
    command = given.format(image="vllm/vllm-openai:v0.8.5", options="--model Qwen/Qwen2.5-7B")
    assert read(tmp_path, command).tables["serving"]["engine"] == engine


@pytest.mark.parametrize(("variable", "release", "core"), [("0", "0.14.0", "v0"), ("1", "0.6.3", "v1")])
def test_an_engine_that_a_release_has_not_is_told(variable: str, release: str, core: str, tmp_path: Path) -> None:
    found = read(tmp_path, f"docker run -e VLLM_USE_V1={variable} vllm/vllm-openai:v{release} --model Qwen/Qwen2.5-7B")
    assert found.tables["serving"]["engine"] == f"vllm-{release}"
    assert [str(one) for one in found.not_understood] == [f"vLLM {release} has no engine {core}, which a variable chooses"]


def test_a_variable_that_chooses_the_engine_is_understood(tmp_path: Path) -> None:
    found = read(tmp_path, "VLLM_USE_V1=1 vllm serve Qwen/Qwen2.5-7B")
    assert [(line.option, line.field, line.meaning) for line in found.lines if line.field == "serving.engine"] == [
        ("VLLM_USE_V1", "serving.engine", "vllm")
    ]


SPREAD = "vllm serve deepseek-ai/DeepSeek-V3 -dp 16 --enable-expert-parallel"


@pytest.mark.parametrize("way", list(load_format("vllm").options["all2all-backend"].values or ()))
def test_an_exchange_by_a_variable_is_the_one_by_its_option(way: str, tmp_path: Path) -> None:
    by_option = read(tmp_path, f"{SPREAD} --all2all-backend {way}", "a.sh")
    by_variable = read(tmp_path, f"VLLM_ALL2ALL_BACKEND={way} {SPREAD}", "b.sh")
    assert (by_option.tables, by_option.unmodelled) == (by_variable.tables, by_variable.unmodelled)
    assert (way in ("pplx", "flashinfer_all2allv")) == any(way in one for one in by_option.unmodelled)


@pytest.mark.parametrize(
    "copies", ["--eplb-config.num_redundant_experts 32", '--eplb-config \'{"window_size": 1000, "num_redundant_experts": 32}\'']
)
def test_copies_of_experts_in_either_spelling(copies: str, tmp_path: Path) -> None:
    found = read(tmp_path, f"{SPREAD} --enable-eplb {copies}")
    assert found.tables["serving"]["redundant_experts"] == 32
    assert (found.unmodelled, found.not_understood) == ((), ())


def test_a_table_that_is_no_json_is_not_understood(tmp_path: Path) -> None:
    found = read(tmp_path, f"{SPREAD} --eplb-config '{{num_redundant_experts: 32}}'")
    assert "redundant_experts" not in found.tables["serving"]
    assert any("eplb-config" in one for one in found.not_understood)


ON_SGLANG = "python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp 16 --ep 16"


@pytest.mark.parametrize("server", [SPREAD, ON_SGLANG])
def test_balancing_without_copies_needs_the_popularity(server: str, tmp_path: Path) -> None:
    alike = read(tmp_path, f"{server} --enable-eplb", "a.sh")
    assert any("say serving.expert_zipf" in one for one in alike.unmodelled)
    unlike = read(tmp_path, f"# planner: serving.expert_zipf = 0.5\n{server} --enable-eplb", "b.sh")
    assert unlike.tables["serving"]["expert_placement"] == "rebalanced"
    assert unlike.unmodelled == ()


@pytest.mark.parametrize("command", ["--model Qwen/Qwen2.5-7B", "vllm serve Qwen/Qwen2.5-7B"])
def test_the_tag_in_a_compose_file_too(command: str, tmp_path: Path) -> None:
    text = f"services:\n  a:\n    image: vllm/vllm-openai:v0.8.5\n    command: {command}\n"
    assert read(tmp_path, text, "compose.yaml").tables["serving"]["engine"] == "vllm-0.8.5"


# --- what tools ship, experts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "framework", "zero"),
    [("deepspeed_zero3", "deepspeed-zero", 3), ("deepspeed_zero2", "deepspeed-zero", 2), ("fsdp2", "transformers-fsdp", 3)],
)
def test_a_configuration_that_trl_ships_is_known_by_its_name(config: str, framework: str, zero: int, tmp_path: Path) -> None:
    found = read(
        tmp_path,
        f"accelerate launch --config_file examples/accelerate_configs/{config}.yaml trl/scripts/sft.py "
        "--model_name_or_path Qwen/Qwen2.5-7B --max_length 2048 --bf16",
    )
    assert (found.tables["framework"]["name"], found.tables["layout"]["zero"]) == (framework, zero)
    assert found.tables["cluster"]["num_gpus"] == 8
    assert any("the file that the tools ship under that name is used" in note for note in map(str, found.notes))


def test_experts_of_gpt_neox_are_counted(tmp_path: Path) -> None:
    sizes = (
        '{"pipe_parallel_size": 1, "model_parallel_size": 1, "num_layers": 12, "hidden_size": 768, "num_attention_heads": 12, '
        '"seq_length": 2048, "pos_emb": "rotary", "no_weight_tying": true, "train_micro_batch_size_per_gpu": 4, '
        '"train_iters": 10, "vocab_size": 50304, "fp16": {"enabled": true}, %s}'
    )
    dense = read(tmp_path, sizes % '"num_experts": 1', "a.yml", num_gpus=8)
    four = read(tmp_path, sizes % '"num_experts": 4, "moe_expert_parallel_size": 1', "b.yml", num_gpus=8)
    assert "num_experts" not in dense.tables["model"]
    assert (four.tables["model"]["num_experts"], four.tables["model"]["moe_every"], four.tables["model"]["top_k"]) == (4, 2, 1)
    one, other = (planner.plan(**found.tables, explain=False).parameters_total for found in (dense, four))
    # six of twelve layers hold three more feed-forwards (2 x 768 x 3072 weights, 768 + 3072 biases), and a router of 4 x 768
    assert other - one == 6 * (3 * (2 * 768 * 3072 + 768 + 3072) + 4 * 768)


# --- which part of the layout a file gives ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "given"),
    [
        ("", "the layout is as the tool has it"),
        ("--tensor-model-parallel-size 2", "the launch files give tp;"),
        ("--tensor-model-parallel-size 2 --micro-batch-size 4", "the launch files give tp, micro_batch_size;"),
        ("--use-distributed-optimizer", "the launch files give zero;"),
        ("--global-batch-size 32", "the layout is as the tool has it"),
    ],
)
def test_the_part_of_the_layout_that_a_file_gives_is_told(more: str, given: str, run: Run, tmp_path: Path) -> None:
    """In the answer and in JSON; no other field of the layout is the file's."""
    script = tmp_path / "run.sh"
    script.write_text(
        "torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 24 --hidden-size 1024 --num-attention-heads 16 "
        f"--seq-length 2048 --max-position-embeddings 2048 --vocab-size 50304 --global-batch-size 64 --bf16 {more}\n"
    )
    code, out, err = run("plan", "--from", script, "--on", "h100", "--json")
    assert code == 0, err
    (note,) = json.loads(out)["usual"]
    assert given in note
    assert note in " ".join(run("plan", "--from", script, "--on", "h100")[1].split())


@pytest.mark.parametrize(
    ("more", "given"),
    [
        ("", "the layout is as the tool has it"),
        ("--training.local_batch_size 2", "the launch files give micro_batch_size;"),
        ("--parallelism.tensor_parallel_degree 2", "the launch files give tp;"),
        ("--parallelism.fsdp_reshard_after_forward never", "the launch files give zero;"),
    ],
)
def test_defaults_of_the_tool_are_not_given_by_the_file(more: str, given: str, tmp_path: Path) -> None:
    """torchtitan shards and cuts sequences where nothing is said."""
    size = "--model.name llama3 --model.flavor 8B --training.seq_len 4096"
    found = read(tmp_path, f"torchrun --nproc_per_node=8 -m torchtitan.train {size} {more}")
    assert found.tables["layout"]["zero"] > 0
    assert given in " ".join(map(str, found.of_layout()))


def test_what_decides_a_field_of_the_layout_is_an_option_of_some_tool() -> None:
    options = {option.field for form in formats() for option in form.options.values()}
    assert {one for fields in OF_LAYOUT.values() for one in fields} <= options
    assert set(OF_LAYOUT) <= set(Layout.model_fields)


@pytest.mark.parametrize(
    ("word", "accelerator"), [("h200", "h200-sxm-141gb"), ("B200", "b200-sxm-180gb"), ("gb200", "gb200-186gb"), ("l40s", "l40s")]
)
def test_a_gpu_that_the_file_names_is_found_as_after_on(tmp_path: Path, word: str, accelerator: str) -> None:
    by_option = f"run_script.py -mr llama3_8b --task pretrain -g {word} -ng 8 --seq_length 4096 -gb 64"
    by_recipe = f"run_recipe.py --recipe llama3_8b_pretrain_8gpu_{word.lower()}_bf16_config model.seq_length=4096"
    for command in (by_option, by_recipe):
        (tmp_path / "run.sh").write_text(command)
        table = read_launch([tmp_path / "run.sh"]).tables["cluster"]
        assert table == {"accelerator": accelerator_named(word), "num_gpus": 8} == {"accelerator": accelerator, "num_gpus": 8}


@pytest.mark.parametrize("word", ["a100", "z9000"])
def test_a_gpu_of_the_file_that_no_profile_is_meant_by_is_named_in_the_error(tmp_path: Path, word: str) -> None:
    (tmp_path / "run.sh").write_text(f"run_script.py -mr llama3_8b --task pretrain -g {word} -ng 8 --seq_length 4096")
    with pytest.raises(PlannerError, match=f"cluster.accelerator.*{word}"):
        read_launch([tmp_path / "run.sh"])
    assert read_launch([tmp_path / "run.sh"], cluster={"accelerator": "l40s"}).tables["cluster"]["accelerator"] == "l40s"


def test_notes_on_a_recipe_say_each_thing_once(tmp_path: Path) -> None:
    found = read(tmp_path, "torchrun --nproc_per_node=8 run_recipe.py --recipe llama3_8b_pretrain_config model.seq_length=4096")
    told = [str(note) for note in found.notes if re.search(r"(?<!micro-)batch", str(note))]
    assert told == [
        f"global_batch_size = {found.tables['job']['global_batch_size']}: the recipe's own is not read; --batch gives it"
    ]


@pytest.mark.parametrize("path", sorted(CATALOG.glob("*.toml")), ids=lambda path: path.stem)
def test_what_two_options_of_a_tool_mean_alike_stands_once(path: Path) -> None:
    """A second name of an option refers to it: ``same_as``."""
    options = read_table(path).get("options", {}).values()
    entries = [one for one in options if isinstance(one, dict) and len(one.get("values", ())) > 1]
    assert [one for i, one in enumerate(entries) if one in entries[:i]] == []
