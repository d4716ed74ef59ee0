"""The planner's messages as templates with numbered blanks, read from the source with ``ast``.

A message is a string under ``raise``, under a call of CALLS, in a function or a module constant named in TELLING.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from planner.common.message import key_of

PLANNER = Path(__file__).resolve().parents[1] / "planner"
CALLS = {"PlannerError", "Message", "placed", "ValueError", "refuse", "Rule", "Refusal", "Interval", "build"}
"""What takes a message, or the place that one begins with, as argument."""
REACHABLE = (
    "audit/claims",
    "audit/expression",
    "audit/figures",
    "audit/verdicts",
    "calibration/calibrate",
    "calibration/comparison",
    "calibration/measuring",
    "calibration/profiles",
    "calibration/records",
    "calibration/trace",
    "cli",
    "common/answerable",
    "common/arguments",
    "common/clock",
    "common/assumption",
    "common/errors",
    "common/files",
    "common/limits",
    "common/quantities",
    "common/ray_tasks",
    "common/references",
    "common/spec",
    "common/tables",
    "evidence/cells",
    "evidence/columns",
    "evidence/measured_runs",
    "evidence/pairs",
    "evidence/predictions",
    "evidence/published_runs",
    "evidence/serving/check",
    "evidence/serving/names",
    "evidence/serving/predictions",
    "evidence/serving/runs",
    "evidence/serving/table",
    "evidence/serving/told",
    "evidence/tuning_columns",
    "export",
    "hardware/asked",
    "hardware/cluster",
    "hardware/curves",
    "hardware/custom_nodes",
    "hardware/measured_kernels",
    "launchfiles",
    "layout_search/api",
    "layout_search/choice",
    "layout_search/found",
    "layout_search/nearest",
    "layout_search/on_ray",
    "layout_search/question",
    "layout_search/result",
    "layout_search/search",
    "layout_search/space",
    "layout_search/table",
    "lifecycle/bill",
    "lifecycle/failures",
    "lifecycle/field_factor",
    "lifecycle/sensitivity",
    "lifecycle/simulation",
    "lifecycle/spec",
    "model/architecture",
    "model/catalog",
    "model/gguf",
    "model/names",
    "model/huggingface",
    "model/linears",
    "model/parameters",
    "operators",
    "performance/evaluation",
    "performance/feasibility",
    "performance/interruptions",
    "performance/memory",
    "performance/risk",
    "performance/roofline",
    "performance/stage_content",
    "performance/step_time",
    "prices/carbon",
    "prices/currency",
    "prices/market",
    "prices/ownership",
    "prices/price",
    "prices/price_tables",
    "reports",
    "reports/calibration",
    "scenarios/edited",
    "scenarios/fields",
    "scenarios/picked",
    "scenarios/quick",
    "scenarios/quick_serving",
    "scenarios/scenario",
    "scenarios/serving",
    "scenarios/shipped",
    "scenarios/tables",
    "serving/batching",
    "serving/closed_loop",
    "serving/curves",
    "serving/cuts",
    "serving/deploy",
    "serving/deployment",
    "serving/disaggregated",
    "serving/engine",
    "serving/expense",
    "serving/experts",
    "serving/feasibility",
    "serving/intervals",
    "serving/kv_cache",
    "serving/load",
    "serving/memory",
    "serving/nearest",
    "serving/pass_time",
    "serving/requests",
    "serving/rows",
    "serving/setting",
    "serving/spec",
    "serving/speculative",
    "serving/weight_formats",
    "serving/weights",
    "studies/affordable",
    "studies/budgets",
    "studies/equal_terms",
    "studies/holding",
    "studies/limit",
    "studies/scaling_law",
    "studies/sizing",
    "studies/sweep",
    "studies/sweep_api",
    "studies/sweep_on_ray",
    "studies/tuning_methods",
    "studies/what_if",
    "training/many",
    "training/memory_map",
    "training/narrow",
    "training/plan",
    "training/planning",
    "training/remedies",
    "training/schedule",
    "training/timeline",
    "training/trainable",
    "uncertainty/effects",
    "uncertainty/interval",
    "web",
    "workload/adapters",
    "workload/attention",
    "workload/default_framework",
    "workload/dispatch",
    "workload/framework",
    "workload/framework_names",
    "workload/job",
    "workload/layout",
    "workload/layout_text",
    "workload/precision",
    "workload/question",
    "workload/resolve",
    "workload/tuning",
)
"""Modules and folders whose messages people see, on the page or on the command line."""
LEFT_OUT = {
    "fits of the developers": (
        "evidence/fit",
        "evidence/fit_sets",
        "evidence/held_out",
        "evidence/serving/fit",
        "evidence/serving/residuals",
        "evidence/serving/study",
        "evidence/study",
        "evidence/write_fit",
    ),
    "refusals of rows that only a mistake in the program could make": (
        "performance/block_cost",
        "performance/collectives",
        "performance/pipeline",
    ),
}
"""Why nobody needs the messages of some modules in Chinese: reason -> modules or packages."""
TELLING = {
    "common/errors": {"explain", "near", "one_of"},
    "common/files": {"read_text"},
    "common/spec": {"read_table"},
    "common/limits": {"LARGEST"},
    "evidence/columns": {"in_own_words"},
    "evidence/measured_runs": {"runs_of"},
    "export/megatron": {"_check_model"},
    "layout_search/choice": {"_why"},
    "layout_search/found": {"NO_MEMORY", "TOO_LATE", "TOO_RISKY"},
    "hardware/cluster": {"cluster_notes"},
    "layout_search/search": {"answered"},
    "layout_search/table": {"why_second"},
    "lifecycle/simulation": {"_notes", "_spread"},
    "model/huggingface/config": {"ENCODER_DECODERS", "REFUSED", "_refuse_unknown", "model_from_config"},
    "model/huggingface/reading": {"HINTS"},
    "performance/feasibility": {"_no_feature", "world_message"},
    "prices/market": {"_by_ratio", "_estimated", "_of_market"},
    "prices/price": {"staleness"},
    "reports/answer": {
        "_batch",
        "_budget",
        "_cost",
        "_fits",
        "_run",
        "_span",
        "_step",
        "answer_lines",
        "answer_notes",
        "based_on",
        "elsewhere_words",
        "layout_words",
    },
    "reports/serving_answer": {
        "_based_on",
        "_batch",
        "_capacity",
        "_cost",
        "_cut",
        "_fits",
        "_instead",
        "_latency",
        "_on",
        "_output",
        "_sure",
        "median",
        "serving_lines",
        "serving_notes",
    },
    "scenarios/quick": {"usual_notes"},
    "scenarios/tables": {"_compared"},
    "serving/deploy": {"_as_stored", "_reasons", "_released", "_replicas"},
    "serving/disaggregated": {"load_apart", "matched", "misfit"},
    "serving/feasibility": {"_require_parts", "warnings_of"},
    "serving/intervals": {"_grows", "_of_capacity"},
    "serving/load": {"under_load"},
    "serving/weight_formats": {"require_hardware"},
    "training/planning": {"_explained", "reasons_of", "question_notes", "plan"},
    "training/trainable": {"tuning_notes"},
    "uncertainty/effects": {"_beyond", "_served", "_why", "standing"},
    "uncertainty/interval": {"_interval_of_class", "_outside"},
    "web/state": {"checked", "decode"},
    "workload/attention": {"attention_notes"},
    "workload/default_framework": {"_usual", "default_framework"},
    "workload/job": {"_tables"},
}
"""Functions and constants whose texts reach people otherwise than as errors."""


NUMBERED = re.compile(r"\{\d+[^}]*\}")
"""A numbered blank."""


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
        return _key(node.value) if re.search(r"\{\d", node.value) else node.value
    if not isinstance(node, ast.JoinedStr):
        return None
    text, blanks = "", 0
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
        else:
            text, blanks = f"{text}{{{blanks}}}", blanks + 1
    return text


def _key(text: str) -> str:
    try:
        return key_of(text)
    except ValueError:
        return text  # a regular expression


def templates_in(path: Path) -> set[str]:
    """The messages of one module: what CALLS and TELLING say, and every text with numbered blanks."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    telling = TELLING.get(name_of(path), set())
    found = {text for text in _walk(tree, telling, False) if worded(text)}
    found |= {text for text in _texts(tree) if NUMBERED.search(text) and worded(text)}
    return {text for text in found if "\\" not in text}


def texts_in(path: Path) -> set[str]:
    """Every text of one module, with its blanks as tables of translations have them."""
    return set(_texts(ast.parse(path.read_text(encoding="utf-8"))))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield _key(node.value)


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
