"""What the index keeps of instances, series and studies: values, their items and their keys. Pure.

An item of an instance is a few hundred bytes, one write unit: its attributes have short names, what follows from its
key is not repeated, and what is 0 or empty is left out. Keys of S3 hold no UID: an instance names the file whose
bytes it is.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from heavylift import keys, records
from heavylift.dicom.classify import DANGEROUS_PREAMBLES
from heavylift.dicom.header import Header

TEXT_LENGTH_MAX: Final = 1_024  # of a kept text; the standard's longest are names of 3 x 64 and texts of 1 024
INDEX_TEXT_BYTES_MAX: Final = 700  # of a text in an index's sort key, which has 1 024 with a date and a UID beside it
NO_DATE: Final = "00000000"  # sorts before all dates

STUDY_SORT_KEY: Final = "#"
SERIES_PREFIX: Final = "SE#"


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells the bytes of two files apart: digests that S3 has proven or made, in S3's own forms.

    ``sha256``, ``crc64nvme`` and ``crc32`` are base64, None where S3 has none.
    """

    size: int
    etag: str
    sha256: str | None = None
    crc64nvme: str | None = None
    crc32: str | None = None

    def same_as(self, other: Identity) -> bool | None:
        """Whether both are the same bytes; None where too little is known of either yet.

        The strongest digest that both have decides. An ETag proves sameness only: with a key of KMS it differs for
        the same bytes. Every copy in the store has a CRC-32.
        """
        if self.size != other.size:
            return False
        for mine, theirs in ((self.sha256, other.sha256), (self.crc64nvme, other.crc64nvme)):
            if mine and theirs:
                return mine == theirs
        if self.etag and self.etag == other.etag:
            return True
        if self.crc32 and other.crc32:
            return self.crc32 == other.crc32
        return None


@dataclass(frozen=True, slots=True)
class Instance:
    """One SOP instance and where its bytes lie: ``length`` bytes (None: to the end) from ``offset`` of its object."""

    study_uid: str
    series_uid: str
    sop_uid: str
    file_id: str
    identity: Identity
    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""
    number: int | None = None
    rows: int | None = None
    columns: int | None = None
    frames: int = 1
    bits_allocated: int | None = None
    samples_per_pixel: int | None = None
    photometric: str = ""
    pixel_offset: int | None = None
    pixel_length: int | None = None
    offset: int = 0
    length: int | None = None
    warnings: tuple[str, ...] = ()
    added_at: float = 0.0
    replaces: str = ""
    """The file whose place it has taken (policy ``replace``)."""

    @property
    def size(self) -> int:
        return self.identity.size

    def key(self, tenant: str) -> str:
        """The object in the store."""
        return keys.store_dicom(tenant, self.file_id)


@dataclass(frozen=True, slots=True)
class Series:
    """A series as its first instance describes it, and the state of its count (``counts``)."""

    study_uid: str
    series_uid: str
    series_id: str = ""
    """Made by us: names the series in keys of S3."""
    modality: str = ""
    number: int | None = None
    description: str = ""
    body_part: str = ""
    manufacturer: str = ""
    series_date: str = ""
    series_time: str = ""
    step_start_date: str = ""
    step_start_time: str = ""
    study_date: str = ""
    mark_seq: int = 0
    claim_seq: int = 0
    done_seq: int = 0
    instances: int = 0
    bytes: int = 0
    marked_at: float = 0.0
    json_key: str | None = None
    due_at: float | None = None
    stripped: bool = False
    """Whether what described it is gone, because it had no instance any more (``forgetting``)."""
    thumbnail: str = ""
    """Key of the thumbnail that stands for the series, as of ``thumbnail_mark``."""
    thumbnail_mark: int = 0

    @property
    def dirty(self) -> bool:
        """Whether ``instances`` may be behind: then they are counted."""
        return self.mark_seq != self.done_seq

    @property
    def shown_thumbnail(self) -> str:
        """``thumbnail``, if the series has not changed since; "" where none is known."""
        return self.thumbnail if self.thumbnail_mark == self.mark_seq else ""


@dataclass(frozen=True, slots=True)
class Study:
    """A study and its patient as the study's first instance describes them."""

    study_uid: str
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    study_id: str = ""
    description: str = ""
    referring_physician_name: str = ""
    institution_name: str = ""
    timezone_offset: str = ""
    created_at: float = 0.0


# --- from a header ---


def _kept(text: str) -> str:
    return text[:TEXT_LENGTH_MAX]


def _of_preamble(header: Header) -> frozenset[str]:
    """A preamble that a system would run or open (CVE-2019-11687) is told of."""
    return frozenset({"preamble_executable"}) if header.preamble_kind in DANGEROUS_PREAMBLES else frozenset()


