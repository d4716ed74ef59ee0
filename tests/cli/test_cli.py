"""The command line as a new user meets it: tables, JSON, pictures, and errors that help."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import GOOD, Run
from places import DATA, ROOT

SCENARIO = ROOT / "scenarios" / "chatlaw2-moe.toml"


def test_plan_prints_json_and_nothing_else(run: Run, scenario: Callable[..., Path]) -> None:
    code, out, err = run("plan", scenario(), "--json")
    answer = json.loads(out)
    assert (code, err) == (0, "")
    for name in (
        "step_time_s",
        "tokens_per_s_per_gpu",
        "mfu",
        "peak_allocated_bytes",
        "peak_reserved_bytes",
        "memory_bytes",
        "fits",
        "reasons",
        "cost_usd",
        "gpu_hours",
    ):
        assert name in answer
    assert answer["fits"] is True
    assert answer["reasons"] == []
    assert sum(answer["memory_bytes"].values()) == pytest.approx(answer["peak_total_bytes"])
    assert sum(answer["step_parts_s"].values()) == pytest.approx(answer["step_time_s"])
    steps = -(-1_000_000_000 // (64 * 2048))
    assert answer["gpu_hours"] == pytest.approx(steps * answer["step_time_s"] * 8 / 3600)
    assert answer["cost_usd"] == pytest.approx(answer["gpu_hours"] * answer["price"]["usd_per_gpu_hour"])


def test_compare_puts_cases_side_by_side_and_draws(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "bars.png"
    code, out, _ = run("compare", SCENARIO, "--plot", picture)
    assert code == 0
    for text in (
        "4x7B MoE",
        "dense 33B",
        "model states",
        "activations",
        "hours per epoch",
        "GPU-hours",
        "MFU",
        "step time",
        "fits",
    ):
        assert text in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000


def test_compare_json_holds_both_cases_and_the_moe_is_cheaper(run: Run) -> None:
    code, out, _ = run("compare", SCENARIO, "--json")
    cases = json.loads(out)["cases"]
    assert code == 0
    assert [c["label"] for c in cases] == ["4x7B MoE", "dense 33B"]
    assert cases[0]["cost_usd"] < cases[1]["cost_usd"]
    assert cases[0]["parameters_active"] < cases[0]["parameters_total"] < cases[1]["parameters_total"]


def test_compare_draws_only_where_it_is_asked_to(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("compare", SCENARIO)[0] == 0
    assert run("compare", SCENARIO, "--json")[0] == 0
    assert not list(tmp_path.iterdir())
    assert run("compare", SCENARIO, "--plot", "x.png")[0] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_compare_takes_several_files(run: Run, scenario: Callable[..., Path]) -> None:
    other = scenario(GOOD, ("llama-2-7b", "llama-2-13b"), name="other.toml")
    code, out, _ = run("compare", scenario(), other, "--json")
    assert code == 0
    assert [c["label"] for c in json.loads(out)["cases"]] == ["llama-2-7b", "llama-2-13b"]


def test_a_model_that_does_not_fit_is_an_answer_with_the_nearest_layout_that_does(
    run: Run, scenario: Callable[..., Path]
) -> None:
    path = scenario(GOOD, ("tp = 2\nzero = 1\nsequence_parallel = true", "micro_batch_size = 8"))
    code, out, _ = run("plan", path, "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["fits"] is False
    assert answer["headroom_bytes"] < 0
    assert "GiB per GPU" in answer["reasons"][0]
    again = scenario(GOOD, ("tp = 2\nzero = 1\nsequence_parallel = true", _layout(answer["nearest"])), name="again.toml")
    assert json.loads(run("plan", again, "--json")[1])["fits"] is True
    table = run("plan", path)[1]
    assert "nearest layout that fits" in table
    assert "over" in table


def _layout(fields: dict[str, Any]) -> str:
    return "\n".join(f"{k} = {json.dumps(v)}" for k, v in fields.items() if v is not None)


@pytest.mark.parametrize("mark", [":fire:", "[bold]", "[/bold]", "[job.adapter]"])
@pytest.mark.parametrize("columns", ["", "40"])
def test_a_title_and_a_label_are_printed_as_they_are_written(
    columns: str, mark: str, run: Run, scenario: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a terminal's library reads in them, at any width."""
    monkeypatch.setenv("COLUMNS", columns)
    path = scenario(GOOD + f'\n[[compare]]\nlabel = "b {mark} c"\njob = {{ seq_len = 1024 }}\n')
    path.write_text(f'title = "a {mark} b"\n' + path.read_text().replace("title =", "# title =", 1))
    code, out, _ = run("compare", path)
    assert code == 0
    assert f"a {mark} b" in out
    assert f"b {mark} c" in out


