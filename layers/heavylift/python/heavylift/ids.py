"""Identifiers made by the server: ULIDs (48 bits of time, 80 of chance, Crockford's base 32, sortable)."""

from __future__ import annotations

import os
import re
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ULID_PATTERN = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
FILE_ID_PATTERN = re.compile(rf"{ULID_PATTERN.pattern}(-[0-9]{{6}})?")
FINGERPRINT_PATTERN = re.compile(r"v1:[0-9a-f]{64}")
TENANT_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def new_ulid(now_s: float | None = None) -> str:
    """A new ULID for ``now_s`` (seconds since 1970; the clock when None)."""
    milliseconds = int((time.time() if now_s is None else now_s) * 1000)
    return _text((milliseconds << 80) | int.from_bytes(os.urandom(10)))


def following(first: str, number: int) -> tuple[str, ...]:
    """``number`` ULIDs from ``first`` on, each one above the other (the ULID specification's "monotonicity").

    What one call makes sorts in the order asked for. They carry the same millisecond, but where chance made ``first``
    one of its last.
    """
    start = 0
    for letter in first:
        start = start * 32 + _ALPHABET.index(letter)
    return tuple(_text(start + offset) for offset in range(number))


def _text(number: int) -> str:
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def ulid_prefix(milliseconds: int) -> str:
    """The 10 characters with which every ULID of this millisecond (since 1970) begins."""
    return "".join(_ALPHABET[(milliseconds >> shift) & 31] for shift in range(45, -1, -5))


def ulid_ms(text: str) -> int:
    """When an id was made, in ms since 1970; of a batch's file: when the batch was. ValueError for other letters."""
    milliseconds = 0
    for letter in text[:10]:
        milliseconds = milliseconds * 32 + _ALPHABET.index(letter)
    return milliseconds


def is_file_id(text: str) -> bool:
    """Whether ``text`` has the form of an upload's or a batch file's id."""
    return FILE_ID_PATTERN.fullmatch(text) is not None


def is_tenant(text: object) -> bool:
    return isinstance(text, str) and TENANT_PATTERN.fullmatch(text) is not None


def is_ulid(text: str) -> bool:
    """Whether ``text`` has the form of a batch's id."""
    return ULID_PATTERN.fullmatch(text) is not None


def member_id(batch_id: str, n: int) -> str:
    """The file id of a batch's member."""
    return f"{batch_id}-{n:06d}"


def member_of(file_id: str) -> tuple[str, int] | None:
    """(batch id, number) of a member's file id; None for a file by itself."""
    batch_id, dash, number = file_id.partition("-")
    return (batch_id, int(number)) if dash else None
