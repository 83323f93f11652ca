"""The counters say what a proxy between functions and services saw, which counts by itself."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from heavylift_client import Client
from heavylift_local import plan
from heavylift_local.testing import RunningStack, running_stack
from tests.interop.conftest import write_tiff

pytestmark = pytest.mark.xdist_group("counters")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "proxy-connection", "expect"}

TOPOLOGY = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("base_topology", {base!r})
base = importlib.util.module_from_spec(spec)
sys.modules["base_topology"] = base
spec.loader.exec_module(base)
from base_topology import *
ENVIRONMENT = {{**base.ENVIRONMENT, "AWS_ENDPOINT_URL_S3": {s3!r}, "AWS_ENDPOINT_URL_DYNAMODB": {dynamodb!r}}}
"""


class Proxy:
    """Hands requests on as they are and counts them: (access key or "presigned", operation) -> requests, bytes."""

    def __init__(self, operation_of: Callable[[BaseHTTPRequestHandler], str]) -> None:
        self.operation_of = operation_of
        self.upstream: str | None = None
        self.known = threading.Event()
        self.lock = threading.Lock()
        self.requests: Counter[tuple[str, str]] = Counter()
        self.bytes_in: Counter[tuple[str, str]] = Counter()
        self.bytes_out: Counter[tuple[str, str]] = Counter()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True).start()

    def to(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.known.set()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def count(self, handler: BaseHTTPRequestHandler, received: int, sent: int) -> None:
        query = parse_qs(urlsplit(handler.path).query)
        signed = re.search(r"Credential=([A-Z0-9]+)/", handler.headers.get("Authorization", ""))
        caller = signed[1] if signed else "presigned" if "X-Amz-Signature" in query else "nobody"
        key = (caller, self.operation_of(handler))
        with self.lock:
            self.requests[key] += 1
            self.bytes_in[key] += received
            self.bytes_out[key] += sent

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def handle_expect_100(self) -> bool:
                proceed = super().handle_expect_100()
                self.wfile.flush()
                return proceed

            def forward(self) -> None:
                proxy.known.wait(30)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                upstream = http.client.HTTPConnection(str(proxy.upstream), timeout=60)
                try:
                    upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        if name.lower() not in HOP_BY_HOP:
                            upstream.putheader(name, value)
                    upstream.endheaders(body or None)
                    answer = upstream.getresponse()
                    content = answer.read()
                finally:
                    upstream.close()
                proxy.count(self, len(body), len(content))
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def s3_operation(handler: BaseHTTPRequestHandler) -> str:
    """From method and query alone."""
    url = urlsplit(handler.path)
    query = parse_qs(url.query, keep_blank_values=True)
    method = handler.command
    if len(unquote(url.path).strip("/").split("/", 1)) == 1:
        listings = {"list-type": "ListObjectsV2", "uploads": "ListMultipartUploads", "versions": "ListObjectVersions"}
        listing = next((operation for name, operation in listings.items() if name in query), "GetBucket")
        return {"GET": listing, "HEAD": "HeadBucket"}[method]
    if "uploads" in query:
        return "CreateMultipartUpload"
    if "partNumber" in query and method == "PUT":
        return "UploadPartCopy" if "x-amz-copy-source" in handler.headers else "UploadPart"
    if "uploadId" in query:
        names = {"POST": "CompleteMultipartUpload", "GET": "ListParts", "DELETE": "AbortMultipartUpload"}
        return names[method]
    if method == "PUT" and "x-amz-copy-source" in handler.headers:
        return "CopyObject"
    return {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}[method]


def dynamodb_operation(handler: BaseHTTPRequestHandler) -> str:
    return handler.headers["X-Amz-Target"].partition(".")[2]


@pytest.fixture
def proxies() -> Iterator[dict[str, Proxy]]:
    made = {"s3": Proxy(s3_operation), "dynamodb": Proxy(dynamodb_operation)}
    yield made
    for proxy in made.values():
        proxy.stop()


def seen(proxies: dict[str, Proxy], names: dict[str, str]) -> dict[str, dict[str, tuple[int, int, int]]]:
    found: dict[str, dict[str, tuple[int, int, int]]] = {}
    for service, proxy in proxies.items():
        with proxy.lock:
            for key, requests in proxy.requests.items():
                caller, operation = names[key[0]], f"{service}.{key[1]}"
                found.setdefault(caller, {})[operation] = (requests, proxy.bytes_in[key], proxy.bytes_out[key])
    return found


def counted(stack: RunningStack) -> dict[str, dict[str, tuple[int, int, int]]]:
    found: dict[str, dict[str, tuple[int, int, int]]] = {}
    for caller, rows in stack.counters().items():
        for operation, row in rows.items():
            if operation.startswith(("s3.", "dynamodb.")):
                figures = (int(row["requests"]), int(row["bytes_in"]), int(row["bytes_out"]))
                found.setdefault(caller, {})[operation] = figures
    return found


def test_counters_equal_an_independent_count(proxies: dict[str, Proxy], tmp_path: Path) -> None:
    """Requests and bytes of every caller and operation, over real uploads: multipart, single, a rejected one."""
    topology = tmp_path / "topology.py"
    base = str(plan.REPOSITORY / "infra" / "topology.py")
    urls = {name: proxy.url for name, proxy in proxies.items()}
    topology.write_text(TOPOLOGY.format(base=base, **urls))
    picture = write_tiff(tmp_path / "picture.tif", 3000, 2200)  # 19 MiB: multipart
    (tmp_path / "plain.bin").write_bytes(bytes(5000))
    (tmp_path / "bad.tif").write_bytes(b"no picture")
    with running_stack(tmp_path / "data", args=["--topology", str(topology)]) as stack:
        state = stack.state()
        proxies["s3"].to(stack.s3)
        proxies["dynamodb"].to(state["endpoints"]["dynamodb"])
        with Client(stack.api, stack.ready["token"]) as client, ThreadPoolExecutor(3) as threads:
            results = list(threads.map(client.put, [picture, tmp_path / "plain.bin", tmp_path / "bad.tif"]))
            client.get(results[0].file_id, tmp_path / "back.tif")
        identity = plan.load_identity(tmp_path / "data" / "stack.json", [])
        names = {key.access_key: name for name, key in identity.keys.items()} | {"presigned": "client"}
        deadline = time.monotonic() + 20
        while (ours := counted(stack)) != (theirs := seen(proxies, names)) and time.monotonic() < deadline:
            time.sleep(0.2)  # the last calls of a function that is still at work

        assert [result.status for result in results] == ["completed", "completed", "rejected"]
        assert (tmp_path / "back.tif").read_bytes() == picture.read_bytes()
        assert ours == theirs
        assert {"client", "initiate", "sign", "complete", "validate", "thumbnail"} <= set(ours)
        assert ours["client"]["s3.UploadPart"][:2] == (2, picture.stat().st_size)
        counters = stack.counters()
        writes = counters["validate"]["dynamodb.UpdateItem"]
        assert writes["write_units"] >= writes["requests"]
        reads = counters["sign"]["dynamodb.GetItem"]
        assert reads["read_units"] == reads["requests"]  # small, strongly consistent
        assert (
            counters["complete"]["sqs.SendMessage"]["requests"] >= 1
            if "sqs.SendMessage" in counters["complete"]
            else True
        )
