"""A real file goes from the client through S3 to thumbnails and back, and what must be refused is refused."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heavylift_local.testing import running_stack
from tests.interop.conftest import Desk, code_of, digest, put, write_tiff

pytestmark = pytest.mark.xdist_group("stack")
MIB = 1024 * 1024


def _thumbnail(record: dict, size: int) -> Image.Image:
    (entry,) = [one for one in record["thumbnails"] if one["size"] == size]
    with urllib.request.urlopen(entry["url"]) as answer:
        picture = Image.open(io.BytesIO(answer.read()))
    assert (entry["width"], entry["height"]) == picture.size
    assert picture.format == "JPEG"
    return picture


def _difference(thumbnail: Image.Image, whole: Image.Image) -> float:
    reference = whole.convert("RGB").resize(thumbnail.size, Image.Resampling.LANCZOS)
    return float(np.abs(np.asarray(thumbnail.convert("RGB"), np.int16) - np.asarray(reference, np.int16)).mean())


def test_a_large_tiff_goes_up_is_drawn_and_comes_back_the_same(desk: Desk, tmp_path: Path) -> None:
    """A multipart upload of a strip TIFF: completed, thumbnails like Pillow's LANCZOS, the same bytes back."""
    path = write_tiff(tmp_path / "grande.tif", 5200, 3900)  # 58 MiB: four parts, read by bands
    with desk.client() as client:
        result = client.put(path)
        assert result.ok, result.failure
        record = result.record
        assert record is not None
        download = client.get(record["file_id"], tmp_path / "back.tif")

    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256((tmp_path / "back.tif").read_bytes()).digest()
    assert download is not None
    assert record["format"] == "TIFF"
    assert (record["width"], record["height"]) == (5200, 3900)
    assert record["decision"]["method"] == "chunked"
    assert [one["size"] for one in record["thumbnails"]] == [256, 512, 1200]
    assert record["checksums"]["sha256_composite"].endswith("-4")
    assert "crc32" in record["checksums"]
    with Image.open(path) as whole:
        for size in (256, 512, 1200):
            thumbnail = _thumbnail(record, size)
            assert max(thumbnail.size) == size
            assert _difference(thumbnail, whole) <= 3
    assert desk.keys("staging", "") == [] or all(desk.tenant not in key for key in desk.keys("staging", "in/"))
    assert desk.keys("store", f"files/{desk.tenant}/") == [f"files/{desk.tenant}/{record['file_id']}"]


def test_pictures_of_other_formats_through_pillow(desk: Desk, tmp_path: Path) -> None:
    """JPEG, PNG, WebP and GIF end completed, with thumbnails never larger than the picture."""
    whole = Image.open(write_tiff(tmp_path / "source.tif", 900, 700))
    for suffix, kind in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WebP"), ("gif", "GIF")):
        path = tmp_path / f"picture.{suffix}"
        whole.save(path)
        with desk.client() as client:
            result = client.put(path)
        assert result.ok, (suffix, result.failure)
        record = result.record or {}
        assert record["format"] == kind
        largest = _thumbnail(record, 1200)
        assert largest.size == (900, 700)
        with Image.open(path) as reference:
            assert _difference(_thumbnail(record, 256), reference) <= 3


