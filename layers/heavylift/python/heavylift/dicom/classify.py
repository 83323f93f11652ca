"""What lies in folders beside DICOM files, told by content. No I/O.

Facts: .DS_Store is a buddy allocator's file (magic ``Bud1`` at 4); Thumbs.db is a compound file (MS-CFB 2.2); the
sniffer knows the rest. A DICOMDIR is told by its class in the file meta information (PS3.3 annex F).
"""

from __future__ import annotations

from typing import Final

from heavylift.sniff_text import sniff_text

_COMPOUND: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_THUMBS_STREAMS: Final = ("Catalog".encode("utf-16-le"), "256_".encode("utf-16-le"), "96_".encode("utf-16-le"))
_SIGNATURES: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\x00\x00\x00\x01Bud1", "ds_store"),
    (0, b"\x00\x05\x16\x07", "apple_double"),  # "._name", what macOS writes beside files on foreign disks
    (0, b"\x4c\x00\x00\x00\x01\x14\x02\x00", "windows_link"),
    (0, b"CMMM", "windows_thumbnail_cache"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"GIF8", "gif"),
    (0, b"BM", "bmp"),
    (0, b"%PDF-", "pdf"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"MZ", "executable"),
    (0, b"\x7fELF", "executable"),
    (0, b"SQLite format 3\x00", "sqlite"),
)


def stray_kind(head: bytes) -> str | None:
    """What a file that is not DICOM is, from its first bytes; None where nothing recognises it.

    ``ds_store``, ``thumbs_db``, ``apple_double``, ``windows_link``, ``jpeg``, ``png``, ``pdf``, ``zip``,
    ``executable``, ``text``, ``zeros`` and so on.
    """
    for offset, magic, kind in _SIGNATURES:
        if head.startswith(magic, offset):
            return kind
    if head.startswith(_COMPOUND):
        return "thumbs_db" if any(name in head for name in _THUMBS_STREAMS) else "compound_file"
    if not head.strip(b"\0"):
        return "zeros"
    return "text" if sniff_text(head, more=True) is not None else None


# What a preamble of 128 bytes may hide: the file is then valid as two things at once (CVE-2019-11687).
_PREAMBLES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"MZ", "pe"),
    (b"\x7fELF", "elf"),
    (b"\xca\xfe\xba\xbe", "mach_o"),
    (b"\xfe\xed\xfa", "mach_o"),
    (b"\xce\xfa\xed\xfe", "mach_o"),
    (b"\xcf\xfa\xed\xfe", "mach_o"),
    (b"#!", "script"),
    (b"%PDF", "pdf"),
    (b"PK\x03\x04", "zip"),
    (b"<", "markup"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
)
_ZEROS: Final = bytes(128)
DANGEROUS_PREAMBLES: Final = frozenset({"pe", "elf", "mach_o", "script", "pdf", "zip", "markup"})


def preamble_kind(preamble: bytes) -> str:
    """``zeros``, ``tiff`` (a second, harmless reading: PS3.10 7.1), one of DANGEROUS_PREAMBLES, or ``other``."""
    if preamble == _ZEROS or not preamble.strip(b"\0"):
        return "zeros"
    for magic, kind in _PREAMBLES:
        if preamble.startswith(magic):
            return kind
    return "other"
