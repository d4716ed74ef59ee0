"""Sealed records that hold what no harness wrote: refused in one paragraph, or answered with finite figures."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import fake, session
from places import ROOT
from test_fuzz import LONGEST, ODD, fuzzed, places, require_finite

from kernels import record as kernel_records
from planner.calibration.calibrate import calibrate
from planner.calibration.comparison import compared, summary
from planner.calibration.measuring import Measured, shares, to_json
from planner.calibration.profiles import write_profiles
from planner.calibration.records import record_of
from planner.common.errors import PlannerError
from planner.hardware.cluster import load_accelerator, load_node

HUGE: list[Any] = [2**60, 1e17, 1e40, 10**15, -1e-9, "fp32", [[]], [1.0, None], {"clock_reasons": 3}, {"processes": "two"}]


def thinned() -> dict[str, Any]:
    """The record of a CPU that the suite ships, with a few samples of each kind: a fit to them is quick."""
    record: dict[str, Any] = json.loads((ROOT / "tests" / "data" / "cpu-record.json").read_text(encoding="utf-8"))
    most = {"gemm": 8, "memory": 8, "attention": 3, "grouped_gemm": 2}
    seen: dict[str, int] = {}
    kept = []
    for sample in record["samples"]:
        kind = f"{sample['family']}, {sample['name']}, {sample['shape'].get('role')}"
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= most.get(sample["family"], 1):
            kept.append(sample)
    return {**record, "samples": kept}


def of_gpus() -> dict[str, Any]:
    """Eight GPUs of two machines: products, loops over groups, attention, host time, collectives, and a step with its memory."""
    made = session()
    card = load_accelerator("a100-sxm4-80gb")
    made.record |= {"ranks": 8}
    made.record["device"] |= {
        "kind": "cuda", "name": "NVIDIA A100-SXM4-80GB", "memory_bytes": card.memory_bytes, "ranks_per_node": 4, "num_sms": 108,
    }  # fmt: skip
    samples: list[dict[str, Any]] = made.record["samples"]
    for span, ranks, bus in (("node", 4, 1e11), ("across", 2, 1e10)):
        for message in (2**12, 2**16, 2**20, 2**24):
            shape = {"bytes": message, "ranks": ranks, "span": span}
            seconds = 1e-5 + message * 2.0 * (ranks - 1) / ranks / bus
            samples.append(fake("collectives", "all_reduce", shape, seconds, 0.0, float(message)))
    for m in (64, 256, 1024, 4096):
        for n in (1024, 4096):
            flops = 2.0 * m * n * 1024
            shape = {"m": m, "n": n, "k": 1024, "layout": "nt"}
            samples.append({**fake("gemm", "matmul", shape, flops / 2e14 + 1e-5, flops, 1e6), "dtype": "bf16"})
    for size in (2**20, 2**24, 2**28):
        samples.append(fake("memory", "copy", {"bytes": size}, 3e-6 + 1e-12 * size, 0.0, 2.0 * size))
        samples.append(fake("copies", "to device", {"bytes": size, "pinned": True}, 1e-5 + 4e-11 * size, 0.0, float(size)))
    for groups, tokens in ((8, 16), (8, 1024), (64, 16), (64, 256)):
        flops = 2.0 * groups * tokens * 2048 * 2048
        shape = {"experts": groups, "tokens_per_expert": tokens, "n": 2048, "k": 2048, "spread": "balanced"}
        one = fake("grouped_gemm", "grouped_mm", shape, 4e-5 + 2.5e-5 * groups, flops, 1e6)
        samples.append({**one, "dtype": "bf16", "extra": {"kernel": "loop", "host_bound": False}})
    seen = {"clock_reasons": ["software thermal slowdown"], "processes": 1}
    host = fake("dispatch", "autograd linear", {"elements": 64}, 1e-3, 0.0, 1.0)
    samples.append({**host, "extra": {"host_s_per_kernel": 1e-5, "seen": seen}})
    step = next(s for s in thinned()["samples"] if s["family"] == "training" and s["shape"]["role"] == "validate")
    memory = {"peak_allocated_bytes": 2e9, "peak_reserved_bytes": 2.2e9, "used_by_all_bytes": 3e9, "saved_bytes": 1e9}
    samples.append({**step, "extra": {**step["extra"], **memory}})
    probe = {"largest_micro_batch_size": 4, "smallest_that_fails": 5, "peak_allocated_bytes": 7e10}
    samples.append({**step, "family": "out_of_memory", "name": "largest micro-batch", "extra": {**step["extra"], **probe}})
    layout = {"ranks": 4, "dp": 2, "tp": 2, "ep": 1, "zero": 1}
    samples.append({**step, "family": "distributed_steps", "name": "ddp", "shape": {**step["shape"], **layout}})
    return made.record


GOOD = {"a CPU": thinned(), "GPUs": of_gpus()}


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """With checksums that hold, whatever is in it."""
    if isinstance(record.get("samples"), list):
        samples = [{**s, "checksum": kernel_records.checksum(s)} if isinstance(s, dict) else s for s in record["samples"]]
        record = {**record, "samples": samples}
    return {**record, "checksum": kernel_records.checksum(record)}


def readers(data: dict[str, Any]) -> Any:
    """All that is asked of a record: profiles that load again, predictions with and without them, best rates."""
    record = record_of(data, "record.json")
    made = calibrate(record, "made")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_profiles(made, Path(folder) / "made.toml")
        card, node = load_accelerator(str(paths[0])), load_node(str(paths[1]))
    require_finite(card.model_dump(exclude={"provenance"}), "accelerator")
    require_finite(node.model_dump(exclude={"provenance"}), "node")
    require_finite([vars(fit) for fit in made.fits], "fits")
    after = compared(record, "made", made=made)
    found = Measured(record=record, calibration=made, before=None, after=after, records=(), profiles=())
    require_finite(to_json(found), "measured")
    require_finite([vars(share) for share in shares(found)], "shares")
    require_finite(summary(after.rows), "summary")
    return after


def check(data: dict[str, Any]) -> None:
    """Answered, or refused in one short paragraph."""
    try:
        readers(sealed(data))
    except PlannerError as error:
        said = str(error)
        assert 0 < len(said) <= LONGEST
        assert "\n" not in said


@pytest.mark.parametrize("name", GOOD)
def test_the_good_records_are_answered(name: str) -> None:
    assert readers(sealed(GOOD[name])).rows


def spots(record: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """The places of a record's values: its own, its device's, and of one sample of each kind."""
    yield from (place for place in places({k: v for k, v in record.items() if k not in ("samples", "checksum")}))
    kinds: set[str] = set()
    for i, sample in enumerate(record["samples"]):
        kind = f"{sample['family']}, {sample['shape'].get('role')}"
        if kind not in kinds:
            kinds.add(kind)
            yield from (("samples", i, *place) for place in places(sample) if place != ("checksum",))


def put(record: dict[str, Any], spot: tuple[Any, ...], value: Any, whole_kind: bool) -> dict[str, Any]:
    """The record with another value there; ``whole_kind``: in all samples of its family."""
    changed = copy.deepcopy(record)
    targets: list[Any] = [changed]
    inner = spot[:-1]
    if spot[0] == "samples":
        family = record["samples"][spot[1]]["family"]
        same = [s for i, s in enumerate(changed["samples"]) if i == spot[1] or (whole_kind and s["family"] == family)]
        targets, inner = same, spot[2:-1]
    for target in targets:
        for key in inner:
            target = target.get(key) if isinstance(target, dict) else None
        if isinstance(target, dict):
            target[spot[-1]] = copy.deepcopy(value)
    return changed


PLACES = [(name, spot) for name, record in GOOD.items() for spot in spots(record)]


@fuzzed
@given(place=st.sampled_from(PLACES), value=st.sampled_from([*ODD, *HUGE]), whole_kind=st.booleans())
def test_an_odd_value_is_refused_or_answered(place: tuple[str, tuple[Any, ...]], value: Any, whole_kind: bool) -> None:
    name, spot = place
    check(put(GOOD[name], spot, value, whole_kind))
