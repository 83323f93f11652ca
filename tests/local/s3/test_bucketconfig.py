"""A bucket's settings through the API: CORS, versioning, lifecycle, policy, tags; and what they do."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from heavylift_local.s3 import bucketpolicy, testing
from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.testing import RunningS3, send

B = {"Bucket": "store"}


def refused(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_cors_is_put_used_and_removed(s3: RunningS3, client: Any) -> None:
    """A preflight goes by the rules of the moment."""
    rule = {
        "AllowedOrigins": ["https://a.example"],
        "AllowedMethods": ["PUT", "GET"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 60,
    }
    ask = {"origin": "https://a.example", "access-control-request-method": "PUT"}
    assert refused(client.get_bucket_cors, **B) == (404, "NoSuchCORSConfiguration")
    client.put_bucket_cors(**B, CORSConfiguration={"CORSRules": [rule]})
    assert client.get_bucket_cors(**B)["CORSRules"] == [rule]
    assert send(f"{s3.endpoint}/store/k", "OPTIONS", headers=ask).status == 200
    client.delete_bucket_cors(**B)
    assert send(f"{s3.endpoint}/store/k", "OPTIONS", headers=ask).refusal == (403, "AccessForbidden")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"AllowedMethods": ["PATCH"]}, "InvalidRequest"),
        ({"AllowedOrigins": ["http://*.*"]}, "InvalidRequest"),
        ({"AllowedHeaders": ["x-*-*"]}, "InvalidRequest"),
        ({"ExposeHeaders": ["*"]}, "InvalidRequest"),
        ({"AllowedMethods": []}, "MalformedXML"),
    ],
)
def test_cors_rules_that_are_none(client: Any, change: dict[str, Any], code: str) -> None:
    """Refused, and the bucket keeps what it had."""
    rule = {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"], **change}
    assert refused(client.put_bucket_cors, **B, CORSConfiguration={"CORSRules": [rule]}) == (400, code)
    assert refused(client.get_bucket_cors, **B) == (404, "NoSuchCORSConfiguration")


def test_versioning_on_and_suspended(client: Any) -> None:
    """What was there before is the null version; suspended, a put and a delete replace the null version only."""
    at = {**B, "Key": "k"}
    assert "Status" not in client.get_bucket_versioning(**B)
    client.put_object(**at, Body=b"old")
    client.put_bucket_versioning(**B, VersioningConfiguration={"Status": "Enabled"})
    first = client.put_object(**at, Body=b"1")["VersionId"]
    second = client.put_object(**at, Body=b"2")["VersionId"]
    assert client.get_object(**at, VersionId="null")["Body"].read() == b"old"
    client.put_bucket_versioning(**B, VersioningConfiguration={"Status": "Suspended"})
    assert client.get_bucket_versioning(**B)["Status"] == "Suspended"

    def versions() -> list[tuple[str, bool]]:
        page = client.list_object_versions(**B)
        rows = page.get("Versions", []) + page.get("DeleteMarkers", [])
        return sorted((row["VersionId"], row["IsLatest"]) for row in rows)

    client.put_object(**at, Body=b"new")
    assert client.get_object(**at)["Body"].read() == b"new"
    assert versions() == sorted([(first, False), (second, False), ("null", True)])
    gone = client.delete_object(**at)
    assert (gone["DeleteMarker"], gone["VersionId"]) == (True, "null")
    assert versions() == sorted([(first, False), (second, False), ("null", True)])
    assert refused(client.get_object, **at) == (404, "NoSuchKey")
    client.delete_object(**at, VersionId="null")
    assert client.get_object(**at)["Body"].read() == b"2"


def test_versioning_documents_that_are_none(s3: RunningS3) -> None:
    """No status, an unknown one, MFA."""
    url = s3.presign("PUT", "/store?versioning")
    for inner, refusal in (
        ("", (400, "IllegalVersioningConfigurationException")),
        ("<Status>On</Status>", (400, "MalformedXML")),
        ("<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>", (501, "NotImplemented")),
    ):
        body = f"<VersioningConfiguration>{inner}</VersioningConfiguration>"
        assert send(url, "PUT", body.encode()).refusal == refusal


def test_lifecycle_is_given_back(client: Any) -> None:
    """Every kind of rule, as it was put; the answers of objects and uploads say when."""
    rules = [
        {"ID": "a", "Status": "Enabled", "Filter": {"Prefix": "in/"}, "Expiration": {"Days": 14}},
        {
            "ID": "b",
            "Status": "Disabled",
            "Filter": {"And": {"Prefix": "x/", "Tags": [{"Key": "k", "Value": "v"}], "ObjectSizeGreaterThan": 5}},
            "Expiration": {"Days": 1},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 2},
        },
        {
            "ID": "c",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        },
        {
            "ID": "d",
            "Status": "Enabled",
            "Filter": {"ObjectSizeLessThan": 9},
            "Expiration": {"ExpiredObjectDeleteMarker": True},
        },
        {"ID": "e", "Status": "Enabled", "Prefix": "old/", "Expiration": {"Days": 2}},
    ]
    assert refused(client.get_bucket_lifecycle_configuration, **B) == (404, "NoSuchLifecycleConfiguration")
    client.put_bucket_lifecycle_configuration(**B, LifecycleConfiguration={"Rules": rules})
    found = client.get_bucket_lifecycle_configuration(**B)
    assert found["Rules"] == rules
    put = client.put_object(**B, Key="in/k", Body=b"x")
    days = (time.mktime(time.strptime(put["Expiration"][13:38], "%a, %d %b %Y %H:%M:%S")) - time.time()) / 86400
    assert 13 < days < 16
    assert client.head_object(**B, Key="in/k")["Expiration"].endswith('rule-id="a"')
    assert "Expiration" not in client.put_object(**B, Key="k", Body=b"x")
    assert client.create_multipart_upload(**B, Key="m")["AbortRuleId"] == "c"
    client.delete_bucket_lifecycle(**B)
    client.delete_bucket_lifecycle(**B)
    assert refused(client.get_bucket_lifecycle_configuration, **B) == (404, "NoSuchLifecycleConfiguration")


@pytest.mark.parametrize(
    ("rule", "refusal"),
    [
        ({"Expiration": {"Days": 0}}, (400, "InvalidArgument")),
        ({"Expiration": {"Date": "2030-01-01T05:00:00Z"}}, (400, "InvalidArgument")),
        ({}, (400, "InvalidRequest")),
        ({"Expiration": {"Days": 1}, "Status": "On"}, (400, "MalformedXML")),
        ({"Expiration": {"Days": 1}, "Prefix": "p"}, (400, "MalformedXML")),
        ({"Expiration": {"Days": 1, "ExpiredObjectDeleteMarker": True}}, (400, "MalformedXML")),
        ({"Expiration": {"Days": 1}, "ID": "i" * 256}, (400, "InvalidArgument")),
        ({"Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}, (501, "NotImplemented")),
        (
            {
                "Filter": {"Tag": {"Key": "a", "Value": "b"}},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
            },
            (400, "InvalidRequest"),
        ),
    ],
)
def test_lifecycle_rules_that_are_none(client: Any, rule: dict[str, Any], refusal: tuple[int, str]) -> None:
    """Refused with S3's codes; transitions are 501, not stored and forgotten."""
    whole = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}, **rule}
    put = client.put_bucket_lifecycle_configuration
    assert refused(put, **B, LifecycleConfiguration={"Rules": [whole]}) == refusal
    twice = {"Rules": [{**whole, "Expiration": {"Days": 1}}] * 2}
    if "Expiration" not in rule and "Filter" not in rule and "Transitions" not in rule:
        assert refused(put, **B, LifecycleConfiguration=twice) == (400, "InvalidArgument")


