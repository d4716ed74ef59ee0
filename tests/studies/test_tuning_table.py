"""The table of tuning's memory: the same rule of what fits as every other answer."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from command_line import Run

from planner.common.errors import PlannerError
from planner.studies.tuning_methods import METHODS, MemoryCell, _slower, memory_cells, tuning_choices
from planner.training.plan import Plan
from planner.training.planning import plan
from planner.workload.layout_text import layout_fields

TABLES: dict[str, Any] = {
    "model": "llama-2-7b",
    "cluster": {"accelerator": "rtx-4090-24gb", "num_gpus": 1},
    "job": {"seq_len": 1024, "global_batch_size": 1, "kind": "finetune"},
}
SIZES: dict[str, Any] = {"methods": ("lora",), "contexts": (512, 1024, 2048, 4096), "batches": (1, 2, 3, 4, 5, 6, 8)}


def test_who_accepts_more_risk_is_told_of_more_that_fits() -> None:
    careful, usual, bold = (sum(c.fits for c in memory_cells(TABLES, **SIZES, risk=risk)) for risk in (0.005, 0.05, 0.5))
    assert 0 < careful <= usual <= bold
    assert careful < bold


def test_layouts_by_name_are_taken_where_they_are_allowed() -> None:
    """Offloading serves who names it: no cell needs more memory for it."""
    usual = memory_cells(TABLES, **SIZES)
    allowed = memory_cells(TABLES, **SIZES, allow=["offload"])
    assert all(a.fits or not b.fits for a, b in zip(allowed, usual, strict=True))


@pytest.mark.parametrize("fields", [{"risk": 2.0}, {"allow": ["nothing"]}])
def test_what_is_no_risk_and_no_name_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(PlannerError, match=next(iter(fields))):
        memory_cells(TABLES, **SIZES, **fields)


def test_the_command_hands_them_on(run: Run) -> None:
    asked = ("tune", "llama-2-7b", "--on", "rtx-4090", "--table", "--methods", "lora", "--contexts", "4096", "--batches", "4")
    assert run(*asked, "--risk", "2")[0] == 2
    assert run(*asked, "--allow", "nothing")[0] == 2


def test_a_longer_context_and_a_larger_batch_never_take_less_on_the_same_layout() -> None:
    """Where a figure falls along a row or a column, another layout is taken, and the table's letters say so."""
    tables = {**TABLES, "cluster": {"accelerator": "rtx-4090-24gb", "num_gpus": 2}}
    cells = memory_cells(tables, contexts=(1024, 2048, 4096, 8192), batches=(1, 2, 4), allow=["offload"])
    lines = [[c for c in cells if c.method == m and getattr(c, of) == x] for m in METHODS for of, x in ALONG]
    falls = [(a, b) for line in lines for a, b in pairwise(line) if b.total_bytes < a.total_bytes]
    assert len(falls) > 0
    for a, b in falls:
        plain = [re.sub(r"mbs\d+ ", "", cell.layout) for cell in (a, b)]
        assert plain[0] != plain[1] or a.framework != b.framework, (a, b)


ALONG = (*(("seq_len", n) for n in (1024, 2048, 4096, 8192)), *(("batch", n) for n in (1, 2, 4)))


def test_the_letters_of_a_cell_are_those_of_its_layout(run: Run) -> None:
    asked = (
        "tune",
        "llama-3.1-8b",
        "--on",
        "2xrtx-4090",
        "--table",
        "--methods",
        "full,qlora",
        "--contexts",
        "2048",
        "--batches",
        "1",
    )
    code, said = run(*asked)[:2]
    assert code == 0
    assert re.search(r"full .* \d+\.\d ro", said)
    assert "r: each layer" in said
    assert "o: optimizer" in said
    assert re.search(r"qlora.* \d+\.\d *\N{BOX DRAWINGS LIGHT VERTICAL}", said)


