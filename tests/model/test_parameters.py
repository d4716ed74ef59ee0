"""Parameters of the catalog: equal to transformers' models on the meta device, and to published figures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from each import for_each
from examples import GPT, LLAMA, MIXTRAL, model
from hypothesis import given, settings
from hypothesis import strategies as st
from published_configs import PUBLISHED, as_stored, transformers_count
from released_configs import RELEASED, STATED

from planner.common.errors import PlannerError
from planner.model.architecture import LayerKind
from planner.model.catalog import load_model, model_names
from planner.model.huggingface import model_from_config
from planner.model.parameters import (
    ParameterTensor,
    embedding_parameters,
    head_parameters,
    layer_parameters,
    parameters_active,
    parameters_total,
)

# shapes that no class of transformers holds: counted by hand below
BY_HAND = {"grok-1", "mistral-7b-v0.2", "chatlaw2-moe-4x7b", "llama4-style-moe-1.3b", "qwen-0.7b-student"}
# beside the published configurations; billions of parameters that the hub shows for the checkpoints, where it shows them
SIZES = {"qwen-1.8b": 1.84, "qwen-14b": 14.2, "qwen-72b": 72.3, "yi-6b": 6.06, "yi-34b": 34.4, "chatglm3-6b": 6.24,
            "phi-1.5": 1.42, "powerlm-3b": 3.51, "baichuan2-7b": 7.5, "baichuan2-13b": 13.9, "santacoder": 1.12,
            "stablelm-base-alpha-3b": 3.64, "stablelm-base-alpha-7b": 7.87, "tinyllama-1.1b": 1.1, "phi-2": 2.78,
            "gemma-2b": 2.51, "gemma-7b": 8.54, "gemma-2-2b": 2.61, "pythia-1b": 1.01,
            "palm-8b": 8.63, "palm-62b": 62.50, "palm-540b": 540.35, "opt-175b": 175, "snowflake-arctic": 480,
            "internlm2-20b": 19.86, "deepseek-moe-16b": 16.4, "minicpm-2b": 2.72,
            "longcat-flash": 560, "ling-1t": 999.7, "ling-flash-2.0": 102.9, "ling-mini-2.0": 16.26,
            "ring-mini-linear-2.0": 16.4, "hunyuan-large": 389, "grok-2": 270, "step-3": 316, "smallthinker-21b-a3b": 21.5,
            "internvl3.5-8b": 8.5, "gopher-280b": 280, "chinchilla-70b": 70}  # fmt: skip
BY_HAND |= {*SIZES, "glm-130b"}  # published as 130 billion: test_elsewhere.py
BY_HAND |= {
    "bge-m3",
    "bge-reranker-v2-m3",
    "bge-small-en-v1.5",
    "all-minilm-l6-v2",
    "qwen3-embedding-4b",
    "qwen3-embedding-8b",
}  # their hubs' totals: test_embeddings.py
# transformers' modules of their config.json on the meta device, built once elsewhere: some of the files name classes of their own
ON_META = {"glm-5.1": 743_911_199_232, "kimi-k2.7-code": 1_026_879_353_328, "minimax-m2.5": 228_689_748_992,
            "minimax-m2.7": 228_689_748_992, "nemotron-3.5-lightning-30b-a3b": 31_577_937_344, "olmo-3.1-32b": 32_233_522_176,
            "step-3.7-flash": 197_824_847_872}  # fmt: skip
# their readers' types are counted in test_types_of_2026.py; of the last three transformers has no class and nobody a count
OTHERWISE = {"laguna-s-2.1", "laguna-xs.2", "mistral-large-4", "muse-glimmer-30b", "muse-spark-816b-a42b",
            "llama-3.3-nemotron-super-49b", "kimi-k3", "minimax-m3"}  # fmt: skip
# what a stand-in does not say: the entries of Megatron and LLM Foundry are written as GPT-2, whose kernels differ
STAND_IN = {"activation", "softmax_in_fp32", "hidden_dropout", "attention_dropout"}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_parameters_equal_transformers_to_the_last_one(name: str) -> None:
    assert parameters_total(load_model(name)) == transformers_count(PUBLISHED[name])


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_catalog_says_what_the_published_config_says(name: str) -> None:
    ours, theirs = load_model(name), model_from_config(as_stored(name, PUBLISHED[name]), name, "published")
    # some configs stand for another family's names; most entries leave the context length out
    skipped = {"name", "source", "provenance", "modules", "context_length"}
    skipped |= STAND_IN if name.startswith(("megatron", "mpt", "gpt3")) else set()
    skipped |= {"ffn_hidden_size"} if all(kind.moe for kind in ours.layer_kinds) else set()
    assert ours.model_dump(exclude=skipped) == theirs.model_dump(exclude=skipped)
    assert ours.layer_kinds == theirs.layer_kinds


def test_every_model_of_the_catalog_is_covered_and_has_a_source() -> None:
    assert set(model_names()) == set(PUBLISHED) | set(RELEASED) | BY_HAND | set(STATED) | set(ON_META) | OTHERWISE
    assert all(load_model(name).source and load_model(name).name == name for name in model_names())


@pytest.mark.parametrize("name", sorted(ON_META))
def test_models_of_2026_have_the_count_of_their_modules(name: str) -> None:
    assert parameters_total(load_model(name)) == ON_META[name]


def test_grok_1_is_counted_by_hand() -> None:
    """xai-org/grok-1, run.py: 64 layers, 48 heads of 128, 8 of them for keys, 8 experts of 3 matrices, one table of words."""
    attention = 2 * 6144 * 6144 + 2 * 6144 * 8 * 128
    experts = 8 * 3 * 6144 * 32768 + 8 * 6144
    norms = 4 * 6144
    assert parameters_total(load_model("grok-1")) == 64 * (attention + experts + norms) + 131072 * 6144 + 6144


def test_mistral_v0_2_is_v0_1_without_a_window() -> None:
    """docs.mistral.ai: 32k context and no sliding-window attention."""
    older = load_model("mistral-7b")
    assert load_model("mistral-7b-v0.2") == older.replaced(
        name="mistral-7b-v0.2", source=load_model("mistral-7b-v0.2").source, sliding_window=None
    )


@pytest.mark.parametrize("name", sorted(SIZES))
def test_further_models_have_the_published_size(name: str) -> None:
    assert parameters_total(load_model(name)) / 1e9 == pytest.approx(SIZES[name], rel=0.005)


def test_sizes_without_their_file_have_the_parameters_that_the_release_states() -> None:
    """Within 0.5 %. The total is all that is checked where the source says "not opened": it tells nothing of num_heads and
    num_kv_heads beside head_dim, sliding_window, context_length, activation or dropout, which can be wrong with a right total."""
    assert {name: parameters_total(load_model(name)) for name in STATED} == {
        name: pytest.approx(total, rel=0.005) for name, total in STATED.items()
    }
    unopened = {name for name in model_names() if "whose config.json was not opened" in load_model(name).source}
    assert unopened <= set(STATED)


def test_every_model_says_where_its_sizes_are_read() -> None:
    """No size is given from memory: a source names a file, a card or a paper, or says what was not opened."""
    sources = {name: load_model(name).source for name in model_names()}
    assert {name: source for name, source in sources.items() if re.search("remember|memory", source)} == {}


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("llama-2-7b", 6_738_415_616),  # huggingface.co/meta-llama/Llama-2-7b-hf, safetensors index
        ("llama-3-8b", 8_030_261_248),  # huggingface.co/meta-llama/Meta-Llama-3-8B
        ("mixtral-8x7b", 46_702_792_704),  # huggingface.co/mistralai/Mixtral-8x7B-v0.1
        ("gpt-neox-20b", 20_554_567_680),  # huggingface.co/EleutherAI/gpt-neox-20b, model card: n_parameters
        ("gpt2", 124_439_808),  # huggingface.co/openai-community/gpt2
        ("bert-base", 109_482_240),  # huggingface.co/google-bert/bert-base-uncased, BertModel
        ("internlm2-7b", 7_737_708_544),  # huggingface.co/internlm/internlm2-7b
        # DeepSeek counts 58 x 256 biases that steer the router but are no parameters of the optimizer
        ("deepseek-v3", 671_026_419_200 - 58 * 256),  # huggingface.co/deepseek-ai/DeepSeek-V3, without the MTP module
        # mosaicml/llm-foundry scripts/train/benchmarking/README.md, sequence length 2048
        ("mpt-125m", 125_311_488),
        ("mpt-350m", 355_985_408),
        ("mpt-760m", 760_470_528),
        ("mpt-1b", 1_315_950_592),
        ("mpt-3b", 2_651_837_440),
        ("mpt-7b", 6_658_859_008),
        ("mpt-30b", 29_975_214_080),
        ("mpt-70b", 64_862_437_376),
    ],
)
def test_published_totals(name: str, total: int) -> None:
    assert parameters_total(load_model(name)) == total


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("mixtral-8x7b", "47", "13"),  # Jiang et al. 2024, arXiv 2401.04088, abstract
        ("mixtral-8x22b", "141", "39"),  # mistral.ai/news/mixtral-8x22b
        ("qwen3-30b-a3b", "30.5", None),  # Qwen3 model cards
        ("qwen3-235b-a22b", "235", "22"),  # arXiv 2505.09388
        ("deepseek-v2", "236", "21"),  # arXiv 2405.04434, abstract
        ("deepseek-v2-lite", "15.7", None),  # arXiv 2405.04434, appendix B
        ("qwen1.5-moe-a2.7b", "14.3", "2.7"),  # qwenlm.github.io/blog/qwen-moe
        ("qwen2-57b-a14b", "57", "14"),  # arXiv 2407.10671, table 1
        ("olmoe-1b-7b", "6.9", "1.3"),  # arXiv 2409.02060, table 1
        ("gpt-oss-20b", "20.91", None),  # arXiv 2508.10925, table 1
        ("gpt-oss-120b", "116.83", None),
        ("megatron-22b", "22", "22"),  # Korthikanti et al. 2022, table 3
        ("gpt3-175b", "175", "175"),
        ("megatron-530b", "530", "530"),
        ("megatron-1t", "1008", "1008"),
        ("dense-33b", "32.5", "32.5"),  # Touvron et al. 2023, table 2
    ],
)
def test_published_rounded_totals_and_active(name: str, total: str, active: str | None) -> None:
    """Equal to as many digits as were published."""

    def rounded(value: int, like: str) -> str:
        return f"{value / 1e9:.{len(like.partition('.')[2])}f}"

    assert rounded(parameters_total(load_model(name)), total) == total
    if active is not None:
        assert rounded(parameters_active(load_model(name)), active) == active


@pytest.mark.parametrize(("name", "active_billion"), [("gpt-oss-20b", 3.61), ("gpt-oss-120b", 5.13)])
def test_active_parameters_without_the_input_embedding(name: str, active_billion: float) -> None:
    # arXiv 2508.10925, table 1, which leaves the input embedding out of the active parameters; ours counts it
    gpt_oss = load_model(name)
    assert (parameters_active(gpt_oss) - 201_088 * 2880) / 1e9 == pytest.approx(active_billion, abs=0.005)


def test_deepseek_v3_active_parameters() -> None:
    # arXiv 2412.19437, abstract: 37B activated; that leaves out the input embedding (0.93 B), which ours counts
    assert round((parameters_active(load_model("deepseek-v3")) - 129_280 * 7168) / 1e9) == 37


@pytest.mark.parametrize("top_k", [1, 2])
def test_chatlaw_by_hand(top_k: int) -> None:
    # InternLM-7B: 32 layers of 4 (4096^2 + 4096) attention, 3 x 4096 x 11008 per expert, 4096 x 4 router, two norms
    shared, expert = 4 * (4096 * 4096 + 4096) + 4096 * 4 + 2 * 4096, 3 * 4096 * 11008
    chatlaw, ends = load_model("chatlaw2-moe-4x7b").replaced(top_k=top_k), 2 * 103168 * 4096 + 4096
    assert parameters_total(chatlaw) == 32 * (shared + 4 * expert) + ends
    assert parameters_active(chatlaw) == 32 * (shared + top_k * expert) + ends


def test_llama4_style_by_hand() -> None:
    layer = 4 * 1024 * 1024 + 9 * 3 * 1024 * 4096 + 1024 * 8 + 2 * 1024
    assert parameters_total(load_model("llama4-style-moe-1.3b")) == 24 * layer + 2 * 32000 * 1024 + 1024


def test_student_has_about_a_tenth_of_its_teacher() -> None:
    ratio = parameters_total(load_model("qwen-0.7b-student")) / parameters_total(load_model("qwen-7b"))
    assert 0.08 < ratio < 0.1


# --- laws -------------------------------------------------------------------------------------------------------------


@for_each("name", model_names())
def test_active_parameters_are_all_of_a_dense_model_and_fewer_of_a_sparse_one(name: str) -> None:
    m = load_model(name)
    total, active = parameters_total(m), parameters_active(m)
    assert active == total if m.family != "moe" else active < total
    if m.family == "moe" and not m.num_zero_experts:  # of a router that may choose nothing, tokens pass fewer in the mean
        assert parameters_active(m.replaced(top_k=m.num_experts)) == total


def test_one_expert_without_its_router_is_the_dense_feed_forward() -> None:
    moe = model(LLAMA, num_experts=1, top_k=1)
    router = LLAMA["num_layers"] * LLAMA["hidden_size"]
    assert parameters_total(moe) - router == parameters_total(model(LLAMA))


def test_tying_saves_one_table_of_words() -> None:
    tied, free = (parameters_total(model(LLAMA, tied_embeddings=t)) for t in (True, False))
    assert free - tied == LLAMA["vocab_size"] * LLAMA["hidden_size"]


@settings(max_examples=50, deadline=None)
@given(
    fields_=st.sampled_from([GPT, LLAMA, MIXTRAL]),
    field=st.sampled_from(
        ["num_layers", "hidden_size", "ffn_hidden_size", "vocab_size", "num_experts", "expert_ffn_hidden_size"]
    ),
    factor=st.integers(2, 5),
)
def test_more_of_anything_is_more_parameters(fields_: dict[str, Any], field: str, factor: int) -> None:
    if field not in fields_ or (field == "ffn_hidden_size" and "num_experts" in fields_):
        return
    assert parameters_total(model(fields_, **{field: fields_[field] * factor})) > parameters_total(model(fields_))


@settings(max_examples=50, deadline=None)
@given(layers=st.integers(1, 12), first=st.integers(0, 11), every=st.integers(1, 4), top_k=st.integers(1, 8))
def test_total_is_a_sum_over_layers_and_grows_with_the_active_experts(layers: int, first: int, every: int, top_k: int) -> None:
    if first >= layers or every > layers - first:
        return
    fields_ = {**MIXTRAL, "num_layers": layers, "num_dense_layers": first, "moe_every": every}
    m = model(fields_, top_k=top_k)
    sparse, dense = LayerKind(moe=True, sliding=False), LayerKind(moe=False, sliding=False)
    count = sum(kind.moe for kind in m.layer_kinds)
    in_layers = sum(
        n * sum(t.elements for t in layer_parameters(m, kind)) for n, kind in ((count, sparse), (layers - count, dense))
    )
    assert parameters_total(m) == in_layers + 2 * m.vocab_size * m.hidden_size + m.hidden_size
    expert = 3 * m.hidden_size * int(m.expert_ffn_hidden_size or 0)
    assert parameters_total(m) - parameters_active(m) == count * (8 - top_k) * expert


def test_every_tensor_has_a_name_of_its_own() -> None:
    for name in model_names():
        m = load_model(name)
        for kind in set(m.layer_kinds):
            names = [t.name for t in layer_parameters(m, kind)]
            assert len(names) == len(set(names))


# --- loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("lama-2-7b", "llama-2-7b"),
        ("mixtral", "mixtral-8x7b"),
        ("nowhere/config.json", "cannot be read"),
        ("none.toml", "none.toml"),
    ],
)
def test_an_unknown_model_is_an_error_that_names_the_near_ones(name: str, named: str) -> None:
    with pytest.raises(PlannerError, match=named):
        load_model(name)


def test_a_model_of_ones_own_is_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("num_layers = 2\nhidden_size = 64\nnum_heads = 4\nffn_hidden_size = 128\nvocab_size = 99\n")
    assert load_model(str(path)).name == "mine"
    path.with_name("wrong.toml").write_text(path.read_text() + "num_expert = 2\n")
    with pytest.raises(PlannerError, match=r"wrong\.toml: unknown field num_expert = 2; did you mean num_experts"):
        load_model(str(path.with_name("wrong.toml")))


def test_streams_beside_the_residual_one_by_hand() -> None:
    """Gemma 3n's AltUp (Gemma3nTextAltUp): n^2 and n x n^2 coefficients, a router of n h, a norm and a scale of h. DeepSeek-V4's
    streams are summed before the head by n x n h weights, n biases and a scale."""
    altup, hyper = (model({**LLAMA, name: 4}) for name in ("altup_streams", "hyper_streams"))
    (found,) = (t.elements for t in layer_parameters(altup, altup.layer_kinds[0]) if t.name == "streams.altup")
    assert found == 4**2 + 4**3 + 4 * 512 + 2 * 512
    (found,) = (t.elements for t in head_parameters(hyper) if t.name == "head.hyper")
    assert found == 4 * 4 * 512 + 4 + 1


@pytest.mark.parametrize("streams", [2, 4])
def test_altup_widens_the_embedding_by_a_square_for_each_further_stream(streams: int) -> None:
    """Gemma3nTextModel: altup_projections and altup_unembed_projections, n - 1 of h x h each."""
    (found,) = (t for t in embedding_parameters(model({**LLAMA, "altup_streams": streams})) if t.name == "embedding.altup")
    assert found.elements == 2 * (streams - 1) * 512**2


def test_a_compressor_adds_to_each_place_of_its_run() -> None:
    """DeepSeek-V4 (modeling_deepseek_v4, compressors): a bias of ratio x (2 where runs overlap) x head_dim, and a norm."""
    flash = load_model("deepseek-v4-flash")
    seen = set()
    for kind in flash.layer_kinds:
        m = flash.of(kind)
        tensors = {t.name: t.elements for t in layer_parameters(flash, kind)}
        if m.compress_ratio:
            assert tensors["attention.compress.bias"] == m.compress_ratio * (2 if m.compress_overlap else 1) * m.head_dim
            assert tensors["attention.compress.norm"] == m.head_dim
            seen.add((m.compress_ratio, m.compress_overlap))
    assert seen == {(4, True), (128, False)}


def test_a_bias_is_cut_with_the_outputs_and_whole_where_ranks_sum() -> None:
    """Megatron-LM: ColumnParallelLinear cuts its bias, RowParallelLinear adds a whole one after the sum."""
    m = model(GPT)
    shards = {t.name: t.shard for t in layer_parameters(m, m.layer_kinds[0]) if t.name.endswith(".bias") and "norm" not in t.name}
    assert {name for name, shard in shards.items() if shard == "replicated"} == {"attention.output.bias", "ffn.out.bias"}
    assert len(shards) == 5


@pytest.mark.parametrize(("name", "rows"), [("bart-large", 1024 + 2), ("whisper-large-v3", 1500), ("t5-base", 0)])
def test_an_encoder_in_front_has_a_table_of_positions_only_where_they_are_learned(name: str, rows: int) -> None:
    """BartLearnedPositionalEmbedding has two rows more than positions, Whisper's encoder 1,500 frames; T5 has a bias instead."""
    m = load_model(name)
    tensors = {t.name: t.elements for t in embedding_parameters(m)}
    assert tensors.get("embedding.source_positions", 0.0) == rows * m.hidden_size
    longest = m.replaced(max_positions=512, source_positions=0, position_embedding="none")  # a bound, and nothing is learned
    assert not [t.name for t in embedding_parameters(longest) if "positions" in t.name]


