"""The API's routes: one for each of the topology's, a JWT authorizer on all but those named without one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra import topology
from infra.config import Config
from infra.constructs.handler import Handler, Surroundings
from infra.constructs.layers import Layers, names_of
from infra.constructs.resources import Resources
from infra.stacks.front import FrontStack


class ApiStack(cdk.Stack):
    """Authorizer, integrations, routes and the functions behind them; ``handlers`` by function."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        front: FrontStack,
        resources: Resources,
        layer_dirs: Mapping[str, Path],
        **stack: Any,
    ) -> None:
        super().__init__(scope, construct_id, **stack)
        self._api_id = front.api.ref
        issuer = front.issuer
        self._jwt = apigateway.CfnAuthorizer(
            self,
            "Jwt",
            api_id=self._api_id,
            authorizer_type="JWT",
            name="jwt",
            identity_source=["$request.header.Authorization"],
            jwt_configuration=apigateway.CfnAuthorizer.JWTConfigurationProperty(
                issuer=issuer.url,
                audience=[*issuer.audience, *(config.identity.audience if config.identity.made else ())],
            ),
        )
        functions = [one for one in topology.FUNCTIONS if one.routes]
        layers = Layers(self, "Layers", config, layer_dirs, names_of(functions))
        surroundings = Surroundings(config, layers, resources)
        self.handlers = {one.name: Handler(self, f"Handler-{one.name}", one, surroundings) for one in functions}
        for function in functions:
            self._serve(function, self.handlers[function.name])

    def _serve(self, function: topology.Function, handler: Handler) -> None:
        integration = apigateway.CfnIntegration(
            self,
            f"Integration-{function.name}",
            api_id=self._api_id,
            integration_type="AWS_PROXY",
            integration_uri=handler.function.function_arn,
            payload_format_version="2.0",
        )
        for route in function.routes:
            name = f"{route.method} {route.path}"
            apigateway.CfnRoute(
                self,
                f"Route {name.replace('/', '.')}",
                api_id=self._api_id,
                route_key=name,
                target=f"integrations/{integration.ref}",
                authorization_type="NONE" if route.scope is None else "JWT",
                authorizer_id=None if route.scope is None else self._jwt.ref,
                authorization_scopes=None if route.scope is None else [route.scope],
            )
            # A permission for each route: the API can be made to call a function by none but its own.
            lambda_.CfnPermission(
                self,
                f"MayCall {name.replace('/', '.')}",
                action="lambda:InvokeFunction",
                function_name=handler.function.function_arn,
                principal="apigateway.amazonaws.com",
                source_arn=self.format_arn(
                    service="execute-api",
                    resource=self._api_id,
                    resource_name=f"*/{route.method}{route.path}",
                ),
            )
