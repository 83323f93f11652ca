"""Studies, series and instances of the index as DICOM JSON (PS3.18 Annex F), the attributes of QIDO-RS answers. Pure.

Attributes by level: PS3.18 tables 10.6.3-3 to 10.6.3-5. What the index does not know is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from heavylift.dicom.instances import Instance, Series, Study

_OF_EVERY_STUDY: Final = frozenset(
    {"00080020", "00080030", "00080050", "00080090", "00100010", "00100020", "00100030", "00100040", "00200010"}
)

Json = dict[str, Any]
_NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")


def person_name(text: str) -> dict[str, str]:
    """A name's groups by their names in DICOM JSON (PS3.18 F.2.2)."""
    groups = zip(_NAME_GROUPS, text.split("=")[:3], strict=False)
    return {name: group for name, group in groups if group}


def _element(vr: str, value: Any) -> Json:
    if value is None or value in ("", [], ()):
        return {"vr": vr}
    if vr == "PN":
        return {"vr": vr, "Value": [person_name(name) for name in str(value).split("\\")]}
    if isinstance(value, str):
        return {"vr": vr, "Value": value.split("\\") if vr not in {"LT", "ST", "UT"} else [value]}
    return {"vr": vr, "Value": list(value) if isinstance(value, list | tuple) else [value]}


def _known(attributes: Mapping[str, tuple[str, Any]], *, always: Iterable[str] = ()) -> Json:
    required = frozenset(always)
    elements = {tag: _element(vr, value) for tag, (vr, value) in attributes.items()}
    return {tag: element for tag, element in elements.items() if "Value" in element or tag in required}


def study(found: Study, *, modalities: Iterable[str], series: int, instances: int) -> Json:
    """Empty values of the attributes that every answer has are shown as such."""
    return _known(
        {
            "00080020": ("DA", found.study_date),
            "00080030": ("TM", found.study_time),
            "00080050": ("SH", found.accession_number),
            "00080061": ("CS", sorted({one for one in modalities if one})),
            "00080080": ("LO", found.institution_name),
            "00080090": ("PN", found.referring_physician_name),
            "00080201": ("SH", found.timezone_offset),
            "00081030": ("LO", found.description),
            "00100010": ("PN", found.patient_name),
            "00100020": ("LO", found.patient_id),
            "00100021": ("LO", found.issuer_of_patient_id),
            "00100030": ("DA", found.patient_birth_date),
            "00100040": ("CS", found.patient_sex),
            "0020000D": ("UI", found.study_uid),
            "00200010": ("SH", found.study_id),
            "00201206": ("IS", series),
            "00201208": ("IS", instances),
        },
        always=_OF_EVERY_STUDY,
    )


def series(found: Series, instances: int) -> Json:
    return _known(
        {
            "00080021": ("DA", found.series_date),
            "00080031": ("TM", found.series_time),
            "00080060": ("CS", found.modality),
            "00080070": ("LO", found.manufacturer),
            "0008103E": ("LO", found.description),
            "00180015": ("CS", found.body_part),
            "0020000D": ("UI", found.study_uid),
            "0020000E": ("UI", found.series_uid),
            "00200011": ("IS", found.number),
            "00201209": ("IS", instances),
            "00400244": ("DA", found.step_start_date),
            "00400245": ("TM", found.step_start_time),
        },
        always=("00080060", "00200011"),
    )


def instance(found: Instance) -> Json:
    several = found.frames if found.frames > 1 else None
    return _known(
        {
            "00080016": ("UI", found.sop_class_uid),
            "00080018": ("UI", found.sop_uid),
            "00083002": ("UI", found.transfer_syntax_uid),
            "0020000D": ("UI", found.study_uid),
            "0020000E": ("UI", found.series_uid),
            "00200013": ("IS", found.number),
            "00280002": ("US", found.samples_per_pixel),
            "00280004": ("CS", found.photometric),
            "00280008": ("IS", several),
            "00280010": ("US", found.rows),
            "00280011": ("US", found.columns),
            "00280100": ("US", found.bits_allocated),
        },
        always=("00200013",),
    )
