"""A record against the planner: every step and memory figure that no constant was fitted to, with intervals."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from planner.calibration.calibrate import Calibration, calibrate, step_seconds
from planner.calibration.profiles import write_profiles
from planner.calibration.records import Record, Sample, read_record, read_records, record_runs, sample_name, single_node
from planner.calibration.served_layers import layer_interval, layer_name, measured_layers
from planner.common.errors import PlannerError
from planner.evidence.measured_runs import Refusal, Run
from planner.evidence.predictions import Prediction, Verdict, predict
from planner.hardware.cluster import Accelerator, Node, load_accelerator, load_node
from planner.performance.evaluation import operator_table
from planner.workload.framework import Framework, load_framework
from planner.workload.layout import as_columns

NORMAL_90 = 1.645
"""Half-width of a 90 % interval in standard deviations."""
LEAST_SPREAD = 0.02
"""Never claim less for a time: two runs of one step on one quiet GPU differ by a percent or two."""
MEMORY_SPREAD = 0.02
"""Of peak memory: the part that the rows leave out, cuBLAS workspaces above all."""
FEW_SPREAD = 0.2
"""Where fewer than three steps were fitted, no spread can be estimated: a fifth is assumed."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of one step, SI units; ``lower`` and ``upper`` bound the prediction with 90 %."""

    id: str
    metric: str
    measured: float
    predicted: float
    lower: float
    upper: float

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "error": self.error}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All rows of a record, what was refused, and the calibration behind it where it was made from the record itself."""

    rows: tuple[Row, ...]
    predictions: tuple[Prediction, ...]
    verdicts: tuple[Verdict, ...]
    refused: tuple[Refusal, ...]
    calibration: Calibration | None


def compare_record(
    path: Path | Sequence[Path], accelerator: str | None = None, node: str | None = None, framework: str | None = None
) -> Comparison:
    """Predict the steps of role "validate" of a record, or of several of one machine.

    With no ``accelerator``, calibrate on the rest of the record first; with one, use that profile as it is.
    """
    paths = [path] if isinstance(path, Path) else list(path)
    return compared(read_records(paths), paths[0].stem, accelerator, node, framework)


def compared(
    record: Record,
    name: str,
    accelerator: str | None = None,
    node: str | None = None,
    framework: str | None = None,
    made: Calibration | None = None,
) -> Comparison:
    """``compare_record`` of a record that was read already; ``name`` is the calibrated profile's, ``made`` its calibration."""
    place: Node | None
    if accelerator is None:
        if node is not None or framework is not None:
            raise PlannerError("--node and --framework go with --accelerator: all three profiles come from one calibration.")
        made = made or calibrate(record, name)
        card, place, stack = made.accelerator, made.node, made.framework
    else:
        card = load_accelerator(accelerator, "--accelerator")
        place = _node(node, card, record)
        stack = load_framework(framework or "kernels", "--framework")
    runs, refused = record_runs(record, card, place, stack, role="validate")
    if not runs:
        raise PlannerError(
            "{0}: the record holds no training step to predict; measure with --only training, or a larger --budget.", name
        )
    predictions, verdicts, impossible = predict(runs, ("source", "family"))
    spread = _spread(record, card, place, stack, made)
    noise = {sample_name(s, i): _noise(s) for i, s in enumerate(record.samples)}
    rows = [_row(p, spread, noise.get(p.id, 0.0)) for p in predictions]
    rows += _saved(record, runs)
    rows += _served(record, card, place or single_node(card))
    return Comparison(
        rows=tuple(rows),
        predictions=tuple(predictions),
        verdicts=tuple(verdicts),
        refused=(*refused, *impossible),
        calibration=made,
    )


def unseen_steps(first: Path, second: Path) -> tuple[list[Row], list[Row]]:
    """Step times of role "validate" of two records of one machine, both predicted with the calibration of the first."""
    record = read_record(first)
    made = calibrate(record, "first")
    with tempfile.TemporaryDirectory() as folder:
        profiles = [str(path) for path in write_profiles(made, Path(folder) / "first.toml")]
        found = compared(record, first.stem, made=made), compare_record(second, *profiles)
    one, two = ([row for row in each.rows if row.metric == "step_time_s"] for each in found)
    return one, two


