"""A stored model with made-up numbers: what it says of one question and of two, against the same normal variables written out
one by one; and its words."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from examples import gpus

from planner.model.catalog import load_model
from planner.uncertainty.effects import Effects, as_effects
from planner.uncertainty.subject import Subject, die, lever, movable_part
from planner.workload.framework import load_framework
from planner.workload.job import Job
from planner.workload.layout import Layout
from planner.workload.question import Question

GROUPS = (
    ("all",), ("root", "fsdp"), ("framework", "fsdp"), ("framework on chip", "fsdp", "Hopper"), ("kind of model", "dense"),
    ("precision", "bf16"), ("precision", "fp8"), ("job", "full"),
)  # fmt: skip
SHARED_BY = {
    "root": ("root",), "framework": ("framework",), "framework on chip": ("framework", "generation"), "job": ("job",),
    "kind of model": ("family",), "precision": ("precision",), "figure": ("figure",), "all": (),
}  # fmt: skip
DRAWN_BY = {"source": (), "source on chip": ("curves",), "source and model": ("model",)}
DEVIATIONS = {
    "all": 0.01, "root": 0.02, "framework": 0.03, "framework on chip": 0.05, "kind of model": 0.07, "precision": 0.11,
    "job": 0.13, "figure": 0.17, "source": 0.19, "source on chip": 0.23, "source and model": 0.29, "run": 0.31,
}  # fmt: skip
FACTOR = np.random.default_rng(5).normal(0.0, 0.04, (len(GROUPS), len(GROUPS)))
COVARIANCE = FACTOR @ FACTOR.T
ASKED = Subject(
    framework="fsdp", curves="h100", family="dense", num_nodes=4, num_gpus=32, parameters=8e9, root="fsdp", generation="Hopper",
    die="compute", precision="bf16", job="full", model="a", coordinates=(0.0, 1.0, 2.0, 0.0, 1.0, 12.0, 5.0, 33.0),
)  # fmt: skip
OTHERS = {
    "nothing": ASKED,
    "chip": replace(ASKED, curves="a100", generation="Ampere"),
    "framework": replace(ASKED, framework="torchtitan"),
    "model": replace(ASKED, model="b", coordinates=(1.0, 1.0, 0.0, 0.0, 1.0, 11.0, 5.0, 33.0)),
    "precision": replace(ASKED, precision="fp8"),
    "one that nobody measured": replace(ASKED, precision="nvfp4", figure="reserved"),
    "movable": replace(ASKED, movable=0.8, num_nodes=1, num_gpus=1),
    "all": replace(ASKED, framework="x", root="x", family="moe", job="lora", curves="tpu", generation="TPU", model="c"),
}


def known(metric: str = "step_time", **changes: Any) -> Effects:
    """As ``catalog/uncertainty.toml`` holds it."""
    table = {
        "runs": 100, "sources": 9, "scale": 1.1, "incomplete_scale": 1.3, "pair_scale": 1.7, "incomplete_pair_scale": 1.9,
        "alike": 0.6, "alike_doublings": 8.0, "alike_lengths": 2.0, "deviations": DEVIATIONS,
        "terms": {"framework fsdp": 0.2, "die compute": -0.1, "nodes": 0.05, "alone": -0.3, "distance": 0.07, "incomplete": 0.4},
        "doubts": {"framework fsdp": 0.03, "die compute": 0.01, "nodes": 0.02, "alone": 0.04, "distance": 0.06,
                   "incomplete": 0.08},
        "measured": [
            {"root": "fsdp", "framework": "fsdp", "generation": "Hopper", "curves": "h100", "runs": 3, "models": {"a": 2}},
            {"root": "fsdp", "framework": "torchtitan", "generation": "Hopper", "curves": "h100", "runs": 4, "models": {}},
            {"root": "fsdp", "framework": "fsdp", "generation": "Ampere", "curves": "a100", "runs": 1, "models": {}},
        ],
        "reach": [
            {"root": "fsdp", "family": "dense", "fewest_parameters": 1e9, "most_parameters": 16e9, "most_gpus": 64},
            {"root": "", "family": "moe", "fewest_parameters": 8e9, "most_parameters": 64e9, "most_gpus": 8},
            {"root": "", "family": "", "fewest_parameters": 2e9, "most_parameters": 4e9, "most_gpus": 2},
        ],
        "effect": [
            {"group": list(group), "mean": 2.0**i / 1000.0, "covariance": COVARIANCE[i, : i + 1].tolist()}
            for i, group in enumerate(GROUPS)
        ],
    }  # fmt: skip
    return as_effects({**table, **changes}, metric)


def variables(s: Subject, width: float) -> Counter[Any]:
    """What a question's error is the sum of: coefficients of independent variables of deviation 1, and of the measured groups."""
    found: Counter[Any] = Counter()
    for name, keys in SHARED_BY.items():
        group = (name, *(getattr(s, key) for key in keys))
        found[group] += 1.0 if group in GROUPS else DEVIATIONS[name]
    for name, keys in DRAWN_BY.items():
        found[(name, *(getattr(s, key) for key in keys))] += width * DEVIATIONS[name]
    for label in found:
        found[label] *= float(lever(s.movable))
    return found


