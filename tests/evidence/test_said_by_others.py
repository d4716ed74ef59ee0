"""What the model of errors says of runs whose part it never saw."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from planner.evidence.held_out import COORDINATES, Held, fit_held, said_by_others
from planner.evidence.serving.study import FEWEST, unseen_ratio

SOURCES, MODELS, RUNS = 10, 3, 4


@pytest.fixture(scope="module")
def held() -> Held:
    """Runs of ten sources on one GPU, of three models each; sources differ by 0.1, models by 0.05, runs by 0.05."""
    rng = np.random.default_rng(7)
    rows = []
    for s in range(SOURCES):
        of_source = rng.normal(0.0, 0.1)
        for m in range(MODELS):
            of_model = of_source + rng.normal(0.0, 0.05)
            for _ in range(RUNS):
                error = of_model + rng.normal(0.0, 0.05)
                fields = {
                    "metric": "decode", "id": f"{len(rows)}", "source": f"s{s}", "framework": "vllm-v1", "curves": "h100",
                    "family": "dense", "num_nodes": 1, "num_gpus": 1, "parameters": 7e9, "root": "vllm", "generation": "Hopper",
                    "die": "compute", "precision": "16", "job": "one GPU", "model": f"m{m}", "figure": "decode", "kernel": 0.0,
                    "movable": 0.5, "incomplete": 0.0, "residual": error, "in_sample": error,
                }  # fmt: skip
                rows.append({**fields, **dict.fromkeys(COORDINATES, 0.0)})
    return fit_held(pd.DataFrame(rows), "decode")


def test_parts_that_are_sources_say_what_sources_left_out_do(held: Held) -> None:
    source = held.frame["source"].to_numpy()
    parts = [np.flatnonzero(source == name).tolist() for name in np.unique(source)]
    mean, deviation = said_by_others(held, parts)
    assert mean == pytest.approx(held.mean, abs=1e-9)
    assert deviation == pytest.approx(held.deviation, rel=1e-4)  # the scale is stored to four digits


def test_a_run_is_judged_by_what_the_others_tell_alone(held: Held) -> None:
    """One part moved far away: what is said of its own runs stays, what is said of the others moves."""
    first = np.flatnonzero((held.frame["source"] == "s0").to_numpy())
    parts = [first.tolist(), np.setdiff1d(np.arange(len(held.frame)), first).tolist()]
    before, _ = said_by_others(held, parts)
    moved = held.frame.assign(in_sample=held.frame["in_sample"] + np.where(held.frame["source"] == "s0", 1.0, 0.0))
    after, _ = said_by_others(Held(**{**vars(held), "frame": moved}), parts)
    assert after[first] == pytest.approx(before[first], abs=1e-12)
    assert np.all(np.abs(after[parts[1]] - before[parts[1]]) > 0.01)


def test_how_much_more_a_release_errs_that_nobody_else_measured_by_hand() -> None:
    """Twice and half as much: no more in the mean. What two sources measured does not count, nor what was measured few times."""
    runs = {"twice": (0.2, 0.1), "eightfold": (0.4, 0.05), "half": (0.1, 0.2), "shared": (0.9, 0.1), "few": (0.9, 0.1)}

    def told(*names: str) -> tuple[tuple[str, ...], float]:
        rows = [(name, f"{name} {i % 2 if name == 'shared' else 0}") for name in names for i in range(FEWEST - (name == "few"))]
        signs = np.where(np.arange(len(rows)) % 3, 1.0, -1.0)
        columns = {"framework": np.array([name for name, _ in rows]), "source": np.array([source for _, source in rows])}
        found = unseen_ratio("decode", columns, *(signs * np.array([runs[name][k] for name, _ in rows]) for k in (0, 1)))
        return found.releases, found.ratio

    assert told("twice", "shared", "few") == (("twice",), pytest.approx(2.0))
    assert told("half", "twice") == (("half", "twice"), pytest.approx(1.0))
    assert told("eightfold", "twice") == (("eightfold", "twice"), pytest.approx(4.0))
    releases, ratio = told("shared", "few")
    assert releases == ()
    assert np.isnan(ratio)
