"""Search parameters: which attributes must have which values, what is shown of a result, which results. Pure.

PS3.18 8.3.4 and PS3.4 C.2.2.2. A match is tested on a result in the DICOM JSON model, so that what is compared is what
is answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from heavylift.dicom import studies
from heavylift.dicom.instances import folded
from heavylift.dicom.studies import Filter
from heavylift.errors import RequestError

Json = Mapping[str, Any]

STUDY_UID, SERIES_UID, SOP_UID = "0020000D", "0020000E", "00080018"
MODALITIES, MODALITY = "00080061", "00080060"
STUDY_DATE, PATIENT_NAME, PATIENT_ID, ACCESSION = "00080020", "00100010", "00100020", "00080050"

RESULTS_MAX: Final = 5_000  # of one answer; the caller asks for more by ``offset``
NUMBER_MAX: Final = 10_000_000
VALUES_MAX: Final = 1_000  # of one list of UIDs

# By level: what every result has (PS3.18 tables 10.6.3-3 to 10.6.3-5, and what viewers show), what ``includefield``
# adds. It is all that the index knows.
_EVERY: Final = frozenset({"00080005", "00080056", "00081190"})
SHOWN: Final[Mapping[str, frozenset[str]]] = {
    "study": frozenset(
        {
            *("00080020", "00080030", "00080050", "00080061", "00080090", "00080201", "00081030", "00100010"),
            *("00100020", "00100030", "00100040", "0020000D", "00200010", "00201206", "00201208"),
        }
    ),
    "series": frozenset(
        {"00080060", "0008103E", "0020000D", "0020000E", "00200011", "00201209", "00400244", "00400245"}
    ),
    "instance": frozenset(
        {
            *("00080016", "00080018", "0020000D", "0020000E", "00200013", "00280008", "00280010", "00280011"),
            "00280100",
        }
    ),
}
ADDED: Final[Mapping[str, frozenset[str]]] = {
    "study": frozenset({"00080080", "00100021"}),
    "series": frozenset({"00080021", "00080031", "00080070", "00180015"}),
    "instance": frozenset({"00083002", "00280002", "00280004"}),
}
LEVELS: Final = ("study", "series", "instance")

_PARAMETERS: Final = frozenset({"limit", "offset", "includefield", "fuzzymatching", "accept"})
# Kinds of matching that a server may decline, with what the standard says then (8.3.4.2, 8.3.4.5, 8.3.4.6).
_DECLINED: Final = {
    "fuzzymatching": "The fuzzymatching parameter is not supported. Only literal matching has been performed.",
    "emptyvaluematching": "The emptyvaluematching parameter is not supported. "
    "Empty Value Matching has not been performed.",
    "multiplevaluematching": "The multiplevaluematching parameter is not supported. "
    "Multiple Value Matching has not been performed.",
}
_NUMBERS: Final = frozenset({"IS", "US", "UL", "SS", "SL", "UV", "SV"})
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")


@dataclass(frozen=True, slots=True)
class Match:
    """An attribute, by tag, that must have one of ``values``; ``test`` says whether one of its values is meant."""

    tag: str
    values: tuple[str, ...]
    test: Callable[[Any], bool]

    def holds(self, result: Json) -> bool:
        """Whether any value that the result has is meant."""
        return any(self.test(value) for value in result.get(self.tag, {}).get("Value", ()))

    @property
    def exact(self) -> str | None:
        """The one value, where only that is meant."""
        only = self.values[0] if len(self.values) == 1 else ""
        return only if only and not {"*", "?"} & set(only) else None


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for at a level. ``shown``: the tags of an answer. ``warnings``: what was not done, in words."""

    level: str
    matches: tuple[Match, ...]
    shown: frozenset[str]
    limit: int
    offset: int
    warnings: tuple[str, ...]

    def match(self, tag: str) -> Match | None:
        return next((one for one in self.matches if one.tag == tag), None)

    def holds(self, result: Json) -> bool:
        """Whether a result has all that is asked for."""
        return all(one.holds(result) for one in self.matches)

    def view(self, result: Json) -> dict[str, Any]:
        """What is shown of it, ascending."""
        return {tag: result[tag] for tag in sorted(result) if tag in self.shown}

    @property
    def needs_study(self) -> bool:
        """Whether attributes of the study are tested or shown, its UID apart."""
        known = (SHOWN["study"] | ADDED["study"]) - {STUDY_UID}
        return bool(known & (self.shown | {one.tag for one in self.matches}))


