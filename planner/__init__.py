"""Memory, time and money to train, fine-tune or serve a dense or mixture-of-experts language model on given GPUs.

``planner.plan(model=..., cluster=..., framework=..., job=..., layout=...)`` answers one layout, ``planner.evaluate(...)``
many at once, as arrays. Names are loaded on first use, so that importing the package costs next to nothing.

Packages, from the ground up (each imports only from those above it in this list):

- ``common``: units, errors, validated specs, files, tables, where data lie
- ``model``, ``hardware``: architectures and their parameters; accelerators, nodes, measured curves
- ``workload``, ``prices``: question, job, framework, layout; dated quotes, ownership, carbon
- ``operators``, ``uncertainty``: the rows, one module per block; 90 % prediction intervals
- ``performance``: seconds and bytes of rows, stages and steps
- ``layout_search``: the space of layouts, its evaluation and ranking
- ``training``, ``serving``: one plan; one deployment
- ``lifecycle``: whole runs: failures, checkpoints, energy, the bill
- ``scenarios``, ``evidence``, ``export``, ``launchfiles``: question files; measured runs, the fit; launch files, written, read
- ``studies``, ``audit``, ``calibration``: sweeps, limits, sizes; published claims; records of one's own machine
- ``reports``: everything that prints or draws
- ``cli``, ``web``: the command line; the page
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from planner.common.version import VERSION as __version__

if TYPE_CHECKING:
    from planner.common.errors import PlannerError as PlannerError
    from planner.export import export_plan as export_plan
    from planner.hardware.cluster import Accelerator as Accelerator
    from planner.hardware.cluster import Cluster as Cluster
    from planner.hardware.cluster import Node as Node
    from planner.hardware.cluster import accelerator_names as accelerator_names
    from planner.hardware.cluster import cluster as cluster
    from planner.hardware.cluster import load_accelerator as load_accelerator
    from planner.hardware.cluster import load_node as load_node
    from planner.hardware.cluster import node_names as node_names
    from planner.lifecycle.bill import Bill as Bill
    from planner.lifecycle.bill import Costs as Costs
    from planner.lifecycle.bill import bill_of as bill_of
    from planner.lifecycle.simulation import WholeRun as WholeRun
    from planner.lifecycle.simulation import expected_run as expected_run
    from planner.lifecycle.spec import Run as Run
    from planner.model.architecture import Model as Model
    from planner.model.catalog import load_model as load_model
    from planner.model.catalog import model_names as model_names
    from planner.performance.evaluation import Evaluation as Evaluation
    from planner.prices.market import find_price as find_price
    from planner.prices.price import Price as Price
    from planner.scenarios.scenario import read_scenario as read_scenario
    from planner.serving.deploy import serve as serve
    from planner.serving.deployment import Deployment as Deployment
    from planner.serving.spec import Serving as Serving
    from planner.studies.equal_terms import on_equal_terms as on_equal_terms
    from planner.studies.search_api import search as search
    from planner.studies.sizing import sizes as sizes
    from planner.studies.sweep_api import sweep as sweep
    from planner.studies.tuning_methods import tuning_choices as tuning_choices
    from planner.studies.what_if import Changes as Changes
    from planner.studies.what_if import derive as derive
    from planner.training.difference import ratios as ratios
    from planner.training.many import plan_many as plan_many
    from planner.training.plan import Plan as Plan
    from planner.training.planning import candidates as candidates
    from planner.training.planning import evaluate as evaluate
    from planner.training.planning import plan as plan
    from planner.training.trainable import trainable_parameters as trainable_parameters
    from planner.workload.framework import Framework as Framework
    from planner.workload.framework import framework_names as framework_names
    from planner.workload.framework import load_framework as load_framework
    from planner.workload.job import Job as Job
    from planner.workload.layout import Layout as Layout
    from planner.workload.layout import Layouts as Layouts
    from planner.workload.tuning import Adapter as Adapter
    from planner.workload.tuning import Quantization as Quantization
    from planner.workload.tuning import Teacher as Teacher


_NAMES = {
    "common.errors": ("PlannerError",),
    "export": ("export_plan",),
    "hardware.cluster": (
        *("Accelerator", "Cluster", "Node", "accelerator_names", "cluster"),
        *("load_accelerator", "load_node", "node_names"),
    ),
    "lifecycle.bill": ("Bill", "Costs", "bill_of"),
    "lifecycle.simulation": ("WholeRun", "expected_run"),
    "lifecycle.spec": ("Run",),
    "model.architecture": ("Model",),
    "model.catalog": ("load_model", "model_names"),
    "performance.evaluation": ("Evaluation",),
    "prices.market": ("find_price",),
    "prices.price": ("Price",),
    "scenarios.scenario": ("read_scenario",),
    "serving.deploy": ("serve",),
    "serving.deployment": ("Deployment",),
    "serving.spec": ("Serving",),
    "studies.equal_terms": ("on_equal_terms",),
    "studies.search_api": ("search",),
    "studies.sizing": ("sizes",),
    "studies.sweep_api": ("sweep",),
    "studies.tuning_methods": ("tuning_choices",),
    "studies.what_if": ("Changes", "derive"),
    "training.difference": ("ratios",),
    "training.many": ("plan_many",),
    "training.plan": ("Plan",),
    "training.planning": ("candidates", "evaluate", "plan"),
    "training.trainable": ("trainable_parameters",),
    "workload.framework": ("Framework", "framework_names", "load_framework"),
    "workload.job": ("Job",),
    "workload.layout": ("Layout", "Layouts"),
    "workload.tuning": ("Adapter", "Quantization", "Teacher"),
}
_WHERE = {name: f"planner.{module}" for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *sorted(_WHERE)]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'planner' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
