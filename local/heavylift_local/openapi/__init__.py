"""The OpenAPI 3.1 description of the HTTP API, made from the code: the topology's routes, the models of request bodies.

python -m heavylift_local.openapi      writes docs/openapi.json

What answers look like is written by hand (``schemas``), and held to the running functions by tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import heavylift
from heavylift.api.problems import LATER, STATUS
from heavylift.limits import IDEMPOTENCY_KEY_LENGTH_MAX
from heavylift_local import plan
from heavylift_local.openapi import schemas
from heavylift_local.openapi.described import Operation
from heavylift_local.openapi.operations import COMMON_CODES, KEYED_CODES, OPERATIONS

GATEWAY_STATUS = {401: "No token, or one that is not valid.", 413: "A body above 10 MB.", 429: "Too many requests."}

_KEYED_ONLY = frozenset({"idempotency_in_flight", "idempotency_key_reused"})
_OF_UPLOADS = (
    "getUploadsId",
    "postUploadsIdParts",
    "getUploadsIdPartsN",
    "postUploadsIdComplete",
    "postUploadsIdRetry",
)
_OF_FILES = ("getFilesId", "getFilesIdEvents", "getFilesIdContent", "getFilesIdThumbnailsSize", "getUploadsId")
_OF_BATCHES = (
    "getBatchesId",
    "getBatchesIdFiles",
    "putBatchesIdManifestPage",
    "postBatchesIdUrls",
    "postBatchesIdPolicy",
    "postBatchesIdComplete",
)
# Answer -> where in it an id stands -> the operations that take it.
LINKS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Uploads": {"uploads/0/upload_id": (*_OF_UPLOADS, *_OF_FILES[:-1], "deleteUploadsId")},
    "FileList": {"items/0/file_id": (*_OF_FILES, "postUploadsIdRetry", "deleteFilesId")},
    "BatchBegun": {"batch_id": (*_OF_BATCHES, "deleteBatchesId")},
}


def document(topology: Any = None) -> dict[str, Any]:
    """The whole document; the same for the same code. ``topology``: another than the repository's.

    A route that nobody has described is left out; a test finds it.
    """
    topology = topology or plan.load_topology(plan.REPOSITORY / "infra" / "topology.py")
    models = [one.body for one in OPERATIONS.values() if isinstance(one.body, type)]
    _, made = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, Any] = {}
    described = {
        _name(route.method, route.path)
        for function in topology.FUNCTIONS
        for route in function.routes
        if f"{route.method} {route.path}" in OPERATIONS
    }
    for function in topology.FUNCTIONS:
        for route in function.routes:
            operation = OPERATIONS.get(f"{route.method} {route.path}")
            if operation is not None:
                paths.setdefault(route.path, {})[route.method.lower()] = _operation(
                    operation, route, function.name, described
                )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "heavylift",
            "version": heavylift.__version__,
            "description": "Very large files from browsers and scripts straight into S3. No byte of a file passes "
            "through this API: it signs, proves and tells. docs/api.md explains it, docs/errors.md every code.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(_used(paths, {**schemas.answers(), **_plain(made["$defs"])}).items())),
            "securitySchemes": {
                "jwt": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Names the tenant, the user (sub) and the scopes "
                    "heavylift/read, heavylift/write, heavylift/admin.",
                }
            },
        },
    }


def codes_table() -> str:
    """Each described route with the codes by which it refuses, as the table of docs/api.md."""
    rows = ["| route | refuses by |", "|---|---|"]
    for route, operation in OPERATIONS.items():
        own = [code for code in codes_of(operation) if code not in COMMON_CODES and code not in _KEYED_ONLY]
        codes = ", ".join(f"`{code}`" for code in dict.fromkeys(own))
        if codes:
            rows.append(f"| `{route}` | {codes} |")
    return "\n".join(rows) + "\n"


def with_codes_table(guide: str) -> str:
    """The text of docs/api.md with the table as it is now, between its two marks."""
    before, begin, rest = guide.partition("<!-- codes -->\n")
    _, end, after = rest.partition("<!-- end of codes -->\n")
    return f"{before}{begin}{codes_table()}{end}{after}" if begin and end else guide


def as_text() -> str:
    """The document as the file holds it."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def _used(paths: Any, components: dict[str, Any]) -> dict[str, Any]:
    """The components that the paths refer to, directly or through others."""
    found: dict[str, Any] = {}
    waiting = [paths]
    while waiting:
        for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(waiting.pop())):
            if name not in found:
                found[name] = components[name]
                waiting.append(components[name])
    return found


