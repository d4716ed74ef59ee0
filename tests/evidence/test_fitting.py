"""Fits on made-up truths, leaving groups out, intervals, and the files that a fit writes."""

from __future__ import annotations

import contextlib
import json
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import DATA

from planner.cli.main import main
from planner.common.data import PROFILES
from planner.common.files import write_text
from planner.evidence.fit import (
    LARGEST_GROUP,
    SAME_REASON,
    Constant,
    Fit,
    Matrix,
    Values,
    fit,
    folds,
    left_out,
    load_constants,
    row_weights,
    thinned,
)
from planner.evidence.held_out import scales, source_of
from planner.evidence.measured_runs import Run, read_run, read_runs
from planner.evidence.predictions import settled, step_time, step_times
from planner.evidence.serving.residuals import classify, residuals_text
from planner.evidence.study import Fate, utilization_baseline, without_source
from planner.evidence.write_fit import with_constant
from planner.performance.risk import fit_rule
from planner.reports.accuracy import _fits, _reliability
from planner.reports.uncertainty import of_its_source
from planner.training.planning import plan
from planner.uncertainty.classify import effective_runs
from planner.uncertainty.effects import effects_of
from planner.uncertainty.interval import (
    ENOUGH,
    FEWEST_EFFECTIVE,
    NORMAL_95,
    Member,
    ResidualClass,
    Subject,
    bounds,
    interval,
    load_residuals,
)
from planner.workload.framework import framework_names, lineage, load_framework
from planner.workload.framework_names import CATALOG

PAPER = DATA / "korthikanti2022.csv"
FREE = {"spread": 10.0, "lower": 0.01, "upper": 100.0}


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["planner", *arguments])
    with contextlib.suppress(SystemExit):  # typer leaves with code 0; what failed shows in what was printed
        main()


def constant(field: str, **changes: object) -> Constant:
    return Constant.build({"curves": "a100", "field": field, "prior": 1.0, **FREE, **changes}, "test")


def made_up(seconds: Sequence[float], sources: Sequence[str]) -> list[Run]:
    (first, *_), _ = read_runs(PAPER)
    return [
        replace(first, id=f"r{i}", step_time_s=s, columns={**first.columns, "source": name})
        for i, (s, name) in enumerate(zip(seconds, sources, strict=True))
    ]


def power_law(slopes: np.ndarray) -> object:
    """Seconds = product of constants to the power of each run's slopes: exactly linear in logarithms."""

    def predict(positions: Sequence[int], sets: Sequence[Values]) -> Matrix:
        return np.exp(slopes[list(positions)] @ np.log(np.array([values.values for values in sets])).T)

    return predict


def test_a_fit_finds_the_constants_that_made_the_times() -> None:
    rng = np.random.default_rng(1)
    slopes, truth = rng.uniform(0.2, 1.0, (40, 2)), np.array([0.6, 1.7])
    runs = made_up(np.exp(slopes @ np.log(truth)).tolist(), ["s"] * 40)
    found = fit(runs, power_law(slopes), (constant("sustained_fraction"), constant("memory_fraction")), 12)  # type: ignore[arg-type]
    assert found.values.values == pytest.approx(truth, rel=1e-3)
    assert np.abs(found.residuals).max() < 1e-3


def test_without_runs_that_tell_the_prior_stays() -> None:
    slopes = np.zeros((5, 1))
    found = fit(made_up([1.0] * 5, ["s"] * 5), power_law(slopes), (constant("sustained_fraction", prior=0.8),))  # type: ignore[arg-type]
    assert found.values.values == pytest.approx((0.8,))


def test_a_stack_without_runs_follows_those_whose_prior_rests_on_the_same_reason() -> None:
    """The mean of one normal coordinate given the other is r s_i / s_j of it (Eaton 1983, proposition 3.13)."""
    derivatives = np.array([[1.0, 0.0]] * 30)  # no run tells of the second constant
    for reason, share in (("hooks", SAME_REASON), ("launches", 0.0)):
        pair = (
            constant("sustained_fraction", reason="hooks", spread=0.5),
            constant("sustained_fraction", curves="h100", reason=reason, spread=0.25),
        )
        start = Fit(pair, np.zeros(2), np.full(30, -np.log(2.0)), derivatives, np.ones(30))
        seen, other = np.log(left_out(start, np.ones(30, dtype=bool), steps=30).values)
        assert seen == pytest.approx(np.log(2.0), rel=0.05)
        assert other == pytest.approx(share * 0.25 / 0.5 * seen, abs=1e-6)


