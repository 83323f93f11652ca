"""s3transfer's TransferManager, which boto3 and the AWS CLI build on: many transfers at once over one client."""

from __future__ import annotations

import io
import os
from typing import Any

from s3transfer.manager import TransferConfig, TransferManager
from s3transfer.subscribers import BaseSubscriber

from tests.conformance.target import MIB

SMALL_PARTS = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_request_concurrency=8)


def test_many_at_once(s3: Any, bucket: str) -> None:
    """Uploads, copies, downloads and deletions, each kind together."""
    bodies = {f"k{n}": os.urandom(n * 1000) for n in range(20)} | {"big": os.urandom(11 * MIB)}
    with TransferManager(s3, SMALL_PARTS) as manager:
        for future in [manager.upload(io.BytesIO(body), bucket, key) for key, body in bodies.items()]:
            future.result()
        for future in [manager.copy({"Bucket": bucket, "Key": key}, bucket, f"c/{key}") for key in bodies]:
            future.result()
        back = {key: io.BytesIO() for key in bodies}
        for future in [manager.download(bucket, f"c/{key}", out) for key, out in back.items()]:
            future.result()
        for future in [manager.delete(bucket, key) for key in bodies]:
            future.result()
    assert {key: out.getvalue() for key, out in back.items()} == bodies
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == len(bodies)


def test_a_cancelled_upload_leaves_nothing(s3: Any, bucket: str) -> None:
    """The manager aborts what it began: no object, no open upload."""

    class Cancel(BaseSubscriber):
        def on_progress(self, future: Any, bytes_transferred: int, **_: Any) -> None:
            future.cancel()

    with TransferManager(s3, SMALL_PARTS) as manager:
        future = manager.upload(io.BytesIO(os.urandom(30 * MIB)), bucket, "k", subscribers=[Cancel()])
    assert isinstance(future.meta.size, int)
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads") is None
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
