"""What must be true when everything has come to rest: S3 and the API against the ledger."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import boto3
from botocore.config import Config

from heavylift_local.testing import RunningStack
from soak.errands import Clerk, members, patiently, see, wait
from soak.ledger import Ledger, Violation

REST_S: Final = 300.0


def inspect(
    stack: RunningStack, clerks: dict[str, Clerk], ledger: Ledger, *, after: int, time_scale: float
) -> list[str]:
    """Every violation that is found, in words; an empty list is what is wanted. Weather must be calm.

    ``after``: the last event of the bus that the ledger knows.
    """
    found: list[str] = []
    store = _Store(stack)

    def judge(what: str, check: Callable[[], Iterator[str]]) -> None:
        try:
            found.extend(f"{what}: {one}" for one in check())
        except Violation as violation:
            found.append(f"{what}: {violation}")

    judge("rest", lambda: _rest(stack))
    judge("ends", lambda: _ends(clerks, ledger))
    judge("abandoned", lambda: _abandoned(clerks))
    judge("rest", lambda: _rest(stack))
    for _ in range(2):  # what the first run removes may be the owner of what the second removes
        patiently(lambda: stack.invoke("sweep", {}))
        judge("rest", lambda: _rest(stack))
    listen(stack, ledger, after)
    judge("announcements", lambda: _announcements(ledger))
    judge("bytes", lambda: _bytes(store, ledger))
    judge("owners", lambda: _owners(store, clerks))
    judge("pictures", lambda: _pictures(store, ledger))
    judge("leftovers", lambda: _leftovers(store, clerks, time_scale))
    judge("batches", lambda: _batches(clerks, ledger))
    judge("studies", lambda: _studies(clerks, ledger))
    return found


class _Store:
    """S3 by the developer's keys."""

    def __init__(self, stack: RunningStack) -> None:
        ready = stack.ready
        self.buckets = ready["buckets"]
        self.s3 = boto3.client(
            "s3",
            endpoint_url=stack.s3,
            region_name=ready["region"],
            aws_access_key_id=ready["s3_access_key"],
            aws_secret_access_key=ready["s3_secret_key"],
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def keys(self, bucket: str, prefix: str = "") -> dict[str, int]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.buckets[bucket], Prefix=prefix)
        return {one["Key"]: one["Size"] for page in pages for one in page.get("Contents", ())}

    def versions(self, bucket: str) -> tuple[list[str], list[str]]:
        """Keys of all versions, keys of all delete markers."""
        pages = list(self.s3.get_paginator("list_object_versions").paginate(Bucket=self.buckets[bucket]))
        return (
            [one["Key"] for page in pages for one in page.get("Versions", ())],
            [one["Key"] for page in pages for one in page.get("DeleteMarkers", ())],
        )

    def uploads(self, bucket: str) -> list[str]:
        return [one["Key"] for one in self.s3.list_multipart_uploads(Bucket=self.buckets[bucket]).get("Uploads", ())]

    def digest(self, bucket: str, key: str) -> str:
        digest = hashlib.sha256()
        for chunk in self.s3.get_object(Bucket=self.buckets[bucket], Key=key)["Body"].iter_chunks(1 << 20):
            digest.update(chunk)
        return digest.hexdigest()


def _until_none(probe: Callable[[], list[str]], seconds: float) -> list[str]:
    """What is still there after so many seconds."""
    deadline = time.monotonic() + seconds
    while (found := probe()) and time.monotonic() < deadline:
        time.sleep(1)
    return found


def _rest(stack: RunningStack) -> Iterator[str]:
    def busy() -> list[str]:
        queues = stack.state()["queues"]
        return [name for name, one in queues.items() if one["visible"] or one["in_flight"] or one["delayed"]]

    yield from (f"queue {name} does not come to rest" for name in _until_none(busy, REST_S))


def _ends(clerks: dict[str, Clerk], ledger: Ledger) -> Iterator[str]:
    for sent in ledger.live():
        try:
            wait(clerks[sent.tenant], sent.file_id)
        except Violation as violation:
            yield str(violation)
    for file_id in ledger.deleted:
        status = see(clerks[ledger.sent[file_id].tenant], file_id)["status"]
        if status != "deleted":
            yield f"{file_id} was deleted and is {status}"


def _abandoned(clerks: dict[str, Clerk]) -> Iterator[str]:
    """Sessions whose client went away, or never heard of them: cancelled by hand, and gone."""
    for clerk in clerks.values():
        for one in listed(clerk, "/v1/uploads?status=uploading"):
            clerk.call("DELETE", f"/v1/uploads/{one['upload_id']}")
            status = clerk.call("GET", f"/v1/uploads/{one['upload_id']}")["status"]
            if status not in ("cancelled", "completed", "staged"):
                yield f"{one['upload_id']} was cancelled and is {status}"


def listen(stack: RunningStack, ledger: Ledger, after: int) -> int:
    """Hands the ledger what the bus has taken since an earlier call; the number to go on from."""
    while True:
        answer = stack.local("GET", f"bus?after={after}")
        for event in answer["events"]:
            ledger.heard(event)
        if answer["last"] == after:
            return int(after)
        after = answer["last"]


