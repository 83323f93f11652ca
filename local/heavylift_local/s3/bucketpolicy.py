"""Bucket policies: JSON statements that allow or deny, and the conditions this server can judge. No I/O here.

The grammar is IAM's ("IAM JSON policy elements reference"). Only what can be judged rightly is taken: an element, an
operator or a key that is not known here is refused with 501 when the policy is put, never ignored.
"""

import fnmatch
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.policy import ARN, matches

POLICY_BYTES_MAX = 20 * 1024  # S3
ALLOW, DENY = "Allow", "Deny"

# Values a request has for the keys we know; numbers for the numeric ones. Absent from the context: does not match.
KEYS = frozenset({"s3:signatureage", "s3:authtype", "s3:signatureversion", "aws:securetransport", "s3:prefix"})
_NUMERIC: dict[str, Callable[[float, float], bool]] = {
    "NumericEquals": operator.eq,
    "NumericNotEquals": operator.ne,
    "NumericLessThan": operator.lt,
    "NumericLessThanEquals": operator.le,
    "NumericGreaterThan": operator.gt,
    "NumericGreaterThanEquals": operator.ge,
}
_TEXT: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": operator.eq,
    "StringLike": lambda value, wanted: matches(wanted, value),
    "Bool": lambda value, wanted: value == wanted.lower(),
}
_NEGATED = {"StringNotEquals": "StringEquals", "StringNotLike": "StringLike"}


def malformed(message: str) -> S3Error:
    return S3Error("MalformedPolicy", message)


def unknown(what: str) -> S3Error:
    return S3Error("NotImplemented", f"A bucket policy with {what} is not implemented")


@dataclass(frozen=True, slots=True)
class Condition:
    kind: str  # the operator
    key: str  # lower case
    values: tuple[str, ...]

    def holds(self, context: Mapping[str, str | float]) -> bool:
        value = context.get(self.key)
        if self.kind in _NUMERIC:
            if value is None:
                return False
            return any(_NUMERIC[self.kind](float(value), float(wanted)) for wanted in self.values)
        if self.kind in _NEGATED:  # a negated operator matches where the key is absent
            check = _TEXT[_NEGATED[self.kind]]
            return value is None or not any(check(str(value), wanted) for wanted in self.values)
        return value is not None and any(_TEXT[self.kind](str(value), wanted) for wanted in self.values)


@dataclass(frozen=True, slots=True)
class Statement:
    effect: str
    principals: tuple[str, ...]  # "*" or ARNs
    actions: tuple[str, ...]
    resources: tuple[str, ...]  # without arn:aws:s3:::
    conditions: tuple[Condition, ...]
    all_but: bool = False  # NotAction

    def speaks_of(self, principal: str, action: str, resource: str, context: Mapping[str, str | float]) -> bool:
        named = any(matches(pattern, action, fold=True) for pattern in self.actions)
        return (
            named != self.all_but
            and any(matches(pattern, resource) for pattern in self.resources)
            and any(pattern == "*" or matches(pattern, principal) for pattern in self.principals)
            and all(condition.holds(context) for condition in self.conditions)
        )


@dataclass(frozen=True, slots=True)
class BucketPolicy:
    text: str
    statements: tuple[Statement, ...]

    def verdict(self, principal: str, action: str, resource: str, context: Mapping[str, str | float]) -> str | None:
        """ALLOW, DENY, or None where no statement speaks of it; a deny outweighs every allow."""
        found = {s.effect for s in self.statements if s.speaks_of(principal, action, resource, context)}
        return DENY if DENY in found else ALLOW if ALLOW in found else None

    @property
    def is_public(self) -> bool:
        return any(s.effect == ALLOW and "*" in s.principals and not s.conditions for s in self.statements)


