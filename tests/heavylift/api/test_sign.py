"""sign: a cold start without boto3, a fake DynamoDB over HTTP, and every refusal."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from heavylift import ddb_json, records
from heavylift import settings as settings_module
from heavylift.api import sign, table_requests
from heavylift.errors import RequestError
from heavylift.limits import GIB, MIB, PARTS_PER_CALL_MAX
from heavylift.parts import PartPlan, plan_parts
from heavylift.records import FileRecord
from heavylift.states import State
from tests.doubles import events
from tests.doubles.world import environment

ROOT = Path(__file__).parents[3]
UPLOAD = "01JD2Z3NDEKTSV4RRFFQ69G5FA"
DIGEST = base64.b64encode(sha256(b"a").digest()).decode()
NOW = 1_763_596_800.0
ROUTE = "/v1/uploads/{id}/parts"


@dataclass
class Table:
    """DynamoDB's GetItem and BatchGetItem over HTTP. ``script`` may answer first: a status, or None to hang up.

    ``at_once``: how many items a BatchGetItem gives; the rest are its UnprocessedKeys.
    """

    items: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    script: list[tuple[int, str] | None] = field(default_factory=list)
    port: int = 0
    at_once: int = 100

    def put(self, record: FileRecord) -> None:
        self.put_item(records.to_item(record))

    def put_item(self, item: dict[str, Any]) -> None:
        self.items[item["pk"], item["sk"]] = ddb_json.encode_item(item)

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        if operation == "GetItem":
            assert asked["ConsistentRead"] is True
            item = self.items.get((asked["Key"]["pk"]["S"], asked["Key"]["sk"]["S"]))
            names = [asked["ExpressionAttributeNames"][name] for name in asked["ProjectionExpression"].split(",")]
            return {} if item is None else {"Item": {name: item[name] for name in names if name in item}}
        assert operation == "BatchGetItem"
        ((name, wanted),) = asked["RequestItems"].items()
        assert wanted["ConsistentRead"] is True
        assert 1 <= len(wanted["Keys"]) <= 100
        now, later = wanted["Keys"][: self.at_once], wanted["Keys"][self.at_once :]
        found = [self.items[key] for one in now if (key := (one["pk"]["S"], one["sk"]["S"])) in self.items]
        waiting = {name: {"Keys": later, "ConsistentRead": True}} if later else {}
        return {"Responses": {name: found}, "UnprocessedKeys": waiting}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[ThreadingHTTPServer, list[Table]]]:
    tables: list[Table] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            table = tables[-1]
            body = self.rfile.read(int(self.headers["content-length"]))
            table.requests.append({"headers": dict(self.headers.items()), "body": json.loads(body), "raw": body})
            status, answer = 200, ""
            if table.script:
                scripted = table.script.pop(0)
                if scripted is None:
                    self.connection.close()
                    self.close_connection = True
                    return
                status, answer = scripted
            if status == 200:
                operation = self.headers["x-amz-target"].rpartition(".")[2]
                answer = json.dumps(table.answer(operation, json.loads(body)), default=_base64)
            raw = answer.encode()
            self.send_response(status)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made, tables
    made.shutdown()
    made.server_close()


@pytest.fixture
def table(server: tuple[ThreadingHTTPServer, list[Table]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    http_server, tables = server
    made = Table(port=http_server.server_address[1])
    tables.append(made)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"http://127.0.0.1:{made.port}")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("time.time", lambda: NOW)
    settings_module.settings.cache_clear()
    yield made
    monkeypatch.undo()
    settings_module.settings.cache_clear()
    for connection in table_requests._connections.values():
        connection.close()
    table_requests._connections.clear()


def record_of(size: int = 100 * MIB, **values: Any) -> FileRecord:
    plan = plan_parts(size)
    base: dict[str, Any] = {
        "tenant": "acme",
        "file_id": UPLOAD,
        "name": "a.tif",
        "size": size,
        "status": State.UPLOADING if plan.mode == "multipart" else State.CREATED,
        "mode": plan.mode,
        "part_size": plan.part_size,
        "part_count": plan.part_count,
        "key": f"in/acme/{UPLOAD}",
        "s3_upload_id": "VXBsb2FkSUQ" if plan.mode == "multipart" else None,
        "expires_at": NOW + 86_400,
    }
    return FileRecord(**{**base, **values})


def post(
    parts: Any = None, *, upload_id: str = UPLOAD, tenant: str | None = "acme", raw_body: str | None = None, **more: Any
) -> tuple[int, dict[str, Any], dict[str, str]]:
    event = events.http(
        "POST", ROUTE, path={"id": upload_id}, body={"parts": parts}, raw_body=raw_body, tenant=tenant, **more
    )
    answer = sign.handle(event, events.Context("sign", 10))
    return answer["statusCode"], json.loads(answer["body"]), answer["headers"]


def test_a_cold_start_loads_nothing_but_stdlib_and_heavylift(table: Table) -> None:
    """In a clean child without site-packages the handler answers; sys.modules holds stdlib and heavylift only."""
    table.put(record_of(expires_at=2.0**33))  # the child's clock is the real one
    script = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import importlib.util
spec = importlib.util.spec_from_file_location("handler", sys.argv[3])
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
before = set(sys.modules)
answer = module.handler(json.loads(sys.stdin.read()), None)
foreign = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"heavylift", "__main__"}
late = set(sys.modules) - before
heavy = sorted(name for name in sys.modules if name.startswith("heavylift"))
print(json.dumps({"status": answer["statusCode"], "foreign": sorted(foreign), "heavy": heavy, "late": sorted(late)}))
"""
    event = events.http("POST", ROUTE, path={"id": UPLOAD}, body={"parts": [{"part_number": 1, "sha256": DIGEST}]})
    child = subprocess.run(
        [
            sys.executable, "-I", "-S", "-c", script, str(ROOT / "layers/heavylift/python"), str(ROOT),
            str(ROOT / "functions/sign/handler.py"),
        ],
        input=json.dumps(event), capture_output=True, text=True, timeout=60, check=False,
        env={**environment(), "AWS_ENDPOINT_URL_DYNAMODB": os.environ["AWS_ENDPOINT_URL_DYNAMODB"], "TZ": "UTC"},
    )  # fmt: skip

    assert child.returncode == 0, child.stderr
    report = json.loads(child.stdout.splitlines()[-1])
    assert report["status"] == 200
    assert report["foreign"] == []
    assert "heavylift.api.sign" in report["heavy"]
    assert not {"heavylift.aws", "heavylift.telemetry", "heavylift.dynamo", "heavylift.s3"} & set(report["heavy"])


