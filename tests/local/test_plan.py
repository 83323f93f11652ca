"""The plan gives every logical name of the topology its physical one, and each function its own rights."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from heavylift_local import plan
from heavylift_local.s3 import config as s3_config

TOPOLOGY: Any = plan.load_topology(plan.REPOSITORY / "infra" / "topology.py")
NAMES = plan.Names(
    plan.bucket_names(TOPOLOGY), "heavylift", {queue.name: f"http://q/{queue.name}" for queue in TOPOLOGY.QUEUES}
)


@pytest.fixture
def identity(tmp_path: Path) -> plan.Identity:
    return plan.load_identity(tmp_path / "stack.json", plan.callers(TOPOLOGY))


def test_the_s3_server_takes_its_configuration(identity: plan.Identity, tmp_path: Path) -> None:
    """What the plan writes is what the server's own reader accepts, with the origins in every CORS rule."""
    made = plan.s3_config(TOPOLOGY, identity, tmp_path, ("http://o",), 0, "http://sink", None)
    parsed = s3_config.parse(json.loads(json.dumps(made)))

    assert {bucket.name for bucket in parsed.buckets} == set(plan.bucket_names(TOPOLOGY).values())
    assert {caller.name for caller in parsed.callers} == {"client", *(f.name for f in TOPOLOGY.FUNCTIONS)}
    assert all(rule.allowed_origins == ("http://o",) for bucket in parsed.buckets for rule in bucket.cors)


def test_the_s3_server_gets_the_topologys_lifecycle(identity: plan.Identity, tmp_path: Path) -> None:
    """Every class that expires and every bucket's abort rule, on the scaled clock; old signatures are denied."""
    age = plan.signature_age_max({"SIGNATURE_TTL_SECONDS": "7200"})
    made = plan.s3_config(TOPOLOGY, identity, tmp_path, ("http://o",), 0, None, None, None, 60.0, age)
    parsed = s3_config.parse(json.loads(json.dumps(made)))

    assert parsed.time_scale == 60
    for wanted, bucket in zip(TOPOLOGY.BUCKETS, parsed.buckets, strict=True):
        expiring = {f"{c.name}/": c.expire_days for c in wanted.classes if c.expire_days is not None}
        assert {r.prefix: r.expire_days for r in bucket.lifecycle if r.expire_days is not None} == expiring
        aborting = [r.abort_incomplete_days for r in bucket.lifecycle if r.abort_incomplete_days is not None]
        assert aborting == [wanted.abort_incomplete_days]
        assert bucket.signature_age_max_s == 7230
    plain = {bucket.name: plan.signature_age_max({})(TOPOLOGY, bucket.name) for bucket in TOPOLOGY.BUCKETS}
    assert plain == {"staging": 930, "store": 3630, "derived": 3630}


def test_every_s3_right_names_a_bucket_that_exists(identity: plan.Identity, tmp_path: Path) -> None:
    """Logical resources became physical ones; none was lost on the way."""
    made = plan.s3_config(TOPOLOGY, identity, tmp_path, (), 0, None, None)
    physical = set(plan.bucket_names(TOPOLOGY).values())
    by_name = {caller["name"]: caller["allow"] for caller in made["callers"]}

    for function in TOPOLOGY.FUNCTIONS:
        wanted = sum(any(action.startswith("s3:") for action in allow.actions) for allow in function.allows)
        assert len(by_name[function.name]) == wanted
        for allow in by_name[function.name]:
            assert {resource.partition("/")[0] for resource in allow["resources"]} <= physical


def test_functions_have_keys_of_their_own_and_keep_them(tmp_path: Path) -> None:
    """A restart with the same folder keeps secrets, so signed URLs live on; the file is the owner's alone."""
    path = tmp_path / "stack.json"
    first = plan.load_identity(path, ["client", "a"])
    second = plan.load_identity(path, ["client", "a", "b"])

    assert second.keys["a"] == first.keys["a"]
    assert (second.jwt_secret, second.admin_token) == (first.jwt_secret, first.admin_token)
    assert len({key.access_key for key in second.keys.values()}) == 3
    assert second.keys["a"].session_token
    assert second.keys["client"].session_token is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_environment_is_built_from_nothing(identity: plan.Identity, tmp_path: Path) -> None:
    """Lambda's variables, AWS's endpoints, the topology's values, set settings; nothing else of the outside."""
    outer = {"HOME": "/root", "PYTHONPATH": "/x", "LOG_LEVEL": "DEBUG", "AWS_PROFILE": "mine", "SECRET": "s"}
    endpoints = plan.Endpoints("http://s3", "http://ddb", "http://sqs", "http://events")
    function = TOPOLOGY.function("thumbnail")
    made = plan.function_environment(
        TOPOLOGY, function, NAMES, identity.keys["thumbnail"], endpoints, outer, tmp_path, 60, Path("/p"), Path("/t")
    )

    assert made["AWS_LAMBDA_FUNCTION_NAME"] == "thumbnail"
    assert made["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == str(function.memory_mb)
    assert made["STAGING_BUCKET"] == "heavylift-staging"
    assert made["VALIDATE_QUEUE_URL"] == "http://q/validate"
    assert made["LOG_LEVEL"] == "DEBUG"
    assert made["HEAVYLIFT_TIME_SCALE"] == "60"
    assert made["AWS_SESSION_TOKEN"] == identity.keys["thumbnail"].session_token
    assert not {"HOME", "AWS_PROFILE", "SECRET"} & set(made)
    assert not any("{" in value for value in made.values())
    assert not any("local" in name.lower() for name in made)


def test_a_value_that_names_nothing_is_an_error() -> None:
    """A misspelt bucket in the topology stops the start."""
    with pytest.raises(plan.PlanError):
        NAMES.resolve("{bucket:stagign}")


@pytest.mark.parametrize(("scale", "expected"), [(1, 5400), (60, 90), (1000, 5), (100_000, 1)])
def test_visibility_follows_the_scaled_clock(scale: float, expected: int) -> None:
    """Never below the second that SQS counts in."""
    assert plan.visibility_seconds(5400, scale) == expected


@pytest.mark.parametrize("text", ["0.5", "x", "-1", "nan", "1e9"])
def test_a_time_scale_is_at_least_one(text: str) -> None:
    """Anything else stops the start."""
    with pytest.raises(plan.PlanError):
        plan.time_scale({"HEAVYLIFT_TIME_SCALE": text})


def test_every_function_may_have_a_child() -> None:
    """Caps are at least one, and one where only one may run at a time."""
    caps = {function.name: plan.children_max(function) for function in TOPOLOGY.FUNCTIONS}

    assert min(caps.values()) >= 1
    assert caps["sweep"] == 1
