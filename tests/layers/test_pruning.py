"""What a layer leaves out, by path."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

from layers.kept import KEPT
from layers.locked import read_lock
from layers.pruning import keeps

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("package", "path", "kept"),
    [
        ("numpy", "numpy/__init__.py", True),
        ("numpy", "numpy/_core/_multiarray_umath.cpython-313-aarch64-linux-gnu.so", True),
        ("numpy", "numpy.libs/libscipy_openblas64_.so", True),
        ("numpy", "numpy/testing/__init__.py", True),
        ("numpy", "numpy/_core/tests/test_api.py", False),
        ("numpy", "numpy/_core/include/numpy/arrayobject.h", False),
        ("numpy", "numpy/__init__.pyi", False),
        ("numpy", "numpy/__pycache__/x.pyc", False),
        ("numpy", "numpy-2.4.6.dist-info/METADATA", True),
        ("numpy", "numpy-2.4.6.dist-info/WHEEL", True),
        ("numpy", "numpy-2.4.6.dist-info/licenses/LICENSE.txt", True),
        ("numpy", "numpy-2.4.6.dist-info/RECORD", False),
        ("numpy", "numpy-2.4.6.dist-info/direct_url.json", False),
        ("botocore", "botocore/retries/standard.py", True),
        ("botocore", "botocore/data/s3/2006-03-01/service-2.json.gz", True),
        ("botocore", "botocore/data/endpoints.json", True),
        ("botocore", "botocore/data/ec2/2016-11-15/service-2.json.gz", False),
        ("botocore", "botocore/data/ec2/2016-11-15/paginators-1.json", False),
        ("botocore", "botocore-1.44.5.dist-info/licenses/LICENSE", True),
        ("pylibmagic", "pylibmagic/libmagic.so.1", True),
        ("pylibmagic", "pylibmagic/libmagic.so.1.0.0", False),
        ("pydicom", "pydicom/data/urls.json", True),
        ("pydicom", "pydicom/data/test_files/CT_small.dcm", False),
        ("imagecodecs", "imagecodecs/_deflate.abi3.so", True),
        ("imagecodecs", "imagecodecs/_avif.abi3.so", False),
        ("imagecodecs", "imagecodecs.libs/libavif-1.so", False),
    ],
)
def test_what_is_kept(package: str, path: str, kept: bool) -> None:
    """Code, libraries, data, metadata and licences; not tests, headers, stubs, or what installers write."""
    assert keeps(package, PurePosixPath(path)) == kept


def test_packages_that_are_kept_in_part_are_locked() -> None:
    """None is named that a layer cannot have."""
    assert KEPT.keys() <= read_lock((ROOT / "requirements" / "run.lock").read_text()).keys()


def test_the_services_that_are_kept_are_those_that_are_called() -> None:
    """Each client of AWS that the package makes has its description in the layer, and no other."""
    sources = [path.read_text() for path in (ROOT / "layers" / "heavylift" / "python").rglob("*.py")]
    called = {name for source in sources for name in re.findall(r'\b(?:client|prober)\(\s*"([a-z0-9-]+)"', source)}
    kept = {pattern.split("/")[2] for pattern in KEPT["botocore"] if pattern.count("/") == 3}

    assert called == kept
