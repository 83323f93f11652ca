"""boto3 talks to the queue service as to SQS: same shapes, same refusals, by each caller's own rights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from heavylift_local.access import Caller, Callers, Grant
from heavylift_local.serving import Exchange, LoopbackServer
from heavylift_local.sqs.queue import Queue
from heavylift_local.sqs.server import QueueService


class Handler(Exchange):
    def do_POST(self) -> None:
        status, headers, body = self.server.service.handle(self.headers, self.read_body(1 << 24))  # type: ignore[attr-defined]
        self.reply(status, body, None, headers)


class Service:
    def __init__(self) -> None:
        self.server = LoopbackServer(Handler)
        dead = Queue("heavylift-work-dlq", 30, 1e6)
        self.queue = Queue("heavylift-work", 30, 1e6, dead, 5)
        self.callers = Callers(
            (
                Caller("all", "AKALL", (Grant(("*",), ("*",)),)),
                Caller("sender", "AKSEND", (Grant(("sqs:SendMessage",), ("queue:work",)),)),
            ),
            "000000000000",
        )
        queues = {"work": self.queue, "work-dlq": dead}
        service = QueueService(queues, self.callers, self.server.url, "us-east-1", "000000000000")
        self.server.service = service  # type: ignore[attr-defined]
        self.url = service.queue_url(self.queue)
        self.server.start("sqs")

    def client(self, key: str = "AKALL") -> Any:
        return boto3.client(
            "sqs",
            endpoint_url=self.server.url,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key="s",
            config=Config(retries={"total_max_attempts": 1}),
        )


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.server.stop()


@pytest.fixture
def sqs(service: Service) -> Any:
    client = service.client()
    client.purge_queue(QueueUrl=service.url)
    return client


def test_a_message_goes_round_with_its_attributes(service: Service, sqs: Any) -> None:
    """Body, attributes, digests and receive count arrive; after deletion nothing is left."""
    sent = sqs.send_message(
        QueueUrl=service.url,
        MessageBody="grüße",
        MessageAttributes={"n": {"DataType": "Number", "StringValue": "1"}},
    )
    [got] = sqs.receive_message(
        QueueUrl=service.url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"], WaitTimeSeconds=1
    )["Messages"]
    sqs.delete_message(QueueUrl=service.url, ReceiptHandle=got["ReceiptHandle"])

    assert got["Body"] == "grüße"
    assert got["MD5OfBody"] == sent["MD5OfMessageBody"]
    assert got["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    assert got["MessageAttributes"]["n"]["StringValue"] == "1"
    assert got["Attributes"]["ApproximateReceiveCount"] == "1"
    attributes = sqs.get_queue_attributes(QueueUrl=service.url, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_the_digest_of_attributes_is_amazons() -> None:
    """The MD5 over attributes equals moto's, an implementation by others."""
    from moto.sqs.models import Message as MotoMessage

    from heavylift_local.sqs.queue import Message

    attributes = {
        "b": {"DataType": "Binary", "BinaryValue": "AAEC"},
        "a": {"DataType": "String", "StringValue": "x"},
    }
    theirs = MotoMessage("id", "body", {})
    theirs.message_attributes = {**attributes, "b": {"DataType": "Binary", "BinaryValue": b"\0\1\2"}}

    assert Message("body", attributes).md5_of_attributes() == theirs.attribute_md5


def test_a_batch_reports_each_entry(service: Service, sqs: Any) -> None:
    """A bad receipt fails alone."""
    sqs.send_message_batch(QueueUrl=service.url, Entries=[{"Id": str(n), "MessageBody": "m"} for n in range(10)])
    got = sqs.receive_message(QueueUrl=service.url, MaxNumberOfMessages=10)["Messages"]
    entries = [{"Id": "good", "ReceiptHandle": got[0]["ReceiptHandle"]}, {"Id": "bad", "ReceiptHandle": "nonsense"}]

    answer = sqs.delete_message_batch(QueueUrl=service.url, Entries=entries)

    assert len(got) == 10
    assert [entry["Id"] for entry in answer["Successful"]] == ["good"]
    assert [(entry["Id"], entry["Code"]) for entry in answer["Failed"]] == [("bad", "ReceiptHandleIsInvalid")]


