"""Measured runs from a CSV: predictions, groups, refusals."""

from __future__ import annotations

import csv
import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import DATA

from planner.cli.main import main
from planner.common.data import CATALOG
from planner.common.errors import PlannerError
from planner.evidence.columns import READ, columns_not_read
from planner.evidence.measured_runs import REQUIRED, read_run, read_runs
from planner.evidence.predictions import Prediction, group_errors, predict
from planner.evidence.tuning_columns import SIZES
from planner.model.architecture import Model
from planner.reports.plots import save_validation

# Korthikanti et al. 2022, arXiv 2205.05198, table 5: seconds per iteration of Megatron-LM on A100; no constant is from them
PAPER = DATA / "korthikanti2022.csv"


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    def write(*changes: dict[str, Any], drop: tuple[str, ...] = ()) -> Path:
        with PAPER.open(newline="") as file:
            first = next(csv.DictReader(file))
        rows = [
            {k: v for k, v in (first | {"id": f"row-{i}"} | change).items() if k not in drop} for i, change in enumerate(changes)
        ]
        path = tmp_path / "runs.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


def test_megatrons_published_step_times_are_predicted_within_ten_percent() -> None:
    runs, refused = read_runs(PAPER)
    assert [run.id for run in runs] == [
        "korthikanti-megatron-22b-full",
        "korthikanti-megatron-22b-selective",
        "korthikanti-gpt3-175b-full",
        "korthikanti-gpt3-175b-selective",
    ]
    predictions, _, impossible = predict(runs, ("model",))
    assert refused == impossible == []
    assert all(abs(p.error) < 0.10 for p in predictions), [(p.id, p.error) for p in predictions]
    assert all(p.fits for p in predictions)


def test_errors_of_a_group() -> None:
    def one(predicted: float) -> Prediction:
        return Prediction(
            id="x",
            metric="step_time_s",
            measured=10.0,
            predicted=predicted,
            lower=predicted * 0.8,
            upper=predicted * 1.2,
            provenance="fitted",
            why="",
            fits=True,
            group="g",
            recompute="none",
        )

    (group,) = group_errors([one(9.0), one(12.0), one(10.0), one(14.0)])
    assert (group.rows, group.group) == (4, "g")
    assert group.inside == 3  # 14 x 0.8 > 10
    assert group.median == pytest.approx(0.15)
    assert group.mean == pytest.approx(0.175)
    assert group.bias == pytest.approx(0.10)
    assert group.percentile_90 == pytest.approx(0.34)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_layers": "many"}, "num_layers = 'many'"),
        ({"num_layers": "2.5"}, "num_layers = '2.5'"),
        ({"step_time_s": "0"}, "step_time_s = '0'"),
        ({"step_time_s": "-1"}, "step_time_s = '-1'"),
        ({"step_time_s": "nan"}, "step_time_s = 'nan'"),
        ({"step_time_s": "", "tokens_per_s_per_gpu": ""}, "nothing to compare with"),
        ({"tokens_per_s_per_gpu": "5"}, "contradict each other"),
        ({"gpus_per_node": "0"}, "gpus_per_node"),
        ({"accelerator": ""}, "accelerator is empty"),
        ({"gated_ffn": "perhaps"}, "gated_ffn = 'perhaps'"),
        ({"grad_dtype": "int8"}, "grad_dtype = 'int8'"),
        ({"num_gpus": "1e300"}, "num_gpus = '1e300'"),
        ({"num_layers": "30000000"}, "num_layers"),
        ({"accelerator": "A1000"}, "A1000"),
        ({"framework": "Megatrom"}, "did you mean"),
        ({"tp": "7"}, "layout.tp"),
        ({"dp": "3"}, "the cluster has 8 GPUs"),
        ({"precision": "fp8"}, "fp8"),
        ({"recompute": "some"}, "recompute = 'some'"),
        ({"data_parallel": "zero9"}, "data_parallel = 'zero9'"),
        ({"attention_kernel": "magic"}, "attention_kernel = 'magic'"),
        ({"position_embedding": "spiral"}, "position_embedding = 'spiral'"),
        ({"num_heads": "", "model": "of our own"}, "num_heads is empty"),
        ({"num_heads": "", "model": ""}, "num_heads is empty"),
        ({"num_heads": "", "num_layers": "12"}, "num_layers = 12: megatron-22b has 48"),
        ({"num_heads": "", "gated_ffn": "1"}, "gated_ffn = 1: megatron-22b has 0"),
    ],
)
def test_a_bad_row_is_refused_by_id_and_the_others_are_predicted(
    change: dict[str, str], named: str, table: Callable[..., Path]
) -> None:
    runs, refused = read_runs(table({}, change, {}))
    predictions, _, impossible = predict(runs, ("source",))
    (refusal,) = [*refused, *impossible]
    assert refusal.id == "row-1"
    assert named in refusal.reason
    assert [p.id for p in predictions] == ["row-0", "row-2"]


