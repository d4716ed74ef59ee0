"""Serving a model whose layers attend to images (Llama 3.2 Vision): cache by hand, text alone, engines that run it."""

from __future__ import annotations

from typing import Any

import pytest

import planner
from planner.common.errors import PlannerError
from planner.serving.rows import image_chance

ASK: dict[str, Any] = {"cluster": "4xh100"}
SHORT: dict[str, Any] = {"prompt": 1024, "output": 256, "engine": "sglang", "tp": 4}


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(("name", "layers"), [("llama-3.2-11b-vision", 8), ("llama-3.2-90b-vision", 20)])
def test_an_image_keeps_its_keys_and_values_in_each_such_layer(name: str, layers: int, images: int) -> None:
    """Four tiles of 40 x 40 patches and a class token; keys and values of 8 heads of 128 in 16 bit."""
    text, seen = (planner.serve(model=name, **ASK, serving={**SHORT, "images": n}) for n in (0, images))
    by_hand = layers * images * 4 * (40 * 40 + 1) * 2 * 8 * 128 * 2
    assert seen.kv_bytes_per_sequence - text.kv_bytes_per_sequence == by_hand
    assert seen.max_batch < text.max_batch


def test_text_alone_passes_the_layers_of_the_text() -> None:
    """Llama 3.2 11B Vision on text is Llama 3.1 8B with more weights to hold."""
    sees, reads = (planner.serve(model=name, **ASK, serving=SHORT) for name in ("llama-3.2-11b-vision", "llama-3.1-8b"))
    assert sees.tpot_s == pytest.approx(reads.tpot_s)
    assert sees.ttft_s == pytest.approx(reads.ttft_s)
    assert sees.kv_bytes_per_sequence == reads.kv_bytes_per_sequence
    assert sees.weights_bytes - reads.weights_bytes == 2 * (sees.parameters_total - reads.parameters_total)


def test_each_image_costs_time_in_prefill_and_in_decoding() -> None:
    served = [planner.serve(model="llama-3.2-11b-vision", **ASK, serving={**SHORT, "images": n}) for n in (0, 1, 2, 4)]
    for figure in ("ttft_s", "tpot_s"):
        values = [getattr(one, figure) for one in served]
        assert sorted(values) == values
        assert len(set(values)) == 4


def test_few_images_cost_little() -> None:
    """One request in ten has an image: of ten that decode together, 1 - 0.9^10 = 65 % of the passes hold one; from none to a few
    is no jump."""
    served = {n: planner.serve(model="llama-3.2-11b-vision", **ASK, serving={**SHORT, "images": n}) for n in (0, 1e-6, 0.1, 1)}
    for figure in ("ttft_s", "tpot_s"):
        none, hardly, some, one = (getattr(served[n], figure) for n in (0, 1e-6, 0.1, 1))
        assert hardly == pytest.approx(none, rel=1e-4)
        assert some - none == pytest.approx(0.1 * (one - none), rel=0.02)  # one request: a pass holds an image or it does not
    assert image_chance_of(0.1, 10.0) == pytest.approx(1 - 0.9**10)
    assert image_chance_of(1.0, 10.0) == image_chance_of(2.0, 10.0) == 1.0


def image_chance_of(images: float, sequences: float) -> float:
    d = planner.serve(model="llama-3.2-11b-vision", **ASK, serving={**SHORT, "images": images})
    return float(image_chance(d.times.setting, d.times.shape("decode", sequences, 1.0, 1024.0)))


def test_an_engine_without_such_layers_is_refused_and_another_is_taken() -> None:
    asked = {key: value for key, value in SHORT.items() if key != "engine"}
    with pytest.raises(PlannerError, match=r"serving\.engine = 'vllm-v1'.*layers that attend to images.*sglang"):
        planner.serve(model="llama-3.2-11b-vision", **ASK, serving={**asked, "engine": "vllm"})
    assert planner.serve(model="llama-3.2-11b-vision", **ASK, serving=asked).engine.name.startswith("sglang")
    with pytest.raises(PlannerError, match="attends to images"):
        planner.serve(model="llama-3.2-11b-vision", cluster="m3-max", serving={"prompt": 1024, "output": 256})


def test_where_no_engine_is_left_the_message_names_none() -> None:
    """No engine that runs layers of images keeps its cache in int8."""
    with pytest.raises(PlannerError, match=r"kv_dtype = 'int8': .*nor has any engine of the catalog that runs llama-3\.2-11b"):
        planner.serve(model="llama-3.2-11b-vision", **ASK, serving={**SHORT, "images": 1, "kv_dtype": "int8"})
