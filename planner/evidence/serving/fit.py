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
from planner.common.spec import read_table
from planner.evidence.fit import Constant, Values
from planner.evidence.serving.check import predicted
from planner.evidence.serving.runs import ServingRun
from planner.serving.engine import CATALOG, engine_lineage
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
            return bool(setting.cluster.accelerator.curves == self.curves)
        return self.engine in engine_lineage(setting.engine.name)


@cache
def load_constants(path: Path = CONSTANTS) -> tuple[ServingConstant, ...]:
    """The constants that a fit may change."""
    table = read_table(path)["constant"]
    return tuple(ServingConstant.build(c, f"{path}: constant {i}") for i, c in enumerate(table, start=1))


@cache
def _own_fields(engine: str) -> frozenset[str]:
    """Fields that an engine states itself although it is based on another."""
    path = CATALOG / f"{engine}.toml"
    return frozenset(read_table(path)) if path.is_file() else frozenset()


def engine_changes(engine: str, values: Values) -> dict[str, float]:
    """Fields of an engine under ``values``: a nearer ancestor's value goes before a farther one's."""
    found: dict[str, float] = {}
    own = _own_fields(engine)
    for ancestor in reversed(engine_lineage(engine)):
        for c, v in zip(values.constants, values.values, strict=True):
            if getattr(c, "engine", "") == ancestor and (ancestor == engine or c.field not in own):
                found[c.field] = v
    return found


def with_values(times: Times, values: Values) -> Times:
    """The same deployment under other constants."""
    setting = times.setting
    engine = setting.engine.model_copy(update=engine_changes(setting.engine.name, values))
    name = setting.cluster.accelerator.curves
    changes = {c.field: v for c, v in zip(values.constants, values.values, strict=True) if c.curves == name}
    curves = setting.curves.model_copy(update=changes) if changes else None
    return replace(times, setting=replace(setting, engine=engine, own_curves=curves))


class Predictor:
    """``predict`` of planner/evidence/fit.py for serving runs; what fits in memory is looked up once a run."""

    def __init__(self, runs: Sequence[ServingRun]) -> None:
        self.runs = runs
        self.slots: dict[int, int] = {}

    def __call__(self, positions: Sequence[int], values: Values) -> NDArray[np.float64]:
        """Seconds or bytes of the runs at ``positions``."""
        return np.array([self._one(i, values) for i in positions])

    def _one(self, i: int, values: Values) -> float:
        run = self.runs[i]
        if run.quantity == "saturated" and i not in self.slots:
            self.slots[i] = slots_of(run.times)
        return predicted(run, with_values(run.times, values), self.slots.get(i))
