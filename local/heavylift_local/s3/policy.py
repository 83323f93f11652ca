"""Who may do what: IAM-style allow statements, everything else refused. No I/O here.

Only what the local stack needs of IAM: allow, never deny; `*` and `?` as IAM matches them (`*` crosses `/`).
"""

import re
from functools import lru_cache

from heavylift_local.s3.config import Caller, Config

__all__ = ["denied_sentence", "is_allowed", "matches"]

ARN = "arn:aws:s3:::"


@lru_cache(maxsize=4096)
def _compiled(pattern: str, fold: bool) -> re.Pattern[str]:
    text = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.compile(text, re.DOTALL | (re.IGNORECASE if fold else 0))


def matches(pattern: str, text: str, *, fold: bool = False) -> bool:
    """Whether *text* as a whole is what *pattern* describes; *fold* ignores case (IAM does for actions)."""
    return _compiled(pattern, fold).fullmatch(text) is not None


def is_allowed(caller: Caller, action: str, resource: str) -> bool:
    """True when one statement of *caller* names both *action* ("s3:PutObject") and *resource* ("b" or "b/key")."""
    for statement in caller.allow:
        if any(matches(pattern, action, fold=True) for pattern in statement.actions) and any(
            matches(pattern.removeprefix(ARN), resource) for pattern in statement.resources
        ):
            return True
    return False


def denied_sentence(config: Config, caller: Caller, action: str, resource: str, *, by_bucket: bool = False) -> str:
    """The sentence of the AccessDenied that IAM gives for a missing allow, or for a deny *by_bucket*."""
    reason = f"because no identity-based policy allows the {action} action"
    if by_bucket:
        reason = "with an explicit deny in a resource-based policy"
    return (
        f"User: arn:aws:sts::{config.account}:assumed-role/{caller.name} is not authorized to perform: {action} on "
        f'resource: "{ARN}{resource}" {reason}'
    )
