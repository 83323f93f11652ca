"""Previews inside camera RAW files: every maker's directories, notes and boxes, and the choice among what is found."""

from __future__ import annotations

from dataclasses import replace

from fuzz.reading import read
from heavylift.raw.jpeg import read_frame
from heavylift.raw.model import JPEG, NOTES_MAX, PREVIEWS_MAX
from heavylift.raw.ranking import choose
from heavylift.raw.reading import READ_FORMATS, check_sound, read_raw
from heavylift.sniff import detect, detection

FORMATS = sorted(READ_FORMATS)


def one(data: bytes) -> None:
    size = len(data)
    if not size:
        return
    found = read(detect(size), data)
    assert found is not None
    # What the content is taken for, and one format that it is not.
    for name in {found.format, FORMATS[data[-1] % len(FORMATS)]} & READ_FORMATS:
        structure = read(read_raw(detection(name), size), data)
        if structure is None:
            continue
        facts = structure.facts
        assert facts.width >= 0, facts
        assert facts.height >= 0, facts
        assert 1 <= facts.orientation <= 8, facts
        assert len(structure.previews) <= PREVIEWS_MAX, structure
        assert len(structure.notes) <= NOTES_MAX, structure
        read(check_sound(structure, size), data)
        left = list(structure.previews)
        for _ in range(3 * PREVIEWS_MAX):  # each is looked at once, then dropped or decoded
            preview = choose(left, 1200)
            if preview is None:
                break
            at = left.index(preview)
            header = None if preview.checked else read(read_frame(preview.offset, preview.length, size), data)
            if preview.coding == JPEG and header is not None:
                left[at] = replace(preview, width=header.width, height=header.height, checked=True)
            else:
                del left[at]
        assert not left, "the choice among previews has no end"
