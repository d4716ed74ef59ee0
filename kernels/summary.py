"""A record as a table for people."""

from __future__ import annotations

from typing import Any

TERA, GIGA, GIB = 1e12, 1e9, 2.0**30
STEPS = ("training", "distributed_steps", "out_of_memory")
"""Families whose samples are whole steps."""


def summary(record: dict[str, Any], every: bool = False) -> str:
    """What was measured on what; per kind of sample the best rate, or every sample."""
    device, samples = record["device"], record["samples"]
    lines = [
        f"{device['name']} ({device['kind']}), torch {record['versions'].get('torch', '?')}, {record['created']}",
        f"{sum(s['status'] == 'measured' for s in samples)} measured, {sum(s['status'] == 'skipped' for s in samples)} skipped, "
        f"{sum(bool(s['time'] and s['time']['noisy']) for s in samples)} noisy"
        + ("" if record["finished"] else "; the run did not finish"),
    ]
    if device.get("clock") == "cpu":
        lines.append("seconds are CPU time of the process, not of the wall")
    if device.get("busy"):
        lines.append(f"warning: {device['busy']}")
    kernels = [s for s in samples if s["status"] == "measured" and s["family"] not in STEPS]
    steps = [s for s in samples if s["status"] == "measured" and s["family"] in STEPS]
    if kernels:
        lines += ["", f"{'family':<14}{'kernel':<24}{'dtype':<7}{'seconds':>11}{'TFLOP/s':>10}{'GB/s':>9}  shape"]
        lines += [_kernel_line(s) for s in (kernels if every else _best(kernels))]
    if steps:
        lines += [
            "",
            f"{'training step':<38}{'type':<10}{'seconds':>9}{'tokens/s':>11}{'peak GiB':>10}{'reserved':>10}{'watt':>7}",
        ]
        lines += [_step_line(s) for s in steps]
    skipped: dict[str, int] = {}
    for s in samples:
        if s["status"] == "skipped":
            skipped[f"{s['family']}: {s['reason']}"] = skipped.get(f"{s['family']}: {s['reason']}", 0) + 1
    lines += ["", "skipped:", *(f"  {count} x {reason}" for reason, count in skipped.items())] if skipped else []
    return "\n".join(lines)


def _best(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each family, kernel and type the sample with the highest rate; shortest time where there is no rate."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}

    def rate(s: dict[str, Any]) -> float:
        return float(s["flops_per_s"] or s["bytes_per_s"] or 1.0 / s["time"]["median_s"])

    for s in samples:
        if s["time"] is None:
            continue
        key = (s["family"], f"{s['shape'].get('label', '')} {s['name']}", s["dtype"])
        if key not in found or rate(s) > rate(found[key]):
            found[key] = s
    return list(found.values())


def _kernel_line(s: dict[str, Any]) -> str:
    flops = f"{s['flops_per_s'] / TERA:.3f}" if s["flops_per_s"] else "-"
    moved = f"{s['bytes_per_s'] / GIGA:.1f}" if s["bytes_per_s"] else "-"
    shape = " ".join(f"{k}={v}" for k, v in s["shape"].items() if k != "model")
    if "ceiling_share" in s["extra"]:
        shape = f"{s['extra']['ceiling_share']:.0%} of one large multiply's rate; {shape}"
    noisy = "~" if s["time"]["noisy"] else " "
    return f"{s['family']:<14}{s['name']:<24}{s['dtype']:<7}{s['time']['median_s']:>10.3e}{noisy}{flops:>10}{moved:>9}  {shape}"


def _step_line(s: dict[str, Any]) -> str:
    extra, time = s["extra"], s["time"]

    def gib(name: str) -> str:
        return f"{extra[name] / GIB:.2f}" if extra.get(name) else "-"

    seconds = f"{time['median_s']:.4f}{'~' if time['noisy'] else ' '}" if time else "- "
    tokens = f"{extra['tokens_per_s']:.0f}" if extra.get("tokens_per_s") else "-"
    watt = f"{extra['power_w']:.0f}" if extra.get("power_w") else "-"
    label = (
        s["shape"]["label"] if s["name"] in ("training step", "largest micro-batch") else f"{s['shape']['label']}, {s['name']}"
    )
    if "largest_micro_batch_size" in extra:
        label += f": {extra['largest_micro_batch_size']}"
    return (
        f"{label:<38}{s['shape']['precision']:<10}{seconds:>9}{tokens:>11}{gib('peak_allocated_bytes'):>10}"
        f"{gib('peak_reserved_bytes'):>10}{watt:>7}"
    )
