"""The types of Table Schema (Data Package 2.0): from a cell's text to its value. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from heavylift.tables.rules import RulesError

Cast = Callable[[str], Any]  # the value of a cell; ValueError: it is none of this type

INTEGER: Final = re.compile(r"[+-]?[0-9]{1,4000}\Z")  # int() refuses more digits
NUMBER: Final = re.compile(r"(?:[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|-?INF|NaN)\Z", re.IGNORECASE)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_TIME: Final = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})?\Z")
_DATETIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})?\Z"
)
_YEAR: Final = re.compile(r"-?[0-9]{4}\Z")
YEARMONTH: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])\Z")
DURATION: Final = re.compile(
    r"-?P(?=.)(?:[0-9]+Y)?(?:[0-9]+M)?(?:[0-9]+D)?(?:T(?=.)(?:[0-9]+H)?(?:[0-9]+M)?(?:[0-9]+(?:\.[0-9]+)?S)?)?\Z"
)
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s.]+(?:\.[^@\s.]+)*\Z")
_FRACTION_MAX: Final = 6  # digits of a second that datetime holds; the rest changes no verdict


def shown(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return f"“{text[:60]}{'…' if len(text) > 60 else ''}”"


def texts(name: str, value: Any) -> frozenset[str]:
    if not isinstance(value, list):
        raise RulesError("schema", f"{name} is a list")
    plain: list[Any] = [one.get("value") if isinstance(one, dict) else one for one in value]
    if not all(isinstance(one, str) for one in plain):
        raise RulesError("schema", f"{name} is a list of texts")
    return frozenset(plain)


def _string(value: Mapping[str, Any], form: str, label: str) -> Cast:
    if form == "default":
        return lambda text: text
    if form == "email":
        return lambda text: _matched(_EMAIL, text)
    if form == "uri":
        return _uri
    if form == "uuid":
        return lambda text: _matched(_UUID, text)
    if form == "binary":
        return _binary
    raise RulesError("schema", f"{label}: format {form!r} is none of default, email, uri, uuid, binary")


_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


def _matched(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.match(text):
        raise ValueError(text)
    return text


def _uri(text: str) -> str:
    parts = urlsplit(text)
    if not parts.scheme or not (parts.netloc or parts.path) or " " in text:
        raise ValueError(text)
    return text


def _binary(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError(text) from None
    return text


def _bare(text: str) -> str:
    """Without what stands around a number where bareNumber is false: a currency, a percent sign."""
    found = re.search(r"[+-]?[0-9.].*[0-9.]|[0-9]", text)
    if not found:
        raise ValueError(text)
    return found.group()


def _integer(value: Mapping[str, Any], form: str, label: str) -> Cast:
    group, bare = value.get("groupChar"), value.get("bareNumber", True)

    def cast(text: str) -> int:
        if not bare:
            text = _bare(text)
        if group:
            text = text.replace(group, "")
        if not INTEGER.match(text):
            raise ValueError(text)
        return int(text)

    return cast


def _number(value: Mapping[str, Any], form: str, label: str) -> Cast:
    group, bare, point = value.get("groupChar"), value.get("bareNumber", True), value.get("decimalChar", ".")

    def cast(text: str) -> Decimal:
        if not bare:
            text = _bare(text)
        if group:
            text = text.replace(group, "")
        if point != ".":
            if "." in text:
                raise ValueError(text)
            text = text.replace(point, ".")
        if not NUMBER.match(text):
            raise ValueError(text)
        return Decimal(text)

    return cast


def _boolean(value: Mapping[str, Any], form: str, label: str) -> Cast:
    true = texts("trueValues", value.get("trueValues", ["true", "True", "TRUE", "1"]))
    false = texts("falseValues", value.get("falseValues", ["false", "False", "FALSE", "0"]))

    def cast(text: str) -> bool:
        if text in true:
            return True
        if text in false:
            return False
        raise ValueError(text)

    return cast


def _strptime(form: str, label: str) -> Callable[[str], datetime]:
    if "%" not in form:
        raise RulesError("schema", f"{label}: format is default, any or a pattern like %d/%m/%Y")

    def cast(text: str) -> datetime:
        if not text.isascii():
            raise ValueError(text)
        return datetime.strptime(text, form)

    return cast


def _iso(text: str) -> str:
    """As fromisoformat wants it: no more digits of a second than it holds."""
    return re.sub(rf"(\.[0-9]{{{_FRACTION_MAX}}})[0-9]+", r"\1", text)


def _date(value: Mapping[str, Any], form: str, label: str) -> Cast:
    if form == "default" or form == "any":
        return lambda text: date.fromisoformat(_matched(_DATE, text))
    pattern = _strptime(form, label)
    return lambda text: pattern(text).date()


def _time(value: Mapping[str, Any], form: str, label: str) -> Cast:
    if form == "default" or form == "any":
        return lambda text: time.fromisoformat(_iso(_matched(_TIME, text))).replace(tzinfo=None)
    pattern = _strptime(form, label)
    return lambda text: pattern(text).time()


def _datetime(value: Mapping[str, Any], form: str, label: str) -> Cast:
    if form == "default" or form == "any":
        # A time without a zone is taken for UTC where it is compared.
        def cast(text: str) -> datetime:
            moment = datetime.fromisoformat(_iso(_matched(_DATETIME, text)))
            return moment.replace(tzinfo=None) - (moment.utcoffset() or timedelta())

        return cast
    return _strptime(form, label)


def _year(value: Mapping[str, Any], form: str, label: str) -> Cast:
    return lambda text: int(_matched(_YEAR, text))


def _yearmonth(value: Mapping[str, Any], form: str, label: str) -> Cast:
    return lambda text: _matched(YEARMONTH, text)


def _duration(value: Mapping[str, Any], form: str, label: str) -> Cast:
    return lambda text: _matched(DURATION, text)


def _json_of(wanted: type, name: str) -> Callable[[Mapping[str, Any], str, str], Cast]:
    def make(value: Mapping[str, Any], form: str, label: str) -> Cast:
        def cast(text: str) -> Any:
            found = orjson.loads(text.encode("utf-8", "surrogatepass"))
            if not isinstance(found, wanted):
                raise ValueError(text)
            return found

        return cast

    return make


def _list(value: Mapping[str, Any], form: str, label: str) -> Cast:
    delimiter = value.get("delimiter", ",")
    item = value.get("itemType", "string")
    if item not in CASTS or not isinstance(delimiter, str) or not delimiter:
        raise RulesError("schema", f"{label}: delimiter is a text and itemType a type")
    cast = CASTS[item]({}, "default", label)
    return lambda text: [cast(part) for part in text.split(delimiter)]


def _geopoint(value: Mapping[str, Any], form: str, label: str) -> Cast:
    if form not in ("default", "array", "object"):
        raise RulesError("schema", f"{label}: format {form!r} is none of default, array, object")

    def cast(text: str) -> tuple[Decimal, Decimal]:
        if form == "default":
            parts: Any = [part.strip() for part in text.split(",")]
        else:
            found = orjson.loads(text.encode("utf-8", "surrogatepass"))
            if form == "object":
                there = isinstance(found, dict) and {"lon", "lat"} <= found.keys()
                found = [found["lon"], found["lat"]] if there else None
            parts = found
        if not isinstance(parts, list) or len(parts) != 2:
            raise ValueError(text)
        lon, lat = (Decimal(_matched(NUMBER, str(part))) for part in parts)
        if not (-180 <= lon <= 180 and -90 <= lat <= 90):
            raise ValueError(text)
        return lon, lat

    return cast


CASTS: Final[Mapping[str, Callable[[Mapping[str, Any], str, str], Cast]]] = {
    "string": _string,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "object": _json_of(dict, "object"),
    "array": _json_of(list, "array"),
    "list": _list,
    "datetime": _datetime,
    "date": _date,
    "time": _time,
    "year": _year,
    "yearmonth": _yearmonth,
    "duration": _duration,
    "geopoint": _geopoint,
    "geojson": _json_of(dict, "geojson"),
    "any": lambda value, form, label: lambda text: text,
}
