"""JSON texts and what RFC 8259 says of them: ours, made rule by rule of its grammar.

``y_``: must be taken. ``n_``: must be refused; the mark stands where the text can be no JSON any more. ``i_``: the RFC
leaves it open; what heavylift does is written down, and stays. A name says the production and what is done to it.
"""

from __future__ import annotations

from typing import Final

# Stands before the first character that is wrong: of a number or word that begins well where it turns wrong, of an
# escape its backslash, of a comma too many that comma; at the end something is missing.
MARK: Final = "‸"

_VALUES: Final = {
    "object_empty": "{}",
    "array_empty": "[]",
    "true": "true",
    "false": "false",
    "null": "null",
    "string_empty": '""',
    "zero": "0",
}
_NUMBERS: Final = (
    *("0", "-0", "7", "-7", "10", "1.0", "-1.5", "0.1", "1e5", "1E5", "1e+5", "1e-5", "-0.0e-0", "1.25E+02"),
    *("9007199254740993", "18446744073709551615", "-9223372036854775808", "1e308", "5e-324"),
)
_NOT_NUMBERS: Final = {
    "plus": "‸+1",
    "dot_first": "‸.5",
    "dot_last": "1.‸",
    "dot_then_letter": "1.‸a",
    "minus_alone": "-‸",
    "minus_letter": "-‸a",
    "minus_minus": "-‸-1",
    "leading_zero": "‸01",
    "minus_leading_zero": "-‸01",
    "exponent_empty": "1e‸",
    "exponent_sign_alone": "1e+‸",
    "exponent_letter": "1e‸x",
    "exponent_dot": "1e5‸.2",
    "hexadecimal": "0‸x10",
    "underscore": "1‸_000",
    "comma_decimal": "1‸,5",
    "blank_inside": "1 ‸000",
    "infinity": "‸Infinity",
    "minus_infinity": "-‸Infinity",
    "nan": "‸NaN",
    "fullwidth_digit": "‸１",
    "arabic_digit": "‸١",
}
_ESCAPES: Final = {'\\"': '"', "\\\\": "\\", "\\/": "/", "\\b": "\b", "\\f": "\f", "\\n": "\n", "\\r": "\r",
                   "\\t": "\t",
                   "\\u0041": "A", "\\u00e9": "é", "\\u20AC": "€", "\\ud83d\\ude00": "😀", "\\u0000": "\0"}  # fmt: skip
_BLANKS: Final = {"space": " ", "tab": "\t", "lf": "\n", "cr": "\r", "all": " \t\n\r"}
_NOT_BLANKS: Final = {"nbsp": "\u00a0", "form_feed": "\f", "vertical_tab": "\v", "line_separator": "\u2028",
                      "ideographic": "\u3000", "zero_width": "\u200b", "mark": "\ufeff"}  # fmt: skip
