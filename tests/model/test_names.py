"""What people and hubs call models, against the catalog: a name means one model or none, in any spelling."""

from __future__ import annotations

import re
import string

import pytest
from each import for_each
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.common import data
from planner.common.errors import PlannerError
from planner.model.catalog import load_model, model_names
from planner.model.names import _table, is_model, meant, require_meant, unmeant, words_of
from planner.serving.feasibility import context_limit

STYLES = (
    str.upper,
    str.title,
    lambda name: name.replace("-", "_"),
    lambda name: name.replace("-", " "),
    lambda name: f"someone/{name}",
    lambda name: f"https://huggingface.co/someone/{name}",
    lambda name: f"{name}-Instruct",
    lambda name: f"{name} (chat)",
    lambda name: f"{name}-GGUF",
)


@for_each("name", model_names())
def test_every_model_is_meant_by_its_name_in_any_style(name: str) -> None:
    assert {style(name): (meant(style(name)) or ("none",))[0] for style in STYLES} == {style(name): name for style in STYLES}


def test_no_two_names_have_the_same_words() -> None:
    names = [*model_names(), *_table()["aliases"]]
    assert len({words_of(name) for name in names}) == len(names)


def test_other_names_stand_for_models_of_the_catalog() -> None:
    for name, model in _table()["aliases"].items():
        assert model in model_names(), name
        assert meant(name) == (model, _table()["stored"].get(name, "")), name


def test_a_name_with_a_context_of_its_own_keeps_it() -> None:
    """It means a model whose sizes it has and whose context is another: an equal one, or a name of nothing, would be a slip."""
    for name, tokens in [(name, row["tokens"]) for row in _table()["context"] for name in row["names"]]:
        assert load_model(name).context_length == tokens, name
        assert load_model(f"someone/{name}-FP8").context_length == tokens, name
        assert load_model(meant(name).model).context_length != tokens, name


@pytest.mark.parametrize(
    ("written", "tokens"),
    [
        ("zai-org/GLM-4.6", 202752),
        ("glm-4.5", 131072),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", 262144),
        ("qwen3-30b-a3b", 40960),
        ("microsoft/Phi-3-mini-128k-instruct", 131072),
        ("microsoft/Phi-3-mini-4k-instruct", 4096),
        ("01-ai/Yi-34B-200K", 200000),
        ("gradientai/Llama-3-8B-Instruct-262k", 262144),
        ("gradientai/Llama-3-8B-Instruct-1048k", 1048576),
        ("mistral-7b-16k", 32768),  # less than the model's own is not its context
        ("llama-3.1-8b-8k", 8192),
        ("MiniMaxAI/MiniMax-M1-80k", 10240000),  # of thinking
        ("llama3.1:8b-instruct-q8_0", 131072),
    ],
)
def test_a_name_tells_its_context(written: str, tokens: int) -> None:
    assert load_model(written).context_length == tokens


