"""``planner serve`` and ``planner size`` as a user meets them: scenarios, tables, JSON, pictures, errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from planner.cli.main import main
from planner.cli.options import UNREAD
from planner.hardware.cluster import Cluster, accelerator_names
from planner.model.catalog import load_model
from planner.prices.market import rented_accelerators
from planner.scenarios.serving import read_serving_scenario
from planner.serving import serve
from planner.serving.curves import curve, load_curve
from planner.serving.engine import engine_names, load_engine
from planner.studies.sizing import Capacity, Purpose, Size, sizes
from planner.workload.job import Job
from planner.workload.resolve import as_cluster

Run = Callable[..., tuple[int, str, str]]
SCENARIOS = sorted((ROOT / "scenarios" / "serving").glob("*.toml"))
GOOD = """
title = "test"
[model]
name = "llama-3.1-8b"
[cluster]
node = "dgx-h100"
num_gpus = 1
[serving]
engine = "vllm"
weights = "fp8"
prompt = 512
output = 128
requests_per_s = 5
num_requests = 500
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["planner", *map(str, arguments)])
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return int(code), captured.out, captured.err

    return call


def so_many(accelerator: str, num_gpus: int) -> Cluster:
    """What every command takes where nobody names a node."""
    return as_cluster({"accelerator": accelerator, "num_gpus": num_gpus})


def written(folder: Path, *changes: tuple[str, str], name: str = "question.toml") -> Path:
    text = GOOD
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_ready_made_scenarios_are_answered(path: Path) -> None:
    for case in read_serving_scenario(path).cases:
        answer = case.serve()
        assert answer.fits
        assert all(i.lower <= i.expected <= i.upper for i in answer.intervals.values())
        assert {"ttft_s", "tpot_s", "output_tokens_per_s", "total_bytes"} <= set(answer.intervals)


def test_the_seed_tables_in_their_own_words() -> None:
    """A 4x7B mixture is not 28B: its experts share attention. 16-bit weights halve to 8 bit; 14 GB to 3.5 GB takes four bits."""
    moe = {c.label: c.serve() for c in read_serving_scenario(SCENARIOS[0].parent / "chatlaw2-moe.toml").cases}
    assert moe["4x7B MoE, fp16"].parameters_total < 0.75 * 28e9
    assert moe["4x7B MoE, fp16"].weights_bytes < 48e9
    assert 0.5 < moe["4x7B MoE, int8"].weights_bytes / moe["4x7B MoE, fp16"].weights_bytes < 0.55
    assert moe["4x7B MoE, fp16"].tpot_s < moe["dense 13B, fp16"].tpot_s  # type: ignore[operator]
    qwen = {c.label: c.serve() for c in read_serving_scenario(SCENARIOS[0].parent / "qwen-7b.toml").cases}
    wide, eight, four, student = qwen.values()
    assert 14e9 < wide.weights_bytes < 16e9
    assert eight.weights_bytes > 2 * 3.5e9
    assert 3.5e9 < four.weights_bytes < 6e9
    order = [one.output_tokens_per_s or 0.0 for one in (wide, eight, four, student)]
    assert order == sorted(order)


def test_table_json_and_pictures(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path)
    other = written(tmp_path, ('"fp8"', '"bf16"'), name="other.toml")
    code, out, _ = run("serve", path, "--compare", other)
    assert code == 0
    assert "llama-3.1-8b, fp8" in out
    assert "llama-3.1-8b, bf16" in out
    picture = tmp_path / "curve.png"
    code, out, _ = run("serve", path, "--json", "--plot", picture)
    assert code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    case = json.loads(out)["cases"][0]
    assert case["fits"] is True
    assert case["load"]["stable"] is True
    assert set(case["load"]["e2e_s"]) == {"mean", "p50", "p95", "p99"}
    assert case["memory_bytes"]["weights"] == pytest.approx(case["weights_bytes"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('weights = "fp8"', 'weights = "fp9"'), "serving.weights = 'fp9'"),
        (("prompt = 512", "promt = 512"), "unknown field promt = 512; did you mean prompt?"),
        (("[serving]", "[job]"), "a scenario with [job] is for planner plan"),
        (('name = "llama-3.1-8b"', 'name = "lama-3.1-8b"'), "did you mean llama-3.1-8b"),
        (("num_gpus = 1", "num_gpus = 3\n[price]\nusd_per_gpu_hour = -1"), "price.usd_per_gpu_hour = -1"),
    ],
)
def test_bad_scenarios_end_with_one_paragraph(run: Run, tmp_path: Path, change: tuple[str, str], words: str) -> None:
    code, out, err = run("serve", written(tmp_path, change))
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_a_deployment_that_does_not_fit_is_an_answer(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path, ("llama-3.1-8b", "llama-3.1-70b"), ('"fp8"', '"bf16"'))
    code, out, _ = run("serve", path)
    assert code == 0
    assert "fits      no: " in out
    assert "it fits with weights = fp8" in out
    assert "does not fit" in run("serve", path, "--details")[1]
    code, _, err = run("serve", path, "--plot", tmp_path / "a.png")
    assert code == 2
    assert "nothing to draw" in err
    assert not (tmp_path / "a.png").exists()


