"""Questions as a new user types them, from an empty folder: one command each, right, readable at 80 columns."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from command_line import GOOD, Run

from planner.cli.main import Doors
from planner.common.errors import PlannerError
from planner.common.quantities import count, duration_s, length, value_of
from planner.hardware.asked import accelerator_named, cluster_table
from planner.hardware.cluster import load_accelerator
from planner.scenarios.quick import parse_changes, quick_scenario, scenario_toml
from planner.scenarios.scenario import read_scenario
from planner.scenarios.shipped import scenario_names
from planner.workload.resolve import as_cluster


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    return folder


TASKS = {
    "pre-training": ("plan", "mixtral-8x7b", "--on", "32xh100", "--tokens", "100B", "--seq-len", "4096", "--set", "layout.ep=8"),
    "lora": ("plan", "llama-3-8b", "--lora", "--on", "rtx-4090"),
    "a scenario": ("plan", "llama-3-70b-h100"),
    "a scenario changed": ("plan", "llama-3-70b-h100", "--set", "job.precision=bf16", "--tokens", "1T"),
    "a scenario elsewhere": ("plan", "llama-3-70b-h100", "--on", "8x dgx-h200"),
    "what does not fit": ("plan", "llama-3-70b", "--on", "4xa100-80gb", "--set", "layout.tp=4"),
    "serving": ("serve", "llama-3.1-8b", "--on", "h100", "--clients", "64"),
    "a whole run": ("run", "llama4-style-moe", "--set", "run.expert_zipf=0.1"),
    "tuning": ("tune", "qwen-7b", "--on", "a100-80gb", "--samples", "100k", "--methods", "lora"),
    "a comparison": ("compare", "chatlaw2-moe", "--set", "layout.micro_batch_size=1"),
    "models side by side": ("compare", "mixtral-8x7b", "llama-2-13b", "--on", "32xh100", "--tokens", "100B", "--at", "loss"),
    "hardware": ("hardware", "show", "h100-sxm5-80gb"),
    "scenarios": ("scenarios", "list"),
}


@pytest.mark.parametrize("what", sorted(TASKS))
def test_a_task_is_one_command_that_fits_80_columns_and_leaves_no_file(what: str, run: Run, empty_folder: Path) -> None:
    code, out, err = run(*TASKS[what])
    assert (code, err) == (0, "")
    assert out
    assert max(map(len, out.rstrip().splitlines())) <= 80
    assert not list(empty_folder.iterdir())


def test_the_answer_comes_first_in_nine_lines_each_figure_with_its_interval(run: Run) -> None:
    out = run("plan", "llama-3-70b-h100")[1]
    plan = read_scenario("llama-3-70b-h100").cases[0].plan()
    title, *lines = re.sub(r"\n {12}", " ", out).splitlines()[:9]
    assert title == "Llama-3 70B on 64 H100, FP8"
    assert [line.split()[0] for line in lines] == ["fits", "step", "budget", "run", "cost", "layout", "on", "based"]
    fits, step, budget, days, cost = lines[:5]
    assert f"{plan.peak_total_bytes / 2**30:.1f} of {plan.usable_bytes / 2**30:.1f} GiB" in fits
    assert f"{plan.step_time_s:.3g} s ({plan.intervals['step_time_s'].lower:.3g} to" in step
    assert plan.run_s is not None
    assert f"{plan.run_s / 86400:,.3g} days" in days
    assert f"${plan.cost_usd:,.0f} (${plan.intervals['cost_usd'].lower:,.0f} to" in cost
    bill = read_scenario("llama-3-70b-h100").cases[0].outlook(plan).bill
    assert bill is not None
    assert f"${bill.budget_usd.expected:,.0f} (${bill.budget_usd.lower:,.0f} to" in budget


def test_what_does_not_fit_gets_no_bill(run: Run) -> None:
    out = run(*TASKS["what does not fit"])[1]
    assert "$" not in out
    assert "why not" in out
    assert "instead   framework fsdp: " in out  # which moves all states to the host
    assert "          optimizer adamw-8bit: " in out
    assert "8 such GPUs: " in out
    out = run("plan", "llama-3-8b", "--on", "8xh100", "--layout", "zero1 mbs16")[1]
    assert "instead   nearest layout that fits: " in out


def test_details_and_explain_say_the_rest(run: Run) -> None:
    short, table = run("plan", "llama-3-70b-h100")[1], run("plan", "llama-3-70b-h100", "--details")[1]
    assert "optimizer states" in table
    assert "optimizer states" not in short
    assert "--explain lists them" in short
    assert "framework megatron-core:" in run("plan", "llama-3-70b-h100", "--explain")[1]


def test_a_question_without_a_file_is_the_scenario_that_it_writes(run: Run, empty_folder: Path) -> None:
    asked = ("plan", "llama-2-7b", "--on", "8xa100-80gb", "--tokens", "1B", "--set", "layout.tp=2", "--set", "layout.zero=1")
    code, out, err = run(*asked, "--write", "mine.toml", "--json")
    assert (code, err) == (0, "wrote mine.toml\n")
    assert [path.name for path in empty_folder.iterdir()] == ["mine.toml"]
    table = tomllib.loads(Path("mine.toml").read_text(encoding="utf-8"))
    assert (table["job"]["num_tokens"], table["job"]["seq_len"], table["job"]["global_batch_size"]) == (10**9, 4096, 1024)
    first, again = json.loads(out), json.loads(run("plan", "mine.toml", "--json")[1])
    assert {**again, "usual": 0} == {**first, "usual": 0}
    assert first["usual"] == [
        "taken as usual, not given: seq_len = 4096, global_batch_size = 1024, precision = bf16",
        "only layout.tp, layout.zero of the layout is given: the rest is as it is by default, not chosen; "
        "--layout 'pp8 zero1' gives more of it",
    ]


@pytest.mark.parametrize("name", [name for name in scenario_names() if not name.startswith("serving/")])
def test_a_scenario_written_again_is_read_as_the_same_tables(name: str, empty_folder: Path) -> None:
    scenario = read_scenario(name)
    Path("again.toml").write_text(scenario_toml(scenario), encoding="utf-8")
    again = read_scenario("again.toml")
    assert again.cases[0].tables == scenario.cases[0].tables
    assert (again.title, again.cases[0].label) == (scenario.title, scenario.cases[0].label)


def test_a_gpu_without_bf16_is_asked_in_fp16(run: Run) -> None:
    answer = json.loads(run("plan", "gpt2", "--on", "2x v100-sxm2-32gb", "--tokens", "1M", "--json")[1])
    assert answer["job"]["precision"] == "fp16"
    assert answer["num_gpus"] == 2
    assert answer["job"]["seq_len"] == 1024  # what gpt2's position table holds


@pytest.mark.parametrize(("name", "tokens"), [("gpt2", 2**19), ("gpt2-large", 2**19), ("gpt2-xl", 2**20), ("llama-2-7b", 2**22)])
def test_a_usual_batch_is_that_of_published_models_of_the_size(name: str, tokens: int) -> None:
    """GPT-3 took 0.5M tokens for its 125M and 760M, 1M for its 1.3B (arXiv 2005.14165, table 2.1); Llama 2 7B 4M."""
    job = quick_scenario(name, "8xh100", "pretrain", {}, {}).cases[0].tables["job"]
    assert job["global_batch_size"] * job["seq_len"] == tokens


def test_part_of_a_name_is_enough_where_it_means_one() -> None:
    assert accelerator_named("h100") == "h100-sxm5-80gb"  # that of the DGX H100
    assert accelerator_named("a100-80gb") == "a100-sxm4-80gb"
    assert load_accelerator(accelerator_named("RTX 4090")).name == "rtx-4090-24gb"
    assert cluster_table("32xH100") == {"accelerator": "h100-sxm5-80gb", "num_gpus": 32}
    assert cluster_table("2 x dgx-h100") == {"node": "dgx-h100", "num_nodes": 2}
    assert cluster_table("dgx-h100") == {"node": "dgx-h100"}


def test_python_takes_gpus_as_the_command_line_does() -> None:
    for text in ("32xH100", "2 x dgx-h100", "dgx-h100", "rtx-4090"):
        assert as_cluster(text) == as_cluster(cluster_table(text)), text
    with pytest.raises(PlannerError, match="cluster nosuch: no such GPU or node type"):
        as_cluster("8xnosuch")


@pytest.mark.parametrize("text", ["mi450", "8xmi450"])
def test_a_known_gpu_without_a_profile_says_why_however_it_is_named(text: str) -> None:
    for read in (cluster_table, as_cluster):
        with pytest.raises(PlannerError, match="is known but has no profile"):
            read(text)


def test_a_length_that_is_set_takes_the_place_of_the_scenario_s(run: Run) -> None:
    answer = json.loads(run("plan", "chatlaw2-moe", "--set", "layout.ep=4", "--tokens", "2B", "--json")[1])
    assert (answer["job"]["num_tokens"], answer["job"]["num_samples"]) == (2_000_000_000, None)


@pytest.mark.parametrize(
    ("text", "accelerator", "number"),
    [
        ("4090x2", "rtx-4090-24gb", 2), ("3090 x 4", "rtx-3090-24gb", 4), ("2张4090", "rtx-4090-24gb", 2),
        ("8*H100", "h100-sxm5-80gb", 8),
        ("8卡A800-80GB", "a800-sxm4-80gb", 8), ("h100:8", "h100-sxm5-80gb", 8), ("8x4090", "rtx-4090-24gb", 8),
    ],
)  # fmt: skip
def test_a_number_and_a_gpu_are_read_in_either_order(text: str, accelerator: str, number: int) -> None:
    assert cluster_table(text) == {"accelerator": accelerator, "num_gpus": number}


def test_numbers_are_read_in_words_of_either_language() -> None:
    assert [count(text, "--tokens") for text in ("10亿", "1 billion", "1e9", "1B", "1,000,000,000")] == [10**9] * 5
    assert [count(text, "--tokens") for text in ("1bn", "1000mn", "0.001tn", "1 BN")] == [10**9] * 4
    assert [count(f"2{text}", "--tokens") for text in ("百", "十万", "百万", "百亿", "千亿")] == [
        200,
        2 * 10**5,
        2 * 10**6,
        2 * 10**10,
        2 * 10**11,
    ]
    assert [length(text, "--seq-len") for text in ("8千", "8k", "1万", "12.8万", "100万")] == [8000, 8192, 10_000, 128_000, 10**6]
    assert [duration_s(text, "--deadline") for text in ("2周", "14天", "2 weeks", "336 hrs")] == [14 * 86400.0] * 4
    assert [value_of("cluster.network_gbit_per_s", text) for text in ("400Gb/s", "50GB/s", "400")] == [400.0] * 3


def test_search_takes_its_gpus_from_the_lists_that_it_searches(run: Run) -> None:
    asked = ("search", "gpt2", "--accelerator", "rtx-4090", "--gpus", "1,2", "--tokens", "1M", "--top", "1", "--json")
    code, out, err = run(*asked)
    assert (code, err) == (0, "")
    assert json.loads(out)["rows"]


@pytest.mark.parametrize(("number", "to", "words"), [(8, "megatron", "pretrain_gpt.py"), (2, "vllm", "vllm serve")])
def test_launch_files_of_a_model_are_made_for_the_tool_asked(number: int, to: str, words: str, run: Run) -> None:
    code, out, err = run("export", "llama-3-8b", "--on", f"{number}xh100", "--to", to)
    assert (code, err) == (0, "")
    assert words in out


def test_a_scenario_asked_elsewhere_says_so(run: Run) -> None:
    assert run("plan", "chatlaw2-moe", "--on", "8xh100")[1].splitlines()[0].endswith("here on 8xh100")


def test_set_reads_numbers_by_the_field_s_unit() -> None:
    found = parse_changes(["job.seq_len=4k", "job.num_tokens=1e9", "cost.storage_bytes=2GB", "run.restart_s=10m", "layout.tp=2"])
    assert parse_changes(["cost.own.rent_change_per_year=-0.2", "run.spare_nodes=-1", "run.seed=+7"]) == {
        "cost.own.rent_change_per_year": -0.2,
        "run.spare_nodes": -1,
        "run.seed": 7,
    }
    assert found == {
        "job.seq_len": 4096,
        "job.num_tokens": 10**9,
        "cost.storage_bytes": 2e9,
        "run.restart_s": 600.0,
        "layout.tp": 2,
    }


def test_set_reads_tables_and_lists_as_a_scenario_has_them() -> None:
    found = parse_changes(
        ['serving.speculative={draft = "llama-3.2-1b", tokens = 4, acceptance = 0.7}', "serving.captured_batches=[1, 2]"]
    )
    assert found == {
        "serving.speculative": {"draft": "llama-3.2-1b", "tokens": 4, "acceptance": 0.7},
        "serving.captured_batches": [1, 2],
    }
    with pytest.raises(PlannerError, match=r"prefill_pool = '\{replicas=1': is no table or list of TOML"):
        parse_changes(["serving.prefill_pool={replicas=1"])


TABLES_SET = {
    "model": "model.num_layers=6",
    "cluster": "cluster.gpus_per_node=1",  # how many GPUs --on says
    "framework": "framework.name=megatron-core",
    "job": "job.precision=fp32",
    "layout": "layout.micro_batch_size=2",
    "price": "price.usd_per_gpu_hour=7",
    "run": "run.detection_s=900000",
    "cost": "cost.tax_rate=0.5",
    "serving": "serving.clients=4",
    "load": "load.clients=4",
}
"""Table -> a change that shows in every answer that reads it."""
GPT2 = ("gpt2", "--on", "2xa100-sxm4-40gb", "--tokens", "1B", "--json")
STEP = GPT2[:3]
READING = {
    "plan": GPT2,
    "compare": (*GPT2, "gpt2-medium"),
    "run": GPT2,
    "tune": GPT2,
    "operators": (*STEP, "--json"),
    "trace": STEP,
    "search": GPT2,
    "sweep": (*GPT2, "--vary", "job.seq_len=256,512"),
    "limit": GPT2,
    "export": (*GPT2[:-1], "--to", "accelerate-fsdp"),
    "serve": ("gpt2", "--on", "2xa100-sxm4-40gb", "--json"),
}
ANSWERED: dict[str, tuple[int, str, str]] = {}
"""What is printed without any change, asked once."""


def unchanged(command: str, run: Run) -> tuple[int, str, str]:
    if command not in ANSWERED:
        ANSWERED[command] = run(command, *READING[command])
    return ANSWERED[command]


@pytest.mark.parametrize("table", TABLES_SET)
@pytest.mark.parametrize("command", READING)
def test_what_set_writes_moves_the_answer_or_is_refused(command: str, table: str, run: Run) -> None:
    before, after = unchanged(command, run), run(command, *READING[command], "--set", TABLES_SET[table])
    assert before[0] == 0
    if after[0]:
        assert f"[{table}] changes nothing in this answer" in after[2] or table in ("framework", "layout"), after[2]
    else:
        assert (after[1] or after[2]) != (before[1] or before[2])


ASKED = {
    "--on": "4xh100-sxm5-80gb",
    "--tokens": "2B",
    "--samples": "9M",
    "--seq-len": "512",
    "--batch": "8",
    "--precision": "fp32",
    "--framework": "megatron-core",
    "--price": "7",
    "--layout": "dp2 zero2 mbs1",
    "--lora": None,
    "--qlora": None,
    "--finetune": None,
    "--clients": "3",
    "--rate": "2",
    "--prompt": "99",
    "--output": "99",
    "--weights": "fp16",
    "--engine": "sglang",
}
"""Option of a question -> a value that shows in every answer that reads it; None: the option has none."""
FIELD_OF = {
    "--precision": "job.precision", "--layout": "layout", "--engine": "engine", "--framework": "framework.name",
    "--lora": "job.kind", "--qlora": "job.kind",
}  # fmt: skip
"""What a refusal may name in place of the option."""
ALREADY = {("tune", "--finetune"), ("operators", "--finetune"), ("trace", "--finetune")}
"""What a model is asked without the option; one step of full fine-tuning is one of pre-training."""


@pytest.mark.parametrize("command", READING)
def test_an_option_of_the_question_moves_the_answer_or_is_refused(command: str, run: Run) -> None:
    """Whatever a command's --help lists of the question is read by it."""
    listed = Doors(name="planner").get_command(None, command).params
    asked = list(READING[command])
    before = unchanged(command, run)
    assert before[0] == 0, before[2]
    for option, value in ASKED.items():
        if not any(option in one.opts for one in listed) or (command, option) in ALREADY:
            continue
        line = list(asked)
        for other in {option, *({"--tokens"} if option == "--samples" else ())} & set(line):
            del line[line.index(other) : line.index(other) + 2]
        after = run(command, *line, option, *([] if value is None else [value]))
        assert after[0] in (0, 2), after[2]
        if after[0]:
            assert any(word in after[2] for word in (option, FIELD_OF.get(option, option))), after[2]
        else:
            assert (after[1] or after[2]) != (before[1] or before[2]), (command, option)


