"""Memory, time and money to train, fine-tune or serve a dense or mixture-of-experts language model on given GPUs.

``planner.plan(model=..., cluster=..., framework=..., job=..., layout=...)`` answers one layout, ``planner.evaluate(...)``
many at once, as arrays. Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "plan": "planner.planning", "Plan": "planner.planning", "evaluate": "planner.planning", "Evaluation": "planner.evaluation",
    "Model": "planner.model", "load_model": "planner.models", "model_names": "planner.models",
    "Accelerator": "planner.hardware", "Node": "planner.hardware", "Cluster": "planner.hardware",
    "cluster": "planner.hardware", "load_accelerator": "planner.hardware", "load_node": "planner.hardware",
    "accelerator_names": "planner.hardware", "node_names": "planner.hardware", "Framework": "planner.framework",
    "load_framework": "planner.framework", "framework_names": "planner.framework", "Job": "planner.job",
    "Layout": "planner.layout", "Layouts": "planner.layout", "candidates": "planner.planning",
    "read_scenario": "planner.scenario", "search": "planner.searching", "sweep": "planner.sweeping",
    "export_plan": "planner.export",
    "Run": "planner.run_spec", "WholeRun": "planner.whole_run", "expected_run": "planner.whole_run",
    "Bill": "planner.bill", "Costs": "planner.bill", "bill_of": "planner.bill",
    "on_equal_terms": "planner.equal",
    "serve": "planner.serving.deployment", "Deployment": "planner.serving.deployment", "Serving": "planner.serving.spec",
    "sizes": "planner.serving.sizing",
    "Price": "planner.cost", "find_price": "planner.cost", "PlannerError": "planner.errors",
}  # fmt: skip

__all__ = ["__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'planner' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
