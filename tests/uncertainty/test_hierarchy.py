"""The hierarchical model on made-up truths, and the ratios that follow from it."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, norm

from planner.uncertainty.effects import SERVING, effects_of, standing
from planner.uncertainty.hierarchy import (
    Fitted,
    beyond,
    counted_gpus,
    distances,
    fit_hierarchy,
    outlying_weights,
    source_weights,
    unseen,
)
from planner.uncertainty.hierarchy import _likelihood as likelihood
from planner.uncertainty.subject import Metric, Subject

SOURCES, RUNS = 24, 8
BETWEEN, WITHIN = 0.10, 0.05


def made_up(seed: int, sources: int = SOURCES) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64]]:
    """Runs of sources that differ by BETWEEN, and among themselves by WITHIN; one framework, two chips."""
    rng = np.random.default_rng(seed)
    n = sources * RUNS
    source = np.repeat([f"s{i}" for i in range(sources)], RUNS)
    table = {
        "source": source,
        "root": np.full(n, "fsdp"),
        "framework": np.full(n, "fsdp"),
        "generation": np.where(rng.random(n) < 0.5, "Hopper", "Ampere"),
        "curves": np.full(n, "h100"),
        "die": np.full(n, "compute"),
        "family": np.full(n, "dense"),
        "precision": np.full(n, "bf16"),
        "job": np.full(n, "full"),
        "figure": np.full(n, "step"),
        "model": np.array([f"m{i % 3}" for i in range(n)]),
        "parameters": np.full(n, 7e9),
        "num_gpus": np.full(n, 8),
        "num_nodes": np.full(n, 1),
        "kernel": np.zeros(n),
        "incomplete": np.zeros(n),
    }
    return table, np.repeat(rng.normal(0.0, BETWEEN, sources), RUNS) + rng.normal(0.0, WITHIN, n)


def spread_of_a_new_source(fitted: Fitted, residual: NDArray[np.float64]) -> float:
    _, covariance = fitted.posterior(residual)
    shared = fitted.of.shared[0].toarray().ravel()
    return float(np.sqrt(shared @ covariance @ shared + fitted.widths[0] ** 2 * fitted.own_variance()))


def test_derivatives_are_those_of_finite_differences() -> None:
    table, residual = made_up(0, sources=5)
    of = fit_hierarchy(table, residual, iterations=1).of
    weights, outlying = source_weights(table), np.linspace(0.5, 1.5, len(residual))
    theta = np.full(len(of.effects) + 1 + len(of.terms), -1.5)
    theta[len(of.effects) + 1 :] = 0.1
    _, slope, _ = likelihood(theta, of, weights, outlying)
    step = 1e-5
    for i, unit in enumerate(np.eye(len(theta))):
        up, down = (likelihood(theta + sign * step * unit, of, weights, outlying)[0] for sign in (1.0, -1.0))
        assert abs((up - down) / (2.0 * step) - slope[i]) < 1e-4 * max(1.0, abs(slope[i]))


def dense(theta: NDArray[np.float64], fitted: Fitted) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The model written out: (runs, groups) coefficients of all effects, their variances, the runs' own, and w."""
    of, k = fitted.of, len(fitted.of.effects)
    w = np.exp(of.spread @ theta[k + 1 :])
    own = {"source", "source on chip", "source and model"}
    z = np.zeros((len(w), len(of.groups)))
    for i, columns in enumerate(of.columns):
        for column in columns:
            z[i, column] = w[i] if of.groups[column][0] in own else 1.0
    effects = np.array([np.exp(2.0 * theta[of.effects.index(group[0])]) for group in of.groups])
    return z, effects, (w * np.exp(theta[k])) ** 2, w


