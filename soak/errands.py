"""What clients do, as a person or a script would: uploads, folders, cancels, archives, downloads, deletions.

Each errand ends with what the ledger may expect. Clients try again as the API tells them to; what they then see must
still be right.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import random
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from heavylift_client import ApiError, Client, ClientError
from heavylift_local.testing import CallFailed, RunningStack
from soak.ledger import ENDS_WELL, REFUSED, Ledger, Sent, Violation
from tests.doubles.dicom import ROOT, dicom

MIB: Final = 1 << 20
PATIENCE_S: Final = 300.0
LIVE_MAX: Final = 150  # files a tenant keeps: beyond, deletions come first, so that an hour fits on a small disk
RULES: Final = {"schema": {"fields": [{"name": "id", "type": "integer"}, {"name": "price", "type": "number"}]}}
_study = itertools.count(1)


@dataclass(slots=True)
class Clerk:
    """One client at work for a tenant, with a folder of its own."""

    stack: RunningStack
    tenant: str
    token: str
    ledger: Ledger
    folder: Path
    chance: random.Random
    stop: threading.Event
    numbers: Any = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = np.random.default_rng(self.chance.randrange(1 << 32))

    def client(self) -> Client:
        return Client(self.stack.api, self.token, concurrency=2, patience_s=PATIENCE_S)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return patiently(lambda: self.stack.request(method, path, body, self.token))


def patiently(action: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """A request again while the API answers 5xx: a killed function is no answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except CallFailed as failed:
            if failed.status < 500 or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


# --- what is sent


def picture(clerk: Clerk) -> bytes:
    """An uncompressed TIFF of noise and colour, 0.3 to 3 MB."""
    width, height = clerk.chance.randint(400, 1200), clerk.chance.randint(300, 900)
    pixels = clerk.numbers.integers(0, 255, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    pixels = pixels.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "TIFF", compression="raw")
    return out.getvalue()


def table(clerk: Clerk, *, defect: bool) -> bytes:
    rows = [f"{n},{clerk.chance.random():.3f}" for n in range(clerk.chance.randint(10, 5_000))]
    if defect:
        rows[clerk.chance.randrange(len(rows))] = "not a number,1.0"
    return ("id,price\n" + "\n".join(rows) + "\n").encode()


def send(clerk: Clerk, name: str, data: bytes, ends: frozenset[str], thumbnails: int = 0, **declared: Any) -> str:
    """Uploads by the real client, again until the bytes are in; the file's id."""
    path = clerk.folder / name
    path.write_bytes(data)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with clerk.client() as client:
            result = client.put(path, wait=False, **declared)
        if result.file_id is not None and result.failure is None:
            break
        if time.monotonic() > deadline:
            raise Violation(f"{name} could not be sent: {result.failure}")
        time.sleep(0.3)
    path.unlink()
    digest = hashlib.sha256(data).hexdigest()
    clerk.ledger.add(Sent(clerk.tenant, str(result.file_id), name, len(data), digest, ends, thumbnails))
    return str(result.file_id)


def see(clerk: Clerk, file_id: str) -> dict[str, Any]:
    record = dict(clerk.call("GET", f"/v1/files/{file_id}"))
    clerk.ledger.saw(file_id, record["status"])
    return record


