"""The values that travel through an upload: a file on its way, a signed part, what the caller wants to hear."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heavylift_client.api import Answer
from heavylift_client.backoff import moment_s
from heavylift_client.errors import AnswerError, ClientError
from heavylift_client.plan import PartPlan
from heavylift_client.results import Result
from heavylift_client.sources import Item, Source


@dataclass(slots=True)
class Hooks:
    """What the caller wants to hear while it waits. Called from several threads, sometimes with a lock held."""

    on_bytes: Callable[[int], None] = lambda _: None
    """Bytes that went out; negative when they have to go again."""
    on_resumed: Callable[[int], None] = lambda _: None
    """Bytes that were there already."""
    notice: Callable[[str], None] = lambda _: None
    """A sentence for the person who waits."""
    on_listed: Callable[[int], None] = lambda _: None
    """Bytes of a folder that was listed: so many more are to go."""


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """A presigned request; ``stale_at`` is on the clock's ``now`` scale, None if unknown."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    stale_at: float | None


@dataclass(slots=True, eq=False)
class Transfer:
    """One file on its way. Guarded by the board's condition once it is started."""

    item: Item
    source: Source
    upload_id: str
    plan: PartPlan
    single: bool
    started_at: float
    sha256: dict[int, str] = field(default_factory=dict)
    """Base64 digest of each part that was hashed or proven."""
    todo: deque[int] = field(default_factory=deque)
    """Parts that nobody has hashed yet."""
    unsent: int = 0
    ahead: int = 0
    ended: bool = False
    step: str = "complete"
    polls: int = 0
    rounds: int = 0
    bytes_sent: int = 0
    """All that went over the wire, repeats included."""
    bytes_counted: int = 0
    """What the caller was told, repeats taken back."""
    settled: bool = False
    """The caller is told no more about this file's bytes."""
    bytes_resumed: int = 0
    upload_s: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One part with its URL; ``signed_twice`` counts URLs that were old before they were used."""

    transfer: Transfer
    number: int
    signed: SignedUrl
    signed_twice: int = 0


def signed_url(entry: Mapping[str, Any], answer: Answer) -> SignedUrl:
    """A signed request as the API states it. Its end of life is measured from the server's clock, so that
    ours may be wrong; 20 % of it, at most 5 s, are left for the way."""
    if not entry.get("url"):
        raise AnswerError("a signed request has no URL")
    ends, now = moment_s(entry.get("expires_at")), answer.server_now
    lives_s = 0.0 if ends is None or now is None else ends - now
    stale_at = answer.asked_at + lives_s - min(5.0, 0.2 * lives_s) if lives_s > 0 else None
    return SignedUrl(entry["url"], dict(entry.get("headers") or {}), stale_at)


def failed(item: Item, error: ClientError, size: int | None = None, *, status: str = "failed") -> Result:
    """The result of a file that never got a session."""
    failure = {"code": error.code, "message": error.message}
    return Result(
        item.path,
        item.name,
        status,
        size=size,
        failure=failure,
        relative_path=item.relative_path,
        **_membership(item),
    )


def _membership(item: Item) -> dict[str, Any]:
    return {} if item.member is None else {"batch_id": item.member.batch_id, "n": item.member.n}


def outcome(
    transfer: Transfer,
    status: str,
    record: Mapping[str, Any] | None = None,
    *,
    failure: Mapping[str, Any] | None = None,
    waited: bool = True,
) -> Result:
    """The result of a file that had one."""
    known = record or {}
    return Result(
        path=transfer.item.path,
        name=transfer.item.name,
        status=status,
        upload_id=transfer.upload_id,
        file_id=known.get("file_id", transfer.upload_id),
        kind=known.get("kind", transfer.item.declared.kind),
        size=transfer.source.size,
        failure=failure or known.get("failure"),
        relative_path=transfer.item.relative_path,
        bytes_sent=transfer.bytes_sent,
        bytes_resumed=transfer.bytes_resumed,
        upload_s=transfer.upload_s,
        waited=waited,
        record=record,
        **_membership(transfer.item),
    )
