"""The facts that CloudFormation templates hold, in the topology's words. Pure, standard library only."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.config import Config
from infra.permissions import KEY_SERVICES

Templates = Mapping[str, Mapping[str, Any]]
Fact = tuple[object, ...]

_SEND = "sqs:SendMessage"
BUS_NAME = "default"  # the only one that S3 sends to; ours are on it too, so that one bus tells all
_BUS = f"arn:${{AWS::Partition}}:events:${{AWS::Region}}:${{AWS::AccountId}}:event-bus/{BUS_NAME}"
_TABLES = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/"
# Kinds whose every resource becomes facts below, and kinds that carry nothing of the topology's.
_READ = frozenset(
    {
        "AWS::ApiGatewayV2::Api",
        "AWS::ApiGatewayV2::Authorizer",
        "AWS::ApiGatewayV2::Integration",
        "AWS::ApiGatewayV2::Route",
        "AWS::ApiGatewayV2::Stage",
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
# What stands beside the topology: the snapshots in tests/infra/snapshots show every change of it.
PLAIN = frozenset(
    {
        "AWS::ApiGatewayV2::ApiMapping",
        "AWS::ApiGatewayV2::DomainName",
        "AWS::Backup::BackupPlan",
        "AWS::Backup::BackupSelection",
        "AWS::Backup::BackupVault",
        "AWS::Budgets::Budget",
        "AWS::CloudFront::Distribution",
        "AWS::CloudFront::OriginAccessControl",
        "AWS::CloudFront::ResponseHeadersPolicy",
        "AWS::CloudWatch::Dashboard",
        "AWS::Cognito::UserPool",
        "AWS::Cognito::UserPoolClient",
        "AWS::Cognito::UserPoolDomain",
        "AWS::Cognito::UserPoolGroup",
        "AWS::Cognito::UserPoolResourceServer",
        "AWS::EventSchemas::Registry",
        "AWS::EventSchemas::Schema",
        "AWS::KMS::Alias",
        "AWS::KMS::Key",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::SNS::Subscription",
        "AWS::SNS::Topic",
        "AWS::SNS::TopicPolicy",
        "AWS::StepFunctions::StateMachine",
        "AWS::WAFv2::WebACL",
        "Custom::HeavyliftPage",
    }
)
# Functions whose code is in infra/inline, and services that act for the deployment with roles of their own.
_AUXILIARY = frozenset({"access-token", "page"})
_SERVICES = frozenset({"states.amazonaws.com", "backup.amazonaws.com"})


@dataclass(slots=True)
class _Reader:
    """Turns intrinsic functions into the topology's words.

    A reference to a resource becomes ``{kind:name}`` for its name, URL or id and ``{kind:name}.arn`` for its ARN.
    """

    templates: Templates
    config: Config
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

    def here(self, arn: str) -> str:
        """An ARN with the account and region that the stage names, where it does."""
        partition = "aws" if self.config.region else ""  # of a region that it knows the library knows the partition
        told = {"Partition": partition, "AccountId": self.config.account, "Region": self.config.region}
        for word, value in told.items():
            arn = arn.replace(f"${{AWS::{word}}}", value or f"${{AWS::{word}}}")
        return arn

    def own(self, name: object) -> str:
        """A physical name without the deployment's prefix."""
        return str(name).removeprefix(f"{self.config.deployment}-")

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
            case "AWS::ApiGatewayV2::Api":
                return "api"
            case "AWS::CloudFront::Distribution":
                return "distribution"
            case "AWS::Cognito::UserPool":
                return "users"
            case "AWS::Cognito::UserPoolClient":
                return f"client:{told.get('ClientName')}"
            case "AWS::KMS::Key":
                return "key"
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


