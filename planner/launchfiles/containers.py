"""Docker Compose files and Kubernetes manifests: what their containers start, as a script, and on how many GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from planner.common.errors import PlannerError

MOST_CONTAINERS = 100
"""Of one file: a cluster's whole manifest has a few tens."""
MOST_LEVELS = 24
"""Of tables within tables: a manifest's containers stand some ten deep."""
MOST_ITEMS = 2000
"""Of one list: a command has a few hundred words."""
GPUS = ("nvidia.com/gpu", "amd.com/gpu")
"""Resources of Kubernetes' device plugins."""
NAMED = re.compile(r"\$\((\w+)\)")
"""Kubernetes' way to write a variable of the container's environment."""


PROGRAM = re.compile(r"\s*(\S*/)?(python[\d.]*|vllm|trtllm-serve|(ba|z|da)?sh|uv|torchrun|deepspeed|accelerate|env|exec)\b")
"""What begins a command that needs no entrypoint of an image: Kubernetes' ``command`` takes its place."""


def containers(data: Any, level: int = 0) -> Iterator[Mapping[str, Any]]:
    """Services of Compose and containers of Kubernetes: tables that start something, wherever they stand."""
    if level > MOST_LEVELS:
        return
    if isinstance(data, Mapping):
        if "image" in data and {"command", "args", "entrypoint"} & set(data):
            yield data
        for value in data.values():
            yield from containers(value, level + 1)
    elif isinstance(data, list):
        for value in _items(data):
            yield from containers(value, level + 1)


def _items(listed: list[Any]) -> list[Any]:
    if len(listed) > MOST_ITEMS:
        raise PlannerError("a list of {0:,} entries is too long; at most {1:,} are read.", len(listed), MOST_ITEMS)
    return listed


def container_gpus(container: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Options that say on how many GPUs a container runs: Kubernetes' limits and requests, Compose's devices.

    >>> list(container_gpus({"resources": {"limits": {"nvidia.com/gpu": 4}}}))
    [('nvidia.com/gpu', 4)]
    >>> list(container_gpus({"deploy": {"resources": {"reservations": {"devices": [{"capabilities": ["gpu"], "count": 2}]}}}}))
    [('count', 2)]
    """
    of_pod = _inside(container, "resources")
    for kind in (_inside(of_pod, "limits"), _inside(of_pod, "requests")):
        found = [(name, kind[name]) for name in GPUS if name in kind]
        if found:
            yield from found
            break
    devices = _inside(container, "deploy", "resources", "reservations").get("devices")
    gpus = container.get("gpus")
    if isinstance(gpus, str | int):  # "gpus: all" of newer Compose files
        yield "gpus", gpus
    reserved = [one for one in devices if _is_gpu(one)] if isinstance(devices, list) else []
    for device in [*reserved, *(gpus if isinstance(gpus, list) else ())]:
        ids = device.get("device_ids") if isinstance(device, Mapping) else None
        yield "count", len(ids) if isinstance(ids, list) else _inside(device).get("count", "all")


def _is_gpu(device: Any) -> bool:
    """Whether a reserved device is a GPU (docs.docker.com/compose/how-tos/gpu-support)."""
    capabilities = _inside(device).get("capabilities")
    return isinstance(capabilities, list) and bool({"gpu", "nvidia"} & {str(one) for one in capabilities})


def _inside(table: Any, *path: str) -> Mapping[str, Any]:
    """A table within tables; an empty one where there is none."""
    for name in path:
        table = table.get(name) if isinstance(table, Mapping) else None
    return table if isinstance(table, Mapping) else {}


def container_script(container: Mapping[str, Any]) -> str:
    """A script that sets the variables of the container's environment and runs its command.

    Without an entrypoint of its own (``command`` of Kubernetes) the image's name stands for the program that it starts.

    >>> print(container_script({"image": "vllm-openai", "command": ["--model", "$(M)"], "environment": {"M": "a"}}), end="")
    M="a"
    "vllm-openai" "--model" "${M}"
    """
    lines = [f"{name}={_quoted(value)}" for name, value in _environment(container.get("environment", container.get("env")))]
    started = container.get("entrypoint", container.get("command") if "args" in container else None)
    rest = container.get("args", container.get("command"))
    own = not started and PROGRAM.match(str(rest[0] if isinstance(rest, list) and rest else rest)) is None
    image = _quoted(str(container["image"]).partition("@")[0])
    lines += [] if own or ":" not in image else [f"CONTAINER_IMAGE={image}"]
    words = image if own else _words(started) if started else ""
    return "\n".join([*lines, f"{words} {_words(rest) if rest is not started else ''}".strip(), ""])


def _words(given: Any) -> str:
    """The words of a command: those of a list in quotes, a text as it is written."""
    if isinstance(given, list):
        return " ".join(_quoted(word) for word in _items(given))
    return NAMED.sub(r"${\1}", " ".join(str(given).split("\n")) if given is not None else "")


def _quoted(word: Any) -> str:
    text = NAMED.sub(r"${\1}", str(word)).replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`")
    return f'"{text}"'


def _environment(given: Any) -> Iterator[tuple[str, Any]]:
    """Names and values, from a table, from ``NAME=VALUE`` or from Kubernetes' list of names with their values."""
    if isinstance(given, Mapping):
        given = [f"{name}={value}" for name, value in given.items() if value is not None]
    for one in given if isinstance(given, list) else ():
        name, _, value = (one.get("name"), "", one.get("value")) if isinstance(one, Mapping) else str(one).partition("=")
        if isinstance(name, str) and re.fullmatch(r"[A-Za-z_]\w*", name) and value is not None:
            yield name, value


def replicas(data: Any, level: int = 0) -> int:
    """The largest number of copies of one container that a manifest starts."""
    if level > MOST_LEVELS:
        return 1
    if isinstance(data, Mapping):
        own = data.get("replicas")
        inner = [replicas(value, level + 1) for value in data.values()]
        return max([own if isinstance(own, int) and not isinstance(own, bool) else 1, *inner])
    return max([1, *(replicas(value, level + 1) for value in _items(data))]) if isinstance(data, list) else 1