@pytest.mark.parametrize("option", ["--tokens", "--samples", "--price"])
def test_what_a_step_does_not_read_is_no_option_of_its_commands(option: str, run: Run) -> None:
    for command in ("operators", "trace"):
        code, _, err = run(command, "gpt2", "--on", "h100", option, "5")
        assert code == 2
        assert f"{option} belongs to planner plan, compare, run" in err
        assert err[err.index("belongs to planner") :].count(",") <= 3
        code, _, err = run(command, "gpt2", "--on", "h100", "--set", "job.num_tokens=1B")
        assert (code, "job.num_tokens=1B: changes nothing in this answer" in err) == (2, True)


def test_a_sweep_chooses_its_layouts_at_the_risk_that_is_accepted(run: Run) -> None:
    line = ("llama-3-8b", "--on", "rtx-4090", "--lora", "--json")
    swept = [
        json.loads(run("sweep", *line, "--vary", "job.seq_len=1024", *risk)[1])["rows"][0] for risk in ((), ("--risk", "0.5"))
    ]
    planned = [json.loads(run("plan", *line, "--seq-len", "1024", *risk)[1]) for risk in ((), ("--risk", "0.5"))]
    assert [row["step_time_s"] for row in swept] == [plan["step_time_s"] for plan in planned]
    assert swept[0] != swept[1]


