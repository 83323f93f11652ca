"""The batches of the fake API, strict where a client could cheat: pages, windows, one PUT a member, exact counts."""

from __future__ import annotations

import base64
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.client.fake import Stack

Answer = tuple[int, Any, dict[str, str]]
FILES_MAX, ENTRIES_MAX, WINDOW_MAX, PAGES_MAX, PAGE_LIMIT = 100_000, 5_000, 500, 1_000, 100
SINGLE_MAX = 16 << 20


def refuse(status: int, code: str) -> Answer:
    return status, {"code": code, "detail": f"it is {code}"}, {}


class Batches:
    """All batches of one fake stack; the stack's lock is held by whoever calls."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.by_id: dict[str, dict[str, Any]] = {}
        self.verdicts: dict[str, dict[str, Any]] = {}
        """name -> {"verdict", "code"?, "message"?} instead of completed."""
        self.polls_until_final = 1

    def route(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        if (method, path) == ("POST", "/v1/batches"):
            return self._begin(body)
        found = re.fullmatch(r"/v1/batches/(ba-[0-9a-f]+)(/.*)?", path)
        batch = self.by_id.get(found[1]) if found else None
        if found is None or batch is None:
            return refuse(404, "not_found")
        rest = found[2] or ""
        if method == "PUT" and (page := re.fullmatch(r"/manifest/(\d+)", rest)):
            return self._page(batch, int(page[1]), body)
        routes = {
            "POST /urls": lambda: self._urls(batch, body),
            "POST /complete": lambda: self._complete(batch),
            "DELETE ": lambda: self._cancel(batch),
            "GET ": lambda: self._status(batch, query),
            "GET /files": lambda: self._files(batch, query),
        }
        answer = routes.get(f"{method} {rest}")
        return answer() if answer else (404, {"message": "Not Found"}, {})

    def _begin(self, body: Any) -> Answer:
        if not 1 <= body["total"] <= FILES_MAX or body.get("mode") != "put":
            return refuse(422, "invalid_body")
        batch_id = f"ba-{uuid.uuid4().hex}"
        self.by_id[batch_id] = {
            "batch_id": batch_id,
            "status": "open",
            "total": body["total"],
            "asked": body,
            "pages": {},
            "entries": {},
            "stored": {},
            "polls": 0,
        }
        return 201, {"batch_id": batch_id, "status": "open"}, {}

    def _page(self, batch: dict[str, Any], number: int, body: Any) -> Answer:
        entries = body["entries"]
        if not 1 <= len(entries) <= ENTRIES_MAX or number >= PAGES_MAX:
            return refuse(422, "invalid_body")
        if number in batch["pages"]:
            return (200, {}, {}) if batch["pages"][number] == entries else refuse(409, "manifest_conflict")
        if batch["status"] != "open":
            return refuse(409, "state_conflict")
        if any(entry["n"] in batch["entries"] for entry in entries):
            return refuse(409, "manifest_conflict")
        if len(batch["entries"]) + len(entries) > batch["total"]:
            return refuse(409, "manifest_full")
        for entry in entries:
            if not set(entry) <= {"n", "name", "size", "sha256", "relative_path"} or not entry["name"]:
                return refuse(422, "invalid_body")
            if "sha256" in entry and len(base64.b64decode(entry["sha256"], validate=True)) != 32:
                return refuse(422, "invalid_body")
        batch["pages"][number] = entries
        batch["entries"].update({entry["n"]: entry for entry in entries})
        return 200, {"page": number, "entries": len(entries)}, {}

    def _urls(self, batch: dict[str, Any], body: Any) -> Answer:
        if not 1 <= len(body["n"]) <= WINDOW_MAX:
            return refuse(422, "invalid_body")
        if batch["status"] != "open":
            return refuse(409, "state_conflict")
        urls = []
        for n in body["n"]:
            entry = batch["entries"].get(n)
            if entry is None:
                urls.append({"n": n, "problem": {"code": "not_in_manifest", "detail": f"no {n}"}})
            elif entry["size"] > SINGLE_MAX:
                urls.append({"n": n, "problem": {"code": "multipart_required", "detail": f"{n} is large"}})
            else:
                urls.append({"n": n, **self._signed(batch, entry)})
        return 200, {"urls": urls}, {}

    def _signed(self, batch: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        member = f"{batch['batch_id']}-{entry['n']:06d}"
        return self.stack.sign(
            "put",
            upload_id=member,
            key=f"in/{batch['batch_id']}/{entry['n']:06d}",
            number=1,
            sha256=entry.get("sha256"),
            size=entry["size"],
            single=True,
            member=(batch["batch_id"], entry["n"]),
        )

    def arrived(self, batch_id: str, n: int, size: int, sha256: str, path: str) -> tuple[int, str]:
        """What S3 says of a whole member: status and code."""
        batch = self.by_id[batch_id]
        if n in batch["stored"]:
            return 412, "PreconditionFailed"
        batch["stored"][n] = {"size": size, "sha256": sha256, "path": path}
        return 200, ""

    def entry_of(self, entry: dict[str, Any]) -> Answer | None:
        """Why a member may not begin an upload of its own; None if it may."""
        batch = self.by_id.get(entry["batch_id"])
        listed = (batch or {}).get("entries", {}).get(entry["n"])
        if batch is None or listed is None:
            return refuse(404, "not_in_manifest")
        if listed["size"] != entry["size"]:
            return refuse(409, "size_mismatch")
        return None if batch["status"] == "open" else refuse(409, "state_conflict")

    def _large(self, batch: dict[str, Any], n: int) -> dict[str, Any] | None:
        return self.stack.uploads.get(f"{batch['batch_id']}-{n:06d}")

    def _has(self, batch: dict[str, Any], n: int) -> bool:
        large = self._large(batch, n)
        return n in batch["stored"] or (large is not None and large["status"] in ("staged", "completed"))

    def _complete(self, batch: dict[str, Any]) -> Answer:
        if batch["status"] in ("cancelled", "expired"):
            return refuse(409, "state_conflict")
        if batch["status"] == "open":
            batch["status"] = "processing"
        return 200, self._shown(batch), {}

    def _cancel(self, batch: dict[str, Any]) -> Answer:
        batch["status"] = "cancelled"
        return 200, self._shown(batch), {}

    def _verdict(self, batch: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        if not self._has(batch, entry["n"]):
            return {"verdict": "failed", "code": "not_received", "message": "it never came"}
        return self.verdicts.get(entry["name"], {"verdict": "completed"})

    def _shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        verdicts = [self._verdict(batch, entry)["verdict"] for entry in batch["entries"].values()]
        succeeded = verdicts.count("completed")
        return {
            "batch_id": batch["batch_id"],
            "status": batch["status"],
            "final": batch["status"] not in ("open", "processing"),
            "total": batch["total"],
            "received": len(batch["stored"]),
            "succeeded": succeeded,
            "failed": batch["total"] - succeeded,
        }

    def _status(self, batch: dict[str, Any], query: dict[str, str]) -> Answer:
        if batch["status"] == "processing" and "wait" in query:
            batch["polls"] += 1
            if batch["polls"] >= self.polls_until_final:
                well = self._shown(batch)["failed"] == 0
                batch["status"] = "completed" if well else "completed_with_errors"
        return 200, self._shown(batch), {}

    def _files(self, batch: dict[str, Any], query: dict[str, str]) -> Answer:
        limit = int(query.get("limit", "2"))
        if not 1 <= limit <= PAGE_LIMIT:
            return refuse(400, "invalid_parameter")
        first = int(query.get("next_token", "0"))
        numbers = sorted(batch["entries"])
        items = []
        for n in numbers[first : first + limit]:
            entry = batch["entries"][n]
            shown = {"n": n, "file_id": f"{batch['batch_id']}-{n:06d}", "kind": "image"}
            shown |= {"name": entry["name"], "relative_path": entry["relative_path"]}
            items.append(shown | {"status": "completed"} | self._verdict(batch, entry))
        more = str(first + limit) if first + limit < len(numbers) else None
        return 200, {"items": items, "next_token": more}, {}

    def content(self, batch_id: str) -> dict[str, bytes]:
        """relative path -> bytes of every member that is in the store, however it came."""
        found = {}
        batch = self.by_id[batch_id]
        for n, entry in batch["entries"].items():
            if n in batch["stored"]:
                with open(batch["stored"][n]["path"], "rb") as file:
                    found[entry["relative_path"]] = file.read()
            elif self._has(batch, n):
                found[entry["relative_path"]] = self.stack.content(f"{batch['batch_id']}-{n:06d}")
        return found

    def wait_until(self, seconds: float, found: Any) -> None:
        """For tests that cut an upload half-way."""
        deadline = time.monotonic() + seconds
        while not found() and time.monotonic() < deadline:
            time.sleep(0.005)
