"""The page that ``planner fit serving.csv --report`` writes: errors, coverage, refusals and constants."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from planner.common.files import write_texts
from planner.evidence.held_out import uncertainty_text
from planner.evidence.serving.residuals import residuals_text
from planner.evidence.serving.runs import TITLES
from planner.evidence.serving.study import FEWEST, FIGURES, LEFT_OUT, LIKE, ServingStudy, Unseen, unseen_errors
from planner.evidence.write_fit import constants_written
from planner.hardware.curves import CURVES
from planner.reports.serving_plots import save_scatter
from planner.serving.engine import ENGINES
from planner.serving.intervals import RESIDUALS
from planner.uncertainty.effects import SERVING_UNCERTAINTY
from planner.uncertainty.hierarchy import SLOPES

HOW = (
    "*In-sample*: the constants saw the measurement. *Without its like*: they were fitted without all measurements of that "
    "engine on that GPU type with that model; *without its model*, *GPU type*, *engine*: without all of that model, GPU type or "
    "engine; *without its source*: without all that the same people measured. Errors are |predicted / measured - 1|; a median "
    "over all rows. *Inside*: measured within the 90 % interval that constants and errors of the other sources make; *inside, "
    "left out with its like*: within that of software that was measured elsewhere, made without the row's like, its width on "
    "the scale that all rows give. An engine that was measured fewer than 20 times has no constant of its own: it inherits "
    "those of the engine that it is based on.\n"
)


def report(found: ServingStudy, command: str, picture: str) -> str:
    """The page, as Markdown."""
    sources = {run.columns.get("source", "") for run in found.runs}
    parts = [
        "# Accuracy of serving\n",
        f"Printed by `{command}`. {len(found.runs)} measured times and {len(found.memory)} measured bytes of {len(sources)} "
        "sources; "
        f"{len(found.found.constants)} constants (catalog/serving_fit.toml) fitted on {len(found.found.residuals)} of the times. "
        "Memory has no constant that the command fits.\n",
        HOW,
        f"![predicted against measured]({picture})\n",
        "## By figure\n",
        _figures(found),
        "## Intervals\n",
        _half_widths(found),
        "## Releases that nobody measured\n",
        _unseen(unseen_errors(found)),
        "## By source and engine\n",
        _groups(found),
        "## Memory\n",
        _memory(found),
        "## Not predicted\n",
        _refusals(found),
        "## The constants\n",
        _constants(found),
    ]
    return "\n".join(parts)


def _half_widths(found: ServingStudy) -> str:
    """How wide the intervals of the runs are: half of upper less lower, over the expected value."""
    of_root: dict[tuple[str, str], set[str]] = {}
    metric = {figure: name for name, figures in FIGURES.items() for figure in figures}
    for run in found.runs:
        of_root.setdefault((metric[run.figure], run.columns["engine"]), set()).add(run.columns["campaign"])
    rows = []
    for figure in dict.fromkeys(run.figure for run in found.runs):
        of_figure = [i for i, run in enumerate(found.runs) if run.figure == figure and np.isfinite(found.half_width[i])]
        seen = [i for i in of_figure if len(of_root[metric[figure], found.runs[i].columns["engine"]]) > 1]
        parts = [np.array(part, dtype=int) for part in (of_figure, seen, sorted(set(of_figure) - set(seen)))]
        if of_figure:
            cells = [cell for at in parts for cell in _width_cells(found, at)]
            rows.append([TITLES[figure], *cells, *_like_cells(found, of_figure)])
    header = [
        f"{what}{of}"
        for of in ("", ", software of several sources", ", software of one")
        for what in ("rows", "half-width, %", "inside, %")
    ]
    ending = ["half-width, %, left out with its like", "inside, %, left out with its like"]
    said = (
        "Of questions of a new source, and of rows left out with their like: of software that was measured, though not on this "
        "GPU with this model. The rows of a figure have few sources, and those of one err alike: of a new source nearly all lie "
        "inside, or far fewer than nine of ten. Medians.\n\n"
    )
    return said + _table(["figure", *header, *ending], sorted(rows))


def _unseen(errors: Iterable[Unseen]) -> str:
    """How much more unmeasured releases err, and the factor on the width that is assumed before any run is looked at."""
    said = (
        "The model of errors begins with an assumed factor by which an interval is wider for a release that nobody measured. It "
        f"comes from releases that one source alone measured, {FEWEST} times or more. *Ratio*: their root mean square error "
        "without their source, so that nothing is known of the release, over that without their like, so that its other "
        "measurements are; the geometric mean over releases.\n\n"
    )
    rows = [
        [
            of.metric,
            ", ".join(of.releases) or "-",
            f"{of.ratio:.2f}" if of.releases else "-",
            f"{np.exp(SLOPES[of.metric]['unseen'][0]):.2f}",
        ]
        for of in errors
    ]
    return said + _table(["metric", "releases", "ratio", "assumed factor"], rows)


def _width_cells(found: ServingStudy, at: np.ndarray[Any, Any]) -> list[str]:
    if not len(at):
        return ["0", "-", "-"]
    return [
        str(len(at)),
        f"{100.0 * float(np.median(found.half_width[at])):.0f}",
        f"{100.0 * float(np.mean(found.inside[at])):.0f}",
    ]


def _like_cells(found: ServingStudy, at: Sequence[int]) -> list[str]:
    i = np.array(at, dtype=int)
    return [
        f"{100.0 * float(np.median(found.like_half_width[i])):.0f}",
        f"{100.0 * float(np.mean(found.like_inside[i])):.0f}",
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def median_error(ratios: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Median of |predicted / measured - 1| in percent, from log ratios."""
    return 100.0 * float(np.median(np.abs(np.expm1(np.asarray(ratios, dtype=float)))))


