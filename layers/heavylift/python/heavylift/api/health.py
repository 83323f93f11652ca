"""GET /v1/health: every component asked once, side by side. Nobody needs a token for it: no counts, no names."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

from heavylift import aws, counting, ddb_json
from heavylift.limits import SWEEP_INTERVAL_S
from heavylift.settings import settings

ANSWER_S = 2.5  # then a component that still hangs is called failed: the answer is there within 3 s
KEPT_S = 5.0  # anonymous calls in a row cost one look
LATE_INTERVALS = 3
LATE_MIN_S = 60.0  # on a scaled clock a run may take longer than its intervals
_DEAD_LETTERS = "_dlq"

Check = dict[str, str]
_OK: Check = {"status": "ok"}
# What no request needs in order to be answered: it degrades the system, but the API is there.
_BEHIND_THE_SCENES = frozenset({"sweep", "dead_letters"})
_kept: list[tuple[float, dict[str, Check]]] = []


def health() -> tuple[int, dict[str, Any], dict[str, str]]:
    """{"status","checks":{component:{"status","reason"?}}}; 503 when a component fails that requests need."""
    now = time.time()
    if not _kept or not 0 <= now - _kept[0][0] < KEPT_S:
        _kept[:] = [(now, _ask_all(_probes()))]
    checks = _kept[0][1]
    failed = {name for name, check in checks.items() if check["status"] != "ok"}
    body = {"status": "degraded" if failed else "ok", "checks": checks}
    return 503 if failed - _BEHIND_THE_SCENES else 200, body, {}


def _ask_all(probes: Mapping[str, Callable[[], Check]]) -> dict[str, Check]:
    answers: dict[str, Check] = {}

    def ask(name: str, probe: Callable[[], Check]) -> None:
        try:
            answers[name] = probe()
        except ClientError as error:
            answers[name] = _failed("aws_unavailable" if aws.is_later(error) else aws.error_code(error))
        except (ConnectTimeoutError, ReadTimeoutError):
            answers[name] = _failed("timeout")
        except BotoCoreError as error:
            answers[name] = _failed(type(error).__name__)

    # Daemons: what hangs (a name that is not resolved has no timeout) keeps neither the answer nor the process.
    threads = {
        name: threading.Thread(target=ask, args=(name, probe), name=f"health-{name}", daemon=True)
        for name, probe in probes.items()
    }
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + ANSWER_S
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    return {
        name: answers.get(name) or _failed("timeout" if thread.is_alive() else "internal")
        for name, thread in threads.items()
    }


def _failed(reason: str) -> Check:
    return {"status": "failed", "reason": reason}


def _probes() -> dict[str, Callable[[], Check]]:
    """By component what to ask it. The clients are made here: that takes time, but cannot hang."""
    table, buckets, queues = aws.prober("dynamodb"), aws.prober("s3"), aws.prober("sqs")
    urls = settings().queue_urls or {}

    def item(key: Mapping[str, str]) -> dict[str, Any]:
        answer = table.get_item(TableName=settings().table_name, Key=ddb_json.encode_item(key), ConsistentRead=False)
        return ddb_json.decode_item(answer.get("Item", {}))

    def waiting(url: str) -> int:
        answer = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def table_answers() -> Check:
        item({"pk": "T#_#HEALTH", "sk": "H"})
        return _OK

    def bucket_is_there(name: str) -> Callable[[], Check]:
        def ask() -> Check:
            buckets.head_bucket(Bucket=name)
            return _OK

        return ask

    def queues_answer() -> Check:
        for name in sorted(urls):
            if not name.endswith(_DEAD_LETTERS):
                waiting(urls[name])
        return _OK

    def dead_letters_are_none() -> Check:
        found = any(waiting(urls[name]) for name in sorted(urls) if name.endswith(_DEAD_LETTERS))
        return _failed("waiting") if found else _OK

    return {
        "table": table_answers,
        "staging": bucket_is_there(settings().staging_bucket),
        "store": bucket_is_there(settings().store_bucket),
        "derived": bucket_is_there(settings().derived_bucket),
        "queues": queues_answer,
        "dead_letters": dead_letters_are_none,
        "sweep": lambda: sweep_check(item(counting.STATE).get("ran_at"), time.time(), settings().time_scale),
    }


def sweep_check(ran_at: float | None, now: float, time_scale: float) -> Check:
    """Whether the sweeper's last run ended within three of its intervals. None: it has not had its first one."""
    if ran_at is None:
        return {**_OK, "reason": "not_yet"}
    patience_s = max(LATE_MIN_S, LATE_INTERVALS * SWEEP_INTERVAL_S / time_scale)
    return _failed("late") if now - ran_at > patience_s else _OK