def parse(level: str, parameters: Mapping[str, Iterable[str]], *, below: int = 0) -> Query:
    """The query at ``level`` (study, series, instance) of a path that names ``below`` levels above it.

    RequestError ``invalid_query``: a value that its parameter cannot have. What is not supported is passed over and
    told of in ``warnings`` (8.3): the results are then those of the search without it.
    """
    depth = LEVELS.index(level) + 1
    known = frozenset().union(*(SHOWN[one] | ADDED[one] for one in LEVELS[:depth])) | _EVERY
    given = {name: [value.strip() for value in values] for name, values in parameters.items()}
    warnings: list[str] = []
    matches: dict[str, Match] = {}
    unknown = 0
    for name, values in given.items():
        if name in _PARAMETERS or name in _DECLINED:
            continue
        tag = _attribute(name)
        if tag is None:
            unknown += 1
        elif tag not in known or tag in {"00081190", "00080056", "00080005"}:
            warnings.append(f"Matching by {_named(name)} is not supported at this level; it has been ignored.")
        else:
            match = _match(tag, [value for value in values if value not in ("", "*")])
            if tag in matches:
                raise _wrong(f"{_named(name)} stands twice.")
            if match is not None:
                matches[tag] = match
    if unknown:
        warnings.append(f"{unknown} unknown parameter{'s' if unknown > 1 else ''} in the query; ignored.")
    for name, words in _DECLINED.items():
        if name in given and _flag(name, given[name]):
            warnings.append(words)
    shown = _EVERY.union(*(SHOWN[one] for one in LEVELS[below:depth])) | {
        tag for tag in given_tags(given) if tag in known
    }
    wanted, all_of_them, absent = _included(given.get("includefield", ()), known)
    if absent:
        warnings.append(f"{absent} attribute{'s' if absent > 1 else ''} of includefield not in the index; ignored.")
    return Query(
        level,
        tuple(matches.values()),
        known if all_of_them else shown | wanted,
        min(_number("limit", given, RESULTS_MAX), RESULTS_MAX),
        _number("offset", given, 0),
        tuple(warnings),
    )


def given_tags(given: Mapping[str, object]) -> set[str]:
    """The attributes that stand among the parameters: they are shown too, also with an empty value (10.6.3.3)."""
    return {tag for tag in map(_attribute, given) if tag is not None}


def _attribute(name: str) -> str | None:
    """The tag of an attribute's keyword or tag; of a path into sequences, the path itself. None: it is none."""
    pieces = name.split(".")
    tags = []
    for piece in pieces:
        if _TAG.fullmatch(piece):
            tags.append(piece.upper())
        else:
            tag = tag_for_keyword(piece) if piece.isascii() and piece.isalnum() and len(piece) <= 64 else None
            if tag is None:
                return None
            tags.append(f"{tag:08X}")
    return ".".join(tags)


def _named(name: str) -> str:
    """An attribute for people: its keyword, which the caller's own spelling may not be."""
    tag = (_attribute(name) or "").split(".")
    return ".".join(keyword_for_tag(int(one, 16)) or one for one in tag)


def _included(values: Iterable[str], known: frozenset[str]) -> tuple[frozenset[str], bool, int]:
    """The tags to add, whether it is all of them, and how many nobody knows. RequestError ``invalid_query``."""
    wanted, absent = set(), 0
    fields = [field.strip() for value in values for field in value.split(",") if field.strip()]
    for field in fields:
        if field.lower() == "all":
            continue
        tag = _attribute(field)
        if tag is None:
            raise _wrong("includefield names something that is no attribute.")
        if tag in known:
            wanted.add(tag)
        else:
            absent += 1
    return frozenset(wanted), any(field.lower() == "all" for field in fields), absent


def _number(name: str, given: Mapping[str, list[str]], default: int) -> int:
    values = given.get(name)
    if values is None:
        return default
    text = values[0] if len(values) == 1 else ""
    if not text.isascii() or not text.isdecimal() or int(text[:12]) > NUMBER_MAX:
        raise _wrong(f"{name} must be a whole number up to {NUMBER_MAX}.")
    return int(text)


def _flag(name: str, values: list[str]) -> bool:
    text = values[0].lower() if len(values) == 1 else ""
    if text not in {"true", "false"}:
        raise _wrong(f"{name} must be true or false.")
    return text == "true"


def _wrong(message: str) -> RequestError:
    return RequestError("invalid_query", message)


# --- how values match ---