# names as they stand at huggingface.co, in papers and in forums
@pytest.mark.parametrize(
    ("written", "model", "weights"),
    [
        ("llama-3.1-8b-Q5_K_M", "llama-3.1-8b", "q5_k_m"),
        ("Meta-Llama-3.1-8B-Instruct-Q6_K.gguf", "llama-3.1-8b", "q6_k"),
        ("llama3-8b", "llama-3-8b", ""),
        ("通义千问2.5-7B-Instruct", "qwen2.5-7b", ""),
        ("百川2-13B", "baichuan2-13b", ""),
        ("智谱/GLM-4.5-Air", "glm-4.5-air", ""),
        ("智谱GLM-4-9B", "glm-4-9b", ""),
        ("智谱glm-4.5", "glm-4.5", ""),
        ("DeepSeek深度求索v3", "deepseek-v3", ""),
        ("通义千问Qwen2.5-7B-Instruct", "qwen2.5-7b", ""),
        ("书生·浦语2-20b", "internlm2-20b", ""),
        ("书生·万象3-8B", "internvl3-8b", ""),
        ("书生·万象InternVL3-8B", "internvl3-8b", ""),
        ("书生2-20b", "internlm2-20b", ""),
        ("deepseek-r1:8b", "qwen3-8b", ""),
        ("RWKV/rwkv-4-7b-pile", "rwkv-4-7b", ""),
        ("Qwen/Qwen3-8B-MLX-4bit", "qwen3-8b", "int4"),
        ("Qwen/Qwen3-Reranker-8B", "qwen3-8b", ""),
        ("microsoft/Phi-4-reasoning-plus", "phi-4", ""),
        ("phi4-mini:3.8b", "phi-4-mini", ""),
        ("command-r:35b", "command-r", ""),
        ("magistral:24b", "mistral-small-3.1-24b", ""),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-8b", ""),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3", ""),
        ("mistralai/Mistral-7B-Instruct-v0.2", "mistral-7b-v0.2", ""),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b", ""),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "qwen2.5-7b", "int4-awq"),
        ("Qwen/Qwen2.5-Coder-32B-Instruct-GPTQ-Int4", "qwen2.5-32b", "int4-gptq"),
        ("RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8-dynamic", "llama-3.1-70b", "fp8"),
        ("unsloth/Llama-3.2-3B-Instruct-bnb-4bit", "llama-3.2-3b", "nf4"),
        ("unsloth/Qwen3-8B-unsloth-bnb-4bit", "qwen3-8b", "nf4"),
        ("Qwen3-235B-A22B-Thinking-2507", "qwen3-235b-a22b", ""),
        ("Qwen3 30B", "qwen3-30b-a3b", ""),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "llama-3.3-70b", ""),
        ("lmsys/vicuna-13b-v1.5", "llama-2-13b", ""),
        ("google/gemma-2-9b-it", "gemma-2-9b", ""),
        ("google-bert/bert-base-uncased", "bert-base", ""),
        ("Command R+", "command-r-plus", ""),
        ("gptj", "gpt-j-6b", ""),
        ("deepseek-ai/DeepSeek-V3.2-Exp", "deepseek-v3.2", ""),
        ("nvidia/Nemotron-H-8B-Base-8K", "nemotron-h-8b", ""),
        ("google/gemma-3-27b-it-qat-q4_0-gguf", "gemma-3-27b", "q4_0"),
        ("google/gemma-3-27b-it-qat-q4_0-unquantized", "gemma-3-27b", ""),
        ("Qwen/Qwen3-4B-Instruct-2507-FP8", "qwen3-4b", "fp8"),
        ("RedHatAI/Llama-3.3-70B-Instruct-quantized.w4a16", "llama-3.3-70b", "int4"),
        ("unsloth/Qwen3-8B-128K-GGUF", "qwen3-8b", ""),
        ("EXAONE 4 32B", "exaone-4.0-32b", ""),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "tinyllama-1.1b", ""),
    ],
)
def test_names_of_hubs_and_forums(written: str, model: str, weights: str) -> None:
    assert meant(written) == (model, weights)
    assert load_model(written).stored_weights == (weights or load_model(model).stored_weights)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("mixtral", "may mean any of mixtral-8x22b, mixtral-8x7b"),
        ("llama-3", "may mean any of llama-3-70b, llama-3-8b"),
        ("llama-38b", "is not in the catalog"),
        ("llama-3.2-13b-vision", "is not in the catalog"),
        ("70b", "is not in the catalog"),
        ("8", "is not in the catalog"),
        ("", "is not in the catalog"),
        ("mistral-7b-15k", "is not in the catalog"),
        ("mistral-7b-instruct-1k", "is not in the catalog"),
        ("alpaca-52k", "is not in the catalog"),  # a data set
    ],
)
def test_a_name_that_means_several_or_none_is_refused(written: str, words: str) -> None:
    assert meant(written) is None
    with pytest.raises(PlannerError, match=re.escape(words)):
        require_meant(written)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("gpt-4o", "its sizes are not published"),
        ("anthropic/claude-3.5-sonnet", "its sizes are not published"),
        ("jetmoe/jetmoe-8b-chat", "mixture of experts"),
        ("google/vit-large-patch16-224", "the planner plans language models"),
        ("openai/clip-vit-large-patch14", "the planner plans language models"),
        ("skywork-moe", "was not opened"),  # is no tuning of skywork-13b
    ],
)
def test_a_model_that_is_known_and_missing_says_why(written: str, why: str) -> None:
    assert meant(written) is None
    with pytest.raises(PlannerError, match=why):
        require_meant(written)


@pytest.mark.parametrize("written", ["foobarbaz", "llama-3-8bx", "mixtral", "gpt-4o"])
def test_a_name_that_means_none_says_what_would_be_right(written: str) -> None:
    with pytest.raises(PlannerError) as refused:
        require_meant(written)
    assert (refused.value.field, refused.value.value) == ("model.name", written)
    assert refused.value.remedy


