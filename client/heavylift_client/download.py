"""Objects in: parallel ranged GETs into ``<out>.part``, resumed after any end, proven, then renamed.

Beside the part file lies a journal, one line a finished chunk with its CRC-32. A chunk is skipped only
after it was read back and its CRC agrees. Memory: 256 KiB a thread.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from heavylift_client import crc
from heavylift_client.backoff import Clock, pause_s, retry_after_s
from heavylift_client.errors import ChecksumMismatch, ClientError, NetworkError, Stopped, StoreError
from heavylift_client.plan import chunks, download_chunk_size, still_to_fetch
from heavylift_client.transfers import Hooks, SignedUrl
from heavylift_client.transport import Transport
from heavylift_client.verdict import Act, Answer, Tries, in_words, judge, read_answer

READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Expected:
    """What a record says about the bytes; None where nothing is known."""

    size: int
    sha256: str | None = None
    crc32: int | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """A file that arrived. ``verified`` names the checksum that was compared, None if the record had none."""

    path: str
    size: int
    crc32: str
    verified: str | None
    bytes_received: int
    bytes_resumed: int


def expected_of(record: Mapping[str, Any]) -> Expected:
    """From ``GET /v1/files/{id}``: a SHA-256 counts only where the server proved it."""
    sums = record.get("checksums") or {}
    sha256 = sums.get("sha256") if sums.get("sha256_proven") else None
    return Expected(int(record["size"]), sha256, crc.parse(sums.get("crc32")))


class Fetcher:
    """GETs of one object by presigned URLs, which ``sign`` renews. Thread-safe."""

    def __init__(
        self,
        transport: Transport,
        sign: Callable[[], SignedUrl],
        *,
        clock: Clock,
        stop: threading.Event,
        patience_s: float,
        begins_at: int = 0,
    ) -> None:
        """``begins_at``: where in the object its bytes of interest begin; all offsets count from there."""
        self._transport = transport
        self._sign = sign
        self._begins_at = begins_at
        self._clock = clock
        self._stop = stop
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._signed: SignedUrl | None = None

    def whole(self) -> bytes:
        """All of a small object (at most 32 MiB)."""
        body = b""

        def get(signed: SignedUrl) -> Answer:
            nonlocal body
            reply = self._transport.request("GET", signed.url, dict(signed.headers))
            body = reply.body
            return read_answer(reply.status, reply.headers, reply.body)

        self._until_done(get)
        return body

    def range_into(self, offset: int, length: int, sink: Callable[[memoryview], None]) -> None:
        """``length`` bytes from ``offset`` in order to ``sink``, each once: a cut GET goes on where it ended."""
        position, end = offset, offset + length

        def take(data: memoryview) -> None:
            nonlocal position
            if self._stop.is_set():
                raise Stopped
            if position + len(data) > end:
                raise StoreError(206, "too_many_bytes", "the store sent more bytes than were asked for")
            sink(data)
            position += len(data)

        def get(signed: SignedUrl) -> Answer:
            first = self._begins_at + position
            headers = {**signed.headers, "range": f"bytes={first}-{self._begins_at + end - 1}"}
            reply = self._transport.get_range(signed.url, headers, take)
            if 200 <= reply.status < 300 and position != end:
                return Answer(None, "", f"the store sent {position - offset} of {length} bytes")
            return read_answer(reply.status, reply.headers, reply.body)

        self._until_done(get)

    def _until_done(self, get: Callable[[SignedUrl], Answer]) -> None:
        tries, failing_since, fresh = Tries(), 0.0, False
        while True:
            began = self._clock.now()
            try:
                answer = get(self._url(fresh))
            except NetworkError as error:
                answer = Answer(None, "", error.message)
            if self._stop.is_set():
                raise Stopped
            if not tries.total:
                failing_since = began
            act = judge(answer, tries, self._clock.now() - failing_since, self._patience_s)
            tries = tries.after(act, answer)
            if act is Act.STORED:
                return
            if act not in (Act.SIGN_AGAIN, Act.BACK_OFF):
                raise StoreError(answer.status, answer.code or "network", in_words(answer))
            fresh = act is Act.SIGN_AGAIN
            if not fresh or tries.sign_again > 1:
                wanted_s = retry_after_s(answer.retry_after, self._clock.wall())
                if self._clock.pause(self._stop, pause_s(tries.total - 1, self._clock.random(), wanted_s)):
                    raise Stopped

    def _url(self, fresh: bool) -> SignedUrl:
        with self._lock:
            known = self._signed
            if known is None or fresh or (known.stale_at is not None and self._clock.now() >= known.stale_at):
                known = self._signed = self._sign()
            return known


def download(
    out: str,
    object_id: str,
    expected: Expected,
    fetcher: Fetcher,
    *,
    transport: Transport,
    concurrency: int,
    stop: threading.Event,
    hooks: Hooks,
    chunk_bytes: int | None = None,
) -> Download:
    """The object as the file ``out``, which appears only whole and proven.

    Raises ChecksumMismatch (what came is thrown away), StoreError, ApiError, OSError of the local disk,
    ClientError ``busy`` if another process is writing the same part file, Stopped.
    """
    chunk_bytes = chunk_bytes or download_chunk_size(expected.size)
    head = {"v": 1, "id": object_id, "size": expected.size, "chunk": chunk_bytes}
    part = out + ".part"
    with _part_file(part) as fd:
        have = _read_journal(part + ".journal", head)
        os.ftruncate(fd, expected.size)
        lengths = dict(chunks(expected.size, chunk_bytes))
        todo = still_to_fetch(expected.size, chunk_bytes, have, lambda at, known: _is_sound(fd, at, lengths[at], known))
        open_chunks = {offset for offset, _ in todo}
        sums = {offset: known for offset, known in have.items() if offset not in open_chunks}
        resumed = expected.size - sum(length for _, length in todo)
        if resumed:
            hooks.on_resumed(resumed)
            hooks.notice(f"resuming, {resumed} of {expected.size} bytes are there already")
        with open(part + ".journal", "w", encoding="utf-8") as journal:
            _write_journal(journal, head, sums)

            def fetch(offset: int, length: int) -> tuple[int, int]:
                return offset, _fetch_chunk(fetcher, fd, offset, length, hooks)

            pool = ThreadPoolExecutor(max(1, concurrency))
            try:
                for done in as_completed([pool.submit(fetch, *piece) for piece in todo]):
                    offset, sums[offset] = done.result()
                    journal.write(f"{json.dumps([offset, sums[offset]])}\n")
                    journal.flush()
            except BaseException:
                stop.set()
                transport.abort()
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                transport.close()
        whole = 0
        for offset, length in lengths.items():
            whole = crc.combine(whole, sums[offset], length)
        try:
            verified = _verify(fd, whole, expected, stop)
        except ChecksumMismatch:
            os.unlink(part + ".journal")
            os.unlink(part)
            raise
        os.replace(part, out)
        os.unlink(part + ".journal")
    return Download(out, expected.size, f"{whole:08x}", verified, expected.size - resumed, resumed)


def _fetch_chunk(fetcher: Fetcher, fd: int, offset: int, length: int, hooks: Hooks) -> int:
    position, value = offset, 0

    def write(data: memoryview) -> None:
        nonlocal position, value
        value = zlib.crc32(data, value)
        written = 0
        while written < len(data):
            written += os.pwrite(fd, data[written:], position + written)
        position += len(data)
        hooks.on_bytes(len(data))

    fetcher.range_into(offset, length, write)
    return value


def _verify(fd: int, whole: int, expected: Expected, stop: threading.Event) -> str | None:
    verified = None
    if expected.crc32 is not None:
        if whole != expected.crc32:
            raise ChecksumMismatch(f"the CRC-32 is {whole:08x}, the record says {expected.crc32:08x}")
        verified = "crc32"
    if expected.sha256 is not None:
        digest = hashlib.sha256()
        for data in _read(fd, 0, expected.size):
            if stop.is_set():
                raise Stopped
            digest.update(data)
        if digest.hexdigest() != expected.sha256.lower():
            raise ChecksumMismatch(f"the SHA-256 is {digest.hexdigest()}, the record says {expected.sha256}")
        verified = "sha256"
    return verified


def _is_sound(fd: int, offset: int, length: int, known: int) -> bool:
    value = 0
    for data in _read(fd, offset, length):
        value = zlib.crc32(data, value)
    return value == known


def _read(fd: int, offset: int, length: int) -> Iterator[bytes]:
    end = offset + length
    while offset < end:
        data = os.pread(fd, min(READ_BYTES, end - offset), offset)
        if not data:
            return
        yield data
        offset += len(data)


@contextmanager
def _part_file(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClientError("busy", f"another process is writing {path}") from None
        yield fd
    finally:
        os.close(fd)


def _read_journal(path: str, head: Mapping[str, Any]) -> dict[int, int]:
    """Finished chunks {offset: CRC-32}; nothing if the journal is of another object or cannot be read."""
    have: dict[int, int] = {}
    try:
        with open(path, encoding="utf-8") as journal:
            if json.loads(journal.readline()) != head:
                return {}
            for line in journal:
                offset, value = json.loads(line)
                have[int(offset)] = int(value)
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError):
        return have  # killed in the middle of a line: the lines before it hold
    return have


def _write_journal(journal: TextIO, head: Mapping[str, Any], have: Mapping[int, int]) -> None:
    journal.write(json.dumps(head) + "\n")
    for offset, value in sorted(have.items()):
        journal.write(f"{json.dumps([offset, value])}\n")
    journal.flush()
