"""One event per object write, delivered at least once and in order, whatever the sink does."""

import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from heavylift_local.s3 import testing


class Sink:
    """Collects events; refuses the first *refusals* of them."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.refusals = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                refused = outer.refusals > 0
                if refused:
                    outer.refusals -= 1
                else:
                    outer.events.append(json.loads(body))
                self.send_response(503 if refused else 204)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/events"

    def wait(self, count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 15
        while len(self.events) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(self.events) >= count
        return self.events


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.server.shutdown()
    made.server.server_close()


BUCKETS = [{"name": "staging"}, {"name": "versioned", "versioned": True}]


def test_each_kind_of_write_makes_one_event(tmp_path: Path, sink: Sink) -> None:
    """Put, copy, complete, delete; none for parts, aborts or refused writes; the key is raw."""
    key = "in/a b+ü(1).tif"
    with testing.running_s3(tmp_path, buckets=BUCKETS, event_sink=sink.url) as s3:
        client = s3.client()
        client.put_object(Bucket="staging", Key=key, Body=b"123456789")
        with pytest.raises(client.exceptions.ClientError):
            client.put_object(Bucket="staging", Key=key, Body=b"", IfNoneMatch="*")
        client.copy_object(Bucket="versioned", Key="c", CopySource={"Bucket": "staging", "Key": key})
        upload = client.create_multipart_upload(Bucket="staging", Key="m")["UploadId"]
        etag = client.upload_part(Bucket="staging", Key="m", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
        for _ in range(2):
            made = client.complete_multipart_upload(
                Bucket="staging", Key="m", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
            )
        upload = client.create_multipart_upload(Bucket="staging", Key="m")["UploadId"]
        client.abort_multipart_upload(Bucket="staging", Key="m", UploadId=upload)
        client.delete_object(Bucket="staging", Key="m")
        client.delete_object(Bucket="staging", Key="never there")
        marker = client.delete_object(Bucket="versioned", Key="c")["VersionId"]
        client.delete_object(Bucket="versioned", Key="c", VersionId=marker)
        events = sink.wait(6)
        time.sleep(0.1)

    first = events[0]
    assert (first["detail-type"], first["source"], first["region"]) == ("Object Created", "aws.s3", "us-east-1")
    assert first["resources"] == ["arn:aws:s3:::staging"]
    assert first["detail"]["object"]["key"] == key
    assert first["detail"]["object"]["size"] == 9
    assert first["detail"]["object"]["etag"] == "25f9e794323b453885f5181f1b624d0b"
    assert "version-id" not in first["detail"]["object"]
    assert "version-id" in events[1]["detail"]["object"]
    assert events[2]["detail"]["object"]["etag"] == made["ETag"].strip('"')
    assert [(e["detail"]["bucket"]["name"], e["detail"]["reason"]) for e in events] == [
        ("staging", "PutObject"),
        ("versioned", "CopyObject"),
        ("staging", "CompleteMultipartUpload"),
        ("staging", "DeleteObject"),
        ("versioned", "DeleteObject"),
        ("versioned", "DeleteObject"),
    ]
    kinds = ["Permanently Deleted", "Delete Marker Created", "Permanently Deleted"]
    assert [e["detail"]["deletion-type"] for e in events[3:]] == kinds
    sequencers = [e["detail"]["object"]["sequencer"] for e in events]
    assert sequencers == sorted(sequencers)
    assert {len(s) for s in sequencers} == {18}


def test_a_sink_that_refuses_gets_everything_in_order(tmp_path: Path, sink: Sink) -> None:
    """Retried with back-off until it says 2xx."""
    sink.refusals = 3
    with testing.running_s3(tmp_path, event_sink=sink.url) as s3:
        client = s3.client()
        for n in range(10):
            client.put_object(Bucket="staging", Key=f"k{n}", Body=b"")
        events = sink.wait(10)

    assert [e["detail"]["object"]["key"] for e in events] == [f"k{n}" for n in range(10)]


def test_events_outlive_the_server(tmp_path: Path, sink: Sink) -> None:
    """Nobody listens when the object is written; after a restart somebody does."""
    with testing.running_s3(tmp_path, event_sink="http://127.0.0.1:9/nobody") as s3:
        s3.client().put_object(Bucket="staging", Key="k", Body=b"")
        assert s3.server.outbox.pending() == 1
    with testing.running_s3(tmp_path, event_sink=sink.url) as s3:
        events = sink.wait(1)

    assert events[0]["detail"]["object"]["key"] == "k"


def test_without_a_sink_no_events_are_made(tmp_path: Path, sink: Sink) -> None:
    """None before it is set, all after."""
    with testing.running_s3(tmp_path) as s3:
        client = s3.client()
        client.put_object(Bucket="staging", Key="before", Body=b"")
        assert s3.admin("PUT", "event_sink", {"url": sink.url}) == {}
        client.put_object(Bucket="staging", Key="after", Body=b"")
        events = sink.wait(1)
        assert s3.admin("PUT", "event_sink", {"url": None}) == {}
        client.put_object(Bucket="staging", Key="late", Body=b"")
        assert s3.server.outbox.pending() == 0

    assert [e["detail"]["object"]["key"] for e in events] == ["after"]


def test_adopted_files(tmp_path: Path, sink: Sink) -> None:
    """A sparse file becomes an object in place: not copied, not deleted with it, and it makes its event."""
    path = tmp_path / "huge.dng"
    with path.open("wb") as file:
        file.truncate(80 * 1024**3)
        os.pwrite(file.fileno(), b"end", 80 * 1024**3 - 3)
    with testing.running_s3(tmp_path, buckets=BUCKETS, event_sink=sink.url) as s3:
        client = s3.client()
        document = {
            "bucket": "versioned",
            "key": "files/t/1",
            "path": str(path),
            "content_type": "image/x-adobe-dng",
            "metadata": {"a": "b"},
        }
        answer = s3.admin("POST", "adopt", document)
        head = client.head_object(Bucket="versioned", Key="files/t/1", ChecksumMode="ENABLED")
        tail = client.get_object(Bucket="versioned", Key="files/t/1", Range="bytes=-5")["Body"].read()
        event = sink.wait(1)[0]
        assert s3.admin("POST", "adopt", document | {"path": str(tmp_path / "no")})["message"].startswith("path:")
        assert s3.admin("POST", "adopt", document | {"bucket": "absent"})["code"] == "NoSuchBucket"
    with testing.running_s3(tmp_path, buckets=BUCKETS) as s3:
        client = s3.client()
        assert client.get_object(Bucket="versioned", Key="files/t/1", Range="bytes=-3")["Body"].read() == b"end"
        client.delete_object(Bucket="versioned", Key="files/t/1", VersionId=answer["version_id"])
        assert s3.server.store.check() == []

    assert (answer["size"], head["ContentLength"]) == (80 * 1024**3, 80 * 1024**3)
    assert head["ETag"] == f'"{answer["etag"]}"'
    assert (head["ContentType"], head["Metadata"]) == ("image/x-adobe-dng", {"a": "b"})
    assert not [name for name in head if name.startswith(("ChecksumC", "ChecksumS"))]
    assert tail == b"\0\0end"
    assert (event["detail"]["object"]["key"], event["detail"]["object"]["size"]) == ("files/t/1", 80 * 1024**3)
    assert path.exists()
