"""sign's routes for batches: signed PUTs by the manifest, fresh policies, and every refusal. One table read each."""

from __future__ import annotations

import base64
import json
import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from heavylift import post_policy, presign
from heavylift.api import sign
from heavylift.batches import manifest, model
from heavylift.batches.manifest import Entry
from heavylift.batches.model import Batch, BatchStatus
from heavylift.limits import MIB, SINGLE_PUT_MAX, URLS_PER_CALL_MAX
from tests.doubles import events
from tests.heavylift.api.test_sign import NOW, Table, server, table

__all__ = ["server", "table"]  # fixtures

BATCH = "01JD2Z3NDEKTSV4RRFFQ69G5FA"
HEX = "0a" * 32
URLS, POLICY = "/v1/batches/{id}/urls", "/v1/batches/{id}/policy"


def batch_of(**values: Any) -> Batch:
    base: dict[str, Any] = {
        "tenant": "acme",
        "batch_id": BATCH,
        "kind": "other",
        "total": 9,
        "expires_at": NOW + 86_400,
    }
    return Batch(**{**base, **values})


def keep(table: Table, entries: list[Entry], **values: Any) -> None:
    table.put_item(model.to_item(batch_of(**values)))
    for hundred, group in manifest.by_hundred(entries).items():
        key = model.item_key("acme", BATCH, manifest.sort_key(hundred))
        table.put_item({**key, "entries": manifest.pack(group), "count": len(group), "version": 1})


def ask(route: str, body: Any, *, batch_id: str = BATCH, tenant: str | None = "acme") -> tuple[int, dict[str, Any]]:
    event = events.http("POST", route, path={"id": batch_id}, body=body, tenant=tenant)
    answer = sign.handle(event, None)
    return answer["statusCode"], json.loads(answer["body"])


def test_signed_puts(table: Table) -> None:
    """Length, if-none-match and the manifest's digest are signed; the order is the caller's; a number comes once."""
    keep(table, [Entry(7, "a", 5), Entry(99, "b", 0, HEX), Entry(500, "c", SINGLE_PUT_MAX)])
    status, body = ask(URLS, {"n": [500, 7, 99, 7]})

    assert status == 200
    assert [one["n"] for one in body["urls"]] == [500, 7, 99]
    by_number = {one["n"]: one for one in body["urls"]}
    assert by_number[7]["headers"] == {"if-none-match": "*"}
    digest = base64.b64encode(bytes.fromhex(HEX)).decode()
    assert by_number[99]["headers"] == {"if-none-match": "*", "x-amz-checksum-sha256": digest}
    assert by_number[7]["expires_at"] == "2025-11-20T00:15:00.000Z"
    assert urlsplit(by_number[99]["url"]).path == f"/in/acme/{BATCH}/99"
    signed = parse_qs(urlsplit(by_number[99]["url"]).query)["X-Amz-SignedHeaders"]
    assert signed == ["content-length;host;if-none-match;x-amz-checksum-sha256"]
    assert by_number[7]["url"] == presign.presign_put(
        presign.Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]),
        "us-east-1",
        presign.bucket_address("heavylift-staging", "us-east-1"),
        f"in/acme/{BATCH}/7",
        {"if-none-match": "*", "content-length": "5"},
        900,
        "20251120T000000Z",
    )
    assert len(table.requests) == 2  # the batch, and three items at once


def test_what_has_no_url(table: Table) -> None:
    """A file that needs an upload of its own, and one that no page names, are problems inside the answer."""
    keep(table, [Entry(1, "large", SINGLE_PUT_MAX + 1)])
    _, body = ask(URLS, {"n": [1, 2]})

    assert [(one["n"], one["problem"]["code"]) for one in body["urls"]] == [
        (1, "multipart_required"),
        (2, "not_in_manifest"),
    ]


