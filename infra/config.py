"""What a deployer decides: one file a stage, ``infra/stages/<name>.toml``, checked before anything is built.

Pure but for ``load_stage``; raises ConfigError, whose sentence names the key.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heavylift.tables.rules import NAMES
from infra import topology

STAGES = Path(__file__).resolve().parent / "stages"
COGNITO = "cognito"
ARCHITECTURES = ("arm64", "x86_64")
# Lambda keeps 4 KB for all variables of a function (its quotas, "Environment variables"); ours need less than 1.5.
DEFAULT_RULES_BYTES_MAX = 2_500
# What CloudWatch Logs takes, up to ten years ("PutRetentionPolicy" in its API reference).
LOG_RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip
# A bucket's name has 63 characters, and ours are <deployment>-<bucket>-<account>-<region>: the longest region has 14.
DEPLOYMENT_LENGTH_MAX = 63 - len("-staging-") - 12 - len("-") - 14
_DEPLOYMENT = re.compile(rf"[a-z][a-z0-9-]{{0,{DEPLOYMENT_LENGTH_MAX - 2}}}[a-z0-9]")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_DOMAIN = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_CERTIFICATE = re.compile(r"arn:aws[a-z-]*:acm:([a-z0-9-]+):[0-9]{12}:certificate/[0-9a-f-]{36}")
_MAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_LOOPBACK = frozenset({"localhost", "127.0.0.1"})


class ConfigError(ValueError):
    """A value of a stage's file cannot be used."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs the tokens. ``cognito`` makes a user pool; any other issuer is an https address, as in its ``iss``."""

    issuer: str = COGNITO
    audience: tuple[str, ...] = ()
    """``aud`` or ``client_id`` of the tokens; a made user pool's own clients are added by themselves."""
    client_id: str = ""
    """The page's client at another issuer."""

    @property
    def made(self) -> bool:
        return self.issuer == COGNITO


@dataclass(frozen=True, slots=True)
class Page:
    """The page and its distribution; with a domain of its own, whose certificate lies in us-east-1."""

    enabled: bool = True
    domain: str = ""
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class Api:
    """The HTTP API: a domain of its own (certificate in the API's region), and how much it takes at once."""

    domain: str = ""
    certificate: str = ""
    calls_per_second: int = 500
    calls_at_once: int = 1_000


@dataclass(frozen=True, slots=True)
class Protection:
    """What costs money or freedom, and is therefore a choice."""

    kms: bool = False
    """A key of the deployment's own for buckets, table, queues, topics and logs."""
    firewall: bool = False
    """A web ACL on the distribution; wants domains for page and API, since the API's own endpoint is then off."""
    retention_days: int = 0
    """Nobody but who may bypass governance deletes a stored version earlier (S3 Object Lock); 0 = no lock."""
    backup: bool = False
    """AWS Backup of table and store, daily, kept five weeks."""
    old_versions_days: int = 30
    """How long the store keeps a version that was deleted or replaced; 0 = for ever."""


@dataclass(frozen=True, slots=True)
class Existing:
    """Buckets (by their names in the topology) and the table that are there already and are not made."""

    buckets: Mapping[str, str] = field(default_factory=dict)
    table: str = ""


@dataclass(frozen=True, slots=True)
class Alarms:
    """Who is told, and from which monthly cost on; 0 = no budget."""

    mail: tuple[str, ...] = ()
    budget_usd: int = 0


@dataclass(frozen=True, slots=True)
class Config:
    """``deployment`` begins every name and stack, so that several deployments fit into one account."""

    deployment: str = "heavylift"
    account: str = ""
    region: str = ""
    architecture: str = topology.ARCHITECTURE
    log_retention_days: int = 90
    tracing: bool = True
    origins: tuple[str, ...] = ()
    """Pages elsewhere that may talk to buckets and API; our own page needs no entry."""
    settings: Mapping[str, str] = field(default_factory=dict)
    identity: Identity = field(default_factory=Identity)
    page: Page = field(default_factory=Page)
    api: Api = field(default_factory=Api)
    protection: Protection = field(default_factory=Protection)
    existing: Existing = field(default_factory=Existing)
    alarms: Alarms = field(default_factory=Alarms)

    def signature_age_max_s(self, bucket: str) -> int:
        """How old a signature may be when this bucket sees it, in seconds."""
        return topology.signature_age_max_s(bucket, self.settings)

    def placeholders(self) -> tuple[str, ...]:
        """Keys that still hold an address which can never exist (RFC 2606, ``.invalid``)."""
        told = {
            "identity.issuer": (self.identity.issuer,),
            "origins": self.origins,
            "page.domain": (f"//{self.page.domain}",),
            "api.domain": (f"//{self.api.domain}",),
        }
        return tuple(key for key, urls in told.items() if any((_host(url) or "").endswith(".invalid") for url in urls))


