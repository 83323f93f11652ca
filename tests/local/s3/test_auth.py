"""Signatures: judged by botocore as signer and by the examples of the S3 API reference."""

from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given
from hypothesis import strategies as st

from heavylift_local.s3.auth import Head, Signed, authenticate, canonical_request, sign, signing_key
from heavylift_local.s3.config import Caller
from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.request import Request, locate, parse_head

REGION = "eu-central-1"
CALLERS = {
    "AKID": Caller("plain", "AKID", "secret/+=", None, None),
    "ASIA": Caller("role", "ASIA", "other", "tok/en+=" * 40, 4e9),
    "ASIAOLD": Caller("lapsed", "ASIAOLD", "other", "token", 1000.0),
}
# S3 keys: anything but surrogates; reserved characters and dots on purpose.
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60) | st.text(
    "/.+ %&?=#~;:@$,'\"\\*()!ü€😀", min_size=1, max_size=40
)


def _head(url: str, method: str, headers: dict[str, str]) -> Head:
    """What the server makes of this request on the wire."""
    parts = urlsplit(url)
    target = url[len(f"{parts.scheme}://{parts.netloc}") :].partition("#")[0] or "/"
    lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    request = parse_head("\r\n".join(lines).encode("latin-1"), "127.0.0.1")
    locate(request)
    return request.auth_head()


def _now(timestamp: str) -> float:
    return datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _quoted(key: str) -> str:
    from urllib.parse import quote

    return quote(key, safe="/~")


def _presigned(key: str, caller: Caller = CALLERS["AKID"], expires: int = 900, **more: str) -> tuple[str, float]:
    from urllib.parse import urlencode

    url = f"http://127.0.0.1:9/bucket/{_quoted(key)}" + (f"?{urlencode(more)}" if more else "")
    request = AWSRequest("PUT", url)
    credentials = Credentials(caller.access_key, caller.secret_key, caller.session_token)
    S3SigV4QueryAuth(credentials, "s3", REGION, expires).add_auth(request)
    stamp = request.url.partition("X-Amz-Date=")[2][:16]
    return request.url, _now(stamp)


def _code(head: Head, now: float) -> str:
    with pytest.raises(S3Error) as caught:
        authenticate(head, CALLERS, REGION, now)
    return caught.value.code


@given(
    KEYS,
    st.dictionaries(st.text("abcXYZ-", min_size=1, max_size=8), KEYS, max_size=3),
    st.sampled_from(["AKID", "ASIA"]),
)
@example("a//b/../%2F+ ü", {"prefix": "a b+c"}, "ASIA")
def test_what_botocore_presigns_is_accepted(key: str, query: dict[str, str], name: str) -> None:
    """Any key and query, with and without a session token."""
    url, now = _presigned(key, CALLERS[name], **query)

    signed = authenticate(_head(url, "PUT", {"Host": "127.0.0.1:9"}), CALLERS, REGION, now + 10)

    assert (signed.caller, signed.mechanism, signed.payload) == (CALLERS[name], "query", "UNSIGNED-PAYLOAD")


@given(
    KEYS, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30), st.sampled_from(["AKID", "ASIA"])
)
def test_what_botocore_signs_in_headers_is_accepted(key: str, value: str, name: str) -> None:
    """Any key; header values with runs of spaces."""
    caller = CALLERS[name]
    request = AWSRequest("PUT", f"http://127.0.0.1:9/bucket/{_quoted(key)}", {"x-amz-meta-a": value}, b"body")
    request.headers["Host"] = "127.0.0.1:9"
    S3SigV4Auth(Credentials(caller.access_key, caller.secret_key, caller.session_token), "s3", REGION).add_auth(request)
    headers = dict(request.headers.items())
    head = _head(request.url, "PUT", headers)

    signed = authenticate(head, CALLERS, REGION, _now(headers["X-Amz-Date"]))

    assert (signed.caller, signed.mechanism) == (caller, "header")
    tampered = Head("PUT", head.path + b"x", head.query, head.headers)
    assert _code(tampered, _now(headers["X-Amz-Date"])) == "SignatureDoesNotMatch"


