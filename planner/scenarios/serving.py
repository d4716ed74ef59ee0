"""Serving questions in files: model, cluster, serving, price, and deployments to compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planner.common.errors import PlannerError
from planner.common.spec import read_table
from planner.scenarios.shipped import scenario_path
from planner.scenarios.tables import Form, Tables, cases_of, model_label, placed, title_of
from planner.serving.deploy import serve
from planner.serving.deployment import Deployment

TABLES = ("model", "cluster", "serving", "price")
REQUIRED = ("model", "cluster", "serving")
OF_WEIGHTS = ("group_size", "bits_per_weight", "keep_16_bit")
"""Fields that belong to the weights of the main case: other weights of a ``[[compare]]`` do not inherit them."""


@dataclass(frozen=True, kw_only=True)
class ServingCase:
    """One deployment of a scenario: a label and its tables."""

    label: str
    tables: Tables
    where: str

    def serve(self) -> Deployment:
        """The answer; an error begins with the file."""
        with placed(self.where):
            return serve(**{name: dict(values) for name, values in self.tables.items()})


@dataclass(frozen=True, kw_only=True)
class ServingScenario:
    """A file's deployments: the main one first, then each ``[[compare]]``."""

    title: str
    cases: tuple[ServingCase, ...]


def _label(tables: Tables) -> str:
    return f"{model_label(tables)}, {tables['serving'].get('weights', 'bf16')}"


FORM = Form(tables=TABLES, required=REQUIRED, label=_label, not_inherited={"weights": OF_WEIGHTS})


def read_serving_scenario(path: str | Path) -> ServingScenario:
    """Read ``[model] [cluster] [serving] [price]``: a file, or a shipped scenario by its name.

    Each ``[[compare]]`` has a ``label`` and tables whose fields replace those of the main case (a ``model`` replaces the whole
    model). Raises PlannerError naming file, field and value.
    """
    file = scenario_path(path, "serving")
    data = read_table(file, "`planner scenarios show serving/NAME` prints a complete example")
    missing = [name for name in REQUIRED if name not in data]
    if missing and ("job" in data or not set(data) - {"title", "label", "compare", *TABLES}):
        hint = " (a scenario with [job] is for planner plan)" if "job" in data else ""
        raise PlannerError(f"{file}: table [{missing[0]}] is missing; serving needs [model], [cluster] and [serving]{hint}.")
    cases = cases_of(data, file, FORM)
    return ServingScenario(
        title=title_of(data, file), cases=tuple(ServingCase(label=c.label, tables=c.tables, where=c.where) for c in cases)
    )
