"""Mixed work by many clients over the local stack, in bad weather, for as long as one likes: ``make soak``.

    python -m soak.run [--minutes 20] [--clients 4] [--seed 1] [--time-scale 300] [--out DIR]

Prints a line every half minute and a JSON summary at the end; DIR gets ``soak.json`` and ``memory.svg``. Exit status 1
where anything that must be true was not: a file lost, doubled, changed or left over, a count that was wrong, a
process whose memory grew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from heavylift_local.testing import RunningStack, running_stack
from soak.errands import Clerk, work
from soak.inspection import inspect, listen
from soak.ledger import Ledger
from soak.memory import MIB, Growth, Sampler, growth
from soak.plot import memory_plot
from soak.weather import Spell, forecast

SAMPLE_S: Final = 1.0
REPORT_S: Final = 30.0
# What may be told from noise: a process that grew by more than both over two thirds of the time has a slope.
GROWN_BYTES_MAX: Final = 12 * MIB
GROWN_SHARE_MAX: Final = 0.15
SECONDS_MIN: Final = 180.0  # shorter series are caches that fill
# They hold the table, the queues and the announcements of the whole run in memory: they grow with what is kept.
KEEPS_STATE: Final = frozenset({"moto", "up"})
FUNCTIONS: Final = ("validate", "thumbnail", "dicom_ingest", "archive", "initiate", "sign", "complete", "sessions")


def grew(found: Growth) -> bool:
    """Whether a process that lives on has grown. Children of a sandbox live for one picture only. Pure."""
    if found.seconds < SECONDS_MIN or found.name.startswith("child of "):
        return False
    share = found.grown_bytes / found.median_bytes if found.median_bytes else 0.0
    return found.name not in KEEPS_STATE and found.grown_bytes > GROWN_BYTES_MAX and share > GROWN_SHARE_MAX


class Soak:
    """One run; ``violations`` fills as they are found."""

    def __init__(self, stack: RunningStack, folder: Path, clients: int, seed: int, time_scale: float) -> None:
        self.stack, self.ledger, self.violations = stack, Ledger(), list[str]()
        self.sampler = Sampler(stack.pids)
        self.weather: Counter[str] = Counter()
        self._time_scale, self._seed = time_scale, seed
        self._stop = threading.Event()
        self._heard = 0
        self._clerks = []
        tenants = [f"soak-{n}" for n in range(1, max(2, clients // 2) + 1)]
        for number in range(clients):
            tenant = tenants[number % len(tenants)]
            home = folder / str(number)
            home.mkdir()
            chance = random.Random(f"{seed}-{number}")
            self._clerks.append(Clerk(stack, tenant, stack.token(tenant), self.ledger, home, chance, self._stop))

    def run(self, seconds: float) -> None:
        """Work, then calm, then the inspection."""
        workers = [threading.Thread(target=self._work, args=(clerk,), daemon=True) for clerk in self._clerks]
        for worker in workers:
            worker.start()
        started = time.monotonic()
        spells = forecast(self._seed, FUNCTIONS)
        spell, changes_at, reported_at = Spell(0, "calm"), 0.0, 0.0
        while (at := time.monotonic() - started) < seconds and not self.violations:
            if at >= changes_at:
                spell = next(spells)
                changes_at = at + spell.seconds
                self._turn(spell)
            self.sampler.sample()
            self._heard = listen(self.stack, self.ledger, self._heard)
            if at >= reported_at:
                reported_at = at + REPORT_S
                self._say(at, spell)
            time.sleep(SAMPLE_S)
        self._stop.set()
        self.stack.faults({})
        for worker in workers:
            worker.join()
        desks = {clerk.tenant: clerk for clerk in self._clerks}
        self.violations += inspect(self.stack, desks, self.ledger, after=self._heard, time_scale=self._time_scale)

    def _work(self, clerk: Clerk) -> None:
        try:
            work(clerk)
        except AssertionError as violation:
            self.violations.append(str(violation))
        except BaseException:  # a thread that ends in silence would make a soak of less work look well
            self.violations.append(traceback.format_exc())
            raise

    def _turn(self, spell: Spell) -> None:
        self.weather[spell.kind] += 1
        self.stack.faults(spell.faults)
        if spell.strike is not None:
            for pid in self.sampler.sandboxes(spell.strike)[:1]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def _say(self, at: float, spell: Spell) -> None:
        done = sum(self.ledger.errands.values())
        sent = self.ledger.bytes_sent / 1e6
        print(
            f"{at / 60:5.1f} min  {done} errands, {sent:.0f} MB sent, weather: {spell.kind}",
            file=sys.stderr,
            flush=True,
        )

    def summary(self) -> dict[str, Any]:
        grown = [growth(name, series) for name, series in sorted(self.sampler.series.items())]
        slopes = [f"{one.name} grew by {one.grown_bytes / MIB:.0f} MB" for one in grown if grew(one)]
        return {
            "violations": [*self.violations, *slopes],
            "errands": dict(sorted(self.ledger.errands.items())),
            "files": len(self.ledger.sent),
            "bytes_sent": self.ledger.bytes_sent,
            "deleted": len(self.ledger.deleted),
            "batches": len(self.ledger.batches),
            "studies": len(self.ledger.studies),
            "archives": self.ledger.archives,
            "weather": dict(sorted(self.weather.items())),
            "memory": [
                {key: round(value) if isinstance(value, float) else value for key, value in asdict(one).items()}
                for one in grown
            ],
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--time-scale", type=float, default=300.0, help="how much faster the stack's clocks run")
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="heavylift-soak-") as scratch,
        running_stack(env={"HEAVYLIFT_TIME_SCALE": str(arguments.time_scale)}) as stack,
    ):
        soak = Soak(stack, Path(scratch), arguments.clients, arguments.seed, arguments.time_scale)
        soak.run(arguments.minutes * 60)
        summary = {"minutes": arguments.minutes, "seed": arguments.seed, **soak.summary()}
        (arguments.out / "memory.svg").write_text(
            memory_plot(soak.sampler.series, f"Memory over {arguments.minutes:g} minutes of mixed work and kills")
        )
    (arguments.out / "soak.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary))
    return 1 if summary["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
