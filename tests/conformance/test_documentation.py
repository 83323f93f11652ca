"""docs/local-stack.md says what the tables in code say."""

from __future__ import annotations

from tests.conformance.differences import DOCUMENT, LOCALSTACK, rendered


def test_the_document_is_up_to_date() -> None:
    """`python -m tests.conformance.differences` would change nothing."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert rendered(text) == text, "run: python -m tests.conformance.differences"


def test_every_known_difference_is_a_case() -> None:
    """A row whose test was renamed or removed would excuse nothing and hide that."""
    import tests.conformance.test_boto3 as boto3_cases
    import tests.conformance.test_raw as raw_cases
    import tests.conformance.test_recorded as recorded_cases

    modules = {"test_boto3": boto3_cases, "test_raw": raw_cases, "test_recorded": recorded_cases}
    for case in LOCALSTACK:
        module, _, name = case.partition("::")
        assert hasattr(modules[module], name.partition("[")[0]), case
