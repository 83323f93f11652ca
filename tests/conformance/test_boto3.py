"""boto3 as it comes: client, resource, managed transfers, presigned URLs, paginators, waiters, checksums."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import threading
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig

from heavylift_local.s3.testing import send
from tests.conformance.target import MIB, Target, refusal

PARTED = TransferConfig(multipart_threshold=6 * MIB, multipart_chunksize=5 * MIB)


def _put_many(s3: Any, bucket: str, keys: list[str]) -> None:
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")


def test_an_object_comes_back_as_it_went(s3: Any, bucket: str) -> None:
    """Bytes, content headers and metadata; and it is gone after its deletion, twice."""
    headers = {
        "ContentType": "image/tiff",
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="a.tif"',
        "ContentEncoding": "br",
        "ContentLanguage": "de",
        "Metadata": {"kind": "scan"},
        "StorageClass": "STANDARD_IA",
    }
    s3.put_object(Bucket=bucket, Key="a b/ü.tif", Body=b"bytes", **headers)

    found = s3.get_object(Bucket=bucket, Key="a b/ü.tif")
    assert found["Body"].read() == b"bytes"
    assert {name: found[name] for name in headers} == headers
    for _ in range(2):
        assert s3.delete_object(Bucket=bucket, Key="a b/ü.tif")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refusal(s3.get_object, Bucket=bucket, Key="a b/ü.tif") == (404, "NoSuchKey")
    assert refusal(s3.head_object, Bucket=bucket, Key="a b/ü.tif") == (404, "404")


@pytest.mark.parametrize(
    "body", [b"text", io.BytesIO(b"seekable"), bytearray(b"array"), ""], ids=lambda b: type(b).__name__
)
def test_every_kind_of_body(s3: Any, bucket: str, body: Any) -> None:
    """The SDK frames each differently; the object is the same."""
    wanted = body.getvalue() if isinstance(body, io.BytesIO) else bytes(body or b"")
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == wanted


@pytest.mark.parametrize("size", [0, 5 * MIB, 12 * MIB + 1])
def test_managed_transfers(s3: Any, bucket: str, tmp_path: Path, size: int) -> None:
    """upload_file, copy and download_file, below and above the multipart threshold."""
    source, back = tmp_path / "in", tmp_path / "out"
    source.write_bytes(os.urandom(size))

    s3.upload_file(str(source), bucket, "k", Config=PARTED, ExtraArgs={"Metadata": {"a": "b"}})
    s3.copy({"Bucket": bucket, "Key": "k"}, bucket, "copy", Config=PARTED)
    s3.download_file(bucket, "copy", str(back), Config=PARTED)

    assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()
    parts = -(-size // (5 * MIB)) if size >= 6 * MIB else 0
    etag = s3.head_object(Bucket=bucket, Key="k")["ETag"].strip('"')
    assert etag.partition("-")[2] == (str(parts) if parts else "")
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "b"}


def test_managed_streams(s3: Any, bucket: str) -> None:
    """upload_fileobj of what cannot seek, download_fileobj."""
    data = os.urandom(7 * MIB)

    class OneWay(io.RawIOBase):
        def __init__(self) -> None:
            self._inner = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return self._inner.read(size)

    s3.upload_fileobj(OneWay(), bucket, "k", Config=PARTED)
    out = io.BytesIO()
    s3.download_fileobj(bucket, "k", out, Config=PARTED)
    assert out.getvalue() == data


def test_resource(target: Target, bucket: str) -> None:
    """The resource interface: put, filter, summary, copy, ranged get, empty the bucket, remove it."""
    here = target.resource().Bucket(bucket)
    for number in range(3):
        here.put_object(Key=f"p/{number}", Body=bytes([number]))
    assert [(row.key, row.size) for row in here.objects.filter(Prefix="p/")] == [(f"p/{n}", 1) for n in range(3)]
    here.Object("copy").copy_from(CopySource=f"{bucket}/p/2")
    assert here.Object("copy").get(Range="bytes=0-0")["Body"].read() == b"\x02"
    assert here.Object("copy").content_length == 1
    upload = here.Object("big").initiate_multipart_upload()
    part = upload.Part(1).upload(Body=b"x")
    upload.complete(MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    assert here.Object("big").get()["Body"].read() == b"x"
    here.objects.all().delete()
    assert list(here.objects.all()) == []
    here.delete()


@pytest.mark.parametrize("name", ["list_objects", "list_objects_v2", "list_object_versions"])
@pytest.mark.parametrize("delimiter", ["", "/"])
def test_paginators_see_everything_once(s3: Any, bucket: str, name: str, delimiter: str) -> None:
    """Pages of two over keys that need encoding and over prefixes."""
    keys = sorted(["a/1", "a/2", "a+b", "a b", "b/", "b//c", "é", "z%2F", "z&<>"], key=str.encode)
    _put_many(s3, bucket, keys)

    pages = list(s3.get_paginator(name).paginate(Bucket=bucket, Delimiter=delimiter, PaginationConfig={"PageSize": 2}))

    rows = [r["Key"] for p in pages for r in p.get("Contents", p.get("Versions", []))]
    prefixes = [r["Prefix"] for p in pages for r in p.get("CommonPrefixes", [])]
    if delimiter:
        assert (rows, prefixes) == ([k for k in keys if "/" not in k], ["a/", "b/"])
    else:
        assert (rows, prefixes) == (keys, [])
    assert len(pages) > 2


def test_paginator_of_parts_and_uploads(s3: Any, bucket: str) -> None:
    """ListParts over gaps, ListMultipartUploads over keys and ids."""
    ids = [s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"] for key in ("a", "a", "b/c")]
    for number in (1, 2, 5, 9, 10_000):
        s3.upload_part(Bucket=bucket, Key="a", UploadId=ids[0], PartNumber=number, Body=str(number))

    pages = s3.get_paginator("list_parts").paginate(
        Bucket=bucket, Key="a", UploadId=ids[0], PaginationConfig={"PageSize": 2}
    )
    assert [part["PartNumber"] for page in pages for part in page["Parts"]] == [1, 2, 5, 9, 10_000]
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1})
    seen = [(row["Key"], row["UploadId"]) for page in pages for row in page.get("Uploads", [])]
    assert sorted(seen) == sorted(zip(("a", "a", "b/c"), ids, strict=True))


def test_paginator_of_buckets(target: Target, s3: Any) -> None:
    """Buckets page by page, by prefix."""
    names = sorted(target.new_bucket() for _ in range(3))
    pages = list(s3.get_paginator("list_buckets").paginate(Prefix="conformance-", PaginationConfig={"PageSize": 2}))
    seen = [row["Name"] for page in pages for row in page["Buckets"]]
    assert seen == sorted(seen)
    assert set(names) <= set(seen)


def test_waiters(s3: Any, bucket: str) -> None:
    """object_exists, object_not_exists, bucket_exists, bucket_not_exists."""
    once = {"Delay": 1, "MaxAttempts": 5}
    timer = threading.Timer(0.2, lambda: s3.put_object(Bucket=bucket, Key="late", Body=b""))
    timer.start()
    s3.get_waiter("object_exists").wait(Bucket=bucket, Key="late", WaiterConfig=once)
    timer.join()
    s3.delete_object(Bucket=bucket, Key="late")
    s3.get_waiter("object_not_exists").wait(Bucket=bucket, Key="late", WaiterConfig=once)
    s3.get_waiter("bucket_exists").wait(Bucket=bucket, WaiterConfig=once)
    s3.delete_bucket(Bucket=bucket)
    s3.get_waiter("bucket_not_exists").wait(Bucket=bucket, WaiterConfig=once)


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums_on_request(s3: Any, bucket: str, algorithm: str) -> None:
    """The SDK sends it, the server verifies and keeps it, the SDK verifies it when it reads."""
    sent = s3.put_object(Bucket=bucket, Key="k", Body=b"abc", ChecksumAlgorithm=algorithm)
    found = s3.get_object(Bucket=bucket, Key="k")
    assert found["Body"].read() == b"abc"
    assert found[f"Checksum{algorithm}"] == sent[f"Checksum{algorithm}"]
    assert found["ChecksumType"] == "FULL_OBJECT"


def test_the_default_checksum_is_crc32(s3: Any, bucket: str) -> None:
    """when_supported: each upload carries a CRC32, each download is checked against it."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"123456789")
    value = base64.b64encode(zlib.crc32(b"123456789").to_bytes(4, "big")).decode()
    assert s3.get_object(Bucket=bucket, Key="k")["ChecksumCRC32"] == value
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"][0]
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == (["CRC32"], "FULL_OBJECT")


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_multipart_with_checksums(s3: Any, bucket: str, algorithm: str) -> None:
    """COMPOSITE by default: each part has its own, the whole has one with the number of parts."""
    begun = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm)
    where = {"Bucket": bucket, "Key": "k", "UploadId": begun["UploadId"]}
    name = f"Checksum{algorithm}"
    parts = []
    for number, body in ((1, os.urandom(5 * MIB)), (2, b"end")):
        part = s3.upload_part(**where, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
        parts.append({"PartNumber": number, "ETag": part["ETag"], name: part[name]})

    done = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})

    assert (done["ChecksumType"], done[name][-2:]) == ("COMPOSITE", "-2")
    known = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts", "ObjectSize", "Checksum"])
    assert [part["Size"] for part in known["ObjectParts"]["Parts"]] == [5 * MIB, 3]
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert (second["Body"].read(), second["PartsCount"]) == (b"end", 2)


