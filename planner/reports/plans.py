"""Answers for people: rich tables from plans, models, hardware and rows. Numbers are shown in GiB, hours, TFLOP/s."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from planner.common.message import Message, join_messages
from planner.common.units import GB, GIB, HOUR_S, TERA
from planner.hardware.cluster import Accelerator, Node
from planner.model.architecture import Model
from planner.model.parameters import embedding_parameters, head_parameters, layer_parameters, parameters_active, parameters_total
from planner.operators.row import Row
from planner.performance.memory import KINDS
from planner.performance.risk import chance
from planner.performance.step_time import PARTS
from planner.reports.line import Line
from planner.reports.quotes import price_cells, price_lines
from planner.reports.text import count, dollars, gib, seconds_like, seconds_of, span
from planner.scenarios.scenario import Outlook
from planner.training.plan import Plan
from planner.uncertainty.ratio import Ratio

if TYPE_CHECKING:
    from planner.evidence.measured_runs import Refusal
    from planner.evidence.predictions import GroupError, Verdict

STATE_KINDS = ("parameters", "gradients", "optimizer")
PART_NAMES = {
    "forward": "forward", "backward": "backward", "recompute": "recomputation", "tensor_parallel": "tensor parallel, exposed",
    "expert_parallel": "expert all-to-all, exposed", "context_parallel": "context ring, exposed",
    "pipeline": "pipeline sends, exposed", "data_parallel": "data parallel, exposed", "offload": "offload transfers, exposed",
    "bubble": "pipeline bubble", "optimizer": "optimizer",
}  # fmt: skip


def _fit_text(plan: Plan) -> Line:
    doubt = "" if plan.certainty in ("fits", "does not fit") else Message("probably ")
    if plan.fits:
        free = Message("{0}yes, {1} free, {2} sure", doubt, gib(plan.headroom_bytes), chance(plan.fit_probability))
        return Line(free, style="yellow" if doubt else "green")
    over = Message(", {0} over", gib(-plan.headroom_bytes)) if plan.headroom_bytes < 0 else ""
    return Line(Message("{0}no{1}", doubt, over), style="bold yellow" if doubt else "bold red")


def _between(plan: Plan, name: str, show: Callable[[float], str]) -> str:
    """The 90 % interval of a figure, "3.10 s to 3.90 s"; "-" where there is none."""
    found = plan.intervals.get(name)
    return "-" if found is None else Message("{0} to {1}", show(found.lower), show(found.upper))


def _seconds(plans: Sequence[Plan], name: str) -> Callable[[float | None], str]:
    """The one unit in which a row shows the intervals of a figure."""
    return seconds_of(plan.intervals.get(name) for plan in plans)


def _sure(plan: Plan) -> str:
    found = plan.intervals["step_time_s"]
    return Message("{0}: {1}", Message(found.provenance), found.why)


def _section(table: Table, title: str, columns: int) -> None:
    table.add_section()
    table.add_row(Line(title, style="bold"), *[""] * columns)


def plans_table(title: str, labels: Sequence[str], plans: Sequence[Plan], outlooks: Sequence[Outlook] = ()) -> RenderableType:
    """One column per plan: size, memory of the heaviest stage, step, throughput, the budget, and time and money undisturbed."""
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for label in labels:
        table.add_column(label, justify="right", overflow="fold")

    def row(name: str, values: Sequence[RenderableType]) -> None:
        table.add_row(name, *values)

    row("parameters, total", [count(p.parameters_total) for p in plans])
    row("parameters, active per token", [count(p.parameters_active) for p in plans])
    row("cluster", [p.cluster.name for p in plans])
    row("framework", [p.framework.name for p in plans])
    row("layout", [p.layout.label for p in plans])
    row("batch", [_batch(p) for p in plans])
    for more in (_memory_rows, _step_rows):
        more(table, row, plans)
    if any(o.run is not None for o in outlooks):
        _budget_rows(table, row, outlooks)
    _whole_run_rows(table, row, plans)
    return Group(table, *price_lines(labels, [p.price for p in plans]))


RowOf = Callable[[str, Sequence[RenderableType]], None]


def _memory_rows(table: Table, row: RowOf, plans: Sequence[Plan]) -> None:
    _section(table, "memory per GPU, heaviest stage", len(plans))
    row("  model states", [gib(sum(p.memory_bytes[k] for k in STATE_KINDS)) for p in plans])
    for kind in KINDS:
        if any(p.memory_bytes[kind] > 0 for p in plans):
            indent = "    " if kind in STATE_KINDS else "  "
            row(indent + _kind_name(kind), [gib(p.memory_bytes[kind]) for p in plans])
    row("  needed / usable", [f"{gib(p.peak_total_bytes)} / {gib(p.usable_bytes)}" for p in plans])
    row("  90 % interval", [_between(p, "peak_total_bytes", gib) for p in plans])
    if any(p.even_routing for p in plans):
        row("  needed if experts were even", [gib(e.peak_total_bytes) if (e := p.even_routing) else "-" for p in plans])
    if any(p.host_bytes_per_gpu for p in plans):
        row("  host memory per GPU", [gib(p.host_bytes_per_gpu) for p in plans])
    row("  fits", [_fit_text(p) for p in plans])
    if any(p.bolder for p in plans):
        row("  boldest that may fit", [_bolder(p) for p in plans])
    if not all(p.fits for p in plans):
        row("  why not", [join_messages("; ", p.reasons) or "-" for p in plans])
        row("  nearest layout that fits", ["-" if p.fits else p.nearest.label if p.nearest else "none" for p in plans])


def _bolder(plan: Plan) -> str:
    bold = plan.bolder
    if bold is None:
        return "-"
    return Message("{0}: {1:+.1%} steps per second, {2} sure to fit", bold.layout.label, bold.gain, chance(bold.fit_probability))


def _step_rows(table: Table, row: RowOf, plans: Sequence[Plan]) -> None:
    _section(table, "optimizer step", len(plans))
    for part in PARTS:
        if any(p.step_parts_s[part] > 0 for p in plans):
            show = seconds_like(p.step_parts_s[part] for p in plans)
            row("  " + PART_NAMES[part], [_part(p, part, show) for p in plans])
    show = seconds_like(p.step_time_s for p in plans)
    row("  step time", [Line(show(p.step_time_s), style="bold") for p in plans])
    row("  90 % interval", [_between(p, "step_time_s", _seconds(plans, "step_time_s")) for p in plans])
    if any(p.even_routing for p in plans):
        row("  if experts were even", [_even(p, show) for p in plans])
    row("  how sure", [_sure(p) for p in plans])
    row("  tokens/s (per GPU)", [f"{p.tokens_per_s:,.0f} ({p.tokens_per_s_per_gpu:,.0f})" for p in plans])
    row("  MFU, attention in full", [_utilization(p, p.mfu) for p in plans])
    if any(p.mfu_causal < p.mfu for p in plans):
        row("  MFU, attention as the causal mask leaves it", [_utilization(p, p.mfu_causal) for p in plans])


def _utilization(plan: Plan, mfu: float) -> str:
    """ "45.0% (445 TFLOP/s per GPU)" """
    flops_per_s = plan.model_flops_per_step / (plan.step_time_s * plan.num_gpus) * mfu / plan.mfu
    return Message("{0:.1%} ({1:.3g} TFLOP/s per GPU)", mfu, flops_per_s / TERA)


def _even(plan: Plan, show: Callable[[float], str]) -> str:
    """The step with forced routing, and the load that it has without."""
    even = plan.even_routing
    return "-" if even is None else Message("{0} (fullest rank {1:.2f} x mean)", show(even.step_time_s), even.expert_load)


def _whole_run_rows(table: Table, row: RowOf, plans: Sequence[Plan]) -> None:
    _section(table, "whole run, undisturbed", len(plans))
    row(
        "  hours per epoch",
        [f"{p.epoch_s / HOUR_S:,.2f}" if p.epoch_s is not None else "no length given" for p in plans],
    )
    show = seconds_like(p.run_s for p in plans)
    row("  run time", [show(p.run_s) for p in plans])
    row("  GPU-hours", [f"{p.gpu_hours:,.1f}" if p.gpu_hours is not None else "-" for p in plans])
    row("  price per GPU-hour", price_cells([p.price for p in plans], "no quote"))
    row("  cost", [dollars(p.cost_usd) if p.gpu_hours is not None else "-" for p in plans])
    if any(p.cost_usd is not None for p in plans):
        row("  90 % interval", [_between(p, "cost_usd", dollars) for p in plans])


def _budget_rows(table: Table, row: RowOf, outlooks: Sequence[Outlook]) -> None:
    """What ``planner run`` says of the same cases: with interruptions and the experts of [run], and as published runs went."""
    _section(table, "budget, as published runs went (90 %)", len(outlooks))
    runs, bills = [o.run for o in outlooks], [o.bill for o in outlooks]
    row("  dollars", [Line("-" if b is None else span(b.budget_usd, dollars), style="bold") for b in bills])
    if any(bills):
        row("    mean of many such runs", ["-" if b is None else dollars(b.budget_mean_usd) for b in bills])
    show = seconds_of(r.budget_s for r in runs if r is not None)
    row("  time", [Line("-" if r is None else span(r.budget_s, show), style="bold") for r in runs])
    _section(table, "with interruptions and the table [run] (90 %)", len(outlooks))
    if any(r is not None and r.expert_load > 1.0 for r in runs):
        row("  expert load, fullest over mean", ["-" if r is None else f"{r.expert_load:.2f}" for r in runs])
    show = seconds_of(r.wall_s for r in runs if r is not None)
    row("  run time", ["-" if r is None else span(r.wall_s, show) for r in runs])
    row("  cost", ["-" if b is None else span(b.total_usd, dollars) for b in bills])


def _kind_name(kind: str) -> str:
    return {
        "optimizer": "optimizer states",
        "buffers": "communication buffers",
        "fragmentation": "allocator fragmentation",
        "overhead": "overhead (CUDA, NCCL)",
    }.get(kind, kind)


def _batch(plan: Plan) -> str:
    return Message(
        "{0:,} x {1:,} tokens, {2:,} micro-batches", plan.job.global_batch_size, plan.job.seq_len, plan.num_microbatches
    )


def _part(plan: Plan, part: str, show: Callable[[float], str]) -> str:
    value = plan.step_parts_s[part]
    return f"{show(value)} ({value / plan.step_time_s:.0%})" if value > 0 else "-"


def plan_notes(labels: Sequence[str], plans: Sequence[Plan], *, explain: bool = True) -> RenderableType:
    """What stands behind the tables: notes, and the constants that nobody measured; their number without ``explain``."""
    lines = [
        Line(note if note.startswith(f"{label}: ") else Message("{0}: {1}", label, note))  # a model's notes have its name
        for label, plan in zip(labels, plans, strict=True)
        for note in plan.notes
    ]
    assumed = {(a.where, a.field): a for plan in plans for a in plan.assumptions}
    wheres: dict[str, list[str]] = {}
    for (where, field), assumption in sorted(assumed.items()):
        value = assumption.value
        wheres.setdefault(where, []).append(f"{field} = {value:.4g}" if isinstance(value, float) else f"{field} = {value}")
    if assumed and not explain:
        lines.append(Line(Message("{0} constants are assumed, not measured: --explain lists them", len(assumed)), style="dim"))
    elif assumed:
        lines.append(Line(Message("{0} constants are assumed, not measured:", len(assumed)), style="dim"))
        lines += [Line(f"  {where}: {', '.join(fields)}", style="dim") for where, fields in wheres.items()]
    return Group(*lines)


RATIOS = {
    "run_s": "time {0}",
    "days": "time {0}",
    "step_time_s": "time of a step {0}",
    "cost_usd": "dollars {0}",
    "peak_total_bytes": "memory {0}",
}
"""Figures whose ratio is told, the whole run's time before that of a step."""


