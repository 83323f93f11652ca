"""Lifecycle rules: what they say and when something is due. No I/O here.

"Managing the lifecycle of objects", Amazon S3 user guide. A day may be scaled: with *scale* 1000 a day lasts 86.4
seconds, and the rounding to the next midnight is one to the next such day.
"""

import math
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from heavylift_local.s3.errors import S3Error, invalid_argument, invalid_request, not_implemented
from heavylift_local.s3.xml import Node, element

RULES_MAX = 1000
ID_CHARS_MAX = 255
DAYS_MAX = 2**31 - 1
DAY_SECONDS = 86_400

Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Days are whole days; *expire_at* is seconds since 1970. None: the rule has no such action."""

    id: str
    enabled: bool = True
    prefix: str = ""
    tags: Tags = ()
    larger_than: int | None = None
    smaller_than: int | None = None
    expire_days: int | None = None
    expire_at: float | None = None
    expired_markers: bool = False
    noncurrent_days: int | None = None
    noncurrent_kept: int = 0
    abort_incomplete_days: int | None = None
    old_style: bool = field(default=False)  # <Prefix> in the rule itself, and given back so

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def covers(self, key: str, size: int, tags: Tags) -> bool:
        """Whether this rule speaks of such an object."""
        return (
            self.enabled
            and key.startswith(self.prefix)
            and (self.larger_than is None or size > self.larger_than)
            and (self.smaller_than is None or size < self.smaller_than)
            and set(self.tags) <= set(tags)
        )


def from_json(raw: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Rules of a configuration or of the records. Raises ValueError for a field that is not known."""
    rules = []
    for number, fields in enumerate(raw):
        try:
            rule = Rule(**{"id": f"rule-{number}", **fields, "tags": tuple(map(tuple, fields.get("tags") or ()))})
        except TypeError:
            raise ValueError(f"lifecycle: unknown field among {', '.join(sorted(fields))}") from None
        for days in (rule.expire_days, rule.noncurrent_days, rule.abort_incomplete_days):
            if days is not None and (not isinstance(days, int) or not 1 <= days <= DAYS_MAX):
                raise ValueError("lifecycle: days are whole and positive")
        rules.append(rule)
    return tuple(rules)


def due(since: float, days: int, scale: float = 1.0) -> float:
    """When something that began at *since* (seconds since 1970) is *days* old: at the midnight that follows."""
    day = DAY_SECONDS / scale
    return math.ceil((since + days * day) / day) * day


def expiration(
    rules: Sequence[Rule], key: str, size: int, tags: Tags, modified: float, scale: float = 1.0
) -> tuple[float, str] | None:
    """(when, rule id) of the earliest expiration of a current version, None where no rule has one for it."""
    found = []
    for rule in rules:
        if not rule.covers(key, size, tags):
            continue
        if rule.expire_days is not None:
            found.append((due(modified, rule.expire_days, scale), rule.id))
        elif rule.expire_at is not None:
            found.append((rule.expire_at, rule.id))
    return min(found, default=None)


