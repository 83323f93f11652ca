"""Repeated, reversed and lost events, killed functions, too little memory or time: it costs a retry, never a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heavylift_local.testing import RunningStack, running_stack
from tests.interop.conftest import Desk, write_tiff

pytestmark = pytest.mark.xdist_group("faults")

# Every clock that is waited for runs 900 times faster: visibility 2 s and 6 s, a sweep every second.
TIME_SCALE = 900
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def hurried() -> Iterator[RunningStack]:
    with running_stack(env={"HEAVYLIFT_TIME_SCALE": str(TIME_SCALE)}) as running:
        yield running


@pytest.fixture
def desk(hurried: RunningStack, request: pytest.FixtureRequest) -> Iterator[Desk]:
    tenant = "f-" + request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[:50].strip("-")
    yield Desk(hurried, hurried.token(tenant), tenant)
    hurried.faults({})


@pytest.fixture(scope="module")
def tiff(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiff(tmp_path_factory.mktemp("tiff") / "small.tif", 1400, 1000).read_bytes()


def _one_of_each(desk: Desk, ids: list[str], *, pictures: int) -> None:
    """Exactly one stored version a file, three thumbnails a picture, and nothing left in staging."""
    versions = desk.s3().list_object_versions(Bucket=desk.bucket("store"), Prefix=f"files/{desk.tenant}/")
    assert sorted(one["Key"] for one in versions["Versions"]) == sorted(f"files/{desk.tenant}/{id}" for id in ids)
    assert "DeleteMarkers" not in versions
    assert len(desk.keys("derived", f"thumbnails/{desk.tenant}/")) == 3 * pictures
    deadline = time.monotonic() + 20
    while desk.keys("staging", f"in/{desk.tenant}/") and time.monotonic() < deadline:
        time.sleep(0.2)  # a repeated event may still be on its way to delete what its twin left
    assert desk.keys("staging", f"in/{desk.tenant}/") == []


def test_every_event_three_times_and_in_reverse_order(desk: Desk, tiff: bytes) -> None:
    """The same final states and objects as with one event each."""
    desk.stack.faults({"events": {"copies": 3, "reverse": True}})
    pictures = [desk.send_bytes(f"p{n}.tif", tiff + bytes(n)) for n in range(3)]
    others = [desk.send_bytes(f"d{n}.bin", b"data" * (n + 1)) for n in range(3)]
    records = [desk.wait_final(file_id) for file_id in pictures + others]
    assert [one["status"] for one in records] == ["completed"] * 6
    _settled(desk)
    _one_of_each(desk, pictures + others, pictures=3)
    for record in records[:3]:
        assert len(record["thumbnails"]) == 3
    state = desk.stack.state()
    assert {name: one["dlq"] for name, one in state["queues"].items() if one["dlq"]} == {}


def _settled(desk: Desk, seconds: float = 30) -> None:
    """Wait until no message is waiting or in hand."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        queues = desk.stack.state()["queues"].values()
        if not any(one["visible"] or one["in_flight"] or one["delayed"] for one in queues):
            return
        time.sleep(0.2)
    raise AssertionError(desk.stack.state()["queues"])


def test_lost_events_are_found_by_the_sweeper(desk: Desk, tiff: bytes, tmp_path: Path) -> None:
    """With every event lost the sweeper alone brings a multipart upload and a single PUT to their end."""
    desk.stack.faults({"events": {"drop": 1.0}})
    path = tmp_path / "lost.tif"
    path.write_bytes(tiff * 5)  # 20 MiB: multipart
    with desk.client() as client:
        result = client.put(path, wait=False)
    assert result.file_id is not None
    ids = [result.file_id, desk.send_bytes("lost.bin", b"lost")]
    records = [desk.wait_final(file_id, seconds=90) for file_id in ids]
    assert [one["status"] for one in records] == ["completed"] * 2
    _one_of_each(desk, ids, pictures=1)


def test_functions_killed_at_random_moments(desk: Desk, tiff: bytes) -> None:
    """Children killed in a third of all invocations: every file ends well, once, if need be after a retry by hand."""
    desk.stack.faults({"functions": {"validate": {"kill": 0.35}, "thumbnail": {"kill": 0.35}}, "seed": 7})
    ids = [desk.send_bytes(f"k{n}.tif", tiff + bytes(n)) for n in range(4)]
    records = [desk.wait_final(file_id, seconds=200) for file_id in ids]
    desk.stack.faults({})
    for record in records:
        if record["status"] == "failed":
            assert record["failure"]["stage"] in {"validate", "thumbnail"}
            desk.call("POST", f"/v1/uploads/{record['file_id']}/retry", {})
    records = [desk.wait_final(file_id, seconds=100) for file_id in ids]
    assert [one["status"] for one in records] == ["completed"] * 4
    _settled(desk, seconds=60)
    _one_of_each(desk, ids, pictures=4)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("function", "fault"),
    [
        ("thumbnail", {"memory_mb": 36}),  # it claims the file, and dies when its decoder starts
        # Some thirty cold starts, one after another: it never lives to its first write, so only the sweeper's own
        # messages count as attempts, each of which ends in the dead-letter queue too.
        pytest.param("validate", {"timeout_s": 0.01}, marks=pytest.mark.full),
    ],
)
def test_five_attempts_end_in_failed_and_retry_mends(tiff: bytes, function: str, fault: dict[str, float]) -> None:
    """Over memory or time on every attempt: dead-letter queue, `failed` with its stage; a retry goes on from there."""
    # Slower clocks than above: the fifth receive has to come before the sweeper on a busy machine too.
    with running_stack(env={"HEAVYLIFT_TIME_SCALE": "600"}) as stack:
        desk = Desk(stack, stack.token("five"), "five")
        stack.faults({"functions": {function: fault}})
        if function == "thumbnail":
            file_id, thumbnails = desk.send_bytes("heavy.tif", tiff), 3
        else:
            slow = desk.initiate("slow.bin", 17 * MIB)  # complete commits `staged`, so that the sweeper knows of it
            desk.send_parts(slow, bytes(17 * MIB))
            file_id, thumbnails = slow["upload_id"], 0
        record = desk.wait_final(file_id, seconds=400)
        assert record["status"] == "failed", record
        assert record["failure"]["stage"] == function
        assert record["failure"]["retryable"] is True
        _until(lambda: stack.state()["queues"][function]["dlq"] >= 1)
        stack.faults({})
        assert desk.call("POST", f"/v1/uploads/{file_id}/retry", {})["status"] in {"staged", "fresh"}
        record = desk.wait_final(file_id)
        assert record["status"] == "completed"
        assert len(record["thumbnails"]) == thumbnails


def _until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
