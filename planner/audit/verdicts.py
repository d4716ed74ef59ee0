"""Verdicts on claims: holds, holds if ..., cannot tell, cannot be; with our figure, its interval and one sentence why.

The claims of an article are judged together: its text leaves points open (``choices``); each combination of them is a reading.
The article is given the reading under which most of its numbers hold; a condition that needs another reading does not count.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from planner.audit.claims import Article, Check, Claim, ClaimFile, Needs, Stake, Variant, catalog_claims, options_of, read_claims
from planner.audit.combined import combined
from planner.audit.expression import evaluate
from planner.audit.figures import STALE, Figured, figure_of
from planner.common.errors import PlannerError, near
from planner.common.progress import Progress
from planner.uncertainty.interval import Interval

Verdict = Literal["holds", "holds if", "cannot tell", "cannot be", "not computed yet", "out of scope"]
WORST_FIRST: tuple[Verdict, ...] = ("cannot be", "holds if", "cannot tell", "holds", "not computed yet", "out of scope")
ROUNDING = 1e-9
POINTS: dict[Verdict, float] = {"holds": 1.0, "holds if": 1.0, "cannot tell": 0.5}
"""What a number counts for when readings are compared; a condition solved from the claim itself counts for nothing."""
Languages = dict[str, str]
"""A text by language: "en", and "zh" where it has been written."""


TEXTS = ("what", "why", "condition", "elsewhere", "text", "instead", "stake")
"""Fields that hold a text by language."""


def _flat(plain: dict[str, Any]) -> dict[str, Any]:
    """Texts as strings: NAME in English and NAME_zh in Chinese."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if name in TEXTS:
            found |= {name: value.get("en", ""), f"{name}_zh": value.get("zh", "")}
        else:
            found[name] = value
    return found


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The verdict on one number. ``figure`` is ours, ``exact`` where arithmetic settles it.

    ``condition`` says when the number would hold, or, with "cannot tell", under what else the question stays open;
    ``condition_figure`` is ours under it. ``solved``: the condition was solved from the claim. ``added``: the source states no
    such number. ``elsewhere`` is a condition that contradicts the reading of the article. Texts are by language.
    """

    what: Languages
    verdict: Verdict
    unit: str = ""
    claimed: float | tuple[float, float] | None = None
    relation: str = ""
    figure: Interval | None = None
    exact: bool = False
    condition: Languages = field(default_factory=dict)
    condition_figure: Interval | None = None
    solved: bool = False
    added: bool = False
    elsewhere: Languages = field(default_factory=dict)
    why: Languages = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict on a claim: the worst of the numbers that it states."""

    id: str
    source: str
    heading: str
    quote: str
    text: Languages
    verdict: Verdict
    findings: tuple[Finding, ...]
    instead: Languages
    do: str
    stake_usd: float
    stake: Languages

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = _flat(asdict(self))
        plain["findings"] = [_flat(finding) for finding in plain["findings"]]
        for finding in plain["findings"]:
            for name in ("figure", "condition_figure"):
                figure = finding[name]
                if figure is not None and figure["lower"] == figure["upper"]:
                    figure["provenance"] = "exact"
        return plain


