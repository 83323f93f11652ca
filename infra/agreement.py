"""Do the topology and the CloudFormation templates say the same? Two readings of the same facts, compared.

``described`` reads the topology and the stage, ``infra.observed.observed`` reads the templates alone. A fact is a
tuple in the topology's words, led by its kind: ``("expiry", "staging", "in/", 14)``. A resource of a type that nothing
reads is a fact of its own, so nothing comes in unseen. Pure, standard library only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from infra import alarms
from infra.config import Config
from infra.observed import BUS_NAME, Fact, Templates, as_set, frozen, observed
from infra.permissions import LOG, POLL, TRACE, key_actions

_DAY_S = 86_400
# Functions that serve the deployment and are none of the system's: their code is in infra/inline.
ACCESS_TOKEN, PAGE = "access-token", "page"

__all__ = ["Fact", "Templates", "described", "differences", "observed"]


def differences(topology: Any, templates: Templates, config: Config) -> list[str]:
    """One line for each fact that only one side knows; empty when they agree."""
    wanted, found = described(topology, config), observed(templates, config)
    missing = [f"not in the templates: {fact}" for fact in sorted((wanted - found).elements(), key=repr)]
    return missing + [f"not in the topology: {fact}" for fact in sorted((found - wanted).elements(), key=repr)]


def described(topology: Any, config: Config) -> Counter[Fact]:
    """Every fact of the topology, as a deployment with this configuration should show it."""
    facts: Counter[Fact] = Counter()
    for part in (_storage_facts, _queue_facts, _function_facts, _api_facts, _page_facts, _role_facts):
        facts.update(part(topology, config))
    facts.update(("alarm", one.name, one.threshold, len(one.metrics)) for one in alarms.alarms(config.deployment))
    return facts


def _rules(topology: Any, config: Config) -> tuple[Any, ...]:
    return (*topology.RULES, *(topology.SCAN_RULES if topology.scanning(config.settings) else ()))


def _bucket(config: Config, name: str) -> str:
    """A bucket as a template names it: by reference, or one that is there already by its name."""
    return config.existing.buckets.get(name) or f"{{bucket:{name}}}"


def _origins(config: Config) -> tuple[str, ...]:
    """The pages that the buckets let in."""
    own = (f"https://{config.page.domain or '{distribution}.DomainName'}",) if config.page.enabled else ()
    return as_set((*own, *config.origins))


def _storage_facts(topology: Any, config: Config) -> Iterator[Fact]:
    watched = {rule.bucket for rule in topology.RULES}
    protection = config.protection
    for bucket in topology.BUCKETS:
        if bucket.name in config.existing.buckets:
            continue  # its owner's: docs/deploying.md says what it must have
        yield "bucket", bucket.name, bucket.versioned, bucket.name in watched, "key" if protection.kms else "AES256"
        yield "bucket policy", bucket.name
        yield "signature age", bucket.name, config.signature_age_max_s(bucket.name) * 1000
        if bucket.abort_incomplete_days is not None:
            yield "abort incomplete", bucket.name, bucket.abort_incomplete_days
        if bucket.versioned and protection.old_versions_days:
            yield "old versions", bucket.name, protection.old_versions_days
        if bucket.versioned and protection.retention_days:
            yield "locked", bucket.name, "GOVERNANCE", protection.retention_days
        for one in bucket.classes:
            if one.expire_days is not None:
                yield "expiry", bucket.name, f"{one.name}/", one.expire_days
        if bucket.cors_methods and _origins(config):
            yield "cors", bucket.name, _origins(config), as_set(bucket.cors_methods), as_set(bucket.cors_expose)
    if topology.scanning(config.settings):
        for name in {rule.bucket for rule in topology.SCAN_RULES}:
            prefixes = as_set(rule.prefix for rule in topology.SCAN_RULES if rule.bucket == name)
            yield "scanned", name, prefixes, "ENABLED"
            yield "scanner's role", name
    if not config.existing.table:
        table = topology.TABLE
        yield "table", table.partition_key, table.sort_key, table.ttl_attribute, "key" if protection.kms else None
        for index in table.indexes:
            yield "index", index.name, index.partition_key, index.sort_key, "KEYS_ONLY"


def _queue_facts(topology: Any, config: Config) -> Iterator[Fact]:
    for queue in topology.QUEUES:
        dead, undelivered = f"{queue.name}-dlq", f"{queue.name}-delivery-dlq"
        rules = [rule for rule in _rules(topology, config) if rule.queue == queue.name]
        yield "queue", queue.name, queue.visibility_s, queue.retention_days * _DAY_S, dead, queue.receive_count_max
        yield "queue", dead, None, queue.dlq_retention_days * _DAY_S, None, None
        if rules:
            yield "queue", undelivered, None, queue.dlq_retention_days * _DAY_S, None, None
        for name in (queue.name, dead, *([undelivered] if rules else [])):
            yield "queue policy", name
        for rule in rules:
            pattern = frozen(rule.pattern(_bucket(config, rule.bucket)))
            yield "rule", rule.name, pattern, rule.queue, undelivered, rule.retries_max, rule.retry_hours * 3600
            for name in (queue.name, undelivered):
                yield "may send", f"rule:{rule.name}", name


def _function_facts(topology: Any, config: Config) -> Iterator[Fact]:
    for function in topology.FUNCTIONS:
        name = function.name
        log = f"/aws/lambda/{config.deployment}-{name}"
        yield (
            "function", name, function.memory_mb, function.timeout_s, function.ephemeral_mb, function.recursive_loop,
            function.concurrency_reserved, topology.RUNTIME, config.architecture, "handler.handler",
            "Active" if config.tracing else None,
        )  # fmt: skip
        yield "log group", log, config.log_retention_days
        yield "logs to", name, log
        for layer in (*function.layers, topology.SHARED_LAYER):
            yield "layer of", name, layer
        told = {"POWERTOOLS_SERVICE_NAME": name, **topology.LIBRARY_ENVIRONMENT, **topology.ENVIRONMENT}
        for variable, value in {**told, **function.environment, **config.settings}.items():
            for bucket, physical in config.existing.buckets.items():
                value = value.replace(f"{{bucket:{bucket}}}", physical)
            if config.existing.table:
                value = value.replace("{table}", config.existing.table)
            yield "variable", name, variable, value.replace("{bus}", BUS_NAME)
        for allow in function.allows:
            for action in allow.actions:
                for resource in allow.resources:
                    yield "allow", name, action, resource
        for action in LOG:
            yield "allow", name, action, f"log:{log}"
        for action in TRACE if config.tracing else ():
            yield "allow", name, action, "*"
        for action in key_actions(function.allows) if config.protection.kms else ():
            yield "allow", name, action, "key"
        if function.source:
            source = function.source
            yield (
                "source", name, source.queue, source.batch_size, source.batch_window_s, source.concurrency_max,
                ("ReportBatchItemFailures",),
            )  # fmt: skip
            for action in POLL:
                yield "allow", name, action, f"queue:{source.queue}"
        if function.schedule_minutes:
            yield "schedule", name, function.schedule_minutes
            yield "may invoke", f"schedule:{name}", name
    # Each stack that has functions has the layers of its functions.
    for group in (
        [one for one in topology.FUNCTIONS if one.routes],
        [one for one in topology.FUNCTIONS if one.source or one.schedule_minutes],
    ):
        for layer in {layer for one in group for layer in one.layers} | {topology.SHARED_LAYER}:
            yield "layer", layer, topology.RUNTIME, config.architecture


def _api_facts(topology: Any, config: Config) -> Iterator[Fact]:
    yield "api", config.deployment, "HTTP", config.protection.firewall
    yield "throttle", config.api.calls_per_second, config.api.calls_at_once
    if config.identity.made:
        clients = [f"{{client:{name}}}" for name in ([PAGE] if config.page.enabled else []) + ["operator"]]
        yield "jwt", "{users}.ProviderURL", as_set((*clients, *config.identity.audience))
    else:
        yield "jwt", config.identity.issuer, as_set(config.identity.audience)
    yield "log group", f"/aws/vendedlogs/{config.deployment}-api", config.log_retention_days
    if config.origins:
        yield (
            "api cors", as_set(config.origins), as_set(topology.API_CORS_METHODS), as_set(topology.API_CORS_HEADERS),
            as_set(topology.API_CORS_EXPOSE), topology.API_CORS_MAX_AGE_S,
        )  # fmt: skip
    for function in topology.FUNCTIONS:
        if function.routes:
            yield "integration", function.name, "AWS_PROXY", "2.0"
        for route in function.routes:
            authorizer = "NONE" if route.scope is None else "JWT"
            yield "route", function.name, route.method, route.path, authorizer, route.scope
            yield "may invoke", f"route:{route.method} {route.path}", function.name


def _page_facts(topology: Any, config: Config) -> Iterator[Fact]:
    """What the deployment has beside the topology: the page and who signs the tokens."""
    auxiliary = [*([ACCESS_TOKEN] if config.identity.made else []), *([PAGE] if config.page.enabled else [])]
    for name in auxiliary:
        yield "auxiliary", name
        yield "auxiliary role", name
        yield "log group", f"/aws/lambda/{config.deployment}-{name}", config.log_retention_days
    if config.identity.made:
        yield "may invoke", "cognito-idp.amazonaws.com", ACCESS_TOKEN
    if config.page.enabled:
        yield "bucket", PAGE, False, False, "AES256"
        yield "bucket policy", PAGE
        yield "read through the distribution", PAGE


def _role_facts(topology: Any, config: Config) -> Iterator[Fact]:
    """Roles of services that act for the deployment."""
    yield "role of", "states.amazonaws.com"
    if config.protection.backup:
        yield "role of", "backup.amazonaws.com"