def elements(tensors: Iterable[ParameterTensor]) -> dict[str, float]:
    """By name."""
    return {t.name: t.elements for t in tensors}


BERT_ENDS: dict[str, Any] = {
    **GPT, "architecture": "encoder", "position_embedding": "learned", "max_positions": 64, "type_vocab_size": 2,
    "embedding_norm": True, "final_norm": False, "tied_embeddings": True, "head": "masked_language_model", "head_bias": True,
    "pooler": True, "num_labels": 3, "label_bias": True,
}  # fmt: skip


@pytest.mark.parametrize(("narrow", "inner"), [(True, 128), (False, 512)])
def test_ends_of_narrow_words_by_hand(narrow: bool, inner: int) -> None:
    """ALBERT (AlbertEmbeddings): words, positions, types and their norm of 128, then a projection with a bias to 512; the head
    goes back to 128 before its norm. OPT-350M projects words alone, there and back, without biases."""
    m = model({**BERT_ENDS, "embedding_projection_size": 128, "embedding_all_narrow": narrow, "tied_embeddings": False})
    assert elements(embedding_parameters(m)) == {
        "embedding.words": 1024 * 128,
        "embedding.projection": 128 * 512,
        **({"embedding.projection_bias": 512} if narrow else {}),
        "embedding.positions": 64 * inner,
        "embedding.types": 2 * inner,
        "embedding.norm.weight": inner,
        "embedding.norm.bias": inner,
    }
    assert elements(head_parameters(m)) == {
        "head.transform.weight": 512 * inner,
        "head.transform.bias": inner,
        "head.transform.norm": 2 * inner,
        **({} if narrow else {"head.projection": 512 * 128}),
        "head.words": 1024 * 128,
        "head.bias": 1024,
        "pooler.weight": 512 * 512,
        "pooler.bias": 512,
        "labels.weight": 512 * 3,
        "labels.bias": 3,
    }