def variance(of: Counter[Any]) -> float:
    measured = np.array([of.get(group, 0.0) for group in GROUPS])
    return float(measured @ COVARIANCE @ measured) + sum(x**2 for label, x in of.items() if label not in GROUPS)


def mean(of: Counter[Any]) -> float:
    return sum(2.0**i / 1000.0 * of.get(group, 0.0) for i, group in enumerate(GROUPS))


@pytest.mark.parametrize("name", OTHERS)
def test_a_question_is_as_sure_as_the_sum_of_what_it_shares_and_draws(name: str) -> None:
    model, s = known(), OTHERS[name]
    width = float(model.width(s, model.distance(s)))
    of, own = variables(s, width), float(lever(s.movable)) * width * DEVIATIONS["run"]
    found = model.standing(s)
    assert found.mean == pytest.approx(mean(of))
    assert found.deviation == pytest.approx(1.1 * math.sqrt(variance(of) + own**2))
    part = replace(s, incomplete=1.0)
    wider = float(model.width(part, model.distance(s))) / width
    of, own = variables(part, width * wider), own * wider
    assert wider == pytest.approx(math.exp(0.4 + 0.08))
    assert model.standing(part).deviation == pytest.approx(1.1 * 1.3 * math.sqrt(variance(of) + own**2))


@pytest.mark.parametrize(("one", "two"), list(combinations(OTHERS, 2)))
def test_what_two_questions_share_cancels_and_nothing_else(one: str, two: str) -> None:
    """Variables of the same name are the same one; of the runs' own errors the part that is alike is."""
    model = known()
    for incomplete in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0)):
        first, second = (replace(OTHERS[name], incomplete=gap) for name, gap in zip((one, two), incomplete, strict=True))
        apart = np.abs(np.subtract(first.coordinates, second.coordinates))
        alike = 0.6 * math.exp(-(apart.sum() - apart[5]) / 8.0) * math.exp(-apart[5] / 2.0)
        widths = [float(model.width(s, model.distance(s))) for s in (first, second)]
        a, b = (variables(s, width) for s, width in zip((first, second), widths, strict=True))
        difference = Counter({label: a[label] - b[label] for label in {*a, *b}})
        x, y = (float(lever(s.movable)) * w * DEVIATIONS["run"] for s, w in zip((first, second), widths, strict=True))
        found, deviation = model.difference(first, second)
        scale = 1.7 * 1.9 if any(incomplete) else 1.7
        assert model.likeness(first, second) == pytest.approx(alike)
        assert found == pytest.approx(mean(difference), abs=1e-15)
        assert deviation == pytest.approx(scale * math.sqrt(variance(difference) + x * x + y * y - 2.0 * alike * x * y))


