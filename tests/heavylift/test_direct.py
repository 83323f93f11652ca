"""Calls without boto3: what ``direct`` answers and raises is what boto3 does, over the same servers."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from heavylift import aws, direct, items, queue, retried, s3
from heavylift import settings as settings_module
from heavylift.connections import IDLE_S_MAX, Connection
from heavylift.errors import ContentError, TransientError
from heavylift_local.s3.testing import ACCESS_KEY, SECRET_KEY, running_s3
from tests.doubles.table import FakeTable

Scenario = Callable[[], list[Any]]
KEY = "dicom/acme/01J ä&<'+~/x"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A function's environment, and clients of its own."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TABLE_NAME": "t",
        "DICOM_INGEST_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/dicom",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retried.time, "sleep", lambda seconds: None)
    settings_module.settings.cache_clear()
    yield
    settings_module.settings.cache_clear()
    aws._session.cache_clear()


def use(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", function)
    monkeypatch.setattr(aws, "_clients", {})
    aws._session.cache_clear()


def both(monkeypatch: pytest.MonkeyPatch, scenario: Scenario) -> tuple[list[Any], list[Any]]:
    """What a scenario gives with boto3, and with ``direct``."""
    use(monkeypatch, "archive")
    theirs = scenario()
    assert not isinstance(aws.client("s3"), direct.S3)
    use(monkeypatch, "dicom_ingest")
    ours = scenario()
    assert isinstance(aws.client("s3"), direct.S3)
    return theirs, ours


def told(work: Callable[[], Any]) -> Any:
    """What a call gives or raises, without what is different each time."""
    try:
        given = work()
    except (ContentError, TransientError) as error:
        return type(error).__name__, error.code
    except s3.Refused as error:
        return "Refused", error.code
    except (s3.NoSuchKey, s3.NoSuchUpload, s3.PreconditionFailed) as error:
        return type(error).__name__
    except ClientError as error:
        return "ClientError", aws.error_code(error), error.response["ResponseMetadata"]["HTTPStatusCode"]
    return re.sub(r"version_id='[^']+'|at=[0-9.]+|upload_id='[^']+'", "", repr(given))


# --- S3 ---------------------------------------------------------------------------------------------------------------


def objects() -> list[Any]:
    """Every operation of ``s3`` that dicom_ingest asks for, done well and done wrong."""
    body = bytes(range(256)) * 40
    seen: list[Any] = []

    def note(work: Callable[[], Any]) -> Any:
        seen.append(told(work))

    for key in (KEY, "plain"):
        made = s3.put_bytes("staging", key, body, media_type="application/dicom", metadata={"file-id": "a b"})
        seen.append((made.etag, sorted(made.checksums.items())))
        note(lambda key=key: s3.put_bytes("staging", key, b"x", media_type="a/b", only_new=True))
        note(lambda key=key: s3.head("staging", key))
        source = s3.ObjectSource("staging", key, len(body), made.etag)
        note(lambda source=source: source.read(100, 500))
        note(lambda source=source: source.read(len(body) - 5, 500))
        seen.append((source.traffic.requests, source.traffic.bytes_in))
        note(lambda key=key: s3.ObjectSource("staging", key, len(body), "0" * 32).read(0, 10))
        copy = lambda key=key, etag=made.etag: s3.copy_object(  # noqa: E731
            "staging", key, etag, "store", key, media_type="application/dicom", metadata={"file-id": "b"}
        )
        note(copy)
        note(copy)
        note(lambda key=key: s3.copy_object("staging", key, "0", "store", "n", media_type="a/b", metadata={}))
        note(lambda key=key: s3.head("store", key))
        note(lambda key=key: s3.list_versions("store", key))
        note(lambda key=key: s3.read_small("store", key))
    note(lambda: s3.head("staging", "absent"))
    note(lambda: s3.read_small("staging", "absent"))
    note(lambda: s3.ObjectSource("staging", "absent", 5, "0").read(0, 5))
    note(lambda: s3.copy_object("staging", "absent", "0", "store", "n", media_type="a/b", metadata={}))
    note(lambda: s3.head("staging", "plain/no"))
    note(lambda: s3.read_small("nobucket", "k"))
    note(lambda: s3.list_objects("staging", "", limit=1))
    note(lambda: s3.list_objects("staging", "p", after="a"))
    _multipart(note, made.etag, len(body))
    note(lambda: s3.delete("staging", "plain"))
    note(lambda: s3.delete_many("staging", [KEY, "absent"]))
    note(lambda: s3.delete_many("staging", []))
    note(lambda: [s3.delete("store", one.key, one.version_id) for one in s3.list_versions("store", KEY)])
    note(lambda: s3.list_objects("staging", ""))
    note(lambda: s3.delete_many("store", ["plain"]))
    note(lambda: s3.list_versions("store", "plain"))
    for one in s3.list_versions("store", "plain"):
        s3.delete("store", "plain", one.version_id)
    s3.delete("store", "joined")
    for one in s3.list_versions("store", "joined"):
        s3.delete("store", "joined", one.version_id)
    return seen


def _multipart(note: Callable[[Callable[[], Any]], Any], etag: str, size: int) -> None:
    begin = lambda: s3.create_multipart(  # noqa: E731
        "store",
        "joined",
        checksum="CRC32",
        checksum_type="FULL_OBJECT",
        media_type="application/dicom",
        metadata={"a": "b"},
    )
    upload = begin()
    part = s3.copy_part("staging", "plain", etag, "store", "joined", upload, 1, 10, size - 20)
    note(lambda: part)
    note(lambda: s3.copy_part("staging", "plain", "0", "store", "joined", upload, 2, 0, 5))
    note(lambda: s3.copy_part("staging", "absent", etag, "store", "joined", upload, 2, 0, 5))
    note(lambda: s3.put_part("store", "joined", upload, 3, b"by hand"))
    note(lambda: s3.list_parts("store", "joined", upload))
    note(lambda: s3.list_part("store", "joined", upload, 1))
    join = lambda **more: s3.complete_multipart(  # noqa: E731
        "store", "joined", upload, [part], size_bytes=size - 20, checksum_type="FULL_OBJECT", **more
    )
    note(lambda: join(checksum_crc32="AAAAAA=="))
    note(lambda: join(checksum_crc32=part.crc32))
    note(lambda: s3.head("store", "joined"))
    second = begin()
    note(lambda: s3.complete_multipart("store", "joined", second, [part], size_bytes=1))
    note(lambda: s3.abort_multipart("store", "joined", second))
    note(lambda: s3.list_parts("store", "joined", second))


def test_s3_is_boto3s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Answers, refusals and counts of all operations are the same, with odd keys and a session's token too."""
    buckets = [{"name": "staging"}, {"name": "store", "versioned": True}]
    with running_s3(tmp_path, buckets=buckets) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        theirs, ours = both(monkeypatch, objects)

    assert len(theirs) > 50
    assert ours == theirs


