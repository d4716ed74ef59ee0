"""Names of machines as people, drivers and clouds write them, reduced to words: "NVIDIA A100-SXM4 80 GB" is a100, sxm4, 80gb."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

MAKERS_WORDS = frozenset(
    """
    nvidia geforce tesla amd radeon instinct intel habana google cloud huawei apple aws amazon azure gcp lambda
    gpu gpus card cards accelerator tensor core edition generation graphics design oam module standard vf podslice
    macbook mac studio
    hbm hbm2 hbm2e hbm3 hbm3e hbm4 gddr6 gddr6x gddr7
    """.split()  # noqa: SIM905
)
"""Words that tell nothing where the rest names a machine."""
OF_ITS_OWN = frozenset(("ti", "super", "laptop", "mobile", "max", "q", "d", "pro", "ultra", "sff"))
"""Words that make another product: a name that lacks one of them is not that product's, nor the other way round."""
NEARLY = 0.08
"""Memory as marketed (192 GB) and as the driver reports it (180 GiB = 193.3 GB) differ by less."""

JOINED = re.compile(r"\b(gtx|rtx)(\d)|(\d)(ti|super)\b|\b(ascend|gaudi|atlas)(\d)")
SHORT_SUPER = re.compile(r"\b([24]0[678]0)( ?ti)? ?s\b")
"""As shops write a Super: 4080S, 4070TiS."""
MACS = re.compile(r"\bmac ?book (?:pro|air)\b|\bmac (?:pro|mini)\b")
"""Apple's boxes, whose Pro is none of the chip's: MacBook Pro M4 Max."""
MEMORY = re.compile(r"\b(\d+)\s?(?:gb|gib|g)\b")
SIZE = re.compile(r"\d+gb")


def words_of(name: str) -> tuple[str, ...]:
    """The words of a name that tell machines apart, in lower case; memory as 80gb.

    >>> words_of("NVIDIA GeForce RTX4090 24G")
    ('rtx', '4090', '24gb')
    """
    plain = re.sub(r"[^a-z0-9]+", " ", name.lower().replace("昇腾", "ascend ").replace("英伟达", "nvidia "))
    plain = MACS.sub(" ", plain)
    plain = SHORT_SUPER.sub(r"\1\2 super", plain)
    plain = JOINED.sub(lambda m: " ".join(part for part in m.groups() if part), plain)
    plain = MEMORY.sub(r"\1gb", plain)
    return tuple(word for word in plain.split() if word not in MAKERS_WORDS)


class Spelling(NamedTuple):
    """A name as words, with and without what it says of memory."""

    words: tuple[str, ...]
    plain: frozenset[str]
    gigabytes: tuple[int, ...]


@lru_cache(maxsize=4096)
def spelling(name: str) -> Spelling:
    """The words of a name."""
    words = words_of(name)
    sizes = [word for word in words if SIZE.fullmatch(word)]
    return Spelling(words, frozenset(words).difference(sizes), tuple(int(size[:-2]) for size in sizes))


class Known(NamedTuple):
    """A machine of the catalog: its names, the catalog's own first, and its memory (0: a server, of which none is stated)."""

    names: tuple[str, ...]
    memory_bytes: float


def accelerators_meant(name: str, known: Mapping[str, Known]) -> list[str]:
    """The accelerators that ``name`` may mean.

    Every word must be among those of one of their names and one in the catalog's own; words of ``OF_ITS_OWN`` are in both or in
    neither; a size of memory is theirs within ``NEARLY``, in GB or GiB. One whose name has no further word comes alone, then
    those whose names state that size.
    """
    asked = spelling(name)
    if not any(len(word) > 1 for word in asked.plain) or len(asked.gigabytes) > 1:
        return []
    found: dict[str, list[Spelling]] = {}
    for key, machine in known.items():
        if not asked.plain & spelling(key).plain or not all(_holds(machine.memory_bytes, n) for n in asked.gigabytes):
            continue
        theirs = [s for s in map(spelling, machine.names) if asked.plain <= s.plain and _alike(asked.plain, s.plain)]
        if theirs:
            found[key] = theirs
    whole = [key for key, names in found.items() if any(set(s.words) == set(asked.words) for s in names)]
    stated = [key for key, names in found.items() if asked.gigabytes and any(s.gigabytes == asked.gigabytes for s in names)]
    return whole or stated or list(found)


def servers_meant(name: str, known: Mapping[str, Known]) -> list[str]:
    """The node types that ``name`` is the beginning or, without their own first words, the rest of: p4d is p4d-24xlarge."""
    asked = words_of(name)
    asked = asked[1:] if asked[:1] == ("ml",) else asked  # as SageMaker calls an instance
    if not asked or asked[0].isdigit():
        return []
    found = [key for key, machine in known.items() if any(spelling(n).words[: len(asked)] == asked for n in machine.names)]
    whole = [key for key in found if any(spelling(n).words == asked for n in known[key].names)]
    return whole or found


def same_name(name: str, other: str) -> bool:
    """Whether two names have the same words, or the same but for memory that only one of them states."""
    one, two = spelling(name), spelling(other)
    return set(one.words) == set(two.words) or (one.plain == two.plain != frozenset() and not two.gigabytes)


def _alike(one: frozenset[str], two: frozenset[str]) -> bool:
    return one & OF_ITS_OWN == two & OF_ITS_OWN


def _holds(memory_bytes: float, gigabytes: int) -> bool:
    return not memory_bytes or any(abs(gigabytes * unit - memory_bytes) < NEARLY * memory_bytes for unit in (1e9, 2.0**30))
