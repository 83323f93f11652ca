"""All layers as they are deployed: built twice from nothing, for both machines; every handler imported from them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from infra import topology
from layers import build, elf
from layers.build import Layer, own_target, target_of

pytestmark = [pytest.mark.full, pytest.mark.timeout(7_200)]
ROOT = Path(__file__).parents[2]

# What each layer's packages do when they are asked to: native code runs, and data is found.
TRIED = {
    "base": "import boto3, orjson, psutil, pydantic; [boto3.client(s, region_name='eu-west-1') "
    "for s in ('s3', 'sqs', 'dynamodb', 'events')]; orjson.dumps({})",
    "detect": "from heavylift.magic_opinion import head_opinion; "
    "assert head_opinion(b'%PDF-1.7 ') == 'application/pdf', head_opinion(b'%PDF-1.7 ')",
    "dicom": "import imagecodecs, numpy, openjpeg, pydicom, jpeg_ls, pylibjpeg; numpy.ones(3).sum(); "
    "imagecodecs.jpeg8_decode; from pydicom.charset import encode_string; from pydicom.dataset import Dataset",
    "image": "import PIL.Image, imagecodecs, io, numpy, pi_heif, rawpy, zlib; "
    "PIL.Image.new('RGB', (9, 9)).save(io.BytesIO(), 'JPEG'); "
    "assert imagecodecs.deflate_decode(zlib.compress(b'x' * 99), out=99) == b'x' * 99; "
    "[getattr(imagecodecs, f'{name}_decode') for name in ('lerc', 'jpegxl', 'zstd')]; "
    "rawpy.RawPy(); pi_heif.libheif_version()",
    "tables": "import isal.isal_zlib, jsonschema_rs, simdjson, zlib, zstandard; "
    "assert isal.isal_zlib.decompress(zlib.compress(b'x')) == b'x'; simdjson.Parser().parse(b'[1]'); "
    "zstandard.ZstdCompressor().compress(b'x'); jsonschema_rs.validator_for({'type': 'object'}).is_valid({})",
}


def folder_hashes(out: Path) -> dict[str, str]:
    """The hash of each layer as it lies on disk, by the builder's rule."""
    found = {}
    for folder in sorted(one for one in out.iterdir() if one.is_dir()):
        python = folder / "python"
        files = {str(path.relative_to(python)): path.read_bytes() for path in python.rglob("*") if path.is_file()}
        found[folder.name] = build.digest(files)
    return found


def test_two_builds_are_the_same(tmp_path: Path) -> None:
    """With wheels fetched anew: what is on disk has the same hashes, and fits into every function."""
    target = target_of("arm64")
    once = build.build(target, tmp_path / "1", wheels=tmp_path / "wheels")
    again = build.build(target, tmp_path / "2")
    sizes = build.function_sizes({layer.name: layer.size_bytes for layer in once})
    print(build.report(once, sizes))

    assert once == again
    assert folder_hashes(tmp_path / "1") == folder_hashes(tmp_path / "2") == {one.name: one.sha256 for one in once}
    assert {layer.name for layer in once} == set(build.names())
    assert max(sizes.values()) < 240_000_000


def test_every_library_is_for_its_machine(tmp_path: Path) -> None:
    """Looked at on disk; both architectures have the same packages at the same versions."""
    packages = []
    for architecture in ("arm64", "x86_64"):
        target = target_of(architecture)
        made = build.build(target, tmp_path / architecture)
        files = (path.read_bytes() for path in (tmp_path / architecture).rglob("*.so*"))
        libraries = [found for content in files if (found := elf.read(content))]
        packages.append({one.name: one.packages for one in made})

        assert len(libraries) > 60
        assert {one.machine for one in libraries} == {target.machine}
        build.function_sizes({layer.name: layer.size_bytes for layer in made})
    assert packages[0] == packages[1]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layers for this Python on this machine."""
    if platform.system() != "Linux":
        pytest.skip("layers are for Linux")
    out = tmp_path_factory.mktemp("own")
    made: list[Layer] = build.build(own_target(), out)
    assert {one.name for one in made} == set(build.names())
    return out


def in_child(code: str, *paths: Path) -> None:
    """Python with the standard library and these folders, as a function has it."""
    script = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n{code}"
    environment = {"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "eu-west-1", "POWERTOOLS_TRACE_DISABLED": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("function", topology.FUNCTIONS, ids=lambda function: function.name)
def test_every_handler_has_what_it_imports(own: Path, function: topology.Function) -> None:
    """Each by itself, from its own folder, its layers and the shared one; then each layer's libraries at work."""
    shared = ROOT / "layers" / topology.SHARED_LAYER / "python"
    paths = [ROOT / "functions" / function.name, *(own / name / "python" for name in function.layers), shared]
    # boto3 and what it needs are part of Lambda's runtime; sign has nothing else.
    paths += [own / "base" / "python"] if not function.layers else []
    in_child("import handler; assert callable(handler.handler)", *paths)
    for name in function.layers:
        in_child(TRIED[name], *paths)