def test_sequences_beyond_the_models_context_are_a_warning(run: Run, scenario: Callable[..., Path]) -> None:
    """Llama 2 allows 4,096 tokens (its config.json); what is not known is no ground for a warning."""
    longer = scenario(GOOD, ("seq_len = 2048", "seq_len = 8192"))
    code, out, _ = run("plan", longer, "--json")
    assert code == 0
    warnings = [note for note in json.loads(out)["notes"] if note.startswith("warning: ")]
    assert len(warnings) == 1
    assert "job.seq_len = 8192" in warnings[0]
    assert "context_length = 4096" in warnings[0]
    assert "context_length = 4096" in run("plan", longer)[1]
    for fine in (
        scenario(GOOD, ("seq_len = 2048", "seq_len = 4096")),
        scenario(GOOD, ("seq_len = 2048", "seq_len = 8192"), ('name = "llama-2-7b"', 'base = "llama-2-7b"\ncontext_length = 0')),
    ):
        assert "warning" not in json.dumps(json.loads(run("plan", fine, "--json")[1])["notes"])


def test_nothing_fits_says_so(run: Run, scenario: Callable[..., Path]) -> None:
    path = scenario(GOOD, ("llama-2-7b", "gpt3-175b"), ("\n[layout]\ntp = 2\nzero = 1\nsequence_parallel = true", ""))
    code, out, _ = run("plan", path, "--json")
    answer = json.loads(out)
    assert code == 0
    assert (answer["fits"], answer["nearest"]) == (False, None)
    assert any("no layout of megatron-core fits this cluster" in reason for reason in answer["reasons"])


def test_operators_is_the_table_behind_the_answer(run: Run, scenario: Callable[..., Path]) -> None:
    code, out, _ = run("operators", scenario(), "--json")
    rows = json.loads(out)["rows"]
    assert code == 0
    assert {r["phase"] for r in rows} == {"forward", "backward"}
    again = scenario(GOOD, ("tp = 2", 'tp = 2\nrecompute = "full"'))
    assert {r["phase"] for r in json.loads(run("operators", again, "--json")[1])["rows"]} == {"forward", "backward", "recompute"}
    assert {r["block"] for r in rows} >= {"embedding", "attention", "feed_forward", "head"}
    assert "fused attention" in run("operators", scenario())[1]


def test_models_and_hardware(run: Run) -> None:
    shown = json.loads(run("models", "show", "mixtral-8x7b", "--json")[1])
    assert (shown["parameters_total"], round(shown["parameters_active"] / 1e9, 1)) == (46_702_792_704, 12.9)
    assert any(m["name"] == "gpt2" for m in json.loads(run("models", "list", "--json")[1])["models"])
    assert "mixtral-8x7b" in run("models", "list")[1]
    assert "parameters in experts" in run("models", "show", "mixtral-8x7b")[1]
    card = json.loads(run("hardware", "show", "RTX 3070", "--json")[1])
    assert card["peak_flops_per_s"]["fp16"] == 40.6e12
    names = json.loads(run("hardware", "list", "--json")[1])
    assert any(a["name"] == "a100-sxm4-80gb" for a in names["accelerators"])
    assert "NVSwitch" in run("hardware", "show", "dgx-a100-80gb")[1]


