"""Archives against the running stack: asked for, built by the function, downloaded, opened by others' programs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import bagit
import pytest
from lxml import etree

from heavylift.ids import new_ulid
from heavylift_local.testing import CallFailed, RunningStack
from tests.interop.conftest import Desk

pytestmark = pytest.mark.xdist_group("archives")
MIB = 1024 * 1024


def noise(size: int, seed: int) -> bytes:
    return b"\x01\x02" + random.Random(seed).randbytes(size - 2) if size else b""


FILES = {
    "box7_1.bin": noise(6 * MIB, 1),  # copied by S3
    "box7_2.bin": noise(300_000, 2),  # written by hand
    "box7_3.bin": b"",
    "box7_4 é=.bin": noise(17 * MIB, 3),  # sent in parts, copied
    "box7_5.bin": noise(1_000, 4),
}


@pytest.fixture(scope="module")
def desk(stack: RunningStack) -> Desk:
    """One tenant for all tests here: the files go up once."""
    return Desk(stack, stack.token("t-archives"), "t-archives")


@pytest.fixture(scope="module")
def ids(desk: Desk) -> list[str]:
    """A document of five files: small, large, empty, one sent in parts."""
    made = []
    for name, data in FILES.items():
        more = {"metadata": {"logical_id": "box7", "shelf": 3}}
        if len(data) <= 16 * MIB:
            made.append(desk.send_bytes(name, data, **more))
        else:
            opened = desk.initiate(name, len(data), **more)
            desk.send_parts(opened, data)
            made.append(str(opened["upload_id"]))
    for file_id in made:
        assert desk.wait_final(file_id)["status"] == "completed"
    return made


def wait(desk: Desk, archive_id: str, seconds: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        body = desk.call("GET", f"/v1/archives/{archive_id}")
        if body["final"]:
            return dict(body)
        assert time.monotonic() < deadline, body
        time.sleep(0.1)


def asked(desk: Desk, **body: Any) -> dict[str, Any]:
    return wait(desk, desk.call("POST", "/v1/archives", body)["archive_id"])


def fetched(desk: Desk, archive_id: str, headers: dict[str, str] | None = None, part: str = "content") -> bytes:
    link = desk.call("GET", f"/v1/archives/{archive_id}/{part}?redirect=false")
    request = Request(link["url"], headers=headers or link.get("headers") or {})
    with urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def nothing_left(desk: Desk) -> None:
    """No request, no temporary object, no open upload of this tenant's, within moments of the end."""
    deadline = time.monotonic() + 20
    while True:
        left = desk.keys("derived", f"work/{desk.tenant}/") + desk.keys("derived", f"requests/{desk.tenant}/")
        uploads = desk.s3().list_multipart_uploads(Bucket=desk.bucket("derived")).get("Uploads", [])
        left += [one["Key"] for one in uploads if f"/{desk.tenant}/" in one["Key"]]
        if not left:
            return
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def test_a_document_as_a_plain_package(desk: Desk, ids: list[str], tmp_path: Path) -> None:
    """The bytes of each file, METS and table; proven, opened by unzip where there is one; the second request is at
    once the same archive; each member by its range; nothing is left over.
    """
    body = asked(desk, file_ids=ids[::-1])
    assert (body["status"], body["reused"]) == ("completed", False), body
    data = fetched(desk, body["archive_id"])
    assert (len(data), zlib.crc32(data)) == (body["size"], int.from_bytes(b64decode(body["crc32"]), "big"))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == [*reversed(FILES), "box7_mets.xml", "box7_metadata.csv"]
        assert archive.testzip() is None
        for name, content in FILES.items():
            assert archive.read(name) == content
        table = list(csv.DictReader(io.StringIO(archive.read("box7_metadata.csv").decode(), newline="")))
        assert [(row["file_id"], row["metadata.shelf"]) for row in table] == [(one, "3") for one in ids[::-1]]
        document = etree.fromstring(archive.read("box7_mets.xml"))
        assert len(document.findall(".//{http://www.loc.gov/METS/}file")) == len(FILES)
        infos = archive.infolist()
    path = tmp_path / "box7.zip"
    path.write_bytes(data)
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tqq", str(path)], check=True)
    assert body["bytes_through"] < 8 * MIB, "the large files were copied by S3"

    again = asked(desk, file_ids=ids[::-1], name="again")
    assert (again["reused"], again["crc32"]) == (True, body["crc32"])
    listed = desk.call("GET", f"/v1/archives/{again['archive_id']}/members")["items"]
    assert [one["name"] for one in listed] == [info.filename for info in infos]
    for info, one in zip(infos, listed, strict=True):
        if info.file_size:
            found = fetched(desk, again["archive_id"], part=f"members/{one['n']}/content")
            assert zlib.crc32(found) == info.CRC
    nothing_left(desk)


