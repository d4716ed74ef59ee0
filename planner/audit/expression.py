"""Arithmetic from a text, safely: numbers, names, + - * / // % **, parentheses, and a few functions."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache

from planner.common.errors import PlannerError, near

OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min, "max": max, "abs": abs, "sqrt": math.sqrt, "log": math.log, "exp": math.exp, "ceil": math.ceil,
    "floor": math.floor,
}  # fmt: skip


@lru_cache(maxsize=4096)
def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise PlannerError("expression = {0!r}: not arithmetic ({1})", text, error.msg) from None


def evaluate(text: str, names: Mapping[str, float]) -> float:
    """The value of an expression.

    >>> evaluate("14 * 4 + (2048 * 64 * 4 * 32) / 1024**3 + reserve", {"reserve": 30.0})
    86.015625

    Raises PlannerError for anything but arithmetic, for unknown names, and for a result that is not finite.
    """
    try:
        value = float(_value(_parse(text), names, text))
    except (ZeroDivisionError, OverflowError, ValueError) as error:
        if isinstance(error, PlannerError):
            raise
        raise PlannerError("expression = {0!r}: {1}", text, error) from None
    if not math.isfinite(value):
        raise PlannerError("expression = {0!r}: the result is {1}", text, value)
    return value


def names_in(text: str) -> set[str]:
    """Names that an expression uses, functions aside."""
    return {n.id for n in ast.walk(_parse(text)) if isinstance(n, ast.Name)} - set(FUNCTIONS)


def _value(node: ast.expr, names: Mapping[str, float], text: str) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return node.value
    if isinstance(node, ast.Name):
        if node.id in names:
            return names[node.id]
        raise PlannerError("expression = {0!r}: unknown name {1!r}; {2}", text, node.id, near(node.id, names))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand, names, text)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = _value(node.left, names, text), _value(node.right, names, text)
        if isinstance(node.op, ast.Pow) and (abs(right) > 64 or abs(left) > 1e12):
            raise PlannerError("expression = {0!r}: the power {1} ** {2} is out of reach", text, left, right)
        return OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords:
        return FUNCTIONS[node.func.id](*(_value(a, names, text) for a in node.args))
    raise PlannerError(
        "expression = {0!r}: {1!r} is not allowed; use numbers, names, + - * / // % ** and {2}",
        text,
        ast.unparse(node),
        ", ".join(FUNCTIONS),
    )
