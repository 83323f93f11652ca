"""A web site of its own for the upload engine: another origin than the API's, under a Content-Security-Policy that
allows nothing that the engine does not need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "engine"
PAGE_POLICY = "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src {hosts}"
# A worker has the policy of its own response.
WORKER_POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'"
KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
WORKER = "/web/engine/hash_worker.js"


def policy(path: str, hosts: str) -> str:
    """The policy of an answer: docs/browser.md says the same in words."""
    return WORKER_POLICY if path == WORKER else PAGE_POLICY.format(hosts=hosts)


def _file(path: str) -> tuple[bytes, str] | None:
    """The test's page, or a file of the engine and what it brings along."""
    root = ROOT / "web"
    file = (
        HERE / "page.html" if path == "/" else HERE / "page.js" if path == "/page.js" else root / path[len("/web/") :]
    )
    if file.parent != HERE and (not path.startswith("/web/") or root not in file.resolve().parents):
        return None
    return (file.read_bytes(), KINDS.get(file.suffix, "text/plain")) if file.is_file() else None


@contextmanager
def site(hosts: Callable[[], str], more: Callable[[str], tuple[bytes, str] | None] = lambda _: None) -> Iterator[str]:
    """Its origin. ``hosts``: what pages may connect to; ``more``: further files by path."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            found = more(path) or _file(path)
            body, kind = found or (b"", "text/plain")
            self.send_response(200 if found else 404)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.send_header("cache-control", "no-store")
            self.send_header("content-security-policy", policy(path, hosts()))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