def _plain(models: dict[str, Any]) -> dict[str, Any]:
    """pydantic's schemas without the titles that it makes of every name."""

    def untitled(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: untitled(part)
                for name, part in value.items()
                if not (name == "title" and isinstance(part, str)) and not (name == "default" and part is None)
            }
        return [untitled(part) for part in value] if isinstance(value, list) else value

    plain: dict[str, Any] = untitled(models)
    return plain


def _operation(operation: Operation, route: Any, function: str, described: Collection[str]) -> dict[str, Any]:
    named = re.findall(r"{(\w+)}", route.path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": operation.path[name]} for name in named] + [
        {"name": one.name, "in": "query", "description": one.means, "schema": one.schema} for one in operation.query
    ]
    if operation.keyed:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The same request sent again under the same key is done once.",
                "schema": {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_LENGTH_MAX},
            }
        )
    shown: dict[str, Any] = {
        "operationId": _name(route.method, route.path),
        "summary": operation.summary,
        "tags": [route.path.split("/")[2]],
        "x-function": function,
    }
    if operation.means:
        shown["description"] = operation.means
    if parameters:
        shown["parameters"] = parameters
    if operation.body is not None:
        is_model = isinstance(operation.body, type) and issubclass(operation.body, BaseModel)
        body = schemas.ref(operation.body.__name__) if is_model else operation.body  # type: ignore[union-attr]
        shown["requestBody"] = {
            "required": operation.body_required,
            "content": {media_type: {"schema": body} for media_type in operation.body_media},
        }
    shown["security"] = [{"jwt": [route.scope]}] if route.scope else []
    shown["responses"] = _responses(operation, described, open_to_all=route.scope is None)
    return shown


def _name(method: str, path: str) -> str:
    """getUploadsIdParts of GET /v1/uploads/{id}/parts."""
    words = re.findall(r"\w+", path.removeprefix("/v1/"))
    return method.lower() + "".join(word.capitalize() for word in words)


def codes_of(operation: Operation, *, open_to_all: bool = False) -> tuple[str, ...]:
    """Every code that the route's function may answer."""
    keyed = KEYED_CODES if operation.keyed else ()
    common = COMMON_CODES[1:] if open_to_all else COMMON_CODES
    return tuple(dict.fromkeys((*operation.codes, *keyed, *common)))


def _responses(operation: Operation, described: Collection[str], *, open_to_all: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, (name, means) in operation.answers.items():
        shown: dict[str, Any] = {"description": means}
        if status == 307:
            shown["headers"] = {"Location": _header("The signed URL.", "string")}
            if not operation.media:
                shown["content"] = {"application/json": {"schema": {"type": "object"}}}
        elif operation.media and status != 204:
            schema = schemas.ref(name) if name else {}
            shown["content"] = {media_type: {"schema": schema} for media_type in operation.media}
        elif name:
            shown["content"] = {"application/json": {"schema": schemas.ref(name)}}
        if name in LINKS:
            shown["links"] = {
                f"{target}By{name}": {"operationId": target, "parameters": {"id": f"$response.body#/{pointer}"}}
                for pointer, targets in LINKS[name].items()
                for target in targets
                if target in described
            }
        if status == 202 and name == "Completed":
            shown["headers"] = _RETRY_AFTER
        found[str(status)] = shown
    by_status: dict[int, list[str]] = {}
    for code in codes_of(operation, open_to_all=open_to_all):
        by_status.setdefault(STATUS[code], []).append(code)
    for status, codes in by_status.items():
        problem = {"allOf": [schemas.ref("Problem"), {"properties": {"code": {"enum": sorted(codes)}}}]}
        shown = found.setdefault(str(status), {"description": "", "content": {}})
        shown.setdefault("content", {})
        shown["description"] = " ".join(filter(None, (shown["description"], ", ".join(sorted(codes)) + ".")))
        shown["content"]["application/problem+json"] = {"schema": problem}
        if status == 503 or set(codes) & LATER:
            shown["headers"] = _RETRY_AFTER
    if not open_to_all:
        for status in (401, 403, 404, 413, 429, 500, 503):
            shown = found.setdefault(
                str(status), {"description": GATEWAY_STATUS.get(status, "None such."), "content": {}}
            )
            shown["content"].setdefault("application/json", {"schema": schemas.ref("GatewayMessage")})
    return dict(sorted(found.items()))


def _header(means: str, kind: str) -> dict[str, Any]:
    return {"description": means, "schema": {"type": kind}}


_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}
