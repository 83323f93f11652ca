"""Sandboxes whose clocks are a quarter of an hour wrong, each by itself: leases come late or early, files end the same.

S3 refuses signatures that are further off than that (RequestTimeTooSkewed), so that no function works with a worse one.
"""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from heavylift import keys
from tests.doubles import dicom as dicom_double
from tests.doubles.dicom import ROOT, dicom, sent
from tests.doubles.gate import Around, Call
from tests.doubles.samples import PICTURE, TEXT
from tests.doubles.world import DERIVED, STAGING, STORE, World

Worlds = Callable[[], World]
SKEW_S = 15 * 60


def each_its_own(world: World, chance: random.Random) -> Callable[..., bool]:
    """``deliver`` by sandboxes whose clocks are wrong by up to ``SKEW_S``, or right."""
    plain = world.deliver

    def deliver(*given: Any, **named: Any) -> bool:
        world.skew_s = chance.choice((-SKEW_S, 0, SKEW_S))
        try:
            return plain(*given, **named)
        finally:
            world.skew_s = 0.0

    return deliver


def interrupted(world: World, chance: random.Random) -> Around:
    """Now and then another worker, with another clock, takes up a message of the same file between two calls."""
    depth: list[int] = []

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if not depth and chance.random() < 0.1 and world.queues.messages:
            depth.append(call.number)
            message = chance.choice(world.queues.messages)
            mine = world.skew_s
            world.deliver(message)
            world.skew_s = mine
            depth.pop()
        return run()

    return around


@pytest.mark.parametrize("seed", range(4))
def test_files_end_the_same(worlds: Worlds, seed: int) -> None:
    """Events come twice, workers meet, clocks disagree: one store object, one set of pictures, nothing in staging."""
    chance = random.Random(seed)
    world = worlds()
    world.deliver = each_its_own(world, chance)  # type: ignore[method-assign]
    ids = {}
    for sample in (PICTURE, TEXT, PICTURE):
        world.skew_s = chance.choice((-SKEW_S, 0, SKEW_S))
        file_id = world.initiate(sample.name, sample.data)
        world.put(file_id, sample.data)
        if world.record(file_id).mode == "multipart":
            assert world.complete(file_id)[0] == 200
        world.skew_s = 0.0
        ids[file_id] = sample
    world.gate.around = interrupted(world, chance)
    world.pump(copies=2, reverse=bool(seed % 2))
    world.gate.around = None
    for _ in range(6):
        world.skew_s = chance.choice((-SKEW_S, 0, SKEW_S))
        world.sweep()
        world.skew_s = 0.0
        world.pump()
        world.clock.advance(900)
    world.sweep_until_quiet()
    world.sweep()
    assert len(world.s3.buckets[STORE]) == len(ids)
    assert world.s3.buckets[STAGING] == {}
    for file_id, sample in ids.items():
        key = keys.store("acme", file_id)
        assert world.status(file_id) == "completed"
        assert world.s3.buckets[STORE][key].body == sample.data
        assert world.s3.versions_made[STORE, key] == 1
        there = {key for key in world.s3.buckets[DERIVED] if key.startswith(f"thumbnails/acme/{file_id}/")}
        assert there == {picture["key"] for picture in world.record(file_id).thumbnails}
        assert len(there) == (3 if sample.served else 0)


@pytest.mark.parametrize("skew_s", [-SKEW_S, SKEW_S])
def test_an_upload_lives_whatever_the_functions_clock_says(world: World, skew_s: int) -> None:
    """A session that was opened by a right clock is seen, completed and read by wrong ones."""
    file_id = world.initiate(PICTURE.name, PICTURE.data)
    world.skew_s = skew_s
    status, body = world.call("sessions", "GET", "/v1/uploads/{id}", path={"id": file_id})
    assert (status, body["status"]) == (200, "uploading")
    assert (body.get("seconds_left") or 0) >= 0
    world.sweep()
    world.put(file_id, PICTURE.data)
    assert world.complete(file_id)[0] == 200
    world.pump()
    assert world.call("sessions", "GET", "/v1/files/{id}", path={"id": file_id})[1]["status"] == "completed"


@pytest.mark.parametrize("seed", range(3))
def test_dicom_counts_stay_exact(worlds: Worlds, seed: int) -> None:
    """Marks and claims are compared by number, not by time: a recount with a wrong clock is a right one."""
    chance = random.Random(seed)
    world = worlds()
    client = sent(world, {n: (f"IM{n}", dicom(1, 1 + n % 2, n)) for n in range(1, 7)})
    plain = dicom_double.deliver_together

    def skewed(*given: Any) -> Any:
        world.skew_s = chance.choice((-SKEW_S, 0, SKEW_S))
        try:
            return plain(*given)
        finally:
            world.skew_s = 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dicom_double, "deliver_together", skewed)
        dicom_double.pump(world, group=2, copies=2, chance=chance)
        for _ in range(4):
            world.skew_s = chance.choice((-SKEW_S, 0, SKEW_S))
            world.sweep()
            world.skew_s = 0.0
            dicom_double.pump(world, group=2)
            world.clock.advance(900)
    assert client.studies()[f"{ROOT}.1"]["instances"] == 6
    assert world.s3.buckets[STAGING] == {}


@pytest.mark.parametrize("seed", range(3))
def test_an_archive_is_built_all_the_same(worlds: Worlds, seed: int) -> None:
    """Its request comes twice, each sandbox has a clock of its own, the sweeper too: one archive, whole."""
    chance = random.Random(seed)
    world = worlds()
    ids = []
    for number in range(3):
        ids.append(world.initiate(f"{number}.txt", TEXT.data))
        world.put(ids[-1], TEXT.data)
    world.pump()
    world.deliver = each_its_own(world, chance)  # type: ignore[method-assign]
    status, asked = world.call("initiate", "POST", "/v1/archives", body={"file_ids": ids})
    assert status == 202
    for _ in range(4):
        world.pump(copies=2)
        world.skew_s = chance.choice((-SKEW_S, 0, SKEW_S))
        world.sweep()
        world.skew_s = 0.0
        world.clock.advance(900)
    place = {"id": asked["archive_id"]}
    assert world.call("sessions", "GET", "/v1/archives/{id}", path=place)[1]["status"] == "completed"
    keys_there = [key for key in world.s3.buckets[DERIVED] if key.startswith("archives/") and key.endswith(".zip")]
    assert len(keys_there) == 1
    with zipfile.ZipFile(io.BytesIO(world.s3.buckets[DERIVED][keys_there[0]].body)) as archive:
        assert archive.testzip() is None
        assert sum(archive.read(name) == TEXT.data for name in archive.namelist()) == 3
    assert world.s3.uploads == {}
