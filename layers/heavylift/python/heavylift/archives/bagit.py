"""A BagIt package's own files (RFC 8493, BagIt 1.0), below its one folder. Pure.

``data/`` holds the payload, ``metadata/`` METS and table as tag files; every payload file stands in the manifest with
its SHA-256, every tag file in the tag manifest. Names hold no "%", CR or LF, the characters that a manifest would have
to encode: its readers do not agree on how.
"""

from __future__ import annotations

from datetime import UTC, datetime

PAYLOAD = "data/objects/"
DECLARATION = "bagit.txt"
INFO = "bag-info.txt"
MANIFEST = "manifest-sha256.txt"
TAG_MANIFEST = "tagmanifest-sha256.txt"
METS = "metadata/mets.xml"
TABLE = "metadata/metadata.csv"
MISSING = "metadata/missing.csv"

DECLARATION_TEXT = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


def manifest_line(sha256: str, path: str) -> str:
    """A file of the manifest; ``path`` from the bag's folder."""
    if any(c in path for c in "%\r\n"):
        raise ValueError(f"a path in a bag holds neither %, CR nor LF: {path!r}")
    return f"{sha256}  {path}\n"


def info_head(label: str, made_at: float, payload_bytes: int, payload_files: int) -> str:
    """The bag's facts; ``made_at``: when the newest of its files was, so that the same files give the same bag."""
    date = datetime.fromtimestamp(int(made_at), UTC).strftime("%Y-%m-%d")
    return (
        "Bag-Software-Agent: heavylift\n"
        f"External-Identifier: {_one_line(label)}\n"
        f"Bagging-Date: {date}\n"
        f"Payload-Oxum: {payload_bytes}.{payload_files}\n"
    )


def info_declared(path: str) -> str:
    """A payload file whose digest its uploader declared: nobody here has read its bytes to it."""
    return f"Declared-SHA-256: {path}\n"


def info_missing(count: int) -> str:
    """How many files that were asked for the bag does without; ``metadata/missing.csv`` names them."""
    return f"Missing-Files: {count}\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())
