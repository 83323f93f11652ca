"""What a file is, by its content and never by its extension. No I/O here.

``detect`` is a format reader: one read of at most 64 KiB at 0, then small ranged reads only where a format keeps
its identity elsewhere (a TIFF's first directory, a ZIP's last). The name only breaks ties between text formats
and between camera makers whose files are TIFFs. Own table first; libmagic (``heavylift.magic_opinion``) is asked
by the caller for a second opinion on what stays unknown.

Facts: DICOM PS3.10 7.1; TIFF 6.0, BigTIFF, TIFF/EP, DNG 1.7 (tag 50706); ISO/IEC 14496-12 4.3 (ftyp),
ISO/IEC 15444-1 annex I (JP2), ISO/IEC 23008-12 (HEIF brands); APPNOTE 4.3 (ZIP); POSIX ustar; RFC 1952, 8878;
PNG 3rd edition 5.2; GIF89a; RIFF/WebP container; Adobe Photoshop file format; PE/COFF, ELF, Mach-O headers.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Final

from heavylift.errors import ContentError
from heavylift.ranges import Range, Reader, answered_by
from heavylift.sniff_text import Text, is_nearly_text, sniff_text
from heavylift.tables.bounds import ZSTD_WINDOW_BYTES
from heavylift.tiff import tags
from heavylift.tiff.ifd import Header, Ifd, parse_header, read_ifd, read_integer, read_text

HEAD_BYTES: Final = 65_536  # two whole lines of JSONL with 30 KB records; every signature lies in the first 40 KB
ZIP_TAIL_BYTES: Final = 22 + 65_535  # end of central directory record with the longest comment (APPNOTE 4.3.16)
ZIP_NAMES_MAX: Final = 4096
BRANDS_MAX: Final = 64
INNER_BYTES: Final = 65_536  # decompressed bytes looked at inside gzip and zstd
_MEMBERS_MAX: Final = 16  # gzip members looked into; bgzip begins a new one every 64 KB


@dataclass(frozen=True, slots=True)
class Detection:
    """What the content says.

    ``kind``: image raw dicom table json text archive other. ``format``: TIFF DNG JPEG CSV ... Unknown Empty.
    ``refused``: why content of this class is not taken (executable, script, HTML), else None.
    ``encoding``: of text, ``utf-8``, ``utf-8-sig``, ``utf-16-le``, ``utf-16-be`` or ``latin-1``.
    ``inner``: the format inside gzip or zstd where it could be told. ``nearly_text``: of Unknown, text with a defect.
    """

    kind: str
    format: str
    media_type: str
    refused: str | None = None
    encoding: str | None = None
    inner: str | None = None
    nearly_text: bool = False


MEDIA_TYPES: Final[dict[str, tuple[str, str]]] = {
    # format: (kind, media type)
    "TIFF": ("image", "image/tiff"),
    "BigTIFF": ("image", "image/tiff"),
    "SVS": ("image", "image/tiff"),
    "OME-TIFF": ("image", "image/tiff"),
    "JPEG": ("image", "image/jpeg"),
    "PNG": ("image", "image/png"),
    "WebP": ("image", "image/webp"),
    "GIF": ("image", "image/gif"),
    "BMP": ("image", "image/bmp"),
    "JP2": ("image", "image/jp2"),
    "J2K": ("image", "image/jp2"),
    "JXL": ("image", "image/jxl"),
    "HEIC": ("image", "image/heic"),
    "HEIF": ("image", "image/heif"),
    "AVIF": ("image", "image/avif"),
    "PSD": ("image", "image/vnd.adobe.photoshop"),
    "PSB": ("image", "image/vnd.adobe.photoshop"),
    "DNG": ("raw", "image/x-adobe-dng"),
    "NEF": ("raw", "image/x-nikon-nef"),
    "CR2": ("raw", "image/x-canon-cr2"),
    "CR3": ("raw", "image/x-canon-cr3"),
    "CRW": ("raw", "image/x-canon-crw"),
    "ARW": ("raw", "image/x-sony-arw"),
    "ORF": ("raw", "image/x-olympus-orf"),
    "RW2": ("raw", "image/x-panasonic-rw2"),
    "PEF": ("raw", "image/x-pentax-pef"),
    "RAF": ("raw", "image/x-fuji-raf"),
    "SRW": ("raw", "image/x-samsung-srw"),
    "3FR": ("raw", "image/x-hasselblad-3fr"),
    "IIQ": ("raw", "image/x-phaseone-iiq"),
    "X3F": ("raw", "image/x-sigma-x3f"),
    "MRW": ("raw", "image/x-minolta-mrw"),
    "RAW": ("raw", "image/x-dcraw"),  # raw sensor data in a TIFF of a maker this table does not name
    "DICOM": ("dicom", "application/dicom"),
    "CSV": ("table", "text/csv"),
    "TSV": ("table", "text/tab-separated-values"),
    "JSONL": ("json", "application/x-ndjson"),
    "JSON": ("json", "application/json"),
    "Text": ("text", "text/plain"),
    "XML": ("text", "application/xml"),
    "SVG": ("other", "image/svg+xml"),
    "gzip": ("archive", "application/gzip"),
    "zstd": ("archive", "application/zstd"),
    "bzip2": ("archive", "application/x-bzip2"),
    "xz": ("archive", "application/x-xz"),
    "ZIP": ("archive", "application/zip"),
    "7z": ("archive", "application/x-7z-compressed"),
    "RAR": ("archive", "application/vnd.rar"),
    "tar": ("archive", "application/x-tar"),
    "XLSX": ("other", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    "DOCX": ("other", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    "PPTX": ("other", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    "EPUB": ("other", "application/epub+zip"),
    "ODS": ("other", "application/vnd.oasis.opendocument.spreadsheet"),
    "ODT": ("other", "application/vnd.oasis.opendocument.text"),
    "PDF": ("other", "application/pdf"),
    "Parquet": ("other", "application/vnd.apache.parquet"),
    "HDF5": ("other", "application/x-hdf5"),
    "SQLite": ("other", "application/vnd.sqlite3"),
    "FITS": ("other", "image/fits"),
    "Avro": ("other", "application/avro"),
    "Arrow": ("other", "application/vnd.apache.arrow.file"),
    "OLE2": ("other", "application/x-ole-storage"),  # XLS, DOC and PPT before 2007
    "MP4": ("other", "video/mp4"),
    "MOV": ("other", "video/quicktime"),
    "Matroska": ("other", "video/x-matroska"),
    "AVI": ("other", "video/x-msvideo"),
    "WAV": ("other", "audio/x-wav"),
    "Executable": ("other", "application/x-executable"),
    "Script": ("other", "text/x-script"),
    "HTML": ("other", "text/html"),
    "Empty": ("other", "application/x-empty"),
    "Unknown": ("other", "application/octet-stream"),
}

_SIGNATURES: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"8BPS\x00\x01", "PSD"),
    (0, b"8BPS\x00\x02", "PSB"),
    (0, b"\xff\x4f\xff\x51", "J2K"),
    (0, b"\xff\x0a", "JXL"),
    (0, b"FUJIFILMCCD-RAW", "RAF"),
    (0, b"FOVb", "X3F"),
    (0, b"\x00MRM", "MRW"),
    (6, b"HEAPCCDR", "CRW"),
    (0, b"%PDF-", "PDF"),
    (0, b"\x1f\x8b\x08", "gzip"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "RAR"),
    (0, b"PAR1", "Parquet"),
    (0, b"PARE", "Parquet"),  # with an encrypted footer
    (0, b"Obj\x01", "Avro"),
    (0, b"ARROW1\0\0", "Arrow"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "OLE2"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"SQLite format 3\x00", "SQLite"),
    (0, b"SIMPLE  = ", "FITS"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska"),
)
_MACH_O: Final = frozenset({b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe"})
_TIFF_MARKS: Final = frozenset({b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"IIU\0", b"IIRO", b"IIRS", b"MMOR"})
# By name only where the content already says "raw data of some camera in a TIFF".
_MAKERS: Final[tuple[tuple[str, str, str], ...]] = (
    ("nikon", "NEF", ".nef"),
    ("sony", "ARW", ".arw"),
    ("pentax", "PEF", ".pef"),
    ("ricoh", "PEF", ".pef"),
    ("samsung", "SRW", ".srw"),
    ("hasselblad", "3FR", ".3fr"),
    ("olympus", "ORF", ".orf"),
    ("om digital", "ORF", ".orf"),
    ("panasonic", "RW2", ".rw2"),
    ("phase one", "IIQ", ".iiq"),
)
_JP2: Final = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_JXL: Final = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_OFFICE: Final[tuple[tuple[str, str], ...]] = (("word/", "DOCX"), ("xl/", "XLSX"), ("ppt/", "PPTX"))
_MIMETYPES: Final[dict[bytes, str]] = {
    b"application/epub+zip": "EPUB",
    b"application/vnd.oasis.opendocument.spreadsheet": "ODS",
    b"application/vnd.oasis.opendocument.text": "ODT",
}
_INNER_BY_NAME: Final[dict[str, str]] = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".json": "JSON",
    ".txt": "Text",
    ".log": "Text",
}


def detection(format_name: str, refused: str | None = None) -> Detection:
    """The Detection of a format of the table."""
    kind, media_type = MEDIA_TYPES[format_name]
    return Detection(kind, format_name, media_type, refused)


def detect(size_bytes: int, name: str = "") -> Reader[Detection]:
    """What the ``size_bytes`` long content is. Never raises for content; holds at most 150 KiB."""
    if size_bytes <= 0:
        return detection("Empty")
    head = yield Range(0, min(HEAD_BYTES, size_bytes))
    if head[128:132] == b"DICM":  # before TIFF: the preamble may hold a TIFF header (PS3.10 7.1)
        return detection("DICOM")
    if head[:4] in _TIFF_MARKS:
        return (yield from answered_by(head, _detect_tiff(head, size_bytes, name)))
    if head[4:8] == b"ftyp":
        return _detect_boxes(head)
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip") and head[:1] == b"\0":
        return detection("MOV")
    if head.startswith(_JP2):
        return detection("JP2")
    if head.startswith(_JXL):
        return detection("JXL")
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"):
        return (yield from _detect_zip(head, size_bytes))
    found = _detect_fixed(head, name)
    if found is not None:
        return found
    text = sniff_text(head, size_bytes > len(head), name)
    if text is not None:
        return _of_text(text)
    if head[:2] == b"MZ":
        return detection("Executable", "executable")
    if _is_bare_dicom(head):
        return detection("DICOM")
    if b"%PDF-" in head[:1024]:
        return detection("PDF")
    return replace(detection("Unknown"), nearly_text=is_nearly_text(head))


def _of_text(text: Text) -> Detection:
    found = detection(text.format, text.refused)
    return replace(found, encoding=text.encoding)


def _detect_fixed(head: bytes, name: str) -> Detection | None:
    """Formats told by bytes at fixed places."""
    for offset, signature, format_name in _SIGNATURES:
        if head.startswith(signature, offset):
            if format_name in ("gzip", "zstd"):
                return _detect_compressed(format_name, head, name)
            if format_name == "JXL" and not head[2:].strip(b"\0"):
                continue
            return detection(format_name)
    if head[:4] == b"RIFF":
        inner = {b"WEBP": "WebP", b"AVI ": "AVI", b"WAVE": "WAV"}.get(head[8:12])
        if inner:
            return detection(inner)
    if head[:2] == b"BM" and len(head) >= 26:
        (info_size,) = struct.unpack_from("<I", head, 14)
        if info_size in (12, 16, 40, 52, 56, 64, 108, 124):
            return detection("BMP")
    if head[:4] == b"\x7fELF" or head[:4] in _MACH_O:
        return detection("Executable", "executable")
    if head[:4] == b"\xca\xfe\xba\xbe":  # Mach-O for several processors, or a Java class
        return detection("Executable", "executable")
    if head[:2] == b"MZ" and b"\0" in head[:512]:  # text may begin with these letters, but holds no NUL
        return detection("Executable", "executable")
    if _is_tar(head):
        return detection("tar")
    return None


def _is_tar(head: bytes) -> bool:
    """A tar header proves itself by the sum of its bytes; ``ustar`` alone could be any text."""
    if len(head) < 512:
        return False
    try:
        stored = int(head[148:156].strip(b"\0 ") or b"x", 8)
    except ValueError:
        return False
    return stored == sum(head[:148]) + 8 * 32 + sum(head[156:512])


def _detect_compressed(format_name: str, head: bytes, name: str) -> Detection:
    """gzip and zstd take the kind of what they hold; where that looks like nothing, the name tells what it shall be."""
    found = detection(format_name)
    bare = re.sub(r"\.(gz|zst|zstd)$", "", name.lower())
    plain = _gunzipped(head) if format_name == "gzip" else _unzstd(head)
    inner: str | None = None
    if plain and _is_tar(plain):
        inner = "tar"
    elif plain and (text := sniff_text(plain, True, bare)) is not None:
        inner = text.format
    elif not plain or is_nearly_text(plain):
        inner = _INNER_BY_NAME.get(bare[bare.rfind(".") :]) if "." in bare else None
    kind = MEDIA_TYPES[inner][0] if inner is not None and inner in _INNER_BY_NAME.values() else found.kind
    return replace(found, kind=kind, inner=inner)


def _gunzipped(head: bytes) -> bytes:
    """The first INNER_BYTES of what is inside, over several members (block gzip's are small)."""
    plain = bytearray()
    rest = head
    for _ in range(_MEMBERS_MAX):
        stream = zlib.decompressobj(31)
        try:
            plain += stream.decompress(rest, INNER_BYTES - len(plain))
        except zlib.error:
            break
        rest = stream.unused_data
        if len(plain) >= INNER_BYTES or not rest.startswith(b"\x1f\x8b"):
            break
    return bytes(plain)


def _unzstd(head: bytes) -> bytes:
    """The same of zstd, with windows up to ZSTD_WINDOW_BYTES; nothing where its library is not at hand."""
    try:
        import zstandard
    except ImportError:
        return b""
    reader = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).stream_reader(head, read_across_frames=True)
    plain = bytearray()
    while len(plain) < INNER_BYTES:
        try:
            piece = reader.read(INNER_BYTES - len(plain))
        except zstandard.ZstdError:
            break
        if not piece:
            break
        plain += piece
    return bytes(plain)