@pytest.mark.parametrize(
    ("fields_", "ends", "heads"),
    [
        (LLAMA, {"embedding.words": 1024 * 512}, {"head.norm.weight": 512, "head.words": 1024 * 512}),
        (
            {**GPT, "final_norm": True},
            {"embedding.words": 1024 * 512, "embedding.positions": 4096 * 512},
            {"head.norm.weight": 512, "head.norm.bias": 512},
        ),
        ({**LLAMA, "norm_weight": False}, {"embedding.words": 1024 * 512}, {"head.words": 1024 * 512}),
        ({**LLAMA, "head": "none", "final_norm": False}, {"embedding.words": 1024 * 512}, {}),
        (
            # Gemma 3n: a vector of 32 for each of four layers and token, of a vocabulary of their own; projected words; a norm
            {**LLAMA, "per_layer_embedding_size": 32, "per_layer_vocab_size": 1000, "tied_embeddings": True},
            {
                "embedding.words": 1024 * 512,
                "embedding.per_layer_words": 1000 * 4 * 32,
                "embedding.per_layer_projection": 512 * 4 * 32,
                "embedding.per_layer_norm": 32,
            },
            {"head.norm.weight": 512},
        ),
    ],
)
def test_ends_by_hand(fields_: dict[str, Any], ends: dict[str, int], heads: dict[str, int]) -> None:
    m = model(fields_)
    assert elements(embedding_parameters(m)) == ends
    assert elements(head_parameters(m)) == heads


