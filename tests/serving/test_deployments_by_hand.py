"""Bytes of a token and kinds of kernels, counted by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from serving_examples import LLAMA, chips, deployment, model, serving_times

from planner.common.errors import PlannerError
from planner.hardware.cluster import cluster
from planner.serving import closed_loop
from planner.serving.closed_loop import _seconds, loop_figures, near_figures, throughput
from planner.serving.deploy import answer
from planner.serving.intervals import figure_of
from planner.serving.nearest import _cuts, _wider
from planner.serving.weight_formats import GROUPED, part_of, weight_format
from planner.workload.resolve import as_model


@pytest.mark.parametrize("name", sorted(GROUPED))
def test_kernels_of_a_grouped_format_are_those_of_its_bits(name: str) -> None:
    found = weight_format(name)
    assert found.family == found.bits == GROUPED[name][0]


def test_bytes_of_a_token_are_those_of_the_blocks_that_a_request_fills() -> None:
    """4 layers, keys and values of 4 heads of 64, 2 bytes: 4,096 bytes a token. Behind a window of 128 of 320 tokens no more is
    kept than the window and a block at either end."""
    plain, window = (
        answer(serving_times(model({**LLAMA, **more}), prompt=256, output=64), None) for more in ({}, {"sliding_window": 128})
    )
    assert plain.kv_bytes_per_token == 4 * 2 * 4 * 64 * 2
    assert plain.kv_bytes_per_sequence == 320 * plain.kv_bytes_per_token
    assert 128 <= window.kv_bytes_per_token * 320 / plain.kv_bytes_per_token <= 128 + 2 * plain.times.setting.block_size


@pytest.mark.parametrize(
    ("metric", "batch", "loaded", "figure"),
    [
        ("prefill", None, False, "prefill"), ("prefill", 8, True, "loop_first"), ("decode", None, False, "decode"),
        ("decode", 1, False, "decode"), ("decode", 2, False, "batched"), ("decode", 8, True, "loop_token"),
        ("decode", 1, True, "loop_token"), ("throughput", 8, False, "saturated"), ("throughput", 8, True, "saturated"),
    ],
)  # fmt: skip
def test_the_measured_figure_that_tells_of_what_is_asked(metric: Any, batch: int | None, loaded: bool, figure: str) -> None:
    assert figure_of(metric, batch, loaded) == figure


def test_wider_cuts_of_eight_gpus() -> None:
    """Over matrices first, each degree that divides the GPUs, replicas over the rest; then over layers."""
    plain = deployment(model(LLAMA), 8, on=chips(8), dp=8).serving
    assert list(_wider(plain, 8)) == [{"tp": 2, "dp": 4}, {"tp": 4, "dp": 2}, {"tp": 8, "dp": 1}]
    assert list(_cuts(plain, 8))[3:] == [{"pp": 2, "dp": 4}, {"pp": 4, "dp": 2}, {"pp": 8, "dp": 1}]
    two = deployment(model(LLAMA), 8, on=chips(8), tp=2, pp=2, dp=2).serving
    assert list(_cuts(two, 8)) == [{"tp": 4, "dp": 1}, {"pp": 4, "dp": 1}]


@pytest.mark.parametrize(
    ("tensor", "part"),
    [
        ("embedding.words", "embedding"), ("head.words", "head"), ("router.weight", "router"),
        ("attention.qkv.weight", "attention"),
        ("cross.query.weight", "attention"), ("ffn.in.weight", "ffn"), ("shared.in.weight", "shared"),
        ("experts.in.weight", "experts"), ("mixer.in.weight", "attention"), ("latent.in.weight", "shared"),
        ("attention.q_norm.weight", None), ("attention.qkv.bias", None), ("norms.weight", None),
    ],
)  # fmt: skip
def test_the_part_of_the_model_that_a_matrix_belongs_to(tensor: str, part: str | None) -> None:
    assert part_of(tensor) == part


def replica(times: float, front: float) -> Any:
    """One whose passes take ``times`` as long: 0.5 s each, 2 s for a prompt of 100 tokens, 0.25 s shared; decoding by table."""
    server = SimpleNamespace(
        pass_s=0.5 * times, step_s=times * np.array([1.0, 2.0, 4.0]), token_s=times * np.array([0.125, 0.25, 0.5])
    )
    return SimpleNamespace(
        server=server,
        times=SimpleNamespace(setting=SimpleNamespace(engine=front)),
        work_s=lambda prompts: times * prompts / 50.0,
        shared_s=lambda prompts: times * np.full(len(prompts), 0.25),
    )


REQUESTS: Any = SimpleNamespace(prompts=np.array([100.0, 300.0]), outputs=np.array([3.0, 1.0]))
FOUND: Any = SimpleNamespace(
    arrived_s=np.array([1.0, 2.0]), first_s=np.array([4.0, 9.0]), done_s=np.array([10.0, 9.0]), passes=3.0,
    steps=np.array([5.0, 7.0]), step_tokens=np.array([8.0, 16.0]), end_s=10.0,
)  # fmt: skip


def test_seconds_of_a_schedule_by_hand() -> None:
    """Prompts 2 + 6 s and twice 0.25 shared; 5 x 1 + 7 x 2 and 8 / 8 + 16 / 4 s of decoding; three passes of 0.5 s, or two."""
    assert _seconds(replica(1.0, 0.0), REQUESTS, FOUND) == (19.0 + 5.0 + 1.5 + 8.5, 8.5 + 1.0)


def test_figures_of_a_loop_by_hand_and_of_one_twice_as_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several tokens only the first request has any: (10 - 4) / 2 s. First tokens after 3 and 7 s, and the front's 0.5."""
    monkeypatch.setattr(closed_loop, "server_s", lambda engine, prompts: np.full(len(prompts), engine))
    one, slow = replica(1.0, 0.5), replica(2.0, 0.75)
    assert loop_figures(one, REQUESTS, FOUND) == (3.0, 5.5)
    assert near_figures(one, one, REQUESTS, FOUND) == (3.0, 5.5)
    assert near_figures(one, slow, REQUESTS, FOUND) == (6.0, 2 * 5.0 + 0.75)


