"""Configuration files of llm-foundry and NeMo 1, alone and within larger ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import planner
from planner.launchfiles import Launch, read_launch

H100 = {"accelerator": "h100-sxm5-80gb", "num_gpus": 8}


def read(tmp_path: Path, table: dict[str, Any], cluster: dict[str, Any] = H100, **over: Any) -> Launch:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(table))
    return read_launch([tmp_path / "a.yaml"], cluster=cluster, over=over)


FOUNDRY: dict[str, Any] = {
    "max_seq_len": 2048,
    "model": {"name": "mpt_causal_lm", "d_model": 4096, "n_heads": 32, "n_layers": 32, "max_seq_len": "${max_seq_len}"},
    "train_loader": {"name": "text", "dataset": {"max_seq_len": "${max_seq_len}"}},
    "optimizer": {"name": "decoupled_adamw", "lr": 1e-4},
    "max_duration": "100ba",
    "global_train_batch_size": 64,
    "device_train_microbatch_size": 8,
    "precision": "amp_bf16",
    "fsdp_config": {"sharding_strategy": "FULL_SHARD", "mixed_precision": "DEFAULT", "activation_checkpointing": True},
}


def test_llm_foundry_as_it_is_written(tmp_path: Path) -> None:
    found = read(tmp_path, FOUNDRY)
    assert (found.tools, found.not_understood, found.unmodelled) == (("llm-foundry",), (), ())
    assert found.tables["model"] == {"name": "mpt-7b"}
    assert found.tables["layout"] == {"micro_batch_size": 8, "recompute": "full", "zero": 3}
    job = {"seq_len": 2048, "global_batch_size": 64, "num_steps": 100, "precision": "bf16", "optimizer": "adamw"}
    assert found.tables["job"] == {**job, "kind": "pretrain"}
    assert found.tables["framework"] == {"name": "fsdp"}


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        ("5e6tok", {"num_tokens": 5_000_000}),
        ("640sp", {"num_samples": 640}),
        ("7ba", {"num_steps": 7}),
        ("2ep", {}),  # of a number of samples that the file does not say
    ],
)
def test_composers_units_of_time(duration: str, expected: dict[str, int], tmp_path: Path) -> None:
    job = read(tmp_path, {**FOUNDRY, "max_duration": duration}).tables["job"]
    assert {name: job[name] for name in job if name.startswith("num_")} == expected


def test_a_checkpoint_of_llm_foundry_within_an_mcli_run(tmp_path: Path) -> None:
    model = {"name": "hf_causal_lm", "pretrained_model_name_or_path": "meta-llama/Llama-2-13b-hf", "pretrained": True}
    inner = {**FOUNDRY, "model": model, "train_loader": {"name": "finetuning"}, "optimizer": {"name": "decoupled_lionw"}}
    found = read(tmp_path, {"name": "x", "compute": {"gpus": 16}, "parameters": inner}, {"accelerator": "h100-sxm5-80gb"})
    assert found.tables["cluster"]["num_gpus"] == 16
    assert found.tables["model"] == {"name": "llama-2-13b"}
    assert (found.tables["job"]["kind"], found.tables["job"]["optimizer"]) == ("finetune", "sgd-momentum")
    assert any("Lion" in note for note in found.notes)


def test_sizes_of_mpt(tmp_path: Path) -> None:
    """configuration_mpt.py: biases, tied embeddings, learned positions; kv heads and ALiBi where they are said."""
    model = {"n_layers": 2, "d_model": 512, "n_heads": 8, "vocab_size": 1000, "no_bias": True, "expansion_ratio": 3}
    attention = {"attn_type": "grouped_query_attention", "kv_n_heads": 2, "alibi": True}
    table = read(tmp_path, {**FOUNDRY, "model": {**model, "attn_config": attention}}).tables["model"]
    said = {"num_kv_heads": 2, "ffn_hidden_size": 1536, "qkv_bias": False, "position_embedding": "alibi", "tied_embeddings": True}
    assert {name: table[name] for name in said} == said
    learned = read(tmp_path, {**FOUNDRY, "model": model}).tables["model"]
    assert (learned["position_embedding"], learned["max_positions"], learned["num_kv_heads"]) == ("learned", 2048, 8)
    assert planner.plan(**read(tmp_path, {**FOUNDRY, "model": model}).tables, explain=False).num_gpus == 8


def test_what_composer_finds_by_trying_is_said(tmp_path: Path) -> None:
    found = read(tmp_path, {**FOUNDRY, "device_train_microbatch_size": "auto"})
    assert found.tables["layout"]["micro_batch_size"] == 1
    assert any("tries until one fits" in note for note in found.notes)


NEMO: dict[str, Any] = {
    "trainer": {"devices": 8, "num_nodes": 2, "precision": "bf16", "max_steps": 50},
    "exp_manager": {"params": {"size": "${multiply:${model.tensor_model_parallel_size}, 2}"}},
    "model": {
        "micro_batch_size": 4, "global_batch_size": 64, "tensor_model_parallel_size": 4, "pipeline_model_parallel_size": 1,
        "encoder_seq_length": 2048, "max_position_embeddings": "${.encoder_seq_length}", "num_layers": 44, "hidden_size": 6144,
        "ffn_hidden_size": "${multiply:4, ${.hidden_size}}", "num_attention_heads": 48, "kv_channels": None,
        "activations_checkpoint_granularity": "selective", "sequence_parallel": True, "megatron_amp_O2": True,
        "tokenizer": {"type": "GPT2BPETokenizer"}, "optim": {"name": "distributed_fused_adam", "lr": 1e-4},
        "data": {"seq_length": "${model.encoder_seq_length}", "data_prefix": "???"},
    },
}  # fmt: skip


def test_nemo_1_as_it_is_written(tmp_path: Path) -> None:
    found = read(tmp_path, NEMO, {"accelerator": "h100-sxm5-80gb"})
    assert (found.tools, found.not_understood, found.unmodelled) == (("NeMo 1 configuration",), (), ())
    assert found.tables["cluster"]["num_gpus"] == 16
    sizes = {"num_layers": 44, "hidden_size": 6144, "ffn_hidden_size": 24576, "max_positions": 2048, "vocab_size": 50257}
    assert {name: found.tables["model"][name] for name in sizes} == sizes
    layout = {"micro_batch_size": 4, "tp": 4, "pp": 1, "recompute": "selective", "sequence_parallel": True, "zero": 1}
    assert found.tables["layout"] == layout
    assert found.tables["job"]["global_batch_size"] == 64
    assert planner.plan(**found.tables, explain=False).num_gpus == 16


def test_nemo_1_with_autocast_says_so(tmp_path: Path) -> None:
    found = read(tmp_path, {**NEMO, "model": {**NEMO["model"], "megatron_amp_O2": False, "optim": {"name": "fused_adam"}}})
    assert "zero" not in found.tables["layout"]
    assert any("megatron_amp_O2" in line for line in found.unmodelled)


def test_overrides_of_nemo_1_beside_its_file(tmp_path: Path) -> None:
    (tmp_path / "gpt.yaml").write_text(yaml.safe_dump(NEMO))
    (tmp_path / "run.sh").write_text(
        "python megatron_gpt_pretraining.py --config-path . --config-name gpt.yaml trainer.num_nodes=1 \\\n"
        "  model.micro_batch_size=2 ++model.optim.name=fused_adam 2>&1 | tee log\n"
    )
    found = read_launch([tmp_path / "run.sh"], cluster={"accelerator": "h100-sxm5-80gb"})
    assert (found.tables["cluster"]["num_gpus"], found.tables["layout"]["micro_batch_size"]) == (8, 2)
    assert "zero" not in found.tables["layout"]
