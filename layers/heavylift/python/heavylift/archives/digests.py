"""The SHA-256 of stored files that nobody has told: their bytes are read once, and their records keep it. I/O.

A bag's manifest needs a digest of every file. One sent in parts has none of its whole unless its client said one; then
the file is read here, up to ``DIGEST_READ_MAX``. The record remembers, so that no later slice or archive reads again.
"""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256

from heavylift import life, records, s3
from heavylift.archives.entries import Entry
from heavylift.errors import RequestError
from heavylift.limits import FETCH_PARALLEL, MIB
from heavylift.records import Change, FileRecord
from heavylift.telemetry import logger

CHUNK_BYTES = 8 * MIB  # FETCH_PARALLEL of them and one being hashed are in memory


def read(entry: Entry, source: s3.ObjectSource) -> Entry:
    """The entry with the digests of its bytes. ContentError ``source_changed``, TransientError. Memory: 40 MiB."""
    digest, crc32 = sha256(), 0
    for chunk in _chunks(source, entry.size):
        digest.update(chunk)
        crc32 = zlib.crc32(chunk, crc32)
    found = base64.b64encode(crc32.to_bytes(4, "big")).decode()
    return replace(entry, sha256=digest.hexdigest(), sha256_proven=True, crc32=entry.crc32 or found)


def _chunks(source: s3.ObjectSource, size: int) -> Iterator[bytes]:
    """All bytes in order, some chunks ahead."""
    offsets = iter(range(0, size, CHUNK_BYTES))
    with ThreadPoolExecutor(FETCH_PARALLEL) as pool:
        waiting: list[Future[bytes]] = []
        while True:
            while len(waiting) < FETCH_PARALLEL and (offset := next(offsets, None)) is not None:
                waiting.append(pool.submit(source.read, offset, min(CHUNK_BYTES, size - offset)))
            if not waiting:
                return
            yield waiting.pop(0).result()


def keep(tenant: str, entry: Entry) -> None:
    """Note the digest in the file's record, if it is still of these bytes."""

    def decide(record: FileRecord) -> Change | None:
        if record.store_etag != entry.etag or record.checksums.get("sha256"):
            return None
        proven = {"sha256": entry.sha256, "sha256_proven": True}
        return records.change(record, time.time(), checksums={"crc32": entry.crc32, **record.checksums, **proven})

    try:
        life.update(tenant, entry.file_id, decide)
    except RequestError as error:  # deleted to the last trace meanwhile; the copy will tell
        logger().info("a digest could not be kept", file_id=entry.file_id, code=error.code)
