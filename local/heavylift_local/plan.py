"""From the topology's logical names to everything the local stack is started with. No I/O but reading files.

The topology is read from ``infra/topology.py`` of the repository, or from another file with the same names.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import re
import secrets
import string
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

REGION = "us-east-1"
ACCOUNT = "000000000000"
REPOSITORY = Path(__file__).resolve().parents[2]
HTTP_CHILDREN_MAX = 4  # what a laptop can serve side by side; Lambda would start more
QUEUE_CHILDREN_MAX = 2
S3_DOMAINS = ("s3.localhost", "localhost")  # browsers resolve every name under localhost to this machine
OPERATOR = "client"  # the caller of the keys in the ready line: tools on this machine, everything allowed
_PLACEHOLDER = re.compile(r"\{(bucket|queue|table|bus)(?::([a-z0-9_-]+))?\}")


class PlanError(Exception):
    """The topology or an option cannot be realised."""


def load_topology(path: Path) -> ModuleType:
    """The topology module; raises PlanError."""
    spec = importlib.util.spec_from_file_location("heavylift_topology", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise PlanError(f"no topology at {path}")
    if str(REPOSITORY) not in sys.path:
        sys.path.append(str(REPOSITORY))  # what a topology is made of is infra.model, beside it
    module = importlib.util.module_from_spec(spec)
    # Slotted dataclasses look their own module up while they are made.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True)
class Key:
    """Credentials of one caller. Functions hold a session token, as a role's credentials do."""

    access_key: str
    secret_key: str
    session_token: str | None


@dataclass(frozen=True, slots=True)
class Identity:
    """What a stack is told apart by; kept with ``--data``, so that signed URLs and tokens outlive a restart."""

    jwt_secret: str
    admin_token: str
    keys: Mapping[str, Key]


def new_key(temporary: bool) -> Key:
    letters = string.ascii_uppercase + "234567"
    identifier = "".join(secrets.choice(letters) for _ in range(16))
    token = base64.b64encode(secrets.token_bytes(96)).decode() if temporary else None
    return Key(("ASIA" if temporary else "AKIA") + identifier, secrets.token_urlsafe(30), token)


def load_identity(path: Path, callers: Iterable[str]) -> Identity:
    """The identity kept at ``path``, completed by keys for new callers, and written back (mode 0600)."""
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    keys = {name: Key(**fields) for name, fields in kept.get("keys", {}).items()}
    for name in callers:
        keys.setdefault(name, new_key(temporary=name != OPERATOR))
    identity = Identity(
        kept.get("jwt_secret") or secrets.token_urlsafe(32), kept.get("admin_token") or secrets.token_urlsafe(24), keys
    )
    write_private(
        path,
        {
            "jwt_secret": identity.jwt_secret,
            "admin_token": identity.admin_token,
            "keys": {
                name: {"access_key": k.access_key, "secret_key": k.secret_key, "session_token": k.session_token}
                for name, k in keys.items()
            },
        },
    )
    return identity


def write_private(path: Path, value: object) -> None:
    """JSON, readable by the owner alone, replaced atomically."""
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as out:
        json.dump(value, out)
    part.replace(path)


@dataclass(frozen=True, slots=True)
class Names:
    """The physical names of one local stack."""

    buckets: Mapping[str, str]
    table: str
    queue_urls: Mapping[str, str]
    bus: str = "default"

    def resolve(self, value: str) -> str:
        """An environment value with its ``{bucket:NAME}``, ``{table}``, ``{queue:NAME}`` and ``{bus}`` filled in."""

        def fill(found: re.Match[str]) -> str:
            kind, name = found.group(1), found.group(2)
            try:
                return {
                    "bucket": lambda: self.buckets[name],
                    "queue": lambda: self.queue_urls[name],
                    "table": lambda: self.table,
                    "bus": lambda: self.bus,
                }[kind]()
            except KeyError:
                raise PlanError(f"{value!r} names a {kind} that the topology has not") from None

        return _PLACEHOLDER.sub(fill, value)


def bucket_names(topology: Any, suffix: str = "") -> dict[str, str]:
    """Physical names; a ``suffix`` tells them from another stack's in an S3 that both use."""
    return {bucket.name: f"heavylift-{bucket.name}{suffix}" for bucket in topology.BUCKETS}


def bucket_suffix(identity: Identity) -> str:
    """The same for every run with one data folder, another for every other stack in the world."""
    return "-" + hashlib.sha256(identity.admin_token.encode()).hexdigest()[:12]


def rules(topology: Any, outer: Mapping[str, str]) -> tuple[Any, ...]:
    """The rules of a stack with these settings, by the topology's own tables: a test's may replace them."""
    return (*topology.RULES, *(topology.SCAN_RULES if _scanning(topology, outer) else ()))


