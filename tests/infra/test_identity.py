"""What is in a token of the made user pool, and who decides it."""

from __future__ import annotations

from typing import Any

import pytest

from infra import topology
from tests.infra.conftest import ROOT, Assembly
from tests.infra.test_page import load

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.timeout(900)]


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the trigger does with a sign-in: (claims, scopes added, scopes taken away)."""
    monkeypatch.setenv("TENANT_CLAIM", "tenant")
    monkeypatch.setenv("FACILITY_CLAIM", "facility")
    trigger = load("access_token")

    def sign_in(groups: list[str], scopes: list[str], **attributes: str) -> tuple[dict[str, str], set[str], set[str]]:
        event = {
            "version": "2",
            "triggerSource": "TokenGeneration_HostedAuth",
            "request": {
                "userAttributes": {name.replace("_", ":"): value for name, value in attributes.items()},
                "groupConfiguration": {"groupsToOverride": groups},
                "scopes": scopes,
            },
            "response": {},
        }
        told = trigger.handler(event, None)["response"]["claimsAndScopeOverrideDetails"]["accessTokenGeneration"]
        return told["claimsToAddOrOverride"], set(told["scopesToAdd"]), set(told["scopesToSuppress"])

    return sign_in


def test_tenant_and_facility_are_the_users(token: Any) -> None:
    """From attributes that an administrator wrote; what he did not write is not there, so the API says no_tenant."""
    claims, _, _ = token(["reader"], [], custom_tenant="acme", custom_facility="clinic-1")
    assert claims == {"tenant": "acme", "facility": "clinic-1"}
    assert token(["reader"], [], email="a@b.example")[0] == {}


@pytest.mark.parametrize(
    ("groups", "asked", "added", "taken"),
    [
        (["reader"], [topology.READ, topology.WRITE, "openid"], set(), {topology.WRITE}),
        (["writer"], [topology.READ, topology.WRITE, "openid"], set(), set()),
        (["writer"], [topology.READ], set(), set()),
        (["writer"], [topology.ADMIN], set(), {topology.ADMIN}),
        (["reader", "admin"], [topology.ADMIN], set(), set()),
        ([], [topology.READ, topology.WRITE], set(), {topology.READ, topology.WRITE}),
        (["writer"], ["aws.cognito.signin.user.admin"], {topology.READ, topology.WRITE}, set()),
        (["strangers"], ["aws.cognito.signin.user.admin"], set(), set()),
        ([], [], set(), set()),
    ],
)
def test_scopes_are_the_groups(
    token: Any, groups: list[str], asked: list[str], added: set[str], taken: set[str]
) -> None:
    """A client gets what it asked for and the user may have; one that cannot ask gets what the user may have."""
    assert token(groups, asked, custom_tenant="acme")[1:] == (added, taken)


def test_a_user_without_attributes_or_groups_breaks_nothing(token: Any) -> None:
    """Cognito leaves out what is empty."""
    trigger = load("access_token")
    event: dict[str, Any] = {"request": {}}
    assert trigger.handler(event, None)["response"]


def test_no_client_writes_a_tenant(assembly: Assembly) -> None:
    """Attributes that decide are read and written by administrators alone; nobody signs up."""
    ((_, _, pool),) = assembly.resources("AWS::Cognito::UserPool")
    assert pool["Properties"]["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    assert pool["Properties"]["DeletionProtection"] == "ACTIVE"
    assert pool["DeletionPolicy"] == "Retain"
    clients = [one["Properties"] for _, _, one in assembly.resources("AWS::Cognito::UserPoolClient")]
    assert len(clients) == 2
    for client in clients:
        assert client["WriteAttributes"] == client["ReadAttributes"] == ["email"]
        assert client["GenerateSecret"] is False
        assert client["PreventUserExistenceErrors"] == "ENABLED"


def test_the_page_signs_in_by_code_alone(assembly: Assembly) -> None:
    """No implicit flow, no password flow, one address to come back to; the operator's client has no web address."""
    clients = {
        one["Properties"]["ClientName"]: one["Properties"]
        for _, _, one in assembly.resources("AWS::Cognito::UserPoolClient")
    }
    page, operator = clients["page"], clients["operator"]
    assert page["AllowedOAuthFlows"] == ["code"]
    assert page["ExplicitAuthFlows"] == ["ALLOW_REFRESH_TOKEN_AUTH"]
    assert set(page["AllowedOAuthScopes"]) == {"openid", *topology.SCOPES}
    assert len(page["CallbackURLs"]) == len(page["LogoutURLs"]) == 1
    assert "CallbackURLs" not in operator
    assert operator["AllowedOAuthFlowsUserPoolClient"] is False


def test_the_trigger_is_version_two_and_within_the_template(assembly: Assembly) -> None:
    """Only from version 2 on may a trigger shape access tokens; its code is the file, and fits."""
    ((_, _, pool),) = assembly.resources("AWS::Cognito::UserPool")
    told = pool["Properties"]
    assert told["LambdaConfig"]["PreTokenGenerationConfig"]["LambdaVersion"] == "V2_0"
    assert told["UserPoolTier"] == "ESSENTIALS"
    (function,) = (
        one["Properties"]
        for _, _, one in assembly.resources("AWS::Lambda::Function")
        if one["Properties"]["FunctionName"] == "heavylift-access-token"
    )
    source = (ROOT / "infra" / "inline" / "access_token.py").read_text()
    assert function["Code"] == {"ZipFile": source}
    assert len(source) <= 4_096


def test_another_issuer_needs_no_pool(assemblies: dict[str, Assembly]) -> None:
    """Nothing of Cognito is made."""
    kinds = {
        one["Type"] for template in assemblies["hardened"].templates.values() for one in template["Resources"].values()
    }
    assert not any("Cognito" in kind for kind in kinds)
