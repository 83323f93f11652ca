"""Functions that serve the deployment itself and are none of the system's: one small file each, and no layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra import topology
from infra.config import Config
from infra.constructs.handler import log_group, trace
from infra.constructs.layers import ARCHITECTURES, RUNTIMES
from infra.permissions import LOG, TRACE

INLINE = Path(__file__).resolve().parents[1] / "inline"


class InlineFunction(Construct):
    """``infra/inline/<name>.py`` with a role, a log group and nothing else; as ``.function``."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        name: str,
        code: lambda_.Code,
        handler: str,
        *,
        timeout_s: int,
        memory_mb: int = 128,
        environment: Mapping[str, str] | None = None,
        statements: Sequence[iam.PolicyStatement] = (),
    ) -> None:
        super().__init__(scope, construct_id)
        full_name = f"{config.deployment}-{name}"
        group = log_group(self, "Logs", f"/aws/lambda/{full_name}", config.log_retention_days)
        logs = iam.PolicyStatement(actions=list(LOG), resources=[group.log_group_arn])
        traces = [iam.PolicyStatement(actions=list(TRACE), resources=["*"])] if config.tracing else []
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"What {name} may call",
            inline_policies={"inline": iam.PolicyDocument(statements=[*statements, logs, *traces])},
        )
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=full_name,
            runtime=RUNTIMES[topology.RUNTIME],
            architecture=ARCHITECTURES[config.architecture],
            handler=handler,
            code=code,
            memory_size=memory_mb,
            timeout=cdk.Duration.seconds(timeout_s),
            environment=dict(environment or {}),
            role=role,
            log_group=group,
        )
        trace(self.function, config)


def source(name: str) -> lambda_.Code:
    """The file within the template: for functions whose handler is ``index.handler``."""
    return lambda_.Code.from_inline((INLINE / f"{name}.py").read_text())