def test_the_likelihood_is_that_of_the_normal_law_of_all_runs_together() -> None:
    """Against scipy's of the whole covariance matrix, with the priors: deviations around 5 % within a factor of two either way
    (0.7 of the logarithm), terms as LEVELS and SLOPES say. A run that counts c times has its variance divided by c."""
    table, residual = made_up(5, sources=4)
    table["num_nodes"] = np.where(np.arange(len(residual)) % 3 == 0, 2, 1)
    start = fit_hierarchy(table, residual, iterations=1)
    k, rng = len(start.of.effects), np.random.default_rng(0)
    outlying, ones = rng.uniform(0.5, 1.5, len(residual)), np.ones(len(residual))
    means, unsure = start.of.prior()
    values, densities = [], []
    for theta in rng.normal(-2.0, 0.5, (3, k + 1 + len(means))):
        theta[k + 1 :] = 0.1 * rng.normal(size=len(means))
        z, effects, own, _ = dense(theta, start)
        covariance = (z * effects) @ z.T + np.diag(own / outlying)
        density = multivariate_normal(np.zeros(len(own)), covariance).logpdf(residual)
        density += norm(np.log(0.05), 0.7).logpdf(theta[:k]).sum() + norm(means, unsure).logpdf(theta[k + 1 :]).sum()
        value, _, standardized = likelihood(theta, start.of, ones, outlying)
        values.append(value)
        densities.append(density)
        # squares of own errors given all runs, over their variance
        gain = (z * effects).T @ np.linalg.inv(covariance)
        left = np.diag(effects) - gain @ (z * effects)
        squares = (residual - z @ gain @ residual) ** 2 + np.einsum("ig,gh,ih->i", z, left, z)
        assert standardized == pytest.approx(squares / own)
        fitted = replace(start, theta=theta, by_source=ones, outlying=outlying)
        mean, found = fitted.posterior(residual)
        assert mean == pytest.approx(gain @ residual, abs=1e-9)
        assert found == pytest.approx(left, abs=1e-9)
        mean, found = fitted.posterior(residual, np.where(np.arange(len(own)) < 9, 1.0, 0.0))
        some = (z * effects)[:9].T @ np.linalg.inv(covariance[:9, :9])
        assert mean == pytest.approx(some @ residual[:9], abs=1e-9)
        assert fitted.own_variance() == pytest.approx(np.exp(2.0 * theta[k - 3 : k + 1]).sum())
    assert np.diff(values) == pytest.approx(np.diff(densities))


def test_a_term_is_as_sure_as_the_runs_that_tell_it() -> None:
    """n runs tell the logarithm of their deviation to 1 / sqrt(2 n); 24 sources of 8 count as sqrt(8) each."""
    table, residual = made_up(6)
    fitted = fit_hierarchy(table, residual, iterations=1)
    told = dict(zip(fitted.of.terms, fitted.doubts(), strict=True))
    assert told["framework fsdp"] == pytest.approx(1.0 / (1.0 / 0.3**2 + 2.0 * SOURCES * RUNS**0.5))
    assert told["kernel"] == pytest.approx(0.1**2)  # of no run
    half = dict(zip(fitted.of.terms, fitted.doubts(np.full(len(residual), 0.5)), strict=True))
    assert half["framework fsdp"] == pytest.approx(1.0 / (1.0 / 0.3**2 + SOURCES * RUNS**0.5))


def test_a_new_sources_spread_is_that_of_sources_and_runs_together() -> None:
    table, residual = made_up(1)
    truth = float(np.hypot(BETWEEN, WITHIN))
    assert 0.7 * truth < spread_of_a_new_source(fit_hierarchy(table, residual), residual) < 1.6 * truth


def test_more_runs_of_one_source_teach_little_of_the_next() -> None:
    """n runs count as sqrt(n): what is told of a new source hangs on sources, not on rows."""
    table, _ = made_up(2)
    assert np.allclose(source_weights(table), RUNS**-0.5)


