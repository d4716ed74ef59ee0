"""What a driver calls a GPU, and the profile of the catalog that describes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from planner.common.data import PROFILES
from planner.common.errors import PlannerError
from planner.common.spec import read_table
from planner.hardware.asked import accelerator_named
from planner.hardware.cluster import accelerator_names, load_accelerator

SIZE = re.compile(r"-\d+gb$")
"""The memory that ends a profile's name."""
NEARLY = 0.1
"""A driver reports up to so much less memory than the maker: ECC, firmware."""
MIG = re.compile(r"\s+MIG\s+(\d+)g\.(\d+)gb.*$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Named:
    """What is known of a driver's name: the profile, or the nearest ones; of a MIG slice, that it is one."""

    profile: str | None
    near: tuple[str, ...] = ()
    is_slice: bool = False


@cache
def _names() -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    table = read_table(PROFILES / "driver_names.toml")
    known = {_plain(name): profile for name, profile in table["known"].items()}
    return known, {_plain(name): tuple(profiles) for name, profiles in table["unknown"].items()}


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())


def named(device: str, memory_bytes: float | None = None) -> Named:
    """The profile of the GPU that a driver calls ``device`` and that has ``memory_bytes``.

    Exact names come from ``hardware_profiles/driver_names.toml``; of others, the one GPU of the catalog that ``--on`` means by
    them. GPUs that differ in memory alone bear one name: the one with the measured memory is meant. A MIG slice is described by
    the GPU that it is cut from (``is_slice``). Of names that mean none, the profiles with the same model number are near.

    >>> named("NVIDIA H100 80GB HBM3").profile, named("NVIDIA GeForce RTX 3070 Laptop GPU").profile
    ('h100-sxm5-80gb', 'rtx-3070-laptop-8gb')
    >>> named("NVIDIA A100-SXM4-40GB MIG 3g.20gb")
    Named(profile='a100-sxm4-40gb', near=(), is_slice=True)
    """
    whole = MIG.sub("", device)
    is_slice, plain = whole != device, _plain(whole)
    known, unknown = _names()
    if plain in unknown:
        return Named(profile=None, near=unknown[plain], is_slice=is_slice)
    profile = known.get(plain) or _by_alias(whole)
    if profile is None:
        return Named(profile=None, near=_same_number(plain), is_slice=is_slice)
    if memory_bytes is not None and not is_slice:
        found = _with_memory(profile, memory_bytes)
        return Named(profile=found, near=() if found else (profile,))
    return Named(profile=profile, is_slice=is_slice)


def _with_memory(profile: str, memory_bytes: float) -> str | None:
    """The profile, or its sibling of the same name but for the memory, that has about so much; None where none has.

    >>> _with_memory("rtx-4060-ti-16gb", 7.996 * 2**30), _with_memory("rtx-3060-12gb", 11.76 * 2**30)
    ('rtx-4060-ti-8gb', 'rtx-3060-12gb')
    >>> _with_memory("rtx-2060-6gb", 12.0 * 2**30)
    """
    stem = SIZE.sub("", profile)
    siblings = [name for name in accelerator_names() if SIZE.sub("", name) == stem]
    near = [name for name in siblings if abs(load_accelerator(name).memory_bytes / memory_bytes - 1.0) < NEARLY]
    return profile if profile in near else near[0] if len(near) == 1 else None


def known_accelerator(device: str, memory_bytes: float | None = None) -> str | None:
    """The catalog's name for the GPU that a driver calls ``device``; None when no profile describes it (``named``).

    >>> known_accelerator("NVIDIA H200"), known_accelerator("NVIDIA GeForce RTX 3070"), known_accelerator("AMD EPYC")
    ('h200-sxm-141gb', 'rtx-3070-8gb', None)
    """
    return named(device, memory_bytes).profile


def _by_alias(device: str) -> str | None:
    try:
        return accelerator_named(device)
    except PlannerError:
        return None


def _same_number(plain: str) -> tuple[str, ...]:
    """Profiles whose model number (3070, h100, mi300x) stands in the name."""
    numbers = set(re.findall(r"[a-z]*\d{2,4}[a-z]?", plain.replace("-", " ")))
    return tuple(name for name in accelerator_names() if numbers & set(name.split("-")))[:3]
