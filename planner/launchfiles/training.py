"""Fields of a training launch to the tables of a scenario: what several options decide together."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, get_args

from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.hardware.asked import accelerator_named
from planner.launchfiles.formats import load_format
from planner.launchfiles.models import (
    TUNED,
    described_model,
    model_table,
    recipe_model,
    torchtitan_model,
    torchtune_model,
    vocabulary,
)
from planner.launchfiles.numbers import names_of, whole
from planner.launchfiles.pretrainers import SIZED, settle, sizes
from planner.launchfiles.swift import accumulated, settle_swift
from planner.launchfiles.understanding import Said, scalar, shown
from planner.operators.head import VOCABULARY_STEP
from planner.workload.fp8_recipe import Fp8Recipe
from planner.workload.framework import CORE_ATTENTION, load_framework
from planner.workload.resolve import as_model

Tables = dict[str, dict[str, Any]]
MEGATRON = ("megatron", "megatron-deepspeed", "nemo-1")
TUNERS = ("transformers", "trl", "llama-factory", "axolotl", "peft", "bitsandbytes", "torchtune", "ms-swift")
FIELDS = ("layout", "job", "framework")
SHARDS = ("said.fsdp", "said.fsdp_table", "said.sharder", "said.shard", "said.replicate", "said.reshard")
OF_LAYOUT = {
    "zero": (*SHARDS, "said.sharding", "said.torch_fsdp", "said.deepspeed_named"),
    "shard_group_size": (*SHARDS, "said.instances"),
    "recompute": ("said.checkpointing", "said.deepspeed_checkpointing"),
    "offload_activations": ("said.offloaded_layers",),
    "offload_optimizer": ("said.fsdp", "said.fsdp_offload", "said.deepspeed_named"),
    "offload_parameters": ("said.fsdp", "said.fsdp_offload", "said.deepspeed_named", "said.parameters_moved"),
    "vpp": ("said.pipeline_layout", "said.layers_per_chunk", "said.schedule"),
    "schedule": ("said.schedule",),
    "sequence_parallel": ("said.sequence",),
    "etp": ("said.experts_cut",),
    "micro_batch_size": ("said.local_batch", "said.pipeline_batch"),
}
"""Fields of the layout that options of other names decide, beside those of their own name."""
DEFAULT_MICRO_BATCH = 8
"""TrainingArguments' per_device_train_batch_size where none is given."""


def training_tables(
    said: Said, model: str | None, cluster: Mapping[str, Any], over: Mapping[str, Any], carried: Mapping[str, Any]
) -> Tables:
    """[model] [cluster] [framework] [job] [layout] of a training launch.

    ``model``, ``cluster`` and ``over`` (field -> value) are what planner's command line says; they override the file;
    ``carried``: fields that comments of the file give. A recipe whose layout nothing gives has no [layout]. Raises PlannerError
    for what is missing or impossible, with the option that would give it.
    """
    f = said.fields
    f |= over
    settle(said)
    settle_swift(said)
    _refuse_both(said, over)
    if (of_epoch := whole(f, "said.epoch_steps")) is not None:  # torchtune's, of each epoch
        f["said.max_steps"] = of_epoch * (whole(f, "job.num_epochs") or 1)
    if str(f.get("said.tuning")).endswith("-sharded"):  # torchtune's recipes for several GPUs
        f["said.tuning"] = str(f["said.tuning"]).removesuffix("-sharded")
        f.setdefault("said.fsdp", "full_shard")
    framework = _framework(said)
    _precision(said, framework)
    _momentum(said)
    _tuning(said, framework)
    named = _padded(said, _model(said, model))
    inline = "num_layers" in named and "base" not in named  # may lack what another option is to give
    experts = bool(named.get("num_experts")) if inline else as_model(named).num_experts > 0
    _recomputation(said, experts=experts)
    _compiled_parts(said)
    _experts(said, experts=experts)
    table = _cluster(said, cluster)
    told = {*over, *carried, *(line.field for line in said.lines)}
    laid_out = any(name.startswith("layout.") for name in told) or any(told.intersection(names) for names in OF_LAYOUT.values())
    unread = bool(f.get("said.recipe")) and not f.get("job.global_batch_size")
    num_gpus = _sharding_and_batch(said, table, framework)
    if unread:
        said.notes.append(
            Message("global_batch_size = {0}: the recipe's own is not read; --batch gives it", f["job.global_batch_size"])
        )
    if num_gpus is not None and "num_nodes" not in table:
        table["num_gpus"] = num_gpus
    tables: Tables = {"model": named, "cluster": table}
    _titan_chunks(said, tables["model"])
    for name in FIELDS:
        tables[name] = _table(f, name)
    tables["framework"] = _framework_table(framework, tables["framework"], said, num_gpus or 0, experts=experts)
    if "seq_len" not in tables["job"] and "job.seq_len" in said.unset:
        raise PlannerError(
            "job.seq_len is missing: nothing sets the variable of {0}; give --seq-len, or pass a one-line script that calls "
            "it with its arguments, such as bash train.sh 8B 4096.",
            said.unset["job.seq_len"],
            code="missing",
            field="job.seq_len",
        )
    if "seq_len" not in tables["job"]:
        raise PlannerError(
            "job.seq_len is missing: the launch file does not say how long a sequence is; give --seq-len.",
            code="missing",
            field="job.seq_len",
        )
    if f.get("said.recipe") and not laid_out:
        del tables["layout"]  # the recipe's own is not read: one is chosen
    return {name: values for name, values in tables.items() if values or name == "layout"}


