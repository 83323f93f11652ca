"""Every code that a report may hold. Pure; docs/validation.md shows this table.

Names are those of Table Schema tools where such tools have one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Code:
    """``level``: ``record`` errors count against ``max_errors``; one ``file`` error makes the file invalid; a
    ``warning`` never does."""

    name: str
    level: str
    formats: str
    words: str


CODES: Final[dict[str, Code]] = {
    code.name: code
    for code in (
        Code("encoding-error", "record", "all", "Bytes that are not text in the file's encoding."),
        Code("nul-byte", "record", "all", "A NUL byte."),
        Code("record-too-long", "record", "all", "A record or line longer than `max_record_bytes`."),
        Code("blank-line", "record", "JSONL", "A line with nothing but blanks."),
        Code("invalid-json", "record", "JSONL, JSON", "Text that RFC 8259 does not allow."),
        Code("nesting-too-deep", "record", "JSONL, JSON", "More than 1,024 arrays and objects inside each other."),
        Code("number-out-of-range", "record", "JSONL, JSON", "A number that no finite double can hold."),
        Code("duplicate-key", "record", "JSONL, JSON", "A member name twice in one object (`duplicate_members`)."),
        Code("schema", "record", "JSONL, JSON", "A value that the JSON Schema does not allow."),
        Code(
            "record-too-complex", "record", "JSONL, JSON, CSV", "Too large to be judged by a schema in bounded memory."
        ),
        Code("stray-quote", "record", "CSV", "A quote inside a cell that does not begin with one."),
        Code("text-after-quote", "record", "CSV", "Text between a closing quote and the next delimiter."),
        Code("unterminated-quote", "record", "CSV", "A quoted cell that never ends; reading goes on at the next line."),
        Code("stray-newline", "record", "CSV", "A line break character that is not the file's own, outside quotes."),
        Code("blank-row", "record", "CSV", "An empty line between rows of two or more columns."),
        Code("missing-cell", "record", "CSV", "Fewer cells than the header has."),
        Code("extra-cell", "record", "CSV", "More cells than the header has."),
        Code("type-error", "record", "CSV", "A cell that its field's type does not allow."),
        Code("constraint-error", "record", "CSV", "A cell that a constraint of its field does not allow."),
        Code("unique-error", "record", "CSV, JSONL", "A key of `unique_keys` or of a unique field, once more."),
        Code("primary-key", "record", "CSV", "A primary key that is empty or there for the second time."),
        Code("formula-cell", "record", "CSV", "A cell that a spreadsheet would run as a formula (`formula_cells`)."),
        Code("control-character", "record", "text", "A control character that text does not hold."),
        Code("blank-header", "file", "CSV", "There is no header."),
        Code("blank-label", "file", "CSV", "A column without a name."),
        Code("duplicate-label", "file", "CSV", "Two columns of the same name."),
        Code("missing-label", "file", "CSV", "A field of the schema that the header lacks."),
        Code("extra-label", "file", "CSV", "A column that the schema lacks."),
        Code("incorrect-label", "file", "CSV", "A column whose name is not the schema's."),
        Code("too-many-columns", "file", "CSV", "More than 16,384 columns."),
        Code("row-count", "file", "all", "Fewer records than `min_records`, or more than `max_records`."),
        Code("byte-count", "file", "all", "More bytes than `max_file_size`."),
        Code("type-mismatch", "file", "all", "Content of another format than announced, or of none that is allowed."),
        Code("compression-error", "file", "all", "Compressed data that is broken, cut off or followed by other bytes."),
        Code("decompression-limit", "file", "all", "More decompressed bytes than are allowed for so small a file."),
        Code("bom", "warning", "all", "A byte order mark at the beginning; it is skipped."),
        Code("mixed-newlines", "warning", "all", "Both LF and CRLF end lines."),
        Code("trailing-blank-line", "warning", "CSV, JSONL", "One empty line at the very end."),
        Code("unlike-name", "warning", "all", "Content that looks like another format than the one announced."),
    )
}
