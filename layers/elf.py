"""What an ELF file says of itself: the machine it is for and the libraries that it wants. Pure.

Format: System V ABI, "Object Files" and "Dynamic Linking"; machine numbers as in its register. 64 bit, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MACHINES = {62: "x86_64", 183: "aarch64"}
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB, _DT_SONAME = 1, 5, 14


@dataclass(frozen=True, slots=True)
class Elf:
    """``machine`` as wheels call it, or its number; ``needed``: the names of libraries, in order."""

    machine: str
    needed: tuple[str, ...]
    soname: str | None


def read(data: bytes) -> Elf | None:
    """None for what is no ELF file. ValueError for one that is cut, or not of 64 bit and little-endian."""
    if data[:4] != b"\x7fELF":
        return None
    if data[4:6] != b"\x02\x01":
        raise ValueError("an ELF file that is not of 64 bit and little-endian")
    try:
        (machine,) = struct.unpack_from("<H", data, 18)
        segments = list(_segments(data))
        dynamic = [
            pair for kind, offset, _, size in segments if kind == _PT_DYNAMIC for pair in _pairs(data, offset, size)
        ]
        strings = next((_in_file(segments, value) for tag, value in dynamic if tag == _DT_STRTAB), 0)
        needed = tuple(_text(data, strings + value) for tag, value in dynamic if tag == _DT_NEEDED)
        soname = next((_text(data, strings + value) for tag, value in dynamic if tag == _DT_SONAME), None)
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError("an ELF file that is cut or broken") from error
    return Elf(MACHINES.get(machine, str(machine)), needed, soname)


def _segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(type, offset in the file, address, size in the file) of the program headers."""
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<2H", data, 54)
    for index in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<2I4Q", data, table + index * size)
        yield kind, offset, address, length


def _pairs(data: bytes, offset: int, size: int) -> Iterator[tuple[int, int]]:
    for at in range(offset, offset + size, 16):
        tag, value = struct.unpack_from("<qQ", data, at)
        if tag == 0:
            return
        yield tag, value


def _in_file(segments: list[tuple[int, int, int, int]], address: int) -> int:
    for kind, offset, start, length in segments:
        if kind == _PT_LOAD and start <= address < start + length:
            return offset + address - start
    raise ValueError("an ELF file whose strings are nowhere")


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()