def test_runs_that_ran_out_of_memory_need_no_measurement(table: Callable[..., Path]) -> None:
    lost = {"oom": "1", "step_time_s": "", "recompute": "none", "micro_batch_size": "16", "global_batch_size": "16"}
    _, verdicts, refused = predict(read_runs(table({"oom": "0"}, lost))[0], ("source",))
    assert refused == []
    assert [(v.ran, v.predicted_to_fit) for v in verdicts] == [(True, True), (False, False)]


def test_the_picture(tmp_path: Path) -> None:
    save_validation(tmp_path / "runs.png", "Korthikanti et al. 2022", predict(read_runs(PAPER)[0], ("model",))[0])
    assert (tmp_path / "runs.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("micro_batch_size", ["1", "4", "16", "64"])
def test_unknown_recomputation_takes_the_lightest_that_fits(table: Callable[..., Path], micro_batch_size: str) -> None:
    known = {"sequence_parallel": "1", "micro_batch_size": micro_batch_size, "global_batch_size": "64"}
    known |= {"tokens_per_s_per_gpu": "", "step_time_s": "1000"}  # slow enough for the chip's peak
    path = table(*({**known, "recompute": r} for r in ("", "none", "selective", "full")))
    unknown, none, selective, full = predict(read_runs(path)[0], ("source",))[0]
    light, heavy = (none, selective) if selective.fits else (selective, full)
    if none.fits or not full.fits:  # the lightest does, or none
        expected = none if none.fits else full
        assert unknown.predicted == expected.predicted
        assert unknown.recompute == expected.recompute
        return
    # of as many layers as memory asks for: less time than recomputing all of them
    assert light.predicted < unknown.predicted < heavy.predicted
    assert unknown.fits
    assert unknown.recompute.endswith("% of the layers")


@pytest.mark.parametrize("column", REQUIRED)
def test_a_missing_column_is_an_error(column: str, table: Callable[..., Path]) -> None:
    with pytest.raises(PlannerError, match=f"column {column} is missing"):
        read_runs(table({"model": "of our own"}, drop=(column,)))


def test_a_row_may_name_a_model_of_the_catalog_in_place_of_its_sizes(table: Callable[..., Path]) -> None:
    sizes = ("num_layers", "hidden_size", "num_heads", "vocab_size", "num_kv_heads", "head_dim", "ffn_hidden_size")
    whole, without = (read_runs(table({}, drop=dropped))[0][0] for dropped in ((), sizes))
    assert without.model.name == "megatron-22b"
    for size in sizes:
        assert getattr(without.model, size) == getattr(whole.model, size)
    (dropped_out,), _ = read_runs(table({"dropout": "0.1"}, drop=sizes))
    assert (dropped_out.model.hidden_dropout, dropped_out.model.attention_dropout) == (0.1, 0.1)


WORDS = ("0", "1", "7", "96", "seq_len", "alibi", "learned", "mla", "encoder", "rmsnorm", "masked_language_model")


@pytest.mark.parametrize("column", sorted(READ - {*SIZES, "seq_len"}))
def test_a_cell_that_changes_a_rows_own_model_is_not_ignored_beside_one_of_the_catalog(column: str) -> None:
    """Where all sizes are given a cell changes the model; where the catalog's stands in, it does so too, or is refused.

    A table of learned positions of one's own is as long as the sequence; the catalog's has its length.
    """
    with PAPER.open(newline="") as file:
        whole = {k: v or "" for k, v in next(csv.DictReader(file)).items()} | {"tokens_per_s_per_gpu": ""}
    named = {**whole, "num_heads": ""}

    def model(row: dict[str, str]) -> Model | None:
        try:
            return read_run("row", row).model
        except (PlannerError, ValueError):
            return None

    for word in WORDS:
        change = {column: word}
        own = model(whole | change)
        if own is not None and own.replaced(name="x") != read_run("row", whole).model.replaced(name="x"):
            assert model(named | change) != read_run("row", named).model, change


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"position_embedding": "alibi"}, "position_embedding = alibi: megatron-22b has learned"),
        ({"biases": "0"}, "biases = 0: megatron-22b has 1"),
        ({"attention": "mla"}, "attention = mla: megatron-22b has mha"),
        ({"family": "encoder"}, "architecture = encoder: megatron-22b has decoder"),
        ({"type_vocab_size": "2"}, "type_vocab_size = 2: megatron-22b has 0"),
        ({"full_attention_every": "2"}, "full_attention_every = 2: megatron-22b has 0"),
        ({"full_attention_every": "1"}, ""),
        ({"full_attention_every": "0", "attention": "mha", "architecture": "decoder", "family": "dense"}, ""),
    ],
)
def test_what_a_row_says_beside_a_model_of_the_catalog_is_compared(
    change: dict[str, str], wrong: str, table: Callable[..., Path]
) -> None:
    runs, refused = read_runs(table({"num_heads": "", **change}))
    assert [r.reason.partition(";")[0] for r in refused] == ([wrong] if wrong else [])
    assert len(runs) == (not wrong)


