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
        ("${training.model.hidden}", 512),  # the file lies in the folder training of a larger configuration
        ("${.hidden}", 512),
        ("${..a}", 4),
        ("${multiply:4, ${.hidden}}", 2048),
        ("${multiply:${a},2}", 8),
        ("${divide_floor:${model.hidden},${a}}", 128),
        ("${divide_ceil:${model.hidden},3}", 171),
        ("${divide_floor:${model.hidden},3}", 170),
        ("${sum:1,2}", "${sum:1,2}"),  # a resolver that no tool registers
        ("${model.a}", "${model.a}"),  # the table has such a key: it is not the name of a folder
        ("${other.model.hidden}", "${other.model.hidden}"),
        ("${oc.env:HOME,7}", "7"),
        ("run-${a}-${model.hidden}", "run-4-512"),
        ("${model}", "${model}"),
        ("${nothing.there}", "${nothing.there}"),
        ("${divide_ceil:1,0}", "${divide_ceil:1,0}"),
        ("${multiply:x,2}", "${multiply:x,2}"),
        ("${.own}", "${.own}"),
    ],
)
def test_references(written: str, meant: Any) -> None:
    found = interpolated({"a": 4, "model": {"hidden": 512, "own": written}}, within=("training", "model"))
    assert found["model"]["own"] == meant


def test_references_to_each_other_come_to_an_end() -> None:
    assert interpolated({"a": "${b}", "b": "${a}"}) == {"a": "${b}", "b": "${a}"}
    assert len(str(interpolated({"a": "${b}${b}", "b": "x${a}"}))) < 10_000
