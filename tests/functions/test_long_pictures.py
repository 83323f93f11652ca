"""A picture that takes longer than one call: slices, their checkpoint, and what kills and repeated messages change.

The decoder is the real one, in this process, and stops after some bands, as the child does when its time is up.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from heavylift import keys, queue
from heavylift.errors import ContentError
from heavylift.image import thumbnails as thumbnails_module
from heavylift.image.decision import Decision
from heavylift.image.facts import read_tiff
from heavylift.image.finish import finish
from heavylift.image.sources import LocalSource
from heavylift.image.thumbnails import Thumbnail, ThumbnailResult, Unfinished
from heavylift.ranges import drive
from heavylift.tiff.bands import choose_shrink, fit_within
from heavylift.tiff.layout import read_chunks
from heavylift.tiff.pace import Paused
from heavylift.tiff.reducer import reduce_tiff
from tests.doubles.gate import DISTURBANCES, Around, Killed
from tests.doubles.world import DERIVED, World
from tests.heavylift.image.pictures import scene, tiff

DATA = tiff(scene(20, 26)[:, :, 1].copy(), photometric="minisblack", rowsperstrip=26, metadata=None)


class Slices:
    """make_thumbnails without a child; ``bands_each``: bands of a slice, then it stops."""

    def __init__(self, bands_each: int = 3) -> None:
        self.bands_each = bands_each
        self.begun_at: list[bytes] = []

    def __call__(
        self, source: Any, found: Any, options: Any, seconds_left: Callable[[], float], checkpoint: bytes
    ) -> ThumbnailResult:
        self.begun_at.append(bytes(checkpoint))
        data = source.read(0, source.size_bytes)
        file = LocalSource(io.BytesIO(data), len(data))
        structure = drive(read_tiff(found, len(data)), file.fetch)
        picture = structure.main
        out = fit_within(picture.width, picture.height, 12)
        left = self.bands_each

        def pause(done: int) -> bool:
            nonlocal left
            left -= 1
            return left == 0

        try:
            image = reduce_tiff(
                file,
                picture,
                drive(read_chunks(picture, len(data)), file.fetch),
                choose_shrink(picture, *out, band_bytes=20),
                out,
                checkpoint=checkpoint,
                pause=pause,
            )
        except Paused as stop:
            raise Unfinished(stop.done, bytearray(stop.checkpoint), 30 << 20) from stop
        made = finish(
            image,
            full_size=(picture.width, picture.height),
            orientation=1,
            icc_profile=None,
            sizes=(6, 12),
            quality=85,
            pad_color=None,
        )
        pictures = tuple(Thumbnail(one.size, one.width, one.height, False, False, one.jpeg) for one in made)
        return ThumbnailResult(structure.facts, Decision("chunked", "test", 1), pictures, 20 << 20, 5)


def stored(world: World, data: bytes = DATA) -> str:
    """A file that waits for its thumbnails; its message is on the queue."""
    file_id = world.initiate("long.tif", data)
    world.put(file_id, data)
    if world.record(file_id).mode == "multipart":
        assert world.complete(file_id)[0] == 200
    while world.status(file_id) != "fresh":
        world.announce()
        message = world.queues.receive()
        assert message is not None
        world.deliver(message)
    world.announce()
    return file_id


def jpegs(world: World, file_id: str) -> list[bytes]:
    shown = world.record(file_id).thumbnails
    return [world.s3.get_object(Bucket=DERIVED, Key=picture["key"])["Body"].read() for picture in shown]


def work_objects(world: World) -> list[str]:
    return [key for key in world.s3.buckets[DERIVED] if key.startswith("work/")]


@pytest.fixture
def undisturbed(worlds: Callable[[], World]) -> list[bytes]:
    world = worlds()
    world.thumbnails = Slices(bands_each=1_000)
    file_id = stored(world)
    world.pump()
    return jpegs(world, file_id)


def test_slices_end_in_the_same_pictures(worlds: Callable[[], World], undisturbed: list[bytes]) -> None:
    """The same bytes as in one go; the checkpoint is gone; reads of all slices are counted."""
    world = worlds()
    world.thumbnails = slices = Slices()
    file_id = stored(world)
    world.pump()
    record = world.record(file_id)

    assert record.status.value == "completed"
    assert jpegs(world, file_id) == undisturbed
    assert len(slices.begun_at) > 7
    assert slices.begun_at[0] == b""
    assert all(slices.begun_at[1:])
    assert work_objects(world) == []
    assert record.bytes_read == len(slices.begun_at) * len(DATA)
    assert record.stages["thumbnail"]["child_memory_peak_bytes"] == 30 << 20
    assert (record.progress, record.attempt) == (0, 1)
    assert [event["event"] for event in record.events].count("process") == 1  # a slice is no attempt


@pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda disturb: disturb.__name__)
def test_any_one_fault_changes_nothing(
    worlds: Callable[[], World], undisturbed: list[bytes], disturb: Callable[[int], Around]
) -> None:
    """Each call of all slices disturbed in turn: the same pictures, one end, nothing left but what a rule deletes."""
    world = worlds()
    world.thumbnails = Slices(bands_each=9)
    file_id = stored(world)
    world.gate.restart()
    world.pump()
    total = len(world.gate.calls)
    assert total > 20
    for number in range(1, total + 1):
        world = worlds()
        world.thumbnails = Slices(bands_each=9)
        file_id = stored(world)
        world.gate.restart(disturb(number))
        world.pump()
        record = world.record(file_id)
        assert record.status.value == "completed", number
        assert jpegs(world, file_id) == undisturbed
        shown = {picture["key"] for picture in record.thumbnails}
        assert {key for key in world.s3.buckets[DERIVED] if key.startswith("thumbnails/")} == shown
        assert work_objects(world) in ([], [keys.work("acme", file_id, "picture")])
        assert world.queues.dead == []
        world.clock.advance(901)
        world.sweep()  # tells the bus what a kill kept from being told
        assert len({one.detail["id"] for one in world.bus.taken}) == 1


def test_repeated_messages_change_nothing(worlds: Callable[[], World], undisturbed: list[bytes]) -> None:
    """Events and continuations that come twice, newest first: the same pictures, once."""
    world = worlds()
    world.thumbnails = Slices()
    file_id = stored(world)
    real = queue.send

    def twice(name: str, message: queue.Continuation) -> None:
        real(name, message)
        real(name, message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "send", twice)
        world.pump(copies=2, reverse=True)
    assert world.status(file_id) == "completed"
    assert jpegs(world, file_id) == undisturbed
    assert len({one.detail["id"] for one in world.bus.taken}) == 1


def test_another_object_does_not_go_on_from_the_checkpoint(worlds: Callable[[], World]) -> None:
    """A checkpoint of other bytes is left aside."""
    world = worlds()
    world.thumbnails = slices = Slices()
    file_id = stored(world)
    message = world.queues.receive()
    assert message is not None
    world.deliver(message)
    key = keys.work("acme", file_id, "picture")
    body = world.s3.get_object(Bucket=DERIVED, Key=key)["Body"].read()
    assert (world.record(file_id).store_etag or "?").encode() in body
    world.s3.put_object(
        Bucket=DERIVED, Key=key, Body=body.replace((world.record(file_id).store_etag or "?").encode(), b"other")
    )
    length = int.from_bytes(body[:4], "big") - len(world.record(file_id).store_etag or "?") + 5
    changed = world.s3.get_object(Bucket=DERIVED, Key=key)["Body"].read()
    world.s3.put_object(Bucket=DERIVED, Key=key, Body=length.to_bytes(4, "big") + changed[4:])
    slices.bands_each = 1_000
    world.pump()

    assert world.status(file_id) == "completed"
    assert slices.begun_at == [b"", b""]


def test_work_that_stands_still_ends(worlds: Callable[[], World]) -> None:
    """Slices that get no further are ended as no_progress, retryable."""

    class Stuck(Slices):
        def __call__(self, *given: Any) -> ThumbnailResult:
            raise Unfinished(5, bytearray(10))

    world = worlds()
    world.thumbnails = Stuck()
    file_id = stored(world)
    world.pump()
    failure = dict(world.record(file_id).failure or {})

    assert world.status(file_id) == "failed"
    assert (failure["code"], failure["retryable"], failure["stage"]) == ("no_progress", True, "thumbnail")
    world.thumbnails = Slices(bands_each=1_000)
    assert world.retry(file_id)[0] == 202
    world.pump()
    assert world.status(file_id) == "completed"


def test_a_verdict_after_some_slices_leaves_no_checkpoint(worlds: Callable[[], World]) -> None:
    """The file turns out to be broken in its second slice: the verdict, with what all slices have read."""

    class Breaks(Slices):
        def __call__(self, source: Any, *given: Any) -> ThumbnailResult:
            if self.begun_at:
                source.read(0, 10)
                raise ContentError("corrupt", "a strip does not decode")
            return super().__call__(source, *given)

    world = worlds()
    world.thumbnails = Breaks()
    file_id = stored(world)
    world.pump()
    record = world.record(file_id)

    assert (record.status.value, dict(record.failure or {})["code"]) == ("completed_with_errors", "corrupt")
    assert record.bytes_read == len(DATA) + 10
    assert work_objects(world) == []


def test_a_real_child_stops_in_time_and_goes_on() -> None:
    """Through processes and pipes: stopped by the clock, taken up by others, the same JPEGs to the byte."""
    from tests.heavylift.image.pictures import CountingSource, detected

    data = tiff(scene(1500, 1100), photometric="rgb", rowsperstrip=20)
    found, plain = detected(data), thumbnails_module.ThumbnailOptions(tiff_threshold_bytes=0, band_bytes=300_000)
    whole = thumbnails_module.make_thumbnails(CountingSource(data), found, plain, lambda: 60.0)
    checkpoint, slices, read = b"", 0, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thumbnails_module, "PAUSE_SHARE", 1.0)  # after the first band
        patch.setattr(thumbnails_module, "PAUSE_S_MAX", 60.0)
        while slices < 3:
            source = CountingSource(data)
            with pytest.raises(Unfinished) as stop:
                thumbnails_module.make_thumbnails(source, found, plain, lambda: 60.0, checkpoint)
            assert stop.value.done > 0
            checkpoint = bytes(stop.value.checkpoint)
            assert 0 < stop.value.child_memory_peak_bytes < 70 << 20
            slices += 1
    source = CountingSource(data)
    made = thumbnails_module.make_thumbnails(source, found, plain, lambda: 60.0, checkpoint)
    read = source.bytes_read

    assert [one.jpeg for one in made.thumbnails] == [one.jpeg for one in whole.thumbnails]
    assert read < len(data) * 0.95
    assert np.all([one.width for one in made.thumbnails])


def test_what_no_slice_is_long_enough_for_is_refused() -> None:
    """One deflated strip of pixels that take longer than a slice, and pixels that a small file does not pay for."""
    import zlib

    from heavylift.sniff import detection
    from tests.heavylift.image.pictures import CountingSource

    side = 40_000
    strip = zlib.compress(bytes(1 << 20), 9) * 700  # its layout is sound; it is never inflated
    data = bytearray(tiff(np.zeros((1, 16), np.uint8), photometric="minisblack", compression="zlib", metadata=None))
    import tifffile

    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        places = {tag.code: (tag.valueoffset, tag.dtype) for tag in file.pages[0].tags.values()}
    for tag, value in {256: side, 257: side, 278: side, 273: len(data), 279: len(strip) * 3}.items():
        at, kind = places[tag]
        if int(kind) == 3:
            raise AssertionError("a field too small for the test")
        data[at : at + 4] = value.to_bytes(4, "little")
    data += strip * 3

    def code(slice_seconds: float) -> str:
        options = thumbnails_module.ThumbnailOptions(slice_seconds=slice_seconds)
        with pytest.raises(ContentError) as caught:
            thumbnails_module.make_thumbnails(
                CountingSource(bytes(data)), detection("TIFF"), options, lambda: slice_seconds, b""
            )
        assert caught.value.facts["estimated_seconds"] > caught.value.facts["seconds_allowed"] > 0
        return caught.value.code

    assert code(4.0) == "too_long_to_decode"


def test_a_kill_between_checkpoint_and_message_loses_no_work(worlds: Callable[[], World]) -> None:
    """The checkpoint is there, nobody was told: the message comes back and the work goes on from it."""
    world = worlds()
    world.thumbnails = slices = Slices()
    file_id = stored(world)

    def around(call: Any, run: Callable[[], Any]) -> Any:
        answer = run()
        if call.operation == "put_object" and call.arguments["Key"].startswith("work/"):
            raise Killed
        return answer

    message = world.queues.receive()
    assert message is not None
    with world.hook(around), pytest.raises(Killed):
        world.deliver(message)
    world.pump()

    assert world.status(file_id) == "completed"
    assert slices.begun_at[0] == b""
    assert all(slices.begun_at[1:])
