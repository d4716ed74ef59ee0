"""What people and hubs call models, against the catalog: a name means one model or none, in any spelling."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.common.errors import PlannerError
from planner.model.catalog import load_model, model_names
from planner.model.names import _table, is_model, meant, require_meant, unmeant, words_of

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


@pytest.mark.parametrize("name", model_names())
def test_every_model_is_meant_by_its_name_in_any_style(name: str) -> None:
    assert {style(name): (meant(style(name)) or ("none",))[0] for style in STYLES} == {style(name): name for style in STYLES}


def test_no_two_names_have_the_same_words() -> None:
    names = [*model_names(), *_table()["aliases"]]
    assert len({words_of(name) for name in names}) == len(names)


def test_other_names_stand_for_models_of_the_catalog() -> None:
    for name, model in _table()["aliases"].items():
        assert model in model_names(), name
        assert meant(name) == (model, ""), name


# names as they stand at huggingface.co, in papers and in forums
@pytest.mark.parametrize(
    ("written", "model", "weights"),
    [
        ("llama-3.1-8b-Q5_K_M", "llama-3.1-8b", "q5_k_m"),
        ("Meta-Llama-3.1-8B-Instruct-Q6_K.gguf", "llama-3.1-8b", "q6_k"),
        ("llama3-8b", "llama-3-8b", ""),
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
        ("skywork-moe", "was not opened"),  # is no tuning of skywork-13b
    ],
)
def test_a_model_that_is_known_and_missing_says_why(written: str, why: str) -> None:
    assert meant(written) is None
    with pytest.raises(PlannerError, match=why):
        require_meant(written)


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
