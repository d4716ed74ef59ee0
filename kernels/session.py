"""One run of measurements: cases in, samples out. Whatever goes wrong in a case is recorded there, and the rest goes on."""

from __future__ import annotations

import datetime
import gc
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch

from kernels import clock
from kernels import record as records
from kernels.case import Case, Work, matmul_precision, sample_key
from kernels.device import busy, describe, versions
from kernels.distributed import ranks_per_node
from kernels.faults import DeviceLost, Skip, check_alive, first_line, out_of_memory
from kernels.power import PowerMeter, Watching
from kernels.timing import HOST_BOUND, Stopwatch, Timing

NO_TIME = "the family's time of"
"""How the reason begins of a case for which no time was left: another run may measure it."""


Product = tuple[str, str, int, int, int, int]
"""A product to measure: type, layout (nt, nn, tn), groups (0 = plain), m, n, k."""


class Ranks(Protocol):
    """How ranks agree: on a number, and on whether all of them came through a part of a case."""

    def number(self, value: int) -> int: ...
    def problem(self, problem: str) -> str: ...


class Alone:
    """One rank agrees with itself."""

    def number(self, value: int) -> int:
        """The same."""
        return value

    def problem(self, problem: str) -> str:
        """The same."""
        return problem


class Session:
    """Device, clock, record and progress of one run. Under torchrun all ranks work, rank 0 writes.

    ``earlier``: the record that this run goes on with; what it holds is not measured again. ``elapsed_s`` counts its time too,
    and ``before_s`` that this process took to start. ``occupied``: why the device was not free before its own first kernel.
    """

    def __init__(
        self,
        device: torch.device,
        budget_s: float,
        out: Path | None,
        command: list[str],
        *,
        rank: int = 0,
        ranks: int = 1,
        agree: Ranks | None = None,
        seed: int = 0,
        cpu_clock: bool = False,
        earlier: dict[str, Any] | None = None,
        before_s: float = 0.0,
        occupied: str | None = None,
    ) -> None:
        self.device, self.budget_s, self.out, self.rank, self.ranks = device, budget_s, out, rank, ranks
        self.together: Ranks = agree or Alone()
        self.agree = self.together.number
        self.cuda = device.type == "cuda"
        self.meter = PowerMeter(device)
        self.watch = Stopwatch(device, self.agree if ranks > 1 else None, cpu_clock)
        self.case_budget_s = budget_s
        self.groups: dict[str, Any] = {}  # process groups of a part of the ranks
        self.products: list[Product] = []  # asked for beyond the families' own, measured first
        self.profiled: set[str] = set()  # models of which one step has been taken apart
        self.seen: dict[str, Any] = {}  # clocks, heat and energy while the last work was timed
        torch.manual_seed(seed + rank)
        self.watch.during = lambda: Watching(self.meter)
        found, found_busy = describe(device, self.meter), busy(device, self.meter) if occupied is None else occupied
        self.record: dict[str, Any] = {
            "schema": records.SCHEMA,
            "version": records.VERSION,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),  # noqa: UP017 (Python 3.10)
            "finished": False,
            "command": command,
            "budget_s": float(budget_s),
            "ranks": ranks,
            "device": {**found, "busy": found_busy, "clock": "cpu" if cpu_clock else "wall", "seed": seed},
            "versions": versions(),
            "samples": [],
        }
        if ranks > 1:
            self.record["device"]["ranks_per_node"] = ranks_per_node()
        self._before_s = before_s + (self._resume(earlier) if earlier is not None else 0.0)
        self.start = clock.now()
        self._written = 0.0
        self.write()

    def _resume(self, earlier: dict[str, Any]) -> float:
        """Keep the earlier samples, except those for which only time was missing; seconds that they took."""
        kept = [s for s in earlier["samples"] if not s["reason"].startswith(NO_TIME)]
        self.record["samples"] = kept
        self.record["created"] = earlier["created"]
        self.record["device"]["resumed"] = int(earlier["device"].get("resumed", 0)) + 1
        return 0.0 if earlier["finished"] else float(earlier["device"].get("elapsed_s", 0.0))

    @property
    def elapsed_s(self) -> float:
        """Since the start, of the first run where this one goes on."""
        return self._before_s + clock.now() - self.start

    def has_dtype(self, dtype: str) -> str:
        """Why the device cannot work in that type; empty when it can."""
        if not self.cuda or dtype in ("fp32", "fp64", "fp16"):
            return ""
        major, _ = torch.cuda.get_device_capability(self.device)
        hip = torch.version.hip is not None
        if dtype == "tf32" and major < 8 and not hip:
            return "tf32 needs compute capability 8.0"
        if dtype == "bf16" and major < 8 and not hip:
            return "bf16 needs compute capability 8.0; use fp16"
        return ""

    @property
    def half(self) -> str:
        """The 16-bit type that training uses here; fp32 on a CPU, where 16 bit is slower."""
        return "fp32" if not self.cuda else "bf16" if not self.has_dtype("bf16") else "fp16"

    def family(self, name: str, cases: Iterable[Case], budget_s: float) -> None:
        """Measure the cases of one family in their order, within its time; what is left over is skipped with that reason."""
        known = self._known()
        todo = [case for case in cases if case.key not in known]
        total = sum(case.weight for case in todo) or 1.0
        deadline = self.elapsed_s + budget_s
        for i, case in enumerate(todo):
            self._progress(name, i, len(todo))
            left = deadline - self.elapsed_s
            if self.agree(int(left <= 0)):
                self._add(case, "skipped", reason=f"{NO_TIME} {max(budget_s, 0.0):.0f} s was used up")
                continue
            remaining = sum(c.weight for c in todo[i:])
            self._case(case, min(left, max(left * case.weight / remaining, budget_s * case.weight / total * 0.5)))
        self._progress(name, len(todo), len(todo), last=True)
        self.write()

    def _known(self) -> set[str]:
        return {sample_key(s) for s in self.record["samples"]}

    def _case(self, case: Case, budget_s: float) -> None:
        """Measure one case, or its smaller form when memory runs out; a lost device ends the run."""
        now: Case | None = case
        while now is not None:
            self._mark(now, budget_s)
            before = self._allocated()
            full = self._tried(now, budget_s)
            if full or not self.cuda or self._allocated() > before:  # only cycles hold it: an exception's, a model's
                gc.collect(2 if self.cuda or "label" in now.shape else 0)
            self._empty_cache()
            now = now.smaller if full else None
            now = None if now is not None and now.key in self._known() else now
        if self.elapsed_s - self._written > 5.0:
            self.write()

    def _tried(self, case: Case, budget_s: float) -> bool:
        """Record the sample, or the reason why there is none; True when memory ran out and a smaller form may fit."""
        problem = self.has_dtype(case.dtype)
        work: Work | None = None
        result: dict[str, Any] = {}
        self.case_budget_s = budget_s
        full = fault = False
        if not problem:
            try:
                work = made = self._stage(lambda: self._built(case))
                result = self._stage(lambda: self._measured(made, case, budget_s))
            except Exception as error:  # one failing case must not end the run; what it was stands in the record
                problem, fault = _reason(error), not isinstance(error, Skip)
                full = "out of memory:" in problem  # on this rank or on another
        if full and case.smaller is not None:
            self._add_tried(case, problem)
            return True
        self._add(case, "skipped" if problem else "measured", work=work, reason=problem, **result)
        if fault:
            self._check_alive()
        return False

    def _stage(self, part: Callable[[], Any]) -> Any:
        """Do a part of a case, then agree with the other ranks that all of them did: no rank waits for one that failed."""
        answer, error = None, None
        try:
            answer = part()
        except Exception as caught:
            error = caught
        if self.ranks > 1:
            common = self.together.problem("" if error is None else _reason(error))
            if error is None and common:
                raise Skip(common)
        if error is not None:
            raise error
        return answer

    def _built(self, case: Case) -> Work:
        with matmul_precision(case.dtype):
            return case.build(self)

    def _measured(self, work: Work, case: Case, budget_s: float) -> dict[str, Any]:
        """Check, time and finish the work."""
        with matmul_precision(case.dtype):
            error = self._stage(lambda: self._checked(work))
            timing, extra = self._stage(lambda: self._timed(work, 0.6 * budget_s))
            extra |= work.finish(timing) if work.finish is not None and timing is not None else {}
        return {"timing": timing, "error": error, "extra": extra}

    def _timed(self, work: Work, budget_s: float) -> tuple[Timing | None, dict[str, Any]]:
        """The timing, and how it was taken: on the host's launches, as a graph, host-bound or not, at which clocks."""
        if work.run is None:
            return None, {}
        extra: dict[str, Any] = {}
        timing = self._repeated(work, work.run, budget_s)
        host_bound = self.cuda and self.watch.host_s > HOST_BOUND * timing.median_s
        if host_bound and work.graph and self.ranks == 1:
            timing, extra = self._as_graph(work, timing, budget_s)
            host_bound = "graph" not in extra
        self.seen = {**self.watch.seen.found, "repeats": timing.repeats}
        if self.cuda:
            extra |= {"host_s": self.watch.host_s, "host_bound": host_bound, "seen": self.watch.seen.found}
        return timing, extra

    def _repeated(self, work: Work, run: Callable[[], Any], budget_s: float) -> Timing:
        return self.watch.time(
            run,
            budget_s,
            prepare=work.prepare,
            cold=work.cold,
            warm_up=work.warm_up,
            least=work.least,
            inner=work.inner,
        )

    def _as_graph(self, work: Work, timing: Timing, budget_s: float) -> tuple[Timing, dict[str, Any]]:
        """The same work replayed as a CUDA graph, since the host launches it more slowly than the device runs it."""
        assert work.run is not None
        launched, host_s = {"launched_s": timing.median_s}, self.watch.host_s
        try:
            replay = self.watch.captured(work.run)
            return self._repeated(work, replay, 0.5 * budget_s), {**launched, "graph": True}
        except Exception as error:
            self.watch.host_s = host_s
            if not out_of_memory(error):
                check_alive(self.device)
            return timing, {"graph_problem": first_line(error)}

    def _allocated(self) -> int:
        return int(torch.cuda.memory_allocated(self.device)) if self.cuda else 0

    def _empty_cache(self) -> None:
        if not self.cuda:
            return
        try:
            torch.cuda.empty_cache()
        except Exception as error:
            raise DeviceLost(first_line(error)) from None

    def _check_alive(self) -> None:
        """After a fault that was no lack of memory: a device that answers nothing ends this process, not the record."""
        try:
            check_alive(self.device)
        except DeviceLost:
            self.write()
            raise

    @staticmethod
    def _checked(work: Work) -> float | None:
        if work.check is None:
            return None
        error = float(work.check())
        if not error <= work.tolerance:
            raise Skip(f"wrong result: relative error {error:.2e} above {work.tolerance:.0e}")
        return error

    def _add_tried(self, case: Case, problem: str) -> None:
        """A case that gives way to a smaller one leaves only a line in the device's notes, not a sample."""
        notes = self.record["device"].setdefault("did_not_fit", [])
        notes.append(f"{case.family}: {case.shape.get('label', case.name)}, {case.shape.get('reduced') or 'whole'}: {problem}")

    def _add(
        self,
        case: Case,
        status: str,
        *,
        work: Work | None = None,
        timing: Timing | None = None,
        error: float | None = None,
        extra: dict[str, Any] | None = None,
        reason: str = "",
    ) -> None:
        flops, moved = (float(work.flops), float(work.bytes)) if work is not None else (0.0, 0.0)
        median = timing.median_s if timing is not None else None
        sample = {
            "family": case.family,
            "name": case.name,
            "shape": case.shape,
            "dtype": case.dtype,
            "status": status,
            "reason": reason,
            "time": timing.to_dict() if timing is not None else None,
            "flops": flops,
            "bytes": moved,
            "flops_per_s": flops / median if median and flops else None,
            "bytes_per_s": moved / median if median and moved else None,
            "error": error,
            "extra": {**case.extra, **(work.extra if work is not None else {}), **(extra or {})},
        }
        self.record["samples"].append(records.seal(sample))

    def _mark(self, case: Case, budget_s: float) -> None:
        """Leave word of what is being measured, for whoever finds this process gone or hanging."""
        if self.out is not None and self.rank == 0 and self.cuda:
            records.mark(self.out, {**case.identity(), "limit_s": 120.0 + 5.0 * budget_s})

    def write(self) -> None:
        """Put what was measured so far on disk."""
        self._written = self.elapsed_s
        self.record["device"] |= {"elapsed_s": self._written, "nvml_failed": dict(self.meter.failed)}
        if self.out is not None and self.rank == 0:
            records.write(self.record, self.out)

    def finish(self) -> None:
        """Last state of the device; the record is complete."""
        self.record["device"]["after"] = self.meter.state()
        self.record["finished"] = True
        self.write()

    def _progress(self, name: str, done: int, total: int, last: bool = False) -> None:
        if self.rank != 0:
            return
        width = 24
        filled = width * done // max(total, 1)
        bar = "#" * filled + "." * (width - filled)
        left = max(self.budget_s - self.elapsed_s, 0.0)
        line = f"{name:<17} [{bar}] {done}/{total}  {self.elapsed_s:5.0f} s of {self.budget_s:.0f} s, {left:.0f} s left"
        if sys.stderr.isatty():
            print(f"\r{line}", end="\n" if last else "", file=sys.stderr, flush=True)
        elif last:
            print(line, file=sys.stderr, flush=True)


def _reason(error: BaseException) -> str:
    """Why a case has no sample."""
    if isinstance(error, Skip):
        return str(error)
    if out_of_memory(error):
        return f"out of memory: {first_line(error)}"
    return f"{type(error).__name__}: {first_line(error)}"
