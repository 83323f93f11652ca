"""Cognito's trigger before an access token is made (event version 2): tenant, facility and scopes go into it.

Deployed as it stands here, within the template, so it has at most 4,096 characters. The tenant comes from an attribute
that only an administrator writes; the scopes from the user's groups. What a client asked for and the user may not have
is taken away; a sign-in that cannot ask for scopes (an administrator's, for the command line) gets all of the user's.
"""

import os

READ, WRITE, ADMIN = "heavylift/read", "heavylift/write", "heavylift/admin"
GROUPS = {"reader": {READ}, "writer": {READ, WRITE}, "admin": {READ, WRITE, ADMIN}}


def handler(event, context):
    request = event["request"]
    attributes = request.get("userAttributes") or {}
    groups = (request.get("groupConfiguration") or {}).get("groupsToOverride") or []
    granted = set().union(*(GROUPS.get(group, set()) for group in groups))
    asked = set(request.get("scopes") or []) & {READ, WRITE, ADMIN}
    claims = {
        os.environ["TENANT_CLAIM"]: attributes.get("custom:tenant"),
        os.environ["FACILITY_CLAIM"]: attributes.get("custom:facility"),
    }
    event["response"] = {
        "claimsAndScopeOverrideDetails": {
            "accessTokenGeneration": {
                "claimsToAddOrOverride": {name: value for name, value in claims.items() if value},
                "scopesToAdd": [] if asked else sorted(granted),
                "scopesToSuppress": sorted(asked - granted),
            }
        }
    }
    return event
