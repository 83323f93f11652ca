"""Do the topology and the CloudFormation templates say the same? Two readings of the same facts, compared.

``described`` reads the topology, ``observed`` reads the templates alone. A fact is a tuple in the topology's words,
led by its kind: ``("expiry", "staging", "in/", 14)``. A resource of a type that nothing here reads is a fact of its
own, so nothing comes in unseen. Pure, standard library only.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.config import Config

Templates = Mapping[str, Mapping[str, Any]]
Fact = tuple[object, ...]

_POLL = ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage")
_LOG = ("logs:CreateLogStream", "logs:PutLogEvents")
_SEND = "sqs:SendMessage"
_BUS_NAME = "default"  # the only one that S3 sends to; ours are on it too, so that one bus tells all
_BUS = f"arn:${{AWS::Partition}}:events:${{AWS::Region}}:${{AWS::AccountId}}:event-bus/{_BUS_NAME}"
_DAY_S = 86_400
# Kinds whose every resource becomes facts below, and kinds that carry nothing of the topology's.
_READ = frozenset(
    {
        "AWS::ApiGatewayV2::Api",
        "AWS::ApiGatewayV2::Authorizer",
        "AWS::ApiGatewayV2::Integration",
        "AWS::ApiGatewayV2::Route",
        "AWS::CloudWatch::Alarm",
        "AWS::DynamoDB::Table",
        "AWS::Events::Rule",
        "AWS::GuardDuty::MalwareProtectionPlan",
        "AWS::IAM::Role",
        "AWS::Lambda::EventSourceMapping",
        "AWS::Lambda::Function",
        "AWS::Lambda::LayerVersion",
        "AWS::Lambda::Permission",
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
        "AWS::S3::BucketPolicy",
        "AWS::SQS::Queue",
        "AWS::SQS::QueuePolicy",
    }
)
_SCANNER = "malware-protection-plan.guardduty.amazonaws.com"
_SCANNER_ACTIONS = frozenset(
    {f"events:{verb}" for verb in ("PutRule", "DeleteRule", "PutTargets", "RemoveTargets", "DescribeRule")}
    | {"events:ListTargetsByRule", "s3:PutBucketNotification", "s3:GetBucketNotification", "s3:ListBucket"}
    | {"s3:PutObject", "s3:GetObject", "s3:GetObjectVersion"}
    | {f"s3:{verb}Object{of}Tagging" for verb in ("Put", "Get") for of in ("", "Version")}
)
_PLAIN = frozenset({"AWS::ApiGatewayV2::Stage", "AWS::Lambda::EventInvokeConfig"})


def differences(topology: Any, templates: Templates, config: Config) -> list[str]:
    """One line for each fact that only one side knows; empty when they agree."""
    wanted, found = described(topology, config), observed(templates, config.deployment)
    missing = [f"not in the templates: {fact}" for fact in sorted((wanted - found).elements(), key=repr)]
    return missing + [f"not in the topology: {fact}" for fact in sorted((found - wanted).elements(), key=repr)]


# --- the topology's side


def described(topology: Any, config: Config) -> Counter[Fact]:
    """Every fact of the topology, as a deployment with this configuration should show it."""
    facts: Counter[Fact] = Counter()
    for part in (_storage_facts, _queue_facts, _function_facts, _api_facts):
        facts.update(part(topology, config))
    return facts


def _rules(topology: Any, config: Config) -> tuple[Any, ...]:
    return (*topology.RULES, *(topology.SCAN_RULES if topology.scanning(config.settings) else ()))


def _storage_facts(topology: Any, config: Config) -> Iterator[Fact]:
    watched = {rule.bucket for rule in topology.RULES}
    for bucket in topology.BUCKETS:
        yield "bucket", bucket.name, bucket.versioned, bucket.name in watched
        yield "bucket policy", bucket.name
        yield "signature age", bucket.name, config.signature_age_max_s(bucket.name) * 1000
        if bucket.abort_incomplete_days is not None:
            yield "abort incomplete", bucket.name, bucket.abort_incomplete_days
        for one in bucket.classes:
            if one.expire_days is not None:
                yield "expiry", bucket.name, f"{one.name}/", one.expire_days
        if bucket.cors_methods and config.origins:
            yield "cors", bucket.name, _set(config.origins), _set(bucket.cors_methods), _set(bucket.cors_expose)
    if topology.scanning(config.settings):
        for name in {rule.bucket for rule in topology.SCAN_RULES}:
            yield "scanned", name, _set(rule.prefix for rule in topology.SCAN_RULES if rule.bucket == name), "ENABLED"
            yield "scanner's role", name
    table = topology.TABLE
    yield "table", table.partition_key, table.sort_key, table.ttl_attribute
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
            if name != queue.name:
                yield "alarm", name
        for rule in rules:
            pattern = _frozen(rule.pattern(f"{{bucket:{rule.bucket}}}"))
            yield "rule", rule.name, pattern, rule.queue, undelivered, rule.retries_max, rule.retry_hours * 3600
            for name in (queue.name, undelivered):
                yield "may send", f"rule:{rule.name}", name


def _function_facts(topology: Any, config: Config) -> Iterator[Fact]:
    for function in topology.FUNCTIONS:
        name = function.name
        yield (
            "function", name, function.memory_mb, function.timeout_s, function.ephemeral_mb, function.recursive_loop,
            function.concurrency_reserved, topology.RUNTIME, topology.ARCHITECTURE, "handler.handler",
        )  # fmt: skip
        yield "log group", f"/aws/lambda/{config.deployment}-{name}", config.log_retention_days
        yield "logs to", name, f"/aws/lambda/{config.deployment}-{name}"
        for layer in (*function.layers, topology.SHARED_LAYER):
            yield "layer of", name, layer
        told = {"POWERTOOLS_SERVICE_NAME": name, **topology.LIBRARY_ENVIRONMENT, **topology.ENVIRONMENT}
        for variable, value in {**told, **function.environment, **config.settings}.items():
            yield "variable", name, variable, value.replace("{bus}", _BUS_NAME)
        for allow in function.allows:
            for action in allow.actions:
                for resource in allow.resources:
                    yield "allow", name, action, resource
        for action in _LOG:
            yield "allow", name, action, f"log:/aws/lambda/{config.deployment}-{name}"
        if function.source:
            source = function.source
            yield (
                "source", name, source.queue, source.batch_size, source.batch_window_s, source.concurrency_max,
                ("ReportBatchItemFailures",),
            )  # fmt: skip
            for action in _POLL:
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
            yield "layer", layer, topology.RUNTIME, topology.ARCHITECTURE


def _api_facts(topology: Any, config: Config) -> Iterator[Fact]:
    yield "api", config.deployment, "HTTP"
    yield "jwt", config.jwt_issuer, _set(config.jwt_audience)
    yield "log group", f"/aws/vendedlogs/{config.deployment}-api", config.log_retention_days
    if config.origins:
        yield (
            "api cors", _set(config.origins), _set(topology.API_CORS_METHODS), _set(topology.API_CORS_HEADERS),
            _set(topology.API_CORS_EXPOSE), topology.API_CORS_MAX_AGE_S,
        )  # fmt: skip
    for function in topology.FUNCTIONS:
        if function.routes:
            yield "integration", function.name, "AWS_PROXY", "2.0"
        for route in function.routes:
            authorizer = "NONE" if route.scope is None else "JWT"
            yield "route", function.name, route.method, route.path, authorizer, route.scope
            yield "may invoke", f"route:{route.path}", function.name


# --- the templates' side


@dataclass(slots=True)
class _Reader:
    """Turns intrinsic functions into the topology's words.

    A reference to a resource becomes ``{kind:name}`` for its name, URL or id and ``{kind:name}.arn`` for its ARN.
    """

    templates: Templates
    deployment: str
    exports: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for stack, template in self.templates.items():
            for output in template.get("Outputs", {}).values():
                if "Export" in output:
                    self.exports[output["Export"]["Name"]] = (stack, output["Value"])

    def resources(self) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
        """(stack, logical id, type, properties) of every resource."""
        for stack, template in self.templates.items():
            for logical_id, resource in template["Resources"].items():
                yield stack, logical_id, resource["Type"], resource.get("Properties", {})

    def own(self, name: object) -> str:
        """A physical name without the deployment's prefix."""
        return str(name).removeprefix(f"{self.deployment}-")

    def word(self, stack: str, logical_id: str) -> str:
        """``kind:name`` of a resource; ``?:stack.logical_id`` for one that has no place in the topology."""
        resource = self.templates[stack]["Resources"].get(logical_id)
        if resource is None:
            return f"?:{stack}.{logical_id}"
        told = resource.get("Properties", {})
        match resource["Type"]:
            case "AWS::S3::Bucket":
                return (
                    f"bucket:{next((t['Value'] for t in told.get('Tags', ()) if t['Key'] == 'heavylift:bucket'), '?')}"
                )
            case "AWS::DynamoDB::Table":
                return "table"
            case "AWS::SQS::Queue":
                return f"queue:{self.own(told.get('QueueName'))}"
            case "AWS::Lambda::Function":
                return f"function:{self.own(told.get('FunctionName'))}"
            case "AWS::Lambda::LayerVersion":
                return f"layer:{self.own(told.get('LayerName'))}"
            case "AWS::Events::Rule":
                return f"{'schedule' if 'ScheduleExpression' in told else 'rule'}:{self.own(told.get('Name'))}"
            case "AWS::Logs::LogGroup":
                return f"log:{told.get('LogGroupName')}"
        return f"?:{stack}.{logical_id}"

    def text(self, stack: str, value: Any) -> Any:
        """A value with its intrinsic functions resolved; lists and objects all through."""
        if isinstance(value, list):
            return [self.text(stack, one) for one in value]
        if not isinstance(value, Mapping):
            return value
        if len(value) == 1:
            ((key, told),) = value.items()
            if key == "Ref":
                # A layer version, and only that, gives its ARN by Ref.
                word = self.word(stack, told)
                arn = word.startswith("layer:")
                return f"${{{told}}}" if told.startswith("AWS::") else f"{{{word}}}{'.arn' if arn else ''}"
            if key == "Fn::GetAtt":
                logical_id, attribute = told if isinstance(told, list) else told.split(".", 1)
                suffix = {"Arn": ".arn", "QueueName": ""}.get(attribute, f".{attribute}")
                return f"{{{self.word(stack, logical_id)}}}{suffix}"
            if key == "Fn::ImportValue":
                return self.text(*self.exports[told]) if told in self.exports else f"?import {told}"
            if key == "Fn::Join":
                return told[0].join(str(self.text(stack, one)) for one in told[1])
        return {key: self.text(stack, one) for key, one in value.items()}


