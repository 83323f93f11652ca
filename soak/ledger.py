"""What the clients of a soak have done, and what must therefore be true. No I/O here.

The ledger is the independent model: it knows bytes that were sent, never what the system made of them. It is filled by
many threads.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

ENDS_WELL: Final = frozenset({"completed"})
REFUSED: Final = frozenset({"rejected"})
FINAL: Final = frozenset(
    {"completed", "completed_with_errors", "rejected", "failed", "cancelled", "expired", "deleted"}
)
# What may follow an end: a failure of the world's is taken up again, and whatever ended may be deleted.
AFTER_END: Final[Mapping[str, frozenset[str] | None]] = {"failed": None, "deleted": frozenset()}


class Violation(AssertionError):
    """Something that must be true was not."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A file that the API has taken: its bytes' SHA-256 (hex) and the ends that are right for it."""

    tenant: str
    file_id: str
    name: str
    size: int
    sha256: str
    ends: frozenset[str] = ENDS_WELL
    thumbnails: int = 0


@dataclass(slots=True)
class Ledger:
    """Every method holds the lock for a few dictionary operations only."""

    sent: dict[str, Sent] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    batches: dict[str, str] = field(default_factory=dict)  # batch id -> tenant
    studies: dict[tuple[str, str], set[str]] = field(default_factory=dict)  # (tenant, study UID) -> SOP instance UIDs
    archives: int = 0
    told: dict[str, dict[str, set[str]]] = field(default_factory=dict)  # file id -> detail-type -> ids of the end
    errands: dict[str, int] = field(default_factory=dict)
    bytes_sent: int = 0
    _last: dict[str, str] = field(default_factory=dict)
    _held: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, sent: Sent) -> None:
        """A file whose bytes are all there."""
        with self._lock:
            known = self.sent.get(sent.file_id)
            if known is not None and known != sent:
                raise Violation(f"{sent.file_id} was {known.name} and is {sent.name}")
            self.sent[sent.file_id] = sent
            self.bytes_sent += sent.size

    def add_batch(self, tenant: str, batch_id: str) -> None:
        with self._lock:
            self.batches[batch_id] = tenant

    def add_instances(self, tenant: str, study_uid: str, instances: set[str]) -> None:
        """Instances that are on their way: counts may reach them from now on, and must in the end."""
        with self._lock:
            self.studies.setdefault((tenant, study_uid), set()).update(instances)

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the bus."""
        detail = event["detail"]
        if "file_id" in detail:
            with self._lock:
                told = self.told.setdefault(str(detail["file_id"]), {})
                told.setdefault(str(event["detail-type"]), set()).add(str(detail["id"]))

    def did(self, errand: str) -> None:
        with self._lock:
            self.errands[errand] = self.errands.get(errand, 0) + 1

    def saw(self, file_id: str, status: str) -> None:
        """A status as it was answered. Raises Violation where it follows an end that it must not follow."""
        with self._lock:
            before = self._last.get(file_id)
            self._last[file_id] = status
        if before is None or before == status or before not in FINAL:
            return
        allowed = AFTER_END.get(before, frozenset({"deleted"}))
        if allowed is not None and status not in allowed:
            raise Violation(f"{file_id} was {before} and is {status}")

    def take(self, tenant: str, chance: random.Random, most: int, *, to_delete: bool = False) -> list[Sent]:
        """Some files of a tenant that ended well, held until ``give_back``; deleted ones never come back.

        What is held by somebody is not given out for deletion.
        """
        with self._lock:
            live = [
                one
                for one in self.sent.values()
                if one.tenant == tenant
                and one.file_id not in self.deleted
                and self._last.get(one.file_id) == "completed"
                and not (to_delete and self._held.get(one.file_id))
            ]
            chosen = chance.sample(live, min(most, len(live)))
            for one in chosen:
                if to_delete:
                    self.deleted.add(one.file_id)
                else:
                    self._held[one.file_id] = self._held.get(one.file_id, 0) + 1
            return chosen

    def give_back(self, files: list[Sent]) -> None:
        with self._lock:
            for one in files:
                self._held[one.file_id] -= 1

    def last(self, file_id: str) -> str | None:
        """The status that was seen last."""
        with self._lock:
            return self._last.get(file_id)

    def live(self) -> list[Sent]:
        """Files that nobody deleted."""
        with self._lock:
            return [one for one in self.sent.values() if one.file_id not in self.deleted]
