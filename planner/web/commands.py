"""Where the page does what a command does, and the commands that it names instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ON_PAGE: Mapping[str, str] = {
    "plan": "ask",
    "size": "ask",
    "compare": "compare",
    "run": "run",
    "own": "run",
    "tune": "sidebar",
    "operators": "evidence",
    "search": "search",
    "sweep": "explore",
    "limit": "explore",
    "serve": "serving",
    "export": "search",
    "prices": "run",
    "audit": "evidence",
    "validate": "evidence",
    "measure": "calibrate",
    "calibrate": "calibrate",
    "models": "sidebar",
    "scenarios": "sidebar",
}
"""Command -> the page that answers the same, or "sidebar": its controls, Add and File."""
ELSEWHERE: Mapping[str, str] = {
    "fit": "planner fit --help",
    "hardware": "planner hardware show NAME",
    "frameworks": "planner frameworks show NAME",
    "engines": "planner engines show NAME",
    "trace": "planner trace --help",
    "init": "planner init --help",
    "schema": "planner schema --help",
    "debug": "planner debug --help",
    "app": "planner app",
}
"""Command -> what to type: the page says so under Evidence."""
QUESTION = "--on --lora --qlora --finetune --seq-len --batch --precision --framework --set"
"""Options of a question that the sidebar has controls for."""
RUN = f"{QUESTION} --tokens --samples --price --term"
ON_CONTROLS: Mapping[str, str] = {
    "plan": f"{RUN} --layout --details --explain --write --plot --json",
    "size": "--for --seq-len --batch --framework --rank --prompt --output --weights --engine --on --accelerator --gpus --price "
    "--top --json",
    "compare": f"{RUN} --layout --explain --plot --at --json",
    "run": f"{RUN} --layout --months --plot --json",
    "own": "--rent --set --out --plot --json",
    "tune": f"{RUN} --rank --targets --methods --json",
    "operators": f"{QUESTION} --layout --json",
    "search": f"{QUESTION} --tokens --samples --price --objective --by --gpus --accelerator --deadline --budget-usd --budget "
    "--top --json --out",
    "sweep": f"{RUN} --layout --vary --json --out --plot",
    "limit": f"{RUN} --layout --field --budget-usd --budget --deadline --json",
    "serve": "--on --clients --rate --batch --prompt --output --weights --engine --ttft --tpot --price --term --set --json "
    "--details --plot --compare",
    "export": f"{RUN} --layout --to --out --rows --rank",
    "prices list": "--json --term --search",
    "prices show": "--json",
    "prices import": "--json",
    "prices refresh": "--json",
    "audit": "--json",
    "validate": "--json --by --plot --out",
    "measure": "--out --budget --json",
    "calibrate": "--out --json",
    "models list": "--search --json",
    "models families": "--json",
    "models import": "--out --name --json",
    "models derive": "--out --vocab-size --width-ffn --experts-kept --json",
    "models show": "--json",
    "scenarios list": "--search --json",
    "scenarios show": "",
}
"""Command -> its options that the page has controls, tabs or downloads for."""


@dataclass(frozen=True)
class Elsewhere:
    """Options that only the command line has: what to type, and further commands that take them likewise."""

    command: str
    options: tuple[str, ...]
    also: tuple[str, ...] = ()


ASKING = ("compare", "run", "tune", "operators", "search", "sweep", "limit", "export")
"""Commands that take the options of a question, as ``planner plan`` does."""
OPTIONS_ELSEWHERE: Mapping[str, Elsewhere] = {
    "from": Elsewhere("planner plan --from launch.sh --on 8xh100", ("--from",), ("serve",)),
    "risk": Elsewhere("planner plan my.toml --risk 0.01 --allow offload", ("--risk", "--allow"), (*ASKING, "size")),
    "provider": Elsewhere(
        "planner plan llama-3-8b --on 8xh100 --samples 50k --epochs 3 --provider AWS",
        ("--provider", "--epochs"),
        (*(name for name in ASKING if name != "operators"), "size", "serve", "prices list"),
    ),
    "terms": Elsewhere("planner search my.toml --term on-demand,spot", ("--term",)),
    "ray": Elsewhere("planner search my.toml --engine ray --address auto", ("--engine", "--address"), ("sweep",)),
    "size": Elsewhere(
        "planner size llama-3-8b --for serve --headroom 0.2 --max-gpus 64 --ttft 1 --tpot 0.05",
        ("--headroom", "--max-gpus", "--ttft", "--tpot"),
    ),
    "step": Elsewhere("planner limit my.toml --field job.seq_len --step 512", ("--step",)),
    "bill": Elsewhere(
        "planner run my.toml --currency EUR --tags team=nlp --xlsx b.xlsx",
        ("--currency", "--tags", "--xlsx", "--focus"),
        ("prices list", "prices show"),
    ),
    "own": Elsewhere(
        "planner own 64xh100 --years 3 --use 0.6 --preemption 16h --resale 0.3", ("--years", "--use", "--preemption", "--resale")
    ),
    "served": Elsewhere("planner compare my.toml --at loss --served 1T", ("--served",)),
    "derive": Elsewhere(
        "planner models derive llama-3-8b --keep-layers 0-15,28-31 --width-heads 24",
        ("--keep-layers", "--drop-layers", "--width-heads", "--width-kv-heads", "--width-expert-ffn", "--sparsity"),
    ),
    "measured": Elsewhere(
        "planner measure --device cuda:1 --one-gpu --scenario my.toml",
        ("--python", "--device", "--only", "--threads", "--clock", "--base", "--scenario", "--one-gpu"),
        ("calibrate",),
    ),
    "profiled": Elsewhere(
        "planner validate trace.json --scenario my.toml --steps 3",
        ("--scenario", "--steps", "--node", "--accelerator", "--framework"),
    ),
    "judged": Elsewhere("planner audit --markdown claims.md --language zh", ("--markdown", "--language")),
    "grid": Elsewhere("planner tune my.toml --contexts 2k,8k --batches 1,4 --table", ("--contexts", "--batches", "--table")),
}
"""By name; the page says them under Evidence."""