def test_runs_that_exchange_nothing_are_known_better_where_they_err_less() -> None:
    """Runs on one GPU err a third as much; the fit and what is stored of it say so, of one GPU alone."""
    table, residual = made_up(3)
    single = np.arange(len(residual)) % 2 == 0
    table["num_gpus"] = np.where(single, 1, 8)
    fitted = fit_hierarchy(table, np.where(single, residual / 3.0, residual))
    term = fitted.components.terms["alone"]
    assert term < -0.3
    assert fitted.widths[0] / fitted.widths[1] == pytest.approx(np.exp(term))
    known = effects_of("step_time")
    told = replace(known, terms={**known.terms, "alone": term}, doubts={**known.doubts, "alone": 0.0})
    one, two, four = (asked(num_gpus=n) for n in (1, 2, 4))
    assert told.width(one, 0.0) / told.width(two, 0.0) == pytest.approx(np.exp(term))
    assert told.width(two, 0.0) == told.width(four, 0.0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_few_noisy_sources_hardly_widen_what_the_others_tell(seed: int) -> None:
    """Three of 24 sources, whose runs scatter eight times as much, move a new source's spread by less than a tenth."""
    table, residual = made_up(seed)
    scattered = np.isin(table["source"], ["s0", "s1", "s2"])
    noise = np.random.default_rng(100 + seed).normal(0.0, 8.0 * WITHIN, len(residual))
    noisy = residual + np.where(scattered, noise, 0.0)
    clean, found = fit_hierarchy(table, residual), fit_hierarchy(table, noisy)
    assert spread_of_a_new_source(found, noisy) < 1.1 * spread_of_a_new_source(clean, residual)
    assert found.outlying[scattered].mean() < found.outlying[~scattered].mean() / 3.0


def test_runs_as_far_off_as_expected_count_once_and_outlying_sources_less() -> None:
    table, residual = made_up(4)
    of, weights = fit_hierarchy(table, residual, iterations=1).of, source_weights(table)
    assert np.allclose(outlying_weights(np.ones(len(residual)), of, weights), 1.0)
    first = table["source"] == "s0"
    found = outlying_weights(np.where(first, 9.0, 1.0), of, weights)
    assert np.allclose(found[~first], 1.0)
    weight = RUNS**0.5  # of the source; of one outlying run alone it would be 5 / 13
    assert np.allclose(found[first], 5.0 / 13.0 * (4.0 + weight) / (4.0 + weight * 9.0 * 5.0 / 13.0))
    memory = fit_hierarchy(table, residual, "memory", iterations=1).of
    assert np.allclose(outlying_weights(np.where(first, 9.0, 1.0), memory, weights), np.where(first, 5.0 / 13.0, 1.0))


def test_distance_is_counted_from_other_sources_only() -> None:
    table, _ = made_up(3, sources=2)
    assert (distances(table) == 0.0).all()
    table["parameters"] = np.where(table["source"] == "s1", 28e9, 7e9)
    assert np.allclose(distances(table), 2.0)
    table["num_gpus"] = np.where(table["source"] == "s1", 32, 8)
    first = table["source"] == "s0"
    assert np.allclose(distances(table), np.where(first, 2.0, 4.0))  # fewer GPUs are nothing new
    assert np.allclose(distances(table, "memory"), 2.0)
    table["root"] = np.where(first, "fsdp", "mlc")
    assert np.allclose(distances(table), np.where(first, 2.0, 4.0))  # of its kind of model under any framework
    table["family"] = np.where(first, "dense", "moe")
    assert (distances(table) == 0.0).all()


def test_parameters_below_and_above_what_was_measured_and_gpus_beyond_count_in_doublings() -> None:
    size, gpus = np.array([1.0, 3.0, 4.0, 7.0]), np.array([0.0, 4.0, 5.0, 7.0])
    assert beyond(size, gpus, 2.0, 5.0, 4.0).tolist() == [1.0, 0.0, 1.0, 5.0]
    assert counted_gpus(np.array([1.0, 8.0]), "decode").tolist() == [0.0, 3.0]


def test_software_of_one_source_is_unseen_by_the_others() -> None:
    table, _ = made_up(4, sources=3)
    table["root"] = np.full(len(table["root"]), "vllm")
    table["framework"] = np.where(table["source"] == "s0", "vllm-2023", "vllm-v1")  # of an engine's releases, too
    assert (unseen(table) == (table["source"] == "s0")).all()


@pytest.mark.parametrize(
    ("metric", "framework", "parameters", "measured"),
    [
        ("decode", "vllm-v1", 8e9, True),
        ("prefill", "vllm-v1", 8e9, True),
        ("throughput", "tensorrt-llm-1", 70.6e9, True),
        ("throughput", "vllm-v1", 8e9, False),
    ],
)
def test_what_serves_is_known_better_where_it_was_measured(
    metric: Metric, framework: str, parameters: float, measured: bool
) -> None:
    """An engine on the H100, at a size that was measured, against software and chips that nobody measured.

    vLLM's throughput nobody measured, either.
    """
    root = framework.rpartition("-")[0]
    known = Subject(
        framework=framework,
        root=root,
        curves="h100",
        generation="Hopper",
        die="compute",
        family="dense",
        num_nodes=1,
        num_gpus=1,
        parameters=parameters,
        precision="16",
        job="one GPU",
        model="8b",
        figure={"decode": "loop_token", "prefill": "loop_first"}.get(metric, "saturated"),
    )
    other = replace(known, framework="nobody", root="nobody", curves="tpu", generation="TPU", die="other")
    near, far = standing(metric, known), standing(metric, other)
    assert (near.deviation < far.deviation) if measured else (near.deviation == pytest.approx(far.deviation))
    assert far.provenance == "extrapolated"
    assert far.why.startswith("nothing was measured of nobody")
    said = rf"\d+ measurements of {root}( on h100 GPUs)?" if measured else f"nothing was measured of {root}"
    assert re.match(said, near.why)


@pytest.mark.parametrize("metric", SERVING)
def test_an_engine_that_was_measured_is_never_wider_than_one_that_nobody_measured(metric: Metric) -> None:
    """Every engine and GPU, every size: far from what was measured of it, it is no less known than an engine of no runs."""
    model = effects_of(metric)
    engines = {(m["root"], m["framework"], m["curves"], m["generation"]) for m in model.measured}
    assert len(engines) > 5
    for root, framework, curves, generation in sorted(engines):
        for parameters, family, num_gpus in product((1e9, 8e9, 70.6e9, 671e9), ("dense", "moe"), (1, 8, 32)):
            known = Subject(
                framework=framework,
                root=root,
                curves=curves,
                generation=generation,
                die="compute",
                family=family,
                num_nodes=max(num_gpus // 8, 1),
                num_gpus=num_gpus,
                parameters=parameters,
                precision="16",
                job="one GPU" if num_gpus == 1 else "several GPUs",
                model="any",
                figure={"decode": "loop_token", "prefill": "loop_first"}.get(metric, "saturated"),
            )
            near, far = (standing(metric, one) for one in (known, replace(known, framework="nobody", root="nobody")))
            assert near.deviation <= far.deviation, known


@pytest.mark.parametrize("metric", SERVING)
def test_a_ratio_of_engines_that_were_measured_is_never_wider_than_of_two_that_nobody_measured(metric: Metric) -> None:
    """Two sizes of one engine, and two engines, against the same of engines of no runs; what one figure is surer of than two
    of nobody's, a ratio is, too."""
    model = effects_of(metric)
    engines = sorted({(m["root"], m["framework"], m["curves"], m["generation"]) for m in model.measured})
    subjects = [
        Subject(
            framework=framework, root=root, curves=curves, generation=generation, die="compute", family=family, num_nodes=1,
            num_gpus=num_gpus, parameters=parameters, precision="16", job="one GPU" if num_gpus == 1 else "several GPUs",
            model=f"{parameters}", figure={"decode": "loop_token", "prefill": "loop_first"}.get(metric, "saturated"),
        )
        for root, framework, curves, generation in engines
        for parameters, family, num_gpus in ((8e9, "dense", 1), (671e9, "moe", 8))
    ]  # fmt: skip
    for first, second in combinations(subjects, 2):
        nobody = {
            name: "nobody" if getattr(first, name) == getattr(second, name) else "another" for name in ("root", "framework")
        }
        _, near = model.difference(first, second)
        _, far = model.difference(replace(first, root="nobody", framework="nobody"), replace(second, **nobody))
        assert near <= far * (1 + 1e-12), (first, second)


def asked(**changes: Any) -> Subject:
    """A training question of Llama's size on eight H100."""
    known = Subject(
        framework="fsdp",
        curves="h100",
        family="dense",
        num_nodes=1,
        num_gpus=8,
        parameters=7e9,
        root="fsdp",
        generation="Hopper",
        die="compute",
        precision="bf16",
        job="full",
        model="m",
        coordinates=(0.0, 0.0, 0.0, 0.0, 1.0, 12.0, 3.0, 32.7),
    )
    return replace(known, **changes)


@pytest.mark.parametrize("place", range(8))
def test_two_runs_err_less_alike_the_further_they_lie_apart(place: int) -> None:
    """Of each degree and size; the sequence's length parts them most, for attention and multiplications err by themselves."""
    model = effects_of("step_time")

    def apart(doublings: float, at: int = place) -> float:
        moved = list(asked().coordinates)
        moved[at] += doublings
        return model.likeness(asked(), asked(coordinates=tuple(moved)))

    assert model.likeness(asked(), asked()) == pytest.approx(model.alike)
    assert model.alike > apart(1.0) > apart(2.0) > 0.0
    assert apart(-1.0) == pytest.approx(apart(1.0))
    assert apart(1.0, at=5) <= apart(1.0)


@pytest.mark.parametrize("metric", ["step_time", "memory"])
def test_a_ratio_with_a_run_that_leaves_out_a_setting_is_known_less_well(metric: Metric) -> None:
    model = effects_of(metric)
    other = asked(framework="torchtitan", precision="fp8")
    mean, told = model.difference(asked(), other)
    untold_mean, untold = model.difference(asked(), replace(other, incomplete=1.0))
    assert mean == pytest.approx(untold_mean)
    assert 0.0 < told < untold
    assert model.difference(other, asked()) == pytest.approx((-mean, told))


@pytest.mark.parametrize(
    ("shift", "said"), [(0.0, ""), (0.02, ""), (-0.02, ""), (0.1, "moved up by 11%"), (-0.1, "moved down by 10%")]
)
def test_a_figure_that_is_moved_says_which_way_and_by_how_much(shift: float, said: str) -> None:
    """exp(0.1) - 1 = 10.5 %, 1 - exp(-0.1) = 9.5 %; what moves it by less than 3 % is no known bias."""
    known = effects_of("step_time")
    subject = Subject(framework="fsdp", curves="h100", family="dense", num_nodes=1, num_gpus=8, parameters=7e9, root="fsdp")
    at, _ = known._shared(subject)
    means = np.zeros_like(known.means)
    means[at] = shift / len(known.means[at])
    found = replace(known, means=means).standing(subject)
    assert re.findall(r"moved \w+ by \d+%", str(found.why)) == ([said] if said else [])
