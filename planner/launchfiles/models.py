"""Which model of the catalog a launch file means: by the name of its checkpoint, or by its sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from planner.common import data
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.common.spec import read_table
from planner.model.architecture import Model
from planner.model.catalog import load_model, model_names
from planner.model.gguf import is_gguf
from planner.model.names import context_named, meant, unmeant

SIZES = ("num_layers", "hidden_size", "num_heads")
"""Sizes that a search of the catalog needs."""
LONGEST_NAME = 200


@cache
def _names() -> dict[str, Any]:
    return read_table(data.CATALOG / "launch_models.toml")


def torchtitan_model(module: str, flavor: str) -> str | None:
    """The catalog's name of torchtitan's model: ``module`` names its family, ``flavor`` its size or a registered configuration.
    The prefix of graph_trainer and further words at the end of a configuration's name do not change the model.

    >>> torchtitan_model("graph_trainer.deepseek_v3", "graph_trainer_deepseek_v3_16b_minimal_async_ep")
    'deepseek-v2-lite'
    """
    asked = f"{module.rpartition('.')[2]}/{flavor.removeprefix('graph_trainer_')}".lower()
    known = _names()["torchtitan"]
    found = max((name for name in known if asked == name or asked.startswith(f"{name}_")), key=len, default=None)
    return None if found is None else str(known[found])


RECIPE = re.compile(r"_(?:pretrain|sft|peft|finetune|lora|dora|dpo)(?:_.*)?$|_config$")
"""What follows the model in the name of a Megatron-Bridge recipe: llama3_8b_pretrain_config, gpt_oss_20b_sft_mxfp8_config."""
SIZE = re.compile(r"e?a?\d+(?:p\d+)?[bm]")
"""A word of a recipe's name that tells which size of a family: 8b, a3b, 1p7b, 600m."""


def recipe_model(recipe: str) -> str | None:
    """The catalog's name of the model of a recipe of Megatron-Bridge or NeMo 2, or None; a recipe may be named with its module.

    Words between the model and the method describe the run and are left out, the first two and sizes never.

    >>> recipe_model("llama3_8b_low_precision_pretrain_config"), recipe_model("gpt_oss_20b_sft_mxfp8_config")
    ('llama-3-8b', 'gpt-oss-20b')
    >>> recipe_model("recipes.qwen.qwen25_1p5b_peft_config"), recipe_model("glm45_air_106b_finetune_config")
    ('qwen2.5-1.5b', 'glm-4.5-air')
    >>> recipe_model("nemotron_3_nano_4b_sft_config"), recipe_model("my_own_config")
    (None, None)
    """
    known = _names()["megatron-bridge"]
    words = RECIPE.sub("", recipe.lower().rpartition(".")[2]).split("_")
    while words and words[0]:
        name = "_".join(words)
        for family, means in known.items():
            if f"{name}_".startswith(f"{family}_"):
                name = f"{means}{name[len(family) :]}"
        dotted = re.sub(r"^([a-z]+)(\d)(\d)(?=_|$)", r"\1\2.\3", re.sub(r"(?<=\d)p(?=\d)", ".", name))
        of_millions = re.sub(r"_(\d)00m$", r"_0.\1b", dotted)
        for one in (name, dotted, of_millions):
            if found := catalog_name(one.replace("_", "-")):
                return found
        if len(words) <= 2 or SIZE.fullmatch(words[-1]):
            return None
        words.pop()
    return None


TUNED = re.compile(r"(q?lora|dora)_")
"""Prefix of torchtune's builders of models with adapters."""


def torchtune_model(builder: str) -> str | None:
    """The catalog's name of a builder of torchtune (docs.pytorch.org/torchtune/0.6/api_ref_models.html), or None.

    >>> torchtune_model("torchtune.models.llama3_1.lora_llama3_1_8b"), torchtune_model("torchtune.models.qwen2.qwen2_0_5b")
    ('llama-3.1-8b', 'qwen2-0.5b')
    """
    family, _, name = builder.removeprefix("torchtune.models.").partition(".")
    size = TUNED.sub("", name, count=1).removeprefix(f"{family}_")
    return catalog_name(re.sub(r"(\d)_(\d)", r"\1.\2", f"{family}-{size}")) if name else None


def catalog_name(checkpoint: str) -> str | None:
    """The catalog's name of a checkpoint, or None.

    >>> catalog_name("meta-llama/Meta-Llama-3-8B-Instruct"), catalog_name("Qwen/Qwen2.5-7B-Instruct-AWQ")
    ('llama-3-8b', 'qwen2.5-7b')
    """
    found = meant(checkpoint[:LONGEST_NAME])
    return None if found is None else found.model


def quantized_name(checkpoint: str) -> str | None:
    """The format of weights that a checkpoint's name ends with, such as AWQ."""
    found = meant(checkpoint[:LONGEST_NAME])
    return found.weights or None if found is not None else None


