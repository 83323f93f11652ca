"""The lock as data: what is pinned, what a layer's packages need, and the lines of it that pip is given. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


class LockError(RuntimeError):
    """The lock does not hold what a layer wants: refresh it (``make lock``)."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A package as the lock has it. ``hashes``: SHA-256, hex, of each file that may be installed."""

    name: str
    version: str
    hashes: frozenset[str]

    def line(self) -> str:
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{one}" for one in sorted(self.hashes))])


_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)(?:\s*;\s*[^\\]*?)?\s*(?P<hashes>(?:\\?\s*--hash=\S+\s*)+)"
)


def read_lock(text: str) -> dict[str, Pin]:
    """The pins of a lock by name. LockError for a line that is none, or has no hash, or names a package twice."""
    pins: dict[str, Pin] = {}
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for entry in re.split(r"\n(?=\S)", lines.strip()):
        found = _PIN.fullmatch(entry.strip().replace("\\\n", " "))
        if found is None:
            raise LockError(f"not a pin with hashes: {entry.splitlines()[0]!r}")
        hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})(?![0-9a-f])", found["hashes"])
        if len(hashes) != found["hashes"].count("--hash="):
            raise LockError(f"{found['name']} has a hash that is no SHA-256")
        name = canonicalize_name(found["name"])
        if name in pins:
            raise LockError(f"{name} is locked twice")
        pins[name] = Pin(name, found["version"], frozenset(hashes))
    return pins


def needed(lines: Iterable[str], environment: Mapping[str, str], extras: Iterable[str] = ()) -> dict[str, set[str]]:
    """Which packages, with which extras of theirs, these requirements mean in ``environment``."""
    wanted: dict[str, set[str]] = {}
    for line in lines:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in (*extras, "")):
            wanted.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    return wanted


def closure(
    roots: Iterable[str],
    pins: Mapping[str, Pin],
    environment: Mapping[str, str],
    requires: Callable[[list[Pin]], Mapping[str, Iterable[str]]],
) -> dict[str, Pin]:
    """The pins of ``roots`` and of all that they need, by name, sorted. ``requires`` answers for a round of pins at
    once, with what their metadata asks for. LockError for a package that is not locked.
    """
    todo, known = needed(roots, environment), dict[str, set[str]]()
    while todo:
        absent = sorted(todo.keys() - pins.keys())
        if absent:
            raise LockError(f"not in the lock: {', '.join(absent)}")
        found = requires([pins[name] for name in sorted(todo)])
        following: dict[str, set[str]] = {}
        for name, extras in todo.items():
            known.setdefault(name, set()).update(extras)
            for other, its_extras in needed(found[name], environment, known[name]).items():
                following.setdefault(other, set()).update(its_extras)
        todo = {name: extras for name, extras in following.items() if name not in known or extras - known[name]}
    return {name: pins[name] for name in sorted(known)}
