"""One server for the session: the project's own, or LocalStack's where CONFORMANCE_TARGET says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heavylift_local.s3.testing import ACCESS_KEY, SECRET_KEY, running_s3
from tests.conformance import localstack
from tests.conformance.differences import LOCALSTACK
from tests.conformance.target import REGION, Target

TARGET = os.environ.get("CONFORMANCE_TARGET", "own")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Against LocalStack its known differences must fail, so that a row which is out of date shows."""
    here = Path(__file__).parent
    for item in items:
        if TARGET == "localstack" and here in Path(item.path).parents:
            reason = LOCALSTACK.get(f"{Path(item.path).stem}::{item.name}")
            if reason is not None:
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    directory = tmp_path_factory.mktemp("s3")
    if TARGET == "localstack":
        with localstack.running(directory) as (endpoint, _):
            yield Target("localstack", endpoint, "test", "test")
        return
    with running_s3(directory, region=REGION, buckets=[]) as running:
        yield Target("own", running.endpoint, ACCESS_KEY, SECRET_KEY)
        assert running.server.store.check() == []


@pytest.fixture(scope="session")
def s3(target: Target) -> Any:
    """boto3 as it comes."""
    return target.client()


@pytest.fixture
def bucket(target: Target) -> str:
    return target.new_bucket()
