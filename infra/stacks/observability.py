"""What tells a person: for now, that something lies in a dead-letter queue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.config import Config
from infra.constructs.pipeline import Pipeline


class ObservabilityStack(cdk.Stack):
    """An alarm for each dead-letter queue: nothing consumes one, so whatever lies there waits for a decision."""

    def __init__(
        self, scope: Construct, construct_id: str, config: Config, pipelines: Iterable[Pipeline], **stack: Any
    ) -> None:
        super().__init__(scope, construct_id, **stack)
        for pipeline in pipelines:
            self._alarm(pipeline.dead_letters, f"Dead-{pipeline.node.id}", config)
            if pipeline.undelivered is not None:
                self._alarm(pipeline.undelivered, f"Undelivered-{pipeline.node.id}", config)

    def _alarm(self, queue: sqs.IQueue, construct_id: str, config: Config) -> None:
        cloudwatch.CfnAlarm(
            self,
            construct_id,
            alarm_description=f"{config.deployment}: messages wait for a decision in a dead-letter queue",
            namespace="AWS/SQS",
            metric_name="ApproximateNumberOfMessagesVisible",
            dimensions=[cloudwatch.CfnAlarm.DimensionProperty(name="QueueName", value=queue.queue_name)],
            statistic="Maximum",
            period=300,
            evaluation_periods=1,
            threshold=0,
            comparison_operator="GreaterThanThreshold",
            treat_missing_data="notBreaching",
        )
