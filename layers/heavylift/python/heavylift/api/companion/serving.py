"""The Companion routes beside a function's others: by the gateway's route key, with errors in Companion's shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from heavylift import aws, dynamo
from heavylift.api import problems
from heavylift.api.caller import Caller
from heavylift.api.companion import door
from heavylift.api.http import internal_error
from heavylift.errors import HeavyliftError
from heavylift.telemetry import count, logger

Act = Callable[[Caller, Mapping[str, Any]], tuple[int, Any]]
Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


def beside(handler: Handler, routes: Mapping[str, Act]) -> Handler:
    """A Lambda handler that serves ``routes`` itself and leaves the others to ``handler``."""

    def either(event: dict[str, Any], context: Any) -> dict[str, Any]:
        act = routes.get(str(event.get("routeKey")))
        return handler(event, context) if act is None else _answer(act, event)

    return either


def _answer(act: Act, event: Mapping[str, Any]) -> dict[str, Any]:
    logger().set_correlation_id((event.get("requestContext") or {}).get("requestId"))
    try:
        caller = door.caller_of(event, dynamo.known_sealing_key(), time.time())
        return problems.json_answer(*act(caller, event))
    except HeavyliftError as error:
        return _refused(error)
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, BotoCoreError) or aws.is_later(error):
            return _refused(aws.later(error, "a request"))
        return _failed(event)
    except Exception:  # noqa: BLE001 - the top of a server: the caller gets an answer, the log gets all of it
        return _failed(event)


def _refused(error: HeavyliftError) -> dict[str, Any]:
    answer = door.refusal(error)
    log = logger().warning if answer["statusCode"] >= 500 else logger().info
    log("request refused", code=error.code, status=answer["statusCode"])
    return answer


def _failed(event: Mapping[str, Any]) -> dict[str, Any]:
    logger().exception("request failed")
    count("RequestFailed")
    return door.refusal(internal_error(event))
