"""Logs and metrics: one JSON line each, metrics in CloudWatch's embedded metric format. Powertools does the writing.

No line holds a presigned URL, a token or a patient's data.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any

import psutil
from aws_lambda_powertools import Logger, single_metric
from aws_lambda_powertools.metrics import MetricUnit


@cache
def logger() -> Logger:
    """The function's logger; its level is ``LOG_LEVEL``."""
    return Logger(
        service=os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "heavylift"), level=os.environ.get("LOG_LEVEL") or "INFO"
    )


_counting = threading.Lock()  # two threads that write a metric at once would mix their lines


def count(name: str, value: float = 1, unit: str = "Count", **dimensions: str) -> None:
    """Write one metric at once (a killed sandbox loses nothing that was counted before)."""
    namespace = os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "heavylift")
    service = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "heavylift")
    with _counting, single_metric(name=name, unit=MetricUnit(unit), value=value, namespace=namespace) as metric:
        metric.add_dimension(name="service", value=service)
        for dimension, text in dimensions.items():
            metric.add_dimension(name=dimension, value=text)


def memory_peak_bytes() -> int:
    """``VmHWM`` of this process: the peak of its resident memory since it was started."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def memory_report() -> dict[str, Any]:
    """What psutil sees: resident and available memory, for the logs. Decisions never use it; budgets are arguments."""
    return {
        "memory_resident_bytes": psutil.Process().memory_info().rss,
        "memory_available_bytes": psutil.virtual_memory().available,
        "memory_peak_bytes": memory_peak_bytes(),
    }
