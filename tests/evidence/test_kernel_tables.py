"""Rows beside measured MoE layers and a profiled step of DeepSeek-V3: how far off, and that the page says so."""

from __future__ import annotations

from statistics import median

from places import ROOT

from planner.evidence.kernel_tables import deepseek_step, moe_layers


def test_moe_layers_take_what_was_measured() -> None:
    """NVIDIA/Megatron-LM@d98e8a64, moe_perf/baseline.json: three dispatchers, two precisions, two models, both passes."""
    found = moe_layers()
    assert len(found) == 24
    assert median(abs(c.error) for c in found) <= 0.15
    bf16 = [abs(c.error) for c in found if c.name.endswith("bf16") and c.name.startswith("mixtral")]
    assert max(bf16) <= 0.10


def test_a_step_of_deepseek_v3_by_group_of_kernels() -> None:
    """deepseek-ai/profile-data@449602428a, train.json; 64 H800."""
    by_name = {c.name: abs(c.error) for c in deepseek_step()}
    near = [name for name in by_name if name.startswith(("attention", "grouped", "SwiGLU", "expert combine"))]
    assert len(near) == 5
    assert all(by_name[name] <= 0.25 for name in near)


def test_the_page_holds_every_figure() -> None:
    text = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
    for c in (*moe_layers(), *deepseek_step()):
        assert f"| {c.name} | {c.part} | {1e3 * c.measured_s:.2f} | {1e3 * c.predicted_s:.2f} | {c.error:+.0%} |" in text
