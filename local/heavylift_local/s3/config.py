"""The server's configuration as plain values, read from one JSON document. No I/O but `load`.

{"port":0,"data":DIR,"region":R,"account":A,"admin_token":T,"buckets":[{"name","versioned","cors":[rule],
 "lifecycle":[rule],"policy":{"signature_age_max_s":N}}],"time_scale":1,
 "limits":{"idle_s","stall_s","body_bytes_per_s_min","connections_max"},
 "callers":[{"name","access_key","secret_key","session_token","session_expires","allow":[{"actions","resources"}]}],
 "event_sink":URL|null,"call_sink":URL|null,"access_log":FILE|null,"fsync":bool,"domain":HOST|[HOST]|null,"pin_region":bool}
A field that is not known is an error: a misspelt limit must not be silently ignored.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heavylift_local.s3 import lifecycle
from heavylift_local.s3.lifecycle import Rule

# Amazon S3 user guide, "General purpose bucket naming rules": 3 to 63 of [a-z0-9.-], letter or digit at both ends
# (of every label, as DNS has it).
BUCKET_NAME = re.compile(r"^(?!.*(\.\.|\.-|-\.))(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")


class ConfigError(ValueError):
    """The configuration cannot be served."""


@dataclass(frozen=True, slots=True)
class CorsRule:
    allowed_origins: tuple[str, ...]
    allowed_methods: tuple[str, ...]
    allowed_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age_seconds: int | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "AllowedOrigins": list(self.allowed_origins),
            "AllowedMethods": list(self.allowed_methods),
            "AllowedHeaders": list(self.allowed_headers),
            "ExposeHeaders": list(self.expose_headers),
            "MaxAgeSeconds": self.max_age_seconds,
        }


@dataclass(frozen=True, slots=True)
class BucketConfig:
    name: str
    versioned: bool = False
    cors: tuple[CorsRule, ...] = ()
    lifecycle: tuple[Rule, ...] = ()
    signature_age_max_s: int | None = None  # older signatures in a query are denied by the bucket's policy


@dataclass(frozen=True, slots=True)
class Statement:
    """Allowed IAM actions on resources: "<bucket>" for bucket actions, "<bucket>/<key pattern>" for object actions."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    name: str
    access_key: str
    secret_key: str
    session_token: str | None = None
    session_expires: float | None = None
    allow: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may cost: seconds between requests, seconds without a byte, and the least rate of a body."""

    idle_s: int = 60
    stall_s: int = 20  # S3 answers RequestTimeout after about this
    # Counted from stall_s on, either way: a byte now and then must not hold a connection for ever.
    body_bytes_per_s_min: int = 1024
    connections_max: int = 256


@dataclass(frozen=True, slots=True)
class Config:
    data: Path
    port: int = 0
    region: str = "us-east-1"
    account: str = "000000000000"
    admin_token: str | None = None
    buckets: tuple[BucketConfig, ...] = ()
    callers: tuple[Caller, ...] = ()
    event_sink: str | None = None
    call_sink: str | None = None  # told of calls that a fault lets nobody survive, see heavylift_local.traps
    access_log: Path | None = None
    limits: Limits = Limits()
    fsync: bool = False
    time_scale: float = 1.0  # a day of the lifecycle rules lasts 86,400 / time_scale seconds
    domains: tuple[str, ...] = ()  # virtual-host style: <bucket>.<domain>; none: path style only
    pin_region: bool = False  # True: only signatures for `region`, as the real service; False: for any region

    @property
    def pinned_region(self) -> str | None:
        return self.region if self.pin_region else None


def parse_cors_rule(raw: Mapping[str, Any]) -> CorsRule:
    _known(raw, {"ID", "AllowedOrigins", "AllowedMethods", "AllowedHeaders", "ExposeHeaders", "MaxAgeSeconds"}, "cors")
    rule = CorsRule(
        allowed_origins=tuple(raw.get("AllowedOrigins") or ()),
        allowed_methods=tuple(raw.get("AllowedMethods") or ()),
        allowed_headers=tuple(raw.get("AllowedHeaders") or ()),
        expose_headers=tuple(raw.get("ExposeHeaders") or ()),
        max_age_seconds=raw.get("MaxAgeSeconds"),
    )
    if not rule.allowed_origins or not rule.allowed_methods:
        raise ConfigError("a cors rule needs AllowedOrigins and AllowedMethods")
    if any(origin.count("*") > 1 for origin in rule.allowed_origins):
        raise ConfigError("an AllowedOrigin may hold one * only")
    return rule


def parse(raw: Mapping[str, Any]) -> Config:
    """Configuration values from decoded JSON. Raises ConfigError."""
    fields = {"port", "data", "region", "account", "admin_token", "buckets", "callers", "event_sink", "access_log"}
    _known(raw, fields | {"fsync", "domain", "pin_region", "call_sink", "time_scale", "limits"}, "configuration")
    if not raw.get("data"):
        raise ConfigError("the configuration needs data: a directory")
    callers = tuple(_caller(c) for c in raw.get("callers") or ())
    if len({c.access_key for c in callers}) != len(callers):
        raise ConfigError("two callers share an access key")
    return Config(
        data=Path(raw["data"]),
        port=int(raw.get("port") or 0),
        region=raw.get("region") or "us-east-1",
        account=raw.get("account") or "000000000000",
        admin_token=raw.get("admin_token"),
        buckets=tuple(_bucket(b) for b in raw.get("buckets") or ()),
        callers=callers,
        event_sink=raw.get("event_sink"),
        call_sink=raw.get("call_sink"),
        access_log=Path(raw["access_log"]) if raw.get("access_log") else None,
        time_scale=_scale(raw.get("time_scale", 1)),
        limits=_limits(raw.get("limits") or {}),
        fsync=bool(raw.get("fsync", False)),
        domains=_domains(raw.get("domain")),
        pin_region=bool(raw.get("pin_region", False)),
    )


def _domains(raw: object) -> tuple[str, ...]:
    names = [raw] if isinstance(raw, str) else raw or []
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError("domain: a host name or a list of them")
    return tuple(name.lower().strip(".") for name in names)


def _scale(raw: object) -> float:
    if not isinstance(raw, (int, float)) or isinstance(raw, bool) or not 1 <= raw <= 1_000_000:
        raise ConfigError("time_scale is a number from 1 to 1,000,000")
    return float(raw)


def _limits(raw: Mapping[str, Any]) -> Limits:
    _known(raw, {"idle_s", "stall_s", "body_bytes_per_s_min", "connections_max"}, "limits")
    if any(not isinstance(value, int) or value < 1 for value in raw.values()):
        raise ConfigError("limits are whole and positive")
    return Limits(**raw)


def load(path: Path) -> Config:
    return parse(json.loads(path.read_text(encoding="utf-8")))


def _bucket(raw: Mapping[str, Any]) -> BucketConfig:
    _known(raw, {"name", "versioned", "cors", "lifecycle", "policy"}, "bucket")
    if not BUCKET_NAME.match(str(raw.get("name"))):
        raise ConfigError(f"not a bucket name: {raw.get('name')!r}")
    policy = raw.get("policy") or {}
    _known(policy, {"signature_age_max_s"}, "policy")
    age = policy.get("signature_age_max_s")
    if age is not None and (not isinstance(age, int) or age < 1):
        raise ConfigError("signature_age_max_s is a positive number of seconds")
    try:
        rules = lifecycle.from_json(raw.get("lifecycle") or ())
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return BucketConfig(
        raw["name"],
        bool(raw.get("versioned", False)),
        tuple(parse_cors_rule(r) for r in raw.get("cors") or ()),
        rules,
        age,
    )


def _caller(raw: Mapping[str, Any]) -> Caller:
    _known(raw, {"name", "access_key", "secret_key", "session_token", "session_expires", "allow"}, "caller")
    for field in ("name", "access_key", "secret_key"):
        if not raw.get(field):
            raise ConfigError(f"a caller needs {field}")
    return Caller(
        name=raw["name"],
        access_key=raw["access_key"],
        secret_key=raw["secret_key"],
        session_token=raw.get("session_token"),
        session_expires=raw.get("session_expires"),
        allow=tuple(_statement(s) for s in raw.get("allow") or ()),
    )


def _statement(raw: Mapping[str, Any]) -> Statement:
    _known(raw, {"actions", "resources"}, "allow")
    return Statement(tuple(raw.get("actions") or ()), tuple(raw.get("resources") or ()))


def _known(raw: Mapping[str, Any], fields: set[str], where: str) -> None:
    unknown = set(raw) - fields
    if unknown:
        raise ConfigError(f"unknown field in {where}: {', '.join(sorted(unknown))}")