INDEX = {"index_head_dim": 32, "index_top_k": 64}


@pytest.mark.parametrize(
    ("changes", "vectors"),
    [
        ({}, {"norms.weight": 2 * 512}),
        ({"norms_per_layer": 4}, {"norms.weight": 4 * 512}),
        ({"norm": "layernorm", "norm_bias": True}, {"norms.weight": 2 * 512, "norms.bias": 2 * 512}),
        ({"norm_weight": False}, {}),
        ({"qk_norm": "head"}, {"norms.weight": 2 * 512, "attention.q_norm.weight": 64, "attention.k_norm.weight": 64}),
        ({"qk_norm": "full"}, {"norms.weight": 2 * 512, "attention.q_norm.weight": 8 * 64, "attention.k_norm.weight": 4 * 64}),
        ({"qk_norm": "key"}, {"norms.weight": 2 * 512, "attention.k_norm.weight": 64}),
        ({"qk_norm": "head", "qk_norm_weight": False}, {"norms.weight": 2 * 512}),
        ({"attention_sinks": True}, {"norms.weight": 2 * 512, "attention.sinks": 8}),
        ({"attention_output_norm": True}, {"norms.weight": 2 * 512, "attention.output_norm": 8 * 64}),
        ({"laurel_rank": 64}, {"norms.weight": 2 * 512, "streams.laurel_norm": 512}),
        ({"per_layer_embedding_size": 32}, {"norms.weight": 2 * 512, "streams.per_layer_norm": 512}),
        ({"per_layer_embedding_size": 1}, {"norms.weight": 2 * 512, "streams.per_layer_norm": 512}),
        # a layer norm of the indexer's key (DeepSeek-V3.2); layers that take another's choice have none (GLM-5.2)
        ({**INDEX, "index_num_heads": 4}, {"norms.weight": 2 * 512, "attention.index.key.norm": 2 * 32}),
        ({**INDEX, "index_num_heads": 0}, {"norms.weight": 2 * 512}),
        # four streams: weights, biases and scales around either block
        ({"hyper_streams": 4}, {"norms.weight": 2 * 512, "streams.hyper_vectors": 2 * (4 * (4 + 2) + 3)}),
    ],
)
def test_vectors_of_a_layer_by_hand(changes: dict[str, Any], vectors: dict[str, int]) -> None:
    m = model(LLAMA, **changes)
    found = elements(layer_parameters(m, m.layer_kinds[0]))
    kept = {name: n for name, n in found.items() if not (name.endswith(".weight") and "norm" not in name)}
    assert kept == vectors
