"""Fields of a server's command to the tables of a serving scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.launchfiles.formats import Format
from planner.launchfiles.models import model_table, quantized_name
from planner.launchfiles.numbers import length, whole
from planner.launchfiles.training import Tables, _table, speculative_of
from planner.launchfiles.understanding import Said
from planner.model.architecture import Model
from planner.model.gguf import is_gguf
from planner.serving.engine import Engine, load_engine, resolve_engine
from planner.serving.feasibility import usual_passage
from planner.serving.requests import longest_tokens, mean_tokens
from planner.serving.spec import OUTPUT, PROMPT, Dispatcher, Lengths, replica_gpus
from planner.workload.resolve import as_cluster, as_model

UNQUANTIZED = ("bf16", "fp16", "fp32")


def serving_tables(said: Said, model: str | None, cluster: Mapping[str, Any], over: Mapping[str, Any]) -> Tables:
    """[model] [cluster] [serving] of a server's command; what planner's command line says overrides the file."""
    f = said.fields
    _captured(said)
    f |= {f"serving.{name.removeprefix('load.')}" if name.startswith("load.") else name: value for name, value in over.items()}
    form = next(form for form in said.formats if form.kind == "serve")
    engine = str(f.get("serving.engine") or _engine(said, form))
    f["serving.engine"] = engine
    _cut(said)
    _balanced(said)
    if isinstance(repository := f.get("said.repository"), str):  # llama-server --help: USER/MODEL[:QUANT], default Q4_K_M
        f.setdefault("said.gguf", repository if ":" in repository else f"{repository}:Q4_K_M")
    named = _model(said, model)
    stored = f.get("said.gguf")
    _weights(said, stored if isinstance(stored, str) else model or f.get("said.model"))
    if isinstance(stored, str) and "serving.weights" not in f and "config" not in named:
        said.unmodelled.append(Message("{0}: stored in an unknown format, counted as 16 bits; give serving.weights", stored))
    if not f.get("serving.embeds"):
        f.pop("serving.embeds", None)
    _lengths(said, as_model(named))
    _speculative(said)
    layers = f.get("said.gpu_layers")
    if isinstance(layers, int) and 0 <= layers < as_model(named).num_layers:
        said.unmodelled.append(
            Message("n-gpu-layers = {0}: the other layers run on the CPU; all are counted as on the GPU", layers)
        )
    carried = _table(f, "cluster")
    table = {**({} if cluster else carried), **cluster}
    needed = _gpus(f)
    held = f.get("said.gpus_per_node")
    if f.get("said.split") is not None or said.has("llama.cpp"):
        if isinstance(held, int) and not {"num_gpus", "num_nodes"} & set(table):
            table["num_gpus"] = whole(f, "said.gpus_per_node")
        gpus = int(table.get("num_gpus", 1))
        if "serving.pp" not in f and "serving.tp" not in f:
            f["serving.tp" if f.get("said.split") == "row" else "serving.pp"] = 1 if f.get("said.split") == "none" else gpus
    elif "num_gpus" not in table and "num_nodes" not in table:
        table["num_gpus"] = needed
        if held is not None and held != needed:
            said.notes.append(
                Message("the container has {0} GPUs, but its server uses {1}: the answer is for those", held, needed)
            )
    found = load_engine(engine)
    _passes(said, found.on(as_cluster(table).accelerator, _ranks(f)) if {"accelerator", "node"} & set(table) else found)
    return {"model": named, "cluster": table, "serving": _table(f, "serving")}


def _engine(said: Said, form: Format) -> str:
    """The engine of the server's release; of a release that has several, the one that a variable chooses."""
    release, chosen = str(said.fields.get("said.release", "")), str(said.fields.get("said.core"))
    named = f"{form.framework}-{release}" if release else form.framework
    core = form.cores.get(chosen)
    if core is None:
        return named
    if not release:
        return _chosen(said, core.engine if core.before else named)
    if not core.is_in(release):
        said.not_understood.append(Message("{0} {1} has no engine {2}, which a variable chooses", form.title, release, chosen))
        return named
    others = {resolve_engine(other.engine) for other in form.cores.values() if other is not core}
    return _chosen(said, core.engine if resolve_engine(named) in others else named)


def _chosen(said: Said, engine: str) -> str:
    """The engine, told of beside the variable that chooses it."""
    said.lines = [
        replace(line, field="serving.engine", meaning=engine) if line.field == "said.core" else line for line in said.lines
    ]
    return engine


