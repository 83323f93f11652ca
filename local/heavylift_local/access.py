"""Who calls, what they may do, and how often they did: shared by the queue and the table service.

Callers are told apart by the access key in the Authorization header. Signatures are the S3 server's
business, which is the one that browsers and strangers reach; here the roles matter: a call that the
topology does not allow is refused as AWS refuses it. No I/O here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from heavylift_local.s3.policy import matches

_CREDENTIAL = re.compile(r"Credential=([A-Za-z0-9]{1,128})/")


@dataclass(frozen=True, slots=True)
class Grant:
    """Actions on resources, as in the topology; wildcards as IAM matches them."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    name: str
    access_key: str
    grants: tuple[Grant, ...]


class Denied(Exception):
    """The call is refused before anything is looked at."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class Callers:
    """The known callers and their counts; thread-safe."""

    def __init__(self, callers: tuple[Caller, ...], account: str) -> None:
        # Where callers share one key (another S3's credentials), the first is meant unless the call says whose it is.
        self._by_key = {caller.access_key: caller for caller in reversed(callers)}
        self._by_name = {caller.name: caller for caller in callers}
        self._account = account
        self._lock = threading.Lock()
        self._counts: dict[str, dict[str, dict[str, float]]] = {}

    def of(self, authorization: str | None, name: str | None = None) -> Caller:
        """The caller who signed, of several with the same key the one called ``name``; raises Denied."""
        found = _CREDENTIAL.search(authorization or "")
        if found is None:
            raise Denied("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
        caller = self._by_key.get(found.group(1))
        if name is not None and caller is not None and self._by_name[name].access_key == caller.access_key:
            return self._by_name[name]
        if caller is None or name is not None:
            raise Denied("UnrecognizedClientException", "The security token included in the request is invalid.", 403)
        return caller

    def allowed(self, caller: str, action: str, resource: str) -> bool:
        return any(
            any(matches(pattern, action, fold=True) for pattern in grant.actions)
            and any(matches(pattern, resource) for pattern in grant.resources)
            for grant in self._by_name[caller].grants
        )

    def check(self, caller: str, action: str, resource: str) -> None:
        """Raises Denied unless a grant of the caller covers the action on the resource."""
        if not self.allowed(caller, action, resource):
            raise Denied(
                "AccessDeniedException",
                f"User: arn:aws:sts::{self._account}:assumed-role/{caller} is not authorized to perform: {action} "
                f"on resource: {resource} because no identity-based policy allows the {action} action",
            )

    def count(
        self, caller: str, operation: str, bytes_in: int, bytes_out: int, units: Mapping[str, float] | None = None
    ) -> None:
        """One call; ``units`` are further sums of its operation, such as ``write_units``."""
        with self._lock:
            row = self._counts.setdefault(caller, {}).setdefault(
                operation, {"requests": 0, "bytes_in": 0, "bytes_out": 0}
            )
            row["requests"] += 1
            row["bytes_in"] += bytes_in
            row["bytes_out"] += bytes_out
            for name, value in (units or {}).items():
                row[name] = row.get(name, 0) + value

    def counts(self) -> dict[str, dict[str, dict[str, float]]]:
        with self._lock:
            return {name: {op: dict(row) for op, row in rows.items()} for name, rows in self._counts.items()}


def merge_counts(
    parts: list[Mapping[str, Mapping[str, Mapping[str, float]]]],
) -> dict[str, dict[str, dict[str, float]]]:
    """One table of several services' counts; operations carry their service's name and never clash."""
    merged: dict[str, dict[str, dict[str, float]]] = {}
    for part in parts:
        for caller, rows in part.items():
            merged.setdefault(caller, {}).update({op: dict(row) for op, row in rows.items()})
    return merged
