"""Generated RAW files: as much of each format as its standard or its readers describe, around real JPEGs.

TIFF-based ones by a small writer of directories (TIFF 6.0 section 2, BigTIFF); DNG 1.7 chapters 2 to 4; Exif 2.32 4.6;
CR3 as boxes of ISO/IEC 14496-12 with Canon's UUIDs, RAF, ORF, RW2, NEF, CR2, ARW and PEF as ExifTool's and LibRaw's
descriptions of them say. rawpy reads the same files where a test says so.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL, IFD, LONG8 = 1, 2, 3, 4, 5, 7, 10, 13, 16
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8, 13: 4, 16: 8}


@cache
def picture(width: int, height: int, seed: int = 1) -> Image.Image:
    """A picture that shows which way it lies: red above, blue to the right, a white corner above left."""
    red = Image.linear_gradient("L").resize((width, height)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    blue = Image.linear_gradient("L").rotate(90).resize((width, height))
    # Spots of eight pixels: finer noise would be judged by the JPEG's quality instead of by the scaling.
    noise = Image.effect_noise((width // 8 + 1, height // 8 + 1), 20 + seed).resize((width, height))
    made = Image.merge("RGB", (red, noise, blue))
    made.paste((255, 255, 255), (0, 0, width // 5, height // 5))
    return made


@cache
def jpeg(width: int, height: int, *, seed: int = 1, exif: bytes = b"", progressive: bool = False) -> bytes:
    out = io.BytesIO()
    picture(width, height, seed).save(out, "JPEG", quality=85, exif=exif, progressive=progressive)
    return out.getvalue()


def exif_block(
    orientation: int = 1, make: str = "Maker", model: str = "Model", date: str = "2024:05:01 12:34:56"
) -> bytes:
    block = tiff_block([text(271, make), text(272, model), short(274, orientation), text(306, date)])
    return b"Exif\0\0" + block


def lossless_jpeg(width: int, height: int, length: int = 4000) -> bytes:
    """The beginning of a lossless JPEG (SOF3), as sensor data are: no picture."""
    frame = struct.pack(">BHHB3B", 14, height, width, 1, 1, 0x11, 0)
    return (b"\xff\xd8\xff\xc3" + struct.pack(">H", 2 + len(frame)) + frame + b"\xff\xda\x00\x02").ljust(
        length, b"\x55"
    )


@dataclass
class Entry:
    tag: int
    type: int
    values: bytes | tuple[int, ...] | Place | tuple[Place, ...]


@dataclass
class Place:
    """Bytes, or a directory, that an entry points to. ``at`` is set when it is laid out; ``gap``: bytes before it."""

    data: bytes = b""
    directory: Directory | None = None
    at: int = 0
    gap: int = 0
    length: int | None = None  # other than the data's

    @property
    def size(self) -> int:
        return len(self.data) if self.length is None else self.length


@dataclass
class Directory:
    entries: list[Entry] = field(default_factory=list)
    at: int = 0
    following: Directory | None = None
    gap: int = 0  # bytes before it


def short(tag: int, *values: int) -> Entry:
    return Entry(tag, SHORT, values)


def long(tag: int, *values: int) -> Entry:
    return Entry(tag, LONG, values)


def text(tag: int, value: str) -> Entry:
    return Entry(tag, ASCII, value.encode() + b"\0")


def rational(tag: int, *pairs: tuple[int, int], signed: bool = False) -> Entry:
    code = "i" if signed else "I"
    return Entry(tag, SRATIONAL if signed else RATIONAL, struct.pack(f"<{2 * len(pairs)}{code}", *sum(pairs, ())))


def tiff_block(entries: Sequence[Entry], order: str = "<") -> bytes:
    return Writer(order=order).write(Directory(list(entries)))


class Writer:
    """Lays out directories, then what they point to, in a TIFF; sparse in a file where places have gaps."""

    def __init__(self, *, order: str = "<", big: bool = False, magic: int | None = None, head: bytes = b"") -> None:
        self.order, self.big = order, big
        self.magic = magic if magic is not None else 43 if big else 42
        self.head = head  # between the header and the first directory
        self.pieces: list[tuple[int, bytes]] = []
        self.end = 0

    def _put(self, data: bytes, gap: int = 0) -> int:
        at = (self.end + gap + 1) // 2 * 2
        self.pieces.append((at, data))
        self.end = at + len(data)
        return at

    def _reserve(self, directory: Directory) -> None:
        count, entry, link = (8, 20, 8) if self.big else (2, 12, 4)
        directory.at = (self.end + directory.gap + 1) // 2 * 2
        self.end = directory.at + count + entry * len(directory.entries) + link

    def _places(self, directory: Directory) -> list[Place]:
        found = []
        for entry in directory.entries:
            if isinstance(entry.values, Place):
                found.append(entry.values)
            elif isinstance(entry.values, tuple):
                found += [value for value in entry.values if isinstance(value, Place)]
        return found

    def layout(self, root: Directory) -> None:
        self.end = (16 if self.big else 8) + len(self.head)
        self.pieces = []
        chain, directories = [root], []
        while chain:
            directory = chain.pop(0)
            directories.append(directory)
            self._reserve(directory)
            nested = [place.directory for place in self._places(directory) if place.directory is not None]
            chain = [*([directory.following] if directory.following else []), *nested, *chain]
        for directory in directories:
            for place in self._places(directory):
                if place.directory is not None:
                    place.at = place.directory.at
        values: dict[int, int] = {}
        for directory in directories:
            for entry in directory.entries:
                raw = self._value(entry)
                if len(raw) > (8 if self.big else 4) and not isinstance(entry.values, Place):
                    values[id(entry)] = self._put(raw)
        for directory in directories:
            for place in self._places(directory):
                if place.directory is None and not place.at:
                    place.at = self._put(place.data, place.gap)
        for directory in directories:
            for entry in directory.entries:  # lists of places are known only now
                if id(entry) in values:
                    self.pieces.append((values[id(entry)], self._value(entry)))
            self.pieces.append((directory.at, self._directory(directory, values)))
        if self.big:
            head = struct.pack(self.order + "HHHQ", self.magic, 8, 0, root.at)
        else:
            head = struct.pack(self.order + "HI", self.magic, root.at)
        self.pieces.append((0, (b"II" if self.order == "<" else b"MM") + head + self.head))

    def _type(self, entry: Entry) -> int:
        """Offsets are LONG8 in a BigTIFF."""
        places = isinstance(entry.values, tuple) and any(isinstance(value, Place) for value in entry.values)
        return LONG8 if self.big and entry.type == LONG and places else entry.type

    def _value(self, entry: Entry) -> bytes:
        if isinstance(entry.values, bytes):
            return entry.values
        if isinstance(entry.values, Place):
            return struct.pack(self.order + ("Q" if self.big and entry.type == LONG8 else "I"), entry.values.at)
        numbers = [value.at if isinstance(value, Place) else value for value in entry.values]
        code = {BYTE: "B", SHORT: "H", LONG: "I", IFD: "I", LONG8: "Q"}[self._type(entry)]
        return struct.pack(f"{self.order}{len(numbers)}{code}", *numbers)

    def _directory(self, directory: Directory, values: dict[int, int]) -> bytes:
        room = 8 if self.big else 4
        out = struct.pack(self.order + ("Q" if self.big else "H"), len(directory.entries))
        for entry in sorted(directory.entries, key=lambda each: each.tag):
            raw = self._value(entry)
            if isinstance(entry.values, Place) and entry.type == UNDEFINED:  # a blob: count is its length
                count, raw = entry.values.size, struct.pack(self.order + ("Q" if self.big else "I"), entry.values.at)
            else:
                count = len(raw) // _SIZES[self._type(entry)]
            out += struct.pack(self.order + ("HHQ" if self.big else "HHI"), entry.tag, self._type(entry), count)
            if id(entry) in values:
                out += struct.pack(self.order + ("Q" if self.big else "I"), values[id(entry)])
            else:
                out += raw.ljust(room, b"\0")
        following = directory.following.at if directory.following else 0
        return out + struct.pack(self.order + ("Q" if self.big else "I"), following)

    def write(self, root: Directory) -> bytes:
        self.layout(root)
        out = bytearray(self.end)
        for at, data in self.pieces:
            out[at : at + len(data)] = data
        return bytes(out)

    def write_sparse(self, root: Directory, path: Path) -> None:
        self.layout(root)
        with path.open("wb") as file:
            file.truncate(self.end)
            for at, data in self.pieces:
                file.seek(at)
                file.write(data)


# --- DNG -----------------------------------------------------------------------------------------------------


def offset_type(big: bool) -> int:
    return LONG8 if big else LONG


def jpeg_directory(data: bytes, width: int, height: int, *, big: bool = False, gap: int = 0, **more: int) -> Directory:
    """A preview as DNG 1.7 stores it: one strip of baseline JPEG, YCbCr, NewSubfileType 1."""
    return Directory(
        [
            long(254, more.get("subfile", 1)),
            long(256, width),
            long(257, height),
            short(258, 8, 8, 8),
            short(259, more.get("compression", 7)),
            short(262, more.get("photometric", 6)),
            Entry(273, offset_type(big), (Place(data, gap=gap),)),
            short(277, 3),
            long(278, height),
            long(279, len(data)),
        ]
    )


def rgb_directory(width: int, height: int) -> Directory:
    data = picture(width, height).tobytes()
    return Directory(
        [
            long(254, 1),
            long(256, width),
            long(257, height),
            short(258, 8, 8, 8),
            short(259, 1),
            short(262, 2),
            Entry(273, LONG, (Place(data),)),
            short(277, 3),
            long(278, height),
            long(279, len(data)),
        ]
    )


def mosaic(width: int, height: int) -> bytes:
    """Sensor values of ``picture`` under an RGGB pattern, 16 bits."""
    import numpy as np

    pixels = np.asarray(picture(width, height)).astype(np.uint16) * 200 + 1000
    cfa = np.empty((height, width), dtype="<u2")
    cfa[0::2, 0::2] = pixels[0::2, 0::2, 0]
    cfa[0::2, 1::2] = pixels[0::2, 1::2, 1]
    cfa[1::2, 0::2] = pixels[1::2, 0::2, 1]
    cfa[1::2, 1::2] = pixels[1::2, 1::2, 2]
    return cfa.tobytes()


def cfa_directory(width: int, height: int, data: bytes | None = None, *, big: bool = False, gap: int = 0) -> Directory:
    """Sensor data as DNG wants them: CFA, RGGB, 16 bits, uncompressed, one strip."""
    data = mosaic(width, height) if data is None else data
    return Directory(
        [
            long(254, 0),
            long(256, width),
            long(257, height),
            short(258, 16),
            short(259, 1),
            short(262, 32803),
            Entry(273, offset_type(big), (Place(data, gap=gap),)),
            short(277, 1),
            long(278, height),
            Entry(279, offset_type(big), (width * height * 2 if big else min(width * height * 2, 0xFFFFFFFF),)),
            short(33421, 2, 2),
            Entry(33422, BYTE, (0, 1, 1, 2)),
            long(50717, 65535),
        ]
    )


def camera(orientation: int | None = 1) -> list[Entry]:
    """What a DNG says of its camera: make, model, date, an Exif directory, colours; and where it was."""
    exif = Directory([text(36867, "2024:05:01 12:34:56"), text(36881, "+02:00")])
    place = Directory([text(1, "N"), rational(2, (47, 1), (22, 1), (0, 1))])
    made = [
        text(271, "Heavy Optics"),
        text(272, "Lifter 80"),
        text(306, "2024:06:01 00:00:00"),
        Entry(34665, LONG, (Place(directory=exif),)),
        Entry(34853, LONG, (Place(directory=place),)),
        Entry(50706, BYTE, (1, 4, 0, 0)),
        Entry(50707, BYTE, (1, 1, 0, 0)),
        text(50708, "Heavy Optics Lifter 80"),
        rational(
            50721,
            *[(value, 10000) for value in (8000, -2000, -500, -4000, 12000, 2000, -500, 1500, 6000)],
            signed=True,
        ),
        rational(50728, (1, 2), (1, 1), (2, 3)),
        short(50778, 21),
    ]
    return made if orientation is None else [*made, short(274, orientation)]


def dng(
    previews: Sequence[Directory] = (),
    *,
    size: tuple[int, int] = (320, 240),
    thumb: bool = True,
    orientation: int | None = 1,
    big: bool = False,
    sensor: Directory | None = None,
    following: Directory | None = None,
) -> Directory:
    """The directory 0 of a DNG: a small RGB picture, sensor data and previews in SubIFDs."""
    sensor = sensor or cfa_directory(*size, big=big)
    subs = [sensor, *previews]
    if thumb:
        root = rgb_directory(64, 48)
    else:
        root, subs = sensor, list(previews)
    root.entries += camera(orientation)
    if subs:
        root.entries.append(Entry(330, offset_type(big), tuple(Place(directory=sub) for sub in subs)))
    root.following = following
    return root


def preview(width: int, height: int, *, big: bool = False, gap: int = 0, **more: int) -> Directory:
    return jpeg_directory(jpeg(width, height), width, height, big=big, gap=gap, **more)


def simple_dng(width: int = 1600, height: int = 1200, *, orientation: int | None = 1, **more: bool) -> bytes:
    """A DNG with two previews, of which the smaller is too small."""
    return Writer(big=bool(more.get("big"))).write(
        dng([preview(400, 300), preview(width, height)], orientation=orientation, **more)
    )


# --- makers --------------------------------------------------------------------------------------------------


def nef(width: int = 1600, height: int = 1200, *, order: str = ">") -> bytes:
    """Nikon: small RGB in directory 0, a JPEG by 513/514 in a SubIFD, another behind the maker note."""
    small = jpeg(640, 480)
    note_tiff = Writer(order=order)
    inner = Directory([long(513, 0), long(514, len(small))])
    inner.entries[0] = Entry(513, LONG, (Place(small),))
    note_root = Directory([Entry(0x11, LONG, (Place(directory=inner),))])
    note = b"Nikon\0\x02\x10\0\0" + note_tiff.write(note_root)
    data = jpeg(width, height)
    in_sub = Directory([short(259, 6), Entry(513, LONG, (Place(data),)), long(514, len(data))])
    sensor = Directory(
        [
            long(254, 0),
            long(256, 4000),
            long(257, 3000),
            short(258, 14),
            short(259, 34713),
            short(262, 32803),
            Entry(273, LONG, (Place(b"\x55" * 5000),)),
            long(279, 5000),
        ]
    )
    root = rgb_directory(160, 120)
    exif = Directory([text(36867, "2024:05:01 12:34:56"), Entry(37500, UNDEFINED, Place(note))])
    root.entries += [
        text(271, "NIKON CORPORATION"),
        text(272, "NIKON D1"),
        short(274, 8),
        Entry(330, LONG, (Place(directory=in_sub), Place(directory=sensor))),
        Entry(34665, LONG, (Place(directory=exif),)),
    ]
    return Writer(order=order).write(root)


def cr2(width: int = 1600, height: int = 1200) -> bytes:
    """Canon: JPEG strip in directory 0, thumbnail in 1, unprocessed RGB in 2, lossless JPEG in 3 (TIFF 6.0, 0xC640)."""
    data, thumb = jpeg(width, height), jpeg(160, 120)
    raw = lossless_jpeg(5200, 3400)
    third = Directory(
        [
            short(259, 6),
            Entry(273, LONG, (Place(raw),)),
            long(279, len(raw)),
            short(0xC640, 1, 2600, 2600),
        ]
    )
    second = Directory(
        [
            long(256, 300),
            long(257, 200),
            short(258, 16, 16, 16),
            short(259, 1),
            short(262, 2),
            Entry(273, LONG, (Place(bytes(300 * 200 * 6)),)),
            short(277, 3),
            long(278, 200),
            long(279, 300 * 200 * 6),
        ],
        following=third,
    )
    first = Directory([Entry(513, LONG, (Place(thumb),)), long(514, len(thumb))], following=second)
    exif = Directory([text(36867, "2024:05:01 12:34:56"), long(40962, 5184), long(40963, 3456)])
    root = Directory(
        [
            long(256, width),
            long(257, height),
            short(258, 8, 8, 8),
            short(259, 6),
            text(271, "Canon"),
            text(272, "Canon EOS 1"),
            Entry(273, LONG, (Place(data),)),
            short(274, 6),
            long(279, len(data)),
            Entry(34665, LONG, (Place(directory=exif),)),
        ],
        following=first,
    )
    return Writer(head=b"CR\x02\0\0\0\0\0").write(root)


def arw(width: int = 1616, height: int = 1080) -> bytes:
    """Sony: the preview by 513/514 in directory 0, a thumbnail in 1, sensor data (32767) in a SubIFD."""
    data, thumb = jpeg(width, height), jpeg(160, 120)
    sensor = Directory(
        [
            long(254, 0),
            long(256, 6048),
            long(257, 4024),
            short(258, 14),
            short(259, 32767),
            short(262, 32803),
            Entry(273, LONG, (Place(b"\x55" * 5000),)),
            long(279, 5000),
        ]
    )
    first = Directory([short(259, 6), Entry(513, LONG, (Place(thumb),)), long(514, len(thumb))])
    exif = Directory([text(36867, "2024:05:01 12:34:56")])
    root = Directory(
        [
            long(254, 1),
            short(259, 6),
            text(271, "SONY"),
            text(272, "ILCE-7"),
            short(274, 3),
            Entry(330, LONG, (Place(directory=sensor),)),
            Entry(513, LONG, (Place(data),)),
            long(514, len(data)),
            Entry(34665, LONG, (Place(directory=exif),)),
        ],
        following=first,
    )
    return Writer().write(root)


def pef(width: int = 1600, height: int = 1200) -> bytes:
    """Pentax: sensor data in directory 0 (65535), a thumbnail in 1, the preview in 2."""
    data, thumb = jpeg(width, height), jpeg(160, 120)
    second = Directory([short(259, 6), Entry(513, LONG, (Place(data),)), long(514, len(data))])
    first = Directory([short(259, 6), Entry(513, LONG, (Place(thumb),)), long(514, len(thumb))], following=second)
    exif = Directory([text(36867, "2024:05:01 12:34:56")])
    root = Directory(
        [
            long(256, 4928),
            long(257, 3264),
            short(258, 14),
            short(259, 65535),
            short(262, 32803),
            text(271, "PENTAX"),
            text(272, "PENTAX K-1"),
            Entry(273, LONG, (Place(b"\x55" * 5000),)),
            short(274, 1),
            long(279, 5000),
            Entry(34665, LONG, (Place(directory=exif),)),
        ],
        following=first,
    )
    return Writer(order=">").write(root)


def orf(width: int = 1600, height: int = 1200) -> bytes:
    """Olympus: sensor data in directory 0, the preview by CameraSettings (0x2020) of the maker note."""
    data = jpeg(width, height)
    settings = Directory([long(0x100, 1), Entry(0x101, LONG, (Place(data),)), long(0x102, len(data))])
    block = bytearray(Writer(head=bytes(4)).write(Directory([Entry(0x2020, IFD, (Place(directory=settings),))])))
    block[:12] = b"OLYMPUS\0II\x03\0"  # the directory begins at 12, as the writer's did
    exif = Directory([text(36867, "2024:05:01 12:34:56"), Entry(37500, UNDEFINED, Place(bytes(block)))])
    root = Directory(
        [
            long(256, 4640),
            long(257, 3472),
            short(258, 16),
            short(259, 1),
            short(262, 1),
            text(271, "OLYMPUS CORPORATION"),
            text(272, "E-M1"),
            Entry(273, LONG, (Place(b"\x55" * 5000),)),
            short(274, 6),
            long(279, 5000),
            Entry(34665, LONG, (Place(directory=exif),)),
        ]
    )
    return Writer(magic=0x4F52).write(root)


def rw2(width: int = 1600, height: int = 1200) -> bytes:
    """Panasonic: magic 0x55, tags of its own, the preview as a blob (0x2E)."""
    exif = Directory([text(36867, "2024:05:01 12:34:56")])
    root = Directory(
        [
            short(2, 5488),
            short(3, 3672),
            short(4, 8),
            short(5, 16),
            short(6, 3664),
            short(7, 5472),
            short(10, 12),
            Entry(0x2E, UNDEFINED, Place(jpeg(width, height))),
            text(271, "Panasonic"),
            text(272, "DMC-GX8"),
            short(274, 1),
            Entry(0x118, LONG, (Place(b"\x55" * 5000),)),
            Entry(34665, LONG, (Place(directory=exif),)),
        ]
    )
    return Writer(magic=0x55).write(root)


def raf(width: int = 1600, height: int = 1200, *, orientation: int = 6) -> bytes:
    """Fujifilm: a header, a JPEG with an Exif block, a directory, sensor data."""
    data = jpeg(width, height, exif=exif_block(orientation, "FUJIFILM", "X-T1"))
    directory = struct.pack(">I", 2) + struct.pack(">HHHH", 0x100, 4, 3296, 4936) + struct.pack(">HHI", 0x9999, 4, 0)
    head = b"FUJIFILMCCD-RAW 0201FF119502" + b"X-T1".ljust(32, b"\0") + b"0159" + bytes(20)
    at = 160
    places = (at, len(data), at + len(data), len(directory), at + len(data) + len(directory), 5000)
    head = head.ljust(84, b"\0") + struct.pack(">6I", *places)
    return head.ljust(at, b"\0") + data + directory + b"\x55" * 5000


def box(kind: bytes, *payload: bytes) -> bytes:
    body = b"".join(payload)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def cr3(
    preview_size: tuple[int, int] = (1620, 1080), full_size: tuple[int, int] = (2400, 1600), *, orientation: int = 6
) -> bytes:
    """Canon CR3: THMB in moov, PRVW beside it, a full-size JPEG as the sample of track 1, sensor data in track 2."""
    thumb, prvw, full = jpeg(160, 120), jpeg(*preview_size), jpeg(*full_size)
    raw = b"\x55" * 5000
    cmt1 = tiff_block(
        [long(256, 6000), long(257, 4000), text(271, "Canon"), text(272, "Canon EOS R5"), short(274, orientation)]
    )
    cmt2 = tiff_block([text(36867, "2024:05:01 12:34:56")])
    canon = box(
        b"uuid",
        bytes.fromhex("85c0b687820f11e08111f4ce462b6a48"),
        box(b"CNCV", b"CanonCR3_001/00.09.00/00.00.00"),
        box(b"CMT1", cmt1),
        box(b"CMT2", cmt2),
        box(b"THMB", bytes(4), struct.pack(">HHI", 160, 120, len(thumb)), struct.pack(">HH", 1, 0), thumb),
    )

    def track(width: int, height: int, size: int, offset: int) -> bytes:
        entry = bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">HH", width, height) + bytes(50)
        stbl = box(
            b"stbl",
            box(b"stsd", struct.pack(">II", 0, 1), box(b"CRAW", entry)),
            box(b"stsz", struct.pack(">III", 0, size, 1)),
            box(b"co64", struct.pack(">IIQ", 0, 1, offset)),
        )
        return box(b"trak", box(b"tkhd", bytes(84)), box(b"mdia", box(b"mdhd", bytes(24)), box(b"minf", stbl)))

    def moov(mdat: int) -> bytes:
        tracks = track(6000, 4000, len(full), mdat), track(6000, 4000, len(raw), mdat + len(full))
        return box(b"moov", canon, box(b"mvhd", bytes(100)), *tracks)

    head = struct.pack(">HHHI", *preview_size, 1, len(prvw))
    beside = box(
        b"uuid",
        bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16"),
        bytes(8),
        box(b"PRVW", bytes(6), head, prvw),
    )
    ftyp = box(b"ftyp", b"crx \0\0\0\x01crx isom")
    mdat = len(ftyp) + len(moov(0)) + len(beside) + 16
    wide = struct.pack(">I4sQ", 1, b"mdat", 16 + len(full) + len(raw))
    return ftyp + moov(mdat) + beside + wide + full + raw


BUILDERS = {
    "DNG": simple_dng,
    "NEF": nef,
    "CR2": cr2,
    "ARW": arw,
    "PEF": pef,
    "ORF": orf,
    "RW2": rw2,
    "RAF": raf,
    "CR3": cr3,
}
