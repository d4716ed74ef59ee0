"""The answer first: eight lines that fit a narrow terminal, each figure with its 90 % interval."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence

from rich.cells import cell_len

from planner.common.message import Message, join_messages
from planner.common.translation import spoken, spoken_word
from planner.common.units import DAY_S, GIB, HOUR_S
from planner.lifecycle.bill import Bill
from planner.lifecycle.simulation import WholeRun
from planner.reports.text import dollars, folded, span
from planner.scenarios.scenario import Outlook
from planner.training.elsewhere import Elsewhere
from planner.training.plan import Plan
from planner.training.remedies import Remedy
from planner.workload.job import Job
from planner.workload.layout import Layout

NAME = 10
"""Columns of the names on the left."""


def answer_text(
    title: str,
    plan: Plan,
    width: int = 80,
    outlook: Outlook | None = None,
    ways: Sequence[Remedy] = (),
    other: Elsewhere | None = None,
) -> str:
    """Title, whether it fits, step, budget, run, cost, layout, on what, based on what; no bill where it does not fit."""
    return "\n".join([spoken(title), *wrapped(answer_lines(plan, outlook, ways, other), width)])


def wrapped(lines: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Names on the left, texts beside them."""
    indent = " " * (NAME + 2)
    found = []
    for name, text in lines:
        label = spoken_word(name)
        found += folded(spoken(text), width, f"  {label}{' ' * (NAME - cell_len(label))}", indent)
    return found


def answer_lines(
    plan: Plan, outlook: Outlook | None = None, ways: Sequence[Remedy] = (), other: Elsewhere | None = None
) -> list[tuple[str, str]]:
    """(name, text) of each line; ``ways``: ``training.remedies.ways_out`` of a plan that no layout fits; ``other``:
    ``training.elsewhere.elsewhere``."""
    found = [("fits", _fits(plan))]
    if plan.fits:
        found += [("step", _step(plan))]
        if outlook is not None and outlook.run is not None:
            found += [("budget", _budget(outlook.run, outlook.bill))]
        elif outlook is not None and outlook.why:
            found += [("budget", outlook.why)]
        found += [("run", _run(plan)), ("cost", _cost(plan))]
    else:
        found += [("why not", join_messages("; ", plan.reasons))]
        found += [("" if i else "instead", text) for i, text in enumerate(_instead(plan, ways))]
    cluster = plan.cluster
    return [
        *found,
        ("layout", layout_words(plan.layout)),
        ("on", Message("{0}; {1}, {2}, {3}", cluster.name, plan.framework.name, plan.job.precision, _batch(plan))),
        *([] if other is None else [("faster", elsewhere_words(other))]),
        ("based on", based_on(plan)),
    ]


def _instead(plan: Plan, ways: Sequence[Remedy]) -> list[str]:
    """What fits in the plan's place; where nothing does, how to find GPUs that hold it."""
    if plan.nearest is not None:
        return [Message("nearest layout that fits: {0}", layout_words(plan.nearest))]
    found: list[str] = []
    for way in ways:
        room = way.headroom_bytes / GIB
        found.append(Message("{0}: {1} s a step, {2:.1f} GiB free", _change_words(way), _three(way.step_time_s), room))
    purpose = {"lora": "lora", "qlora": "qlora", "gptq-lora": "qlora"}.get(plan.job.kind, "full")
    return found or [Message("no near change fits; GPUs that hold it: planner size MODEL --for {0}", purpose)]


def _change_words(way: Remedy) -> str:
    """The change of a ``ways_out`` as people say it."""
    (table, fields), *_ = way.changes.items()
    if "kind" in fields:
        return {"lora": "LoRA", "qlora": "QLoRA"}[fields["kind"]]
    if table == "framework":
        return Message("framework {0}", fields["name"])
    if table == "cluster":
        return Message("{0} such GPUs", fields["num_gpus"])
    if "seq_len" in fields:
        return Message("sequences of {0:,} tokens", fields["seq_len"])
    return Message("optimizer {0}", fields["optimizer"])


def elsewhere_words(other: Elsewhere) -> str:
    """ "megatron-core in 27% less time (13% to 42%), pipeline 2 x data 4, ZeRO-1, micro-batch 1, nothing recomputed" """
    less = [1.0 - part for part in (other.over.expected, other.over.upper, other.over.lower)]
    return Message("{0} in {1:.0%} less time ({2:.0%} to {3:.0%}), {4}", other.framework, *less, layout_words(other.layout))


def based_on(plan: Plan) -> str:
    """What the intervals come from, in a sentence."""
    sure = plan.intervals["step_time_s"]
    return Message("{0}, so the interval is wider", sure.why) if sure.provenance == "extrapolated" else sure.why


def _fits(plan: Plan) -> str:
    need = plan.intervals["peak_total_bytes"]
    verdict = {
        "fits": "yes",
        "probably fits": "probably",
        "probably does not fit": "probably not",
        "does not fit": "no",
    }[plan.certainty]
    room = Message("{0:.1f} GiB free" if plan.headroom_bytes >= 0 else "{0:.1f} GiB over", abs(plan.headroom_bytes) / GIB)
    between = Message("{0:.1f} to {1:.1f}", need.lower / GIB, need.upper / GIB)
    return Message(
        "{0}: {1:.1f} of {2:.1f} GiB per GPU ({3}), {4}",
        verdict,
        plan.peak_total_bytes / GIB,
        plan.usable_bytes / GIB,
        between,
        room,
    )


