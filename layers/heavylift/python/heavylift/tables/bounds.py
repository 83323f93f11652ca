"""Every limit of the validator, each with its reason. Rules may tighten those that ``rules`` names."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

HEAD_BYTES: Final = 64 * KIB  # decides encoding and dialect; two whole lines of JSONL with 30 KB records
BLOCK_BYTES: Final = 256 * KIB  # worked on at once: it stays in the second-level cache (larger blocks are slower)
ROWS_BYTES: Final = 64 * KIB  # matched by one pattern at once: its repeats are remembered one by one
RECORD_BYTES: Final = 16 * MIB  # default and ceiling of ``max_record_bytes``: one record is held in memory
SMALL_JSON_BYTES: Final = MIB  # a longer text is scanned and not made into objects, which may need 25 x its size
JSON_DEPTH: Final = 1_024  # of arrays and objects together, as orjson accepts
JSON_NUMBER_BYTES: Final = MIB  # of one number where a text is scanned in pieces
OBJECT_BYTES: Final = 48 * MIB  # what a record may need as objects (estimated) when a schema wants to see them

ERRORS_INLINE: Final = 100  # in the report
ERRORS_LISTED: Final = 10_000  # in the list beside the report
ERRORS_LISTED_BYTES: Final = 4 * MIB  # of that list: it travels with every checkpoint
ERRORS_PER_RECORD: Final = 100  # one record of garbage must not fill the list
EXCERPT_BYTES: Final = 200
MESSAGE_LENGTH: Final = 500  # a schema's own words may be endless

COLUMNS_MAX: Final = 16_384  # the widest sheet that spreadsheet programs write (XFD)
FIELD_NAME_LENGTH: Final = 200
RATE_RECORDS_MIN: Final = 10_000  # before that an error rate says little
UNPACKED_RATIO: Final = 200  # output over the whole file's size, beyond
UNPACKED_FREE_BYTES: Final = 100 * MIB  # which is always allowed
UNPACKED_BYTES: Final = 1 << 40  # a tebibyte, whatever the ratio
ZSTD_WINDOW_BYTES: Final = 8 * MIB  # RFC 8878, 3.1.1.1.2: what every decoder should support

UNIQUE_KEYS: Final = 1 << 20  # keys remembered exactly, all key sets together: 16 MiB
UNIQUE_SETS: Final = 8
STATISTICS_COLUMNS: Final = 200
STATISTICS_WHOLE_BYTES: Final = 256 * KIB  # every record is looked at up to here,
STATISTICS_WINDOW_BYTES: Final = 64 * KIB  # then the first that begins in each window
DISTINCT_KEPT: Final = 128  # smallest hashes kept per column: exact up to 128, then within about 9 %
