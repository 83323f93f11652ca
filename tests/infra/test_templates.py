"""The CloudFormation templates say what the topology says, and nothing else."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.events.models import EventPattern

from heavylift import keys
from heavylift_local import plan
from heavylift_local.gateway.server import Gateway
from infra import topology
from infra.agreement import differences, observed
from infra.app import read_context
from infra.config import Config, read_config
from tests.infra.conftest import ROOT, Assembly, synthesise

# Node runs once or twice at a time, not once a worker. Its first start on a machine unpacks the CDK library: a minute.
pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.timeout(600)]

CONFIG = read_config({k: v for k, v in read_context(ROOT / "cdk.json").items() if k.startswith("heavylift:")})
STACKS = ("heavylift-storage", "heavylift-processing", "heavylift-api", "heavylift-observability")


def resources(assembly: Assembly, kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(stack, logical id, resource) of one CloudFormation type."""
    for stack, template in assembly.templates.items():
        for logical_id, resource in template["Resources"].items():
            if resource["Type"] == kind:
                yield stack, logical_id, resource


def policies(assembly: Assembly) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind of policy, statement) of every policy document in the templates."""
    for template in assembly.templates.values():
        for resource in template["Resources"].values():
            told = resource.get("Properties", {})
            documents = [told.get("PolicyDocument"), *(one["PolicyDocument"] for one in told.get("Policies", ()))]
            for document in filter(None, documents):
                for statement in document["Statement"]:
                    yield resource["Type"], statement


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# --- both sides agree, and would not if either changed


def test_topology_and_templates_agree(assembly: Assembly) -> None:
    """Not one fact that only one side knows."""
    assert differences(topology, assembly.templates, CONFIG) == []
    assert set(assembly.templates) == set(STACKS)


@pytest.mark.parametrize(
    "kind",
    ["route", "rule", "queue", "variable", "allow", "bucket", "expiry", "index", "layer of", "source", "schedule"],
)
def test_the_templates_are_really_read(assembly: Assembly, kind: str) -> None:
    """Each kind is found in the templates, as often as the topology has it."""
    functions = topology.FUNCTIONS
    shared = {**topology.ENVIRONMENT, **topology.LIBRARY_ENVIRONMENT, "POWERTOOLS_SERVICE_NAME": ""}
    wanted = {
        "route": sum(len(function.routes) for function in functions),
        "rule": len(topology.RULES),
        "queue": 2 * len(topology.QUEUES) + len({rule.queue for rule in topology.RULES}),
        "variable": sum(len({**shared, **function.environment}) for function in functions),
        "allow": sum(
            sum(len(one.actions) * len(one.resources) for one in function.allows) + 2 + (3 if function.source else 0)
            for function in functions
        ),
        "bucket": len(topology.BUCKETS),
        "expiry": sum(one.expire_days is not None for bucket in topology.BUCKETS for one in bucket.classes),
        "index": len(topology.TABLE.indexes),
        "layer of": sum(len(function.layers) + 1 for function in functions),
        "source": sum(function.source is not None for function in functions),
        "schedule": sum(function.schedule_minutes is not None for function in functions),
    }
    found = observed(assembly.templates, CONFIG.deployment)

    assert sum(count for fact, count in found.items() if fact[0] == kind) == wanted[kind] > 0


# Kinds whose resources say nothing that the topology says.
SAYS_NOTHING = {"AWS::ApiGatewayV2::Stage", "AWS::Lambda::EventInvokeConfig"}


def test_nothing_can_leave_a_template_unseen(assembly: Assembly) -> None:
    """Without any one resource the comparison fails, be it a route, a rule, a queue or a policy."""
    tried = 0
    for stack, template in assembly.templates.items():
        for logical_id, resource in template["Resources"].items():
            if resource["Type"] in SAYS_NOTHING:
                continue
            rest = {key: value for key, value in template["Resources"].items() if key != logical_id}
            altered = {**assembly.templates, stack: {**template, "Resources": rest}}
            assert differences(topology, altered, CONFIG), (stack, logical_id)
            tried += 1
    assert tried > 50


def _without_each(value: Any, path: tuple[object, ...] = ()) -> Iterator[tuple[tuple[object, ...], Any]]:
    """(path, value) of every entry of every object and list in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key), inner
        yield from _without_each(inner, (*path, key))


