"""The wire: connections kept, early answers heard, broken ones told in words, never a URL in them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heavylift_client.errors import AnswerError, NetworkError, SourceChanged
from heavylift_client.transport import Transport, take_apart

MIB = 1 << 20
Answerer = Callable[[socket.socket], None]


@contextmanager
def listening(*answers: Answerer) -> Iterator[str]:
    """A server that meets each connection with the next answerer."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answer in answers:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                try:
                    answer(connection)
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/key?X-Amz-Signature=secret"
    finally:
        server.shutdown(socket.SHUT_RDWR)  # wakes accept
        server.close()
        thread.join(5)


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536)
    return head


def ok(connection: socket.socket) -> None:
    read_head(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


def read_on(connection: socket.socket) -> None:
    read_head(connection)
    while connection.recv(1000):
        pass


def ok_then_hang_up(connection: socket.socket) -> None:
    ok(connection)


def test_an_early_answer_is_heard(tmp_path: Path) -> None:
    """A refusal that comes while the body is being sent is returned, not lost in a broken pipe."""
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(64 * MIB)

    def refuse(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 3\r\n\r\nno!")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(MIB):
            pass

    sent: list[int] = []
    fd = os.open(path, os.O_RDONLY)
    try:
        with listening(refuse) as url:
            reply = Transport(timeout_s=10).put_range(url, {}, fd, 0, 64 * MIB, sent.append)
    finally:
        os.close(fd)

    assert (reply.status, reply.body) == (403, b"no!")
    assert sum(sent) < 64 * MIB


def test_an_idle_connection_that_was_closed_is_opened_anew() -> None:
    """A server may close what is idle; the next request does not notice."""
    transport = Transport(timeout_s=10)
    with listening(ok_then_hang_up, ok_then_hang_up) as url:
        assert transport.request("GET", url, {}).body == b"ok"
        assert transport.request("GET", url, {}).body == b"ok"
    transport.close()


@pytest.mark.parametrize(
    "answer",
    [
        lambda c: None,
        lambda c: (read_head(c), c.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")),
        lambda c: (read_head(c), c.sendall(b"garbage\r\n\r\n")),
        lambda c: (read_head(c), c.sendall(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n")),
    ],
    ids=["hang-up", "short", "garbage", "long header"],
)
def test_broken_answers_are_the_networks_fault(answer: Answerer) -> None:
    """Whatever is no whole answer is NetworkError, without the URL."""
    with listening(answer, answer) as url:
        for get in (
            lambda t: t.request("GET", url, {}),
            lambda t: t.get_range(url, {}, lambda data: None),
        ):
            with pytest.raises(NetworkError) as raised:
                get(Transport(timeout_s=10))
            assert "Signature" not in str(raised.value)


def test_silence_has_an_end() -> None:
    """A server that says nothing is given up after the time-out."""
    release = threading.Event()
    with listening(lambda c: (read_head(c), release.wait(10))[1] and None) as url:
        with pytest.raises(NetworkError, match=r"0\.2 s"):
            Transport(timeout_s=0.2).request("GET", url, {})
        release.set()


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    """Fewer bytes than announced: the connection is dropped, the file is to blame."""
    path = tmp_path / "short"
    path.write_bytes(b"x" * 100)
    fd = os.open(path, os.O_RDONLY)
    try:
        with listening(read_on) as url, pytest.raises(SourceChanged):
            Transport(timeout_s=5).put_range(url, {}, fd, 0, 200, lambda size: None)
    finally:
        os.close(fd)


def test_abort_wakes_who_waits() -> None:
    """A thread that waits for an answer ends at once."""
    transport = Transport(timeout_s=30)
    seen: list[Exception] = []
    asked, release = threading.Event(), threading.Event()

    def wait(connection: socket.socket) -> None:
        read_head(connection)
        asked.set()
        release.wait(10)

    def ask(url: str) -> None:
        try:
            transport.request("GET", url, {})
        except NetworkError as error:
            seen.append(error)

    with listening(wait) as url:
        thread = threading.Thread(target=ask, args=(url,))
        thread.start()
        asked.wait(10)
        transport.abort()
        thread.join(10)
        release.set()

    assert len(seen) == 1
    with pytest.raises(NetworkError):
        transport.request("GET", url, {})


@pytest.mark.parametrize(
    "url", ["", "ftp://x/y", "http://", "http://[x", "http://h:99999/", "http://h/a b", "http://h/ä"]
)
def test_urls_that_are_none(url: str) -> None:
    """Refused before anything is sent, and not quoted."""
    with pytest.raises(AnswerError):
        take_apart(url)
