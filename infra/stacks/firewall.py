"""The web ACL of the distribution. CloudFront takes one from us-east-1 only, so it is a stack of its own, there."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_wafv2 as waf
from constructs import Construct

from infra.config import Config

REGION = "us-east-1"
OUTPUT = "WebAclArn"
# One address within five minutes. The API's own limit is per second and for all; uploads go to S3, past this.
CALLS_PER_ADDRESS = 6_000
# AWS's groups and, of each, the rules that only count: bodies of ours are larger than the 8 KB that WAF likes
# (a manifest's page has up to a megabyte, STOW-RS four), and they hold names of files, which may look like anything.
GROUPS = {
    "AWSManagedRulesCommonRuleSet": ("SizeRestrictions_BODY", "CrossSiteScripting_BODY", "GenericLFI_BODY"),
    "AWSManagedRulesKnownBadInputsRuleSet": (),
    "AWSManagedRulesAmazonIpReputationList": (),
}


class FirewallStack(cdk.Stack):
    """Output ``WebAclArn``."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, **stack: Any) -> None:
        super().__init__(scope, construct_id, **stack)
        acl = waf.CfnWebACL(
            self,
            "Acl",
            name=config.deployment,
            scope="CLOUDFRONT",
            default_action=waf.CfnWebACL.DefaultActionProperty(allow={}),
            visibility_config=self._seen(config.deployment),
            rules=[
                waf.CfnWebACL.RuleProperty(
                    name="rate",
                    priority=0,
                    action=waf.CfnWebACL.RuleActionProperty(block={}),
                    statement=waf.CfnWebACL.StatementProperty(
                        rate_based_statement=waf.CfnWebACL.RateBasedStatementProperty(
                            limit=CALLS_PER_ADDRESS, aggregate_key_type="IP"
                        )
                    ),
                    visibility_config=self._seen("rate"),
                ),
                *(self._group(n, name, counted) for n, (name, counted) in enumerate(GROUPS.items(), 1)),
            ],
        )
        cdk.CfnOutput(self, OUTPUT, value=acl.attr_arn, description="The distribution's web ACL")

    @staticmethod
    def _seen(name: str) -> waf.CfnWebACL.VisibilityConfigProperty:
        # Samples would keep requests, with their tokens and tickets, for three hours.
        return waf.CfnWebACL.VisibilityConfigProperty(
            cloud_watch_metrics_enabled=True, metric_name=name, sampled_requests_enabled=False
        )

    def _group(self, priority: int, name: str, counted: tuple[str, ...]) -> waf.CfnWebACL.RuleProperty:
        return waf.CfnWebACL.RuleProperty(
            name=name,
            priority=priority,
            override_action=waf.CfnWebACL.OverrideActionProperty(none={}),
            statement=waf.CfnWebACL.StatementProperty(
                managed_rule_group_statement=waf.CfnWebACL.ManagedRuleGroupStatementProperty(
                    vendor_name="AWS",
                    name=name,
                    rule_action_overrides=[
                        waf.CfnWebACL.RuleActionOverrideProperty(
                            name=rule, action_to_use=waf.CfnWebACL.RuleActionProperty(count={})
                        )
                        for rule in counted
                    ]
                    or None,
                )
            ),
            visibility_config=self._seen(name),
        )
