"""Sizes of JPEG, PNG, GIF, WebP, BMP, PSD, JPEG 2000, JPEG XL, AVIF and HEIC from their first bytes. No I/O here.

Each reader is bounded by a named constant and raises only ContentError. Facts: ITU T.81 annex B (JPEG markers),
Exif 2.3 4.6.4 (orientation), PNG 3rd edition 11.2, GIF89a 18, WebP container and RFC 9649, BITMAPFILEHEADER,
Adobe Photoshop file format, ISO/IEC 15444-1 annex A and I; HEIF and JPEG XL have modules of
their own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from heavylift.errors import ContentError
from heavylift.image.exif import EXIF_BYTES_MAX, NO_WORDS, CameraWords, words_in
from heavylift.image.heif import HeifPicture, box_of, read_heif_picture
from heavylift.image.jxl import read_jxl
from heavylift.ranges import Range, Reader
from heavylift.tiff import tags

HEAD_BYTES: Final = 65_536
SEGMENTS_MAX: Final = 512  # JPEG marker segments up to the frame header: ICC profiles take up to 255
CHUNKS_MAX: Final = 256  # PNG chunks up to IDAT
BOXES_MAX: Final = 64  # top-level boxes of a JPEG 2000
RESOURCES_MAX: Final = 512  # of a PSD: profiles, captions, guides


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What a header says. ``interlaced``: progressive JPEG, Adam7 PNG. ``sampled``: stored samples per pixel,
    chroma subsampling counted (4:2:0 is 1.5). ``levels``: sizes that the file holds (JPEG 2000: halved each time)."""

    width: int
    height: int
    mode: str
    bits_per_sample: int = 8
    compression: str | None = None
    pages: int | None = 1
    orientation: int = 1
    interlaced: bool = False
    sampled: float = 1.0
    icc_profile: bool = False
    levels: int = 1
    words: CameraWords = NO_WORDS


UNKNOWN: Final = PictureHeader(0, 0, "", 0)  # the decoder finds out


def _corrupt(text: str) -> ContentError:
    return ContentError("corrupt", text)


def _cut(format_name: str, wanted: int, got: int) -> ContentError:
    return ContentError("truncated", f"{format_name} header ends after {got} bytes, {wanted} needed", got_bytes=got)


def read_jpeg(size_bytes: int) -> Reader[PictureHeader]:
    """Markers up to the frame header, orientation from Exif: one small read a segment (few, read ahead)."""
    at, words, icc = 2, NO_WORDS, False
    for _ in range(SEGMENTS_MAX):
        if at + 4 > size_bytes:
            raise _cut("JPEG", at + 4, size_bytes)
        marker = yield Range(at, 4)
        if marker[0] != 0xFF:
            raise _corrupt(f"no JPEG marker at {at}")
        code = marker[1]
        if code == 0xFF:  # fill byte
            at += 1
            continue
        if code == 0x01 or 0xD0 <= code <= 0xD8:
            at += 2
            continue
        if code in (0xD9, 0xDA):
            raise _corrupt("JPEG without a frame header")
        (length,) = struct.unpack_from(">H", marker, 2)
        if length < 2:
            raise _corrupt(f"JPEG segment of {length} bytes at {at}")
        if code == 0xE1 and words is NO_WORDS and length > 16 and at + 2 + length <= size_bytes:
            segment = yield Range(at + 4, length - 2)
            if segment.startswith(b"Exif\0\0"):
                words = words_in(segment)
        elif code == 0xE2 and length > 14 and at + 18 <= size_bytes:
            icc = icc or (yield Range(at + 4, 12)) == b"ICC_PROFILE\0"
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            if at + 2 + length > size_bytes:
                raise _cut("JPEG", at + 2 + length, size_bytes)
            frame = yield Range(at + 4, length - 2)
            return _jpeg_frame(code, frame, words, icc, size_bytes)
        at += 2 + length
    raise ContentError("limit_exceeded", f"more than {SEGMENTS_MAX} JPEG segments", limit=SEGMENTS_MAX)


