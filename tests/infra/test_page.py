"""The page behind its distribution: headers as the local stack sends them, files published whole, one origin."""

from __future__ import annotations

import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from heavylift_local.gateway import pages as local_pages
from infra import pages, topology
from infra.app import ROOT
from tests.infra.conftest import Assembly

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.timeout(900)]

DOCUMENT = json.loads((ROOT / "web" / pages.HEADERS_FILE).read_text())
# CloudFront's quota for a Content-Security-Policy ("Quotas on response headers policies").
CSP_LENGTH_MAX = 1783


def load(name: str) -> ModuleType:
    """A file of infra/inline as the module that Lambda would import."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "infra" / "inline" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain(value: Any) -> str:
    """A text of the template with its references filled in by examples of the greatest length."""
    if isinstance(value, str):
        return value
    ((key, told),) = value.items()
    if key == "Fn::Join":
        return str(told[0]).join(plain(one) for one in told[1])
    longest = {"AWS::AccountId": "111122223333", "AWS::Region": "ap-southeast-1", "AWS::URLSuffix": "amazonaws.com"}
    return longest.get(told, "x" * 36) if key == "Ref" else "x" * 36


def behaviours(assembly: Assembly) -> dict[str, dict[str, Any]]:
    """Path pattern -> cache behaviour; ``*`` is the default one."""
    ((_, _, distribution),) = assembly.resources("AWS::CloudFront::Distribution")
    told = distribution["Properties"]["DistributionConfig"]
    return {"*": told["DefaultCacheBehavior"], **{one["PathPattern"]: one for one in told["CacheBehaviors"]}}


def headers_of(assembly: Assembly, pattern: str) -> dict[str, Any]:
    policy = behaviours(assembly)[pattern]["ResponseHeadersPolicyId"]["Ref"]
    made = assembly.stack("front")["Resources"][policy]["Properties"]["ResponseHeadersPolicyConfig"]
    return dict(made)


def csp_of(assembly: Assembly, pattern: str) -> dict[str, list[str]]:
    told = headers_of(assembly, pattern)["SecurityHeadersConfig"]["ContentSecurityPolicy"]
    assert told["Override"] is True
    text = plain(told["ContentSecurityPolicy"])
    assert len(text) <= CSP_LENGTH_MAX
    return {words[0]: words[1:] for words in (part.split() for part in text.split("; "))}


def test_policies_are_read_the_same_here_and_there() -> None:
    """The local gateway's reading of web/headers.json and the deployment's."""
    ours = {"{buckets}": ("https://b1", "https://b2"), "{api}": (), "{issuer}": ("https://i",)}
    theirs = local_pages.Origins(buckets=("https://b1", "https://b2"), issuer=("https://i",))
    for name in ("index.html", *DOCUMENT["wasm"]["paths"]):
        assert pages.policy(DOCUMENT, name, ours) == local_pages.policy(DOCUMENT, name, theirs)


def test_the_policy_names_what_the_page_talks_to(each: Assembly) -> None:
    """API, buckets and issuer only; no wildcard, no unsafe word."""
    csp = csp_of(each, "*")
    hosts = [source for source in csp["connect-src"] if source != "'self'"]

    assert csp["default-src"] == ["'none'"]
    assert csp["script-src"] == ["'self'"]
    assert not any("unsafe" in source or "*" in source for sources in csp.values() for source in sources)
    for bucket in topology.BUCKETS:
        name = each.config.existing.buckets.get(bucket.name, f"{each.config.deployment}-{bucket.name}-")
        assert sum(host.startswith(f"https://{name}") and ".s3." in host for host in hosts) == 1
    rest = [host for host in hosts if ".s3." not in host]
    if each.config.identity.made:
        assert len(rest) == 2
        assert all("cognito" in host for host in rest)
    else:
        assert rest == ["https://login.hospital.invalid"]


def test_only_what_hashes_may_compile(each: Assembly) -> None:
    """The hash worker's own answer has 'wasm-unsafe-eval', and no other word that is unsafe."""
    worker = {f"/{path}" for path in DOCUMENT["wasm"]["paths"]}
    found = behaviours(each)

    assert set(found) == {"*", "/v1/*", "/s3/*"} | worker
    for pattern in worker:
        csp = csp_of(each, pattern)
        assert csp.pop("script-src") == ["'self'", "'wasm-unsafe-eval'"]
        plain_one = csp_of(each, "*")
        del plain_one["script-src"]
        assert csp == plain_one


