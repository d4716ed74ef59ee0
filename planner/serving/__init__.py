"""Serving: memory, latency, throughput, queueing and cost of a model that answers requests.

>>> from planner.serving import serve
>>> answer = serve(
...     model="llama-3.1-8b", cluster={"node": "dgx-h100", "num_gpus": 1},
...     serving={"engine": "vllm", "weights": "fp8", "prompt": 1024, "output": 256, "batch": 8, "requests_per_s": 4.0,
...              "num_requests": 500},
... )
>>> answer.fits, answer.load.stable
(True, True)

``serving`` takes the fields of ``Serving`` (spec.py); ``prompt`` and ``output`` are numbers or the fields of ``Lengths``.
What comes back is a ``Deployment`` (deployment.py): ``fits certainty stability reasons nearest warnings notes``; bytes
(``weights_bytes``, ``kv_bytes_per_token``, ``kv_bytes_per_sequence``, ``memory_bytes`` by kind, ``total_bytes limit_bytes``);
``max_batch max_context max_context_bound``; ``ttft_s tpot_s e2e_s``, ``decode_tokens_per_s output_tokens_per_s``,
``requests_per_s``; ``load`` (percentiles from the simulation, ``stable``), ``expense`` (dollars, watts, joules),
``intervals`` (name -> lower, expected, upper, why), ``to_dict()``. ``curve(deployment)``,
``load_curve(deployment)`` and ``client_curve(deployment)`` (curves.py) are pandas frames over batches, request rates and clients.
Figures of time are None when it does not fit.
``engine_names()``, ``FORMATS`` and ``Serving.model_fields`` fill menus; ``planner.sizes()`` says which GPUs.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "serve": "deploy",
    "Deployment": "deployment",
    "Serving": "spec",
    "Lengths": "spec",
    "Speculative": "spec",
    "FORMATS": "weight_formats",
    "Engine": "engine",
    "engine_names": "engine",
    "load_engine": "engine",
    "Load": "load",
    "simulate": "batching",
    "curve": "curves",
    "load_curve": "curves",
    "client_curve": "curves",
    "Server": "batching",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'planner.serving' has no attribute {name!r}")
    return getattr(importlib.import_module(f"planner.serving.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
