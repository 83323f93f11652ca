"""Recounts of series that have changed: the exact number, and the description that viewers ask for, made once.

See ``counts`` for the protocol. A recount costs two writes, whatever the size of the series.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from heavylift import keys, queue, s3
from heavylift.dicom import counts, forgetting, index, prebuilt
from heavylift.dicom.instances import Instance, Series
from heavylift.limits import HOP_LIMIT
from heavylift.settings import settings
from heavylift.telemetry import count, logger

QUEUE = "dicom_ingest"


def ask(tenant: str, series: Iterable[tuple[str, str]], *, hop: int = 0) -> None:
    """Send the message that recounts these series (study, series) when they have come to rest. TransientError."""
    wanted = sorted(set(series))
    if not wanted:
        return
    delay_s = math.ceil(counts.RECOUNT_AFTER_S / settings().time_scale)
    # ``id`` names no file here; a message of ours always has one.
    message = queue.Continuation("recount", tenant, "", 0, hop, HOP_LIMIT, {"series": [list(one) for one in wanted]})
    queue.send(QUEUE, message, delay_s=delay_s)


def take(message: queue.Continuation) -> None:
    """Settle a recount's message: what is not at rest yet is asked for once more."""
    named = (message.checkpoint or {}).get("series", ())
    unrest = [(study, series) for study, series in named if recount(message.tenant, study, series) == "postponed"]
    if unrest and message.hop < message.hop_limit:
        ask(message.tenant, unrest, hop=message.hop + 1)


def recount(tenant: str, study_uid: str, series_uid: str) -> str:
    """Count a series if it is dirty and at rest: ``counted``, ``postponed`` or ``nothing``."""
    series = index.get_series(tenant, study_uid, series_uid)
    if series is None:
        return "nothing"
    if not series.dirty:
        if not series.instances:
            forgetting.forget_empty(tenant, series)  # whoever has stripped it may have been killed before this
        return "nothing"
    if not counts.may_recount(series, time.time(), settings().time_scale) or not index.claim(tenant, series):
        return "postponed"
    found = list(index.instances_of(tenant, study_uid, series_uid))
    if not found:
        if not index.strip(tenant, series):
            return "postponed"
        forgetting.forget_empty(tenant, series)
        logger().info("series has no instance any more", study_uid=study_uid, series_uid=series_uid)
        return "counted"
    forgetting.put_right(tenant, series, found[0])
    json_key = _describe(tenant, series, found)
    if not index.settle(tenant, series, len(found), sum(one.size for one in found), json_key):
        if json_key is not None:
            s3.delete(settings().derived_bucket, json_key)
        return "postponed"
    if series.json_key is not None:
        forgetting.forget_older(tenant, series)
    logger().info("series counted", study_uid=study_uid, series_uid=series_uid, instances=len(found))
    count("SeriesCounted")
    return "counted"


def _describe(tenant: str, series: Series, found: list[Instance]) -> str | None:
    """Write the series' description under a key of its own mark; None for a series that nobody has described."""
    if not series.series_id:
        return None
    key = keys.series_json(tenant, series.series_id, series.mark_seq)
    body = prebuilt.series_body(series, found)
    s3.put_bytes(settings().derived_bucket, key, body, media_type=prebuilt.MEDIA_TYPE)
    return key
