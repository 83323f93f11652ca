"""The one table from calls to IAM actions, and what AWS itself does with a function's role.

Pure data and small words over it, standard library only. Facts are AWS's ("Actions, resources, and condition keys" of
each service in the Service Authorization Reference; for keys "Using AWS KMS with Amazon S3" and "DynamoDB encryption
at rest: usage notes"). tests/functions/test_permissions.py holds what the functions really call against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from infra.model import Allow

# Operation of the SDK -> the IAM action on the object, bucket, table, queue or bus that it names.
ACTIONS: Mapping[str, str] = {
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "upload_part_copy": "s3:PutObject",
    "copy_object": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "list_parts": "s3:ListMultipartUploadParts",
    "head_object": "s3:GetObject",
    "get_object": "s3:GetObject",
    "get_object_attributes": "s3:GetObjectAttributes",
    "get_object_tagging": "s3:GetObjectTagging",
    "delete_object": "s3:DeleteObject",
    "head_bucket": "s3:ListBucket",
    "list_objects_v2": "s3:ListBucket",
    "list_object_versions": "s3:ListBucketVersions",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "get_item": "dynamodb:GetItem",
    "put_item": "dynamodb:PutItem",
    "update_item": "dynamodb:UpdateItem",
    "delete_item": "dynamodb:DeleteItem",
    "batch_write_item": "dynamodb:BatchWriteItem",
    "batch_get_item": "dynamodb:BatchGetItem",
    "query": "dynamodb:Query",
    "get_queue_attributes": "sqs:GetQueueAttributes",
    "send_message": "sqs:SendMessage",
    "change_message_visibility": "sqs:ChangeMessageVisibility",
    "put_events": "events:PutEvents",
}
# Where a call names a version, S3 asks for another action.
OF_A_VERSION: Mapping[str, str] = {
    "s3:GetObject": "s3:GetObjectVersion",
    "s3:DeleteObject": "s3:DeleteObjectVersion",
    "s3:GetObjectAttributes": "s3:GetObjectVersionAttributes",
}
# What a call needs beside its own action, on the same object.
BESIDE: Mapping[str, tuple[str, ...]] = {"s3:GetObjectAttributes": ("s3:GetObject",)}
# A HEAD or GET without ListBucket is answered 403 for what is not there.
PROBES = frozenset({"head_object", "get_object"})

# What Lambda's poller does in the function's name ("Create and configure an Amazon SQS event source mapping").
POLL = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
# What Lambda writes in the function's name; X-Ray knows no resources ("Actions defined by AWS X-Ray").
LOG = ("logs:CreateLogStream", "logs:PutLogEvents")
TRACE = ("xray:PutTraceSegments", "xray:PutTelemetryRecords")

# What an action wants of the key, where buckets and table are encrypted with one of the deployment's own. Parts of a
# multipart upload are decrypted when they are joined, so whoever writes also decrypts.
KEY_SERVICES = ("s3", "dynamodb")
_DECRYPT, _ENCRYPT = "kms:Decrypt", "kms:GenerateDataKey"
KEY_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "s3:GetObject": (_DECRYPT,),
    "s3:GetObjectVersion": (_DECRYPT,),
    "s3:PutObject": (_DECRYPT, _ENCRYPT),
    "dynamodb:GetItem": (_DECRYPT,),
    "dynamodb:BatchGetItem": (_DECRYPT,),
    "dynamodb:Query": (_DECRYPT,),
    "dynamodb:PutItem": (_DECRYPT,),
    "dynamodb:UpdateItem": (_DECRYPT,),
    "dynamodb:DeleteItem": (_DECRYPT,),
    "dynamodb:BatchWriteItem": (_DECRYPT,),
}


def key_actions(allows: Iterable[Allow]) -> tuple[str, ...]:
    """What a function with these permissions needs of the key."""
    wanted = {key for allow in allows for action in allow.actions for key in KEY_ACTIONS.get(action, ())}
    return tuple(sorted(wanted))


def needs(operation: str, given: Mapping[str, Any], names: Mapping[str, str]) -> set[tuple[str, str]]:
    """(action, resource) that one call of the SDK needs; resources in the topology's words.

    ``given`` are the call's arguments, ``names`` the logical names of physical buckets. KeyError for an operation
    that the table has not: write it down there first.
    """
    action = ACTIONS[operation]
    service = action.partition(":")[0]
    if service == "dynamodb":
        return {(action, f"table/index/{given['IndexName']}" if "IndexName" in given else "table")}
    if service == "sqs":
        return {(action, f"queue:{given['QueueUrl'].rsplit('/', 1)[-1]}")}
    if service == "events":
        return {(action, "bus")}
    bucket = names[given["Bucket"]]
    if "Key" not in given:
        return {(action, bucket)}
    wanted = _of_object(action, f"{bucket}/{given['Key']}", given.get("VersionId"))
    if operation in PROBES:
        wanted.add(("s3:ListBucket", bucket))
    if "CopySource" in given:
        source = given["CopySource"]
        wanted |= _of_object("s3:GetObject", f"{names[source['Bucket']]}/{source['Key']}", source.get("VersionId"))
    return wanted


def _of_object(action: str, resource: str, version_id: str | None) -> set[tuple[str, str]]:
    actions = (action, *BESIDE.get(action, ()))
    return {(OF_A_VERSION[one] if version_id else one, resource) for one in actions}