def test_a_row_says_what_its_recipe_trains_and_captures(table: Callable[..., Path]) -> None:
    told = {"multi_token_prediction": "2", "cuda_graphs": "full", "overlaps_experts": "1", "framework": "megatron-bridge"}
    (run,), refused = read_runs(table(told))
    assert not refused
    assert run.framework.overlaps_experts
    assert (run.job.multi_token_prediction, run.framework.cuda_graphs) == (2, "full")


def test_tokens_that_a_recipe_drops_are_dropped(table: Callable[..., Path]) -> None:
    """Experts of a capacity, as a column or a recipe's words say: shapes are known, and the host waits for no counts."""
    mixture = {
        "framework": "megatron-bridge", "num_experts": "8", "top_k": "2", "expert_ffn_hidden_size": "1024",
        "num_heads": "16", "num_layers": "4", "hidden_size": "1024", "vocab_size": "32000", "num_kv_heads": "", "head_dim": "",
    }  # fmt: skip
    for said in ({"capacity_factor": "1"}, {"notes": "release 25.09; tokendrop; MoE token-drop"}):
        (run,), refused = read_runs(table(mixture | said))
        assert not refused
        assert run.model.capacity_factor == 1.0
        assert run.framework.pads_to_capacity
    assert run.framework.dispatcher == "alltoall"
    (run,), _ = read_runs(table(mixture))
    assert run.model.capacity_factor is None
    (run,), _ = read_runs(table(mixture | {"model": "Grok1-314B"}))  # NVIDIA's own recipe
    assert (run.model.capacity_factor, run.framework.dispatcher) == (1.0, "alltoall")
    (run,), _ = read_runs(table(mixture | {"model": "Grok1-314B", "framework": "megatron-core"}))
    assert run.model.capacity_factor is None
    (), (wrong,) = read_runs(table(mixture | {"capacity_factor": "much"}))
    assert "capacity_factor = 'much'" in wrong.reason


def test_a_recipe_that_drops_tokens_names_the_dispatcher_that_can() -> None:
    """docs/concepts/moe.md: recipes that drop tokens refuse every dispatcher but all-to-all."""
    cells = [*(recipe["cells"] for recipe in LABELS["recipe"]), *LABELS["said"].values()]
    dropping = [found for found in cells if "capacity_factor" in found]
    assert dropping
    assert {found["dispatcher"] for found in dropping} == {"alltoall"}


@pytest.mark.parametrize(
    ("told", "degree"), [("", 4), ("ETP 1; the rest as before", 1), ("dropout 0; etp 2", 2), ("ETP 1 or so", 1)]
)
def test_an_expert_degree_is_read_from_the_notes_where_no_column_has_it(
    told: str, degree: int, table: Callable[..., Path]
) -> None:
    mixture = {
        "framework": "megatron-bridge", "num_experts": "8", "top_k": "2", "expert_ffn_hidden_size": "1024", "model": "Grok1-314B",
        "num_heads": "16", "num_layers": "4", "hidden_size": "1024", "vocab_size": "32000", "num_kv_heads": "", "head_dim": "",
        "tp": "4", "num_gpus": "8", "sequence_parallel": "1", "ep": "1", "dp": "2",
    }  # fmt: skip
    (run,), refused = read_runs(table(mixture | {"notes": told}))
    assert not refused
    assert run.layouts[0].etp == degree
    (own,), _ = read_runs(table(mixture | {"notes": told, "etp": "2"}))
    assert own.layouts[0].etp == 2
    assert "etp" not in columns_not_read([own])


def test_a_row_with_all_sizes_is_called_what_its_owner_likes(table: Callable[..., Path]) -> None:
    (run,), refused = read_runs(table({"model": "megatron-22b", "num_layers": "12"}))
    assert not refused
    assert run.model.num_layers == 12


