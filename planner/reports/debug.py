"""What a report of a wrong prediction needs: versions, question and answer, without paths or names of one's own."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import platform
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from planner.common.spec import Spec
from planner.common.version import VERSION
from planner.hardware.cluster import accelerator_names, load_accelerator, load_node, node_names
from planner.model.catalog import load_model, model_names
from planner.serving.deployment import Deployment
from planner.training.plan import Plan
from planner.workload.framework import framework_names, load_framework

PACKAGES = ("numpy", "pandas", "pyarrow", "pydantic", "scipy", "matplotlib", "typer", "rich", "pyyaml", "streamlit", "torch")
PATH = re.compile(r"(?:[A-Za-z]:)?(?:[~.]{0,2}[/\\][\w.@+~-]+){1,}[/\\]?")
"""Something like /home/me/x.toml or ..\\x; units such as tokens/s have no slash in front."""
SHORTEST_NAME = 3
"""Of a user or a host that is looked for in texts: shorter ones are parts of words."""


def versions() -> dict[str, str]:
    """planner, Python, system and machine, and the packages that it builds on."""
    found = {"planner": VERSION, "python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def question_of(answer: Plan | Deployment) -> dict[str, Any]:
    """What was asked: catalog entries by name, all others field by field; nothing of where they came from."""
    cluster = answer.cluster
    size = {"num_nodes": cluster.num_nodes, "num_gpus": cluster.num_gpus}
    found: dict[str, Any] = {
        "model": _spec(answer.model, model_names(), load_model),
        "cluster": {
            "node": _spec(cluster.node, node_names(), load_node),
            "accelerator": _spec(cluster.accelerator, accelerator_names(), load_accelerator),
            **size,
        },
    }
    if isinstance(answer, Plan):
        found["framework"] = _spec(answer.framework, framework_names(), load_framework)
        found |= {"job": _fields(answer.job), "layout": _fields(answer.layout)}
    else:
        found |= {"engine": answer.engine.name, "serving": _fields(answer.serving)}
    return found


def _spec(spec: Spec, known: list[str], load: Callable[[str], Spec]) -> dict[str, Any]:
    """A catalog entry by name, with the fields in which it was changed; any other field by field."""
    name = str(getattr(spec, "name", ""))
    usual = _fields(load(name)) if name in known else {}
    fields = {field: value for field, value in _fields(spec).items() if usual.get(field, spec) != value}
    return {"name": name, **({"fields": fields} if fields else {})}


def _fields(spec: Spec) -> dict[str, Any]:
    """Fields that are not as by default; sets in the order of their words."""
    found = spec.model_dump(exclude={"provenance", "source", "name", "description", "notes"}, exclude_defaults=True)
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in found.items()}


def own_names(answer: Plan | Deployment) -> dict[str, str]:
    """Names that are in no catalog, and what stands for them in a report."""
    cluster = answer.cluster
    named = {
        "a model of one's own": (answer.model.name, model_names()),
        "a node of one's own": (cluster.node.name, node_names()),
        "an accelerator of one's own": (cluster.accelerator.name, accelerator_names()),
    }
    if isinstance(answer, Plan):
        named["a framework of one's own"] = (answer.framework.name, framework_names())
    return {name: stands for stands, (name, known) in named.items() if name and name not in known}


def cleaned(value: Any, names: Mapping[str, str]) -> Any:
    """A value without names of one's own, paths, user and host.

    >>> cleaned({"a": "read /home/me/x.toml at 3 tokens/s"}, {})
    {'a': 'read (path) at 3 tokens/s'}
    """
    if isinstance(value, Mapping):
        return {str(cleaned(str(key), names)): cleaned(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [cleaned(one, names) for one in value]
    if not isinstance(value, str):
        return value
    for name in sorted(names, key=len, reverse=True):
        value = value.replace(name, names[name])
    value = re.sub(r"(?<![\w/])" + PATH.pattern, "(path)", value)
    for secret, stands in _of_this_machine().items():
        value = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", stands, value)
    return value


def _of_this_machine() -> dict[str, str]:
    found = {str(Path.home()): "(home)", socket.gethostname(): "(host)"}
    with contextlib.suppress(KeyError, OSError, ImportError):  # no account, or none with a name
        found[getpass.getuser()] = "(user)"
    return {name: stands for name, stands in found.items() if len(name) >= SHORTEST_NAME and name not in ("root", "user")}


def debug_report(answer: Plan | Deployment | None) -> dict[str, Any]:
    """Versions, question and answer as plain values for JSON."""
    found: dict[str, Any] = {"versions": versions()}
    if answer is None:
        return found
    names = own_names(answer)
    told = {name: value for name, value in answer.to_dict().items() if name not in ("model", "cluster", "assumptions", "label")}
    return found | {"question": cleaned(question_of(answer), names), "answer": cleaned(told, names)}