def test_no_model_of_the_catalog_is_said_to_be_missing() -> None:
    for known in _table()["known"]:
        for name in known["names"]:
            assert meant(name) is None, name


def test_only_kin_are_near() -> None:
    """A name of another family shares letters with many: they are no help."""
    assert "planner models list" in unmeant("stable-diffusion-xl")
    assert "llama-3-8b" in unmeant("lama-3-8b")


@settings(deadline=None)
@given(st.text(alphabet=string.printable, max_size=60))
def test_any_text_means_a_model_or_none(text: str) -> None:
    found = meant(text)
    assert found is None or found.model in model_names()
    assert found is not None or text.endswith(".json") or not is_model(text)
    assert found is not None or unmeant(text)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("claude-3-opus", True),
        ("Claude Sonnet 4", True),
        ("gemini2", True),
        ("gpt-3.5", True),
        ("gpt-3.5-turbo-0125", True),
        ("mistral-medium", True),
        ("mistral-medium-3", True),
        ("kimi-vl", True),
        ("kimi-vl-a3b-thinking", True),
        ("claudette-7b", False),
        ("albertina-900m", False),
        ("geminix", False),
    ],
)
def test_a_name_is_known_by_whole_words_alone(name: str, known: bool) -> None:
    assert ("is known" in str(unmeant(name))) == known


def test_the_longest_known_name_says_why() -> None:
    assert "not published" in str(unmeant("mistral-medium-3"))
    assert "config.json" in str(unmeant("mistral-medium-3.5"))


WITHOUT_LIMIT = {
    "no positions: ALiBi, relative ones, or states alone": """
        bloom-176b bloom-1b7 bloom-3b bloom-560m mpt-7b-alibi flan-t5-base flan-t5-large flan-t5-small flan-t5-xl flan-t5-xxl
        t5-11b t5-3b t5-base t5-large t5-small falcon-mamba-7b mamba-1.4b mamba-130m mamba-2.8b mamba-370m
        mamba-790m mamba-codestral-7b mt5-small mt5-base mt5-large mt5-xl mt5-xxl byt5-small byt5-base byt5-large byt5-xl byt5-xxl
        madlad400-3b flan-ul2 mamba2-130m mamba2-370m mamba2-780m mamba2-1.3b mamba2-2.7b rwkv-4-169m rwkv-4-430m
        rwkv-4-1b5 rwkv-4-3b rwkv-4-7b rwkv-4-14b""",
    "a shape without a checkpoint": "chatlaw2-moe-4x7b dense-13b dense-33b llama4-style-moe-1.3b qwen-0.7b-student",
    "its max_position_embeddings (8192) is not its model_max_length (131072)": "command-r command-r-plus",
    "its max_position_embeddings was not read": """
        bamba-9b command-a command-r7b glm-4-9b granite-4.0-h-1b granite-4.0-h-350m hunyuan-0.5b hunyuan-1.8b hunyuan-4b
        hunyuan-7b hunyuan-a13b lfm2-24b-a2b lfm2-8b-a1b mistral-large-3 paligemma-3b paligemma2-10b qwen-14b
        ring-mini-linear-2.0 skywork-13b smallthinker-21b-a3b""",
}
"""Models of which nothing tells how long a context may be, and why."""


def test_every_other_model_says_how_long_its_context_may_be() -> None:
    """A new model without context_length is named here with its reason; one that has it leaves the list."""
    unknown = {name for name in model_names() if not context_limit(load_model(name))[1]}
    assert unknown == {name for names in WITHOUT_LIMIT.values() for name in names.split()}


def test_a_name_tells_how_its_own_checkpoint_is_stored() -> None:
    """Where it has the sizes of a model that stores it otherwise; an ending still says more."""
    for name, weights in _table()["stored"].items():
        found = load_model(name)
        assert (found.stored_weights, found.name) == (weights, meant(name).model)  # type: ignore[union-attr]
        assert load_model(found.name).stored_weights != weights
        assert load_model(f"{name}-nvfp4").stored_weights == "nvfp4"


def test_every_context_of_a_name_says_where_it_is_read() -> None:
    """A source names what was opened, or says "not opened"; a name stands in one row."""
    rows = _table()["context"]
    named = [name for row in rows for name in row["names"]]
    assert len(named) == len(set(named))
    assert [row["names"] for row in rows if not ("/" in row["source"] or "not opened" in row["source"])] == []
    assert [str(file) for file in data.CATALOG.rglob("*.toml") if "as remembered" in file.read_text(encoding="utf-8")] == []
