"""Powertools' resolver with our problems: every error of our functions leaves as RFC 9457."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from botocore.exceptions import BotoCoreError, ClientError

from heavylift import aws
from heavylift.api import problems
from heavylift.api.caller import Caller, caller_of
from heavylift.errors import HeavyliftError, RequestError
from heavylift.settings import settings
from heavylift.telemetry import count, logger

ANSWER_RESERVE_S = 9.0  # of 29 s: what was begun is finished in it, S3's slow days included


def internal_error(event: Mapping[str, Any]) -> HeavyliftError:
    """What a caller learns of a fault of ours: the id to ask about, and no more."""
    request_id = (event.get("requestContext") or {}).get("requestId", "")
    return HeavyliftError("internal_error", "This is our fault; it has been logged.", request_id=request_id)


def resolver() -> APIGatewayHttpResolver:
    """A resolver whose handlers may raise HeavyliftError, or let an AWS error pass."""
    app = APIGatewayHttpResolver()

    def respond(error: HeavyliftError) -> Response[str]:
        answer = problems.answer(error, app.current_event.path)
        log = logger().warning if answer["statusCode"] >= 500 else logger().info
        log("request refused", code=error.code, status=answer["statusCode"])
        return Response(answer["statusCode"], answer["headers"]["content-type"], answer["body"], answer["headers"])

    @app.exception_handler(HeavyliftError)  # type: ignore[untyped-decorator]  # Powertools leaves it untyped
    def refused(error: HeavyliftError) -> Response[str]:
        return respond(error)

    @app.exception_handler([ClientError, BotoCoreError])  # type: ignore[untyped-decorator]
    def aws_failed(error: ClientError | BotoCoreError) -> Response[str]:
        logger().exception("AWS refused a call")
        if isinstance(error, ClientError) and not aws.is_later(error):
            # A permission or an argument that we got wrong: asking again would not help the caller.
            count("RequestFailed")
            return respond(internal_error(app.current_event.raw_event))
        return respond(aws.later(error, "a request"))

    @app.not_found
    def no_route(error: NotFoundError) -> Response[str]:
        return respond(RequestError("not_found", "There is nothing under this path."))

    return app


def caller(app: APIGatewayHttpResolver) -> Caller:
    return caller_of(app.current_event.raw_event, settings().tenant_claim)


def seconds_left(app: APIGatewayHttpResolver) -> Callable[[], float]:
    """The time that this call may still spend; an answer must be out before the gateway's 30 s."""
    context = app.lambda_context
    return lambda: float(context.get_remaining_time_in_millis()) / 1000 - ANSWER_RESERVE_S


def json_response(status: int, value: Any, headers: dict[str, str] | None = None) -> Response[str]:
    answer = problems.json_answer(status, value, headers)
    return Response(status, "application/json", answer["body"], answer["headers"])


def handler_of(app: APIGatewayHttpResolver) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """The Lambda handler: what nobody expected becomes a 500 problem without detail, and a log line with all of it."""

    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        logger().set_correlation_id(event.get("requestContext", {}).get("requestId"))
        try:
            answer: dict[str, Any] = app.resolve(event, context)
        except Exception:  # noqa: BLE001 - the top of a server: the caller gets an answer, the alarm gets a metric
            logger().exception("request failed")
            count("RequestFailed")
            return problems.answer(internal_error(event))
        return answer

    return handler
