"""A server of its own for every test: starting one costs about 20 ms."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heavylift_local.s3.testing import BUCKETS, RunningS3, running_s3

PAGE = "https://page.example"
CORS = [
    {
        "AllowedOrigins": [PAGE, "https://*.example.org"],
        "AllowedMethods": ["PUT", "GET"],
        "AllowedHeaders": ["content-type", "x-amz-checksum-*"],
        "ExposeHeaders": ["ETag", "x-amz-checksum-sha256"],
        "MaxAgeSeconds": 3000,
    },
    {"AllowedOrigins": ["*"], "AllowedMethods": ["HEAD"]},
]


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[RunningS3]:
    """staging (with CORS), store, derived, and versioned."""
    buckets = [{"name": name, "cors": CORS if name == "staging" else []} for name in BUCKETS]
    with running_s3(tmp_path, buckets=[*buckets, {"name": "versioned", "versioned": True}]) as running:
        yield running
        assert running.server.store.check() == []


@pytest.fixture
def client(s3: RunningS3) -> Any:
    return s3.client()
