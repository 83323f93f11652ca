"""Every decoder's complaint becomes the file's fault, in our words. Pillow is not imported here."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from heavylift.errors import ContentError

# What Pillow's plugins raise over garbage, measured over malformed files. MemoryError is not among them: the
# parent decides what it means.
COMPLAINTS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    ZeroDivisionError,
    OverflowError,
    RuntimeError,  # RecursionError and NotImplementedError among them
    struct.error,
    zlib.error,
)


@contextmanager
def decoding(what: str, *, unknown: str = "unsupported_feature") -> Iterator[None]:
    """ContentError ``truncated``, ``unsupported_feature`` or ``corrupt`` for whatever a decoder raises inside.

    ``unknown``: the code where the decoder does not recognise its own format: a TIFF of samples that it does not
    take is unsupported, a JPEG that is not one is corrupt.
    """
    try:
        yield
    except ContentError:
        raise
    except BrokenPipeError:
        raise
    except COMPLAINTS as error:
        raise complaint(what, error, unknown) from error


def complaint(what: str, error: BaseException, unknown: str = "unsupported_feature") -> ContentError:
    """The ContentError for a decoder's exception."""
    name = type(error).__name__
    text = str(error).splitlines()[0][:200] if str(error) else name
    lowered = text.lower()
    if name == "UnidentifiedImageError":
        return ContentError(unknown, f"the decoder does not recognise this {what}")
    if "security limit" in lowered:  # libheif's own
        return ContentError("limit_exceeded", f"{what}: {text}")
    if "bomb" in name.lower():
        return ContentError("too_large_to_decode", f"{what}: {text}")
    if "truncated" in lowered or "not enough data" in lowered or isinstance(error, EOFError):
        return ContentError("truncated", f"{what} ends early: {text}")
    if isinstance(error, NotImplementedError) or "unsupported" in lowered or "not supported" in lowered:
        return ContentError("unsupported_feature", f"{what}: {text}")
    return ContentError("corrupt", f"{what} does not decode: {text}")