def _host(url: str) -> str | None:
    return urlsplit(url).hostname


def _origin(value: str) -> str:
    parts = urlsplit(value)
    plain = value == f"{parts.scheme}://{parts.netloc}" and "*" not in value and "@" not in value and parts.hostname
    if not plain or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
        raise ConfigError(f"origins must hold exact https origins without a path, not {value!r}")
    return value


def _default_rules(text: str) -> None:
    """That the rules by data type are rules, before a file meets them. ConfigError."""
    if len(text.encode()) > DEFAULT_RULES_BYTES_MAX:
        raise ConfigError(
            f"settings.DEFAULT_RULES has {len(text.encode())} bytes; a function's environment has room for "
            f"{DEFAULT_RULES_BYTES_MAX}"
        )
    try:
        rules = json.loads(text or "{}")
    except ValueError:
        rules = None
    if not isinstance(rules, dict):
        raise ConfigError("settings.DEFAULT_RULES must be a JSON object: data types and their rules")
    for data_type, value in rules.items():
        unknown = sorted(set(value) - set(NAMES)) if isinstance(value, dict) else ["(no object)"]
        if unknown:
            raise ConfigError(f"settings.DEFAULT_RULES, {data_type!r}: there is no rule {unknown[0]}")


def _settings(value: Mapping[str, Any]) -> Mapping[str, str]:
    unknown = sorted(set(value) - set(topology.SETTINGS))
    if unknown:
        raise ConfigError(f"settings.{unknown[0]}: docs/settings.md does not know it")
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
    # Below two minutes a signature's age says more of clocks and lines than of who uses it.
    least = {"SIGNATURE_TTL_SECONDS": 120}
    for name, limit in most.items():
        try:
            fits = name not in told or limit is None or least.get(name, 0) <= float(told[name]) <= limit
        except ValueError:
            raise ConfigError(f"settings.{name} must be a number, not {told[name]!r}") from None
        if not fits:
            raise ConfigError(f"settings.{name}={told[name]} is not between {least.get(name, 0)} and {limit}")
    _default_rules(told.get("DEFAULT_RULES", ""))
    gate = told.get("MALWARE_SCAN", "").strip().lower()
    if gate not in ("", *topology.MALWARE_SCAN):
        raise ConfigError(f"settings.MALWARE_SCAN must be one of {', '.join(topology.MALWARE_SCAN)}")
    return told


# --- from a document to typed values


def _value(key: str, kind: str, value: Any) -> Any:
    """A value as its field's annotation wants it. ConfigError that names the key."""

    def fail(what: str) -> ConfigError:
        return ConfigError(f"{key} must be {what}, not {value!r}")

    if kind == "str":
        if not isinstance(value, str):
            raise fail("a text")
    elif kind == "bool":
        if not isinstance(value, bool):
            raise fail("true or false")
    elif kind == "int":
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise fail("a whole number that is not negative")
    elif kind == "tuple[str, ...]":
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            raise fail("a list of texts")
        return tuple(value)
    elif kind == "Mapping[str, str]":
        if not isinstance(value, Mapping):
            raise fail("a table")
    else:
        raise AssertionError(f"{key}: {kind}")
    return value


