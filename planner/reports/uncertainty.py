"""How often intervals hold what was measured: tables of the accuracy pages, each source left out of what predicts it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Array, Mask, Positions
from planner.evidence.causes import grouped_number
from planner.evidence.held_out import Held, positions
from planner.uncertainty.hierarchy import source_weights
from planner.uncertainty.interval import DEGREES, LEVEL, NORMAL_95, STUDENT_95, student_quantile

ENOUGH = 10
"""Runs that a source needs for a line of its own."""
CLASS = 30
"""Runs that a class needs for a line of its own."""
GPUS = (8, 64, 256)
"""Numbers of GPUs at which a group ends."""
SAID = (0.25, 0.5, 0.75, 0.9, 0.95, 0.98)
"""Probabilities whose intervals are looked at beside the one of 90 %."""
TITLES = {"step_time": "step time", "memory": "peak memory"}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def intervals_section(models: Sequence[Held]) -> str:
    """Coverage and width of single intervals by source and class, and of ratios of two runs of one source."""
    parts = [
        "Each run's interval comes from runs of other sources alone: a new source's (planner/uncertainty/hierarchy.py). "
        "A source counts as the square root of its runs. Half-widths are upper bound over middle less 1, median over runs.\n"
    ]
    for model in models:
        title = TITLES[model.metric]
        parts += [
            f"### Of {title}\n",
            _whole(model),
            _shape_of_figures(model),
            f"By source, those of {ENOUGH} figures or more:\n",
            markdown_table(
                ["source", "figures", "inside, %", "half-width, %"], _rows(model, positions(model.frame, "source"), ENOUGH)
            ),
            f"By framework that others are based on, generation of GPU and kind of model, classes of {CLASS} figures or more:\n",
            markdown_table(["class", "figures", "inside, %", "half-width, %"], _rows(model, _classes(model), CLASS)),
            "By number of GPUs:\n",
            markdown_table(["GPUs", "figures", "inside, %", "half-width, %"], _rows(model, _by_gpus(model), CLASS)),
            f"### Of ratios of {title}\n",
            "Of two runs whose errors share nothing the ratio would be 71 % as wide as the quotient of the two intervals.\n",
            _ratios(model),
            _shape_of_ratios(model),
        ]
    return "\n".join(parts)


def _rows(model: Held, groups: dict[str, Positions], least: int) -> list[list[str]]:
    inside, half = model.inside, NORMAL_95 * model.deviation
    return [
        [name, str(len(at)), _percent(np.mean(inside[at])), _percent(np.expm1(np.median(half[at])))]
        for name, at in groups.items()
        if len(at) >= least
    ]


def _classes(model: Held) -> dict[str, Positions]:
    named = model.frame["root"] + ", " + model.frame["generation"] + ", " + model.frame["family"]
    return positions(model.frame.assign(named=named), "named")


def _by_gpus(model: Held) -> dict[str, Positions]:
    named = [grouped_number(count, GPUS) for count in model.frame["num_gpus"].to_numpy(float)]
    return positions(model.frame.assign(named=named), "named")


def by_source(model: Held, inside: Array | Mask) -> float:
    """Mean over sources of the part of their figures that lie inside."""
    return float(np.mean([np.mean(inside[at]) for at in positions(model.frame, "source").values()]))


def of_its_source(error: Array, source: NDArray[Any]) -> Array:
    """For each error the LEVEL point of those of its own source, which nobody knows before it is measured, (errors,)."""
    own = np.empty(len(error))
    for name in np.unique(source):
        at = source == name
        own[at] = np.quantile(error[at], LEVEL)
    return own


def _whole(model: Held) -> str:
    half = NORMAL_95 * model.deviation
    off = np.abs(model.frame["residual"].to_numpy() - model.mean)
    known = np.median(of_its_source(off, model.frame["source"].to_numpy()))
    widths = [float(np.median(half[at])) for at in positions(model.frame, "source").values()]
    over_runs, over_sources = (_percent(np.expm1(np.median(values))) for values in (half, widths))
    return (
        f"{len(half)} figures of {len(widths)} sources: {_percent(np.mean(model.inside))} % of figures inside, "
        f"{_percent(by_source(model, model.inside))} % in the mean over sources; half-width {over_runs} % in the median over "
        f"figures, {over_sources} % over sources.{_complete(model)} By the 90 % point of "
        f"each source's own errors it would be {_percent(np.expm1(known))} % over figures.\n"
    )


def _shape(parts: Array, source: NDArray[Any]) -> str:
    """How many errors lie inside narrower and wider intervals, by the law that probabilities follow; ``parts``: each error over
    the half-width of its 90 % interval."""
    if not len(parts):
        return ""
    weights = source_weights({"source": source})
    rows = []
    for said in SAID:
        part = student_quantile((1.0 + said) / 2.0, DEGREES) / STUDENT_95
        normal = 2.0 * NormalDist().cdf(NORMAL_95 * part) - 1.0
        rows.append([f"{part:.2f}", _percent(said), _percent(np.average(parts <= part, weights=weights)), _percent(normal)])
    header = ["part of the 90 % interval", "said, %", "inside, %", "a normal law would say, %"]
    return (
        "Probabilities follow Student's t with 2 degrees of freedom through the bounds: much lies near the prediction, and a "
        "little far off.\n\n" + markdown_table(header, rows)
    )


def _shape_of_figures(model: Held) -> str:
    off = np.abs(model.frame["residual"].to_numpy() - model.mean)
    return _shape(off / (NORMAL_95 * model.deviation), model.frame["source"].to_numpy())


def _shape_of_ratios(model: Held) -> str:
    off = np.abs(model.pairs["error"].to_numpy() - model.pairs["mean"].to_numpy())
    return _shape(off / (NORMAL_95 * model.pairs["deviation"].to_numpy()), model.pairs["source"].to_numpy())


def _complete(model: Held) -> str:
    """The same of runs that state all their settings, as a question does."""
    whole = model.frame["incomplete"].to_numpy() == 0.0
    if whole.all() or not whole.any():
        return ""
    half, inside = _percent(np.expm1(np.median(NORMAL_95 * model.deviation[whole]))), _percent(np.mean(model.inside[whole]))
    stated = f"Of the {int(whole.sum())} of runs that state all their settings, as a question does"
    return f" {stated}: {inside} % inside, half-width {half} %."


def _ratios(model: Held) -> str:
    pairs = model.pairs
    own = NORMAL_95 * pairs["deviation"].to_numpy()
    off = np.abs(pairs["error"].to_numpy() - pairs["mean"].to_numpy())
    inside = off <= own
    half = NORMAL_95 * model.deviation
    quotient = half[pairs["first"].to_numpy()] + half[pairs["second"].to_numpy()]
    rows = []
    for name, at in _by_what_differs(model).items():
        if at.any():
            of_source = pairs[at].assign(inside=inside[at]).groupby("source")["inside"].mean()
            rows.append(
                [
                    name,
                    str(int(at.sum())),
                    _percent(np.mean(inside[at])),
                    _percent(of_source.mean()),
                    _percent(np.expm1(np.median(own[at]))),
                    _percent(np.expm1(np.median(quotient[at]))),
                    _percent(np.median(own[at] / quotient[at])),
                ]
            )
    header = [
        "what differs between two runs of a source",
        "pairs",
        "inside, %",
        "mean over sources",
        "half-width, %",
        "of the quotient of two",
        "part, %",
    ]
    known = np.median(of_its_source(off, pairs["source"].to_numpy()) / quotient)
    told = f"By the 90 % point of each source's own errors of ratios the part would be {_percent(known)} %.\n"
    return f"{markdown_table(header, rows)}\n{told}"


def _by_what_differs(model: Held) -> dict[str, Mask]:
    """Pairs by the first of GPU, model and way of running that differs."""
    first, second = (model.frame.iloc[model.pairs[side].to_numpy()] for side in ("first", "second"))
    columns = ("curves", "model", "precision", "framework", "job")
    gpu, size, *ways = (first[c].to_numpy() == second[c].to_numpy() for c in columns)
    way = np.all(ways, axis=0)
    return {
        "layout, batch or length": gpu & size & way,
        "precision, framework or kind of job": gpu & size & ~way,
        "model": gpu & ~size,
        "GPU": ~gpu & size,
        "GPU and model": ~gpu & ~size,
        "all": np.ones(len(gpu), dtype=bool),
    }


def _percent(value: float | np.floating) -> str:
    return f"{100.0 * float(value):.0f}"
