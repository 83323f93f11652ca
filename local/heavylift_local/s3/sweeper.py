"""Lifecycle rules carried out: a thread that looks through the buckets and ends what is due.

Every key is decided again inside the transaction that ends it, so a rewrite meanwhile is never lost; a kill in the
middle leaves the rest for the next round. Memory: one batch of keys.
"""

import sys
import threading
import traceback

from heavylift_local.s3 import events, lifecycle
from heavylift_local.s3.listing import after_prefix
from heavylift_local.s3.service import Service
from heavylift_local.s3.store import NULL, Bucket, ObjectRecord, Reading, Writing, unpack_tags

BATCH = 256
ROUND_SECONDS_MAX = 3600.0
ROUND_SECONDS_MIN = 0.5
REASON = "Lifecycle Expiration"


class Sweeper:
    """Runs `sweep` often enough that nothing outlives its scaled day by more than an hour of it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lifecycle", daemon=True)
        hour = 3600 / service.config.time_scale
        self._pause = min(ROUND_SECONDS_MAX, max(ROUND_SECONDS_MIN, hour))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            try:
                self.sweep()
            except Exception:  # noqa: BLE001 - the top of the loop: one broken round must not end the thread
                traceback.print_exc(file=sys.stderr)

    def sweep(self) -> int:
        """One round over all buckets; returns how many versions and uploads it ended."""
        ended = 0
        for bucket in list(self._service.store.buckets.values()):
            if any(rule.enabled for rule in bucket.lifecycle):
                ended += self._uploads(bucket) + self._objects(bucket)
        return ended

    @property
    def _scale(self) -> float:
        return self._service.config.time_scale

    def _uploads(self, bucket: Bucket) -> int:
        ended = 0
        with self._service.store.reading() as db:
            rows = db.db.execute(
                "SELECT id, key, created FROM uploads WHERE finished IS NULL AND bucket=?", (bucket.name,)
            ).fetchall()
        for upload_id, key, created in rows:
            found = lifecycle.abortion(bucket.lifecycle, key, created / 1000, self._scale)
            if found is None or found[0] > self._service.now() or self._stop.is_set():
                continue
            with self._service.store.writing() as tx:
                upload = tx.upload(upload_id)
                if upload is not None and not upload.finished:
                    tx.abort_upload(upload.seq)
                    ended += 1
        return ended

    def _objects(self, bucket: Bucket) -> int:
        ended = 0
        for prefix in _least_prefixes(bucket):
            after, limit = "", after_prefix(prefix)
            while not self._stop.is_set():
                with self._service.store.reading() as db:
                    rows = db.db.execute(
                        "SELECT DISTINCT key FROM objects WHERE bucket=? AND key>=? AND key>? AND (? IS NULL OR key<?) "
                        "ORDER BY key LIMIT ?",
                        (bucket.name, prefix, after, limit, limit, BATCH),
                    ).fetchall()
                if not rows:
                    break
                after = rows[-1][0]
                for (key,) in rows:
                    with self._service.store.reading() as db:
                        is_due = self._decide(db, bucket, key) != (False, [])
                    if is_due:
                        with self._service.store.writing() as tx:
                            ended += self._end(tx, bucket, key)
        return ended

    def _decide(self, db: Reading, bucket: Bucket, key: str) -> tuple[bool, list[str]]:
        """(whether the current version expires, versions that go for good)."""
        rows = db.db.execute(
            "SELECT version, size, tags, marker, modified FROM objects WHERE bucket=? AND key=? ORDER BY seq DESC",
            (bucket.name, key),
        ).fetchall()
        found: list[lifecycle.Version] = []
        superseded: float | None = None
        for version, size, tags, marker, modified in rows:
            seconds = modified / 1000
            found.append(lifecycle.Version(version, size, unpack_tags(tags), bool(marker), seconds, superseded))
            superseded = seconds
        if not found:
            return False, []
        now = self._service.now()
        current = found[0]
        expires = None
        if not current.marker:
            expires = lifecycle.expiration(
                bucket.lifecycle, key, current.size, current.tags, current.modified, self._scale
            )
        gone = lifecycle.doomed_versions(bucket.lifecycle, key, found, now, self._scale)
        return expires is not None and expires[0] <= now, gone

    def _end(self, tx: Writing, bucket: Bucket, key: str) -> int:
        bucket = self._service.store.buckets.get(bucket.name, bucket)
        expires, gone = self._decide(tx, bucket, key)
        for version in gone:
            if tx.remove(bucket.name, key, version) is not None:
                self._note(tx, bucket, key, version, tx.sequence(), marker=False)
        if expires and bucket.versioning:
            marker = tx.put(bucket, ObjectRecord(bucket=bucket.name, key=key, size=0, etag="", marker=True))
            self._note(tx, bucket, key, marker.version, marker.seq, marker=True)
        elif expires:
            tx.remove(bucket.name, key, NULL)
            self._note(tx, bucket, key, NULL, tx.sequence(), marker=False)
        return len(gone) + expires

    def _note(self, tx: Writing, bucket: Bucket, key: str, version: str, seq: int, *, marker: bool) -> None:
        if self._service.outbox.sink is None:
            return
        config = self._service.config
        origin = events.Origin(config.account, config.region, f"{seq:016X}", "s3.amazonaws.com")
        shown = version if bucket.versioning else None
        tx.add_event(events.deleted(bucket.name, key, seq, origin, version=shown, marker=marker, reason=REASON))


def _least_prefixes(bucket: Bucket) -> list[str]:
    """The prefixes of the rules, none inside another, so that no key is looked at twice."""
    prefixes = sorted({rule.prefix for rule in bucket.lifecycle if rule.enabled})
    kept: list[str] = []
    for prefix in prefixes:
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept
