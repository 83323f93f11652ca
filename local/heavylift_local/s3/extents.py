"""Objects as lists of slices of immutable files, and the byte ranges asked of them. No I/O here."""

import re
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from heavylift_local.s3.errors import S3Error

_PACKED = struct.Struct("<QQQ")
_RANGE = re.compile(r"^bytes=\s*(\d*)\s*-\s*(\d*)\s*$", re.IGNORECASE)


class Extent(NamedTuple):
    """*length* bytes at *offset* of the file named by *blob*."""

    blob: int
    offset: int
    length: int


def pack(extents: Iterable[Extent]) -> bytes:
    """24 bytes an extent: 10,000 parts are 240 kB in the record."""
    return b"".join(_PACKED.pack(*extent) for extent in extents)


def unpack(packed: bytes) -> Iterator[Extent]:
    return (Extent(*fields) for fields in _PACKED.iter_unpack(packed))


def cut(extents: Iterable[Extent], offset: int, length: int) -> Iterator[Extent]:
    """The part of *extents* that holds bytes offset .. offset+length of the object, in order, nothing empty."""
    for extent in extents:
        if length <= 0:
            return
        if offset >= extent.length:
            offset -= extent.length
            continue
        taken = min(extent.length - offset, length)
        yield Extent(extent.blob, extent.offset + offset, taken)
        length -= taken
        offset = 0


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(offset, length) of a Range header, None where S3 ignores it and sends the whole object.

    As recorded from S3: one range only; several ranges, last < first and bad syntax are ignored; the end is clipped.
    Raises InvalidRange (416) when it starts at or after the end, or asks for the last 0 bytes.
    """
    match = _RANGE.match(header) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first_text, last_text = match.groups()
    if not first_text:
        wanted = min(int(last_text), size)
        if wanted == 0:
            raise _unsatisfiable(header, size)
        return size - wanted, wanted
    first = int(first_text)
    last = int(last_text) if last_text else size - 1
    if last_text and last < first:
        return None
    if first >= size:
        raise _unsatisfiable(header, size)
    return first, min(last, size - 1) - first + 1


def parse_copy_range(header: str, size: int) -> tuple[int, int]:
    """(offset, length) of x-amz-copy-source-range: `bytes=first-last` only, both inside the source (recorded)."""
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", header)
    fields = {"ArgumentName": "x-amz-copy-source-range", "ArgumentValue": header}
    if match is None or int(match[2]) < int(match[1]):
        message = (
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy"
        )
        raise S3Error("InvalidArgument", message, fields=fields)
    first, last = int(match[1]), int(match[2])
    if first >= size:
        raise S3Error("InvalidRequest", "The specified copy range is invalid for the source object size")
    if last >= size:
        message = f"Range specified is not valid for source object of size: {size}"
        raise S3Error("InvalidArgument", message, fields=fields)
    return first, last - first + 1


def _unsatisfiable(header: str | None, size: int) -> S3Error:
    return S3Error(
        "InvalidRange",
        fields={"RangeRequested": header, "ActualObjectSize": size},
        headers={"Content-Range": f"bytes */{size}"},
    )
