"""The presigner against botocore, byte for byte, and request signing against botocore's SigV4Auth."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any
from unittest.mock import patch

import botocore.auth
import botocore.session
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift import presign
from heavylift.credentials import bucket_address, dynamodb_endpoint, from_environment
from heavylift.presign import BucketAddress, Credentials, PartToSign

KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
REGIONS = ("us-east-1", "eu-central-1", "ap-southeast-2")
NOW = datetime(2025, 11, 20, 1, 2, 3, tzinfo=UTC)
TS = "20251120T010203Z"
DIGEST = base64.b64encode(sha256(b"a").digest()).decode()
SHARED = botocore.session.get_session()


@cache
def client(region: str, token: str | None, style: str, endpoint: str | None) -> Any:
    """botocore's client with a given token. Making one costs 60 ms, so they are kept."""
    return SHARED.create_client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        aws_session_token=token,
        config=Config(signature_version="s3v4", s3={"addressing_style": style}),
    )


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """botocore's clock stands at NOW, for its own signers and for those of the CRT, which it prefers if installed."""
    with (
        patch("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: NOW.replace(tzinfo=None)),
        patch("botocore.crt.auth.get_current_datetime", lambda remove_tzinfo=True: NOW),
    ):
        yield


def botocores(client: Any, operation: str, parameters: dict[str, Any], expires_s: int) -> str:
    """The URL that botocore makes at NOW."""
    with frozen():
        url: str = client.generate_presigned_url(operation, Params=parameters, ExpiresIn=expires_s)
    return url


RESERVED = "!\"#$%&'()*+,:;<=>?@[\\]^`{|}~ /._-"
keys = st.one_of(
    st.sampled_from(
        [
            "a",
            "in/acme/01JD2Z3NDEKTSV4RRFFQ69G5FA",
            "/a",
            "a//b",
            "./../a",
            "a+b %&=?#c",
            "ключ/鍵/🗝",
            "a'b\"c\\d",
            "a/~b/",
        ]
    ),
    st.text(
        st.one_of(st.sampled_from(RESERVED), st.characters(exclude_categories=["Cs", "Cc"])), min_size=1, max_size=40
    ),
)
upload_ids = st.one_of(
    st.just("VXBsb2FkSUQtfn4.-_"), st.text(st.sampled_from("ABCxyz019._-~+/= "), min_size=1, max_size=120)
)
TOKENS = (None, "short+/=", "IQoJb3JpZ2luX2VjE" + "Ab+/9=" * 150)
expiries = st.integers(1, 604_800)
lengths = st.integers(0, 5 << 30)
PART_HEADERS: dict[str, tuple[str, Any]] = {
    "x-amz-checksum-sha256": ("ChecksumSHA256", DIGEST),
    "x-amz-checksum-crc32": ("ChecksumCRC32", "TaHObg=="),
    "x-amz-checksum-crc64nvme": ("ChecksumCRC64NVME", "AAAAAAAAAAA="),
    "content-md5": ("ContentMD5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
}
PUT_HEADERS = {**PART_HEADERS, "if-none-match": ("IfNoneMatch", "*"), "content-type": ("ContentType", "image/tiff")}


def header_sets(known: dict[str, tuple[str, Any]]) -> st.SearchStrategy[tuple[dict[str, str], dict[str, Any]]]:
    """(our headers, botocore's parameters): a subset of ``known``, with or without a content-length."""

    def build(names: set[str], length: int | None) -> tuple[dict[str, str], dict[str, Any]]:
        headers = {name: known[name][1] for name in names}
        parameters = {known[name][0]: known[name][1] for name in names}
        if length is not None:
            headers["content-length"], parameters["ContentLength"] = str(length), length
        return headers, parameters

    checksums = [name for name in known if name.startswith("x-amz-checksum")]
    others = [name for name in known if not name.startswith("x-amz-checksum")]
    names = st.tuples(st.one_of(st.none(), st.sampled_from(checksums)), st.sets(st.sampled_from(others))).map(
        lambda pair: pair[1] | ({pair[0]} if pair[0] else set())
    )
    return st.builds(build, names, st.one_of(st.none(), lengths))


# (bucket, endpoint, botocore's addressing style): where ours decides on path style, botocore is asked for it.
PLACES = (
    ("heavylift-staging", None, "virtual"),
    ("dotted.bucket.name", None, "path"),
    ("heavylift-staging", "http://127.0.0.1:9000", "path"),
    ("heavylift-staging", "http://localhost:4566", "path"),
    ("heavylift-staging", "http://[::1]:9000", "path"),
    ("heavylift-staging", "https://storage.example.org:8443", "virtual"),
)


@settings(max_examples=400)
@given(
    st.sampled_from(PLACES),
    st.sampled_from(REGIONS),
    st.sampled_from(TOKENS),
    keys,
    upload_ids,
    st.lists(st.integers(1, 10_000), min_size=1, max_size=4),
    header_sets(PART_HEADERS),
    expiries,
)
def test_part_urls_are_botocores(
    place: tuple[str, str | None, str],
    region: str,
    token: str | None,
    key: str,
    upload_id: str,
    numbers: list[int],
    signed: tuple[dict[str, str], dict[str, Any]],
    expires_s: int,
) -> None:
    """UploadPart: the same URL, byte for byte, whatever the key, place, token, headers and moment."""
    bucket, endpoint, style = place
    headers, parameters = signed
    ours = presign.presign_parts(
        Credentials(KEY_ID, SECRET, token),
        region,
        presign.bucket_address(bucket, region, endpoint),
        key,
        upload_id,
        [PartToSign(number, headers) for number in numbers],
        expires_s,
        presign.timestamp(NOW.timestamp()),
    )
    judge = client(region, token, style, endpoint)
    theirs = [
        botocores(
            judge,
            "upload_part",
            {"Bucket": bucket, "Key": key, "UploadId": upload_id, "PartNumber": number, **parameters},
            expires_s,
        )
        for number in numbers
    ]

    assert list(ours) == theirs


@settings(max_examples=400)
@given(
    st.sampled_from(PLACES),
    st.sampled_from(REGIONS),
    st.sampled_from(TOKENS),
    keys,
    header_sets(PUT_HEADERS),
    expiries,
)
def test_put_urls_are_botocores(
    place: tuple[str, str | None, str],
    region: str,
    token: str | None,
    key: str,
    signed: tuple[dict[str, str], dict[str, Any]],
    expires_s: int,
) -> None:
    """PutObject: the same URL, byte for byte."""
    bucket, endpoint, style = place
    headers, parameters = signed
    ours = presign.presign_put(
        Credentials(KEY_ID, SECRET, token),
        region,
        presign.bucket_address(bucket, region, endpoint),
        key,
        headers,
        expires_s,
        TS,
    )

    assert ours == botocores(
        client(region, token, style, endpoint), "put_object", {"Bucket": bucket, "Key": key, **parameters}, expires_s
    )


def test_a_digest_per_part_is_signed_per_part() -> None:
    """Parts with other digests of one call get other signatures, each of them botocore's."""
    digests = [base64.b64encode(sha256(bytes([n])).digest()).decode() for n in range(20)]
    ours = presign.presign_parts(
        Credentials(KEY_ID, SECRET),
        "us-east-1",
        presign.bucket_address("heavylift-staging", "us-east-1"),
        "k",
        "u",
        [PartToSign(n + 1, {"x-amz-checksum-sha256": digest}) for n, digest in enumerate(digests)],
        900,
        TS,
    )
    judge = client("us-east-1", None, "virtual", None)
    theirs = [
        botocores(
            judge,
            "upload_part",
            {
                "Bucket": "heavylift-staging",
                "Key": "k",
                "UploadId": "u",
                "PartNumber": n + 1,
                "ChecksumSHA256": digest,
            },
            900,
        )
        for n, digest in enumerate(digests)
    ]

    assert list(ours) == theirs
    assert len({url.rpartition("=")[2] for url in theirs}) == 20


def test_keys_of_signing_do_not_outlive_their_day_or_secret() -> None:
    """Another day, secret or region in the same process: another signature, as botocore's."""

    def one(secret: str, region: str, ts: str) -> str:
        address = BucketAddress("https", "b.example.org")
        (url,) = presign.presign_parts(
            Credentials(KEY_ID, secret), region, address, "k", "u", [PartToSign(1, {})], 900, ts
        )
        return url.rpartition("=")[2]

    made = {
        one(secret, region, ts)
        for secret in ("s1", "s2")
        for region in REGIONS
        for ts in (TS, "20251121T010203Z", "20251120T010204Z")
        for _ in range(2)
    }
    assert len(made) == 2 * 3 * 3


def test_no_parts_no_urls() -> None:
    """An empty list is no error."""
    address = BucketAddress("https", "b.example.org")
    assert list(presign.presign_parts(Credentials("k", "s"), "r", address, "k", "u", [], 900, TS)) == []


@settings(max_examples=60)
@given(
    st.sampled_from(REGIONS),
    st.sampled_from(TOKENS),
    st.binary(max_size=300),
    st.sampled_from(["dynamodb.us-east-1.amazonaws.com", "127.0.0.1:5000", "localhost:4566"]),
)
def test_signed_json_requests_are_botocores(region: str, token: str | None, body: bytes, host: str) -> None:
    """DynamoDB's POST: the authorization header is the one that SigV4Auth writes."""
    target = "DynamoDB_20120810.GetItem"
    ours = presign.sign_json_request(Credentials(KEY_ID, SECRET, token), region, "dynamodb", host, target, body, TS)
    request = AWSRequest(
        "POST",
        f"https://{host}/",
        data=body,
        headers={"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": target, "Host": host},
    )
    with frozen():
        botocore.auth.SigV4Auth(BotoCredentials(KEY_ID, SECRET, token), "dynamodb", region).add_auth(request)

    theirs = {name.lower(): value for name, value in request.headers.items()}
    assert ours["authorization"] == theirs["authorization"]
    assert ours["x-amz-date"] == theirs["x-amz-date"]
    assert ours.get("x-amz-security-token") == theirs.get("x-amz-security-token")


@pytest.mark.parametrize("region", [*REGIONS, "cn-north-1", "us-gov-west-1"])
@pytest.mark.parametrize("bucket", ["heavylift-staging", "dotted.bucket"])
def test_the_host_is_where_boto3_would_go(region: str, bucket: str) -> None:
    """The regional virtual host, in every partition; path style for a dotted bucket."""
    address = bucket_address(bucket, region, {})
    url = botocores(client(region, None, "virtual", None), "get_object", {"Bucket": bucket, "Key": "k"}, 900)

    assert url.startswith(f"{address.scheme}://{address.host}{address.prefix}/k?")


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        ({}, "b.s3.eu-central-1.amazonaws.com"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "127.0.0.1:1"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:2"}, "127.0.0.1:2"),
        ({"AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:3"}, "b.s3.eu-central-1.amazonaws.com"),
    ],
)
def test_endpoints_come_by_awss_own_variables(environment: dict[str, str], host: str) -> None:
    """The service's variable before the general one."""
    assert bucket_address("b", "eu-central-1", environment).host == host


def test_dynamodbs_endpoint() -> None:
    """The regional one, or what AWS's variables say."""
    assert dynamodb_endpoint("eu-central-1", {}) == ("https", "dynamodb.eu-central-1.amazonaws.com")
    assert dynamodb_endpoint("cn-north-1", {}) == ("https", "dynamodb.cn-north-1.amazonaws.com.cn")
    general = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    assert dynamodb_endpoint("x", general) == ("http", "127.0.0.1:1")
    assert dynamodb_endpoint("x", {**general, "AWS_ENDPOINT_URL_DYNAMODB": "http://h:2/"}) == ("http", "h:2")


def test_credentials_are_read_anew_each_time() -> None:
    """No token is None, not an empty header; a changed environment is followed."""
    base = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    assert from_environment(base) == Credentials("k", "s", None)
    assert from_environment({**base, "AWS_SESSION_TOKEN": ""}).token is None
    assert from_environment({**base, "AWS_SESSION_TOKEN": "t"}).token == "t"
