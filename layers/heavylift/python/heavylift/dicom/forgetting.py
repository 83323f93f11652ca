"""What is left of a patient when instances are deleted: nothing that described them. I/O.

A series whose recount has found no instance is *stripped*: its item keeps UIDs and the numbers that only grow, so that
late writes of today stay recognisable, and the table removes it after some months. A study none of whose series has
an instance loses its item. Both under races with those who put instances:

A worker   marks the series, puts, and reads series and study again: what was claimed meanwhile is marked anew, with
           its description; a study that is gone is written again (``ingest``, ``single``).
A recount  strips under the condition that no newer mark is there; reads all series of the study; deletes the study if
           none has instances and none is marked; reads them again, and writes the study again if somebody has come.

A strip never takes a description that is needed: a worker whose second look came before the recount's claim has put
its instance before it was counted; any later second look finds the mark claimed and describes the series anew. And a
study is never missing for good: a worker whose second look came before the study went had marked its series before,
which the recount's second look sees. Where a recount is killed between the two, the series that the worker has marked
is due for a recount of its own, and every recount that counts something puts right what is missing.
"""

from __future__ import annotations

import time

from heavylift import keys, s3
from heavylift.dicom import header, index
from heavylift.dicom import instances as model
from heavylift.dicom.instances import Instance, Series
from heavylift.errors import ContentError
from heavylift.settings import settings
from heavylift.telemetry import logger


def forget_bodies(tenant: str, study_uid: str) -> None:
    """Delete what was made of several instances of a study for somebody to fetch."""
    for prefix in keys.study_prefixes(tenant, study_uid):
        delete_under(settings().derived_bucket, prefix)


def forget_older(tenant: str, series: Series) -> None:
    """Delete what was made of a series under other marks than its own."""
    if series.series_id:
        kept = tuple(f"{keys.series_prefix(tenant, series.series_id)}{series.mark_seq}{end}" for end in ".-")
        delete_under(settings().derived_bucket, keys.series_prefix(tenant, series.series_id), but=kept)


def forget_empty(tenant: str, series: Series) -> None:
    """All that is left to do for a series that was stripped; repeatable."""
    if series.series_id:
        delete_under(settings().derived_bucket, keys.series_prefix(tenant, series.series_id))
    forget_bodies(tenant, series.study_uid)
    study, of_study = index.read_study(tenant, series.study_uid)
    if study is not None and not _alive(of_study):
        index.remove_study(tenant, series.study_uid)
        if _alive(index.read_study(tenant, series.study_uid)[1]):
            index.add_study(tenant, study)
        else:
            logger().info("a study without instances was forgotten", study_uid=series.study_uid)
    index.rest(tenant, series)


def _alive(series: list[Series]) -> bool:
    return any(one.dirty or one.instances for one in series)


def put_right(tenant: str, series: Series, one: Instance) -> None:
    """Describe a series, and its study, by an instance of theirs where that is missing."""
    bare = series.stripped or not series.series_id
    if not bare and index.get_study(tenant, series.study_uid) is not None:
        return
    head = s3.head(settings().store_bucket, one.key(tenant))
    if head is None:
        return  # deleted at this moment: its series will be counted again
    try:
        source = s3.ObjectSource(settings().store_bucket, one.key(tenant), head.size_bytes, head.etag)
        found = header.scan(source.read, head.size_bytes)
    except ContentError:
        return
    if bare:
        index.mark(tenant, model.series_of(found))
    index.add_study(tenant, model.study_of(found, time.time()))
    logger().info("a series was described anew", study_uid=series.study_uid, series_uid=series.series_uid)


def delete_under(bucket: str, prefix: str, *, but: tuple[str, ...] = ()) -> None:
    """Delete every object under ``prefix`` but those that begin as ``but`` says, page by page."""
    after: str | None = ""
    while after is not None:
        page, after = s3.list_objects(bucket, prefix, after=after)
        for one in page:
            if not one.key.startswith(but or ("\0",)):
                s3.delete(bucket, one.key)
