"""Options that people guess: the answer names one that the command takes, or another command."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest
from command_line import Run

from planner.cli.guesses import EXAMPLES, GUESSES, instead
from planner.cli.main import COMMANDS, LONG, Doors, takes_list

ASKED = ("llama-3-8b", "--on", "8xh100")
BATCH = 1024 * 4096
"""Tokens of a step of ASKED: no pass ends within one."""


def options_of(name: str) -> list[str]:
    command = Doors(name="planner").get_command(None, name)
    return [spelled for one in command.params for spelled in one.opts]


def takes_fields(name: str) -> bool:
    command = Doors(name="planner").get_command(None, name)
    return any("--set" in one.opts and one.multiple for one in command.params)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_what_is_named_in_place_of_a_guess_is_there(name: str) -> None:
    taken = options_of(name)
    for option in GUESSES:
        text = instead(option, taken, f"planner {name}")
        words = [word for word in text.split() if word.startswith("--")]
        if text.startswith("`planner "):
            command = text.strip("`").split()[1]
            assert command != name, (option, text)
            assert set(words) <= set(options_of(command) if command in COMMANDS else ()), (option, text)
        else:
            assert set(words) <= set(taken), (option, text)


GIVEN = {"cluster.num_gpus": "3", "--gpus": "3", "--gpu": "3", "cluster.accelerator": "l40s", "--accelerator": "l40s"}


@pytest.mark.parametrize("option", sorted(GUESSES))
def test_an_option_that_takes_the_value_gets_the_one_that_was_given(option: str) -> None:
    value = GIVEN.get(option, "17")
    for text in GUESSES[option]:
        name = text.partition(" ")[0]
        if text == name and name in EXAMPLES and name != option:
            written = instead(option, [name], value=value, on="8xh200")
            assert written.startswith(f"{name} ")
            assert value in written, text


@pytest.mark.parametrize(
    ("field", "value", "on", "right"),
    [
        ("cluster.num_gpus", "16", "8xh200", "--on 16xh200"),
        ("cluster.num_gpus", "16", "h200", "--on 16xh200"),
        ("cluster.num_gpus", "16", None, "--on 16xh100"),
        ("cluster.num_gpus", "16", "2x8xh100", "--on 2x8xh100"),
        ("cluster.num_gpus", "32", "2x8xh100", "--on 32xh100-sxm5-80gb"),
        ("cluster.num_gpus", "8", "dgx-h100", ""),
        ("cluster.num_gpus", "8", "8xh200", "--on 8xh200"),
        ("cluster.accelerator", "l40s", "4xh200", "--on 4xl40s"),
        ("cluster.accelerator", "2xl40s", "4xh200", "--on 2xl40s"),
        ("cluster.accelerator", None, "4xh200", "--on 4xh200"),
    ],
)
def test_gpus_are_those_that_stand_after_on(field: str, value: str | None, on: str | None, right: str) -> None:
    assert instead(field, ["--on"], value=value, on=on) == right


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        (("plan", *ASKED, "--fp8"), "write --precision fp8"),
        (("serve", *ASKED, "--fp8"), "write --weights fp8"),
        (("plan", *ASKED, "--context", "8192"), "write --seq-len 8192"),
        (("serve", *ASKED, "--context", "8192"), "--prompt"),
        (("plan", *ASKED, "--gpus", "16"), "write --on 16xh100"),
        (("plan", "llama-3-8b", "--on", "8xh200", "--num-gpus", "16"), "write --on 16xh200"),
        (("plan", *ASKED, "--gpus", "8"), "--on 8xh100 says it; leave --gpus out"),
        (("plan", *ASKED, "--cost", "3"), "write --price 3;"),
        (("plan", *ASKED, "--dataset-tokens", "5B"), "write --tokens 5B;"),
        (("search", *ASKED, "--days", "3"), "write --deadline 3d;"),
        (("search", *ASKED, "--csv", "mine.csv"), "write --out mine.csv;"),
        (("hardware", "list", "--vram", "40"), "write --search 40gb;"),
        (("own", "8xh100", "--electricity", "0.2"), "write --set electricity_usd_per_kwh=0.2;"),
        (("plan", *ASKED, "--electricity", "0.2"), "write --set cost.electricity_usd_per_kwh=0.2."),
        (("serve", *ASKED, "--users", "63"), "write --clients 63"),
        (("serve", *ASKED, "--qps", "5"), "write --rate 5"),
        (("plan", *ASKED, "--spot"), "--price spot"),
        (("plan", *ASKED, "--days", "3"), "`planner limit MODEL --on 8xh100 --deadline 3d`"),
        (("plan", *ASKED, "--cloud", "aws"), "--provider"),
        (("plan", *ASKED, "--tok", "1B"), "--tokens"),
        (("size", "llama-3-8b", "--for", "serve", "--gpus", "h100"), "--on"),
        (("size", "llama-3-8b", "--serve"), "--for serve"),
        (("search", *ASKED, "--gpus", "h100,h200"), "--accelerator"),
        (("own", "llama-3-8b", "--on", "64xh100"), "planner own 64xh100;"),
        (("own", "--on", "64xh100"), "planner own 64xh100;"),
        (
            ("search", "--from", "my run.sh", "--on", "64xh100"),
            "`planner plan --from 'my run.sh' --on 64xh100 --write mine.toml",
        ),
        (("export", "--from", "run.sh", "--to", "megatron"), "`planner plan --from run.sh --write mine.toml`"),
        (("search", *ASKED, "job.seq_len=8192"), "write --set job.seq_len=8192;"),
        (("sweep", *ASKED, "job.seq_len=2k,4k", "--vary", "layout.tp=1,2"), "write --vary job.seq_len=2k,4k;"),
        (("limit", *ASKED, "job.seq_len"), "write --field job.seq_len;"),
        (("tune", *ASKED, "seq_len=4096"), "write --set job.seq_len=4096;"),
        (("plan", *ASKED, "tp=2"), "tp=2: a field stands after an option: --set layout.tp=2."),
        (("serve", "llama-3-8b", "--on", "h100", "serving.batch=4"), "--set serving.batch=4."),
        (("compare", *ASKED, "job.seq_len=4096"), "--set job.seq_len=4096."),
        (("compare", *ASKED, "--on", "8xh200"), "a list stands in one word: --on 8xh100,8xh200."),
        (("search", *ASKED, "--accelerator", "h100", "--accelerator", "a100"), "--accelerator h100,a100."),
        (
            ("size", "llama-3-8b", "--for", "serve", "--on", "gb200-nvl72"),
            "is a node type, and a type of GPU is asked for; name its",
        ),
        (
            ("plan", *ASKED, "--tokens", "2B", "--set", "job.num_tokens=1B"),
            "an option gives job.num_tokens = 2000000000; leave one",
        ),
        (("search", *ASKED, "--seq-len", "4k", "--set", "job.seq_len=8k"), "leave one of the two out"),
        (("plan", *ASKED, "--framework", "fsdp", "--set", "framework.name=megatron-core"), "leave one of the two out"),
        (("serve", "llama-3-8b", "--on", "h100", "--clients", "8", "--set", "serving.clients=9"), "leave one of the two out"),
        (("plan", *ASKED, "--set", "cluster.num_gpus=16"), "an option gives cluster.num_gpus = 8; leave one"),
        (("plan", "llama-3-8b", "--on", "2xdgx-h100", "--set", "cluster.num_gpus=32"), "gives cluster.num_nodes = 2; leave one"),
        (("plan", *ASKED, "--set", "cluster.accelerator=h200"), "gives cluster.accelerator = h100-sxm5-80gb; leave one"),
        (("plan", *ASKED, "--layout", "tp2", "--set", "layout.tp=4"), "an option gives layout.tp = 2; leave one"),
        (("plan", *ASKED, "--tokens", "1B", "--set", "job.num_steps=10"), "gives job.num_tokens = 1000000000; leave one"),
        (("plan", "--from", "x.sh", "--framework", "fsdp", "--set", "framework.name=deepspeed"), "leave one of the two out"),
        (("plan", "--from", "x.sh", "--on", "8xh100", "--set", "cluster.num_gpus=16"), "leave one of the two out"),
        (("plan", "--from", "x.sh", "--price", "2", "--set", "price.usd_per_gpu_hour=3"), "leave one of the two out"),
        (("search", "llama-3-8b", "--on", "16xh100,8xh200", "--set", "cluster.num_gpus=16"), "gives cluster.num_gpus = 8; leave"),
        (("search", *ASKED, "--framework", "fsdp", "--set", "framework.name=megatron-core"), "leave one of the two out"),
        (("search", *ASKED, "--term", "spot", "--set", "price.term=on-demand"), "leave one of the two out"),
        (("search", "llama-3-8b", "--on", "h100", "--gpus", "8,16", "--set", "cluster.num_gpus=32"), "leave one of the two out"),
        (("serve", "llama-3-8b", "--on", "2xh100", "--set", "cluster.num_gpus=4"), "gives cluster.num_gpus = 2; leave one"),
        (("serve", "llama-3-8b", "--on", "h100,4xh200"), "`planner size llama-3-8b --for serve --on h100-sxm5-80gb,h200-sxm-"),
        (("serve", "llama-3-8b", "--on", "h100", "h200"), "`planner size llama-3-8b --for serve --on h100-sxm5-80gb,h200-sxm-"),
        (("serve", "--from", "x.sh", "--on", "h100,h200"), "ask about each: --on h100, --on h200."),
        (("plan", *ASKED, "8xh200"), "`planner compare llama-3-8b --on 8xh100,8xh200`"),
        (("search", *ASKED, "8xh200"), "a list stands in one word: --on 8xh100,8xh200;"),
        (("compare", *ASKED, "8xh200"), "8xh200: a list stands in one word: --on 8xh100,8xh200."),
        (("size", "llama-3-8b", "--for", "serve", "--on", "h100", "h200"), "a list stands in one word: --on h100,h200;"),
        (("size", "llama-3-8b", "--for", "serve", "--on", "8xh100,4xl4"), "--on h100-sxm5-80gb,l4 --gpus 8; ask"),
        (
            ("plan", "llama-3-8b", "8xh100", "tp=2"),
            "8xh100: GPUs stand after --on: planner plan llama-3-8b --on 8xh100 --set layout",
        ),
        (("plan", *ASKED, "foo", "tp=2"), "error: tp=2: a field stands after an option: --set layout.tp=2."),
        (("plan", "llama-3-8b", "--ON", "8xh100"), "--on"),
        (("plan", *ASKED, "--on", "8xh200"), "is given twice, '8xh100' and '8xh200'; give it once."),
        (("search", "llama-3-8b,llama-2-7b", "--on", "8xh100"), "planner compare llama-3-8b llama-2-7b"),
        (("search", "llama-3-8b", "llama-2-7b", "--on", "8xh100"), "planner compare"),
        (("prices", "list", "--gpu", "h100"), "--search"),
        (("prices", "list", "h100"), "--search"),
        (("models", "list", "llama"), "--search"),
        (("plan", *ASKED, "--tokens", "1B", "--provider", "aws", "--price", "2"), "leave one of the two out"),
        (("plan", *ASKED, "--tokens", "1B", "--epochs", "many"), "must be a number above 0"),
        (
            ("plan", *ASKED, "--tokens", "1B", "--provider", "nobody"),
            "'nobody': no such quote of any GPU; known: ",
        ),
        (("size", "llama-3-8b", "--for", "serve", "--provider", "nobody"), "price.provider = 'nobody': no such quote of any GPU"),
    ],
)
def test_a_guess_is_answered_with_what_to_write(run: Run, typed: tuple[str, ...], right: str) -> None:
    code, out, err = run(*typed)
    assert (code, out) == (2, "")
    assert right in err


def commands_of(name: str) -> list[tuple[str, Any]]:
    """A command, or its own commands, each as it is typed."""
    command = Doors(name="planner").get_command(None, name)
    own = getattr(command, "commands", {})
    return [(f"{name} {one}", found) for one, found in own.items()] if own else [(name, command)]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_option_whose_help_shows_commas_is_a_list_and_only_such_a_one(name: str, run: Run) -> None:
    """Given twice, it is answered with the list in one word."""
    for typed, command in commands_of(name):
        for one in command.params:
            if one.param_type_name != "option" or one.multiple:
                continue
            shows = re.search(r"commas|[^\W_],\w", one.help or "") is not None
            assert shows == takes_list(one), (typed, one.opts)
            if shows:
                twice = run(*typed.split(), one.opts[0], "a", one.opts[-1], "b")
                assert twice[0] == 2
                assert f"{one.opts[0]}: is given twice; a list stands in one word: {one.opts[0]} a,b." in twice[2]


def test_a_provider_that_nobody_knows_is_no_reason_to_leave_a_method_out(run: Run) -> None:
    code, _, err = run("tune", *ASKED, "--samples", "1k", "--provider", "nobody")
    assert code == 2
    assert "price.provider = 'nobody'" in err
    assert "--methods" not in err


@pytest.mark.parametrize(
    "typed",
    [
        ("plan", *ASKED, "--train"),
        ("plan", *ASKED, "--csv", "out.csv"),
        ("plan", *ASKED, "--memory", "40"),
        ("plan", *ASKED, "--vram", "40"),
        ("serve", *ASKED, "--inference"),
        ("serve", *ASKED, "--save", "x"),
        ("size", "llama-3-8b", "--for", "serve", "--days", "3"),
    ],
)
def test_where_nothing_fits_nothing_is_named(run: Run, typed: tuple[str, ...]) -> None:
    option = next(word for word in typed[3:] if word in GUESSES)
    said = " ".join(run(*typed)[2].split())
    assert said.startswith(f"error: No such option: {option}; `planner {typed[0]} --help` lists what it takes")
    assert "write" not in said


def test_options_that_are_far_are_not_called_near(run: Run) -> None:
    assert run("plan", *ASKED, "--kv", "fp8")[2] == "error: No such option: --kv; `planner plan --help` lists what it takes.\n"
    assert "--on" not in run("plan", *ASKED, "--colour", "red")[2].partition("--help")[0].partition("such option")[2]


@pytest.mark.parametrize("command", ["plan", "serve", "run"])
def test_a_provider_is_its_field(run: Run, command: str) -> None:
    length = () if command == "serve" else ("--tokens", "1B")
    asked = (command, "llama-3-8b", "--on", "8xh100" if length else "h100", *length, "--json")
    by_option = run(*asked, "--provider", "aws")
    assert by_option == run(*asked, "--set", "price.provider=aws")
    assert by_option[0] == 0


def test_epochs_are_passes_over_samples_or_tokens(run: Run) -> None:
    asked = ("plan", "llama-3-8b", "--lora", "--on", "rtx-4090", "--json")
    three = run(*asked, "--samples", "50k", "--epochs", "3")
    assert three == run(*asked, "--set", "job.num_samples=50000", "--set", "job.num_epochs=3")
    assert three[0] == 0
    asked = ("plan", *ASKED, "--json", "--tokens")
    passes, whole = (json.loads(run(*asked, *more)[1]) for more in ((str(4 * BATCH), "--epochs", "3"), (str(12 * BATCH),)))
    assert passes["run_s"] == whole["run_s"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("plan", *ASKED, "--set", "layout.tp=2"), True),
        (("run", *ASKED, "--tokens", "1B", "--set", "layout.tp=2"), True),
        (("compare", "llama-3-8b", "llama-2-7b", "--on", "8xh100", "--set", "layout.tp=2"), True),
        (("sweep", *ASKED, "--vary", "layout.tp=2"), True),
        (("plan", *ASKED), False),
        (("plan", *ASKED, "--layout", "tp2", "--set", "layout.pp=2"), False),
        (("sweep", *ASKED, "--layout", "pp2", "--vary", "layout.tp=2"), False),
        (("plan", "llama-3-70b-h100", "--set", "layout.vpp=1"), False),
    ],
)
def test_a_part_of_a_layout_is_said_to_be_one(run: Run, asked: tuple[str, ...], said: bool) -> None:
    code, out, _ = run(*asked)
    assert code == 0
    note = "only layout.tp of the layout is given: the rest is as it is by default, not chosen; --layout"
    assert (note in " ".join(out.split())) is said


@pytest.mark.parametrize("command", [name for name in sorted(COMMANDS) if takes_fields(name)])
@pytest.mark.parametrize("further", [(), ("--set", "layout.pp", "4"), ("--json",)])
def test_a_value_after_a_blank_belongs_to_its_field(run: Run, command: str, further: tuple[str, ...]) -> None:
    code, out, err = run(command, *ASKED, "--set", "job.seq_len=4096", "--set", "layout.tp", "2", *further)
    assert (code, out) == (2, "")
    assert "--set layout.tp=2" in err


def test_half_a_gpu_is_no_name_of_one(run: Run) -> None:
    code, _, err = run("plan", "llama-3-8b", "--on", "8.5xh100")
    assert code == 2
    assert "give a whole number and a GPU" in err


def best_of_clusters(run: Run, *typed: str) -> list[dict[str, Any]]:
    rows = json.loads(run("search", "llama-3-8b", "--json", *typed)[1])["rows"]
    return [row for row in rows if row["best_of_cluster"]]


def test_what_set_changes_in_a_cluster_it_changes_in_all_that_are_searched(run: Run) -> None:
    slow = ("--set", "cluster.network_gbit_per_s=100")
    both = {row["accelerator"]: row["step_time_s"] for row in best_of_clusters(run, "--on", "16xh100,16xh200", *slow)}
    assert len(both) == 2
    for on in ("16xh100", "16xh200"):
        alone, usual = (best_of_clusters(run, "--on", on, *more)[0] for more in (slow, ()))
        assert both[alone["accelerator"]] == alone["step_time_s"] > usual["step_time_s"]


def test_what_set_changes_in_a_framework_it_changes_in_all_that_are_searched(run: Run) -> None:
    found = best_of_clusters(run, "--on", "8xh100", "--framework", "fsdp,megatron-core", "--set", "framework.fragmentation=0.3")
    assert {row["framework"] for row in found} == {"fsdp", "megatron-core"}
    assert all("fragmentation" in str(row["framework_changes"]) for row in found)


def test_a_number_that_is_not_written_may_be_set(run: Run) -> None:
    for on, field, gpus in (("h100", "cluster.num_gpus=16", "16xh100"), ("gb200-nvl72", "cluster.num_nodes=2", "8xgb200")):
        found = [json.loads(run("plan", "gpt2", "--json", *more)[1]) for more in (("--on", on, "--set", field), ("--on", gpus))]
        assert found[0]["cluster"]["num_gpus"] == found[1]["cluster"]["num_gpus"]


def test_what_takes_long_is_a_command() -> None:
    assert set(LONG) <= set(COMMANDS)


@pytest.mark.parametrize("field", ["model.name", "model.base", "model.config"])
@pytest.mark.parametrize("command", ["plan", "search", "serve", "limit"])
def test_a_model_beside_the_one_that_the_question_names_is_refused(command: str, field: str, run: Run) -> None:
    code, out, err = run(command, "llama-3-8b", "--on", "8xh100", "--set", f"{field}=qwen3-8b")
    assert (code, out) == (2, "")
    assert "the question names llama-3-8b; name one model, qwen3-8b in its place" in " ".join(err.split())


@pytest.mark.parametrize("words", [["on", "8", "h100"], ["on", "8xh100"], ["8xh100"]])
def test_gpus_behind_a_word_are_answered_with_the_option_that_takes_them(words: list[str], run: Run) -> None:
    code, _, err = run("plan", "llama-3-8b", *words)
    assert code == 2
    gpus = " ".join(word for word in words if word != "on")
    assert f"GPUs stand after --on: planner plan llama-3-8b --on {shlex.quote(gpus)}" in " ".join(err.split())