_BROKEN_STRINGS: Final = {
    "open": '"abc‸',
    "open_after_escape": '"abc\\‸',
    "escape_unknown": '"‸\\x"',
    "escape_capital": '"‸\\U0041"',
    "escape_zero": '"‸\\0"',
    "escape_quote_single": '"‸\\\'"',
    "u_short": '"‸\\u00"',
    "u_letter": '"‸\\u00g0"',
    "quote_single": "‸'abc'",
    "quote_typographic": "‸“abc”",
    "no_quotes": "‸abc",
}
_BROKEN_ARRAYS: Final = {
    "open": "[‸",
    "open_after_value": "[1‸",
    "open_after_comma": "[1,‸",
    "comma_only": "[‸,]",
    "comma_first": "[‸,1]",
    "comma_last": "[1‸,]",
    "comma_twice": "[1,‸,2]",
    "no_comma": "[1 ‸2]",
    "colon": "[1‸:2]",
    "closed_by_brace": "[1‸}",
    "closed_twice": "[1]‸]",
    "name_value": '["a"‸: 1]',
}
_BROKEN_OBJECTS: Final = {
    "open": "{‸",
    "open_after_name": '{"a"‸',
    "open_after_colon": '{"a":‸',
    "open_after_value": '{"a":1‸',
    "open_after_comma": '{"a":1,‸',
    "comma_only": "{‸,}",
    "comma_last": '{"a":1‸,}',
    "comma_twice": '{"a":1,‸,"b":2}',
    "no_colon": '{"a" ‸1}',
    "colon_twice": '{"a":‸:1}',
    "equals": '{"a"‸=1}',
    "no_value": '{"a":‸}',
    "name_number": "{‸1:1}",
    "name_bare": "{‸a:1}",
    "name_null": "{‸null:1}",
    "name_single_quotes": "{‸'a':1}",
    "no_comma": '{"a":1 ‸"b":2}',
    "closed_by_bracket": '{"a":1‸]',
    "closed_twice": "{}‸}",
    "value_twice": '{"a":1 ‸2}',
}
_BROKEN_TEXTS: Final = {
    "literal_short": "tru‸",
    "literal_wrong": "‸tree",
    "literal_capital": "‸True",
    "literal_capitals": "‸NULL",
    "literal_long": "true‸r",
    "undefined": "‸undefined",
    "comment_line": "1 ‸// one",
    "comment_block": "‸/* one */ 1",
    "comment_hash": "‸# one",
    "two_values": "1 ‸2",
    "two_arrays": "[]‸[]",
    "value_and_comma": "1‸,",
    "bracket_only": "‸]",
    "brace_only": "‸}",
    "comma_only": "‸,",
    "colon_only": "‸:",
    "backslash": "‸\\",
    "star": "[‸*]",
    "xml": "‸<a/>",
    "semicolon": "1‸;",
}
# Bytes that are no text: the place is that of the first bad byte.
BAD_BYTES: Final = {
    "n_utf8_lone_continuation": (b'["a\x80"]', 3),
    "n_utf8_cut_in_string": (b'["\xe2\x82"]', 2),
    "n_utf8_cut_at_end": (b'["\xe2\x82', 2),
    "n_utf8_overlong_slash": (b'["\xc0\xaf"]', 2),
    "n_utf8_overlong_nul": (b'["\xe0\x80\x80"]', 2),
    "n_utf8_surrogate": (b'["\xed\xa0\x80"]', 2),
    "n_utf8_above_10ffff": (b'["\xf4\x90\x80\x80"]', 2),
    "n_utf8_five_bytes": (b'["\xf8\x88\x80\x80\x80"]', 2),
    "n_utf8_outside_strings": (b"[1,\xff]", 3),
    "n_latin_1": ('["é"]'.encode("latin-1"), 2),
    "n_nul_in_string": (b'["a\0b"]', 3),
    "n_nul_after": (b"[1]\0", 3),
}


_GOES_ON: Final = ("closed_twice", "value_and_comma")  # wrong at the end of a text, right inside another


