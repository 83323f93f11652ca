"""Static files of the page: everything in the repository's web folder, at ``/`` and at ``/web/``, and nothing else.

Their headers are those of ``headers.json`` in that folder, which the deployment reads, too. ``/config.json`` says
where the API is and how to sign in; here it is made for the local stack. No network here.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
}
_PLAIN = "<!doctype html><meta charset=utf-8><title>heavylift</title><p>The API is up. There is no page yet."
_RESERVED = frozenset({"v1", "s3", "_local"})
HEADERS_FILE = "headers.json"
LOCAL_CONFIG: Mapping[str, Any] = {
    "version": 1,
    "api": "",
    "sign_in": {"kind": "development", "token_url": "/_local/token"},
    "local_state_url": "/_local/state",
}


@dataclass(frozen=True, slots=True)
class Origins:
    """Whom the page may talk to beside its own origin; as a rule nobody but the buckets."""

    buckets: tuple[str, ...] = ()
    api: tuple[str, ...] = ()
    issuer: tuple[str, ...] = ()

    def fill(self, sources: Iterable[str]) -> list[str]:
        """A directive's sources with the placeholders replaced."""
        known = {"{buckets}": self.buckets, "{api}": self.api, "{issuer}": self.issuer}
        return [one for source in sources for one in known.get(source, (source,))]


@dataclass(frozen=True, slots=True)
class StaticFile:
    content: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


def origin_of(url: str) -> str:
    """scheme://host:port of a URL."""
    split = urlsplit(url)
    return f"{split.scheme}://{split.netloc}"


def policy(document: Mapping[str, Any], name: str, origins: Origins) -> str:
    """The Content-Security-Policy of the file with this name. Only the hash worker's own script may compile wasm."""
    directives = {key: origins.fill(sources) for key, sources in document["content_security_policy"].items()}
    if name in document["wasm"]["paths"]:
        directives["script-src"] = list(document["wasm"]["script-src"])
    return "; ".join(" ".join((key, *sources)) for key, sources in directives.items())


def headers(document: Mapping[str, Any], name: str, origins: Origins) -> dict[str, str]:
    """All headers of a file but its type and how long it may be kept."""
    return {**document["headers"], "content-security-policy": policy(document, name, origins)}


def page(
    web: Path, path: str, origins: Origins | None = None, config: Mapping[str, Any] = LOCAL_CONFIG
) -> StaticFile | None:
    """The file that an encoded path names, or None. Never leaves ``web``."""
    name = _name(path)
    if name is None:
        return None
    if name == "config.json":
        return _with_headers(web, name, json.dumps(config).encode(), _TYPES[".json"], origins)
    root = web.resolve()
    file = (root / name).resolve()
    if root not in file.parents or not file.is_file():
        return StaticFile(_PLAIN.encode(), _TYPES[".html"]) if path == "/" else None
    kind = _TYPES.get(file.suffix.lower()) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return _with_headers(web, name, file.read_bytes(), kind, origins)


def _name(path: str) -> str | None:
    """The file's name in the folder; None for what belongs to somebody else, or to nobody."""
    name = unquote(path.removeprefix("/"))
    if "\0" in name or "\\" in name or name.partition("/")[0] in _RESERVED:
        return None
    name = name.removeprefix("web/")
    if name.startswith("/") or name == HEADERS_FILE:
        return None
    return name or "index.html"


def _with_headers(web: Path, name: str, content: bytes, kind: str, origins: Origins | None) -> StaticFile:
    file = web / HEADERS_FILE
    if not file.is_file():
        return StaticFile(content, kind)
    return StaticFile(content, kind, headers(json.loads(file.read_bytes()), name, origins or Origins()))
