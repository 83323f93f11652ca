"""Tickets: what stands in for a token where a client can send none, as text for a path. Stdlib only: ``sign`` uses it.

A ticket names a tenant, a user and an end, sealed by an HMAC with the table's key. It opens the Companion routes and
nothing else: they let their caller begin uploads and finish those that were begun so by the same user.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from dataclasses import dataclass
from hashlib import sha256

from heavylift.errors import RequestError

_MAC_BYTES = 32
# The same key seals page tokens: there a tenant's name stands at this place, and no tenant's name has a space.
_PURPOSE = b"companion ticket 1\0"


@dataclass(frozen=True, slots=True)
class Ticket:
    """``expires_at``: whole seconds since 1970."""

    tenant: str
    user: str
    expires_at: int


def _mac(secret: bytes, plain: bytes) -> bytes:
    return hmac.new(secret, _PURPOSE + plain, sha256).digest()


def seal(secret: bytes, ticket: Ticket) -> str:
    """The ticket as a path segment of letters, digits, ``-`` and ``_``."""
    plain = json.dumps([ticket.tenant, ticket.user, ticket.expires_at], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_mac(secret, plain) + plain).decode().rstrip("=")


def unseal(secret: bytes | None, text: str, now: float) -> Ticket:
    """The ticket in ``text``; ``secret`` None: nothing was ever sealed.

    RequestError ``ticket_invalid`` for anything that we did not seal, ``ticket_expired``. Neither names the text.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    mac, plain = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    genuine = secret is not None and hmac.compare_digest(mac, _mac(secret, plain))
    # Base64 has more than one text for the same bytes; only the one that we gave out is taken.
    if not genuine or base64.urlsafe_b64encode(raw).decode().rstrip("=") != text:
        raise RequestError("ticket_invalid", "This is no ticket of ours; ask for a new one.")
    ticket = Ticket(*json.loads(plain))
    if ticket.expires_at <= now:
        raise RequestError("ticket_expired", "This ticket's time is over; ask for a new one.")
    return ticket
