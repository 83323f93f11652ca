"""POST policies: one signed document with which a form may bring many small objects under one prefix,
or one object of a size that nobody knows before. Stdlib only.

Amazon S3 API reference, "Browser-based uploads using POST (Signature Version 4)": every field of the form but the
file, the policy itself and its signature needs a condition. The fields equal those that boto3 presigns for the same
moment and the same conditions (the tests compare).
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from time import gmtime, strftime
from typing import Any

from heavylift import presign
from heavylift.presign import BucketAddress, Credentials

FILE_NAME = "${filename}"  # S3 puts the file's name of the form here ("POST object", API reference)


def conditions(bucket: str, prefix: str, size_max: int, *, with_digest: bool) -> list[Any]:
    """What forms of a batch may hold: keys under ``prefix``, a size, a type, and the file's digest if it is wanted.

    A condition on a field makes that field necessary, so that a policy is for forms with a digest or for such without.
    """
    wanted: list[Any] = [
        ["content-length-range", 0, size_max],
        {"success_action_status": "201"},
        ["starts-with", "$content-type", ""],
    ]
    if with_digest:
        wanted += [{"x-amz-checksum-algorithm": "SHA256"}, ["starts-with", "$x-amz-checksum-sha256", ""]]
    return [*wanted, {"bucket": bucket}, ["starts-with", "$key", prefix]]


def presign_post(
    credentials: Credentials,
    region: str,
    address: BucketAddress,
    bucket: str,
    prefix: str,
    size_max: int,
    expires_s: int,
    now: float,
    *,
    with_digest: bool = False,
) -> dict[str, Any]:
    """{"url", "fields"}: the form's address and its fields, in the order of the form; ``file`` comes last.

    ``key`` is the prefix and ``${filename}``: replace that by the file's number, or send the number as file name.
    ``content-type`` may be replaced; with a digest the client adds ``x-amz-checksum-sha256`` to each form.
    """
    fields = {
        "success_action_status": "201",
        "content-type": "application/octet-stream",
        **({"x-amz-checksum-algorithm": "SHA256"} if with_digest else {}),
        "key": f"{prefix}{FILE_NAME}",
    }
    wanted = conditions(bucket, prefix, size_max, with_digest=with_digest)
    return _form(credentials, region, address, fields, wanted, expires_s, now)


def presign_file(
    credentials: Credentials,
    region: str,
    address: BucketAddress,
    bucket: str,
    key: str,
    media_type: str,
    size_max: int,
    expires_s: int,
    now: float,
) -> dict[str, Any]:
    """{"url", "fields"} of a form that brings one object: this key, this type, and a size up to ``size_max`` bytes."""
    fields = {"success_action_status": "201", "content-type": media_type, "key": key}
    wanted = [
        ["content-length-range", 0, size_max],
        {"success_action_status": "201"},
        {"content-type": media_type},
        {"bucket": bucket},
        {"key": key},
    ]
    return _form(credentials, region, address, fields, wanted, expires_s, now)


def _form(
    credentials: Credentials,
    region: str,
    address: BucketAddress,
    fields: Mapping[str, str],
    wanted: Sequence[Any],
    expires_s: int,
    now: float,
) -> dict[str, Any]:
    """``fields`` with the policy that holds the conditions ``wanted``, and its signature."""
    ts = presign.timestamp(now)
    scope = f"{ts[:8]}/{region}/s3/aws4_request"
    signed: dict[str, str] = {
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{credentials.key_id}/{scope}",
        "x-amz-date": ts,
    }
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    document = {
        "expiration": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(now + expires_s)),
        "conditions": [
            *wanted,
            *({name: value} for name, value in signed.items()),
        ],
    }
    policy = base64.b64encode(json.dumps(document).encode()).decode()
    signature = hmac.new(
        presign.signing_key(credentials.secret, ts[:8], region, "s3"), policy.encode(), sha256
    ).hexdigest()
    return {
        "url": f"{address.scheme}://{address.host}{address.prefix or '/'}",
        "fields": {**fields, **signed, "policy": policy, "x-amz-signature": signature},
    }
