"""A file that is deleted leaves the index: nobody finds its instance, and its series is counted again. Repeatable.

The series is marked before and after, so that whoever makes something of the study meanwhile notices (``forgetting``
says what becomes of a series and a study that have no instance any more).
"""

from __future__ import annotations

from heavylift.dicom import counts, forgetting, index, recounting
from heavylift.dicom.instances import Series
from heavylift.dicom.verdicts import Verdict
from heavylift.records import FileRecord


def leave_index(record: FileRecord) -> None:
    """Take the instance of a file out of the index, if it is the file's. TransientError."""
    said = record.dicom or {}
    name = (str(said.get("study_uid", "")), str(said.get("series_uid", "")), str(said.get("sop_uid", "")))
    if not all(name):
        return
    if said.get("verdict") == Verdict.CONFLICT.value:
        index.remove_other(record.tenant, name, record.file_id)
        return
    if said.get("verdict") != Verdict.STORED.value:
        return  # a duplicate was never in the index
    study_uid, series_uid, _ = name
    there = index.get_instance(record.tenant, *name)
    if there is not None and there.file_id == record.file_id:
        bare = Series(study_uid, series_uid)
        index.mark(record.tenant, bare, described=False)
        # The message first: a kill between the two costs a recount, the other way round the count would wait for the
        # sweeper.
        recounting.ask(record.tenant, [(study_uid, series_uid)])
        index.remove(record.tenant, name, record.file_id)
        claimed = counts.must_mark_after(index.get_series(record.tenant, study_uid, series_uid))
        index.mark(record.tenant, bare, described=False)
        if claimed:
            recounting.ask(record.tenant, [(study_uid, series_uid)])
    forgetting.forget_bodies(record.tenant, study_uid)