def test_a_few_wild_runs_do_not_pull_a_fit_far() -> None:
    slopes = np.ones((41, 1))
    times = [2.0] * 40 + [20.0]
    found = fit(made_up(times, ["s"] * 41), power_law(slopes), (constant("sustained_fraction"),))  # type: ignore[arg-type]
    assert found.values.values[0] == pytest.approx(2.0, rel=0.03)


def test_leaving_a_group_out_gives_the_fit_without_it() -> None:
    rng = np.random.default_rng(2)
    slopes = rng.uniform(0.2, 1.0, (30, 2))
    noise = rng.normal(0.0, 0.05, 30)
    times = np.exp(slopes @ np.log([0.6, 1.7]) + noise)
    names = ["a"] * 20 + ["b"] * 10
    runs = made_up(times.tolist(), names)
    constants = (constant("sustained_fraction"), constant("memory_fraction"))
    whole = fit(runs, power_law(slopes), constants, 20)  # type: ignore[arg-type]
    keep = np.array([name == "a" for name in names])
    alone = fit(runs[:20], power_law(slopes[:20]), constants, 20)  # type: ignore[arg-type]
    assert left_out(whole, keep, steps=50).values == pytest.approx(alone.values.values, rel=1e-3)


def test_a_source_counts_as_the_root_of_its_rows() -> None:
    runs = made_up([1.0] * 17, ["big"] * 16 + ["small"])
    squared = row_weights(runs) ** 2
    assert squared[:16].sum() == pytest.approx(4.0)
    assert squared[16] == pytest.approx(1.0)
    assert len(thinned(made_up([1.0] * 500, ["big"] * 500))) == LARGEST_GROUP
    assert {k: list(v) for k, v in folds(runs, ("source",)).items()} == {("big",): list(range(16)), ("small",): [16]}


def test_every_constant_of_the_fit_exists_and_no_two_are_the_same() -> None:
    constants = load_constants()
    assert len({c.name for c in constants}) == len(constants)
    for c in constants:
        assert bool(c.curves) != bool(c.framework)
        assert c.lower <= c.prior <= c.upper
        path = PROFILES / "measured" / f"{c.curves}.toml" if c.curves else CATALOG / f"{c.framework}.toml"
        entry = tomllib.loads(path.read_text())[c.field]
        assert entry["kind"] == "fitted"
        assert entry["date"]
        assert "planner fit" in entry["source"]
        assert c.lower <= entry["value"] <= c.upper


def test_a_nearer_framework_goes_before_the_one_it_is_based_on() -> None:
    assert lineage("languini") == ("languini", "pytorch", "huggingface")
    assert all(lineage(name)[0] == name for name in framework_names())
    stated = load_framework("tensorflow-xla")
    values = Values(
        (Constant.build({"framework": "huggingface", "field": "host_s_per_kernel", "prior": 1e-5, **FREE}, "t"),), (1.0,)
    )
    (run, *_), _ = read_runs(PAPER)
    assert values.framework(replace(run, framework=stated)).host_s_per_kernel == stated.host_s_per_kernel
    based = load_framework("pytorch")
    assert values.framework(replace(run, framework=based)).host_s_per_kernel == 1.0


# --- intervals --------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(ENOUGH, 200))
def test_bounds_hold_nine_of_ten_on_average(seed: int, count: int) -> None:
    """Of the next values of the same kind, over many repetitions; a heavy-tailed kind."""
    rng = np.random.default_rng(seed)
    inside = []
    for _ in range(200):
        sample = rng.standard_t(4, count)
        low, high = bounds(sample.tolist())
        inside.append(low <= rng.standard_t(4) <= high)
    assert np.mean(inside) > 0.80


