"""Published serving measurements: how rows are read, predicted, refused and fitted."""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import ROOT

from planner.cli.main import main
from planner.common import data
from planner.common.errors import PlannerError
from planner.evidence.fit import Constant, Values, values_at
from planner.evidence.serving.check import check, predicted
from planner.evidence.serving.fit import Predictor, load_constants
from planner.evidence.serving.names import accelerator_of, format_of, labels, model_of
from planner.evidence.serving.runs import ServingRun, read_serving_run, read_serving_runs
from planner.evidence.serving.study import study
from planner.evidence.serving.table import is_serving_table
from planner.evidence.serving.told import filled
from planner.hardware.asked import accelerator_named
from planner.hardware.cluster import load_accelerator
from planner.hardware.curves import load_curves
from planner.model.catalog import load_model
from planner.model.names import meant
from planner.serving.intervals import classes
from planner.serving.memory import largest_batch
from planner.uncertainty.effects import SERVING, SERVING_UNCERTAINTY, load_effects

# one row of each kind, as their sources print them; see the column source
ROW = {
    "id": "a", "source": "InternLM/lmdeploy docs/en/benchmark/a100_fp16.md", "model": "llama2-7b", "gpu": "A100-80GB",
    "n_gpus": "1", "tp": "1", "pp_ep": "", "framework": "TurboMind", "weights": "fp16", "kv_dtype": "fp16", "batch": "16",
    "prompt_len": "128", "output_len": "2048", "metric": "tpot p50", "value": "0.015", "unit": "s", "notes": "",
}  # fmt: skip
QWEN = {
    **ROW, "id": "b", "source": "QwenLM/Qwen2.5 docs speed_benchmark.rst", "model": "Qwen2.5-7B-Instruct", "framework": "vLLM",
    "weights": "bf16", "kv_dtype": "16-bit", "batch": "1", "prompt_len": "6144", "metric": "tokens/s", "value": "80.70",
    "unit": "tok/s",
}  # fmt: skip


def row(start: dict[str, str] = ROW, **changes: str) -> ServingRun:
    return read_serving_run("test", {**start, **changes})


def test_units_become_seconds_and_bytes() -> None:
    assert row().measured == 0.015
    assert row(QWEN).measured == pytest.approx(2048 / 80.70)
    sglang = row(QWEN, metric="tokens/s (prompt+generated)/time", value="1000", framework="SGLang 0.4.6", gpu="H20-96GB")
    assert sglang.measured == pytest.approx((6144 + 2048) / 1000)
    assert row(metric="decode tokens/s", value="800", unit="tok/s").measured == pytest.approx(16 / 800)
    assert row(metric="prefill tokens/s", value="4096", unit="tok/s").measured == pytest.approx(16 * 128 / 4096)
    memory = row(QWEN, framework="HF", metric="peak GPU memory", value="14.38", unit="GB (as printed, total over GPUs)")
    assert memory.measured == 14.38 * 2**30


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "T5-3B"}, "encoder-decoder"),
        ({"gpu": "RTX 4090 + 3090Ti"}, "two different GPUs"),
        ({"batch": "4 beams"}, "beam search"),
        ({"framework": "FastGen"}, "framework = 'FastGen' is not modelled"),
        ({"metric": "speed"}, "metric = 'speed' is not known"),
        ({"value": "fast"}, "must be a number"),
        ({"value": "-3"}, "must be finite and positive"),
        ({"batch": "0"}, "batch = '0': must be a whole number of sequences"),
        ({"batch": "²"}, "batch = '²': must be a whole number of sequences"),
        ({"metric": "tokens/s", "unit": "parsecs"}, "unit = 'parsecs': tokens/s is a rate"),
        ({"metric": "requests/s", "unit": "tok/s"}, "unit = 'tok/s': requests/s is a rate"),
        ({"metric": "tokens/s", "unit": "tok/s per GPU"}, "unit = 'tok/s per GPU': tokens/s is a rate"),
        ({"model": "llama9-7b"}, "is not in the catalog"),
        ({"weights": "int3"}, "weights = 'int3'"),
        ({"gpu": "V100-16GB", "weights": "bf16"}, "v100-sxm2-16gb has no bf16 arithmetic"),
        ({"gpu": "V99"}, "no such GPU"),
        ({"gpu": "A100-SXM4"}, "means any of a100-sxm4-40gb, a100-sxm4-80gb"),
        ({"weights": "int4 AWQ GEMV"}, "one row at a time"),
        ({"load": "closed-loop", "metric": "prefill tokens/s"}, "not predicted of clients in a closed loop"),
        ({"metric": "total throughput"}, "follows from the output throughput"),
    ],
)
def test_rows_that_cannot_be_modelled_are_refused_with_the_reason(changes: dict[str, str], words: str) -> None:
    with pytest.raises(PlannerError) as error:
        row(**changes)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("framework", "notes", "engine"),
    [
        ("vLLM", "", "vllm-v1"),
        ("VLLM", "version 0.6.3; offline", "vllm-v0"),
        ("vLLM 0.12.0", "", "vllm-0.13"),
        ("vLLM 0.14.1", "", "vllm-v1"),
        ("sglang", "version 0.4.6", "sglang-0.4"),
        ("llama.cpp b3622", "", "llama.cpp"),
        ("TRT-LLM", "version 1.0.0rc3; closed loop", "tensorrt-llm-1"),
        ("tensorrt-llm", "version gpt-oss-dev", "tensorrt-llm-1"),
        ("tensorrt-llm 0.5", "", "tensorrt-llm-2023"),
        ("HF 4.51", "", "huggingface"),
        ("transformers 4.40", "", "huggingface-all-logits"),
    ],
)
def test_an_engine_goes_by_its_name_and_its_release(framework: str, notes: str, engine: str) -> None:
    assert row(framework=framework, notes=notes, weights="fp16").times.setting.engine.name == engine


