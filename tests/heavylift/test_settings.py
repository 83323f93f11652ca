"""Settings: each name is read, effective where it is used, known to the topology and described in the docs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from heavylift.intake import plan_upload
from heavylift.limits import GIB, MIB, OBJECT_SIZE_MAX, S3_PART_SIZE_MAX, S3_PART_SIZE_MIN
from heavylift.settings import Settings, read_settings
from infra import topology

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"

# name -> (text, field, value), and what stands there when nothing is set.
EFFECTS: dict[str, tuple[str, str, Any, Any]] = {
    "MAX_FILE_SIZE": ("1000", "max_file_size_bytes", 1000, OBJECT_SIZE_MAX),
    "PART_SIZE_MIN": ("33554432", "part_size_min_bytes", 32 * MIB, 5 * MIB),
    "SIGNATURE_TTL_SECONDS": ("60", "signature_ttl_s", 60, 900),
    "SESSION_DAYS": ("0.5", "session_days", 0.5, 7.0),
    "QUARANTINE_DAYS": ("3", "quarantine_days", 3.0, 14.0),
    "ARCHIVE_DAYS": ("2", "archive_days", 2.0, 7.0),
    "TENANT_CLAIM": ("custom:org", "tenant_claim", "custom:org", "tenant"),
    "FACILITY_CLAIM": ("custom:clinic", "facility_claim", "custom:clinic", "facility"),
    "PAD_COLOR": ("white", "pad_color", "white", ""),
    "LOG_LEVEL": ("DEBUG", "log_level", "DEBUG", "INFO"),
    "MAX_MEMORY_MB": ("512", "max_memory_mb", 512, 1024),
    "MEMORY_BUFFER_MB": ("100", "memory_buffer_mb", 100, 200),
    "LARGE_FILE_THRESHOLD_MB": ("10", "large_file_threshold_mb", 10, 100),
    "TIFF_CHUNK_SIZE": ("512", "tiff_chunk_size", 512, 2048),
    "ENABLE_TIFF_CHUNKING": ("false", "enable_tiff_chunking", False, True),
    "DEFAULT_RULES": ('{"*": {}}', "default_rules", '{"*": {}}', ""),
    "MALWARE_SCAN": ("Lenient", "malware_scan", "lenient", "off"),
    "DICOM_CONFLICT": ("Replace", "dicom_conflict", "replace", "keep_first"),
    "DICOM_DEIDENTIFY": ("trial, acme", "dicom_deidentify", "trial, acme", ""),
    "TYPE_MISMATCH": ("warn", "type_mismatch", "warn", "error"),
    "RATE_LIMIT_FILES_PER_MINUTE": ("7", "rate_limit_files_per_minute", 7, 30_000),
    "RATE_LIMIT_CALLS_PER_MINUTE": ("0", "rate_limit_calls_per_minute", 0, 6_000),
    "HEAVYLIFT_TIME_SCALE": ("60", "time_scale", 60.0, 1.0),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_each_setting_is_read(name: str) -> None:
    """Set alone, it changes its field and no other; unset or blank, its default stands."""
    text, field, value, default = EFFECTS[name]
    base, changed = read_settings({}), read_settings({name: text})

    assert getattr(base, field) == default
    assert getattr(read_settings({name: "  "}) if field not in {"pad_color"} else base, field) in {default, False, "  "}
    differing = {one for one in Settings.__slots__ if getattr(base, one) != getattr(changed, one)}
    assert differing == {field}
    assert getattr(changed, field) == value


def test_the_names_are_the_topologys() -> None:
    """What a deployer may set is what is read, but the scale of time, which is the local stack's."""
    assert set(topology.SETTINGS) == EFFECTS.keys() - {"HEAVYLIFT_TIME_SCALE"}


def test_every_setting_is_described_with_its_default() -> None:
    """docs/settings.md has a row for each setting, none for another name."""
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", DOCS.read_text(), re.MULTILINE))

    assert rows.keys() == set(topology.SETTINGS)
    for name, (_, _, _, default) in EFFECTS.items():
        if name in rows:
            shown = rows[name].strip("`")
            sizes = {"48.8 TiB": OBJECT_SIZE_MAX, "5 MiB": 5 * MIB, "true": True, "false": False, "(empty)": ""}
            assert sizes.get(shown, shown) in {default, str(default), str(int(default)) if default == 7 else ""} or (
                float(shown) == default
            )
    assert "HEAVYLIFT_TIME_SCALE" in DOCS.read_text()


@pytest.mark.parametrize("name", [name for name, effect in EFFECTS.items() if type(effect[3]) in {int, float}])
@pytest.mark.parametrize("text", ["ten", "1,5", "0x10", "nan", "inf", "-inf"])
def test_a_number_that_is_none_names_its_variable(name: str, text: str) -> None:
    """A deployer reads which variable is wrong, and what stood there."""
    with pytest.raises(ValueError, match=f"{name} must be a number"):
        read_settings({name: text})


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("MAX_FILE_SIZE", str(OBJECT_SIZE_MAX * 2), "max_file_size_bytes", OBJECT_SIZE_MAX),
        ("PART_SIZE_MIN", "1", "part_size_min_bytes", S3_PART_SIZE_MIN),
        ("PART_SIZE_MIN", str(6 * GIB), "part_size_min_bytes", S3_PART_SIZE_MAX),
        ("SIGNATURE_TTL_SECONDS", "0", "signature_ttl_s", 1),
        ("SIGNATURE_TTL_SECONDS", "9999999", "signature_ttl_s", 604_800),
        ("HEAVYLIFT_TIME_SCALE", "0", "time_scale", 1e-3),
    ],
)
def test_values_that_aws_would_refuse_are_moved_to_its_limit(name: str, text: str, field: str, value: float) -> None:
    """No setting can make a plan or a signature that S3 refuses."""
    assert getattr(read_settings({name: text}), field) == value


