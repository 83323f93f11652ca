"""One HTTP/1.1 connection on a blocking socket: heads in, answers out, bodies in neither direction held in memory.

Every wait has a limit (SO_RCVTIMEO and SO_SNDTIMEO, so that one system call reads and no poll is needed), every
head a size. An answer leaves in one flush: head and small body in one send, a file behind MSG_MORE by sendfile.
"""

import os
import socket
import struct
import time
from collections.abc import Iterable

from heavylift_local.s3.config import Limits

HEAD_BYTES_MAX = 32 * 1024  # a presigned URL with a long token and an encoded 1,024-byte key is about 6 KiB
LINGER_SECONDS = 10
GOODBYE_SECONDS = 1  # where nothing more is to come but the other end
LINGER_BYTES_MAX = 256 * 1024 * 1024  # a refused part of 128 MiB is read to its end, so that its sender sees why
SENDFILE_BYTES = 4 * 1024 * 1024
RECV_BYTES = 16 * 1024
BULK_BYTES = 32 * 1024


class PeerGone(Exception):
    """The other side closed or reset the connection: nobody is left to answer."""


class PeerSlow(Exception):
    """The other side neither sent nor took a byte for too long, or too few of them."""


class HeadTooLarge(Exception):
    """More than HEAD_BYTES_MAX without an end of the head."""


class Pace:
    """How fast one body must go: nothing is asked of it for stall_s, then the least rate on average."""

    __slots__ = ("_began", "_limits", "_moved")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._began = time.monotonic()
        self._moved = 0

    def count(self, size: int) -> None:
        """Raises PeerSlow."""
        self._moved += size
        late = time.monotonic() - self._began - self._limits.stall_s
        if late > 0 and self._moved < late * self._limits.body_bytes_per_s_min:
            raise PeerSlow


class Connection:
    __slots__ = ("_held", "_waiting_seconds", "idle_since", "limits", "peer", "sock")

    def __init__(self, sock: socket.socket, peer: str, limits: Limits) -> None:
        self.limits = limits
        self.sock = sock
        self.peer = peer
        self.idle_since: float | None = time.monotonic()
        self._held = bytearray()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(limits.stall_s))
        self._waiting_seconds = 0
        self._wait_at_most(self.limits.idle_s)

    def _wait_at_most(self, seconds: int) -> None:
        if seconds != self._waiting_seconds:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
            self._waiting_seconds = seconds

    def read_head(self) -> bytes | None:
        """The next request head without its blank line; None when the peer is done or idle for too long.

        Raises HeadTooLarge, PeerSlow (a head that does not end in time), PeerGone (closed inside a head).
        """
        held = self._held
        while held[:2] == b"\r\n":  # RFC 9112 2.2: empty lines before a request are skipped
            del held[:2]
        deadline = 0.0
        if not held:
            self.idle_since = time.monotonic()
            self._wait_at_most(self.limits.idle_s)
            try:
                held += self._receive()
            except PeerSlow:
                return None
            if not held:
                return None
            self.idle_since = None
        self._wait_at_most(self.limits.stall_s)
        searched = 0
        while (end := held.find(b"\r\n\r\n", searched)) < 0:
            if len(held) > HEAD_BYTES_MAX:
                raise HeadTooLarge
            deadline = deadline or time.monotonic() + self.limits.stall_s
            if time.monotonic() > deadline:
                raise PeerSlow
            searched = max(0, len(held) - 3)
            block = self._receive()
            if not block:
                raise PeerGone
            held += block
        if end > HEAD_BYTES_MAX:
            raise HeadTooLarge
        head = bytes(held[:end])
        del held[: end + 4]
        return head

    def _receive(self) -> bytes:
        try:
            return self.sock.recv(RECV_BYTES)
        except BlockingIOError:
            raise PeerSlow from None
        except OSError:
            raise PeerGone from None

    def unread(self, data: bytes) -> None:
        """Bytes that belong to what comes next."""
        self._held[:0] = data

    def readinto(self, view: memoryview) -> int:
        """Fill *view* as far as the peer sends; 0 only at the end of the stream. Raises PeerSlow, PeerGone."""
        held = self._held
        if held:
            size = min(len(held), len(view))
            view[:size] = held[:size]
            del held[:size]
            return size
        try:
            # MSG_WAITALL: one call fills the buffer, so large bodies cost few turns of the interpreter.
            flags = socket.MSG_WAITALL if len(view) >= BULK_BYTES else 0
            return self.sock.recv_into(view, len(view), flags)
        except BlockingIOError:
            raise PeerSlow from None
        except OSError:
            raise PeerGone from None

    def send(self, data: bytes, *, more: bool = False) -> None:
        try:
            self.sock.sendall(data, socket.MSG_MORE if more else 0)
        except BlockingIOError:
            raise PeerSlow from None
        except OSError:
            raise PeerGone from None

    def send_file(self, fd: int, offset: int, length: int) -> int:
        """Bytes of *fd* from *offset* by sendfile; returns how many went out, fewer than *length* at a short file."""
        sent = 0
        out = self.sock.fileno()
        pace = Pace(self.limits)
        while sent < length:
            try:
                step = os.sendfile(out, fd, offset + sent, min(SENDFILE_BYTES, length - sent))
            except BlockingIOError:
                raise PeerSlow from None
            except OSError:
                raise PeerGone from None
            if step == 0:
                break
            sent += step
            pace.count(step)
        return sent

    def linger(self, seconds: float = LINGER_SECONDS) -> None:
        """Say that nothing more comes, then read and drop a bounded rest, so that the peer sees the answer and not
        a reset while it is still sending."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
            self._wait_at_most(1)
            scratch = bytearray(64 * 1024)
            deadline = time.monotonic() + seconds
            dropped = 0
            while dropped < LINGER_BYTES_MAX and time.monotonic() < deadline:
                try:
                    size = self.sock.recv_into(scratch)
                except BlockingIOError:
                    continue
                if size == 0:
                    break
                dropped += size
        except OSError:
            pass

    def close(self) -> None:
        self.sock.close()

    def interrupt(self) -> None:
        """End the connection from another thread."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _timeval(seconds: int) -> bytes:
    return struct.pack("ll", seconds, 0)


def head_bytes(status: int, reason: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """An answer's head. A line break in a value would be somebody else's header: it is replaced."""
    lines = [f"HTTP/1.1 {status} {reason}"]
    lines += [f"{name}: {value}" for name, value in headers]
    text = "\r\n".join(lines)
    if text.count("\r") != len(lines) - 1 or text.count("\n") != len(lines) - 1:
        lines = [line.replace("\r", " ").replace("\n", " ") for line in lines]
        text = "\r\n".join(lines)
    return f"{text}\r\n\r\n".encode("latin-1", "replace")
