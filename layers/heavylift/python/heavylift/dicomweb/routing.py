"""From an HTTP event to the resource that answers it, and back: paths, query, errors as PS3.18 wants them.

Every answer that is an error is problem+json, with the standard's status (8.5) and our code.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from botocore.exceptions import BotoCoreError, ClientError

from heavylift import aws
from heavylift.api import problems
from heavylift.api.caller import caller_of
from heavylift.api.http import ANSWER_RESERVE_S, internal_error
from heavylift.dicomweb import frames, metadata, negotiation, rendered, retrieve, search, stow
from heavylift.dicomweb.delivery import gone
from heavylift.dicomweb.exchange import Answer, Request
from heavylift.dicomweb.frames import FRAMES_MAX
from heavylift.errors import ContentError, HeavyliftError, RequestError
from heavylift.settings import settings
from heavylift.telemetry import count, logger

ROOT: Final = "/v1/dicomweb"
UID_LENGTH_MAX: Final = 64
QUERY_FIELDS_MAX: Final = 200

# What we say otherwise elsewhere: PS3.18 8.3 has 400 for a parameter's wrong value.
_SAID: Final = {"invalid_parameter": "invalid_query"}
# A stored file that cannot be shown as asked for: 406 (8.7.8); its own faults are not the caller's, nor a crash.
_NOT_SHOWN: Final = frozenset({"unsupported_feature", "too_large_to_decode", "unsupported"})

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_NUMBERS: Final = re.compile(r"[1-9][0-9]{0,6}(,[1-9][0-9]{0,6})*")

Act = Callable[[Request, Mapping[str, str], Mapping[str, Any]], Answer]

_STUDY: Final = "/studies/{study}"
_SERIES: Final = f"{_STUDY}/series/{{series}}"
_INSTANCE: Final = f"{_SERIES}/instances/{{instance}}"
_FRAMES: Final = f"{_INSTANCE}/frames/{{frames}}"

_BELOW: Final[Mapping[str, Act]] = {
    "GET /studies": lambda request, path, event: search.search(request, "study"),
    "GET /series": lambda request, path, event: search.search(request, "series"),
    "GET /instances": lambda request, path, event: search.search(request, "instance"),
    f"GET {_STUDY}/series": lambda request, path, event: search.search(request, "series"),
    f"GET {_STUDY}/instances": lambda request, path, event: search.search(request, "instance"),
    f"GET {_SERIES}/instances": lambda request, path, event: search.search(request, "instance"),
    f"GET {_STUDY}": lambda request, path, event: retrieve.several(request),
    f"GET {_SERIES}": lambda request, path, event: retrieve.several(request),
    f"GET {_INSTANCE}": lambda request, path, event: retrieve.instance(request),
    f"GET {_STUDY}/metadata": lambda request, path, event: metadata.retrieve(request),
    f"GET {_SERIES}/metadata": lambda request, path, event: metadata.retrieve(request),
    f"GET {_INSTANCE}/metadata": lambda request, path, event: metadata.retrieve(request),
    f"GET {_INSTANCE}/bulkdata/{{place}}": lambda request, path, event: retrieve.bulk_data(request, path["place"]),
    f"GET {_FRAMES}": lambda request, path, event: frames.retrieve(request),
    f"GET {_STUDY}/rendered": lambda request, path, event: rendered.render(request),
    f"GET {_SERIES}/rendered": lambda request, path, event: rendered.render(request),
    f"GET {_INSTANCE}/rendered": lambda request, path, event: rendered.render(request),
    f"GET {_FRAMES}/rendered": lambda request, path, event: rendered.render(request),
    f"GET {_STUDY}/thumbnail": lambda request, path, event: rendered.thumbnail(request),
    f"GET {_SERIES}/thumbnail": lambda request, path, event: rendered.thumbnail(request),
    f"GET {_INSTANCE}/thumbnail": lambda request, path, event: rendered.thumbnail(request),
    f"GET {_FRAMES}/thumbnail": lambda request, path, event: rendered.thumbnail(request),
    "POST /studies": lambda request, path, event: stow.store(request, event),
    f"POST {_STUDY}": lambda request, path, event: stow.store(request, event),
}

# The gateway's route keys.
ROUTES: Final[Mapping[str, Act]] = {key.replace(" ", f" {ROOT}", 1): act for key, act in _BELOW.items()}


def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The Lambda handler."""
    logger().set_correlation_id((event.get("requestContext") or {}).get("requestId"))
    path = str(event.get("rawPath", ""))
    try:
        return _as_lambda(_answer(event, context))
    except HeavyliftError as error:
        return _problem(error, path)
    except (ClientError, BotoCoreError) as error:
        logger().exception("AWS refused a call")
        if isinstance(error, ClientError) and not aws.is_later(error):
            count("RequestFailed")
            return problems.answer(internal_error(event), path)
        return problems.answer(aws.later(error, "a request"), path)
    except Exception:  # noqa: BLE001 - the top of a server: the caller gets an answer, the alarm gets a metric
        logger().exception("request failed")
        count("RequestFailed")
        return problems.answer(internal_error(event), path)