def test_models_show_reads_a_hugging_face_config(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert json.loads(run("models", "show", tmp_path / "config.json", "--json")[1])["parameters_total"] == 6_738_415_616


TO_JOB = GOOD[GOOD.index("dgx-a100-80gb") + len("dgx-a100-80gb") : GOOD.index("seq_len")]
"""What follows the node, up to the fields of [job]."""
BAD = {
    "unknown model": (("llama-2-7b", "lama-2-7b"), "did you mean llama-2-7b"),
    "unknown node": (("dgx-a100-80gb", "dgx-a100-80"), "did you mean dgx-a100-80gb"),
    "unknown framework": (("megatron-core", "megatronn"), "did you mean megatron"),
    "typo in a field": (("seq_len", "seqlen"), "did you mean seq_len"),
    "typo in a table": (("[layout]", "[layuot]"), "did you mean layout"),
    "tp does not divide heads": (("tp = 2", "tp = 3"), "layout.tp"),
    "tp beyond heads": (("tp = 2", "tp = 64"), "does not divide the cluster's 8 GPUs"),
    "pp beyond layers": (("tp = 2", "pp = 8\nvpp = 8"), "has only 32 layers"),
    "ep on a dense model": (("tp = 2", "ep = 2"), "layout.ep = 2: llama-2-7b is dense"),
    "world size": (("tp = 2", "tp = 2\ndp = 8"), "the cluster has 8 GPUs"),
    "batch": (("global_batch_size = 64", "global_batch_size = 63"), "job.global_batch_size = 63"),
    "negative": (("seq_len = 2048", "seq_len = -2048"), "seq_len = -2048"),
    "zero": (("seq_len = 2048", "seq_len = 0"), "seq_len = 0"),
    "not a number": (("seq_len = 2048", "seq_len = nan"), "seq_len = nan"),
    "nan epochs": (("num_tokens", "num_epochs = nan\nnum_tokens"), "num_epochs = nan"),
    "text for a number": (("seq_len = 2048", 'seq_len = "2048"'), "seq_len = '2048'"),
    "two lengths": (("num_tokens", "num_steps = 5\nnum_tokens"), "give one of num_samples, num_tokens, num_steps"),
    "fp8 on A100": (("seq_len", 'precision = "fp8"\nseq_len'), "has no fp8 matrix units"),
    "bf16 on V100": (("dgx-a100-80gb" + TO_JOB, "dgx-1v-32gb" + TO_JOB + 'precision = "bf16"\n'), "has no bf16 matrix units"),
    "unknown precision": (("seq_len", 'precision = "bf8"\nseq_len'), "precision = 'bf8'"),
    "zero 4": (("zero = 1", "zero = 4"), "zero = 4"),
    "a feature the stack lacks": (("megatron-core", "huggingface"), "huggingface does not offer tp"),
    "sequence parallel without a dividing sequence": (("seq_len = 2048", "seq_len = 2047"), "seq_len = 2047 must divide"),
    "missing table": (("[job]", "[price]"), "table [job] is missing"),
    "model is a string": (('[model]\nname = "llama-2-7b"', 'model = "llama-2-7b"'), "must be a table"),
    "bad price": (("[layout]", "[price]\nusd_per_gpu_hour = -2\n[layout]"), "price.usd_per_gpu_hour = -2"),
    "unknown price field": (("[layout]", "[price]\nusd = 2\n[layout]"), "price"),
    "unknown cluster field": (("[framework]", "gpus = 8\n[framework]"), "unknown field gpus"),
    "too many GPUs": (("[framework]", "num_nodes = 1\nnum_gpus = 9\n[framework]"), "cluster.num_gpus = 9"),
    "half a GPU": (("[framework]", "num_gpus = 2.5\n[framework]"), "cluster.num_gpus = 2.5"),
    "boolean for a number": (("tp = 2", "tp = true"), "tp = True"),
    "broken TOML": (("[model]", "[model"), "not valid TOML"),
    "a sequence longer than the positions": (("llama-2-7b", "gpt2"), "max_positions"),
}  # fmt: skip


@pytest.mark.parametrize("what", sorted(BAD))
def test_bad_input_is_explained(what: str, run: Run, scenario: Callable[..., Path]) -> None:
    change, named = BAD[what]
    path = scenario(GOOD, change)
    for command in ("plan", "operators"):
        code, out, err = run(command, path)
        assert (code, out) == (2, ""), err
        assert named in err
        assert str(path) in err
        assert "Traceback" not in err
        assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [("", "the file is empty"), ("   \n", "the file is empty"), ("[1, 2]", "not valid TOML"), ("\x00", "not valid TOML")],
)
def test_a_useless_file_is_explained(text: str, named: str, run: Run, scenario: Callable[..., Path]) -> None:
    code, out, err = run("plan", scenario(text))
    assert (code, out) == (2, "")
    assert named in err


