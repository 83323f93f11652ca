"""The custom resource that puts the page's files into their bucket, and takes them out when the stack goes.

The files lie beside this one in ``page/``; config.json, which differs from stage to stage, comes with the event.
Answers CloudFormation at its pre-signed URL whatever happens, so that a deployment never hangs. Runs with Lambda's own
SDK; needs no layer.
"""

import json
import mimetypes
import urllib.request
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "page"
# Where the machine's own table knows less, or something older.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
}
# No name holds a version, so browsers ask each time and are mostly answered 304.
CACHE = "no-cache"


def content_type(name):
    suffix = Path(name).suffix.lower()
    return TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def publish(s3, cloudfront, bucket, distribution, config, version, folder=PAGE):
    """New files first, then the old ones go, then what the distribution has kept: no moment without a page."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files["config.json"] = config.encode()
    # index.html names the others, so it comes last.
    for name in sorted(files, key=lambda name: (name == "index.html", name)):
        s3.put_object(Bucket=bucket, Key=name, Body=files[name], ContentType=content_type(name), CacheControl=CACHE)
    remove(s3, bucket, set(files))
    cloudfront.create_invalidation(
        DistributionId=distribution,
        InvalidationBatch={"CallerReference": version, "Paths": {"Quantity": 1, "Items": ["/*"]}},
    )


def remove(s3, bucket, keep=frozenset()):
    """Delete all objects but those named."""
    token = None
    while True:
        page = s3.list_objects_v2(Bucket=bucket, **({"ContinuationToken": token} if token else {}))
        for one in page.get("Contents", ()):
            if one["Key"] not in keep:
                s3.delete_object(Bucket=bucket, Key=one["Key"])
        token = page.get("NextContinuationToken")
        if not token:
            return


def answer(event, context, status, reason=""):
    body = json.dumps(
        {
            "Status": status,
            "Reason": reason or f"see the log stream {context.log_stream_name}",
            "PhysicalResourceId": event.get("PhysicalResourceId") or "page",
            "StackId": event["StackId"],
            "RequestId": event["RequestId"],
            "LogicalResourceId": event["LogicalResourceId"],
        }
    ).encode()
    request = urllib.request.Request(event["ResponseURL"], data=body, method="PUT", headers={"content-type": ""})
    urllib.request.urlopen(request, timeout=20).close()


def handler(event, context):
    import boto3

    told = event["ResourceProperties"]
    try:
        if event["RequestType"] == "Delete":
            remove(boto3.client("s3"), told["Bucket"])
        else:
            clients = boto3.client("s3"), boto3.client("cloudfront")
            publish(*clients, told["Bucket"], told["Distribution"], told["Config"], event["RequestId"])
    except Exception as error:  # the top of a function: CloudFormation waits an hour for an answer
        answer(event, context, "FAILED", f"{type(error).__name__}: {error}"[:1000])
        raise
    answer(event, context, "SUCCESS")
