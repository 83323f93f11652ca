"""Runs fuzz targets under atheris: each in a process of its own, with its seeds and what earlier runs have learnt.

    python fuzz/run.py [--seconds 60] [--at-once 2] [TARGET ...]

Exit status 1 when any target found something; the input is then in build/fuzz, and its path in the output.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
LEARNT = HERE.parent / "build" / "fuzz"
HANG_S = 10  # one input; far beyond anything that a small input may cost
MEMORY_MAX_MB = 512  # of the process, atheris and instrumented modules included (they alone take about 150)
INPUT_MAX_BYTES = 65_536  # a reader's first look


def names() -> list[str]:
    """Every target there is."""
    return sorted(path.stem for path in (HERE / "targets").glob("*.py"))


def fuzz(name: str, arguments: list[str]) -> None:
    """This process becomes the fuzzer of one target; libFuzzer ends it."""
    import atheris  # only here: the tests replay seeds without it

    sys.path.insert(0, str(HERE.parent))
    with atheris.instrument_imports(include=["heavylift", "heavylift_local", "heavylift_client"]):
        target = importlib.import_module(f"fuzz.targets.{name}")
    atheris.Setup([sys.argv[0], *arguments], target.one)
    atheris.Fuzz()


def run(name: str, seconds: int) -> bool:
    """One target for its time; True when nothing was found."""
    learnt = LEARNT / name
    learnt.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, str(Path(__file__).resolve()), "--fuzz", name, str(learnt)),
        str(HERE / "seeds" / name),
        f"-max_total_time={seconds}",
        f"-timeout={HANG_S}",
        f"-rss_limit_mb={MEMORY_MAX_MB}",
        f"-max_len={INPUT_MAX_BYTES}",
        f"-artifact_prefix={LEARNT / name}.",
        "-print_final_stats=1",
    ]
    with (LEARNT / f"{name}.log").open("wb") as log:
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    lines = (LEARNT / f"{name}.log").read_text(errors="replace").splitlines()
    said = dict(line.removeprefix("stat::").split(":", 1) for line in lines if line.startswith("stat::"))
    runs, peak, new = (
        said.get(key, "?").strip() for key in ("number_of_executed_units", "peak_rss_mb", "new_units_added")
    )
    print(f"{name:20} {'ok' if status == 0 else 'FOUND'}  {runs} runs, {new} new inputs, peak {peak} MB", flush=True)
    if status or not said:
        print("\n".join(f"    {line}" for line in lines[-40:]), flush=True)
    return status == 0 and bool(said)


def main() -> int:
    if sys.argv[1:2] == ["--fuzz"]:
        fuzz(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(names()):
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    with ThreadPoolExecutor(asked.at_once) as pool:
        clean = list(pool.map(lambda name: run(name, asked.seconds), asked.targets or names()))
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
