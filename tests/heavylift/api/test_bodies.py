"""Bodies: what a logical id is, which digests are digests."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.api.bodies import FileEntry, InitiateBody, digest_forms, logical_id, parse
from heavylift.api.caller import caller_of, json_body
from heavylift.errors import RequestError
from heavylift.records import LOGICAL_ID_BYTES_MAX
from tests.doubles import events


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("slide_0012.tif", "slide"),
        ("slide-12.tif", "slide"),
        ("slide 12.tif", "slide"),
        ("slide.12.tif", "slide"),
        ("slide12.tif", "slide"),
        ("a_1_2.tif", "a_1"),
        ("IMG_0001.NEF", "IMG"),
        ("0001.tif", "0001"),
        ("_1.tif", "_1"),
        ("folder/slide_3.tif", "slide"),
        ("folder\\slide_3.tif", "slide"),
        ("noextension7", "noextension"),
        ("slide_a.tif", "slide_a"),
        (".hidden", ".hidden"),
        ("\u0663.tif", "\u0663"),
    ],
)
def test_the_logical_id_of_a_name(name: str, expected: str) -> None:
    """The stem without its last run of [-_. ]?[0-9]+; never empty."""
    assert logical_id(name, {}) == expected


def test_metadata_names_it_first() -> None:
    """metadata.logical_id wins when it is a text."""
    assert logical_id("a_1.tif", {"logical_id": "lot 7"}) == "lot 7"
    for other in ("", 5, None, ["x"]):
        assert logical_id("a_1.tif", {"logical_id": other}) == "a"


@given(st.text(min_size=1, max_size=5_000), st.text(max_size=3_000))
def test_a_logical_id_fits_a_key(name: str, given_id: str) -> None:
    """Whatever the name: UTF-8 within DynamoDB's key, cut at a whole character."""
    for made in (logical_id(name, {}), logical_id(name, {"logical_id": given_id})):
        assert made is None or 1 <= len(made.encode()) <= LOGICAL_ID_BYTES_MAX


@given(st.binary(min_size=32, max_size=32))
def test_digests_have_two_forms(raw: bytes) -> None:
    """Hex of either case and base64 mean the same 32 bytes."""
    forms = (raw.hex(), base64.b64encode(raw).decode())

    assert digest_forms(raw.hex()) == digest_forms(raw.hex().upper()) == digest_forms(forms[1]) == forms


@given(st.one_of(st.text(max_size=80), st.binary(max_size=40).map(lambda raw: base64.b64encode(raw).decode())))
def test_other_texts_are_no_digests(text: str) -> None:
    """Anything that is not 32 bytes in one of the two forms is invalid_body."""
    try:
        hexadecimal, _ = digest_forms(text)
    except RequestError:
        return
    assert text.lower() == hexadecimal or base64.b64decode(text, validate=True).hex() == hexadecimal


def test_defects_are_named_by_place() -> None:
    """At most twenty, each with where and what; never the value."""
    with pytest.raises(RequestError) as refused:
        parse(InitiateBody, {"files": [{"name": "a", "size": "secret"}, {"size": 1}]})

    assert refused.value.facts["errors"][0]["at"] == "files/0/size"
    assert refused.value.facts["errors"][1] == {"at": "files/1/name", "message": "Field required"}
    assert "secret" not in str(refused.value.facts)


def test_what_a_later_version_sends_is_left_alone() -> None:
    """Unknown members are no defect."""
    body = parse(InitiateBody, {"files": [{"name": "a", "size": 1, "new": 1}], "newer": True})

    assert body.files == [FileEntry(name="a", size=1)]


@pytest.mark.parametrize(
    ("raw", "encoded", "value"),
    [('{"a":1}', False, {"a": 1}), (None, False, {}), ("  \n", False, {}), ("eyJhIjoxfQ==", True, {"a": 1})],
)
def test_the_body_of_an_event(raw: str | None, encoded: bool, value: Any) -> None:
    """Plain or base64; none is {}."""
    event = {**events.event("http_api_v2"), "body": raw, "isBase64Encoded": encoded}

    assert json_body(event) == value


@pytest.mark.parametrize(("raw", "encoded"), [("{", False), ("NaN", False), ("[Infinity]", False), ("!!", True)])
def test_a_body_that_is_no_json(raw: str, encoded: bool) -> None:
    """not_json."""
    with pytest.raises(RequestError) as refused:
        json_body({"body": raw, "isBase64Encoded": encoded})
    assert refused.value.code == "not_json"


def test_who_calls() -> None:
    """Tenant, user and scopes of the real event's claims."""
    caller = caller_of(events.event("http_api_v2"))

    assert (caller.tenant, caller.user) == ("acme", "user-1")
    assert caller.scopes == {"heavylift/read", "heavylift/write", "heavylift/admin"}
    for event in ({}, {"requestContext": None}, {"requestContext": {"authorizer": {"jwt": None}}}):
        with pytest.raises(RequestError) as refused:
            caller_of(event)
        assert refused.value.code == "no_tenant"


def test_a_digest_of_an_entry_may_be_either_form() -> None:
    """The schema lets both pass; digest_forms tells them apart."""
    digest = sha256(b"a")
    for text in (digest.hexdigest(), base64.b64encode(digest.digest()).decode()):
        assert FileEntry(name="a", size=1, sha256=text).sha256 == text
