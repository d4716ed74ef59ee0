"""The planner's messages as templates with numbered blanks, read from the source with ``ast``.

A message is a string under ``raise``, under a call of CALLS, in a function or a module constant named in TELLING.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PLANNER = Path(__file__).resolve().parents[1] / "planner"
CALLS = {"PlannerError", "ValueError", "refuse", "Rule", "Refusal", "Interval", "build"}
"""What takes a message, or the place that one begins with, as argument."""
REACHABLE = (
    "bill", "calibration", "checks", "cost", "curves", "errors", "evaluation", "failures", "framework", "grid",
    "hardware", "imbalance", "job", "layout", "layout_grid", "layout_space", "memory", "memory_map", "model", "models",
    "modules", "nodes", "ownership", "parameters", "planning", "record_validation", "records", "remedies",
    "roofline", "run_cells", "run_columns", "run_spec", "runs", "scenario", "search_frame", "searching", "spec",
    "stage_content", "step_time", "tuned", "tuned_runs", "tuning", "uncertainty", "validated_runs", "validation", "whole_run",
    "export", "huggingface",
    "serving/batching", "serving/certainty", "serving/checks", "serving/curves_of_batch", "serving/deployment",
    "serving/engine", "serving/experts", "serving/formats", "serving/kv_cache", "serving/latency", "serving/load",
    "serving/memory", "serving/money", "serving/nearest", "serving/queueing", "serving/requests", "serving/rows",
    "serving/setting", "serving/spec", "serving/speculative", "serving/weights", "web",
)  # fmt: skip
"""Modules and folders whose messages a page can show."""
LEFT_OUT = {
    "accuracy, fitting, fit_sets, fitted_files, study, serving/accuracy, serving/fitting, serving/study, "
    "serving/residuals": "fits of the developers",
    "cli*, *report, plot, tables, files, profiles, prices, limits, sweeping, tuning_choice, derived, ray_engine, expression, "
    "serving/cli_measured, serving/plot, serving/predictions, serving/runs, serving/scenario, serving/sizing, "
    "serving/validation, serving/plain, serving/table": "commands and their options, which no page has",
    "operators, collectives, pipeline": "refusals of rows that only a mistake in the program could make",
    "audit, audit_figures, claims, block_cost, equal, scaling_law, published_runs": "published claims stay as published",
}  # fmt: skip
"""Modules whose messages no page shows, and why."""
TELLING = {
    "checks": {"world_message", "_no_feature", "LARGEST"},
    "cost": {"staleness"},
    "errors": {"near", "one_of", "explain"},
    "huggingface/__init__": {"model_from_config", "_refuse_unknown"},
    "huggingface/reading": {"HINTS"},
    "export/megatron": {"_check_model"},
    "job": {"_tables"},
    "planning": {"plan", "_choose", "_reasons", "_explained"},
    "runs": {"runs_of"},
    "run_columns": {"in_own_words"},
    "scenario": {"_compared"},
    "search_frame": {"why_second"},
    "searching": {"answered", "NO_MEMORY", "TOO_LATE"},
    "serving/certainty": {"_of_capacity", "_grows"},
    "serving/checks": {"warnings_of", "_require_parts"},
    "serving/deployment": {"_replicas", "_reasons"},
    "serving/formats": {"require_hardware"},
    "serving/load": {"under_load"},
    "spec": {"read_table"},
    "tuned": {"tuning_notes"},
    "uncertainty": {"interval", "_outside"},
    "web/state": {"checked", "decode"},
    "whole_run": {"_notes", "_spread"},
}
"""Functions and constants whose texts reach people otherwise than as errors."""
OPTION = re.compile(r"^(--|-o |prices refresh)|planner search --out|^(the record has \{0\} ranks|address|engine)")
"""Messages of the command line in modules that the pages use, too."""


def modules() -> list[Path]:
    """The files of REACHABLE."""
    found = []
    for name in REACHABLE:
        path = PLANNER / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return [path for path in found if path.is_file()]


def name_of(path: Path) -> str:
    """ "serving/load" for planner/serving/load.py."""
    return path.relative_to(PLANNER).with_suffix("").as_posix()


def worded(template: str) -> bool:
    """Whether the template has words for people around its blanks."""
    words = re.sub(r"\{\d+\}", "\0", template)
    if re.fullmatch(r"[\w.]+ = ('[\w-]+'|\0)(: \0)?|\0: [a-z]+(\[\0\])?|1 x \0", words):
        return False  # a field, its value and what else is in blanks
    return " " in words.strip() and re.search(r"[A-Za-z]{2}", words) is not None and "\n" not in words


def template_of(node: ast.expr) -> str | None:
    """A string expression with {0}, {1} ... where its values stand."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return None
    text, blanks = "", 0
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
        else:
            text, blanks = f"{text}{{{blanks}}}", blanks + 1
    return text


def templates_in(path: Path) -> set[str]:
    """The messages of one module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    telling = TELLING.get(name_of(path), set())
    found = {text for text in _walk(tree, telling, False) if worded(text) and not OPTION.search(text)}
    return {text for text in found if "\\" not in text}


def _walk(node: ast.AST, telling: set[str], told: bool) -> Iterator[str]:
    if isinstance(node, ast.expr):
        text = template_of(node)
        if text is not None:
            if told:
                yield text
            for part in getattr(node, "values", ()):
                if isinstance(part, ast.FormattedValue):
                    yield from _walk(part.value, telling, told)
            return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    told = told or _tells(node, telling)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, telling, told)


def _tells(node: ast.AST, telling: set[str]) -> bool:
    if isinstance(node, ast.Call):
        return getattr(node.func, "id", getattr(node.func, "attr", "")) in CALLS
    if isinstance(node, ast.FunctionDef):
        return node.name in telling
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    flat = [name for target in targets for name in getattr(target, "elts", [target])]
    return any(getattr(name, "id", "") in telling for name in flat)
