"""Numbers of engines, deployments and runs: what nobody states costs nothing, and no bound lets through what cannot be."""

from __future__ import annotations

import re
from typing import Any

import pytest
from field_bounds import check_bounds

from planner.common.errors import PlannerError
from planner.common.spec import Spec
from planner.hardware.cluster import load_accelerator
from planner.serving.engine import Engine, OnCard, memory_fraction
from planner.serving.memory import GATED_TENSORS
from planner.serving.spec import Lengths, PrefillPool, Serving, Speculative

ASSUMED = {"int4_bandwidth_rate", "int8_bandwidth_rate", "expanding_compute_rate", "mxfp4_compute_rate"}
"""Below 1 where an engine says nothing: kernels that unpack or expand weights reach less than those of 16 bit."""
BYTES = {"communicator_bytes", "logits_bytes"}
COSTS = re.compile(r".*_s|.*_s_per_\w+|.*launches_per_layer|reserved_bytes\w*|least_reserved_bytes|score_passes|graph_sequences")


@pytest.mark.parametrize("kind", [Engine, OnCard, Serving, PrefillPool, Speculative, Lengths])
def test_bounds_are_those_of_what_can_be(kind: type[Spec]) -> None:
    check_bounds(kind)


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
    for name, field in Engine.model_fields.items():
        default = field.default
        if field.annotation not in (int, float) or field.is_required() or name in BYTES:
            continue
        if name in ASSUMED:
            assert 0.0 < default < 1.0, name
        elif name.endswith("_rate"):
            assert default == 1.0, name
        elif COSTS.fullmatch(name) and not name.endswith("bytes_per_s"):
            assert default == 0.0, name


def test_what_an_engine_does_unless_it_says_otherwise() -> None:
    """Kernels fused, stages at work together, prompts cut; nothing that only some engines do. The live tensors of
    a gated feed-forward are those of its activation."""
    engine = Engine(name="x", features=frozenset(), host_s_per_step=0.0, context_bytes=0.0)
    usual = {"fused_kernels", "fused_experts", "custom_all_reduce", "pipelined", "splits_prompts"}
    flags = {name for name, field in Engine.model_fields.items() if field.annotation is bool}
    assert {name for name in flags if getattr(engine, name)} == usual
    assert engine.workspace_ffn == GATED_TENSORS
    assert engine.prefill_chunk == 0
    assert OnCard().from_ranks == 1
    assert engine.reserved_output == 1.0  # all of it: nobody is preempted
    assert min(engine.sm_bytes_per_s, engine.expanding_sm_bytes_per_s) > 8e12  # more than all memory of any card
    for version, known in ((1, True), (2, True), (3, True), (4, False), (0, False)):
        try:
            engine.replaced(flash_attention=version)
        except PlannerError:
            assert not known
        else:
            assert known


def test_what_a_server_leaves_free_of_a_card_by_hand() -> None:
    """Of 80 GiB: 1 GiB, 2 MiB for each of 256 sequences of the widest graph, and 3 for each and group where there are four, half
    as much again above 300; 0.25 MiB a token of a pass, and 100 MiB a GPU; at least 10 GiB where that is more."""
    card, gib = load_accelerator("a100-sxm4-80gb"), 2.0**30
    engine = Engine(name="x", features=frozenset(), host_s_per_step=0.0, context_bytes=0.0).model_copy(
        update={
            "reserved_bytes": gib, "graph_sequences": 256, "reserved_bytes_per_graph_sequence": 2.0 * 2**20,
            "reserved_bytes_per_group_sequence": 3.0 * 2**20, "reserved_bytes_per_token": 0.25 * 2**20,
            "reserved_bytes_per_gpu": 100.0 * 2**20, "prefill_tokens": 4096,
        }
    )  # fmt: skip

    def left(changes: dict[str, Any] | None = None, **fields: Any) -> float:
        spec = Serving.build({"prompt": 8, "output": 8, **fields}, "serving")
        return (1.0 - memory_fraction(engine.model_copy(update=changes or {}), spec, card)) * card.memory_bytes / 2**20

    near = card.memory_bytes / 2**20 * 0.00051
    alone = 1024 + 512 + 1024 + 100
    assert left() == pytest.approx(alone, abs=near)
    assert left(chunked_prefill_tokens=1024) == pytest.approx(alone - 768, abs=near)
    assert left(ep=4) == pytest.approx(alone + 3 * 256 * 4 + 300, abs=near)
    assert left({"graph_sequences": 301}, ep=4) == pytest.approx(alone + 2 * 45 + 1.5 * 3 * 301 * 4 + 300, abs=near)
    assert left({"graph_sequences": 300}, ep=4) == pytest.approx(alone + 2 * 44 + 3 * 300 * 4 + 300, abs=near)
    assert left({"limits_of_all_groups": True}, ep=4, pass_tokens=1024) == pytest.approx(alone + 3372, abs=near)
    assert left({"least_reserved_bytes": 10 * gib}) == pytest.approx(10 * 1024, abs=near)
    assert left(memory_fraction=0.5) == pytest.approx(0.5 * card.memory_bytes / 2**20)
    assert left({"reserved_bytes": 0.0, "memory_fraction": 0.75}) == pytest.approx(0.25 * card.memory_bytes / 2**20)
    assert left({"reserved_bytes": 1e15}) == pytest.approx(card.memory_bytes / 2**20)
