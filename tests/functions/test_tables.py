"""Tables, JSON and text through validate: reports, verdicts, slices, retries with other rules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift import checking
from heavylift.records import FileRecord
from tests.doubles.world import DERIVED, World

GOOD = b"id,name\n1,one\n2,two\n"
BAD = b"id,name\n1,one\n2\n3,three,more\n"


def sent(world: World, name: str, data: bytes, **entry: Any) -> str:
    file_id = world.initiate(name, data, **entry)
    world.put(file_id, data)
    if world.record(file_id).mode == "multipart":
        assert world.complete(file_id)[0] == 200
    return file_id


def report_of(world: World, record: FileRecord) -> dict[str, Any]:
    key = (record.report or {})["key"]
    found: dict[str, Any] = json.loads(world.s3.get_object(Bucket=DERIVED, Key=key)["Body"].read())
    return found


def failure_of(record: FileRecord) -> dict[str, Any]:
    return dict(record.failure or {})


def test_a_good_table_is_completed_with_its_report(world: World) -> None:
    """The record tells records and verdict; the report is a signed link away, and the checkpoint is gone."""
    file_id = sent(world, "a.csv", GOOD, rules={"min_records": 2})
    world.pump()
    record = world.record(file_id)
    report = report_of(world, record)
    status, shown = world.call("sessions", "GET", "/v1/files/{id}", path={"id": file_id})
    link, answer = world.call(
        "sessions", "GET", "/v1/files/{id}/report", path={"id": file_id}, query={"redirect": "false"}
    )

    assert record.status.value == "completed"
    assert (report["valid"], report["records"], report["format"]) == (True, 2, "CSV")
    assert (status, shown["valid"], shown["records"]) == (200, True, 2)
    assert (link, (record.report or {})["key"] in answer["url"]) == (200, True)
    assert [key for key in world.s3.buckets[DERIVED] if key.startswith("work/")] == []


def test_a_broken_table_is_rejected_with_its_report(world: World) -> None:
    """The verdict counts the errors; the report names every place; nothing is stored."""
    file_id = sent(world, "a.csv", BAD)
    world.pump()
    record = world.record(file_id)

    assert (record.status.value, failure_of(record)["code"], failure_of(record)["errors"]) == (
        "rejected",
        "not_valid",
        2,
    )
    assert "extra-cell 1, missing-cell 1" in failure_of(record)["message"]
    assert (record.kind, record.format) == ("table", "CSV")
    assert [(error["code"], error["line"]) for error in report_of(world, record)["errors"]] == [
        ("missing-cell", 3),
        ("extra-cell", 4),
    ]


def test_other_rules_look_again(world: World) -> None:
    """Rejected by one set of rules, taken by the next; the report is the new one."""
    file_id = sent(world, "a.csv", BAD)
    world.pump()
    status, _ = world.call(
        "complete", "POST", "/v1/uploads/{id}/retry", path={"id": file_id}, body={"rules": {"max_errors": 2}}
    )
    world.pump()
    record = world.record(file_id)

    assert (status, record.status.value) == (202, "completed")
    assert report_of(world, record)["valid"]
    assert (record.report or {})["errors"] == 2


def test_wrong_rules_are_the_files_verdict(world: World) -> None:
    """They name the rule; the file can be tried again."""
    file_id = sent(world, "a.jsonl", b"{}\n", rules={"schema": {"type": "nonsense"}})
    world.pump()
    record = world.record(file_id)

    assert record.status.value == "rejected"
    assert (failure_of(record)["code"], failure_of(record)["rule"], failure_of(record)["retryable"]) == (
        "invalid_rules",
        "schema",
        True,
    )


def test_a_data_type_has_default_rules(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's own rules stand in their place; ``*`` is for all others."""
    from heavylift import settings as settings_module

    defaults = {"orders": {"min_records": 3}, "*": {"max_records": 1}}
    monkeypatch.setenv("DEFAULT_RULES", json.dumps(defaults))
    settings_module.settings.cache_clear()
    ids = [
        sent(world, "a.csv", GOOD, data_type="orders"),
        sent(world, "b.csv", GOOD, data_type="other"),
        sent(world, "c.csv", GOOD, data_type="orders", rules={"min_records": 1}),
    ]
    world.pump()

    assert [world.record(file_id).status.value for file_id in ids] == ["rejected", "rejected", "completed"]
    settings_module.settings.cache_clear()


def test_a_file_without_a_report_says_so(world: World) -> None:
    file_id = sent(world, "a.bin", bytes(20))
    world.pump()
    status, answer = world.call("sessions", "GET", "/v1/files/{id}/report", path={"id": file_id})

    assert (status, answer["code"]) == (404, "no_report")


def test_bytes_that_only_look_like_text_are_kept_as_they_are(world: World) -> None:
    """Nobody called it text: neither its name nor its type. With rules it is judged all the same."""
    data = b'{"a": 1}\n{"a": \n'
    kept, judged = sent(world, "a.bin", data), sent(world, "b.bin", data, rules={"min_records": 1})
    world.pump()

    assert (world.record(kept).status.value, world.record(kept).report) == ("completed", None)
    assert world.record(judged).status.value == "rejected"


def test_many_errors_are_a_list_beside_the_report(world: World) -> None:
    """The report shows the first hundred."""
    file_id = sent(world, "a.csv", b"a,b\n" + b"1\n" * 150)
    world.pump()
    record = world.record(file_id)
    lines = world.s3.get_object(Bucket=DERIVED, Key=(record.report or {})["errors_key"])["Body"].read().splitlines()

    assert (len(report_of(world, record)["errors"]), len(lines)) == (100, 150)


def big_table() -> bytes:
    rows = "".join(f'{n},"row {n}\nof many"\n' for n in range(60_000))
    return ("id,name\n" + rows + "1,2,3\n").encode()


@pytest.fixture
def in_slices(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every block ends the time of its slice; the places where slices ended."""
    ended: list[int] = []
    real = checking.check

    def impatient(*given: Any) -> Any:
        try:
            return real(*given[:-1], lambda: 0.0)
        except checking.Unfinished as pause:
            ended.append(pause.done)
            raise

    monkeypatch.setattr(checking, "check", impatient)
    return ended


def test_a_table_is_checked_in_slices(world: World, in_slices: list[int]) -> None:
    """Each slice hands on to the next through its checkpoint, which goes at the end; the report is that of one go."""
    from tests.heavylift.tables import reading

    data, rules = big_table(), {"max_errors": 5, "unique_keys": ["id"]}
    file_id = sent(world, "a.csv", data, rules=rules)
    world.pump()
    record = world.record(file_id)
    report, expected = report_of(world, record), reading.report_of(data, "a.csv", rules)

    assert len(in_slices) > 3
    assert in_slices == sorted(set(in_slices))
    assert record.status.value == "completed", record.failure
    assert report | {"source": None} == {n: v for n, v in expected.items() if n != "all"} | {"source": None}
    assert (report["records"], report["counts"]) == (60_001, {"extra-cell": 1, "unique-error": 1})
    assert [key for key in world.s3.buckets[DERIVED] if key.startswith("work/")] == []
