"""Limits that an engine takes by the card where nobody says them: places and tokens of a pass."""

from __future__ import annotations

from pathlib import Path

import pytest

import planner
from planner.common.references import Place
from planner.export.servers import export_deployment
from planner.hardware.cluster import cluster, load_accelerator
from planner.hardware.custom_nodes import custom_node
from planner.launchfiles import read_launch
from planner.reports.serving_answer import serving_lines
from planner.serving.disaggregated import prefill_setting
from planner.serving.engine import ENGINES, LIMITS, engine_for, load_engine
from planner.serving.spec import Serving

# vllm/engine/arg_utils.py, get_batch_defaults, of a server: (sequences, tokens of a pass)
VLLM = {
    "h100-sxm5-80gb": (1024, 8192),
    "h200-sxm-141gb": (1024, 8192),
    "a100-sxm4-80gb": (256, 2048),  # "a100" not in device_name
    "l4": (256, 2048),
    "rtx-4090-24gb": (256, 2048),
    "l40s": (256, 2048),
    "tpu-v6e-32gb": (256, 1024),
    "tpu-v5e-16gb": (256, 512),
    "tpu-v5p-95gb": (256, 256),  # above 70 GiB, and the platform does not say so
    "tpu-v7-192gb": (256, 2048),
}
# sglang/srt/server_args.py, _handle_gpu_memory_settings: chunked_prefill_size by the card's memory
SGLANG = {"rtx-4090-24gb": 2048, "l40s": 4096, "h100-sxm5-80gb": 8192, "h200-sxm-141gb": 8192, "b200-sxm-180gb": 16384}


@pytest.mark.parametrize("card", VLLM)
def test_vllm_takes_fewer_sequences_on_small_cards_and_on_the_a100(card: str) -> None:
    for release in ("vllm-v1", "vllm-0.13"):
        found = load_engine(release).on(load_accelerator(card))
        assert (found.max_batch, found.prefill_tokens, found.memory_fraction) == (*VLLM[card], 0.9)


@pytest.mark.parametrize("card", SGLANG)
def test_sglang_takes_larger_passes_on_larger_cards(card: str) -> None:
    assert load_engine("sglang-0.5").on(load_accelerator(card)).prefill_tokens == SGLANG[card]


# its mem_fraction_static: 1 - (512 MiB + 1.5 MiB of each token of a pass + 2 MiB of each captured sequence + tp pp / 8 GiB) /
# memory, of the graphs below tp = 4
STATIC = {"rtx-4090-24gb": 0.847, "l40s": 0.851, "h100-sxm5-80gb": 0.835, "h200-sxm-141gb": 0.908, "b200-sxm-180gb": 0.857}


@pytest.mark.parametrize("card", STATIC)
def test_sglang_leaves_what_passes_and_graphs_take(card: str) -> None:
    accelerator = load_accelerator(card)
    spec = Serving.build({"engine": "sglang", "prompt": 100, "output": 10}, "serving")
    assert engine_for(spec, accelerator).memory_fraction == pytest.approx(STATIC[card], abs=0.005)
    assert engine_for(spec.replaced(chunked_prefill_tokens=32768), accelerator).memory_fraction < STATIC[card]
    small = engine_for(spec.replaced(chunked_prefill_tokens=512), accelerator).memory_fraction
    assert small == pytest.approx(1.0 - 10 * 2**30 / accelerator.memory_bytes, abs=0.001) or accelerator.memory_bytes < 60 * 2**30
    assert engine_for(spec.replaced(engine="sglang-0.4"), accelerator).memory_fraction == 0.88


# the same function, cuda_graph_max_bs below tp = 4 and from there on
WIDEST = {
    "t4": (8, 8),
    "rtx-4090-24gb": (24, 80),
    "l40s": (32, 160),
    "h100-sxm5-80gb": (256, 512),
    "h200-sxm-141gb": (256, 512),
    "b200-sxm-180gb": (512, 512),
}


@pytest.mark.parametrize("card", WIDEST)
@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (2, 2), (4, 1), (8, 1), (8, 2)])
def test_sglang_captures_wider_graphs_from_tp_4_on(card: str, tp: int, pp: int) -> None:
    accelerator = load_accelerator(card)
    spec = Serving.build({"engine": "sglang", "prompt": 100, "output": 10, "tp": tp, "pp": pp}, "serving")
    tokens = load_engine("sglang-0.5").on(accelerator).prefill_tokens
    mib = 512 + 1.5 * tokens + 2 * WIDEST[card][tp >= 4] + tp * pp / 8 * 1024
    left = max(mib, 10 * 1024) if accelerator.memory_bytes > 60 * 2**30 else mib
    assert engine_for(spec, accelerator).memory_fraction == pytest.approx(1 - left * 2**20 / accelerator.memory_bytes, abs=0.0005)


