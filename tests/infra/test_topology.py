"""The one description of the system agrees with itself, with the limits, with the handlers and with the docs."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from heavylift import keys
from heavylift.api import sign
from heavylift.dicomweb import routing
from heavylift.limits import ATTEMPTS_MAX, QUEUE_VISIBILITY_S, SWEEP_INTERVAL_S
from infra import topology
from infra.topology import FUNCTIONS, QUEUES, RULES, TABLE

ROOT = Path(__file__).parents[2]
HTTP = [function for function in FUNCTIONS if function.routes]
FED = [function for function in FUNCTIONS if function.source]


def routes_of(name: str) -> set[tuple[str, str]]:
    """(method, path) of every route that the handler's resolver knows, in the topology's notation."""
    module = importlib.import_module(f"functions.{name}.handler")
    found = [*module.app._static_routes, *module.app._dynamic_routes]
    beside = {tuple(key.split(" ")) for key in getattr(module, "BY_TICKET", {})}
    return {(route.method, re.sub(r"<(\w+)>", r"{\1}", route.path)) for route in found} | beside


def test_it_imports_nothing_heavy() -> None:
    """Reading it costs a CDK app or a local stack nothing: stdlib only."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import infra.topology; "
        "print(sorted({n.partition('.')[0] for n in sys.modules} - set(sys.stdlib_module_names) - {'__main__'}))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(ROOT)], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "['infra']"


def test_every_function_has_a_handler_and_the_other_way_round() -> None:
    """One folder = one Lambda = one handler.py, no __init__.py."""
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/handler.py")}
    names = [function.name for function in FUNCTIONS]

    assert folders == set(names)
    assert len(names) == len(set(names))
    assert list((ROOT / "functions").glob("**/__init__.py")) == []
    for name in names:
        assert callable(importlib.import_module(f"functions.{name}.handler").handler)


@pytest.mark.parametrize("function", [f for f in HTTP if f.name not in ("sign", "dicomweb")], ids=lambda f: f.name)
def test_every_route_has_its_handler(function: topology.Function) -> None:
    """The resolver of a function knows the topology's routes, and no others."""
    assert routes_of(function.name) == {(route.method, route.path) for route in function.routes}


def test_signs_routes_are_its_own_table() -> None:
    """It has no resolver, which would load a framework: it knows the gateway's route keys."""
    routes = {f"{route.method} {route.path}" for route in topology.function("sign").routes}

    assert routes == set(sign.ROUTES)


def test_dicomwebs_routes_are_its_own_table() -> None:
    """Nor has it: its query's parameters may stand twice, and its bodies are no JSON."""
    routes = {f"{route.method} {route.path}" for route in topology.function("dicomweb").routes}

    assert routes == set(routing.ROUTES)


def test_routes_are_told_apart() -> None:
    """No route twice, in one function or two."""
    routes = [(route.method, route.path) for function in FUNCTIONS for route in function.routes]

    assert len(routes) == len(set(routes))


def test_only_health_and_companions_routes_need_no_token() -> None:
    """Routes without authorizer, by name."""
    upload = "/s3/t/{ticket}/s3/multipart/{uploadId}"
    assert set(topology.unauthorized_routes()) == {
        "GET /v1/health",
        "GET /s3/t/{ticket}/s3/params",
        "POST /s3/t/{ticket}/s3/multipart",
        f"GET {upload}",
        f"GET {upload}/{{partNumber}}",
        f"GET {upload}/batch",
        f"POST {upload}/complete",
        f"DELETE {upload}",
    }


@pytest.mark.parametrize("function", HTTP, ids=lambda f: f.name)
def test_scopes_say_what_a_route_does(function: topology.Function) -> None:
    """What reads asks for the scope to read, what changes for the scope to write."""
    for route in function.routes:
        if route.scope is not None:
            assert route.scope == (topology.READ if route.method == "GET" else topology.WRITE)
            assert route.scope in topology.SCOPES


def test_http_functions_answer_before_the_gateway_gives_up() -> None:
    """An HTTP API waits 30 s."""
    assert all(function.timeout_s < 30 for function in HTTP)


def test_a_function_has_one_trigger() -> None:
    """Routes, a queue or a schedule."""
    for function in FUNCTIONS:
        triggers = [bool(function.routes), function.source is not None, function.schedule_minutes is not None]
        assert triggers.count(True) == 1, function.name