def test_the_spread_of_a_question_by_hand() -> None:
    """exp of each term and half of twice its doubt; slopes times how far, doubts by its square; a level without runs is as unsure
    as it was beforehand (0.3 of each of precision, generation, job and family)."""
    model = known()
    typical = 0.2 + 0.03 - 0.1 + 0.01 + 4 * 0.09
    assert model.width(ASKED, 0.0) == pytest.approx(math.exp(typical + 2 * 0.05 + 4 * 0.02))
    alone = replace(ASKED, num_nodes=1, num_gpus=1)
    assert model.width(alone, 3.0) == pytest.approx(math.exp(typical - 0.3 + 0.04 + 3 * 0.07 + 9 * 0.06))
    assert model.width(replace(alone, num_gpus=2), 0.0) == pytest.approx(math.exp(typical))
    assert model.width(replace(ASKED, framework="y", num_nodes=1), 0.0) == pytest.approx(math.exp(typical - 0.2 - 0.03 + 0.09))
    small = known(terms={"kernel": 0.1}, doubts={"kernel": 0.02})
    columns = small.width(replace(ASKED, kernel=np.array([-1.0, 0.0, 3.0])), 0.0)
    assert columns == pytest.approx(np.exp(6 * 0.09 + np.array([-0.1 + 0.02, 0.0, 0.3 + 9 * 0.02])))
    served = known("decode", terms={"unseen": 0.5}, doubts={"unseen": 0.03})
    assert served.width(ASKED, 0.0) == pytest.approx(math.exp(0.04 + 0.16))
    assert served.width(replace(ASKED, root="mlc"), 0.0) == pytest.approx(math.exp(0.04 + 0.16))
    assert served.width(replace(ASKED, framework="fsdp-0.1"), 0.0) == pytest.approx(math.exp(0.04 + 0.16 + 0.53))


@pytest.mark.parametrize(
    ("changes", "doublings"),
    [
        ({}, 0.0), ({"parameters": 32e9}, 1.0), ({"parameters": 0.25e9}, 2.0), ({"num_gpus": 256}, 2.0), ({"num_gpus": 1}, 0.0),
        ({"parameters": 64e9, "num_gpus": 128}, 3.0),
        ({"family": "moe"}, 2.0), ({"family": "moe", "num_gpus": 8, "parameters": 4e9}, 1.0),  # of its kind under any framework
        ({"family": "encoder"}, 5.0), ({"root": "x", "num_gpus": 2}, 1.0),  # of any kind
    ],
)  # fmt: skip
def test_how_far_a_question_lies_from_what_was_measured(changes: dict[str, Any], doublings: float) -> None:
    assert known().distance(replace(ASKED, **changes)) == pytest.approx(doublings)
    if set(changes) == {"num_gpus"}:  # memory is that of one GPU
        assert known("memory").distance(replace(ASKED, **changes)) == 0.0
    assert known(reach=[]).distance(replace(ASKED, **changes)) == 0.0


WORDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("step_time", {}, "7 measured runs of fsdp and frameworks based on it, on h100 GPUs; 3 of them of fsdp itself; "
     "2 of this model", "fitted"),
    ("step_time", {"framework": "fsdp2"}, "7 measured runs of fsdp and frameworks based on it, on h100 GPUs; none of them of "
     "fsdp2 itself; 2 of this model", "fitted"),
    ("step_time", {"curves": "a100", "model": "b"}, "one measured run of fsdp on a100 GPUs; none of this model", "fitted"),
    ("step_time", {"curves": "a100", "framework": "y"}, "one measured run of fsdp and frameworks based on it, on a100 GPUs; "
     "none of them of y itself; none of this model", "fitted"),
    ("step_time", {"curves": "h200"}, "7 measured runs of fsdp and frameworks based on it, on h100 GPUs; 3 of them of fsdp "
     "itself; 2 of this model", "fitted"),
    ("step_time", {"curves": "volta", "generation": "Volta"}, "8 measured runs of fsdp and frameworks based on it; none of them "
     "on volta GPUs; 2 of this model", "extrapolated"),
    ("step_time", {"framework": "x", "root": "x", "num_gpus": 2, "parameters": 4e9}, "no runs of x were measured; "
     "100 of other frameworks", "extrapolated"),
    ("step_time", {"parameters": 32e9, "num_gpus": 65, "curves": "a100", "model": "b"}, "one measured run of fsdp on a100 GPUs; "
     "none of this model; 65 GPUs, at most 64 were measured; 32B parameters, at most 16B were measured", "fitted"),
    ("step_time", {"num_gpus": 256, "curves": "a100", "model": "b"}, "one measured run of fsdp on a100 GPUs; none of this model; "
     "256 GPUs, at most 64 were measured", "fitted"),  # two doublings
    ("step_time", {"num_gpus": 260, "curves": "a100", "model": "b"}, "one measured run of fsdp on a100 GPUs; none of this model; "
     "260 GPUs, at most 64 were measured", "extrapolated"),
    ("memory", {"parameters": 0.5e9, "num_gpus": 65, "curves": "a100", "model": "b"}, "one measured run of fsdp on a100 GPUs; "
     "none of this model; 0.5B parameters, at least 1B were measured", "fitted"),
    ("decode", {"root": "mlc", "framework": "mlc", "num_gpus": 2, "parameters": 4e9}, "nothing was measured of mlc",
     "extrapolated"),
    ("decode", {"curves": "volta"}, "8 measurements of fsdp; none of them on volta GPUs; 2 of this model", "fitted"),
    ("decode", {}, "7 measurements of fsdp on h100 GPUs; 2 of this model", "fitted"),
    ("decode", {"framework": "torchtitan"}, "7 measurements of fsdp on h100 GPUs; 4 of them of torchtitan; 2 of this model",
     "fitted"),
    ("decode", {"framework": "z"}, "7 measurements of fsdp on h100 GPUs; none of them of z, but of other releases; "
     "2 of this model", "fitted"),
    ("decode", {"curves": "a100", "framework": "z", "model": "b"}, "one measurement of fsdp on a100 GPUs; none of them of z, but "
     "of other releases; none of this model", "fitted"),
]  # fmt: skip