def test_files_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    assert "cannot be read" in run("plan", tmp_path / "absent.toml")[2]
    assert "is a folder" in run("plan", tmp_path)[2]
    assert "is a folder" in run("models", "show", tmp_path)[2]
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in run("plan", tmp_path / "binary.toml")[2]
    (tmp_path / "config.json").write_text("{")
    code, _, err = run("models", "show", tmp_path / "config.json")
    assert code == 2
    assert "not valid JSON" in err


@pytest.mark.parametrize("command", ["plan", "run", "compare", "search", "tune"])
def test_a_serving_scenario_is_sent_to_its_command(command: str, run: Run) -> None:
    path = SCENARIO.parent / "serving" / "qwen-7b.toml"
    code, _, err = run(command, path)
    assert code == 2
    assert f"planner serve {path}" in err


def test_no_command_makes_a_folder(run: Run, scenario: Callable[..., Path], tmp_path: Path) -> None:
    """A mistyped folder is named and nothing is made, whatever the command writes."""
    away, data = tmp_path / "no" / "such", DATA
    serving = SCENARIO.parent / "serving" / "qwen-7b.toml"
    for arguments in (
        ("plan", scenario(), "--plot", away / "x.png"),
        ("compare", SCENARIO, "--plot", away / "x.png"),
        ("compare", SCENARIO, "--at", "flops", "--plot", away / "x.png"),
        ("sweep", scenario(), "--vary", "job.seq_len=1024,2048", "--plot", away / "x.png"),
        ("sweep", scenario(), "--vary", "job.seq_len=1024,2048", "--out", away / "x.csv"),
        ("search", scenario(), "--out", away / "x.csv"),
        ("export", scenario(), "--to", "megatron", "--out", away),
        ("models", "derive", "llama-2-7b", "--drop-layers", "0", "-o", away / "x.toml"),
        ("validate", data / "korthikanti2022.csv", "--plot", away / "x.png"),
        ("validate", data / "korthikanti2022.csv", "--out", away / "x.csv"),
        ("fit", data / "korthikanti2022.csv", "--dry-run", "--report", away / "x.md"),
        ("calibrate", data / "cpu-record.json", "-o", away / "x.toml"),
        ("audit", "--markdown", away / "x.md"),
        ("serve", serving, "--plot", away / "x.png"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), arguments
        assert str(away) in err
        assert "folder" in err
        assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("path", ["no/such/folder/x.png", "x.txt"])
def test_a_bad_picture_path_is_refused_before_any_work(path: str, run: Run, scenario: Callable[..., Path]) -> None:
    code, out, err = run("plan", scenario(), "--plot", path)
    assert (code, out) == (2, "")
    assert path in err


def test_compare_needs_two_cases(run: Run, scenario: Callable[..., Path]) -> None:
    code, _, err = run("compare", scenario())
    assert code == 2
    assert "[[compare]]" in err


def test_unknown_names_list_the_near_ones(run: Run) -> None:
    assert "mixtral-8x7b" in run("models", "show", "mixtrl-8x7")[2]
    code, _, err = run("hardware", "show", "a100")
    assert code == 2
    assert "a100-sxm4-80gb" in err


def test_import_is_light() -> None:
    heavy = "import sys, planner; print([m for m in ('torch', 'streamlit', 'matplotlib', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    used = heavy.replace("planner;", "planner; planner.plan; planner.evaluate;")
    assert subprocess.run([sys.executable, "-c", used], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_module_runs_as_a_program(scenario: Callable[..., Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "planner", "plan", scenario(GOOD, ("tp = 2", "tp = 3"))], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "layout.tp" in done.stderr
