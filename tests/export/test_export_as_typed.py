"""`planner export MODEL --on GPUS --to TOOL`: every target takes a usual model, or refuses the job, never our own choice."""

from __future__ import annotations

import pytest
from command_line import Run

from planner.export import STACKS
from planner.export.servers import SERVERS
from planner.export.tuners import TUNERS

TUNES = [(tool, option) for tool in TUNERS for option in ("--lora", "--qlora", "--finetune")]


@pytest.mark.parametrize(("tool", "option"), [*((tool, "") for tool in (*STACKS, *SERVERS)), *TUNES])
def test_a_model_is_exported_as_typed(run: Run, tool: str, option: str) -> None:
    words = ["export", "llama-3-8b", "--on", "8xh100", "--to", tool, *([option] if option else [])]
    if (tool, option) in REFUSED:
        code, _, error = run(*words)
        assert code == 2
        assert REFUSED[tool, option] in error
        return
    code, text, error = run(*words)
    assert (code, text[:1]) == (0, "#"), error
    assert f"{tool} cannot express the recommended" in error or not error


REFUSED = {("peft", "--finetune"): "job.kind = 'finetune' trains all weights"}


def test_a_layout_that_was_given_is_exported_or_refused(run: Run) -> None:
    code, _, error = run("export", "llama-3-8b", "--on", "8xh100", "--lora", "--to", "trl", "--layout", "zero2 mbs1")
    assert code == 2
    assert (
        "layout.zero = 2 cannot be expressed by FSDP; use zero = 0 or 3, or plan with framework.name = peft-deepspeed." in error
    )  # not deepspeed's, which takes no adapters
    code, _, error = run("export", "llama-3-8b", "--on", "8xh100", "--to", "llama.cpp", "--set", "serving.dp=8")
    assert code == 2
    assert "one server is one replica" in error


def test_an_engine_that_was_given_is_not_another(run: Run) -> None:
    code, _, error = run("export", "llama-3-8b", "--on", "h100", "--to", "sglang", "--set", "serving.engine=vllm")
    assert code == 2
    assert "serving.engine=vllm" in error
    assert "serving.engine = sglang" in error