def observed(templates: Templates, config: Config, only: str | None = None) -> Counter[Fact]:
    """Every fact that the templates hold, or those of one stack.

    Of the stage only names are asked: its own and those of what it imports.
    """
    reader = _Reader(templates, config)
    roles = _role_owners(reader)
    facts: Counter[Fact] = Counter()
    for stack, logical_id, kind, raw in reader.resources():
        if only not in (None, stack):
            continue
        told = reader.text(stack, raw)
        word = reader.word(stack, logical_id)
        if kind in _READ:
            facts.update(_facts_of(reader, roles, kind, f"{stack}.{logical_id}", word, told))
        elif kind not in PLAIN:
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
            prefixes, tags = as_set(scanned.get("ObjectPrefixes", ())), told["Actions"]["Tagging"]["Status"]
            return [("scanned", _bare(scanned["BucketName"]), prefixes, tags)]
        case "AWS::Lambda::Function":
            return _function(name, told)
        case "AWS::Lambda::EventSourceMapping":
            return _source(told)
        case "AWS::IAM::Role":
            return _role(reader, f"{{?:{place}}}.arn", roles, told)
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
            return _alarm(reader, told)
        case "AWS::ApiGatewayV2::Stage":
            limits = told["DefaultRouteSettings"]
            return [("throttle", limits["ThrottlingRateLimit"], limits["ThrottlingBurstLimit"])]
        case "AWS::ApiGatewayV2::Api":
            return _api(told)
        case "AWS::ApiGatewayV2::Authorizer":
            jwt = told["JwtConfiguration"]
            return [(told["AuthorizerType"].lower(), jwt["Issuer"], as_set(jwt["Audience"]))]
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
    (encryption,) = told["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    by = encryption["ServerSideEncryptionByDefault"]
    key = _bare(by["KMSMasterKeyID"]) if by["SSEAlgorithm"] == "aws:kms" else by["SSEAlgorithm"]
    yield "bucket", name, told.get("VersioningConfiguration", {}).get("Status") == "Enabled", events, key
    lock = told.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention")
    if lock:
        yield "locked", name, lock["Mode"], lock.get("Days")
    for rule in told.get("LifecycleConfiguration", {}).get("Rules", ()):
        if rule["Status"] != "Enabled":
            continue
        if "AbortIncompleteMultipartUpload" in rule:
            whole = "" if "Prefix" not in rule else f" under {rule['Prefix']}"
            yield "abort incomplete" + whole, name, rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        if "ExpirationInDays" in rule:
            yield "expiry", name, rule.get("Prefix"), rule["ExpirationInDays"]
        if "NoncurrentVersionExpiration" in rule:
            yield "old versions", name, rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
        known = {"AbortIncompleteMultipartUpload", "ExpirationInDays", "NoncurrentVersionExpiration"}
        for other in sorted(set(rule) - known - {"Id", "Prefix", "Status"}):
            yield "lifecycle", name, other, repr(rule[other])
    for cors in told.get("CorsConfiguration", {}).get("CorsRules", ()):
        yield (
            "cors",
            name,
            as_set(cors["AllowedOrigins"]),
            as_set(cors["AllowedMethods"]),
            as_set(cors["ExposedHeaders"]),
        )


def _table(told: Mapping[str, Any]) -> Iterator[Fact]:
    def keys(schema: Iterable[Mapping[str, str]]) -> tuple[str | None, str | None]:
        by_type = {one["KeyType"]: one["AttributeName"] for one in schema}
        return by_type.get("HASH"), by_type.get("RANGE")

    ttl = told.get("TimeToLiveSpecification", {})
    key = told.get("SSESpecification", {}).get("KMSMasterKeyId")
    expires = ttl.get("AttributeName") if ttl.get("Enabled") else None
    yield "table", *keys(told["KeySchema"]), expires, _bare(key) if key else None
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
                "rule", name, frozen(told["EventPattern"]), _bare(target["Arn"]),
                _bare(target["DeadLetterConfig"]["Arn"]) if "DeadLetterConfig" in target else None,
                retry.get("MaximumRetryAttempts"), retry.get("MaximumEventAgeInSeconds"),
            )  # fmt: skip


