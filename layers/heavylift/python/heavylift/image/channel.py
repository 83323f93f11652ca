"""The pipe between the parent, which may read the object, and the child, which may only decode.

Frames: one letter, a u32 big-endian length, the payload.

parent -> child   J  the job (JSON), once, first
                  K  the checkpoint to go on from, second, where the job says so
                  D  the bytes of one range, in the order in which ranges were asked for
child -> parent   R  ranges: pairs of u64 offset and u32 length
                  F  facts and decision (JSON), before any pixel is decoded
                  T  a thumbnail: u32 length of a JSON head, the head, the JPEG
                  C  a piece of the checkpoint of work that is not done yet
                  P  paused (JSON: rows done, memory peak); the last frame
                  X  an error (JSON: type, code, message, facts); the last frame
                  Z  done (JSON: memory peak, milliseconds); the last frame
"""

from __future__ import annotations

import json
import os
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

from heavylift.ranges import Range, Request, coalesce, short_read

HEADER: Final = struct.Struct(">cI")
_RANGE: Final = struct.Struct(">QI")
FRAME_BYTES_MAX: Final = 64 << 20  # thumbnails are far smaller; more means that something is broken
STREAM_REQUEST_BYTES: Final = 2 << 20  # of many connections side by side; see image.prefetch
# Asked for and not yet read. More is asked for when half of it is read, and that half is more than the parent keeps in
# flight.
AHEAD_BYTES: Final = 64 << 20
ASK_RANGES_MAX: Final = 256
CHECKPOINT_PIECE_BYTES: Final = 1 << 20


def encode_ranges(ranges: Iterable[Range]) -> bytes:
    return b"".join(_RANGE.pack(want.offset, want.length) for want in ranges)


def decode_ranges(payload: bytes) -> list[Range]:
    """The ranges of an R frame. ValueError where the payload is not whole."""
    if len(payload) % _RANGE.size:
        raise ValueError("a range frame of odd length")
    return [Range(offset, length) for offset, length in _RANGE.iter_unpack(payload)]


class ParentGone(Exception):
    """The other end of the pipe was closed: nobody's error, the child just ends."""


class Channel:
    """The child's end. Implements PictureSource: the object behind the pipe."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._in = read_fd
        self._out = write_fd
        self._stream: _ChannelStream | None = None
        self.size_bytes = 0

    # --- frames

    def send(self, kind: bytes, payload: bytes) -> None:
        data = memoryview(HEADER.pack(kind, len(payload)) + payload)
        while data:
            data = data[os.write(self._out, data) :]

    def send_json(self, kind: bytes, value: Any) -> None:
        self.send(kind, json.dumps(value).encode())

    def send_thumbnail(self, head: dict[str, Any], jpeg: bytes) -> None:
        raw = json.dumps(head).encode()
        self.send(b"T", struct.pack(">I", len(raw)) + raw + jpeg)

    def send_checkpoint(self, checkpoint: bytes) -> None:
        """In pieces, so that the other end never holds it twice."""
        for start in range(0, len(checkpoint), CHECKPOINT_PIECE_BYTES):
            self.send(b"C", checkpoint[start : start + CHECKPOINT_PIECE_BYTES])

    def read_exactly(self, view: memoryview) -> None:
        while view:
            got = os.readv(self._in, [view])
            if got == 0:
                raise ParentGone
            view = view[got:]

    def read_header(self, expected: bytes) -> int:
        raw = bytearray(HEADER.size)
        self.read_exactly(memoryview(raw))
        kind, length = HEADER.unpack(raw)
        if kind != expected or length > FRAME_BYTES_MAX:
            raise ParentGone
        return int(length)

    def read_job(self) -> dict[str, Any]:
        raw = bytearray(self.read_header(b"J"))
        self.read_exactly(memoryview(raw))
        job: dict[str, Any] = json.loads(raw)
        self.size_bytes = int(job["size_bytes"])
        return job

    # --- PictureSource

    def fetch(self, offset: int, length: int) -> bytes:
        length = min(length, max(0, self.size_bytes - offset))
        if length <= 0:
            return b""
        self.send(b"R", encode_ranges([Range(offset, length)]))
        data = bytearray(self.read_header(b"D"))
        self.read_exactly(memoryview(data))
        return bytes(data)

    def stream(
        self, ranges: Iterable[Range], *, request_bytes: int = STREAM_REQUEST_BYTES, ahead_bytes: int = AHEAD_BYTES
    ) -> _ChannelStream:
        if self._stream is not None:
            self._stream.close()
        self._stream = _ChannelStream(self, coalesce(ranges, request_bytes=request_bytes), ahead_bytes)
        return self._stream


class _ChannelStream:
    """Ranges asked for ahead of their use, at most ``ahead_bytes``, read straight into the caller's buffer."""

    def __init__(self, channel: Channel, requests: Iterator[Request], ahead_bytes: int) -> None:
        self._channel = channel
        self._requests = requests
        self._ahead_bytes = ahead_bytes
        self._asked: deque[Request] = deque()
        self._asked_bytes = 0
        self._pieces: deque[tuple[int, int]] = deque()
        self._range_at = 0  # bytes of the present range already taken from the pipe
        self._range_length = 0
        self._piece_left = 0

    def _ask(self) -> None:
        if self._asked_bytes * 2 > self._ahead_bytes:
            return
        batch: list[Range] = []
        while self._asked_bytes < self._ahead_bytes and len(batch) < ASK_RANGES_MAX:
            request = next(self._requests, None)
            if request is None:
                break
            batch.append(request.range)
            self._asked.append(request)
            self._asked_bytes += request.range.length
        if batch:
            self._channel.send(b"R", encode_ranges(batch))

    def _next_piece(self) -> None:
        if not self._pieces:
            self._skip(self._range_length - self._range_at)
            self._ask()
            if not self._asked:
                raise EOFError("read past the ranges asked for")
            request = self._asked.popleft()
            length = self._channel.read_header(b"D")
            if length < request.range.length:
                raise short_read(request.range, length)
            self._asked_bytes -= length
            self._range_at, self._range_length = 0, length
            self._pieces.extend(request.pieces)
        start, self._piece_left = self._pieces.popleft()
        self._skip(start - self._range_at)

    def _skip(self, count: int) -> None:
        if count > 0:
            self._channel.read_exactly(memoryview(bytearray(count)))
            self._range_at += count

    def readinto(self, view: memoryview) -> None:
        while view:
            if not self._piece_left:
                self._next_piece()
                continue
            take = min(len(view), self._piece_left)
            self._channel.read_exactly(view[:take])
            self._range_at += take
            self._piece_left -= take
            view = view[take:]

    def close(self) -> None:
        """Take what was asked for out of the pipe, so that the next answer is the next question's."""
        self._skip(self._range_length - self._range_at)
        while self._asked:
            self._asked.popleft()
            self._skip(self._channel.read_header(b"D"))
        self._pieces.clear()
        self._piece_left = self._range_at = self._range_length = self._asked_bytes = 0
        self._requests = iter(())
