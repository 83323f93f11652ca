"""Peers that do not mean well, or do not do well: bounded time, bounded memory, and the server lives on."""

import base64
import hashlib
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from heavylift_local.s3 import testing
from heavylift_local.s3.testing import RunningS3, peak_kib, presign, send, start_process

MIB = 1024**2
MEMORY_KIB_MAX = 100 * 1024
LIMITS = {"stall_s": 1, "idle_s": 1, "body_bytes_per_s_min": 100_000}


def talk(port: int, *pieces: bytes, end: bool = False, timeout: float = 60) -> bytes:
    """What comes back until the server ends the connection; it may end it while we still send."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
        try:
            for piece in pieces:
                sock.sendall(piece)
            if end:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answer = b""
        try:
            while block := sock.recv(65536):
                answer += block
        except ConnectionResetError:
            pass
        return answer


def head(url: str, method: str = "PUT", *headers: str) -> bytes:
    parts = urlsplit(url)
    lines = [f"{method} {parts.path}?{parts.query} HTTP/1.1", f"Host: {parts.netloc}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def drip(port: int, start: bytes, piece: bytes, every_s: float, most: int = 200) -> tuple[bytes, float]:
    """*piece* again and again until the server has had enough; (its answer, seconds)."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=every_s) as sock:
        sock.sendall(start)
        answer = b""
        for _ in range(most):
            try:
                block = sock.recv(65536)
            except TimeoutError:
                block = None
            except OSError:
                break
            if block == b"":
                break
            answer += block or b""
            try:
                sock.sendall(piece)
            except OSError:
                break
        return answer, time.monotonic() - began


def test_a_body_that_trickles_is_ended(tmp_path: Path) -> None:
    """A byte now and then keeps no place: 400 RequestTimeout, nothing stored."""
    with testing.running_s3(tmp_path, limits=LIMITS) as s3:
        url = s3.presign("PUT", "/staging/k")
        answer, seconds = drip(s3.port, head(url, "PUT", "Content-Length: 1000000"), b"x", 0.1)
        assert b"<Code>RequestTimeout</Code>" in answer
        assert seconds < 15
        chunked = head(url, "PUT", "Content-Length: 1000000")
        assert b"RequestTimeout" in talk(s3.port, chunked + b"abc")  # and one that just stops
        assert s3.client().list_objects_v2(Bucket="staging")["KeyCount"] == 0


def test_a_head_that_trickles_is_ended(tmp_path: Path) -> None:
    """The same for a head, and for a connection that says nothing."""
    with testing.running_s3(tmp_path, limits=LIMITS) as s3:
        answer, _ = drip(s3.port, b"GET / HTTP/1.1\r\n", b"a: b\r\n", 0.1)
        assert b"<Code>RequestTimeout</Code>" in answer
        assert talk(s3.port) == b""


def test_a_reader_that_does_not_read_is_ended(tmp_path: Path) -> None:
    """A large answer that nobody takes: the connection ends, and its place is free again."""
    with testing.running_s3(tmp_path, limits={**LIMITS, "connections_max": 2}) as s3:
        s3.client().put_object(Bucket="staging", Key="k", Body=bytes(16 * MIB))
        request = head(s3.presign("GET", "/staging/k"), "GET")
        stuck = []
        for _ in range(2):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", s3.port))
            sock.sendall(request)
            stuck.append(sock)
        assert send(s3.presign("GET", "/staging?list-type=2")).status == 200
        for sock in stuck:
            sock.close()


def test_requests_in_one_go(s3: RunningS3, client: Any) -> None:
    """Pipelined requests are answered in order, each once, whatever their outcome."""
    put = s3.presign("PUT", "/staging/k")
    get = s3.presign("GET", "/staging/k")
    many = [head(put, "PUT", "Content-Length: 3") + b"abc", head(get, "GET"), head(get + "0", "GET")] * 20
    answer = talk(s3.port, b"".join(many), head(get, "GET", "Connection: close"))
    statuses = [line.split()[1] for line in answer.split(b"HTTP/1.1 ") for line in [b"x " + line] if line != b"x "]
    assert statuses == [b"200", b"200", b"403"] * 20 + [b"200"]


def test_garbage_behind_a_request_is_a_request_of_its_own(s3: RunningS3) -> None:
    """More bytes than Content-Length are not part of the object: 200, then 400 and the end."""
    url = s3.presign("PUT", "/staging/k")
    answer = talk(s3.port, head(url, "PUT", "Content-Length: 3") + b"abcGARBAGE\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400 " in answer
    assert s3.client().get_object(Bucket="staging", Key="k")["Body"].read() == b"abc"


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["X-A: " + "a" * 40_000], b"RequestHeaderSectionTooLarge"),
        ([f"X-{n}: a" for n in range(300)], b"RequestHeaderSectionTooLarge"),
        (["Content-Length: 99999999999999999999"], b"BadRequest"),
        (["Content-Length: 9223372036854775807"], b"EntityTooLarge"),
        (["Content-Length: +3"], b"BadRequest"),
        (["Content-Length: 3, 3"], b"BadRequest"),
        (["Host: a", "Host: b"], b"BadRequest"),
        (["A b: c"], b"BadRequest"),
        (["Transfer-Encoding: gzip"], b"NotImplemented"),
    ],
)
def test_heads_that_are_none(s3: RunningS3, lines: list[str], code: bytes) -> None:
    """S3's code, and the end of the connection."""
    answer = talk(s3.port, head(s3.presign("PUT", "/staging/k"), "PUT", *lines), end=True)
    assert b"<Code>" + code + b"</Code>" in answer


