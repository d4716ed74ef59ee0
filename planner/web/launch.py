"""Launch files of a configuration, for every tool that runs its framework (planner export)."""

from __future__ import annotations

import streamlit as st

from planner.common.errors import PlannerError
from planner.export import STACKS, export_plan
from planner.export.tuners import TUNERS, export_tuning
from planner.training.plan import Plan
from planner.web.download import take, zipped
from planner.web.guard import markdown
from planner.web.messages import said
from planner.web.text import t


def launch_files(plan: Plan, key: str) -> None:
    """A download for each tool; in words why there is none."""
    name = plan.framework.name
    stacks = [stack for stack, (_, frameworks) in STACKS.items() if name in frameworks]
    made = 0
    for stack in (*stacks, *(TUNERS if plan.job.kind != "pretrain" else ())):
        try:
            archive = zipped(export_tuning(plan, stack) if stack in TUNERS else export_plan(plan, stack))
        except PlannerError as error:
            if stack in stacks:
                st.caption(t("search.no_launch", stack=stack, why=markdown(said(str(error)), 300)))
            continue
        made += 1
        words = t("download.launch", stack=stack)
        take(words, lambda archive=archive: archive, f"{stack}.zip", "application/zip", f"{key}.{stack}")  # type: ignore[misc]
    if not made and not stacks:
        st.caption(t("search.no_stack", framework=name))
