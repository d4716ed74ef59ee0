"""Where no engine is named, one is taken that runs on the accelerator."""

import pytest

import planner
from planner.common.errors import PlannerError
from planner.common.units import GIB
from planner.hardware.cluster import accelerator_names, load_accelerator, runs_on
from planner.scenarios.quick_serving import quick_serving
from planner.serving.engine import engine_names, load_engine, usual_engine

SHORT = {"prompt": 512, "output": 64}


def test_the_usual_engine_runs_wherever_one_of_the_usual_ones_does():
    for name in accelerator_names():
        card = load_accelerator(name)
        able = [engine for engine in ("vllm", "llama.cpp") if runs_on(card, load_engine(engine))]
        assert usual_engine(card) == (able or ["vllm"])[0], name
        assert able or not any(runs_on(card, load_engine(engine)) for engine in engine_names()), name


def test_a_laptop_is_answered_and_says_with_what():
    served = planner.serve(model="llama-3-8b", cluster="m3-max", serving=SHORT)
    assert served.engine.name == "llama.cpp"
    named = planner.serve(model="llama-3-8b", cluster="m3-max", serving={**SHORT, "engine": "llama.cpp"})
    assert served.to_dict() == named.to_dict()


@pytest.mark.parametrize(("weights", "engine"), [("q4_k_m", "llama.cpp"), ("Q6_K", "llama.cpp"), ("fp8", "vllm")])
def test_a_format_that_is_an_engines_own_is_served_by_it(weights: str, engine: str):
    asked = {"model": "llama-3-8b", "cluster": {"accelerator": "h100-sxm5-80gb", "num_gpus": 1}}
    served = planner.serve(**asked, serving={**SHORT, "weights": weights})
    assert served.to_dict() == planner.serve(**asked, serving={**SHORT, "weights": weights, "engine": engine}).to_dict()
    rows = planner.sizes("llama-3-8b", "serve", accelerator="h100", weights=weights).rows
    named = planner.sizes("llama-3-8b", "serve", accelerator="h100", weights=weights, engine=engine).rows
    assert [row.memory_bytes for row in rows] == [row.memory_bytes for row in named]


def test_an_engine_that_is_named_is_not_replaced():
    with pytest.raises(PlannerError, match="does not run on Apple's"):
        planner.serve(model="llama-3-8b", cluster="m3-max", serving={**SHORT, "engine": "vllm"})
    sizes = planner.sizes("llama-3-8b", "serve", accelerator="m3-max,h100")
    assert {row.accelerator for row in sizes.rows} == {"apple-m3-max-128gb", "h100-sxm5-80gb"}


@pytest.mark.parametrize("card", ["rtx-4090", "v100-sxm2-32gb"])
def test_ollama_serves_four_bits_where_no_weights_are_named_and_says_so(card: str) -> None:
    """However it is asked: a model and GPUs, the library, sizes."""
    for engine in ("Ollama", "ollama 0.5.4"):
        named = quick_serving("qwen2.5-7b", card, {"engine": engine})[0].cases[0].serve()
        asked = {"model": "qwen2.5-7b", "cluster": {"accelerator": named.cluster.accelerator.name, "num_gpus": 1}}
        served = planner.serve(**asked, serving={"prompt": 1024, "output": 256, "engine": engine})
        for found in (named, served):
            assert found.serving.weights == "q4_k_m"
            assert f"weights in q4_k_m, as the tags of {engine} that name no format" in " ".join(found.notes)
            assert found.fits
    sizes = planner.sizes("qwen2.5-7b", "serve", accelerator=card, engine="ollama")
    assert (sizes.weights, sizes.rows[0].total_bytes < 7 * GIB) == ("q4_k_m", True)
    for given in ({"engine": "Ollama", "weights": "q8_0"}, {"engine": "llama.cpp"}):
        other = quick_serving("qwen2.5-7b", card, given)[0].cases[0].serve()
        assert other.serving.weights == given.get("weights", "bf16" if card == "rtx-4090" else "fp16")
        assert "tags" not in " ".join(other.notes)
    stored, _ = quick_serving("gpt-oss-20b", card, {"engine": "ollama"})
    assert "weights" not in stored.cases[0].tables["serving"]
    assert stored.cases[0].serve().serving.weights == "mxfp4"
