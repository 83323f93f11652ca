"""A deployer's choices are checked before anything is built, and each sentence names its key."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import topology
from infra.app import ROOT, STAGE, empty, find_layers, layer_names, read_context
from infra.config import (
    DEPLOYMENT_LENGTH_MAX,
    LOG_RETENTION_DAYS,
    STAGES,
    Alarms,
    Api,
    Config,
    ConfigError,
    Existing,
    Identity,
    Page,
    Protection,
    load_stage,
    read_config,
    stages,
)
from infra.model import Bucket

CERTIFICATE = "arn:aws:acm:{}:111122223333:certificate/11111111-2222-3333-4444-555555555555"


def test_cdk_json_names_a_stage() -> None:
    """The command line without a choice makes the default stage; nothing else of ours stands there."""
    context = read_context(ROOT / "cdk.json")

    assert {key for key in context if key.startswith("heavylift:")} == {STAGE}
    assert context[STAGE] == "default"


def test_the_committed_stages_are_configurations() -> None:
    """Each reads; the default has no placeholder and nothing that costs; the other has everything switched on."""
    assert stages() == ["default", "hardened"]
    assert load_stage("default") == Config()
    assert load_stage("default").placeholders() == ()
    hardened = load_stage("hardened")
    assert hardened.placeholders() == ("identity.issuer", "origins", "page.domain", "api.domain")
    assert hardened.protection.kms
    assert hardened.protection.firewall
    assert hardened.protection.backup
    assert hardened.architecture == "x86_64"
    assert hardened.existing.buckets
    assert topology.scanning(hardened.settings)


def test_every_key_is_in_one_of_the_stages_or_the_documentation() -> None:
    """docs/deploying.md names every key that a stage may have."""
    text = (ROOT / "docs" / "deploying.md").read_text()
    sections = {"identity": Identity, "page": Page, "api": Api, "protection": Protection, "existing": Existing}
    keys = {one.name for one in fields(Config)} - set(sections) - {"alarms"}
    keys |= {f"{name}.{one.name}" for name, cls in {**sections, "alarms": Alarms}.items() for one in fields(cls)}

    assert {key for key in keys if f"`{key}`" not in text} == set()


def test_strong_references_are_chosen() -> None:
    """The library's recommended flag would let a stack go that another one uses."""
    assert read_context(ROOT / "cdk.json")["@aws-cdk/core:defaultCrossStackReferences"] == "strong"


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ('deployment = "Upper"', "deployment"),
        (f'deployment = "{"x" * (DEPLOYMENT_LENGTH_MAX + 1)}"', "deployment"),
        ('deployment = "a-"', "deployment"),
        ("deployment = 5", "deployment"),
        ('account = "12"', "account"),
        ('region = "Europe"', "region"),
        ('architecture = "mips"', "architecture"),
        ("log_retention_days = 8", "log_retention_days"),
        ('log_retention_days = "forever"', "log_retention_days"),
        ("tracing = 1", "tracing"),
        ('origins = ["*"]', "origins"),
        ('origins = ["https://*.example"]', "origins"),
        ('origins = ["https://a.example/"]', "origins"),
        ('origins = ["https://a.example/path"]', "origins"),
        ('origins = ["http://a.example"]', "origins"),
        ('origins = ["https://user@a.example"]', "origins"),
        ("origins = 5", "origins"),
        ("origins = [1]", "origins"),
        ('settings = "no table"', "settings"),
        ("[settings]\nNO_SUCH_SETTING = 1", "settings.NO_SUCH_SETTING"),
        ('[settings]\nSTAGING_BUCKET = "mine"', "settings.STAGING_BUCKET"),
        ("[settings]\nSESSION_DAYS = 8", "settings.SESSION_DAYS"),
        ('[settings]\nSESSION_DAYS = "soon"', "settings.SESSION_DAYS"),
        ("[settings]\nSESSION_DAYS = nan", "settings.SESSION_DAYS"),
        ("[settings]\nQUARANTINE_DAYS = 15", "settings.QUARANTINE_DAYS"),
        ("[settings]\nARCHIVE_DAYS = 8", "settings.ARCHIVE_DAYS"),
        ("[settings]\nSIGNATURE_TTL_SECONDS = 604801", "settings.SIGNATURE_TTL_SECONDS"),
        ("[settings]\nSIGNATURE_TTL_SECONDS = 60", "settings.SIGNATURE_TTL_SECONDS"),
        ('[settings]\nMALWARE_SCAN = "on"', "settings.MALWARE_SCAN"),
        ('[settings]\nDEFAULT_RULES = "no json"', "settings.DEFAULT_RULES"),
        ("[settings]\nDEFAULT_RULES = '{\"orders\": []}'", "settings.DEFAULT_RULES"),
        ("[settings]\nDEFAULT_RULES = '{\"orders\": {\"min_recrods\": 1}}'", "settings.DEFAULT_RULES"),
        (f"[settings]\nDEFAULT_RULES = '{{\"*\": {{\"encoding\": \"{'x' * 2_500}\"}}}}'", "settings.DEFAULT_RULES"),
        ('identity = "cognito"', "identity"),
        ('[identity]\nissuer = "http://issuer.example/"', "identity.issuer"),
        ('[identity]\nissuer = "https://"', "identity.issuer"),
        ('[identity]\nissuer = "https://issuer.example/"', "identity.audience"),
        ('[identity]\nissuer = "https://issuer.example/"\naudience = ["a"]', "identity.client_id"),
        ('[identity]\nclient_id = "mine"', "identity.client_id"),
        ('[identity]\nissuers = "x"', "identity.issuers"),
        ('[page]\ndomain = "files.example.com"', "page.domain"),
        (f'[page]\ndomain = "files"\ncertificate = "{CERTIFICATE.format("us-east-1")}"', "page.domain"),
        (f'[page]\ndomain = "a.example.com"\ncertificate = "{CERTIFICATE.format("eu-west-1")}"', "page.certificate"),
        ('[page]\ndomain = "a.example.com"\ncertificate = "mine"', "page.certificate"),
        ((f'[api]\ndomain = "a.example.com"\ncertificate = "{CERTIFICATE.format("eu-west-1")}"\n'
         f'[page]\ndomain = "a.example.com"\ncertificate = "{CERTIFICATE.format("us-east-1")}"'), "api.domain"),
        ("[api]\ncalls_per_second = 0", "api.calls_per_second"),
        ("[api]\ncalls_per_second = 2000", "api.calls_per_second"),
        ("[api]\ncalls_at_once = -1", "api.calls_at_once"),
        ("[protection]\nfirewall = true", "protection.firewall"),
        ("[protection]\nretention_days = 36501", "protection.retention_days"),
        ('[protection]\nretention_days = 1\n[existing]\nbuckets = { store = "mine-own" }', "protection.retention_days"),
        ('[existing]\nbuckets = { attic = "mine-own" }', "existing.buckets.attic"),
        ('[existing]\nbuckets = { store = "No Name" }', "existing.buckets.store"),
        ('[existing]\nbuckets = { store = "mine-own", derived = "mine-own" }', "existing.buckets"),
        ('[existing]\ntable = "no name"', "existing.table"),
        ('[alarms]\nmail = ["nobody"]', "alarms.mail"),
        ("nonsense = 1", "nonsense"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(document: str, key: str) -> None:
    """A ConfigError whose sentence holds the key."""
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        read_config(tomllib.loads(document))


def test_what_the_lifecycle_keeps_may_be_set() -> None:
    """Sessions and quarantine up to the bucket's own days; numbers and truths become texts, as an environment has."""
    config = read_config({"settings": {"SESSION_DAYS": 7, "QUARANTINE_DAYS": 14, "ENABLE_TIFF_CHUNKING": False}})
    assert config.settings == {"ENABLE_TIFF_CHUNKING": "false", "QUARANTINE_DAYS": "14", "SESSION_DAYS": "7"}


def test_a_development_page_may_be_an_origin() -> None:
    """Plain HTTP from this machine only."""
    assert read_config({"origins": ["http://localhost:5173"]}).origins == ("http://localhost:5173",)


def test_a_stage_is_a_name_or_a_file(tmp_path: Path) -> None:
    """A file elsewhere serves too; what is not there, or is no TOML, is said in words."""
    (tmp_path / "mine.toml").write_text('deployment = "mine"\n')
    (tmp_path / "broken.toml").write_text("deployment =\n")

    assert load_stage(str(tmp_path / "mine.toml")).deployment == "mine"
    with pytest.raises(ConfigError, match=r"broken\.toml is no TOML"):
        load_stage(str(tmp_path / "broken.toml"))
    with pytest.raises(ConfigError, match="there are default, hardened"):
        load_stage("production")
    assert STAGES.is_dir()


@given(
    st.dictionaries(
        st.sampled_from([one.name for one in fields(Config)]),
        st.text() | st.integers() | st.booleans() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()),
    )
)
def test_any_document_is_read_or_refused(document: dict[str, object]) -> None:
    """Never another exception, and what is read names no wildcard origin."""
    with suppress(ConfigError):
        config = read_config(document)
        assert all("*" not in origin for origin in config.origins)
        assert config.log_retention_days in LOG_RETENTION_DAYS


