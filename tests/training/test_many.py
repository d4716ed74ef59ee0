"""Many questions at once: each row is the answer of ``planner.plan``, bit for bit."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pandas as pd
import pytest

import planner
from planner.training import many
from planner.training.many import ENDS, FIGURES, SURE, TABLES, _together, bound

JOBS: tuple[dict[str, Any], ...] = (
    {"num_tokens": 10**9},
    {},
    {"num_steps": 100, "num_epochs": 2.0, "optimizer": "muon"},
    {"num_samples": 1000, "kind": "lora", "adapter": {"rank": 8}},
    {"kind": "qlora", "adapter": {"rank": 8}, "optimizer": "paged-adamw-8bit"},
)
LAYOUTS: tuple[dict[str, Any], ...] = (
    {"zero": 3, "recompute": "full"},
    {"tp": 2, "sequence_parallel": True, "zero": 1},
    {"tp": 4, "pp": 2, "sequence_parallel": True, "recompute": "full", "micro_batch_size": 2},
    {"pp": 2, "vpp": 2, "recompute": "selective"},
    {"tp": 3},
    {"zero": 3, "offload_optimizer": True, "offload_activations": True, "recompute": "full"},
)
CLUSTERS: tuple[Any, ...] = (
    *({"node": "dgx-h100", "num_nodes": n} for n in (2, 4)),
    {"node": "dgx-h100", "num_gpus": 4},
    "8xa100-80gb",
)
# latent attention and experts; experts; sliding windows; dense; an indexer; sinks and windows; a bidirectional one
MODELS = ("deepseek-v2-lite", "mixtral-8x7b", "gemma-2-2b", "llama-3-8b", "deepseek-v3.2", "gpt-oss-20b", "bert-large")
PRICES: tuple[Any, ...] = (None, 2.5, {"term": "reserved-1-year"})
FRAMEWORKS = (None, "megatron-core", "fsdp", "torchtitan")


def questions(number: int) -> list[dict[str, Any]]:
    """So many that differ in everything, neighbours of one model and framework."""
    found = []
    for i in range(number):
        model = MODELS[i * len(MODELS) // number]
        job = {"seq_len": (256, 512, 384)[i % 3], "global_batch_size": (32, 64)[i // 3 % 2], **JOBS[i % len(JOBS)]}
        tables = {"model": model, "cluster": CLUSTERS[i // 2 % 4], "job": job, "layout": LAYOUTS[i % len(LAYOUTS)]}
        if FRAMEWORKS[i // 5 % 4] is not None:
            tables["framework"] = FRAMEWORKS[i // 5 % 4]
        found.append({**tables, "price": PRICES[i % 3]})
    return found


def answer_or_error(tables: dict[str, Any]) -> planner.Plan | planner.PlannerError:
    try:
        return planner.plan(**tables, explain=False)
    except planner.PlannerError as error:
        return error


def test_each_row_is_the_answer_of_plan_bit_for_bit() -> None:
    asked = questions(140)
    table = planner.plan_many(asked)
    assert len(table) == len(asked)
    answered = 0
    for tables, row in zip(asked, table.to_dict(orient="records"), strict=True):
        one = answer_or_error(tables)
        if isinstance(one, planner.PlannerError):
            assert (row["error"], row["error_field"], row["fits"]) == (str(one), one.field, False)
            continue
        answered += 1
        expected = {name: getattr(one, name) for name in (*FIGURES, "fits", "certainty", "fit_probability")}
        for name, end in itertools.product(SURE, ENDS):
            expected[bound(name, end)] = getattr(one.intervals[name], end) if name in one.intervals else None
        expected |= {"layout": one.layout.label, "notes": "; ".join(one.notes), "reasons": "; ".join(one.reasons), "error": ""}
        expected["provenance"] = one.intervals["step_time_s"].provenance
        wrong = {
            name: (row[name], value)
            for name, value in expected.items()
            if row[name] != value and not (value is None and pd.isna(row[name]))
        }
        assert not wrong, tables
    assert answered > 40


def test_a_frame_has_a_column_a_field_and_keeps_its_index() -> None:
    asked = questions(12)
    frame = pd.DataFrame([flat(tables) for tables in asked], index=[f"case {i}" for i in range(len(asked))])
    assert frame.isna().any().any(), "fields that only some questions have are empty cells"
    table = planner.plan_many(frame)
    pd.testing.assert_frame_equal(table.reset_index(drop=True), planner.plan_many(asked), check_exact=True)
    assert list(table.index) == list(frame.index)


def flat(tables: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Fields by their paths."""
    found: dict[str, Any] = {}
    for name, value in tables.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def test_a_question_without_a_layout_is_searched() -> None:
    tables = {
        "model": "gpt2",
        "cluster": {"node": "dgx-a100-80gb", "num_nodes": 1},
        "job": {"seq_len": 512, "global_batch_size": 64},
    }
    row = planner.plan_many([tables]).to_dict(orient="records")[0]
    one = planner.plan(**tables)
    assert (row["layout"], row["step_time_s"]) == (one.layout.label, one.step_time_s)


