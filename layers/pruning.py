"""What a layer leaves out of a wheel. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from layers.kept import KEPT

# Nobody imports these at run time: packages' own tests, what compilers and type checkers read, what installers wrote.
FOLDERS = frozenset({"tests", "test", "__pycache__", "pkgconfig"})
SUFFIXES = frozenset({".pyi", ".pyc", ".c", ".cc", ".cpp", ".h", ".hpp", ".pxd", ".pyx", ".a", ".la", ".lib", ".f90"})
INSTALLERS = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"})


def keeps(package: str, path: PurePosixPath) -> bool:
    """Whether a layer has this file of a package; ``path`` is relative to site-packages.

    A package's metadata stay (importlib.metadata reads them), and so do its licences.
    """
    in_metadata = path.parts[0].endswith(".dist-info")
    if in_metadata:
        return path.name not in INSTALLERS
    if FOLDERS & set(path.parts[:-1]) or path.suffix in SUFFIXES:
        return False
    patterns = KEPT.get(package)
    return patterns is None or any(fnmatchcase(str(path), pattern) for pattern in patterns)
