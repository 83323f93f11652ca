"""A deployer's choices are checked before anything is built, and each sentence names its key."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.app import ROOT, empty, find_layers, read_context
from infra.config import KEYS, LOG_RETENTION_DAYS, PREFIX, Config, ConfigError, read_config


def told(**values: object) -> dict[str, object]:
    return {f"{PREFIX}{key}": value for key, value in values.items()}


def test_cdk_json_is_a_configuration() -> None:
    """The committed context reads, holds every key, and says that its addresses are placeholders."""
    context = read_context(ROOT / "cdk.json")
    config = read_config({key: value for key, value in context.items() if key.startswith(PREFIX)})

    assert config == Config()
    assert {key for key in context if key.startswith(PREFIX)} == {f"{PREFIX}{key}" for key in KEYS}
    assert config.placeholders() == ("jwtIssuer", "origins")


def test_strong_references_are_chosen() -> None:
    """The library's recommended flag would let a stack go that another one uses."""
    assert read_context(ROOT / "cdk.json")["@aws-cdk/core:defaultCrossStackReferences"] == "strong"


def test_the_command_lines_texts_read_like_lists() -> None:
    """``cdk -c`` gives texts only: commas part a list, settings are JSON, numbers are digits."""
    text = read_config(
        told(
            jwtAudience="a, b",
            origins="https://a.example,https://b.example:8443",
            logRetentionDays="30",
            settings='{"LOG_LEVEL": "DEBUG", "ENABLE_TIFF_CHUNKING": false}',
        )
    )

    assert text.jwt_audience == ("a", "b")
    assert text.origins == ("https://a.example", "https://b.example:8443")
    assert text.log_retention_days == 30
    assert text.settings == {"ENABLE_TIFF_CHUNKING": "false", "LOG_LEVEL": "DEBUG"}
    assert read_config(told(origins="")).origins == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("deployment", "Upper"),
        ("deployment", "x" * 33),
        ("deployment", "a-"),
        ("jwtIssuer", "http://issuer.example/"),
        ("jwtIssuer", "https://"),
        ("jwtAudience", []),
        ("jwtAudience", [1]),
        ("origins", ["*"]),
        ("origins", ["https://*.example"]),
        ("origins", ["https://a.example/"]),
        ("origins", ["https://a.example/path"]),
        ("origins", ["http://a.example"]),
        ("origins", ["https://user@a.example"]),
        ("origins", 5),
        ("logRetentionDays", 8),
        ("logRetentionDays", "forever"),
        ("settings", "no json"),
        ("settings", ["LOG_LEVEL"]),
        ("settings", {"NO_SUCH_SETTING": "1"}),
        ("settings", {"STAGING_BUCKET": "mine"}),
        ("settings", {"SESSION_DAYS": 8}),
        ("settings", {"MALWARE_SCAN": "on"}),
        ("settings", {"DEFAULT_RULES": "no json"}),
        ("settings", {"DEFAULT_RULES": '{"orders": []}'}),
        ("settings", {"DEFAULT_RULES": '{"orders": {"min_recrods": 1}}'}),
        ("settings", {"DEFAULT_RULES": '{"*": {"encoding": "' + "x" * 2_500 + '"}}'}),
        ("settings", {"SESSION_DAYS": "soon"}),
        ("settings", {"QUARANTINE_DAYS": "15"}),
        ("settings", {"ARCHIVE_DAYS": "8"}),
        ("settings", {"SESSION_DAYS": "nan"}),
        ("settings", {"SIGNATURE_TTL_SECONDS": 604_801}),
        ("nonsense", "1"),
    ],
)
def test_what_cannot_be_is_refused_by_name(key: str, value: object) -> None:
    """A ConfigError whose sentence holds the key."""
    with pytest.raises(ConfigError, match=f"{PREFIX}{key}"):
        read_config(told(**{key: value}))


def test_what_the_lifecycle_keeps_may_be_set() -> None:
    """Sessions and quarantine up to the bucket's own days."""
    config = read_config(told(settings={"SESSION_DAYS": 7, "QUARANTINE_DAYS": 14}))
    assert config.settings == {"QUARANTINE_DAYS": "14", "SESSION_DAYS": "7"}


def test_a_development_page_may_be_an_origin() -> None:
    """Plain HTTP from this machine only."""
    assert read_config(told(origins=["http://localhost:5173"])).origins == ("http://localhost:5173",)


@given(
    st.dictionaries(
        st.sampled_from([f"{PREFIX}{key}" for key in KEYS]), st.text() | st.integers() | st.lists(st.text())
    )
)
def test_any_context_is_read_or_refused(context: dict[str, object]) -> None:
    """Never another exception, and what is read names no wildcard origin."""
    with suppress(ConfigError):
        config = read_config(context)
        assert all("*" not in origin for origin in config.origins)
        assert config.log_retention_days in LOG_RETENTION_DAYS


def test_retention_days_have_their_names() -> None:
    """Every number of days that a deployer may write is one that the construct can write."""
    from infra import topology  # the construct's module would start Node: read it as text

    source = (ROOT / "infra" / "constructs" / "handler.py").read_text()
    assert all(f"{days}: " in source for days in LOG_RETENTION_DAYS)
    assert topology.RUNTIME in (ROOT / "infra" / "constructs" / "layers.py").read_text()


def test_layers_are_found_or_stubbed(tmp_path: Path) -> None:
    """A built layer is its folder; the others are a note, and are named."""
    layers, stubs = tmp_path / "layers", tmp_path / "stubs"
    for name in ("heavylift", "base"):
        (layers / name / "python").mkdir(parents=True)

    found, missing = find_layers(layers, stubs)

    assert found["base"] == layers / "base"
    assert found["heavylift"] == layers / "heavylift"
    assert missing == ("detect", "image", "tables")
    assert [one.name for one in found["image"].iterdir()] == ["NOT_BUILT.txt"]


def test_only_a_cloud_assembly_is_emptied(tmp_path: Path) -> None:
    """A folder that holds something else stays as it is."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder, name in ((mine, "cdk.out"), (theirs, "thesis.tex")):
        folder.mkdir()
        (folder / name).write_text("x")
    empty(mine)
    empty(tmp_path / "absent")
    with pytest.raises(ConfigError, match="not emptied"):
        empty(theirs)

    assert not mine.exists()
    assert (theirs / "thesis.tex").exists()
