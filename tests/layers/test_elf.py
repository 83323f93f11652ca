"""ELF files read by hand: a library's machine and what it is linked with."""

from __future__ import annotations

import struct

import pytest

from layers.elf import Elf, read


def library(machine: int = 183, needed: tuple[str, ...] = ("libc.so.6", "libz.so.1"), soname: str = "libx.so") -> bytes:
    """A library with a dynamic section and nothing else; its addresses are 0x10000 above its offsets."""
    strings = b"\0"
    places = []
    for name in (*needed, soname):
        places.append(len(strings))
        strings += name.encode() + b"\0"
    dynamic_at = 64 + 2 * 56
    entries = [(1, at) for at in places[:-1]] + [(14, places[-1])]
    strings_at = dynamic_at + 16 * (len(entries) + 2)
    dynamic = b"".join(struct.pack("<qQ", *one) for one in (*entries, (5, 0x10000 + strings_at), (0, 0)))
    total = strings_at + len(strings)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<2HI3QI6H", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    loaded = struct.pack("<2I6Q", 1, 5, 0, 0x10000, 0x10000, total, total, 0x1000)
    described = struct.pack("<2I6Q", 2, 6, dynamic_at, 0x10000 + dynamic_at, 0, len(dynamic), len(dynamic), 8)
    return header + loaded + described + dynamic + strings


@pytest.mark.parametrize(("number", "machine"), [(183, "aarch64"), (62, "x86_64"), (40, "40")])
def test_a_library(number: int, machine: str) -> None:
    """Machine, name, and what it wants in its order."""
    assert read(library(number)) == Elf(machine, ("libc.so.6", "libz.so.1"), "libx.so")


def test_one_without_wishes() -> None:
    """No dynamic section: nothing is needed."""
    lone = bytearray(library())
    struct.pack_into("<H", lone, 56, 1)
    assert read(bytes(lone)) == Elf("aarch64", (), None)


@pytest.mark.parametrize("data", [b"", b"\x7fEL", b"MZ\x90", b"import this\n"])
def test_what_is_no_elf_file(data: bytes) -> None:
    """None, without trouble."""
    assert read(data) is None


def test_cut_anywhere() -> None:
    """A ValueError, or what can still be read; nothing else."""
    whole = library()
    for length in range(4, len(whole)):
        try:
            read(whole[:length])
        except ValueError:
            continue
        assert length > 200


@pytest.mark.parametrize("kind", [b"\x01\x01", b"\x02\x02"])
def test_other_kinds_are_refused(kind: bytes) -> None:
    """Of 32 bit, or big-endian: nothing that Lambda runs."""
    with pytest.raises(ValueError):
        read(b"\x7fELF" + kind + library()[6:])
