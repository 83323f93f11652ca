"""Requests for archives: what the API writes is read back, what somebody drops is checked with clear words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.archives import requests
from heavylift.archives.requests import Request
from heavylift.errors import ContentError
from heavylift.limits import ARCHIVE_FILES_MAX

ID, MEMBER = "01JD2Z3NDEKTSV4RRFFQ69G5FA", "01JD2Z3NDEKTSV4RRFFQ69G5FA-000042"


@pytest.mark.parametrize(
    "request_made",
    [
        Request(file_ids=(ID, MEMBER)),
        Request(batch_id=ID, package="bagit", on_missing="skip"),
        Request(logical_id="scan é", name="x.zip", user="user-1", created_at=1_763_596_800.25),
    ],
)
def test_a_request_comes_back(request_made: Request) -> None:
    """The same bytes for the same request."""
    body = requests.encode(request_made)

    assert requests.parse(body) == request_made
    assert requests.encode(requests.parse(body)) == body


def test_the_least_that_may_be_dropped() -> None:
    """Ids alone; twice the same one is one; fields that nobody knows are ignored."""
    found = requests.parse(json.dumps({"file_ids": [ID, MEMBER, ID], "comment": "monthly"}).encode())

    assert found == Request(file_ids=(ID, MEMBER))
    assert found.wanted == {"files": 2}


WRONG: list[tuple[Any, str]] = [
    ({}, "none"),
    ({"file_ids": [ID], "batch_id": ID}, "file_ids, batch_id"),
    ({"file_ids": []}, "one at least"),
    ({"file_ids": ID}, "list"),
    ({"file_ids": [ID, "files/acme/x"]}, r"file_ids\[1\]"),
    ({"file_ids": [ID, 7]}, r"file_ids\[1\]"),
    ({"file_ids": [ID] * (ARCHIVE_FILES_MAX + 1)}, "at most"),
    ({"batch_id": "x"}, "batch"),
    ({"study_uid": "1.2#x"}, "study_uid"),
    ({"study_uid": "1." * 40 + "1"}, "study_uid"),
    ({"logical_id": ""}, "logical_id"),
    ({"logical_id": 7}, "logical_id"),
    ({"logical_id": "a", "package": "zip"}, "package"),
    ({"logical_id": "a", "on_missing": True}, "on_missing"),
    ({"logical_id": "a", "name": ""}, "name"),
    ({"logical_id": "a", "user": 7}, "user"),
    ({"logical_id": "a", "created_at": "now"}, "created_at"),
    ({"logical_id": "a", "created_at": True}, "created_at"),
    ({"logical_id": "a", "version": 2}, "version"),
    ([], "object"),
    ("x", "object"),
]


@pytest.mark.parametrize(("value", "word"), WRONG)
def test_what_is_wrong_is_said(value: Any, word: str) -> None:
    """By its name and place."""
    with pytest.raises(ContentError, match=word) as refused:
        requests.parse(json.dumps(value).encode())
    assert refused.value.code == "invalid_request"


@given(st.one_of(st.binary(max_size=40), st.just(b"[" * 100_000)))
def test_any_bytes_are_refused_in_words(body: bytes) -> None:
    """Never a crash; hardly any are a request by chance."""
    with pytest.raises(ContentError) as refused:
        requests.parse(body)
    assert refused.value.code == "invalid_request"


def test_the_name_of_a_download() -> None:
    """As asked for, else after what it holds; with its extension."""
    name = requests.download_name
    assert name(Request(name="a b"), ID) == "a b.zip"
    assert name(Request(name="x.ZIP"), ID, "scan") == "x.ZIP"
    assert name(Request(file_ids=(ID,)), ID, "scan") == "scan.zip"
    assert name(Request(logical_id="scan"), ID) == "scan.zip"
    assert name(Request(file_ids=(ID,)), ID) == f"{ID}.zip"


def test_the_job_of_a_request() -> None:
    """Who asked, for what, and when the sweeper looks."""
    asked = Request(file_ids=(ID,), package="bagit", user="u", created_at=5.0)
    job = requests.new_job("acme", MEMBER, asked, 9.0, 70.0)

    assert (job.package, job.user, job.wanted, job.created_at, job.due_at) == ("bagit", "u", {"files": 1}, 5.0, 70.0)
