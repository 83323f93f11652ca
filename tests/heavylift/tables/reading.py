"""Runs over bytes in memory, cut and interrupted as a test likes; and a slow, plain reading of CSV to compare with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from heavylift.tables.encodings import bom_of
from heavylift.tables.local import unpacked_head
from heavylift.tables.names import announced_by_name
from heavylift.tables.pieces import Piece, walk
from heavylift.tables.planning import compression_of, plan_for
from heavylift.tables.rules import parse_rules
from heavylift.tables.run import Run, resumed
from heavylift.tables.unpacking import Unpackable, unpack


def started(data: bytes, name: str, rules: Any = None) -> Run:
    parsed = parse_rules(rules)
    compression = compression_of(data)
    head, more = data[:65_536], len(data) > 65_536
    if compression:
        head, more = unpacked_head(compression, iter([data]), len(data))
    plan = plan_for(head, more, name, announced_by_name(name)[0], parsed, compression)
    return Run(plan, parsed, len(data))


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size)) if size else iter([data])


def report_of(data: bytes, name: str = "x.csv", rules: Any = None, block: int = 0) -> dict[str, Any]:
    """The report of ``data`` fed in blocks of ``block`` bytes (0: at once)."""
    run = started(data, name, rules)
    try:
        for piece in unpack(run.plan.compression, iter(list(pieces(data, block))), len(data)):
            run.feed(piece)
    except Unpackable as error:
        run.fail(error.code, error.message)
    else:
        run.end()
    return run.report({"name": name, "size": len(data)}) | {"all": run.error_lines().decode()}


def report_in_slices(data: bytes, name: str, rules: Any, cuts: Sequence[int], block: int) -> dict[str, Any]:
    """As report_of for data that is not compressed; at every cut the run is thrown away and made anew from JSON."""
    run = started(data, name, rules)
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        for piece in pieces(data[at:cut], block):
            run.feed(piece)
            if run.done:
                break
        if cut < len(data) and run.resumable:
            kept = json.loads(json.dumps(run.checkpoint()))
            run = resumed(parse_rules(rules), kept)
            at = run.offset
            assert at <= cut or bom_of(data, run.plan.encoding)
        else:
            at = max(at, cut) if run.resumable else cut
    run.end()
    return run.report({"name": name, "size": len(data)}) | {"all": run.error_lines().decode()}


def found_in_pieces(data: bytes, run: Run, rules: Any, piece_bytes: int, block: int, workers: int) -> dict[int, Any]:
    """What readers of every piece but the first lay down, ``workers`` of them at once; each as JSON."""
    seed = run.seed()
    if seed is None:
        return {}
    seed = json.loads(json.dumps(seed))

    def read(number: int) -> Any:
        start = number * piece_bytes
        piece = Piece(seed, parse_rules(rules), start)
        for part in pieces(data[start - 1 : start + piece_bytes], block):
            piece.feed(part)
        return json.loads(json.dumps(piece.found()))

    numbers = range(1, -(-len(data) // piece_bytes))
    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(numbers, pool.map(read, numbers), strict=True))


def report_in_pieces(
    data: bytes,
    name: str,
    rules: Any,
    piece_bytes: int,
    *,
    block: int = 0,
    workers: int = 1,
    lost: Callable[[int], bool] = lambda number: False,
    killed: Callable[[int], bool] = lambda number: False,
) -> dict[str, Any]:
    """As report_of: read in pieces, of which some findings are ``lost``, by a run that may be ``killed`` before any
    piece and made anew from its checkpoint."""
    run = started(data, name, rules)
    first = min(len(data), piece_bytes)
    for part in pieces(data[:first], block):
        run.feed(part)
    there = found_in_pieces(data, run, rules, piece_bytes, block, workers)
    kills = {number for number in there if killed(number)}
    at = first

    def feed(start: int, end: int) -> None:
        for part in pieces(data[start:end], block):
            run.feed(part)

    def load(number: int) -> Any:
        if number in kills:
            kills.discard(number)
            raise InterruptedError
        return [] if lost(number) else there.get(number, [])

    while True:
        try:
            walk(run, at, len(data), piece_bytes, feed, load)
            break
        except InterruptedError:
            run = resumed(parse_rules(rules), json.loads(json.dumps(run.checkpoint())))
            at = run.offset if run.offset or not bom_of(data, run.plan.encoding) else 0
    run.end()
    return run.report({"name": name, "size": len(data)}) | {"all": run.error_lines().decode()}


def slow_csv(data: bytes, width: int, delimiter: int = ord(",")) -> list[tuple[int, list[str]]]:
    """(offset of the row, codes of what is wrong with it) of each row: a machine that reads byte by byte.

    For UTF-8 with LF or CRLF; quotes doubled. States as RFC 4180's grammar has them; a row with an unterminated quote
    ends with the line on which the quote opened.
    """
    rows: list[tuple[int, list[str]]] = []
    start = 0
    while start < len(data):
        state, codes, cells, opened = "FIELD", [], 1, -1
        cell_faults: set[str] = set()
        at = start
        end = None
        while at < len(data):
            byte = data[at]
            if state == "QUOTED":
                if byte == 0x22:
                    state = "SEEN"
            elif state == "SEEN" and byte == 0x22:
                state = "QUOTED"
            elif byte == delimiter:
                state, cells, cell_faults = "FIELD", cells + 1, set()
            elif byte == 0x0A:
                end = at
                break
            elif byte == 0x0D and at + 1 < len(data) and data[at + 1] == 0x0A:
                pass
            elif state == "SEEN":
                codes.append("text-after-quote")
                cell_faults.add("text-after-quote")
                if byte == 0x0D:
                    codes.append("stray-newline")
                    cell_faults.add("stray-newline")
                state = "BARE"
            elif state == "FIELD" and byte == 0x22:
                state, opened = "QUOTED", at
            else:
                if byte == 0x22 and not cell_faults & {"stray-quote", "text-after-quote"}:
                    codes.append("stray-quote")
                    cell_faults.add("stray-quote")
                if byte == 0x0D and "stray-newline" not in cell_faults:
                    codes.append("stray-newline")
                    cell_faults.add("stray-newline")
                state = "BARE"
            at += 1
        unterminated = end is None and state == "QUOTED"
        if unterminated:
            stop = data.find(b"\n", opened)
            end = len(data) if stop < 0 else stop
            codes.append("unterminated-quote")
        elif end is None:
            end = len(data)
        content = data[start:end]
        if not unterminated:
            if (not content or data[start : end + 1] == b"\r\n") and width != 1:
                codes = ["blank-row"]
            else:
                whole = data[start : min(len(data), end + 1)]
                bare = content[:-1] if whole.endswith(b"\r\n") else content
                try:
                    bare.decode()
                except UnicodeDecodeError:
                    codes.append("encoding-error")
                if b"\0" in bare:
                    codes.append("nul-byte")
                if cells < width:
                    codes.append("missing-cell")
                if cells > width:
                    codes.append("extra-cell")
        rows.append((start, sorted(set(codes))))
        start = end + 1
    if rows and rows[-1][1] == ["blank-row"]:
        rows.pop()
    return rows
