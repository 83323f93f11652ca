"""What a deployer decides: read from cdk.json's context (or ``cdk -c``), checked before anything is built.

Pure; raises ConfigError, whose sentence names the key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from heavylift.tables.rules import NAMES
from infra import topology

PREFIX = "heavylift:"
KEYS = ("deployment", "jwtIssuer", "jwtAudience", "origins", "logRetentionDays", "settings")
# Lambda keeps 4 KB for all variables of a function (its quotas, "Environment variables"); ours need less than 1.5.
DEFAULT_RULES_BYTES_MAX = 2_500
# What CloudWatch Logs takes, up to ten years ("PutRetentionPolicy" in its API reference).
LOG_RETENTION_DAYS = (
    1,
    3,
    5,
    7,
    14,
    30,
    60,
    90,
    120,
    150,
    180,
    365,
    400,
    545,
    731,
    1096,
    1827,
    2192,
    2557,
    2922,
    3288,
    3653,
)
# Lambda's function names have 64 characters, and ours end on a name of the topology.
_DEPLOYMENT = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z0-9]")
_LOOPBACK = frozenset({"localhost", "127.0.0.1"})


class ConfigError(ValueError):
    """A value of the context cannot be used."""


@dataclass(frozen=True, slots=True)
class Config:
    """``deployment`` begins every name and stack, so that several deployments fit into one account."""

    deployment: str = "heavylift"
    jwt_issuer: str = "https://issuer.invalid/"
    jwt_audience: tuple[str, ...] = ("heavylift",)
    origins: tuple[str, ...] = ("https://heavylift.invalid",)
    log_retention_days: int = 90
    settings: Mapping[str, str] = field(default_factory=dict)

    def signature_age_max_s(self, bucket: str) -> int:
        """How old a signature may be when this bucket sees it, in seconds."""
        return topology.signature_age_max_s(bucket, self.settings)

    def placeholders(self) -> tuple[str, ...]:
        """Keys that still hold an address which can never exist (RFC 2606, ``.invalid``)."""
        told = {"jwtIssuer": (self.jwt_issuer,), "origins": self.origins}
        return tuple(key for key, urls in told.items() if any((_host(url) or "").endswith(".invalid") for url in urls))


def _host(url: str) -> str | None:
    return urlsplit(url).hostname


def _texts(key: str, value: object) -> tuple[str, ...]:
    """A list of texts; ``cdk -c`` can only give one text, so commas part it."""
    if isinstance(value, str):
        value = [one.strip() for one in value.split(",") if one.strip()]
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ConfigError(f"{PREFIX}{key} must be a list of texts, not {value!r}")
    return tuple(value)


def _origin(value: str) -> str:
    parts = urlsplit(value)
    plain = value == f"{parts.scheme}://{parts.netloc}" and "*" not in value and "@" not in value and parts.hostname
    if not plain or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
        raise ConfigError(f"{PREFIX}origins must hold exact https origins without a path, not {value!r}")
    return value


def _default_rules(text: str) -> None:
    """That the rules by data type are rules, before a file meets them. ConfigError."""
    if len(text.encode()) > DEFAULT_RULES_BYTES_MAX:
        raise ConfigError(
            f"{PREFIX}settings DEFAULT_RULES has {len(text.encode())} bytes; a function's environment has room for "
            f"{DEFAULT_RULES_BYTES_MAX}"
        )
    try:
        rules = json.loads(text or "{}")
    except ValueError:
        rules = None
    if not isinstance(rules, dict):
        raise ConfigError(f"{PREFIX}settings DEFAULT_RULES must be a JSON object: data types and their rules")
    for data_type, value in rules.items():
        unknown = sorted(set(value) - set(NAMES)) if isinstance(value, dict) else ["(no object)"]
        if unknown:
            raise ConfigError(f"{PREFIX}settings DEFAULT_RULES, {data_type!r}: there is no rule {unknown[0]}")


def _settings(value: object) -> Mapping[str, str]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ConfigError(f"{PREFIX}settings must be a JSON object") from None
    if not isinstance(value, Mapping):
        raise ConfigError(f"{PREFIX}settings must be an object, not {value!r}")
    unknown = sorted(set(value) - set(topology.SETTINGS))
    if unknown:
        raise ConfigError(f"{PREFIX}settings names {', '.join(unknown)}, which docs/settings.md does not know")
    told = {name: str(one).lower() if isinstance(one, bool) else str(one) for name, one in sorted(value.items())}
    # What the bucket's lifecycle has deleted, no setting brings back; Signature Version 4 ends after a week.
    (staging,) = (bucket for bucket in topology.BUCKETS if bucket.name == "staging")
    archives = [one.expire_days for bucket in topology.BUCKETS for one in bucket.classes if one.name == "archives"]
    most = {
        "SESSION_DAYS": staging.abort_incomplete_days,
        "QUARANTINE_DAYS": min((one.expire_days for one in staging.classes if one.expire_days), default=None),
        "ARCHIVE_DAYS": min((one for one in archives if one), default=None),
        "SIGNATURE_TTL_SECONDS": 7 * 86_400,
    }
    for name, limit in most.items():
        try:
            fits = name not in told or limit is None or 0 <= float(told[name]) <= limit
        except ValueError:
            raise ConfigError(f"{PREFIX}settings {name} must be a number, not {told[name]!r}") from None
        if not fits:
            raise ConfigError(f"{PREFIX}settings {name}={told[name]} is not between 0 and {limit}")
    _default_rules(told.get("DEFAULT_RULES", ""))
    gate = told.get("MALWARE_SCAN", "").strip().lower()
    if gate not in ("", *topology.MALWARE_SCAN):
        raise ConfigError(f"{PREFIX}settings MALWARE_SCAN must be one of {', '.join(topology.MALWARE_SCAN)}")
    return told


def read_config(context: Mapping[str, object]) -> Config:
    """The configuration in a CDK context; keys begin ``heavylift:``. Raises ConfigError."""
    base = Config()
    told = {key.removeprefix(PREFIX): value for key, value in context.items() if key.startswith(PREFIX)}
    unknown = sorted(set(told) - set(KEYS))
    if unknown:
        raise ConfigError(f"no such key: {PREFIX}{unknown[0]}")

    deployment = str(told.get("deployment", base.deployment))
    if not _DEPLOYMENT.fullmatch(deployment):
        raise ConfigError(f"{PREFIX}deployment must match {_DEPLOYMENT.pattern}, not {deployment!r}")
    issuer = str(told.get("jwtIssuer", base.jwt_issuer))
    if not issuer.startswith("https://") or not _host(issuer):
        raise ConfigError(f"{PREFIX}jwtIssuer must be an https address, not {issuer!r}")
    audience = _texts("jwtAudience", told.get("jwtAudience", list(base.jwt_audience)))
    if not audience:
        raise ConfigError(f"{PREFIX}jwtAudience must name at least one audience")
    days = str(told.get("logRetentionDays", base.log_retention_days))
    if days not in {str(one) for one in LOG_RETENTION_DAYS}:
        raise ConfigError(f"{PREFIX}logRetentionDays must be one of {LOG_RETENTION_DAYS}, not {days}")
    return Config(
        deployment=deployment,
        jwt_issuer=issuer,
        jwt_audience=audience,
        origins=tuple(_origin(one) for one in _texts("origins", told.get("origins", list(base.origins)))),
        log_retention_days=int(days),
        settings=_settings(told.get("settings", {})),
    )