# --- TIFF and the camera formats made of it ------------------------------------------------------------------


def _detect_tiff(head: bytes, size_bytes: int, name: str) -> Reader[Detection]:
    if head[:4] == b"IIU\0":
        return detection("RW2")
    if head[:4] in (b"IIRO", b"IIRS", b"MMOR"):
        return detection("ORF")
    if head[8:10] == b"CR" and head[:4] == b"II*\0":
        return detection("CR2")
    if head[8:12] in (b"IIII", b"MMMM"):
        return detection("IIQ")
    plain = "BigTIFF" if head[2:4] in (b"+\0", b"\0+") else "TIFF"
    try:
        header = parse_header(head)
        format_name = yield from _tiff_format(header, size_bytes, name, plain)
    except ContentError:  # broken, but a TIFF: its soundness is judged where its pixels are
        format_name = plain
    return detection(format_name)


def _tiff_format(header: Header, size_bytes: int, name: str, plain: str) -> Reader[str]:
    first: Ifd = yield from read_ifd(header, header.first_ifd, size_bytes)
    if tags.DNG_VERSION in first.entries:
        return "DNG"
    description = yield from read_text(first, tags.IMAGE_DESCRIPTION, size_bytes, 512)
    if description.startswith("Aperio"):
        return "SVS"
    if "<OME" in description or "OME-XML" in description:
        return "OME-TIFF"
    make = (yield from read_text(first, tags.MAKE, size_bytes, 64)).strip().lower()
    photometric = yield from read_integer(first, tags.PHOTOMETRIC, size_bytes, -1)
    compression = yield from read_integer(first, tags.COMPRESSION, size_bytes, 1)
    sensor = photometric in (tags.CFA, tags.LINEAR_RAW) or compression in (34713, 32767, 65535, 32770)
    for maker, format_name, extension in _MAKERS:
        # The maker's tag alone is a guess: pictures developed by its software carry it too.
        if not make.startswith(maker):
            continue
        nested = tags.SUB_IFDS in first.entries and maker in ("nikon", "sony")
        if sensor or nested or name.lower().endswith(extension):
            return format_name
    return "RAW" if sensor else plain