def instance_of(header: Header, file_id: str, identity: Identity, now: float) -> Instance:
    pixels = header.pixel_data
    return Instance(
        study_uid=header.study_instance_uid,
        series_uid=header.series_instance_uid,
        sop_uid=header.sop_instance_uid,
        file_id=file_id,
        identity=identity,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        number=header.instance_number,
        rows=header.rows,
        columns=header.columns,
        frames=header.number_of_frames,
        bits_allocated=header.bits_allocated,
        samples_per_pixel=header.samples_per_pixel,
        photometric=_kept(header.photometric_interpretation),
        pixel_offset=pixels.offset if pixels else None,
        pixel_length=pixels.length if pixels else None,
        warnings=tuple(sorted({*header.warnings, *_of_preamble(header)})),
        added_at=round(now, 3),
    )


def series_of(header: Header) -> Series:
    return Series(
        study_uid=header.study_instance_uid,
        series_uid=header.series_instance_uid,
        modality=_kept(header.modality),
        number=header.series_number,
        description=_kept(header.series_description),
        body_part=_kept(header.body_part),
        manufacturer=_kept(header.manufacturer),
        series_date=_kept(header.series_date),
        series_time=_kept(header.series_time),
        step_start_date=_kept(header.step_start_date),
        step_start_time=_kept(header.step_start_time),
        study_date=_kept(header.study_date),
    )


def study_of(header: Header, now: float) -> Study:
    return Study(
        study_uid=header.study_instance_uid,
        patient_id=_kept(header.patient_id),
        issuer_of_patient_id=_kept(header.issuer_of_patient_id),
        patient_name=_kept(header.patient_name),
        patient_birth_date=_kept(header.patient_birth_date),
        patient_sex=_kept(header.patient_sex),
        study_date=_kept(header.study_date),
        study_time=_kept(header.study_time),
        accession_number=_kept(header.accession_number),
        study_id=_kept(header.study_id),
        description=_kept(header.study_description),
        referring_physician_name=_kept(header.referring_physician_name),
        institution_name=_kept(header.institution_name),
        timezone_offset=_kept(header.timezone_offset),
        created_at=round(now, 3),
    )


# --- keys ---


def study_partition(tenant: str, study_uid: str) -> str:
    """A study and its series lie together."""
    return f"T#{tenant}#ST#{study_uid}"


def series_partition(tenant: str, study_uid: str, series_uid: str) -> str:
    """The instances of a series: a large study spreads over partitions."""
    return f"T#{tenant}#SE#{study_uid}#{series_uid}"


def others_partition(tenant: str, study_uid: str, series_uid: str) -> str:
    """Files with the same UIDs and other bytes that the policy ``keep_both`` has kept."""
    return f"T#{tenant}#SX#{study_uid}#{series_uid}"


def study_key(tenant: str, study_uid: str) -> dict[str, str]:
    return {"pk": study_partition(tenant, study_uid), "sk": STUDY_SORT_KEY}


def series_key(tenant: str, study_uid: str, series_uid: str) -> dict[str, str]:
    return {"pk": study_partition(tenant, study_uid), "sk": SERIES_PREFIX + series_uid}


def instance_key(tenant: str, study_uid: str, series_uid: str, sop_uid: str) -> dict[str, str]:
    return {"pk": series_partition(tenant, study_uid, series_uid), "sk": sop_uid}


def parse_series_key(key: Mapping[str, str]) -> tuple[str, str, str] | None:
    """(tenant, study, series) of a series' item; None for any other item."""
    pieces = key["pk"].split("#")
    if len(pieces) != 4 or pieces[2] != "ST" or not key["sk"].startswith(SERIES_PREFIX):
        return None
    return pieces[1], pieces[3], key["sk"].removeprefix(SERIES_PREFIX)


# --- indexes ---


def studies_partition(tenant: str) -> str:
    """Index ``list``: all studies by date."""
    return f"T#{tenant}#STUDIES"


def patient_partition(tenant: str, patient_id: str) -> str:
    """Index ``logical``: a patient's studies by date."""
    return f"T#{tenant}#PATIENT#{records.logical_key(patient_id)}"


def accession_partition(tenant: str, accession_number: str) -> str:
    """Index ``fingerprint``: the studies of an order."""
    return f"T#{tenant}#ACCESSION#{records.logical_key(accession_number)}"


def names_partition(tenant: str) -> str:
    """Index ``status``: studies by the patient's name, folded."""
    return f"T#{tenant}#NAMES"


def modality_partition(tenant: str, modality: str) -> str:
    """Index ``list``: series of a modality by their study's date."""
    return f"T#{tenant}#MODALITY#{records.logical_key(modality)}"