def test_a_changed_field_of_a_catalog_model_is_a_column() -> None:
    frame = pd.DataFrame(
        {
            "model": "gpt2",
            "model.num_layers": [6, 12],
            "cluster": "a100-80gb",
            "layout.zero": 0,
            "job.seq_len": 256,
            "job.global_batch_size": 8,
        }
    )
    table = planner.plan_many(frame)
    assert table["parameters_total"].tolist() == [
        planner.plan(
            model={"base": "gpt2", "num_layers": n}, cluster="a100-80gb", layout={}, job={"seq_len": 256, "global_batch_size": 8}
        ).parameters_total
        for n in (6, 12)
    ]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([{"model": "gpt2", "job": {"seq_len": 1, "global_batch_size": 1}}], "cluster is missing"),
        ([{"model": "gtp2", "cluster": "h100", "job": {}, "layout": {}}], "did you mean gpt2"),
        ([{"modle": "gpt2"}], "did you mean model"),
        ([{"model": "gpt2", "cluster": "h100", "job": {"seq_len": 8, "global_batch_size": 1}, "layout": {"tp": True}}], "tp"),
    ],
)
def test_a_bad_question_is_a_row_that_says_why(asked: list[dict[str, Any]], message: str) -> None:
    table = planner.plan_many(asked)
    assert message in table["error"][0]
    assert not table["fits"][0]
    assert pd.isna(table["step_time_s"][0])


def test_columns_that_are_no_field_are_refused_at_once() -> None:
    with pytest.raises(planner.PlannerError, match=r"'jobs\.seq_len' is no field of a question; did you mean job"):
        planner.plan_many(pd.DataFrame({"model": ["gpt2"], "jobs.seq_len": [256]}))
    with pytest.raises(planner.PlannerError, match=r"questions\[0\] = 'gpt2': must be a mapping"):
        planner.plan_many(["gpt2"])  # type: ignore[list-item]
    assert set(TABLES) == {"model", "cluster", "framework", "job", "layout", "price"}


def caches() -> dict[str, Any]:
    """Every function of the planner that keeps its answers."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "planner"]
    members = ((f"{m.__name__}.{name}", value) for m in modules for name, value in list(vars(m).items()))
    return {name: value for name, value in members if callable(getattr(value, "cache_info", None))}


def test_variants_leave_nothing_behind_without_end() -> None:
    """Ten thousand variants cost what the first cost: what is kept without a bound does not grow, the rest stays in its bound."""

    def ask(start: int) -> None:
        variants = [
            {"base": "gpt2", "name": f"variant {i}", "num_layers": 2 + i % 5, "ffn_hidden_size": 1024 + 8 * i}
            for i in range(start, start + 12)
        ]
        asked = [
            {"model": m, "cluster": "8xa100-80gb", "job": {"seq_len": 128 + i, "global_batch_size": 8}, "layout": {}}
            for i, m in enumerate(variants)
        ]
        assert planner.plan_many(asked)["fits"].all()
        assert all(planner.plan(**tables).fits for tables in asked[:4])

    ask(0)
    before = {name: kept.cache_info().currsize for name, kept in caches().items()}
    ask(100)
    for name, kept in caches().items():
        info = kept.cache_info()
        grows = info.currsize > before.get(name, 0)
        assert not grows or (info.maxsize is not None and info.currsize <= info.maxsize), name


def test_an_answer_says_when_the_batch_holds_it_back() -> None:
    """The bubble over the rest is (p - 1) / m (Narayanan et al. 2021): 7/8 with as many micro-batches as stages."""
    asked: dict[str, Any] = {"model": "llama-3-8b", "cluster": {"node": "dgx-h100", "num_nodes": 1}, "framework": "megatron-core"}
    asked["layout"] = {"pp": 8}
    small, large = ({**asked, "job": {"seq_len": 4096, "global_batch_size": n}} for n in (8, 256))
    told, silent = planner.plan_many([small, large])["notes"]
    assert "a small batch" in told
    assert "a small batch" not in silent


def test_questions_that_can_be_worked_out_together_are_asked_of_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of one model each, one evaluation a group; what has no layout is a search, and the only one that is planned."""
    planned: list[dict[str, Any]] = []
    together: list[int] = []

    def plan(**tables: Any) -> planner.Plan:
        planned.append(tables)
        return planner.plan(**tables)

    def evaluated(group: Any, risk: float) -> Any:
        together.append(len(group))
        return _together(group, risk)

    monkeypatch.setattr(many, "plan", plan)
    monkeypatch.setattr(many, "_together", evaluated)
    asked: list[dict[str, Any]] = [
        {
            "model": name,
            "cluster": "8xa100-80gb",
            "framework": "fsdp",
            "job": {"seq_len": length, "global_batch_size": 8},
            "layout": {"zero": 3, "recompute": recompute},
        }
        for name in ("gpt2", "bert-large")
        for length in (128, 256)
        for recompute in ("none", "full")
    ]
    assert planner.plan_many(asked)["fits"].all()
    assert (planned, together) == ([], [4, 4])
    search = {name: table for name, table in asked[0].items() if name != "layout"}
    planner.plan_many([*asked[:2], search])
    assert ([tables["model"] for tables in planned], together[2:]) == (["gpt2"], [2])
    assert "layout" not in planned[0]


def test_offloaded_bytes_that_fill_the_host_to_the_last_one_fit() -> None:
    """One byte more of them does not."""
    asked: dict[str, Any] = {
        "model": "llama-3-8b", "framework": "deepspeed-zero", "job": {"seq_len": 512, "global_batch_size": 8},
        "layout": {"zero": 3, "micro_batch_size": 1, "offload_optimizer": True},
    }  # fmt: skip
    machine = planner.cluster("dgx-h100")
    moved = planner.plan(**asked, cluster=machine, explain=False).host_bytes_per_gpu
    for more, fits in ((0.0, True), (-1.0, False)):
        node = machine.node.replaced(host_memory_bytes=8.0 * (moved + more))
        (row,) = planner.plan_many([{**asked, "cluster": machine.replaced(node=node)}]).to_dict(orient="records")
        assert (row["fits"], row["fit_probability"] > 0.5) == (fits, fits)
