"""What is kept in memory: bounded, and of a file of one's own only until it changes."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from planner.common.data import PROFILES
from planner.hardware.cluster import load_accelerator, load_node
from planner.model.catalog import load_model
from planner.model.names import model_files
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


WAYS: dict[str, tuple[str, Callable[[Path, float], None], Callable[[str], Any], str]] = {
    "config": ("config.json", config, load_model, "num_layers"),
    "model": ("mine.toml", edited(model_files()["llama-3-8b"], "num_layers"), load_model, "num_layers"),
    "node": ("mine.toml", edited(PROFILES / "nodes" / "dgx-h100.toml", "num_cpu_cores"), load_node, "num_cpu_cores"),
    "accelerator": ("mine.toml", edited(PROFILES / "accelerators" / "rtx-4090-24gb.toml", "tdp_w"), load_accelerator, "tdp_w"),
    "framework": ("mine.toml", edited(CATALOG / "fsdp.toml", "elementwise_rate"), load_framework, "elementwise_rate"),
}


@pytest.mark.parametrize("what", WAYS)
def test_a_file_that_changed_is_read_again(what: str, tmp_path: Path) -> None:
    name, write, load, field = WAYS[what]
    for number in (1, 12, 1) if what != "framework" else (1, 0.5, 1):
        write(tmp_path / name, number)
        assert getattr(load(str(tmp_path / name)), field) == number
    shutil.rmtree(tmp_path)
