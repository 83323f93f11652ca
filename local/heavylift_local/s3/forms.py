"""multipart/form-data as a browser sends it: small fields first, then one file that is streamed. No I/O but the source.

RFC 7578, with S3's reading of it ("POST Object", Amazon S3 API reference): everything before the file may be 20 KB,
the file is the last field, and what comes after it is ignored. 64 KiB of the file are held at a time.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from heavylift_local.s3.errors import S3Error

FIELDS_BYTES_MAX = 20 * 1024  # S3: the form but for the file
HELD_BYTES = 64 * 1024
STEP_BYTES = 4 * 1024  # read ahead while fields are looked for
BOUNDARY_CHARS_MAX = 70  # RFC 2046 section 5.1.1
_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^;\s]+))', re.IGNORECASE)
_NAME = re.compile(r';\s*name="((?:[^"\\]|\\.)*)"|;\s*name=([^";\s]+)', re.IGNORECASE)
_FILENAME = re.compile(r';\s*filename="((?:[^"\\]|\\.)*)"|;\s*filename=([^";\s]+)', re.IGNORECASE)


class Source(Protocol):
    def readinto(self, view: memoryview) -> int: ...


def malformed() -> S3Error:
    return S3Error("MalformedPOSTRequest")


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart/form-data content type. Raises PreconditionFailed (412) for any other type."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        fields = {"Condition": "Bucket POST must be of the enclosure-type multipart/form-data"}
        raise S3Error("PreconditionFailed", fields=fields)
    found = _BOUNDARY.search(content_type)
    text = (found[1] or found[2]) if found else ""
    if not 1 <= len(text) <= BOUNDARY_CHARS_MAX:
        raise malformed()
    return text.encode("latin-1")


@dataclass(frozen=True, slots=True)
class Form:
    """*fields* by lower-case name, later ones of the same name ignored; *filename* None where the file part has none
    (it is then a plain field that is called file)."""

    fields: Mapping[str, str]
    filename: str | None


class FormReader:
    """Fields, then the file: `fields()` once, after it `readinto` gives the file's bytes and 0 at its end."""

    def __init__(self, source: Source, boundary: bytes) -> None:
        self._source = source
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(HELD_BYTES + len(self._delimiter))
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._spent = 0  # bytes of fields so far
        self._last = False
        self._found = -1  # where the delimiter was found ahead of _start

    def fields(self) -> Form:
        """Every field before the file. Raises MalformedPOSTRequest, MaxPostPreDataLengthExceeded, InvalidArgument
        (no file), IncompleteBody."""
        # The first delimiter may stand at the very beginning; a preamble before it is allowed and dropped.
        self._buffer[0:2] = b"\r\n"
        self._end = 2
        self._until(self._delimiter)
        found: dict[str, str] = {}
        while True:
            mark = self._take(2)
            if mark == b"--":
                raise S3Error(
                    "InvalidArgument",
                    "POST requires exactly one file upload per request.",
                    fields={"ArgumentName": "file", "ArgumentValue": "0"},
                )
            if mark != b"\r\n":
                raise malformed()
            name, filename = self._part_head()
            if name.lower() == "file":
                return Form(found, filename)
            value = self._until(self._delimiter)
            try:
                found.setdefault(name.lower(), value.decode("utf-8"))
            except UnicodeDecodeError:
                raise malformed() from None

    def readinto(self, view: memoryview) -> int:
        """Bytes of the file. Raises MalformedPOSTRequest where the form ends inside it, IncompleteBody."""
        if self._last:
            return 0
        keep = len(self._delimiter) - 1
        while True:
            if self._found < 0:
                self._found = self._buffer.find(self._delimiter, self._start, self._end)
            if self._found >= 0:
                ready = self._found - self._start
                if ready == 0:
                    self._last = True
                    return 0
            else:
                ready = self._end - self._start - keep
            if ready > 0:
                size = min(ready, len(view))
                view[:size] = self._view[self._start : self._start + size]
                self._start += size
                return size
            self._compact()
            got = self._source.readinto(self._view[self._end :])
            if got == 0:
                raise malformed()
            self._end += got

    def _part_head(self) -> tuple[str, str | None]:
        """(name, file name) of the part that begins here."""
        name: str | None = None
        filename: str | None = None
        while line := self._until(b"\r\n"):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError:
                raise malformed() from None
            header, colon, value = text.partition(":")
            if not colon:
                raise malformed()
            if header.strip().lower() == "content-disposition":
                name, filename = _parameter(_NAME, value), _parameter(_FILENAME, value)
        if not name:
            raise malformed()
        return name, filename

    def _compact(self) -> None:
        rest = self._end - self._start
        if self._start:
            self._buffer[:rest] = self._buffer[self._start : self._end]
        if self._found >= 0:
            self._found -= self._start
        self._start, self._end = 0, rest

    def _more(self) -> None:
        self._compact()
        got = self._source.readinto(self._view[self._end : self._end + STEP_BYTES])
        if got == 0:
            raise malformed()
        self._end += got

    def _spend(self, size: int) -> None:
        self._spent += size
        if self._spent > FIELDS_BYTES_MAX:
            raise S3Error("MaxPostPreDataLengthExceeded")

    def _until(self, mark: bytes) -> bytes:
        """Everything up to *mark*, which is dropped."""
        while (at := self._buffer.find(mark, self._start, self._end)) < 0:
            if self._spent + self._end - self._start > FIELDS_BYTES_MAX + STEP_BYTES:
                raise S3Error("MaxPostPreDataLengthExceeded")
            self._more()
        found = bytes(self._view[self._start : at])
        self._spend(at + len(mark) - self._start)
        self._start = at + len(mark)
        return found

    def _take(self, size: int) -> bytes:
        while self._end - self._start < size:
            self._more()
        found = bytes(self._view[self._start : self._start + size])
        self._spend(size)
        self._start += size
        return found


def _parameter(pattern: re.Pattern[str], header: str) -> str | None:
    found = pattern.search(header)
    if found is None:
        return None
    text = found[1] if found[1] is not None else found[2]
    # Browsers write a quote as %22 (WHATWG HTML, "multipart/form-data encoding"), others escape it.
    return text.replace('\\"', '"').replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def base_name(filename: str) -> str:
    """What `${filename}` stands for: S3 drops a path that the browser sent along."""
    return re.split(r"[/\\]", filename)[-1]
