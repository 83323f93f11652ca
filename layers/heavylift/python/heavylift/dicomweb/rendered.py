"""Pictures of frames, instances, series and studies, and their thumbnails. PS3.18 8.3.5, 8.7.4, 10.4.

Whoever wants one picture of a series gets that of its middle instance; whoever asks for multipart/related gets them
all. Thumbnails in JPEG and of the usual sizes are made once and kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from heavylift import keys
from heavylift.dicom import index
from heavylift.dicom.frames import check_number
from heavylift.dicom.instances import Instance, Series
from heavylift.dicom.syntaxes import Codec
from heavylift.dicom.viewing import QUALITY, Viewport, Window
from heavylift.dicomweb import decoded, delivery, kept, multipart
from heavylift.dicomweb.decoded import Drawing, Wish
from heavylift.dicomweb.exchange import Answer, MediaRange, Request, covers, found
from heavylift.dicomweb.frames import instance_of, stored_syntax
from heavylift.dicomweb.kept import EDGE, EDGES, AlreadyMade, Body
from heavylift.errors import ContentError, RequestError

JPEG: Final = "image/jpeg"
PNG: Final = "image/png"
OFFERED: Final = (JPEG, PNG)
PICTURES_MAX: Final = 500  # of one answer; they share its twenty seconds
VIEWPORT_MAX: Final = 4_096  # of an edge: enlarged to it a picture takes 150 MB of the decoder's memory
THUMBNAIL_MAX: Final = 1_024
NUMBER_MAX: Final = 1e9  # of what stands in a query; beyond it nothing has a meaning
SERIES_MAX: Final = 5  # tried for a study's thumbnail

_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_NO_PICTURES: Final = frozenset({Codec.VIDEO, Codec.ELSEWHERE, Codec.UNKNOWN, Codec.JPEG_XL, Codec.DEFLATED_FRAMES})
# Series that describe others: a study shows one of them only where there is nothing else.
_SECONDARY: Final = frozenset({"SEG", "SR", "PR", "KO", "DOC", "REG", "FID", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTIMAGE"})


def render(request: Request) -> Answer:
    """GET .../rendered of a study, a series, an instance or frames: 200 up to 4 MiB, above it 307.

    RequestError ``not_found``, ``not_acceptable``, ``invalid_parameter``, ``answer_too_large``; ContentError of the
    file; TransientError.
    """
    media_type, parts = form_of(request.accept)
    how = drawing_of(request, media_type)
    wishes = _wishes(request, everything=parts is True)
    pictures = [(wish.instance, number) for wish in wishes for number in wish.frames]
    if len(pictures) > PICTURES_MAX:
        raise RequestError(
            "answer_too_large", f"{len(pictures)} pictures, at most {PICTURES_MAX} at once.", limit=PICTURES_MAX
        )
    return _drawn(request, wishes, how, in_parts=parts is True or len(pictures) > 1)


def thumbnail(request: Request) -> Answer:
    """GET .../thumbnail of a study, a series, an instance or a frame: one picture that is never enlarged.

    RequestError ``no_thumbnail`` (nothing in it can be drawn), ``not_found``, ``not_acceptable``,
    ``invalid_parameter``; TransientError.
    """
    media_type, parts = form_of(request.accept)
    if parts is True:
        raise RequestError("not_acceptable", f"A thumbnail is one picture: {', '.join(OFFERED)}.")
    size = _Size(*_box(request), media_type)
    if request.instance_uid:
        instance = instance_of(request)
        if len(request.frames) > 1:
            raise RequestError("invalid_parameter", "A thumbnail shows one frame.")
        number = request.frames[0] if request.frames else middle_frame(instance)
        check_number(number, instance.frames)
        picture = _small(request, instance, number, size)
    elif request.series_uid:
        series = index.get_series(request.tenant, request.study_uid, request.series_uid)
        if series is None:
            raise delivery.gone()
        picture = _of_series(request, series, size)
    else:
        picture = _of_study(request, size)
    return found(picture, media_type)


# --- what is asked for ---


def form_of(accept: Sequence[MediaRange]) -> tuple[str, bool | None]:
    """Media type of the pictures, and whether they were asked for in parts (None: either way). Pure.

    RequestError ``not_acceptable``.
    """
    for one in accept:
        in_parts = one.name == multipart.NAME
        wanted = one.inner if in_parts else "*/*" if one.name == "multipart/*" else one.name
        for media_type in OFFERED:
            if covers(wanted, media_type):
                return media_type, True if in_parts or one.name == "multipart/*" else None
    raise RequestError("not_acceptable", f"Pictures can be given as {' or '.join(OFFERED)}.", offered=list(OFFERED))


def drawing_of(request: Request, media_type: str) -> Drawing:
    """The rendering parameters (PS3.18 8.3.5.1). RequestError ``invalid_parameter``."""
    if request.one("annotation"):
        raise _refused("annotation", "nothing is written into pictures")
    if request.one("iccprofile", "no").lower() != "no":
        raise _refused("iccprofile", "pictures have no colour profile")
    quality = QUALITY
    if text := request.one("quality"):
        if not (text.isascii() and text.isdecimal() and 1 <= int(text[:4]) <= 100):
            raise _refused("quality", "it is a number from 1 to 100")
        quality = int(text)
    window = window_of(request.one("window")) if request.one("window") else None
    viewport = viewport_of(request.one("viewport")) if request.one("viewport") else None
    return Drawing(media_type, window, quality, viewport)


def window_of(text: str) -> Window:
    """``center,width,function``; the function is ``linear`` where it is left away. RequestError."""
    fields = [field.strip() for field in text.split(",")]
    if len(fields) not in (2, 3):
        raise _refused("window", "it is center,width,function")
    center, width = _number("window", fields[0]), _number("window", fields[1])
    function = _FUNCTIONS.get(fields[2].lower().replace("_", "-") if len(fields) == 3 else "linear")
    if function is None:
        raise _refused("window", f"its function is one of {', '.join(_FUNCTIONS)}")
    window = Window(center, width, function)
    if not window.usable:
        raise _refused("window", "its width is at least 1, with linear-exact and sigmoid above 0")
    return window


def viewport_of(text: str) -> Viewport:
    """``vw,vh`` or ``vw,vh,sx,sy,sw,sh``, of which the later ones may be empty. RequestError."""
    fields = [field.strip() for field in text.split(",")]
    if not 2 <= len(fields) <= 6:
        raise _refused("viewport", "it is vw,vh or vw,vh,sx,sy,sw,sh")
    width, height = (_edge(field, VIEWPORT_MAX) for field in fields[:2])
    left, top, across, down = (
        _number("viewport", field) if field else None for field in (*fields[2:], "", "", "", "")[:4]
    )
    if 0.0 in (across, down):
        raise _refused("viewport", "its region is empty")
    # Absolute values are meant; a negative measure says that the picture is mirrored.
    return Viewport(
        width,
        height,
        abs(left or 0.0),
        abs(top or 0.0),
        None if across is None else abs(across),
        None if down is None else abs(down),
        mirrored=(across or 0.0) < 0,
        upside_down=(down or 0.0) < 0,
    )


def _edge(text: str, limit: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= limit):
        raise _refused("viewport", f"its width and height are numbers from 1 to {limit}")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > NUMBER_MAX:
        raise _refused(name, "it has something in it that is no number")
    return value


def _refused(name: str, why: str) -> RequestError:
    return RequestError("invalid_parameter", f"The parameter {name} cannot be taken: {why}.", parameter=name)


# --- which instances ---


def middle_frame(instance: Instance) -> int:
    """The frame that stands for an instance: the middle one."""
    return (instance.frames + 1) // 2


def _wishes(request: Request, *, everything: bool) -> list[Wish]:
    if request.instance_uid:
        instance = instance_of(request)
        _check_drawable(instance)
        for number in request.frames:
            check_number(number, instance.frames)
        if request.frames:
            return [Wish(instance, request.frames)]
        return [Wish(instance, tuple(range(1, min(instance.frames, PICTURES_MAX + 1) + 1)) if everything else (1,))]
    wishes: list[Wish] = []
    left = PICTURES_MAX + 1
    for series in _series_of(request):
        if not everything:
            for instance in _representatives(request.tenant, series):
                return [Wish(instance, (middle_frame(instance),))]
            continue
        names = [
            (series.study_uid, series.series_uid, place.sop_uid) for place in _images(request.tenant, series)[:left]
        ]
        there = index.look(request.tenant, names).instances
        for one in (there[name] for name in names if name in there):
            count = min(one.frames, left)
            wishes.append(Wish(one, tuple(range(1, count + 1))))
            left -= count
            if not left:
                return wishes
    if not wishes:
        raise RequestError("not_acceptable", "There is nothing in it that can be drawn.")
    return wishes


def _series_of(request: Request) -> list[Series]:
    """The series that a call is about, those with pictures of their own first. RequestError ``not_found``."""
    if request.series_uid:
        series = index.get_series(request.tenant, request.study_uid, request.series_uid)
        listed = [series] if series is not None else []
    else:
        _, listed = index.read_study(request.tenant, request.study_uid)
    if not listed:
        raise delivery.gone()
    return sorted(
        listed, key=lambda one: (one.modality in _SECONDARY, one.number is None, one.number or 0, one.series_uid)
    )


def drawable(instance: Instance) -> bool:
    """Whether there is anything to draw, as far as the index knows. Pure."""
    return bool(instance.rows and instance.columns) and stored_syntax(instance).codec not in _NO_PICTURES


def _check_drawable(instance: Instance) -> None:
    if not drawable(instance):
        raise RequestError("not_acceptable", "The instance has no picture that can be drawn.")


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """An image's place in its series: by number, those without one at the end, by UID."""

    unnumbered: bool
    number: int
    sop_uid: str


