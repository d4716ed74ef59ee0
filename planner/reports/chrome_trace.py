"""A step's timeline as a Chrome trace, which Perfetto (ui.perfetto.dev) and chrome://tracing open, and its memory as a table.

Format: "Trace Event Format", docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (complete events "X",
counters "C", metadata "M"; microseconds).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.common.files import write_text
from planner.common.units import GIB
from planner.common.version import VERSION
from planner.training.timeline import SENT, Timeline

if TYPE_CHECKING:
    import pandas as pd

STREAMS = ("compute", *SENT)
"""Tracks of a stage: one for computation, one for each communication."""


def write_trace(path: Path, timeline: Timeline) -> None:
    """Write the trace; one process a pipeline stage, one thread a stream, one counter of memory by kind in GiB."""
    plan = timeline.plan
    about = {
        "planner": VERSION,
        "model": plan.model.name,
        "gpus": plan.num_gpus,
        "layout": plan.layout.label,
        "step_time_s": plan.step_time_s,
        "slowest_stage": timeline.slowest,
    }
    text = json.dumps({"traceEvents": list(_events(timeline)), "displayTimeUnit": "ms", "otherData": about})
    write_text(path, text + "\n")


def _events(timeline: Timeline) -> Iterator[dict[str, Any]]:
    stages = sorted({one.stage for one in timeline.slices})
    used = {(one.stage, _stream(one.part)) for one in timeline.slices}
    for stage in stages:
        yield {"ph": "M", "pid": stage, "name": "process_name", "args": {"name": f"pipeline stage {stage}"}}
        yield {"ph": "M", "pid": stage, "name": "process_sort_index", "args": {"sort_index": stage}}
        for thread, stream in enumerate(STREAMS):
            if (stage, stream) in used:
                name = stream.replace("_", " ")
                yield {"ph": "M", "pid": stage, "tid": thread, "name": "thread_name", "args": {"name": name}}
                yield {"ph": "M", "pid": stage, "tid": thread, "name": "thread_sort_index", "args": {"sort_index": thread}}
    for one in timeline.slices:
        name = one.part.replace("_", " ")
        where = {} if one.microbatch is None else {"micro-batch": one.microbatch, "chunk": one.chunk}
        yield {
            "ph": "X",
            "pid": one.stage,
            "tid": STREAMS.index(_stream(one.part)),
            "name": name if one.microbatch is None else f"{name} {one.microbatch}",
            "cat": f"{one.part},hidden" if one.hidden else one.part,
            "ts": one.start_s * 1e6,
            "dur": one.seconds * 1e6,
            "args": where,
        }
    for sample in timeline.samples:
        kinds = {kind: value / GIB for kind, value in sample.kinds_bytes.items()}
        yield {"ph": "C", "pid": sample.stage, "name": "memory (GiB)", "ts": sample.time_s * 1e6, "args": kinds}


def _stream(part: str) -> str:
    return part if part in SENT else "compute"


def memory_frame(timeline: Timeline) -> pd.DataFrame:
    """Memory over the step: a row for each change, bytes by kind and in all, of one GPU of each stage."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "time_s": one.time_s,
                "stage": one.stage,
                **{f"{kind}_bytes": value for kind, value in one.kinds_bytes.items()},
                "total_bytes": one.total_bytes,
            }
            for one in timeline.samples
        ]
    )
