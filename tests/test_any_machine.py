"""No test says how fast this machine is: examples have no deadline, and what is waited for may take its time."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hypothesis import HealthCheck, settings
from places import PATIENCE_S, ROOT

TESTS = sorted((ROOT / "tests").rglob("*.py"))
LIMITS = ("timeout", "default_timeout", "timeout_s")


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_examples_have_no_deadline() -> None:
    assert settings.default is not None
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check
    for place, call in calls():
        if getattr(call.func, "id", "") != "settings":
            continue
        given = {word.arg: word.value for word in call.keywords}
        deadline, checks = given.get("deadline"), given.get("suppress_health_check")
        assert deadline is None or (isinstance(deadline, ast.Constant) and deadline.value is None), place
        assert checks is None or "too_slow" in ast.unparse(checks) or ast.unparse(checks) == "list(HealthCheck)", place


def test_every_wait_is_as_patient_as_all_others() -> None:
    assert PATIENCE_S >= 300.0
    short = [
        place
        for place, call in calls()
        if any(word.arg in LIMITS and not {"PATIENCE_S", "None"} & set(ast.unparse(word.value).split()) for word in call.keywords)
    ]
    assert short == []
