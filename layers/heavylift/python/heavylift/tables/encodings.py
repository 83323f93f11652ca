"""Other encodings become UTF-8 before anything is judged; places are told in the file's own bytes. No I/O here.

What the encoding does not allow becomes bytes that UTF-8 does not allow, so that one check finds both.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Final

UTF_16: Final = ("utf-16-le", "utf-16-be")
_BOMS: Final = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}


def bom_of(head: bytes, encoding: str) -> bytes:
    """The byte order mark of ``encoding`` that ``head`` begins with, or nothing."""
    bom = _BOMS.get(encoding, b"")
    return bom if bom and head.startswith(bom) else b""


def exact_name(head: bytes, asked: str | None) -> str | None:
    """The encoding to read ``head``'s file in. None: it is UTF-16 or UTF-32 and nobody asked for that."""
    if asked == "utf-16":
        return "utf-16-be" if head.startswith(codecs.BOM_UTF16_BE) else "utf-16-le"
    if asked is not None:
        return asked
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        return None
    return "utf-8"


def _utf_16_width(text: bytes | bytearray) -> int:
    """Half a surrogate's three bytes count for nothing; each FF at the end is a byte that made no character."""
    body = text.rstrip(b"\xff")
    try:
        decoded = body.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        decoded = body[: error.start].decode("utf-8", "surrogatepass")
    return 2 * len(decoded) + 2 * sum(1 for c in decoded if c > "\uffff") + len(text) - len(body)


_CONTINUATION: Final = bytes(range(0x80, 0xC0))


def _characters(text: bytes | bytearray) -> int:
    """Of UTF-8, surrogates included: every byte but the continuation bytes begins one."""
    return len(text.translate(None, _CONTINUATION))


def width_of(encoding: str) -> Callable[[bytes | bytearray], int]:
    """How many bytes a piece of the UTF-8 text was in the file."""
    if encoding == "utf-8":
        return len
    return _utf_16_width if encoding in UTF_16 else _characters


class ToUtf8:
    """Pieces of the file in, UTF-8 out; characters that are cut wait. Begins at any character's border."""

    def __init__(self, encoding: str) -> None:
        self._utf_16 = encoding in UTF_16
        self._utf_8 = encoding == "utf-8"
        errors = "surrogatepass" if self._utf_16 else "surrogateescape"
        name = {"windows-1252": "cp1252"}.get(encoding, encoding)
        self._decoder = codecs.getincrementaldecoder(name)(errors)
        self._held = b""

    def feed(self, data: bytes, final: bool = False) -> bytes:
        """The UTF-8 of what is whole."""
        if self._utf_8:
            return data
        tail = b""
        if self._utf_16:
            data = self._held + data
            odd = len(data) % 2
            self._held = data[len(data) - odd :] if odd else b""
            data = data[: len(data) - odd]
            if final and self._held:
                tail = b"\xff"  # half a character: no UTF-8 either
        text = self._decoder.decode(data)
        if final:
            try:
                text += self._decoder.decode(b"", True)
            except UnicodeDecodeError:
                tail = b"\xff\xff" + tail  # a high surrogate at the very end: two bytes
        return text.encode("utf-8", "surrogatepass") + tail
