"""The child: decodes one picture within a hard memory limit, asks its parent for bytes, answers with thumbnails.

Run as ``python -I -S -B -c ...`` by ``heavylift.image.child``. It has no credentials and opens no file and no
connection: all it reads comes through the pipe, all it makes goes back through it.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from heavylift.errors import ContentError, TransientError
from heavylift.image.channel import Channel, ParentGone
from heavylift.image.decision import Choice, Decision, decide
from heavylift.image.duration import check_seconds
from heavylift.image.estimate import chunked_decode_bytes, whole_decode_bytes
from heavylift.image.facts import TIFF_FORMATS, ImageFacts, TiffStructure, inspect, read_tiff
from heavylift.image.rows import rows_decode_bytes
from heavylift.ranges import ReadAhead, drive
from heavylift.sniff import Detection
from heavylift.tiff import tags
from heavylift.tiff.bands import Shrink, choose_shrink, fit_within
from heavylift.tiff.ifd import read_numbers
from heavylift.tiff.layout import (
    Chunks,
    Picture,
    by_pillow,
    check_decodable,
    choose_level,
    read_chunks,
    read_icc_profile,
)
from heavylift.tiff.pace import Paused, check_time

if TYPE_CHECKING:
    from heavylift.image.finish import Encoded

MIB: Final = 1 << 20
HEAD_BYTES: Final = 65_536
# The directories of a pyramid lie between its levels: one block of this size holds a directory and its values.
DIRECTORY_BLOCK_BYTES: Final = 8_192
# Address space that is mapped but not used: Pillow's libraries and the C library, measured 190 MiB, rounded up.
LIBRARIES_BYTES: Final = 512 * MIB
_PR_SET_PDEATHSIG: Final = 1


def peak_bytes() -> int:
    """The most memory this process has held: VmHWM of /proc/self/status; 0 where there is none."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def limit_resources(budget_bytes: int, cpu_seconds: int, parent: int) -> None:
    """Memory over the budget fails instead of growing; the kernel ends the child with its parent or its time."""
    resource.setrlimit(resource.RLIMIT_DATA, (budget_bytes, budget_bytes))
    space = budget_bytes + LIBRARIES_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before this line
            os._exit(0)


