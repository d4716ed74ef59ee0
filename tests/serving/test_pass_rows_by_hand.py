"""Every row of a pass against the sizes that a model's authors publish: what each multiplication is of, what each other kernel
reads and writes, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from examples import number
from serving_examples import deployment

from planner.operators.row import FusedAttention, Matmul, Row
from planner.serving.rows import Phase, Shape, image_rows, pass_rows
from planner.serving.setting import Setting
from planner.workload.resolve import as_model


@dataclass(frozen=True)
class Pass:
    """``s`` sequences of ``q`` new tokens after ``p`` cached ones; ``keys`` that a query sees under a causal mask on average."""

    phase: Phase
    s: float
    q: float
    p: float

    @property
    def t(self) -> float:
        return self.s * self.q

    @property
    def keys(self) -> float:
        return self.p + (self.q + 1) / 2

    @property
    def seen(self) -> float:
        """By the last query."""
        return self.p + self.q

    @property
    def words(self) -> float:
        """Tokens whose logits are computed: the last of each prompt."""
        return self.s


PASSES = (Pass("prefill", 3, 64, 512), Pass("decode", 3, 1, 300))
Linears = dict[str, tuple[float, ...]]
Others = dict[str, tuple[float, ...]]


def linear(k: float, n: float) -> tuple[float, ...]:
    return (k, n)


def touched(experts: float, top_k: float, tokens: float) -> float:
    """Experts that at least one token chose, each at random."""
    return experts * (1.0 - (1.0 - top_k / experts) ** tokens)


def usual(x: Pass, h: float, words: float, norms: float = 2) -> Others:
    """Name: (numbers of 16 bit that are read and written, kernels)."""
    return {
        "word embedding": (x.t * h + x.t * h, 1),
        "norms": (norms * (x.t * h + x.t * h), norms),
        "final norm": (x.t * h + x.t * h, 1),
        "sampling": (x.s * words * (2 + 4 + 4) / 2, 3),  # logits, and in fp32 once written and once read
    }


def gated(x: Pass, f: float, name: str = "ffn", lanes: float = 2) -> Others:
    return {f"{name} activation": (x.t * f * lanes + x.t * f, 1)}


def attention(x: Pass, heads: float, kv: float, d: float, window: float = math.inf) -> Others:
    """Queries read and written, keys and values written; then the cache, queries and output. Flops: q k and p v."""
    seen, keys = min(x.seen, window), min(x.keys, window)
    return {
        "rotary embedding, cache write": (x.t * heads * d * 2 + x.t * kv * d * 2, 2),
        "attention": (x.s * seen * kv * d * 2 + x.t * heads * d * 2, 1, 2 * (x.t * keys * heads * d) * 2),
    }


def llama_3_8b(x: Pass, tp: float) -> tuple[Linears, Others]:
    """arXiv 2407.21783, table 3."""
    linears = {
        "qkv": linear(4096, (32 + 8 + 8) * 128 / tp), "attention output": linear(32 * 128 / tp, 4096),
        "ffn in": linear(4096, 2 * 14336 / tp), "ffn out": linear(14336 / tp, 4096), "logits": linear(4096, 128256 / tp),
    }  # fmt: skip
    return linears, {**usual(x, 4096, 128256), **attention(x, 32 / tp, 8 / tp, 128), **gated(x, 14336 / tp)}


def gpt2(x: Pass, tp: float) -> tuple[Linears, Others]:
    """Radford et al. 2019, table 2."""
    linears = {
        "qkv": linear(768, 3 * 768), "attention output": linear(768, 768), "ffn in": linear(768, 3072),
        "ffn out": linear(3072, 768), "logits": linear(768, 50257),
    }  # fmt: skip
    return linears, {**usual(x, 768, 50257), **attention(x, 12, 12, 64), **gated(x, 3072, lanes=1)}


def mixtral(x: Pass, tp: float) -> tuple[Linears, Others]:
    """arXiv 2401.04088, table 1. Each token's numbers are moved to its experts and back: read and written twice for each of two;
    the router's logits in fp32 three times."""
    some = touched(8, 2, x.t)
    linears = {
        "qkv": linear(4096, 6144 / tp), "attention output": linear(4096 / tp, 4096), "router": linear(4096, 8),
        "experts in": (4096, 2 * 14336 / tp, some, 2 * x.t / some), "experts out": (14336 / tp, 4096, some, 2 * x.t / some),
        "logits": linear(4096, 32000 / tp),
    }  # fmt: skip
    others = {
        "experts activation": (2 * x.t * 14336 / tp * 3, 1),
        "top-k and sort": (x.t * 8 * 3 * 4 / 2 + 4 * 2 * x.t * 4096 / tp, 3),
    }
    return linears, {**usual(x, 4096, 32000), **attention(x, 32 / tp, 8 / tp, 128), **others}


