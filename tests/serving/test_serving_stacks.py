"""Encoder-decoders that serve: cache bytes and flops by hand, and what they cannot have."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from serving_examples import serving_times

import planner
from planner.common.errors import PlannerError
from planner.model.huggingface import model_from_config
from planner.serving.engine import engine_names, load_engine
from planner.serving.kv_cache import replica_sequence_bytes
from planner.serving.pass_time import Times
from planner.serving.rows import pass_rows
from planner.studies.sizing import sizes

SIZES = {
    "d_model": 512, "num_layers": 4, "num_decoder_layers": 6, "num_heads": 8, "d_kv": 32, "d_ff": 1024, "vocab_size": 1000,
    "feed_forward_proj": "gated-gelu",
}  # fmt: skip
T5 = model_from_config({"model_type": "t5", **SIZES}, "t5", "config.json")
PROMPT, BATCH = 384, 4


def times(engine: str = "tensorrt-llm-1") -> Times:
    return serving_times(T5, engine=engine, prompt=PROMPT, output=64, batch=BATCH)


def flops(phase: str, queries: float, past: float) -> float:
    """Of a pass."""
    made = times()
    rows = pass_rows(made.setting, made.shape(phase, BATCH, queries, past))  # type: ignore[arg-type]
    return float(sum(np.sum(row.flops) * row.repeats for row in rows))


def test_cache_is_that_of_the_source_and_of_the_decoders_tokens() -> None:
    """Keys and values of 8 heads of 32, 2 bytes each, in 6 decoder layers: of 384 source tokens and of 64 of the decoder."""
    assert replica_sequence_bytes(times().setting, PROMPT + 64) == 6 * 2 * 8 * 32 * 2 * (PROMPT + 64)


def test_flops_of_prefill_and_of_a_step_by_hand() -> None:
    h, q, f, words, s, t = 512, 256, 1024, 1000, BATCH * PROMPT, BATCH
    encoder = 4 * (2 * s * (4 * h * q + 3 * h * f) + 4 * s * PROMPT * q)
    projected = 6 * 2 * s * 2 * h * q
    own = 2 * t * (4 * h * q + 2 * h * q + 3 * h * f)

    def step(context: int) -> float:
        return 6 * (own + 4 * t * context * q) + 2 * t * h * words

    # the kernel counts the query itself among the keys that it sees, half a token on average
    assert flops("prefill", PROMPT, 0) == pytest.approx(encoder + projected + step(PROMPT + 1), rel=1e-9)
    assert flops("decode", 1, PROMPT + 9) == pytest.approx(step(PROMPT + 10), rel=1e-9)


def test_the_encoder_does_not_run_again() -> None:
    """Decoding reads the decoder's weights and not the encoder's."""
    made = times()
    rows = pass_rows(made.setting, made.shape("decode", 1, 1, PROMPT))
    weights = sum(float(row.work.k * row.work.n) * row.repeats for row in rows if hasattr(row.work, "k"))
    h, q, f = 512, 256, 1024
    assert weights == 6 * (4 * h * q + 2 * h * q + 3 * h * f) + h * 1000


def test_an_answer_says_what_nobody_measured() -> None:
    ask: dict[str, Any] = {"model": T5, "cluster": "1xh100"}
    answer = planner.serve(serving={"engine": "tensorrt-llm-1", "prompt": PROMPT, "output": 64, "batch": BATCH}, **ask)
    assert any("encoder-decoder" in note for note in answer.warnings)
    assert answer.fits


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"engine": "vllm-v1"}, "serving.engine = 'vllm-v1'"),
        ({"pp": 2}, "serving.pp"),
        ({"prefix_cache_hit_rate": 0.5}, "serving.prefix_cache_hit_rate"),
        ({"chunked_prefill_tokens": 512}, "serving.chunked_prefill_tokens"),
    ],
)
def test_what_it_cannot_have_is_named(changes: dict[str, Any], named: str) -> None:
    asked = {"engine": "tensorrt-llm-1", "prompt": PROMPT, "output": 64, "batch": BATCH, **changes}
    with pytest.raises(PlannerError, match=re.escape(named)) as caught:
        planner.serve(model=T5, cluster="2xh100" if "pp" in changes else "1xh100", serving=asked)
    able = [name for name in engine_names() if "encoder_decoder" in load_engine(name).features]
    assert "engine" not in changes or all(name in str(caught.value) for name in able)


def test_a_prompt_beyond_the_encoders_positions_is_refused() -> None:
    bart = model_from_config({"model_type": "bart"}, "bart", "config.json")
    with pytest.raises(PlannerError, match=r"serving\.prompt"):
        planner.serve(model=bart, cluster="1xh100", serving={"engine": "huggingface", "prompt": 4096, "output": 64})


def test_a_size_is_refused_for_its_engine_and_not_for_every_card() -> None:
    with pytest.raises(PlannerError, match=r"serving\.engine = 'vllm-v1'"):
        sizes(T5, "serve", accelerator="h100", engine="vllm")
    assert sizes(T5, "serve", engine="tensorrt-llm-1", max_gpus=1, accelerator="h100").rows
