"""Serving questions in files: model, cluster, serving, price, and deployments to compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planner.common.errors import PlannerError, unknown_field
from planner.common.spec import read_table
from planner.scenarios.shipped import scenario_path
from planner.scenarios.tables import OF_SERVING, Form, Table, Tables, cases_of, model_label, placed, title_of
from planner.serving.deploy import serve
from planner.serving.deployment import Deployment
from planner.serving.spec import Serving

TABLES = OF_SERVING
REQUIRED = ("model", "cluster", "serving")
OF_LOAD = (
    "clients",
    "requests_per_s",
    "num_requests",
    "seed",
    "prompt",
    "output",
    "ttft_target_s",
    "tpot_target_s",
    "e2e_target_s",
)
"""Fields of ``[load]``: who asks, for what, and what counts as good. They may also stand in ``[serving]``."""
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
            tables = {name: dict(values) for name, values in self.tables.items()}
            tables["serving"] |= _load(tables.pop("load", {}), tables["serving"])
            return serve(**tables)


def _load(load: Table, serving: Table) -> Table:
    """The fields of ``[load]``; PlannerError for one that does not belong there, or stands in ``[serving]`` too."""
    for key in load:
        if key not in OF_LOAD and key in Serving.model_fields:
            raise PlannerError(
                "load.{0} = {1!r}: {0} stands in [serving]; write serving.{0}.",
                key,
                load[key],
                field=f"load.{key}",
                value=load[key],
            )
        if key not in OF_LOAD:
            raise unknown_field("load", key, load[key], OF_LOAD)
        if key in serving:
            raise PlannerError("load.{0} and serving.{1}: give it once.", key, key)
    return load


@dataclass(frozen=True, kw_only=True)
class ServingScenario:
    """A file's deployments: the main one first, then each ``[[compare]]``."""

    title: str
    cases: tuple[ServingCase, ...]


def _label(tables: Tables) -> str:
    return f"{model_label(tables)}, {tables['serving'].get('weights', 'bf16')}"


NOT_INHERITED = {"weights": OF_WEIGHTS, "clients": ("requests_per_s",), "requests_per_s": ("clients",)}
FORM = Form(tables=TABLES, required=REQUIRED, label=_label, not_inherited=NOT_INHERITED)


def read_serving_scenario(path: str | Path) -> ServingScenario:
    """Read ``[model] [cluster] [serving] [load] [price]``: a file, or a shipped scenario by its name.

    Each ``[[compare]]`` has a ``label`` and tables whose fields replace those of the main case (a ``model`` replaces the whole
    model). Raises PlannerError naming file, field and value.
    """
    file = scenario_path(path, "serving")
    data = read_table(file, "`planner scenarios show serving/NAME` prints a complete example")
    missing = [name for name in REQUIRED if name not in data]
    if missing and ("job" in data or not set(data) - {"title", "label", "compare", *TABLES}):
        hint = " (a scenario with [job] is for planner plan)" if "job" in data else ""
        raise PlannerError(
            "{0}: table [{1}] is missing; serving needs [model], [cluster] and [serving]{2}.", file, missing[0], hint
        )
    cases = cases_of(data, file, FORM)
    return ServingScenario(
        title=title_of(data, file), cases=tuple(ServingCase(label=c.label, tables=c.tables, where=c.where) for c in cases)
    )
