"""Why a narrower precision saves little or nothing: what its products save of a step, and what quantizing takes back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.common.message import Message
from planner.hardware.curves import curves_of
from planner.operators.row import Matmul
from planner.performance.evaluation import operator_table, step_time_columns
from planner.workload.layout import Layout, Layouts, as_columns
from planner.workload.question import Question

WIDER = {"fp8": "bf16", "nvfp4": "fp8"}
"""What a precision is weighed against: the next that keeps more of each number."""
SMALL_GAIN = 0.1
"""Part of a step that a narrower precision saves, below which an answer says why. Assumed: about a predicted step's error."""


def precision_notes(question: Question, layout: Layout) -> tuple[str, ...]:
    """Where a narrower precision saves less than ``SMALL_GAIN`` of a step on the same layout: seconds that its products save,
    seconds that quantizing takes, and how small the products of experts are. ``question`` is on its stack, ``layout``
    possible.

    Quantizing is what the step takes beyond one whose passes over activations are free; the products save what is between that
    and the wider precision, so that saved - taken = wider - narrow.
    """
    job = question.job
    wider = WIDER.get(job.precision)
    if wider is None:
        return ()
    columns = as_columns(layout, question.cluster.num_gpus)
    curves = curves_of(question.cluster.accelerator)
    free = curves.model_copy(update={"fp8_cast_passes": 0.0, "fp8_latency_s": 0.0})
    as_wide = replace(question, job=job.replaced(precision=wider, fp8_recipe=None))
    wide, narrow, unquantized = (
        float(step_time_columns(asked, columns, constants, 1)[0])
        for asked, constants in ((as_wide, curves), (question, curves), (question, free))
    )
    if narrow <= (1.0 - SMALL_GAIN) * wide:
        return ()
    told = Message(
        "{0} takes {1:.3g} s a step where {2} takes {3:.3g} on this layout: its products save {4:.2g} s, quantizing takes "
        "{5:.2g} s",
        job.precision,
        narrow,
        wider,
        wide,
        wide - unquantized,
        narrow - unquantized,
    )
    product = _expert_product(question, columns)
    if product is not None:
        told += Message(
            "; an expert multiplies {0:,.0f} x {1:,.0f} by {1:,.0f} x {2:,.0f}, and small products save least", *product
        )
    return (told,)


def _expert_product(question: Question, columns: Layouts) -> tuple[float, float, float] | None:
    """(tokens, inputs, outputs) of one expert's first product, tokens as a mean over experts; None without experts."""
    for row in operator_table(question, columns).rows():
        if isinstance(row.work, Matmul) and row.work.grouped:
            m, k, n = (float(np.ravel(np.asarray(size))[0]) for size in (row.work.m, row.work.k, row.work.n))
            return m, k, n
    return None
