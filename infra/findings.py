"""What cdk-nag's rules for solutions find in our templates, and why each of it stays. Pure, but for reading a report.

A finding without an explanation fails ``make synth`` and the tests; so does an explanation that explains nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import topology

REPORTS = ("validation-report.json", "policy-validation-report.json")


@dataclass(frozen=True, slots=True)
class Finding:
    rule: str
    place: str
    """The construct's path, without the deployment's name."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """``rule`` and ``place`` are regular expressions for the whole text."""

    rule: str
    place: str
    reason: str

    def covers(self, finding: Finding) -> bool:
        return bool(re.fullmatch(self.rule, finding.rule) and re.fullmatch(self.place, finding.place))


_CLASSES = "|".join(sorted({one.name for bucket in topology.BUCKETS for one in bucket.classes}))
_HANDLER = r"(processing/Pipeline-\w+/|processing/Scheduled-\w+/|api/)Handler(-\w+)?/Role/Resource"
_OPEN = "|".join(re.escape(route.replace("/", ".")) for route in topology.unauthorized_routes())

EXPLANATIONS: tuple[Explanation, ...] = (
    Explanation(
        rf"AwsSolutions-IAM5\[Resource::.*/({_CLASSES})/\*\]",
        _HANDLER,
        "Objects of one key class: tenants and ids are made while it runs. Actions are named one by one, and "
        "tests/functions/test_permissions.py holds each of them against what the function really calls.",
    ),
    Explanation(
        r"AwsSolutions-IAM5\[Resource::.*/index/\*\]",
        _HANDLER,
        "All indexes of the one table: each has the same tenants' items as the table itself.",
    ),
    Explanation(
        r"AwsSolutions-IAM5\[Resource::\*\]",
        rf"{_HANDLER}|front/(Page/Publisher|Identity/AccessToken)/Role/Resource|backfill/Role/Resource",
        "X-Ray knows no resources: its write actions cannot be allowed on less.",
    ),
    Explanation(
        r"AwsSolutions-IAM5\[Resource::<PageBucket\w+\.Arn>/\*\]",
        r"front/Page/Publisher/Role/Resource",
        "The page's bucket holds the page's files and nothing else; the publisher writes and removes them all.",
    ),
    Explanation(
        r"AwsSolutions-IAM5\[Resource::.*/manifests/_backfill/\*\]",
        r"backfill/Role/Resource",
        "Results of back-fills, each run under a name that Step Functions makes.",
    ),
    Explanation(
        r"AwsSolutions-IAM5\[Resource::(.*/in/\*|arn:.*rule/DO-NOT-DELETE-AmazonGuardDutyMalwareProtectionS3\*)\]",
        r"storage/Scanner-staging/Role/Resource",
        "GuardDuty scans what is uploaded under one prefix, and names its own rule; its guide asks for both.",
    ),
    Explanation(
        r"AwsSolutions-IAM4\[Policy::arn:.*AWSBackupServiceRolePolicyFor\w+\]",
        r"storage/Backup/Role/Resource",
        "AWS Backup's own policies: they change when the service needs more, and a stale copy would fail silently.",
    ),
    Explanation(
        "AwsSolutions-L1",
        r".*/Function/Resource",
        "Python 3.13: the newest for which every wheel of the lock exists on both architectures; all code also runs "
        "on 3.11, where it is tested.",
    ),
    Explanation(
        "AwsSolutions-APIG4",
        rf"api/Route ({_OPEN})",
        "Health has no content; the Companion routes carry a sealed ticket in their path in the token's place.",
    ),
    Explanation(
        "AwsSolutions-SQS3",
        r"processing/Pipeline-\w+/Undelivered/Resource",
        "It is a dead-letter queue itself: of a rule's target, which the check does not look at.",
    ),
    Explanation(
        "AwsSolutions-S1",
        r"(storage/Bucket-\w+|front/Page/Bucket)/Resource",
        "Server access logs hold whole request lines, so signatures that are still good. Who did what is in the audit "
        "trail of each file; CloudTrail's data events are the account's choice.",
    ),
    Explanation(
        "AwsSolutions-CFR1", r"front/Page/Distribution/Resource", "Who may come is the issuer's choice, not a map's."
    ),
    Explanation(
        "AwsSolutions-CFR2",
        r"front/Page/Distribution/Resource",
        "A firewall is a choice of the stage (protection.firewall): it costs money and wants domains.",
    ),
    Explanation(
        "AwsSolutions-CFR3",
        r"front/Page/Distribution/Resource",
        "Its logs hold paths, and a Companion ticket is in a path. The API's own log names routes.",
    ),
    Explanation(
        "AwsSolutions-CFR4",
        r"front/Page/Distribution/Resource",
        "Without a domain and certificate of one's own CloudFront decides the oldest TLS; with page.domain it is 1.2.",
    ),
    Explanation(
        "AwsSolutions-COG2",
        r"front/Identity/Users/Resource",
        "A second factor is offered to everybody; whoever must have one brings an issuer that asks for it.",
    ),
    Explanation(
        "AwsSolutions-COG8",
        r"front/Identity/Users/Resource",
        "Essentials is the cheapest plan that lets a trigger put tenant and scopes into access tokens; Plus adds risk "
        "scores at three times the price.",
    ),
    Explanation(
        "AwsSolutions-SF1",
        r"backfill/Machine",
        "Each file's outcome is in the run's results; logging every step would need permissions on all log groups.",
    ),
    Explanation("AwsSolutions-SF2", r"backfill/Machine", "Tracing is a choice of the stage (tracing)."),
)


def read_findings(assembly: Path) -> tuple[Finding, ...]:
    """The findings in a cloud assembly. FileNotFoundError when nobody judged it."""
    for name in REPORTS:
        if (assembly / name).is_file():
            return tuple(sorted(set(_findings(json.loads((assembly / name).read_text()))), key=repr))
    raise FileNotFoundError(f"{assembly} has no {REPORTS[0]}")


def _findings(report: Any) -> Iterable[Finding]:
    for plugin in report["pluginReports"]:
        if plugin["pluginName"] == "Construct Annotations":
            continue  # our own warnings: a layer that is not built, an address that is a placeholder
        for violation in plugin.get("violations", ()):
            for construct in violation["violatingConstructs"]:
                yield Finding(violation["ruleName"], construct["constructPath"].partition("-")[2])


def unexplained(findings: Sequence[Finding]) -> list[str]:
    """A line for each finding that nothing explains."""
    return [
        f"{finding.rule} at {finding.place} is not explained in infra/findings.py"
        for finding in findings
        if not any(one.covers(finding) for one in EXPLANATIONS)
    ]


def idle(findings: Iterable[Finding]) -> list[str]:
    """Explanations that explain nothing any more."""
    found = tuple(findings)
    return [f"{one.rule} at {one.place}" for one in EXPLANATIONS if not any(one.covers(finding) for finding in found)]
