"""Idempotency-Key: the same request sent again does what it asks for once.

One item a key (``T#<tenant>#IDEM``, sort key a hash of user and key) holds a hash of the request and the ids that its
work gives to what it makes. The ids are chosen and written *before* anything is made: whoever repeats the request
after a kill makes exactly the same things, and finds those that are there already. No answer is kept, and no URL: a
repeat renders and signs anew.

While the request is at work the item holds its lease; a repeat meanwhile is 409 ``idempotency_in_flight``. A request
that the caller has to change frees its key for a corrected one, and so does one that met trouble of the world's, but
keeps its ids: part of it may be made. The table removes expired items some time after their ``ttl``; until then they
count as absent.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from heavylift import aws, ddb_json, items
from heavylift.api.caller import Caller
from heavylift.errors import HeavyliftError, RequestError
from heavylift.ids import following, new_ulid
from heavylift.limits import (
    IDEMPOTENCY_AGAIN_S,
    IDEMPOTENCY_DAYS,
    IDEMPOTENCY_KEY_LENGTH_MAX,
    IDEMPOTENCY_LEASE_MIN_S,
    IDEMPOTENCY_LEASE_S,
)
from heavylift.settings import settings
from heavylift.telemetry import logger

T = TypeVar("T")
DAY_S = 86_400
CLAIM_TRIES = 3  # between a refused claim and the look at its holder the item may expire


@dataclass(frozen=True, slots=True)
class Run:
    """What a request's work is given: the ``ids`` of what it makes, in order, and when it first began.

    ``keyed``: it may run again, even at the same time. ``resumed``: it did run before, and some of it may be made.
    """

    ids: tuple[str, ...]
    began: float
    keyed: bool = False
    resumed: bool = False


def key_of(event: Mapping[str, Any]) -> str | None:
    """The header's text; None without one. RequestError ``invalid_parameter`` for an empty or a very long one."""
    key = (event.get("headers") or {}).get("idempotency-key")
    if key is None:
        return None
    if not isinstance(key, str) or not 1 <= len(key.strip()) <= IDEMPOTENCY_KEY_LENGTH_MAX:
        raise RequestError(
            "invalid_parameter",
            f"Idempotency-Key must have 1 to {IDEMPOTENCY_KEY_LENGTH_MAX} characters.",
            parameter="Idempotency-Key",
        )
    return key.strip()


def item_key(caller: Caller, key: str) -> dict[str, str]:
    """The item's key: two users of a tenant who chose the same text do not meet."""
    digest = sha256(f"{caller.user}\0{key}".encode("utf-8", "surrogatepass")).hexdigest()
    return {"pk": f"T#{caller.tenant}#IDEM", "sk": digest}


def request_hash(event: Mapping[str, Any], body: Any) -> str:
    """The same for the same method, path and JSON value, however the JSON was written."""
    method = (event["requestContext"].get("http") or {}).get("method", "")
    text = json.dumps([method, event.get("rawPath", ""), body], sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def once(caller: Caller, event: Mapping[str, Any], body: Any, work: Callable[[Run], T], *, new_ids: int = 0) -> T:
    """``work``'s result; under an Idempotency-Key one request's work is done once, however often it is sent.

    ``body``: the request's JSON value. RequestError ``idempotency_key_reused``, ``idempotency_in_flight``; what
    ``work`` raises passes through. Without the header nothing is read or written.
    """
    key = key_of(event)
    now = time.time()
    if key is None:
        return work(Run(following(new_ulid(now), new_ids), now))
    place = item_key(caller, key)
    run, token = _claim(place, request_hash(event, body), new_ids)
    if token is None:  # it was done before
        return work(run)
    try:
        result = work(run)
    except RequestError:
        # Nothing was made; the caller may send something else under this key. Of an earlier run something may be.
        _release(place, token, {"lease_until": 0} if run.resumed else {"ttl": 0})
        raise
    except (HeavyliftError, ClientError, BotoCoreError):
        _release(place, token, {"lease_until": 0})
        raise
    _release(place, token, {"lease_until": 0, "done": True})
    return result


def _claim(place: Mapping[str, str], request: str, new_ids: int) -> tuple[Run, str | None]:
    """The run and the token that holds its lease; None instead of a token for a request that was done."""
    token = os.urandom(12).hex()
    lease_s = max(IDEMPOTENCY_LEASE_MIN_S, IDEMPOTENCY_LEASE_S / settings().time_scale)
    for _ in range(CLAIM_TRIES):
        now = time.time()
        fresh = {
            "request": request,
            "ids": list(following(new_ulid(now), new_ids)),
            "began": now,
            "token": token,
            "lease_until": now + lease_s,
            "done": False,
            "ttl": math.ceil(now + IDEMPOTENCY_DAYS * DAY_S),
        }
        if _write(place, fresh, "attribute_not_exists(pk) OR #ttl <= :now", {"#ttl": "ttl"}, {":now": now}):
            return Run(tuple(fresh["ids"]), now, keyed=True), token  # type: ignore[arg-type]
        held = items.get(place)
        if held is None or held["ttl"] <= now:
            continue  # it expired or was freed in between
        run = Run(tuple(held["ids"]), float(held["began"]), keyed=True, resumed=True)
        if held["token"] == token:  # our own write, whose answer was lost
            return Run(run.ids, run.began, keyed=True), token
        if held["request"] != request:
            raise RequestError(
                "idempotency_key_reused", "This Idempotency-Key was sent before with another request; choose a new one."
            )
        if held["done"]:
            return run, None
        if held["lease_until"] <= now:
            taken = {"token": token, "lease_until": now + lease_s}
            if _write(place, taken, "#token = :before", {"#token": "token"}, {":before": held["token"]}):
                return run, token
            held = items.get(place)
            if held is not None and held["token"] == token:
                return run, token
        raise RequestError(
            "idempotency_in_flight",
            "The same request is being answered at this moment.",
            retry_after_s=IDEMPOTENCY_AGAIN_S,
        )
    raise RequestError(
        "idempotency_in_flight", "This Idempotency-Key is changing hands.", retry_after_s=IDEMPOTENCY_AGAIN_S
    )


def _release(place: Mapping[str, str], token: str, values: Mapping[str, Any]) -> None:
    """Let go of the key. What was done is done: trouble here only makes the next repeat wait for the lease's end."""
    try:
        _write(place, values, "#token = :mine", {"#token": "token"}, {":mine": token})
    except (HeavyliftError, ClientError) as error:
        logger().warning("an idempotency key was not released", code=getattr(error, "code", "refused"))


def _write(
    place: Mapping[str, str],
    values: Mapping[str, Any],
    condition: str,
    names: Mapping[str, str],
    compared: Mapping[str, Any],
) -> bool:
    """Set ``values`` if the condition holds; False when it does not."""
    attributes = {f"#s{number}": name for number, name in enumerate(values)}
    try:
        items.call(
            "update_item",
            TableName=settings().table_name,
            Key=ddb_json.encode_item(place),
            UpdateExpression="SET " + ", ".join(f"{name} = :{name[1:]}" for name in attributes),
            ConditionExpression=condition,
            ExpressionAttributeNames={**attributes, **names},
            ExpressionAttributeValues={
                **{f":{name[1:]}": ddb_json.encode(values[attribute]) for name, attribute in attributes.items()},
                **{name: ddb_json.encode(value) for name, value in compared.items()},
            },
        )
    except ClientError as error:
        if aws.error_code(error) == "ConditionalCheckFailedException":
            return False
        raise
    return True
