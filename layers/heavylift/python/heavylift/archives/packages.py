"""A package: which members an archive has and under which names, METS, table and tag files among them. Pure.

Files come first, in the order asked for; what is made of them comes behind. Two rounds over the entries: all names are
announced and all columns learnt, then each file is named, listed and described. Nothing depends on a clock or on who
asks: the same files make the same members, byte for byte, and so the same ``content_sha256``.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from heavylift.archives import bagit, mets, names, table
from heavylift.archives.entries import Entry, Missing
from heavylift.archives.members import Member, Members, Source
from heavylift.errors import ContentError

VERSION = 1  # of what is made of the same files; another one makes another archive


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that was made for the archive: its bytes, or where they were put."""

    size: int
    crc32: int
    sha256: str
    content: bytes | None = None
    source: Source | None = None


class Sink(Protocol):
    """A file being made."""

    def write(self, text: str) -> None: ...

    def close(self) -> Kept: ...


OpenSink = Callable[[str], Sink]
"""Begins a file; the name tells the files of one archive apart and is not the archived one."""


@dataclass(frozen=True, slots=True)
class Package:
    """``files``: how many of the members were asked for; they come first. ``bytes_total``: of all members."""

    members: Members
    label: str
    files: int
    bytes_total: int
    content_sha256: str


class _List:
    """Members, and the digest of what they are."""

    def __init__(self, kind: str) -> None:
        self.members = Members()
        self.bytes_total = 0
        self._digest = sha256(f"heavylift {kind} {VERSION} {names.POLICY}\n".encode())

    def add(self, member: Member, identity: str) -> None:
        self.members.append(member)
        self.bytes_total += member.size_bytes
        for text in (str(member.name).encode(), identity.encode()):
            self._digest.update(struct.pack("<Q", len(text)) + text)
        self._digest.update(struct.pack("<Qq", member.size_bytes, member.modified_at))

    def made(self, name: str, kept: Kept, modified_at: int) -> None:
        """A file that was made for the archive."""
        self.add(
            Member(name, kept.size, modified_at, kept.crc32, kept.source, kept.content if kept.size else None),
            kept.sha256,
        )

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


def crc32_of(text: str | None) -> int | None:
    """S3's base64 of four bytes, big-endian, as a number; None for what is none (a composite one, say)."""
    try:
        raw = base64.b64decode(text or "", validate=True)
    except ValueError:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None


def _member(entry: Entry, name: str, store_bucket: str) -> Member:
    source = Source(store_bucket, entry.key, entry.version_id, entry.etag) if entry.size else None
    crc32 = crc32_of(entry.crc32)
    return Member(name, entry.size, int(entry.created_at), crc32, source, None, entry.file_id)


@dataclass(frozen=True, slots=True)
class _Learnt:
    """What the first round tells."""

    columns: table.Columns
    documents: mets.Documents
    newest: float
    payload_bytes: int
    count: int


def _learn(entries: Iterable[Entry], naming: names.Names) -> _Learnt:
    columns, documents = table.Columns(), mets.Documents()
    newest, payload_bytes, count = 0.0, 0, 0
    for entry in entries:
        naming.announce(entry.path)
        columns.note(entry.metadata)
        documents.add(entry.logical_id)
        newest = max(newest, entry.created_at)
        payload_bytes += entry.size
        count += 1
    if not count:
        raise ContentError("nothing_to_archive", "None of the files that were asked for can be archived.")
    return _Learnt(columns, documents, newest, payload_bytes, count)


def _hex(crc32: int | None) -> str | None:
    return None if crc32 is None else f"{crc32:08x}"


def make(
    kind: str,
    entries: Iterable[Entry],
    missing: Sequence[Missing],
    *,
    label: str | None,
    store_bucket: str,
    open_sink: OpenSink,
) -> Package:
    """The package of ``entries``, which are gone through twice. ``label``: what it is called after; the one document
    that all files belong to when None, else "files".

    ContentError ``nothing_to_archive``; ``no_sha256`` for a bag's file without a digest. Memory: some 500 bytes a file.
    """
    bag = kind == "bagit"
    naming = names.Names(no_percent=bag)
    learnt = _learn(entries, naming)
    title = names.label(label or learnt.documents.only or "files")
    made = _List(kind)
    making = _Making(made, naming, learnt, entries, missing, title, store_bucket, open_sink)
    (_bag if bag else _plain)(making)
    return Package(made.members, title, learnt.count, made.bytes_total, made.digest)


