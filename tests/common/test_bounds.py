"""What can never be, by the name of a field: less than no bytes, seconds, dollars or tokens, more than all of something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from planner.common.errors import PlannerError
from planner.common.spec import Spec
from planner.hardware.cluster import load_accelerator, load_node
from planner.hardware.curves import load_curves
from planner.lifecycle.spec import Run
from planner.model.catalog import load_model
from planner.prices.ownership import constants
from planner.serving.engine import load_engine
from planner.workload.framework import load_framework
from planner.workload.job import Job

AMOUNTS = re.compile(
    r".*_(bytes|s|flops|usd|kg|tokens|layers|experts|heads|streams|images|patches|per_s|per_layer|per_kernel|steps)"
)
SHARES = re.compile(r".*_(share|probability)|dropout|.*_dropout")


@cache
def examples() -> dict[str, Spec]:
    """One of each that holds many numbers."""
    job = Job.build({"seq_len": 128, "global_batch_size": 8}, "job")
    found: tuple[Spec, ...] = (
        load_engine("vllm"), load_framework("megatron-core"), load_curves("h100"), load_accelerator("h100-sxm5-80gb"),
        load_node("dgx-h100"), load_model("deepseek-v3"), constants(), job,
    )  # fmt: skip
    return {type(one).__name__: one for one in found}


def numbers(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    for kind, one in examples().items():
        for name in type(one).model_fields:
            value = getattr(one, name)
            if pattern.fullmatch(name) and isinstance(value, int | float) and not isinstance(value, bool):
                yield kind, name


def refused(kind: str, name: str, value: Any) -> None:
    with pytest.raises(PlannerError, match=name):
        examples()[kind].replaced(**{name: value})


@pytest.mark.parametrize(("kind", "name"), list(numbers(AMOUNTS)))
def test_there_is_no_less_than_nothing(kind: str, name: str) -> None:
    whole = isinstance(getattr(examples()[kind], name), int)
    refused(kind, name, -1 if whole else -1e-9)


@pytest.mark.parametrize(("kind", "name"), list(numbers(SHARES)))
def test_a_part_is_of_all_at_most(kind: str, name: str) -> None:
    refused(kind, name, -1e-9)
    refused(kind, name, 1.0 + 1e-9)


@pytest.mark.parametrize(("kind", "name"), list(numbers(re.compile(".*"))))
def test_no_number_is_so_large_that_a_product_is_infinite(kind: str, name: str) -> None:
    refused(kind, name, 10**30 if isinstance(getattr(examples()[kind], name), int) else 1e300)


@pytest.mark.parametrize(("given", "said"), [(0, "greater than 0"), (-1.0, "greater than 0"), (1e-300, "at least 1e-24")])
def test_what_divides_is_not_so_small_that_a_quotient_is_infinite(given: float, said: str) -> None:
    with pytest.raises(PlannerError, match=f"^run.gpu_mtbf_s = {given}: must be {said}"):
        Run.build({"gpu_mtbf_s": given}, "run")
