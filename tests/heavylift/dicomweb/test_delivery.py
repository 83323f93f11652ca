"""Bodies of literals and ranges: answered whole, or made once as an object whose bytes are the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift import keys
from heavylift.dicomweb import delivery
from heavylift.dicomweb.delivery import Cut, Piece, Stored
from heavylift.dicomweb.exchange import Request
from heavylift.errors import RequestError, TransientError
from heavylift.limits import S3_PART_SIZE_MIN
from tests.doubles.gate import Call, Killed
from tests.doubles.world import DERIVED, STORE, World

OWNER = "01JD2Z3NDEKTSV4RRFFQ69G5FA"
TYPE = "multipart/related; boundary=b"

pieces = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.builds(
            Stored,
            st.sampled_from(["a", "b"]),
            st.integers(0, 20),
            st.one_of(st.integers(0, 60), st.integers(0, 6 * S3_PART_SIZE_MIN), st.just(40 * S3_PART_SIZE_MIN)),
        ),
    ),
    max_size=8,
)


def spelled(piece: Piece) -> list[Any]:
    return [piece] if isinstance(piece, bytes) else [(piece.key, piece.offset, piece.length)]


def joined(given: list[Piece]) -> list[Any]:
    """Pieces with neighbours put together, nothing left of empty ones."""
    found: list[Any] = []
    for piece in given:
        last = found[-1] if found else None
        if isinstance(piece, bytes):
            if isinstance(last, bytes):
                found[-1] = last + piece
            elif piece:
                found.append(piece)
        elif isinstance(last, Stored) and last.key == piece.key and last.offset + last.length == piece.offset:
            found[-1] = Stored(last.key, last.offset, last.length + piece.length)
        elif piece.length:
            found.append(piece)
    return found


@given(pieces)
def test_cuts_are_the_pieces(given: list[Piece]) -> None:
    """Put together they are the pieces; each is a part that S3 takes, and only ranges are copied."""
    cuts = delivery.cuts_of(given)
    assert joined([piece for cut in cuts for piece in cut.pieces]) == joined(given)
    assert [cut.number for cut in cuts] == list(range(1, len(cuts) + 1))
    assert all(cut.size_bytes >= S3_PART_SIZE_MIN for cut in cuts[:-1])
    assert all(cut.size_bytes <= delivery.HAND_TARGET for cut in cuts if not cut.copied)
    assert all(len(cut.pieces) == 1 and cut.size_bytes <= delivery.COPY_TARGET for cut in cuts if cut.copied)
    assert all(not isinstance(cut.pieces[0], bytes) for cut in cuts if cut.copied)


def test_a_large_file_costs_one_small_part() -> None:
    """What stands before it is filled up to 5 MiB, all of the rest is copied, what follows is the last part."""
    cuts = delivery.cuts_of([b"head", Stored("a", 0, 100 * delivery.MIB), b"tail"])
    assert [(cut.copied, cut.size_bytes) for cut in cuts] == [
        (False, S3_PART_SIZE_MIN),
        (True, 100 * delivery.MIB - S3_PART_SIZE_MIN + 4),
        (False, 4),
    ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of the world's S3: parts of five bytes."""
    monkeypatch.setattr(delivery, "ANSWER_BYTES_MAX", 40)
    monkeypatch.setattr(delivery, "S3_PART_SIZE_MIN", 5)
    monkeypatch.setattr(delivery, "HAND_TARGET", 12)
    monkeypatch.setattr(delivery, "COPY_TARGET", 30)


DATA = bytes(range(200))


def stored(world: World) -> tuple[str, str]:
    names = keys.store_dicom("acme", "01JD2Z3NDEKTSV4RRFFQ69G5FB"), keys.store_dicom("acme", OWNER)
    for place, key in enumerate(names):
        world.s3.put_object(Bucket=STORE, Key=key, Body=DATA[place:])
    return names


def body(names: tuple[str, str]) -> tuple[list[Piece], bytes]:
    given: list[Piece] = [
        b"--b\r\n",
        Stored(names[0], 0, 60),
        b"--",
        Stored(names[1], 10, 3),
        Stored(names[1], 13, 4),
        b"+",
        Stored(names[1], 100, 90),
        b"--b--",
    ]
    whole = b"--b\r\n" + DATA[:60] + b"--" + DATA[11:18] + b"+" + DATA[101:191] + b"--b--"
    return given, whole


