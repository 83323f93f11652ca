"""Who belongs to a function's child, and how much memory they hold together; Linux ``/proc`` only.

A child is the leader of its own session. Its family is everything below it in the process tree plus
everything in its session, so that a decoder it started (in a session of its own, or orphaned) counts too.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SNAPSHOT_SECONDS = (
    0.008  # shorter than the watchdog's period: each check sees fresh figures, concurrent checks share them
)


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    session: int
    state: str


def read_process(pid: int) -> Process | None:
    """The process from ``/proc/<pid>/stat``, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            line = stat.read()
    except OSError:
        return None
    # "pid (name) S ppid pgrp session ..."; the name may hold spaces and parentheses.
    fields = line[line.rfind(b")") + 2 :].split(b" ", 4)
    return Process(pid, int(fields[1]), int(fields[3]), fields[0].decode())


def snapshot() -> dict[int, Process]:
    """Every process of this machine that can be seen."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := read_process(int(name))) is not None:
            found[process.pid] = process
    return found


def family(root: int, table: dict[int, Process]) -> list[int]:
    """``root``, its descendants and all in the sessions they lead; zombies left out."""
    below: dict[int, list[int]] = {}
    for process in table.values():
        below.setdefault(process.parent, []).append(process.pid)
    members = {root}
    queue = [root, *(p.pid for p in table.values() if p.session == root)]
    while queue:
        pid = queue.pop()
        members.add(pid)
        queue.extend(child for child in below.get(pid, ()) if child not in members)
    return [pid for pid in members if pid in table and table[pid].state not in "ZX"]


def private_bytes(pid: int) -> int:
    """Resident memory that no file backs (rss - shared); 0 when the process is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:
            _, resident, shared, *_ = statm.read().split()
    except OSError:
        return 0
    return (int(resident) - int(shared)) * PAGE_BYTES


def peak_bytes(pid: int) -> int:
    """VmHWM: the most memory the process ever held; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def environment(pid: int) -> bytes:
    """The environment that the process was started with, NUL-separated; empty when it is gone or not ours."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            return environ.read()
    except OSError:
        return b""


class Census:
    """A snapshot that all watchers of one moment share, so that ten busy children cost no more than one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken_at = 0.0
        self._table: dict[int, Process] = {}

    def table(self) -> dict[int, Process]:
        with self._lock:
            now = time.monotonic()
            if now - self._taken_at > SNAPSHOT_SECONDS:
                self._table, self._taken_at = snapshot(), now
            return self._table

    def private_bytes(self, root: int) -> int:
        """What the family of ``root`` holds together."""
        return sum(private_bytes(pid) for pid in family(root, self.table()))


def kill_family(root: int, marker: bytes, seconds_max: float = 5.0) -> None:
    """SIGKILL to the whole family, again until nobody is left: one may fork while another dies.

    ``marker`` is an entry of the root's environment that no other family has: it finds those whose parents
    are dead already. The caller still has to reap ``root`` if it is its own child.
    """
    until = time.monotonic() + seconds_max
    known: set[int] = {root}
    while time.monotonic() < until:
        table = snapshot()
        known |= {pid for pid in table if marker in environment(pid).split(b"\0")}
        members = {pid for member in known for pid in family(member, table)}
        if not members:
            return
        known |= members
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.002)