@pytest.mark.parametrize(("tp", "ep"), [(1, 2), (1, 8), (8, 4), (2, 8)])
def test_a_server_of_experts_has_the_limits_of_its_ranks(tp: int, ep: int) -> None:
    """It is started with as many ranks as GPUs of a stage, whichever way they are cut."""
    spec = Serving.build({"engine": "sglang", "prompt": 100, "output": 10, "tp": tp, "ep": ep}, "serving")
    assert spec.ranks == max(tp, ep)
    engine = engine_for(spec, load_accelerator("l40s"))
    assert engine.graph_sequences == load_engine("sglang").on(load_accelerator("l40s"), max(tp, ep)).graph_sequences
    assert engine.graph_sequences == WIDEST["l40s"][max(tp, ep) >= 4]


def test_a_cut_that_is_chosen_leaves_as_much_as_one_that_is_said() -> None:
    asked = {"model": "llama-3.1-70b", "cluster": "8xh100"}
    fields = {"engine": "sglang", "prompt": 512, "output": 64}
    chosen = planner.serve(**asked, serving=fields)
    cut = {name: getattr(chosen.serving, name) for name in ("tp", "pp", "ep", "dp")}
    assert cut["tp"] > 1
    assert chosen.engine.memory_fraction == planner.serve(**asked, serving={**fields, **cut}).engine.memory_fraction


def test_a_prefill_pool_leaves_what_its_own_cut_takes() -> None:
    pool = {"replicas": 4, "tp": 1}
    fields = {"engine": "sglang", "prompt": 512, "output": 64, "tp": 4, "dp": 1, "prefill_pool": pool, "requests_per_s": 1}
    found = planner.serve(model="llama-3.1-8b", cluster="8xh100", serving=fields).times.setting
    one = Serving.build({"engine": "sglang", "prompt": 512, "output": 64}, "serving")
    assert prefill_setting(found).engine.memory_fraction == engine_for(one, found.cluster.accelerator).memory_fraction
    assert found.engine.memory_fraction < prefill_setting(found).engine.memory_fraction


@pytest.mark.parametrize("memory", [2e9, 3.7e9, 4e9])
def test_a_card_smaller_than_what_sglang_leaves_holds_nothing(memory: float) -> None:
    card = load_accelerator("t4").replaced(name="small", memory_bytes=memory, usable_memory_bytes=None)
    on = cluster(custom_node("t4", 1), accelerator=card)
    found = planner.serve(
        model="pythia-70m", cluster=on, serving={"engine": "sglang", "weights": "fp16", "prompt": 8, "output": 8}
    )
    assert not found.fits
    assert found.engine.memory_fraction <= 0.1


def test_what_the_user_says_holds_against_the_card() -> None:
    card = load_accelerator("h100-sxm5-80gb")
    spec = Serving.build({"engine": "sglang", "prompt": 100, "output": 10, "memory_fraction": 0.7}, "serving")
    assert engine_for(spec, card).memory_fraction == 0.7
    l4 = planner.serve(
        model="llama-3.1-8b", cluster={"accelerator": "l4", "num_gpus": 1}, serving={"prompt": 512, "output": 64, "clients": 8}
    )
    assert (l4.engine.max_batch, l4.times.setting.places, l4.times.setting.pass_tokens) == (256, 256, 2048)


@pytest.mark.parametrize("card", ["h100-sxm5-80gb", "l4", "a100-sxm4-80gb"])
def test_what_the_user_says_of_a_limit_holds_on_every_card(card: str) -> None:
    said = {"prompt": 512, "output": 64, "max_batch": 300, "pass_tokens": 3000}
    d = planner.serve(model="llama-3.2-1b", cluster={"accelerator": card, "num_gpus": 1}, serving=said)
    assert (d.times.setting.places, d.times.setting.pass_tokens) == (300, 3000)


@pytest.mark.parametrize("stated", [{"max_batch": 512, "prefill_tokens": 4096}, {"max_batch": 512}, {}])
def test_what_an_engines_own_file_says_holds_against_the_card(stated: dict[str, int], tmp_path: Path) -> None:
    """What it leaves out is its base's on that card; a file based on it takes both."""
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    lines = "".join(f"{field} = {value}\n" for field, value in stated.items())
    first.write_text(f'base = "vllm-v1"\nname = "own"\n{lines}')
    second.write_text(f'base = "{first}"\nname = "next"\nblock_size = 32\n')
    for card, (places, tokens) in VLLM.items():
        for file in (first, second):
            found = load_engine(str(file)).on(load_accelerator(card))
            assert {"max_batch": places, "prefill_tokens": tokens, **stated} == {f: getattr(found, f) for f in LIMITS}


