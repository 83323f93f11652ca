"""The S3 under judgement: its address and a caller that may do everything."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from heavylift_local.s3.testing import Answer, send

REGION = "us-east-1"
MIB = 1024 * 1024


@cache
def _session() -> boto3.session.Session:
    return boto3.session.Session()


@dataclass(frozen=True, slots=True)
class Target:
    name: str  # "own" or "localstack"
    endpoint: str
    access_key: str
    secret_key: str

    def client(self, **config: Any) -> Any:
        """A boto3 client with default settings; *config* goes to botocore's Config."""
        return _session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(**config) if config else None,
        )

    def resource(self) -> Any:
        return _session().resource(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )

    def presigner(self) -> Any:
        """boto3 presigns with the old signature in this region unless told otherwise."""
        return self.client(signature_version="s3v4")

    def environment(self, home: Path) -> dict[str, str]:
        """What a command line client is given: credentials and address, no settings of this machine."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def new_bucket(self) -> str:
        name = f"conformance-{secrets.token_hex(8)}"
        self.client().create_bucket(Bucket=name)
        return name

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        unsigned: Mapping[str, str] | None = None,
        sent: bytes | None = None,
    ) -> Answer:
        """One signed request as raw HTTP: *headers* and *body* are signed; *unsigned* headers are put on or replaced
        after signing, *sent* goes in the place of the body."""
        request = AWSRequest(method, self.endpoint + path, data=body, headers=dict(headers or {}))
        S3SigV4Auth(Credentials(self.access_key, self.secret_key), "s3", REGION).add_auth(request)
        sending = body if sent is None else sent
        return send(self.endpoint + path, method, sending, {**dict(request.headers.items()), **(unsigned or {})})

    def presign(self, method: str, path: str, expires: int = 300) -> str:
        request = AWSRequest(method, self.endpoint + path)
        S3SigV4QueryAuth(Credentials(self.access_key, self.secret_key), "s3", REGION, expires).add_auth(request)
        return str(request.url)


def error_of(call: Any, **parameters: Any) -> dict[str, Any]:
    """The decoded answer of a call that must be refused."""
    try:
        answer = call(**parameters)
    except ClientError as error:
        return dict(error.response)
    raise AssertionError(f"not refused: {answer}")


def refusal(call: Any, **parameters: Any) -> tuple[int, str]:
    """(status, Code) of a call that must be refused."""
    answer = error_of(call, **parameters)
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]