def test_curves_are_frames_within_memory() -> None:
    answer = serve(model="llama-2-13b", cluster={"node": "dgx-a100-80gb", "num_gpus": 1}, serving={"prompt": 1000, "output": 200})
    table = curve(answer)
    assert list(table["batch"]) == sorted(table["batch"])
    assert table["output_tokens_per_s"].is_monotonic_increasing
    assert (table["total_bytes"] <= answer.limit_bytes).all()
    assert table["batch"].max() == answer.max_batch
    assert (table["tpot_s_lower"] <= table["tpot_s"]).all()
    loads = load_curve(answer, (0.2, 0.8))
    assert (loads["e2e_s_p50"] <= loads["e2e_s_p95"]).all()
    assert loads["e2e_s_p50"].iloc[0] < loads["e2e_s_p50"].iloc[1]


def test_money_and_energy_add_up() -> None:
    answer = serve(
        model="llama-2-13b",
        cluster={"node": "dgx-a100-80gb", "num_gpus": 1},
        price=3.6,
        serving={"prompt": 1000, "output": 200, "batch": 16},
    )
    assert answer.expense is not None
    rate = answer.output_tokens_per_s or 0.0
    assert answer.expense.usd_per_million_tokens == pytest.approx(3.6 / 3600 / rate * 1e6)
    assert answer.expense.usd_per_request == pytest.approx(200 * answer.expense.usd_per_million_tokens / 1e6)
    assert answer.expense.joules_per_token == pytest.approx((answer.expense.power_w or 0.0) / rate)


def test_every_engine_serves_its_own_kind(run: Run) -> None:
    for name in engine_names():
        assert load_engine(name).name == name
        own = "NVIDIA" in load_engine(name).vendors
        node = {"node": "dgx-a100-80gb", "num_gpus": 1} if own else "m3-max"
        assert serve(model="llama-2-7b", cluster=node, serving={"engine": name, "prompt": 128, "output": 32}).fits


def test_sizes_by_the_usual_tiers() -> None:
    """Below 7B one consumer card in 16 bit; 13B needs 40 GB or several cards; 70B two of 80 GB, or one in four bits."""
    small, large = sizes("qwen2.5-3b", "serve"), sizes("llama-2-70b", "serve", accelerator=",".join(CARDS))
    by = {s.accelerator: s.num_gpus for s in small.rows}
    assert by["rtx-3070-8gb"] == by["rtx-3090-24gb"] == by["t4"] == 1
    assert fewest("llama-2-13b", "serve", "a100-sxm4-40gb") == {"a100-sxm4-40gb": 1}
    assert {s.accelerator: s.num_gpus for s in large.rows}["h100-sxm5-80gb"] == 2
    assert fewest("llama-2-70b", "serve", "h100-sxm5-80gb", weights="int4-awq") == {"h100-sxm5-80gb": 1}
    assert all(s.fit_probability >= 0.95 for s in (*small.rows, *large.rows))
    assert {s.accelerator for s in small.rows} | set(small.left_out) == set(rented_accelerators())
    assert set(small.not_tried) == set(accelerator_names()) - set(rented_accelerators()) - {"cpu"}
    cheapest = large.cheapest
    assert cheapest is not None
    assert cheapest.usd_per_hour == min(s.usd_per_hour for s in large.rows if s.usd_per_hour is not None)


