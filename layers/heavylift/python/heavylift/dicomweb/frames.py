"""Frames: as they are stored, by ranges of the store, or decoded where that is asked for. PS3.18 8.7.3, 10.4.

What is asked for is compared with what there is: a native frame is Explicit VR Little Endian as it lies there, a
compressed one is its own codestream, and any that a decoder is there for can be plain samples. Nothing is compressed
here, nor compressed anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from heavylift import keys
from heavylift.dicom import index
from heavylift.dicom.elements import PixelElement
from heavylift.dicom.frames import AHEAD_BYTES, Extended, Frame, Shape, check_number, native_frame, read_some
from heavylift.dicom.header import EXTENDED_LENGTHS, EXTENDED_OFFSETS, Elements, read_elements
from heavylift.dicom.instances import Instance
from heavylift.dicom.syntaxes import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Codec, Syntax, syntax_of
from heavylift.dicom.values import valid_uid
from heavylift.dicomweb import decoded, delivery, multipart
from heavylift.dicomweb.decoded import StoredFile, Wish
from heavylift.dicomweb.delivery import Piece, Stored
from heavylift.dicomweb.exchange import ANSWER_BYTES_MAX, Answer, MediaRange, Request, covers
from heavylift.dicomweb.kept import AlreadyMade, Body, still_there, week
from heavylift.errors import RequestError
from heavylift.limits import MIB
from heavylift.ranges import drive

FRAMES_MAX: Final = 1_000  # of one call; their numbers must fit into its path
DECODED_BYTES_MAX: Final = 512 * MIB  # of one answer: what is decoded in twenty seconds, if it is quick
WHOLE_BYTES: Final = MIB  # a compressed file up to this length is fetched by one request, frames and all
BLOCK_BYTES: Final = 65_536  # read at least, for what is looked at is small and lies together

OCTETS: Final = "application/octet-stream"
# Names that media types had before they were registered, and still have in clients.
_ALIASES: Final = {"image/x-jls": "image/jls", "image/x-dicom-rle": "image/dicom-rle", "image/x-jpeg": "image/jpeg"}
_NOT_FRAMES: Final = frozenset({Codec.VIDEO, Codec.ELSEWHERE})
_DECODED: Final = frozenset(
    {Codec.JPEG, Codec.JPEG_EXTENDED, Codec.JPEG_LOSSLESS, Codec.JPEG_LS, Codec.JPEG_2000, Codec.HTJ2K, Codec.RLE}
)
_ALIGNED_BITS: Final = frozenset({8, 16, 32, 64})


@dataclass(frozen=True, slots=True)
class Form:
    """How frames are answered: as what, in parts or one alone, and whether a decoder has to make them."""

    media_type: str
    transfer_syntax: str
    in_parts: bool
    converted: bool

    @property
    def content_type(self) -> str:
        """Of one frame."""
        return f"{self.media_type}; transfer-syntax={self.transfer_syntax}"


def retrieve(request: Request) -> Answer:
    """GET .../frames/{list}: 200 up to 4 MiB, above it 307.

    RequestError ``not_found``, ``not_acceptable``, ``answer_too_large``; ContentError of the file; TransientError.
    """
    instance = instance_of(request)
    numbers = request.frames
    if len(numbers) > FRAMES_MAX:
        raise RequestError("answer_too_large", f"At most {FRAMES_MAX} frames at once.", limit=FRAMES_MAX)
    if instance.rows is None and instance.pixel_offset is None:
        raise RequestError("not_found", "The instance has no frames.", frames=0)
    for number in numbers:
        check_number(number, instance.frames)
    syntax = stored_syntax(instance)
    form = form_of(request.accept, syntax, len(numbers), converted=_must_be_converted(instance))
    if form.converted:
        return _converted(request, instance, form)
    return _as_stored(request, instance, form)


def instance_of(request: Request) -> Instance:
    """The instance that a call names. RequestError ``not_found``."""
    found = None
    if request.series_uid and request.instance_uid:
        found = index.get_instance(request.tenant, request.study_uid, request.series_uid, request.instance_uid)
    if found is None:
        raise delivery.gone()
    return found


def stored_syntax(instance: Instance) -> Syntax:
    """The transfer syntax; of a file that names none, or something that is no UID, what its data have shown."""
    uid = instance.transfer_syntax_uid
    return syntax_of(uid if uid and valid_uid(uid) else IMPLICIT_LITTLE)


def _must_be_converted(instance: Instance) -> bool:
    """Native frames that are no ranges of the file in the order and the place that Explicit Little Endian has them."""
    if instance.transfer_syntax_uid in {DEFLATED, EXPLICIT_BIG}:
        return True
    shape = _shape(instance)
    return instance.bits_allocated == 1 and bool(shape.frame_bits % 8)


def _shape(instance: Instance) -> Shape:
    return Shape(
        instance.rows or 0,
        instance.columns or 0,
        instance.samples_per_pixel or 1,
        instance.bits_allocated or 0,
        instance.frames,
        instance.photometric or "MONOCHROME2",
    )


# --- negotiation ---


def form_of(accept: Sequence[MediaRange], syntax: Syntax, frames: int, *, converted: bool = False) -> Form:
    """The first of what is accepted that can be given. Pure. RequestError ``not_acceptable``.

    ``frames``: how many; one alone may be answered without multipart. ``converted``: native frames need the decoder.
    """
    if syntax.codec in _NOT_FRAMES:
        raise RequestError("not_acceptable", "Frames of this transfer syntax are no parts of the file by themselves.")
    for one in accept:
        multiple = one.name in (multipart.NAME, "multipart/*", "*/*")
        if not multiple and frames > 1:
            continue
        inner = one.inner if one.name == multipart.NAME else "*/*" if multiple else one.name
        chosen = _chosen(_ALIASES.get(inner, inner), one.transfer_syntax, syntax)
        if chosen is None:
            continue
        media_type, transfer_syntax = chosen
        plain = not syntax.native and transfer_syntax == EXPLICIT_LITTLE
        return Form(media_type, transfer_syntax, multiple, plain or converted)
    offered = f'{multipart.NAME}; type="{syntax.media_type}"; transfer-syntax={_uid(syntax)}'
    raise RequestError("not_acceptable", f"The frames can be given as {offered}.", offered=offered)


def _chosen(inner: str, wanted: str, syntax: Syntax) -> tuple[str, str] | None:
    """Media type and transfer syntax of the frames; None where the range asks for something else.

    ``wanted``: a transfer syntax, ``*`` or "". Bytes (octet-stream) without a transfer syntax are plain samples
    (PS3.18 8.7.3.3.2), with ``*`` whatever is stored.
    """
    octets = covers(inner, OCTETS)
    if syntax.native:
        fits = wanted in ("", "*", EXPLICIT_LITTLE, IMPLICIT_LITTLE, _uid(syntax))
        return (OCTETS, EXPLICIT_LITTLE) if octets and fits else None
    stored = wanted in ("*", syntax.uid)
    if covers(inner, syntax.media_type) and (stored or (not wanted and inner != OCTETS)):
        return syntax.media_type, syntax.uid
    if octets and stored:
        return OCTETS, syntax.uid
    if octets and wanted in ("", EXPLICIT_LITTLE) and syntax.codec in _DECODED:
        return OCTETS, EXPLICIT_LITTLE
    return None


def _uid(syntax: Syntax) -> str:
    """What frames of this syntax are told to be: PS3.18 8.7.3.1 knows no implicit VR and no big endian."""
    return EXPLICIT_LITTLE if syntax.native else syntax.uid


# --- as stored ---


def _as_stored(request: Request, instance: Instance, form: Form) -> Answer:
    file = _Held(request.tenant, instance)
    found = _locate(file, instance, request.frames)
    pieces: list[Piece] = []
    mark = _boundary(request, instance, form)
    for place, (number, frame) in enumerate(zip(request.frames, found, strict=True)):
        if form.in_parts:
            pieces.append(_opening(request, form, mark, number, first=place == 0))
        for one in frame.pieces:
            pieces.append(file.piece(one.offset, one.length))
    if form.in_parts:
        pieces.append(multipart.closing(mark))
    return delivery.deliver(
        request,
        instance.file_id,
        _name(request, instance, form),
        pieces,
        _content_type(form, mark),
        still=lambda: still_there(request.tenant, instance),
    )


class _Held:
    """A stored file, and the bytes of it that were read last: what was fetched with a table is not fetched again."""

    def __init__(self, tenant: str, instance: Instance) -> None:
        self._file = StoredFile(tenant, instance)
        self._key = instance.key(tenant)
        self._base = instance.offset
        self._blocks: list[tuple[int, bytes]] = []
        self.size_bytes = self._file.size_bytes

    def read(self, offset: int, length: int) -> bytes:
        data = self._known(offset, length)
        if data is not None:
            return data
        block = self._file.read(offset, max(length, BLOCK_BYTES))
        self._blocks = [*self._blocks[:1], (offset, block)]
        return block[:length]

    def _known(self, offset: int, length: int) -> bytes | None:
        for start, block in self._blocks:
            if start <= offset and offset + length <= start + len(block):
                return block[offset - start : offset - start + length]
        return None

    def piece(self, offset: int, length: int) -> Piece:
        """A range of the file, or its bytes where they are in hand."""
        data = self._known(offset, length)
        return data if data is not None else Stored(self._key, self._base + offset, length, self._file.etag)


def _locate(file: _Held, instance: Instance, numbers: Sequence[int]) -> tuple[Frame, ...]:
    """Where the frames lie. Native: no request, where the index knows all of it. Else the header, and the table."""
    native = stored_syntax(instance).native
    known = instance.pixel_offset is not None and instance.pixel_length is not None
    if native and known and instance.bits_allocated in (*_ALIGNED_BITS, 1) and instance.rows and instance.columns:
        assert instance.pixel_offset is not None
        assert instance.pixel_length is not None
        shape = _shape(instance)
        return tuple(native_frame(instance.pixel_offset, instance.pixel_length, shape, number) for number in numbers)
    elements = _elements(file)
    pixel = elements.walked.pixel
    if pixel is None:
        raise RequestError("not_found", "The instance has no frames.", frames=0)
    if pixel.length is not None:
        shape = _shape(instance)
        return tuple(native_frame(pixel.offset, pixel.length, shape, number) for number in numbers)
    return _encapsulated(file, elements, pixel, instance.frames, numbers)


def _elements(file: _Held) -> Elements:
    """The header. That the file is whole was proven when it was taken in."""
    if file.size_bytes <= WHOLE_BYTES:
        file.read(0, file.size_bytes)
    return drive(read_elements(file.size_bytes, to_pixel_data=True), file.read)


def _encapsulated(
    file: _Held, elements: Elements, pixel: PixelElement, frames: int, numbers: Sequence[int]
) -> tuple[Frame, ...]:
    values = elements.walked.values
    offsets, lengths = values.get(EXTENDED_OFFSETS), values.get(EXTENDED_LENGTHS)
    extended = Extended(offsets, lengths) if offsets and lengths else None
    # Of several frames the last one would be left in hand, for nothing.
    ahead_bytes = AHEAD_BYTES if len(numbers) == 1 else 0
    reader = read_some(
        pixel,
        file.size_bytes,
        numbers,
        frames,
        extended=extended,
        little=elements.encoding.little,
        window_bytes=0,
        ahead_bytes=ahead_bytes,
    )
    return drive(reader, file.read)


# --- converted ---


def _converted(request: Request, instance: Instance, form: Form) -> Answer:
    """Plain samples, made by the child. What is larger than an answer is written as it comes."""
    expected = len(request.frames) * ((_shape(instance).frame_bits + 7) // 8)
    if expected > DECODED_BYTES_MAX:
        raise RequestError(
            "answer_too_large",
            f"Decoded the frames have {expected} bytes. Ask for fewer, or for transfer-syntax=*.",
            size_bytes=expected,
            limit_bytes=DECODED_BYTES_MAX,
        )
    mark = _boundary(request, instance, form)
    key = keys.frames(request.tenant, instance.file_id, _name(request, instance, form))

    def still() -> bool:
        return still_there(request.tenant, instance)

    with Body(key, _content_type(form, mark)) as body:

        def take(begins: int | None, piece: bytes) -> None:
            if begins is not None and form.in_parts:
                body.add(_opening(request, form, mark, request.frames[begins], first=begins == 0))
            body.add(piece)

        try:
            if expected > ANSWER_BYTES_MAX:
                body.look()
            decoded.samples(request.tenant, Wish(instance, request.frames), request.seconds_left, take)
            if form.in_parts:
                body.add(multipart.closing(mark))
        except AlreadyMade:
            return body.link(still)
        return body.answer(still)


# --- bodies ---


def _boundary(request: Request, instance: Instance, form: Form) -> str:
    return multipart.boundary(instance.file_id, form.content_type, ",".join(map(str, request.frames)))


def _opening(request: Request, form: Form, mark: str, number: int, *, first: bool) -> bytes:
    headers = {"Content-Type": form.content_type, "Content-Location": f"{request.address}/frames/{number}"}
    return multipart.opening(mark, headers, first=first)


def _content_type(form: Form, mark: str) -> str:
    return multipart.media_type(mark, form.media_type) if form.in_parts else form.content_type


def _name(request: Request, instance: Instance, form: Form) -> str:
    """What a body of these frames is called: a digest of the file, the frames and their form."""
    told = (instance.file_id, request.address, form.content_type, form.in_parts, request.frames, week())
    return hashlib.sha256(repr(told).encode()).hexdigest()[:32]
