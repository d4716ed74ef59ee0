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


def two_alike(*verdicts: str | None) -> str | None:
    """The verdict that two readers have alike."""
    return next((one for one in verdicts if one is not None and verdicts.count(one) > 1), None)


FIRST, SECOND, THIRD = reading("first"), reading("second"), reading("third")


def test_every_claim_was_read_twice_and_most_thrice(judged: dict[str, Judgement]) -> None:
    assert SECOND.keys() == THIRD.keys() == judged.keys()
    assert FIRST.keys() < judged.keys()


@pytest.mark.parametrize(("place", "theirs"), [(2, SECOND), (3, FIRST), (4, THIRD)])
def test_every_difference_is_argued_and_nothing_else(place: int, theirs: dict[str, str], judged: dict[str, Judgement]) -> None:
    """Sections of the page: what was changed, where the second reader differs, where the first does, where the third does."""
    differ = {name: (judged[name].verdict, verdict) for name, verdict in theirs.items() if judged[name].verdict != verdict}
    argued = {name: (ours, other) for name, ours, other in ROW.findall(PAGES["audit-second-reading.md"].split("\n## ")[place])}
    assert argued == differ
    chinese = ROW.findall(PAGES["audit-second-reading.zh.md"].split("\n## ")[place])
    assert {name for name, *_ in chinese} == differ.keys()
    for page in PAGES.values():
        assert re.search(rf"\b{len(theirs) - len(differ)}\D{{1,5}}{len(theirs)}\b", page)


def test_a_reader_bears_out_nine_verdicts_of_ten(judged: dict[str, Judgement]) -> None:
    """At least one of the three; where they differ from each other, no verdict can suit all. Where two agree it is theirs."""
    borne = [j for j in judged.values() if j.verdict in (FIRST.get(j.id), SECOND[j.id], THIRD[j.id])]
    assert len(borne) >= 0.95 * len(judged)
    agreed = {j.id: mode for j in judged.values() if (mode := two_alike(FIRST.get(j.id), SECOND[j.id], THIRD[j.id]))}
    ours = [name for name, mode in agreed.items() if judged[name].verdict == mode]
    assert len(ours) >= 0.9 * len(agreed)
    for page in PAGES.values():
        assert re.search(rf"\b{len(borne)}\D{{1,5}}{len(judged)}\b", page)
        assert re.search(rf"\b{len(agreed)}\D{{1,30}}{len(ours)}\b", page)
