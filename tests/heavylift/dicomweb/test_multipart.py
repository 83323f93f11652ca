"""multipart/related: what is written is read back by email's parser, and what others write is taken apart."""

from __future__ import annotations

from contextlib import suppress
from email import message_from_bytes
from email.policy import HTTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.dicomweb import multipart
from heavylift.errors import RequestError

CONTENTS = st.lists(st.binary(max_size=60), min_size=1, max_size=4)


def written(contents: list[bytes], boundary: str) -> bytes:
    pieces = [
        multipart.opening(boundary, {"Content-Type": "application/dicom"}, first=number == 0) + content
        for number, content in enumerate(contents)
    ]
    return b"".join(pieces) + multipart.closing(boundary)


@given(CONTENTS)
def test_what_is_written_is_read_back(contents: list[bytes]) -> None:
    """Every content comes back byte for byte, line breaks and dashes at its ends included."""
    boundary = multipart.boundary("file", "1")
    body = written(contents, boundary)
    parts = multipart.take_apart(body, multipart.media_type(boundary, "application/dicom"))
    assert [part.content for part in parts] == contents
    assert {part.headers["content-type"] for part in parts} == {"application/dicom"}


def test_pythons_parser_agrees() -> None:
    """email, which knows nothing of us, sees the same parts."""
    boundary = multipart.boundary("x")
    body = written([b"one", b"two\r\nlines"], boundary)
    head = f"Content-Type: {multipart.media_type(boundary, 'application/dicom')}\r\n\r\n".encode()
    message = message_from_bytes(head + body, policy=HTTP)
    assert message.get_content_type() == "multipart/related"
    assert message.get_param("type") == "application/dicom"
    assert [part.get_payload(decode=True) for part in message.iter_parts()] == [b"one", b"two\r\nlines"]  # type: ignore[attr-defined]


def test_the_same_seed_is_the_same_boundary() -> None:
    """So that a body which is made twice has the same bytes."""
    assert multipart.boundary("a", "b") == multipart.boundary("a", "b") != multipart.boundary("ab")


@pytest.mark.parametrize(
    ("body", "contents"),
    [
        (b"--b\r\n\r\none\r\n--b--", [b"one"]),
        (b"preamble\r\n--b\r\nA: 1\r\n\r\none\r\n--b--\r\nepilogue", [b"one"]),
        (b"\r\n--b \t\r\n\r\none\r\n--b\r\n\r\n\r\n--b--", [b"one", b""]),
        (b"--b\r\n\r\none\r\n--bee is content\r\n--b--", [b"one\r\n--bee is content"]),
        (b"--b--", []),
    ],
)
def test_what_others_write(body: bytes, contents: list[bytes]) -> None:
    """Preamble, epilogue, blanks behind a boundary, a longer word that begins as one, nothing at all."""
    assert [part.content for part in multipart.take_apart(body, "multipart/related; boundary=b")] == contents


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "multipart/related; boundary=b"),
        (b"--b\r\n\r\none", "multipart/related; boundary=b"),
        (b"--b\r\nA: 1\r\n--b--", "multipart/related; boundary=b"),
        (b"--b\r\nno colon\r\n\r\nx\r\n--b--", "multipart/related; boundary=b"),
        (b"--b\r\n\r\none\r\n--b--", "multipart/related"),
        (b"--b\r\n\r\none\r\n--b--", 'multipart/related; boundary=""'),
        (b"--b\r\n\r\none\r\n--b--", f"multipart/related; boundary={'b' * 71}"),
        (b"--b\r\n\r\n1\r\n" * (multipart.PARTS_MAX + 1) + b"--b--", "multipart/related; boundary=b"),
    ],
)
def test_what_is_broken_is_refused(body: bytes, content_type: str) -> None:
    """No end, no headers' end, no boundary, too many parts: one code."""
    with pytest.raises(RequestError) as refused:
        multipart.take_apart(body, content_type)
    assert refused.value.code == "invalid_multipart"


@given(st.binary(max_size=300), st.text(max_size=40))
def test_noise_is_parts_or_a_refusal(body: bytes, content_type: str) -> None:
    """Whatever is sent: never anything but parts or a refusal."""
    with suppress(RequestError):
        assert isinstance(multipart.take_apart(body, "multipart/related; boundary=" + content_type), list)