def test_multipart_full_object(s3: Any, bucket: str) -> None:
    """FULL_OBJECT CRC64NVME: combined from the parts, equal to that of the same bytes put at once."""
    body = os.urandom(5 * MIB + 7)
    begun = s3.create_multipart_upload(
        Bucket=bucket, Key="k", ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
    )
    where = {"Bucket": bucket, "Key": "k", "UploadId": begun["UploadId"]}
    parts = []
    for number, piece in ((1, body[: 5 * MIB]), (2, body[5 * MIB :])):
        part = s3.upload_part(**where, PartNumber=number, Body=piece, ChecksumAlgorithm="CRC64NVME")
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    done = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts}, ChecksumType="FULL_OBJECT")
    whole = s3.put_object(Bucket=bucket, Key="whole", Body=body, ChecksumAlgorithm="CRC64NVME")
    assert done["ChecksumCRC64NVME"] == whole["ChecksumCRC64NVME"]


def test_presigned_get_put_head_delete(target: Target, bucket: str) -> None:
    """A URL does exactly one thing, for whoever holds it."""
    s3 = target.presigner()
    where = {"Bucket": bucket, "Key": "päth/a b+c.txt"}
    put = s3.generate_presigned_url("put_object", Params={**where, "ContentType": "text/plain", "Metadata": {"m": "1"}})
    answer = send(put, "PUT", b"body", {"content-type": "text/plain", "x-amz-meta-m": "1"})
    assert answer.status == 200, answer.body
    get = s3.generate_presigned_url("get_object", Params={**where, "ResponseContentDisposition": "inline"})
    answer = send(get)
    assert (answer.status, answer.body, answer.headers["content-disposition"]) == (200, b"body", "inline")
    assert (answer.headers["content-type"], answer.headers["x-amz-meta-m"]) == ("text/plain", "1")
    assert send(s3.generate_presigned_url("head_object", Params=where), "HEAD").headers["content-length"] == "4"
    assert send(get, "DELETE").refusal == (403, "SignatureDoesNotMatch")
    assert send(s3.generate_presigned_url("delete_object", Params=where), "DELETE").status == 204
    assert send(get).refusal == (404, "NoSuchKey")