@pytest.mark.parametrize("queue", QUEUES, ids=lambda q: q.name)
def test_a_message_sleeps_six_timeouts(queue: topology.Queue) -> None:
    """visibility = 6 x the timeout of the function it feeds, and the sweeper waits as long."""
    (function,) = [f for f in FED if f.source and f.source.queue == queue.name]

    assert queue.visibility_s == 6 * function.timeout_s == QUEUE_VISIBILITY_S[queue.name]
    assert queue.receive_count_max == ATTEMPTS_MAX
    assert queue.dlq_retention_days > queue.retention_days
    # Five receives at the price of a killed sandbox each fit into a message's life.
    assert queue.visibility_s * queue.receive_count_max < queue.retention_days * 86_400


def test_every_queue_is_fed_and_every_limit_is_a_queue() -> None:
    """A rule or a sender for each queue, a queue for each visibility, a queue for each rule and source."""
    names = {queue.name for queue in QUEUES}
    senders = {
        resource.removeprefix("queue:")
        for function in FUNCTIONS
        for allow in function.allows
        if "sqs:SendMessage" in allow.actions
        for resource in allow.resources
    }

    assert {rule.queue for rule in RULES} | senders >= names
    assert {rule.queue for rule in RULES} <= names
    assert {f.source.queue for f in FED if f.source} == names
    assert set(QUEUE_VISIBILITY_S) == names
    assert topology.queue("validate") in QUEUES
    with pytest.raises(KeyError):
        topology.queue("nobody")


def test_one_rule_one_queue_one_owner_per_lane() -> None:
    """No key falls under two rules; each rule's prefix is a key class of its bucket; each lane's keys meet it."""
    buckets = {bucket.name: {one.name for one in bucket.classes} for bucket in topology.BUCKETS}
    for rule in RULES:
        assert rule.prefix.removesuffix("/") in buckets[rule.bucket]
        for other in RULES:
            if other is not rule and other.bucket == rule.bucket:
                assert not other.prefix.startswith(rule.prefix)
                assert other.queue != rule.queue
    file_id = "01JD2Z3NDEKTSV4RRFFQ69G5FA"
    owners = {(rule.bucket, rule.queue): rule for rule in RULES}
    assert keys.staging("in", "t", file_id).startswith(owners["staging", "validate"].prefix)
    assert keys.staging("dicom", "t", file_id).startswith(owners["staging", "dicom_ingest"].prefix)
    assert keys.store("t", file_id).startswith(owners["store", "thumbnail"].prefix)


def test_a_rules_pattern_is_eventbridges() -> None:
    """source, detail-type, bucket and prefix."""
    (rule,) = [rule for rule in RULES if rule.prefix == "in/"]

    assert rule.pattern("b-staging") == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": ["b-staging"]}, "object": {"key": [{"prefix": "in/"}]}},
    }


def test_functions_that_continue_themselves_may_loop() -> None:
    """Whoever may send to the queue that feeds it has recursive_loop allow; nobody else has."""
    for function in FUNCTIONS:
        own = f"queue:{function.source.queue}" if function.source else None
        feeds_itself = any("sqs:SendMessage" in allow.actions and own in allow.resources for allow in function.allows)
        assert function.recursive_loop == ("allow" if feeds_itself else "terminate"), function.name


def test_the_sweeper_is_alone() -> None:
    """One at a time, every quarter of an hour, with time to end before the next."""
    sweep = topology.function("sweep")

    assert (sweep.schedule_minutes, sweep.concurrency_reserved) == (15, 1)
    assert sweep.schedule_minutes * 60 == SWEEP_INTERVAL_S
    assert sweep.timeout_s < 15 * 60


def test_the_contracts_memory_and_timeouts() -> None:
    """The figures of the design."""
    assert {f.name: (f.memory_mb, f.timeout_s) for f in FUNCTIONS} == {
        "initiate": (1024, 29), "sign": (256, 10), "complete": (512, 29), "sessions": (512, 29),
        "validate": (1769, 300), "dicom_ingest": (512, 120), "dicomweb": (1769, 29),
        "thumbnail": (1769, 900), "archive": (1024, 300), "sweep": (512, 300),
    }  # fmt: skip


