"""Every answer that a function gives in the tests, held to the OpenAPI description.

The description's objects are open, because fields are added within a version; here they are closed, so that nothing
is answered that is not described. Also held: the content type, the codes of problems, and Lambda's limit of 6 MB.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs

from heavylift_local.openapi import document

ANSWER_BYTES_MAX = 6 * 1024 * 1024  # AWS Lambda developer guide, "Lambda quotas": invocation payload


@cache
def described() -> dict[str, Any]:
    return document()


def closed(schema: Any) -> Any:
    """The schema with every object that lists its properties closed."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(value) for name, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema and "additionalProperties" not in schema:
        made["unevaluatedProperties"] = False
    return made


@cache
def _validator(method: str, path: str, status: int, media_type: str) -> Any:
    answers = described()["paths"][path][method.lower()]["responses"]
    assert str(status) in answers, f"{method} {path} answers {status}, which is not described"
    contents = answers[str(status)].get("content", {})
    assert media_type in contents, f"{method} {path} answers {status} as {media_type}, which is not described"
    schema = closed(contents[media_type]["schema"])
    components = {"schemas": closed(described()["components"]["schemas"])}
    return jsonschema_rs.Draft202012Validator({**schema, "components": components})


def check(event: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """AssertionError when the answer of a function is not as described. Other events than HTTP's are let pass."""
    method, _, path = str(event.get("routeKey", "")).partition(" ")
    operation = described()["paths"].get(path, {}).get(method.lower())
    if operation is None:
        return  # of the gateway's routes there is none: the tests of what has no route look for themselves
    assert len(json.dumps(answer).encode()) < ANSWER_BYTES_MAX
    media_type = answer["headers"].get("content-type", "").partition(";")[0]
    described_answer = operation["responses"].get(str(answer["statusCode"]))
    assert described_answer is not None, f"{method} {path} answers {answer['statusCode']}, which is not described"
    if not media_type:
        assert answer["statusCode"] in (204, 307), "a body without a type"
        assert "content" not in described_answer or answer["statusCode"] == 204
        return
    if not media_type.endswith("json") or answer["headers"].get("content-encoding"):
        assert media_type in described_answer["content"], (
            f"{method} {path} answers {media_type}, which is not described"
        )
        assert answer["isBase64Encoded"] or not answer["body"]
        return
    body = json.loads(answer["body"])
    validator = _validator(method, path, answer["statusCode"], media_type)
    errors = [f"{'/'.join(map(str, one.instance_path))}: {one.message}" for one in validator.iter_errors(body)]
    assert not errors, f"{method} {path} -> {answer['statusCode']}: {errors[:5]} in {answer['body'][:1000]}"
    if media_type == "application/problem+json":
        assert body["status"] == answer["statusCode"]
    if "Retry-After" in operation["responses"][str(answer["statusCode"])].get("headers", {}):
        retry = answer["headers"].get("retry-after")
        assert retry is None or int(retry) >= 1