def _match(tag: str, values: list[str]) -> Match | None:
    """None where anything will do (universal matching). RequestError ``invalid_query``."""
    vr = str(dictionary_VR(int(tag, 16)))
    if vr == "UI" or tag in {MODALITIES, MODALITY}:
        values = [one.strip() for value in values for one in re.split(r"[\\,]", value) if one.strip()]
    elif len(values) > 1:
        raise _wrong(f"{_named(tag)} stands twice.")
    if not values:
        return None
    if len(values) > VALUES_MAX:
        raise _wrong(f"{_named(tag)} has more than {VALUES_MAX} values.")
    if vr == "UI":
        return Match(tag, tuple(values), frozenset(values).__contains__)
    if vr == "DA":
        return Match(tag, tuple(values), _within(*date_range(values[0]), _date))
    if vr == "TM":
        return Match(tag, tuple(values), _within(*time_range(values[0]), _time))
    if vr == "PN":
        return Match(tag, tuple(values), lambda value: _name_fits(values[0], value))
    if vr in _NUMBERS:
        number = _integer(values[0])
        return Match(tag, tuple(values), lambda value: _same_number(number, value))
    return Match(tag, tuple(values), lambda value: any(studies.fits(one, str(value)) for one in values))


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,12}", text):
        raise _wrong("An attribute that is a number must be searched for by one.")
    return int(text)


def _same_number(number: int, value: Any) -> bool:
    return isinstance(value, int | float) and value == number


def _name_fits(pattern: str, value: Any) -> bool:
    """A name fits by any of its groups, or as a whole; without case, accents and the carets at its end."""
    groups = list(value.values()) if isinstance(value, Mapping) else [str(value)]
    plain = pattern.rstrip("^ ") or pattern
    return any(studies.like(plain, text.rstrip("^ ")) for text in (*groups, "=".join(groups)))


def _within(low: str, high: str, read: Callable[[str], str | None]) -> Callable[[Any], bool]:
    def test(value: Any) -> bool:
        found = read(str(value))
        return found is not None and low <= found <= high

    return test


def _date(text: str) -> str | None:
    return text if re.fullmatch(r"[0-9]{8}", text) else None


def date_range(text: str) -> tuple[str, str]:
    """Both ends of ``20240131``, ``20240101-20240131``, ``20240101-`` or ``-20240131``. RequestError."""
    low, dash, high = text.partition("-")
    ends = [end for end in (low, high) if end]
    if not ends or any(_date(end) is None for end in ends):
        raise _wrong("A date must be yyyymmdd, or two of them with a hyphen between.")
    if not dash:
        return low, low
    return low or "00000000", high or "99999999"


_TIME: Final = re.compile(r"([01][0-9]|2[0-3])(?:([0-5][0-9])(?:([0-5][0-9]|60)(?:\.([0-9]{1,6}))?)?)?")


def _time(text: str, fill: str = "0") -> str | None:
    """hhmmss.ffffff of a time that may be less precise, its absent digits the first or (``fill`` 9) the last."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        return None
    hour, minute, second, fraction = found.groups()
    absent = "00" if fill == "0" else "59"
    return f"{hour}{minute or absent}{second or absent}.{(fraction or '').ljust(6, fill)}"


def time_range(text: str) -> tuple[str, str]:
    """Both ends of ``101500``, ``10-12``, ``1015-`` or ``-1200``; ``10`` is the whole hour. RequestError."""
    low, dash, high = text.partition("-")
    if not dash:
        high = low
    first = _time(low) if low else "000000.000000"
    last = _time(high, "9") if high else "235960.999999"
    if first is None or last is None or not (low or high):
        raise _wrong("A time must be hhmmss, or two of them with a hyphen between.")
    return first, last


def filter_of(query: Query) -> Filter:
    """What of the query an index can answer: it gives the candidates."""
    low = high = None
    date = query.match(STUDY_DATE)
    if date is not None:
        first, last = date_range(date.values[0])
        low, high = (first if first != "00000000" else None), (last if last != "99999999" else None)
    uids, modality, name = query.match(STUDY_UID), query.match(MODALITIES) or query.match(MODALITY), None
    names = query.match(PATIENT_NAME)
    # The index sorts names by their alphabetic group. Other letters may be meant of another group: no index then.
    if names is not None and "=" not in names.values[0] and folded(names.values[0]).isascii():
        name = names.values[0].rstrip("^ ").rstrip("*") + "*"
    return Filter(
        study_uids=uids.values if uids else (),
        patient_id=_exactly(query, PATIENT_ID),
        accession_number=_exactly(query, ACCESSION),
        date_from=low,
        date_to=high,
        modality=modality.exact if modality else None,
        patient_name=name,
    )


def _exactly(query: Query, tag: str) -> str | None:
    match = query.match(tag)
    return match.exact if match else None
