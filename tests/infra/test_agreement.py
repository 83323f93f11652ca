"""The CloudFormation templates say what the topology says, and nothing else; nothing can leave either side unseen."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from infra import topology
from infra.agreement import described, differences, observed
from infra.config import Config
from infra.observed import PLAIN
from tests.infra.conftest import Assembly, without_each

# Node runs once, not once a worker. Its first start on a machine unpacks the CDK library: a minute.
pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.timeout(900)]


def test_topology_and_templates_agree(each: Assembly) -> None:
    """Not one fact that only one side knows, in either stage."""
    assert differences(topology, each.templates, each.config) == []


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
        # Logs, traces and what Lambda's poller does.
        "allow": sum(
            sum(len(one.actions) * len(one.resources) for one in function.allows) + 4 + (3 if function.source else 0)
            for function in functions
        ),
        "bucket": len(topology.BUCKETS) + 1,
        "expiry": sum(one.expire_days is not None for bucket in topology.BUCKETS for one in bucket.classes),
        "index": len(topology.TABLE.indexes),
        "layer of": sum(len(function.layers) + 1 for function in functions),
        "source": sum(function.source is not None for function in functions),
        "schedule": sum(function.schedule_minutes is not None for function in functions),
    }
    found = observed(assembly.templates, assembly.config)

    assert sum(count for fact, count in found.items() if fact[0] == kind) == wanted[kind] > 0


def seen(assembly: Assembly, stack: str, template: Mapping[str, Any]) -> bool:
    """Whether a stack's other template says something else."""
    before = observed(assembly.templates, assembly.config, stack)
    return before != observed({**assembly.templates, stack: template}, assembly.config, stack)


def test_nothing_can_leave_a_template_unseen(assembly: Assembly) -> None:
    """Without any one resource the comparison fails, be it a route, a rule, a queue or a policy."""
    tried = 0
    for stack, template in assembly.templates.items():
        before = observed(assembly.templates, assembly.config, stack)
        for logical_id, resource in template["Resources"].items():
            if resource["Type"] in PLAIN:
                continue
            rest = {key: value for key, value in template["Resources"].items() if key != logical_id}
            altered = {**assembly.templates, stack: {**template, "Resources": rest}}
            assert observed(altered, assembly.config, stack) != before, (stack, logical_id)
            tried += 1
    assert tried > 150


