"""The last one out: ends whatever a stack started, also when the stack itself was killed.

Run as ``python -I -S guard.py MARKER [--remove DIR] [--unlink FILE]``. It waits for the end of its standard
input, which the kernel closes when the stack's process ends, however it ends. Then it asks every process
whose environment holds MARKER to stop (the tables save nothing they have not written already, but may be in
the middle of a line), kills what is left with everything below it, and removes DIR and FILE.
"""

import argparse
import os
import shutil
import signal
import sys
import time

GRACE_S = 2.0
KILL_S = 10.0


def marked(marker: bytes) -> list[int]:
    """Processes started with the marker in their environment, and all their descendants; never this one."""
    parents: dict[int, int] = {}
    members: set[int] = set()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        pid = int(name)
        try:
            with open(f"/proc/{pid}/stat", "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
            if fields[0] in (b"Z", b"X"):
                continue
            parents[pid] = int(fields[1])
            with open(f"/proc/{pid}/environ", "rb") as environ:
                # A folder below the marked one is a function's own.
                if any(entry == marker or entry.startswith(marker + b"/") for entry in environ.read().split(b"\0")):
                    members.add(pid)
        except OSError:
            continue
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in members and pid not in members}
        members |= more
        grown = bool(more)
    members.discard(os.getpid())
    return sorted(members)


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def sweep(marker: bytes, grace_s: float = GRACE_S) -> None:
    """Returns when no marked process is left (or KILL_S have passed)."""
    left = marked(marker)
    if grace_s and left:
        signal_all(left, signal.SIGTERM)
        signal_all(left, signal.SIGCONT)  # an idle function is stopped and would not hear it
        until = time.monotonic() + grace_s
        while left and time.monotonic() < until:
            time.sleep(0.02)
            left = marked(marker)
    until = time.monotonic() + KILL_S
    while left and time.monotonic() < until:
        signal_all(left, signal.SIGKILL)
        time.sleep(0.02)
        left = marked(marker)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("marker")
    parser.add_argument("--remove", action="append", default=[])
    parser.add_argument("--unlink", action="append", default=[])
    arguments = parser.parse_args()
    # A terminal's ^C and a supervisor's SIGTERM are for the stack; this process follows it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    sweep(arguments.marker.encode())
    for path in arguments.unlink:
        try:
            os.unlink(path)
        except OSError:
            pass
    for path in arguments.remove:
        shutil.rmtree(path, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