def folded(text: str) -> str:
    """A text as it is compared: without case and accents."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in plain if not unicodedata.combining(letter)).casefold()


def name_key(name: str) -> str:
    """A name as the index sorts it."""
    return folded(name).encode()[:INDEX_TEXT_BYTES_MAX].decode(errors="ignore")


def date_key(date: str) -> str:
    """A date as indexes sort it: yyyymmdd, or what stands for no date."""
    return date if len(date) == 8 and date.isascii() and date.isdecimal() else NO_DATE


# --- items ---

_SHORT: Final = {
    "file_id": "f",
    "sop_class_uid": "sc",
    "transfer_syntax_uid": "ts",
    "number": "n",
    "rows": "r",
    "columns": "c",
    "frames": "fr",
    "bits_allocated": "b",
    "samples_per_pixel": "sp",
    "photometric": "ph",
    "pixel_offset": "po",
    "pixel_length": "pl",
    "offset": "off",
    "length": "len",
    "warnings": "w",
    "added_at": "at",
    "replaces": "rp",
}
_DIGESTS: Final = {"size": "sz", "etag": "et", "sha256": "sh", "crc64nvme": "c6", "crc32": "c3"}
_BINARY: Final = frozenset({"sha256", "crc64nvme", "crc32"})
_INSTANCE_DEFAULTS: Final = {f.name: f.default for f in fields(Instance)}


def instance_item(tenant: str, instance: Instance, *, other: bool = False) -> dict[str, Any]:
    """``other``: kept beside the instance that has these UIDs."""
    item: dict[str, Any] = instance_key(tenant, instance.study_uid, instance.series_uid, instance.sop_uid)
    if other:
        item["pk"] = others_partition(tenant, instance.study_uid, instance.series_uid)
        item["sk"] = f"{instance.sop_uid}#{instance.file_id}"
    for name, short in _SHORT.items():
        value = getattr(instance, name)
        if value != _INSTANCE_DEFAULTS[name]:
            item[short] = value
    for name, short in _DIGESTS.items():
        value = getattr(instance.identity, name)
        if value is not None:
            item[short] = base64.b64decode(value) if name in _BINARY else value
    return item


def instance_from(item: Mapping[str, Any]) -> Instance:
    """The inverse of ``instance_item``."""
    _, _, _, study_uid, series_uid = item["pk"].split("#")
    values = {name: item[short] for name, short in _SHORT.items() if short in item}
    values["warnings"] = tuple(values.get("warnings", ()))
    digests: dict[str, Any] = {
        name: base64.b64encode(item[short]).decode() if name in _BINARY else item[short]
        for name, short in _DIGESTS.items()
        if short in item
    }
    return Instance(study_uid, series_uid, item["sk"].partition("#")[0], identity=Identity(**digests), **values)


_SERIES_FIELDS: Final = {f.name: f.default for f in fields(Series)}
_STUDY_FIELDS: Final = {f.name: f.default for f in fields(Study)}
_IN_KEY: Final = frozenset({"study_uid", "series_uid"})
# What is left of a series without instances: numbers that only grow, and the name of its objects.
_LEFT: Final = frozenset(
    {"series_id", "mark_seq", "claim_seq", "done_seq", "instances", "bytes", "marked_at", "due_at", "stripped"}
)
STRIPPED_OF: Final = (*sorted(_SERIES_FIELDS.keys() - _LEFT - _IN_KEY), "list_pk", "list_sk")


def series_attributes(tenant: str, series: Series) -> dict[str, Any]:
    """What describes a series in its item, its place in the index by modality among it; not the state of its count."""
    counted = {"mark_seq", "claim_seq", "done_seq", "instances", "bytes", "marked_at", "json_key", "due_at", "stripped"}
    counted |= {"thumbnail", "thumbnail_mark"}
    values = {
        name: getattr(series, name)
        for name, default in _SERIES_FIELDS.items()
        if name not in counted | _IN_KEY and getattr(series, name) != default
    }
    if series.modality:
        values["list_pk"] = modality_partition(tenant, series.modality)
        values["list_sk"] = f"{date_key(series.study_date)}#{series.study_uid}#{series.series_uid}"
    return values


def series_from(item: Mapping[str, Any]) -> Series:
    study_uid = item["pk"].split("#")[3]
    values = {name: item[name] for name in _SERIES_FIELDS.keys() - _IN_KEY if name in item}
    return Series(study_uid, item["sk"].removeprefix(SERIES_PREFIX), **values)


def study_item(tenant: str, study: Study) -> dict[str, Any]:
    item: dict[str, Any] = study_key(tenant, study.study_uid)
    item |= {
        name: getattr(study, name)
        for name, default in _STUDY_FIELDS.items()
        if name not in _IN_KEY and getattr(study, name) != default
    }
    place = f"{date_key(study.study_date)}#{study.study_uid}"
    item |= {"list_pk": studies_partition(tenant), "list_sk": place}
    if study.patient_id:
        item |= {"logical_pk": patient_partition(tenant, study.patient_id), "logical_sk": place}
    if study.accession_number:
        item |= {"fingerprint_pk": accession_partition(tenant, study.accession_number), "fingerprint_sk": place}
    if study.patient_name:
        item |= {
            "status_pk": names_partition(tenant),
            "status_sk": f"{name_key(study.patient_name)}#{study.study_uid}",
        }
    return item


def study_from(item: Mapping[str, Any]) -> Study:
    values = {name: item[name] for name in _STUDY_FIELDS.keys() - _IN_KEY if name in item}
    return Study(item["pk"].split("#")[3], **values)


def with_crc32(instance: Instance, crc32: str | None) -> Instance:
    """The instance with what S3 has found of its copy."""
    return replace(instance, identity=replace(instance.identity, crc32=crc32)) if crc32 else instance
