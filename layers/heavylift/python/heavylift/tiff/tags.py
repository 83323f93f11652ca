"""Names for the numbers of TIFF 6.0 (Adobe, 1992), BigTIFF, TIFF/EP, DNG 1.7 and the registered private tags."""

from __future__ import annotations

from typing import Final

NEW_SUBFILE_TYPE: Final = 254
IMAGE_WIDTH: Final = 256
IMAGE_LENGTH: Final = 257
BITS_PER_SAMPLE: Final = 258
COMPRESSION: Final = 259
PHOTOMETRIC: Final = 262
FILL_ORDER: Final = 266
IMAGE_DESCRIPTION: Final = 270
MAKE: Final = 271
MODEL: Final = 272
STRIP_OFFSETS: Final = 273
ORIENTATION: Final = 274
SAMPLES_PER_PIXEL: Final = 277
ROWS_PER_STRIP: Final = 278
STRIP_BYTE_COUNTS: Final = 279
PLANAR_CONFIGURATION: Final = 284
T4_OPTIONS: Final = 292
T6_OPTIONS: Final = 293
PREDICTOR: Final = 317
COLOR_MAP: Final = 320
TILE_WIDTH: Final = 322
TILE_LENGTH: Final = 323
TILE_OFFSETS: Final = 324
TILE_BYTE_COUNTS: Final = 325
SUB_IFDS: Final = 330
INK_SET: Final = 332
EXTRA_SAMPLES: Final = 338
SAMPLE_FORMAT: Final = 339
S_MIN_SAMPLE_VALUE: Final = 340
S_MAX_SAMPLE_VALUE: Final = 341
JPEG_TABLES: Final = 347
YCBCR_COEFFICIENTS: Final = 529
YCBCR_SUBSAMPLING: Final = 530
REFERENCE_BLACK_WHITE: Final = 532
ICC_PROFILE: Final = 34675
LERC_PARAMETERS: Final = 50674  # version, and by what the coded bytes are compressed once more
DNG_VERSION: Final = 50706

NONE: Final = 1
CCITT: Final = frozenset({2, 3, 4})
LZW: Final = 5
OLD_JPEG: Final = 6
JPEG: Final = 7
DEFLATE: Final = frozenset({8, 32946})
PACKBITS: Final = 32773
LZMA: Final = 34925
ZSTD: Final = 50000
WEBP: Final = 50001
LERC: Final = 34887
JPEG_XL: Final = frozenset({50002, 52546})  # as registered, and of DNG
JPEG_2000: Final = frozenset({33003, 33005, 34712})  # Aperio's YCbCr and RGB, and the one of libvips and GDAL

COMPRESSION_NAMES: Final[dict[int, str]] = {
    1: "none",
    2: "ccitt-rle",
    3: "ccitt-g3",
    4: "ccitt-g4",
    5: "lzw",
    6: "jpeg-old",
    7: "jpeg",
    8: "deflate",
    32946: "deflate",
    32773: "packbits",
    33003: "jpeg-2000",
    33005: "jpeg-2000",
    34712: "jpeg-2000",
    LERC: "lerc",
    34892: "lossy-jpeg",
    34925: "lzma",
    50000: "zstd",
    50001: "webp",
    **dict.fromkeys(JPEG_XL, "jpeg-xl"),
}

# What the libtiff inside Pillow's wheel decodes, two codings whose chunks are pictures that Pillow decodes by itself,
# and two whose chunks imagecodecs decodes to numbers; others are refused by name before anything is fetched.
DECODABLE: Final = frozenset({1, 2, 3, 4, 5, 7, 8, 32946, 32773, 34925, 50000, WEBP, LERC, *JPEG_2000, *JPEG_XL})
# Codings of bytes, whatever the samples are; the others know their samples.
OF_BYTES: Final = frozenset({1, 5, 8, 32946, 32773, 34925, 50000})
# Chunks that decode to numbers of the picture's own kind.
OF_NUMBERS: Final = frozenset({LERC, *JPEG_XL})
# Chunks that are whole pictures of their own.
PICTURES: Final = frozenset({WEBP, *JPEG_2000})

# Most bytes that one stored byte can become: deflate 258 bytes from 2 bits (RFC 1951), PackBits 128 from 2,
# LZW one 12-bit code for a string of at most 4,094 bytes. Formats without an entry have no useful bound.
EXPANSION_MAX: Final[dict[int, int]] = {5: 2731, 8: 1032, 32946: 1032, 32773: 64}

WHITE_IS_ZERO: Final = 0
BLACK_IS_ZERO: Final = 1
RGB: Final = 2
PALETTE: Final = 3
MASK: Final = 4
SEPARATED: Final = 5
YCBCR: Final = 6
CIELAB: Final = 8
ICCLAB: Final = 9
CFA: Final = 32803
LINEAR_RAW: Final = 34892
