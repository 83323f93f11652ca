"""What wakes somebody: every alarm as data, its limit with a reason, and what to do with it in docs/operations.md.

Pure; the CDK app makes CloudWatch's alarms of them, and a test holds the documentation to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infra import topology

NAMESPACE = dict(topology.LIBRARY_ENVIRONMENT)["POWERTOOLS_METRICS_NAMESPACE"]
API_ID = "{api}"  # filled in by the stack: the one dimension that only CloudFormation knows
# Between a killed sandbox and its message's return lies one visibility; a quarter of an hour more is a jam.
JAM_S = 900
# Of a hundred calls; below, a client's retries hide it.
SERVER_ERRORS_PERCENT = 2
FUNCTION_ERRORS_PERCENT = 5
# Lost events are the sweeper's daily bread one by one; so many within an hour are a broken rule or queue.
LOST_EVENTS_MAX = 20
SWEEPER_LOST = ("resend", "arrive", "announce", "take_up", "archive_resend")
SWEEPER_GAVE_UP = ("fail", "archive_fail")


@dataclass(frozen=True, slots=True)
class Metric:
    """One time series; ``name`` within ``namespace``, dimensions as (name, value)."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str = "Sum"


@dataclass(frozen=True, slots=True)
class Alarm:
    """Rings when ``expression`` over ``metrics`` (m0, m1, …) is above ``threshold`` in each of ``periods``.

    Without an expression it is the one metric. ``below``: rings when it is below, or when nothing is told at all.
    """

    name: str
    kind: str
    words: str
    metrics: tuple[Metric, ...]
    threshold: float
    expression: str = ""
    period_s: int = 300
    periods: int = 1
    below: bool = False


def alarms(deployment: str) -> tuple[Alarm, ...]:
    """All alarms of a deployment; names begin with nothing, the stack puts the deployment before them."""
    return (*_queues(deployment), *_functions(deployment), *_api(), *_sweeper(deployment), *_content(deployment))


def _queues(deployment: str) -> Iterator[Alarm]:
    def of(queue: str, metric: str) -> Metric:
        return Metric("AWS/SQS", metric, (("QueueName", f"{deployment}-{queue}"),), "Maximum")

    fed = {rule.queue for rule in (*topology.RULES, *topology.SCAN_RULES)}
    for queue in topology.QUEUES:
        for name in (f"{queue.name}-dlq", *([f"{queue.name}-delivery-dlq"] if queue.name in fed else [])):
            yield Alarm(
                name,
                "dead letters",
                "messages wait for a decision; nothing consumes them",
                (of(name, "ApproximateNumberOfMessagesVisible"),),
                0,
            )
        yield Alarm(
            f"{queue.name}-jam",
            "jam",
            "the oldest message waits longer than a killed sandbox explains",
            (of(queue.name, "ApproximateAgeOfOldestMessage"),),
            queue.visibility_s + JAM_S,
            periods=3,
        )


def _functions(deployment: str) -> Iterator[Alarm]:
    for function in topology.FUNCTIONS:
        dimensions = (("FunctionName", f"{deployment}-{function.name}"),)
        errors, calls, throttles = (
            Metric("AWS/Lambda", name, dimensions) for name in ("Errors", "Invocations", "Throttles")
        )
        yield Alarm(
            f"{function.name}-errors",
            "errors",
            "calls crash, run out of time or out of memory",
            (errors, calls),
            FUNCTION_ERRORS_PERCENT,
            expression="IF(m1 > 0, 100 * m0 / m1, 0)",
            periods=3,
        )
        if function.concurrency_reserved is None:  # the sweeper is meant to be alone
            yield Alarm(
                f"{function.name}-throttles",
                "throttles",
                "the account's concurrency is used up",
                (throttles,),
                0,
                periods=3,
            )
        if function.source:
            unexpected = (("service", f"{deployment}-{function.name}"), ("reason", "unexpected"))
            yield Alarm(
                f"{function.name}-unexpected",
                "unexpected",
                "a message failed for a reason that is ours: a defect",
                (Metric(NAMESPACE, "MessagesFailed", unexpected),),
                0,
            )


def _api() -> Iterator[Alarm]:
    dimensions = (("ApiId", API_ID),)
    server, calls = (Metric("AWS/ApiGateway", name, dimensions) for name in ("5xx", "Count"))
    yield Alarm(
        "api-errors",
        "api",
        "more than a few calls are answered 5xx",
        (server, calls),
        SERVER_ERRORS_PERCENT,
        expression="IF(m1 > 0, 100 * m0 / m1, 0)",
        periods=3,
    )


def _sweeper(deployment: str) -> Iterator[Alarm]:
    name = f"{deployment}-sweep"

    def found(what: str) -> Metric:
        return Metric(NAMESPACE, "Swept", (("service", name), ("what", what)))

    def total(whats: tuple[str, ...]) -> tuple[tuple[Metric, ...], str]:
        metrics = tuple(found(what) for what in whats)
        return metrics, " + ".join(f"FILL(m{n}, 0)" for n in range(len(metrics)))

    minutes = topology.function("sweep").schedule_minutes or 15
    yield Alarm(
        "sweep-silent",
        "sweeper",
        "the sweeper has not run three times in a row: nothing is found that got lost",
        (Metric("AWS/Lambda", "Invocations", (("FunctionName", name),)),),
        1,
        period_s=minutes * 60,
        periods=3,
        below=True,
    )
    lost, lost_sum = total(SWEEPER_LOST)
    yield Alarm(
        "sweep-lost-events",
        "sweeper",
        "the sweeper found many files whose event or message never came",
        lost,
        LOST_EVENTS_MAX,
        expression=lost_sum,
        period_s=3600,
    )
    gave_up, gave_up_sum = total(SWEEPER_GAVE_UP)
    yield Alarm(
        "sweep-gave-up",
        "sweeper",
        "files ended failed after the last attempt",
        gave_up,
        0,
        expression=gave_up_sum,
        period_s=3600,
    )
    yield Alarm(
        "sweep-refused",
        "sweeper",
        "AWS refused the sweeper a call: a permission or a bucket's policy is wrong",
        (found("refused"),),
        0,
        period_s=3600,
    )


def _content(deployment: str) -> Iterator[Alarm]:
    yield Alarm(
        "threat-after-promotion",
        "threat",
        "a threat was found in a file that is already in the store",
        (Metric(NAMESPACE, "ThreatsAfterPromotion", (("service", f"{deployment}-validate"),)),),
        0,
    )
