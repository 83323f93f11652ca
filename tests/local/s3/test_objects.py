"""Objects by boto3 with its default settings: put, get, conditions, copies, versions, lists, CORS."""

import base64
import hashlib
import os
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from heavylift_local.s3.testing import RunningS3, send

ODD_KEYS = ["a//b", "a/", "/a", "../x", "a b+c%2F", "ü€😀", "a?b=c&d#e", "~'()*!;:@$,\"\\", "\x01\x7f", "a\nb"]


def refusal(call: Any, **parameters: Any) -> tuple[int, str]:
    """(status, code) of a call that must fail."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_odd_keys_are_opaque(client: Any) -> None:
    """Stored, listed and read back exactly as given."""
    for key in ODD_KEYS:
        client.put_object(Bucket="staging", Key=key, Body=key.encode())

    listed = [row["Key"] for row in client.list_objects_v2(Bucket="staging")["Contents"]]
    assert listed == sorted(ODD_KEYS, key=str.encode)
    for key in ODD_KEYS:
        assert client.get_object(Bucket="staging", Key=key)["Body"].read() == key.encode()


def test_headers_and_metadata_come_back(client: Any) -> None:
    """Content headers, metadata in lower case, overrides in the query."""
    client.put_object(
        Bucket="staging",
        Key="k",
        Body=b"x",
        ContentType="image/tiff",
        ContentDisposition="inline",
        CacheControl="no-store",
        ContentEncoding="gzip",
        Metadata={"Name": "Value"},
    )

    found = client.get_object(Bucket="staging", Key="k", ResponseContentDisposition='attachment; filename="ä"')

    assert found["ContentType"] == "image/tiff"
    assert found["ContentDisposition"].encode("latin-1") == 'attachment; filename="ä"'.encode("latin-1")
    assert (found["CacheControl"], found["ContentEncoding"]) == ("no-store", "gzip")
    assert found["Metadata"] == {"name": "Value"}


def test_ranges_and_checksums(client: Any) -> None:
    """A range is 206 without a checksum; the whole object has one."""
    body = os.urandom(300_000)
    client.put_object(Bucket="staging", Key="k", Body=body, ChecksumAlgorithm="SHA256")

    part = client.get_object(Bucket="staging", Key="k", Range="bytes=1000-250999")
    assert part["Body"].read() == body[1000:251000]
    assert (part["ContentRange"], part["ContentLength"]) == ("bytes 1000-250999/300000", 250_000)
    assert "ChecksumSHA256" not in part
    assert client.get_object(Bucket="staging", Key="k", Range="bytes=-7")["Body"].read() == body[-7:]
    head = client.head_object(Bucket="staging", Key="k", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(body).digest()).decode()
    assert refusal(client.get_object, Bucket="staging", Key="k", Range="bytes=300000-") == (416, "InvalidRange")


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_every_checksum_is_verified(client: Any, algorithm: str) -> None:
    """Right: stored and shown. Wrong: BadDigest. Malformed: InvalidRequest."""
    field = f"Checksum{algorithm}"
    good = client.put_object(Bucket="staging", Key="k", Body=b"abc", ChecksumAlgorithm=algorithm)[field]

    wrong = base64.b64encode(bytes(len(base64.b64decode(good)))).decode()
    assert refusal(client.put_object, Bucket="staging", Key="k", Body=b"abd", **{field: wrong}) == (400, "BadDigest")
    assert refusal(client.put_object, Bucket="staging", Key="k", Body=b"abd", **{field: "abc"}) == (
        400,
        "InvalidRequest",
    )
    assert client.get_object(Bucket="staging", Key="k")["Body"].read() == b"abc"


def test_an_object_without_checksum_gets_crc64nvme(client: Any) -> None:
    """S3 adds it by itself."""
    url = client.generate_presigned_url("put_object", Params={"Bucket": "staging", "Key": "k"})

    answer = send(url, "PUT", b"123456789")

    assert answer.headers["x-amz-checksum-crc64nvme"] == base64.b64encode(bytes.fromhex("ae8b14860a799888")).decode()
    assert answer.headers["x-amz-checksum-type"] == "FULL_OBJECT"


def test_conditions_on_writes(client: Any) -> None:
    """If-None-Match:* once; If-Match with the right ETag only."""
    etag = client.put_object(Bucket="staging", Key="k", Body=b"1", IfNoneMatch="*")["ETag"]

    assert refusal(client.put_object, Bucket="staging", Key="k", Body=b"2", IfNoneMatch="*") == (
        412,
        "PreconditionFailed",
    )
    assert refusal(client.put_object, Bucket="staging", Key="k", Body=b"2", IfMatch='"x"') == (
        412,
        "PreconditionFailed",
    )
    client.put_object(Bucket="staging", Key="k", Body=b"2", IfMatch=etag)
    assert refusal(client.delete_object, Bucket="staging", Key="k", IfMatch=etag) == (412, "PreconditionFailed")
    assert client.get_object(Bucket="staging", Key="k")["Body"].read() == b"2"


def test_conditions_on_reads(client: Any) -> None:
    """412 and 304, and which condition outranks which."""
    etag = client.put_object(Bucket="staging", Key="k", Body=b"1")["ETag"]
    past, future = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=1)
    get = {"Bucket": "staging", "Key": "k"}
    written = client.head_object(**get)["LastModified"]

    assert refusal(client.get_object, **get, IfMatch='"x"') == (412, "PreconditionFailed")
    assert refusal(client.get_object, **get, IfUnmodifiedSince=past) == (412, "PreconditionFailed")
    assert refusal(client.get_object, **get, IfNoneMatch=etag)[0] == 304
    assert refusal(client.head_object, **get, IfModifiedSince=written)[0] == 304
    assert client.head_object(**get, IfModifiedSince=future)["ContentLength"] == 1
    assert client.get_object(**get, IfMatch=etag.strip('"'), IfUnmodifiedSince=past)["Body"].read() == b"1"
    assert client.get_object(**get, IfNoneMatch='"x"', IfModifiedSince=written)["Body"].read() == b"1"


def test_a_copy_is_hashed_once_and_shares_the_bytes(s3: RunningS3, client: Any) -> None:
    """Plain MD5, FULL_OBJECT checksum of the algorithm asked for, no new file."""
    body = os.urandom(100_000)
    client.put_object(Bucket="staging", Key="k", Body=body, ContentType="a/b", Metadata={"m": "1"})
    files = sorted(p.name for p in (s3.server.config.data / "parts").rglob("*") if p.is_file())

    copy = client.copy_object(
        Bucket="store",
        Key="c",
        CopySource={"Bucket": "staging", "Key": "k"},
        ChecksumAlgorithm="CRC32",
        IfNoneMatch="*",
    )["CopyObjectResult"]

    assert copy["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert copy["ChecksumCRC32"] == base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    assert copy["ChecksumType"] == "FULL_OBJECT"
    assert sorted(p.name for p in (s3.server.config.data / "parts").rglob("*") if p.is_file()) == files
    client.delete_object(Bucket="staging", Key="k")
    found = client.get_object(Bucket="store", Key="c")
    assert (found["Body"].read(), found["ContentType"], found["Metadata"]) == (body, "a/b", {"m": "1"})
    client.delete_object(Bucket="store", Key="c")
    assert not [p for p in (s3.server.config.data / "parts").rglob("*") if p.is_file()]


def test_copies_that_are_refused(client: Any) -> None:
    """Conditions of both sides, an absent source, a copy onto itself."""
    etag = client.put_object(Bucket="staging", Key="k", Body=b"1")["ETag"]
    base = {"Bucket": "store", "Key": "c", "CopySource": "staging/k"}

    assert refusal(client.copy_object, **base, CopySourceIfMatch='"x"') == (412, "PreconditionFailed")
    assert refusal(client.copy_object, **base, CopySourceIfNoneMatch=etag) == (412, "PreconditionFailed")
    assert refusal(client.copy_object, **base | {"CopySource": "staging/no"}) == (404, "NoSuchKey")
    assert refusal(client.copy_object, **base | {"CopySource": "nobucket/no"}) == (404, "NoSuchBucket")
    assert refusal(client.copy_object, Bucket="staging", Key="k", CopySource="staging/k") == (400, "InvalidRequest")
    client.copy_object(**base, CopySourceIfMatch=etag)
    assert refusal(client.copy_object, **base, IfNoneMatch="*") == (412, "PreconditionFailed")
    client.copy_object(
        Bucket="staging", Key="k", CopySource="staging/k", MetadataDirective="REPLACE", Metadata={"a": "b"}
    )
    assert client.head_object(Bucket="staging", Key="k")["Metadata"] == {"a": "b"}


def test_versions(client: Any) -> None:
    """Every write a version, a delete a marker, each readable and removable by its id."""
    at = {"Bucket": "versioned", "Key": "k"}
    first = client.put_object(**at, Body=b"1")["VersionId"]
    second = client.put_object(**at, Body=b"2")["VersionId"]
    marker = client.delete_object(**at)

    assert marker["DeleteMarker"] is True
    assert refusal(client.get_object, **at) == (404, "NoSuchKey")
    assert refusal(client.get_object, **at, VersionId=marker["VersionId"]) == (405, "MethodNotAllowed")
    assert client.get_object(**at, VersionId=first)["Body"].read() == b"1"
    assert client.head_object(**at, VersionId=second)["VersionId"] == second
    assert refusal(client.get_object, **at, VersionId="nonsense") == (400, "InvalidArgument")
    listed = client.list_object_versions(Bucket="versioned")
    assert [row["VersionId"] for row in listed["Versions"]] == [second, first]
    assert listed["DeleteMarkers"][0]["IsLatest"] is True
    copied = client.copy_object(Bucket="versioned", Key="c", CopySource={**at, "VersionId": first})
    assert copied["CopySourceVersionId"] == first
    assert copied["VersionId"]

    assert client.delete_object(**at, VersionId=marker["VersionId"])["DeleteMarker"] is True
    assert client.get_object(**at)["Body"].read() == b"2"
    client.delete_object(**at, VersionId=second)
    assert client.get_object(**at)["VersionId"] == first
    assert refusal(client.get_object, **at, VersionId=second) == (404, "NoSuchVersion")
    assert client.list_objects_v2(Bucket="versioned")["KeyCount"] == 2


def test_lists_page_and_roll_up(client: Any) -> None:
    """Both versions of ListObjects, every page size, by boto3's paginators."""
    keys = [f"{a}/{b}" for a in "abc" for b in range(4)] + ["top", "ü/1"]
    for key in keys:
        client.put_object(Bucket="staging", Key=key, Body=b"")
    for name in ("list_objects_v2", "list_objects"):
        pages = client.get_paginator(name).paginate(Bucket="staging", PaginationConfig={"PageSize": 3})
        assert [row["Key"] for page in pages for row in page.get("Contents", [])] == sorted(keys, key=str.encode)
        found = []
        for page in client.get_paginator(name).paginate(
            Bucket="staging", Delimiter="/", PaginationConfig={"PageSize": 1}
        ):
            found += [row["Key"] for row in page.get("Contents", [])]
            found += [row["Prefix"] for row in page.get("CommonPrefixes", [])]
        assert found == ["a/", "b/", "c/", "top", "ü/"]
    assert client.list_objects_v2(Bucket="staging", Prefix="a/", StartAfter="a/1")["KeyCount"] == 2
    assert client.list_objects_v2(Bucket="staging", MaxKeys=0)["KeyCount"] == 0
    assert refusal(client.list_objects_v2, Bucket="staging", ContinuationToken="x") == (400, "InvalidArgument")
    assert refusal(client.list_objects_v2, Bucket="absent") == (404, "NoSuchBucket")


