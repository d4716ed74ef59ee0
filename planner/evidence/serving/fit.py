"""The constants of engines that measurements may change, laid over the catalog; the fit itself is planner/evidence/fit.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.common import data
from planner.common.references import Changes, Place
from planner.common.spec import read_table
from planner.evidence.fit import Constant, Values
from planner.evidence.serving.check import predicted
from planner.evidence.serving.runs import ServingRun
from planner.hardware.curves import CURVES
from planner.serving.engine import ENGINES
from planner.serving.load import slots_of
from planner.serving.pass_time import Times

CONSTANTS = data.CATALOG / "serving_fit.toml"


class ServingConstant(Constant):
    """A constant of an engine, or of a chip family."""

    engine: str = ""

    @property
    def name(self) -> str:
        """For people and files: "vllm.host_s_per_step"."""
        return f"{self.curves or self.engine}.{self.field}"

    def touches(self, run: Any) -> bool:
        """Whether a run's prediction can depend on it."""
        setting = run.times.setting
        if self.curves:
            return CURVES.depends(setting.cluster.accelerator.curves, self.place)
        return setting.engine.name in ENGINES.names() and ENGINES.depends(setting.engine.name, self.place)

    @property
    def place(self) -> Place:
        """The file and the field that it stands in."""
        return Place(self.curves or self.engine, self.field)


@cache
def load_constants(path: Path = CONSTANTS) -> tuple[ServingConstant, ...]:
    """The constants that a fit may change."""
    table = read_table(path)["constant"]
    return tuple(ServingConstant.build(c, f"{path}: constant {i}") for i, c in enumerate(table, start=1))


def with_values(times: Times, values: Values) -> Times:
    """The same deployment under other constants, and under all that its files take from others by reference."""
    setting = times.setting
    changes = Changes((c.place, v) for c, v in zip(values.constants, values.values, strict=True) if not c.curves)
    moved = ENGINES.changed(setting.engine.name, changes) if setting.engine.name in ENGINES.names() else {}
    engine = setting.engine.model_copy(update=moved)
    chip = CURVES.changed(setting.cluster.accelerator.curves, values.chip_places)
    curves = setting.curves.model_copy(update=chip) if chip else None
    return replace(times, setting=replace(setting, engine=engine, own_curves=curves))


class Predictor:
    """``predict`` of planner/evidence/fit.py for serving runs; what fits in memory is looked up once a run."""

    def __init__(self, runs: Sequence[ServingRun]) -> None:
        self.runs = runs
        self.slots: dict[int, int] = {}

    def __call__(self, positions: Sequence[int], sets: Sequence[Values]) -> NDArray[np.float64]:
        """Seconds or bytes of the runs at ``positions`` (rows) under each set of constants (columns)."""
        return np.array([[self._one(i, values) for values in sets] for i in positions]).reshape(len(positions), len(sets))

    def _one(self, i: int, values: Values) -> float:
        run = self.runs[i]
        if run.quantity == "saturated" and i not in self.slots:
            self.slots[i] = slots_of(run.times)
        return predicted(run, with_values(run.times, values), self.slots.get(i))
