"""Numbers of engines, deployments and runs: what nobody states costs nothing, and no bound lets through what cannot be."""

from __future__ import annotations

import re
from typing import Any

import annotated_types
import pytest
from field_bounds import ranges

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


UP_TO = (
    (re.compile("expert_compute_rate"), "(0, 8]"), (re.compile("kernel_latency_rate"), "[0, 4]"),
    (re.compile("collective_rate"), "(0, 20]"), (re.compile(".*_host_rate"), "(0, 10]"), (re.compile(".*_rate"), "(0, 2]"),
    (re.compile("memory_fraction"), "(0, 1]"), (re.compile("reserved_output"), "[0, 1]"),
    (re.compile("(max|captured)_batch|captured_context|prefill_(tokens|copies)|block_size|.*sm_bytes_per_s"), "(0, inf)"),
    (re.compile(".*"), "[0, inf)"),
)  # fmt: skip
"""What rates and parts may be: kernels reach at most twice what was measured of the GPU's, grouped ones eight times."""
ASKED = (
    (re.compile("(prefix|response)_cache_hit_rate"), "[0, 1)"), (re.compile("memory_fraction"), "(0, 1]"),
    (re.compile("prefill_wait_share|expert_offload"), "[0, 1]"), (re.compile("expert_load"), "[1, inf)"),
    (re.compile("expert_zipf"), "[0, 4]"), (re.compile("bits_per_weight"), "(0, 16]"), (re.compile("images"), "[0, 10000]"),
    (re.compile("image_patches"), "[0, 1000000]"), (re.compile("prefill_wait_steps"), "[0, 10000]"),
    (re.compile("redundant_experts"), "[0, 65536]"), (re.compile("num_requests"), "[100, 5000000]"),
    (re.compile("response_cache_s|seed"), "[0, inf)"), (re.compile(".*"), "(0, inf)"),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "kinds"), [(Engine, UP_TO), (Serving, ASKED)])
def test_every_number_lies_where_one_of_its_kind_can(kind: type[Spec], kinds: tuple[tuple[re.Pattern[str], str], ...]) -> None:
    for name, found in ranges(kind).items():
        assert found == next(of for pattern, of in kinds if pattern.fullmatch(name)), name


def test_what_a_server_takes_where_nobody_says_it_is_vllms() -> None:
    """vLLM's documented defaults: 0.9 of the card, blocks of 16 tokens, 256 sequences; logits in 16 bit and in fp32. Nothing is
    cut, hidden, kept or asked for that is not said."""
    engine = Engine(name="x", features=frozenset(), host_s_per_step=0.0, context_bytes=0.0)
    assert (engine.memory_fraction, engine.block_size, engine.max_batch) == (0.9, 16, 256)
    assert engine.logits_bytes == 2.0 + 4.0
    assert (engine.captured_batch, engine.captured_context, engine.graph_sequences) == (None, None, 0)
    asked = Serving.build({"prompt": 8, "output": 8}, "serving")
    assert {asked.tp, asked.pp, asked.ep, asked.dp, asked.batch} == {1}
    nothing = ("images", "image_patches", "prefix_cache_hit_rate", "response_cache_hit_rate", "prefill_wait_steps",
               "prefill_wait_share", "expert_offload", "expert_zipf", "redundant_experts", "seed")  # fmt: skip
    assert {getattr(asked, name) for name in nothing} == {0}
    assert asked.captured_batches == ()


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
