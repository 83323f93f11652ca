"""Errors at the edge: one table of statuses, RFC 9457 bodies, a heading in the docs for each code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from heavylift.api import problems
from heavylift.errors import ContentError, HeavyliftError, RequestError, TransientError
from tests.doubles.world import World

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "layers" / "heavylift" / "python" / "heavylift"
HEADINGS = set(re.findall(r"^### (\w+)", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE))
RAISED = re.compile(
    r"(RequestError|ContentError|TransientError|HeavyliftError|TargetConflict|LeaseLost|super\(\).__init__)"
    r"\(\s*\"([a-z0-9_]+)\""
)


def raised() -> dict[str, set[str]]:
    """code -> the types that raise it, read from the sources of this package's own modules."""
    found: dict[str, set[str]] = {}
    for path in [*PACKAGE.glob("*.py"), *(PACKAGE / "api").glob("*.py"), *(PACKAGE / "batches").glob("*.py")]:
        for kind, code in RAISED.findall(path.read_text()):
            found.setdefault(code, set()).add(kind)
    return found


@pytest.mark.parametrize("code", sorted(problems.STATUS))
def test_every_code_of_the_api_is_described(code: str) -> None:
    """docs/errors.md has a heading for each."""
    assert code in HEADINGS


@pytest.mark.parametrize("code", sorted(raised()))
def test_every_code_that_is_raised_is_described(code: str) -> None:
    """Answers, verdicts and failures alike."""
    assert code in HEADINGS


def test_request_errors_have_their_status() -> None:
    """No RequestError falls back to the status of its type."""
    requests = {code for code, kinds in raised().items() if "RequestError" in kinds}

    assert len(requests) > 10
    assert requests <= problems.STATUS.keys()


@pytest.mark.parametrize("code", sorted(problems.STATUS))
def test_the_documented_status_is_the_tables(code: str) -> None:
    """The number that stands in the docs under a code is the one that is answered."""
    text = (ROOT / "docs" / "errors.md").read_text()
    section = text.split(f"### {code}\n", 1)[1].split("\n#", 1)[0]

    assert str(problems.STATUS[code]) in section


def test_the_shape_of_a_problem() -> None:
    """RFC 9457 members, our code, and the facts beside them; a fact never replaces a member."""
    error = RequestError("parts_missing", "Two are missing.", missing=[[1, 2]], status="uploading", title="x")
    answer = problems.answer(error, "/v1/uploads/X/complete")

    assert answer["statusCode"] == 409
    assert answer["headers"] == {"content-type": "application/problem+json", "cache-control": "no-store"}
    assert json.loads(answer["body"]) == {
        "type": "urn:heavylift:problem:parts_missing",
        "title": "Parts missing",
        "status": 409,
        "detail": "Two are missing.",
        "code": "parts_missing",
        "retryable": False,
        "instance": "/v1/uploads/X/complete",
        "missing": [[1, 2]],
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestError("new_code", "m"), 400),
        (ContentError("new_code", "m"), 422),
        (TransientError("new_code", "m"), 503),
        (HeavyliftError("new_code", "m"), 500),
        (TransientError("aws_unavailable", "m"), 503),
        (RequestError("rate_limited", "m"), 429),
        (RequestError("idempotency_in_flight", "m"), 409),
    ],
)
def test_whose_turn_it_is_decides(error: HeavyliftError, status: int) -> None:
    """A code without a row has its type's status; whoever may come back is told when."""
    answer = problems.answer(error)

    assert answer["statusCode"] == status
    may_come_back = isinstance(error, TransientError) or error.code in {"rate_limited", "idempotency_in_flight"}
    assert ("retry-after" in answer["headers"]) is may_come_back
    assert json.loads(answer["body"])["retryable"] is may_come_back


@pytest.mark.parametrize("function", ["initiate", "complete", "sessions"])
@pytest.mark.parametrize(("method", "route"), [("GET", "/v1/nowhere"), ("PATCH", "/v1/uploads"), ("POST", "/")])
def test_what_no_route_serves_is_a_problem_too(world: World, function: str, method: str, route: str) -> None:
    """Should the gateway ever send it."""
    answer = world.answer(function, method, route)

    assert answer["statusCode"] == 404
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert json.loads(answer["body"])["code"] == "not_found"


def test_a_crash_is_a_500_without_detail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets the request's id, the log the reason, the alarm a metric."""
    from heavylift.api import sessions

    def breaks(*_: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(sessions, "list_files", breaks)
    answer = world.answer("sessions", "GET", "/v1/uploads")
    body = json.loads(answer["body"])

    assert (answer["statusCode"], body["code"], body["request_id"]) == (500, "internal_error", "UXHyZgTTIAMEJxQ=")
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert "secret" not in answer["body"]


@pytest.mark.parametrize(
    ("code", "status", "expected", "retryable"),
    [
        ("ThrottlingException", 400, 503, True),
        ("InternalServerError", 500, 503, True),
        ("AccessDeniedException", 400, 500, False),
        ("ValidationException", 400, 500, False),
        ("ResourceNotFoundException", 400, 500, False),
    ],
)
def test_awss_errors_are_told_apart(world: World, code: str, status: int, expected: int, retryable: bool) -> None:
    """What a retry may mend is a 503; what we got wrong is a 500."""
    from tests.doubles.answers import refusal

    def around(call: Any, run: Any) -> Any:
        raise refusal(code, status, "GetItem")

    world.gate.around = around
    answered, body = world.call("sessions", "GET", "/v1/files/{id}", path={"id": "01JD2Z3NDEKTSV4RRFFQ69G5FA"})

    assert (answered, body["retryable"]) == (expected, retryable)
