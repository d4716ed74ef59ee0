"""Readers who had the texts and a calculator only: every verdict beside theirs, every difference argued in the documents."""

from __future__ import annotations

import csv
import re

import pytest
from places import ROOT

from planner.audit.verdicts import Judgement

PAGES = {
    name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("audit-second-reading.md", "audit-second-reading.zh.md")
}
ROW = re.compile(r"^\| (\w\d\d) \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)


def reading(name: str) -> dict[str, str]:
    """Verdicts of a reader by claim."""
    with open(ROOT / "tests" / "audit" / f"{name}_reading.tsv", encoding="utf-8", newline="") as lines:
        return {row["id"]: row["verdict"] for row in csv.DictReader(lines, delimiter="\t")}


FIRST, SECOND = reading("first"), reading("second")


def test_every_claim_was_read_twice(judged: dict[str, Judgement]) -> None:
    assert SECOND.keys() == judged.keys()
    assert FIRST.keys() < judged.keys()


@pytest.mark.parametrize(("place", "theirs"), [(2, SECOND), (3, FIRST)])
def test_every_difference_is_argued_and_nothing_else(place: int, theirs: dict[str, str], judged: dict[str, Judgement]) -> None:
    """Sections of the page: what was changed, where the second reader differs, where the first does."""
    differ = {name: (judged[name].verdict, verdict) for name, verdict in theirs.items() if judged[name].verdict != verdict}
    argued = {name: (ours, other) for name, ours, other in ROW.findall(PAGES["audit-second-reading.md"].split("\n## ")[place])}
    assert argued == differ
    chinese = ROW.findall(PAGES["audit-second-reading.zh.md"].split("\n## ")[place])
    assert {name for name, *_ in chinese} == differ.keys()
    for page in PAGES.values():
        assert re.search(rf"\b{len(theirs) - len(differ)}\D{{1,5}}{len(theirs)}\b", page)


def test_a_reader_bears_out_nine_verdicts_of_ten(judged: dict[str, Judgement]) -> None:
    """At least one of the two; where they differ from each other, no verdict can suit both."""
    borne = [j for j in judged.values() if j.verdict in (FIRST.get(j.id), SECOND[j.id])]
    assert len(borne) >= 0.9 * len(judged)
    for page in PAGES.values():
        assert re.search(rf"\b{len(borne)}\D{{1,5}}{len(judged)}\b", page)
