"""GET /v1/health: each component by name, without a token; one that fails or hangs is named, the answer comes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from heavylift import counting
from heavylift.api import health
from heavylift.api.health import sweep_check
from infra import topology
from tests.doubles.answers import refusal
from tests.doubles.gate import Around, Call
from tests.doubles.queues import Message
from tests.doubles.samples import PICTURE
from tests.doubles.world import BUCKETS, World

NAMES = {"table", "staging", "store", "derived", "queues", "dead_letters", "sweep"}
BEHIND = {"dead_letters", "sweep"}


def ask(world: World) -> tuple[int, dict[str, Any]]:
    """A look that is not the kept one."""
    world.clock.advance(health.KEPT_S + 1)
    return world.call("sessions", "GET", "/v1/health", tenant=None)


def dead(queue: str) -> Message:
    return Message("m0", queue, "{}", 0.0)


def test_all_is_well(world: World) -> None:
    """Before the sweeper's first run, and after it."""
    status, body = ask(world)
    assert (status, body["status"]) == (200, "ok")
    assert body["checks"] == {
        **{name: {"status": "ok"} for name in NAMES},
        "sweep": {"status": "ok", "reason": "not_yet"},
    }
    world.sweep()
    assert ask(world) == (200, {"status": "ok", "checks": {name: {"status": "ok"} for name in NAMES}})


def refuse(wanted: Callable[[Call], bool], error: Exception) -> Around:
    def around(call: Call, run: Callable[[], Any]) -> Any:
        if wanted(call):
            raise error
        return run()

    return around


def is_bucket(name: str) -> Callable[[Call], bool]:
    return lambda call: call.arguments.get("Bucket") == BUCKETS[name]


def is_queue(tail: str) -> Callable[[Call], bool]:
    return lambda call: call.service == "sqs" and call.arguments["QueueUrl"].endswith(tail)


def is_item(key: str) -> Callable[[Call], bool]:
    return lambda call: call.service == "dynamodb" and call.arguments["Key"]["pk"]["S"] == key


COMPONENTS = {
    "table": is_item("T#_#HEALTH"),
    "staging": is_bucket("staging"),
    "store": is_bucket("store"),
    "derived": is_bucket("derived"),
    "queues": is_queue("/thumbnail"),
    "dead_letters": is_queue("/validate-dlq"),
    "sweep": is_item("T#_#SWEEP"),
}
ERRORS = {
    "403": refusal("403", 403, "HeadBucket"),
    "aws_unavailable": refusal("InternalServerError", 500, "GetItem"),
    "timeout": ReadTimeoutError(endpoint_url="https://aws.example/heavylift-store"),
    "EndpointConnectionError": EndpointConnectionError(endpoint_url="https://aws.example/heavylift-store"),
}


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("reason", ERRORS)
def test_one_component_fails(world: World, component: str, reason: str) -> None:
    """It alone is failed, with AWS's word for it; 503 if requests need it. Nothing of ours is named."""
    world.gate.around = refuse(COMPONENTS[component], ERRORS[reason])
    status, body = ask(world)

    assert (status, body["status"]) == (200 if component in BEHIND else 503, "degraded")
    failed = {name: check for name, check in body["checks"].items() if check["status"] != "ok"}
    assert failed == {component: {"status": "failed", "reason": reason}}
    assert "heavylift" not in json.dumps(body)
    world.gate.around = None
    assert ask(world)[1]["status"] == "ok"


@pytest.mark.parametrize("component", COMPONENTS)
def test_one_component_hangs(world: World, monkeypatch: pytest.MonkeyPatch, component: str) -> None:
    """The others' answers come all the same; the one that hangs is called so."""
    monkeypatch.setattr(health, "ANSWER_S", 0.3)
    let_go = threading.Event()

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if COMPONENTS[component](call):
            let_go.wait(30)
        return run()

    world.gate.around = around
    try:
        status, body = ask(world)
    finally:
        let_go.set()
    assert status == (200 if component in BEHIND else 503)
    assert body["checks"].pop(component) == {"status": "failed", "reason": "timeout"}
    assert {check["status"] for check in body["checks"].values()} == {"ok"}


def test_a_fault_of_our_own_is_a_failed_check(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that cannot be understood fails its component and nothing else."""
    monkeypatch.setattr(threading, "excepthook", lambda told: None)
    monkeypatch.setattr(world.queues, "get_queue_attributes", lambda **given: {})
    checks = ask(world)[1]["checks"]

    assert checks["queues"] == checks["dead_letters"] == {"status": "failed", "reason": "internal"}
    assert checks["table"] == {"status": "ok"}


def test_dead_letters(world: World) -> None:
    """Whether any lie there, on whichever queue; not how many. The API itself is well."""
    for queue in topology.QUEUES:
        world.queues.dead = [dead(queue.name)] * 3
        status, body = ask(world)
        assert (status, body["status"]) == (200, "degraded")
        assert body["checks"]["dead_letters"] == {"status": "failed", "reason": "waiting"}
        assert "3" not in json.dumps(body)
    world.queues.dead = []
    assert ask(world)[1]["status"] == "ok"


def test_every_queue_is_asked(world: World) -> None:
    """The work's and the dead letters', of every lane of the topology."""
    world.gate.restart()
    ask(world)
    asked = {call.arguments["QueueUrl"].rsplit("/", 1)[-1] for call in world.gate.calls if call.service == "sqs"}

    assert asked == {name for queue in topology.QUEUES for name in (queue.name, f"{queue.name}-dlq")}


def test_a_sweeper_that_stands_still(world: World) -> None:
    """Three of its intervals without the end of a run: late. A run that ended early counts as one."""
    for n in range(2):
        world.initiate(f"{n}.png", PICTURE.data)
        world.clock.advance(3_600)
    world.sweep()
    world.clock.advance(3 * 900 - 100)
    assert ask(world)[1]["checks"]["sweep"] == {"status": "ok"}
    world.clock.advance(200)
    status, body = ask(world)
    assert (status, body["status"]) == (200, "degraded")
    assert body["checks"]["sweep"] == {"status": "failed", "reason": "late"}
    assert counting.recount(lambda: 0)["rounds"] == 0
    assert ask(world)[1]["checks"]["sweep"] == {"status": "ok"}


def test_late_on_a_scaled_clock() -> None:
    """The intervals are scaled; but never so far that a run could not end in time."""
    assert sweep_check(None, 1e9, 1) == {"status": "ok", "reason": "not_yet"}
    for scale, patience in ((1, 2_700), (10, 270), (1_000, health.LATE_MIN_S)):
        assert sweep_check(1e9, 1e9 + patience, scale) == {"status": "ok"}
        assert sweep_check(1e9, 1e9 + patience + 1, scale) == {"status": "failed", "reason": "late"}


def test_calls_in_a_row_cost_one_look(world: World) -> None:
    """Nobody needs a token for it, so it is not asked anew each time; and nothing is ever written."""
    before = dict(world.table.items)
    world.gate.restart()
    first = ask(world)
    calls = len(world.gate.calls)
    for _ in range(20):
        assert world.call("sessions", "GET", "/v1/health", tenant=None) == first
    assert len(world.gate.calls) == calls
    ask(world)
    assert len(world.gate.calls) == 2 * calls
    assert world.table.items == before
    writes = {"put_item", "update_item", "delete_item", "put_object", "send_message"}
    assert not writes & {call.operation for call in world.gate.calls}
