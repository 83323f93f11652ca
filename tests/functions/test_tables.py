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


WRONG = {
    "max_file_size": {"max_file_size": "1 GB"},
    "min_recrods": {"min_recrods": 1},
    "allowed_formats": {"allowed_formats": ["cvs"]},
    "schema": {"schema": {"type": "nonsense"}},
    "dialect": {"dialect": {"delimiter": ";;"}},
}


@pytest.mark.parametrize("rule", WRONG)
def test_wrong_rules_are_told_where_they_are_sent(world: World, rule: str) -> None:
    """A problem of that file at initiate, 422 at retry and for a batch: the name of the rule, and what is wrong."""
    good = sent(world, "a.csv", GOOD)
    world.pump()
    files = [{"name": "a.csv", "size": 5, "rules": WRONG[rule]}, {"name": "b.csv", "size": 5}]
    status, body = world.call("initiate", "POST", "/v1/uploads", body={"files": files})
    problem = body["uploads"][0]["problem"]
    retried, answer = world.retry(good, rules=WRONG[rule])
    batch, refused = world.call("initiate", "POST", "/v1/batches", body={"total": 1, "rules": WRONG[rule]})

    assert (status, problem["code"], problem["rule"], problem["status"]) == (201, "invalid_rules", rule, 422)
    assert "upload_id" in body["uploads"][1]
    assert (retried, answer["code"], answer["rule"]) == (422, "invalid_rules", rule)
    assert (batch, refused["code"], refused["rule"]) == (422, "invalid_rules", rule)
    assert rule in problem["detail"]


def test_rules_of_the_other_format_are_the_files_verdict(world: World) -> None:
    """What only the file can tell; with right ones it can be tried again."""
    file_id = sent(world, "a.csv", GOOD, rules={"schema": {"type": "object"}})
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


def test_wrong_default_rules_are_the_deployers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is rejected for them: it fails, and goes on when they are mended."""
    from heavylift import settings as settings_module

    monkeypatch.setenv("DEFAULT_RULES", json.dumps({"orders": {"min_recrods": 3}}))
    settings_module.settings.cache_clear()
    file_id = sent(world, "a.csv", GOOD, data_type="orders")
    world.pump()
    failed = world.record(file_id)
    monkeypatch.setenv("DEFAULT_RULES", json.dumps({"orders": {"min_records": 1}}))
    settings_module.settings.cache_clear()
    world.retry(file_id)
    world.pump()
    settings_module.settings.cache_clear()

    assert (failed.status.value, failure_of(failed)["code"], failure_of(failed)["retryable"]) == (
        "failed",
        "default_rules_wrong",
        True,
    )
    assert "min_recrods" in failure_of(failed)["message"]
    assert world.status(file_id) == "completed"


@pytest.mark.parametrize(
    ("rules", "codes"),
    [
        ({"max_file_size": 10}, ["byte-count"]),
        ({"allowed_formats": ["csv", "image/tiff"]}, ["type-mismatch"]),
        ({"max_file_size": 10, "allowed_formats": ["jpg"]}, ["byte-count", "type-mismatch"]),
        ({"max_file_size": 1_000, "allowed_formats": ["png"]}, []),
        ({"allowed_formats": ["image/png"], "min_records": 5}, []),
        ({"allowed_formats": [".PNG"]}, []),
    ],
)
def test_size_and_format_are_ruled_for_every_kind(world: World, rules: dict[str, Any], codes: list[str]) -> None:
    """A picture has no records, but a size and a format; its report says the same things."""
    from tests.doubles.samples import PICTURE

    file_id = sent(world, PICTURE.name, PICTURE.data, rules=rules)
    world.pump()
    record = world.record(file_id)
    report = report_of(world, record)

    assert (record.status.value, report["valid"]) == (("rejected", False) if codes else ("completed", True))
    assert [error["code"] for error in report["errors"]] == sorted(report["counts"]) == codes
    assert all(str(len(PICTURE.data)) in e["message"] for e in report["errors"] if e["code"] == "byte-count")
    if codes:
        assert failure_of(record)["code"] == "not_valid"


@pytest.mark.parametrize("how", ["setting", "rule"])
@pytest.mark.parametrize(("policy", "status"), [("error", "rejected"), ("warn", "completed"), ("allow", "completed")])
def test_contradictions_have_a_policy(
    world: World, monkeypatch: pytest.MonkeyPatch, how: str, policy: str, status: str
) -> None:
    """By the deployment's setting, or by the rule of the file, which has the last word; a warning is in the trail."""
    from heavylift import settings as settings_module
    from tests.doubles.samples import SMALL_PICTURE

    rules = {"type_mismatch": policy} if how == "rule" else None
    monkeypatch.setenv("TYPE_MISMATCH", policy if how == "setting" else "error" if policy != "error" else "allow")
    settings_module.settings.cache_clear()
    file_id = sent(world, "table.csv", SMALL_PICTURE.data, **({"rules": rules} if rules else {}))
    world.pump(copies=2)
    record = world.record(file_id)
    told = [entry for entry in record.events if entry["event"] == "type_mismatch"]
    settings_module.settings.cache_clear()

    assert record.status.value == status
    assert len(told) == (policy == "warn")
    if status == "rejected":
        assert (failure_of(record)["code"], failure_of(record)["expected"]) == ("type_mismatch", "table")
        assert failure_of(record)["detected"] == "image/png"
    else:
        assert (record.kind, record.format) == ("image", "PNG")


