"""Claims as data: what a source says, which figure of ours judges it, and under which other conditions it would hold."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from planner.common import data
from planner.common.errors import PlannerError, near
from planner.common.spec import Spec, read_table

CATALOG = data.CATALOG / "claims.toml"
SCENARIO_TABLES = ("model", "cluster", "framework", "job", "layout", "price", "run", "serving")

Relation = Literal["equals", "at most", "at least", "between"]
Quantity = Literal[
    "parameters_total", "parameters_active", "parameters_of_block", "model_field", "forward_flops", "plan", "run",
    "leanest_memory_bytes", "expert_load", "usable_memory_bytes", "memory_bytes", "peak_flops_per_s", "power_w_per_gpu", "price",
    "electricity_usd_per_kwh", "zero3_crossover_bytes_per_s", "serve", "given",
]  # fmt: skip


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
    accelerator: str = ""
    term: str = "on-demand"
    shares_by_type: list[list[float]] = Field(default_factory=list)
    parts: list[float] = Field(default_factory=list)
    value: float | None = None  # of a given figure, with its source
    source: str = ""

    @model_validator(mode="after")
    def _check(self) -> Figure:
        if (self.quantity == "given") != (self.value is not None):
            raise ValueError("value belongs to quantity = 'given', and needs it")
        if self.quantity == "given" and not self.source:
            raise ValueError("source is missing: a given value needs one")
        return self


class Variant(Spec):
    """Another reading: with these figures or this expression instead, the claim is tried again."""

    condition: str
    expression: str | None = None
    figures: dict[str, Figure] = Field(default_factory=dict)


class Check(Spec):
    """One number of a claim. Either it is computed, or it says why not."""

    what: str
    unit: str = ""
    claimed: float | list[float] | None = None
    relation: Relation = "equals"
    tolerance: Annotated[float, Field(ge=0)] = 0.05  # relative, for equals
    expression: str | None = None
    figures: dict[str, Figure] = Field(default_factory=dict)
    also: dict[str, str] = Field(default_factory=dict)  # further expressions that the sentence names
    errors_together: bool = False  # a ratio of like figures: their errors go the same way
    why: str = ""
    variants: list[Variant] = Field(default_factory=list)
    out_of_scope: str | None = None
    not_computed: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Check:
        excuse = [n for n in ("out_of_scope", "not_computed") if getattr(self, n) is not None]
        if len(excuse) > 1 or (excuse and self.expression is not None):
            raise ValueError(f"{self.what!r}: give one of expression, out_of_scope, not_computed")
        if excuse:
            return self
        if self.expression is None or self.claimed is None:
            raise ValueError(f"{self.what!r}: expression and claimed are needed, or out_of_scope or not_computed")
        pair = isinstance(self.claimed, list)
        if pair != (self.relation == "between") or (isinstance(self.claimed, list) and len(self.claimed) != 2):
            raise ValueError(f"{self.what!r}: relation = 'between' needs claimed = [low, high]; the others need one number")
        return self


class Claim(Spec):
    """What a source says under one identifier."""

    id: str
    source: str
    text: str
    checks: list[Check] = Field(min_length=1)


class ClaimFile(Spec):
    """A file of claims and the scenarios they share."""

    scenarios: dict[str, dict[str, Any]] = Field(default_factory=dict)
    claims: list[Claim] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> ClaimFile:
        seen: set[str] = set()
        for claim in self.claims:
            if claim.id in seen:
                raise ValueError(f"claim {claim.id} is there twice")
            seen.add(claim.id)
        for name, tables in self.scenarios.items():
            for table in tables:
                if table not in SCENARIO_TABLES:
                    raise ValueError(f"scenarios.{name}: unknown table {table!r}; {near(table, SCENARIO_TABLES)}")
        return self


@cache
def catalog_claims() -> ClaimFile:
    """The claims that ship with the planner."""
    return read_claims(CATALOG)


def read_claims(path: Path) -> ClaimFile:
    """A file of claims; PlannerError names file, claim and field."""
    data = read_table(path, "docs/audit.md ends with the format of claims")
    if "claims" not in data:
        raise PlannerError(f"{path}: has no [[claims]]; see docs/audit.md for the format.")
    return ClaimFile.build(data, str(path))
