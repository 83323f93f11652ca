"""The rules of a file: its own, else its data type's, else those for all others.

They are checked where they are sent, so that a wrong one is the caller's error and no verdict on a file. The deployer's
defaults are checked where they count: wrong ones are nobody's fault but the deployer's, and fail the file's stage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from heavylift.errors import ContentError, HeavyliftError, RequestError
from heavylift.records import FileRecord
from heavylift.settings import settings

if TYPE_CHECKING:
    from heavylift.tables.rules import Rules


class DefaultRulesWrong(HeavyliftError):
    """The deployer's rules for this data type are wrong: ours to mend, then the file can be tried again."""


def rules_of(record: FileRecord) -> Any:
    """The rules as they were given; None where there are none."""
    if record.rules is not None:
        return record.rules
    defaults = json.loads(settings().default_rules or "{}")
    return defaults.get(data_type_of(record) or "", defaults.get("*"))


def data_type_of(record: FileRecord) -> str | None:
    """The file's own, else the one in its metadata: a batch has no field for it, and its members have its metadata."""
    told = record.data_type or record.metadata.get("data_type")
    return told if isinstance(told, str) else None


def check_sent(rules: Mapping[str, Any] | None) -> None:
    """That the rules which a caller sends are such. RequestError ``invalid_rules`` with the name of the wrong one.

    Schemas are compiled, so nothing is left for the validator to find but that a schema is of the other format's kind.
    """
    if rules is not None:
        wrong = _fault(json.dumps(rules, sort_keys=True))
        if wrong is not None:
            raise RequestError("invalid_rules", f"The rules are wrong: {wrong[1]}", rule=wrong[0])


@lru_cache(maxsize=32)  # a call's files mostly share their rules; 64 KB each
def _fault(text: str) -> tuple[str, str] | None:
    """(rule, sentence) of what is wrong with rules as JSON."""
    from heavylift.tables.rules import RulesError, parse_rules

    try:
        parse_rules(json.loads(text))
    except RulesError as error:
        return str(error.facts["rule"]), error.message
    except RecursionError:
        return "rules", "they are nested too deeply"
    return None


def parsed(record: FileRecord) -> Rules | None:
    """The file's rules; None where there are none. ContentError ``invalid_rules``, DefaultRulesWrong."""
    from heavylift.tables.rules import RulesError, parse_rules

    given = rules_of(record)
    if given is None:
        return None
    try:
        return parse_rules(given)
    except RulesError as error:
        rule = error.facts["rule"]
        if record.rules is None:
            words = f"The deployment's rules for {data_type_of(record) or '*'} are wrong: {error.message}"
            raise DefaultRulesWrong("default_rules_wrong", words, rule=rule) from None
        raise ContentError("invalid_rules", f"The rules are wrong: {error.message}", rule=rule) from None


def mismatch_policy(rules: Rules | None) -> str:
    """``error``, ``warn`` or ``allow``: what a contradiction between content and announcement is."""
    return (rules.type_mismatch if rules is not None else None) or settings().type_mismatch
