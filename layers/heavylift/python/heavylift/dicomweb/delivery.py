"""Bodies made of bytes of ours and ranges of stored objects: answered, or made an object and answered by 307.

One of the modules that touch the world. Up to 4 MiB the ranges are read and answered. Above, the body becomes an
object of the derived bucket by a multipart upload: ranges of 10 MiB and more are copied inside S3, the rest is written
by hand. An object is named by what it is made of, so it is made once. Whoever runs out of time answers 503; the next
call goes on where the upload stands, because the cuts follow from the pieces alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from heavylift import keys, s3
from heavylift.archives import transfer
from heavylift.archives.members import Source
from heavylift.archives.transfer import SourceLost, Upload
from heavylift.dicomweb.exchange import ANSWER_BYTES_MAX, Answer, Request, elsewhere, found
from heavylift.errors import ContentError, RequestError, TransientError
from heavylift.limits import MIB, S3_PART_SIZE_MIN
from heavylift.ranges import Range, coalesce
from heavylift.s3 import PartInfo, Traffic
from heavylift.settings import settings
from heavylift.telemetry import logger

PARALLEL: Final = 8  # ranges read at once of one answer: small ones wait for S3, not for the network
MAKERS: Final = 4  # parts made at once; each holds HAND_TARGET bytes twice
HAND_TARGET: Final = 8 * MIB  # of a part written by hand
COPY_TARGET: Final = 128 * MIB  # S3 copies it in a second
# Read and written again by this function at some 40 MB/s, a minute and a half: three calls. More is the archive's work.
HAND_BYTES_MAX: Final = 4096 * MIB
BODY_BYTES_MAX: Final = 9_000 * COPY_TARGET


@dataclass(frozen=True, slots=True)
class Stored:
    """``length`` bytes from ``offset`` of an object in the store. ``etag``: "" where it is not known yet."""

    key: str
    offset: int
    length: int
    etag: str = ""


Piece = bytes | Stored


@dataclass(frozen=True, slots=True)
class Cut:
    """One part of the upload: pieces written by hand, or one range that S3 copies."""

    number: int
    pieces: tuple[Piece, ...]
    copied: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(map(_length, self.pieces))


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.length


def deliver(
    request: Request,
    owner_id: str,
    name: str,
    pieces: Sequence[Piece],
    media_type: str,
    *,
    still: Callable[[], bool] = lambda: True,
) -> Answer:
    """The pieces, one behind the other, as the body of an answer.

    A large body becomes the object ``frames/<tenant>/<owner_id>/<name>``; ``name`` must follow from the pieces.
    ``still``: whether what is served is still there, asked after an object was made: a deletion that came in between
    has not seen it. RequestError ``answer_too_large``, ``not_found``; TransientError where it takes longer.
    """
    size_bytes = sum(map(_length, pieces))
    if size_bytes <= ANSWER_BYTES_MAX:
        return found(read(pieces), media_type)
    key = keys.frames(request.tenant, owner_id, name)
    bucket = settings().derived_bucket
    if s3.head(bucket, key) is None:
        make(key, pieces, media_type, request.seconds_left)
        if not still():
            s3.delete(bucket, key)
            raise gone()
    return link(key, media_type)


def link(key: str, media_type: str, encoding: str | None = None) -> Answer:
    """307 to an object of the derived bucket."""
    return elsewhere(
        s3.presigned_get(
            settings().derived_bucket, key, settings().signature_ttl_s, media_type=media_type, encoding=encoding
        )
    )


def gone() -> RequestError:
    """The same for what never was, what is another tenant's, and what was deleted meanwhile."""
    return RequestError("not_found", "There is no such study, series or instance.")


def read(pieces: Sequence[Piece]) -> bytes:
    """The bytes of the pieces. RequestError ``not_found`` where an object is gone; TransientError.

    Neighbouring ranges of one object share a request; several requests are in flight at once. Memory: the bytes twice.
    """
    requests: list[Stored] = []
    shares: list[tuple[int, int, int]] = []  # (request, start, length), in the order of all stored bytes
    for run in _runs(pieces):
        for one in coalesce(Range(piece.offset, piece.length) for piece in run):
            shares += [(len(requests), start, length) for start, length in one.pieces]
            requests.append(replace(run[0], offset=one.range.offset, length=one.range.length))
    requests = _pinned(requests)
    if len(requests) <= 1:
        bodies = [_fetch(one) for one in requests]
    else:
        with ThreadPoolExecutor(min(PARALLEL, len(requests)), thread_name_prefix="dicomweb") as pool:
            bodies = list(pool.map(_fetch, requests))
    stored = memoryview(
        b"".join(memoryview(bodies[number])[start : start + length] for number, start, length in shares)
    )
    joined: list[bytes | memoryview] = []
    at = 0
    for piece in pieces:
        joined.append(piece if isinstance(piece, bytes) else stored[at : at + piece.length])
        at += 0 if isinstance(piece, bytes) else piece.length
    return b"".join(joined)


def _runs(pieces: Sequence[Piece]) -> Iterator[list[Stored]]:
    """The stored pieces, grouped where neighbours lie in one object."""
    stored = [piece for piece in pieces if isinstance(piece, Stored)]
    for _, run in groupby(stored, key=lambda piece: (piece.key, piece.etag)):
        yield list(run)


def _pinned(requests: list[Stored]) -> list[Stored]:
    """The same, where several are of one object pinned by its ETag: one HEAD, if that is not known yet."""
    times = Counter(one.key for one in requests if not one.etag)
    known = {key: pin(Stored(key, 0, 0)).etag for key, count in times.items() if count > 1}
    return [replace(one, etag=known.get(one.key, one.etag)) for one in requests]