def _table(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fields of one table, tables inside it nested."""
    found: dict[str, Any] = {}
    for key, value in fields.items():
        table, _, rest = key.partition(".")
        if table != name or value is None or not rest:
            continue
        *inner, last = rest.split(".")
        at = found
        for part in inner:
            at = at.setdefault(part, {})
        at[last] = value
    return found


def _framework(said: Said) -> str:
    """The framework of the catalog that the tool is."""
    f = said.fields
    if "framework.name" in f:
        return str(f["framework.name"])
    if f.get("said.megatron_fsdp"):
        return "megatron-fsdp"
    if f.get("said.torch_fsdp"):
        return "fsdp"
    for name in (*MEGATRON, "gpt-neox", "nanotron", "llm-foundry", "nemo", "torchtitan", "torchtune"):
        form = next((one for one in said.formats if one.name == name), None)
        if form is not None:
            return form.framework
    adapter = said.has("peft", "bitsandbytes") or bool(f.get("said.peft")) or f.get("said.tuning") in ("lora", "qlora", "dora")
    by_deepspeed = said.has("deepspeed") or f.get("said.sharder") == "deepspeed"
    if adapter:
        return "peft-deepspeed" if by_deepspeed else "peft"
    if by_deepspeed:
        return "deepspeed-zero"
    if f.get("said.fsdp") or f.get("said.fsdp_table") or f.get("said.sharder") == "fsdp" or f.get("said.shard"):
        narrow = f.get("said.fp8") or f.get("said.precision") == "fp8"
        return "transformers-fsdp" if not narrow or "fp8" in load_framework("transformers-fsdp").features else "fsdp"
    return "huggingface"


def _framework_table(name: str, changed: dict[str, Any], said: Said, num_gpus: int, *, experts: bool) -> dict[str, Any]:
    """[framework]: its name and what options change of it, without what makes no difference here."""
    catalog = load_framework(name)
    if said.fields.get("said.liger_kernels") and not changed.get("liger"):
        said.unmodelled.append(Message("liger kernels without their loss: fewer kernels; framework.liger means all of them"))
    _overlap_of_tensors(said, catalog.overlap_tensor_parallel)
    found: dict[str, Any] = {"name": name}
    for field, value in changed.items():
        of_experts = field in ("grouped_experts", "fused_router", "fused_permutation", "pads_to_capacity") and not experts
        alone = field.startswith("overlap_") and num_gpus == 1
        if field != "name" and not of_experts and not alone and getattr(catalog, field, None) != value:
            found[field] = value
    return found


COMPILED = ("model", "loss")
"""What torchtitan compiles where nothing is said (CompileConfig.components)."""


def _compiled_parts(said: Said) -> None:
    """framework.compile and compiled_loss where torchtitan compiles its layers or its loss alone, or neither."""
    f = said.fields
    parts = names_of(f.get("said.compiled", COMPILED))
    unknown = [part for part in parts if part not in COMPILED]
    if unknown:
        known = Message("{0} = {1}: known are {2}", "compile.components", ", ".join(unknown), ", ".join(COMPILED))
        said.not_understood.append(known)
    if "said.compiled" not in f or not f.get("framework.compile"):
        return
    f["framework.compile"] = "model" in parts
    if ("loss" in parts) != ("model" in parts):
        f["framework.compiled_loss"] = "always" if "loss" in parts else "never"


def _overlap_of_tensors(said: Said, in_catalog: float) -> None:
    on = said.fields.get("said.tensor_overlap")
    if on and in_catalog == 0:
        said.unmodelled.append(
            Message(
                "tp-comm-overlap: tensor-parallel communication behind computation: less time; "
                "framework.overlap_tensor_parallel says how much of it"
            )
        )


# --- numbers in memory ------------------------------------------------------------------------------------------------


EXCLUSIVE = (
    ("said.bf16", "said.fp16", "job.precision"),
    ("said.four_bit", "said.eight_bit", "job.quantization.format"),
    ("job.num_steps", "job.num_samples", ""),
)
"""Fields of which tools take one, and the one of a question that decides between them: Megatron (training/arguments.py:
``assert not args.bf16``, ``expected iteration-based training``), DeepSpeed (runtime/config.py: bfloat16 and fp16 modes cannot be
simultaneously enabled), transformers (training_args.py: at most one of fp16 and bf16; BitsAndBytesConfig: only one of
load_in_4bit and load_in_8bit). In transformers max_steps takes num_train_epochs' place, which is no contradiction."""


def _refuse_both(said: Said, over: Mapping[str, Any]) -> None:
    """PlannerError for two options that a tool refuses together, as written; not where planner's command line decides."""
    f = said.fields
    written = {line.field: line.option for line in said.lines}
    for one, two, decides in EXCLUSIVE:
        counted = one.startswith("job.")
        if decides in over or one in over or two in over or (counted and not said.has("megatron")):
            continue
        if all(name in written and (f.get(name) if counted else f.get(name) is True) for name in (one, two)):
            raise PlannerError(
                "{0} and {1}: both are set, and a run takes one of them; leave the other out.",
                written[one],
                written[two],
                code="usage",
                field=written[one],
            )


def _precision(said: Said, framework: str) -> None:
    """job.precision and job.gradient_dtype."""
    f = said.fields
    converters = " ".join(names_of(f.get("said.converters", "")))
    if "job.precision" not in f:
        found = _precision_of(said, "float8" in converters or "mxfp8" in converters)
        recipe = found if found in get_args(Fp8Recipe) else "mxfp8" if "mxfp8" in converters else None
        if recipe is not None:  # NeMo's mixed_precision and torchtitan's converters name it in one word with the precision
            found = "fp8"
            f.setdefault("job.fp8_recipe", recipe)
        if found == "fp8" and f.get("said.stored") == "bf16":
            said.unmodelled.append(
                Message("training.dtype = bfloat16 with FP8: weights and optimizer states in 16 bits: less memory")
            )
        if found is not None:
            f["job.precision"] = found
    if f.get("job.precision") != "fp8":
        f.pop("job.fp8_recipe", None)
    elif said.has("megatron"):  # its default where only the format is given
        f.setdefault("job.fp8_recipe", "delayed")
    if said.has("megatron") and "job.gradient_dtype" not in f:
        half = f.get("job.precision") in ("bf16", "fp8", "nvfp4")
        wide = half and not f.get("said.gradients_16")
        f["job.gradient_dtype"] = "fp32" if wide or f.get("said.gradients_fp32") else "same"
        if f.get("job.precision") == "fp32":
            del f["job.gradient_dtype"]
    if f.get("job.gradient_dtype") == load_framework(framework).gradient_dtype:
        del f["job.gradient_dtype"]


def _precision_of(said: Said, converted: bool) -> str | None:
    f = said.fields
    if f.get("said.fp4"):
        return "nvfp4"
    if f.get("said.fp8") or converted:
        return "fp8"
    if f.get("said.bf16") == "pure" or f.get("said.stored") == "bf16":
        return "bf16-pure"
    whole_model = f.get("said.tuning", "full") == "full" and not f.get("said.peft") and not said.has("peft")
    if f.get("said.bf16"):
        return "bf16-pure" if said.has("trl") and f.get("said.dtype") == "bf16" and whole_model else "bf16"
    if f.get("said.fp16"):
        return "fp16"
    found = f.get("said.precision") or f.get("said.compute")
    if found not in (None, "fp32"):
        return str(found)
    if f.get("said.tf32"):
        return "tf32"
    if found is not None or said.has(*MEGATRON, "deepspeed", *SIZED, *TUNERS):
        return "fp32"
    return None


def _recomputation(said: Said, *, experts: bool) -> None:
    """layout.recompute, its modules, and what is offloaded."""
    f = said.fields
    checkpointing = f.get("said.checkpointing")
    if checkpointing == "offload":
        said.unmodelled.append(Message("gradient_checkpointing = offload: layer inputs in host memory: less GPU memory"))
    if checkpointing is not None and "layout.recompute" not in f:
        f["layout.recompute"] = "full" if checkpointing else "none"
    if f.get("said.deepspeed_checkpointing") is not None and not said.has(*TUNERS):
        f.setdefault("layout.recompute", "full")
    if isinstance(f.get("said.offloaded_layers"), int) and f["said.offloaded_layers"] > 0:
        f["layout.offload_activations"] = True
        layers = f.get("model.num_layers")
        if isinstance(layers, int) and f["said.offloaded_layers"] < layers - 1:
            said.unmodelled.append(
                Message(
                    "cpu-offloading-num-layers = {0}: counted as if the activations of all layers were offloaded",
                    f["said.offloaded_layers"],
                )
            )
    if f.get("layout.recompute") == "selective":
        _redone_modules(said, experts=experts)
    per_chunk = f.get("said.recompute_layers")
    if f.get("said.recompute_method") == "block" and f.get("layout.recompute") == "full":
        said.unmodelled.append(
            Message(
                "recompute-method = block with {0} layers: counted as if all layers were recomputed: less memory, more time",
                per_chunk,
            )
        )
    elif f.get("layout.recompute") == "full" and isinstance(per_chunk, int) and per_chunk > 1:
        said.unmodelled.append(
            Message("recompute-num-layers = {0}: only one input is kept for so many layers: less memory", per_chunk)
        )


def _redone_modules(said: Said, *, experts: bool) -> None:
    """framework.recompute_modules: as the options say, else Megatron-Core's default, which is not the planner's."""
    modules = said.fields.get("said.recompute_modules")
    if modules is not None:
        said.fields["framework.recompute_modules"] = frozenset(names_of(modules))
    elif experts and load_framework(_framework(said)).usual_recompute_modules:
        said.fields["framework.recompute_modules"] = CORE_ATTENTION


def _capacity(said: Said, dispatcher: str) -> None:
    """What Megatron-Core refuses of experts with a capacity (megatron/core/transformer/transformer_config.py).

    Padding without one is refused by all of its releases, the allgather dispatcher with one by many: that is a note.
    """
    capacity, pads = said.fields.get("model.capacity_factor"), bool(said.fields.get("framework.pads_to_capacity"))
    if pads and capacity is None:
        raise PlannerError(
            "framework.pads_to_capacity = true: Megatron-Core refuses --moe-pad-expert-input-to-capacity without a capacity; "
            "give --moe-expert-capacity-factor, or leave it out."
        )
    if capacity is not None and dispatcher == "allgather":
        said.notes.append(
            Message(
                "moe-expert-capacity-factor = {0}: many releases of Megatron-Core do not start with it and the allgather "
                "dispatcher, the default; --moe-token-dispatcher-type alltoall is what they take",
                capacity,
            )
        )


def _experts(said: Said, *, experts: bool) -> None:
    """How tokens reach their experts, and over how many GPUs an expert is cut."""
    f = said.fields
    if f.get("said.implementation") == "local":
        said.unmodelled.append(
            Message("transformer-impl = local: layers without Transformer Engine's fused kernels: more memory and time")
        )
    dispatcher = f.get("said.dispatcher")
    if dispatcher == "flex":
        dispatcher = f.get("said.flex") or "deepep"
    if dispatcher is None and said.has("megatron"):
        dispatcher = "allgather"  # the default of --moe-token-dispatcher-type (megatron/training/arguments.py)
    if dispatcher is not None and experts:
        f["framework.dispatcher"] = dispatcher
    if said.has("megatron") and experts:
        _capacity(said, str(dispatcher))
    if said.has("megatron") and experts and "layout.etp" not in f:
        f["layout.etp"] = f.get("layout.tp", 1)  # Megatron-Core: as tensor-model-parallel-size
    if (cut := f.get("said.experts_cut")) is not None and experts:  # DeepSpeed: whole by default
        f.setdefault("layout.etp", f.get("layout.tp", 1) if cut else 1)


def _momentum(said: Said) -> None:
    """SGD keeps a buffer where a momentum other than 0, however it is written, is said; else as the tool's own default."""
    momentum = scalar(said.fields.get("said.momentum"))
    if momentum is not None and said.fields.get("job.optimizer") in ("sgd", "sgd-momentum"):
        said.fields["job.optimizer"] = "sgd" if momentum == 0 else "sgd-momentum"


# --- adapters ---------------------------------------------------------------------------------------------------------


def _tuning(said: Said, framework: str) -> None:
    """job.kind, adapters and quantization."""
    f = said.fields
    built = TUNED.match(str(f.get("said.builder", "")).rpartition(".")[2])
    by = built and built[1]
    tuning = f.get("said.tuning") or by
    if "dora" in (tuning, by) or "_dora" in str(f.get("said.recipe", "")):
        tuning = "lora"
        said.unmodelled.append(Message("{0}: {1}", "dora", Message(load_format("peft").unmodelled["use-dora"])))
    bits = f.get("said.bits") or (4 if f.get("said.four_bit") else 8 if f.get("said.eight_bit") else None)
    adapts = tuning in ("lora", "qlora") or bool(f.get("said.peft")) or said.has("peft")
    _torchtune_targets(f)
    if str(f.get("job.optimizer", "")).startswith("galore") and (rank := whole(f, "said.low_rank")) is not None:
        f.setdefault("job.optimizer_rank", rank)
        if f.get("said.layerwise"):
            f.setdefault("job.optimizer_in_backward", True)
    if "cutcrossentropy" in str(f.get("said.plugins", "")).lower().replace("_", ""):
        said.unmodelled.append(Message("plugins = CutCrossEntropyPlugin: a loss without logits in memory"))
    if not adapts:
        for name in [name for name in f if name.startswith(("job.adapter.", "job.quantization."))]:
            del f[name]
        tunes = (said.has(*TUNERS) and f.get("said.stage") != "pt") or f.get("said.loader") == "finetuning"
        f.setdefault("job.kind", "finetune" if tunes else "pretrain")
        if tuning not in (None, "full"):
            said.unmodelled.append(Message("finetuning_type = {0}: all weights are counted as trained", tuning))
    else:
        _adapter(f, bits, tuning)
    if f.get("said.stage") not in (None, "sft", "pt"):
        said.unmodelled.append(
            Message("stage = {0}: pairs of answers, reference or reward models: more passes and memory", f["said.stage"])
        )
    if f.get("said.packing") is False and not f.get("said.padded"):
        said.notes.append(Message("sequences are not packed: each sample counts as job.seq_len tokens"))


def _adapter(f: dict[str, Any], bits: int | None, tuning: Any) -> None:
    if "job.kind" not in f:
        f["job.kind"] = "qlora" if bits or tuning == "qlora" else "lora"
    if f["job.kind"] != "qlora":
        for name in [name for name in f if name.startswith("job.quantization.")]:
            del f[name]
    elif bits == 8:
        f["job.quantization.format"] = "int8"
        f.pop("job.quantization.double_quantization", None)
    elif any(name.startswith("job.quantization.") for name in f):
        f.setdefault("job.quantization.format", "nf4")
    f.setdefault("job.adapter.rank", 8)  # LoraConfig's own default
    targets = f.get("job.adapter.target_modules")
    if targets is not None:
        listed = names_of(targets)
        every = listed in (["all"], ["all-linear"])
        f["job.adapter.target_modules"] = "all-linear" if every else [name.rpartition(".")[2] or name for name in listed]
    if "job.adapter.modules_to_save" in f:
        f["job.adapter.modules_to_save"] = names_of(f["job.adapter.modules_to_save"])
    layers = f.get("job.adapter.layers")
    if isinstance(layers, int):
        f["job.adapter.layers"] = [layers]


def _torchtune_targets(f: dict[str, Any]) -> None:
    attention = f.get("said.attention_targets")
    if attention is None:
        return
    theirs = {"output_proj": "o_proj"}
    listed = [theirs.get(name, name) for name in names_of(attention)]
    listed += ["gate_proj", "up_proj", "down_proj"] if f.get("said.mlp_targets") else []
    listed += ["lm_head"] if f.get("said.head_target") else []
    every = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    f.setdefault("job.adapter.target_modules", "all-linear" if set(listed) == every else listed)


# --- GPUs, sharding, batch --------------------------------------------------------------------------------------------


def _cluster(said: Said, cluster: Mapping[str, Any]) -> dict[str, Any]:
    """[cluster] as far as the command line, ``# planner:`` comments and the tool's own options say it; a GPU as after --on."""
    carried = {} if cluster else _table(said.fields, "cluster")
    word = str(carried.get("accelerator", ""))
    if word and not word.endswith(".toml"):
        carried["accelerator"] = accelerator_named(word, "cluster.accelerator")
    return {**carried, **cluster}


def _world(said: Said, table: Mapping[str, Any]) -> int | None:
    """GPUs of the run: the command line's, else the launcher's."""
    f = said.fields
    if "num_gpus" in table:
        return int(table["num_gpus"])
    if "num_nodes" in table:
        return None
    per_node = f.get("said.gpus_per_node")
    gres = re.search(r"gpu(?::\w+)?:(\d+)", str(f.get("said.gres", "")))
    if not isinstance(per_node, int) and gres:
        f["said.gpus_per_node"] = int(gres[1])
    elif isinstance(per_node, str):
        f.pop("said.gpus_per_node")
        said.notes.append(Message("processes a node = {0}: the file does not say how many", per_node))
    if isinstance(f.get("said.num_nodes"), str):
        f["said.num_nodes"] = f["said.num_nodes"].rpartition(":")[2].rpartition("-")[2]
        f["said.num_nodes"] = int(f["said.num_nodes"]) if f["said.num_nodes"].isdigit() else 1
    processes = whole(f, "said.num_gpus")
    if processes is not None:
        return processes
    tasks, tasks_per_node = f.get("said.tasks"), f.get("said.tasks_per_node")
    per_node, nodes = whole(f, "said.gpus_per_node"), whole(f, "said.num_nodes")
    if per_node is None and isinstance(tasks_per_node, int) and tasks_per_node > 1:  # a process for each GPU
        per_node = tasks_per_node
    if per_node is None and isinstance(tasks, int) and tasks > (nodes or 1):
        return tasks
    return None if per_node is None else per_node * (nodes or 1)


def _sharding_and_batch(said: Said, table: Mapping[str, Any], framework: str) -> int | None:
    """layout.zero, shard_group_size, vpp, micro-batch and job.global_batch_size; GPUs of the run where they are known."""
    f = said.fields
    tp, pp, cp = (whole(f, f"layout.{name}") or 1 for name in ("tp", "pp", "cp"))
    world = _world(said, table)
    replicate, shard = whole(f, "said.replicate", -1), whole(f, "said.shard", -1)
    dp = None if world is None else world // (tp * pp * cp)
    if world is not None and (not dp or world % (tp * pp * cp)):
        raise PlannerError(
            "tp x pp x cp = {0} x {1} x {2} does not divide {3} GPUs; give their number with --on, such as --on 32xh100.",
            tp,
            pp,
            cp,
            world,
            code="layout",
            field="cluster.num_gpus",
            value=world,
        )
    if world is None and (replicate or 0) > 0 and (shard or 0) > 0:
        dp = int(replicate or 1) * int(shard or 1)
        world = dp * tp * pp * cp
    _sharding(said, framework, dp, cp, (replicate, shard))
    _chunks(said, pp)
    dp = _batch(said, dp, pp, alone="accelerator" in table and not _spreads(said))
    return world if world is not None or dp is None else dp * tp * pp * cp


RANKS = frozenset(("torchrun", "srun", "deepspeed-launcher"))
"""Programs that start a process for each GPU."""


def _spreads(said: Said) -> bool:
    """Whether the file speaks of several GPUs: it splits or shards the model, or starts a process for each of them."""
    f = said.fields
    split = any((whole(f, f"layout.{name}") or 1) > 1 for name in ("tp", "pp", "cp", "ep", "etp"))
    counted = any(f.get(f"said.{name}") not in (None, 1) for name in ("gpus_per_node", "num_gpus", "num_nodes"))
    return split or counted or bool(f.get("layout.zero")) or bool(RANKS & said.started)


def _sharding(said: Said, framework: str, dp: int | None, cp: int, mesh: tuple[int | None, int | None]) -> None:
    f = said.fields
    replicate, shard = mesh
    if f.get("said.megatron_fsdp"):
        f["layout.zero"] = f.get("said.sharding", 0)
    elif f.get("said.torch_fsdp"):
        f["layout.zero"] = 3
    instances = whole(f, "said.instances")
    if instances is not None and instances > 1 and dp is not None and "layout.shard_group_size" not in f:
        f["layout.shard_group_size"] = max(dp * cp // instances, 1)
    words = names_of(f.get("said.fsdp", ""))
    reshard = f.get("said.reshard")
    fully = {"full_shard": 3, "hybrid_shard": 3, "shard_grad_op": 2, "hybrid_shard_zero2": 2, "no_shard": 0}
    named = next((stage for word, stage in fully.items() if word in words), None)
    told = f.get("said.sharder") == "fsdp" or f.get("said.fsdp") not in (None, False) or bool(f.get("said.fsdp_table"))
    sharded = said.has("torchtitan") or told or shard is not None
    if "layout.zero" not in f and sharded and f.get("said.sharder") != "deepspeed":
        f["layout.zero"] = _stage(f, named, reshard, dp, replicate, shard)
    if "offload" in words or f.get("said.fsdp_offload"):
        _offload(said, framework)
    hybrid = "hybrid_shard" in words or reshard == "hybrid"
    if hybrid and "layout.shard_group_size" not in f and (per_node := whole(f, "said.gpus_per_node")) and dp and dp > per_node:
        f["layout.shard_group_size"] = per_node
    if replicate is not None and replicate > 1 and dp is not None and f.get("layout.zero") and "layout.shard_group_size" not in f:
        f["layout.shard_group_size"] = max(dp * cp // replicate, 1)
    if f.get("layout.shard_group_size") in (0, -1) or (dp is not None and f.get("layout.shard_group_size") == dp * cp):
        f.pop("layout.shard_group_size", None)


def _offload(said: Said, framework: str) -> None:
    """FSDP's CPU offload: shards of parameters, frozen ones too, gradients and optimizer states, updated on the host."""
    f = said.fields
    f["layout.offload_optimizer"] = True
    if load_framework(framework).mixed_precision == "sharded_fp32":  # its offload_optimizer is just this
        return
    if f.get("layout.zero") == 3:
        f["layout.offload_parameters"] = True
    else:
        said.unmodelled.append(
            Message("FSDP offloads parameters that stay gathered after use: only the optimizer counts as offloaded")
        )


def _stage(
    f: Mapping[str, Any], named: int | None, reshard: Any, dp: int | None, replicate: int | None, shard: int | None
) -> int:
    """The ZeRO stage that FSDP's options stand for."""
    alone = shard == 1 and (replicate or 1) > 1  # replicated only: DistributedDataParallel
    if alone or reshard == "none" or named == 0:
        return 0
    if named is not None and reshard in (None, "default"):
        return named
    if reshard == "default":
        return 2 if (f.get("layout.pp") or 1) != 1 else 3
    return 2 if reshard is False else 3


def _chunks(said: Said, pp: int) -> None:
    """layout.vpp and schedule from layers a chunk or a written pipeline layout; sequence parallelism of torchtitan."""
    f = said.fields
    per_chunk, layers = whole(f, "said.layers_per_chunk"), whole(f, "model.num_layers")
    written = f.get("said.pipeline_layout")
    if isinstance(written, str) and pp > 1:
        f["layout.vpp"] = max((written.count("|") + 1) // pp, 1)
        said.notes.append(
            Message("layers are spread over the stages by planner's own rule, not exactly as pipeline-model-parallel-layout says")
        )
    elif said.has(*MEGATRON) and per_chunk and layers and pp > 1:
        f["layout.vpp"] = max(layers // pp // per_chunk, 1)
    schedule = f.get("said.schedule")
    if schedule == "zero-bubble":
        f["layout.schedule"] = "zero-bubble"
    elif schedule in ("gpipe", "looped", "dualpipe") and pp > 1:
        said.unmodelled.append(Message("pipeline_parallel_schedule = {0}: counted as 1F1B", schedule))
    if "said.sequence" in f and "layout.sequence_parallel" not in f:
        f["layout.sequence_parallel"] = bool(f["said.sequence"]) and (f.get("layout.tp") or 1) > 1


def _titan_chunks(said: Said, model: Mapping[str, Any]) -> None:
    """layout.vpp of torchtitan's interleaved schedules: layers, embedding and head over layers of a stage; else 2."""
    f = said.fields
    pp = whole(f, "layout.pp") or 1
    if not said.has("torchtitan") or pp == 1 or f.get("said.schedule") != "interleaved" or "layout.vpp" in f:
        return
    per_chunk = whole(f, "said.layers_per_chunk")
    less = (whole(f, "said.first_less", 0) or 0) + (whole(f, "said.last_less", 0) or 0)
    layers = as_model(model).num_layers
    f["layout.vpp"] = 2 if per_chunk is None else max(-(-(layers + less) // per_chunk) // pp, 1)


def _batch(said: Said, dp: int | None, pp: int, *, alone: bool) -> int | None:
    """Micro-batch and global batch; data-parallel ranks, from the batch where nothing else gives them.

    ``alone``: a GPU is named without a number, and nothing in the file spreads a model over several: it is one.
    """
    f = said.fields
    micro = whole(f, "layout.micro_batch_size")
    local = whole(f, "said.local_batch")
    accumulation = f.get("said.accumulation")
    steps = whole(f, "said.accumulation") if accumulation is not None else None
    everything = whole(f, "job.global_batch_size", -1)
    everything = None if everything == -1 else everything
    if local is not None:
        micro = local if pp == 1 else whole(f, "said.pipeline_batch") or 1
        everything = everything or (None if dp is None else local * dp)
    elif micro is None and everything and steps and dp:
        micro = max(everything // (steps * dp), 1)
    elif micro is None:
        micro = DEFAULT_MICRO_BATCH if said.has("transformers", "trl", "llama-factory") else 1
    f["layout.micro_batch_size"] = micro
    steps = steps or accumulated(said, micro, dp)
    if dp is None and everything and steps:
        dp = max(everything // (micro * steps), 1)
    _note_accumulation(said, micro, dp, everything)
    if everything is None:
        dp = dp or _one(said, alone=alone)
        everything = micro * (steps or 1) * dp
    f["job.global_batch_size"] = everything
    steps_of_run = f.get("said.max_steps")
    if isinstance(steps_of_run, int) and steps_of_run > 0 and not isinstance(steps_of_run, bool):
        f["job.num_steps"] = steps_of_run
        f.pop("job.num_epochs", None)
    if not any(f.get(f"job.{name}") for name in ("num_steps", "num_samples", "num_tokens")):
        f.pop("job.num_epochs", None)
    if f.get("job.num_steps") and f.get("job.num_samples"):
        f.pop("job.num_samples")
    tokens, seq_len = whole(f, "job.num_tokens"), whole(f, "job.seq_len")
    if tokens and seq_len and (length := whole(f, "job.num_steps")):  # the run ends with what comes first
        f.pop("job.num_steps" if length * everything * seq_len >= tokens else "job.num_tokens")
    return dp


def _note_accumulation(said: Said, micro: int, dp: int | None, everything: int | None) -> None:
    """A note where micro-batch, accumulation and ranks do not make the batch, which DeepSpeed refuses to start with."""
    steps = None if said.fields.get("said.accumulation") is None else whole(said.fields, "said.accumulation")
    if steps and everything and dp and micro * steps * dp != everything:
        text = (
            "gradient_accumulation_steps = {0}: {1:,} sequences on {2:,} ranks make {3:,}, not {4:,}; the batch holds, with {5:g}"
        )
        said.notes.append(Message(text, steps, micro, dp, micro * steps * dp, everything, everything / (micro * dp)))


def _one(said: Said, *, alone: bool) -> int:
    """The single rank of a GPU that is named without a number; PlannerError where there may be several."""
    if alone:
        said.notes.append(Message("one GPU: --on gives no number"))
        return 1
    raise PlannerError(
        "on how many GPUs? The launch file does not say; give their number with --on, such as --on 8xh100.",
        code="missing",
        field="--on",
    )


# --- the model --------------------------------------------------------------------------------------------------------


def _model(said: Said, given: str | None) -> dict[str, Any]:
    f = said.fields
    if given is not None:
        named: dict[str, Any] = model_table(given)
        name = named.get("name")
        own = _sizes(said) if said.has(*MEGATRON) else sizes(said) if said.has(*SIZED) else {}
        return described_model(own, str(name), said.notes) if name and own else named
    carried = f.get("model.name") or f.get("model.base")
    checkpoint = f.get("said.model")
    named_by = str(f.get("said.recipe", "")) if carried is None and checkpoint is None else ""
    recipe = recipe_model(named_by)
    titan = torchtitan_model(str(f.get("said.module", "")), str(f.get("said.flavor", ""))) if said.has("torchtitan") else None
    if said.has(*MEGATRON):
        words = vocabulary(f.get("said.tokenizer"), f.get("said.tokenizer_type"))
        return described_model(_sizes(said), None if carried is None else str(carried), said.notes, words)
    if said.has(*SIZED) and carried is None and (sizes(said) or not isinstance(checkpoint, str)):
        found = described_model(sizes(said), None, said.notes)
        return found if "num_layers" not in found or found.get("gated_ffn") else {"activation": "gelu", **found}
    if carried is not None:
        return _table(f, "model")
    if titan is not None or recipe is not None:
        return {"name": titan or recipe}
    if named_by:
        raise PlannerError(
            "recipe = {0!r} names no model of the catalog; name one before --from: planner plan llama-3-8b --from FILE.",
            named_by[:120],
            code="model",
            field="model.name",
            value=named_by[:120],
        )
    if isinstance(checkpoint, str) and "$" not in checkpoint:
        return model_table(checkpoint)
    tune = torchtune_model(str(f.get("said.builder", "")))
    if tune is not None:
        return {"name": tune}
    form = next((one for one in said.formats if one.kind != "launcher"), None)
    what = "the launch file" if form is None else form.title
    raise PlannerError(
        "which model? The options of {0} name none; name one before --from: planner plan llama-3-8b --from FILE.",
        what,
        code="missing",
        field="model.name",
    )


def _padded(said: Said, table: dict[str, Any]) -> dict[str, Any]:
    """[model] with the words that a multiple of the vocabulary adds: step x tp words (_vocab_size_with_padding of Megatron-LM).

    Fewer than VOCABULARY_STEP added words a rank are left out of memory. Whether a rank's words are a multiple of VOCABULARY_STEP
    decides how fast they are multiplied (framework.pads_vocabulary).
    """
    f = said.fields
    step, tp = whole(f, "said.vocabulary_step"), whole(f, "layout.tp") or 1
    if step is None:
        return table
    words = as_model(table).vocab_size
    padded = -(-words // (step * tp)) * step * tp
    if step % VOCABULARY_STEP == 0 or padded % (VOCABULARY_STEP * tp):
        f["framework.pads_vocabulary"] = step % VOCABULARY_STEP == 0
    if padded - words < VOCABULARY_STEP * tp:
        return table
    said.notes.append(
        Message("vocab_size = {0}: {1:,} words, padded up to a multiple of {2:,} on each of {3} ranks", padded, words, step, tp)
    )
    return {**({"base": table["name"]} if set(table) == {"name"} else table), "vocab_size": padded}


MEGATRON_CHUNK = 64


def _sizes(said: Said) -> dict[str, Any]:
    """Fields of the model as Megatron-LM's arguments and their defaults say them."""
    f = said.fields
    sizes = {name: value for name, value in _table(f, "model").items() if name not in ("name", "base", "config")}
    if sizes.get("num_experts") == 1:  # Megatron-DeepSpeed: a dense model
        for name in ("num_experts", "top_k", "capacity_factor"):
            sizes.pop(name, None)
    if f.get("said.dropless"):
        sizes.pop("capacity_factor", None)
    if not all(isinstance(sizes.get(name), int) for name in ("num_layers", "hidden_size", "num_heads")):
        return {name: value for name, value in sizes.items() if name not in ("norm", "position_embedding", *DEFAULTS)}
    hidden, heads = whole(f, "model.hidden_size") or 1, whole(f, "model.num_heads") or 1
    gated = bool(f.get("said.gated")) or f.get("said.glu") == "swiglu"
    sizes["gated_ffn"] = gated
    sizes.setdefault("activation", "silu" if gated else "gelu")
    if "ffn_hidden_size" not in sizes:  # arguments.py: 4 h, with swiglu 2/3 of it in steps of 64
        sizes["ffn_hidden_size"] = int(4 * hidden * 2 / 3) // MEGATRON_CHUNK * MEGATRON_CHUNK if gated else 4 * hidden
    if f.get("said.mla"):
        sizes["attention"] = "mla"
        sizes.pop("head_dim", None)
    else:
        for name in ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
            sizes.pop(name, None)
        groups = whole(f, "said.groups")
        sizes["num_kv_heads"] = groups if f.get("said.grouped") and groups else heads
        sizes.setdefault("head_dim", max(hidden // heads, 1))
    sizes |= _older_positions(f)
    biased = not f.get("said.no_bias")
    sizes |= {"ffn_bias": biased, "attention_output_bias": biased, "qkv_bias": biased or bool(f.get("said.qkv_bias"))}
    if sizes.get("position_embedding") == "learned" and f.get("said.positions"):
        sizes["max_positions"] = f["said.positions"]
    return {**sizes, **_expert_sizes(said, sizes)}


def _older_positions(f: Mapping[str, Any]) -> dict[str, Any]:
    """What --use-rotary-position-embeddings (arguments.py: position_embedding_type = "rope") and --no-position-embedding say."""
    if f.get("said.rotary"):
        return {"position_embedding": "rotary"}
    without = f.get("said.no_positions") and f.get("model.position_embedding") == "learned"
    return {"position_embedding": "none"} if without else {}


DEFAULTS = ("hidden_dropout", "attention_dropout", "tied_embeddings", "qk_norm")


def _expert_sizes(said: Said, sizes: Mapping[str, Any]) -> dict[str, Any]:
    f = said.fields
    if not sizes.get("num_experts"):
        return {}
    found: dict[str, Any] = {"top_k": sizes.get("top_k", 2)}
    inner = sizes.get("expert_ffn_hidden_size", sizes["ffn_hidden_size"])
    found["expert_ffn_hidden_size"] = inner
    shared = whole(f, "said.shared_size")
    if shared and inner:
        found |= {"num_shared_experts": 1, "shared_expert_ffn_hidden_size": shared}
        if isinstance(inner, int) and shared % inner == 0:
            found |= {"num_shared_experts": shared // inner, "shared_expert_ffn_hidden_size": inner}
    every_nth = whole(f, "said.expert_interval")
    if every_nth is not None and every_nth > 1:
        found["moe_every"] = every_nth
    pattern = _pattern(f.get("said.moe_pattern"), whole(f, "model.num_layers") or 1)
    if pattern is not None:
        first = pattern.index(1) if 1 in pattern else len(pattern)
        later = [i for i, moe in enumerate(pattern) if not moe and i >= first]
        every = next((n for n in range(2, 9) if pattern == [int((i + 1) % n == 0) for i in range(len(pattern))]), None)
        if every is not None and 1 in pattern:
            found["moe_every"] = every
        else:
            found |= {"num_dense_layers": first, **({"dense_layers": later} if later else {})}
    return found


def _pattern(written: Any, num_layers: int) -> list[int] | None:
    """moe-layer-freq as one number a layer: N means every N-th, a Python list says each, "([0]*3+[1]*58)" too."""
    if isinstance(written, int) and not isinstance(written, bool) and written > 1:
        return [int(i % written == 0) for i in range(min(num_layers, 10_000))]
    if not isinstance(written, str):
        return None
    found: list[int] = []
    for inside, times in re.findall(r"\[([\s\d,]*)\](?:\s*\*\s*(\d{1,5}))?", written[:20_000]):
        found += [int(one) for one in re.findall(r"\d", inside)] * int(times or 1)
        if len(found) > 10_000:
            return None
    return found if len(found) == num_layers else None


def speculative_of(text: Any) -> dict[str, Any] | None:
    """vLLM's speculative-config, a JSON object, as a table; None for what is none."""
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return None
    return dict(found) if isinstance(found, Mapping) and shown(found) else None
