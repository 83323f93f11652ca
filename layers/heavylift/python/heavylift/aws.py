"""Clients of AWS: one session a process, only the clients that are asked for, made on first use.

They are boto3's; in the functions of DIRECT ``direct`` stands in for them, and boto3 is loaded for what it has not.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from heavylift import direct
from heavylift.errors import TransientError

# Thousands of small calls, and the many ranges of large pictures: there a call's own price counts.
DIRECT: Final = frozenset({"dicom_ingest", "thumbnail"})

# Answers that say "later": throttling, our own races inside S3, and the world's bad days.
_LATER = frozenset(
    {
        "SlowDown",
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "OperationAborted",
        "ConditionalRequestConflict",
        "Throttling",
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "TransactionConflictException",
        "InternalServerError",
        "ExpiredToken",
        "ExpiredTokenException",
        "503",
        "500",
    }
)


@cache
def _session() -> Any:
    import boto3

    return boto3.Session()


_clients: dict[tuple[str, bool], Any] = {}
_making = threading.Lock()  # a boto3 session is not safe to share while it makes a client


def client(service: str) -> Any:
    """The shared client of ``service``; threads that ask for it at the same moment get the same one.

    SigV4 and the regional virtual host are asked for by name: botocore's default presigns SigV2 for the
    global host in older regions. The endpoint comes from AWS's own environment variables.
    """
    return _client(service, patient=True)


def prober(service: str) -> Any:
    """A client that asks once and gives up within 2.5 s: for looking whether a service is there."""
    return _client(service, patient=False)


def _client(service: str, *, patient: bool) -> Any:
    made = _clients.get((service, patient))
    if made is None:
        with _making:
            made = _clients.get((service, patient)) or _make(service, patient=patient)
            _clients[service, patient] = made
    return made


@dataclass(frozen=True, slots=True)
class _Patience:
    attempts: int
    connect_s: float
    read_s: float


_PATIENT, _PROBING = _Patience(4, 5, 60), _Patience(1, 1, 1.5)
# An announcement must not hold up the work that it tells of: the sweeper tells it later. Within the 20 s that
# workers keep in reserve.
_ANNOUNCING = _Patience(2, 2, 5)


def _make(service: str, *, patient: bool) -> Any:
    patience = _PROBING if not patient else _ANNOUNCING if service == "events" else _PATIENT
    if os.environ.get("AWS_LAMBDA_FUNCTION_NAME") not in DIRECT or not direct.possible(os.environ):
        return _boto3s(service, patience)
    return direct.client(
        service,
        attempts=patience.attempts,
        connect_s=patience.connect_s,
        read_s=patience.read_s,
        fallback=_kept(lambda: _boto3s(service, patience)),
    )


def _kept(make: Callable[[], Any]) -> Callable[[], Any]:
    """``make``, called once, by whichever thread is first."""
    made: list[Any] = []

    def get() -> Any:
        if not made:
            with _making:
                if not made:
                    made.append(make())
        return made[0]

    return get


def _boto3s(service: str, patience: _Patience) -> Any:
    from botocore.config import Config

    return _session().client(
        service,
        config=Config(
            signature_version="s3v4" if service == "s3" else None,
            s3={"addressing_style": "virtual"} if service == "s3" else None,
            retries={"mode": "standard", "total_max_attempts": patience.attempts},
            connect_timeout=patience.connect_s,
            read_timeout=patience.read_s,
            max_pool_connections=48,  # an archive copies 16 parts, reads 24 members and writes 3 parts at once
        ),
    )


def error_code(error: ClientError) -> str:
    """S3's or DynamoDB's code; a HEAD carries no body, so it is the status there."""
    return str(error.response.get("Error", {}).get("Code", ""))


def later(error: ClientError | BotoCoreError, doing: str) -> TransientError:
    """The TransientError for an answer that a retry may mend."""
    code = error_code(error) if isinstance(error, ClientError) else type(error).__name__
    return TransientError("aws_unavailable", f"AWS did not answer {doing}: {code}.", aws_code=code, doing=doing)


def is_later(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return error_code(error) in _LATER or status >= 500
