"""Whether a JSON text of any length is one, and if not, at which byte. No I/O here.

A scanner is fed pieces of any size and holds less than one piece and a stack of at most JSON_DEPTH bytes; its state
between pieces is plain JSON. The language is RFC 8259 as orjson reads it: finite numbers only, no lone surrogate
escapes, at most JSON_DEPTH levels. Errors lie where orjson puts them. UTF-8 is judged by whoever feeds it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from heavylift.tables.bounds import JSON_DEPTH, JSON_NUMBER_BYTES

_WS: Final = rb"[ \t\n\r]*+"
_PLAIN: Final = rb'[^"\\\x00-\x1f]*+'
_HEX: Final = rb"[0-9a-fA-F]"
# A high surrogate needs its low one (RFC 8259, 8.2: what lone ones mean is unpredictable).
_ESCAPE: Final = (
    rb'\\(?:["\\/bfnrt]|u(?:[0-9a-ce-fA-CE-F]'
    + _HEX
    + rb"{3}|[dD][0-7]"
    + _HEX
    + rb"{2}|[dD][89abAB]"
    + _HEX
    + rb"{2}\\u[dD][c-fC-F]"
    + _HEX
    + rb"{2}))"
)
_INSIDE: Final = _PLAIN + rb"(?:" + _ESCAPE + _PLAIN + rb")*+"
_STRING: Final = rb'"' + _INSIDE + rb'"'
# Numbers that are finite for certain; others are looked at one by one.
_SAFE_NUMBER: Final = rb"-?(?:0|[1-9][0-9]{0,99}+)(?:\.[0-9]{1,99}+)?+(?:[eE][+-]?[0-9]{1,2}+)?+"
_SCALAR: Final = rb"(?:" + _STRING + rb"|" + _SAFE_NUMBER + rb"|true|false|null)"


def _nested(value: bytes) -> bytes:
    """The pattern of ``value``, or of an array or object of such values; nothing is tried twice."""
    element = _WS + value + _WS
    member = _WS + _STRING + _WS + rb":" + element
    array = rb"\[(?:" + _WS + rb"\]|" + element + rb"(?:," + element + rb")*+\])"
    members = rb"\{(?:" + _WS + rb"\}|" + member + rb"(?:," + member + rb")*+\})"
    return rb"(?>" + value + rb"|" + array + rb"|" + members + rb")"


# Values of up to three levels at once: what is deeper, or not whole, is read token by token.
_DEEP: Final = 3


@cache
def _patterns() -> tuple[re.Pattern[bytes], re.Pattern[bytes], re.Pattern[bytes]]:
    """(many elements of an array, one element, many members of an object), each with its comma; made where they are
    wanted, for they need 5 MB."""
    value = _nested(_nested(_nested(_SCALAR)))
    element = _WS + value + _WS + rb","
    many_members = rb"(?:" + _WS + _STRING + _WS + rb":" + element + rb")*+"
    return re.compile(rb"(?:" + element + rb")*+"), re.compile(element), re.compile(many_members)


_BLANKS: Final = re.compile(_WS)
_STRING_PART: Final = re.compile(_INSIDE)
_NUMBER: Final = re.compile(rb"(-?)(?:(0)|[1-9][0-9]*+)?(\.[0-9]*+)?+(?:[eE][+-]?+[0-9]*+)?+")
_LITERALS: Final = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_ESCAPE_BYTES: Final = 12  # \ud83d\ude00
_LONGEST_LITERAL: Final = 5

VALUE, FIRST_VALUE, NAME, FIRST_NAME, COLON, NEXT, IN_NAME, IN_STRING = (
    "value",
    "first value",
    "name",
    "first name",
    "colon",
    "next",
    "in name",
    "in string",
)


@dataclass(frozen=True, slots=True)
class Break:
    """Where a text stops being JSON: bytes from its beginning, a code of the report, and words."""

    at: int
    code: str
    message: str


class Scanner:
    """``feed`` pieces, then ``end``; both answer a Break or None. ``elements``: values in an outermost array."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self._stack = bytearray(state.get("stack", "").encode())
        self._want: str = state.get("want", VALUE)
        self._rest = bytes.fromhex(state.get("rest", ""))
        self._base: int = state.get("base", 0)
        self._comma: int = state.get("comma", -1)
        self.elements: int = state.get("elements", 0)
        self.outermost: str = state.get("outermost", "")
        self._broken: Break | None = None

    def state(self) -> dict[str, Any]:
        """Plain JSON, of at most JSON_DEPTH bytes and one token."""
        return {
            "stack": self._stack.decode(),
            "want": self._want,
            "rest": self._rest.hex(),
            "base": self._base,
            "comma": self._comma,
            "elements": self.elements,
            "outermost": self.outermost,
        }

    @property
    def pending(self) -> tuple[int, ...]:
        """Bytes behind at which a Break may still lie: the last comma, the beginning of an unfinished token."""
        places = [self._comma] if self._want in (VALUE, NAME) and self._comma >= 0 else []
        if self._rest:
            places.append(self._base)
        return tuple(places)

    def waiting(self, at: int) -> bytes:
        """The byte ``at``, if it waits for more; else nothing."""
        return self._rest[at - self._base : at - self._base + 1] if at >= self._base else b""

    def unfinished(self, at: int) -> bytes:
        """The bytes of the token that waits for more, if it begins at ``at``."""
        return self._rest if at == self._base else b""

    def feed(self, data: bytes) -> Break | None:
        if self._broken is None:
            self._broken = self._scan(self._rest + data if self._rest else data, False)
        return self._broken

    def end(self) -> Break | None:
        if self._broken is None:
            rest = self._rest
            self._broken = self._scan(rest, True)
            if self._broken is None and (self._want != NEXT or self._stack):
                empty = self._want == VALUE and not self._stack
                words = "The text is empty." if empty else "The text ends in the middle of a value."
                self._broken = Break(self._base, "invalid-json", words)
        return self._broken

    def _scan(self, buf: bytes, final: bool) -> Break | None:
        """Take what is whole in ``buf``; the rest waits for more."""
        at, size = 0, len(buf)
        stack = self._stack
        many_elements, _, many_members = _patterns()
        while True:
            if self._want in (IN_NAME, IN_STRING):
                at = _matched(_STRING_PART, buf, at)
                if at >= size:
                    break
                byte = buf[at]
                if byte == 0x22:
                    at += 1
                    self._want = COLON if self._want == IN_NAME else NEXT
                elif byte == 0x5C:
                    if not final and size - at < _ESCAPE_BYTES:
                        break
                    return self._escape(buf, at)
                else:
                    return self._at(at, "A control character stands in a string; it must be escaped.")
                continue
            at = _matched(_BLANKS, buf, at)
            if at >= size:
                break
            shallow = len(stack) <= JSON_DEPTH - _DEEP
            if self._want == VALUE and shallow and stack and stack[-1] == 0x5B:
                run = self._elements(buf, at) if len(stack) == 1 else _matched(many_elements, buf, at)
                if run > at:
                    self._comma, at = self._base + run - 1, run
                    continue
            elif self._want == NAME and shallow:
                run = _matched(many_members, buf, at)
                if run > at:
                    self._comma, at = self._base + run - 1, run
                    continue
            byte = buf[at]
            if self._want in (VALUE, FIRST_VALUE):
                if byte == 0x5D and self._want == FIRST_VALUE:
                    stack.pop()
                    self._want = NEXT
                    at += 1
                    continue
                if byte == 0x5D and stack and stack[-1] == 0x5B:
                    return Break(self._comma, "invalid-json", "A comma stands before the end of an array.")
                if byte in b"-0123456789" or byte in _LITERALS:
                    token = _NUMBER.match(buf, at) if byte not in _LITERALS else None
                    end = token.end() if token else at + len(_LITERALS[byte])
                    if not final and (end >= size or (token is not None and end + 1 >= size)):
                        if size - at > JSON_NUMBER_BYTES:
                            return self._at(at, f"A number of more than {JSON_NUMBER_BYTES} bytes.")
                        break
                wrong, end = self._value(buf, at)
                if wrong:
                    return wrong
                at = end
            elif self._want in (NAME, FIRST_NAME):
                if byte == 0x22:
                    self._want = IN_NAME
                    at += 1
                elif byte == 0x7D and self._want == FIRST_NAME:
                    stack.pop()
                    self._want = NEXT
                    at += 1
                elif byte == 0x7D:
                    return Break(self._comma, "invalid-json", "A comma stands before the end of an object.")
                else:
                    return self._at(at, "A member's name in double quotes is wanted.")
            elif self._want == COLON:
                if byte != 0x3A:
                    return self._at(at, "A colon is wanted after a member's name.")
                self._want = VALUE
                at += 1
            else:
                if not stack:
                    return self._at(at, "Something follows the value.")
                inside = stack[-1]
                if byte == 0x2C:
                    self._comma = self._base + at
                    self._want = VALUE if inside == 0x5B else NAME
                elif byte == (0x5D if inside == 0x5B else 0x7D):
                    stack.pop()
                else:
                    closer = "]" if inside == 0x5B else "}"
                    return self._at(at, f"A comma or {closer} is wanted.")
                at += 1
        self._rest = buf[at:]
        self._base += at
        return None

    def _elements(self, buf: bytes, at: int) -> int:
        """The end of the elements of the outermost array that are whole and followed by a comma; they are counted."""
        match = _patterns()[1].match
        while found := match(buf, at):
            self.elements += 1
            at = found.end()
        return at

    def _value(self, buf: bytes, at: int) -> tuple[Break | None, int]:
        """One value's beginning: scalars whole, arrays, objects and strings up to their first byte."""
        byte = buf[at]
        if not self._stack and not self.outermost:
            self.outermost = {0x7B: "object", 0x5B: "array", 0x22: "string"}.get(byte, "scalar")
        if len(self._stack) == 1 and self._stack[0] == 0x5B:
            self.elements += 1
        if byte in (0x5B, 0x7B):
            if len(self._stack) >= JSON_DEPTH:
                broken = Break(self._base + at, "nesting-too-deep", f"More than {JSON_DEPTH} levels of nesting.")
                return broken, at
            self._stack.append(byte)
            self._want = FIRST_VALUE if byte == 0x5B else FIRST_NAME
            return None, at + 1
        if byte == 0x22:
            self._want = IN_STRING
            return None, at + 1
        literal = _LITERALS.get(byte)
        if literal is not None:
            if buf.startswith(literal, at):
                self._want = NEXT
                return None, at + len(literal)
            rest = buf[at : at + len(literal)]
            if len(rest) < len(literal) and literal.startswith(rest):
                return self._at(len(buf), "The text ends in the middle of a value."), at
            return self._at(at, f"{literal.decode()} is wanted here."), at
        if byte in b"-0123456789":
            wrong, end = self._number(buf, at)
            self._want = NEXT
            return wrong, end
        return self._at(at, "A value is wanted here."), at

    def _number(self, buf: bytes, at: int) -> tuple[Break | None, int]:
        match = _NUMBER.match(buf, at)
        end = match.end() if match else at
        text = buf[at:end]
        after_sign = at + 1 if text[:1] == b"-" else at
        if not buf[after_sign : after_sign + 1].isdigit():
            return self._short(buf, after_sign, "A digit is wanted after the sign."), at
        if buf[after_sign] == 0x30 and buf[after_sign + 1 : after_sign + 2].isdigit():
            return self._at(after_sign, "A number does not begin with a zero."), at
        point = text.find(b".")
        if point >= 0 and not text[point + 1 : point + 2].isdigit():
            return self._short(buf, at + point + 1, "A digit is wanted after the decimal point."), at
        if not text[-1:].isdigit():
            return self._short(buf, end, "A digit is wanted here."), at
        if len(text) > 99 and not math.isfinite(float(text)):
            return Break(self._base + at, "number-out-of-range", "No finite double holds this number."), at
        if len(text) <= 99 and b"e" in text.lower() and not math.isfinite(float(text)):
            return Break(self._base + at, "number-out-of-range", "No finite double holds this number."), at
        return None, end

    def _short(self, buf: bytes, at: int, words: str) -> Break:
        return self._at(at, "The text ends in the middle of a value." if at >= len(buf) else words)

    def _escape(self, buf: bytes, at: int) -> Break:
        """What is wrong with the escape at ``at``, which no rule took."""
        if at + 1 == len(buf):
            return self._at(at + 1, "The text ends in the middle of a value.")
        code = buf[at + 1 : at + 6]
        if re.fullmatch(rb"u[dD][89a-fA-F][0-9a-fA-F]{2}", code):
            return self._at(at, "An escaped surrogate without its other half.")
        return self._at(at, "There is no such escape in a string.")

    def _at(self, at: int, message: str) -> Break:
        return Break(self._base + at, "invalid-json", message)


