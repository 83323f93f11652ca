"""If-Match and its kin: on reads, writes, completes and copies. No I/O here. All answers as recorded from S3."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.store import ObjectRecord, UploadRecord


def strip_etag(text: str) -> str:
    """An ETag without quotes and weakness mark; S3 takes it with or without quotes."""
    text = text.strip().removeprefix("W/")
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def _any_matches(header: str, etag: str) -> bool:
    return any(strip_etag(part) in ("*", etag) for part in header.split(","))


def _seconds(text: str) -> float | None:
    """A date header's moment, None where S3 ignores it as no date."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None


def check_read(headers: Mapping[str, str], record: ObjectRecord) -> None:
    """GET and HEAD. Raises PreconditionFailed (412) or NotModified (304).

    If-Match that holds overrides If-Unmodified-Since, If-None-Match that fails to hold overrides If-Modified-Since
    (RFC 9110 section 13.2.2, and the S3 API reference). An If-Modified-Since in the future is ignored (recorded).
    """
    modified = record.modified // 1000
    if (wanted := headers.get("if-match")) is not None:
        if not _any_matches(wanted, record.etag):
            raise _failed("If-Match")
    elif (since := _seconds(headers.get("if-unmodified-since", ""))) is not None and modified > since:
        raise _failed("If-Unmodified-Since")
    if (unwanted := headers.get("if-none-match")) is not None:
        if _any_matches(unwanted, record.etag):
            raise _not_modified(record)
    elif (since := _seconds(headers.get("if-modified-since", ""))) is not None and modified <= since <= time.time():
        raise _not_modified(record)


def range_applies(headers: Mapping[str, str], record: ObjectRecord) -> bool:
    """If-Range: the range holds only for the version the client has."""
    text = headers.get("if-range")
    if text is None:
        return True
    moment = _seconds(text) if "," in text else None
    if moment is not None:
        return record.modified // 1000 <= moment
    return strip_etag(text) == record.etag


def write_condition(headers: Mapping[str, str]) -> tuple[str | None, bool]:
    """(ETag the key must have, whether the key must not exist) of a write. Raises NotImplemented (501).

    S3 takes `*` only for If-None-Match, an ETag only for If-Match, and never both.
    """
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    message = "A header you provided implies functionality that is not implemented"
    if match is not None and none_match is not None:
        raise S3Error(
            "NotImplemented",
            message,
            fields={
                "Header": "If-Match,If-None-Match",
                "additionalMessage": "Multiple conditional request headers present in the request",
            },
        )
    for name, refused in (
        ("If-Match", match is not None and match.strip() == "*"),
        ("If-None-Match", none_match is not None and none_match.strip() != "*"),
    ):
        if refused:
            more = f"We don't accept the provided value of {name} header for this API"
            raise S3Error("NotImplemented", message, fields={"Header": name, "additionalMessage": more})
    return (strip_etag(match) if match is not None else None), none_match is not None


def check_write(
    condition: tuple[str | None, bool], current: ObjectRecord | None, key: str, upload: UploadRecord | None = None
) -> None:
    """PUT, copy and Complete (with *upload*), under the write transaction.

    Raises PreconditionFailed (412), NoSuchKey (404) or ConditionalRequestConflict (409).
    """
    etag, must_be_absent = condition
    exists = current is not None and not current.marker
    if must_be_absent:
        if exists:
            raise _failed("If-None-Match")
        if upload is not None and upload.deleted:
            raise _conflict("If-None-Match", key)
    if etag is not None:
        if current is None or current.marker:
            raise S3Error("NoSuchKey", fields={"Key": key})
        if current.etag != etag:
            raise _failed("If-Match")
        if upload is not None and upload.rewritten:
            raise _conflict("If-Match", key)


def check_delete(headers: Mapping[str, str], current: ObjectRecord | None, key: str) -> None:
    """DELETE with If-Match: 404 NoSuchKey when there is nothing, 412 when it is another."""
    wanted = headers.get("if-match")
    if wanted is None:
        return
    if current is None or current.marker:
        raise S3Error("NoSuchKey", fields={"Key": key})
    if not _any_matches(wanted, current.etag):
        raise _failed("If-Match")


def check_copy_source(headers: Mapping[str, str], record: ObjectRecord) -> None:
    """x-amz-copy-source-if-*; every failure is 412."""
    prefix = "x-amz-copy-source-"
    modified = record.modified // 1000
    if (wanted := headers.get(prefix + "if-match")) is not None:
        if not _any_matches(wanted, record.etag):
            raise _failed("x-amz-copy-source-If-Match")
    elif (since := _seconds(headers.get(prefix + "if-unmodified-since", ""))) is not None and modified > since:
        raise _failed("x-amz-copy-source-If-Unmodified-Since")
    if (unwanted := headers.get(prefix + "if-none-match")) is not None:
        if _any_matches(unwanted, record.etag):
            raise _failed("x-amz-copy-source-If-None-Match")
    elif (
        since := _seconds(headers.get(prefix + "if-modified-since", ""))
    ) is not None and modified <= since <= time.time():
        raise _failed("x-amz-copy-source-If-Modified-Since")


def _failed(condition: str) -> S3Error:
    return S3Error("PreconditionFailed", fields={"Condition": condition})


def _conflict(condition: str, key: str) -> S3Error:
    return S3Error("ConditionalRequestConflict", fields={"Condition": condition, "Key": key})


def _not_modified(record: ObjectRecord) -> S3Error:
    headers = {"ETag": f'"{record.etag}"', "Last-Modified": http_date(record.modified)}
    return S3Error("NotModified", headers=headers)


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(milliseconds: float) -> str:
    """RFC 9110 IMF-fixdate."""
    t = time.gmtime(milliseconds / 1000)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT"
    )
