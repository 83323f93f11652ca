"""S3's module: ranged reads that heal, answers told apart."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError, ResponseStreamingError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heavylift import s3
from heavylift.errors import ContentError, TransientError
from tests.doubles.answers import refusal
from tests.doubles.world import STAGING, STORE, World

BODY = bytes(range(200))


def source(world: World, bucket: str = STORE, body: bytes = BODY) -> s3.ObjectSource:
    made = world.s3.put_object(Bucket=bucket, Key="k", Body=body)
    return s3.ObjectSource(bucket, "k", len(body), made["ETag"].strip('"'), made["VersionId"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 300), st.integers(0, 300))
def test_ranges(world: World, offset: int, length: int) -> None:
    """The bytes asked for, fewer only at the end; nothing is asked of S3 for nothing."""
    reader = source(world)
    assert reader.read(offset, length) == BODY[offset : offset + length]
    wanted = max(0, min(length, 200 - offset))
    assert (reader.traffic.requests, reader.traffic.bytes_in) == (1 if wanted else 0, wanted)


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_broken_bodies_are_read_on(world: World, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that breaks is asked for again, up to four times, each time after a longer wait at most; then it is the
    world's fault. All is counted."""
    reader = source(world)
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    left = iter(range(times))

    class Broken:
        def read(self) -> bytes:
            raise ResponseStreamingError(error=OSError("reset"))

    def around(call: Any, run: Any) -> Any:
        return {"Body": Broken()} if next(left, None) is not None else run()

    world.gate.around = around
    if times < 4:
        assert reader.read(10, 50) == BODY[10:60]
        assert reader.traffic.requests == times + 1
    else:
        with pytest.raises(TransientError, match="0 of 50 bytes at 10"):
            reader.read(10, 50)
    assert len(waits) == min(times, 3)
    assert all(0 <= wait <= s3.READ_BACKOFF_S * 2**number for number, wait in enumerate(waits, start=1))


def test_short_bodies_are_continued(world: World) -> None:
    """An answer that ends early is continued where it ended."""
    import io

    reader = source(world)

    def around(call: Any, run: Any) -> Any:
        whole = run()["Body"].read()
        return {"Body": io.BytesIO(whole[: max(1, len(whole) // 2)])}

    world.gate.around = around
    assert reader.read(0, 8) == BODY[:8]
    asked = [call.arguments["Range"] for call in world.gate.calls]
    assert asked == ["bytes=0-7", "bytes=4-7", "bytes=6-7", "bytes=7-7"]


@pytest.mark.parametrize("bucket", [STAGING, STORE])
def test_a_replaced_object_is_never_read_on(world: World, bucket: str) -> None:
    """Pinned by ETag and version: other bytes, or none, are the file's fault."""
    reader = source(world, bucket)
    assert reader.read(0, 4)
    world.s3.put_object(Bucket=bucket, Key="k", Body=bytes(200))
    with pytest.raises(ContentError) as refused:
        reader.read(4, 4)
    assert refused.value.code == "source_changed"
    world.s3.delete_object(Bucket=bucket, Key="k")
    with pytest.raises(ContentError):
        reader.read(4, 4)


def test_traffic_is_counted_by_all_threads() -> None:
    """No addition is lost."""
    traffic = s3.Traffic()

    def add() -> None:
        for _ in range(2_000):
            traffic.add(requests=1, bytes_in=3, bytes_out=5)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (traffic.requests, traffic.bytes_in, traffic.bytes_out) == (8_000, 24_000, 40_000)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("NoSuchUpload", 404, s3.NoSuchUpload),
        ("PreconditionFailed", 412, s3.PreconditionFailed),
        ("412", 412, s3.PreconditionFailed),
        ("NoSuchKey", 404, s3.NoSuchKey),
        ("404", 404, s3.NoSuchKey),
        ("InvalidPart", 400, s3.Refused),
        ("EntityTooSmall", 400, s3.Refused),
        ("BadDigest", 400, s3.Refused),
        ("SlowDown", 503, TransientError),
        ("InternalError", 500, TransientError),
        ("InternalError", 200, TransientError),
        ("503", 503, TransientError),
        ("ConditionalRequestConflict", 409, TransientError),
        ("RequestTimeout", 400, TransientError),
        ("ExpiredToken", 400, TransientError),
        ("AccessDenied", 403, ClientError),
        ("403", 403, ClientError),
        ("NoSuchBucket", 404, ClientError),
    ],
)
def test_answers_told_apart(world: World, code: str, status: int, expected: type[Exception]) -> None:
    """Whose turn it is, from S3's code."""

    def around(call: Any, run: Any) -> Any:
        raise refusal(code, status, "CompleteMultipartUpload")

    world.gate.around = around
    with pytest.raises(expected) as raised:
        s3.complete_multipart(STAGING, "k", "u", [], size_bytes=0)
    assert type(raised.value) is expected or expected is ClientError


def test_lists_of_parts_go_over_all_pages(world: World) -> None:
    """1 000 parts a page; one part is one request."""
    upload = s3.create_multipart(STAGING, "k", checksum=None)
    for number in range(1, 2_502):
        world.s3.upload_part(Bucket=STAGING, Key="k", UploadId=upload, PartNumber=number, Body=b"x")
    world.gate.restart()
    assert [part.number for part in s3.list_parts(STAGING, "k", upload)] == list(range(1, 2_502))
    assert len(world.gate.calls) == 3
    world.gate.restart()
    part = s3.list_part(STAGING, "k", upload, 1_777)
    assert part is not None
    assert part.number == 1_777
    assert s3.list_part(STAGING, "k", upload, 9_999) is None
    assert len(world.gate.calls) == 2


def test_an_abort_is_repeated_until_nothing_is_left(world: World) -> None:
    """A part in flight may outlive the first abort; what never ends is said."""
    upload = s3.create_multipart(STAGING, "k", checksum=None)
    stubborn = iter([True, False])

    def around(call: Any, run: Any) -> Any:
        if call.operation == "abort_multipart_upload" and next(stubborn, True):
            return {}
        return run()

    world.gate.around = around
    assert s3.abort_multipart(STAGING, "k", upload) is True
    assert world.s3.uploads == {}
    upload = s3.create_multipart(STAGING, "k", checksum=None)
    assert s3.abort_multipart(STAGING, "k", upload) is False
