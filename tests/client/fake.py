"""A small API and a small S3 in this process, strict where the client could cheat, with faults on demand.

It is written from the contract, not from the functions: two readings of it must meet.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
import time
import urllib.parse
import uuid
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.client.fake_archives import Archives
from tests.client.fake_batches import Batches

TOKEN = "secret-token-of-the-test"
MIB = 1 << 20


@dataclass
class Fault:
    """What happens to a request instead of the right thing."""

    status: int = 503
    code: str = "SlowDown"
    read_body: bool = True
    cut_after: int | None = None
    """Hang up after so many bytes of the body, without an answer."""
    delay_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    """Do the right thing first, then lose the answer (hang up)."""
    message: str = "on demand"


Script = Callable[[str, dict[str, Any]], Fault | None]
"""``script(operation, facts)``: a fault for this request, or None. Operations: PutPart, GetObject, api."""


class Stack:
    """Both servers and what they know."""

    def __init__(self, folder: Path, *, single_max: int = 16 * MIB, part_size: int = MIB, ttl_s: float = 900.0) -> None:
        self.folder = folder
        self.single_max = single_max
        self.part_size = part_size
        self.ttl_s = ttl_s
        self.polls_until_final = 1
        self.assembling_answers = 0
        self.failed_uploads = 3
        """What cleanup finds, two a call."""
        self.final_status = "completed"
        self.keep = True
        """False: parts are hashed and thrown away, for sizes that no disk should see."""
        self.lock = threading.RLock()
        self.uploads: dict[str, dict[str, Any]] = {}
        self.signed: dict[str, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.puts: list[tuple[str, int, int]] = []
        """(upload_id, part number, status) of every answered PUT."""
        self.replays: dict[str, tuple[int, Any]] = {}
        self.scripts: list[Script] = []
        self.problems: dict[str, dict[str, Any]] = {}
        """name -> problem at initiate."""
        self.connections: Counter[str] = Counter()
        self.batches = Batches(self)
        self.archives = Archives(self)
        self.api_server = _serve(ApiHandler, self)
        self.s3_server = _serve(S3Handler, self)
        self.api = f"http://127.0.0.1:{self.api_server.server_address[1]}"
        self.s3 = f"http://127.0.0.1:{self.s3_server.server_address[1]}"

    def close(self) -> None:
        for server in (self.api_server, self.s3_server):
            server.shutdown()
            server.server_close()

    def fault(self, operation: str, facts: dict[str, Any]) -> Fault | None:
        with self.lock:
            for script in list(self.scripts):
                found = script(operation, facts)
                if found is not None:
                    return found
        return None

    def fail(self, operation: str, fault: Fault, times: int = 1, **facts: Any) -> None:
        """The next ``times`` requests of this operation with these facts meet the fault."""
        left = [times]

        def script(done: str, seen: dict[str, Any]) -> Fault | None:
            if done != operation or left[0] <= 0 or any(seen.get(n) != v for n, v in facts.items()):
                return None
            left[0] -= 1
            return fault

        self.scripts.append(script)

    def sign(self, kind: str, **facts: Any) -> dict[str, Any]:
        token = uuid.uuid4().hex
        ends = time.time() + self.ttl_s
        self.signed[token] = {"kind": kind, "ends": ends, **facts}
        headers = {"x-amz-checksum-sha256": facts["sha256"]} if facts.get("sha256") else {}
        if facts.get("single"):
            headers["if-none-match"] = "*"
        url = f"{self.s3}/{facts['key']}?partNumber={facts.get('number', 0)}&X-Amz-Signature={token}"
        return {"url": url, "headers": headers, "expires_at": iso(ends)}

    def content(self, upload_id: str) -> bytes:
        """The bytes of a finished upload."""
        upload = self.uploads[upload_id]
        return b"".join(Path(upload["parts"][n]["path"]).read_bytes() for n in sorted(upload["parts"]))

    @property
    def stored_parts(self) -> int:
        return sum(1 for _, _, status in self.puts if status == 200)


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def ranges(numbers: list[int]) -> list[list[int]]:
    found: list[list[int]] = []
    for n in sorted(numbers):
        if found and found[-1][1] == n - 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return found


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    stack: Stack

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the game."""