def deepseek_v2_lite(x: Pass, tp: float) -> tuple[Linears, Others]:
    """arXiv 2405.04434, appendix B: latents of 512 and rotary keys of 64, whole on each GPU; 64 experts of 1,408 of which six are
    chosen, two shared ones; decoding multiplies by the latents themselves. The first layer is dense, of 10,944."""
    some = touched(64, 6, x.t)
    linears = {
        "latents": linear(2048, 576),
        "query heads": linear(2048, 16 * 192 / tp), "key and value heads": linear(512, 16 * 256 / tp),
        "attention output": linear(16 * 128 / tp, 2048), "ffn in": linear(2048, 2 * 10944 / tp),
        "ffn out": linear(10944 / tp, 2048), "router": linear(2048, 64),
        "experts in": (2048, 2 * 1408 / tp, some, 6 * x.t / some), "experts out": (1408 / tp, 2048, some, 6 * x.t / some),
        "shared in": linear(2048, 2 * 2816 / tp), "shared out": linear(2816 / tp, 2048), "logits": linear(2048, 102400 / tp),
    }  # fmt: skip
    heads, (qk, value) = 16 / tp, (512 + 64, 512) if x.phase == "decode" else (128 + 64, 128)
    others = {
        "latent norms": (x.t * 512 * 2, 1),
        "rotary embedding, cache write": (2 * x.t * heads * 192 + x.t * 576, 2),
        "attention": (x.s * x.seen * 576 + x.t * heads * (qk + value), 1, 2 * x.t * x.keys * heads * (qk + value)),
        "experts activation": (6 * x.t * 1408 / tp * 3, 1),
        "top-k and sort": (x.t * 64 * 6 + 4 * 6 * x.t * 2048 / tp, 3),
        **gated(x, 10944 / tp), **gated(x, 2816 / tp, "shared"),
    }  # fmt: skip
    return linears, {**usual(x, 2048, 102400), **others}


def deepseek_v3_2(x: Pass, tp: float) -> tuple[Linears, Others]:
    """arXiv 2512.02556, section 2.1, and DeepSeek-V3's sizes: 64 index heads of 128 of whose keys, fp8 with a scale each, all are
    read, and 2,048 are picked, more than there are here."""
    some = touched(256, 8, x.t)
    linears = {
        "latents": linear(7168, 1536 + 576), "query heads": linear(1536, 128 * 192),
        "key and value heads": linear(512, 128 * 256),
        "attention output": linear(128 * 128, 7168), "ffn in": linear(7168, 2 * 18432), "ffn out": linear(18432, 7168),
        "index projections": linear(7168, (1536 * 64 * 128 + 7168 * 128 + 7168 * 64) / 7168), "router": linear(7168, 256),
        "experts in": (7168, 2 * 2048, some, 8 * x.t / some), "experts out": (2048, 7168, some, 8 * x.t / some),
        "shared in": linear(7168, 2 * 2048), "shared out": linear(2048, 7168), "logits": linear(7168, 129280),
    }  # fmt: skip
    qk, value = (576, 512) if x.phase == "decode" else (192, 128)
    key = (128 + 4) / 2  # in numbers of 16 bit
    scores = 2 * x.t * x.keys  # a score in fp32 for each query and key
    others = {
        "latent norms": (x.t * (1536 + 512) * 2, 2),
        "rotary embedding, cache write": (2 * x.t * 128 * 192 + x.t * (576 + key), 2),
        "attention": (x.s * x.seen * (576 + key) + x.t * 128 * (qk + value), 1, 2 * x.t * x.keys * 128 * (qk + value)),
        "indexer": (x.s * x.seen * key + x.t * 64 * 128 + scores, 2, 2 * x.t * x.keys * 64 * 128),
        "experts activation": (8 * x.t * 2048 * 3, 1),
        "top-k and sort": (x.t * 256 * 6 + 4 * 8 * x.t * 7168, 3),
        **gated(x, 18432), **gated(x, 2048, "shared"),
    }  # fmt: skip
    return linears, {**usual(x, 7168, 129280), **others}