def test_other_kinds_are_kept_and_served_as_attachment(desk: Desk) -> None:
    """A file that no function serves passes fresh, ends completed and comes down under its own name."""
    name = 'výkaz "1"; \u202e🎞.bin'
    data = bytes(range(256)) * 40
    file_id = desk.send_bytes(name, data)
    record = desk.wait_final(file_id)
    assert record["status"] == "completed"
    assert record["checksums"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert record["checksums"]["sha256_proven"] is True
    link = desk.call("GET", f"/v1/files/{file_id}/content?redirect=false")
    with urllib.request.urlopen(link["url"]) as answer:
        assert answer.read() == data
        assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    states = [entry["to"] for entry in desk.call("GET", f"/v1/files/{file_id}/events")["items"]]
    assert states[1:] == ["staged", "validating", "promoting", "fresh", "completed"]


@pytest.mark.parametrize(
    "name",
    [
        "n" * 5000,
        "../../etc/passwd",
        "a\x00b\r\nX-Evil: 1\x7f.bin",
        "🐘" * 20,
        "\\\\server\\share\\x.bin",
        " ",
        "a/../b",
    ],
    ids=["5000", "dots", "control", "emoji", "backslash", "space", "slash"],
)
def test_any_name_is_a_label_and_never_a_key(desk: Desk, name: str) -> None:
    """A name is kept as it is and appears in no key."""
    file_id = desk.send_bytes(name, name.encode() + b"!")
    record = desk.wait_final(file_id)
    assert (record["status"], record["name"]) == ("completed", name)
    assert desk.keys("store", "files/" + desk.tenant) == [f"files/{desk.tenant}/{file_id}"]


class TestSignedParts:
    """What the signature of a part fixes cannot be changed; what is refused leaves nothing."""

    SIZE = 17 * MIB  # two parts: 16 MiB and 1 MiB

    @pytest.fixture
    def opened(self, desk: Desk) -> dict:
        opened = desk.initiate("parts.bin", self.SIZE)
        assert (opened["mode"], opened["part_count"]) == ("multipart", 2)
        return opened

    def _sign(self, desk: Desk, upload_id: str, data: bytes) -> tuple[str, dict]:
        body = {"parts": [{"part_number": 2, "sha256": digest(data), "size": len(data)}]}
        (signed,) = desk.call("POST", f"/v1/uploads/{upload_id}/parts", body)["parts"]
        return signed["url"], signed["headers"]

    def test_refusals(self, desk: Desk, opened: dict) -> None:
        """Other bytes, another length, a changed number, a missing header, a header too many: each its own code."""
        upload_id = opened["upload_id"]
        data = b"x" * MIB
        url, headers = self._sign(desk, upload_id, data)
        refusals = {
            "other bytes": (put(url, b"y" * MIB, headers), 400, "BadDigest"),
            "longer": (put(url, data + b"x", headers), 403, "SignatureDoesNotMatch"),
            "shorter": (put(url, data[:-1], headers), 403, "SignatureDoesNotMatch"),
            "number": (put(url.replace("partNumber=2", "partNumber=1"), data, headers), 403, "SignatureDoesNotMatch"),
            "no digest": (put(url, data, {}), 403, "SignatureDoesNotMatch"),
            "extra": (put(url, data, {**headers, "x-amz-meta-a": "1"}), 403, "AccessDenied"),
            "acl": (put(url, data, {**headers, "x-amz-acl": "public-read"}), 403, "AccessDenied"),
        }
        if not os.environ.get("HEAVYLIFT_S3_ENDPOINT"):  # LocalStack takes two kinds of authentication at once
            two = put(url, data, {**headers, "authorization": "Bearer x"})
            refusals["authorization"] = (two, 400, "InvalidArgument")
        for what, ((status, xml), expected_status, expected_code) in refusals.items():
            assert (status, code_of(xml)) == (expected_status, expected_code), what
        status = desk.call("GET", f"/v1/uploads/{upload_id}?parts=true")
        assert (status["received"], status["parts"], status["bytes_received"]) == ([], [], 0)

        assert put(url, data, headers)[0] == 200
        status = desk.call("GET", f"/v1/uploads/{upload_id}?parts=true")
        assert (status["received"], status["needed"]) == ([[2, 2]], [[1, 1]])
        assert status["parts"] == [{"part_number": 2, "size": MIB, "sha256": digest(data)}]
        verified = desk.call("GET", f"/v1/uploads/{upload_id}/parts/2?sha256={hashlib.sha256(data).hexdigest()}")
        assert verified["matches"] is True

        code, problem = desk.refused("POST", f"/v1/uploads/{upload_id}/complete", {})
        assert (code, problem["code"], problem["missing"]) == (409, "parts_missing", [[1, 1]])
        assert desk.call("DELETE", f"/v1/uploads/{upload_id}")["status"] == "cancelled"
        uploads = desk.s3().list_multipart_uploads(Bucket=desk.bucket("staging")).get("Uploads", [])
        assert [one for one in uploads if desk.tenant in one["Key"]] == []

    def test_a_wrong_size_is_not_signed(self, desk: Desk, opened: dict) -> None:
        """A part announced with another size than the plan's is refused before any byte is sent."""
        body = {"parts": [{"part_number": 2, "sha256": digest(b""), "size": 5}]}
        status, problem = desk.refused("POST", f"/v1/uploads/{opened['upload_id']}/parts", body)
        assert (status, problem["code"], problem["size"]) == (422, "part_size_mismatch", MIB)

    def test_requests_that_make_no_sense(self, desk: Desk, opened: dict) -> None:
        """Unknown ids, broken JSON, another tenant's token: the right status and code, as a problem document."""
        upload_id = opened["upload_id"]
        assert desk.refused("GET", "/v1/uploads/01ARZ3NDEKTSV4RRFFQ69G5FAV")[0] == 404
        assert desk.refused("GET", "/v1/uploads/nonsense")[1]["code"] == "not_found"
        foreign = desk.stack.token("somebody-else")
        for method, path in (
            ("GET", f"/v1/uploads/{upload_id}"),
            ("GET", f"/v1/uploads/{upload_id}/parts/1"),
            ("POST", f"/v1/uploads/{upload_id}/parts"),
            ("POST", f"/v1/uploads/{upload_id}/complete"),
            ("POST", f"/v1/uploads/{upload_id}/retry"),
            ("DELETE", f"/v1/uploads/{upload_id}"),
            ("GET", f"/v1/files/{upload_id}"),
            ("GET", f"/v1/files/{upload_id}/events"),
            ("GET", f"/v1/files/{upload_id}/content"),
            ("GET", f"/v1/files/{upload_id}/thumbnails/256"),
        ):
            body = {"parts": [{"part_number": 1, "sha256": digest(b"")}]} if path.endswith("/parts") else {}
            status, problem = desk.refused(method, path, body if method == "POST" else None, foreign)
            assert (status, problem["code"]) == (404, "not_found"), (method, path)
        assert desk.refused("GET", "/v1/uploads", token=desk.stack.token(None))[1]["code"] == "no_tenant"
        request = urllib.request.Request(
            f"{desk.stack.api}/v1/uploads", b"{nonsense", {"authorization": f"Bearer {desk.token}"}, method="POST"
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        assert caught.value.code == 400
        assert caught.value.headers["content-type"] == "application/problem+json"


def test_an_expired_url_is_refused_and_stores_nothing(tmp_path: Path) -> None:
    """With signatures of one second: 403 AccessDenied afterwards; the client signs again and gets through."""
    with running_stack(env={"SIGNATURE_TTL_SECONDS": "1"}) as stack:
        desk = Desk(stack, stack.token("late"), "late")
        data = b"late" * 100
        opened = desk.initiate("late.bin", len(data), sha256=digest(data))
        time.sleep(2.1)
        status, xml = put(opened["put"]["url"], data, opened["put"]["headers"])
        assert (status, code_of(xml)) == (403, "AccessDenied")
        assert desk.keys("staging", "in/late/") == []
        path = tmp_path / "slow.bin"
        path.write_bytes(b"z" * (33 * MIB))
        with desk.client(concurrency=1) as client:
            result = client.put(path)
        assert result.ok, result.failure


def test_complete_by_eight_clients_at_once(desk: Desk) -> None:
    """One object; everybody gets the same answer."""
    data = b"8" * (17 * MIB)
    opened = desk.initiate("eight.bin", len(data))
    pieces = [data[: 16 * MIB], data[16 * MIB :]]
    wanted = [{"part_number": n, "sha256": digest(piece)} for n, piece in enumerate(pieces, start=1)]
    signed = desk.call("POST", f"/v1/uploads/{opened['upload_id']}/parts", {"parts": wanted})["parts"]
    for piece, one in zip(pieces, signed, strict=True):
        assert put(one["url"], piece, one["headers"])[0] == 200
    with ThreadPoolExecutor(8) as pool:
        path = f"/v1/uploads/{opened['upload_id']}/complete"
        answers = list(pool.map(lambda _: desk.call("POST", path, {}), range(8)))
    assert answers == [answers[0]] * 8
    assert answers[0]["status"] == "staged"
    record = desk.wait_final(opened["upload_id"])
    assert record["status"] == "completed"
    store = desk.s3().list_object_versions(Bucket=desk.bucket("store"), Prefix=f"files/{desk.tenant}/")
    assert len(store["Versions"]) == 1


def _claims_too_much() -> bytes:
    """A TIFF of 300 000 x 300 000 pixels in a few hundred bytes."""
    entries = [(256, 4, 1, 300_000), (257, 4, 1, 300_000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, 300_000), (279, 4, 1, 100)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    return (head + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)).ljust(400, b"\0")


def test_bad_pictures_get_verdicts_and_the_queue_goes_on(desk: Desk, tmp_path: Path) -> None:
    """Text, nothing, a cut TIFF, an absurd TIFF, a program: each has a stable code; a good file after them is drawn."""
    whole = write_tiff(tmp_path / "whole.tif", 600, 500).read_bytes()
    bad = {
        "a.tif": (b"This is no picture.\n", {"type_mismatch"}),
        "empty.tif": (b"", {"empty_file"}),
        "cut.tif": (whole[: len(whole) // 2], {"truncated"}),
        "absurd.tif": (_claims_too_much(), {"truncated", "limit_exceeded", "too_large_to_decode"}),
        "page.html": (b"<!doctype html><html><script>alert(1)</script></html>", {"type_refused"}),
        "run.bin": (b"\x7fELF\x02\x01\x01" + bytes(57), {"type_refused"}),
    }
    ids = {name: desk.send_bytes(name, data) for name, (data, _) in bad.items()}
    good = desk.send_bytes("good.tif", whole)
    for name, file_id in ids.items():
        record = desk.wait_final(file_id)
        assert record["status"] in {"rejected", "completed_with_errors"}, (name, record)
        assert record["failure"]["code"] in bad[name][1], (name, record["failure"])
        assert record["failure"]["message"]
    assert desk.wait_final(good)["status"] == "completed"
    failed = desk.call("GET", "/v1/files?status=failed")["items"]
    assert {one["name"] for one in failed} >= {"a.tif", "empty.tif", "page.html", "run.bin"}
