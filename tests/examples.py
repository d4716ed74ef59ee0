"""Small specs that several tests share; made here so that a change of the catalog cannot change a law."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from planner.hardware.cluster import Accelerator, Cluster, Node, cluster
from planner.layout_search.space import LayoutGrid
from planner.model.architecture import Model
from planner.operators.setting import Setting, distinct_axes
from planner.workload.framework import Framework, load_framework
from planner.workload.job import Job
from planner.workload.layout import Layout, Layouts, as_columns

ACCELERATOR = Accelerator.build(
    {
        "name": "test-gpu",
        "vendor": "test",
        "architecture": "test",
        "peak_flops_per_s": {"fp32": 20e12, "tf32": 150e12, "fp16": 300e12, "bf16": 300e12, "fp8": 600e12},
        "memory_bytes": 80 * 2.0**30,
        "memory_bandwidth_bytes_per_s": 2e12,
        "host_link_bytes_per_s": 25e9,
        "curves": "a100",
    },
    "test",
)
NODE = Node.build(
    {
        "name": "test-node",
        "accelerator": "test-gpu",
        "num_gpus": 8,
        "host_memory_bytes": 2e12,
        "links": [
            {"name": "near", "kind": "nvlink", "span": 8, "bytes_per_s": 300e9},
            {"name": "far", "kind": "network", "span": 0, "bytes_per_s": 25e9},
        ],
    },
    "test",
)

GPT: dict[str, Any] = {
    "name": "gpt", "num_layers": 4, "hidden_size": 512, "num_heads": 8, "ffn_hidden_size": 2048, "vocab_size": 1024,
    "gated_ffn": False, "activation": "gelu", "norm": "layernorm", "position_embedding": "learned", "max_positions": 4096,
    "qkv_bias": True, "attention_output_bias": True, "ffn_bias": True, "tied_embeddings": True, "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "name": "llama", "num_layers": 4, "hidden_size": 512, "num_heads": 8, "num_kv_heads": 4, "ffn_hidden_size": 1536,
    "vocab_size": 1024,
}  # fmt: skip
MIXTRAL: dict[str, Any] = {**LLAMA, "name": "mixtral", "num_experts": 8, "top_k": 2, "expert_ffn_hidden_size": 1536}


def model(fields: dict[str, Any], **changes: Any) -> Model:
    """A model from fields and changes."""
    return Model.build({**fields, **changes}, "test")


def gpus(count: int) -> Cluster:
    """``count`` test GPUs."""
    return cluster(NODE, num_gpus=count, accelerator=ACCELERATOR)


def job(**changes: Any) -> Job:
    """A short pre-training job."""
    return Job.build({"seq_len": 1024, "global_batch_size": 16, "precision": "bf16", **changes}, "test")


def framework(name: str, **changes: Any) -> Framework:
    """A catalog framework, changed."""
    loaded = load_framework(name)
    return loaded.replaced(**changes) if changes else loaded


def eager(name: str = "huggingface") -> Framework:
    """A framework with transformers' eager attention, whose saved tensors autograd tells on a CPU."""
    return framework(name, attention_kernel="eager", repeats_kv_heads=True)


def setting(
    fields: dict[str, Any], stack: str, layout: Layout, changes: dict[str, Any] | None = None, **job_fields: Any
) -> Setting:
    """The axes of one layout."""
    columns = as_columns(layout, layout.tp * layout.cp * layout.pp * (layout.dp or 1))
    found, _ = distinct_axes(columns, model(fields), framework(stack, **(changes or {})), job(**job_fields))
    return found


def number(value: Any) -> float:
    """The first of an array, or a number as it is."""
    return float(np.ravel(value)[0])


def parts(*amounts: float) -> tuple[float, float, float]:
    """(a, b, c) of a + b x + c x^2 through the amounts at x = 1, 2 and 3, over the last of them."""
    first, second, third = amounts
    c = (first - 2.0 * second + third) / 2.0
    b = second - first - 3.0 * c
    unit = abs(third) or 1.0
    return (first - b - c) / unit, b / unit, c / unit


def listed(space: LayoutGrid) -> Layouts:
    """All layouts of a grid, one by one."""
    parts = []
    for tp in space.tps:
        for pp in space.pps(tp):
            rows = space.rows(tp, pp)
            for schedules in space.cuts(pp).values():
                block = space.block(rows, schedules)
                parts.append(block.at(np.arange(int(np.prod(block.shape)))))
    return Layouts(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Layouts)})
