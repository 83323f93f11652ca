"""A package's METS document: its files with their checksums, and which document each belongs to. Pure, as a stream.

METS (Metadata Encoding and Transmission Standard, Library of Congress, version 1): ``fileSec`` names every file by a
relative URL, with size, type and digest, and its original name as the link's title; ``structMap`` has a division for
each document (logical id) with the files that belong to it in their order.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

NAMESPACES = (
    'xmlns="http://www.loc.gov/METS/" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:schemaLocation="http://www.loc.gov/METS/ http://www.loc.gov/standards/mets/mets.xsd"'
)
# What XML 1.0 cannot hold at all (production 2, "Char").
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def attribute(name: str, value: str) -> str:
    """`` name="value"``; tabs and line ends are kept as references, what XML cannot hold becomes U+FFFD."""
    return f" {name}={quoteattr(_NO_XML.sub(chr(0xFFFD), value))}"


def stamp(seconds: float) -> str:
    """xs:dateTime in UTC, whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def file_number(n: int) -> str:
    """The XML ID of the ``n``-th file."""
    return f"F{n + 1}"


def head(label: str, created_at: float) -> str:
    """From the beginning up to where the files stand."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<mets {NAMESPACES}{attribute('OBJID', label)}{attribute('LABEL', label)}>\n"
        f'  <metsHdr CREATEDATE="{stamp(created_at)}">\n'
        '    <agent ROLE="CREATOR" TYPE="OTHER" OTHERTYPE="SOFTWARE"><name>heavylift</name></agent>\n'
        "  </metsHdr>\n"
        "  <fileSec>\n"
        '    <fileGrp USE="original">\n'
    )


def file(
    n: int,
    *,
    href: str,
    original: str,
    size: int,
    created_at: float,
    media_type: str | None,
    sha256: str | None,
    crc32_hex: str | None,
) -> str:
    """One file. ``href``: its path from where the METS document lies; ``original``: the name it was given."""
    checksum = ("SHA-256", sha256) if sha256 else ("CRC32", crc32_hex) if crc32_hex else None
    return (
        f'      <file ID="{file_number(n)}" SIZE="{size}" CREATED="{stamp(created_at)}"'
        + (attribute("MIMETYPE", media_type) if media_type else "")
        + (f' CHECKSUM="{checksum[1]}" CHECKSUMTYPE="{checksum[0]}"' if checksum else "")
        + '><FLocat LOCTYPE="URL" xlink:type="simple"'
        + attribute("xlink:href", quote(href, safe="/"))
        + attribute("xlink:title", original)
        + "/></file>\n"
    )


class Documents:
    """Which document each file belongs to: four bytes a file."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._of = array("I")

    def add(self, logical_id: str | None) -> None:
        """The next file's."""
        self._of.append(self._numbers.setdefault(logical_id or "", len(self._numbers)))

    @property
    def only(self) -> str | None:
        """The one document that all files belong to; None when there are several, or none."""
        return next(iter(self._numbers)) or None if len(self._numbers) == 1 else None

    def structure(self, label: str, name_of: Callable[[int], str]) -> Iterator[str]:
        """Everything behind the files. ``name_of``: the archived name of the n-th file."""
        yield "    </fileGrp>\n  </fileSec>\n"
        yield f'  <structMap TYPE="logical">\n    <div TYPE="package"{attribute("LABEL", label)}>\n'
        names = list(self._numbers)
        before: int | None = None
        place = 0
        # A sort is stable: within a document files keep their order.
        for n in sorted(range(len(self._of)), key=self._of.__getitem__):
            document = self._of[n]
            if document != before:
                if before is not None:
                    yield "      </div>\n"
                title = attribute("LABEL", names[document]) if names[document] else ""
                yield f'      <div TYPE="document" ORDER="{document + 1}"{title}>\n'
                before, place = document, 0
            place += 1
            yield (
                f'        <div TYPE="file" ORDER="{place}"{attribute("LABEL", name_of(n))}>'
                f'<fptr FILEID="{file_number(n)}"/></div>\n'
            )
        if before is not None:
            yield "      </div>\n"
        yield "    </div>\n  </structMap>\n</mets>\n"
