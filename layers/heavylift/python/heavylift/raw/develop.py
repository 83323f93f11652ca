"""The child that develops sensor data with LibRaw, or draws a placeholder, within a hard memory limit.

Run as ``python -I -S -B -c ...`` by ``heavylift.image.child``: the same pipe, the same limits as the decoder's. It
inherits one descriptor, a file without a name, and opens nothing else.
"""

from __future__ import annotations

import io
import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from heavylift.errors import ContentError, TransientError
from heavylift.image.channel import Channel, ParentGone
from heavylift.image.decision import Decision
from heavylift.image.facts import facts_of_header
from heavylift.image.headers import UNKNOWN
from heavylift.image.render import limit_resources, peak_bytes
from heavylift.tiff.bands import fit_within

if TYPE_CHECKING:
    from heavylift.image.finish import Encoded

ENTRY: Final = "heavylift.raw.develop"
# LibRaw's names for turns: 3 upside down, 5 a quarter to the left, 6 to the right; as Exif says it.
ORIENTATIONS: Final = {0: 1, 3: 3, 5: 8, 6: 6}
BACKGROUND: Final = (236, 238, 240)
ASPECT_TOLERANCE: Final = 0.05
FRAME: Final = (176, 182, 188)
INK: Final = (92, 98, 104)


def develop(descriptor: int, job: dict[str, Any]) -> tuple[list[Encoded], dict[str, Any]]:
    """Thumbnails from sensor data, and what LibRaw says of the file: width, height, orientation, method.

    ContentError where LibRaw does not read the file or finds it damaged.
    """
    import numpy as np
    import rawpy
    from PIL import Image

    from heavylift.image.finish import finish
    from heavylift.image.narrow import shrink_image

    options: dict[str, Any] = job["options"]
    edge = max(options["sizes"])
    try:
        with rawpy.imread(f"/proc/self/fd/{descriptor}") as raw:
            sizes = raw.sizes
            orientation = int(options["orientation"] or ORIENTATIONS.get(sizes.flip, 1))
            said: dict[str, Any] = {
                "width": int(sizes.width),
                "height": int(sizes.height),
                "orientation": orientation,
                "method": "raw_decode",
            }
            if job["thumb"]:
                made = _extracted(raw, options, said, edge)
                if made is not None:
                    return made, said | {"method": "embedded_preview"}
            half = max(sizes.width, sizes.height) >= 2 * edge
            pixels = raw.postprocess(half_size=half, use_camera_wb=True, output_bps=8, user_flip=0)
    except rawpy.LibRawError as error:
        raise _complaint(error) from error
    except ValueError as error:
        raise ContentError("corrupt", f"LibRaw: {error}") from error
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ContentError("unsupported_feature", f"LibRaw made pixels of shape {pixels.shape}")
    if not bool(np.any(pixels != pixels[0, 0])):
        raise ContentError("corrupt", "the sensor data hold one value only")
    image = Image.fromarray(pixels)
    del pixels
    full = (int(sizes.width), int(sizes.height))
    if abs(full[0] * image.height / (full[1] * image.width) - 1) > ASPECT_TOLERANCE:
        full = image.size  # oblong pixels made square
    out = fit_within(*full, edge)
    image = shrink_image(image, (min(out[0], image.width), min(out[1], image.height)))
    made = finish(
        image,
        full_size=full,
        orientation=orientation,
        icc_profile=None,
        sizes=tuple(options["sizes"]),
        quality=int(options["quality"]),
        pad_color=options["pad_color"],
    )
    return made, said


def _extracted(raw: Any, options: dict[str, Any], said: dict[str, Any], edge: int) -> list[Encoded] | None:
    """Thumbnails from the preview that LibRaw finds, where it is a JPEG large enough."""
    import rawpy

    from heavylift.image.finish import finish
    from heavylift.image.sources import LocalSource
    from heavylift.image.whole import decode_whole
    from heavylift.raw.ranking import ENOUGH

    def allowed(size: tuple[int, int], mode: str) -> None:
        if max(size) < ENOUGH * edge:
            raise ContentError("unsupported_feature", "the preview is small")

    try:
        thumb = raw.extract_thumb()
    except rawpy.LibRawError:
        return None
    if thumb.format != rawpy.ThumbFormat.JPEG:
        return None
    try:
        whole = decode_whole(LocalSource(io.BytesIO(thumb.data), len(thumb.data)), "JPEG", edge, allowed)
    except ContentError:
        return None
    return finish(
        whole.image,
        full_size=whole.full_size,
        orientation=said["orientation"],
        icc_profile=whole.icc_profile,
        sizes=tuple(options["sizes"]),
        quality=int(options["quality"]),
        pad_color=options["pad_color"],
    )


