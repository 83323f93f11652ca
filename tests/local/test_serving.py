"""The shared server frames bodies rightly, keeps its limits and lets go of every connection at the end."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from heavylift_local.serving import BadBody, BodyTooLarge, Exchange, LoopbackServer


class Echo(Exchange):
    def do_POST(self) -> None:
        try:
            body = self.read_body(1000)
        except BodyTooLarge as error:
            self.reply_json(413, {"size": error.args[0]})
        except BadBody as error:
            self.reply_json(400, {"bad": str(error)})
        else:
            self.reply(200, body, "application/octet-stream")

    def do_HEAD(self) -> None:
        self.reply(200, b"not sent", "text/plain")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    made = LoopbackServer(Echo)
    made.start("echo")
    yield made
    made.stop()


def talk(server: LoopbackServer, sent: bytes) -> bytes:
    """All that comes back until the server closes, after our side is closed."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def test_only_loopback_is_listened_on(server: LoopbackServer) -> None:
    """Nobody else's machine can reach it."""
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_chunked_body_is_put_together(server: LoopbackServer) -> None:
    """Extensions and trailers are skipped."""
    sent = (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\n"
    )

    assert talk(server, sent).endswith(b"\r\n\r\nabcde")


def test_two_requests_on_one_connection(server: LoopbackServer) -> None:
    """The first body ends where its length says."""
    one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"

    assert talk(server, one + one.replace(b"abc", b"xyz")).count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (b"Content-Length: 1001", b"x" * 1001, b"413"),
        (b"Transfer-Encoding: chunked", b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n", b"413"),
        (b"Content-Length: x", b"", b"400"),
        (b"Content-Length: -1", b"", b"400"),
        (b"Content-Length: 10", b"short", b"400"),
        (b"Transfer-Encoding: chunked", b"zz\r\n", b"400"),
        (b"Transfer-Encoding: chunked", b"5\r\nabc", b"400"),
    ],
)
def test_bad_bodies_are_refused_and_the_connection_ends(
    server: LoopbackServer, head: bytes, body: bytes, status: bytes
) -> None:
    """What follows a body of unknown length must not be read as a request."""
    answer = talk(server, b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + body)

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_expect_100_is_answered_before_the_body(server: LoopbackServer) -> None:
    """A client that waits for the 100 gets it at once."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        first = connection.recv(1000)
        connection.sendall(b"abc")
        second = connection.recv(1000)

    assert first.startswith(b"HTTP/1.1 100")
    assert second.startswith(b"HTTP/1.1 200")


def test_head_has_no_body(server: LoopbackServer) -> None:
    """But the length of what GET would send."""
    answer = talk(server, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")

    assert b"Content-Length: 8" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_nonsense_gets_an_answer_in_json(server: LoopbackServer) -> None:
    """Also what http.server refuses by itself."""
    answer = talk(server, b"\x16\x03\x01 nonsense\r\n\r\n")

    assert b'{"message":"Bad Request"}' in answer


def test_stop_cuts_open_connections() -> None:
    """A client that keeps its connection cannot hold the server back."""
    made = LoopbackServer(Echo)
    made.start("echo")
    with socket.create_connection(("127.0.0.1", made.port), 10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        made.stop()
        assert connection.recv(1000) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", made.port), 1)
