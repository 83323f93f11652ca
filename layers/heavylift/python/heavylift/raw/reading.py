"""One entry for all RAW formats: structure, facts, soundness. No I/O here."""

from __future__ import annotations

from typing import Final

from heavylift.errors import ContentError
from heavylift.image.facts import TIFF_RAW_FORMATS
from heavylift.ranges import Reader
from heavylift.raw.boxes import read_cr3
from heavylift.raw.directories import check_sensor, read_tiff_raw
from heavylift.raw.model import RawFacts, RawStructure
from heavylift.raw.raf import read_raf
from heavylift.sniff import Detection

# Whose structure is known here; of the others (CRW, X3F, MRW) only LibRaw knows anything.
READ_FORMATS: Final = TIFF_RAW_FORMATS | {"CR3", "RAF"}


def unknown(format_name: str) -> RawStructure:
    """The structure of a file that tells nothing."""
    return RawStructure(RawFacts(0, 0, "", 0, format_name, None, None, 1, 0), ())


def read_raw(detection: Detection, size_bytes: int) -> Reader[RawStructure]:
    """What a RAW file holds: run it behind ``ReadAhead``. ContentError where its first structure is broken."""
    if size_bytes == 0:
        raise ContentError("empty_file", "the file is empty", size_bytes=0)
    if detection.format in TIFF_RAW_FORMATS:
        return (yield from read_tiff_raw(detection.format, size_bytes))
    if detection.format == "CR3":
        return (yield from read_cr3(size_bytes))
    if detection.format == "RAF":
        return (yield from read_raf(size_bytes))
    return unknown(detection.format)


def inspect_raw(detection: Detection, size_bytes: int) -> Reader[RawFacts]:
    """A RAW file's facts, and the proof that its sensor data lie inside it.

    ContentError ``empty_file``, ``truncated``, ``corrupt``, ``limit_exceeded``. Memory: of TIFF-based files 4 to 16
    bytes a strip or tile.
    """
    structure = yield from read_raw(detection, size_bytes)
    yield from check_sound(structure, size_bytes)
    return structure.facts


def check_sound(structure: RawStructure, size_bytes: int) -> Reader[None]:
    """ContentError ``truncated`` where the sensor data reach beyond the file."""
    if structure.sensor is not None:
        yield from check_sensor(structure.facts.format, structure.sensor, size_bytes)
    for part in structure.data:
        if part.end > size_bytes:
            raise ContentError(
                "truncated",
                f"the sensor data end at {part.end}, the file at {size_bytes}",
                data_end=part.end,
                size_bytes=size_bytes,
            )
