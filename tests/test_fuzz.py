"""Good input, changed at random: whatever is asked, the answer is finite or one short paragraph, without a warning.

Seeded: each run tries the same. ``make fuzz`` tries FUZZ_EXAMPLES of each kind, from new seeds.
"""

from __future__ import annotations

import copy
import datetime
import json
import math
import os
import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from released_configs import RELEASED

import planner
from planner.common.errors import PlannerError
from planner.common.spec import read_table
from planner.hardware.curves import load_curves
from planner.lifecycle.bill import bill_of
from planner.lifecycle.simulation import expected_run
from planner.model.huggingface import model_from_config
from planner.model.parameters import parameters_total
from planner.prices.price_tables import read_quotes
from planner.scenarios.fields import table_fields
from planner.serving.engine import load_engine

TODAY = datetime.date(2026, 11, 1)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
LONGEST = 1500
"""Characters of a message: several wrong fields are named in one paragraph."""
fuzzed = settings(
    max_examples=EXAMPLES or 60,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)

QUESTION: dict[str, Any] = {
    "model": {"base": "mixtral-8x7b", "num_layers": 4, "hidden_size": 4096, "num_experts": 8, "top_k": 2, "qkv_bias": False},
    "cluster": {"node": "dgx-h100", "num_nodes": 2},
    "framework": {"name": "megatron-core"},
    "job": {
        "seq_len": 4096, "global_batch_size": 64, "num_tokens": 10**9, "precision": "bf16", "optimizer": "adamw",
        "routing": "forced",
    },
    "layout": {"tp": 2, "sequence_parallel": True, "pp": 2, "cp": 1, "ep": 4, "zero": 1, "micro_batch_size": 1},
    "price": {"usd_per_gpu_hour": 2.0},
}  # fmt: skip
RUN: dict[str, Any] = {
    "checkpoint_interval_s": 1800.0, "restart_s": 300.0, "straggler_jitter": 0.02, "evaluation_every_steps": 100,
    "evaluation_tokens": 10**6, "warmup_steps": 10, "warmup_slowdown": 2.0, "slow_node_probability": 0.1,
    "slow_node_slowdown": 1.2, "num_simulations": 100, "expert_zipf": 0.2, "preemption_mtbf_s": 1e7, "seed": 1,
}  # fmt: skip
COST: dict[str, Any] = {
    "region": "United States", "pue": 1.2, "electricity_usd_per_kwh": 0.1, "power_w_per_gpu": 700.0, "dataset_bytes": 1e12,
    "kept_checkpoints": 3, "storage_usd_per_gb_month": 0.02, "egress_bytes": 1e10, "egress_usd_per_gb": 0.05,
}  # fmt: skip
SERVING: dict[str, Any] = {
    "engine": "vllm", "tp": 2, "dp": 1, "prompt": 1000, "output": 100, "requests_per_s": 1.0, "num_requests": 500,
    "weights": "fp8", "max_batch": 64, "chunked_prefill_tokens": 512, "prefix_cache_hit_rate": 0.2, "ttft_target_s": 1.0,
    "kv_dtype": "bf16", "images": 0.0, "image_patches": 0,
}  # fmt: skip
ODD: list[Any] = [
    None, "", "abc", "0x10", -1, 0, 1, 2, 3, 7, 0.0, 0.5, -0.5, 1e-300, 1e300, 10**30, 10**400, 2**31, True, False, [], {},
    [1, 2], {"value": 3}, {"a": {"b": 1}}, math.nan, math.inf, -math.inf, "x" * 5000, 65_537,
]  # fmt: skip


