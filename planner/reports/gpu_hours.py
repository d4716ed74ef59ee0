"""GPU-hours of published runs as Markdown: the page ``docs/gpu-hours.md`` and its table in ``docs/accuracy.md``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from planner.evidence.published_runs import Comparison, factor_of
from planner.lifecycle.field_factor import FieldFactor

HOW = """*Modelled* is undisturbed steps with failures, checkpoints and restarts: what the planner computes from the public
configuration. Published hours also hold what nobody publishes: slower software than what is modelled, layouts that were
not the best, evaluation, experiments, repeated stages. The *field factor* is published over modelled hours. Each run's is
fitted on the runs of other organisations only. Hours that authors count and a step time times steps share it: three
organisations' step times cannot tell the two apart.
A run weighs by how sure the planner is of it (random effects, DerSimonian and Laird 1986), and the runs of one organisation,
which err alike, together count as one. Its 90 % interval is the planner's own, wider where it extrapolates or where the GPUs or
the layout are not published, with what the others' spread adds.
"""
FACTOR = """`[run] field = "published"` applies the factor of all runs; without it a run is what the machine can do.
"""
LEFT_OUT = """Left out: GLM-130B (60 days of access, not of training), OPT-175B (no one number of tokens), Falcon-180B (hours from
a third party's page; with tp 8, pp 8 and no recomputation we model 1.3 times them), models trained by distillation or on
several kinds of GPUs.
"""
HEADER = "| run | published | modelled | error | with the others' factor (90 %) | error | inside | what was chosen for it |\n"


def row(c: Comparison) -> str:
    """One line of the table."""
    own = c.modelled / c.run.gpu_hours - 1.0
    inside = "yes" if c.inside else "**no**"
    kind = " (steps)" if c.run.measured == "steps" else ""
    return (
        f"| {c.run.name}{kind} | {c.run.gpu_hours:,.0f} | {c.modelled:,.0f} | {own:+.0%} | {c.expected:,.0f} ({c.lower:,.0f} to "
        f"{c.upper:,.0f}) | {c.error:+.0%} | {inside} | {c.run.chosen} |\n"
    )


def table(found: Sequence[Comparison]) -> str:
    """The table of all runs."""
    return HEADER + "|---|---|---|---|---|---|---|---|\n" + "".join(row(c) for c in found)


def summary(found: Sequence[Comparison]) -> str:
    """Median errors and coverage in a sentence."""
    own = statistics.median(abs(c.modelled / c.run.gpu_hours - 1.0) for c in found)
    left_out = statistics.median(abs(c.error) for c in found)
    inside = sum(c.inside for c in found)
    return (
        f"Median absolute error: {own:.1%} modelled, {left_out:.1%} with the others' factor; {inside} of {len(found)} published "
        f"figures lie inside their 90 % interval ({inside / len(found):.0%}).\n"
    )


def factor(found: Sequence[Comparison]) -> FieldFactor:
    """The factor from all runs."""
    return factor_of([c.run for c in found], [c.own for c in found])


def factor_sentence(found: Sequence[Comparison]) -> str:
    """The factor in words."""
    f, organisations = factor(found), len({c.run.organisation for c in found})
    return (
        f"Field factor: {f.factor:.2f}, from {f.num_runs} runs of {organisations} organisations; logarithmic spread between "
        f"organisations beyond the runs' own intervals {f.log_spread:.2f}, error of the mean {f.log_error:.2f}.\n\n"
        f"{by_size(found)}"
    )


def by_size(found: Sequence[Comparison]) -> str:
    """The median error of small and of large runs, each half of them: a factor that size should move would show here."""
    ranked = sorted(found, key=lambda c: c.run.gpu_hours)
    half = len(ranked) // 2
    small, large = (statistics.median(c.error for c in part) for part in (ranked[:half], ranked[half:]))
    return (
        f"Median error with the others' factor, by size: {small:+.1%} of the smaller half (up to "
        f"{ranked[half - 1].run.gpu_hours:,.0f} GPU-hours), {large:+.1%} of the larger.\n"
    )


def section(found: Sequence[Comparison]) -> str:
    """What ``docs/accuracy.md`` says of published runs, under its heading."""
    return f"{HOW}\n{table(found)}\n{summary(found)}\n{factor_sentence(found)}\nSources: docs/gpu-hours.md.\n"


def page(found: Sequence[Comparison]) -> str:
    """``docs/gpu-hours.md``."""
    sources = "".join(f"- {c.run.name}: {c.run.source}\n" for c in found)
    return (
        "# GPU-hours of published runs\n\nMade by `python benchmarks/published_gpu_hours.py --write`. "
        f"{HOW}{FACTOR}\n{table(found)}\n{summary(found)}\n{factor_sentence(found)}\n{LEFT_OUT}\nSources:\n\n{sources}"
    )
