"""What every operation is given: configuration, records, and the questions "may they?" and "is it there?"."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from heavylift_local.s3 import events, policy
from heavylift_local.s3.config import Caller, Config
from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.events import Outbox
from heavylift_local.s3.request import Request
from heavylift_local.s3.store import Bucket, ObjectRecord, Store, Writing


@dataclass(slots=True)
class Service:
    config: Config
    store: Store
    outbox: Outbox
    callers: Mapping[str, Caller] = field(default_factory=dict)  # by access key
    now: Callable[[], float] = time.time  # seconds since 1970; a test may move it

    def bucket(self, name: str) -> Bucket:
        """Raises NoSuchBucket."""
        bucket = self.store.buckets.get(name)
        if bucket is None:
            raise S3Error("NoSuchBucket", fields={"BucketName": name})
        return bucket

    def may(self, request: Request, action: str, resource: str) -> bool:
        return request.caller is not None and policy.is_allowed(request.caller, action, resource)

    def authorize(self, request: Request, action: str, resource: str) -> None:
        """Raises AccessDenied unless the caller is allowed *action* on *resource*."""
        if not self.may(request, action, resource):
            if request.caller is None:
                raise S3Error("AccessDenied")
            raise S3Error("AccessDenied", policy.denied_sentence(self.config, request.caller, action, resource))

    def absent(self, request: Request, bucket: str, error: S3Error) -> S3Error:
        """The answer for a key that is not there: who may not list the bucket must not learn it."""
        return error if self.may(request, "s3:ListBucket", bucket) else S3Error("AccessDenied")

    def origin(self, request: Request) -> events.Origin:
        return events.Origin(self.config.account, self.config.region, request.request_id, request.peer)

    def put(self, tx: Writing, request: Request, bucket: Bucket, record: ObjectRecord, reason: str) -> ObjectRecord:
        """Swap *record* in and, where events are wanted, write its event in the same transaction."""
        stored = tx.put(bucket, record)
        if self.outbox.sink is not None:
            tx.add_event(events.created(stored, reason, self.origin(request), versioned=bool(bucket.versioning)))
        return stored

    def note_deleted(
        self, tx: Writing, request: Request, bucket: Bucket, key: str, version: str, *, seq: int, marker: bool
    ) -> None:
        if self.outbox.sink is not None:
            shown = version if bucket.versioning else None
            tx.add_event(events.deleted(bucket.name, key, seq, self.origin(request), version=shown, marker=marker))