def test_five_hundred_hundreds(table: Table) -> None:
    """Numbers all over the manifest: as many reads as DynamoDB's limit asks for, what it leaves out asked again."""
    numbers = list(range(0, 50_000, 100))
    keep(table, [Entry(n, f"file {n}", 1) for n in numbers])
    table.at_once = 60
    status, body = ask(URLS, {"n": numbers})

    assert (status, len(body["urls"])) == (200, URLS_PER_CALL_MAX)
    assert all("url" in one for one in body["urls"])
    assert len(table.requests) == 1 + 5 * 2


def test_five_hundred_urls_fit_into_an_answer(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a long token and long names: below Lambda's 6 MB."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "A/" * 512)
    keep(table, [Entry(n, "a", 1, HEX) for n in range(1, 501)])
    event = events.http("POST", URLS, path={"id": BATCH}, body={"n": list(range(1, 501))})

    assert len(json.dumps(sign.handle(event, None))) < 3 * MIB


@pytest.mark.parametrize("checksum", [None, "none", "sha256"])
def test_a_fresh_policy(table: Table, checksum: str | None) -> None:
    """The same form as at the batch's begin, for this moment; with a digest where the client wants it."""
    keep(table, [])
    status, body = ask(POLICY, {"checksum": checksum} if checksum else None)

    assert status == 200
    assert body["expires_at"] == "2025-11-20T00:15:00.000Z"
    assert body["fields"]["key"] == f"in/acme/{BATCH}/${{filename}}"
    form = post_policy.presign_post(
        presign.Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]),
        "us-east-1",
        presign.bucket_address("heavylift-staging", "us-east-1"),
        "heavylift-staging",
        f"in/acme/{BATCH}/",
        SINGLE_PUT_MAX,
        900,
        NOW,
        with_digest=checksum == "sha256",
    )
    assert {name: body[name] for name in form} == form


def test_nothing_outlives_the_batch(table: Table) -> None:
    """The last minute of a batch signs for a minute."""
    keep(table, [Entry(1, "a", 1)], expires_at=NOW + 60)

    assert ask(POLICY, {})[1]["expires_at"] == "2025-11-20T00:01:00.000Z"
    assert ask(URLS, {"n": [1]})[1]["urls"][0]["expires_at"] == "2025-11-20T00:01:00.000Z"


@pytest.mark.parametrize("route", [URLS, POLICY])
@pytest.mark.parametrize(
    ("values", "status", "code"),
    [
        ({"status": BatchStatus.PROCESSING}, 409, "state_conflict"),
        ({"status": BatchStatus.COMPLETED}, 409, "state_conflict"),
        ({"status": BatchStatus.CANCELLED}, 409, "state_conflict"),
        ({"status": BatchStatus.EXPIRED}, 410, "batch_expired"),
        ({"expires_at": NOW}, 410, "batch_expired"),
        ({"tenant": "globex"}, 404, "not_found"),
        ({"batch_id": "01JD2Z3NDEKTSV4RRFFQ69G5FB"}, 404, "not_found"),
    ],
)
def test_a_batch_that_takes_nothing(table: Table, route: str, values: dict[str, Any], status: int, code: str) -> None:
    """Ended, over, another tenant's or none at all."""
    keep(table, [], **values)

    answered, body = ask(route, {"n": [1]})
    assert (answered, body["code"]) == (status, code)


@pytest.mark.parametrize(
    "body",
    [None, {}, {"n": []}, {"n": "1"}, {"n": {}}, {"n": ["1"]}, {"n": [1.5]}, {"n": [True]}, {"n": [-1]},
     {"n": [1_000_000]}, {"n": [10**400]}, {"n": [1, None]}, {"n": [1] * 501}, [1], "x"],
)  # fmt: skip
def test_what_is_no_list_of_numbers(table: Table, body: Any) -> None:
    """Refused as a whole, before the table is asked."""
    status, problem = ask(URLS, body)

    assert (status, problem["code"]) == (422, "invalid_body")
    assert table.requests == []


@pytest.mark.parametrize("body", [[], "x", {"checksum": "md5"}, {"checksum": 1}, {"checksum": None}])
def test_what_is_no_wish_for_a_policy(table: Table, body: Any) -> None:
    """Refused as a whole."""
    assert ask(POLICY, body)[1]["code"] == "invalid_body"
