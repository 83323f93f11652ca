"""Directories of TIFFs: the walk, the picture it is about, its levels, strips and tiles, captions and profile."""

from __future__ import annotations

from fuzz.reading import read
from heavylift.image.facts import read_tiff
from heavylift.sniff import detection
from heavylift.tiff.ifd import ENTRIES_MAX, IFDS_MAX
from heavylift.tiff.layout import choose_level, read_chunks, read_icc_profile


def one(data: bytes) -> None:
    size = len(data)
    if not size:
        return
    structure = read(read_tiff(detection("TIFF"), size), data)
    if structure is None:
        return
    facts, directories = structure.facts, structure.directories
    assert 0 < facts.width < 1 << 32, facts
    assert 0 < facts.height < 1 << 32, facts
    assert 1 <= facts.orientation <= 8, facts
    assert len(directories.pages) + len(directories.sub_ifds) <= IFDS_MAX, facts
    assert all(len(ifd.entries) <= ENTRIES_MAX for ifd in directories.pages)
    level = read(choose_level(structure.main, directories, 1200, size), data)
    if level is None:
        return
    chunks = read(read_chunks(level, size), data)
    if chunks is not None:
        assert all(
            offset + count <= size for offset, count in zip(chunks.offsets, chunks.counts, strict=True) if count
        ), "a chunk outside the file"
    read(read_icc_profile(level.ifd, size), data)
