"""Write what a fit found into the catalog: constants into their TOML files, held-out runs and the model of their errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from planner.common.errors import PlannerError
from planner.common.files import write_together
from planner.common.references import Catalog
from planner.evidence.fit import Constant, Fit
from planner.evidence.held_out import TABLE, Held, load_held_out, uncertainty_text
from planner.hardware.curves import CURVES, forget_curves
from planner.uncertainty.effects import UNCERTAINTY
from planner.workload.framework import forget_frameworks
from planner.workload.framework_names import FRAMEWORKS

if TYPE_CHECKING:
    import pandas as pd


def write_fit(found: Fit, frame: pd.DataFrame, models: Sequence[Held], *, command: str, source: str, date: str) -> list[Path]:
    """Write the constants, the held-out runs and the model of their errors; returns the files that changed.

    All files change or none. A constant that keeps its value and source keeps
    its date too, so that the same runs give the same files on any day. What refers to it follows when it is next read.
    """
    texts = constants_written(found, lambda c: CURVES if c.curves else FRAMEWORKS, source, date)
    texts[UNCERTAINTY] = uncertainty_text(models, command)
    changed: dict[Path, Callable[[Path], object]] = {
        path: partial(Path.write_text, data=text, encoding="utf-8", newline="")
        for path, text in texts.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    old = load_held_out()
    if old is None or not old.equals(frame):
        changed[TABLE] = lambda temporary: frame.to_parquet(temporary, index=False)
    write_together(changed)
    forget_frameworks()
    forget_curves()
    CURVES.clear()
    return list(changed)


def constants_written(found: Fit, catalog_of: Callable[[Constant], Catalog], source: str, date: str) -> dict[Path, str]:
    """The texts of all files that hold a constant of the fit, with its value in them; references stay as they are.

    Raises PlannerError for a constant whose own line is a reference: the fit would cut it.
    """
    texts: dict[Path, str] = {}
    for constant, value in zip(found.constants, found.values.values, strict=True):
        catalog = catalog_of(constant)
        if target := catalog.refers(constant.place):
            raise PlannerError(
                "planner fit: {0} is {1} by reference; fit {2}, or state a value of its own in its file.",
                constant.name,
                target,
                target,
            )
        path = catalog.path(constant.place.file, "planner fit")
        text = texts.get(path) or path.read_text(encoding="utf-8")
        texts[path] = with_constant(text, constant.field, value, f"{source}; prior {constant.prior:g}: {constant.why}", date)
    return texts


def with_constant(text: str, field: str, value: float, source: str, date: str) -> str:
    """The TOML text with ``field`` set to ``value`` (three digits), marked fitted; it is appended where it was not there.

    >>> with_constant('a = 1\\n', "a", 0.123456, "runs", "2026-01-01")
    'a = { value = 0.123, kind = "fitted", source = "runs", date = "2026-01-01" }\\n'
    """
    head = f'{field} = {{ value = {_digits(value)}, kind = "fitted", source = "{source}", date = '
    old = re.search(rf"^{re.escape(field)} = .*$", text, flags=re.MULTILINE)
    if old is None:
        return f'{text.rstrip()}\n{head}"{date}" }}\n'
    if old.group().startswith(head):
        return text
    return text[: old.start()] + f'{head}"{date}" }}' + text[old.end() :]


def _digits(value: float) -> str:
    text = f"{value:.3g}"
    return text if any(c in text for c in ".e") else f"{text}.0"