@pytest.mark.parametrize(
    ("word", "model"),
    [
        ("LLaMA 7B", "llama-7b"),
        ("Qwen1.5-7B-Chat-GPTQ-Int4", "qwen1.5-7b"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("Qwen2-1.5B-Instruct-AWQ", "qwen2-1.5b"),
        ("qwen2.5 7b", "qwen2.5-7b"),
    ],
)
def test_a_model_goes_by_many_spellings(word: str, model: str) -> None:
    """The row's weights say how they are stored, whatever the name says."""
    assert model_of(word) == load_model(model)


def test_a_model_may_be_a_file(tmp_path: Path) -> None:
    """The path of a configuration file works in the column, and an unknown name lists near ones."""
    path = tmp_path / "mine.toml"
    path.write_text((data.CATALOG / "models" / "llama-2-7b.toml").read_text().replace('"llama-2-7b"', '"mine"'))
    assert model_of(str(path)).num_layers == model_of("llama-2-7b").num_layers
    with pytest.raises(PlannerError, match="did you mean"):
        model_of("llama-2-8b")


@pytest.mark.parametrize(
    ("word", "accelerator"),
    [
        ("H100 80GB HBM3", "h100-sxm5-80gb"),
        ("3070 8GB", "rtx-3070-8gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090-24gb"),
        ("T4 16 GB", "t4"),
        ("A6000", "rtx-a6000"),
    ],
)
def test_an_accelerator_goes_by_its_words(word: str, accelerator: str) -> None:
    assert accelerator_of(word) == accelerator


def test_a_label_stands_only_where_the_common_reading_of_names_says_nothing_or_another_thing() -> None:
    for word, name in labels()["accelerator"].items():
        with pytest.raises(PlannerError):
            accelerator_named(word)
        load_accelerator(name)
    for word, name in labels()["model"].items():
        found = meant(word)
        assert found is None or load_model(found.model).vocab_size != load_model(name).vocab_size, word
    assert not [word for word in labels()["model_fields"] if meant(word)]


@pytest.mark.parametrize(("word", "weights"), [("Q8_0", "q8_0"), ("INT4 AWQ", "int4-awq"), ("MXFP4", "mxfp4"), ("BF16", "bf16")])
def test_a_format_goes_by_its_letters(word: str, weights: str) -> None:
    assert format_of(word)["weights"] == weights


def test_a_stated_batch_bounds_a_saturated_server() -> None:
    """Sixteen places serve fewer requests a second than all that memory allows."""
    fields = {"metric": "requests/s", "unit": "req/s", "value": "1", "prompt_len": "512", "output_len": "128"}
    few, stated, free = (predicted(row(batch=b, **fields)) for b in ("16", "max 16", "saturating"))
    assert few == stated
    assert few > 1.2 * free


def test_a_saturated_pass_holds_whole_prompts_of_every_attention_group() -> None:
    """A prompt longer than a pass is read whole by each of eight groups at once, not by three of them."""
    fields = {"framework": "TensorRT-LLM (PyTorch backend)", "model": "Qwen3-235B-A22B", "gpu": "H200", "weights": "fp8"}
    cut = {"n_gpus": "8", "tp": "8", "pp_ep": "EP set", "attention_data_parallel": "1"}
    figure = {"metric": "requests/s", "unit": "req/s", "value": "1", "batch": "saturating"}
    run = row(**fields, **cut, **figure, prompt_len="20000", output_len="1")
    times = run.times
    assert times.setting.serving.attention_groups == 8
    assert times.setting.pass_tokens < 20000
    assert predicted(run) == pytest.approx(float(times.prefill_s(20000, 8.0)) / 8.0)


def test_a_saturated_pass_takes_parts_of_prompts_where_the_engine_splits_them() -> None:
    """vLLM reads the beginning of the prompt that no longer fits: a token more than half a pass moves nothing."""
    asked = {"framework": "vllm", "notes": "version 0.12.0", "model": "llama-3.1-8b", "gpu": "H200", "weights": "fp8"}
    figure = {"metric": "requests/s", "unit": "req/s", "value": "1", "batch": "saturating", "output_len": "1"}
    half = row(**asked, **figure, prompt_len="4096")
    assert half.times.setting.pass_tokens == 8192
    assert predicted(row(**asked, **figure, prompt_len="4097")) == pytest.approx(predicted(half) * 4097 / 4096, rel=1e-3)


LOOP = {
    "framework": "vllm", "notes": "version 0.12.0", "gpu": "H200", "model": "llama-3.1-70b", "weights": "fp8", "n_gpus": "4",
    "tp": "4", "batch": "8", "prompt_len": "1024", "output_len": "256", "unit": "s", "load": "closed-loop",
}  # fmt: skip


def test_closed_loops_are_predicted_whole_and_by_a_frozen_schedule() -> None:
    """Both figures of a loop from one simulation; near the values that it was made with, its schedule gives the same."""
    runs = [row(**LOOP, metric="tpot p50", value="0.01"), row(**LOOP, metric="ttft", value="0.1")]
    assert [run.figure for run in runs] == ["loop_token", "loop_first"]
    predict = Predictor(runs)
    constant = next(c for c in load_constants() if c.engine == "captured-graphs" and c.field == "narrow_bandwidth_rate")
    now, faster = values_at((), []), Values((constant,), (1.05,))
    found = predict([0, 1], [now, now, faster])
    assert np.allclose(found[:, 0], [predicted(run) for run in runs], rtol=1e-6)
    assert np.allclose(found[:, 1], found[:, 0], rtol=1e-9)
    near, again = found[:, 2], predict([0, 1], [faster])[:, 0]
    assert near[0] == pytest.approx(again[0], rel=0.01)
    assert near[1] == pytest.approx(again[1], rel=0.15)  # who waits for whom changes with the speed


def test_a_batch_that_cannot_have_fitted_is_refused() -> None:
    with pytest.raises(PlannerError, match="only 32 sequences fit; the others waited"):
        check(row(batch="64", prompt_len="2048"))


def test_a_device_map_is_stages_one_after_the_other_and_not_tensor_parallel() -> None:
    run = row(QWEN, framework="HF", n_gpus="2", tp="1", pp_ep="HF device_map")
    assert run.times.setting.serving.pp == 2
    one = row(QWEN, framework="HF")
    assert predicted(run) >= predicted(one)  # two GPUs are no faster


def test_published_figures_are_predicted() -> None:
    """LMDeploy's a100_fp16.md and Qwen2.5's speed_benchmark.rst (vLLM), within a fifth."""
    for run in (
        row(),
        row(QWEN),
        row(batch="1", value="0.010"),
        row(QWEN, weights="int4 (GPTQ)", value="154.05", prompt_len="1"),
    ):
        assert predicted(run) == pytest.approx(run.measured, rel=0.2)


def test_memory_of_published_runs() -> None:
    """Qwen2.5's peak memory under transformers: 14.38 GiB at 1 + 2048 tokens, 61.58 for 32B."""
    base: dict[str, Any] = {
        **QWEN,
        "framework": "HF",
        "metric": "peak GPU memory",
        "unit": "GB (as printed, total over GPUs)",
        "prompt_len": "1",
    }
    for name, value in (("Qwen2.5-7B-Instruct", "14.38"), ("Qwen2.5-32B-Instruct", "61.58")):
        run = row(base, model=name, value=value)
        assert predicted(run) == pytest.approx(run.measured, rel=0.03)


def table(folder: Path) -> Path:
    """A table of made-up but plausible figures: the planner's own, off by a known factor each."""
    rows = []
    rng = np.random.default_rng(0)
    models = [f"Qwen2.5-{size}-Instruct" for size in ("3B", "7B", "14B", "32B")]
    for i, (name, weights) in enumerate((m, w) for m in models for w in ("bf16", "int4 (GPTQ)", "int8 (GPTQ)")):
        for prompt in ("1", "6144"):
            start = {**QWEN, "id": f"r{i}-{prompt}", "model": name, "weights": weights, "prompt_len": prompt}
            seconds = predicted(row(start)) * 1.3 * float(np.exp(rng.normal(0, 0.02)))
            rows.append({**start, "value": f"{2048 / seconds:.4f}"})
    memory = {"metric": "peak GPU memory", "unit": "GB (as printed, total over GPUs)", "framework": "HF", "prompt_len": "1"}
    rows.append({**QWEN, **memory, "id": "m", "value": "14.38"})
    rows.append({**QWEN, "id": "bad", "model": "T5-3B"})
    path = folder / "serving.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_tables_are_told_by_their_columns(tmp_path: Path) -> None:
    path = table(tmp_path)
    assert is_serving_table(path)
    (tmp_path / "training.csv").write_text("id,num_layers,hidden_size\n1,2,3\n")
    assert not is_serving_table(tmp_path / "training.csv")


def test_validate_prints_groups_and_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["planner", "validate", str(table(tmp_path)), "--json"])
    main_code(0)
    found = json.loads(capsys.readouterr().out)
    assert [r["id"] for r in found["refused"]] == ["bad"]
    assert {r["figure"] for r in found["rows"]} == {"decode, batch 1", "memory"}
    monkeypatch.setattr(sys, "argv", ["planner", "validate", str(table(tmp_path)), "--plot", str(tmp_path / "v.png")])
    main_code(0)
    assert "1 rows refused" in capsys.readouterr().out
    assert (tmp_path / "v.png").is_file()


