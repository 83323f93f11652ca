"""Runs a format reader over a fuzzer's input, and holds it to what every reader promises."""

from __future__ import annotations

from typing import TypeVar

from heavylift.errors import ContentError
from heavylift.ranges import Reader

T = TypeVar("T")


def read(reader: Reader[T], data: bytes, *, reads_max: int = 20_000, bytes_max: int = 64 << 20) -> T | None:
    """The reader's result, None for its verdict. AssertionError: a read of nothing or of no end, too many, too much.

    A range that the input does not hold is the end of an honest reader too: whoever drives it says ``truncated``.
    """
    reads = total = 0
    try:
        want = next(reader)
        while True:
            reads, total = reads + 1, total + want.length
            assert want.offset >= 0, want
            assert want.length > 0, want
            assert reads <= reads_max, f"{reads} reads of {len(data)} bytes"
            assert total <= bytes_max, f"{total} bytes read of {len(data)}"
            answer = data[want.offset : want.offset + want.length]
            if len(answer) < want.length:
                reader.close()
                return None
            want = reader.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result
    except ContentError:
        return None
