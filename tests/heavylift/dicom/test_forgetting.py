"""Deleted instances leave nothing that described their patients, whatever happens at the same moment."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from heavylift.dicom import index, recounting, studies
from tests.doubles.dicom import ROOT, DicomClient, dicom, index_items, pump, sent
from tests.doubles.gate import Call, Killed
from tests.doubles.world import DERIVED, World

STUDY = f"{ROOT}.1"


def stored(world: World, *places: tuple[int, int]) -> DicomClient:
    """Instances (series, number) of one study, and rest."""
    files = {n: (f"IM{n}", dicom(1, *place)) for n, place in enumerate(places, start=1)}
    client = sent(world, files)
    pump(world)
    return client


def delete(world: World, client: DicomClient, n: int) -> None:
    status, answer = world.call("complete", "DELETE", "/v1/files/{id}", path={"id": client.file_id(n)})
    assert status == 200, answer


def words_of_patients(world: World) -> list[str]:
    """What the index and the derived bucket still say."""
    said = json.dumps(list(index_items(world).values()), default=str)
    said += "".join(key for key in world.s3.buckets[DERIVED] if key.startswith(("dicom/", "frames/")))
    words = ("ZZTOP", "ZZID", "ZZACC", "ZZREF", "ZZSTUDY", "series 1", "20240131", "dicom/acme")
    return [word for word in words if word in said]


def test_the_last_instance_takes_everything_with_it(world: World) -> None:
    """Patient, study, descriptions, objects: what is left are UIDs and numbers, and those go by themselves."""
    client = stored(world, (1, 1), (2, 1))
    delete(world, client, 1)
    pump(world)
    view = studies.read("acme", STUDY)
    assert view is not None
    assert (view.study.patient_id, [one.series_uid for one in view.series]) == ("ZZID-0815", [f"{STUDY}.2"])
    delete(world, client, 2)
    pump(world)
    assert studies.read("acme", STUDY) is None
    assert words_of_patients(world) == []
    left = list(index_items(world).values())
    assert len(left) == 2
    numbers = {"mark_seq", "claim_seq", "done_seq", "instances", "bytes", "marked_at", "ttl"}
    assert all(item.keys() == {"pk", "sk", "series_id", "stripped"} | numbers for item in left)
    assert all(item["ttl"]["N"] > str(world.clock.now) for item in left)
    assert world.sweep().get("series_counted", 0) == 0


def test_a_series_that_comes_back_is_described_again(world: World) -> None:
    """Under the same UIDs, found by modality and by patient, and counted from where its numbers stood."""
    client = stored(world, (1, 1))
    before = index.get_series("acme", STUDY, f"{STUDY}.1")
    delete(world, client, 1)
    pump(world)
    stored(world, (1, 1))
    after = index.get_series("acme", STUDY, f"{STUDY}.1")
    assert before is not None
    assert after is not None
    assert (after.modality, after.description, after.instances, after.stripped) == ("CT", "series 1", 1, False)
    assert after.mark_seq > before.mark_seq
    assert after.series_id == before.series_id
    (found,) = studies.find("acme", studies.Filter(modality="CT"))
    assert found.study.patient_id == "ZZID-0815"
    assert all("ttl" not in item for item in index_items(world).values())


def whole(world: World, place: tuple[int, int]) -> None:
    """After everything has come to rest: the new instance is there with all that describes it."""
    pump(world)
    world.clock.advance(2_000)
    world.sweep()
    pump(world)
    (found,) = studies.find("acme", studies.Filter(patient_id="ZZID-0815"))
    series = {one.series_uid: one for one in found.series}
    one = series.pop(f"{STUDY}.{place[0]}")
    assert not series
    assert (one.instances, one.dirty, one.modality, one.description) == (1, False, "CT", f"series {place[0]}")
    assert found.study.patient_name.startswith("ZZTOPSECRET")


def interrupted(world: World, place: int, act: Callable[[], None], work: Callable[[], None], *, kill: bool) -> bool:
    """Do ``work``, and in the middle of it, before its ``place``-th call, ``act``; whether it got so far."""
    seen, done = 0, False

    def around(call: Call, run: Callable[[], Any]) -> Any:
        nonlocal seen, done
        seen += 1
        if seen == place and not done:
            done = True
            world.gate.around = None
            act()
            if kill:
                raise Killed
            world.gate.around = around
        return run()

    world.gate.around = around
    try:
        work()
    except Killed:
        pass
    finally:
        world.gate.around = None
    return done


def recount_all(world: World) -> None:
    """What the recount's message does when its time has come."""
    world.clock.advance(10)
    for series in (1, 2):
        recounting.recount("acme", STUDY, f"{STUDY}.{series}")


@pytest.mark.parametrize("kill", [False, True], ids=["", "killed"])
@pytest.mark.parametrize("place", [(1, 2), (2, 1)], ids=["same series", "another series"])
def test_an_instance_that_comes_while_a_study_is_forgotten(
    worlds: Callable[..., World], place: tuple[int, int], kill: bool
) -> None:
    """At every step of the recount that finds nothing: a whole ingest comes in between, or after a kill there."""
    for step in range(1, 60):
        world = worlds()
        client = stored(world, (1, 1))
        delete(world, client, 1)
        other = DicomClient(world, {1: ("more", dicom(1, *place))})
        other.begin()
        other.list()

        def come(world: World = world, other: DicomClient = other) -> None:
            other.send()
            world.announce()
            take_one(world)

        if not interrupted(world, step, come, lambda world=world: recount_all(world), kill=kill):  # type: ignore[misc]
            break
        whole(world, place)
    assert step > 8


@pytest.mark.parametrize("kill", [False, True], ids=["", "killed"])
@pytest.mark.parametrize("place", [(1, 2), (2, 1)], ids=["same series", "another series"])
def test_a_study_that_is_forgotten_while_an_instance_comes(
    worlds: Callable[..., World], place: tuple[int, int], kill: bool
) -> None:
    """At every step of the ingest: the last other instance goes, and the recount that finds nothing is done."""
    for step in range(1, 80):
        world = worlds()
        client = stored(world, (1, 1))
        sent(world, {1: ("more", dicom(1, *place))})
        world.announce()

        def go(world: World = world, client: DicomClient = client) -> None:
            delete(world, client, 1)
            recount_all(world)

        if not interrupted(world, step, go, lambda world=world: take_one(world), kill=kill):  # type: ignore[misc]
            break
        whole(world, place)
    assert step > 10


def take_one(world: World) -> None:
    """The message of the file that has come; what a kill leaves comes back."""
    for message in list(world.queues.messages):
        if "Object Created" in message.body:
            received = world.queues.receive(newest_first=True)
            while received is not None and "Object Created" not in received.body:
                received = world.queues.receive(newest_first=True)
            if received is not None:
                world.deliver(received)
            return