def main_code(code: int) -> None:
    found: Any = 0
    try:
        main()
    except SystemExit as stop:
        found = stop.code or 0
    assert found == code


def test_a_fit_finds_a_common_factor_and_leaves_models_out(tmp_path: Path) -> None:
    """Everything is 30 % slower than predicted: the fit takes most of that up, and a model it never saw shares it."""
    runs, refused = read_serving_runs(table(tmp_path))
    assert len(refused) == 1
    before = np.array([np.log(predicted(run) / run.measured) for run in runs if run.quantity != "memory"])
    found = study(runs)
    assert float(np.median(np.abs(before))) > 0.2
    assert float(np.median(np.abs(found.in_sample))) < 0.5 * float(np.median(np.abs(before)))
    assert float(np.median(np.abs(found.left_out["model"]))) < float(np.median(np.abs(before)))
    assert found.like_inside.shape == found.like_half_width.shape == (len(found.runs),)
    again = study(runs)
    assert found.found.values == again.found.values
    assert found.classes == again.classes


def test_a_prior_of_another_chip_is_that_chips_value() -> None:
    """Each multiprocessor of the H20 reads as fast as each of the H200: what is believed beforehand follows the H200's file."""
    h20, h200 = (load_accelerator(name) for name in ("h20-96gb", "h200-sxm-141gb"))
    each = [float(chip.memory_bandwidth_bytes_per_s) / float(chip.num_sms or 1) for chip in (h200, h20)]
    for field in ("matmul_bandwidth_fraction", "memory_fraction"):
        constant = next(c for c in load_constants() if c.name == f"h20.{field}")
        assert constant.prior == pytest.approx(getattr(load_curves("h200"), field) * each[0] / each[1], rel=1e-3)
    fields = {"field": "memory_fraction", "spread": 0.2, "lower": 0.1, "upper": 1.2}
    with pytest.raises(PlannerError, match="same_as = a file of kernel curves"):
        Constant.build({**fields, "curves": "h20", "prior": {"like": "h200"}}, "constant")


