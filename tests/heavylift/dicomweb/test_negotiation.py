"""Accept: what is wanted, in whose order, and what of it there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.dicomweb import negotiation, routing
from heavylift.dicomweb.exchange import MediaRange
from heavylift.dicomweb.negotiation import parse_accept
from heavylift.errors import RequestError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("a/b", [("a/b", {})]),
        ("A/B;Q=0.1, c/d", [("c/d", {}), ("a/b", {})]),
        ('a/b; type="image/jpeg"; transfer-syntax=*;q=0.5', [("a/b", {"type": "image/jpeg", "transfer-syntax": "*"})]),
        ("a/b; type=application/octet-stream", [("a/b", {"type": "application/octet-stream"})]),
        ('x/y; z="a, b", */*', [("x/y", {"z": "a, b"}), ("*/*", {})]),
        ("a/b;q=0, */*;q=nonsense", [("*/*", {})]),
        ("*/b, nothing, /, a/", []),
        ("*", [("*/*", {})]),
    ],
)  # fmt: skip
def test_ranges(text: str, found: list[tuple[str, dict[str, str]]]) -> None:
    """By quality, then as they stand; names in lower case, quotes off; what is none is passed over."""
    assert [(one.name, dict(one.parameters)) for one in parse_accept(text)] == found


@given(st.text(max_size=80))
def test_anything_is_read(text: str) -> None:
    """And whatever comes out can be chosen from."""
    ranges = parse_accept(text)
    assert all("/" in one.name and 0 < one.quality <= 1 for one in ranges)
    for choose in (
        lambda: negotiation.json_type(ranges),
        lambda: negotiation.instance_form(ranges, "1.2"),
        lambda: negotiation.bytes_form(ranges),
    ):
        try:
            assert "/" in choose()
        except RequestError as error:
            assert error.code == "not_acceptable"  # noqa: PT017 - both ends are what is promised


@pytest.mark.parametrize(
    ("accept", "one", "many"),
    [
        ("*/*", "multipart/related", "multipart/related"),
        ("application/dicom", "application/dicom", None),
        ("application/dicom;transfer-syntax=1.2", "application/dicom", None),
        ("application/dicom;transfer-syntax=1.3", None, None),
        ('multipart/related;type="application/dicom"', "multipart/related", "multipart/related"),
        ("multipart/related;type=application/*;transfer-syntax=*", "multipart/related", "multipart/related"),
        ('multipart/related;type="image/jpeg"', None, None),
        ("application/dicom;transfer-syntax=1.3, application/dicom;q=0.1", "application/dicom", None),
        ("multipart/related;transfer-syntax=1.3", None, "multipart/related"),
        ("text/plain", None, None),
    ],
)
def test_forms_of_files(accept: str, one: str | None, many: str | None) -> None:
    """Of one file whose transfer syntax is 1.2, and of many."""
    for syntax, wanted in (("1.2", one), (None, many)):
        if wanted is None:
            with pytest.raises(RequestError):
                negotiation.instance_form(parse_accept(accept), syntax)
        else:
            assert negotiation.instance_form(parse_accept(accept), syntax) == wanted


def test_the_query_counts_more() -> None:
    """Than the header; nothing said is anything."""
    assert negotiation.accept_of({"accept": "a/b"}, {"accept": ("c/d",)})[0].name == "c/d"
    assert negotiation.accept_of({}, {}) == (MediaRange("*/*"),)


@pytest.mark.parametrize(
    ("text", "taken"),
    [("", False), ("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0", False), ("*", True), ("identity", False)],
)
def test_gzip(text: str, taken: bool) -> None:
    """RFC 9110, 12.5.3."""
    assert routing.takes_gzip(text) is taken


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"host": "h"}, "https://h"),
        ({"host": "h", "x-forwarded-proto": "http", "x-forwarded-port": "8080"}, "http://h:8080"),
        ({"host": "h:1", "x-forwarded-proto": "http", "x-forwarded-port": "8080"}, "http://h:1"),
        ({"host": "h", "x-forwarded-port": "443"}, "https://h"),
        ({"host": "[::1]", "x-forwarded-proto": "http", "x-forwarded-port": "81"}, "http://[::1]:81"),
        ({"x-forwarded-proto": "javascript"}, "https://gateway"),
    ],
)
def test_the_services_address(headers: dict[str, str], base: str) -> None:
    """As the caller has used it, with the port that some clients leave out of Host."""
    event = {"requestContext": {"domainName": "gateway"}}
    assert routing.base_of(event, headers) == f"{base}/v1/dicomweb"


@pytest.mark.parametrize("text", ["0", "1,,2", "1,", "a", "", "01", "-1", "1" * 9, ",".join(["1"] * 1_001)])
def test_frames_that_are_none(text: str) -> None:
    """Numbers from 1, not too many."""
    with pytest.raises(RequestError):
        routing.frames_of(text)