def test_the_reference_examples() -> None:
    """The published GET example (headers) gives the published signature."""
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "range": "bytes=0-9",
        "x-amz-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "x-amz-date": "20130524T000000Z",
    }
    names = ["host", "range", "x-amz-content-sha256", "x-amz-date"]
    canonical = canonical_request(Head("GET", b"/test.txt", [], headers), names, headers["x-amz-content-sha256"])
    key = signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1")

    signature, _ = sign(key, "20130524T000000Z", "20130524/us-east-1/s3/aws4_request", canonical)

    assert signature == "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"


def test_the_reference_example_of_a_chunked_upload() -> None:
    """The published chunked PUT: seed, two chunks and the end."""
    import hashlib

    headers = {
        "host": "s3.amazonaws.com",
        "content-encoding": "aws-chunked",
        "content-length": "66824",
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "x-amz-date": "20130524T000000Z",
        "x-amz-decoded-content-length": "66560",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;"
        "x-amz-decoded-content-length;x-amz-storage-class,"
        "Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    }
    caller = Caller("e", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    head = Head("PUT", b"/examplebucket/chunkObject.txt", [], headers)

    signed = authenticate(head, {caller.access_key: caller}, "us-east-1", _now("20130524T000000Z"))

    chain = signed.chain
    assert chain is not None
    first = chain.chunk(chain.seed, hashlib.sha256(b"a" * 65536).hexdigest())
    second = chain.chunk(first, hashlib.sha256(b"a" * 1024).hexdigest())
    last = chain.chunk(second, hashlib.sha256(b"").hexdigest())
    assert first == "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"
    assert second == "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"
    assert last == "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda u: u.replace("/bucket/k", "/bucket/l"), "SignatureDoesNotMatch"),
        (lambda u: u[:-1] + ("0" if u[-1] != "0" else "1"), "SignatureDoesNotMatch"),
        (lambda u: u.replace("partNumber=1", "partNumber=2"), "SignatureDoesNotMatch"),
        (lambda u: u + "&extra=1", "SignatureDoesNotMatch"),
        (lambda u: u.replace("Expires=900", "Expires=9000"), "SignatureDoesNotMatch"),
        (lambda u: u.replace("&X-Amz-Expires=900", ""), "AuthorizationQueryParametersError"),
        (lambda u: u.replace("Expires=900", "Expires=604801"), "AuthorizationQueryParametersError"),
        (lambda u: u.replace("Expires=900", "Expires=-1"), "AuthorizationQueryParametersError"),
        (lambda u: u.replace("Expires=900", "Expires=soon"), "AuthorizationQueryParametersError"),
        (lambda u: u.replace("AKID%2F", "AKID"), "AuthorizationQueryParametersError"),
        (lambda u: u.replace(REGION, "eu-west-1"), "AuthorizationQueryParametersError"),
        (lambda u: u.replace("%2Fs3%2F", "%2Fec2%2F"), "AuthorizationQueryParametersError"),
        (lambda u: u.replace("SHA256&", "SHA512&"), "AuthorizationQueryParametersError"),
        (lambda u: u.replace("AKID", "AKIDX"), "InvalidAccessKeyId"),
        (lambda u: u.replace("AKID", "ASIA"), "InvalidAccessKeyId"),
        (lambda u: u + "&X-Amz-Security-Token=what", "InvalidToken"),
        (lambda u: u.replace("SignedHeaders=host", "SignedHeaders=x-amz-a"), "AccessDenied"),
        (lambda u: "http://127.0.0.1:9/bucket/k?AWSAccessKeyId=AKID&Signature=a&Expires=99999999999", "InvalidRequest"),
        (lambda u: "http://127.0.0.1:9/bucket/k", "AccessDenied"),
    ],
)
def test_a_changed_url_is_refused_with_the_right_code(change, code: str) -> None:
    """Each of these is one change to a good URL."""
    url, now = _presigned("k", partNumber="1")

    assert _code(_head(change(url), "PUT", {"Host": "127.0.0.1:9"}), now) == code