def wait(clerk: Clerk, file_id: str) -> dict[str, Any]:
    """The record at its end; what failed for the world's reasons is taken up again, as a user would."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        record = see(clerk, file_id)
        if record["status"] == "failed" and record["failure"]["retryable"]:
            try:
                clerk.call("POST", f"/v1/uploads/{file_id}/retry", {})
            except CallFailed as refused:
                if refused.status != 409:  # somebody was faster
                    raise
        elif record["final"]:
            expected = clerk.ledger.sent[file_id].ends
            if record["status"] not in expected:
                raise Violation(f"{file_id} ended {record['status']}, not {sorted(expected)}: {record.get('failure')}")
            return record
        if time.monotonic() > deadline:
            raise Violation(f"{file_id} has not ended: {record['status']} for {PATIENCE_S:.0f} s")
        time.sleep(0.3)


def tag(clerk: Clerk) -> str:
    return f"{clerk.chance.randrange(1 << 40):010x}"


# --- errands


def send_picture(clerk: Clerk) -> None:
    wait(clerk, send(clerk, f"{tag(clerk)}.tif", picture(clerk), ENDS_WELL, 3))


def send_large(clerk: Clerk) -> None:
    """In parts: a little above the limit of a single PUT."""
    data = clerk.chance.randbytes(16 * MIB + clerk.chance.randint(1, MIB))
    wait(clerk, send(clerk, f"{tag(clerk)}.bin", data, ENDS_WELL))


def send_small(clerk: Clerk) -> None:
    wait(clerk, send(clerk, f"{tag(clerk)}.dat", clerk.chance.randbytes(clerk.chance.randint(1, 40_000)), ENDS_WELL))


def send_table(clerk: Clerk) -> None:
    defect = clerk.chance.random() < 0.4
    name, data = f"{tag(clerk)}.csv", table(clerk, defect=defect)
    file_id = send(clerk, name, data, REFUSED if defect else ENDS_WELL, kind="table", rules=RULES)
    wait(clerk, file_id)
    if defect:
        with clerk.client() as client:
            report = client.report(file_id)
        if report["valid"] or sum(report["counts"].values()) != 1:
            raise Violation(f"{file_id} has one defect, its report says {report['counts']}")


def send_liar(clerk: Clerk) -> None:
    """Text that calls itself a picture: refused by its content."""
    file_id = send(clerk, f"{tag(clerk)}.tif", f"no picture {tag(clerk)}\n".encode(), REFUSED)
    wait(clerk, file_id)


def send_folder(clerk: Clerk) -> None:
    """A folder of small files and one picture, as one batch."""
    with tempfile.TemporaryDirectory(dir=clerk.folder) as scratch:
        root = Path(scratch) / tag(clerk)
        (root / "deep").mkdir(parents=True)
        digests = {}
        for number in range(clerk.chance.randint(5, 25)):
            data = clerk.chance.randbytes(clerk.chance.randint(1, 20_000))
            path = root / ("deep" if number % 3 else "") / f"{number}.dat"
            path.write_bytes(data)
            digests[hashlib.sha256(data).hexdigest()] = (path.name, len(data), 0)
        data = picture(clerk)
        (root / "picture.tif").write_bytes(data)
        digests[hashlib.sha256(data).hexdigest()] = ("picture.tif", len(data), 3)
        batch = upload_folder(clerk, root, "other")
    if (batch["total"], batch["succeeded"]) != (len(digests), len(digests)) and batch["failed"] == 0:
        raise Violation(f"a folder of {len(digests)} files: {batch}")
    for member in members(clerk, batch["batch_id"]):
        record = see(clerk, member["file_id"])
        found = digests.get(record["checksums"].get("sha256") or "")
        if found is None:
            raise Violation(f"{member['file_id']} has bytes that were never sent")
        sha256 = record["checksums"]["sha256"]
        clerk.ledger.add(Sent(clerk.tenant, member["file_id"], found[0], found[1], sha256, ENDS_WELL, found[2]))
        wait(clerk, member["file_id"])


def send_study(clerk: Clerk) -> None:
    """A DICOM folder: a new study, or a part of one that is there, with a file twice and one that is none."""
    known = [study for tenant, study in list(clerk.ledger.studies) if tenant == clerk.tenant]
    if known and clerk.chance.random() < 0.3:
        number = int(clerk.chance.choice(known).rpartition(".")[2])
    else:
        number = next(_study)
    series, instances = clerk.chance.randint(1, 3), clerk.chance.randint(2, 8)
    study_uid = f"{ROOT}.{number}"
    clerk.ledger.add_instances(
        clerk.tenant, study_uid, {f"{number}.{s}.{i}" for s in range(1, series + 1) for i in range(1, instances + 1)}
    )
    with tempfile.TemporaryDirectory(dir=clerk.folder) as scratch:
        root = Path(scratch) / tag(clerk)
        root.mkdir()
        for one in range(1, series + 1):
            for instance in range(1, instances + 1):
                (root / f"IM{one}-{instance}").write_bytes(dicom(number, one, instance, edge=16))
        (root / "IM-again").write_bytes(dicom(number, 1, 1, edge=16))
        (root / "README.TXT").write_text("A disc with pictures.\n")
        batch = upload_folder(clerk, root, "dicom")
    total = series * instances + 2
    counted = batch["succeeded"] + batch["failed"] + batch["skipped"] + batch["duplicates"]
    if batch["total"] != total or counted != total or batch["skipped"] != 1:
        raise Violation(f"a study of {total} files: {batch}")


def upload_folder(clerk: Clerk, root: Path, kind: str) -> dict[str, Any]:
    """A folder as one batch, again by the same call until it has ended; the batch's body."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with clerk.client() as client:
            upload = client.upload_batch(root, kind=kind, state_dir=clerk.folder / "state")
            try:
                with upload as batch:
                    for _ in batch:
                        pass
                    record = batch.record
            except ClientError as error:
                record, trouble = None, error
            else:
                trouble = None
        if record is not None:
            clerk.ledger.add_batch(clerk.tenant, record["batch_id"])
            if record["status"] in ("completed", "completed_with_errors"):
                return dict(record)
        if time.monotonic() > deadline:
            raise Violation(f"a folder has not ended: {record or trouble}")
        time.sleep(0.5)


def members(clerk: Clerk, batch_id: str) -> list[dict[str, Any]]:
    found, token = [], ""
    while True:
        page = clerk.call("GET", f"/v1/batches/{batch_id}/files?limit=100{token}")
        found += page["items"]
        if not page["next_token"]:
            return found
        token = f"&next_token={page['next_token']}"


def give_up(clerk: Clerk) -> None:
    """An upload that is left alone, or cancelled, after some of its parts."""
    entry = {"client_id": "1", "name": f"{tag(clerk)}.bin", "size": 40 * MIB}
    (opened,) = clerk.call("POST", "/v1/uploads", {"files": [entry]})["uploads"]
    upload_id = opened["upload_id"]
    if clerk.chance.random() < 0.7:
        clerk.call("DELETE", f"/v1/uploads/{upload_id}")
        status = clerk.call("GET", f"/v1/uploads/{upload_id}")["status"]
        if status != "cancelled":
            raise Violation(f"{upload_id} was cancelled and is {status}")


def cancel_late(clerk: Clerk) -> None:
    """A cancel that races with the file's own life: whichever wins, the end is one of the two."""
    name, data = f"{tag(clerk)}.tif", picture(clerk)
    file_id = send(clerk, name, data, ENDS_WELL | {"cancelled"}, 3)
    time.sleep(clerk.chance.uniform(0, 1))
    try:
        clerk.call("DELETE", f"/v1/uploads/{file_id}")
    except CallFailed as refused:
        if refused.status != 409:
            raise
    wait(clerk, file_id)


def read_back(clerk: Clerk) -> None:
    files = clerk.ledger.take(clerk.tenant, clerk.chance, 1)
    try:
        for one in files:
            with clerk.client() as client:
                client.get(one.file_id, clerk.folder / "copy")
            copy = clerk.folder / "copy"
            if hashlib.sha256(copy.read_bytes()).hexdigest() != one.sha256:
                raise Violation(f"{one.file_id} came back with other bytes")
            copy.unlink()
    finally:
        clerk.ledger.give_back(files)


def build_archive(clerk: Clerk) -> None:
    """A ZIP of some files, downloaded and compared member by member."""
    files = clerk.ledger.take(clerk.tenant, clerk.chance, clerk.chance.randint(1, 6))
    if not files:
        return
    try:
        wanted: Mapping[str, Any] = {"file_ids": [one.file_id for one in files], "package": "plain"}
        out = clerk.folder / "archive.zip"
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with clerk.client() as client:
                body = client.archive(wanted, out)
            if body["status"] == "completed":
                break
            if body["status"] != "failed" or time.monotonic() > deadline:
                raise Violation(f"an archive ended {body['status']}: {body.get('failure')}")
        with zipfile.ZipFile(out) as archive:
            if (bad := archive.testzip()) is not None:
                raise Violation(f"{body['archive_id']} has a bad member {bad}")
            found = {hashlib.sha256(archive.read(one)).hexdigest() for one in archive.namelist()}
        out.unlink()
        if missing := [one.file_id for one in files if one.sha256 not in found]:
            raise Violation(f"{body['archive_id']} lacks {missing}")
        clerk.ledger.archives += 1
    finally:
        clerk.ledger.give_back(files)


def delete_some(clerk: Clerk) -> None:
    for one in clerk.ledger.take(clerk.tenant, clerk.chance, clerk.chance.randint(1, 4), to_delete=True):
        try:
            clerk.call("DELETE", f"/v1/files/{one.file_id}")
        except CallFailed as refused:
            if refused.status not in (404, 410):  # an earlier try has arrived
                raise


def look_around(clerk: Clerk) -> None:
    """Lists, statistics and health answer, and no count is more than was ever sent."""
    clerk.call("GET", "/v1/files?limit=50")
    clerk.call("GET", "/v1/stats")
    clerk.call("GET", "/v1/health")
    for batch_id, tenant in list(clerk.ledger.batches.items())[-5:]:
        if tenant != clerk.tenant:
            continue
        batch = clerk.call("GET", f"/v1/batches/{batch_id}")
        if batch["processed"] > batch["total"]:
            raise Violation(f"{batch_id} has processed {batch['processed']} of {batch['total']}")
        for study in clerk.call("GET", f"/v1/batches/{batch_id}/studies")["items"]:
            most = len(clerk.ledger.studies.get((tenant, study["study_uid"]), ()))
            if study["instances"] > most:
                raise Violation(f"{study['study_uid']} shows {study['instances']} instances of {most}")


ERRANDS: Final[Mapping[Callable[[Clerk], None], int]] = {
    send_picture: 6,
    send_large: 2,
    send_small: 5,
    send_table: 4,
    send_liar: 1,
    send_folder: 2,
    send_study: 3,
    give_up: 2,
    cancel_late: 2,
    read_back: 4,
    build_archive: 3,
    delete_some: 2,
    look_around: 2,
}


def work(clerk: Clerk) -> None:
    """Errands until told to stop. Raises Violation; what a client reports as an error is one, too."""
    choices, weights = list(ERRANDS), list(ERRANDS.values())
    while not clerk.stop.is_set():
        crowded = sum(one.tenant == clerk.tenant for one in clerk.ledger.live()) > LIVE_MAX
        errand = delete_some if crowded else clerk.chance.choices(choices, weights)[0]
        try:
            errand(clerk)
        except (ApiError, ClientError, CallFailed) as error:
            raise Violation(f"{errand.__name__}: {error}") from error
        clerk.ledger.did(errand.__name__)
