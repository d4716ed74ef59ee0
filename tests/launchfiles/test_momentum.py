"""SGD with and without momentum, as each tool's own default is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.export import export_plan
from planner.launchfiles import read_launch
from tests.export.test_export import megatron, plan

SIZES = "--num-layers 2 --hidden-size 512 --num-attention-heads 8 --seq-length 512 --max-position-embeddings 512"
BATCH = "--micro-batch-size 1 --global-batch-size 8 --bf16 --vocab-size 32000"


@pytest.mark.parametrize(
    ("words", "optimizer"),
    [
        ("", "sgd-momentum"),
        ("--sgd-momentum 0.95", "sgd-momentum"),
        *((f"--sgd-momentum {zero}", "sgd") for zero in ("0.0", "0", "0.00", "0e0", ".0")),
    ],
)
def test_megatrons_sgd_has_a_momentum_unless_it_is_0(words: str, optimizer: str, tmp_path: Path) -> None:
    """--sgd-momentum is 0.9 where it is not said (megatron/training/arguments.py)."""
    (tmp_path / "train.sh").write_text(f"torchrun --nproc-per-node 8 pretrain_gpt.py {SIZES} {BATCH} --optimizer sgd {words}\n")
    assert read_launch([tmp_path / "train.sh"], cluster={"accelerator": "h100-sxm5-80gb"}).tables["job"]["optimizer"] == optimizer


@pytest.mark.parametrize(("parameters", "optimizer"), [({"lr": 0.1}, "sgd"), ({"lr": 0.1, "momentum": 0.9}, "sgd-momentum")])
def test_deepspeeds_sgd_has_none_unless_it_is_said(parameters: dict[str, float], optimizer: str, tmp_path: Path) -> None:
    """DeepSpeed calls torch.optim.SGD with these parameters (runtime/engine.py, _configure_basic_optimizer)."""
    config = {"train_batch_size": 8, "zero_optimization": {"stage": 1}, "optimizer": {"type": "SGD", "params": parameters}}
    (tmp_path / "ds.json").write_text(json.dumps(config))
    (tmp_path / "train.sh").write_text(
        "deepspeed --num_gpus 8 train.py --deepspeed ds.json --model_name_or_path meta-llama/Llama-3.1-8B --max_seq_length 512\n"
    )
    assert (
        read_launch([tmp_path / "train.sh", tmp_path / "ds.json"], cluster={"accelerator": "h100-sxm5-80gb"}).tables["job"][
            "optimizer"
        ]
        == optimizer
    )


@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.0), ("sgd-momentum", 0.9)])
def test_an_exported_sgd_reads_back(optimizer: str, momentum: float, tmp_path: Path) -> None:
    before = plan(zero=1, job={"optimizer": optimizer})
    assert megatron(before).sgd_momentum == momentum
    for tool in ("megatron", "nemo"):
        files = export_plan(before, tool)
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        assert read_launch([tmp_path / name for name in files]).tables["job"]["optimizer"] == optimizer


def test_momentum_is_four_bytes_a_parameter_and_time() -> None:
    """States of torch.optim.SGD: none, or momentum_buffer of each weight in fp32, read and written once a step."""
    found = {name: plan(zero=1, tp=1, job={"optimizer": name}) for name in ("sgd", "sgd-momentum", "adamw")}
    states = {name: one.memory_bytes["optimizer"] for name, one in found.items()}
    assert states["adamw"] - states["sgd-momentum"] == pytest.approx(states["sgd-momentum"] - states["sgd"])
    assert found["sgd"].step_time_s < found["sgd-momentum"].step_time_s < found["adamw"].step_time_s