def abortion(rules: Sequence[Rule], key: str, created: float, scale: float = 1.0) -> tuple[float, str] | None:
    """(when, rule id) an upload that is still open is aborted."""
    found = [
        (due(created, rule.abort_incomplete_days, scale), rule.id)
        for rule in rules
        if rule.abort_incomplete_days is not None and rule.enabled and key.startswith(rule.prefix)
    ]
    return min(found, default=None)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a key. *superseded*: when the next newer one came, None for the latest."""

    version: str
    size: int
    tags: Tags
    marker: bool
    modified: float
    superseded: float | None


def doomed_versions(
    rules: Sequence[Rule], key: str, versions: Sequence[Version], now: float, scale: float = 1.0
) -> list[str]:
    """Noncurrent versions that are due, and a delete marker with nothing left under it. *versions*: newest first."""
    gone: list[str] = []
    for index, item in enumerate(versions):
        if item.superseded is None:
            continue
        newer = index - 1  # noncurrent versions above this one; the first is the current
        for rule in rules:
            if (
                rule.noncurrent_days is not None
                and rule.covers(key, item.size, item.tags)
                and newer >= rule.noncurrent_kept
                and due(item.superseded, rule.noncurrent_days, scale) <= now
            ):
                gone.append(item.version)
                break
    left = [item for item in versions if item.version not in gone]
    if len(left) == 1 and left[0].marker and left[0].superseded is None:
        marker = left[0]
        for rule in rules:
            if not rule.covers(key, 0, ()):
                continue
            aged = rule.expire_days is not None and due(marker.modified, rule.expire_days, scale) <= now
            dated = rule.expire_at is not None and rule.expire_at <= now
            if rule.expired_markers or aged or dated:
                gone.append(marker.version)
                break
    return gone


def parse(root: Node) -> tuple[Rule, ...]:
    """Rules of a <LifecycleConfiguration>. Raises MalformedXML, InvalidArgument, InvalidRequest, NotImplemented."""
    root.only("Rule")
    rules = tuple(_rule(node) for node in root.children)
    if not 1 <= len(rules) <= RULES_MAX:
        raise S3Error("MalformedXML")
    ids = [rule.id for rule in rules]
    for rule_id in ids:
        if ids.count(rule_id) > 1:
            raise invalid_argument("Rule ID must be unique. Found same ID for more than one rule", "ID", rule_id)
    return rules


def _rule(node: Node) -> Rule:
    for name in ("Transition", "NoncurrentVersionTransition"):
        if node.all(name):
            raise not_implemented(message=f"{name} is not implemented")
    node.only(
        *("ID", "Status", "Prefix", "Filter", "Expiration"),
        *("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"),
    )
    rule_id = node.get("ID") or secrets.token_hex(16)
    if len(rule_id) > ID_CHARS_MAX:
        raise invalid_argument("ID length should not exceed allowed limit of 255", "ID", rule_id)
    status, prefix = node.get("Status"), node.get("Prefix")
    filters = node.all("Filter")
    if status not in ("Enabled", "Disabled") or (prefix is None) == (not filters) or len(filters) > 1:
        raise S3Error("MalformedXML")
    wanted = _filter(filters[0]) if filters else {"prefix": prefix, "old_style": True}
    actions: dict[str, Any] = {}
    for child in node.all("Expiration"):
        actions |= _expiration(child)
    for child in node.all("NoncurrentVersionExpiration"):
        child.only("NoncurrentDays", "NewerNoncurrentVersions")
        actions["noncurrent_days"] = _days(child.get("NoncurrentDays"), "NoncurrentVersionExpiration")
        if child.get("NewerNoncurrentVersions") is not None:
            actions["noncurrent_kept"] = _days(child.get("NewerNoncurrentVersions"), "NewerNoncurrentVersions")
    for child in node.all("AbortIncompleteMultipartUpload"):
        child.only("DaysAfterInitiation")
        actions["abort_incomplete_days"] = _days(child.get("DaysAfterInitiation"), "AbortIncompleteMultipartUpload")
    if not actions:
        raise invalid_request("At least one action needs to be specified in a rule")
    for name, field_name in (
        ("AbortIncompleteMultipartUpload", "abort_incomplete_days"),
        ("ExpiredObjectDeleteMarker", "expired_markers"),
    ):
        if actions.get(field_name) and wanted.get("tags"):
            raise invalid_request(f"{name} cannot be specified with Tags.")
    return Rule(id=rule_id, enabled=status == "Enabled", **wanted, **actions)


def _filter(node: Node) -> dict[str, Any]:
    if not node.children:
        return {}
    conjunction = node.all("And")
    inner = conjunction[0] if conjunction else node
    if (conjunction and len(node.children) > 1) or (not conjunction and len(node.children) > 1):
        raise S3Error("MalformedXML")
    inner.only("Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan")
    found: dict[str, Any] = {"prefix": inner.get("Prefix") or ""}
    found["tags"] = tuple((tag.get("Key") or "", tag.get("Value") or "") for tag in inner.all("Tag"))
    for name, field_name in (("ObjectSizeGreaterThan", "larger_than"), ("ObjectSizeLessThan", "smaller_than")):
        text = inner.get(name)
        if text is not None:
            if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
                raise S3Error("MalformedXML")
            found[field_name] = int(text)
    return found


def _expiration(node: Node) -> dict[str, Any]:
    node.only("Days", "Date", "ExpiredObjectDeleteMarker")
    if len(node.children) != 1:
        raise S3Error("MalformedXML")
    if (days := node.get("Days")) is not None:
        return {"expire_days": _days(days, "Expiration")}
    if (date := node.get("Date")) is not None:
        return {"expire_at": _midnight(date)}
    flag = node.get("ExpiredObjectDeleteMarker")
    if flag not in ("true", "false"):
        raise S3Error("MalformedXML")
    return {"expired_markers": flag == "true"}


def _days(text: str | None, action: str) -> int:
    if text is None or not re.fullmatch(r"-?\d{1,10}", text, re.ASCII):
        raise S3Error("MalformedXML")
    if not 1 <= int(text) <= DAYS_MAX:
        raise invalid_argument(f"'Days' for {action} action must be a positive integer", "Days", text)
    return int(text)


def _midnight(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise S3Error("MalformedXML") from None
    seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    if seconds % DAY_SECONDS:
        raise invalid_argument("'Date' must be at midnight GMT", "Date", text)
    return seconds


def document_parts(rules: Sequence[Rule]) -> list[str]:
    """The rules as S3 gives them back."""
    return [f"<Rule>{''.join(_parts_of(rule))}</Rule>" for rule in rules]


def _parts_of(rule: Rule) -> list[str]:
    parts = []
    if rule.expire_days is not None:
        parts.append(f"<Expiration>{element('Days', rule.expire_days)}</Expiration>")
    elif rule.expire_at is not None:
        text = datetime.fromtimestamp(rule.expire_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        parts.append(f"<Expiration>{element('Date', text)}</Expiration>")
    elif rule.expired_markers:
        parts.append(f"<Expiration>{element('ExpiredObjectDeleteMarker', True)}</Expiration>")
    parts.append(element("ID", rule.id))
    if rule.old_style:
        parts.append(element("Prefix", rule.prefix))
    else:
        parts.append(f"<Filter>{_filter_of(rule)}</Filter>")
    parts.append(element("Status", "Enabled" if rule.enabled else "Disabled"))
    if rule.noncurrent_days is not None:
        kept = element("NewerNoncurrentVersions", rule.noncurrent_kept or None)
        inner = element("NoncurrentDays", rule.noncurrent_days) + kept
        parts.append(f"<NoncurrentVersionExpiration>{inner}</NoncurrentVersionExpiration>")
    if rule.abort_incomplete_days is not None:
        inner = element("DaysAfterInitiation", rule.abort_incomplete_days)
        parts.append(f"<AbortIncompleteMultipartUpload>{inner}</AbortIncompleteMultipartUpload>")
    return parts


def _filter_of(rule: Rule) -> str:
    inner = [f"<Tag>{element('Key', key)}{element('Value', value)}</Tag>" for key, value in rule.tags]
    inner += [element("ObjectSizeGreaterThan", rule.larger_than)] if rule.larger_than is not None else []
    inner += [element("ObjectSizeLessThan", rule.smaller_than)] if rule.smaller_than is not None else []
    if rule.prefix or not inner:
        inner.insert(0, element("Prefix", rule.prefix))
    return inner[0] if len(inner) == 1 else f"<And>{''.join(inner)}</And>"