def test_half_closed_connections(s3: RunningS3) -> None:
    """Who says that nothing more comes still gets the whole answer."""
    s3.client().put_object(Bucket="staging", Key="k", Body=bytes(MIB))
    answer = talk(s3.port, head(s3.presign("GET", "/staging/k"), "GET"), end=True)
    assert answer.endswith(b"\r\n\r\n" + bytes(MIB))


def test_resets_are_nobodys_problem(s3: RunningS3) -> None:
    """A peer that resets in a head, a body or an answer leaves nothing behind."""
    s3.client().put_object(Bucket="staging", Key="big", Body=bytes(8 * MIB))
    starts = [
        b"PUT /staging/k HT",
        head(s3.presign("PUT", "/staging/k"), "PUT", "Content-Length: 1000000") + bytes(1000),
        head(s3.presign("GET", "/staging/big"), "GET"),
    ]
    for start in starts * 5:
        sock = socket.create_connection(("127.0.0.1", s3.port))
        sock.sendall(start)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    assert s3.client().list_objects_v2(Bucket="staging")["KeyCount"] == 1


XML = b"<Delete><Object><Key>"


def bombs(sign: Any) -> list[tuple[str, bytes]]:
    """(name, whole request) of everything that could be made to grow."""
    delete, tag = sign("POST", "/staging?delete"), sign("PUT", "/staging/k?tagging")
    policy, life = sign("PUT", "/staging?policy"), sign("PUT", "/staging?lifecycle")
    entities = b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "' + b"&a;" * 1000 + b'">]><Delete>&b;</Delete>'
    bodies = {
        "entities": (delete, entities),
        "a long text": (delete, XML + b"a" * 8_000_000),
        "deep": (delete, b"<Delete>" + b"<a>" * 1_000_000),
        "many": (delete, b"<Delete>" + b"<Object><Key>k</Key></Object>" * 250_000),
        "attributes": (delete, b"<Delete " + b"".join(b'a%d="" ' % n for n in range(500_000)) + b">"),
        "too long": (delete, b"<Delete>" + b" " * 9_000_000),
        "tags": (tag, b"<Tagging><TagSet>" + b"<Tag><Key>a</Key><Value>b</Value></Tag>" * 26_000),
        "rules": (life, b"<LifecycleConfiguration>" + b"<Rule><ID>a</ID></Rule>" * 45_000),
        "policy": (policy, b"[" * 20_000),
        "large policy": (policy, b" " * 5_000_000),
    }
    requests = []
    for name, (url, body) in bodies.items():
        digest = f"Content-MD5: {base64.b64encode(hashlib.md5(body).digest()).decode()}"
        method = "POST" if url == delete else "PUT"
        start = head(url, method, f"Content-Length: {len(body)}", digest, "Connection: close")
        requests.append((name, start + body))
    form = b"POST /staging HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    for name, body in {
        "form field": b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\n' + b"a" * 5_000_000,
        "form head": b"--b\r\nContent-Disposition: " + b"a" * 5_000_000,
        "form preamble": b"a" * 5_000_000,
        "form fields": b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 50_000,
    }.items():
        requests.append((name, form + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body))
    requests.append(
        ("query", f"GET /staging?{'a=b&' * 7000} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    )
    requests.append(
        ("local", b"PUT /_local/faults HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n" + bytes(MIB))
    )
    return requests


@pytest.mark.memory
def test_nothing_that_is_sent_makes_it_grow(tmp_path: Path) -> None:
    """Every request shape that could be made to grow, three times over, last all at once: refused, and under 100 MB."""
    process, port = start_process(tmp_path)
    try:
        endpoint = f"http://127.0.0.1:{port}"
        for _ in range(2):
            for name, request in bombs(lambda method, path: presign(endpoint, method, path)):
                answer = talk(port, request)
                assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 501"), name
        threads = [
            threading.Thread(target=talk, args=(port, request))
            for _, request in bombs(lambda method, path: presign(endpoint, method, path))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert send(presign(endpoint, "GET", "/staging?list-type=2")).status == 200
        assert peak_kib(process.pid) < MEMORY_KIB_MAX
    finally:
        process.terminate()
        assert process.wait(20) == 0
