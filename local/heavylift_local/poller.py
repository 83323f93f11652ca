"""Events for an S3 that sends us none: lists what the topology's rules watch and tells of what is new.

At least once: an object is remembered after its event was accepted, on disk, so that a restart repeats at most
what lay between the two. An object that is replaced or made again is new; one that comes and goes between two
looks is never seen (the embedded S3 tells of it). Memory: the keys of the largest prefix.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PERIOD_S = 2.0  # at this rate two rules cost about half a dollar a day on AWS
PERIOD_LEAST_S = 0.2
COMMIT_EVERY = 100

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Watch:
    bucket: str
    prefix: str
    versioned: bool


@dataclass(frozen=True, slots=True)
class Found:
    """An object as a listing shows it; ``mark`` tells it from another one of the same key."""

    key: str
    size: int
    etag: str
    modified_ms: int
    version: str | None

    @property
    def mark(self) -> str:
        return f"{self.version or ''} {self.etag} {self.modified_ms}"


def period_seconds(scale: float) -> float:
    """How often to look, on the scaled clock."""
    return max(PERIOD_LEAST_S, PERIOD_S / scale)


def event(watch: Watch, found: Found, region: str, account: str) -> dict[str, Any]:
    """The event S3 would have sent to EventBridge; what a listing does not tell is guessed from the ETag."""
    object_: dict[str, Any] = {"key": found.key, "size": found.size, "etag": found.etag}
    if found.version is not None:
        object_["version-id"] = found.version
    # Rising with the time of the write, as the real one does; a listing has nothing finer.
    object_["sequencer"] = f"{found.modified_ms:018X}"
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": account,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.modified_ms / 1000)),
        "region": region,
        "resources": [f"arn:aws:s3:::{watch.bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": watch.bucket},
            "object": object_,
            "request-id": uuid.uuid4().hex[:16].upper(),
            "requester": account,
            "source-ip-address": "127.0.0.1",
            "reason": "CompleteMultipartUpload" if "-" in found.etag else "PutObject",
        },
    }


class Poller:
    """``poll`` from one thread at a time."""

    def __init__(
        self,
        s3: Any,
        watches: list[Watch],
        publish: Callable[[Mapping[str, Any]], None],
        path: Path,
        region: str,
        account: str,
    ) -> None:
        self._s3, self._watches, self._publish = s3, watches, publish
        self._region, self._account = region, account
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS seen (bucket TEXT, prefix TEXT, key TEXT, mark TEXT,"
            " PRIMARY KEY (bucket, prefix, key, mark)) WITHOUT ROWID"
        )

    def close(self) -> None:
        self._db.commit()
        self._db.close()

    def poll(self) -> int:
        """One look at everything; how many events it made. What cannot be listed now is looked at next time."""
        from botocore.exceptions import BotoCoreError, ClientError

        made = 0
        for watch in self._watches:
            try:
                made += self._look(watch)
            except (ClientError, BotoCoreError) as error:
                logger.warning("cannot list %s/%s: %s", watch.bucket, watch.prefix, error)
            finally:
                self._db.commit()
        return made

    def _look(self, watch: Watch) -> int:
        name = (watch.bucket, watch.prefix)
        rows = self._db.execute("SELECT key, mark FROM seen WHERE bucket=? AND prefix=?", name)
        gone = {(key, mark) for key, mark in rows}
        made = 0
        for found in self._list(watch):
            identity = (found.key, found.mark)
            if identity in gone:
                gone.discard(identity)
                continue
            self._publish(event(watch, found, self._region, self._account))
            self._db.execute("INSERT OR IGNORE INTO seen VALUES (?,?,?,?)", (*name, *identity))
            made += 1
            if made % COMMIT_EVERY == 0:
                self._db.commit()
        # Only after a whole listing: half of one says nothing about the rest.
        self._db.executemany(
            "DELETE FROM seen WHERE bucket=? AND prefix=? AND key=? AND mark=?", [(*name, *one) for one in gone]
        )
        return made

    def _list(self, watch: Watch) -> Iterator[Found]:
        operation, field = ("list_object_versions", "Versions") if watch.versioned else ("list_objects_v2", "Contents")
        for page in self._s3.get_paginator(operation).paginate(Bucket=watch.bucket, Prefix=watch.prefix):
            for one in page.get(field, []):
                modified_ms = round(one["LastModified"].timestamp() * 1000)
                version = one.get("VersionId") if watch.versioned else None
                # A bucket that keeps no versions names each "null".
                version = None if version == "null" else version
                yield Found(one["Key"], one["Size"], one["ETag"].strip('"'), modified_ms, version)
