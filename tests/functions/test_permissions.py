"""Least privilege, held to what the code does: every call of a function is one that the topology allows it."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heavylift import keys
from heavylift import settings as settings_module
from heavylift.batches import store
from heavylift.batches.manifest import Entry
from heavylift.batches.model import BatchStatus
from heavylift.states import State
from infra import topology
from infra.permissions import needs
from tests.doubles import archives
from tests.doubles import world as world_module
from tests.doubles.batches import BatchClient
from tests.doubles.companion import Companion
from tests.doubles.dicom import live as live_dicom
from tests.doubles.dicomweb import live as live_dicomweb
from tests.doubles.gate import Call
from tests.doubles.samples import PICTURE, SAMPLES, TEXT
from tests.doubles.world import BUCKETS, DERIVED, STAGING, STORE, World

NAMES = {physical: logical for logical, physical in BUCKETS.items()}


def allowed(function: str, action: str, resource: str) -> bool:
    return any(
        action in allow.actions and any(fnmatch.fnmatchcase(resource, pattern) for pattern in allow.resources)
        for allow in topology.function(function).allows
    )


class Recorder:
    """Which function calls what; events of S3 and the client's own PUTs are nobody's."""

    def __init__(self) -> None:
        self.function: str | None = None
        self.used: dict[str, set[tuple[str, str]]] = {}
        self._lock = threading.Lock()

    def around(self, call: Call, run: Any) -> Any:
        if self.function:
            with self._lock:
                used = needs(call.operation, call.arguments, NAMES)
                self.used.setdefault(self.function, set()).update(used)
        return run()

    @contextlib.contextmanager
    def role(self, function: str) -> Iterator[None]:
        before, self.function = self.function, function
        try:
            yield
        finally:
            self.function = before


@pytest.fixture
def recorder(world: World, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    plain = world_module.handler_of

    def handler_of(function: str) -> Any:
        handler = plain(function)

        def handle(event: Any, context: Any) -> Any:
            with made.role(function):
                return handler(event, context)

        return handle

    monkeypatch.setattr(world_module, "handler_of", handler_of)
    world.gate.around = made.around
    return made


def promotion_metadata(world: World, file_id: str) -> dict[str, str]:
    record = world.record(file_id)
    return {"source-etag": record.etag or "", "source-size": str(record.size), "file-id": file_id}


def live(world: World) -> None:
    """Every way that a file can take, in short."""
    get = lambda route, **path: world.call("sessions", "GET", route, path=path)  # noqa: E731
    ids = []
    for sample in SAMPLES:
        file_id = world.initiate(sample.name, sample.data)
        get("/v1/uploads/{id}", id=file_id)
        get("/v1/uploads/{id}/parts/{n}", id=file_id, n="1")
        world.put(file_id, sample.data)
        world.complete(file_id)
        ids.append(file_id)
    world.pump(copies=2)
    for file_id in ids:
        for route in ("/v1/files/{id}", "/v1/files/{id}/events", "/v1/files/{id}/content"):
            get(route, id=file_id)
        world.retry(file_id, force=True)
        world.pump()
    rejected = world.initiate("x.png", b"text")
    world.put(rejected, b"text")
    world.pump()
    world.retry(rejected)
    for _ in range(2):
        world.cancel(world.initiate(PICTURE.name, PICTURE.data))
    late = world.initiate(TEXT.name, TEXT.data)
    world.cancel(late)
    world.s3.put_object(Bucket=STAGING, Key=world.record(late).key, Body=b"late")
    world.pump()
    # Lost events, lapsed leases, last attempts, uploads that stand in assembling, sessions that end.
    for n, state in enumerate((State.ASSEMBLING, State.UPLOADING, State.STAGED, State.FRESH, State.CREATED)):
        sample = TEXT if state is State.CREATED else PICTURE
        file_id = world.initiate(sample.name, sample.data)
        if n != 1:
            world.put(file_id, sample.data)
        if state in {State.STAGED, State.FRESH}:
            world.complete(file_id)
        if state is State.ASSEMBLING:
            world.set(file_id, status=state)
        world.s3.created.clear()
    # A copy that an earlier attempt began.
    begun = world.initiate(PICTURE.name, PICTURE.data)
    world.put(begun, PICTURE.data)
    world.complete(begun)
    upload = world.s3.create_multipart_upload(
        Bucket=STORE,
        Key=keys.store("acme", begun),
        ContentType="image/png",
        Metadata=promotion_metadata(world, begun),
        ChecksumAlgorithm="CRC32",
        ChecksumType="FULL_OBJECT",
    )
    world.set(begun, store_upload_id=upload["UploadId"])
    world.pump()
    assert world.status(begun) == "completed"
    # One whose source is replaced under it.
    replaced = world.initiate(PICTURE.name, PICTURE.data)
    world.put(replaced, PICTURE.data)
    world.complete(replaced)
    world.set(replaced, status=State.PROMOTING)
    world.s3.put_object(Bucket=STAGING, Key=world.record(replaced).key, Body=b"other")
    world.pump()
    assert world.status(replaced) == "rejected"
    failing = world.initiate(PICTURE.name, PICTURE.data)
    world.put(failing, PICTURE.data)
    world.complete(failing)
    world.set(failing, attempt=5)
    world.s3.put_object(Bucket=STORE, Key="files/acme/01JD2Z3NDEKTSV4RRFFQ69G5FA", Body=b"nobody's")
    world.sweep_until_quiet()
    remains(world, ids)
    for _ in range(3):
        world.clock.advance(90 * 86_400)
        world.sweep()
    for query in ({}, {"status": "failed"}, {"kind": "image", "limit": "1"}, {"logical_id": "x"}):
        world.call("sessions", "GET", "/v1/files", query=query)
    live_batches(world)
    live_companion(world)
    live_scanned(world)
    archives.live(world)
    live_rechecked(world)
    # Repeated under a key: what is there is found.
    for _ in range(2):
        body = {"files": [{"name": PICTURE.name, "size": len(PICTURE.data)}]}
        world.call("initiate", "POST", "/v1/uploads", body=body, headers={"idempotency-key": "k"})
        world.call("initiate", "POST", "/v1/batches", body={"total": 1}, headers={"idempotency-key": "b"})
    get("/v1/stats")
    get("/v1/health")


def live_rechecked(world: World) -> None:
    """New rules for files that are stored."""
    for name, data in (("a.csv", b"a,b\n1,2\n"), (PICTURE.name, PICTURE.data)):
        file_id = world.initiate(name, data)
        world.put(file_id, data)
        world.complete(file_id)
        world.pump()
        assert world.retry(file_id, rules={"max_file_size": 5})[0] == 202
        world.queues.messages.clear()
        world.sweep_until_quiet()
        assert (world.record(file_id).report or {})["valid"] is False


def live_scanned(world: World) -> None:
    """The scanning gate: a verdict by event, one by tag, one that never comes."""
    settings_module.settings.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALWARE_SCAN", "strict")
        ids = [world.initiate(TEXT.name, TEXT.data) for _ in range(3)]
        for file_id in ids:
            world.put(file_id, TEXT.data)
        world.scanned(ids[0], "THREATS_FOUND")
        world.pump()
        world.s3.buckets[STAGING][world.record(ids[1]).key].tags["GuardDutyMalwareScanStatus"] = "NO_THREATS_FOUND"
        world.sweep_until_quiet()
    settings_module.settings.cache_clear()
    assert [world.status(file_id) for file_id in ids] == ["rejected", "completed", "failed"]


def remains(world: World, ids: list[str]) -> None:
    """Deletions, a long trail, and what crashes may leave in each bucket."""
    for file_id in ids[:2]:
        record = world.record(file_id)
        world.set(file_id, events=record.events * 40)
        world.retry(file_id, force=True)
        world.pump()
        world.call("sessions", "GET", "/v1/files/{id}/events", path={"id": file_id})
        world.call("complete", "DELETE", "/v1/files/{id}", path={"id": file_id})
    world.call("complete", "DELETE", "/v1/uploads", query={"status": "failed", "hours_old": "0"})
    stored = ids[2]
    for bucket, key in ((STAGING, world.record(stored).key), (STORE, keys.store("acme", stored))):
        world.s3.create_multipart_upload(Bucket=bucket, Key=key, ContentType="x/y", Metadata={})
    world.s3.put_object(Bucket=STAGING, Key=world.record(stored).key, Body=b"again")
    for key in (
        keys.work("acme", stored, "part"),
        keys.thumbnail("acme", stored, 99, 256),
        f"reports/acme/{ids[0]}/1.json",
        keys.manifest("acme", ids[0]),
    ):
        world.s3.put_object(Bucket=DERIVED, Key=key, Body=b"left behind")
    gone = world.initiate(PICTURE.name, PICTURE.data)
    world.cancel(gone)
    world.s3.put_object(Bucket=STORE, Key=keys.store("acme", gone), Body=b"late")
    world.clock.advance(4_000)
    world.sweep()


def live_companion(world: World) -> None:
    """A page with a ticket: a form, parts, a list before and after they are joined, and one that is given up."""
    page = Companion(world)
    page.post(page.params(), TEXT.data)
    upload = page.create()
    said = page.put(upload, [TEXT.data])
    page.list(upload)
    page.complete(upload, said)
    page.list(upload)
    page.abort(page.create())
    world.pump()


def live_batches(world: World) -> None:
    """Every way that a batch can take, in short."""
    files = {1: (TEXT.name, TEXT.data), 2: (PICTURE.name, PICTURE.data), 3: ("x.png", b"text"), 4: ("y.txt", b"y")}
    client = BatchClient(world, files)
    client.begin()
    client.list([1, 2], page=1)
    client.list([3, 4], page=2)
    client.send()
    client.begin_upload(4)
    client.complete()
    world.pump()
    client.look(wait="1")
    client.verdicts()
    world.call("sessions", "GET", "/v1/batches/{id}/studies", path={"id": client.batch_id})
    world.call("sessions", "GET", "/v1/files/{id}", path={"id": client.file_id(1)})
    world.retry(client.file_id(3))
    world.pump()
    client.post(4)  # after the end
    world.pump()
    for end in (client.cancel, client.complete, functools.partial(world.clock.advance, 8 * 86_400)):
        # One file is there, one upload is open, one is in its store already, the rest never come.
        client.begin()
        client.list()
        client.post(1)
        world.pump()
        client.begin_upload(2)
        client.begin_upload(2)
        client.post(4)
        end()
        world.sweep()
        world.pump()
        client.settle()
    # Its file has ended before its page is registered.
    client.begin(total=1)
    store.keep_entries("acme", client.batch_id, [Entry(1, TEXT.name, len(TEXT.data), page=1)])
    client.post(1)
    world.pump()
    client.list([1])
    assert client.look()["final"] is True
    # Two begin the same upload at the same moment.
    client.begin()
    client.list()
    plain = world.gate.around

    def twin(call: Call, run: Any) -> Any:
        if call.operation == "create_multipart_upload":
            world.gate.around = plain
            client.begin_upload(2)
        return plain(call, run) if plain else run()

    world.gate.around = twin
    assert client.begin_upload(2)[0] == 201
    assert len(world.s3.uploads) == 1
    client.cancel()
    # The batch is cancelled, and whoever did it was killed before he looked for its files.
    client.begin()
    client.list()
    _, upload = client.begin_upload(2)
    world.put(upload["upload_id"], PICTURE.data)
    world.complete(upload["upload_id"])
    store.update("acme", client.batch_id, lambda batch: replace(batch, status=BatchStatus.CANCELLED, version=9))
    world.pump()
    assert world.status(client.file_id(2)) == "cancelled"
    # Nobody but the reader is left to end it.
    client.files = {1: (TEXT.name, TEXT.data)}
    client.begin()
    client.list()
    client.post(1)
    world.pump()
    item = store.get("acme", client.batch_id)
    world.table.items.pop(("T#acme#B#" + client.batch_id, "B"))
    store.create(replace(item, status=BatchStatus.OPEN, finished_at=None, due_at=None, totals={}))
    assert client.look()["final"] is True


def live_slices(world: World, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Continuations and the retry clock: validate and thumbnail send to and change their own queue."""
    from heavylift import thumbnailing
    from heavylift.errors import TransientError
    from heavylift.image.thumbnails import Unfinished

    monkeypatch.setattr("heavylift.promotion.COPY_PARALLEL", 1)
    record_id = world.initiate(PICTURE.name, PICTURE.data)
    world.put(record_id, PICTURE.data)
    world.complete(record_id)
    plain = recorder.around

    def around(call: Call, run: Any) -> Any:
        world.context_left = 0 if call.operation == "upload_part_copy" else 300
        return plain(call, run)

    world.gate.around = around
    troubles = iter([TransientError("out_of_memory", "once"), Unfinished(7, bytearray(b"so far"))])

    def breaks(*given: Any) -> Any:
        for trouble in troubles:
            raise trouble
        assert given[4] == b"so far"
        return world_module.fake_thumbnails(*given)

    monkeypatch.setattr(thumbnailing, "make_thumbnails", breaks)
    world.pump()

    assert world.status(record_id) == "completed"


