"""What the tables of the command line are labelled with, read from the source: titles, headers, first columns, words in cells.

A label is a text given to one of CELLS, returned from a function of a module that makes tables, or named in NAMED; what has
blanks is a message and of ``message_templates``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PLANNER = Path(__file__).resolve().parents[1] / "planner"
PAGES = (
    "accuracy", "audit", "cash_flow", "chrome_trace", "debug", "focus", "gpu_hours", "measured", "pictures", "plots", "schema",
    "serving_accuracy", "serving_plots", "uncertainty", "workbook",
)  # fmt: skip
"""Modules of planner/reports that write files, pictures or pages in one language of their own."""
CELLS = {"add_row", "add_column", "Table", "row", "head", "_section", "Line", "show", "tell"}
"""Calls whose texts stand in a table or in a line."""
OF_THEIR_OWN = {"Message", "PlannerError", "Option", "Argument", "Typer", "join_messages", "Path"}
"""Calls whose texts are messages, options or names."""
NAMED = {"PART_NAMES", "CAUSE_NAMES", "ITEM_NAMES", "DOLLARS", "RATIOS", "FAILING", "TERM_NAMES"}
"""Tables in the source whose values are labels."""
UNITS = re.compile(r"MFU|GPU|G?FLOP|GB/s|tokens/s|CO2|model_type|full,lora,qlora|[a-z]+(_[a-z]+)+|planner .*")
"""What every language writes alike: units, fields, commands."""


def modules() -> list[Path]:
    """The modules that print tables."""
    reports = [path for path in (PLANNER / "reports").glob("*.py") if path.stem not in PAGES]
    return sorted([*reports, *(PLANNER / "cli").glob("*.py")])


def labels_in(path: Path) -> set[str]:
    """The labels of one module without blanks, units and indentation; an option is spelled alike in every language."""
    found = {text.strip() for text in _texts(ast.parse(path.read_text(encoding="utf-8")), False)}
    found = {text for text in found if not text.startswith("--")}
    return {
        text for text in found if re.search("[A-Za-z]{2}", text) and not re.search(r"\{\d", text) and not UNITS.fullmatch(text)
    }


def _name(call: ast.Call) -> str:
    return str(getattr(call.func, "id", getattr(call.func, "attr", "")))


def _texts(node: ast.AST, told: bool) -> Iterator[str]:
    """Texts under ``node``; ``told``: whether it stands where a label does."""
    if isinstance(node, ast.Constant):
        if told and isinstance(node.value, str):
            yield node.value
        return
    for child, is_told in _parts(node, told):
        yield from _texts(child, is_told)


def _parts(node: ast.AST, told: bool) -> list[tuple[ast.AST, bool]]:
    """(part, whether it stands where a label does)."""
    if isinstance(node, ast.JoinedStr | ast.Subscript | ast.Compare) or (
        isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call)
    ):
        return []
    if isinstance(node, ast.Call):
        return _of_call(node)
    if isinstance(node, ast.For):
        columns = any(isinstance(one, ast.Call) and _name(one) == "add_column" for part in node.body for one in ast.walk(part))
        return [(node.iter, columns), *((part, False) for part in node.body)]
    if isinstance(node, ast.IfExp):
        return [(node.test, False), (node.body, told), (node.orelse, told)]
    if isinstance(node, ast.Dict):
        return [(part, told) for part in node.values]
    if isinstance(node, ast.Assign):
        return [(node.value, any(getattr(target, "id", "") in NAMED for target in node.targets))]
    stays = isinstance(node, ast.Return) or (told and isinstance(node, PASSED))
    return [(child, stays) for child in ast.iter_child_nodes(node)]


PASSED = (ast.BoolOp, ast.BinOp, ast.List, ast.Tuple, ast.Starred, ast.ListComp, ast.GeneratorExp, ast.Lambda)
"""Expressions whose parts stand where they do."""


def _of_call(call: ast.Call) -> list[tuple[ast.AST, bool]]:
    if _name(call) in OF_THEIR_OWN:
        return []
    cells = _name(call) in CELLS
    titles = [(keyword.value, cells and keyword.arg == "title") for keyword in call.keywords]
    return [*((part, cells) for part in call.args), *titles, (call.func, False)]
