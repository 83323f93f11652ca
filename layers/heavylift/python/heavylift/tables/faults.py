"""What every format's pass does alike: bytes that are no text, keys that come twice. No I/O here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from heavylift.tables.bounds import BLOCK_BYTES, ERRORS_PER_RECORD, UNIQUE_KEYS
from heavylift.tables.tally import Bytes, Tally
from heavylift.tables.unique import KeySet, key_of

# Well-formed UTF-8 (Unicode 15, table 3-7).
_WELL_FORMED: Final = re.compile(
    rb"(?:[\x00-\x7f]++|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}"
    rb"|\xf4[\x80-\x8f][\x80-\xbf]{2})*+"
)
_NUL: Final = re.compile(rb"\0")


def bad_bytes(data: Bytes, at: int = 0) -> list[tuple[int, int]]:
    """(begin, end) of each piece of ``data`` from ``at`` on that is no UTF-8, at most ERRORS_PER_RECORD of them."""
    found: list[tuple[int, int]] = []
    if data.isascii():
        return found
    at = _first_bad(data, at)
    while at < len(data) and len(found) < ERRORS_PER_RECORD:
        match = _WELL_FORMED.match(data, at)
        start = match.end() if match else at
        if start >= len(data):
            break
        try:
            data[start : start + 4].decode("utf-8")
            at = start + 4
        except UnicodeDecodeError as error:
            at = start + error.end
            found.append((start, at))
    return found


def _first_bad(data: Bytes, at: int) -> int:
    """Where the first piece from ``at`` on lies that is no UTF-8; the end if there is none. ``at``: a character's
    beginning. A text in memory may be four times its bytes: it is made in steps."""
    while at < len(data):
        end = min(len(data), at + BLOCK_BYTES)
        whole = end
        while end < len(data) and whole - end < 3 and data[end] & 0xC0 == 0x80:
            end -= 1
        try:
            (data if at == 0 and end == len(data) else data[at:end]).decode("utf-8")
        except UnicodeDecodeError as error:
            return at + error.start
        at = end
    return at


def suspects(data: Bytes, at: int = 0) -> list[int]:
    """Where, from ``at`` on, bytes stand that are no text: the first of them, more behind the last."""
    found = [start for start, _ in bad_bytes(data, at)]
    if data.find(b"\0", at) >= 0:
        found += [match.start() for match in islice(_NUL.finditer(data, at), 1_000)]
    found.sort()
    return found


def text_faults(tally: Tally, data: Bytes, newline: bytes = b"\n", header: bool = False) -> bool:
    """Tell ``tally`` of bytes of the next record that are no text in its encoding, and of NULs."""
    faults = [(start, "encoding-error", end) for start, end in bad_bytes(data)]
    at = data.find(b"\0")
    while at >= 0 and len(faults) < 2 * ERRORS_PER_RECORD:
        faults.append((at, "nul-byte", at + 1))
        at = data.find(b"\0", at + 1)
    for start, code, end in sorted(faults)[:ERRORS_PER_RECORD]:
        if code == "nul-byte":
            tally.fault(code, "A NUL byte.", data, start, newline=newline, header=header)
        else:
            shown = " ".join(f"{byte:02X}" for byte in data[start:end])
            tally.fault(
                code, f"{shown} is no text in this file's encoding.", data, start, newline=newline, header=header
            )
    return bool(faults)


class Keys:
    """The key sets of a pass: each by its names, in one budget of memory."""

    def __init__(self, names: Sequence[tuple[str, ...]], state: Sequence[dict[str, Any]] | None = None) -> None:
        self.names = tuple(names)
        budget = UNIQUE_KEYS // max(1, len(self.names))
        self._sets = [KeySet(budget, state[i] if state else None) for i in range(len(self.names))]

    def state(self) -> list[dict[str, Any]]:
        return [one.state() for one in self._sets]

    def add(self, index: int, parts: Iterable[str | bytes]) -> bool:
        """Whether this key was there before."""
        return self._sets[index].add(key_of(parts))

    def to_json(self) -> list[dict[str, Any]]:
        return [{"key": list(names), **one.to_json()} for names, one in zip(self.names, self._sets, strict=True)]
