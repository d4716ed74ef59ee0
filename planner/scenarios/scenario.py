"""Questions in files: a scenario names model, cluster, framework, job, layout and price, and what to compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.common.spec import read_table
from planner.lifecycle.bill import Bill, Costs, bill_of, charged_run
from planner.lifecycle.simulation import WholeRun, under_experts
from planner.lifecycle.spec import Run
from planner.performance.risk import RISK
from planner.scenarios.shipped import scenario_path
from planner.scenarios.tables import Form, Table, Tables, cases_of, model_label, placed, title_of
from planner.training.difference import ratios
from planner.training.elsewhere import Elsewhere, elsewhere
from planner.training.plan import Plan
from planner.training.planning import plan
from planner.training.remedies import Remedy, ways_out
from planner.uncertainty.ratio import Ratio
from planner.workload.resolve import as_framework

PLAN_TABLES = ("model", "cluster", "framework", "job", "layout", "price")
"""What ``planner.plan`` reads."""
TABLES = (*PLAN_TABLES, "run", "cost")
"""Those, what a whole run meets, and what it costs beside GPU-hours."""
REQUIRED = ("model", "cluster", "job")
SCENARIO = "scenario"
"""The place that errors begin with where no file is known."""
NO_PREEMPTIONS = "none: spot nodes get preempted, and the cost leaves that out; give run.preemption_mtbf_s, of one node"
"""In place of a budget. Published times differ by a factor of 200 (docs/guide/prices.md): none is usual."""
FORM = Form(tables=TABLES, required=REQUIRED, label=model_label, not_inherited={})


class Asked(TypedDict):
    """What ``planner.plan`` takes of a case: its tables without [run] and [cost]."""

    model: Table
    cluster: Table
    job: Table
    framework: NotRequired[Table]
    layout: NotRequired[Table]
    price: NotRequired[Table]


def asked(tables: Mapping[str, Mapping[str, Any]]) -> Asked:
    """The one way from a case's tables to a question: copies of those that ``planner.plan`` reads."""
    for name in REQUIRED:
        if name not in tables:
            raise PlannerError("{0}: table [{1}] is missing; a scenario needs [model], [cluster] and [job].", SCENARIO, name)
    return cast(Asked, {name: dict(tables[name]) for name in PLAN_TABLES if name in tables})


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A plan's whole run and its bill; None where there is none, and why where somebody may ask."""

    run: WholeRun | None
    bill: Bill | None
    why: str = ""

    def to_dict(self) -> dict[str, Any] | None:
        """For JSON, SI units: with interruptions, and the budget, with the mean of many such; None where there is none."""
        if self.run is None:
            return None
        found: dict[str, Any] = {n: vars(getattr(self.run, n)) for n in ("wall_s", "gpu_hours", "budget_s", "budget_gpu_hours")}
        if self.bill is not None:
            money = {name: vars(getattr(self.bill, name)) for name in ("total_usd", "budget_usd")}
            found |= {**money, "budget_mean_usd": self.bill.budget_mean_usd}
        return {**found, "expert_load": self.run.expert_load}