CACHED = re.compile(r"(?:^|.*/)models--([\w.-]+?)--([\w.-]+?)(?:/.*)?")
"""A folder of the hub's cache: models--OWNER--NAME."""


def model_table(checkpoint: str) -> dict[str, Any]:
    """The [model] of a checkpoint: a folder with a config.json, a file, or a name; PlannerError with the nearest names."""
    cached = CACHED.fullmatch(checkpoint[:LONGEST_NAME])
    checkpoint = f"{cached[1]}/{cached[2]}" if cached is not None else checkpoint
    folder = Path(checkpoint)
    try:
        own = (
            folder / "config.json"
            if folder.is_dir()
            else folder
            if (folder.suffix in (".json", ".toml") or is_gguf(checkpoint)) and folder.is_file()
            else None
        )
    except (OSError, ValueError):
        own = None
    if own is not None and own.is_file():
        return {"name": str(own)} if own.suffix == ".toml" else {"config": str(own)}
    found = catalog_name(checkpoint)
    if found is not None:
        return {"name": found if context_named(checkpoint) is None else checkpoint}
    raise PlannerError(
        "model {0!r} {1}. Name it before --from, or give its config.json.",
        checkpoint[:120],
        unmeant(checkpoint[:LONGEST_NAME]),
        code="model",
        field="model.name",
        value=checkpoint[:120],
    )


def vocabulary(tokenizer: Any, kind: Any) -> int | None:
    """Size of the vocabulary of a tokenizer: of the checkpoint that it is named after, or GPT-2's; None where neither says it.

    pretrain_gpt.py takes GPT2BPETokenizer where no --tokenizer-type is given (its args_defaults).

    >>> vocabulary("deepseek-ai/DeepSeek-V3", "HuggingFaceTokenizer"), vocabulary(None, None), vocabulary("a.model", "")
    (129280, 50257, None)
    """
    name = catalog_name(tokenizer) if isinstance(tokenizer, str) and "$" not in tokenizer else None
    if name is not None:
        return load_model(name).vocab_size
    return load_model("gpt2").vocab_size if kind == "GPT2BPETokenizer" or (kind is None and tokenizer is None) else None


def described_model(fields: Mapping[str, Any], name: str | None, notes: list[str], words: int | None = None) -> dict[str, Any]:
    """The [model] for sizes that options give.

    A model that is named is taken, as ``base`` with the fields in which it differs. Without a name it is the model of the
    catalog that has all these sizes. Where none has, the fields themselves; ``words`` is then the size of the tokenizer's
    vocabulary, if the options give none. ``notes`` is added to.
    """
    if name is not None:
        return _table_of(name, _differences(load_model(name), fields))
    if not all(field in fields for field in SIZES):
        missing = next(field for field in SIZES if field not in fields)
        raise PlannerError(
            "model.{0} is missing: the launch file does not say which model it trains; name one before --from.",
            missing,
            code="missing",
            field=f"model.{missing}",
        )
    found = [one for one in sorted(model_names(), key=lambda name: (len(name), name)) if _is_plain(load_model(one), fields)]
    if found:
        others = Message("; so are those of {0}", ", ".join(found[1:6])) if found[1:] else ""
        notes.append(Message("model: the sizes are those of {0}{1}", found[0], others))
        return {"name": found[0]}
    if "vocab_size" not in fields and words is not None:
        notes.append(Message("vocab_size = {0}, as its tokenizer's", words))
        return {"name": "launch-file-model", **fields, "vocab_size": words}
    if "vocab_size" not in fields:
        raise PlannerError(
            "model.vocab_size is missing: the launch file leaves it to the tokenizer, and no model of the "
            "catalog has these sizes; give --set model.vocab_size=N, or name a model before --from.",
            code="missing",
            field="model.vocab_size",
        )
    return {"name": "launch-file-model", **fields}


PLAIN = {
    "architecture": "decoder",
    "mixer": "attention",
    "variants": (),
    "towers": (),
    "sliding_window": None,
    "index_top_k": 0,
    "attention_sinks": False,
    "attention_gate": "none",
    "norms_per_layer": 2,
    "parallel_attention": False,
    "embedding_norm": False,
    "embedding_projection_size": None,
    "shared_expert_gate": False,
    "head": "language_model",
    "num_experts": 0,
}
"""Fields that sizes on a command line leave open, as a plain decoder has them."""


def _is_plain(model: Model, fields: Mapping[str, Any]) -> bool:
    """Whether a model is a plain decoder of these sizes."""
    same = all(getattr(model, field) == fields[field] for field in SIZES)
    return same and not _differences(model, {**PLAIN, **fields})


def _table_of(name: str, changed: Mapping[str, Any]) -> dict[str, Any]:
    return {"base": name, **changed} if changed else {"name": name}


def _differences(model: Model, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in which a model differs from what options say; what its class derives is compared as derived."""
    return {name: value for name, value in fields.items() if _plain(getattr(model, name, None)) != _plain(value)}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
