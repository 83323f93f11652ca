"""Others look at the templates: AWS's rules for solutions, CloudFormation's schemas, IAM's own grammar, a reviewer."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from infra.app import layer_names
from infra.findings import EXPLANATIONS, Finding, idle, read_findings, unexplained
from infra.snapshots import COMMAND, FOLDER, normalised
from tests.infra.conftest import Assembly

# Node runs once, not once a worker. Its first start on a machine unpacks the CDK library: a minute.
pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.timeout(900)]


def test_every_finding_of_cdk_nag_is_explained(each: Assembly) -> None:
    """AWS's rules for solutions find nothing that infra/findings.py does not answer with a reason."""
    findings = read_findings(each.folder)

    assert unexplained(findings) == []
    assert {finding.rule for finding in findings} >= {"AwsSolutions-L1"}


def test_every_explanation_explains_something(assemblies: dict[str, Assembly]) -> None:
    """What is no longer found needs no excuse; each has a reason in words."""
    findings = [finding for one in assemblies.values() for finding in read_findings(one.folder)]

    assert idle(findings) == []
    assert all(len(one.reason.split()) > 6 for one in EXPLANATIONS)


def test_an_explanation_covers_no_more_than_it_says() -> None:
    """A wider permission, another place, another rule: each is unexplained."""
    for finding in (
        Finding("AwsSolutions-IAM5[Resource::*]", "storage/Role/Resource"),
        Finding("AwsSolutions-IAM5[Action::s3:*]", "api/Handler-sign/Role/Resource"),
        Finding("AwsSolutions-IAM5[Resource::<Bucket.Arn>/*]", "api/Handler-sign/Role/Resource"),
        Finding("AwsSolutions-APIG4", "api/Route GET .v1.uploads"),
        Finding("AwsSolutions-SQS3", "processing/Pipeline-validate/Queue/Resource"),
        Finding("AwsSolutions-S10", "storage/Bucket-store/Resource"),
        Finding("F3004", "front/Page/Distribution/Resource"),
    ):
        assert unexplained([finding]), finding


def test_cloudformations_schemas_are_met(assemblies: dict[str, Assembly], tmp_path: Path) -> None:
    """cfn-lint finds no error and no warning in any template."""
    templates = [str(path) for one in assemblies.values() for path in sorted(one.folder.glob("*.template.json"))]
    # W3005: the library writes dependencies down that references say, too.
    program = Path(sys.executable).with_name("cfn-lint")
    command = [str(program), "--format", "json", "--regions", "eu-central-1", "--ignore-checks", "W3005", "--"]
    done = subprocess.run([*command, *templates], capture_output=True, text=True, timeout=600, cwd=tmp_path)
    found = [
        (
            one["Rule"]["Id"],
            Path(one["Filename"]).name,
            "/".join(map(str, one["Location"]["Path"] or ())),
            one["Message"],
        )
        for one in json.loads(done.stdout)
    ]

    assert found == []
    assert len(templates) == sum(len(one.templates) for one in assemblies.values())


def as_text(value: Any) -> Any:
    """A policy without intrinsic functions: references become names, so that IAM's grammar can be asked."""
    if isinstance(value, list):
        return [as_text(one) for one in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, told),) = value.items()
        if key == "Ref":
            return {"AWS::Partition": "aws", "AWS::Region": "eu-central-1", "AWS::AccountId": "111122223333"}.get(
                told, "amazonaws.com" if told == "AWS::URLSuffix" else told
            )
        if key == "Fn::Join":
            return told[0].join(str(as_text(one)) for one in told[1])
        if key in ("Fn::GetAtt", "Fn::ImportValue", "Fn::Select"):
            return arn(json.dumps(told))
    return {key: as_text(one) for key, one in value.items()}


def arn(reference: str) -> str:
    """An ARN of the kind that a reference is of, by its name."""
    for word, example in {
        "Bucket": "arn:aws:s3:::bucket",
        "Table": "arn:aws:dynamodb:eu-central-1:111122223333:table/table",
        "Logs": "arn:aws:logs:eu-central-1:111122223333:log-group:group:log-stream:stream",
        "Key": "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555",
        "Alarms": "arn:aws:sns:eu-central-1:111122223333:topic",
    }.items():
        if word in reference:
            return example
    return "arn:aws:sqs:eu-central-1:111122223333:queue"


def test_iam_understands_every_policy(each: Assembly) -> None:
    """parliament finds no unknown action, no resource that an action does not take, no condition that it ignores."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pkg_resources, which it asks for its data, is on its way out
        from parliament import analyze_policy_string
    looked = 0
    for stack, logical_id, role in each.resources("AWS::IAM::Role"):
        for policy in role["Properties"].get("Policies", ()):
            text = json.dumps(as_text(policy["PolicyDocument"]))
            found = [
                (one.issue, str(one.detail), str(one.location.get("string", one.location)))
                for one in analyze_policy_string(text).findings
                if (one.issue, str(one.detail)) not in KNOWN
            ]
            assert found == [], (stack, logical_id)
            looked += 1
    assert looked >= 12


# Its list has this action of objects for access points only; AWS's own page has it for objects as well.
KNOWN = {
    ("RESOURCE_MISMATCH", str([{"action": "s3:GetObjectAttributes", "required_format": "arn:*:s3:*:*:accesspoint/*"}]))
}


def test_iam_would_complain() -> None:
    """The judge is awake: a misspelt action, a resource of another kind, a condition that nothing reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from parliament import analyze_policy_string

    def complaints(**change: Any) -> list[str]:
        statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/in/*", **change}
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        return [one.issue for one in analyze_policy_string(json.dumps(policy)).findings]

    assert complaints() == []
    assert complaints(Action="s3:GetObjects")
    assert complaints(Resource="arn:aws:s3:::bucket")
    assert complaints(Condition={"StringEquals": {"s3:nonsense": "x"}})


# --- a reviewer


def test_templates_are_as_committed(each: Assembly) -> None:
    """A change of the system is a change of tests/infra/snapshots; `python -m infra.snapshots` writes them anew."""
    for name, template in each.templates.items():
        committed = FOLDER / f"{name}.json"
        told = committed.read_text() if committed.is_file() else ""
        # Not one assertion over the whole text: its difference would take minutes to print.
        changed = changes(told, normalised(copy.deepcopy(template)))
        assert changed == [], f"{name} has changed; if that is meant: {COMMAND}"


def changes(before: str, after: str) -> list[str]:
    """The first lines that differ."""
    old, new = before.splitlines(), after.splitlines()
    olds, news = set(old), set(new)
    gone, come = [line for line in old if line not in news], [line for line in new if line not in olds]
    if not gone and not come and old != new:
        return ["the order of lines"]
    return [f"- {line}" for line in gone[:10]] + [f"+ {line}" for line in come[:10]]


def test_there_is_no_snapshot_of_nothing(assemblies: dict[str, Assembly]) -> None:
    """Each belongs to a stack of a stage."""
    names = {f"{name}.json" for one in assemblies.values() for name in one.templates}
    assert {path.name for path in FOLDER.glob("*.json")} == names


def test_a_snapshot_knows_no_hash_of_code(assembly: Assembly) -> None:
    """So that it does not change with every line of a function."""
    for name, template in assembly.templates.items():
        text = normalised(copy.deepcopy(template))
        for code in [*template["Resources"].values()]:
            asset = code.get("Properties", {}).get("Code", {}).get("S3Key", "x" * 64)
            assert asset.removesuffix(".zip") not in text, name
    assert {"base", "image"} <= set(layer_names())
