"""Which object wakes whom: the rules of the templates, asked offline, for every key that our own code writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.events.models import EventPattern

from heavylift import keys
from infra import topology
from infra.observed import observed
from tests.infra.conftest import ROOT, Assembly

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.timeout(900)]

ULID = "01JD2Z3NDEKTSV4RRFFQ69G5FA"


def patterns(assembly: Assembly) -> dict[str, EventPattern]:
    """Rule -> its pattern, out of the template, with the bucket's logical name as its physical one."""
    physical = {name: bucket for bucket, name in assembly.config.existing.buckets.items()}
    found = {}
    for fact in observed(assembly.templates, assembly.config):
        if fact[0] == "rule":
            text = str(fact[2])
            for bucket in topology.BUCKETS:
                text = text.replace(f'"{{bucket:{bucket.name}}}"', f'"{bucket.name}"')
            for name, bucket in physical.items():
                text = text.replace(f'"{name}"', f'"{bucket}"')
            found[str(fact[1])] = EventPattern.load(text)
    return found


def created(bucket: str, key: str) -> dict[str, Any]:
    """The event of an object, in the shape of the recorded one."""
    event: dict[str, Any] = json.loads((ROOT / "tests" / "events" / "s3_object_created.json").read_text())
    event["detail"]["bucket"]["name"] = bucket
    event["detail"]["object"]["key"] = key
    return event


def woken(found: Mapping[str, EventPattern], bucket: str, key: str) -> list[str]:
    """The queues that hear of this object."""
    queues = {rule.name: rule.queue for rule in (*topology.RULES, *topology.SCAN_RULES)}
    return [queues[name] for name, pattern in found.items() if pattern.matches_event(created(bucket, key))]


TENANTS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
ULIDS = st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=26, max_size=26).map(lambda text: "0" + text[1:])


@given(tenant=TENANTS, ulid=ULIDS, n=st.integers(1, 999_999))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_patterns_match_the_keys_that_we_build(assembly: Assembly, tenant: str, ulid: str, n: int) -> None:
    """Every key has the owner of its lane or none; the same key in another bucket has none."""
    built = {
        ("staging", keys.staging("in", tenant, ulid)): "validate",
        ("staging", keys.staging("in", tenant, f"{ulid}-{n:06d}")): "validate",
        ("staging", keys.staging("dicom", tenant, ulid)): "dicom_ingest",
        ("store", keys.store(tenant, ulid)): "thumbnail",
        ("derived", f"requests/{tenant}/{ulid}.json"): "archive",
        ("derived", keys.manifest(tenant, ulid)): None,
        ("derived", keys.thumbnail(tenant, ulid, n, 256)): None,
        ("derived", f"work/{tenant}/{ulid}"): None,
        ("staging", f"files/{tenant}/{ulid}"): None,
        ("store", f"in/{tenant}/{ulid}"): None,
        ("store", f"dicom/{tenant}/{ulid}"): None,
        ("staging", f"incoming/{tenant}/{ulid}"): None,
        ("staging", f"x/in/{tenant}/{ulid}"): None,
    }
    found = patterns(assembly)

    for (bucket, key), owner in built.items():
        assert woken(found, bucket, key) == ([owner] if owner else []), (bucket, key)


def written(function: topology.Function) -> set[tuple[str, str]]:
    """(bucket, key) of everything that a function may write, a key of each class."""
    return {
        (bucket, key.replace("*", f"acme/{ULID}"))
        for allow in function.allows
        if "s3:PutObject" in allow.actions
        for bucket, _, key in (resource.partition("/") for resource in allow.resources)
    }


def test_nothing_that_is_written_comes_back_to_its_writer(each: Assembly) -> None:
    """From each function over what it may write and whom that wakes: nobody is woken by his own work, at no remove."""
    found = patterns(each)
    of_queue = {one.source.queue: one for one in topology.FUNCTIONS if one.source}
    wakes = {
        one.name: {of_queue[queue].name for bucket, key in written(one) for queue in woken(found, bucket, key)}
        for one in topology.FUNCTIONS
    }

    def reach(name: str) -> set[str]:
        seen: set[str] = set()
        todo = set(wakes[name])
        while todo:
            one = todo.pop()
            seen.add(one)
            todo |= wakes[one] - seen
        return seen

    assert wakes["validate"] == {"thumbnail"}
    assert wakes["thumbnail"] == wakes["dicom_ingest"] == wakes["archive"] == set()
    assert {name for name in wakes if name in reach(name)} == set()


def test_what_stands_beside_the_topology_wakes_nobody(each: Assembly) -> None:
    """Results of back-fills, and GuardDuty's proof that it may write tags."""
    found = patterns(each)
    for bucket, key in (
        ("derived", "manifests/_backfill/run/SUCCEEDED_0.json"),
        ("staging", "malware-protection-resource-validation-object"),
    ):
        assert woken(found, bucket, key) == []


def test_patterns_match_nothing_but_creation(each: Assembly) -> None:
    """A deleted, restored or tagged object starts nothing, nor does another service."""
    event = created("staging", f"in/acme/{ULID}")
    for pattern in patterns(each).values():
        for change in ({"detail-type": "Object Deleted"}, {"detail-type": "Object Tags Added"}, {"source": "custom"}):
            assert not pattern.matches_event({**event, **change})


def test_the_scanners_verdict_wakes_validate(assemblies: dict[str, Assembly]) -> None:
    """Where the gate is on, a verdict on an upload reaches it, one on the malware test object of others does not."""
    event = json.loads((ROOT / "tests" / "events" / "guardduty_scan_result.json").read_text())
    event["detail"]["s3ObjectDetails"] |= {"bucketName": "staging", "objectKey": f"in/acme/{ULID}"}
    heard = {
        stage: [name for name, pattern in patterns(one).items() if pattern.matches_event(event)]
        for stage, one in assemblies.items()
    }
    assert heard == {"default": [], "hardened": ["staging-in-scanned"]}
    event["detail"]["s3ObjectDetails"]["objectKey"] = f"dicom/acme/{ULID}"
    assert not any(pattern.matches_event(event) for pattern in patterns(assemblies["hardened"]).values())
