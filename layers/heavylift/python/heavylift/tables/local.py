"""A file on this machine, validated without any server: the same code as behind the API."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

from heavylift.ranges import drive
from heavylift.sniff import detect
from heavylift.tables.bounds import HEAD_BYTES
from heavylift.tables.names import announced_by_name
from heavylift.tables.planning import Plan, compression_of, plan_for
from heavylift.tables.rules import FORMATS, Rules, parse_rules
from heavylift.tables.run import Run
from heavylift.tables.unpacking import Unpackable, unpack

READ_BYTES: Final = 1 << 18  # a block of the pass: nothing is cut again
# What is called a table or text is read as such where its bytes are not known for certain to be something else.
_UNSURE: Final = frozenset({"Unknown", "SVG", "HTML", "Script"})
Progress = Callable[[int], object]


def validate_file(
    path: str | os.PathLike[str],
    rules: Any = None,
    *,
    progress: Progress | None = None,
    errors_to: str | os.PathLike[str] | None = None,
    read_bytes: int = READ_BYTES,
) -> dict[str, Any]:
    """The report of the file at ``path`` by ``rules`` (a JSON value; see docs/validation.md).

    ``progress`` is called with the number of bytes read each time. ``errors_to``: a file for all errors that were
    kept, one JSON line each. RulesError; OSError. Memory: below 64 MB whatever the file, but for single records of
    many megabytes.
    """
    parsed = parse_rules(rules)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        name = os.path.basename(os.fspath(path))
        run, blocks = opened(file, size, str(name), parsed, progress, read_bytes)
        through(run, blocks)
    if errors_to is not None:
        with open(errors_to, "wb") as out:
            out.write(run.error_lines())
    return run.report({"name": str(name), "size": size})


def opened(
    file: BinaryIO, size: int, name: str, rules: Rules, progress: Progress | None, read_bytes: int
) -> tuple[Run, Iterator[bytes]]:
    """A run over a file, and its unpacked blocks."""

    def blocks() -> Iterator[bytes]:
        file.seek(0)
        while block := file.read(read_bytes):
            if progress is not None:
                progress(len(block))
            yield block

    def fetch(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    head = fetch(0, HEAD_BYTES)
    compression = compression_of(head)
    announced, _ = announced_by_name(name)
    plan: Plan
    if compression is None:
        found = drive(detect(size, name), fetch)
        unsure = found.format in _UNSURE if announced is not None else False
        if found.format not in (*FORMATS, "Empty", "XML") and not unsure:
            words = f"The content is {found.format}, not a table, JSON or text."
            plan = Plan(announced or "Text", None, "utf-8", refused=("type-mismatch", words))
            return Run(plan, rules, size), blocks()
        plan = plan_for(head, size > len(head), name, announced, rules, None)
        return Run(plan, rules, size), unpack(None, blocks(), size)
    inside, more = unpacked_head(compression, iter([head]), size) if size <= len(head) else (None, True)
    if inside is None:
        file.seek(0)
        inside, more = unpacked_head(compression, iter(lambda: file.read(65_536), b""), size)
    found = drive(detect(len(inside), name), lambda offset, length: inside[offset : offset + length])
    if inside and found.format not in (*FORMATS, "XML", *_UNSURE):
        words = f"Inside the {compression} is {found.format}, not a table, JSON or text."
        plan = Plan(announced or "Text", compression, "utf-8", refused=("type-mismatch", words))
        return Run(plan, rules, size), unpack(compression, blocks(), size)
    plan = plan_for(inside, more, name, announced, rules, compression)
    return Run(plan, rules, size), unpack(compression, blocks(), size)


def unpacked_head(compression: str, blocks: Iterator[bytes], size: int) -> tuple[bytes, bool]:
    """The first HEAD_BYTES of what is inside, and whether it goes on."""
    head = bytearray()
    try:
        for piece in unpack(compression, blocks, size):
            head += piece
            if len(head) > HEAD_BYTES:
                break
    except Unpackable:
        pass  # told when the file is read
    return bytes(head[:HEAD_BYTES]), len(head) > HEAD_BYTES


def through(run: Run, blocks: Iterator[bytes]) -> None:
    """Feed a run to its end."""
    try:
        for block in blocks:
            run.feed(block)
            if run.done:
                break
    except Unpackable as error:
        run.fail(error.code, error.message)
        return
    run.end()
