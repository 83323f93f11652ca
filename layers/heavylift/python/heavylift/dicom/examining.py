"""What a small member of a batch is: one HEAD, one ranged GET, the attributes of the index. One of the few with I/O.

Where its batch or tenant asks for it, what is looked at from here on is the de-identified copy (``rewriting``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heavylift import s3
from heavylift.batches.manifest import Entry
from heavylift.batches.model import Batch
from heavylift.dicom import bundles, expanding, header, instances, rewriting, settling, single, verdicts
from heavylift.dicom.bundles import Member
from heavylift.dicom.instances import Identity, Instance
from heavylift.dicom.settling import Placed
from heavylift.errors import ContentError, TransientError
from heavylift.messages import Delivery
from heavylift.ranges import Fetch
from heavylift.records import FileRecord
from heavylift.settings import settings


@dataclass(slots=True)
class Job:
    """One small member of a batch on its way through a group."""

    tenant: str
    file_id: str
    deliveries: list[Delivery]
    batch: Batch
    entry: Entry
    record: FileRecord
    head: s3.Head | None = None
    found: header.Header | None = None
    instance: Instance | None = None
    placed: Placed | None = None
    checksums: Mapping[str, Any] = field(default_factory=dict)
    inside: tuple[FileRecord, str, Member] | None = None
    """The bundle that it is a member of, the bundle's kind, its place there; None: it has an object of its own."""
    member: expanding.MemberSource | None = None
    rewritten: rewriting.Rewritten | None = None
    """What is stored in its place; ``place``: where S3 may copy of."""
    place: rewriting.Place | None = None
    is_bundle: bool = False
    bytes_read: int = 0
    requests: int = 0
    over: bool = False
    """Nothing more is to be done: it failed, is gone, or is somebody else's."""

    @property
    def n(self) -> int:
        return self.entry.n

    @property
    def again(self) -> bool:
        """Whether an earlier attempt may have been killed at any place."""
        return any(delivery.receive_count > 1 for delivery in self.deliveries)


def examine(job: Job) -> None:
    """Find out what the file is. Its own faults are its verdict; TransientError for what a retry may mend."""
    if job.inside is not None:
        _examine_inside(job)
        return
    head = s3.head(settings().staging_bucket, job.record.key)
    if head is None:
        # Gone: a cancel or a twin was faster. A twin deletes it when all is done.
        job.over = True
        return
    job.head = head
    source = s3.ObjectSource(settings().staging_bucket, job.record.key, head.size_bytes, head.etag, head.version_id)
    first: list[bytes] = []

    def fetch(offset: int, length: int) -> bytes:
        data = source.read(offset, length)
        if offset == 0:
            first.append(data[: bundles.HEAD_BYTES])
        return data

    try:
        job.checksums = single.proven(job.record, head, source)
        if rewriting.wanted(job.tenant, job.batch.metadata):
            job.place = rewriting.Place(source.bucket, source.key, source.etag)
            _rewrite(job, fetch, head.size_bytes, head.etag)
        else:
            job.found = header.scan(fetch, head.size_bytes)
            identity = settling.identity_of(head)
            job.instance = instances.instance_of(job.found, job.file_id, identity, time.time())
    except ContentError as error:
        if error.code == "source_changed":
            raise TransientError(error.code, error.message) from error
        job.is_bundle = bool(first) and error.code in bundles.MAY_BE and bundles.kind_of(first[0]) is not None
        job.placed = None if job.is_bundle else Placed(verdicts.refused(error))
    job.bytes_read = source.traffic.bytes_in
    job.requests = source.traffic.requests + 1


def _rewrite(job: Job, fetch: Fetch, size_bytes: int, etag: str) -> None:
    job.rewritten = rewriting.rewrite(fetch, size_bytes, etag, job.tenant)
    job.found = job.rewritten.header
    job.checksums = {}
    job.instance = rewriting.instance_of(job.rewritten, job.file_id)


def _examine_inside(job: Job) -> None:
    """The same for a bundle's member."""
    assert job.inside is not None
    bundle, kind, member = job.inside
    whole = s3.ObjectSource(settings().staging_bucket, bundle.key, bundle.size, bundle.etag or "")
    try:
        job.member = expanding.MemberSource(whole, kind, member)
        if rewriting.wanted(job.tenant, job.batch.metadata):
            _rewrite(job, job.member.read, member.size, f"{bundle.etag}/{member.offset}")
            job.place = job.member.place()
        else:
            job.found = header.scan(job.member.read, member.size)
            identity = Identity(member.size, "", crc32=expanding.crc32_base64(member))
            job.instance = instances.instance_of(job.found, job.file_id, identity, time.time())
    except ContentError as error:
        if error.code == "source_changed":
            raise TransientError(error.code, error.message) from error
        job.placed = Placed(verdicts.refused(error))
    job.bytes_read = whole.traffic.bytes_in
    job.requests = whole.traffic.requests
