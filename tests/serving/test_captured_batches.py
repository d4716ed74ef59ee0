"""Batches without a CUDA graph are launched kernel by kernel (TensorRT-LLM, cuda_graph_config.batch_sizes without padding)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from planner.common.errors import PlannerError
from planner.serving import Deployment, serve
from planner.serving.batching import Server, simulate
from planner.serving.requests import Requests

H100 = {"node": "dgx-h100", "num_gpus": 8}
POWERS = [1, 2, 4, 8, 16, 32, 64]


def asked(**fields: Any) -> Deployment:
    """Qwen3-32B in fp8 on eight H100: a step takes less on the device than its launches."""
    given = {"engine": "tensorrt-llm", "weights": "fp8", "tp": 8, "prompt": 1024, "output": 128, **fields}
    return serve(model="qwen3-32b", cluster=H100, serving=given)


def test_a_batch_without_a_graph_takes_as_long_as_its_launches() -> None:
    """0.4 ms a layer over 64 layers, and what the host does for the step."""
    engine = asked(batch=3).engine
    host = engine.host_s_per_step + 3 * engine.host_s_per_sequence
    assert asked(batch=3, captured_batches=POWERS).tpot_s == pytest.approx(64 * engine.launch_s_per_layer + host)
    assert asked(batch=4, captured_batches=POWERS).tpot_s == asked(batch=4).tpot_s


def test_a_loop_loses_nothing_where_every_batch_has_a_graph() -> None:
    padded, each, powers = (asked(clients=16, captured_batches=batches).load for batches in ([], list(range(1, 17)), POWERS))
    assert padded is not None
    assert each is not None
    assert powers is not None
    assert each.tpot_s == padded.tpot_s
    assert powers.tpot_s["p50"] > padded.tpot_s["p50"]  # type: ignore[index]


def test_a_step_takes_no_less_than_its_launches() -> None:
    """Answers of 5, 4 and 2 tokens: one step of three sequences, 3 ms; two of two, launched in 10; one of one, 1 ms."""
    server = Server(
        step_s=np.array([0.0, 1e-3, 2e-3, 3e-3]),
        token_s=np.zeros(4),
        pass_s=0.0,
        slots=3,
        cache_tokens=1e9,
        least_s=np.array([0.0, 0.0, 10e-3, 0.0]),
    )
    requests = Requests(arrivals_s=np.zeros(3), prompts=np.ones(3), outputs=np.array([5.0, 4.0, 2.0]))
    found = simulate(server, requests, np.zeros(3))
    assert found.done_s.tolist() == pytest.approx([3e-3 + 2 * 10e-3 + 1e-3, 3e-3 + 2 * 10e-3, 3e-3])


@pytest.mark.parametrize("draft", [None, "llama-3.2-1b"])
@pytest.mark.parametrize("captured", [(1,), (2,), (1, 2, 4, 8, 16)])
def test_a_loop_is_no_faster_than_its_step(draft: str | None, captured: tuple[int, ...]) -> None:
    """Seconds of a token, in the simulation as by the formula: with proposals a round yields several. Alone, nothing is added."""
    spec = {"tokens": 4, "acceptance": 0.8, "draft": draft}
    for clients in (1, 16):
        fields = {"engine": "sglang", "prompt": 256, "output": 256, "speculative": spec, "captured_batches": captured}
        d = serve(model="llama-3.1-8b", cluster="h100", serving={**fields, "clients": clients, "batch": clients})
        assert d.load is not None
        assert d.load.tpot_s is not None
        assert d.tpot_s is not None
        assert d.load.tpot_s["mean"] >= d.tpot_s * (1.0 - 1e-3)
        if clients == 1:
            assert d.load.tpot_s["mean"] == pytest.approx(d.tpot_s, rel=1e-3)


@pytest.mark.parametrize("fields", [
    {"pp": 2}, {"speculative": {"tokens": 4, "acceptance": 0.8}},
    {"speculative": {"tokens": 2, "acceptance": 0.7, "draft": "llama-3.2-1b"}},
])  # fmt: skip
def test_what_a_step_takes_at_least_is_part_of_what_it_takes(fields: dict[str, Any]) -> None:
    """A stage of a pipeline launches for its part of the batch; the host counts each sequence."""
    gpus = fields.get("pp", 1)
    given = {"engine": "sglang", "prompt": 256, "output": 256, "captured_batches": [4, 8], "batch": 16, **fields}
    times = serve(model="llama-3.1-8b", cluster={"node": "dgx-h100", "num_gpus": gpus}, serving=given).times
    batches = np.arange(1.0, 33.0)
    least, seconds = times.least_s(batches, 384.0), times.decode_s(batches, 384.0)
    assert (least <= seconds * (1.0 + 1e-9)).all()
    assert (least[[4 * gpus - 1, 8 * gpus - 1]] == 0.0).all()
    assert least[6 * gpus - 1] == pytest.approx(seconds[6 * gpus - 1])  # bound by its launches


def test_a_step_that_grows_beyond_its_launches_takes_what_the_device_takes() -> None:
    """1 ms a token of the cache, launched in 3.5 ms: of 2, 3, 4 and 5 ms two take as long as their launches."""
    server = Server(
        step_s=np.zeros(2), token_s=np.array([0.0, 1e-3]), pass_s=0.0, slots=1, cache_tokens=1e9, least_s=np.array([0.0, 3.5e-3])
    )
    requests = Requests(arrivals_s=np.zeros(1), prompts=np.ones(1), outputs=np.array([5.0]))
    assert simulate(server, requests, np.zeros(1)).done_s.tolist() == pytest.approx([(3.5 + 3.5 + 4.0 + 5.0) * 1e-3])


def test_what_launching_takes_must_be_known() -> None:
    with pytest.raises(PlannerError, match="what vllm-v1 takes to launch other batches is not known"):
        asked(engine="vllm", captured_batches=POWERS)
