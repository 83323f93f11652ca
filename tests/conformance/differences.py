"""What is known to differ, as data: docs/local-stack.md is written from these tables and tested against them.

python -m tests.conformance.differences      writes them into the document
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heavylift_local.runtime.realism import REALISM

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/local-stack.md"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that Amazon S3 does and the local stack's S3 does not, or does otherwise."""

    what: str
    on_aws: str
    here: str
    why: str


S3: tuple[Difference, ...] = (
    Difference(
        "operations that are not there",
        "encryption, public access block, ownership controls, ACLs, logging, website, notification, replication, "
        "inventory, analytics, metrics, tiering, accelerate, object lock, restore, select, torrent, request payment",
        "501 NotImplemented, never 200",
        "the product does not call them",
    ),
    Difference(
        "accounts",
        "many; buckets belong to one each",
        "one; callers are roles of it, each with the calls it is allowed; owners are its id",
        "the product lives in one account",
    ),
    Difference(
        "regions",
        "many, a bucket in one of them; wrong endpoints are redirected",
        "one; another LocationConstraint is refused as an endpoint of a region refuses it",
        "one process",
    ),
    Difference(
        "ACLs",
        "private where ownership is enforced",
        "the same, and no way to switch enforcement off",
        "the default",
    ),
    Difference(
        "encryption at rest",
        "x-amz-server-side-encryption: AES256 with every answer",
        "AES256 is taken and not claimed in answers; aws:kms and customer keys are 501",
        "nothing is encrypted here, so nothing says so",
    ),
    Difference("signature version 2", "taken in old regions", "400 InvalidRequest", "AWS retires it"),
    Difference(
        "signature version 4A, S3 Express sessions, Object Lambda, access points", "there", "not there", "not used"
    ),
    Difference(
        "requests without a signature",
        "403, or 404 for a bucket that nobody has; ListBuckets redirects to the product's page",
        "403 for all of them",
        "there are no public buckets here",
    ),
    Difference("TLS", "https", "plain http on 127.0.0.1 only", "certificates on one machine prove nothing"),
    Difference(
        "storage classes",
        "all, archives need a restore",
        "kept and shown; archive classes are 501",
        "nothing is moved anywhere",
    ),
    Difference(
        "deletions with x-amz-bypass-governance-retention",
        "400 where a bucket has no object lock (recorded)",
        "DeleteObjects takes it and nothing comes of it; DeleteObject answers 501",
        "conformance suites clean up with it",
    ),
    Difference(
        "ListMultipartUploads cut at a common prefix",
        "NextKeyMarker is empty (recorded), so the next page cannot be asked for",
        "NextKeyMarker is the prefix",
        "a client that pages must come to the end",
    ),
    Difference(
        "metadata in RFC 2047 form",
        "encoded words are decoded, and encoded again where they are not ASCII",
        "kept as sent; what is not ASCII is shown as one base64 word",
        "no client of the product sends it",
    ),
    Difference(
        "Content-MD5 of a part that does not fit",
        "ExpectedDigest in base64 (hexadecimal for objects)",
        "hexadecimal for both",
        "no client reads it",
    ),
    Difference(
        "the same list of parts completed again",
        "the same 200 (seen in public runs; the manual allows 404)",
        "the same 200 for as long as the server remembers the upload",
        "clients must bear both; the product does",
    ),
    Difference(
        "long completions and copies",
        "200 first, then white space, maybe an error in the body",
        "at once; a fault can ask for the 200 with an error",
        "completing writes no data",
    ),
    Difference(
        "limits of rate",
        "3,500 writes and 5,500 reads a second and prefix, then 503 SlowDown",
        "none; SlowDown comes by a fault",
        "a laptop is slower than that",
    ),
    Difference(
        "lifecycle",
        "carried out once a day, at midnight UTC",
        "carried out by a thread, a day as long as HEAVYLIFT_TIME_SCALE makes it; transitions are 501",
        "nobody waits a day for a test",
    ),
    Difference("durability", "eleven nines", "one disk; a kill leaves every object whole or absent", "it is a laptop"),
    Difference(
        "anything marked B in a comment",
        "believed, not recorded",
        "as the manual reads",
        "AWS itself was never called from here",
    ),
)

