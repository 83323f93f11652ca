"""POST policies: the document a form's signature covers, and whether a form is what it allows. No I/O here.

"Creating an HTML form (using AWS Signature Version 4)" and "POST policy" of the Amazon S3 API reference; codes and
sentences as recorded from S3. Names are compared in any case, values exactly; a field that no condition speaks of is
refused.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from heavylift_local.s3.errors import S3Error

# Fields that need no condition, besides those that start with x-ignore-.
FREE = frozenset({"x-amz-signature", "file", "policy"})
SIZE_MAX = 2**63 - 1
_NUMBER = re.compile(r"^-?\d{1,19}$", re.ASCII)
_EXPIRATION = re.compile(r"^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(\.\d{1,9})?Z$")


@dataclass(frozen=True, slots=True)
class Condition:
    """*operator*: eq or starts-with; *name* in lower case without `$`."""

    operator: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Policy:
    expires: float  # seconds since 1970
    conditions: tuple[Condition, ...]
    size_min: int = 0
    size_max: int = SIZE_MAX


def _invalid(message: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {message}")


def parse(text: str) -> Policy:
    """The policy of its base64 form field. Raises InvalidPolicyDocument (400)."""
    try:
        raw = json.loads(base64.b64decode(text, validate=False).decode("utf-8"))
    except (binascii.Error, ValueError, RecursionError):
        raise _invalid("Invalid JSON.") from None
    if not isinstance(raw, dict):
        raise _invalid("Invalid JSON.")
    unknown = set(raw) - {"expiration", "conditions"}
    if unknown:
        raise _invalid(f"Unexpected: '{min(unknown).lower()}'")
    if "expiration" not in raw:
        raise _invalid("Policy missing expiration.")
    if not isinstance(raw.get("conditions"), list):
        raise _invalid("Policy missing conditions.")
    found: list[Condition] = []
    low, high = 0, SIZE_MAX
    for item in raw["conditions"]:
        if isinstance(item, dict):
            found.append(_simple(item))
        elif isinstance(item, list) and item and isinstance(item[0], str):
            if item[0].lower() == "content-length-range":
                if any(isinstance(end, str) and not _NUMBER.match(end) for end in item[1:]):
                    # Recorded: a word in place of a number is a condition that fails, not a broken policy.
                    found.append(Condition(str(item[0]), "=" + str(item[1]), str(item[-1])))
                    continue
                first, last = _length_range(item)
                low, high = max(low, first), min(high, last)
            else:
                found.append(_match(item))
        else:
            raise _invalid("Invalid Condition.")
    return Policy(_expires(raw["expiration"]), tuple(found), low, high)


def _expires(value: object) -> float:
    found = _EXPIRATION.match(value) if isinstance(value, str) else None
    try:
        if found is None:
            raise ValueError
        return datetime.strptime(found[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise _invalid(f"Invalid 'expiration' value: '{value}'") from None


def _simple(item: Mapping[str, object]) -> Condition:
    if len(item) != 1:
        raise _invalid("Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.")
    name, value = next(iter(item.items()))
    if not isinstance(value, str):
        raise _invalid("Invalid Simple-Condition: value must be a string.")
    return Condition("eq", name.lower(), value)


def _match(item: Sequence[object]) -> Condition:
    operator = str(item[0]).lower()
    if operator not in ("eq", "starts-with"):
        raise _invalid(f"Invalid Condition: unknown operation '{item[0]}'.")
    if len(item) != 3 or not isinstance(item[1], str) or not isinstance(item[2], str):
        raise _invalid(f"Invalid Condition: wrong number of arguments or type in '{item[0]}'.")
    # Without `$` it names no field; S3 lets the form fail then, not the document.
    name = item[1].lower()
    return Condition(operator, name[1:] if name.startswith("$") else "=" + name, item[2])


def _length_range(item: Sequence[object]) -> tuple[int, int]:
    numbers = []
    for value in item[1:]:
        text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
        if not re.fullmatch(r"\d{1,19}", text, re.ASCII):
            raise _invalid("Invalid content-length-range: both ends must be non-negative integers.")
        numbers.append(int(text))
    if len(numbers) != 2 or numbers[0] > numbers[1]:
        raise _invalid("Invalid content-length-range: wrong number of arguments or an empty range.")
    return numbers[0], numbers[1]


def _denied(message: str) -> S3Error:
    return S3Error("AccessDenied", f"Invalid according to Policy: {message}")


def _holds(condition: Condition, value: str) -> bool:
    if condition.operator == "eq":
        return value == condition.value
    if condition.name == "content-type" and "," in value:  # a list: each of its values must begin so
        return all(part.strip().startswith(condition.value) for part in value.split(","))
    return value.startswith(condition.value)


def check(policy: Policy, fields: Mapping[str, str], now: float) -> None:
    """Whether *policy* allows *fields* (lower-case names, `bucket` among them). Raises AccessDenied (403)."""
    if now > policy.expires:
        raise _denied("Policy expired.")
    for condition in policy.conditions:
        value = fields.get(condition.name)
        # A field that is not there fails even an empty beginning (a capture of S3's answer).
        if value is None or not _holds(condition, value):
            name = condition.name[1:] if condition.name.startswith("=") else f"${condition.name}"
            shown = json.dumps([condition.operator, name, condition.value], ensure_ascii=False)
            raise _denied(f"Policy Condition failed: {shown}")
    covered = {condition.name for condition in policy.conditions}
    extra = [n for n in fields if n not in covered and n not in FREE and not n.startswith("x-ignore-")]
    if extra:
        raise _denied(f"Extra input fields: {', '.join(sorted(extra))}")


class Counted:
    """A source that ends where the policy's range does. Raises EntityTooLarge while it is read, `finish` raises
    EntityTooSmall."""

    def __init__(self, source: object, low: int, high: int) -> None:
        self._source = source
        self._low = low
        self._high = high
        self.size = 0

    def readinto(self, view: memoryview) -> int:
        got: int = self._source.readinto(view)  # type: ignore[attr-defined]
        self.size += got
        if self.size > self._high:
            fields = {"ProposedSize": self.size, "MaxSizeAllowed": self._high}
            raise S3Error("EntityTooLarge", fields=fields)
        return got

    def finish(self) -> None:
        if self.size < self._low:
            raise S3Error("EntityTooSmall", fields={"ProposedSize": self.size, "MinSizeAllowed": self._low})
