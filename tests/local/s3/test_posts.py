"""Uploads from HTML forms: every condition kind, S3's refusals, and what is stored."""

import base64
import hashlib
import hmac
import json
import os
import time
from typing import Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from heavylift_local.s3 import auth, forms, postpolicy, testing
from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.testing import Answer, RunningS3, send

FILE = b"the file's bytes"
BOUNDARY = "----boundary7MA4YWxk"


def encode(
    fields: dict[str, str], file: bytes | None = FILE, filename: str | None = "a b.tif", after: str = ""
) -> bytes:
    """A form as a browser sends it."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    if file is not None:
        named = f'; filename="{filename}"' if filename is not None else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"{named}\r\n'
        parts.append(head.encode() + b"Content-Type: image/tiff\r\n\r\n" + file + b"\r\n")
    return b"".join(parts) + after.encode() + f"--{BOUNDARY}--\r\n".encode()


def post(s3: RunningS3, body: bytes, bucket: str = "staging", **headers: str) -> Answer:
    every = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", **headers}
    return send(f"{s3.endpoint}/{bucket}", "POST", body, every)


def signed(
    s3: RunningS3,
    fields: dict[str, str],
    policy: Any,
    access: str = testing.ACCESS_KEY,
    secret: str = testing.SECRET_KEY,
) -> dict[str, str]:
    """*fields* with the signature of *policy* (a document, or text that is used as it stands)."""
    day = time.strftime("%Y%m%d", time.gmtime())
    text = policy if isinstance(policy, str) else json.dumps(policy)
    encoded = base64.b64encode(text.encode()).decode()
    key = auth.signing_key(testing.SECRET_KEY, day, s3.region)
    return {
        **fields,
        "policy": encoded,
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{testing.ACCESS_KEY}/{day}/{s3.region}/s3/aws4_request",
        "X-Amz-Date": f"{day}T000000Z",
        "X-Amz-Signature": hmac.new(key, encoded.encode(), hashlib.sha256).hexdigest(),
    }


OWN = [["starts-with", f"$x-amz-{name}", ""] for name in ("algorithm", "credential", "date")]


def document(*conditions: Any, expiration: str = "2099-01-01T00:00:00.000Z") -> dict[str, Any]:
    return {"expiration": expiration, "conditions": [{"bucket": "staging"}, *OWN, *conditions]}


def test_what_boto3_presigns_is_taken(s3: RunningS3, client: Any) -> None:
    """Headers, metadata and a checksum given as fields are stored; 204 with ETag and Location."""
    sha = base64.b64encode(hashlib.sha256(FILE).digest()).decode()
    wanted = {
        "Content-Type": "image/tiff",
        "Cache-Control": "no-store",
        "x-amz-meta-note": "n",
        "x-amz-checksum-sha256": sha,
        "x-amz-checksum-algorithm": "SHA256",
    }
    made = client.generate_presigned_post(
        "staging",
        "in/${filename}",
        Fields=dict(wanted),
        Conditions=[*({k: v} for k, v in wanted.items()), ["content-length-range", 1, 100]],
    )

    answer = post(s3, encode(made["fields"], filename="C:\\pictures\\ü.tif"))

    etag = f'"{hashlib.md5(FILE).hexdigest()}"'
    assert (answer.status, answer.body, answer.headers["etag"]) == (204, b"", etag)
    assert answer.headers["location"] == f"{s3.endpoint}/staging/{quote('in/ü.tif', safe='')}"
    found = client.get_object(Bucket="staging", Key="in/ü.tif", ChecksumMode="ENABLED")
    assert found["Body"].read() == FILE
    assert (found["ContentType"], found["CacheControl"], found["Metadata"]) == ("image/tiff", "no-store", {"note": "n"})
    assert found["ChecksumSHA256"] == sha


@pytest.mark.parametrize(
    ("conditions", "fields", "size", "refusal"),
    [
        ([{"key": "k"}], {}, 16, None),
        ([["eq", "$key", "k"]], {}, 16, None),
        ([["EQ", "$KEY", "k"]], {}, 16, None),
        ([["starts-with", "$key", ""]], {}, 16, None),
        ([["starts-with", "$key", "k"]], {}, 16, None),
        ([{"key": "k"}, ["starts-with", "$Content-Type", "image/"]], {"Content-Type": "image/a,image/b"}, 16, None),
        ([{"key": "k"}, ["starts-with", "$acl", ""]], {}, 16, (403, "AccessDenied")),
        ([{"key": "k"}, ["content-length-range", "test", "10"]], {}, 16, (403, "AccessDenied")),
        ([{"key": "k"}, {"tagging": "<Other/>"}], {"tagging": "<Other/>"}, 16, None),
        ([{"key": "k"}], {"x-ignore-me": "1"}, 16, None),
        ([{"key": "k"}, ["content-length-range", 16, 16]], {}, 16, None),
        ([{"key": "k"}, ["content-length-range", "0", "0"]], {}, 0, None),
        ([{"key": "K"}], {}, 16, (403, "AccessDenied")),
        ([["eq", "key", "k"]], {}, 16, (403, "AccessDenied")),
        ([["starts-with", "$key", "in/"]], {}, 16, (403, "AccessDenied")),
        ([{"key": "k"}, {"bucket": "store"}], {}, 16, (403, "AccessDenied")),
        ([{"key": "k"}, {"acl": "private"}], {}, 16, (403, "AccessDenied")),
        (
            [{"key": "k"}, ["starts-with", "$Content-Type", "image/"]],
            {"Content-Type": "image/a,x"},
            16,
            (403, "AccessDenied"),
        ),
        ([{"key": "k"}], {"Content-Type": "image/tiff"}, 16, (403, "AccessDenied")),
        ([{"key": "k"}], {"submit": "Upload"}, 16, (403, "AccessDenied")),
        ([], {}, 16, (403, "AccessDenied")),
        ([{"key": "k"}, ["content-length-range", 0, 15]], {}, 16, (400, "EntityTooLarge")),
        ([{"key": "k"}, ["content-length-range", 17, 20]], {}, 16, (400, "EntityTooSmall")),
        ([{"key": "k"}, ["content-length-range", 0, 300_000]], {}, 9_000_000, (400, "EntityTooLarge")),
        ([{"key": "k", "acl": "private"}], {}, 16, (400, "InvalidPolicyDocument")),
        ([{}], {}, 16, (400, "InvalidPolicyDocument")),
        ([["content-length-range", 0]], {}, 16, (400, "InvalidPolicyDocument")),
        ([["content-length-range", -1, 0]], {}, 16, (400, "InvalidPolicyDocument")),
        ([["contains", "$key", "k"]], {}, 16, (400, "InvalidPolicyDocument")),
        ([["eq", "$key"]], {}, 16, (400, "InvalidPolicyDocument")),
        (["key"], {}, 16, (400, "InvalidPolicyDocument")),
        ([{"key": 1}], {}, 16, (400, "InvalidPolicyDocument")),
        ([{"key": "k"}, {"tagging": "x"}], {"tagging": "x"}, 16, (400, "MalformedXML")),
        ([{"key": "k"}, {"x-amz-website": "x"}], {"x-amz-website": "x"}, 16, (501, "NotImplemented")),
        (
            [{"key": "k"}, {"x-amz-checksum-crc32": "AAAAAA=="}],
            {"x-amz-checksum-crc32": "AAAAAA=="},
            16,
            (400, "BadDigest"),
        ),
        ([{"key": "k"}, {"acl": "public-read"}], {"acl": "public-read"}, 16, (400, "AccessControlListNotSupported")),
    ],
)
def test_conditions(
    s3: RunningS3,
    client: Any,
    conditions: list[Any],
    fields: dict[str, str],
    size: int,
    refusal: tuple[int, str] | None,
) -> None:
    """Each kind where it holds and where it does not; what is refused stores nothing."""
    file = bytes(size)

    answer = post(s3, encode(signed(s3, {"key": "k", **fields}, document(*conditions)), file))

    assert answer.refusal == (refusal or (204, None))
    stored = client.list_objects_v2(Bucket="staging").get("Contents", [])
    assert [(row["Key"], row["Size"]) for row in stored] == ([] if refusal else [("k", size)])


def test_the_failed_condition_is_named(s3: RunningS3) -> None:
    """As S3 words it."""
    answer = post(s3, encode(signed(s3, {"key": "x"}, document({"key": "k"}))))

    assert (
        b"Invalid according to Policy: Policy Condition failed: [&quot;eq&quot;, &quot;$key&quot;, &quot;k&quot;]"
        in answer.body
    )


@pytest.mark.parametrize(
    ("policy", "refusal"),
    [
        ("not json", (400, "InvalidPolicyDocument")),
        ("[]", (400, "InvalidPolicyDocument")),
        ("[" * 5000, (400, "InvalidPolicyDocument")),
        ({"conditions": []}, (400, "InvalidPolicyDocument")),
        ({"expiration": "2099-01-01T00:00:00Z"}, (400, "InvalidPolicyDocument")),
        ({"expiration": "2099-01-01T00:00:00Z", "CONDITIONS": []}, (400, "InvalidPolicyDocument")),
        ({"expiration": "tomorrow", "conditions": []}, (400, "InvalidPolicyDocument")),
        (document({"key": "k"}, expiration="2020-01-01T00:00:00Z"), (403, "AccessDenied")),
    ],
)
def test_policies_that_are_none(s3: RunningS3, policy: Any, refusal: tuple[int, str]) -> None:
    """400 for what is no policy, 403 for one that is over."""
    assert post(s3, encode(signed(s3, {"key": "k"}, policy))).refusal == refusal


@pytest.mark.parametrize(
    ("change", "refusal", "named"),
    [
        ({"X-Amz-Signature": "0" * 64}, (403, "SignatureDoesNotMatch"), b""),
        ({"policy": "e30="}, (403, "SignatureDoesNotMatch"), b""),
        ({"X-Amz-Signature": ""}, (400, "InvalidArgument"), b"<ArgumentName>X-Amz-Signature</ArgumentName>"),
        ({"X-Amz-Date": ""}, (400, "InvalidArgument"), b"<ArgumentName>X-Amz-Date</ArgumentName>"),
        ({"X-Amz-Credential": ""}, (400, "InvalidArgument"), b"<ArgumentName>X-Amz-Credential</ArgumentName>"),
        ({"policy": ""}, (400, "InvalidArgument"), b"<ArgumentName>policy</ArgumentName>"),
        ({"key": ""}, (400, "InvalidArgument"), b"<ArgumentName>key</ArgumentName>"),
        ({"X-Amz-Algorithm": "AWS4"}, (400, "InvalidArgument"), b"X-Amz-Algorithm"),
        ({"X-Amz-Credential": "a/b"}, (400, "InvalidArgument"), b"X-Amz-Credential"),
        ({"X-Amz-Date": "20200101T000000Z"}, (400, "InvalidArgument"), b"X-Amz-Date"),
        ({"signature": "x", "AWSAccessKeyId": "y"}, (400, "InvalidRequest"), b"AWS4-HMAC-SHA256"),
    ],
)
def test_signatures(s3: RunningS3, change: dict[str, str], refusal: tuple[int, str], named: bytes) -> None:
    """A changed policy or signature is 403, a missing field is named."""
    fields = {**signed(s3, {"key": "k"}, document({"key": "k"})), **change}

    answer = post(s3, encode(fields))

    assert answer.refusal == refusal
    assert named in answer.body


def test_unsigned_forms_and_other_types(s3: RunningS3) -> None:
    """No signature 403; not a form 412; no file, a broken form, too many fields 400; no length 411."""
    form = signed(s3, {"key": "k"}, document({"key": "k"}))
    assert post(s3, encode({"key": "k"})).refusal == (403, "AccessDenied")
    assert post(s3, b"{}", **{"content-type": "application/json"}).refusal == (412, "PreconditionFailed")
    assert post(s3, encode(form, None)).refusal == (400, "InvalidArgument")
    assert post(s3, encode(form)[:-60]).refusal == (400, "MalformedPOSTRequest")
    assert post(s3, b"nothing of the kind").refusal == (400, "MalformedPOSTRequest")
    assert post(s3, encode({**form, "x-ignore-a": "a" * 21_000})).refusal == (400, "MaxPostPreDataLengthExceeded")
    assert post(s3, encode(form), "absent").refusal == (404, "NoSuchBucket")
    assert post(s3, encode(form), **{"content-type": "multipart/form-data"}).refusal == (400, "MalformedPOSTRequest")


@pytest.mark.parametrize("status", ["200", "201", "204", "999"])
def test_the_form_names_its_success(s3: RunningS3, client: Any, status: str) -> None:
    """200, 201 with a document, 204; anything else is 204. What stands behind the file is ignored."""
    conditions = [{"key": "a&b"}, {"success_action_status": status}]
    fields = signed(s3, {"key": "a&b", "success_action_status": status}, document(*conditions))
    after = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="submit"\r\n\r\nUpload\r\n'

    answer = post(s3, encode(fields, after=after))

    assert answer.status == (204 if status == "999" else int(status))
    if status == "201":
        assert b"<PostResponse>" in answer.body
        assert b"<Key>a&amp;b</Key>" in answer.body
        assert hashlib.md5(FILE).hexdigest().encode() in answer.body
    else:
        assert answer.body == b""
    assert client.head_object(Bucket="staging", Key="a&b")["ContentLength"] == len(FILE)


def test_redirect(s3: RunningS3) -> None:
    """303 to the page with bucket, key and ETag; what is no address counts as not given."""
    for target, status in (("http://page.example/done?x=1", 303), ("not an address", 204), ("http://a/\r\nX: y", 204)):
        conditions = [{"key": "k"}, ["starts-with", "$success_action_redirect", ""]]
        fields = signed(s3, {"key": "k", "success_action_redirect": target}, document(*conditions))
        answer = post(s3, encode(fields))
        assert answer.status == status
        if status == 303:
            etag = hashlib.md5(FILE).hexdigest()
            assert answer.headers["location"] == f"{target}&bucket=staging&key=k&etag=%22{etag}%22"


def test_filename_needs_a_file_part(s3: RunningS3, client: Any) -> None:
    """A plain field called file is the file, but it has no name to fill in."""
    fields = signed(s3, {"key": "in/${filename}"}, document(["starts-with", "$key", "in/"]))

    assert post(s3, encode(fields, filename=None)).status == 204
    assert [row["Key"] for row in client.list_objects_v2(Bucket="staging")["Contents"]] == ["in/${filename}"]


def test_the_signers_rights_and_token(tmp_path: Any) -> None:
    """The form may what its signer may; a role's token is a field and must be covered."""
    role = {
        "name": "sign",
        "access_key": "ASIA",
        "secret_key": "s",
        "session_token": "tok",
        "allow": [{"actions": ["s3:PutObject"], "resources": ["staging/in/*"]}],
    }
    with testing.running_s3(tmp_path, callers=[testing.developer(), role]) as s3:
        signer = s3.client("ASIA", "s", aws_session_token="tok")
        assert post(s3, encode(signer.generate_presigned_post("staging", "in/a")["fields"])).status == 204
        assert post(s3, encode(signer.generate_presigned_post("staging", "out/a")["fields"])).refusal == (
            403,
            "AccessDenied",
        )
        fields = signer.generate_presigned_post("staging", "in/b")["fields"]
        assert post(s3, encode({**fields, "x-amz-security-token": "other"})).refusal == (400, "InvalidToken")
        del fields["x-amz-security-token"]
        assert post(s3, encode(fields)).refusal == (403, "InvalidAccessKeyId")
        with pytest.raises(ClientError, match="404"):
            s3.client().head_object(Bucket="staging", Key="out/a")
        counted = s3.admin("GET", "counters")
        assert counted["client"]["s3.PostObject"]["requests"] == 4


