"""Options that people guess: the answer names one that the command takes, or another command."""

from __future__ import annotations

import pytest
from command_line import Run

from planner.cli.guesses import GUESSES, OWN, instead, own_option
from planner.cli.main import COMMANDS, Doors

ASKED = ("llama-3-8b", "--on", "8xh100")


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
        text = instead(option, taken)
        words = [word for word in text.split() if word.startswith("--")]
        if text.startswith("`planner "):
            command = text.strip("`").split()[1]
            assert set(words) <= set(options_of(command) if command in COMMANDS else ()), (option, text)
        else:
            assert set(words) <= set(taken), (option, text)
    for field in OWN:
        named = own_option(field, taken)
        assert not named or named.partition(" ")[0] in taken


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        (("plan", *ASKED, "--fp8"), "write --precision fp8"),
        (("serve", *ASKED, "--fp8"), "write --weights fp8"),
        (("plan", *ASKED, "--context", "8192"), "write --seq-len 8192"),
        (("serve", *ASKED, "--context", "8192"), "--prompt"),
        (("plan", *ASKED, "--gpus", "8"), "--on 8xh100"),
        (("serve", *ASKED, "--users", "64"), "write --clients 64"),
        (("serve", *ASKED, "--qps", "5"), "write --rate 5"),
        (("plan", *ASKED, "--spot"), "--price spot"),
        (("plan", *ASKED, "--days", "7"), "planner limit"),
        (("plan", *ASKED, "--cloud", "aws"), "--provider"),
        (("plan", *ASKED, "--tok", "1B"), "--tokens"),
        (("size", "llama-3-8b", "--for", "serve", "--gpus", "h100"), "--on"),
        (("size", "llama-3-8b", "--serve"), "--for serve"),
        (("search", *ASKED, "--gpus", "h100,h200"), "--accelerator"),
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


def test_a_provider_that_nobody_knows_is_no_reason_to_leave_a_method_out(run: Run) -> None:
    code, _, err = run("tune", *ASKED, "--samples", "1k", "--provider", "nobody")
    assert code == 2
    assert "price.provider = 'nobody'" in err
    assert "--methods" not in err


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


def test_epochs_are_passes_over_the_samples(run: Run) -> None:
    asked = ("plan", "llama-3-8b", "--lora", "--on", "rtx-4090", "--json")
    three = run(*asked, "--samples", "50k", "--epochs", "3")
    assert three == run(*asked, "--set", "job.num_samples=50000", "--set", "job.num_epochs=3")
    assert three[0] == 0


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
