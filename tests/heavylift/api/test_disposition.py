"""Content-Disposition: any name makes a header that says one thing to every browser."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.api.disposition import NAME_BYTES_MAX, content_disposition, safe_name
from tests.doubles.bodies import names


@given(names)
def test_any_name_is_a_safe_header(name: str) -> None:
    """One line of ASCII, quotes closed, no path, nothing hidden; both forms name the same file."""
    header = content_disposition(name)
    matched = re.fullmatch(r"attachment; filename=\"([ -~]*)\"; filename\*=UTF-8''([A-Za-z0-9_.~%-]*)", header)

    assert matched is not None
    plain, encoded = matched[1], unquote(matched[2])
    assert '"' not in plain
    assert "\\" not in plain
    assert len(plain) == len(encoded)
    assert encoded == safe_name(name)
    assert "/" not in encoded
    assert encoded not in {"", ".", ".."}
    assert len(encoded.encode()) <= NAME_BYTES_MAX
    assert not any(ord(c) < 32 or ord(c) == 127 for c in encoded)


@given(st.text(max_size=300))
def test_a_safe_name_is_safe_already(name: str) -> None:
    """Cleaning twice changes nothing more, but for a cut in the middle of white space or dots."""
    once = safe_name(name)

    assert safe_name(once) in {once, once.strip(" .") or "file"}


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.tif", "a.tif"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.tif", "y.tif"),
        ("a\r\nSet-Cookie: b.tif", "aSet-Cookie: b.tif"),
        ("re\u202egnp.exe", "regnp.exe"),
        ("...", "file"),
        ("x" * 5_000 + ".tif", "x" * 176 + ".tif"),
        ("\U0001f4f7" * 100, "\U0001f4f7" * 45),
        ("snow ☃.tif", "snow ☃.tif"),
    ],
)
def test_names(name: str, safe: str) -> None:
    """The last part of a path; of a long name the end, whole characters only."""
    assert safe_name(name) == safe


def test_only_pictures_and_pdfs_may_be_shown_in_place() -> None:
    """Nothing that a browser would run is ever inline."""
    from heavylift.api.sessions import INLINE_TYPES
    from heavylift.limits import REFUSED_MEDIA_TYPES

    assert not INLINE_TYPES & REFUSED_MEDIA_TYPES
    assert not any(kind.startswith("text/") or "svg" in kind or "xml" in kind for kind in INLINE_TYPES)
    assert content_disposition("a.png", inline=True).startswith("inline; ")