def test_throughput_between_the_first_round_and_the_last_arrival() -> None:
    """Two clients: answers at 1 to 6 s, the last asked for at 5.25 s, 0.25 s after its answer: three in 5 - 2 s. Fewer than the
    clients in between: all answers over the whole time."""
    arrived = np.array([0.0, 0.0, 1.25, 2.25, 3.25, 5.25])
    found: Any = SimpleNamespace(done_s=np.array([2.0, 1.0, 3.0, 4.0, 5.0, 6.0]), arrived_s=arrived, end_s=8.0)
    assert throughput(found, 2, 0.25) == pytest.approx(3 / (5.0 - 2.0))
    short: Any = SimpleNamespace(done_s=found.done_s, arrived_s=arrived[:4], end_s=8.0)
    assert throughput(short, 2, 0.25) == 6 / 8.0


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("nf4", 4 + 8 / 64 + 32 / (64 * 256)),  # Dettmers et al. 2023, section 3: double quantization takes 0.127 bit a parameter
        ("mxfp4", 4.25),  # OCP Microscaling Formats 1.0: 8 bits for 32 numbers
        ("nvfp4", 4.5),  # 8 bits for 16 numbers
        ("q8_0", 8.5),  # ggml-common.h: 34 bytes for 32 weights
        ("int4-awq", 4 + (16 + 4) / 128),  # Lin et al. 2023: groups of 128, a 16-bit scale and a zero of 4 bits
        ("fp8-block", 8 + 32 / (128 * 128)),  # DeepSeek-V3, section 3.3: an fp32 scale for 128 x 128 weights
        ("int4-gptq", 4 + (16 + 4) / 128),
        ("bf16", 16.0),
    ],
)
def test_published_bits_of_a_weight(name: str, bits: float) -> None:
    assert weight_format(name).bits_per_weight == pytest.approx(bits, rel=1e-12)


def test_a_cut_that_the_state_s_heads_do_not_allow_names_those_that_they_do() -> None:
    """Nemotron 3 Super: 32 heads of attention, but a state of 128 heads of values in 8 groups of keys."""
    with pytest.raises(PlannerError, match=r"128 of values and 8 of keys; use one of \[1, 2, 4, 8\]"):
        deployment(as_model("nemotron-3-super-120b-a12b"), 16, tp=16, on=cluster("dgx-h100", num_gpus=16))
