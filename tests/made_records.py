"""Records that tests make up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kernels import record as kernel_records
from kernels.session import Session


class Ticks:
    """A clock that moves by itself at every look: what a test measures then depends on no machine."""

    def __init__(self, step_s: float = 1e-3) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def session(out: Path | None = None) -> Session:
    return Session(torch.device("cpu"), 10.0, out, ["test"])


def as_record(made: Session) -> Any:
    from planner.calibration.records import Record

    return Record.model_validate(kernel_records.seal(made.record))


def fake(family: str, name: str, shape: dict[str, Any], seconds: float, flops: float, moved: float) -> dict[str, Any]:
    time = {"median_s": seconds, "p10_s": seconds, "p90_s": seconds, "minimum_s": seconds, "repeats": 9, "noisy": False}
    return kernel_records.seal(
        {
            "family": family,
            "name": name,
            "shape": shape,
            "dtype": "fp32",
            "status": "measured",
            "reason": "",
            "time": time,
            "flops": flops,
            "bytes": moved,
            "flops_per_s": flops / seconds or None,
            "bytes_per_s": moved / seconds,
            "error": 0.0,
            "extra": {},
        }
    )
