"""Claims as data: what a source says, which figure of ours judges it, and under which other conditions it would hold.

A file is one article with its claims. Its ``[article]`` names the setting in which all of its numbers are judged and the points
that its text leaves open (``choices``): an article is judged under one reading, the one under which most of its numbers hold.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from planner.common import data
from planner.common.errors import PlannerError, near
from planner.common.message import Message
from planner.common.spec import Spec, read_table

CATALOG = data.CATALOG / "claims"
SCENARIO_TABLES = ("model", "cluster", "framework", "job", "layout", "price", "run", "serving")

Relation = Literal["equals", "at most", "at least", "between"]
Quantity = Literal[
    "parameters_total",
    "parameters_active",
    "parameters_of_block",
    "model_field",
    "forward_flops",
    "plan",
    "run",
    "leanest_memory_bytes",
    "expert_load",
    "usable_memory_bytes",
    "memory_bytes",
    "peak_flops_per_s",
    "power_w_per_gpu",
    "price",
    "electricity_usd_per_kwh",
    "zero3_crossover_bytes_per_s",
    "serve",
    "given",
]


class Figure(Spec):
    """One number of ours: a quantity and what it is asked of. Tables complete or replace those of ``scenario``."""

    quantity: Quantity
    field: str = ""
    scenario: str = ""  # a name of the file's [scenarios], or the path of a scenario file
    model: dict[str, Any] = Field(default_factory=dict)
    cluster: dict[str, Any] = Field(default_factory=dict)
    framework: dict[str, Any] = Field(default_factory=dict)
    job: dict[str, Any] = Field(default_factory=dict)
    layout: dict[str, Any] | None = None
    price: dict[str, Any] = Field(default_factory=dict)
    run: dict[str, Any] = Field(default_factory=dict)
    serving: dict[str, Any] = Field(default_factory=dict)
    share_of_capacity: Annotated[float | None, Field(gt=0.0, lt=1.0)] = (
        None  # of a served figure: the load, as a part of the most
    )
    accelerator: str = ""
    term: str = "on-demand"
    shares_by_type: list[list[float]] = Field(default_factory=list)
    parts: list[float] = Field(default_factory=list)
    value: float | None = None  # of a given figure, with its source
    source: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.quantity == "given") != (self.value is not None):
            raise ValueError("value belongs to quantity = 'given', and needs it")
        if self.quantity == "given" and not self.source:
            raise ValueError("source is missing: a given value needs one")
        if self.share_of_capacity is not None and self.quantity != "serve":
            raise ValueError("share_of_capacity belongs to quantity = 'serve'")
        return self


Needs = dict[str, str | list[str]]
"""Choices of the article that a figure presupposes: the option, or the options that will do."""


def options_of(wanted: str | list[str]) -> list[str]:
    """The options that will do."""
    return [wanted] if isinstance(wanted, str) else wanted


class Variant(Spec):
    """Another reading: with these figures or this expression instead, the claim is tried again.

    ``needs`` are the choices of the article that it presupposes. ``solved``: the condition was solved from the claim itself, and
    nothing in the text states it.
    """

    condition: str
    condition_zh: str = ""
    expression: str | None = None
    figures: dict[str, Figure] = Field(default_factory=dict)
    needs: Needs = Field(default_factory=dict)
    solved: bool = False


class Check(Spec):
    """One number of a claim. Either it is computed, or it says why not. Names in ``_zh`` hold the Chinese of the others."""

    what: str
    what_zh: str = ""
    unit: str = ""
    claimed: float | list[float] | None = None
    relation: Relation = "equals"
    tolerance: Annotated[float, Field(ge=0)] = 0.05  # relative, for equals
    expression: str | None = None
    figures: dict[str, Figure] = Field(default_factory=dict)
    also: dict[str, str] = Field(default_factory=dict)  # further expressions that the sentence names
    errors_together: bool = False  # a ratio of like figures: what they share of their errors cancels
    added: bool = False  # the source states no such number: shown, but no part of the claim's verdict
    needs: Needs = Field(default_factory=dict)  # choices of the article that our figure presupposes
    why: str = ""
    why_zh: str = ""
    variants: list[Variant] = Field(default_factory=list)
    out_of_scope: str | None = None
    out_of_scope_zh: str = ""
    not_computed: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        excuse = [n for n in ("out_of_scope", "not_computed") if getattr(self, n) is not None]
        if len(excuse) > 1 or (excuse and self.expression is not None):
            raise ValueError(Message("{0!r}: give one of expression, out_of_scope, not_computed", self.what))
        if excuse:
            return self
        if self.expression is None or self.claimed is None:
            raise ValueError(Message("{0!r}: expression and claimed are needed, or out_of_scope or not_computed", self.what))
        pair = isinstance(self.claimed, list)
        if pair != (self.relation == "between") or (isinstance(self.claimed, list) and len(self.claimed) != 2):
            raise ValueError(
                Message("{0!r}: relation = 'between' needs claimed = [low, high]; the others need one number", self.what)
            )
        return self


class Stake(Spec):
    """What it costs, in dollars, to believe a claim; claims are ordered by it."""

    expression: str
    figures: dict[str, Figure] = Field(default_factory=dict)
    text: str
    text_zh: str = ""


class Claim(Spec):
    """What a source says under one identifier; ``quote`` in its own words, under the heading ``heading``."""

    id: str
    source: str = ""
    heading: str = ""
    quote: str = ""
    text: str
    text_zh: str = ""
    instead: str = ""  # what is true
    instead_zh: str = ""
    do: str = ""  # a command that shows it
    stake: Stake | None = None
    checks: list[Check] = Field(min_length=1)


class Option(Spec):
    """One way to read an open point of an article; ``contradicted`` names the passage of the text that rules it out."""

    name: str
    text: str
    text_zh: str = ""
    contradicted: str = ""
    contradicted_zh: str = ""


class Article(Spec):
    """A source as a whole: where it is, the setting of our figures, what its text leaves open, and its summary."""

    title: str
    title_en: str = ""
    source: str = ""
    source_zh: str = ""
    file: str = ""
    setting: list[str] = Field(default_factory=list)
    setting_zh: list[str] = Field(default_factory=list)
    choices: dict[str, list[Option]] = Field(default_factory=dict)
    summary: list[str] = Field(default_factory=list)
    summary_zh: list[str] = Field(default_factory=list)


class ClaimFile(Spec):
    """A file of claims, the scenarios they share, and the article that makes them."""

    article: Article | None = None
    scenarios: dict[str, dict[str, Any]] = Field(default_factory=dict)
    claims: list[Claim] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        seen: set[str] = set()
        for claim in self.claims:
            if claim.id in seen:
                raise ValueError(Message("claim {0} occurs twice", claim.id))
            seen.add(claim.id)
            if self.article is None and not claim.source:
                raise ValueError(Message("claim {0}: source is missing, and there is no [article]", claim.id))
            for check in claim.checks:
                for needs in (check.needs, *(v.needs for v in check.variants)):
                    self._known(claim.id, needs)
        for name, tables in self.scenarios.items():
            for table in tables:
                if table not in SCENARIO_TABLES:
                    raise ValueError(
                        Message("scenarios.{0}: unknown table {1!r}; {2}", name, table, near(table, SCENARIO_TABLES))
                    )
        return self

    def _known(self, claim: str, needs: Needs) -> None:
        choices = {} if self.article is None else self.article.choices
        for name, wanted in needs.items():
            if name not in choices:
                raise ValueError(
                    Message("claim {0}: needs.{1} is no choice of the article; {2}", claim, name, near(name, choices))
                )
            known = [o.name for o in choices[name]]
            for option in options_of(wanted):
                if option not in known:
                    raise ValueError(Message("claim {0}: needs.{1} = {2!r}; {3}", claim, name, option, near(option, known)))


@cache
def catalog_claims() -> tuple[ClaimFile, ...]:
    """The claims that ship with the planner, by article."""
    return tuple(read_claims(path) for path in sorted(CATALOG.glob("*.toml")))


def read_claims(path: Path) -> ClaimFile:
    """A file of claims; PlannerError names file, claim and field."""
    data = read_table(path, "docs/audit.md ends with the format of claims")
    if "claims" not in data:
        raise PlannerError("{0}: has no [[claims]]; see docs/audit.md for the format.", path)
    return ClaimFile.build(data, str(path))
