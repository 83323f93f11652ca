"""The back-fill's state machine with a role that may list the store, call one function and write its results."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra import backfill
from infra.config import Config
from infra.constructs.handler import Handler
from infra.constructs.resources import Resources
from infra.permissions import TRACE


class BackfillStack(cdk.Stack):
    """Output ``Backfill``, the machine's ARN; nothing starts it but a person."""

    def __init__(
        self, scope: Construct, construct_id: str, config: Config, resources: Resources, handler: Handler, **stack: Any
    ) -> None:
        super().__init__(scope, construct_id, **stack)
        name = f"{config.deployment}-backfill"
        store, derived = resources.buckets["store"], resources.buckets["derived"]
        # By its name, as an ARN of the function would be an export, which its next change could not pass.
        function = self.format_arn(
            service="lambda",
            resource="function",
            resource_name=f"{config.deployment}-{backfill.target().name}",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        machine = self.format_arn(
            service="states",
            resource="stateMachine",
            resource_name=name,
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        results = derived.arn_for_objects(f"{backfill.RESULTS}/*")

        def allow(actions: list[str], resource: str, **conditions: Any) -> iam.PolicyStatement:
            return iam.PolicyStatement(actions=actions, resources=[resource], conditions=conditions or None)

        statements = [
            allow(["s3:ListBucket"], store.bucket_arn),
            allow(["lambda:InvokeFunction"], function),
            allow(["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"], results),
            # The children of a Distributed Map are executions of the machine itself.
            allow(["states:StartExecution"], machine),
        ]
        if config.tracing:
            statements.append(allow([*TRACE, "xray:GetSamplingRules", "xray:GetSamplingTargets"], "*"))
        if resources.key_arn:
            via = f"s3.{cdk.Aws.REGION}.{cdk.Aws.URL_SUFFIX}"
            statements.append(
                allow(
                    ["kms:Decrypt", "kms:GenerateDataKey"],
                    resources.key_arn,
                    StringEquals={"kms:ViaService": via},
                )
            )
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("states.amazonaws.com"),
            description="What a back-fill may do",
            inline_policies={"backfill": iam.PolicyDocument(statements=statements)},
        )
        made = sfn.CfnStateMachine(
            self,
            "Machine",
            state_machine_name=name,
            state_machine_type="STANDARD",
            role_arn=role.role_arn,
            definition=backfill.definition(
                store.bucket_name,
                derived.bucket_name,
                function,
                config.settings.get("TENANT_CLAIM") or "tenant",
            ),
            tracing_configuration=sfn.CfnStateMachine.TracingConfigurationProperty(enabled=config.tracing),
        )
        self.add_stack_dependency(cdk.Stack.of(handler))
        self.machine = made
        cdk.CfnOutput(self, "Backfill", value=made.ref)
