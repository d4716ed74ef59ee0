"""Ready-made questions of the first page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planner.scenarios.scenario import scenario_of
from planner.web import state
from planner.web.guard import toml_tables


def _mixture() -> dict[str, Any]:
    return state.default_scenario()


def _tune_7b() -> dict[str, Any]:
    return _one("llama-2-7b", "rtx-4090-24gb", 2, {"kind": "finetune", "num_tokens": 10**8})


def _qlora_70b() -> dict[str, Any]:
    job = {"kind": "qlora", "num_tokens": 2 * 10**7, "adapter": {"rank": 16}, "quantization": {"format": "nf4"}}
    return _one("llama-3-70b", "a100-sxm4-80gb", 1, job)


def _pretrain_8b() -> dict[str, Any]:
    job = {"kind": "pretrain", "seq_len": 4096, "global_batch_size": 1024, "num_tokens": 10**12}
    return {**_one("llama-3-8b", "h100-sxm5-80gb", 256, job), "ask": {"days": 30.0, "choose": True}}


def _serve_70b() -> dict[str, Any]:
    scenario = _one("llama-3-70b", "h100-sxm5-80gb", 4, {"kind": "pretrain", "num_tokens": 10**9})
    scenario["cases"][0]["tables"]["serving"] = {
        "engine": "vllm",
        "weights": "bf16",
        "prompt": 1024,
        "output": 256,
        "requests_per_s": 5.0,
    }
    return {**scenario, "ask": {"serve": True, "choose": True}}


def _encoders() -> dict[str, Any]:
    path = state.EXAMPLES / "bert-3x-rtx-3070.toml"
    found = scenario_of(toml_tables(path.read_text(encoding="utf-8"), path.name), path)
    cases = [{"label": case.label, "tables": case.tables} for case in found.cases[:2]]
    return {"title": found.title, "cases": cases}


def _one(model: str, card: str, gpus: int, job: dict[str, Any]) -> dict[str, Any]:
    usual = {"seq_len": 2048, "global_batch_size": 64, "precision": "bf16", "optimizer": "adamw"}
    tables = {
        "model": {"name": model}, "cluster": {"accelerator": card, "num_gpus": gpus}, "job": {**usual, **job},
        "price": {"term": "on-demand"},
    }  # fmt: skip
    return {"title": "", "cases": [{"label": model, "tables": tables}]}


PRESETS: dict[str, Callable[[], dict[str, Any]]] = {
    "tune_7b": _tune_7b,
    "mixture": _mixture,
    "serve_70b": _serve_70b,
    "qlora_70b": _qlora_70b,
    "pretrain_8b": _pretrain_8b,
    "encoders": _encoders,
}


def preset(name: str) -> state.Scenario:
    """The scenario of a ready-made question."""
    return state.checked(PRESETS[name]())
