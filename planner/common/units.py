"""Constants and widths. SI inside (bytes, flop, seconds, USD); these names only label displays and data files."""

import math
from typing import Final

GB: Final = 1e9
GIB: Final = 2.0**30
TERA: Final = 1e12
HOUR_S: Final = 3600.0
DAY_S: Final = 86400.0
DURATIONS: Final = (
    (1.0, 1e-3, 1, "ms"),
    (120.0, 1.0, 2, "s"),
    (HOUR_S, 60.0, 2, "min"),
    (3 * DAY_S, HOUR_S, 2, "h"),
    (math.inf, DAY_S, 1, "days"),
)
"""Of durations: below how many seconds, seconds in one, decimals, name."""

DTYPE_BYTES: Final[dict[str, float]] = {
    "fp64": 8.0,
    "fp32": 4.0,
    "tf32": 4.0,
    "fp16": 2.0,
    "bf16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "fp4": 0.5,
}
"""Bytes per stored element. tf32 is a matrix-multiply mode: its operands are stored as fp32."""
