"""Pictures of every format through validate and thumbnail: the record, the settings, made once, and nothing hidden."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from heavylift import parts, promotion
from heavylift import settings as settings_module
from heavylift.image.thumbnails import DECODED_FORMATS, make_thumbnails
from heavylift.limits import rule_for_format
from tests.doubles.world import DERIVED, STORE, World
from tests.heavylift.image.cameras import CAPTURED_AT, MAKE, MODEL, PLACE, exif, heic
from tests.heavylift.image.pictures import saved, scene, tiff

PIXELS = scene(320, 240)
PICTURE = Image.fromarray(PIXELS)
EXIF = exif(1).tobytes()


@pytest.fixture
def gallery(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world with the real decoder, where a file of a megabyte is one PUT and one copy."""
    monkeypatch.setattr(parts, "SINGLE_PUT_MAX", 8 << 20)
    monkeypatch.setattr(promotion, "COPY_OBJECT_MAX", 8 << 20)
    world.thumbnails = make_thumbnails
    return world


def put(world: World, name: str, data: bytes) -> str:
    file_id = world.initiate(name, data)
    world.put(file_id, data)
    world.pump()
    return file_id


def shown(world: World, file_id: str, **query: str) -> dict[str, Any]:
    status, body = world.call("sessions", "GET", "/v1/files/{id}", path={"id": file_id}, query=query)
    assert status == 200
    return body


