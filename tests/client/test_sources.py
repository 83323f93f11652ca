from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_client.errors import SourceChanged, SourceError, Stopped
from heavylift_client.plan import Part
from heavylift_client.sources import Declared, clean, item_of, label, look, part_sha256

SURROGATES = st.text(st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF) | st.characters(), max_size=20)


@given(st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_any_file_name_becomes_text(name: bytes) -> None:
    """Every name that a file system allows is text that JSON and UTF-8 carry."""
    text = item_of(b"/some/where/" + name).name

    assert text == name.decode("utf-8", "replace")
    assert json.loads(json.dumps(text).encode()) == text
    assert label(os.fsdecode(name)) == text


@given(SURROGATES)
def test_any_text_of_the_command_line_is_cleaned(text: str) -> None:
    """Values with surrogates, as Python makes them of odd bytes, can be sent; the others stay as they are."""
    cleaned = clean({text: [text, 1, None]})

    json.dumps(cleaned, ensure_ascii=False).encode("utf-8")
    if text.isprintable():
        assert cleaned == {text: [text, 1, None]}


def test_only_what_was_declared_is_sent() -> None:
    """Nothing said, nothing sent."""
    assert Declared().entry() == {}
    assert Declared(kind="image", metadata={"a": 1}).entry() == {"kind": "image", "metadata": {"a": 1}}


@given(st.integers(0, 3_000_000), st.integers(0, 3_000_000))
def test_the_digest_of_a_part(tmp_path_factory: pytest.TempPathFactory, offset: int, size: int) -> None:
    """Base64 SHA-256 of exactly these bytes; a part that the file does not have is an error."""
    path = tmp_path_factory.getbasetemp() / "digest"
    if not path.exists():
        path.write_bytes(bytes(n % 251 for n in range(3_000_000)))
    source = look(str(path))
    stop = threading.Event()
    if offset + size > 3_000_000 and size:
        with pytest.raises(SourceChanged):
            part_sha256(source, Part(1, offset, size), stop)
        return
    expected = base64.b64encode(hashlib.sha256(path.read_bytes()[offset : offset + size]).digest()).decode()

    assert expected == part_sha256(source, Part(1, offset, size), stop)


def test_hashing_can_be_stopped(make_file: Callable[..., Path]) -> None:
    """Before the next MiB."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        part_sha256(look(str(make_file(100))), Part(1, 0, 100), stop)


@pytest.mark.parametrize("path", ["/nonexistent", "/", "/dev/null", "a\0b"])
def test_what_cannot_be_uploaded(path: str) -> None:
    """Absent, a folder, a device, a name that no file can have."""
    with pytest.raises(SourceError):
        look(path)
