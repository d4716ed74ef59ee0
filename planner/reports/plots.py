"""A picture of plans: where each GiB and each second goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from planner.common.errors import PlannerError
from planner.common.units import GIB
from planner.evidence.predictions import Prediction
from planner.performance.memory import KINDS
from planner.performance.step_time import PARTS
from planner.reports.pictures import pyplot, save_figure
from planner.reports.plans import PART_NAMES
from planner.reports.text import seconds
from planner.training.plan import Plan

# Okabe and Ito's palette: told apart with any colour vision
COLOURS = (
    "#0072B2",
    "#56B4E9",
    "#009E73",
    "#E69F00",
    "#F0E442",
    "#CC79A7",
    "#D55E00",
    "#999999",
    "#000000",
    "#8C6BB1",
    "#B2DF8A",
)

UNITS = {
    "step_time_s": ("step time, s", 1.0), "peak_allocated_bytes": ("peak allocated memory, GiB", GIB),
    "peak_reserved_bytes": ("peak reserved memory, GiB", GIB), "peak_device_bytes": ("peak memory of the device, GiB", GIB),
}  # fmt: skip
MARKS = "osD^vP*X"


def save_comparison(path: Path, title: str, labels: Sequence[str], plans: Sequence[Plan]) -> None:
    """Write a PNG (or SVG, PDF by suffix): stacked memory bars against the capacity, and the step's parts.

    Raises PlannerError when the path cannot be written. Nothing is left behind on failure.
    """
    plt = pyplot()

    height = 2.6 + 0.75 * len(plans)
    figure, (memory, step) = plt.subplots(2, 1, figsize=(11, 2 * height), layout="constrained")
    try:
        figure.suptitle(title, fontsize=14, x=0.01, ha="left", weight="bold")
        _stack(memory, labels, [[p.memory_bytes[k] / GIB for k in KINDS] for p in plans], list(KINDS))
        usable = max(p.usable_bytes for p in plans) / GIB
        for i, plan in enumerate(plans):
            line = plan.usable_bytes / GIB
            memory.plot([line, line], [i - 0.42, i + 0.42], color="black", linewidth=2)
            verdict = "fits" if plan.fits else "does not fit"
            right = max(plan.peak_total_bytes / GIB, line)
            memory.annotate(f" {plan.peak_total_bytes / GIB:.1f} GiB, {verdict}", (right, i), va="center", fontsize=10)
        widest = max(max(p.peak_total_bytes for p in plans) / GIB, usable)
        memory.set_xlim(0, widest * 1.25)
        memory.set_xlabel("GiB on one GPU of the heaviest stage; black line: usable memory")
        memory.set_title(_memory_finding(labels, plans), loc="left", fontsize=12)
        _stack(step, labels, [[p.step_parts_s[k] for k in PARTS] for p in plans], [PART_NAMES[k] for k in PARTS])
        for i, plan in enumerate(plans):
            step.annotate(f" {seconds(plan.step_time_s)}, MFU {plan.mfu:.0%}", (plan.step_time_s, i), va="center", fontsize=10)
        step.set_xlim(0, max(p.step_time_s for p in plans) * 1.25)
        step.set_xlabel("seconds of one optimizer step")
        step.set_title(_time_finding(labels, plans), loc="left", fontsize=12)
        save_figure(figure, path)
    finally:
        plt.close(figure)


def _stack(axes, labels, values, names) -> None:  # type: ignore[no-untyped-def]
    left = [0.0] * len(labels)
    for i, name in enumerate(names):
        widths = [row[i] for row in values]
        if max(widths) > 0:
            axes.barh(range(len(labels)), widths, left=left, color=COLOURS[i % len(COLOURS)], label=name, edgecolor="white")
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=4, frameon=False, fontsize=9)


def _memory_finding(labels: Sequence[str], plans: Sequence[Plan]) -> str:
    fitting = [label for label, plan in zip(labels, plans, strict=True) if plan.fits]
    if len(fitting) == len(plans):
        return "Memory: all fit" if len(plans) > 1 else "Memory: it fits"
    return (
        f"Memory: {', '.join(fitting)} fits, the rest do not"
        if fitting
        else "Memory: none fits"
        if len(plans) > 1
        else "Memory: it does not fit"
    )


def _time_finding(labels: Sequence[str], plans: Sequence[Plan]) -> str:
    if len(plans) == 1:
        return f"Step time: {seconds(plans[0].step_time_s)}"
    rate = [p.tokens_per_s for p in plans]
    best, worst = max(rate), min(rate)
    first, last = labels[rate.index(best)], labels[rate.index(worst)]
    return f"Step time: {first} trains {best / worst:.2f} times as many tokens per second as {last}"


def save_validation(path: Path, title: str, predictions: Sequence[Prediction]) -> None:
    """Draw predicted against measured, log-log, one panel a metric, one colour a group; PlannerError when it cannot be."""
    plt = pyplot()

    metrics = [m for m in UNITS if any(p.metric == m for p in predictions)]
    if not metrics:
        raise PlannerError("--plot {0}: no row could be predicted, so there is nothing to draw.", path)
    groups = list(dict.fromkeys(p.group for p in predictions))
    figure, panels = plt.subplots(1, len(metrics), figsize=(7.5 * len(metrics), 7), layout="constrained", squeeze=False)
    try:
        figure.suptitle(title, fontsize=14, x=0.01, ha="left", weight="bold")
        for axes, metric in zip(panels[0], metrics, strict=True):
            name, unit = UNITS[metric]
            here = [p for p in predictions if p.metric == metric]
            for i, group in enumerate(groups):
                points = [(p.measured / unit, p.predicted / unit) for p in here if p.group == group]
                if points:
                    axes.scatter(*zip(*points, strict=True), s=16, alpha=0.7, label=group, **_style(i))
            ends = [min(p.measured for p in here) / unit / 1.5, max(p.measured for p in here) / unit * 1.5]
            axes.plot(ends, ends, color="black", linewidth=1)
            axes.fill_between(ends, [e / 1.1 for e in ends], [e * 1.1 for e in ends], color="black", alpha=0.08)
            axes.set(xscale="log", yscale="log", xlabel=f"measured {name}", ylabel=f"predicted {name}")
            errors = sorted(abs(p.error) for p in here)
            axes.set_title(
                f"median error {errors[len(errors) // 2]:.1%} over {len(here)} runs; band: 10 %", loc="left", fontsize=12
            )
            axes.legend(fontsize=8, frameon=False)
        save_figure(figure, path)
    finally:
        plt.close(figure)


def _style(i: int) -> dict[str, str]:
    """Colour and mark of the i-th group: marks tell groups of the same colour apart."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKS[(i // len(COLOURS)) % len(MARKS)]}


