"""The constants of engines that measurements may change, laid over the catalog; the fit itself is planner/evidence/fit.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.common import data
from planner.common.files import State, state_of
from planner.common.message import Message
from planner.common.references import Changes, Place
from planner.common.spec import read_table
from planner.evidence.fit import Constant, Values
from planner.evidence.serving.check import Loop, predicted, table_key
from planner.evidence.serving.runs import ServingRun
from planner.hardware.curves import CURVES
from planner.serving.engine import ENGINES, Engine
from planner.serving.load import Replica, replica, slots_of
from planner.serving.pass_time import Times

CONSTANTS = data.CATALOG / "serving_fit.toml"


class ServingConstant(Constant):
    """A constant of an engine, or of a GPU family."""

    engine: str = ""

    @property
    def name(self) -> str:
        """For people and files: "vllm.host_s_per_step"."""
        return f"{self.curves or self.engine}.{self.field}"

    def touches(self, run: Any) -> bool:
        """Whether a run's prediction can depend on it: of its GPU, or by a field of its engine that takes its value from here."""
        setting = run.times.setting
        if self.curves:
            return CURVES.depends(setting.cluster.accelerator.curves, self.place)
        name = setting.engine.name
        return name in ENGINES.names() and any(_concerns(field, run) for field in _taken(name, ENGINES.state(name), self.place))

    @property
    def place(self) -> Place:
        """The file and the field that it stands in."""
        return Place(self.curves or self.engine, self.field)


@lru_cache(maxsize=4096)
def _taken(engine: str, state: tuple[State, ...], place: Place) -> tuple[str, ...]:
    """Fields of an engine whose value is the constant at ``place``, its own or by reference, where no nearer constant stands;
    ``state``: of the engine's files, as the catalog has it."""
    constants = {c.place for c in load_constants() if not c.curves}
    chains = {field: ENGINES.places(Place(engine, field)) for field in Engine.model_fields}
    return tuple(field for field, chain in chains.items() if next((p for p in chain if p in constants), None) == place)


def _concerns(field: str, run: ServingRun) -> bool:
    """Whether a run of its kind can depend on an engine's field at all; True in doubt."""
    setting = run.times.setting
    fmt, loop = setting.format, run.quantity in ("loop_token", "loop_first")
    never = {
        "request_s": not loop,
        "request_s_per_token": not loop,
        "collective_rate": setting.serving.num_gpus == 1,
        "collective_wait_s": setting.serving.tp == 1,
        "exchange_wait_s": setting.serving.ep == 1,
        "host_s_per_stage": setting.serving.pp == 1,
        "expert_bandwidth_rate": not setting.model.num_experts,
        "expert_compute_rate": not setting.model.num_experts,
        "narrow_bandwidth_rate": fmt.compute is None,
        "narrow_host_rate": fmt.compute is None,
        "fp8_bandwidth_rate": fmt.compute != "fp8",
        "int4_bandwidth_rate": fmt.family != 4 or fmt.compute is not None,
        "int4_host_rate": fmt.family != 4,
        "awq_bandwidth_rate": fmt.name != "int4-awq",
        "mxfp4_bandwidth_rate": fmt.name != "mxfp4",
        "mxfp4_compute_rate": fmt.name != "mxfp4",
        "expanding_compute_rate": fmt.family == 16 or fmt.compute is not None or fmt.name == "mxfp4",
        "awq_host_rate": fmt.name != "int4-awq",
        "int8_bandwidth_rate": fmt.family != 8 or fmt.compute is not None,
        "expanding_sm_bytes_per_s": fmt.family == 16 or fmt.compute is not None,
        "int8_host_rate": fmt.family != 8,
        "prefill_rate": run.quantity == "decode",
        "prefill_attention_rate": run.quantity == "decode",
    }
    return not never.get(field, False)


def load_constants(path: Path = CONSTANTS) -> tuple[ServingConstant, ...]:
    """The constants that a fit may change."""
    return _constants(path, state_of(str(path)))


@lru_cache(maxsize=1024)
def _constants(path: Path, state: State) -> tuple[ServingConstant, ...]:
    table = read_table(path)["constant"]
    return tuple(ServingConstant.build(c, Message("{0}: constant {1}", path, i)) for i, c in enumerate(table, start=1))


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
    """``predict`` of planner/evidence/fit.py for serving runs; what fits in memory is looked up once a run.

    Closed loops that differ in their clients alone share their tables.
    """

    def __init__(self, runs: Sequence[ServingRun]) -> None:
        self.runs = runs
        self.slots: dict[int, int] = {}
        self.loops: dict[int, Loop] = {}
        self.widest: dict[str, Loop] = {}
        known: dict[str, Loop] = {}  # both figures of a loop come from one simulation
        for i, run in enumerate(runs):
            if run.quantity in ("loop_token", "loop_first"):
                name = f"{run.batch} {table_key(run)}"
                self.loops[i] = known[name] = known.get(name) or Loop(run)
        for loop in known.values():
            before = self.widest.setdefault(loop.key, loop)
            self.widest[loop.key] = loop if loop.room.slots > before.room.slots else before
        self.tables: dict[str, Replica] = {}

    def __call__(self, positions: Sequence[int], sets: Sequence[Values]) -> NDArray[np.float64]:
        """Seconds or bytes of the runs at ``positions`` under each set of constants, shape ``(positions, sets)``.

        Closed loops are simulated under the first; under the others, which lie close by, they keep its schedule.
        """
        found = []
        for number, values in enumerate(sets):
            self.tables.clear()
            found.append([self._one(i, values, simulated=number == 0) for i in positions])
        return np.array(found).T.reshape(len(positions), len(sets))

    def _one(self, i: int, values: Values, simulated: bool) -> float:
        run, loop = self.runs[i], self.loops.get(i)
        if loop is not None:
            if loop.key not in self.tables:
                widest = self.widest[loop.key]
                self.tables[loop.key] = replica(with_values(widest.run.times, values), widest.room)
            table = self.tables[loop.key]
            token_s, first_s = loop.simulated(table) if simulated else loop.near(table)
            return token_s if run.quantity == "loop_token" else first_s
        if run.quantity == "saturated" and i not in self.slots:
            self.slots[i] = slots_of(run.times)
        return predicted(run, with_values(run.times, values), self.slots.get(i))
