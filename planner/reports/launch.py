"""A launch file as it was understood, for a terminal."""

from __future__ import annotations

from planner.launchfiles import Launch
from planner.reports.answer import notes_text


def launch_text(launch: Launch, scenario: str, columns: int) -> str:
    """What was read as a scenario, what was not understood, what is not modelled, and what was taken as usual."""
    lines = [
        f"Read as a question ({', '.join(launch.tools)}):",
        *(f"  {line}" if line else "" for line in scenario.splitlines()),
        "",
    ]
    parts = {
        "Changes memory or time and is not modelled:": launch.unmodelled,
        "Not understood, and left out:": launch.not_understood,
        "Notes:": launch.notes,
    }
    for head, items in parts.items():
        if items:
            lines += [head, notes_text([f"- {item}" for item in items], columns), ""]
    return "\n".join(lines)