def test_buckets(s3: RunningS3, client: Any) -> None:
    """What there is, where, with which rules; made and removed."""
    assert [row["Name"] for row in client.list_buckets()["Buckets"]] == ["derived", "staging", "store", "versioned"]
    assert client.head_bucket(Bucket="store")["BucketRegion"] == s3.region
    assert client.get_bucket_location(Bucket="store")["LocationConstraint"] is None
    assert client.get_bucket_cors(Bucket="staging")["CORSRules"][0]["MaxAgeSeconds"] == 3000
    assert refusal(client.get_bucket_cors, Bucket="store") == (404, "NoSuchCORSConfiguration")
    assert client.get_bucket_versioning(Bucket="versioned")["Status"] == "Enabled"
    client.create_bucket(Bucket="another")
    client.create_bucket(Bucket="another")  # again: no error in us-east-1, as on S3
    client.put_object(Bucket="another", Key="k", Body=b"")
    assert refusal(client.delete_bucket, Bucket="another") == (409, "BucketNotEmpty")
    client.delete_object(Bucket="another", Key="k")
    client.delete_bucket(Bucket="another")
    assert refusal(client.head_bucket, Bucket="another") == (404, "404")


def test_delete_objects(client: Any) -> None:
    """Many at once; what is not there counts as deleted."""
    client.put_object(Bucket="staging", Key="a&<b>", Body=b"x")

    answer = client.delete_objects(Bucket="staging", Delete={"Objects": [{"Key": "a&<b>"}, {"Key": "no"}]})

    assert [row["Key"] for row in answer["Deleted"]] == ["a&<b>", "no"]
    assert client.list_objects_v2(Bucket="staging")["KeyCount"] == 0


