"""A function of the topology with what is its alone: role, log group, environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra import topology
from infra.config import Config
from infra.constructs.layers import ARCHITECTURES, LEFT_OUT, RUNTIMES, Layers
from infra.constructs.resources import Resources
from infra.permissions import KEY_SERVICES, LOG, POLL, TRACE, key_actions

FUNCTIONS_DIR = Path(__file__).resolve().parents[2] / "functions"
_DAYS = {
    1: "ONE_DAY", 3: "THREE_DAYS", 5: "FIVE_DAYS", 7: "ONE_WEEK", 14: "TWO_WEEKS", 30: "ONE_MONTH", 60: "TWO_MONTHS",
    90: "THREE_MONTHS", 120: "FOUR_MONTHS", 150: "FIVE_MONTHS", 180: "SIX_MONTHS", 365: "ONE_YEAR",
    400: "THIRTEEN_MONTHS", 545: "EIGHTEEN_MONTHS", 731: "TWO_YEARS", 1096: "THREE_YEARS", 1827: "FIVE_YEARS",
    2192: "SIX_YEARS", 2557: "SEVEN_YEARS", 2922: "EIGHT_YEARS", 3288: "NINE_YEARS", 3653: "TEN_YEARS",
}  # fmt: skip


def log_group(scope: Construct, construct_id: str, name: str, days: int) -> logs.LogGroup:
    """A log group that ends with its stack and forgets after ``days``."""
    return logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        retention=logs.RetentionDays[_DAYS[days]],
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )


def trace(function: lambda_.Function, config: Config) -> None:
    """Active tracing. The L2 switch would add a policy of its own beside the written ones."""
    resource = function.node.default_child
    assert isinstance(resource, lambda_.CfnFunction)
    if config.tracing:
        resource.tracing_config = lambda_.CfnFunction.TracingConfigProperty(mode="Active")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all functions of a stack share."""

    config: Config
    layers: Layers
    resources: Resources


class Handler(Construct):
    """The function, as ``.function``. Its role is made of written statements: no managed policy, no grant."""

    def __init__(
        self, scope: Construct, construct_id: str, function: topology.Function, surroundings: Surroundings
    ) -> None:
        super().__init__(scope, construct_id)
        config, resources = surroundings.config, surroundings.resources
        name = f"{config.deployment}-{function.name}"
        group = log_group(self, "Logs", f"/aws/lambda/{name}", config.log_retention_days)
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"What {function.name} may call",
            # Inline, so that a function never exists without its permissions.
            inline_policies={
                "topology": iam.PolicyDocument(statements=self._statements(function, config, resources, group))
            },
        )
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=name,
            runtime=RUNTIMES[topology.RUNTIME],
            architecture=ARCHITECTURES[config.architecture],
            handler="handler.handler",
            code=lambda_.Code.from_asset(str(FUNCTIONS_DIR / function.name), exclude=LEFT_OUT),
            memory_size=function.memory_mb,
            timeout=cdk.Duration.seconds(function.timeout_s),
            ephemeral_storage_size=cdk.Size.mebibytes(function.ephemeral_mb),
            layers=surroundings.layers.of(function),
            environment=self._environment(function, config, resources),
            recursive_loop=lambda_.RecursiveLoop[function.recursive_loop.upper()],
            reserved_concurrent_executions=function.concurrency_reserved,
            role=self.role,
            log_group=group,
        )
        trace(self.function, config)

    @staticmethod
    def _environment(function: topology.Function, config: Config, resources: Resources) -> dict[str, str]:
        told = {
            **topology.LIBRARY_ENVIRONMENT,
            "POWERTOOLS_SERVICE_NAME": function.name,
            **topology.ENVIRONMENT,
            **function.environment,
            **config.settings,
        }
        return {name: resources.text(value) for name, value in told.items()}

    @staticmethod
    def _statements(
        function: topology.Function, config: Config, resources: Resources, group: logs.LogGroup
    ) -> Sequence[iam.PolicyStatement]:
        def allow(actions: Sequence[str], arns: Sequence[str], **conditions: object) -> iam.PolicyStatement:
            return iam.PolicyStatement(actions=list(actions), resources=list(arns), conditions=conditions or None)

        statements = [allow(one.actions, [resources.arn(name) for name in one.resources]) for one in function.allows]
        if function.source:
            statements.append(allow(POLL, [resources.queues[function.source.queue].queue_arn]))
        # The group's ARN ends on ":*", its streams; nothing narrower can be named before a sandbox exists.
        statements.append(allow(LOG, [group.log_group_arn]))
        if config.tracing:
            statements.append(allow(TRACE, ["*"]))
        if resources.key_arn and (actions := key_actions(function.allows)):
            # Only through the services that hold our data, never by itself.
            via = [f"{service}.{cdk.Aws.REGION}.{cdk.Aws.URL_SUFFIX}" for service in KEY_SERVICES]
            statements.append(allow(actions, [resources.key_arn], StringEquals={"kms:ViaService": via}))
        return statements
