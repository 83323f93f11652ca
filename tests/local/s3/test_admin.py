"""The local door: faults are felt, counters count, the log has a line a request."""

import http.client
import json
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from heavylift_local.s3 import testing
from heavylift_local.s3.testing import RunningS3, send


def test_only_with_the_token(s3: RunningS3) -> None:
    """403 without, 404 for what is not there, 400 for what is no document."""
    url = f"{s3.endpoint}/_local/counters"

    assert send(url).status == 403
    assert send(url, headers={"x-local-token": "wrong"}).status == 403
    assert send(url, headers={"x-local-token": testing.ADMIN_TOKEN}).status == 200
    assert s3.admin("GET", "health")["status"] == "ok"
    token = {"x-local-token": testing.ADMIN_TOKEN}
    assert send(f"{s3.endpoint}/_local/what", headers=token).status == 404
    for body in (b"", b"[]", b"{", b'{"unknown":1}', b'{"errors":{"PutObject":[2,503,"SlowDown"]}}'):
        assert send(f"{s3.endpoint}/_local/faults", "PUT", body, token).status == 400


def test_error_faults_hit_their_operation_only(s3: RunningS3, client: Any) -> None:
    """With status and code as given, until cleared."""
    s3.admin("PUT", "faults", {"errors": {"UploadPart": [1, 503, "SlowDown"]}})
    upload = client.create_multipart_upload(Bucket="staging", Key="k")["UploadId"]
    parameters = {"Bucket": "staging", "Key": "k", "UploadId": upload, "PartNumber": 1}
    url = client.generate_presigned_url("upload_part", Params=parameters)

    assert send(url, "PUT", b"x" * 3_000_000).refusal == (503, "SlowDown")
    s3.admin("PUT", "faults", {})
    assert send(url, "PUT", b"x").status == 200


def test_probability_is_one(s3: RunningS3, client: Any) -> None:
    """About half of the requests at 0.5, the same ones for the same seed."""
    runs = []
    for _ in range(2):
        s3.admin("PUT", "faults", {"errors": {"*": [0.5, 500, "InternalError"]}, "seed": 7})
        url = client.generate_presigned_url("list_objects_v2", Params={"Bucket": "staging"})
        runs.append([send(url).status for _ in range(40)])

    assert runs[0] == runs[1]
    assert 8 < runs[0].count(500) < 32


def test_latency_and_cuts(s3: RunningS3, client: Any) -> None:
    """A request takes longer; a body ends after so many bytes, in either direction, and nothing half is stored."""
    client.put_object(Bucket="staging", Key="k", Body=bytes(200_000))
    s3.admin("PUT", "faults", {"latency_ms": 200})
    started = time.monotonic()
    client.head_object(Bucket="staging", Key="k")
    assert time.monotonic() - started >= 0.2
    s3.admin("PUT", "faults", {"latency_ms": {"HeadObject": 200, "GetObject": 60_000}})
    started = time.monotonic()
    client.head_object(Bucket="staging", Key="k")
    assert time.monotonic() - started >= 0.2, "that operation's own"
    s3.admin("PUT", "faults", {"cut_after_bytes": 100_000})
    get = client.generate_presigned_url("get_object", Params={"Bucket": "staging", "Key": "k"})
    put = client.generate_presigned_url("put_object", Params={"Bucket": "staging", "Key": "other"})
    with pytest.raises(http.client.IncompleteRead) as caught:
        send(get)
    assert len(caught.value.partial) == 100_000
    with pytest.raises((http.client.HTTPException, OSError)):
        send(put, "PUT", bytes(200_000))
    s3.admin("PUT", "faults", {})
    assert client.list_objects_v2(Bucket="staging")["KeyCount"] == 1


def test_counters_by_caller(tmp_path: Path) -> None:
    """A function's own calls are its own; what it signed is the client's."""
    role = {**testing.developer(), "name": "validate", "access_key": "ROLE"}
    with testing.running_s3(tmp_path, callers=[testing.developer(), role]) as s3:
        client = s3.client("ROLE")
        url = client.generate_presigned_url("put_object", Params={"Bucket": "staging", "Key": "k"})
        send(url, "PUT", b"x" * 1000)
        client.get_object(Bucket="staging", Key="k", Range="bytes=0-99")["Body"].read()
        client.head_object(Bucket="staging", Key="k")
        counters = s3.admin("GET", "counters")

    assert counters["client"] == {"s3.PutObject": {"requests": 1, "bytes_in": 1000, "bytes_out": 0}}
    assert counters["validate"]["s3.GetObject"] == {"requests": 1, "bytes_in": 0, "bytes_out": 100}
    assert counters["validate"]["s3.HeadObject"] == {"requests": 1, "bytes_in": 0, "bytes_out": 0}


