"""Training software as people call it: each name is one framework of the catalog, or says which to take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from each import for_each

import planner
from planner.common.errors import PlannerError
from planner.common.spec import read_table
from planner.serving.engine import resolve_engine
from planner.workload.framework import framework_names, load_framework
from planner.workload.framework_names import CATALOG, NAMES, _known, framework_of_name

TABLE = read_table(NAMES)
ASKED: dict[str, Any] = {"model": "gpt2", "cluster": {"accelerator": "a100-sxm4-40gb", "num_gpus": 8}}
JOB: dict[str, Any] = {"seq_len": 1024, "global_batch_size": 64}


def test_every_name_means_a_framework_of_the_catalog_and_only_one() -> None:
    words = [word for entry in [*TABLE["stacks"].values(), *TABLE["jobs"].values()] for word in entry["names"]]
    words += [*TABLE["jobs"], *TABLE["missing"], *framework_names()]
    plain = [word.replace("-", " ").replace(".", " ").replace("_", " ").lower() for word in words]
    assert len(set(plain)) == len(plain)
    stacks = [found["name"] for entry in TABLE["jobs"].values() for found in entry.values() if isinstance(found, dict)]
    stacks += [*TABLE["stacks"], *(name for names in TABLE["missing"].values() for name in names)]
    assert set(stacks) <= set(framework_names())


@pytest.mark.parametrize("kind", [None, "pretrain", "lora"])
@for_each("name", framework_names())
def test_a_files_own_name_is_always_that_file(name: str, kind: str | None) -> None:
    assert load_framework(name, kind=kind) == load_framework(name)
    assert load_framework(name.replace("-", " ").upper(), kind=kind).name == name


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("NeMo", "pretrain", "megatron-bridge"),
        ("Megatron-LM", "pretrain", "megatron-core"),
        ("DeepSpeed", "finetune", "deepspeed-zero"),
        ("MaxText", "pretrain", "jax-xla"),
        ("LLaMA-Factory", "qlora", "peft"),
        ("LLaMA-Factory", "finetune", "huggingface"),
        ("unsloth", "lora", "peft-liger"),
        ("nanoGPT", "pretrain", "pytorch"),
    ],
)
def test_software_is_read_as_the_framework_that_describes_it(name: str, kind: str, expected: str) -> None:
    job = {**JOB, "kind": kind, **({"adapter": {"rank": 8}} if "lora" in kind else {})}
    answer = planner.plan(**ASKED, framework=name, job=job)
    assert answer.framework.name == expected
    changed = " with attention_kernel = flash, compile = true" if name == "nanoGPT" else ""
    assert f"framework: {name} is read as {expected}{changed}" in answer.notes
    assert answer.step_time_s == planner.plan(**ASKED, framework=load_framework(name, kind=kind), job=job).step_time_s


def test_what_the_software_changes_of_a_framework_is_changed() -> None:
    compiled = load_framework("nanogpt")
    assert compiled.compile
    assert compiled.attention_kernel == "flash"
    assert compiled.fused_norm
    assert not load_framework("pytorch").compile
    assert not planner.plan(**ASKED, framework={"name": "nanogpt", "compile": False}, job=JOB).framework.compile


def test_software_of_several_jobs_asks_which_where_nobody_said_it() -> None:
    with pytest.raises(PlannerError, match="stands for peft where adapters are trained and for huggingface"):
        framework_of_name("trl", "framework.name", None)


def test_known_software_that_is_not_modelled_says_what_to_take() -> None:
    with pytest.raises(PlannerError, match="known, but not modelled; the nearest to it: fsdp or megatron-core"):
        planner.plan(**ASKED, framework="verl", job=JOB)


@pytest.mark.parametrize("kind", ["pretrain", "lora"])
@for_each("word", sorted({*_known(), *framework_names()}))
def test_no_name_of_training_software_is_taken_for_an_engine_in_any_case(word: str, kind: str) -> None:
    assert load_framework(word.upper(), kind=kind) == load_framework(word, kind=kind)


@pytest.mark.parametrize("name", ["hf", "HuggingFace", "transformers", "HF Transformers"])
def test_software_that_trains_and_serves_trains_here(run: Run, name: str) -> None:
    for question in (("plan", "gpt2"), ("compare", "gpt2", "gpt2-xl"), ("search", "gpt2")):
        code, printed, err = run(*question, "--on", "2xa100-sxm4-40gb", "--framework", name)
        assert (code, "huggingface" in printed) == (0, True), err
    code, _, err = run("search", "gpt2", "--on", "2xa100-sxm4-40gb", "--framework", f"{name},vllm")
    assert (code, "'vllm': serves and does not train" in err) == (2, True)


def test_a_file_of_ones_own_may_be_called_after_an_engine(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "vllm-fsdp.toml"
    own.write_text((CATALOG / "fsdp.toml").read_text().replace('name = "fsdp"', 'name = "vllm-fsdp"'))
    code, printed, err = run("plan", "gpt2", "--on", "2xa100-sxm4-40gb", "--framework", str(own))
    assert (code, "vllm-fsdp" in printed) == (0, True), err


@pytest.mark.parametrize("name", ["vllm", "vLLM 0.6.3", "SGLang", "llama.cpp", "ollama", "vllm-v1", "TensorRT-LLM"])
def test_an_engine_says_so_wherever_a_framework_is_named(run: Run, name: str) -> None:
    assert resolve_engine(name) is not None
    with pytest.raises(PlannerError, match=r"framework.name = .*: serves and does not train; ask `planner serve --engine"):
        planner.plan(**ASKED, framework=name, job=JOB)
    asked = ("gpt2", "--on", "2xa100-sxm4-40gb")
    for words in (("plan", *asked, "--set", f"framework.name={name}"), ("size", "gpt2", "--for", "full", "--framework", name)):
        code, _, err = run(*words)
        assert (code, "serves and does not train" in err) == (2, True), err


@pytest.mark.parametrize(
    ("name", "expected", "release", "said"),
    [
        ("NeMo-2.0", "megatron-bridge", "", "its release 2.0 is not read"),
        ("nemo2", "megatron-bridge", "", "its release 2 is not read"),
        ("NeMo 2", "megatron-bridge", "", "its release 2 is not read"),
        ("NeMo 26.06", "megatron-bridge", "26.06", "release 26.06"),
        ("torchtitan==0.1", "torchtitan", "0.1", "release 0.1"),
        ("fsdp 2", "torchtitan", "", "is read as torchtitan"),
        ("Torch FSDP2", "torchtitan", "", "is read as torchtitan"),
        ("FSDP-2", "torchtitan", "", "is read as torchtitan"),
    ],
)
def test_a_release_after_a_name_is_read_where_the_catalog_has_it_and_is_said_where_not(
    name: str, expected: str, release: str, said: str
) -> None:
    answer = planner.plan(**ASKED, framework=name, job=JOB)
    assert (answer.framework.name, answer.framework.release) == (expected, release)
    assert any(note.startswith(f"framework: {name} is read as") and note.endswith(said) for note in answer.notes)


@pytest.mark.parametrize("name", ["zero 7", "fsdp3", "torch fsdp 4"])
def test_a_digit_that_tells_software_apart_is_no_release(name: str) -> None:
    with pytest.raises(PlannerError, match="is not in planner/catalog/frameworks"):
        load_framework(name)


def test_where_no_name_is_near_the_list_is_named() -> None:
    with pytest.raises(PlannerError, match="is not in planner/catalog/frameworks; `planner frameworks list` shows all") as caught:
        load_framework("zqzqz")
    assert caught.value.code == "unknown"


def test_a_search_says_so_too(run: Run) -> None:
    code, printed, _ = run("search", "gpt2", "--on", "8xa100-sxm4-40gb", "--framework", "nemo")
    assert code == 0
    assert "nemo is read as megatron-bridge" in " ".join(printed.split())
