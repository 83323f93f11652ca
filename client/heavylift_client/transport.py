"""All network I/O of the client: persistent connections, ranges of files out, ranges of objects in.

As many connections to a host as there are requests at the same time. Nothing here decides what an answer means, and no
message holds a URL: a presigned one is a key to the object.
"""

from __future__ import annotations

import errno
import http.client
import os
import re
import select
import socket
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heavylift_client.errors import AnswerError, ClientError, NetworkError, SourceChanged, SourceError

if TYPE_CHECKING:
    import ssl

TIMEOUT_S = 60.0  # for one send or receive, not for a whole part
SENDFILE_BYTES = 1 << 20  # between two looks at whether the server already answered
BUFFER_BYTES = 256 << 10
HEADER_LINE_MAX_BYTES = 65_536
HEADER_FIELDS_MAX = 100
BODY_MAX_BYTES = 32 << 20  # an API answer of 1,000 signed parts is about 2 MB
# sendfile's own trouble with a file system, after which reading and sending still works.
NO_SENDFILE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
FILE_TROUBLE = frozenset({errno.EIO, errno.ESTALE, errno.EISDIR})

NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f]")

Progress = Callable[[int], None]
"""Called with bytes as they go over the wire."""
Sink = Callable[[memoryview], None]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that was read to its end; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(slots=True)
class Target:
    """A URL taken apart."""

    scheme: str
    host: str
    port: int
    path: str = field(repr=False)


def take_apart(url: str) -> Target:
    """Raises AnswerError for what is no http(s) URL."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise AnswerError("a URL cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AnswerError("a URL is not http or https")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or NOT_IN_A_URL.search(path):
        raise AnswerError("a URL holds characters that it may not")
    return Target(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), path)


class _Headers(dict[str, str]):
    """Header fields by lower-case name; the values of a repeated one are joined (RFC 9110, 5.3)."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class _Response(http.client.HTTPResponse):
    """An answer whose header is split by hand: the standard library parses it as an e-mail, which costs more than all
    the rest of a small PUT."""

    def begin(self) -> None:
        """Read status and header. Raises HTTPException as the class it stands for."""
        if self.headers is not None:
            return
        while True:
            version, status, reason = self._read_status()
            fields = self._fields()
            if status >= 200:
                break  # 1xx only announces the answer
        self.code = self.status = status
        self.reason = reason.strip()
        if version not in ("HTTP/1.0", "HTTP/1.1"):
            raise http.client.UnknownProtocol(version)
        self.version = 11 if version == "HTTP/1.1" else 10
        self.headers = self.msg = fields
        self.chunked = str(fields.get("transfer-encoding", "")).lower() == "chunked"
        self.chunk_left = None
        self.will_close = self._check_close()
        length = fields.get("content-length")
        self.length = int(length) if length is not None and length.isdecimal() and not self.chunked else None
        if status in (204, 304) or self._method == "HEAD":
            self.length = 0
        if not self.will_close and not self.chunked and self.length is None:
            self.will_close = True

    def _fields(self) -> _Headers:
        fields = _Headers()
        while True:
            line = self.fp.readline(HEADER_LINE_MAX_BYTES + 1)
            if len(line) > HEADER_LINE_MAX_BYTES or len(fields) > HEADER_FIELDS_MAX:
                raise http.client.HTTPException("the header of an answer is too large")
            if line in (b"\r\n", b"\n"):
                return fields
            if not line:
                raise http.client.IncompleteRead(b"")
            name, _, value = line.decode("iso-8859-1").partition(":")
            name, value = name.strip().lower(), value.strip()
            known = super(_Headers, fields).get(name)
            fields[name] = value if known is None else f"{known}, {value}"


