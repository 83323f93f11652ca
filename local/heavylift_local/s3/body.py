"""Taking in a request's body: framing off, hashes on, straight to where it goes. 256 KiB held at a time.

Three framings: Content-Length, HTTP chunks (accepted only around an aws-chunked body, as on S3), and aws-chunked with
signed or unsigned chunks and trailing headers ("Signature calculations for the authorization header: transferring a
payload in multiple chunks", Amazon S3 API reference). Nothing is read, and no 100 Continue sent, before the first
call of `readinto`: everything that can be refused by the head has been refused by then.
"""

import base64
import binascii
import hashlib
import hmac
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from heavylift_local.s3 import auth, checksums
from heavylift_local.s3.errors import S3Error, invalid_argument, invalid_request, not_implemented
from heavylift_local.s3.request import Request
from heavylift_local.s3.wire import Connection, Pace, PeerGone

BUFFER_BYTES = 256 * 1024
BUFFERS_MAX = 48  # more bodies than this at once get small buffers: 48 x 256 KiB + 208 x 32 KiB stay under 20 MB
BUFFER_BYTES_SMALL = 32 * 1024
LINE_BYTES_MAX = 8 * 1024  # a chunk's or a trailer's line
AHEAD_BYTES = 4 * 1024  # read ahead for lines: below wire.BULK_BYTES, so it takes what is there and does not wait
TRAILERS_MAX = 16
CHUNK_BYTES_MIN = 8192  # S3: signed chunks, all but the last
DRAIN_BYTES_MAX = 1024 * 1024  # a rest this small is read and dropped so that the connection can go on

_slots = threading.BoundedSemaphore(BUFFERS_MAX)


class Sink(Protocol):
    def update(self, view: memoryview, /) -> None: ...


class Source(Protocol):
    def readinto(self, view: memoryview) -> int: ...


class Cut(PeerGone):
    """The fault `cut_after_bytes` ends the connection here."""


class Raw:
    """The bytes on the wire that belong to this body."""

    def __init__(self, connection: Connection, length: int, *, expects_continue: bool) -> None:
        self._connection = connection
        self._continue = expects_continue
        self.cut_after: int | None = None
        self.remaining = length
        self.received = 0
        self._pace: Pace | None = None

    @property
    def unanswered_expectation(self) -> bool:
        """The peer waits for 100 Continue and may or may not send its body after another answer."""
        return self._continue and self.remaining > 0

    def begin(self) -> None:
        if self._pace is None:
            self._pace = Pace(self._connection.limits)
        if self._continue:
            self._continue = False
            self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def count(self, size: int) -> None:
        self.received += size
        if self._pace is not None:
            self._pace.count(size)
        if self.cut_after is not None and self.received >= self.cut_after:
            raise Cut

    def readinto(self, view: memoryview) -> int:
        if self.remaining == 0:
            return 0
        self.begin()
        size = self._connection.readinto(view[: self.remaining])
        if size == 0:
            raise S3Error("IncompleteBody")
        self.remaining -= size
        self.count(size)
        return size


class Lines:
    """Lines and blocks of one source. It reads ahead a little; `rest` gives that back."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._ahead = bytearray()
        self._scratch = memoryview(bytearray(AHEAD_BYTES))

    def line(self) -> bytes:
        """One line without CRLF. Raises IncompleteBody when the source ends or the line does not."""
        searched = 0
        while (end := self._ahead.find(b"\r\n", searched)) < 0:
            if len(self._ahead) > LINE_BYTES_MAX:
                raise S3Error("IncompleteBody")
            searched = max(0, len(self._ahead) - 1)
            size = self._source.readinto(self._scratch)
            if size == 0:
                raise S3Error("IncompleteBody")
            self._ahead += self._scratch[:size]
        line = bytes(self._ahead[:end])
        del self._ahead[: end + 2]
        return line

    def readinto(self, view: memoryview) -> int:
        if self._ahead:
            size = min(len(view), len(self._ahead))
            view[:size] = self._ahead[:size]
            del self._ahead[:size]
            return size
        return self._source.readinto(view)

    def rest(self) -> bytes:
        rest = bytes(self._ahead)
        self._ahead.clear()
        return rest


class HttpChunks:
    """Transfer-Encoding: chunked, RFC 9112 section 7.1; its trailers are dropped."""

    def __init__(self, connection: Connection, raw: Raw) -> None:
        self._connection = connection
        self._lines = Lines(_Stream(connection, raw))
        self._left = 0
        self.ended = False

    def readinto(self, view: memoryview) -> int:
        if self.ended:
            return 0
        if self._left == 0:
            self._left = _hex_size(self._lines.line().partition(b";")[0].strip())
            if self._left == 0:
                for _ in range(TRAILERS_MAX):
                    if not self._lines.line():
                        break
                else:
                    raise S3Error("MalformedTrailerError")
                self.ended = True
                self._connection.unread(self._lines.rest())  # the next request
                return 0
        size = self._lines.readinto(view[: self._left])
        if size == 0:
            raise S3Error("IncompleteBody")
        self._left -= size
        if self._left == 0 and self._lines.line():
            raise S3Error("IncompleteBody")
        return size


class _Stream:
    """The connection itself, counted; where the body ends is the framing's business."""

    def __init__(self, connection: Connection, raw: Raw) -> None:
        self._connection = connection
        self._raw = raw

    def readinto(self, view: memoryview) -> int:
        self._raw.begin()
        size = self._connection.readinto(view)
        self._raw.count(size)
        return size


