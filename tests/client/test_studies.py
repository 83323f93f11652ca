"""``heavylift studies``: of a batch page by page, of all by QIDO-RS, a line each for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from heavylift_client import cli, show
from heavylift_client.api import Answer, Api
from heavylift_client.client import Client

QIDO = [
    {
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00080020": {"vr": "DA", "Value": ["20240131"]},
        "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane\x1b[2J"}]},
        "00201206": {"vr": "IS", "Value": [2]},
        "00201208": {"vr": "IS", "Value": [200]},
    },
    {"0020000D": {"vr": "UI", "Value": ["1.2.4"]}, "00100010": {"vr": "PN"}},
]


def test_all_pages_of_a_batch_are_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API gives a hundred at a time."""
    asked: list[tuple[str, Mapping[str, Any]]] = []
    pages = [{"items": [{"study_uid": "1"}], "next_token": "t"}, {"items": [{"study_uid": "2"}], "next_token": None}]

    def body(self: Client, method: str, path: str, *, query: Mapping[str, Any], **given: Any) -> dict[str, Any]:
        asked.append((path, dict(query)))
        return pages[len(asked) - 1]

    monkeypatch.setattr(Client, "_body", body)
    with Client("http://127.0.0.1:9", "token") as client:
        found = client.studies(batch_id="B")

    assert found == {"items": [{"study_uid": "1"}, {"study_uid": "2"}], "next_token": None}
    assert [query["next_token"] for _, query in asked] == [None, "t"]
    assert {path for path, _ in asked} == {"/v1/batches/B/studies"}


@pytest.mark.parametrize(("filters", "calls"), [({}, 2), ({"limit": "1"}, 1)])
def test_all_pages_of_a_search_are_one_list(
    monkeypatch: pytest.MonkeyPatch, filters: dict[str, str], calls: int
) -> None:
    """As long as the server says that there are more, unless a limit was asked for; nothing found is an empty list."""
    asked: list[Mapping[str, Any]] = []
    more = {"warning": "299 x: There are additional results that can be requested."}
    answers = [Answer(200, QIDO[:1], more, None, 0.0), Answer(200, QIDO[1:], {}, None, 0.0)]

    def call(self: Api, method: str, path: str, *, query: Mapping[str, Any], **given: Any) -> Answer:
        assert (method, path) == ("GET", "/v1/dicomweb/studies")
        asked.append(dict(query))
        return answers[len(asked) - 1]

    monkeypatch.setattr(Api, "call", call)
    with Client("http://127.0.0.1:9", "token") as client:
        assert client.studies(**filters) == QIDO[:calls]
        assert [query.get("offset") for query in asked] == [None, "1"][:calls]
        answers[:] = [Answer(204, None, {}, None, 0.0)]
        asked.clear()
        assert client.studies(**filters) == []


def test_a_study_is_a_line() -> None:
    """From QIDO-RS or from a batch; what a terminal would act on is made visible, and what is absent is a dash."""
    first, second = show.studies(QIDO)
    assert first.split("  ")[0] == "20240131"
    assert "CT,SR" in first
    assert "200 instances" in first
    assert "1.2.3" in first
    assert "\x1b" not in first
    assert second.startswith("-")
    of_batch = {"study_uid": "1.2.5", "modalities": ["MR"], "series": 1, "instances": 3}
    (line,) = show.studies({"items": [of_batch]})
    assert "1.2.5" in line
    assert "3 instances" in line
    assert show.studies(None) == []


def test_filters_are_attributes_of_qido(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each option is a parameter of the search; a batch takes none."""
    asked: dict[str, Any] = {}

    def studies(self: Client, *, batch_id: str | None = None, **filters: str | None) -> Any:
        asked.update(filters, batch_id=batch_id)
        return QIDO

    monkeypatch.setattr(Client, "studies", studies)
    options = ["--api", "http://127.0.0.1:9", "--token", "t"]
    assert cli.main(["studies", *options, "--patient-id", "P1", "--date", "20240101-", "--modality", "CT"]) == 0
    assert asked == {"PatientID": "P1", "StudyDate": "20240101-", "ModalitiesInStudy": "CT", "batch_id": None}
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert cli.main(["studies", *options, "--batch", "B", "--modality", "CT"]) == 2
