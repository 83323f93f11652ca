"""The HTTP/1.1 server that the gateway, the Runtime API and the queue service share.

Loopback only, one thread per connection, keep-alive, and one flush per answer: headers and body written
apart wait 40 ms for each other under Nagle's algorithm and delayed acknowledgement.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOOPBACK = "127.0.0.1"
LINE_MAX = 65_536  # http.server's own limit for one line
CHUNK_LINE_MAX = 1024

logger = logging.getLogger(__name__)


class BodyTooLarge(Exception):
    """The request's body is over the limit; nothing more of it is read."""


class BadBody(Exception):
    """The request's body is framed wrongly or shorter than it says."""


class LoopbackServer(ThreadingHTTPServer):
    """Serves one handler class on 127.0.0.1; port 0 takes a free one.

    ``bind`` happens in the constructor, so the port is known (and taken) before anything is served.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, handler: type[Exchange], port: int = 0) -> None:
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False
        super().__init__((LOOPBACK, port), handler)

    def server_bind(self) -> None:
        # HTTPServer.server_bind asks the resolver for the host's name, which may take seconds.
        socket_server_bind(self)
        self.server_name, self.server_port = LOOPBACK, int(self.server_address[1])

    @property
    def port(self) -> int:
        return self.server_port

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}"

    def start(self, name: str) -> None:
        self._thread = threading.Thread(target=self._accept, name=name, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        """Blocks in accept, where ``serve_forever`` would wake up several times a second for each of many servers."""
        while not self._closing:
            try:
                request, address = self.get_request()
            except OSError:
                time.sleep(0.02)  # out of descriptors, or being stopped
                continue
            try:
                self.process_request(request, address)
            except Exception:  # noqa: BLE001 - the top of a server loop
                self.handle_error(request, address)
                self.shutdown_request(request)

    def stop(self) -> None:
        """Stops listening and cuts every open connection."""
        self._closing = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the accept
        except OSError:
            pass
        if self._thread is not None:
            self._thread.join(5)
        self.server_close()
        with self._open_lock:
            connections = list(self._open)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news; anything else is logged with its traceback."""
        if isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            return
        logger.exception("request handler failed")


def socket_server_bind(server: ThreadingHTTPServer) -> None:
    """``socketserver.TCPServer.server_bind`` without the name look-up of its HTTP child class."""
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.socket.bind(server.server_address)  # type: ignore[arg-type]
    server.server_address = server.socket.getsockname()


class Exchange(BaseHTTPRequestHandler):
    """One connection; subclasses write ``do_*``, read with ``read_body`` and answer with ``reply``."""

    protocol_version = "HTTP/1.1"
    server_version = "heavylift-local"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 300  # seconds a connection may idle between requests

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("%s %s", self.client_address[0], format % args)

    def handle_expect_100(self) -> bool:
        """The answer is buffered (wbufsize), so the 100 must be pushed out by hand."""
        proceed = super().handle_expect_100()
        self.wfile.flush()
        return proceed

    def read_body(self, size_max: int) -> bytes:
        """The whole body, at most ``size_max`` bytes. Raises BodyTooLarge or BadBody and gives up keep-alive then."""
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            return self._read_chunked(size_max)
        declared = self.headers.get("Content-Length")
        if declared is None:
            return b""
        if not declared.isascii() or not declared.isdigit():
            self.close_connection = True
            raise BadBody("Content-Length is no number")
        size = int(declared)
        if size > size_max:
            self.close_connection = True
            raise BodyTooLarge(size)
        body = self.rfile.read(size)
        if len(body) != size:
            self.close_connection = True
            raise BadBody(f"wanted {size} bytes, got {len(body)}")
        return body

    def _read_chunked(self, size_max: int) -> bytes:
        parts: list[bytes] = []
        total = 0
        while True:
            line = self.rfile.readline(CHUNK_LINE_MAX)
            try:
                size = int(line.split(b";", 1)[0].strip() or b"x", 16)
            except ValueError:
                self.close_connection = True
                raise BadBody("chunk size is no number") from None
            if size == 0:
                while self.rfile.readline(LINE_MAX) not in (b"\r\n", b"\n", b""):
                    pass
                return b"".join(parts)
            total += size
            if total > size_max:
                self.close_connection = True
                raise BodyTooLarge(total)
            chunk = self.rfile.read(size)
            if len(chunk) != size or self.rfile.readline(3) not in (b"\r\n", b"\n"):
                self.close_connection = True
                raise BadBody("chunk is shorter than it says")
            parts.append(chunk)

    def reply(
        self,
        status: int,
        body: bytes = b"",
        content_type: str | None = "application/json",
        headers: Mapping[str, str] | None = None,
        cookies: tuple[str, ...] = (),
    ) -> None:
        """One answer. A body is never sent after HEAD, 204 or 304."""
        self.send_response(status)
        if content_type is not None and body:
            self.send_header("Content-Type", content_type)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        for cookie in cookies:
            self.send_header("Set-Cookie", cookie)
        bodiless = status in (204, 304) or 100 <= status < 200
        if not bodiless:
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if body and not bodiless and self.command != "HEAD":
            self.wfile.write(body)

    def reply_json(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        self.reply(status, json.dumps(value, separators=(",", ":")).encode(), headers=headers)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server refuses by itself (bad request line, too long headers), in the gateway's own shape."""
        self.close_connection = True
        # Set by parse_request only when it got that far.
        if not hasattr(self, "request_version"):
            self.request_version = "HTTP/1.1"
        if not getattr(self, "command", None):
            self.command = ""
        phrase = self.responses.get(code, ("Error", ""))[0]
        self.reply_json(code, {"message": phrase})
