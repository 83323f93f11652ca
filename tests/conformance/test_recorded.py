"""What Amazon S3 itself was recorded to answer, as facts of our own wording: status, Code and the fields beside it.

Source of the facts: the answers of the real service that LocalStack's project publishes with its S3 tests (files
`tests/aws/services/s3/*.snapshot.json` of github.com/localstack/localstack, recorded in February 2026, Apache-2.0).
Requests, names and values here are the project's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conformance.target import MIB, error_of

Call = Callable[["Scene"], Any]
NO_DIGEST = "AAAAAA=="  # four bytes: a CRC of the right length


@dataclass(slots=True)
class Scene:
    """A bucket with the object `k` (ten bytes) in it, and the beginnings that cases share."""

    s3: Any
    bucket: str
    etag: str

    def at(self, key: str = "k") -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": key}

    def upload(self, key: str = "u", **more: Any) -> dict[str, str]:
        begun = self.s3.create_multipart_upload(**self.at(key), **more)
        return {**self.at(key), "UploadId": begun["UploadId"]}

    def parts(self, upload: dict[str, str], *bodies: bytes, **more: Any) -> list[dict[str, Any]]:
        sent = [(n, self.s3.upload_part(**upload, PartNumber=n, Body=b, **more)) for n, b in enumerate(bodies, start=1)]
        return [
            {
                "PartNumber": n,
                "ETag": p["ETag"],
                **{k: p[k] for k in p if k.startswith("Checksum") and "ChecksumAlgorithm" in more},
            }
            for n, p in sent
        ]

    def complete(self, upload: dict[str, str], parts: list[dict[str, Any]], **more: Any) -> Any:
        return self.s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **more)


@dataclass(frozen=True, slots=True)
class Refused:
    name: str
    call: Call
    status: int
    code: str
    fields: dict[str, str] = field(default_factory=dict)


def _complete_with(bodies: list[bytes], change: Callable[[list[dict[str, Any]]], Any], **more: Any) -> Call:
    """An upload of *bodies* whose list of parts went through *change*."""

    def call(scene: Scene) -> Any:
        upload = scene.upload()
        return scene.complete(upload, change(scene.parts(upload, *bodies)), **more)

    return call


def _checked(algorithm: str, kind: str | None, finish: Callable[[Scene, dict[str, str]], Any]) -> Call:
    """An upload with *algorithm* declared, handed to *finish*."""

    def call(scene: Scene) -> Any:
        more = {"ChecksumType": kind} if kind else {}
        return finish(scene, scene.upload(ChecksumAlgorithm=algorithm, **more))

    return call


def _without(parts: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in part.items() if k != name} for part in parts]


def _deleted_meanwhile(scene: Scene) -> Any:
    upload = scene.upload("k")
    parts = scene.parts(upload, b"x")
    scene.s3.delete_object(**scene.at())
    return scene.complete(upload, parts, IfNoneMatch="*")


def _rewritten_meanwhile(scene: Scene) -> Any:
    upload = scene.upload("k")
    parts = scene.parts(upload, b"x")
    etag = scene.s3.put_object(**scene.at(), Body=b"0123456789")["ETag"]
    return scene.complete(upload, parts, IfMatch=etag)


def _listed_after_completion(scene: Scene) -> Any:
    upload = scene.upload()
    scene.complete(upload, scene.parts(upload, b"x"))
    return scene.s3.list_parts(**upload)


REFUSED = [
    Refused(
        "no-such-bucket", lambda s: s.s3.get_object(Bucket="never-made-" + s.bucket[:40], Key="k"), 404, "NoSuchBucket"
    ),
    Refused("no-such-key", lambda s: s.s3.get_object(**s.at("no")), 404, "NoSuchKey", {"Key": "no"}),
    Refused("head-tells-no-code", lambda s: s.s3.head_object(**s.at("no")), 404, "404"),
    Refused(
        "range-beyond-the-end",
        lambda s: s.s3.get_object(**s.at(), Range="bytes=1024-4096"),
        416,
        "InvalidRange",
        {"ActualObjectSize": "10", "RangeRequested": "bytes=1024-4096"},
    ),
    Refused(
        "if-match",
        lambda s: s.s3.get_object(**s.at(), IfMatch='"x"'),
        412,
        "PreconditionFailed",
        {"Condition": "If-Match"},
    ),
    Refused("if-none-match", lambda s: s.s3.get_object(**s.at(), IfNoneMatch=s.etag), 304, "304"),
    Refused("no-such-bucket-by-head", lambda s: s.s3.head_bucket(Bucket="no." + s.bucket[:40]), 404, "404"),
    Refused("bucket-not-empty", lambda s: s.s3.delete_bucket(Bucket=s.bucket), 409, "BucketNotEmpty"),
    Refused(
        "us-east-1-is-not-named",
        lambda s: s.s3.create_bucket(
            Bucket=s.bucket + "-x", CreateBucketConfiguration={"LocationConstraint": "us-east-1"}
        ),
        400,
        "InvalidLocationConstraint",
    ),
    Refused(
        "another-value-than-star",
        lambda s: s.s3.put_object(**s.at("new"), Body=b"", IfNoneMatch='"abc"'),
        501,
        "NotImplemented",
        {"Header": "If-None-Match"},
    ),
    Refused(
        "both-conditions",
        lambda s: s.s3.put_object(**s.at(), Body=b"", IfNoneMatch="*", IfMatch=s.etag),
        501,
        "NotImplemented",
    ),
    Refused("if-match-of-nothing", lambda s: s.s3.put_object(**s.at("no"), Body=b"", IfMatch=s.etag), 404, "NoSuchKey"),
    Refused(
        "deleted-while-uploading", _deleted_meanwhile, 409, "ConditionalRequestConflict", {"Condition": "If-None-Match"}
    ),
    Refused(
        "rewritten-while-uploading", _rewritten_meanwhile, 409, "ConditionalRequestConflict", {"Condition": "If-Match"}
    ),
    Refused(
        "storage-class-of-outposts",
        lambda s: s.s3.put_object(**s.at("o"), StorageClass="OUTPOSTS"),
        400,
        "InvalidStorageClass",
    ),
    Refused("unknown-algorithm", lambda s: s.upload(ChecksumAlgorithm="TEST"), 400, "InvalidRequest"),
    Refused("type-without-algorithm", lambda s: s.upload(ChecksumType="COMPOSITE"), 400, "InvalidRequest"),
    Refused(
        "crc64-composite",
        lambda s: s.upload(ChecksumAlgorithm="CRC64NVME", ChecksumType="COMPOSITE"),
        400,
        "InvalidRequest",
    ),
    Refused(
        "sha256-full", lambda s: s.upload(ChecksumAlgorithm="SHA256", ChecksumType="FULL_OBJECT"), 400, "InvalidRequest"
    ),
    Refused(
        "sha1-full", lambda s: s.upload(ChecksumAlgorithm="SHA1", ChecksumType="FULL_OBJECT"), 400, "InvalidRequest"
    ),
    Refused(
        "part-with-another-algorithm",
        _checked("SHA256", None, lambda s, u: s.parts(u, b"x", ChecksumAlgorithm="CRC32")),
        400,
        "InvalidRequest",
    ),
    Refused(
        "composite-without-part-checksums",
        _checked(
            "SHA256",
            None,
            lambda s, u: s.complete(u, _without(s.parts(u, b"x", ChecksumAlgorithm="SHA256"), "ChecksumSHA256")),
        ),
        400,
        "InvalidRequest",
    ),
    Refused(
        "composite-completed-as-full",
        _checked(
            "CRC32",
            None,
            lambda s, u: s.complete(u, s.parts(u, b"x", ChecksumAlgorithm="CRC32"), ChecksumType="FULL_OBJECT"),
        ),
        400,
        "InvalidRequest",
    ),
    Refused(
        "wrong-full-checksum",
        _checked(
            "CRC32C",
            "FULL_OBJECT",
            lambda s, u: s.complete(
                u, s.parts(u, b"x", ChecksumAlgorithm="CRC32C"), ChecksumType="FULL_OBJECT", ChecksumCRC32C=NO_DIGEST
            ),
        ),
        400,
        "BadDigest",
    ),
    Refused(
        "part-number-zero", lambda s: s.s3.upload_part(**s.upload(), PartNumber=0, Body=b""), 400, "InvalidArgument"
    ),
    Refused(
        "part-number-too-high",
        lambda s: s.s3.upload_part(**s.upload(), PartNumber=10_001, Body=b""),
        400,
        "InvalidArgument",
        {"ArgumentName": "partNumber", "ArgumentValue": "10001"},
    ),
    Refused("descending", _complete_with([b"x" * (5 * MIB), b"y"], lambda p: p[::-1]), 400, "InvalidPartOrder"),
    Refused(
        "too-small",
        _complete_with([b"tiny", b"y"], list),
        400,
        "EntityTooSmall",
        {"PartNumber": "1", "MinSizeAllowed": "5242880", "ProposedSize": "4"},
    ),
    Refused("no-list", lambda s: s.s3.complete_multipart_upload(**s.upload()), 400, "InvalidRequest"),
    Refused(
        "wrong-part",
        _complete_with([b"x"], lambda p: [{**p[0], "PartNumber": 2}]),
        400,
        "InvalidPart",
        {"PartNumber": "2"},
    ),
    Refused("wrong-etag", _complete_with([b"x"], lambda p: [{**p[0], "ETag": "0" * 32}]), 400, "InvalidPart"),
    Refused("wrong-size", _complete_with([b"four"], list, MpuObjectSize=5), 400, "InvalidRequest"),
    Refused("list-after-complete", _listed_after_completion, 404, "NoSuchUpload"),
    Refused(
        "id-with-another-key",
        lambda s: s.s3.upload_part(**(s.upload() | {"Key": "other"}), PartNumber=1, Body=b""),
        404,
        "NoSuchUpload",
    ),
    Refused(
        "unknown-part",
        lambda s: s.s3.get_object(**s.at(), PartNumber=10),
        416,
        "InvalidPartNumber",
        {"PartNumberRequested": "10"},
    ),
    Refused(
        "part-and-range", lambda s: s.s3.get_object(**s.at(), PartNumber=1, Range="bytes=0-1"), 400, "InvalidRequest"
    ),
    Refused(
        "copy-onto-itself", lambda s: s.s3.copy_object(**s.at(), CopySource=f"{s.bucket}/k"), 400, "InvalidRequest"
    ),
    Refused("copy-of-nothing", lambda s: s.s3.copy_object(**s.at("c"), CopySource=f"{s.bucket}/no"), 404, "NoSuchKey"),
    Refused(
        "copy-source-without-key",
        lambda s: s.s3.copy_object(**s.at("c"), CopySource="only-a-bucket"),
        400,
        "InvalidArgument",
        {"ArgumentName": "x-amz-copy-source"},
    ),
    Refused(
        "copy-range-malformed",
        lambda s: s.s3.upload_part_copy(**s.upload(), PartNumber=1, CopySource=f"{s.bucket}/k", CopySourceRange="0-8"),
        400,
        "InvalidArgument",
        {"ArgumentName": "x-amz-copy-source-range"},
    ),
    Refused(
        "copy-range-past-the-end",
        lambda s: s.s3.upload_part_copy(
            **s.upload(), PartNumber=1, CopySource=f"{s.bucket}/k", CopySourceRange="bytes=0-100"
        ),
        400,
        "InvalidArgument",
    ),
    Refused(
        "copy-range-beyond-the-end",
        lambda s: s.s3.upload_part_copy(
            **s.upload(), PartNumber=1, CopySource=f"{s.bucket}/k", CopySourceRange="bytes=100-200"
        ),
        400,
        "InvalidRequest",
    ),
    Refused("version-never-made", lambda s: s.s3.get_object(**s.at(), VersionId="made-up"), 400, "InvalidArgument"),
    Refused(
        "token-made-up",
        lambda s: s.s3.list_objects_v2(Bucket=s.bucket, ContinuationToken="no token"),
        400,
        "InvalidArgument",
        {"ArgumentName": "continuation-token"},
    ),
    Refused(
        "version-marker-alone",
        lambda s: s.s3.list_object_versions(Bucket=s.bucket, VersionIdMarker="null"),
        400,
        "InvalidArgument",
        {"ArgumentName": "version-id-marker"},
    ),
    Refused(
        "upload-marker-of-another-key",
        lambda s: s.s3.list_multipart_uploads(
            Bucket=s.bucket, KeyMarker="elsewhere", UploadIdMarker=s.upload()["UploadId"]
        ),
        400,
        "InvalidArgument",
        {"ArgumentName": "upload-id-marker"},
    ),
    Refused(
        "encoding-unknown",
        lambda s: s.s3.list_objects_v2(Bucket=s.bucket, EncodingType="value"),
        400,
        "InvalidArgument",
        {"ArgumentName": "encoding-type"},
    ),
    Refused(
        "region-unknown",
        lambda s: s.s3.list_buckets(BucketRegion="eu-east-1"),
        400,
        "InvalidArgument",
        {"ArgumentName": "bucket-region"},
    ),
    Refused(
        "owner-that-is-no-account",
        lambda s: s.s3.get_object(**s.at(), ExpectedBucketOwner="0000"),
        400,
        "InvalidBucketOwnerAWSAccountID",
    ),
    Refused(
        "acl-on-a-new-bucket",
        lambda s: s.s3.create_bucket(Bucket=s.bucket + "-x", ACL="public-read"),
        400,
        "InvalidBucketAclWithObjectOwnership",
    ),
    Refused(
        "acl-on-an-object",
        lambda s: s.s3.put_object(**s.at("a"), ACL="public-read"),
        400,
        "AccessControlListNotSupported",
    ),
]


@pytest.fixture
def scene(s3: Any, bucket: str) -> Scene:
    return Scene(s3, bucket, s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")["ETag"])


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused_as_s3_refuses_it(scene: Scene, case: Refused) -> None:
    """Status, Code and the named fields."""
    answer = error_of(lambda: case.call(scene))
    error = answer["Error"]
    found = (answer["ResponseMetadata"]["HTTPStatusCode"], error["Code"], {k: error.get(k) for k in case.fields})
    assert found == (case.status, case.code, case.fields)


def test_list_fields(scene: Scene) -> None:
    """Owners have ids and no names; StartAfter is not repeated beside a token; empty fields are there or not."""
    scene.s3.put_object(**scene.at("l"), Body=b"")
    first = scene.s3.list_objects_v2(Bucket=scene.bucket, MaxKeys=1, StartAfter="a", FetchOwner=True)
    assert (first["KeyCount"], first["IsTruncated"], first["StartAfter"]) == (1, True, "a")
    assert set(first["Contents"][0]["Owner"]) == {"ID"}
    after = scene.s3.list_objects_v2(
        Bucket=scene.bucket, StartAfter="a", ContinuationToken=first["NextContinuationToken"]
    )
    assert "StartAfter" not in after
    assert after["ContinuationToken"] == first["NextContinuationToken"]
    assert [row["Key"] for row in after["Contents"]] == ["l"]
    old = scene.s3.list_objects(Bucket=scene.bucket, MaxKeys=1)
    assert (old["Marker"], old["IsTruncated"], "NextMarker" in old) == ("", True, False)


def test_buckets_say_where_they_are(scene: Scene) -> None:
    """Region and ARN of each; the prefix that was asked for."""
    answer = scene.s3.list_buckets(Prefix=scene.bucket)
    assert answer["Prefix"] == scene.bucket
    row = answer["Buckets"][0]
    assert (row["BucketRegion"], row["BucketArn"]) == ("us-east-1", f"arn:aws:s3:::{scene.bucket}")
    assert scene.s3.list_buckets(Prefix=scene.bucket.upper())["Buckets"] == []


def test_a_bucket_is_made_again_in_us_east_1(scene: Scene) -> None:
    """No error there, and nothing is lost."""
    scene.s3.create_bucket(Bucket=scene.bucket)
    assert scene.s3.head_object(**scene.at())["ContentLength"] == 10


def test_copies_are_single_parts(scene: Scene) -> None:
    """The copy of a multipart object has a plain ETag and a checksum of the whole."""
    upload = scene.upload(ChecksumAlgorithm="SHA256")
    done = scene.complete(upload, scene.parts(upload, b"x", ChecksumAlgorithm="SHA256"))
    assert done["ETag"].endswith('-1"')
    copied = scene.s3.copy_object(**scene.at("c"), CopySource=f"{scene.bucket}/u", ChecksumAlgorithm="SHA256")
    assert "-" not in copied["CopyObjectResult"]["ETag"]
    head = scene.s3.head_object(**scene.at("c"), ChecksumMode="ENABLED")
    assert (head["ChecksumType"], "PartsCount" in head) == ("FULL_OBJECT", False)


def test_attributes(scene: Scene) -> None:
    """The ETag without quotes; of parts without checksums of their own only how many there are."""
    upload = scene.upload()
    scene.complete(upload, scene.parts(upload, b"x"))
    known = scene.s3.get_object_attributes(
        **scene.at("u"), ObjectAttributes=["ETag", "ObjectParts", "StorageClass", "ObjectSize"]
    )
    assert not known["ETag"].startswith('"')
    assert known["ObjectParts"] == {"TotalPartsCount": 1}
    assert (known["StorageClass"], known["ObjectSize"]) == ("STANDARD", 1)


def test_an_undeclared_upload_ends_with_crc64nvme(scene: Scene) -> None:
    """S3 computes it by itself; ListParts shows no part checksums."""
    upload = scene.upload()
    parts = scene.parts(upload, b"x")
    listed = scene.s3.list_parts(**upload)
    assert not [name for name in listed["Parts"][0] if name.startswith("Checksum")]
    done = scene.complete(upload, parts)
    assert done["ChecksumType"] == "FULL_OBJECT"
    assert "ChecksumCRC64NVME" in done


def test_the_next_part_marker_is_always_there(scene: Scene) -> None:
    """The last part shown, truncated or not; zero when there is none."""
    upload = scene.upload()
    assert scene.s3.list_parts(**upload)["NextPartNumberMarker"] == 0
    scene.parts(upload, b"x", b"y")
    assert scene.s3.list_parts(**upload, MaxParts=1)["NextPartNumberMarker"] == 1
    assert scene.s3.list_parts(**upload)["NextPartNumberMarker"] == 2


def test_deleting_what_is_not_there(scene: Scene) -> None:
    """204, again and again; in a list it counts as deleted."""
    for _ in range(2):
        assert scene.s3.delete_object(**scene.at("no"))["ResponseMetadata"]["HTTPStatusCode"] == 204
    answer = scene.s3.delete_objects(Bucket=scene.bucket, Delete={"Objects": [{"Key": "no"}]})
    assert answer["Deleted"] == [{"Key": "no"}]


def test_a_part_of_a_full_object_has_its_checksum(scene: Scene) -> None:
    """Its own value, under the whole's type."""
    upload = scene.upload(ChecksumAlgorithm="CRC32C", ChecksumType="FULL_OBJECT")
    parts = scene.parts(upload, b"x", ChecksumAlgorithm="CRC32C")
    scene.complete(upload, parts, ChecksumType="FULL_OBJECT")
    part = scene.s3.get_object(**scene.at("u"), PartNumber=1, ChecksumMode="ENABLED")
    assert (part["ChecksumCRC32C"], part["ChecksumType"]) == (parts[0]["ChecksumCRC32C"], "FULL_OBJECT")