MISTAKES = [
    (("plan", "llama-3-8b"), "llama-3-8b: is a model; say on which GPUs"),
    (("plan", "lama-3-8b", "--on", "h100"), "did you mean llama-3-8b"),
    (("plan", "gpt2", "--on", "a100"), "--on a100: means any of a100-pcie-40gb"),
    (("plan", "gpt2", "--on", "h1000"), "--on h1000: no such GPU or node type"),
    (("plan", "gpt2", "--on", "0xh100"), "--on 0xh100: give a whole number and a GPU"),
    (("serve", "gpt2", "--on", ""), "--on = '': names no GPUs"),
    (("size", "gpt2", "--for", "serve", "--on", " "), "--on = ' ': names no GPUs"),
    (("plan", "gpt2", "--on", "h100", "--batch", "1M", "tokens"), "tokens: a number stands without the name of what it counts"),
    (("plan", "gpt2", "--on", "h100", "--tokens", "many"), "--tokens = 'many': must be a positive whole number"),
    (("plan", "gpt2", "--on", "h100", "--tokens", "1.5"), "--tokens = '1.5': must be a positive whole number"),
    (("plan", "gpt2", "--on", "h100", "--seq-len", "4q"), "--seq-len = '4q': must be a number of tokens"),
    (("plan", "gpt2", "--on", "2x", "dgx-h100"), "number and GPU stand in one word: --on 2xdgx-h100."),
    (("plan", "gpt2", "--on", "h100", "--lora", "16"), "--lora 16: takes no value; the rank is --set job.adapter.rank=16."),
    (("plan", "8xh100", "--on", "gpt2"), "--on gpt2: is a model, and 8xh100 are GPUs; the other way round: gpt2 --on 8xh100."),
    (("serve", "h100", "--on", "gpt2"), "--on gpt2: is a model, and h100 are GPUs; the other way round: gpt2 --on h100."),
    (("size", "gpt2", "--for", "serve", "--on", ","), "--on ,: name GPU types"),
    (("size", "gpt2", "--for", "serve", "--on", "8xh100,4xl4"), "--on 8xh100,4xl4: name GPU types"),
    (("size", "gpt2", "--for", "serve", "--on", "8xh100", "--gpus", "4"), "--on 8xh100: name GPU types"),
    (("calibrate", "x.json"), "Missing option '--out / -o'"),
    (("plan", "gpt2", "--on", "h100", "--lora", "--qlora"), "--lora and --qlora exclude each other"),
    (("plan", "llama-3-70b-h100", "--lora"), "--lora: goes with a model and --on"),
    (("plan", "llama-3-70b-h100", "--set", "precision=fp16"), "did you mean job.precision=fp16?"),
    (("plan", "llama-3-70b-h100", "--set", "jb.precision=fp16"), "no such table 'jb'; did you mean job?"),
    (("plan", "llama-3-70b-h100", "--set", "job.precison=fp16"), "unknown field precison = 'fp16'; did you mean precision"),
    (("search", "llama-3-70b-h100", "--deadline", "14"), "--deadline = '14': must be a number with its unit, such as 14d"),
    (("search", "llama-3-70b-h100", "--deadline", "2 fortnights"), "--deadline = '2 fortnights'"),
    (("serve", "llama-3-70b-h100"), "a scenario with [job] is for planner plan"),
    (("plan", "serving/qwen-7b"), "ask it with `planner serve"),
    (("plan", "chatlaw2-mo"), "did you mean chatlaw2-moe"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_a_mistake_ends_with_one_paragraph_that_says_what_would_be_right(
    arguments: tuple[str, ...], words: str, run: Run
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, ""), err
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert json.loads(run(*arguments, "--json")[2])["error"]["message"] == err.removeprefix("error: ").strip()


def test_a_file_named_like_a_model_is_a_scenario(run: Run) -> None:
    Path("gpt2").write_text(GOOD, encoding="utf-8")
    assert json.loads(run("plan", "gpt2", "--json")[1])["model"]["name"] == "llama-2-7b"


def test_search_shows_as_many_rows_as_asked_for(run: Run, scenario: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    for top in (1, 3):
        code, out, _ = run("search", scenario(), "--top", top)
        assert code == 0
        tables = out.split("front in time")
        for table in tables:
            assert 1 <= len(re.findall(r"^│ +\d+ │", table, re.MULTILINE)) <= top


def test_size_takes_several_gpu_types(run: Run) -> None:
    code, out, _ = run("size", "llama-3-70b", "--for", "serve", "--on", "rtx-3090,l40s", "--json")
    assert code == 0
    assert {row["accelerator"] for row in json.loads(out)["rows"]} == {"rtx-3090-24gb", "l40s"}
    code, out, _ = run("size", "llama-3-70b", "--for", "serve", "--on", "8xh100", "--json")
    assert [row["num_gpus"] for row in json.loads(out)["rows"]] == [8]
    code, out, _ = run("size", "gpt-oss-120b", "--for", "serve", "--on", "h100", "--json")
    assert json.loads(out)["weights"] == "mxfp4"


def test_epochs_of_an_unknown_number_of_samples_are_named(run: Run) -> None:
    out = run("plan", "llama-3-8b", "--lora", "--on", "h100", "--set", "job.num_epochs=3")[1]
    assert "job.num_epochs = 3, but of how many samples is not given: add job.num_samples" in " ".join(out.split())


def test_where_nothing_fits_the_answer_says_what_would(run) -> None:
    said = run("plan", "mistral-7b", "--lora", "--on", "rtx-3060")[1]
    assert "instead   QLoRA: " in said
    assert "2 such GPUs: " in said


def test_a_batch_that_was_meant_in_tokens_is_doubted(run: Run) -> None:
    """--batch counts sequences; what nobody trains with says so, and the usual batches of every size do not."""
    for batch, doubted in (("4M", True), ("16k", False)):
        for command in ("plan", "search"):
            line = (command, "llama-3-8b", "--on", "8xh100", "--batch", batch, "--tokens", "1B", "--seq-len", "8192")
            out = " ".join(run(*line)[1].split())
            assert ("counts sequences, not tokens" in out) is doubted
            assert ("4,000,000 tokens would be 488" in out) is doubted


def test_what_plan_says_of_a_job_search_says_too(run: Run) -> None:
    """Sequences that the model has not learned, a step of more tokens than anybody's: they follow from no layout."""
    line = ("llama-3-8b", "--on", "8xh100", "--tokens", "1B", "--seq-len", "32k", "--batch", "1048576")
    plan, search = (" ".join(run(command, *line)[1].split()) for command in ("plan", "search"))
    for words in ("beyond the context_length = 8192 of llama-3-8b", "a step is 34,359,738,368 tokens"):
        assert words in plan, plan
        assert words in search, search
