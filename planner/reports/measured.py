"""The page of a measured box: what it reaches, what was predicted before and after calibration, as Markdown and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from planner.calibration.comparison import Comparison, Row, summary
from planner.calibration.measuring import Measured, Share, gain, shares
from planner.common.units import GIB
from planner.reports.pictures import pyplot, save_figure
from planner.reports.plots import COLOURS
from planner.reports.text import seconds

UNITS = {"flop/s": ("TFLOP/s", 1e12), "byte/s": ("GB/s", 1e9)}


def page(found: Measured, picture: str) -> str:
    """The whole page in Markdown; ``picture`` is the file name of its figure."""
    record = found.record
    parts = [
        f"# {record.device.name}, measured",
        f"{record.created}, torch {record.versions.get('torch', '?')}, {record.ranks} GPU(s) together. "
        f"Profile: `{found.calibration.accelerator.name}`"
        + (f", data sheet of `{found.calibration.base}`." if found.calibration.base else ", peaks as measured."),
        f"**{gain(found).sentence()}**",
        *_warnings(found),
        f"![Predicted against measured]({picture})",
        "## What the device reaches",
        _share_table(shares(found)),
        "## Steps that no constant saw",
        _step_table(found),
        "## How well the constants give back what they were fitted to",
        _table(
            ("fit", "samples", "median error", "worst error"),
            [(f.name, str(f.samples), f"{f.median:.1%}", f"{f.worst:.1%}") for f in found.calibration.fits],
        ),
        *_skipped(found),
        "## Use it",
        _use(found),
    ]
    return "\n\n".join(parts) + "\n"


def _warnings(found: Measured) -> list[str]:
    """What makes the figures doubtful: a busy or throttled device, scatter."""
    extra = found.record.device.model_extra or {}
    slow = sorted({r for s in found.record.measured("training") for r in s.extra.get("seen", {}).get("clock_reasons", ())})
    noisy = sum(bool(s.time and s.time.noisy) for s in found.record.samples)
    said = [
        f"The device was not free: {extra['busy']}." if extra.get("busy") else "",
        f"Clocks were held down during training steps by: {', '.join(slow)}." if slow else "",
        f"{noisy} of {len(found.record.samples)} samples scattered by more than a quarter." if noisy else "",
    ]
    return [line for line in (" ".join(part for part in said if part),) if line]


def _share_table(found: Sequence[Share]) -> str:
    rows = []
    for share in found:
        unit, size = UNITS[share.unit]
        peak = (f"{share.peak / size:,.0f} {unit}", f"{share.rate / share.peak:.0%}") if share.peak else ("", "")
        rows.append((share.what, f"{share.rate / size:,.4g} {unit}", *peak))
    return _table(("work", "best measured", "data sheet", "share"), rows)


def _step_table(found: Measured) -> str:
    before = {(r.id, r.metric): r for r in found.before.rows} if found.before is not None else {}
    rows = []
    for row in found.after.rows:
        if row.metric not in ("step_time_s", "peak_allocated_bytes"):
            continue
        old = before.get((row.id, row.metric))
        inside = "inside" if row.lower <= row.measured <= row.upper else "outside"
        rows.append((row.id, _value(row, row.measured), _error(old), f"{row.error:+.1%}", _between(row), inside))
    table = _table(("step", "measured", "catalog", "calibrated", "90 % interval", ""), rows)
    return "\n\n".join([table, *_errors(found.after)])


def _errors(comparison: Comparison) -> list[str]:
    return [
        f"{metric}: {s['rows']:.0f} rows, median error {s['median']:.1%}, worst {s['worst']:.1%}, "
        f"{s['inside_interval']:.0%} inside their interval."
        for metric, s in summary(comparison.rows).items()
    ]


def _value(row: Row, value: float) -> str:
    return seconds(value) if row.metric.endswith("_s") else f"{value / GIB:.2f} GiB"


def _between(row: Row) -> str:
    return f"{_value(row, row.lower)} to {_value(row, row.upper)}"


def _error(row: Row | None) -> str:
    return f"{row.error:+.1%}" if row is not None else "-"


def _skipped(found: Measured) -> list[str]:
    """Reasons why something was not measured, each once."""
    counted: dict[str, int] = {}
    for sample in found.record.samples:
        if sample.status == "skipped":
            counted[f"{sample.family}: {sample.reason}"] = counted.get(f"{sample.family}: {sample.reason}", 0) + 1
    if not counted:
        return []
    return ["## Not measured", "\n".join(f"- {count} x {reason}" for reason, count in counted.items())]


def _use(found: Measured) -> str:
    card, node, framework = (path.name for path in found.profiles)
    return (
        f'```toml\n[cluster]\nnode = "{node}"          # or any node with accelerator = "{card}"\n'
        f'[framework]\nname = "{framework}"     # the modules of kernels/; other frameworks keep their catalog entry\n```\n\n'
        f"The records ({', '.join(f'`{path.name}`' for path in found.records)}) hold no host name, path or serial number: "
        "they may be shared."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)])


def save_picture(path: Path, found: Measured) -> None:
    """Predicted over measured step times, by the catalog and by the calibration; and shares of the data sheet."""
    plt, known = pyplot(), [s for s in shares(found) if s.peak]
    figure, axes = plt.subplots(1, 2 if known else 1, figsize=(11 if known else 6, 5), squeeze=False, layout="constrained")
    _draw_steps(axes[0][0], found)
    if known:
        bars = axes[0][1]
        bars.barh([s.what for s in known], [s.rate / (s.peak or s.rate) for s in known], color=COLOURS[0])
        bars.axvline(1.0, color="black", linewidth=0.8)
        bars.set_xlabel("best measured rate over the data sheet's")
        bars.invert_yaxis()
    figure.suptitle(gain(found).sentence(), fontsize=10)
    save_figure(figure, path, option="--out ", dpi=140)
    plt.close(figure)


def _draw_steps(axis: object, found: Measured) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axis, Axes)
    for number, (label, comparison) in enumerate((("catalog", found.before), ("calibrated", found.after))):
        rows = [r for r in comparison.rows if r.metric == "step_time_s"] if comparison is not None else []
        if rows:
            x, y = [r.measured for r in rows], [r.predicted for r in rows]
            axis.loglog(x, y, "so"[number], color=COLOURS[number * 2], label=label, markersize=5)
    low, high = axis.get_xlim()
    axis.plot([low, high], [low, high], color="black", linewidth=0.8)
    axis.set_xlabel("measured step, s")
    axis.set_ylabel("predicted step, s")
    axis.legend()