def test_the_longest_deployment_fits_a_bucket() -> None:
    """Its longest bucket name, in the region with the longest name, has the 63 characters that S3 allows."""
    assert all(isinstance(bucket, Bucket) for bucket in topology.BUCKETS)
    longest = max([*(bucket.name for bucket in topology.BUCKETS), "page"], key=len)
    assert len(f"{'x' * DEPLOYMENT_LENGTH_MAX}-{longest}-111122223333-ap-southeast-1") == 63


def test_retention_days_have_their_names() -> None:
    """Every number of days that a deployer may write is one that the construct can write."""
    # The construct's module would start Node: read it as text.
    source = (ROOT / "infra" / "constructs" / "handler.py").read_text()
    assert all(f"{days}: " in source for days in LOG_RETENTION_DAYS)
    assert topology.RUNTIME in (ROOT / "infra" / "constructs" / "layers.py").read_text()


def test_layers_are_found_or_stubbed(tmp_path: Path) -> None:
    """A built layer is its folder; the others, empty ones too, are a note, and are named."""
    stubs = tmp_path / "stubs"
    (tmp_path / "layers" / "heavylift" / "python").mkdir(parents=True)
    (tmp_path / "build" / "layers" / "base" / "python").mkdir(parents=True)
    (tmp_path / "build" / "layers" / "image").mkdir()

    found, missing = find_layers(tmp_path, stubs)

    assert found["base"] == tmp_path / "build" / "layers" / "base"
    assert found["heavylift"] == tmp_path / "layers" / "heavylift"
    assert set(missing) == set(layer_names()) - {"base", "heavylift"}
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
