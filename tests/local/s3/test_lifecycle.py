"""Lifecycle rules carried out, by a clock that the test moves."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from heavylift_local.s3 import lifecycle, testing
from heavylift_local.s3.config import ConfigError, parse
from heavylift_local.s3.lifecycle import DAY_SECONDS, Rule, Version
from heavylift_local.s3.testing import RunningS3

RULES = [
    {"prefix": "in/", "expire_days": 14},
    {"prefix": "in/short/", "expire_days": 1},
    {"prefix": "", "abort_incomplete_days": 7},
]
VERSIONED = [
    {"prefix": "a/", "noncurrent_days": 3, "noncurrent_kept": 1, "expired_markers": True},
    {"prefix": "b/", "expire_days": 2},
]
BUCKETS = [
    {"name": "staging", "lifecycle": RULES},
    {"name": "store", "versioned": True, "lifecycle": VERSIONED},
]


def later(s3: RunningS3, days: float) -> int:
    """The clock so many days on, and one round of the rules."""
    now = time.time() + days * DAY_SECONDS
    s3.server.clock = lambda: now
    ended = s3.server.sweeper.sweep()
    assert s3.server.store.check() == []
    s3.server.clock = time.time
    return ended


def keys(client: Any, bucket: str = "staging") -> list[str]:
    return [row["Key"] for row in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def events(s3: RunningS3) -> list[dict[str, Any]]:
    with s3.server.store.reading() as db:
        return [json.loads(row[0]) for row in db.db.execute("SELECT body FROM outbox ORDER BY id")]


def test_objects_expire_by_prefix_and_age(tmp_path: Path) -> None:
    """At the midnight after their days and not before; each with its event; the bytes leave the disk."""
    with testing.running_s3(tmp_path, buckets=BUCKETS, event_sink="http://127.0.0.1:9/nobody") as s3:
        client = s3.client()
        for key in ("in/a", "in/short/b", "other"):
            client.put_object(Bucket="staging", Key=key, Body=b"x" * 1000)
        assert later(s3, 0.9) == 0
        assert later(s3, 2.01) == 1
        assert keys(client) == ["in/a", "other"]
        assert later(s3, 13.9) == 0
        assert later(s3, 15.01) == 1
        assert keys(client) == ["other"]
        found = [event for event in events(s3) if event["detail-type"] == "Object Deleted"]
        assert [event["detail"]["object"]["key"] for event in found] == ["in/short/b", "in/a"]
        assert {event["detail"]["reason"] for event in found} == {"Lifecycle Expiration"}
        assert {event["detail"]["deletion-type"] for event in found} == {"Permanently Deleted"}
        files = [path for path in (tmp_path / "s3" / "parts").rglob("*") if path.is_file()]
        assert len(files) == 1
        assert later(s3, 100) == 0


def test_uploads_are_aborted(tmp_path: Path) -> None:
    """Those still open after their days; their parts go, the finished object stays."""
    with testing.running_s3(tmp_path, buckets=BUCKETS) as s3:
        client = s3.client()
        at = {"Bucket": "staging", "Key": "k"}
        upload = client.create_multipart_upload(**at)["UploadId"]
        client.upload_part(**at, UploadId=upload, PartNumber=1, Body=b"x")
        assert later(s3, 6.9) == 0
        assert later(s3, 8.01) == 1
        with pytest.raises(ClientError, match="NoSuchUpload"):
            client.list_parts(**at, UploadId=upload)
        assert [path for path in (tmp_path / "s3" / "parts").rglob("*") if path.is_file()] == []


def test_versions_and_markers(tmp_path: Path) -> None:
    """Old versions go but for the newest, then a marker with nothing under it; a current version gets a marker."""
    with testing.running_s3(tmp_path, buckets=BUCKETS, event_sink="http://127.0.0.1:9/nobody") as s3:
        client = s3.client()
        made = [client.put_object(Bucket="store", Key="a/k", Body=bytes([n]))["VersionId"] for n in range(4)]
        assert later(s3, 2.9) == 0
        assert later(s3, 4.01) == 2
        rows = client.list_object_versions(Bucket="store", Prefix="a/")["Versions"]
        assert [row["VersionId"] for row in rows] == [made[3], made[2]]
        for version in made[2:]:
            client.delete_object(Bucket="store", Key="a/k", VersionId=version)
        client.delete_object(Bucket="store", Key="a/k")
        assert later(s3, 0) == 1
        assert "DeleteMarkers" not in client.list_object_versions(Bucket="store")

        kept = client.put_object(Bucket="store", Key="b/k", Body=b"x")["VersionId"]
        assert later(s3, 3.01) == 1
        assert keys(client, "store") == []
        assert client.get_object(Bucket="store", Key="b/k", VersionId=kept)["Body"].read() == b"x"
        last = events(s3)[-1]["detail"]
        assert (last["reason"], last["deletion-type"]) == ("Lifecycle Expiration", "Delete Marker Created")
        client.delete_object(Bucket="store", Key="b/k", VersionId=kept)
        assert later(s3, 3.01) == 1  # the marker alone is old enough too
        assert "DeleteMarkers" not in client.list_object_versions(Bucket="store")


def test_many_keys_and_a_rewrite(tmp_path: Path) -> None:
    """More than one batch; a key that was written again is young again."""
    with testing.running_s3(tmp_path, buckets=BUCKETS) as s3:
        client = s3.client()
        for n in range(300):
            client.put_object(Bucket="staging", Key=f"in/{n:03d}", Body=b"")
        with s3.server.store.writing() as tx:
            long_ago = int((time.time() - 20 * DAY_SECONDS) * 1000)
            tx.db.execute("UPDATE objects SET modified=?", (long_ago,))
        client.put_object(Bucket="staging", Key="in/007", Body=b"")
        assert later(s3, 0) == 299
        assert keys(client) == ["in/007"]


def test_the_thread_goes_by_the_time_scale(tmp_path: Path) -> None:
    """86,400 times as fast, a day is a second: nobody has to ask for the round."""
    with testing.running_s3(tmp_path, buckets=BUCKETS, time_scale=DAY_SECONDS) as s3:
        client = s3.client()
        client.put_object(Bucket="staging", Key="in/short/a", Body=b"x")
        client.put_object(Bucket="staging", Key="other", Body=b"x")
        deadline = time.monotonic() + 20
        while len(keys(client)) > 1 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert keys(client) == ["other"]


@pytest.mark.parametrize(
    "fields",
    [
        {"buckets": [{"name": "staging", "lifecycle": [{"expire_days": 0}]}]},
        {"buckets": [{"name": "staging", "lifecycle": [{"expire_weeks": 1}]}]},
        {"buckets": [{"name": "staging", "policy": {"signature_age_max_s": 0}}]},
        {"buckets": [{"name": "staging", "policy": {"age": 1}}]},
        {"time_scale": 0},
    ],
)
def test_configurations_that_are_none(tmp_path: Path, fields: dict[str, Any]) -> None:
    """A misspelt rule stops the start."""
    with pytest.raises(ConfigError):
        parse({"data": str(tmp_path), **fields})


@given(st.floats(0, 4e9), st.integers(1, 4000), st.sampled_from([1.0, 24.0, 86_400.0]))
def test_due_is_the_midnight_that_follows(since: float, days: int, scale: float) -> None:
    """Never before the days are over, at most a day after, at a whole day."""
    day = DAY_SECONDS / scale
    at = lifecycle.due(since, days, scale)
    assert since + days * day <= at + 1e-3
    assert at < since + (days + 1) * day + 1e-3
    assert abs(at / day - round(at / day)) < 1e-6


@given(st.integers(0, 6), st.integers(0, 4), st.integers(0, 9), st.booleans())
def test_noncurrent_rules(count: int, kept: int, age: int, marker: bool) -> None:
    """Of the noncurrent versions that are due the newest *kept* stay, and the current is never touched."""
    now = 100.0 * DAY_SECONDS
    newest = now - age * DAY_SECONDS
    versions = [Version("current", 1, (), marker, newest, None)]
    versions += [Version(f"v{n}", 1, (), False, newest - n - 1, newest - n) for n in range(count)]
    rule = Rule("r", noncurrent_days=5, noncurrent_kept=kept)
    gone = lifecycle.doomed_versions([rule], "k", versions, now)
    assert "current" not in gone
    if age >= 6:
        assert gone == [f"v{n}" for n in range(kept, count)]
    if age < 5:
        assert gone == []


def test_filters() -> None:
    """Prefix, size and every tag must fit; a disabled rule covers nothing."""
    rule = Rule("r", prefix="a", tags=(("t", "1"),), larger_than=5, smaller_than=9)
    tags = (("t", "1"), ("u", "2"))
    assert rule.covers("ab", 6, tags)
    assert not rule.covers("b", 6, tags)
    assert not rule.covers("a", 5, tags)
    assert not rule.covers("a", 9, tags)
    assert not rule.covers("a", 6, ())
    assert not Rule("r", enabled=False).covers("a", 6, ())
