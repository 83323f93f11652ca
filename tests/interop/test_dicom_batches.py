"""Folders of DICOM files through the whole local stack: the client, S3, events, queues, the functions, the table."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from heavylift_client import Client
from heavylift_local.testing import RunningStack, running_stack
from tests.doubles.dicom import DS_STORE, ROOT, dicom, zipped
from tests.interop.conftest import Desk

pytestmark = pytest.mark.xdist_group("stack")
PEAK_BYTES_MAX = 60 << 20  # of 512 MB; 38 MB measured, whatever the number of files


def write_folder(root: Path, studies: int, series: int, instances: int, *, edge: int = 16) -> Path:
    """A disc as scanners write it: one folder a series, names without extension."""
    for study in range(1, studies + 1):
        for one in range(1, series + 1):
            folder = root / f"ST{study}" / f"SE{one}"
            folder.mkdir(parents=True)
            for number in range(1, instances + 1):
                (folder / f"IM{number}").write_bytes(dicom(study, one, number, edge=edge))
    return root


def upload(client: Client, root: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines of all files, and the batch."""
    with client.upload_batch(root, kind="dicom") as batch:
        lines = [result.line() for result in batch]
        assert batch.record is not None
        return lines, dict(batch.record)


def studies_of(desk: Desk, batch_id: str) -> dict[str, int]:
    answer = desk.call("GET", f"/v1/batches/{batch_id}/studies")
    return {one["study_uid"]: one["instances"] for one in answer["items"]}


def peak_of(stack: RunningStack) -> int:
    """The highest VmHWM of dicom_ingest's sandboxes, read from outside."""
    peak = 0
    for process in psutil.Process(stack.pids["up"]).children(recursive=True):
        try:
            if process.environ().get("AWS_LAMBDA_FUNCTION_NAME") == "dicom_ingest":
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = max(peak, int(status.split("VmHWM:")[1].split()[0]) * 1024)
        except (psutil.Error, OSError, IndexError):
            continue  # it ended meanwhile
    return peak


def test_a_folder_becomes_studies(desk: Desk, tmp_path: Path) -> None:
    """Sixty files and what lies beside them, with a ZIP of a further series."""
    root = write_folder(tmp_path / "disc", 2, 2, 15)
    (root / ".DS_Store").write_bytes(DS_STORE)
    (root / "README.TXT").write_text("A disc with pictures.\n")
    (root / "again").write_bytes(dicom(1, 1, 1, edge=16))
    (root / "more.zip").write_bytes(zipped({f"SE3/IM{n}": dicom(1, 3, n) for n in range(1, 6)}, 8))
    with desk.client() as client:
        lines, batch = upload(client, root)

    assert batch["status"] == "completed", batch
    assert (batch["total"], batch["succeeded"], batch["skipped"], batch["duplicates"]) == (68, 65, 2, 1)
    assert Counter(line["status"] for line in lines) == {
        "completed": 65, "skipped": 2, "duplicate": 1, "expanded": 1
    }  # fmt: skip
    assert studies_of(desk, batch["batch_id"]) == {f"{ROOT}.1": 35, f"{ROOT}.2": 30}
    stored = desk.keys("store", f"dicom/{desk.tenant}/")
    assert len(stored) == 65
    assert len(desk.keys("staging", f"dicom/{desk.tenant}/")) == 2  # what was skipped, in quarantine
    first = next(line for line in lines if line["status"] == "completed")
    record = desk.call("GET", f"/v1/files/{first['file_id']}")
    assert record["checksums"]["sha256_proven"] is True
    link = desk.call("GET", f"/v1/files/{first['file_id']}/content?redirect=false")["url"]
    assert f"/dicom/{desk.tenant}/" in link
    assert 0 < peak_of(desk.stack) <= PEAK_BYTES_MAX


@contextmanager
def poller(desk: Desk, ids: list[str]) -> Iterator[list[dict[str, int]]]:
    """Reads the studies of batches over and over; what it has seen."""
    seen: list[dict[str, int]] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for batch_id in list(ids):
                seen.append(studies_of(desk, batch_id))
            time.sleep(0.2)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def falls(seen: list[dict[str, int]]) -> list[tuple[str, int, int]]:
    """Where a number was smaller than one that was read before."""
    last: dict[str, int] = {}
    found = []
    for one in seen:
        for uid, number in one.items():
            if number < last.get(uid, 0):
                found.append((uid, last[uid], number))
            last[uid] = number
    return found


def batch_ids(stack: RunningStack) -> list[str]:
    """The batches whose files lie in staging."""
    desk = own_desk(stack, "clinic")
    return sorted({key.split("/")[2] for key in desk.keys("staging", "dicom/clinic/")})


def own_desk(stack: RunningStack, tenant: str) -> Desk:
    return Desk(stack, stack.token(tenant), tenant)


@pytest.mark.full
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(
    ("studies", "series", "instances", "faults"),
    [(5, 4, 100, False), (5, 4, 100, True), (2, 2, 15, True)],
    ids=["2000 calm", "2000 with faults", "60 with faults"],
)
def test_two_thousand_instances(tmp_path: Path, studies: int, series: int, instances: int, faults: bool) -> None:
    """2,000 files of five studies: one verdict each, exact counts at the end and never a wrong one meanwhile; again
    with doubled events and killed functions, and the folder uploaded twice at the same time."""
    total = studies * series * instances
    roots = [
        write_folder(tmp_path / f"disc{n}", studies, series, instances, edge=64) for n in range(2 if faults else 1)
    ]
    with running_stack(env={"HEAVYLIFT_TIME_SCALE": "10"}) as stack:
        desk = own_desk(stack, "clinic")
        if faults:
            stack.faults(
                {"events": {"copies": 2, "reverse": True, "seed": 1}, "functions": {"dicom_ingest": {"kill": 0.05}}}
            )
        found: list[tuple[list[dict[str, Any]], dict[str, Any]]] = []
        before = stack.counters()

        def one(root: Path) -> None:
            with desk.client() as client:
                found.append(upload(client, root))

        threads = [threading.Thread(target=one, args=(root,)) for root in roots]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        ids: list[str] = []
        with poller(desk, ids) as seen:
            while any(thread.is_alive() for thread in threads):
                ids[:] = batch_ids(stack)
                time.sleep(0.5)
            time.sleep(1)
        took_s = time.monotonic() - began
        counters = stack.counters()

        outcomes: Counter[str] = Counter()
        for lines, batch in found:
            assert batch["final"], batch
            assert batch["processed"] == batch["total"] == total
            outcomes.update(line["status"] for line in lines)
        assert len(found) == len(roots)
        assert outcomes == ({"completed": total, "duplicate": total} if faults else {"completed": total})
        for _, batch in found:
            assert studies_of(desk, batch["batch_id"]) == {
                f"{ROOT}.{n}": series * instances for n in range(1, studies + 1)
            }
        assert falls(seen) == []
        mine = counters["dicom_ingest"]
        units = sum(one.get("write_units", 0) for name, one in mine.items() if name.startswith("dynamodb."))
        gets = mine["s3.GetObject"]["requests"] - before.get("dicom_ingest", {}).get("s3.GetObject", {}).get(
            "requests", 0
        )
        print({"files": total * len(found), "seconds": round(took_s, 1), "write_units": units, "gets": gets})
        if not faults:
            assert units <= 5_000
            assert gets <= 1.02 * total
