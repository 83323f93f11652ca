"""A large table or text, checked in pieces by many sandboxes at once: more messages on validate's own queue.

Whoever checks the file (``checking``, under the record's lease) lays down a work order, sends a message for each
piece, and reads on from the beginning; where it comes to a piece of which the findings lie in ``work/`` it takes them
up (``tables.pieces.walk``). One alone puts the report together, the holder of the lease, and it never waits: a piece
that nobody read yet it reads itself.

Who reads a piece writes one object, and only if it is not there; it writes nothing to the table. Its message may come
twice, late, never, or with another sandbox at the same piece: the same bytes and rules make the same findings.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift import keys, queue, s3
from heavylift.errors import ContentError, TransientError
from heavylift.limits import FETCH_PARALLEL, MIB
from heavylift.messages import Delivery
from heavylift.prefetch import ahead
from heavylift.settings import settings
from heavylift.tables import bounds
from heavylift.telemetry import count, logger
from heavylift.work import VALIDATE

FINDINGS_VERSION: Final = 1
FINDINGS_BYTES_MAX: Final = 16 * MIB  # two candidates with a thousand errors each and the columns' samples: 2 MB
ORDER_BYTES_MAX: Final = 2 * MIB  # the rules and the names of 16,384 columns; longer names, and one alone reads
_JSON: Final = "application/json"


@dataclass(slots=True)
class Order:
    """The pieces of one file by one set of rules. ``given``: their messages were sent, or may have been."""

    tenant: str
    file_id: str
    etag: str
    rules_sha256: str
    given: bool = False
    _counted: set[int] = field(default_factory=set)

    @property
    def digest(self) -> str:
        """Names the work: other bytes, other rules, other pieces and other versions of the code have other ones."""
        parts = f"{FINDINGS_VERSION} {bounds.PIECE_BYTES} {self.etag} {self.rules_sha256}"
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    def give(self, run: Any, rules: Any, source: s3.ObjectSource) -> None:
        """Lay down what a piece's reader has to know, and send the messages. What SQS does not take is read here."""
        seed = run.seed()
        if seed is None:
            return
        order = _json(
            {
                "seed": seed,
                "rules": rules,
                "bucket": source.bucket,
                "key": source.key,
                "size": source.size_bytes,
                "etag": source.etag,
                "version_id": source.version_id,
            }
        )
        if len(order) > ORDER_BYTES_MAX:
            return
        self.given = True
        _put(_order_key(self.tenant, self.file_id, self.digest), order, only_new=False)
        numbers = range(1, pieces_of(source.size_bytes))
        try:
            with ThreadPoolExecutor(FETCH_PARALLEL) as pool:
                list(pool.map(self._send, numbers))
        except TransientError as error:
            logger().warning("pieces are read in turn", file_id=self.file_id, error=error.message)
        logger().info("pieces given out", file_id=self.file_id, pieces=len(numbers))

    def _send(self, number: int) -> None:
        told = {"work": self.digest, "piece": number}
        queue.send(VALIDATE.name, queue.Continuation("chunk", self.tenant, self.file_id, 0, checkpoint=told))

    def found(self, number: int, traffic: s3.Traffic) -> list[Any]:
        """What was found in a piece, by the places at which a record may begin; nothing if it was not read yet."""
        if not self.given:
            return []
        body = s3.read_small(
            settings().derived_bucket,
            _piece_key(self.tenant, self.file_id, self.digest, number),
            size_max=FINDINGS_BYTES_MAX,
        )
        if body is None:
            return []
        findings = json.loads(body)
        if number not in self._counted:
            self._counted.add(number)
            traffic.add(requests=findings["requests"], bytes_in=findings["bytes_in"])
        found: list[Any] = findings["found"]
        return found

    def take_back(self, size: int) -> None:
        """The report is written: nobody needs to begin a piece any more, and the findings go."""
        if not self.given:
            return
        bucket = settings().derived_bucket
        s3.delete(bucket, _order_key(self.tenant, self.file_id, self.digest))
        names = [_piece_key(self.tenant, self.file_id, self.digest, number) for number in range(1, pieces_of(size))]
        with ThreadPoolExecutor(FETCH_PARALLEL) as pool:
            list(pool.map(lambda name: s3.delete(bucket, name), names))


