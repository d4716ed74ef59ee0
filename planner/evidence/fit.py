"""Fit the few constants that ``catalog/fit.toml`` names to measured runs, and predict each run by a fit that never saw it.

A constant belongs to a GPU family or to a framework. The fit minimizes, over log ratios of predicted to measured step
time, a robust loss (soft L1) with each source weighed by the square root of its rows, plus the distance of the
constants from their priors. Priors that rest on one reason are wrong together (``prior_precision``). Gauss-Newton; derivatives
by finite differences on those rows that a constant can touch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from planner.common import data
from planner.common.errors import PlannerError
from planner.common.files import State, state_of
from planner.common.message import Message
from planner.common.processes import others
from planner.common.references import Changes, Place
from planner.common.spec import Spec, read_table
from planner.evidence.measured_runs import Run
from planner.hardware.curves import CURVES, Curves, load_curves
from planner.workload.framework import Framework
from planner.workload.framework_names import FRAMEWORKS

CONSTANTS = data.CATALOG / "fit.toml"
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
ROBUST_SCALE = 0.1
"""Log ratio from which a row pulls less than in proportion: ten percent."""
LARGEST_GROUP = 48
"""Rows of one source and accelerator that a fit looks at; the others are predicted only."""
STEP = 0.02
"""Finite difference, in units of a constant's own scale."""
SAME_REASON = 0.5
"""Correlation of the priors of constants that are off together (``Constant.reason``): assumed, half of what they are off by is
the reason's. A framework or GPU family without runs then follows those that were measured. From 0.3 to 0.9 the mean error of runs
left out with their source hardly moves; without any it is larger by a twentieth."""


class Constant(Spec):
    """One number that runs may change: where it stands, what is known of it beforehand, and its limits."""

    curves: str = ""
    framework: str = ""
    field: str
    prior: float
    spread: float
    lower: float
    upper: float
    scale: Literal["log", "linear"] = "log"
    why: str = ""
    reason: str = ""  # constants of one reason are off together: what it says of one stack or chip holds for the others

    @model_validator(mode="before")
    @classmethod
    def _of_another(cls, d: Any) -> Any:
        """``prior = { same_as = "h200" }``: what that GPU's curves hold in this field now, or ``times`` as much."""
        prior = d.get("prior") if isinstance(d, dict) else None
        if not isinstance(prior, dict):
            return d
        if not {"same_as"} <= set(prior) <= {"same_as", "times"} or not d.get("curves"):
            raise ValueError(Message("prior = {0}: give a number, or same_as = a file of kernel curves, beside curves", prior))
        return {**d, "prior": getattr(load_curves(str(prior["same_as"])), d["field"]) * prior.get("times", 1.0)}

    @property
    def name(self) -> str:
        """For people and files: "h100.sustained_fraction"."""
        return f"{self.curves or self.framework}.{self.field}"

    def inner(self, value: float) -> float:
        """The coordinate in which the prior is normal with standard deviation ``spread``."""
        return float(np.log(value)) if self.scale == "log" else value

    def outer(self, coordinate: float) -> float:
        """The value at a coordinate, within its limits."""
        return float(np.clip(np.exp(coordinate) if self.scale == "log" else coordinate, self.lower, self.upper))

    def touches(self, run: Run) -> bool:
        """Whether a run's prediction can depend on it."""
        if self.curves:
            return CURVES.depends(run.cluster.accelerator.curves, self.place)
        name = run.framework.name
        return name in FRAMEWORKS.names() and FRAMEWORKS.depends(name, self.place)

    @property
    def place(self) -> Place:
        """The file and the field that it stands in."""
        return Place(self.curves or self.framework, self.field)


def load_constants(path: Path = CONSTANTS) -> tuple[Constant, ...]:
    """The constants that a fit may change."""
    return _constants(path, state_of(str(path)))


