"""Another S3 than the embedded one: its credentials, and the stack's buckets in it.

Any S3 that speaks the API will do: AWS itself, LocalStack, moto's server, a second embedded one. Everybody who
calls it does so with the same credentials, so it knows no roles; the tables and queues tell callers apart by the
port that each was given.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from heavylift_local.plan import REGION, Key

logger = logging.getLogger(__name__)


class ExternalError(Exception):
    """The other S3 cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class External:
    endpoint: str
    region: str
    key: Key


def find(endpoint: str) -> External:
    """The S3 at ``endpoint`` with the credentials and region that AWS's own tools would use. Raises ExternalError."""
    import botocore.session
    from botocore.exceptions import BotoCoreError

    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.path.strip("/"):
        raise ExternalError(f"--s3-endpoint: {endpoint!r} is no http(s)://HOST[:PORT]")
    session = botocore.session.Session()
    try:
        found = session.get_credentials()
        region = session.get_config_variable("region")
    except BotoCoreError as error:
        raise ExternalError(f"--s3-endpoint: {error}") from None
    if found is None:
        raise ExternalError(
            "--s3-endpoint needs credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
        )
    frozen = found.get_frozen_credentials()
    key = Key(frozen.access_key, frozen.secret_key, frozen.token)
    return External(endpoint.rstrip("/"), str(region or REGION), key)


def client(external: External) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=external.endpoint,
        region_name=external.region,
        aws_access_key_id=external.key.access_key,
        aws_secret_access_key=external.key.secret_key,
        aws_session_token=external.key.session_token,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"mode": "standard"}),
    )


def prepare(
    s3: Any, region: str, buckets: Iterable[Any], names: Mapping[str, str], origins: Iterable[str]
) -> list[str]:
    """Makes the topology's buckets; the names of those that were not there before. Raises ExternalError.

    A bucket must come to be. Versions and CORS are asked for and left alone where we may not set them: without
    versions a store object that is written again replaces the old one, without CORS browsers cannot upload.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    made = []
    for bucket in buckets:
        name = names[bucket.name]
        try:
            if _create(s3, name, region):
                made.append(name)
        except (ClientError, BotoCoreError) as error:
            raise ExternalError(f"bucket {name}: {error}") from None
        rule = {
            "AllowedOrigins": list(origins),
            "AllowedMethods": list(bucket.cors_methods),
            "AllowedHeaders": ["*"],
            "ExposeHeaders": list(bucket.cors_expose),
            "MaxAgeSeconds": 3000,
        }
        try:
            if bucket.versioned:
                s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        except (ClientError, BotoCoreError) as error:
            logger.warning("bucket %s keeps no versions: %s", name, error)
        try:
            if bucket.cors_methods:
                s3.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [rule]})
        except (ClientError, BotoCoreError) as error:
            logger.warning("bucket %s keeps its own CORS rules: %s", name, error)
    return made


def _create(s3: Any, name: str, region: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        s3.head_bucket(Bucket=name)
        return False
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        s3.create_bucket(Bucket=name, **where)
    except ClientError as error:
        if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
            raise
        return False
    return True


def remove(s3: Any, names: Iterable[str]) -> None:
    """Empties and deletes buckets of a stack that keeps nothing; what resists is named in the log."""
    from botocore.exceptions import BotoCoreError, ClientError

    for name in names:
        try:
            for upload in _uploads(s3, name):
                s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
                for one in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                    s3.delete_object(Bucket=name, Key=one["Key"], VersionId=one["VersionId"])
            s3.delete_bucket(Bucket=name)
        except (ClientError, BotoCoreError) as error:
            logger.warning("bucket %s is left behind: %s", name, error)


def _uploads(s3: Any, name: str) -> list[Any]:
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=name)
    return [upload for page in pages for upload in page.get("Uploads", [])]
