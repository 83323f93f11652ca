"""Archives in a ``World``: files stored, archives asked for, built, opened."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from typing import Any

from heavylift import ddb_json, items, keys
from heavylift.archives import jobs
from heavylift.archives.jobs import ArchiveJob
from heavylift.states import State
from infra import topology
from tests.doubles.gate import Call
from tests.doubles.world import DERIVED, STORE, World


def stored(world: World, name: str, data: bytes, **entry: Any) -> str:
    """The id of a file that is in the store."""
    world.clock.advance(1)  # ids sort by their time
    file_id = world.initiate(name, data, **entry)
    world.put(file_id, data)
    if world.record(file_id).mode == "multipart":
        assert world.complete(file_id)[0] == 200
    world.pump()
    assert world.record(file_id).stored, world.record(file_id)
    return file_id


def ask(world: World, **body: Any) -> tuple[int, dict[str, Any]]:
    return world.call("initiate", "POST", "/v1/archives", body=body)


def look(world: World, archive_id: str, **more: Any) -> dict[str, Any]:
    status, body = world.call("sessions", "GET", "/v1/archives/{id}", path={"id": archive_id}, **more)
    assert status == 200, body
    return body


def made(world: World, **body: Any) -> dict[str, Any]:
    """An archive that was asked for, when nothing is left to do."""
    status, answer = ask(world, **body)
    assert status == 202, answer
    world.pump()
    return look(world, answer["archive_id"])


def drop(world: World, archive_id: str, body: Any, tenant: str = "acme") -> None:
    """A request that somebody puts there by hand."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    world.s3.put_object(Bucket=DERIVED, Key=f"requests/{tenant}/{archive_id}.json", Body=data)


def job_of(world: World, archive_id: str, tenant: str = "acme") -> ArchiveJob:
    item = items.get(jobs.item_key(tenant, archive_id))
    assert item is not None
    return jobs.from_item(item)


def opened(world: World, archive_id: str) -> zipfile.ZipFile:
    """The archive's object, found by its link."""
    job = job_of(world, archive_id)
    data = world.s3.buckets[DERIVED][f"archives/{job.tenant}/{job.content_sha256}.zip"].body
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None
    return archive


def derived(world: World, *prefixes: str) -> list[str]:
    """Keys in the derived bucket that begin so."""
    return sorted(key for key in world.s3.buckets[DERIVED] if key.startswith(prefixes))


def check_clean(world: World) -> None:
    """Nothing of any archive's making is left: no upload, no temporary object, no request."""
    assert derived(world, "work/", "requests/") == []
    assert [upload for upload in world.s3.uploads.values() if upload.bucket == DERIVED] == []


def begin_upload(world: World, key: str) -> str:
    """An open upload in the derived bucket, as a worker begins it."""
    begun: str = world.s3.create_multipart_upload(
        Bucket=DERIVED,
        Key=key,
        ContentType="application/zip",
        Metadata={},
        ChecksumAlgorithm="CRC32",
        ChecksumType="FULL_OBJECT",
    )["UploadId"]
    return begun


def lose(world: World, file_id: str) -> None:
    """Delete a file's object and say so in its record, between two requests of somebody else."""
    world.set(file_id, status=State.DELETED, store_etag=None)
    key = keys.store("acme", file_id)
    del world.s3.buckets[STORE][key]
    world.s3.versions.pop((STORE, key), None)


def live(world: World) -> None:
    """Every way that an archive can take, in short."""
    ids = [stored(world, f"box_{n}.txt", f"number {n}\n".encode() * 9) for n in range(4)]
    world.set(ids[0], checksums={})
    known = world.s3.buckets[STORE][keys.store("acme", ids[0])]
    known.checksums, known.checksum_type = {"ChecksumCRC32": "AAAAAA==-1"}, "COMPOSITE"
    for package in ("plain", "plain", "bagit"):
        done = made(world, file_ids=ids[1:], package=package)
        for route in ("", "/content", "/members", "/members/{n}/content"):
            path = {"id": done["archive_id"], **({"n": "0"} if "{n}" in route else {})}
            world.call("sessions", "GET", "/v1/archives/{id}" + route, path=path)
    made(world, logical_id="box")
    drop(world, "01JD2Z3NDEKTSV4RRFFQ69G5FA", b"no request")
    world.pump()
    # One whose file goes while it is built, one that is cancelled with its upload open.
    plain = world.gate.around

    def lost(call: Call, run: Any) -> Any:
        answer = plain(call, run) if plain else run()
        if call.operation == "create_multipart_upload":
            world.gate.around = plain
            lose(world, ids[3])
        return answer

    world.gate.around = lost
    made(world, file_ids=[ids[2], ids[3]])
    _, asked = ask(world, file_ids=ids[1:3])
    digest = "a" * 64
    upload = begin_upload(world, f"archives/acme/{digest}.zip")
    begin_upload(world, f"work/acme/{asked['archive_id']}/t-1")
    job = job_of(world, asked["archive_id"])
    begun = replace(job, status=jobs.ArchiveStatus.BUILDING, content_sha256=digest, s3_upload_id=upload)
    _, waiting = ask(world, file_ids=ids[1:3])
    for item in (
        jobs.to_item(begun),
        {"pk": f"T#acme#AT#{digest}", "sk": "T", "archive_id": asked["archive_id"], "until": 9e9, "version": 1},
        {"pk": f"T#acme#AD#{digest}", "sk": waiting["archive_id"]},
    ):
        world.dynamodb.put_item(TableName=topology.TABLE.name, Item=ddb_json.encode_item(item))
    world.call("complete", "DELETE", "/v1/archives/{id}", path={"id": asked["archive_id"]})
    world.pump()
    # What the sweeper finds: a lost event, uploads of nobody's, a week that is over.
    ask(world, file_ids=ids[1:2])
    drop(world, "01JD2Z3NDEKTSV4RRFFQ69G5FB", {"file_ids": ids[1:2]})
    for _, _, one in world.s3.created:
        one.announced = True
    begin_upload(world, f"archives/acme/{digest}.zip")
    for days in (0.02, 8, 8, 91):
        world.clock.advance(days * 86_400)
        world.sweep()
        world.pump()