def _images(tenant: str, series: Series) -> list[_Place]:
    """What can be drawn of a series, in order; some 150 bytes each."""
    return sorted(
        _Place(one.number is None, one.number or 0, one.sop_uid)
        for one in index.instances_of(tenant, series.study_uid, series.series_uid)
        if drawable(one)
    )


def _representatives(tenant: str, series: Series) -> Iterator[Instance]:
    """Instances that may stand for a series: the middle one, and if that cannot be drawn the first and the last."""
    places = _images(tenant, series)
    if not places:
        return
    for place in dict.fromkeys((places[(len(places) - 1) // 2], places[0], places[-1])):
        one = index.get_instance(tenant, series.study_uid, series.series_uid, place.sop_uid)
        if one is not None:
            yield one


# --- drawing ---


def _drawn(request: Request, wishes: Sequence[Wish], how: Drawing, *, in_parts: bool) -> Answer:
    pictures = [(wish.instance, number) for wish in wishes for number in wish.frames]
    named = [(instance.file_id, number) for instance, number in pictures]
    mark = multipart.boundary(repr(named), how.media_type)
    owner = wishes[0].instance.file_id if len(wishes) == 1 else keys.study_owner(request.tenant, request.study_uid)
    name = hashlib.sha256(repr((named, how, in_parts, request.base, kept.week())).encode()).hexdigest()[:32]
    began = False

    def still() -> bool:
        return _still_there(request.tenant, wishes)

    media_type = multipart.media_type(mark, how.media_type) if in_parts else how.media_type
    with Body(keys.frames(request.tenant, owner, name), media_type) as body:

        def take(begins: int | None, piece: bytes) -> None:
            nonlocal began
            if begins is not None and in_parts:
                body.add(_opening(request, *pictures[begins], mark, how.media_type, first=not began))
                began = True
            body.add(piece)

        try:
            decoded.draw(request.tenant, wishes, how, request.seconds_left, take)
            if in_parts:
                body.add(multipart.closing(mark))
        except AlreadyMade:
            return body.link(still)
        return body.answer(still)


def _opening(request: Request, instance: Instance, number: int, mark: str, media_type: str, *, first: bool) -> bytes:
    place = f"studies/{instance.study_uid}/series/{instance.series_uid}/instances/{instance.sop_uid}"
    headers = {"Content-Type": media_type, "Content-Location": f"{request.base}/{place}/frames/{number}/rendered"}
    return multipart.opening(mark, headers, first=first)


def _still_there(tenant: str, wishes: Sequence[Wish]) -> bool:
    wanted = {(one.study_uid, one.series_uid, one.sop_uid): one.file_id for one in (wish.instance for wish in wishes)}
    there = index.look(tenant, wanted).instances
    return all(name in there and there[name].file_id == file_id for name, file_id in wanted.items())


# --- thumbnails ---


@dataclass(frozen=True, slots=True)
class _Size:
    """The box of a thumbnail, and its media type."""

    width: int
    height: int
    media_type: str

    @property
    def edge(self) -> int | None:
        """Of a thumbnail that is kept; None for one that is not."""
        return self.width if self.width == self.height and self.width in EDGES and self.media_type == JPEG else None


def _box(request: Request) -> tuple[int, int]:
    """``viewport=vw,vh``. RequestError ``invalid_parameter``."""
    text = request.one("viewport")
    if not text:
        return EDGE, EDGE
    fields = [field.strip() for field in text.split(",")]
    if len(fields) != 2:
        raise _refused("viewport", "a thumbnail's is vw,vh")
    width, height = (_edge(field, THUMBNAIL_MAX) for field in fields)
    return width, height


def _small(request: Request, instance: Instance, number: int, size: _Size) -> bytes:
    """A frame's thumbnail, made where none is kept. RequestError ``no_thumbnail``, ``not_found``."""
    if not drawable(instance):
        raise _no_thumbnail("There is no picture in it.")
    edge = size.edge
    if edge is not None:
        there = kept.thumbnail(request.tenant, instance.file_id, number, edge)
        if there is not None:
            return there
    how = Drawing(size.media_type, viewport=Viewport(size.width, size.height, enlarging=False))
    pieces: list[bytes] = []
    try:
        decoded.draw(
            request.tenant,
            [Wish(instance, (number,))],
            how,
            request.seconds_left,
            lambda begins, piece: pieces.append(piece),
        )
    except ContentError as error:
        raise _no_thumbnail("The frame cannot be drawn.", reason=error.code) from error
    picture = b"".join(pieces)
    if edge is not None:
        kept.keep_thumbnail(request.tenant, instance, number, edge, picture)
    return picture


def _of_series(request: Request, series: Series, size: _Size) -> bytes:
    """The thumbnail of the middle instance. RequestError ``no_thumbnail``, ``not_found``."""
    if size.edge == EDGE:
        there = kept.noted_thumbnail(series)
        if there is not None:
            return there
    failure = _no_thumbnail("There is no picture in the series.")
    for instance in _representatives(request.tenant, series):
        number = middle_frame(instance)
        try:
            picture = _small(request, instance, number, size)
        except RequestError as error:
            failure = error
            continue
        if size.edge == EDGE:
            kept.note_series(request.tenant, series, instance, number)
        return picture
    raise failure


def _of_study(request: Request, size: _Size) -> bytes:
    failure = _no_thumbnail("There is no picture in the study.")
    for series in _series_of(request)[:SERIES_MAX]:
        try:
            return _of_series(request, series, size)
        except RequestError as error:
            failure = error
    raise failure


def _no_thumbnail(why: str, **facts: str) -> RequestError:
    return RequestError("no_thumbnail", why, **facts)