class Transport:
    """Connections of all threads of one client. Thread-safe; ``abort`` may come from any thread."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S, ssl_context: ssl.SSLContext | None = None) -> None:
        self._timeout_s = timeout_s
        self._ssl_context = ssl_context
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: set[http.client.HTTPConnection] = set()
        self._idle: dict[tuple[str, str, int], list[http.client.HTTPConnection]] = {}
        self._aborted = False

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """One request with a small body, one answer in memory. Raises NetworkError."""
        target = take_apart(url)
        while True:
            connection, reused = self._connection(target)
            try:
                self._head(connection, method, target, headers, len(body) if body or method != "GET" else None)
                if body:
                    connection.send(body)
                return self._answer(connection, target)
            except ClientError:
                self._drop(connection)
                raise
            except (OSError, http.client.HTTPException) as error:
                self._drop(connection)
                # A server may close an idle connection just as we use it: that says nothing about the request.
                if not (reused and isinstance(error, (ConnectionError, http.client.RemoteDisconnected))):
                    raise self._network_error(error) from None

    def put_range(
        self, url: str, headers: Mapping[str, str], fd: int, offset: int, size: int, on_bytes: Progress
    ) -> Reply:
        """PUT ``size`` bytes of ``fd`` from ``offset``, never more than 1 MiB of them in memory.

        Raises NetworkError; SourceChanged if the file ends early. An answer that comes before the body is
        sent (an expired URL) is read and returned.
        """
        target = take_apart(url)
        connection, _ = self._connection(target)
        try:
            self._head(connection, "PUT", target, headers, size)
            sock = connection.sock
            if sock is None:
                raise ConnectionError("the connection is closed")
            complete = False
            try:
                if target.scheme == "http":
                    complete = self._sendfile(sock, fd, offset, size, on_bytes)
                else:
                    self._send_by_buffer(sock, fd, offset, size, on_bytes)
                    complete = True
            except (BrokenPipeError, ConnectionResetError):
                pass  # it may have answered before it hung up: look
            return self._answer(connection, target, reusable=complete)
        except ClientError:
            self._drop(connection)  # half a body is on the wire
            raise
        except (OSError, http.client.HTTPException) as error:
            self._drop(connection)
            raise self._network_error(error) from None

    def get_range(self, url: str, headers: Mapping[str, str], sink: Sink) -> Reply:
        """GET; the bytes of a 200 or 206 go to ``sink`` in pieces, of any other answer into the reply's body.

        Raises NetworkError, also when fewer bytes come than were announced.
        """
        target = take_apart(url)
        connection, _ = self._connection(target)
        try:
            self._head(connection, "GET", target, headers, None)
            response = connection.getresponse()
            if response.status not in (200, 206):
                return self._read(connection, response, target)
            buffer = memoryview(self._buffer())
            left = response.length
            while left is None or left:
                got = response.readinto(buffer)
                if not got:
                    break
                left = None if left is None else left - got
                sink(buffer[:got])
            if left:
                raise ConnectionError(f"the answer ended {left} bytes early")
            self._done(connection, target, not response.will_close)
            return Reply(response.status, _lower(response))
        except ClientError:
            self._drop(connection)
            raise
        except (OSError, http.client.HTTPException) as error:
            self._drop(connection)
            raise self._network_error(error) from None

    def abort(self) -> None:
        """Cut all connections, of all threads; whatever waits on one raises NetworkError."""
        with self._lock:
            self._aborted = True
            connections = list(self._open)
        for connection in connections:
            sock = connection.sock
            if sock is not None:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self) -> None:
        """Close all connections; to be called once the threads that use them are done."""
        with self._lock:
            connections = list(self._open)
            self._open.clear()
            self._idle.clear()
        for connection in connections:
            connection.close()

    # connections

    def _connection(self, target: Target) -> tuple[http.client.HTTPConnection, bool]:
        """A connection for one request, and whether it was used before: the one that was idle for the shortest time,
        so that there are never more of them than requests at the same time."""
        while (connection := self._idle_one(target)) is not None:
            if connection.sock is not None and not _hung_up(connection.sock):
                return connection, True
            self._drop(connection)
        if target.scheme == "https":
            connection = http.client.HTTPSConnection(
                target.host, target.port, timeout=self._timeout_s, context=self._ssl_context
            )
        else:
            connection = http.client.HTTPConnection(target.host, target.port, timeout=self._timeout_s)
        connection.response_class = _Response
        with self._lock:
            if self._aborted:
                raise NetworkError("the connections were closed")
            self._open.add(connection)
        return connection, False

    def _idle_one(self, target: Target) -> http.client.HTTPConnection | None:
        with self._lock:
            idle = self._idle.get((target.scheme, target.host, target.port))
            return idle.pop() if idle else None

    def _keep(self, connection: http.client.HTTPConnection, target: Target) -> None:
        """The request is over and the connection can carry another."""
        with self._lock:
            self._idle.setdefault((target.scheme, target.host, target.port), []).append(connection)

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        with self._lock:
            self._open.discard(connection)

    # the wire

    def _head(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: Target,
        headers: Mapping[str, str],
        size: int | None,
    ) -> None:
        connection.putrequest(method, target.path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if size is not None:
            connection.putheader("content-length", str(size))
        connection.endheaders()

    def _answer(self, connection: http.client.HTTPConnection, target: Target, *, reusable: bool = True) -> Reply:
        return self._read(connection, connection.getresponse(), target, reusable=reusable)

    def _read(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        target: Target,
        *,
        reusable: bool = True,
    ) -> Reply:
        body = response.read(BODY_MAX_BYTES + 1)
        if len(body) > BODY_MAX_BYTES:
            raise AnswerError(f"an answer is larger than {BODY_MAX_BYTES} bytes")
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        reply = Reply(response.status, _lower(response), body)
        self._done(connection, target, reusable and not response.will_close)
        return reply

    def _done(self, connection: http.client.HTTPConnection, target: Target, reusable: bool) -> None:
        if reusable:
            self._keep(connection, target)
        else:
            self._drop(connection)

    def _sendfile(self, sock: socket.socket, fd: int, offset: int, size: int, on_bytes: Progress) -> bool:
        """True when all bytes went out; False when the server answered before that."""
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLOUT)
        end = offset + size
        while offset < end:
            events = poll.poll(self._timeout_s * 1000)
            if not events:
                raise TimeoutError("the store takes no more bytes")
            if events[0][1] & ~select.POLLOUT:
                return False
            try:
                sent = os.sendfile(sock.fileno(), fd, offset, min(SENDFILE_BYTES, end - offset))
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in NO_SENDFILE:
                    self._send_by_buffer(sock, fd, offset, end - offset, on_bytes)
                    return True
                if error.errno in FILE_TROUBLE:
                    raise SourceError("source_unreadable", f"the file cannot be read: {error.strerror}") from None
                raise
            if not sent:
                raise SourceChanged(f"the file ends at byte {offset}, where {end} were expected")
            offset += sent
            on_bytes(sent)
        return True

    def _send_by_buffer(self, sock: socket.socket, fd: int, offset: int, size: int, on_bytes: Progress) -> None:
        buffer = memoryview(self._buffer())
        end = offset + size
        while offset < end:
            try:
                got = os.preadv(fd, [buffer[: min(len(buffer), end - offset)]], offset)
            except OSError as error:
                raise SourceError("source_unreadable", f"the file cannot be read: {error.strerror}") from None
            if not got:
                raise SourceChanged(f"the file ends at byte {offset}, where {end} were expected")
            sock.sendall(buffer[:got])
            offset += got
            on_bytes(got)

    def _buffer(self) -> bytearray:
        buffer: bytearray | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = bytearray(BUFFER_BYTES)
        return buffer

    def _network_error(self, error: Exception) -> ClientError:
        import ssl  # already loaded by http.client; here only to name one of its errors

        if isinstance(error, ssl.SSLCertVerificationError):
            return ClientError("certificate", f"the server's certificate is not trusted: {error.verify_message}")
        if isinstance(error, http.client.InvalidURL):
            return AnswerError("a URL cannot be used")
        if isinstance(error, socket.gaierror):
            return NetworkError("the host's name does not resolve")
        if isinstance(error, TimeoutError):
            return NetworkError(f"nothing moved for {self._timeout_s:g} s")
        if isinstance(error, ConnectionRefusedError):
            return NetworkError("the connection was refused")
        if isinstance(error, http.client.RemoteDisconnected):
            return NetworkError("the server closed the connection without an answer")
        if isinstance(error, OSError) and error.strerror:
            return NetworkError(error.strerror.lower())
        return NetworkError(f"the connection broke ({type(error).__name__})")


def _lower(response: http.client.HTTPResponse) -> dict[str, str]:
    return dict(response.headers.items())


def _hung_up(sock: socket.socket) -> bool:
    """An idle connection with something to read has been closed by the other side (or is out of step)."""
    try:
        if hasattr(sock, "pending") and sock.pending():
            return True
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True
