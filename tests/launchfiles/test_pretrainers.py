"""GPT-NeoX's and Nanotron's files read as questions, with the model that their sizes describe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import planner
from planner.launchfiles import Launch, read_launch
from planner.launchfiles.pretrainers import sizes
from planner.launchfiles.understanding import Said

A100 = {"accelerator": "a100-sxm4-40gb", "num_gpus": 16}
NEOX: dict[str, Any] = {
    "pipe-parallel-size": 4,
    "model-parallel-size": 2,
    "num-layers": 44,
    "hidden-size": 6144,
    "num-attention-heads": 64,
    "seq-length": 2048,
    "pos-emb": "rotary",
    "no-weight-tying": True,
    "gpt_j_residual": True,
    "bias-gelu-fusion": True,
    "scaled-upper-triang-masked-softmax-fusion": True,
    "optimizer": {"type": "Adam", "params": {"lr": 1e-4}},
    "zero_optimization": {"stage": 1},
    "train_micro_batch_size_per_gpu": 4,
    "gradient_accumulation_steps": 32,
    "checkpoint-activations": True,
    "fp16": {"enabled": True},
    "train-iters": 1000,
}
LLAMA = {
    "norm": "rmsnorm",
    "gpt_j_residual": False,
    "use_bias_in_attn_linear": False,
    "mlp_type": "llama",
    "activation": "silu",
    "num-layers": 32,
    "hidden-size": 4096,
    "num-attention-heads": 32,
}


def read(folder: Path, *files: dict[str, Any], **said: Any) -> Launch:
    paths = [folder / f"{i}.yml" for i in range(len(files))]
    for path, table in zip(paths, files, strict=True):
        path.write_text(yaml.safe_dump(table))
    return read_launch(paths, cluster=A100, **said)


def test_gpt_neox_as_it_is_written(tmp_path: Path) -> None:
    found = read(tmp_path, NEOX)
    assert (found.tools, found.not_understood, found.unmodelled) == (("GPT-NeoX",), (), ())
    assert found.tables["model"] == {"name": "gpt-neox-20b"}
    assert found.tables["framework"] == {"name": "megatron-deepspeed"}
    assert found.tables["layout"] == {"tp": 2, "pp": 4, "zero": 1, "micro_batch_size": 4, "recompute": "full"}
    job = {"seq_len": 2048, "optimizer": "adamw", "num_steps": 1000, "precision": "fp16", "kind": "pretrain"}
    assert found.tables["job"] == {**job, "global_batch_size": 4 * 32 * 2}
    assert planner.plan(**found.tables).num_gpus == 16


def test_gpt_neox_in_two_files_with_underscores(tmp_path: Path) -> None:
    training = (
        "optimizer",
        "zero_optimization",
        "train_micro_batch_size_per_gpu",
        "checkpoint-activations",
        "fp16",
        "train-iters",
    )
    model = {name: value for name, value in NEOX.items() if name not in training}
    later = {name.replace("-", "_"): NEOX[name] for name in training}
    assert read(tmp_path, model, later).tables == read(tmp_path, NEOX).tables


def test_gpt_neox_beside_a_file_without_a_mark_of_its_own(tmp_path: Path) -> None:
    """local_setup.yml holds paths only; alone it is no tool's."""
    paths = {"data-path": "a", "vocab-file": "b", "save": "c", "log-dir": "d"}
    assert read(tmp_path, paths, NEOX).tables == read(tmp_path, NEOX).tables
    with pytest.raises(planner.PlannerError, match="no supported tool has these keys"):
        read(tmp_path, paths)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {"ffn_hidden_size": 11008, "gated_ffn": True, "ffn_bias": False, "qkv_bias": False, "num_kv_heads": 32}),
        ({"intermediate_size": 14336, "num_kv_heads": 8}, {"ffn_hidden_size": 14336, "num_kv_heads": 8}),
        (
            {"mlp_type": "regular", "activation": "swiglu", "intermediate_size": 33024, "use_bias_in_mlp": False},
            {"ffn_hidden_size": 11008, "gated_ffn": True, "ffn_bias": False},
        ),
        ({"mlp_type": "regular", "activation": "gelu"}, {"ffn_hidden_size": 16384, "gated_ffn": False, "ffn_bias": True}),
    ],
)
def test_the_feed_forward_of_gpt_neox(changed: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    """ParallelMLP and Llama's of GPT-NeoX: a gated one takes two thirds, half a side."""
    table = read(tmp_path, {**NEOX, **LLAMA, "vocab_size": 12345, **changed}).tables["model"]
    assert {name: table[name] for name in expected} == expected


def test_no_pipeline_and_flash_attention_of_gpt_neox(tmp_path: Path) -> None:
    flash = read(tmp_path, {**NEOX, "pipe-parallel-size": 0, "attention_config": [[["flash"], 44]]}).tables
    assert flash["layout"]["pp"] == 1
    assert flash["framework"]["attention_kernel"] == "flash"


def test_gpt_neox_with_a_higher_stage_runs_deepspeeds_engine(tmp_path: Path) -> None:
    three = {**NEOX, "pipe-parallel-size": 0, "model-parallel-size": 1, "zero_optimization": {"stage": 3}}
    found = read(tmp_path, three).tables
    assert found["framework"]["name"] == "deepspeed-zero"
    assert planner.plan(**found).layout.zero == 3


NANOTRON: dict[str, Any] = {
    "parallelism": {"dp": 2, "tp": 4, "pp": 2, "pp_engine": "1f1b", "tp_mode": "REDUCE_SCATTER", "expert_parallel_size": 1},
    "model": {
        "dtype": "bfloat16",
        "model_config": {
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 8,
            "tie_word_embeddings": False,
            "vocab_size": 128256,
            "is_llama_config": True,
        },
    },
    "optimizer": {"accumulate_grad_in_fp32": True, "zero_stage": 1, "optimizer_factory": {"name": "adamW"}},
    "tokens": {"micro_batch_size": 1, "batch_accumulation_per_replica": 8, "sequence_length": 4096, "train_steps": 100},
}


def test_nanotron_as_it_is_written(tmp_path: Path) -> None:
    found = read(tmp_path, NANOTRON)
    assert (found.tools, found.not_understood, found.unmodelled) == (("Nanotron",), (), ())
    assert found.tables["model"] == {"name": "llama-3-8b"}
    layout = {"tp": 4, "pp": 2, "ep": 1, "zero": 1, "sequence_parallel": True, "micro_batch_size": 1, "recompute": "none"}
    assert found.tables["layout"] == layout
    assert (found.tables["job"]["precision"], found.tables["job"]["global_batch_size"]) == ("bf16", 16)
    assert planner.plan(**found.tables).num_gpus == 16


def test_nanotron_says_how_many_gpus(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(NANOTRON))
    found = read_launch([tmp_path / "mine.yaml"], cluster={"accelerator": "h100-sxm5-80gb"})
    assert found.tables["cluster"]["num_gpus"] == 16


def test_nanotron_without_fp32_gradients_holds_no_master_weights(tmp_path: Path) -> None:
    optimizer = {**NANOTRON["optimizer"], "accumulate_grad_in_fp32": False}
    assert read(tmp_path, {**NANOTRON, "optimizer": optimizer}).tables["job"]["precision"] == "bf16-pure"


def test_no_sizes_where_none_are_said() -> None:
    assert sizes(Said(fields={"model.num_layers": 2})) == {}
