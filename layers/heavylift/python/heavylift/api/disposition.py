"""Content-Disposition for a name that may hold anything (RFC 6266, RFC 8187)."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

NAME_BYTES_MAX = 180  # of UTF-8: percent-encoded three times that, and the URL must stay far below 8 KB


def safe_name(name: str) -> str:
    """A file name without path or control characters; of a long name the end is kept, with its extension."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    plain = "".join(c for c in last if unicodedata.category(c)[0] != "C").strip(" .") or "file"
    encoded = plain.encode("utf-8", "replace")
    return encoded[-NAME_BYTES_MAX:].decode("utf-8", "ignore") if len(encoded) > NAME_BYTES_MAX else plain


def content_disposition(name: str, *, inline: bool = False) -> str:
    """``attachment; filename="…"; filename*=UTF-8''…``; the plain form is ASCII without quotes or backslashes."""
    safe = safe_name(name)
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%;' else "_" for c in safe)
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe='')}"
