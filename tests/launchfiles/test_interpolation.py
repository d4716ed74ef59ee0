"""References within YAML files, as OmegaConf resolves them."""

from __future__ import annotations

from typing import Any

import pytest

from planner.launchfiles.interpolation import interpolated


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("${a}", 4),
        ("${model.hidden}", 512),
        ("${training.model.hidden}", 512),  # the file is a part of a larger configuration
        ("${.hidden}", 512),
        ("${..a}", 4),
        ("${multiply:4, ${.hidden}}", 2048),
        ("${multiply:${a},2}", 8),
        ("${divide:${model.hidden},${a}}", 128),
        ("${oc.env:HOME,7}", "7"),
        ("run-${a}-${model.hidden}", "run-4-512"),
        ("${model}", "${model}"),
        ("${nothing.there}", "${nothing.there}"),
        ("${divide:1,0}", "${divide:1,0}"),
        ("${multiply:x,2}", "${multiply:x,2}"),
        ("${.own}", "${.own}"),
    ],
)
def test_references(written: str, meant: Any) -> None:
    found = interpolated({"a": 4, "model": {"hidden": 512, "own": written}})
    assert found["model"]["own"] == meant


def test_references_to_each_other_come_to_an_end() -> None:
    assert interpolated({"a": "${b}", "b": "${a}"}) == {"a": "${b}", "b": "${a}"}
    assert len(str(interpolated({"a": "${b}${b}", "b": "x${a}"}))) < 10_000
