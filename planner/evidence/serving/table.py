"""Which tables hold serving measurements."""

from __future__ import annotations

import csv
from pathlib import Path

from planner.common.errors import PlannerError
from planner.common.files import require_regular


def is_serving_table(path: Path) -> bool:
    """Whether a CSV has the columns of serving measurements."""
    try:
        require_regular(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error, PlannerError):
        return False
    return {"metric", "value", "unit", "prompt_len", "output_len"} <= set(header)