# --- a server that says what a test wants -----------------------------------------------------------------------------


@dataclass
class Script:
    """Raw answers in their order, one a request; ``heads`` and ``bodies``: what was asked."""

    port: int
    answers: list[bytes]
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def scripted(*answers: bytes) -> Iterator[Script]:
    """An empty answer hangs up; one that ends with ``|`` hangs up behind it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = Script(server.getsockname()[1], list(answers))
        thread = threading.Thread(target=_play, args=(server, script), daemon=True)
        thread.start()
        yield script
        server.shutdown(socket.SHUT_RDWR)  # ends the wait for the next connection
        thread.join(5)


def _play(server: socket.socket, script: Script) -> None:
    while True:
        try:
            peer, _ = server.accept()
        except OSError:
            return
        script.connections += 1
        threading.Thread(target=_talk, args=(peer, script), daemon=True).start()


def _talk(peer: socket.socket, script: Script) -> None:
    with peer, peer.makefile("rb") as stream:
        while script.answers and (head := _head_of(stream)):
            length = re.search(r"content-length: ([0-9]+)", head, re.IGNORECASE)
            script.heads.append(head)
            script.bodies.append(stream.read(int(length[1])) if length else b"")
            answer = script.answers.pop(0)
            peer.sendall(answer.removesuffix(b"|"))
            if not answer or answer.endswith(b"|"):
                return


def _head_of(stream: Any) -> str:
    lines = []
    while (line := stream.readline()) not in {b"\r\n", b""}:
        lines.append(line.decode("latin-1"))
    return "".join(lines)


def http(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


FOUND = http(200, b'{"Item":{"pk":{"S":"p"},"data":{"B":"AP8="}}}')
NOBODY = http(200, b"{}")


def ask(monkeypatch: pytest.MonkeyPatch, script: Script) -> Any:
    use(monkeypatch, "dicom_ingest")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", script.url)
    return items.get({"pk": "p", "sk": "s"})


SLOW = http(503, b"<Error><Code>SlowDown</Code></Error>")
THROTTLED = http(400, b'{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"slow"}')


@pytest.mark.parametrize(
    "first",
    [
        [SLOW],
        [THROTTLED, THROTTLED, SLOW],
        [b""],
        [b"", b"", b""],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}|"],
        [b"no answer\r\n\r\n|"],
        [http(200, b'{"Item":{}}', x_amz_crc32="1")],
    ],
    ids=["503", "throttled", "hang up", "three times", "cut", "nonsense", "another body"],
)
def test_what_passes_is_tried_again(monkeypatch: pytest.MonkeyPatch, first: list[bytes]) -> None:
    """Up to three failures of the world are mended by the fourth attempt, each signed for itself."""
    with scripted(*first, FOUND) as script:
        found = ask(monkeypatch, script)

    assert found == {"pk": "p", "data": b"\0\xff"}
    assert len(script.heads) == len(first) + 1
    assert all("authorization: AWS4-HMAC-SHA256 Credential=" in head for head in script.heads)


@pytest.mark.parametrize("answer", [SLOW, b""], ids=["503", "hang up"])
def test_four_failures_are_later(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """Then the message comes back: TransientError."""
    with scripted(*[answer] * 4) as script, pytest.raises(TransientError) as raised:
        ask(monkeypatch, script)

    assert raised.value.code == "aws_unavailable"
    assert len(script.heads) == 4


def test_what_does_not_pass_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal is boto3's ClientError with its code; a condition that does not hold is False."""
    said = b'{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no"}'
    with scripted(http(400, said), http(400, b'{"__type":"a#ValidationException"}'), http(403, b"")) as script:
        use(monkeypatch, "dicom_ingest")
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", script.url)
        assert items.put({"pk": "p", "sk": "s"}, only_new=True) is False
        with pytest.raises(ClientError, match="ValidationException"):
            items.get({"pk": "p", "sk": "s"})
        with pytest.raises(ClientError) as raised:
            items.get({"pk": "p", "sk": "s"})

    assert aws.error_code(raised.value) == "403"
    assert script.connections == 1


