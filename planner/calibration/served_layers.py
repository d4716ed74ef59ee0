"""Layers that serve, as the harness measures them, against the rows of serving: prompts and single tokens over a cache."""

from __future__ import annotations

from functools import cache

import numpy as np

from planner.calibration.records import Record, Sample, model_from_fields
from planner.hardware.cluster import Accelerator, Node, cluster
from planner.serving.engine import Engine, load_engine
from planner.serving.intervals import figure_of, subject_of
from planner.serving.pass_time import Times
from planner.serving.rows import Phase, layer_rows
from planner.serving.setting import Setting
from planner.serving.spec import Serving
from planner.uncertainty.interval import Interval, interval

PHASES: tuple[Phase, ...] = ("prefill", "decode")


@cache
def engine() -> Engine:
    """``kernels/families/serving.py`` in an engine's words: eager PyTorch, fused attention that shares keys and values, a cache
    that is written in place, one grouped product of the experts."""
    return load_engine("huggingface").replaced(copies_cache=False, repeats_kv_heads=False, fused_experts=True)


def layer_name(sample: Sample) -> str:
    """How a measured layer is called: what it is, its phase, sequences by tokens (a prompt's, or cached ones of decoding)."""
    x = sample.shape
    return f"{x['label']}, {x['phase']} {x['sequences']} x {x['tokens']}"


def layer_interval(sample: Sample, card: Accelerator, node: Node) -> Interval:
    """Seconds of one layer's pass on the device: the sum of its rows, without embedding and head, and without the host.

    Decoding is replayed as a CUDA graph, and a prompt keeps the device busy, so that neither waits for the host. The interval is
    that of serving times on such a GPU.
    """
    x = sample.shape
    phase, sequences, tokens = PHASES[x["phase"] == "decode"], int(x["sequences"]), int(x["tokens"])
    setting = Setting(
        model=model_from_fields(x["model"], layer_name(sample)),
        cluster=cluster(node, num_gpus=1, accelerator=card),
        engine=engine(),
        serving=Serving.build({"weights": sample.dtype, "batch": sequences, "prompt": tokens, "output": 1}, layer_name(sample)),
    )
    times = Times(setting=setting)
    new, past = (tokens, 0) if phase == "prefill" else (1, tokens)
    rows = layer_rows(setting, times.shape(phase, sequences, new, past))
    seconds = sum(float(np.ravel(times.row_s(row) * row.repeats)[0]) for row in rows)
    subject = subject_of(setting, figure_of(phase, sequences, False), float(sequences), float(tokens))
    return interval(seconds, phase, subject)


def measured_layers(record: Record) -> list[Sample]:
    """The record's layers that serve; on a CPU prompts alone, since a token's pass there is the host's Python."""
    phases = PHASES if record.device.kind == "cuda" else PHASES[:1]
    return [s for s in record.measured("serving") if s.shape.get("phase") in phases]
