"""WADO-RS: whole instances of a study, a series or by themselves, and bulk data. PS3.18 10.4.1.1.1, 10.4.1.1.5.

Files are served as they were stored: their bytes are ranges of bodies that ``delivery`` answers or makes objects of.
Where a file's preamble makes it a program or a document as well (CVE-2019-11687), zeros stand in its place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from heavylift import keys, s3
from heavylift.dicom import header, index, pictures, prebuilt, syntaxes
from heavylift.dicom.instances import Instance
from heavylift.dicomweb import delivery, finding, frames, metadata, multipart
from heavylift.dicomweb.delivery import Piece, Stored, gone
from heavylift.dicomweb.exchange import ANSWER_BYTES_MAX, Answer, Request, elsewhere
from heavylift.dicomweb.negotiation import DICOM, OCTETS, bytes_form, instance_form
from heavylift.errors import RequestError
from heavylift.ranges import drive
from heavylift.settings import settings

PREAMBLE_BYTES: Final = 128
INSTANCES_MAX: Final = 20_000  # of one answer
_PLACE: Final = re.compile(r"([0-9]{1,13})-([0-9]{1,13})-([A-Z]{2})")
_WORDS: Final = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}  # bytes of a word, by VR


def instance(request: Request) -> Answer:
    """One instance: a part of a multipart body, or alone where the caller wants ``application/dicom``.

    RequestError ``not_found``, ``not_acceptable``.
    """
    one = finding.instance_of(request)
    form = instance_form(request.accept, one.transfer_syntax_uid)
    pieces = pieces_of(request.tenant, one)
    if form == multipart.NAME:
        return _multipart(request, one.file_id, [one], lambda: _is_there(request.tenant, one))
    if one.size > ANSWER_BYTES_MAX and pieces == [Stored(one.key(request.tenant), 0, one.size)]:
        # The object itself: nothing is to be made.
        if s3.head(settings().store_bucket, one.key(request.tenant)) is None:
            raise gone()
        return elsewhere(
            s3.presigned_get(
                settings().store_bucket,
                one.key(request.tenant),
                settings().signature_ttl_s,
                media_type=DICOM,
                disposition="attachment",
            )
        )
    return delivery.deliver(
        request, one.file_id, "instance", pieces, DICOM, still=lambda: _is_there(request.tenant, one)
    )


def several(request: Request) -> Answer:
    """All instances of a study or a series, series by series, each in its order. RequestError as above."""
    there = finding.series_of(request)
    instance_form(request.accept, None)
    instances: list[Instance] = []
    for one in there.series:
        instances += prebuilt.in_order(list(index.instances_of(request.tenant, one.study_uid, one.series_uid)))
        if len(instances) > INSTANCES_MAX:
            raise RequestError(
                "answer_too_large",
                f"More than {INSTANCES_MAX} instances. Ask for one series at a time.",
                limit=INSTANCES_MAX,
            )
    if not instances:
        raise gone()
    owner = keys.study_owner(request.tenant, request.study_uid)
    return _multipart(request, owner, instances, lambda: finding.unchanged(request, there))


def _is_there(tenant: str, one: Instance) -> bool:
    now = index.get_instance(tenant, one.study_uid, one.series_uid, one.sop_uid)
    return now is not None and now.file_id == one.file_id


def _multipart(request: Request, owner_id: str, instances: Sequence[Instance], still: Callable[[], bool]) -> Answer:
    name = hashlib.sha256("\n".join(f"{one.file_id} {one.size}" for one in instances).encode()).hexdigest()[:32]
    mark = multipart.boundary("instances", request.tenant, name)
    pieces: list[Piece] = []
    for one in instances:
        headers = {"Content-Type": f"{DICOM}; transfer-syntax={one.transfer_syntax_uid}"}
        pieces.append(multipart.opening(mark, headers, first=not pieces))
        pieces += pieces_of(request.tenant, one)
    pieces.append(multipart.closing(mark))
    return delivery.deliver(request, owner_id, name, pieces, multipart.media_type(mark, DICOM), still=still)


def pieces_of(tenant: str, one: Instance) -> list[Piece]:
    """The bytes of an instance as they are served. Pure."""
    length = one.size if one.length is None else one.length
    key = one.key(tenant)
    if "preamble_executable" in one.warnings and length > PREAMBLE_BYTES:
        return [bytes(PREAMBLE_BYTES), Stored(key, one.offset + PREAMBLE_BYTES, length - PREAMBLE_BYTES)]
    return [Stored(key, one.offset, length)]


# --- bulk data ---


def bulk_data(request: Request, place: str) -> Answer:
    """What a BulkDataURI of the metadata names: a value of bytes, in little endian; or the pixel data.

    Pixel data that are compressed are answered frame by frame. RequestError ``not_found``, ``not_acceptable``.
    """
    one = finding.instance_of(request)
    if place == metadata.PIXELS:
        return _pixel_data(request, one)
    named = _PLACE.fullmatch(place)
    if named is None:
        raise gone()
    offset, length, vr = int(named.group(1)), int(named.group(2)), named.group(3)
    if one.transfer_syntax_uid == syntaxes.DEFLATED:
        return _bytes(request, one, place, _inflated(request.tenant, one, offset, length))
    if not length or offset + length > one.size:
        raise gone()
    piece = Stored(one.key(request.tenant), one.offset + offset, length)
    return _bytes(request, one, place, _turned(one, vr, piece))


def _turned(one: Instance, vr: str, piece: Stored) -> Piece:
    """Words of a big-endian file the other way round, as the model demands; in one piece, so not too many."""
    width = _WORDS.get(vr, 1)
    if one.transfer_syntax_uid != syntaxes.EXPLICIT_BIG or width == 1 or piece.length % width:
        return piece
    if piece.length > ANSWER_BYTES_MAX:
        raise RequestError(
            "not_acceptable", "Values of this length are not turned from big endian.", size_bytes=piece.length
        )
    data = bytearray(delivery.read([piece]))
    turned = bytearray(len(data))
    for place in range(width):
        turned[place::width] = data[width - 1 - place :: width]
    return bytes(turned)


def _inflated(tenant: str, one: Instance, offset: int, length: int) -> bytes:
    """A value of a deflated file: its place is one in the inflated dataset."""
    fetch, size_bytes = metadata.open_instance(tenant, one)
    whole = header.scan(fetch, size_bytes)
    data = drive(pictures.inflate(whole), fetch)
    if not length or offset + length > len(data):
        raise gone()
    return data[offset : offset + length]


def _pixel_data(request: Request, one: Instance) -> Answer:
    if one.pixel_offset is None:
        # Beyond what ingest has read: the header says where.
        fetch, size_bytes = metadata.open_instance(request.tenant, one)
        pixel = header.scan(fetch, size_bytes, to_pixel_data=True).pixel_data
        if pixel is None:
            raise gone()
        offset, length, vr = pixel.offset, pixel.length, pixel.vr.strip()
    else:
        offset, length, vr = one.pixel_offset, one.pixel_length, "OW"
    if length is None:
        return frames.retrieve(replace(request, frames=tuple(range(1, one.frames + 1))))
    if one.transfer_syntax_uid == syntaxes.DEFLATED:
        return _bytes(request, one, metadata.PIXELS, _inflated(request.tenant, one, offset, length))
    piece = Stored(one.key(request.tenant), one.offset + offset, length)
    return _bytes(request, one, metadata.PIXELS, _turned(one, vr or "OW", piece))


def _bytes(request: Request, one: Instance, place: str, piece: Piece) -> Answer:
    """Bytes as the one part of a multipart body, or alone."""
    still = lambda: _is_there(request.tenant, one)  # noqa: E731
    if bytes_form(request.accept) == OCTETS:
        return delivery.deliver(request, one.file_id, f"bulk-{place}", [piece], OCTETS, still=still)
    mark = multipart.boundary("bulk", one.file_id, place)
    pieces = [multipart.opening(mark, {"Content-Type": OCTETS}, first=True), piece, multipart.closing(mark)]
    return delivery.deliver(
        request, one.file_id, f"bulk-{place}-parts", pieces, multipart.media_type(mark, OCTETS), still=still
    )