def test_every_header_of_the_document_is_sent(each: Assembly) -> None:
    """By the name that CloudFront has for it, or as it stands."""
    told = headers_of(each, "*")
    security = told["SecurityHeadersConfig"]
    sent = {one["Header"]: one["Value"] for one in told["CustomHeadersConfig"]["Items"]} | {
        "x-frame-options": security["FrameOptions"]["FrameOption"],
        "referrer-policy": security["ReferrerPolicy"]["ReferrerPolicy"],
        "x-content-type-options": "nosniff" if security["ContentTypeOptions"]["Override"] else "",
    }

    assert sent == DOCUMENT["headers"]
    assert security["StrictTransportSecurity"]["AccessControlMaxAgeSec"] >= 31_536_000


def test_nothing_of_the_api_is_kept_and_all_of_it_is_passed_on(each: Assembly) -> None:
    """Every method, no cache, every header but Host; HTTPS alone, on both sides."""
    caching_disabled = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
    all_but_host = "b689b0a8-53d0-40ab-baf2-68738e2966ac"
    for pattern in ("/v1/*", "/s3/*"):
        one = behaviours(each)[pattern]
        assert set(one["AllowedMethods"]) == {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"}
        assert one["CachePolicyId"] == caching_disabled
        assert one["OriginRequestPolicyId"] == all_but_host
        assert one["ViewerProtocolPolicy"] == "https-only"
    ((_, _, distribution),) = each.resources("AWS::CloudFront::Distribution")
    (api,) = (
        one["CustomOriginConfig"]
        for one in distribution["Properties"]["DistributionConfig"]["Origins"]
        if "CustomOriginConfig" in one
    )
    assert (api["OriginProtocolPolicy"], api["OriginSSLProtocols"]) == ("https-only", ["TLSv1.2"])


def test_the_buckets_let_the_page_in(each: Assembly) -> None:
    """The distribution's own name, or its domain, is among the origins of every bucket that browsers talk to."""
    own = each.config.page.domain
    for _, _, bucket in each.resources("AWS::S3::Bucket"):
        for rule in bucket["Properties"].get("CorsConfiguration", {}).get("CorsRules", ()):
            origins = rule["AllowedOrigins"]
            assert f"https://{own}" in origins if own else "Fn::ImportValue" in json.dumps(origins)


# --- publishing


class Bucket:
    """An S3 client that keeps objects, two a page."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.log: list[str] = []

    def put_object(self, *, Bucket: str, Key: str, **told: Any) -> None:
        self.log.append(Key)
        self.objects[Key] = told

    def delete_object(self, *, Bucket: str, Key: str) -> None:
        del self.objects[Key]

    def list_objects_v2(self, *, Bucket: str, ContinuationToken: str = "") -> dict[str, Any]:
        names = sorted(name for name in self.objects if name > ContinuationToken)
        page = {"Contents": [{"Key": name} for name in names[:2]]}
        return page | ({"NextContinuationToken": names[1]} if len(names) > 2 else {})


class Cdn:
    def __init__(self) -> None:
        self.invalidated: list[Any] = []

    def create_invalidation(self, **told: Any) -> None:
        self.invalidated.append(told)


@pytest.fixture
def publisher() -> ModuleType:
    return load("publish_page")


def test_the_page_is_published_whole(publisher: ModuleType, tmp_path: Path) -> None:
    """Types, no caching without asking, index.html last, what is old gone, the distribution told."""
    (tmp_path / "engine").mkdir()
    for name in ("index.html", "a.css", "engine/hash-worker.js", "engine/hash.wasm"):
        (tmp_path / name).write_text(name)
    bucket, cdn = Bucket(), Cdn()
    bucket.objects = {f"old-{n}.js": {} for n in range(5)} | {"a.css": {}}

    publisher.publish(bucket, cdn, "page", "E1", '{"version": 1}', "r1", tmp_path)

    assert set(bucket.objects) == {"index.html", "a.css", "engine/hash-worker.js", "engine/hash.wasm", "config.json"}
    assert bucket.log[-1] == "index.html"
    assert {one["CacheControl"] for one in bucket.objects.values()} == {"no-cache"}
    types = {name: one["ContentType"] for name, one in bucket.objects.items()}
    assert types["engine/hash.wasm"] == "application/wasm"
    assert types["engine/hash-worker.js"].startswith("text/javascript")
    assert bucket.objects["config.json"]["Body"] == b'{"version": 1}'
    assert cdn.invalidated[0]["InvalidationBatch"]["CallerReference"] == "r1"


def test_what_is_published_has_the_local_stacks_types(publisher: ModuleType) -> None:
    """A file has one type, wherever it is served."""
    for path in (ROOT / "web").rglob("*"):
        served = local_pages.page(ROOT / "web", f"/{path.relative_to(ROOT / 'web')}") if path.is_file() else None
        if served:
            assert publisher.content_type(path.name) == served.content_type, path


@pytest.fixture
def cloudformation() -> Any:
    """Where the publisher sends its answers."""
    answers: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            answers.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}/answer?signature=x", answers=answers)
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["Create", "Update", "Delete"])
def test_cloudformation_is_answered(
    publisher: ModuleType, cloudformation: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Success after the work, the same physical id each time; a deletion leaves an empty bucket."""
    bucket, cdn = Bucket(), Cdn()
    bucket.objects = {f"old-{n}": {} for n in range(5)}
    (tmp_path / "index.html").write_text("x")
    monkeypatch.setattr("boto3.client", lambda service: {"s3": bucket, "cloudfront": cdn}[service])
    monkeypatch.setattr(publisher.publish, "__defaults__", (tmp_path,))

    publisher.handler(request(kind, cloudformation.url), SimpleNamespace(log_stream_name="log"))

    (answer,) = cloudformation.answers
    assert (answer["Status"], answer["PhysicalResourceId"], answer["RequestId"]) == ("SUCCESS", "page", "r1")
    assert set(bucket.objects) == (set() if kind == "Delete" else {"index.html", "config.json"})


def test_a_failure_is_answered_too(publisher: ModuleType, cloudformation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """CloudFormation would wait for an hour otherwise; and the log has the trace."""

    def refuse(service: str) -> Any:
        raise RuntimeError("no credentials")

    monkeypatch.setattr("boto3.client", refuse)
    with pytest.raises(RuntimeError):
        publisher.handler(request("Create", cloudformation.url), SimpleNamespace(log_stream_name="log"))

    (answer,) = cloudformation.answers
    assert (answer["Status"], answer["Reason"]) == ("FAILED", "RuntimeError: no credentials")


def request(kind: str, url: str) -> dict[str, Any]:
    return {
        "RequestType": kind,
        "ResponseURL": url,
        "StackId": "stack",
        "RequestId": "r1",
        "LogicalResourceId": "Published",
        "ResourceProperties": {"Bucket": "page", "Distribution": "E1", "Config": "{}", "Version": "1"},
        **({} if kind == "Create" else {"PhysicalResourceId": "page"}),
    }


def test_the_publisher_gets_the_pages_configuration(each: Assembly) -> None:
    """docs/page.md's shape: where to sign in, with which client; the API has the page's own origin."""
    ((_, _, published),) = each.resources("Custom::HeavyliftPage")
    config = json.loads(plain(published["Properties"]["Config"]))

    assert (config["version"], config["api"], config["sign_in"]["kind"]) == (1, "", "oidc")
    assert config["sign_in"]["scope"] == "openid heavylift/read heavylift/write"
    if not each.config.identity.made:
        assert config["sign_in"]["issuer"] == each.config.identity.issuer
        assert config["sign_in"]["client_id"] == each.config.identity.client_id
    else:
        assert config["sign_in"]["sign_out_url"].startswith("https://heavylift-111122223333.auth.")


def test_the_publishers_asset_is_the_page(assembly: Assembly) -> None:
    """Every file of web/ but the headers and the types; and the publisher itself."""
    (function,) = (
        one["Properties"]
        for _, _, one in assembly.resources("AWS::Lambda::Function")
        if one["Properties"]["FunctionName"] == "heavylift-page"
    )
    folder = assembly.folder / f"asset.{function['Code']['S3Key'].removesuffix('.zip')}"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    assert {"publish_page.py", "page/index.html"} <= files
    assert not any(name.endswith((".d.ts", pages.HEADERS_FILE)) for name in files)