def differences(labels: Sequence[str], found: Sequence[Mapping[str, Ratio]]) -> RenderableType:
    """Each case over the first: ratios with their 90 % intervals, and which order is not decidable."""
    return Group(*(Line(over_text(label, labels[0], ratios)) for label, ratios in zip(labels[1:], found, strict=True)))


def over_text(label: str, first: str, found: Mapping[str, Ratio]) -> str:
    """One sentence: a case over the first, figure by figure."""
    told = [name for name in RATIOS if name in found and not (name == "step_time_s" and "run_s" in found)]
    figures = join_messages("; ", (Message(RATIOS[name], ratio_text(found[name])) for name in told))
    return Message("{0} over {1}: {2}", label, first, figures)


def ratio_text(found: Ratio) -> str:
    """ "1.35 (1.20 to 1.50)", and that the order is not decidable where it is not."""
    if found.lower == found.upper:
        return f"{found.expected:.2f}"
    less = found.probability_first_smaller
    undecided = "" if found.decidable else Message(", order not decidable: less with {0:.0%}", less)
    return Message("{0:.2f} ({1:.2f} to {2:.2f}{3})", found.expected, found.lower, found.upper, undecided)


def model_table(model: Model) -> RenderableType:
    """A model's architecture and where its parameters lie."""
    table = Table(title=f"{model.name} ({model.family})", title_justify="left", show_header=False, pad_edge=False)
    table.add_row("parameters, total", count(parameters_total(model)))
    table.add_row("parameters, active per token", count(parameters_active(model)))
    for name, value in model.model_dump(exclude={"provenance", "name"}, exclude_defaults=True).items():
        table.add_row(name, str(value))
    for name in model.assumed():
        table.add_row(Message("assumed: {0}", name), model.provenance[name].source)
    table.add_section()
    for name, elements in parameters_by_block(model).items():
        table.add_row(Message("parameters in {0}", name), count(elements))
    return table


