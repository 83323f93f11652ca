"""Wheels for another machine: which fit, where their files go, and that only known bytes are used."""

from __future__ import annotations

import subprocess
import zipfile
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from layers import wheels
from layers.locked import LockError, Pin
from layers.wheels import Store, Target, files_of, installed, rank_of, requirements_of

ARM, INTEL = Target((3, 13), "aarch64"), Target((3, 13), "x86_64")
METADATA = (
    "Metadata-Version: 2.1\nName: pad\nVersion: 1.0\nRequires-Dist: core\nRequires-Dist: tool; extra == 'dev'\n\nText"
)


def a_wheel(folder: Path, name: str = "pad-1.0-py3-none-any.whl", **files: str) -> Path:
    """A wheel with these files; its ``dist-info`` is there by itself."""
    distribution = "-".join(name.split("-")[:2])
    tag = "-".join(name.removesuffix(".whl").split("-")[-3:])
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as made:
        made.writestr(f"{distribution}.dist-info/METADATA", METADATA)
        made.writestr(f"{distribution}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        made.writestr(f"{distribution}.dist-info/RECORD", "")
        for path, text in files.items():
            made.writestr(path, text)
    return folder / name


def pin_of(wheel: Path, *more: str) -> Pin:
    return Pin("pad", "1.0", frozenset({sha256(wheel.read_bytes()).hexdigest(), *more}))


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("pad-1.0-py3-none-any.whl", True),
        ("pad-1.0-py2.py3-none-any.whl", True),
        ("pad-1.0-cp313-cp313-manylinux_2_28_aarch64.whl", True),
        ("pad-1.0-cp313-cp313-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", True),
        ("pad-1.0-cp39-abi3-manylinux_2_34_aarch64.whl", True),
        ("pad-1.0-cp313-cp313-manylinux_2_35_aarch64.whl", False),
        ("pad-1.0-cp313-cp313-manylinux_2_28_x86_64.whl", False),
        ("pad-1.0-cp313-cp313t-manylinux_2_28_aarch64.whl", False),
        ("pad-1.0-cp312-cp312-manylinux_2_28_aarch64.whl", False),
        ("pad-1.0-cp314-abi3-manylinux_2_28_aarch64.whl", False),
        ("pad-1.0-cp313-cp313-musllinux_1_2_aarch64.whl", False),
        ("pad-1.0-cp313-cp313-macosx_11_0_arm64.whl", False),
        ("pad-1.0.tar.gz", False),
        ("notes.whl", False),
    ],
)
def test_which_wheels_fit(name: str, fits: bool) -> None:
    """CPython 3.13 on Amazon Linux 2023's glibc, of one machine."""
    assert (rank_of(name, ARM) is not None) == fits


def test_the_closest_wheel_is_the_best() -> None:
    """This Python's before the stable ABI before pure Python; of two the newer glibc's."""
    order = [
        "pad-1.0-cp313-cp313-manylinux_2_34_aarch64.whl",
        "pad-1.0-cp313-cp313-manylinux_2_28_aarch64.whl",
        "pad-1.0-cp312-abi3-manylinux_2_28_aarch64.whl",
        "pad-1.0-cp39-abi3-manylinux_2_34_aarch64.whl",
        "pad-1.0-py3-none-any.whl",
    ]
    ranks = [rank_of(name, ARM) for name in order]

    assert None not in ranks
    assert ranks == sorted(ranks, key=lambda rank: rank or 0)


def test_old_names_of_platforms_are_known() -> None:
    """A wheel of 2014 has one of these names only, and pip takes names literally."""
    assert {"manylinux_2_34_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(ARM.platforms)
    assert {"manylinux2010_x86_64", "manylinux1_x86_64"} <= set(INTEL.platforms)


@pytest.mark.parametrize(
    ("member", "path"),
    [
        ("pad/__init__.py", "pad/__init__.py"),
        ("pad-1.0.data/purelib/pad/data.txt", "pad/data.txt"),
        ("pad-1.0.data/platlib/pad.so", "pad.so"),
        ("pad-1.0.data/scripts/pad", None),
        ("pad-1.0.data/headers/pad.h", None),
        ("pad-1.0.data/purelib", None),
    ],
)
def test_where_an_installer_puts_it(member: str, path: str | None) -> None:
    """By PEP 427; scripts and headers are nothing for a layer."""
    assert installed(member) == (PurePosixPath(path) if path else None)


@pytest.mark.parametrize("member", ["/etc/passwd", "../x.py", "pad/../../x.py", "pad\\x.py"])
def test_no_member_leaves_the_folder(member: str) -> None:
    """A wheel that tries is refused."""
    with pytest.raises(ValueError):
        installed(member)


def test_what_is_in_a_wheel(tmp_path: Path) -> None:
    """Its requirements, and its files with their contents."""
    wheel = a_wheel(tmp_path, **{"pad/a.py": "a", "pad-1.0.data/scripts/pad": "#!"})

    assert requirements_of(wheel) == ["core", "tool; extra == 'dev'"]
    assert dict(files_of(wheel))[PurePosixPath("pad/a.py")] == b"a"
    assert "pad" not in {str(path) for path, _ in files_of(wheel)}


# --- the store ---


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """pip's command lines; it brings nothing."""
    commands: list[list[str]] = []

    def run(command: list[str], **given: Any) -> subprocess.CompletedProcess[str]:
        lines = Path(command[-1]).read_text()
        commands.append([*command[:-1], lines])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", run)
    return commands


def test_a_wheel_that_is_there_is_not_fetched(tmp_path: Path, asked: list[list[str]]) -> None:
    """If the lock knows its hash."""
    wheel = a_wheel(tmp_path / "w")
    pin = pin_of(wheel, "c" * 64)

    assert Store(tmp_path / "w", ARM).wheels([pin]) == {pin: wheel}
    assert asked == []


def test_a_wheel_of_other_bytes_is_not_used(tmp_path: Path, asked: list[list[str]]) -> None:
    """It goes, and pip is asked with the lock's hashes, for wheels of this target only; nothing is built."""
    wheel = a_wheel(tmp_path / "w")
    pin = Pin("pad", "1.0", frozenset({"c" * 64}))

    with pytest.raises(LockError, match="cp313-aarch64 of: pad"):
        Store(tmp_path / "w", ARM).wheels([pin])
    (command,) = asked
    assert not wheel.exists()
    assert {"--require-hashes", "--no-deps", "--only-binary", ":all:", "manylinux_2_28_aarch64"} <= set(command)
    assert command[-1] == f"pad==1.0 --hash=sha256:{'c' * 64}\n"


def test_another_version_is_another_wheel(tmp_path: Path, asked: list[list[str]]) -> None:
    """The same hash under another version's name is not what was pinned."""
    wheel = a_wheel(tmp_path / "w", "pad-1.1-py3-none-any.whl")
    with pytest.raises(LockError):
        Store(tmp_path / "w", ARM).wheels([pin_of(wheel)])
    assert len(asked) == 1


def test_pips_trouble_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last words are in the error."""
    failed = subprocess.CompletedProcess([], 1, "ERROR: hashes do not match\n", "")
    monkeypatch.setattr(wheels.subprocess, "run", lambda *given, **more: failed)
    with pytest.raises(LockError, match="hashes do not match"):
        Store(tmp_path / "w", ARM).wheels([Pin("pad", "1.0", frozenset({"c" * 64}))])
