"""Public functions and wrong kinds: whatever stands in an argument's place, the answer is an answer or a PlannerError.

One good call of each function; then each argument in turn is replaced by what people hand over by mistake. What no argument can
mean (an arbitrary object) is refused in every place, and the error names a field.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
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
    "expected_run": lambda: {"answer": plan(), "run": {"num_simulations": 100}, "power_w_per_gpu": 900.0},
    "export_plan": lambda: {"plan": plan(), "tool": "accelerate-fsdp"},
    "find_price": lambda: {"accelerator": "h100-sxm5-80gb", "term": "on-demand", "provider": None},
    "framework_names": dict,
    "load_accelerator": lambda: {"name": "rtx-4090"},
    "load_framework": lambda: {"name": "fsdp"},
    "load_model": lambda: {"name": "gpt2"},
    "load_node": lambda: {"name": "dgx-h100"},
    "model_names": dict,
    "node_names": dict,
    "on_equal_terms": lambda: {"labels": ["a", "b"], "plans": [plan(), plan()], "at": "flops", "served_tokens": 1e9},
    "plan": lambda: {**SUBJECT, "layout": LAYOUT, "price": 2.0, "explain": False, "risk": 0.1, "allow": ()},
    "plan_many": lambda: {"questions": [{**SUBJECT, "layout": LAYOUT}]},
    "ratios": lambda: {"plan": plan(), "first": plan()},
    "read_scenario": lambda: {"path": "llama-3.1-8b-h100-lora"},
    "search": lambda: {**dict.fromkeys(SearchTerms.__annotations__), **SUBJECT, **USUAL},
    "serve": lambda: {"model": "gpt2", "cluster": "1xrtx-4090", "serving": serving(), "price": 1.0},
    "sizes": lambda: {"model": "gpt2", "purpose": "lora"},
    "sizes serve": lambda: {"model": "gpt2", "purpose": "serve", "accelerator": "rtx-4090", "max_gpus": 1},
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
    for part in name.partition(" ")[0].split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def arguments() -> list[tuple[str, str]]:
    found = []
    for name, good in GOOD.items():
        parameters = inspect.signature(named(name)).parameters.values()
        names = [one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        found += [(name, argument) for argument in dict.fromkeys([*names, *good()]) if argument != "self"]
    return found


def stated(spec: Any) -> dict[str, Any]:
    """The fields that a file states."""
    return {name: getattr(spec, name) for name in spec.model_fields_set - {"provenance"}}


CLASSES: dict[str, Callable[[], dict[str, Any]]] = {
    "Accelerator": lambda: stated(planner.load_accelerator("rtx-4090")),
    "Adapter": lambda: {"rank": 8, "target_modules": ("q_proj",)},
    "Cluster": lambda: stated(planner.cluster("dgx-h100")),
    "Costs": lambda: {"tax_rate": 0.1},
    "Framework": lambda: stated(planner.load_framework("fsdp")),
    "Job": lambda: {**SUBJECT["job"], "precision": "bf16"},
    "Layout": lambda: {**LAYOUT, "tp": 1},
    "Model": lambda: stated(planner.load_model("gpt2")),
    "Node": lambda: stated(planner.load_node("dgx-h100")),
    "Price": lambda: {"usd_per_gpu_hour": 2.0, "term": "spot"},
    "Quantization": lambda: {"format": "nf4"},
    "Run": lambda: {"num_simulations": 100},
    "Serving": serving,
    "Teacher": lambda: {"model": "gpt2"},
}
"""Public classes that people make by hand, each with what makes a good one."""
RESULTS = ("Bill", "Deployment", "Evaluation", "Plan", "PlannerError", "WholeRun")


def test_every_public_function_is_asked() -> None:
    functions = {name for name in planner.__all__ if inspect.isfunction(getattr(planner, name))}
    assert functions <= set(GOOD)


def refusal(call: Callable[..., Any], given: dict[str, Any]) -> tuple[str, str]:
    """What a call says against its arguments, in one line, and of which field; empty where it takes them."""
    try:
        call(**given)
    except PlannerError as refused:
        said, field = str(refused), refused.field
    else:
        said = field = ""
    assert "\n" not in said
    return said, field


@pytest.mark.parametrize(("name", "argument"), arguments())
def test_a_wrong_kind_is_refused_in_words(name: str, argument: str) -> None:
    ask, good = named(name), GOOD[name]()
    for wrong in WRONG:
        message, field = refusal(ask, {**good, argument: wrong})
        if type(wrong) is object:
            assert message, f"{argument} = object() was taken"
            assert field, message


def test_every_public_class_is_made() -> None:
    """Changes and Layouts are plain records; ``derive`` and ``evaluate`` check them."""
    classes = {name for name in planner.__all__ if inspect.isclass(getattr(planner, name))}
    assert classes - {*RESULTS} == {*CLASSES, "Changes", "Layouts"}


@pytest.mark.parametrize("name", CLASSES)
def test_a_wrong_kind_of_a_field_is_refused_by_the_class(name: str) -> None:
    """Not by pydantic's own error, which a program that catches PlannerError would not see."""
    make, good = named(name), CLASSES[name]()
    make(**good)
    names = [parameter for parameter in inspect.signature(make).parameters if parameter != "provenance"]
    assert {*good} <= {*names}
    for field in names:
        for wrong in WRONG:
            message, where = refusal(make, {**good, field: wrong})
            if type(wrong) is object:
                assert message, f"{name}({field}=object()) was taken"
                assert field in where
    if name != "Price":  # Python's own TypeError
        with pytest.raises(PlannerError, match="unknown field typo = 1") as unknown:
            make(**good, typo=1)
        assert unknown.value.code == "unknown"


