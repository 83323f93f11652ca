"""Studies as readers see them: found by patient, date, order, name or modality, with counts that are exact.

What is found comes from an index, which may be a second behind; what is shown of it is read with strong consistency.
A series whose count is not settled is counted as it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from heavylift import items
from heavylift.dicom import index
from heavylift.dicom import instances as model
from heavylift.dicom.instances import Series, Study
from heavylift.errors import RequestError

PAGE: Final = 100
PARALLEL: Final = 8  # queries in flight of one answer
LAST_DATE: Final = "99999999"


@dataclass(frozen=True, slots=True)
class StudyView:
    """A study with its series that have instances; ``Series.instances`` is exact as of now."""

    study: Study
    series: tuple[Series, ...]

    @property
    def instances(self) -> int:
        return sum(one.instances for one in self.series)

    @property
    def modalities(self) -> list[str]:
        return sorted({one.modality for one in self.series if one.modality})


@dataclass(frozen=True, slots=True)
class Filter:
    """What a study must have; None = whatever. Dates are yyyymmdd, both ends included.

    ``patient_name``: with ``*`` for any letters and ``?`` for one; case and accents make no difference.
    """

    study_uids: tuple[str, ...] = ()
    patient_id: str | None = None
    accession_number: str | None = None
    date_from: str | None = None
    date_to: str | None = None
    modality: str | None = None
    patient_name: str | None = None


def read(tenant: str, study_uid: str) -> StudyView | None:
    """A study, its series and exact counts; None when it has no instance."""
    study, series = index.read_study(tenant, study_uid)
    counted = tuple(one for one in (counted_series(tenant, found) for found in series) if one.instances)
    if not counted:
        return None
    return StudyView(study or Study(study_uid), counted)


def counted_series(tenant: str, series: Series) -> Series:
    """The series with its exact number of instances."""
    if not series.dirty:
        return series
    return replace(series, instances=index.count(tenant, series.study_uid, series.series_uid))


def find(tenant: str, wanted: Filter, *, look_max: int | None = None) -> Iterator[StudyView]:
    """The studies that ``wanted`` asks for, the newest first; of names, by name. Lazy: a page of keys in hand.

    The narrowest index gives candidates, the studies themselves decide. RequestError ``search_too_wide`` where more
    than ``look_max`` candidates would have to be looked at.
    """
    seen: set[str] = set()
    page: list[str] = []
    for study_uid in _candidates(tenant, wanted):
        if study_uid in seen:
            continue
        if look_max is not None and len(seen) == look_max:
            yield from _read_all(tenant, page, wanted)
            raise RequestError(
                "search_too_wide",
                f"{look_max} studies were looked at, and there are more. Narrow the search by a date, a patient's ID, "
                "an accession number or a UID.",
                limit=look_max,
            )
        seen.add(study_uid)
        page.append(study_uid)
        if len(page) == PARALLEL:
            yield from _read_all(tenant, page, wanted)
            page = []
    yield from _read_all(tenant, page, wanted)


def _read_all(tenant: str, study_uids: list[str], wanted: Filter) -> Iterator[StudyView]:
    if not study_uids:
        return
    with ThreadPoolExecutor(min(PARALLEL, len(study_uids))) as pool:
        for view in pool.map(lambda study_uid: read(tenant, study_uid), study_uids):
            if view is not None and matches(view, wanted):
                yield view


def _candidates(tenant: str, wanted: Filter) -> Iterator[str]:
    """Study UIDs of the narrowest index."""
    if wanted.study_uids:
        yield from wanted.study_uids
        return
    low, high = wanted.date_from or model.NO_DATE, (wanted.date_to or LAST_DATE) + "#~"
    place = 1
    if wanted.accession_number:
        name, partition = "fingerprint", model.accession_partition(tenant, wanted.accession_number)
    elif wanted.patient_id:
        name, partition = "logical", model.patient_partition(tenant, wanted.patient_id)
    elif wanted.modality:
        name, partition = "list", model.modality_partition(tenant, wanted.modality)
    elif wanted.patient_name and _prefix(wanted.patient_name):
        name, partition, place = "status", model.names_partition(tenant), 0
        low = _prefix(wanted.patient_name)
        high = low + "\U0010ffff"
    else:
        name, partition = "list", model.studies_partition(tenant)
    for sort_key in _sort_keys(name, partition, low, high, descending=place == 1):
        pieces = sort_key.split("#")
        yield pieces[place] if place else pieces[-1]


def _sort_keys(name: str, partition: str, low: str, high: str, *, descending: bool) -> Iterator[str]:
    start: Any = None
    while True:
        extra: dict[str, Any] = {"ExclusiveStartKey": start} if start else {}
        answer = items.on_table(
            "query",
            IndexName=name,
            KeyConditionExpression="#p = :p AND #s BETWEEN :low AND :high",
            ExpressionAttributeNames={"#p": f"{name}_pk", "#s": f"{name}_sk"},
            ExpressionAttributeValues={":p": {"S": partition}, ":low": {"S": low}, ":high": {"S": high}},
            Limit=PAGE,
            ScanIndexForward=not descending,
            **extra,
        )
        for item in answer["Items"]:
            yield item[f"{name}_sk"]["S"]
        start = answer.get("LastEvaluatedKey")
        if not start:
            return


def _prefix(pattern: str) -> str:
    """What a name must begin with, as the index sorts names."""
    plain = pattern.replace("?", "*").partition("*")[0]
    return model.name_key(plain)


def matches(view: StudyView, wanted: Filter) -> bool:
    """Whether a study has what is asked for. Pure."""
    study = view.study
    if wanted.study_uids and study.study_uid not in wanted.study_uids:
        return False
    if wanted.patient_id is not None and study.patient_id != wanted.patient_id:
        return False
    if wanted.accession_number is not None and study.accession_number != wanted.accession_number:
        return False
    if wanted.modality is not None and wanted.modality not in view.modalities:
        return False
    if wanted.patient_name is not None and not like(wanted.patient_name, study.patient_name):
        return False
    if wanted.date_from is None and wanted.date_to is None:
        return True
    date = model.date_key(study.study_date)
    return date != model.NO_DATE and (wanted.date_from or "0") <= date <= (wanted.date_to or LAST_DATE)


def like(pattern: str, text: str) -> bool:
    """``fits`` without case and accents."""
    return fits(model.folded(pattern), model.folded(text))


def fits(pattern: str, text: str) -> bool:
    """Wildcard matching (PS3.4 C.2.2.2.4): ``*`` any letters, ``?`` one; linear in both lengths but for the stars."""
    at = place = 0
    star, mark = -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "*":
            star, mark = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in ("?", text[at]):
            place, at = place + 1, at + 1
        elif star >= 0:
            place, mark = star + 1, mark + 1
            at = mark
        else:
            return False
    return not pattern[place:].strip("*")