def test_what_nobody_rents_out_is_no_cheapest() -> None:
    """An estimated price is no offer: it is ranked after what can be had, whatever it is, and alone it is ranked itself."""
    asked = sizes("qwen2.5-0.5b", "lora", accelerator="gtx-1070,h100,rtx-4090")
    assert [s.accelerator for s in asked.rows] == ["rtx-4090-24gb", "h100-sxm5-80gb", "gtx-1070-8gb"]
    assert asked.cheapest is not None
    assert asked.cheapest.accelerator == "rtx-4090-24gb"
    assert asked.rows[2].usd_per_hour < asked.cheapest.usd_per_hour
    alone = sizes("qwen2.5-0.5b", "lora", accelerator="gtx-1070").cheapest
    assert alone is not None
    assert not alone.rented


def test_as_many_types_of_gpu_as_asked_for(run: Run) -> None:
    """The cheapest, and behind those asked for the one that the words below name: of the least memory."""
    named = ("size", "qwen2.5-0.5b", "--for", "lora", "--on", "t4,rtx-3090,rtx-4090")
    for top, shown, more in ((1, 2, "1 more fit (--top 3 shows them)"), (3, 3, ""), (None, 3, "")):
        code, out, _ = run(*named, *(() if top is None else ("--top", str(top))))
        assert (code, sum(out.count(f"\n{name}: $") for name in ("t4", "rtx-3090-24gb", "rtx-4090-24gb"))) == (0, shown)
        assert more in out
        assert bool(more) == ("more fit" in out)
    code, _, err = run(*named, "--top", "0")
    assert (code, "--top = 0: must be a whole number of at least 1" in err) == (2, True)


