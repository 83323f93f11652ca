"""multipart/related bodies (RFC 2046, RFC 2387; PS3.18 8.6.1.2), written as pieces and taken apart. Pure.

A body is written as openings, contents and one closing, so that contents can be copied inside S3. Its boundary follows
from a seed that holds ids made by us: the same body has the same bytes, and no file can hold its own boundary.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from heavylift.errors import RequestError

NAME: Final = "multipart/related"
PARTS_MAX: Final = 1_000  # of a body of 4 MiB; the smallest DICOM file has some hundred bytes
HEADER_BYTES_MAX: Final = 8_192  # of one part

# RFC 2046, 5.1.1: what a boundary may be made of.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_PARAMETER: Final = re.compile(r';\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;",]*))\s*')


def boundary(*seed: str) -> str:
    """The boundary of a body: 32 letters."""
    return hashlib.sha256("\n".join(seed).encode()).hexdigest()[:32]


def opening(boundary: str, headers: Mapping[str, str], *, first: bool) -> bytes:
    """What stands before a part's content."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{'' if first else chr(13) + chr(10)}--{boundary}\r\n{lines}\r\n".encode()


def closing(boundary: str) -> bytes:
    """What stands behind the last part's content."""
    return f"\r\n--{boundary}--\r\n".encode()


def media_type(boundary: str, inner: str) -> str:
    """The Content-Type of a body whose parts are ``inner``."""
    return f'{NAME}; type="{inner}"; boundary={boundary}'


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a body. Names of ``headers`` are in lower case."""

    headers: Mapping[str, str]
    content: bytes


def parameters_of(value: str) -> tuple[str, dict[str, str]]:
    """A media type and its parameters, names in lower case; what is no parameter is passed over."""
    name, _, _ = value.partition(";")
    found = {
        one.group(1).lower(): re.sub(r"\\(.)", r"\1", one.group(2)) if one.group(2) is not None else one.group(3)
        for one in _PARAMETER.finditer(value, len(name))
    }
    return name.strip().lower(), found


def take_apart(body: bytes, content_type: str) -> list[Part]:
    """The parts of a body. RequestError ``invalid_multipart``.

    What stands before the first boundary and behind the last one is passed over (RFC 2046, 5.1.1). Memory: the
    contents once more.
    """
    _, parameters = parameters_of(content_type)
    mark = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(mark):
        raise _broken("The Content-Type names no usable boundary.")
    delimiter = b"\r\n--" + mark.encode()
    # The first boundary may stand at the very beginning, without a line before it.
    data = b"\r\n" + body
    at = _boundary_at(data, delimiter, 0)
    parts: list[Part] = []
    while True:
        if at < 0:
            raise _broken("The body ends without its closing boundary.")
        after = at + len(delimiter)
        if data.startswith(b"--", after):
            return parts
        line_end = data.find(b"\r\n", after)
        if len(parts) == PARTS_MAX:
            raise _broken(f"The body has more than {PARTS_MAX} parts.")
        following = _boundary_at(data, delimiter, line_end)
        if following < 0:
            raise _broken("The body ends without its closing boundary.")
        parts.append(_part(data[line_end + 2 : following]))
        at = following


def _boundary_at(data: bytes, delimiter: bytes, start: int) -> int:
    """Where the next boundary's line begins; a longer boundary that begins alike is content. -1: there is none."""
    at = data.find(delimiter, start)
    while at >= 0:
        after = at + len(delimiter)
        rest = data[after : after + 2]
        line_end = data.find(b"\r\n", after)
        if rest == b"--" or (line_end >= 0 and not data[after : min(line_end, after + 200)].strip(b" \t")):
            return at
        at = data.find(delimiter, after)
    return -1


def _part(data: bytes) -> Part:
    if data.startswith(b"\r\n"):
        return Part({}, data[2:])
    end = data.find(b"\r\n\r\n", 0, HEADER_BYTES_MAX)
    if end < 0:
        raise _broken("A part's headers do not end.")
    headers: dict[str, str] = {}
    for line in data[:end].decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon:
            raise _broken("A part has a line among its headers that is none.")
        headers[name.strip().lower()] = value.strip()
    return Part(headers, data[end + 4 :])


def _broken(message: str) -> RequestError:
    return RequestError("invalid_multipart", message)
