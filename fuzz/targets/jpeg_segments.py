"""Segments of JPEGs, Exif blocks, and the headers of the other pictures."""

from __future__ import annotations

from fuzz.reading import read
from heavylift.image.exif import words_in
from heavylift.image.headers import READERS, SEGMENTS_MAX
from heavylift.raw.jpeg import SEGMENTS_LOOKED_AT, read_frame, read_jpeg_words, read_precision
from heavylift.sniff import detect


def one(data: bytes) -> None:
    size = len(data)
    words = words_in(data)
    assert 0 <= words.orientation <= 8, words
    if words.gps is not None:
        assert -90 <= words.gps["latitude"] <= 90, words
        assert -180 <= words.gps["longitude"] <= 180, words
    if not size:
        return
    for name, reader in READERS.items():
        header = read(reader(size), data, reads_max=4 * SEGMENTS_MAX)
        if header is not None:
            assert header.width >= 0, (name, header)
            assert header.height >= 0, (name, header)
            assert 1 <= header.orientation <= 8, (name, header)
    read(read_frame(0, size, size), data)
    read(read_jpeg_words(0, size), data, reads_max=64 + SEGMENTS_LOOKED_AT)
    read(read_precision(0, size), data, reads_max=SEGMENTS_LOOKED_AT)
    assert read(detect(size), data) is not None, "detection says something of anything"
