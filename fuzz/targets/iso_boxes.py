"""Boxes of ISO base media files: HEIC, AVIF, CR3 and JPEG 2000."""

from __future__ import annotations

from fuzz.reading import read
from heavylift.image.headers import READERS
from heavylift.image.heif import read_heif_picture
from heavylift.raw.boxes import BOXES_ALL_MAX, read_cr3
from heavylift.raw.model import PREVIEWS_MAX


def one(data: bytes) -> None:
    size = len(data)
    if not size:
        return
    picture = read(read_heif_picture(size), data)
    if picture is not None:
        assert 1 <= picture.orientation <= 8, picture
        assert picture.tiles >= 1, picture
        assert picture.width >= 0, picture
        assert picture.height >= 0, picture
    structure = read(read_cr3(size), data, reads_max=8 * BOXES_ALL_MAX)
    if structure is not None:
        assert len(structure.previews) <= PREVIEWS_MAX, structure
    for name in ("AVIF", "HEIC", "JP2"):
        header = read(READERS[name](size), data)
        assert header is None or (header.width >= 0 and header.height >= 0), header