@lru_cache(maxsize=1024)
def _constants(path: Path, state: State) -> tuple[Constant, ...]:
    return tuple(
        Constant.build(c, Message("{0}: constant {1}", path, i)) for i, c in enumerate(read_table(path)["constant"], start=1)
    )


@dataclass(frozen=True)
class Values:
    """Constants with values, ready to be laid over the catalog."""

    constants: tuple[Constant, ...]
    values: tuple[float, ...]

    def framework(self, run: Run) -> Framework:
        """The run's framework with these values, and with all that its file takes from others by reference."""
        return _framework(run.framework, self.places)

    def curves(self, run: Run) -> Curves:
        """The run's curves with these values, and with all that its GPU takes from others by reference."""
        return _curves(run.cluster.accelerator.curves, self.chip_places)

    @cached_property
    def places(self) -> Changes:
        """Value by place of the constants of frameworks."""
        return Changes((c.place, v) for c, v in zip(self.constants, self.values, strict=True) if not c.curves)

    @cached_property
    def chip_places(self) -> Changes:
        """Value by place of the constants of GPUs."""
        return Changes((c.place, v) for c, v in zip(self.constants, self.values, strict=True) if c.curves)


@lru_cache(maxsize=4096)
def _framework(start: Framework, changes: Changes) -> Framework:
    moved = FRAMEWORKS.changed(start.name, changes) if start.name in FRAMEWORKS.names() else {}
    return start.replaced(**moved) if moved else start


@lru_cache(maxsize=4096)
def _curves(name: str, changes: Changes) -> Curves:
    start = load_curves(name)
    moved = CURVES.changed(name, changes)
    return start.replaced(**moved) if moved else start


Predict = Callable[[Sequence[int], Sequence[Values]], Matrix]
"""Seconds of a step, predicted, for the runs at some positions (rows) under some sets of constants (columns)."""


@dataclass(frozen=True)
class Fit:
    """The result: coordinates of the constants, log ratios of all rows, and their derivatives."""

    constants: tuple[Constant, ...]
    coordinates: Vector
    residuals: Vector  # log(predicted / measured), one per run
    derivatives: Matrix  # (runs, constants)
    weights: Vector

    @property
    def values(self) -> Values:
        """The constants at the optimum."""
        return values_at(self.constants, self.coordinates)


def values_at(constants: tuple[Constant, ...], coordinates: Sequence[float] | Vector) -> Values:
    """Values of constants at coordinates."""
    return Values(constants, tuple(c.outer(float(x)) for c, x in zip(constants, coordinates, strict=True)))


GROUP = ("source", "accelerator")
"""Columns that name rows that err alike."""


def row_weights(runs: Sequence[Run], by: Sequence[str] = GROUP) -> Vector:
    """n^(-1/4) for n rows alike in columns ``by``, half for quality B: squared, a group counts as sqrt(n) rows."""
    groups: dict[tuple[str, ...], int] = {}
    keys = [tuple(run.columns.get(column, "") for column in by) for run in runs]
    for key in keys:
        groups[key] = groups.get(key, 0) + 1
    quality = np.array([0.5 if run.columns.get("quality") == "B" else 1.0 for run in runs])
    return quality / np.array([groups[key] for key in keys], dtype=float) ** 0.25


