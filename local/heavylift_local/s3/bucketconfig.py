"""A bucket's own settings through the API: CORS, versioning, lifecycle, policy, tags."""

import json

from heavylift_local.s3 import bucketpolicy, lifecycle, tagging
from heavylift_local.s3.config import CorsRule
from heavylift_local.s3.cors import METHODS
from heavylift_local.s3.documents import TAGGING_BYTES_MAX, read_bytes, read_document
from heavylift_local.s3.errors import S3Error, invalid_request
from heavylift_local.s3.request import Request, Response
from heavylift_local.s3.service import Service
from heavylift_local.s3.xml import Node, document, element

CORS_RULES_MAX = 100
XML = ("Content-Type", "application/xml")
# What S3 says of every configuration put since it moves no object below 128 KB to another class.
TRANSITION_DEFAULT = ("x-amz-transition-default-minimum-object-size", "all_storage_classes_128K")


def put_cors(service: Service, request: Request) -> Response:
    root = read_document(request, "CORSConfiguration")
    root.only("CORSRule")
    rules = tuple(cors_rule(node) for node in root.children)
    if not 1 <= len(rules) <= CORS_RULES_MAX:
        raise S3Error("MalformedXML")
    with service.store.writing() as tx:
        tx.set_cors(service.bucket(request.bucket).name, rules)
    return Response()


def cors_rule(node: Node) -> CorsRule:
    """Raises MalformedXML, InvalidRequest (recorded)."""
    node.only("ID", "AllowedHeader", "AllowedMethod", "AllowedOrigin", "ExposeHeader", "MaxAgeSeconds")
    texts = {name: tuple(child.text for child in node.all(name)) for name in ("AllowedHeader", "ExposeHeader")}
    methods = tuple(child.text for child in node.all("AllowedMethod"))
    origins = tuple(child.text for child in node.all("AllowedOrigin"))
    if not methods or not origins:
        raise S3Error("MalformedXML")
    for method in methods:
        if method not in METHODS:
            raise invalid_request(f"Found unsupported HTTP method in CORS config. Unsupported method is {method}")
    for name, values in (("AllowedOrigin", origins), ("AllowedHeader", texts["AllowedHeader"])):
        for value in values:
            if value.count("*") > 1:
                raise invalid_request(f'{name} "{value}" can not have more than one wildcard.')
    for value in texts["ExposeHeader"]:
        if "*" in value:
            raise invalid_request(
                f'ExposeHeader "{value}" contains wildcard. We currently do not support wildcard for ExposeHeader.'
            )
    age = node.get("MaxAgeSeconds")
    if age is not None and (not age.isascii() or not age.isdigit() or len(age) > 9):
        raise S3Error("MalformedXML")
    return CorsRule(origins, methods, texts["AllowedHeader"], texts["ExposeHeader"], int(age) if age else None)


def delete_cors(service: Service, request: Request) -> Response:
    with service.store.writing() as tx:
        tx.set_cors(service.bucket(request.bucket).name, ())
    return Response(204)


def put_versioning(service: Service, request: Request) -> Response:
    root = read_document(request, "VersioningConfiguration")
    root.only("Status", "MfaDelete")
    status = root.get("Status")
    if status is None:
        raise S3Error("IllegalVersioningConfigurationException", "The Versioning element must be specified")
    if status not in ("Enabled", "Suspended"):
        raise S3Error("MalformedXML")
    if root.get("MfaDelete") == "Enabled":
        raise S3Error("NotImplemented", "MfaDelete is not implemented")
    with service.store.writing() as tx:
        tx.set_versioning(service.bucket(request.bucket).name, status)
    return Response()


def get_lifecycle(service: Service, request: Request) -> Response:
    bucket = service.bucket(request.bucket)
    if not bucket.lifecycle:
        raise S3Error("NoSuchLifecycleConfiguration", fields={"BucketName": bucket.name})
    body = document("LifecycleConfiguration", lifecycle.document_parts(bucket.lifecycle))
    return Response(headers=[XML, TRANSITION_DEFAULT], body=body)


def put_lifecycle(service: Service, request: Request) -> Response:
    rules = lifecycle.parse(read_document(request, "LifecycleConfiguration"))
    with service.store.writing() as tx:
        name = service.bucket(request.bucket).name
        tx.set_setting(name, "lifecycle", json.dumps([rule.as_json() for rule in rules]))
    return Response(headers=[TRANSITION_DEFAULT])


def get_policy(service: Service, request: Request) -> Response:
    policy = _policy(service, request)
    return Response(headers=[("Content-Type", "application/json")], body=policy.text.encode())


def get_policy_status(service: Service, request: Request) -> Response:
    parts = [element("IsPublic", _policy(service, request).is_public)]
    return Response(headers=[XML], body=document("PolicyStatus", parts))


def _policy(service: Service, request: Request) -> bucketpolicy.BucketPolicy:
    bucket = service.bucket(request.bucket)
    if bucket.policy is None:
        raise S3Error("NoSuchBucketPolicy", fields={"BucketName": bucket.name})
    return bucket.policy


def put_policy(service: Service, request: Request) -> Response:
    data = read_bytes(request, bucketpolicy.POLICY_BYTES_MAX)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise bucketpolicy.malformed("Policies must be valid JSON and the first byte must be '{'") from None
    policy = bucketpolicy.parse(text, request.bucket, service.config.account)
    if policy.is_public:  # what every new bucket does
        raise S3Error(
            "AccessDenied",
            "because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.",
        )
    with service.store.writing() as tx:
        tx.set_setting(service.bucket(request.bucket).name, "policy", text)
    return Response(204)


def get_tagging(service: Service, request: Request) -> Response:
    bucket = service.bucket(request.bucket)
    if not bucket.tags:
        raise S3Error("NoSuchTagSet", fields={"BucketName": bucket.name})
    return Response(headers=[XML], body=document("Tagging", [tagging.tag_set(bucket.tags)]))


def put_tagging(service: Service, request: Request) -> Response:
    tags = tagging.of_node(read_document(request, "Tagging", TAGGING_BYTES_MAX), tagging.BUCKET_TAGS_MAX)
    with service.store.writing() as tx:
        tx.set_setting(service.bucket(request.bucket).name, "tags", json.dumps(tags))
    return Response(204)


def delete_setting(service: Service, request: Request) -> Response:
    """DELETE ?lifecycle, ?policy or ?tagging: 204, also where there is none."""
    kinds = {"lifecycle": "lifecycle", "policy": "policy", "tagging": "tags"}
    kind = next(kinds[name] for name in request.query if name in kinds)
    with service.store.writing() as tx:
        tx.set_setting(service.bucket(request.bucket).name, kind, None)
    return Response(204)
