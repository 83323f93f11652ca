"""Multipart uploads: what parts make, what is refused, what races do."""

import base64
import hashlib
import os
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from heavylift_local.s3 import checksums
from heavylift_local.s3.testing import RunningS3, send

MIB = 1024**2
LARGE = os.urandom(5 * MIB)
LAST = b"the end"
AT = {"Bucket": "staging", "Key": "k"}


def refusal(call: Any, **parameters: Any) -> tuple[int, str]:
    """(status, code) of a call that must fail."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def digest(name: str, data: bytes) -> bytes:
    running = checksums.new(name)
    running.update(memoryview(data))
    return running.digest()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def start(
    client: Any, bodies: dict[int, bytes], algorithm: str | None = None, kind: str | None = None
) -> tuple[str, list[Any]]:
    """(upload id, part list for Complete)."""
    declared = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    upload = client.create_multipart_upload(**AT, **declared, **({"ChecksumType": kind} if kind else {}))["UploadId"]
    parts = []
    for number, body in bodies.items():
        answer = client.upload_part(**AT, UploadId=upload, PartNumber=number, Body=body, **declared)
        part = {"PartNumber": number, "ETag": answer["ETag"]}
        if algorithm:
            part[f"Checksum{algorithm}"] = answer[f"Checksum{algorithm}"]
        parts.append(part)
    return upload, parts


def complete(client: Any, upload: str, parts: list[Any], **more: Any) -> Any:
    return client.complete_multipart_upload(**AT, UploadId=upload, MultipartUpload={"Parts": parts}, **more)


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("SHA256", None),
        ("SHA1", None),
        ("CRC32", "COMPOSITE"),
        ("CRC32", "FULL_OBJECT"),
        ("CRC32C", "COMPOSITE"),
        ("CRC32C", "FULL_OBJECT"),
        ("CRC64NVME", None),
        (None, None),
    ],
)
def test_the_object_has_the_checksum_its_parts_make(client: Any, algorithm: str | None, kind: str | None) -> None:
    """In the answer, on HEAD, and each part its own where one was declared."""
    upload, parts = start(client, {1: LARGE, 2: LAST}, algorithm, kind)
    listed = client.list_parts(**AT, UploadId=upload)
    name = algorithm or "CRC64NVME"
    expected_kind = kind or ("COMPOSITE" if name.startswith("SHA") else "FULL_OBJECT")

    answer = complete(client, upload, parts, MpuObjectSize=len(LARGE + LAST))

    if expected_kind == "COMPOSITE":
        value = b64(digest(name, digest(name, LARGE) + digest(name, LAST))) + "-2"
    else:
        value = b64(digest(name, LARGE + LAST))
    assert (answer[f"Checksum{name}"], answer["ChecksumType"]) == (value, expected_kind)
    md5s = hashlib.md5(LARGE).digest() + hashlib.md5(LAST).digest()
    assert answer["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-2"'
    head = client.head_object(**AT, ChecksumMode="ENABLED")
    assert (head[f"Checksum{name}"], head["ChecksumType"], head["ContentLength"]) == (
        value,
        expected_kind,
        len(LARGE + LAST),
    )
    assert (f"Checksum{name}" in listed["Parts"][0]) == (algorithm is not None)
    second = client.get_object(**AT, PartNumber=2, ChecksumMode="ENABLED")
    assert (second["Body"].read(), second["PartsCount"]) == (LAST, 2)
    assert second.get(f"Checksum{name}") == (b64(digest(name, LAST)) if algorithm else None)
    assert client.get_object(**AT)["Body"].read() == LARGE + LAST


def test_object_attributes(client: Any) -> None:
    """Part checksums page by page where COMPOSITE, else a count; values without quotes and part number."""
    every = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    upload, parts = start(client, {1: LARGE, 2: LAST}, "SHA256")
    made = complete(client, upload, parts)

    found = client.get_object_attributes(**AT, ObjectAttributes=every, MaxParts=1)

    assert found["ETag"] == made["ETag"].strip('"')
    assert found["Checksum"]["ChecksumSHA256"] + "-2" == made["ChecksumSHA256"]
    assert (found["ObjectSize"], found["StorageClass"]) == (len(LARGE + LAST), "STANDARD")
    page = found["ObjectParts"]
    assert (page["TotalPartsCount"], page["IsTruncated"], page["NextPartNumberMarker"]) == (2, True, 1)
    assert page["Parts"] == [{"PartNumber": 1, "Size": len(LARGE), "ChecksumSHA256": b64(digest("SHA256", LARGE))}]
    upload, parts = start(client, {1: LAST})
    complete(client, upload, parts)
    found = client.get_object_attributes(**AT, ObjectAttributes=every)
    assert found["ObjectParts"] == {"TotalPartsCount": 1}
    assert refusal(client.get_object_attributes, **AT, ObjectAttributes=["What"]) == (400, "InvalidArgument")


@pytest.mark.parametrize(
    "declared",
    [
        {"ChecksumAlgorithm": "SHA256", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumAlgorithm": "SHA1", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "COMPOSITE"},
        {"ChecksumType": "COMPOSITE"},
        {"ChecksumAlgorithm": "ROT13"},
    ],
)
def test_pairs_of_algorithm_and_type_that_s3_has_not(client: Any, declared: dict[str, str]) -> None:
    """400 InvalidRequest at Create."""
    assert refusal(client.create_multipart_upload, **AT, **declared) == (400, "InvalidRequest")


def _part_url(client: Any, upload: str, number: int = 1, **more: Any) -> str:
    return client.generate_presigned_url("upload_part", Params={**AT, "UploadId": upload, "PartNumber": number, **more})


def test_parts_that_are_refused(client: Any) -> None:
    """A part must carry the declared checksum, of its own bytes, under a number that exists, in an open upload."""
    upload, _ = start(client, {}, "SHA256")
    body = b"abc"
    right, wrong = b64(hashlib.sha256(body).digest()), b64(hashlib.sha256(b"x").digest())
    crc = b64(digest("CRC32", body))

    assert send(_part_url(client, upload), "PUT", body).refusal == (400, "InvalidRequest")
    url = _part_url(client, upload, ChecksumCRC32=crc)
    assert send(url, "PUT", body, {"x-amz-checksum-crc32": crc}).refusal == (400, "InvalidRequest")
    url = _part_url(client, upload, ChecksumSHA256=wrong)
    assert send(url, "PUT", body, {"x-amz-checksum-sha256": wrong}).refusal == (400, "BadDigest")
    for number in (0, -1, 10_001):
        sha = {"ChecksumSHA256": right}
        call = {**AT, "UploadId": upload, "PartNumber": number, "Body": body}
        assert refusal(client.upload_part, **call, **sha) == (400, "InvalidArgument")
    assert "Parts" not in client.list_parts(**AT, UploadId=upload)
    at_other = {"Bucket": "staging", "Key": "other", "UploadId": upload}
    assert refusal(client.upload_part, **at_other, PartNumber=1, Body=body) == (404, "NoSuchUpload")
    assert refusal(client.list_parts, **at_other) == (404, "NoSuchUpload")
    assert refusal(client.abort_multipart_upload, **at_other) == (404, "NoSuchUpload")
    client.abort_multipart_upload(**AT, UploadId=upload)
    assert refusal(client.upload_part, **AT, UploadId=upload, PartNumber=1, Body=body) == (404, "NoSuchUpload")
    assert refusal(client.abort_multipart_upload, **AT, UploadId=upload) == (404, "NoSuchUpload")


def test_a_full_object_upload_takes_parts_without_checksum(client: Any) -> None:
    """S3 computes what the client leaves out."""
    upload, _ = start(client, {}, "CRC32", "FULL_OBJECT")

    answer = send(_part_url(client, upload), "PUT", LAST)

    assert answer.headers["x-amz-checksum-crc32"] == b64(digest("CRC32", LAST))
    made = complete(client, upload, [{"PartNumber": 1, "ETag": answer.headers["etag"]}])
    assert made["ChecksumCRC32"] == b64(digest("CRC32", LAST))


def test_completes_that_are_refused_leave_the_upload_usable(client: Any) -> None:
    """Wrong lists, wrong sums, wrong conditions; then the right one."""
    upload, parts = start(client, {1: LARGE, 2: LAST}, "SHA256")
    one, two = parts
    bare = [{k: v for k, v in part.items() if k != "ChecksumSHA256"} for part in parts]

    def tried(parts: list[Any], **more: Any) -> tuple[int, str]:
        return refusal(complete, client=client, upload=upload, parts=parts, **more)

    assert tried([two, one]) == (400, "InvalidPartOrder")
    assert tried([one, one]) == (400, "InvalidPartOrder")
    assert tried([one, two | {"ETag": one["ETag"]}]) == (400, "InvalidPart")
    assert tried([one, two, two | {"PartNumber": 3}]) == (400, "InvalidPart")
    assert tried([one, two | {"ChecksumSHA256": one["ChecksumSHA256"]}]) == (400, "InvalidPart")
    assert tried(bare) == (400, "InvalidRequest")
    assert tried([part | {"ChecksumCRC32": "AAAAAA=="} for part in bare]) == (400, "BadDigest")
    assert tried(parts, MpuObjectSize=1) == (400, "InvalidRequest")
    assert tried(parts, ChecksumType="FULL_OBJECT") == (400, "InvalidRequest")
    assert tried(parts, ChecksumSHA256=one["ChecksumSHA256"]) == (400, "BadDigest")
    assert tried([two]) == (400, "InvalidPartOrder")  # a gap, where a checksum was declared
    assert tried(parts, IfMatch='"x"') == (404, "NoSuchKey")
    client.put_object(**AT, Body=b"older")
    assert tried(parts, IfNoneMatch="*") == (412, "PreconditionFailed")
    assert tried(parts, IfMatch='"x"') == (412, "PreconditionFailed")
    assert client.get_object(**AT)["Body"].read() == b"older"

    assert complete(client, upload, parts, MpuObjectSize=len(LARGE + LAST))["ChecksumType"] == "COMPOSITE"


def test_small_parts_and_empty_lists(client: Any) -> None:
    """5 MiB but for the last; at least one part; no XML that is none."""
    upload, parts = start(client, {1: b"small", 2: b"small"})

    assert refusal(complete, client=client, upload=upload, parts=parts) == (400, "EntityTooSmall")
    for body, code in (
        (b"", "InvalidRequest"),
        (b"<CompleteMultipartUpload/>", "MalformedXML"),
        (b"<x", "MalformedXML"),
    ):
        url = client.generate_presigned_url("complete_multipart_upload", Params={**AT, "UploadId": upload})
        assert send(url, "POST", body).refusal == (400, code)
    assert complete(client, upload, parts[1:])["ETag"].endswith('-1"')  # a gap is fine without a declared checksum


def test_full_checksums_are_compared(client: Any) -> None:
    """A FULL_OBJECT value in the request must be the object's."""
    upload, parts = start(client, {1: LARGE, 2: LAST}, "CRC32C", "FULL_OBJECT")
    whole = b64(digest("CRC32C", LARGE + LAST))

    assert refusal(complete, client=client, upload=upload, parts=parts, ChecksumCRC32C="AAAAAA==") == (400, "BadDigest")
    assert refusal(complete, client=client, upload=upload, parts=parts, ChecksumCRC32="AAAAAA==") == (400, "BadDigest")
    assert complete(client, upload, parts, ChecksumCRC32C=whole, ChecksumType="FULL_OBJECT")["ChecksumCRC32C"] == whole


