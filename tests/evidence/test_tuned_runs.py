"""Measured fine-tuning runs read from a table, and that fitting them leaves training alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.evidence.fit import load_constants
from planner.evidence.fit_sets import FIT_SETS, fit_set
from planner.evidence.measured_runs import Run, read_runs
from planner.workload.framework import lineage

HEADER = (
    "id,source,model,num_layers,hidden_size,num_heads,vocab_size,seq_len,accelerator,num_gpus,micro_batch_size,global_batch_size,"
    "precision,recompute,method,lora_rank,lora_targets,quant_bits,peak_allocated_gib,peak_reserved_gib,memory_kind,step_time_s,"
    "notes,framework"
)


def read(tmp_path: Path, *rows: str) -> tuple[list[Run], list[str]]:
    path = tmp_path / "runs.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    runs, refused = read_runs(path)
    return runs, [r.reason for r in refused]


def row(**cells: str) -> str:
    start = {
        "id": "a", "model": "Llama2-7B", "seq_len": "2048", "accelerator": "A100-SXM4-80GB", "num_gpus": "1",
        "micro_batch_size": "1", "global_batch_size": "8", "precision": "bf16", "recompute": "full", "method": "lora",
        "lora_rank": "8", "lora_targets": "q,v", "peak_allocated_gib": "20", "framework": "peft",
    }  # fmt: skip
    given = {k: f'"{v}"' if "," in v else v for k, v in {**start, **cells}.items()}
    return ",".join(given.get(name, "") for name in HEADER.split(","))


def test_a_row_without_sizes_takes_the_catalog_s_model_and_its_names(tmp_path: Path) -> None:
    (run,), refused = read(tmp_path, row())
    assert not refused
    assert run.model.name == "llama-2-7b"
    assert run.job.kind == "lora"
    assert run.job.adapter is not None
    assert run.job.adapter.target_modules == ("query", "value")


def test_targets_are_those_that_the_model_has(tmp_path: Path) -> None:
    (run,), _ = read(tmp_path, row(model="qwen-7b-chat", lora_targets="DEFAULT (c_attn / qkv)"))
    assert run.job.adapter is not None
    assert run.job.adapter.target_modules == ("query_key_value",)


def test_quantized_rows_say_how(tmp_path: Path) -> None:
    runs, _ = read(
        tmp_path,
        row(id="a", method="qlora", quant_bits="4"),
        row(id="b", method="gptq-lora", quant_bits="4"),
        row(id="c", method="qlora", quant_bits="8", source="ms-swift", notes="int8 (gptq)"),
    )
    assert [(r.job.kind, r.job.quantization.format) for r in runs if r.job.quantization] == [
        ("qlora", "nf4"),
        ("gptq-lora", "gptq-int4"),
        ("gptq-lora", "gptq-int8"),
    ]


def test_decimal_gigabytes_are_read_as_such(tmp_path: Path) -> None:
    (run,), _ = read(tmp_path, row(peak_allocated_gib="", peak_reserved_gib="10", memory_kind="peak GB as printed"))
    assert run.memory_bytes == {"allocated": 10e9}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"method": "dora"}, "method = 'dora': must be one of lora, "),
        ({"lora_rank": ""}, "lora_rank is empty or 0"),
        ({"lora_rank": "0"}, "lora_rank is empty or 0"),
        ({"quant_bits": "4"}, "quant_bits = 4 with method = 'lora'"),
        ({"method": "qlora", "quant_bits": "3"}, "quant_bits = 3: must be 4 or 8"),
        ({"lora_targets": "wq,wk"}, "lora_targets = 'wq"),
        ({"model": "unknown-model"}, "num_layers is empty"),
    ],
)
def test_bad_rows_are_refused_with_the_column(tmp_path: Path, cells: dict[str, str], message: str) -> None:
    runs, refused = read(tmp_path, row(**cells))
    assert not runs
    assert message in refused[0]


def test_the_sets_of_constants_share_no_stack_so_that_neither_fit_moves_the_other() -> None:
    training, tuning = (load_constants(FIT_SETS[name].constants) for name in ("training", "finetune"))
    trained = {c.framework for c in training if c.framework}
    assert all(not c.curves for c in tuning)
    assert not trained & {c.framework for c in tuning}
    # nor is a training stack based on one of fine-tuning
    assert not {name for stack in trained for name in lineage(stack)} & {c.framework for c in tuning}


def test_an_unknown_set_is_an_error_that_lists_them() -> None:
    with pytest.raises(Exception, match="--set tuning"):
        fit_set("tuning")
