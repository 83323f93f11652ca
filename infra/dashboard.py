"""The one dashboard, as data: what an operator looks at first. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infra import topology
from infra.alarms import API_ID, NAMESPACE, Metric

Series = tuple[str, str, Metric]
_NONE = Metric("", "", ())


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph: series of (label, search expression, metric); an expression stands in the metric's place."""

    title: str
    series: tuple[Series, ...]


def _search(deployment: str, metric: str, dimensions: str, statistic: str, label: str) -> Series:
    """All time series of a metric of this deployment, whatever its second dimension says."""
    # A search knows no wildcard within a word, so every function is named.
    services = " OR ".join(f'"{deployment}-{one.name}"' for one in topology.FUNCTIONS)
    term = f'{{{NAMESPACE},{dimensions}}} MetricName="{metric}" service=({services})'
    return label, f"SEARCH('{term}', '{statistic}', 300)", _NONE


def panels(deployment: str) -> tuple[Panel, ...]:
    """Three in a row: what comes in, what becomes of it, what it costs; then queues, functions, API."""
    return tuple(_panels(deployment))


def _panels(deployment: str) -> Iterator[Panel]:
    def ours(function: str, metric: str, statistic: str = "Sum") -> Metric:
        return Metric(NAMESPACE, metric, (("service", f"{deployment}-{function}"),), statistic)

    def search(metric: str, dimension: str, statistic: str = "Sum") -> Series:
        return _search(deployment, metric, f"{dimension},service", statistic, "")

    yield Panel(
        "Uploads",
        (
            ("begun", "", ours("initiate", "UploadsInitiated")),
            ("completed", "", ours("complete", "UploadsCompleted")),
            ("cancelled", "", ours("complete", "UploadsCancelled")),
            ("parts signed", "", ours("sign", "PartsSigned")),
        ),
    )
    yield Panel("Verdicts", (search("FilesCompleted", "kind"), search("FilesRejected", "code")))
    yield Panel("Bytes", (search("BytesStored", "kind"), search("BytesRead", "kind")))
    fed = [function for function in topology.FUNCTIONS if function.source]
    yield Panel("Lag (p95)", tuple((one.name, "", ours(one.name, "MessageLag", "p95")) for one in fed))
    yield Panel("Time of a call (p95)", tuple((one.name, "", ours(one.name, "CallMilliseconds", "p95")) for one in fed))
    yield Panel("Memory (peak)", tuple((one.name, "", ours(one.name, "MemoryPeak", "Maximum")) for one in fed))
    yield Panel("DICOM", (search("DicomFiles", "verdict"),))
    yield Panel("Messages that failed", (search("MessagesFailed", "reason"),))
    yield Panel("The sweeper found", (search("Swept", "what"),))
    for title, metric in (
        ("Waiting", "ApproximateNumberOfMessagesVisible"),
        ("Oldest", "ApproximateAgeOfOldestMessage"),
    ):
        yield Panel(
            title,
            tuple(
                (queue.name, "", Metric("AWS/SQS", metric, (("QueueName", f"{deployment}-{queue.name}"),), "Maximum"))
                for queue in topology.QUEUES
            ),
        )
    yield Panel(
        "Dead letters",
        tuple(
            (
                queue.name,
                "",
                Metric(
                    "AWS/SQS",
                    "ApproximateNumberOfMessagesVisible",
                    (("QueueName", f"{deployment}-{queue.name}-dlq"),),
                    "Maximum",
                ),
            )
            for queue in topology.QUEUES
        ),
    )
    for title, metric, statistic in (
        ("Function errors", "Errors", "Sum"),
        ("At work", "ConcurrentExecutions", "Maximum"),
    ):
        yield Panel(
            title,
            tuple(
                (one.name, "", Metric("AWS/Lambda", metric, (("FunctionName", f"{deployment}-{one.name}"),), statistic))
                for one in topology.FUNCTIONS
            ),
        )
    yield Panel(
        "API",
        tuple(
            (label, "", Metric("AWS/ApiGateway", metric, (("ApiId", API_ID),), statistic))
            for label, metric, statistic in (
                ("calls", "Count", "Sum"),
                ("4xx", "4xx", "Sum"),
                ("5xx", "5xx", "Sum"),
                ("latency p99 (ms)", "Latency", "p99"),
            )
        ),
    )
