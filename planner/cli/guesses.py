"""Options that people guess, and what to write in their place."""

from __future__ import annotations

from collections.abc import Collection
from difflib import SequenceMatcher

OWN = {
    "job.seq_len": "--seq-len 4k",
    "job.global_batch_size": "--batch 256",
    "job.precision": "--precision fp8",
    "job.num_tokens": "--tokens 100B",
    "job.num_samples": "--samples 50k",
    "job.num_epochs": "--epochs 3",
    "cluster.num_gpus": "--on 8xh100",
    "cluster.accelerator": "--on 8xh100",
    "framework.name": "--framework fsdp",
    "price.usd_per_gpu_hour": "--price 2.50",
    "price.provider": "--provider AWS",
    "serving.clients": "--clients 64",
    "serving.requests_per_s": "--rate 5",
    "serving.prompt": "--prompt 1k",
    "serving.output": "--output 256",
    "serving.weights": "--weights fp8",
    "serving.batch": "--batch 16",
}
"""Field -> the option of its own that it has, where a command takes it."""

PRECISIONS = ("bf16", "fp16", "fp8", "nvfp4", "tf32", "fp32", "int8", "int4")
SERVED = ("--prompt 1k --output 256",)
ANSWERS = ("`planner serve MODEL --on 8xh100`",)
FILES = ("--out FILE.csv", "--json")
GUESSES: dict[str, tuple[str, ...]] = {
    **{f"--{name}": (f"--precision {name}", f"--weights {name}") for name in PRECISIONS},
    **dict.fromkeys(("--precision", "--dtype"), ("--weights fp8",)),
    **dict.fromkeys(("--cloud", "--vendor"), ("--provider AWS",)),
    **dict.fromkeys(("--spot", "--on-demand", "--reserved"), ("--price spot",)),
    **dict.fromkeys(("--cost", "--hourly"), ("--price 2.50",)),
    **dict.fromkeys(("--days", "--hours", "--weeks"), ("--deadline 7d", "`planner limit MODEL --on 8xh100 --deadline 7d`")),
    **dict.fromkeys(("--ctx", "--context", "--max-model-len", "--seq-len", "--context-length"), ("--seq-len 4k", *SERVED)),
    **dict.fromkeys(("--dataset-tokens", "--train-tokens"), ("--tokens 100B",)),
    **dict.fromkeys(("--sft", "--full"), ("--finetune", "--for full")),
    **dict.fromkeys(("--lora", "--qlora", "--finetune"), ("--for lora",)),
    **dict.fromkeys(("--serve", "--inference", "--serving"), ("--for serve", *ANSWERS)),
    "--train": ("`planner plan MODEL --on 8xh100`",),
    **dict.fromkeys(("--clients", "--rate", "--users", "--qps", "--concurrency"), (*ANSWERS,)),
    **dict.fromkeys(("--slo", "--latency", "--sla"), ("--ttft 500ms --tpot 50ms",)),
    **dict.fromkeys(("--gpu", "--gpus", "--accelerator"), ("--accelerator h100", "--on 8xh100", "--search h100")),
    **dict.fromkeys(("--vram", "--memory"), ("--search 80gb", "--details")),
    **dict.fromkeys(("--family", "--name", "--filter", "--query"), ("--search TEXT",)),
    **dict.fromkeys(("--limit", "--n"), ("--top 5",)),
    **dict.fromkeys(("--electricity", "--power"), ("`planner own 8xh100 --set electricity_usd_per_kwh=0.1`",)),
    **dict.fromkeys(("--max-batch", "--max-batch-size"), ("--field layout.micro_batch_size",)),
    "--max-context": ("--field job.seq_len", "`planner limit MODEL --on h100`"),
    "--verbose": ("--details",),
    **dict.fromkeys(("--csv", "--excel", "--xlsx"), FILES),
    **dict.fromkeys(("--output", "--save"), ("--out FILE.csv", "--write FILE.toml", "--json")),
}
"""What is guessed -> what to write: the first whose option the command takes, or another command."""
ALIKE = 0.75
"""From this share of letters in their order on, an option is called near."""


def instead(option: str, taken: Collection[str]) -> str:
    """What to write in the place of an option that a command lacks, of those that it takes; empty where nobody knows.

    >>> instead("--fp8", ["--on", "--weights"]), instead("--fp8", ["--on", "--precision"]), instead("--colour", ["--on"])
    ('--weights fp8', '--precision fp8', '')
    """
    known = (text for text in GUESSES.get(option, ()) if text.startswith("`") or text.partition(" ")[0] in taken)
    return next(known, "")


def own_option(field: str, taken: Collection[str], value: str | None = None) -> str:
    """The option that a field has of its own, with the value that was given, or one such as it takes; empty where the command
    does not take it.

    >>> own_option("job.seq_len", ["--seq-len"], "8192"), own_option("cluster.num_gpus", ["--on"], "8")
    ('--seq-len 8192', '--on 8xh100')
    """
    name, _, such = OWN.get(field, "").partition(" ")
    return f"{name} {such if value is None or name == '--on' else value}" if name in taken else ""


def alike(option: str, others: Collection[str]) -> list[str]:
    """The options that a misspelt one may mean: those that it begins, and those of nearly its letters.

    >>> alike("--seqlen", ["--seq-len", "--set"]), alike("--tok", ["--tokens", "--on"]), alike("--context", ["--on"])
    (['--seq-len'], ['--tokens'], [])
    """
    near = {one: SequenceMatcher(None, option, one).ratio() for one in others}
    return sorted((one for one, ratio in near.items() if ratio >= ALIKE or one.startswith(option)), key=lambda one: -near[one])
