"""QIDO-RS: studies, series and instances that have what is asked for. PS3.18 10.6.

One of the modules that touch the world. Candidates come from an index, which may be a second behind; what is shown of
them, counts included, is read with strong consistency. What a call reads is bounded: a search that would have to look
at more is refused, and never answered in part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from heavylift import s3
from heavylift.dicom import attributes, index, prebuilt, studies
from heavylift.dicom.instances import Series
from heavylift.dicom.studies import StudyView
from heavylift.dicomweb import queries
from heavylift.dicomweb.delivery import gone
from heavylift.dicomweb.exchange import ANSWER_BYTES_MAX, Answer, Request
from heavylift.dicomweb.metadata import json_answer
from heavylift.dicomweb.negotiation import json_type
from heavylift.dicomweb.queries import SERIES_UID, SOP_UID, STUDY_UID, Query
from heavylift.errors import RequestError
from heavylift.limits import MIB
from heavylift.settings import settings

STUDIES_LOOKED_AT_MAX: Final = 2_000  # a query each, eight at once: some seconds
INSTANCES_LOOKED_AT_MAX: Final = 100_000  # of all series that a call reads; some 40 MB of the table, or of objects
NAMED_MAX: Final = 500  # instances asked for by UID in the series of a study: five BatchGetItem calls
PARALLEL: Final = 8
DESCRIPTION_BYTES_MAX: Final = 64 * MIB
# Above this the results are fewer than asked for, and a warning says so. Packed they are a tenth.
RESULT_BYTES_MAX: Final = {True: 12 * MIB, False: ANSWER_BYTES_MAX}

Json = dict[str, Any]
_CHARSET: Final = {"vr": "CS", "Value": ["ISO_IR 192"]}
_ONLINE: Final = {"vr": "CS", "Value": ["ONLINE"]}


def search(request: Request, level: str) -> Answer:
    """The results at ``level``: study, series or instance. 204 where there are none (8.3.4.4.1).

    RequestError ``invalid_query``, ``not_acceptable``, ``search_too_wide``; ``not_found`` where the path names a study
    or series that is not there.
    """
    media_type = json_type(request.accept)
    below = (request.study_uid != "") + (request.series_uid is not None)
    query = queries.parse(level, request.query, below=below)
    found: list[Json] = []
    if query.limit:
        results = (one for one in _results(request, query) if query.holds(one))
        found = list(islice(results, query.offset, query.offset + query.limit + 1))
    body, shown = _within(request, [query.view(one) for one in found[: query.limit]])
    warnings = list(query.warnings)
    if len(found) > shown and query.limit:
        warnings.append("There are additional results that can be requested.")
    headers = {"warning": ", ".join(f"299 {request.base}: {text}" for text in warnings)} if warnings else {}
    if not shown:
        return Answer(204, headers)
    answer = json_answer(request, media_type, body, lambda: True)
    return replace(answer, headers={**answer.headers, **headers})


def _within(request: Request, results: Sequence[Json]) -> tuple[bytes, int]:
    """As many of the results as an answer holds, as JSON, and how many."""
    room, lines = RESULT_BYTES_MAX[request.gzip] - 2, []
    for one in results:
        line = json.dumps(one, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
    return b"[" + b",".join(lines) + b"]", len(lines)


def _results(request: Request, query: Query) -> Iterator[Json]:
    """Every result of the path, with all attributes that are known; the caller looks at what it has."""
    if query.level == "study":
        for view in _views(request, query):
            yield _study(request, view)
    elif query.level == "series":
        for view in _views(request, query):
            study = _study(request, view)
            for one in _in_order(view.series):
                yield study | _series(request, one)
    elif request.series_uid is not None:
        yield from _of_one_series(request, query)
    else:
        yield from _of_many_series(request, query)


def _views(request: Request, query: Query) -> Iterator[StudyView]:
    """The studies to look at: the one of the path, or those that the index gives."""
    if request.study_uid:
        view = studies.read(request.tenant, request.study_uid)
        if view is None:
            raise gone()
        yield view
        return
    yield from studies.find(request.tenant, queries.filter_of(query), look_max=STUDIES_LOOKED_AT_MAX)


def _in_order(series: Sequence[Series]) -> list[Series]:
    """By number, those without one at the end."""
    return sorted(series, key=lambda one: (one.number is None, one.number or 0, one.series_uid))


# --- results ---


def _study(request: Request, view: StudyView) -> Json:
    found = attributes.study(view.study, modalities=view.modalities, series=len(view.series), instances=view.instances)
    return {**found, **_every(f"{request.base}/studies/{view.study.study_uid}")}


def _series(request: Request, one: Series) -> Json:
    found = attributes.series(one, one.instances)
    return {**found, **_every(f"{request.base}/studies/{one.study_uid}/series/{one.series_uid}")}


def _instance(request: Request, found: Json) -> Json:
    study_uid, series_uid, sop_uid = (found[tag]["Value"][0] for tag in (STUDY_UID, SERIES_UID, SOP_UID))
    return {
        **found,
        **_every(f"{request.base}/studies/{study_uid}/series/{series_uid}/instances/{sop_uid}"),
    }


def _every(address: str) -> Json:
    return {"00080005": _CHARSET, "00080056": _ONLINE, "00081190": {"vr": "UR", "Value": [address]}}


# --- instances ---


def _of_one_series(request: Request, query: Query) -> Iterator[Json]:
    series = index.get_series(request.tenant, request.study_uid, request.series_uid or "")
    if series is None or not (series.dirty or series.instances):
        raise gone()
    above = _series(request, studies.counted_series(request.tenant, series))
    if query.needs_study:
        view = studies.read(request.tenant, request.study_uid)
        above = (_study(request, view) if view is not None else {}) | above
    instances = _read(request, query, [series])
    if not instances and query.match(SOP_UID) is None:
        raise gone()
    for found in instances:
        yield above | _instance(request, found)


def _of_many_series(request: Request, query: Query) -> Iterator[Json]:
    looked_at = 0
    of_series = tuple(one for one in query.matches if one.tag in queries.SHOWN["series"] | queries.ADDED["series"])
    for view in _views(request, query):
        study = _study(request, view)
        described = [(one, study | _series(request, one)) for one in _in_order(view.series)]
        wanted = [(one, above) for one, above in described if all(match.holds(above) for match in of_series)]
        for start in range(0, len(wanted), PARALLEL):
            group = wanted[start : start + PARALLEL]
            looked_at += sum(one.instances for one, _ in group) if query.match(SOP_UID) is None else 0
            if looked_at > INSTANCES_LOOKED_AT_MAX:
                raise RequestError(
                    "search_too_wide",
                    f"More than {INSTANCES_LOOKED_AT_MAX} instances would be looked at. Name a study or a series.",
                    limit=INSTANCES_LOOKED_AT_MAX,
                )
            above_of = {one.series_uid: above for one, above in group}
            for found in _read(request, query, [one for one, _ in group]):
                yield above_of[found[SERIES_UID]["Value"][0]] | _instance(request, found)


def _read(request: Request, query: Query, series: Sequence[Series]) -> list[Json]:
    """The instances of some series, or of those named by UID alone, as DICOM JSON; series by series, in order."""
    named = query.match(SOP_UID)
    if named is not None and len(named.values) * len(series) <= NAMED_MAX:
        names = [(one.study_uid, one.series_uid, uid) for one in series for uid in named.values]
        known = index.look(request.tenant, names).instances
        return [attributes.instance(known[name]) for name in names if name in known]
    if len(series) == 1:
        return _of_series(request.tenant, series[0])
    with ThreadPoolExecutor(min(PARALLEL, len(series)), thread_name_prefix="dicomweb") as pool:
        return [one for found in pool.map(lambda one: _of_series(request.tenant, one), series) for one in found]


def _of_series(tenant: str, series: Series) -> list[Json]:
    """What was described when the series came to rest, by one GET; else what the table has now."""
    if not series.dirty and series.json_key:
        body = s3.read_small(settings().derived_bucket, series.json_key, size_max=DESCRIPTION_BYTES_MAX)
        if body is not None:
            found: list[Json] = prebuilt.read_series_body(body)["instances"]
            return found
    instances = index.instances_of(tenant, series.study_uid, series.series_uid)
    return [attributes.instance(one) for one in prebuilt.in_order(list(instances))]
