"""What every resource of a kind must be, in both stages; and what the act of synthesising promises."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from heavylift_local import plan
from heavylift_local.gateway.server import Gateway
from infra import topology
from infra.app import main, read_context, stage_of
from infra.config import Config, ConfigError
from infra.observed import observed
from tests.infra.conftest import ROOT, Assembly, many, synthesise, without_each

# Node runs once, not once a worker. Its first start on a machine unpacks the CDK library: a minute.
pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.timeout(900)]

STACKS = {"front", "storage", "processing", "api", "backfill", "observability"}
XRAY = {"xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules", "xray:GetSamplingTargets"}
TLS = {"Bool": {"aws:SecureTransport": "false"}}


def policies(assembly: Assembly) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind of resource, statement) of every policy document in the templates."""
    for template in assembly.templates.values():
        for resource in template["Resources"].values():
            told = resource.get("Properties", {})
            inline = told.get("Policies", ()) if resource["Type"] == "AWS::IAM::Role" else ()
            documents = [told.get("PolicyDocument"), *(one["PolicyDocument"] for one in inline)]
            for document in filter(None, documents):
                for statement in document["Statement"]:
                    yield resource["Type"], statement


def test_the_stacks_are_the_ones_described(assemblies: dict[str, Assembly]) -> None:
    """Six, and the firewall where it is wanted."""
    for stage, assembly in assemblies.items():
        wanted = STACKS | ({"firewall"} if stage == "hardened" else set())
        assert set(assembly.templates) == {f"{assembly.config.deployment}-{name}" for name in wanted}


def test_a_firewall_lives_where_cloudfront_wants_it(assemblies: dict[str, Assembly]) -> None:
    """us-east-1; the distribution asks for its ARN there, and the API's own endpoint is off."""
    hardened = assemblies["hardened"]
    manifest = json.loads((hardened.folder / "manifest.json").read_text())["artifacts"]
    assert manifest["hardened-firewall"]["environment"].endswith("/us-east-1")
    assert "hardened-firewall" in manifest["hardened-front"]["dependencies"]
    ((_, _, distribution),) = hardened.resources("AWS::CloudFront::Distribution")
    ((_, _, api),) = hardened.resources("AWS::ApiGatewayV2::Api")
    acl = distribution["Properties"]["DistributionConfig"]["WebACLId"]["Fn::GetStackOutput"]

    assert acl == {"StackName": "hardened-firewall", "OutputName": "WebAclArn", "Region": "us-east-1"}
    assert "WebAclArn" in hardened.stack("firewall")["Outputs"]
    assert api["Properties"]["DisableExecuteApiEndpoint"] is True
    hosts = {
        one["DomainName"]
        for one in distribution["Properties"]["DistributionConfig"]["Origins"]
        if "CustomOriginConfig" in one
    }
    assert hosts == {hardened.config.api.domain}


# --- data


