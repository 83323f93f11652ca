"""Names in an archive that every system can unpack: from the name a file was given to the name it has inside. Pure.

An archived name is NFC, relative, without ``..``, control or format characters, characters and devices that Windows
refuses, trailing dots and spaces; no step has more than 255 bytes of UTF-8. No two of an archive are equal where case
does not count, and none is a folder of another. Same names in the same order give the same names, whoever asks.

Sources: ZIP APPNOTE 4.4.17 ("/" only, no drive, no leading slash); Microsoft, "Naming Files, Paths, and Namespaces".
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b

POLICY = 1  # part of an archive's identity: another policy makes other bytes
SEGMENT_BYTES_MAX = 255  # ext4, APFS (there: characters), NTFS (there: UTF-16 units)
PATH_BYTES_MAX = 32_000  # a ZIP header counts to 65 535; a bag's folders stand before it
_EXTENSION_BYTES_MAX = 15
_REFUSED = re.compile(r'[<>:"|?*]')
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    name + digit for name in ("com", "lpt") for digit in "0123456789¹²³"
}
# Controls, formats, halves of surrogates, and what some readers of manifests take for the end of a line.
_DROPPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _fitted(text: str, bytes_max: int, tail: str = "") -> str:
    """``text`` with ``tail`` before its extension; the stem gives way to ``bytes_max`` bytes of UTF-8."""
    stem, dot, extension = text.rpartition(".")
    if not stem or len(extension.encode()) > _EXTENSION_BYTES_MAX:
        stem, dot, extension = text, "", ""
    end = tail + dot + extension
    return stem.encode()[: bytes_max - len(end.encode())].decode("utf-8", "ignore").rstrip(" .") + end


def _is_no_character(c: str) -> bool:
    """Code points that will never be characters (Unicode 23.7); others that Python does not know yet are kept."""
    return ord(c) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(c) <= 0xFDEF


def segment(text: str) -> str:
    """One step of a path as it may be archived; "" when nothing of it is left."""
    if not text.isascii() or not text.isprintable():
        text = "".join(c for c in text if unicodedata.category(c) not in _DROPPED and not _is_no_character(c))
        text = unicodedata.normalize("NFC", text)
    text = _REFUSED.sub("_", text).rstrip(" .")
    if not text.strip():
        return ""
    if text.split(".")[0].rstrip(" ").casefold() in _DEVICES:
        text = "_" + text
    return _fitted(text, SEGMENT_BYTES_MAX).rstrip(" .") if len(text.encode()) > SEGMENT_BYTES_MAX else text


def clean(name: str) -> list[str]:
    """The steps of a path, never empty; ``.`` and ``..`` are dropped, not followed."""
    steps = [step for step in map(segment, name.replace("\\", "/").split("/")) if step] or ["unnamed"]
    while len("/".join(steps).encode()) > PATH_BYTES_MAX:
        steps = steps[1:]  # the end tells more than the beginning
    return steps


def label(text: str) -> str:
    """One step that may stand at the front of others' names: a package's folder, a METS file's prefix."""
    return _fitted(segment(re.sub(r"[/\\%]", "_", text)) or "files", 200)


def _fold(path: str) -> int:
    """What two names have in common that some file system takes for one: 64 bits of a digest."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path.casefold()).casefold())
    return int.from_bytes(blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


class Names:
    """The names of one archive, in two rounds: all are announced, then each is given its own.

    Folders are known before the first file is named: a file yields to a folder of its name. Memory: some 100 bytes
    a name, whatever its length.
    """

    def __init__(self, *, no_percent: bool = False) -> None:
        """``no_percent``: for bags, where "%" means one thing to RFC 8493 and another to its readers."""
        self._no_percent = no_percent
        self._folders: set[int] = set()
        self._taken: set[int] = set()
        self._last: dict[int, int] = {}  # of a name that came again: equal names must not cost quadratic time

    def _steps(self, name: str) -> list[str]:
        return clean(name.replace("%", "_") if self._no_percent else name)

    def reserve(self, archived: str) -> None:
        """Keep an archived name from all that come."""
        self._taken.add(_fold(archived))
        self.announce(archived)

    def announce(self, name: str) -> None:
        """Say that ``name`` will come."""
        steps = self._steps(name)
        for count in range(1, len(steps)):
            self._folders.add(_fold("/".join(steps[:count])))

    def archived(self, name: str) -> str:
        """The name of the next file inside the archive."""
        steps = self._steps(name)
        path = "/".join(steps)
        wanted = fold = _fold(path)
        number = self._last.get(wanted, 1)
        while fold in self._taken or fold in self._folders:
            number += 1
            path = "/".join((*steps[:-1], _fitted(steps[-1], SEGMENT_BYTES_MAX, f" ({number})")))
            fold = _fold(path)
        if number > 1:
            self._last[wanted] = number
        self._taken.add(fold)
        return path
