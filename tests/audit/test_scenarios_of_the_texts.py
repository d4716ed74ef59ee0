"""What the audit tells a reader to run answers, and has the figures that the verdict gives.

A plan takes the simplest of the layouts within 2 % of the fastest, which the audit takes: that much, and rounding, may differ.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from command_line import Run
from places import ROOT

from planner.audit.claims import catalog_claims
from planner.audit.verdicts import Judgement, audit_articles
from planner.common.units import GB, HOUR_S

DO = {claim.id: claim.do for file in catalog_claims() for claim in file.claims}
MOST = 0.03
Cases = Mapping[str, Mapping[str, Any]]


def _hours(case: Mapping[str, Any]) -> float:
    return float(case["run_s"]) / HOUR_S


def _less(case: Mapping[str, Any], than: Mapping[str, Any], name: str) -> float:
    return 1.0 - float(case[name] / than[name])


FIGURES: dict[tuple[str, str], Callable[[Cases], float]] = {
    ("C03", "hours per epoch, mixture"): lambda c: _hours(c["4x7B, 8 x A100 (says 12 h)"]),
    ("C03", "hours per epoch, dense 33B"): lambda c: _hours(c["33B, 8 x A100 (says 27 h)"]),
    ("C08", "fullest expert above the mean"): lambda c: c["the article's mix"]["expert_load"] - 1.0,
    ("C08", "what that imbalance costs in step time stays within 10 %"): lambda c: (
        c["the article's mix"]["wall_s"]["expected"] / c["even experts"]["wall_s"]["expected"] - 1.0
    ),
    ("C10", "all memory of serving 13 B in 16 bits, three requests"): lambda c: c["dense 13B, fp16"]["total_bytes"] / GB,
    ("C10", "latency of the mixture in 16 bits, three requests in flight"): lambda c: 1e3 * c["4x7B MoE, fp16"]["e2e_s"],
    ("C10", "latency of the dense 13 B, part of the mixture's, three requests in flight"): lambda c: (
        c["dense 13B, fp16"]["e2e_s"] / c["4x7B MoE, fp16"]["e2e_s"]
    ),
    ("C10", "queries per second of the mixture in 16 bits, three in flight"): lambda c: c["4x7B MoE, fp16"]["requests_per_s"],
    ("C10", "queries per second of the dense 13 B, three in flight"): lambda c: c["dense 13B, fp16"]["requests_per_s"],
    ("S06", "memory saved by mixed precision"): lambda c: _less(c["LiteBert"], c["LiteBert, fp32"], "peak_total_bytes"),
    ("S07", "training speed-up of three cards over PCIe"): lambda c: _hours(c["LiteBert, one GPU"]) / _hours(c["LiteBert"]),
    ("S07", "18 h are enough on one card: LiteBert, 500,000 texts, ten epochs"): lambda c: _hours(c["LiteBert, one GPU"]),
    ("S07", "6 h are enough on three cards"): lambda c: _hours(c["LiteBert"]),
    ("O03", "most that better communication can win, 13 B on 32 A100, the fastest layout"): lambda c: (
        _hours(c["tensor parallel over a server"]) / _hours(c["chosen layout"]) - 1.0
    ),
    ("O04", "steps between checkpoints that lose least; 1000 lies within a factor of two"): lambda c: (
        c["chosen layout"]["checkpoint_interval_s"] / c["chosen layout"]["step_time_s"]["expected"]
    ),
    ("L02", "total parameters over those of a dense model of the same compute"): lambda c: (
        c["8 experts, top-2, one shared"]["parameters_total"] / c["dense, equal compute"]["parameters_total"]
    ),
    ("L02", "compute of a token, part of a dense model's of the same size"): lambda c: (
        c["dense, equal compute"]["parameters_total"] / c["dense, equal size"]["parameters_total"]
    ),
    ("I02", "memory, part of LoRA on all layers, without recomputation"): lambda c: (
        1.0 - _less(c["LoRA, last 4 layers"], c["LoRA, q and v"], "peak_total_bytes")
    ),
    ("I02", "step time, part of LoRA on all layers, without recomputation"): lambda c: (
        1.0 - _less(c["LoRA, last 4 layers"], c["LoRA, q and v"], "step_time_s")
    ),
    ("I03", "tokens per second, 16 bits, 24 GB card (L4)"): lambda c: c["fp16, eager"]["decode_tokens_per_s"],
    ("I03", "tokens per second, quantized, same card"): lambda c: c["int8, eager"]["decode_tokens_per_s"],
    ("I03", "quantized over 16 bits, speed"): lambda c: (
        c["int8, eager"]["decode_tokens_per_s"] / c["fp16, eager"]["decode_tokens_per_s"]
    ),
    ("I03", "tokens per second, distilled and quantized"): lambda c: c["student 0.7B, int8, eager"]["decode_tokens_per_s"],
}
"""The figure of a claim's check, from what its command prints of its cases."""
CONDITIONS = {("O03", "most that better communication can win, 13 B on 32 A100, the fastest layout")}
"""Those whose command shows the condition's figure: what was there before."""