def test_presigned_multipart(target: Target, bucket: str) -> None:
    """A client without credentials sends the parts, digest signed into the URL."""
    s3 = target.presigner()
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")["UploadId"]
    where = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    digest = base64.b64encode(hashlib.sha256(b"part").digest()).decode()
    url = s3.generate_presigned_url("upload_part", Params={**where, "PartNumber": 1, "ChecksumSHA256": digest})
    headers = {"x-amz-checksum-sha256": digest}
    assert send(url, "PUT", b"tarp", headers).refusal == (400, "BadDigest")
    answer = send(url, "PUT", b"part", headers)
    assert answer.status == 200
    part = {"PartNumber": 1, "ETag": answer.headers["etag"], "ChecksumSHA256": digest}
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [part]})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"part"


def test_presigned_length(target: Target, bucket: str) -> None:
    """A signed Content-Length admits that length and no other."""
    url = target.presigner().generate_presigned_url(
        "put_object", Params={"Bucket": bucket, "Key": "k", "ContentLength": 3}
    )
    assert send(url, "PUT", b"abcd").refusal == (403, "SignatureDoesNotMatch")
    assert send(url, "PUT", b"abc").status == 200


def test_conditions(s3: Any, bucket: str) -> None:
    """Of writes, reads and copies."""
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    here = {"Bucket": bucket, "Key": "k"}
    written = s3.head_object(**here)["LastModified"]
    yesterday, tomorrow = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=1)
    failed, unchanged = (412, "PreconditionFailed"), (304, "304")
    assert refusal(s3.put_object, **here, Body=b"2", IfNoneMatch="*") == failed
    assert refusal(s3.put_object, **here, Body=b"2", IfMatch='"00000000000000000000000000000000"') == failed
    assert refusal(s3.get_object, **here, IfNoneMatch=etag) == unchanged
    assert refusal(s3.get_object, **here, IfModifiedSince=written) == unchanged
    assert s3.get_object(**here, IfModifiedSince=tomorrow)["ContentLength"] == 1  # no such time yet: ignored
    assert refusal(s3.get_object, **here, IfMatch='"x"') == failed
    assert refusal(s3.get_object, **here, IfUnmodifiedSince=yesterday) == failed
    source = {"CopySource": f"{bucket}/k", "Bucket": bucket, "Key": "copy"}
    assert refusal(s3.copy_object, **source, CopySourceIfMatch='"x"') == failed
    assert refusal(s3.copy_object, **source, CopySourceIfNoneMatch=etag) == failed
    assert refusal(s3.copy_object, **source, CopySourceIfModifiedSince=written) == failed
    s3.copy_object(**source, CopySourceIfModifiedSince=tomorrow)
    s3.copy_object(**source, CopySourceIfMatch=etag, CopySourceIfUnmodifiedSince=tomorrow)
    s3.put_object(**here, Body=b"2", IfMatch=etag)
    assert s3.get_object(**here)["Body"].read() == b"2"


def test_delete_objects(s3: Any, bucket: str) -> None:
    """A thousand keys, whether they are there or not; quiet says nothing of those that went."""
    _put_many(s3, bucket, ["a&b", "c d"])
    keys = [{"Key": "a&b"}, {"Key": "c d"}, *({"Key": f"absent {n}"} for n in range(998))]
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})["Deleted"]) == 1000
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys[:1], "Quiet": True})
    assert "Deleted" not in quiet
    assert "Errors" not in quiet


def test_many_clients_write_one_key(target: Target, bucket: str) -> None:
    """Of eight If-None-Match writers one wins."""
    outcomes: list[int] = []

    def write() -> None:
        s3 = target.client(retries={"max_attempts": 0})
        try:
            answer = s3.put_object(Bucket=bucket, Key="k", Body=os.urandom(64), IfNoneMatch="*")
            outcomes.append(answer["ResponseMetadata"]["HTTPStatusCode"])
        except s3.exceptions.ClientError as error:
            outcomes.append(error.response["ResponseMetadata"]["HTTPStatusCode"])

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[0] == 200
    assert outcomes.count(200) == 1
    assert set(outcomes) <= {200, 409, 412}
