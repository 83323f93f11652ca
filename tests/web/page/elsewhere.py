"""The page on an origin of its own, and an issuer of tokens that signs everybody in: two servers on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from heavylift_local.gateway.pages import Origins, page

WEB = Path(__file__).parents[3] / "web"
Answer = tuple[int, bytes, Mapping[str, str]]


@contextmanager
def serving(answer: Callable[[str, str, str], Answer]) -> Iterator[str]:
    """A server for ``answer(method, path with query, body)``; its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            status, content, headers = answer(self.command, self.path, body)
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_OPTIONS = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@dataclass(slots=True)
class Issuer:
    """An OIDC issuer: code flow with PKCE (RFC 7636), refresh tokens that are used once, revocation."""

    mint: Callable[[], str] = field(default=lambda: "")
    lifetime_s: int = 3600
    refuses_refresh: bool = False
    url: str = ""
    said: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    refreshing: set[str] = field(default_factory=set)

    def answer(self, method: str, path: str, body: str) -> Answer:
        split = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(split.query or body).items()}
        route = split.path.rpartition("/")[2]
        if route == "openid-configuration":
            self.said.append("discovered")
            names = ("authorization", "token", "revocation")
            found = {"issuer": self.url, **{f"{name}_endpoint": f"{self.url}/{name}" for name in names}}
            return self._json(200, found)
        if route == "authorization":
            return self._authorize(query)
        if route == "token":
            return self._token(query)
        if route == "revocation":
            self.refreshing.discard(query["token"])
            self.said.append("revoked")
            return self._json(200, {})
        return self._json(404, {})

    def _authorize(self, query: dict[str, str]) -> Answer:
        wanted = {"response_type": "code", "code_challenge_method": "S256", "client_id": "page"}
        if any(query.get(name) != value for name, value in wanted.items()) or "openid" not in query["scope"]:
            return self._json(400, {"error": "invalid_request"})
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        self.said.append("authorized")
        back = urlencode({"code": code, "state": query["state"], "iss": self.url})
        return 302, b"", {"location": f"{query['redirect_uri']}?{back}"}

    def _token(self, query: dict[str, str]) -> Answer:
        if query["grant_type"] == "authorization_code":
            asked = self.codes.pop(query["code"], None)
            digest = hashlib.sha256(query["code_verifier"].encode()).digest()
            proof = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            if asked is None or proof != asked["code_challenge"] or query["redirect_uri"] != asked["redirect_uri"]:
                return self._json(400, {"error": "invalid_grant"})
            self.said.append("signed in")
        else:
            if self.refuses_refresh or query["refresh_token"] not in self.refreshing:
                return self._json(400, {"error": "invalid_grant"})
            self.refreshing.remove(query["refresh_token"])
            self.said.append("refreshed")
        refresh = secrets.token_urlsafe(16)
        self.refreshing.add(refresh)
        given = {"access_token": self.mint(), "refresh_token": refresh, "expires_in": self.lifetime_s}
        return self._json(200, {**given, "token_type": "Bearer"})

    @staticmethod
    def _json(status: int, value: object) -> Answer:
        headers = {"content-type": "application/json", "access-control-allow-origin": "*"}
        return status, json.dumps(value).encode(), headers


@dataclass(slots=True)
class Elsewhere:
    """The page as static files beside its ``config.json``; ``config`` and ``origins`` are set once they are known."""

    url: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    origins: Origins = field(default_factory=Origins)

    def answer(self, method: str, path: str, body: str) -> Answer:
        found = page(WEB, urlsplit(path).path, self.origins, self.config)
        if found is None:
            return 404, b"", {}
        return 200, found.content, {"content-type": found.content_type, **found.headers}