@pytest.mark.parametrize("count", [10, 13, 18, 40])
@pytest.mark.parametrize("ways", [1, 3])
def test_a_class_of_exchangeable_runs_holds_nine_of_ten(count: int, ways: int) -> None:
    """However many residuals a run has (left out with its model, with its GPU count), it is one run."""
    rng, inside = np.random.default_rng(count), []
    for _ in range(800):
        runs = [(subject(), float(r)) for r in rng.standard_normal(count)]
        table = classify("step_time", runs * ways, apart(runs) * ways, [0.0] * 9)[0]
        assert table["rows"] == count
        inside.append(table["lower"] <= rng.standard_normal() <= table["upper"])
    assert np.mean(inside) > 0.90 - 2 * np.sqrt(0.9 * 0.1 / len(inside))


def test_runs_that_err_alike_count_as_fewer() -> None:
    """Runs of one model share its error, 0.9 of the variance: six models of ten runs each say little of a seventh."""
    rng, inside, blind = np.random.default_rng(11), [], []
    for _ in range(300):
        shared, own = rng.normal(0.0, np.sqrt(0.9), 7), rng.normal(0.0, np.sqrt(0.1), (7, 10))
        errors = shared[:, None] + own
        rows = [(subject(), float(e)) for model in errors[:6] for e in model]
        likes = [(str(model), "") for model in range(6) for _ in range(10)]
        for found, grouped in ((inside, likes), (blind, apart(rows))):
            table = classify("step_time", rows, grouped, [0.0] * 9)[0]
            found.append(np.mean((table["lower"] <= errors[6]) & (errors[6] <= table["upper"])))
    assert np.mean(blind) < 0.80 < 0.85 < np.mean(inside)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 12), min_size=2, max_size=8))
def test_effective_runs_lie_between_none_alike_and_all_alike(seed: int, sizes: list[int]) -> None:
    rng, count = np.random.default_rng(seed), sum(sizes)
    likes = [group for group, size in enumerate(sizes) for _ in range(size)]
    apart = [(subject(), float(r)) for r in rng.standard_normal(count)]
    alike = [(subject(), float(group)) for group in likes]
    assert effective_runs(apart, list(range(count))) == count
    assert min(FEWEST_EFFECTIVE, count) <= effective_runs(apart, likes) <= count
    if max(sizes) > 1:  # within a group all are the same: a group is one run, where there are more than the fewest
        assert effective_runs(alike, likes) <= max(len(sizes), min(FEWEST_EFFECTIVE, count))
    assert effective_runs(apart * 3, likes * 3) == pytest.approx(effective_runs(apart, likes))


def test_one_model_makes_no_class() -> None:
    rows = [(subject(), float(r)) for r in np.random.default_rng(0).standard_normal(30)]
    assert [t["rows"] for t in classify("step_time", rows, [("only", "")] * 30, [0.1, 0.2])] == [30]  # that of everything


def apart(rows: list[Member]) -> list[tuple[str, str]]:
    """Each of a model of its own."""
    return [(str(i), "") for i in range(len(rows))]


def subject(**changes: object) -> Subject:
    start = {"framework": "fsdp", "curves": "a100", "family": "dense", "num_nodes": 1, "num_gpus": 8, "parameters": 7e9}
    return Subject(**{**start, **changes})  # type: ignore[arg-type]


def classes() -> tuple[ResidualClass, ...]:
    rng = np.random.default_rng(3)
    rows = [(subject(num_gpus=8 * (1 + i % 4)), float(r)) for i, r in enumerate(rng.normal(0.0, 0.05, 60))]
    tables = classify("step_time", rows, apart(rows), rng.normal(0.0, 0.3, 60).tolist())
    assert [t["rows"] for t in tables] == [60] * len(tables)
    return tuple(ResidualClass.build(t, "test") for t in tables)


def test_what_was_never_measured_gets_a_wider_interval_and_says_so() -> None:
    known = interval(10.0, "step_time", subject(), classes())
    assert (known.provenance, known.expected) == ("fitted", 10.0)
    assert known.lower < 10.0 < known.upper
    for change in ({"framework": "megatron-core"}, {"curves": "volta"}, {"num_gpus": 4096}, {"parameters": 1e12}):
        far = interval(10.0, "step_time", subject(**change), classes())
        assert far.provenance == "extrapolated"
        assert far.why
        assert far.lower < known.lower < known.upper < far.upper