def _balanced(said: Said) -> None:
    """serving.expert_placement where the server balances its experts by their load (EPLB) and stores no copies of them."""
    f = said.fields
    if not f.get("said.balanced") or f.get("serving.redundant_experts") or (whole(f, "serving.ep") or 1) == 1:
        return
    if f.get("serving.expert_load"):
        return
    if f.get("serving.expert_zipf"):
        f.setdefault("serving.expert_placement", "rebalanced")
        return
    said.unmodelled.append(
        Message("experts are placed by their load (EPLB), and all are counted as equally popular: say serving.expert_zipf")
    )


def _ranks(f: Mapping[str, Any]) -> int:
    return replica_gpus(tp=whole(f, "serving.tp") or 1, ep=whole(f, "serving.ep") or 1)


def _gpus(f: Mapping[str, Any]) -> int:
    return _ranks(f) * (whole(f, "serving.pp") or 1) * (whole(f, "serving.dp") or 1)


def _cut(said: Said) -> None:
    """tp, ep and dp where the tool counts ranks another way."""
    f = said.fields
    replicas, ranks = whole(f, "said.replicas") or 1, whole(f, "said.tp")
    if ranks is not None:
        f.setdefault("serving.tp", ranks)
    if f.get("said.experts_spread"):  # vLLM: experts over all ranks of tp x dp
        f.setdefault("serving.ep", (whole(f, "serving.tp") or 1) * replicas)
    elif f.get("said.attention_groups") and replicas > 1 and ranks:
        f["serving.tp"] = max(ranks // replicas, 1)
        f["serving.ep"] = ranks
    elif f.get("said.attention_each") and ranks:
        f["serving.tp"] = 1
        f["serving.ep"] = ranks
    elif replicas > 1:
        f.setdefault("serving.dp", replicas)
    for name in ("tp", "pp", "ep", "dp"):
        if f.get(f"serving.{name}") is not None:
            f[f"serving.{name}"] = whole(f, f"serving.{name}")
    _exchange(said)


def _exchange(said: Said) -> None:
    """serving.dispatcher: how tokens of several attention groups come to their experts."""
    f = said.fields
    said_way, groups = f.get("said.dispatcher"), (f.get("serving.ep") or 1) > (f.get("serving.tp") or 1)
    if said_way not in (None, *get_args(Dispatcher)):
        said.unmodelled.append(Message("dispatcher {0}: kernels of its own; counted as gather", said_way))
        said_way = "gather" if groups else None
    if groups and load_engine(str(f["serving.engine"])).dispatcher_option:
        f.setdefault("serving.dispatcher", said_way or "gather")
    elif said_way is not None:
        said.unmodelled.append(Message("dispatcher {0} changes nothing here: every GPU has all tokens", said_way))


def _model(said: Said, given: str | None) -> dict[str, Any]:
    if given is not None:
        return model_table(given)
    f = said.fields
    if f.get("model.name") or f.get("model.base"):
        return _table(f, "model")
    checkpoint = f.get("said.model") or f.get("said.gguf")
    if isinstance(checkpoint, str) and "$" not in checkpoint:
        return model_table(_beside(said, checkpoint) if is_gguf(checkpoint) else checkpoint)
    raise PlannerError(
        "which model? The command names none; name one before --from: planner plan llama-3.1-8b --from FILE.",
        code="missing",
        field="model.name",
    )


def _beside(said: Said, file: str) -> str:
    """The path of a file that a command names: as it stands, or seen from where the command's own file lies."""
    return next((str(one) for one in (Path(file), *(folder / file for folder in said.folders)) if one.is_file()), file)


def _weights(said: Said, checkpoint: Any) -> None:
    """serving.weights: the option's, the comment's, else the type that it computes in."""
    f = said.fields
    dtype = f.get("said.dtype")
    if "serving.weights" in f:
        if f["serving.weights"] not in UNQUANTIZED and dtype in UNQUANTIZED:
            f.setdefault("serving.compute_dtype", dtype)
        return
    named = quantized_name(checkpoint) if isinstance(checkpoint, str) else None
    if named is not None:
        said.notes.append(Message("serving.weights = {0!r}, from the end of the checkpoint's name", named))
        f["serving.weights"] = named
        if dtype in UNQUANTIZED:
            f.setdefault("serving.compute_dtype", dtype)
    elif dtype in UNQUANTIZED:
        f["serving.weights"] = dtype


def _passes(said: Said, found: Engine) -> None:
    """Tokens of a prefill pass, written only where they differ from the engine's default on this GPU; these and places are those
    of one attention group."""
    f = said.fields
    groups = max(int(f.get("serving.ep") or 1) // int(f.get("serving.tp") or 1), 1) if found.limits_of_all_groups else 1
    if f.get("said.all_places") is not None:
        f.setdefault("serving.max_batch", max((whole(f, "said.all_places") or 1) // groups, 1))
    tokens = length(said, "said.prefill", -1)
    if tokens is not None and tokens > 0 and (tokens != found.prefill_tokens or f.get("said.mixed_chunk")):
        f.setdefault("serving.chunked_prefill_tokens", max(tokens // groups, 1))
    physical = length(said, "said.physical_batch", -1)
    if physical is not None and physical > 0 and physical != found.prefill_tokens:
        f.setdefault("serving.pass_tokens", physical)
    if f.get("serving.memory_fraction") == found.memory_fraction and not found.reserved_bytes:
        del f["serving.memory_fraction"]
    if f.get("serving.kv_dtype") == "auto":
        del f["serving.kv_dtype"]


def _captured(said: Said) -> None:
    """Batches with a CUDA graph, written only where none is padded to the next larger one."""
    f = said.fields
    captured, padded = f.pop("serving.captured_batches", None), f.get("said.padded")
    if captured is not None and not padded:
        f["serving.captured_batches"] = captured if isinstance(captured, list) else [captured]
    elif captured is None and padded is False:
        said.unmodelled.append(Message("batches are not padded to one with a CUDA graph: give serving.captured_batches"))


def _lengths(said: Said, model: Model) -> None:
    """serving.max_context, and lengths of prompt and output, which no server's command gives: the usual ones that the context
    leaves room for. PlannerError for given ones that the server refuses. A model that makes vectors has no output."""
    f = said.fields
    vectors = model.embeds or bool(f.get("serving.embeds"))
    places = whole(f, "said.places")
    if places is not None:
        f.setdefault("serving.max_batch", places)
    context = length(said, "said.context")
    everything = length(said, "said.all_context", -1)
    if everything is not None and everything > 0:
        context = max(everything // (places or 1), 1)
    told = ("prompt",) if vectors else ("prompt", "output")
    table = _table(f, "serving")
    given = {name: _given_lengths(name, table[name]) for name in told if name in table}
    if context is not None and "serving.max_context" not in f:
        f["serving.max_context"] = context
        _require_held(said, context, tuple(given.values()), len(told))
    context = whole(f, "serving.max_context")
    missing = [name for name in told if name not in given]
    if not missing:
        return
    prompt, output = PROMPT, OUTPUT
    if vectors:
        prompt = usual_passage(model, context)
    elif context is not None and given:
        longest, mean = (int(of(*given.values())) for of in (longest_tokens, mean_tokens))
        left = max(context - (longest if longest < context else mean), 1)
        prompt, output = min(prompt, left), min(output, left)
    elif context is not None and context < prompt + output:
        prompt = max(context * 4 // 5, 1)
        output = max(context - prompt, 1)
    usual = {"prompt": prompt, "output": output}
    for name in missing:
        f[f"serving.{name}"] = usual[name]
    listed = ", ".join(f"serving.{name} = {usual[name]}" for name in missing)
    said.notes.append(Message("not in the command; usual values are used: {0}", listed))


def _given_lengths(name: str, value: Any) -> Lengths:
    return Lengths.build({"mean": value} if isinstance(value, int) else value, f"serving.{name}")


def _require_held(said: Said, context: int, given: tuple[Lengths, ...], parts: int) -> None:
    """PlannerError where the mean request is longer than the server's own limit, so that it refuses what is asked about. What is
    not given takes a token at least."""
    mean = sum(map(mean_tokens, given)) + parts - len(given)
    if not given or mean <= context:
        return
    field = "said.all_context" if "said.all_context" in said.fields else "said.context"
    option = next((line.option for line in reversed(said.lines) if line.field == field), field)
    raise PlannerError(
        "{0} = {1}: lets a request have {2:,} tokens, and prompt and output have at least {3:,.0f}: the server refuses it; "
        "raise {0}, or ask about shorter ones.",
        option,
        said.fields[field],
        context,
        mean,
    )


def _speculative(said: Said) -> None:
    f = said.fields
    if f.get("said.speculative") is None:
        for name in [name for name in f if name.startswith("serving.speculative.")]:
            del f[name]
        return
    table = speculative_of(f["said.speculative"])
    tokens = None if table is None else table.get("num_speculative_tokens")
    acceptance = f.get("serving.speculative.acceptance")
    if table is None or not isinstance(tokens, int) or acceptance is None:
        f.pop("serving.speculative.acceptance", None)
        said.unmodelled.append(Message("speculative-config: give serving.speculative, with the acceptance of its proposals"))
        return
    f["serving.speculative.tokens"] = tokens
    if isinstance(table.get("model"), str):
        f["serving.speculative.draft"] = table["model"]
