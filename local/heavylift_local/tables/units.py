"""What a call costs, as DynamoDB counts it. No I/O.

Sources: Amazon DynamoDB developer guide, "DynamoDB item sizes and formats" (sizes), "DynamoDB read and write
operations" (1 KB a write unit of the larger item before and after, 4 KB a read unit, half of it when eventually
consistent, a failed condition costs what the existing item would, transactions twice), "Global secondary
indexes", part "Write capacity units" (an entry added or removed costs one write, one that changes its key two).
Whether a transaction doubles the entries of its indexes is said nowhere; here it does not.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Item = Mapping[str, Any]
WRITE_UNIT_BYTES = 1024
READ_UNIT_BYTES = 4096
COLLECTION_BYTES = 3  # each list and map
ELEMENT_BYTES = 1  # each of their elements


@dataclass(frozen=True, slots=True)
class Keys:
    """A table's or an index's key attributes: partition, then sort."""

    names: tuple[str, ...]


def item_size(item: Item) -> int:
    """Bytes of an item in DynamoDB JSON: names and values."""
    return sum(len(name.encode()) + value_size(value) for name, value in item.items())


def value_size(attribute: Mapping[str, Any]) -> int:
    ((kind, value),) = attribute.items()
    match kind:
        case "S":
            return len(value.encode())
        case "N":
            return number_size(str(value))
        case "B":
            return len(value) if isinstance(value, bytes) else len(base64.b64decode(value))
        case "BOOL" | "NULL":
            return 1
        case "SS" | "NS" | "BS":
            return sum(value_size({kind[0]: one}) for one in value)
        case "L":
            return COLLECTION_BYTES + sum(ELEMENT_BYTES + value_size(one) for one in value)
        case "M":
            return COLLECTION_BYTES + len(value) * ELEMENT_BYTES + item_size(value)
    raise ValueError(f"unknown attribute type {kind}")


def number_size(text: str) -> int:
    """About one byte for two significant digits, one more, and one for a sign; zeros at the ends are not kept."""
    digits = text.lower().partition("e")[0]
    negative = digits.startswith("-")
    significant = digits.lstrip("+-").replace(".", "").strip("0")
    return min(21, math.ceil(len(significant) / 2) + 1 + negative)


def write_units_of(size_bytes: int) -> int:
    return max(1, math.ceil(size_bytes / WRITE_UNIT_BYTES))


def index_units(before: Item | None, after: Item | None, table: Keys, index: Keys) -> int:
    """Writes to one keys-only index: an entry that appears or goes is one, a moved one is two, else none."""
    old, new = _entry(before, table, index), _entry(after, table, index)
    if old == new:
        return 0
    return sum(write_units_of(item_size(entry)) for entry in (old, new) if entry is not None)


def _entry(item: Item | None, table: Keys, index: Keys) -> Item | None:
    """The index's copy of an item; None when the item lacks one of the index's keys."""
    if item is None or any(name not in item for name in index.names):
        return None
    return {name: item[name] for name in (*table.names, *index.names)}


def written(
    before: Item | None, after: Item | None, table: Keys, indexes: Sequence[Keys], *, transaction: bool = False
) -> int:
    """Units of one item that was written, its index entries included."""
    size = max(item_size(before) if before is not None else 0, item_size(after) if after is not None else 0)
    own = write_units_of(size) * (2 if transaction else 1)
    return own + sum(index_units(before, after, table, index) for index in indexes)


def refused(before: Item | None, *, transaction: bool = False) -> int:
    """Units of a write whose condition was false, or of a condition check."""
    return write_units_of(item_size(before) if before is not None else 0) * (2 if transaction else 1)


def read_units(sizes_bytes: Iterable[int], *, consistent: bool, transaction: bool = False) -> float:
    """Units of items read one by one (each is rounded up by itself)."""
    each = 2.0 if transaction else 1.0 if consistent else 0.5
    return sum(each * max(1, math.ceil(size / READ_UNIT_BYTES)) for size in sizes_bytes)