def test_conflicts_while_an_upload_was_open(client: Any) -> None:
    """Deleted or rewritten since Create: 409, also where bytes and ETag are equal again."""
    etag = client.put_object(**AT, Body=b"1")["ETag"]
    upload, parts = start(client, {1: LAST})
    client.put_object(**AT, Body=b"1")
    assert refusal(complete, client=client, upload=upload, parts=parts, IfMatch=etag) == (
        409,
        "ConditionalRequestConflict",
    )
    client.delete_object(**AT)
    conflict = refusal(complete, client=client, upload=upload, parts=parts, IfNoneMatch="*")
    assert conflict == (409, "ConditionalRequestConflict")
    complete(client, upload, parts)


def test_the_same_complete_again_gets_the_same_answer(s3: RunningS3, client: Any) -> None:
    """Also after a restart; another list is 404; the object is written once."""
    upload, parts = start(client, {1: LARGE, 2: LAST})

    first = complete(client, upload, parts, IfNoneMatch="*")
    again = complete(client, upload, parts, IfNoneMatch="*")

    assert {k: v for k, v in first.items() if k != "ResponseMetadata"} == {
        k: v for k, v in again.items() if k != "ResponseMetadata"
    }
    assert refusal(complete, client=client, upload=upload, parts=parts[:1]) == (404, "NoSuchUpload")
    assert refusal(client.list_parts, **AT, UploadId=upload) == (404, "NoSuchUpload")


