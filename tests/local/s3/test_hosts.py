"""Where the bucket and the region of a request come from: Host or path, any region or the pinned one."""

import http.client
import socket
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from heavylift_local.s3 import testing
from heavylift_local.s3.request import Request, locate
from heavylift_local.s3.testing import RunningS3, send

DOMAINS = ["localhost", "s3.localhost"]


@pytest.mark.parametrize(
    ("host", "target", "place"),
    [
        ("staging.localhost:9000", "/a/b", ("staging", "a/b", True)),
        ("staging.s3.localhost", "/a/b", ("staging", "a/b", True)),
        ("my.dotted.bucket.s3.localhost", "/", ("my.dotted.bucket", "", True)),
        ("STAGING.S3.LocalHost:1", "//a", ("staging", "/a", True)),
        ("s3.localhost:9000", "/staging/a", ("staging", "a", False)),
        ("localhost", "/staging/a", ("staging", "a", False)),
        ("127.0.0.1:9000", "/staging/a", ("staging", "a", False)),
        ("staging.localhost.example", "/store/a", ("store", "a", False)),
        ("", "/staging/a", ("staging", "a", False)),
    ],
)
def test_bucket_of_host_or_path(host: str, target: str, place: tuple[str, str, bool]) -> None:
    """<bucket>.<domain> by the longest domain; anything else is path style."""
    request = Request("GET", target, "HTTP/1.1", {"host": host})
    locate(request, DOMAINS)
    assert (request.bucket, request.key, request.virtual_host) == place


def test_boto3_with_virtual_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed requests, multipart, and Complete's location with the bucket in the Host header."""
    resolve = socket.getaddrinfo

    def of_this_machine(host: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return resolve("127.0.0.1" if str(name).endswith(".localhost") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", of_this_machine)
    with testing.running_s3(tmp_path, domain=DOMAINS) as s3:
        endpoint = f"http://s3.localhost:{s3.port}"
        client = testing._session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=s3.region,
            aws_access_key_id=testing.ACCESS_KEY,
            aws_secret_access_key=testing.SECRET_KEY,
            config=Config(s3={"addressing_style": "virtual"}, signature_version="s3v4"),
        )
        at = {"Bucket": "staging", "Key": "a b/ü"}
        client.put_object(**at, Body=b"x")
        assert client.get_object(**at)["Body"].read() == b"x"
        assert s3.client().get_object(**at)["Body"].read() == b"x"
        assert [row["Key"] for row in client.list_objects_v2(Bucket="staging")["Contents"]] == ["a b/ü"]
        upload = client.create_multipart_upload(**at)["UploadId"]
        etag = client.upload_part(**at, UploadId=upload, PartNumber=1, Body=b"y")["ETag"]
        parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        made = client.complete_multipart_upload(**at, UploadId=upload, MultipartUpload=parts)
        assert made["Location"] == f"http://staging.s3.localhost:{s3.port}/a%20b%2F%C3%BC"
        url = client.generate_presigned_url("get_object", Params=at)
        assert url.startswith(f"http://staging.s3.localhost:{s3.port}/")
        assert send(url).body == b"y"
        signed = client.generate_presigned_post("staging", "form")
        assert signed["url"] == f"http://staging.s3.localhost:{s3.port}/"


def test_the_signature_covers_the_host(tmp_path: Path) -> None:
    """A URL for one bucket's host is not good for another's."""
    with testing.running_s3(tmp_path, domain="localhost") as s3:
        s3.client().put_object(Bucket="staging", Key="k", Body=b"x")
        url = s3.presign("GET", "/staging/k")
        connection = http.client.HTTPConnection("127.0.0.1", s3.port, timeout=30)
        connection.request("GET", url[len(s3.endpoint) :], headers={"Host": f"store.localhost:{s3.port}"})
        assert connection.getresponse().status == 403
        connection.close()


@pytest.mark.parametrize("pinned", [False, True])
def test_regions(tmp_path: Path, pinned: bool) -> None:
    """A signature for another region is as good as any, unless the server is told to be of its own only."""
    with testing.running_s3(tmp_path, pin_region=pinned, region="eu-central-1") as s3:
        s3.client().put_object(Bucket="staging", Key="k", Body=b"x")
        wrong = (400, "AuthorizationQueryParametersError") if pinned else (200, None)
        assert send(s3.presign("GET", "/staging/k", region="us-east-1")).refusal == wrong
        # boto3 reads the right region out of the refusal and comes again.
        other = RunningS3(s3.server, "ap-southeast-2").client()
        assert other.get_object(Bucket="staging", Key="k")["Body"].read() == b"x"
