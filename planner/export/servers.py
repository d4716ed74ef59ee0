"""A deployment as the command that starts its server, with the prediction as a comment.

Options: vLLM 0.11 ``vllm serve`` (docs.vllm.ai, engine arguments); SGLang 0.5 python/sglang/srt/server_args.py; TensorRT-LLM
1.0 ``trtllm-serve`` and tensorrt_llm/llmapi/llm_args.py; llama.cpp tools/server/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from planner.common.errors import PlannerError, one_of
from planner.common.message import Message, join_messages
from planner.common.units import GIB
from planner.common.version import VERSION
from planner.export.carried import cluster_fields, literal, model_fields
from planner.export.common import options, refuse, tool_of
from planner.serving.deployment import Deployment
from planner.serving.engine import engine_family
from planner.serving.feasibility import request_tokens
from planner.serving.load import slots_of
from planner.serving.requests import longest_tokens
from planner.serving.spec import Serving

GGUF = {"fp16": "F16", "bf16": "BF16", "q4_0": "Q4_0", "q4_k_m": "Q4_K_M", "q5_k_m": "Q5_K_M", "q6_k": "Q6_K", "q8_0": "Q8_0"}
"""Formats that a llama.cpp file may hold."""
OF_CHECKPOINT = ("int8", "int8-gptq", "int4-awq", "int4-gptq", "fp8-block", "w4a8", "mxfp4", "nvfp4", "nvfp4-weight-only")
"""Formats that a server reads from the checkpoint's own configuration."""


def export_deployment(d: Deployment, server: str) -> dict[str, str]:
    """File names and texts that start ``server`` as planned.

    Raises PlannerError for an unknown server, a deployment of another engine, one that does not fit, and what the server
    cannot express.
    """
    server = tool_of(server, dict.fromkeys(SERVERS, ()))
    if server not in SERVERS:
        raise PlannerError("export to {0!r}: {1}.", server, one_of(server, SERVERS))
    family = engine_family(d.engine.name)
    if family != server:
        what = f"the deployment was planned for {d.engine.name}, whose memory and time are others"
        raise refuse(server, what, Message("plan with serving.engine = {0!r}", server))
    if d.serving.prefill_pool is not None:
        raise refuse(
            server, "serving.prefill_pool: two kinds of servers behind a router", "export each pool as its own deployment"
        )
    if not d.fits:
        raise refuse(server, Message("the deployment does not fit ({0})", join_messages("; ", d.reasons)), "plan one that fits")
    return SERVERS[server](d)


def _places(d: Deployment) -> int:
    """Sequences that one attention group decodes together, as planned."""
    s = d.serving
    batch, slots = (int(s.fullest_group(n)) for n in (s.batch, slots_of(d.times)))
    return max(batch, s.max_batch or min(slots, d.engine.max_batch))


def _context(d: Deployment) -> int:
    return d.serving.max_context or int(request_tokens(d.serving, longest_tokens))


CHECKED = {"vllm": "vLLM 0.11", "sglang": "SGLang 0.5", "tensorrt-llm": "TensorRT-LLM 1.0", "llama.cpp": "llama.cpp b6700"}
OF_REQUESTS = (
    "weights",
    "group_size",
    "bits_per_weight",
    "keep_16_bit",
    "batch",
    "requests_per_s",
    "clients",
    "ttft_target_s",
    "tpot_target_s",
    "e2e_target_s",
    "images",
    "image_patches",
    "prefix_cache_hit_rate",
    "response_cache_hit_rate",
    "response_cache_s",
    "pass_tokens",
    "expert_offload",
    "expert_load",
    "expert_zipf",
    "expert_placement",
    "num_requests",
    "seed",
    "embeds",
    "streamed",
)
"""Fields of a deployment that no server's command says: who asks for what, and how the checkpoint stores its weights."""