def test_eight_completes_at_once_make_one_object(client: Any) -> None:
    """All get the same 200; a versioned bucket shows one version."""
    at = {"Bucket": "versioned", "Key": "k"}
    upload = client.create_multipart_upload(**at)["UploadId"]
    etag = client.upload_part(**at, UploadId=upload, PartNumber=1, Body=LAST)["ETag"]
    answers: list[Any] = []

    def run() -> None:
        answers.append(
            client.complete_multipart_upload(
                **at, UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}, IfNoneMatch="*"
            )
        )

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({(a["ETag"], a["VersionId"]) for a in answers}) == 1
    assert len(answers) == 8
    assert len(client.list_object_versions(Bucket="versioned")["Versions"]) == 1


def test_a_part_sent_again_replaces_the_old_one(s3: RunningS3, client: Any) -> None:
    """And its bytes leave the disk."""
    upload, _ = start(client, {1: LARGE})
    _, parts = (
        upload,
        [{"PartNumber": 1, "ETag": client.upload_part(**AT, UploadId=upload, PartNumber=1, Body=LAST)["ETag"]}],
    )

    complete(client, upload, parts)

    assert client.get_object(**AT)["Body"].read() == LAST
    files = [p for p in (s3.server.config.data / "parts").rglob("*") if p.is_file()]
    assert [p.stat().st_size for p in files] == [len(LAST)]