def test_constants_belong_to_engines_and_chips_and_lie_within_their_limits() -> None:
    from planner.serving.engine import CATALOG, load_engine

    for c in load_constants():
        assert bool(c.engine) != bool(c.curves)
        assert c.lower <= c.prior <= c.upper
        if c.engine:
            assert c.lower <= getattr(load_engine(str(CATALOG / f"{c.engine}.toml")), c.field) <= c.upper


def test_every_figure_has_what_its_interval_comes_from() -> None:
    assert {c.metric for c in classes() if not c.framework} == {"serving_memory"}
    assert set(load_effects(SERVING_UNCERTAINTY)) == set(SERVING)


def test_a_file_of_several_campaigns_says_who_measured() -> None:
    """What one group of people measured is left out as a whole, whatever file it stands in."""
    aic = {**LOOP, "source": "aiconfigurator-core 0.12.0 systems/silicon_sample.csv", "metric": "ttft", "value": "0.1"}
    who = {
        row(**aic, source_ref=ref).columns["campaign"] for ref in ("x; model=Llama-3.1-70B", "data/aic-auto-gap-analysis/data/x")
    }
    assert len(who) == 2
    assert row().columns["campaign"] == ROW["source"]


def test_a_loop_that_asks_for_more_than_the_peaks_is_refused(tmp_path: Path) -> None:
    """40 clients on eight H200 are answered in 0.91 s each: 350,000 prompt tokens a second of an 8B model. Two sums over GPUs of
    65 MB a layer take 16 ms of a prompt at the wire's rate, its 1.1e14 flop 7 ms at the peak: the GPUs would be full of it."""
    path = tmp_path / "loops.csv"
    start = {
        **ROW,
        **LOOP,
        "model": "llama-3.1-8b",
        "n_gpus": "8",
        "tp": "8",
        "prompt_len": "8000",
        "output_len": "100",
        "source_ref": "aic-auto-gap-analysis/data",
    }
    figures = {"tpot p50": "0.00746", "ttft": "0.16981"}
    rows = [
        {**start, "id": f"{clients}-{metric}", "batch": clients, "metric": metric, "value": value}
        for clients in ("40", "20")
        for metric, value in figures.items()
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({name for row in rows for name in row}))
        writer.writeheader()
        writer.writerows(rows)
    kept, refused = read_serving_runs(path)
    assert {run.batch for run in kept} == {20}
    assert [r.id for r in refused] == ["40-ttft", "40-tpot p50"]
    assert all("some were cached, or shorter than stated" in r.reason for r in refused)