def test_a_page_reads_the_answer(tmp_path: Any) -> None:
    """CORS headers with the exposed ETag, on refusals too."""
    cors = [{"AllowedOrigins": ["https://page.example"], "AllowedMethods": ["POST"], "ExposeHeaders": ["ETag"]}]
    with testing.running_s3(tmp_path, buckets=[{"name": "staging", "cors": cors}]) as s3:
        for fields, status in ((signed(s3, {"key": "k"}, document({"key": "k"})), 204), ({"key": "k"}, 403)):
            answer = post(s3, encode(fields), origin="https://page.example")
            assert answer.status == status
            assert answer.headers["access-control-allow-origin"] == "https://page.example"
            assert answer.headers["access-control-expose-headers"] == "ETag"


class Blocks:
    """A source that gives what it has in pieces of the sizes drawn."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self.data, self.at, self.sizes = data, 0, sizes or [1]

    def readinto(self, view: memoryview) -> int:
        size = min(self.sizes[self.at % len(self.sizes)], len(view), len(self.data) - self.at)
        view[:size] = self.data[self.at : self.at + size]
        self.at += size
        return size


@given(
    st.dictionaries(
        st.from_regex(r"[a-z-]{1,12}", fullmatch=True).filter(lambda n: n != "file"), st.text(max_size=50), max_size=5
    ),
    st.binary(max_size=300) | st.builds(lambda n: (b"\r\n--" + BOUNDARY.encode())[:n] * 9, st.integers(0, 12)),
    st.lists(st.integers(1, 70), max_size=5),
    st.integers(1, 400),
)
def test_any_form_comes_apart_as_it_was_made(fields: dict[str, str], file: bytes, sizes: list[int], step: int) -> None:
    """However the bytes arrive and whatever the file holds, short of the whole delimiter."""
    reader = forms.FormReader(Blocks(encode(fields, file, "f"), sizes), BOUNDARY.encode())

    form = reader.fields()
    got = bytearray()
    view = memoryview(bytearray(step))
    while size := reader.readinto(view):
        got += view[:size]

    assert (dict(form.fields), form.filename, bytes(got)) == (fields, "f", file)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    """Whatever comes is a form or an S3 error."""
    reader = forms.FormReader(Blocks(data, [7]), b"b")
    status = 400
    try:
        reader.fields()
        view = memoryview(bytearray(10))
        while reader.readinto(view):
            pass
    except S3Error as error:
        status = error.status
    assert status == 400


@given(st.text(max_size=20), st.text(max_size=20))
def test_matching_is_exact(value: str, wanted: str) -> None:
    """eq holds for the equal value, starts-with for a beginning; names in any case."""
    raw = {"expiration": "2099-01-01T00:00:00Z", "conditions": [["eq", "$A", wanted], ["starts-with", "$B", wanted]]}
    policy = postpolicy.parse(base64.b64encode(json.dumps(raw).encode()).decode())
    try:
        postpolicy.check(policy, {"a": value, "b": wanted + value}, 0)
        held = True
    except S3Error:
        held = False
    assert held == (value == wanted)


def test_a_large_file_is_streamed(s3: RunningS3, client: Any) -> None:
    """Bytes are what they were, past many buffers."""
    file = os.urandom(3_000_001)

    assert post(s3, encode(signed(s3, {"key": "k"}, document({"key": "k"})), file)).status == 204
    assert client.get_object(Bucket="staging", Key="k")["Body"].read() == file


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain text", "plain text"),
        ("ÄMÄZÕÑ S3", "=?UTF-8?Q?=C3=84M=C3=84Z=C3=95=C3=91_S3?="),
        ("\x00\x01\x02\x03\x04", "=?UTF-8?B?AAECAwQ=?="),
        ("日本語 s", "=?UTF-8?B?5pel5pys6KqeIHM=?="),
    ],
)
def test_metadata_that_is_not_ascii(s3: RunningS3, value: str, shown: str) -> None:
    """Given back encoded, as recorded from S3; tags from a form are the object's."""
    tag = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    fields = {"key": "k", "x-amz-meta-A": value, "tagging": tag}
    conditions = [{"key": "k"}, {"x-amz-meta-a": value}, {"tagging": tag}]
    assert post(s3, encode(signed(s3, fields, document(*conditions)))).status == 204
    answer = send(s3.presign("HEAD", "/staging/k"), "HEAD")
    assert (answer.headers["x-amz-meta-a"], answer.headers["x-amz-tagging-count"]) == (shown, "1")
