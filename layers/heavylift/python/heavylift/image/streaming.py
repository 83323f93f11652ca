"""Which pictures are decoded in rows, and by whom. Child only."""

from __future__ import annotations

from heavylift.errors import ContentError
from heavylift.image import bmp, png
from heavylift.image.rows import RowLayout
from heavylift.image.sources import PictureSource
from heavylift.image.whole import Whole


def row_layout(format_name: str, head: bytes) -> RowLayout | None:
    """How the rows lie, by a file's first bytes; None where they cannot be had one by one. ContentError ``corrupt``."""
    try:
        if format_name == "PNG":
            return png.layout_of(png.read_form(head))
        if format_name == "BMP":
            return bmp.layout_of(bmp.read_form(head))
    except ContentError as error:
        if error.code != "unsupported_feature":
            raise
    return None


def decode_rows(source: PictureSource, format_name: str, head: bytes, edge: int, orientation: int) -> Whole:
    """The picture of a file that has a layout, fitted into a square of ``edge``."""
    if format_name == "PNG":
        return png.decode_png(source, head, edge, orientation)
    return bmp.decode_bmp(source, head, edge)
