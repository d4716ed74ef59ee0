"""Questions without a file: a model, "32xh100", and what the job departs from the usual in."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from planner.common.errors import PlannerError, near
from planner.common.message import Message
from planner.common.quantities import RUN_LENGTHS, value_of
from planner.common.spellings import places
from planner.hardware.asked import cluster_table
from planner.hardware.cluster import load_accelerator, load_node
from planner.hardware.custom_nodes import chosen_node
from planner.model.architecture import Model
from planner.model.parameters import parameters_total
from planner.scenarios.literals import literal
from planner.scenarios.scenario import TABLES, Case, Scenario
from planner.scenarios.tables import OF_SERVING, Table, Tables
from planner.workload.resolve import as_cluster, as_model, usual_precision
from planner.workload.tuning import USUAL_RANK

EVERY_TABLE = tuple(dict.fromkeys((*TABLES, *OF_SERVING)))
"""Of scenarios of training and of serving."""
Method = Literal["pretrain", "finetune", "lora", "qlora"]
TOKENS_PER_STEP = ((1e9, 2**19), (5e9, 2**20), (1e11, 4 * 2**20), (math.inf, 16 * 2**20))
"""(parameters below, tokens) of a step of pre-training where no batch is given: 0.5M up to 760M parameters and 1M up to 2.7B as
GPT-3 (Brown et al. 2020, arXiv 2005.14165, table 2.1), 4M as Llama 2 from 7B to 70B (arXiv 2307.09288, section 2), 16M as Llama
3.1 405B (arXiv 2407.21783, section 3.4.1); DeepSeek-V3 took 63M (arXiv 2412.19437, section 4.2)."""
TOKENS_PER_GPU = 1024
"""Tokens of a step that each GPU gets at least: Llama 3.1 405B, 16M tokens on 16,384 GPUs (arXiv 2407.21783, section 3.4.1)."""
TUNING_BATCH = 64
"""Sequences of a fine-tuning step where none are given; assumed."""
SEQ_LEN = {"pretrain": 4096, "finetune": 2048, "lora": 2048, "qlora": 2048}
"""Tokens of a sequence where none are given, at most what the model allows; assumed."""


def quick_scenario(model: str, on: str, method: Method, job: Mapping[str, Any], other: Mapping[str, Table]) -> Scenario:
    """A scenario of a model and a cluster; what ``job`` leaves open is usual, and ``usual_notes`` says it.

    ``other``: tables framework, layout, price, run and cost as far as they are given.
    """
    cluster, on = cluster_table(on), on.strip(" ,，")
    the_model = as_model({"name": model})
    tables: Tables = {"model": {"name": model}, "cluster": cluster, "job": _job(the_model, cluster, method, job)}
    tables |= {name: dict(other[name]) for name in TABLES if name in other}
    what = {"pretrain": "pre-training", "finetune": "full fine-tuning", "lora": "LoRA", "qlora": "QLoRA"}[method]
    title = Message("{0}, {1}, on {2}", the_model.name, what, on)
    return Scenario(title=title, cases=(Case(label=the_model.name, tables=tables, where=f"{model} on {on}"),))


def _job(model: Model, cluster: Table, method: Method, given: Mapping[str, Any]) -> Table:
    """The job's fields, the usual ones where they are not given."""
    rows = model.source_positions or model.positions
    longest = min((n for n in (model.context_length, rows) if n), default=SEQ_LEN[method])
    seq_len = given.get("seq_len", min(SEQ_LEN[method], longest))
    node = load_node(str(cluster["node"])) if "node" in cluster else None
    num_gpus = cluster["num_gpus"] if node is None else cluster.get("num_nodes", 1) * node.num_gpus
    accelerator = load_accelerator(cluster["accelerator"] if node is None else node.accelerator)
    size = parameters_total(model)
    tokens = max(next(tokens for below, tokens in TOKENS_PER_STEP if size < below), TOKENS_PER_GPU * num_gpus)
    wanted = TUNING_BATCH if method != "pretrain" else max(tokens // max(int(seq_len), 1), 1)
    if method == "pretrain" and tokens % max(int(seq_len), 1):  # a batch that divides into micro-batches
        wanted = 1 << (wanted.bit_length() - 1)
    fields: Table = {
        "kind": method,
        "seq_len": seq_len,
        "global_batch_size": _batch(wanted, num_gpus),
        "precision": usual_precision(accelerator),
    }
    if model.cross_attention and 0 < model.positions < int(seq_len):  # the decoder has fewer positions than the encoder
        fields["target_len"] = model.positions
    if method in ("lora", "qlora"):
        fields["adapter"] = {"rank": USUAL_RANK}
    return {**fields, **given}


def _batch(wanted: int, num_gpus: int) -> int:
    """The next number of sequences that ``num_gpus`` share evenly, or, where they are more, as few to a sequence as possible.

    >>> _batch(1024, 8), _batch(64, 6), _batch(2048, 16384), _batch(1024, 2000), _batch(64, 97)
    (1024, 66, 2048, 2000, 97)
    """
    if wanted >= num_gpus:
        return -(-wanted // num_gpus) * num_gpus
    return num_gpus // max(n for n in range(1, num_gpus // wanted + 1) if num_gpus % n == 0)


def usual_notes(scenario: Scenario, given: Mapping[str, Any]) -> tuple[str, ...]:
    """What was not given and is as usual, in one sentence."""
    job = scenario.cases[0].tables["job"]
    names: list[str] = [name for name in ("seq_len", "global_batch_size", "precision") if name in job and name not in given]
    names += ["target_len"] if "target_len" in job and "target_len" not in given else []
    taken = [f"{name} = {job[name]}" for name in names]
    if "adapter" in job and "adapter" not in given:
        taken.append(f"rank = {job['adapter']['rank']}")
    usual = (Message("taken as usual, not given: {0}", ", ".join(taken)),) if taken else ()
    cluster = scenario.cases[0].tables["cluster"]
    return *usual, *(() if "node" in cluster else chosen_node(cluster.get("accelerator"), as_cluster(cluster)))


def parse_changes(texts: list[str] | None, read: Sequence[str] = EVERY_TABLE, unread: Sequence[str] = ()) -> dict[str, Any]:
    """``--set job.precision=fp16`` as a mapping; numbers as people write them, by the field's unit. ``read``: the tables that the
    question has; a field of another one would change nothing, and so would one of the fields ``unread``."""
    found: dict[str, Any] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        key = key.strip()
        meant = ", ".join(f"{place}={value.strip()}" for place in places(key))
        if meant and equals and value.strip():
            raise PlannerError("--set {0}: the table is missing; did you mean {1}?", text, meant, field="--set", value=text)
        if not equals or not value.strip() or "." not in key:
            raise PlannerError("--set {0}: give TABLE.FIELD=VALUE, such as job.precision=fp16.", text, field="--set", value=text)
        table = key.partition(".")[0]
        if table not in EVERY_TABLE:
            raise PlannerError("--set {0}: no such table {1!r}; {2}.", text, table, near(table, read), field="--set", value=text)
        if table not in read:
            raise PlannerError(
                "--set {0}: [{1}] changes nothing in this answer; set a field of {2}.",
                text,
                table,
                ", ".join(read),
                field="--set",
                value=text,
            )
        if key in unread:
            raise PlannerError("--set {0}: changes nothing in this answer; leave it out.", text, field="--set", value=text)
        changed = _written(key, value) if value.strip()[0] in "{[" else value_of(key, value)
        if key in found and found[key] != changed:
            raise PlannerError(
                "--set {0}: {1} is given twice, before as {2}; leave one of the two out.",
                text,
                key,
                found[key],
                code="usage",
                field="--set",
                value=text,
            )
        found[key] = changed
    return found


def _written(key: str, text: str) -> Any:
    """A table or a list, as a scenario has it: ``--set 'serving.speculative={tokens=4, acceptance=0.7}'``."""
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        found = {}
    if set(found) != {"value"}:  # not TOML, or more than one value
        raise PlannerError("{0} = {1!r}: is no table or list of TOML; write it as a scenario file has it.", key, text)
    return found["value"]


def changed_tables(tables: Tables, changes: Mapping[str, Any]) -> Tables:
    """The tables with some fields changed: a catalog model with a field changed is its ``base``; counts of GPUs replace nodes."""
    found = {name: dict(table) for name, table in tables.items()}
    for key, value in changes.items():
        name, _, field = key.partition(".")
        table = found.setdefault(name, {})
        if key == "model.name":
            table.clear()
        elif name == "model" and set(table) == {"name"}:
            table["base"] = table.pop("name")
        if key in LENGTHS:
            for other in LENGTHS:
                table.pop(other.partition(".")[2], None)
        if key in ("cluster.num_gpus", "cluster.num_nodes"):
            table.pop("num_nodes" if key.endswith("gpus") else "num_gpus", None)
        _put(table, field, value)
    return found


LENGTHS = tuple(f"job.{name}" for name in RUN_LENGTHS)
"""A job has one of them: one that is set takes the place of the others."""


def _put(table: Table, field: str, value: Any) -> None:
    first, _, rest = field.partition(".")
    if not rest:
        table[first] = value
        return
    inner = table.get(first)
    table[first] = dict(inner) if isinstance(inner, Mapping) else {}
    _put(table[first], rest, value)


def changed_scenario(scenario: Scenario, changes: Mapping[str, Any]) -> Scenario:
    """The scenario with some fields of every case changed."""
    if not changes:
        return scenario
    cases = (Case(label=c.label, tables=changed_tables(c.tables, changes), where=c.where) for c in scenario.cases)
    return Scenario(title=scenario.title, cases=tuple(cases))


def part_of_layout(scenario: Scenario, changed: Iterable[str]) -> tuple[str, ...]:
    """A note where fields of a layout are given to cases without one, which leaves nothing to be chosen.

    ``changed``: fields that are set or varied.
    """
    given = ", ".join(field for field in changed if field.startswith("layout."))
    if not given or all(case.tables.get("layout") for case in scenario.cases):
        return ()
    return (Message("only {0} of the layout is given: the rest is as it is by default, not chosen", given),)


def with_tables(scenario: Scenario, tables: Tables) -> Scenario:
    """The scenario with whole tables in the place of those of every case."""
    if not tables:
        return scenario
    cases = (Case(label=c.label, tables={**c.tables, **tables}, where=c.where) for c in scenario.cases)
    return Scenario(title=scenario.title, cases=tuple(cases))


def scenario_toml(scenario: Scenario) -> str:
    """The main case as a scenario file."""
    case = scenario.cases[0]
    tables = {name: case.tables[name] for name in TABLES if name in case.tables}
    return tables_toml({"title": scenario.title, "label": case.label}, tables)


def tables_toml(head: Mapping[str, str], tables: Tables) -> str:
    """Tables as a scenario file, ``head`` above them."""
    lines = [f"{name} = {literal(value)}" for name, value in head.items()]
    for name, table in tables.items():
        lines += ["", *_table_lines(name, table)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _table_lines(name: str, table: Mapping[str, Any]) -> list[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    lines = [f"[{name}]", *(f"{key} = {literal(value)}" for key, value in plain.items() if value is not None)]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _table_lines(f"{name}.{key}", value)
    return lines
