"""The table of types names every RAW format that the sniffer tells, with DESIGN's limits of size."""

from __future__ import annotations

import pytest

from heavylift.limits import GIB, rule_for_format, rule_for_media_type
from heavylift.sniff import MEDIA_TYPES

RAW = sorted(name for name, (kind, _) in MEDIA_TYPES.items() if kind == "raw")


@pytest.mark.parametrize("name", RAW)
def test_every_raw_format_has_a_limit(name: str) -> None:
    """80 GiB for DNG, 4 GiB for every other; the media type leads to the same rule."""
    rule = rule_for_format(name)
    assert rule is not None
    assert rule.size_max == (80 if name == "DNG" else 4) * GIB
    assert rule_for_media_type(MEDIA_TYPES[name][1]) == rule
