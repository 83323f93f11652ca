"""What a deployer may set, read from the environment once, on first use and never at import.

Every name is described in docs/settings.md; a test holds the two together.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from heavylift.limits import (
    MIB,
    OBJECT_SIZE_MAX,
    RATE_LIMIT_CALLS_PER_MINUTE,
    RATE_LIMIT_FILES_PER_MINUTE,
    S3_PART_SIZE_MAX,
    S3_PART_SIZE_MIN,
)

MALWARE_SCAN = ("off", "strict", "lenient")
DICOM_CONFLICT = ("keep_first", "replace", "keep_both")
TYPE_MISMATCH = ("error", "warn", "allow")
SIGNATURE_TTL_MAX_S = 7 * 86_400  # Signature Version 4 refuses more


@dataclass(frozen=True, slots=True)
class Settings:
    """Units are in the names; ``time_scale`` divides every clock that is waited for (leases, retries, sweeps)."""

    staging_bucket: str = ""
    store_bucket: str = ""
    derived_bucket: str = ""
    table_name: str = ""
    queue_urls: Mapping[str, str] | None = None
    event_bus_name: str = "default"
    region: str = "us-east-1"
    function_name: str = ""
    max_file_size_bytes: int = OBJECT_SIZE_MAX
    part_size_min_bytes: int = S3_PART_SIZE_MIN
    signature_ttl_s: int = 900
    session_days: float = 7.0
    quarantine_days: float = 14.0
    archive_days: float = 7.0
    tenant_claim: str = "tenant"
    facility_claim: str = "facility"
    pad_color: str = ""
    log_level: str = "INFO"
    max_memory_mb: int = 1024
    memory_buffer_mb: int = 200
    large_file_threshold_mb: int = 100
    tiff_chunk_size: int = 2048
    enable_tiff_chunking: bool = True
    default_rules: str = ""
    malware_scan: str = "off"
    type_mismatch: str = "error"
    dicom_conflict: str = "keep_first"
    dicom_deidentify: str = ""
    rate_limit_files_per_minute: int = RATE_LIMIT_FILES_PER_MINUTE
    rate_limit_calls_per_minute: int = RATE_LIMIT_CALLS_PER_MINUTE
    time_scale: float = 1.0

    def queue_url(self, name: str) -> str:
        return (self.queue_urls or {})[name]

    def decode_budget_bytes(self, function_memory_mb: int) -> int:
        """min(function memory, MAX_MEMORY_MB) - MEMORY_BUFFER_MB: what a decoder may count on."""
        return max(0, min(function_memory_mb, self.max_memory_mb) - self.memory_buffer_mb) * MIB


def _flag(text: str) -> bool:
    return text.strip().lower() not in {"", "0", "false", "no", "off"}


def _one_of(name: str, text: str, known: tuple[str, ...]) -> str:
    """One of ``known``, the first where nothing is given. ValueError."""
    value = text.strip().lower() or known[0]
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {text!r}")
    return value


def _rules_by_data_type(text: str) -> str:
    """{"<data type>": rules, "*": rules for all others}, as it was given. ValueError when it is no such object."""
    text = text.strip()
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict) or not all(isinstance(rules, dict) for rules in value.values()):
        raise ValueError("DEFAULT_RULES must be a JSON object of objects: data types and their rules")
    return text


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from an environment. ValueError, naming the variable, when a number is none."""

    def number(name: str, default: float) -> float:
        text = environment.get(name, "").strip()
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a number, not {text!r}")
        return value

    base = Settings()
    return Settings(
        staging_bucket=environment.get("STAGING_BUCKET", ""),
        store_bucket=environment.get("STORE_BUCKET", ""),
        derived_bucket=environment.get("DERIVED_BUCKET", ""),
        table_name=environment.get("TABLE_NAME", ""),
        queue_urls={
            name.removesuffix("_QUEUE_URL").lower(): value
            for name, value in environment.items()
            if name.endswith("_QUEUE_URL")
        },
        event_bus_name=environment.get("EVENT_BUS_NAME") or base.event_bus_name,
        region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or base.region,
        function_name=environment.get("AWS_LAMBDA_FUNCTION_NAME", ""),
        max_file_size_bytes=min(int(number("MAX_FILE_SIZE", base.max_file_size_bytes)), OBJECT_SIZE_MAX),
        part_size_min_bytes=min(
            max(int(number("PART_SIZE_MIN", base.part_size_min_bytes)), S3_PART_SIZE_MIN), S3_PART_SIZE_MAX
        ),
        signature_ttl_s=min(max(int(number("SIGNATURE_TTL_SECONDS", base.signature_ttl_s)), 1), SIGNATURE_TTL_MAX_S),
        session_days=number("SESSION_DAYS", base.session_days),
        quarantine_days=number("QUARANTINE_DAYS", base.quarantine_days),
        archive_days=number("ARCHIVE_DAYS", base.archive_days),
        tenant_claim=environment.get("TENANT_CLAIM") or base.tenant_claim,
        facility_claim=environment.get("FACILITY_CLAIM") or base.facility_claim,
        pad_color=environment.get("PAD_COLOR", base.pad_color),
        log_level=environment.get("LOG_LEVEL") or base.log_level,
        max_memory_mb=int(number("MAX_MEMORY_MB", base.max_memory_mb)),
        memory_buffer_mb=int(number("MEMORY_BUFFER_MB", base.memory_buffer_mb)),
        large_file_threshold_mb=int(number("LARGE_FILE_THRESHOLD_MB", base.large_file_threshold_mb)),
        tiff_chunk_size=int(number("TIFF_CHUNK_SIZE", base.tiff_chunk_size)),
        default_rules=_rules_by_data_type(environment.get("DEFAULT_RULES", "")),
        malware_scan=_one_of("MALWARE_SCAN", environment.get("MALWARE_SCAN", ""), MALWARE_SCAN),
        dicom_conflict=_one_of("DICOM_CONFLICT", environment.get("DICOM_CONFLICT", ""), DICOM_CONFLICT),
        dicom_deidentify=environment.get("DICOM_DEIDENTIFY", base.dicom_deidentify),
        type_mismatch=_one_of("TYPE_MISMATCH", environment.get("TYPE_MISMATCH", ""), TYPE_MISMATCH),
        enable_tiff_chunking=_flag(environment.get("ENABLE_TIFF_CHUNKING", "true")),
        rate_limit_files_per_minute=max(
            0, int(number("RATE_LIMIT_FILES_PER_MINUTE", base.rate_limit_files_per_minute))
        ),
        rate_limit_calls_per_minute=max(
            0, int(number("RATE_LIMIT_CALLS_PER_MINUTE", base.rate_limit_calls_per_minute))
        ),
        time_scale=max(number("HEAVYLIFT_TIME_SCALE", 1.0), 1e-3),
    )


@cache
def settings() -> Settings:
    """The settings of this process."""
    return read_settings(os.environ)