def over_first(answers: Sequence[Plan], outlooks: Sequence[Outlook]) -> list[dict[str, Ratio]]:
    """Each answer after the first over it, as ``planner.training.difference.ratios``; time and dollars of the whole run with
    interruptions and the table [run], where both have them: what the table of the same comparison shows.
    """
    found = []
    for answer, outlook in zip(answers[1:], outlooks[1:], strict=True):
        known = ratios(answer, answers[0])
        step = known["step_time_s"]
        runs, bills = (outlook.run, outlooks[0].run), (outlook.bill, outlooks[0].bill)
        if runs[0] is not None and runs[1] is not None:
            known["run_s"] = step.scaled(runs[0].wall_s.expected / runs[1].wall_s.expected / step.expected)
        if bills[0] is not None and bills[1] is not None and bills[0].total_usd.expected and bills[1].total_usd.expected:
            known["cost_usd"] = step.scaled(bills[0].total_usd.expected / bills[1].total_usd.expected / step.expected)
        found.append(known)
    return found


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration of a scenario: a label and its tables. Errors of what it answers begin with file and label."""

    label: str
    tables: Tables
    where: str

    def asked(self) -> Asked:
        """What ``planner.plan`` takes; tables that it does not read are checked all the same."""
        with placed(self.where):
            self.require_sound_run()
            if "name" not in self.tables.get("framework", {"name": ""}):
                as_framework(self.tables["framework"])  # which says what is wrong with it
            return asked(self.tables)

    def require_sound_run(self) -> Run:
        """The table [run]; PlannerError for what is wrong in it or in [cost]."""
        Costs.build(dict(self.tables.get("cost") or {}), "cost")
        return Run.build(dict(self.tables.get("run") or {}), "run")

    def plan(self, *, risk: float = RISK, allow: Iterable[str] = ()) -> Plan:
        """The answer. ``risk`` and ``allow`` as in ``planner.plan``."""
        question = self.asked()
        with placed(self.where):
            return plan(**question, risk=risk, allow=allow)

    def under_experts(self, answer: Plan) -> Plan:
        """The plan as it is shown: with the experts' shares of the table [run], where that gives any."""
        with placed(self.where):
            return under_experts(answer, self.tables.get("run")) if answer.model.num_experts else answer

    def whole_run(self, *, risk: float = RISK, allow: Iterable[str] = ()) -> WholeRun:
        """The plan's whole run under the tables [run] and [cost]. ``risk`` and ``allow`` as in ``planner.plan``."""
        with placed(self.where):  # before anything is computed
            run = self.require_sound_run()
        answer = self.plan(risk=risk, allow=allow)
        with placed(self.where):
            return charged_run(answer, run, self.tables.get("cost"))

    def ways_out(self, answer: Plan, *, allow: Iterable[str] = ()) -> list[Remedy]:
        """What to change where no layout of the job fits on these GPUs; the framework stays where the scenario names it."""
        return ways_out(answer, self.tables.get("framework"), allow)

    def elsewhere(self, answer: Plan, *, allow: Iterable[str] = ()) -> Elsewhere | None:
        """What another framework would do in decidably less time, where the scenario names neither framework nor layout."""
        return elsewhere(answer, self.tables.get("framework"), self.tables.get("layout"), allow)

    def outlook(self, answer: Plan) -> Outlook:
        """What the plan comes to with interruptions and as published runs went, under [run] and [cost]: as ``planner run`` says.

        Nothing where the job has no length, where it does not fit, and of spot nodes whose preemption rate is not given.
        """
        spot = answer.price is not None and answer.price.preempted
        if answer.num_steps is None or not answer.fits:
            return Outlook(run=None, bill=None)
        if spot and "preemption_mtbf_s" not in (self.tables.get("run") or {}):
            return Outlook(run=None, bill=None, why=Message(NO_PREEMPTIONS))
        with placed(self.where):
            result = charged_run(answer, self.tables.get("run"), self.tables.get("cost"))
        return Outlook(run=result, bill=self.bill(result))

    def bill(self, result: WholeRun) -> Bill | None:
        """The whole run's bill under the table [cost]; None without a price and without that table, and where it does not fit."""
        if not result.plan.fits:
            return None
        if result.plan.price is None and "cost" not in self.tables:
            return None
        with placed(self.where):
            return bill_of(result, self.tables.get("cost"))


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A file's cases: the main one first, then each ``[[compare]]``."""

    title: str
    cases: tuple[Case, ...]


def read_scenario(path: str | Path) -> Scenario:
    """Read a scenario: a file, or a shipped one by its name.

    Tables ``[model] [cluster] [framework] [job] [layout] [price] [run] [cost]``; each ``[[compare]]`` entry has a
    ``label`` and any of the tables, whose fields replace those of the main case (a ``model`` replaces the whole model);
    with ``standalone = true`` it takes nothing from the main case and brings all its tables.
    Relative paths of models, nodes, of ``job.teacher.model`` and of ``run.expert_histogram`` are looked up beside the file.
    Raises PlannerError naming file, field and value.
    """
    file = scenario_path(path)
    return scenario_of(read_table(file, "`planner scenarios show NAME` prints a complete example"), file)


def scenario_of(data: dict[str, Any], path: Path) -> Scenario:
    """The scenario of a file's tables; ``path`` stands in messages, and relative paths are looked up beside it."""
    if "serving" in data:
        raise PlannerError("{0}: table [serving] makes it a question of serving; ask it with `planner serve {1}`.", path, path)
    missing = [name for name in REQUIRED if name not in data]
    if missing and not set(data) - {"title", "label", "compare", *TABLES}:
        raise PlannerError("{0}: table [{1}] is missing; a scenario needs [model], [cluster] and [job].", path, missing[0])
    cases = cases_of(data, path, FORM)
    return Scenario(title=title_of(data, path), cases=tuple(Case(label=c.label, tables=c.tables, where=c.where) for c in cases))