PLACEHOLDER = re.compile(r"\{(bucket|queue):([a-z_-]+)\}|\{table\}|\{bus\}")


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
def test_every_environment_name_is_known(function: topology.Function) -> None:
    """Placeholders name buckets and queues that exist; names are read by the settings or are AWS's own."""
    known: dict[str, set[str]] = {
        "bucket": {bucket.name for bucket in topology.BUCKETS},
        "queue": {name for queue in QUEUES for name in (queue.name, f"{queue.name}-dlq")},
    }
    from heavylift.settings import Settings, read_settings

    for name, value in {**topology.ENVIRONMENT, **function.environment}.items():
        matched = PLACEHOLDER.fullmatch(value)
        assert matched or "{" not in value
        if matched and matched[1]:
            assert matched[2] in known[matched[1]]
        if name not in topology.SETTINGS:
            told, base = read_settings({name: "x"}), read_settings({})
            assert any(getattr(told, one) != getattr(base, one) for one in Settings.__slots__), name


def test_allowed_resources_exist() -> None:
    """Every resource of a permission is a bucket, a key class, the table, an index or a queue of this topology."""
    known = {"table", "table/index/*", "bus"}
    known |= {f"queue:{name}" for queue in QUEUES for name in (queue.name, f"{queue.name}-dlq")}
    for bucket in topology.BUCKETS:
        known |= {bucket.name} | {f"{bucket.name}/{one.name}/*" for one in bucket.classes}
    for function in FUNCTIONS:
        for allow in function.allows:
            assert allow.resources
            assert set(allow.resources) <= known, function.name
            for action in allow.actions:
                service = action.partition(":")[0]
                prefix = {
                    "s3": ("staging", "store", "derived"),
                    "dynamodb": ("table",),
                    "sqs": ("queue:",),
                    "events": ("bus",),
                }[service]
                assert all(resource.startswith(prefix) for resource in allow.resources)
            assert "*" not in "".join(allow.actions)


def test_the_table_holds_what_records_write() -> None:
    """Each index attribute of a record is an index of the table, and the other way round."""
    from heavylift.records import FileRecord, index_attributes, item_key, to_item
    from heavylift.states import State

    record = FileRecord("t", "f", "n", 1, State.CREATED, fingerprint="v1:" + "a" * 64, logical_id="l", due_at=1.0)
    written = index_attributes(record)
    declared = {key for index in TABLE.indexes for key in (index.partition_key, index.sort_key)}

    assert set(written) == declared
    assert all(isinstance(value, str) and value for value in written.values())
    assert {TABLE.partition_key, TABLE.sort_key} == set(item_key("t", "f"))
    assert declared <= set(to_item(record))
    assert TABLE.ttl_attribute not in to_item(record), "a file's record never vanishes by itself"


def test_quarantine_is_in_the_buckets_life() -> None:
    """The staging objects live as long as the default of QUARANTINE_DAYS; incomplete uploads as SESSION_DAYS."""
    from heavylift.settings import Settings

    (staging,) = [bucket for bucket in topology.BUCKETS if bucket.name == "staging"]
    assert {one.expire_days for one in staging.classes} == {int(Settings().quarantine_days)}
    assert staging.abort_incomplete_days == Settings().session_days


def test_every_bucket_cleans_up_after_a_kill() -> None:
    """A multipart upload that nobody remembers is aborted by its bucket; the store keeps versions."""
    for bucket in topology.BUCKETS:
        assert bucket.abort_incomplete_days
    assert [bucket.name for bucket in topology.BUCKETS if bucket.versioned] == ["store"]


def test_browsers_see_what_they_need() -> None:
    """CORS: PUT to staging with the ETag and the digest exposed; downloads only read."""
    by_name: dict[str, Any] = {bucket.name: bucket for bucket in topology.BUCKETS}

    assert "PUT" in by_name["staging"].cors_methods
    assert {"PUT", "POST"} <= set(by_name["staging"].cors_methods)
    # Uppy 5 waits for ever for a part whose ETag it cannot read, and complains of a form's Location.
    assert {"ETag", "Location", "x-amz-checksum-sha256"} <= set(by_name["staging"].cors_expose)
    for name in ("store", "derived"):
        assert set(by_name[name].cors_methods) == {"GET", "HEAD"}


def test_layers_match_what_handlers_import() -> None:
    """sign needs no layer of libraries; everything else has the base, pictures and detection where they are used."""
    layers = {function.name: set(function.layers) for function in FUNCTIONS}

    assert layers["sign"] == set()
    assert all("base" in layers[name] for name in layers if name != "sign")
    assert layers["thumbnail"] == {"base", "image"}
    assert "detect" in layers["validate"]