def test_a_signed_part(table: Table) -> None:
    """URL, headers to send, expiry; content-length and digest are signed, only what a client must set is shown."""
    table.put(record_of())
    status, body, headers = post([{"part_number": 2, "sha256": DIGEST, "size": 16 * MIB}])

    assert status == 200
    assert headers["content-type"] == "application/json"
    (part,) = body["parts"]
    query = parse_qs(urlsplit(part["url"]).query)
    assert part["part_number"] == 2
    assert part["headers"] == {"x-amz-checksum-sha256": DIGEST}
    assert part["expires_at"] == "2025-11-20T00:15:00.000Z"
    assert query["X-Amz-SignedHeaders"] == ["content-length;host;x-amz-checksum-sha256"]
    assert query["X-Amz-Expires"] == ["900"]
    assert query["partNumber"] == ["2"]
    assert query["uploadId"] == ["VXBsb2FkSUQ"]
    assert urlsplit(part["url"]).path == f"/in/acme/{UPLOAD}"


def test_the_last_part_signs_its_own_length(table: Table) -> None:
    """Another length gives another signature: S3 would refuse a longer or shorter body."""
    size = 100 * MIB + 5
    table.put(record_of(size))
    _, body, _ = post([{"part_number": number, "sha256": DIGEST} for number in (6, 7)])
    from heavylift import presign

    for number, part in zip((6, 7), body["parts"], strict=True):
        length = {6: 16 * MIB, 7: 4 * MIB + 5}[number]
        (expected,) = presign.presign_parts(
            presign.Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]),
            "us-east-1",
            presign.bucket_address("heavylift-staging", "us-east-1"),
            f"in/acme/{UPLOAD}",
            "VXBsb2FkSUQ",
            [presign.PartToSign(number, {"content-length": str(length), "x-amz-checksum-sha256": DIGEST})],
            900,
            "20251120T000000Z",
        )
        assert part["url"] == expected


