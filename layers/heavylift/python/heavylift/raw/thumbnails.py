"""Pictures of a RAW file: an embedded preview, else the sensor data developed, else a placeholder.

The parent reads directories and the one preview that is wanted; whatever decodes is a child. Each step that leads
nowhere leaves its reason.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from heavylift.errors import ContentError, TransientError
from heavylift.image.child import Child, Outcome
from heavylift.image.decision import Decision
from heavylift.image.thumbnails import (
    RangeSource,
    Thumbnail,
    ThumbnailOptions,
    ThumbnailResult,
    make_thumbnails,
)
from heavylift.ranges import ReadAhead, drive
from heavylift.raw.copying import copied, disk_free_bytes
from heavylift.raw.develop import ENTRY
from heavylift.raw.estimate import plan_development
from heavylift.raw.jpeg import read_frame
from heavylift.raw.model import JPEG, STRIPS, Preview, RawFacts, RawStructure
from heavylift.raw.ranking import choose, enough, upright
from heavylift.raw.reading import READ_FORMATS, check_sound, read_raw, unknown
from heavylift.raw.windows import ONE_READ_BYTES_MAX, BytesSource, Window, wrapped
from heavylift.sniff import Detection

BLOCK_BYTES: Final = 32 << 10  # a directory with its values, or a JPEG up to its frame header
BLOCKS_MAX: Final = 16
TRIES_MAX: Final = 6  # previews decoded: each costs a child
# Of one preview: many times what any camera's JPEG takes; one made to take minutes gives way to the next step.
PREVIEW_SECONDS: Final = 12.0
PREVIEW_BYTES_A_SECOND: Final = 5e6  # at least, of reading it
DEVELOP_SECONDS_LEAST: Final = 10.0  # of a development that is estimated at less
DEVELOP_SECONDS_FACTOR: Final = 4.0
PLACEHOLDER_BUDGET_BYTES: Final = 96 << 20
_PREVIEW_JPEG: Final = Detection("image", "JPEG", "image/jpeg")
_PREVIEW_TIFF: Final = Detection("image", "TIFF", "image/tiff")
# A child that ran out of these tells something about the file, as long as the function itself has them.
_STEP_FAILURES: Final = frozenset({"out_of_memory", "out_of_time", "no_space"})


@dataclass(frozen=True, slots=True)
class RawResult:
    """Pictures of all sizes; ``failure`` where they are placeholders, or where the file was found to be broken."""

    result: ThumbnailResult
    failure: ContentError | None


class _Step(Exception):
    """One way to a picture that led nowhere, with the reason."""

    def __init__(self, code: str, message: str, facts: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.facts = code, message, facts or {}


class _Job:
    def __init__(
        self,
        source: RangeSource,
        detection: Detection,
        options: ThumbnailOptions,
        seconds_left: Callable[[], float],
    ) -> None:
        self.source, self.detection, self.options, self.seconds_left = source, detection, options, seconds_left
        self.fetch = ReadAhead(source.read, source.size_bytes, block_bytes=BLOCK_BYTES, blocks_max=BLOCKS_MAX)
        self.edge = max(options.sizes)
        self.structure = unknown(detection.format)
        self.steps: list[_Step] = []
        self.peak_bytes = 0
        self.started = time.monotonic()
        self.windows: dict[int, Window] = {}
        self.unsound: ContentError | None = None
        self.slow = False  # a preview was stopped: no further one is begun

    def run(self) -> RawResult:
        try:
            self.structure = drive(read_raw(self.detection, self.source.size_bytes), self.fetch)
        except ContentError as error:
            if error.code == "source_changed":
                raise
            self.steps.append(_Step(error.code, error.message, error.facts))
        for note in self.structure.notes:
            self.steps.append(_Step("corrupt", note))
        left = list(self.structure.previews)
        made = self._previews(left, lambda preview: enough(preview, self.edge))
        made = made or self._developed()
        made = made or self._previews(left, lambda preview: preview.long_side >= min(self.options.sizes))
        if made is not None:
            return RawResult(made, self.unsound)
        return self._placeholder()

    # --- embedded previews

    def _previews(self, left: list[Preview], wanted: Callable[[Preview], bool]) -> ThumbnailResult | None:
        """Thumbnails of the best preview that decodes; those tried, or found to be none, leave ``left``."""
        tries = 0
        while not self.slow and tries < TRIES_MAX and (preview := choose(left, self.edge)) is not None:
            at = left.index(preview)
            try:
                if preview.coding == JPEG and not preview.checked:
                    left[at] = self._checked(preview)
                    continue
                if not wanted(preview):
                    return None
                tries += 1
                return self._preview(preview)
            except _Step as step:
                del left[at]
                self.steps.append(step)
                self.slow = step.code == "out_of_time"
        return None

    def _window(self, preview: Preview) -> Window:
        return self.windows.setdefault(preview.offset, Window(self.source, preview.range))

    def _checked(self, preview: Preview) -> Preview:
        """The preview with the size that the JPEG itself gives. _Step where it is no such JPEG."""
        # What its directory says to be large enough will be read whole anyway: its header comes with it.
        whole = preview.long_side >= self.edge and preview.length <= ONE_READ_BYTES_MAX
        try:
            if whole and preview.offset + preview.length <= self.source.size_bytes:
                window = self._window(preview)
                header = drive(read_frame(0, preview.length, preview.length), window.read)
            else:
                header = drive(read_frame(preview.offset, preview.length, self.source.size_bytes), self.fetch)
        except ContentError as error:
            self.windows.pop(preview.offset, None)
            raise self._step(f"the preview in {preview.where}", error) from error
        return replace(
            preview,
            width=header.width,
            height=header.height,
            orientation=self.structure.orientation or preview.orientation or header.orientation,
            checked=True,
        )

    def _step(self, what: str, error: ContentError | TransientError) -> _Step:
        """A step's failure. Raises the error itself where it is not the file's."""
        if error.code == "source_changed":
            raise error
        if isinstance(error, TransientError) and (error.code not in _STEP_FAILURES or self.seconds_left() <= 0):
            raise error
        peak = error.facts.get("child_memory_peak_bytes", 0)
        self.peak_bytes = max(self.peak_bytes, peak if isinstance(peak, int) else 0)
        return _Step(error.code, f"{what}: {error.message}", error.facts)

    def _preview(self, preview: Preview) -> ThumbnailResult:
        facts = self.structure.facts
        orientation = upright(
            self.structure.orientation or preview.orientation or 1,
            (preview.width, preview.height),
            (facts.width, facts.height),
        )
        options = replace(self.options, orientation=orientation)
        until = time.monotonic() + PREVIEW_SECONDS + preview.length / PREVIEW_BYTES_A_SECOND

        def left() -> float:
            return min(self.seconds_left(), until - time.monotonic())

        try:
            if preview.coding == STRIPS:
                data = wrapped(preview, self.source.size_bytes, self.fetch, self.source.read)
                made = make_thumbnails(BytesSource(data), _PREVIEW_TIFF, options, left)
            else:
                made = make_thumbnails(self._window(preview), _PREVIEW_JPEG, options, left)
        except (ContentError, TransientError) as error:
            raise self._step(f"the preview in {preview.where}", error) from error
        finally:
            self.windows.pop(preview.offset, None)
        what = "a JPEG" if preview.coding == JPEG else "pixels"
        size = f"{what} of {preview.width} x {preview.height} in {preview.where}"
        if preview.long_side >= self.edge:
            reason = f"{size}: the smallest of at least {self.edge} pixels"
        else:
            reason = f"{size}: the largest there is, smaller than {self.edge} pixels"
        if self.steps:
            reason += f"; passed over{self._why()}"
        return self._result("embedded_preview", reason, made.decision.estimated_memory_bytes, made.thumbnails, made)

    # --- sensor data

    def _developed(self) -> ThumbnailResult | None:
        facts = self.structure.facts
        budget = self.options.budget_bytes
        try:
            try:
                plan = plan_development(
                    self.source.size_bytes,
                    facts.width,
                    facts.height,
                    facts.mode,
                    big_tiff=self._big_tiff(),
                    edge=self.edge,
                    budget_bytes=budget,
                    seconds_left=self.seconds_left(),
                    disk_free_bytes=disk_free_bytes(),
                )
                self._look_at_sensor_data()
                allowed = max(DEVELOP_SECONDS_LEAST, DEVELOP_SECONDS_FACTOR * plan.seconds)
                with copied(self.source, self.seconds_left) as descriptor:
                    outcome = self._child(
                        {
                            "do": "develop",
                            "descriptor": descriptor,
                            "thumb": self.detection.format not in READ_FORMATS,
                        },
                        replace(self.options, orientation=self.structure.orientation or None),
                        allowed,
                        (descriptor,),
                    )
            except (ContentError, TransientError) as error:
                raise self._step("developing the sensor data", error) from error
        except _Step as step:
            self.steps.append(step)
            return None
        assert outcome.facts is not None
        assert outcome.decision is not None
        if not facts.width:
            sizes = {name: outcome.facts[name] for name in ("width", "height", "orientation")}
            self.structure = replace(self.structure, facts=replace(facts, **sizes))
        size = f"{outcome.facts['width']} x {outcome.facts['height']}"
        if outcome.decision["method"] == "embedded_preview":
            reason = f"LibRaw's preview of sensor data of {size}"
        else:
            reason = f"no usable preview{self._why()}; sensor data of {size} developed"
        pictures = _pictures(outcome, placeholder=False)
        return self._result(outcome.decision["method"], reason, plan.memory_bytes, pictures, outcome)

    def _look_at_sensor_data(self) -> None:
        try:
            drive(check_sound(self.structure, self.source.size_bytes), self.fetch)
        except ContentError as error:
            if error.code != "source_changed":
                self.unsound = error  # whatever picture comes of it, the file is broken
            raise

    def _big_tiff(self) -> bool:
        sensor = self.structure.sensor
        return sensor is not None and sensor.header.big

    def _child(
        self, job: dict[str, Any], options: ThumbnailOptions, seconds: float, pass_fds: tuple[int, ...] = ()
    ) -> Outcome:
        until = time.monotonic() + seconds

        def left() -> float:
            return min(self.seconds_left(), until - time.monotonic())

        whole = job | {
            "size_bytes": 0,
            "options": asdict(options),
            "cpu_seconds": max(1, math.ceil(min(left(), 86_400.0))) + 5,
        }
        with Child(whole, _nothing, left, entry=ENTRY, pass_fds=pass_fds) as child:
            return child.serve()

    # --- placeholder

    def _placeholder(self) -> RawResult:
        """Drawn, with the last reason of all as the file's failure and the others beside it."""
        facts = self.structure.facts
        width, height = facts.width, facts.height
        if self.structure.orientation >= 5:
            width, height = height, width
        job = {
            "do": "placeholder",
            "width": width,
            "height": height,
            "title": self.detection.format,
            "text": "no preview available",
        }
        options = replace(self.options, budget_bytes=max(PLACEHOLDER_BUDGET_BYTES, self.options.budget_bytes))
        outcome = self._child(job, options, math.inf)
        last = self.steps[-1] if self.steps else _Step("unsupported_feature", "the file holds no picture")
        failure = ContentError(
            _verdict_code(last.code),
            f"No picture of this {self.detection.format} could be made{self._why()}.",
            **last.facts,
        )
        reason = f"no usable preview and no development{self._why()}"
        pictures = _pictures(outcome, placeholder=True)
        return RawResult(self._result("placeholder", reason, 0, pictures, outcome), failure)

    # --- results

    def _why(self) -> str:
        told = "; ".join(step.message for step in self.steps)
        return f" ({told[:1000]})" if told else ""

    def _result(
        self,
        method: str,
        reason: str,
        estimated_bytes: int,
        pictures: Sequence[Thumbnail],
        cost: ThumbnailResult | Outcome,
    ) -> ThumbnailResult:
        peak = cost.child_memory_peak_bytes if isinstance(cost, ThumbnailResult) else cost.memory_peak_bytes
        return ThumbnailResult(
            self.structure.facts,
            Decision(method, reason, estimated_bytes),
            tuple(pictures),
            max(self.peak_bytes, peak),
            int((time.monotonic() - self.started) * 1000),
        )


