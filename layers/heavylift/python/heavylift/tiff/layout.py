"""What a TIFF directory says about its pixels, and whether the file can hold them. No I/O here.

Two steps: ``read_picture`` takes the geometry (a few small values), ``read_chunks`` the offset and byte-count
arrays of the one picture that will be decoded, and proves them against the file's size.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Final

from heavylift.errors import ContentError
from heavylift.ranges import Reader
from heavylift.tiff import tags
from heavylift.tiff.ifd import Directories, Ifd, read_array, read_bytes, read_integer, read_integers

SIDE_MAX: Final = 1 << 21  # a row of RGB16 is then 12 MiB, which one band still holds
PIXELS_MAX: Final = 1 << 36  # 68.7 Gpx: 50 GiB of one-byte samples, the largest TIFF taken, is 53.7 Gpx
SAMPLES_MAX: Final = 16
CHUNKS_MAX: Final = 4 << 20  # both arrays as LONG8 are 64 MiB then; 50 GiB in tiles of 64 x 64 RGB pixels
TILE_SIDE_MAX: Final = 1 << 16
ASPECT_TOLERANCE: Final = 0.02  # levels are rounded to whole pixels: 1 of 50 in the smallest


@dataclass(frozen=True, slots=True)
class Picture:
    """One directory's picture: geometry and coding, all values checked to be usable.

    A chunk is a strip or a tile; strips are chunks as wide as the picture.
    """

    ifd: Ifd
    width: int
    height: int
    samples: int
    bits: int
    sample_format: int  # 1 unsigned, 2 signed, 3 float, 5 and 6 complex
    photometric: int
    compression: int
    planar: int
    predictor: int
    orientation: int
    extra_samples: tuple[int, ...]
    subsampling: tuple[int, int]
    subfile_type: int
    tiled: bool
    chunk_width: int
    chunk_height: int
    fill_order: int = 1  # 2: the lowest bit of a byte comes first

    @property
    def across(self) -> int:
        return -(-self.width // self.chunk_width)

    @property
    def down(self) -> int:
        return -(-self.height // self.chunk_height)

    @property
    def planes(self) -> int:
        """Separate planes in the file: 1 where the samples of a pixel lie together."""
        return self.samples if self.planar == 2 else 1

    @property
    def chunk_count(self) -> int:
        return self.across * self.down * self.planes

    @property
    def samples_together(self) -> int:
        """Samples of one pixel that lie together in a chunk."""
        return 1 if self.planar == 2 else self.samples

    @property
    def subsampled(self) -> bool:
        """Uncompressed YCbCr whose chroma is stored for blocks of pixels: rows cannot be told apart."""
        return self.photometric == tags.YCBCR and self.compression == tags.NONE and self.subsampling != (1, 1)

    def row_bytes(self, width: int) -> int:
        """Stored bytes of one uncompressed row of ``width`` pixels in a chunk."""
        return (width * self.samples_together * self.bits + 7) // 8

    def chunk_rows(self, index: int) -> int:
        """Rows in chunk ``index``: the last strip is cut at the picture's edge, tiles are always whole."""
        if self.tiled:
            return self.chunk_height
        row = (index % (self.across * self.down)) // self.across
        return min(self.chunk_height, self.height - row * self.chunk_height)

    def chunk_bytes(self, index: int) -> int:
        """Decoded bytes of chunk ``index``."""
        if self.subsampled:
            across, down = self.subsampling
            blocks = -(-self.chunk_width // across) * -(-self.chunk_rows(index) // down)
            return blocks * (across * down + 2)
        return self.chunk_rows(index) * self.row_bytes(self.chunk_width)

    @property
    def has_alpha(self) -> bool:
        return bool(self.extra_samples) and self.extra_samples[0] in (1, 2)

    @property
    def colour_samples(self) -> int:
        return self.samples - len(self.extra_samples)


@dataclass(frozen=True, slots=True)
class Chunks:
    """Where each chunk lies. A chunk of 0 bytes was never written (sparse TIFF) and shows the background."""

    offsets: array[int]
    counts: array[int]

    @property
    def held_bytes(self) -> int:
        return self.offsets.itemsize * len(self.offsets) + self.counts.itemsize * len(self.counts)

    @property
    def stored_bytes(self) -> int:
        return sum(self.counts)


def _limit(name: str, value: int, limit: int) -> None:
    if value > limit:
        raise ContentError("limit_exceeded", f"{name} {value}, {limit} allowed", **{name: value, "limit": limit})


def read_picture(ifd: Ifd, size_bytes: int) -> Reader[Picture]:
    """The directory's picture. ContentError ``corrupt``, ``limit_exceeded``, ``unsupported_feature``, ``truncated``."""
    width = yield from read_integer(ifd, tags.IMAGE_WIDTH, size_bytes, 0)
    height = yield from read_integer(ifd, tags.IMAGE_LENGTH, size_bytes, 0)
    if width < 1 or height < 1:
        raise ContentError("corrupt", f"picture of {width} x {height} pixels", width=width, height=height)
    _limit("width", width, SIDE_MAX)
    _limit("height", height, SIDE_MAX)
    _limit("pixels", width * height, PIXELS_MAX)

    samples = yield from read_integer(ifd, tags.SAMPLES_PER_PIXEL, size_bytes, 1)
    if samples < 1:
        raise ContentError("corrupt", f"{samples} samples per pixel", samples=samples)
    _limit("samples", samples, SAMPLES_MAX)
    all_bits = (yield from read_integers(ifd, tags.BITS_PER_SAMPLE, size_bytes)) or (1,)
    bits = all_bits[0]
    if bits < 1:
        raise ContentError("corrupt", f"{bits} bits per sample", bits=bits)
    if bits > 64 or any(other != bits for other in all_bits[:samples]):
        raise ContentError(
            "unsupported_feature", f"bits per sample {all_bits[:samples]}", bits=list(all_bits[:samples])
        )
    formats = (yield from read_integers(ifd, tags.SAMPLE_FORMAT, size_bytes)) or (1,)
    if any(other != formats[0] for other in formats[:samples]):
        raise ContentError(
            "unsupported_feature", f"sample formats {formats[:samples]}", formats=list(formats[:samples])
        )
    extra = (yield from read_integers(ifd, tags.EXTRA_SAMPLES, size_bytes))[: samples - 1]
    compression = yield from read_integer(ifd, tags.COMPRESSION, size_bytes, tags.NONE)
    default_photometric = tags.RGB if samples - len(extra) >= 3 else tags.BLACK_IS_ZERO
    photometric = yield from read_integer(ifd, tags.PHOTOMETRIC, size_bytes, default_photometric)
    planar = yield from read_integer(ifd, tags.PLANAR_CONFIGURATION, size_bytes, 1)
    if planar not in (1, 2):
        raise ContentError("corrupt", f"planar configuration {planar}", planar=planar)
    predictor = yield from read_integer(ifd, tags.PREDICTOR, size_bytes, 1)
    orientation = yield from read_integer(ifd, tags.ORIENTATION, size_bytes, 1)
    subfile = yield from read_integer(ifd, tags.NEW_SUBFILE_TYPE, size_bytes, 0)
    fill_order = yield from read_integer(ifd, tags.FILL_ORDER, size_bytes, 1)
    subsampling = ((yield from read_integers(ifd, tags.YCBCR_SUBSAMPLING, size_bytes)) + (2, 2))[:2]
    if tags.YCBCR_SUBSAMPLING not in ifd.entries:
        subsampling = (2, 2)  # the default of TIFF 6.0 section 21
    if photometric == tags.YCBCR and any(side not in (1, 2, 4) for side in subsampling):
        raise ContentError("corrupt", f"chroma subsampling {subsampling}")

    tiled = tags.TILE_WIDTH in ifd.entries or tags.TILE_OFFSETS in ifd.entries
    if tiled:
        chunk_width = yield from read_integer(ifd, tags.TILE_WIDTH, size_bytes, 0)
        chunk_height = yield from read_integer(ifd, tags.TILE_LENGTH, size_bytes, 0)
        if chunk_width < 1 or chunk_height < 1:
            raise ContentError("corrupt", f"tiles of {chunk_width} x {chunk_height} pixels")
        _limit("tile_width", chunk_width, TILE_SIDE_MAX)
        _limit("tile_height", chunk_height, TILE_SIDE_MAX)
    else:
        chunk_width = width
        rows = yield from read_integer(ifd, tags.ROWS_PER_STRIP, size_bytes, height)
        chunk_height = height if rows < 1 or rows > height else rows
    picture = Picture(
        ifd=ifd,
        width=width,
        height=height,
        samples=samples,
        bits=bits,
        sample_format=formats[0] if formats[0] in (2, 3, 5, 6) else 1,
        photometric=photometric,
        compression=compression,
        planar=planar if samples > 1 else 1,
        predictor=predictor,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        extra_samples=tuple(extra),
        subsampling=(subsampling[0], subsampling[1]),
        subfile_type=subfile,
        tiled=tiled,
        chunk_width=chunk_width,
        chunk_height=chunk_height,
        fill_order=2 if fill_order == 2 else 1,
    )
    _limit("chunks", picture.chunk_count, CHUNKS_MAX)
    return picture


def check_decodable(picture: Picture) -> None:
    """ContentError ``unsupported_feature`` for codings that no decoder here knows, before anything is fetched."""
    name = tags.COMPRESSION_NAMES.get(picture.compression, str(picture.compression))
    if picture.compression == tags.OLD_JPEG:
        raise ContentError("unsupported_feature", "old-style JPEG in TIFF (compression 6)", compression=6)
    if picture.compression not in tags.DECODABLE:
        raise ContentError("unsupported_feature", f"compression {name}", compression=picture.compression)
    if picture.photometric not in (0, 1, 2, 3, 5, 6, 8, 9):
        raise ContentError(
            "unsupported_feature", f"photometric interpretation {picture.photometric}", photometric=picture.photometric
        )
    if picture.planar == 2 and picture.photometric == tags.YCBCR and picture.subsampling != (1, 1):
        # Chroma planes of another size than the luma's.
        raise ContentError("unsupported_feature", "separate planes of subsampled chroma", photometric=tags.YCBCR)
    needed = {tags.RGB: 3, tags.YCBCR: 3, tags.CIELAB: 3, tags.ICCLAB: 3, tags.SEPARATED: 4}.get(picture.photometric, 1)
    if picture.samples < needed:
        raise ContentError(
            "unsupported_feature",
            f"{picture.samples} samples for photometric interpretation {picture.photometric}",
            samples=picture.samples,
            photometric=picture.photometric,
        )
    if picture.sample_format not in (1, 2, 3):
        raise ContentError("unsupported_feature", "complex samples", sample_format=picture.sample_format)
    if not by_pillow(picture):
        _check_samples(picture)


def by_pillow(picture: Picture) -> bool:
    """Whether Pillow reads these samples rightly; others are unpacked by ``tiff.samples``.

    Pillow's own list (TiffImagePlugin.OPEN_INFO, 13.0.0), less what it reads as something else: unsigned 32-bit
    integers as signed ones, compressed big-endian floats with their bytes the wrong way round.
    """
    if picture.compression in tags.OF_NUMBERS:
        return False
    if picture.compression not in tags.OF_BYTES:
        return True  # these codings know their samples
    bits, extra = picture.bits, picture.extra_samples
    if picture.fill_order == 2 and (picture.compression == tags.NONE or bits > 8 or picture.samples not in (1, 3)):
        return False
    if bits == 16 and picture.photometric == tags.WHITE_IS_ZERO and picture.ifd.header.order == ">":
        return False
    if picture.planar == 2:
        return picture.sample_format == 1 and bits in (8, 16) and picture.photometric not in (tags.CIELAB, tags.ICCLAB)
    if picture.sample_format == 3:
        grey = picture.samples == 1 and picture.photometric == tags.BLACK_IS_ZERO
        return grey and bits == 32 and picture.ifd.header.order == "<"
    if picture.sample_format != 1:
        return False
    known: dict[int, dict[int, tuple[int, ...]]] = {  # photometric: {samples: bits}
        tags.WHITE_IS_ZERO: {1: (1, 2, 4, 8, 16)},
        tags.BLACK_IS_ZERO: {1: (1, 2, 4, 8, 16), 2: (8,)},
        tags.RGB: {3: (8, 16), 4: (8, 16)},
        tags.PALETTE: {1: (1, 2, 4, 8), 2: (8,)},
        tags.SEPARATED: {4: (8, 16)},
        tags.YCBCR: {3: (8,)},
        tags.CIELAB: {3: (8,)},
    }
    if bits not in known.get(picture.photometric, {}).get(picture.samples, ()):
        return False
    colours = 3 if picture.photometric == tags.RGB else 1
    if picture.photometric in (tags.BLACK_IS_ZERO, tags.RGB, tags.PALETTE):
        # Four samples of which nothing is said are read as RGBA, as Pillow does.
        said = len(extra) == picture.samples - colours or (not extra and picture.samples == 4)
        return said and all(kind in ((0, 2) if picture.photometric == tags.PALETTE else (0, 1, 2)) for kind in extra)
    return not extra


def colours(picture: Picture) -> int:
    """Samples of a pixel that are colour: extra samples are not, nor inks beyond four."""
    return {tags.RGB: 3, tags.YCBCR: 3, tags.CIELAB: 3, tags.ICCLAB: 3, tags.SEPARATED: 4}.get(picture.photometric, 1)


def is_wide(picture: Picture) -> bool:
    """Whether the samples have no fixed black and white: they are shown by their range, and are floats until then."""
    if picture.photometric == tags.CIELAB:
        return False
    return picture.sample_format != 1 or picture.bits > 16


def channels(picture: Picture) -> int:
    """Pictures that a band of one plane comes in: 1, or for wide samples one a colour, and one of alpha."""
    if by_pillow(picture) or not is_wide(picture) or picture.planar == 2:
        return 1
    return colours(picture) + picture.has_alpha


def planes_wanted(picture: Picture) -> int:
    """Planes that are read: those of the colours, and that of alpha; 1 where the samples lie together."""
    return colours(picture) + picture.has_alpha if picture.planar == 2 else 1


def _check_samples(picture: Picture) -> None:
    """ContentError for samples that ``tiff.samples`` cannot unpack."""
    widths: tuple[int, ...] = (8, 16, 32, 64)
    if picture.sample_format == 3:
        widths = (16, 32, 64)
    elif picture.compression in tags.OF_NUMBERS:
        widths = (8, 16, 32)
    elif picture.sample_format == 1 and picture.predictor == 1:
        widths = (*range(1, 17), 32, 64)
    if picture.bits not in widths:
        what = {1: "unsigned", 2: "signed", 3: "float"}[picture.sample_format]
        raise ContentError("unsupported_feature", f"{what} samples of {picture.bits} bits", bits=picture.bits)
    if picture.predictor not in (1, 2, 3) or (picture.predictor == 3 and picture.sample_format != 3):
        raise ContentError("unsupported_feature", f"predictor {picture.predictor}", predictor=picture.predictor)
    if picture.compression in tags.OF_NUMBERS and picture.predictor != 1:
        raise ContentError("unsupported_feature", f"predictor {picture.predictor} of numbers", bits=picture.bits)
    eight = picture.sample_format == 1 and picture.bits <= 16
    if picture.photometric == tags.YCBCR and not (eight and picture.planar == 2):
        raise ContentError("unsupported_feature", f"YCbCr samples of {picture.bits} bits", bits=picture.bits)
    if not eight and picture.photometric in (tags.PALETTE, tags.ICCLAB):
        raise ContentError(
            "unsupported_feature",
            f"{picture.bits}-bit samples of photometric interpretation {picture.photometric}",
            bits=picture.bits,
        )


def read_chunks(picture: Picture, size_bytes: int) -> Reader[Chunks]:
    """The chunk arrays, proven: as many as the picture needs, inside the file, large enough for their pixels.

    ContentError ``corrupt`` (missing, too few), ``truncated`` (outside the file, fewer bytes than pixels).
    Memory: 2 to 8 bytes a chunk and array, at most 2 x TAG_ARRAY_BYTES_MAX.
    """
    needed = picture.chunk_count
    ifd = picture.ifd
    offset_tag, count_tag = (tags.STRIP_OFFSETS, tags.STRIP_BYTE_COUNTS)
    if picture.tiled and tags.TILE_OFFSETS in ifd.entries:
        offset_tag, count_tag = (tags.TILE_OFFSETS, tags.TILE_BYTE_COUNTS)
    offsets = yield from read_array(ifd, offset_tag, size_bytes, needed)
    counts = yield from read_array(ifd, count_tag, size_bytes, needed)
    if len(offsets) < needed:
        raise ContentError(
            "corrupt", f"{len(offsets)} chunk offsets, {needed} needed", chunks=len(offsets), needed=needed
        )
    if len(counts) < needed or (not any(counts) and any(offsets)):
        counts = _guess_counts(picture, offsets, size_bytes)
    chunks = Chunks(offsets, counts)
    _check_chunks(picture, chunks, size_bytes)
    return chunks


def _guess_counts(picture: Picture, offsets: array[int], size_bytes: int) -> array[int]:
    """Old writers left the byte counts out: known where nothing is compressed or there is one chunk only."""
    if picture.compression == tags.NONE:
        return array("Q", (picture.chunk_bytes(index) for index in range(picture.chunk_count)))
    if picture.chunk_count == 1 and offsets[0] < size_bytes:
        return array("Q", [size_bytes - offsets[0]])
    raise ContentError("corrupt", "compressed chunks without byte counts")


def _check_chunks(picture: Picture, chunks: Chunks, size_bytes: int) -> None:
    counts = chunks.counts
    outside = sum(
        1 for offset, count in zip(chunks.offsets, counts, strict=True) if count and offset + count > size_bytes
    )
    if outside:
        raise ContentError(
            "truncated",
            f"{outside} of {len(counts)} chunks lie outside the file of {size_bytes} bytes",
            chunks_outside=outside,
            chunks=len(counts),
            size_bytes=size_bytes,
        )
    if not any(counts):
        raise ContentError("corrupt", "no chunk holds any data", chunks=len(counts))
    if sum(counts) > 2 * size_bytes + (64 << 20):  # shared blank tiles are honest, reading the file many times is not
        raise ContentError(
            "limit_exceeded", "chunks overlap: together larger than twice the file", size_bytes=size_bytes
        )
    expansion = 1 if picture.compression == tags.NONE else tags.EXPANSION_MAX.get(picture.compression)
    if expansion is None:
        return
    # Only whole rows of chunks differ in size, so a picture has at most two sizes: regular and last.
    per_plane = picture.across * picture.down
    regular = picture.chunk_bytes(0)
    last_row = (picture.down - 1) * picture.across
    last = picture.chunk_bytes(last_row)
    slack = 0 if expansion == 1 else 64  # headers and checksums of the coded stream
    for index, count in enumerate(counts):
        want = last if index % per_plane >= last_row else regular
        if count and (count + slack) * expansion < want:
            raise ContentError(
                "truncated",
                f"chunk {index} holds {count} bytes, its pixels need {want}"
                + ("" if expansion == 1 else f" (at most {expansion} times the stored bytes)"),
                chunk=index,
                stored_bytes=count,
                needed_bytes=want,
            )


def main_picture(directories: Directories, size_bytes: int) -> Reader[Picture]:
    """The picture a file is about: the first page that is neither reduced nor a mask, else IFD0."""
    chosen = directories.pages[0]
    subfile = yield from read_integer(chosen, tags.NEW_SUBFILE_TYPE, size_bytes, 0)
    if subfile & 0b101:
        for page in directories.pages[1:]:
            subfile = yield from read_integer(page, tags.NEW_SUBFILE_TYPE, size_bytes, 0)
            if not subfile & 0b101:
                chosen = page
                break
    picture = yield from read_picture(chosen, size_bytes)
    return picture


def choose_level(main: Picture, directories: Directories, target_edge: int, size_bytes: int) -> Reader[Picture]:
    """The smallest level of a pyramid whose long side is at least ``target_edge``, else ``main`` itself.

    A level is coded like the main picture, has its shape and the reduced bit (NewSubfileType bit 0) set: a page
    without that bit is another page, and labels or macros of slide files have another shape. A level that cannot
    be read is passed over.
    """
    best = main
    for ifd in (*directories.sub_ifds, *directories.pages):
        if ifd.offset == main.ifd.offset:
            continue
        try:
            picture = yield from read_picture(ifd, size_bytes)
        except ContentError:
            continue
        if not picture.subfile_type & 1 or picture.subfile_type & 4:
            continue
        alike = (picture.samples, picture.bits, picture.photometric, picture.sample_format) == (
            main.samples,
            main.bits,
            main.photometric,
            main.sample_format,
        )
        ratio = (picture.width * main.height) / (picture.height * main.width)
        smaller = picture.width <= best.width and picture.height <= best.height
        if (
            alike
            and smaller
            and abs(ratio - 1) <= ASPECT_TOLERANCE
            and max(picture.width, picture.height) >= target_edge
        ):
            best = picture
    return best


def read_icc_profile(ifd: Ifd, size_bytes: int) -> Reader[bytes | None]:
    """The embedded ICC profile; None where absent or unreadable, for a picture is worth more than its profile."""
    entry = ifd.entries.get(tags.ICC_PROFILE)
    if entry is None or entry.type not in (1, 7):
        return None
    try:
        profile = yield from read_bytes(entry, size_bytes)
    except ContentError:
        return None
    return profile