def test_access_log(tmp_path: Path) -> None:
    """One JSON line a request, refusals included."""
    log = tmp_path / "access.jsonl"
    with testing.running_s3(tmp_path, access_log=str(log)) as s3:
        client = s3.client()
        client.put_object(Bucket="staging", Key="a b", Body=b"xyz")
        send(f"{s3.endpoint}/staging/a%20b")

    # A line is written when its answer is out, so two connections may write in either order.
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows.sort(key=lambda row: row["status"])
    assert [(r["caller"], r["operation"], r["status"], r["error"]) for r in rows] == [
        ("developer", "PutObject", 200, None),
        ("client", "Unknown", 403, "AccessDenied"),
    ]
    assert (rows[0]["bucket"], rows[0]["key"], rows[0]["bytes_in"]) == ("staging", "a b", 3)
    assert rows[0]["ms"] > 0


def test_a_complete_can_fail_after_its_200(s3: RunningS3, client: Any) -> None:
    """<Error> in a 200: with or without effect; SDKs take it for an error."""
    upload = client.create_multipart_upload(Bucket="staging", Key="k")["UploadId"]
    etag = client.upload_part(Bucket="staging", Key="k", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    url = s3.presign("POST", f"/staging/k?uploadId={upload}")
    body = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    )
    for when, stored in (("before", 0), ("after", 1)):
        s3.admin("PUT", "faults", {"late_errors": {"CompleteMultipartUpload": [1, "InternalError", when]}})
        assert send(url, "POST", body.encode()).refusal == (200, "InternalError")
        assert client.list_objects_v2(Bucket="staging")["KeyCount"] == stored
        parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        with pytest.raises(ClientError, match="InternalError"):
            client.complete_multipart_upload(Bucket="staging", Key="k", UploadId=upload, MultipartUpload=parts)
    s3.admin("PUT", "faults", {})
    assert send(url, "POST", body.encode()).refusal == (200, None)


def test_a_clock_that_is_wrong(s3: RunningS3, client: Any) -> None:
    """The server's clock 20 minutes on: what is signed now is too old."""
    url = s3.presign("GET", "/staging?list-type=2", expires=900)
    assert send(url).status == 200
    s3.admin("PUT", "faults", {"clock_offset_s": 1200})
    assert send(url).refusal == (403, "AccessDenied")
    with pytest.raises(ClientError, match="RequestTimeTooSkewed"):
        client.list_objects_v2(Bucket="staging")
    s3.admin("PUT", "faults", {"clock_offset_s": -1200})
    assert send(url).refusal == (403, "AccessDenied")
    s3.admin("PUT", "faults", {})
    assert send(url).status == 200


def test_faults_of_one_caller(tmp_path: Path) -> None:
    """Only the one that is named fails; everybody else goes by the common faults."""
    other = {**testing.developer(), "name": "other", "access_key": "OTHER"}
    with testing.running_s3(tmp_path, callers=[testing.developer(), other]) as s3:
        s3.admin("PUT", "faults", {"callers": {"other": {"errors": {"ListObjectsV2": [1, 503, "SlowDown"]}}}})
        s3.client().list_objects_v2(Bucket="staging")
        with pytest.raises(ClientError, match="SlowDown"):
            s3.client("OTHER").list_objects_v2(Bucket="staging")


@pytest.mark.parametrize(
    "document",
    [
        {"late_errors": {"PutObject": [1, "InternalError"]}},
        {"late_errors": {"CopyObject": [1]}},
        {"late_errors": {"CopyObject": [2, "InternalError"]}},
        {"callers": {"x": {"clock_offset_s": 1}}},
        {"callers": {"x": 1}},
        {"calls": {"x": {"PutObject": 0}}},
        {"clock_offset_s": "soon"},
        {"latency_ms": {"HeadObject": -1}},
        {"latency_ms": "long"},
    ],
)
def test_documents_that_are_no_faults(s3: RunningS3, document: Any) -> None:
    """400, and the faults in force stay."""
    s3.admin("PUT", "faults", {"errors": {"*": [1, 503, "SlowDown"]}})
    token = {"x-local-token": testing.ADMIN_TOKEN}
    answer = send(f"{s3.endpoint}/_local/faults", "PUT", json.dumps(document).encode(), token)
    assert answer.status == 400
    assert send(s3.presign("GET", "/staging")).status == 503
