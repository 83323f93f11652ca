"""What a description of the system is made of: buckets, tables, queues, rules, functions and their permissions.

Values only; standard library only. What there is of them is in ``infra.topology``, which gives these names on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WRITE = "heavylift/write"


@dataclass(frozen=True, slots=True)
class KeyClass:
    """Keys that begin ``<name>/`` and how long they live; None means until somebody deletes them."""

    name: str
    expire_days: int | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    name: str
    classes: tuple[KeyClass, ...]
    versioned: bool = False
    abort_incomplete_days: int | None = None
    cors_methods: tuple[str, ...] = ()
    cors_expose: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Index:
    """A sparse, keys-only index of the table; readers fetch the items themselves by BatchGetItem."""

    name: str
    partition_key: str
    sort_key: str


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    partition_key: str
    sort_key: str
    ttl_attribute: str
    indexes: tuple[Index, ...]


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue with its dead-letter queue ``<name>-dlq``.

    visibility = 6 x the function's timeout (AWS's advice for an SQS source), so that a message is not
    handed out again while its function may still be at work.
    """

    name: str
    visibility_s: int
    receive_count_max: int = 5
    retention_days: int = 4
    dlq_retention_days: int = 14


@dataclass(frozen=True, slots=True)
class Rule:
    """Objects created in ``bucket`` under ``prefix`` go to ``queue``. One rule, one queue, one owner per lane."""

    name: str
    bucket: str
    prefix: str
    queue: str
    # A delivery that fails is tried as long as EventBridge can; then it lies in ``<queue>-delivery-dlq``.
    retries_max: int = 185
    retry_hours: int = 24

    def pattern(self, bucket_name: str) -> dict[str, object]:
        """The EventBridge event pattern for the bucket's physical name."""
        return {
            "source": ["aws.s3"],
            "detail-type": ["Object Created"],
            "detail": {"bucket": {"name": [bucket_name]}, "object": {"key": [{"prefix": self.prefix}]}},
        }


@dataclass(frozen=True, slots=True)
class ScanRule(Rule):
    """A malware scanner's verdicts on objects in ``bucket`` under ``prefix`` go to ``queue``."""

    def pattern(self, bucket_name: str) -> dict[str, object]:
        """GuardDuty's event ("Monitoring S3 object scans with Amazon EventBridge")."""
        scanned = {"bucketName": [bucket_name], "objectKey": [{"prefix": self.prefix}]}
        return {
            "source": ["aws.guardduty"],
            "detail-type": ["GuardDuty Malware Protection Object Scan Result"],
            "detail": {"s3ObjectDetails": scanned},
        }


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    scope: str | None = WRITE
    """JWT scope; None = no authorizer at all."""


@dataclass(frozen=True, slots=True)
class Allow:
    """IAM actions on resources: ``staging`` (the bucket), ``staging/in/*`` (its objects), ``table``,
    ``table/index/*``, ``queue:NAME``, ``bus``."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """An SQS event source: one message fails alone (ReportBatchItemFailures)."""

    queue: str
    batch_size: int = 1
    batch_window_s: int = 0
    concurrency_max: int = 20


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    memory_mb: int
    timeout_s: int
    layers: tuple[str, ...]
    allows: tuple[Allow, ...]
    routes: tuple[Route, ...] = ()
    source: Source | None = None
    schedule_minutes: int | None = None
    ephemeral_mb: int = 512
    recursive_loop: str = "terminate"
    """``allow`` for functions that continue themselves; our own hop guard stands in Lambda's place."""
    concurrency_reserved: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