def test_every_prediction_has_an_interval() -> None:
    for metric in ("step_time", "memory"):
        for name in ("fsdp", "nobody-knows"):
            found = interval(1.0, metric, subject(framework=name, curves="new", family="moe"))  # type: ignore[arg-type]
            assert 0 < found.lower <= 1.0 <= found.upper


def test_a_plan_states_its_intervals() -> None:
    answer = plan(
        model="llama-2-7b",
        cluster="dgx-a100-80gb",
        framework="fsdp",
        layout={"zero": 3},
        job={"seq_len": 2048, "global_batch_size": 64, "num_steps": 100},
        price=2.0,
    )
    for name, sure in answer.intervals.items():
        assert sure.lower < sure.expected < sure.upper, name
        assert sure.expected == pytest.approx(getattr(answer, name))
    step, cost = answer.intervals["step_time_s"], answer.intervals["cost_usd"]
    assert cost.upper / cost.expected == pytest.approx(step.upper / step.expected)
    told = answer.to_dict()
    assert told["intervals"]["cost_usd"]["lower"] == cost.lower
    assert told["certainty"] in ("fits", "probably fits", "probably does not fit", "does not fit")


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_constant_that_does_not_change_keeps_its_line() -> None:
    text = 'name = "x"\nrate = 1.0\n'
    once = with_constant(text, "rate", 0.5, "planner fit", "2026-01-01")
    assert tomllib.loads(once)["rate"] == {"value": 0.5, "kind": "fitted", "source": "planner fit", "date": "2026-01-01"}
    assert with_constant(once, "rate", 0.5, "planner fit", "2027-07-07") == once
    assert "2027-07-07" in with_constant(once, "rate", 0.6, "planner fit", "2027-07-07")
    added = with_constant(text, "other", 2.0, "planner fit", "2026-01-01")
    assert tomllib.loads(added)["other"]["value"] == 2.0


def test_residuals_round_trip(tmp_path: Path) -> None:
    tables = [c.model_dump(exclude={"provenance"}) for c in classes()]
    path = tmp_path / "residuals.toml"
    write_text(path, residuals_text(tables, "a test"))
    assert load_residuals(path) == classes()


def test_the_baseline_is_one_utilization_for_each_gpu_and_precision() -> None:
    runs = [settled(run) for run in read_runs(PAPER)[0]]
    whole, left = utilization_baseline(runs)
    assert np.median(whole) == pytest.approx(0.0, abs=1e-12)
    assert not np.allclose(whole, left)


def test_validate_prints_intervals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, "validate", str(PAPER), "--json")
    told = json.loads(capsys.readouterr().out)
    for row in told["rows"]:
        assert row["lower"] < row["predicted"] < row["upper"]
        assert row["provenance"] in ("fitted", "extrapolated")
        assert row["inside"] == (row["lower"] <= row["measured"] <= row["upper"])
    assert [g["inside"] for g in told["groups"]] == [sum(r["inside"] for r in told["rows"])]


def test_a_settled_run_keeps_one_layout() -> None:
    for run in read_runs(PAPER)[0]:
        one = settled(run)
        assert len(one.layouts) == 1
        assert step_time(one, Values((), ())) > 0


def test_many_sets_of_constants_at_once_give_what_each_gives_alone() -> None:
    constants = tuple(c for c in load_constants() if c.framework == "megatron-2022" or c.curves == "a100")
    prior = [c.prior for c in constants]
    sets = [Values(constants, tuple(v * (1.03 if i == j else 1.0) for i, v in enumerate(prior))) for j in range(-1, len(prior))]
    for run in read_runs(PAPER)[0]:
        one = settled(run)
        assert step_times(one, sets).tolist() == [step_time(one, values) for values in sets]  # bit for bit


