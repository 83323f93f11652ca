"""Every fuzz target, without the fuzzer: its seeds, and seeded mutants of them, are answered as the target asks."""

from __future__ import annotations

import importlib
import random
from pathlib import Path

import pytest

from fuzz import run

SEEDS = Path(run.HERE) / "seeds"
MUTANTS = 150  # of each target: about a second for the slowest


def mutant(seed: bytes, other: bytes, chance: random.Random) -> bytes:
    """A seed with a few bytes changed, a piece cut out or doubled, its end lost, or another seed's piece in it."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        length = min(chance.choice((1, 2, 4, 16, 256)), len(data) - at)
        match chance.randrange(6):
            case 0:
                data[at : at + length] = chance.randbytes(length)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                data[at : at + length] = chance.choice((b"\0", b"\xff", b"\x7f", b"0", b'"')) * length
            case 4:
                start = chance.randrange(len(other) + 1)
                data[at:at] = other[start : start + length]
            case _:
                del data[at + length :]
    return bytes(data[: run.INPUT_MAX_BYTES])


@pytest.mark.parametrize("name", run.names())
def test_seeds_and_mutants(name: str) -> None:
    """No input brings a target down: what comes is a value or the product's own verdict."""
    target = importlib.import_module(f"fuzz.targets.{name}")
    seeds = [path.read_bytes() for path in sorted((SEEDS / name).iterdir())]
    assert seeds, f"{name} has no seed"
    for data in [b"", *seeds]:
        target.one(data)
    chance = random.Random(name)
    for _ in range(MUTANTS):
        target.one(mutant(chance.choice(seeds), chance.choice(seeds), chance))


def test_every_seed_folder_has_its_target() -> None:
    """A renamed target does not leave its seeds behind."""
    assert sorted(path.name for path in SEEDS.iterdir()) == run.names()
