"""Verdicts on claims: holds, holds if ..., cannot be; with our figure, its interval and one sentence why."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from planner.audit.claims import Check, Claim, ClaimFile, catalog_claims, read_claims
from planner.audit.expression import evaluate, names_in
from planner.audit.figures import STALE, figure_of
from planner.common.errors import PlannerError, near
from planner.uncertainty.interval import Interval

Verdict = Literal["holds", "holds if", "cannot be", "not computed yet", "out of scope"]
WORST_FIRST: tuple[Verdict, ...] = ("cannot be", "holds if", "holds", "not computed yet", "out of scope")
FAVOURABLE = "our figure errs as far as its interval allows"
ROUNDING = 1e-9
LIKE_FIGURES = 0.025
"""What is left of two like figures' errors when both err the same way, kind: assumed."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The verdict on one number. ``figure`` is ours; ``condition`` says when it would hold; ``why`` is one sentence."""

    what: str
    verdict: Verdict
    unit: str = ""
    claimed: float | tuple[float, float] | None = None
    relation: str = ""
    figure: Interval | None = None
    condition: str = ""
    condition_figure: Interval | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict on a claim: the worst of its computed numbers."""

    id: str
    source: str
    text: str
    verdict: Verdict
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def audit(ids: Iterable[str] = (), claims: Path | None = None) -> tuple[Judgement, ...]:
    """Judge the claims of the catalog, or of a file; all of them, or those named. PlannerError names an unknown one."""
    file = catalog_claims() if claims is None else read_claims(claims)
    folder = Path(".") if claims is None else claims.parent
    known = {claim.id: claim for claim in file.claims}
    wanted = list(ids) or list(known)
    for name in wanted:
        if name not in known:
            raise PlannerError(f"claim {name!r}: not there; {near(name, known)}")
    return tuple(_judge(known[name], file, folder) for name in dict.fromkeys(wanted))


def _judge(claim: Claim, file: ClaimFile, folder: Path) -> Judgement:
    findings = []
    for check in claim.checks:
        try:
            findings.append(_finding(check, file, folder))
        except PlannerError as error:
            raise PlannerError(f"claim {claim.id}, {check.what}: {error}") from None
    verdict = min((f.verdict for f in findings), key=WORST_FIRST.index)
    return Judgement(id=claim.id, source=claim.source, text=claim.text, verdict=verdict, findings=tuple(findings))


def _finding(check: Check, file: ClaimFile, folder: Path) -> Finding:
    if check.out_of_scope is not None:
        return Finding(what=check.what, verdict="out of scope", why=check.out_of_scope)
    figures = {name: figure_of(figure, file, folder) for name, figure in check.figures.items()}
    if check.not_computed is not None:
        why = _sentence(check, check.not_computed, None, figures)
        return Finding(what=check.what, verdict="not computed yet", why=why)
    ours = _combined(check.expression or "", figures, check.errors_together)
    verdict, condition, other = _verdict(check, ours, figures, file, folder)
    claimed = tuple(check.claimed) if isinstance(check.claimed, list) else check.claimed
    return Finding(
        what=check.what,
        verdict=verdict,
        unit=check.unit,
        claimed=claimed,  # type: ignore[arg-type]
        relation=check.relation,
        figure=ours,
        condition=condition,
        condition_figure=other,
        why=_sentence(check, check.why, ours, figures),
    )


def _verdict(
    check: Check, ours: Interval, figures: Mapping[str, Interval], file: ClaimFile, folder: Path
) -> tuple[Verdict, str, Interval | None]:
    """(verdict, condition, the figure under that condition): our figure first, then other readings, then the interval."""
    if satisfied(check, ours.expected, ours.expected):
        return "holds", "", None
    for variant in check.variants:
        changed = {name: figure_of(figure, file, folder) for name, figure in variant.figures.items()}
        other = _combined(variant.expression or check.expression or "", {**figures, **changed}, check.errors_together)
        if satisfied(check, other.expected, other.expected):
            return "holds if", variant.condition, other
    if satisfied(check, ours.lower, ours.upper):
        return "holds if", FAVOURABLE, ours
    return "cannot be", "", None


def satisfied(check: Check, lower: float, upper: float) -> bool:
    """Does any value from lower to upper bear the claim out? ``equals`` allows its relative tolerance."""
    if isinstance(check.claimed, list):
        low, high = check.claimed
    else:
        claimed = float(check.claimed or 0.0)
        slack = abs(claimed) * (check.tolerance if check.relation == "equals" else ROUNDING)
        low = claimed - slack if check.relation in ("equals", "at least") else float("-inf")
        high = claimed + slack if check.relation in ("equals", "at most") else float("inf")
    return lower <= high and upper >= low


def _combined(expression: str, figures: Mapping[str, Interval], together: bool) -> Interval:
    """The expression's value and interval, over all corners of the figures; of like figures only what errors leave apart."""
    expected = evaluate(expression, {name: f.expected for name, f in figures.items()})
    used = [name for name in figures if name in names_in(expression) and figures[name].lower != figures[name].upper]
    steady = {name: f.expected for name, f in figures.items() if name not in used}
    spread = {n: (figures[n].lower, figures[n].upper) for n in used}
    if together:
        spread = {n: (figures[n].expected * (1 - LIKE_FIGURES), figures[n].expected * (1 + LIKE_FIGURES)) for n in used}
    ends = itertools.product(*spread.values())
    values = [expected, *(evaluate(expression, {**steady, **dict(zip(used, corner, strict=True))}) for corner in ends)]
    why = "; ".join(dict.fromkeys(figures[name].why for name in used)) or "exact"
    return Interval(expected=expected, lower=min(values), upper=max(values), why=why)


def _sentence(check: Check, text: str, ours: Interval | None, figures: Mapping[str, Interval]) -> str:
    """The sentence with its numbers: value, lower, upper, claimed, every figure, every further expression."""
    values: dict[str, Any] = {name: f.expected for name, f in figures.items()}
    values |= {name: evaluate(expression, values) for name, expression in check.also.items()}
    if ours is not None:
        values |= {"value": ours.expected, "lower": ours.lower, "upper": ours.upper, "claimed": check.claimed}
    stale = [f"Quotes: {f.why}." for f in figures.values() if STALE in f.why]
    try:
        return " ".join([text.format(**values), *stale])
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise PlannerError(f"{text!r} cannot be filled in ({error!r}); it may name {', '.join(values)}") from None
