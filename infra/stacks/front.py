"""What clients meet: the API's address and its throttle, the page with its distribution, and who signs the tokens.

First of all stacks, because the buckets must know the page's origin and the routes come when their functions are there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_apigatewayv2 as apigateway
from constructs import Construct

from infra import topology
from infra.config import Config
from infra.constructs.handler import log_group
from infra.constructs.identity import Identity, Issuer, cognito_origins
from infra.constructs.names import bucket_origin
from infra.constructs.page import Page
from infra.stacks import firewall

# One line a request. No path, query, address or user: ids and names stay in the table, tickets are in paths.
ACCESS_LOG = {
    "request": "$context.requestId",
    "route": "$context.routeKey",
    "status": "$context.status",
    "latency_ms": "$context.responseLatency",
    "bytes": "$context.responseLength",
    "error": "$context.error.messageString",
    "integration_error": "$context.integrationErrorMessage",
}


class FrontStack(cdk.Stack):
    """``api``, ``issuer`` and ``origins`` (the pages that buckets let in) for the stacks after it."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, web: Path, **stack: Any) -> None:
        super().__init__(scope, construct_id, **stack)
        self._config = config
        self.api = self._api()
        self._stage()
        host = f"{self.api.ref}.execute-api.{cdk.Aws.REGION}.{cdk.Aws.URL_SUFFIX}"
        if config.api.domain:
            self._domain()
            host = config.api.domain
        page = self._page(host, web) if config.page.enabled else None
        self.issuer = self._issuer(page.origin if page else None)
        if page:
            page.finish(self.issuer)
        self.origins = (*((page.origin,) if page else ()), *config.origins)
        outputs = {"ApiUrl": page.origin if page else f"https://{host}"}
        if page:
            outputs |= {"PageUrl": page.origin, "DistributionDomain": page.distribution.distribution_domain_name}
        for name, value in outputs.items():
            cdk.CfnOutput(self, name, value=value)

    def _api(self) -> apigateway.CfnApi:
        config = self._config
        cors = apigateway.CfnApi.CorsProperty(
            allow_origins=list(config.origins),
            allow_methods=list(topology.API_CORS_METHODS),
            allow_headers=list(topology.API_CORS_HEADERS),
            expose_headers=list(topology.API_CORS_EXPOSE),
            max_age=topology.API_CORS_MAX_AGE_S,
        )
        return apigateway.CfnApi(
            self,
            "Api",
            name=config.deployment,
            protocol_type="HTTP",
            # The page has the API's own origin and needs none.
            cors_configuration=cors if config.origins else None,
            # Where a firewall guards the distribution, nobody may walk around it.
            disable_execute_api_endpoint=config.protection.firewall or None,
        )

    def _stage(self) -> None:
        config = self._config
        # Under this prefix the service's permission to write is one policy, however many groups there are.
        name = f"/aws/vendedlogs/{config.deployment}-api"
        group = log_group(self, "AccessLogs", name, config.log_retention_days)
        self.stage = apigateway.CfnStage(
            self,
            "Stage",
            api_id=self.api.ref,
            stage_name="$default",
            auto_deploy=True,
            access_log_settings=apigateway.CfnStage.AccessLogSettingsProperty(
                destination_arn=group.log_group_arn, format=self.to_json_string(ACCESS_LOG)
            ),
            default_route_settings=apigateway.CfnStage.RouteSettingsProperty(
                throttling_rate_limit=config.api.calls_per_second,
                throttling_burst_limit=config.api.calls_at_once,
                detailed_metrics_enabled=True,
            ),
        )

    def _domain(self) -> None:
        domain = apigateway.CfnDomainName(
            self,
            "Domain",
            domain_name=self._config.api.domain,
            domain_name_configurations=[
                apigateway.CfnDomainName.DomainNameConfigurationProperty(
                    certificate_arn=self._config.api.certificate,
                    endpoint_type="REGIONAL",
                    security_policy="TLS_1_2",
                )
            ],
        )
        mapping = apigateway.CfnApiMapping(
            self, "Mapping", api_id=self.api.ref, domain_name=domain.ref, stage=self.stage.ref
        )
        mapping.node.add_dependency(self.stage)
        cdk.CfnOutput(
            self, "ApiDomainTarget", value=domain.attr_regional_domain_name, description="CNAME of the API's own domain"
        )

    def _page(self, host: str, web: Path) -> Page:
        config = self._config
        buckets = [bucket_origin(config, one.name) for one in topology.BUCKETS]
        if config.identity.made:
            issuers: tuple[str, ...] = cognito_origins(config)
        else:
            issuers = (origin_of(config.identity.issuer),)
        acl = None
        if config.protection.firewall:
            acl = cdk.Fn.get_stack_output(f"{config.deployment}-firewall", firewall.OUTPUT, firewall.REGION)
        return Page(self, "Page", config, host, web, buckets, issuers, acl)

    def _issuer(self, page_origin: str | None) -> Issuer:
        told = self._config.identity
        if not told.made:
            return Issuer(told.issuer, told.audience, told.client_id)
        identity = Identity(self, "Identity", self._config, page_origin)
        for name, value in identity.outputs.items():
            cdk.CfnOutput(self, name, value=value)
        return identity.issuer


def origin_of(url: str) -> str:
    """scheme://host[:port] of an address."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"
