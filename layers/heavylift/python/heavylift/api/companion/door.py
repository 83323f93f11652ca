"""Who comes with a ticket, to which upload, and how refusals look there. Stdlib only: ``sign`` uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heavylift import tickets
from heavylift.api import problems
from heavylift.api.caller import Caller
from heavylift.errors import HeavyliftError, RequestError
from heavylift.ids import is_ulid

PREFIX = "/s3/t/"


def comes_with_ticket(event: Mapping[str, Any]) -> bool:
    """Whether the gateway's route is one of these."""
    return f" {PREFIX}" in str(event.get("routeKey"))


def path_text(event: Mapping[str, Any], name: str) -> str:
    """A piece of the path; "" when the route has none of this name."""
    return str((event.get("pathParameters") or {}).get(name, ""))


def caller_of(event: Mapping[str, Any], secret: bytes | None, now: float) -> Caller:
    """Tenant and user of the ticket in the path. RequestError ``ticket_invalid``, ``ticket_expired``."""
    ticket = tickets.unseal(secret, path_text(event, "ticket"), now)
    return Caller(ticket.tenant, ticket.user, frozenset())


def upload_id_of(event: Mapping[str, Any]) -> str:
    """The file id in the path. RequestError ``ticket_foreign`` for what cannot be one."""
    text = path_text(event, "uploadId")
    if not is_ulid(text):
        raise foreign()
    return text


def must_be_his(caller: Caller, event: Mapping[str, Any], record: Mapping[str, Any] | None) -> None:
    """That this upload was begun with a ticket of the same user, and is the one that the query's key names, if any.

    ``record``: its by_ticket, user, mode and key. RequestError ``ticket_foreign``: the same for an id that never was,
    another tenant's, another user's, and an upload that was begun with a token.
    """
    key = (event.get("queryStringParameters") or {}).get("key")
    if (
        record is None
        or not record.get("by_ticket")
        or record.get("mode") != "multipart"
        or record.get("user", "") != caller.user
        or key not in {None, record.get("key")}
    ):
        raise foreign()


def foreign() -> RequestError:
    return RequestError("ticket_foreign", "This ticket has no upload with this id and key.")


def status_of(error: HeavyliftError) -> int:
    """As everywhere, but 400 for a body or a parameter that breaks its schema: Companion knows no 422."""
    status = problems.status_of(error)
    return 400 if status == 422 else status


def refusal(error: HeavyliftError) -> dict[str, Any]:
    """The Lambda answer for an error, in Companion's shape. It never holds the ticket: no message of ours does."""
    status = status_of(error)
    later = {"retry-after": str(error.facts.get("retry_after_s", problems.RETRY_AFTER_S))}
    return problems.json_answer(status, {"error": error.message}, later if status in {429, 503} else None)