def _serve(handler: type[BaseHTTPRequestHandler], stack: Stack) -> Server:
    server = Server(("127.0.0.1", 0), handler)
    server.stack = stack
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server
    kind = ""

    def setup(self) -> None:
        super().setup()
        self.stack = self.server.stack
        with self.stack.lock:
            self.stack.connections[self.kind] += 1

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()


class S3Handler(Handler):
    kind = "s3"

    def refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        said = f"{message} at {self.stack.s3}{self.path}"  # some stores echo the URL
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{said}</Message></Error>"
        self.answer(status, body.encode(), {"content-type": "application/xml", **(headers or {})})

    def _claims(self) -> dict[str, Any] | None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        claims = self.stack.signed.get(query.get("X-Amz-Signature", [""])[0])
        if self.headers.get("authorization"):
            self.close_connection = True
            self.refuse(400, "InvalidArgument", "two ways of authentication")
            return None
        if claims is None or claims.get("number", 0) != int(query["partNumber"][0]):
            self.close_connection = True
            self.refuse(403, "SignatureDoesNotMatch", "not signed so")
            return None
        if time.time() > claims["ends"]:
            self.close_connection = True
            self.refuse(403, "AccessDenied", "Request has expired")
            return None
        return claims

    def do_PUT(self) -> None:
        length = int(self.headers["content-length"])
        stack = self.stack
        claims = self._claims()
        if claims is None:
            return
        upload_id, number = claims["upload_id"], claims["number"]
        fault = stack.fault("PutPart", {"upload_id": upload_id, "number": number})
        if fault is not None and not fault.after:
            self._misbehave(fault, length, upload_id, number)
            return
        allowed = {"x-amz-checksum-sha256"} if claims["sha256"] else set()
        extra = {n.lower() for n in self.headers if n.lower().startswith("x-amz-")} - allowed
        wrong = (
            self.headers.get("x-amz-checksum-sha256") != claims["sha256"]
            or length != claims["size"]
            or extra
            or (claims["single"] and self.headers.get("if-none-match") != "*")
        )
        if wrong:
            self.close_connection = True
            self._done(upload_id, number, 403)
            self.refuse(403, "SignatureDoesNotMatch", "other headers than signed")
            return
        path = stack.folder / uuid.uuid4().hex if stack.keep else Path(os.devnull)
        digest, left = hashlib.sha256(), length
        with path.open("wb") as file:
            while left:
                data = self.rfile.read(min(left, 256 << 10))
                if not data:
                    return
                digest.update(data)
                file.write(data)
                left -= len(data)
        sha256 = b64(digest.digest())
        if sha256 != claims["sha256"]:
            self._done(upload_id, number, 400)
            self.refuse(400, "BadDigest", "other bytes than signed")
            return
        with stack.lock:
            upload = stack.uploads.get(upload_id, {})
            if "member" in claims:
                status, code = stack.batches.arrived(*claims["member"], length, sha256, str(path))
            elif upload["status"] not in ("created", "uploading"):
                status, code = 404, "NoSuchUpload"
            elif claims["single"] and number in upload["parts"]:
                status, code = 412, "PreconditionFailed"
            else:
                status, code = 200, ""
                upload["parts"][number] = {"size": length, "sha256": sha256, "path": str(path)}
                if claims["single"]:
                    upload["status"] = "staged"
        self._done(upload_id, number, status)
        if fault is not None:
            self.hang_up()
        elif status == 200:
            self.answer(200, b"", {"etag": f'"{uuid.uuid4().hex}"', "x-amz-checksum-sha256": sha256})
        else:
            self.refuse(status, code, "no")

    def _done(self, upload_id: str, number: int, status: int) -> None:
        with self.stack.lock:
            self.stack.puts.append((upload_id, number, status))

    def _misbehave(self, fault: Fault, length: int, upload_id: str, number: int) -> None:
        time.sleep(fault.delay_s)
        if fault.cut_after is not None:
            self.rfile.read(min(length, fault.cut_after))
            self.hang_up()
            return
        if fault.read_body:
            while length:
                length -= len(self.rfile.read(min(length, 256 << 10)))
        else:
            self.close_connection = True
        self._done(upload_id, number, fault.status)
        self.refuse(fault.status, fault.code, fault.message, fault.headers)

    def do_GET(self) -> None:
        claims = self._claims()
        if claims is None:
            return
        whole = claims["bytes"] if "bytes" in claims else self.stack.content(claims["upload_id"])
        first, last = 0, len(whole) - 1
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        if asked:
            first, last = int(asked[1]), min(int(asked[2]), last)
        fault = self.stack.fault("GetObject", {"key": claims["key"], "first": first})
        with self.stack.lock:
            self.stack.calls["GetObject"] += 1
        body = whole[first : last + 1]
        if fault is not None:
            if fault.cut_after is not None:
                self.send_response(206 if asked else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: fault.cut_after])
                self.hang_up()
            else:
                self.refuse(fault.status, fault.code, fault.message, fault.headers)
            return
        headers = {"content-range": f"bytes {first}-{last}/{len(whole)}"} if asked else {}
        self.answer(206 if asked else 200, body, headers)


