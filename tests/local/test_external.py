"""Another S3 in place of the embedded one: here a second instance of our own, which sends no events."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from heavylift_client import Client
from heavylift_local.external import ExternalError, find
from heavylift_local.testing import CallFailed, RunningStack, running_stack
from tests.interop.conftest import write_tiff

pytestmark = pytest.mark.xdist_group("external")
KEY, SECRET = "AKIAEXTERNALEXTERNAL", "external-secret"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "eu-central-1"}


@dataclass(frozen=True)
class Other:
    url: str

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="eu-central-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def environment(self, **more: str) -> dict[str, str]:
        return {
            **ENVIRONMENT,
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            **more,
        }


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Other]:
    folder = tmp_path_factory.mktemp("other")
    allow = [{"actions": ["s3:*"], "resources": ["*"]}]
    caller = {"name": "all", "access_key": KEY, "secret_key": SECRET, "allow": allow}
    config = {"data": str(folder / "s3"), "region": "eu-central-1", "callers": [caller]}
    (folder / "s3.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "heavylift_local.s3", "--config", str(folder / "s3.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield Other(f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}")
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def put(stack: RunningStack, path: Path) -> dict[str, Any]:
    with Client(stack.api, stack.ready["token"]) as client:
        result = client.put(path)
    assert result.ok, result.failure
    assert result.record is not None
    return dict(result.record)


def test_files_go_through_another_s3_to_completed(other: Other, tmp_path: Path) -> None:
    """A picture and a file of another kind, by multipart and by one PUT; then nothing of a temporary stack is left."""
    picture = write_tiff(tmp_path / "picture.tif", 3000, 2200)  # 19 MiB: multipart
    (tmp_path / "notes.bin").write_bytes(bytes(range(256)))
    environment = other.environment(HEAVYLIFT_TIME_SCALE="20")
    with running_stack(env=environment, args=["--s3-endpoint", other.url]) as stack:
        record = put(stack, picture)
        plain = put(stack, tmp_path / "notes.bin")
        names = set(stack.ready["buckets"].values())
        there = {bucket["Name"] for bucket in other.client().list_buckets()["Buckets"]}
        versions = other.client().list_object_versions(Bucket=stack.ready["buckets"]["store"])["Versions"]
        staging = other.client().list_objects_v2(Bucket=stack.ready["buckets"]["staging"])
        counters = stack.counters()
        with pytest.raises(CallFailed) as faults:
            stack.faults({"s3": {"latency_ms": 5}})
        with pytest.raises(CallFailed) as kill:
            stack.faults({"functions": {"validate": {"kill_at": "s3.UploadPartCopy:1"}}})
        stack.faults({"functions": {"validate": {"kill_at": "dynamodb.UpdateItem:99"}}})
        with pytest.raises(CallFailed) as adopted:
            stack.local("POST", "adopt", {"path": str(picture), "tenant": "demo"})
        assert "s3" not in stack.pids

    assert (record["status"], plain["status"]) == ("completed", "completed")
    assert len(record["thumbnails"]) == 3
    assert stack.s3 == other.url
    assert names <= there
    assert sorted(one["Key"].rpartition("/")[2] for one in versions) == sorted([record["file_id"], plain["file_id"]])
    assert staging.get("KeyCount", 0) == 0
    for refused in (faults, kill, adopted):
        assert refused.value.status == 400
        assert "embedded S3" in refused.value.body["message"]
    # The roles of tables and queues hold although all callers share one key.
    assert {"initiate", "sign", "complete", "validate", "thumbnail"} <= set(counters)
    assert not any(operation.startswith("s3.") for rows in counters.values() for operation in rows)
    assert not names & {bucket["Name"] for bucket in other.client().list_buckets()["Buckets"]}


def test_a_kept_stack_finds_its_buckets_again(other: Other, tmp_path: Path) -> None:
    """With --data names, objects and what was told of stay; nothing is processed twice."""
    (tmp_path / "notes.bin").write_bytes(b"kept")
    arguments = ["--s3-endpoint", other.url]
    environment = other.environment(HEAVYLIFT_TIME_SCALE="20")
    with running_stack(tmp_path / "data", env=environment, args=arguments) as stack:
        record = put(stack, tmp_path / "notes.bin")
        before = stack.ready["buckets"]
    assert SECRET not in (tmp_path / "data" / "stack.json").read_text()
    with running_stack(tmp_path / "data", env=environment, args=arguments) as stack:
        again = stack.request("GET", f"/v1/files/{record['file_id']}")
        after = stack.ready["buckets"]
        (tmp_path / "more.bin").write_bytes(b"more")
        put(stack, tmp_path / "more.bin")
        # The record tells the end before the function has answered: an invocation is counted when it is over.
        deadline = time.monotonic() + 30
        while not (invocations := stack.state()["functions"]["validate"]["invocations"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    assert after == before
    assert again["status"] == "completed"
    assert invocations == 1


@pytest.mark.parametrize("url", ["ftp://x", "http://", "nonsense", "http://h/path"])
def test_an_endpoint_that_is_none_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sentence, before anything is started."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ExternalError, match="--s3-endpoint"):
        find(url)


def test_credentials_are_those_of_awss_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the environment, with region and session token; without any, a sentence."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    found = find("http://127.0.0.1:9/")
    assert (found.endpoint, found.region) == ("http://127.0.0.1:9", "eu-central-1")
    assert (found.key.access_key, found.key.secret_key, found.key.session_token) == (KEY, SECRET, "token")
    for name in (*ENVIRONMENT, "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ExternalError, match="AWS_ACCESS_KEY_ID"):
        find("http://127.0.0.1:9")


def test_the_access_log_is_the_embedded_s3s(other: Other, tmp_path: Path) -> None:
    """Asking for it together with another S3 is a usage error."""
    command = [sys.executable, "-m", "heavylift_local", "up", "--s3-endpoint", other.url]
    done = subprocess.run([*command, "--access-log", str(tmp_path / "log")], capture_output=True, text=True, timeout=60)

    assert done.returncode == 2
    assert done.stderr.startswith("heavylift up: --access-log")
