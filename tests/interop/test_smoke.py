"""The smoke test's way: the demo against a system that somebody else started, by its address and a token alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift_local import demo
from heavylift_local.testing import RunningStack


def test_the_demo_goes_through_an_api(stack: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of one's own ends as it should; a token that is not good ends with another status."""
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    arguments = ["--api", stack.api, "--out", str(tmp_path / "out"), str(tmp_path / "a.csv")]
    monkeypatch.setenv("HEAVYLIFT_TOKEN", stack.token())

    assert demo.main(arguments) == 0
