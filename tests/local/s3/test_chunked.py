"""aws-chunked bodies, as SDKs send them: unsigned with a trailing checksum, signed chunks, signed trailers."""

import base64
import hashlib
import os
import socket
import zlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from heavylift_local.s3 import auth, testing
from heavylift_local.s3.testing import Answer, RunningS3, send

BODY = os.urandom(200_001)


def _signed_head(s3: RunningS3, mode: str, headers: dict[str, str]) -> tuple[dict[str, str], auth.ChunkChain]:
    """Headers of a PUT of /staging/k in *mode*, and the chain its chunks are signed with."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    every = {
        "host": urlsplit(s3.endpoint).netloc,
        "x-amz-date": stamp,
        "x-amz-content-sha256": mode,
        "x-amz-decoded-content-length": str(len(BODY)),
        "content-encoding": "aws-chunked",
        **headers,
    }
    names = sorted(every)
    scope = f"{stamp[:8]}/{s3.region}/s3/aws4_request"
    key = auth.signing_key(testing.SECRET_KEY, stamp[:8], s3.region)
    canonical = auth.canonical_request(auth.Head("PUT", b"/staging/k", [], every), names, mode)
    signature, _ = auth.sign(key, stamp, scope, canonical)
    credential = f"{testing.ACCESS_KEY}/{scope}"
    every["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return every, auth.ChunkChain(key, stamp, scope, signature)


def _frames(
    chain: auth.ChunkChain | None, size: int, trailers: dict[str, str], *, sign_trailers: bool = False
) -> bytes:
    out, previous = b"", chain.seed if chain else ""
    for at in [*range(0, len(BODY), size), len(BODY)]:
        block = BODY[at : at + size]
        extension = ""
        if chain:
            previous = chain.chunk(previous, hashlib.sha256(block).hexdigest())
            extension = f";chunk-signature={previous}"
        out += f"{len(block):x}{extension}\r\n".encode() + (block + b"\r\n" if block else b"")
    for name, value in trailers.items():
        out += f"{name}:{value}\r\n".encode()
    if chain and sign_trailers:
        text = "".join(f"{name}:{value}\n" for name, value in trailers.items())
        out += f"x-amz-trailer-signature:{chain.trailer(previous, text)}\r\n".encode()
    return out + b"\r\n"


CRC = {"x-amz-checksum-crc32": base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode()}


def _put(s3: RunningS3, headers: dict[str, str], body: bytes) -> Answer:
    return send(f"{s3.endpoint}/staging/k", "PUT", body, headers)


@pytest.mark.parametrize("size", [8192, 65536, 1_000_000])
def test_unsigned_chunks_with_a_trailing_checksum(s3: RunningS3, client: Any, size: int) -> None:
    """What SDKs send over TLS by default."""
    headers, _ = _signed_head(s3, auth.STREAMING_UNSIGNED_TRAILER, {"x-amz-trailer": "x-amz-checksum-crc32"})

    answer = _put(s3, headers, _frames(None, size, CRC))

    assert (answer.status, answer.headers["x-amz-checksum-crc32"]) == (200, CRC["x-amz-checksum-crc32"])
    found = client.get_object(Bucket="staging", Key="k")
    assert found["Body"].read() == BODY
    assert "ContentEncoding" not in found  # aws-chunked is a framing, not the object's


@pytest.mark.parametrize("trailing", [False, True])
def test_signed_chunks(s3: RunningS3, client: Any, trailing: bool) -> None:
    """Each chunk's signature chains to the one before; trailers have one of their own."""
    mode = auth.STREAMING_SIGNED_TRAILER if trailing else auth.STREAMING_SIGNED
    headers, chain = _signed_head(s3, mode, {"x-amz-trailer": "x-amz-checksum-crc32"} if trailing else {})
    body = _frames(chain, 65536, CRC if trailing else {}, sign_trailers=trailing)

    assert _put(s3, headers, body).status == 200
    assert client.get_object(Bucket="staging", Key="k")["Body"].read() == BODY


def test_refused_chunks(s3: RunningS3, client: Any) -> None:
    """A changed byte, a wrong trailer, a missing one, a wrong length: refused, nothing stored."""
    wrong = {"x-amz-checksum-crc32": "AAAAAA=="}
    trailer = {"x-amz-trailer": "x-amz-checksum-crc32"}
    headers, chain = _signed_head(s3, auth.STREAMING_SIGNED, {})
    good = _frames(chain, 65536, {})
    flipped = good[:200] + bytes([good[200] ^ 1]) + good[201:]
    assert _put(s3, headers, flipped).refusal == (403, "SignatureDoesNotMatch")
    headers, chain = _signed_head(s3, auth.STREAMING_SIGNED_TRAILER, trailer)
    unsigned_trailer = _frames(chain, 65536, CRC)
    assert _put(s3, headers, unsigned_trailer).refusal == (403, "SignatureDoesNotMatch")
    headers, _ = _signed_head(s3, auth.STREAMING_UNSIGNED_TRAILER, trailer)
    assert _put(s3, headers, _frames(None, 65536, wrong)).refusal == (400, "BadDigest")
    assert _put(s3, headers, _frames(None, 65536, {})).refusal == (400, "MalformedTrailerError")
    headers, _ = _signed_head(s3, auth.STREAMING_UNSIGNED_TRAILER, trailer | {"x-amz-decoded-content-length": "5"})
    assert _put(s3, headers, _frames(None, 65536, CRC)).refusal == (400, "IncompleteBody")
    assert client.list_objects_v2(Bucket="staging")["KeyCount"] == 0


def test_aws_chunks_inside_http_chunks(s3: RunningS3, client: Any) -> None:
    """A stream of unknown wire length; the connection goes on after it."""
    headers, _ = _signed_head(s3, auth.STREAMING_UNSIGNED_TRAILER, {"x-amz-trailer": "x-amz-checksum-crc32"})
    inner = _frames(None, 65536, CRC)
    outer = b"".join(
        f"{len(inner[at : at + 50_000]):x}\r\n".encode() + inner[at : at + 50_000] + b"\r\n"
        for at in range(0, len(inner), 50_000)
    )
    get = client.generate_presigned_url("get_object", Params={"Bucket": "staging", "Key": "k"})
    parts = urlsplit(get)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    request = "\r\n".join(["PUT /staging/k HTTP/1.1", *lines, "Transfer-Encoding: chunked", "", ""]).encode()
    request += outer + b"0\r\n\r\n"
    request += f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()

    with socket.create_connection((parts.hostname, parts.port), timeout=15) as sock:
        sock.sendall(request)
        answer = b""
        while block := sock.recv(65536):
            answer += block

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(BODY)


def test_payload_hash_in_the_header_is_verified(s3: RunningS3, client: Any) -> None:
    """A signed hex x-amz-content-sha256 must be the body's."""
    headers, _ = _signed_head(s3, hashlib.sha256(b"other").hexdigest(), {})
    assert _put(s3, headers, BODY).refusal == (400, "XAmzContentSHA256Mismatch")

    headers, _ = _signed_head(s3, hashlib.sha256(BODY).hexdigest(), {})
    assert _put(s3, headers, BODY).status == 200
    assert client.head_object(Bucket="staging", Key="k")["ContentLength"] == len(BODY)