def thinned(runs: Sequence[Run], by: Sequence[str] = GROUP, most: int = LARGEST_GROUP) -> list[int]:
    """Positions of at most ``most`` rows, evenly spaced, of those alike in columns ``by``: what a fit looks at."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, run in enumerate(runs):
        groups.setdefault(tuple(run.columns.get(column, "") for column in by), []).append(i)
    kept = []
    for members in groups.values():
        count = min(len(members), most)
        kept += [members[round(k * (len(members) - 1) / max(count - 1, 1))] for k in range(count)]
    return sorted(kept)


def fit(
    runs: Sequence[Run],
    predict: Predict,
    constants: tuple[Constant, ...] | None = None,
    iterations: int = 3,
    progress: Callable[[int, int], None] | None = None,
    by: Sequence[str] = GROUP,
) -> Fit:
    """Fit the constants to the step times of ``runs``; rows alike in columns ``by`` weigh less each.

    Raises PlannerError when there is nothing to fit on.
    """
    chosen = load_constants() if constants is None else constants
    used = tuple(c for c in chosen if any(c.touches(run) for run in runs))
    if not runs or not used:
        raise PlannerError("planner fit: no measured step time touches a constant of catalog/fit.toml; nothing to fit.")
    measured = np.log(np.array([run.step_time_s for run in runs], dtype=float))
    touched = np.array([[c.touches(run) for c in used] for run in runs])
    weights = row_weights(runs, by)
    prior = np.array([c.inner(c.prior) for c in used])
    spread = np.array([c.spread for c in used])
    precision = prior_precision(used)
    x = prior.copy()
    for iteration in range(iterations + 1):
        base, slopes = linearized(predict, used, x, touched)
        if progress is not None:
            progress(iteration + 1, iterations + 1)
        base = base - measured
        if iteration == iterations:
            break
        step = gauss_newton_step(x, base, slopes, weights, prior, precision)
        x = _clipped(used, x + step)
        if np.max(np.abs(step) / spread) < 1e-4:
            iterations = iteration + 1
    return Fit(used, x, base, slopes, weights)


def linearized(predict: Predict, constants: tuple[Constant, ...], x: Vector, touched: NDArray[np.bool_]) -> tuple[Vector, Matrix]:
    """(log seconds of each run, their derivatives by finite differences), shape ``(runs,)`` and ``(runs, constants)``.

    Runs that the same constants touch go together: one call predicts them under every constant moved in turn.
    """
    base, slopes = np.empty(len(touched)), np.zeros(touched.shape)
    patterns, member = np.unique(touched, axis=0, return_inverse=True)
    for k, pattern in enumerate(patterns):
        rows, moves = np.flatnonzero(member.ravel() == k), np.flatnonzero(pattern)
        sets = [values_at(constants, x)]
        steps = [STEP if constants[j].outer(x[j] + STEP) != constants[j].outer(x[j]) else -STEP for j in moves]
        for j, step in zip(moves, steps, strict=True):
            moved = x.copy()
            moved[j] += step
            sets.append(values_at(constants, moved))
        found = np.log(predict(rows.tolist(), sets))
        base[rows] = found[:, 0]
        slopes[np.ix_(rows, moves)] = (found[:, 1:] - found[:, :1]) / np.array(steps)
    return base, slopes


def prior_precision(constants: Sequence[Constant]) -> Matrix:
    """Inverse covariance of the coordinates beforehand, shape ``(constants, constants)``.

    s_i^2 on the diagonal; SAME_REASON s_i s_j where two constants are the same field for one ``reason``:
    x_i = prior_i + s_i (sqrt(r) u + sqrt(1 - r) e_i), u the reason's.
    """
    reasons = [(c.field, c.reason) if c.reason else (c.name, "") for c in constants]
    alike = np.array([[1.0 if i == j else SAME_REASON * (a == b) for j, b in enumerate(reasons)] for i, a in enumerate(reasons)])
    spread = np.array([c.spread for c in constants])
    found: Matrix = np.linalg.inv(alike * np.outer(spread, spread)).astype(np.float64)
    return found


def gauss_newton_step(x: Vector, residuals: Vector, slopes: Matrix, weights: Vector, prior: Vector, precision: Matrix) -> Vector:
    """One step towards the minimum of sum w^2 rho(r / 0.1) + (x - prior)' ``precision`` (x - prior), residuals linearized."""
    robust = weights**2 / np.sqrt(1.0 + (residuals / ROBUST_SCALE) ** 2) / ROBUST_SCALE**2
    hessian = slopes.T @ (robust[:, None] * slopes) + precision
    gradient = slopes.T @ (robust * residuals) + precision @ (x - prior)
    step: Vector = np.negative(np.linalg.solve(hessian, gradient), dtype=np.float64)
    return step


