"""What is kept in memory: bounded, and of a file of one's own only until it changes."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from planner.common.data import PROFILES
from planner.evidence.fit import load_constants
from planner.evidence.fit_sets import FIT_SETS
from planner.evidence.serving.fit import CONSTANTS as SERVING_FIT
from planner.evidence.serving.fit import load_constants as serving_constants
from planner.hardware.cluster import load_accelerator, load_node
from planner.hardware.curves import CURVES, load_curves
from planner.model.catalog import load_model
from planner.model.names import model_files
from planner.serving.engine import ENGINES, load_engine
from planner.serving.intervals import RESIDUALS
from planner.uncertainty.effects import UNCERTAINTY, load_effects
from planner.uncertainty.interval import load_residuals
from planner.workload.framework import load_framework
from planner.workload.framework_names import CATALOG


def caches(path: Path) -> list[tuple[ast.FunctionDef, ast.expr]]:
    """Functions of a module with what keeps their answers."""
    functions = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)]
    return [(f, d) for f in functions for d in f.decorator_list if ast.unparse(d).partition("(")[0] in ("cache", "lru_cache")]


def test_no_cache_grows_without_end() -> None:
    """A function with arguments keeps a stated number of answers, whoever asks with what; without, it has one answer."""
    found = 0
    for path in sorted((ROOT / "planner").rglob("*.py")):
        for function, keeper in caches(path):
            found += 1
            arguments = function.args
            if not (arguments.args or arguments.kwonlyargs or arguments.vararg or arguments.kwarg):
                continue
            assert isinstance(keeper, ast.Call), f"{path}: {function.name}"
            (size,) = [word.value for word in keeper.keywords if word.arg == "maxsize"]
            assert 0 < ast.literal_eval(size) <= 65536, f"{path}: {function.name}"
    assert found > 50


def config(path: Path, layers: float) -> None:
    fields = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 256}
    path.write_text(json.dumps({**fields, "num_hidden_layers": layers}))


def edited(source: Path, key: str) -> Callable[[Path, float], None]:
    """Writes the catalog's file with another number in a field."""

    def write(path: Path, number: float) -> None:
        lines = source.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if line.partition("=")[0].strip() != key]
        path.write_text("\n".join([f"{key} = {number}", *kept]))

    return write


def first(source: Path, key: str) -> Callable[[Path, float], None]:
    """Writes a file of tables with another number in the first that has the field."""

    def write(path: Path, number: float) -> None:
        path.write_text(re.sub(rf"^{key} = .*$", f"{key} = {number}", source.read_text(encoding="utf-8"), count=1, flags=re.M))

    return write


def based(source: Path, key: str) -> Callable[[Path, float], None]:
    """Writes a file once, whose base beside it has another number in a field."""

    def write(path: Path, number: float) -> None:
        edited(source, key)(path.with_name("base.toml"), number)
        if not path.exists():
            path.write_text(f'base = "{path.with_name("base.toml")}"\nname = "mine"\n')

    return write


def referring(source: Path, key: str) -> Callable[[Path, float], None]:
    """Writes a file once, one of whose fields is that of a file beside it."""

    def write(path: Path, number: float) -> None:
        edited(source, key)(path.with_name("other.toml"), number)
        if not path.exists():
            path.write_text(f'base = "{source.stem}"\nname = "mine"\n{key} = {{ same_as = "{path.with_name("other.toml")}" }}\n')

    return write


CARD = PROFILES / "accelerators" / "rtx-4090-24gb.toml"
WAYS: dict[str, tuple[str, Callable[[Path, float], None], Callable[[str], Any], str]] = {
    "config": ("config.json", config, load_model, "num_layers"),
    "model": ("mine.toml", edited(model_files()["llama-3-8b"], "num_layers"), load_model, "num_layers"),
    "node": ("mine.toml", edited(PROFILES / "nodes" / "dgx-h100.toml", "num_cpu_cores"), load_node, "num_cpu_cores"),
    "accelerator": ("mine.toml", edited(CARD, "tdp_w"), load_accelerator, "tdp_w"),
    "framework": ("mine.toml", edited(CATALOG / "fsdp.toml", "elementwise_rate"), load_framework, "elementwise_rate"),
    "engine": ("mine.toml", edited(ENGINES.folder / "tgi.toml", "block_size"), load_engine, "block_size"),
    "curves": ("mine.toml", edited(CURVES.folder / "h100.toml", "grouped_tokens"), load_curves, "grouped_tokens"),
    "constants": (
        "mine.toml",
        first(FIT_SETS["training"].constants, "spread"),
        lambda path: load_constants(Path(path))[0],
        "spread",
    ),
    "serving constants": ("mine.toml", first(SERVING_FIT, "spread"), lambda path: serving_constants(Path(path))[0], "spread"),
    "effects": ("mine.toml", first(UNCERTAINTY, "scale"), lambda path: load_effects(Path(path))["step_time"], "scale"),
    "residuals": ("mine.toml", first(RESIDUALS, "rows"), lambda path: load_residuals(Path(path))[0], "rows"),
    "base of an accelerator": ("mine.toml", based(CARD, "tdp_w"), load_accelerator, "tdp_w"),
    "base of a framework": ("mine.toml", based(CATALOG / "fsdp.toml", "host_s_per_step"), load_framework, "host_s_per_step"),
    "base of an engine": ("mine.toml", based(ENGINES.folder / "tgi.toml", "block_size"), load_engine, "block_size"),
    "field of an engine": ("mine.toml", referring(ENGINES.folder / "tgi.toml", "block_size"), load_engine, "block_size"),
}


@pytest.mark.parametrize("what", WAYS)
def test_a_file_that_changed_is_read_again(what: str, tmp_path: Path) -> None:
    name, write, load, field = WAYS[what]
    for number in (1, 12, 1) if what != "framework" else (1, 0.5, 1):
        write(tmp_path / name, number)
        assert getattr(load(str(tmp_path / name)), field) == number
    shutil.rmtree(tmp_path)
