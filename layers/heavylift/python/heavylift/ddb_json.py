"""Items of DynamoDB's JSON and back: str, int, float, bool, None, bytes, list, dict. Stdlib only: ``sign`` uses it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any


def encode(value: Any) -> dict[str, Any]:
    """One value as an attribute value, e.g. 5 -> {"N": "5"}. TypeError for anything else."""
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": str(value)}
        case int() | float():
            return {"N": repr(value)}
        case bytes():
            return {"B": value}
        case list() | tuple():
            return {"L": [encode(item) for item in value]}
        case Mapping():
            return {"M": {str(key): encode(item) for key, item in value.items()}}
    raise TypeError(f"no attribute value for {type(value).__name__}")


def decode(attribute: Mapping[str, Any]) -> Any:
    """The value of one attribute; numbers come back as int where they are whole, else float."""
    ((kind, value),) = attribute.items()
    match kind:
        case "S" | "BOOL":
            return value
        case "N":
            return int(value) if value.lstrip("-").isdigit() else float(value)
        case "NULL":
            return None
        case "B":
            return base64.b64decode(value) if isinstance(value, str) else bytes(value)
        case "L":
            return [decode(item) for item in value]
        case "M":
            return {key: decode(item) for key, item in value.items()}
    raise ValueError(f"unknown attribute type {kind}")


def encode_item(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: encode(value) for key, value in values.items()}


def decode_item(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: decode(value) for key, value in item.items()}