def test_cards_that_an_engines_own_file_names_hold_against_its_limits(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('base = "vllm-v1"\nname = "own"\nmax_batch = 512\non_cards = [{ named = "l4", max_batch = 64 }]\n')
    found = [load_engine(str(file)).on(load_accelerator(card)).max_batch for card in ("l4", "h100-sxm5-80gb", "a100-sxm4-80gb")]
    assert found == [64, 512, 512]


@pytest.mark.parametrize("field", LIMITS)
def test_a_limit_that_depends_on_the_card_is_not_taken_without_the_cards(field: str) -> None:
    for name in ENGINES.names():
        others = {place.file for place in ENGINES.places(Place(name, field))} - set(ENGINES.lineage(name))
        by_card = {other for other in others if any(field in e for e in ENGINES.table(other).get("on_cards", ()))}
        assert not by_card, f"{name}.{field} is that of {by_card} on one card; state it, or base the file on it"


@pytest.mark.parametrize(
    ("card", "fields", "words"),
    [
        ("a100-sxm4-80gb", {}, "256 requests at once, the limit of vllm-v1: memory for"),
        ("a100-sxm4-80gb", {"max_batch": 100}, "100 requests at once, the limit of serving.max_batch: memory for"),
        ("l4", {"prompt": 30000}, "room for"),
    ],
)
def test_room_is_what_both_memory_and_the_engine_take(card: str, fields: dict[str, int], words: str) -> None:
    asked = {"prompt": 512, "output": 64, "clients": 8, **fields}
    d = planner.serve(model="llama-3.2-1b", cluster={"accelerator": card, "num_gpus": 1}, serving=asked)
    assert words in dict(serving_lines(d))["fits"]


@pytest.mark.parametrize(("card", "tokens", "kept"), [("l4", 2048, False), ("l4", 8192, True), ("h100-sxm5-80gb", 8192, False)])
def test_a_commands_pass_is_said_where_it_is_not_the_cards_own(card: str, tokens: int, kept: bool, tmp_path: Path) -> None:
    script = tmp_path / "serve.sh"
    script.write_text(f"vllm serve meta-llama/Llama-3.1-8B --max-num-batched-tokens {tokens} --gpu-memory-utilization 0.9")
    found = read_launch([script], cluster={"accelerator": card, "num_gpus": 1}).tables["serving"]
    assert found.get("chunked_prefill_tokens") == (tokens if kept else None)
    assert "memory_fraction" not in found


DEEPSEEK = {"model": "deepseek-v3", "cluster": "8xh200"}
GROUPS = {"prompt": 512, "output": 64, "tp": 1, "ep": 8, "clients": 8}


@pytest.mark.parametrize(("engine", "tokens"), [("sglang", 1024), ("vllm", 8192), ("tensorrt-llm", 8192)])
def test_a_pass_of_all_attention_groups_is_shared_where_the_server_counts_so(engine: str, tokens: int) -> None:
    """SGLang divides chunked_prefill_size by dp_size under attention groups; the others say it of each rank."""
    d = planner.serve(**DEEPSEEK, serving={**GROUPS, "engine": engine})
    assert d.times.setting.pass_tokens == tokens
    said = planner.serve(**DEEPSEEK, serving={**GROUPS, "engine": engine, "pass_tokens": 4096})
    assert said.times.setting.pass_tokens == 4096


def test_sglang_leaves_more_for_the_graphs_of_attention_groups() -> None:
    """3 MiB for each captured sequence and group, 4.5 where graphs are wider than 300 (_handle_gpu_memory_settings)."""
    for card, each in (("l40s", 3.0), ("h200-sxm-141gb", 4.5)):
        accelerator = load_accelerator(card)
        spec = Serving.build({"engine": "sglang", "prompt": 512, "output": 64, "tp": 1, "ep": 8}, "serving")
        widest = WIDEST[card][1]
        mib = 512 + 1.5 * SGLANG[card] + 2 * widest + 1024 + each * widest * 8
        found = engine_for(spec, accelerator).memory_fraction
        assert found == pytest.approx(1 - mib * 2**20 / accelerator.memory_bytes, abs=0.0005)


def test_a_command_of_attention_groups_is_read_and_written_for_all_of_them(tmp_path: Path) -> None:
    script = tmp_path / "serve.sh"
    script.write_text(
        "python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp 8 --dp 8 --enable-dp-attention --ep-size 8 "
        "--chunked-prefill-size 65536 --max-running-requests 1024 --mem-fraction-static 0.85"
    )
    found = read_launch([script], cluster={"node": "dgx-h200"}).tables["serving"]
    assert (found["chunked_prefill_tokens"], found["max_batch"]) == (8192, 128)
    d = planner.serve(model="deepseek-v3", cluster="8xh200", serving={**found, "clients": 8})
    text = export_deployment(d, "sglang")["launch.sh"]
    assert "--chunked-prefill-size 65536" in text
    assert "--max-running-requests 1024" in text


def test_batches_wider_than_every_graph_are_launched_kernel_by_kernel() -> None:
    setting = planner.serve(
        model="llama-3.2-1b", cluster="1xh100", serving={"engine": "sglang", "prompt": 16, "output": 16, "clients": 8}
    ).times
    widest = setting.setting.engine.graph_sequences
    assert float(setting.decode_s(widest, 16)) < setting.prompt_launch_s < float(setting.decode_s(widest + 1, 16))
