"""What a caller wants: Accept of the header or the query, and what of it we have. Pure. PS3.18 8.7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from heavylift.dicomweb.exchange import MediaRange, covers
from heavylift.dicomweb.multipart import NAME as MULTIPART
from heavylift.dicomweb.multipart import parameters_of
from heavylift.errors import RequestError

DICOM: Final = "application/dicom"
DICOM_JSON: Final = "application/dicom+json"
JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"
RANGES_MAX: Final = 50  # of one header; browsers send a handful


def accept_of(headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> tuple[MediaRange, ...]:
    """The media ranges that a call accepts, the most wanted first; ``accept`` of the query counts more (8.3.3.1)."""
    texts = query.get("accept") or ()
    ranges = [one for text in texts for one in parse_accept(text)] or list(parse_accept(headers.get("accept", "")))
    return tuple(ranges) or (MediaRange("*/*"),)


def parse_accept(text: str) -> tuple[MediaRange, ...]:
    """The entries of an Accept header by quality, then as they stand; what is no media range is passed over."""
    found = []
    for entry in _split(text)[:RANGES_MAX]:
        name, parameters = parameters_of(entry)
        if name == "*":
            name = "*/*"
        family, slash, rest = name.partition("/")
        if not (slash and family and rest) or (family == "*" and rest != "*"):
            continue
        quality = _quality(parameters.pop("q", "1"))
        if quality > 0:
            found.append(MediaRange(name, parameters, quality))
    return tuple(sorted(found, key=lambda one: -one.quality))


def _split(text: str) -> list[str]:
    """A list's entries; a comma within quotes is none."""
    entries, start, quoted = [], 0, False
    for place, letter in enumerate(text):
        if letter == '"' and text[place - 1 : place] != "\\":
            quoted = not quoted
        elif letter == "," and not quoted:
            entries.append(text[start:place])
            start = place + 1
    return [entry.strip() for entry in (*entries, text[start:]) if entry.strip()]


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 1.0


def json_type(accept: Sequence[MediaRange]) -> str:
    """The JSON that is wanted: ``application/dicom+json``, or ``application/json`` where only that was asked for.

    RequestError ``not_acceptable``: XML, in parts or not, is not made.
    """
    for one in accept:
        if one.name in {DICOM_JSON, JSON}:
            return one.name
        if one.covers(DICOM_JSON):
            return DICOM_JSON
    raise refused(DICOM_JSON)


def instance_form(accept: Sequence[MediaRange], transfer_syntax_uid: str | None) -> str:
    """How whole instances are wanted: ``multipart/related``, or ``application/dicom`` alone (of one instance).

    ``transfer_syntax_uid``: of the one instance that is asked for; None where there are many. Files are served as they
    were stored: whoever names another transfer syntax gets ``not_acceptable``, whoever names none gets the stored one.
    """
    for one in accept:
        wanted = one.transfer_syntax
        fits = wanted in ("", "*") or transfer_syntax_uid is None or wanted == transfer_syntax_uid
        if one.name == MULTIPART and covers(one.inner, DICOM) and fits:
            return MULTIPART
        if one.name == DICOM and transfer_syntax_uid is not None and fits:
            return DICOM
        if one.name in ("*/*", "multipart/*"):
            return MULTIPART
        if one.name == "application/*" and transfer_syntax_uid is not None:
            return DICOM
    raise refused(f'{MULTIPART}; type="{DICOM}"')


def bytes_form(accept: Sequence[MediaRange]) -> str:
    """How bulk data are wanted: ``multipart/related``, or ``application/octet-stream`` alone."""
    for one in accept:
        if one.name == MULTIPART and covers(one.inner, OCTETS):
            return MULTIPART
        if one.name in ("*/*", "multipart/*"):
            return MULTIPART
        if one.covers(OCTETS):
            return OCTETS
    raise refused(f'{MULTIPART}; type="{OCTETS}"')


def refused(offered: str) -> RequestError:
    """406; ``offered``: what there is instead."""
    return RequestError("not_acceptable", f"This is answered as {offered} only.", offered=offered)