# name: (the file, format, mode, bits, compression, pages, whether its camera is told)
FILES: dict[str, tuple[Callable[[], bytes], str, str, int, str | None, int | None, bool]] = {
    "a.jpg": (lambda: saved(PICTURE, "JPEG", exif=EXIF), "JPEG", "RGB", 8, "jpeg", 1, True),
    "a.png": (lambda: saved(PICTURE, "PNG", exif=EXIF), "PNG", "RGB", 8, "deflate", 1, True),
    "a.webp": (lambda: saved(PICTURE, "WEBP", exif=EXIF), "WebP", "RGB", 8, "webp", 1, True),
    "a.gif": (lambda: saved(PICTURE, "GIF"), "GIF", "P", 8, "lzw", 1, False),
    "a.bmp": (lambda: saved(PICTURE, "BMP"), "BMP", "RGB", 8, "none", 1, False),
    "a.jp2": (lambda: saved(PICTURE, "JPEG2000"), "JP2", "RGB", 8, "jpeg2000", 1, False),
    "a.jxl": (lambda: imagecodecs.jpegxl_encode(PIXELS, numthreads=1), "JXL", "RGB", 8, "jpeg-xl", 1, False),
    "a.avif": (lambda: saved(PICTURE, "AVIF", exif=EXIF), "AVIF", "RGB", 8, "av1", 1, True),
    "a.heic": (lambda: heic(PICTURE, exif=EXIF), "HEIC", "RGB", 8, "hevc", 1, True),
    "a.tif": (lambda: saved(PICTURE, "TIFF", exif=EXIF), "TIFF", "RGB", 8, "none", 1, True),
    "b.tif": (
        lambda: tiff(PIXELS.astype(np.uint16), photometric="rgb", compression="zlib", bigtiff=True),
        "BigTIFF",
        "RGB",
        16,
        "deflate",
        1,
        False,
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_the_record_of_every_format(gallery: World, name: str) -> None:
    """Size, mode, depth, format, coding, pages, camera, clock, estimate, decision, reads, memory and time, by stage."""
    make, format_name, mode, bits, compression, pages, told = FILES[name]
    data = make()
    file_id = put(gallery, name, data)
    body = shown(gallery, file_id)

    assert (body["status"], body["kind"], body["format"]) == ("completed", "image", format_name)
    assert (body["width"], body["height"], body["mode"], body["bits_per_sample"]) == (320, 240, mode, bits)
    assert (body["compression"], body.get("pages")) == (compression, pages)
    assert body["levels"] >= 1
    camera = (body.get("make"), body.get("model"), body.get("captured_at"))
    assert camera == ((MAKE, MODEL, CAPTURED_AT) if told else (None, None, None))
    assert body["estimated_memory_bytes"] > 0
    assert body["decision"]["method"] == "standard"
    assert body["decision"]["reason"]
    assert body["decision"]["estimated_memory_bytes"] >= body["stages"]["thumbnail"]["child_memory_peak_bytes"] > 0
    assert (body["bytes_read"], body["requests"]) == (
        body["stages"]["thumbnail"]["bytes_in"],
        body["stages"]["thumbnail"]["requests"],
    )
    assert body["bytes_read"] <= len(data) + 65_536
    for stage in ("validate", "thumbnail"):
        assert {"bytes_in", "bytes_out", "requests", "memory_peak_bytes", "ms"} <= body["stages"][stage].keys()
    assert body["stages"]["thumbnail"]["ms"] > 0
    # Never larger than the picture.
    assert [(each["width"], each["height"]) for each in body["thumbnails"]] == [(256, 192), (320, 240), (320, 240)]
    assert (body["thumbnail_generated"], body["preview_generated"]) == (True, True)


def test_a_place_is_shown_to_who_asks(gallery: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a picture was taken: not in its facts, not in a list, not in a log or an event; with gps=true it is."""
    file_id = put(gallery, "a.jpg", saved(PICTURE, "JPEG", exif=EXIF))
    latitude = str(PLACE["latitude"])

    assert shown(gallery, file_id, gps="true")["gps"] == PLACE
    for body in (shown(gallery, file_id), shown(gallery, file_id, gps="false")):
        assert "gps" not in body
        assert latitude not in json.dumps(body)
    status, body = gallery.call("sessions", "GET", "/v1/files/{id}", path={"id": file_id}, query={"gps": "maybe"})
    assert (status, body["code"]) == (422, "invalid_parameter")
    assert latitude not in json.dumps(gallery.call("sessions", "GET", "/v1/files")[1])
    assert latitude not in repr(gallery.bus.taken)
    told = capsys.readouterr()
    assert latitude not in told.out + told.err


def test_a_repeated_event_reads_nothing_but_the_record(gallery: World) -> None:
    """Made once: the same event again asks the table and nobody else, for pictures and for verdicts."""
    whole = saved(PICTURE, "PNG")
    for name, data in (("a.png", whole), ("cut.gif", saved(PICTURE, "GIF")[:-1])):
        file_id = put(gallery, name, data)
        before = gallery.record(file_id)
        made = gallery.s3.buckets[STORE][f"files/acme/{file_id}"]
        gallery.gate.restart()
        for _ in range(2):
            gallery.queues.send_message(
                QueueUrl="https://sqs.us-east-1.amazonaws.com/123456789012/thumbnail",
                MessageBody=gallery.event_body(STORE, f"files/acme/{file_id}", made),
            )
        gallery.pump()

        assert {call.service for call in gallery.gate.calls} == {"dynamodb"}
        assert {call.operation for call in gallery.gate.calls} == {"get_item"}
        assert gallery.record(file_id) == before


def test_broken_behind_its_first_picture(gallery: World) -> None:
    """A film that is cut shows its first frame, and is completed with errors: truncated."""
    data = saved(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(180)])
    body = shown(gallery, put(gallery, "cut.gif", data[: len(data) * 3 // 4]))

    assert (body["status"], body["failure"]["code"], body["failure"]["stage"]) == (
        "completed_with_errors",
        "truncated",
        "thumbnail",
    )
    assert len(body["thumbnails"]) == 3
    assert body["preview_generated"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cut.heic", lambda: heic(PICTURE)[:-1]),
        ("cut.webp", lambda: saved(PICTURE, "WEBP")[:-2]),
        ("cut.jp2", lambda: saved(PICTURE, "JPEG2000")[:-2]),
        ("cut.bmp", lambda: saved(PICTURE, "BMP")[:-9]),
        ("cut.tif", lambda: saved(PICTURE, "TIFF")[:-1]),
    ],
)
def test_what_numbers_show_to_be_cut_is_not_stored(gallery: World, name: str, data: Callable[[], bytes]) -> None:
    """validate rejects a file whose own numbers reach beyond its end."""
    file_id = put(gallery, name, data())
    body = shown(gallery, file_id)

    assert (body["status"], body["failure"]["code"], body["failure"]["stage"]) == ("rejected", "truncated", "validate")
    assert gallery.s3.buckets[STORE] == {}


def test_every_format_that_is_decoded_has_its_limit_of_size() -> None:
    """Slides and OME files have TIFF's limit, HEIF HEIC's."""
    rules = {name: rule_for_format(name) for name in DECODED_FORMATS}

    assert None not in rules.values()
    assert {rules[name].size_max for name in ("SVS", "OME-TIFF")} == {50 << 30}  # type: ignore[union-attr]


def test_what_no_decoder_reads_is_kept(gallery: World) -> None:
    """A lossless JPEG and a TIFF of old-style JPEG are sound: stored, without pictures, with the reason."""
    jpeg = saved(PICTURE, "JPEG").replace(b"\xff\xc0", b"\xff\xc3")
    old = bytearray(saved(PICTURE, "TIFF", compression="jpeg"))
    at = old.index(struct.pack("<HHI", 259, 3, 1)) + 8
    old[at] = 6
    for name, data in (("a.jpg", jpeg), ("a.tif", bytes(old))):
        body = shown(gallery, put(gallery, name, data))
        assert (body["status"], body["failure"]["code"], body["failure"]["stage"]) == (
            "completed_with_errors",
            "unsupported_feature",
            "thumbnail",
        )
        assert body["thumbnails"] == []


# --- the settings of A9, through the function


def decided(
    world: World, monkeypatch: pytest.MonkeyPatch, data: bytes, name: str = "a.tif", **environment: str
) -> dict[str, Any]:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    settings_module.settings.cache_clear()
    file_id = put(world, name, data)
    return shown(world, file_id)


STRIPS = tiff(np.tile(PIXELS, (3, 3, 1)), photometric="rgb", rowsperstrip=16)  # 2 MB


@pytest.mark.parametrize(
    ("environment", "method", "why"),
    [
        ({}, "standard", "whole it takes"),
        ({"LARGE_FILE_THRESHOLD_MB": "1"}, "chunked", "over the threshold of 1 MiB"),
        ({"LARGE_FILE_THRESHOLD_MB": "1", "ENABLE_TIFF_CHUNKING": "false"}, "standard", "switched off"),
        ({"MAX_MEMORY_MB": "300", "MEMORY_BUFFER_MB": "150"}, "standard", "of 150 MiB"),
        ({"MEMORY_BUFFER_MB": "500"}, "standard", "of 524 MiB"),
    ],
    ids=["defaults", "threshold", "switched off", "memory", "buffer"],
)
def test_settings_decide(
    gallery: World, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], method: str, why: str
) -> None:
    """MAX_MEMORY_MB, MEMORY_BUFFER_MB, LARGE_FILE_THRESHOLD_MB and ENABLE_TIFF_CHUNKING, each by its effect."""
    body = decided(gallery, monkeypatch, STRIPS, **environment)

    assert body["status"] == "completed"
    assert body["decision"]["method"] == method
    assert why in body["decision"]["reason"]


def test_too_little_memory_is_a_verdict(gallery: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that no way of decoding fits: too_large_to_decode with both numbers, the file stored all the same."""
    body = decided(gallery, monkeypatch, STRIPS, MAX_MEMORY_MB="60", MEMORY_BUFFER_MB="40")

    assert (body["status"], body["failure"]["code"]) == ("completed_with_errors", "too_large_to_decode")
    assert body["failure"]["estimated_memory_bytes"] > body["failure"]["budget_bytes"] == 20 << 20


def test_chunk_size_bounds_what_is_held(gallery: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """TIFF_CHUNK_SIZE: smaller bands, a smaller estimate, the same picture."""
    wide = tiff(np.tile(PIXELS, (6, 5, 1)), photometric="rgb", rowsperstrip=8)
    large, small = (
        decided(gallery, monkeypatch, wide, LARGE_FILE_THRESHOLD_MB="1", TIFF_CHUNK_SIZE=edge)
        for edge in ("2048", "64")
    )

    assert small["decision"]["estimated_memory_bytes"] < large["decision"]["estimated_memory_bytes"]
    assert [each["width"] for each in small["thumbnails"]] == [each["width"] for each in large["thumbnails"]]


def test_padding(gallery: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """PAD_COLOR: squares of exactly the size asked for, the picture in the middle, not enlarged."""
    body = decided(gallery, monkeypatch, saved(PICTURE, "PNG"), "a.png", PAD_COLOR="#00ff00")

    assert [(each["width"], each["height"]) for each in body["thumbnails"]] == [(256, 256), (512, 512), (1200, 1200)]
    for key in (each["key"] for each in gallery.record(body["file_id"]).thumbnails):
        image = Image.open(io.BytesIO(gallery.s3.buckets[DERIVED][key].body)).convert("RGB")
        red, green, blue = image.getpixel((1, 1))  # type: ignore[misc]
        assert green > 250
        assert red < 5
        assert blue < 5
