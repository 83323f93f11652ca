"""The back-fill's definition: a machine without dead ends that asks for each file what the API's own route takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from heavylift import keys
from infra import backfill, topology
from tests.doubles import events
from tests.doubles.samples import PICTURE
from tests.doubles.world import World, handler_of
from tests.infra.conftest import Assembly

MACHINE = backfill.definition("store", "derived", "arn:aws:lambda:eu-central-1:111122223333:function:f", "tenant")


def nexts(state: Mapping[str, Any]) -> Iterator[str]:
    for one in (state, *state.get("Choices", ()), *state.get("Catch", ())):
        if "Next" in one:
            yield one["Next"]
    if "Default" in state:
        yield state["Default"]


def machines(machine: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield machine
    for state in machine["States"].values():
        if "ItemProcessor" in state:
            yield from machines(state["ItemProcessor"])


def test_every_state_is_reached_and_leads_somewhere() -> None:
    """No name that there is not, none that nobody goes to, an end from everywhere."""
    for machine in machines(MACHINE):
        states = machine["States"]
        seen, todo = set(), [machine["StartAt"]]
        while todo:
            name = todo.pop()
            assert name in states
            if name not in seen:
                seen.add(name)
                todo += nexts(states[name])
        assert seen == set(states)
        for name, state in states.items():
            ends = state.get("End", False) or state["Type"] in ("Succeed", "Fail")
            assert ends != bool(list(nexts(state))), name


# --- a reader of the few words of Amazon States Language that the definition uses


def value(path: str, data: Any, context: Any) -> Any:
    """What a path or an intrinsic function means."""
    call = re.fullmatch(r"States\.(\w+)\((.*)\)", path, re.S)
    if call:
        return intrinsic(call[1], [value(one, data, context) for one in arguments(call[2])])
    if path.startswith("'"):
        return path[1:-1].replace("\\{", "\0").replace("\\}", "\1")
    if path.lstrip("-").isdigit():
        return int(path)
    place, root = (context, path[3:]) if path.startswith("$$.") else (data, path[2:])
    for key in filter(None, root.split(".")):
        place = place[key]
    return place


def arguments(text: str) -> list[str]:
    """Arguments of an intrinsic function, commas within texts and calls left alone."""
    found, depth, quoted, begin = [], 0, False, 0
    for at, letter in enumerate(text):
        quoted ^= letter == "'"
        depth += (letter == "(") - (letter == ")") if not quoted else 0
        if letter == "," and depth == 0 and not quoted:
            found.append(text[begin:at].strip())
            begin = at + 1
    return [*found, text[begin:].strip()]


def intrinsic(name: str, given: list[Any]) -> Any:
    match name:
        case "StringSplit":
            return [one for one in given[0].split(given[1]) if one]
        case "ArrayGetItem":
            return given[0][given[1]]
        case "MathAdd":
            return given[0] + given[1]
        case "JsonToString":
            return json.dumps(given[0])
        case "Format":
            text, *rest = given
            parts = text.split("{}")
            made = parts[0] + "".join(str(one) + part for one, part in zip(rest, parts[1:], strict=True))
            return made.replace("\0", "{").replace("\1", "}")
    raise AssertionError(name)


def filled(template: Any, data: Any, context: Any) -> Any:
    """A Parameters block with its paths read."""
    if isinstance(template, dict):
        return {
            key.removesuffix(".$"): value(one, data, context) if key.endswith(".$") else filled(one, data, context)
            for key, one in template.items()
        }
    return [filled(one, data, context) for one in template] if isinstance(template, list) else template


def run(machine: Mapping[str, Any], data: Any, call: Any, context: Any) -> tuple[str, Any]:
    """One machine from its start; the state that it ends in and what it has then."""
    name = machine["StartAt"]
    for _ in range(100):
        state = machine["States"][name]
        match state["Type"]:
            case "Pass":
                data = filled(state["Parameters"], data, context)
            case "Task":
                answer = call(filled(state["Parameters"], data, context)["Payload"])
                told = filled(state["ResultSelector"], {"Payload": answer}, context)
                data = {**data, state["ResultPath"].removeprefix("$."): told}
            case "Choice":
                state = {"Next": chosen(state, data)}
            case "Map" | "Fail":
                return name, data
        if state.get("End"):
            return name, data
        name = state["Next"]
    raise AssertionError("it does not end")


def chosen(state: Mapping[str, Any], data: Any) -> str:
    tests = {
        "NumericEquals": lambda a, b: a == b,
        "NumericGreaterThanEquals": lambda a, b: a >= b,
        "StringEquals": lambda a, b: a == b,
    }
    for choice in state["Choices"]:
        (word,) = set(choice) & set(tests)
        if tests[word](value(choice["Variable"], data, {}), choice[word]):
            return str(choice["Next"])
    return str(state["Default"])


def item(told: Mapping[str, Any], key: str) -> dict[str, Any]:
    selector = MACHINE["States"]["Files"]["ItemSelector"]
    context = {"Map": {"Item": {"Value": {"Key": key, "Size": 1}}}, "Execution": {"Name": "run-1"}}
    return dict(filled(selector, told, context))


PROCESSOR = MACHINE["States"]["Files"]["ItemProcessor"]
CHILD = {"Execution": {"Name": "child-1"}}


def begun(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the listing is begun with."""
    name, told = run(MACHINE, given, None, {})
    assert name == "Files"
    return dict(told)


