"""Everything that must be refused over the wire: right status, right code, nothing stored, and before the body."""

import base64
import hashlib
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from heavylift_local.s3 import testing
from heavylift_local.s3.testing import RunningS3, send

BODY = b"some bytes" * 100
SHA = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
OTHER = base64.b64encode(hashlib.sha256(b"other").digest()).decode()


def _url(client: Any, operation: str = "put_object", expires: int = 900, **parameters: Any) -> str:
    return client.generate_presigned_url(
        operation, Params={"Bucket": "staging", "Key": "k", **parameters}, ExpiresIn=expires
    )


def _stored(client: Any) -> list[str]:
    return [row["Key"] for row in client.list_objects_v2(Bucket="staging").get("Contents", [])]


def test_a_presigned_put_is_accepted_and_read_back(client: Any) -> None:
    """The good case next to all the bad ones."""
    answer = send(
        _url(client, ChecksumSHA256=SHA, ContentLength=len(BODY)), "PUT", BODY, {"x-amz-checksum-sha256": SHA}
    )

    assert answer.status == 200
    assert answer.headers["etag"] == f'"{hashlib.md5(BODY).hexdigest()}"'
    assert answer.headers["x-amz-checksum-sha256"] == SHA
    assert send(_url(client, "get_object")).body == BODY


@pytest.mark.parametrize(
    ("signed", "sent", "body", "refusal"),
    [
        ({"ChecksumSHA256": SHA}, {"x-amz-checksum-sha256": SHA}, BODY[:-1] + b"!", (400, "BadDigest")),
        ({"ChecksumSHA256": SHA}, {"x-amz-checksum-sha256": OTHER}, BODY, (403, "SignatureDoesNotMatch")),
        ({"ChecksumSHA256": SHA}, {}, BODY, (403, "SignatureDoesNotMatch")),
        ({"ContentLength": 999}, {}, BODY, (403, "SignatureDoesNotMatch")),
        ({"ContentLength": 1001}, {}, BODY, (403, "SignatureDoesNotMatch")),
        ({}, {"x-amz-checksum-sha256": SHA}, BODY, (403, "AccessDenied")),
        ({}, {"x-amz-meta-a": "b"}, BODY, (403, "AccessDenied")),
        ({}, {"x-amz-acl": "private"}, BODY, (403, "AccessDenied")),
        ({}, {"Authorization": "Bearer token"}, BODY, (400, "InvalidArgument")),
        ({}, {"Content-MD5": base64.b64encode(hashlib.md5(b"x").digest()).decode()}, BODY, (400, "BadDigest")),
        ({}, {"Content-MD5": "nonsense"}, BODY, (400, "InvalidDigest")),
        ({}, {"If-Match": '"abc"'}, BODY, (404, "NoSuchKey")),
        ({}, {"If-Match": "*"}, BODY, (501, "NotImplemented")),
        ({}, {"If-None-Match": '"abc"'}, BODY, (501, "NotImplemented")),
        (
            {"ServerSideEncryption": "aws:kms"},
            {"x-amz-server-side-encryption": "aws:kms"},
            BODY,
            (501, "NotImplemented"),
        ),
        ({"StorageClass": "DEEP_ARCHIVE"}, {"x-amz-storage-class": "DEEP_ARCHIVE"}, BODY, (501, "NotImplemented")),
        ({"ACL": "public-read"}, {"x-amz-acl": "public-read"}, BODY, (400, "AccessControlListNotSupported")),
        ({"Metadata": {"a": "b" * 2048}}, {"x-amz-meta-a": "b" * 2048}, BODY, (400, "MetadataTooLarge")),
        ({"Key": "k" * 1025}, {}, BODY, (400, "KeyTooLongError")),
        ({"Bucket": "absent"}, {}, BODY, (404, "NoSuchBucket")),
        (
            {"ExpectedBucketOwner": "111111111111"},
            {"x-amz-expected-bucket-owner": "111111111111"},
            BODY,
            (403, "AccessDenied"),
        ),
    ],
)
def test_refused_puts(
    client: Any, signed: dict[str, Any], sent: dict[str, str], body: bytes, refusal: tuple[int, str]
) -> None:
    """Each with S3's status and code; the bucket stays empty."""
    answer = send(_url(client, **signed), "PUT", body, sent)

    assert answer.refusal == refusal
    assert _stored(client) == []


