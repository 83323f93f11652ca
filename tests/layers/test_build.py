"""Layers from handmade wheels, and a real one: always the same files, nothing of another machine, nothing too large."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from infra import topology
from layers import build
from layers.build import LockError, Target, TooLarge, check, digest, files_in, function_sizes, normalise, write
from layers.locked import Pin
from layers.made import LIST
from tests.layers.test_elf import library
from tests.layers.test_wheels import a_wheel, pin_of

ARM = Target((3, 13), "aarch64")
PAD = "pad-1.0-py3-none-any.whl"


def pinned(name: str, wheel: Path) -> Pin:
    return Pin(name, "1.0", pin_of(wheel).hashes)


def test_the_files_of_a_layer(tmp_path: Path) -> None:
    """Those of its wheels without what nobody needs, whatever order the wheels come in."""
    pad = a_wheel(tmp_path, **{"pad/b.py": "b", "pad/a.py": "a", "pad/tests/test_a.py": "t", "pad/a.pyi": "x"})
    core = a_wheel(tmp_path, "core-1.0-py3-none-any.whl", **{"core.py": "c"})
    pins = {pinned("pad", pad): pad, pinned("core", core): core}
    found = files_in(pins, pins, ARM)

    assert [path for path in found if "dist-info" not in path] == ["core.py", "pad/a.py", "pad/b.py"]
    assert list(found) == sorted(found)
    assert files_in(reversed(list(pins)), pins, ARM) == found


def test_no_package_overwrites_another(tmp_path: Path) -> None:
    """Of two with one path the layer would have whichever came last; the same content twice is no harm."""
    one = a_wheel(tmp_path, **{"shared/__init__.py": ""})
    same = a_wheel(tmp_path, "core-1.0-py3-none-any.whl", **{"shared/__init__.py": ""})
    other = a_wheel(tmp_path, "more-1.0-py3-none-any.whl", **{"shared/__init__.py": "x"})
    pins = {pinned(path.name.split("-")[0], path): path for path in (one, same, other)}

    assert "shared/__init__.py" in files_in(list(pins)[:2], pins, ARM)
    with pytest.raises(LockError, match=r"shared/__init__\.py"):
        files_in(pins, pins, ARM)


def test_what_cannot_run_there_is_refused() -> None:
    """Another machine's library, a library that is not there, a wheel for another Python."""
    wheel = "pad-1.0.dist-info/WHEEL"
    good = {"pad.so": library(183, ("libc.so.6", "libx-1.so")), "pad.libs/libx-1.so": library(183, ())}
    check({**good, wheel: b"Tag: cp313-cp313-manylinux_2_28_aarch64\n"}, ARM)
    with pytest.raises(LockError, match=r"pad\.so is for x86_64"):
        check({"pad.so": library(62)}, ARM)
    with pytest.raises(LockError, match=r"wants libx-1\.so"):
        check({"pad.so": good["pad.so"]}, ARM)
    with pytest.raises(LockError, match="another Python"):
        check({wheel: b"Tag: cp312-cp312-manylinux_2_28_aarch64\n"}, ARM)


def test_a_layers_name_is_its_content() -> None:
    """One byte, one name or one file more makes another layer."""
    files = {"a.py": b"1", "b.py": b"2"}

    assert digest(files) == digest(dict(reversed(files.items())))
    assert (
        len({digest(one) for one in (files, {**files, "a.py": b"x"}, {"a.py": b"1"}, {"a.py": b"1", "c.py": b"2"})})
        == 4
    )


def test_modes_and_times_are_always_the_same(tmp_path: Path) -> None:
    """Whoever builds, and with whichever mask."""
    files = {"pad/a.py": b"a", "pad/deep/b.so": b"b"}
    before = os.umask(0o077)
    try:
        write(files, tmp_path / "base")
    finally:
        os.umask(before)
    normalise(tmp_path / "base")
    found = [path for path in (tmp_path / "base").rglob("*") if path.is_file()]

    assert {str(path.relative_to(tmp_path / "base" / "python")): path.read_bytes() for path in found} == files
    assert {path.stat().st_mode & 0o777 for path in found} == {0o644}
    folders = [path for path in (tmp_path / "base", *(tmp_path / "base").rglob("*")) if path.is_dir()]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o755}
    assert {path.stat().st_mtime for path in (*found, *folders)} == {build.MTIME_S}


