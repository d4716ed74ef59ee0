"""Types of the numbers that broadcast: float64 columns over layouts, masks and positions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""float64; one number a layout, or what broadcasts to it."""
Number = Array | float
"""One number, or one for each layout."""
Mask = NDArray[np.bool_]
"""True where it holds."""
Positions = NDArray[np.intp]
"""Indices of rows."""
