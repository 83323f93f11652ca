"""Digests as callers write them. Pure."""

from __future__ import annotations

import base64
import binascii
import re

from heavylift.errors import RequestError


def digest_forms(text: str) -> tuple[str, str]:
    """(hex, base64) of a SHA-256 given in either form. RequestError ``invalid_body``."""
    try:
        raw = bytes.fromhex(text) if re.fullmatch(r"[0-9a-fA-F]{64}", text) else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise RequestError("invalid_body", "sha256 must be 64 hexadecimal digits or the base64 of 32 bytes.")
    return raw.hex(), base64.b64encode(raw).decode()