def test_a_nul_does_not_hide_a_table(world: World) -> None:
    """Content that looks like nothing is read as what it is called, and the defect is named."""
    file_id = sent(world, "a.csv", b"id,name\n1,o\0ne\n2,two\n")
    world.pump()
    report = report_of(world, world.record(file_id))

    assert world.status(file_id) == "rejected"
    assert [(e["code"], e["line"], e["byte_offset"]) for e in report["errors"]] == [("nul-byte", 2, 11)]


def test_members_of_a_batch_have_its_data_type(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the batch's metadata, where clients put it."""
    from heavylift import settings as settings_module
    from tests.functions.test_batches import begun

    monkeypatch.setenv("DEFAULT_RULES", json.dumps({"orders": {"min_records": 3}}))
    settings_module.settings.cache_clear()
    ends = []
    for metadata in ({"data_type": "orders"}, {"data_type": 7}, {}):
        client = begun(world, {1: ("a.csv", GOOD)}, metadata=metadata)
        client.send()
        world.pump()
        ends.append(world.status(client.file_id(1)))
    settings_module.settings.cache_clear()

    assert ends == ["rejected", "completed", "completed"]


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


def test_a_compressed_table_is_taken_up_inside_its_compressed_data(
    world: World, in_slices: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice goes on near the byte where the last one ended, and the report is that of one go."""
    import gzip

    from heavylift.tables import inflating, unpacking
    from tests.heavylift.tables import reading

    monkeypatch.setattr(unpacking, "INFLATE_FROM_BYTES", 0)
    monkeypatch.setattr(inflating, "INFLATE_SPACING_BYTES", 1_000)
    data, rules = gzip.compress(big_table()), {"max_errors": 5}
    file_id = sent(world, "a.csv.gz", data, rules=rules)
    world.gate.restart()
    world.pump()
    record = world.record(file_id)
    report, expected = report_of(world, record), reading.report_of(data, "a.csv.gz", rules)
    begins = [
        int(call.arguments["Range"].removeprefix("bytes=").split("-")[0])
        for call in world.gate.calls
        if call.operation == "get_object" and call.arguments["Key"].startswith("in/")
    ]

    assert len(in_slices) > 2
    assert report | {"source": None} == {n: v for n, v in expected.items() if n != "all"} | {"source": None}
    assert (
        len({begin for begin in begins if begin}) >= len(in_slices) - 2
    )  # before the first block ends there is no place
