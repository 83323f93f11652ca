"""Clients: one a service, however many threads ask at once; retries, signatures and hosts as asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from heavylift import aws
from tests.doubles.answers import refusal


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(aws, "_clients", {})
    aws._session.cache_clear()
    yield
    aws._session.cache_clear()


def test_sixteen_threads_get_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by all at once in a cold sandbox, a client is made once: a boto3 session is not safe to share."""
    made: list[str] = []
    inside = threading.Semaphore(1)

    def make(service: str, *, patient: bool) -> Any:
        assert inside.acquire(blocking=False), "two threads in one session"
        made.append(service)
        threading.Event().wait(0.02)
        inside.release()
        return object()

    monkeypatch.setattr(aws, "_make", make)
    together = threading.Barrier(16)
    got: list[Any] = []

    def ask(number: int) -> None:
        together.wait()
        got.append((number % 2, aws.client("s3" if number % 2 else "dynamodb")))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(made) == ["dynamodb", "s3"]
    assert len({id(client) for _, client in got}) == 2
    assert len(got) == 16


def test_the_s3_client_signs_v4_for_the_regional_host() -> None:
    """botocore's defaults would sign SigV2, or for the global host."""
    url = aws.client("s3").generate_presigned_url("get_object", Params={"Bucket": "b-u-c", "Key": "k"}, ExpiresIn=60)

    assert url.startswith("https://b-u-c.s3.eu-central-1.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256")


def test_calls_are_bounded() -> None:
    """Four attempts, and timeouts that end before a function's does."""
    config = aws.client("s3").meta.config

    assert config.retries["total_max_attempts"] == 4
    assert config.retries["mode"] == "standard"
    assert config.connect_timeout == 5
    assert config.read_timeout == 60
    assert config.max_pool_connections >= 16


@pytest.mark.parametrize(
    ("code", "status", "is_later"),
    [
        ("SlowDown", 503, True),
        ("Anything", 500, True),
        ("ThrottlingException", 400, True),
        ("ProvisionedThroughputExceededException", 400, True),
        ("TransactionConflictException", 400, True),
        ("AccessDenied", 403, False),
        ("ValidationException", 400, False),
        ("ConditionalCheckFailedException", 400, False),
    ],
)
def test_what_a_retry_may_mend(code: str, status: int, is_later: bool) -> None:
    """Throttles and 5xx; not what we got wrong."""
    assert aws.is_later(refusal(code, status, "X")) is is_later
