"""What a layer keeps of packages that bring more than it needs: plain data, no imports.

A wheel's files are kept where one of its patterns (fnmatch, relative to site-packages) matches; its ``dist-info`` and
the licences are always kept. Packages that are not named here are kept whole. Why: docs/decisions/0022.
"""

from __future__ import annotations

# imagecodecs: 80 MB, of which the pictures need 15 (x86_64). Each coding is one extension module; the libraries
# beside them are those that these modules are linked with.
KEPT: dict[str, tuple[str, ...]] = {
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
        "imagecodecs/_jpegsof3.*.so",  # lossless JPEG in DICOM
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