class Renderer:
    """One job: facts, decision, pixels, thumbnails."""

    def __init__(self, channel: Channel, job: dict[str, Any], started: float) -> None:
        self._channel = channel
        self._started = started
        # Long work stops after so many seconds with a checkpoint; None: it is done in one go.
        self._pause_s: float | None = job["pause_s"]
        self._checkpoint = bytearray(channel.read_header(b"K")) if job["checkpoint"] else None
        if self._checkpoint is not None:
            channel.read_exactly(memoryview(self._checkpoint))
        self._detection = Detection(**job["detection"])
        self._options: dict[str, Any] = job["options"]
        self._size = channel.size_bytes
        self._budget = int(self._options["budget_bytes"])
        self._edge = max(self._options["sizes"])
        self._seconds = float(job["seconds"])
        self.flaw: ContentError | None = None
        self._head = b""

    def run(self) -> None:
        if self._detection.format in TIFF_FORMATS:
            made = self._tiff()
        else:
            facts = drive(inspect(self._detection, self._size), self._fetch())
            made = self._rows(facts) or self._whole(facts, None)
        for thumbnail in made:
            head = {"size": thumbnail.size, "width": thumbnail.width, "height": thumbnail.height}
            self._channel.send_thumbnail(head, thumbnail.jpeg)

    def _fetch(self, block_bytes: int = HEAD_BYTES) -> ReadAhead:
        """Small reads, their blocks shared; the object's head is read once for all of them."""

        def fetch(offset: int, length: int) -> bytes:
            if offset == 0 and 0 < length <= len(self._head):
                return self._head[:length]
            data = self._channel.fetch(offset, length)
            if offset == 0 and length == min(HEAD_BYTES, self._size):
                self._head = data
            return data

        return ReadAhead(fetch, self._size, head_bytes=HEAD_BYTES, block_bytes=block_bytes, blocks_max=64)

    def _announce(self, facts: ImageFacts, decision: Decision) -> None:
        self._channel.send_json(b"F", {"facts": asdict(facts), "decision": asdict(decision)})

    def _choice(self, whole_bytes: int, chunked_bytes: int | None) -> Choice:
        options = self._options
        threshold = int(options["large_file_threshold_bytes"])
        if self._detection.format in TIFF_FORMATS:
            threshold = min(threshold, int(options["tiff_threshold_bytes"]))
        return Choice(self._size, whole_bytes, chunked_bytes, self._budget, threshold, options["tiff_chunking"])

    # --- TIFF

    def _tiff(self) -> list[Encoded]:
        fetch = self._fetch(DIRECTORY_BLOCK_BYTES)
        size = self._size
        structure: TiffStructure = drive(read_tiff(self._detection, size), fetch)
        main, self.flaw = structure.main, structure.flaw
        refused = _refusal(main)
        level = drive(choose_level(main, structure.directories, self._edge, size), fetch)
        if level is not main and _refusal(level) is not None:
            level = main
        # Only the arrays of the level that is decoded: those of a slide's largest level take megabytes.
        chunks: Chunks = drive(read_chunks(level, size), fetch)
        out = fit_within(level.width, level.height, self._edge)
        options = self._options
        shrink = choose_shrink(
            level, *out, chunk_edge=int(options["tiff_chunk_edge"]), band_bytes=int(options["band_bytes"])
        )
        chunked = None if refused else chunked_decode_bytes(level, shrink, out[0], chunks)
        facts = structure.facts
        decision = decide(self._choice(facts.estimated_memory_bytes, chunked))
        decision = self._in_bands_at_once(decision, level, main, chunked) or decision
        if decision.method == "chunked":
            self._check_time(level, shrink, chunks)
        if decision.method == "standard":
            if refused is not None and refused.facts.get("compression"):
                raise refused  # a coding that no decoder here knows
            try:
                return self._whole(facts, decision, main)
            except ContentError as error:
                if error.code not in ("unsupported_feature", "corrupt") or chunked is None or chunked > self._budget:
                    raise
                # Pillow does not open every TIFF whole that libtiff decodes in parts (big-endian BigTIFF).
                decision = Decision("chunked", f"whole it is not to be had ({error.message})", chunked)
            self._check_time(level, shrink, chunks)
        self._announce(facts, decision)
        try:
            return self._bands(facts, decision, level, chunks, shrink, fetch)
        except ContentError as error:
            if error.code != "unsupported_feature" or facts.estimated_memory_bytes > self._budget:
                raise
            reason = f"not to be had in bands ({error.message}); whole it takes what the budget allows"
            return self._whole(facts, Decision("standard", reason, facts.estimated_memory_bytes), main)

    def _in_bands_at_once(
        self, decision: Decision, level: Picture, main: Picture, chunked: int | None
    ) -> Decision | None:
        """In bands although the whole picture would fit: where a level of it is enough, where Pillow reads it not."""
        if decision.method != "standard" or chunked is None or chunked > self._budget:
            return None
        if level.compression in tags.PICTURES or not by_pillow(level):
            return Decision("chunked", "samples or a coding that Pillow does not read", chunked)
        if level is not main and self._options["tiff_chunking"]:
            return Decision("chunked", f"a level of {level.width} x {level.height} pixels is enough", chunked)
        return None

    def _check_time(self, level: Picture, shrink: Shrink, chunks: Chunks) -> None:
        resumable, seconds = self._pause_s is not None, float(self._options["slice_seconds"])
        check_time(level, shrink, chunks, seconds, resumable=resumable, size_bytes=self._size)

    def _pause(self, done: int) -> bool:
        return self._pause_s is not None and time.monotonic() - self._started > self._pause_s

    def _bands(
        self,
        facts: ImageFacts,
        decision: Decision,
        level: Picture,
        chunks: Chunks,
        shrink: Shrink,
        fetch: ReadAhead,
    ) -> list[Encoded]:
        from heavylift.image.finish import finish, profile_fits
        from heavylift.tiff.reducer import reduce_tiff

        options = self._options
        out = fit_within(level.width, level.height, self._edge)
        icc_profile = drive(read_icc_profile(level.ifd, self._size), fetch)
        limits = drive(_sample_limits(level, self._size), fetch)
        checkpoint, self._checkpoint = self._checkpoint, None
        image = reduce_tiff(
            self._channel, level, chunks, shrink, out, limits=limits, checkpoint=checkpoint, pause=self._pause
        )
        if icc_profile and not profile_fits(image.mode, icc_profile):
            icc_profile, note = None, "its colour profile cannot be used and is left out"
            self._announce(facts, replace(decision, reason=f"{decision.reason}; {note}"))
        return finish(
            image,
            full_size=(facts.width, facts.height),
            orientation=int(options["orientation"] or facts.orientation),
            icc_profile=icc_profile,
            sizes=tuple(options["sizes"]),
            quality=int(options["quality"]),
            pad_color=options["pad_color"],
            limits=limits,
        )

    # --- everything else

    def _rows(self, facts: ImageFacts) -> list[Encoded] | None:
        """Of a picture that is stored in rows; None for others."""
        from heavylift.image.finish import finish
        from heavylift.image.streaming import decode_rows, row_layout

        layout = row_layout(facts.format, self._head)
        if layout is None:
            return None
        size = (facts.width, facts.height)
        banded = rows_decode_bytes(layout, fit_within(*size, self._edge))
        choice = self._choice(self._whole_bytes(facts, size, facts.mode), banded)
        decision = decide(replace(choice, chunking=True))  # the switch is for TIFF
        if decision.method == "standard":
            return self._whole(facts, decision)
        check_seconds(layout.seconds, self._size, self._seconds)
        self._announce(facts, decision)
        whole = decode_rows(self._channel, facts.format, self._head, self._edge, facts.orientation)
        self.flaw = whole.flaw
        options = self._options
        return finish(
            whole.image,
            full_size=whole.full_size,
            orientation=int(options["orientation"] or whole.orientation),
            icc_profile=whole.icc_profile,
            sizes=tuple(options["sizes"]),
            quality=int(options["quality"]),
            pad_color=options["pad_color"],
        )

    def _whole(self, facts: ImageFacts, decision: Decision | None, picture: Picture | None = None) -> list[Encoded]:
        from heavylift.image.finish import finish
        from heavylift.image.whole import decode_whole

        announced = decision

        def allowed(size: tuple[int, int], mode: str) -> None:
            nonlocal announced, facts
            if announced is None:
                announced = decide(self._choice(self._whole_bytes(facts, size, mode), None))
                facts = replace(facts, width=size[0], height=size[1], mode=facts.mode or mode)
            self._announce(facts, announced)

        if decision is None and facts.width:  # refused before the decoder sees a byte, where the header tells enough
            decide(self._choice(self._whole_bytes(facts, (facts.width, facts.height), facts.mode), None))
        invert = picture is not None and picture.photometric == tags.WHITE_IS_ZERO
        whole = decode_whole(
            self._channel,
            facts.format,
            self._edge,
            allowed,
            head=self._head,
            levels=facts.levels,
            interlaced=facts.interlaced,
            seconds_left=self._seconds,
            invert_16=invert,
        )
        self.flaw = whole.flaw or self.flaw
        pages = whole.pages or facts.pages
        if picture is None and (whole.orientation, pages) != (facts.orientation, facts.pages):
            assert announced is not None
            self._announce(replace(facts, orientation=whole.orientation, pages=pages), announced)
        options = self._options
        limits = None
        if picture is not None:
            self._channel.stream([]).close()
            limits = drive(_sample_limits(picture, self._size), self._fetch())
        return finish(
            whole.image,
            full_size=whole.full_size,
            orientation=int(options["orientation"] or whole.orientation),
            icc_profile=whole.icc_profile,
            sizes=tuple(options["sizes"]),
            quality=int(options["quality"]),
            pad_color=options["pad_color"],
            limits=limits,
        )

    def _whole_bytes(self, facts: ImageFacts, size: tuple[int, int], mode: str) -> int:
        from heavylift.image.whole import draft_shrink

        return whole_decode_bytes(
            facts.format,
            *size,
            mode,
            self._size,
            interlaced=facts.interlaced,
            sampled=facts.sampled,
            shrink=draft_shrink(facts.format, *size, self._edge, facts.levels),
        )