def observed(templates: Templates, deployment: str) -> Counter[Fact]:
    """Every fact that the templates hold."""
    reader = _Reader(templates, deployment)
    roles = _role_owners(reader)
    facts: Counter[Fact] = Counter()
    for stack, logical_id, kind, raw in reader.resources():
        told = reader.text(stack, raw)
        word = reader.word(stack, logical_id)
        if kind in _READ:
            facts.update(_facts_of(reader, roles, kind, f"{stack}.{logical_id}", word, told))
        elif kind not in _PLAIN:
            facts["resource of unknown kind", kind, f"{stack}.{logical_id}"] += 1
    return facts


def _role_owners(reader: _Reader) -> dict[str, list[str]]:
    """The functions that run under each role."""
    owners: dict[str, list[str]] = {}
    for stack, logical_id, kind, raw in reader.resources():
        if kind == "AWS::Lambda::Function":
            role = str(reader.text(stack, raw["Role"]))
            owners.setdefault(role, []).append(reader.word(stack, logical_id).removeprefix("function:"))
    return owners


def _facts_of(
    reader: _Reader, roles: Mapping[str, list[str]], kind: str, place: str, word: str, told: Mapping[str, Any]
) -> Iterable[Fact]:
    name = word.partition(":")[2]
    match kind:
        case "AWS::S3::Bucket":
            return _bucket(name, told)
        case "AWS::DynamoDB::Table":
            return _table(told)
        case "AWS::SQS::Queue":
            return _queue(name, told)
        case "AWS::Events::Rule":
            return _rule(name, told)
        case "AWS::GuardDuty::MalwareProtectionPlan":
            scanned = told["ProtectedResource"]["S3Bucket"]
            prefixes, tags = _set(scanned.get("ObjectPrefixes", ())), told["Actions"]["Tagging"]["Status"]
            return [("scanned", _bare(scanned["BucketName"]), prefixes, tags)]
        case "AWS::Lambda::Function":
            return _function(name, told)
        case "AWS::Lambda::EventSourceMapping":
            return _source(told)
        case "AWS::IAM::Role":
            return _role(f"{{?:{place}}}.arn", roles, told)
        case "AWS::S3::BucketPolicy":
            return _policy("bucket policy", [_bare(told["Bucket"])], told)
        case "AWS::SQS::QueuePolicy":
            return _policy("queue policy", [_bare(one) for one in told["Queues"]], told)
        case "AWS::Lambda::LayerVersion":
            runtimes, architectures = told["CompatibleRuntimes"], told["CompatibleArchitectures"]
            return [("layer", name, ",".join(runtimes), ",".join(architectures))]
        case "AWS::Lambda::Permission":
            return _permission(told)
        case "AWS::Logs::LogGroup":
            return [("log group", name, told.get("RetentionInDays"))]
        case "AWS::CloudWatch::Alarm":
            return [("alarm", _bare(one["Value"])) for one in told["Dimensions"]]
        case "AWS::ApiGatewayV2::Api":
            return _api(told)
        case "AWS::ApiGatewayV2::Authorizer":
            jwt = told["JwtConfiguration"]
            return [(told["AuthorizerType"].lower(), jwt["Issuer"], _set(jwt["Audience"]))]
        case "AWS::ApiGatewayV2::Integration":
            function = _bare(told["IntegrationUri"])
            return [("integration", function, told["IntegrationType"], told["PayloadFormatVersion"])]
        case "AWS::ApiGatewayV2::Route":
            return [_route(reader, told)]
    raise AssertionError(kind)