class AwsChunks:
    """aws-chunked: `hex-size[;chunk-signature=…]CRLF data CRLF … 0[;…]CRLF trailers CRLF`."""

    def __init__(self, source: Source, decoded: int, mode: str, chain: auth.ChunkChain | None) -> None:
        self._lines = Lines(source)
        self._decoded_left = decoded
        self._signed = mode != auth.STREAMING_UNSIGNED_TRAILER
        self._with_trailers = mode != auth.STREAMING_SIGNED
        self._chain = chain
        self._previous = chain.seed if chain else ""
        self._chunk_left = 0
        self._chunk_size = 0
        self._chunk_hash = hashlib.sha256()
        self._chunk_signature = ""
        self._ended = False
        self.trailers: dict[str, str] = {}

    def readinto(self, view: memoryview) -> int:
        if self._ended:
            return 0
        if self._chunk_left == 0:
            self._open_chunk()
            if self._ended:
                return 0
        size = self._lines.readinto(view[: self._chunk_left])
        if size == 0:
            raise S3Error("IncompleteBody")
        if self._signed:
            self._chunk_hash.update(view[:size])
        self._chunk_left -= size
        self._decoded_left -= size
        if self._decoded_left < 0:
            raise S3Error("IncompleteBody", "The request body is longer than x-amz-decoded-content-length")
        if self._chunk_left == 0:
            self._close_chunk()
            if self._lines.line():
                raise S3Error("IncompleteBody")
        return size

    def _open_chunk(self) -> None:
        size_text, _, extension = self._lines.line().partition(b";")
        size = _hex_size(size_text.strip())
        if self._signed and size and 0 < self._chunk_size < CHUNK_BYTES_MIN:
            raise S3Error("InvalidChunkSizeError")
        self._chunk_left = self._chunk_size = size
        self._chunk_hash = hashlib.sha256()
        name, _, value = extension.partition(b"=")
        self._chunk_signature = value.decode("latin-1").strip() if name.strip() == b"chunk-signature" else ""
        if self._chunk_left:
            return
        self._close_chunk()
        if self._decoded_left:
            raise S3Error("IncompleteBody")
        self._read_trailers()
        self._ended = True

    def _close_chunk(self) -> None:
        if not self._signed or self._chain is None:
            return
        expected = self._chain.chunk(self._previous, self._chunk_hash.hexdigest())
        self._require(expected, self._chunk_signature)
        self._previous = expected

    def _read_trailers(self) -> None:
        canonical = []
        signature = None
        while line := self._lines.line():
            name, colon, value = line.decode("latin-1").partition(":")
            name, value = name.strip().lower(), value.strip()
            if not colon or not self._with_trailers or len(self.trailers) >= TRAILERS_MAX:
                raise S3Error("MalformedTrailerError")
            if name == "x-amz-trailer-signature":
                signature = value
                continue
            self.trailers[name] = value
            canonical.append(f"{name}:{value}\n")
        if self._signed and self._with_trailers and self._chain is not None:
            self._require(self._chain.trailer(self._previous, "".join(canonical)), signature or "")

    @staticmethod
    def _require(expected: str, provided: str) -> None:
        if not hmac.compare_digest(expected.encode(), provided.encode()):
            raise S3Error("SignatureDoesNotMatch", fields={"SignatureProvided": provided})