def test_expired_url(client: Any) -> None:
    """403 AccessDenied "Request has expired"."""
    url = _url(client, expires=1)
    time.sleep(2.1)  # whole seconds are signed

    answer = send(url, "PUT", BODY)

    assert answer.refusal == (403, "AccessDenied")
    assert b"Request has expired" in answer.body


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (("partNumber=1", "partNumber=2"), (403, "SignatureDoesNotMatch")),
        (("uploadId=", "uploadId=x"), (403, "SignatureDoesNotMatch")),
        (("/staging/k", "/staging/l"), (403, "SignatureDoesNotMatch")),
        (("&X-Amz-Signature=", "&X-Amz-Signature=0"), (403, "SignatureDoesNotMatch")),
    ],
)
def test_tampered_part_urls(client: Any, change: tuple[str, str], refusal: tuple[int, str]) -> None:
    """A part URL is good for one part of one upload of one key."""
    upload = client.create_multipart_upload(Bucket="staging", Key="k")["UploadId"]
    url = _url(client, "upload_part", UploadId=upload, PartNumber=1)

    assert send(url.replace(*change), "PUT", BODY).refusal == refusal
    assert "Parts" not in client.list_parts(Bucket="staging", Key="k", UploadId=upload)


def test_unsigned_and_unknown(s3: RunningS3, client: Any) -> None:
    """No credentials, unknown ones, wrong secret: never a byte."""
    client.put_object(Bucket="staging", Key="k", Body=b"x")

    assert send(f"{s3.endpoint}/staging/k").refusal == (403, "AccessDenied")
    assert send(f"{s3.endpoint}/staging/k", "PUT", BODY).refusal == (403, "AccessDenied")
    assert send(_url(s3.client("AKIDX"), "get_object")).refusal == (403, "InvalidAccessKeyId")
    assert send(_url(s3.client(secret_key="wrong"), "get_object")).refusal == (403, "SignatureDoesNotMatch")
    with pytest.raises(client.exceptions.ClientError, match="SignatureDoesNotMatch"):
        s3.client(secret_key="wrong").put_object(Bucket="staging", Key="k", Body=b"y")
    assert client.get_object(Bucket="staging", Key="k")["Body"].read() == b"x"


def test_session_tokens(tmp_path: Any) -> None:
    """A role's key works with its token only, and not after its end."""
    role = {**testing.developer(), "access_key": "ASIA", "session_token": "tok/+", "session_expires": time.time() + 60}
    old = {**role, "name": "old", "access_key": "ASIAOLD", "session_expires": time.time() - 1}
    with testing.running_s3(tmp_path, callers=[role, old]) as s3:
        good = s3.client("ASIA", aws_session_token="tok/+")
        good.put_object(Bucket="staging", Key="k", Body=b"x")
        assert send(_url(good, "get_object")).body == b"x"
        assert send(_url(s3.client("ASIA"), "get_object")).refusal == (403, "InvalidAccessKeyId")
        assert send(_url(s3.client("ASIA", aws_session_token="no"), "get_object")).refusal == (400, "InvalidToken")
        assert send(_url(s3.client("ASIAOLD", aws_session_token="tok/+"), "get_object")).refusal == (
            400,
            "ExpiredToken",
        )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/staging?acl", 501),
        ("GET", "/staging?replication", 501),
        ("PUT", "/staging?notification", 501),
        ("GET", "/staging/k?torrent", 501),
        ("GET", "/staging/k?foo=bar", 501),
        ("POST", "/staging/k?restore", 501),
        ("POST", "/staging/k?select&select-type=2", 501),
        ("PUT", "/staging/k?legal-hold", 501),
        ("POST", "/staging", 412),
        ("PATCH", "/staging/k", 405),
        ("GET", "/staging/k?x-id=GetObject", 200),
    ],
)
def test_what_it_does_not_know_is_said(s3: RunningS3, client: Any, method: str, path: str, status: int) -> None:
    """501 for an operation or parameter it does not know, never 200; x-* parameters are S3's to ignore."""
    client.put_object(Bucket="staging", Key="k", Body=b"x")

    assert send(s3.presign(method, path), method, b"" if method != "GET" else None).status == status