def test_a_single_put(table: Table) -> None:
    """Part 1 of a single upload is a PutObject that must be the first: if-none-match is signed and shown."""
    table.put(record_of(5))
    status, body, _ = post([{"part_number": 1, "sha256": DIGEST}])

    assert status == 200
    (part,) = body["parts"]
    assert part["headers"] == {"if-none-match": "*", "x-amz-checksum-sha256": DIGEST}
    query = parse_qs(urlsplit(part["url"]).query)
    assert query["X-Amz-SignedHeaders"] == ["content-length;host;if-none-match;x-amz-checksum-sha256"]
    assert "uploadId" not in query


def test_without_digests_where_the_session_says_so(table: Table) -> None:
    """checksum none: parts with and without a digest in one call, in the order asked for, each signing its own."""
    table.put(record_of(checksum="none"))
    status, body, _ = post(
        [{"part_number": 3}, {"part_number": 1, "sha256": DIGEST}, {"part_number": 2}, {"part_number": 3}]
    )

    assert status == 200
    assert [part["part_number"] for part in body["parts"]] == [3, 1, 2, 3]
    for part in body["parts"]:
        query = parse_qs(urlsplit(part["url"]).query)
        assert query["partNumber"] == [str(part["part_number"])]
        with_digest = part["part_number"] == 1
        assert ("x-amz-checksum-sha256" in part["headers"]) is with_digest
        assert ("x-amz-checksum-sha256" in query["X-Amz-SignedHeaders"][0]) is with_digest


def test_a_url_never_outlives_its_session(table: Table) -> None:
    """The last minute of a session signs for a minute."""
    table.put(record_of(expires_at=NOW + 60))
    _, body, _ = post([{"part_number": 1, "sha256": DIGEST}])

    assert parse_qs(urlsplit(body["parts"][0]["url"]).query)["X-Amz-Expires"] == ["60"]
    assert body["parts"][0]["expires_at"] == "2025-11-20T00:01:00.000Z"


