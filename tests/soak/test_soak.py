"""The soak itself: its ledger and slope as pure calls, and a few seconds of it against a stack."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from xml.etree import ElementTree

import pytest

from heavylift_local import faults
from heavylift_local.testing import running_stack
from soak.ledger import Ledger, Sent, Violation
from soak.memory import MIB, Series, growth, slope_bytes_per_s
from soak.plot import memory_plot
from soak.run import FUNCTIONS, Soak, grew
from soak.weather import forecast


def sent(file_id: str, tenant: str = "t") -> Sent:
    return Sent(tenant, file_id, f"{file_id}.dat", 3, "00" * 32)


def test_no_file_leaves_its_end() -> None:
    """Only a failure goes on, and only to be deleted leaves any other end."""
    ledger = Ledger()
    for status in ("uploading", "failed", "validating", "completed", "completed", "deleted"):
        ledger.saw("a", status)
    with pytest.raises(Violation, match="was deleted and is completed"):
        ledger.saw("a", "completed")
    ledger.saw("b", "rejected")
    with pytest.raises(Violation, match="was rejected and is validating"):
        ledger.saw("b", "validating")


def test_what_somebody_reads_is_not_deleted() -> None:
    """Held files are not given out for deletion, deleted ones for nothing, and other tenants' never."""
    ledger, chance = Ledger(), random.Random(1)
    for file_id in ("a", "b"):
        ledger.add(sent(file_id))
        ledger.saw(file_id, "completed")
    ledger.add(sent("theirs", "u"))
    ledger.saw("theirs", "completed")
    held = ledger.take("t", chance, 1)
    (deleted,) = ledger.take("t", chance, 5, to_delete=True)
    assert {held[0].file_id, deleted.file_id} == {"a", "b"}
    assert [one.file_id for one in ledger.take("t", chance, 5)] == [held[0].file_id]
    with pytest.raises(Violation, match=r"was a\.dat and is"):
        ledger.add(Sent("t", "a", "other.dat", 3, "00" * 32))


def test_ends_are_told_under_one_id() -> None:
    """The ledger keeps the ids under which each end of a file was told."""
    ledger = Ledger()
    for number in ("1", "1", "2"):
        ledger.heard({"detail-type": "file.completed", "detail": {"file_id": "a", "id": number}})
    ledger.heard({"detail-type": "batch.completed", "detail": {"batch_id": "b", "id": "1"}})
    assert ledger.told == {"a": {"file.completed": {"1", "2"}}}


def test_a_slope_is_not_bent_by_peaks() -> None:
    """A line is found under high samples; a flat series with peaks has none."""
    at = [float(n) for n in range(0, 600, 3)]
    rising = [50 * MIB + 2_000 * t + (30 * MIB if n % 9 == 0 else 0) for n, t in enumerate(at)]
    assert slope_bytes_per_s(at, rising) == pytest.approx(2_000, rel=0.2)
    flat = [50.0 * MIB + (30 * MIB if n % 9 == 0 else 0) for n in range(len(at))]
    assert slope_bytes_per_s(at, flat) == 0


@pytest.mark.parametrize(
    ("per_s", "name", "found"), [(60_000, "s3", True), (300, "s3", False), (60_000, "moto", False)]
)
def test_growth_is_judged_after_the_first_third(per_s: int, name: str, found: bool) -> None:
    """What fills in the first minutes is no growth; what goes on is, but for those that keep the state."""
    at = [float(n) for n in range(900)]
    sizes = [int(min(t, 120) * MIB / 3 + per_s * t) for t in at]
    assert grew(growth(name, Series(at, sizes, max(sizes)))) is found


def test_the_weather_is_a_valid_document_of_faults() -> None:
    """Every spell is what the stack takes; the same seed brings the same weather."""
    spells = list(itertools.islice(forecast(3, FUNCTIONS), 300))
    assert spells == list(itertools.islice(forecast(3, FUNCTIONS), 300))
    assert {spell.kind for spell in spells} == {"calm", "kills", "moment", "store", "events", "slow", "strike", "storm"}
    for spell in spells:
        faults.parse(spell.faults, set(FUNCTIONS))


def test_the_plot_is_a_picture_of_every_process() -> None:
    """Well-formed SVG with a line and the peak of each series."""
    series = {"s3": Series([0.0, 60.0], [30 * MIB, 40 * MIB], 44 * MIB), "<up>": Series([0.0, 60.0], [9, 9], 9)}
    root = ElementTree.fromstring(memory_plot(series, "a & b"))
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2
    assert "40 MB, at the end 40" in "".join(root.itertext())


@pytest.mark.xdist_group("chaos")
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(("seconds", "clients"), [(10, 2), pytest.param(1_200, 4, marks=pytest.mark.full)])
def test_nothing_is_lost_and_nothing_twice(tmp_path: Path, seconds: float, clients: int) -> None:
    """Lost, doubled and reversed events, killed functions, a failing S3, all at once: every end is right."""
    with running_stack(env={"HEAVYLIFT_TIME_SCALE": "600"}) as stack:
        soak = Soak(stack, tmp_path, clients, 2, 600)
        soak.run(seconds)
        summary = soak.summary()
    assert summary["violations"] == []
    assert summary["files"] > 0
