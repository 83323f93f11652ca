"""What a walk through a RAW file finds. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from heavylift.image.facts import ImageFacts
from heavylift.ranges import Range
from heavylift.tiff.ifd import Ifd

PREVIEWS_MAX: Final = 32  # pictures looked at in one file; real files hold five
NOTES_MAX: Final = 32

JPEG: Final = "jpeg"  # a whole JPEG at ``offset``
STRIPS: Final = "strips"  # strips or tiles that ``ifd`` describes


@dataclass(frozen=True, slots=True)
class RawFacts(ImageFacts):
    """``width`` and ``height`` of the sensor data as stored, never of a preview; 0 where the file does not say.

    ``mode``: CFA, or RGB where the raw data have a colour in each pixel.
    """


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture inside the file. ``where`` in words; width and height 0 until its own header was read.

    ``orientation``: of its own directory, 0 where that says nothing. ``checked``: width and height are those of the
    JPEG itself.
    """

    coding: str
    where: str
    offset: int
    length: int
    width: int = 0
    height: int = 0
    orientation: int = 0
    ifd: Ifd | None = None
    checked: bool = False

    @property
    def long_side(self) -> int:
        return max(self.width, self.height)

    @property
    def range(self) -> Range:
        return Range(self.offset, self.length)


@dataclass(frozen=True, slots=True)
class RawStructure:
    """A RAW file's facts, its previews, where its sensor data are, and what could not be read on the way.

    ``orientation``: the camera's, 0 where only the previews know. ``sensor``: the directory of the sensor data of
    TIFF-based files. ``data``: ranges that must lie inside the file in the others.
    """

    facts: RawFacts
    previews: tuple[Preview, ...]
    orientation: int = 0
    sensor: Ifd | None = None
    data: tuple[Range, ...] = ()
    notes: tuple[str, ...] = ()
