"""``make smoke STAGE=…``: the demo's files through a deployed stage, by the same client as everywhere.

The API's address is among the outputs that ``make deploy`` left. The token is ``HEAVYLIFT_TOKEN``; or, where the stage
made a user pool, that of ``HEAVYLIFT_USER`` and ``HEAVYLIFT_PASSWORD``, for which Cognito is asked with the account's
own credentials.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.app import ROOT
from infra.config import ConfigError, load_stage
from infra.deploy import outputs_file

Run = Callable[[Sequence[str]], int]


class NotReady(RuntimeError):
    """There is nothing to test, or nobody to test it as; the sentence says what to do."""


def read_outputs(root: Path, stage: str, deployment: str) -> Mapping[str, str]:
    """The front stack's outputs. Raises NotReady."""
    path = outputs_file(root, stage)
    try:
        outputs = json.loads(path.read_text())[f"{deployment}-front"]
    except (OSError, ValueError, KeyError):
        raise NotReady(f"{path.relative_to(root)} tells of no deployment; run `make deploy STAGE={stage}`") from None
    return dict(outputs)


def sign_in(cognito: Any, outputs: Mapping[str, str], user: str, password: str) -> str:
    """An access token of the made user pool. Raises NotReady when Cognito wants something else first."""
    answer = cognito.admin_initiate_auth(
        UserPoolId=outputs["UserPoolId"],
        ClientId=outputs["OperatorClientId"],
        AuthFlow="ADMIN_USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": user, "PASSWORD": password},
    )
    if "AuthenticationResult" not in answer:
        raise NotReady(f"Cognito asks {user} for {answer.get('ChallengeName')} first; sign in at the page once")
    return str(answer["AuthenticationResult"]["AccessToken"])


def token_of(outputs: Mapping[str, str], environment: Mapping[str, str], client: Callable[[], Any]) -> str:
    """Whose token the smoke test uses. Raises NotReady."""
    if environment.get("HEAVYLIFT_TOKEN"):
        return environment["HEAVYLIFT_TOKEN"]
    user, password = environment.get("HEAVYLIFT_USER"), environment.get("HEAVYLIFT_PASSWORD")
    if "UserPoolId" not in outputs:
        raise NotReady("set HEAVYLIFT_TOKEN: an access token of the stage's issuer with heavylift/read and /write")
    if not user or not password:
        raise NotReady("set HEAVYLIFT_TOKEN, or HEAVYLIFT_USER and HEAVYLIFT_PASSWORD of a user of the pool")
    return sign_in(client(), outputs, user, password)


def _cognito() -> Any:
    import boto3

    return boto3.client("cognito-idp")


def _demo(arguments: Sequence[str]) -> int:
    from heavylift_local import demo

    return demo.main(arguments)


def main(
    arguments: Sequence[str] | None = None,
    root: Path = ROOT,
    run: Run = _demo,
    client: Callable[[], Any] = _cognito,
) -> int:
    parser = argparse.ArgumentParser(prog="infra.smoke", description="Real files through a deployed stage.")
    parser.add_argument("--stage", default="default")
    parser.add_argument("files", nargs="*", help="your own files in the demo's place")
    options = parser.parse_args(arguments)
    try:
        config = load_stage(options.stage)
        outputs = read_outputs(root, options.stage, config.deployment)
        os.environ["HEAVYLIFT_TOKEN"] = token_of(outputs, os.environ, client)
    except (ConfigError, NotReady) as error:
        print(f"smoke: {error}", file=sys.stderr)
        return 1
    return run(["--api", outputs["ApiUrl"], *options.files])


if __name__ == "__main__":
    sys.exit(main())
