"""The state machine that does one thing to millions of files: a Distributed Map over the store's listing.

Pure: the definition in Amazon States Language, as data. Each file is asked for by the API's own retry route, called
as a function with the file's own tenant, so that a back-fill may do nothing that a user could not, leaves the same
audit trail, and shares queues, limits and the retry clock with everything else.

Its input: ``{"what": "thumbnails", "prefix": "files/"}`` makes all pictures anew;
``{"what": "rules", "prefix": "files/acme/", "rules": {…}}`` validates one tenant's stored files by these rules.
"""

from __future__ import annotations

from typing import Any

from infra import topology

RETRY = "POST /v1/uploads/{id}/retry"
# Children at work; each keeps one call of the function busy for a fraction of a second.
CONCURRENCY = 40
# Files that cannot be asked for are in the results; more than these stop the run, for something is broken then.
FAILURES_PERCENT = 5
TRIES = 6
LATER_S = 20
# Not a tenant's name, so nobody's files lie there; the sweeper leaves such keys alone.
RESULTS = "manifests/_backfill"
# 202: asked for. Not there, gone, or nothing to try again: skipped. 429 and 5xx: later.
SKIPPED = (404, 409, 410)


def target() -> topology.Function:
    """The function that serves the retry route."""
    method, path = RETRY.split(" ")
    (found,) = (one for one in topology.FUNCTIONS if any((r.method, r.path) == (method, path) for r in one.routes))
    return found


def event(tenant_claim: str) -> dict[str, Any]:
    """The HTTP event that API Gateway would send, made of the item's tenant and id."""
    method, _ = RETRY.split(" ")
    path = "States.Format('/v1/uploads/{}/retry', $.id)"
    return {
        "version": "2.0",
        "routeKey": RETRY,
        "rawPath.$": path,
        "rawQueryString": "",
        # A call that is repeated by Step Functions or by us has its effect once.
        "headers": {"content-type": "application/json", "idempotency-key.$": "States.Format('{}-{}', $.run, $.id)"},
        "pathParameters": {"id.$": "$.id"},
        "requestContext": {
            "stage": "$default",
            "requestId.$": "$$.Execution.Name",
            "http": {"method": method, "path.$": path},
            "authorizer": {
                "jwt": {"claims": {f"{tenant_claim}.$": "$.tenant", "sub": "backfill"}, "scopes": [topology.WRITE]}
            },
        },
        "body.$": "$.body",
        "isBase64Encoded": False,
    }


def item_states(function_arn: str, tenant_claim: str) -> dict[str, Any]:
    """What is done with one key of the listing."""
    return {
        "Name": {
            "Type": "Pass",
            "Parameters": {
                "tenant.$": "States.ArrayGetItem(States.StringSplit($.key, '/'), 1)",
                "id.$": "States.ArrayGetItem(States.StringSplit($.key, '/'), 2)",
                "body.$": "$.body",
                "run.$": "$.run",
                "tries": 0,
            },
            "Next": "Ask",
        },
        "Ask": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": function_arn, "Payload": event(tenant_claim)},
            "ResultSelector": {"status.$": "$.Payload.statusCode"},
            "ResultPath": "$.answer",
            "Retry": [
                {
                    "ErrorEquals": ["States.TaskFailed"],
                    "IntervalSeconds": 2,
                    "MaxAttempts": TRIES,
                    "BackoffRate": 2,
                    "JitterStrategy": "FULL",
                }
            ],
            "Next": "Answered",
        },
        "Answered": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.answer.status", "NumericEquals": 202, "Next": "Done"},
                *({"Variable": "$.answer.status", "NumericEquals": one, "Next": "Skipped"} for one in SKIPPED),
                {"Variable": "$.tries", "NumericGreaterThanEquals": TRIES, "Next": "Refused"},
                {"Variable": "$.answer.status", "NumericEquals": 429, "Next": "Later"},
                {"Variable": "$.answer.status", "NumericGreaterThanEquals": 500, "Next": "Later"},
            ],
            "Default": "Refused",
        },
        "Later": {"Type": "Wait", "Seconds": LATER_S, "Next": "Again"},
        "Again": {
            "Type": "Pass",
            "Parameters": {
                "tenant.$": "$.tenant",
                "id.$": "$.id",
                "body.$": "$.body",
                "run.$": "$.run",
                "tries.$": "States.MathAdd($.tries, 1)",
            },
            "Next": "Ask",
        },
        "Done": {"Type": "Pass", "Parameters": {"id.$": "$.id", "asked": True}, "End": True},
        "Skipped": {
            "Type": "Pass",
            "Parameters": {"id.$": "$.id", "asked": False, "status.$": "$.answer.status"},
            "End": True,
        },
        "Refused": {"Type": "Fail", "Error": "Refused", "Cause": "The API refused this file, or did so too often."},
    }


def definition(store_bucket: str, derived_bucket: str, function_arn: str, tenant_claim: str) -> dict[str, Any]:
    """The whole machine."""
    return {
        "Comment": "Back-fills: see docs/operations.md",
        "StartAt": "What",
        "States": {
            "What": {
                "Type": "Choice",
                "Choices": [
                    {"Variable": "$.what", "StringEquals": "thumbnails", "Next": "Thumbnails"},
                    {"Variable": "$.what", "StringEquals": "rules", "Next": "Rules"},
                ],
                "Default": "Unknown",
            },
            "Unknown": {"Type": "Fail", "Error": "Unknown", "Cause": "what is thumbnails or rules"},
            "Thumbnails": {
                "Type": "Pass",
                "Parameters": {"prefix.$": "$.prefix", "body": '{"force":true}'},
                "Next": "Files",
            },
            "Rules": {
                "Type": "Pass",
                "Parameters": {
                    "prefix.$": "$.prefix",
                    "body.$": "States.Format('\\{\"rules\":{}\\}', States.JsonToString($.rules))",
                },
                "Next": "Files",
            },
            "Files": {
                "Type": "Map",
                "Label": "Files",
                "MaxConcurrency": CONCURRENCY,
                "ToleratedFailurePercentage": FAILURES_PERCENT,
                "ItemReader": {
                    "Resource": "arn:aws:states:::s3:listObjectsV2",
                    "Parameters": {"Bucket": store_bucket, "Prefix.$": "$.prefix"},
                },
                "ItemSelector": {
                    "key.$": "$$.Map.Item.Value.Key",
                    "body.$": "$.body",
                    "run.$": "$$.Execution.Name",
                },
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"},
                    "StartAt": "Name",
                    "States": item_states(function_arn, tenant_claim),
                },
                "ResultWriter": {
                    "Resource": "arn:aws:states:::s3:putObject",
                    "Parameters": {"Bucket": derived_bucket, "Prefix": RESULTS},
                },
                "End": True,
            },
        },
    }
