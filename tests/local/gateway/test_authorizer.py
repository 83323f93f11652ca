"""A development token opens what it says it opens, for as long as it says."""

from __future__ import annotations

import time

import jwt
import pytest

from heavylift_local.gateway.authorizer import ISSUER, Authorizer, Forbidden, Unauthorized, claim_text

AUTHORIZER = Authorizer("s" * 32)


def test_claims_reach_the_function_as_strings() -> None:
    """tenant, sub and scope as given; times as text."""
    token = AUTHORIZER.mint("acme", "jo", ["heavylift/read", "heavylift/write"])
    made = AUTHORIZER.authorize(f"Bearer {token}", "heavylift/write")

    assert made["claims"]["tenant"] == "acme"
    assert made["claims"]["sub"] == "jo"
    assert made["claims"]["exp"].isdigit()
    assert made["scopes"] == ["heavylift/read", "heavylift/write"]


def test_the_tenants_claim_can_have_another_name() -> None:
    """TENANT_CLAIM renames it; a tenant of None leaves it out."""
    renamed = Authorizer("s" * 32, "custom:org")
    named = renamed.authorize(renamed.mint("acme", "jo", ["s"]), "s")["claims"]
    without = renamed.authorize(renamed.mint(None, "jo", ["s"]), "s")["claims"]

    assert named["custom:org"] == "acme"
    assert "custom:org" not in without


def test_a_missing_scope_is_forbidden() -> None:
    """403, not 401: the token is good."""
    with pytest.raises(Forbidden):
        AUTHORIZER.authorize(AUTHORIZER.mint("t", "u", ["heavylift/read"]), "heavylift/write")


def bad_tokens() -> list[str | None]:
    good = AUTHORIZER.mint("t", "u", ["s"])
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": "u", "scope": "s", "iat": now, "exp": now + 60}
    head, body, signature = good.split(".")
    return [
        None,
        "",
        "Bearer ",
        "Bearer nonsense",
        f"Basic {good}",
        AUTHORIZER.mint("t", "u", ["s"], now=time.time() - 90_000),
        AUTHORIZER.mint("t", "u", ["s"], now=time.time() + 3600),
        Authorizer("x" * 32).mint("t", "u", ["s"]),
        f"{head}.{body}.{signature[:-2]}xx",
        jwt.encode({**claims, "iss": "somebody"}, "s" * 32, algorithm="HS256"),
        jwt.encode({k: v for k, v in claims.items() if k != "exp"}, "s" * 32, algorithm="HS256"),
        jwt.encode(claims, "s" * 64, algorithm="HS512"),
        jwt.encode(claims, None, algorithm="none"),
    ]


@pytest.mark.parametrize("number", range(13))
def test_a_bad_token_is_unauthorized(number: int) -> None:
    """None, expired, from the future, other secret, tampered, other issuer, without exp, other algorithm, unsigned."""
    with pytest.raises(Unauthorized):
        AUTHORIZER.authorize(bad_tokens()[number], "s")


def test_claims_of_every_kind_become_text() -> None:
    """Lists in brackets, booleans and null as JSON."""
    assert [claim_text(v) for v in ("a", 1, True, None, ["a", "b"])] == ["a", "1", "true", "null", "[a b]"]
