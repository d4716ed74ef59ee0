"""The multiple that Megatron-LM pads a vocabulary to, counted where it adds words that are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.launchfiles import read_launch

SIZES = "--num-layers 32 --hidden-size 4096 --num-attention-heads 32 --seq-length 4096 --ffn-hidden-size 11008 --swiglu"
USUAL = "--position-embedding-type rope --micro-batch-size 1 --global-batch-size 8 --bf16 --train-iters 10"


def model_of(folder: Path, step: int | None, tp: int, words: int) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """([model], [framework], notes) of a pretrain_gpt.py command."""
    multiple = "" if step is None else f"--make-vocab-size-divisible-by {step}"
    path = folder / "train.sh"
    said = f"--tensor-model-parallel-size {tp} {SIZES} {USUAL} --vocab-size {words} {multiple}"
    path.write_text(f"torchrun --nproc_per_node 8 pretrain_gpt.py {said}\n")
    found = read_launch([path], cluster={"accelerator": "h100-sxm5-80gb"})
    assert "--make-vocab-size-divisible-by" not in " ".join((*found.ignored, *found.not_understood))
    return found.tables["model"], found.tables["framework"], found.notes


@pytest.mark.parametrize(
    ("step", "tp", "words", "padded"),
    [
        (None, 8, 50257, 50257),
        (128, 8, 50257, 50257),  # 50,257 -> 51,200, fewer words than are counted anywhere
        (4096, 2, 50257, 57344),  # ceil(50257 / 8192) x 8192
        (16384, 1, 50257, 65536),
        (1, 8, 50257, 50257),
    ],
)
def test_words_up_to_the_multiple_are_counted(tmp_path: Path, step: int | None, tp: int, words: int, padded: int) -> None:
    model, _, notes = model_of(tmp_path, step, tp, words)
    assert model["vocab_size"] == padded
    assert any("up to a multiple" in note for note in notes) == (padded > words)


@pytest.mark.parametrize(
    ("step", "tp", "words", "pads"),
    [
        (None, 1, 50257, None),
        (128, 1, 50257, None),
        (1, 1, 50257, False),
        (64, 1, 50240, False),
        (64, 1, 50304, None),
        (256, 1, 50257, None),
    ],
)
def test_a_smaller_multiple_leaves_a_rank_with_slow_words(
    tmp_path: Path, step: int | None, tp: int, words: int, pads: bool | None
) -> None:
    """None: as the framework pads, whose own multiple is 128."""
    assert model_of(tmp_path, step, tp, words)[1].get("pads_vocabulary") == pads