def parse(text: str, bucket: str, account: str) -> BucketPolicy:
    """Raises MalformedPolicy (400) and NotImplemented (501)."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise malformed("Policies must be valid JSON and the first byte must be '{'") from None
    if not isinstance(raw, dict):
        raise malformed("Policies must be valid JSON and the first byte must be '{'")
    if not set(raw) <= {"Version", "Id", "Statement"}:
        raise malformed("Unknown field in policy")
    if raw.get("Version", "2012-10-17") not in ("2012-10-17", "2008-10-17"):
        raise malformed("The policy must contain a valid version string")
    statements = _list(raw.get("Statement"))
    if not statements:
        raise malformed("Could not parse the policy: Statement is empty!")
    return BucketPolicy(text, tuple(_statement(s, bucket, account) for s in statements))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _texts(value: Any, message: str) -> tuple[str, ...]:
    found = _list(value)
    if not found or not all(isinstance(item, str) for item in found):
        raise malformed(message)
    return tuple(found)


def _statement(raw: Any, bucket: str, account: str) -> Statement:
    if not isinstance(raw, dict):
        raise malformed("Statement must be an object")
    for name in ("NotPrincipal", "NotResource"):
        if name in raw:
            raise unknown(name)
    if not set(raw) <= {"Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "Condition"}:
        raise malformed("Unknown field in statement")
    if raw.get("Effect") not in (ALLOW, DENY):
        raise malformed(f"Invalid effect: {raw.get('Effect')}")
    if ("Action" in raw) == ("NotAction" in raw):
        raise malformed("Missing required field Action")
    actions = _texts(raw.get("Action", raw.get("NotAction")), "Missing required field Action")
    resources = _texts(raw.get("Resource"), "Missing required field Resource")
    found = []
    for resource in resources:
        name = resource.removeprefix(ARN)
        if name == resource or not fnmatch.fnmatchcase(bucket, name.partition("/")[0]):
            raise malformed("Policy has invalid resource")
        found.append(name)
    return Statement(
        raw["Effect"],
        _principals(raw.get("Principal"), account),
        actions,
        tuple(found),
        tuple(_conditions(raw.get("Condition") or {})),
        "NotAction" in raw,
    )


def _principals(raw: Any, account: str) -> tuple[str, ...]:
    if raw == "*":
        return ("*",)
    if not isinstance(raw, dict):
        raise malformed("Missing required field Principal" if raw is None else "Invalid principal in policy")
    if set(raw) != {"AWS"}:
        raise unknown(f"the principals {', '.join(sorted(raw))}")
    found = []
    for name in _texts(raw["AWS"], "Invalid principal in policy"):
        if name == "*":
            found.append(name)
        elif name in (account, f"arn:aws:iam::{account}:root"):
            found.append(f"arn:aws:iam::{account}:*")
        elif name.startswith("arn:aws:iam::"):
            found.append(name)
        else:
            raise malformed("Invalid principal in policy")
    return tuple(found)


def _conditions(raw: Any) -> Sequence[Condition]:
    if not isinstance(raw, dict):
        raise malformed("Condition must be an object")
    found = []
    for kind, keys in raw.items():
        if kind not in _NUMERIC and kind not in _TEXT and kind not in _NEGATED:
            raise unknown(f"the operator {kind}")
        if not isinstance(keys, dict):
            raise malformed("Condition must be an object")
        for key, values in keys.items():
            if key.lower() not in KEYS:
                raise unknown(f"the condition key {key}")
            texts = tuple(str(v).lower() if isinstance(v, bool) else str(v) for v in _list(values))
            if kind in _NUMERIC:
                try:
                    [float(text) for text in texts]
                except ValueError:
                    raise malformed(f"Invalid numeric value for {key}") from None
            found.append(Condition(kind, key.lower(), texts))
    return found


def signature_age_policy(bucket: str, seconds: int) -> str:
    """The guard-rail against URLs that live too long: their signature may be *seconds* old, whatever they say."""
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "OldSignatures",
                    "Effect": DENY,
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [f"{ARN}{bucket}", f"{ARN}{bucket}/*"],
                    # In milliseconds; only a signature in the query has an age.
                    "Condition": {"NumericGreaterThan": {"s3:signatureAge": str(seconds * 1000)}},
                }
            ],
        }
    )