@pytest.mark.parametrize("name", ["Adapter", "Cluster", "Job", "Layout", "Model", "Node", "Run"])
def test_whole_numbers_of_numpy_and_whole_floats_are_those_of_python(name: str) -> None:
    make, good = named(name), CLASSES[name]()
    whole = {field: value for field, value in good.items() if type(value) is int}
    assert whole
    for kind in (np.int64, float):
        assert make(**{**good, **{field: kind(value) for field, value in whole.items()}}) == make(**good)
    for field, value in whole.items():
        for wrong in (value + 0.5, str(value), True):
            with pytest.raises(PlannerError, match=f"{field} = "):
                make(**{**good, field: wrong})


def test_changes_and_columns_made_by_hand_are_checked() -> None:
    for field in inspect.signature(planner.Changes).parameters:
        with pytest.raises(PlannerError, match=f"changes.{field} = "):
            planner.derive("gpt2", planner.Changes(**{field: object()}), "small")
    columns = vars(planner.candidates(**SUBJECT))
    names = inspect.signature(planner.Layouts).parameters
    assert planner.evaluate(**SUBJECT, layouts=planner.Layouts(**{name: list(columns[name]) for name in names})).fits.any()
    for name in names:
        for wrong in (None, "tp2", 2, [[1.0]], [math.nan] * len(columns["tp"]), columns["tp"][:-1], [object()]):
            with pytest.raises(PlannerError, match=f"layouts.{name if name != 'tp' else ''}"):
                planner.evaluate(**SUBJECT, layouts=planner.Layouts(**{**columns, name: wrong}))


@pytest.mark.parametrize("wrong", [[1, 2], {"a": 1}, 3])
def test_a_release_of_another_kind_is_named(wrong: Any) -> None:
    with pytest.raises(PlannerError, match=r"framework\.release = "):
        planner.plan(**{**SUBJECT, "framework": {"name": "megatron-core", "release": wrong}})


@pytest.mark.parametrize("wrong", ["-1", "nan", "true", '"pcie"', "[1]"])
def test_links_of_another_kind_are_named(wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f'name = "mine"\naccelerator = "rtx-4090"\nnum_gpus = 1\nlinks = {wrong}\n', encoding="utf-8")
    with pytest.raises(PlannerError, match=r"node\.toml: links"):
        planner.load_node(str(path))


def test_variants_without_layers_are_named() -> None:
    with pytest.raises(PlannerError, match="variants: layer_pattern = '' has no layer 'b'"):
        planner.plan(**{**SUBJECT, "model": {"base": "mixtral-8x7b", "variants": [{"letter": "b", "head_dim": 64}]}})


def test_a_table_that_holds_itself_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = [endless]
    for wrong in ({"num_layers": endless}, {"variants": [endless]}):
        with pytest.raises(PlannerError, match="levels deep; at most 32"):
            planner.plan(**{**SUBJECT, "model": {"base": "gpt2", **wrong}})