def _fetch(piece: Stored) -> bytes:
    bucket = settings().store_bucket
    try:
        if not piece.etag:
            first = s3.read_first(bucket, piece.key, piece.length, offset=piece.offset)
            if len(first.data) == piece.length:
                return first.data
            raise TransientError("aws_unavailable", f"S3 gave {len(first.data)} of {piece.length} bytes.")
        size_bytes = piece.offset + piece.length
        return s3.ObjectSource(bucket, piece.key, size_bytes, piece.etag).read(piece.offset, piece.length)
    except s3.NoSuchKey:
        raise gone() from None
    except ContentError as error:
        raise gone() from error  # an object of the store is never overwritten: it was deleted while it was read


def pin(piece: Stored) -> Stored:
    """The piece with its object's ETag; one HEAD where it is not known. RequestError ``not_found``."""
    if piece.etag:
        return piece
    head = s3.head(settings().store_bucket, piece.key)
    if head is None:
        raise gone()
    return replace(piece, etag=head.etag)


# --- large bodies ---


def cuts_of(pieces: Sequence[Piece]) -> list[Cut]:
    """The parts of an upload of the pieces; the same for the same pieces. Pure.

    All but the last have at least 5 MiB. What stands before a long range is filled up to that from its beginning.
    """
    cuts: list[Cut] = []
    hand: list[Piece] = []
    held = 0

    def flush() -> None:
        nonlocal hand, held
        if hand:
            cuts.append(Cut(len(cuts) + 1, tuple(hand)))
        hand, held = [], 0

    def take(piece: Piece) -> None:
        nonlocal held
        hand.append(piece)
        held += _length(piece)

    for piece in pieces:
        left = piece
        while _length(left):
            fill = S3_PART_SIZE_MIN - held if held and held < S3_PART_SIZE_MIN else 0
            if isinstance(left, Stored) and left.length - fill >= 2 * S3_PART_SIZE_MIN:
                if fill:
                    take(replace(left, length=fill))
                flush()
                rest = replace(left, offset=left.offset + fill, length=left.length - fill)
                count = -(-rest.length // COPY_TARGET)
                for number in range(count):
                    start, end = rest.length * number // count, rest.length * (number + 1) // count
                    part = replace(rest, offset=rest.offset + start, length=end - start)
                    cuts.append(Cut(len(cuts) + 1, (part,), copied=True))
                break
            room = min(HAND_TARGET - held, _length(left))
            if isinstance(left, Stored):
                take(replace(left, length=room))
                left = replace(left, offset=left.offset + room, length=left.length - room)
            else:
                take(left[:room])
                left = left[room:]
            if held >= HAND_TARGET:
                flush()
    flush()
    return cuts


def make(key: str, pieces: Sequence[Piece], media_type: str, seconds_left: Callable[[], float]) -> None:
    """Make the object ``key`` of the derived bucket of the pieces, unless a twin was first.

    RequestError ``answer_too_large``, ``not_found``; TransientError: not yet, ask again.
    """
    size_bytes = sum(map(_length, pieces))
    cuts = cuts_of(pieces)
    by_hand = sum(one.size_bytes for one in cuts if not one.copied)
    if by_hand > HAND_BYTES_MAX or size_bytes > BODY_BYTES_MAX:
        raise RequestError(
            "answer_too_large",
            f"The answer would have {size_bytes} bytes. Ask for less at once, or for an archive of the study.",
            size_bytes=size_bytes,
        )
    traffic = Traffic()
    bucket = settings().derived_bucket
    there = [one for one in transfer.open_uploads(bucket, key, traffic) if one.key == key]
    upload = there[0] if there else transfer.begin(bucket, key, traffic, media_type)
    try:
        done = {part.number: part for part in s3.list_parts(bucket, key, upload.upload_id)} if there else {}
        with ThreadPoolExecutor(MAKERS, thread_name_prefix="dicomweb") as pool:
            running = [pool.submit(_part, upload, one, done.get(one.number), traffic, seconds_left) for one in cuts]
            parts = [future.result() for future in running]
        if any(part is None for part in parts):
            raise later()
        transfer.join(upload, [part for part in parts if part is not None], size_bytes, traffic)
    except s3.NoSuchUpload:
        # A twin has joined it, or somebody tidied up.
        if s3.head(bucket, key) is None:
            raise later() from None
    except s3.PreconditionFailed:
        transfer.quietly(lambda: s3.abort_multipart(bucket, key, upload.upload_id))
    except (SourceLost, RequestError):
        transfer.quietly(lambda: s3.abort_multipart(bucket, key, upload.upload_id))
        raise gone() from None
    except s3.Refused as error:
        transfer.quietly(lambda: s3.abort_multipart(bucket, key, upload.upload_id))
        raise TransientError("aws_unavailable", f"S3 did not join the parts: {error.code}.") from error
    logger().info("a body was made", bytes=size_bytes, by_hand=by_hand, requests=traffic.requests)


def later() -> TransientError:
    return TransientError("not_ready", "The answer is large and still being made; ask again.", retry_after_s=2)


def _part(
    upload: Upload, cut: Cut, there: PartInfo | None, traffic: Traffic, seconds_left: Callable[[], float]
) -> PartInfo | None:
    """One part; None when time is over."""
    if there is not None and there.size_bytes == cut.size_bytes:
        return there
    if seconds_left() <= 0:
        return None
    if cut.copied:
        piece = cut.pieces[0]
        assert isinstance(piece, Stored)
        pinned = pin(piece)
        source = Source(settings().store_bucket, pinned.key, None, pinned.etag)
        # A length that no object has: the range is always named.
        return transfer.copy_part(source, -1, upload, cut.number, pinned.offset, pinned.length, traffic)
    return transfer.write_part(upload, cut.number, read(cut.pieces), traffic)