def _cases() -> tuple[dict[str, str], dict[str, str]]:
    good: dict[str, str] = {}
    bad: dict[str, str] = {}
    for name, text in _VALUES.items():
        good[f"y_value_{name}"] = text
        good[f"y_array_of_{name}"] = f"[{text}]"
        good[f"y_array_of_three_{name}"] = f"[{text},{text} ,{text}]"
        good[f"y_member_{name}"] = f'{{"a":{text}}}'
    for text in _NUMBERS:
        good[f"y_number_{text}"] = text
        good[f"y_number_in_array_{text}"] = f"[{text}, {text}]"
    for written in _ESCAPES:
        good[f"y_string_escape_{written}"] = f'"a{written}z"'
        good[f"y_name_escape_{written}"] = f'{{"{written}": 1}}'
    for name, blank in _BLANKS.items():
        good[f"y_blank_{name}"] = blank.join(
            ["", "{", '"a"', ":", "[", "1", ",", "2", "]", ",", '"b"', ":", "null", "}", ""]
        )
    for code in (
        0x20,
        0x7F,
        0x80,
        0xA0,
        0x7FF,
        0x800,
        0x2028,
        0xD7FF,
        0xE000,
        0xFEFF,
        0xFFFD,
        0xFFFE,
        0xFFFF,
        0x10000,
        0x10FFFF,
    ):
        good[f"y_string_character_{code:x}"] = f'"{chr(code)}"'
    good["y_name_empty"] = '{"": 0}'
    good["y_names_many"] = "{" + ",".join(f'"k{n}":{n}' for n in range(200)) + "}"
    good["y_nested_mixed"] = '{"a":[{"b":[[],{},[{"c":null}]]}],"d":{}}'
    good["y_nested_500"] = "[" * 500 + "]" * 500
    for name, text in _NOT_NUMBERS.items():
        bad[f"n_number_{name}"] = text
        closing = "" if text.endswith(MARK) else "]"
        if name not in ("comma_decimal",):
            bad[f"n_number_in_array_{name}"] = f"[{text}{closing or ']'}"
    for code in (*range(1, 10), *range(11, 0x20)):
        bad[f"n_string_raw_control_{code:02x}"] = f'"a{MARK}{chr(code)}b"'
    for name, blank in _NOT_BLANKS.items():
        bad[f"n_blank_{name}"] = f"[1,{MARK}{blank}2]"
    for group, cases in (
        ("string", _BROKEN_STRINGS),
        ("array", _BROKEN_ARRAYS),
        ("object", _BROKEN_OBJECTS),
        ("text", _BROKEN_TEXTS),
    ):
        for name, text in cases.items():
            bad[f"n_{group}_{name}"] = text
            if name not in _GOES_ON:
                bad[f"n_{group}_{name}_deeper"] = f'{{"é": [{{"x": {text}'
    return good, bad


GOOD, BAD = _cases()
# What the RFC leaves to the reader: (text, taken, code of the refusal).
OPEN: Final[dict[str, tuple[bytes, str | None]]] = {
    "i_number_beyond_64_bits": (b"[123456789012345678901234567890]", None),
    "i_number_of_309_digits": (b"[" + b"1" * 309 + b"]", None),
    "i_number_of_400_digits": (b"[" + b"1" * 400 + b"]", "number-out-of-range"),
    "i_number_overflow": (b"[1e400]", "number-out-of-range"),
    "i_number_minus_overflow": (b"[-1e400]", "number-out-of-range"),
    "i_number_underflow": (b"[1e-400]", None),
    "i_number_many_decimals": (b"[0." + b"1" * 1_000 + b"]", None),
    "i_string_lone_high_surrogate": (b'["\\ud800"]', "invalid-json"),
    "i_string_lone_low_surrogate": (b'["\\udc00"]', "invalid-json"),
    "i_string_surrogates_turned": (b'["\\ude00\\ud83d"]', "invalid-json"),
    "i_string_high_then_letter": (b'["\\ud800a"]', "invalid-json"),
    "i_string_noncharacter": ('["\uffff"]'.encode(), None),
    "i_string_escaped_nul": (b'["\\u0000"]', None),
    "i_object_same_name_twice": (b'{"a":1,"a":2}', None),
    "i_nested_1024": (b"[" * 1_024 + b"]" * 1_024, None),
    "i_nested_1025": (b"[" * 1_025 + b"]" * 1_025, "nesting-too-deep"),
    "i_nested_objects_1024": (b'{"a":' * 1_024 + b"1" + b"}" * 1_024, None),
    "i_nested_objects_1025": (b'{"a":' * 1_025 + b"1" + b"}" * 1_025, "nesting-too-deep"),
    "i_nested_200000": (b"[" * 200_000, "nesting-too-deep"),
    "i_byte_order_mark_first": (b"\xef\xbb\xbf[1]", None),
}