def left_out(found: Fit, keep: NDArray[np.bool_], steps: int = 8) -> Values:
    """The constants that a fit without the other rows gives, by the residuals' derivatives at the full fit's optimum."""
    prior = np.array([c.inner(c.prior) for c in found.constants])
    precision = prior_precision(found.constants)
    x = found.coordinates.copy()
    slopes, weights = found.derivatives[keep], found.weights[keep]
    for _ in range(steps):
        residuals = found.residuals[keep] + slopes @ (x - found.coordinates)
        x = _clipped(found.constants, x + gauss_newton_step(x, residuals, slopes, weights, prior, precision))
    return values_at(found.constants, x)


def _clipped(constants: tuple[Constant, ...], x: Vector) -> Vector:
    return np.array([c.inner(c.outer(float(v))) for c, v in zip(constants, x, strict=True)])


def folds(runs: Sequence[Run], by: Sequence[str]) -> dict[tuple[str, ...], NDArray[np.intp]]:
    """Positions of the runs by the values of columns ``by``."""
    found: dict[tuple[str, ...], list[int]] = {}
    for i, run in enumerate(runs):
        found.setdefault(tuple(run.columns.get(column, "") for column in by), []).append(i)
    return {key: np.array(members, dtype=np.intp) for key, members in found.items()}


def leave_out(
    found: Fit,
    fitted: Sequence[int],
    runs: Sequence[Run],
    predict: Predict,
    by: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
) -> Vector:
    """log(predicted / measured) of every run, each predicted with constants fitted without its group.

    ``fitted``: the positions in ``runs`` that ``found`` was fitted on.
    """
    measured = np.log(np.array([run.step_time_s for run in runs], dtype=float))
    result = np.empty(len(runs))
    done = 0
    for members in folds(runs, by).values():
        keep = ~np.isin(np.asarray(fitted), members)
        result[members] = np.log(predict(members.tolist(), [left_out(found, keep)])[:, 0]) - measured[members]
        done += len(members)
        if progress is not None:
            progress(done, len(runs))
    return result


class ParallelPredict:
    """``predict`` over ``jobs`` processes that each hold all runs; ``one(run, sets)`` gives seconds of a step under each set.

    They are started anew, not copied: the bar of a fit on a terminal is drawn by a thread.
    """

    def __init__(self, runs: Sequence[Run], one: Callable[[Run, Sequence[Values]], Vector], jobs: int) -> None:
        self._pool = others(jobs, _remember, list(runs), one) if jobs > 1 else None
        self._runs, self._one, self._jobs = list(runs), one, jobs

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __call__(self, positions: Sequence[int], sets: Sequence[Values]) -> Matrix:
        """Seconds for the runs at ``positions``, in their order, under each set of constants."""
        if self._pool is None:
            return _predicted(self._one, [self._runs[i] for i in positions], sets)
        parts = [list(positions)[k :: 4 * self._jobs] for k in range(4 * self._jobs)]
        result = np.empty((len(positions), len(sets)))
        for k, seconds in enumerate(self._pool.map(_predict_part, parts, [list(sets)] * len(parts))):
            result[k :: 4 * self._jobs] = seconds
        return result


_RUNS: list[Run] = []
_ONE: list[Callable[[Run, Sequence[Values]], Vector]] = []


def _remember(runs: list[Run], one: Callable[[Run, Sequence[Values]], Vector]) -> None:
    _RUNS[:] = runs
    _ONE[:] = [one]


def _predict_part(positions: list[int], sets: list[Values]) -> Matrix:
    return _predicted(_ONE[0], [_RUNS[i] for i in positions], sets)


def _predicted(one: Callable[[Run, Sequence[Values]], Vector], runs: Sequence[Run], sets: Sequence[Values]) -> Matrix:
    return np.array([one(run, sets) for run in runs]).reshape(len(runs), len(sets))