def test_pictures_are_made_anew(world: World) -> None:
    """From the listing's key to the real function: the stored picture is drawn once more, and only once a run."""
    file_id = world.initiate(PICTURE.name, PICTURE.data)
    world.put(file_id, PICTURE.data)
    world.complete(file_id)
    world.pump()
    before = world.record(file_id)
    told = begun({"what": "thumbnails", "prefix": "files/"})
    assert told["prefix"] == "files/"

    def call(event: dict[str, Any]) -> dict[str, Any]:
        return dict(handler_of(backfill.target().name)(event, events.Context(backfill.target().name, 29, 512)))

    one = item(told, keys.store("acme", file_id))
    for _ in range(2):  # Step Functions repeats a child that it lost
        assert run(PROCESSOR, one, call, CHILD) == ("Done", {"id": file_id, "asked": True})
    world.pump()

    after = world.record(file_id)
    assert after.status.value == "completed"
    assert after.fence > before.fence
    assert [one["event"] for one in after.events].count("retry_processing") == 1


def test_rules_reach_the_function_as_they_were_given() -> None:
    """The body is JSON with the rules inside, braces and all."""
    rules = {"encoding": "utf-8", "columns": [{"name": "a,b'{}"}]}
    told = begun({"what": "rules", "prefix": "files/acme/", "rules": rules})

    assert json.loads(told["body"]) == {"rules": rules}


@pytest.mark.parametrize(
    ("statuses", "end"),
    [
        ([202], "Done"),
        ([404], "Skipped"),
        ([409], "Skipped"),
        ([410], "Skipped"),
        ([429, 503, 202], "Done"),
        ([400], "Refused"),
        ([500] * 20, "Refused"),
    ],
)
def test_answers_decide(statuses: list[int], end: str) -> None:
    """What is busy is asked again, a bounded number of times; what has nothing to do is skipped; the rest fails."""
    left = iter(statuses)
    one = item(begun({"what": "thumbnails", "prefix": ""}), "files/acme/01JD2Z3NDEKTSV4RRFFQ69G5FA")

    name, _ = run(PROCESSOR, one, lambda event: {"statusCode": next(left)}, CHILD)

    assert name == end


def test_nonsense_ends_at_once() -> None:
    """Before anything is listed."""
    assert run(MACHINE, {"what": "everything"}, None, {})[0] == "Unknown"


def test_it_may_do_what_it_does_and_no_more(each: Assembly) -> None:
    """List the store, call one function, write its results, start its children."""
    template = each.stack("backfill")["Resources"]
    (role,) = (one["Properties"] for one in template.values() if one["Type"] == "AWS::IAM::Role")
    statements = role["Policies"][0]["PolicyDocument"]["Statement"]
    actions = {
        action
        for one in statements
        for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
    }
    key = {"kms:Decrypt", "kms:GenerateDataKey"} if each.config.protection.kms else set()

    assert {action for action in actions if not action.startswith("xray:")} == key | {
        "s3:ListBucket", "lambda:InvokeFunction", "s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts", "states:StartExecution",
    }  # fmt: skip
    (invoke,) = (one for one in statements if one["Action"] == "lambda:InvokeFunction")
    assert f"function:{each.config.deployment}-{backfill.target().name}" in json.dumps(invoke["Resource"])
    assert topology.WRITE in json.dumps(MACHINE)