def _announcements(ledger: Ledger) -> Iterator[str]:
    """Each end was told, under one id however often."""
    for sent in [*ledger.sent.values()]:
        told = ledger.told.get(sent.file_id, {})
        status = "deleted" if sent.file_id in ledger.deleted else ledger.last(sent.file_id)
        if f"file.{status}" not in told:
            yield f"{sent.file_id} is {status}, of which nobody was told: {sorted(told)}"
        for kind, ids in told.items():
            # A failure may come again after a retry: another end with an id of its own.
            if len(ids) > 1 and kind != "file.failed":
                yield f"{kind} of {sent.file_id} was told under {len(ids)} ids"


def _bytes(store: _Store, ledger: Ledger) -> Iterator[str]:
    """Each file that ended well is in the store once, with the bytes that were sent."""
    for sent in ledger.live():
        if sent.ends == frozenset({"rejected"}) or ledger.last(sent.file_id) != "completed":
            continue
        digest = store.digest("store", f"files/{sent.tenant}/{sent.file_id}")
        if digest != sent.sha256:
            yield f"{sent.file_id} has other bytes in the store"


def _owners(store: _Store, clerks: dict[str, Clerk]) -> Iterator[str]:
    """Each object of the store belongs to one record that says so, in one version."""
    versions, markers = store.versions("store")
    if len(versions) != len(set(versions)):
        yield f"{len(versions) - len(set(versions))} objects have more than one version"
    if markers:
        yield f"{len(markers)} delete markers"
    for key in versions:
        _, tenant, file_id = key.split("/")
        status = clerks[tenant].call("GET", f"/v1/files/{file_id}")["status"]
        if status not in ("completed", "completed_with_errors"):
            yield f"{key} belongs to a file that is {status}"


def _pictures(store: _Store, ledger: Ledger) -> Iterator[str]:
    """Three thumbnails of every picture, made once, and none of anything else."""
    made: dict[str, int] = {}
    for key in store.keys("derived", "thumbnails/"):
        file_id = key.split("/")[2]
        made[file_id] = made.get(file_id, 0) + 1
    for sent in ledger.live():
        wanted = sent.thumbnails if ledger.last(sent.file_id) == "completed" else 0
        if made.get(sent.file_id, 0) != wanted:
            yield f"{sent.file_id} ({sent.name}) has {made.get(sent.file_id, 0)} thumbnails, not {wanted}"
    for file_id in ledger.deleted & made.keys():
        yield f"{file_id} was deleted and has thumbnails"


def _leftovers(store: _Store, clerks: dict[str, Clerk], time_scale: float) -> Iterator[str]:
    """Nothing in staging but what was refused, no open upload, no temporary object."""

    def staged() -> list[str]:
        left = []
        for key in store.keys("staging"):
            parts = key.split("/")
            file_id = parts[2] if len(parts) == 3 else f"{parts[2]}-{int(parts[3]):06d}"
            record = clerks[parts[1]].call("GET", f"/v1/files/{file_id}")
            if record["status"] not in ("rejected", "skipped"):
                left.append(f"{key} in staging belongs to a file that is {record['status']}")
        return left

    # The sweeper looks at what is a minute old by the stack's clock, every quarter of an hour of it.
    seconds = 60 + 3 * 15 * 60 / time_scale
    yield from _until_none(staged, seconds)
    for bucket in ("staging", "store", "derived"):
        uploads = _until_none(lambda bucket=bucket: store.uploads(bucket), seconds)  # type: ignore[misc]
        yield from (f"an open upload of {key} in {bucket}" for key in uploads)
    yield from (f"{key} in derived" for key in _until_none(lambda: list(store.keys("derived", "work/")), seconds))


def _batches(clerks: dict[str, Clerk], ledger: Ledger) -> Iterator[str]:
    """Every batch has ended, and its numbers are those of its members."""
    for batch_id, tenant in ledger.batches.items():
        batch = clerks[tenant].call("GET", f"/v1/batches/{batch_id}")
        if batch["status"] not in ("completed", "completed_with_errors") or not batch["final"]:
            yield f"{batch_id} is {batch['status']}"
        counted = sum(batch[name] for name in ("succeeded", "failed", "skipped", "duplicates"))
        rows = members(clerks[tenant], batch_id)
        if not batch["total"] == batch["processed"] == counted == len(rows):
            yield f"{batch_id}: total {batch['total']}, processed {batch['processed']}, {counted}, {len(rows)} members"


def _studies(clerks: dict[str, Clerk], ledger: Ledger) -> Iterator[str]:
    """Each study has exactly the instances that were sent, however often."""
    shown: dict[tuple[str, str], int] = {}
    for batch_id, tenant in ledger.batches.items():
        for study in clerks[tenant].call("GET", f"/v1/batches/{batch_id}/studies")["items"]:
            shown[tenant, study["study_uid"]] = study["instances"]
    for key, instances in ledger.studies.items():
        if shown.get(key) != len(instances):
            yield f"{key[1]} of {key[0]} shows {shown.get(key)} instances, {len(instances)} were sent"


def listed(clerk: Clerk, path: str) -> list[dict[str, Any]]:
    """All pages of a list."""
    found, token = [], ""
    while True:
        page = clerk.call("GET", f"{path}{token}")
        found += page["items"]
        if not page["next_token"]:
            return found
        token = f"&next_token={page['next_token']}"
