"""How an upload ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# What counts as "every file ended well".
WELL = frozenset({"completed"})
# A member of a batch may also be nothing that the batch is about, or be there already.
WELL_IN_A_BATCH = WELL | {"skipped", "duplicate"}
# All bytes are proven in staging, and nobody waited for what follows.
WELL_WITHOUT_WAITING = frozenset({"assembling", "staged", "validating", "scanning", "promoting", "fresh", "processing"})


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one file.

    ``status`` is the server's (completed, completed_with_errors, rejected, failed, cancelled, …), or
    ``failed`` when the upload itself could not be done; ``failure`` says why ({"code", "message"}).
    ``record`` is the body of ``GET /v1/files/{id}`` when the end was waited for.
    """

    path: str
    name: str
    status: str
    upload_id: str | None = None
    file_id: str | None = None
    kind: str | None = None
    size: int | None = None
    failure: Mapping[str, Any] | None = None
    relative_path: str | None = None
    bytes_sent: int = 0
    bytes_resumed: int = 0
    upload_s: float | None = None
    waited: bool = True
    record: Mapping[str, Any] | None = field(default=None, repr=False)
    batch_id: str | None = None
    n: int | None = None
    """Its number in the batch."""

    @property
    def ok(self) -> bool:
        """True if the file ended well; without waiting, if all its bytes arrived."""
        well = WELL if self.batch_id is None else WELL_IN_A_BATCH
        return self.status in well or (not self.waited and self.status in WELL_WITHOUT_WAITING)

    def line(self) -> dict[str, Any]:
        """The JSON line of ``heavylift put``."""
        line: dict[str, Any] = {
            "name": self.name,
            "upload_id": self.upload_id,
            "file_id": self.file_id,
            "status": self.status,
            "kind": self.kind,
            "size": self.size,
            "bytes_sent": self.bytes_sent,
            "bytes_resumed": self.bytes_resumed,
            "upload_s": None if self.upload_s is None else round(self.upload_s, 3),
        }
        if self.batch_id is not None:
            line["batch_id"] = self.batch_id
        if self.relative_path is not None:
            line["relative_path"] = self.relative_path
        if self.failure:
            line["failure"] = dict(self.failure)
        return line
