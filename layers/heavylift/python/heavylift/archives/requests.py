"""What an archive is to be made of, as it lies in ``requests/<tenant>/<archive_id>.json``. Pure.

The API writes it, or whoever runs the deployment drops it there: files are named by our ids only, and whose they must
be is the key's tenant, so a request can never reach another tenant's bytes or an object of no file. Fields:

    file_ids | batch_id | logical_id | study_uid   one of them
    name         of the download; by itself ``<logical id>.zip``
    package      "plain" (by itself) or "bagit"
    on_missing   "fail" (by itself) or "skip"
    user, created_at (seconds since 1970)           written by the API
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from heavylift.archives.jobs import ArchiveJob
from heavylift.errors import ContentError
from heavylift.ids import is_file_id, is_ulid
from heavylift.limits import ARCHIVE_FILES_MAX, NAME_LENGTH_MAX
from heavylift.records import logical_key

VERSION = 1
BYTES_MAX = 8 * 1024 * 1024  # 100 000 ids of a batch's files are 3.6 MB
SELECTORS = ("file_ids", "batch_id", "logical_id", "study_uid")
PACKAGES = ("plain", "bagit")
ON_MISSING = ("fail", "skip")
_UID = re.compile(r"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)*")  # DICOM PS3.5, section 9.1


@dataclass(frozen=True, slots=True)
class Request:
    """One request; exactly one of the first four is set. ``file_ids`` are different from each other."""

    file_ids: tuple[str, ...] = ()
    batch_id: str | None = None
    logical_id: str | None = None
    study_uid: str | None = None
    name: str | None = None
    package: str = "plain"
    on_missing: str = "fail"
    user: str = ""
    created_at: float | None = None

    @property
    def wanted(self) -> dict[str, Any]:
        """What the job's record keeps of it."""
        if self.file_ids:
            return {"files": len(self.file_ids)}
        return {name: value for name in SELECTORS[1:] if (value := getattr(self, name)) is not None}


def _wrong(message: str) -> ContentError:
    return ContentError("invalid_request", message)


def made(fields: Mapping[str, Any]) -> Request:
    """The request of plain values. ContentError ``invalid_request`` says what is wrong; unknown fields are ignored."""
    given = [name for name in SELECTORS if fields.get(name) is not None]
    if len(given) != 1:
        raise _wrong(f"A request names one of {', '.join(SELECTORS)}; this one names {', '.join(given) or 'none'}.")
    (selector,) = given
    value: Any = fields[selector]
    if selector == "file_ids":
        value = _file_ids(value)
    elif not isinstance(value, str) or not 0 < len(value) <= NAME_LENGTH_MAX:
        raise _wrong(f"{selector} is a text of 1 to {NAME_LENGTH_MAX} characters.")
    elif selector == "batch_id" and not is_ulid(value):
        raise _wrong("batch_id is no batch's id.")
    elif selector == "study_uid" and not _UID.fullmatch(value):
        raise _wrong("study_uid is no UID: numbers with dots between them, 64 characters at most.")
    elif selector == "logical_id":
        value = logical_key(value)
    name = fields.get("name")
    if name is not None and (not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH_MAX):
        raise _wrong(f"name is a text of 1 to {NAME_LENGTH_MAX} characters.")
    user, created_at = fields.get("user", ""), fields.get("created_at")
    if not isinstance(user, str) or isinstance(created_at, bool):
        raise _wrong("user is a text, created_at a number of seconds.")
    if not isinstance(created_at, int | float | None):
        raise _wrong("created_at is a number of seconds since 1970.")
    return Request(
        **{selector: value},
        name=name,
        package=_one_of(fields, "package", PACKAGES),
        on_missing=_one_of(fields, "on_missing", ON_MISSING),
        user=user[:NAME_LENGTH_MAX],
        created_at=created_at,
    )


def _file_ids(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise _wrong("file_ids is a list of ids, one at least.")
    if len(value) > ARCHIVE_FILES_MAX:
        raise _wrong(f"file_ids has {len(value)} ids; an archive has at most {ARCHIVE_FILES_MAX} files.")
    for position, one in enumerate(value):
        if not isinstance(one, str) or not is_file_id(one):
            raise _wrong(f"file_ids[{position}] is no file's id.")
    return tuple(dict.fromkeys(value))


def _one_of(fields: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = fields.get(name)
    if value is None:
        return allowed[0]
    if value not in allowed:
        raise _wrong(f"{name} is one of {', '.join(allowed)}.")
    return str(value)


def asked(request: Request, user: str, at: float) -> Request:
    """The request as somebody's call made it."""
    return replace(request, user=user[:NAME_LENGTH_MAX], created_at=at)


def parse(body: bytes) -> Request:
    """A request as it lies in S3. ContentError ``invalid_request``."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise _wrong("The request is no JSON.") from None
    if not isinstance(value, dict):
        raise _wrong("The request is no JSON object.")
    if value.get("version", VERSION) != VERSION:
        raise _wrong(f"The request is of version {value['version']!r}; known is {VERSION}.")
    return made(value)


def encode(request: Request) -> bytes:
    """The inverse of ``parse``: the same request, the same bytes."""
    fields: dict[str, Any] = {"version": VERSION, "package": request.package, "on_missing": request.on_missing}
    for name in (*SELECTORS, "name", "user", "created_at"):
        value = getattr(request, name)
        if value not in (None, (), ""):
            fields[name] = value
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def download_name(request: Request, archive_id: str, label: str | None = None) -> str:
    """What the download is called: as asked for, else after what it holds; always with its extension."""
    name = request.name or label or request.logical_id or request.batch_id or request.study_uid or archive_id
    return name if name.lower().endswith(".zip") else f"{name}.zip"


def new_job(tenant: str, archive_id: str, request: Request, now: float, due_at: float) -> ArchiveJob:
    """The job of a request, the same whoever makes it: the API, or the function that finds the request."""
    return ArchiveJob(
        tenant=tenant,
        archive_id=archive_id,
        name=download_name(request, archive_id),
        package=request.package,
        on_missing=request.on_missing,
        wanted=request.wanted,
        user=request.user,
        created_at=request.created_at or now,
        updated_at=now,
        due_at=due_at,
    )
