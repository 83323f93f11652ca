"""Wheels for a machine that is not this one: which fit, where pip puts them, what is in them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from layers.locked import LockError, Pin

# Amazon Linux 2023, under Lambda's Python 3.12 and later, has glibc 2.34 (its release notes); 2.17 is manylinux2014.
GLIBC_MINORS = range(34, 16, -1)
LEGACY = {"aarch64": ("manylinux2014",), "x86_64": ("manylinux2014", "manylinux2010", "manylinux1")}


@dataclass(frozen=True)
class Target:
    """What layers are built for. ``python``: (3, 13); ``machine``: as wheels call it."""

    python: tuple[int, int]
    machine: str

    @property
    def name(self) -> str:
        return f"cp{self.python[0]}{self.python[1]}-{self.machine}"

    @property
    def platforms(self) -> list[str]:
        """Every name of a platform that fits: pip takes names literally, so one that is not listed is never found."""
        modern = [f"manylinux_2_{minor}_{self.machine}" for minor in GLIBC_MINORS]
        return modern + [f"{name}_{self.machine}" for name in LEGACY[self.machine]]

    @cached_property
    def ranks(self) -> dict[Tag, int]:
        """The tags of wheels that fit, the best one 0."""
        abi = f"cp{self.python[0]}{self.python[1]}"
        native = cpython_tags(self.python, abis=[abi], platforms=self.platforms)
        pure = compatible_tags(self.python, interpreter=abi, platforms=self.platforms)
        return {tag: rank for rank, tag in reversed(list(enumerate([*native, *pure])))}

    @property
    def environment(self) -> dict[str, str]:
        """What environment markers see."""
        version = ".".join(map(str, self.python))
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{version}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{version}.0",
            "python_version": version,
            "sys_platform": "linux",
        }

    def pip_options(self) -> list[str]:
        abi = f"cp{self.python[0]}{self.python[1]}"
        options = ["--implementation", "cp", "--python-version", ".".join(map(str, self.python))]
        for name in (abi, "abi3", "none"):
            options += ["--abi", name]
        for platform in self.platforms:
            options += ["--platform", platform]
        return options


def rank_of(name: str, target: Target) -> int | None:
    """How well a wheel of this file name fits, 0 best; None when it does not, or is no wheel."""
    try:
        _, _, _, tags = parse_wheel_filename(name)
    except InvalidWheelFilename:
        return None
    return min((target.ranks[tag] for tag in tags if tag in target.ranks), default=None)


class Store:
    """A folder of wheels for one target. What lies there is used if the lock knows its hash; pip fetches the rest."""

    def __init__(self, folder: Path, target: Target) -> None:
        self.folder, self.target = folder, target
        self._known: dict[Pin, Path] = {}

    def wheels(self, pins: Sequence[Pin]) -> dict[Pin, Path]:
        """A wheel for each pin, hash-checked. LockError where pip finds none that fits, or cannot reach its index."""
        missing = [pin for pin in pins if self._find(pin) is None]
        if missing:
            self._download(missing)
        found = {pin: self._find(pin) for pin in pins}
        lacking = sorted(pin.name for pin, wheel in found.items() if wheel is None)
        if lacking:
            raise LockError(f"no wheel for {self.target.name} of: {', '.join(lacking)}")
        return {pin: wheel for pin, wheel in found.items() if wheel is not None}

    def _find(self, pin: Pin) -> Path | None:
        if pin in self._known:
            return self._known[pin]
        ranked = []
        for path in self.folder.glob("*.whl"):
            rank = rank_of(path.name, self.target)
            if rank is None or _named(path.name) != (pin.name, pin.version):
                continue
            if sha256(path.read_bytes()).hexdigest() in pin.hashes:
                ranked.append((rank, path))
            else:
                path.unlink()  # half a download, or somebody's
        if not ranked:
            return None
        self._known[pin] = min(ranked)[1]
        return self._known[pin]

    def _download(self, pins: Sequence[Pin]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = self.folder / "wanted.txt"
        wanted.write_text("".join(f"{pin.line()}\n" for pin in pins))
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", "--only-binary", ":all:", *self.target.pip_options()]
        command += ["--dest", str(self.folder), "--requirement", str(wanted)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        wanted.unlink()
        if done.returncode:
            raise LockError(f"pip could not bring wheels for {self.target.name}:\n{done.stdout.strip()[-2000:]}")

    def requires(self, pins: Sequence[Pin]) -> dict[str, list[str]]:
        """What each pin's metadata asks for, by its name."""
        return {pin.name: requirements_of(wheel) for pin, wheel in self.wheels(pins).items()}


def _named(file_name: str) -> tuple[str, str]:
    name, version, _, _ = parse_wheel_filename(file_name)
    return canonicalize_name(name), str(version)


def requirements_of(wheel: Path) -> list[str]:
    """The Requires-Dist lines of a wheel's metadata."""
    with zipfile.ZipFile(wheel) as opened:
        (path,) = [name for name in opened.namelist() if name.count("/") == 1 and name.endswith(".dist-info/METADATA")]
        return HeaderParser().parsestr(opened.read(path).decode()).get_all("Requires-Dist") or []


def installed(member: str) -> PurePosixPath | None:
    """Where an installer would put a wheel's member, relative to site-packages; None for what goes elsewhere (scripts,
    headers). By the wheel format, PEP 427. ValueError for a name that leaves the folder.
    """
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts or "\\" in member:
        raise ValueError(f"a wheel with the member {member!r}")
    if path.parts and path.parts[0].endswith(".data"):
        if len(path.parts) < 3 or path.parts[1] not in ("purelib", "platlib"):
            return None
        return PurePosixPath(*path.parts[2:])
    return path


def files_of(wheel: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """(path relative to site-packages, content) of a wheel's files."""
    with zipfile.ZipFile(wheel) as opened:
        for info in opened.infolist():
            path = None if info.is_dir() else installed(info.filename)
            if path is not None:
                yield path, opened.read(info)


def tags_of(wheel_text: str) -> Iterable[Tag]:
    """The tags that a WHEEL file names."""
    from packaging.tags import parse_tag

    for line in HeaderParser().parsestr(wheel_text).get_all("Tag") or []:
        yield from parse_tag(line)
