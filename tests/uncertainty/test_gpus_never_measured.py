"""An interval of serving is no narrower for a GPU on which nobody has measured the software than for one that was measured."""

from __future__ import annotations

from itertools import product

import pytest

from planner.evidence.serving.study import FIGURES
from planner.serving.deploy import serve
from planner.uncertainty.effects import SERVING, SERVING_UNCERTAINTY, load_effects
from planner.uncertainty.subject import Subject

NEVER = {"generation": "Elsewhere", "curves": "elsewhere"}
CARDS = ("rtx-3090-24gb", "l40s", "mi300x-192gb", "v100-sxm2-32gb", "b200-sxm-180gb")


@pytest.mark.parametrize("metric", SERVING)
def test_a_gpu_that_nobody_measured_is_no_surer(metric: str) -> None:
    """Of every software on every generation that was measured: dense models and mixtures, each figure, precision and die."""
    known = load_effects(SERVING_UNCERTAINTY)[metric]
    kinds = product(("dense", "moe"), FIGURES[metric], ("16", "4", "fp8"), ("one GPU", "several GPUs"))  # type: ignore[index]
    asked = [
        Subject(
            framework=m["framework"], root=m["root"], generation=m["generation"], curves=m["curves"], family=family,
            figure=figure, precision=precision, job=job, num_nodes=1, num_gpus=1, parameters=8e9, die="compute",
        )
        for m, (family, figure, precision, job) in product(known.measured, list(kinds))
    ]  # fmt: skip
    assert len(asked) > 30
    for s in asked:
        measured = float(known.standing(s).deviation)
        for die in ("compute", "graphics", "other"):
            elsewhere = known.standing(s.__class__(**{**vars(s), **NEVER, "die": die}))
            assert float(elsewhere.deviation) >= measured * (1.0 - 1e-9), (s.framework, s.generation, s.figure)


@pytest.mark.parametrize("engine", ["vllm-0.13", "sglang-0.5"])
@pytest.mark.parametrize("card", CARDS)
def test_an_answer_is_no_surer_on_a_gpu_that_nobody_measured(engine: str, card: str) -> None:
    """Clients of one model in 16 bit, on H100s, where the engine was measured, and elsewhere."""

    def widths(name: str) -> list[float]:
        asked = {"engine": engine, "weights": "fp16", "prompt": 512, "output": 128, "clients": 4}
        found = serve(model="llama-3.1-8b", cluster={"accelerator": name, "num_gpus": 1}, serving=asked).intervals
        return [found[f].upper / found[f].lower for f in ("load.ttft_s.mean", "load.tpot_s.mean", "load.capacity_requests_per_s")]

    of_root = {m["curves"] for m in load_effects(SERVING_UNCERTAINTY)["decode"].measured if m["framework"] == engine}
    assert "h100" in of_root
    for elsewhere, measured in zip(widths(card), widths("h100-sxm5-80gb"), strict=True):
        assert elsewhere >= measured * (1.0 - 1e-9)
