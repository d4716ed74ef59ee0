"""Questions of serving without a file: a model, "2xh100", and what the load departs from the usual in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.common.message import Message
from planner.hardware.asked import cluster_table
from planner.scenarios.serving import ServingCase, ServingScenario
from planner.scenarios.tables import Tables
from planner.serving.engine import usual_engine
from planner.workload.resolve import as_cluster, as_model

SERVING = {"weights": "bf16", "prompt": 1024, "output": 256}
"""What serving is asked where nothing is given: a chat's turn; assumed."""
OLLAMA = "q4_k_m"
"""What a tag of Ollama's library holds that names no format: github.com/ollama/ollama issue 1543, a maintainer's answer of
2024-12-29; older models have q4_0."""


def quick_serving(model: str, on: str, given: Mapping[str, Any]) -> tuple[ServingScenario, tuple[str, ...]]:
    """(a serving scenario of a model and a cluster, what was taken as usual in it)."""
    the_model, cluster = as_model({"name": model}), cluster_table(on)
    card = as_cluster(cluster).accelerator
    usual = {"engine": usual_engine(card, the_model, given.get("weights") or the_model.stored_weights), **SERVING}
    ollama = str(given.get("engine", "")).strip().casefold().startswith("ollama") and not the_model.stored_weights
    usual |= {"weights": OLLAMA} if ollama else {}
    missing = {name: value for name, value in usual.items() if name not in given}
    if the_model.stored_weights or ("bf16" not in card.peak_flops_per_s and not ollama):
        missing.pop("weights", None)  # as stored, or the chip's own 16-bit type
    tables: Tables = {"model": {"name": model}, "cluster": cluster, "serving": {**missing, **given}}
    case = ServingCase(label=the_model.name, tables=tables, where=f"{model} on {on}")
    taken = ", ".join(f"{name} = {value}" for name, value in missing.items())
    notes: tuple[str, ...] = (Message("taken as usual, not given: {0}", taken),) if taken else ()
    if ollama and "weights" in missing:
        notes += (Message("Ollama's tags hold {0} where they name no format: --weights gives another", OLLAMA),)
    return ServingScenario(title=Message("{0}, {1}, on {2}", the_model.name, "serving", on), cases=(case,)), notes
