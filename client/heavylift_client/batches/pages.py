"""What goes into one page of the manifest and into one call for URLs. No I/O here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heavylift_client.plan import MIB, SINGLE_PUT_MAX_BYTES

FILES_MAX = 100_000  # the API's limit for a batch
ENTRIES_MAX = 5_000  # the API's limit for a page
WINDOW_MAX = 500  # the API's limit for one call for URLs
# A page is hashed before it is sent and its bytes are read a second time after that: it should be small enough
# that the first bytes leave soon ...
PAGE_BYTES = 32 * MIB
# ... and still lie in the page cache the second time.
PAGE_BYTES_MAX = 256 * MIB
PAGES_WANTED_MAX = 800  # the API takes 1,000 pages
PAGE_BODY_BYTES_MAX = 3_000_000  # Lambda takes 6 MB of request, headers and escapes included
ENTRY_BYTES = 160  # of an entry as JSON, without its names
TTL_SHARE = 0.4  # of a URL's life should suffice for a window


@dataclass(slots=True)
class Member:
    """One file of a batch: ``n`` as in the manifest, ``path`` relative to the folder as the system spells it.

    ``sha256`` is base64 and None until hashed, and for members that go up in parts.
    """

    n: int
    path: str
    size: int
    mtime_ns: int
    sha256: str | None = None
    stale: int = 0
    """How often its URL was old before it was used."""

    @property
    def is_small(self) -> bool:
        """Goes up in one signed PUT; any larger member has an upload session."""
        return self.size <= SINGLE_PUT_MAX_BYTES


@dataclass(slots=True)
class Filling:
    """How full a page is."""

    total_bytes: int
    """Of all small members of the batch: what a page may hold grows with it, so that the pages suffice."""
    count: int = 0
    hashed_bytes: int = 0
    body_bytes: int = 0

    def add(self, member: Member) -> None:
        """One more entry."""
        self.count += 1
        self.hashed_bytes += member.size if member.is_small else 0
        # A character of a path is up to 6 bytes of JSON (\\uXXXX); the name repeats the path's end.
        self.body_bytes += ENTRY_BYTES + 12 * len(member.path)

    @property
    def is_full(self) -> bool:
        """Whether the page should go, before another entry joins it.

        Pages end at whole windows where they can: a window that is not full costs a call.
        """
        if self.count >= ENTRIES_MAX or self.body_bytes >= PAGE_BODY_BYTES_MAX:
            return True
        if self.hashed_bytes >= max(PAGE_BYTES_MAX, self.total_bytes // PAGES_WANTED_MAX):
            return True
        return self.count % WINDOW_MAX == 0 and self.hashed_bytes >= PAGE_BYTES


def manifest_entry(member: Member, name: str, relative_path: str) -> dict[str, Any]:
    """A member as the manifest lists it. The digest goes along for what one PUT brings: it is signed into its URL."""
    entry: dict[str, Any] = {"n": member.n, "name": name, "size": member.size, "relative_path": relative_path}
    if member.is_small and member.sha256 is not None:
        entry["sha256"] = member.sha256
    return entry


def window_size(files_per_s: float, lives_s: float | None, concurrency: int) -> int:
    """For how many members URLs are worth having at once: what goes up within a part of a URL's life."""
    if lives_s is None or files_per_s <= 0:
        return WINDOW_MAX
    return max(2 * concurrency, min(WINDOW_MAX, int(files_per_s * lives_s * TTL_SHARE)))


def member_id(batch_id: str, n: int) -> str:
    """The file id (and upload id) of a batch's member."""
    return f"{batch_id}-{n:06d}"