def test_a_made_up_version_in_a_list_of_deletions(scene: Scene) -> None:
    """NoSuchVersion for that row; the others go."""
    objects = [{"Key": "k", "VersionId": "made-up"}, {"Key": "k"}]
    answer = scene.s3.delete_objects(Bucket=scene.bucket, Delete={"Objects": objects})
    assert [(row["Key"], row["Code"]) for row in answer["Errors"]] == [("k", "NoSuchVersion")]
    assert [row["Key"] for row in answer["Deleted"]] == ["k"]


def test_content_encoding_is_kept_as_it_was_sent(scene: Scene) -> None:
    """Spaces too."""
    scene.s3.put_object(**scene.at("e"), Body=b"", ContentEncoding="deflate, gzip")
    assert scene.s3.head_object(**scene.at("e"))["ContentEncoding"] == "deflate, gzip"


def test_a_suspended_bucket_names_no_versions_of_writes(scene: Scene) -> None:
    """A write says nothing of a version, a read says `null`."""
    scene.s3.put_bucket_versioning(Bucket=scene.bucket, VersioningConfiguration={"Status": "Enabled"})
    assert scene.s3.put_object(**scene.at(), Body=b"1")["VersionId"] != "null"
    scene.s3.put_bucket_versioning(Bucket=scene.bucket, VersioningConfiguration={"Status": "Suspended"})
    assert "VersionId" not in scene.s3.put_object(**scene.at(), Body=b"2")
    assert scene.s3.get_object(**scene.at())["VersionId"] == "null"
    upload = scene.upload()
    assert "VersionId" not in scene.complete(upload, scene.parts(upload, b"x"))
    assert scene.s3.delete_object(**scene.at())["DeleteMarker"] is True


