"""How a file is to be read: compression, encoding, format, dialect. Pure.

All of it follows from the file's first bytes, what was announced, and the rules; the answer is plain JSON, so that
every slice of the work reads alike.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from heavylift.sniff_text import sniff_text
from heavylift.tables.bounds import HEAD_BYTES
from heavylift.tables.dialect import Dialect, parse_dialect
from heavylift.tables.encodings import ToUtf8, bom_of, exact_name
from heavylift.tables.names import PACKED
from heavylift.tables.rules import FORMATS, Rules

_READABLE: Final = {"XML": "Text"}  # XML is read as the text that it is


@dataclass(frozen=True, slots=True)
class Plan:
    """``refused``: (code, message) of a file that is not read at all. ``seems``: what the content looks like."""

    format: str
    compression: str | None
    encoding: str
    bom_bytes: int = 0
    dialect: Dialect | None = None
    seems: str | None = None
    refused: tuple[str, str] | None = None

    def state(self) -> dict[str, Any]:
        """Plain JSON for ``from_state``."""
        return {
            "format": self.format,
            "compression": self.compression,
            "encoding": self.encoding,
            "bom_bytes": self.bom_bytes,
            "dialect": self.dialect.state() if self.dialect else None,
            "seems": self.seems,
            "refused": list(self.refused) if self.refused else None,
        }


def from_state(state: Mapping[str, Any]) -> Plan:
    """The plan that ``state`` was made of."""
    dialect = Dialect(**state["dialect"]) if state["dialect"] else None
    refused = tuple(state["refused"]) if state["refused"] else None
    return Plan(**{**state, "dialect": dialect, "refused": refused})


def compression_of(head: bytes) -> str | None:
    """Told by the file's own first bytes alone."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    return "zstd" if head.startswith(b"\x28\xb5\x2f\xfd") else None


def plan_for(head: bytes, more: bool, name: str, announced: str | None, rules: Rules, compression: str | None) -> Plan:
    """``head``: the first HEAD_BYTES of the content, unpacked (``more``: it goes on). ``announced``: a format.

    What is announced decides among text formats, the content only where nothing is: one column of CSV and one line of
    JSON look like text, and a broken table must be called a broken table.
    """
    head = head[:HEAD_BYTES]
    encoding = exact_name(head, rules.encoding)
    if encoding is None:
        words = 'The file is UTF-16 or UTF-32; the rule "encoding": "utf-16" has UTF-16 read.'
        plan = Plan(announced or "Text", compression, "utf-16", refused=("encoding-error", words))
        return _allowed(plan, rules)
    bom = bom_of(head, encoding)
    bare = name.lower()
    for ending in PACKED:
        bare = bare.removesuffix("." + ending)
    reader = ToUtf8(encoding)
    body = reader.feed(head[len(bom) :])
    # A character that is cut at the end of the head is of no use here.
    text = body.decode("utf-8", "ignore")
    sniffed = sniff_text(text.encode(), more, bare) if text else None
    seems = _READABLE.get(sniffed.format, sniffed.format) if sniffed else None
    format_name = announced or seems or "Text"
    if format_name not in FORMATS:
        words = f"The content is {format_name}, not a table, JSON or text."
        return Plan("Text", compression, encoding, len(bom), seems=seems, refused=("type-mismatch", words))
    plan = Plan(format_name, compression, encoding, len(bom), seems=seems)
    if format_name in ("CSV", "TSV"):
        cut = text[: max(text.rfind("\n"), text.rfind("\r")) + 1] if more else text
        plan = replace(plan, dialect=parse_dialect(rules.dialect, format_name, cut or text))
    also = {"xml", "application/xml"} if sniffed is not None and sniffed.format == "XML" else set()
    return _allowed(plan, rules, also)


def _allowed(plan: Plan, rules: Rules, also: Collection[str] = ()) -> Plan:
    allowed = rules.allowed_formats
    if allowed is None or plan.refused or {plan.format, *_also(plan), *also} & set(allowed):
        return plan
    words = f"The file is {plan.format}; the rules allow {', '.join(allowed)}."
    return replace(plan, refused=("type-mismatch", words))


def _also(plan: Plan) -> set[str]:
    """Names under which a compressed file is allowed as well."""
    if plan.compression == "gzip":
        return {"gzip", "gz", "application/gzip"}
    return {"zstd", "zst", "application/zstd"} if plan.compression == "zstd" else set()