def test_the_signature_lives_as_long_as_the_setting_says(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGNATURE_TTL_SECONDS is effective."""
    table.put(record_of())
    monkeypatch.setenv("SIGNATURE_TTL_SECONDS", "2")
    settings_module.settings.cache_clear()
    _, body, _ = post([{"part_number": 1, "sha256": DIGEST}])

    assert parse_qs(urlsplit(body["parts"][0]["url"]).query)["X-Amz-Expires"] == ["2"]


def test_a_thousand_parts_fit_into_an_answer(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 000 parts with a token of 1 kB half of which is percent-encoded: below Lambda's 6 MB, log line included."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "A/" * 512)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://" + "x" * 60 + ".example.org")
    table.put(record_of(1100 * GIB, s3_upload_id="u" * 128))
    event = events.http(
        "POST",
        ROUTE,
        path={"id": UPLOAD},
        body={"parts": [{"part_number": number, "sha256": DIGEST} for number in range(7_001, 8_001)]},
    )
    answer = sign.handle(event, None)

    assert answer["statusCode"] == 200
    assert len(json.loads(answer["body"])["parts"]) == PARTS_PER_CALL_MAX
    assert len(json.dumps(answer)) < 6_000_000


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        (None, 422, "invalid_body"),
        ([], 422, "invalid_body"),
        ({}, 422, "invalid_body"),
        ("1", 422, "invalid_body"),
        ([1], 422, "invalid_body"),
        ([{}], 422, "invalid_body"),
        ([{"part_number": "1", "sha256": DIGEST}], 422, "invalid_body"),
        ([{"part_number": 1.5, "sha256": DIGEST}], 422, "invalid_body"),
        ([{"part_number": True, "sha256": DIGEST}], 422, "invalid_body"),
        ([{"part_number": 0, "sha256": DIGEST}], 400, "part_number_out_of_range"),
        ([{"part_number": -1, "sha256": DIGEST}], 400, "part_number_out_of_range"),
        ([{"part_number": 8, "sha256": DIGEST}], 400, "part_number_out_of_range"),
        ([{"part_number": 10**400, "sha256": DIGEST}], 400, "part_number_out_of_range"),
        ([{"part_number": 1}], 422, "sha256_required"),
        ([{"part_number": 1, "sha256": None}], 422, "sha256_required"),
        ([{"part_number": 1, "sha256": ""}], 422, "invalid_body"),
        ([{"part_number": 1, "sha256": 5}], 422, "invalid_body"),
        ([{"part_number": 1, "sha256": DIGEST[:-4]}], 422, "invalid_body"),
        ([{"part_number": 1, "sha256": DIGEST + "\n"}], 422, "invalid_body"),
        ([{"part_number": 1, "sha256": DIGEST + "x: y"}], 422, "invalid_body"),
        ([{"part_number": 1, "sha256": sha256(b"a").hexdigest()}], 422, "invalid_body"),
        ([{"part_number": 1, "sha256": DIGEST, "size": 1}], 422, "part_size_mismatch"),
        ([{"part_number": 7, "sha256": DIGEST, "size": 16 * MIB}], 422, "part_size_mismatch"),
        ([{"part_number": 1, "sha256": DIGEST, "size": "16777216"}], 422, "part_size_mismatch"),
        ([{"part_number": 1, "sha256": DIGEST}, {"part_number": 9, "sha256": DIGEST}], 400, "part_number_out_of_range"),
        ([{"part_number": 1, "sha256": DIGEST}] * 1001, 422, "invalid_body"),
    ],
)
def test_what_cannot_be_signed(table: Table, parts: Any, status: int, code: str) -> None:
    """Each defect has its status and code; nothing is signed."""
    table.put(record_of())
    answered, body, headers = post(parts)

    assert (answered, body["code"]) == (status, code)
    assert headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["instance"].endswith("/parts")
    assert "parts" not in body
    assert "Signature" not in json.dumps(body)


@pytest.mark.parametrize("raw", ["{", "x", "\ud800", '{"parts": NaN}', "[" * 100_000, "\x00"])
def test_what_is_no_json(table: Table, raw: str) -> None:
    """400 not_json."""
    table.put(record_of())
    status, body, _ = post(raw_body=raw)

    assert (status, body["code"]) == (400, "not_json")


@pytest.mark.parametrize("raw", ["[]", "5", '"x"', "null", "", "{}", '{"parts":[{"part_number":1e999}]}'])
def test_json_of_another_shape(table: Table, raw: str) -> None:
    """422 invalid_body, whatever value it is."""
    table.put(record_of())
    status, body, _ = post(raw_body=raw)

    assert (status, body["code"]) == (422, "invalid_body")


@given(st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["parts", "part_number", "sha256", "size", "x"]), inner, max_size=4),
    ),
    max_leaves=15,
))  # fmt: skip
def test_any_body_is_signed_or_refused(body: Any) -> None:
    """No JSON value makes anything but a list of parts with headers, or a RequestError."""
    plan = PartPlan(100 * MIB, "multipart", 16 * MIB, 7)
    try:
        wanted = sign.wanted_parts(body, plan, digest_required=True)
    except RequestError:
        return
    assert all(set(part.headers) == {"content-length", "x-amz-checksum-sha256"} for part in wanted)


@pytest.mark.parametrize("state", [state for state in State if state not in {State.CREATED, State.UPLOADING}])
def test_no_urls_outside_an_open_session(table: Table, state: State) -> None:
    """An upload that is joined, cancelled, expired or done takes no more parts."""
    table.put(record_of(status=state))
    status, body, _ = post([{"part_number": 1, "sha256": DIGEST}])

    if state is State.EXPIRED:
        assert (status, body["code"]) == (410, "upload_expired")
    else:
        assert (status, body["code"]) == (409, "state_conflict")


def test_a_session_whose_time_is_over(table: Table) -> None:
    """410, before and after the sweeper has seen it."""
    table.put(record_of(expires_at=NOW))
    status, body, _ = post([{"part_number": 1, "sha256": DIGEST}])

    assert (status, body["code"]) == (410, "upload_expired")


@pytest.mark.parametrize(
    ("upload_id", "tenant"),
    [
        (UPLOAD, "globex"),
        ("01JD2Z3NDEKTSV4RRFFQ69G5FB", "acme"),
        ("x", "acme"),
        ("../" + UPLOAD, "acme"),
        (UPLOAD + "#F", "acme"),
        (UPLOAD + "-000001", "acme"),
    ],
)
def test_unknown_and_foreign_ids_are_the_same_404(table: Table, upload_id: str, tenant: str) -> None:
    """Another tenant's id looks like no id at all."""
    table.put(record_of())
    status, body, _ = post([{"part_number": 1, "sha256": DIGEST}], upload_id=upload_id, tenant=tenant)

    assert (status, body["code"]) == (404, "not_found")
    assert body["detail"] == "There is no upload or file with this id."
    assert all(f"T#{tenant}#" in request["body"]["Key"]["pk"]["S"] for request in table.requests)


@pytest.mark.parametrize("tenant", [None, "", "Acme", "a/b", "acme#F#x", "é"])
def test_no_tenant_no_answer(table: Table, tenant: str | None) -> None:
    """A token without a usable tenant: 403, and the table is not asked."""
    status, body, _ = post([{"part_number": 1, "sha256": DIGEST}], tenant=tenant)

    assert (status, body["code"]) == (403, "no_tenant")
    assert table.requests == []


def test_the_tenant_comes_from_the_claim_that_is_set(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """TENANT_CLAIM is effective."""
    table.put(record_of(tenant="org7"))
    monkeypatch.setenv("TENANT_CLAIM", "custom:org")
    settings_module.settings.cache_clear()
    assert post([{"part_number": 1, "sha256": DIGEST}], claims={"custom:org": "org7"})[0] == 200
    assert post([{"part_number": 1, "sha256": DIGEST}])[0] == 403


def test_one_read_that_dynamodb_would_accept(table: Table) -> None:
    """One GetItem, strongly consistent, of the attributes needed; its signature is the one that botocore makes."""
    table.put(record_of())
    assert post([{"part_number": 1, "sha256": DIGEST}])[0] == 200
    (request,) = table.requests
    body = request["body"]

    assert body["ConsistentRead"] is True
    assert body["TableName"] == "heavylift"
    assert body["Key"] == {"pk": {"S": f"T#acme#F#{UPLOAD}"}, "sk": {"S": "F"}}
    headers = {name.lower(): value for name, value in request["headers"].items()}
    assert headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
    signed = re.search(r"SignedHeaders=([^,]+)", headers["authorization"])
    assert signed is not None
    judged = AWSRequest("POST", f"http://{headers['host']}/", data=request["raw"])
    for name in signed[1].split(";"):
        judged.headers[name] = headers[name]
    judge = botocore.auth.SigV4Auth(
        Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]), "dynamodb", "us-east-1"
    )
    judged.context["timestamp"] = headers["x-amz-date"]
    expected = judge.signature(judge.string_to_sign(judged, judge.canonical_request(judged)), judged)
    assert headers["authorization"].endswith(f"Signature={expected}")


