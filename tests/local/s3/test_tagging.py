"""Tags of objects: three ways to set them, limits, copies, rights."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from heavylift_local.s3 import testing
from heavylift_local.s3.testing import RunningS3, send

AT = {"Bucket": "staging", "Key": "k"}


def tags_of(client: Any, **at: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in client.get_object_tagging(**{**AT, **at})["TagSet"]}


def tag_set(**tags: str) -> dict[str, Any]:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


def test_tags_live_and_die(client: Any) -> None:
    """Set, counted, replaced, removed; the object itself is not rewritten."""
    client.put_object(**AT, Body=b"x")
    before = client.head_object(**AT)
    assert tags_of(client) == {}
    client.put_object_tagging(**AT, Tagging=tag_set(a="1", b=""))
    client.put_object_tagging(**AT, Tagging=tag_set(c="ü /+=:@"))
    assert tags_of(client) == {"c": "ü /+=:@"}
    found = client.get_object(**AT)
    assert (found["TagCount"], found["LastModified"]) == (1, before["LastModified"])
    client.delete_object_tagging(**AT)
    assert "TagCount" not in client.head_object(**AT)


def test_every_write_carries_tags(client: Any) -> None:
    """Put and create take them from the header, copy from the source or, told so, from the header."""
    client.put_object(**AT, Body=b"x", Tagging="a=1&b=2%203")
    assert tags_of(client) == {"a": "1", "b": "2 3"}
    upload = client.create_multipart_upload(Bucket="staging", Key="m", Tagging="m=1")["UploadId"]
    etag = client.upload_part(Bucket="staging", Key="m", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    client.complete_multipart_upload(Bucket="staging", Key="m", UploadId=upload, MultipartUpload=parts)
    assert tags_of(client, Key="m") == {"m": "1"}
    source = {"Bucket": "staging", "CopySource": "staging/k"}
    client.copy_object(**source, Key="c1")
    client.copy_object(**source, Key="c2", Tagging="n=1")
    client.copy_object(**source, Key="c3", Tagging="n=1", TaggingDirective="REPLACE")
    client.copy_object(**source, Key="c4", TaggingDirective="REPLACE")
    client.copy_object(**source, Key="c5", MetadataDirective="REPLACE", Metadata={"x": "y"})
    found = [tags_of(client, Key=f"c{n}") for n in range(1, 6)]
    assert found == [{"a": "1", "b": "2 3"}] * 2 + [{"n": "1"}, {}, {"a": "1", "b": "2 3"}]
    client.put_object(**AT, Body=b"y")
    assert tags_of(client) == {}


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({f"k{n}": "v" for n in range(11)}, "BadRequest"),
        ({"k" * 129: "v"}, "InvalidTag"),
        ({"k": "v" * 257}, "InvalidTag"),
        ({"aws:k": "v"}, "InvalidTag"),
        ({"k!": "v"}, "InvalidTag"),
        ({"k": "v\\"}, "InvalidTag"),
    ],
)
def test_limits(client: Any, tags: dict[str, str], code: str) -> None:
    """10 tags, 128 and 256 characters of S3's alphabet."""
    client.put_object(**AT, Body=b"x")
    with pytest.raises(ClientError, match=code):
        client.put_object_tagging(**AT, Tagging=tag_set(**tags))
    assert tags_of(client) == {}


def test_twice_the_same(client: Any) -> None:
    """InvalidTag in a document, InvalidArgument in the header; nothing is stored."""
    twice = {"TagSet": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}
    with pytest.raises(ClientError, match="InvalidArgument"):
        client.put_object(**AT, Body=b"x", Tagging="a=1&a=2")
    client.put_object(**AT, Body=b"x")
    with pytest.raises(ClientError, match="InvalidTag"):
        client.put_object_tagging(**AT, Tagging=twice)


def test_a_version_has_its_own(client: Any) -> None:
    """Tags go with a version; a delete marker has none and takes none."""
    at = {"Bucket": "versioned", "Key": "k"}
    first = client.put_object(**at, Body=b"1", Tagging="n=1")["VersionId"]
    client.put_object(**at, Body=b"2")
    client.put_object_tagging(**at, Tagging=tag_set(n="2"))
    assert tags_of(client, **at) == {"n": "2"}
    assert tags_of(client, **at, VersionId=first) == {"n": "1"}
    assert client.get_object_tagging(**at, VersionId=first)["VersionId"] == first
    marker = client.delete_object(**at)["VersionId"]
    with pytest.raises(ClientError, match="MethodNotAllowed"):
        client.put_object_tagging(**at, VersionId=marker, Tagging=tag_set(n="3"))


def test_rights(tmp_path: Any) -> None:
    """Writing tags is a right of its own, also along with a put or a copy."""
    writer = {
        "name": "w",
        "access_key": "W",
        "secret_key": "s",
        "allow": [{"actions": ["s3:PutObject", "s3:GetObject"], "resources": ["staging/*"]}],
    }
    with testing.running_s3(tmp_path, callers=[testing.developer(), writer]) as s3:
        owner, client = s3.client(), s3.client("W", "s")
        owner.put_object(**AT, Body=b"x", Tagging="a=1")
        for call in (
            lambda: client.put_object(**AT, Body=b"y", Tagging="a=2"),
            lambda: client.create_multipart_upload(**AT, Tagging="a=2"),
            lambda: client.copy_object(Bucket="staging", Key="c", CopySource="staging/k"),
            lambda: client.get_object_tagging(**AT),
            lambda: client.put_object_tagging(**AT, Tagging=tag_set(a="2")),
            lambda: client.delete_object_tagging(**AT),
        ):
            with pytest.raises(ClientError, match="AccessDenied"):
                call()
        assert tags_of(owner) == {"a": "1"}
        client.copy_object(Bucket="staging", Key="c", CopySource="staging/k", TaggingDirective="REPLACE")


def test_documents_that_are_none(s3: RunningS3, client: Any) -> None:
    """400 MalformedXML for what is not a tag set."""
    client.put_object(**AT, Body=b"x")
    url = s3.presign("PUT", "/staging/k?tagging")
    for body in (
        b"<Tagging/>",
        b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
        b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value><More/></Tag></TagSet></Tagging>",
        b"<Tagging><TagSet></TagSet></Tagging",
        b'<!DOCTYPE x [<!ENTITY a "b">]><Tagging><TagSet/></Tagging>',
        b"<Other/>",
    ):
        assert send(url, "PUT", body).refusal == (400, "MalformedXML")
    assert send(url, "PUT", b"").refusal == (400, "MissingRequestBodyError")
