"""WADO-RS metadata: the datasets of a study, a series or an instance in the DICOM JSON model. PS3.18 10.4.1.1.2.

One of the modules that touch the world. An instance's header is read by one range of 64 KiB; the metadata of a series
are kept in the derived bucket under its mark, so they are made once for all who ask, and a series that has changed has
another mark. Those of a large series are made and kept in pieces: whoever runs out of time answers 503, and the next
call goes on. Places of bulk data are kept without the service's address, which a caller chooses.

A study whose metadata exceed an answer become an object, answered by 307.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from heavylift import keys, s3
from heavylift.dicom import attributes, header, index, pictures, prebuilt, syntaxes
from heavylift.dicom.dataset import Dataset, Element, read_dataset
from heavylift.dicom.elements import WINDOW_BYTES, PixelElement
from heavylift.dicom.instances import Instance, Series
from heavylift.dicom.json_model import json_model
from heavylift.dicomweb import delivery, finding
from heavylift.dicomweb.delivery import gone, later
from heavylift.dicomweb.exchange import ANSWER_BYTES_MAX, Answer, Request, found
from heavylift.dicomweb.negotiation import json_type
from heavylift.errors import ContentError, RequestError
from heavylift.limits import MIB
from heavylift.ranges import drive
from heavylift.settings import settings

READERS: Final = 16  # headers in flight: each waits for S3 thrice as long as it takes to read
SERIES_PARALLEL: Final = 4
PIECE: Final = 250  # instances made, and kept, at once where a series has more; about a second
INSTANCES_MAX: Final = 20_000  # of one answer: their JSON, some 15 KB each, is held two times
KEPT_BYTES_MAX: Final = 256 * MIB
GZIP_LEVEL: Final = 5
GZIP_BYTES_MIN: Final = 1_024
MEDIA_TYPE: Final = "application/gzip"
PIXELS: Final = "pixeldata"

# No text of a file can hold this: within a JSON text a quote has a backslash before it.
_PLACE: Final = b'"BulkDataURI":"/studies/'


def retrieve(request: Request) -> Answer:
    """The metadata of what the call names. RequestError ``not_found``, ``not_acceptable``, ``answer_too_large``."""
    media_type = json_type(request.accept)
    if request.instance_uid is not None:
        one = document(request.tenant, finding.instance_of(request))
        return _answer(request, media_type, b"[" + one + b"]", lambda: True)
    there = finding.series_of(request)
    if sum(one.instances for one in there.series) > INSTANCES_MAX:
        raise RequestError(
            "answer_too_large",
            f"More than {INSTANCES_MAX} instances. Ask for one series at a time.",
            limit=INSTANCES_MAX,
        )
    with ThreadPoolExecutor(min(SERIES_PARALLEL, len(there.series)), thread_name_prefix="series") as pool:
        parts = list(pool.map(lambda one: of_series(request.tenant, one, request.seconds_left), there.series))
    body = b",".join(part for part in parts if part)
    if not body:
        raise gone()
    return _answer(request, media_type, b"[" + body + b"]", lambda: finding.unchanged(request, there))


def _answer(request: Request, media_type: str, body: bytes, still: Callable[[], bool]) -> Answer:
    body = body.replace(_PLACE, b'"BulkDataURI":"' + request.base.encode() + b"/studies/")
    return json_answer(request, media_type, body, still)


def json_answer(request: Request, media_type: str, body: bytes, still: Callable[[], bool]) -> Answer:
    """JSON as an answer, packed where the caller unpacks; above 4 MiB as an object of the study, answered by 307."""
    packed = request.gzip and len(body) >= GZIP_BYTES_MIN
    if packed:
        body = gzip.compress(body, GZIP_LEVEL, mtime=0)
    headers = {"vary": "accept, accept-encoding", **({"content-encoding": "gzip"} if packed else {})}
    if len(body) <= ANSWER_BYTES_MAX:
        return found(body, media_type, headers)
    name = hashlib.sha256(body).hexdigest()[:32] + (".json.gz" if packed else ".json")
    key = keys.study_metadata(request.tenant, request.study_uid, name)
    bucket = settings().derived_bucket
    if s3.head(bucket, key) is None:
        s3.put_bytes(bucket, key, body, media_type=media_type)
        if not still():
            # Whoever has deleted an instance meanwhile has not seen this object.
            s3.delete(bucket, key)
            raise later()
    return delivery.link(key, media_type, "gzip" if packed else None)


# --- a series ---


def of_series(tenant: str, series: Series, seconds_left: Callable[[], float]) -> bytes:
    """The documents of all instances of a series, with commas between them; b"" when it has none.

    TransientError ``not_ready`` where the time is over; what was made by then is kept.
    """
    bucket = settings().derived_bucket
    key = None
    if not series.dirty and series.series_id:
        key = keys.series_metadata(tenant, series.series_id, series.mark_seq)
        kept = s3.read_small(bucket, key, size_max=KEPT_BYTES_MAX)
        if kept is not None:
            return gzip.decompress(kept)
    instances = prebuilt.in_order(list(index.instances_of(tenant, series.study_uid, series.series_uid)))
    if not instances:
        return b""
    if len(instances) > INSTANCES_MAX:
        raise RequestError(
            "answer_too_large", f"The series has more than {INSTANCES_MAX} instances.", limit=INSTANCES_MAX
        )
    body = _in_pieces(tenant, series, instances, seconds_left)
    if key is not None and _still(tenant, series):
        s3.put_bytes(bucket, key, gzip.compress(body, GZIP_LEVEL, mtime=0), media_type=MEDIA_TYPE)
        if not _still(tenant, series):
            s3.delete(bucket, key)
    return body


def _still(tenant: str, series: Series) -> bool:
    """Whether the series has not changed since it was read."""
    now = index.get_series(tenant, series.study_uid, series.series_uid)
    return now is not None and now.mark_seq == series.mark_seq


def _in_pieces(tenant: str, series: Series, instances: Sequence[Instance], seconds_left: Callable[[], float]) -> bytes:
    if len(instances) <= PIECE:
        return _documents(tenant, instances)
    pieces = []
    for start in range(0, len(instances), PIECE):
        group = instances[start : start + PIECE]
        key = keys.series_piece(tenant, series.series_id, _name_of(group)) if series.series_id else None
        kept = s3.read_small(settings().derived_bucket, key, size_max=KEPT_BYTES_MAX) if key else None
        if kept is not None:
            pieces.append(gzip.decompress(kept))
            continue
        if seconds_left() <= 0:
            raise later()
        pieces.append(_documents(tenant, group))
        if key:
            body = gzip.compress(pieces[-1], GZIP_LEVEL, mtime=0)
            s3.put_bytes(settings().derived_bucket, key, body, media_type=MEDIA_TYPE)
    return b",".join(pieces)


def _name_of(group: Sequence[Instance]) -> str:
    """What these very files are: another file for one of them is another name."""
    return hashlib.sha256("\n".join(one.file_id for one in group).encode()).hexdigest()[:32]


def _documents(tenant: str, instances: Sequence[Instance]) -> bytes:
    with ThreadPoolExecutor(min(READERS, len(instances)), thread_name_prefix="header") as pool:
        return b",".join(pool.map(lambda one: document(tenant, one), instances))


# --- an instance ---


def document(tenant: str, instance: Instance) -> bytes:
    """An instance's metadata as JSON, places of bulk data without the service's address.

    One GET for most; what the reader of datasets refuses, and was stored all the same, shows what the index has of it.
    RequestError ``not_found``; TransientError.
    """
    try:
        found = model(instance, *_read(tenant, instance))
    except ContentError as error:
        if error.code == "source_changed":
            raise gone() from error
        found = attributes.instance(instance)
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def model(instance: Instance, dataset: Dataset, pixel: PixelElement | None) -> dict[str, Any]:
    """The document, as a value. Pure."""
    address = f"/studies/{instance.study_uid}/series/{instance.series_uid}/instances/{instance.sop_uid}/bulkdata"

    def place(element: Element) -> str:
        return f"{address}/{element.offset}-{element.length}-{element.vr}"

    found = json_model(dataset, place)
    if pixel is not None:
        found[f"{pixel.tag:08X}"] = {"vr": pixel.vr.strip() or "OW", "BulkDataURI": f"{address}/{PIXELS}"}
    found["00083002"] = {"vr": "UI", "Value": [instance.transfer_syntax_uid]}
    return dict(sorted(found.items()))


def _read(tenant: str, instance: Instance) -> tuple[Dataset, PixelElement | None]:
    fetch, size_bytes = open_instance(tenant, instance)
    if instance.transfer_syntax_uid == syntaxes.DEFLATED:
        whole = header.scan(fetch, size_bytes, to_pixel_data=True)
        return drive(pictures.dataset_of(whole), fetch), whole.pixel_data
    elements = drive(header.read_elements(size_bytes, to_pixel_data=True), fetch)
    dataset = drive(read_dataset(elements.start.offset, size_bytes, elements.encoding), fetch)
    return dataset, elements.walked.pixel


def open_instance(tenant: str, instance: Instance) -> tuple[Callable[[int, int], bytes], int]:
    """``fetch`` over an instance's bytes, its first 64 KiB in hand, and their number. RequestError ``not_found``."""
    bucket, key = settings().store_bucket, instance.key(tenant)
    try:
        first = s3.read_first(bucket, key, WINDOW_BYTES)
    except s3.NoSuchKey:
        raise gone() from None
    source = s3.ObjectSource(bucket, key, first.size_bytes, first.etag)

    def fetch(offset: int, length: int) -> bytes:
        length = min(length, first.size_bytes - offset)
        if offset + length <= len(first.data):
            return first.data[offset : offset + length]
        return source.read(offset, length)

    return fetch, first.size_bytes