def _throttled() -> tuple[int, str]:
    return 400, json.dumps({"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"})


@pytest.mark.parametrize(
    "trouble", [None, (500, "{}"), (503, ""), _throttled(), (400, '{"__type":"...#ThrottlingException"}')]
)
@pytest.mark.parametrize("times", [1, 2])
def test_a_read_that_stumbles_is_repeated(table: Table, trouble: tuple[int, str] | None, times: int) -> None:
    """A closed connection, a 5xx or a throttle: asked again, and answered."""
    table.put(record_of())
    table.script = [trouble] * times

    assert post([{"part_number": 1, "sha256": DIGEST}])[0] == 200


def test_a_table_that_does_not_answer_is_a_503(table: Table) -> None:
    """Retryable, with Retry-After; the next call finds a new connection."""
    table.put(record_of())
    table.script = [None] * 3
    status, body, headers = post([{"part_number": 1, "sha256": DIGEST}])

    assert (status, body["code"], body["retryable"]) == (503, "aws_unavailable", True)
    assert headers["retry-after"] == "2"
    assert post([{"part_number": 1, "sha256": DIGEST}])[0] == 200


def test_a_fault_of_ours_is_a_500_problem(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    """DynamoDB refuses our permission: the caller gets a problem with the request's id, the log the reason."""
    table.put(record_of())
    table.script = [(400, '{"__type":"...#AccessDeniedException"}')]
    status, body, _ = post([{"part_number": 1, "sha256": DIGEST}])

    assert (status, body["code"], body["request_id"]) == (500, "internal_error", "UXHyZgTTIAMEJxQ=")
    assert "DynamoDB" not in json.dumps(body)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any("DynamoDB refused GetItem with 400" in line.get("exception", "") for line in lines)


def test_the_log_line_counts_and_tells_no_secret(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON line in CloudWatch's metric format; no URL, no signature, no credential."""
    table.put(record_of())
    assert post([{"part_number": number, "sha256": DIGEST} for number in (1, 2)])[0] == 200
    (line,) = capsys.readouterr().out.splitlines()
    logged = json.loads(line)

    assert logged["PartsSigned"] == 2
    assert logged["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"] == "PartsSigned"
    assert logged["correlation_id"] == "UXHyZgTTIAMEJxQ="
    for secret in ("Signature", "http", os.environ["AWS_SECRET_ACCESS_KEY"], "Bearer"):
        assert secret not in line
