"""Archived names: every system can unpack them, no two meet, and nobody's name takes long."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heavylift.archives.names import PATH_BYTES_MAX, SEGMENT_BYTES_MAX, Names, clean, label, segment

DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)", re.IGNORECASE)
NASTY = [
    "../../etc/passwd", "/etc/passwd", "C:\\Windows\\x", "a//b", "./a", "a/.", "..", "", "/", "...", " ", "a. ", "CON",
    "con.txt", "Aux .tar.gz", "lpt¹", "a\x00b", "a\nb", "a\u202eb", "a\u200db", "é", "é", "ﬁ", "İ", "ß", "SS", "ss",
    "Σ", "ς", "d", "d/e", "D/E", "d (2)", "x" * 300, "x" * 300 + ".jpeg", "é" * 200, "a/" * 200 + "z", "\ud800",
    "\U000e0001", "a\u2028b", "\ufffe\ufdd0", "\U0003ffff", "\ue000", "\U000fab00",
]  # fmt: skip

texts = st.one_of(
    st.text(max_size=10), st.sampled_from(NASTY), st.from_regex(r"[aA]{1,2}(/[bB]{1,2})?", fullmatch=True)
)


def named(names: list[str], **how: bool) -> list[str]:
    naming = Names(**how)
    for name in names:
        naming.announce(name)
    return [naming.archived(name) for name in names]


def fold(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


@given(st.lists(texts, max_size=12), st.booleans())
@example(NASTY, False)
@example(["d/e", "d", "D (2)", "d (2)/x"], False)
def test_names_are_safe_and_differ(names: list[str], no_percent: bool) -> None:
    """Relative, NFC, without what any system refuses; no two equal where case does not count; no file is a folder."""
    made = named(names, no_percent=no_percent)
    folds = [fold(name) for name in made]
    folders = {"/".join(one.split("/")[:count]) for one in folds for count in range(1, one.count("/") + 1)}

    assert len(set(folds)) == len(folds)
    assert not folders & set(folds)
    for name in made:
        assert unicodedata.is_normalized("NFC", name)
        assert not re.search(r'[\\<>:"|?*\x00-\x1f\x7f]', name)
        assert not no_percent or "%" not in name
        for step in name.split("/"):
            assert step not in {"", ".", ".."}
            assert step == step.rstrip(" .")
            assert len(step.encode()) <= SEGMENT_BYTES_MAX
            assert not DEVICES.fullmatch(step.split(".")[0].rstrip(" "))
            assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in step)
    assert named(names, no_percent=no_percent) == made


@given(st.lists(texts, min_size=1, max_size=8))
def test_a_clean_name_stays(names: list[str]) -> None:
    """What was archived once is archived under the same name again."""
    made = named(names)

    assert named(made) == made


@pytest.mark.parametrize(
    ("name", "archived"),
    [
        ("scan_1.tif", "scan_1.tif"),
        ("a/b.tif", "a/b.tif"),
        ("a\\b.tif", "a/b.tif"),
        ("../../etc/passwd", "etc/passwd"),
        ("C:\\x", "C_/x"),
        ("NUL.txt", "_NUL.txt"),
        ("a\x07b\u202ec.tif", "abc.tif"),
        ("é.tif", "é.tif"),
        ("what?.tif", "what_.tif"),
        ("name. . ", "name"),
        ("", "unnamed"),
        ("..", "unnamed"),
        (".hidden", ".hidden"),
        ("a\u2028\ufffeb.tif", "ab.tif"),
        ("\ue000 \U0001fae9.tif", "\ue000 \U0001fae9.tif"),
    ],
)
def test_what_becomes_of_a_name(name: str, archived: str) -> None:
    """Cleaned, never followed."""
    assert named([name]) == [archived]


def test_collisions_are_counted_before_the_extension() -> None:
    """Where case does not count; a file yields to a folder of its name, whichever comes first."""
    assert named(["a.tif", "A.tif", "a.tif", "a (2).tif"]) == ["a.tif", "A (2).tif", "a (3).tif", "a (2) (2).tif"]
    assert named(["d", "d/e", "D"]) == ["d (2)", "d/e", "D (3)"]
    long = "x" * 300 + ".tif"
    assert [len(name) for name in named([long, long])] == [255, 255]
    assert named([long, long])[1].endswith(" (2).tif")


def test_many_equal_names_take_no_longer() -> None:
    """Each is named in its turn: five thousand of them are counted through, not searched through."""
    made = named(["same.tif"] * 5_000)

    assert made[-1] == "same (5000).tif"
    assert len(set(made)) == 5_000


def test_a_reserved_name_is_ours() -> None:
    """A file of the same name yields."""
    naming = Names()
    naming.announce("scan_mets.xml")
    naming.reserve("scan_mets.xml")

    assert naming.archived("SCAN_mets.xml") == "SCAN_mets (2).xml"


def test_a_path_has_an_end() -> None:
    """Of a very long one the end stays."""
    steps = clean("/".join(["folder" * 40] * 500 + ["scan.tif"]))

    assert len("/".join(steps).encode()) <= PATH_BYTES_MAX
    assert steps[-1] == "scan.tif"


@given(texts)
def test_a_label_is_one_step(text: str) -> None:
    """It stands at the front of others' names."""
    made = label(text)

    assert made
    assert segment(made) == made
    assert not re.search(r"[/\\%]", made)
    assert len(made.encode()) <= 200