def test_a_small_body_is_answered(world: World) -> None:
    """The ranges are read, neighbours by one request, each object pinned."""
    given, whole = body(stored(world))
    world.gate.restart()
    answer = delivery.deliver(Request("acme"), OWNER, "x", given, TYPE)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, whole, TYPE)
    # The first object from its beginning: one GET. The second: its HEADs and GETs, the gap being small.
    assert [call.operation for call in world.gate.calls].count("get_object") == 2
    assert world.s3.buckets[DERIVED] == {}


def test_a_large_body_is_made_once(world: World, small: None) -> None:
    """An object with the same bytes and its type, 307; the second call makes nothing."""
    given, whole = body(stored(world))
    answer = delivery.deliver(Request("acme"), OWNER, "x", given, TYPE)
    made = world.s3.buckets[DERIVED][f"frames/acme/{OWNER}/x"]
    assert (answer.status, made.body, made.media_type) == (307, whole, TYPE)
    assert f"frames/acme/{OWNER}/x?" in answer.headers["location"]
    world.gate.restart()
    assert delivery.deliver(Request("acme"), OWNER, "x", given, TYPE).status == 307
    assert [call.operation for call in world.gate.calls] == ["head_object"]


def test_killed_anywhere_and_asked_again_it_is_made(world: World, small: None) -> None:
    """At every call of S3: the next request goes on, and no upload is left open."""
    given, whole = body(stored(world))
    key = f"frames/acme/{OWNER}/x"
    for place in range(1, 40):
        world.s3.buckets[DERIVED].pop(key, None)
        seen = 0

        def around(call: Call, run: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == place:  # noqa: B023 - called within this round
                raise Killed
            return run()

        with world.hook(around):
            try:
                delivery.deliver(Request("acme"), OWNER, "x", given, TYPE)
            except Killed:
                pass
            else:
                break
        assert delivery.deliver(Request("acme"), OWNER, "x", given, TYPE).status == 307
        assert world.s3.buckets[DERIVED][key].body == whole
        assert not world.s3.uploads
    else:
        raise AssertionError("there is no end of calls")
    assert place > 8


def test_out_of_time_the_next_call_goes_on(world: World, small: None) -> None:
    """503 with what there is kept; no part is made twice."""
    given, whole = body(stored(world))
    left = iter([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    with pytest.raises(TransientError) as late:
        delivery.deliver(Request("acme", seconds_left=lambda: next(left)), OWNER, "x", given, TYPE)
    assert late.value.code == "not_ready"
    world.gate.restart()
    assert delivery.deliver(Request("acme"), OWNER, "x", given, TYPE).status == 307
    assert world.s3.buckets[DERIVED][f"frames/acme/{OWNER}/x"].body == whole
    parts = [call for call in world.gate.calls if call.operation in {"upload_part", "upload_part_copy"}]
    assert len(parts) == len(delivery.cuts_of(given)) - 2


def test_what_was_deleted_meanwhile_is_not_left(world: World, small: None) -> None:
    """The object goes again, and the answer is that nothing is there."""
    given, _ = body(stored(world))
    with pytest.raises(RequestError) as refused:
        delivery.deliver(Request("acme"), OWNER, "x", given, TYPE, still=lambda: False)
    assert refused.value.code == "not_found"
    assert world.s3.buckets[DERIVED] == {}


def test_an_object_that_is_gone_is_not_found(world: World, small: None) -> None:
    """Read, copied or pinned: the same 404, and nothing is left open."""
    gone = keys.store_dicom("acme", "01JD2Z3NDEKTSV4RRFFQ69G5FC")
    for length in (10, 100):
        for offset in (0, 5):
            with pytest.raises(RequestError) as refused:
                delivery.deliver(Request("acme"), OWNER, "x", [Stored(gone, offset, length)], TYPE)
            assert refused.value.code == "not_found"
    assert not world.s3.uploads


def test_too_much_by_hand_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is read: 413, and what to ask for instead."""
    monkeypatch.setattr(delivery, "HAND_BYTES_MAX", 5 * delivery.MIB)
    world.gate.restart()
    many: list[Piece] = [Stored("dicom/acme/x", 0, delivery.MIB)] * 6
    with pytest.raises(RequestError) as refused:
        delivery.deliver(Request("acme"), OWNER, "x", many, TYPE)
    assert refused.value.code == "answer_too_large"
    assert {call.operation for call in world.gate.calls} <= {"head_object"}


def test_a_cut_says_its_size() -> None:
    """Literals and ranges alike."""
    assert Cut(1, (b"abc", Stored("a", 5, 7))).size_bytes == 10