def _bucket(name: str, told: Mapping[str, Any]) -> Iterator[Fact]:
    events = (
        told.get("NotificationConfiguration", {}).get("EventBridgeConfiguration", {}).get("EventBridgeEnabled", False)
    )
    yield "bucket", name, told.get("VersioningConfiguration", {}).get("Status") == "Enabled", events
    for rule in told.get("LifecycleConfiguration", {}).get("Rules", ()):
        if rule["Status"] != "Enabled":
            continue
        if "AbortIncompleteMultipartUpload" in rule:
            whole = "" if "Prefix" not in rule else f" under {rule['Prefix']}"
            yield "abort incomplete" + whole, name, rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        if "ExpirationInDays" in rule:
            yield "expiry", name, rule.get("Prefix"), rule["ExpirationInDays"]
        for other in sorted(
            set(rule) - {"AbortIncompleteMultipartUpload", "ExpirationInDays", "Id", "Prefix", "Status"}
        ):
            yield "lifecycle", name, other, repr(rule[other])
    for cors in told.get("CorsConfiguration", {}).get("CorsRules", ()):
        yield "cors", name, _set(cors["AllowedOrigins"]), _set(cors["AllowedMethods"]), _set(cors["ExposedHeaders"])


def _table(told: Mapping[str, Any]) -> Iterator[Fact]:
    def keys(schema: Iterable[Mapping[str, str]]) -> tuple[str | None, str | None]:
        by_type = {one["KeyType"]: one["AttributeName"] for one in schema}
        return by_type.get("HASH"), by_type.get("RANGE")

    ttl = told.get("TimeToLiveSpecification", {})
    yield "table", *keys(told["KeySchema"]), ttl.get("AttributeName") if ttl.get("Enabled") else None
    for index in told.get("GlobalSecondaryIndexes", ()):
        yield "index", index["IndexName"], *keys(index["KeySchema"]), index["Projection"]["ProjectionType"]


