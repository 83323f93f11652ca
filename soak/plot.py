"""Memory over time as an SVG. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final

from soak.memory import MIB, Series

WIDTH: Final = 960
ROW: Final = 64  # a small picture of its own for each process, so that 30 MB and 200 MB can both be read
LEFT: Final = 190
RIGHT: Final = 150
FONT: Final = 'font-family="sans-serif" font-size="12"'


def memory_plot(series: Mapping[str, Series], title: str) -> str:
    """One row a process: resident MB over time, its highest and last value beside it."""
    rows = sorted((name, one) for name, one in series.items() if len(one.at_s) > 1)
    end_s = max((one.at_s[-1] for _, one in rows), default=1.0)
    height = 44 + ROW * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="12" y="22" font-size="14">{escape(title)}</text>',
    ]
    for number, (name, one) in enumerate(rows):
        top = 36 + number * ROW
        highest = max(one.bytes)
        beside = f"{highest / MIB:.0f} MB, at the end {one.bytes[-1] / MIB:.0f}"
        points = " ".join(
            f"{LEFT + (WIDTH - LEFT - RIGHT) * at / end_s:.1f},{top + ROW - 14 - (ROW - 22) * size / highest:.1f}"
            for at, size in zip(one.at_s, one.bytes, strict=True)
        )
        parts += [
            f'<text x="12" y="{top + ROW / 2:.0f}" fill="#222">{escape(name)}</text>',
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top + ROW - 14}" y2="{top + ROW - 14}" stroke="#ccc"/>',
            f'<polyline points="{points}" fill="none" stroke="#2563a8" stroke-width="1.3"/>',
            f'<text x="{WIDTH - RIGHT + 8}" y="{top + ROW / 2:.0f}" fill="#444">{beside}</text>',
        ]
    parts.append(f'<text x="{LEFT}" y="{height - 2}" fill="#444">0 to {end_s / 60:.1f} minutes, each row from 0</text>')
    return "\n".join([*parts, "</svg>\n"])