def scanned(topology: Any, outer: Mapping[str, str], names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What a malware scanner looks at with these settings: prefixes, by a bucket's physical name."""
    made: dict[str, tuple[str, ...]] = {}
    for rule in topology.SCAN_RULES if _scanning(topology, outer) else ():
        made[names[rule.bucket]] = (*made.get(names[rule.bucket], ()), rule.prefix)
    return made


def _scanning(topology: Any, outer: Mapping[str, str]) -> bool:
    known = getattr(topology, "scanning", None)
    return known is not None and bool(known(outer))


def queue_names(topology: Any) -> dict[str, str]:
    """Physical names of the queues and, under ``<name>-dlq``, of their dead-letter queues."""
    return {name: f"heavylift-{name}" for queue in topology.QUEUES for name in (queue.name, f"{queue.name}-dlq")}


def callers(topology: Any) -> list[str]:
    return [OPERATOR, *(function.name for function in topology.FUNCTIONS)]


def s3_resource(resource: str, buckets: Mapping[str, str]) -> str | None:
    """``staging/in/*`` with the bucket's physical name; None when the resource is no bucket's."""
    bucket, slash, key = resource.partition("/")
    return None if bucket not in buckets else buckets[bucket] + slash + key


def s3_config(
    topology: Any,
    identity: Identity,
    data: Path,
    origins: Iterable[str],
    port: int,
    event_sink: str | None,
    access_log: Path | None,
    call_sink: str | None = None,
    scale: float = 1.0,
    signature_age_max_s: Callable[[Any, str], int] | None = None,
) -> dict[str, Any]:
    """What the S3 server is started with (see ``heavylift_local.s3.config``)."""
    names = bucket_names(topology)
    origins = list(origins)

    def cors(bucket: Any) -> list[dict[str, Any]]:
        if not bucket.cors_methods:
            return []
        return [
            {
                "AllowedOrigins": origins,
                "AllowedMethods": list(bucket.cors_methods),
                "AllowedHeaders": ["*"],
                "ExposeHeaders": list(bucket.cors_expose),
                "MaxAgeSeconds": 3000,
            }
        ]

    def lifecycle(bucket: Any) -> list[dict[str, Any]]:
        rules = [
            {"id": f"expire-{name}", "prefix": f"{name}/", "expire_days": days}
            for name, days in ((key_class.name, key_class.expire_days) for key_class in bucket.classes)
            if days is not None
        ]
        if bucket.abort_incomplete_days is not None:
            rules.append({"id": "abort-incomplete", "abort_incomplete_days": bucket.abort_incomplete_days})
        return rules

    def caller(name: str, allow: list[dict[str, list[str]]]) -> dict[str, Any]:
        key = identity.keys[name]
        return {
            "name": name,
            "access_key": key.access_key,
            "secret_key": key.secret_key,
            "session_token": key.session_token,
            "session_expires": None,
            "allow": allow,
        }

    everything = [{"actions": ["s3:*"], "resources": ["*"]}]
    age_max_s = signature_age_max_s or signature_age_max({})
    return {
        "port": port,
        "data": str(data),
        "region": REGION,
        "account": ACCOUNT,
        "admin_token": identity.admin_token,
        "domain": list(S3_DOMAINS),
        "time_scale": scale,
        "buckets": [
            {
                "name": names[bucket.name],
                "versioned": bucket.versioned,
                "cors": cors(bucket),
                "lifecycle": lifecycle(bucket),
                "policy": {"signature_age_max_s": age_max_s(topology, bucket.name)},
            }
            for bucket in topology.BUCKETS
        ],
        "callers": [
            caller(OPERATOR, everything),
            *(caller(function.name, _s3_allows(function, names)) for function in topology.FUNCTIONS),
        ],
        "event_sink": event_sink,
        "call_sink": call_sink,
        "access_log": str(access_log) if access_log else None,
        "fsync": False,
    }


def signature_age_max(outer: Mapping[str, str]) -> Callable[[Any, str], int]:
    """Under these settings, how old a signature may be when a bucket of a topology sees it, in seconds.

    A setting that is no number counts as none; the functions say so themselves.
    """
    text = outer.get("SIGNATURE_TTL_SECONDS", "")
    told = {"SIGNATURE_TTL_SECONDS": text} if text.isascii() and text.isdigit() else {}
    return lambda topology, bucket: int(topology.signature_age_max_s(bucket, told))


def _s3_allows(function: Any, buckets: Mapping[str, str]) -> list[dict[str, list[str]]]:
    allows = []
    for allow in function.allows:
        actions = [action for action in allow.actions if action.startswith("s3:")]
        resources = [name for r in allow.resources if (name := s3_resource(r, buckets)) is not None]
        if actions and resources:
            allows.append({"actions": actions, "resources": resources})
    return allows


def grants(function: Any, service: str) -> list[dict[str, list[str]]]:
    """The function's allows for ``dynamodb``, ``sqs`` or ``events``, in the topology's own resource names."""
    return [
        {"actions": actions, "resources": list(allow.resources)}
        for allow in function.allows
        if (actions := [action for action in allow.actions if action.startswith(f"{service}:")])
    ]


def tables_config(
    topology: Any,
    identity: Identity,
    data: Path,
    port: int,
    call_sink: str | None = None,
    time_scale: float = 1.0,
    region: str = REGION,
    own_ports: bool = False,
) -> dict[str, Any]:
    """What the table service is started with (see ``heavylift_local.tables``)."""
    table = topology.TABLE

    def of(name: str, granted: list[dict[str, list[str]]]) -> dict[str, Any]:
        return {"name": name, "access_key": identity.keys[name].access_key, "grants": granted}

    return {
        "port": port,
        "data": str(data),
        "region": region,
        "account": ACCOUNT,
        "admin_token": identity.admin_token,
        "call_sink": call_sink,
        "time_scale": time_scale,
        "own_ports": own_ports,
        "tables": [
            {
                "name": table.name,
                "partition_key": table.partition_key,
                "sort_key": table.sort_key,
                "ttl_attribute": table.ttl_attribute,
                "indexes": [
                    {"name": i.name, "partition_key": i.partition_key, "sort_key": i.sort_key} for i in table.indexes
                ],
            }
        ],
        "callers": [
            of(OPERATOR, [{"actions": ["*"], "resources": ["*"]}]),
            *(of(f.name, grants(f, "dynamodb")) for f in topology.FUNCTIONS),
        ],
    }


@dataclass(frozen=True, slots=True)
class Endpoints:
    s3: str
    dynamodb: str
    sqs: str
    events: str


def function_environment(
    topology: Any,
    function: Any,
    names: Names,
    key: Key,
    endpoints: Endpoints,
    outer: Mapping[str, str],
    temporary: Path,
    time_scale: float,
    runtime_packages: Path,
    task_root: Path,
    region: str = REGION,
) -> dict[str, str]:
    """A function's whole environment, built from nothing; ``outer`` is where a deployer's settings come from.

    What AWS Lambda sets is in "Defined runtime environment variables" of its developer guide. Beyond that,
    only AWS's own endpoint variables and TMPDIR say that this is not AWS.
    """
    environment = {
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        # Lambda names its X-Ray daemon's address; nothing of ours traces.
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
        "_HANDLER": "handler.handler",
        "LAMBDA_TASK_ROOT": str(task_root),
        "LAMBDA_RUNTIME_DIR": str(runtime_packages),
        "PYTHONPATH": str(runtime_packages),
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": key.access_key,
        "AWS_SECRET_ACCESS_KEY": key.secret_key,
        "AWS_ENDPOINT_URL_S3": endpoints.s3,
        "AWS_ENDPOINT_URL_DYNAMODB": endpoints.dynamodb,
        "AWS_ENDPOINT_URL_SQS": endpoints.sqs,
        # Named by the service's id; EVENTS would be nobody's, and calls would leave this machine.
        "AWS_ENDPOINT_URL_EVENTBRIDGE": endpoints.events,
        # This machine's own AWS configuration is none of a function's business. A path that cannot exist (below a file
        # that is no directory), not /dev/null: where that device was overwritten by a file, every call fails on it.
        "AWS_CONFIG_FILE": f"{__file__}/none",
        "AWS_SHARED_CREDENTIALS_FILE": f"{__file__}/none",
        "AWS_EC2_METADATA_DISABLED": "true",
        "POWERTOOLS_SERVICE_NAME": function.name,
        "POWERTOOLS_TRACE_DISABLED": "true",
        "TZ": ":UTC",
        "LANG": "en_US.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "TMPDIR": str(temporary),
        "HEAVYLIFT_TIME_SCALE": f"{time_scale:g}",
    }
    if key.session_token:
        environment["AWS_SESSION_TOKEN"] = key.session_token
    environment |= topology.LIBRARY_ENVIRONMENT
    for name, value in {**topology.ENVIRONMENT, **function.environment}.items():
        environment[name] = names.resolve(value)
    for name in topology.SETTINGS:
        if name in outer:
            environment[name] = outer[name]
    return environment


def time_scale(outer: Mapping[str, str]) -> float:
    """HEAVYLIFT_TIME_SCALE, at least 1; raises PlanError."""
    try:
        scale = float(outer.get("HEAVYLIFT_TIME_SCALE") or 1)
    except ValueError:
        scale = 0.0
    if not 1 <= scale <= 1_000_000:
        raise PlanError("HEAVYLIFT_TIME_SCALE is a number of at least 1")
    return scale


def visibility_seconds(visibility_s: int, scale: float) -> int:
    """A queue's visibility on the scaled clock; SQS counts whole seconds and a message must stay hidden for some."""
    return max(1, round(visibility_s / scale))


def children_max(function: Any) -> int:
    """How many children of a function run side by side here."""
    cap = 0
    if function.routes:
        cap = HTTP_CHILDREN_MAX
    if function.source is not None:
        cap = max(cap, min(QUEUE_CHILDREN_MAX, function.source.concurrency_max))
    cap = cap or 1
    return min(cap, function.concurrency_reserved) if function.concurrency_reserved else cap