def test_a_bag(desk: Desk, ids: list[str], tmp_path: Path) -> None:
    """Its reader accepts it, and not when a byte is another one. The file sent in parts was read once."""
    body = asked(desk, file_ids=ids, package="bagit")
    assert body["status"] == "completed", body
    with zipfile.ZipFile(io.BytesIO(fetched(desk, body["archive_id"]))) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "box7"
    validate = [sys.executable, "-m", "bagit", "--validate", "--quiet", str(folder)]
    assert subprocess.run(validate, capture_output=True, check=False).returncode == 0
    assert bagit.Bag(str(folder)).info["Payload-Oxum"] == f"{sum(map(len, FILES.values()))}.{len(FILES)}"
    large = desk.call("GET", f"/v1/files/{ids[3]}")["checksums"]
    assert large["sha256"] == hashlib.sha256(FILES["box7_4 é=.bin"]).hexdigest()
    assert large["sha256_proven"] is True
    victim = folder / "data/objects/box7_5.bin"
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    assert subprocess.run(validate, capture_output=True, check=False).returncode != 0
    nothing_left(desk)


def test_the_commands(desk: Desk, ids: list[str], tmp_path: Path) -> None:
    """heavylift archive waits, downloads and proves; heavylift get takes one member out."""
    command = [str(Path(sys.executable).parent / "heavylift")]
    door = ["--api", desk.stack.api, "--token", desk.token, "--json"]
    out = tmp_path / "F.zip"
    run = subprocess.run(
        [*command, "archive", "--logical-id", "box7", "-o", str(out), *door], capture_output=True, text=True, check=True
    )
    body = json.loads(run.stdout)
    assert zipfile.ZipFile(out).testzip() is None
    for member, data in (("1", FILES["box7_2.bin"]), ("box7_5.bin", FILES["box7_5.bin"])):
        one = [*command, "get", body["archive_id"], "--member", member, "-o", str(tmp_path / "one"), *door]
        done = json.loads(subprocess.run(one, capture_output=True, text=True, check=True).stdout)
        assert (tmp_path / "one").read_bytes() == data
        assert done["verified"] == "crc32"


def test_a_request_that_somebody_drops(desk: Desk, ids: list[str]) -> None:
    """By the developer's keys into requests/: built, or failed with words."""
    good, bad = new_ulid(), new_ulid()
    for archive_id, body in ((good, {"file_ids": ids[1:3], "name": "drop"}), (bad, {"file_ids": ["files/x"]})):
        key = f"requests/{desk.tenant}/{archive_id}.json"
        desk.s3().put_object(Bucket=desk.bucket("derived"), Key=key, Body=json.dumps(body).encode())
    deadline = time.monotonic() + 60
    while True:
        try:
            made, failed = wait(desk, good), wait(desk, bad)
            break
        except CallFailed:  # the job is there when the event is
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert (made["status"], made["name"]) == ("completed", "drop.zip")
    assert (failed["status"], failed["failure"]["code"]) == ("failed", "invalid_request")
    nothing_left(desk)


def test_another_tenants_files(desk: Desk, ids: list[str]) -> None:
    """Not found, whether asked for or dropped; nor is the archive itself."""
    other = Desk(desk.stack, desk.stack.token(f"{desk.tenant}-2"), f"{desk.tenant}-2")
    assert other.refused("POST", "/v1/archives", {"file_ids": ids[:1]})[0] == 404
    body = asked(desk, file_ids=ids[4:])
    for path in ("", "/content", "/members", "/members/0/content"):
        assert other.refused("GET", f"/v1/archives/{body['archive_id']}{path}")[0] == 404
    assert other.refused("DELETE", f"/v1/archives/{body['archive_id']}")[0] == 404
