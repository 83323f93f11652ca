"""The pipe between parent and child: frames, streams, prefetching, and the file made of ranges."""

from __future__ import annotations

import io
import json
import os
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.errors import ContentError, TransientError
from heavylift.image.channel import HEADER, Channel, ParentGone, decode_ranges, encode_ranges
from heavylift.image.prefetch import Prefetcher
from heavylift.image.sources import FILE_BLOCKS_MAX, LocalSource, RangeFile
from heavylift.ranges import Range

DATA = bytes(i * 31 % 251 for i in range(700_000))


class Served:
    """A channel with a parent in a thread that answers every range from DATA."""

    def __init__(self, data: bytes = DATA) -> None:
        to_child, self._to_child = os.pipe()
        self._from_child, from_child = os.pipe()
        self.channel = Channel(to_child, from_child)
        self._fds = [to_child, from_child]
        self.asked: list[Range] = []
        self.channel.size_bytes = len(data)
        self._data = data
        self._prefetcher = Prefetcher(lambda o, n: data[o : o + n], self._write, lambda: None)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _write(self, data: bytes) -> None:
        view = memoryview(HEADER.pack(b"D", len(data)) + data)
        while view:
            view = view[os.write(self._to_child, view) :]

    def _serve(self) -> None:
        with os.fdopen(self._from_child, "rb") as pipe:
            while head := pipe.read(HEADER.size):
                kind, length = HEADER.unpack(head)
                payload = pipe.read(length)
                assert kind == b"R"
                ranges = decode_ranges(payload)
                self.asked += ranges
                self._prefetcher.ask(ranges)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)
        self._thread.join()
        self._prefetcher.close()
        os.close(self._to_child)


@given(st.lists(st.builds(Range, st.integers(0, 2**63), st.integers(0, 2**32 - 1)), max_size=20))
def test_ranges_survive_the_pipe(ranges: list[Range]) -> None:
    """Ranges come out as they went in, beyond 4 GiB too."""
    assert decode_ranges(encode_ranges(ranges)) == ranges


def test_odd_range_frames_are_refused() -> None:
    """A frame that is no whole number of ranges is an error."""
    with pytest.raises(ValueError, match="odd length"):
        decode_ranges(b"12345")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.builds(Range, st.integers(0, 600_000), st.integers(0, 60_000)), max_size=12),
    st.integers(1, 100_000),
    st.integers(1, 300_000),
    st.integers(1, 70_000),
)
def test_streams_bring_the_ranges_in_order(
    ranges: list[Range], request_bytes: int, ahead_bytes: int, step: int
) -> None:
    """A stream gives the bytes of its ranges one after the other, whatever the sizes of requests and reads."""
    expected = b"".join(DATA[want.offset : want.end] for want in ranges)
    with Served() as served:
        stream = served.channel.stream(ranges, request_bytes=request_bytes, ahead_bytes=ahead_bytes)
        actual = bytearray(len(expected))
        for at in range(0, len(expected), step):
            stream.readinto(memoryview(actual)[at : at + step])
        stream.close()

        assert bytes(actual) == expected
        assert served.channel.fetch(5, 9) == DATA[5:14]  # the pipe is in step


def test_a_stream_closed_early_leaves_the_pipe_in_step() -> None:
    """What was asked for ahead and is not wanted any more does not come as the next answer."""
    with Served() as served:
        stream = served.channel.stream([Range(0, 600_000)], request_bytes=50_000, ahead_bytes=300_000)
        stream.readinto(memoryview(bytearray(70_000)))
        stream.close()

        assert served.channel.fetch(100, 50) == DATA[100:150]
        assert sum(want.length for want in served.asked) < 600_000


def test_a_gone_parent_ends_the_child() -> None:
    """Reading from a pipe whose other end is closed is not an error of anybody's, only the end."""
    read_end, write_end = os.pipe()
    os.close(write_end)
    channel = Channel(read_end, 1)
    with pytest.raises(ParentGone):
        channel.read_job()
    os.close(read_end)


def test_thumbnail_frames() -> None:
    """A thumbnail's head and bytes are told apart."""
    read_end, write_end = os.pipe()
    Channel(0, write_end).send_thumbnail({"size": 7}, b"jpeg")
    kind, length = HEADER.unpack(os.read(read_end, HEADER.size))
    payload = os.read(read_end, length)
    head_length = int.from_bytes(payload[:4], "big")

    assert (kind, json.loads(payload[4 : 4 + head_length]), payload[4 + head_length :]) == (b"T", {"size": 7}, b"jpeg")
    os.close(read_end)
    os.close(write_end)


# --- prefetcher


