"""Clocks, temperature, throttling and energy of one GPU through NVML, at rest and while something is timed."""

from __future__ import annotations

import importlib
import threading
from typing import Any

import numpy as np
import torch

REASONS = {
    0x1: "idle", 0x2: "application clocks", 0x4: "software power cap", 0x8: "hardware slowdown", 0x10: "sync boost",
    0x20: "software thermal slowdown", 0x40: "hardware thermal slowdown", 0x80: "power brake", 0x100: "display clocks",
}  # fmt: skip
"""nvmlClocksEventReasons (nvml.h of CUDA 12.2 and newer; before, nvmlClocksThrottleReasons, with the same bits)."""
HARMLESS = ("idle", "application clocks", "sync boost", "display clocks")
Reading = dict[str, Any]


def reasons(bits: int) -> list[str]:
    """Names of NVML's bits, unknown ones as hexadecimal numbers.

    >>> reasons(0x24)
    ['software power cap', 'software thermal slowdown']
    """
    return [REASONS.get(1 << i, hex(1 << i)) for i in range(bits.bit_length()) if bits & 1 << i]


class PowerMeter:
    """NVML of one GPU; without the library, the driver or on a CPU ``problem`` says why and everything is absent.

    ``failed`` lists the queries that the driver refused, by name: a missing figure has a reason in the record.
    """

    def __init__(self, device: torch.device) -> None:
        self.problem, self._nvml, self._handle, self.mig = "", None, None, False
        self.failed: dict[str, str] = {}
        if device.type != "cuda":
            self.problem = "no NVML on a CPU"
            return
        try:
            nvml: Any = importlib.import_module("pynvml")
            nvml.nvmlInit()
            self._handle, self.mig = _handle(nvml, device)
            self._nvml = nvml
        except Exception as error:  # the library, the driver or the permission may be absent: measure without
            self.problem = f"{type(error).__name__}: {error}"

    def _ask(self, functions: tuple[str, ...] | str, *arguments: Any) -> Any:
        """The first of several names of one query that answers; None where none does."""
        if self._nvml is None:
            return None
        names = (functions,) if isinstance(functions, str) else functions
        for name in names:
            try:
                return getattr(self._nvml, name)(self._handle, *arguments)
            except Exception as error:
                self.failed.setdefault(name, type(error).__name__)
        return None

    def state(self) -> Reading:
        """Clocks (Hz), power (W), temperature (C), reasons for low clocks, utilization, ECC; absent ones left out."""
        limit, usage = self._ask("nvmlDeviceGetEnforcedPowerLimit"), self._ask("nvmlDeviceGetUtilizationRates")
        highest, ecc = self._ask("nvmlDeviceGetMaxClockInfo", 1), self._ask("nvmlDeviceGetEccMode")
        found = {
            **self.reading(),
            "power_limit_w": limit / 1e3 if limit is not None else None,
            "utilization_percent": usage.gpu if usage is not None else None,
            "highest_sm_clock_hz": highest * 1e6 if highest is not None else None,
            "ecc": bool(ecc[0]) if ecc is not None else None,
        }
        return {name: value for name, value in found.items() if value is not None}

    def reading(self) -> Reading:
        """What changes while something runs."""
        sm, memory = self._ask("nvmlDeviceGetClockInfo", 1), self._ask("nvmlDeviceGetClockInfo", 2)
        power = self._ask("nvmlDeviceGetPowerUsage")
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses")
        bits = self._ask(("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"))
        found = {
            "sm_clock_hz": sm * 1e6 if sm is not None else None,
            "memory_clock_hz": memory * 1e6 if memory is not None else None,
            "power_w": power / 1e3 if power is not None else None,
            "temperature_c": self._ask("nvmlDeviceGetTemperature", 0),
            "clock_reasons": reasons(int(bits)) if bits is not None else None,
            "processes": len(processes) if processes is not None else None,
        }
        return {name: value for name, value in found.items() if value is not None}

    def energy_j(self) -> float | None:
        """The board's energy counter (Volta and newer), joules since the driver was loaded."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return millijoules / 1e3 if millijoules is not None else None

    def driver(self) -> str:
        """The driver's version; empty when unknown."""
        if self._nvml is None:
            return ""
        try:
            version = self._nvml.nvmlSystemGetDriverVersion()
        except Exception:
            return ""
        return version.decode() if isinstance(version, bytes) else str(version)


class Watching:
    """``with Watching(meter) as seen: ...`` then ``seen.found``: clocks, heat and power while that ran, and its energy.

    A thread reads NVML ten times a second. ``found`` is empty without NVML and when no reading fell into the time.
    """

    EVERY_S = 0.1

    def __init__(self, meter: PowerMeter) -> None:
        self.meter, self.found = meter, Reading()
        self._readings: list[Reading] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        while not self._stop.wait(self.EVERY_S):
            self._readings.append(self.meter.reading())

    def __enter__(self) -> Watching:
        if not self.meter.problem:
            self._before = self.meter.energy_j()
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if not self._thread.is_alive():
            return
        self._thread.join()
        self.found = summarized(self._readings or [self.meter.reading()])  # a short one: right behind its last kernel
        after = self.meter.energy_j()
        if after is not None and self._before is not None:
            self.found["energy_j"] = after - self._before


def summarized(readings: list[Reading]) -> Reading:
    """Median and lowest clocks, mean power, highest temperature, all reasons seen for clocks below the highest."""

    def column(name: str) -> list[float]:
        return [float(r[name]) for r in readings if name in r]

    found: Reading = {"readings": len(readings)}
    for name in ("sm_clock_hz", "memory_clock_hz"):
        if column(name):
            found |= {name: float(np.median(column(name))), f"lowest_{name}": min(column(name))}
    if column("power_w"):
        found["power_w"] = float(np.mean(column("power_w")))
    if column("processes"):
        found["processes"] = int(max(column("processes")))
    if column("temperature_c"):
        found["temperature_c"] = max(column("temperature_c"))
    seen = {reason for r in readings for reason in r.get("clock_reasons", ())}
    found["clock_reasons"] = sorted(seen - set(HARMLESS))
    return found if readings else Reading()


def _handle(nvml: Any, device: torch.device) -> tuple[Any, bool]:
    """NVML counts all GPUs, torch the visible ones: the UUID is the same in both. Of a MIG slice, the whole card's handle."""
    index = device.index if device.index is not None else torch.cuda.current_device()
    uuid = str(getattr(torch.cuda.get_device_properties(index), "uuid", "")).removeprefix("GPU-")
    if not uuid:
        return nvml.nvmlDeviceGetHandleByIndex(index), False
    if not uuid.startswith("MIG-"):
        try:
            return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"), False
        except Exception:
            uuid = f"MIG-{uuid}"
    slice_ = nvml.nvmlDeviceGetHandleByUUID(uuid)
    return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(slice_), True
