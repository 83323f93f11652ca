"""What a call names, in the index: read with strong consistency, the same 404 for everything that is not there."""

from __future__ import annotations

from dataclasses import dataclass

from heavylift.dicom import index
from heavylift.dicom.instances import Instance, Series, Study
from heavylift.dicomweb.delivery import gone
from heavylift.dicomweb.exchange import Request


@dataclass(frozen=True, slots=True)
class Found:
    """A study, or one series of it, as one query has shown it; ``series`` without those that are known to be empty."""

    study: Study
    series: tuple[Series, ...]

    @property
    def marks(self) -> tuple[tuple[str, int], ...]:
        """What changes whenever an instance does."""
        return tuple((one.series_uid, one.mark_seq) for one in self.series)


def instance_of(request: Request) -> Instance:
    """The instance that the call names. RequestError ``not_found``."""
    found = index.get_instance(request.tenant, request.study_uid, request.series_uid or "", request.instance_uid or "")
    if found is None:
        raise gone()
    return found


def series_of(request: Request) -> Found:
    """The study, or the one series of it that the call names. RequestError ``not_found``.

    A series whose count is not settled may turn out to be empty.
    """
    found = _look(request)
    if not found.series:
        raise gone()
    return found


def _look(request: Request) -> Found:
    study = None
    if request.series_uid is not None:
        one = index.get_series(request.tenant, request.study_uid, request.series_uid)
        series = [one] if one is not None else []
    else:
        study, series = index.read_study(request.tenant, request.study_uid)
    return Found(study or Study(request.study_uid), tuple(one for one in series if one.dirty or one.instances))


def unchanged(request: Request, found: Found) -> bool:
    """Whether no instance has been deleted since ``found`` was read: whoever does marks before and after it."""
    return _look(request).marks == found.marks