class ApiHandler(Handler):
    kind = "api"

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def say(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self.answer(status, json.dumps(body).encode(), {"content-type": "application/json", **(headers or {})})

    def problem(self, status: int, code: str, **facts: Any) -> None:
        self.say(status, {"type": "about:blank", "title": code, "detail": f"it is {code}", "code": code, **facts})

    def _serve(self, method: str) -> None:
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length)
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        shape = re.sub(r"/(up|ar|ba)-[0-9a-f]+(-\d{6})?", "/{id}", url.path)
        shape = re.sub(r"/manifest/\d+", "/manifest/{page}", shape)
        stack = self.stack
        with stack.lock:
            stack.calls[f"{method} {shape}"] += 1
        fault = stack.fault("api", {"route": f"{method} {shape}"})
        if fault is not None and not fault.after:
            if fault.cut_after is not None:
                self.hang_up()
            else:
                self.say(fault.status, {"message": fault.message}, fault.headers)
            return
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self.say(401, {"message": "Unauthorized"})
            return
        key = self.headers.get("idempotency-key")
        with stack.lock:
            if key in stack.replays:
                status, body = stack.replays[key]
                headers: dict[str, str] = {}
            else:
                status, body, headers = self._route(method, shape, url.path, query, raw)
                if key:
                    stack.replays[key] = (status, body)
        if fault is not None:
            self.hang_up()
            return
        self.say(status, body, headers)

    def _route(
        self, method: str, shape: str, path: str, query: dict[str, str], raw: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        stack = self.stack
        body = json.loads(raw) if raw else {}
        upload_id = path.split("/")[3] if len(path.split("/")) > 3 else ""
        upload = stack.uploads.get(upload_id)
        route = f"{method} {shape}"
        if route == "POST /v1/uploads":
            if any(entry["name"].startswith("unspeakable") for entry in body["files"]):
                return 422, {"code": "invalid_body", "detail": "one name breaks the schema"}, {}
            return 201, {"uploads": [self._initiate(entry) for entry in body["files"]]}, {}
        if route == "GET /v1/uploads":
            items = [
                {"upload_id": u["upload_id"], "size": u["size"], "status": u["status"]}
                for u in reversed(stack.uploads.values())
                if u["fingerprint"] == query.get("fingerprint", u["fingerprint"])
                and u["status"] == query.get("status", u["status"])
            ]
            return 200, {"items": items, "next_token": None}, {}
        if route == "GET /v1/files":
            first = int(query.get("next_token", "0"))
            every = [self._record(u) for u in stack.uploads.values()]
            limit = int(query.get("limit", "2"))
            more = str(first + limit) if first + limit < len(every) else None
            return 200, {"items": every[first : first + limit], "next_token": more}, {}
        if route == "DELETE /v1/uploads":
            stack.failed_uploads, deleted = max(0, stack.failed_uploads - 2), min(2, stack.failed_uploads)
            return 200, {"deleted": deleted, "more": stack.failed_uploads > 0, "query": query}, {}
        if route == "GET /v1/stats":
            return 200, {"active_uploads": 0, "total": len(stack.uploads), "as_of": iso(0)}, {}
        if path.startswith("/v1/batches"):
            return stack.batches.route(method, path, query, body)
        if path.startswith("/v1/archives"):
            return stack.archives.route(method, path, query, body)
        if upload is None:
            known = re.fullmatch(r"/v1/(uploads|files)/.*", path)
            return (
                (404, {"code": "not_found", "detail": "no such id"}, {})
                if known
                else (404, {"message": "Not Found"}, {})
            )
        if route == "POST /v1/uploads/{id}/parts":
            if upload["status"] not in ("created", "uploading"):
                return 409, {"code": "state_conflict", "detail": upload["status"]}, {}
            return 200, {"parts": [self._sign(upload, part) for part in body["parts"]]}, {}
        if route == "GET /v1/uploads/{id}":
            return 200, self._session(upload, parts=query.get("parts") == "true"), {}
        if route == "POST /v1/uploads/{id}/complete":
            return self._complete(upload, body)
        if route == "DELETE /v1/uploads/{id}":
            upload["status"] = "cancelled"
            return 200, {"upload_id": upload_id, "status": "cancelled"}, {}
        if route == "POST /v1/uploads/{id}/retry":
            return 202, {"upload_id": upload_id, "status": "validating", "asked": body}, {}
        if route == "GET /v1/files/{id}":
            return 200, self._file(upload), {}
        if route == "GET /v1/files/{id}/content":
            return 200, stack.sign("get", upload_id=upload_id, key=f"files/{upload_id}"), {}
        if route == "GET /v1/files/{id}/report":
            report = json.dumps({"valid": True, "records": 3}).encode()
            return 200, stack.sign("get", bytes=report, key=f"reports/{upload_id}"), {}
        return 404, {"message": "Not Found"}, {}

    def _initiate(self, entry: dict[str, Any]) -> dict[str, Any]:
        stack = self.stack
        if entry["name"] in stack.problems:
            return {"client_id": entry["client_id"], "problem": stack.problems[entry["name"]]}
        upload_id = f"up-{uuid.uuid4().hex}"
        if "batch_id" in entry:
            upload_id = f"{entry['batch_id']}-{entry['n']:06d}"
            refused = stack.batches.entry_of(entry)
            if refused is not None and upload_id not in stack.uploads:
                return {"client_id": entry["client_id"], "problem": refused[1]}
            if upload_id in stack.uploads:
                return self._opened(entry, stack.uploads[upload_id])
        single = entry["size"] <= stack.single_max
        part_size = max(entry["size"], 1) if single else stack.part_size
        count = 1 if single else -(-entry["size"] // part_size)
        upload = {
            "upload_id": upload_id,
            "name": entry["name"],
            "size": entry["size"],
            "mode": "single" if single else "multipart",
            "status": "created" if single else "uploading",
            "part_size": part_size,
            "part_count": count,
            "fingerprint": entry.get("fingerprint"),
            "entry": entry,
            "parts": {},
            "polls": 0,
            "assembling": stack.assembling_answers,
        }
        stack.uploads[upload_id] = upload
        return self._opened(entry, upload)

    def _opened(self, entry: dict[str, Any], upload: dict[str, Any]) -> dict[str, Any]:
        shown = {name: upload[name] for name in ("upload_id", "mode", "part_size", "part_count")}
        shown |= {"client_id": entry["client_id"], "expires_at": iso(time.time() + 604_800)}
        if upload["mode"] == "single" and entry.get("sha256"):
            shown["put"] = self._put(upload, 1, entry["sha256"])
        return shown

    def _put(self, upload: dict[str, Any], number: int, sha256: str) -> dict[str, Any]:
        size = min(upload["part_size"], upload["size"] - (number - 1) * upload["part_size"])
        return self.stack.sign(
            "put",
            upload_id=upload["upload_id"],
            key=f"in/{upload['upload_id']}",
            number=number,
            sha256=sha256,
            size=size,
            single=upload["mode"] == "single",
        )

    def _sign(self, upload: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
        return {"part_number": part["part_number"], **self._put(upload, part["part_number"], part["sha256"])}

    def _session(self, upload: dict[str, Any], *, parts: bool) -> dict[str, Any]:
        names = ("upload_id", "name", "size", "status", "mode", "part_size", "part_count", "fingerprint")
        shown: dict[str, Any] = {name: upload[name] for name in names}
        shown["final"] = upload["status"] in ("cancelled", "completed")
        shown["received"] = ranges(list(upload["parts"]))
        shown["percent"] = 50.0
        if parts:
            shown["parts"] = [
                {"part_number": n, "size": p["size"], "sha256": p["sha256"]} for n, p in sorted(upload["parts"].items())
            ]
        return shown

    def _complete(self, upload: dict[str, Any], body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        if upload["status"] == "cancelled":
            return 409, {"code": "state_conflict", "detail": "cancelled"}, {}
        missing = [n for n in range(1, upload["part_count"] + 1) if n not in upload["parts"]]
        if missing:
            return 409, {"code": "parts_missing", "detail": "some", "missing": ranges(missing)}, {}
        wrong = [
            part["part_number"]
            for part in body.get("parts") or ()
            if upload["parts"][part["part_number"]]["sha256"] != part["sha256"]
        ]
        if wrong:
            return 409, {"code": "part_mismatch", "detail": "other bytes", "parts": ranges(wrong)}, {}
        if upload["assembling"]:
            upload["assembling"] -= 1
            upload["status"] = "assembling"
            return 202, {"upload_id": upload["upload_id"], "status": "assembling"}, {"retry-after": "1"}
        upload["status"] = "staged"
        return 200, {"upload_id": upload["upload_id"], "status": "staged", "size": upload["size"]}, {}

    def _record(self, upload: dict[str, Any]) -> dict[str, Any]:
        return {
            "file_id": upload["upload_id"],
            "upload_id": upload["upload_id"],
            "name": upload["name"],
            "size": upload["size"],
            "status": upload["status"],
            "final": upload["status"] in ("completed", "rejected", "cancelled"),
            "kind": "image",
        }

    def _file(self, upload: dict[str, Any]) -> dict[str, Any]:
        if upload["status"] == "staged":
            upload["polls"] += 1
            if upload["polls"] >= self.stack.polls_until_final:
                upload["status"] = self.stack.final_status
        record = self._record(upload)
        record["thumbnails"] = [
            {"size": size, "width": size, "height": 7, "placeholder": False, "provisional": False}
            | {"url": self.stack.sign("get", bytes=b"jpeg%d" % size, key=f"thumbnails/{size}")["url"]}
            for size in (256, 512)
        ]
        if upload["status"] == "completed":
            content = self.stack.content(upload["upload_id"])
            sums = {"crc32": b64(zlib.crc32(content).to_bytes(4, "big")), "sha256_proven": False}
            record["checksums"] = upload.get("checksums", sums)
        if upload["status"] == "rejected":
            record["failure"] = {"code": "not_an_image", "message": "this is text", "stage": "validate"}
        return record