# Where LocalStack 4.13.1 answers otherwise than the suite wants, which follows AWS: case -> reason. `make
# conformance-localstack` holds the table: a case in it must fail there, every other one must pass. None of them is a
# difference of the project's own server, which passes them all.

_PAGES = "pages of listings skip keys or are not cut where page size and prefixes or non-ASCII keys meet"
_NO_AUTH = "signatures in headers are not checked, and unsigned requests are let in"
_QUERY = "malformed parameters of a presigned URL are answered with another code"
_XML = "request documents are not validated (an internal error, or taken as they are)"
_NO_ACL = "ACLs are taken although a new bucket of S3 has none since 2023"
_SUSPENDED = "a read after a write to a suspended bucket names another version than null"

LOCALSTACK: dict[str, str] = {
    "test_boto3::test_paginators_see_everything_once[-list_objects]": _PAGES,
    "test_boto3::test_paginators_see_everything_once[-list_objects_v2]": _PAGES,
    "test_boto3::test_paginators_see_everything_once[-list_object_versions]": _PAGES,
    "test_boto3::test_paginators_see_everything_once[/-list_objects]": _PAGES,
    "test_boto3::test_paginators_see_everything_once[/-list_objects_v2]": _PAGES,
    "test_boto3::test_paginators_see_everything_once[/-list_object_versions]": _PAGES,
    "test_raw::test_unsigned_requests_are_refused": _NO_AUTH,
    "test_raw::test_header_signatures": _NO_AUTH,
    "test_raw::test_the_signed_payload_is_checked": _NO_AUTH,
    "test_raw::test_presigned_urls_that_were_meddled_with[a week]": _QUERY,
    "test_raw::test_presigned_urls_that_were_meddled_with[no number]": _QUERY,
    "test_raw::test_presigned_urls_that_were_meddled_with[scope]": _QUERY,
    "test_raw::test_presigned_urls_that_were_meddled_with[algorithm]": _QUERY,
    "test_raw::test_ranges": "a range in another unit than bytes is served as if it were bytes",
    "test_raw::test_expect_100_continue": "the body is asked for before the request is judged",
    "test_raw::test_malformed_documents[cut]": _XML,
    "test_raw::test_malformed_documents[text]": _XML,
    "test_raw::test_malformed_documents[entity]": _XML,
    "test_raw::test_malformed_documents[too many]": _XML,
    "test_recorded::test_refused_as_s3_refuses_it[token-made-up]": "an internal error",
    "test_recorded::test_refused_as_s3_refuses_it[encoding-unknown]": "the encoding type is not validated",
    "test_recorded::test_refused_as_s3_refuses_it[owner-that-is-no-account]": "the expected owner is not looked at",
    "test_recorded::test_refused_as_s3_refuses_it[acl-on-a-new-bucket]": _NO_ACL,
    "test_recorded::test_refused_as_s3_refuses_it[acl-on-an-object]": _NO_ACL,
    "test_recorded::test_list_fields": "owners still have display names",
    "test_recorded::test_buckets_say_where_they_are": "buckets have no ARN",
    "test_recorded::test_a_suspended_bucket_names_no_versions_of_writes": _SUSPENDED,
}


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def tables() -> dict[str, str]:
    """The document's generated parts by name."""
    reasons: dict[str, list[str]] = {}
    for case, reason in LOCALSTACK.items():
        reasons.setdefault(reason, []).append(f"`{case.partition('::')[2]}`")
    return {
        "s3": _table(("what", "on AWS", "here", "why"), [(d.what, d.on_aws, d.here, d.why) for d in S3]),
        "lambda": _table(("trait", "on Lambda", "here"), [(t.name, t.on_lambda, t.here) for t in REALISM]),
        "localstack": _table(
            ("what LocalStack does", "cases"), [(reason, ", ".join(cases)) for reason, cases in reasons.items()]
        ),
    }


def rendered(text: str) -> str:
    """*text* with its generated parts as they should be. Raises ValueError when a mark is missing."""
    for name, table in tables().items():
        begin, end = f"<!-- {name}: generated -->\n", f"\n<!-- {name}: end -->"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{DOCUMENT} has no place for {name}")
        text = head + begin + table + end + tail
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(rendered(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
