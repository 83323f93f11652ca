"""Layers of third-party packages for Lambda, from the one lock, without Docker: ``python -m layers.build``.

A layer is an extra of pyproject.toml: what it names, and what that needs, at the versions and hashes of the lock, as
wheels for the runtime that infra/topology.py names. They are unpacked here, none of their code runs. The same lock
makes the same files, with the same times and modes, on any machine; a layer is called by the SHA-256 over them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from infra import topology
from layers import elf
from layers.locked import LockError, Pin, closure, read_lock
from layers.made import LIST, MACHINES
from layers.pruning import keeps
from layers.wheels import Store, Target, files_of, tags_of

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "run.lock"
BUILT = ROOT / "build" / "layers"
WHEELS = ROOT / "build" / "wheels"
BASE = "base"  # every function that has layers has this one: others leave out what it has
MTIME_S = 315_532_800  # 1980-01-01, the first that a ZIP can say
# Lambda unpacks a function and its layers into 250 MiB and attaches five layers ("Lambda quotas", read 2026-11).
FUNCTION_BYTES_MAX = 240_000_000
LAYERS_MAX = 5
# What Amazon Linux 2023's runtime image has below Python: glibc, the compiler's libraries, zlib.
SYSTEM_LIBRARIES = frozenset(
    {
        "libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1", "libstdc++.so.6",
        "libutil.so.1", "libz.so.1", "ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2",
    }
)  # fmt: skip

Files = Mapping[str, bytes]
"""A layer's files by their path below ``python/``."""


class TooLarge(RuntimeError):
    """A function and its layers are more than Lambda takes."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that was made. ``sha256``: over its files' paths and contents."""

    name: str
    packages: Mapping[str, str]
    files: int
    size_bytes: int
    sha256: str


def target_of(architecture: str, runtime: str = topology.RUNTIME) -> Target:
    """The target of Lambda's name for an architecture. KeyError for one that Lambda has not."""
    major, minor = runtime.removeprefix("python").split(".")
    return Target((int(major), int(minor)), MACHINES[architecture])


def own_target() -> Target:
    """This Python on this machine."""
    return Target(sys.version_info[:2], os.uname().machine)


def names() -> list[str]:
    """The layers that functions have, but for the shared one, which is our own package."""
    return sorted({name for function in topology.FUNCTIONS for name in function.layers})


def extras(pyproject: Path = ROOT / "pyproject.toml") -> dict[str, list[str]]:
    """The requirements of each extra."""
    found: dict[str, list[str]] = tomllib.loads(pyproject.read_text())["project"]["optional-dependencies"]
    return found


def packages_of(
    wanted: Iterable[str], requirements: Mapping[str, Sequence[str]], closed: Callable[[Sequence[str]], dict[str, Pin]]
) -> dict[str, dict[str, Pin]]:
    """The pins of each layer: what its extra needs, without what the base has."""
    base = closed(requirements[BASE])
    return {
        name: base if name == BASE else {n: pin for n, pin in closed(requirements[name]).items() if n not in base}
        for name in wanted
    }


# --- one layer ---


def files_in(pins: Iterable[Pin], wheels: Mapping[Pin, Path], target: Target) -> dict[str, bytes]:
    """A layer's files, sorted by path. LockError where two packages have the same path with other contents, or a file
    is for another machine. Memory: all of them, 150 MB for the largest layer.
    """
    found: dict[str, bytes] = {}
    for pin in sorted(pins, key=lambda pin: pin.name):
        for path, content in files_of(wheels[pin]):
            if not keeps(pin.name, path):
                continue
            if found.setdefault(str(path), content) != content:
                raise LockError(f"{pin.name} overwrites {path}")
    check(found, target)
    return dict(sorted(found.items()))


