"""Static files of the page: ``/`` and ``/web/...`` from the repository's web folder, nothing else."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from urllib.parse import unquote

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
}
_PLAIN = "<!doctype html><meta charset=utf-8><title>heavylift</title><p>The API is up. There is no page yet."


def page(web: Path, path: str) -> tuple[bytes, str] | None:
    """(bytes, content type) of the file that an encoded path names, or None. Never leaves ``web``."""
    if path in ("/", "/index.html"):
        index = web / "index.html"
        return (index.read_bytes() if index.is_file() else _PLAIN.encode()), _TYPES[".html"]
    if not path.startswith("/web/"):
        return None
    name = unquote(path.removeprefix("/web/"))
    if "\0" in name or "\\" in name:
        return None
    root = web.resolve()
    file = (root / name).resolve()
    if root not in file.parents or not file.is_file():
        return None
    kind = _TYPES.get(file.suffix.lower()) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return file.read_bytes(), kind