def _complaint(error: Exception) -> ContentError:
    text = error.args[0] if error.args else type(error).__name__
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    lowered = text.lower()
    if "unsupported" in lowered or "not supported" in lowered:
        return ContentError("unsupported_feature", f"LibRaw: {text}")
    if "too big" in lowered or "memory" in lowered:
        return ContentError("too_large_to_decode", f"LibRaw: {text}")
    return ContentError("corrupt", f"LibRaw: {text}")


def draw_placeholder(job: dict[str, Any]) -> list[Encoded]:
    """A plain card of the picture's shape that names the format and says that there is no preview."""
    from PIL import Image, ImageDraw, ImageFont

    from heavylift.image.finish import finish

    options: dict[str, Any] = job["options"]
    edge = max(options["sizes"])
    width, height = job["width"], job["height"]
    if not (width and height) or not 0.5 <= width / height <= 2:
        width, height = 4, 3
    scale = edge / max(width, height)
    card = Image.new("RGB", (max(1, round(width * scale)), max(1, round(height * scale))), BACKGROUND)
    pen = ImageDraw.Draw(card)
    short = min(card.size)
    margin, line = short // 24, max(1, short // 200)
    pen.rectangle((margin, margin, card.width - 1 - margin, card.height - 1 - margin), outline=FRAME, width=line)
    middle = (card.width / 2, card.height / 2)
    for text, size, lift in ((job["title"], short // 6, -0.6), (job["text"], short // 16, 1.2)):
        font = ImageFont.load_default(size=max(8, size))
        while font.getlength(text) > card.width - 4 * margin and size > 8:
            size = size * 4 // 5
            font = ImageFont.load_default(size=max(8, size))
        pen.text((middle[0], middle[1] + lift * short / 10), text, fill=INK, font=font, anchor="mm")
    return finish(
        card,
        full_size=card.size,
        orientation=1,
        icc_profile=None,
        sizes=tuple(options["sizes"]),
        quality=int(options["quality"]),
        pad_color=options["pad_color"],
    )


def main() -> None:
    """Serve one job on file descriptors 0 and 1, then end."""
    started = time.monotonic()
    channel = Channel(os.dup(0), os.dup(1))
    os.dup2(2, 1)  # whatever a library prints must not reach the pipe
    try:
        job = channel.read_job()
        limit_resources(int(job["options"]["budget_bytes"]), int(job["cpu_seconds"]), int(job["parent"]))
        try:
            if job["do"] == "develop":
                made, said = develop(int(job["descriptor"]), job)
            else:
                made, said = draw_placeholder(job), {"method": "placeholder", "width": 0, "height": 0, "orientation": 1}
        except (ContentError, TransientError) as error:
            _send_error(channel, type(error).__name__, error.code, error.message, error.facts)
            return
        except MemoryError:
            _send_error(channel, "TransientError", "out_of_memory", "the decoder ran into its memory limit", {})
            return
        facts = asdict(facts_of_header("RAW", UNKNOWN, 0))
        facts |= {name: said[name] for name in ("width", "height", "orientation")}
        channel.send_json(b"F", {"facts": facts, "decision": asdict(Decision(said["method"], "", 0))})
        for thumbnail in made:
            head = {"size": thumbnail.size, "width": thumbnail.width, "height": thumbnail.height}
            channel.send_thumbnail(head, thumbnail.jpeg)
        milliseconds = int((time.monotonic() - started) * 1000)
        channel.send_json(b"Z", {"memory_peak_bytes": peak_bytes(), "ms": milliseconds})
    except (ParentGone, BrokenPipeError):
        pass
    # LibRaw's and numpy's tear-down takes longer than the kernel's.
    sys.stderr.flush()
    os._exit(0)


def _send_error(channel: Channel, kind: str, code: str, message: str, facts: dict[str, Any]) -> None:
    body = {"type": kind, "code": code, "message": message, "facts": facts, "memory_peak_bytes": peak_bytes()}
    channel.send_json(b"X", body)
