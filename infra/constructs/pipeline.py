"""One lane: rules -> queue (+ dead letters) -> function. And the other way to run without a caller: a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra import topology
from infra.constructs.handler import Handler, Surroundings


class Pipeline(Construct):
    """Rules, queue, dead-letter queues, and after ``run`` the function with its role, log group and event source.

    In two steps, because the functions of all lanes are told the queues of all lanes.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        queue: topology.Queue,
        rules: Sequence[topology.Rule],
        buckets: Mapping[str, s3.IBucket],
        deployment: str,
    ) -> None:
        super().__init__(scope, construct_id)
        self._deployment = deployment
        # Messages that the function gave up on, and events that never reached the queue.
        self.dead_letters = self._dead("DeadLetters", f"{queue.name}-dlq", queue)
        self.undelivered = self._dead("Undelivered", f"{queue.name}-delivery-dlq", queue) if rules else None
        self.queue = sqs.Queue(
            self,
            "Queue",
            queue_name=f"{deployment}-{queue.name}",
            visibility_timeout=cdk.Duration.seconds(queue.visibility_s),
            retention_period=cdk.Duration.days(queue.retention_days),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=queue.receive_count_max),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
        )
        for rule in rules:
            self._rule(rule, buckets[rule.bucket])

    def _dead(self, construct_id: str, name: str, queue: topology.Queue) -> sqs.Queue:
        return sqs.Queue(
            self,
            construct_id,
            queue_name=f"{self._deployment}-{name}",
            retention_period=cdk.Duration.days(queue.dlq_retention_days),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
        )

    def _rule(self, rule: topology.Rule, bucket: s3.IBucket) -> None:
        assert self.undelivered is not None
        made = events.CfnRule(
            self,
            f"Rule-{rule.name}",
            name=f"{self._deployment}-{rule.name}",
            description=f"Objects under {rule.prefix} of {rule.bucket} go to {rule.queue}",
            event_pattern=rule.pattern(bucket.bucket_name),
            state="ENABLED",
            targets=[
                events.CfnRule.TargetProperty(
                    id=rule.queue,
                    arn=self.queue.queue_arn,
                    dead_letter_config=events.CfnRule.DeadLetterConfigProperty(arn=self.undelivered.queue_arn),
                    retry_policy=events.CfnRule.RetryPolicyProperty(
                        maximum_retry_attempts=rule.retries_max, maximum_event_age_in_seconds=rule.retry_hours * 3600
                    ),
                )
            ],
        )
        for queue in (self.queue, self.undelivered):
            queue.add_to_resource_policy(
                iam.PolicyStatement(
                    principals=[iam.ServicePrincipal("events.amazonaws.com")],
                    actions=["sqs:SendMessage"],
                    resources=[queue.queue_arn],
                    conditions={"ArnEquals": {"aws:SourceArn": made.attr_arn}},
                )
            )

    def run(self, function: topology.Function, surroundings: Surroundings) -> None:
        """The function at the queue's end; a message fails alone (ReportBatchItemFailures)."""
        assert function.source is not None
        self.handler = Handler(self, "Handler", function, surroundings)
        lambda_.EventSourceMapping(
            self,
            "Source",
            target=self.handler.function,
            event_source_arn=self.queue.queue_arn,
            batch_size=function.source.batch_size,
            max_batching_window=cdk.Duration.seconds(function.source.batch_window_s),
            max_concurrency=function.source.concurrency_max,
            report_batch_item_failures=True,
        )


class Scheduled(Construct):
    """A function that runs every so many minutes. A run that fails is not tried again: the next one comes."""

    def __init__(
        self, scope: Construct, construct_id: str, function: topology.Function, surroundings: Surroundings
    ) -> None:
        super().__init__(scope, construct_id)
        assert function.schedule_minutes is not None
        period = cdk.Duration.minutes(function.schedule_minutes)
        self.handler = Handler(self, "Handler", function, surroundings)
        # Two runs of one tick, or late ticks in a row, would only find the work done.
        self.handler.function.configure_async_invoke(retry_attempts=0, max_event_age=period)
        rule = events.CfnRule(
            self,
            "Schedule",
            name=f"{surroundings.config.deployment}-{function.name}",
            description=f"Runs {function.name}",
            schedule_expression=events.Schedule.rate(period).expression_string,
            state="ENABLED",
            targets=[
                events.CfnRule.TargetProperty(
                    id=function.name,
                    arn=self.handler.function.function_arn,
                    retry_policy=events.CfnRule.RetryPolicyProperty(
                        maximum_retry_attempts=0, maximum_event_age_in_seconds=int(period.to_seconds())
                    ),
                )
            ],
        )
        lambda_.CfnPermission(
            self,
            "MayRun",
            action="lambda:InvokeFunction",
            function_name=self.handler.function.function_arn,
            principal="events.amazonaws.com",
            source_arn=rule.attr_arn,
        )
