"""What no SDK sends: requests by hand, over http.client and over bare sockets."""

from __future__ import annotations

import base64
import hashlib
import socket
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
import pytest

from heavylift_local.s3.testing import send
from tests.conformance.target import Target


def exchange(target: Target, data: bytes, *, finish: bool = False) -> bytes:
    """Everything the server says to *data* until it closes or falls silent for two seconds."""
    address = urlsplit(target.endpoint)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as sock:
        sock.sendall(data)
        if finish:
            sock.shutdown(socket.SHUT_WR)
        sock.settimeout(2)
        said = b""
        try:
            while block := sock.recv(65536):
                said += block
        except (TimeoutError, ConnectionResetError):
            pass
        return said


def test_unsigned_requests_are_refused(target: Target, s3: Any, bucket: str) -> None:
    """Reads, writes, lists and deletions without a signature."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"secret")
    for method, path in (("GET", "k"), ("PUT", "k"), ("DELETE", "k"), ("GET", ""), ("POST", "k?uploads")):
        body = b"" if method in ("PUT", "POST") else None
        assert send(f"{target.endpoint}/{bucket}/{path}", method, body).refusal == (403, "AccessDenied")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"secret"


def test_header_signatures(target: Target, bucket: str) -> None:
    """Right; wrong secret; an x-amz-* header put on after signing; a signed header changed."""
    path = f"/{bucket}/k"
    assert target.send("PUT", path, b"body").status == 200
    wrong = Target(target.name, target.endpoint, target.access_key, "another secret")
    assert wrong.send("GET", path).refusal == (403, "SignatureDoesNotMatch")
    nobody = Target(target.name, target.endpoint, "AKIANOBODYNOBODY", "x")
    assert nobody.send("GET", path).refusal == (403, "InvalidAccessKeyId")
    added = target.send("PUT", path, b"body", unsigned={"x-amz-storage-class": "STANDARD_IA"})
    assert added.refusal == (403, "AccessDenied")
    changed = target.send("PUT", path, b"body", {"content-type": "a/b"}, unsigned={"Content-Type": "c/d"})
    assert changed.refusal == (403, "SignatureDoesNotMatch")


def test_the_signed_payload_is_checked(target: Target, s3: Any, bucket: str) -> None:
    """x-amz-content-sha256 must be the body's; what does not fit is not stored."""
    path = f"/{bucket}/k"
    answer = target.send("PUT", path, b"body", sent=b"ydob")
    assert answer.refusal == (400, "XAmzContentSHA256Mismatch")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (("X-Amz-Signature=", "X-Amz-Signature=0"), 403, "SignatureDoesNotMatch"),
        (("X-Amz-Expires=300", "X-Amz-Expires=301"), 403, "SignatureDoesNotMatch"),
        (("X-Amz-Expires=300", "X-Amz-Expires=604801"), 400, "AuthorizationQueryParametersError"),
        (("X-Amz-Expires=300", "X-Amz-Expires=soon"), 400, "AuthorizationQueryParametersError"),
        (("&X-Amz-Expires=300", ""), 400, "AuthorizationQueryParametersError"),
        (("aws4_request", "aws5_request"), 400, "AuthorizationQueryParametersError"),
        (("AWS4-HMAC-SHA256", "AWS4-HMAC-MD5"), 400, "AuthorizationQueryParametersError"),
        (("&X-Amz-SignedHeaders=host", "&X-Amz-SignedHeaders=host&acl"), 403, "SignatureDoesNotMatch"),
    ],
    ids=["signature", "expires", "a week", "no number", "no expiry", "scope", "algorithm", "sub-resource"],
)
def test_presigned_urls_that_were_meddled_with(
    target: Target, s3: Any, bucket: str, change: tuple[str, str], status: int, code: str
) -> None:
    """Not one of them reads the object. (An unknown sub-resource is refused as such before or after its signature.)"""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = target.presign("GET", f"/{bucket}/k")
    assert send(url).status == 200
    answer = send(url.replace(*change))
    assert answer.refusal == (status, code)


def test_an_old_url_has_expired(target: Target, s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL that was good for a second, a day ago."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    now = datetime.now(UTC)
    with monkeypatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: now - timedelta(days=1))
        url = target.presign("GET", f"/{bucket}/k", expires=1)
    answer = send(url)
    assert answer.refusal == (403, "AccessDenied")
    assert b"Request has expired" in answer.body