@pytest.fixture(scope="module")
def judged() -> dict[str, Judgement]:
    return {one.id: one for reading in audit_articles() for one in reading.judgements}


@pytest.mark.parametrize("claim", list(dict.fromkeys(claim for claim, _ in FIGURES)))
def test_the_command_of_a_claim_shows_the_figures_of_its_verdict(
    claim: str, judged: dict[str, Judgement], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    code, out, err = run(*shlex.split(DO[claim])[1:], "--json")
    assert code == 0, err
    cases = {case["label"]: case for case in json.loads(out)["cases"]}
    findings = {finding.what["en"]: finding for finding in judged[claim].findings}
    for (name, what), figure in FIGURES.items():
        if name == claim:
            finding = findings[what]
            said = finding.condition_figure if (name, what) in CONDITIONS else finding.figure
            assert said is not None
            margin = {"abs": MOST} if what.startswith("most that") else {"rel": MOST}
            assert figure(cases) == pytest.approx(said.expected, **margin), what


@pytest.mark.parametrize("name", ["chatlaw2-moe", "open-models-by-size", "qwen-7b-and-student", "serving/open-models-by-size"])
def test_a_scenario_of_the_texts_answers_each_of_its_questions(name: str, run: Run) -> None:
    """Time or speed and dollars of what fits, and a reason of what does not."""
    file, command = ROOT / "scenarios" / f"{name}.toml", "serve" if name.startswith("serving") else "compare"
    code, out, err = run(command, file, "--json")
    assert code == 0, err
    for case in json.loads(out)["cases"]:
        if not case["fits"]:
            assert case["reasons"], case["label"]
        elif command == "compare":
            assert case["run_s"] > 0
            assert case["cost_usd"] > 0
            assert case["outlook"]["budget_usd"]["expected"] > case["cost_usd"]
        else:
            assert case["e2e_s"] > 0
            assert case["expense"]["usd_per_million_tokens"] > 0


def test_uneven_experts_take_longer_than_balanced_ones(run: Run) -> None:
    """The mixture at the text's batch of 32, too; [run] counts in ``compare``."""
    code, out, err = run("compare", ROOT / "scenarios" / "llama4-style-moe.toml", "--json")
    assert code == 0, err
    cases = {case["label"]: case for case in json.loads(out)["cases"]}
    assert cases["uneven experts"]["run_s"] > 1.02 * cases["balanced"]["run_s"]
    uneven, balanced = (cases[name]["outlook"]["budget_usd"]["expected"] for name in ("uneven experts", "balanced"))
    assert uneven > balanced
    assert cases["batch of 32"]["run_s"] > cases["balanced"]["run_s"]
