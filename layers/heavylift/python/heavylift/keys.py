"""Every S3 key of the system is built and read here; keys hold server-made ids and numbers only."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from heavylift.ids import is_file_id, is_tenant, is_ulid


@dataclass(frozen=True, slots=True)
class StagingKey:
    """What ``<lane>/<tenant>/<file_id>`` names."""

    lane: str
    tenant: str
    file_id: str


def staging(lane: str, tenant: str, file_id: str) -> str:
    """Where a client puts its bytes. Lanes: ``in`` and ``dicom``; a batch member's id has its batch's folder."""
    batch, dash, number = file_id.partition("-")
    return f"{lane}/{tenant}/{batch}/{int(number)}" if dash else f"{lane}/{tenant}/{file_id}"


def store(tenant: str, file_id: str) -> str:
    """Where a validated file lives."""
    return f"files/{tenant}/{file_id}"


def store_dicom(tenant: str, file_id: str) -> str:
    """Where the bytes of a DICOM instance live; the index says which instance it is."""
    return f"dicom/{tenant}/{file_id}"


def series_json(tenant: str, series_id: str, mark: int) -> str:
    """The prebuilt description of a series as of its ``mark``-th change; ``series_id`` is made by us."""
    return f"dicom/{tenant}/{series_id}/{mark}.json.gz"


def series_metadata(tenant: str, series_id: str, mark: int) -> str:
    """The metadata of a series' instances as of its ``mark``-th change."""
    return f"dicom/{tenant}/{series_id}/{mark}-metadata.json.gz"


def series_piece(tenant: str, series_id: str, name: str) -> str:
    """Some of these metadata, on the way to all of them; ``name`` follows from the files."""
    return f"dicom/{tenant}/{series_id}/{name}.piece.json.gz"


def series_prefix(tenant: str, series_id: str) -> str:
    """Where everything lies that was made of a series."""
    return f"dicom/{tenant}/{series_id}/"


def dicom_thumbnail(tenant: str, file_id: str, frame: int, edge: int) -> str:
    """A frame of a DICOM file, small enough for a square of ``edge``; made when somebody asks for it."""
    return f"dicom/{tenant}/{file_id}/{frame}-{edge}.jpg"


def frames(tenant: str, owner_id: str, name: str) -> str:
    """A body that is too large for an answer: of an instance (``owner_id`` is its file's), or of ``study_owner``."""
    return f"frames/{tenant}/{owner_id}/{name}"


def study_owner(tenant: str, study_uid: str) -> str:
    """What stands for a study in keys: a digest, for keys hold no UID."""
    return hashlib.sha256(f"study\n{tenant}\n{study_uid}".encode()).hexdigest()[:32]


def study_prefixes(tenant: str, study_uid: str) -> tuple[str, ...]:
    """Where everything lies that was made of several instances of a study."""
    return tuple(f"{name}/{tenant}/{study_owner(tenant, study_uid)}/" for name in ("dicom", "frames"))


def study_metadata(tenant: str, study_uid: str, name: str) -> str:
    """The metadata of a study, too large for an answer; ``name`` follows from its content."""
    return f"dicom/{tenant}/{study_owner(tenant, study_uid)}/{name}"


def manifest(tenant: str, file_id: str) -> str:
    """The part digests of an upload, as JSON."""
    return f"manifests/{tenant}/{file_id}.json"


def audit(tenant: str, file_id: str, first: int) -> str:
    """Audit events that no longer fit the record, from the ``first``-th on (counted from 0)."""
    return f"manifests/{tenant}/{file_id}/events/{first:06d}.json"


def work(tenant: str, owner_id: str, name: str) -> str:
    """A temporary object of a file, batch or archive; it goes when its owner has ended, at the latest after a day."""
    return f"work/{tenant}/{owner_id}/{name}"


def thumbnail(tenant: str, file_id: str, attempt: int, size: int) -> str:
    """A thumbnail; the attempt in the key keeps a slow worker from overwriting its successor's picture."""
    return f"thumbnails/{tenant}/{file_id}/{attempt}-{size}.jpg"


