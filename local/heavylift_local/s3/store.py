"""The records: buckets, objects, uploads, parts, the outbox. One SQLite file, one writer at a time.

A commit swaps a record and adds its event in the same transaction, so a kill leaves the old object and no event or
the new object and its event. Readers see a snapshot and never wait for the writer (WAL). Without fsync a commit
survives the process being killed, not the machine; with fsync both.
"""

import json
import queue
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from heavylift_local.s3 import versions
from heavylift_local.s3.blobs import Blobs
from heavylift_local.s3.bucketpolicy import BucketPolicy, signature_age_policy
from heavylift_local.s3.bucketpolicy import parse as parse_policy
from heavylift_local.s3.config import BucketConfig, CorsRule, parse_cors_rule
from heavylift_local.s3.extents import Extent, unpack
from heavylift_local.s3.lifecycle import Rule, from_json
from heavylift_local.s3.versions import NULL

READERS = 8  # connections for reading; more threads than that wait for one, a query takes well under a millisecond
CACHE_KIB = 1024  # page cache of each connection: the promise is 100 MB for everything
FINISHED_MS = 24 * 3600 * 1000  # how long a finished upload is remembered for a repeated Complete

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS buckets(
  name TEXT PRIMARY KEY, created INTEGER NOT NULL, versioning TEXT NOT NULL, cors TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects(
  seq INTEGER PRIMARY KEY, bucket TEXT NOT NULL, key TEXT NOT NULL, version TEXT NOT NULL,
  latest INTEGER NOT NULL, marker INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
  modified INTEGER NOT NULL, crc64 TEXT, algorithm TEXT, checksum_type TEXT, checksum TEXT,
  headers TEXT NOT NULL, metadata TEXT NOT NULL, tags TEXT, parts BLOB, extents BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS objects_version ON objects(bucket, key, version);
CREATE UNIQUE INDEX IF NOT EXISTS objects_latest ON objects(bucket, key) WHERE latest = 1;
CREATE TABLE IF NOT EXISTS blobs(id INTEGER PRIMARY KEY, path TEXT, refs INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS blobs_dead ON blobs(id) WHERE refs <= 0;
CREATE TABLE IF NOT EXISTS uploads(
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, bucket TEXT NOT NULL, key TEXT NOT NULL, created INTEGER NOT NULL,
  algorithm TEXT, checksum_type TEXT, headers TEXT NOT NULL, metadata TEXT NOT NULL, tags TEXT, initiator TEXT NOT NULL,
  rewritten INTEGER NOT NULL DEFAULT 0, deleted INTEGER NOT NULL DEFAULT 0,
  finished INTEGER, request BLOB, answer TEXT);
CREATE INDEX IF NOT EXISTS uploads_open ON uploads(bucket, key, seq) WHERE finished IS NULL;
CREATE INDEX IF NOT EXISTS uploads_finished ON uploads(finished) WHERE finished IS NOT NULL;
CREATE TABLE IF NOT EXISTS parts(
  upload INTEGER NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
  modified INTEGER NOT NULL, crc64 TEXT NOT NULL, checksum TEXT, extents BLOB NOT NULL,
  PRIMARY KEY(upload, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bucket_settings(
  bucket TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(bucket, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox(id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
"""


Tags = tuple[tuple[str, str], ...]  # in the order given


@dataclass(frozen=True, slots=True)
class Bucket:
    name: str
    created: int  # milliseconds since 1970
    versioning: str  # "", "Enabled" or "Suspended"
    cors: tuple[CorsRule, ...]
    lifecycle: tuple[Rule, ...] = ()
    policy: BucketPolicy | None = None
    tags: Tags = ()


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One version of one key. *parts* and *extents* are packed, see `partlist.pack` and `extents.pack`."""

    bucket: str
    key: str
    size: int
    etag: str
    crc64: str | None = None  # base64, of the whole object; None where it was adopted
    algorithm: str | None = None
    checksum_type: str | None = None
    checksum: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    parts: bytes | None = None
    extents: bytes = b""
    seq: int = 0
    version: str = NULL
    latest: bool = True
    marker: bool = False
    modified: int = 0
    tags: Tags = ()


@dataclass(frozen=True, slots=True)
class UploadRecord:
    seq: int
    id: str
    bucket: str
    key: str
    created: int
    algorithm: str | None
    checksum_type: str | None
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    initiator: str
    rewritten: bool
    deleted: bool
    finished: int | None
    request: bytes | None
    answer: str | None
    tags: Tags = ()


@dataclass(frozen=True, slots=True)
class PartRecord:
    number: int
    size: int
    etag: str
    modified: int
    crc64: str
    checksum: str | None  # base64 by the upload's algorithm
    extents: bytes


_OBJECT = (
    "bucket, key, size, etag, crc64, algorithm, checksum_type, checksum, headers, metadata, parts, extents, seq, "
    "version, latest, marker, modified, tags"
)
_UPLOAD = (
    "seq, id, bucket, key, created, algorithm, checksum_type, headers, metadata, initiator, rewritten, deleted, "
    "finished, request, answer, tags"
)


def pack_tags(tags: Tags) -> str | None:
    return json.dumps(tags) if tags else None


def unpack_tags(text: str | None) -> Tags:
    return tuple((key, value) for key, value in json.loads(text)) if text else ()


def _object(row: Sequence[Any]) -> ObjectRecord:
    values = [*row[:8], json.loads(row[8]), json.loads(row[9]), *row[10:-1], unpack_tags(row[-1])]
    return ObjectRecord(*values)


def _upload(row: Sequence[Any]) -> UploadRecord:
    values = [*row[:7], json.loads(row[7]), json.loads(row[8]), *row[9:-1], unpack_tags(row[-1])]
    return UploadRecord(*values)


class Reading:
    """Queries on one snapshot connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def current(self, bucket: str, key: str) -> ObjectRecord | None:
        """The latest version, delete markers included."""
        row = self.db.execute(
            f"SELECT {_OBJECT} FROM objects WHERE bucket=? AND key=? AND latest=1", (bucket, key)
        ).fetchone()
        return _object(row) if row else None

    def version(self, bucket: str, key: str, version: str) -> ObjectRecord | None:
        row = self.db.execute(
            f"SELECT {_OBJECT} FROM objects WHERE bucket=? AND key=? AND version=?", (bucket, key, version)
        ).fetchone()
        return _object(row) if row else None

    def upload(self, upload_id: str) -> UploadRecord | None:
        row = self.db.execute(f"SELECT {_UPLOAD} FROM uploads WHERE id=?", (upload_id,)).fetchone()
        return _upload(row) if row else None

    def parts(self, upload: int, above: int = 0, limit: int = 10_001) -> list[PartRecord]:
        rows = self.db.execute(
            "SELECT number, size, etag, modified, crc64, checksum, extents FROM parts "
            "WHERE upload=? AND number>? ORDER BY number LIMIT ?",
            (upload, above, limit),
        )
        return [PartRecord(*row) for row in rows]


class Writing(Reading):
    """The one write transaction. What it frees is doomed when it commits, not before."""

    def __init__(self, db: sqlite3.Connection, blobs: Blobs) -> None:
        super().__init__(db)
        self._blobs = blobs
        self.freed: list[int] = []
        self.wrote_event = False
        self.buckets_changed = False

    def sequence(self) -> int:
        """A number above every earlier one, also across restarts and a clock that goes back."""
        rows = self.db.execute(
            "UPDATE meta SET value = max(value + 1, ?) WHERE name='sequence' RETURNING value", (time.time_ns(),)
        ).fetchall()
        return int(rows[0][0])

    def hold(self, extents: Iterable[Extent]) -> None:
        """Count one use of each extent's file. A file whose last record went meanwhile gets a record again; the
        caller has read it inside `Blobs.reading`, so it is still there."""
        for extent in extents:
            done = self.db.execute("UPDATE blobs SET refs=refs+1 WHERE id=?", (extent.blob,)).rowcount
            if not done:
                self.add_blob(extent.blob, self._blobs.adopted_path(extent.blob))
                self._blobs.revive(extent.blob)

    def add_blob(self, blob: int, path: str | None = None) -> None:
        self.db.execute("INSERT INTO blobs(id, path, refs) VALUES(?,?,1)", (blob, path))

    def release(self, packed: bytes) -> None:
        """Count one use less of each extent's file."""
        uses = [(extent.blob,) for extent in unpack(packed)]
        if not uses:
            return
        self.db.executemany("UPDATE blobs SET refs=refs-1 WHERE id=?", uses)
        self.freed += [row[0] for row in self.db.execute("DELETE FROM blobs WHERE refs<=0 RETURNING id")]

    def put(self, bucket: Bucket, record: ObjectRecord) -> ObjectRecord:
        """Make *record* the latest version of its key and return it as stored. Its extents are counted already."""
        if bucket.versioning == "Enabled":
            version = versions.new()
        else:
            version = NULL
            self._drop(record.bucket, record.key, NULL)
        self.db.execute(
            "UPDATE objects SET latest=0 WHERE bucket=? AND key=? AND latest=1", (record.bucket, record.key)
        )
        seq, modified = self.sequence(), int(time.time() * 1000)
        self.db.execute(
            f"INSERT INTO objects({_OBJECT}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,1,?,?,?)",
            (
                record.bucket,
                record.key,
                record.size,
                record.etag,
                record.crc64,
                record.algorithm,
                record.checksum_type,
                record.checksum,
                json.dumps(dict(record.headers)),
                json.dumps(dict(record.metadata)),
                record.parts,
                record.extents,
                seq,
                version,
                record.marker,
                modified,
                pack_tags(record.tags),
            ),
        )
        self._touch("deleted" if record.marker else "rewritten", record.bucket, record.key)
        return replace(record, seq=seq, version=version, modified=modified, latest=True)

    def _touch(self, what: str, bucket: str, key: str) -> None:
        # A Complete with a condition must know that the key changed under it (409 ConditionalRequestConflict).
        self.db.execute(f"UPDATE uploads SET {what}=1 WHERE bucket=? AND key=? AND finished IS NULL", (bucket, key))

    def _drop(self, bucket: str, key: str, version: str) -> tuple[bool, bool] | None:
        """(was latest, was marker) of the version removed, None if there was none."""
        row = self.db.execute(
            "DELETE FROM objects WHERE bucket=? AND key=? AND version=? RETURNING extents, latest, marker",
            (bucket, key, version),
        ).fetchall()
        if not row:
            return None
        self.release(row[0][0])
        return bool(row[0][1]), bool(row[0][2])

    def remove(self, bucket: str, key: str, version: str) -> bool | None:
        """Remove one version for good; the newest that is left becomes the latest.

        Returns whether it was a delete marker, None when there was no such version.
        """
        dropped = self._drop(bucket, key, version)
        if dropped is None:
            return None
        was_latest, was_marker = dropped
        if was_latest:
            self.db.execute(
                "UPDATE objects SET latest=1 WHERE seq=(SELECT max(seq) FROM objects WHERE bucket=? AND key=?)",
                (bucket, key),
            )
            self._touch("deleted", bucket, key)
        return was_marker

    def add_upload(self, seq: int, record: UploadRecord) -> None:
        self.db.execute(
            f"INSERT INTO uploads({_UPLOAD}) VALUES(?,?,?,?,?,?,?,?,?,?,0,0,NULL,NULL,NULL,?)",
            (
                seq,
                record.id,
                record.bucket,
                record.key,
                record.created,
                record.algorithm,
                record.checksum_type,
                json.dumps(dict(record.headers)),
                json.dumps(dict(record.metadata)),
                record.initiator,
                pack_tags(record.tags),
            ),
        )

    def put_part(self, upload: int, part: PartRecord) -> None:
        """A part sent again replaces the old one."""
        old = self.db.execute("SELECT extents FROM parts WHERE upload=? AND number=?", (upload, part.number)).fetchone()
        if old:
            self.release(old[0])
        self.db.execute(
            "INSERT OR REPLACE INTO parts(upload, number, size, etag, modified, crc64, checksum, extents) "
            "VALUES(?,?,?,?,?,?,?,?)",
            (upload, part.number, part.size, part.etag, part.modified, part.crc64, part.checksum, part.extents),
        )

    def drop_parts(self, upload: int, *, keep: frozenset[int] = frozenset()) -> None:
        """Forget all parts of *upload*; those in *keep* pass their extents on to an object."""
        rows = self.db.execute("DELETE FROM parts WHERE upload=? RETURNING number, extents", (upload,)).fetchall()
        unwanted = b"".join(extents for number, extents in rows if number not in keep)
        self.release(unwanted)

    def finish_upload(self, upload: int, request: bytes, answer: str) -> None:
        now = int(time.time() * 1000)
        self.db.execute(
            "UPDATE uploads SET finished=?, request=?, answer=? WHERE seq=?", (now, request, answer, upload)
        )
        self.db.execute("DELETE FROM uploads WHERE finished<?", (now - FINISHED_MS,))

    def abort_upload(self, upload: int) -> None:
        self.drop_parts(upload)
        self.db.execute("DELETE FROM uploads WHERE seq=?", (upload,))

    def add_event(self, body: str) -> None:
        self.db.execute("INSERT INTO outbox(body) VALUES(?)", (body,))
        self.wrote_event = True

    def add_bucket(self, name: str, versioning: str = "", cors: Sequence[CorsRule] = ()) -> None:
        self.db.execute(
            "INSERT INTO buckets(name, created, versioning, cors) VALUES(?,?,?,?) "
            "ON CONFLICT(name) DO UPDATE SET versioning=excluded.versioning, cors=excluded.cors",
            (name, int(time.time() * 1000), versioning, json.dumps([rule.as_json() for rule in cors])),
        )
        self.buckets_changed = True

    def set_tags(self, record: ObjectRecord, tags: Tags) -> None:
        self.db.execute("UPDATE objects SET tags=? WHERE seq=?", (pack_tags(tags), record.seq))

    def set_cors(self, name: str, rules: Sequence[CorsRule]) -> None:
        text = json.dumps([rule.as_json() for rule in rules])
        self.db.execute("UPDATE buckets SET cors=? WHERE name=?", (text, name))
        self.buckets_changed = True

    def set_versioning(self, name: str, status: str) -> None:
        self.db.execute("UPDATE buckets SET versioning=? WHERE name=?", (status, name))
        self.buckets_changed = True

    def set_setting(self, bucket: str, name: str, value: str | None) -> None:
        """One of lifecycle, policy, tags; None removes it."""
        if value is None:
            self.db.execute("DELETE FROM bucket_settings WHERE bucket=? AND name=?", (bucket, name))
        else:
            self.db.execute("INSERT OR REPLACE INTO bucket_settings VALUES(?,?,?)", (bucket, name, value))
        self.buckets_changed = True

    def drop_bucket(self, name: str) -> None:
        self.db.execute("DELETE FROM bucket_settings WHERE bucket=?", (name,))
        self.db.execute("DELETE FROM buckets WHERE name=?", (name,))
        self.buckets_changed = True


class Store:
    """The SQLite file and the folder of bytes behind it."""

    def __init__(self, root: Path, *, fsync: bool = False, account: str = "000000000000") -> None:
        self._account = account
        root.mkdir(parents=True, exist_ok=True)
        self._path = str(root / "records.sqlite")
        self._fsync = fsync
        self._write_lock = threading.Lock()
        self._writer = self._connect()
        self._writer.execute("PRAGMA journal_mode=WAL")
        self._writer.executescript(SCHEMA)
        self._writer.execute("INSERT OR IGNORE INTO meta(name, value) VALUES('sequence', 0)")
        self._readers: queue.LifoQueue[sqlite3.Connection | None] = queue.LifoQueue()
        for _ in range(READERS):
            self._readers.put(None)
        self.on_event: threading.Event = threading.Event()
        self.blobs = Blobs(root / "parts", fsync=fsync)
        known = self._writer.execute("SELECT id, path FROM blobs").fetchall()
        self.orphans_removed = self.blobs.start(
            {row[0] for row in known if row[1] is None} | {row[0] for row in known},
            {row[0]: row[1] for row in known if row[1] is not None},
        )
        self.buckets: Mapping[str, Bucket] = {}
        self._load_buckets()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        db.execute(f"PRAGMA synchronous={'FULL' if self._fsync else 'OFF'}")
        db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        db.execute("PRAGMA temp_store=MEMORY")
        return db

    def _load_buckets(self) -> None:
        rows = self._writer.execute("SELECT name, created, versioning, cors FROM buckets ORDER BY name").fetchall()
        settings: dict[str, dict[str, str]] = {}
        for bucket, name, value in self._writer.execute("SELECT bucket, name, value FROM bucket_settings"):
            settings.setdefault(bucket, {})[name] = value
        self.buckets = {row[0]: self._bucket(row, settings.get(row[0], {})) for row in rows}

    def _bucket(self, row: Sequence[Any], settings: Mapping[str, str]) -> Bucket:
        name = row[0]
        policy = settings.get("policy")
        return Bucket(
            name,
            row[1],
            row[2],
            tuple(parse_cors_rule(rule) for rule in json.loads(row[3])),
            from_json(json.loads(settings.get("lifecycle", "[]"))),
            None if policy is None else parse_policy(policy, name, self._account),
            unpack_tags(settings.get("tags")),
        )

    def configure(self, buckets: Iterable[BucketConfig]) -> None:
        """Buckets of the configuration exist, with its versioning, CORS, lifecycle and policy; others stay as they
        are, and so do a lifecycle and a policy that the configuration does not speak of."""
        with self.writing() as tx:
            for bucket in buckets:
                tx.add_bucket(bucket.name, "Enabled" if bucket.versioned else "", bucket.cors)
                if bucket.lifecycle:
                    rules = json.dumps([rule.as_json() for rule in bucket.lifecycle])
                    tx.set_setting(bucket.name, "lifecycle", rules)
                if bucket.signature_age_max_s is not None:
                    text = signature_age_policy(bucket.name, bucket.signature_age_max_s)
                    tx.set_setting(bucket.name, "policy", text)

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """A connection for reading. One statement is one snapshot."""
        db = self._readers.get()
        if db is None:
            db = self._connect()
        try:
            yield Reading(db)
        finally:
            self._readers.put(db)

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """The write transaction: committed when the block ends, undone when it raises."""
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            tx = Writing(self._writer, self.blobs)
            try:
                yield tx
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")
            self.blobs.doom(tx.freed)
            if tx.buckets_changed:
                self._load_buckets()
        if tx.wrote_event:
            self.on_event.set()
        self.blobs.sweep()

    def check(self) -> list[str]:
        """What is wrong between records and files, in words; empty when all is as it should be. For tests."""
        with self._write_lock:
            uses: dict[int, int] = {}
            for table in ("objects", "parts"):
                for (packed,) in self._writer.execute(f"SELECT extents FROM {table}"):
                    for extent in unpack(packed):
                        uses[extent.blob] = uses.get(extent.blob, 0) + 1
            refs = {row[0]: row[1] for row in self._writer.execute("SELECT id, refs FROM blobs")}
            wrong = [f"blob {b}: {refs.get(b)} counted, {n} used" for b, n in uses.items() if refs.get(b) != n]
            wrong += [f"blob {b}: counted, not used" for b in refs if b not in uses]
            wrong += [
                f"parts of no upload: {row[0]}"
                for row in self._writer.execute(
                    "SELECT DISTINCT upload FROM parts "
                    "WHERE upload NOT IN (SELECT seq FROM uploads WHERE finished IS NULL)"
                )
            ]
        return wrong

    def close(self) -> None:
        with self._write_lock:
            self._writer.close()
        while not self._readers.empty():
            db = self._readers.get_nowait()
            if db is not None:
                db.close()


__all__ = ["NULL", "Bucket", "ObjectRecord", "PartRecord", "Reading", "Store", "UploadRecord", "Writing"]
