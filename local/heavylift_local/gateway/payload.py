"""HTTP API payload format 2.0, both ways. No I/O here.

Facts: API Gateway developer guide, "AWS Lambda proxy integrations for HTTP APIs". Where it is silent,
published captures of the real service of 2026 are followed: ``rawPath`` and path parameters arrive
percent-decoded; a body is text only for ``text/*`` and JSON, XML or JavaScript, everything else,
form fields and a missing type included, is base64.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

_TEXT_TYPES = ("application/json", "application/xml", "application/javascript")
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
    }
)


@dataclass(frozen=True, slots=True)
class Request:
    """What came over the wire: the target as sent, header names in any case, repeated headers in order."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    source_ip: str
    protocol: str = "HTTP/1.1"
    port: int = 0  # the gateway's own; 0: not told


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    headers: Mapping[str, str]
    cookies: tuple[str, ...] = ()


class BadResponse(Exception):
    """The function's answer is none that the gateway can send: the caller gets a 500."""


def split_target(target: str) -> tuple[str, str]:
    """(path, query) of a request target, both still encoded."""
    path, _, query = target.partition("?")
    if "://" in path:  # absolute form, as proxies send it
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path, query


def is_text(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in _TEXT_TYPES


def event(
    request: Request,
    route_key: str,
    path_parameters: Mapping[str, str],
    account: str,
    jwt: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The event a function gets. ``jwt`` is {"claims","scopes"} behind an authorizer, else None."""
    path, query = split_target(request.target)
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in request.headers:
        key = name.lower()
        if key == "cookie":
            cookies += [cookie.strip() for cookie in value.split(";") if cookie.strip()]
        else:
            headers[key] = f"{headers[key]},{value}" if key in headers else value
    headers.setdefault("x-forwarded-for", request.source_ip)
    headers.setdefault("x-forwarded-proto", "http")
    if request.port:
        headers.setdefault("x-forwarded-port", str(request.port))
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    now = time.time()
    raw_path = unquote(path)
    context: dict[str, Any] = {
        "accountId": account,
        "apiId": "local",
        "domainName": headers.get("host", ""),
        "domainPrefix": headers.get("host", "").partition(".")[0],
        "http": {
            "method": request.method,
            "path": raw_path,
            "protocol": request.protocol,
            "sourceIp": request.source_ip,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": base64.urlsafe_b64encode(secrets.token_bytes(11)).decode().rstrip("=") + "=",
        "routeKey": route_key,
        "stage": "$default",
        "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
        "timeEpoch": int(now * 1000),
    }
    if jwt is not None:
        context["authorizer"] = {"jwt": jwt}
    made: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": raw_path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": context,
        "isBase64Encoded": False,
    }
    if cookies:
        made["cookies"] = cookies
    if parameters:
        made["queryStringParameters"] = parameters
    if path_parameters:
        made["pathParameters"] = {name: unquote(value) for name, value in path_parameters.items()}
    if request.body:
        made["body"], made["isBase64Encoded"] = _encode(request.body, headers.get("content-type", ""))
    return made


def _encode(body: bytes, content_type: str) -> tuple[str, bool]:
    if is_text(content_type):
        try:
            return body.decode("utf-8"), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True


def response(payload: bytes) -> Response:
    """What the function's answer means over HTTP; raises BadResponse.

    An object with ``statusCode`` is taken at its word; any other valid JSON becomes the body of a 200.
    """
    try:
        answer = json.loads(payload or b"null")
    except ValueError:
        raise BadResponse("the function's answer is no JSON") from None
    if not isinstance(answer, dict) or "statusCode" not in answer:
        body = answer if isinstance(answer, str) else json.dumps(answer)
        return Response(200, body.encode(), {"content-type": "application/json"})
    try:
        status = int(answer["statusCode"])
    except (TypeError, ValueError):
        raise BadResponse("statusCode is no number") from None
    if not 100 <= status <= 599:
        raise BadResponse("statusCode is none of HTTP's")
    headers: dict[str, str] = {}
    for name, value in {**(answer.get("headers") or {}), **(answer.get("multiValueHeaders") or {})}.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else _header_text(value)
        if "\r" in text or "\n" in text or "\r" in name or "\n" in name:
            raise BadResponse("a header holds a line break")
        if name.lower() not in _HOP_BY_HOP:
            headers[name.lower()] = text
    body = answer.get("body")
    if body is None:
        data = b""
    elif not isinstance(body, str):
        raise BadResponse("body is no string")
    elif answer.get("isBase64Encoded"):
        try:
            data = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            raise BadResponse("body is no base64") from None
    else:
        data = body.encode()
    headers.setdefault("content-type", "text/plain;charset=UTF-8")
    return Response(status, data, headers, tuple(str(cookie) for cookie in answer.get("cookies") or ()))


def _header_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