def check(files: Files, target: Target) -> None:
    """LockError for a library of another machine, a wheel of other tags, or one linked with what is not there."""
    libraries = {path: seen for path, content in files.items() if (seen := elf.read(content)) is not None}
    there = SYSTEM_LIBRARIES | {PurePosixPath(path).name for path in libraries}
    for path, seen in libraries.items():
        if seen.machine != target.machine:
            raise LockError(f"{path} is for {seen.machine}, not {target.machine}")
        absent = [name for name in seen.needed if name not in there]
        if absent:
            raise LockError(f"{path} wants {', '.join(absent)}")
    for path, content in files.items():
        if path.endswith(".dist-info/WHEEL") and not any(tag in target.ranks for tag in tags_of(content.decode())):
            raise LockError(f"{path} is of a wheel for another Python")


def digest(files: Files) -> str:
    """SHA-256 over the sorted paths and the SHA-256 of each file."""
    whole = sha256()
    for path in sorted(files):
        whole.update(path.encode() + b"\0" + sha256(files[path]).digest())
    return whole.hexdigest()


def write(files: Files, folder: Path) -> None:
    """These files below ``folder``/python, which is new."""
    for path, content in files.items():
        file = folder / "python" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def normalise(folder: Path) -> None:
    """One mode and one time for all that is in a folder, and for itself."""
    # A folder comes after what is in it, which would change its time.
    for path in sorted((folder, *folder.rglob("*")), reverse=True):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (MTIME_S, MTIME_S))


# --- all of them ---


def build(
    target: Target, out: Path, *, wanted: Sequence[str] | None = None, lock: Path = LOCK, wheels: Path = WHEELS
) -> list[Layer]:
    """``out`` with a folder for each layer, and LIST of what they are; it is replaced as a whole, when all are made.

    LockError: what was there stays. Memory: that of ``files_in``.
    """
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    pins = read_lock(lock.read_text())
    store = Store(wheels / target.name, target)
    requirements = extras()

    def closed(roots: Sequence[str]) -> dict[str, Pin]:
        return closure(roots, pins, target.environment, store.requires)

    made = []
    for name, packages in packages_of(wanted or names(), requirements, closed).items():
        found = files_in(packages.values(), store.wheels(list(packages.values())), target)
        write(found, fresh / name)
        versions = {pin.name: pin.version for pin in packages.values()}
        made.append(Layer(name, versions, len(found), sum(map(len, found.values())), digest(found)))
    said = {"python": list(target.python), "machine": target.machine, "layers": [asdict(layer) for layer in made]}
    (fresh / LIST).write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")
    normalise(fresh)
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    return made


def size_of(folder: Path) -> int:
    """Bytes of a folder of ours, as it is deployed: without what Python leaves behind."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def function_sizes(sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes of each function with all its layers. TooLarge for more than a function may have."""
    shared = size_of(ROOT / "layers" / topology.SHARED_LAYER)
    found = {}
    for function in topology.FUNCTIONS:
        layers = len(function.layers) + 1
        size = size_of(ROOT / "functions" / function.name) + shared + sum(sizes[name] for name in function.layers)
        found[function.name] = size
        if size > FUNCTION_BYTES_MAX or layers > LAYERS_MAX:
            raise TooLarge(
                f"{function.name} has {layers} layers and {size / 1e6:.1f} MB; {LAYERS_MAX} and 240 are most"
            )
    return found


def report(layers: Sequence[Layer], functions: Mapping[str, int]) -> str:
    lines = [f"{'layer':<14}{'packages':>9}{'files':>7}{'MB':>8}  SHA-256"]
    lines += [
        f"{one.name:<14}{len(one.packages):>9}{one.files:>7}{one.size_bytes / 1e6:>8.1f}  {one.sha256}"
        for one in layers
    ]
    lines += ["", f"{'function':<14}{'MB':>8} of 240"]
    lines += [f"{name:<14}{size / 1e6:>8.1f}" for name, size in functions.items()]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="layers.build", description="Build the layers of third-party packages.")
    parser.add_argument("--architecture", choices=sorted(MACHINES), default=topology.ARCHITECTURE)
    architecture = parser.parse_args(arguments).architecture
    try:
        layers = build(target_of(architecture), BUILT)
        print(report(layers, function_sizes({layer.name: layer.size_bytes for layer in layers})))
    except (LockError, TooLarge) as error:
        print(f"layers: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