def test_cors_over_the_wire(s3: RunningS3, client: Any) -> None:
    """Preflight needs no signature; refusals carry the headers too, so that a page can read them."""
    url = client.generate_presigned_url("put_object", Params={"Bucket": "staging", "Key": "k"})
    ask = {"Origin": "https://page.example", "Access-Control-Request-Method": "PUT"}

    allowed = send(url, "OPTIONS", headers=ask | {"Access-Control-Request-Headers": "x-amz-checksum-sha256"})
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, "https://page.example")
    assert send(url, "OPTIONS", headers=ask | {"Origin": "https://foreign.example"}).refusal == (403, "AccessForbidden")
    assert send(f"{s3.endpoint}/store/k", "OPTIONS", headers=ask).refusal == (403, "AccessForbidden")
    assert send(url, "OPTIONS").refusal == (400, "BadRequest")

    stored = send(url, "PUT", b"x", {"Origin": "https://page.example"})
    assert "ETag" in stored.headers["access-control-expose-headers"]
    refused = send(url.replace("Signature=", "Signature=0"), "PUT", b"x", {"Origin": "https://page.example"})
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (403, "https://page.example")
    foreign = send(url, "PUT", b"x", {"Origin": "https://foreign.example"})
    assert foreign.status == 200
    assert "access-control-allow-origin" not in foreign.headers


def test_hoisted_metadata_counts_as_a_header(s3: RunningS3, client: Any) -> None:
    """SDKs that presign put x-amz-meta-* into the signed query."""
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    from heavylift_local.s3 import testing

    request = AWSRequest("PUT", f"{s3.endpoint}/staging/k?x-amz-meta-name=v%C3%A4&x-amz-checksum-crc32=AAAAAA%3D%3D")
    S3SigV4QueryAuth(Credentials(testing.ACCESS_KEY, testing.SECRET_KEY), "s3", s3.region, 60).add_auth(request)

    assert send(request.url, "PUT", b"abc").status == 200  # the checksum there is not checked, as on S3
    shown = client.head_object(Bucket="staging", Key="k")["Metadata"]["name"]
    assert shown == f"=?UTF-8?B?{base64.b64encode('vä'.encode()).decode()}?="  # RFC 2047, as S3 gives it
