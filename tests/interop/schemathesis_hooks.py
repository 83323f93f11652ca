"""What schemathesis is told of this API, by its environment variable SCHEMATHESIS_HOOKS.

Its own check of what a schema-valid request may be answered knows statuses only. Ours knows the codes: what the
schema allows may still contradict the state of things, but never the schema.
"""

from __future__ import annotations

import schemathesis
from schemathesis import GenerationMode

# Said of the shape of a request alone. A schema cannot say that numbers differ, or that a key was used before.
OF_THE_SHAPE = {"not_json", "invalid_body", "invalid_parameter"}
BEYOND_SCHEMAS = ("A number stands twice on this page.",)


@schemathesis.check
def what_the_schema_allows_is_understood(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """A request made by the schema is never refused for its shape."""
    meta = case.meta
    if meta is None or meta.generation.mode != GenerationMode.POSITIVE:
        return
    if response.status_code not in {400, 413, 415, 422}:
        return
    body = response.json()
    if body.get("code") in OF_THE_SHAPE and body.get("detail") not in BEYOND_SCHEMAS:
        raise AssertionError(f"{body['code']}: {body['detail']}")


@schemathesis.check
def errors_are_problems(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """RFC 9457 from the functions, {"message"} from the gateway; nothing else is ever an error."""
    if response.status_code < 400 or case.operation.path == "/v1/health":
        return
    body = response.json()
    media_type = response.headers["content-type"][0].partition(";")[0]
    if media_type == "application/problem+json":
        assert body["status"] == response.status_code, body
        assert body["code"], body
        assert body["detail"], body
        assert isinstance(body["retryable"], bool), body
    else:
        assert list(body) == ["message"], body
