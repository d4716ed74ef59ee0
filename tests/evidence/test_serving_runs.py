"""Published serving measurements: how rows are read, predicted, refused and fitted."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.cli.main import main
from planner.common.errors import PlannerError
from planner.evidence.serving.check import check, predicted
from planner.evidence.serving.fit import load_constants
from planner.evidence.serving.runs import ServingRun, read_serving_run, read_serving_runs
from planner.evidence.serving.study import study
from planner.evidence.serving.table import is_serving_table
from planner.serving.intervals import classes

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
        ({"gpu": "V100-16GB", "weights": "bf16"}, "is not in hardware_profiles"),
        ({"metric": "total throughput"}, "follows from the output throughput"),
    ],
)
def test_rows_that_cannot_be_modelled_are_refused_with_the_reason(changes: dict[str, str], words: str) -> None:
    with pytest.raises(PlannerError) as error:
        row(**changes)
    assert words in str(error.value)


@pytest.mark.parametrize("framework", ["vllm", "VLLM", "vLLM"])
def test_an_engine_goes_by_its_label_or_its_own_name(framework: str) -> None:
    assert row(framework=framework).times.setting.engine.name == "vllm"


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
    base: dict[str, Any] = {**QWEN, "framework": "HF", "metric": "peak GPU memory", "unit": "GB (as printed, total over GPUs)",
                            "prompt_len": "1"}  # fmt: skip
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
    again = study(runs)
    assert found.found.values == again.found.values
    assert found.classes == again.classes


def test_constants_belong_to_engines_and_chips_and_lie_within_their_limits() -> None:
    from planner.serving.engine import load_engine

    for c in load_constants():
        assert bool(c.engine) != bool(c.curves)
        assert c.lower <= c.prior <= c.upper
        if c.engine:
            assert c.lower <= getattr(load_engine(c.engine), c.field) <= c.upper


def test_every_figure_has_a_class_for_everything() -> None:
    general = {c.metric for c in classes() if not c.framework}
    assert general == {"decode", "prefill", "throughput", "serving_memory"}


@pytest.mark.parametrize(("column", "value"), [("n_gpus", "x"), ("n_gpus", "1.5"), ("n_gpus", "0"), ("tp", "nan"), ("tp", "-1")])
def test_counts_that_are_none_refuse_the_row(column: str, value: str) -> None:
    with pytest.raises(PlannerError, match=f"{column} = '{value}': must be a whole number"):
        row(QWEN, **{column: value})
