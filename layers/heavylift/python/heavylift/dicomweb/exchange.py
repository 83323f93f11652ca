"""One call of DICOMweb and its answer, as the resources' modules see them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

ANSWER_BYTES_MAX: Final = 4 << 20  # of a body: base64 of it and its headers fit into the 6 MB of Lambda's answer


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One entry of Accept: ``multipart/related; type="image/jpeg"; transfer-syntax=*;q=0.5``.

    ``name`` and the names of ``parameters`` are in lower case, values without quotes; ``quality`` is 0 to 1.
    """

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    quality: float = 1.0

    def covers(self, media_type: str) -> bool:
        """Whether ``media_type`` (without parameters, lower case) is one of this range."""
        return covers(self.name, media_type)

    @property
    def inner(self) -> str:
        """Of multipart/related: what its parts shall be; ``*/*`` where it does not say."""
        return self.parameters.get("type", "*/*").lower()

    @property
    def transfer_syntax(self) -> str:
        """The transfer syntax asked for; "" where it says none, ``*`` for whatever is stored."""
        return self.parameters.get("transfer-syntax", "")


def covers(wanted: str, media_type: str) -> bool:
    """Whether the range ``wanted`` (``*/*``, ``image/*``, ``image/jpeg``) holds ``media_type``."""
    if wanted in ("*/*", "*"):
        return True
    family, _, rest = wanted.partition("/")
    return media_type.partition("/")[0] == family if rest == "*" else wanted == media_type


@dataclass(frozen=True, slots=True)
class Request:
    """A call: whose it is, what it names, and how it wants its answer.

    UIDs are proven to be UIDs, ``frames`` to be numbers from 1 on. ``accept`` is in the caller's order of preference
    and never empty (``*/*`` where nothing was said); an ``accept`` of the query stands in for the header. ``base`` is
    the service's address, without a slash at its end. ``query`` has every value of a repeated parameter.
    """

    tenant: str
    user: str = ""
    base: str = ""
    study_uid: str = ""
    series_uid: str | None = None
    instance_uid: str | None = None
    frames: tuple[int, ...] = ()
    accept: tuple[MediaRange, ...] = (MediaRange("*/*"),)
    query: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gzip: bool = False
    """Whether the caller takes a body with Content-Encoding gzip."""
    seconds_left: Callable[[], float] = lambda: 20.0

    def one(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return self.query.get(name, (default,))[0]

    @property
    def address(self) -> str:
        """The address of the instance, series or study that the call names."""
        found = f"{self.base}/studies/{self.study_uid}"
        if self.series_uid:
            found += f"/series/{self.series_uid}"
        return f"{found}/instances/{self.instance_uid}" if self.instance_uid else found


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (names in lower case) and body, of at most ANSWER_BYTES_MAX bytes."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def is_base64(self) -> bool:
        """Whether the body must travel as base64 in Lambda's answer: whatever is not plain UTF-8 text."""
        if "content-encoding" in self.headers:
            return True
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return bool(self.body) and not (media_type.startswith("text/") or media_type.endswith("json"))


def found(body: bytes, media_type: str, headers: Mapping[str, str] | None = None) -> Answer:
    """200 with a body."""
    return Answer(200, {"content-type": media_type, **(headers or {})}, body)


def elsewhere(url: str) -> Answer:
    """307: the body is an object; ``url`` is a presigned GET."""
    return Answer(307, {"location": url})