@dataclass(frozen=True, slots=True)
class Digested:
    """What a body was: its size, its hex MD5, base64 CRC64NVME, and raw digests by algorithm name."""

    size: int
    md5: str
    crc64: str
    digests: Mapping[str, bytes]

    def value(self, name: str) -> str:
        return checksums.encode(self.digests[name])


@dataclass(slots=True)
class Checks:
    """What the request says its body is."""

    md5: bytes | None = None
    sha256: str | None = None
    algorithm: str | None = None
    value: str | None = None  # None with an algorithm: it comes as a trailer
    names: set[str] = field(default_factory=set)


class Body:
    """One request's body. `length` is the payload's, framing off; None where there is no body at all."""

    def __init__(self, request: Request, connection: Connection) -> None:
        self._request = request
        expects = request.headers.get("expect", "").lower() == "100-continue" and request.version == "HTTP/1.1"
        wire_length = request.content_length
        self.chunked = request.headers.get("transfer-encoding", "").lower() == "chunked"
        self.raw = Raw(connection, wire_length or 0, expects_continue=expects)
        self._connection = connection
        self._aws: AwsChunks | None = None
        self._http: HttpChunks | None = None
        self.length = wire_length
        self._source: Source = self.raw

    def open(self) -> None:
        """Decide the framing, from the verified head. Raises S3Error."""
        request = self._request
        headers = request.headers
        encoding = headers.get("transfer-encoding")
        mode = request.signed.payload if request.signed else auth.UNSIGNED
        if encoding is not None and (not self.chunked or mode not in auth.STREAMING):
            raise not_implemented("Transfer-Encoding")
        if mode not in auth.STREAMING:
            return
        text = headers.get("x-amz-decoded-content-length")
        if text is None:
            raise S3Error("MissingContentLength")
        if not text.isascii() or not text.isdigit() or len(text) > 19:
            raise invalid_argument("Invalid x-amz-decoded-content-length", "x-amz-decoded-content-length", text)
        source: Source = self.raw
        if self.chunked:
            source = self._http = HttpChunks(self._connection, self.raw)
        self.length = int(text)
        chain = request.signed.chain if request.signed else None
        self._aws = AwsChunks(source, self.length, mode, chain)
        self._source = self._aws

    def cut_after(self, size: int | None) -> None:
        """The fault that ends the connection after *size* bytes of this body."""
        self.raw.cut_after = size

    def narrow(self, source: Source) -> None:
        """From here on the body is what *source* makes of it: the file inside a form."""
        self._source = source
        self.length = None

    def readinto(self, view: memoryview) -> int:
        size = self._source.readinto(view)
        if size == 0 and self._http is not None:
            while self._http.readinto(view):  # the outer framing ends after the inner one
                pass
        return size

    @property
    def received(self) -> int:
        return self.raw.received

    @property
    def trailers(self) -> Mapping[str, str]:
        return self._aws.trailers if self._aws else {}

    @property
    def reusable_after_drain(self) -> bool:
        """Whether the connection can go on once the rest of the body is read and dropped."""
        if self.chunked:
            return self._http is not None and self._http.ended
        return not self.raw.unanswered_expectation and self.raw.remaining <= DRAIN_BYTES_MAX

    @property
    def complete(self) -> bool:
        """Nothing of it is still to come."""
        return self._http.ended if self._http is not None else self.raw.remaining == 0

    def drain(self) -> None:
        """Read the rest and drop it. Raises PeerGone, PeerSlow."""
        scratch = memoryview(bytearray(min(self.raw.remaining, BUFFER_BYTES_SMALL)))
        try:
            while not self.chunked and self.raw.remaining:
                self.raw.readinto(scratch)
        except S3Error:
            raise PeerGone from None

    def checks(self, *, of_object: bool = True, headers: Mapping[str, str] | None = None) -> Checks:
        """What will be verified, from the head alone. Raises S3Error for what is malformed.

        *of_object* False: x-amz-checksum-* speak of something else than this body (CompleteMultipartUpload).
        *headers*: read in place of the request's own (fields of a form).
        """
        request = self._request
        headers = request.headers if headers is None else headers
        checks = Checks()
        if "content-md5" in headers:
            text = headers["content-md5"]
            try:
                checks.md5 = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                checks.md5 = b""
            if len(checks.md5) != 16:
                raise S3Error("InvalidDigest", fields={"Content-MD5": text})
        if request.signed and len(request.signed.payload) == 64:
            checks.sha256 = request.signed.payload
            checks.names.add("SHA256")
        if not of_object:
            return checks
        sent = [
            name
            for name in headers
            if name.startswith(checksums.HEADER) and name[15:] not in ("mode", "algorithm", "type")
        ]
        trailer = headers.get("x-amz-trailer", "").strip().lower()
        if trailer.startswith(checksums.HEADER):
            sent.append(trailer)
        if len(sent) > 1:
            raise invalid_request("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
        declared = headers.get("x-amz-sdk-checksum-algorithm")
        if declared is not None and declared.upper() not in checksums.DIGEST_BYTES:
            raise unsupported_algorithm()
        if not sent:
            if declared is not None:
                raise invalid_request(
                    "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer "
                    "headers were found."
                )
            return checks
        name = sent[0].removeprefix(checksums.HEADER).upper()
        if name not in checksums.DIGEST_BYTES:
            raise unsupported_algorithm()
        if declared is not None and declared.upper() != name:
            raise invalid_request("Value for x-amz-sdk-checksum-algorithm header is invalid.")
        checks.algorithm = name
        checks.names.add(name)
        if sent[0] in headers:
            checks.value = headers[sent[0]]
            if checksums.decode(name, checks.value) is None:
                raise invalid_request(f"Value for {sent[0]} header is invalid.")
        return checks

    def take(self, sink: Sink, checks: Checks, also: Iterable[str] = (), *, plain: bool = False) -> Digested:
        """Read the body to its end into *sink*, hashing on the way, and verify it.

        *also* names further algorithms; *plain* leaves out MD5 and CRC64NVME (bodies that are not objects).
        Raises IncompleteBody, BadDigest, XAmzContentSHA256Mismatch, SignatureDoesNotMatch, PeerGone, PeerSlow.
        """
        names = set(checks.names) | set(also) | (set() if plain else {"MD5", "CRC64NVME"})
        if checks.md5 is not None:
            names.add("MD5")
        hashes = {name: checksums.new(name) for name in sorted(names)}
        updates = [hash_.update for hash_ in hashes.values()]
        updates.append(sink.update)
        size = 0
        roomy = _slots.acquire(blocking=False)
        try:
            room = BUFFER_BYTES if roomy else BUFFER_BYTES_SMALL
            if self.length is not None:
                room = max(1, min(room, self.length))
            buffer = memoryview(bytearray(room))
            while got := self.readinto(buffer):
                block = buffer[:got]
                for update in updates:
                    update(block)
                size += got
        finally:
            if roomy:
                _slots.release()
        digests = {name: hash_.digest() for name, hash_ in hashes.items()}
        self._verify(checks, digests)
        return Digested(
            size,
            digests["MD5"].hex() if "MD5" in digests else "",
            checksums.encode(digests["CRC64NVME"]) if "CRC64NVME" in digests else "",
            digests,
        )

    def _verify(self, checks: Checks, digests: Mapping[str, bytes]) -> None:
        if checks.sha256 is not None and digests["SHA256"].hex() != checks.sha256:
            fields = {
                "ClientComputedContentSHA256": checks.sha256,
                "S3ComputedContentSHA256": digests["SHA256"].hex(),
            }
            raise S3Error("XAmzContentSHA256Mismatch", fields=fields)
        if checks.md5 is not None and digests["MD5"] != checks.md5:
            fields = {
                "ExpectedDigest": checks.md5.hex(),
                "CalculatedDigest": checksums.encode(digests["MD5"]),
            }
            raise S3Error("BadDigest", fields=fields)
        name = checks.algorithm
        if name is None:
            return
        if checks.value is None:
            header = checksums.HEADER + name.lower()
            checks.value = self.trailers.get(header)
            if checks.value is None:
                raise S3Error("MalformedTrailerError")
            if checksums.decode(name, checks.value) is None:
                raise invalid_request(f"Value for {header} trailing header is invalid.")
        if checksums.decode(name, checks.value) != digests[name]:
            raise S3Error("BadDigest", f"The {name} you specified did not match the calculated checksum.")


def unsupported_algorithm() -> S3Error:
    return invalid_request(
        "Checksum algorithm provided is unsupported. Please try again with any of the valid types: "
        "[CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"
    )


def _hex_size(text: bytes) -> int:
    if not 1 <= len(text) <= 16 or any(c not in b"0123456789abcdefABCDEF" for c in text):
        raise S3Error("IncompleteBody")
    return int(text, 16)
