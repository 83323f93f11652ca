"""What tells a person: alarms, where they ring, one dashboard, the budget, and our events' schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_eventschemas as schemas
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.alarms import API_ID, Alarm, Metric, alarms
from infra.config import Config
from infra.dashboard import Panel, panels

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "events"
BUDGET_PERCENT = (80, 100)
WIDTH, HEIGHT = 8, 6  # three panels beside each other


class ObservabilityStack(cdk.Stack):
    """Output ``AlarmTopic``: whoever subscribes is told; the stage's mail addresses are subscribed."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, api_id: str, **stack: Any) -> None:
        super().__init__(scope, construct_id, **stack)
        self._config, self._api_id = config, api_id
        self._topic = self._make_topic()
        for alarm in alarms(config.deployment):
            self._alarm(alarm)
        self._dashboard()
        if config.alarms.budget_usd:
            self._budget()
        self._schemas()
        cdk.CfnOutput(self, "AlarmTopic", value=self._topic.topic_arn)

    def _make_topic(self) -> sns.Topic:
        # Not encrypted by a key: CloudWatch could not ring then without one of its own, and an alarm holds no data.
        topic = sns.Topic(self, "Alarms", topic_name=f"{self._config.deployment}-alarms", enforce_ssl=True)
        for service in ("cloudwatch", *(("budgets",) if self._config.alarms.budget_usd else ())):
            topic.add_to_resource_policy(
                iam.PolicyStatement(
                    principals=[iam.ServicePrincipal(f"{service}.amazonaws.com")],
                    actions=["sns:Publish"],
                    resources=[topic.topic_arn],
                    conditions={"StringEquals": {"aws:SourceAccount": self.account}},
                )
            )
        for n, mail in enumerate(self._config.alarms.mail):
            sns.CfnSubscription(self, f"Mail-{n}", topic_arn=topic.topic_arn, protocol="email", endpoint=mail)
        return topic

    def _metric(self, metric: Metric, period_s: int) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=metric.namespace,
            metric_name=metric.name,
            dimensions_map={name: self._api_id if value == API_ID else value for name, value in metric.dimensions},
            statistic=metric.statistic,
            period=cdk.Duration.seconds(period_s),
        )

    def _value(self, alarm: Alarm) -> cloudwatch.IMetric:
        metrics = [self._metric(one, alarm.period_s) for one in alarm.metrics]
        if not alarm.expression:
            return metrics[0]
        return cloudwatch.MathExpression(
            expression=alarm.expression,
            using_metrics={f"m{n}": one for n, one in enumerate(metrics)},
            period=cdk.Duration.seconds(alarm.period_s),
            label=alarm.name,
        )

    def _alarm(self, alarm: Alarm) -> None:
        operators, missing = cloudwatch.ComparisonOperator, cloudwatch.TreatMissingData
        made = cloudwatch.Alarm(
            self,
            f"Alarm-{alarm.name}",
            alarm_name=f"{self._config.deployment}-{alarm.name}",
            alarm_description=f"{alarm.words} (docs/operations.md: {alarm.kind})",
            metric=self._value(alarm),
            threshold=alarm.threshold,
            evaluation_periods=alarm.periods,
            comparison_operator=operators.LESS_THAN_THRESHOLD if alarm.below else operators.GREATER_THAN_THRESHOLD,
            treat_missing_data=missing.BREACHING if alarm.below else missing.NOT_BREACHING,
        )
        resource = made.node.default_child
        assert isinstance(resource, cloudwatch.CfnAlarm)
        resource.alarm_actions = resource.ok_actions = [self._topic.topic_arn]

    def _dashboard(self) -> None:
        board = cloudwatch.Dashboard(self, "Dashboard", dashboard_name=self._config.deployment)
        made = [self._panel(one) for one in panels(self._config.deployment)]
        for start in range(0, len(made), 3):
            board.add_widgets(*made[start : start + 3])

    def _panel(self, panel: Panel) -> cloudwatch.GraphWidget:
        return cloudwatch.GraphWidget(
            title=panel.title,
            left=[
                cloudwatch.MathExpression(expression=expression, using_metrics={}, label=label)
                if expression
                else self._metric(metric, 300).with_(label=label)
                for label, expression, metric in panel.series
            ],
            width=WIDTH,
            height=HEIGHT,
        )

    def _budget(self) -> None:
        of = budgets.CfnBudget
        budgets.CfnBudget(
            self,
            "Budget",
            budget=of.BudgetDataProperty(
                budget_name=self._config.deployment,
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=of.SpendProperty(amount=self._config.alarms.budget_usd, unit="USD"),
            ),
            notifications_with_subscribers=[
                of.NotificationWithSubscribersProperty(
                    notification=of.NotificationProperty(
                        comparison_operator="GREATER_THAN",
                        notification_type="FORECASTED" if percent == 100 else "ACTUAL",
                        threshold=percent,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[of.SubscriberProperty(subscription_type="SNS", address=self._topic.topic_arn)],
                )
                for percent in BUDGET_PERCENT
            ],
        )

    def _schemas(self) -> None:
        """Our events in EventBridge's registry, where editors make types of them: docs/events/ wrapped as OpenAPI."""
        registry = schemas.CfnRegistry(
            self,
            "Events",
            registry_name=self._config.deployment,
            description="What the functions tell on the default bus (docs/events.md)",
        )
        for path in sorted(SCHEMAS.glob("*.v*.schema.json")):
            name = path.name.removesuffix(".schema.json")
            schemas.CfnSchema(
                self,
                f"Schema-{name}",
                registry_name=registry.attr_registry_name,
                schema_name=f"heavylift@{name}",
                type="JSONSchemaDraft4",
                content=json.dumps(draft4(json.loads(path.read_text())), separators=(",", ":")),
            )


def draft4(schema: Any) -> Any:
    """A schema of ours (draft 2020-12) in the words of draft 4, the only JSON Schema that the registry takes."""
    if isinstance(schema, list):
        return [draft4(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {}
    for key, value in schema.items():
        if key == "$schema":
            made[key] = "http://json-schema.org/draft-04/schema#"
        elif key == "$id":
            made["id"] = value
        elif key == "const":
            made["enum"] = [value]
        else:
            made[key] = draft4(value)
    return made
