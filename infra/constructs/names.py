"""Physical names that two stacks must know before either of them is there."""

from __future__ import annotations

import aws_cdk as cdk

from infra.config import Config


def bucket_name(config: Config, bucket: str) -> str:
    """The name of a bucket of the topology, or of ``page``: its own for each account and region."""
    return config.existing.buckets.get(bucket) or f"{config.deployment}-{bucket}-{cdk.Aws.ACCOUNT_ID}-{cdk.Aws.REGION}"


def bucket_origin(config: Config, bucket: str) -> str:
    """Where signed URLs of a bucket lead: its virtual host in its region."""
    return f"https://{bucket_name(config, bucket)}.s3.{cdk.Aws.REGION}.{cdk.Aws.URL_SUFFIX}"
