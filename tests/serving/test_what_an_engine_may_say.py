"""Numbers of engines, deployments and runs: what nobody states costs nothing, and no bound lets through what cannot be."""

from __future__ import annotations

import re
from typing import Any

import annotated_types
import pytest

from planner.common.spec import Spec
from planner.lifecycle.spec import Run
from planner.serving.engine import Engine
from planner.serving.spec import Serving

PARTS = re.compile(r".*_(share|fraction|probability|hit_rate)|reserved_output|expert_offload|straggler_jitter")
TIMES_AS_LONG = re.compile(r".*_slowdown")
DRAWS = re.compile(r"num_(requests|simulations)")
ASSUMED = {"int4_bandwidth_rate", "int8_bandwidth_rate", "expanding_compute_rate", "mxfp4_compute_rate"}
"""Below 1 where an engine says nothing: kernels that unpack or expand weights reach less than those of 16 bit."""
BYTES = {"communicator_bytes", "logits_bytes"}
COSTS = re.compile(r".*_s|.*_s_per_\w+|.*launches_per_layer|reserved_bytes\w*|least_reserved_bytes|score_passes|graph_sequences")


def numbers(kind: type[Spec]) -> list[tuple[str, Any, dict[str, float]]]:
    """(name, default, bounds) of each field that is a number."""
    found = []
    for name, field in kind.model_fields.items():
        if field.annotation not in (int, float):
            continue
        bounds: dict[str, float] = {}
        for one in field.metadata:
            for what in ("ge", "gt", "le", "lt"):
                if isinstance(one, getattr(annotated_types, what.capitalize())):
                    bounds[what] = getattr(one, what)
        found.append((name, None if field.is_required() else field.default, bounds))
    return found


@pytest.mark.parametrize("kind", [Engine, Serving, Run])
def test_bounds_are_those_of_what_can_be(kind: type[Spec]) -> None:
    """Nothing below 0, no part above 1, nothing that slows below 1; what is taken unless told lies within."""
    for name, default, bounds in numbers(kind):
        least = 1 if TIMES_AS_LONG.fullmatch(name) else 100 if DRAWS.fullmatch(name) else 0
        assert bounds.get("ge", bounds.get("gt")) == least, name
        most = bounds.get("le", bounds.get("lt"))
        if PARTS.fullmatch(name):
            assert most == 1, name
        if default is not None:
            assert default >= bounds.get("ge", default), name
            assert default > bounds.get("gt", default - 1), name
            assert default <= bounds.get("le", default), name
            assert default < bounds.get("lt", default + 1), name


def test_an_engine_that_says_nothing_is_as_fast_as_the_gpu_and_has_no_costs_of_its_own() -> None:
    for name, default, _ in numbers(Engine):
        if default is None or name in BYTES:
            continue
        if name in ASSUMED:
            assert 0.0 < default < 1.0, name
        elif name.endswith("_rate"):
            assert default == 1.0, name
        elif COSTS.fullmatch(name) and not name.endswith("bytes_per_s"):
            assert default == 0.0, name
