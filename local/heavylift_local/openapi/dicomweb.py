"""The routes of DICOMweb: what each does, and the media types of its answers. PS3.18 says the rest."""

from __future__ import annotations

from collections.abc import Mapping

from heavylift.dicom.syntaxes import SYNTAXES
from heavylift_local.openapi.described import Operation, Parameter
from heavylift_local.openapi.schemas import Schema, text

UID = text("A DICOM UID.", pattern=r"^[0-9]+(\.[0-9]+)*$", maxLength=64)
PATHS: Mapping[str, Schema] = {
    "study": UID,
    "series": UID,
    "instance": UID,
    "frames": text("Numbers from 1, with commas between.", pattern="^[1-9][0-9]{0,6}(,[1-9][0-9]{0,6})*$"),
    "place": text("As the metadata name it.", pattern="^[0-9A-Za-z-]+$"),
}
JSON = ("application/dicom+json", "application/json")
FILES = ("multipart/related", "application/dicom")
OCTETS = ("multipart/related", "application/octet-stream")
# Compressed frames come as they are stored.
FRAMES = tuple(
    sorted({"multipart/related", "application/octet-stream", *(one.media_type for one in SYNTAXES.values())})
)
PICTURES = ("image/jpeg", "image/png", "multipart/related")
ELSEWHERE = {307: (None, "The body is above 4 MiB: it is an object, and this is a signed link to it.")}
ACCEPT = Parameter("accept", "Instead of the header.", {"type": "string"})
MEANS = "PS3.18; docs/dicomweb.md says what of it is supported."
_UNREADABLE = ("unreadable_instance", "answer_too_large", "not_ready")
_OF_READS = ("not_found", "not_acceptable", "invalid_query")


def _search(what: str) -> Operation:
    return Operation(
        f"Search for {what}",
        {200: ("DicomJson", f"The {what} that have what is asked for."), 204: (None, "There are none.")},
        (*_OF_READS, "search_too_wide"),
        f"Attributes by keyword or tag must match. {MEANS}",
        PATHS,
        (
            Parameter("includefield", "More attributes: all, or some by keyword or tag.", {"type": "string"}),
            Parameter("limit", "At most so many.", {"type": "integer", "minimum": 0, "maximum": 10_000_000}),
            Parameter("offset", "So many are passed over.", {"type": "integer", "minimum": 0, "maximum": 10_000_000}),
            Parameter("fuzzymatching", "Declined by a Warning.", {"type": "string", "enum": ["true", "false"]}),
            ACCEPT,
        ),
        media=JSON,
    )


def _read(
    what: str, media: tuple[str, ...], *, schema: str | None = None, query: tuple[Parameter, ...] = ()
) -> Operation:
    return Operation(
        f"Retrieve {what}",
        {200: (schema, "As wanted by Accept."), **ELSEWHERE},
        (*_OF_READS, *_UNREADABLE),
        MEANS,
        PATHS,
        (*query, ACCEPT),
        media=media,
    )


def _picture(what: str, names: tuple[str, ...]) -> Operation:
    return _read(what, PICTURES, query=tuple(Parameter(name, "PS3.18 8.3.5.", {"type": "string"}) for name in names))


def _store(what: str) -> Operation:
    return Operation(
        what,
        {
            200: ("DicomDataset", "All are stored."),
            202: ("DicomDataset", "Some are stored; the answer says which are not, and why."),
            409: ("DicomDataset", "None is stored."),
        },
        (
            "not_acceptable", "unsupported_media_type", "size_not_allowed", "invalid_multipart", "rate_limited",
            "scan_required", "not_found", "invalid_query",
        ),
        "A multipart/related body of whole files, up to 4 MiB; more goes up as a batch. " + MEANS,
        PATHS,
        (ACCEPT,),
        body={"type": "string", "contentMediaType": "application/dicom"},
        body_media=("multipart/related", "application/dicom"),
        media=JSON,
    )  # fmt: skip


_SERIES = "/studies/{study}/series/{series}"
_INSTANCE = f"{_SERIES}/instances/{{instance}}"
_VIEW = ("window", "viewport", "quality")

OPERATIONS: Mapping[str, Operation] = {
    f"{method} /v1/dicomweb{path}": one
    for method, path, one in (
        ("GET", "/studies", _search("studies")),
        ("GET", "/series", _search("series")),
        ("GET", "/instances", _search("instances")),
        ("GET", "/studies/{study}/series", _search("series of a study")),
        ("GET", "/studies/{study}/instances", _search("instances of a study")),
        ("GET", f"{_SERIES}/instances", _search("instances of a series")),
        ("GET", "/studies/{study}", _read("all files of a study", FILES[:1])),
        ("GET", _SERIES, _read("all files of a series", FILES[:1])),
        ("GET", _INSTANCE, _read("a file", FILES)),
        ("GET", "/studies/{study}/metadata", _read("the metadata of a study", JSON, schema="DicomJson")),
        ("GET", f"{_SERIES}/metadata", _read("the metadata of a series", JSON, schema="DicomJson")),
        ("GET", f"{_INSTANCE}/metadata", _read("the metadata of an instance", JSON, schema="DicomJson")),
        ("GET", f"{_INSTANCE}/bulkdata/{{place}}", _read("a value that the metadata point at", FRAMES)),
        ("GET", f"{_INSTANCE}/frames/{{frames}}", _read("frames", FRAMES)),
        ("GET", "/studies/{study}/rendered", _picture("a study as a picture, or as many", _VIEW)),
        ("GET", f"{_SERIES}/rendered", _picture("a series as a picture, or as many", _VIEW)),
        ("GET", f"{_INSTANCE}/rendered", _picture("an instance as a picture", _VIEW)),
        ("GET", f"{_INSTANCE}/frames/{{frames}}/rendered", _picture("a frame as a picture", _VIEW)),
        ("GET", "/studies/{study}/thumbnail", _picture("a study's thumbnail", ("viewport",))),
        ("GET", f"{_SERIES}/thumbnail", _picture("a series' thumbnail", ("viewport",))),
        ("GET", f"{_INSTANCE}/thumbnail", _picture("an instance's thumbnail", ("viewport",))),
        ("GET", f"{_INSTANCE}/frames/{{frames}}/thumbnail", _picture("a frame's thumbnail", ("viewport",))),
        ("POST", "/studies", _store("Store files")),
        ("POST", "/studies/{study}", _store("Store files of a study")),
    )
}
