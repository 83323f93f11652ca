"""A client of batches in a World: what it asks, what it sends, and what must be true whenever it looks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from heavylift.api import table_requests
from tests.doubles.gate import Killed
from tests.doubles.s3 import sha256_base64
from tests.doubles.world import STAGING, World

COUNTS = ("total", "received", "processed", "succeeded", "failed", "skipped", "duplicates")


@dataclass(slots=True)
class BatchClient:
    """``files``: number -> (name, bytes). Sends what it likes, in any order."""

    world: World
    files: dict[int, tuple[str, bytes]]
    tenant: str = "acme"
    batch_id: str = ""
    begun: dict[str, Any] = field(default_factory=dict)

    def begin(self, **body: Any) -> tuple[int, dict[str, Any]]:
        body = {"kind": "other", "total": len(self.files), **body}
        status, answer = self.world.call("initiate", "POST", "/v1/batches", body=body, tenant=self.tenant)
        if status == 201:
            self.begun, self.batch_id = answer, answer["batch_id"]
        return status, answer

    def entries(self, numbers: Sequence[int] | None = None, **more: Any) -> list[dict[str, Any]]:
        numbers = list(self.files) if numbers is None else numbers
        return [{"n": n, "name": self.files[n][0], "size": len(self.files[n][1]), **more} for n in numbers]

    def put_page(self, page: int, entries: Any) -> tuple[int, dict[str, Any]]:
        return self.world.call(
            "initiate",
            "PUT",
            "/v1/batches/{id}/manifest/{page}",
            path={"id": self.batch_id, "page": str(page)},
            body={"entries": entries},
            tenant=self.tenant,
        )

    def list(self, numbers: Sequence[int] | None = None, page: int = 1) -> None:
        status, answer = self.put_page(page, self.entries(numbers))
        assert status == 200, answer

    def key(self, n: int) -> str:
        return f"in/{self.tenant}/{self.batch_id}/{n}"

    def post(self, n: int, data: bytes | None = None, *, digest: bool = False) -> None:
        """What S3 makes of a form under the policy."""
        body = self.files[n][1] if data is None else data
        extra = {"ChecksumSHA256": sha256_base64(body)} if digest else {}
        self.world.s3.put_object(Bucket=STAGING, Key=self.key(n), Body=body, **extra)

    def file_id(self, n: int) -> str:
        return f"{self.batch_id}-{n:06d}"

    def begin_upload(self, n: int, /, **entry: Any) -> tuple[int, dict[str, Any]]:
        name, data = self.files[n]
        entry = {"name": name, "size": len(data), "batch_id": self.batch_id, "n": n, **entry}
        status, body = self.world.call("initiate", "POST", "/v1/uploads", body={"files": [entry]}, tenant=self.tenant)
        return status, body["uploads"][0] if status == 201 else body

    def send(self) -> None:
        """Every file: small ones by form, large ones by an upload of their own."""
        for n, (_, data) in self.files.items():
            if len(data) <= 64:
                self.post(n)
            else:
                _, upload = self.begin_upload(n)
                self.world.put(upload["upload_id"], data)
                self.world.complete(upload["upload_id"])

    def _call(self, function: str, method: str, route: str, **given: Any) -> tuple[int, dict[str, Any]]:
        return self.world.call(function, method, route, path={"id": self.batch_id}, tenant=self.tenant, **given)

    def complete(self) -> tuple[int, dict[str, Any]]:
        return self._call("complete", "POST", "/v1/batches/{id}/complete")

    def cancel(self) -> tuple[int, dict[str, Any]]:
        return self._call("complete", "DELETE", "/v1/batches/{id}")

    def look(self, **query: str) -> dict[str, Any]:
        """GET /v1/batches/{id}, held to what is always true."""
        status, body = self._call("sessions", "GET", "/v1/batches/{id}", query=query)
        assert status == 200, body
        assert body["processed"] == body["succeeded"] + body["failed"] + body["skipped"] + body["duplicates"]
        assert body["processed"] <= body["total"]
        return body

    def verdicts(self) -> dict[int, dict[str, Any]]:
        """GET …/files, all pages."""
        found: list[dict[str, Any]] = []
        token = None
        while True:
            query = {"limit": "3", **({"next_token": token} if token else {})}
            status, body = self._call("sessions", "GET", "/v1/batches/{id}/files", query=query)
            assert status == 200, body
            found += body["items"]
            token = body["next_token"]
            if token is None:
                break
        assert [line["n"] for line in found] == sorted({line["n"] for line in found})
        return {line["n"]: line for line in found}

    def told(self) -> list[tuple[str, str]]:
        """(type, id) of the batch's own events on the bus, each once, in the order of their first copy."""
        mine = [
            (put.type, str(put.detail["id"]))
            for put in self.world.bus.taken
            if put.type.startswith("batch.") and put.detail["batch_id"] == self.batch_id
        ]
        return list(dict.fromkeys(mine))

    def settle(self, *, days: float = 2, rounds: int = 60) -> None:
        """Messages, clock and sweeper, until nothing is due for ``days`` or the batch has nothing left to do."""
        end = self.world.clock.now + days * 86_400
        for _ in range(rounds):
            self.world.pump()
            due = [float(item["due_at"]["N"]) for item in self.world.table.items.values() if "due_at" in item]
            if not due or min(due) > end:
                return
            # Listings look at what is older than their grace.
            self.world.clock.now = max(self.world.clock.now, min(due)) + 60
            try:
                self.world.sweep()
            except Killed:
                self.world.gate.around = None
        raise AssertionError("the sweeper finds no end")


def sign_reads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """sign's own HTTP requests, answered by the world's table."""

    def post(scheme: str, host: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        asked = json.loads(body)
        operation = headers["x-amz-target"].rpartition(".")[2]
        if operation == "BatchGetItem":
            answer = world.table.batch_get_item(RequestItems=asked["RequestItems"])
        else:
            answer = world.table.get_item(TableName=asked["TableName"], Key=asked["Key"], ConsistentRead=True)
        return 200, json.dumps(answer, default=_base64).encode()

    monkeypatch.setattr(table_requests, "_post", post)


def _base64(value: bytes) -> str:
    import base64

    return base64.b64encode(value).decode()


def counts_of(view: dict[str, Any]) -> dict[str, int]:
    return {name: view[name] for name in COUNTS}
