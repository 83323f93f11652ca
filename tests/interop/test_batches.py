"""A batch over HTTP against the running stack: one form policy for sixty small files, an upload for a large one."""

from __future__ import annotations

import hashlib
import http.client
import io
import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.interop.conftest import Desk, code_of, digest, put

pytestmark = pytest.mark.xdist_group("stack")
MIB = 1024 * 1024


def png(n: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20 + n, 30), (n, 2 * n, 200)).save(out, "PNG")
    return out.getvalue()


def mixed() -> dict[int, tuple[str, bytes]]:
    """Sixty small files of every kind, a bad one among them, and a large one."""
    files: dict[int, tuple[str, bytes]] = {}
    for n in range(1, 61):
        files[n] = (
            (f"pictures/p{n:03d}.png", png(n)),
            (f"tables/t{n}.csv", b"a,b\n%d,2\n" % n),
            (f"{n}.txt", b"text %d\n" % n),
            (f"{n}.json", b'{"n": %d}' % n),
        )[n % 10 if n % 10 < 4 else 2]
    files[7] = ("pictures/broken.png", b"this is no picture")
    files[8] = (".hidden", b"")
    files[61] = ("film.bin", random.Random(61).randbytes(20 * MIB))
    return files


def post_form(url: str, fields: dict[str, str], n: int, data: bytes, **more: str) -> tuple[int, str]:
    """The form of a browser: the policy's fields, then the file, whose name is its number."""
    boundary = "----heavylift7MA4YWxkTrZu0gW"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in {**fields, **more}.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{n}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n".encode()
    )
    body = b"".join([*parts, data, f"\r\n--{boundary}--\r\n".encode()])
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=30)
    try:
        connection.request(
            "POST", address.path or "/", body, {"content-type": f"multipart/form-data; boundary={boundary}"}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def doubled(desk: Desk) -> Iterator[Desk]:
    """Every event comes twice."""
    desk.stack.faults({"events": {"copies": 2}})
    yield desk
    desk.stack.faults({})


def begin(desk: Desk, files: dict[int, tuple[str, bytes]], **body: Any) -> dict[str, Any]:
    batch = desk.call("POST", "/v1/batches", {"kind": "other", "total": len(files), **body})
    entries = [
        {
            "n": n,
            "name": name.rpartition("/")[2],
            "relative_path": name,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        for n, (name, data) in files.items()
    ]
    half = len(entries) // 2
    for page, part in enumerate((entries[:half], entries[half:]), start=1):
        answer = desk.call("PUT", f"/v1/batches/{batch['batch_id']}/manifest/{page}", {"entries": part})
    assert answer["listed"] == answer["total"] == len(files)
    return dict(batch)


def test_sixty_small_files_and_a_large_one(doubled: Desk) -> None:
    """Forms under one policy, events doubled: the batch ends by itself, its counts exact at every look."""
    desk, files = doubled, mixed()
    batch = begin(desk, files)
    batch_id, policy = batch["batch_id"], batch["policy"]
    with ThreadPoolExecutor(6) as pool:
        small = [n for n in files if n != 61]
        sent = list(pool.map(lambda n: post_form(policy["url"], policy["fields"], n, files[n][1]), small))
        assert {status for status, _ in sent} == {201}, sent
    name, data = files[61]
    opened = desk.initiate(name, len(data), batch_id=batch_id, n=61)
    assert opened["upload_id"] == f"{batch_id}-000061"
    assert desk.initiate(name, len(data), batch_id=batch_id, n=61) == opened
    desk.send_parts(opened, data)

    views = []
    for _ in range(60):
        views.append(desk.call("GET", f"/v1/batches/{batch_id}?wait=1"))
        if views[-1]["final"]:
            break
    for earlier, later in itertools.pairwise(views):
        assert earlier["processed"] <= later["processed"]
        assert earlier["received"] <= later["received"]
    for view in views:
        assert view["processed"] == view["succeeded"] + view["failed"] + view["skipped"] + view["duplicates"]
        assert view["processed"] <= view["received"] <= view["total"] == 61
        # The same answer holds the files: they say what the counts say, or are a moment further.
        ended = [line for line in view["files"] if line["verdict"]]
        assert len(ended) >= view["processed"]
    last = views[-1]
    assert (last["status"], last["final"]) == ("completed_with_errors", True)
    assert (last["received"], last["succeeded"], last["failed"]) == (61, 60, 1)
    assert [(error["n"], error["code"], error["relative_path"]) for error in last["errors"]] == [
        (7, "type_mismatch", "pictures/broken.png")
    ]
    listed = {line["n"]: line for line in last["files"]}
    assert {n for n, line in listed.items() if line["verdict"] != "completed"} == {7}
    assert {listed[n]["relative_path"] for n in files} == {name for name, _ in files.values()}

    store = desk.s3().list_object_versions(Bucket=desk.bucket("store"), Prefix=f"files/{desk.tenant}/")["Versions"]
    assert sorted(one["Key"] for one in store) == sorted(
        f"files/{desk.tenant}/{batch_id}-{n:06d}" for n in files if n != 7
    )
    assert desk.keys("staging", f"in/{desk.tenant}/") == [f"in/{desk.tenant}/{batch_id}/7"]
    for n in (4, 5, 6, 61):
        body = desk.s3().get_object(Bucket=desk.bucket("store"), Key=f"files/{desk.tenant}/{batch_id}-{n:06d}")["Body"]
        assert body.read() == files[n][1]
        checksums = desk.call("GET", f"/v1/files/{batch_id}-{n:06d}")["checksums"]
        assert checksums.get("sha256") == hashlib.sha256(files[n][1]).hexdigest()
        assert checksums["sha256_proven"] is (n != 61)
    page = desk.call("GET", f"/v1/files?batch_id={batch_id}&limit=100")
    assert len(page["items"]) == 61


def test_signed_puts_with_digests(desk: Desk) -> None:
    """mode put: S3 itself refuses other bytes, another length and a second object; a large member has no URL."""
    files = {1: ("a.txt", b"one\n"), 2: ("b.txt", b"two\n"), 3: ("c.bin", bytes(17 * MIB))}
    batch = begin(desk, files, mode="put")
    assert "policy" not in batch
    urls = desk.call("POST", f"/v1/batches/{batch['batch_id']}/urls", {"n": [1, 2, 3, 4]})["urls"]
    assert [one["n"] for one in urls] == [1, 2, 3, 4]
    assert [one["problem"]["code"] for one in urls[2:]] == ["multipart_required", "not_in_manifest"]
    first, second = urls[:2]
    assert code_of(put(first["url"], b"uno\n", first["headers"])[1]) == "BadDigest"
    assert put(first["url"], b"one too many\n", first["headers"])[0] == 403
    assert put(first["url"], b"one\n", first["headers"])[0] == 200
    assert put(first["url"], b"one\n", first["headers"])[0] in {200, 412}  # its file may be in the store by now
    assert put(second["url"], b"two\n", second["headers"])[0] == 200
    desk.call("POST", f"/v1/batches/{batch['batch_id']}/complete")
    view = desk.call("GET", f"/v1/batches/{batch['batch_id']}?wait=25")

    assert (view["status"], view["succeeded"], view["failed"]) == ("completed_with_errors", 2, 1)
    assert [(error["n"], error["code"]) for error in view["errors"]] == [(3, "not_received")]


def test_what_the_policy_refuses(desk: Desk) -> None:
    """Keys of another batch or tenant, too large a file, a missing digest: S3 says no. A renewed policy works."""
    files = {1: ("a.txt", b"one\n"), 2: ("b.txt", b"two\n")}
    batch = begin(desk, files)
    batch_id, policy = batch["batch_id"], batch["policy"]
    fields = policy["fields"]
    for key in ("in/other/${filename}", f"in/{desk.tenant}/01JD2Z3NDEKTSV4RRFFQ69G5FA/${{filename}}", "files/x/1"):
        assert post_form(policy["url"], {**fields, "key": key}, 1, b"one\n")[0] == 403
    status, answer = post_form(policy["url"], fields, 1, bytes(16 * MIB + 1))
    assert (status, code_of(answer)) == (400, "EntityTooLarge")
    renewed = desk.call("POST", f"/v1/batches/{batch_id}/policy", {"checksum": "sha256"})
    assert post_form(renewed["url"], renewed["fields"], 1, b"one\n")[0] == 403
    other = {"x-amz-checksum-sha256": digest(b"uno\n")}
    assert code_of(post_form(renewed["url"], renewed["fields"], 1, b"one\n", **other)[1]) == "BadDigest"
    for n, data in ((1, b"one\n"), (2, b"two\n")):
        own = {"x-amz-checksum-sha256": digest(data)}
        assert post_form(renewed["url"], renewed["fields"], n, data, **own)[0] == 201
    view = desk.call("GET", f"/v1/batches/{batch_id}?wait=25")

    assert (view["status"], view["succeeded"]) == ("completed", 2)
    assert desk.call("GET", f"/v1/files/{batch_id}-000001")["integrity"] == "sha256"


def test_a_cancelled_batch_takes_nothing_more(desk: Desk) -> None:
    """Its policy still signs, S3 still takes the object; nothing of it stays."""
    files = {1: ("a.txt", b"one\n"), 2: ("b.txt", b"two\n")}
    batch = begin(desk, files)
    batch_id, policy = batch["batch_id"], batch["policy"]
    assert desk.call("DELETE", f"/v1/batches/{batch_id}")["status"] == "cancelled"
    assert post_form(policy["url"], policy["fields"], 1, b"one\n")[0] == 201
    assert desk.refused("POST", f"/v1/batches/{batch_id}/policy", {})[1]["code"] == "state_conflict"
    for _ in range(100):
        view = desk.call("GET", f"/v1/batches/{batch_id}")
        if view["errors"]:
            break
    assert [(error["n"], error["code"]) for error in view["errors"]] == [(1, "batch_cancelled")]
    assert desk.keys("staging", f"in/{desk.tenant}/") == []
    assert desk.keys("store", f"files/{desk.tenant}/") == []
