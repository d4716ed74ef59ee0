"""Where the page does what a command does, and the commands that it names instead."""

from __future__ import annotations

from collections.abc import Mapping

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
OPTIONS_ON_PAGE = frozenset(
    """
    --on --lora --qlora --finetune --tokens --samples --seq-len --batch --precision --framework --price --set --layout
    --details --explain --write --plot --json --at --months --objective --gpus --accelerator --deadline --budget-usd
    --top --out --clients --rate --prompt --output --weights --engine --compare --for --tpot --ttft --rank --targets
    --methods --vary --field --step --years --use --rent --to --rows --by --budget --search --name --vocab-size --width-ffn
    --experts-kept
    """.split()  # noqa: SIM905
)
"""Options of the commands in ``ON_PAGE`` that the page has controls, tabs or downloads for."""
OPTIONS_ELSEWHERE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "from": ("planner plan --from launch.sh --on 8xh100", ("--from",)),
    "risk": ("planner plan my.toml --risk 0.01 --allow offload", ("--risk", "--allow")),
    "provider": ("planner plan llama-3-8b --on 8xh100 --samples 50k --epochs 3 --provider AWS", ("--provider", "--epochs")),
    "terms": ("planner search my.toml --term on-demand,spot", ("--term",)),
    "ray": ("planner search my.toml --engine ray --address auto", ("--address",)),
    "size": ("planner size llama-3-8b --for serve --headroom 0.2 --max-gpus 64", ("--headroom", "--max-gpus")),
    "bill": ("planner run my.toml --currency EUR --tags team=nlp --xlsx b.xlsx", ("--currency", "--tags", "--xlsx", "--focus")),
    "own": ("planner own 64xh100 --preemption 16h --resale 0.3", ("--preemption", "--resale")),
    "served": ("planner compare my.toml --at loss --served 1T", ("--served",)),
    "derive": (
        "planner models derive llama-3-8b --keep-layers 0-15,28-31 --width-heads 24",
        ("--keep-layers", "--drop-layers", "--width-heads", "--width-kv-heads", "--width-expert-ffn", "--sparsity"),
    ),
    "measured": (
        "planner measure --device cuda:1 --one-gpu --scenario my.toml",
        ("--python", "--device", "--only", "--threads", "--clock", "--base", "--scenario", "--one-gpu"),
    ),
    "profiled": ("planner validate trace.json --scenario my.toml --steps 3", ("--scenario", "--steps", "--node")),
    "judged": ("planner audit --markdown claims.md --language zh", ("--markdown", "--language")),
    "grid": ("planner tune my.toml --contexts 2k,8k --batches 1,4 --table", ("--contexts", "--batches", "--table")),
}
"""Name -> (what to type, the options that only the command line has): the page says so under Evidence."""
