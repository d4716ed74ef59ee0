"""By which serving software: what its kernels reach, what the host does, how it batches and what memory it takes."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from planner.common import data
from planner.common.references import Catalog
from planner.common.spec import Spec

CATALOG = data.CATALOG / "engines"
ENGINES = Catalog(CATALOG, "planner/catalog/engines")
"""Their files; one may be based on another, or take single values from it."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=2)]
Seconds = Annotated[float, Field(ge=0)]
Feature = Literal[
    "tp", "pp", "ep", "continuous_batching", "paged_cache", "chunked_prefill", "prefix_cache", "speculative", "expert_offload",
    "kv_fp8", "kv_int8",
]  # fmt: skip


class Engine(Spec):
    """One serving stack. Rates are over the chip's kernel curves: 1 = as its measured kernels.

    Time of a pass = max(device + communication, host per layer) + host per step and sequence (latency.py).
    """

    name: str
    description: str = ""
    features: frozenset[Feature]
    vendors: frozenset[str] = frozenset({"NVIDIA", "AMD"})  # whose accelerators it runs on; a CPU and one's own are never refused

    # kernels
    flash_attention: Literal[1, 2, 3] = 2
    fused_kernels: bool = True  # norm, activation and rotary embedding are one kernel each
    repeats_kv_heads: bool = False  # grouped keys and values are copied to every query head before attention
    copies_cache: bool = False  # the cache is copied whole when a token is added
    accumulates_fp16: bool = False  # products of 16-bit numbers are added up in 16 bit, or 8-bit integers are multiplied
    prefill_rate: Rate = 1.0  # of matrix multiplies in prefill
    decode_bandwidth_rate: Rate = 1.0  # of reading 16-bit weights
    attention_bandwidth_rate: Rate = 1.0  # of reading the cache
    prefill_attention_rate: Rate = 1.0
    expert_bandwidth_rate: Rate = 1.0  # of reading experts' weights
    narrow_bandwidth_rate: Rate = 1.0  # of reading fp8 and fp4 weights with arithmetic in that type
    int4_bandwidth_rate: Rate = 0.7  # of reading 4-bit weights that are expanded on the way
    int8_bandwidth_rate: Rate = 0.8  # of reading 8-bit weights that are expanded on the way
    expanding_compute_rate: Rate = 0.7  # of multiplying by weights that are expanded on the way
    expanding_kernel_s: Seconds = 0.0  # more of it for each such matrix multiply
    sm_bytes_per_s: Annotated[float, Field(gt=0)] = 1e13  # 16-bit weights that one multiprocessor reads at most
    expanding_sm_bytes_per_s: Annotated[float, Field(gt=0)] = 1e13  # stored bytes that one expands at most
    decode_grouped_tokens: Annotated[float, Field(ge=0)] = 8.0  # rows lost to tiles per expert when few tokens reach it
    kernel_latency_rate: Annotated[float, Field(ge=0, le=4)] = 1.0  # of the shortest kernels: graphs hide part of it
    collective_rate: Annotated[float, Field(gt=0, le=20)] = 1.0  # seconds of a collective over the measured NCCL ones

    # host
    host_s_per_step: Seconds  # scheduling, sampling, detokenizing: the device waits
    host_s_per_sequence: Seconds = 0.0  # more of it for each sequence of the batch
    host_s_per_layer: Seconds = 0.0  # launching a layer's kernels, beside the device; 0 with CUDA graphs
    host_s_per_expert: Seconds = 0.0  # a Python loop over experts
    int4_host_rate: Annotated[float, Field(gt=0, le=10)] = 1.0  # host time of a layer of 4-bit over one of 16-bit weights
    int8_host_rate: Annotated[float, Field(gt=0, le=10)] = 1.0
    narrow_host_rate: Annotated[float, Field(gt=0, le=10)] = 1.0  # of layers that compute in fp8 or fp4
    host_s_per_stage: Seconds = 0.0  # handing over between devices that hold different layers

    # batching and placement
    pipelined: bool = True  # stages work at the same time on parts of the batch; else one after the other
    prefill_chunk: Annotated[int, Field(ge=0)] = 0  # stages prefill parts of so many tokens at the same time; 0 = whole prompts
    prefill_chunks_in_flight: Annotated[int, Field(gt=0)] = 1_000_000  # of these, at most
    max_batch: Annotated[int, Field(gt=0)] = 256
    prefill_tokens: Annotated[int, Field(gt=0)] = 8192  # most tokens of one prefill pass
    block_size: Annotated[int, Field(gt=0)] = 16

    # memory
    memory_fraction: Annotated[float, Field(gt=0, le=1)] = 0.9  # of the card that it may take
    context_bytes: Annotated[float, Field(ge=0)]  # CUDA context, kernels, graphs
    communicator_bytes: Annotated[float, Field(ge=0)] = 0.25e9
    logits: Literal["last", "all"] = "last"  # positions of a prompt whose logits are computed
    logits_bytes: Annotated[float, Field(ge=0)] = 6.0  # per logit: 16 bit and fp32
    workspace_hidden: Annotated[float, Field(ge=0)] = 6.0  # live tensors of hidden size, per token of a pass
    workspace_ffn: Annotated[float, Field(ge=0)] = 3.0  # live tensors of the feed-forward's inner size, per token
    notes: str = ""


@cache
def load_engine(name: str) -> Engine:
    """The engine of that name (or TOML path); an unknown name is an error that lists the near ones."""
    path = ENGINES.path(name, "serving.engine")
    return Engine.build(ENGINES.table(name if name.endswith(".toml") else path.stem), str(path))


@cache
def engine_lineage(name: str) -> tuple[str, ...]:
    """An engine and those that it is based on."""
    return ENGINES.lineage(name) if name in ENGINES.names() else (name,)


def engine_names() -> list[str]:
    """All engines of the catalog."""
    return ENGINES.names()
