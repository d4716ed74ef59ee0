"""The answer first: eight lines that fit a narrow terminal, each figure with its 90 % interval."""

from __future__ import annotations

import datetime
import textwrap
from collections.abc import Callable, Sequence

from planner.common.units import DAY_S, GIB, HOUR_S
from planner.lifecycle.bill import Bill
from planner.lifecycle.simulation import WholeRun
from planner.reports.text import dollars, span
from planner.scenarios.scenario import Outlook
from planner.training.plan import Plan
from planner.workload.layout import Layout

NAME = 10
"""Columns of the names on the left."""


def answer_text(title: str, plan: Plan, width: int = 80, outlook: Outlook | None = None) -> str:
    """Title, whether it fits, step, run, cost, budget, layout, on what, based on what; no bill where it does not fit."""
    return "\n".join([title, *wrapped(answer_lines(plan, outlook), width)])


def wrapped(lines: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Names on the left, texts beside them."""
    indent = " " * (NAME + 2)
    return [
        line
        for name, text in lines
        for line in textwrap.wrap(
            text, width, initial_indent=f"  {name:<{NAME}}", subsequent_indent=indent, break_on_hyphens=False
        )
    ]


def answer_lines(plan: Plan, outlook: Outlook | None = None) -> list[tuple[str, str]]:
    """(name, text) of each line."""
    found = [("fits", _fits(plan))]
    if plan.fits:
        found += [("step", _step(plan)), ("run", _run(plan)), ("cost", _cost(plan))]
        if outlook is not None and outlook.run is not None:
            found += [("budget", _budget(outlook.run, outlook.bill))]
        elif outlook is not None and outlook.why:
            found += [("budget", outlook.why)]
    else:
        found += [("why not", "; ".join(plan.reasons))]
        near = "none" if plan.nearest is None else f"{layout_words(plan.nearest)}"
        found += [("instead", f"nearest layout that fits: {near}")]
    cluster = plan.cluster
    return [
        *found,
        ("layout", layout_words(plan.layout)),
        ("on", f"{cluster.name}; {plan.framework.name}, {plan.job.precision}, {_batch(plan)}"),
        ("based on", based_on(plan)),
    ]


def based_on(plan: Plan) -> str:
    """What the intervals come from, in a sentence."""
    sure = plan.intervals["step_time_s"]
    return f"{sure.why}, so the interval is wider" if sure.provenance == "extrapolated" else sure.why


def _fits(plan: Plan) -> str:
    need = plan.intervals["peak_total_bytes"]
    verdict = {
        "fits": "yes",
        "probably fits": "probably",
        "probably does not fit": "probably not",
        "does not fit": "no",
    }[plan.certainty]
    room = f"{abs(plan.headroom_bytes) / GIB:.1f} GiB {'free' if plan.headroom_bytes >= 0 else 'over'}"
    span = f"{need.lower / GIB:.1f} to {need.upper / GIB:.1f}"
    return f"{verdict}: {plan.peak_total_bytes / GIB:.1f} of {plan.usable_bytes / GIB:.1f} GiB per GPU ({span}), {room}"


def _step(plan: Plan) -> str:
    span = _span(plan, "step_time_s", lambda value: f"{value:.3g}")
    return f"{plan.step_time_s:.3g} s ({span}), {plan.mfu:.1%} MFU, {plan.tokens_per_s_per_gpu:,.0f} tokens/s per GPU"


def _run(plan: Plan) -> str:
    if plan.run_s is None or plan.gpu_hours is None:
        return "no length given: add job.num_tokens, num_samples or num_steps (--tokens 100B)"
    unit, name = (DAY_S, "days") if plan.run_s >= 2 * DAY_S else (HOUR_S, "hours")
    span = _span(plan, "run_s", lambda value: _three(value / unit))
    return f"{_three(plan.run_s / unit)} {name} ({span}), {_three(plan.gpu_hours)} GPU-hours"


def _three(value: float) -> str:
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _cost(plan: Plan) -> str:
    if plan.price is None:
        return "no quote for this GPU: add --price 2.10 (dollars per GPU-hour)"
    price = f"${plan.price.usd_per_gpu_hour:.2f} per GPU-hour ({plan.price.describe()})"
    return price if plan.cost_usd is None else f"{dollars(plan.cost_usd)} ({_span(plan, 'cost_usd', dollars)}) at {price}"


def _budget(run: WholeRun, bill: Bill | None) -> str:
    """As published runs went, with interruptions: what ``planner run`` says, too."""
    unit, name = (DAY_S, "days") if run.budget_s.expected >= 2 * DAY_S else (HOUR_S, "hours")
    low, middle, high = (_three(value / unit) for value in (run.budget_s.lower, run.budget_s.expected, run.budget_s.upper))
    time = f"{middle} {name} ({low} to {high})"
    money = "" if bill is None else f", {span(bill.budget_usd, dollars)}"
    return f"{time}{money}: with interruptions, and as published runs went (planner run)"


def answer_notes(plan: Plan, today: datetime.date) -> tuple[str, ...]:
    """What belongs under the lines: how to read them, a quote that is old, what the plan itself says."""
    stale = plan.price.staleness(today) if plan.price is not None and plan.fits else ""
    run = ("failures and checkpoints are not in the run: planner run adds them",) if plan.fits and plan.run_s is not None else ()
    price = (f"price: {stale}",) if stale else ()
    return ("in parentheses: 90 % prediction intervals", *run, *price, *plan.notes)


def _span(plan: Plan, name: str, show: Callable[[float], str]) -> str:
    found = plan.intervals[name]
    return f"{show(found.lower)} to {show(found.upper)}"


def _batch(plan: Plan) -> str:
    return f"{plan.job.global_batch_size:,} x {plan.job.seq_len:,} tokens a step"


def layout_words(layout: Layout) -> str:
    """The layout as people say it.

    >>> layout_words(Layout(tp=2, pp=4, vpp=2, dp=4, zero=1, micro_batch_size=2))
    'tensor 2 x pipeline 4 (2 chunks each) x data 4, ZeRO-1, micro-batch 2, nothing recomputed'
    """
    degrees = [
        (layout.tp, f"tensor {layout.tp}"),
        (layout.pp, f"pipeline {layout.pp}" + (f" ({layout.vpp} chunks each)" if layout.vpp > 1 else "")),
        (layout.cp, f"context {layout.cp}"),
        (layout.dp or 1, f"data {layout.dp}"),
    ]
    words = [" x ".join(text for number, text in degrees if number > 1) or "one GPU"]
    words += [f"experts over {layout.ep}"] if layout.ep > 1 else []
    words += [f"each expert over {layout.etp}"] if layout.etp > 1 else []
    words += ["sequence parallel"] if layout.sequence_parallel else []
    words += [f"ZeRO-{layout.zero}"] if layout.zero else []
    words += [f"sharded over {layout.shard_group_size}"] if layout.shard_group_size else []
    words += [f"micro-batch {layout.micro_batch_size}"]
    words += [{"none": "nothing recomputed", "selective": "attention recomputed", "full": "all recomputed"}[layout.recompute]]
    words += ["zero-bubble schedule"] if layout.schedule == "zero-bubble" else []
    offloaded = [name for name in ("optimizer", "parameters", "activations") if getattr(layout, f"offload_{name}")]
    words += [f"{' and '.join(offloaded)} offloaded to the host"] if offloaded else []
    return ", ".join(words)


def notes_text(notes: Sequence[str], width: int = 80) -> str:
    """Notes, one paragraph each."""
    return "\n".join(textwrap.fill(note, width, subsequent_indent="  ", break_on_hyphens=False) for note in notes)
