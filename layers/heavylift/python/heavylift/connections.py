"""HTTP/1.1 over kept connections: whole requests out, whole answers in. Stdlib only.

Facts: RFC 9112 (message syntax, 6.3 how a body's length is told, 7.1 chunks), RFC 9110 (9.2.2 idempotent methods). What
is sent here may be sent twice, so a kept connection that the other side has closed meanwhile is opened anew without a
word. Memory: the answer's body twice while it is put together.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

HEAD_BYTES_MAX = 64 * 1024
RECV_BYTES = 64 * 1024
IDLE_S_MAX = 15.0  # S3 closes connections that have been idle for about 20 s, and a sandbox may sleep in between


class Broken(OSError):
    """The connection ended, or what came over it is no answer. ``began``: after the answer had begun."""

    def __init__(self, what: str, *, began: bool) -> None:
        super().__init__(what)
        self.began = began


@dataclass(frozen=True, slots=True)
class Answer:
    """``headers`` by their names in lower case; of a repeated one the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for the handshakes, and for each wait for bytes."""

    connect_s: float
    read_s: float


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)


class Connection:
    """One connection to ``host`` (with its port, if it is not the scheme's own). OSError, Broken."""

    def __init__(self, scheme: str, host: str, timeouts: Timeouts) -> None:
        name, _, port = host.rpartition(":") if host.rpartition(":")[2].isdigit() else (host, "", "")
        number = int(port) if port else 443 if scheme == "https" else 80
        plain = socket.create_connection((name.strip("[]"), number), timeouts.connect_s)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = _tls().wrap_socket(plain, server_hostname=name) if scheme == "https" else plain
        except OSError:
            plain.close()
            raise
        self._socket.settimeout(timeouts.read_s)
        self._held = b""
        self.used_at = time.monotonic()
        self.fresh = True

    def exchange(self, head: bytes, body: bytes | bytearray, *, bodiless: bool) -> tuple[Answer, bool]:
        """(answer, whether the connection can be kept). ``bodiless``: the answer to a HEAD."""
        if len(body) <= RECV_BYTES:
            self._socket.sendall(head + body)
        else:
            self._socket.sendall(head)
            self._socket.sendall(body)
        status, headers = self._head()
        while 100 <= status < 200:
            status, headers = self._head()
        keep = headers.get("connection", "").lower() != "close"
        if bodiless or status in {204, 304}:
            content = b""
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            content = self._chunks()
        elif "content-length" in headers:
            content = self._exactly(_length(headers["content-length"]))
        else:
            content, keep = self._rest(), False
        self.used_at, self.fresh = time.monotonic(), False
        return Answer(status, headers, content), keep and not self._held

    def close(self) -> None:
        self._socket.close()

    def _receive(self, *, began: bool = True) -> bytes:
        try:
            data = self._socket.recv(RECV_BYTES)
        except TimeoutError:
            raise
        except OSError as error:
            raise Broken(f"the connection broke: {type(error).__name__}", began=began) from error
        if not data:
            raise Broken("the other side hung up", began=began)
        return data

    def _head(self) -> tuple[int, dict[str, str]]:
        held = self._held
        while (end := held.find(b"\r\n\r\n")) < 0:
            if len(held) > HEAD_BYTES_MAX:
                raise Broken("the answer's head has no end", began=True)
            held += self._receive(began=bool(held))
        self._held = held[end + 4 :]
        lines = held[:end].decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise Broken("this is no answer in HTTP/1.1", began=True)
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if version == "HTTP/1.0":
            headers.setdefault("connection", "close")
        return int(rest[:3]), headers

    def _exactly(self, length: int) -> bytes:
        held = self._held
        if len(held) >= length:
            self._held = held[length:]
            return held[:length]
        body = bytearray(length)
        body[: len(held)] = held
        self._held = b""
        view, got = memoryview(body), len(held)
        while got < length:
            try:
                more = self._socket.recv_into(view[got:])
            except TimeoutError:
                raise
            except OSError as error:
                raise Broken(f"the connection broke: {type(error).__name__}", began=True) from error
            if not more:
                raise Broken(f"the body ended after {got} of {length} bytes", began=True)
            got += more
        return bytes(body)

    def _line(self) -> bytes:
        while (end := self._held.find(b"\r\n")) < 0:
            if len(self._held) > HEAD_BYTES_MAX:
                raise Broken("a chunk's line has no end", began=True)
            self._held += self._receive()
        line, self._held = self._held[:end], self._held[end + 2 :]
        return line

    def _chunks(self) -> bytes:
        pieces = []
        while True:
            try:
                size = int(self._line().partition(b";")[0], 16)
            except ValueError:
                raise Broken("a chunk has no size", began=True) from None
            if size == 0:
                break
            pieces.append(self._exactly(size))
            self._line()
        while self._line():
            pass  # trailers
        return b"".join(pieces)

    def _rest(self) -> bytes:
        pieces, self._held = [self._held], b""
        while True:
            data = self._socket.recv(RECV_BYTES)
            if not data:
                return b"".join(pieces)
            pieces.append(data)


def _length(text: str) -> int:
    if not text.isdecimal():
        raise Broken("the body's length is none", began=True)
    return int(text)


class Pool:
    """Kept connections by host; safe to share between threads, each of which has a connection for itself."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._idle: dict[tuple[str, str], list[Connection]] = {}

    def ask(
        self,
        method: str,
        scheme: str,
        host: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | bytearray = b"",
    ) -> Answer:
        """One request and its answer. OSError (TimeoutError among them), Broken."""
        lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers.items()]]
        if body or method in {"PUT", "POST"}:
            lines.append(f"content-length: {len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        idle = self._idle.setdefault((scheme, host), [])
        while True:
            connection = self._kept(idle) or Connection(scheme, host, self._timeouts)
            try:
                answer, keep = connection.exchange(head, body, bodiless=method == "HEAD")
            except TimeoutError:
                connection.close()
                raise
            except OSError as error:
                connection.close()
                # A kept connection that ends before its answer begins was closed while nobody looked.
                if connection.fresh or (isinstance(error, Broken) and error.began):
                    raise
                continue
            if keep:
                idle.append(connection)
            else:
                connection.close()
            return answer

    @staticmethod
    def _kept(idle: list[Connection]) -> Connection | None:
        """The connection that was used last, if it is young enough."""
        while idle:
            try:
                connection = idle.pop()
            except IndexError:  # another thread was faster
                return None
            if time.monotonic() - connection.used_at < IDLE_S_MAX:
                return connection
            connection.close()
        return None
