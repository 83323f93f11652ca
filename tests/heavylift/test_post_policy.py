"""POST policies: boto3 is the judge of every field, for the same moment and the same conditions."""

from __future__ import annotations

import base64
import datetime as real_datetime
import json
from typing import Any

import boto3
import pytest
from botocore.config import Config

from heavylift import post_policy, presign
from heavylift.presign import Credentials

NOW = 1_763_596_800.0
KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
PREFIX = "in/acme/01JD2Z3NDEKTSV4RRFFQ69G5FA/"
SIZE_MAX = 16 * 1024 * 1024


def client_at_now(monkeypatch: pytest.MonkeyPatch, *, token: str | None, region: str, endpoint: str | None) -> Any:
    """boto3's, for which it is NOW."""
    client = boto3.client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        aws_session_token=token,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path" if endpoint else "virtual"}),
    )
    moment = real_datetime.datetime.fromtimestamp(NOW, real_datetime.UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_: moment.replace(tzinfo=None))
    monkeypatch.setattr("botocore.signers.get_current_datetime", lambda *_: moment.replace(tzinfo=None))
    return client


def by_boto3(
    monkeypatch: pytest.MonkeyPatch, *, token: str | None, region: str, endpoint: str | None, with_digest: bool
) -> dict[str, Any]:
    """What boto3 presigns at NOW."""
    client = client_at_now(monkeypatch, token=token, region=region, endpoint=endpoint)
    digest = {"x-amz-checksum-algorithm": "SHA256"} if with_digest else {}
    own = post_policy.conditions("staging-bucket", PREFIX, SIZE_MAX, with_digest=with_digest)
    made: dict[str, Any] = client.generate_presigned_post(
        "staging-bucket",
        PREFIX + "${filename}",
        Fields={"success_action_status": "201", "content-type": "application/octet-stream", **digest},
        Conditions=own[:-2],  # boto3 adds bucket and key
        ExpiresIn=900,
    )
    return made


@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzEBYaD+/=token"])
@pytest.mark.parametrize(
    ("region", "endpoint"), [("eu-central-1", None), ("us-east-1", None), ("us-east-1", "http://127.0.0.1:9000")]
)
def test_the_form_of_one_file_is_boto3s(
    monkeypatch: pytest.MonkeyPatch, token: str | None, region: str, endpoint: str | None
) -> None:
    """One key, one type, a size up to a limit."""
    key, media_type = PREFIX.removesuffix("/"), "image/tiff; a=b"
    client = client_at_now(monkeypatch, token=token, region=region, endpoint=endpoint)
    fields = {"success_action_status": "201", "content-type": media_type}
    theirs = client.generate_presigned_post(
        "staging-bucket",
        key,
        Fields=dict(fields),
        Conditions=[["content-length-range", 0, SIZE_MAX], *({name: value} for name, value in fields.items())],
        ExpiresIn=900,
    )
    address = presign.bucket_address("staging-bucket", region, endpoint)
    own = Credentials(KEY_ID, SECRET, token)
    ours = post_policy.presign_file(own, region, address, "staging-bucket", key, media_type, SIZE_MAX, 900, NOW)

    assert ours == theirs


@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzEBYaD+/=token"])
@pytest.mark.parametrize("with_digest", [False, True])
@pytest.mark.parametrize(
    ("region", "endpoint"), [("eu-central-1", None), ("us-east-1", None), ("us-east-1", "http://127.0.0.1:9000")]
)
def test_the_form_is_boto3s(
    monkeypatch: pytest.MonkeyPatch, token: str | None, region: str, endpoint: str | None, with_digest: bool
) -> None:
    """URL, fields, decoded policy and signature are equal."""
    theirs = by_boto3(monkeypatch, token=token, region=region, endpoint=endpoint, with_digest=with_digest)

    ours = post_policy.presign_post(
        Credentials(KEY_ID, SECRET, token),
        region,
        presign.bucket_address("staging-bucket", region, endpoint),
        "staging-bucket",
        PREFIX,
        SIZE_MAX,
        900,
        NOW,
        with_digest=with_digest,
    )

    decode = lambda form: json.loads(base64.b64decode(form["fields"]["policy"]))  # noqa: E731
    assert decode(ours) == decode(theirs)
    assert ours["fields"] == theirs["fields"]
    assert ours["url"] == theirs["url"]