@pytest.mark.parametrize("text", ["", "id,framework\n", "\n"])
def test_an_empty_file_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(PlannerError, match="holds no rows"):
        read_runs(tmp_path / "runs.csv")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["planner", "validate", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_the_command(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run(str(PAPER), "--json", "--by", "model")
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert {row["metric"] for row in answer["rows"]} == {"step_time_s"}
    assert [group["group"] for group in answer["groups"]] == ["megatron-22b", "gpt3-175b"]
    assert "median error" in run(str(PAPER))[1]
    assert run(str(PAPER), "--by", "colour")[0] == 2
    by_cause = json.loads(run(str(PAPER), "--json", "--by", "tensor_parallel,experts,length")[1])
    assert [group["group"] for group in by_cause["groups"]] == ["tp 8, no experts, 2,048 to 4,096"]


@pytest.mark.parametrize("left_out", [("source",), ("family",), ("source", "family")])
def test_unasked_groups_are_of_the_columns_that_the_table_has(
    left_out: tuple[str, ...], table: Callable[..., Path], run: Callable[..., tuple[int, str, str]]
) -> None:
    """A table needs neither source nor family; asked for by name, a missing column is an error."""
    path = str(table({}, {}, drop=left_out))
    code, out, _ = run(path, "--json")
    assert code == 0
    assert len({row["group"] for row in json.loads(out)["rows"]}) == 1
    assert run(path, "--by", left_out[0])[0] == 2
    assert run("absent.csv")[0] == 2


def test_validate_writes_what_it_predicted_and_several_tables_are_one(tmp_path, capsys, monkeypatch):
    import pandas as pd

    from planner.cli.main import main

    source = DATA / "korthikanti2022.csv"
    head, first, *others = source.read_text().splitlines()
    (tmp_path / "a.csv").write_text("\n".join([head, first]))
    (tmp_path / "b.csv").write_text("\n".join([head, *others]))
    out = tmp_path / "pairs.parquet"
    monkeypatch.setattr(
        "sys.argv", ["planner", "validate", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--json", "--out", str(out)]
    )
    with pytest.raises(SystemExit):
        main()
    rows = json.loads(capsys.readouterr().out)["rows"]
    table = pd.read_parquet(out)
    assert list(table["id"]) == [row["id"] for row in rows]
    assert list(table["predicted"]) == [row["predicted"] for row in rows]
    assert list(table["measured"]) == [row["measured"] for row in rows]


LABELS = tomllib.loads((CATALOG / "run_labels.toml").read_text(encoding="utf-8"))
PLAIN = {
    "model": "ours", "num_layers": "8", "ffn_hidden_size": "4096", "hidden_size": "1024", "num_heads": "16",
    "vocab_size": "32000", "seq_len": "1024",
    "accelerator": "A100-SXM4-80GB", "num_gpus": "8", "data_parallel": "ddp", "micro_batch_size": "1", "global_batch_size": "8",
    "precision": "bf16", "recompute": "none", "step_time_s": "100",
}  # fmt: skip
ADAPTED = {**PLAIN, "model": "Qwen-7B", "method": "lora", "lora_rank": "8", "lora_targets": "all-linear"}


@pytest.mark.parametrize("words", [LABELS["said"], *LABELS["noted"].values()])
def test_words_within_longer_words_stand_before_them(words: dict[str, Any]) -> None:
    """The last words that notes hold win, so that the longer ones must come last."""
    ordered = list(words)
    assert not [(short, long) for i, long in enumerate(ordered) for short in ordered[i + 1 :] if short in long]


def as_read(row: dict[str, str]) -> Any:
    """What a row asks, or why it is refused."""
    try:
        run = read_run("row", row)
    except PlannerError as error:
        return str(error)
    return run.model, run.cluster, run.framework, run.job, run.layouts, run.memory_bytes


@pytest.mark.parametrize("row", [PLAIN, ADAPTED], ids=["full", "lora"])
@pytest.mark.parametrize("source", sorted(LABELS["source"]))
def test_what_a_label_says_of_a_source_any_file_may_say_in_columns(source: str, row: dict[str, str]) -> None:
    """The tables of published sources are defaults of columns and nothing else: with the same cells any file reads alike."""
    label = LABELS["source"][source]
    assert set(label) <= READ
    empty = dict.fromkeys(label, "")
    named = as_read({**row, **empty, "source": source})
    assert not isinstance(named, str), named
    assert named == as_read({**row, **empty, **label, "source": "our own runs"})
    assert not {k for cells in LABELS["noted"].get(source, {}).values() for k in cells} - READ