@pytest.mark.parametrize(
    ("call", "arguments", "code"),
    [
        ("send_message", {"MessageBody": "x" * (1024 * 1024 + 1)}, "InvalidParameterValue"),
        ("send_message", {"MessageBody": "x", "DelaySeconds": 901}, "InvalidParameterValue"),
        ("receive_message", {"MaxNumberOfMessages": 11}, "InvalidParameterValue"),
        ("receive_message", {"WaitTimeSeconds": 21}, "InvalidParameterValue"),
        (
            "send_message_batch",
            {"Entries": [{"Id": str(n), "MessageBody": "m"} for n in range(11)]},
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        ),
        ("send_message_batch", {"Entries": []}, "AWS.SimpleQueueService.EmptyBatchRequest"),
        (
            "send_message_batch",
            {"Entries": [{"Id": "a", "MessageBody": "m"}] * 2},
            "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
        ),
        ("change_message_visibility", {"ReceiptHandle": "x#y", "VisibilityTimeout": 43_201}, "InvalidParameterValue"),
        ("change_message_visibility", {"ReceiptHandle": "x#y", "VisibilityTimeout": 1}, "InvalidParameterValue"),
        ("delete_message", {"ReceiptHandle": "nonsense"}, "ReceiptHandleIsInvalid"),
        ("set_queue_attributes", {"Attributes": {"VisibilityTimeout": "1"}}, "InvalidAction"),
    ],
)
def test_what_sqs_refuses_is_refused(service: Service, sqs: Any, call: str, arguments: Any, code: str) -> None:
    """Limits and unknown calls answer with SQS's own codes."""
    with pytest.raises(ClientError) as refused:
        getattr(sqs, call)(QueueUrl=service.url, **arguments)

    assert refused.value.response["Error"]["Code"] == code


def test_an_unknown_queue_does_not_exist(service: Service, sqs: Any) -> None:
    """botocore maps the code to its own exception class."""
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.send_message(QueueUrl=service.url + "-no", MessageBody="m")


def test_a_caller_does_only_what_it_may(service: Service) -> None:
    """A function that sends to the queue can neither read it nor be somebody unknown."""
    sender = service.client("AKSEND")
    sender.send_message(QueueUrl=service.url, MessageBody="m")
    with pytest.raises(ClientError) as not_allowed:
        sender.receive_message(QueueUrl=service.url)
    with pytest.raises(ClientError) as not_known:
        service.client("AKNOBODY").send_message(QueueUrl=service.url, MessageBody="m")

    assert not_allowed.value.response["Error"]["Code"] == "AccessDeniedException"
    assert not_known.value.response["Error"]["Code"] == "UnrecognizedClientException"
    assert service.callers.counts()["sender"]["sqs.SendMessage"]["requests"] == 1


def test_the_trace_header_travels_with_the_message(service: Service, sqs: Any) -> None:
    """X-Amzn-Trace-Id of the request becomes AWSTraceHeader of the message, which the recursion guard needs."""
    header = "Root=1-00000000-000000000000000000000000;Lineage=abcdef12:3"
    sqs.meta.events.register_first(
        "before-call.sqs.SendMessage", lambda params, **_: params["headers"].update({"X-Amzn-Trace-Id": header})
    )
    sqs.send_message(QueueUrl=service.url, MessageBody="m")
    [got] = sqs.receive_message(QueueUrl=service.url, MessageSystemAttributeNames=["AWSTraceHeader"])["Messages"]

    assert got["Attributes"]["AWSTraceHeader"] == header