def _matched(pattern: re.Pattern[bytes], buf: bytes, at: int) -> int:
    found = pattern.match(buf, at)
    return found.end() if found else at


def scan(data: bytes) -> Break | None:
    """The Break of a whole text, or None."""
    scanner = Scanner()
    return scanner.feed(data) or scanner.end()


_TOKEN: Final = re.compile(rb'"' + _INSIDE + rb'"|[{}\[\]:,]')


def duplicate_members(data: bytes | bytearray) -> list[tuple[int, str]]:
    """(byte offset of the name, name) of each member whose name its object has already. ``data`` is valid JSON.

    Names are equal when their texts without escapes are (RFC 8259, 8.3).
    """
    import orjson

    found: list[tuple[int, str]] = []
    stack: list[set[str] | None] = []
    last: tuple[int, int] | None = None
    for match in _TOKEN.finditer(data):
        start, end = match.span()
        byte = data[start]
        if byte == 0x7B:
            stack.append(set())
        elif byte == 0x5B:
            stack.append(None)
        elif byte in (0x7D, 0x5D):
            stack.pop()
        elif byte == 0x3A and last is not None:
            names = stack[-1]
            name = orjson.loads(data[last[0] : last[1]])
            if names is not None:
                if name in names:
                    found.append((last[0], name))
                names.add(name)
        last = (start, end) if byte == 0x22 else None
    return found