def _put_head(url: str, *headers: str) -> bytes:
    """The head of a PUT of *url*."""
    parts = urlsplit(url)
    lines = [f"PUT {parts.path}?{parts.query} HTTP/1.1", f"Host: {parts.netloc}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def _raw(url: str, head: str, body: bytes = b"", *, wait_for: bytes = b"") -> bytes:
    """Bytes as given to the socket; the answer until the server ends the connection or *wait_for* came."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=15) as sock:
        request = head.format(path=f"{parts.path}?{parts.query}", host=parts.netloc)
        sock.sendall(request.replace("\n", "\r\n").encode() + body)
        answer = b""
        while not wait_for or wait_for not in answer:
            block = sock.recv(65536)
            if not block:
                break
            answer += block
        return answer


def test_refusal_comes_before_the_body_is_asked_for(client: Any) -> None:
    """With Expect: 100-continue a refused request never sees 100, and its body is never sent."""
    url = _url(client).replace("Signature=", "Signature=0")

    answer = _raw(
        url,
        "PUT {path} HTTP/1.1\nHost: {host}\nContent-Length: 5000000\nExpect: 100-continue\n\n",
        wait_for=b"</Error>",
    )

    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"100 Continue" not in answer
    assert b"Connection: close" in answer


def test_accepted_request_gets_100_and_then_200(client: Any) -> None:
    """The body follows 100 Continue."""
    url = _url(client)
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=15) as sock:
        sock.sendall(_put_head(url, "Content-Length: 3", "Expect: 100-continue"))
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        assert sock.recv(4000).startswith(b"HTTP/1.1 200 ")


def test_a_large_refused_body_still_sees_the_answer(client: Any) -> None:
    """Without Expect the rest is drained, so that the sender reads the refusal and not a reset."""
    answer = send(_url(client).replace("Signature=", "Signature=0"), "PUT", bytes(20_000_000))

    assert answer.refusal == (403, "SignatureDoesNotMatch")


def test_a_small_refused_body_keeps_the_connection(client: Any) -> None:
    """Two requests on one connection, the first refused."""
    url = _url(client)
    parts = urlsplit(url)
    bad = _put_head(url + "0", "Content-Length: 3") + b"abc"
    good = _put_head(url, "Content-Length: 3", "Connection: close") + b"abc"

    with socket.create_connection((parts.hostname, parts.port), timeout=15) as sock:
        sock.sendall(bad + good)
        answer = b""
        while block := sock.recv(65536):
            answer += block

    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"HTTP/1.1 200 " in answer


def test_a_body_that_ends_early_stores_nothing(client: Any) -> None:
    """The connection goes half way: 400 IncompleteBody to whoever still reads, nothing stored."""
    url = _url(client)
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=15) as sock:
        sock.sendall(_put_head(url, "Content-Length: 100") + b"abc")
        sock.shutdown(socket.SHUT_WR)
        answer = sock.recv(4000)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>IncompleteBody</Code>" in answer
    assert _stored(client) == []


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GARBAGE\n\n", 400),
        ("GET {path} HTTP/2\nHost: {host}\n\n", 400),
        ("PUT {path} HTTP/1.1\nHost: {host}\nContent-Length: 3\nContent-Length: 4\nConnection: close\n\n", 400),
        ("PUT {path} HTTP/1.1\nHost: {host}\nContent-Length: 3\nTransfer-Encoding: chunked\n\n", 400),
        ("PUT {path} HTTP/1.1\nHost: {host}\nContent-Length: -3\n\n", 400),
        ("PUT {path} HTTP/1.1\nHost: {host}\nConnection: close\n\n", 411),
        ("PUT {path} HTTP/1.1\nHost: {host}\nTransfer-Encoding: chunked\nConnection: close\n\n", 501),
        ("PUT {path} HTTP/1.1\nHost: {host}\nContent-Length: 5368709121\nConnection: close\n\n", 400),
        ("GET {path} HTTP/1.1\nHost: {host}\nX: " + "a" * 40_000 + "\n\n", 400),
        ("GET {path} HTTP/1.1\nHost: {host}\n" + "".join(f"X{n}: a\n" for n in range(300)) + "\n", 400),
        ("GET /%ff HTTP/1.1\nHost: {host}\nConnection: close\n\n", 400),
    ],
)
def test_malformed_requests(client: Any, head: str, status: int) -> None:
    """400, 411 or 501 and the end of the connection; the server lives on."""
    assert _raw(_url(client), head).startswith(f"HTTP/1.1 {status} ".encode())
    assert _stored(client) == []


def test_head_errors_have_no_body(client: Any) -> None:
    """HEAD of nothing is a bare 404."""
    answer = send(_url(client, "head_object"), "HEAD")

    assert (answer.status, answer.body) == (404, b"")


def test_roles_are_held_to_their_actions(tmp_path: Any) -> None:
    """A presigned URL may what its signer may; an absent key is 403 for who may not list."""
    sign = {
        "name": "sign",
        "access_key": "SIGN",
        "secret_key": "s",
        "allow": [{"actions": ["s3:PutObject"], "resources": ["staging/in/*"]}],
    }
    read = {
        "name": "read",
        "access_key": "READ",
        "secret_key": "s",
        "allow": [
            {"actions": ["s3:GetObject"], "resources": ["staging/*", "store/*"]},
            {"actions": ["s3:ListBucket"], "resources": ["store"]},
        ],
    }
    with testing.running_s3(tmp_path, callers=[testing.developer(), sign, read]) as s3:
        signer, reader, owner = s3.client("SIGN", "s"), s3.client("READ", "s"), s3.client()

        assert send(_url(signer, Key="in/a"), "PUT", BODY).status == 200
        assert send(_url(signer, Key="out/a"), "PUT", BODY).refusal == (403, "AccessDenied")
        assert send(_url(signer, "get_object", Key="in/a")).refusal == (403, "AccessDenied")
        # S3 asks for GetObject where a write says If-Match: the answer tells something of the object.
        assert send(_url(signer, Key="in/a"), "PUT", BODY, {"If-Match": '"x"'}).refusal == (403, "AccessDenied")
        assert send(_url(reader, "get_object", Key="in/a")).body == BODY
        assert send(_url(reader, "get_object", Key="in/b")).refusal == (403, "AccessDenied")
        assert send(_url(reader, "head_object", Key="in/b"), "HEAD").status == 403
        assert send(_url(reader, "get_object", Bucket="store", Key="b")).refusal == (404, "NoSuchKey")
        assert send(_url(reader, "delete_object", Key="in/a"), "DELETE").refusal == (403, "AccessDenied")
        with pytest.raises(reader.exceptions.ClientError, match="AccessDenied"):
            reader.list_objects_v2(Bucket="staging")
        with pytest.raises(reader.exceptions.ClientError, match="AccessDenied"):
            signer.copy_object(Bucket="staging", Key="in/c", CopySource="staging/in/a")
        gone = owner.delete_objects(Bucket="staging", Delete={"Objects": [{"Key": "in/a"}]})
        assert [row["Key"] for row in gone["Deleted"]] == ["in/a"]


def test_error_documents_carry_what_a_client_needs(client: Any) -> None:
    """Code, Message, RequestId; the request id is in the header too."""
    answer = send(_url(client, "get_object", Key="a&b"))

    assert answer.refusal == (404, "NoSuchKey")
    assert b"<Key>a&amp;b</Key>" in answer.body
    assert f"<RequestId>{answer.headers['x-amz-request-id']}</RequestId>".encode() in answer.body
    assert json.dumps(answer.headers["content-type"]) == '"application/xml"'