def _answer(event: Mapping[str, Any], context: Any) -> Answer:
    act = ROUTES.get(str(event.get("routeKey", "")))
    if act is None:
        raise RequestError("not_found", "There is nothing under this path.")
    path = {name: str(value) for name, value in (event.get("pathParameters") or {}).items()}
    return act(request_of(event, path, context), path, event)


def request_of(event: Mapping[str, Any], path: Mapping[str, str], context: Any) -> Request:
    """The call. RequestError ``no_tenant``, ``invalid_query``; ``not_found`` for what cannot be a UID or a frame."""
    caller = caller_of(event, settings().tenant_claim)
    headers = {name.lower(): str(value) for name, value in (event.get("headers") or {}).items()}
    query = query_of(event)
    for name in ("study", "series", "instance"):
        if name in path and not is_uid(path[name]):
            raise gone()
    return Request(
        tenant=caller.tenant,
        user=caller.user,
        base=base_of(event, headers),
        study_uid=path.get("study", ""),
        series_uid=path.get("series"),
        instance_uid=path.get("instance"),
        frames=frames_of(path["frames"]) if "frames" in path else (),
        accept=negotiation.accept_of(headers, query),
        query=query,
        gzip=takes_gzip(headers.get("accept-encoding", "")),
        seconds_left=lambda: float(context.get_remaining_time_in_millis()) / 1000 - ANSWER_RESERVE_S,
    )


def is_uid(text: str) -> bool:
    return len(text) <= UID_LENGTH_MAX and _UID.fullmatch(text) is not None


def frames_of(text: str) -> tuple[int, ...]:
    """The frame numbers of a path: ``1,2,5``. RequestError ``invalid_query``."""
    if _NUMBERS.fullmatch(text) is None or text.count(",") >= FRAMES_MAX:
        raise RequestError("invalid_query", f"Frames are numbers from 1, at most {FRAMES_MAX}, with commas between.")
    return tuple(map(int, text.split(",")))


def query_of(event: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Every value of every parameter, in the caller's order. RequestError ``invalid_query``."""
    raw = str(event.get("rawQueryString") or "")
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX, errors="strict")
    except (ValueError, UnicodeDecodeError):
        raise RequestError("invalid_query", "The query cannot be read, or has too many parameters.") from None
    found: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        found[name] = (*found.get(name, ()), value)
    return found


def base_of(event: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """The service's address as the gateway was asked for it: what links of ours begin with.

    Some clients leave the port out of Host; the gateway knows it.
    """
    host = headers.get("host") or str((event.get("requestContext") or {}).get("domainName", ""))
    scheme = headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    if scheme not in {"http", "https"}:
        scheme = "https"
    port = headers.get("x-forwarded-port", "")
    if port.isdecimal() and port != {"http": "80", "https": "443"}[scheme] and ":" not in host.rpartition("]")[2]:
        host = f"{host}:{port}"
    return f"{scheme}://{host}{ROOT}"


def takes_gzip(accept_encoding: str) -> bool:
    """Whether Accept-Encoding has gzip, and not with q=0 (RFC 9110, 12.5.3)."""
    for entry in accept_encoding.lower().split(","):
        name, _, quality = entry.partition(";")
        if name.strip() in {"gzip", "*"}:
            return quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def _problem(error: HeavyliftError, path: str) -> dict[str, Any]:
    if isinstance(error, ContentError):
        error = _of_file(error)
    elif error.code in _SAID:
        error = RequestError(_SAID[error.code], error.message, **error.facts)
    answer = problems.answer(error, path)
    log = logger().warning if answer["statusCode"] >= 500 else logger().info
    log("request refused", code=error.code, status=answer["statusCode"])
    return answer


def _of_file(error: ContentError) -> HeavyliftError:
    """A stored file's own fault. No message of a format reader leaves: it may tell of what it has read."""
    if error.code == "source_changed":
        return gone()
    if error.code in _NOT_SHOWN:
        return RequestError("not_acceptable", "This instance cannot be shown in this form.", reason=error.code)
    logger().warning("a stored file cannot be read", code=error.code)
    return RequestError("unreadable_instance", "The stored file's content cannot be read.", reason=error.code)


def _as_lambda(answer: Answer) -> dict[str, Any]:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", **answer.headers}
    made: dict[str, Any] = {"statusCode": answer.status, "headers": headers}
    if headers.get("content-type", "").partition(";")[0] == negotiation.DICOM:
        headers["content-disposition"] = "attachment"
    if answer.is_base64:
        return {**made, "body": base64.b64encode(answer.body).decode("ascii"), "isBase64Encoded": True}
    return {**made, "body": answer.body.decode()}