def test_ranges(target: Target, s3: Any, bucket: str) -> None:
    """One range is 206; several, reversed or malformed ones are ignored; beyond the end is 416."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    path = f"/{bucket}/k"
    for text, wanted in (
        ("0-0", b"0"),
        ("3-5", b"345"),
        ("7-", b"789"),
        ("-2", b"89"),
        ("8-100", b"89"),
        ("-100", b"0123456789"),
    ):
        answer = target.send("GET", path, headers={"range": f"bytes={text}"})
        assert (answer.status, answer.body) == (206, wanted), text
    for text in ("bytes=0-1,3-4", "bytes=5-2", "lines=0-1", "bytes=x", "0-1"):
        answer = target.send("GET", path, headers={"range": text})
        assert (answer.status, answer.body) == (200, b"0123456789"), text
    for text in ("bytes=10-", "bytes=-0", "bytes=99-100"):
        answer = target.send("GET", path, headers={"range": text})
        assert answer.refusal == (416, "InvalidRange"), text


def test_checksums_that_do_not_fit(target: Target, s3: Any, bucket: str) -> None:
    """A wrong digest is BadDigest, a malformed one InvalidDigest or InvalidRequest; nothing is stored."""
    path = f"/{bucket}/k"
    wrong_md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    zeros = base64.b64encode(bytes(4)).decode()
    for headers, refusal in (
        ({"content-md5": wrong_md5}, (400, "BadDigest")),
        ({"content-md5": "short"}, (400, "InvalidDigest")),
        ({"x-amz-checksum-crc32": zeros}, (400, "BadDigest")),
        ({"x-amz-checksum-crc32": "?"}, (400, "InvalidRequest")),
        ({"x-amz-checksum-crc32": zeros, "x-amz-checksum-crc32c": zeros}, (400, "InvalidRequest")),
    ):
        assert target.send("PUT", path, b"body", headers).refusal == refusal, headers
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_keys_are_opaque(target: Target, s3: Any, bucket: str) -> None:
    """Dots, doubled slashes and escapes in the path are the key's own; nothing is normalised."""
    for path, key in (("a/../b", "a/../b"), ("//c", "//c"), ("f%252F", "f%2F"), ("g/", "g/")):
        assert target.send("PUT", f"/{bucket}/{path}", b"x").status == 200, path
        assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == 1
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 4


def test_expect_100_continue(target: Target, bucket: str) -> None:
    """A refused upload is answered without its body having been asked for."""
    host = urlsplit(target.endpoint).netloc
    head = f"PUT /{bucket}/k HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    said = exchange(target, head.encode())
    assert said.startswith(b"HTTP/1.1 403 ")
    assert b"AccessDenied" in said


def test_a_body_that_stops_short_is_not_stored(target: Target, s3: Any, bucket: str) -> None:
    """Half a body and a closed sending side: no object."""
    address = urlsplit(target.presign("PUT", f"/{bucket}/k"))
    head = f"PUT {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 100\r\n\r\n"
    said = exchange(target, head.encode() + b"only this", finish=True)
    assert b" 200 " not in said.partition(b"\r\n")[0]
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_what_is_not_http(target: Target, s3: Any) -> None:
    """Answered 400 or cut off; the server lives."""
    host = urlsplit(target.endpoint).netloc.encode()
    for data in (
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
        b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"GET / HTTP/1.1\r\nNo colon here\r\n\r\n",
    ):
        line = exchange(target, data, finish=True).partition(b"\r\n")[0]
        assert line == b"" or b" 400 " in line, data
    s3.list_buckets()


def test_pipelined_requests_are_answered_in_order(target: Target, s3: Any, bucket: str) -> None:
    """Two requests in one packet on one connection."""
    s3.put_object(Bucket=bucket, Key="a", Body=b"first")
    s3.put_object(Bucket=bucket, Key="b", Body=b"second")
    data = b""
    for key in ("a", "b"):
        address = urlsplit(target.presign("GET", f"/{bucket}/{key}"))
        data += f"GET {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode()
    said = exchange(target, data)
    assert said.count(b"HTTP/1.1 200 ") == 2
    assert 0 < said.index(b"first") < said.index(b"second")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<Delete>", "MalformedXML"),
        (b"not xml", "MalformedXML"),
        (b"<Delete/>", "MalformedXML"),
        (b'<!DOCTYPE d [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>', "MalformedXML"),
        (b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>", "MalformedXML"),
    ],
    ids=["cut", "text", "empty", "entity", "too many"],
)
def test_malformed_documents(target: Target, bucket: str, body: bytes, code: str) -> None:
    """No part of them is acted upon."""
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    assert target.send("POST", f"/{bucket}?delete", body, {"content-md5": md5}).refusal == (400, code)


def test_head_has_no_body(target: Target, s3: Any, bucket: str) -> None:
    """Neither of an object nor of an error."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    for key, line, length in (("k", b"200", b"5"), ("absent", b"404", None)):
        address = urlsplit(target.presign("HEAD", f"/{bucket}/{key}"))
        request = f"HEAD {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n"
        head, _, body = exchange(target, request.encode()).partition(b"\r\n\r\n")
        assert head.split()[1] == line
        assert body == b""
        if length:
            assert b"content-length: " + length in head.lower()
