"""Measured training runs from a CSV: each row a question for the planner and the answer that somebody measured."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from planner.common import data
from planner.common.errors import PlannerError, near, one_of
from planner.common.files import read_text
from planner.common.message import Message
from planner.common.spec import read_table
from planner.common.units import GIB
from planner.evidence.cells import fraction, measured_number, usual_framework, whole, yes
from planner.evidence.tuning_columns import POSITIONS, SIZES, catalog_model, noted, tuning_fields
from planner.hardware.cluster import Cluster, load_accelerator
from planner.hardware.cluster import cluster as build_cluster
from planner.hardware.custom_nodes import custom_node
from planner.model.architecture import Model
from planner.model.names import meant
from planner.workload.attention import compute_capability
from planner.workload.framework import CORE_ATTENTION, Framework, framework_names, load_framework
from planner.workload.framework_names import framework_of_name, without_release
from planner.workload.job import ADAPTERS, Job
from planner.workload.layout import RECOMPUTE, Layout
from planner.workload.question import Question

LABELS = data.CATALOG / "run_labels.toml"
REQUIRED = ("id", *SIZES, "seq_len", "accelerator", "num_gpus", "precision")
"""Columns of every file; one whose rows name models of the catalog needs no sizes."""
GPUS_PER_NODE = {"gb200-186gb": 4, "gb300-278gb": 4, "v100-sxm3-32gb": 16, "v100-sxm3-32gb-450w": 16}
"""Where it is not 8: trays of NVL72 racks, DGX-2."""

MemoryKind = Literal["allocated", "reserved", "device"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured run: the question as specs, the candidates for a layout whose recomputation is unknown, the answers.

    ``memory_bytes`` by what was measured: ``allocated`` and ``reserved`` of torch's caching allocator, ``device`` as the
    driver reports it. ``assumed`` names what the row left out and how it was filled.
    """

    id: str
    columns: Mapping[str, str]
    key: tuple[tuple[str, str], ...]  # equal for runs that ask the same
    model: Model
    cluster: Cluster
    framework: Framework
    job: Job
    layouts: tuple[Layout, ...]  # lightest recomputation first; the first that fits is predicted
    step_time_s: float | None
    memory_bytes: Mapping[MemoryKind, float]
    out_of_memory: bool  # it was tried and did not fit
    assumed: tuple[str, ...] = ()
    heavier_share: float = 0.0  # of the layers, with the last of two layouts: once it is settled what is predicted

    @property
    def question(self) -> Question:
        """What was run, but the layout."""
        return Question(self.model, self.cluster, self.framework, self.job)

    @property
    def peak_allocated_bytes(self) -> float | None:
        """Peak of torch's caching allocator, where that was measured."""
        return self.memory_bytes.get("allocated")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A row that is not predicted, and why."""

    id: str
    reason: str


def read_runs(path: Path) -> tuple[list[Run], list[Refusal]]:
    """Rows of a CSV with the columns of published training runs; bad rows are refused by id, the others kept.

    Raises PlannerError when the file cannot be read, is empty or lacks a column that every row needs.
    """
    return runs_of(io.StringIO(read_text(path, "a CSV of measured runs"), newline=""), str(path))


def runs_of(lines: Iterable[str], path: str) -> tuple[list[Run], list[Refusal]]:
    """``read_runs`` of the lines of a file; ``path`` stands in messages."""
    reader = csv.DictReader(lines)
    try:
        header, rows = reader.fieldnames, list(reader)
    except csv.Error as error:
        raise PlannerError("{0}: cannot be read as CSV ({1}).", path, error) from None
    if not header or not rows:
        raise PlannerError("{0}: holds no rows; give a CSV with a header and one measured run a line.", path)
    twice = [name for name, times in Counter(header).items() if times > 1]
    if twice:
        raise PlannerError("{0}: column {1} occurs twice; keep one.", path, twice[0])
    named = any(meant(row.get("model") or "") for row in rows)
    missing = [name for name in REQUIRED if name not in header and not (named and name in SIZES)]
    if missing:
        hint = " The cells are not separated by commas." if len(header) == 1 else ""
        raise PlannerError("{0}: column {1} is missing; every run needs {2}.{3}", path, missing[0], ", ".join(REQUIRED), hint)
    runs: list[Run] = []
    refused: list[Refusal] = []
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        name = (row.get("id") or "").strip() or Message("line {0}", number)
        try:
            if None in row:
                raise PlannerError("line {0} has more cells than the header: a text with a comma needs quotes", number)
            if name in seen:
                raise PlannerError("id = {0!r} occurs twice; the first row counts", name)
            seen.add(name)
            runs.append(read_run(name, {k: (v or "").strip() for k, v in row.items() if k is not None}))
        except PlannerError as error:
            refused.append(Refusal(id=name, reason=str(error)))
    return runs, refused


@dataclass(frozen=True, kw_only=True)
class Asked(Question):
    """What a row asks, without what was measured."""

    layouts: tuple[Layout, ...]
    assumed: tuple[str, ...]


ANSWERS = frozenset(
    (
        "id",
        "source_ref",
        "notes",
        "step_time_s",
        "tokens_per_s_per_gpu",
        "published_mfu_pct",
        "peak_allocated_gib",
        "peak_reserved_gib",
        "memory_kind",
        "quality",
        "consistency_note",
    )
)
"""Columns that tell what was measured, not what was run."""


def read_run(name: str, given: Mapping[str, str]) -> Run:
    """One row: empty cells take the defaults of its source and family, labels are translated, then specs are built."""
    for words, why in _labels()["not_told"].items():
        if words in given.get("notes", ""):
            raise PlannerError("notes = {0!r}: {1}", given["notes"], why)
    told = [r["notes"] for r in _recipes() if r.get("notes", "") and r["notes"] in given.get("notes", "")]
    given = {**noted(given, _labels()), "recipe_told": ";".join(sorted(set(told)))}
    key = tuple((k, v) for k, v in given.items() if v != "" and k not in ANSWERS)
    asked = _question(key)
    measured = _step_time(given, asked.job)
    memory = _memory(given)
    out_of_memory = yes(given, "oom")
    if measured is None and not memory and not out_of_memory:
        raise PlannerError(
            "none of step_time_s, tokens_per_s_per_gpu, peak_allocated_gib, peak_reserved_gib and oom is given: "
            "nothing to compare with"
        )
    return Run(
        id=name,
        columns=given,
        key=key,
        model=asked.model,
        cluster=asked.cluster,
        framework=asked.framework,
        job=asked.job,
        layouts=asked.layouts,
        step_time_s=measured,
        memory_bytes=memory,
        out_of_memory=out_of_memory,
        assumed=asked.assumed,
    )


@lru_cache(maxsize=4096)
def _question(key: tuple[tuple[str, str], ...]) -> Asked:
    """The specs of a row; tables often repeat a setting, and rows that only differ in what was measured share them."""
    given = dict(key)
    row, assumed = _filled(given)
    row["accelerator"] = _translated("accelerator", row.get("accelerator", ""))
    named, software = _software(row)
    shards = _translated("data_parallel", row.get("data_parallel", "")) in ("2", "3")
    label = _labels()["sharded"].get(named, named) if shards else named
    defaults = _labels()["framework_defaults"]
    row = {
        **defaults.get(named, {}),
        **defaults.get(label, {}),
        **_recipe(row, label),
        **{k: v for k, v in row.items() if v != ""},
    }
    start = load_framework(label)
    framework = _framework(row, start.replaced(**software) if software else start)
    layouts = _layouts(row, framework)
    model = catalog_model(row, given, _labels()) or _model(row)
    job = _job(row, layouts[0], model)
    return Asked(model, _cluster(row), framework, job, layouts=layouts, assumed=assumed)


def _software(row: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """(our framework, what the software that the row names changes of it)."""
    text = _translated("framework", row["framework"])
    text = _translated("framework_before_hopper", text) if _before_hopper(row) else text
    method = row.get("method", "")
    kind = method if method in ADAPTERS else "finetune"
    found = None if without_release(text)[1] else framework_of_name(text, "framework", kind)  # a release has its own column
    if found is None:
        known = [*framework_names(), *_labels()["framework"]]
        raise PlannerError("framework = {0!r} is not known; {1}", row["framework"], near(row["framework"], known))
    return found.pop("name"), found


def _before_hopper(row: Mapping[str, str]) -> bool:
    """Whether the GPU is of a compute capability below 9; one of another maker has none, and no label of that time."""
    capability = compute_capability(load_accelerator(row["accelerator"], "accelerator")) if row["accelerator"] else None
    return capability is not None and capability < (9, 0)


@cache
def _recipes() -> list[dict[str, Any]]:
    """What frameworks' published recipes set, by model and GPU."""
    return list(read_table(LABELS)["recipe"])


