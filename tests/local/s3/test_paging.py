"""Pages of every listing against a model: whatever the keys, the prefix, the delimiter and the size of a page."""

import itertools
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heavylift_local.s3.testing import RunningS3, running_s3

EXAMPLES = 25
names = itertools.count()
keys = st.lists(st.text("ab/ü\U0001f600&+ ", min_size=1, max_size=5), min_size=0, max_size=12)
prefixes = st.sampled_from(["", "a", "a/", "b/a", "ü", "/"])
delimiters = st.sampled_from(["", "/", "a/", "ü"])
sizes = st.integers(1, 5)
quick = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    with running_s3(tmp_path_factory.mktemp("paging")) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: RunningS3) -> Any:
    return server.client()


def grouped(rows: list[Any], prefix: str, delimiter: str) -> list[Any]:
    """Rows (key first) in order; those with the delimiter behind the prefix rolled into ("prefix", p)."""
    found: list[Any] = []
    for row in rows:
        key = row[0]
        if not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        item = row if cut < 0 else ("prefix", key[: cut + len(delimiter)])
        if not found or found[-1] != item:
            found.append(item)
    return found


def arguments(prefix: str, delimiter: str) -> dict[str, Any]:
    return {"Prefix": prefix, **({"Delimiter": delimiter} if delimiter else {})}


def merged(page: dict[str, Any], rows: list[Any]) -> list[Any]:
    """A page's rows and prefixes as one list in key order."""
    groups = [("prefix", row["Prefix"]) for row in page.get("CommonPrefixes", [])]
    return sorted(rows + groups, key=lambda row: (row[1] if row[0] == "prefix" else row[0]).encode())


def checked(page: dict[str, Any], items: list[Any], size: int, left: int) -> None:
    """No page is larger than asked, none but the last smaller, none says wrongly that there is more."""
    assert len(items) == min(size, left)
    assert page["IsTruncated"] == (left > size)


@quick
@given(keys, prefixes, delimiters, sizes, st.sampled_from(["v1", "v2"]))
def test_objects(api: Any, found: list[str], prefix: str, delimiter: str, size: int, version: str) -> None:
    """ListObjects and ListObjectsV2."""
    bucket = f"objects-{next(names)}"
    api.create_bucket(Bucket=bucket)
    for key in set(found):
        api.put_object(Bucket=bucket, Key=key, Body=b"")
    rows = [(key,) for key in sorted(set(found), key=str.encode)]
    wanted = grouped(rows, prefix, delimiter)
    got: list[Any] = []
    more: dict[str, Any] = {}
    while True:
        call = api.list_objects if version == "v1" else api.list_objects_v2
        page = call(Bucket=bucket, MaxKeys=size, **arguments(prefix, delimiter), **more)
        items = merged(page, [(row["Key"],) for row in page.get("Contents", [])])
        checked(page, items, size, len(wanted) - len(got))
        got += items
        if not page["IsTruncated"]:
            break
        if version == "v2":
            assert page["KeyCount"] == size
            more = {"ContinuationToken": page["NextContinuationToken"]}
        else:
            more = {"Marker": page["NextMarker"] if delimiter else page["Contents"][-1]["Key"]}
    assert got == wanted


@quick
@given(keys, prefixes, delimiters, sizes)
def test_versions(api: Any, found: list[str], prefix: str, delimiter: str, size: int) -> None:
    """ListObjectVersions: keys in order, of a key the newest first; markers among them."""
    bucket = f"versions-{next(names)}"
    api.create_bucket(Bucket=bucket)
    api.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    made: dict[str, list[str]] = {}
    for index, key in enumerate(found):
        call = api.delete_object if index % 4 == 3 else api.put_object
        made.setdefault(key, []).insert(0, call(Bucket=bucket, Key=key)["VersionId"])
    rows = [(key, v) for key in sorted(made, key=str.encode) for v in made[key]]
    wanted = grouped(rows, prefix, delimiter)
    got: list[Any] = []
    more: dict[str, Any] = {}
    while True:
        page = api.list_object_versions(Bucket=bucket, MaxKeys=size, **arguments(prefix, delimiter), **more)
        shown = [(r["Key"], r["VersionId"]) for r in page.get("Versions", []) + page.get("DeleteMarkers", [])]
        shown.sort(key=lambda row: rows.index(row))
        items = merged(page, shown)
        checked(page, items, size, len(wanted) - len(got))
        got += items
        if not page["IsTruncated"]:
            break
        more = {"KeyMarker": page["NextKeyMarker"]}
        if page.get("NextVersionIdMarker"):
            more["VersionIdMarker"] = page["NextVersionIdMarker"]
    assert got == wanted
    latest = {row["Key"]: row["VersionId"] for row in shown_latest(api, bucket)}
    assert latest == {key: versions[0] for key, versions in made.items()}


def shown_latest(api: Any, bucket: str) -> list[dict[str, Any]]:
    page = api.list_object_versions(Bucket=bucket)
    return [row for row in page.get("Versions", []) + page.get("DeleteMarkers", []) if row["IsLatest"]]


