"""The columns of a table of runs that a setting is read from."""

from __future__ import annotations

import re
from collections.abc import Iterable

from planner.common.message import Message
from planner.evidence.measured_runs import ANSWERS, REQUIRED, Run
from planner.evidence.tuning_columns import COUNTED, NAMED, SAID

READ = frozenset(
    (
        *ANSWERS,
        *REQUIRED,
        *COUNTED,
        *SAID,
        *NAMED,
        "source",
        "family",
        "model",
        "framework",
        "attention",
        "biases",
        "gpus_per_node",
        "inter_node_gbit_per_s_per_node",
        "tp",
        "sequence_parallel",
        "pp",
        "vpp",
        "cp",
        "ep",
        "etp",
        "dp",
        "data_parallel",
        "micro_batch_size",
        "global_batch_size",
        "grad_accum",
        "grad_dtype",
        "fp8_recipe",
        "recompute",
        "attention_kernel",
        "offload",
        "overlap_grad_reduce",
        "optimizer",
        "compile",
        "torch",
        "release",
        "cuda_graphs",
        "multi_token_prediction",
        "capacity_factor",
        "routing",
        "dispatcher",
        "fused_rotary",
        "fused_permutation",
        "fused_cross_entropy",
        "fused_optimizer",
        "overlaps_experts",
        "recipe_told",
        "oom",
        "dropout",
        "max_positions",
        "memory_length",
        "method",
        "lora_rank",
        "lora_targets",
        "lora_dropout",
        "quant_bits",
        "quantization",
        "double_quantization",
        "modules",
    )
)
"""Columns that mean something here; others may group rows, and are named where they are not read."""


def in_own_words(run: Run, reason: str) -> str:
    """A reason that speaks of the precision as the table writes it: mxfp8 is trained as fp8, and called mxfp8.

    The reasons themselves name the fields of a scenario."""
    written = run.columns.get("precision", "")
    if written == run.job.precision:
        return reason
    named = Message("precision = {0!r} (taken as {1})", written, run.job.precision)
    found = re.search(r"job\.precision( = '[^']*')?", reason)
    return reason if found is None else reason.replace(found[0], named, 1)


def columns_not_read(runs: Iterable[Run]) -> list[str]:
    """Columns of a table that no setting is read from, in order of appearance."""
    first = next(iter(runs), None)
    return [name for name in first.columns if name not in READ] if first else []
