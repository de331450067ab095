"""Reads what the machine says of the energy it used: RAPL of its processors, NVML of a GPU.

Both count for the whole device, whatever else runs on it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")

Counter = Callable[[], float]
"""Joules that a device used since some moment."""


class EnergyMeter:
    """An energy meter adds up what a machine uses while a run goes on."""

    def __init__(self, device: str, powercap: Path = POWERCAP) -> None:
        """Starts at 0. `device`: cpu or cuda, of which the GPU's energy counts as well."""
        self._counters = _packages(powercap) + (_gpu() if device == "cuda" else [])
        self._last = [counter() for counter, _ in self._counters]
        self._used = 0.0

    def joules(self) -> float | None:
        """Returns joules since the start; None where nothing here tells them. Asked now and then it
        misses no turn of a counter, which takes a processor a quarter of an hour or more."""
        for place, (counter, turn) in enumerate(self._counters):
            now, before = counter(), self._last[place]
            self._used += now - before if now >= before else now - before + turn
            self._last[place] = now
        return self._used if self._counters else None


def _packages(powercap: Path) -> list[tuple[Counter, float]]:
    """Returns the counter of each processor package that may be read, and the joules after which it
    starts anew."""
    counters: list[tuple[Counter, float]] = []
    for zone in sorted(powercap.glob("*-rapl:*")):
        with contextlib.suppress(OSError, ValueError):
            package = (zone / "name").read_text().startswith("package")
            turn = float((zone / "max_energy_range_uj").read_text()) / 1e6
            float((zone / "energy_uj").read_text())  # often root's alone
            if package:
                counters.append((lambda zone=zone: _microjoules(zone) / 1e6, turn))  # type: ignore[misc]
    return counters


def _microjoules(zone: Path) -> float:
    return float((zone / "energy_uj").read_text())


def _gpu() -> list[tuple[Counter, float]]:
    """Returns the counter of the GPU in use; none where NVML or its Python package is not there."""
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        name = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(name)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)  # millijoules; not on every GPU
    except Exception:  # NVML's own errors are no subclass of anything that is always there
        return []
    return [(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, 0.0)]