def test_a_word_that_is_none_names_its_variable() -> None:
    """A gate that nobody knows is no gate, and nobody may believe there is one; the deployment knows the same words."""
    for word in topology.MALWARE_SCAN:
        assert read_settings({"MALWARE_SCAN": word.upper()}).malware_scan == word
    with pytest.raises(ValueError, match="MALWARE_SCAN must be one of off, strict, lenient, not 'on'"):
        read_settings({"MALWARE_SCAN": "on"})


@pytest.mark.parametrize("text", ["true", "1", "yes", "on", "True"])
def test_true_words(text: str) -> None:
    """Everything but the words for no."""
    assert read_settings({"ENABLE_TIFF_CHUNKING": text}).enable_tiff_chunking is True


@pytest.mark.parametrize("text", ["false", "0", "no", "off", "FALSE", "", " "])
def test_false_words(text: str) -> None:
    """The words for no."""
    assert read_settings({"ENABLE_TIFF_CHUNKING": text}).enable_tiff_chunking is False


def test_what_the_topology_tells_a_function_is_read() -> None:
    """Buckets, table and queues of topology.ENVIRONMENT end in the settings."""
    told = {name: f"<{name}>" for name in topology.ENVIRONMENT}
    known = read_settings(told)

    assert (known.staging_bucket, known.store_bucket, known.derived_bucket, known.table_name) == (
        "<STAGING_BUCKET>", "<STORE_BUCKET>", "<DERIVED_BUCKET>", "<TABLE_NAME>",
    )  # fmt: skip
    assert {queue.name for queue in topology.QUEUES} == set(known.queue_urls or {})
    for queue in topology.QUEUES:
        assert known.queue_url(queue.name) == f"<{queue.name.upper()}_QUEUE_URL>"
    with pytest.raises(KeyError):
        known.queue_url("nobody")


def test_the_decode_budget() -> None:
    """min(function memory, MAX_MEMORY_MB) - MEMORY_BUFFER_MB, never below nothing."""
    assert Settings().decode_budget_bytes(1769) == 824 * MIB
    assert Settings().decode_budget_bytes(512) == 312 * MIB
    assert Settings(max_memory_mb=300).decode_budget_bytes(1769) == 100 * MIB
    assert Settings(memory_buffer_mb=2000).decode_budget_bytes(1769) == 0


def _planned(size: int, settings: Settings) -> Any:
    from heavylift.api.bodies import FileEntry

    entry = FileEntry(name="a.bin", size=size)
    return plan_upload(entry, tenant="t", user="u", file_id="f", now=1000.0, max_part_size=None, settings=settings)


def test_session_days_and_part_size_min_shape_a_session() -> None:
    """The session's end and its parts follow the settings."""
    record = _planned(GIB, Settings(session_days=2, part_size_min_bytes=256 * MIB))

    assert record.expires_at == 1000 + 2 * 86_400
    assert (record.part_size, record.part_count) == (256 * MIB, 4)


def test_max_file_size_refuses() -> None:
    """One byte more than allowed: size_not_allowed, with the limit."""
    from heavylift.errors import RequestError

    assert _planned(1000, Settings(max_file_size_bytes=1000)).size == 1000
    with pytest.raises(RequestError) as refused:
        _planned(1001, Settings(max_file_size_bytes=1000))
    assert (refused.value.code, refused.value.facts["size_max"]) == ("size_not_allowed", 1000)


def test_settings_of_pictures_reach_the_decoder() -> None:
    """Padding, thresholds, chunk size and budget are handed to make_thumbnails."""
    from heavylift.thumbnailing import options

    changed = options(
        Settings(
            pad_color="white",
            large_file_threshold_mb=10,
            tiff_chunk_size=512,
            enable_tiff_chunking=False,
            max_memory_mb=500,
            memory_buffer_mb=100,
        ),
        1769,
    )
    base = options(Settings(), 1769)

    assert (changed.pad_color, changed.tiff_chunk_edge, changed.tiff_chunking) == ("white", 512, False)
    assert (changed.large_file_threshold_bytes, changed.tiff_threshold_bytes) == (10 * MIB, 10 * MIB)
    assert changed.budget_bytes == 400 * MIB
    assert (base.pad_color, base.tiff_chunk_edge, base.tiff_chunking) == (None, 2048, True)
    assert (base.large_file_threshold_bytes, base.tiff_threshold_bytes) == (100 * MIB, 50 * MIB)


@pytest.mark.parametrize("text", ["[]", "{", '{"*": 1}', "3"])
def test_default_rules_that_are_none_are_named(text: str) -> None:
    """A deployer's mistake is told at the first call, not laid at a file's door."""
    with pytest.raises(ValueError, match="DEFAULT_RULES"):
        read_settings({"DEFAULT_RULES": text})
