"""Laws over engines, GPUs and models: more work never takes less time, and software that is left out is one that runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import planner
from planner.common.errors import PlannerError
from planner.hardware.custom_nodes import described_cluster
from planner.model.catalog import load_model
from planner.model.names import meant
from planner.serving.batch_figures import batch_figures
from planner.serving.deployment import capacity_of
from planner.serving.engine import load_engine, runs_model
from planner.serving.feasibility import require_possible
from planner.serving.pass_time import Times
from planner.serving.setting import Setting
from planner.serving.spec import Serving
from planner.serving.weight_formats import FORMATS, format_named
from planner.serving.weights import total_bytes

CARDS = ("a100-sxm4-80gb", "h100-sxm5-80gb", "b200-sxm-180gb", "rtx-4090-24gb", "apple-m3-max-128gb")
ENGINES = ("vllm", "sglang", "tensorrt-llm", "llama.cpp", "huggingface", "mlx", "tgi")
MODELS = ("llama-3.1-8b", "qwen3-30b-a3b")
BATCHES = 2.0 ** np.arange(9)
LENGTHS = np.array([1, 64, 256, 512, 513, 768, 1024, 1025, 2048, 4096, 8192, 8193, 16384, 32768], dtype=float)
MEANS = np.sort(np.concatenate([LENGTHS, np.geomspace(500.0, 32000.0, 600)]))
"""Mean lengths of prompts, fractions of a token among them."""
SLACK = 1.0 + 1e-9


def times(name: str, card: str, gpus: int, **fields: Any) -> Times:
    spec = Serving.build({"prompt": 512, "output": 128, "weights": "fp16", **fields}, "serving")
    cluster = described_cluster(card, None, None, gpus, None, None)
    setting = Setting(model=load_model(name), cluster=cluster, engine=load_engine(spec.engine), serving=spec)
    require_possible(setting)
    return Times(setting=setting)


def possible(gpus: int, **fields: Any) -> Iterator[Times]:
    """The deployments of the grid that the engines can run."""
    for engine in ENGINES:
        cut = "tp" if "tp" in load_engine(engine).features else "pp"
        for card in CARDS:
            for name in MODELS:
                try:
                    yield times(name, card, gpus, engine=engine, **{cut: gpus}, **fields)
                except PlannerError:
                    continue


@pytest.mark.parametrize("gpus", [1, 4])
def test_more_work_never_takes_less_time(gpus: int) -> None:
    """Longer prompts and contexts, and more of them at once; a chunk that is not full beside full ones in a pipeline, too."""
    found = list(possible(gpus))
    assert len(found) > 20
    for one in found:
        who = f"{one.setting.engine.name} {one.setting.cluster.accelerator.name} {one.setting.model.name}"
        figures = batch_figures(one, BATCHES)
        for name in ("ttft_s", "tpot_s", "output_tokens_per_s"):
            assert (np.diff(figures[name]) >= -1e-9 * figures[name][1:]).all(), f"{name} over batches: {who}"
        for seconds in (one.prefill_s(MEANS, 1.0), one.decode_s(8.0, MEANS)):
            assert (seconds[1:] * SLACK >= seconds[:-1]).all(), who


def test_what_is_never_accepted_never_hastens() -> None:
    for one in possible(1):
        if "speculative" not in one.setting.engine.features:
            continue
        spec = one.setting.serving
        drafted = times(
            one.setting.model.name, one.setting.cluster.accelerator.name, 1, engine=spec.engine,
            speculative={"tokens": 3, "acceptance": 0.0},
        )  # fmt: skip
        assert (drafted.decode_s(BATCHES, 1024.0) * SLACK >= one.decode_s(BATCHES, 1024.0)).all()


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
def test_fp8_is_never_slower_where_its_kernels_are(engine: str) -> None:
    for name in MODELS:
        for card in ("h100-sxm5-80gb", "b200-sxm-180gb"):
            wide, narrow = (times(name, card, 1, engine=engine, weights=w) for w in ("bf16", "fp8"))
            assert (narrow.decode_s(BATCHES, 1024.0) <= wide.decode_s(BATCHES, 1024.0) * SLACK).all()
            assert (narrow.prefill_s(LENGTHS, 1.0) <= wide.prefill_s(LENGTHS, 1.0) * SLACK).all()


@pytest.mark.parametrize(("engine", "formats"), [
    ("vllm", ("fp8-weight-only", "int4-awq")), ("sglang", ("int4-gptq",)), ("llama.cpp", ("q8_0", "q4_k_m", "mxfp4")),
    ("mlx", ("mxfp4",)),
])  # fmt: skip
def test_fewer_bits_decode_one_sequence_no_slower(engine: str, formats: tuple[str, ...]) -> None:
    """Experts too, on a chip that reads faster than it multiplies: one token's rows are not padded to tiles there."""
    for name in MODELS:
        for card in ("a100-sxm4-80gb", "h100-sxm5-80gb", "rtx-4090-24gb", "apple-m3-max-128gb"):
            for weights in formats:
                try:
                    wide, narrow = (times(name, card, 1, engine=engine, weights=w) for w in ("fp16", weights))
                except PlannerError:
                    continue
                assert narrow.decode_s(1.0, 1024.0) <= wide.decode_s(1.0, 1024.0) * SLACK, f"{name} {card} {weights}"