def test_a_kept_connection_that_was_closed_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a pause, and without counting as an attempt."""
    pauses: list[float] = []
    monkeypatch.setattr(retried.time, "sleep", pauses.append)
    with scripted(FOUND + b"|", FOUND, b"", FOUND) as script:
        assert [bool(ask(monkeypatch, script)) for _ in range(1)] == [True]
        # The other side hung up behind its first answer, and behind the second before it read the third request.
        assert items.get({"pk": "p", "sk": "s"})
        assert items.get({"pk": "p", "sk": "s"})

    assert pauses == []
    assert script.connections == 3


def test_connections_are_kept_and_grow_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten calls go over one connection; one that has slept is not trusted."""
    with scripted(*[FOUND] * 11) as script:
        ask(monkeypatch, script)
        for _ in range(9):
            items.get({"pk": "p", "sk": "s"})
        assert script.connections == 1
        idle = aws.client("dynamodb")._calls._pool._idle["http", f"127.0.0.1:{script.port}"]
        assert isinstance(idle[0], Connection)
        idle[0].used_at -= IDLE_S_MAX
        thread = threading.Thread(target=items.get, args=({"pk": "p", "sk": "s"},))
        idle[0].close()
        thread.start()
        thread.join(10)

    assert script.connections == 2


def test_chunks_and_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body in chunks with trailers, one that ends with the connection, an interim answer before the real one."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx: y\r\n\r\n"
    ended = b"HTTP/1.1 200 OK\r\n\r\n{}|"
    with scripted(chunked, b"HTTP/1.1 100 Continue\r\n\r\n" + NOBODY, ended) as script:
        assert [ask(monkeypatch, script), items.get({"pk": "p", "sk": "s"}), items.get({"pk": "p", "sk": "s"})] == [
            None,
            None,
            None,
        ]


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The read timeout ends the wait; nothing is sent twice over a connection that may still answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        made = direct.client("dynamodb", attempts=2, connect_s=1, read_s=0.05, fallback=pytest.fail)
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(BotoCoreError, match="timeout"):
            made.get_item(TableName="t", Key={})


