"""TIFFs of any layout, written field by field: what libraries do not write, and fields that contradict each other."""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tifffile
from PIL import Image

Array = np.ndarray[Any, Any]

COMPRESSIONS = {
    "none": 1,
    "lzw": 5,
    "deflate": 8,
    "old deflate": 32946,
    "packbits": 32773,
    "lzma": 34925,
    "zstd": 50000,
}
_BY_PILLOW = {"lzw": "tiff_lzw", "packbits": "packbits", "zstd": "zstd"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """``tile``: (width, height), else strips of ``rows`` rows. ``extra``: further fields, tag to (type, values)."""

    photometric: int
    bits: int = 8
    sample_format: int = 1
    compression: str = "none"
    predictor: int = 1
    order: str = "<"
    big: bool = False
    planar: int = 1
    rows: int = 16
    tile: tuple[int, int] | None = None
    fill_order: int = 1
    extra: tuple[tuple[int, int, tuple[Any, ...]], ...] = ()


def packed(values: Array, layout: Layout) -> Array:
    """Rows of samples (rows, n) as rows of bytes."""
    if layout.bits in (8, 16, 32, 64):
        kind = "f" if layout.sample_format == 3 else "i" if layout.sample_format == 2 else "u"
        stored = np.ascontiguousarray(values.astype(f"{layout.order}{kind}{layout.bits // 8}"))
        return stored.view(np.uint8).reshape(len(values), -1)
    shifts = np.arange(layout.bits - 1, -1, -1)
    bits = (values.astype(np.uint32)[:, :, None] >> shifts) & 1
    return np.packbits(bits.astype(np.uint8).reshape(len(values), -1), axis=1)


def differences(values: Array, layout: Layout) -> Array:
    """A chunk's samples (rows, width, samples) as stored rows of bytes, the predictor applied."""
    flat = values.reshape(len(values), -1)
    if layout.predictor == 1:
        return packed(flat, layout)
    size = layout.bits // 8
    if layout.predictor == 2:
        words = values.astype(f"<{'f' if layout.sample_format == 3 else 'i'}{size}").view(f"<u{size}")
        first = np.concatenate([words[:, :1], words[:, 1:] - words[:, :-1]], axis=1)
        return packed(first.reshape(len(values), -1), replace(layout, sample_format=1))
    planes = np.ascontiguousarray(flat.astype(f">f{size}")).view(np.uint8).reshape(len(values), -1, size)
    bytes_ = planes.transpose(0, 2, 1).reshape(len(values), -1)
    step = values.shape[2]
    return np.concatenate([bytes_[:, :step], bytes_[:, step:] - bytes_[:, :-step]], axis=1)


def encoded(rows: Array, layout: Layout) -> bytes:
    raw = np.ascontiguousarray(rows)
    name = layout.compression
    if name in _BY_PILLOW:
        out = io.BytesIO()
        Image.fromarray(raw).save(out, "TIFF", compression=_BY_PILLOW[name], tiffinfo={278: len(raw)})
        with tifffile.TiffFile(io.BytesIO(out.getvalue())) as file:
            (offset,), (count,) = file.pages[0].dataoffsets, file.pages[0].databytecounts
        data = out.getvalue()[offset : offset + count]
    elif name == "lzma":
        data = lzma.compress(raw.tobytes(), preset=0)
    else:
        data = raw.tobytes() if name == "none" else zlib.compress(raw.tobytes())
    if layout.fill_order == 2:
        return np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()
    return data


def chunks_of(values: Array, layout: Layout) -> list[bytes]:
    height, width, samples = values.shape
    planes = [values[:, :, n : n + 1] for n in range(samples)] if layout.planar == 2 else [values]
    made = []
    for plane in planes:
        across, down = layout.tile or (width, layout.rows)
        for y in range(0, height, down):
            for x in range(0, width, across):
                part = plane[y : y + down, x : x + across]
                if layout.tile:
                    short = (down - part.shape[0], across - part.shape[1])
                    part = np.pad(part, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")
                made.append(encoded(differences(part, layout), layout))
    return made


def write(values: Array, layout: Layout, chunks: list[bytes] | None = None, compression: int | None = None) -> bytes:
    """``values`` of shape (height, width, samples) as a TIFF; ``chunks`` where they are coded already."""
    height, width, samples = values.shape
    chunks = chunks_of(values, layout) if chunks is None else chunks
    offset_tag, count_tag = (324, 325) if layout.tile else (273, 279)
    at, offsets = 16, []
    for chunk in chunks:
        offsets.append(at)
        at += len(chunk)
    wide = 16 if layout.big else 4
    fields: dict[int, tuple[int, tuple[Any, ...]]] = {
        256: (4, (width,)),
        257: (4, (height,)),
        258: (3, (layout.bits,) * samples),
        259: (3, (compression or COMPRESSIONS[layout.compression],)),
        262: (3, (layout.photometric,)),
        266: (3, (layout.fill_order,)),
        277: (3, (samples,)),
        284: (3, (layout.planar,)),
        317: (3, (layout.predictor,)),
        339: (3, (layout.sample_format,) * samples),
        offset_tag: (wide, tuple(offsets)),
        count_tag: (wide, tuple(len(chunk) for chunk in chunks)),
    }
    if layout.tile:
        fields |= {322: (4, (layout.tile[0],)), 323: (4, (layout.tile[1],))}
    else:
        fields[278] = (4, (layout.rows,))
    fields |= {tag: (kind, given) for tag, kind, given in layout.extra}
    return _file(fields, b"".join(chunks), layout)


def _file(fields: dict[int, tuple[int, tuple[Any, ...]]], body: bytes, layout: Layout) -> bytes:
    order, big = layout.order, layout.big
    body += bytes(-len(body) % 2)
    room, entry, count = (8, "HHQ", "Q") if big else (4, "HHI", "H")
    at = 16 + len(body)
    behind_at = at + struct.calcsize(order + count) + len(fields) * (struct.calcsize(order + entry) + room) + room
    directory, behind = struct.pack(order + count, len(fields)), b""
    codes = {1: "B", 3: "H", 4: "I", 7: "B", 11: "f", 12: "d", 16: "Q"}
    for tag, (kind, given) in sorted(fields.items()):
        value = struct.pack(f"{order}{len(given)}{codes[kind]}", *given)
        directory += struct.pack(order + entry, tag, kind, len(given))
        if len(value) <= room:
            directory += value.ljust(room, b"\0")
        else:
            directory += struct.pack(order + ("Q" if big else "I"), behind_at + len(behind))
            behind += value + bytes(len(value) % 2)
    mark = b"II" if order == "<" else b"MM"
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, at) if big else struct.pack(order + "HI", 42, at))
    return head.ljust(16, b"\0") + body + directory + bytes(room) + behind
