"""Verdicts for people: a table, and the pages docs/audit.md and docs/audit.zh.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.audit.verdicts import WORST_FIRST, Finding, Judgement, Reading
from planner.common import data
from planner.common.spec import read_table
from planner.uncertainty.interval import Interval

STYLES = {
    "cannot be": "bold red", "holds if": "yellow", "cannot tell": "cyan", "holds": "green", "not computed yet": "dim",
    "out of scope": "dim",
}  # fmt: skip


@lru_cache(maxsize=1024)
def words_of(table: str) -> dict[str, str]:
    """The words of the pages, by language; also the names of verdicts and units in Chinese."""
    found: dict[str, str] = read_table(data.CATALOG / "audit_page.toml")[table]
    return found


def number(value: float | None) -> str:
    """A figure with four digits.

    >>> number(0.12345), number(86.015625), number(7721.3), number(3.0)
    ('0.1235', '86.02', '7,721', '3')
    """
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def spoken(texts: Mapping[str, str], language: str) -> str:
    """The text in a language; in English where it has not been written in that language."""
    return texts.get(language) or texts.get("en", "")


def verdict_words(verdict: str, language: str = "en") -> str:
    """The name of a verdict."""
    return words_of("verdicts_zh")[verdict] if language == "zh" else verdict


def unit_words(unit: str, language: str = "en") -> str:
    """The name of a unit."""
    return words_of("units_zh").get(unit, unit) if language == "zh" else unit


def what_text(finding: Finding, language: str = "en") -> str:
    """What a number is; marked where the source does not state it."""
    return spoken(finding.what, language) + (words_of(language)["added"] if finding.added else "")


def claimed_text(finding: Finding, language: str = "en") -> str:
    """What the source says, with its relation."""
    if finding.claimed is None:
        return "-"
    if isinstance(finding.claimed, tuple):
        return words_of(language)["to"].join(number(end) for end in finding.claimed)
    signs = ("≤ ", "≥ ") if language == "zh" else ("<= ", ">= ")
    sign = dict(zip(("at most", "at least"), signs, strict=True)).get(finding.relation, "")
    return f"{sign}{number(finding.claimed)}"


def interval_text(interval: Interval | None, language: str = "en") -> str:
    """Our figure with its ends; a figure that arithmetic settles stands alone."""
    if interval is None:
        return "-"
    if interval.lower == interval.upper:
        return number(interval.expected)
    return words_of(language)["interval"].format(
        value=number(interval.expected), low=number(interval.lower), high=number(interval.upper)
    )


def sentence(finding: Finding, language: str = "en") -> str:
    """Why, and under which condition it would hold."""
    words, why = words_of(language), spoken(finding.why, language)
    condition, figure = spoken(finding.condition, language), interval_text(finding.condition_figure, language)
    if finding.verdict == "holds if":
        return why + words["if"].format(condition=condition, figure=figure) + (words["solved"] if finding.solved else "")
    if finding.verdict == "cannot tell":
        return why + (words["open_if"].format(condition=condition, figure=figure) if condition else words["open"])
    if finding.elsewhere:
        return why + words["elsewhere"].format(condition=spoken(finding.elsewhere, language))
    return why


def ordered(reading: Reading) -> list[Judgement]:
    """The claims of an article, dearest to believe first; then the worst verdicts."""
    return sorted(reading.judgements, key=lambda j: (-j.stake_usd, WORST_FIRST.index(j.verdict), j.id))


def audit_table(readings: Sequence[Reading], language: str = "en") -> RenderableType:
    """One section per claim, one line per number."""
    words = words_of(language)
    heads = [cell.strip() for cell in words["heads"].strip("| ").split("|")]
    parts: list[RenderableType] = []
    for reading in readings:
        title = (reading.article.title_en if language == "en" else "") or reading.article.title
        if title:
            parts.append(Text(title, style="bold"))
            for name in ("setting", "reading"):
                parts += [Text(f"  {words[name]}{words['colon']}{line}") for line in _lines(reading, name, language)]
        table = Table(title="", pad_edge=False)
        for name in ("claim" if language == "en" else "说法", *heads):
            table.add_column(name, overflow="fold")
        for judgement in ordered(reading):
            table.add_section()
            for i, f in enumerate(judgement.findings):
                verdict = Text(verdict_words(f.verdict, language), style=STYLES[f.verdict])
                cells = (what_text(f, language), claimed_text(f, language), interval_text(f.figure, language))
                table.add_row(
                    judgement.id if i == 0 else "", *cells, unit_words(f.unit, language), verdict, sentence(f, language)
                )
        parts.append(table)
    return Group(*parts, Text(summary([j for r in readings for j in r.judgements], language)))


def summary(judgements: Sequence[Judgement], language: str = "en") -> str:
    """How many claims got which verdict."""
    counts = Counter(j.verdict for j in judgements)
    words = words_of(language)
    listed = [words["counted"].format(count=counts[v], verdict=verdict_words(v, language)) for v in WORST_FIRST if counts[v]]
    return words["claims"].format(count=len(judgements)) + words["comma"].join(listed)


def audit_page(readings: Sequence[Reading], language: str = "en") -> str:
    """The whole page in Markdown."""
    words = words_of(language)
    parts = [words["page"], summary([j for r in readings for j in r.judgements], language), f"{words['stop']}\n"]
    for reading in readings:
        parts += _article(reading, language)
        for judgement in ordered(reading):
            parts += _claim(judgement, language)
    return "".join([*parts, words["own"], words_of("example_zh" if language == "zh" else "example")["toml"], words["quantities"]])


def _lines(reading: Reading, name: str, language: str) -> list[str]:
    article = reading.article
    if name == "reading":
        return reading.words(language)
    chinese = {"setting": article.setting_zh, "short": article.summary_zh}[name]
    return (chinese if language == "zh" else []) or {"setting": article.setting, "short": article.summary}[name]


def _article(reading: Reading, language: str) -> list[str]:
    article, words = reading.article, words_of(language)
    title = (article.title_en if language == "en" else "") or article.title
    if not title:
        return []
    parts = [f"\n## {_escape(title)}\n\n"]
    original = f"{article.title}. " if language == "en" and article.title_en else ""
    source = (article.source_zh if language == "zh" else "") or article.source
    stop = words["stop"] if language == "zh" else ". "
    parts.append(f"*{_escape(original)}{_escape(source)}{stop}{words['file']}{words['colon']}{article.file}{words['stop']}*\n")
    for name in ("short", "setting", "reading"):
        if lines := _lines(reading, name, language):
            parts.append(f"\n**{words[name]}**\n\n" + "".join(f"- {_escape(line)}\n" for line in lines))
    parts.append(f"\n{words['order']}\n|---|---|---|\n")
    for j in ordered(reading):
        text = spoken(j.text, language)
        cells = (f"{j.id} {text}", verdict_words(j.verdict, language), spoken(j.stake, language) or "-")
        parts.append("| " + " | ".join(_escape(cell) for cell in cells) + " |\n")
    return parts


def _claim(judgement: Judgement, language: str) -> list[str]:
    words = words_of(language)
    parts = [f"\n### {judgement.id}{words['colon']}{verdict_words(judgement.verdict, language)}\n\n"]
    if judgement.quote:
        parts.append(f"> {_escape(judgement.quote)}{words['place'].format(heading=_escape(judgement.heading))}\n\n")
    parts.append(f"{_escape(spoken(judgement.text, language))}{words['stop']}\n")
    if not judgement.quote:
        parts.append(f"*{_escape(judgement.source)}*\n")
    for name, text in (("instead", spoken(judgement.instead, language)), ("stake", spoken(judgement.stake, language))):
        if text:
            parts.append(
                f"\n**{words[name]}**{words['colon']}{_escape(text)}{'' if text.endswith(('.', '。')) else words['stop']}\n"
            )
    if judgement.do:
        parts.append(f"\n**{words['do']}**{words['colon']}`{judgement.do}`\n")
    parts.append(f"\n{words['heads']}\n|---|---|---|---|---|---|\n")
    for f in judgement.findings:
        cells = (
            what_text(f, language), claimed_text(f, language), interval_text(f.figure, language), unit_words(f.unit, language),
            verdict_words(f.verdict, language), sentence(f, language),
        )  # fmt: skip
        parts.append("| " + " | ".join(_escape(cell) for cell in cells) + " |\n")
    return parts


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