def test_a_copy_that_fails_behind_its_200_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 may say 200 and then an error: that is no copy."""
    late = http(200, b"<Error><Code>InternalError</Code><Message>We failed</Message></Error>")
    done = http(
        200, b"<CopyObjectResult><ETag>&quot;e&quot;</ETag><ChecksumCRC32>AA==</ChecksumCRC32></CopyObjectResult>"
    )
    with scripted(late, done) as script:
        use(monkeypatch, "dicom_ingest")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", script.url)
        made = s3.copy_object("a", "k", "e", "b", "k", media_type="a/b", metadata={})

    assert (made.etag, dict(made.checksums)) == ("e", {"crc32": "AA=="})


# --- the JSON protocols -----------------------------------------------------------------------------------------------


def test_what_is_asked_is_what_boto3_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets and bodies of the table's, the queue's and the bus's calls are the same, bytes and times included."""

    def scenario() -> list[Any]:
        answer = http(200, b'{"FailedEntryCount":0,"Entries":[{}],"Responses":{},"UnprocessedKeys":{},"Items":[]}')
        with scripted(*[answer] * 9) as script:
            for service in ("DYNAMODB", "SQS", "EVENTBRIDGE"):
                monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", script.url)
            items.put({"pk": "p", "sk": "ä", "data": b"\0\xff", "n": 5, "f": 0.5, "l": [None, True]}, only_new=True)
            items.read_many([{"pk": "p", "sk": "s"}], ["a"])
            items.touch({"pk": "p", "sk": "s"}, x=b"1")
            items.read_page("p", prefix="x", limit=3)
            items.delete_unchanged({"pk": "p", "sk": "s"}, f="g")
            items.put_new([{"pk": "p", "sk": "s"}])
            queue.send("dicom_ingest", queue.Continuation("recount", "acme", "", 0), delay_s=8)
            queue.come_back_in("dicom_ingest", "r", 15)
            at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
            aws.client("events").put_events(Entries=[{"Time": at, "Source": "s", "DetailType": "t", "Detail": "{}"}])
        targets = [re.search(r"x-amz-target: (\S+)", head, re.IGNORECASE) for head in script.heads]
        kinds = [re.search(r"content-type: (\S+)", head, re.IGNORECASE) for head in script.heads]
        bodies = [json.loads(body) for body in script.bodies]
        return [[found[1] for found in group if found] for group in (targets, kinds)] + bodies

    theirs, ours = both(monkeypatch, scenario)

    assert len(theirs) == 11
    assert ours == theirs


def test_binary_attributes_come_back_as_they_went(monkeypatch: pytest.MonkeyPatch) -> None:
    """Base64 on the wire, bytes in the plain values; the checksum of the answer is looked at."""
    table = FakeTable(())
    table.put_item(TableName="t", Item={"pk": {"S": "p"}, "sk": {"S": "s"}, "d": {"B": b"\xff\0"}})
    body = json.dumps({"Item": {"pk": {"S": "p"}, "d": {"B": "/wA="}}}).encode()
    with scripted(http(200, body, x_amz_crc32=str(zlib.crc32(body)))) as script:
        assert ask(monkeypatch, script) == {"pk": "p", "d": table.items["p", "s"]["d"]["B"]}


# --- who uses it ------------------------------------------------------------------------------------------------------


def test_dicom_ingest_starts_without_boto3() -> None:
    """Nor pydantic, pydicom or numpy: a cold start loads what its files need."""
    program = (
        "import sys, functions.dicom_ingest.handler\n"
        "print(sorted({'boto3', 'pydantic', 'pydicom', 'numpy', 'urllib3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "value"), [("AWS_ACCESS_KEY_ID", None), ("HTTPS_PROXY", "http://127.0.0.1:9")])
def test_boto3_goes_where_we_cannot(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    """Keys from elsewhere, a proxy: boto3 knows how."""
    use(monkeypatch, "dicom_ingest")
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)

    assert not isinstance(aws.client("s3"), direct.S3)


def test_what_it_has_not_is_boto3s(monkeypatch: pytest.MonkeyPatch) -> None:
    """One client of boto3 is made for it, when it is first asked for."""
    use(monkeypatch, "dicom_ingest")
    one = aws.client("s3")
    url = one.generate_presigned_url("get_object", Params={"Bucket": "b-u-c", "Key": "k"}, ExpiresIn=60)

    assert url.startswith("https://b-u-c.s3.us-east-1.amazonaws.com/k?") or "b-u-c.s3.amazonaws.com" in url
    assert one.meta is one.meta
