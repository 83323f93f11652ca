"""Signature Version 4, in headers and in the query: who signed this request, and is it what they signed? No I/O here.

Follows "Authenticating Requests (AWS Signature Version 4)" of the Amazon S3 API reference; refusals carry the codes
and sentences recorded from S3. There is no switch that skips any of it. Everything is decided from the request's
head, before a byte of the body is read.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import quote

from heavylift_local.s3.config import Caller
from heavylift_local.s3.errors import S3Error, invalid_argument, invalid_request

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW_SECONDS_MAX = 900  # S3: a signed request is good for 15 minutes either way
EXPIRES_SECONDS_MAX = 604_800  # S3: a presigned URL lives at most 7 days
UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
STREAMING = frozenset({STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER})
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

QUERY_NAMES = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)
QUERY_AUTH = frozenset({name.lower() for name in QUERY_NAMES} | {"x-amz-security-token"})

_HEX64 = re.compile(r"^[0-9a-f]{64}$")
_ISO = re.compile(r"^\d{8}T\d{6}Z$")
_AUTHORIZATION = re.compile(
    r"^AWS4-HMAC-SHA256\s+Credential=(?P<credential>[^,\s]+)\s*,\s*SignedHeaders=(?P<signed>[^,\s]*)\s*,\s*"
    r"Signature=(?P<signature>[^,\s]+)\s*$"
)


@dataclass(frozen=True, slots=True)
class Head:
    """What a signature can cover. Header names are lower case, values as received (latin-1), repeats joined by ','."""

    method: str
    path: bytes  # percent-decoded once
    query: Sequence[tuple[str, str]]  # decoded pairs in the order received
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ChunkChain:
    """What it takes to verify the signatures inside an aws-chunked body."""

    key: bytes
    timestamp: str
    scope: str
    seed: str

    def _sign(self, kind: str, previous: str, *hashes: str) -> str:
        text = "\n".join((f"AWS4-HMAC-SHA256-{kind}", self.timestamp, self.scope, previous, *hashes))
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()

    def chunk(self, previous: str, sha256: str) -> str:
        """Signature of one chunk, given the one before it and the chunk's hex SHA-256."""
        return self._sign("PAYLOAD", previous, EMPTY_SHA256, sha256)

    def trailer(self, previous: str, trailers: str) -> str:
        """Signature of the trailing headers in canonical form ("name:value\\n" each)."""
        return self._sign("TRAILER", previous, hashlib.sha256(trailers.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Signed:
    """A verified signature. *payload*: hex SHA-256 of the body, UNSIGNED-PAYLOAD or one of STREAMING."""

    caller: Caller
    mechanism: str  # "header", "query" or "form"
    payload: str
    chain: ChunkChain | None = None
    signed_at: float = 0.0  # seconds since 1970


@lru_cache(maxsize=512)
def signing_key(secret: str, day: str, region: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def canonical_path(path: bytes) -> str:
    """S3 neither normalises nor double-encodes: the decoded path, encoded again."""
    return quote(path, safe="/-_.~")


def canonical_query(pairs: Sequence[tuple[str, str]]) -> str:
    encoded = sorted((_encoded(k), _encoded(v)) for k, v in pairs if k != "X-Amz-Signature")
    return "&".join(f"{k}={v}" for k, v in encoded)


@lru_cache(maxsize=256)
def _encoded(text: str) -> str:
    """Remembered, because presigned URLs of one signer differ in little, and a token is slow to encode."""
    return quote(text, safe="-_.~")


def canonical_request(head: Head, signed_names: Sequence[str], payload: str) -> bytes:
    """A signed header that was not sent counts as empty, so that leaving one out breaks the signature."""
    lines = "".join(f"{name}:{' '.join(head.headers.get(name, '').split())}\n" for name in signed_names)
    parts = (
        head.method,
        canonical_path(head.path),
        canonical_query(head.query),
        lines,
        ";".join(signed_names),
        payload,
    )
    return "\n".join(parts).encode("latin-1")


def sign(key: bytes, timestamp: str, scope: str, canonical: bytes) -> tuple[str, str]:
    """(signature, string to sign)."""
    text = f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), text


def authenticate(head: Head, callers: Mapping[str, Caller], region: str | None, now: float) -> Signed:
    """Who signed *head*. *callers* by access key, *now* in seconds since 1970, *region* None: any will do.

    Raises S3Error with S3's code.
    """
    query = dict(reversed(head.query))
    authorization = head.headers.get("authorization")
    in_query = any(name in query for name in QUERY_NAMES if name not in ("X-Amz-Date", "X-Amz-Expires"))
    old_query = "Signature" in query and "AWSAccessKeyId" in query
    if authorization is not None and (in_query or old_query):
        message = (
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
            "parameter or the Authorization header should be specified"
        )
        raise invalid_argument(message, "Authorization", authorization)
    if old_query or (authorization or "").startswith("AWS "):
        raise invalid_request(
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        )
    if in_query:
        return _from_query(head, query, callers, region, now)
    if authorization is not None:
        return _from_header(head, authorization, callers, region, now)
    raise S3Error("AccessDenied")


def _from_query(
    head: Head, query: Mapping[str, str], callers: Mapping[str, Caller], region: str | None, now: float
) -> Signed:
    if any(not query.get(name) for name in QUERY_NAMES):
        raise S3Error("AuthorizationQueryParametersError")
    if query["X-Amz-Algorithm"] != ALGORITHM:
        raise _query_error('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256"')
    credential = query["X-Amz-Credential"].split("/")
    if len(credential) < 5 or credential[-1] != "aws4_request":
        raise _query_error(
            "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; expecting "
            '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
        )
    access_key = "/".join(credential[:-4])
    day, wanted_region, service = credential[-4:-1]
    timestamp = query["X-Amz-Date"]
    signed_at = _parse_iso(timestamp)
    if signed_at is None:
        raise _query_error("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    if day != timestamp[:8]:
        raise _query_error(
            f'Invalid credential date "{day}". This date is not the same as X-Amz-Date: "{timestamp[:8]}".'
        )
    if region is not None and wanted_region != region:
        raise S3Error(
            "AuthorizationQueryParametersError",
            f"Error parsing the X-Amz-Credential parameter; the region '{wanted_region}' is wrong; "
            f"expecting '{region}'",
            fields={"Region": region},
        )
    if service != "s3":
        raise _query_error(
            f'Error parsing the X-Amz-Credential parameter; incorrect service "{service}". This endpoint belongs to '
            '"s3".'
        )
    expires_text = query["X-Amz-Expires"]
    if not re.fullmatch(r"-?\d{1,18}", expires_text, re.ASCII):
        raise _query_error("X-Amz-Expires should be a number")
    expires = int(expires_text)
    if expires < 0:
        raise _query_error("X-Amz-Expires must be non-negative")
    if expires > EXPIRES_SECONDS_MAX:
        raise _query_error(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than "
            "604800 seconds"
        )
    if signed_at - now > SKEW_SECONDS_MAX:
        raise S3Error("AccessDenied", "Request is not yet valid", fields={"ServerTime": _iso_text(now)})
    if now > signed_at + expires:
        fields = {
            "X-Amz-Expires": expires,
            "Expires": _iso_text(signed_at + expires),
            "ServerTime": _iso_text(now),
        }
        raise S3Error("AccessDenied", "Request has expired", fields=fields)
    caller = _caller(callers, access_key, query.get("X-Amz-Security-Token"), now)
    names = query["X-Amz-SignedHeaders"].split(";")
    _all_signed(head, names)
    # A presigned request does not sign its body, unless the payload header itself is among the signed ones.
    payload = head.headers.get("x-amz-content-sha256", UNSIGNED) if "x-amz-content-sha256" in names else UNSIGNED
    scope = f"{day}/{wanted_region}/s3/aws4_request"
    key = signing_key(caller.secret_key, day, wanted_region)
    _compare(head, names, payload, caller, key, timestamp, scope, query["X-Amz-Signature"])
    body = head.headers.get("x-amz-content-sha256", UNSIGNED)
    if body not in STREAMING:
        body = payload
    return Signed(caller, "query", body, ChunkChain(key, timestamp, scope, query["X-Amz-Signature"]), signed_at)


def _from_header(
    head: Head, authorization: str, callers: Mapping[str, Caller], region: str | None, now: float
) -> Signed:
    if not authorization.startswith("AWS4-"):
        raise invalid_argument("Unsupported Authorization Type", "Authorization", authorization)
    match = _AUTHORIZATION.match(authorization)
    if match is None:
        raise S3Error("AuthorizationHeaderMalformed")
    credential = match["credential"].split("/")
    if len(credential) < 5 or credential[-1] != "aws4_request":
        raise S3Error(
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the Credential is mal-formed; expecting "
            '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".',
        )
    access_key = "/".join(credential[:-4])
    day, wanted_region, service = credential[-4:-1]
    if region is not None and wanted_region != region:
        raise S3Error(
            "AuthorizationHeaderMalformed",
            f"The authorization header is malformed; the region '{wanted_region}' is wrong; expecting '{region}'",
            fields={"Region": region},
        )
    if service != "s3":
        raise S3Error(
            "AuthorizationHeaderMalformed",
            f'The authorization header is malformed; incorrect service "{service}". This endpoint belongs to "s3".',
        )
    timestamp, signed_at = _header_time(head.headers)
    if day != timestamp[:8]:
        raise S3Error(
            "AuthorizationHeaderMalformed",
            f'The authorization header is malformed; Invalid credential date "{day}". This date is not the same as '
            f'X-Amz-Date: "{timestamp[:8]}".',
        )
    payload = head.headers.get("x-amz-content-sha256")
    if payload is None:
        raise invalid_request("Missing required header for this request: x-amz-content-sha256")
    if payload != UNSIGNED and payload not in STREAMING and not _HEX64.match(payload):
        message = (
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value."
        )
        raise invalid_argument(message, "x-amz-content-sha256", payload)
    if abs(now - signed_at) > SKEW_SECONDS_MAX:
        fields = {
            "RequestTime": timestamp,
            "ServerTime": _iso_text(now),
            "MaxAllowedSkewMilliseconds": SKEW_SECONDS_MAX * 1000,
        }
        raise S3Error("RequestTimeTooSkewed", fields=fields)
    caller = _caller(callers, access_key, head.headers.get("x-amz-security-token"), now)
    names = match["signed"].split(";")
    _all_signed(head, names)
    scope = f"{day}/{wanted_region}/s3/aws4_request"
    key = signing_key(caller.secret_key, day, wanted_region)
    _compare(head, names, payload, caller, key, timestamp, scope, match["signature"])
    return Signed(caller, "header", payload, ChunkChain(key, timestamp, scope, match["signature"]), signed_at)


FORM_NAMES = ("policy", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Signature")


def authenticate_form(
    fields: Mapping[str, str], callers: Mapping[str, Caller], region: str | None, now: float
) -> Signed:
    """Who signed the policy of a form; *fields* by lower-case name.

    Raises AccessDenied without any signature, InvalidArgument naming the field that is missing, and what a signature
    in the query raises. How long it is good for the policy says, not its date.
    """
    if "awsaccesskeyid" in fields or "signature" in fields:
        raise invalid_request(
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        )
    missing = [name for name in FORM_NAMES if not fields.get(name.lower())]
    if len(missing) == len(FORM_NAMES):
        raise S3Error("AccessDenied")
    if missing:
        message = (
            f"Bucket POST must contain a field named '{missing[0]}'.  If it is specified, please check the order of "
            "the fields."
        )
        raise invalid_argument(message, missing[0], "")
    if fields["x-amz-algorithm"] != ALGORITHM:
        message = "Unsupported X-Amz-Algorithm; only AWS4-HMAC-SHA256 is supported"
        raise invalid_argument(message, "X-Amz-Algorithm", fields["x-amz-algorithm"])
    text, timestamp, policy = fields["x-amz-credential"], fields["x-amz-date"], fields["policy"]
    credential = text.split("/")
    if len(credential) < 5 or credential[-1] != "aws4_request" or credential[-2] != "s3":
        message = (
            "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; expecting "
            '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
        )
        raise invalid_argument(message, "X-Amz-Credential", text)
    day, wanted_region = credential[-4:-2]
    if region is not None and wanted_region != region:
        message = f"the region '{wanted_region}' is wrong; expecting '{region}'"
        raise invalid_argument(message, "X-Amz-Credential", text)
    signed_at = _parse_iso(timestamp)
    if signed_at is None or day != timestamp[:8]:
        message = "X-Amz-Date must be formatted via ISO8601 Long format and be of the day of X-Amz-Credential"
        raise invalid_argument(message, "X-Amz-Date", timestamp)
    caller = _caller(callers, "/".join(credential[:-4]), fields.get("x-amz-security-token"), now)
    key = signing_key(caller.secret_key, day, wanted_region)
    expected = hmac.new(key, policy.encode(), hashlib.sha256).hexdigest()
    provided = fields["x-amz-signature"]
    if not hmac.compare_digest(expected.encode(), provided.encode()):
        sent = {
            "AWSAccessKeyId": caller.access_key,
            "StringToSign": policy,
            "SignatureProvided": provided,
            "StringToSignBytes": " ".join(f"{b:02x}" for b in policy.encode()),
        }
        raise S3Error("SignatureDoesNotMatch", fields=sent)
    return Signed(caller, "form", UNSIGNED, None, signed_at)


def _caller(callers: Mapping[str, Caller], access_key: str, token: str | None, now: float) -> Caller:
    caller = callers.get(access_key)
    if caller is None or (caller.session_token and not token):
        # S3 does not know a temporary key without its token.
        raise S3Error("InvalidAccessKeyId", fields={"AWSAccessKeyId": access_key})
    if (token or caller.session_token) and not hmac.compare_digest(
        (token or "").encode(), (caller.session_token or "").encode()
    ):
        raise S3Error("InvalidToken", fields={"Token-0": token})
    if caller.session_expires is not None and now > caller.session_expires:
        raise S3Error("ExpiredToken", fields={"Token-0": token})
    return caller


def _all_signed(head: Head, names: Sequence[str]) -> None:
    signed = set(names)
    missing = [
        name
        for name in head.headers
        if name.startswith("x-amz-") and name not in signed and name != "x-amz-content-sha256"
    ]
    if "host" not in signed:
        missing.insert(0, "host")
    if missing:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            fields={"HeadersNotSigned": ", ".join(missing)},
        )


def _compare(
    head: Head,
    names: Sequence[str],
    payload: str,
    caller: Caller,
    key: bytes,
    timestamp: str,
    scope: str,
    provided: str,
) -> None:
    canonical = canonical_request(head, names, payload)
    expected, text = sign(key, timestamp, scope, canonical)
    if hmac.compare_digest(expected.encode(), provided.encode("utf-8", "surrogateescape")):
        return
    fields = {
        "AWSAccessKeyId": caller.access_key,
        "StringToSign": text,
        "SignatureProvided": provided,
        "StringToSignBytes": " ".join(f"{b:02x}" for b in text.encode()),
        "CanonicalRequest": canonical.decode("latin-1"),
        "CanonicalRequestBytes": " ".join(f"{b:02x}" for b in canonical),
    }
    raise S3Error("SignatureDoesNotMatch", fields=fields)


def _header_time(headers: Mapping[str, str]) -> tuple[str, float]:
    timestamp = headers.get("x-amz-date", "")
    signed_at = _parse_iso(timestamp)
    if signed_at is None and "x-amz-date" not in headers and "date" in headers:
        try:
            moment = parsedate_to_datetime(headers["date"])
        except ValueError:
            moment = None
        if moment is not None:
            signed_at = moment.timestamp()
            timestamp = _compact(signed_at)
    if signed_at is None:
        raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
    return timestamp, signed_at


def _parse_iso(text: str) -> float | None:
    if not _ISO.match(text):
        return None
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _compact(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dT%H%M%SZ")


def _iso_text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _query_error(message: str) -> S3Error:
    return S3Error("AuthorizationQueryParametersError", message)
