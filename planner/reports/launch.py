"""A launch file as it was understood, for a terminal."""

from __future__ import annotations

from planner.common.message import Message
from planner.common.translation import spoken, spoken_label
from planner.launchfiles import Launch
from planner.reports.answer import notes_text


def launch_text(launch: Launch, scenario: str, columns: int) -> str:
    """What was read as a scenario, what was not understood, what is not modelled, and what was taken as usual."""
    lines = [
        spoken(Message("Read as a question ({0}):", ", ".join(launch.tools))),
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
            lines += [spoken_label(head), notes_text([Message("- {0}", item) for item in items], columns), ""]
    if launch.ignored:
        lines += [notes_text([Message("Change neither memory nor time: {0}", ", ".join(launch.ignored))], columns), ""]
    return "\n".join(lines)