def _removed(template: Mapping[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """The template without one entry; only what lies on the way to it is copied."""
    altered: dict[str, Any] = dict(template)
    place: Any = altered
    for key in path[:-1]:
        place[key] = copy.copy(place[key])
        place = place[key]
    del place[path[-1]]
    return altered


def test_no_variable_statement_layer_or_index_can_leave_unseen(assembly: Assembly) -> None:
    """The entries inside resources: each variable, action, layer, index, lifecycle rule and target."""
    looked_at = {"Variables", "Layers", "GlobalSecondaryIndexes", "Rules", "Targets", "Statement", "CorsRules"}
    tried = 0
    for stack, template in assembly.templates.items():
        whole = {"Resources": template["Resources"]}
        for path, _ in without_each(whole):
            if len(path) < 2 or path[-2] not in looked_at or "OwnershipControls" in path:
                continue
            resource = template["Resources"][path[1]]
            # The refusal of old TLS stands beside the refusal of none, and has a test of its own.
            if "BucketPolicy" in resource["Type"] and path[-1] == 1:
                continue
            # What stands beside the topology has the snapshots.
            beside = ("access-token", "-page", "page may call", "back-fill")
            if resource["Type"] in PLAIN or any(word in str(resource) for word in beside):
                continue
            if resource["Properties"].get("AssumeRolePolicyDocument") and "Policies" not in path:
                continue
            alone = {logical_id: one for logical_id, one in template["Resources"].items() if logical_id == path[1]}
            # Roles are known by their functions, functions by their log groups: those stay.
            around = {
                logical_id: one
                for logical_id, one in template["Resources"].items()
                if one["Type"]
                in ("AWS::Lambda::Function", "AWS::Lambda::LayerVersion", "AWS::SQS::Queue", "AWS::Logs::LogGroup")
            }
            few = {"Resources": {**around, **alone}}
            outputs = template.get("Outputs", {})
            here = {**assembly.templates, stack: {**few, "Outputs": outputs}}
            gone = {**assembly.templates, stack: {**_removed(few, path), "Outputs": outputs}}
            before, after = (observed(one, assembly.config, stack) for one in (here, gone))
            assert before != after, (stack, path)
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


def test_nothing_can_leave_the_topology_unseen() -> None:
    """Without any one route, rule, queue, variable, permission, layer, lifecycle or index its facts are others."""
    whole = described(topology, Config())
    unseen = [what for what, altered in _altered_topologies() if described(altered, Config()) == whole]

    assert unseen == []
    assert len(list(_altered_topologies())) > 60


def test_what_is_new_in_a_template_is_seen(assembly: Assembly) -> None:
    """A resource of a kind that nobody knows, a second role, a custom resource: each is a difference."""
    stack = "heavylift-storage"
    for kind in ("Custom::S3BucketNotifications", "AWS::CloudFormation::CustomResource", "AWS::EC2::Instance"):
        altered = copy.deepcopy(dict(assembly.templates))
        altered[stack]["Resources"]["New"] = {"Type": kind, "Properties": {}}
        assert any(kind in line for line in differences(topology, altered, assembly.config))
    altered = copy.deepcopy(dict(assembly.templates))
    role = next(r for s, _, r in assembly.resources("AWS::IAM::Role") if s == "heavylift-api")
    altered["heavylift-api"]["Resources"]["Second"] = copy.deepcopy(role)
    assert any("role of several or none" in line for line in differences(topology, altered, assembly.config))


def _role_of(template: dict[str, Any], function: str) -> dict[str, Any]:
    (found,) = (
        one["Properties"]
        for one in template["Resources"].values()
        if one["Type"] == "AWS::IAM::Role" and one["Properties"]["Description"] == f"What {function} may call"
    )
    return dict(found)


@pytest.mark.parametrize(
    "change",
    [
        {"Action": "s3:*"},
        {"Resource": "*"},
        {"Action": ["s3:GetObject", "s3:DeleteBucket"]},
        {"Condition": {}},
        {"NotAction": "s3:PutObject"},
        {"Effect": "Deny"},
    ],
    ids=str,
)
def test_a_wider_statement_is_seen(assembly: Assembly, change: dict[str, Any]) -> None:
    """An action or a resource more than the topology allows, a wildcard, a negation."""
    altered = copy.deepcopy(assembly.stack("api"))
    _role_of(altered, "sign")["Policies"][0]["PolicyDocument"]["Statement"][0].update(change)

    assert seen(assembly, "heavylift-api", altered)


def test_the_key_is_used_through_its_services_only(assemblies: dict[str, Assembly]) -> None:
    """Without the condition, or with another service in it, the statement is no longer the one that is meant."""
    assembly = assemblies["hardened"]
    for change in (None, {"StringEquals": {"kms:ViaService": ["ec2.eu-central-1.amazonaws.com"]}}):
        altered = copy.deepcopy(assembly.stack("api"))
        statements = _role_of(altered, "sign")["Policies"][0]["PolicyDocument"]["Statement"]
        (of_key,) = (one for one in statements if "kms:Decrypt" in one["Action"])
        if change is None:
            del of_key["Condition"]
        else:
            of_key["Condition"] = change
        assert seen(assembly, "hardened-api", altered)


def test_a_route_without_its_authorizer_is_seen(assembly: Assembly) -> None:
    """NONE in place of JWT, no scope, or JWT without an authorizer to ask."""
    changes: list[dict[str, Any]] = [{"AuthorizationType": "NONE"}, {"AuthorizationScopes": []}, {"AuthorizerId": None}]
    for change in changes:
        altered = copy.deepcopy(assembly.stack("api"))
        route = next(
            one["Properties"]
            for one in altered["Resources"].values()
            if one["Type"] == "AWS::ApiGatewayV2::Route" and one["Properties"]["AuthorizationType"] == "JWT"
        )
        route.update(change)
        if change.get("AuthorizerId", "") is None:
            del route["AuthorizerId"]
        assert seen(assembly, "heavylift-api", altered), change


def test_the_open_routes_are_the_ones_named(each: Assembly) -> None:
    """Exactly the topology's, read from the template alone."""
    routes = [one["Properties"] for _, _, one in each.resources("AWS::ApiGatewayV2::Route")]

    assert {one["RouteKey"] for one in routes if "AuthorizerId" not in one} == set(topology.unauthorized_routes())
    assert "$default" not in {one["RouteKey"] for one in routes}


def test_other_deployments_have_other_names() -> None:
    """The comparison knows the deployment's name: facts are described with it."""
    here, there = described(topology, Config()), described(topology, Config(deployment="other"))
    assert {fact[0] for fact in (here - there)} == {"log group", "logs to", "allow", "api"}
