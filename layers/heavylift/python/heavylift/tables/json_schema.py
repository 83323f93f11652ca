"""JSON Schema 2020-12 by jsonschema-rs: nothing is fetched, patterns run in linear time. No I/O here."""

from __future__ import annotations

from typing import Any, Final

from heavylift.tables.rules import RulesError

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_SHOWN_MAX: Final = 100


def compile_schema(schema: Any, rule: str = "schema") -> Any:
    """A validator with ``is_valid`` and ``iter_errors``. RulesError: what is wrong with the schema.

    ``offline``: references are resolved inside the schema and to the standard's own only, else a schema could make the
    server read files and addresses. Patterns without look-around and back-references take linear time.
    """
    import jsonschema_rs  # 8 MB that files without a schema need not

    if isinstance(schema, dict) and schema.get("$schema", DIALECT).rstrip("#") != DIALECT:
        raise RulesError(rule, f"$schema {str(schema['$schema'])[:100]!r} is not JSON Schema 2020-12")
    try:
        return jsonschema_rs.Draft202012Validator(
            schema,
            offline=True,
            validate_formats=True,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 20),
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise RulesError(rule, _one_line(error)) from None


def faults(validator: Any, value: Any) -> list[tuple[str, str, str]]:
    """(message, JSON pointer into the value, JSON pointer into the schema) of each fault, in the schema's order."""
    found = []
    for error in validator.iter_errors(value):
        found.append((_one_line(error.message), _pointer(error.instance_path), _pointer(error.schema_path)))
        if len(found) >= _SHOWN_MAX:
            break
    return found


def _pointer(path: Any) -> str:
    """RFC 6901."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:400]