def test_buckets_are_closed_kept_and_tls_only(each: Assembly) -> None:
    """Public access blocked, owner enforced, encrypted; our data retained; old TLS and old signatures are refused."""
    made = 0
    for stack, _, bucket in each.resources("AWS::S3::Bucket"):
        told = bucket["Properties"]
        assert set(told["PublicAccessBlockConfiguration"].values()) == {True}
        assert told["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
        (by,) = told["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        if stack.endswith("-storage"):
            made += 1
            assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
            assert by.get("BucketKeyEnabled") is (True if each.config.protection.kms else None)
        assert "AccessControl" not in told
    assert made == len(topology.BUCKETS) - len(each.config.existing.buckets)
    ages = set()
    for stack, _, policy in each.resources("AWS::S3::BucketPolicy"):
        statements = policy["Properties"]["PolicyDocument"]["Statement"]
        conditions = [one["Condition"] for one in statements if one["Effect"] == "Deny"]
        assert TLS in conditions
        assert {"NumericLessThan": {"s3:TlsVersion": 1.2}} in conditions
        if stack.endswith("-storage"):
            assert {one["Effect"] for one in statements} == {"Deny"}
            (age,) = (one["NumericGreaterThan"] for one in conditions if "NumericGreaterThan" in one)
            ages.add(age["s3:signatureAge"])
    own = float(each.config.settings.get("SIGNATURE_TTL_SECONDS", 900)) * 1000 + 30_000
    assert ages == {own, 3_630_000}


def test_no_origin_is_a_wildcard(each: Assembly) -> None:
    """Buckets and API name pages exactly; where the page is ours alone the API needs to let in nobody."""
    for _, _, bucket in each.resources("AWS::S3::Bucket"):
        for rule in bucket["Properties"].get("CorsConfiguration", {}).get("CorsRules", ()):
            assert rule["AllowedOrigins"]
            assert not any("*" in json.dumps(one) for one in rule["AllowedOrigins"])
            assert {"ETag"} <= set(rule["ExposedHeaders"])
    ((_, _, api),) = each.resources("AWS::ApiGatewayV2::Api")
    cors = api["Properties"].get("CorsConfiguration")
    assert bool(cors) == bool(each.config.origins)
    if cors:
        assert cors["AllowOrigins"] == list(each.config.origins)
        assert "retry-after" in cors["ExposeHeaders"]


def test_the_table_survives(each: Assembly) -> None:
    """Point-in-time recovery, deletion protection, retained; paid by request."""
    ((stack, _, table),) = each.resources("AWS::DynamoDB::Table")
    told = table["Properties"]

    assert stack.endswith("-storage")
    assert told["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert told["DeletionProtectionEnabled"] is True
    assert told["BillingMode"] == "PAY_PER_REQUEST"
    assert told["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    named = {one["AttributeName"] for one in told["AttributeDefinitions"]}
    indexed = {key for index in topology.TABLE.indexes for key in (index.partition_key, index.sort_key)}
    assert named == indexed | {topology.TABLE.partition_key, topology.TABLE.sort_key}


def test_a_key_of_ones_own_turns_and_stays(assemblies: dict[str, Assembly]) -> None:
    """It rotates, outlives its stack, and waits as long as KMS lets it before it is gone; by default there is none."""
    ((stack, _, key),) = assemblies["hardened"].resources("AWS::KMS::Key")

    assert stack == "hardened-storage"
    assert key["Properties"]["EnableKeyRotation"] is True
    assert key["Properties"]["PendingWindowInDays"] == 30
    assert key["DeletionPolicy"] == "Retain"
    (statement,) = key["Properties"]["KeyPolicy"]["Statement"]
    assert ":root" in json.dumps(statement["Principal"])
    assert list(assemblies["default"].resources("AWS::KMS::Key")) == []


def test_an_existing_bucket_is_not_made(assemblies: dict[str, Assembly]) -> None:
    """No resource, no policy of ours; functions and rules know it by its name."""
    hardened = assemblies["hardened"]
    names = [json.dumps(one["Properties"]["BucketName"]) for _, _, one in hardened.resources("AWS::S3::Bucket")]

    assert len(names) == len(topology.BUCKETS)  # the page's is one more, the store one less
    assert not any("hospital-archive" in name or "-store-" in name for name in names)
    rules = [
        one["Properties"]["EventPattern"]
        for _, _, one in hardened.resources("AWS::Events::Rule")
        if "EventPattern" in one["Properties"]
    ]
    assert ["hospital-archive"] in [rule["detail"].get("bucket", {}).get("name") for rule in rules]
    for _, _, function in hardened.resources("AWS::Lambda::Function"):
        variables = function["Properties"].get("Environment", {}).get("Variables", {})
        assert variables.get("STORE_BUCKET", "hospital-archive") == "hospital-archive"


def test_only_the_storage_stack_is_protected(each: Assembly) -> None:
    """Termination protection where the data is; and the others depend on it."""
    name = each.config.deployment
    manifest = json.loads((each.folder / "manifest.json").read_text())["artifacts"]
    protected = {one for one in each.templates if manifest[one]["properties"].get("terminationProtection")}

    assert protected == {f"{name}-storage"}
    assert f"{name}-storage" in manifest[f"{name}-processing"]["dependencies"]
    assert {f"{name}-front", f"{name}-storage", f"{name}-processing"} <= set(manifest[f"{name}-api"]["dependencies"])


# --- between stacks


def test_references_between_stacks_are_strong(each: Assembly) -> None:
    """Exports and imports: CloudFormation refuses to remove what another stack uses. Each import has its export.

    But for the firewall's, which lies in another region.
    """
    exports = {
        output["Export"]["Name"]
        for template in each.templates.values()
        for output in template.get("Outputs", {}).values()
        if "Export" in output
    }
    found = [(path[-1], inner) for template in each.templates.values() for path, inner in without_each(template)]

    assert {inner for key, inner in found if key == "Fn::ImportValue"} == exports != set()
    weak = [inner["StackName"] for key, inner in found if key == "Fn::GetStackOutput"]
    assert weak == (["hardened-firewall"] if each.config.protection.firewall else [])


def test_no_export_is_ever_replaced(each: Assembly) -> None:
    """A layer or function in an export would lock the next deployment: only what keeps its identity is exported."""
    lasting = {"AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::KMS::Key"} | {
        "AWS::ApiGatewayV2::Api", "AWS::CloudFront::Distribution", "AWS::Cognito::UserPool",
        "AWS::Cognito::UserPoolClient",
    }  # fmt: skip
    for stack, template in each.templates.items():
        for output in template.get("Outputs", {}).values():
            if "Export" in output:
                value = output["Value"]
                logical_id = value.get("Ref") or value["Fn::GetAtt"][0]
                assert template["Resources"][logical_id]["Type"] in lasting, (stack, logical_id)


# --- permissions


def test_no_permission_is_wild(each: Assembly) -> None:
    """What is allowed names its actions and its resources; only a refusal may say everything, and X-Ray must."""
    services = {"events.amazonaws.com", "cloudfront.amazonaws.com", "cloudwatch.amazonaws.com", "budgets.amazonaws.com"}
    looked = 0
    for kind, statement in policies(each):
        assert not {"NotAction", "NotResource", "NotPrincipal"} & set(statement)
        if statement["Effect"] == "Allow":
            looked += 1
            assert not any("*" in action for action in many(statement["Action"])), kind
            assert "*" not in many(statement["Resource"]) or set(many(statement["Action"])) <= XRAY
            principal = statement.get("Principal")
            assert principal is None or (set(principal) == {"Service"} and set(many(principal["Service"])) <= services)
            # A service lets in whoever asks it, unless it must name for whom it asks.
            assert principal is None or "aws:source" in json.dumps(statement["Condition"]).lower()
        else:
            assert kind in {"AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"}
    assert looked > 20


def test_roles_are_for_one_function(each: Assembly) -> None:
    """As many as functions, assumed by Lambda alone, without a managed policy; three services have one of their own."""
    of_services: dict[str, int] = {}
    for _, _, role in each.resources("AWS::IAM::Role"):
        told = role["Properties"]
        (statement,) = told["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Action"] == "sts:AssumeRole"
        service = statement["Principal"]["Service"]
        of_services[service] = of_services.get(service, 0) + 1
        assert ("ManagedPolicyArns" in told) == (service == "backup.amazonaws.com")
    functions = [one["Properties"] for _, _, one in each.resources("AWS::Lambda::Function")]
    assert of_services["lambda.amazonaws.com"] == len(functions) == len({json.dumps(one["Role"]) for one in functions})
    assert list(each.resources("AWS::IAM::Policy")) == []
    assert list(each.resources("AWS::IAM::ManagedPolicy")) == []


def test_queues_are_encrypted_have_dead_letters_and_wait_long_enough(each: Assembly) -> None:
    """SQS's own keys, TLS only, a dead-letter queue for each that is fed, six timeouts of sleep."""
    timeouts = {
        json.dumps(mapping["Properties"]["EventSourceArn"]): mapping["Properties"]
        for _, _, mapping in each.resources("AWS::Lambda::EventSourceMapping")
    }
    assert len(timeouts) == len(topology.QUEUES)
    refused = {
        queue["Ref"]
        for _, _, policy in each.resources("AWS::SQS::QueuePolicy")
        for queue in policy["Properties"]["Queues"]
        if any(one.get("Condition") == TLS for one in policy["Properties"]["PolicyDocument"]["Statement"])
    }
    for stack, logical_id, queue in each.resources("AWS::SQS::Queue"):
        told = queue["Properties"]
        assert told["SqsManagedSseEnabled"] is True
        assert logical_id in refused
        mapping = timeouts.get(json.dumps({"Fn::GetAtt": [logical_id, "Arn"]}))
        assert bool(mapping) == ("RedrivePolicy" in told)
        if mapping:
            function = each.templates[stack]["Resources"][mapping["FunctionName"]["Ref"]]["Properties"]
            assert told["VisibilityTimeout"] >= 6 * function["Timeout"]
            assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
            assert mapping["ScalingConfig"]["MaximumConcurrency"] >= 2


# --- the API's edge


def test_the_access_log_holds_no_ids(each: Assembly) -> None:
    """Route keys, not paths; no address, no user, no query."""
    ((_, _, stage),) = each.resources("AWS::ApiGatewayV2::Stage")
    told = json.loads(stage["Properties"]["AccessLogSettings"]["Format"])

    assert told["route"] == "$context.routeKey"
    for banned in ("path", "sourceIp", "userAgent", "claims", "queryString"):
        assert not any(banned in value for value in told.values())


def test_the_gateway_throttles(each: Assembly) -> None:
    """What the stage says, for all routes."""
    ((_, _, stage),) = each.resources("AWS::ApiGatewayV2::Stage")
    limits = stage["Properties"]["DefaultRouteSettings"]

    assert limits["ThrottlingRateLimit"] == each.config.api.calls_per_second > 0
    assert limits["ThrottlingBurstLimit"] == each.config.api.calls_at_once > 0


def test_logs_are_forgotten_in_time(each: Assembly) -> None:
    """Every log group has the stage's days, and every function writes to one of them."""
    groups = list(each.resources("AWS::Logs::LogGroup"))
    assert {one["Properties"]["RetentionInDays"] for _, _, one in groups} == {each.config.log_retention_days}
    for stack, _, function in each.resources("AWS::Lambda::Function"):
        group = function["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]
        assert group in each.templates[stack]["Resources"]


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
    known = {function.name for function in topology.FUNCTIONS}
    seen = set()
    for stack, _, function in assembly.resources("AWS::Lambda::Function"):
        name = function["Properties"]["FunctionName"].removeprefix("heavylift-")
        if name in known:
            seen.add(name)
            wanted = {path.name for path in (ROOT / "functions" / name).glob("*.py")}
            assert asset_files(assembly, stack, function) == wanted
            assert "handler.py" in wanted
    assert seen == known


def test_the_shared_layer_is_the_package(assembly: Assembly) -> None:
    """Modules of heavylift under python/, where Lambda looks, and nothing beside it."""
    versions = [
        (stack, one)
        for stack, _, one in assembly.resources("AWS::Lambda::LayerVersion")
        if one["Properties"]["LayerName"] == "heavylift-heavylift"
    ]

    assert len(versions) == 2
    (files, twice) = (asset_files(assembly, stack, version) for stack, version in versions)
    assert files == twice
    assert {"python/heavylift/__init__.py", "python/heavylift/api/sign.py", "python/heavylift/py.typed"} <= files
    assert all(name.startswith("python/heavylift/") for name in files)
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in files)


def test_layers_that_are_not_built_say_so(assembly: Assembly) -> None:
    """A stub holds a note and no module, and the app warns of it, so that a strict deployment refuses."""
    for stack, _, version in assembly.resources("AWS::Lambda::LayerVersion"):
        name = version["Properties"]["LayerName"].removeprefix("heavylift-")
        files = asset_files(assembly, stack, version)
        told = [one for one in assembly.warnings() if one.startswith(f"layer {name} is not built:")]
        assert (files == {"NOT_BUILT.txt"}) == bool(told), name


def test_architectures_are_the_stages(each: Assembly) -> None:
    """Functions and layers, all of them."""
    for _, _, function in each.resources("AWS::Lambda::Function"):
        assert function["Properties"]["Architectures"] == [each.config.architecture]
    for _, _, layer in each.resources("AWS::Lambda::LayerVersion"):
        assert layer["Properties"]["CompatibleArchitectures"] == [each.config.architecture]


# --- the local stack does the same


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
    found = observed(assembly.templates, assembly.config)
    for function in topology.FUNCTIONS:
        here = plan.function_environment(
            topology, function, names, plan.new_key(True), endpoints, {}, tmp_path, 1.0, tmp_path, tmp_path
        )
        there = {str(fact[2]): fact[3] for fact in found if fact[:2] == ("variable", function.name)}
        lambdas = {name for name in here if name.startswith(("AWS_", "LAMBDA_"))} | {"_HANDLER", "TZ", "LANG", "PATH"}
        assert set(here) - local - lambdas == set(there)
        for name in (*topology.LIBRARY_ENVIRONMENT, "POWERTOOLS_SERVICE_NAME"):
            assert here[name] == there[name], name


def test_preflights_are_answered_the_same_here_and_there(assemblies: dict[str, Assembly], tmp_path: Path) -> None:
    """What the local gateway answers to a page's preflight is what the template tells API Gateway."""
    ((_, _, api),) = assemblies["hardened"].resources("AWS::ApiGatewayV2::Api")
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
    synthesise(tmp_path / "cdk.out", ("--stage", "default"), *(("unshare", "-rn") if cut else ()), PYTHONHASHSEED="2")

    def content(folder: Path) -> dict[str, bytes]:
        return {one.name: one.read_bytes() for one in sorted(folder.glob("*.json"))}

    first, second = content(assembly.folder), content(tmp_path / "cdk.out")
    assert {name for name in first if first[name] != second.get(name)} <= {"validation-report.json"}
    assert set(first) - {"validation-report.json"} == set(second) - {"validation-report.json"}
    assert "manifest.json" in first


def test_the_command_line_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """``cdk -c heavylift:stage=…`` wins over cdk.json, which names the default stage."""
    context = read_context(ROOT / "cdk.json")

    assert stage_of(context).deployment == "heavylift"
    assert stage_of({**context, "heavylift:stage": "hardened"}).deployment == "hardened"
    with pytest.raises(ConfigError, match="heavylift:origins"):
        stage_of({**context, "heavylift:origins": "*"})
    monkeypatch.setenv("CDK_CONTEXT_JSON", json.dumps({"heavylift:stage": "nowhere"}))
    assert main(["--output", os.devnull + ".out"]) == 1


def test_placeholders_are_warned_of(assemblies: dict[str, Assembly]) -> None:
    """Addresses that can never exist, so that a strict deployment refuses; the default stage has none."""
    told = {stage: [one for one in made.warnings() if "placeholder" in one] for stage, made in assemblies.items()}

    assert told["default"] == []
    assert sorted(one.partition(" ")[0] for one in told["hardened"]) == [
        "api.domain", "identity.issuer", "origins", "page.domain",
    ]  # fmt: skip


def test_a_wrong_choice_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback, no templates, an exit status that a script sees; Node is not even started."""
    stage = tmp_path / "wrong.toml"
    stage.write_text('origins = ["*"]\n')

    assert main(["--stage", str(stage), "--output", str(tmp_path / "cdk.out")]) == 1
    assert "synth: wrong.toml: origins must hold exact https origins" in capsys.readouterr().err
    assert not (tmp_path / "cdk.out").exists()