def carried(d: Deployment) -> str:
    """``# planner:`` comments with model, cluster, engine and requests, which ``planner plan --from`` reads back."""
    s = d.serving
    found = [*model_fields(d.model), *cluster_fields(d.cluster, sized=True), ("serving.engine", d.engine.name)]
    for name in ("prompt",) if s.embeds else ("prompt", "output"):
        lengths = getattr(s, name).model_dump(exclude={"provenance"}, exclude_unset=True, exclude_none=True)
        plain = lengths.pop("kind", "fixed") == "fixed"
        found += (
            [(f"serving.{name}", int(lengths["mean"]))]
            if plain
            else [
                (f"serving.{name}.kind", getattr(s, name).kind),
                *((f"serving.{name}.{field}", v) for field, v in lengths.items()),
            ]
        )
    found += [
        (f"serving.{name}", value) for name in OF_REQUESTS if (value := getattr(s, name)) != Serving.model_fields[name].default
    ]
    if s.weights == Serving.model_fields["weights"].default:
        found.append(("serving.weights", s.weights))
    if s.dispatcher is not None and not d.engine.dispatcher_option:
        found.append(("serving.dispatcher", s.dispatcher))
    if s.speculative is not None:
        found.append(("serving.speculative.acceptance", s.speculative.acceptance))
    return "".join(f"# planner: {name} = {literal(value)}\n" for name, value in found)


def _comment(d: Deployment) -> str:
    s = d.serving
    kind = f"in {s.weights}" if s.weights not in ("bf16", "fp16", "fp32") else f"({s.weights})"
    lines = [
        f"{d.model.name} {kind} on {d.cluster.name}, {d.engine.name}",
        f"planner {VERSION} predicts: {d.total_bytes / GIB:.1f} of {d.limit_bytes / GIB:.1f} GiB per GPU at batch {s.batch}, "
        + (
            f"{1e3 * (d.ttft_s or 0.0):.0f} ms a vector"
            if s.embeds
            else f"{1e3 * (d.ttft_s or 0.0):.0f} ms to the first token, {1e3 * (d.tpot_s or 0.0):.1f} ms per token"
        ),
    ]
    if d.load is not None and d.load.output_tokens_per_s is not None:
        who = f"{d.load.clients} clients" if d.load.clients else f"{d.load.requests_per_s:g} requests/s"
        made = f"{d.load.requests_per_s:,.0f} vectors/s" if s.embeds else f"{d.load.output_tokens_per_s:,.0f} output tokens/s"
        lines.append(f"under {who}: {made}")
    lines.append("MODEL names the checkpoint: a folder or a repository")
    lines.append(f"written for {CHECKED[engine_family(d.engine.name)]}")
    return "".join(f"# {line}\n" for line in lines) + carried(d)


def _script(d: Deployment, words: list[str]) -> str:
    body = " \\\n  ".join([*words, '"$@"'])
    return f"#!/usr/bin/env bash\n{_comment(d)}set -euo pipefail\n\n{body}\n"


def _quantization(d: Deployment, server: str) -> str | None:
    """The option where the server quantizes on loading; None where the checkpoint says it, or nothing is quantized."""
    weights = d.serving.weights
    if weights in ("bf16", "fp16", "fp32", *OF_CHECKPOINT):
        return None
    found = {"fp8": "fp8", "nf4": "bitsandbytes"}.get(weights)
    if found is None:
        raise refuse(
            server, Message("serving.weights = {0!r} is not a format of this server", weights), "use bf16, fp8, int4-awq or mxfp4"
        )
    return found