def test_a_cache_in_16_bits_could_not_have_held_what_ran_at_once() -> None:
    """64 sequences of 4,352 tokens of Qwen3-32B beside fp8 weights on one H100: the gap analysis saw no waiting."""
    ref = "source_file=/aic-auto-gap-analysis/data/h100_sxm/trtllm/1.0.0rc3/x.csv"
    fields = {
        **LOOP,
        "framework": "tensorrt-llm",
        "gpu": "H100",
        "model": "qwen3-32b",
        "n_gpus": "1",
        "tp": "1",
        "batch": "64",
        "prompt_len": "4096",
        "metric": "ttft",
        "value": "1.6",
        "source_ref": ref,
        "kv_dtype": "",  # as the table leaves it
    }
    setting = row(**fields).times.setting
    assert setting.kv_dtype == "fp8"
    wide = replace(setting, serving=setting.serving.replaced(kv_dtype="bf16"))
    assert largest_batch(wide, 4096.0, 4352.0) < 64 <= largest_batch(setting, 4096.0, 4352.0)


@pytest.mark.parametrize(("column", "value"), [("n_gpus", "x"), ("n_gpus", "1.5"), ("n_gpus", "0"), ("tp", "nan"), ("tp", "-1")])
def test_counts_that_are_none_refuse_the_row(column: str, value: str) -> None:
    with pytest.raises(PlannerError, match=f"{column} = '{value}': must be a whole number"):
        row(QWEN, **{column: value})


