"""The cost model counts what the code does, and docs/cost.md says what the model says."""

from __future__ import annotations

import math

import pytest

from heavylift.batches.manifest import Entry
from heavylift.parts import plan_parts
from infra import cost, topology
from infra.app import ROOT


@pytest.mark.parametrize(
    "size", [100 * cost.MIB, cost.GIB - 1, cost.GIB, 10 * 10**9, 64 * cost.GIB, 80 * 10**9, 10**12]
)
def test_parts_are_those_of_the_plan(size: int) -> None:
    """As large and as many as the code plans; beyond a terabyte the plan has larger ones."""
    plan = plan_parts(size)
    assert plan.part_size == cost.part_size(size)
    assert plan.part_count == math.ceil(size / cost.part_size(size))


def test_the_figures_are_of_the_right_size() -> None:
    """An upload of 80 GB costs about a cent, a batch of 2,000 some four, an archive a tenth, a month a lunch."""
    told = {job.name: job.dollars() for job in cost.jobs()}

    assert 0.005 < told["upload"] < 0.02
    assert 0.02 < told["dicom"] < 0.05
    assert 0.0005 < told["archive"] < 0.002
    assert 5 < told["idle"] < 20


def test_costs_add_up() -> None:
    """A job costs the sum of its lines, each a price times how often; nothing has a price that nobody wrote down."""
    for job in cost.jobs():
        assert job.dollars() == pytest.approx(sum(cost.PRICES[what].of(n) for what, n in job.amounts.items()))
        assert all(amount > 0 and dollars > 0 for _, amount, dollars in job.lines())
        assert [one[2] for one in job.lines()] == sorted((one[2] for one in job.lines()), reverse=True)


def test_more_costs_more() -> None:
    """Twice the bytes or files is at most twice the price, and never less than once."""
    for one, two in (
        (cost.upload(40 * 10**9), cost.upload(80 * 10**9)),
        (cost.dicom_batch(1_000, 1), cost.dicom_batch(2_000, 1)),
        (cost.archive(10**9, 100), cost.archive(2 * 10**9, 200)),
    ):
        before, after = (sum(cost.PRICES[what].of(n) for what, n in job.items()) for job in (one, two))
        assert before < after <= 2 * before


def test_memory_and_batches_are_the_topologys() -> None:
    """A function of twice the memory costs twice as much a second; DICOM comes ten at a time."""
    amounts = cost._function("validate", 10, 1_000)
    assert amounts["lambda.gb_s"] == pytest.approx(10 * topology.function("validate").memory_mb / 1024)
    batch = cost.dicom_batch(2_000, 1)
    assert batch["lambda.call"] >= 2_000 / 10
    assert Entry  # a manifest's page is one call for 5,000 entries


def test_the_documentation_has_the_models_figures() -> None:
    """docs/cost.md holds the tables as they are printed; `python -m infra.cost` prints them."""
    text = (ROOT / "docs" / "cost.md").read_text()
    begin, end = "<!-- figures: python -m infra.cost -->\n", "<!-- figures: end -->"
    assert text.split(begin)[1].split(end)[0] == cost.report()
    assert cost.AS_OF in text
    assert cost.REGION in text
