"""Which families there are, how they share the time, and one run of them."""

from __future__ import annotations

import argparse
import difflib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kernels import distributed, probes
from kernels import record as records
from kernels.case import DTYPES, Case
from kernels.device import busy, forbid_spilling, smoke_problem
from kernels.families import (
    attention,
    collectives,
    dispatch,
    distributed_steps,
    elementwise,
    gemm,
    grouped,
    memory,
    moe,
    optimizer,
    out_of_memory,
    serving,
    training,
)
from kernels.families.gemm import TOLERANCE
from kernels.faults import scrubbed
from kernels.power import PowerMeter
from kernels.session import Product, Session
from kernels.summary import summary
from kernels.supervisor import supervise, worker


class Unusable(ValueError):
    """The command cannot be carried out; the text says what would be right."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """What it measures, its cases, its part of the time, and whether it needs several ranks."""

    what: str
    cases: Callable[[Session], Iterable[Case]]
    weight: float
    distributed: bool = False


FAMILIES = {
    "dispatch": Family(what="host time per kernel: eager, CUDA graph", cases=dispatch.cases, weight=2),
    "memory": Family(what="memory bandwidth: copy, triad, reduction, fill", cases=memory.cases, weight=4),
    "gemm": Family(what="matrix multiply over m, n, k and dtype", cases=gemm.cases, weight=16),
    "training": Family(what="whole training steps, memory and power", cases=training.cases, weight=50),
    "attention": Family(what="attention forward and backward, fused and eager", cases=attention.cases, weight=8),
    "grouped_gemm": Family(what="grouped matrix multiply by experts and tokens", cases=grouped.cases, weight=8),
    "moe": Family(what="the MoE layer by implementation", cases=moe.cases, weight=8),
    "serving": Family(what="prefill and decoding of one layer over a cache", cases=serving.cases, weight=8),
    "elementwise": Family(what="norms, SwiGLU, rotary, cross-entropy, embedding", cases=elementwise.cases, weight=8),
    "optimizer": Family(what="AdamW step", cases=optimizer.cases, weight=3),
    "copies": Family(what="host to device and back", cases=memory.copies, weight=2),
    "out_of_memory": Family(what="largest micro-batch that fits", cases=out_of_memory.cases, weight=8),
    "compile": Family(what="torch.compile of a chain of small kernels", cases=dispatch.compiled, weight=5),
    "collectives": Family(what="collectives under torchrun", cases=collectives.cases, weight=50, distributed=True),
    "distributed_steps": Family(
        what="DDP, FSDP2, tensor and expert parallel", cases=distributed_steps.cases, weight=50, distributed=True
    ),
}


def chosen(only: str | None, ranks: int) -> dict[str, Family]:
    """The families to measure: those of one process, or under torchrun those of several; or what ``--only`` names."""
    if only is None:
        return {name: family for name, family in FAMILIES.items() if family.distributed == (ranks > 1)}
    found = {}
    for name in (part.strip() for part in only.split(",")):
        if name not in FAMILIES:
            near = difflib.get_close_matches(name, FAMILIES, n=3) or list(FAMILIES)
            raise Unusable(f"--only {name}: no such family; did you mean {', '.join(near)}?")
        if ranks > 1 and not FAMILIES[name].distributed:
            raise Unusable(f"--only {name}: measures one device; start it without torchrun")
        found[name] = FAMILIES[name]
    return found


def run(given: argparse.Namespace) -> int:
    """Measure and write; prints the summary. Raises Unusable before anything is measured. 1 when nothing was measured.

    On a GPU the work is done by processes of their own, one after the other where the device is lost.
    """
    _, ranks, _ = distributed.ranks()
    families = chosen(given.only, ranks)
    kind = _kind(given, ranks)
    products(given.shapes)
    if not given.worker and distributed.ranks()[0] == 0:
        _check_out(given)
    if kind.startswith("cuda") and ranks == 1 and not given.worker:
        line = [part for part in given.line if part not in ("--resume", "--overwrite")]
        code = supervise(worker([*line, "--worker"]), given.out, first=["--resume"] if given.resume else [])
        _say(given.out)
        return code
    try:
        session = _measured(given, kind, families)
    finally:
        distributed.stop()
    if session.rank:
        return 0
    if not given.worker:
        _say(given.out)
    return int(not any(s["status"] == "measured" for s in session.record["samples"]))


def _say(path: Path) -> None:
    """The summary of what was written."""
    if not path.is_file():
        return
    record = records.read(path)
    print(summary(record))
    nothing = not any(s["status"] == "measured" for s in record["samples"])
    print(f"\nwrote {path}" + ("; nothing could be measured: the reasons stand above" if nothing else ""), file=sys.stderr)


def _kind(given: argparse.Namespace, ranks: int) -> str:
    """The device to measure; Unusable when it is not here."""
    kind: str = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind.startswith("cuda") and not torch.cuda.is_available():
        raise Unusable(f"--device {kind}: torch sees no GPU here; use --device cpu, or a torch built for CUDA")
    _, _, index = kind.partition(":")
    if index and ranks > 1:
        raise Unusable(f"--device {kind}: under torchrun every rank has its own GPU; use --device cuda")
    if index and int(index) >= torch.cuda.device_count():
        raise Unusable(f"--device {kind}: torch sees {torch.cuda.device_count()} GPUs, numbered from 0")
    if ranks > 1 and not distributed.available():
        raise Unusable(f"{ranks} ranks: this torch was built without torch.distributed; measure one GPU without torchrun")
    if given.threads is not None and given.threads < 1:
        raise Unusable(f"--threads {given.threads}: must be at least 1")
    if given.clock == "cpu" and (kind != "cpu" or (given.threads or torch.get_num_threads()) != 1 or ranks > 1):
        raise Unusable("--clock cpu: adds up the time of all threads; it needs --device cpu and --threads 1, without torchrun")
    return kind


def products(path: Path | None) -> list[Product]:
    """The products of a file that ``planner measure --scenario`` writes: {"products": [[type, layout, groups, m, n, k], ...]}."""
    if path is None:
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["products"]
        lines: list[Product] = [
            (str(dtype), str(layout), int(groups), int(m), int(n), int(k)) for dtype, layout, groups, m, n, k in found
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(f"--shapes {path}: cannot be read as products ({type(error).__name__}: {error})") from None
    for line in lines:
        right = line[0] in TOLERANCE and line[1] in ("nt", "nn", "tn") and line[2] >= 0 and min(line[3:]) >= 1
        if not right:
            raise Unusable(f"--shapes {path}: {list(line)}: give type, layout (nt, nn, tn), groups (0 = plain), m, n, k")
    return lines


def _check_out(given: argparse.Namespace) -> None:
    """The record's place: a folder that exists, and no record there unless it is to be replaced or continued."""
    out: Path = given.out
    if not out.parent.is_dir():
        raise Unusable(f"--out {out}: the folder {out.parent} does not exist")
    if out.is_dir():
        raise Unusable(f"--out {out}: is a folder; give a file name")
    if out.exists() and not (given.resume or given.overwrite):
        raise Unusable(f"--out {out}: exists; --resume goes on with it, --overwrite replaces it, another name keeps both")
    if out.exists() and given.resume:
        records.read(out)
    if given.overwrite:
        out.unlink(missing_ok=True)
        records.unmark(out)


