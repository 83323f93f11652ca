"""The poller tells of every object at least once, of a known one never again, also after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.events.models import EventPattern

from heavylift_local import plan
from heavylift_local.poller import PERIOD_LEAST_S, PERIOD_S, Poller, Watch, period_seconds

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


class Listings:
    """An S3 client that lists what it is given, two entries a page; None is a refusal on that page."""

    def __init__(self) -> None:
        self.objects: list[dict[str, Any] | None] = []

    def get_paginator(self, operation: str) -> Listings:
        self.field = {"list_objects_v2": "Contents", "list_object_versions": "Versions"}[operation]
        return self

    def paginate(self, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self.objects), 2):
            page = self.objects[start : start + 2]
            if None in page:
                raise ClientError({"Error": {"Code": "SlowDown"}}, "List")
            yield {self.field: [one for one in page if one and one["Key"].startswith(Prefix)]}
        yield {}


def entry(key: str, etag: str = "e", version: str | None = None, at: datetime = NOW) -> dict[str, Any]:
    more = {"VersionId": version} if version else {}
    return {"Key": key, "Size": 5, "ETag": f'"{etag}"', "LastModified": at, **more}


class Desk:
    def __init__(self, folder: Path, versioned: bool) -> None:
        self.path, self.versioned = folder / "poller.sqlite", versioned
        self.s3 = Listings()
        self.events: list[Any] = []
        self.refuse = False
        self.start()

    def start(self) -> None:
        watch = Watch("b", "in/", self.versioned)
        self.poller = Poller(self.s3, [watch], self.publish, self.path, "eu-west-1", "000000000000")

    def publish(self, event: Any) -> None:
        if self.refuse:
            raise RuntimeError("the hub is gone")
        self.events.append(event)

    def keys(self) -> list[str]:
        return [event["detail"]["object"]["key"] for event in self.events]


@pytest.fixture(params=[False, True], ids=["plain", "versioned"])
def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    made = Desk(tmp_path, request.param)
    yield made
    made.poller.close()


def test_new_objects_are_told_of_once(desk: Desk) -> None:
    """Over several pages; a second look and a restart tell nothing."""
    version = "v1" if desk.versioned else None
    desk.s3.objects = [entry(f"in/{n}", version=version) for n in range(5)]
    assert desk.poller.poll() == 5
    assert desk.poller.poll() == 0
    desk.poller.close()
    desk.start()
    assert desk.poller.poll() == 0
    assert desk.keys() == [f"in/{n}" for n in range(5)]


def test_an_object_that_is_replaced_is_new(desk: Desk) -> None:
    """Another ETag, the same bytes at another time, another version; also after it was gone."""
    first, second = (
        (entry("in/a", version="v1"), entry("in/a", version="v2"))
        if desk.versioned
        else (
            entry("in/a", "e1"),
            entry("in/a", "e1", at=NOW.replace(second=6)),
        )
    )
    desk.s3.objects = [first]
    desk.poller.poll()
    desk.s3.objects = [second]
    assert desk.poller.poll() == 1
    desk.s3.objects = []
    assert desk.poller.poll() == 0
    desk.s3.objects = [second]
    assert desk.poller.poll() == 1


def test_an_event_that_was_not_accepted_comes_again(desk: Desk) -> None:
    """Remembered only after it was handed over."""
    desk.s3.objects = [entry("in/a", version="v1" if desk.versioned else None)]
    desk.refuse = True
    with pytest.raises(RuntimeError):
        desk.poller.poll()
    desk.refuse = False
    assert desk.poller.poll() == 1


def test_half_a_listing_forgets_nothing(desk: Desk) -> None:
    """A refusal on the second page: what the first showed is told, what is known stays known."""
    version = "v1" if desk.versioned else None
    desk.s3.objects = [entry(f"in/{n}", version=version) for n in range(4)]
    desk.poller.poll()
    whole = desk.s3.objects
    desk.s3.objects = [*whole[:2], None]
    assert desk.poller.poll() == 0
    desk.s3.objects = whole
    assert desk.poller.poll() == 0


def test_the_event_has_the_shape_that_rules_match(desk: Desk) -> None:
    """The topology's own pattern lets it through; raw key, size, etag, time, and the version where there are some."""
    desk.s3.objects = [entry("in/a b+ü", "abc-2", "v7" if desk.versioned else None)]
    desk.poller.poll()
    [event] = desk.events
    topology = plan.load_topology(plan.REPOSITORY / "infra" / "topology.py")

    assert event["detail"]["object"]["key"] == "in/a b+ü"
    assert event["detail"]["object"].get("version-id") == ("v7" if desk.versioned else None)
    assert (event["time"], event["detail"]["reason"]) == ("2026-01-02T03:04:05Z", "CompleteMultipartUpload")
    import json

    [rule] = [rule for rule in topology.RULES if rule.prefix == "in/"]
    assert EventPattern.load(json.dumps(rule.pattern("b"))).matches_event(event)


def test_the_period_follows_the_clock() -> None:
    """Divided by the time scale, but never a busy loop."""
    assert period_seconds(1) == PERIOD_S
    assert period_seconds(1000) == PERIOD_LEAST_S