def qwen3_next(x: Pass, tp: float) -> tuple[Linears, Others]:
    """Qwen3-Next-80B-A3B, config.json: 16 heads of 256 with 2 of keys and an output gate; 16 key and 32 value heads of 128 of
    the gated delta rule, its state and its last three
    inputs of the convolution, over queries, keys and values, in fp32; 512 experts of 512, ten chosen, one shared."""
    some = touched(512, 10, x.t)
    values, channels = 32 * 128, 2 * 16 * 128 + 32 * 128
    linears = {
        "qkv": linear(2048, (2 * 16 + 2 + 2) * 256), "attention output": linear(16 * 256, 2048), "router": linear(2048, 512),
        "mixer_qkv": linear(2048, channels), "mixer_gate": linear(2048, values), "mixer_beta": linear(2048, 32),
        "mixer_decay": linear(2048, 32), "mixer_out": linear(values, 2048), "experts in": (2048, 1024, some, 10 * x.t / some),
        "experts out": (512, 2048, some, 10 * x.t / some), "shared in": linear(2048, 1024), "shared out": linear(512, 2048),
        "logits": linear(2048, 151936),
    }  # fmt: skip
    state = 2 * 32 * 128 * 128  # in numbers of 16 bit
    kept = 2 * 32 * 128 + values + 32 * (1 + 64) + 2 * 2 * 32 + values  # q, k, v, beta, triangles, decays in fp32, output
    within = x.t / 64 * 32 * 128 * 128 if x.phase == "prefill" else 0.0  # the state at the end of each chunk
    flops = 6 * 32 * 128 * 128 + (2 * 64 * (3 * 128 + 2 * 128) * 32 if x.phase == "prefill" else 0.0)
    others = {
        **attention(x, 16, 2, 256), "query key norm": (x.t * (16 + 2) * 256 * 2, 2),
        "attention gate": (x.t * 16 * 256 * 3, 1), "convolution": (x.t * channels * 2, 1), "gated norm": (x.t * values * 3, 1),
        "scan": (2 * x.s * (state + 2 * 3 * channels) + within + x.t * kept, 4, x.t * flops),
        "experts activation": (10 * x.t * 512 * 3, 1), "top-k and sort": (x.t * 512 * 6 + 4 * 10 * x.t * 2048, 3),
        **gated(x, 512, "shared"),
    }  # fmt: skip
    return linears, {**usual(x, 2048, 151936), **others}


def llama_vision(x: Pass, tp: float) -> tuple[Linears, Others]:
    """Llama 3.2 11B Vision, config.json: eight of 40 layers attend to two images of 6,404 tokens (four tiles of 1,601)."""
    linears, others = llama_3_8b(x, tp)
    linears |= {"cross queries": linear(4096, 4096), "cross output": linear(4096, 4096)}
    keys = 2 * 6404
    return linears, {
        **others,
        "cross query norm": (x.t * 4096 * 2, 1), "learned scales": (x.t * 4096 * 4, 2),
        "attention to images": (x.s * keys * 8 * 128 * 2 + x.t * 4096 * 2, 1, 2 * x.t * keys * 4096 * 2),
    }  # fmt: skip


