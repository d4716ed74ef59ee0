"""The out-of-memory probe: the largest micro-batch that really fits, against which the planner's memory can be tested."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from kernels import clock
from kernels.case import Case, Work
from kernels.families.training import _reset, forms, make_trainer, stack
from kernels.faults import Skip, out_of_memory
from kernels.footprint import peak_bytes
from kernels.models import Step, decoder, experts
from kernels.session import Session

FAMILY = "out_of_memory"
MOST = 4096
"""Sequences; a device that holds more refuses nothing."""
CLOSE = 0.02
"""How far the largest that fits and the smallest that fails may lie apart, as a part of it."""


def cases(session: Session) -> Iterator[Case]:
    """Models with sequences so long that few of them fit, so that the probe ends soon."""
    d1b = decoder(16, 2048, 32, 8, 8192, 32000)
    m8 = decoder(12, 1024, 16, 16, 2816, 32000, **experts(8, 2, 2816))
    for label, model in (("dense 1B, largest", d1b), ("MoE 8 x top 2, largest", m8)):
        yield _case(Step(label=label, model=model, seq_len=8192, micro_batch_size=1), session)


def _case(step: Step, session: Session) -> Case:
    precision = step.precision or session.half
    step = forms(step, precision, session)[0]

    def build(session: Session) -> Work:
        session.watch.release()
        start = clock.now()
        found = largest_micro_batch(session, step, precision)
        found |= {"probe_s": clock.now() - start, "stack": stack(step, precision, session.device)}
        return Work(run=None, extra=found)

    return Case(family=FAMILY, name="largest micro-batch", shape=step.fields(precision), dtype=precision, build=build)


@dataclass
class Bracket:
    """The largest that fits, the smallest that fails (0: unknown), and the peak of the former."""

    fits: int = 0
    fails: int = 0
    peak_bytes: int = 0

    def following(self, guess: int) -> int:
        """What to try next; 0 when the two have met."""
        if not self.fits and not self.fails:
            return guess
        if not self.fails:
            return self.fits + max(self.fits // 4, 1)
        if self.fails - self.fits <= max(1, int(CLOSE * self.fits)):
            return 0
        return (self.fits + self.fails) // 2 if self.fits else max(3 * self.fails // 4, 1) if self.fails > 1 else 0


def largest_micro_batch(session: Session, step: Step, precision: str) -> dict[str, Any]:
    """Try micro-batches from the counted guess on, until the largest that fits and the smallest that fails have met.

    A try begins only while the case's time lasts for another like the last one: then the two lie apart, as recorded.
    """
    if not session.cuda:
        raise Skip("a CPU swaps instead of refusing memory")
    guess = counted_guess(step, precision, float(torch.cuda.mem_get_info(session.device)[0]))
    found = bracketed(session.case_budget_s, guess, lambda size: _try(session, step, precision, size))
    if not found.fits:
        raise Skip("not even one sequence fits" if found.fails == 1 else f"{found.fails} do not fit, fewer were not tried")
    if not found.fails:
        raise Skip(f"{found.fits} sequences fit; where it ends was not found in {session.case_budget_s:.0f} s")
    return {"largest_micro_batch_size": found.fits, "smallest_that_fails": found.fails, "peak_allocated_bytes": found.peak_bytes}


def counted_guess(step: Step, precision: str, free_bytes: float) -> int:
    """Sequences that should fit by counting."""
    one, two = (peak_bytes(replace(step, micro_batch_size=size), precision) for size in (1, 2))
    return max(1, min(MOST, 1 + int((0.95 * free_bytes - one) / max(two - one, 1.0))))


def bracketed(budget_s: float, guess: int, attempt: Callable[[int], int | None]) -> Bracket:
    """Close in on the limit within the budget; ``attempt`` gives the peak bytes, or None where memory runs out."""
    found, start, last = Bracket(), clock.now(), 0.0
    while (size := min(found.following(guess), MOST)) > max(found.fits, 0):
        if found.fails and size >= found.fails:
            break
        begin = clock.now()
        if begin - start + last > budget_s:
            break
        peak = attempt(size)
        if peak is None:
            found.fails = size
        else:
            found.fits, found.peak_bytes = size, peak
        last = clock.now() - begin
    return found


def _try(session: Session, step: Step, precision: str, size: int) -> int | None:
    """Peak bytes of two steps with that micro-batch; None when they do not fit."""
    before, peak = _reset(session), None
    try:
        trainer = make_trainer(replace(step, micro_batch_size=size), precision, session.device)
        trainer.run()
        trainer.run()
        session.watch.synchronize()
        peak = int(torch.cuda.max_memory_allocated(session.device)) - before
    except Exception as error:
        if not out_of_memory(error):
            raise
    trainer = None  # its traceback kept the activations alive until here
    gc.collect()
    torch.cuda.empty_cache()
    return peak