def _queue(name: str, told: Mapping[str, Any]) -> Iterator[Fact]:
    redrive = told.get("RedrivePolicy", {})
    dead = _bare(redrive["deadLetterTargetArn"]) if redrive else None
    retention = told.get("MessageRetentionPeriod")
    yield "queue", name, told.get("VisibilityTimeout"), retention, dead, redrive.get("maxReceiveCount")


def _rule(name: str, told: Mapping[str, Any]) -> Iterator[Fact]:
    if told["State"] != "ENABLED":
        return
    for target in told["Targets"]:
        retry = target.get("RetryPolicy", {})
        if "ScheduleExpression" in told:
            found = re.fullmatch(r"rate\((\d+) minutes?\)", told["ScheduleExpression"])
            yield "schedule", _bare(target["Arn"]), int(found[1]) if found else told["ScheduleExpression"]
            if name != _bare(target["Arn"]):
                yield "schedule's name", name
        else:
            yield (
                "rule", name, _frozen(told["EventPattern"]), _bare(target["Arn"]),
                _bare(target["DeadLetterConfig"]["Arn"]) if "DeadLetterConfig" in target else None,
                retry.get("MaximumRetryAttempts"), retry.get("MaximumEventAgeInSeconds"),
            )  # fmt: skip


def _function(name: str, told: Mapping[str, Any]) -> Iterator[Fact]:
    yield (
        "function", name, told["MemorySize"], told["Timeout"], told.get("EphemeralStorage", {}).get("Size", 512),
        told.get("RecursiveLoop", "Terminate").lower(), told.get("ReservedConcurrentExecutions"), told["Runtime"],
        ",".join(told["Architectures"]), told["Handler"],
    )  # fmt: skip
    yield "logs to", name, _bare(told["LoggingConfig"]["LogGroup"])
    for layer in told.get("Layers", ()):
        yield "layer of", name, _bare(layer)
    for variable, value in told.get("Environment", {}).get("Variables", {}).items():
        yield "variable", name, variable, value