def prefetched(ranges: list[Range], **options: object) -> tuple[bytes, Prefetcher]:
    out = bytearray()
    wanted = sum(want.length for want in ranges)
    done = threading.Event()

    def write(data: bytes) -> None:
        out.extend(data)
        if len(out) >= wanted:
            done.set()

    def fetch(offset: int, length: int) -> bytes:
        time.sleep(0.001 * (offset % 3))
        return DATA[offset : offset + length]

    prefetcher = Prefetcher(fetch, write, done.set, **options)  # type: ignore[arg-type]
    prefetcher.ask(ranges)
    if wanted:
        assert done.wait(20)
    prefetcher.close()
    return bytes(out), prefetcher


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.builds(Range, st.integers(0, 600_000), st.integers(1, 9000)), max_size=25),
    st.integers(1, 6),
    st.integers(1, 30_000),
)
def test_order_is_kept(ranges: list[Range], connections: int, in_flight_bytes: int) -> None:
    """However fetches overlap, bytes are handed on in the order asked, each once."""
    out, prefetcher = prefetched(ranges, connections=connections, in_flight_bytes=in_flight_bytes)

    assert out == b"".join(DATA[want.offset : want.end] for want in ranges)
    assert prefetcher.requests == len(ranges)
    assert prefetcher.bytes_read == len(out)


def test_bytes_in_flight_are_bounded() -> None:
    """While nobody takes them, no more bytes are fetched than allowed."""
    release = threading.Event()
    fetched = []

    def fetch(offset: int, length: int) -> bytes:
        fetched.append(length)
        return bytes(length)

    prefetcher = Prefetcher(fetch, lambda data: release.wait(10), lambda: None, connections=4, in_flight_bytes=5000)
    prefetcher.ask([Range(i * 1000, 1000) for i in range(100)])
    time.sleep(0.3)

    assert sum(fetched) == 5000
    release.set()
    prefetcher.close()


@pytest.mark.parametrize("error", [TransientError("throttled", "x"), ContentError("source_changed", "x")])
def test_first_error_stops_everything(error: Exception) -> None:
    """The source's error is kept, the caller is told, and no further range is begun."""
    told = threading.Event()
    begun = []

    def fetch(offset: int, length: int) -> bytes:
        begun.append(offset)
        raise error

    prefetcher = Prefetcher(fetch, lambda data: None, told.set, connections=1)
    prefetcher.ask([Range(i, 1) for i in range(10)])

    assert told.wait(10)
    prefetcher.close()
    assert prefetcher.error is error
    assert len(begun) == 1


def test_short_reads_are_noticed() -> None:
    """A fetch that returns too little is truncated."""
    told = threading.Event()
    prefetcher = Prefetcher(lambda o, n: b"", lambda data: None, told.set)
    prefetcher.ask([Range(3, 5)])

    assert told.wait(10)
    prefetcher.close()
    assert isinstance(prefetcher.error, ContentError)
    assert prefetcher.error.code == "truncated"


# --- file over ranges


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_range_file_is_a_file(data: st.DataObject) -> None:
    """Any seeks and reads give what an ordinary file gives, at the end and beyond it too."""
    content = DATA[: data.draw(st.sampled_from([0, 1, 65_536, 65_537, 400_000]))]
    judge = io.BytesIO(content)
    with Served(content) as served:
        source = served.channel if data.draw(st.booleans()) else LocalSource(io.BytesIO(content), len(content))
        file = RangeFile(source)
        for _ in range(data.draw(st.integers(0, 12))):
            if data.draw(st.booleans()):
                whence = data.draw(st.sampled_from([0, 2]))
                offset = data.draw(st.integers(0, len(content)))
                offset = -offset if whence == 2 else offset
                assert file.seek(offset, whence) == judge.seek(offset, whence)
            else:
                size = data.draw(st.sampled_from([-1, 0, 1, 10, 5000, 65_536, 200_000]))
                assert file.read(size) == judge.read(size)
            assert file.tell() == judge.tell()
        file.close()


def test_range_file_reads_on_without_reading_twice() -> None:
    """A file read from front to back costs its bytes once, and is not read past where the reader stops."""
    with Served() as served:
        file = RangeFile(served.channel)
        pieces = []
        while piece := file.read(10_000):
            pieces.append(piece)
        assert b"".join(pieces) == DATA
        assert sum(want.length for want in served.asked) == len(DATA)


def test_range_file_keeps_few_blocks() -> None:
    """Scattered reads keep the first block and the last few, not the file."""
    big = bytes(3_000_000)
    source = LocalSource(io.BytesIO(big), len(big))
    file = RangeFile(source)
    for at in range(0, 2_900_000, 131_072):
        file.seek(at)
        file.read(10)

    assert len(file._blocks) <= FILE_BLOCKS_MAX
    assert 0 in file._blocks