@quick
@given(keys, prefixes, delimiters, sizes)
def test_uploads(api: Any, found: list[str], prefix: str, delimiter: str, size: int) -> None:
    """ListMultipartUploads: keys in order, of a key the oldest first."""
    bucket = f"uploads-{next(names)}"
    api.create_bucket(Bucket=bucket)
    made: dict[str, list[str]] = {}
    for key in found:
        made.setdefault(key, []).append(api.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"])
    rows = [(key, upload) for key in sorted(made, key=str.encode) for upload in made[key]]
    wanted = grouped(rows, prefix, delimiter)
    got: list[Any] = []
    more: dict[str, Any] = {}
    while True:
        page = api.list_multipart_uploads(Bucket=bucket, MaxUploads=size, **arguments(prefix, delimiter), **more)
        items = merged(page, [(row["Key"], row["UploadId"]) for row in page.get("Uploads", [])])
        checked(page, items, size, len(wanted) - len(got))
        got += items
        if not page["IsTruncated"]:
            break
        more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    assert got == wanted


@quick
@given(st.sets(st.integers(1, 10_000), max_size=8), sizes)
def test_parts(api: Any, numbers: set[int], size: int) -> None:
    """ListParts over gaps; the marker of a page is its last number, 0 where there is none."""
    at = {"Bucket": "staging", "Key": f"parts-{next(names)}"}
    upload = api.create_multipart_upload(**at)["UploadId"]
    for number in numbers:
        api.upload_part(**at, UploadId=upload, PartNumber=number, Body=b"x")
    got: list[int] = []
    marker = 0
    while True:
        page = api.list_parts(**at, UploadId=upload, MaxParts=size, PartNumberMarker=marker)
        shown = [row["PartNumber"] for row in page.get("Parts", [])]
        checked(page, shown, size, len(numbers) - len(got))
        assert page["NextPartNumberMarker"] == (shown[-1] if shown else 0)
        got += shown
        marker = page["NextPartNumberMarker"]
        if not page["IsTruncated"]:
            break
    assert got == sorted(numbers)
    api.abort_multipart_upload(**at, UploadId=upload)


@settings(quick, max_examples=8)
@given(st.integers(1, 5), sizes)
def test_attributes(api: Any, count: int, size: int) -> None:
    """GetObjectAttributes pages the parts of a COMPOSITE object."""
    at = {"Bucket": "staging", "Key": "attributes"}
    upload = api.create_multipart_upload(**at, ChecksumAlgorithm="CRC32")["UploadId"]
    parts = []
    for number in range(1, count + 1):
        body = b"x" if number == count else bytes(5 * 1024**2)
        made = api.upload_part(**at, UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32")
        parts.append({"PartNumber": number, "ETag": made["ETag"], "ChecksumCRC32": made["ChecksumCRC32"]})
    api.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": parts})
    got: list[int] = []
    marker = 0
    while True:
        answer = api.get_object_attributes(
            **at,
            ObjectAttributes=["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"],
            MaxParts=size,
            PartNumberMarker=marker,
        )
        page = answer["ObjectParts"]
        shown = [row["PartNumber"] for row in page["Parts"]]
        assert (page["TotalPartsCount"], page["MaxParts"]) == (count, size)
        checked(page, shown, size, count - len(got))
        got += shown
        marker = page["NextPartNumberMarker"]
        if not page["IsTruncated"]:
            break
    assert got == list(range(1, count + 1))
    assert (answer["StorageClass"], answer["Checksum"]["ChecksumType"]) == ("STANDARD", "COMPOSITE")
    assert answer["ObjectSize"] == (count - 1) * 5 * 1024**2 + 1


def test_page_sizes_at_the_edge(api: Any) -> None:
    """0 gives an empty page that says there is no more; over 1,000 is 1,000; what is no number is refused."""
    at = {"Bucket": "derived", "Key": "k"}
    api.put_object(**at, Body=b"")
    upload = api.create_multipart_upload(**at)["UploadId"]
    api.upload_part(**at, UploadId=upload, PartNumber=1, Body=b"x")
    calls = [
        (api.list_objects, "MaxKeys", "Contents", {}),
        (api.list_objects_v2, "MaxKeys", "Contents", {}),
        (api.list_object_versions, "MaxKeys", "Versions", {}),
        (api.list_multipart_uploads, "MaxUploads", "Uploads", {}),
        (api.list_parts, "MaxParts", "Parts", {"Key": "k", "UploadId": upload}),
    ]
    for call, name, rows, more in calls:
        page = call(Bucket="derived", **{name: 0}, **more)
        assert (page.get(rows), page["IsTruncated"], page[name]) == (None, name == "MaxParts", 0)
        assert call(Bucket="derived", **{name: 5000}, **more)[name] == 1000
        for wrong in (-1, 2**31):
            with pytest.raises(ClientError, match="InvalidArgument"):
                call(Bucket="derived", **{name: wrong}, **more)


def test_keys_on_the_wire(server: RunningS3) -> None:
    """encoding-type=url encodes every key, prefix, delimiter and marker; without it XML escapes do."""
    from heavylift_local.s3.testing import send

    api = server.client()
    api.create_bucket(Bucket="wire")
    for key in ("a&b/c", "a b/ü+", "x\x01y"):
        api.put_object(Bucket="wire", Key=key, Body=b"")
    plain = send(server.presign("GET", "/wire?list-type=2&delimiter=%2F")).body
    assert b"<Prefix>a&amp;b/</Prefix>" in plain
    assert b"<Key>x&#x1;y</Key>" in plain
    encoded = send(server.presign("GET", "/wire?list-type=2&encoding-type=url&prefix=a%20&start-after=a")).body
    assert b"<EncodingType>url</EncodingType>" in encoded
    assert b"<Prefix>a%20</Prefix>" in encoded
    key = encoded.split(b"<Key>")[1].split(b"</Key>")[0].decode()
    assert (key, unquote(key)) == ("a%20b/%C3%BC%2B", "a b/ü+")
    assert send(server.presign("GET", "/wire?encoding-type=base64")).refusal == (400, "InvalidArgument")