def order_for(
    tenant: str, file_id: str, etag: str, rules_sha256: str, size: int, kept: dict[str, Any] | None
) -> Order | None:
    """The order for a file of that size, as an earlier slice gave it if any; None: one alone reads it."""
    if size < bounds.PIECES_FROM_BYTES:
        return None
    return Order(tenant, file_id, etag, rules_sha256, given=bool((kept or {}).get("pieces")))


def pieces_of(size: int) -> int:
    """How many pieces a file has; the first one is never given out."""
    return -(-size // bounds.PIECE_BYTES)


def shared(take: Callable[[Delivery], None]) -> Callable[[Delivery], None]:
    """``take`` for a queue that brings pieces as well."""

    def either(delivery: Delivery) -> None:
        message = delivery.message
        if isinstance(message, queue.Continuation) and message.do == "chunk":
            take_piece(message, delivery.seconds_left)
        else:
            take(delivery)

    return either


def take_piece(message: queue.Continuation, seconds_left: Callable[[], float]) -> None:
    """Read a piece, if it is still wanted and nobody did, and lay down what was found. TransientError.

    Memory: as one check, with two runs for CSV. One that runs out of time leaves what it found up to there.
    """
    told = message.checkpoint or {}
    digest, number = str(told["work"]), int(told["piece"])
    bucket = settings().derived_bucket
    started = time.monotonic()
    order_body = s3.read_small(bucket, _order_key(message.tenant, message.file_id, digest), size_max=ORDER_BYTES_MAX)
    key = _piece_key(message.tenant, message.file_id, digest, number)
    if order_body is None or s3.head(bucket, key) is not None:
        logger().info("piece not wanted", file_id=message.file_id, piece=number)
        return
    order = json.loads(order_body)
    source = s3.ObjectSource(order["bucket"], order["key"], order["size"], order["etag"], order["version_id"])
    try:
        found = _read(order, number, source, seconds_left)
    except ContentError as error:
        logger().info("piece left", file_id=message.file_id, piece=number, code=error.code)
        return  # the object is gone or another one: whoever checks the file finds out
    traffic = {"requests": source.traffic.requests, "bytes_in": source.traffic.bytes_in}
    try:
        _put(key, _json({"found": found, **traffic}), only_new=True)
    except s3.PreconditionFailed:
        return  # a twin was faster, and found the same
    count("PiecesRead")
    logger().info(
        "piece read",
        file_id=message.file_id,
        piece=number,
        candidates=len(found),
        ms=round((time.monotonic() - started) * 1000),
        bytes_read=source.traffic.bytes_in,
    )


def _read(order: dict[str, Any], number: int, source: s3.ObjectSource, seconds_left: Callable[[], float]) -> list[Any]:
    from heavylift.tables.pieces import Piece
    from heavylift.tables.rules import parse_rules

    start = number * bounds.PIECE_BYTES
    end = min(start + bounds.PIECE_BYTES, source.size_bytes)
    piece = Piece(order["seed"], parse_rules(order["rules"]), start)
    blocks = ahead(source.read, start - 1, end)
    try:
        for block in blocks:
            for at in range(0, len(block), bounds.BLOCK_BYTES):
                piece.feed(block[at : at + bounds.BLOCK_BYTES])
            if piece.hopeless or seconds_left() <= 0:
                break
    finally:
        blocks.close()
    return list(piece.found())


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _put(key: str, body: bytes, *, only_new: bool) -> None:
    s3.put_bytes(settings().derived_bucket, key, body, media_type=_JSON, only_new=only_new)


def _order_key(tenant: str, file_id: str, digest: str) -> str:
    return keys.work(tenant, file_id, f"pieces-{digest}/order.json")


def _piece_key(tenant: str, file_id: str, digest: str, number: int) -> str:
    return keys.work(tenant, file_id, f"pieces-{digest}/{number:06d}.json")