def report(tenant: str, file_id: str, name: str) -> str:
    """A report of validation; ``name`` follows from the content and the rules, and so do the report's bytes."""
    return f"reports/{tenant}/{file_id}/{name}.json"


def report_errors(tenant: str, file_id: str, name: str) -> str:
    """All errors of that report, one JSON line each, where they are more than the report shows."""
    return f"reports/{tenant}/{file_id}/{name}-errors.jsonl"


def archive(tenant: str, content_sha256: str) -> str:
    """An archive, named by a digest of what it is made of: the same members are the same object."""
    return f"archives/{tenant}/{content_sha256}.zip"


def archive_index(tenant: str, content_sha256: str) -> str:
    """Where each member lies in that archive; it goes with it."""
    return f"archives/{tenant}/{content_sha256}.index"


def parse_archive(key: str) -> tuple[str, str] | None:
    """(tenant, digest) of an archive's key or its index's; None for a key that we never made."""
    pieces = key.split("/")
    if len(pieces) != 3 or pieces[0] != "archives" or not is_tenant(pieces[1]):
        return None
    digest, _, kind = pieces[2].partition(".")
    return (pieces[1], digest) if re.fullmatch("[0-9a-f]{64}", digest) and kind in {"zip", "index"} else None


def archive_request(tenant: str, archive_id: str) -> str:
    """What an archive is to be made of, as JSON: put there by the API, or by whoever runs the deployment."""
    return f"requests/{tenant}/{archive_id}.json"


def parse_archive_request(key: str) -> tuple[str, str] | None:
    """(tenant, archive id) of a request's key; None for a key that names neither."""
    pieces = key.split("/")
    if len(pieces) != 3 or pieces[0] != "requests" or not is_tenant(pieces[1]) or not pieces[2].endswith(".json"):
        return None
    archive_id = pieces[2].removesuffix(".json")
    return (pieces[1], archive_id) if is_ulid(archive_id) else None


def work_prefix(tenant: str, owner_id: str) -> str:
    """Where the temporary objects of a file, batch or archive lie."""
    return f"work/{tenant}/{owner_id}/"


def derived_prefixes(tenant: str, file_id: str) -> tuple[str, ...]:
    """Where everything that was made of a file lies; its audit trail is not among it."""
    return tuple(f"{name}/{tenant}/{file_id}/" for name in ("thumbnails", "reports", "dicom", "frames", "work"))


def audit_prefix(tenant: str, file_id: str) -> str:
    """Where the older audit events of a file lie."""
    return f"manifests/{tenant}/{file_id}/events/"


def parse_derived(key: str) -> tuple[str, str, str] | None:
    """(class, tenant, owner's id) of a key in the derived bucket; None for a key that we never made."""
    pieces = key.split("/")
    if len(pieces) < 3 or not is_tenant(pieces[1]):
        return None
    owner = pieces[2].removesuffix(".json") if len(pieces) == 3 else pieces[2]
    return (pieces[0], pieces[1], owner) if is_file_id(owner) else None


def parse_staging(key: str) -> StagingKey | None:
    """The inverse of ``staging``; None for a key that we never made."""
    pieces = key.split("/")
    if len(pieces) == 3:
        lane, tenant, file_id = pieces
    elif len(pieces) == 4 and pieces[3].isascii() and pieces[3].isdecimal() and len(pieces[3]) <= 6:
        lane, tenant, file_id = pieces[0], pieces[1], f"{pieces[2]}-{int(pieces[3]):06d}"
    else:
        return None
    if lane not in {"in", "dicom"} or not is_tenant(tenant) or not is_file_id(file_id):
        return None
    parsed = StagingKey(lane, tenant, file_id)
    return parsed if staging(lane, tenant, file_id) == key else None


def parse_store(key: str) -> tuple[str, str] | None:
    """(tenant, file_id) of a store key; None for a key that we never made."""
    pieces = key.split("/")
    if len(pieces) != 3 or pieces[0] not in {"files", "dicom"}:
        return None
    return (pieces[1], pieces[2]) if is_tenant(pieces[1]) and is_file_id(pieces[2]) else None