@pytest.mark.parametrize("model", ["bamba-9b", "nemotron-h-8b", "qwen3-30b-a3b", "qwen3-next-80b-a3b"])
def test_every_constant_of_a_framework_may_be_a_column(model: str) -> None:
    """Scans and permutations have rates of their own: a fit asks for many values of each at once."""
    row = {"source": "x", "framework": "megatron-core", "model": model, "accelerator": "H100-SXM5-80GB", "num_gpus": "8"}
    row |= {"seq_len": "4096", "micro_batch_size": "1", "global_batch_size": "64", "tp": "1", "pp": "1", "dp": "8"}
    row |= {"ep": "8" if model.startswith("qwen") else "1", "precision": "bf16", "recompute": "none", "step_time_s": "10"}
    one = settled(read_run("x", row))
    constants = tuple(c for c in load_constants() if c.framework == "megatron-core" or c.curves == "h100")
    prior = [c.prior for c in constants]
    sets = [Values(constants, tuple(v * (1.03 if i == j else 1.0) for i, v in enumerate(prior))) for j in range(-1, len(prior))]
    found = step_times(one, sets).tolist()
    assert found == [step_time(one, values) for values in sets]  # bit for bit
    scans = [i for i, c in enumerate(constants) if c.field == "scan_rate"]
    assert scans
    assert (found[1 + scans[0]] < found[0]) is (model in ("bamba-9b", "nemotron-h-8b"))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_either_kind_of_runs_has_nine_of_ten_inside_and_the_incomplete_are_never_narrower(seed: int) -> None:
    rng = np.random.default_rng(seed)
    off, weights, told = rng.gamma(2.0, 1.0, 60), rng.uniform(0.5, 1.0, 60), np.arange(60) < 40
    scale, further = scales(off, weights, told)
    inside = off <= NORMAL_95 * scale * np.where(told, 1.0, further) * (1 + 1e-9)
    for kind in (told, ~told):
        assert weights[kind & inside].sum() >= 0.9 * weights[kind].sum()
    outermost = told & (off < NORMAL_95 * scale * (1 - 1e-9))
    assert weights[outermost].sum() < 0.9 * weights[told].sum()
    assert further >= 1.0


def test_the_point_of_a_sources_own_errors_is_of_that_source_alone() -> None:
    """90 % of 0, 1 .. 10 is 9, however far off the runs of another source are, and in whatever order they come."""
    error, source = np.r_[np.arange(11.0), np.full(3, 100.0)], np.array(["a"] * 11 + ["b"] * 3)
    order = np.random.default_rng(0).permutation(14)
    assert of_its_source(error[order], source[order]) == pytest.approx(np.where(source == "a", 9.0, 100.0)[order])


def test_a_source_of_four_runs_counts_as_two_where_it_is_told_how_many_ran() -> None:
    """Of four runs at 60 %, three ran: 2 x 3/4; another source's one run at 70 % ran: (1.5 + 1) / 3 are 83 %, 63 said."""

    def fate(source: str, ran: bool, said: float) -> Fate:
        run: Any = SimpleNamespace(columns={"source": source}, out_of_memory=not ran)
        return Fate(run, True, said)

    runs = [fate("a", ran, 0.6) for ran in (True, True, True, False)]
    told = _reliability([*runs, fate("b", True, 0.7), fate("b", True, 0.99), fate("b", False, float("nan"))], "whoever")
    assert "| 50 to 75 % | 5 | 2 | 63 | 83 |" in told
    assert "| 95 to 100 % | 1 | 1 | 99 | 100 |" in told
    assert "said by whoever, of runs" in told
    alone = _fits(SimpleNamespace(verdicts=runs), ())  # type: ignore[arg-type]
    assert "never saw" not in alone
    assert "from these runs too" in alone  # no model of memory's errors was fitted apart
    assert told.count(" to ") == 2  # the run whose recomputation was chosen is in no line
    assert _reliability([fate("b", True, 0.7)], "whoever") == ""


def test_a_run_that_fits_is_judged_by_a_model_that_never_saw_its_source() -> None:
    """The wider the model that is left, the nearer to a half; a run whose recomputation was chosen stays without a number."""
    run = settled(read_runs(PAPER)[0][0])
    whole = effects_of("memory")
    wide = replace(whole, scale=3.0 * whole.scale)
    memory: Any = SimpleNamespace(without=lambda source: wide if source == source_of(run) else whole)
    rule = fit_rule(run.question)
    fate = Fate(run, True, float(rule.probability(0.8 * rule.usable_bytes)), 0.8 * rule.usable_bytes, 0.4 * rule.usable_bytes)
    found, chosen = without_source([fate, fate._replace(probability=float("nan"))], memory)
    assert 0.5 < found.probability < fate.probability
    assert found.probability == float(fit_rule(run.question, known=wide).probability(*fate[3:]))
    assert np.isnan(chosen.probability)
