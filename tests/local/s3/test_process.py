"""The server as a process: readiness, SIGTERM, kill -9 under load, memory."""

import hashlib
import http.client
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from heavylift_local.s3 import testing
from heavylift_local.s3.store import Store
from heavylift_local.s3.testing import peak_kib
from heavylift_local.s3.testing import start_process as start

MIB = 1024**2
MEMORY_KIB_MAX = 100 * 1024


def client_of(port: int) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=testing.ACCESS_KEY,
        aws_secret_access_key=testing.SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}, signature_version="s3v4", retries={"total_max_attempts": 1}),
    )


def test_term_is_a_clean_end_and_data_stays(tmp_path: Path) -> None:
    """Exit 0 with idle connections open; the next start serves the same objects; two on one folder are refused."""
    process, port = start(tmp_path)
    client = client_of(port)
    client.put_object(Bucket="staging", Key="k", Body=b"kept")
    second = subprocess.run(
        [sys.executable, "-m", "heavylift_local.s3", "--config", str(tmp_path / "config.json")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode != 0
    assert "in use" in second.stderr
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert process.stdout is not None
    assert process.stdout.read() == ""

    process, port = start(tmp_path)
    try:
        assert client_of(port).get_object(Bucket="staging", Key="k")["Body"].read() == b"kept"
    finally:
        process.terminate()
        assert process.wait(20) == 0


class Load:
    """Writers that remember what the server confirmed."""

    def __init__(self, port: int, seed: int) -> None:
        self.client = client_of(port)
        self.random = random.Random(seed)
        self.seed = seed
        self.allowed: dict[str, set[str | None]] = {}  # key -> ETags that may be there now, None: absent
        self.refused: ClientError | None = None

    def run(self) -> None:
        try:
            while True:
                self.step()
        except ClientError as error:
            self.refused = error
        except Exception:  # noqa: BLE001 - the server is killed under it; how the client fails is not the point
            return

    def step(self) -> None:
        key = f"{self.seed}/{self.random.randrange(6)}"
        body = self.random.randbytes(self.random.choice([0, 10, 50_000, 400_000]))
        at = {"Bucket": "staging", "Key": key}
        kind = self.random.randrange(4)
        etag: str | None = hashlib.md5(body).hexdigest()
        if kind == 0:
            etag = None
        elif kind == 1:
            etag = f"{hashlib.md5(hashlib.md5(body).digest()).hexdigest()}-1"
        self.allowed.setdefault(key, {None}).add(etag)  # until it is confirmed, the old or the new
        if kind == 0:
            self.client.delete_object(**at)
        elif kind == 1:
            upload = self.client.create_multipart_upload(**at)["UploadId"]
            part = self.client.upload_part(**at, UploadId=upload, PartNumber=1, Body=body)
            parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            self.client.complete_multipart_upload(**at, UploadId=upload, MultipartUpload=parts)
        else:
            self.client.put_object(**at, Body=body)
        self.allowed[key] = {etag}


def _rounds_of_kill(tmp_path: Path, rounds: int) -> None:
    for number in range(rounds):
        process, port = start(tmp_path, event_sink="http://127.0.0.1:9/nobody")
        loads = [Load(port, number * 10 + n) for n in range(3)]
        threads = [threading.Thread(target=load.run) for load in loads]
        for thread in threads:
            thread.start()
        time.sleep(random.Random(number).uniform(0.2, 0.6))
        process.kill()
        process.wait()
        for thread in threads:
            thread.join()
        store = Store(tmp_path / "data")
        try:
            assert store.check() == []
            with store.reading() as db:
                rows = db.db.execute("SELECT key, etag, size FROM objects").fetchall()
                outbox = db.db.execute("SELECT count(*) FROM outbox").fetchone()[0]
                known = {row[0] for row in db.db.execute("SELECT id FROM blobs")}
            files = {int(p.name, 16) for p in (tmp_path / "data" / "parts").rglob("*") if p.is_file()}
            assert files == known  # nothing leaks, nothing is missing
            assert outbox >= len(rows)
        finally:
            store.close()
        process, port = start(tmp_path, event_sink="http://127.0.0.1:9/nobody")
        try:
            client = client_of(port)
            found: dict[str, str] = {}
            for key, etag, size in rows:
                body = client.get_object(Bucket="staging", Key=key)["Body"].read()
                assert len(body) == size
                md5 = hashlib.md5(body)
                assert etag in (md5.hexdigest(), f"{hashlib.md5(md5.digest()).hexdigest()}-1")
                found[key] = etag
            for load in loads:
                assert load.refused is None
                assert load.allowed
                for key, etags in load.allowed.items():
                    assert found.get(key) in etags
        finally:
            process.kill()
            process.wait()


def test_kill_9_under_load_leaves_whole_objects(tmp_path: Path) -> None:
    """What was confirmed is there, what is there is whole, every object has its event, no file is left over."""
    _rounds_of_kill(tmp_path, 3)


@pytest.mark.full
def test_kill_9_at_two_hundred_moments(tmp_path: Path) -> None:
    """The same, often."""
    _rounds_of_kill(tmp_path, 200)


def _big_object(port: int, part_bytes: int, parts: int, threads: int) -> tuple[Any, dict[str, Any]]:
    """Upload an object of equal parts over presigned URLs; (client, Complete's answer)."""
    client = client_of(port)
    at = {"Bucket": "staging", "Key": "big"}
    upload = client.create_multipart_upload(**at)["UploadId"]
    urls = [
        client.generate_presigned_url("upload_part", Params={**at, "UploadId": upload, "PartNumber": n + 1})
        for n in range(parts)
    ]
    etags: dict[int, str] = {}
    todo = list(range(parts))
    body = os.urandom(part_bytes)

    def run() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while todo:
            try:
                number = todo.pop()
            except IndexError:
                break
            split = urlsplit(urls[number])
            connection.request("PUT", f"{split.path}?{split.query}", body)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            etags[number + 1] = answer.headers["ETag"]
        connection.close()

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    listed = [{"PartNumber": n, "ETag": etags[n]} for n in sorted(etags)]
    return client, client.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": listed})


def _read_back(client: Any, size: int) -> None:
    stream = client.get_object(Bucket="staging", Key="big")["Body"]
    got = 0
    while block := stream.read(MIB):
        got += len(block)
    assert got == size
    for n in range(16):
        at = size * n // 16
        answer = client.get_object(Bucket="staging", Key="big", Range=f"bytes={at}-{at + 65535}")
        assert len(answer["Body"].read()) == 65536
    copied = client.copy_object(Bucket="staging", Key="copy", CopySource="staging/big")
    assert len(copied["CopyObjectResult"]["ETag"]) == 34


@pytest.mark.memory
def test_memory_stays_flat_for_large_objects(tmp_path: Path) -> None:
    """Many times the budget through the server, up, down and copied, with 8 parts at once: under 100 MB."""
    process, port = start(tmp_path)
    try:
        client, _ = _big_object(port, 32 * MIB, 12, 8)
        _read_back(client, 12 * 32 * MIB)
        assert peak_kib(process.pid) < MEMORY_KIB_MAX
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.memory
def test_memory_stays_flat_for_many_connections(tmp_path: Path) -> None:
    """More connections than places, each with a body half sent: the server answers and stays under 100 MB."""
    process, port = start(tmp_path)
    connections: list[http.client.HTTPConnection] = []
    try:
        client = client_of(port)
        for n in range(200):
            url = client.generate_presigned_url("put_object", Params={"Bucket": "staging", "Key": f"k{n}"})
            split = urlsplit(url)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.putrequest("PUT", f"{split.path}?{split.query}", skip_accept_encoding=True)
            connection.putheader("Content-Length", str(MIB))
            connection.endheaders(bytes(MIB // 2))
            connections.append(connection)
        for connection in connections:
            connection.send(bytes(MIB // 2))
        assert {connection.getresponse().status for connection in connections} == {200}
        for _ in range(100):  # idle ones make room for these
            client_of_place = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            client_of_place.request("GET", "/staging")
            assert client_of_place.getresponse().status == 403
            connections.append(client_of_place)
        assert peak_kib(process.pid) < MEMORY_KIB_MAX
    finally:
        for connection in connections:
            connection.close()
        process.terminate()
        assert process.wait(20) == 0


def _many_parts(client: Any, parts: int) -> None:
    """An object of that many parts, each a copy of one source: no bytes are sent or written."""
    client.put_object(Bucket="staging", Key="source", Body=os.urandom(5 * MIB))
    at = {"Bucket": "staging", "Key": "many"}
    upload = client.create_multipart_upload(**at, ChecksumAlgorithm="SHA256")["UploadId"]
    for n in range(parts):
        client.upload_part_copy(**at, UploadId=upload, PartNumber=n + 1, CopySource="staging/source")
    listed = [
        {name: part[name] for name in ("PartNumber", "ETag", "ChecksumSHA256")}
        for page in client.get_paginator("list_parts").paginate(**at, UploadId=upload)
        for part in page["Parts"]
    ]
    assert len(listed) == parts
    made = client.complete_multipart_upload(
        **at, UploadId=upload, MultipartUpload={"Parts": listed}, MpuObjectSize=parts * 5 * MIB
    )
    assert made["ETag"].endswith(f'-{parts}"')
    whole = client.get_object(Bucket="staging", Key="source")["Body"].read()
    middle = 5 * MIB * (parts - 1)
    answer = client.get_object(**at, Range=f"bytes={middle - 10}-{middle + 9}")
    assert answer["Body"].read() == whole[-10:] + whole[:10]
    client.delete_object(**at)


@pytest.mark.memory
def test_memory_stays_flat_for_many_parts(tmp_path: Path) -> None:
    """Copying parts, listing them, completing and deleting: under 100 MB."""
    process, port = start(tmp_path)
    try:
        _many_parts(client_of(port), 100)
        assert peak_kib(process.pid) < MEMORY_KIB_MAX
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.full
def test_memory_at_full_size(tmp_path: Path) -> None:
    """4 GiB in 64 MiB parts, then 10,000 parts in one upload: under 100 MB."""
    process, port = start(tmp_path)
    try:
        client, _ = _big_object(port, 64 * MIB, 64, 4)
        _read_back(client, 4096 * MIB)
        _many_parts(client, 10_000)
        assert peak_kib(process.pid) < MEMORY_KIB_MAX
    finally:
        process.terminate()
        assert process.wait(20) == 0
