"""What decides without doing: checksums, extents, ranges, rules, policies, pages, XML."""

import base64
import contextlib
import hashlib
import zlib
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_local.s3 import checksums, cors, partlist, versions
from heavylift_local.s3.config import Caller, ConfigError, Statement, parse, parse_cors_rule
from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.extents import Extent, cut, pack, parse_copy_range, parse_range, unpack
from heavylift_local.s3.listing import after_prefix, decode_token, encode_token, walk
from heavylift_local.s3.policy import is_allowed
from heavylift_local.s3.wire import head_bytes
from heavylift_local.s3.xml import Reader, element


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("CRC32", "cbf43926"),
        ("CRC32C", "e3069283"),
        ("CRC64NVME", "ae8b14860a799888"),
        ("SHA1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        ("SHA256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ("MD5", "25f9e794323b453885f5181f1b624d0b"),
    ],
)
def test_check_values(name: str, check: str) -> None:
    """The published check values of "123456789"."""
    running = checksums.new(name)
    running.update(memoryview(b"1234"))
    running.update(memoryview(b"56789"))

    assert running.digest().hex() == check


@given(st.lists(st.binary(max_size=70), min_size=1, max_size=12), st.sampled_from(checksums.CRCS))
def test_combined_part_crcs_are_the_crc_of_the_whole(pieces: list[bytes], name: str) -> None:
    """For any split, empty parts included."""

    def crc(data: bytes) -> bytes:
        running = checksums.new(name)
        running.update(memoryview(data))
        return running.digest()

    assert checksums.combine(name, [(crc(p), len(p)) for p in pieces]) == crc(b"".join(pieces))


def test_composite_and_etag() -> None:
    """H(concatenated raw digests)-N."""
    digests = [hashlib.sha256(b"a").digest(), hashlib.sha256(b"b").digest()]
    md5s = [hashlib.md5(b"a").hexdigest(), hashlib.md5(b"b").hexdigest()]

    assert (
        checksums.composite("SHA256", digests)
        == base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode() + "-2"
    )
    assert (
        checksums.composite("CRC32", [b"abcd", b"efgh"])
        == base64.b64encode(zlib.crc32(b"abcdefgh").to_bytes(4, "big")).decode() + "-2"
    )
    assert checksums.multipart_etag(md5s) == hashlib.md5(bytes.fromhex("".join(md5s))).hexdigest() + "-2"


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(0, 60), st.integers(0, 60))
def test_a_cut_of_extents_is_a_slice_of_bytes(lengths: list[int], offset: int, length: int) -> None:
    """Extents behave as the bytes they stand for."""
    files = {n: bytes((n * 16 + i) % 256 for i in range(size + 4)) for n, size in enumerate(lengths)}
    extents = [Extent(n, n % 4, size) for n, size in enumerate(lengths)]
    whole = b"".join(files[b][o : o + n] for b, o, n in extents)

    pieces = list(cut(unpack(pack(extents)), offset, length))

    assert b"".join(files[b][o : o + n] for b, o, n in pieces) == whole[offset : offset + length]
    assert all(piece.length for piece in pieces)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-8", (0, 9)),
        ("bytes=1-1", (1, 1)),
        ("bytes=1-", (1, 9)),
        ("bytes=-2", (8, 2)),
        ("bytes=-15", (0, 10)),
        ("bytes=0-100", (0, 10)),
        ("bytes=1-0", None),
        ("bytes=-1-", None),
        ("bytes=0--1", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("0-8", None),
        (None, None),
        ("bytes=100-200", "InvalidRange"),
        ("bytes=10-", "InvalidRange"),
        ("bytes=-0", "InvalidRange"),
    ],
)
def test_ranges_of_ten_bytes(header: str | None, expected: object) -> None:
    """As recorded from S3."""
    if expected == "InvalidRange":
        with pytest.raises(S3Error) as caught:
            parse_range(header, 10)
        assert (caught.value.status, caught.value.code) == (416, expected)
    else:
        assert parse_range(header, 10) == expected


