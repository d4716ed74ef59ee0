"""Layers that serve: what the harness measures of them, against the planner's rows of the same pass."""

from __future__ import annotations

import numpy as np
import pytest
from made_records import as_record, fake, session
from places import ROOT

from kernels import record as kernel_records
from kernels.families.serving import layers, pass_elements, pass_flops, passes
from planner.calibration.calibrate import calibrate
from planner.calibration.comparison import compared
from planner.calibration.records import Sample, read_record, single_node
from planner.calibration.served_layers import layer_interval, measured_layers
from planner.hardware.cluster import load_accelerator


def samples(dtype: str) -> list[Sample]:
    """Every pass that a GPU measures, as if it took a second."""
    found = []
    for label, model in layers(True):
        for phase, sizes in passes(True).items():
            for sequences, tokens in sizes:
                shape = {"label": label, "model": model.fields(), "phase": phase, "sequences": sequences, "tokens": tokens}
                new, past = (tokens, 0) if phase == "prefill" else (1, tokens)
                work = pass_flops(model, sequences, new, past), 2.0 * pass_elements(model, sequences, new, past)
                made = {**fake("serving", f"{phase} layer", shape, 1.0, *work), "dtype": dtype}
                found.append(Sample.model_validate(kernel_records.seal(made)))
    return found


@pytest.mark.parametrize(("name", "dtype"), [("h200-sxm-141gb", "bf16"), ("rtx-3070-8gb", "fp16")])
def test_no_layer_beats_its_roofline_and_none_takes_many_times_as_long(name: str, dtype: str) -> None:
    """The harness counts the least flops and bytes of a pass: on the data sheet they take no longer than the planner says."""
    card = load_accelerator(name)
    node = single_node(card)
    ratios = []
    for sample in samples(dtype):
        least = max(sample.flops / card.peak_flops_per_s[dtype], sample.bytes / card.memory_bandwidth_bytes_per_s)
        sure = layer_interval(sample, card, node)
        assert sure.lower <= sure.expected <= sure.upper
        ratios.append(sure.expected / least)
    assert min(ratios) > 0.98, ratios
    assert float(np.median(ratios)) < 3.0, ratios


def test_a_record_shows_its_layers_beside_its_steps() -> None:
    """On a CPU prompts alone: a token's pass is mostly Python there, which rows of a device do not count."""
    path = ROOT / "hardware_profiles" / "measured" / "amd-epyc-one-thread.json"
    record = read_record(path)
    assert {s.shape["phase"] for s in measured_layers(record)} == {"prefill"}
    rows = [row for row in compared(record, "x", made=calibrate(record, "x")).rows if row.metric == "served_layer_s"]
    assert len(rows) == 4
    assert all(row.lower <= row.measured <= row.upper for row in rows)
    assert float(np.median([abs(row.error) for row in rows])) <= 0.3


def test_on_a_gpu_decoding_is_compared_too() -> None:
    made = session()
    made.record["device"] |= {"kind": "cuda", "name": "NVIDIA H200", "memory_bytes": 150e9}
    record = as_record(made).model_copy(update={"samples": samples("bf16")})
    assert {s.shape["phase"] for s in measured_layers(record)} == {"prefill", "decode"}