def _refusal(picture: Picture) -> ContentError | None:
    try:
        check_decodable(picture)
    except ContentError as error:
        return error
    return None


def _sample_limits(picture: Picture, size_bytes: int) -> Any:
    """SMinSampleValue and SMaxSampleValue of samples that are shown by range, where the file gives both."""
    low = yield from read_numbers(picture.ifd, tags.S_MIN_SAMPLE_VALUE, size_bytes)
    high = yield from read_numbers(picture.ifd, tags.S_MAX_SAMPLE_VALUE, size_bytes)
    if not low or not high or not high[0] > low[0]:
        return None
    return (float(low[0]), float(high[0]))


def main() -> None:
    """Serve one job on file descriptors 0 and 1, then end."""
    started = time.monotonic()
    channel = Channel(os.dup(0), os.dup(1))
    os.dup2(2, 1)  # whatever a library prints must not reach the pipe
    try:
        job = channel.read_job()
        limit_resources(int(job["options"]["budget_bytes"]), int(job["cpu_seconds"]), int(job["parent"]))
        try:
            renderer = Renderer(channel, job, started)
            renderer.run()
        except Paused as pause:
            channel.send_checkpoint(pause.checkpoint)
            channel.send_json(b"P", {"done": pause.done, "memory_peak_bytes": peak_bytes()})
            return
        except (ContentError, TransientError) as error:
            _send_error(channel, type(error).__name__, error.code, error.message, error.facts)
            return
        except MemoryError:
            _send_error(channel, "TransientError", "out_of_memory", "the decoder ran into its memory limit", {})
            return
        milliseconds = int((time.monotonic() - started) * 1000)
        flaw = renderer.flaw and {
            "code": renderer.flaw.code,
            "message": renderer.flaw.message,
            "facts": renderer.flaw.facts,
        }
        channel.send_json(b"Z", {"memory_peak_bytes": peak_bytes(), "ms": milliseconds, "flaw": flaw})
    except (ParentGone, BrokenPipeError):
        pass


def _send_error(channel: Channel, kind: str, code: str, message: str, facts: dict[str, Any]) -> None:
    body = {"type": kind, "code": code, "message": message, "facts": facts, "memory_peak_bytes": peak_bytes()}
    channel.send_json(b"X", body)
