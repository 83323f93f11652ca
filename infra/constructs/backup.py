"""Daily backups of what cannot be made again, apart from what holds it: AWS Backup."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_backup as backup
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

DAYS_KEPT = 35  # as long as DynamoDB's own recovery reaches back
# AWS Backup's own policies for its service role ("Managed policies for AWS Backup", read 2026-11); they name each
# action that it needs, and change when it does.
POLICIES = (
    "service-role/AWSBackupServiceRolePolicyForBackup",
    "service-role/AWSBackupServiceRolePolicyForRestores",
    "AWSBackupServiceRolePolicyForS3Backup",
    "AWSBackupServiceRolePolicyForS3Restore",
)


class Backup(Construct):
    """A vault, a plan (every night, kept five weeks) and the selection of ``resources``."""

    def __init__(
        self, scope: Construct, construct_id: str, deployment: str, resources: Sequence[str], key: kms.IKey | None
    ) -> None:
        super().__init__(scope, construct_id)
        vault = backup.CfnBackupVault(
            self,
            "Vault",
            backup_vault_name=deployment,
            encryption_key_arn=key.key_arn if key else None,
        )
        vault.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
        plan = backup.CfnBackupPlan(
            self,
            "Plan",
            backup_plan=backup.CfnBackupPlan.BackupPlanResourceTypeProperty(
                backup_plan_name=deployment,
                backup_plan_rule=[
                    backup.CfnBackupPlan.BackupRuleResourceTypeProperty(
                        rule_name="nightly",
                        target_backup_vault=vault.ref,
                        schedule_expression="cron(0 3 * * ? *)",
                        lifecycle=backup.CfnBackupPlan.LifecycleResourceTypeProperty(delete_after_days=DAYS_KEPT),
                    )
                ],
            ),
        )
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("backup.amazonaws.com"),
            managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name(name) for name in POLICIES],
        )
        backup.CfnBackupSelection(
            self,
            "Selection",
            backup_plan_id=plan.ref,
            backup_selection=backup.CfnBackupSelection.BackupSelectionResourceTypeProperty(
                selection_name="table-and-store", iam_role_arn=role.role_arn, resources=list(resources)
            ),
        )
