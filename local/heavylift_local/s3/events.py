"""One EventBridge-shaped event per object write, and the thread that delivers them.

The event is a row written in the object's own commit (`store.Writing.add_event`); the thread POSTs rows in order, at
least once, and deletes what was accepted. Shape: Amazon S3 user guide, "EventBridge event message structure"; the key
is raw there, unlike in notifications to SQS.
"""

import http.client
import json
import threading
import time
import uuid
from dataclasses import dataclass
from urllib.parse import urlsplit

from heavylift_local.s3.store import ObjectRecord, Store

BATCH = 64  # rows fetched, and deleted, at a time: a kill repeats at most these
BACK_OFF_SECONDS_MAX = 2.0
POST_SECONDS_MAX = 30
STOP_SECONDS_MAX = 3
EMPTY_ETAG = "d41d8cd98f00b204e9800998ecf8427e"  # what S3 names for a delete marker


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an event comes from."""

    account: str
    region: str
    request_id: str
    source_ip: str


def _envelope(kind: str, bucket: str, origin: Origin, object_: dict[str, object], more: dict[str, str]) -> str:
    return json.dumps(
        {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": kind,
            "source": "aws.s3",
            "account": origin.account,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "region": origin.region,
            "resources": [f"arn:aws:s3:::{bucket}"],
            "detail": {
                "version": "0",
                "bucket": {"name": bucket},
                "object": object_,
                "request-id": origin.request_id,
                "requester": origin.account,
                "source-ip-address": origin.source_ip,
                **more,
            },
        },
        ensure_ascii=False,
    )


def sequencer(seq: int) -> str:
    """Fixed-width hex, rising."""
    return f"{seq:018X}"


def created(record: ObjectRecord, reason: str, origin: Origin, *, versioned: bool) -> str:
    """*reason*: PutObject, CopyObject or CompleteMultipartUpload."""
    object_: dict[str, object] = {"key": record.key, "size": record.size, "etag": record.etag}
    if versioned:
        object_["version-id"] = record.version
    object_["sequencer"] = sequencer(record.seq)
    return _envelope("Object Created", record.bucket, origin, object_, {"reason": reason})


def deleted(
    bucket: str, key: str, seq: int, origin: Origin, *, version: str | None, marker: bool, reason: str = "DeleteObject"
) -> str:
    """*marker*: a delete marker was made; else bytes (or a marker) went for good."""
    object_: dict[str, object] = {"key": key}
    if marker:
        object_["etag"] = EMPTY_ETAG
    if version is not None:
        object_["version-id"] = version
    object_["sequencer"] = sequencer(seq)
    kind = "Delete Marker Created" if marker else "Permanently Deleted"
    return _envelope("Object Deleted", bucket, origin, object_, {"reason": reason, "deletion-type": kind})


class Outbox:
    """Delivers rows of the outbox to the sink while there is one."""

    def __init__(self, store: Store, sink: str | None) -> None:
        self._store = store
        self._sink = sink
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    @property
    def sink(self) -> str | None:
        return self._sink

    @sink.setter
    def sink(self, url: str | None) -> None:
        self._sink = url
        self._store.on_event.set()

    def start(self) -> None:
        self._store.on_event.set()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._store.on_event.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS_MAX)

    def pending(self) -> int:
        with self._store.reading() as db:
            return int(db.db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def _run(self) -> None:
        wait = 0.0
        while not self._stop.is_set():
            if wait:
                self._stop.wait(wait)
            else:
                self._store.on_event.wait()
            self._store.on_event.clear()
            sink = self._sink
            if sink is None or self._stop.is_set():
                wait = 0.0
                continue
            wait = 0.0 if self._deliver(sink) else min(BACK_OFF_SECONDS_MAX, max(0.05, wait * 2))

    def _deliver(self, sink: str) -> bool:
        """All rows there are; False when the sink would not take one."""
        url = urlsplit(sink)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=POST_SECONDS_MAX)
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        try:
            while not self._stop.is_set():
                with self._store.reading() as db:
                    rows = db.db.execute("SELECT id, body FROM outbox ORDER BY id LIMIT ?", (BATCH,)).fetchall()
                if not rows:
                    return True
                accepted = 0
                try:
                    for number, body in rows:
                        if self._sink != sink or self._stop.is_set():
                            return True
                        if not self._post(connection, path, body):
                            return False
                        accepted = number
                finally:
                    if accepted:
                        with self._store.writing() as tx:
                            tx.db.execute("DELETE FROM outbox WHERE id<=?", (accepted,))
            return True
        finally:
            connection.close()

    @staticmethod
    def _post(connection: http.client.HTTPConnection, path: str, body: str) -> bool:
        try:
            connection.request("POST", path, body.encode(), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return False
        return 200 <= answer.status < 300
