"""One request of AWS and its answer, signed anew and retried as boto3's standard mode does.

Facts: AWS SDKs and Tools reference, "Retry behavior" (standard mode: what is tried again, full jitter, at most 20 s).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Final

from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from heavylift import presign
from heavylift.connections import Answer, Broken, Pool

BACKOFF_S_MAX: Final = 20.0
# Throttling and passing errors of standard mode; 5xx by their status.
_AGAIN: Final = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottledException",
        "TooManyRequestsException",
        "ProvisionedThroughputExceededException",
        "TransactionInProgressException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "RequestThrottled",
        "SlowDown",
        "PriorRequestNotComplete",
        "RequestTimeout",
        "RequestTimeoutException",
        "InternalError",
    }
)
_STATUS_AGAIN: Final = frozenset({500, 502, 503, 504})
Sign = Callable[[str], Mapping[str, str]]
"""``sign(timestamp)``: the headers of a request, signed."""
Refused = Callable[[Answer], tuple[str, str] | None]
"""(code, message) of an answer that is an error, None for any other."""


class Calls:
    """One request and its answer, retried as boto3's standard mode does."""

    def __init__(self, pool: Pool, attempts: int) -> None:
        self._pool, self._attempts = pool, attempts

    def ask(
        self,
        operation: str,
        method: str,
        scheme: str,
        host: str,
        target: str,
        sign: Sign,
        body: bytes | bytearray,
        refused: Refused,
    ) -> Answer:
        """The answer. ClientError; botocore's exceptions of the connection."""
        attempt = 0
        while True:
            attempt += 1
            failure: Exception
            try:
                headers = sign(presign.timestamp(time.time()))
                answer = self._pool.ask(method, scheme, host, target, headers, body)
            except TimeoutError:
                failure = ReadTimeoutError(endpoint_url=f"{scheme}://{host}")
            except Broken:
                failure = ConnectionClosedError(endpoint_url=f"{scheme}://{host}")
            except OSError as error:
                failure = EndpointConnectionError(endpoint_url=f"{scheme}://{host}", error=error)
            else:
                why = refused(answer)
                if why is None:
                    return answer
                failure = _refusal(operation, answer, *why)
                if answer.status not in _STATUS_AGAIN and why[0] not in _AGAIN:
                    raise failure
            if attempt >= self._attempts:
                raise failure
            time.sleep(random.uniform(0, min(BACKOFF_S_MAX, 2.0 ** (attempt - 1))))


def _refusal(operation: str, answer: Answer, code: str, message: str) -> ClientError:
    metadata = {"HTTPStatusCode": answer.status, "HTTPHeaders": dict(answer.headers)}
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}, operation)