@pytest.mark.parametrize(
    ("headers", "later", "code", "sentence"),
    [
        ({}, 901, "AccessDenied", "Request has expired"),
        ({}, -901, "AccessDenied", "Request is not yet valid"),
        ({"Host": "other:9"}, 0, "SignatureDoesNotMatch", ""),
        (
            {"x-amz-acl": "private"},
            0,
            "AccessDenied",
            "There were headers present in the request which were not signed",
        ),
        ({"Authorization": "AWS4-HMAC-SHA256 x"}, 0, "InvalidArgument", "Only one auth mechanism allowed"),
        ({"Authorization": "Bearer x"}, 0, "InvalidArgument", "Only one auth mechanism allowed"),
    ],
)
def test_a_good_url_at_the_wrong_time_or_with_wrong_headers(headers, later: int, code: str, sentence: str) -> None:
    """Codes and sentences as recorded from S3."""
    url, now = _presigned("k")

    with pytest.raises(S3Error) as caught:
        authenticate(_head(url, "PUT", {"Host": "127.0.0.1:9"} | headers), CALLERS, REGION, now + later)

    assert caught.value.code == code
    assert caught.value.message.startswith(sentence)


def test_payload_header_is_tolerated_unsigned() -> None:
    """x-amz-content-sha256 is the one x-amz-* header that need not be signed."""
    url, now = _presigned("k")

    head = _head(url, "PUT", {"Host": "127.0.0.1:9", "x-amz-content-sha256": "UNSIGNED-PAYLOAD"})

    assert isinstance(authenticate(head, CALLERS, REGION, now), Signed)


def test_a_lapsed_token_is_expired_not_unknown() -> None:
    """ExpiredToken is a 400, and comes although the signature is right."""
    url, now = _presigned("k", CALLERS["ASIAOLD"])

    with pytest.raises(S3Error) as caught:
        authenticate(_head(url, "PUT", {"Host": "127.0.0.1:9"}), CALLERS, REGION, now)

    assert (caught.value.status, caught.value.code) == (400, "ExpiredToken")


@pytest.mark.parametrize(
    ("drop", "replace", "later", "code"),
    [
        (None, {}, 901, "RequestTimeTooSkewed"),
        (None, {}, -901, "RequestTimeTooSkewed"),
        ("X-Amz-Content-SHA256", {}, 0, "InvalidRequest"),
        (None, {"X-Amz-Content-SHA256": "abc"}, 0, "InvalidArgument"),
        ("X-Amz-Date", {}, 0, "AccessDenied"),
        (None, {"Authorization": "AWS AKID:sig"}, 0, "InvalidRequest"),
        (None, {"Authorization": "Basic abc"}, 0, "InvalidArgument"),
        (None, {"Authorization": "AWS4-HMAC-SHA256 nonsense"}, 0, "AuthorizationHeaderMalformed"),
        (None, {"x-amz-meta-more": "1"}, 0, "AccessDenied"),
        ("x-amz-meta-a", {}, 0, "SignatureDoesNotMatch"),
        (None, {"x-amz-meta-a": "other"}, 0, "SignatureDoesNotMatch"),
    ],
)
def test_header_auth_refusals(drop: str | None, replace: dict[str, str], later: int, code: str) -> None:
    """One change each to a request that botocore signed."""
    request = AWSRequest("PUT", "http://127.0.0.1:9/bucket/k", {"x-amz-meta-a": "v"}, b"body")
    request.headers["Host"] = "127.0.0.1:9"
    S3SigV4Auth(Credentials("AKID", "secret/+="), "s3", REGION).add_auth(request)
    headers = dict(request.headers.items())
    now = _now(headers["X-Amz-Date"]) + later
    headers = {k: v for k, v in headers.items() if k != drop} | replace

    assert _code(_head(request.url, "PUT", headers), now) == code


@given(st.binary(max_size=300))
def test_no_head_breaks_the_parser(data: bytes) -> None:
    """Garbage is BadHead or S3Error, nothing else."""
    from heavylift_local.s3.request import BadHead

    try:
        request: Request = parse_head(data, "127.0.0.1")
        locate(request)
        authenticate(request.auth_head(), CALLERS, REGION, 0)
    except (BadHead, S3Error):
        pass
