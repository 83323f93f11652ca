"""What must survive everything else: the buckets and the table."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra import topology
from infra.config import Config
from infra.constructs.scanner import Scanner

BUCKET_TAG = "heavylift:bucket"
CORS_MAX_AGE_S = 3000  # how long a browser may remember a preflight's answer


class StorageStack(cdk.Stack):
    """``buckets`` by their names in the topology, and ``table``. Kept when the stack goes."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, **stack: Any) -> None:
        super().__init__(scope, construct_id, termination_protection=True, **stack)
        watched = {rule.bucket for rule in topology.RULES}
        self.buckets = {one.name: self._bucket(one, config, one.name in watched) for one in topology.BUCKETS}
        self.table = self._table(topology.TABLE)
        if topology.scanning(config.settings):
            for name in sorted({rule.bucket for rule in topology.SCAN_RULES}):
                prefixes = [rule.prefix for rule in topology.SCAN_RULES if rule.bucket == name]
                Scanner(self, f"Scanner-{name}", self.buckets[name], prefixes)

    def _bucket(self, bucket: topology.Bucket, config: Config, watched: bool) -> s3.Bucket:
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
        cors = s3.CorsRule(
            allowed_origins=list(config.origins),
            allowed_methods=[s3.HttpMethods[one] for one in bucket.cors_methods],
            allowed_headers=["*"],
            exposed_headers=list(bucket.cors_expose),
            max_age=CORS_MAX_AGE_S,
        )
        made = s3.Bucket(
            self,
            f"Bucket-{bucket.name}",
            versioned=bucket.versioned,
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            lifecycle_rules=rules,
            cors=[cors] if config.origins and bucket.cors_methods else None,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        if watched:
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

    def _table(self, table: topology.Table) -> dynamodb.Table:
        def text(name: str) -> dynamodb.Attribute:
            return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)

        made = dynamodb.Table(
            self,
            "Table",
            partition_key=text(table.partition_key),
            sort_key=text(table.sort_key),
            time_to_live_attribute=table.ttl_attribute,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
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
