"""Who is woken by what: every alarm rings somewhere, watches something that is really told, and is written down."""

from __future__ import annotations

import json
import re

import pytest

from infra import topology
from infra.alarms import API_ID, NAMESPACE, SWEEPER_GAVE_UP, SWEEPER_LOST, alarms
from infra.app import ROOT
from infra.dashboard import panels
from tests.infra.conftest import Assembly

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.timeout(900)]

ALARMS = alarms("heavylift")
CODE = "\n".join(
    path.read_text() for path in sorted((ROOT / "layers" / "heavylift" / "python" / "heavylift").rglob("*.py"))
)


def test_alarms_have_names_of_their_own() -> None:
    """CloudWatch would let the second overwrite the first."""
    assert len({one.name for one in ALARMS}) == len(ALARMS)


def test_every_queue_and_function_is_watched() -> None:
    """Dead letters and jams of each queue, errors of each function."""
    names = {one.name for one in ALARMS}
    for queue in topology.QUEUES:
        assert {f"{queue.name}-dlq", f"{queue.name}-jam"} <= names
    for rule in topology.RULES:
        assert f"{rule.queue}-delivery-dlq" in names
    for function in topology.FUNCTIONS:
        assert f"{function.name}-errors" in names


def test_our_metrics_are_counted_somewhere() -> None:
    """Each metric of ours that an alarm or a panel shows is the name of one that a function writes."""
    shown = {one.name for alarm in ALARMS for one in alarm.metrics if one.namespace == NAMESPACE}
    for panel in panels("heavylift"):
        for _, expression, metric in panel.series:
            if metric.namespace == NAMESPACE:
                shown.add(metric.name)
            shown |= set(re.findall(r'MetricName="(\w+)"', expression))
    assert shown
    assert {name for name in shown if f'"{name}"' not in CODE} == set()
    told = (ROOT / "docs" / "operations.md").read_text()
    assert {name for name in shown if f"`{name}`" not in told} == set()


def test_what_the_sweeper_counts_is_what_it_says() -> None:
    """The kinds of findings that alarms add up are words of the sweeper."""
    for what in (*SWEEPER_LOST, *SWEEPER_GAVE_UP):
        assert f'"{what.removeprefix("archive_")}"' in CODE, what


def test_every_alarm_rings(each: Assembly) -> None:
    """At the topic, when it begins and when it ends; by name those that are described."""
    made = {one["Properties"]["AlarmName"]: one["Properties"] for _, _, one in each.resources("AWS::CloudWatch::Alarm")}
    ((_, _, topic),) = each.resources("AWS::SNS::Topic")

    assert set(made) == {f"{each.config.deployment}-{one.name}" for one in alarms(each.config.deployment)}
    for one in made.values():
        assert len(one["AlarmActions"]) == len(one["OKActions"]) == 1
        assert API_ID not in json.dumps(one)
    assert topic["Properties"]["TopicName"] == f"{each.config.deployment}-alarms"
    mails = [one["Properties"]["Endpoint"] for _, _, one in each.resources("AWS::SNS::Subscription")]
    assert mails == list(each.config.alarms.mail)


def test_a_budget_tells_before_it_is_spent(assemblies: dict[str, Assembly]) -> None:
    """At 80 % of what was spent and when the forecast passes it; no budget where none was set."""
    ((_, _, budget),) = assemblies["hardened"].resources("AWS::Budgets::Budget")
    told = [
        (one["Notification"]["NotificationType"], one["Notification"]["Threshold"])
        for one in budget["Properties"]["NotificationsWithSubscribers"]
    ]
    assert told == [("ACTUAL", 80), ("FORECASTED", 100)]
    assert list(assemblies["default"].resources("AWS::Budgets::Budget")) == []


def test_the_dashboard_is_json_with_every_panel(each: Assembly) -> None:
    """What CloudWatch would refuse to draw is found here."""
    ((_, _, board),) = each.resources("AWS::CloudWatch::Dashboard")
    body = board["Properties"]["DashboardBody"]
    text = (
        body if isinstance(body, str) else "".join(one if isinstance(one, str) else "x" for one in body["Fn::Join"][1])
    )
    widgets = json.loads(text)["widgets"]

    assert [one["properties"]["title"] for one in widgets] == [one.title for one in panels(each.config.deployment)]


def test_our_events_schemas_are_registered(each: Assembly) -> None:
    """Every schema of docs/events/, in the words of draft 4, which is all that the registry takes."""
    made = {
        one["Properties"]["SchemaName"]: one["Properties"] for _, _, one in each.resources("AWS::EventSchemas::Schema")
    }
    wanted = {
        f"heavylift@{path.name.removesuffix('.schema.json')}"
        for path in (ROOT / "docs" / "events").glob("*.schema.json")
    }

    assert set(made) == wanted
    for told in made.values():
        schema = json.loads(told["Content"])
        assert (told["Type"], schema["$schema"]) == ("JSONSchemaDraft4", "http://json-schema.org/draft-04/schema#")
        assert '"const"' not in told["Content"]
        assert schema["properties"]["version"]["enum"] == [1]
        assert len(told["Content"]) < 100_000


def test_operations_say_what_to_do() -> None:
    """docs/operations.md has a section for each kind of alarm, and names each alarm's description's kind."""
    text = (ROOT / "docs" / "operations.md").read_text()
    for kind in sorted({one.kind for one in ALARMS}):
        assert f"### {kind}" in text, kind


def test_searches_name_every_function_and_are_short_enough() -> None:
    """CloudWatch takes 1,024 characters of a search; with the longest deployment's name too."""
    searches = [expression for panel in panels("x" * 27) for _, expression, _ in panel.series if expression]

    assert searches
    for expression in searches:
        assert len(expression) <= 1_024
        assert all(f'"{"x" * 27}-{function.name}"' in expression for function in topology.FUNCTIONS)
        assert "*" not in expression
