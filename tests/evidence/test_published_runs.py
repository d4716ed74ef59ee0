"""GPU-hours of published runs: the field factor by hand, nothing compared with itself, and what the pages say."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from command_line import Run
from places import DATA, ROOT

from planner.common.data import PROFILES
from planner.common.errors import PlannerError
from planner.evidence.published_runs import (
    Comparison,
    Modelled,
    PublishedRun,
    compare,
    compare_published,
    factor_of,
    fit_field_factor,
    model_run,
    published_runs,
)
from planner.lifecycle.field_factor import field_factor
from planner.reports.gpu_hours import factor, section, table
from planner.workload.framework_names import CATALOG

DOCS = ROOT / "docs"
NAMED = (
    "llama-2-7b",
    "llama-2-13b",
    "llama-2-70b",
    "llama-3.1-8b",
    "llama-3.1-70b",
    "llama-3.1-405b",
    "deepseek-v3",
    "bloom-176b",
)


@pytest.fixture(scope="module")
def found() -> tuple[Comparison, ...]:
    return compare_published()


def modelled(hours: float, spread: float) -> Modelled:
    return Modelled(hours=hours, log_lower=-1.6448536 * spread, log_upper=1.6448536 * spread)


def test_the_factor_of_two_equal_runs_by_hand() -> None:
    # DerSimonian and Laird 1986 with k = 2 and equal s: Q = d^2 / (2 s^2), tau^2 = d^2 / 2 - s^2, se^2 = (s^2 + tau^2) / 2
    fit = fit_field_factor([2.0, 8.0], [modelled(1.0, 0.5), modelled(1.0, 0.5)], ["a", "b"])
    d = math.log(4.0)
    assert fit.factor == pytest.approx(4.0)
    assert fit.log_spread == pytest.approx(math.sqrt(d * d / 2 - 0.25))
    assert fit.log_error == pytest.approx(d / 2)
    # t at 95 % is 6.314 with one degree of freedom, 1.833 with nine, the normal's 1.645 (any table)
    assert fit.predictive_spread == pytest.approx(6.314 / 1.645 * math.hypot(fit.log_spread, fit.log_error), rel=1e-3)
    eleven = fit.model_copy(update={"num_organisations": 11})
    assert eleven.predictive_spread == pytest.approx(1.833 / 1.645 * math.hypot(fit.log_spread, fit.log_error), rel=1e-3)


def test_spread_that_the_intervals_explain_is_not_counted_again() -> None:
    fit = fit_field_factor([1.0, 2.0, 4.0], [modelled(1.5, 1.0)] * 3, list("abc"))
    assert fit.log_spread == 0
    assert fit.log_error == pytest.approx(1.0 / math.sqrt(3))


def test_an_unsure_run_says_less_about_the_factor() -> None:
    sure, unsure = modelled(1.0, 0.1), modelled(1.0, 1.0)
    by_one = fit_field_factor([1.2, 3.0], [sure, unsure], ["a", "b"])
    assert by_one.factor < fit_field_factor([1.2, 3.0], [sure, sure], ["a", "b"]).factor


def test_an_organisation_counts_as_one_run() -> None:
    """However often it is listed: three equal runs of one and one of another have the factor of one run each."""
    often = fit_field_factor([2.0, 2.0, 2.0, 8.0], [modelled(1.0, 0.5)] * 4, ["a", "a", "a", "b"])
    once = fit_field_factor([2.0, 8.0], [modelled(1.0, 0.5)] * 2, ["a", "b"])
    assert often.factor == pytest.approx(4.0)
    assert often.log_spread == pytest.approx(once.log_spread)
    assert often.log_error == pytest.approx(once.log_error)


def test_the_spread_between_organisations_is_found_however_many_runs_each_has() -> None:
    """Drawn with a spread of 0.2 between organisations and own errors that their runs share: the mean estimate is its square."""
    rng = np.random.default_rng(1)
    own = rng.uniform(0.05, 0.2, 30)
    count = rng.integers(1, 9, 30)
    names = [str(i) for i in np.repeat(np.arange(30), count)]
    models = [modelled(1.0, s) for s in np.repeat(own, count)]
    found = []
    for _ in range(200):
        logs = np.repeat(rng.normal(0.2, np.hypot(0.2, own)), count)
        found.append(fit_field_factor(np.exp(logs).tolist(), models, names).log_spread ** 2)
    assert np.mean(found) == pytest.approx(0.2**2, rel=4.0 * np.std(found) / np.mean(found) / math.sqrt(len(found)))


def test_an_organisation_has_no_say_in_the_factor_of_its_runs(found: tuple[Comparison, ...]) -> None:
    """Those who trained ten models with one stack err ten times alike: leaving out one of them would leave out nothing."""
    runs, models = [c.run for c in found], [c.own for c in found]
    fields = [compare(runs, models, j).field for j in range(len(runs))]
    for i in (0, next(i for i, r in enumerate(runs) if r.measured == "steps")):
        mine = runs[i]
        changed = [r.replaced(gpu_hours=100 * r.gpu_hours) if r is mine else r for r in runs]
        for j, other in enumerate(runs):
            same = compare(changed, models, j).field == fields[j]
            assert same == (other.organisation == mine.organisation), other.name


def test_step_times_and_whole_runs_cannot_be_told_apart(found: tuple[Comparison, ...]) -> None:
    """While that is so they share a factor: the difference of their means is within the 90 % interval of 0."""
    means = {}
    for kind in ("run", "steps"):
        part = [c for c in found if c.run.measured == kind]
        means[kind] = factor_of([c.run for c in part], [c.own for c in part])
    run, steps = means["run"], means["steps"]
    assert abs(math.log(run.factor / steps.factor)) < 1.645 * math.hypot(run.log_error, steps.log_error)


def test_no_bias_by_size(found: tuple[Comparison, ...]) -> None:
    """The smaller and the larger half lie on both sides of their published hours by less than the factor's own error."""
    ranked = sorted(found, key=lambda c: c.run.gpu_hours)
    error = factor(found).log_error
    for part in (ranked[: len(ranked) // 2], ranked[len(ranked) // 2 :]):
        assert abs(math.log(1.0 + median(c.error for c in part))) < 1.645 * error


def test_a_factor_needs_runs_of_others(found: tuple[Comparison, ...]) -> None:
    kin = [c for c in found if c.run.organisation == "Meta"]
    with pytest.raises(PlannerError, match="two runs of other organisations than Meta"):
        compare([c.run for c in kin], [c.own for c in kin], 0)


def test_settings_that_are_not_published_widen_the_interval() -> None:
    run = next(r for r in published_runs() if r.name == "llama-2-7b")
    known = PublishedRun.build({**run.model_dump(exclude={"tried"}), "cluster": {**run.cluster, "num_nodes": 64}}, "test")
    wide, narrow = model_run(run), model_run(known)
    assert wide.log_upper - wide.log_lower > narrow.log_upper - narrow.log_lower


def test_hours_of_steps_hold_no_failures_or_checkpoints() -> None:
    run = next(r for r in published_runs() if r.name == "bloom-176b")
    assert model_run(run.replaced(measured="steps")).hours < model_run(run).hours


def test_long_context_stages_add_their_hours() -> None:
    run = next(r for r in published_runs() if r.name == "llama-3.1-405b")
    first = run.replaced(stages=[run.stages[0]])
    # 0.8 of 15.6 T tokens, at most three times as dear a token at 128K: 6 s L h over 6 N = 0.67 more
    assert 1.04 < model_run(run).hours / model_run(first).hours < 1.16


def test_published_gpu_hours_from_the_other_runs(found: tuple[Comparison, ...]) -> None:
    assert len(found) >= 30
    assert median(abs(c.error) for c in found) <= 0.12
    assert sum(c.inside for c in found) >= 0.9 * len(found)
    inside = {c.run.name: c.inside for c in found}
    assert all(inside[name] for name in NAMED)
    assert all(c.run.source and c.run.chosen for c in found)


def test_the_catalog_holds_the_factor(found: tuple[Comparison, ...]) -> None:
    fit, kept = factor(found), field_factor()
    assert kept.factor == pytest.approx(fit.factor, abs=1e-3)
    assert kept.log_spread == pytest.approx(fit.log_spread, abs=1e-3)
    assert kept.log_error == pytest.approx(fit.log_error, abs=1e-3)
    assert kept.num_runs == fit.num_runs == len(found)
    assert kept.num_organisations == fit.num_organisations == len({c.run.organisation for c in found})


def test_both_pages_hold_the_table(found: tuple[Comparison, ...]) -> None:
    assert table(found) in (DOCS / "gpu-hours.md").read_text(encoding="utf-8")
    assert section(found) in (DOCS / "accuracy.md").read_text(encoding="utf-8")


def test_planner_fit_reports_without_touching_the_catalog(
    found: tuple[Comparison, ...], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.reports.accuracy.compare_published", lambda: found)  # half a minute, once
    before = {p: p.read_bytes() for p in [*CATALOG.glob("*.toml"), *(PROFILES / "measured").glob("*.toml")]}
    page = tmp_path / "accuracy.md"
    code, out, _ = run("fit", DATA / "korthikanti2022.csv", "--dry-run", "--jobs", "1", "--report", page)
    assert code == 0
    assert "megatron-2022.host_s_per_kernel" in out
    text = page.read_text(encoding="utf-8")
    assert "## Step time, by source" in text
    assert section(found) in text
    assert page.with_suffix(".png").stat().st_size > 10_000
    assert before == {p: p.read_bytes() for p in before}


def test_planner_fit_leaves_an_installed_package_alone_unless_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.common.data.INSTALLED", True)
    monkeypatch.setattr("planner.cli.measured.is_serving_table", lambda path: pytest.fail("work was begun"))
    code, out, err = run("fit", DATA / "korthikanti2022.csv")
    assert (code, out) == (2, "")
    assert "would change the installed package" in err
    for told in ("--in-package", "--dry-run"):
        with pytest.raises(pytest.fail.Exception, match="work was begun"):
            run("fit", DATA / "korthikanti2022.csv", told)
