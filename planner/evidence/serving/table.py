"""Which tables hold serving measurements."""

from __future__ import annotations

import csv
from pathlib import Path


def is_serving_table(path: Path) -> bool:
    """Whether a CSV has the columns of serving measurements."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return {"metric", "value", "unit", "prompt_len", "output_len"} <= set(header)