@dataclass(frozen=True, slots=True)
class _Making:
    """What both kinds of package are made of."""

    made: _List
    naming: names.Names
    learnt: _Learnt
    entries: Iterable[Entry]
    missing: Sequence[Missing]
    title: str
    store_bucket: str
    open_sink: OpenSink

    def files(self, papers: _Papers, folder: str, below: str) -> Iterator[tuple[Entry, str]]:
        """Each file as a member and in the papers; with its path in the package, which is ``below`` its folder."""
        for n, entry in enumerate(self.entries):
            path = below + self.naming.archived(entry.path)
            yield entry, path
            self.made.add(_member(entry, folder + path, self.store_bucket), _identity(entry))
            papers.add(n, entry, folder + path, path)


class _Papers:
    """METS, table and report being written side by side."""

    def __init__(self, title: str, learnt: _Learnt, missing: Sequence[Missing], open_sink: OpenSink) -> None:
        self.title, self.learnt, self.missing, self.open_sink = title, learnt, missing, open_sink
        self._mets, self._table = open_sink("mets"), open_sink("table")
        self._mets.write(mets.head(title, learnt.newest))
        self._table.write(learnt.columns.header())

    def add(self, n: int, entry: Entry, archived: str, href: str) -> None:
        crc32_hex = _hex(crc32_of(entry.crc32))
        self._table.write(self.learnt.columns.row(entry, archived, crc32_hex))
        self._mets.write(
            mets.file(
                n,
                href=href,
                original=entry.path,
                size=entry.size,
                created_at=entry.created_at,
                media_type=entry.media_type,
                sha256=entry.sha256,
                crc32_hex=crc32_hex,
            )
        )

    def close(self, name_of: Callable[[int], str]) -> tuple[Kept, Kept, Kept | None]:
        """METS, table, and the report of what is missing where something is."""
        for text in self.learnt.documents.structure(self.title, name_of):
            self._mets.write(text)
        report: Kept | None = None
        if self.missing:
            sink = self.open_sink("missing")
            sink.write(table.missing_header())
            for one in self.missing:
                sink.write(table.missing_row(one))
            report = sink.close()
        return self._mets.close(), self._table.close(), report


def _plain(making: _Making) -> None:
    made, title = making.made, making.title
    # Ours are named first: a file of the same name yields.
    ours = [making.naming.archived(f"{title}_{name}") for name in ("mets.xml", "metadata.csv", "missing.csv")]
    papers = _Papers(title, making.learnt, making.missing, making.open_sink)
    for _ in making.files(papers, "", ""):
        pass
    for name, kept in zip(ours, papers.close(lambda n: made.members.name(n).decode()), strict=True):
        if kept is not None:
            made.made(name, kept, int(making.learnt.newest))


def _bag(making: _Making) -> None:
    """Nothing of ours is where files are, so no name of theirs is taken."""
    made, title, learnt, open_sink = making.made, making.title, making.learnt, making.open_sink
    papers = _Papers(title, learnt, making.missing, open_sink)
    manifest, info = open_sink("manifest"), open_sink("info")
    info.write(bagit.info_head(title, learnt.newest, learnt.payload_bytes, learnt.count))
    if making.missing:
        info.write(bagit.info_missing(len(making.missing)))
    for entry, path in making.files(papers, f"{title}/", bagit.PAYLOAD):
        if entry.sha256 is None:
            raise ContentError("no_sha256", f"Nobody knows the SHA-256 of {entry.path}.", file_id=entry.file_id)
        manifest.write(bagit.manifest_line(entry.sha256, path))
        if not entry.sha256_proven:
            info.write(bagit.info_declared(path))
    start = len(f"{title}/".encode())
    mets_kept, table_kept, report = papers.close(lambda n: made.members.name(n)[start:].decode())
    declaration = open_sink("declaration")
    declaration.write(bagit.DECLARATION_TEXT)
    ours: list[tuple[str, Kept]] = [
        (bagit.DECLARATION, declaration.close()),
        (bagit.INFO, info.close()),
        (bagit.MANIFEST, manifest.close()),
        (bagit.METS, mets_kept),
        (bagit.TABLE, table_kept),
    ]
    if report is not None:
        ours.append((bagit.MISSING, report))
    tags = open_sink("tags")
    for path, kept in ours:
        tags.write(bagit.manifest_line(kept.sha256, path))
    ours.append((bagit.TAG_MANIFEST, tags.close()))
    for path, kept in ours:
        made.made(f"{title}/{path}", kept, int(learnt.newest))


def _identity(entry: Entry) -> str:
    """What pins the bytes of a stored file."""
    return "\0".join((entry.key, entry.version_id or "", entry.etag))
