"""Commands of servers and configurations of tuning tools: documented options, and the tools' own parsers where they install."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from places import DATA

import planner
from planner.common.errors import PlannerError
from planner.export.servers import SERVERS, export_deployment
from planner.export.tuners import TUNERS, export_tuning
from planner.launchfiles import read_launch
from planner.serving import Deployment, serve
from planner.training.plan import Plan


def deployment(engine: str, gpus: int = 1, model: str = "llama-3.1-8b", **fields: Any) -> Deployment:
    plain = {"engine": engine, "prompt": 1000, "output": 200, "batch": 8}
    return serve(model=model, cluster={"node": "dgx-h100", "num_gpus": gpus}, serving={**plain, **fields})


def parsed(server: str, text: str) -> argparse.Namespace:
    """The command's options as the server's documentation declares them."""
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    for line in (DATA / "server_options.txt").read_text().splitlines():
        if not line.startswith(f"{server} "):
            continue
        _, name, kind = line.split()
        if kind == "flag":
            parser.add_argument(name, action="store_true")
        elif kind == "ints":
            parser.add_argument(name, type=int, nargs="+")
        elif "|" in kind:
            parser.add_argument(name, choices=kind.split("|"))
        else:
            parser.add_argument(name, type={"int": int, "float": float, "text": str, "json": json.loads}[kind])
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    start = next(i for i, word in enumerate(words) if word.startswith("--"))
    return parser.parse_args(words[start : words.index("$@")])


@pytest.mark.parametrize("server", list(SERVERS))
def test_servers_take_every_option(server: str) -> None:
    files = export_deployment(deployment(server, weights="q8_0" if server == "llama.cpp" else "fp16"), server)
    given = vars(parsed(server, files["launch.sh"]))
    context = {"vllm": "max_model_len", "sglang": "context_length", "tensorrt-llm": "max_seq_len"}.get(server)
    if context is not None:
        assert given[context] == 1200
    else:
        assert given["ctx_size"] == 1200 * given["parallel"]
    assert files["launch.sh"].startswith("#!/usr/bin/env bash\n# llama-3.1-8b")
    assert "ms per token" in files["launch.sh"]


def test_cuts_caches_and_proposals_reach_vllm() -> None:
    spec = {"draft": "llama-3.2-1b", "tokens": 4, "acceptance": 0.7}
    d = deployment("vllm", 4, tp=2, dp=2, weights="fp8", kv_dtype="fp8", speculative=spec, chunked_prefill_tokens=2048)
    given = parsed("vllm", export_deployment(d, "vllm")["launch.sh"])
    assert (given.tensor_parallel_size, given.data_parallel_size) == (2, 2)
    assert (given.quantization, given.kv_cache_dtype, given.max_num_batched_tokens) == ("fp8", "fp8", 2048)
    assert given.speculative_config == {"model": "llama-3.2-1b", "num_speculative_tokens": 4}


def test_experts_over_more_ranks_than_tensors_are_data_parallel_attention() -> None:
    d = deployment("sglang", 8, "deepseek-v2-lite", ep=8, dp=1, dispatcher="deepep")
    given = parsed("sglang", export_deployment(d, "sglang")["launch.sh"])
    assert (given.tp_size, given.ep_size, given.dp_size, given.enable_dp_attention) == (8, 8, 8, True)
    assert given.moe_a2a_backend == "deepep"  # as the answer counts
    gathered = deployment("vllm", 8, "deepseek-v2-lite", ep=8, dp=1)
    assert parsed("vllm", export_deployment(gathered, "vllm")["launch.sh"]).all2all_backend is None
    files = export_deployment(deployment("tensorrt-llm", 8, "deepseek-v2-lite", ep=8, dp=1), "tensorrt-llm")
    config = dict(line.split(": ", 1) for line in files["config.yaml"].splitlines() if not line.startswith("#"))
    assert json.loads(config["enable_attention_dp"]) is True


@pytest.mark.parametrize(
    ("make", "server", "words"),
    [
        (lambda: deployment("vllm"), "sglang", "planned for vllm-v1"),
        (lambda: deployment("vllm"), "tgi", "export to 'tgi'"),
        (lambda: deployment("vllm", model="llama-3.1-405b"), "vllm", "does not fit"),
        (lambda: deployment("vllm", weights="q4_k_m"), "vllm", "is not a format of this server"),
        (lambda: deployment("llama.cpp", weights="int4-awq"), "llama.cpp", "is no format of its files"),
    ],
)
def test_what_a_server_cannot_do_is_refused(make: Any, server: str, words: str) -> None:
    with pytest.raises(PlannerError) as error:
        export_deployment(make(), server)
    assert words in str(error.value)


def tuning(kind: str = "qlora", gpus: int = 1, framework: str = "peft", **job: Any) -> Plan:
    adapter = {"adapter": {"rank": 16, "target_modules": ["q_proj", "v_proj"]}} if kind != "finetune" else {}
    layout = {"zero": 3, "micro_batch_size": 2, "recompute": "full"} if gpus > 1 else {"micro_batch_size": 2, "recompute": "full"}
    return planner.plan(
        model="qwen2.5-0.5b",
        cluster={"node": "dgx-h100", "num_gpus": gpus},
        framework=framework,
        job={"kind": kind, "seq_len": 1024, "global_batch_size": 16, "num_steps": 100, **adapter, **job},
        layout=layout,
    )


def test_peft_reads_its_files(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    files = export_tuning(tuning(), "peft")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    config = peft.LoraConfig.from_pretrained(str(tmp_path))
    assert (config.r, config.lora_alpha, set(config.target_modules)) == (16, 32.0, {"q_proj", "v_proj"})
    bits = json.loads(files["quantization_config.json"])
    assert bits["bnb_4bit_quant_type"] == "nf4"
    assert bits["load_in_4bit"]


@pytest.mark.parametrize("tool", ["llama-factory", "trl", "axolotl"])
@pytest.mark.parametrize("kind", ["finetune", "lora", "qlora"])
def test_configurations_are_yaml_with_the_plans_batch(tool: str, kind: str) -> None:
    yaml = pytest.importorskip("yaml")
    files = export_tuning(tuning(kind), tool)
    (config,) = (yaml.safe_load(text) for name, text in files.items() if name.endswith(".yaml"))
    batch = config.get("per_device_train_batch_size", config.get("micro_batch_size"))
    assert batch * config["gradient_accumulation_steps"] == 16
    assert config["max_steps"] == 100
    rank = config.get("lora_r", config.get("lora_rank"))
    assert rank == (None if kind == "finetune" else 16)
    four = config.get("load_in_4bit") or config.get("quantization_bit") == 4
    assert bool(four) == (kind == "qlora")


# the switch of Liger's kernels in each tool's documentation: axolotl docs/custom_integrations, LLaMA-Factory README (24/08/27),
# TRL docs/liger_kernel_integration, transformers TrainingArguments.use_liger_kernel
@pytest.mark.parametrize(
    ("tool", "file", "switch"),
    [
        ("axolotl", "axolotl.yaml", "liger_fused_linear_cross_entropy: true"),
        ("llama-factory", "train.yaml", "enable_liger_kernel: true"),
        ("trl", "sft.yaml", "use_liger_kernel: true"),
        ("peft", "training_args.json", '"use_liger_kernel": true'),
    ],
)
def test_a_plan_that_holds_no_logits_switches_them_off(tool: str, file: str, switch: str) -> None:
    for framework, switched in (("peft-liger", True), ("peft", False)):
        text = export_tuning(tuning(framework=framework), tool)[file]
        assert (switch in text) == switched, text
        assert switched or "liger" not in text


def test_training_arguments_are_transformers_own() -> None:
    transformers = pytest.importorskip("transformers")
    known = {field.name for field in __import__("dataclasses").fields(transformers.TrainingArguments)}
    assert set(json.loads(export_tuning(tuning(gpus=2), "peft")["training_args.json"])) <= known


def test_torchtune_recipes_follow_the_plan() -> None:
    text = export_tuning(tuning("lora", gpus=2), "torchtune")["launch.sh"]
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    assert words[words.index("run") + 1 : words.index("run") + 4] == ["--nproc_per_node", "2", "lora_finetune_distributed"]
    assert 'model.lora_attn_modules=["q_proj","v_proj"]' in words
    assert "enable_activation_checkpointing=true" in words
    assert set(TUNERS) == {"axolotl", "llama-factory", "trl", "torchtune", "peft"}


@pytest.mark.parametrize(
    ("job", "tool", "words"),
    [
        ({"kind": "finetune"}, "peft", "trains all weights"),
        ({"kind": "gptq-lora"}, "trl", "job.kind = 'gptq-lora' is not exported"),
        ({"kind": "finetune", "optimizer": "muon"}, "axolotl", "job.optimizer = 'muon' is not exported"),
    ],
)
def test_what_a_tool_cannot_do_is_refused(job: dict[str, Any], tool: str, words: str) -> None:
    with pytest.raises(PlannerError, match=words):
        export_tuning(tuning(**job), tool)


@pytest.mark.parametrize(("server", "batches"), [("sglang", [1, 2, 4]), ("sglang", [8]), ("tensorrt-llm", [1, 2, 4])])
def test_batches_with_a_graph_come_back(server: str, batches: list[int], tmp_path: Path) -> None:
    files = export_deployment(deployment(server, captured_batches=batches), server)
    assert (server != "sglang") or parsed(server, files["launch.sh"]).cuda_graph_bs == batches
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert read_launch([tmp_path / "launch.sh"]).tables["serving"]["captured_batches"] == batches


@pytest.mark.parametrize(("text", "captured", "said"), [
    ("python -m sglang.launch_server --model-path m --cuda-graph-bs 1 2 4", None, False),  # padded to the next
    ("python -m sglang.launch_server --model-path m --cuda-graph-bs 1 2 4 --disable-cuda-graph-padding", [1, 2, 4], False),
    ("python -m sglang.launch_server --model-path m --disable-cuda-graph-padding", None, True),
    ("python -m sglang.launch_server --model-path m", None, False),
    ("kv_cache_config: {dtype: auto}\ncuda_graph_config: {batch_sizes: [1, 2], enable_padding: true}", None, False),
    ("kv_cache_config: {dtype: auto}\ncuda_graph_config: {batch_sizes: [1, 2]}", [1, 2], False),
    ("kv_cache_config: {dtype: auto}\ncuda_graph_config: {enable_padding: true, max_batch_size: 64}", None, False),
])  # fmt: skip
def test_batches_with_a_graph_are_read_where_none_is_padded(
    text: str, captured: list[int] | None, said: bool, tmp_path: Path
) -> None:
    file = tmp_path / ("config.yaml" if "config:" in text else "launch.sh")
    file.write_text(text)
    launch = read_launch([file], model="llama-3.1-8b", cluster={"accelerator": "h100-sxm5-80gb"})
    assert launch.tables["serving"].get("captured_batches") == captured
    assert any("give serving.captured_batches" in one for one in launch.unmodelled) == said
    assert not launch.not_understood