def test_full_tuning_needs_more_than_serving(run: Run) -> None:
    tuned, served = fewest("llama-3.2-1b", "full", *CARDS), fewest("llama-3.2-1b", "serve", *CARDS)
    assert tuned
    assert all(tuned[name] >= served[name] for name in tuned)
    code, out, _ = run("size", "qwen2.5-0.5b", "--for", "serve", "--on", "t4,rtx-3090", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["purpose"] == "serve"
    assert found["smallest"]["num_gpus"] == 1


CARDS = ("rtx-3070-8gb", "rtx-3090-24gb", "rtx-4090-24gb", "v100-sxm2-32gb", "a100-sxm4-80gb", "h100-sxm5-80gb")


def fewest(model: str, kind: Purpose, *cards: str, **more: Any) -> dict[str, int]:
    """The fewest GPUs of each card on which it fits."""
    return {s.accelerator: s.num_gpus for s in sizes(model, kind, accelerator=",".join(cards), **more).rows}


def size_on(card: str, model: str, kind: Purpose, **more: Any) -> Size | None:
    """The fewest GPUs of one type."""
    return next(iter(sizes(model, kind, accelerator=card, **more).rows), None)


def test_adapters_need_no_more_gpus_than_full_tuning() -> None:
    for card in CARDS:
        full, lora = (size_on(card, "llama-3.2-1b", kind) for kind in ("full", "lora"))
        assert full is None or (lora is not None and lora.num_gpus <= full.num_gpus)
    few, many = (size_on("rtx-3090-24gb", "llama-3.2-1b", "lora", job={"adapter": {"rank": rank}}) for rank in (8, 1024))
    assert few is not None
    assert many is not None
    assert (many.num_gpus, many.total_bytes) > (few.num_gpus, few.total_bytes)


def test_a_size_surely_fits_on_the_fewest_gpus_that_can() -> None:
    """Two RTX 3090 hold 7.7 B weights of two bytes in halves, 7.2 GiB each, and adapters beside them."""
    found = {card: one for card in CARDS if (one := size_on(card, "qwen-7b", "lora")) is not None}
    assert found["rtx-3090-24gb"].num_gpus <= 2
    assert len(found) >= 4
    assert all(s.fit_probability >= 0.95 for s in found.values())


def test_less_risk_and_more_room_never_take_fewer_gpus() -> None:
    for card in ("rtx-3090-24gb", "a100-sxm4-40gb"):
        usual = size_on(card, "llama-2-13b", "serve")
        assert usual is not None
        for more in ({"risk": 0.001}, {"headroom": 0.4}):
            other = size_on(card, "llama-2-13b", "serve", **more)
            assert other is None or other.num_gpus >= usual.num_gpus
            assert other is None or other.headroom >= more.get("headroom", 0.0)


def test_bad_sizes_are_explained(run: Run) -> None:
    assert run("size", "gpt2", "--for", "lora", "--framework", "foo")[0] == 2
    assert "goes with --for serve" in run("size", "gpt2", "--for", "lora", "--weights", "int4-awq")[2]
    assert "only --for lora and --for qlora" in run("size", "gpt2", "--for", "serve", "--rank", "8")[2]
    assert "rank = 0" in run("size", "gpt2", "--for", "lora", "--rank", "0")[2]
    assert "must be one of serve, lora, qlora, full" in run("size", "gpt2", "--for", "fun")[2]
    assert "did you mean" in run("size", "llama-3-9b", "--for", "serve")[2]
    assert run("size", "gpt2", "--for", "serve", "--seq-len", "1")[0] == 2


def test_an_encoder_is_served_and_sized_for_vectors(run: Run) -> None:
    assert load_model("bert-base").architecture == "encoder"
    code, out, _ = run("size", "bert-base", "--for", "serve", "--on", "l4")
    assert code == 0
    assert "tokens are of the texts read: bert-base makes vectors" in out
    assert "cheapest per token: 1 x l4, $0.0" in out
    assert "makes vectors, no text" in run("size", "bert-base", "--for", "serve", "--prompt", "64", "--output", "8")[2]
    code, out, _ = run("serve", "bert-base", "--on", "l4")
    assert code == 0
    assert "vectors/s" in out
    assert "per million tokens" in out
    assert "output tokens" not in out


def test_other_weights_of_a_comparison_do_not_inherit_what_belongs_to_the_first(tmp_path: Path) -> None:
    grouped = 'weights = "int4-awq"\ngroup_size = 64\nkeep_16_bit = ["embedding"]'
    path = written(tmp_path, ('weights = "fp8"', grouped))
    path.write_text(path.read_text() + '[[compare]]\nserving = { weights = "bf16" }\n[[compare]]\nserving = { batch = 2 }\n')
    first, bf16, batch = (case.serve().serving for case in read_serving_scenario(path).cases)
    assert (first.group_size, bf16.group_size, batch.group_size) == (64, None, 64)
    assert bf16.keep_16_bit is None


def test_options_of_serving_and_of_tuning_do_not_mix(run: Run) -> None:
    assert "--engine sglang: goes with --for serve" in run("size", "gpt2", "--for", "lora", "--engine", "sglang")[2]
    assert "--framework fsdp: goes with tuning" in run("size", "gpt2", "--for", "serve", "--framework", "fsdp")[2]


def test_more_gpus_hold_what_sixteen_do_not(run: Run) -> None:
    """405 billion weights of two bytes are 50.6 GB on each of 16: too much for 40 GB cards, and half of it on 32 is not."""
    cards = (*CARDS, "a100-sxm4-40gb", "h200-sxm-141gb", "b200-sxm-180gb")
    few, many = (fewest("llama-3.1-405b", "serve", *cards, max_gpus=n) for n in (16, 32))
    assert "a100-sxm4-40gb" not in few
    assert many["a100-sxm4-40gb"] == 32
    assert few
    assert few.items() <= many.items()
    assert "--max-gpus 0: must be" in run("size", "gpt2", "--for", "serve", "--max-gpus", "0")[2]


def test_a_size_is_the_fastest_cut_that_surely_fits() -> None:
    row = sizes("llama-2-70b", "serve", batch=1, accelerator="rtx-3090").rows[0]
    rates = []
    for tp in (1, 2, 4, 8):
        cut = {"tp": tp, "pp": row.num_gpus // tp, "dp": 1}
        d = serve(
            model="llama-2-70b", cluster=so_many(row.accelerator, row.num_gpus), serving={"prompt": 1536, "output": 512, **cut}
        )
        if d.fits and d.intervals["total_bytes"].probability_below(d.card_bytes) >= 0.95:
            rates.append(d.output_tokens_per_s or 0.0)
    assert row.tokens_per_s == pytest.approx(max(rates))


def test_serving_is_priced_at_capacity_within_the_latencies(run: Run) -> None:
    """A batch shares the reading of the weights: a token costs less than alone; tighter limits never lower its price, and more
    GPUs of a kind are named where they make it cheaper."""
    asked: dict[str, Any] = {"accelerator": "h100-sxm5-80gb"}
    alone = sizes("llama-3.1-70b", "serve", batch=1, **asked).rows[0]
    full = sizes("llama-3.1-70b", "serve", batch=Capacity(value=True), **asked).rows[0]
    assert full.batch > 1 == alone.batch
    assert full.num_gpus == alone.num_gpus
    assert (full.usd_per_million_tokens or 0) < (alone.usd_per_million_tokens or 0) / 4
    assert full.value is not None
    assert full.value.num_gpus > full.num_gpus
    assert (full.value.usd_per_million_tokens or 0) < (full.usd_per_million_tokens or 0)
    prices = []
    for tpot in (0.2, 0.05, 0.035):
        row = sizes("llama-3.1-70b", "serve", batch=Capacity(tpot_s=tpot), gpus=4, **asked).rows[0]
        d = serve(
            model="llama-3.1-70b",
            cluster=so_many(row.accelerator, 4),
            serving={"prompt": 1536, "output": 512, "tp": 4, "dp": 1, "batch": row.batch},
        )
        assert row.cut != "tp 4" or (d.tpot_s or 1.0) <= tpot
        prices.append(row.usd_per_million_tokens or float("inf"))
    assert prices == sorted(prices)
    never = sizes("llama-3.1-70b", "serve", batch=Capacity(tpot_s=0.001), **asked).rows[0]
    assert (never.in_time, never.usd_per_million_tokens) == (False, None)
    assert "--tpot 0: must be" in run("size", "gpt2", "--for", "serve", "--tpot", "0")[2]
    assert "--tpot 1: goes with --for serve" in run("size", "gpt2", "--for", "lora", "--tpot", "1")[2]


def test_what_does_not_fit_is_named_on_the_picture(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text() + '[[compare]]\nlabel = "too large"\nmodel = { name = "llama-3.1-405b" }\n')
    code, _, err = run("serve", path, "--plot", tmp_path / "a.svg")
    assert code == 0
    assert "not drawn: too large does not fit: weights and overhead need" in err
    assert "too large: does not fit" in (tmp_path / "a.svg").read_text()


def test_the_draft_stands_in_the_table(run: Run, tmp_path: Path) -> None:
    spec = 'speculative = { draft = "llama-3.2-1b", tokens = 4, acceptance = 0.7 }'
    out = run("serve", written(tmp_path, ("output = 128", "output = 128\n" + spec)))[1]
    assert "draft llama-3.2-1b: 4 tokens, 70% accepted" in " ".join(out.split())


def test_a_fixed_batch_is_an_option(run: Run) -> None:
    """The same as the field of the scenario."""
    option, field = (run("serve", "gpt2", "--on", "l4", *said) for said in (("--batch", "8"), ("--set", "serving.batch=8")))
    assert option[0] == 0
    assert option == field


@pytest.mark.parametrize("load", [("--clients", "40"), ("--rate", "3"), ()])
def test_the_answer_comes_first_and_fits_a_narrow_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, load: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("serve", "llama-3-70b", "--on", "8xh100", *load)
    assert code == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    names = [
        line.split("  ")[1] for line in lines[1:] if line.startswith("  ") and line[2] != " " and len(line[:12].split("  ")) > 2
    ]
    assert names[:8] == ["fits", "latency", "output", "capacity", "cost", "cut", "on", "based on"]
    assert "\ncut chosen: tp = " in out


COMMANDS = {
    "vllm": "vllm serve meta-llama/Llama-3.1-8B-Instruct --tensor-parallel-size 2 --max-num-seqs 64",
    "sglang": "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B-Instruct --tp 2 --max-running-requests 64",
    "tensorrt-llm": "trtllm-serve meta-llama/Llama-3.1-8B-Instruct --tp_size 2 --max_batch_size 64",
}


@pytest.mark.parametrize("engine", COMMANDS)
def test_a_start_command_is_answered_as_the_scenario_that_it_is(run: Run, tmp_path: Path, engine: str) -> None:
    script = tmp_path / "serve.sh"
    script.write_text(f"#!/bin/bash\n{COMMANDS[engine]}\n")
    code, out, err = run("serve", "--from", script, "--on", "h100", "--rate", "2", "--json")
    assert code == 0, err
    answer = json.loads(out)
    tables = answer["launch"]["scenario"]
    serving = tables["serving"]
    assert (serving["engine"], serving["tp"], serving["max_batch"], serving["requests_per_s"]) == (engine, 2, 64, 2)
    said = serve(**tables)
    assert answer["cases"][0]["total_bytes"] == said.to_dict()["total_bytes"]
    code, out, _ = run("serve", "--from", script, "--on", "h100", "--rate", "2")
    assert (code, out.startswith("Read as a question"), "  fits      yes" in out) == (0, True, True)


def test_a_training_script_is_no_question_of_serving(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "train.sh"
    sizes = "--num-layers 2 --hidden-size 64 --num-attention-heads 4 --seq-length 128 --vocab-size 512"
    script.write_text(f"torchrun --nproc_per_node 8 pretrain_gpt.py {sizes} --micro-batch-size 1 --global-batch-size 8\n")
    code, _, err = run("serve", "--from", script, "--on", "8xh100")
    assert (code, "planner plan --from" in err) == (2, True), err
    code, _, err = run("serve")
    assert (code, "--from" in err) == (2, True)


@pytest.mark.parametrize("table", ["serving", "load"])
@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        (("--clients", "3"), "clients", 3),
        (("--rate", "2"), "requests_per_s", 2.0),
        (("--set", "serving.clients=3"), "clients", 3),
        (("--set", "load.requests_per_s=2"), "requests_per_s", 2.0),
        (("--prompt", "99"), "prompt", 99),
        (("--set", "load.output=77"), "output", 77),
    ],
)
def test_an_option_changes_the_load_in_whichever_table_it_stands(
    table: str, change: tuple[str, str], field: str, value: float, run: Run, tmp_path: Path
) -> None:
    load = {"serving": "", "load": "[load]\n"}[table] + "requests_per_s = 1.0\nprompt = 256\noutput = 64\n"
    path = tmp_path / "asked.toml"
    path.write_text(
        '[model]\nname = "gpt2"\n[cluster]\naccelerator = "l4"\nnum_gpus = 1\n[serving]\nengine = "vllm"\n' + load,
        encoding="utf-8",
    )
    code, out, err = run("serve", path, "--json", *change)
    assert code == 0, err
    said = json.loads(out)["cases"][0]["serving"]
    assert (said[field]["mean"] if isinstance(said[field], dict) else said[field]) == value
    assert (said["clients"] is None) != (said["requests_per_s"] is None)


@pytest.mark.parametrize("change", ["load.prompt=99", "serving.prompt.mean=99", "prompt"])
def test_what_was_set_is_not_told_as_usual(change: str, run: Run) -> None:
    """Whichever table and however deep the field: only what nobody gave was taken as usual."""
    code, out, _ = run("serve", "gpt2", "--on", "l4", *(("--set", change) if "=" in change else ()))
    usual = out[out.index("taken as usual") :]
    assert code == 0
    assert ("prompt" in usual) == ("=" not in change)
    assert ("99 tokens" in out) == ("=" in change)
    assert "output" in usual


def test_every_length_of_a_run_is_refused_where_a_step_is_asked() -> None:
    """The rows of a step know no length: no field of [job] that says one is accepted there and ignored."""
    lengths = {f"job.{name}" for name in Job.model_fields if name.startswith("num_")}
    for command in ("operators", "trace"):
        assert lengths <= set(UNREAD[command])


def test_a_named_gpu_that_does_not_do_has_its_reason_beside_those_that_fit(run: Run) -> None:
    code, out, _ = run("size", "llama-3.3-70b", "--for", "serve", "--on", "h100,a100-80gb", "--weights", "fp8")
    words = " ".join(out.split())
    assert code == 0
    assert "left out: a100-sxm4-80gb, up to 16 of them: serving.weights = 'fp8': a100-sxm4-80gb has no fp8 matrix units" in words


def test_a_cut_says_where_each_gpu_attends_to_sequences_of_its_own(run: Run) -> None:
    asked = ("serve", "deepseek-v2-lite", "--on", "8xh100", "--set", "serving.ep=8", "--set")
    assert "data-parallel attention 8, experts over 8" in run(*asked, "serving.tp=1")[1]
    assert "tensor 8, experts over 8" in run(*asked, "serving.tp=8")[1]


def test_an_engine_is_shown_without_what_only_python_writes(run: Run) -> None:
    """Also its lists of tables, and how earlier releases differ, each with its source."""
    for name in engine_names():
        code, shown, _ = run("engines", "show", name)
        assert code == 0
        for odd in ("frozenset(", "{'", "OnCard(", "provenance"):
            assert odd not in shown, (name, odd)
        for entry in load_engine(name).before:
            (line,) = (line for line in shown.splitlines() if f"before {entry.release} " in line)
            assert entry.source in line
            assert all(word in line for word in (*entry.without, *entry.fields))
