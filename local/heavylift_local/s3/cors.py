"""CORS decisions: which headers a preflight or a real request gets. No I/O here.

As recorded from S3: the first rule whose origin (one `*` inside allowed), method and all requested headers match
(any case); the answer names the origin and allows credentials unless the rule's origin is `*` itself.
"""

from collections.abc import Sequence

from heavylift_local.s3.config import CorsRule
from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.policy import matches

VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"
METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "HEAD"})

Headers = list[tuple[str, str]]


def _origin_match(rule: CorsRule, origin: str) -> str | None:
    """The rule's own origin entry that covers *origin*."""
    for allowed in rule.allowed_origins:
        # S3 compares origins with case; `?` has no meaning in a CORS rule.
        if "*" in allowed:
            head, _, tail = allowed.partition("*")
            if origin.startswith(head) and origin.endswith(tail) and len(origin) >= len(head) + len(tail):
                return allowed
        elif allowed == origin:
            return allowed
    return None


def _header_allowed(rule: CorsRule, name: str) -> bool:
    return any(matches(allowed, name, fold=True) for allowed in rule.allowed_headers)


def _answer(rule: CorsRule, origin: str, matched: str) -> Headers:
    headers: Headers = []
    if matched == "*":
        headers.append(("Access-Control-Allow-Origin", "*"))
    else:
        headers.append(("Access-Control-Allow-Origin", origin))
        headers.append(("Access-Control-Allow-Credentials", "true"))
    headers.append(("Access-Control-Allow-Methods", ", ".join(rule.allowed_methods)))
    if rule.expose_headers:
        headers.append(("Access-Control-Expose-Headers", ", ".join(rule.expose_headers)))
    if rule.max_age_seconds is not None:
        headers.append(("Access-Control-Max-Age", str(rule.max_age_seconds)))
    headers.append(("Vary", VARY))
    return headers


def actual(rules: Sequence[CorsRule], origin: str | None, method: str) -> Headers:
    """Headers for a real request's answer, errors included; none when no rule covers origin and method."""
    if not origin:
        return []
    for rule in rules:
        matched = _origin_match(rule, origin)
        if matched is not None and method in rule.allowed_methods:
            return _answer(rule, origin, matched)
    return []


def preflight(
    rules: Sequence[CorsRule] | None, origin: str | None, method: str | None, requested: str | None, resource: str
) -> Headers:
    """Headers of the 200 for an OPTIONS request; *rules* None: no such bucket; *resource*: BUCKET or OBJECT.

    Raises BadRequest (400) or AccessForbidden (403).
    """
    if not origin:
        raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    if not rules:
        message = "CORS is not enabled for this bucket." if rules is not None else "Bucket not found"
        fields = {"Method": method or "OPTIONS", "ResourceType": "BUCKET"}
        raise S3Error("AccessForbidden", f"CORSResponse: {message}", fields=fields)
    if not method or method not in METHODS:
        raise S3Error("BadRequest", f"Invalid Access-Control-Request-Method: {method or 'null'}")
    names = [name.strip().lower() for name in (requested or "").split(",") if name.strip()]
    for rule in rules:
        matched = _origin_match(rule, origin)
        if matched is None or method not in rule.allowed_methods:
            continue
        if all(_header_allowed(rule, name) for name in names):
            headers = _answer(rule, origin, matched)
            if names:
                headers.insert(-1, ("Access-Control-Allow-Headers", ", ".join(names)))
            return headers
    message = (
        "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request "
        "method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the "
        "resource's CORS spec."
    )
    raise S3Error("AccessForbidden", message, fields={"Method": method, "ResourceType": resource})