def _dtype(d: Deployment) -> str:
    return {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[d.times.setting.compute_dtype]


def _exchange(d: Deployment) -> dict[str, str]:
    """The server's option for the dispatcher that was planned; none where it takes that one by default."""
    way, engine = d.times.setting.dispatcher, d.engine
    if way == "none" or way == engine.default_dispatcher or not engine.dispatcher_option:
        return {}
    name, value = engine.dispatcher_option.removeprefix("--").split()
    return {name: value}


def vllm_files(d: Deployment) -> dict[str, str]:
    """``launch.sh`` with ``vllm serve``."""
    s = d.serving
    wide = s.ep > 1
    if wide and s.dp > 1:
        raise refuse(
            "vllm",
            Message("serving.dp = {0} beside spread experts: they spread over all ranks", s.dp),
            "start one a replica: dp = 1",
        )
    if wide and s.ep % s.tp:
        raise refuse(
            "vllm",
            Message("serving.ep = {0} with tp = {1}: experts spread over tp x dp ranks", s.ep, s.tp),
            "use a multiple of tp",
        )
    spec = s.speculative
    proposals = None
    if spec is not None:
        draft = {"method": "ngram", "prompt_lookup_max": spec.tokens} if spec.draft is None else {"model": spec.draft}
        proposals = f"'{json.dumps({**draft, 'num_speculative_tokens': spec.tokens})}'"
    values: dict[str, Any] = {
        "runner": "pooling" if s.embeds else None,
        "tensor-parallel-size": s.tp,
        "pipeline-parallel-size": s.pp,
        "data-parallel-size": s.ep // s.tp if wide else s.dp,
        "enable-expert-parallel": wide,
        "enable-eplb": s.redundant_experts > 0,
        "eplb-config.num_redundant_experts": s.redundant_experts or None,
        **_exchange(d),
        "dtype": _dtype(d),
        "quantization": _quantization(d, "vllm"),
        "kv-cache-dtype": "fp8" if s.kv_dtype == "fp8" else None,
        "block-size": s.block_size,
        "max-model-len": _context(d),
        "max-num-seqs": _places(d),
        "max-num-batched-tokens": s.chunked_prefill_tokens or s.pass_tokens or d.engine.prefill_tokens,
        "gpu-memory-utilization": d.engine.memory_fraction,
        "cpu-offload-gb": round(d.host_weights_bytes / d.num_gpus / GIB, 1) or None,
        "speculative-config": proposals,
    }
    return {"launch.sh": _script(d, ['vllm serve "${MODEL:?}"', *options(values)])}


def sglang_files(d: Deployment) -> dict[str, str]:
    """``launch.sh`` with SGLang's server."""
    s = d.serving
    if s.speculative is not None:
        raise refuse("sglang", "serving.speculative needs an EAGLE head there", "leave it out, or export to vllm")
    groups = s.attention_groups
    values: dict[str, Any] = {
        "is-embedding": s.embeds,
        "tp-size": s.ranks,
        "pp-size": s.pp,
        "dp-size": groups if groups > 1 else s.dp,
        "enable-dp-attention": groups > 1,
        "ep-size": s.ep if s.ep > 1 else None,
        "enable-eplb": s.redundant_experts > 0,
        "ep-num-redundant-experts": s.redundant_experts or None,
        **_exchange(d),
        "dtype": _dtype(d),
        "quantization": _quantization(d, "sglang"),
        "kv-cache-dtype": "fp8_e4m3" if s.kv_dtype == "fp8" else None,
        "context-length": _context(d),
        "max-running-requests": groups * _places(d),
        "chunked-prefill-size": groups * (s.chunked_prefill_tokens or s.pass_tokens or 0) or d.engine.prefill_tokens,
        "enable-mixed-chunk": s.chunked_prefill_tokens is not None,
        "mem-fraction-static": d.engine.memory_fraction,
        "cuda-graph-bs": " ".join(map(str, s.captured_batches)) or None,
        "disable-cuda-graph-padding": bool(s.captured_batches),
    }
    if groups > 1 and s.dp > 1:
        raise refuse(
            "sglang",
            Message("serving.dp = {0} replicas beside data-parallel attention", s.dp),
            "start one server a replica: dp = 1",
        )
    return {"launch.sh": _script(d, ["python -m sglang.launch_server", '--model-path "${MODEL:?}"', *options(values)])}


def tensorrt_files(d: Deployment) -> dict[str, str]:
    """``launch.sh`` with ``trtllm-serve`` and ``config.yaml`` (YAML whose values are JSON)."""
    s = d.serving
    if s.dp > 1:
        raise refuse("tensorrt-llm", Message("serving.dp = {0}: one server is one replica", s.dp), "start one a replica: dp = 1")
    if s.attention_groups > 1 and s.tp > 1:
        raise refuse(
            "tensorrt-llm",
            Message("serving.tp = {0} with ep = {1}: enable_attention_dp gives each GPU an attention of its own", s.tp, s.ep),
            "use tp = 1, or ep = tp",
        )
    if s.speculative is not None:
        raise refuse("tensorrt-llm", "serving.speculative is not exported", "leave it out, or export to vllm")
    if s.redundant_experts:
        raise refuse(
            "tensorrt-llm",
            Message(
                "serving.redundant_experts = {0}: its load balancer (moe_config.load_balancer) is not exported",
                s.redundant_experts,
            ),
            "leave it out, or export to vllm",
        )
    if s.weights not in ("bf16", "fp16", "fp8", *OF_CHECKPOINT):
        raise refuse(
            "tensorrt-llm", Message("serving.weights = {0!r} is not a format of this server", s.weights), "use bf16, fp8 or nvfp4"
        )
    values: dict[str, Any] = {
        "tp_size": s.ranks,
        "pp_size": s.pp,
        "ep_size": s.ep if s.ep > 1 else None,
        "max_batch_size": _places(d),
        "max_num_tokens": s.chunked_prefill_tokens or s.pass_tokens or d.engine.prefill_tokens,
        "max_seq_len": _context(d),
        "kv_cache_free_gpu_memory_fraction": d.engine.memory_fraction,
        "extra_llm_api_options": "config.yaml",
    }
    config: dict[str, Any] = {
        "enable_chunked_prefill": s.chunked_prefill_tokens is not None,
        "enable_attention_dp": s.attention_groups > 1,
        "kv_cache_config": {"dtype": s.kv_dtype if s.kv_dtype in ("fp8", "int8") else "auto"},
        "batch_wait_timeout_iters": s.prefill_wait_steps,
        "batch_wait_max_tokens_ratio": s.prefill_wait_share,
    }
    if s.captured_batches:
        config["cuda_graph_config"] = {"batch_sizes": list(s.captured_batches), "enable_padding": False}
    text = "".join(f"{name}: {json.dumps(value)}\n" for name, value in config.items())
    start = "env TRTLLM_FORCE_ALLTOALL_METHOD=NotEnabled trtllm-serve" if s.dispatcher == "gather" else "trtllm-serve"
    return {"config.yaml": _comment(d) + text, "launch.sh": _script(d, [f'{start} "${{MODEL:?}}"', *options(values)])}


LOGICAL_BATCH = 2048
"""Tokens of llama-server's logical batch where nobody says them (n_batch of common/common.h): a physical one is no larger."""


def llama_cpp_files(d: Deployment) -> dict[str, str]:
    """``launch.sh`` with ``llama-server``; the cache is shared by the places, so its context is theirs together."""
    s = d.serving
    if s.weights not in GGUF:
        raise refuse(
            "llama.cpp",
            Message("serving.weights = {0!r} is no format of its files", s.weights),
            Message("use {0}", ", ".join(GGUF)),
        )
    if s.dp > 1:
        raise refuse("llama.cpp", Message("serving.dp = {0}: one server is one replica", s.dp), "start one a replica: dp = 1")
    places = _places(d)
    physical = s.pass_tokens or d.engine.prefill_tokens
    if d.model.architecture == "encoder":  # the server refuses a prompt that one physical batch does not hold
        physical = max(physical, _context(d))
    values: dict[str, Any] = {
        "embedding": s.embeds,
        "n-gpu-layers": d.model.num_layers + 1,
        "split-mode": "layer" if s.pp > 1 else "row" if s.tp > 1 else None,
        "ctx-size": places * _context(d),
        "parallel": places,
        "batch-size": physical if physical > LOGICAL_BATCH else None,
        "ubatch-size": physical,
        "cont-batching": True,
    }
    return {"launch.sh": _script(d, [f'llama-server --model "${{MODEL:?a {GGUF[s.weights]} file}}"', *options(values)])}


SERVERS: Mapping[str, Callable[[Deployment], dict[str, str]]] = {
    "vllm": vllm_files,
    "sglang": sglang_files,
    "tensorrt-llm": tensorrt_files,
    "llama.cpp": llama_cpp_files,
}