def _source(told: Mapping[str, Any]) -> Iterator[Fact]:
    yield (
        "source", _bare(told["FunctionName"]), _bare(told["EventSourceArn"]), told.get("BatchSize"),
        told.get("MaximumBatchingWindowInSeconds"), told.get("ScalingConfig", {}).get("MaximumConcurrency"),
        tuple(told.get("FunctionResponseTypes", ())),
    )  # fmt: skip


def _role(arn: str, roles: Mapping[str, list[str]], told: Mapping[str, Any]) -> Iterator[Fact]:
    owners = roles.get(arn, [])
    if not owners and _SCANNER in repr(told.get("AssumeRolePolicyDocument")):
        yield from _scanners_role(told)
        return
    if len(owners) != 1:
        yield "role of several or none", arn, tuple(owners)
    for managed in told.get("ManagedPolicyArns", ()):
        yield "managed policy", arn, str(managed)
    for owner in owners:
        for policy in told.get("Policies", ()):
            for statement in policy["PolicyDocument"]["Statement"]:
                if statement["Effect"] != "Allow" or set(statement) - {"Effect", "Action", "Resource", "Sid"}:
                    yield "statement", owner, repr(statement)
                for action in _many(statement.get("Action", ())):
                    for resource in _many(statement.get("Resource", ())):
                        yield "allow", owner, action, _resource(str(resource))


def _scanners_role(told: Mapping[str, Any]) -> Iterator[Fact]:
    """GuardDuty's own: it reads objects, writes tags and its test object, nothing else, and in one bucket."""
    statements = [one for policy in told["Policies"] for one in policy["PolicyDocument"]["Statement"]]
    touched = {str(resource) for one in statements for resource in _many(one["Resource"])}
    buckets = {_resource(resource).partition("/")[0] for resource in touched if ":events:" not in resource}
    for name in buckets:
        yield "scanner's role", name
    for one in statements:
        for action in _many(one["Action"]):
            if one["Effect"] != "Allow" or action not in _SCANNER_ACTIONS:
                yield "scanner may", action


