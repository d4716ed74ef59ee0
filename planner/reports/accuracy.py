"""``docs/accuracy.md``: how far off the planner is, in-sample and on runs that it had not seen, beside a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Positions
from planner.evidence.causes import CAUSES, Key
from planner.evidence.fit import Vector
from planner.evidence.held_out import Held
from planner.evidence.measured_runs import Run
from planner.evidence.published_runs import compare_published
from planner.evidence.study import LEFT_OUT, Fate, Study, without_source
from planner.reports.gpu_hours import section
from planner.reports.plots import save_accuracy
from planner.reports.uncertainty import intervals_section, markdown_table
from planner.uncertainty.hierarchy import source_weights

SAID = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Probabilities at which a bin of the table of runs that fit ends."""
GPU_HOURS = "## GPU-hours of published runs"


def source_name(run: Run) -> str:
    """A short name of where a run comes from: the start of its source."""
    name = run.columns.get("source", "") or "no source"
    return name.split(" measured")[0].split(" benchmarking")[0].split(" et al")[0].split(" release")[0].split(" performance")[0]


def group_name(run: Run) -> str:
    """Source, kind of model, one node or several: the groups that accuracy is stated for."""
    return f"{source_name(run)}, {run.model.family}, {'one node' if run.cluster.num_nodes == 1 else 'several nodes'}"


def complete(run: Run) -> bool:
    """A row of quality A, or of a table without that column, in which nothing that matters had to be assumed."""
    return run.columns.get("quality", "A") in ("", "A") and bool(run.columns.get("global_batch_size"))


def report(
    found: Study,
    models: Sequence[Held],
    command: str,
    picture: str,
    title: str = "Accuracy",
    constants: str = "fit.toml",
    *,
    hours: bool = True,
) -> str:
    """The page, as Markdown; ``hours``: with the GPU-hours of published runs, which are of training."""
    runs = found.runs
    parts = [
        f"# {title}\n",
        f"Printed by `{command}`. {len(runs)} measured optimizer steps of {len({source_name(r) for r in runs})} sources, "
        f"{len({r.columns.get('accelerator') for r in runs})} GPU types, {len(found.found.constants)} constants "
        f"(catalog/{constants}) fitted on {len(found.found.residuals)} of the steps. Errors are |predicted / measured - 1|.\n",
        _how(),
        f"![predicted against measured]({picture})\n",
        "## Step time, by source\n",
        _time_table(found, group_name, least=3),
        "## Step time, by GPU type\n",
        _time_table(found, lambda run: run.columns.get("accelerator", ""), least=3),
        "## Step time, by what errors depend on\n",
        *(part for title, key in CAUSES.values() for part in (f"By {title}:\n", _time_table(found, key, least=10, brief=True))),
        "## Over sources\n",
        _over_sources(found),
        "## Peak memory\n",
        "No constant of memory is fitted by the command; a few of a framework were set by hand and say so.\n",
        _memory_table(found),
        "## Fits or not\n",
        _fits(found, models),
        "## 90 % intervals\n",
        intervals_section(models),
        *([f"{GPU_HOURS}\n", section(compare_published())] if hours else []),
        "## The constants\n",
        _constants(found),
    ]
    return "\n".join(parts)


def _how() -> str:
    return (
        "*In-sample*: the constants saw the run. *Without its model* (*GPU count*, *GPU type*, *source*): they were fitted "
        "without all runs of that model (count) in its source, of that GPU type, or of that source; the derivatives of the "
        "full fit give the fit without a group, and the group is then predicted anew. *Utilization*: model flops over peak "
        "times one number per GPU type and precision, the median of the same rows (in-sample), or of other models' rows.\n"
    )


def _percent(values: Sequence[float] | Vector, what: str = "median") -> str:
    if len(values) == 0:
        return "-"
    errors = np.abs(np.exp(np.asarray(values)) - 1.0)
    number = np.quantile(errors, 0.9) if what == "p90" else np.mean(errors) if what == "mean" else np.median(errors)
    return f"{100.0 * float(number):.1f}"


def _groups(runs: Sequence[Run], key: Key) -> dict[str, NDArray[np.intp]]:
    found: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        found.setdefault(key(run), []).append(i)
    return {k: np.array(v, dtype=np.intp) for k, v in found.items()}


def _time_table(found: Study, key: Key, least: int, *, brief: bool = False) -> str:
    header = [
        "group",
        "steps",
        "in-sample median",
        "mean",
        *(f"without its {what} median" for what in LEFT_OUT),
        "without its model mean",
        "p90",
        "bias",
        "utilization in-sample median",
        "without its model",
    ]
    rows = []
    if brief:
        header = ["group", "steps", "sources", "in-sample median", "without its source median", "p90", "bias"]
    for name, at in (sorted if brief else list)(_groups(found.runs, key).items()):
        if len(at) < least:
            continue
        if brief:
            rows.append(_brief(found, name, at))
            continue
        left = found.left_out["model"][at]
        rows.append(
            [
                name,
                str(len(at)),
                _percent(found.in_sample[at]),
                _percent(found.in_sample[at], "mean"),
                *(_percent(found.left_out[what][at]) for what in LEFT_OUT),
                _percent(left, "mean"),
                _percent(left, "p90"),
                f"{100.0 * (float(np.exp(np.median(left))) - 1.0):+.1f}",
                _percent(found.baseline[at]),
                _percent(found.baseline_left_out[at]),
            ]
        )
    if not rows:
        return f"No group has {least} steps; it takes as many for a line here. All steps together: {_all_steps(found)}.\n"
    return markdown_table(header, rows)


