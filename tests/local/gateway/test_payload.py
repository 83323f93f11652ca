"""Payload format 2.0, as API Gateway's HTTP APIs make and read it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_local.gateway import payload


def event(
    target: str = "/", headers: tuple[tuple[str, str], ...] = (), body: bytes = b"", **more: Any
) -> dict[str, Any]:
    request = payload.Request("POST", target, headers, body, "127.0.0.1")
    return payload.event(request, "POST /x", more.get("parameters", {}), "000000000000", more.get("jwt"))


def test_the_query_keeps_its_raw_form_and_joins_repeats() -> None:
    """rawQueryString as sent; parameters decoded, repeated ones joined by commas."""
    made = event("/x?a=1&a=2&b=%20c+d&e=")

    assert made["rawQueryString"] == "a=1&a=2&b=%20c+d&e="
    assert made["queryStringParameters"] == {"a": "1,2", "b": " c d", "e": ""}


def test_path_and_parameters_arrive_decoded() -> None:
    """HTTP APIs decode rawPath and path parameters (REST APIs and function URLs do not)."""
    made = event("/f/a%20b%2Fc?x=%31", parameters={"id": "a%20b%2Fc"})

    assert made["rawPath"] == made["requestContext"]["http"]["path"] == "/f/a b/c"
    assert made["pathParameters"] == {"id": "a b/c"}


def test_headers_are_lower_case_and_joined_and_cookies_apart() -> None:
    """Repeated headers become one; cookies are a list of their own."""
    made = event(headers=(("X-A", "1"), ("x-a", "2"), ("Cookie", "a=1; b=2"), ("Host", "h:1")))

    assert made["headers"]["x-a"] == "1,2"
    assert "cookie" not in made["headers"]
    assert made["cookies"] == ["a=1", "b=2"]
    assert made["requestContext"]["domainName"] == "h:1"


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("text/csv", True),
        ("application/xml", True),
        ("application/javascript", True),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=x", False),
        ("application/octet-stream", False),
        ("application/problem+json", False),
        ("", False),
    ],
)
def test_only_known_text_types_arrive_as_text(content_type: str, text: bool) -> None:
    """Everything else, form fields and a missing type included, is base64."""
    headers = (("content-type", content_type),) if content_type else ()
    made = event(headers=headers, body=b'{"a":1}')

    assert made["isBase64Encoded"] is not text
    assert made["body"] == ('{"a":1}' if text else base64.b64encode(b'{"a":1}').decode())


def test_text_that_is_no_utf8_is_base64() -> None:
    """A body never loses a byte on its way into JSON."""
    made = event(headers=(("content-type", "text/plain"),), body=b"\xff\xfe")

    assert base64.b64decode(made["body"]) == b"\xff\xfe"


def test_no_body_no_field() -> None:
    """Absent parts are left out, as AWS does."""
    made = event()

    assert not {"body", "cookies", "queryStringParameters", "pathParameters"} & set(made)
    assert "authorizer" not in made["requestContext"]


def test_the_authorizers_claims_are_where_functions_look() -> None:
    """requestContext.authorizer.jwt holds claims and scopes."""
    made = event(jwt={"claims": {"sub": "u"}, "scopes": ["s"]})

    assert made["requestContext"]["authorizer"] == {"jwt": {"claims": {"sub": "u"}, "scopes": ["s"]}}


@given(st.text(max_size=60), st.binary(max_size=60), st.text(max_size=30))
def test_any_request_becomes_json(target: str, body: bytes, content_type: str) -> None:
    """Whatever is sent, the event can be written as JSON and the body comes back byte for byte."""
    made = json.loads(json.dumps(event("/" + target, (("content-type", content_type),), body)))

    if body:
        back = base64.b64decode(made["body"]) if made["isBase64Encoded"] else made["body"].encode()
        assert back == body


def test_a_full_answer_is_taken_at_its_word() -> None:
    """Status, headers, cookies and a base64 body."""
    answer = {
        "statusCode": 201,
        "headers": {"Content-Type": "image/png", "X-N": 5, "Transfer-Encoding": "chunked"},
        "multiValueHeaders": {"X-M": ["a", "b"]},
        "cookies": ["a=1; Secure", "b=2"],
        "body": base64.b64encode(b"\x89PNG").decode(),
        "isBase64Encoded": True,
    }
    made = payload.response(json.dumps(answer).encode())

    assert (made.status, made.body, made.cookies) == (201, b"\x89PNG", ("a=1; Secure", "b=2"))
    assert made.headers == {"content-type": "image/png", "x-n": "5", "x-m": "a,b"}


@pytest.mark.parametrize(
    ("answer", "body"),
    [(b'{"a":1}', b'{"a": 1}'), (b'"text"', b"text"), (b"null", b"null"), (b"[1]", b"[1]")],
)
def test_any_other_json_is_the_body_of_a_200(answer: bytes, body: bytes) -> None:
    """An answer without statusCode is sent as JSON."""
    made = payload.response(answer)

    assert (made.status, made.body, made.headers["content-type"]) == (200, body, "application/json")


@pytest.mark.parametrize(
    "answer",
    [
        b"not json",
        b'{"statusCode":"x"}',
        b'{"statusCode":9999}',
        b'{"statusCode":200,"body":{"a":1}}',
        b'{"statusCode":200,"body":"%%%","isBase64Encoded":true}',
        b'{"statusCode":200,"headers":{"a":"b\\r\\nc: d"}}',
    ],
)
def test_what_cannot_be_sent_is_an_error(answer: bytes) -> None:
    """The gateway says 500 for these, a header with a line break among them."""
    with pytest.raises(payload.BadResponse):
        payload.response(answer)