def _policy(kind: str, names: Iterable[str], told: Mapping[str, Any]) -> Iterator[Fact]:
    """A resource policy: without a refusal of plain HTTP it does not count; whom it lets in is a fact each."""
    statements = told["PolicyDocument"]["Statement"]
    tls = {"Bool": {"aws:SecureTransport": "false"}}
    refuses = any(one["Effect"] == "Deny" and one.get("Condition") == tls for one in statements)
    for name in names:
        yield (kind, name) if refuses else (f"{kind} without TLS", name)
        for one in statements:
            if one["Effect"] != "Allow":
                age = one.get("Condition", {}).get("NumericGreaterThan", {}).get("s3:signatureAge")
                if age is not None:
                    yield "signature age", name, age
                continue
            source = one.get("Condition", {}).get("ArnEquals", {}).get("aws:SourceArn", "?")
            plain = one["Principal"] == {"Service": "events.amazonaws.com"} and _many(one["Action"]) == [_SEND]
            yield ("may send", _inside(str(source)), name) if plain else (f"{kind} allows", name, repr(one))


def _permission(told: Mapping[str, Any]) -> Iterator[Fact]:
    function, source = _bare(told["FunctionName"]), str(told.get("SourceArn", "?"))
    if told["Principal"] == "apigateway.amazonaws.com":
        # .../<api>/<stage>/<method>/<path>, stage and method being any
        _, found, path = source.partition("/*/*/")
        yield "may invoke", f"route:/{path}" if found else source, function
    elif told["Principal"] == "events.amazonaws.com":
        yield "may invoke", _inside(source), function
    else:
        yield "may invoke", str(told["Principal"]), function


def _api(told: Mapping[str, Any]) -> Iterator[Fact]:
    yield "api", told["Name"], told["ProtocolType"]
    if "CorsConfiguration" in told:
        cors = told["CorsConfiguration"]
        yield (
            "api cors", _set(cors["AllowOrigins"]), _set(cors["AllowMethods"]), _set(cors["AllowHeaders"]),
            _set(cors["ExposeHeaders"]), cors["MaxAge"],
        )  # fmt: skip


def _route(reader: _Reader, told: Mapping[str, Any]) -> Fact:
    method, _, path = told["RouteKey"].partition(" ")
    found = re.fullmatch(r"integrations/\{\?:(.+)\.([^.]+)\}", str(told["Target"]))
    function: str | None = None
    if found:
        stack, logical_id = found.groups()
        integration = reader.templates[stack]["Resources"].get(logical_id, {}).get("Properties", {})
        function = _bare(reader.text(stack, integration.get("IntegrationUri")))
    scopes = told.get("AuthorizationScopes", ())
    scope = ",".join(scopes) or None
    authorizer = told.get("AuthorizationType", "NONE")
    if (authorizer == "JWT") != ("AuthorizerId" in told):
        authorizer += " (authorizer missing or unexpected)"
    return "route", function, method, path, authorizer, scope


# --- small words


def _inside(text: str) -> str:
    """``kind:name`` of ``{kind:name}.arn``; other text as it is."""
    found = re.fullmatch(r"\{([^{}]+)\}(?:\.arn)?", text)
    return found[1] if found else text


def _bare(text: object) -> str:
    """``name`` of ``{kind:name}`` or ``{kind:name}.arn``; other text as it is."""
    word = _inside(str(text))
    return word.partition(":")[2] if ":" in word and not word.startswith("?") else word


def _resource(arn: str) -> str:
    """An ARN in the words of an Allow."""
    if arn == _BUS:
        return "bus"
    found = re.fullmatch(r"\{([^{}]+)\}\.arn(/.+)?", arn)
    return f"{found[1].removeprefix('bucket:')}{found[2] or ''}" if found else arn


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _set(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(values))


def _frozen(value: Any) -> str:
    """JSON as a text, so that it can be an entry of a fact."""
    return json.dumps(value, sort_keys=True)
