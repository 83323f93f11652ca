"""Development tokens and the JWT authorizer that checks them. No I/O here.

Facts: API Gateway developer guide, "Control access to HTTP APIs with JWT authorizers": the bearer token's
signature, issuer and times are checked, then one of the route's scopes must be in ``scope``; claims reach
the function as strings. AWS takes RSA and EC signatures only; the local stack signs HS256 with a secret
of its own and takes nothing else.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

ISSUER = "heavylift-local"
TOKEN_SECONDS = 24 * 3600
TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Unauthorized(Exception):
    """401: no token, or none of ours."""


class Forbidden(Exception):
    """403: a good token without the route's scope."""


@dataclass(frozen=True, slots=True)
class Authorizer:
    secret: str
    tenant_claim: str = "tenant"

    def mint(
        self,
        tenant: str | None,
        user: str,
        scopes: Iterable[str],
        seconds: int = TOKEN_SECONDS,
        now: float | None = None,
    ) -> str:
        """A token; a tenant of None leaves the claim out."""
        issued = int(time.time() if now is None else now)
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "sub": user,
            "scope": " ".join(scopes),
            "iat": issued,
            "exp": issued + seconds,
        }
        if tenant is not None:
            claims[self.tenant_claim] = tenant
        return jwt.encode(claims, self.secret, algorithm="HS256")

    def authorize(self, header: str | None, scope: str) -> dict[str, Any]:
        """{"claims","scopes"} for the event; raises Unauthorized or Forbidden."""
        token = (header or "").strip()
        if token[:7].lower() == "bearer ":
            token = token[7:].strip()
        if not token:
            raise Unauthorized("no token")
        try:
            claims = jwt.decode(
                token,
                self.secret,
                algorithms=["HS256"],
                issuer=ISSUER,
                options={"require": ["exp", "iat", "iss"], "verify_aud": False},
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise Unauthorized(str(error)) from None
        granted = scopes_of(claims)
        if scope not in granted:
            raise Forbidden(scope)
        return {"claims": {name: claim_text(value) for name, value in claims.items()}, "scopes": granted}


def scopes_of(claims: Mapping[str, Any]) -> list[str]:
    value = claims.get("scope", claims.get("scp", ""))
    return [str(v) for v in value] if isinstance(value, list) else str(value).split()


def claim_text(value: object) -> str:
    """A claim as the gateway hands it on: always a string; lists in brackets without quotes."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None or isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list):
        return "[" + " ".join(claim_text(v) for v in value) + "]"
    return str(value)
