"""Damaged files through all that reads whole datasets, for metadata, copies and pictures: nothing but verdicts."""

from __future__ import annotations

import json
import random
import warnings
from collections import Counter
from collections.abc import Callable

import pytest

from heavylift.dicom.deidentify import deidentify
from heavylift.dicom.header import Header
from heavylift.dicom.json_model import json_model
from heavylift.dicom.pictures import dataset_of, draw, read_picture
from heavylift.errors import ContentError, RequestError
from heavylift.ranges import Fetch, drive
from tests.heavylift.dicom.made import header_of
from tests.heavylift.dicom.test_agreement import mutant, small_files, time_limit

MUTANTS = 500
MUTANTS_FULL = 20_000


def describe(header: Header, fetch: Fetch) -> None:
    json.dumps(json_model(drive(dataset_of(header), fetch), lambda _: "elsewhere"), allow_nan=False)


def copy(header: Header, fetch: Fetch) -> None:
    drive(deidentify(header, b"key"), fetch)


def show(header: Header, fetch: Fetch) -> None:
    draw(drive(read_picture(header, 1, 64 << 20), fetch))


WORKS: tuple[Callable[[Header, Fetch], None], ...] = (describe, copy, show)


def check(count: int) -> Counter[str]:
    seeds, outcomes = small_files(), Counter[str]()
    for number in range(count):
        data = mutant(seeds, random.Random(f"more {number}"))
        try:
            header = header_of(data, to_pixel_data=True)
        except ContentError:
            continue
        for work in WORKS:
            try:
                with time_limit():
                    work(header, lambda offset, length: data[offset : offset + length])  # noqa: B023 - called at once
                outcomes[f"{work.__name__} done"] += 1
            except (ContentError, RequestError) as error:
                outcomes[f"{work.__name__} {error.code}"] += 1
            except BaseException as error:
                error.add_note(f"{work.__name__}, number {number}")
                raise
    return outcomes


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_end_in_words() -> None:
    """Whatever is broken in header or frame; most headers with UIDs can still be described."""
    outcomes = check(MUTANTS)

    assert outcomes["describe done"] > 0.15 * MUTANTS
    assert outcomes["copy done"] > 0.15 * MUTANTS
    assert outcomes["show done"] > 0.05 * MUTANTS


@pytest.mark.full
@pytest.mark.timeout(7_200)
def test_many_damaged_files_end_in_words() -> None:
    """The same in full."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes = check(MUTANTS_FULL)

    assert outcomes["describe done"] > 0.15 * MUTANTS_FULL
