"""Lambda entry point: sweep. Every quarter of an hour, one at a time."""

from heavylift.messages import reserve_s
from heavylift.sweeping import sweep
from heavylift.telemetry import logger


def handler(event, context):
    logger().append_keys(trigger=event.get("source", "schedule") if isinstance(event, dict) else "schedule")
    reserve = reserve_s(context.get_remaining_time_in_millis() / 1000)
    return sweep(lambda: context.get_remaining_time_in_millis() / 1000 - reserve)