def _removed(templates: Mapping[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    altered = copy.deepcopy(dict(templates))
    place: Any = altered
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return altered


def test_no_variable_statement_layer_or_index_can_leave_unseen(assembly: Assembly) -> None:
    """The entries inside resources: each variable, action, layer, index, lifecycle rule and target."""
    looked_at = {"Variables", "Layers", "GlobalSecondaryIndexes", "Rules", "Targets", "Statement", "CorsRules"}
    tried = 0
    for stack, template in assembly.templates.items():
        for path, _ in _without_each({"Resources": template["Resources"]}):
            if len(path) < 2 or path[-2] not in looked_at or "OwnershipControls" in path:
                continue
            # The refusal of old TLS stands beside the refusal of none, and has a test of its own.
            if "BucketPolicy" in str(template["Resources"][path[1]]["Type"]) and path[-1] == 1:
                continue
            if template["Resources"][path[1]]["Properties"].get("AssumeRolePolicyDocument") and "Policies" not in path:
                continue
            assert differences(topology, _removed(assembly.templates, (stack, *path)), CONFIG), (stack, path)
            tried += 1
    assert tried > 60


def _altered_topologies() -> Iterator[tuple[str, SimpleNamespace]]:
    """The topology without one thing, for each of its things."""
    names = {name: value for name, value in vars(topology).items() if not name.startswith("__")}
    alter = partial(_changed, names)

    for attribute in ("BUCKETS", "QUEUES", "RULES", "FUNCTIONS"):
        whole = names[attribute]
        for index, one in enumerate(whole):
            rest = (*whole[:index], *whole[index + 1 :])
            yield f"no {attribute} {one.name}", alter(**{attribute: rest})
    for name in topology.ENVIRONMENT:
        yield f"no {name}", alter(ENVIRONMENT={k: v for k, v in topology.ENVIRONMENT.items() if k != name})
    for index, function in enumerate(topology.FUNCTIONS):
        around = topology.FUNCTIONS[:index], topology.FUNCTIONS[index + 1 :]
        for attribute in ("routes", "allows", "layers"):
            had = getattr(function, attribute)
            for at, one in enumerate(had):
                less = replace(function, **{attribute: (*had[:at], *had[at + 1 :])})
                yield f"{function.name} without {one}", alter(FUNCTIONS=(*around[0], less, *around[1]))
        more = replace(function, environment={"EXTRA": "1"})
        yield f"{function.name} with a variable", alter(FUNCTIONS=(*around[0], more, *around[1]))
        more = replace(function, memory_mb=function.memory_mb + 1)
        yield f"{function.name} with memory", alter(FUNCTIONS=(*around[0], more, *around[1]))
    for index, bucket in enumerate(topology.BUCKETS):
        for at, one in enumerate(bucket.classes):
            if one.expire_days is not None:
                less = replace(bucket, classes=(*bucket.classes[:at], *bucket.classes[at + 1 :]))
                buckets = (*topology.BUCKETS[:index], less, *topology.BUCKETS[index + 1 :])
                yield f"{bucket.name} without {one.name}", alter(BUCKETS=buckets)
    for at, index_ in enumerate(topology.TABLE.indexes):
        rest = (*topology.TABLE.indexes[:at], *topology.TABLE.indexes[at + 1 :])
        yield f"no index {index_.name}", alter(TABLE=replace(topology.TABLE, indexes=rest))


def _changed(names: Mapping[str, Any], **changes: Any) -> SimpleNamespace:
    return SimpleNamespace(**{**names, **changes})


def test_nothing_can_leave_the_topology_unseen(assembly: Assembly) -> None:
    """Without any one route, rule, queue, variable, permission, layer, lifecycle or index the comparison fails."""
    tried = [what for what, altered in _altered_topologies() if differences(altered, assembly.templates, CONFIG)]

    assert tried == [what for what, _ in _altered_topologies()]
    assert len(tried) > 60


def test_what_is_new_in_a_template_is_seen(assembly: Assembly) -> None:
    """A resource of a kind that nobody knows, a second role, a custom resource: each is a difference."""
    for kind in ("Custom::S3BucketNotifications", "AWS::CloudFormation::CustomResource", "AWS::SNS::Topic"):
        altered = copy.deepcopy(dict(assembly.templates))
        altered["heavylift-storage"]["Resources"]["New"] = {"Type": kind, "Properties": {}}
        assert any(kind in line for line in differences(topology, altered, CONFIG))
    altered = copy.deepcopy(dict(assembly.templates))
    (_, logical_id, role), *_ = resources(assembly, "AWS::IAM::Role")
    for template in altered.values():
        if logical_id in template["Resources"]:
            template["Resources"]["Second"] = copy.deepcopy(role)
    assert any("role of several or none" in line for line in differences(topology, altered, CONFIG))


def test_a_wider_statement_is_seen(assembly: Assembly) -> None:
    """An action or a resource more than the topology allows, a wildcard, a negation."""
    for change in (
        {"Action": "s3:*"},
        {"Resource": "*"},
        {"Action": ["s3:GetObject", "s3:DeleteBucket"]},
        {"Condition": {}},
    ):
        altered = copy.deepcopy(dict(assembly.templates))
        role = next(
            one
            for one in altered["heavylift-api"]["Resources"].values()
            if one["Type"] == "AWS::IAM::Role" and "sign" in one["Properties"]["Description"]
        )
        role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"][0].update(change)
        assert differences(topology, altered, CONFIG), change


def test_a_route_without_its_authorizer_is_seen(assembly: Assembly) -> None:
    """NONE in place of JWT, no scope, or JWT without an authorizer to ask."""
    changes: list[dict[str, Any]] = [{"AuthorizationType": "NONE"}, {"AuthorizationScopes": []}, {"AuthorizerId": None}]
    for change in changes:
        altered = copy.deepcopy(dict(assembly.templates))
        route = next(
            one["Properties"]
            for one in altered["heavylift-api"]["Resources"].values()
            if one["Type"] == "AWS::ApiGatewayV2::Route" and one["Properties"]["AuthorizationType"] == "JWT"
        )
        route.update(change)
        if change.get("AuthorizerId", "") is None:
            del route["AuthorizerId"]
        assert differences(topology, altered, CONFIG), change


def test_the_open_routes_are_the_ones_named(assembly: Assembly) -> None:
    """Exactly the topology's, read from the template alone."""
    routes = [one["Properties"] for _, _, one in resources(assembly, "AWS::ApiGatewayV2::Route")]

    assert {one["RouteKey"] for one in routes if "AuthorizerId" not in one} == set(topology.unauthorized_routes())
    assert "$default" not in {one["RouteKey"] for one in routes}


# --- events


def patterns(assembly: Assembly) -> dict[str, EventPattern]:
    """Queue -> the pattern of its rule, out of the template, with the bucket's logical name as its physical one."""
    found = {}
    for fact in observed(assembly.templates, CONFIG.deployment):
        if fact[0] == "rule":
            pattern = json.loads(str(fact[2]))
            (bucket,) = pattern["detail"]["bucket"]["name"]
            pattern["detail"]["bucket"]["name"] = [bucket.removeprefix("{bucket:").removesuffix("}")]
            found[str(fact[3])] = EventPattern.load(json.dumps(pattern))
    return found


def created(bucket: str, key: str) -> dict[str, Any]:
    """The event of an object, in the shape of the recorded one."""
    event: dict[str, Any] = json.loads((ROOT / "tests" / "events" / "s3_object_created.json").read_text())
    event["detail"]["bucket"]["name"] = bucket
    event["detail"]["object"]["key"] = key
    return event


TENANTS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
ULIDS = st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=26, max_size=26).map(lambda text: "0" + text[1:])


@given(tenant=TENANTS, ulid=ULIDS, n=st.integers(1, 999_999))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_patterns_match_the_keys_that_we_build(assembly: Assembly, tenant: str, ulid: str, n: int) -> None:
    """Every key has the owner of its lane or none; our own output starts nothing, nor does the same key elsewhere."""
    lanes = {rule.queue: (rule.bucket, rule.prefix) for rule in topology.RULES}
    built = {
        ("staging", keys.staging("in", tenant, ulid)): "validate",
        ("staging", keys.staging("in", tenant, f"{ulid}-{n:06d}")): "validate",
        ("store", keys.store(tenant, ulid)): "thumbnail",
        ("derived", keys.manifest(tenant, ulid)): None,
        ("derived", keys.thumbnail(tenant, ulid, n, 256)): None,
        ("derived", f"work/{tenant}/{ulid}"): None,
        ("staging", f"files/{tenant}/{ulid}"): None,
        ("store", f"in/{tenant}/{ulid}"): None,
        ("staging", f"incoming/{tenant}/{ulid}"): None,
        ("staging", f"x/in/{tenant}/{ulid}"): None,
    }
    dicom = ("staging", keys.staging("dicom", tenant, ulid))
    built[dicom] = next((queue for queue, (b, p) in lanes.items() if (b, p) == ("staging", "dicom/")), None)
    found = patterns(assembly)

    for (bucket, key), owner in built.items():
        matching = [queue for queue, pattern in found.items() if pattern.matches_event(created(bucket, key))]
        assert matching == ([owner] if owner else []), (bucket, key)


def test_patterns_match_nothing_but_creation(assembly: Assembly) -> None:
    """A deleted, restored or tagged object starts nothing, nor does another service."""
    event = created("staging", "in/acme/01JD2Z3NDEKTSV4RRFFQ69G5FA")
    for pattern in patterns(assembly).values():
        for change in ({"detail-type": "Object Deleted"}, {"detail-type": "Object Tags Added"}, {"source": "custom"}):
            assert not pattern.matches_event({**event, **change})


# --- what every resource of a kind must be


def test_buckets_are_closed_kept_and_tls_only(assembly: Assembly) -> None:
    """Public access blocked, owner enforced, encrypted, retained; old TLS and old signatures are refused."""
    for _, _, bucket in resources(assembly, "AWS::S3::Bucket"):
        told = bucket["Properties"]
        assert set(told["PublicAccessBlockConfiguration"].values()) == {True}
        assert told["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
        assert "BucketEncryption" in told
        assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
        assert "AccessControl" not in told
    ages = set()
    for _, _, policy in resources(assembly, "AWS::S3::BucketPolicy"):
        statements = policy["Properties"]["PolicyDocument"]["Statement"]
        assert {one["Effect"] for one in statements} == {"Deny"}
        assert {json.dumps(one["Condition"]) for one in statements} == {
            json.dumps({"NumericGreaterThan": {"s3:signatureAge": age}})
            for age in (930_000, 3_630_000)
            if statements[-1]["Condition"]["NumericGreaterThan"]["s3:signatureAge"] == age
        } | {
            json.dumps({"Bool": {"aws:SecureTransport": "false"}}),
            json.dumps({"NumericLessThan": {"s3:TlsVersion": 1.2}}),
        }
        ages.add(statements[-1]["Condition"]["NumericGreaterThan"]["s3:signatureAge"])
    assert ages == {930_000, 3_630_000}


def test_the_table_survives(assembly: Assembly) -> None:
    """Point-in-time recovery, deletion protection, retained; paid by request."""
    ((stack, _, table),) = resources(assembly, "AWS::DynamoDB::Table")
    told = table["Properties"]

    assert stack == "heavylift-storage"
    assert told["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert told["DeletionProtectionEnabled"] is True
    assert told["BillingMode"] == "PAY_PER_REQUEST"
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    named = {one["AttributeName"] for one in told["AttributeDefinitions"]}
    indexed = {key for index in topology.TABLE.indexes for key in (index.partition_key, index.sort_key)}
    assert named == indexed | {topology.TABLE.partition_key, topology.TABLE.sort_key}


def test_only_the_storage_stack_is_protected(assembly: Assembly) -> None:
    """Termination protection where the data is; and the others depend on it."""
    manifest = json.loads((assembly.folder / "manifest.json").read_text())["artifacts"]
    protected = {name for name in STACKS if manifest[name]["properties"].get("terminationProtection")}

    assert protected == {"heavylift-storage"}
    assert "heavylift-storage" in manifest["heavylift-processing"]["dependencies"]
    assert {"heavylift-storage", "heavylift-processing"} <= set(manifest["heavylift-api"]["dependencies"])


def test_references_between_stacks_are_strong(assembly: Assembly) -> None:
    """Exports and imports: CloudFormation refuses to remove what another stack uses. Each import has its export."""
    text = json.dumps(assembly.templates)
    exports = {
        output["Export"]["Name"]
        for template in assembly.templates.values()
        for output in template.get("Outputs", {}).values()
        if "Export" in output
    }
    imports = {
        inner
        for template in assembly.templates.values()
        for path, inner in _without_each(template)
        if path[-1] == "Fn::ImportValue"
    }

    assert "Fn::GetStackOutput" not in text
    assert imports == exports
    assert imports


def test_no_export_is_ever_replaced(assembly: Assembly) -> None:
    """A layer or function in an export would lock the next deployment: only what keeps its identity is exported."""
    for stack, template in assembly.templates.items():
        for output in template.get("Outputs", {}).values():
            if "Export" in output:
                value = output["Value"]
                logical_id = value.get("Ref") or value["Fn::GetAtt"][0]
                kind = template["Resources"][logical_id]["Type"]
                assert kind in {"AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::SQS::Queue"}, (stack, logical_id)


def test_no_permission_is_wild(assembly: Assembly) -> None:
    """What is allowed names its actions and its resources; only a refusal may say everything."""
    looked = 0
    for kind, statement in policies(assembly):
        assert not {"NotAction", "NotResource", "NotPrincipal"} & set(statement)
        if statement["Effect"] == "Allow":
            looked += 1
            assert not any("*" in action for action in many(statement["Action"])), kind
            assert "*" not in many(statement["Resource"])
            assert statement.get("Principal") in (None, {"Service": "events.amazonaws.com"})
        else:
            assert kind in {"AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy"}
    assert looked > 20


def test_roles_are_for_lambda_and_for_one_function(assembly: Assembly) -> None:
    """As many roles as functions, assumed by Lambda alone, without a managed policy."""
    roles = [role["Properties"] for _, _, role in resources(assembly, "AWS::IAM::Role")]

    assert len(roles) == len(topology.FUNCTIONS)
    for role in roles:
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert (statement["Principal"], statement["Action"]) == ({"Service": "lambda.amazonaws.com"}, "sts:AssumeRole")
        assert "ManagedPolicyArns" not in role
    assert list(resources(assembly, "AWS::IAM::Policy")) == []
    assert list(resources(assembly, "AWS::IAM::ManagedPolicy")) == []


def test_queues_are_encrypted(assembly: Assembly) -> None:
    """By SQS's own keys, to which EventBridge may send without a key policy."""
    assert all(q["Properties"]["SqsManagedSseEnabled"] is True for _, _, q in resources(assembly, "AWS::SQS::Queue"))


def test_the_access_log_holds_no_ids(assembly: Assembly) -> None:
    """Route keys, not paths; no address, no user, no query."""
    ((_, _, stage),) = resources(assembly, "AWS::ApiGatewayV2::Stage")
    told = json.loads(stage["Properties"]["AccessLogSettings"]["Format"])

    assert told["route"] == "$context.routeKey"
    for banned in ("path", "sourceIp", "userAgent", "claims", "queryString"):
        assert not any(banned in value for value in told.values())


# --- assets


def asset_files(assembly: Assembly, stack: str, resource: Mapping[str, Any]) -> set[str]:
    """Files in the asset of a function or layer version."""
    code = resource["Properties"].get("Code") or resource["Properties"]["Content"]
    identifier = code["S3Key"].removesuffix(".zip")
    told = json.loads((assembly.folder / f"{stack}.assets.json").read_text())["files"][identifier]["source"]
    folder = assembly.folder / told["path"]
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_function_is_its_folder(assembly: Assembly) -> None:
    """What git has in functions/<name>/, and nothing else: no byte code, no test, no neighbour."""
    for stack, _, function in resources(assembly, "AWS::Lambda::Function"):
        name = function["Properties"]["FunctionName"].removeprefix("heavylift-")
        wanted = {path.name for path in (ROOT / "functions" / name).glob("*.py")}
        assert asset_files(assembly, stack, function) == wanted
        assert "handler.py" in wanted


def test_the_shared_layer_is_the_package(assembly: Assembly) -> None:
    """Every module of heavylift under python/, where Lambda looks, and nothing beside it."""
    layer = ROOT / "layers" / "heavylift"
    wanted = {
        str(path.relative_to(layer))
        for path in layer.rglob("*")
        if path.is_file()
        and path.suffix != ".pyc"
        and not any(p.endswith((".egg-info", "__pycache__")) for p in path.parts)
    }
    versions = [
        (stack, one)
        for stack, _, one in resources(assembly, "AWS::Lambda::LayerVersion")
        if one["Properties"]["LayerName"] == "heavylift-heavylift"
    ]

    assert len(versions) == 2
    for stack, version in versions:
        files = asset_files(assembly, stack, version)
        assert files == wanted
        assert "python/heavylift/__init__.py" in files
        assert all(name.startswith("python/heavylift/") for name in files)


def test_layers_that_are_not_built_say_so(assembly: Assembly) -> None:
    """A stub holds a note and no module, and the app warns of it, so that a strict deployment refuses."""
    for stack, _, version in resources(assembly, "AWS::Lambda::LayerVersion"):
        name = version["Properties"]["LayerName"].removeprefix("heavylift-")
        if not (ROOT / "layers" / name / "python").is_dir():
            assert asset_files(assembly, stack, version) == {"NOT_BUILT.txt"}
            assert f"layer {name} is not built" in assembly.told


# --- the local stack tells its functions the same


def test_functions_are_told_the_same_here_and_there(assembly: Assembly, tmp_path: Path) -> None:
    """Beyond what Lambda itself sets, and what points at this machine, both realisations set the same variables."""
    services = ("S3", "DYNAMODB", "SQS", "EVENTBRIDGE")
    local = {f"AWS_ENDPOINT_URL_{service}" for service in services} | {
        "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED", "POWERTOOLS_TRACE_DISABLED",
        "TMPDIR", "HEAVYLIFT_TIME_SCALE", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE",
    }  # fmt: skip
    queues = {name: name for q in topology.QUEUES for name in (q.name, f"{q.name}-dlq")}
    names = plan.Names({b.name: b.name for b in topology.BUCKETS}, "t", queues)
    endpoints = plan.Endpoints("http://s3", "http://db", "http://sqs", "http://events")
    found = observed(assembly.templates, CONFIG.deployment)
    for function in topology.FUNCTIONS:
        here = plan.function_environment(
            topology, function, names, plan.new_key(True), endpoints, {}, tmp_path, 1.0, tmp_path, tmp_path
        )
        there = {str(fact[2]): fact[3] for fact in found if fact[:2] == ("variable", function.name)}
        lambdas = {name for name in here if name.startswith(("AWS_", "LAMBDA_"))} | {"_HANDLER", "TZ", "LANG", "PATH"}
        assert set(here) - local - lambdas == set(there)
        for name in (*topology.LIBRARY_ENVIRONMENT, "POWERTOOLS_SERVICE_NAME"):
            assert here[name] == there[name], name


def test_preflights_are_answered_the_same_here_and_there(assembly: Assembly, tmp_path: Path) -> None:
    """What the local gateway answers to a page's preflight is what the template tells API Gateway."""
    ((_, _, api),) = resources(assembly, "AWS::ApiGatewayV2::Api")
    there = api["Properties"]["CorsConfiguration"]
    gateway = Gateway(0, plan.ACCOUNT, tmp_path, ("https://page.example",))
    gateway.start(*([None] * 4))  # type: ignore[arg-type]  # a preflight asks none of them
    try:
        asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
        request = urllib.request.Request(f"{gateway.url}/v1/uploads", method="OPTIONS", headers=asked)
        with urllib.request.urlopen(request, timeout=30) as answer:
            here = {name.lower(): value for name, value in answer.headers.items()}
    finally:
        gateway.stop()

    for name, key in {"methods": "AllowMethods", "headers": "AllowHeaders"}.items():
        assert set(here[f"access-control-allow-{name}"].split(",")) == set(there[key])
    assert set(here["access-control-expose-headers"].split(",")) == set(there["ExposeHeaders"])
    assert here["access-control-max-age"] == str(there["MaxAge"])


def test_signatures_age_the_same_here_and_there() -> None:
    """The local buckets deny what the cloud's deny, with the default and with a deployer's longer life."""
    for told in ({}, {"SIGNATURE_TTL_SECONDS": "60"}, {"SIGNATURE_TTL_SECONDS": "7200"}):
        for bucket in topology.BUCKETS:
            here = plan.signature_age_max(told)(topology, bucket.name)
            assert here == Config(settings=told).signature_age_max_s(bucket.name)


# --- the act of synthesising


def test_two_syntheses_are_the_same(assembly: Assembly, tmp_path: Path) -> None:
    """Byte by byte, under another hash seed and, where this machine lets us cut it off, without any network."""
    try:
        cut = subprocess.run(["unshare", "-rn", "true"], capture_output=True, timeout=10).returncode == 0
    except OSError:
        cut = False
    second = synthesise(tmp_path / "cdk.out", *(("unshare", "-rn") if cut else ()), PYTHONHASHSEED="2")

    def content(folder: Path) -> dict[str, bytes]:
        return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}

    first = content(assembly.folder)
    assert first == content(second.folder)
    assert "manifest.json" in first


def test_the_command_line_has_the_last_word(assembly: Assembly, tmp_path: Path) -> None:
    """``cdk -c`` wins over cdk.json; the app itself compares, so that its success is agreement under that choice."""
    context = {
        "heavylift:deployment": "other",
        "heavylift:origins": "",
        "heavylift:jwtIssuer": "https://login.example/",
        "heavylift:settings": '{"LOG_LEVEL": "DEBUG", "MALWARE_SCAN": "strict"}',
    }
    told = synthesise(tmp_path / "cdk.out", CDK_CONTEXT_JSON=json.dumps(context))

    assert set(told.templates) == {name.replace("heavylift-", "other-") for name in STACKS}
    for _, _, function in resources(told, "AWS::Lambda::Function"):
        assert function["Properties"]["Environment"]["Variables"]["LOG_LEVEL"] == "DEBUG"
    assert "Cors" not in json.dumps(told.templates)
    assert "placeholder" not in told.told
    assert "placeholder" in assembly.told
    # The scanning gate brings its rule and its scanner, and only where it is wanted.
    config = read_config({**context, "heavylift:origins": []})
    assert differences(topology, told.templates, config) == []
    facts = observed(told.templates, "other")
    assert facts["scanned", "staging", ("in/",), "ENABLED"] == facts["scanner's role", "staging"] == 1
    assert sum(count for fact, count in facts.items() if fact[0] == "rule") == len(topology.RULES) + 1
    assert "GuardDuty" not in json.dumps(assembly.templates)


def test_a_wrong_choice_is_a_sentence(assembly: Assembly, tmp_path: Path) -> None:
    """No traceback, no templates, an exit status that a script sees."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "infra" / "app.py"), "--output", str(tmp_path / "cdk.out")],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "CDK_CONTEXT_JSON": json.dumps({"heavylift:origins": "*"})},
    )

    assert done.returncode == 1
    assert "synth: heavylift:origins" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "cdk.out" / "manifest.json").exists()


def test_other_deployments_have_other_names() -> None:
    """The comparison knows the deployment's name: facts are described with it."""
    from infra.agreement import described

    here, there = described(topology, Config()), described(topology, Config(deployment="other"))
    assert {fact[0] for fact in (here - there)} == {"log group", "logs to", "allow", "api"}
