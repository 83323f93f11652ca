"""A request as the operations see it, and an answer as they give it. No I/O here."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_plus, unquote_to_bytes

from heavylift_local.s3 import auth
from heavylift_local.s3.errors import S3Error, not_implemented
from heavylift_local.s3.extents import Extent
from heavylift_local.s3.wire import HeadTooLarge

if TYPE_CHECKING:
    from heavylift_local.s3.body import Body
    from heavylift_local.s3.config import Caller

HEADERS_MAX = 200
KEY_BYTES_MAX = 1024  # S3: a key is at most 1,024 bytes of UTF-8

_TOKEN = re.compile(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
_LENGTH = re.compile(r"^[0-9]{1,19}$")


class BadHead(Exception):
    """Not HTTP: answered 400 without more, and the connection ends."""


@dataclass(slots=True)
class Request:
    method: str
    target: str
    version: str
    headers: dict[str, str]
    peer: str = ""
    path: bytes = b""
    query_pairs: list[tuple[str, str]] = field(default_factory=list)
    query: dict[str, str] = field(default_factory=dict)
    bucket: str = ""
    key: str = ""
    virtual_host: bool = False  # the bucket was in the Host header
    request_id: str = field(default_factory=lambda: secrets.token_hex(8).upper())
    operation: str = "Unknown"
    caller: "Caller | None" = None
    signed: auth.Signed | None = None
    hoisted: frozenset[str] = frozenset()  # header names that came in the signed query
    body: "Body | None" = None

    @property
    def caller_name(self) -> str:
        """Whose counters this goes to: a presigned URL is used by a client, whoever signed it."""
        if self.signed is None or self.signed.mechanism != "header":
            return "client"
        return self.signed.caller.name

    @property
    def keep_alive(self) -> bool:
        connection = self.headers.get("connection", "").lower()
        return "close" not in connection and (self.version == "HTTP/1.1" or "keep-alive" in connection)

    @property
    def content_length(self) -> int | None:
        text = self.headers.get("content-length")
        return None if text is None else int(text)

    def place(self, key: str) -> str:
        """The address of *key* in this request's bucket, in the style the request came in."""
        bucket = "" if self.virtual_host else f"/{quote(self.bucket)}"
        return f"http://{self.headers.get('host', '')}{bucket}/{quote(key, safe='')}"

    def auth_head(self) -> auth.Head:
        return auth.Head(self.method, self.path, self.query_pairs, self.headers)


@dataclass(slots=True)
class Response:
    """*slices* (a file body of *length* bytes) or *body*, never both."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    slices: Sequence[Extent] | None = None
    length: int = 0
    close: bool = False


def parse_head(head: bytes, peer: str) -> Request:
    """Method, target and headers.

    Raises HeadTooLarge, and BadHead for what is not HTTP/1.x or could be read in two ways.
    """
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0") or not _TOKEN.match(words[0]):
        raise BadHead("request line")
    if len(lines) - 1 > HEADERS_MAX:
        raise HeadTooLarge
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.match(name) or "\n" in value or "\r" in value or "\0" in value:
            raise BadHead("header line")
        name, value = name.lower(), value.strip(" \t")
        if name in headers:
            if name in ("content-length", "host", "authorization") and headers[name] != value:
                raise BadHead(f"two {name} headers")
            if name != "content-length":
                value = f"{headers[name]},{value}"
        headers[name] = value
    length = headers.get("content-length")
    if length is not None and (not _LENGTH.match(length) or "transfer-encoding" in headers):
        raise BadHead("content-length")
    return Request(words[0], words[1], words[2], headers, peer)


def locate(request: Request, domains: Sequence[str] = ()) -> None:
    """Fill in path, query, bucket and key. Raises S3Error (InvalidURI, KeyTooLongError).

    *domains*: a Host of <bucket>.<domain> names the bucket (virtual-host style).
    The key is percent-decoded once and opaque: `a//b`, `a/`, `..` and `%2F` are kept (recorded).
    """
    target = request.target
    if not target.startswith("/"):  # absolute form: what a proxy would send
        scheme, _, rest = target.partition("://")
        if scheme not in ("http", "https"):
            raise S3Error("InvalidURI", fields={"URI": target})
        target = "/" + rest.partition("/")[2]
    raw_path, _, raw_query = target.partition("?")
    request.path = unquote_to_bytes(raw_path.encode("latin-1"))
    try:
        path = request.path.decode("utf-8")
        request.query_pairs = parse_query(raw_query)
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", fields={"URI": target}) from None
    request.query = dict(reversed(request.query_pairs))
    host = request.headers.get("host", "").rsplit(":", 1)[0].lower()
    # The longest name first: with both s3.localhost and localhost, b.s3.localhost is the bucket b.
    inside = [d for d in sorted(domains, key=len, reverse=True) if host == d or host.endswith("." + d)]
    if inside and host != inside[0]:
        request.bucket, request.key, request.virtual_host = host[: -len(inside[0]) - 1], path[1:], True
    else:
        request.bucket, _, request.key = path[1:].partition("/")
    if len(request.key.encode()) > KEY_BYTES_MAX:
        fields = {"MaxSizeAllowed": KEY_BYTES_MAX, "Size": len(request.key.encode())}
        raise S3Error("KeyTooLongError", fields=fields)


def parse_query(text: str) -> list[tuple[str, str]]:
    """Decoded pairs; a name without `=` has the value "". Raises UnicodeDecodeError on what is not UTF-8."""
    pairs = []
    for piece in text.encode("latin-1").decode("utf-8").split("&"):
        if piece:
            name, _, value = piece.partition("=")
            pairs.append((_decoded(name), _decoded(value)))
    return pairs


@lru_cache(maxsize=256)
def _decoded(text: str) -> str:
    """Remembered for the same reason as ``auth.canonical_query``'s pieces."""
    return unquote_plus(text, errors="strict")


def hoist(request: Request) -> None:
    """Signed query parameters x-amz-* count as the headers they name (SDKs put metadata there when presigning).

    A checksum value there is signed but not checked against the body, as on S3.
    """
    names = set()
    for name, value in request.query_pairs:
        lower = name.lower()
        if lower.startswith("x-amz-") and lower not in auth.QUERY_AUTH and lower not in request.headers:
            names.add(lower)
            if lower.startswith("x-amz-checksum-") and lower[15:] not in ("mode", "algorithm", "type"):
                continue
            if lower not in ("x-amz-sdk-checksum-algorithm", "x-amz-content-sha256"):
                request.headers[lower] = value.encode("utf-8").decode("latin-1")
    request.hoisted = frozenset(names)


def check_names(request: Request, parameters: frozenset[str], headers: frozenset[str]) -> None:
    """501 for a query parameter or an x-amz-* header the operation does not know.

    S3 ignores parameters that start with `x-` (they are there for its access log) and so does this.
    """
    for name in request.query:
        if name not in parameters and not name.lower().startswith("x-"):
            raise S3Error(
                "NotImplemented",
                "A parameter you provided implies functionality that is not implemented",
                fields={"Parameter": name},
            )
    for name in request.headers:
        if (
            name.startswith("x-amz-")
            and name not in headers
            and name not in COMMON_HEADERS
            and not (name.startswith("x-amz-meta-") and "x-amz-meta-" in headers)
        ):
            raise not_implemented(name)


COMMON_HEADERS = frozenset(
    {
        "x-amz-date",
        "x-amz-content-sha256",
        "x-amz-security-token",
        "x-amz-user-agent",
        "x-amz-expected-bucket-owner",
        "x-amz-request-payer",
        "x-amz-decoded-content-length",
        "x-amz-trailer",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-te",
    }
)