def parameters_by_block(model: Model) -> dict[str, float]:
    """Elements by block over the whole model."""
    blocks: dict[str, float] = {}
    layers = [t for kind in model.layer_kinds for t in layer_parameters(model, kind)]
    for tensor in (*embedding_parameters(model), *layers, *head_parameters(model)):
        block = tensor.name.split(".")[0]
        blocks[block] = blocks.get(block, 0.0) + tensor.elements
    return blocks


def accelerator_table(accelerator: Accelerator) -> RenderableType:
    """A profile with the kind and source of each value."""
    table = Table(title=f"{accelerator.vendor} {accelerator.name}", title_justify="left", pad_edge=False)
    for column in ("field", "value", "kind", "source"):
        table.add_column(column, overflow="fold")
    for dtype, peak in accelerator.peak_flops_per_s.items():
        table.add_row(
            Message("dense peak {0}", dtype), f"{peak / TERA:,.1f} TFLOP/s", *_source(accelerator, f"peak_flops_per_s.{dtype}")
        )
    names = {
        "memory_bytes": GIB,
        "usable_memory_bytes": GIB,
        "memory_bandwidth_bytes_per_s": GB,
        "host_link_bytes_per_s": GB,
        "num_sms": 1.0,
        "tdp_w": 1.0,
    }
    for field, unit in names.items():
        value = getattr(accelerator, field)
        if value:
            suffix = {GIB: "GiB", GB: "GB/s"}.get(unit, "W" if field == "tdp_w" else "")
            table.add_row(field, f"{value / unit:,.5g} {suffix}", *_source(accelerator, field))
    own = accelerator.kernel_curves is not None
    where = "this profile" if own else f"hardware_profiles/measured/{accelerator.curves}.toml"
    table.add_row("curves", accelerator.curves, "", where)
    if accelerator.notes:
        table.add_row("notes", accelerator.notes, "", "")
    return table