def policy(*statements: dict[str, Any]) -> str:
    whole = [
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": ["arn:aws:s3:::store", "arn:aws:s3:::store/*"],
            **statement,
        }
        for statement in statements
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": whole})


def test_policy_is_put_used_and_removed(tmp_path: Path) -> None:
    """A deny outweighs the caller's own rights; an allow to a role stands in for them."""
    guest = {"name": "guest", "access_key": "G", "secret_key": "s"}
    with testing.running_s3(tmp_path, callers=[testing.developer(), guest]) as s3:
        owner, other = s3.client(), s3.client("G", "s")
        owner.put_object(**B, Key="in/a", Body=b"x")
        assert refused(owner.get_bucket_policy, **B) == (404, "NoSuchBucketPolicy")
        assert refused(other.get_object, **B, Key="in/a") == (403, "AccessDenied")
        text = policy(
            {"Action": "s3:DeleteObject", "Resource": "arn:aws:s3:::store/in/*"},
            {
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::000000000000:role/guest"},
                "Action": "s3:GetObject",
                "Resource": "arn:aws:s3:::store/in/*",
            },
        )
        owner.put_bucket_policy(**B, Policy=text)
        assert owner.get_bucket_policy(**B)["Policy"] == text
        assert owner.get_bucket_policy_status(**B)["PolicyStatus"]["IsPublic"] is False
        assert refused(owner.delete_object, **B, Key="in/a") == (403, "AccessDenied")
        assert other.get_object(**B, Key="in/a")["Body"].read() == b"x"
        assert refused(other.get_object, **B, Key="out") == (403, "AccessDenied")
        owner.delete_bucket_policy(**B)
        assert refused(other.get_object, **B, Key="in/a") == (403, "AccessDenied")
        owner.delete_object(**B, Key="in/a")


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("nothing", (400, "MalformedPolicy")),
        ("[]", (400, "MalformedPolicy")),
        ('{"Statement":[]}', (400, "MalformedPolicy")),
        (policy({"Effect": "Maybe"}), (400, "MalformedPolicy")),
        (policy({"Principal": None}), (400, "MalformedPolicy")),
        (policy({"Resource": "arn:aws:s3:::other/*"}), (400, "MalformedPolicy")),
        (policy({"Condition": {"NumericGreaterThan": {"s3:signatureAge": "old"}}}), (400, "MalformedPolicy")),
        (policy({"Condition": {"IpAddress": {"aws:SourceIp": "1.2.3.4"}}}), (501, "NotImplemented")),
        (policy({"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}), (501, "NotImplemented")),
        (policy({"NotPrincipal": "*"}), (501, "NotImplemented")),
        (policy({"Principal": {"Service": "x"}}), (501, "NotImplemented")),
        (policy({"Effect": "Allow"}), (403, "AccessDenied")),
    ],
)
def test_policies_that_are_none(client: Any, text: str, refusal: tuple[int, str]) -> None:
    """What cannot be judged is not taken; a public one is blocked."""
    assert refused(client.put_bucket_policy, **B, Policy=text) == refusal


def test_old_signatures_are_denied(tmp_path: Path) -> None:
    """A URL may say it lives an hour; the bucket's policy says how long it does. Headers have no age."""
    buckets = [{"name": "store", "policy": {"signature_age_max_s": 60}}, {"name": "staging"}]
    with testing.running_s3(tmp_path, buckets=buckets) as s3:
        urls = [s3.presign("GET", f"/{name}?list-type=2", expires=3600) for name in ("store", "staging")]
        now = time.time()
        for later, statuses in ((0, [200, 200]), (58, [200, 200]), (63, [403, 200])):
            s3.server.clock = lambda later=later: now + later
            assert [send(url).status for url in urls] == statuses
        answer = send(urls[0])
        assert answer.refusal == (403, "AccessDenied")
        assert b"explicit deny in a resource-based policy" in answer.body
        s3.client().list_objects_v2(**B)
        assert "signatureAge" in s3.client().get_bucket_policy(**B)["Policy"]


@given(st.text(max_size=60) | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists).map(json.dumps))
def test_no_text_breaks_the_policy_reader(text: str) -> None:
    """Whatever comes is a policy or S3's refusal."""
    status = 0
    try:
        bucketpolicy.parse(text, "store", "0")
    except S3Error as error:
        status = error.status
    assert status in (400, 501)


def test_bucket_tags(client: Any) -> None:
    """50 of them; 404 while there are none."""
    assert refused(client.get_bucket_tagging, **B) == (404, "NoSuchTagSet")
    tags = [{"Key": f"k{n}", "Value": "v"} for n in range(50)]
    client.put_bucket_tagging(**B, Tagging={"TagSet": tags})
    assert client.get_bucket_tagging(**B)["TagSet"] == tags
    client.delete_bucket_tagging(**B)
    assert refused(client.get_bucket_tagging, **B) == (404, "NoSuchTagSet")


def test_settings_outlive_a_restart_and_go_with_their_bucket(tmp_path: Path) -> None:
    """On disk with the records; a bucket made anew has none."""
    with testing.running_s3(tmp_path) as s3:
        client = s3.client()
        client.create_bucket(Bucket="mine")
        client.put_bucket_tagging(Bucket="mine", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    with testing.running_s3(tmp_path) as s3:
        client = s3.client()
        assert client.get_bucket_tagging(Bucket="mine")["TagSet"]
        client.delete_bucket(Bucket="mine")
        client.create_bucket(Bucket="mine")
        assert refused(client.get_bucket_tagging, Bucket="mine") == (404, "NoSuchTagSet")
