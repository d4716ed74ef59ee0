"""How near the layouts that published runs chose come to the recommended ones, by predicted step time.

Run: .venv/bin/python benchmarks/published_layouts.py. Sources: Korthikanti et al. 2022, arXiv 2205.05198, table 5; NVIDIA-NeMo/
Megatron-Bridge, docs/performance-summary-archive.md at commit 067f987 (26.02 to 26.04.01, DGX-H100; recomputation is not
published there, none is taken); DeepSeek-V3 technical report, arXiv 2412.19437, section 3 (zero-bubble in place of DualPipe, its
exchanges hidden, routing as even as its biases make it, as in planner/catalog/published_runs.toml).
"""

from __future__ import annotations

from typing import Any

import planner
from planner.workload.layout_text import layout_fields

SELECTIVE = {"tp": 8, "sequence_parallel": True, "recompute": "selective"}
RUNS: list[tuple[str, str, str, int, dict[str, Any], dict[str, Any]]] = [
    ("Megatron 22B, 8 A100", "megatron-22b", "dgx-a100-80gb", 1, {"seq_len": 2048, "global_batch_size": 4, "precision": "fp16"},
     {**SELECTIVE, "micro_batch_size": 4}),
    ("GPT-3 175B, 64 A100", "gpt3-175b", "dgx-a100-80gb", 8, {"seq_len": 2048, "global_batch_size": 64, "precision": "fp16"},
     {**SELECTIVE, "pp": 8, "vpp": 3}),
    ("Llama-3 70B FP8, 64 H100", "llama-3-70b", "dgx-h100", 8, {"seq_len": 8192, "global_batch_size": 256, "precision": "fp8"},
     {"tp": 4, "sequence_parallel": True, "pp": 8, "vpp": 5, "zero": 1}),
    ("gpt-oss 120B, 64 H100", "gpt-oss-120b", "dgx-h100", 8, {"seq_len": 4096, "global_batch_size": 1280},
     {"pp": 4, "ep": 8, "zero": 1}),
    ("DeepSeek-V3 FP8, 2048 H800", "deepseek-v3", "hgx-h800", 256,
     {"seq_len": 4096, "global_batch_size": 15360, "precision": "fp8", "routing_skew": 0.01},
     {"pp": 16, "ep": 64, "zero": 1, "schedule": "zero-bubble", "recompute": "selective"}),
]  # fmt: skip
STACKS: dict[str, dict[str, Any]] = {
    "deepseek-v3": {"name": "megatron-zero-bubble", "overlap_expert": 0.95, "dispatcher": "deepep",
                    "recompute_modules": ["layernorm", "mla_up_proj"]},
}  # fmt: skip
"""Of models that a stack of their own trained."""


def main() -> None:
    for label, model, node, nodes, job, layout in RUNS:
        stack = STACKS.get(model, {"name": "megatron-2022" if job.get("precision") == "fp16" else "megatron-core"})
        question: dict[str, Any] = {"model": model, "cluster": {"node": node, "num_nodes": nodes}, "job": job, "framework": stack}
        chosen = planner.plan(**question, layout=layout, explain=False)
        table = planner.search(**question, top=1)
        best = table.iloc[0]
        ratio = chosen.step_time_s / best["step_time_s"]
        near = "in the recommended group or within 5 % of it" if ratio <= 1.05 else "ours is faster by more than 5 %"
        near = near if ratio >= 0.98 or chosen.recommended else "published is bolder than what is recommended at this risk"
        print(f"{label:<26} {ratio - 1:+6.1%} over the recommended of {table.attrs['num_fitting']:,} that fit: {near}")
        print(f"{'':<26} published   {chosen.layout.label}: {chosen.step_time_s:.2f} s, fits with {chosen.fit_probability:.0%}")
        print(f"{'':<26} recommended {best['layout']}: {best['step_time_s']:.2f} s, fits with {best['fit_probability']:.0%}")
        ours = layout_fields(best["layout"])
        if ratio > 1.05 and ours.get("recompute", "none") != chosen.layout.recompute:
            alike = planner.plan(**question, layout={**ours, "recompute": chosen.layout.recompute}, explain=False)
            told = f"{alike.step_time_s:.2f} s, fits with {alike.fit_probability:.0%}"
            print(f"{'':<26} recommended, recomputing as published: {told}")


if __name__ == "__main__":
    main()