def _step(plan: Plan) -> str:
    span = _span(plan, "step_time_s", _three)
    both = Message("{0:.1%} MFU", plan.mfu)
    if plan.mfu_causal < plan.mfu:
        both = Message("{0:.1%} MFU, {1:.1%} causal", plan.mfu, plan.mfu_causal)
    return Message("{0} s ({1}), {2}, {3:,.0f} tokens/s/GPU", _three(plan.step_time_s), span, both, plan.tokens_per_s_per_gpu)


def _run(plan: Plan) -> str:
    if plan.run_s is None or plan.gpu_hours is None:
        return no_length(plan.job)
    unit, name = (DAY_S, "days") if plan.run_s >= 2 * DAY_S else (HOUR_S, "hours")
    span = _span(plan, "run_s", lambda value: _three(value / unit))
    return Message("{0} {1} ({2}) undisturbed, {3} GPU-hours", _three(plan.run_s / unit), name, span, _three(plan.gpu_hours))


def no_length(job: Job) -> str:
    """Why there is neither time nor dollars of a run, and what gives it a length: tokens, or samples of what is tuned."""
    if job.num_epochs != 1.0:
        text = "job.num_epochs = {0:g}, but of how many samples is not given: add job.num_samples (--samples 50k)"
        return Message(text, job.num_epochs)
    if job.kind == "pretrain":
        return Message("no length given: add job.num_tokens, num_samples or num_steps (--tokens 100B)")
    return Message("no length given: add job.num_tokens, num_samples or num_steps (--samples 50k --epochs 3)")


def _three(value: float) -> str:
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _cost(plan: Plan) -> str:
    if plan.price is None:
        return "no quote for this GPU: add --price 2.10 (dollars per GPU-hour)"
    price = Message("${0:.2f} per GPU-hour ({1})", plan.price.usd_per_gpu_hour, plan.price.describe())
    if plan.cost_usd is None:
        return price
    return Message("{0} ({1}) undisturbed, at {2}", dollars(plan.cost_usd), _span(plan, "cost_usd", dollars), price)


def _budget(run: WholeRun, bill: Bill | None) -> str:
    """What to ask for, money first: with interruptions and as published runs went, as ``planner run`` says, too."""
    unit, name = (DAY_S, "days") if run.budget_s.expected >= 2 * DAY_S else (HOUR_S, "hours")
    low, middle, high = (_three(value / unit) for value in (run.budget_s.lower, run.budget_s.expected, run.budget_s.upper))
    time = Message("{0} {1} ({2} to {3})", middle, name, low, high)
    money = "" if bill is None else Message("{0}, ", span(bill.budget_usd, dollars))
    text = "{0}{1}: with interruptions, and as published runs went: experiments, restarts, slower software (planner run)"
    return Message(text, money, time)


def answer_notes(plan: Plan, today: datetime.date) -> tuple[str, ...]:
    """What belongs under the lines: how to read them, a quote that is old, what the plan itself says."""
    stale = plan.price.staleness(today) if plan.price is not None and plan.fits else ""
    run = ("failures and checkpoints are not in the run: planner run adds them",) if plan.fits and plan.run_s is not None else ()
    price = (Message("price: {0}", stale),) if stale else ()
    return ("in parentheses: 90 % prediction intervals", *run, *price, *plan.notes)


def _span(plan: Plan, name: str, show: Callable[[float], str]) -> str:
    found = plan.intervals[name]
    return Message("{0} to {1}", show(found.lower), show(found.upper))


def _batch(plan: Plan) -> str:
    return Message("{0:,} x {1:,} tokens a step", plan.job.global_batch_size, plan.job.seq_len)


def layout_words(layout: Layout) -> str:
    """The layout as people say it.

    >>> layout_words(Layout(tp=2, pp=4, vpp=2, dp=4, zero=1, micro_batch_size=2))
    'tensor 2 x pipeline 4 (2 chunks each) x data 4, ZeRO-1, micro-batch 2, nothing recomputed'
    """
    chunks = Message(" ({0} chunks each)", layout.vpp) if layout.vpp > 1 else ""
    degrees = [
        (layout.tp, Message("tensor {0}", layout.tp)),
        (layout.pp, Message("pipeline {0}{1}", layout.pp, chunks)),
        (layout.cp, Message("context {0}", layout.cp)),
        (layout.dp or 1, Message("data {0}", layout.dp)),
    ]
    words: list[str] = [join_messages(" x ", [text for number, text in degrees if number > 1]) or "one GPU"]
    words += [Message("experts over {0}", layout.ep)] if layout.ep > 1 else []
    words += [Message("each expert over {0}", layout.etp)] if layout.etp > 1 else []
    words += ["sequence parallel"] if layout.sequence_parallel else []
    alone = (layout.dp or 2) * layout.cp == 1  # nothing to shard over, as FSDP on one GPU
    words += [Message("ZeRO-{0}", layout.zero)] if layout.zero and not alone else []
    words += [Message("sharded over {0}", layout.shard_group_size)] if layout.shard_group_size else []
    words += [Message("micro-batch {0}", layout.micro_batch_size)]
    words += [{"none": "nothing recomputed", "selective": "recomputed in part", "full": "all recomputed"}[layout.recompute]]
    words += ["zero-bubble schedule"] if layout.schedule == "zero-bubble" else []
    offloaded = [name for name in ("optimizer", "parameters", "activations") if getattr(layout, f"offload_{name}")]
    words += [Message("{0} offloaded to the host", join_messages(" and ", offloaded))] if offloaded else []
    return join_messages(", ", words)


def notes_text(notes: Sequence[str], width: int = 80) -> str:
    """Notes, one paragraph each."""
    return "\n".join(line for note in notes for line in folded(spoken(note), width, "", "  "))
