"""XML as S3 writes and reads it. No I/O here.

Writing is text with escapes. Reading is expat fed block by block with DTDs and entities refused: a list of 10,000
parts (2 MB) never becomes a tree, so memory is what the caller keeps of it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.parsers import expat

from heavylift_local.s3.errors import S3Error

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
DEPTH_MAX = 8  # the deepest request S3 defines here has 4 levels
TOKEN_BYTES_MAX = 64 * 1024  # one tag with its attributes: expat keeps it whole until it ends
TEXT_CHARS_MAX = 8192  # one element's text: a key of 1024 bytes is the longest

_SPECIAL = re.compile('[&<>"\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]')
_NAMES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}


def escape(text: str) -> str:
    """Escaped text; control characters as numbers, as S3 does although XML 1.0 has no place for them."""
    return _SPECIAL.sub(lambda m: _NAMES.get(m[0]) or f"&#x{ord(m[0]):x};", text)


def element(name: str, value: object) -> str:
    """<name>value</name>, nothing for None; booleans in lower case."""
    if value is None:
        return ""
    if isinstance(value, bool):
        value = "true" if value else "false"
    return f"<{name}>{escape(str(value))}</{name}>"


def document(root: str, parts: Iterable[str], *, namespace: bool = True) -> bytes:
    attribute = f' xmlns="{NAMESPACE}"' if namespace else ""
    return f"{DECLARATION}<{root}{attribute}>{''.join(parts)}</{root}>".encode()


def error_document(error: S3Error, request_id: str, host_id: str) -> bytes:
    parts = [element("Code", error.code), element("Message", error.message)]
    parts += [element(name, value) for name, value in error.fields.items()]
    parts += [element("RequestId", request_id), element("HostId", host_id)]
    return document("Error", parts, namespace=False)


def timestamp(milliseconds: int) -> str:
    """2026-01-01T00:00:00.000Z: S3 gives whole seconds with a fraction of zero."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass(frozen=True, slots=True)
class Node:
    """An element of a small document: text where it has no children."""

    name: str
    text: str = ""
    children: tuple["Node", ...] = ()

    def all(self, name: str) -> list["Node"]:
        return [child for child in self.children if child.name == name]

    def get(self, name: str) -> str | None:
        """The text of the one child of that name, None without it. Raises MalformedXML for several."""
        found = self.all(name)
        if len(found) > 1:
            raise S3Error("MalformedXML")
        return found[0].text if found else None

    def only(self, *names: str) -> None:
        """Raises MalformedXML where another element stands in this one."""
        if not {child.name for child in self.children} <= set(names):
            raise S3Error("MalformedXML")


class Tree:
    """A small document as a whole: feed it blocks, then `close` gives the root. The caller bounds its length."""

    def __init__(self, root: str) -> None:
        self._open: dict[int, list[Node]] = {}
        self._reader = Reader(root, self._leaf, self._end)

    def update(self, block: memoryview) -> None:
        self._reader.update(block)

    def close(self) -> Node:
        """Raises MalformedXML."""
        self._reader.close()
        return self._open[1][0]

    def _leaf(self, path: tuple[str, ...], text: str) -> None:
        self._open.setdefault(len(path), []).append(Node(path[-1], text.strip()))

    def _end(self, path: tuple[str, ...]) -> None:
        children = self._open.pop(len(path) + 1, [])
        self._open.setdefault(len(path), []).append(Node(path[-1], "", tuple(children)))


class Reader:
    """Feeds blocks to expat and hands every leaf and every closing element to the caller.

    *on_leaf(path, text)* is called for elements without children, *on_end(path)* for those with; a path is the tuple
    of local names from the root. Raises MalformedXML for anything that is not well formed, has a DTD, is too deep,
    or has another root than *root* (empty: any).
    """

    def __init__(
        self,
        root: str,
        on_leaf: Callable[[tuple[str, ...], str], None],
        on_end: Callable[[tuple[str, ...]], None] | None = None,
    ) -> None:
        self._root = root
        self._on_leaf = on_leaf
        self._on_end = on_end
        self._path: list[str] = []
        self._has_child: list[bool] = []
        self._text: list[str] = []
        self._chars = 0
        self._fed = 0
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._data
        self._parser.StartDoctypeDeclHandler = self._doctype

    def update(self, block: memoryview) -> None:
        for at in range(0, len(block), TOKEN_BYTES_MAX):
            piece = bytes(block[at : at + TOKEN_BYTES_MAX])
            self._parse(piece, final=False)
            self._fed += len(piece)
            if self._fed - self._parser.CurrentByteIndex > 2 * TOKEN_BYTES_MAX:
                raise S3Error("MalformedXML")

    def close(self) -> None:
        self._parse(b"", final=True)

    def _parse(self, block: bytes, *, final: bool) -> None:
        try:
            self._parser.Parse(block, final)
        except expat.ExpatError:
            raise S3Error("MalformedXML") from None

    def _doctype(self, *_: object) -> None:
        raise S3Error("MalformedXML")

    def _start(self, name: str, _: object) -> None:
        local = name.rpartition(" ")[2]
        if not self._path and self._root and local != self._root:
            raise S3Error("MalformedXML")
        if self._has_child:
            self._has_child[-1] = True
        self._path.append(local)
        self._has_child.append(False)
        if len(self._path) > DEPTH_MAX:
            raise S3Error("MalformedXML")
        self._text.clear()
        self._chars = 0

    def _data(self, data: str) -> None:
        self._chars += len(data)
        if self._chars > TEXT_CHARS_MAX:
            raise S3Error("MalformedXML")
        self._text.append(data)

    def _end(self, _: str) -> None:
        path = tuple(self._path)
        if not self._has_child.pop():
            self._on_leaf(path, "".join(self._text))
        elif self._on_end is not None:
            self._on_end(path)
        self._path.pop()
        self._text.clear()
        self._chars = 0
