"""Keys: built and read in one place, holding nothing that a client said."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift import keys
from heavylift.ids import new_ulid
from heavylift.intake import plan_upload
from heavylift.settings import Settings
from infra import topology
from tests.doubles import bodies

tenants = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
file_ids = st.builds(
    lambda now, number: new_ulid(now) + ("" if number is None else f"-{number:06d}"),
    st.floats(0, 2**38),
    st.one_of(st.none(), st.integers(0, 999_999)),
)
lanes = st.sampled_from(["in", "dicom"])


@given(lanes, tenants, file_ids)
def test_staging_keys_round_trip(lane: str, tenant: str, file_id: str) -> None:
    """parse_staging reads exactly what staging builds."""
    key = keys.staging(lane, tenant, file_id)

    assert keys.parse_staging(key) == keys.StagingKey(lane, tenant, file_id)


@given(tenants, file_ids)
def test_store_keys_round_trip(tenant: str, file_id: str) -> None:
    """parse_store reads exactly what store builds."""
    assert keys.parse_store(keys.store(tenant, file_id)) == (tenant, file_id)


@given(st.text(max_size=200))
def test_any_key_is_parsed_without_harm(key: str) -> None:
    """A foreign key is None; what is parsed builds the same key again."""
    parsed = keys.parse_staging(key)
    stored = keys.parse_store(key)

    assert parsed is None or keys.staging(parsed.lane, parsed.tenant, parsed.file_id) == key
    assert stored is None or keys.store(*stored) == key


ULID = "01JD2Z3NDEKTSV4RRFFQ69G5FA"


@pytest.mark.parametrize(
    "key",
    [
        f"in/acme/{ULID}/",
        f"in/acme/{ULID}/007",
        f"in/acme/{ULID}/\u0667",
        f"in/acme/{ULID}/1234567",
        f"in/acme/{ULID}/-1",
        f"in/acme/{ULID}-000007",
        f"in/acme/{ULID}-000007/7",
        f"in//acme/{ULID}",
        f"/in/acme/{ULID}",
        f"out/acme/{ULID}",
        f"in/ACME/{ULID}",
        f"in/acme/{ULID.lower()}",
        f"in/acme/{ULID}\n",
        f"files/acme/{ULID}",
        "",
        "in",
    ],
)
def test_foreign_staging_keys(key: str) -> None:
    """Keys that we never made, however close."""
    assert keys.parse_staging(key) is None


@pytest.mark.parametrize(
    "key", [f"in/acme/{ULID}", f"files/acme/{ULID}/1", f"files/a#b/{ULID}", f"files/acme/{ULID}x", "files/acme/"]
)
def test_foreign_store_keys(key: str) -> None:
    """Keys that we never made, however close."""
    assert keys.parse_store(key) is None


@given(bodies.entries(), tenants)
def test_nothing_of_a_clients_words_is_in_a_key(entry: bodies.FileEntry, tenant: str) -> None:
    """Whatever name, type, path or metadata a client sends, its keys hold lane, tenant, id and numbers only."""
    record = plan_upload(
        entry, tenant=tenant, user="u", file_id=new_ulid(0), now=0.0, max_part_size=None, settings=Settings()
    )
    made = [
        record.key,
        keys.store(tenant, record.file_id),
        keys.manifest(tenant, record.file_id),
        keys.thumbnail(tenant, record.file_id, 3, 256),
    ]

    for key in made:
        folder, _, rest = key.partition(f"/{tenant}/{record.file_id}")
        assert folder in {"in", "files", "manifests", "thumbnails"}
        assert re.fullmatch(r"|\.json|/[0-9]+-[0-9]+\.jpg", rest)


def test_every_key_has_a_class_with_a_life() -> None:
    """The first folder of every key is a key class of its bucket, so that lifecycle rules reach it."""
    classes = {bucket.name: {one.name for one in bucket.classes} for bucket in topology.BUCKETS}

    assert {keys.staging(lane, "t", ULID).partition("/")[0] for lane in ("in", "dicom")} <= classes["staging"]
    assert keys.store("t", ULID).partition("/")[0] in classes["store"]
    assert keys.manifest("t", ULID).partition("/")[0] in classes["derived"]
    assert keys.thumbnail("t", ULID, 1, 256).partition("/")[0] in classes["derived"]


def test_attempts_do_not_share_a_key() -> None:
    """A slow worker's picture never lies where its successor's does."""
    assert keys.thumbnail("t", ULID, 1, 256) != keys.thumbnail("t", ULID, 2, 256)
