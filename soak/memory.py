"""The memory of every process of a stack over time, and whether it grows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

MIB: Final = 1 << 20
SAMPLES_MAX: Final = 200  # of one series, for the slope: all pairs of them are looked at


@dataclass(slots=True)
class Series:
    """Resident bytes of the largest process of one name, by seconds since the start; and the highest ``VmHWM``."""

    at_s: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    peak_bytes: int = 0


def slope_bytes_per_s(at_s: Sequence[float], sizes: Sequence[float]) -> float:
    """Theil and Sen's slope, the median over all pairs: a few high samples do not bend it. 0 for less than three."""
    step = max(1, len(at_s) // SAMPLES_MAX)
    points = list(zip(at_s, sizes, strict=True))[::step]
    slopes = [(b - a) / (t - s) for i, (s, a) in enumerate(points) for t, b in points[i + 1 :] if t > s]
    return statistics.median(slopes) if len(points) > 2 else 0.0


@dataclass(frozen=True, slots=True)
class Growth:
    """What a series did after its first third, in which caches fill and code is loaded."""

    name: str
    median_bytes: int
    peak_bytes: int
    slope_bytes_per_min: float
    grown_bytes: float  # over the time that was looked at
    seconds: float  # which is so long


def growth(name: str, series: Series) -> Growth:
    """Pure."""
    if not series.at_s:
        return Growth(name, 0, series.peak_bytes, 0.0, 0.0, 0.0)
    begin = series.at_s[0] + (series.at_s[-1] - series.at_s[0]) / 3
    late = [(at, size) for at, size in zip(series.at_s, series.bytes, strict=True) if at >= begin]
    slope = slope_bytes_per_s([at for at, _ in late], [size for _, size in late])
    median = int(statistics.median(size for _, size in late))
    seconds = late[-1][0] - late[0][0]
    return Growth(name, median, series.peak_bytes, slope * 60, slope * seconds, seconds)


def resident(pid: int) -> tuple[int, int] | None:
    """(VmRSS, VmHWM) in bytes; None where the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = {
        line.partition(":")[0]: int(line.split()[1]) * 1024
        for line in status.splitlines()
        if line.startswith(("VmRSS:", "VmHWM:"))
    }
    return (found["VmRSS"], found["VmHWM"]) if len(found) == 2 else None


class Sampler:
    """Samples the servers by their ids and the functions' sandboxes by their names, found below ``up``."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids, self._up = pids, psutil.Process(pids["up"])
        self._started = time.monotonic()
        self._names: dict[int, str] = {}
        self.series: dict[str, Series] = {}

    def sample(self) -> None:
        """One look at every process."""
        at = time.monotonic() - self._started
        largest: dict[str, int] = {}
        for name, pid in self._processes():
            found = resident(pid)
            if found is None:
                continue
            series = self.series.setdefault(name, Series())
            series.peak_bytes = max(series.peak_bytes, found[1])
            largest[name] = max(largest.get(name, 0), found[0])
        for name, size in largest.items():
            self.series[name].at_s.append(at)
            self.series[name].bytes.append(size)

    def sandboxes(self, function: str) -> list[int]:
        """The processes in which a function runs now."""
        return [pid for name, pid in self._processes() if name == f"function {function}"]

    def _processes(self) -> Iterable[tuple[str, int]]:
        yield from self._pids.items()
        for process in self._up.children(recursive=True):
            name = self._names.get(process.pid)
            if name is None:
                try:
                    function = process.environ().get("AWS_LAMBDA_FUNCTION_NAME")
                    parent = process.ppid()
                except (psutil.Error, OSError):
                    continue
                if not function or process.pid in self._pids.values():
                    continue
                # A child of a sandbox decodes for it: a name of its own.
                above = self._names.get(parent, "")
                name = f"function {function}" if not above.endswith(function) else f"child of {function}"
                self._names[process.pid] = name
            yield name, process.pid
