"""A file that is deleted leaves the index: nobody finds its instance, and its series is counted again. Repeatable."""

from __future__ import annotations

import time

from heavylift.dicom import counts, index, recounting
from heavylift.dicom.instances import Series
from heavylift.dicom.verdicts import Verdict
from heavylift.records import FileRecord
from heavylift.settings import settings


def leave_index(record: FileRecord) -> None:
    """Take the instance of a file out of the index, if it is the file's. TransientError."""
    said = record.dicom or {}
    name = (str(said.get("study_uid", "")), str(said.get("series_uid", "")), str(said.get("sop_uid", "")))
    if not all(name):
        return
    if said.get("verdict") == Verdict.CONFLICT.value:
        index.remove_other(record.tenant, name, record.file_id)
        return
    there = index.get_instance(record.tenant, *name)
    if there is None or there.file_id != record.file_id:
        return
    study_uid, series_uid, _ = name
    series = index.get_series(record.tenant, study_uid, series_uid)
    bare = Series(study_uid, series_uid)
    if counts.must_mark_before(series, time.time(), settings().time_scale):
        index.mark(record.tenant, bare, described=False)
    # The message first: a kill between the two costs a recount, the other way round the count would wait for the
    # sweeper.
    recounting.ask(record.tenant, [(study_uid, series_uid)])
    index.remove(record.tenant, name, record.file_id)
    if counts.must_mark_after(index.get_series(record.tenant, study_uid, series_uid)):
        index.mark(record.tenant, bare, described=False)
        recounting.ask(record.tenant, [(study_uid, series_uid)])