def test_the_host_waits_for_the_kernels_that_say_so_alone() -> None:
    """transformers' FP8Linear ends with torch.cuda.synchronize(), and came with 4.49; bitsandbytes' int8 does not wait."""

    def waits(engine: str, weights: str) -> bool:
        one = times("llama-3.1-8b", "h100-sxm5-80gb", 1, engine=engine, weights=weights)
        return one.pass_time(one.shape("decode", 1.0, 1.0, 512.0)).waits

    assert [waits("huggingface", weights) for weights in ("fp8", "fp8-block", "int8", "bf16")] == [True, True, False, False]
    assert not waits("huggingface-4.45", "fp8")


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("Q4_K_M", "q4_k_m"), ("Q6_K", "q6_k"), ("awq", "int4-awq"), ("GPTQ", "int4-gptq"), ("W4A16", "int4"), ("half", "fp16"),
        ("bnb-4bit", "nf4"), ("w8a8-fp8", "fp8"), ("FP8_E4M3", "fp8"), ("BFloat16", "bf16"),
    ],
)  # fmt: skip
def test_formats_are_read_as_people_write_them(name: str, format_: str) -> None:
    asked = {"prompt": 64, "output": 8, "engine": "vllm"}
    assert Serving.build({**asked, "weights": name}, "serving").weights == format_


def test_every_format_is_its_own_name() -> None:
    assert [format_named(name) for name in FORMATS] == list(FORMATS)
    with pytest.raises(PlannerError, match="must be 'fp32'"):
        Serving.build({"prompt": 64, "output": 8, "weights": "9bit"}, "serving")


@pytest.mark.parametrize("name", ["4bit", "4-bit", "8 bit", "8bit"])
def test_what_may_be_several_formats_is_refused_with_them(name: str) -> None:
    """Of every engine: MLX's 4 bit are not bitsandbytes', whose name a checkpoint may end with."""
    with pytest.raises(PlannerError, match=r"may be (nf4, int4-awq, int4-gptq, q4_k_m|fp8, int8, int8-gptq, q8_0); name the one"):
        Serving.build({"prompt": 64, "output": 8, "weights": name}, "serving")
    assert meant("unsloth/Llama-3.2-1B-Instruct-bnb-4bit") == meant("llama-3.2-1b-4bit")


def test_gguf_files_grow_with_their_bits() -> None:
    """huggingface.co/bartowski/Meta-Llama-3.1-8B-Instruct-GGUF: Q4_K_M 4.92 GB, Q5_K_M 5.73, Q6_K 6.60, Q8_0 8.54."""
    published = {"q4_k_m": 4.92e9, "q5_k_m": 5.73e9, "q6_k": 6.60e9, "q8_0": 8.54e9}
    for weights, size in published.items():
        one = times("llama-3.1-8b", "rtx-4090-24gb", 1, engine="llama.cpp", weights=weights)
        assert total_bytes(one.setting) == pytest.approx(size, rel=0.01), weights


def test_an_encoder_decoder_is_served_by_an_engine_that_runs_one() -> None:
    asked = {"prompt": 256, "output": 32}
    assert planner.serve(model="t5-3b", cluster="l4", serving=asked).engine.name == "tensorrt-llm-1"
    assert planner.serve(model="t5-3b", cluster="mi300x", serving=asked).engine.name == "huggingface"
    assert planner.sizes("t5-3b", "serve", accelerator="l4", max_gpus=1).rows
    with pytest.raises(PlannerError, match="is an encoder-decoder, which it does not run"):
        planner.sizes("t5-3b", "serve", accelerator="l4", engine="vllm")
    with pytest.raises(PlannerError, match="'tensorrt-llm-1' does not run on AMD's mi300x-192gb; use huggingface") as refused:
        planner.serve(model="t5-3b", cluster="mi300x", serving={**asked, "engine": "tensorrt-llm"})
    assert all(
        runs_model(load_engine(name), load_model("t5-3b"))
        for name in str(refused.value).partition("use ")[2].rstrip(".").split(", ")
    )
    for engine in ({}, {"engine": "llama.cpp"}):
        with pytest.raises(PlannerError, match="no engine of the catalog runs on Apple's"):
            planner.serve(model="t5-3b", cluster="m3-max", serving={**asked, **engine})
    said = planner.sizes("t5-3b", "serve", accelerator="m3-max", max_gpus=1).left_out
    assert all("no engine of the catalog runs on Apple's" in why for why in said.values())