def _section(cls: type[Any], prefix: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for ``cls`` out of a table of the document. ConfigError for a key that it has not."""
    known = {one.name: str(one.type) for one in fields(cls)}
    unknown = sorted(set(document) - set(known))
    if unknown:
        raise ConfigError(f"there is no key {prefix}{unknown[0]}")
    made = {}
    for name, value in document.items():
        if known[name] in _SECTIONS:
            if not isinstance(value, Mapping):
                raise ConfigError(f"{prefix}{name} must be a table, not {value!r}")
            section = _SECTIONS[known[name]]
            made[name] = section(**_section(section, f"{prefix}{name}.", value))
        else:
            made[name] = _value(f"{prefix}{name}", known[name], value)
    return made


_SECTIONS: Mapping[str, type[Any]] = {one.__name__: one for one in (Identity, Page, Api, Protection, Existing, Alarms)}


def read_config(document: Mapping[str, Any]) -> Config:
    """The configuration in a stage's document. Raises ConfigError."""
    told = _section(Config, "", document)
    told["settings"] = _settings(told.get("settings", {}))
    config = Config(**told)
    for check in (_check_names, _check_identity, _check_addresses, _check_protection):
        check(config)
    return config


def _matches(key: str, pattern: re.Pattern[str], value: str, *, empty: bool = True) -> None:
    if not (pattern.fullmatch(value) or (empty and not value)):
        raise ConfigError(f"{key} must match {pattern.pattern}, not {value!r}")


def _check_names(config: Config) -> None:
    _matches("deployment", _DEPLOYMENT, config.deployment, empty=False)
    _matches("account", re.compile(r"[0-9]{12}"), config.account)
    _matches("region", _REGION, config.region)
    if config.architecture not in ARCHITECTURES:
        raise ConfigError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not {config.architecture!r}")
    if config.log_retention_days not in LOG_RETENTION_DAYS:
        raise ConfigError(f"log_retention_days must be one of {LOG_RETENTION_DAYS}, not {config.log_retention_days}")
    known = {bucket.name for bucket in topology.BUCKETS}
    for name, bucket in config.existing.buckets.items():
        if name not in known or not isinstance(bucket, str):
            raise ConfigError(f"existing.buckets.{name}: there are {', '.join(sorted(known))}, each with a text")
        _matches(f"existing.buckets.{name}", _BUCKET, bucket, empty=False)
    if len(set(config.existing.buckets.values())) < len(config.existing.buckets):
        raise ConfigError("existing.buckets: one bucket cannot stand for two")
    _matches("existing.table", _TABLE, config.existing.table)
    for mail in config.alarms.mail:
        _matches("alarms.mail", _MAIL, mail, empty=False)


def _check_identity(config: Config) -> None:
    identity = config.identity
    if identity.made:
        if identity.client_id:
            raise ConfigError("identity.client_id: a made user pool has clients of its own")
        return
    if not identity.issuer.startswith("https://") or not _host(identity.issuer):
        raise ConfigError(f"identity.issuer must be {COGNITO} or an https address, not {identity.issuer!r}")
    if not identity.audience:
        raise ConfigError("identity.audience must name at least one audience")
    if config.page.enabled and not identity.client_id:
        raise ConfigError("identity.client_id: the page needs a client at the issuer")


def _check_addresses(config: Config) -> None:
    for origin in config.origins:
        _origin(origin)
    for key, one, region in (("page", config.page, "us-east-1"), ("api", config.api, config.region)):
        _matches(f"{key}.domain", _DOMAIN, one.domain)
        found = _CERTIFICATE.fullmatch(one.certificate)
        if bool(one.domain) != bool(one.certificate) or (one.certificate and not found):
            raise ConfigError(f"{key}.domain and {key}.certificate (an ACM ARN) belong together")
        if found and region and found[1] != region:
            raise ConfigError(f"{key}.certificate must lie in {region}, not in {found[1]}")
    if config.page.domain and config.page.domain == config.api.domain:
        raise ConfigError("api.domain must differ from page.domain: the distribution asks the API by it")
    if not 1 <= config.api.calls_per_second <= config.api.calls_at_once:
        raise ConfigError("api.calls_per_second must be at least 1 and at most api.calls_at_once")


def _check_protection(config: Config) -> None:
    protection = config.protection
    if protection.firewall and not (config.page.enabled and config.api.domain and config.region):
        raise ConfigError(
            "protection.firewall wants page.enabled, api.domain and region: the ACL guards the distribution, and the "
            "API's own endpoint is off"
        )
    if protection.retention_days and "store" in config.existing.buckets:
        raise ConfigError("protection.retention_days: the lock of an existing bucket is its owner's to set")
    if protection.retention_days > 36_500:
        raise ConfigError("protection.retention_days: S3 locks for 100 years at most")


def load_stage(name: str) -> Config:
    """The stage of this name, or the file at this path. Raises ConfigError."""
    path = Path(name) if name.endswith(".toml") else STAGES / f"{name}.toml"
    try:
        document = tomllib.loads(path.read_text())
    except OSError:
        known = ", ".join(stages())
        raise ConfigError(f"there is no stage {name!r}; there are {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is no TOML: {error}") from None
    try:
        return read_config(document)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None


def stages() -> Sequence[str]:
    """The names of all stages."""
    return sorted(path.stem for path in STAGES.glob("*.toml"))