# --- ISO base media files ------------------------------------------------------------------------------------

_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})


def _detect_boxes(head: bytes) -> Detection:
    (size,) = struct.unpack_from(">I", head)
    end = min(size if size >= 16 else 16, len(head), 16 + 4 * BRANDS_MAX)
    major = head[8:12]
    brands = {head[at : at + 4] for at in range(16, end - 3, 4)} | {major}
    if major == b"crx ":
        return detection("CR3")
    if major in (b"avif", b"avis"):
        return detection("AVIF")
    if major in _HEIC_BRANDS:
        return detection("HEIC")
    if major in (b"mif1", b"msf1", b"mif2"):
        if b"avif" in brands:
            return detection("AVIF")
        return detection("HEIC" if brands & _HEIC_BRANDS else "HEIF")
    if major in (b"jp2 ", b"jpx "):
        return detection("JP2")
    if major == b"qt  ":
        return detection("MOV")
    return detection("MP4")


# --- ZIP -----------------------------------------------------------------------------------------------------


def _detect_zip(head: bytes, size_bytes: int) -> Reader[Detection]:
    """Office and EPUB documents are ZIPs: told by the names in the central directory, wherever they stand."""
    if head[:4] == b"PK\x03\x04" and len(head) >= 30:
        name_size, extra_size = struct.unpack_from("<HH", head, 26)
        (stored_size,) = struct.unpack_from("<I", head, 18)
        if head[30 : 30 + name_size] == b"mimetype":
            at = 30 + name_size + extra_size
            known = _MIMETYPES.get(head[at : at + min(stored_size, 128)])
            if known:
                return detection(known)
    tail_start = max(0, size_bytes - ZIP_TAIL_BYTES)
    tail = yield Range(tail_start, size_bytes - tail_start)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        return detection("ZIP")
    directory_size, directory_start = struct.unpack_from("<II", tail, at + 12)
    end = min(size_bytes, directory_start + min(directory_size, HEAD_BYTES))
    if end <= directory_start:
        return detection("ZIP")  # empty, or ZIP64: no Office document is that large
    if directory_start >= tail_start:
        directory = tail[directory_start - tail_start : end - tail_start]
    else:
        directory = yield Range(directory_start, end - directory_start)
    names = _zip_names(directory)
    if any(name == "[Content_Types].xml" for name in names):
        for folder, format_name in _OFFICE:
            if any(name.startswith(folder) for name in names):
                return detection(format_name)
    return detection("ZIP")