def _measured(given: argparse.Namespace, kind: str, families: dict[str, Family]) -> Session:
    """The session of this process, with everything measured."""
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    rank, ranks, _ = distributed.ranks()
    device = distributed.start(kind)
    occupied = busy(device, PowerMeter(device))  # before the first kernels of this process, which would be seen too
    if device.type == "cuda":
        _prepare(device)
    agreement = distributed.Agreement(device)
    earlier = agreement.shared(_earlier(given, device) if rank == 0 else None)
    session = Session(
        device,
        given.budget,
        given.out,
        _command(given),
        rank=rank,
        ranks=ranks,
        agree=agreement,
        seed=given.seed,
        cpu_clock=given.clock == "cpu",
        earlier=earlier,
        before_s=0.0 if given.began is None else min(max(time.time() - given.began, 0.0), 600.0),
        occupied=occupied,
    )
    session.products = products(given.shapes)
    try:
        with own_stream(device):
            _first_products(device, session.half)
            measure(session, families)
    except KeyboardInterrupt:
        _save(session)
        raise
    if rank == 0:
        records.unmark(given.out)
    return session


def _prepare(device: torch.device) -> None:
    """Before the first measurement: does this torch compute here at all, and what can it do?"""
    torch.cuda.set_device(device)
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True  # torch's default, stated
    half = torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    problem = smoke_problem(device, half)
    if problem:
        raise Unusable(problem)
    forbid_spilling(device)
    for dtype in (half, torch.float32):
        probes.found("cuda", dtype)


def _first_products(device: torch.device, half: str) -> None:
    """cuBLAS takes its workspace of a stream at the first product there: before any memory is counted, not inside a step."""
    if device.type == "cuda":
        for name in (half, "fp32"):
            x = torch.ones(64, 64, device=device, dtype=DTYPES[name])
            torch.matmul(x, x)
        torch.cuda.synchronize(device)


def _earlier(given: argparse.Namespace, device: torch.device) -> dict[str, Any] | None:
    """The record to go on with, of the same device and the same random numbers; None where there is none."""
    if not (given.resume and given.out.exists()):
        return None
    records.note_lost(given.out, "the run ended while this was measured")
    earlier = records.read(given.out)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else earlier["device"]["name"]
    if (earlier["device"]["kind"], earlier["device"]["name"]) != (device.type, name):
        raise Unusable(f"--resume: {given.out} is of {earlier['device']['name']}, this is {name}; give another --out")
    if earlier["device"].get("seed", given.seed) != given.seed:
        raise Unusable(f"--seed {given.seed}: {given.out} was begun with {earlier['device']['seed']}; use that one")
    return earlier


def _command(given: argparse.Namespace) -> list[str]:
    """The options, without folders: a record names none."""
    line = list(given.line)
    if "--began" in line:
        del line[line.index("--began") : line.index("--began") + 2]
    private = {str(given.shapes): "shapes.json", str(given.out): given.out.name, f"--out={given.out}": f"--out={given.out.name}"}
    return [scrubbed(private.get(part, part)) for part in line if part != "--worker"] or ["run"]


def own_stream(device: torch.device) -> AbstractContextManager[Any]:
    """A stream beside the default one, on which graphs can be captured; gradients run on the stream of their forward pass."""
    return torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()


def _save(session: Session) -> None:
    """Write the record, whatever else is pressed meanwhile."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            session.write()
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    else:
        session.write()


def distinct(cases: Iterable[Case]) -> list[Case]:
    """Each case once: a product that was asked for may stand in a family's own list."""
    return list({case.key: case for case in cases}.values())


def measure(session: Session, families: dict[str, Family]) -> None:
    """Families in order; what one leaves of its time goes to the later ones."""
    weights = {name: family.weight for name, family in families.items()}
    for name, family in families.items():
        left = max(session.budget_s - session.elapsed_s, 0.0)
        share = left * weights[name] / sum(list(weights.values())[list(weights).index(name) :])
        session.family(name, distinct(family.cases(session)), share)
    session.finish()
