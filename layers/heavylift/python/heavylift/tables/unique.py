"""Whether keys come twice, in bounded memory: exact up to a number, then over a declared sample. No I/O here.

Keys are kept as 64-bit hashes in an open-addressed table of 8 bytes a slot. When the keys are more than ``keys_max``,
only those whose hash ends in ``bits`` zeros are kept on: what is then called a repetition is one, but of all
repetitions only one in 2^bits is seen. The report says which of the two it was.
"""

from __future__ import annotations

import base64
import hashlib
from array import array
from collections.abc import Iterable
from typing import Any, Final

_SLOTS_MIN: Final = 1 << 10


class KeySet:
    """``add`` says whether the key was there. Memory: 16 bytes a key, at most ``16 * keys_max``."""

    def __init__(self, keys_max: int, state: dict[str, Any] | None = None) -> None:
        self._keys_max = keys_max
        self._slots = array("Q", (0,)) * _SLOTS_MIN
        self._count = 0
        self.bits = 0
        self.repeated = 0
        if state is not None:
            self.bits, self.repeated = state["bits"], state["repeated"]
            kept = array("Q")
            kept.frombytes(base64.b64decode(state["keys"]))
            self._rebuild(kept)

    @property
    def exact(self) -> bool:
        return self.bits == 0

    def add(self, key: bytes) -> bool:
        """True: a key equal to this one was added before."""
        number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") or 1
        if number & ((1 << self.bits) - 1):
            return False
        slots = self._slots
        mask = len(slots) - 1
        at = (number >> 20) & mask
        while True:
            there = slots[at]
            if there == 0:
                break
            if there == number:
                self.repeated += 1
                return True
            at = (at + 1) & mask
        slots[at] = number
        self._count += 1
        if self._count * 2 > len(slots):
            del slots  # the table that is about to be replaced
            self._grow()
        return False

    def _grow(self) -> None:
        while self._count > self._keys_max:
            self.bits += 1
            low = (1 << self.bits) - 1
            self._rebuild(array("Q", (n for n in self._slots if n and not n & low)))
        if self._count * 2 > len(self._slots):
            self._rebuild(array("Q", (n for n in self._slots if n)))

    def _rebuild(self, numbers: Iterable[int]) -> None:
        kept = numbers if isinstance(numbers, array) else array("Q", numbers)
        size = _SLOTS_MIN
        while size < 2 * len(kept) + 2:
            size *= 2
        self._slots = array("Q")  # one table at a time
        slots = array("Q", (0,)) * size
        mask = size - 1
        for number in kept:
            at = (number >> 20) & mask
            while slots[at]:
                at = (at + 1) & mask
            slots[at] = number
        self._slots, self._count = slots, len(kept)

    def state(self) -> dict[str, Any]:
        """Plain JSON; 11 bytes a key."""
        kept = array("Q", (n for n in self._slots if n))
        return {
            "bits": self.bits,
            "repeated": self.repeated,
            "keys": base64.b64encode(kept.tobytes()).decode(),
        }

    def to_json(self) -> dict[str, Any]:
        """As the report shows it."""
        return {"exact": self.exact, "sampled_share": 1 / (1 << self.bits), "repeated": self.repeated}


def key_of(parts: Iterable[str | bytes]) -> bytes:
    """One text for a key of several parts; no two different keys share it."""
    joined = bytearray()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        joined += len(data).to_bytes(4, "little") + data
    return bytes(joined)
