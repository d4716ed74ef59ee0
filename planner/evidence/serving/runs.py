"""Published serving measurements from a CSV: each row a deployment and what somebody measured of it."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from planner.common.errors import PlannerError, near
from planner.common.files import read_text
from planner.evidence.cells import yes
from planner.evidence.measured_runs import Refusal
from planner.evidence.serving.names import accelerator_of, format_of, labels, model_of, require_modelled
from planner.evidence.serving.told import filled, server_fields, shortest
from planner.hardware.cluster import Cluster, load_accelerator
from planner.hardware.cluster import cluster as build_cluster
from planner.hardware.custom_nodes import custom_node
from planner.model.architecture import Model
from planner.model.parameters import parameters_active
from planner.performance.collectives import bus_factor
from planner.serving.engine import canonical_name, engine_family, engine_for, engine_names, resolve_engine
from planner.serving.feasibility import require_possible
from planner.serving.intervals import subject_of
from planner.serving.pass_time import Times
from planner.serving.requests import mean_tokens
from planner.serving.rows import pass_rows
from planner.serving.setting import Setting
from planner.serving.spec import Serving
from planner.serving.weights import total_bytes

REQUIRED = (
    "id",
    "model",
    "gpu",
    "n_gpus",
    "framework",
    "weights",
    "batch",
    "prompt_len",
    "output_len",
    "metric",
    "value",
    "unit",
)
Quantity = Literal["whole", "decode", "prefill", "saturated", "memory", "loop_token", "loop_first"]
CLOSED = "closed-loop"
"""In the column ``load``: ``batch`` clients who each send the next request when the last one is answered."""
SCALES = {"s": 1.0, "ms": 1e-3}
RATES = {
    "requests": ("req/s", "requests/s"),
    "tokens": ("tok/s", "tokens/s", "tok/s per GPU", "tokens/s per GPU"),
}
"""Units that a rate is printed in; whether it is one GPU's says the metric."""
TITLES = {
    "decode": "decode, batch 1", "batched": "batched", "prefill": "prefill", "saturated": "saturated throughput",
    "memory": "memory", "loop_token": "closed loop, time per token", "loop_first": "closed loop, time to first token",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ServingRun:
    """One measured figure. ``measured``: seconds (of a request, a step, a prompt) or bytes over all GPUs.

    ``columns`` carry ``accelerator``, ``source`` and the model's ``shape`` for the fit, which names the figure ``step_time_s``.
    """

    id: str
    columns: Mapping[str, str]
    times: Times
    quantity: Quantity
    measured: float
    unit: str
    batch: int
    prompt: float
    output: float
    requests: int = 0  # that were sent at once, of a saturated server; 0 = without end

    @property
    def step_time_s(self) -> float:
        """What is fitted."""
        return self.measured

    @property
    def figure(self) -> str:
        """For which accuracy it counts: decode (batch 1, from a short prompt or not), batched, prefill, saturated, memory, or
        clients in a closed loop, of which ``batch`` is the number."""
        return _figure(self.quantity, self.batch)


def _figure(quantity: Quantity, batch: int) -> str:
    if quantity in ("whole", "decode"):
        return "decode" if batch == 1 else "batched"
    return quantity


def read_serving_runs(path: Path) -> tuple[list[ServingRun], list[Refusal]]:
    """Rows of a CSV; those that cannot be modelled are refused by id. PlannerError when a column is missing."""
    text = read_text(path, "a CSV of serving measurements")
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise PlannerError("{0}: cannot be read ({1}); give a CSV of serving measurements.", path, error) from None
    if not rows:
        raise PlannerError("{0}: holds no row; give a CSV of serving measurements, see docs/guide/serving.md.", path)
    missing = [name for name in REQUIRED if name not in rows[0]]
    if missing:
        raise PlannerError("{0}: column {1} is missing; serving measurements need {2}.", path, missing[0], ", ".join(REQUIRED))
    found: list[ServingRun] = []
    refused: list[Refusal] = []
    for i, row in enumerate(rows, start=2):
        name = (row.get("id") or f"line {i}").strip()
        try:
            found.append(read_serving_run(name, {k: (v or "").replace("\xa0", " ").strip() for k, v in row.items() if k}))
        except PlannerError as error:
            refused.append(Refusal(id=name, reason=str(error)))
    broken = _inconsistent(found) | _too_fast(found) | _cold(found)
    kept = [run for run in found if run.id not in broken]
    return kept, [*refused, *(Refusal(id=name, reason=reason) for name, reason in broken.items())]


WIDEST = 2.0
"""Times that 16-bit weights may be slower than narrower ones beyond the ratio of their bytes."""


def _inconsistent(runs: Sequence[ServingRun]) -> dict[str, str]:
    """Refusals, by id, of 16-bit weights that decode slower than their bytes explain: a host that paged or throttled.

    Decoding one sequence reads the weights: on the same GPUs a table's 16-bit row takes at most the ratio of the stored bytes
    times that of the same model's narrow row.
    """
    narrow: dict[tuple[str, ...], ServingRun] = {}
    decoding = [run for run in runs if run.figure == "decode"]
    for run in decoding:
        if run.times.setting.format.family != 16:
            key = _same(run)
            narrow[key] = min(run, narrow.get(key, run), key=lambda r: r.measured)
    found = {}
    for run in decoding:
        other = narrow.get(_same(run))
        if run.times.setting.format.family == 16 and other is not None:
            most = WIDEST * total_bytes(run.times.setting) / total_bytes(other.times.setting)
            if run.measured > most * other.measured:
                times = run.measured / other.measured
                found[run.id] = (
                    f"16-bit weights {times:.0f} times as slow as {other.id}'s on the same GPUs: the host is not sound"
                )
    return found


def _cold(runs: Sequence[ServingRun]) -> dict[str, str]:
    """Refusals, by id, of prompts that took longer than twice their work: kernels were still being loaded, or requests queued.

    Both with the same engine, weights and GPUs of one source; the other one has no fewer tokens, no fewer bytes of weights, and
    twice the products of parameters and tokens.
    """
    groups: dict[tuple[str, ...], list[tuple[ServingRun, float, float]]] = {}
    for run in runs:
        if run.quantity == "prefill":
            setting = run.times.setting
            where = (setting.engine.name, setting.cluster.accelerator.name, str(setting.cluster.num_gpus), setting.format.name)
            tokens = run.batch * run.prompt
            work = float(parameters_active(setting.model)) * tokens
            groups.setdefault((*where, run.columns.get("source", "")), []).append((run, tokens, work))
    found: dict[str, str] = {}
    for members in groups.values():
        for run, tokens, work in members:
            weights = total_bytes(run.times.setting)
            for other, more, twice in members:
                larger = more >= tokens and twice >= 2.0 * work and total_bytes(other.times.setting) >= weights
                if larger and other.measured < run.measured:
                    found[run.id] = f"{other.id} did twice the work on the same GPUs in less time: this one was cold, or waited"
    return found


MOST_OF_PEAK = 0.8
"""Part of the time that a server's GPUs may work at their peaks and its links at the wire's rate, for prompts alone: more is not
believed. Matrix multiplies reach 0.73 to 0.84 of the peak (hardware_profiles/measured, from kernel tables)."""


def _too_fast(runs: Sequence[ServingRun]) -> dict[str, str]:
    """Refusals, by id, of closed loops whose prompts cannot all have been computed: some were cached, or shorter than stated.

    c clients who wait t_first + (output - 1) t_token for an answer send c over that a second; each prompt costs ``peak_s``.
    """
    loops: dict[tuple[str, ...], dict[str, ServingRun]] = {}
    for run in runs:
        if run.quantity in ("loop_token", "loop_first"):
            loops.setdefault((*_same(run)[:-3], *_same(run)[-2:], str(run.batch)), {})[run.quantity] = run
    found: dict[str, str] = {}
    for both in loops.values():
        if len(both) < 2:
            continue
        first, token = both["loop_first"], both["loop_token"]
        asked = first.times.setting.serving
        cycle_s = first.measured + (mean_tokens(asked.output) - 1.0) * token.measured
        busy = first.batch / cycle_s * peak_s(first.times, mean_tokens(asked.prompt))
        if busy > MOST_OF_PEAK:
            reason = (
                f"the prompts alone would keep the GPUs at {busy:.0%} of their peaks: some were cached, or shorter than stated"
            )
            found |= dict.fromkeys((first.id, token.id), reason)
    return found


def peak_s(times: Times, prompt: float) -> float:
    """Seconds of one prompt where every multiplication reaches its peak and every exchange the wire's rate, not both at once."""
    setting = times.setting
    card, link = setting.cluster.accelerator, setting.cluster.node.links[0]
    total = 0.0
    for row in pass_rows(setting, times.shape("prefill", 1.0, prompt, 0.0)):
        if row.collective is not None:
            ranks = float({"tp": setting.serving.tp, "ep": setting.serving.ep}.get(row.group or "", 2))
            wire = row.communication_bytes * bus_factor(row.collective, ranks) / link.bytes_per_s
            total += float(np.sum(row.repeats * wire))
        elif np.any(np.asarray(row.flops) > 0.0):
            total += float(np.sum(row.repeats * row.flops)) / card.peak(setting.matmul_dtype)
    return total


def _same(run: ServingRun) -> tuple[str, ...]:
    """What a 16-bit row and a narrow one share: all but the weights."""
    setting = run.times.setting
    where = (setting.engine.name, setting.model.name, setting.cluster.accelerator.name, str(setting.cluster.num_gpus))
    return (*where, run.columns.get("source", ""), run.quantity, str(run.prompt), str(run.output))


def read_serving_run(name: str, row: Mapping[str, str]) -> ServingRun:
    """One row: labels are translated, then specs are built; what is not modelled is refused with the reason."""
    require_modelled(row)
    row = filled(row)
    metric = labels()["metric"].get(row["metric"])
    if metric is None:
        raise PlannerError("metric = {0!r} is not known; {1}", row["metric"], near(row["metric"], labels()["metric"]))
    quantity = _quantity(row, metric)
    prompt, output = _tokens(row, "prompt_len"), _tokens(row, "output_len")
    _require_tokens(row, metric, quantity, prompt, output)
    batch = _batch(row, quantity)
    times = _times(row, batch, prompt, output, quantity)
    setting = times.setting
    ahead = yes(row, "cache_ahead", default="paged_cache" in setting.engine.features)
    if quantity == "memory" and metric["unit"] != "bytes of weights" and ahead:
        raise PlannerError("metric = {0!r}: {1} fills the GPU with its cache ahead of time", row["metric"], setting.engine.name)
    columns = {
        **row,
        "accelerator": setting.cluster.accelerator.name,
        "catalog_model": setting.model.name,
        "shape": subject_of(setting, _figure(quantity, batch)).model,
        "engine": engine_family(setting.engine.name),
        "campaign": _campaign(row),
        "figure": TITLES[_figure(quantity, batch)],
    }
    return ServingRun(
        id=name,
        columns=columns,
        times=times,
        quantity=quantity,
        measured=_measured(row, metric["unit"], _number(row, "value"), batch, prompt, output, setting.serving.num_gpus),
        unit=metric["unit"],
        batch=batch,
        prompt=prompt,
        output=output,
        requests=_requests(row) if quantity == "saturated" else 0,
    )


def _requests(row: Mapping[str, str]) -> int:
    """How many requests were sent; 0 = not known."""
    return _count(row, "requests") if row.get("requests") else 0


def _quantity(row: Mapping[str, str], metric: Mapping[str, str]) -> Quantity:
    if row.get("load", "") != CLOSED:
        if row["metric"] == "ttft mean" and row["prompt_len"] in labels()["tokens_of_data"]:
            raise PlannerError("metric = 'ttft mean' of requests that arrive all at once: mostly time in the queue")
        return cast(Quantity, metric["quantity"])
    if "closed_loop" not in metric:
        raise PlannerError("metric = {0!r}: not predicted of clients in a closed loop", row["metric"])
    return cast(Quantity, metric["closed_loop"])


def _require_tokens(row: Mapping[str, str], metric: Mapping[str, str], quantity: Quantity, prompt: float, output: float) -> None:
    """Raise PlannerError when a length is missing that the figure needs."""
    if metric["unit"] == "all tokens per second" and not row["prompt_len"]:
        raise PlannerError("prompt_len is empty: a rate over prompt and output needs it")
    if quantity in ("decode", "whole", "saturated", "loop_token") and output < 1:
        raise PlannerError("output_len = {0!r}: a decode rate needs output tokens", row["output_len"])
    if quantity in ("prefill", "loop_first") and prompt < 1:
        raise PlannerError("prompt_len = {0!r}: a prefill rate needs prompt tokens", row["prompt_len"])


def _number(row: Mapping[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        raise PlannerError("{0} = {1!r}: must be a number", column, row[column]) from None
    if not np.isfinite(value) or value <= 0:
        raise PlannerError("{0} = {1!r}: must be finite and positive", column, row[column])
    return value


def _tokens(row: Mapping[str, str], column: str) -> float:
    text, own = row[column], labels()
    if text in own["tokens_of_data"]:
        return float(own["tokens_of_data"][text][column])
    if text in own["tokens"]:
        stated = (
            column == "prompt_len" or row["metric"] == "weights file size" or row["metric"] in ("GPU memory", "decode tokens/s")
        )
        if text == "" and not stated:
            raise PlannerError("{0} is empty: the length is not stated", column)
        return float(own["tokens"][text]) if column == "prompt_len" or text != "" else 128.0
    return _number(row, column) if text != "0" else 0.0


def _batch(row: Mapping[str, str], quantity: Quantity) -> int:
    text = row["batch"]
    if quantity == "saturated":  # 0: as many as memory and engine allow
        stated = re.fullmatch(r"(?:max\s*)?(\d+)", text)
        return int(stated.group(1)) if stated else 0
    if text == "" and row["metric"] == "weights file size":
        return 1
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 1_000_000):
        if text.startswith("max") and row["metric"] == "output throughput":
            raise PlannerError("batch = {0!r}: the rate of requests of the same run is predicted", text)
        raise PlannerError("batch = {0!r}: must be a whole number of sequences, at least 1", text)
    return int(text)


def _measured(row: Mapping[str, str], unit: str, value: float, batch: int, prompt: float, output: float, gpus: int) -> float:
    """Seconds of a request, a step or a prompt of the whole batch; of a saturated replica, per request; or bytes."""
    if unit.startswith("bytes"):
        if row["unit"] not in labels()["bytes"]:
            raise PlannerError("unit = {0!r} is not known; {1}", row["unit"], near(row["unit"], labels()["bytes"]))
        return value * float(labels()["bytes"][row["unit"]])
    if unit == "seconds":
        if row["unit"] not in SCALES:
            raise PlannerError("unit = {0!r}: must be s or ms", row["unit"])
        return value * SCALES[row["unit"]]
    right = RATES["requests" if unit.startswith("requests") else "tokens"]
    if row["unit"] not in right or (row["unit"].endswith("GPU") and not unit.endswith("GPU")):
        fits = [u for u in right if unit.endswith("GPU") or not u.endswith("GPU")]
        raise PlannerError(
            "unit = {0!r}: {1} is a rate; its unit must be one of {2}", row["unit"], row["metric"], ", ".join(fits)
        )
    if unit == "requests per second":
        return 1.0 / value
    if unit == "prompt tokens per second":
        return batch * prompt / value
    if unit == "all tokens per second":
        return batch * (prompt + output) / value
    quantity = labels()["metric"][row["metric"]]["quantity"]
    if quantity == "saturated":
        return output / (value * (gpus if unit.endswith("GPU") else 1))
    return batch / value if quantity == "decode" else batch * output / value


def _model(row: Mapping[str, str]) -> Model:
    name = re.sub(r"\s*\((SGLang|Transformers)\)$", "", row["model"])
    shape = dict(re.findall(r"(head_num|size_per_head|num_layers)=(\d+)", row.get("notes", "")))
    if len(shape) == 3:  # a GPT of FasterTransformer's guide: Megatron's vocabulary
        heads, width, layers = int(shape["head_num"]), int(shape["size_per_head"]), int(shape["num_layers"])
        return Model.build(
            {
                "name": name,
                "num_layers": layers,
                "hidden_size": heads * width,
                "num_heads": heads,
                "vocab_size": 51200,
                "ffn_hidden_size": 4 * heads * width,
                "gated_ffn": False,
                "activation": "gelu",
                "norm": "layernorm",
                "qkv_bias": True,
                "attention_output_bias": True,
                "ffn_bias": True,
                "position_embedding": "learned",
                "max_positions": 2048,
                "tied_embeddings": True,
            },
            "model",
        )
    return model_of(name)


def _times(row: Mapping[str, str], batch: int, prompt: float, output: float, quantity: Quantity) -> Times:
    engine = _engine(row)
    gpus, model = _count(row, "n_gpus"), _model(row)
    fields: dict[str, Any] = {"engine": engine, "batch": max(batch, 1), **_cut(row, gpus), **_weights(row, engine, model)}
    for name, tokens in (("prompt", prompt), ("output", output)):
        most = max(int(tokens), 1)
        least = shortest(row) if quantity in ("loop_token", "loop_first") else 1.0
        fields[name] = most if least == 1.0 else {"kind": "uniform", "low": max(round(least * most), 1), "high": most}
    fields |= server_fields(row)
    if quantity in ("loop_token", "loop_first"):
        fields["clients"] = batch
    serving = Serving.build(fields, "row")
    cluster = _cluster(row, gpus)
    setting = Setting(model=model, cluster=cluster, engine=engine_for(serving, cluster.accelerator), serving=serving)
    require_possible(setting)
    return Times(setting=setting)


def _campaign(row: Mapping[str, str]) -> str:
    """Who measured: the source, and which of several whose runs one file holds."""
    source, who = row.get("source", ""), row.get("measured_by", "")
    return f"{source}, {who}" if who else source


def _engine(row: Mapping[str, str]) -> str:
    """The engine that a table's word means: of the version that the word or the notes state, or of the source's time."""
    framework = row["framework"]
    version = re.search(r"\bversion ([\w.]+)", row.get("notes", ""))
    said = f"{framework} {version.group(1)}" if version else ""
    name = said if said and resolve_engine(said) else framework
    found = resolve_engine(name)
    if found is None:
        raise PlannerError("framework = {0!r} is not modelled; engines: {1}", framework, ", ".join(engine_names()))
    for start, other in labels()["engine_of_source"].items():
        if row.get("source", "").startswith(start) and engine_family(found) in other:
            return str(other[engine_family(found)])
    return canonical_name(name)


def _weights(row: Mapping[str, str], engine: str, model: Model) -> dict[str, Any]:
    """Fields of the row's format. "fp8" of a model whose own checkpoint has a scale for each block is that checkpoint."""
    fields = format_of(row["weights"])
    if fields == {"weights": "fp8"} and model.stored_weights == "fp8-block":
        return {"weights": "fp8-block"}
    own: dict[str, Any] = {}
    for name, changes in labels()["weights_of_engine"].items():
        own |= changes if engine.startswith(name) else {}
    return dict(own.get(fields["weights"], fields))


def _count(row: Mapping[str, str], column: str) -> int:
    """A number of GPUs; empty = 1."""
    text = row.get(column) or "1"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value != int(value) or not 1 <= value <= 100_000:
        raise PlannerError("{0} = {1!r}: must be a whole number of at least 1", column, text)
    return int(value)


def _cut(row: Mapping[str, str], gpus: int) -> dict[str, int]:
    """tp as given; a device map or layer split is pp over all GPUs; what is left of the GPUs is pp."""
    tp = _count(row, "tp")
    if "EP set" in row.get("pp_ep", ""):
        return {"tp": 1 if yes(row, "attention_data_parallel") else tp, "ep": tp}
    return {"tp": tp, "pp": max(gpus // tp, 1)}


@lru_cache(maxsize=4096)
def _node_of(accelerator: str, gpus: int) -> Cluster:
    per_node = min(gpus, 8)
    return build_cluster(custom_node(load_accelerator(accelerator).name, per_node), num_gpus=gpus)


def _cluster(row: Mapping[str, str], gpus: int) -> Cluster:
    return _node_of(accelerator_of(row["gpu"]), gpus)
