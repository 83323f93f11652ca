"""The HTTP API: a route for each of the topology's, a JWT authorizer on all but those named without one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_apigatewayv2_authorizers as authorizers
from aws_cdk import aws_apigatewayv2_integrations as integrations
from constructs import Construct

from infra import topology
from infra.config import Config
from infra.constructs.handler import Handler, Surroundings, log_group
from infra.constructs.layers import Layers, names_of
from infra.constructs.resources import Resources

# One line a request. No path, query, address or user: ids and names stay in the table.
ACCESS_LOG = {
    "request": "$context.requestId",
    "route": "$context.routeKey",
    "status": "$context.status",
    "latency_ms": "$context.responseLatency",
    "bytes": "$context.responseLength",
    "error": "$context.error.messageString",
    "integration_error": "$context.integrationErrorMessage",
}


class ApiStack(cdk.Stack):
    """API, authorizer, routes and the functions behind them. Output ``ApiUrl``."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        resources: Resources,
        layer_dirs: Mapping[str, Path],
        **stack: Any,
    ) -> None:
        super().__init__(scope, construct_id, **stack)
        self._api = apigateway.HttpApi(
            self,
            "Api",
            api_name=config.deployment,
            cors_preflight=self._cors(config) if config.origins else None,
            create_default_stage=True,
        )
        self._log_access(config)
        jwt = authorizers.HttpJwtAuthorizer(
            "Jwt", config.jwt_issuer, authorizer_name="jwt", jwt_audience=list(config.jwt_audience)
        )
        functions = [one for one in topology.FUNCTIONS if one.routes]
        layers = Layers(self, "Layers", config.deployment, layer_dirs, names_of(functions))
        surroundings = Surroundings(config, layers, resources)
        for function in functions:
            self._serve(function, surroundings, jwt)
        cdk.CfnOutput(self, "ApiUrl", value=self._api.api_endpoint, description="Where clients send /v1/...")

    @staticmethod
    def _cors(config: Config) -> apigateway.CorsPreflightOptions:
        return apigateway.CorsPreflightOptions(
            allow_origins=list(config.origins),
            allow_methods=[apigateway.CorsHttpMethod[one] for one in topology.API_CORS_METHODS],
            allow_headers=list(topology.API_CORS_HEADERS),
            expose_headers=list(topology.API_CORS_EXPOSE),
            max_age=cdk.Duration.seconds(topology.API_CORS_MAX_AGE_S),
        )

    def _log_access(self, config: Config) -> None:
        # Under this prefix the service's permission to write is one policy, however many groups there are.
        name = f"/aws/vendedlogs/{config.deployment}-api"
        group = log_group(self, "AccessLogs", name, config.log_retention_days)
        stage = self._api.default_stage
        assert stage is not None
        resource = stage.node.default_child
        assert isinstance(resource, apigateway.CfnStage)
        resource.access_log_settings = apigateway.CfnStage.AccessLogSettingsProperty(
            destination_arn=group.log_group_arn, format=self.to_json_string(ACCESS_LOG)
        )

    def _serve(
        self, function: topology.Function, surroundings: Surroundings, jwt: authorizers.HttpJwtAuthorizer
    ) -> None:
        handler = Handler(self, f"Handler-{function.name}", function, surroundings)
        integration = integrations.HttpLambdaIntegration(
            f"Integration-{function.name}",
            handler.function,
            payload_format_version=apigateway.PayloadFormatVersion.VERSION_2_0,
        )
        for route in function.routes:
            self._api.add_routes(
                path=route.path,
                methods=[apigateway.HttpMethod[route.method]],
                integration=integration,
                authorizer=apigateway.HttpNoneAuthorizer() if route.scope is None else jwt,
                authorization_scopes=None if route.scope is None else [route.scope],
            )
