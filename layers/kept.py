"""What a layer keeps of packages that bring more than it needs: plain data, no imports.

A wheel's files are kept where one of its patterns (fnmatch, relative to site-packages) matches; its ``dist-info`` and
the licences are always kept. Packages that are not named here are kept whole. Why: docs/decisions/0022.
"""

from __future__ import annotations

KEPT: dict[str, tuple[str, ...]] = {
    # 28 MB of descriptions of 400 services, of which clients are made for four.
    "botocore": (
        "botocore/*.py",
        "botocore/cacert.pem",
        "botocore/data/_retry.json",
        "botocore/data/endpoints.json",
        "botocore/data/partitions.json",
        "botocore/data/sdk-default-configuration.json",
        "botocore/data/dynamodb/*",
        "botocore/data/events/*",
        "botocore/data/s3/*",
        "botocore/data/sqs/*",
    ),
    # The library is in the wheel under three names; python-magic asks for this one.
    "pylibmagic": ("pylibmagic/*.py", "pylibmagic/libmagic.so.1", "pylibmagic/magic.mgc"),
    # Without the files to try it with. It looks for them when it is imported, in two lists besides, and does without.
    "pydicom": (
        "pydicom/*.py",
        "pydicom/data/charset_files/*",
        "pydicom/data/palettes/*",
        "pydicom/data/hashes.json",
        "pydicom/data/urls.json",
    ),
    # imagecodecs: 80 MB, of which the pictures need 15 (x86_64). Each coding is one extension module; the libraries
    # beside them are those that these modules are linked with.
    "imagecodecs": (
        "imagecodecs/__init__.py",
        "imagecodecs/imagecodecs.py",
        "imagecodecs/licenses/*",
        "imagecodecs/_shared.*.so",
        "imagecodecs/_shared_cython.*.so",
        "imagecodecs/_deflate.*.so",  # TIFF
        "imagecodecs/_lerc.*.so",
        "imagecodecs/_zstd.*.so",  # LERC that is compressed once more
        "imagecodecs/_jpegxl.*.so",
        "imagecodecs/_jpeg8.*.so",  # JPEG in DICOM, lossless and of 12 bits: docs/decisions/0025
        "imagecodecs.libs/libjpeg-*",
        "imagecodecs.libs/libdeflate-*",
        "imagecodecs.libs/libLerc-*",
        "imagecodecs.libs/libzstd-*",
        "imagecodecs.libs/libjxl-*",
        "imagecodecs.libs/libjxl_cms-*",
        "imagecodecs.libs/libjxl_threads-*",
        "imagecodecs.libs/libbrotlicommon-*",
        "imagecodecs.libs/libbrotlidec-*",
        "imagecodecs.libs/libbrotlienc-*",
    ),
}