def test_what_the_base_has_no_other_layer_has() -> None:
    """Every function with layers has the base, so that one copy will do."""
    pins = {name: Pin(name, "1", frozenset({"a" * 64})) for name in ("core", "pixels")}
    closed = {("b",): {"core": pins["core"]}, ("i",): pins}
    found = build.packages_of(["base", "image"], {"base": ["b"], "image": ["i"]}, lambda roots: closed[tuple(roots)])

    assert {name: list(packages) for name, packages in found.items()} == {"base": ["core"], "image": ["pixels"]}
    assert all("base" in function.layers for function in topology.FUNCTIONS if function.layers)


def test_every_layer_is_an_extra() -> None:
    """What the topology gives its functions can be built, and the target is the runtime that it names."""
    assert set(build.names()) <= build.extras().keys()
    assert build.target_of(topology.ARCHITECTURE) == ARM
    assert build.target_of("x86_64") == Target((3, 13), "x86_64")


def test_functions_that_are_too_large() -> None:
    """Lambda takes 250 MiB of function and layers, and five layers."""
    sizes = dict.fromkeys(build.names(), 10)
    small = function_sizes(sizes)
    assert small.keys() == {function.name for function in topology.FUNCTIONS}
    assert all(0 < size < 5_000_000 for size in small.values())
    with pytest.raises(TooLarge, match=r"thumbnail has 3 layers and 24[0-9.]+ MB"):
        function_sizes({**sizes, "image": 240_000_000})


def test_five_layers_are_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared one counts."""
    many = topology.Function("sign", memory_mb=128, timeout_s=3, allows=(), layers=("base",) * 5)
    monkeypatch.setattr(topology, "FUNCTIONS", (many,))
    with pytest.raises(TooLarge, match="sign has 6 layers"):
        function_sizes({"base": 10})


def test_the_report_names_all(tmp_path: Path) -> None:
    """A line a layer with its hash, a line a function."""
    layer = build.Layer("base", {"boto3": "1"}, 12, 3_400_000, "a" * 64)
    lines = build.report([layer], {"sign": 1_500_000}).splitlines()

    assert lines[1].split() == ["base", "1", "12", "3.4", "a" * 64]
    assert lines[-1].split() == ["sign", "1.5"]


def test_a_lock_that_lacks_something_stops_the_build(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """In a sentence, and with an exit code."""

    def refuse(*given: Any, **more: Any) -> Any:
        raise LockError("not in the lock: left-pad")

    monkeypatch.setattr(build, "build", refuse)
    assert build.main([]) == 1
    assert capsys.readouterr().err == "layers: not in the lock: left-pad\n"


def test_a_build_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Layers are replaced together: what an earlier build left is there until all new ones are."""
    (tmp_path / "layers" / "base").mkdir(parents=True)
    (tmp_path / "lock").write_text(f"left-pad==1.0 --hash=sha256:{'a' * 64}\n")
    with pytest.raises(LockError, match="not in the lock"):
        build.build(ARM, tmp_path / "layers", lock=tmp_path / "lock")
    assert sorted(os.listdir(tmp_path / "layers")) == ["base"]


def test_a_real_layer_twice(tmp_path: Path) -> None:
    """libmagic and its table for arm64, from the lock: the same hash, the same bytes, for this machine or not."""
    (tmp_path / "1" / "old").mkdir(parents=True)
    first = build.build(ARM, tmp_path / "1", wanted=["detect"])
    second = build.build(ARM, tmp_path / "2", wanted=["detect"])
    python = tmp_path / "1" / "detect" / "python"

    assert first == second
    said = json.loads((tmp_path / "1" / LIST).read_text())
    assert (said["python"], said["machine"]) == ([3, 13], "aarch64")
    assert [one["sha256"] for one in said["layers"]] == [first[0].sha256]
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]
    assert sorted(os.listdir(tmp_path / "1")) == ["detect", LIST]
    assert set(first[0].packages) == {"pylibmagic", "python-magic"}
    found = {str(path.relative_to(python)): path.read_bytes() for path in python.rglob("*") if path.is_file()}
    assert digest(found) == first[0].sha256
    assert found["pylibmagic/libmagic.so.1"][18:20] == b"\xb7\x00"  # EM_AARCH64
    assert len(found["pylibmagic/magic.mgc"]) > 5_000_000
    assert PurePosixPath("magic/loader.py") in {PurePosixPath(path) for path in found}
    assert not any(path.endswith((".la", ".pyi", "RECORD")) for path in found)
