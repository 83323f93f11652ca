"""The header reader and pydicom say the same about the index attributes, of real files and of damaged ones."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import signal
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pydicom
import pytest
from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from heavylift.dicom.header import FRAGMENTS_ASKED_MAX, INDEX_TAGS, RANGES_MAX, Elements, read_elements, scan, texts_of
from heavylift.errors import ContentError
from heavylift.ranges import drive
from tests.heavylift.dicom.made import header_of, real_files

MUTANTS = 400
MUTANTS_FULL = 50_000
SECONDS_MAX = 10  # of one input, on however busy a machine
TAGS = [Tag(tag) for tag in INDEX_TAGS]
BLANKS = "".join(map(chr, range(33))) + "\x85\xa0"  # pydicom takes all of them for blanks around a value
UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True)
class Difference:
    """What the two say of an attribute."""

    tag: int
    ours: str
    theirs: str


@pytest.fixture(autouse=True)
def _quiet_pydicom() -> Iterator[None]:
    """It tells of each oddity; here they are the rule."""
    mode = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    config.settings.reading_validation_mode = mode


def theirs(data: bytes) -> Dataset | None:
    """What pydicom reads; None where it does not. Anything may come out of it for damaged files."""
    try:
        return pydicom.dcmread(
            io.BytesIO(data), stop_before_pixels=True, specific_tags=[Tag(tag) for tag in INDEX_TAGS]
        )
    except (Exception, RecursionError):  # noqa: BLE001 - the judge's own failures are not judged
        return None


def value_of(dataset: Dataset, tag: int) -> str | None:
    """The value as text; '' where absent; None where pydicom itself cannot tell."""
    try:
        if tag not in dataset:
            return ""
        element = dataset[tag]
        if dictionary_VR(tag) != element.VR:  # damaged: what the value is, is anybody's guess
            return None
        value = element.value
    except Exception:  # noqa: BLE001 - the judge's own failures are not judged
        return None
    if value is None:
        return ""
    if isinstance(value, bytes):
        return None
    if isinstance(value, MultiValue | list):
        return "\\".join(str(part).strip(BLANKS) for part in value)
    text = str(value).strip(BLANKS)
    return text.rstrip("=") if element.VR == "PN" else text


def elements_of(data: bytes) -> Elements:
    return drive(read_elements(len(data)), lambda offset, length: data[offset : offset + length])


def our_value(tag: int, values: dict[int, bytes], texts: dict[int, str], little: bool) -> str:
    if dictionary_VR(tag) == "US":
        raw = values.get(tag, b"")
        parts = [int.from_bytes(raw[at : at + 2], "little" if little else "big") for at in range(0, len(raw), 2)]
        return "\\".join(map(str, parts))
    text = texts[tag] if tag in texts else values.get(tag, b"").decode("latin-1").strip(" \0")
    if dictionary_VR(tag) == "PN":
        text = text.rstrip("=")
    return "\\".join(part.strip(BLANKS) for part in text.split("\\"))


def differences(elements: Elements, dataset: Dataset) -> list[Difference]:
    """Where the two say different things about an index attribute."""
    found = []
    values = elements.walked.values
    texts = texts_of(values, set())
    for tag in sorted(INDEX_TAGS):
        said = value_of(dataset, tag)
        if said is None:
            continue
        own = our_value(tag, values, texts, elements.encoding.little)
        if dictionary_VR(tag) in ("IS", "DS") and not own.isascii():  # no number, however it is spelled out
            continue
        if dictionary_VR(tag) in ("IS", "DS", "PN"):
            same = "".join(own.split()) == "".join(said.split())
        else:
            same = own == said
        if not same:
            found.append(Difference(tag, own, said))
    return found


FILES = real_files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_files_are_read_alike(path: Path) -> None:
    """Each file of pydicom's own tests: the same values, or a verdict that pydicom's silence bears out."""
    data = path.read_bytes()
    dataset = theirs(data)
    assert dataset is not None
    try:
        header_of(data)
        code = "whole"
    except ContentError as error:
        code = error.code

    assert code in {"whole", "stray", "missing_uid", "truncated"}
    if code == "missing_uid":
        assert not all(dataset.get(name) for name in UIDS)
    assert differences(elements_of(data), dataset) == []


def reason(data: bytes, elements: Elements, found: list[Difference]) -> str | None:
    """Which of the reasons in docs/dicom.md explains the differences; None: none does."""
    walked, start = elements.walked, elements.start
    if walked.truncated and len(found) == 1:
        return "cut_value"
    lost = all(difference.theirs == "" for difference in found)
    if "stray_delimiter" in start.warnings or (lost and ITEM_DELIMITERS[elements.encoding.little] in data):
        return "stray_delimiter"
    if "meta_without_vr" in start.warnings:
        return "damaged_meta"
    if walked.warnings & {"unknown_vr", "implicit_within_explicit", "value_undefined"}:
        return "damaged_vr"
    if not elements.encoding.little and start.transfer_syntax_uid != "1.2.840.10008.1.2.2":
        return "byte_order"
    return None


ITEM_DELIMITERS = {True: b"\xfe\xff\x0d\xe0", False: b"\xff\xfe\xe0\x0d"}


def small_files() -> list[bytes]:
    """One of each kind; DICOMDIRs have no index attributes."""
    found = {}
    for path in FILES:
        data = path.read_bytes()
        if len(data) < 100_000 and path.parent.name != "dicomdirtests" and b"1.2.840.10008.1.3.10\0" not in data[:600]:
            found.setdefault((len(data), data[:400]), data)
    return list(found.values())


def mutant(seeds: list[bytes], chance: random.Random) -> bytes:
    """A file with one to three damages, nearly always in its header and behind its preamble."""
    data = bytearray(chance.choice(seeds))
    reach = len(data) if chance.random() < 0.1 else min(len(data), 4096)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(0 if chance.random() < 0.03 else 128, max(129, reach))
        length = chance.choice((1, 2, 8, 64))
        match chance.randrange(8):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                data[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", bytes(4), b"\xff\xff\0\0", chance.randbytes(4)))
            case 2:
                data[at : at + 2] = chance.randbytes(2)
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                data[at:at] = chance.choice(MARKS)
            case 6:
                data[at : at + 1] = bytes([data[at] ^ 1 << chance.randrange(8)]) if at < len(data) else b""
            case _:
                if chance.random() < 0.3:
                    del data[at:]
    return bytes(data)


MARKS = (
    b"\xfe\xff\0\xe0\xff\xff\xff\xff",
    b"\xfe\xff\0\xe0\x08\0\0\0",
    b"\xfe\xff\xdd\xe0\0\0\0\0",
    b"\xfe\xff\x0d\xe0\0\0\0\0",
)


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """An input that takes longer is a hang."""

    def out_of_time(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("one input took too long")

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_mutant(data: bytes) -> str:
    """What came of it. Nothing but a header or a ContentError comes out; bytes and ranges stay within the budget."""
    asked: list[int] = []

    def fetch(offset: int, length: int) -> bytes:
        assert 0 <= offset <= len(data)
        assert length > 0
        asked.append(length)
        return data[offset : offset + length]

    with time_limit(), contextlib.suppress(ContentError):
        scan(fetch, len(data))
    assert len(asked) <= 1 + 2 * RANGES_MAX + 1 + FRAGMENTS_ASKED_MAX
    try:
        elements = elements_of(data)
    except ContentError as error:
        return error.code
    dataset = theirs(data)
    if not dataset:
        return "pydicom reads nothing"
    found = differences(elements, dataset)
    if not found:
        return "agree"
    explained = reason(data, elements, found)
    assert explained is not None, found
    return explained


def check_mutants(seed: str, count: int) -> Counter[str]:
    seeds = small_files()
    assert len(seeds) > 80
    outcomes: Counter[str] = Counter()
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        data = mutant(seeds, chance)
        try:
            outcomes[check_mutant(data)] += 1
        except BaseException as error:
            error.add_note(f"seed {seed!r}, number {number}")
            raise
    return outcomes


def test_damaged_files_are_read_alike() -> None:
    """Seeded mutants of real files: wherever pydicom reads, the same values, or a reason that is documented."""
    outcomes = check_mutants("few", MUTANTS)

    assert outcomes["agree"] > 0.6 * MUTANTS


@pytest.mark.full
@pytest.mark.timeout(7_200)
def test_many_damaged_files_are_read_alike() -> None:
    """The same in full."""
    outcomes = check_mutants("many", MUTANTS_FULL)
    print(dict(outcomes))

    assert outcomes["agree"] > 0.6 * MUTANTS_FULL
    assert sum(outcomes[name] for name in ("stray_delimiter", "damaged_meta", "damaged_vr", "byte_order")) < 500
