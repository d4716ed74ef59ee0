"""What a launch file says twice, and not alike: the tool would not start, and no answer is made of one half."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.common.errors import PlannerError
from planner.launchfiles import Launch, read_launch

MEGATRON = (
    "torchrun --nproc_per_node=8 pretrain_gpt.py --tensor-model-parallel-size 8 --num-layers 32 --hidden-size 4096 "
    "--num-attention-heads 32 --seq-length 2048 --max-position-embeddings 2048 --micro-batch-size 1 --global-batch-size 128 "
)
AXOLOTL = (
    "base_model: meta-llama/Meta-Llama-3-8B\nadapter: lora\nlora_r: 16\nsequence_len: 4096\nmicro_batch_size: 2\n"
    "gradient_accumulation_steps: 4\n"
)
ZERO = '{"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 4, '


def read(folder: Path, name: str, text: str) -> Launch:
    (folder / name).write_text(text)
    asked: dict[str, Any] = {"cluster": {"accelerator": "h100-sxm5-80gb", "num_gpus": 8}}
    if name.endswith(".json"):
        asked |= {"model": "llama-3-8b", "over": {"job.seq_len": 2048}}
    return read_launch([folder / name], **asked)


@pytest.mark.parametrize(
    ("name", "text", "off", "one", "two"),
    [
        ("a.sh", MEGATRON + "--bf16 --fp16", MEGATRON + "--bf16", "--bf16", "--fp16"),
        ("a.sh", MEGATRON + "--train-iters 9 --train-samples 99", MEGATRON + "--train-iters 9",
         "--train-iters", "--train-samples"),
        ("a.yml", AXOLOTL + "load_in_4bit: true\nload_in_8bit: true", AXOLOTL + "load_in_4bit: true\nload_in_8bit: false",
         "load_in_4bit", "load_in_8bit"),
        ("a.yml", AXOLOTL + "bf16: true\nfp16: true", AXOLOTL + "bf16: true\nfp16: false", "bf16", "fp16"),
        ("a.json", ZERO + '"bf16": {"enabled": true}, "fp16": {"enabled": true}}',
         ZERO + '"bf16": {"enabled": true}, "fp16": {"enabled": false}}', "bf16.enabled", "fp16.enabled"),
    ],
)  # fmt: skip
def test_two_options_that_exclude_each_other_are_refused_by_name(
    name: str, text: str, off: str, one: str, two: str, tmp_path: Path
) -> None:
    """Megatron, transformers and DeepSpeed take one of them; either alone is read, also beside the other written as off."""
    with pytest.raises(PlannerError, match=f"{one} and {two}: both are set, and a run takes one of them; leave the other out"):
        read(tmp_path, name, text)
    read(tmp_path, name, off)


@pytest.mark.parametrize(("batch", "told"), [(128, True), (256, False)])
def test_a_batch_that_its_parts_do_not_make_is_told(batch: int, told: bool, tmp_path: Path) -> None:
    """4 sequences x 8 times x 8 ranks: DeepSpeed starts with 256 alone."""
    config = {**json.loads(ZERO + '"bf16": {"enabled": true}}'), "train_batch_size": batch, "gradient_accumulation_steps": 8}
    found = read(tmp_path, "a.json", json.dumps(config))
    said = "gradient_accumulation_steps = 8: 4 sequences on 8 ranks make 256, not 128; the batch holds, with 4"
    assert [str(note) for note in found.notes if "accumulation" in str(note)] == ([said] if told else [])
    assert found.tables["job"]["global_batch_size"] == batch
