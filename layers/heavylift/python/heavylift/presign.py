"""SigV4: query signatures for UploadPart and PutObject, and signed headers of any request. Stdlib only, no I/O.

AWS General Reference, "Signature Version 4": the canonical request of a presigned PUT is the same for all parts
of an upload up to the part number, so everything before it is hashed once. botocore is the judge in the tests.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from time import gmtime, strftime
from typing import Any
from urllib.parse import quote, urlsplit

_BLOCK = 64  # bytes of a SHA-256 block: HMAC pads its key to it (RFC 2104)


@dataclass(frozen=True, slots=True)
class Credentials:
    key_id: str
    secret: str
    token: str | None = None


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """Where a bucket answers: ``https://<host><prefix>/<key>``."""

    scheme: str
    host: str
    prefix: str = ""


def bucket_address(bucket: str, region: str, endpoint: str | None = None) -> BucketAddress:
    """The regional virtual host; path style for a dotted bucket, or an endpoint that is an address or localhost."""
    if endpoint:
        parts = urlsplit(endpoint)
        name = parts.hostname or ""
        if name == "localhost" or name.replace(".", "").isdigit() or ":" in name or "." in bucket:
            return BucketAddress(parts.scheme, parts.netloc, f"/{bucket}")
        return BucketAddress(parts.scheme, f"{bucket}.{parts.netloc}")
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    host = f"s3.{suffix}" if region == "us-east-1" else f"s3.{region}.{suffix}"
    return BucketAddress("https", host, f"/{bucket}") if "." in bucket else BucketAddress("https", f"{bucket}.{host}")


def timestamp(now: float) -> str:
    """``YYYYMMDDTHHMMSSZ``."""
    return strftime("%Y%m%dT%H%M%SZ", gmtime(now))


def _quote(value: str) -> str:
    return quote(value, safe="-_.~")


@lru_cache(maxsize=8)
def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """The day's key of Signature Version 4."""
    key = f"AWS4{secret}".encode()
    for piece in (day, region, service, "aws4_request"):
        key = hmac.new(key, piece.encode(), sha256).digest()
    return key


@lru_cache(maxsize=8)
def _keyed(secret: str, day: str, region: str, service: str) -> tuple[Any, Any]:
    """HMAC's two inner states, keyed already. One tuple, so that no thread sees half of a new day's pair."""
    block = signing_key(secret, day, region, service).ljust(_BLOCK, b"\0")
    return sha256(bytes(byte ^ 0x36 for byte in block)), sha256(bytes(byte ^ 0x5C for byte in block))


@dataclass(frozen=True, slots=True)
class PartToSign:
    """One part: its number and the values of the headers to sign besides ``host`` (lower case)."""

    number: int
    headers: Mapping[str, str]


def _query_head(credentials: Credentials, scope: str, ts: str) -> str:
    return (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={_quote(f'{credentials.key_id}/{scope}')}&X-Amz-Date={ts}"
    )


def presign_parts(
    credentials: Credentials,
    region: str,
    address: BucketAddress,
    key: str,
    upload_id: str,
    parts: Sequence[PartToSign],
    expires_s: int,
    ts: str,
) -> Iterator[str]:
    """URLs for UploadPart, in the order of ``parts``; all parts sign headers of the same names.

    The URL equals botocore's for the same moment, byte for byte.
    """
    names = sorted({"host", *(parts[0].headers if parts else ())})
    day = ts[:8]
    inner, outer = _keyed(credentials.secret, day, region, "s3")
    scope = f"{day}/{region}/s3/aws4_request"
    path = quote(f"{address.prefix}/{key}", safe="/~")
    signed = "%3B".join(names)
    token = f"&X-Amz-Security-Token={_quote(credentials.token)}" if credentials.token else ""
    head = _query_head(credentials, scope, ts)
    # Canonical order: every X-Amz-* sorts before partNumber, and that before uploadId.
    common = sha256(
        f"PUT\n{path}\n{head}&X-Amz-Expires={expires_s}{token}&X-Amz-SignedHeaders={signed}&partNumber=".encode()
    )
    to_sign = inner.copy()
    to_sign.update(f"AWS4-HMAC-SHA256\n{ts}\n{scope}\n".encode())
    prefix = f"{address.scheme}://{address.host}{path}?uploadId={_quote(upload_id)}&partNumber="
    suffix = f"&{head}&X-Amz-SignedHeaders={signed}&X-Amz-Expires={expires_s}{token}&X-Amz-Signature="
    middle = f"&uploadId={_quote(upload_id)}\n"
    tail = f"\n{';'.join(names)}\nUNSIGNED-PAYLOAD"
    for part in parts:
        values = "".join(f"{name}:{address.host if name == 'host' else part.headers[name]}\n" for name in names)
        canonical = common.copy()
        canonical.update(f"{part.number}{middle}{values}{tail}".encode())
        inside = to_sign.copy()
        inside.update(canonical.hexdigest().encode())
        signature = outer.copy()
        signature.update(inside.digest())
        yield f"{prefix}{part.number}{suffix}{signature.hexdigest()}"