def test_a_prompt_slower_than_twice_its_work_is_refused(tmp_path: Path) -> None:
    """AutoAWQ's README, RTX 4090: 64 tokens at 1,093 a second of a 7B model, at 1,160 of a 33B one: the first was cold."""
    path = tmp_path / "prompts.csv"
    start = {
        **ROW, "source": "casper-hansen/AutoAWQ README", "gpu": "RTX 4090", "framework": "AutoAWQ", "weights": "int4 AWQ GEMM",
        "batch": "1", "output_len": "0", "metric": "prefill tokens/s", "unit": "tok/s", "prompt_len": "64",
    }  # fmt: skip
    rows = [
        {**start, "id": "cold", "model": "Mistral 7B", "value": "1093.35"},
        {**start, "id": "large", "model": "DeepSeek Coder 33B", "value": "1160.18"},
        {**start, "id": "long", "model": "Mistral 7B", "value": "3897.02", "prompt_len": "2048"},
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    kept, refused = read_serving_runs(path)
    assert [run.id for run in kept] == ["large", "long"]
    assert "twice the work" in refused[0].reason


TOLD = labels()["cells_of_source"]


def _question(run: ServingRun) -> object:
    """What a row asks and what was measured, without whose it is."""
    return run.times, run.quantity, run.measured, run.prompt, run.output, run.batch, run.requests


@pytest.mark.parametrize("entry", TOLD, ids=[" ".join(map(str, e["of"].values())) for e in TOLD])
def test_a_source_fills_cells_that_anybody_may_write(entry: dict[str, Any]) -> None:
    """What a publication says once for all its rows is a column: a user's file that states it is read alike."""
    of = {column: words[0] if isinstance(words, list) else words for column, words in entry["of"].items()}
    start = {
        **ROW,
        "framework": "tensorrt-llm",
        "gpu": "H100-SXM5-80GB",
        "n_gpus": "8",
        "tp": "8",
        "weights": "fp8",
        "load": "closed-loop",
    }
    start |= {"model": "llama-3.1-70b", "kv_dtype": "", "metric": "ttft", "unit": "s", "value": "0.1", **of}
    if "kv_int8" in of.get("source", ""):
        start |= {"framework": "TurboMind", "metric": "GPU memory", "unit": "MiB", "value": "22337", "load": ""}
        start |= {
            "prompt_len": "",
            "output_len": "",
            "kv_dtype": "fp16",
            "n_gpus": "1",
            "tp": "1",
            "model": "internlm-7b",
            "weights": "fp16",
        }
    if "dispatcher" in entry.get("cells", {}):
        start |= {
            "pp_ep": "EP set for MoE",
            "model": "Qwen3-235B-A22B",
            "attention_data_parallel": "1",
            "streamed": "0",
            "load": "",
        }
        start |= {"metric": "total output throughput", "unit": "tok/s", "requests": "3000"}
    if "requests_of_lengths" in entry:
        start |= {
            "metric": "total output throughput",
            "unit": "tok/s",
            "load": "",
            "pp_ep": "EP set for MoE",
            "model": "Qwen3-235B-A22B",
        }
    told = filled(start)
    stated = {column for column in told if told[column] != start.get(column, "")}
    assert {*entry["cells"], *(["requests"] if "requests_of_lengths" in entry else [])} <= stated
    mine = {**told, "source": "my own", "source_ref": ""}
    assert _question(row(mine)) == _question(row(start))
    bare = {**mine, **dict.fromkeys(stated, "")}
    if set(entry["cells"]) != {"measured_by"}:
        assert _question_or_reason(bare) != _question(row(start)), "the cells say something"


def _question_or_reason(cells: dict[str, str]) -> object:
    try:
        return _question(row(cells))
    except PlannerError as error:
        return str(error)


@pytest.mark.parametrize(("source", "engines"), labels()["engine_of_source"].items())
def test_the_engine_of_a_sources_time_has_a_name_that_anybody_may_write(source: str, engines: dict[str, str]) -> None:
    for family, engine in engines.items():
        published = row(framework=family, weights="fp16", source=source)
        assert row(framework=engine, weights="fp16", source="my own").times == published.times
        assert published.times.setting.engine.name == engine


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"pass_tokens": "many"}, "pass_tokens = 'many': must be a whole number"),
        ({"shortest_share": "0"}, "shortest_share = '0': must be above 0"),
        ({"shortest_share": "1.5"}, "shortest_share = '1.5': must be above 0"),
        ({"prefill_wait_steps": "0"}, "prefill_wait_steps = '0': must be a whole number"),
    ],
)
def test_how_a_server_was_started_is_read_or_refused(cells: dict[str, str], words: str) -> None:
    with pytest.raises(PlannerError) as error:
        row(load="closed-loop", metric="ttft", unit="s", framework="tensorrt-llm", **cells)
    assert words in str(error.value)