@given(st.text(max_size=30), st.integers(0, 100))
def test_any_range_header_lies_inside_or_is_refused(text: str, size: int) -> None:
    """Never a slice outside the object."""
    with contextlib.suppress(S3Error):
        found = parse_range("bytes=" + text, size)
        if found is not None:
            offset, length = found
            assert length > 0
            assert 0 <= offset < offset + length <= size


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=3-3", (3, 1)),
        ("bytes=0-10", "InvalidArgument"),
        ("bytes=10-11", "InvalidRequest"),
        ("bytes=1-0", "InvalidArgument"),
        ("bytes=1-", "InvalidArgument"),
        ("bytes=-1", "InvalidArgument"),
        ("0-8", "InvalidArgument"),
        ("bytes=0-1,3-4", "InvalidArgument"),
    ],
)
def test_copy_ranges_of_ten_bytes(header: str, expected: object) -> None:
    """Stricter than reads, as recorded from S3."""
    if isinstance(expected, str):
        with pytest.raises(S3Error) as caught:
            parse_copy_range(header, 10)
        assert caught.value.code == expected
    else:
        assert parse_copy_range(header, 10) == expected


@given(st.lists(st.tuples(st.integers(1, 10_000), st.integers(0, 2**40), st.binary(min_size=32, max_size=32))))
def test_part_lists_round_trip(rows: list[tuple[int, int, bytes]]) -> None:
    """Packed and unpacked, counted without unpacking."""
    packed = partlist.pack([partlist.Piece(*row) for row in rows], 32)

    assert [tuple(piece) for piece in partlist.unpack(packed)] == rows
    assert partlist.count(packed) == len(rows)


def test_version_ids_can_be_told_from_others() -> None:
    """Ours, null, and anything else."""
    mine = versions.new()

    assert versions.is_ours(mine)
    assert versions.is_ours("null")
    assert not versions.is_ours(mine[:-1] + ("A" if mine[-1] != "A" else "B"))
    assert not versions.is_ours("HPniJFCxqTsMuIH9KX8K8wEjNUgmABCD")
    assert not versions.is_ours("ü" * 32)


RULE = parse_cors_rule(
    {
        "AllowedOrigins": ["https://page.example", "https://*.example.org"],
        "AllowedMethods": ["PUT", "GET"],
        "AllowedHeaders": ["content-type", "x-amz-*"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 60,
    }
)
ANY = parse_cors_rule({"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]})


def test_preflight_answers_the_first_rule_that_fits() -> None:
    """Origin, method and every header must fit; only what was asked is allowed."""
    answer = dict(
        cors.preflight([RULE, ANY], "https://a.example.org", "PUT", "Content-Type, X-Amz-Checksum-SHA256", "OBJECT")
    )

    assert answer == {
        "Access-Control-Allow-Origin": "https://a.example.org",
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Methods": "PUT, GET",
        "Access-Control-Allow-Headers": "content-type, x-amz-checksum-sha256",
        "Access-Control-Expose-Headers": "ETag",
        "Access-Control-Max-Age": "60",
        "Vary": cors.VARY,
    }
    anybody = dict(cors.preflight([RULE, ANY], "https://other.example", "GET", None, "OBJECT"))
    assert anybody["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in anybody


@pytest.mark.parametrize(
    ("rules", "origin", "method", "headers", "status", "code"),
    [
        ([RULE], None, "PUT", None, 400, "BadRequest"),
        ([RULE], "https://page.example", None, None, 400, "BadRequest"),
        ([RULE], "https://page.example", "PATCH", None, 400, "BadRequest"),
        ([], "https://page.example", "PUT", None, 403, "AccessForbidden"),
        (None, "https://page.example", "PUT", None, 403, "AccessForbidden"),
        ([RULE], "https://foreign.example", "PUT", None, 403, "AccessForbidden"),
        ([RULE], "https://page.example", "DELETE", None, 403, "AccessForbidden"),
        ([RULE], "https://page.example", "PUT", "x-other", 403, "AccessForbidden"),
        ([RULE], "https://example.org", "PUT", None, 403, "AccessForbidden"),
    ],
)
def test_preflight_refusals(rules, origin, method, headers, status: int, code: str) -> None:
    """As recorded from S3."""
    with pytest.raises(S3Error) as caught:
        cors.preflight(rules, origin, method, headers, "OBJECT")

    assert (caught.value.status, caught.value.code) == (status, code)


def test_real_requests_need_origin_and_method_only() -> None:
    """A foreign origin gets no header and no error."""
    assert dict(cors.actual([RULE], "https://page.example", "PUT"))["Access-Control-Expose-Headers"] == "ETag"
    assert cors.actual([RULE], "https://foreign.example", "PUT") == []
    assert cors.actual([RULE], "https://page.example", "POST") == []
    assert cors.actual([RULE], None, "PUT") == []


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("s3:PutObject", "staging/in/t/1", True),
        ("s3:putobject", "staging/in/t/1", True),
        ("s3:GetObject", "staging/in/t/1", False),
        ("s3:PutObject", "staging/out/1", False),
        ("s3:PutObject", "staging", False),
        ("s3:ListBucket", "store", True),
        ("s3:ListBucket", "store/x", False),
        ("s3:ListBucket", "stored", False),
    ],
)
def test_policies(action: str, resource: str, allowed: bool) -> None:
    """Action and resource must be in one statement; * crosses slashes; nothing is a prefix match."""
    caller = Caller(
        "c",
        "a",
        "s",
        allow=(
            Statement(("s3:PutObject",), ("arn:aws:s3:::staging/in/*",)),
            Statement(("s3:List*", "s3:Get*"), ("store",)),
        ),
    )

    assert is_allowed(caller, action, resource) is allowed


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"data": "d", "what": 1},
        {"data": "d", "buckets": [{"name": "_local"}]},
        {"data": "d", "buckets": [{"name": "ok1", "cors": [{"AllowedOrigins": ["*"]}]}]},
        {"data": "d", "callers": [{"name": "a", "access_key": "k"}]},
        {"data": "d", "callers": [{"name": n, "access_key": "k", "secret_key": "s"} for n in "ab"]},
    ],
)
def test_broken_configurations_are_refused(broken: dict[str, object]) -> None:
    """Nothing misspelt is ignored."""
    with pytest.raises(ConfigError):
        parse(broken)