def node_table(node: Node) -> RenderableType:
    """A node type: its GPUs and links."""
    table = Table(title=f"{node.provider} {node.name}: {node.num_gpus} x {node.accelerator}", title_justify="left")
    for column in ("link", "kind", "joins", "GB/s per GPU and direction", "latency"):
        table.add_column(column, overflow="fold")
    for link in node.links:
        joins = Message("{0} GPUs", link.span) if link.span else "nodes"
        table.add_row(link.name, link.kind, joins, f"{link.bytes_per_s / GB:,.4g}", f"{link.latency_s * 1e6:.1f} us")
    each = node.nodes_per_domain
    text = "--on {0}: {1} nodes of {2}, {3} GPUs; --on '1 node of {0}', and num_nodes = 1 of a file: {2} GPUs"
    named = [Line(Message(text, name, each, node.num_gpus, each * node.num_gpus)) for name in node.domain_names]
    return Group(table, *named) if named else table


def _source(spec: Accelerator, field: str) -> tuple[str, str]:
    source = spec.provenance.get(field)
    return (source.kind, source.source) if source else ("", "")


def operators_table(title: str, rows: Sequence[Row], kept: Collection[int] = ()) -> RenderableType:
    """The table of operators of one layout: what each row costs one GPU for one micro-batch, one layer.

    ``kept`` are the rows whose time was measured at exactly their shape.
    """
    table = Table(title=title, title_justify="left", pad_edge=False)
    for name in ("block", "operator", "phase"):
        table.add_column(name, no_wrap=True)
    for name in ("layers", "GFLOP", "moved MB", "saved MB", "workspace MB", "parameters", "kernels", "message MB"):
        table.add_column(name, justify="right")
    table.add_column("collective", no_wrap=True)
    for i, row in enumerate(rows):
        values = row_values(row)
        if not any(
            values[k] for k in ("flops", "bytes_moved", "saved_bytes", "workspace_bytes", "parameters", "communication_bytes")
        ):
            continue
        collective = (
            Message("{0} over {1}", row.collective, row.group) if row.collective and values["communication_bytes"] else ""
        )
        table.add_row(
            row.block,
            Message("{0} (measured)", row.name) if i in kept else row.name,
            row.phase,
            f"{row.repeats:.0f}",
            _cell(values["flops"], GB),
            _cell(values["bytes_moved"], 1e6),
            _cell(values["saved_bytes"], 1e6),
            _cell(values["workspace_bytes"], 1e6),
            _cell(values["parameters"], 1.0, 0),
            _cell(values["kernels"], 1.0, 0),
            _cell(values["communication_bytes"], 1e6),
            collective,
        )
    return table


