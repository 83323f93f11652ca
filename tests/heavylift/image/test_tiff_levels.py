"""TIFFs through the child: levels of pyramids by counted bytes, profiles, long work's refusals."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from heavylift.image.thumbnails import ThumbnailOptions, make_thumbnails
from tests.heavylift.image.pictures import PROMISED_DIFFERENCE, CountingSource, detected, difference, saved, scene, tiff

LEVELS = [2048, 1024, 512, 256, 128, 64]


def pyramid(*, sub_ifds: bool) -> tuple[bytes, dict[int, int]]:
    """Six levels of noise, which nothing makes smaller, in SubIFDs or in pages; bytes of each level."""
    rng = np.random.default_rng(1)
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for number, side in enumerate(LEVELS):
            options = {"subifds": len(LEVELS) - 1} if sub_ifds and number == 0 else {}
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            writer.write(
                pixels, photometric="rgb", tile=(64, 64), subfiletype=int(number > 0), metadata=None, **options
            )
    return out.getvalue(), {side: side * side * 3 for side in LEVELS}


@pytest.mark.parametrize("sub_ifds", [True, False], ids=["sub-directories", "pages"])
def test_bytes_of_a_pyramid(sub_ifds: bool) -> None:
    """Of six levels the smallest sufficient one is read, and at most 256 KiB beside it, in few requests."""
    data, sizes = pyramid(sub_ifds=sub_ifds)
    for edge, level in ((64, 64), (65, 128), (500, 512)):
        source = CountingSource(data)
        made = make_thumbnails(source, detected(data), ThumbnailOptions(sizes=(edge,)), lambda: 60.0)
        assert source.bytes_read <= sizes[level] + 256 * 1024
        assert len(source.reads) <= 12
        assert made.decision.method == "chunked"
        assert (made.facts.width, made.facts.levels) == (2048, 6)


def swapped_profile() -> bytes:
    """A profile that says of every colour something else than sRGB does: linear light."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = profile.find(b"para")
    while at >= 0:  # every curve becomes a plain power of 1.0
        profile[at + 8 : at + 10] = b"\0\0"
        profile[at + 12 : at + 16] = (1 << 16).to_bytes(4, "big")
        at = profile.find(b"para", at + 4)
    return bytes(profile)


@pytest.mark.parametrize("threshold", [0, 100 << 20], ids=["bands", "whole"])
def test_an_embedded_profile_is_used(threshold: int) -> None:
    """The small picture is converted as littleCMS converts the large one."""
    picture, profile = Image.fromarray(scene(700, 500)), swapped_profile()
    data = saved(picture, "TIFF", icc_profile=profile)
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    wanted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert wanted is not None
    made = make_thumbnails(
        CountingSource(data), detected(data), ThumbnailOptions(tiff_threshold_bytes=threshold), lambda: 60.0
    )
    assert difference(made.thumbnails[1].jpeg, wanted) < PROMISED_DIFFERENCE
    assert difference(made.thumbnails[1].jpeg, picture) > 3 * PROMISED_DIFFERENCE
    assert "profile" not in made.decision.reason


@pytest.mark.parametrize("profile", [b"no profile at all", "CMYK"], ids=["garbage", "of other colours"])
def test_a_profile_that_cannot_be_used_is_left_out_with_a_note(profile: bytes | str) -> None:
    """The picture is shown as it is, and the decision's reason says why."""
    picture = Image.fromarray(scene(700, 500))
    if isinstance(profile, str):
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    data = tiff(np.asarray(picture), photometric="rgb", iccprofile=profile)
    made = make_thumbnails(CountingSource(data), detected(data), ThumbnailOptions(tiff_threshold_bytes=0), lambda: 60.0)
    assert difference(made.thumbnails[1].jpeg, picture) < PROMISED_DIFFERENCE
    assert "colour profile cannot be used" in made.decision.reason


def test_samples_that_pillow_misreads_are_never_decoded_whole() -> None:
    """Small files too are unpacked by their numbers: big-endian floats, unsigned 32 bits."""
    grey = scene(400, 300)[:, :, 1].astype(float)
    small = Image.fromarray(grey.astype(np.float32)).resize((400, 300))
    low, high = np.percentile(np.asarray(small), (0.5, 99.5))
    wanted = Image.fromarray(np.clip((grey - low) / (high - low) * 255, 0, 255).astype(np.uint8))
    for values, order in ((grey.astype("f4"), ">"), (grey.astype("u4") * 16_000_000, "<")):
        data = tiff(values, photometric="minisblack", byteorder=order, compression="zlib")
        made = make_thumbnails(CountingSource(data), detected(data), ThumbnailOptions(), lambda: 60.0)
        assert made.decision.method == "chunked"
        assert difference(made.thumbnails[2].jpeg, wanted) < PROMISED_DIFFERENCE