def _node(name: str | None, card: Accelerator, record: Record) -> Node | None:
    if name is None and record.ranks > 1:
        raise PlannerError("the record has {0} ranks: give --node, the profile that joins them.", record.ranks)
    return load_node(name) if name is not None else None


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard deviation of the logarithmic error of a step's time, and the degrees of freedom that it was estimated with."""

    sigma: float
    freedom: float

    def half_width(self, noise: float) -> float:
        """Half of a 90 % prediction interval, logarithmic: t s sqrt(1 + 1 / n), beside the scatter of the measurement itself."""
        known = stdtrit(self.freedom, 0.95) * self.sigma * math.sqrt(1.0 + 1.0 / (self.freedom + 1.0))
        return math.hypot(known, NORMAL_90 * noise)


def _spread(record: Record, card: Accelerator, node: Node | None, stack: Framework, made: Calibration | None) -> Spread:
    """From the errors of the steps of role "fit", each predicted without itself; by a profile from elsewhere, as they are."""
    left_out = [fit.left_out for fit in made.fits if fit.left_out] if made is not None else []
    if left_out:
        errors = list(left_out[0])
    else:
        runs, _ = record_runs(record, card, node, stack, role="fit")
        errors = [math.log(step_seconds(run) / run.step_time_s) for run in runs if run.step_time_s]
    if len(errors) < 3:
        return Spread(sigma=FEW_SPREAD, freedom=30.0)
    return Spread(sigma=max(math.sqrt(float(np.mean(np.square(errors)))), LEAST_SPREAD), freedom=float(len(errors) - 1))


def _noise(sample: Sample) -> float:
    """Logarithmic standard deviation of the repeats, from their 10 and 90 % quantiles, 2 x 1.2816 of a normal one's apart."""
    if sample.time is None:
        return 0.0
    return (sample.time.p90_s - sample.time.p10_s) / 2.5631 / sample.time.median_s


def _row(p: Prediction, spread: Spread, noise: float) -> Row:
    """Of a time with the spread of steps, of memory with that of memory."""
    half = spread.half_width(noise) if p.metric == "step_time_s" else NORMAL_90 * MEMORY_SPREAD
    lower, upper = p.predicted / math.exp(half), p.predicted * math.exp(half)
    return Row(id=p.id, metric=p.metric, measured=p.measured, predicted=p.predicted, lower=lower, upper=upper)


def _saved(record: Record, runs: Sequence[Run]) -> list[Row]:
    """What autograd keeps of one micro-batch, counted by its hooks, against the sum of the rows."""
    found = []
    measured = {str(s.shape["label"]): s.extra.get("saved_bytes") for s in record.measured("training")}
    for run in runs:
        real = measured.get(run.id)
        if real:
            columns = as_columns(list(run.layouts[:1]), run.cluster.num_gpus)
            rows = operator_table(run.question, columns).rows()
            ours = float(sum(float(np.ravel(r.saved_bytes)[0]) * r.repeats for r in rows))
            found.append(Row(id=run.id, metric="saved_bytes", measured=float(real), predicted=ours, lower=ours, upper=ours))
    return found


def _served(record: Record, card: Accelerator, node: Node) -> list[Row]:
    """Layers that serve: no constant is fitted to them."""
    found = []
    for sample in measured_layers(record):
        assert sample.time is not None
        sure = layer_interval(sample, card, node)
        bounds = {"predicted": sure.expected, "lower": sure.lower, "upper": sure.upper}
        found.append(Row(id=layer_name(sample), metric="served_layer_s", measured=sample.time.median_s, **bounds))
    return found


def summary(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Per metric: rows, median and worst absolute error, bias, and the part of the rows inside their interval."""
    found: dict[str, dict[str, float]] = {}
    for metric in dict.fromkeys(row.metric for row in rows):
        here = [row for row in rows if row.metric == metric]
        errors = np.array([row.error for row in here])
        inside = np.mean([row.lower <= row.measured <= row.upper for row in here])
        found[metric] = {
            "rows": float(len(here)),
            "median": float(np.median(np.abs(errors))),
            "worst": float(np.abs(errors).max()),
            "bias": float(np.median(errors)),
            "inside_interval": float(inside),
        }
    return found
