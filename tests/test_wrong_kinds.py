"""Public functions and wrong kinds: whatever stands in an argument's place, the answer is an answer or a PlannerError.

One good call of each function; then each argument in turn is replaced by what people hand over by mistake. What no argument can
mean (an arbitrary object) is refused in every place, and the error names a field.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

import planner
from planner.common.errors import PlannerError
from planner.layout_search.question import SearchTerms

SUBJECT: dict[str, Any] = {
    "model": {"name": "gpt2"},
    "cluster": {"accelerator": "rtx-4090", "num_gpus": 1},
    "framework": "fsdp",
    "job": {"seq_len": 512, "global_batch_size": 4, "num_steps": 10},
}
TUNING: dict[str, Any] = {
    **SUBJECT,
    "framework": {"name": "fsdp"},
    "job": {**SUBJECT["job"], "kind": "lora", "adapter": {"rank": 8}},
}
USUAL: dict[str, Any] = {"objective": "time", "top": 2, "risk": 0.1, "allow": ()}
"""Of a search, what may not be None."""
LAYOUT: dict[str, Any] = {"micro_batch_size": 1, "zero": 3}


@cache
def plan() -> planner.Plan:
    return planner.plan(**SUBJECT, layout=LAYOUT, price=2.0, explain=False)


@cache
def whole_run() -> planner.WholeRun:
    return planner.expected_run(plan(), {"num_simulations": 100})


@cache
def evaluation() -> planner.Evaluation:
    return planner.evaluate(**SUBJECT, layouts=[LAYOUT])


def serving() -> dict[str, Any]:
    return {"weights": "bf16", "prompt": 128, "output": 16, "batch": 2}


GOOD: dict[str, Callable[[], dict[str, Any]]] = {
    "Accelerator.peak": lambda: {"self": planner.load_accelerator("rtx-4090"), "dtype": "bf16"},
    "Evaluation.to_frame": lambda: {"self": evaluation(), "usd_per_gpu_hour": 2.0, "num_steps": 10},
    "accelerator_names": dict,
    "bill_of": lambda: {"result": whole_run(), "costs": {}, "today": None},
    "candidates": lambda: {**SUBJECT, "allow": ()},
    "cluster": lambda: {"node": "dgx-h100", "num_nodes": 1, "num_gpus": None, "accelerator": None},
    "derive": lambda: {"base": planner.load_model("gpt2"), "changes": planner.Changes(vocab_size=1000), "name": "small"},
    "evaluate": lambda: {**SUBJECT, "layouts": [LAYOUT]},
    "expected_run": lambda: {"answer": plan(), "run": {"num_simulations": 100}},
    "export_plan": lambda: {"plan": plan(), "stack": "accelerate-fsdp"},
    "find_price": lambda: {"accelerator": "h100-sxm5-80gb", "term": "on-demand", "provider": None},
    "framework_names": dict,
    "load_accelerator": lambda: {"name": "rtx-4090"},
    "load_framework": lambda: {"name": "fsdp"},
    "load_model": lambda: {"name": "gpt2"},
    "load_node": lambda: {"name": "dgx-h100"},
    "model_names": dict,
    "node_names": dict,
    "on_equal_terms": lambda: {"labels": ["a", "b"], "plans": [plan(), plan()], "at": "flops"},
    "plan": lambda: {**SUBJECT, "layout": LAYOUT, "price": 2.0, "explain": False, "risk": 0.1, "allow": ()},
    "plan_many": lambda: {"questions": [{**SUBJECT, "layout": LAYOUT}]},
    "ratios": lambda: {"plan": plan(), "first": plan()},
    "read_scenario": lambda: {"path": "llama-3.1-8b-h100-lora"},
    "search": lambda: {**dict.fromkeys(SearchTerms.__annotations__), **SUBJECT, **USUAL},
    "serve": lambda: {"model": "gpt2", "cluster": "1xrtx-4090", "serving": serving(), "price": 1.0},
    "sizes": lambda: {"model": "gpt2", "purpose": "lora"},
    "sweep": lambda: {"scenario": {**SUBJECT, "layout": LAYOUT}, "vary": {"job.seq_len": [512]}},
    "trainable_parameters": lambda: {"model": planner.load_model("gpt2"), "job": planner.Job(**SUBJECT["job"])},
    "tuning_choices": lambda: {"tables": TUNING, "methods": ("lora",)},
}
WRONG: list[Any] = [
    None, "", "x", -1, 0, 1.5, True, 10**400, 10**5000, math.inf, math.nan, [], {}, [1], [None], [object()], [10**5000], {"a": 1},
    {"a": object()}, {1: 2}, {object()}, object(),
]  # fmt: skip


def named(name: str) -> Callable[..., Any]:
    found: Any = planner
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def arguments() -> list[tuple[str, str]]:
    found = []
    for name, good in GOOD.items():
        parameters = inspect.signature(named(name)).parameters.values()
        names = [one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        found += [(name, argument) for argument in dict.fromkeys([*names, *good()]) if argument != "self"]
    return found


def test_every_public_function_is_asked() -> None:
    functions = {name for name in planner.__all__ if inspect.isfunction(getattr(planner, name))}
    assert functions <= set(GOOD)


@pytest.mark.parametrize(("name", "argument"), arguments())
def test_a_wrong_kind_is_refused_in_words(name: str, argument: str) -> None:
    ask, good = named(name), GOOD[name]()
    for wrong in WRONG:
        try:
            ask(**{**good, argument: wrong})
        except PlannerError as refused:
            message, field = str(refused), refused.field
        else:
            message = field = ""
        assert "\n" not in message
        if type(wrong) is object:
            assert message, f"{argument} = object() was taken"
            assert field, message
