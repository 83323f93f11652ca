"""The lock as data: pins, what a layer needs of them, and a lock that does not hold it."""

from __future__ import annotations

from pathlib import Path

import pytest

from layers.locked import LockError, Pin, closure, needed, read_lock
from layers.wheels import Target

ROOT = Path(__file__).parents[2]
ARM = Target((3, 13), "aarch64")
ONE, TWO = "a" * 64, "b" * 64
LOCK = f"""# made by a tool
left-pad==1.0 \\
    --hash=sha256:{ONE} \\
    --hash=sha256:{TWO}
Right_Pad==2.0.post1 ; python_full_version < '3.13' or sys_platform == 'linux' \\
    --hash=sha256:{TWO}
"""


def test_pins() -> None:
    """Names as packages are compared by, versions, all hashes; markers say nothing of what may be installed."""
    assert read_lock(LOCK) == {
        "left-pad": Pin("left-pad", "1.0", frozenset({ONE, TWO})),
        "right-pad": Pin("right-pad", "2.0.post1", frozenset({TWO})),
    }


@pytest.mark.parametrize(
    "text",
    [
        "left-pad==1.0",
        "left-pad>=1.0 --hash=sha256:" + ONE,
        "left-pad==1.0 --hash=md5:" + "a" * 32,
        "left-pad==1.0 --hash=sha256:" + ONE[1:],
        f"{LOCK}left_pad==1.1 --hash=sha256:{ONE}",
        "-e .",
        f"--index-url=https://packages.invalid\n{LOCK}",
    ],
    ids=["no hash", "no pin", "another hash", "half a hash", "twice", "a folder", "an option"],
)
def test_a_lock_that_pins_nothing_is_refused(text: str) -> None:
    """Whatever is no package at one version with hashes stops the build."""
    with pytest.raises(LockError):
        read_lock(text)


def test_what_pip_is_given_is_the_lock() -> None:
    """An extract's lines read back as the same pins; the project's own locks can be read whole."""
    pins = read_lock(LOCK)
    assert read_lock("\n".join(pin.line() for pin in pins.values())) == pins
    for name in ("run", "test", "infra"):
        text = (ROOT / "requirements" / f"{name}.lock").read_text()
        assert len(read_lock(text)) == sum("==" in line and not line.startswith(" ") for line in text.splitlines())


def test_markers_are_those_of_the_target() -> None:
    """Not those of the machine that builds."""
    lines = [
        "colorama; sys_platform == 'win32'",
        "simsimd; platform_machine == 'aarch64'",
        "tomli; python_version < '3.11'",
        "aws-xray-sdk; extra == 'tracer'",
        "Typing_Extensions[fast]>=4",
    ]

    assert needed(lines, ARM.environment) == {"simsimd": set(), "typing-extensions": {"fast"}}
    assert set(needed(lines, Target((3, 10), "x86_64").environment, ["tracer"])) == {
        "tomli", "aws-xray-sdk", "typing-extensions",
    }  # fmt: skip


METADATA = {
    "app": ["web[fast]>1", "tool; extra == 'dev'"],
    "web": ["core", "speed; extra == 'fast'"],
    "core": ["web"],  # a circle
    "speed": [],
    "other": ["web"],
}


def closed(*roots: str) -> list[str]:
    pins = {name: Pin(name, "1", frozenset({ONE})) for name in METADATA}
    return list(closure(roots, pins, ARM.environment, lambda asked: {pin.name: METADATA[pin.name] for pin in asked}))


def test_what_a_package_needs() -> None:
    """All the way down, extras among them, circles too; a name in any spelling."""
    assert closed("APP") == ["app", "core", "speed", "web"]
    assert closed("other") == ["core", "other", "web"]
    assert closed("other", "app") == ["app", "core", "other", "speed", "web"]


def test_what_is_not_locked_is_named() -> None:
    """The extra that nobody asked for is not missed."""
    with pytest.raises(LockError, match="tool"):
        closed("app[dev]")