def _jpeg_frame(code: int, frame: bytes, words: CameraWords, icc: bool, size_bytes: int) -> PictureHeader:
    if len(frame) < 6 or len(frame) < 6 + 3 * frame[5]:
        raise _corrupt("JPEG frame header too short")
    bits, height, width, components = struct.unpack_from(">BHHB", frame)
    if width == 0 or height == 0 or components == 0:
        raise _corrupt(f"JPEG of {width} x {height} pixels, {components} components")
    if code not in (0xC0, 0xC1, 0xC2):
        raise ContentError("unsupported_feature", f"JPEG process SOF{code - 0xC0}", process=code - 0xC0)
    factors = [(frame[7 + 3 * i] >> 4, frame[7 + 3 * i] & 15) for i in range(components)]
    if any(not 1 <= side <= 4 for factor in factors for side in factor):
        raise _corrupt(f"JPEG sampling factors {factors}")
    whole = max(x for x, _ in factors) * max(y for _, y in factors)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}.get(components, "")
    if not mode:
        raise ContentError("unsupported_feature", f"JPEG with {components} components", components=components)
    sampled = sum(x * y for x, y in factors) / whole
    # Each block of 64 samples has at least two codes of one bit, in passes at least one (F.1.2, G.1.2).
    blocks = int((width + 7) // 8 * ((height + 7) // 8) * sampled)
    if blocks // (8 if code == 0xC2 else 4) > size_bytes:
        raise ContentError(
            "truncated",
            f"a JPEG of {width} x {height} pixels in {size_bytes} bytes: no coding is that short",
            width=width,
            height=height,
            size_bytes=size_bytes,
        )
    return PictureHeader(
        width,
        height,
        mode,
        bits,
        "jpeg",
        orientation=words.orientation or 1,
        interlaced=code == 0xC2,
        sampled=sampled,
        icc_profile=icc,
        words=words,
    )


_PNG_MODES: Final[dict[int, tuple[str, int]]] = {
    0: ("L", 1),
    2: ("RGB", 3),
    3: ("P", 1),
    4: ("LA", 2),
    6: ("RGBA", 4),
}


def read_png(size_bytes: int) -> Reader[PictureHeader]:
    """IHDR, and the chunks before the pixels for frames, profile and orientation."""
    if size_bytes < 33:
        raise _cut("PNG", 33, size_bytes)
    head = yield Range(8, 25)
    length, name, width, height, bits, colour, _, _, interlace = struct.unpack_from(">I4sIIBBBBB", head)
    if name != b"IHDR" or length != 13:
        raise _corrupt("PNG without IHDR")
    if width == 0 or height == 0 or width >= 1 << 31 or height >= 1 << 31:
        raise _corrupt(f"PNG of {width} x {height} pixels")
    if colour not in _PNG_MODES or bits not in (1, 2, 4, 8, 16):
        raise _corrupt(f"PNG of colour type {colour}, {bits} bits")
    mode, samples = _PNG_MODES[colour]
    if bits == 16 and mode == "L":
        mode = "I;16"
    if bits == 1 and mode == "L":
        mode = "1"
    stored = height * ((width * samples * bits + 7) // 8)
    if stored > (size_bytes + 64) * tags.EXPANSION_MAX[8]:
        raise ContentError(
            "truncated",
            f"PNG of {width} x {height} pixels in {size_bytes} bytes: deflate cannot expand that far",
            width=width,
            height=height,
            size_bytes=size_bytes,
        )
    at, pages, words, icc = 33, 1, NO_WORDS, False
    for _ in range(CHUNKS_MAX):
        if at + 12 > size_bytes:
            raise ContentError("truncated", "PNG without pixels", size_bytes=size_bytes)
        chunk = yield Range(at, 12)
        length, name = struct.unpack_from(">I4s", chunk)
        if name == b"IDAT":
            break
        if name == b"IEND":
            raise _corrupt("PNG without pixels")
        if name == b"acTL":
            (pages,) = struct.unpack_from(">I", chunk, 8)
        elif name == b"iCCP":
            icc = True
        elif name == b"eXIf" and 8 <= length <= EXIF_BYTES_MAX and at + 8 + length <= size_bytes:
            words = words_in((yield Range(at + 8, length)))
        at += 12 + length
    return PictureHeader(
        width,
        height,
        mode,
        bits,
        "deflate",
        max(1, pages),
        words.orientation or 1,
        interlace == 1,
        float(samples),
        icc,
        words=words,
    )


def read_gif(size_bytes: int) -> Reader[PictureHeader]:
    if size_bytes < 13:
        raise _cut("GIF", 13, size_bytes)
    width, height = struct.unpack("<HH", (yield Range(6, 4)))
    if width == 0 or height == 0:
        raise _corrupt(f"GIF of {width} x {height} pixels")
    return PictureHeader(width, height, "P", 8, "lzw", None)


def read_webp(size_bytes: int) -> Reader[PictureHeader]:
    """The first chunk; of an extended file also its Exif chunk, which stands behind the picture."""
    if size_bytes < 30:
        raise _cut("WebP", 30, size_bytes)
    head = yield Range(0, 30)
    kind = head[12:16]
    needed = 8 + int.from_bytes(head[4:8], "little")
    if needed > size_bytes:
        raise ContentError(
            "truncated", f"WebP needs {needed} bytes, has {size_bytes}", needed_bytes=needed, size_bytes=size_bytes
        )
    if kind == b"VP8X":
        flags = head[20]
        width = 1 + int.from_bytes(head[24:27], "little")
        height = 1 + int.from_bytes(head[27:30], "little")
        pages = None if flags & 2 else 1
        words = (yield from _webp_words(needed)) if flags & 8 else NO_WORDS
        return PictureHeader(
            width,
            height,
            "RGBA" if flags & 16 else "RGB",
            8,
            "webp",
            pages,
            words.orientation or 1,
            icc_profile=bool(flags & 32),
            words=words,
        )
    if kind == b"VP8L" and head[20] == 0x2F:
        (word,) = struct.unpack_from("<I", head, 21)
        return PictureHeader(
            1 + (word & 0x3FFF), 1 + (word >> 14 & 0x3FFF), "RGBA" if word >> 28 & 1 else "RGB", 8, "webp-lossless"
        )
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 26)
        return PictureHeader(width & 0x3FFF, height & 0x3FFF, "RGB", 8, "webp")
    raise _corrupt("WebP without a picture")


def _webp_words(end: int) -> Reader[CameraWords]:
    at = 12
    for _ in range(CHUNKS_MAX):
        if at + 8 > end:
            break
        name, length = struct.unpack("<4sI", (yield Range(at, 8)))
        if name == b"EXIF":
            if not 8 <= length <= EXIF_BYTES_MAX or at + 8 + length > end:
                break
            return words_in((yield Range(at + 8, length)))
        at += 8 + length + length % 2
    return NO_WORDS


def read_bmp(size_bytes: int) -> Reader[PictureHeader]:
    if size_bytes < 26:
        raise _cut("BMP", 26, size_bytes)
    head = yield Range(0, min(size_bytes, 34))
    (info_size,) = struct.unpack_from("<I", head, 14)
    compression = 0
    if info_size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", head, 18)
    else:
        if len(head) < 34:
            raise _cut("BMP", 34, size_bytes)
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", head, 18)
        height = abs(height)
    if width <= 0 or height <= 0:
        raise _corrupt(f"BMP of {width} x {height} pixels")
    start = struct.unpack_from("<I", head, 10)[0]
    needed = start + (width * bits + 31) // 32 * 4 * height
    if compression in (0, 3) and needed > size_bytes + 4:  # some writers leave the last row's padding out
        raise ContentError(
            "truncated", f"BMP needs {needed} bytes, has {size_bytes}", needed_bytes=needed, size_bytes=size_bytes
        )
    mode = "RGB" if bits >= 16 else "1" if bits == 1 else "P"
    return PictureHeader(width, height, mode, 8 if bits >= 8 else bits, "none" if compression in (0, 3) else "rle")


_PSD_MODES: Final[dict[int, str]] = {0: "1", 1: "L", 2: "P", 3: "RGB", 4: "CMYK", 7: "CMYK", 8: "L", 9: "LAB"}


def read_psd(size_bytes: int) -> Reader[PictureHeader]:
    """The header, the camera's words among the resources, and the coding of the flattened picture."""
    if size_bytes < 26:
        raise _cut("PSD", 26, size_bytes)
    head = yield Range(0, 26)
    version, channels, height, width, bits, mode = struct.unpack_from(">H6xHIIHH", head, 4)
    if width == 0 or height == 0 or channels == 0 or mode not in _PSD_MODES:
        raise _corrupt(f"PSD of {width} x {height} pixels, {channels} channels, mode {mode}")
    at = 26
    words = NO_WORDS
    for section in ("colours", "resources", "layers"):
        wide = section == "layers" and version == 2
        if at + 8 > size_bytes:
            raise _cut("PSD", at + 8, size_bytes)
        (length,) = struct.unpack(">Q" if wide else ">I", (yield Range(at, 8 if wide else 4)))
        at += 8 if wide else 4
        if at + length > size_bytes:
            raise _cut("PSD", at + length, size_bytes)
        if section == "resources":
            words = yield from _psd_words(at, at + length)
        at += length
    if at + 2 > size_bytes:
        raise _cut("PSD", at + 2, size_bytes)
    coding = int.from_bytes((yield Range(at, 2)), "big")
    needed = at + 2 + (width * bits + 7) // 8 * height * channels
    if coding == 0 and needed > size_bytes:
        raise _cut("PSD", needed, size_bytes)
    name = {0: "none", 1: "packbits", 2: "deflate", 3: "deflate"}.get(coding)
    return PictureHeader(width, height, _PSD_MODES[mode], bits, name, orientation=words.orientation or 1, words=words)


def _psd_words(at: int, end: int) -> Reader[CameraWords]:
    """Resource 1058 is an Exif block."""
    for _ in range(RESOURCES_MAX):
        if at + 12 > end:
            break
        head = yield Range(at, min(12 + 256, end - at))
        signature, number, name_length = struct.unpack_from(">4sHB", head)
        start = 6 + (name_length + 2) // 2 * 2
        if signature != b"8BIM" or start + 4 > len(head):
            break
        (length,) = struct.unpack_from(">I", head, start)
        if number == 1058:
            if not 8 <= length <= EXIF_BYTES_MAX or at + start + 4 + length > end:
                break
            return words_in((yield Range(at + start + 4, length)))
        at += start + 4 + length + length % 2
    return NO_WORDS


def read_jpeg2000(size_bytes: int) -> Reader[PictureHeader]:
    """The SIZ segment, found in the first 64 KiB: it stands at the front of every codestream (A.5.1)."""
    yield from _check_boxes(size_bytes)
    head = yield Range(0, min(HEAD_BYTES, size_bytes))
    at = head.find(b"\xff\x4f\xff\x51")
    if at < 0 or at + 42 > len(head):
        return UNKNOWN
    x1, y1, x0, y0 = struct.unpack_from(">IIII", head, at + 8)
    components, depth = struct.unpack_from(">HB", head, at + 40)
    width, height = x1 - x0, y1 - y0
    if width <= 0 or height <= 0 or components == 0:
        raise _corrupt(f"JPEG 2000 of {width} x {height} pixels, {components} components")
    bits = (depth & 0x7F) + 1
    mode = {1: "I;16" if bits > 8 else "L", 2: "LA", 3: "RGB", 4: "RGBA"}.get(components, "")
    cod = head.find(b"\xff\x52", at + 40 + 3 * components)  # A.6.1: the number of decomposition levels
    levels = head[cod + 9] if 0 < cod < len(head) - 9 else 0
    return PictureHeader(
        width, height, mode, bits, "jpeg2000", sampled=float(components), levels=1 + (levels if levels <= 32 else 0)
    )


def _check_boxes(size_bytes: int) -> Reader[None]:
    """Of a JP2 (a codestream alone has no boxes): the top-level boxes lie inside the file."""
    at = 0
    for _ in range(BOXES_MAX):
        if at + 8 > size_bytes:
            return
        head = yield Range(at, min(16, size_bytes - at))
        if at == 0 and head[4:8] != b"jP  ":
            return
        kind, _, end = box_of(head, at, size_bytes)
        if end > size_bytes:
            raise ContentError(
                "truncated",
                f"JP2: part {kind!r} ends at {end}, the file at {size_bytes}",
                needed_bytes=end,
                size_bytes=size_bytes,
            )
        at = end


def _of_heif(picture: HeifPicture, size: tuple[int, int], orientation: int) -> PictureHeader:
    if not picture.width or not picture.height:
        return UNKNOWN
    return PictureHeader(
        *size,
        "RGBA" if picture.has_alpha else "RGB",
        picture.bits_per_sample,
        picture.compression,
        picture.pictures,
        orientation,
        icc_profile=picture.icc_profile,
        words=picture.words,
    )


def read_avif(size_bytes: int) -> Reader[PictureHeader]:
    """The primary picture as coded; how to turn it is its orientation."""
    picture = yield from read_heif_picture(size_bytes)
    return _of_heif(picture, (picture.width, picture.height), picture.orientation)


def read_heic(size_bytes: int) -> Reader[PictureHeader]:
    """The primary picture as its decoder gives it: cut and turned already. What Exif says of turning does not count."""
    picture = yield from read_heif_picture(size_bytes)
    width, height = picture.shown
    return _of_heif(picture, (height, width) if picture.orientation >= 5 else (width, height), 1)


def read_jpeg_xl(size_bytes: int) -> Reader[PictureHeader]:
    """The picture as its decoder gives it: turned already."""
    found = yield from read_jxl(size_bytes)
    turned = found.orientation >= 5
    size = (found.height, found.width) if turned else (found.width, found.height)
    # What the samples are is told further behind; colour with alpha is what takes most.
    samples = 4 if found.extra_channels is None else 3 + found.extra_channels
    return PictureHeader(
        *size,
        "RGBA" if found.extra_channels != 0 else "RGB",
        found.bits_per_sample,
        "jpeg-xl",
        None if found.animated else 1,
        sampled=float(samples * (1 if found.bits_per_sample <= 8 else 2 if found.bits_per_sample <= 16 else 4)),
    )


READERS: Final = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "GIF": read_gif,
    "WebP": read_webp,
    "BMP": read_bmp,
    "PSD": read_psd,
    "PSB": read_psd,
    "JP2": read_jpeg2000,
    "J2K": read_jpeg2000,
    "JXL": read_jpeg_xl,
    "AVIF": read_avif,
    "HEIC": read_heic,
    "HEIF": read_heic,
}
