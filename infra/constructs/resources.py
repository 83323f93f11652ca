"""The topology's logical names, filled in by CloudFormation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs

_PLACEHOLDER = re.compile(r"\{(bucket|queue|table|bus)(?::([a-z0-9_-]+))?\}")


@dataclass(frozen=True, slots=True)
class Resources:
    """What functions read, write and send to. KeyError for a name that the topology has not."""

    buckets: Mapping[str, s3.IBucket]
    table: dynamodb.ITable
    queues: Mapping[str, sqs.IQueue]
    bus_name: str
    bus_arn: str
    key_arn: str | None = None
    """The key that buckets and table are encrypted with, where the deployment has one of its own."""

    def text(self, value: str) -> str:
        """An environment value with its placeholders filled in."""

        def fill(found: re.Match[str]) -> str:
            kind, name = found[1], found[2]
            if kind == "bucket":
                return self.buckets[name].bucket_name
            if kind == "queue":
                return self.queues[name].queue_url
            return self.table.table_name if kind == "table" else self.bus_name

        return _PLACEHOLDER.sub(fill, value)

    def arn(self, resource: str) -> str:
        """The ARN of what an Allow names: ``staging``, ``staging/in/*``, ``table/index/*``, ``queue:NAME``, ``bus``."""
        if resource == "bus":
            return self.bus_arn
        if resource.startswith("queue:"):
            return self.queues[resource.removeprefix("queue:")].queue_arn
        name, slash, rest = resource.partition("/")
        owner = self.table.table_arn if name == "table" else self.buckets[name].bucket_arn
        return owner + slash + rest
