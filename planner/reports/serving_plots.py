"""Pictures of serving: latency against throughput, and predicted against measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from planner.common.errors import PlannerError
from planner.reports.pictures import pyplot, save_figure
from planner.reports.plots import COLOURS, MARKS
from planner.serving.curves import client_curve, curve, load_curve
from planner.serving.deployment import Deployment


def save_serving(path: Path, title: str, labels: Sequence[str], deployments: Sequence[Deployment]) -> None:
    """Left: time per token against throughput, a point a batch, with the 90 % band. Right: latency against request rate; against
    clients where every case has them.

    Deployments that do not fit, and engines without continuous batching on the right, are left out and named. PlannerError
    when nothing can be drawn or the path cannot be written.
    """
    drawn = [(label, d) for label, d in zip(labels, deployments, strict=True) if d.fits]
    if not drawn:
        raise PlannerError("--plot {0}: no deployment fits, so there is nothing to draw.", path)
    closed = all(d.serving.clients is not None for _, d in drawn)
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 6), layout="constrained")
    try:
        figure.suptitle(title, fontsize=14, x=0.01, ha="left", weight="bold")
        for i, (label, d) in enumerate(drawn):
            _batch_curve(left, d, label, COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)])
            _load_curve(right, d, label, COLOURS[i % len(COLOURS)], closed=closed)
        for label, d in zip(labels, deployments, strict=True):
            if not d.fits:
                left.plot([], [], " ", label=f"{label}: does not fit")
        left.set(xlabel="output tokens per second, all replicas", ylabel="ms per output token", xscale="log", ylim=(0, None))
        left.set_title("Batches: points are batch sizes, band 90 %", loc="left", fontsize=12)
        right.set(xlabel="clients" if closed else "requests per second", ylabel="seconds for a whole request", ylim=(0, None))
        which = (
            "Clients: p50 (line) and p95 (dashed)"
            if closed
            else "Request rates: p50 (line) and p95 (dashed) to 95 % of the capacity"
        )
        right.set_title(which, loc="left", fontsize=12)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize=9)
        save_figure(figure, path)
    finally:
        plt.close(figure)


def _batch_curve(axes: Any, d: Deployment, label: str, colour: str, mark: str) -> None:
    table = curve(d)
    x, y = table["output_tokens_per_s"], 1e3 * table["tpot_s"]
    axes.plot(x, y, color=colour, marker=mark, markersize=4, label=label)
    axes.fill_between(x, 1e3 * table["tpot_s_lower"], 1e3 * table["tpot_s_upper"], color=colour, alpha=0.12, linewidth=0)
    axes.annotate(f" {int(table['batch'].iloc[-1])}", (x.iloc[-1], y.iloc[-1]), fontsize=9, color=colour)


def _load_curve(axes: Any, d: Deployment, label: str, colour: str, *, closed: bool) -> None:
    if "continuous_batching" not in d.engine.features:
        axes.plot([], [], color=colour, label=f"{label}: static batches only")
        return
    table, x = (client_curve(d), "clients") if closed else (load_curve(d), "requests_per_s")
    axes.plot(table[x], table["e2e_s_p50"], color=colour, label=label)
    axes.plot(table[x], table["e2e_s_p95"], color=colour, linestyle="--")


def save_scatter(path: Path, panels: Mapping[str, Sequence[tuple[float, float, str]]]) -> None:
    """Predicted against measured, log-log, one panel a figure, one colour a group of (measured, predicted, group)."""
    plt = pyplot()
    figure, rows = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 5.4), layout="constrained", squeeze=False)
    groups = sorted({group for points in panels.values() for _, _, group in points})
    try:
        for axes, (name, points) in zip(rows[0], panels.items(), strict=True):
            for i, group in enumerate(groups):
                here = [(m, p) for m, p, g in points if g == group]
                if here:
                    style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKS[(i // len(COLOURS)) % len(MARKS)]}
                    axes.scatter(*zip(*here, strict=True), s=12, alpha=0.6, label=group, **style)
            ends = [min(m for m, _, _ in points) / 1.5, max(m for m, _, _ in points) * 1.5]
            axes.plot(ends, ends, color="black", linewidth=1)
            axes.fill_between(ends, [e / 1.2 for e in ends], [e * 1.2 for e in ends], color="black", alpha=0.08)
            axes.set(xscale="log", yscale="log", xlabel="measured", ylabel="predicted")
            errors = sorted(abs(p / m - 1.0) for m, p, _ in points)
            axes.set_title(f"{name}: median error {errors[len(errors) // 2]:.1%}", loc="left", fontsize=11)
            axes.legend(fontsize=7, frameon=False)
        save_figure(figure, path)
    finally:
        plt.close(figure)
