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