FEW_CLIENTS = 4
HEADER = [
    "figure",
    "rows",
    "in-sample",
    *(f"without its {'like' if what == LIKE else what}" for what in LEFT_OUT),
    "p90 without its like",
    "bias",
    "inside, %",
    "inside, %, left out with its like",
]


def _line(name: str, found: ServingStudy, at: Sequence[int]) -> list[str]:
    i = np.array(at, dtype=int)
    like = found.left_out[LIKE][i]
    return [
        name,
        str(len(i)),
        f"{median_error(found.in_sample[i]):.1f}",
        *(f"{median_error(found.left_out[what][i]):.1f}" for what in LEFT_OUT),
        f"{100.0 * float(np.quantile(np.abs(np.expm1(like)), 0.9)):.0f}",
        f"{100.0 * float(np.expm1(np.median(like))):+.1f}",
        f"{100.0 * float(np.mean(found.inside[i])):.0f}",
        f"{100.0 * float(np.mean(found.like_inside[i])):.0f}",
    ]


def _figures(found: ServingStudy) -> str:
    by: dict[str, list[int]] = {}
    for i, run in enumerate(found.runs):
        by.setdefault(TITLES[run.figure], []).append(i)
        if run.figure in ("batched", "saturated"):
            by.setdefault("batched and saturated", []).append(i)
        if run.figure == "loop_first" and run.batch <= FEW_CLIENTS:
            by.setdefault(f"{TITLES['loop_first']}, at most {FEW_CLIENTS} clients", []).append(i)
    rows = [_line(name, found, at) for name, at in sorted(by.items())]
    return "Median errors in percent.\n\n" + _table(HEADER, [*rows, _line("all", found, range(len(found.runs)))])


def _groups(found: ServingStudy) -> str:
    by: dict[tuple[str, str], list[int]] = {}
    for i, run in enumerate(found.runs):
        name = f"{run.columns.get('source', '')}, {run.times.setting.engine.name}"
        by.setdefault((TITLES[run.figure], name), []).append(i)
    rows = [[key[0], *_line(key[1], found, at)] for key, at in sorted(by.items())]
    return _table(["figure", "source, engine", *HEADER[1:]], rows)


def _memory(found: ServingStudy) -> str:
    by: dict[str, list[int]] = {}
    for i, (run, _) in enumerate(found.memory):
        by.setdefault(f"{run.columns.get('source', '')}, {run.times.setting.engine.name}", []).append(i)
    everything = {**by, "all": list(range(len(found.memory)))}
    rows = []
    for name, at in everything.items():
        ratios = np.array([found.memory[i][1] for i in at])
        rows.append(
            [
                name,
                str(len(at)),
                f"{median_error(ratios):.1f}",
                f"{100.0 * float(np.max(np.abs(np.expm1(ratios)))):.1f}",
                f"{100.0 * float(np.expm1(np.median(ratios))):+.1f}",
                f"{100.0 * float(np.mean(found.memory_inside[at])):.0f}",
            ]
        )
    return _table(["source, engine", "rows", "median", "largest", "bias", "inside, %"], rows)


def _refusals(found: ServingStudy) -> str:
    counts = Counter(r.reason.split(";")[0].split("; did you mean")[0] for r in found.refused)
    return _table(["rows", "because"], ([str(n), reason] for reason, n in counts.most_common()))


def _constants(found: ServingStudy) -> str:
    fitted = zip(found.found.constants, found.found.values.values, strict=True)
    return _table(
        ["constant", "prior", "fitted", "what is known beforehand"],
        ([c.name, f"{c.prior:.3g}", f"{v:.3g}", c.why] for c, v in fitted),
    )


def write_constants(found: ServingStudy, source: str) -> list[Path]:
    """Constants into engines and curves, the model of errors into serving_uncertainty.toml, classes of memory into
    serving_residuals.toml; returns the files that changed."""
    date = datetime.date.today().isoformat()
    texts = constants_written(found.found, lambda c: CURVES if c.curves else ENGINES, source, date)
    texts[RESIDUALS] = residuals_text(found.classes, source)
    texts[SERVING_UNCERTAINTY] = uncertainty_text(found.held, source, "errors of measurements without their source")
    changed = {path: text for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text}
    write_texts(changed)
    return list(changed)


def save_picture(path: Path, found: ServingStudy) -> None:
    """Predicted without the run's like against measured, one panel a figure; memory last."""
    panels: dict[str, list[tuple[float, float, str]]] = {}
    for run, ratio in zip(found.runs, found.left_out[LIKE], strict=True):
        point = (run.measured, run.measured * float(np.exp(ratio)), run.times.setting.engine.name)
        panels.setdefault(f"{TITLES[run.figure]}, s", []).append(point)
    for run, ratio in found.memory:
        point = (run.measured / 2**30, run.measured * float(np.exp(ratio)) / 2**30, run.times.setting.engine.name)
        panels.setdefault("memory, GiB", []).append(point)
    save_scatter(path, panels)
