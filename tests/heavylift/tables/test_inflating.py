"""gzip that is taken up where it was put down: the bytes are those of one go, wherever that was."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Iterator

import pytest

from heavylift.tables import bounds, inflating, unpacking
from heavylift.tables.inflating import Broken, Inflater, place_of
from heavylift.tables.unpacking import Unpackable, unpack
from tests.heavylift.tables.reading import pieces

WORDS = random.Random(3).choices(["lorem", "ipsum", "größer", "\n", '"quoted"', "日本", "0123"], k=60_000)
TEXT = " ".join(WORDS).encode()
NOISE = random.Random(4).randbytes(200_000)


def packed(data: bytes, level: int, strategy: int = zlib.Z_DEFAULT_STRATEGY, memory: int = 8) -> bytes:
    one = zlib.compressobj(level, zlib.DEFLATED, 31, memory, strategy)
    return one.compress(data) + one.flush()


FILES = {
    "plain": packed(TEXT, 6),
    "small blocks": packed(TEXT, 9, memory=1),
    "fixed codes": packed(TEXT[:100_000], 6, zlib.Z_FIXED) + packed(TEXT, 1),
    "stored": packed(NOISE, 0),
    "noise": packed(NOISE + TEXT, 6),
    "codes alone": packed(TEXT, 6, zlib.Z_HUFFMAN_ONLY),
    "members": b"".join(gzip.compress(TEXT[at : at + 40_000]) for at in range(0, len(TEXT), 40_000)) + bytes(700),
    "named": b"\x1f\x8b\x08\x1e\0\0\0\0\0\3\5\0extrname\0comment\0hc" + packed(TEXT, 6)[10:],
}


@pytest.fixture(autouse=True)
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places after every block, and all of them kept."""
    monkeypatch.setattr(inflating, "INFLATE_SPACING_BYTES", 1)
    monkeypatch.setattr(inflating, "INFLATE_PLACES", 10_000)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("block", [0, 1_000, 7])
def test_every_place_leads_on_to_the_same_bytes(name: str, block: int) -> None:
    """Through JSON, as a checkpoint keeps it; blocks of any size."""
    data = FILES[name]
    whole = gzip.decompress(data)
    first = Inflater()
    assert b"".join(first.pieces(iter(list(pieces(data, block))))) == whole
    places = list(first._places)
    chosen = places if block == 0 else places[:: max(1, len(places) // 3)]
    for place in chosen:
        again = Inflater(place_of(json.loads(json.dumps(place.state()))))

        assert b"".join(again.pieces(iter(list(pieces(data[again.at :], block))))) == whole[place.out :]
        assert again.taken == len(data)
    assert len(places) >= (50 if name == "small blocks" else 5 if name in ("noise", "members") else 1)
    assert {place.bits for place in places} <= set(range(8))


def test_bits_of_every_number_are_taken_up() -> None:
    """Blocks end at any bit of a byte."""
    first = Inflater()
    for _ in first.pieces(iter([FILES["small blocks"]])):
        pass

    assert {place.bits for place in first._places} == set(range(8))


def test_the_last_place_before_a_byte_is_the_one_to_go_on_from() -> None:
    first = Inflater()
    for _ in first.pieces(iter([FILES["small blocks"]])):
        pass
    outs = [place.out for place in first._places]
    found = first.place_before(outs[3] + 1)

    assert found is not None
    assert found.out == outs[3]
    assert first.place_before(outs[0] - 1) is None


@pytest.mark.parametrize("large", [False, True])
def test_damage_is_told_alike_however_the_file_is_read(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was inflated before it, and the words, do not depend on the size of the pieces."""
    if large:
        monkeypatch.setattr(unpacking, "INFLATE_FROM_BYTES", 0)
    chance = random.Random(5)
    told = set()
    for _ in range(4):
        data = bytearray(FILES["plain"])
        data[chance.randrange(20, len(data))] ^= 1 << chance.randrange(8)
        answers = {read(bytes(data), size) for size in (0, 31, 4_096, 65_536)}
        assert len(answers) == 1
        told |= {words for _, words in answers}
    assert told
    assert all(words.startswith("Gzip is broken") for words in told if words)


def read(data: bytes, size: int) -> tuple[bytes, str]:
    """(what came out, what was wrong)."""
    out = bytearray()
    try:
        for piece in unpack("gzip", iter(list(pieces(data, size))), len(data)):
            out += piece
    except Unpackable as error:
        return bytes(out), error.message
    return bytes(out), ""


@pytest.mark.parametrize("name", ["plain", "members", "named"])
def test_a_cut_file_is_broken_wherever_it_is_cut(name: str) -> None:
    """But where a member ends."""
    data = FILES[name].rstrip(b"\0")
    ends = {at for at in range(len(data)) if data[at : at + 3] == b"\x1f\x8b\x08"}
    for cut in [*range(1, 40), *range(40, len(data), 997)]:
        if cut in ends:
            continue
        with pytest.raises((Broken, EOFError)):
            for _ in Inflater().pieces(iter([data[:cut]])):
                pass


@pytest.mark.parametrize("more", [b"more", b"\0\0more", b"\x1f", b"\x1f\x8bxx"])
def test_what_follows_the_last_member_is_named(more: bytes) -> None:
    def blocks() -> Iterator[bytes]:
        yield FILES["plain"]
        yield more

    with pytest.raises((Broken, EOFError)):
        for _ in Inflater().pieces(blocks()):
            pass


def test_a_file_that_no_library_can_take_up_is_read_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "library", lambda: None)

    assert unpacking.inflater_for("gzip", bounds.INFLATE_FROM_BYTES) is None
    assert unpacking.inflater_for("zstd", 1 << 40) is None