def test_parts_left_out_leave_the_disk(s3: RunningS3, client: Any) -> None:
    """Complete keeps what it lists, abort nothing."""
    upload, parts = start(client, {1: LARGE, 2: LAST, 3: b"left out"})
    complete(client, upload, parts[:2])
    other, _ = start(client, {1: LARGE})
    client.abort_multipart_upload(**AT, UploadId=other)

    files = [p.stat().st_size for p in (s3.server.config.data / "parts").rglob("*") if p.is_file()]
    assert sorted(files) == [len(LAST), len(LARGE)]


def test_part_copies_share_bytes(s3: RunningS3, client: Any) -> None:
    """Ranges of another object as parts; the answer carries the upload's checksum; odd ranges are refused."""
    source = os.urandom(11 * MIB)
    client.put_object(Bucket="store", Key="s", Body=source)
    upload, _ = start(client, {}, "CRC32", "FULL_OBJECT")
    base = {**AT, "UploadId": upload, "CopySource": "store/s"}
    parts = []
    for number, (first, last) in enumerate([(0, 6 * MIB - 1), (6 * MIB, 11 * MIB - 1), (5, 9)], 1):
        span = f"bytes={first}-{last}"
        result = client.upload_part_copy(**base, PartNumber=number, CopySourceRange=span)["CopyPartResult"]
        assert result["ChecksumCRC32"] == b64(digest("CRC32", source[first : last + 1]))
        assert result["ETag"] == f'"{hashlib.md5(source[first : last + 1]).hexdigest()}"'
        parts.append({"PartNumber": number, "ETag": result["ETag"]})
    past = f"bytes=0-{11 * MIB}"
    assert refusal(client.upload_part_copy, **base, PartNumber=4, CopySourceRange=past) == (400, "InvalidArgument")
    assert refusal(client.upload_part_copy, **base, PartNumber=4, CopySourceIfMatch='"x"') == (
        412,
        "PreconditionFailed",
    )

    made = complete(client, upload, parts)

    whole = source + source[5:10]
    assert made["ChecksumCRC32"] == b64(digest("CRC32", whole))
    client.delete_object(Bucket="store", Key="s")
    assert client.get_object(**AT)["Body"].read() == whole
    files = [p for p in (s3.server.config.data / "parts").rglob("*") if p.is_file()]
    assert [p.stat().st_size for p in files] == [len(source)]


