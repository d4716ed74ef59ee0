"""What people type in other words, cases and marks than the documentation's: one question, one answer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from command_line import Run
from each import for_each

from planner.cli.asked import price_table
from planner.cli.main import COMMANDS, Doors, app, path_options, typed_in_ascii
from planner.cli.options import RISK
from planner.common.errors import PlannerError
from planner.common.quantities import rate_per_s, share
from planner.hardware.asked import cluster_table
from planner.performance.risk import RISK as planner_risk
from planner.workload.resolve import as_cluster

MODEL = ("plan", "gpt2", "--on", "rtx-4090")
SWEEP = ("sweep", "gpt2", "--on", "v100-sxm2-32gb", "--vary")
SET_TARGETS = ("--set", "serving.ttft_target_s=0.5", "--set", "serving.tpot_target_s=0.05")
SIZE = ("size", "gpt2", "--for", "serve", "--on")
LIMIT = ("limit", "gpt2", "--on", "rtx-4090", "--set", "layout.micro_batch_size=1", "--field")
PLAN_PRICED = ("plan", "gpt2", "--on", "l4", "--tokens", "1M", "--price")
SEARCH_BY_COST = ("search", "gpt2", "--on", "l4", "--tokens", "1M", "--objective", "cost")
SAME: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    ((*MODEL, "--precision", "FP16"), (*MODEL, "--precision", "fp16")),
    ((*MODEL, "--set", "job.optimizer=AdamW"), (*MODEL, "--set", "job.optimizer=adamw")),
    ((*MODEL, "--set", "layout.recompute=Full"), (*MODEL, "--set", "layout.recompute=full")),
    ((*MODEL, "--risk", "10%"), (*MODEL, "--risk", "0.1")),
    ((*MODEL, "--tokens", "1M", "--price", "$2.50/h"), (*MODEL, "--tokens", "1M", "--price", "2.5")),
    ((*MODEL, "--tokens", "1M", "--price", "2.50 USD"), (*MODEL, "--tokens", "1M", "--price", "2.5")),
    ((*MODEL, "--tokens", "1M", "--price", "2.5$"), (*MODEL, "--tokens", "1M", "--price", "2.5")),
    ((*MODEL, "--tokens", "1M", "--price", "On demand"), (*MODEL, "--tokens", "1M", "--price", "on-demand")),
    (("plan", "gpt2", "--on", "ＲＴＸ４０９０", "－－tokens", "１Ｍ"), (*MODEL, "--tokens", "1M")),
    ((*SWEEP, "job.precision=FP16,FP32"), (*SWEEP, "job.precision=fp16,fp32")),
    (("compare", "gpt2", "--on", "rtx-4090,h100,"), ("compare", "gpt2", "--on", "rtx-4090,h100")),
    (("own", "8xh100", "--use", "70%"), ("own", "8xh100", "--use", "0.7")),
    (("size", "gpt2", "--for", "LoRA", "--on", "rtx-4090"), ("size", "gpt2", "--for", "lora", "--on", "rtx-4090")),
    (
        ("search", "gpt2", "--on", "2xrtx-4090", "--tokens", "1M", "--objective", "Cost"),
        ("search", "gpt2", "--on", "2xrtx-4090", "--tokens", "1M", "--objective", "cost"),
    ),
    (("serve", "gpt2", "--on", "l4", "--rate", "120/min"), ("serve", "gpt2", "--on", "l4", "--rate", "2")),
    (("serve", "gpt2", "--on", "l4,", "--price", "$2/h"), ("serve", "gpt2", "--on", "l4", "--set", "price.usd_per_gpu_hour=2")),
    (
        ("serve", "gpt2", "--on", "l4", "--clients", "2", "--ttft", "500ms", "--tpot", "50ms"),
        ("serve", "gpt2", "--on", "l4", "--clients", "2", *SET_TARGETS),
    ),
    (("own", "2x", "dgx-h100"), ("own", "2xdgx-h100")),
    ((*SIZE, "2xrtx-4090,"), (*SIZE, "rtx-4090", "--gpus", "2")),
    ((*SIZE, "2xl4,2*rtx-4090"), (*SIZE, "l4,rtx-4090", "--gpus", "2")),
    ((*LIMIT, "seq-len"), (*LIMIT, "job.seq_len")),
    ((*LIMIT, "Micro_Batch_Size"), (*LIMIT, "layout.micro_batch_size")),
    (("search", "gpt2", "--on", "l4", "--tokens", "1M", "--by", "cost"), SEARCH_BY_COST),
    (("plan", "gpt2", "--on", "l4", "--tokens", "1M", "--term", "spot"), (*PLAN_PRICED, "spot")),
    (
        ("plan", "gpt2", "--on", "l4", "--tokens", "1M", "--price", "2 eur"),
        (*PLAN_PRICED[:-1], "--set", "price.price_per_gpu_hour=2", "--set", "price.currency=EUR"),
    ),
    (("search", "gpt2", "--on", "l4", "--tokens", "1M", "--budget", "9"), (*SEARCH_BY_COST[:-2], "--budget-usd", "9")),
]


@pytest.mark.parametrize(("typed", "plain"), SAME, ids=[" ".join(typed) for typed, _ in SAME])
def test_other_words_are_the_same_question(run: Run, typed: tuple[str, ...], plain: tuple[str, ...]) -> None:
    found, expected = (run(*line, "--json") for line in (typed, plain))
    assert found[0] == expected[0] == 0, found[2]
    assert found[1] == expected[1]


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("--use", ("own", "8xh100")),
        ("--resale", ("own", "8xh100")),
        ("--risk", MODEL),
        ("--risk", ("search", "gpt2", "--on", "rtx-4090", "--tokens", "1M")),
        ("--risk", ("size", "gpt2", "--for", "lora", "--on", "rtx-4090")),
        ("--headroom", ("size", "gpt2", "--for", "lora", "--on", "rtx-4090")),
    ],
)
def test_a_share_that_is_none_is_explained_as_every_number_is(run: Run, option: str, line: tuple[str, ...]) -> None:
    code, out, err = run(*line, option, "blue")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {option} = 'blue': must be a part of 1 such as 0.7, or 70%")
    said = json.loads(run(*line, option, "blue", "--json")[2])
    assert (said["error"]["field"], said["error"]["value"]) == (option, "blue")


def test_the_usual_risk_of_the_command_line_is_the_planners() -> None:
    assert share(RISK, "--risk") == planner_risk


@pytest.mark.parametrize("between", [(), ("＝",), ("=",)])
def test_a_path_keeps_its_letters(run: Run, tmp_path: Path, between: tuple[str, ...]) -> None:
    """A file is written and read under the name that was typed, marks of Chinese keyboards and all."""
    mine, picture = tmp_path / "计划（一）.toml", tmp_path / "图：１.png"
    for option, path in (("--write", mine), ("--plot", picture)):
        assert run(*MODEL, *([f"{option}{between[0]}{path}"] if between else [option, path]))[0] == 0
    assert {one.name for one in tmp_path.iterdir()} == {mine.name, picture.name}
    assert run("plan", mine)[0] == 0
    recipe = tmp_path / "配置（一）.yaml"
    recipe.write_text("model_name_or_path: gpt2\nstage: sft\nfinetuning_type: full\ncutoff_len: 512\n", encoding="utf-8")
    given = [f"--from{between[0]}{recipe}"] if between else ["--from", recipe]
    code, _, err = run("plan", *given, "--on", "rtx-4090")
    assert code == 0, err


@pytest.mark.parametrize("name", COMMANDS)
def test_options_of_paths_are_those_whose_values_are_left_alone(name: str) -> None:
    """Those that are declared as paths, or that take a file, in the command and in its own commands."""
    found, paths, others = [typer.main.get_group(app).get_command(None, name)], set(), set()
    while found:
        one = found.pop()
        found += getattr(one, "commands", {}).values()
        for option in (param for param in one.params if param.param_type_name == "option"):
            is_path = bool(re.search(r"\bPath\b|'metavar': '(FILE|FOLDER)", repr(vars(option))))
            (paths if is_path else others).update(option.opts)
    assert path_options(name) == paths
    assert not paths & others, "a path in one command, something else in another of the same group"
    for option in paths:
        assert typed_in_ascii(["planner", name, option, "图：１", "：１"]) == ["planner", name, option, "图：１", ":1"]
    for option in others - paths:
        assert typed_in_ascii([name, option, "：１"]) == [name, option, ":1"]


def test_set_takes_one_value(run: Run) -> None:
    code, _, err = run(*MODEL, "--set", "layout.tp=[1]\nother=2")
    assert code == 2
    assert "is no table or list of TOML" in err


@pytest.mark.parametrize(
    ("text", "number"),
    [("32 x 8xH200", 256), ("2x8xh100", 16), ("2 nodes of 8 A100 80G", 16), ("4台8卡H800", 32), ("2 nodes x 8 h100 each", 16)],
)
def test_nodes_of_as_many_gpus_as_the_usual_one_are_that_many_gpus(text: str, number: int) -> None:
    found = cluster_table(text)
    assert found["num_gpus"] == number
    assert as_cluster(found) == as_cluster(f"{number}x{found['accelerator']}")


def test_nodes_of_another_size_are_nodes_of_that_size() -> None:
    table = cluster_table("2 nodes of 4 h100")
    assert table == {"accelerator": "h100-sxm5-80gb", "num_gpus": 8, "gpus_per_node": 4}
    assert as_cluster(table).node.num_gpus == 4


@pytest.mark.parametrize(
    "typed",
    [
        ("plan", "gpt2", "--on", "h100", "--on", "a100-80gb"),
        ("plan", "gpt2", "--on", "h100", "--seq-len", "512", "--seq-len=1024"),
        ("search", "gpt2", "--on", "h100", "--tokens", "1M", "--objective", "cost", "--objective", "time"),
        ("own", "h100", "--use", "0.5", "--use", "0.6"),
        ("init", "gpt2", "--on", "h100", "-o", "a.toml", "-o", "b.toml"),
    ],
)
def test_an_option_that_takes_one_value_is_not_given_two(run: Run, typed: tuple[str, ...], tmp_path: Path) -> None:
    code, out, err = run(*typed)
    assert (code, out) == (2, "")
    assert "given twice" in err
    assert len(err.strip().splitlines()) == 1


def test_options_that_may_be_repeated_are(run: Run) -> None:
    line = (*MODEL, "--set", "job.optimizer=sgd", "--set", "job.precision=fp16")
    assert run(*line)[0] == 0


def test_compare_answers_several_gpus_as_plan_answers_each(run: Run) -> None:
    code, out, err = run("compare", "gpt2", "--on", "h100,8xh200", "--tokens", "1M", "--json")
    assert code == 0, err
    cases = json.loads(out)["cases"]
    assert [case["label"] for case in cases] == ["h100", "8xh200"]
    for case in cases:
        alone = json.loads(run("plan", "gpt2", "--on", case["label"], "--tokens", "1M", "--json")[1])
        assert case["step_time_s"] == alone["step_time_s"]


def test_of_several_gpus_one_question_names_who_answers_them(run: Run) -> None:
    code, _, err = run("plan", "gpt2", "--on", "8xh100,8xa100-80gb")
    assert code == 2
    assert "--on 8xh100,8xa100-80gb" in err
    assert "planner compare" in err


def test_write_leaves_what_is_there(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("title = 'mine'", encoding="utf-8")
    for path, why in ((mine, "exists already"), (tmp_path / "mine.yaml", ".toml")):
        code, out, err = run(*MODEL, "--write", path)
        assert (code, out) == (2, "")
        assert why in err
    assert [one.name for one in tmp_path.iterdir()] == ["mine.toml"]
    assert mine.read_text(encoding="utf-8") == "title = 'mine'"


@pytest.mark.parametrize(
    ("typed", "option"),
    [
        (("trace", "gpt2", "--on", "h100", "--memory", "x.xml"), "--memory"),
        (("run", "gpt2", "--on", "h100", "--tokens", "1M", "--months", "x.txt"), "--months"),
        (("run", "gpt2", "--on", "h100", "--tokens", "1M", "--focus", "x.txt"), "--focus"),
    ],
)
def test_a_bad_path_is_said_of_its_own_option(run: Run, typed: tuple[str, ...], option: str) -> None:
    code, _, err = run(*typed)
    assert code == 2
    assert f"{option} x." in err


@pytest.mark.parametrize("text", ["70 percent", "%", "", "0,7", "1e400"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(PlannerError, match="70%"):
        share(text, "--use")


@pytest.mark.parametrize("text", ["fast", "5/moon", "-2", "", "1/s/s", "3Q/min"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(PlannerError, match="300/min"):
        rate_per_s(text, "--rate")


VALUED = [
    (name, one.opts[0], one.metavar or "VALUE")
    for name in COMMANDS
    for command in (Doors(name="planner").get_command(None, name),)
    for one in command.params
    if not hasattr(command, "commands") and one.param_type_name == "option" and not getattr(one, "is_flag", False)
]


@for_each("valued", VALUED)
def test_an_option_is_no_value_of_another(run: Run, valued: tuple[str, str, str]) -> None:
    name, option, metavar = valued
    code, out, err = run(name, option, "--help")
    assert (code, out) == (2, "")
    assert err.strip() == f"error: {option}: takes a value, and what follows is the option --help; give {option} {metavar}."


@for_each("valued", VALUED)
def test_an_option_without_its_value_names_its_own_command(run: Run, valued: tuple[str, str, str]) -> None:
    name, option, _ = valued
    assert f"`planner {name} --help` lists what it takes." in run(name, option)[2]


def test_an_output_is_given_by_its_letter_in_every_command() -> None:
    commands = [Doors(name="planner").get_command(None, name) for name in COMMANDS]
    every = [one for command in commands for c in (command, *getattr(command, "commands", {}).values()) for one in c.params]
    assert all("-o" in one.opts for one in every if "--out" in one.opts)


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("2.5", {"usd_per_gpu_hour": 2.5}), ("$2/GPU-hour", {"usd_per_gpu_hour": 2.0}), ("3 USD/h", {"usd_per_gpu_hour": 3.0}),
        ("-1", {"usd_per_gpu_hour": -1.0}), ("spot", {"term": "spot"}), ("1.2.3", {"term": "1.2.3"}), ("€2", {"term": "€2"}),
    ],
)  # fmt: skip
def test_a_price_is_dollars_or_a_term(text: str, table: dict[str, object]) -> None:
    assert price_table(text) == table


@pytest.mark.parametrize("what", ["models", "hardware", "frameworks", "engines", "scenarios", "prices"])
def test_every_list_is_searched_alike(run: Run, what: str) -> None:
    word = {
        "models": "qwen3",
        "hardware": "H100",
        "frameworks": "qlora",
        "engines": "SGLang",
        "scenarios": "bert",
        "prices": "h100",
    }
    whole, some = (run(what, "list", *search, "--json") for search in ((), ("--search", word[what])))
    assert whole[0] == some[0] == 0
    assert 0 < len(some[1]) < len(whole[1])
    code, out, err = run(what, "list", "--search", "no such words")
    assert (code, out) == (2, "")
    assert "no such words" in err


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        (("--device", "tpu"), "--device"),
        (("--clock", "sun"), "--clock"),
        (("--threads", "0"), "--threads"),
        (("--budget", "0m"), "--budget"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is_made(
    run: Run, typed: tuple[str, ...], field: str, tmp_path: Path
) -> None:
    code, out, err = run("measure", "--out", tmp_path / "measured", *typed)
    assert (code, out) == (2, "")
    assert f"{field} = " in err
    assert len(err.strip().splitlines()) == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("gpu", ["v100-sxm2-32gb", "t4", "h100-sxm5-80gb"])
def test_a_job_without_a_precision_has_the_one_that_the_command_line_takes(run: Run, gpu: str) -> None:
    import planner

    job = {"seq_len": 1024, "global_batch_size": 64, "num_tokens": 10**6}
    answer = planner.plan(model="gpt2", cluster={"accelerator": gpu, "num_gpus": 1}, job=job)
    typed = ("plan", "gpt2", "--on", gpu, "--seq-len", "1024", "--batch", "64", "--tokens", "1M", "--json")
    assert answer.step_time_s == json.loads(run(*typed)[1])["step_time_s"]
    (row,) = planner.plan_many(
        [{"model": "gpt2", "cluster": {"accelerator": gpu, "num_gpus": 1}, "job": job, "layout": answer.layout}]
    ).to_dict("records")
    assert row["step_time_s"] == answer.step_time_s
    assert not row["error"]


@pytest.mark.parametrize(
    ("typed", "cheapest", "owing"),
    [
        (("--years", "0.5"), "on-demand", 2), (("--years", "1"), "reserved-1-year", 1), (("--years", "3"), "own", 0),
        (("--years", "5"), "own", 1), (("--years", "6"), "own", 0),
        (("--years", "3", "--rent", "3"), "reserved-3-year", 0), (("--years", "6", "--rent", "3"), "reserved-3-year", 0),
        (("--years", "1.5", "--rent", "3"), "on-demand", 2),
    ],
)  # fmt: skip
def test_the_cheapest_way_is_so_with_what_its_term_still_asks_for(
    run: Run, typed: tuple[str, ...], cheapest: str, owing: int
) -> None:
    code, out, err = run("own", "8xh100", *typed, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["cheapest"] == cheapest
    assert len([note for note in found["notes"] if "still owed" in note]) == owing


def test_a_field_of_serving_in_the_load_is_told_its_table(run: Run) -> None:
    code, _, err = run("serve", "qwen2.5-vl-7b", "--on", "l4", "--rate", "1", "--set", "load.images=1")
    assert code == 2
    assert "serving.images" in err


@pytest.mark.parametrize(
    ("on", "number"), [("rtx-4090", 1), ("1xrtx-4090", 1), ("4xrtx-4090", 4), ("rtx-4090:2", 2), ("2 RTX 4090", 2)]
)
def test_a_launch_file_that_names_no_gpus_runs_on_those_of_the_command_line(
    run: Run, on: str, number: int, tmp_path: Path
) -> None:
    text = "base_model: meta-llama/Llama-3.2-1B\nadapter: lora\nlora_r: 8\nsequence_len: 1024\nmicro_batch_size: 1\n"
    file = tmp_path / "ax.yaml"
    file.write_text(text + "gradient_accumulation_steps: 2\n", encoding="utf-8")
    code, out, err = run("plan", "--from", file, "--on", on, "--json")
    assert code == 0, err
    assert json.loads(out)["num_gpus"] == number


def test_a_bad_number_of_a_launch_file_is_said_with_the_fields_own_name(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "ax.yaml"
    file.write_text(
        "base_model: meta-llama/Llama-3.2-1B\nadapter: lora\nmicro_batch_size: [1]\nsequence_len: 8\n", encoding="utf-8"
    )
    code, _, err = run("plan", "--from", file, "--on", "h100")
    assert code == 2
    assert "layout.micro_batch_size = [1]" in err
