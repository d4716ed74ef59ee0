"""Limits that an engine takes by the card where nobody says them: places and tokens of a pass."""

from __future__ import annotations

from pathlib import Path

import pytest

import planner
from planner.hardware.cluster import load_accelerator
from planner.launchfiles import read_launch
from planner.serving.engine import engine_for, load_engine
from planner.serving.spec import Serving

# vllm/engine/arg_utils.py, get_batch_defaults, of a server: (sequences, tokens of a pass)
VLLM = {
    "h100-sxm5-80gb": (1024, 8192),
    "h200-sxm-141gb": (1024, 8192),
    "a100-sxm4-80gb": (256, 2048),  # "a100" not in device_name
    "l4": (256, 2048),
    "rtx-4090-24gb": (256, 2048),
    "l40s": (256, 2048),
}
# sglang/srt/server_args.py, _handle_gpu_memory_settings: chunked_prefill_size by the card's memory
SGLANG = {"rtx-4090-24gb": 2048, "l40s": 4096, "h100-sxm5-80gb": 8192, "h200-sxm-141gb": 8192, "b200-sxm-180gb": 16384}


@pytest.mark.parametrize("card", VLLM)
def test_vllm_takes_fewer_sequences_on_small_cards_and_on_the_a100(card: str) -> None:
    for release in ("vllm-v1", "vllm-0.8"):
        found = load_engine(release).on(load_accelerator(card))
        assert (found.max_batch, found.prefill_tokens, found.memory_fraction) == (*VLLM[card], 0.9)


@pytest.mark.parametrize("card", SGLANG)
def test_sglang_takes_larger_passes_on_larger_cards(card: str) -> None:
    assert load_engine("sglang-0.5").on(load_accelerator(card)).prefill_tokens == SGLANG[card]


def test_what_the_user_says_holds_against_the_card() -> None:
    card = load_accelerator("h100-sxm5-80gb")
    spec = Serving.build({"engine": "sglang", "prompt": 100, "output": 10, "memory_fraction": 0.7}, "serving")
    assert engine_for(spec, card).memory_fraction == 0.7
    l4 = planner.serve(
        model="llama-3.1-8b", cluster={"accelerator": "l4", "num_gpus": 1}, serving={"prompt": 512, "output": 64, "clients": 8}
    )
    assert (l4.engine.max_batch, l4.times.setting.places, l4.times.setting.pass_tokens) == (256, 256, 2048)


@pytest.mark.parametrize(("card", "tokens", "kept"), [("l4", 2048, False), ("l4", 8192, True), ("h100-sxm5-80gb", 8192, False)])
def test_a_commands_pass_is_said_where_it_is_not_the_cards_own(card: str, tokens: int, kept: bool, tmp_path: Path) -> None:
    script = tmp_path / "serve.sh"
    script.write_text(f"vllm serve meta-llama/Llama-3.1-8B --max-num-batched-tokens {tokens} --gpu-memory-utilization 0.9")
    found = read_launch([script], cluster={"accelerator": card, "num_gpus": 1}).tables["serving"]
    assert found.get("chunked_prefill_tokens") == (tokens if kept else None)
    assert "memory_fraction" not in found