def test_versions(scene: Scene) -> None:
    """Markers hide, versions stay, a marker's own deletion brings the object back."""
    scene.s3.put_bucket_versioning(Bucket=scene.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = scene.s3.put_object(**scene.at("v"), Body=b"1")["VersionId"]
    scene.s3.put_object(**scene.at("v"), Body=b"22")
    marker = scene.s3.delete_object(**scene.at("v"))["VersionId"]
    assert error_of(scene.s3.get_object, **scene.at("v"))["Error"]["Code"] == "NoSuchKey"
    refused = error_of(scene.s3.get_object, **scene.at("v"), VersionId=marker)
    assert (refused["Error"]["Code"], refused["Error"]["ResourceType"]) == ("MethodNotAllowed", "DeleteMarker")
    assert scene.s3.get_object(**scene.at("v"), VersionId=first)["Body"].read() == b"1"
    listed = scene.s3.list_object_versions(Bucket=scene.bucket, Prefix="v")
    assert [(row["Size"], row["IsLatest"]) for row in listed["Versions"]] == [(2, False), (1, False)]
    assert [row["IsLatest"] for row in listed["DeleteMarkers"]] == [True]
    assert error_of(scene.s3.delete_bucket, Bucket=scene.bucket)["Error"]["Code"] == "BucketNotEmpty"
    assert scene.s3.delete_object(**scene.at("v"), VersionId=marker)["DeleteMarker"] is True
    assert scene.s3.get_object(**scene.at("v"))["Body"].read() == b"22"


def test_tags(scene: Scene) -> None:
    """Set, counted on reads, replaced, removed; reserved and doubled keys are refused."""
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}]
    scene.s3.put_object_tagging(**scene.at(), Tagging={"TagSet": tags})
    assert scene.s3.get_object_tagging(**scene.at())["TagSet"] == tags
    assert scene.s3.get_object(**scene.at())["TagCount"] == 2
    for bad in ([{"Key": "aws:x", "Value": ""}], [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]):
        refused = error_of(scene.s3.put_object_tagging, **scene.at(), Tagging={"TagSet": bad})
        assert refused["Error"]["Code"] == "InvalidTag"
    scene.s3.delete_object_tagging(**scene.at())
    assert scene.s3.get_object_tagging(**scene.at())["TagSet"] == []