def _function(name: str, told: Mapping[str, Any]) -> Iterator[Fact]:
    if name in _AUXILIARY:
        yield "auxiliary", name
        return
    yield (
        "function", name, told["MemorySize"], told["Timeout"], told.get("EphemeralStorage", {}).get("Size", 512),
        told.get("RecursiveLoop", "Terminate").lower(), told.get("ReservedConcurrentExecutions"), told["Runtime"],
        ",".join(told["Architectures"]), told["Handler"], told.get("TracingConfig", {}).get("Mode"),
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


def _role(reader: _Reader, arn: str, roles: Mapping[str, list[str]], told: Mapping[str, Any]) -> Iterator[Fact]:
    owners = roles.get(arn, [])
    principals = {
        one["Principal"].get("Service") for one in told["AssumeRolePolicyDocument"]["Statement"] if "Principal" in one
    }
    if not owners and principals == {_SCANNER}:
        yield from _scanners_role(reader, told)
        return
    if not owners and len(principals) == 1 and principals <= _SERVICES:
        yield "role of", *principals
        return
    if len(owners) != 1:
        yield "role of several or none", arn, tuple(owners)
    for managed in told.get("ManagedPolicyArns", ()):
        yield "managed policy", arn, str(managed)
    for owner in owners:
        if owner in _AUXILIARY:
            yield "auxiliary role", owner
            continue
        for policy in told.get("Policies", ()):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield from _statement(reader, owner, statement)


def _statement(reader: _Reader, owner: str, statement: Mapping[str, Any]) -> Iterator[Fact]:
    resources = [_resource(reader, str(one)) for one in _many(statement.get("Resource", ()))]
    # The key may be used through the services that hold our data, and only so.
    via = {"StringEquals": {"kms:ViaService": [f"{one}.${{AWS::Region}}.${{AWS::URLSuffix}}" for one in KEY_SERVICES]}}
    bound = resources == ["key"] and statement.get("Condition") == via
    known = {"Effect", "Action", "Resource", "Sid"} | ({"Condition"} if bound else set())
    if statement["Effect"] != "Allow" or set(statement) - known or ("key" in resources and not bound):
        yield "statement", owner, repr(statement)
    for action in _many(statement.get("Action", ())):
        for resource in resources:
            yield "allow", owner, action, resource


def _scanners_role(reader: _Reader, told: Mapping[str, Any]) -> Iterator[Fact]:
    """GuardDuty's own: it reads objects, writes tags and its test object, nothing else, and in one bucket."""
    statements = [one for policy in told["Policies"] for one in policy["PolicyDocument"]["Statement"]]
    touched = {str(resource) for one in statements for resource in _many(one["Resource"])}
    words = {_resource(reader, resource).partition("/")[0] for resource in touched if ":events:" not in resource}
    buckets = words - {"key"}
    for name in buckets:
        yield "scanner's role", name
    for one in statements:
        of_key = [_resource(reader, str(resource)) for resource in _many(one["Resource"])] == ["key"]
        known = {"kms:Decrypt", "kms:GenerateDataKey"} if of_key and one.get("Condition") else _SCANNER_ACTIONS
        for action in _many(one["Action"]):
            if one["Effect"] != "Allow" or action not in known:
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
            through = one.get("Condition", {}).get("StringEquals", {}).get("AWS:SourceArn", "")
            reads = one["Principal"] == {"Service": "cloudfront.amazonaws.com"} and _many(one["Action"]) == [
                "s3:GetObject"
            ]
            if reads and str(through).endswith(":distribution/{distribution}"):
                yield "read through the distribution", name
                continue
            plain = one["Principal"] == {"Service": "events.amazonaws.com"} and _many(one["Action"]) == [_SEND]
            yield ("may send", _inside(str(source)), name) if plain else (f"{kind} allows", name, repr(one))


def _alarm(reader: _Reader, told: Mapping[str, Any]) -> Iterator[Fact]:
    metrics = [one for one in told.get("Metrics", ()) if "MetricStat" in one]
    yield "alarm", reader.own(told["AlarmName"]), told["Threshold"], len(metrics) or 1
    if not told.get("AlarmActions"):
        yield "alarm that tells nobody", reader.own(told["AlarmName"])


def _permission(told: Mapping[str, Any]) -> Iterator[Fact]:
    function, source = _bare(told["FunctionName"]), str(told.get("SourceArn", "?"))
    if told["Principal"] == "apigateway.amazonaws.com":
        # .../<api>/<stage>/<method>/<path>, the stage being any
        found = re.fullmatch(r".+:\{api\}/\*/([A-Z]+)(/.+)", source)
        yield "may invoke", f"route:{found[1]} {found[2]}" if found else source, function
    elif told["Principal"] == "events.amazonaws.com":
        yield "may invoke", _inside(source), function
    else:
        yield "may invoke", str(told["Principal"]), function


def _api(told: Mapping[str, Any]) -> Iterator[Fact]:
    yield "api", told["Name"], told["ProtocolType"], told.get("DisableExecuteApiEndpoint", False)
    if "CorsConfiguration" in told:
        cors = told["CorsConfiguration"]
        yield (
            "api cors", as_set(cors["AllowOrigins"]), as_set(cors["AllowMethods"]), as_set(cors["AllowHeaders"]),
            as_set(cors["ExposeHeaders"]), cors["MaxAge"],
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


def _resource(reader: _Reader, arn: str) -> str:
    """An ARN in the words of an Allow."""
    if arn == reader.here(_BUS):
        return "bus"
    for name, physical in reader.config.existing.buckets.items():
        whole, found, rest = arn.partition(f":s3:::{physical}")
        if found and whole == reader.here("arn:${AWS::Partition}") and (not rest or rest.startswith("/")):
            return name + rest
    table = reader.here(f"{_TABLES}{reader.config.existing.table}")
    if reader.config.existing.table and (arn == table or arn.startswith(f"{table}/")):
        return "table" + arn.removeprefix(table)
    found = re.fullmatch(r"\{([^{}]+)\}\.arn(/.+)?", arn)
    return f"{found[1].removeprefix('bucket:')}{found[2] or ''}" if found else arn


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def as_set(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(values))


def frozen(value: Any) -> str:
    """JSON as a text, so that it can be an entry of a fact."""
    return json.dumps(value, sort_keys=True)
