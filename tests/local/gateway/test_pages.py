"""The web folder is served, and nothing beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift_local.gateway.pages import page


@pytest.fixture
def web(tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    (folder / "lib").mkdir(parents=True)
    (folder / "index.html").write_text("<p>hi")
    (folder / "lib" / "a.mjs").write_text("export {}")
    (folder / "lib" / "s.css").write_text("a{}")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


@pytest.mark.parametrize(
    ("path", "content", "kind"),
    [
        ("/", b"<p>hi", "text/html; charset=utf-8"),
        ("/web/index.html", b"<p>hi", "text/html; charset=utf-8"),
        ("/index.html", b"<p>hi", "text/html; charset=utf-8"),
        ("/lib/a.mjs", b"export {}", "text/javascript; charset=utf-8"),
        ("/web/lib/a.mjs", b"export {}", "text/javascript; charset=utf-8"),
        ("/web/lib/s.css", b"a{}", "text/css; charset=utf-8"),
    ],
)
def test_files_have_their_types(web: Path, path: str, content: bytes, kind: str) -> None:
    """Modules must come as JavaScript, or browsers refuse them."""
    found = page(web, path)

    assert found is not None
    assert (found.content, found.content_type) == (content, kind)


@pytest.mark.parametrize(
    "path",
    [
        "/web/../secret.txt",
        "/web/%2e%2e/secret.txt",
        "/web/..%2fsecret.txt",
        "/web//etc/passwd",
        "/web/%2fetc/passwd",
        "/web/lib/..%5c..%5csecret.txt",
        "/web/link.txt",
        "/web/lib",
        "/headers.json",
        "/web/headers.json",
        "/_local/token",
        "/web/a%00b",
        "/webx/index.html",
        "/v1/files",
    ],
)
def test_nothing_outside_is_served(web: Path, path: str) -> None:
    """Dots, encodings, absolute names, links and folders."""
    assert page(web, path) is None


def test_without_a_page_the_root_still_answers(tmp_path: Path) -> None:
    """The API is of use before its page exists."""
    found = page(tmp_path, "/")

    assert found is not None
    assert b"API is up" in found.content
