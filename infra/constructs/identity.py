"""The user pool, where the deployment has one of its own: people, groups, two clients and what is in their tokens."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_cognito as cognito
from constructs import Construct

from infra import topology
from infra.config import Config
from infra.constructs.inline import InlineFunction, source

# A group is what its people may do; infra/inline/access_token.py turns it into scopes.
GROUPS = {
    "reader": "may look and download",
    "writer": "may also upload, retry and delete",
    "admin": "may do all that the API offers",
}
ACCESS_TOKEN_MINUTES = 60
# A day at work; then somebody signs in again.
REFRESH_TOKEN_HOURS = 12
PASSWORD_LENGTH_MIN = 14
TEMPORARY_PASSWORD_DAYS = 3


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens the API takes, and how the page signs in."""

    url: str
    audience: tuple[str, ...]
    client_id: str
    scope: str = "openid heavylift/read heavylift/write"
    sign_out_url: str = ""


def _prefix(config: Config) -> str:
    return f"{config.deployment}-{cdk.Aws.ACCOUNT_ID}"


def cognito_origins(config: Config) -> tuple[str, str]:
    """Whom the page asks for the pool's configuration and keys, and for its tokens; known before the pool is there."""
    return (
        f"https://cognito-idp.{cdk.Aws.REGION}.amazonaws.com",
        f"https://{_prefix(config)}.auth.{cdk.Aws.REGION}.amazoncognito.com",
    )


class Identity(Construct):
    """``issuer`` for page and API. Nobody signs up; the tenant is an attribute that no client may write."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, page_origin: str | None) -> None:
        super().__init__(scope, construct_id)
        self._pool = cognito.UserPool(
            self,
            "Users",
            user_pool_name=config.deployment,
            feature_plan=cognito.FeaturePlan.ESSENTIALS,  # the cheapest that lets a trigger shape access tokens
            self_sign_up_enabled=False,
            sign_in_aliases=cognito.SignInAliases(email=True),
            auto_verify=cognito.AutoVerifiedAttrs(email=True),
            standard_attributes=cognito.StandardAttributes(
                email=cognito.StandardAttribute(required=True, mutable=True)
            ),
            custom_attributes={
                "tenant": cognito.StringAttribute(min_len=1, max_len=63, mutable=True),
                "facility": cognito.StringAttribute(max_len=256, mutable=True),
            },
            password_policy=cognito.PasswordPolicy(
                min_length=PASSWORD_LENGTH_MIN,
                require_digits=True,
                require_lowercase=True,
                require_uppercase=True,
                require_symbols=True,
                temp_password_validity=cdk.Duration.days(TEMPORARY_PASSWORD_DAYS),
            ),
            mfa=cognito.Mfa.OPTIONAL,
            mfa_second_factor=cognito.MfaSecondFactor(otp=True, sms=False),
            account_recovery=cognito.AccountRecovery.EMAIL_ONLY,
            deletion_protection=True,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        claims = {"TENANT_CLAIM": "tenant", "FACILITY_CLAIM": "facility"}
        trigger = InlineFunction(
            self,
            "AccessToken",
            config,
            "access-token",
            source("access_token"),
            "index.handler",
            timeout_s=5,  # Cognito waits no longer
            environment={name: config.settings.get(name) or default for name, default in claims.items()},
        )
        self._pool.add_trigger(
            cognito.UserPoolOperation.PRE_TOKEN_GENERATION_CONFIG, trigger.function, cognito.LambdaVersion.V2_0
        )
        for name, description in GROUPS.items():
            cognito.CfnUserPoolGroup(
                self,
                f"Group-{name}",
                group_name=name,
                description=description,
                user_pool_id=self._pool.user_pool_id,
            )
        self._scopes = cognito.CfnUserPoolResourceServer(
            self,
            "Scopes",
            identifier="heavylift",
            name="heavylift",
            user_pool_id=self._pool.user_pool_id,
            scopes=[
                cognito.CfnUserPoolResourceServer.ResourceServerScopeTypeProperty(
                    scope_name=one.partition("/")[2], scope_description=one
                )
                for one in topology.SCOPES
            ],
        )
        cognito.CfnUserPoolDomain(self, "Domain", domain=_prefix(config), user_pool_id=self._pool.user_pool_id)
        _, host = cognito_origins(config)
        page = self._client("page", page_origin) if page_origin else None
        operator = self._client("operator", None)
        clients = tuple(client.ref for client in (page, operator) if client)
        self.issuer = Issuer(
            url=self._pool.user_pool_provider_url,
            audience=clients,
            client_id=page.ref if page else "",
            sign_out_url=f"{host}/logout?client_id={page.ref}&logout_uri={page_origin}/" if page else "",
        )
        self.outputs = {"UserPoolId": self._pool.user_pool_id, "OperatorClientId": operator.ref}

    def _client(self, name: str, page_origin: str | None) -> cognito.CfnUserPoolClient:
        """``page``: code flow with PKCE, no secret. ``operator``: for who may call Cognito with the account's own
        credentials, such as the smoke test; no password of a user passes a web page of ours."""
        flows = [] if page_origin else ["ALLOW_ADMIN_USER_PASSWORD_AUTH"]
        client = cognito.CfnUserPoolClient(
            self,
            f"Client-{name}",
            client_name=name,
            user_pool_id=self._pool.user_pool_id,
            generate_secret=False,
            explicit_auth_flows=["ALLOW_REFRESH_TOKEN_AUTH", *flows],
            allowed_o_auth_flows=["code"] if page_origin else None,
            allowed_o_auth_flows_user_pool_client=bool(page_origin),
            allowed_o_auth_scopes=["openid", *topology.SCOPES] if page_origin else None,
            callback_ur_ls=[f"{page_origin}/"] if page_origin else None,
            logout_ur_ls=[f"{page_origin}/"] if page_origin else None,
            supported_identity_providers=["COGNITO"],
            # Whoever signs in may not say to which tenant he belongs.
            read_attributes=["email"],
            write_attributes=["email"],
            prevent_user_existence_errors="ENABLED",
            enable_token_revocation=True,
            access_token_validity=ACCESS_TOKEN_MINUTES,
            id_token_validity=ACCESS_TOKEN_MINUTES,
            refresh_token_validity=REFRESH_TOKEN_HOURS,
            token_validity_units=cognito.CfnUserPoolClient.TokenValidityUnitsProperty(
                access_token="minutes", id_token="minutes", refresh_token="hours"
            ),
        )
        client.node.add_dependency(self._scopes)
        return client
