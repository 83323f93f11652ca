"""The malware scanner in front of the store, where the scanning gate is on: GuardDuty Malware Protection for S3.

Its role follows the Amazon GuardDuty User Guide, "Create or update IAM role policy" (read 2026-11), cut down to the
bucket and the prefixes that are scanned.
"""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_guardduty as guardduty
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

SERVICE = "malware-protection-plan.guardduty.amazonaws.com"
VALIDATION_OBJECT = "malware-protection-resource-validation-object"  # GuardDuty proves by it that it may write tags


class Scanner(Construct):
    """A protection plan for ``prefixes`` of one bucket; it tags what it scanned, and tells the default bus."""

    def __init__(
        self, scope: Construct, construct_id: str, bucket: s3.IBucket, prefixes: Sequence[str], key: kms.IKey | None
    ) -> None:
        super().__init__(scope, construct_id)
        stack = cdk.Stack.of(self)
        managed = stack.format_arn(
            service="events", resource="rule", resource_name="DO-NOT-DELETE-AmazonGuardDutyMalwareProtectionS3*"
        )
        scanned = [bucket.arn_for_objects(f"{prefix}*") for prefix in prefixes]
        validation = bucket.arn_for_objects(VALIDATION_OBJECT)

        def statement(actions: list[str], resources: list[str], **conditions: dict[str, str]) -> iam.PolicyStatement:
            return iam.PolicyStatement(actions=actions, resources=resources, conditions=conditions or None)

        tags = [f"s3:{verb}Object{of}Tagging" for verb in ("Put", "Get") for of in ("", "Version")]
        policy = iam.PolicyDocument(
            statements=[
                statement(
                    ["events:PutRule", "events:DeleteRule", "events:PutTargets", "events:RemoveTargets"],
                    [managed],
                    StringLike={"events:ManagedBy": SERVICE},
                ),
                statement(["events:DescribeRule", "events:ListTargetsByRule"], [managed]),
                statement(["s3:PutBucketNotification", "s3:GetBucketNotification"], [bucket.bucket_arn]),
                statement(["s3:ListBucket"], [bucket.bucket_arn]),
                statement(["s3:PutObject"], [validation]),
                statement(["s3:GetObject", "s3:GetObjectVersion"], [*scanned, validation]),
                statement(tags, [*scanned, validation]),
                *(
                    [
                        statement(
                            ["kms:Decrypt", "kms:GenerateDataKey"],
                            [key.key_arn],
                            StringEquals={"kms:ViaService": f"s3.{cdk.Aws.REGION}.{cdk.Aws.URL_SUFFIX}"},
                        )
                    ]
                    if key
                    else []
                ),
            ]
        )
        role = iam.Role(
            self, "Role", assumed_by=iam.ServicePrincipal(SERVICE), inline_policies={"scan-and-tag": policy}
        )
        protected = guardduty.CfnMalwareProtectionPlan.CFNProtectedResourceProperty(
            s3_bucket=guardduty.CfnMalwareProtectionPlan.S3BucketProperty(
                bucket_name=bucket.bucket_name, object_prefixes=list(prefixes)
            )
        )
        tagging = guardduty.CfnMalwareProtectionPlan.CFNTaggingProperty(status="ENABLED")
        plan = guardduty.CfnMalwareProtectionPlan(
            self,
            "Plan",
            role=role.role_arn,
            protected_resource=protected,
            actions=guardduty.CfnMalwareProtectionPlan.CFNActionsProperty(tagging=tagging),
        )
        plan.node.add_dependency(role)
