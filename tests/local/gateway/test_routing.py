"""The most specific route wins, and a segment is a segment."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from heavylift_local.gateway.routing import Router


def router(*routes: tuple[str, str, str]) -> Router:
    return Router(
        SimpleNamespace(name=function, routes=(SimpleNamespace(method=method, path=path, scope="s"),))
        for function, method, path in routes
    )


ROUTES = router(
    ("greedy", "ANY", "/v1/files/{rest+}"),
    ("one", "GET", "/v1/files/{id}"),
    ("stats", "GET", "/v1/files/stats"),
    ("part", "GET", "/v1/uploads/{id}/parts/{n}"),
    ("root", "GET", "/v1"),
)


@pytest.mark.parametrize(
    ("method", "path", "function", "parameters"),
    [
        ("GET", "/v1/files/stats", "stats", {}),
        ("GET", "/v1/files/abc", "one", {"id": "abc"}),
        ("GET", "/v1/files/a%2Fb", "one", {"id": "a%2Fb"}),
        ("PUT", "/v1/files/abc", "greedy", {"rest": "abc"}),
        ("GET", "/v1/files/a/b/c", "greedy", {"rest": "a/b/c"}),
        ("GET", "/v1/uploads/u/parts/3", "part", {"id": "u", "n": "3"}),
        ("GET", "/v1", "root", {}),
    ],
)
def test_a_route_is_found(method: str, path: str, function: str, parameters: dict[str, str]) -> None:
    """Literal before parameter before greedy; an encoded slash separates nothing."""
    found = ROUTES.find(method, path)

    assert found is not None
    assert (found.function, dict(found.parameters)) == (function, parameters)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/uploads/u/parts/3"),
        ("GET", "/v1/uploads/u/parts"),
        ("GET", "/v1/uploads/u/parts/3/"),
        ("GET", "/v1/uploads//parts/3"),
        ("GET", "/v1/files/"),
        ("GET", "/v2"),
        ("GET", "/"),
        ("GET", ""),
    ],
)
def test_everything_else_is_not_found(method: str, path: str) -> None:
    """Another method, an empty segment, a trailing slash."""
    assert ROUTES.find(method, path) is None


def test_the_route_key_names_the_pattern() -> None:
    """What handlers dispatch on."""
    found = ROUTES.find("GET", "/v1/files/abc")

    assert found is not None
    assert found.route_key == "GET /v1/files/{id}"
