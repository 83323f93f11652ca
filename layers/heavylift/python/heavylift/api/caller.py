"""Who calls: tenant, user and body of an HTTP API event. Stdlib only: ``sign`` uses it.

This is the one place where a tenant comes from: the token's claim, never the path, the query or the body.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heavylift.errors import RequestError
from heavylift.ids import is_file_id, is_tenant
from heavylift.limits import FACILITY_LENGTH_MAX


@dataclass(frozen=True, slots=True)
class Caller:
    tenant: str
    user: str
    scopes: frozenset[str]


def caller_of(event: Mapping[str, Any], tenant_claim: str = "tenant") -> Caller:
    """The caller that the JWT authorizer has proven. RequestError ``no_tenant``."""
    authorizer = (event.get("requestContext") or {}).get("authorizer") or {}
    token = authorizer.get("jwt") or {}
    claims = token.get("claims") or {}
    tenant = claims.get(tenant_claim)
    if not is_tenant(tenant):
        raise RequestError("no_tenant", f"The token has no usable claim {tenant_claim!r}.", claim=tenant_claim)
    scopes = token.get("scopes") or str(claims.get("scope", "")).split()
    return Caller(str(tenant), str(claims.get("sub", "")), frozenset(scopes))


def facility_of(event: Mapping[str, Any], facility_claim: str) -> str | None:
    """The facility that the token names, if it does: a text of up to 200 characters. RequestError otherwise."""
    claims = (((event.get("requestContext") or {}).get("authorizer") or {}).get("jwt") or {}).get("claims") or {}
    facility = claims.get(facility_claim)
    if facility is None or facility == "":
        return None
    if not isinstance(facility, str) or len(facility) > FACILITY_LENGTH_MAX:
        raise RequestError("facility_not_allowed", f"The token's claim {facility_claim!r} names no facility.")
    return facility


def path_id(event: Mapping[str, Any], name: str = "id") -> str:
    """An upload's or file's id from the path. RequestError ``not_found`` for what cannot be one."""
    text = str((event.get("pathParameters") or {}).get(name, ""))
    if not is_file_id(text):
        raise RequestError("not_found", "There is no upload or file with this id.")
    return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")  # Python's reader takes NaN and Infinity; RFC 8259 does not


def json_body(event: Mapping[str, Any]) -> Any:
    """The body's JSON value; an empty body is {}. RequestError ``not_json``."""
    text = event.get("body") or ""
    try:
        raw = base64.b64decode(text, validate=True) if event.get("isBase64Encoded") else text.encode()
        return json.loads(raw, parse_constant=_no_constant) if raw.strip() else {}
    except (ValueError, UnicodeEncodeError, RecursionError):
        raise RequestError("not_json", "The body is no JSON.") from None


def whole_number(value: Any) -> int | None:
    """A JSON value as a whole number; None when it is none. 7.0 is one (JSON Schema, "integer"), true is not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def query(event: Mapping[str, Any]) -> dict[str, str]:
    """The query's parameters; a repeated one is joined by commas, as the gateway does."""
    return dict(event.get("queryStringParameters") or {})