def _recipe(row: Mapping[str, str], framework: str) -> dict[str, str]:
    """Cells that a framework's published recipe for this model and GPU sets; later entries count more."""
    found: dict[str, str] = {}
    for recipe in _recipes():
        starts = all(_plain(row.get(c, "")).startswith(_plain(recipe.get(c, ""))) for c in ("model", "accelerator"))
        if framework == recipe["framework"] and starts and recipe.get("notes", "") in row.get("recipe_told", ""):
            found |= recipe["cells"]
    return found


@cache
def _labels() -> dict[str, dict[str, Any]]:
    return read_table(LABELS)


def _translated(column: str, text: str) -> str:
    """Our word for what a table writes, whatever its case and spaces; the text itself where it is ours or nobody's."""
    return _spellings(column).get(_plain(text), text)


@lru_cache(maxsize=1024)
def _spellings(column: str) -> dict[str, str]:
    return {_plain(text): str(word) for text, word in _labels()[column].items()}


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _filled(given: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The row with defaults for empty cells, and what was assumed about it."""
    labels = _labels()
    named: dict[str, str] = {}
    for start, values in labels["model"].items():
        named |= values if _plain(given.get("model", "")).startswith(_plain(start)) else {}
    defaults = {**labels["family"].get(given.get("family", ""), {}), **named, **labels["source"].get(given.get("source", ""), {})}
    # a 0 says no more than an empty cell of what the named model is known to have
    given = {k: "" if v == "0" and named.get(k) == "1" else v for k, v in given.items()}
    row = {**{k: v for k, v in defaults.items() if not given.get(k)}, **{k: v for k, v in given.items() if v != ""}}
    assumed = [f"{k} = {defaults[k]}" for k in defaults if not given.get(k)]
    if not row.get("framework"):
        row["framework"] = usual_framework(row)
        assumed.append(f"framework = {row['framework']}")
    return row, tuple(assumed)


DISAGREE = 0.25
"""Step time and rate of one row may differ by this part: rates are often over fewer steps than the mean time."""


def _step_time(row: Mapping[str, str], job: Job) -> float | None:
    """Seconds of one optimizer step, from tokens/s where only that was published."""
    seconds = measured_number(row, "step_time_s", 1.0)
    rate = measured_number(row, "tokens_per_s_per_gpu", 1.0)
    if rate is None:
        return seconds
    implied = job.tokens_per_step / rate / whole(row, "num_gpus")
    if seconds is not None and abs(seconds / implied - 1.0) > DISAGREE:
        raise PlannerError(
            "step_time_s = {0:g} and tokens_per_s_per_gpu = {1:g} contradict each other: that rate is a step of "
            "{2:.4g} s; correct one, or leave one empty",
            seconds,
            rate,
            implied,
        )
    return implied if seconds is None else seconds


def _memory(row: Mapping[str, str]) -> dict[MemoryKind, float]:
    found: dict[MemoryKind, float] = {}
    said = row.get("memory_kind", "")
    unit = next((float(scale) for words, scale in _labels()["memory_unit"].items() if words in said), GIB)
    allocated = measured_number(row, "peak_allocated_gib", GIB)
    if allocated is not None:
        found["allocated"] = allocated
    other = measured_number(row, "peak_reserved_gib", unit)
    if other is not None:
        kind: MemoryKind = next((k for words, k in _labels()["memory_kind"].items() if words in said), "reserved")
        found.setdefault(kind, other)
    return found


def _framework(row: Mapping[str, str], start: Framework) -> Framework:
    changes: dict[str, Any] = {}
    kernel = _translated("attention_kernel", row.get("attention_kernel", ""))
    if kernel not in ("", start.attention_kernel):
        if kernel not in ("standard", "eager", "flash"):
            raise PlannerError("attention_kernel = {0!r}: must be standard, eager or flash", kernel)
        if not (kernel == "standard" and start.attention_kernel == "eager"):
            changes["attention_kernel"] = kernel
    modules = _recompute_modules(row)
    if modules or start.usual_recompute_modules:  # measured runs that name none redid the attention core, Megatron's default
        changes["recompute_modules"] = modules or CORE_ATTENTION
    changes |= _kernels(row, start)
    changes |= _releases(row, start)
    if not yes(row, "overlap_grad_reduce", default=True) and start.overlap_gradient_reduction > 0:
        changes["overlap_gradient_reduction"] = 0.0
        if start.mixed_precision == "master_weights":  # Megatron overlaps gathers of parameters only with reductions
            changes["overlap_parameter_gather"] = 0.0
    if yes(row, "compile"):
        changes["compile"] = True
    return _changed(start, tuple(sorted(changes.items()))) if changes else start


def _kernels(row: Mapping[str, str], start: Framework) -> dict[str, Any]:
    """How tokens come to their experts, and what kernels of their own do: rotation, loss, the update of weights."""
    changes: dict[str, Any] = {}
    if row.get("dispatcher"):
        changes["dispatcher"] = row["dispatcher"].lower()
    elif start.dispatcher == "auto":  # measured runs that name none took NCCL's
        changes["dispatcher"] = "alltoall"
    if not yes(row, "fused_rotary", default=True):
        changes["fused_rotary"] = False
    if row.get("overlaps_experts"):
        changes["overlaps_experts"] = yes(row, "overlaps_experts")
    for fused in ("fused_permutation", "fused_cross_entropy"):
        if row.get(fused):
            changes[fused] = yes(row, fused)
    if row.get("fused_optimizer"):
        changes["fused_optimizer"] = row["fused_optimizer"].lower()
    return changes


CUDNN_FIRST_IN = (2, 13)
"""Release of PyTorch from which it takes cuDNN's attention first; a table that names none was measured with an older one."""


def _releases(row: Mapping[str, str], start: Framework) -> dict[str, Any]:
    """What the releases of the framework and of PyTorch change."""
    changes: dict[str, Any] = {}
    if row.get("release") and start.releases:
        changes["release"] = row["release"]
    if row.get("cuda_graphs"):
        changes["cuda_graphs"] = row["cuda_graphs"].lower()
    if start.cudnn_attention and _release(row.get("torch", "")) < CUDNN_FIRST_IN:
        changes["cudnn_attention"] = False
    return changes


def _release(text: str) -> tuple[int, ...]:
    """2.13.1+cu130 as (2, 13, 1); empty where no number is given."""
    return tuple(int(part) for part in text.partition("+")[0].split(".") if part.isdigit())


def _recompute_modules(row: Mapping[str, str]) -> frozenset[str]:
    """Megatron-Core's modules in parentheses, as ``selective(moe,layernorm)``; an unknown one is refused by the framework."""
    start, _, inside = row.get("recompute", "").partition("(")
    return (
        frozenset(name.strip() for name in inside.rstrip(")").split(",") if name.strip()) if start == "selective" else frozenset()
    )


@lru_cache(maxsize=4096)
def _changed(start: Framework, changes: tuple[tuple[str, Any], ...]) -> Framework:
    return start.replaced(**dict(changes))


def _cluster(row: Mapping[str, str]) -> Cluster:
    gpus = whole(row, "num_gpus")
    if not row.get("accelerator"):
        raise PlannerError("accelerator is empty: every run needs it")
    accelerator = load_accelerator(row["accelerator"], "accelerator")
    per_node = min(_per_node(row), gpus)
    if per_node < 1:
        raise PlannerError("gpus_per_node = '0': must be at least 1")
    network = measured_number(row, "inter_node_gbit_per_s_per_node", 1e9 / 8.0)
    return build_cluster(custom_node(accelerator.name, max(per_node, 1), network), num_gpus=gpus)


def _per_node(row: Mapping[str, str]) -> int:
    return whole(row, "gpus_per_node", GPUS_PER_NODE.get(load_accelerator(row["accelerator"]).name, 8))


def _global_batch(row: Mapping[str, str], layout: Layout) -> int:
    """Sequences of a step: as given, else micro-batch x data-parallel ranks x accumulation (one where that is empty)."""
    if row.get("global_batch_size"):
        return whole(row, "global_batch_size")
    ranks = layout.dp or max(whole(row, "num_gpus") // (layout.tp * layout.pp * layout.cp), 1)
    return layout.micro_batch_size * ranks * whole(row, "grad_accum", 1)


def _job(row: Mapping[str, str], layout: Layout, model: Model) -> Job:
    optimizer = row.get("optimizer", "")
    fields: dict[str, Any] = {
        "seq_len": whole(row, "seq_len"),
        "global_batch_size": _global_batch(row, layout),
        "precision": _translated("precision", row.get("precision", "")),
        "optimizer": _translated("optimizer", optimizer) if optimizer else "adamw",
        "optimizer_in_backward": "optimizer_in_bwd" in optimizer,
        **tuning_fields(row, model, _labels()),
    }
    if fields["precision"] == "fp8":
        fields["fp8_recipe"] = _fp8_recipe(row)
    if row.get("routing"):
        fields["routing"] = row["routing"]
    if row.get("multi_token_prediction"):
        fields["multi_token_prediction"] = whole(row, "multi_token_prediction")
    if row.get("grad_dtype"):
        wide = row["grad_dtype"].lower() in ("fp32", "float32")
        if not wide and row["grad_dtype"].lower() not in ("bf16", "fp16", "bfloat16", "float16", "same"):
            raise PlannerError("grad_dtype = {0!r}: must be fp32, bf16 or fp16", row["grad_dtype"])
        fields["gradient_dtype"] = "fp32" if wide else "same"
    return Job.build(fields, "row")


def _fp8_recipe(row: Mapping[str, str]) -> str | None:
    """The recipe's column, else what the word for the precision says of it ("mxfp8")."""
    told = row.get("fp8_recipe", "")
    if told:
        return _translated("fp8_recipe", told)
    return _spellings("fp8_recipe").get(_plain(row.get("precision", "")))


def _layouts(row: Mapping[str, str], framework: Framework) -> tuple[Layout, ...]:
    sharding = row.get("data_parallel", "") or "ddp"
    zero = _translated("data_parallel", sharding)
    if zero not in ("0", "1", "2", "3"):
        raise PlannerError("data_parallel = {0!r}: {1}", sharding, near(sharding, _labels()["data_parallel"]))
    fields: dict[str, Any] = {n: whole(row, n, 1) for n in ("tp", "pp", "vpp", "cp", "ep")}
    if framework.mixed_precision == "sharded_fp32":
        alone = whole(row, "dp", 1) == 1 or "data_parallel" not in row
        zero = "3" if int(zero) < 2 and alone else zero  # it shards by its nature
    fields |= {
        "micro_batch_size": _micro_batch(row, framework),
        "zero": int(zero),
        "sequence_parallel": yes(row, "sequence_parallel") and fields["tp"] > 1,
        **_offload(row),
    }
    if row.get("etp"):
        fields["etp"] = fields["tp"] if row["etp"] == "tp" else whole(row, "etp")
    fields["vpp"] = fields["vpp"] if fields["pp"] > 1 else 1
    if row.get("dp"):
        fields["dp"] = whole(row, "dp")
    group = _labels()["shard_group"].get(sharding)
    if group == "node":
        group = str(min(_per_node(row), whole(row, "num_gpus")))
    if group:
        fields["shard_group_size"] = int(group)
    recompute = _translated("recompute", row.get("recompute", "").partition("(")[0])
    if recompute and recompute not in RECOMPUTE:
        raise PlannerError("recompute = {0!r}: {1}, or empty", recompute, one_of(recompute, RECOMPUTE))
    # whoever ran out of memory had not recomputed everything: without a word on it, nothing
    unknown = RECOMPUTE[:1] if yes(row, "oom") else RECOMPUTE
    return tuple(Layout.build({**fields, "recompute": r}, "row") for r in ((recompute,) if recompute else unknown))


def _micro_batch(row: Mapping[str, str], framework: Framework) -> int:
    """Sequences of a micro-batch; where the table is silent, all of a rank's without a pipeline, one with it, or as many as leave
    one micro-batch a rank of the pipeline."""
    if row.get("micro_batch_size"):
        return whole(row, "micro_batch_size")
    ranks = whole(row, "dp", 0)
    if not ranks or not row.get("global_batch_size"):
        raise PlannerError("micro_batch_size is empty, and global_batch_size or dp is too: every run needs one of them")
    at_once = whole(row, "global_batch_size") // ranks // max(whole(row, "grad_accum", 1), 1)
    ranks_of_pipeline = whole(row, "pp", 1)
    if ranks_of_pipeline > 1 and framework.release not in _labels()["micro_batch_a_rank"].get(framework.name, []):
        return 1
    return max(at_once // ranks_of_pipeline, 1)


OFFLOADS: dict[str, tuple[str, ...]] = {
    "": (), "none": (), "0": (), "optimizer": ("offload_optimizer",), "optimizer-cpu": ("offload_optimizer",),
    "param-cpu": ("offload_parameters",), "optimizer+param-cpu": ("offload_optimizer", "offload_parameters"),
    "optimizer-cpu+param-cpu": ("offload_optimizer", "offload_parameters"),
    "cpu params (FSDP)": ("offload_optimizer", "offload_parameters"),
}  # fmt: skip
"""What tables write of what lives on the host; FSDP's CPUOffload moves both."""


def _offload(row: Mapping[str, str]) -> dict[str, bool]:
    what = row.get("offload", "")
    if what not in OFFLOADS:
        raise PlannerError("offload = {0!r}: {1}", what, near(what, list(OFFLOADS)[1:]))
    return dict.fromkeys(OFFLOADS[what], True)


def _model(row: Mapping[str, str]) -> Model:
    """The model of a row. Where a table does not name the norm, gated models use RMS norm and plain ones layer norm."""
    gated, biases = yes(row, "gated_ffn", default=True), yes(row, "biases")
    position = row.get("position_embedding", "") or "rope"
    if position not in POSITIONS:
        raise PlannerError("position_embedding = {0!r}: {1}", position, one_of(position, POSITIONS))
    dropout = fraction(row, "dropout")
    fields: dict[str, Any] = {
        "name": row.get("model") or "model",
        "norm": row.get("norm") or ("rmsnorm" if gated else "layernorm"),
        "gated_ffn": gated,
        "activation": row.get("activation") or ("silu" if gated else "gelu"),
        "qkv_bias": biases,
        "attention_output_bias": biases,
        "ffn_bias": biases,
        "tied_embeddings": yes(row, "tied_embeddings"),
        "position_embedding": POSITIONS[position],
        "hidden_dropout": dropout,
        "attention_dropout": dropout,
        "architecture": row.get("architecture", "decoder"),
        "embedding_norm": yes(row, "embedding_norm"),
        "final_norm": yes(row, "final_norm", default=True),
        "head": _head(row),
        "softmax_in_fp32": yes(row, "softmax_in_fp32", default=True),
        "attention_sinks": yes(row, "attention_sinks"),
    }
    if fields["head"] == "none":
        fields["tied_embeddings"] = False
    if POSITIONS[position] == "learned":
        fields["max_positions"] = max(whole(row, "max_positions", 0), whole(row, "seq_len"))
    if row.get("memory_length"):
        fields["memory_length"] = whole(row, "seq_len" if row["memory_length"] == "seq_len" else "memory_length")
        fields["relative_attention"] = yes(row, "relative_attention")
    for column in ("num_layers", "hidden_size", "num_heads", "vocab_size"):
        fields[column] = whole(row, column)
    capacity = measured_number(row, "capacity_factor", 1.0)
    if capacity is not None:
        fields["capacity_factor"] = capacity
    latent = row.get("attention") == "mla"
    optional = ["ffn_hidden_size", "num_experts", "top_k", "expert_ffn_hidden_size", "num_shared_experts", "num_dense_layers"]
    optional += ["q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"] if latent else []
    optional += ["type_vocab_size", "sliding_window", "full_attention_every"] + ([] if latent else ["num_kv_heads", "head_dim"])
    for column in optional:
        if row.get(column):
            fields[column] = whole(row, column)
    if latent:
        fields["attention"] = "mla"
    return _built(tuple(sorted(fields.items())))


def _head(row: Mapping[str, str]) -> str:
    """What an encoder is trained on: a masked language model unless the row says fine-tuning."""
    if row.get("head"):
        return row["head"]
    if row.get("architecture") != "encoder":
        return "language_model"
    tuned = any(word in row.get("model", "").lower() for word in ("squad", "fine-tune", "seq-cls"))
    return "none" if tuned else "masked_language_model"


@lru_cache(maxsize=4096)
def _built(fields: tuple[tuple[str, Any], ...]) -> Model:
    return Model.build(dict(fields), "model")
