"""Small deployments that several tests share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from examples import ACCELERATOR, LLAMA, MIXTRAL, NODE, model

from planner.hardware.cluster import Cluster, cluster
from planner.model.architecture import Model
from planner.serving.engine import load_engine
from planner.serving.feasibility import require_possible
from planner.serving.pass_time import Times
from planner.serving.setting import Setting
from planner.serving.spec import Serving

__all__ = ["LLAMA", "MIXTRAL", "chips", "deployment", "model", "serving_times"]


def chips(num_gpus: int = 1) -> Cluster:
    """Test GPUs in one node."""
    return cluster(NODE, num_gpus=num_gpus, accelerator=ACCELERATOR)


def deployment(m: Model, num_gpus: int = 1, on: Cluster | None = None, **fields: Any) -> Setting:
    """A deployment on vLLM unless the fields say otherwise."""
    spec = Serving.build({"engine": "vllm", "prompt": 256, "output": 64, **fields}, "serving")
    found = Setting(model=m, cluster=on or chips(num_gpus), engine=load_engine(spec.engine), serving=spec)
    require_possible(found)
    return found


def serving_times(m: Model, num_gpus: int = 1, **fields: Any) -> Times:
    """Its times."""
    return Times(setting=deployment(m, num_gpus, **fields))


def with_engine(setting: Setting, **changes: Any) -> Setting:
    """The same deployment on an engine with other constants."""
    return replace(setting, engine=setting.engine.model_copy(update=changes))


def without_host(times: Times) -> Times:
    """The same without any host time."""
    engine = times.setting.engine.model_copy(update={"host_s_per_step": 0.0, "host_s_per_sequence": 0.0})
    return replace(times, setting=replace(times.setting, engine=engine))
