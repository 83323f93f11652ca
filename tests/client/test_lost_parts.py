"""Sessions that are not what the client left: parts lost or overwritten, uploads cancelled or gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from heavylift_client import Client
from tests.client.conftest import Told, well
from tests.client.fake import MIB, Fault, Stack

MakeFile = Callable[..., Path]


def test_parts_that_got_lost_are_sent_again(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """409 parts_missing names them; only they go again."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "api" and facts["route"].endswith("/complete") and stack.stored_parts == 17:
            (upload,) = stack.uploads.values()
            del upload["parts"][3], upload["parts"][4], upload["parts"][17]
        return None

    stack.scripts.append(script)
    path = make_file(17 * MIB)
    well(client.put(path), stack, path)

    assert stack.stored_parts == 20


def test_a_part_that_another_client_overwrote(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """Complete says which digests are expected; a part with others is sent again."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "api" and facts["route"].endswith("/complete") and stack.stored_parts == 17:
            (upload,) = stack.uploads.values()
            upload["parts"][5]["sha256"] = "somebody else's"
        return None

    stack.scripts.append(script)
    path = make_file(17 * MIB)
    well(client.put(path), stack, path)

    assert stack.stored_parts == 18


def test_parts_that_never_stay_end_the_upload(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """Sending again is bounded."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "api" and facts["route"].endswith("/complete"):
            next(iter(stack.uploads.values()))["parts"].pop(3, None)
        return None

    stack.scripts.append(script)
    result = client.put(make_file(17 * MIB))

    assert (result.status, (result.failure or {})["code"]) == ("failed", "parts_missing")
    assert stack.calls["POST /v1/uploads/{id}/complete"] == 4


def test_cancelled_from_elsewhere(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """S3 knows the upload no longer, the API says why: the result is ``cancelled``, not an error."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "PutPart" and facts["number"] == 6:
            stack.uploads[facts["upload_id"]]["status"] = "cancelled"
        return None

    stack.scripts.append(script)
    result = client.put(make_file(17 * MIB))

    assert result.status == "cancelled"
    assert not result.ok


def test_cancelled_before_signing(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """The API's 409 on signing is looked into as well."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "api" and facts["route"].endswith("/parts"):
            for upload in stack.uploads.values():
                upload["status"] = "cancelled"
        return None

    stack.scripts.append(script)

    assert client.put(make_file(17 * MIB)).status == "cancelled"


def test_a_lost_upload_starts_again_once(stack: Stack, client: Client, told: Told, make_file: MakeFile) -> None:
    """The store lost the parts (a lifecycle rule), the API still waits for them: a new session, all bytes again."""
    first: list[str] = []

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation != "PutPart":
            return None
        first.append(facts["upload_id"])
        return Fault(404, "NoSuchUpload") if facts["upload_id"] == first[0] and len(first) > 5 else None

    stack.scripts.append(script)
    path = make_file(17 * MIB)
    result = client.put(path)

    well(result, stack, path)
    assert result.upload_id != first[0]
    assert told.bytes + told.resumed == 17 * MIB
    assert any("starting again" in words for words in told.notices)


def test_an_upload_that_is_lost_again_fails(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """One new start, not a loop."""
    stack.fail("PutPart", Fault(404, "NoSuchUpload"), times=1000)
    result = client.put(make_file(17 * MIB))

    assert (result.status, (result.failure or {})["code"]) == ("failed", "NoSuchUpload")
    assert len(stack.uploads) == 2
