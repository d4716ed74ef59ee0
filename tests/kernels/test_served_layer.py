"""The layer that serves: a cache gives the same as computing the whole sequence; its flops are the planner's rows'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from made_records import session

from kernels.families import serving
from kernels.families.serving import ServedLayer, layers, pass_flops
from kernels.models import decoder, experts
from planner.calibration.records import model_from_fields, single_node
from planner.hardware.cluster import cluster, load_accelerator
from planner.serving.engine import load_engine
from planner.serving.pass_time import Times
from planner.serving.rows import pass_rows
from planner.serving.setting import Setting
from planner.serving.spec import Serving

DENSE = decoder(1, 64, 4, 2, 96, 32)
MIXTURE = decoder(1, 64, 4, 4, 96, 32, **experts(4, 2, 96))


@pytest.mark.parametrize("model", [DENSE, MIXTURE])
def test_a_sequence_in_pieces_is_the_sequence(model: Any) -> None:
    """A prompt at once, or its first half and then token by token over the cache."""
    torch.manual_seed(0)
    whole = ServedLayer(model, 2, 16, torch.device("cpu"), torch.float32)
    pieces = ServedLayer(model, 2, 16, torch.device("cpu"), torch.float32)
    pieces.block = whole.block
    x = torch.randn(2, 16, model.hidden_size)
    expected = whole.run(x, 0)
    found = [pieces.run(x[:, :8], 0), *(pieces.run(x[:, i : i + 1], i) for i in range(8, 16))]
    torch.testing.assert_close(torch.cat(found, dim=1), expected)
    torch.testing.assert_close(pieces.keys, whole.keys)


@pytest.mark.parametrize(("phase", "sequences", "new", "past"), [("prefill", 4, 128, 0), ("decode", 8, 1, 511)])
@pytest.mark.parametrize("label", ["dense 8B", "MoE 8 x top 2", "MoE 128 x top 8"])
def test_flops_of_a_pass_are_the_rows(label: str, phase: Any, sequences: int, new: int, past: int) -> None:
    model = dict(layers(True))[label]
    card = load_accelerator("h200-sxm-141gb")
    setting = Setting(
        model=model_from_fields(model.fields(), "layer"),
        cluster=cluster(single_node(card), num_gpus=1, accelerator=card),
        engine=load_engine("huggingface"),
        serving=Serving.build({"engine": "huggingface", "prompt": 128, "output": 128}, "serving"),
    )
    rows = pass_rows(setting, Times(setting=setting).shape(phase, sequences, new, past))
    layer = [row for row in rows if row.block not in ("embedding", "head", "logits") and row.work is not None]
    flops = float(sum(np.sum(row.flops) for row in layer))
    assert pass_flops(model, sequences, new, past) == pytest.approx(flops, rel=0.01)


def test_every_pass_is_measured_and_checked(monkeypatch: Any) -> None:
    monkeypatch.setattr(serving, "layers", lambda cuda: [("dense", DENSE), ("MoE", MIXTURE)])
    monkeypatch.setattr(serving, "passes", lambda cuda: {"prefill": [(1, 8)], "decode": [(2, 8)]})
    monkeypatch.setattr(serving, "CHECKED", 4)
    made = session()
    made.family("serving", serving.cases(made), 4.0)
    samples = made.record["samples"]
    assert [s["status"] for s in samples] == ["measured"] * 4
    assert all(s["error"] < 1e-5 and s["flops_per_s"] for s in samples)
