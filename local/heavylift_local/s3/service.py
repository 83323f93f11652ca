"""What every operation is given: configuration, records, and the questions "may they?" and "is it there?"."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from heavylift_local.s3 import bucketpolicy, events, lifecycle, policy
from heavylift_local.s3.conditions import http_date
from heavylift_local.s3.config import Caller, Config
from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.events import Outbox
from heavylift_local.s3.request import Request
from heavylift_local.s3.store import Bucket, ObjectRecord, Store, UploadRecord, Writing


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
        """By the caller's own rights and the bucket's policy: a deny of either outweighs, an allow of either does."""
        if request.caller is None:
            return False
        verdict = self._verdict(request, request.caller, action, resource)
        if verdict == bucketpolicy.DENY:
            return False
        return verdict == bucketpolicy.ALLOW or policy.is_allowed(request.caller, action, resource)

    def _verdict(self, request: Request, caller: Caller, action: str, resource: str) -> str | None:
        """What the policy of the resource's bucket says of this request."""
        bucket = self.store.buckets.get(resource.partition("/")[0])
        if bucket is None or bucket.policy is None:
            return None
        context: dict[str, str | float] = {"aws:securetransport": "false", "s3:signatureversion": "AWS4-HMAC-SHA256"}
        if request.signed is not None:
            kinds = {"header": "REST-HEADER", "query": "REST-QUERY-STRING", "form": "POST"}
            context["s3:authtype"] = kinds[request.signed.mechanism]
            if request.signed.mechanism == "query":
                context["s3:signatureage"] = (self.now() - request.signed.signed_at) * 1000
        if "prefix" in request.query:
            context["s3:prefix"] = request.query["prefix"]
        principal = f"arn:aws:iam::{self.config.account}:role/{caller.name}"
        return bucket.policy.verdict(principal, action, resource, context)

    def authorize(self, request: Request, action: str, resource: str) -> None:
        """Raises AccessDenied unless the caller is allowed *action* on *resource*."""
        if not self.may(request, action, resource):
            if request.caller is None:
                raise S3Error("AccessDenied")
            denied = self._verdict(request, request.caller, action, resource) == bucketpolicy.DENY
            raise S3Error(
                "AccessDenied", policy.denied_sentence(self.config, request.caller, action, resource, by_bucket=denied)
            )

    def expiration(self, bucket: Bucket, record: ObjectRecord) -> list[tuple[str, str]]:
        """x-amz-expiration where a lifecycle rule ends this object."""
        found = lifecycle.expiration(
            bucket.lifecycle, record.key, record.size, record.tags, record.modified / 1000, self.config.time_scale
        )
        if found is None or not record.latest:
            return []
        return [("x-amz-expiration", f'expiry-date="{http_date(found[0] * 1000)}", rule-id="{quote(found[1])}"')]

    def abortion(self, bucket: Bucket, upload: UploadRecord) -> list[tuple[str, str]]:
        """x-amz-abort-date and -rule-id where a lifecycle rule ends this upload."""
        found = lifecycle.abortion(bucket.lifecycle, upload.key, upload.created / 1000, self.config.time_scale)
        if found is None:
            return []
        return [("x-amz-abort-date", http_date(found[0] * 1000)), ("x-amz-abort-rule-id", quote(found[1]))]

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