def places(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where a value stands, in tables of tables."""
    found: list[tuple[str, ...]] = []
    for key, value in table.items():
        found.append((*above, key))
        if isinstance(value, Mapping):
            found += places(value, (*above, key))
    return found


@st.composite
def changed(draw: st.DrawFn, good: dict[str, Any]) -> dict[str, Any]:
    """A good table with one to three of its values odd, gone, or under another name."""
    table = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from(places(good)))
        inner: Any = table
        for name in above:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if not isinstance(inner, dict):
            continue
        how = draw(st.sampled_from(("odd", "odd", "odd", "gone", "renamed")))
        value = inner.pop(key, None)
        if how == "odd":
            inner[key] = copy.deepcopy(draw(st.sampled_from(ODD)))  # what is put into one goes into no other
        elif how == "renamed":
            inner[f"{key}s"] = value
    return table


def require_finite(value: Any, where: str = "answer") -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            require_finite(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            require_finite(inner, where)
    elif isinstance(value, float):
        assert math.isfinite(value), f"{where} = {value}"
    else:  # what holds numbers of its own would pass unread
        assert value is None or isinstance(value, str | int | datetime.date), f"{where} is a {type(value).__name__}"


def answered(ask: Callable[[], Any]) -> Any:
    """The answer, all of its numbers finite; None where it is refused in one paragraph."""
    try:
        found = ask()
    except PlannerError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert len(message) <= LONGEST
        assert "\n" not in message.strip()
        return None
    require_finite(found.to_dict() if hasattr(found, "to_dict") else found)
    return found


@fuzzed
@given(question=changed(QUESTION))
def test_a_plan_is_finite_or_refused(question: dict[str, Any]) -> None:
    asked: dict[str, Any] = {key: question.get(key) for key in QUESTION}
    answered(lambda: planner.plan(**asked, explain=False))


@pytest.fixture(scope="module")
def good_plan() -> Any:
    return planner.plan(**QUESTION)


@fuzzed
@given(run=changed(RUN), cost=changed(COST))
def test_a_run_and_its_bill_are_finite_or_refused(good_plan: Any, run: dict[str, Any], cost: dict[str, Any]) -> None:
    result = answered(lambda: expected_run(good_plan, run))
    if result is not None:
        answered(lambda: bill_of(result, cost))


@fuzzed
@given(serving=changed(SERVING))
def test_a_deployment_is_finite_or_refused(serving: dict[str, Any]) -> None:
    answered(lambda: planner.serve(model="llama-3-8b", cluster="2xh100", serving=serving))


def put(good: Mapping[str, Any], table: str, field: str, value: Any) -> dict[str, Any]:
    """A copy of good tables with one field changed; ``table``: its place, as in ``job.adapter``."""
    tables: dict[str, Any] = copy.deepcopy(dict(good))
    inner = tables
    for name in table.split("."):
        inner = inner.setdefault(name, {})
    inner[field] = value
    return tables


TUNED = {
    "model": {"base": "llama-3-8b"}, "cluster": {"node": "dgx-h100"}, "framework": {"name": "peft"},
    "job": {"seq_len": 2048, "global_batch_size": 16, "num_samples": 10_000, "kind": "qlora", "adapter": {"rank": 8},
            "quantization": {}},
    "layout": {"micro_batch_size": 1},
}  # fmt: skip
TAUGHT = {
    **TUNED, "framework": {"name": "fsdp"}, "layout": {"micro_batch_size": 1, "zero": 3},
    "job": {"seq_len": 2048, "global_batch_size": 16, "num_samples": 10_000, "kind": "distil",
            "teacher": {"model": "llama-3-8b"}},
}  # fmt: skip
SERVED = {"model": "llama-3-8b", "cluster": "2xh100", "serving": SERVING}
SPREAD = {**SERVING, "prompt": {"kind": "lognormal", "mean": 800, "standard_deviation": 400, "maximum": 2000}}
OF_QUESTION: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("model", "cluster", "framework", "job", "layout", "price"), QUESTION),
    **dict.fromkeys(("job.adapter", "job.quantization"), TUNED),
    "job.teacher": TAUGHT,
}
"""Table -> a question that has it."""
OF_SERVING: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("serving", "load", "serving.speculative", "serving.prefill_pool"), SERVED),
    "serving.prompt": {**SERVED, "serving": SPREAD},
}
OF_FILES = ("accelerator", "node", "engine", "curves")
EVERY_FIELD = [
    (table, note.name)
    for table in (*OF_QUESTION, *OF_SERVING, *OF_FILES, "run", "cost", "cost.own")
    for note in table_fields(table)
]


def toml_of(value: Any) -> str:
    """A value as a file says it; what no file can say, as one that gives none."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {toml_of(inner)}' for key, inner in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_of, value))}]"
    return json.dumps("none" if value is None else value) if isinstance(value, str | bool | None) else str(value)


def ask(answer: Any, folder: Path, table: str, field: str, value: Any) -> Any:
    """The answer to a good question with one field of one table changed. ``answer``: a plan, for its whole run; ``folder``: for a
    file of an engine."""
    if table in OF_QUESTION:
        return planner.plan(**put(OF_QUESTION[table], table, field, value), explain=False)
    if table in OF_SERVING:
        return planner.serve(**put(OF_SERVING[table], table.replace("load", "serving"), field, value))
    if table == "run":
        result = expected_run(answer, {"num_simulations": 100, field: value})
        return result.to_dict(), bill_of(result).to_dict()
    if table in ("cost", "cost.own"):
        return bill_of(expected_run(answer, {"num_simulations": 100}), put({"cost": {}}, table, field, value)["cost"])
    if table == "engine":
        file = folder / "own.toml"
        own = {"base": load_engine("vllm").name, "name": "own", field: value}
        file.write_text("".join(f"{key} = {toml_of(inner)}\n" for key, inner in own.items()))
        return planner.serve(**put(SERVED, "serving", "engine", str(file)))
    cluster = planner.cluster("dgx-h100")
    if table == "curves":
        curves = load_curves("h100").model_dump(exclude={"name", "provenance"})
        table, field, value = "accelerator", "kernel_curves", {**curves, field: value}
    changed = getattr(cluster, table).replaced(**{field: value})
    return planner.plan(**{**QUESTION, "cluster": cluster.replaced(**{table: changed, "num_gpus": 16})}, explain=False)


def test_the_questions_that_are_changed_are_answered(good_plan: Any, tmp_path: Path) -> None:
    """Or each change of them would be refused for what is wrong without it."""
    assert bill_of(expected_run(good_plan, RUN), COST).total_usd.expected > 0
    for question in (QUESTION, TUNED, TAUGHT):
        assert planner.plan(**question, explain=False).fits
    for asked in (SERVED, {**SERVED, "serving": SPREAD}):
        assert planner.serve(**asked).load is not None
    assert ask(good_plan, tmp_path, "engine", "name", "mine").engine.name == "mine"
    fraction = load_curves("h100").matmul_peak_fraction
    assert ask(good_plan, tmp_path, "curves", "matmul_peak_fraction", fraction).step_time_s == good_plan.step_time_s
    assert ask(good_plan, tmp_path, "curves", "matmul_peak_fraction", fraction / 2).step_time_s > good_plan.step_time_s


@pytest.mark.parametrize("value", [math.nan, [1.0, math.inf], {"a": {"b": -math.inf}}, object(), {"a": {math.nan}}])
def test_what_is_not_finite_or_not_read_is_found(value: Any) -> None:
    with pytest.raises(AssertionError):
        require_finite(value)


@pytest.mark.parametrize(("table", "field"), EVERY_FIELD)
def test_any_field_of_any_table_is_answered_or_refused(good_plan: Any, table: str, field: str, tmp_path: Path) -> None:
    """Each field takes two values that are odd, and with ``FUZZ_EXAMPLES`` as many as its share of them."""
    draw = random.Random(None if EXAMPLES else f"{table}.{field}")
    for value in draw.sample(ODD, max(2, min(EXAMPLES // len(EVERY_FIELD), len(ODD)))):
        try:
            answered(partial(ask, good_plan, tmp_path, table, field, copy.deepcopy(value)))
        except BaseException as error:
            error.add_note(f"{table}.{field} = {value!r}")
            raise


CONFIGS = [
    RELEASED[name][1]
    for name in (
        "qwen3-next-80b-a3b",
        "deepseek-v4-flash",
        "nemotron-3-nano-30b-a3b",
        "gemma-3-4b",
        "jamba-1.5-mini",
        "glm-4.5-air",
    )
]
UNKNOWN = {
    **RELEASED["glm-4.5-air"][1],
    "model_type": "unheard_of",
    "architectures": ["UnheardOfForCausalLM"],
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
}


@fuzzed
@given(data=st.data())
def test_a_config_is_a_model_or_refused(data: st.DataObject) -> None:
    config = data.draw(changed(data.draw(st.sampled_from([*CONFIGS, UNKNOWN]))))
    answered(lambda: parameters_total(model_from_config(config, "x", "config.json")))


@fuzzed
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Bytes of a good file cut, doubled or replaced."""
    folder = tmp_path_factory.mktemp("damaged")
    kind = data.draw(st.sampled_from(("toml", "json", "csv")))
    good = {
        "toml": b'title = "x"\n[model]\nname = "llama-3-8b"\n[job]\nseq_len = 4_096\n[[compare]]\nlayout = { tp = 2 }\n',
        "json": json.dumps(CONFIGS[0]).encode(),
        "csv": b"date,accelerator,provider,term,usd_per_gpu_hour,source\n2026-09-01,h100-sxm5-80gb,Me,on-demand,2.5,mine\n",
    }[kind]
    start, end = sorted((data.draw(st.integers(0, len(good))), data.draw(st.integers(0, len(good)))))
    piece = data.draw(st.one_of(st.binary(max_size=8), st.sampled_from((good[start:end] * 2, b"", b"\x00", b'"' * 3, b"[" * 40))))
    path = Path(folder) / f"damaged.{kind}"
    path.write_bytes(good[:start] + piece + good[end:])
    answered((lambda: list(map(str, read_quotes(path, TODAY)))) if kind == "csv" else (lambda: read_table(path)))