def row_values(row: Row) -> dict[str, float]:
    """The numbers of a row for the first layout."""
    names = (
        "flops",
        "model_flops",
        "bytes_moved",
        "saved_bytes",
        "workspace_bytes",
        "parameters",
        "communication_bytes",
        "kernels",
        "host_s",
        "repeats",
    )
    return {name: float(np.ravel(np.asarray(getattr(row, name)))[0]) for name in names}


def row_dict(row: Row) -> dict[str, Any]:
    """A row for JSON."""
    texts = {n: getattr(row, n) for n in ("name", "block", "phase", "shard_group", "collective", "group")}
    return {**texts, **row_values(row)}


def _cell(value: float, unit: float, digits: int = 2) -> str:
    return "" if value == 0 else f"{value / unit:,.{digits}f}"


def validation_table(
    title: str, groups: Sequence[GroupError], verdicts: Sequence[Verdict], refusals: Sequence[Refusal]
) -> RenderableType:
    """Errors by group and metric, how many were rightly said to fit, and the rows that were refused."""
    table = Table("group", "metric", title=title, title_justify="left", pad_edge=False)
    for name in ("rows", "median error", "mean error", "90th percentile", "bias", "in 90 % interval"):
        table.add_column(name, justify="right")
    for g in groups:
        numbers = (f"{g.median:.1%}", f"{g.mean:.1%}", f"{g.percentile_90:.1%}", f"{g.bias:+.1%}")
        table.add_row(g.group, g.metric, str(g.rows), *numbers, f"{g.inside} ({g.inside / g.rows:.0%})")
    lines = [Line(line) for line in _verdict_lines(verdicts)]
    lines += [Line(Message("refused: {0}: {1}", r.id, r.reason), style="dim") for r in refusals]
    return Group(table, *lines)


def _verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    lines: list[str] = []
    for ran, said in (
        (True, "{0} runs ran; predicted to fit: {1} ({2:.1%})"),
        (False, "{0} runs ran out of memory; predicted not to fit: {1} ({2:.1%})"),
    ):
        rows = [v for v in verdicts if v.ran == ran]
        if rows:
            right = sum(v.predicted_to_fit == ran for v in rows)
            lines.append(Message(said, len(rows), right, right / len(rows)))
    return lines
