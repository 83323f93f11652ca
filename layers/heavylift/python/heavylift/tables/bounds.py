"""Every limit of the validator, each with its reason. Rules may tighten those that ``rules`` names."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

PIECES_FROM_BYTES: Final = 1024 * MIB  # a file of this size is read by many at once: one alone takes half a minute
PIECE_BYTES: Final = 128 * MIB  # some seconds of work, whole wide windows of the sample; 800 messages for 100 GiB

HEAD_BYTES: Final = 64 * KIB  # decides encoding and dialect; two whole lines of JSONL with 30 KB records
BLOCK_BYTES: Final = 256 * KIB  # worked on at once: it stays in the second-level cache (larger blocks are slower)
LINES_BYTES: Final = 32 * KIB  # of JSON lines cut apart at once: the lines are parsed while the nearest cache has them
ROWS_BYTES: Final = 64 * KIB  # matched by one pattern at once: its repeats are remembered one by one
RECORD_BYTES: Final = 16 * MIB  # default and ceiling of ``max_record_bytes``: one record is held in memory
SMALL_JSON_BYTES: Final = MIB  # a longer text is scanned and not made into objects, which may need 25 x its size
JSON_DEPTH: Final = 1_024  # of arrays and objects together, as orjson accepts
JSON_NUMBER_BYTES: Final = MIB  # of one number where a text is scanned in pieces
OBJECT_BYTES: Final = 24 * MIB  # a record and its objects (estimated) where a schema wants to see them
LONG_ROW_BYTES: Final = MIB  # a longer row is judged cell by cell, and is never of the sample
CELL_BYTES: Final = MIB  # of one cell that a schema is to judge: as text it may need four times as much

ERRORS_INLINE: Final = 100  # in the report
ERRORS_LISTED: Final = 10_000  # in the list beside the report
ERRORS_LISTED_BYTES: Final = 4 * MIB  # of that list: it travels with every checkpoint
ERRORS_OF_PIECE: Final = 1_000  # listed by who reads one piece: the report's reader holds its own list beside it
ERRORS_PER_RECORD: Final = 100  # one record of garbage must not fill the list
EXCERPT_BYTES: Final = 200
MESSAGE_LENGTH: Final = 500  # a schema's own words may be endless

COLUMNS_MAX: Final = 16_384  # the widest sheet that spreadsheet programs write (XFD)
FIELD_NAME_LENGTH: Final = 200
RATE_RECORDS_MIN: Final = 10_000  # before that an error rate says little
UNPACKED_RATIO: Final = 200  # output over the whole file's size, beyond
UNPACKED_FREE_BYTES: Final = 100 * MIB  # which is always allowed
INFLATE_FROM_BYTES: Final = 64 * MIB  # a larger gzip file is read so that a slice can go on where the last one ended
INFLATE_SPACING_BYTES: Final = MIB  # of output between two places to go on from
INFLATE_PLACES: Final = 20  # places that are kept, 32 KiB each: a record of RECORD_BYTES may lie behind them
UNPACKED_BYTES: Final = 1 << 40  # a tebibyte, whatever the ratio
ZSTD_WINDOW_BYTES: Final = 8 * MIB  # RFC 8878, 3.1.1.1.2: what every decoder should support

UNIQUE_KEYS: Final = 1 << 20  # keys remembered exactly, all key sets together: 16 MiB
UNIQUE_SETS: Final = 8
STATISTICS_COLUMNS: Final = 200
STATISTICS_WHOLE_BYTES: Final = 128 * KIB  # every record is looked at up to here,
STATISTICS_WINDOW_BYTES: Final = 64 * KIB  # then the first that begins in each window,
STATISTICS_FINE_BYTES: Final = 4 * MIB  # beyond which
STATISTICS_WIDE_WINDOW_BYTES: Final = MIB  # windows are wide: a sampled record costs as much as fifty others
DISTINCT_KEPT: Final = 128  # smallest hashes kept per column: exact up to 128, then within about 9 %