def test_tensorrt_llms_maxima_are_of_so_many_requests_and_of_attention_in_data_parallel() -> None:
    """perf-overview.md of TensorRT-LLM 1.0: 3,000 requests of 128 / 2,048 at once; "For MoE models" enable_attention_dp."""
    fields = {
        "source": "NVIDIA/TensorRT-LLM docs/source/performance/perf-overview.md", "framework": "TensorRT-LLM (PyTorch backend)",
        "model": "Qwen3-235B-A22B", "gpu": "H200-SXM-141GB", "n_gpus": "8", "tp": "8", "pp_ep": "EP set for MoE, not printed",
        "weights": "fp8", "kv_dtype": "fp8", "batch": "inf rate, 128/2048", "prompt_len": "128", "output_len": "2048",
        "metric": "total output throughput", "value": "42821", "unit": "tok/s",
    }  # fmt: skip
    run = row(**fields)
    assert run.requests == 3000
    assert (run.times.setting.serving.tp, run.times.setting.serving.ep) == (1, 8)
    together = row(
        **{**fields, "source": "another", "source_ref": ""}
    )  # attention in tensor parallel reads every key on all GPUs
    assert abs(np.log(predicted(run) / run.measured)) < 0.5 * abs(np.log(predicted(together) / run.measured))
    stated = {"requests": "3000", "attention_data_parallel": "1", "streamed": "0", "dispatcher": "gather"}
    told = row(**{**fields, "source": "another", "source_ref": "", **stated})
    assert (told.requests, predicted(told)) == (run.requests, predicted(run)), "any file may say it in columns"
    endless = replace(run, requests=0)
    assert predicted(run, slots=2000) > predicted(endless, slots=2000)  # the last third of the places stay empty
    assert predicted(run, slots=1500) == pytest.approx(predicted(endless, slots=1500))


def test_fp8_is_how_the_models_own_checkpoint_scales_it() -> None:
    """DeepSeek-V3's has a scale for each block of 128 by 128, also where a table says "fp8"; others have one for each matrix."""
    eight = {"gpu": "h200-sxm-141gb", "n_gpus": "8", "tp": "8", "framework": "sglang", "weights": "fp8"}
    for name, weights in (("deepseek-v3", "fp8-block"), ("llama-3.1-70b", "fp8")):
        assert row(**{**eight, "model": name}).times.setting.format.name == weights


def test_a_constant_of_serving_has_twenty_fitted_times() -> None:
    """As the printed report counts both; a constant more for the same measurements would be one too many."""
    report = (ROOT / "docs" / "accuracy-serving.md").read_text("utf-8")
    printed = re.search(r"(\d+) constants \(catalog/serving_fit.toml\) fitted on (\d+) of the times", report)
    assert printed
    constants, times = map(int, printed.groups())
    assert constants == len(load_constants())
    assert 20 * constants <= times