def save_accuracy(
    path: Path, measured: Sequence[float], ours: Sequence[float], baseline: Sequence[float], groups: Sequence[str]
) -> None:
    """Predicted against measured, and how many runs are within an error, beside the baseline.

    ``measured`` in seconds; ``ours`` and ``baseline`` log(predicted / measured). PlannerError when it cannot be written.
    """
    import numpy as np

    plt = pyplot()

    seconds_, ratios, theirs = (np.asarray(x, dtype=float) for x in (measured, ours, baseline))
    figure, (left, right) = plt.subplots(1, 2, figsize=(15, 7), layout="constrained")
    try:
        for i, group in enumerate(dict.fromkeys(groups)):
            at = np.array([g == group for g in groups])
            left.scatter(seconds_[at], seconds_[at] * np.exp(ratios[at]), s=14, alpha=0.6, label=group, **_style(i))
        ends = np.array([seconds_.min() / 1.5, seconds_.max() * 1.5])
        left.plot(ends, ends, color="black", linewidth=1)
        left.fill_between(ends, ends / 1.1, ends * 1.1, color="black", alpha=0.08)
        left.set(xscale="log", yscale="log", xlabel="measured step time, s", ylabel="predicted step time, s")
        error = np.abs(np.exp(ratios) - 1.0)
        left.set_title(
            f"{len(error)} steps of models that the fit had not seen: median error {np.median(error):.1%}; band: 10 %",
            loc="left",
            fontsize=12,
        )
        left.legend(fontsize=9, frameon=False, ncols=2)
        _draw_shares(right, ratios, theirs)
        save_figure(figure, path, option="", dpi=100)
    finally:
        plt.close(figure)


def _draw_shares(axes, ratios, theirs) -> None:  # type: ignore[no-untyped-def]
    """How many steps lie within an error: the planner's log ratios beside the baseline's."""
    import numpy as np

    for values, name, colour in ((ratios, "planner", COLOURS[0]), (theirs, "constant utilization", COLOURS[6])):
        errors = np.sort(np.abs(np.exp(values) - 1.0))
        share = np.arange(1, len(errors) + 1) / len(errors)
        axes.plot(100 * errors, 100 * share, color=colour, linewidth=2)
        here = float(np.interp(0.5, share, errors))
        axes.annotate(f" {name}: half within {here:.0%}", (100 * here, 50), color=colour, fontsize=11, va="top")
    axes.set(xlim=(0, 60), ylim=(0, 100), xlabel="error of step time, %", ylabel="steps with at most this error, %")
    axes.set_title("What the physics adds over one utilization per GPU type", loc="left", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