def _zip_names(directory: bytes) -> list[str]:
    names: list[str] = []
    at = 0
    while directory[at : at + 4] == b"PK\x01\x02" and at + 46 <= len(directory) and len(names) < ZIP_NAMES_MAX:
        name_size, extra_size, comment_size = struct.unpack_from("<HHH", directory, at + 28)
        names.append(directory[at + 46 : at + 46 + name_size].decode("utf-8", "replace"))
        at += 46 + name_size + extra_size + comment_size
    return names


# --- DICOM without a preamble --------------------------------------------------------------------------------

_VALUE_REPRESENTATIONS: Final = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
_LONG_FORM: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


def _is_bare_dicom(head: bytes) -> bool:
    """Two ascending elements of group 0002 or 0008 with plausible lengths (PS3.5 7.1), in any transfer syntax."""
    return any(_two_elements(head, order, explicit) for order in ("<", ">") for explicit in (True, False))


def _two_elements(head: bytes, order: str, explicit: bool) -> bool:
    at, last = 0, -1
    for _ in range(2):
        if at + 12 > len(head):
            return False
        group, element = struct.unpack_from(order + "HH", head, at)
        number = group << 16 | element
        if group not in (0x0002, 0x0008) or number <= last or (last < 0 and element > 0x0020):
            return False
        if explicit:
            if head[at + 4 : at + 6] not in _VALUE_REPRESENTATIONS:
                return False
            if head[at + 4 : at + 6] in _LONG_FORM:
                (length,) = struct.unpack_from(order + "I", head, at + 8)
                at += 12
            else:
                (length,) = struct.unpack_from(order + "H", head, at + 6)
                at += 8
        else:
            (length,) = struct.unpack_from(order + "I", head, at + 4)
            at += 8
        if length > 1024 or length % 2:
            return False
        at += length
        last = number
    return True
