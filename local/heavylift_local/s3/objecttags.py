"""PutObjectTagging, GetObjectTagging, DeleteObjectTagging."""

from heavylift_local.s3 import tagging
from heavylift_local.s3.documents import TAGGING_BYTES_MAX, read_document
from heavylift_local.s3.headers import version_header
from heavylift_local.s3.objects import find
from heavylift_local.s3.request import Request, Response
from heavylift_local.s3.service import Service
from heavylift_local.s3.store import Bucket, ObjectRecord, Reading, Tags
from heavylift_local.s3.xml import document

XML = ("Content-Type", "application/xml")


def _authorize(service: Service, request: Request, verb: str) -> None:
    kind = "ObjectVersion" if "versionId" in request.query else "Object"
    service.authorize(request, f"s3:{verb}{kind}Tagging", f"{request.bucket}/{request.key}")


def _find(service: Service, request: Request, db: Reading, bucket: Bucket) -> ObjectRecord:
    return find(service, request, db, bucket, request.key, request.query.get("versionId"))


def get(service: Service, request: Request) -> Response:
    _authorize(service, request, "Get")
    bucket = service.bucket(request.bucket)
    with service.store.reading() as db:
        record = _find(service, request, db, bucket)
    headers = [XML, *version_header(bucket, record)]
    return Response(headers=headers, body=document("Tagging", [tagging.tag_set(record.tags)]))


def put(service: Service, request: Request) -> Response:
    _authorize(service, request, "Put")
    return _set(service, request, tagging.of_node(read_document(request, "Tagging", TAGGING_BYTES_MAX)), 200)


def delete(service: Service, request: Request) -> Response:
    _authorize(service, request, "Delete")
    return _set(service, request, (), 204)


def _set(service: Service, request: Request, tags: Tags, status: int) -> Response:
    """Tags belong to a version and change without making a new one."""
    bucket = service.bucket(request.bucket)
    with service.store.writing() as tx:
        record = _find(service, request, tx, bucket)
        tx.set_tags(record, tags)
    return Response(status, version_header(bucket, record))
