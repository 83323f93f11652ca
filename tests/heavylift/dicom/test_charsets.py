"""Character sets: pydicom's tables, and its decoding of made and of arbitrary bytes."""

from __future__ import annotations

import codecs
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import charset

from heavylift.dicom.charsets import CODECS, ESCAPES, codecs_of, decode

TEXT_DELIMITERS = {0x0D, 0x0A, 0x09, 0x0C}
OURS_ALONE = {"ISO_IR 203", "ISO 2022 IR 203", "UTF-8", "UTF8"}  # Latin 9 came in 2022; UTF-8 is misspelt
ESCAPED = [
    "",
    "ISO 2022 IR 13",
    "ISO 2022 IR 87",
    "ISO 2022 IR 100",
    "ISO 2022 IR 144",
    "ISO 2022 IR 149",
    "ISO 2022 IR 159",
]


def theirs(value: bytes, terms: list[str]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return charset.decode_bytes(value, charset.convert_encodings(list(terms)), TEXT_DELIMITERS)


def test_the_terms_are_pydicoms() -> None:
    """Each with the same codec."""
    assert CODECS.keys() - OURS_ALONE == charset.python_encoding.keys()
    for term, codec in charset.python_encoding.items():
        assert codecs.lookup(CODECS[term]).name == codecs.lookup(codec).name, term


def test_the_escape_sequences_are_pydicoms() -> None:
    """Each switches to the same codec."""
    assert ESCAPES.keys() - {b"\x1b-b"} == charset.CODES_TO_ENCODINGS.keys()
    for escape, codec in charset.CODES_TO_ENCODINGS.items():
        assert codecs.lookup(ESCAPES[escape]).name == codecs.lookup(codec).name, escape


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        (["ISO_IR 100"], "Äneas^Rüdiger"),
        (["ISO_IR 101"], "Łódź"),
        (["ISO_IR 126"], "Διονυσιος"),
        (["ISO_IR 144"], "Люкceмбypг"),
        (["ISO_IR 166"], "นามสกุล"),
        (["ISO_IR 192"], "Wang^XiaoDong=王^小東"),
        (["GB18030"], "王^小东"),
        (["ISO_IR 13"], "ﾔﾏﾀﾞﾀﾛｳ"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 6", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        (["ISO 2022 IR 100", "ISO 2022 IR 144", "ISO 2022 IR 126"], "Dionysios is Διονυσιος, Lüx is Люкceмбypг"),
    ],
)
def test_what_pydicom_writes_is_read(terms: list[str], text: str) -> None:
    """Also with several sets in one value."""
    value = charset.encode_string(text, charset.convert_encodings(list(terms)))
    names, unknown = codecs_of("\\".join(terms).encode())

    assert decode(value, names) == text
    assert not unknown


@pytest.mark.parametrize(
    ("value", "first", "unknown"),
    [
        (b"ISO IR 100", "latin_1", False),
        (b"ISO-IR 144", "iso8859_5", False),
        (b"ISO_2022_IR_87", "iso2022_jp", False),
        (b"utf-8", "utf_8", False),
        (b"KLINGON", "iso8859", True),
        (b"ISO_IR 192\\ISO 2022 IR 87", "utf_8", True),
        (b"zlib_codec", "iso8859", True),
    ],
)
def test_misspelt_and_unknown_terms(value: bytes, first: str, unknown: bool) -> None:
    """What can be meant is understood; no other codec of Python's is ever used."""
    names, strange = codecs_of(value)

    assert (names[0], strange) == (first, unknown)


PIECES = st.sampled_from(
    [b"\x1b$B;3ED", b"\x1b(B", b"\x1b-L", b"\x1b$)C\xb1\xe8", b"\x1b(J", b"\x1b)I\xd4", b"^", b"=", b"\r\n", b"\x1b"]
)


@given(st.lists(st.one_of(PIECES, st.binary(max_size=6)), max_size=8).map(b"".join))
def test_any_bytes_are_read_as_pydicom_reads_them(value: bytes) -> None:
    """Whatever escape sequences they hold; nothing fails."""
    names, _ = codecs_of("\\".join(ESCAPED).encode())

    assert decode(value, names) == theirs(value, ESCAPED)
