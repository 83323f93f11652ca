"""What must survive everything else: the buckets and the table."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra import topology
from infra.config import Config
from infra.constructs.backup import Backup
from infra.constructs.names import bucket_name
from infra.constructs.scanner import Scanner

BUCKET_TAG = "heavylift:bucket"
CORS_MAX_AGE_S = 3000  # how long a browser may remember a preflight's answer
KEY_PENDING_DAYS = 30  # the longest that KMS lets a deleted key be called back


class StorageStack(cdk.Stack):
    """``buckets`` by their names in the topology, ``table``, and ``key`` where there is one. Kept when the stack goes.

    ``origins`` are the pages that may talk to the buckets.
    """

    def __init__(
        self, scope: Construct, construct_id: str, config: Config, origins: tuple[str, ...], **stack: Any
    ) -> None:
        super().__init__(scope, construct_id, termination_protection=True, **stack)
        self._config, self._origins = config, origins
        self.key = self._key() if config.protection.kms else None
        self.buckets = {one.name: self._bucket(one) for one in topology.BUCKETS}
        self.table = self._table(topology.TABLE)
        if topology.scanning(config.settings):
            for name in sorted({rule.bucket for rule in topology.SCAN_RULES}):
                prefixes = [rule.prefix for rule in topology.SCAN_RULES if rule.bucket == name]
                Scanner(self, f"Scanner-{name}", self.buckets[name], prefixes, self.key)
        if config.protection.backup:
            kept = [self.table.table_arn, self.buckets["store"].bucket_arn]
            Backup(self, "Backup", config.deployment, kept, self.key)

    def _key(self) -> kms.Key:
        """Its policy leaves it to IAM who may use it, as KMS does by default: one place to look. Each role of ours may
        decrypt and make data keys through S3 and DynamoDB, never by itself (infra/permissions.py)."""
        return kms.Key(
            self,
            "Key",
            alias=f"alias/{self._config.deployment}",
            description=f"{self._config.deployment}: buckets and table",
            enable_key_rotation=True,
            pending_window=cdk.Duration.days(KEY_PENDING_DAYS),
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )

    def _bucket(self, bucket: topology.Bucket) -> s3.IBucket:
        config = self._config
        if bucket.name in config.existing.buckets:
            return s3.Bucket.from_bucket_name(self, f"Bucket-{bucket.name}", config.existing.buckets[bucket.name])
        rules = [
            s3.LifecycleRule(
                id=f"expire-{one.name}", prefix=f"{one.name}/", expiration=cdk.Duration.days(one.expire_days)
            )
            for one in bucket.classes
            if one.expire_days is not None
        ]
        if bucket.abort_incomplete_days is not None:
            abort = cdk.Duration.days(bucket.abort_incomplete_days)
            rules.append(s3.LifecycleRule(id="abort-incomplete", abort_incomplete_multipart_upload_after=abort))
        if bucket.versioned and config.protection.old_versions_days:
            old = cdk.Duration.days(config.protection.old_versions_days)
            rules.append(s3.LifecycleRule(id="forget-old-versions", noncurrent_version_expiration=old))
        cors = s3.CorsRule(
            allowed_origins=list(self._origins),
            allowed_methods=[s3.HttpMethods[one] for one in bucket.cors_methods],
            allowed_headers=["*"],
            exposed_headers=list(bucket.cors_expose),
            max_age=CORS_MAX_AGE_S,
        )
        locked = bucket.versioned and config.protection.retention_days > 0
        made = s3.Bucket(
            self,
            f"Bucket-{bucket.name}",
            # Known before it is made, so that the page's policy can name it while the bucket names the page's origin.
            bucket_name=bucket_name(config, bucket.name),
            versioned=bucket.versioned,
            encryption=s3.BucketEncryption.KMS if self.key else s3.BucketEncryption.S3_MANAGED,
            encryption_key=self.key,
            bucket_key_enabled=True if self.key else None,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            object_lock_enabled=True if locked else None,
            object_lock_default_retention=s3.ObjectLockRetention.governance(
                cdk.Duration.days(config.protection.retention_days)
            )
            if locked
            else None,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            lifecycle_rules=rules,
            cors=[cors] if self._origins and bucket.cors_methods else None,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        if bucket.name in {rule.bucket for rule in topology.RULES}:
            # The L2 switch would bring a custom resource with a Lambda and wildcard permissions of its own.
            resource = made.node.default_child
            assert isinstance(resource, s3.CfnBucket)
            resource.add_property_override(
                "NotificationConfiguration", {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
            )
        # A signed URL that somebody kept: S3 looks at its expiry, this at its age (in milliseconds).
        made.add_to_resource_policy(
            iam.PolicyStatement(
                effect=iam.Effect.DENY,
                principals=[iam.AnyPrincipal()],
                actions=["s3:*"],
                resources=[made.arn_for_objects("*")],
                conditions={"NumericGreaterThan": {"s3:signatureAge": config.signature_age_max_s(bucket.name) * 1000}},
            )
        )
        cdk.Tags.of(made).add(BUCKET_TAG, bucket.name)
        return made

    def _table(self, table: topology.Table) -> dynamodb.ITable:
        def text(name: str) -> dynamodb.Attribute:
            return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)

        if self._config.existing.table:
            return dynamodb.Table.from_table_name(self, "Table", self._config.existing.table)
        made = dynamodb.Table(
            self,
            "Table",
            partition_key=text(table.partition_key),
            sort_key=text(table.sort_key),
            time_to_live_attribute=table.ttl_attribute,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED if self.key else None,
            encryption_key=self.key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=True,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        for index in table.indexes:
            made.add_global_secondary_index(
                index_name=index.name,
                partition_key=text(index.partition_key),
                sort_key=text(index.sort_key),
                projection_type=dynamodb.ProjectionType.KEYS_ONLY,
            )
        return made