def _brief(found: Study, name: str, at: Positions) -> list[str]:
    """A group in a few numbers, each run without its source."""
    out = found.left_out["source"][at]
    return [
        name,
        str(len(at)),
        str(len({source_name(found.runs[int(i)]) for i in at})),
        _percent(found.in_sample[at]),
        _percent(out),
        _percent(out, "p90"),
        f"{100.0 * (float(np.exp(np.median(out))) - 1.0):+.1f}",
    ]


def _all_steps(found: Study) -> str:
    return f"{len(found.runs)}, in-sample median error {_percent(found.in_sample)} %"


def _over_sources(found: Study) -> str:
    """Median over sources of each source's median, for complete rows."""
    chosen: dict[str, Key] = {
        "all complete rows": lambda run: "x",
        "V100 and RTX": lambda run: "x" if _old(run) else "",
    }
    rows = []
    for name, key in chosen.items():
        members = [i for i, run in enumerate(found.runs) if complete(run) and key(run)]
        by = _groups([found.runs[i] for i in members], source_name)
        picked = [np.array(members)[at] for at in by.values()]
        if not picked:
            continue
        series = [found.in_sample, *(found.left_out[what] for what in LEFT_OUT), found.baseline, found.baseline_left_out]
        medians = [[float(np.median(np.abs(np.exp(values[at]) - 1.0))) for at in picked] for values in series]
        rows.append(
            [name, str(len(picked)), str(sum(map(len, picked))), *(f"{100.0 * float(np.median(m)):.1f}" for m in medians)]
        )
    header = [
        "rows",
        "sources",
        "steps",
        "in-sample",
        *(f"without its {what}" for what in LEFT_OUT),
        "utilization in-sample",
        "utilization, other models",
    ]
    return "Median over sources of each source's median error, in percent.\n\n" + markdown_table(header, rows)


def _old(run: Run) -> bool:
    name = run.cluster.accelerator.name
    return name.startswith(("v100", "rtx-3", "rtx-4", "rtx-2", "titan-v"))


def _memory_table(found: Study) -> str:
    groups: dict[tuple[str, str], list[float]] = {}
    for run, kind, ratio, _ in found.memory:
        groups.setdefault((source_name(run), kind), []).append(ratio)
    rows = [
        [
            source,
            kind,
            str(len(r)),
            _percent(r),
            _percent(r, "mean"),
            f"{100.0 * float(np.max(np.abs(np.exp(r) - 1))):.1f}",
            f"{100.0 * (float(np.exp(np.median(r))) - 1.0):+.1f}",
        ]
        for (source, kind), r in groups.items()
    ]
    over = [float(np.median(np.abs(np.exp(r) - 1))) for r in groups.values()]
    note = f"Median over sources and kinds: {100.0 * float(np.median(over)):.1f} %.\n" if over else ""
    return markdown_table(["source", "figure", "runs", "median", "mean", "largest", "bias"], rows) + "\n" + note


def _fits(found: Study, models: Sequence[Held]) -> str:
    ran = [one.fits for one in found.verdicts if not one.run.out_of_memory]
    out = [one.fits for one in found.verdicts if one.run.out_of_memory]
    text = f"{sum(ran)} of {len(ran)} runs that ran are predicted to fit ({100.0 * sum(ran) / max(len(ran), 1):.1f} %)"
    if out:
        right = len(out) - sum(out)
        text += f"; {right} of {len(out)} that ran out of memory are predicted not to ({100.0 * right / len(out):.0f} %)"
    of_memory = [model for model in models if model.metric == "memory"]
    if not of_memory:
        told = _reliability(found.verdicts, "the catalog's model of memory's errors, which was found from these runs too")
    else:
        unseen = without_source(found.verdicts, of_memory[0])
        told = _reliability(unseen, "a model of memory's errors which never saw the run's source")
    return text + ".\n" + told


def _reliability(verdicts: Sequence[Fate], who: str) -> str:
    """How many runs ran, by the probability that ``who`` said; a source of n runs in a bin counts there as sqrt(n)."""
    told = [one for one in verdicts if not np.isnan(one.probability)]
    if not any(one.run.out_of_memory for one in told):
        return ""
    rows = []
    at = np.searchsorted(SAID, [one.probability for one in told], side="right")
    for k in np.unique(at):
        members = [one for one, place in zip(told, at, strict=True) if place == k]
        weights = source_weights({"source": np.array([source_name(one.run) for one in members])})
        said = np.average([one.probability for one in members], weights=weights)
        ran = np.average([not one.run.out_of_memory for one in members], weights=weights)
        sources = str(len({source_name(one.run) for one in members}))
        ends = (0.0, *SAID, 1.0)
        name = f"{100.0 * ends[k]:.0f} to {100.0 * ends[k + 1]:.0f} %"
        rows.append([name, str(len(members)), sources, f"{100.0 * said:.0f}", f"{100.0 * ran:.0f}"])
    text = (
        f"\nBy the probability that was said by {who}, of runs whose recomputation is stated; a source counts as the square root "
        "of its runs. Few people publish what ran out of memory, so "
        "that the high ones hold more often than said.\n\n"
    )
    return text + markdown_table(["probability", "runs", "sources", "said, %", "ran, %"], rows)


def _constants(found: Study) -> str:
    fitted = zip(found.found.constants, found.found.values.values, strict=True)
    return markdown_table(
        ["constant", "prior", "fitted", "what is known beforehand"],
        ([c.name, f"{c.prior:.3g}", f"{v:.3g}", c.why] for c, v in fitted),
    )


def save_picture(found: Study, path: Path) -> None:
    """Predicted (without the run's model) against measured, log-log, and the spread of the errors beside the baseline's."""
    ours, theirs = found.left_out["model"], found.baseline_left_out
    measured = [float(run.step_time_s or 1.0) for run in found.runs]
    save_accuracy(path, measured, ours.tolist(), theirs.tolist(), [run.framework.name for run in found.runs])
