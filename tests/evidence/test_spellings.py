"""Words that people write in tables of runs are read, whatever the source."""

from __future__ import annotations

import csv

import pytest
from places import DATA

from planner.evidence.measured_runs import Run, read_run

PAPER = DATA / "korthikanti2022.csv"


def read(**cells: str) -> Run:
    with PAPER.open(newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    return read_run("row", {**first, "source": "my own", **cells})


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("PyTorch (HF)", "huggingface"),
        ("pytorch  (hf)", "huggingface"),
        ("Torchtitan", "torchtitan"),
        ("NeMo", "megatron-bridge"),
        ("DeepSpeed", "deepspeed-zero"),
    ],
)
def test_frameworks_as_people_write_them(cell: str, name: str) -> None:
    assert read(framework=cell, tp="1", data_parallel="ddp", num_gpus="8", dp="8", pp="1").framework.name == name


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("RTX 6000 Ada-48GB", "rtx-6000-ada"),
        ("A800-SXM-80GB", "a800-sxm4-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),
        ("RTX4090", "rtx-4090-24gb"),
    ],
)
def test_accelerators_as_people_write_them(cell: str, name: str) -> None:
    assert read(accelerator=cell).cluster.accelerator.name == name


def test_precision_and_kernels_of_transformer_engine() -> None:
    run = read(framework="Megatron-Core", accelerator="H100-SXM5-80GB", precision="FP8 (TE)", attention_kernel="TE")
    assert run.job.precision == "fp8"
    assert run.framework.attention_kernel == "flash"