Named = dict[str, list[tuple[float, ...]]]


def sliding(x: Pass) -> Named:
    """Gemma 2 9B (arXiv 2408.00118, table 1): half of the layers see 4,096 tokens; four norms a layer."""
    near, far = (attention(x, 16, 8, 256, window)["attention"] for window in (4096, math.inf))
    return {"attention": [near, far], "norms": [(4 * 2 * x.t * 3584, 4)] * 2}


def compressed(x: Pass) -> Named:
    """DeepSeek-V4-Flash, config.json: 64 heads of one key of 512 that is its own value, of the last 128 tokens and of compressed
    ones: none, one of four (in overlapping runs, at most 512 picked by 64 index heads of 128) or one of 128, by layer; four
    residual streams of 4,096."""
    whole: dict[int, tuple[float, float]] = {0: (0.0, 0.0)}
    for ratio in (4, 128):
        last = min(x.seen // ratio, 512 if ratio == 4 else math.inf)
        whole[ratio] = (last, min(x.keys / ratio, last))
    core = [
        (x.s * (min(x.seen, 128) + last) * 512 + x.t * 64 * 1024, 1, 2 * x.t * (min(x.keys, 128) + mean) * 64 * 1024)
        for last, mean in (whole[0], whole[4], whole[128])
    ]
    last, mean = x.seen // 4, min(x.keys / 4, x.seen // 4)
    key = (128 + 4) / 2
    sums = [(x.t * 2 * lanes * 512 * 2, 1) for lanes in (2, 1)]
    return {
        "latent norms": [(x.t * 1024 * 2, 1)] * 3, "query key norm": [(x.t * (64 + 1) * 512 * 2, 2)] * 3,
        "attention": core, "compressor sum": sums, "hyper streams": [(2 * x.t * (3 * 4 * 4096 + 2 * 4096), 6)] * 3,
        "indexer": [(x.s * last * key + x.t * 64 * 128 + 2 * x.t * mean, 2, 2 * x.t * mean * 64 * 128)],
    }  # fmt: skip


def embedded(x: Pass) -> Named:
    """Gemma 4 E2B, config.json: each layer's own vectors of 256 are added to 1,536 numbers."""
    return {"layer vectors sum": [(4 * x.t * 1536, 1)] * 4}


FEW: dict[str, Callable[[Pass], Named]] = {
    "gemma-2-9b": sliding, "deepseek-v4-flash": compressed, "gemma-4-e2b": embedded,
}  # fmt: skip
LONG = (*PASSES, Pass("prefill", 2, 1024, 4096), Pass("decode", 2, 1, 8000))


Hand = Callable[[Pass, float], tuple[Linears, Others]]
MODELS: dict[str, tuple[Hand, dict[str, Any]]] = {
    "llama-3-8b": (llama_3_8b, {}),
    "gpt2": (gpt2, {}),
    "mixtral-8x7b": (mixtral, {}),
    "deepseek-v2-lite": (deepseek_v2_lite, {}),
    "deepseek-v3.2": (deepseek_v3_2, {}),
    "qwen3-next-80b-a3b": (qwen3_next, {}),
    "llama-3.2-11b-vision": (llama_vision, {"images": 2, "engine": "vllm-v0"}),
}
BIASES = 0.002
"""Of a weight's bytes, at most, that are biases and the norms inside of attention."""


def rows(setting: Setting, x: Pass) -> tuple[Row, ...]:
    return pass_rows(setting, Shape(phase=x.phase, sequences=np.array([x.s]), queries=np.array([x.q]), past=np.array([x.p])))


@pytest.mark.parametrize("x", PASSES, ids=lambda x: x.phase)
@pytest.mark.parametrize(
    ("name", "tp"), [*((name, 1) for name in MODELS), ("llama-3-8b", 2), ("mixtral-8x7b", 2), ("deepseek-v2-lite", 4)]
)
def test_every_row_of_a_published_model_by_hand(name: str, tp: int, x: Pass) -> None:
    hand, fields = MODELS[name]
    linears, others = hand(x, float(tp))
    found = rows(deployment(as_model(name), tp, tp=tp, **fields), x)
    met = set()
    for row in found:
        moved, flops, kernels = number(row.bytes_moved), number(row.flops), number(row.kernels)
        if row.collective is not None:
            assert (moved, flops, kernels) == (0.0, 0.0, 1.0 if tp > 1 else 0.0), row.name
            continue
        met.add(row.name)
        if row.name in linears:
            k, n, batch, m = (*linears[row.name], 1.0, x.words if row.name == "logits" else x.t)[:4]
            assert isinstance(row.work, Matmul), row.name
            sizes = tuple(map(number, (row.work.k, row.work.n, row.work.batch, row.work.m)))
            assert sizes == pytest.approx((k, n, batch, m), rel=1e-6), row.name
            assert flops == pytest.approx(2 * batch * m * k * n, rel=1e-6), row.name
            assert number(row.model_flops) == pytest.approx(flops)
            assert moved == pytest.approx(2 * (batch * k * n + batch * m * (k + n)), rel=BIASES), row.name
            assert kernels == 1.0
        else:
            numbers, launched, worked = (*others[row.name], 0.0)[:3]
            assert moved == pytest.approx(2 * numbers, rel=1e-9), row.name
            assert kernels == launched, row.name
            assert flops == number(row.model_flops) == pytest.approx(worked), row.name
            if isinstance(row.work, FusedAttention) and row.name != "indexer":  # which has one product for each head, not two
                w = row.work
                pairs = 2 * number(w.sequences) * number(w.heads) * number(w.queries) * number(w.keys)
                assert flops == pytest.approx(pairs * (w.qk_head_dim + w.value_head_dim)), row.name
    assert met == {*linears, *others}


@pytest.mark.parametrize("x", LONG)
@pytest.mark.parametrize("name", FEW)
def test_rows_that_few_models_have_by_hand(name: str, x: Pass) -> None:
    found = rows(deployment(as_model(name), prompt=8192), x)
    for row_name, expected in FEW[name](x).items():
        same = [row for row in found if row.name == row_name]
        values = sorted((number(row.bytes_moved), number(row.kernels), number(row.flops)) for row in same)
        by_hand = sorted((2 * numbers, kernels, *work, 0.0)[:3] for numbers, kernels, *work in expected)
        assert values == [pytest.approx(value, rel=1e-9) for value in by_hand], row_name


def test_what_an_engine_moves_beside_the_cache_by_hand() -> None:
    """32 heads of which four share a key and value: repeated for each, they are written and read; read for each, three more pass;
    copied, they are written and read once more. Scores in fp32 that leave the kernel pass once for each pass over them, of all
    tokens that there are."""
    setting = deployment(as_model("llama-3-8b"))
    for x in PASSES:

        def moved(x: Pass = x, **changes: Any) -> tuple[float, float]:
            engine = setting.engine.model_copy(update=changes)
            (row,) = (r for r in rows(replace(setting, engine=engine), x) if r.name == "attention")
            return number(row.bytes_moved), number(row.flops)

        plain, cache = moved(), x.s * x.seen * 2 * 8 * 128 * 2
        decodes = x.phase == "decode"
        assert moved(copies_cache=True)[0] - plain[0] == pytest.approx(2 * cache)
        assert moved(repeats_kv_heads=True)[0] - plain[0] == pytest.approx(2 * 4 * cache)
        assert moved(reads_kv_per_head=True)[0] - plain[0] == pytest.approx(3 * cache if decodes else 0.0)
        scored = moved(score_passes=5.0)
        assert scored[0] - plain[0] == pytest.approx(0.0 if decodes else 5 * 4 * x.t * x.seen * 32)
        assert scored[1] == pytest.approx(plain[1] * (1.0 if decodes else x.seen / x.keys))


def test_experts_inside_a_narrower_space_have_their_own_way_there_and_back() -> None:
    """Nemotron 3 Super, config.json: 4,096 to 1,024 for 512 experts of 2,688 without a gate, of which 22 are chosen."""
    for x in PASSES:
        found = {row.name: row for row in rows(deployment(as_model("nemotron-3-super-120b-a12b"), 4, tp=4), x)}
        sizes = {name: (number(found[name].work.k), number(found[name].work.n)) for name in ("latent in", "latent out")}  # type: ignore[union-attr]
        assert sizes == {"latent in": (4096, 1024), "latent out": (1024, 4096)}
        some = touched(512, 22, x.t)
        inner = found["experts in"].work
        assert isinstance(inner, Matmul)
        assert (number(inner.k), number(inner.n), number(inner.batch)) == pytest.approx((1024, 2688 / 4, some))
        assert number(found["experts activation"].bytes_moved) == pytest.approx(2 * 22 * x.t * 2688 / 4 * 2)
        assert number(found["top-k and sort"].bytes_moved) == pytest.approx(x.t * 512 * 12 + 4 * 22 * x.t * 1024 * 2 / 4)


@pytest.mark.parametrize("name", ["llama-3-8b", "mixtral-8x7b", "deepseek-v2-lite"])
def test_what_two_gpus_tell_each_other_by_hand(name: str) -> None:
    """Behind attention and the feed-forward block a number for each token and width; the logits of the words; from stage to stage
    the hidden vectors."""
    model = as_model(name)
    for x in PASSES:
        found = {row.name: row for row in rows(deployment(model, 4, tp=2, pp=2), x) if row.collective is not None}
        hidden = 2 * x.t * model.hidden_size
        summed = [row for row in found.values() if row.collective == "all_reduce"]
        assert {row.name.removesuffix(" all-reduce") for row in summed} <= {"attention output", "feed-forward", "experts"}
        assert len(summed) >= 2
        assert {number(row.communication_bytes) for row in summed} == {hidden}
        assert number(found["logits over tp"].communication_bytes) == 2 * x.words * model.vocab_size
        onward = found["to the next stage"]
        assert (onward.collective, number(onward.communication_bytes), number(onward.repeats)) == ("p2p", hidden, 1.0)


def test_keys_of_images_are_projected_and_written_once_for_each() -> None:
    """Three images of 6,404 tokens in eight layers: (4096, 2 x 8 x 128); normed keys and values are read and written."""
    setting = deployment(as_model("llama-3.2-11b-vision"), images=2, engine="vllm-v0")
    projected, written = image_rows(setting, np.array([3.0]))
    tokens = 3 * 6404
    assert isinstance(projected.work, Matmul)
    assert (number(projected.work.m), projected.work.k, projected.work.n) == (tokens, 4096, 2048)
    assert number(projected.bytes_moved) == pytest.approx(2 * (4096 * 2048 + tokens * (4096 + 2048)))
    assert number(written.bytes_moved) == pytest.approx(2 * 2 * tokens * 2 * 8 * 128)
    assert (number(written.kernels), number(written.repeats), number(projected.repeats)) == (2.0, 8.0, 8.0)


def test_what_makes_vectors_reads_every_token_and_writes_no_word() -> None:
    """BGE-M3 (arXiv 2402.03216): 24 layers of 1,024; each token attends to all of its text, and nothing follows the last norm."""
    setting = deployment(as_model("bge-m3"), prompt=128, output=1, embeds=True, engine="vllm-v1")
    found = {row.name: row for row in rows(setting, Pass("prefill", 3, 64, 0))}
    t = 3 * 64
    assert number(found["final norm"].bytes_moved) == 2 * t * 1024 * 2
    assert number(found["attention"].flops) == 4 * t * 64 * 1024
    assert number(found["attention"].repeats) == 24.0
    assert not {"logits", "sampling", "logits over tp"} & set(found)
