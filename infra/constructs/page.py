"""The page on S3 behind CloudFront, which also fronts the API, so that both have one origin.

Headers are those of ``web/headers.json``, word for word what the local stack sends. ``config.json`` is written by the
publisher: it says where to sign in, and a file of the repository cannot know that.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_cloudfront as cloudfront
from aws_cdk import aws_cloudfront_origins as origins
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.config import Config
from infra.constructs.identity import Issuer
from infra.constructs.inline import INLINE, InlineFunction
from infra.constructs.names import bucket_name
from infra.pages import HEADERS_FILE, policy

ROOT = Path(__file__).resolve().parents[2]
# Two years, as the preload list wants it.
HSTS_DAYS = 730
# The API answers within its own 30 s; its connection may take a moment more.
API_READ_S = 35
# The longest that the publisher may take: some hundred small files, one after another.
PUBLISH_S = 120


class Page(Construct):
    """Bucket, distribution and policies; ``finish`` adds what depends on who signs the tokens."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        api_host: str,
        web: Path,
        bucket_origins: Sequence[str],
        issuer_origins: Sequence[str],
        acl_arn: str | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self._config, self._web = config, web
        document = json.loads((web / HEADERS_FILE).read_text())
        self._bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=bucket_name(config, "page"),
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            # All of it is in the repository; the publisher empties it when the stack goes.
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        cdk.Tags.of(self._bucket).add("heavylift:bucket", "page")
        sources = {"{buckets}": tuple(bucket_origins), "{api}": (), "{issuer}": tuple(issuer_origins)}
        plain = self._headers("Headers", config, document, policy(document, "index.html", sources))
        hasher = document["wasm"]["paths"][0]
        worker = self._headers("WorkerHeaders", config, document, policy(document, hasher, sources))
        files = origins.S3BucketOrigin.with_origin_access_control(self._bucket)

        def page(headers: cloudfront.IResponseHeadersPolicyRef) -> cloudfront.BehaviorOptions:
            return cloudfront.BehaviorOptions(
                origin=files,
                viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.REDIRECT_TO_HTTPS,
                cache_policy=cloudfront.CachePolicy.CACHING_OPTIMIZED,
                response_headers_policy=headers,
                compress=True,
            )

        api = cloudfront.BehaviorOptions(
            origin=origins.HttpOrigin(
                api_host,
                protocol_policy=cloudfront.OriginProtocolPolicy.HTTPS_ONLY,
                origin_ssl_protocols=[cloudfront.OriginSslPolicy.TLS_V1_2],
                read_timeout=cdk.Duration.seconds(API_READ_S),
            ),
            viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.HTTPS_ONLY,
            allowed_methods=cloudfront.AllowedMethods.ALLOW_ALL,
            cache_policy=cloudfront.CachePolicy.CACHING_DISABLED,
            origin_request_policy=cloudfront.OriginRequestPolicy.ALL_VIEWER_EXCEPT_HOST_HEADER,
        )
        own = config.page
        self.distribution = cloudfront.Distribution(
            self,
            "Distribution",
            comment=f"{config.deployment}: page and API",
            default_root_object="index.html",
            default_behavior=page(plain),
            additional_behaviors={
                "/v1/*": api,
                "/s3/*": api,
                **{f"/{path}": page(worker) for path in document["wasm"]["paths"]},
            },
            http_version=cloudfront.HttpVersion.HTTP2_AND_3,
            # Without a certificate of ours CloudFront's own decides, and the library would only warn.
            minimum_protocol_version=cloudfront.SecurityPolicyProtocol.TLS_V1_2_2021 if own.domain else None,
            domain_names=[own.domain] if own.domain else None,
            certificate=acm.Certificate.from_certificate_arn(self, "Certificate", own.certificate)
            if own.domain
            else None,
            web_acl_id=acl_arn,
        )
        self.origin = f"https://{own.domain or self.distribution.distribution_domain_name}"

    def _headers(
        self, construct_id: str, config: Config, document: Mapping[str, Any], csp: str
    ) -> cloudfront.CfnResponseHeadersPolicy:
        """A policy with the document's headers; those that CloudFront knows by name go where it wants them."""
        of = cloudfront.CfnResponseHeadersPolicy
        rest = dict(document["headers"])
        assert rest.pop("x-content-type-options") == "nosniff"
        security = of.SecurityHeadersConfigProperty(
            content_security_policy=of.ContentSecurityPolicyProperty(content_security_policy=csp, override=True),
            content_type_options=of.ContentTypeOptionsProperty(override=True),
            frame_options=of.FrameOptionsProperty(frame_option=rest.pop("x-frame-options"), override=True),
            referrer_policy=of.ReferrerPolicyProperty(referrer_policy=rest.pop("referrer-policy"), override=True),
            strict_transport_security=of.StrictTransportSecurityProperty(
                access_control_max_age_sec=HSTS_DAYS * 86_400, include_subdomains=False, override=True
            ),
        )
        custom = [of.CustomHeaderProperty(header=name, value=value, override=True) for name, value in rest.items()]
        return of(
            self,
            construct_id,
            response_headers_policy_config=of.ResponseHeadersPolicyConfigProperty(
                name=f"{config.deployment}-{construct_id.lower()}",
                security_headers_config=security,
                custom_headers_config=of.CustomHeadersConfigProperty(items=custom),
            ),
        )

    def finish(self, issuer: Issuer) -> None:
        """config.json, and the files themselves."""
        sign_in = {
            "kind": "oidc",
            "issuer": issuer.url,
            "client_id": issuer.client_id,
            "scope": issuer.scope,
            **({"sign_out_url": issuer.sign_out_url} if issuer.sign_out_url else {}),
        }
        staged, version = stage(self._web)
        publisher = InlineFunction(
            self,
            "Publisher",
            self._config,
            "page",
            lambda_.Code.from_asset(str(staged)),
            "publish_page.handler",
            timeout_s=PUBLISH_S,
            memory_mb=256,
            statements=[
                iam.PolicyStatement(actions=["s3:ListBucket"], resources=[self._bucket.bucket_arn]),
                iam.PolicyStatement(
                    actions=["s3:PutObject", "s3:DeleteObject"], resources=[self._bucket.arn_for_objects("*")]
                ),
                iam.PolicyStatement(
                    actions=["cloudfront:CreateInvalidation"], resources=[self.distribution.distribution_arn]
                ),
            ],
        )
        published = cdk.CustomResource(
            self,
            "Published",
            resource_type="Custom::HeavyliftPage",
            service_token=publisher.function.function_arn,
            service_timeout=cdk.Duration.seconds(PUBLISH_S + 30),
            properties={
                "Bucket": self._bucket.bucket_name,
                "Distribution": self.distribution.distribution_id,
                "Config": cdk.Stack.of(self).to_json_string({"version": 1, "api": "", "sign_in": sign_in}),
                "Version": version,
            },
        )
        # Its policy and its log group must outlive it, or a deletion could not be carried out.
        published.node.add_dependency(publisher)


def stage(web: Path) -> tuple[Path, str]:
    """A folder with the publisher and the page's files, and the version that their content makes.

    Named by its content and moved into place whole, so that two syntheses may do it at the same time.
    """
    hidden = (HEADERS_FILE,)
    files = sorted(
        path
        for path in web.rglob("*")
        if path.is_file() and path.name not in hidden and not path.name.endswith(".d.ts")
        if not any(part.startswith(".") for part in path.relative_to(web).parts)
    )
    digest = hashlib.sha256((INLINE / "publish_page.py").read_bytes())
    for path in files:
        digest.update(f"{path.relative_to(web)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    version = digest.hexdigest()[:16]
    made = ROOT / "build" / "page" / version
    if not made.is_dir():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as scratch:
            new = Path(scratch) / "new"
            (new / "page").mkdir(parents=True)
            shutil.copy(INLINE / "publish_page.py", new)
            for path in files:
                target = new / "page" / path.relative_to(web)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
            try:
                os.rename(new, made)
            except OSError:
                if not made.is_dir():
                    raise
    return made, version