def test_a_copy_of_a_multipart_object_has_a_plain_etag(client: Any) -> None:
    """MD5 of the bytes and a full checksum, by one read."""
    upload, parts = start(client, {1: LARGE, 2: LAST}, "SHA256")
    complete(client, upload, parts)

    copy = client.copy_object(Bucket="store", Key="c", CopySource="staging/k")["CopyObjectResult"]

    assert copy["ETag"] == f'"{hashlib.md5(LARGE + LAST).hexdigest()}"'
    assert copy["ChecksumSHA256"] == b64(hashlib.sha256(LARGE + LAST).digest())


def test_list_parts_pages_over_gaps(client: Any) -> None:
    """Pages go by part number, and the next marker is the last number shown."""
    upload, _ = start(client, dict.fromkeys((1, 2, 3, 5, 9, 10, 11), b"x"))
    pages = client.get_paginator("list_parts").paginate(**AT, UploadId=upload, PaginationConfig={"PageSize": 2})

    assert [[part["PartNumber"] for part in page["Parts"]] for page in pages] == [[1, 2], [3, 5], [9, 10], [11]]
    assert client.list_parts(**AT, UploadId=upload)["NextPartNumberMarker"] == 11
    assert client.list_parts(**AT, UploadId=upload, PartNumberMarker=11)["NextPartNumberMarker"] == 0


def test_list_uploads_pages_by_key_and_start(client: Any) -> None:
    """Two uploads of one key in the order they began; prefixes rolled up; a wrong marker is refused."""
    made = [
        (key, client.create_multipart_upload(Bucket="staging", Key=key)["UploadId"]) for key in ("b", "a/1", "b", "a/2")
    ]
    ordered = [made[1], made[3], made[0], made[2]]
    call = client.get_paginator("list_multipart_uploads").paginate

    for size in (1, 2, 1000):
        pages = call(Bucket="staging", PaginationConfig={"PageSize": size})
        assert [(u["Key"], u["UploadId"]) for page in pages for u in page.get("Uploads", [])] == ordered
    rolled = client.list_multipart_uploads(Bucket="staging", Delimiter="/")
    assert [row["Prefix"] for row in rolled["CommonPrefixes"]] == ["a/"]
    assert [row["Key"] for row in rolled["Uploads"]] == ["b", "b"]
    assert client.list_multipart_uploads(Bucket="staging", Prefix="a/", MaxUploads=1)["IsTruncated"] is True
    wrong = {"Bucket": "staging", "KeyMarker": "b", "UploadIdMarker": made[1][1]}
    assert refusal(client.list_multipart_uploads, **wrong) == (400, "InvalidArgument")


def test_boto3_transfers(client: Any, tmp_path: Any) -> None:
    """upload_file, download_file and copy with default settings."""
    path = tmp_path / "f"
    path.write_bytes(os.urandom(20 * MIB))

    client.upload_file(str(path), "staging", "f")
    client.copy({"Bucket": "staging", "Key": "f"}, "store", "g")
    client.download_file("store", "g", str(tmp_path / "g"))

    assert (tmp_path / "g").read_bytes() == path.read_bytes()
