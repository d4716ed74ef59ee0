"""A reader who had the texts and a calculator only: every claim judged, every difference argued in the documents."""

from __future__ import annotations

import csv
import re

from places import ROOT

from planner.audit.verdicts import Judgement

PAGE = (ROOT / "docs" / "audit-second-reading.md").read_text(encoding="utf-8")
with open(ROOT / "tests" / "audit" / "second_reading.tsv", encoding="utf-8", newline="") as lines:
    SECOND = {row["id"]: row["verdict"] for row in csv.DictReader(lines, delimiter="\t")}


def test_every_claim_was_read_twice(judged: dict[str, Judgement]) -> None:
    assert SECOND.keys() == judged.keys()


def test_every_difference_is_argued_and_nothing_else(judged: dict[str, Judgement]) -> None:
    argued = {
        found[1]: (found[2], found[3]) for found in re.finditer(r"^\| (\w\d\d) \| ([^|]+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    }
    differ = {name: (judgement.verdict, SECOND[name]) for name, judgement in judged.items() if judgement.verdict != SECOND[name]}
    assert argued == differ
    assert f"agree on {len(judged) - len(differ)} of {len(judged)}" in PAGE