@pytest.mark.parametrize(
    ("model", "engine", "card"),
    [("llama-3.1-8b", "vllm", "h100-sxm5-80gb"), ("gpt-oss-20b", "vllm", "l40s"), ("llama-3.1-8b", "llama.cpp", "rtx-4090-24gb")],
)
def test_size_and_serve_say_the_same_capacity(model: str, engine: str, card: str) -> None:
    row = planner.sizes(model, "serve", prompt=1024, output=256, engine=engine, accelerator=card, max_gpus=1).rows[0]
    served = planner.serve(
        model=model, cluster={"accelerator": card, "num_gpus": 1}, serving={"engine": engine, "prompt": 1024, "output": 256}
    )
    rate = capacity_of(served) * 256
    assert row.tokens_per_s == pytest.approx(rate)
    assert served.price is not None
    assert row.usd_per_million_tokens == pytest.approx(served.price.usd_per_gpu_hour / 3600.0 / rate * 1e6)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": 100}, "give --prompt and --output"), ({"prompt": 100, "output": 10, "seq_len": 110}, "or --seq-len for both"),
        ({"prompt": 0, "output": 10}, "--prompt 0: must be a whole number of at least 1"),
    ],
)  # fmt: skip
def test_lengths_that_size_cannot_take(fields: dict[str, int], words: str) -> None:
    with pytest.raises(PlannerError, match=words):
        planner.sizes("llama-3.1-8b", "serve", accelerator="l4", **fields)
    with pytest.raises(PlannerError, match="goes with --for serve"):
        planner.sizes("llama-3.1-8b", "lora", accelerator="l4", output=10)
    with pytest.raises(PlannerError, match="--for foo: must be one of"):
        planner.sizes("llama-3.1-8b", "foo", prompt=2048)  # type: ignore[arg-type]
    with pytest.raises(PlannerError, match="--seq-len abc: must be a whole number"):
        planner.sizes("llama-3.1-8b", "serve", seq_len="abc")  # type: ignore[arg-type]


def test_what_fits_has_a_capacity_where_the_widest_batch_leaves_no_cache() -> None:
    """The logits of vLLM's 256 sequences take what a card of 8 GB has left beside a model of 3 billion parameters."""
    served = planner.serve(
        model="qwen2.5-3b", cluster="rtx-3070", serving={"engine": "vllm", "weights": "bf16", "prompt": 1536, "output": 512}
    )
    assert served.fits
    assert capacity_of(served) > 0.0


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize(("prompt", "output"), [(1536, 512), (128, 32)])
def test_more_memory_and_more_places_serve_no_less(engine: str, prompt: int, output: int) -> None:
    """The widest batch is taken where its workspace leaves the cache room, not as soon as it leaves one request's.

    Within 1 %, and of a chosen number of places within 10 %: one too many, and requests lose theirs and are computed again."""
    before = 0.0
    for fraction in (0.93, 0.955, 0.97, 0.975, 0.98, 0.985, 0.99, 1.0):
        asked = {"engine": engine, "weights": "bf16", "prompt": prompt, "output": output, "memory_fraction": fraction}
        served = planner.serve(model="qwen2.5-3b", cluster="rtx-3070", serving=asked)
        now = capacity_of(served)
        assert now >= before * 0.99, fraction
        assert now >= max(capacity_of(served, n) for n in (2, 4, 6, 64)) * 0.9, fraction
        before = now


@pytest.mark.parametrize(
    ("engine", "prompt", "output"), [("tensorrt-llm", 512, 1024), ("sglang", 1024, 256), ("vllm", 1024, 256)]
)
def test_requests_of_equal_lengths_serve_no_less_in_more_memory(engine: str, prompt: int, output: int) -> None:
    """They end in groups; a capacity that counted one more or less of them would jump by 8 %. Within 1.5 %."""
    before = 0.0
    for fraction in (0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99, 1.0):
        asked = {"engine": engine, "weights": "bf16", "prompt": prompt, "output": output, "memory_fraction": fraction}
        now = capacity_of(planner.serve(model="llama-3.1-8b", cluster="1xl40s", serving=asked))
        assert now >= before * 0.985, fraction
        before = now