@dataclass(frozen=True, kw_only=True)
class Reading:
    """An article as it is judged: its setting, and which of its open points are read how."""

    article: Article
    chosen: Mapping[str, str]
    judgements: tuple[Judgement, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        a = self.article
        return {
            "title": a.title,
            "title_en": a.title_en,
            "source": a.source,
            "file": a.file,
            "setting": a.setting,
            "setting_zh": a.setting_zh,
            "reading": dict(self.chosen),
            "summary": a.summary,
            "summary_zh": a.summary_zh,
            "claims": [j.id for j in self.judgements],
        }

    def words(self, language: str = "en") -> list[str]:
        """The options that were chosen, in words."""
        found = [next(o for o in self.article.choices[name] if o.name == option) for name, option in self.chosen.items()]
        return [o.text_zh or o.text if language == "zh" else o.text for o in found]


def audit(ids: Iterable[str] = (), claims: Path | None = None) -> tuple[Judgement, ...]:
    """Judge the claims of the catalog, or of a file; all of them, or those named. PlannerError names an unknown one."""
    return tuple(j for reading in audit_articles(ids, claims) for j in reading.judgements)


def audit_articles(ids: Iterable[str] = (), claims: Path | None = None, progress: Progress | None = None) -> tuple[Reading, ...]:
    """As ``audit``, by article. An article is always judged as a whole, also where only some of its claims are asked for.

    ``progress`` is told (articles, of how many).
    """
    files = catalog_claims() if claims is None else (read_claims(claims),)
    folder = Path(".") if claims is None else claims.parent
    known = {claim.id: file for file in files for claim in file.claims}
    wanted = list(dict.fromkeys(ids)) or list(known)
    for name in wanted:
        if name not in known:
            raise PlannerError("unknown claim {0!r}; {1}.", name, near(name, known))
    asked = [file for file in files if any(known[name] is file for name in wanted)]
    readings = []
    for done, file in enumerate(asked):
        if progress is not None:
            progress(done, len(asked))
        readings.append(_judge(file, wanted, folder))
    return tuple(readings)


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What one reading of a number comes to: our figure as such (``variant`` None), or under a variant."""

    figure: Interval
    figures: Mapping[str, Figured]
    needs: Needs
    variant: Variant | None = None


def _judge(file: ClaimFile, wanted: Sequence[str], folder: Path) -> Reading:
    article = file.article or Article(title="")
    open_points = {name: [o.name for o in options if not o.contradicted] for name, options in article.choices.items()}
    judged = file.claims if open_points else [c for c in file.claims if c.id in wanted]
    outcomes = {(c.id, i): _outcomes(c, check, file, folder) for c in judged for i, check in enumerate(c.checks)}
    checks = {(c.id, i): check for c in judged for i, check in enumerate(c.checks)}
    readings = [dict(zip(open_points, options, strict=True)) for options in itertools.product(*open_points.values())]
    chosen = max(
        readings, key=lambda r: sum(_points(checks[k], outcomes[k], r) for k in checks if outcomes[k] and not checks[k].added)
    )
    judgements = []
    for claim in (c for c in judged if c.id in wanted):
        findings = tuple(_told(claim, check, outcomes[claim.id, i], chosen, file, folder) for i, check in enumerate(claim.checks))
        judgements.append(_judgement(claim, findings, article, file, folder))
    return Reading(article=article, chosen=chosen, judgements=tuple(judgements))


def _judgement(claim: Claim, findings: tuple[Finding, ...], article: Article, file: ClaimFile, folder: Path) -> Judgement:
    usd, stake = _stake(claim.stake, file, folder, claim.id)
    stated = [f for f, check in zip(findings, claim.checks, strict=True) if not check.added]
    return Judgement(
        id=claim.id,
        source=claim.source or article.title_en or article.title,
        heading=claim.heading,
        quote=claim.quote,
        text=_both(claim.text, claim.text_zh),
        verdict=min((f.verdict for f in (stated or findings)), key=WORST_FIRST.index),
        findings=findings,
        instead=_both(claim.instead, claim.instead_zh),
        do=claim.do,
        stake_usd=usd,
        stake=stake,
    )


def _outcomes(claim: Claim, check: Check, file: ClaimFile, folder: Path) -> list[_Outcome]:
    """The number under every reading that the file gives; empty where it is not computed."""
    if check.expression is None:
        return []
    try:
        figures = {name: figure_of(figure, file, folder) for name, figure in check.figures.items()}
        ours = combined(check.expression, figures, check.errors_together)
        found = [_Outcome(figure=ours, figures=figures, needs=check.needs)]
        for variant in check.variants:
            changed = {**figures, **{name: figure_of(figure, file, folder) for name, figure in variant.figures.items()}}
            other = combined(variant.expression or check.expression, changed, check.errors_together)
            found.append(_Outcome(figure=other, figures=changed, needs=variant.needs, variant=variant))
    except PlannerError as error:
        raise PlannerError("claim {0}, {1}: {2}", claim.id, check.what, error) from None
    return found


def _points(check: Check, outcomes: Sequence[_Outcome], reading: Mapping[str, str]) -> float:
    verdict, outcome, _ = verdict_under(check, outcomes, reading)
    solved = outcome is not None and outcome.variant is not None and outcome.variant.solved
    return 0.0 if solved and verdict == "holds if" else POINTS.get(verdict, 0.0)


def verdict_under(
    check: Check, outcomes: Sequence[_Outcome], reading: Mapping[str, str]
) -> tuple[Verdict, _Outcome | None, _Outcome | None]:
    """(verdict, the outcome whose condition it names, one that contradicts the reading and would bear the number out).

    "holds" and "holds if" take the whole interval; "cannot tell" any part of it.
    """
    fitting = [o for o in outcomes if _fits(o, reading)]
    for wholly in (True, False):
        for outcome in fitting:
            if _bears(check, outcome, wholly=wholly):
                if outcome is outcomes[0]:
                    return ("holds" if wholly else "cannot tell"), None, None
                return ("holds if" if wholly else "cannot tell"), outcome, None
    others = [o for o in outcomes if not _fits(o, reading)]
    elsewhere = (o for wholly in (True, False) for o in others if _bears(check, o, wholly=wholly))
    return "cannot be", None, next(elsewhere, None)


def _fits(outcome: _Outcome, reading: Mapping[str, str]) -> bool:
    return all(reading[name] in options_of(wanted) for name, wanted in outcome.needs.items())


def _bears(check: Check, outcome: _Outcome, *, wholly: bool) -> bool:
    """Does the outcome bear the number out? One solved from the claim is a point, not a finding: its expected value decides."""
    figure = outcome.figure
    if outcome.variant is not None and outcome.variant.solved:
        return satisfied(check, figure.expected, figure.expected)
    return supported(check, figure.lower, figure.upper) if wholly else satisfied(check, figure.lower, figure.upper)


def _told(
    claim: Claim, check: Check, outcomes: Sequence[_Outcome], reading: Mapping[str, str], file: ClaimFile, folder: Path
) -> Finding:
    what = _both(check.what, check.what_zh)
    if check.out_of_scope is not None:
        return Finding(what=what, verdict="out of scope", why=_both(check.out_of_scope, check.out_of_scope_zh))
    try:
        if check.not_computed is not None:
            figures = {name: figure_of(figure, file, folder) for name, figure in check.figures.items()}
            return Finding(what=what, verdict="not computed yet", why={"en": _sentence(check, check.not_computed, None, figures)})
        verdict, outcome, elsewhere = verdict_under(check, outcomes, reading)
        ours = outcomes[0]
        variant = None if outcome is None else outcome.variant
        return Finding(
            what=what,
            verdict=verdict,
            unit=check.unit,
            claimed=tuple(check.claimed) if isinstance(check.claimed, list) else check.claimed,  # type: ignore[arg-type]
            relation=check.relation,
            figure=ours.figure,
            exact=ours.figure.lower == ours.figure.upper,
            condition={} if variant is None else _both(variant.condition, variant.condition_zh),
            condition_figure=None if outcome is None or variant is None else outcome.figure,
            solved=variant is not None and variant.solved,
            added=check.added,
            elsewhere={} if elsewhere is None else _contradicting(elsewhere, reading, file.article),
            why={
                language: _sentence(check, text, ours.figure, ours.figures, language)
                for language, text in _both(check.why, check.why_zh).items()
            },
        )
    except PlannerError as error:
        raise PlannerError("claim {0}, {1}: {2}", claim.id, check.what, error) from None


def _contradicting(outcome: _Outcome, reading: Mapping[str, str], article: Article | None) -> Languages:
    """The condition of an outcome that the reading rules out, and what rules it out."""
    choices = {} if article is None else article.choices
    english, chinese, passages, places = [], [], [], []
    for name, wanted in outcome.needs.items():
        if reading[name] in options_of(wanted):
            continue
        option = next(o for o in choices[name] if o.name in options_of(wanted))
        english.append(option.text)
        chinese.append(option.text_zh or option.text)
        passages.append(option.contradicted)
        places.append(option.contradicted_zh or option.contradicted)
    said, because = " and ".join(english), "; ".join(filter(None, passages))
    told, reason = "，且".join(chinese), "；".join(filter(None, places))
    return {
        "en": f"Only if {said} could it hold, but {because or 'that contradicts the reading of the article'}.",
        "zh": f"只有在“{told}”时才可能成立，但{reason or '这与全文采用的理解矛盾'}。",
    }


def _both(english: str, chinese: str) -> Languages:
    return {**({"en": english} if english else {}), **({"zh": chinese} if chinese else {})}


def _range(check: Check) -> tuple[float, float]:
    """What the claim allows; ``equals`` allows its relative tolerance."""
    if isinstance(check.claimed, list):
        return check.claimed[0], check.claimed[1]
    claimed = float(check.claimed or 0.0)
    slack = abs(claimed) * (check.tolerance if check.relation == "equals" else ROUNDING)
    low = claimed - slack if check.relation in ("equals", "at least") else float("-inf")
    high = claimed + slack if check.relation in ("equals", "at most") else float("inf")
    return low, high


def satisfied(check: Check, lower: float, upper: float) -> bool:
    """Does any value from lower to upper bear the claim out?"""
    low, high = _range(check)
    return lower <= high and upper >= low


def supported(check: Check, lower: float, upper: float) -> bool:
    """Does every value from lower to upper bear the claim out?"""
    low, high = _range(check)
    return low <= lower and upper <= high


def _stake(stake: Stake | None, file: ClaimFile, folder: Path, claim: str) -> tuple[float, Languages]:
    """Dollars that believing a claim costs, and what they are."""
    if stake is None:
        return 0.0, {}
    try:
        figures = {name: figure_of(figure, file, folder) for name, figure in stake.figures.items()}
        values = {name: f.interval.expected for name, f in figures.items()}
        usd = evaluate(stake.expression, values)
        told = {language: text.format(value=usd, **values) for language, text in _both(stake.text, stake.text_zh).items()}
    except (KeyError, IndexError, ValueError, PlannerError) as error:
        raise PlannerError("claim {0}, stake: {1}", claim, error) from None
    return usd, told


def _sentence(check: Check, text: str, ours: Interval | None, figures: Mapping[str, Figured], language: str = "en") -> str:
    """The sentence with its numbers: value, lower, upper, claimed, every figure, every further expression."""
    values: dict[str, Any] = {name: f.interval.expected for name, f in figures.items()}
    values |= {name: evaluate(expression, values) for name, expression in check.also.items()}
    if ours is not None:
        values |= {"value": ours.expected, "lower": ours.lower, "upper": ours.upper, "claimed": check.claimed}
    old = any(STALE in f.interval.why for f in figures.values())
    stale = {"en": " The quotes are stale: older than 90 days.", "zh": "报价已超过 90 天，可能过期。"}[language] if old else ""
    try:
        return text.format(**values) + stale
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise PlannerError("{0!r} cannot be filled in ({1!r}); it may name {2}", text, error, ", ".join(values)) from None
