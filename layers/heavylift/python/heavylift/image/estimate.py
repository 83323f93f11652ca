"""How much memory a decode takes, said before it begins. Pure functions; figures in bytes.

The per-pixel figures were measured as VmHWM of a fresh child over pictures of 24 to 108 megapixels; the tests
hold them against real decodes. An estimate is meant to be right or a little high, never low.
"""

from __future__ import annotations

from typing import Final

from heavylift.tiff import tags
from heavylift.tiff.bands import CHUNK_DECODED_BYTES_MAX, Path, Shrink, choose_path, jpeg_scale, pixel_bytes
from heavylift.tiff.layout import Chunks, Picture, by_pillow, channels

MIB: Final = 1 << 20
BASE_BYTES: Final = 38 * MIB  # the child with Pillow loaded (19), a slab being averaged, the finished thumbnails
HEADROOM: Final = 1.05
NUMPY_BYTES: Final = 26 * MIB  # loaded for samples that Pillow does not unpack, and for LZW in pieces
LZW_BYTES: Final = 20 * MIB  # a piece of 1 MiB as numbers, and up to 9 MiB decoded from its last segment

# Bytes that Pillow keeps per pixel of a mode (Storage.c): one byte up to 8 bits, two for I;16, four for all else.
MODE_BYTES: Final[dict[str, int]] = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}
# Formats whose decoder wants all stored bytes at once: as the pipe's pieces and as one string, so twice, but the
# second copy is gone when the pixels come.
WHOLE_FILE_FORMATS: Final = frozenset({"WebP", "AVIF", "HEIC", "HEIF", "TIFF", "BigTIFF", "SVS", "OME-TIFF"})
# Decoder's own buffers, bytes per pixel beside Pillow's: WebP's animation canvases, AVIF's planes. HEIC: libheif's
# planes and picture, of 10 bits or with alpha; of 8 bits it is a third less.
DECODER_BYTES: Final[dict[str, float]] = {
    "WebP": 13.0,
    "AVIF": 6.0,
    "HEIC": 5.0,
    "HEIF": 5.0,
    "PSD": 1.2,
    "GIF": 1.5,
    "PNG": 0.1,
    "BMP": 0.1,
}


def mode_bytes(mode: str) -> int:
    """Bytes per pixel as Pillow stores the mode; 4 for a mode not known."""
    return MODE_BYTES.get(mode, 4)


def whole_decode_bytes(
    format_name: str,
    width: int,
    height: int,
    mode: str,
    stored_bytes: int,
    *,
    interlaced: bool = False,
    sampled: float = 1.0,
    shrink: int = 1,
    turned: bool = False,
) -> int:
    """Peak memory of decoding the whole picture at once with Pillow and narrowing it in slabs.

    ``shrink``: by how much a JPEG or JPEG 2000 is made smaller while it is decoded. ``sampled`` as in
    PictureHeader. ``turned``: Pillow turns the picture upright itself (TIFF), which takes a second one.
    """
    pixels = width * height
    kept = mode_bytes(mode) * pixels * (2 if turned else 1)
    # The narrowed rows, twice in the last LANCZOS: at most 4 x the wanted edge high (a band's cells see to that).
    narrowed = min(32 * MIB, 2 * mode_bytes(mode) * min(pixels, 1200 * height))
    if mode in ("RGBA", "LA", "PA", "P"):
        narrowed += 16 * MIB  # a slab goes through three modes on its way to no alpha
    if format_name == "JPEG":
        # A progressive JPEG keeps all its coefficients, two bytes each, whatever size comes out.
        coefficients = 2.05 * sampled * pixels if interlaced else 0.0
        return int((BASE_BYTES + coefficients + kept / shrink**2 + narrowed) * HEADROOM)
    if format_name in ("JP2", "J2K"):
        # OpenJPEG works in four bytes a sample and keeps some twice (measured: 5.4), at the size that comes out.
        return int(
            (BASE_BYTES + (kept + 6 * max(1.0, sampled) * pixels) / shrink**2 + stored_bytes + narrowed) * HEADROOM
        )
    if format_name == "JXL":
        # The file, the samples as they come (``sampled``: their bytes), libjxl's rows and, of lossless pictures that
        # are stored in passes, whole channels of four bytes; nothing of Pillow's but a slab.
        return int((BASE_BYTES + NUMPY_BYTES + stored_bytes + (2 * sampled + 6) * pixels + narrowed) * HEADROOM)
    decoded = kept + int(DECODER_BYTES.get(format_name, 0.5) * pixels)
    if format_name in WHOLE_FILE_FORMATS:
        decoded = max(2 * stored_bytes, stored_bytes + decoded)
    return int((BASE_BYTES + decoded + narrowed) * HEADROOM)


def chunked_decode_bytes(picture: Picture, shrink: Shrink, out_width: int, chunks: Chunks) -> int:
    """Peak memory of decoding band by band: base, the narrowed rows, one band as stored and as decoded."""
    pixel = pixel_bytes(picture)
    path = choose_path(picture)
    rows_kept = -(-picture.height // shrink.rows_to_one)
    planes = picture.planes
    # The rows kept, what the last LANCZOS makes of them, the planes that are finished.
    kept = pixel * out_width * rows_kept + (planes + 1) * 4 * out_width**2
    if path is Path.CHUNKS:
        columns = shrink.columns * picture.chunk_width if picture.tiled else picture.width
        rows = max(shrink.band_rows, picture.chunk_height if picture.tiled else 0)
        if not picture.tiled:
            rows = min(rows, picture.height)
        pixels = columns * rows
        number = shrink.columns if picture.tiled else -(-rows // picture.chunk_height)
        largest = max(chunks.counts)
        stored = max(largest, min(number * largest, pixels * picture.samples_together * picture.bits // 8))
        # Stored bytes as they came and in the small TIFF, libtiff's own chunk, the decoded band.
        one_chunk = picture.chunk_width * min(picture.chunk_height, rows) * picture.samples_together * picture.bits // 8
        # The decoded band, and a second one at the right edge or with the rows that wait.
        twice = shrink.carry or (picture.tiled and shrink.columns < picture.across)
        band = 2 * stored + one_chunk + pixel * pixels * (2 if twice else 1)
        scale = jpeg_scale(picture, shrink)
        if scale > 1:  # twice: JPEGs of one chunk, and the picture that they are put together to
            band = 2 * stored + 2 * pixel * pixels // scale**2 + min(CHUNK_DECODED_BYTES_MAX, 2 * pixel * pixels)
        if picture.compression in tags.DEFLATE:  # inflated before libtiff gets them, by a library that brings numpy
            band += NUMPY_BYTES + pixels * picture.samples_together * picture.bits // 8 - stored
        if picture.bits > 8 and picture.samples_together == 1:
            band += 5 * pixels
        band += pixel * -(-picture.width // shrink.across) * -(-rows // shrink.down)
    else:
        pixels = picture.width * min(shrink.band_rows, picture.height)
        stored = pixels * picture.samples_together * picture.bits // 8
        copies = 2 if path is Path.ROWS else 3
        band = copies * stored + 4 * pixels
        if path is Path.LZW:
            band += NUMPY_BYTES + LZW_BYTES
        band += pixel * -(-picture.width // shrink.across) * -(-shrink.band_rows // shrink.down)
    if not by_pillow(picture):  # as numbers and as pictures, and once more where an average is taken
        decoded = pixels * picture.samples_together * picture.bits // 8
        band += NUMPY_BYTES + 3 * decoded + 4 * pixels * channels(picture)
    return int((BASE_BYTES + kept + band + chunks.held_bytes) * HEADROOM)
