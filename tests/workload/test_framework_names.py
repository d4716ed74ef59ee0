"""Training software as people call it: each name is one framework of the catalog, or says which to take."""

from __future__ import annotations

from typing import Any

import pytest
from command_line import Run

import planner
from planner.common.errors import PlannerError
from planner.common.spec import read_table
from planner.workload.framework import framework_names, load_framework
from planner.workload.framework_names import NAMES, framework_of_name

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
@pytest.mark.parametrize("name", framework_names())
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
    assert f"framework: {name} is read as {expected}" in answer.notes
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
    with pytest.raises(PlannerError, match="known and not modelled; nearest to it: fsdp or megatron-core"):
        planner.plan(**ASKED, framework="verl", job=JOB)


def test_a_search_says_so_too(run: Run) -> None:
    code, printed, _ = run("search", "gpt2", "--on", "8xa100-sxm4-40gb", "--framework", "nemo")
    assert code == 0
    assert "nemo is read as megatron-bridge" in " ".join(printed.split())
