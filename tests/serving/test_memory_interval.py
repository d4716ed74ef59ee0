"""How sure serving's memory is: as far as its weights are counted exactly, whatever the chip and the number of GPUs."""

import math

import pytest

from planner.serving import serve
from planner.serving.deployment import Deployment
from planner.serving.intervals import certainty
from planner.studies.sizing import sizes

NODE = {"node": "dgx-a100-80gb", "num_gpus": 1}


def served(**spec: object) -> Deployment:
    found: Deployment = serve(model="llama-2-13b", cluster=NODE, serving={"prompt": 512, "output": 128, **spec})
    return found


def reach(d: Deployment) -> float:
    """Logarithm of upper over expected bytes."""
    found = d.intervals["total_bytes"]
    return math.log(found.upper / found.expected)


@pytest.mark.parametrize("weights", ["int4-awq", "int4-gptq", "int8-weight-only"])
def test_quantized_weights_are_less_sure_than_those_of_16_bit(weights: str) -> None:
    """Which parts a quantized checkpoint keeps wide differs by tool; 16-bit weights are two bytes each."""
    assert reach(served(weights=weights)) > reach(served(weights="bf16"))


def test_weights_of_16_bit_are_known_to_a_tenth() -> None:
    """Of 77 published measurements of 16-bit weights all but one lie within 11 % of weights, cache and workspace."""
    assert reach(served()) < math.log(1.11)
    assert reach(served(engine="sglang")) == pytest.approx(reach(served()))


def test_more_gpus_are_as_sure() -> None:
    many = serve(model="llama-2-13b", cluster=NODE | {"num_gpus": 8}, serving={"prompt": 512, "output": 128, "tp": 8})
    assert reach(many) == pytest.approx(reach(served()))


def test_weights_in_the_format_that_the_checkpoint_states_are_as_sure_as_16_bit() -> None:
    own = serve(model="gpt-oss-20b", cluster=NODE, serving={"prompt": 512, "output": 128})
    assert own.serving.weights == "mxfp4"
    assert reach(own) == pytest.approx(reach(served()))
    other = serve(model="gpt-oss-20b", cluster=NODE, serving={"prompt": 512, "output": 128, "weights": "int4-awq"})
    assert reach(other) > reach(own)


def test_gpt_oss_fits_one_card_of_80_gb_as_its_makers_say() -> None:
    """Model card, arXiv 2508.10925, on quantization: gpt-oss-120b fits on a single 80 GB GPU, gpt-oss-20b on 16 GB."""
    (row,) = sizes("gpt-oss-120b", "serve", accelerator="h100-sxm5-80gb").rows
    assert row.num_gpus == 1
    (small,) = sizes("gpt-oss-20b", "serve", accelerator="rtx-4080-16gb").rows
    assert small.num_gpus == 1


@pytest.mark.parametrize("load", [{}, {"requests_per_s": 0.5, "num_requests": 500}, {"clients": 8, "num_requests": 100}])
def test_whether_it_fits_is_told_from_the_interval_of_its_memory_alone(load):
    """The interval that all are asked for with; no load is simulated for it."""
    found = served(**load)
    likely, said = found.fit_probability, found.certainty
    assert "intervals" not in vars(found)
    every = found.intervals["total_bytes"]
    assert likely == every.probability_below(found.card_bytes)
    assert said == certainty(every, found.card_bytes, found.fits)
