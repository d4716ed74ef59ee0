"""Options that people guess, and what to write in their place."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from difflib import SequenceMatcher

from planner.common.errors import PlannerError
from planner.common.spellings import places

EXAMPLES = {
    "--seq-len": "4k",
    "--batch": "16",
    "--precision": "fp8",
    "--weights": "fp8",
    "--tokens": "100B",
    "--samples": "50k",
    "--epochs": "3",
    "--on": "8xh100",
    "--gpus": "8",
    "--accelerator": "h100",
    "--framework": "fsdp",
    "--price": "2.50",
    "--provider": "AWS",
    "--clients": "64",
    "--rate": "5",
    "--prompt": "1k",
    "--output": "256",
    "--deadline": "7d",
    "--search": "TEXT",
    "--top": "5",
    "--out": "FILE.csv",
    "--xlsx": "FILE.xlsx",
    "--write": "FILE.toml",
}
"""Option -> a value such as it takes, for a guess that was given none."""

PRECISIONS = ("bf16", "fp16", "fp8", "nvfp4", "tf32", "fp32", "int8", "int4")
SERVE = "`planner serve MODEL --on {on}`"
LIMIT = "`planner limit MODEL --on {on} --deadline {value}`"
NEEDS = {"limit": "--tokens", "serve": "--set", "own": "--set", "plan": "--set"}
"""Another command -> the option of a command whose question it answers, too."""
GUESSES: dict[str, tuple[str, ...]] = {
    "job.seq_len": ("--seq-len",),
    "job.global_batch_size": ("--batch",),
    "job.precision": ("--precision",),
    "job.num_tokens": ("--tokens",),
    "job.num_samples": ("--samples",),
    "job.num_epochs": ("--epochs",),
    "cluster.num_gpus": ("--gpus", "--on"),
    "cluster.accelerator": ("--accelerator", "--on"),
    "framework.name": ("--framework",),
    "price.usd_per_gpu_hour": ("--price",),
    "price.provider": ("--provider",),
    "serving.clients": ("--clients",),
    "serving.requests_per_s": ("--rate",),
    "serving.prompt": ("--prompt",),
    "serving.output": ("--output",),
    "serving.weights": ("--weights",),
    "serving.batch": ("--batch",),
    **{f"--{name}": (f"--precision {name}", f"--weights {name}") for name in PRECISIONS},
    **dict.fromkeys(("--precision", "--dtype"), ("--weights",)),
    **dict.fromkeys(("--cloud", "--vendor"), ("--provider",)),
    **{f"--{term}": (f"--price {term}",) for term in ("spot", "on-demand")},
    "--reserved": ("--price reserved-1-year",),
    **dict.fromkeys(("--cost", "--hourly"), ("--price",)),
    **dict.fromkeys(("--days", "--hours", "--weeks"), ("--deadline", LIMIT)),
    **dict.fromkeys(
        ("--ctx", "--context", "--max-model-len", "--seq-len", "--context-length"), ("--seq-len", "--prompt 1k --output 256")
    ),
    **dict.fromkeys(("--dataset-tokens", "--train-tokens"), ("--tokens",)),
    **dict.fromkeys(("--sft", "--full"), ("--finetune", "--for full")),
    **dict.fromkeys(("--lora", "--qlora"), ("--for {option}",)),
    "--finetune": ("--for full",),
    **dict.fromkeys(("--serve", "--inference", "--serving"), ("--for serve", SERVE)),
    "--train": ("`planner plan MODEL --on {on}`",),
    **dict.fromkeys(("--clients", "--users", "--concurrency"), ("--clients", SERVE)),
    **dict.fromkeys(("--rate", "--qps"), ("--rate", SERVE)),
    **dict.fromkeys(("--slo", "--latency", "--sla"), ("--ttft 500ms --tpot 50ms",)),
    **dict.fromkeys(("--gpu", "--gpus"), ("--accelerator", "--on", "--search")),
    "--accelerator": ("--on", "--search"),
    **dict.fromkeys(("--vram", "--memory"), ("--search",)),
    **dict.fromkeys(("--family", "--name", "--filter", "--query"), ("--search",)),
    **dict.fromkeys(("--limit", "--n"), ("--top",)),
    **dict.fromkeys(("--electricity", "--power"), ("`planner own {on} --set electricity_usd_per_kwh={value}`",)),
    **dict.fromkeys(("--max-batch", "--max-batch-size"), ("--field layout.micro_batch_size",)),
    "--max-context": ("--field job.seq_len", "`planner limit MODEL --on {on}`"),
    "--verbose": ("--details",),
    **dict.fromkeys(("--excel", "--xlsx"), ("--xlsx", "--out FILE.csv")),
    "--csv": ("--out",),
    **dict.fromkeys(("--output", "--save"), ("--out", "--write")),
}
"""A field of a scenario, or an option that is guessed -> what to write: the first whose option the command takes, or another
command. An option alone takes the value that was given; {value} and {on} stand for it and for the GPUs that were given."""
UNITS = {"--days": "d", "--hours": "h", "--weeks": "w", "--vram": "gb", "--memory": "gb"}
"""A guess that counts something -> the unit of a bare number."""
ALIKE = 0.75
"""From this share of letters in their order on, an option is called near."""


def instead(asked: str, taken: Collection[str], command: str = "", value: str | None = None, on: str | None = None) -> str:
    """What to write for a field, or for an option that a command lacks, of the options that it takes; empty where nobody knows.

    ``value`` is what was given, ``on`` the GPUs after --on.

    >>> instead("--fp8", ["--on", "--weights"]), instead("--cost", ["--price"], value="3"), instead("--colour", ["--on"])
    ('--weights fp8', '--price 3', '')
    >>> instead("cluster.num_gpus", ["--on"], value="16", on="8xh200"), instead("--days", ["--deadline"], value="3")
    ('--on 16xh200', '--deadline 3d')
    """
    given = None if value is None else value + UNITS.get(asked, "") * value.replace(".", "", 1).isdecimal()
    found = (_written(text, asked, taken, command.rpartition(" ")[2], given, on) for text in GUESSES.get(asked, ()))
    return next(filter(None, found), "")


FIELD = re.compile(r"(?:model|cluster|framework|job|layout|price|run|cost|serving)(?:\.\w+)+")
"""A field of a scenario, with its table."""


def of_field(word: str, taken: Collection[str]) -> str:
    """The option of a field that stands without one, with its value where it has one; empty for any other word.

    >>> of_field("job.seq_len=8192", ["--set"]), of_field("tp=2", ["--set"]), of_field("job.seq_len", ["--set", "--field"])
    ('--set job.seq_len=8192', '--set layout.tp=2', '--field job.seq_len')
    >>> of_field("job.seq_len=2048,4096", ["--set", "--vary"]), of_field("llama-3-8b", ["--set"])
    ('--vary job.seq_len=2048,4096', '')
    """
    name, equals, value = word.partition("=")
    field = name if FIELD.fullmatch(name) else next(iter(places(name)), "") if equals else ""
    option = "--field" if not equals else "--vary" if "--vary" in taken else "--set"
    return f"{option} {field}{equals}{shlex.quote(value) if value else ''}" if field and option in taken else ""


def _written(text: str, asked: str, taken: Collection[str], command: str, value: str | None, on: str | None) -> str:
    """One entry of GUESSES with its values; empty where it is none for this command."""
    if text.startswith("`"):
        other = text.split()[1]
        example = "0.1" if other == "own" else EXAMPLES["--deadline"]
        whole = text.format(on=shlex.quote(on or EXAMPLES["--on"]), value=shlex.quote(value or example))
        if other == command:  # only what it adds to the question
            _, mark, added = whole.strip("`").partition("--set ")
            return mark + added
        return whole if NEEDS[other] in taken else ""
    name, _, rest = text.format(option=asked.removeprefix("--")).partition(" ")
    if name not in taken or name == asked:
        return ""
    if name == "--on" and command != "size":
        return _on(value, on)
    return f"{name} {rest or shlex.quote(value or EXAMPLES[name])}" if rest or name in EXAMPLES else name


def _on(value: str | None, on: str | None) -> str:
    """--on with another number of GPUs, or with other GPUs, than were given; empty where nodes were given."""
    from planner.hardware.asked import cluster_table

    try:
        given = cluster_table(on or EXAMPLES["--on"])
    except PlannerError:
        return ""
    if value is None or value == str(given.get("num_gpus")):
        return f"--on {on or EXAMPLES['--on']}"
    if "accelerator" not in given or "gpus_per_node" in given:
        return ""
    typed = re.fullmatch(r"(?:\d+\s*[x×*]\s*)?([a-z]\S*)", on or EXAMPLES["--on"], re.IGNORECASE)
    kind, counted = typed[1] if typed else given["accelerator"], re.match(r"\d+\s*[x×*]", value)
    whole = f"{value}x{kind}" if value.isdecimal() else value if counted else f"{given['num_gpus']}x{value}"
    return f"--on {shlex.quote(whole)}"


def alike(option: str, others: Collection[str]) -> list[str]:
    """The options that a misspelt one may mean: those that it begins, and those of nearly its letters.

    >>> alike("--seqlen", ["--seq-len", "--set"]), alike("--tok", ["--tokens", "--on"]), alike("--context", ["--on"])
    (['--seq-len'], ['--tokens'], [])
    """
    plain = option.lower()
    near = {one: SequenceMatcher(None, plain, one).ratio() for one in others}
    return sorted((one for one, ratio in near.items() if ratio >= ALIKE or one.startswith(plain)), key=lambda one: -near[one])
