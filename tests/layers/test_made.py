"""What is said of built layers, for whoever deploys them."""

from __future__ import annotations

from pathlib import Path

import pytest

from layers import build
from layers.made import LIST, is_for_other
from layers.wheels import Target


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build for arm64 of one layer, which is empty."""
    monkeypatch.setattr(build, "packages_of", lambda wanted, *given: {"base": {}})
    build.build(Target((3, 13), "aarch64"), tmp_path / "layers")
    return tmp_path / "layers"


def test_layers_for_another_machine_are_told(built: Path) -> None:
    """By the list beside them; a stub and our own package are for any."""
    assert (built / LIST).is_file()
    assert is_for_other(built / "base", "x86_64")
    assert not is_for_other(built / "base", "arm64")
    assert not is_for_other(built / "other", "x86_64")
    assert not is_for_other(built.parent / "stubs" / "base", "x86_64")
