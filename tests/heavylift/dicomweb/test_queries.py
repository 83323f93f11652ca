"""Search parameters: what is read of them, what matches; pydicom's dictionary and plain Python as judges."""

from __future__ import annotations

import fnmatch
import re
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_keyword

from heavylift.dicom import studies
from heavylift.dicomweb import queries
from heavylift.dicomweb.queries import LEVELS, Query, date_range, filter_of, parse, time_range
from heavylift.errors import RequestError

KNOWN = {level: queries.SHOWN[level] | queries.ADDED[level] for level in LEVELS}
days = st.dates(min_value=date(1000, 1, 1)).map(lambda day: f"{day:%Y%m%d}")
letters = st.text("abAB*?^", max_size=6)


def query(level: str = "study", **parameters: str) -> Query:
    return parse(level, {name: [value] for name, value in parameters.items()})


def result(tag: str, vr: str, *values: Any) -> dict[str, Any]:
    return {tag: {"vr": vr, "Value": list(values)}}


@given(st.sampled_from(sorted(KNOWN["study"])), st.booleans())
def test_keywords_and_tags_are_the_same(tag: str, lower: bool) -> None:
    """Of every attribute of the index; a tag in either case."""
    by_tag = parse("study", {tag.lower() if lower else tag: ["1"]}) if tag not in _DATED else None
    by_keyword = parse("study", {dictionary_keyword(int(tag, 16)): ["1"]}) if tag not in _DATED else None
    assert (by_tag is None) or [one.tag for one in by_tag.matches] == [one.tag for one in by_keyword.matches] == [tag]  # type: ignore[union-attr]


_DATED = {"00080020", "00080030", "00100030", "00201206", "00201208"}


@given(st.text("ab*?", max_size=7), st.text("abAB", max_size=8))
def test_wildcards_are_those_of_the_shell(pattern: str, text: str) -> None:
    """For text, with case; ``?`` is one letter, ``*`` any number."""
    assert studies.fits(pattern, text) == bool(re.fullmatch(fnmatch.translate(pattern), text))


@given(letters, st.lists(st.text("abAB^", max_size=5), min_size=1, max_size=3))
def test_names_fit_by_any_group(pattern: str, groups: list[str]) -> None:
    """Without case and trailing carets."""
    found = query(PatientName=pattern)
    names = dict(zip(("Alphabetic", "Ideographic", "Phonetic"), groups, strict=False))
    wanted = [one.rstrip("^") for one in (*groups, "=".join(groups))]
    plain = re.compile(fnmatch.translate((pattern.rstrip("^ ") or pattern).lower()))
    expected = any(plain.match(one.lower()) for one in wanted)
    assert found.holds(result("00100010", "PN", names)) == (expected or pattern in ("", "*"))


@given(days, days, days)
def test_dates_are_ranges(low: str, high: str, day: str) -> None:
    """Both ends included; one day is a range of one."""
    found = result("00080020", "DA", day)
    assert query(StudyDate=f"{low}-{high}").holds(found) == (low <= day <= high)
    assert query(StudyDate=f"{low}-").holds(found) == (low <= day)
    assert query(StudyDate=f"-{high}").holds(found) == (day <= high)
    assert query(StudyDate=low).holds(found) == (low == day)


@given(st.times(), st.times(), st.times(), st.sampled_from([2, 4, 6, 13]))
def test_times_are_ranges_of_any_precision(one: Any, other: Any, moment: Any, precision: int) -> None:
    """A time of less precision is all of its hour, minute or second."""
    low, high, found = (f"{time:%H%M%S}.{time.microsecond:06d}" for time in (one, other, moment))
    wanted = query(StudyTime=f"{low[:precision]}-{high[:precision]}")
    expected = low[:precision] <= found[:precision] <= high[:precision]
    assert wanted.holds(result("00080030", "TM", found)) == expected
    assert query(StudyTime=low[:precision]).holds(result("00080030", "TM", found)) == (
        low[:precision] == found[:precision]
    )


@pytest.mark.parametrize("text", ["", "-", "2024", "20240101-x", "20240101-20240102-20240103", "2024010１"])
def test_what_is_no_date_is_refused(text: str) -> None:
    """By the one code."""
    with pytest.raises(RequestError) as refused:
        date_range(text)
    assert refused.value.code == "invalid_query"


@pytest.mark.parametrize("text", ["", "-", "24", "1", "1060", "10:11", "101112.", "10-25"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """By the same."""
    with pytest.raises(RequestError):
        time_range(text)


def test_a_value_that_is_absent_or_odd_matches_nothing() -> None:
    """But an empty value asks for nothing."""
    for wanted in (query(StudyDate="20240101-"), query(StudyTime="10"), query(PatientID="*x"), query(PatientName="a")):
        assert not wanted.holds({})
    assert not query(StudyDate="20240101-").holds(result("00080020", "DA", "2024.01.31"))
    assert query(StudyDate="", PatientID="*").holds({})


names = st.text(max_size=12) | st.sampled_from(["limit", "offset", "includefield", "PatientName", "00080020"])
lists_of_values = st.lists(st.text(max_size=12), min_size=1, max_size=3)


@given(st.dictionaries(names, lists_of_values, max_size=4), st.sampled_from(LEVELS))
def test_anything_is_a_query_or_a_refusal(parameters: dict[str, list[str]], level: str) -> None:
    """Never anything else, and nothing that a caller wrote is in what is said of it."""
    try:
        found = parse(level, parameters)
    except RequestError as error:
        assert error.code == "invalid_query"  # noqa: PT017 - both ends are what is promised
    else:
        assert all(text.isprintable() and text.isascii() for text in found.warnings)


@given(st.lists(st.sampled_from(["1.2", "1.3", "1.4"]), min_size=1, max_size=5), st.sampled_from(["\\", ",", None]))
def test_lists_of_uids(uids: list[str], mark: str | None) -> None:
    """By comma, backslash, or repeated."""
    given = {"StudyInstanceUID": uids if mark is None else [mark.join(uids)]}
    found = parse("study", given)
    assert [uid for uid in ("1.2", "1.3", "1.4", "1.5") if found.holds(result("0020000D", "UI", uid))] == sorted(
        set(uids)
    )
    assert set(filter_of(found).study_uids) == set(uids)


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({"PatientID": "P*"}, {}),
        ({"PatientID": "P"}, {"patient_id": "P"}),
        ({"AccessionNumber": "A"}, {"accession_number": "A"}),
        ({"StudyDate": "20240101-"}, {"date_from": "20240101"}),
        ({"StudyDate": "-20240101"}, {"date_to": "20240101"}),
        ({"StudyDate": "20240101"}, {"date_from": "20240101", "date_to": "20240101"}),
        ({"ModalitiesInStudy": "CT"}, {"modality": "CT"}),
        ({"ModalitiesInStudy": "CT,MR"}, {}),
        ({"PatientName": "Doe*"}, {"patient_name": "Doe*"}),
        ({"PatientName": "Müller"}, {"patient_name": "Müller*"}),
        ({"PatientName": "山田*"}, {}),
        ({"PatientName": "A=B"}, {}),
    ],
)
def test_the_index_is_asked_for_what_it_can_tell(parameters: dict[str, str], wanted: dict[str, str]) -> None:
    """And never for less than what is meant: what it gives is looked at."""
    assert filter_of(query(**parameters)) == studies.Filter(**wanted)  # type: ignore[arg-type]
