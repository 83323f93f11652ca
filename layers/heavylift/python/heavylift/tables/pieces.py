"""A large file in pieces, read by many at once, and one report as if it had been read in one go. No I/O here.

Who reads a piece does not know in which record the piece's first byte lies. In JSON lines and text a record begins
behind every LF. In CSV it does so behind the line breaks with an even number of quotes since the piece's beginning if
that lies outside quotes, and behind those with an odd number if it lies inside: the piece is read from both places, as
two candidates.

The run that goes from the file's beginning to its end takes up a candidate only where it has itself come to that very
byte as the beginning of a record; else it reads the piece like any other bytes. So nothing is ever guessed, and
findings that are late, lost or of no use cost time and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from heavylift.tables.bounds import RECORD_BYTES
from heavylift.tables.rules import Rules
from heavylift.tables.run import Run, begun_at

Found = Mapping[str, Any]  # {"start": offset, "tally": …, "pass": …}, plain JSON
_OF_QUOTES: Final = ("stray-quote", "text-after-quote", "unterminated-quote", "record-too-long")
_TRIED: Final = 100  # faults by which a candidate may be worse than the other before it is given up
NEAR_BYTES: Final = 1 << 20  # what is read to a border in one request with the bytes behind it


class Piece:
    """Reads the piece that begins at ``start`` (> 0): ``feed`` its bytes from ``start - 1`` on, ask ``found`` at any
    time. Memory: two runs."""

    def __init__(self, seed: Mapping[str, Any], rules: Rules, start: int) -> None:
        self._seed, self._rules, self._start = seed, rules, start
        dialect = seed["plan"]["dialect"]
        self._newline: bytes = dialect["newline"].encode() if dialect else b"\n"
        self._quote: bytes = dialect["quote"].encode() if dialect else b""
        self._at = start - 1  # of the next bytes
        self._wanted = {0, 1} if self._quote else {0}  # parities of quotes of which no line break was seen
        self._parity = 0
        self._runs: dict[int, tuple[int, Run]] = {}

    @property
    def hopeless(self) -> bool:
        """No record begins here that is worth reading."""
        return not self._runs and not self._wanted

    def feed(self, data: bytes) -> None:
        for _, run in self._runs.values():
            run.feed(data)
        if self._wanted:
            self._look(data)
        self._at += len(data)
        self._choose()

    def found(self) -> list[Found]:
        """A candidate's findings each, by the places at which they begin."""
        answers: list[Found] = []
        for start, run in sorted(self._runs.values(), key=lambda one: one[0]):
            run.settle()
            if run.offset > start:
                answers.append({"start": start, **run.findings()})
        return answers

    def _look(self, data: bytes) -> None:
        """Find the places at which a record may begin."""
        at = 0
        if self._at < self._start:
            at = 1
            if data.startswith(self._newline):
                self._begin(0, data, at)
        while self._wanted and (end := data.find(self._newline, at)) >= 0:
            if self._quote:
                self._parity ^= data.count(self._quote, at, end) & 1
            at = end + 1
            if self._parity in self._wanted:
                self._begin(self._parity, data, at)
        if self._quote:
            self._parity ^= data.count(self._quote, at) & 1
        if self._at + len(data) - self._start > RECORD_BYTES:
            self._wanted.clear()

    def _begin(self, parity: int, data: bytes, at: int) -> None:
        self._wanted.discard(parity)
        start = self._at + at
        run = begun_at(self._seed, self._rules, start)
        run.feed(data[at:])
        self._runs[parity] = (start, run)

    def _choose(self) -> None:
        """Give up a candidate whose quotes do not fit while the other's do: it costs time and is hardly the file."""
        if len(self._runs) < 2:
            return
        worse = {parity: _misfits(run) for parity, (_, run) in self._runs.items()}
        for parity, other in ((0, 1), (1, 0)):
            if worse[parity] > 2 * worse[other] + (_TRIED if worse[other] else 0):
                del self._runs[parity]
                return


def _misfits(run: Run) -> int:
    return sum(run.counts.get(code, 0) for code in _OF_QUOTES)


def walk(
    run: Run,
    at: int,
    size: int,
    piece_bytes: int,
    feed: Callable[[int, int], None],
    load: Callable[[int], Sequence[Found]],
) -> None:
    """Take ``run``, which was fed all bytes before ``at``, to the end of the file.

    ``feed(start, end)`` feeds it those bytes; ``load(number)`` answers what was found in the piece that begins at
    ``number * piece_bytes``, as far as it is there yet.
    """
    number = max(1, at // piece_bytes)
    while number * piece_bytes < size and not run.done:
        border = number * piece_bytes
        if border - at > NEAR_BYTES:
            feed(at, border)
            at = border
        for one in load(number):
            if one["start"] < at or run.done:
                continue
            feed(at, one["start"])
            at = one["start"]
            run.settle()
            if run.absorb(at, one):
                at = run.offset
                break
        number += 1
    if not run.done:
        feed(at, size)