def presign_put(
    credentials: Credentials,
    region: str,
    address: BucketAddress,
    key: str,
    headers: Mapping[str, str],
    expires_s: int,
    ts: str,
) -> str:
    """The URL of one PutObject with ``headers`` (lower case, without host) signed into it."""
    names = sorted({"host", *headers})
    day = ts[:8]
    scope = f"{day}/{region}/s3/aws4_request"
    path = quote(f"{address.prefix}/{key}", safe="/~")
    signed = "%3B".join(names)
    token = f"&X-Amz-Security-Token={_quote(credentials.token)}" if credentials.token else ""
    head = _query_head(credentials, scope, ts)
    values = "".join(f"{name}:{address.host if name == 'host' else headers[name]}\n" for name in names)
    canonical = (
        f"PUT\n{path}\n{head}&X-Amz-Expires={expires_s}{token}&X-Amz-SignedHeaders={signed}\n"
        f"{values}\n{';'.join(names)}\nUNSIGNED-PAYLOAD"
    )
    text = f"AWS4-HMAC-SHA256\n{ts}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    key_of_day = signing_key(credentials.secret, day, region, "s3")
    signature = hmac.new(key_of_day, text.encode(), sha256).hexdigest()
    return (
        f"{address.scheme}://{address.host}{path}"
        f"?{head}&X-Amz-SignedHeaders={signed}&X-Amz-Expires={expires_s}{token}&X-Amz-Signature={signature}"
    )


def authorization(
    credentials: Credentials,
    region: str,
    service: str,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body_sha256: str,
    ts: str,
) -> str:
    """The header that signs a request with all of ``headers`` (lower case, ``host`` and ``x-amz-date`` among them).

    ``path`` and ``query`` are encoded and in canonical order already; ``body_sha256``: hex, or UNSIGNED-PAYLOAD.
    """
    scope = f"{ts[:8]}/{region}/{service}/aws4_request"
    names = sorted(headers)
    signed = ";".join(names)
    values = "".join(f"{name}:{headers[name]}\n" for name in names)
    canonical = f"{method}\n{path}\n{query}\n{values}\n{signed}\n{body_sha256}"
    inner, outer = (state.copy() for state in _keyed(credentials.secret, ts[:8], region, service))
    inner.update(f"AWS4-HMAC-SHA256\n{ts}\n{scope}\n{sha256(canonical.encode()).hexdigest()}".encode())
    outer.update(inner.digest())
    return (
        f"AWS4-HMAC-SHA256 Credential={credentials.key_id}/{scope}, "
        f"SignedHeaders={signed}, Signature={outer.hexdigest()}"
    )


def sign_json_request(
    credentials: Credentials,
    region: str,
    service: str,
    host: str,
    target: str,
    body: bytes,
    ts: str,
    version: str = "1.0",
) -> dict[str, str]:
    """Headers of a signed ``POST /`` of AWS's JSON protocol (1.0: DynamoDB, SQS; 1.1: EventBridge)."""
    headers = {
        "content-type": f"application/x-amz-json-{version}",
        "host": host,
        "x-amz-date": ts,
        "x-amz-target": target,
    }
    if credentials.token:
        headers["x-amz-security-token"] = credentials.token
    headers["authorization"] = authorization(
        credentials, region, service, "POST", "/", "", headers, sha256(body).hexdigest(), ts
    )
    return headers