@pytest.mark.parametrize(("metric", "changes", "words", "provenance"), WORDS)
def test_an_answer_says_what_was_measured_like_it(metric: str, changes: dict[str, Any], words: str, provenance: str) -> None:
    found = known(metric).standing(replace(ASKED, **changes))
    assert str(found.why).partition("; moved")[0] == words
    assert found.provenance == provenance


def test_one_measurement_is_no_plural() -> None:
    only = known("step_time").measured[2:]
    one, served = (replace(known(metric), measured=only) for metric in ("step_time", "decode"))
    assert str(one.standing(ASKED).why).startswith(
        "one measured run of fsdp and frameworks based on it; none of them on h100 GPUs"
    )
    assert str(served.standing(ASKED).why).startswith("one measurement of fsdp; none of them on h100 GPUs")


@pytest.mark.parametrize(("mean", "words"), [(0.03, "up by 3%"), (-0.03, "down by 3%"), (0.0299, ""), (-0.0299, "")])
def test_a_bias_is_told_from_three_percent(mean: float, words: str) -> None:
    effects = [{"group": ["all"], "mean": mean, "covariance": [0.0]}]
    assert str(known(effect=effects).standing(ASKED).why).partition("moved ")[2].partition(":")[0] == words


def test_the_subject_of_a_question_by_hand() -> None:
    """Llama 3 8B on two nodes of eight GPUs: 2 x 8,192 tokens by 4,096 x 4,096 / tp are 8 / 2 typical multiplications."""
    job = Job(seq_len=8192, global_batch_size=64)
    question = Question(load_model("llama-3-8b"), gpus(16), load_framework("megatron-core"), job)
    s = Subject.of(question, Layout(tp=2, pp=2, micro_batch_size=2))
    assert (s.framework, s.curves, s.family, s.num_nodes, s.num_gpus) == ("megatron-core", "a100", "dense", 2, 16)
    assert (s.generation, s.die, s.precision, s.job, s.model) == ("test", "other", "bf16", "full", "32x4096x32x128256")
    assert s.parameters == 8_030_261_248
    assert s.kernel == pytest.approx(-1.0)
    assert isinstance(s.kernel, float)
    mixture = Subject.of(replace(question, model=load_model("mixtral-8x7b")), Layout())
    assert (mixture.family, mixture.model.rpartition("x")[2]) == ("moe", "8")
    assert s.coordinates == pytest.approx((1.0, 1.0, 0.0, 0.0, 1.0, 13.0, 4.0, math.log2(8_030_261_248)))


def test_what_moves_of_a_peak_is_what_is_no_model_state() -> None:
    """A peak of 4 of which 1 are states; half of a peak counts as typical: hypot(0.3, 0.75) / hypot(0.3, 0.5) = 1.385."""
    assert movable_part(np.array([1.0, 4.0, 5.0]), 4.0) == pytest.approx([0.75, 0.0, 0.0])
    assert lever(0.75) == pytest.approx(math.sqrt((0.09 + 0.5625) / (0.09 + 0.25)))
    assert lever(0.5) == 1.0
    assert (die("GB100 GB110"), die("TU102"), die("GFX942 CDNA")) == ("compute", "graphics", "other")
