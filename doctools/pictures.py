"""The pictures of the concept pages, drawn by the planner's own functions when the site is built."""

from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from planner.hardware.cluster import load_accelerator
from planner.hardware.curves import curves_of
from planner.operators.routing import fullest_rank_load
from planner.operators.row import Matmul
from planner.performance.pipeline import in_flight
from planner.performance.roofline import matmul_efficiency
from planner.scenarios.scenario import read_scenario
from planner.serving.experts import distinct_experts
from planner.training.plan import Plan

COLOURS = ("#3a6ea5", "#c46b48", "#5b9279", "#8a6fae", "#b0a04f", "#7f7f7f", "#c2788f")
GIB = 2.0**30


def pictures() -> dict[str, bytes]:
    """Path in the site -> SVG."""
    found = {
        "memory": _memory,
        "step": _step,
        "matmul": _matmul,
        "pipeline": _pipeline,
        "in-flight": _in_flight,
        "expert-load": _expert_load,
        "distinct-experts": _distinct_experts,
        "interval": _interval,
    }
    return {f"concepts/{name}.svg": _drawn(draw) for name, draw in found.items()}


def _drawn(draw: Callable[[Axes], None]) -> bytes:
    style = {
        "svg.hashsalt": "planner",
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(6.4, 2.8))
        draw(axes)
        figure.tight_layout()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(figure)
    return buffer.getvalue()


def _plan() -> Plan:
    return read_scenario("llama-3-70b-h100").cases[0].plan()


def _stacked(axes: Axes, parts: dict[str, float], unit: str) -> None:
    left = 0.0
    for (name, value), colour in zip(parts.items(), COLOURS * 3, strict=False):
        axes.barh([0], [value], left=left, color=colour, label=f"{name}: {value:.3g} {unit}")
        left += value
    axes.set_yticks([])
    axes.set_ylim(-0.5, 0.5)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.42), ncol=2, frameon=False)


def _memory(axes: Axes) -> None:
    plan = _plan()
    _stacked(axes, {k.replace("_", " "): v / GIB for k, v in plan.memory_bytes.items() if v > 0}, "GiB")
    axes.axvline(plan.usable_bytes / GIB, color="black", linestyle="--")
    axes.set_xlabel("GiB of the heaviest GPU; dashed: usable")


def _step(axes: Axes) -> None:
    plan = _plan()
    _stacked(axes, {k.replace("_", " "): v for k, v in plan.step_parts_s.items() if v > 0.002 * plan.step_time_s}, "s")
    axes.set_xlabel("seconds of one optimizer step")


def _matmul(axes: Axes) -> None:
    size = np.logspace(2, 4.2, 100)
    for name, colour in zip(("h100-sxm5-80gb", "a100-sxm4-80gb", "rtx-4090-24gb"), COLOURS, strict=False):
        gpu = load_accelerator(name)
        work = Matmul(m=size, n=size, k=size)
        axes.plot(size, 100.0 * matmul_efficiency(work, gpu, curves_of(gpu), "bf16", 2.0), color=colour, label=name)
    axes.set_xscale("log")
    axes.set_xlabel("size of a square multiply, bf16")
    axes.set_ylabel("% of the dense peak")
    axes.legend(frameon=False)


def _pipeline(axes: Axes) -> None:
    """1F1B of four stages and six micro-batches: forward 1, backward 2 units of time."""
    pp, m = 4, 6
    done: dict[tuple[str, int, int], float] = {}
    for stage, order in ((s, _one_f_one_b(pp, m, s)) for s in range(pp)):
        done.update({(kind, i, stage): np.nan for kind, i in order})
    clock = [0.0] * pp
    queues = [_one_f_one_b(pp, m, s) for s in range(pp)]
    while any(queues):
        for stage in range(pp):
            while queues[stage]:
                kind, i = queues[stage][0]
                before = ("F", i, stage - 1) if kind == "F" else ("B", i, stage + 1)
                ready = done.get(before, done[("F", i, stage)] if kind == "B" else 0.0)
                if np.isnan(ready):
                    break
                start, length = max(clock[stage], ready), 1.0 if kind == "F" else 2.0
                axes.barh([stage], [length], left=start, color=COLOURS[0 if kind == "F" else 1], edgecolor="white")
                axes.text(start + length / 2, stage, str(i + 1), ha="center", va="center", color="white", fontsize=7)
                clock[stage] = done[kind, i, stage] = start + length
                queues[stage].pop(0)
    axes.set_yticks(range(pp), [f"stage {s + 1}" for s in range(pp)])
    axes.invert_yaxis()
    axes.set_xlabel("time; blue forward, brown backward, white the bubble")


def _one_f_one_b(pp: int, m: int, stage: int) -> list[tuple[str, int]]:
    warm = min(pp - stage, m)
    order = [("F", i) for i in range(warm)]
    for i in range(m):
        order += [("B", i)] + ([("F", warm + i)] if warm + i < m else [])
    return order


def _in_flight(axes: Axes) -> None:
    pp, m = 8, np.array([64.0])
    for vpp, colour in zip((1.0, 2.0, 4.0), COLOURS, strict=False):
        held = [float(in_flight(pp, np.array([vpp]), stage, m)[0]) for stage in range(pp)]
        axes.plot(
            range(1, pp + 1), held, marker="o", color=colour, label="1F1B" if vpp == 1 else f"interleaved, {vpp:.0f} chunks"
        )
    axes.set_xlabel("pipeline stage, of 8")
    axes.set_ylabel("micro-batches held")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _expert_load(axes: Axes) -> None:
    ep = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    for skew, colour in zip((0.0, 0.3, 0.6, 1.0), COLOURS, strict=False):
        axes.plot(ep, fullest_rank_load(64, 8, ep, skew), marker="o", color=colour, label=f"skew {skew:g}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(ep, [f"{n:.0f}" for n in ep])
    axes.set_xlabel("GPUs that 64 experts, 8 a token, are spread over")
    axes.set_ylabel("fullest / mean")
    axes.legend(frameon=False)


def _distinct_experts(axes: Axes) -> None:
    tokens = np.logspace(0, 3, 100)
    for (experts, top_k), colour in zip(((8, 2), (64, 6), (256, 8)), COLOURS, strict=False):
        share = 100.0 * np.asarray(distinct_experts(experts, top_k, tokens)) / experts
        axes.plot(tokens, share, color=colour, label=f"{top_k} of {experts}")
    axes.set_xscale("log")
    axes.set_xlabel("tokens of a decoding pass")
    axes.set_ylabel("% of the experts read")
    axes.legend(frameon=False)


def _interval(axes: Axes) -> None:
    cases = [
        (case.label, case.plan())
        for name in ("llama-3-70b-h100", "chatlaw2-moe", "bert-3x-rtx-3070")
        for case in read_scenario(name).cases[:1]
    ]
    for place, (_, plan) in enumerate(cases):
        found = plan.intervals["step_time_s"]
        axes.plot([found.lower / plan.step_time_s, found.upper / plan.step_time_s], [place, place], color=COLOURS[0], linewidth=4)
        axes.plot([1.0], [place], "o", color="black")
    axes.set_yticks(range(len(cases)), [label for label, _ in cases])
    axes.set_ylim(-0.6, len(cases) - 0.4)
    axes.set_xlabel("90 % interval of the step time over its expected value")
