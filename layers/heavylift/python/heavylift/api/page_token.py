"""Page tokens that cannot be forged: the next page's key, sealed by an HMAC over it and the list it belongs to."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from hashlib import sha256

from heavylift.errors import RequestError

_MAC_BYTES = 16  # 128 bits: nobody guesses that, and the token stays short


def seal(secret: bytes, scope: str, key: Mapping[str, str]) -> str:
    """A token for ``key`` that opens only with the same ``scope`` (tenant and filters)."""
    plain = json.dumps(dict(key), separators=(",", ":"), sort_keys=True).encode()
    mac = hmac.new(secret, scope.encode() + b"\0" + plain, sha256).digest()[:_MAC_BYTES]
    return base64.urlsafe_b64encode(mac + plain).decode().rstrip("=")


def unseal(secret: bytes, scope: str, token: str) -> dict[str, str]:
    """The key in a token. RequestError ``invalid_next_token`` for anything that we did not seal for this scope."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        raw = b""
    mac, plain = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    expected = hmac.new(secret, scope.encode() + b"\0" + plain, sha256).digest()[:_MAC_BYTES]
    # Base64 has more than one text for the same bytes; only the one that we gave out is taken.
    if not hmac.compare_digest(mac, expected) or base64.urlsafe_b64encode(raw).decode().rstrip("=") != token:
        raise RequestError("invalid_next_token", "This next_token does not belong to this list.")
    key: dict[str, str] = json.loads(plain)
    return key
