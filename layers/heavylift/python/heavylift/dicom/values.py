"""Values of single elements: UIDs, integer strings, decimal strings. Facts: PS3.5 section 6.2, chapter 9. No I/O."""

from __future__ import annotations

import re
from typing import Final

UID_LENGTH_MAX: Final = 64  # PS3.5 9.1
PADDING: Final = b" \0\t\r\n"
_INTEGER: Final = re.compile(rb"\s*([+-]?[0-9]{1,12})(?:\.0*)?\s*\Z")


def uid_text(value: bytes) -> str:
    """A UID's characters without its padding; of several values the first."""
    if b"\\" in value:
        value = value.split(b"\\", 1)[0]
    return value.strip(PADDING).decode("latin-1")


def valid_uid(text: str) -> bool:
    """Digits and dots, at most 64. Components that begin with a zero are forbidden but common, so they are taken."""
    return (
        len(text) <= UID_LENGTH_MAX
        and text.isascii()
        and text.replace(".", "").isdigit()
        and ".." not in text
        and text[0] != "." != text[-1]
    )


def integer(value: bytes) -> int | None:
    """The first value of an integer string (IS); None where it is empty or no integer."""
    try:
        return int(value) if b"_" not in value else None
    except ValueError:
        pass
    found = _INTEGER.match(value.split(b"\\", 1)[0].rstrip(b"\0 "))
    return int(found[1]) if found else None


def decimals(value: bytes, count_max: int = 64) -> tuple[float, ...]:
    """All values of a decimal string (DS); () where one of them is no finite number or there are more than allowed."""
    parts = value.strip(PADDING).split(b"\\")
    if len(parts) > count_max or b"_" in value:
        return ()
    try:
        numbers = tuple(float(part.strip(PADDING)) for part in parts)
    except ValueError:
        return ()
    return numbers if all(abs(number) < float("inf") for number in numbers) else ()