def make_raw_thumbnails(
    source: RangeSource, detection: Detection, options: ThumbnailOptions, seconds_left: Callable[[], float]
) -> RawResult:
    """Pictures of a RAW file in all sizes, whatever it is: the file's fault ends in a placeholder with its reason.

    ContentError ``empty_file`` and the source's ``source_changed``. TransientError ``out_of_time`` when
    ``seconds_left()`` reaches 0, and the source's. Memory of this process: ONE_READ_BYTES_MAX and the thumbnails.
    """
    if source.size_bytes == 0:
        raise ContentError("empty_file", "the file is empty", size_bytes=0)
    return _Job(source, detection, options, seconds_left).run()


def _pictures(outcome: Outcome, *, placeholder: bool) -> list[Thumbnail]:
    return [
        Thumbnail(head["size"], head["width"], head["height"], placeholder, False, jpeg)
        for head, jpeg in outcome.thumbnails
    ]


def _verdict_code(code: str) -> str:
    """A child's own limits, as the file's fault."""
    return {
        "out_of_memory": "too_large_to_decode",
        "out_of_time": "too_long_to_decode",
        "no_space": "too_large_to_decode",
    }.get(code, code)


def _nothing(offset: int, length: int) -> bytes:
    return b""


__all__ = ["RawFacts", "RawResult", "RawStructure", "make_raw_thumbnails"]