def of_one_batch(tables: dict[str, Any], methods: tuple[str, ...] = METHODS) -> list[tuple[Plan, MemoryCell]]:
    """Each method's plan, and its cell at the context and micro-batch of that plan."""
    plans = [found.plan for found in tuning_choices(tables, methods=methods)]
    seq_len, gpus = tables["job"]["seq_len"], plans[0].num_gpus
    batch = tables["job"]["global_batch_size"] // gpus
    cells = memory_cells(tables, methods=methods, contexts=(seq_len,), batches=(batch,))
    return list(zip(plans, cells, strict=True))


@pytest.mark.parametrize("model", ["gpt2", "llama-3.1-8b"])
@pytest.mark.parametrize("gpus", [1, 8])
def test_the_table_takes_the_stack_that_tune_takes(model: str, gpus: int) -> None:
    """One rule: the method's framework, and the memory of the layout. On one GPU one sequence leaves a single micro-batch, and
    the layout is that of ``tune``; on several a cut model has further ones (tp 4: four sequences on each of two groups)."""
    cluster = {"accelerator": "h100-sxm5-80gb", "num_gpus": gpus}
    for one, cell in of_one_batch({"model": model, "cluster": cluster, "job": {"seq_len": 1024, "global_batch_size": gpus}}):
        assert cell.framework == one.framework.name
        assert one.notes[0] == cell.taken
        same = one.layout.micro_batch_size == cell.batch
        assert same or gpus > 1
        assert cell.layout == one.layout.label or not same
        layout = layout_fields(cell.layout)
        asked: dict[str, Any] = {"model": model, "cluster": cluster, "framework": one.framework, "job": one.job}
        assert plan(**asked, layout=layout, explain=False).peak_total_bytes == pytest.approx(cell.total_bytes)


@pytest.mark.parametrize(("model", "slower"), [("bert-base", True), ("llama-3.1-8b", False)])
def test_adapters_of_a_narrow_model_are_said_to_be_slower(model: str, slower: bool) -> None:
    """By hand, on an H100: an adapter under autocast moves 36 k + 20 n bytes a token beside a layer of k x n, at 2.5 TB/s, and
    spares its weight gradient, 2 k n flops at 6e14 a second. bert-base, k = n = 768: 17 ns against 2; llama's 4,096 x 14,336:
    174 against 196, and an optimizer step."""
    cluster = {"accelerator": "h100-sxm5-80gb", "num_gpus": 1}
    tables = {"model": model, "cluster": cluster, "job": {"seq_len": 512, "global_batch_size": 16}}
    full, lora = (found.plan for found in tuning_choices(tables, methods=("full", "lora")))
    assert any("slower than full tuning" in note for note in lora.notes) == slower
    assert (lora.step_time_s > full.step_time_s) == slower


@pytest.mark.parametrize("kind", ["lora", "qlora"])
@pytest.mark.parametrize(("recompute", "theirs"), [("none", True), ("full", False)])
def test_what_makes_adapters_slower_is_said_where_it_is_theirs(kind: str, recompute: str, theirs: bool) -> None:
    """bert-base's are slower on the layout of full tuning (see above); with all recomputed any of them would be."""
    cluster = {"accelerator": "h100-sxm5-80gb", "num_gpus": 1}
    job = {"seq_len": 512, "global_batch_size": 16}
    asked: dict[str, Any] = {"model": "bert-base", "cluster": cluster, "framework": "huggingface"}
    full = plan(**asked, job={**job, "kind": "finetune"}, layout={"micro_batch_size": 16})
    adapted = plan(
        **asked, job={**job, "kind": kind, "adapter": {"rank": 16}}, layout={"micro_batch_size": 16, "recompute": recompute}
    )
    (said,) = (note for note in _slower(adapted, full).notes if "slower than full tuning" in note)
    assert ("A and B" in said, "another framework or layout" in said) == (theirs, not theirs)
    assert ("unpacks" in said) == (theirs and kind == "qlora")
