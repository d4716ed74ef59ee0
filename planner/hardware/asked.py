"""GPUs as people write them: "32xh100", "8 x a100-80gb", "2x dgx-h100", "rtx-4090"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

from planner.common.errors import PlannerError, as_text, near
from planner.hardware.cluster import accelerator_names, is_asked_for, known_names, load_accelerator, load_node, named, node_names
from planner.hardware.custom_nodes import has_dgx, reference_node
from planner.hardware.spellings import Known, accelerators_meant, servers_meant


def cluster_table(text: str, field: str = "--on") -> dict[str, Any]:
    """The [cluster] of ``text``: GPUs of an accelerator, or nodes of a type. ``field`` is what an error names.

    A part of a name is enough where it means one accelerator, or where one of those it means has a DGX.
    """
    if text.strip().isalpha():
        refuse_lender(text, field)
    return dict(_cluster_table(text, field))


ONE_TYPE = (
    "{0} {1}: give one type of GPU; `planner compare` answers several side by side, and `planner size` and `planner search` "
    "choose among them."
)
GEFORCE = re.compile(r"[1-5]0[5-9]0")
"""The number of a GeForce GPU, which is no number of GPUs: 2070."""


SLICE = re.compile(r"\s*(?:tpu[-_ ]?)?(v5p|v5e|v5litepod|v6e)-(\d+)\s*", re.IGNORECASE)
"""A slice of TPUs as Google names it: v5p counts TensorCores, two a chip; the others count chips."""
OF_NODES = r"(?:nodes?|servers?|machines?|boxes|hosts?|台|个?节点)\s*(?:of|with|x|×|\*|,|，)?"
"""What follows a number of nodes."""
BOXES = re.compile(
    rf"\s*0*([1-9]\d*)\s*(?:{OF_NODES}|[x×*])"
    r"\s*0*([1-9]\d*)\s*(?:[x×*卡张块]|(?<=\d)\s)\s*(\S.*?)(?:\s+each)?\s*",
    re.IGNORECASE,
)
"""Nodes, GPUs of each, and the GPU: 2x8xh100, 2 nodes of 8 A100 80G, 4台8卡H800."""
MACHINES = re.compile(rf"\s*0*([1-9]\d*)\s*{OF_NODES}\s*(\S.*?)\s*", re.IGNORECASE)
"""Nodes and what each is: 2 servers h100, 2台h100, 4 nodes of p4d."""


def _in_boxes(nodes: int, gpus: int, accelerator: str) -> dict[str, Any]:
    """So many nodes of so many GPUs each; where the usual node holds as many, the number of all says it."""
    usual = reference_node(accelerator)
    own = {} if usual is not None and usual.num_gpus == gpus else {"gpus_per_node": gpus}
    return {"accelerator": accelerator, "num_gpus": nodes * gpus, **own}


def _of_nodes(text: str, name: str, field: str) -> dict[str, Any] | None:
    """The [cluster] of a text that counts nodes; None for one that counts GPUs, ``name`` being what it counts."""
    boxes = BOXES.fullmatch(text)
    if boxes is not None:
        known = _is_known(boxes[3]) and not _is_node(boxes[3])
        if known or (not GEFORCE.fullmatch(boxes[2]) and not _meant(name) and len(_meant(boxes[3])) > 1):  # which it may mean
            return _in_boxes(int(boxes[1]), int(boxes[2]), accelerator_named(boxes[3], field))
    machines = MACHINES.fullmatch(text)
    return None if machines is None else _machines(int(machines[1]), machines[2], text, field)


def _slice(text: str, field: str) -> dict[str, Any] | None:
    """The [cluster] of a slice of TPUs; None of any other text, and of a node's name."""
    cut = SLICE.fullmatch(text)
    if cut is None or int(cut[2]) < 1 or _is_node(text):
        return None
    kind = cut[1].lower().replace("v5litepod", "v5e")
    return {"accelerator": accelerator_named(f"tpu {kind}", field), "num_gpus": max(int(cut[2]) // (1 + (kind == "v5p")), 1)}


def _machines(nodes: int, name: str, text: str, field: str) -> dict[str, Any]:
    """So many nodes of a type; PlannerError that asks for the GPUs of each where an accelerator is named."""
    if _is_node(name):
        return {"node": name, "num_nodes": nodes}
    asked = _cluster_table(name, field)
    if "node" in asked and asked == _of_type(asked["node"], None):
        return {**asked, "num_nodes": nodes}
    accelerator = accelerator_named(name, field)
    usual = reference_node(accelerator)
    gpus = 8 if usual is None else usual.num_gpus
    raise PlannerError(
        "{0} {1}: how many GPUs has each node? Give both: with {2} a node it is {3}x{2}x{4}.",
        field,
        text,
        gpus,
        nodes,
        accelerator,
        field=field,
        value=text,
    )


def _of_type(node: str, number: str | None) -> dict[str, Any]:
    """So many nodes of a type, or of all that one link joins where its name means those: 2xgb200-nvl72 are 144 GPUs."""
    each = load_node(node).nodes_meant(node)
    return {"node": node, **({"num_nodes": int(number or 1) * each} if number or each > 1 else {})}


def _is_asked(text: str) -> bool:
    try:
        return bool(_cluster_table(text, "--on"))
    except PlannerError:
        return False


def several_gpus(text: str) -> list[str]:
    """The parts of a list with commas, each of which names GPUs; empty for any other text.

    >>> several_gpus("8xh100, h200"), several_gpus("8xh100"), several_gpus("h100,abacus")
    (['8xh100', 'h200'], [], [])
    """
    parts = [one.strip() for one in text.split(",")]
    return parts if len(parts) > 1 and all(one and _is_asked(one) for one in parts) else []


def accelerators_of(places: Iterable[str]) -> list[str]:
    """The accelerators of GPUs as people write them, without their numbers.

    >>> accelerators_of(["8xh100", "dgx-h200", "2xh100"])
    ['h100-sxm5-80gb', 'h200-sxm-141gb']
    """
    tables = [cluster_table(place) for place in places]
    found = (load_node(one["node"]).accelerator if "node" in one else str(one["accelerator"]) for one in tables)
    return list(dict.fromkeys(found))


def no_gpus_named(field: str, text: str) -> PlannerError:
    """The error of an answer to which GPUs that names none: empty, or with a number that counts nothing."""
    said: dict[str, Any] = {"field": field, "value": text}
    if text.strip():
        return PlannerError("{0} {1}: give a whole number and a GPU, such as 32xh100, or a node type.", field, text, **said)
    return PlannerError(
        "{0} = {1!r}: names no GPUs; give a whole number and a GPU, such as 32xh100, or a node type.", field, text, **said
    )


@lru_cache(maxsize=256)  # a name that is no node's is compared with all of them
def _cluster_table(text: str, field: str) -> dict[str, Any]:
    match = re.fullmatch(r"\s*(?:(-?\d+)\s*[x×](?!tx?\s*$)\s*)?(\S.*?)\s*", text, flags=re.IGNORECASE)  # no Radeon 7900 XTX
    if match is None or (match[1] and int(match[1]) < 1) or re.match(r"\s*\d+\.\d+\s*[x×]", text, flags=re.IGNORECASE):
        raise no_gpus_named(field, text)
    number, name = match[1], match[2]
    if len(several_gpus(text)) > 1:
        raise PlannerError(
            ONE_TYPE,
            field,
            text,
            field=field,
            value=text,
        )
    of_nodes = _of_nodes(text, name, field) or _slice(text, field)
    if of_nodes is not None:
        return of_nodes
    if number is not None and GEFORCE.fullmatch(number) and name.isdecimal() and int(name) > 0:
        number, name = name, number
    if number is None and not _is_known(name):
        number, name = _counted(name)
    if _is_node(name):
        return _of_type(name, number)
    if not is_asked_for("accelerators", name) and not accelerators_meant(name, _cards()):
        server = servers_meant(name, _servers())
        if len(server) == 1:
            return _of_type(server[0], number)
        if server:
            raise PlannerError("{0} {1}: means any of {2}; name one.", field, text, ", ".join(server), field=field, value=text)
    return {"accelerator": accelerator_named(name, field), "num_gpus": int(number or 1)}


def _counted(text: str) -> tuple[str | None, str]:
    """A number and a name written in another way than 8xh100: 8 H100, 8*H100, H100:8, h100 x8; the text itself where neither."""
    first = re.fullmatch(r"(\d+)\s*[-*×]?\s*([^\W\d].*)", text)
    last = re.fullmatch(r"(.*\S)\s*(?:[x*×]|:)\s*(\d+)", text, flags=re.IGNORECASE)
    for number, name in (*(((first[1], first[2]),) if first else ()), *(((last[2], last[1]),) if last else ())):
        if int(number) > 0 and (accelerators_meant(name, _cards()) or _is_node(name) or is_asked_for("accelerators", name)):
            return number, name
    return None, text


def _is_node(name: str) -> bool:
    if not (name.lower().startswith("workstation-") or is_asked_for("nodes", name)):
        return False
    try:
        load_node(name)
    except PlannerError:
        if name.endswith(".toml"):
            raise
        return False
    return True


def _is_known(name: str) -> bool:
    try:
        return _is_node(name) or bool(accelerator_named(name))
    except PlannerError:
        return False


def _is_part(name: str) -> bool:
    words = set(re.split(r"[-_ ]+", name.lower()))
    return any(words <= set(one.split("-")) for one in accelerator_names())


@cache
def _cards() -> dict[str, Known]:
    """Every accelerator's names and memory."""
    return {stem: Known((stem, *aliases), memory) for stem, aliases, memory in named("accelerators")}


@cache
def _servers() -> dict[str, Known]:
    """Every node type's names."""
    return {stem: Known((stem, *aliases), 0.0) for stem, aliases, _ in named("nodes")}


def accelerator_of_field(name: str, field: str) -> str:
    """What ``name`` in ``field`` of a table means: a part of a name as after --on, else the name or the path itself.

    >>> [accelerator_of_field(name, "cluster.accelerator") for name in ("H100 80GB", "h100-sxm5-80gb", "abacus")]
    ['h100-sxm5-80gb', 'h100-sxm5-80gb', 'abacus']
    """
    if is_asked_for("accelerators", name):
        return name
    found = _meant(name)
    if len(found) > 1:
        raise PlannerError("{0} = {1!r}: means any of {2}; name one.", field, name, ", ".join(found), field=field, value=name)
    return found[0] if found else name


def node_of_field(name: str, field: str) -> str:
    """What ``name`` in ``field`` of a table means: a part of a node type's name as after --on, else the name or the path itself.

    >>> [node_of_field(name, "cluster.node") for name in ("p4d", "dgx-h100", "abacus")]
    ['p4d-24xlarge', 'dgx-h100', 'abacus']
    """
    if _is_node(name):
        return name
    found = servers_meant(name, _servers())
    if len(found) > 1:
        raise PlannerError("{0} = {1!r}: means any of {2}; name one.", field, name, ", ".join(found), field=field, value=name)
    return found[0] if found else name


def _meant(name: str) -> list[str]:
    """The catalog's accelerators that a part of a name means; of several the one that has a DGX, where one has."""
    found = list(accelerators_meant(name, _cards()))
    usual = [one for one in found if has_dgx(one)]
    return usual if len(usual) == 1 else found


@cache
def lenders() -> dict[str, tuple[str, ...]]:
    """Services that people name where a GPU is asked -> the usual GPUs there."""
    return {name: tuple(one["usual"]) for one in known_names("lender") for name in one["names"]}


def refuse_lender(name: str, field: str) -> None:
    """PlannerError where a service is named that lends or rents GPUs, with those that it has."""
    lender = re.match(r"[a-z]+", name.strip().lower())
    if lender is None or lender[0] not in lenders():
        return
    rest = name.strip()[lender.end() :].strip(" :-_")
    cards = rest if rest and _is_known(rest) else ", ".join(lenders()[lender[0]])
    raise PlannerError(
        "{0} {1}: a service that rents out GPUs, not a GPU; name the one that you get there: {2}.",
        field,
        name,
        cards,
        field=field,
        value=name,
    )


def accelerator_named(name: str, field: str = "--on") -> str:
    """The catalog's accelerator that a name or a part of one means: h100 is h100-sxm5-80gb."""
    name = as_text(name, field)
    if is_asked_for("accelerators", name):
        return load_accelerator(name, field).name
    found = _meant(name)
    if len(found) == 1:
        return found[0]
    if found:
        raise PlannerError("{0} {1}: means any of {2}; name one.", field, name, ", ".join(found), field=field, value=name)
    turned = re.fullmatch(r"(.+?)\s*x\s*(\d+)", name, flags=re.IGNORECASE)
    if turned is not None and _is_known(turned[1]):
        raise PlannerError(
            "{0} {1}: the number comes first: {2}x{3}.", field, name, turned[2], turned[1], field=field, value=name
        )
    joined = re.fullmatch(r"(\d+)\s*[-*×]?\s*([a-z].*)", name, flags=re.IGNORECASE)
    if joined is not None and _is_known(joined[2]):
        raise PlannerError(
            "{0} {1}: write an x between the number and the GPU: {2}x{3}.",
            field,
            name,
            joined[1],
            joined[2],
            field=field,
            value=name,
        )
    if "," in name and all(_is_part(one.strip()) for one in name.split(",")):
        raise PlannerError(
            ONE_TYPE,
            field,
            name,
            field=field,
            value=name,
        )
    counted = re.fullmatch(r"\d+\s*[x×*]\s*(\S.*)", name, flags=re.IGNORECASE)
    if counted is not None and _is_known(counted[1]):
        raise PlannerError(
            "{0} {1}: one type of GPU is meant, without a number: {2}.", field, name, counted[1], field=field, value=name
        )
    if name.isdecimal() and not GEFORCE.fullmatch(name):
        raise PlannerError("{0} {1}: of which GPU? Give both, such as {1}xh100.", field, name, field=field, value=name)
    refuse_lender(name, field)
    if _is_node(name):
        card = load_node(name).accelerator
        raise PlannerError(
            "{0} {1}: is a node type, and a type of GPU is asked for; name its GPU: {2}.",
            field,
            name,
            card,
            field=field,
            value=name,
        )
    known = [*accelerator_names(), *node_names()]
    raise PlannerError("{0} {1}: no such GPU or node type; {2}.", field, name, near(name, known), field=field, value=name)