# --- exactly what is called: nothing missing, nothing too much

Pairs = frozenset[tuple[str, str]]
# What a role signs and gives away counts for it; sign makes its own requests of the table.
SIGNED = {
    ("sign", "s3:PutObject", "staging/in/*"): "tests/heavylift/api/test_sign.py",
    ("sign", "s3:PutObject", "staging/dicom/*"): "tests/heavylift/api/test_sign.py",
    ("sign", "dynamodb:GetItem", "table"): "tests/heavylift/api/test_sign.py",
    ("sign", "dynamodb:BatchGetItem", "table"): "tests/heavylift/api/test_sign_batches.py",
    **{
        ("sessions", "s3:GetObject", resource): "tests/functions/test_sessions.py"
        for resource in (
            "store/files/*",
            "store/dicom/*",
            "derived/thumbnails/*",
            "derived/reports/*",
            "derived/dicom/*",
        )
    },
}
OTHER_LANE = {
    "staging/in/*": "staging/dicom/*",
    "staging/dicom/*": "staging/in/*",
    "store/files/*": "store/dicom/*",
    "store/dicom/*": "store/files/*",
}
# What only faults, large files or rare ends call: the test that goes that way.
_ELSEWHERE: Mapping[str, Sequence[tuple[str, Sequence[str], Sequence[str]]]] = {
    # Archives larger than a slice, cut off in the middle, begun anew, or of a store without versions.
    "tests/faults/test_archive.py": (
        ("archive", ("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"), ("derived/work/*",)),
        ("archive", ("s3:GetObject", "s3:GetObjectAttributes"), ("store/files/*", "store/dicom/*")),
        ("archive", ("sqs:SendMessage", "sqs:ChangeMessageVisibility"), ("queue:archive",)),
        ("complete", ("s3:DeleteObject",), ("derived/archives/*",)),
        ("sweep", ("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"), ("derived/work/*",)),
        ("sweep", ("sqs:GetQueueAttributes",), ("queue:archive",)),
    ),
    # A file goes while it is copied or drawn: uploads and temporaries are there that a quiet deletion does not find.
    "tests/functions/test_delete.py": (
        ("complete", ("s3:AbortMultipartUpload",), ("store/files/*", "store/dicom/*")),
        ("complete", ("s3:DeleteObject",), ("derived/work/*",)),
        ("complete", ("s3:DeleteObject",), ("derived/dicom/*", "derived/frames/*")),
        ("sweep", ("s3:DeleteObject",), ("derived/frames/*",)),
    ),
    # The same of DICOM, in another's place; copies by parts; a trail that no longer fits its record.
    "tests/faults/test_dicom_faults.py": (
        ("dicom_ingest", ("s3:AbortMultipartUpload",), ("store/dicom/*",)),
        ("dicom_ingest", ("s3:DeleteObject",), ("derived/frames/*",)),
        ("dicom_ingest", ("s3:ListMultipartUploadParts",), ("staging/dicom/*", "staging/in/*")),
        ("dicom_ingest", ("s3:PutObject",), ("derived/manifests/*",)),
        ("sweep", ("s3:PutObject",), ("derived/dicom/*",)),
    ),
    "tests/functions/test_stow.py": (
        ("dicomweb", ("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"), ("store/dicom/*",)),
        (
            "dicomweb",
            ("s3:DeleteObject",),
            ("derived/dicom/*", "derived/frames/*", "derived/manifests/*", "derived/work/*"),
        ),
        ("dicomweb", ("s3:PutObject",), ("derived/manifests/*",)),
    ),
    # A worker died after its copy, or before its message; the store's event is faster than the record.
    "tests/faults/test_kills.py": (
        ("sweep", ("s3:GetObject",), ("store/files/*",)),
        ("sweep", ("sqs:GetQueueAttributes", "sqs:SendMessage"), ("queue:thumbnail",)),
        ("thumbnail", ("s3:GetObject",), ("store/files/*",)),
        ("validate", ("s3:PutObject",), ("derived/manifests/*",)),
    ),
    "tests/functions/test_tables.py": (
        ("validate", ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"), ("derived/work/*",)),
        ("validate", ("s3:ListBucket",), ("derived",)),
        ("validate", ("sqs:ChangeMessageVisibility",), ("queue:validate",)),
    ),
    "tests/faults/test_batches.py": (("validate", ("s3:ListMultipartUploadParts",), ("staging/in/*",)),),
}
ELSEWHERE = {
    (name, action, resource): proof
    for proof, groups in _ELSEWHERE.items()
    for name, actions, resources in groups
    for action in actions
    for resource in resources
}


def granted(functions: Iterable[topology.Function]) -> dict[str, Pairs]:
    """Function -> (action, resource) of everything that it may do."""
    return {
        one.name: frozenset(
            (action, resource) for allow in one.allows for action in allow.actions for resource in allow.resources
        )
        for one in functions
    }


def missing(grants: Mapping[str, Pairs], used: Mapping[str, set[tuple[str, str]]]) -> set[tuple[str, str, str]]:
    """Calls that a function would be refused."""
    return {
        (name, action, resource)
        for name, calls in used.items()
        for action, resource in calls
        if not any(action == one and fnmatch.fnmatchcase(resource, pattern) for one, pattern in grants[name])
    }


def needless(grants: Mapping[str, Pairs], used: Mapping[str, set[tuple[str, str]]]) -> set[tuple[str, str, str]]:
    """What a function may do and has not done."""
    return {
        (name, action, pattern)
        for name, pairs in grants.items()
        for action, pattern in pairs
        if not any(action == one and fnmatch.fnmatchcase(resource, pattern) for one, resource in used.get(name, ()))
    }


def test_policies_allow_what_is_called_and_nothing_else(
    world: World, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On all of a file's ways: no call would meet AccessDenied, and no permission is there that no call needs.

    And the comparison is awake: without any one permission of any policy something is missing, with any one more
    something is needless.
    """
    live(world)
    live_dicom(world)
    live_dicomweb(world)
    live_slices(world, recorder, monkeypatch)
    used, grants = recorder.used, granted(topology.FUNCTIONS)
    excused = {*SIGNED, *ELSEWHERE}
    # The lane stands in the record's key: code that does not look at it needs both where one was used.
    excused |= {
        (name, action, resource)
        for name, action, resource in needless(grants, used) - excused
        if (name, action, OTHER_LANE.get(resource, "")) not in needless(grants, used)
        and (action, OTHER_LANE.get(resource, "")) in grants[name]
    }

    assert set(used) == {f.name for f in topology.FUNCTIONS} - {"sign"}
    assert missing(grants, used) == set()
    assert needless(grants, used) - excused == set()
    assert excused - needless(grants, used) == set(), "this is called after all: it needs no excuse"
    everything = {pair for pairs in grants.values() for pair in pairs}
    for name, pairs in grants.items():
        for pair in pairs:
            if (name, *pair) not in excused:
                assert missing({**grants, name: pairs - {pair}}, {name: used[name]}), (name, pair)
        for pair in everything - pairs:
            more = needless({name: frozenset({pair})}, used)
            wide = any(pair[0] == one and fnmatch.fnmatchcase(pair[1], pattern) for one, pattern in pairs)
            assert more or wide, (name, pair)


def test_no_permission_is_given_twice() -> None:
    """One statement for an action on a resource: who takes one away takes it away."""
    for function in topology.FUNCTIONS:
        pairs = [(a, r) for allow in function.allows for a in allow.actions for r in allow.resources]
        assert sorted(pair for pair in set(pairs) if pairs.count(pair) > 1) == [], function.name


@pytest.mark.parametrize("proof", sorted({*SIGNED.values(), *ELSEWHERE.values()}))
def test_excuses_name_a_test_that_is_there(proof: str) -> None:
    """What is called elsewhere is called in that file."""
    assert (Path(__file__).parents[2] / proof).is_file()
