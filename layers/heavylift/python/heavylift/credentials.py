"""The function's own credentials and endpoints, read from the environment at each use. Stdlib only: ``sign`` uses it.

Lambda renews a role's credentials by starting new sandboxes; they are never kept past a change of environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from heavylift import presign


def from_environment(environment: Mapping[str, str]) -> presign.Credentials:
    return presign.Credentials(
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
        environment.get("AWS_SESSION_TOKEN") or None,
    )


def bucket_address(bucket: str, region: str, environment: Mapping[str, str]) -> presign.BucketAddress:
    """Where ``bucket`` answers; ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL`` replace the regional endpoint."""
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    return presign.bucket_address(bucket, region, endpoint)


def dynamodb_endpoint(region: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """(scheme, host with port) of DynamoDB."""
    endpoint = environment.get("AWS_ENDPOINT_URL_DYNAMODB") or environment.get("AWS_ENDPOINT_URL")
    if endpoint:
        parts = urlsplit(endpoint)
        return parts.scheme, parts.netloc
    return "https", f"dynamodb.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