NAMES = st.text("ab/ü\U0010ffff\ud7ff", min_size=1, max_size=5)


@given(st.sets(NAMES, max_size=25), st.text("ab/", max_size=3), st.sampled_from(["", "/", "b/"]), st.integers(1, 4))
def test_pages_together_are_the_whole_list(keys: set[str], prefix: str, delimiter: str, limit: int) -> None:
    """Rows and rolled-up prefixes in order, each once, whatever the page size."""
    ordered = sorted(keys)
    expected: list[str] = []
    for key in ordered:
        if key.startswith(prefix):
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            item = key[: at + len(delimiter)] if at >= 0 else key
            if not expected or expected[-1] != item:
                expected.append(item)

    def fetch(key: str, inclusive: bool, count: int) -> list[tuple[str]]:
        return [(k,) for k in ordered if (k >= key if inclusive else k > key)][:count]

    found: list[str] = []
    after = ""
    for _ in range(len(expected) + 1):
        page = walk(fetch, prefix, delimiter, after, limit)
        items = sorted([row[0] for row in page.rows] + page.prefixes)
        assert len(items) <= limit
        found += items
        if not page.truncated:
            break
        assert items[-1] == page.last
        after = decode_token(encode_token(page.last))

    assert found == list(dict.fromkeys(expected))


@given(NAMES, st.text(max_size=4))
def test_after_prefix_is_above_all_it_covers(prefix: str, rest: str) -> None:
    """The least key above: everything with the prefix is below it."""
    successor = after_prefix(prefix)

    assert successor is None or (prefix + rest).encode("utf-8", "surrogatepass") < successor.encode()


def test_foreign_tokens_are_refused() -> None:
    """What we did not make is 400, never a guess."""
    for token in ("", "x", "1%%%", "1" + base64.b64encode(b"\xff").decode()):
        with pytest.raises(S3Error):
            decode_token(token)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")))
def test_escaped_text_is_read_back_by_another_parser(text: str) -> None:
    """ElementTree as judge, for all that XML 1.0 can hold."""
    assert (ElementTree.fromstring(element("A", text)).text or "") == text


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<A>",
        b"<B></B>",
        b"<A></A><A></A>",
        b'<!DOCTYPE A [<!ENTITY a "x">]><A>&a;</A>',
        b"<A>" + b"<b>" * 9 + b"</b>" * 9 + b"</A>",
        b"<A><b>" + b"x" * 9000 + b"</b></A>",
        b"<A>\xff</A>",
    ],
)
def test_documents_that_are_refused(document: bytes) -> None:
    """Not well formed, another root, a DTD, too deep, too long: MalformedXML."""
    reader = Reader("A", lambda path, text: None)

    def feed() -> None:
        reader.update(memoryview(document))
        reader.close()

    with pytest.raises(S3Error) as caught:
        feed()

    assert caught.value.code == "MalformedXML"


def test_a_header_value_cannot_start_another_header() -> None:
    """Response splitting: line breaks become spaces."""
    head = head_bytes(200, "OK", [("X", "a\r\nSet-Cookie: b"), ("Y", "c")])

    assert head == b"HTTP/1.1 200 OK\r\nX: a  Set-Cookie: b\r\nY: c\r\n\r\n"
